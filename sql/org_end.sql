-- The end of an organization: closed, then, some time later and unless a hold is
-- on it, exported and deleted by a job, table by table, children before parents,
-- in batches that commit by themselves. What an organization leaves to others, its
-- ledger and the audit log above all, goes by its own policies.

CREATE FUNCTION ringfence.close_org(org uuid, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.org_id() IS DISTINCT FROM org THEN
		PERFORM ringfence.enter_org(org, reason);
	END IF;
	PERFORM ringfence_v1.set_org_status('closed');
	PERFORM ringfence.audit_event('org.closed', NULL, NULL, reason, org);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.close_org(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.close_org(uuid, text) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.close_org(uuid, text) IS
	'closes an organization: its members are refused (PT403) from their next transaction on, and its rows stay; enters it unless it is entered; for operators and jobs; 22023, 42501, 42704, PT409 if it is deleted or its deletion is ordered';

CREATE FUNCTION ringfence.check_deletion_reason(reason text) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(reason, '') !~ '[[:alnum:]]' OR length(reason) > 1000 THEN
		RAISE EXCEPTION 'a reason is required'
			USING ERRCODE = 'not_null_violation', DETAIL = 'It has 1 to 1000 characters, a letter or digit among them.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_deletion_reason(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_deletion_reason(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_deletion_reason(text) IS '23502 for what is no reason';

-- Whoever owns the database can drop it; operators enter what they touch.
CREATE FUNCTION ringfence.check_deletion_right(org uuid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.actor() IN ('operator', 'job') AND ringfence.org_id() = org THEN
		RETURN;
	END IF;
	IF ringfence.org_id() IS NOT NULL OR NOT pg_has_role(session_user, 'pg_database_owner', 'MEMBER') THEN
		RAISE EXCEPTION 'permission denied to delete an organization'
			USING ERRCODE = 'insufficient_privilege',
			HINT = 'Enter it as an operator with ringfence.enter_org(), or log in as the owner of the database.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_deletion_right(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_deletion_right(uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_deletion_right(uuid) IS
	'42501 for who is neither an operator nor a job in that organization, nor logged in as the database''s owner and in none';

CREATE FUNCTION ringfence.delete_org(org uuid, reason text, after interval DEFAULT '30 days') RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	deletion_id CONSTANT uuid := ringfence.uuid7();
	due CONSTANT timestamptz := ringfence.retention_now() + after;
	status text;
BEGIN
	PERFORM ringfence.require_core();
	PERFORM ringfence.check_deletion_right(org);
	PERFORM ringfence.check_deletion_reason(reason);
	IF after BETWEEN '0' AND '10 years' IS NOT TRUE THEN
		RAISE EXCEPTION 'an organization cannot be deleted after %', coalesce(after::text, 'NULL')
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is at once or up to 10 years later.';
	END IF;
	status := ringfence.retention_execute('{"kind": "org_export", "relation": "ringfence_data.orgs"}', org) ->> 'status';
	IF status IS NULL THEN
		RAISE EXCEPTION 'organization "%" does not exist', org USING ERRCODE = 'undefined_object';
	ELSIF status <> 'closed' THEN
		RAISE EXCEPTION 'the organization is %', status
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'One that is deleted has been closed before.',
			HINT = CASE WHEN status <> 'deleted' THEN 'Call ringfence.close_org() first.' ELSE 'There is nothing left to do.' END;
	END IF;
	INSERT INTO ringfence_data.org_deletions (org_id, id, reason, ordered_login, due_at, next_try_at)
	VALUES (org, deletion_id, delete_org.reason, session_user, due, due);
	PERFORM ringfence.audit_event('org.deletion_ordered', deletion_id::text, jsonb_build_object('due_at', due), reason, org);
	RETURN deletion_id;
EXCEPTION WHEN unique_violation THEN
	RAISE EXCEPTION 'the deletion of the organization is ordered already'
		USING ERRCODE = 'PT409', HINT = 'ringfence.org_deletions() says how far it is.';
END
$$;
ALTER FUNCTION ringfence.delete_org(uuid, text, interval) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.delete_org(uuid, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.delete_org(uuid, text, interval) TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.delete_org(uuid, text, interval) IS
	'orders the deletion of a closed organization, for operators who entered it and the database''s owner, and returns the order''s id: the job "org_deletion" begins it when that time is over; 22023, 23502 without a reason, 42501, 42704, 55000 if it is not closed, PT409 if it is ordered already';

CREATE FUNCTION ringfence.cancel_org_deletion(org uuid, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	deletion_id uuid;
BEGIN
	PERFORM ringfence.require_core();
	PERFORM ringfence.check_deletion_right(org);
	PERFORM ringfence.check_deletion_reason(reason);
	UPDATE ringfence_data.org_deletions AS d
	SET cancelled_at = clock_timestamp(), cancelled_login = session_user, cancel_reason = cancel_org_deletion.reason
	WHERE d.org_id = org AND d.cancelled_at IS NULL AND d.started_at IS NULL
	RETURNING d.id INTO deletion_id;
	IF deletion_id IS NOT NULL THEN
		PERFORM ringfence.audit_event('org.deletion_cancelled', deletion_id::text, NULL, reason, org);
	ELSIF EXISTS (SELECT FROM ringfence_data.org_deletions AS d WHERE d.org_id = org AND d.cancelled_at IS NULL) THEN
		RAISE EXCEPTION 'the deletion of the organization has begun'
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'What is gone cannot be brought back.',
			HINT = 'ringfence.place_hold() keeps what is left.';
	ELSE
		RAISE EXCEPTION 'no deletion of the organization is ordered' USING ERRCODE = 'PT404';
	END IF;
END
$$;
ALTER FUNCTION ringfence.cancel_org_deletion(uuid, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.cancel_org_deletion(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.cancel_org_deletion(uuid, text) TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.cancel_org_deletion(uuid, text) IS
	'takes the order to delete an organization back, which stays closed, for those who may order it; 23502 without a reason, 42501, 55000 once it has begun, PT404 if there is none';

CREATE FUNCTION ringfence.org_deletions(
	OUT org_id uuid,
	OUT id uuid,
	OUT stage text,
	OUT reason text,
	OUT ordered_at timestamptz,
	OUT due_at timestamptz,
	OUT started_at timestamptz,
	OUT exported_at timestamptz,
	OUT finished_at timestamptz,
	OUT cancelled_at timestamptz,
	OUT present text,
	OUT waits_for text,
	OUT parts integer,
	OUT deleted jsonb,
	OUT kept jsonb
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	PERFORM ringfence.require_core();
	RETURN QUERY
	SELECT d.org_id, d.id, CASE WHEN d.cancelled_at IS NULL THEN d.stage COLLATE "default" ELSE 'cancelled' END,
		d.reason, d.ordered_at, d.due_at, d.started_at, d.exported_at, d.finished_at, d.cancelled_at,
		d.todo #>> '{0,relation}', coalesce(d.last_error, d.waits_for), d.parts, d.deleted, d.kept
	FROM ringfence_data.org_deletions AS d
	ORDER BY d.ordered_at, d.id;
END
$$;
ALTER FUNCTION ringfence.org_deletions() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.org_deletions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_deletions() TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.org_deletions() IS
	'deletions of organizations that were ordered, and how far each is: ordered, export, delete, anonymize, done or cancelled; the table that it is at, what it waits for, which may be the end of an error, rows deleted and kept by table; 55000';

-- Which tables hold rows of an organization, and what becomes of them. What core
-- keeps for others than the organization stays: the ledger and the audit log, who
-- entered it, which events of providers had their effect, objects that are still
-- to be deleted, what is held, who was erased, what jobs did. Idempotency keys
-- expire by themselves. Parts of exports are copies of what is exported: they only
-- leave.
CREATE FUNCTION ringfence.org_tables(OUT relation regclass, OUT leaves boolean, OUT exported boolean, OUT personal boolean) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
	SELECT t.relation,
		NOT (k.own OR k.ledger OR k.consents) AND NOT EXISTS (
			SELECT FROM ringfence_data.retention_policies AS p WHERE p.relation = t.relation AND p.outlives_org
		),
		NOT (k.own OR k.copies),
		EXISTS (SELECT FROM ringfence_data.columns AS p WHERE p.relation = t.relation AND p.label = 'personal')
	FROM ringfence_data.tables AS t
	INNER JOIN pg_class AS c ON c.oid = t.relation
	INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
	CROSS JOIN LATERAL (
		SELECT ringfence.is_audit_table(t.relation) OR (n.nspname = 'ringfence_data' AND c.relname IN (
				'org_entries', 'idempotency_keys', 'webhook_events', 'tombstones', 'legal_holds', 'erasures',
				'retention_batches', 'retention_stats', 'partition_drops', 'org_deletions', 'org_export_parts'
			)) AS own,
			n.nspname = 'ringfence_data' AND c.relname = 'export_parts' AS copies,
			n.nspname = 'ringfence_data' AND c.relname LIKE 'ledger\_%' AS ledger,
			n.nspname = 'ringfence_data' AND c.relname = 'consents' AS consents
	) AS k
	WHERE t.row_class IN ('org', 'directory') AND ringfence.has_org_column(t.relation)
$$;
ALTER FUNCTION ringfence.org_tables() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.org_tables() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_tables() TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.org_tables() IS
	'the protected tables with rows of organizations, whether they leave with theirs, whether they are exported first, and whether a column of theirs is personal: those whose policy outlives the organization, the ledger and consents stay, and what is core''s own is not exported either, nor are parts of exports';

-- Of any foreign key, those that cascade too: by the time that a parent's turn has
-- come its children are gone, but for those that stay. Another owner's rows are that
-- owner's to read, whose policies would run with the rights of this one: the key
-- itself refuses.
CREATE FUNCTION ringfence.childless_condition(rel regclass) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(string_agg(format('NOT EXISTS (SELECT FROM %s AS c WHERE %s)', k.conrelid::regclass, m.matches), ' AND ' ORDER BY k.conname, k.oid), 'true')
	FROM pg_constraint AS k
	CROSS JOIN LATERAL (
		SELECT string_agg(format('c.%I = t.%I', c.attname, p.attname), ' AND ' ORDER BY n.place)
			|| CASE WHEN k.conrelid = rel THEN ' AND (c.tableoid, c.ctid) <> (t.tableoid, t.ctid)' ELSE '' END AS matches
		FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS n (child_column, parent_column, place)
		INNER JOIN pg_attribute AS c ON c.attrelid = k.conrelid AND c.attnum = n.child_column
		INNER JOIN pg_attribute AS p ON p.attrelid = k.confrelid AND p.attnum = n.parent_column
	) AS m
	WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = rel
		AND (SELECT c.relowner FROM pg_class AS c WHERE c.oid = k.conrelid) = (SELECT c.relowner FROM pg_class AS c WHERE c.oid = rel)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.childless_condition(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.childless_condition(regclass) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.childless_condition(regclass) IS
	'the condition under which no row of a table of the same owner references a row of this one, called t';

-- Statements. An answer of no rows says why: held by somebody's hold, locked by
-- somebody, or what remains is referenced.
CREATE FUNCTION ringfence.org_delete_statement(rel regclass, org uuid, batch integer) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('WITH picked AS MATERIALIZED (
		SELECT t.tableoid AS part, t.ctid AS place
		FROM %1$s AS t
		WHERE t.org_id = %2$L AND %3$s AND %4$s
		LIMIT %5$s
		FOR UPDATE OF t SKIP LOCKED
	), gone AS (
		DELETE FROM %1$s AS t
		USING picked AS p
		WHERE t.ctid = p.place AND t.tableoid = p.part AND t.org_id = %2$L
		RETURNING 1
	), done AS MATERIALIZED (SELECT count(*) AS rows FROM gone)
	SELECT jsonb_build_object(''rows'', d.rows,
		''held'', CASE WHEN d.rows = 0 THEN EXISTS (SELECT FROM %1$s AS t WHERE t.org_id = %2$L AND (%3$s) IS NOT TRUE) END,
		''locked'', CASE WHEN d.rows = 0 THEN EXISTS (SELECT FROM %1$s AS t WHERE t.org_id = %2$L AND %3$s AND %4$s) END,
		''kept'', CASE WHEN d.rows = 0 THEN (SELECT count(*) FROM %1$s AS t WHERE t.org_id = %2$L) END)
	FROM done AS d', rel, org, ringfence.hold_condition(rel, org), ringfence.childless_condition(rel), batch)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_delete_statement(regclass, uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_delete_statement(regclass, uuid, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_delete_statement(regclass, uuid, integer) IS
	'the statement that deletes up to so many of an organization''s rows of a table that are neither held nor referenced; for org_statement()';

CREATE FUNCTION ringfence.org_anonymize_statement(rel regclass, org uuid, rules jsonb, batch integer) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('WITH picked AS MATERIALIZED (
		SELECT t.tableoid AS part, t.ctid AS place
		FROM %1$s AS t
		WHERE t.org_id = %2$L AND %3$s AND %4$s
		LIMIT %5$s
		FOR UPDATE OF t
	), changed AS (
		UPDATE %1$s AS t SET %6$s
		FROM picked AS p
		WHERE t.ctid = p.place AND t.tableoid = p.part AND t.org_id = %2$L
		RETURNING 1
	), done AS MATERIALIZED (SELECT count(*) AS rows FROM changed)
	SELECT jsonb_build_object(''rows'', d.rows,
		''held'', CASE WHEN d.rows = 0 THEN EXISTS (SELECT FROM %1$s AS t WHERE t.org_id = %2$L AND %4$s AND (%3$s) IS NOT TRUE) END)
	FROM done AS d',
		rel, org, ringfence.hold_condition(rel, org), ringfence.rule_todo(rel, rules), batch, ringfence.rule_assignments(rel, rules))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_anonymize_statement(regclass, uuid, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_anonymize_statement(regclass, uuid, jsonb, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_anonymize_statement(regclass, uuid, jsonb, integer) IS
	'the statement that anonymizes up to so many of an organization''s rows of a table by rules; for org_statement()';

-- Personal values in the audit log, of a table whose rows are gone or nobody's: what
-- outlives the organization has its own in its rows. A hold on any row of the table
-- keeps them, for records don't tell which row a filter would have picked.
CREATE FUNCTION ringfence.org_forget_statement(rel regclass, org uuid, batch integer) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN ringfence.hold_condition(rel, org) <> 'true' THEN 'SELECT ''{"rows": 0, "held": true, "finished": true}'''
		ELSE format('SELECT jsonb_build_object(''rows'', f.rows, ''held'', false, ''finished'', f.rows < %s)
			FROM ringfence.audit_forget_before(%s::regclass, clock_timestamp(), %L, %1$s) AS f (rows)', batch, rel::oid, org)
	END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_forget_statement(regclass, uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_forget_statement(regclass, uuid, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_forget_statement(regclass, uuid, integer) IS
	'the statement that forgets the personal values in up to so many of an organization''s records of a table, unless a hold is on any row of it; for org_statement()';

-- Part of an export: rows in the order of the primary key, after the last one of
-- the part before, about a million bytes of JSON, a line each; at least one row.
CREATE FUNCTION ringfence.org_export_statement(rel regclass, org uuid, after jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('WITH page AS MATERIALIZED (
		SELECT (to_jsonb(t.*) - %1$L::text[])::text AS line, jsonb_build_array(%2$s) AS key, row_number() OVER (ORDER BY %2$s) AS place
		FROM %3$s AS t
		WHERE t.org_id = %4$L%5$s
		ORDER BY %2$s
		LIMIT 5000
	), part AS MATERIALIZED (
		SELECT p.line, p.key, p.place, sum(octet_length(p.line)) OVER (ORDER BY p.place) - octet_length(p.line) AS before
		FROM page AS p
	)
	SELECT jsonb_build_object(''rows'', count(*), ''lines'', string_agg(p.line || E''\n'', '''' ORDER BY p.place),
		''last'', (array_agg(p.key ORDER BY p.place DESC))[1],
		''finished'', count(*) = (SELECT count(*) FROM page) AND count(*) < 5000)
	FROM part AS p
	WHERE p.before < 1000000',
		ringfence.audit_secret_columns(rel)::text[],
		string_agg(format('t.%I', k.name), ', ' ORDER BY k.place),
		rel,
		org,
		CASE WHEN jsonb_typeof(after) = 'array' THEN format(' AND (%s) > (%s)',
			string_agg(format('t.%I', k.name), ', ' ORDER BY k.place),
			string_agg(format('%L::%s', after ->> (k.place - 1)::integer, ringfence.column_type(rel, k.name::text)), ', ' ORDER BY k.place))
		ELSE '' END)
	FROM unnest(ringfence.primary_key_columns(rel)) WITH ORDINALITY AS k (name, place)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_export_statement(regclass, uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_export_statement(regclass, uuid, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_export_statement(regclass, uuid, jsonb) IS
	'the statement that reads the next part of an organization''s rows of a table, without secrets, after a key: {"rows", "lines", "last", "finished"}; NULL for a table without a primary key; for org_statement()';

-- Nothing is done to an organization whose deletion is not under way, whoever
-- names the task.
CREATE FUNCTION ringfence.check_org_task(task jsonb, org uuid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM ringfence_data.org_deletions AS d
		WHERE d.org_id = org AND d.cancelled_at IS NULL AND 'org_' || d.stage = task ->> 'kind'
	) THEN
		RAISE EXCEPTION 'the deletion of the organization is not at that stage'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'ringfence.delete_org() orders it.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_org_task(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_org_task(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.check_org_task(jsonb, uuid) IS
	'55000 unless the deletion of the organization is at the stage that a task is of';

CREATE FUNCTION ringfence.org_row_statement(org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('WITH changed AS (
			UPDATE ringfence_data.orgs AS t
			SET name = ''anon-'' || replace(gen_random_uuid()::text, ''-'', ''''), settings = ''{}'', status = ''deleted''
			WHERE t.id = %L AND t.status = ''closed'' AND %s
			RETURNING 1
		)
		SELECT jsonb_build_object(''rows'', count(*)) FROM changed', org, ringfence.hold_condition('ringfence_data.orgs', org))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_row_statement(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_row_statement(uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_row_statement(uuid) IS
	'the statement that leaves of an organization its id, under a pseudonym, as deleted, if it is not held; for org_statement()';

CREATE FUNCTION ringfence.org_statement(task jsonb, org uuid) RETURNS TABLE (rel regclass, statement text)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT text := task ->> 'kind';
	batch CONSTANT integer := greatest(1, coalesce((task ->> 'batch')::integer, 1000));
	fate record;
BEGIN
	IF task ->> 'relation' = 'ringfence_data.orgs' THEN
		rel := 'ringfence_data.orgs'::regclass;
		statement := CASE kind
			WHEN 'org_export' THEN
				format('SELECT jsonb_build_object(''status'', (SELECT t.status FROM %s AS t WHERE t.id = %L FOR SHARE))', rel, org)
			WHEN 'org_anonymize' THEN ringfence.org_row_statement(org)
		END;
		IF kind <> 'org_export' THEN
			PERFORM ringfence.check_org_task(task, org);
		END IF;
		RETURN NEXT;
		RETURN;
	END IF;
	PERFORM ringfence.check_org_task(task, org);
	-- By its name as text: whoever asks may have no right to its schema.
	SELECT o.relation, o.leaves, o.exported INTO fate
	FROM ringfence.org_tables() AS o
	WHERE o.relation::text = task ->> 'relation';
	rel := fate.relation;
	statement := CASE
		WHEN kind = 'org_export' AND fate.exported THEN ringfence.org_export_statement(rel, org, task -> 'after')
		WHEN kind = 'org_delete' AND fate.leaves THEN ringfence.org_delete_statement(rel, org, batch)
		WHEN kind = 'org_anonymize' AND task -> 'records' = 'true' THEN ringfence.org_forget_statement(rel, org, batch)
		WHEN kind = 'org_anonymize' AND fate.leaves THEN (
			SELECT ringfence.org_anonymize_statement(rel, org, s.rules, batch)
			FROM ringfence_data.subjects AS s
			WHERE s.relation = rel AND s.kind = task ->> 'subject' AND s.column_name = task ->> 'column'
		)
	END;
	RETURN NEXT;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_statement(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_statement(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_statement(jsonb, uuid) IS
	'the statement of a task of kind org_export, org_delete or org_anonymize, {"kind", "relation", "after", "subject", "column", "records", "batch"}, and its table; NULL for a table that it is not for; 55000; for retention_statement()';

-- An event of an organization that the job has not entered.
CREATE FUNCTION ringfence.org_deletion_event(action text, deletion uuid) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.audit_event('org.' || action, d.id::text,
		jsonb_build_object('parts', d.parts, 'deleted', d.deleted, 'kept', d.kept, 'forgotten', d.forgotten), d.reason, d.org_id)
	FROM ringfence_data.org_deletions AS d
	WHERE d.id = deletion AND (action, d.stage) IN (('deletion_begun', 'export'), ('exported', 'delete'), ('deleted', 'done'))
$$;
ALTER FUNCTION ringfence.org_deletion_event(text, uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.org_deletion_event(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_deletion_event(text, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_deletion_event(text, uuid) IS
	'records in the organization''s audit log how far its deletion is; for delete_orgs_step()';

-- What a step of a deletion does, which delete_orgs_step() has locked: a part of
-- its stage that is small enough for one transaction, and a note of what is left.

CREATE FUNCTION ringfence.postpone_org_deletion(deletion uuid, obstacle text, pause interval) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE ringfence_data.org_deletions AS d
	SET waits_for = obstacle, next_try_at = ringfence.retention_now() + pause, todo = NULL
	WHERE d.id = deletion
$$;
REVOKE EXECUTE ON FUNCTION ringfence.postpone_org_deletion(uuid, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.postpone_org_deletion(uuid, text, interval) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.postpone_org_deletion(uuid, text, interval) IS
	'has a deletion wait that long, and say for what; for delete_orgs_step()';

CREATE FUNCTION ringfence.begin_org_stage(deletion uuid, next_stage text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE ringfence_data.org_deletions AS d
	SET stage = next_stage, todo = NULL, after = NULL, moved = false, waits_for = NULL,
		started_at = coalesce(d.started_at, clock_timestamp()),
		exported_at = CASE WHEN d.stage = 'export' THEN clock_timestamp() ELSE d.exported_at END,
		finished_at = CASE WHEN next_stage = 'done' THEN clock_timestamp() END
	WHERE d.id = deletion
$$;
REVOKE EXECUTE ON FUNCTION ringfence.begin_org_stage(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.begin_org_stage(uuid, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.begin_org_stage(uuid, text) IS 'has a deletion begin with a stage, from its start; for delete_orgs_step()';

CREATE FUNCTION ringfence.org_obstacle(org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN o.status <> 'closed' THEN format('the organization is %s', o.status)
		WHEN EXISTS (
			SELECT FROM ringfence.active_holds(NULL, org) AS h
			WHERE h.relation IS NULL AND h.subject_kind IS NULL AND h.rows IS NULL
		) THEN 'a legal hold on the organization'
	END
	FROM ringfence_data.orgs AS o
	WHERE o.id = org
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_obstacle(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_obstacle(uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_obstacle(uuid) IS
	'why an organization as a whole is not to be deleted now: it is not closed, or held; NULL if it may be; for delete_orgs_step()';

CREATE FUNCTION ringfence.begin_org_deletion(deletion uuid, org uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	obstacle CONSTANT text := ringfence.org_obstacle(org);
BEGIN
	IF obstacle IS NOT NULL THEN
		PERFORM ringfence.postpone_org_deletion(deletion, obstacle, interval '1 hour');
		RETURN;
	END IF;
	PERFORM ringfence.begin_org_stage(deletion, 'export');
	PERFORM ringfence.org_deletion_event('deletion_begun', deletion);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.begin_org_deletion(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.begin_org_deletion(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.begin_org_deletion(uuid, uuid) IS
	'begins a deletion whose time has come; it waits if the organization is not closed or a hold is on all of it; for delete_orgs_step()';

-- Parents are exported first, as they would be put back, and deleted last.
CREATE FUNCTION ringfence.plan_org_stage(stage text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(jsonb_agg(w.task ORDER BY w.place, w.depth, w.task ->> 'relation', w.task ->> 'subject', w.task ->> 'column'), '[]')
	FROM (
		SELECT jsonb_build_object('relation', o.relation::text) AS task,
			(o.relation = 'ringfence_data.memberships'::regclass)::integer AS place,
			ringfence.reference_depth(o.relation) * CASE stage WHEN 'export' THEN -1 ELSE 1 END AS depth
		FROM ringfence.org_tables() AS o
		WHERE (stage = 'export' AND o.exported) OR (stage = 'delete' AND o.leaves)
		UNION ALL
		SELECT jsonb_build_object('relation', o.relation::text, 'subject', s.kind, 'column', s.column_name), 0, 0
		FROM ringfence.org_tables() AS o
		INNER JOIN ringfence_data.subjects AS s ON s.relation = o.relation
		WHERE stage = 'anonymize' AND o.leaves AND s.rules IS NOT NULL
		UNION ALL
		SELECT jsonb_build_object('relation', o.relation::text, 'records', true), 2, 0
		FROM ringfence.org_tables() AS o
		WHERE stage = 'anonymize' AND o.personal
	) AS w
$$;
REVOKE EXECUTE ON FUNCTION ringfence.plan_org_stage(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.plan_org_stage(text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.plan_org_stage(text) IS
	'the tables of a stage of a deletion, in order; for "anonymize" the rules for rows that stay because others do, then the tables with personal values in the audit log; for delete_orgs_step()';

CREATE FUNCTION ringfence.org_task_stands(stage text, task jsonb) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM ringfence.org_tables() AS o
		WHERE o.relation::text = task ->> 'relation'
			AND CASE WHEN stage = 'export' THEN o.exported ELSE o.leaves OR task ? 'records' END
			AND (stage <> 'anonymize' OR task ? 'records' OR EXISTS (
				SELECT FROM ringfence_data.subjects AS s
				WHERE s.relation = o.relation AND s.kind = task ->> 'subject' AND s.column_name = task ->> 'column' AND s.rules IS NOT NULL
			))
	)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.org_task_stands(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_task_stands(text, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.org_task_stands(text, jsonb) IS
	'whether what was planned for a stage is to be done still: the table, the policy or the rules may be others since; for delete_orgs_step()';

CREATE FUNCTION ringfence.export_org_part(deletion uuid, org uuid, task jsonb, after jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answer CONSTANT jsonb := ringfence.retention_execute(task || jsonb_build_object('kind', 'org_export', 'after', after), org);
	finished CONSTANT boolean := (answer -> 'finished')::boolean;
	row_count CONSTANT integer := (answer -> 'rows')::integer;
BEGIN
	IF row_count > 0 THEN
		INSERT INTO ringfence_data.org_export_parts (org_id, deletion_id, part, relation, rows, data, sha256)
		SELECT org, deletion, d.parts + 1, task ->> 'relation', row_count, b.data, sha256(b.data)
		FROM ringfence_data.org_deletions AS d
		CROSS JOIN LATERAL (SELECT convert_to(answer ->> 'lines', 'UTF8') AS data) AS b
		WHERE d.id = deletion;
	END IF;
	UPDATE ringfence_data.org_deletions AS d
	SET parts = d.parts + (row_count > 0)::integer,
		after = CASE WHEN NOT finished THEN answer -> 'last' END,
		todo = CASE WHEN finished THEN d.todo - 0 ELSE d.todo END
	WHERE d.id = deletion;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_org_part(uuid, uuid, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_org_part(uuid, uuid, jsonb, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_org_part(uuid, uuid, jsonb, jsonb) IS
	'puts the next part of a table, after a key, into org_export_parts; for delete_orgs_step()';

-- A table is done, in this pass over all of them, when a batch finds nothing.
CREATE FUNCTION ringfence.delete_org_batch(deletion uuid, org uuid, task jsonb, batch integer) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	began CONSTANT timestamptz := clock_timestamp();
	rel CONSTANT text := task ->> 'relation';
	answer CONSTANT jsonb := ringfence.retention_execute(task || jsonb_build_object('kind', 'org_delete', 'batch', batch), org);
	row_count CONSTANT bigint := (answer -> 'rows')::bigint;
BEGIN
	IF row_count > 0 THEN
		UPDATE ringfence_data.org_deletions AS d
		SET moved = true,
			batch = ringfence.next_batch(d.batch, extract(epoch FROM clock_timestamp() - began)::double precision),
			deleted = d.deleted || jsonb_build_object(rel, coalesce((d.deleted -> rel)::bigint, 0) + row_count)
		WHERE d.id = deletion;
		RETURN;
	END IF;
	UPDATE ringfence_data.org_deletions AS d
	SET todo = d.todo - 0,
		kept = CASE WHEN answer -> 'kept' = '0' THEN d.kept - rel ELSE d.kept || jsonb_build_object(rel, answer -> 'kept') END,
		waits_for = CASE
			WHEN answer -> 'held' = 'true' THEN 'a legal hold on rows of ' || rel
			WHEN answer -> 'locked' = 'true' THEN coalesce(d.waits_for, 'locked rows of ' || rel)
			ELSE d.waits_for
		END
	WHERE d.id = deletion;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.delete_org_batch(uuid, uuid, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.delete_org_batch(uuid, uuid, jsonb, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.delete_org_batch(uuid, uuid, jsonb, integer) IS
	'deletes up to so many of the organization''s rows of a table; when there are none that can be, notes what is left and why; for delete_orgs_step()';

CREATE FUNCTION ringfence.anonymize_org_batch(deletion uuid, org uuid, task jsonb, batch integer) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel CONSTANT text := task ->> 'relation';
	answer CONSTANT jsonb := ringfence.retention_execute(task || jsonb_build_object('kind', 'org_anonymize', 'batch', batch), org);
	row_count CONSTANT bigint := (answer -> 'rows')::bigint;
BEGIN
	UPDATE ringfence_data.org_deletions AS d
	SET todo = CASE WHEN coalesce((answer -> 'finished')::boolean, row_count = 0) THEN d.todo - 0 ELSE d.todo END,
		waits_for = CASE WHEN answer -> 'held' = 'true' THEN 'a legal hold on rows of ' || rel ELSE d.waits_for END,
		forgotten = CASE WHEN task ? 'records' AND row_count > 0
			THEN d.forgotten || jsonb_build_object(rel, coalesce((d.forgotten -> rel)::bigint, 0) + row_count) ELSE d.forgotten END
	WHERE d.id = deletion;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.anonymize_org_batch(uuid, uuid, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.anonymize_org_batch(uuid, uuid, jsonb, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.anonymize_org_batch(uuid, uuid, jsonb, integer) IS
	'anonymizes up to so many rows that are left in a table, by a subject''s rules, or forgets personal values in so many records of it; when there are none that can be, notes whether a hold keeps any; for delete_orgs_step()';

-- After a pass that deleted anything comes another: what was referenced may be so
-- no longer.
CREATE FUNCTION ringfence.end_org_stage(deletion uuid, org uuid, stage text, moved boolean, waits_for text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	obstacle text := coalesce(waits_for, ringfence.org_obstacle(org));
	answer jsonb;
BEGIN
	IF stage = 'anonymize' AND obstacle IS NULL THEN
		answer := ringfence.retention_execute('{"kind": "org_anonymize", "relation": "ringfence_data.orgs"}', org);
		-- A hold may have come since.
		obstacle := CASE WHEN answer -> 'rows' = '0' THEN 'a legal hold on the organization' END;
	END IF;
	IF stage = 'export' THEN
		PERFORM ringfence.begin_org_stage(deletion, 'delete');
		PERFORM ringfence.org_deletion_event('exported', deletion);
	ELSIF stage = 'delete' AND moved THEN
		PERFORM ringfence.begin_org_stage(deletion, 'delete');
	ELSIF obstacle IS NOT NULL THEN
		PERFORM ringfence.postpone_org_deletion(deletion, obstacle,
			CASE WHEN starts_with(obstacle, 'locked') THEN interval '1 minute' ELSE interval '1 hour' END);
	ELSIF stage = 'delete' THEN
		PERFORM ringfence.begin_org_stage(deletion, 'anonymize');
	ELSE
		PERFORM ringfence.begin_org_stage(deletion, 'done');
		PERFORM ringfence.org_deletion_event('deleted', deletion);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.end_org_stage(uuid, uuid, text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.end_org_stage(uuid, uuid, text, boolean, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.end_org_stage(uuid, uuid, text, boolean, text) IS
	'has a deletion that is through with all tables of a stage go over them again, wait, or go on with the next stage, and after the last one anonymizes the organization itself; for delete_orgs_step()';

-- What it has yet to do stays as it is: an export isn't begun anew.
CREATE FUNCTION ringfence.fail_org_deletion(deletion uuid, code text, message text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE ringfence_data.org_deletions AS d
	SET last_error = format('%s: %s', code, message),
		next_try_at = ringfence.retention_now()
			+ CASE WHEN code IN ('55P03', '40P01', '40001') THEN interval '1 minute' ELSE interval '1 hour' END
	WHERE d.id = deletion
$$;
REVOKE EXECUTE ON FUNCTION ringfence.fail_org_deletion(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.fail_org_deletion(uuid, text, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.fail_org_deletion(uuid, text, text) IS
	'notes what stopped a step of a deletion, which is tried again an hour later, or a minute where it was a lock; for delete_orgs_step()';

-- When all that can be done is done, those that can't be fail the job; a lock that was
-- not to be had will be, in a minute or so.
CREATE FUNCTION ringfence.report_failed_deletions() RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	failed record;
BEGIN
	SELECT d.org_id, d.last_error, count(*) OVER () AS number INTO failed
	FROM ringfence_data.org_deletions AS d
	WHERE d.last_error !~ '^(55P03|40P01|40001): ' AND d.cancelled_at IS NULL AND d.finished_at IS NULL
	ORDER BY d.next_try_at, d.id
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'could not delete organization "%"%: %', failed.org_id,
			CASE WHEN failed.number > 1 THEN format(' and %s more', failed.number - 1) ELSE '' END, failed.last_error
			USING ERRCODE = 'raise_exception', HINT = 'ringfence.org_deletions() has the error of each.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.report_failed_deletions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.report_failed_deletions() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.report_failed_deletions() IS
	'P0001 if the last step of a deletion that is under way failed, other than for a lock; for delete_orgs_step()';

CREATE FUNCTION ringfence.advance_org_deletion(deletion uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	d record;
BEGIN
	UPDATE ringfence_data.org_deletions AS o SET last_error = NULL WHERE o.id = deletion AND o.last_error IS NOT NULL;
	SELECT o.org_id, o.id, o.stage, o.todo, o.after, o.moved, o.waits_for, o.batch INTO STRICT d
	FROM ringfence_data.org_deletions AS o
	WHERE o.id = deletion;
	IF d.stage = 'ordered' THEN
		PERFORM ringfence.begin_org_deletion(d.id, d.org_id);
	ELSIF d.todo IS NULL THEN
		UPDATE ringfence_data.org_deletions AS o
		SET todo = ringfence.plan_org_stage(d.stage), waits_for = NULL
		WHERE o.id = d.id;
	ELSIF d.todo = '[]' THEN
		PERFORM ringfence.end_org_stage(d.id, d.org_id, d.stage, d.moved, d.waits_for);
	ELSIF NOT ringfence.org_task_stands(d.stage, d.todo -> 0) THEN
		UPDATE ringfence_data.org_deletions AS o SET todo = o.todo - 0 WHERE o.id = d.id;
	ELSIF d.stage = 'export' THEN
		PERFORM ringfence.export_org_part(d.id, d.org_id, d.todo -> 0, d.after);
	ELSIF d.stage = 'delete' THEN
		PERFORM ringfence.delete_org_batch(d.id, d.org_id, d.todo -> 0, d.batch);
	ELSE
		PERFORM ringfence.anonymize_org_batch(d.id, d.org_id, d.todo -> 0, d.batch);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.advance_org_deletion(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.advance_org_deletion(uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.advance_org_deletion(uuid) IS
	'does the next small part of a deletion; whatever its tables throw; for delete_orgs_step()';

-- What is wrong with one organization's rows doesn't keep the others.
CREATE FUNCTION ringfence.delete_orgs_step() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	deletion uuid;
BEGIN
	PERFORM ringfence.require_core();
	SELECT o.id INTO deletion
	FROM ringfence_data.org_deletions AS o
	WHERE o.next_try_at <= ringfence.retention_now() AND o.cancelled_at IS NULL AND o.finished_at IS NULL
	ORDER BY o.next_try_at, o.id
	LIMIT 1
	FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		PERFORM ringfence.report_failed_deletions();
		RETURN 0;
	END IF;
	BEGIN
		PERFORM ringfence.advance_org_deletion(deletion);
	EXCEPTION WHEN OTHERS THEN
		PERFORM ringfence.fail_org_deletion(deletion, SQLSTATE, SQLERRM);
	END;
	RETURN 1;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.delete_orgs_step() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.delete_orgs_step() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.delete_orgs_step() IS
	'does the next small part of the deletion of organizations whose time has come, and returns 1, or 0 if there is nothing to do now; one that fails is put off, and keeps no other: P0001 names it when there is nothing else to do; the job "org_deletion" calls it until then; for jobs';

CREATE PROCEDURE ringfence.delete_orgs(max_seconds integer DEFAULT 300)
LANGUAGE plpgsql
AS $$
BEGIN
	-- No SET clause: with one, the steps could not commit.
	CALL ringfence.run_job('org_deletion', max_seconds);
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.delete_orgs(integer) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.delete_orgs(integer) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.delete_orgs(integer) IS
	'runs the job "org_deletion" now, for about that long: exports and deletes organizations whose time has come, in steps that commit by themselves; whenever it ends, the next call goes on; P0001, 25006, 2D000, 42501, 55000';
