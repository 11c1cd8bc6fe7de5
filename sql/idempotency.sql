-- Idempotency: any write once, by its key (src/idempotency*.c); webhooks of
-- others once, by their event's id.

CREATE FUNCTION ringfence.set_idempotency_key(key text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_set_idempotency_key';
REVOKE EXECUTE ON FUNCTION ringfence.set_idempotency_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.set_idempotency_key(text)
	TO ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.set_idempotency_key(text) IS
	'sets ringfence.idempotency_key for the transaction, as SET LOCAL does where the library is loaded already: the next statement that changes something happens once; an empty string takes it back; 22004, 22023 for what is no key, 25P01 outside a transaction block';

CREATE FUNCTION ringfence.idempotent(key text, fn regprocedure, args jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_idempotent';
REVOKE EXECUTE ON FUNCTION ringfence.idempotent(text, regprocedure, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.idempotent(text, regprocedure, jsonb)
	TO ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.idempotent(text, regprocedure, jsonb) IS
	'calls a function, with the caller''s rights, unless it was called with that key before, and returns its result or the recorded one: a scalar as its JSON, a row as an object, a set as an array, void as NULL, {"replayed": true, "complete": false} for one that was too large to be recorded; arguments are an object by parameter name; the key has 1 to 255 bytes without control characters, and is the caller''s own; 22004, 22023, 25006, 42809, 42883, 55000, PT409 while another call with the key runs, PT422 for a key that was used with other arguments';

CREATE FUNCTION ringfence.idempotency_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_idempotency_changed';
REVOKE EXECUTE ON FUNCTION ringfence.idempotency_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.idempotency_changed() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.idempotency_changed() IS
	'trigger of idempotency_required and idempotency_retention: has all sessions forget what they know of endpoints; 39P01';

-- Tables that no audit triggers are on: the library writes the one past
-- triggers, and a record of each deletion would keep what is to be forgotten.
CREATE FUNCTION ringfence.is_idempotency_table(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce((
		SELECT n.nspname = 'ringfence_data' AND c.relname IN ('idempotency_keys', 'webhook_events')
		FROM pg_catalog.pg_class AS c
		INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = rel
	), false);
END;
REVOKE EXECUTE ON FUNCTION ringfence.is_idempotency_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_idempotency_table(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_idempotency_table(regclass) IS
	'whether a table is one of those that remember what was done already, whose changes are not audited: idempotency_keys, webhook_events';

CREATE FUNCTION ringfence.check_idempotency_tables() RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.idempotency_keys') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_idempotency_tables() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_idempotency_tables() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_idempotency_tables() IS
	'55000 where core, which has the tables, is not installed';

-- A row that no request could ever match would leave its endpoint open.
CREATE FUNCTION ringfence.check_endpoint(method text, path text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF method IN ('POST', 'PATCH', 'PUT', 'DELETE') IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid method "%"', method
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is POST, PATCH, PUT or DELETE.';
	END IF;
	IF path IS NULL OR path COLLATE "C" !~ '^/[^?#\x01-\x1f\x7f]*$' OR octet_length(path) > 1000 THEN
		RAISE EXCEPTION 'invalid path "%"', path
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'A path begins with a slash, and has at most 1000 bytes, no query and no control characters.',
			HINT = 'Write for example /payments, or /rpc/pay for a function.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_endpoint(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_endpoint(text, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_endpoint(text, text) IS
	'22023 for what can be no endpoint of a request: method and path, decoded and without a query';

CREATE FUNCTION ringfence.require_idempotency_key(method text, path text, required boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_idempotency_tables();
	PERFORM ringfence.check_endpoint(method, path);
	IF required IS NULL THEN
		RAISE EXCEPTION 'whether a key is required must be given' USING ERRCODE = 'invalid_parameter_value';
	ELSIF required THEN
		INSERT INTO ringfence_data.idempotency_required (method, path)
		VALUES (require_idempotency_key.method, require_idempotency_key.path)
		ON CONFLICT DO NOTHING;
	ELSE
		DELETE FROM ringfence_data.idempotency_required AS r
		WHERE r.method = require_idempotency_key.method AND r.path = require_idempotency_key.path;
	END IF;
END
$$;
ALTER FUNCTION ringfence.require_idempotency_key(text, text, boolean) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.require_idempotency_key(text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.require_idempotency_key(text, text, boolean) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.require_idempotency_key(text, text, boolean) IS
	'has requests to an endpoint (POST, PATCH, PUT or DELETE; "/payments", "/rpc/pay") refused (PT400) if they bring no Idempotency-Key, or no longer refused; repeatable; 22023, 55000';

-- CALL stands for idempotent(): its path is the function, found as regprocedure
-- shows it where search_path has pg_catalog alone, and kept as the library writes
-- it, which is what pg_identify_object() says. No schema's USAGE is asked for,
-- since this runs as ringfence_owner, who may have none.
CREATE FUNCTION ringfence.keep_idempotency_keys(
	method text,
	path text,
	retention interval,
	answers boolean DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
DECLARE
	endpoint text := path;
BEGIN
	PERFORM ringfence.check_idempotency_tables();
	IF method IS DISTINCT FROM 'CALL' THEN
		PERFORM ringfence.check_endpoint(method, path);
	ELSE
		SELECT i.identity INTO endpoint
		FROM pg_proc AS p
		CROSS JOIN LATERAL pg_identify_object('pg_proc'::regclass, p.oid, 0) AS i
		WHERE keep_idempotency_keys.path IN (p.oid::regprocedure::text, i.identity);
		IF NOT FOUND AND retention IS NOT NULL THEN
			RAISE EXCEPTION 'function "%" does not exist', path
				USING ERRCODE = 'undefined_function',
				HINT = 'Write it with its schema and the full names of its types, without spaces: app.pay(uuid,integer).';
		END IF;
		endpoint := coalesce(endpoint, path);
	END IF;
	IF retention IS NULL THEN
		DELETE FROM ringfence_data.idempotency_retention AS r
		WHERE r.method = keep_idempotency_keys.method AND r.path = endpoint AND (r.answers OR keep_idempotency_keys.answers);
		-- A secret must not come to be kept by the way.
		IF keep_idempotency_keys.answers IS FALSE OR EXISTS (
			SELECT FROM ringfence_data.idempotency_retention AS r
			WHERE r.method = keep_idempotency_keys.method AND r.path = endpoint
		) THEN
			RAISE EXCEPTION 'how long keys are kept must be given where their answers are not'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass answers => true to have answers kept again.';
		END IF;
		RETURN;
	END IF;
	IF retention <= interval '0' OR retention > interval '10 years' THEN
		RAISE EXCEPTION 'keys cannot be kept for %', retention
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is more than nothing and at most 10 years.';
	END IF;
	-- As seconds: "1 month -30 days" is more than nothing, but not after any date.
	INSERT INTO ringfence_data.idempotency_retention AS r (method, path, retention, answers)
	VALUES (
		keep_idempotency_keys.method,
		endpoint,
		make_interval(secs => extract(epoch FROM keep_idempotency_keys.retention)::double precision),
		coalesce(keep_idempotency_keys.answers, true)
	)
	ON CONFLICT ON CONSTRAINT idempotency_retention_pkey DO UPDATE
	SET retention = excluded.retention, answers = coalesce(keep_idempotency_keys.answers, r.answers);
END
$$;
ALTER FUNCTION ringfence.keep_idempotency_keys(text, text, interval, boolean) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.keep_idempotency_keys(text, text, interval, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.keep_idempotency_keys(text, text, interval, boolean) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.keep_idempotency_keys(text, text, interval, boolean) IS
	'how long the keys of an endpoint are kept, from their first use: up to 10 years, a month counting as 30 days; NULL for ringfence.idempotency_retention again; and whether with their answers, as they are unless that was said to be false, which is for endpoints that give out secrets; an endpoint is a method and a path, or CALL and a function that idempotent() calls ("app.pay(uuid,integer)"); keys that are there already expire as they were to; 22023, 42883, 55000';

CREATE FUNCTION ringfence.purge_idempotency_keys(batch integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	purged bigint;
BEGIN
	PERFORM ringfence.check_idempotency_tables();
	IF batch > 0 IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid batch %', batch
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'At least one key must be let to be deleted.';
	END IF;
	WITH expired AS MATERIALIZED (
		SELECT k.id
		FROM ringfence_data.idempotency_keys AS k
		WHERE k.expires_at < statement_timestamp()
		LIMIT batch
		FOR UPDATE SKIP LOCKED
	)
	DELETE FROM ringfence_data.idempotency_keys AS k
	USING expired AS e
	WHERE k.id = e.id;
	GET DIAGNOSTICS purged = ROW_COUNT;
	RETURN purged;
END
$$;
ALTER FUNCTION ringfence.purge_idempotency_keys(integer) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.purge_idempotency_keys(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.purge_idempotency_keys(integer) TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.purge_idempotency_keys(integer) IS
	'deletes idempotency keys that have expired, of whatever organization, at most so many; passes over those in use; returns how many: call it again while that is the batch; for a job; 22023, 55000';

-- The row stands for the effect, since both are of one transaction: a second
-- caller waits at the key until the first one's transaction has ended.
CREATE FUNCTION ringfence.webhook_once(provider text, event_id text, payload_hash bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org uuid := ringfence.org_id();
	owner_id uuid := coalesce(org, '00000000-0000-0000-0000-000000000000');
	known_hash bytea;
	known_since timestamptz;
BEGIN
	PERFORM ringfence.check_idempotency_tables();
	IF octet_length(provider) BETWEEN 1 AND 255 IS NOT TRUE OR provider COLLATE "C" ~ '[\x01-\x1f\x7f]'
		OR octet_length(event_id) BETWEEN 1 AND 255 IS NOT TRUE OR event_id COLLATE "C" ~ '[\x01-\x1f\x7f]'
		OR octet_length(payload_hash) BETWEEN 16 AND 64 IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid webhook event'
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'Provider and event id have 1 to 255 bytes and no control characters, the hash of the payload has 16 to 64 bytes.';
	END IF;
	LOOP
		INSERT INTO ringfence_data.webhook_events (org_id, provider, event_id, payload_hash, request_id)
		VALUES (
			owner_id,
			webhook_once.provider,
			webhook_once.event_id,
			webhook_once.payload_hash,
			ringfence.request_id()
		)
		ON CONFLICT DO NOTHING;
		IF FOUND THEN
			RETURN true;
		END IF;
		-- A statement of its own, which sees what the INSERT waited for.
		SELECT e.payload_hash, e.received_at INTO known_hash, known_since
		FROM ringfence_data.webhook_events AS e
		WHERE e.org_id = owner_id AND e.provider = webhook_once.provider AND e.event_id = webhook_once.event_id;
		EXIT WHEN FOUND;
	END LOOP;
	IF known_hash = payload_hash THEN
		RETURN false;
	END IF;
	PERFORM ringfence.audit_event(
		'webhook.changed',
		subject => ringfence.audit_key(jsonb_build_array(provider, event_id)::text),
		details => jsonb_build_object(
			'provider', provider,
			'event_id', event_id,
			'received_at', known_since,
			'recorded_hash', encode(known_hash, 'hex'),
			'changed_hash', encode(payload_hash, 'hex')
		),
		org => org,
		apart => true);
	RAISE EXCEPTION 'webhook event "%" was received before with another payload', event_id
		USING ERRCODE = 'PT409',
		DETAIL = 'The hashes of both payloads are on record in the audit log, as event "webhook.changed".',
		HINT = 'Find out from the provider which payload is its own, and whether your hash covers what changes with each delivery.';
END
$$;
ALTER FUNCTION ringfence.webhook_once(text, text, bytea) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.webhook_once(text, text, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.webhook_once(text, text, bytea)
	TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.webhook_once(text, text, bytea) IS
	'whether a provider''s event comes for the first time, to the organization of the context or to none: true, then it is remembered if the transaction commits; false for a repetition, which waits for the first one to end; ids have 1 to 255 bytes without control characters, the hash of the payload 16 to 64; PT409 for a known id with another hash, which is recorded as event webhook.changed even so; 22023, 40001 under REPEATABLE READ if it was received meanwhile, 25006, 53000, 55000, PT403';
