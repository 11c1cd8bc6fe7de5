-- Retention: how long rows are kept, and the statements that remove or anonymize
-- them. What is registered here is carried out by run_retention() (retention_run.sql)
-- through one function, which runs nothing but what retention_statement() makes.

CREATE FUNCTION ringfence.retention_execute(task jsonb, org uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_retention_execute';
REVOKE EXECUTE ON FUNCTION ringfence.retention_execute(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_execute(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_execute(jsonb, uuid) IS
	'runs the statement that retention_statement() makes of a task, as the table''s owner, in that organization, without a record for each row unless the task has "audit_rows"; returns the statement''s answer; holds legal_holds against changes until the transaction ends; 25000 under REPEATABLE READ and above, 42501 in another organization, 42704 where there is no such task';

CREATE FUNCTION ringfence.retaining() RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_retaining';
REVOKE EXECUTE ON FUNCTION ringfence.retaining() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retaining()
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.retaining() IS
	'whether what happens to a row is the doing of retention or of an erasure: triggers that keep rows as they are let it pass';

CREATE FUNCTION ringfence.retention_now() RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_retention_now';
REVOKE EXECUTE ON FUNCTION ringfence.retention_now() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_now()
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.retention_now() IS
	'the time that periods count from: the server''s clock, or ringfence.retention_clock, which only a superuser sets';

CREATE FUNCTION ringfence.job_lock(name text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_job_lock';
REVOKE EXECUTE ON FUNCTION ringfence.job_lock(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.job_lock(text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.job_lock(text) IS
	'takes the lock of that name in this database for the session, which keeps it over commits until job_unlock() or an error; false, without waiting, if it is taken, be it by this session';

CREATE FUNCTION ringfence.job_unlock(name text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_job_unlock';
REVOKE EXECUTE ON FUNCTION ringfence.job_unlock(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.job_unlock(text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.job_unlock(text) IS 'lets go of what job_lock() took; false if this session doesn''t have it';

CREATE FUNCTION ringfence.lock_holds() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_lock_holds';
REVOKE EXECUTE ON FUNCTION ringfence.lock_holds() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lock_holds() TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.lock_holds() IS
	'has who places or releases a hold wait for the end of the transaction, as retention_execute() does; 55000 without app core';

CREATE FUNCTION ringfence.replication_lag() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_replication_lag';
REVOKE EXECUTE ON FUNCTION ringfence.replication_lag() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.replication_lag() TO ringfence_jobs, ringfence_operator, pg_database_owner;
COMMENT ON FUNCTION ringfence.replication_lag() IS
	'how many bytes of WAL the slowest of the connected standbys and other receivers has yet to apply; 0 if there is none';

CREATE FUNCTION ringfence.lock_waiters() RETURNS integer
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_lock_waiters';
REVOKE EXECUTE ON FUNCTION ringfence.lock_waiters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lock_waiters() TO ringfence_jobs, ringfence_operator, pg_database_owner;
COMMENT ON FUNCTION ringfence.lock_waiters() IS 'how many sessions of this database wait for a lock just now';

CREATE FUNCTION ringfence.column_is_set(rel regclass, column_name text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT a.attnotnull
	FROM pg_catalog.pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
END;
REVOKE EXECUTE ON FUNCTION ringfence.column_is_set(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.column_is_set(regclass, text) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.column_is_set(regclass, text) IS 'whether a column is NOT NULL; NULL if there is none of that name';

CREATE FUNCTION ringfence.has_org_column(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
RETURN ringfence.column_type(rel, 'org_id') IS NOT DISTINCT FROM 'uuid' AND ringfence.column_is_set(rel, 'org_id');
REVOKE EXECUTE ON FUNCTION ringfence.has_org_column(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_org_column(regclass) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.has_org_column(regclass) IS 'whether rows of the table say whose they are, in a column org_id';

-- A condition in a form in which what we write and what the catalog makes of it are
-- equal: numbers and truth values without quotes.
CREATE FUNCTION ringfence.condition_essence(condition text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$SELECT regexp_replace(ringfence.policy_essence(condition), '''(-?[0-9.]+|true|false)''', '\1', 'g')$$;
REVOKE EXECUTE ON FUNCTION ringfence.condition_essence(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.condition_essence(text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.condition_essence(text) IS
	'the condition of an index in a form in which what retention_index() writes and what the catalog says are equal';

-- An index in whose order rows come due: of all rows, or of those that the step
-- is about, which leave it as they are done.
CREATE FUNCTION ringfence.has_retention_index(rel regclass, column_name name, conditions text[]) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM pg_index AS i
		INNER JOIN pg_class AS c ON c.oid = i.indexrelid
		INNER JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
		CROSS JOIN LATERAL (
			SELECT array_agg(a.attname ORDER BY k.place) AS columns
			FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
			LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
			WHERE k.place <= i.indnkeyatts
		) AS k
		WHERE i.indrelid = rel AND i.indisvalid
			AND k.columns[1:cardinality(w.columns)] = w.columns
			AND (i.indpred IS NULL
				OR ringfence.condition_essence(pg_get_expr(i.indpred, i.indrelid))
					IN (SELECT ringfence.condition_essence(n.condition) FROM unnest(conditions) AS n (condition)))
	)
	FROM (
		SELECT CASE WHEN ringfence.has_org_column(rel) THEN ARRAY['org_id', column_name] ELSE ARRAY[column_name] END AS columns
	) AS w
$$;
REVOKE EXECUTE ON FUNCTION ringfence.has_retention_index(regclass, name, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_retention_index(regclass, name, text[]) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.has_retention_index(regclass, name, text[]) IS
	'whether a valid btree leads with the organization and that column, of all rows or of those under one of the conditions';

CREATE FUNCTION ringfence.retention_index(rel regclass, column_name name, condition text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('CREATE INDEX ON %s (%s%I)%s;', rel,
		CASE WHEN ringfence.has_org_column(rel) THEN 'org_id, ' ELSE '' END, column_name, coalesce(' WHERE ' || condition, ''))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_index(regclass, name, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_index(regclass, name, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_index(regclass, name, text) IS 'the CREATE INDEX that has_retention_index() looks for';

CREATE FUNCTION ringfence.require_core() RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.retention_policies') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.require_core() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.require_core() TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.require_core() IS '55000 where retention has no tables';

CREATE FUNCTION ringfence.check_retained_table(rel regclass) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class pg_class;
BEGIN
	PERFORM ringfence.require_core();
	SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
	IF rel IS NULL OR NOT FOUND OR class.relkind NOT IN ('r', 'p') OR class.relpersistence = 't' OR class.relispartition
		OR class.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) THEN
		RAISE EXCEPTION '% is not a table that can have a retention policy', coalesce('"' || rel::text || '"', 'NULL')
			USING ERRCODE = 'wrong_object_type', HINT = 'Name an ordinary or partitioned table, not a partition.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_retained_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_retained_table(regclass) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_retained_table(regclass) IS '42809 for what can have no policy, 55000 without app core';

-- Statements run as the table's owner: so who declares them has that role. Scripts
-- of apps declare what is said of their tables.
CREATE FUNCTION ringfence.check_retaining_rights(rel regclass) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.installing()
		AND NOT pg_has_role(session_user, (SELECT c.relowner FROM pg_class AS c WHERE c.oid = rel), 'MEMBER') THEN
		RAISE EXCEPTION 'must be owner of table %', rel
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'Its rows are removed and changed with its owner''s rights.',
			HINT = 'Superusers and members of the role that owns the table may.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_retaining_rights(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_retaining_rights(regclass) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_retaining_rights(regclass) IS
	'42501 unless the session''s user may declare what becomes of a table''s rows';

CREATE FUNCTION ringfence.check_retention_column(rel regclass, column_name name, action text, rules jsonb, filter jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type text := ringfence.column_type(rel, column_name);
	todo text := CASE WHEN action = 'anonymize' THEN ringfence.rule_todo(rel, rules, '') END;
BEGIN
	IF type IS NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', column_name, rel USING ERRCODE = 'undefined_column';
	ELSIF type !~ '^(timestamp(\(\d\))? with(out)? time zone|date)$' THEN
		RAISE EXCEPTION 'column "%" of table % is of type %', column_name, rel, type
			USING ERRCODE = 'datatype_mismatch', DETAIL = 'A period counts from a date or a timestamp.';
	END IF;
	IF action = 'drop_partition' THEN
		PERFORM ringfence.check_drop_partition(rel, column_name);
	ELSIF NOT ringfence.has_retention_index(rel, column_name,
		array_remove(ARRAY[todo, CASE WHEN filter IS NOT NULL THEN ringfence.filter_condition(rel, filter, '') END], NULL)) THEN
		RAISE EXCEPTION 'table % has no index in whose order its rows come due', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('Without one each batch would read the whole table%s.',
				CASE WHEN todo IS NOT NULL THEN ', and without a condition the rows that are done' ELSE '' END),
			HINT = ringfence.retention_index(rel, column_name, todo);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_retention_column(regclass, name, text, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_retention_column(regclass, name, text, jsonb, jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_retention_column(regclass, name, text, jsonb, jsonb) IS
	'whether periods can count from a column: 42703, 42804, 55000 without an index, with the CREATE INDEX as its hint';

CREATE FUNCTION ringfence.retain(
	rel regclass,
	column_name name,
	keep interval,
	action text DEFAULT 'delete',
	rules jsonb DEFAULT NULL,
	filter jsonb DEFAULT NULL,
	step text DEFAULT NULL,
	min_keep interval DEFAULT NULL,
	max_keep interval DEFAULT NULL,
	audit_rows boolean DEFAULT false,
	outlives_org boolean DEFAULT false,
	reason text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_retained_table(rel);
	PERFORM ringfence.check_retaining_rights(rel);
	IF column_name IS NULL OR keep IS NULL OR action IS NULL THEN
		RAISE EXCEPTION 'column, period and action must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF action NOT IN ('delete', 'anonymize', 'drop_partition') THEN
		RAISE EXCEPTION 'invalid action "%"', action
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is delete, anonymize or drop_partition; ringfence.retain_forever() keeps a table''s rows for good.';
	END IF;
	IF keep <= '0' OR keep > '1000 years' OR coalesce(max_keep, keep) > '1000 years' OR coalesce(min_keep, keep) > keep OR coalesce(max_keep, keep) < keep OR coalesce(min_keep, keep) <= '0' THEN
		RAISE EXCEPTION 'invalid period %', keep
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is longer than nothing, lies between min_keep and max_keep, and is at most 1000 years.';
	END IF;
	IF (action = 'anonymize') <> (rules IS NOT NULL) THEN
		RAISE EXCEPTION 'rules are for the action "anonymize", which needs them' USING ERRCODE = 'invalid_parameter_value';
	ELSIF action = 'anonymize' THEN
		PERFORM ringfence.check_rules(rel, rules);
	ELSIF action = 'drop_partition' AND (filter IS NOT NULL OR coalesce(min_keep, max_keep) IS NOT NULL OR audit_rows) THEN
		RAISE EXCEPTION 'partitions are dropped whole'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'There is no filter, no choice of organizations and no record of each row.';
	END IF;
	IF (ringfence.is_audit_table(rel) AND action <> 'drop_partition') OR ringfence.is_ledger_table(rel) THEN
		RAISE EXCEPTION 'rows of table % are never removed or changed', rel
			USING ERRCODE = 'wrong_object_type', HINT = 'ringfence.retain_forever() says so.';
	END IF;
	PERFORM ringfence.check_filter(rel, filter);
	PERFORM ringfence.check_retention_column(rel, column_name, action, rules, filter);

	DELETE FROM ringfence_data.retention_policies AS p WHERE p.relation = rel AND p.action = 'forever';
	INSERT INTO ringfence_data.retention_policies AS p
		(relation, step, column_name, keep, action, rules, filter, min_keep, max_keep, audit_rows, outlives_org, reason)
	VALUES (rel, coalesce(retain.step, retain.action), retain.column_name, retain.keep, retain.action, retain.rules, retain.filter,
		coalesce(retain.min_keep, retain.keep), coalesce(retain.max_keep, retain.keep),
		coalesce(retain.audit_rows, false), coalesce(retain.outlives_org, false), retain.reason)
	ON CONFLICT ON CONSTRAINT retention_policies_pkey DO UPDATE
	SET column_name = excluded.column_name, keep = excluded.keep, action = excluded.action, rules = excluded.rules,
		filter = excluded.filter, min_keep = excluded.min_keep, max_keep = excluded.max_keep,
		audit_rows = excluded.audit_rows, outlives_org = excluded.outlives_org, reason = excluded.reason;
END
$$;
ALTER FUNCTION ringfence.retain(regclass, name, interval, text, jsonb, jsonb, text, interval, interval, boolean, boolean, text)
	OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.retain(regclass, name, interval, text, jsonb, jsonb, text, interval, interval, boolean, boolean, text)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retain(regclass, name, interval, text, jsonb, jsonb, text, interval, interval, boolean, boolean, text)
	TO pg_database_owner;
COMMENT ON FUNCTION ringfence.retain(regclass, name, interval, text, jsonb, jsonb, text, interval, interval, boolean, boolean, text) IS
	'says how long rows of a table are kept, from what a column says, in UTC, and what becomes of them then: delete, anonymize by rules, drop_partition; several steps go by several names; filter picks rows; organizations choose between min_keep and max_keep; audit_rows records each row in the audit log, else there is one event for each batch; outlives_org keeps rows when their organization is deleted; a second call of that step replaces it; 22023, 42703, 42804, 42809, 55000 with the CREATE INDEX to run';

CREATE FUNCTION ringfence.retain_forever(rel regclass, reason text, outlives_org boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_retained_table(rel);
	PERFORM ringfence.check_retaining_rights(rel);
	IF coalesce(reason, '') !~ '[[:alnum:]]' THEN
		RAISE EXCEPTION 'a reason is required to keep rows for good' USING ERRCODE = 'not_null_violation';
	END IF;
	DELETE FROM ringfence_data.retention_policies AS p WHERE p.relation = rel;
	INSERT INTO ringfence_data.retention_policies (relation, step, action, outlives_org, reason)
	VALUES (rel, 'forever', 'forever', coalesce(retain_forever.outlives_org, false), retain_forever.reason);
END
$$;
ALTER FUNCTION ringfence.retain_forever(regclass, text, boolean) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.retain_forever(regclass, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retain_forever(regclass, text, boolean) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.retain_forever(regclass, text, boolean) IS
	'says, and why, that rows of a table are kept for good, instead of what retain() said; outlives_org keeps them when their organization is deleted; 23502 without a reason, 42809, 55000';

CREATE FUNCTION ringfence.unretain(rel regclass, step text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	PERFORM ringfence.check_retaining_rights(rel);
	DELETE FROM ringfence_data.retention_policies AS p
	WHERE p.relation = rel AND (unretain.step IS NULL OR p.step = unretain.step);
	RETURN FOUND;
END
$$;
ALTER FUNCTION ringfence.unretain(regclass, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.unretain(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.unretain(regclass, text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.unretain(regclass, text) IS
	'takes back what retain() or retain_forever() said of a table, or one step of it; false if there was none';
