-- Large exports: a job writes them in parts, each in a transaction of its own, as
-- the member who asked. Organizations take turns, one part at a time.
--
-- Who takes an export up says so, by its pid, in a transaction before the first
-- part. A part is stored only if that still stands: an export that was canceled,
-- begun anew after an erasure or taken up by another process meanwhile is not
-- touched. So nothing is locked while rows are read.

CREATE FUNCTION ringfence.export_shape(rel regclass, key name[], range_column name) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT md5(concat_ws(E'\n', rel::text, key::text, range_column, (
		SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
		FROM pg_attribute AS a
		WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped
	)))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_shape(regclass, name[], name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_shape(regclass, name[], name) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_shape(regclass, name[], name) IS
	'what must stay the same while an export is written: relation, columns with their types, and key';

CREATE FUNCTION ringfence.export_order(org uuid, export uuid, what text)
RETURNS SETOF ringfence.export_reading
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.export_statement(d.relation, d.key, d.range_column, e.time_zone, e.from_date, e.to_date, e.format, p.last_key, what),
		cardinality(d.key), e.format COLLATE "default", ringfence.export_options(e.options), e.time_zone, d.roles,
		e.requested_as::text, p.last_key, e.consistent, e.parts = 0
	FROM ringfence_data.exports AS e
	INNER JOIN ringfence_data.export_definitions AS d ON d.name = e.name
	LEFT JOIN ringfence_data.export_parts AS p ON p.org_id = e.org_id AND p.export_id = e.id AND p.part = e.parts
	WHERE e.org_id = org AND e.id = export AND e.requested_as ->> 'org_id' = e.org_id::text AND ringfence.is_exportable(d.relation)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_order(uuid, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_order(uuid, uuid, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_order(uuid, uuid, text) IS
	'what export_write() is to read of an export on record: the rows behind its last part; or what export_number() is to count: "count", "unkeyed"; no row for one that is not declared any more, or of a view that reads with its owner''s rights by now';

CREATE FUNCTION ringfence.export_write(org uuid, export uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_export_write';
REVOKE EXECUTE ON FUNCTION ringfence.export_write(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_write(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_write(uuid, uuid) IS
	'reads the next part of an export, or all parts of one that is consistent, as the member who asked for it, and has store_export_part() store them; 22000 for a key that does not identify rows, 42501 if the member lost a role, 42704, 54000 also after ringfence.export_consistent_timeout, 57000 after ringfence.export_timeout, PT403';

CREATE FUNCTION ringfence.export_number(org uuid, export uuid, what text) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_export_number';
REVOKE EXECUTE ON FUNCTION ringfence.export_number(uuid, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_number(uuid, uuid, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_number(uuid, uuid, text) IS
	'how many rows an export has ("count") as the member who asked for it sees them, or 1 if one of them has a NULL in its key ("unkeyed"); errors as export_write()';

CREATE FUNCTION ringfence.export_identify(requested_as text, roles text[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_export_identify';
REVOKE EXECUTE ON FUNCTION ringfence.export_identify(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_identify(text, text[]) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_identify(text, text[]) IS
	'42501 unless whoever a context was is still a member with all that it says and one of these roles; PT403 if the organization is not active';

CREATE FUNCTION ringfence.export_digest(org uuid, export uuid, OUT sha256 bytea, OUT rows bigint, OUT bytes bigint, OUT parts integer) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_export_digest';
REVOKE EXECUTE ON FUNCTION ringfence.export_digest(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_digest(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_digest(uuid, uuid) IS
	'SHA-256, rows and bytes of all parts of an export, one after the other, read one at a time, and their number; XX001 if one is missing';

CREATE FUNCTION ringfence.lock_exports(org uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_lock_exports';
REVOKE EXECUTE ON FUNCTION ringfence.lock_exports(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lock_exports(uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.lock_exports(uuid) IS
	'has others who start exports of an organization, or begin them anew, wait until the transaction ends; 25006 on a standby';

-- An event of an organization that the job has not entered.
CREATE FUNCTION ringfence.export_event(action text, org uuid, export uuid, details jsonb DEFAULT NULL, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF action IN ('requested', 'started', 'done', 'failed') IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid event of an export' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM ringfence.audit_event('export.' || action, export::text, details, reason, org);
END
$$;
ALTER FUNCTION ringfence.export_event(text, uuid, uuid, jsonb, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.export_event(text, uuid, uuid, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_event(text, uuid, uuid, jsonb, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_event(text, uuid, uuid, jsonb, text) IS
	'records in the organization''s audit log what came of an export: export.requested, export.started, export.done, export.failed; for export_step(); 22023';

-- Under a lock, so that two at once can't both be the last.
CREATE FUNCTION ringfence.check_export_limit(org uuid, usr uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unfinished record;
BEGIN
	SELECT count(*) AS all_of_them, count(*) FILTER (WHERE e.requested_by = usr) AS own INTO unfinished
	FROM ringfence_data.exports AS e
	WHERE e.org_id = org AND e.state IN ('queued', 'running');
	IF unfinished.own >= 10 OR unfinished.all_of_them >= 30 THEN
		RAISE EXCEPTION 'too many exports are under way'
			USING ERRCODE = 'PT429', DETAIL = 'A member has ten at a time, an organization thirty.',
			HINT = 'Wait for one to be done, or cancel one: the view "exports" lists them.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_export_limit(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_export_limit(uuid, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.check_export_limit(uuid, uuid) IS
	'PT429 if a member has ten exports under way, or an organization thirty; after lock_exports()';

CREATE FUNCTION ringfence.queue_export(
	org uuid,
	name text,
	format text,
	options jsonb,
	from_date date,
	to_date date,
	consistent boolean,
	roles text[],
	filename text,
	zone text,
	usr uuid,
	requested_as jsonb
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	export_id CONSTANT uuid := ringfence.uuid7();
BEGIN
	PERFORM ringfence.lock_exports(org);
	PERFORM ringfence.check_export_limit(org, usr);
	INSERT INTO ringfence_data.exports (org_id, id, name, roles, format, options, from_date, to_date, time_zone, consistent, filename, requested_by, requested_as)
	VALUES (org, export_id, queue_export.name, queue_export.roles, queue_export.format, queue_export.options, queue_export.from_date,
		queue_export.to_date, zone, queue_export.consistent, queue_export.filename, usr, queue_export.requested_as);
	RETURN export_id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.queue_export(uuid, text, text, jsonb, date, date, boolean, text[], text, text, uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.queue_export(uuid, text, text, jsonb, date, date, boolean, text[], text, text, uuid, jsonb) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.queue_export(uuid, text, text, jsonb, date, date, boolean, text[], text, text, uuid, jsonb) IS
	'puts an export on record that the job is to write, and returns its id; PT429 if the member has ten already, or the organization thirty; for start_export() and schedules';

-- Parts that go before their time, but for those under a legal hold.
CREATE FUNCTION ringfence.delete_export_parts(org uuid, export uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone bigint;
BEGIN
	EXECUTE format('DELETE FROM ringfence_data.export_parts AS t WHERE t.org_id = $1 AND ($2 IS NULL OR t.export_id = $2) AND %s',
		ringfence.hold_condition('ringfence_data.export_parts', org))
	USING org, export;
	GET DIAGNOSTICS gone = ROW_COUNT;
	RETURN gone;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.delete_export_parts(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.delete_export_parts(uuid, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.delete_export_parts(uuid, uuid) IS
	'deletes the parts of an export, or of all of an organization, that no legal hold keeps, and returns how many';

-- Who is forgotten may be in any part, in one that is being written too. Whoever
-- starts an export waits, so that each is either begun anew here or sees what is
-- left of the person. Users are of no organization: those that theirs had.
CREATE FUNCTION ringfence.erase_exports(usr uuid, org uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place uuid;
	gone bigint := 0;
BEGIN
	FOR place IN
		SELECT org WHERE org IS NOT NULL
		UNION
		SELECT m.org_id FROM ringfence_data.memberships AS m WHERE org IS NULL AND m.user_id = usr
		UNION
		SELECT e.org_id FROM ringfence_data.exports AS e WHERE org IS NULL AND e.requested_by = usr
		ORDER BY 1
	LOOP
		PERFORM ringfence.lock_exports(place);
		UPDATE ringfence_data.exports AS e
		SET state = 'queued', pid = NULL, attempts = 0, next_try_at = ringfence.retention_now(), expected_rows = NULL,
			rows = 0, bytes = 0, parts = 0, parts_since = NULL
		WHERE e.org_id = place AND e.state IN ('queued', 'running');
		gone := gone + ringfence.delete_export_parts(place, NULL);
		UPDATE ringfence_data.exports AS e
		SET parts_gone_at = clock_timestamp()
		WHERE e.org_id = place AND e.state IN ('done', 'failed', 'canceled') AND e.parts > 0 AND e.parts_gone_at IS NULL;
		-- A message may be of a row.
		UPDATE ringfence_data.exports AS e
		SET last_error = split_part(e.last_error, ':', 1)
		WHERE e.org_id = place AND position(':' IN e.last_error) > 0;
	END LOOP;
	RETURN gone;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.erase_exports(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.erase_exports(uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.erase_exports(uuid, uuid) IS
	'deletes the parts of an organization''s exports, or without one of those that a user is a member of, and returns how many; exports that are under way begin anew, and of errors the SQLSTATE is left; for an erasure';

-- Steps. An export has ended when its state says so, which nobody but these, the
-- endpoints and an erasure writes.

CREATE FUNCTION ringfence.fail_export(org uuid, export uuid, code text, message text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- What a second try would only meet again: rights that were lost, data that is wrong.
	final CONSTANT boolean := code ~ '^(22|42|54|0A|PT)';
	failed record;
BEGIN
	UPDATE ringfence_data.exports AS e
	SET last_error = format('%s: %s', code, left(message, 1000)),
		attempts = greatest(e.attempts, 1),
		state = CASE WHEN final OR e.attempts >= 5 THEN 'failed' ELSE 'queued' END,
		finished_at = CASE WHEN final OR e.attempts >= 5 THEN clock_timestamp() END,
		served_at = clock_timestamp(),
		next_try_at = ringfence.retention_now()
			+ (ARRAY['1 minute', '5 minutes', '30 minutes', '2 hours'])[least(greatest(e.attempts, 1), 4)]::interval,
		pid = NULL
	WHERE e.org_id = org AND e.id = export AND e.state = 'running' AND e.pid = pg_backend_pid()
	RETURNING e.state, e.name INTO failed;
	IF failed.state = 'failed' THEN
		-- What the message says of a row, the log would keep for good.
		PERFORM ringfence.export_event('failed', org, export, jsonb_build_object('name', failed.name), code);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.fail_export(uuid, uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.fail_export(uuid, uuid, text, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.fail_export(uuid, uuid, text, text) IS
	'notes what stopped an export, which is tried again after a minute, 5, 30 minutes and 2 hours; for good where a right is lost or data is wrong, or after the fifth time without a new part; for export_step()';

-- Parts that are missing, or were written of other columns, are no beginning.
CREATE FUNCTION ringfence.can_go_on(org uuid, export uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.shape IS NOT DISTINCT FROM ringfence.export_shape(d.relation, d.key, d.range_column)
		AND e.parts = (SELECT count(*) FROM ringfence_data.export_parts AS p WHERE p.org_id = org AND p.export_id = export)
	FROM ringfence_data.exports AS e
	INNER JOIN ringfence_data.export_definitions AS d ON d.name = e.name
	WHERE e.org_id = org AND e.id = export
$$;
REVOKE EXECUTE ON FUNCTION ringfence.can_go_on(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.can_go_on(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.can_go_on(uuid, uuid) IS
	'whether an export can go on after the parts that it has; NULL for one that is not declared any more; for export_step()';

CREATE FUNCTION ringfence.take_up_export(org uuid, export uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present record;
	usable CONSTANT boolean := ringfence.can_go_on(org, export);
BEGIN
	SELECT e.name, e.attempts, e.started_at, e.requested_by INTO present
	FROM ringfence_data.exports AS e
	WHERE e.org_id = org AND e.id = export AND e.state IN ('queued', 'running')
	FOR UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	UPDATE ringfence_data.exports AS e
	SET state = 'running', pid = pg_backend_pid(), attempts = e.attempts + 1, started_at = coalesce(e.started_at, clock_timestamp()),
		served_at = clock_timestamp()
	WHERE e.org_id = org AND e.id = export;
	IF present.started_at IS NULL THEN
		PERFORM ringfence.export_event('started', org, export, jsonb_build_object('name', present.name, 'requested_by', present.requested_by));
	END IF;
	IF usable IS NULL THEN
		PERFORM ringfence.fail_export(org, export, '42704', 'the export is not declared any more');
	ELSIF present.attempts >= 5 THEN
		PERFORM ringfence.fail_export(org, export, '57P02', 'each time that it was taken up, the process that wrote it came to no end');
	ELSIF NOT usable THEN
		PERFORM ringfence.delete_export_parts(org, export);
		UPDATE ringfence_data.exports AS e
		SET expected_rows = NULL, rows = 0, bytes = 0, parts = 0, parts_since = NULL, parts_gone_at = NULL, shape = (
			SELECT ringfence.export_shape(d.relation, d.key, d.range_column)
			FROM ringfence_data.export_definitions AS d
			WHERE d.name = e.name
		)
		WHERE e.org_id = org AND e.id = export;
		IF EXISTS (SELECT FROM ringfence_data.export_parts AS p WHERE p.org_id = org AND p.export_id = export) THEN
			PERFORM ringfence.fail_export(org, export, '55006', 'it has to begin anew, and a legal hold is on parts that it has');
		END IF;
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.take_up_export(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.take_up_export(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.take_up_export(uuid, uuid) IS
	'notes that this process writes an export, in a transaction before it does, so that one that came to no end is counted; one whose parts are no beginning begins anew; for export_step()';

CREATE FUNCTION ringfence.finish_export(org uuid, export uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	whole record;
	present record;
BEGIN
	SELECT d.sha256, d.rows, d.bytes, d.parts INTO whole FROM ringfence.export_digest(org, export) AS d;
	UPDATE ringfence_data.exports AS e
	SET state = 'done', finished_at = clock_timestamp(), pid = NULL, last_error = NULL, as_of = CASE WHEN e.consistent THEN now() END,
		sha256 = whole.sha256, rows = whole.rows, bytes = whole.bytes, parts = whole.parts
	WHERE e.org_id = org AND e.id = export
	RETURNING e.name, e.format, e.from_date, e.to_date, e.requested_by INTO STRICT present;
	PERFORM ringfence.export_event('done', org, export, jsonb_build_object(
		'name', present.name, 'from', present.from_date, 'to', present.to_date, 'format', present.format, 'requested_by', present.requested_by,
		'rows', whole.rows, 'bytes', whole.bytes, 'parts', whole.parts, 'sha256', encode(whole.sha256, 'hex')));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.finish_export(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.finish_export(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.finish_export(uuid, uuid) IS
	'puts on record that an export is done, and what it is; for store_export_part()';

-- One that is consistent is not locked before its end: it can be canceled in between.
CREATE FUNCTION ringfence.store_export_part(org uuid, export uuid, data bytea, rows bigint, last_key text[], finished boolean) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present record;
	part_number integer;
BEGIN
	IF finished OR NOT (SELECT e.consistent FROM ringfence_data.exports AS e WHERE e.org_id = org AND e.id = export) THEN
		PERFORM FROM ringfence_data.exports AS e WHERE e.org_id = org AND e.id = export FOR UPDATE;
	END IF;
	SELECT e.name, e.consistent, e.parts, e.shape INTO present
	FROM ringfence_data.exports AS e
	WHERE e.org_id = org AND e.id = export AND e.state = 'running' AND e.pid = pg_backend_pid();
	IF NOT FOUND THEN
		-- What it has stored in this transaction goes too.
		RAISE EXCEPTION 'the export is not this process''s to write any more' USING ERRCODE = 'PT409';
	ELSIF present.shape IS DISTINCT FROM (
		-- The view was read: nobody alters it before this transaction ends.
		SELECT ringfence.export_shape(d.relation, d.key, d.range_column)
		FROM ringfence_data.export_definitions AS d
		WHERE d.name = present.name
	) THEN
		RAISE EXCEPTION 'the columns of the export have changed' USING ERRCODE = 'serialization_failure', HINT = 'It begins anew.';
	END IF;
	part_number := 1 + (SELECT coalesce(max(p.part), 0) FROM ringfence_data.export_parts AS p WHERE p.org_id = org AND p.export_id = export);
	INSERT INTO ringfence_data.export_parts (org_id, export_id, part, rows, bytes, data, sha256, last_key)
	VALUES (org, export, part_number, store_export_part.rows, octet_length(store_export_part.data), store_export_part.data,
		sha256(store_export_part.data), store_export_part.last_key);
	IF finished OR NOT present.consistent THEN
		UPDATE ringfence_data.exports AS e
		SET rows = e.rows + store_export_part.rows, bytes = e.bytes + octet_length(store_export_part.data), parts = part_number,
			attempts = 0, last_error = NULL, served_at = clock_timestamp(), parts_since = coalesce(e.parts_since, clock_timestamp())
		WHERE e.org_id = org AND e.id = export;
	END IF;
	IF finished THEN
		-- Rows without a key are in no part that goes on after one.
		IF present.parts > 0 AND ringfence.export_number(org, export, 'unkeyed') > 0 THEN
			RAISE EXCEPTION 'a row of the export has no key'
				USING ERRCODE = 'null_value_not_allowed', HINT = 'The columns that the export was declared with must identify each row.';
		END IF;
		PERFORM ringfence.finish_export(org, export);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.store_export_part(uuid, uuid, bytea, bigint, text[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.store_export_part(uuid, uuid, bytea, bigint, text[], boolean) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.store_export_part(uuid, uuid, bytea, bigint, text[], boolean) IS
	'stores a part that was read, and with the last one puts on record that the export is done; PT409 if it isn''t this process''s to write any more, 40001 if it is not of the columns that it was begun with, 22004 if there are rows without a key; for export_write()';

CREATE FUNCTION ringfence.advance_export(org uuid, export uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	expected bigint;
BEGIN
	IF (SELECT e.expected_rows IS NULL FROM ringfence_data.exports AS e WHERE e.org_id = org AND e.id = export) THEN
		expected := ringfence.export_number(org, export, 'count');
		UPDATE ringfence_data.exports AS e
		SET expected_rows = expected, served_at = clock_timestamp()
		WHERE e.org_id = org AND e.id = export AND e.state = 'running' AND e.pid = pg_backend_pid();
	ELSE
		PERFORM ringfence.export_write(org, export);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.advance_export(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.advance_export(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.advance_export(uuid, uuid) IS
	'counts the rows of an export that this process has taken up, or writes its next part; whatever the rows throw; for export_step()';

CREATE FUNCTION ringfence.clear_canceled_export() RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	canceled record;
BEGIN
	SELECT e.org_id, e.id INTO canceled
	FROM ringfence_data.exports AS e
	WHERE e.state = 'canceled' AND e.parts_gone_at IS NULL
	ORDER BY e.finished_at, e.id
	LIMIT 1
	FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM ringfence.delete_export_parts(canceled.org_id, canceled.id);
	UPDATE ringfence_data.exports AS e
	SET parts_gone_at = clock_timestamp()
	WHERE e.org_id = canceled.org_id AND e.id = canceled.id;
	RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.clear_canceled_export() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.clear_canceled_export() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.clear_canceled_export() IS
	'deletes the parts of an export that was canceled; false if there is none; for export_step()';

-- A zone that is none is that organization's trouble alone.
CREATE FUNCTION ringfence.date_in_zone(zone text, moment timestamptz) RETURNS date
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN timezone(coalesce(zone, 'UTC'), moment)::date;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN timezone('UTC', moment)::date;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.date_in_zone(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.date_in_zone(text, timestamptz) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.date_in_zone(text, timestamptz) IS 'the day in a time zone, or in UTC for one that is none';

CREATE FUNCTION ringfence.start_scheduled(org uuid, schedule uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s record;
	d record;
	zone text;
	from_date date;
	to_date date;
	started uuid;
BEGIN
	SELECT c.name, c.format, c.options, c.every, c.requested_by, c.requested_as, c.next_on INTO STRICT s
	FROM ringfence_data.export_schedules AS c
	WHERE c.org_id = org AND c.id = schedule;
	SELECT e.roles, e.range_column, e.filename INTO d FROM ringfence_data.export_definitions AS e WHERE e.name = s.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the export is not declared any more' USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM ringfence.export_identify(s.requested_as::text, d.roles);
	zone := ringfence.org_time_zone(org);
	IF d.range_column IS NOT NULL THEN
		from_date := s.next_on - ('1 ' || s.every)::interval;
		to_date := s.next_on - 1;
	END IF;
	started := ringfence.queue_export(org, s.name, s.format, s.options, from_date, to_date, false, d.roles,
		ringfence.export_filename(d.filename, from_date, to_date, s.format, s.next_on), zone, s.requested_by, s.requested_as);
	UPDATE ringfence_data.export_schedules AS c
	SET next_on = c.next_on + ('1 ' || c.every)::interval, last_export = started, last_error = NULL
	WHERE c.org_id = org AND c.id = schedule;
	PERFORM ringfence.export_event('requested', org, started, jsonb_build_object(
		'name', s.name, 'from', from_date, 'to', to_date, 'format', s.format, 'requested_by', s.requested_by, 'schedule', schedule));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.start_scheduled(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.start_scheduled(uuid, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.start_scheduled(uuid, uuid) IS
	'starts the export of the week or month that ended, as the member who scheduled it; 22023 for a time zone that is none, 42501, 42704, PT403, PT429; for export_step()';

-- An organization that waits for others of its own, or for an erasure, has not others
-- wait for it.
CREATE FUNCTION ringfence.start_due_schedule() RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
	present CONSTANT timestamptz := ringfence.retention_now();
	due record;
BEGIN
	SELECT s.org_id, s.id INTO due
	FROM ringfence_data.export_schedules AS s
	INNER JOIN ringfence_data.orgs AS o ON o.id = s.org_id
	WHERE s.enabled AND s.next_on <= timezone('UTC', present)::date + 1 AND s.next_try_at <= present AND o.status = 'active'
		AND s.next_on <= ringfence.date_in_zone(o.settings ->> 'time_zone', present)
	ORDER BY s.next_try_at, s.next_on, s.id
	LIMIT 1
	FOR UPDATE OF s SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	BEGIN
		PERFORM ringfence.start_scheduled(due.org_id, due.id);
	EXCEPTION WHEN OTHERS THEN
		UPDATE ringfence_data.export_schedules AS s
		SET enabled = SQLSTATE NOT IN ('42501', '42704', 'PT403'), last_error = format('%s: %s', SQLSTATE, SQLERRM),
			next_try_at = present + CASE WHEN SQLSTATE IN ('PT429', '55P03') THEN interval '1 minute' ELSE interval '1 hour' END
		WHERE s.org_id = due.org_id AND s.id = due.id;
	END;
	RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.start_due_schedule() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.start_due_schedule() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.start_due_schedule() IS
	'starts an export that a schedule asks for; one that can''t be started is tried again an hour later, or after a minute where as many as may be are under way, or an erasure is, and no more once its member has lost the right; false if none is due; for export_step()';

-- A right that was lost is no fault of the job's. What the message says may be of
-- the organization's rows, which those who look after jobs don't read.
CREATE FUNCTION ringfence.report_failed_exports() RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	failed record;
BEGIN
	SELECT e.org_id, e.id, e.last_error, count(*) OVER () AS number INTO failed
	FROM ringfence_data.exports AS e
	WHERE e.state = 'failed' AND e.finished_at > clock_timestamp() - interval '1 hour' AND e.last_error !~ '^(42501|PT403)(:|$)'
	ORDER BY e.finished_at DESC, e.id
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'could not write export "%" of organization "%"%: SQLSTATE %', failed.id, failed.org_id,
			CASE WHEN failed.number > 1 THEN format(' and %s more', failed.number - 1) ELSE '' END, split_part(failed.last_error, ':', 1)
			USING ERRCODE = 'raise_exception', HINT = 'Their members see them in the view "export_dead_letter", and can call retry_export().';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.report_failed_exports() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.report_failed_exports() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.report_failed_exports() IS
	'P0001 if an export has failed for good in the last hour, other than for a right that was lost; for export_step()';

CREATE FUNCTION ringfence.export_step() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e record;
BEGIN
	PERFORM ringfence.require_core();
	IF ringfence.start_due_schedule() OR ringfence.clear_canceled_export() THEN
		RETURN 1;
	END IF;
	-- Of the organization that was served longest ago, the oldest.
	SELECT x.org_id, x.id, x.state, x.pid INTO e
	FROM ringfence_data.exports AS x
	WHERE x.state IN ('queued', 'running') AND x.next_try_at <= ringfence.retention_now()
	ORDER BY (SELECT max(o.served_at) FROM ringfence_data.exports AS o WHERE o.org_id = x.org_id) NULLS FIRST, x.id
	LIMIT 1;
	IF NOT FOUND THEN
		PERFORM ringfence.report_failed_exports();
		RETURN 0;
	END IF;
	IF e.state = 'queued' OR e.pid IS DISTINCT FROM pg_backend_pid() THEN
		PERFORM ringfence.take_up_export(e.org_id, e.id);
		RETURN 1;
	END IF;
	BEGIN
		PERFORM ringfence.advance_export(e.org_id, e.id);
	EXCEPTION WHEN OTHERS THEN
		PERFORM ringfence.fail_export(e.org_id, e.id, SQLSTATE, SQLERRM);
	END;
	RETURN 1;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.export_step() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.export_step() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.export_step() IS
	'does the next small thing for exports: starts one that is scheduled, clears one that was canceled, takes one up, counts its rows or writes a part, and returns 1, or 0 if there is nothing to do now; P0001 then if one has failed for good; the job "exports" calls it until then; for jobs';
