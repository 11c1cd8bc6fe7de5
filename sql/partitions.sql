-- Partitions by month or day: made ahead, and dropped as wholes. No lock that
-- requests queue behind is waited for longer than a moment: what can't have it
-- gives up, lets go of all, and tries again later.

CREATE FUNCTION ringfence.partition_bounds(
	partition regclass,
	OUT lower_bound timestamptz,
	OUT upper_bound timestamptz
) RETURNS record
LANGUAGE c STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_partition_bounds';
REVOKE EXECUTE ON FUNCTION ringfence.partition_bounds(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partition_bounds(regclass) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.partition_bounds(regclass) IS
	'the range of a partition by date or timestamp, in UTC, infinite for MINVALUE and MAXVALUE; NULL for any other table and for a default partition';

CREATE FUNCTION ringfence.limit_lock_waits(milliseconds integer) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_limit_lock_waits';
REVOKE EXECUTE ON FUNCTION ringfence.limit_lock_waits(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.limit_lock_waits(integer) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.limit_lock_waits(integer) IS
	'from now on waits for locks on tables may last so long, all together, until what runs is canceled (57014); 0, and the end of the transaction, takes that back; 22023';

CREATE FUNCTION ringfence.lock_waits_exceeded() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_lock_waits_exceeded';
REVOKE EXECUTE ON FUNCTION ringfence.lock_waits_exceeded() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lock_waits_exceeded() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.lock_waits_exceeded() IS
	'takes limit_lock_waits() back, and says whether it was that which canceled what ran';

CREATE FUNCTION ringfence.detach_partition(id uuid, patience integer) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_detach_partition';
REVOKE EXECUTE ON FUNCTION ringfence.detach_partition(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.detach_partition(uuid, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.detach_partition(uuid, integer) IS
	'has a background worker detach, with CONCURRENTLY, the partition of a row of partition_drops, in transactions of its own; patience is how many milliseconds it waits for each transaction that uses the table; false if some lock was not to be had or there is nothing to detach; the caller''s transaction must not have used the table; 22023, 25006, 53000 without a free worker, and what the statement is refused with';

-- lock_timeout is for what is no wait for a table: FINALIZE waits for snapshots,
-- and holds locks meanwhile.
CREATE FUNCTION ringfence.try_ddl(VARIADIC statements text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '80ms'
AS $$
DECLARE
	statement text;
BEGIN
	PERFORM ringfence.limit_lock_waits(50);
	FOREACH statement IN ARRAY statements LOOP
		EXECUTE statement;
	END LOOP;
	PERFORM ringfence.limit_lock_waits(0);
	RETURN true;
EXCEPTION WHEN lock_not_available OR query_canceled OR deadlock_detected THEN
	IF NOT ringfence.lock_waits_exceeded() AND SQLSTATE = '57014' THEN
		RAISE;
	END IF;
	RETURN false;
WHEN OTHERS THEN
	-- What the caller goes on with is not to be canceled for it.
	PERFORM ringfence.limit_lock_waits(0);
	RAISE;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.try_ddl(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.try_ddl(text[]) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.try_ddl(text[]) IS
	'runs statements with the caller''s own rights, all or none; false, with every lock let go of, if their locks were not to be had within 50 ms all together';

-- Registered tables

CREATE FUNCTION ringfence.partition_column(rel regclass, OUT column_name name, OUT type regtype) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE STRICT ROWS 1
BEGIN ATOMIC
	SELECT a.attname, a.atttypid::regtype
	FROM pg_catalog.pg_partitioned_table AS p
	INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
	WHERE p.partrelid = rel AND p.partstrat = 'r' AND p.partnatts = 1
		AND a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype);
END;
REVOKE EXECUTE ON FUNCTION ringfence.partition_column(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partition_column(regclass) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.partition_column(regclass) IS
	'the column that a table is partitioned by, if that is by range of one date or timestamp; else no row';

CREATE FUNCTION ringfence.partition_name(rel regclass, every text, lower_bound timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT format('%s.%I', c.relnamespace::regnamespace,
		-- A name is 63 bytes.
		left(c.relname, (SELECT max(n.n) FROM generate_series(1, 54) AS n (n) WHERE octet_length(left(c.relname, n.n)) <= 54))
			|| '_' || to_char(lower_bound AT TIME ZONE 'UTC', CASE every WHEN 'day' THEN 'YYYYMMDD' ELSE 'YYYYMM' END))
	FROM pg_catalog.pg_class AS c
	WHERE c.oid = rel;
END;
REVOKE EXECUTE ON FUNCTION ringfence.partition_name(regclass, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partition_name(regclass, text, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.partition_name(regclass, text, timestamptz) IS
	'the name, with its schema, of a partition that begins then: TABLE_YYYYMM or TABLE_YYYYMMDD';

CREATE FUNCTION ringfence.partition_literal(rel regclass, bound timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
AS $$
	SELECT CASE
		WHEN bound = '-infinity' THEN 'MINVALUE'
		WHEN c.type = 'date'::regtype THEN quote_literal(bound::date)
		WHEN c.type = 'timestamp'::regtype THEN quote_literal(bound::timestamp)
		ELSE quote_literal(bound)
	END
	FROM ringfence.partition_column(rel) AS c
$$;
REVOKE EXECUTE ON FUNCTION ringfence.partition_literal(regclass, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partition_literal(regclass, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.partition_literal(regclass, timestamptz) IS
	'a moment as a bound of a table''s partition, by the type of the column';

CREATE FUNCTION ringfence.check_partitioned(rel regclass) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class pg_class;
BEGIN
	SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
	IF NOT FOUND OR class.relkind <> 'p' OR class.relispartition
		OR NOT EXISTS (SELECT FROM ringfence.partition_column(rel)) THEN
		RAISE EXCEPTION '"%" is not a table that is partitioned by time', coalesce(rel::text, 'NULL')
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'It must be partitioned by range of one column of type date, timestamp or timestamptz.';
	ELSIF class.relowner <> 'ringfence_owner'::regrole THEN
		RAISE EXCEPTION 'table % does not belong to role "ringfence_owner"', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('ALTER TABLE %s OWNER TO ringfence_owner;', rel);
	ELSIF NOT has_schema_privilege('ringfence_owner', class.relnamespace, 'CREATE') THEN
		RAISE EXCEPTION 'role "ringfence_owner" cannot create tables in schema %', class.relnamespace::regnamespace
			USING ERRCODE = 'insufficient_privilege',
			HINT = format('GRANT CREATE ON SCHEMA %s TO ringfence_owner;', class.relnamespace::regnamespace);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_partitioned(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_partitioned(regclass) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_partitioned(regclass) IS
	'refuses tables whose partitions can''t be made and dropped: 42501 where ringfence_owner may not create any, 42809 for one that is not partitioned by time, 55000 for one of another owner';

-- A dropped partition fires no trigger and asks no foreign key.
CREATE FUNCTION ringfence.check_drop_partition(rel regclass, column_name name) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	other regclass;
	hook name;
BEGIN
	PERFORM ringfence.check_partitioned(rel);
	IF column_name IS DISTINCT FROM (SELECT c.column_name FROM ringfence.partition_column(rel) AS c) THEN
		RAISE EXCEPTION 'table % is not partitioned by column "%"', rel, column_name
			USING ERRCODE = 'wrong_object_type';
	END IF;
	IF NOT EXISTS (SELECT FROM ringfence_data.partitioned_tables AS p WHERE p.relation = rel) THEN
		RAISE EXCEPTION 'partitions of table % are not made by ringfence', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('Call ringfence.partition_by(%L, ''month'') first.', rel);
	END IF;
	SELECT i.inhrelid INTO other
	FROM pg_inherits AS i
	INNER JOIN pg_class AS c ON c.oid = i.inhrelid
	WHERE i.inhparent = rel AND c.relowner <> 'ringfence_owner'::regrole
	ORDER BY i.inhrelid::regclass::text COLLATE "C"
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'partition % of table % does not belong to role "ringfence_owner"', other, rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('ALTER TABLE %s OWNER TO ringfence_owner;', other);
	END IF;
	SELECT k.conrelid INTO other
	FROM pg_constraint AS k
	WHERE k.contype = 'f' AND k.confrelid = rel
	ORDER BY k.conparentid, k.conrelid::regclass::text COLLATE "C"
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'table % is referenced by table %', rel, other
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'A partition would have to be compared with all of the other table, which can''t be written meanwhile.',
			HINT = 'Have its rows deleted instead, or drop the foreign key.';
	END IF;
	SELECT g.tgname INTO hook
	FROM pg_trigger AS g
	WHERE g.tgrelid = rel AND g.tgfoid = to_regprocedure('ringfence.leave_tombstone()')
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'table % has a trigger "%" that must see each row', rel, hook
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Have its rows deleted instead.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_drop_partition(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_drop_partition(regclass, name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_drop_partition(regclass, name) IS
	'refuses tables whose partitions can''t be dropped when they are old by that column: 42809, 55000 for one that is not registered, has a partition of another owner, that foreign keys reference, or whose rows leave tombstones; for retain()';

-- Making

CREATE FUNCTION ringfence.missing_partitions(rel regclass, every text, ahead integer, moment timestamptz)
RETURNS TABLE (lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
	WITH present AS MATERIALIZED (
		SELECT b.lower_bound, b.upper_bound
		FROM pg_inherits AS i
		CROSS JOIN LATERAL ringfence.partition_bounds(i.inhrelid) AS b
		WHERE i.inhparent = rel
	), wanted AS (
		SELECT w.moment AS lower_bound, w.moment + ('1 ' || every)::interval AS upper_bound
		FROM generate_series(0, ahead) AS n (number)
		CROSS JOIN LATERAL (
			SELECT date_trunc(every, missing_partitions.moment) + n.number * ('1 ' || every)::interval AS moment
		) AS w
	)
	SELECT w.lower_bound, w.upper_bound
	FROM wanted AS w
	WHERE NOT EXISTS (
		SELECT FROM present AS p WHERE p.lower_bound <= w.lower_bound AND p.upper_bound >= w.upper_bound
	)
	ORDER BY w.lower_bound
$$;
REVOKE EXECUTE ON FUNCTION ringfence.missing_partitions(regclass, text, integer, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.missing_partitions(regclass, text, integer, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.missing_partitions(regclass, text, integer, timestamptz) IS
	'which months or days, in UTC, from that moment''s on, have no partition';

-- CREATE and ATTACH let others read and write the table meanwhile, where PARTITION
-- OF would lock them out; ATTACH keeps writers out of the tables that foreign keys
-- reference, so it has to be quick. Indexes, triggers and foreign keys come with it.
CREATE FUNCTION ringfence.make_partition(rel regclass, every text, lower_bound timestamptz, upper_bound timestamptz)
RETURNS regclass
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
SET row_security = on
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET default_tablespace = ''
SET default_table_access_method = heap
AS $$
DECLARE
	partition CONSTANT text := ringfence.partition_name(rel, every, lower_bound);
	attempts CONSTANT integer := 10;
BEGIN
	IF to_regclass(partition) IS NOT NULL THEN
		RAISE EXCEPTION 'table % is in the way of a partition of table %', partition, rel
			USING ERRCODE = 'duplicate_table', HINT = 'Attach it, or give it another name.';
	END IF;
	FOR attempt IN 1..attempts LOOP
		IF ringfence.try_ddl(
			format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY EXCLUDING STATISTICS)', partition, rel),
			format('COMMENT ON TABLE %s IS %L', partition, format('rows of %s, UTC',
				to_char(lower_bound, CASE every WHEN 'day' THEN 'YYYY-MM-DD' ELSE 'YYYY-MM' END))),
			-- It is reached through the table only.
			format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', partition),
			format('REVOKE ALL ON %s FROM PUBLIC, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs', partition),
			format('REVOKE TRUNCATE ON %s FROM ringfence_owner', partition),
			format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', rel, partition,
				ringfence.partition_literal(rel, lower_bound), ringfence.partition_literal(rel, upper_bound))
		) THEN
			RETURN partition::regclass;
		END IF;
		PERFORM pg_sleep(0.1 * attempt);
	END LOOP;
	RAISE EXCEPTION 'could not make a partition of table %: tables that it references are in use', rel
		USING ERRCODE = 'lock_not_available', HINT = 'Try again later.';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.make_partition(regclass, text, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.make_partition(regclass, text, timestamptz, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.make_partition(regclass, text, timestamptz, timestamptz) IS
	'makes a partition, closed to all who do not go through its table; 42P07 if a table of its name is in the way, 55P03 if the tables that it references were in use all the time';

CREATE FUNCTION ringfence.partition_by(rel regclass, every text, ahead integer DEFAULT 3) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	period record;
	made integer := 0;
BEGIN
	IF to_regclass('ringfence_data.partitioned_tables') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;
	PERFORM ringfence.check_retaining_rights(rel);
	IF every IS NULL THEN
		DELETE FROM ringfence_data.partitioned_tables AS p WHERE p.relation = rel;
		RETURN 0;
	END IF;
	IF every NOT IN ('month', 'day') OR ahead IS NULL OR ahead NOT BETWEEN 0 AND 400 THEN
		RAISE EXCEPTION 'invalid partitions: % ahead, each of a %', coalesce(ahead::text, 'NULL'), every
			USING ERRCODE = 'invalid_parameter_value', HINT = 'A partition is for a month or a day; 0 to 400 are made ahead.';
	END IF;
	PERFORM ringfence.check_partitioned(rel);
	INSERT INTO ringfence_data.partitioned_tables AS p (relation, every, ahead)
	VALUES (rel, partition_by.every, partition_by.ahead)
	ON CONFLICT (relation) DO UPDATE
	SET every = excluded.every, ahead = excluded.ahead;
	IF ringfence.is_audit_table(rel) THEN
		RETURN ringfence.make_audit_partitions(least(ahead, 120));
	END IF;
	FOR period IN
		SELECT m.lower_bound, m.upper_bound FROM ringfence.missing_partitions(rel, every, ahead, ringfence.retention_now()) AS m
	LOOP
		PERFORM ringfence.make_partition(rel, every, period.lower_bound, period.upper_bound);
		made := made + 1;
	END LOOP;
	RETURN made;
END
$$;
ALTER FUNCTION ringfence.partition_by(regclass, text, integer) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.partition_by(regclass, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partition_by(regclass, text, integer) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.partition_by(regclass, text, integer) IS
	'has partitions of a table made ahead, each for a month or a day in UTC, and makes those that are missing from the present one on; returns how many; they are called TABLE_YYYYMM or TABLE_YYYYMMDD; a table that has them can be told to drop_partition by retain(); NULL instead of month and day takes it back; repeatable; for superusers and members of ringfence_owner; 22023, 42501, 42809, 42P07, 55000 for a table of another owner than ringfence_owner, 55P03';

-- One partition a call: the locks of a transaction stay until it ends.
CREATE FUNCTION ringfence.make_partitions() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	registered record;
	period record;
	made bigint;
	failed boolean := false;
	state text;
	problem text;
BEGIN
	FOR registered IN
		SELECT p.relation, p.every, p.ahead
		FROM ringfence_data.partitioned_tables AS p
		INNER JOIN pg_class AS c ON c.oid = p.relation
		ORDER BY p.relation
		FOR UPDATE OF p
	LOOP
		BEGIN
			IF ringfence.is_audit_table(registered.relation) THEN
				made := ringfence.make_audit_partitions(least(registered.ahead, 120));
				IF made > 0 THEN
					RETURN made;
				END IF;
			ELSE
				SELECT m.lower_bound, m.upper_bound INTO period
				FROM ringfence.missing_partitions(registered.relation, registered.every, registered.ahead, ringfence.retention_now()) AS m
				LIMIT 1;
				IF FOUND THEN
					PERFORM ringfence.check_partitioned(registered.relation);
					PERFORM ringfence.make_partition(registered.relation, registered.every, period.lower_bound, period.upper_bound);
					RETURN 1;
				END IF;
			END IF;
		EXCEPTION WHEN OTHERS THEN
			-- The other tables first.
			IF NOT failed THEN
				failed := true;
				state := SQLSTATE;
				problem := SQLERRM;
			END IF;
		END;
	END LOOP;
	IF failed THEN
		RAISE EXCEPTION USING ERRCODE = state, MESSAGE = problem;
	END IF;
	RETURN 0;
END
$$;
ALTER FUNCTION ringfence.make_partitions() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.make_partitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.make_partitions() TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.make_partitions() IS
	'makes one partition that is missing from a registered table, or all of the audit log''s, and returns how many: to be called until it returns 0; what is wrong with one table is an error only once no other table lacks any';

-- Dropping

-- A record is evidence of a change of any row, so the log goes by whose records they
-- are, whatever a hold of that organization's is on.
CREATE FUNCTION ringfence.partition_hold_condition(rel regclass, org uuid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN rel <> 'ringfence_data.audit_log'::regclass THEN ringfence.hold_condition(rel, org)
		WHEN bool_or(h.org_id = ringfence.holding_org(NULL)) THEN 'false'
		ELSE coalesce('t.org_id <> ALL (' || quote_literal(array_agg(DISTINCT h.org_id)) || '::uuid[])', 'true')
	END
	FROM ringfence_data.legal_holds AS h
	WHERE h.released_at IS NULL AND (h.until IS NULL OR h.until > ringfence.retention_now())
		AND (org IS NULL OR h.org_id IN (org, ringfence.holding_org(NULL)))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.partition_hold_condition(regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partition_hold_condition(regclass, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.partition_hold_condition(regclass, uuid) IS
	'hold_condition(), but for the audit log the condition under which no hold at all is on anything of the record''s organization; for partition_statement()';

-- The rows are looked at past row security, as the table's owner; the statement
-- names the partition, so that its table is not locked.
CREATE FUNCTION ringfence.partition_statement(task jsonb, org uuid, OUT rel regclass, OUT statement text) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	condition text;
BEGIN
	SELECT d.partition, ringfence.partition_hold_condition(d.relation, org) INTO rel, condition
	FROM ringfence_data.partition_drops AS d
	WHERE d.id = (task ->> 'drop')::uuid;
	IF NOT FOUND THEN
		SELECT i.inhrelid::regclass, ringfence.partition_hold_condition(p.relation, org) INTO rel, condition
		FROM ringfence_data.partitioned_tables AS p
		INNER JOIN pg_inherits AS i ON i.inhparent = p.relation
		WHERE i.inhrelid = (task ->> 'partition')::oid;
	END IF;
	IF rel IS NOT NULL THEN
		statement := CASE
			WHEN condition = 'true' THEN 'SELECT ''{"held": false}'''
			ELSE format('SELECT jsonb_build_object(''held'', EXISTS (SELECT FROM %s AS t WHERE (%s) IS NOT TRUE))', rel, condition)
		END;
		RETURN NEXT;
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.partition_statement(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partition_statement(jsonb, uuid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.partition_statement(jsonb, uuid) IS
	'the statement that asks whether a legal hold keeps any row of a partition ("partition"), or of one that is on its way out ("drop", of partition_drops): {"held"}; of one organization or, without, of any; for retention_statement()';

CREATE FUNCTION ringfence.is_partition_held(task jsonb) RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL UNSAFE STRICT
RETURN (ringfence.retention_execute(task || '{"kind": "partition"}') ->> 'held')::boolean;
REVOKE EXECUTE ON FUNCTION ringfence.is_partition_held(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_partition_held(jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.is_partition_held(jsonb) IS
	'whether a legal hold keeps any row of a partition; no hold can be placed from then on until the transaction ends';

-- The lock on holds is let go of with the block's error, as no RETURN would.
CREATE FUNCTION ringfence.look_whether_held(task jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	held boolean;
BEGIN
	BEGIN
		held := ringfence.is_partition_held(task);
		RAISE EXCEPTION 'seen' USING ERRCODE = 'RF001';
	EXCEPTION WHEN SQLSTATE 'RF001' THEN
		RETURN held;
	END;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.look_whether_held(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.look_whether_held(jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.look_whether_held(jsonb) IS
	'is_partition_held(), but holds can be placed again as soon as it returns';

CREATE FUNCTION ringfence.may_drop_partitions(rel regclass, before timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
	SELECT EXISTS (
		SELECT FROM ringfence_data.retention_policies AS p
		INNER JOIN ringfence_data.partitioned_tables AS t ON t.relation = p.relation
		WHERE p.relation = rel AND p.action = 'drop_partition' AND before <= ringfence.retention_now() - p.keep
	)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.may_drop_partitions(regclass, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.may_drop_partitions(regclass, timestamptz) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.may_drop_partitions(regclass, timestamptz) IS
	'whether a policy says now that rows of a registered table that are older than that go with their partition';

-- To state a drop takes a lock on the month that autovacuum gives way to, but only to
-- who has waited for deadlock_timeout.
CREATE FUNCTION ringfence.begin_partition_drop(rel regclass, before timestamptz) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '2s'
AS $$
DECLARE
	candidate record;
	result uuid;
BEGIN
	IF rel IS NULL OR before IS NULL THEN
		RAISE EXCEPTION 'table and time must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	-- What was begun is ended first, whichever time was given then.
	SELECT d.id INTO result
	FROM ringfence_data.partition_drops AS d
	WHERE d.relation = rel AND d.partition IS NOT NULL
	ORDER BY d.started_at
	LIMIT 1;
	IF FOUND THEN
		RETURN result;
	END IF;
	PERFORM ringfence.check_drop_partition(rel, (SELECT c.column_name FROM ringfence.partition_column(rel) AS c));
	IF NOT ringfence.may_drop_partitions(rel, before) THEN
		RAISE EXCEPTION 'no policy lets partitions of table % be dropped that are as young as %', rel, before
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Call ringfence.retain() with the action "drop_partition".';
	END IF;
	FOR candidate IN
		SELECT i.inhrelid::regclass AS partition, c.reltuples, b.lower_bound, b.upper_bound
		FROM pg_inherits AS i
		INNER JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relkind = 'r'
		CROSS JOIN LATERAL ringfence.partition_bounds(i.inhrelid) AS b
		WHERE i.inhparent = rel AND isfinite(b.upper_bound) AND b.upper_bound <= before
		ORDER BY b.upper_bound
	LOOP
		-- Nobody who places a hold waits while a month is verified. Where nothing was ever
		-- sealed there is nothing to state.
		IF rel = 'ringfence_data.audit_log'::regclass AND ringfence.audit_sealed_at() IS NOT NULL THEN
			CONTINUE WHEN ringfence.look_whether_held(jsonb_build_object('partition', candidate.partition::oid));
			PERFORM ringfence.audit_state_drop(candidate.lower_bound, candidate.upper_bound, 'retention');
		END IF;
		CONTINUE WHEN ringfence.is_partition_held(jsonb_build_object('partition', candidate.partition::oid));
		INSERT INTO ringfence_data.partition_drops
			(relation, partition, name, lower_bound, upper_bound, cutoff, rows_estimate, bytes)
		VALUES (rel, candidate.partition, candidate.partition::text, candidate.lower_bound, candidate.upper_bound, before,
			nullif(candidate.reltuples, -1), pg_total_relation_size(candidate.partition))
		RETURNING id INTO result;
		RETURN result;
	END LOOP;
	RETURN NULL;
END
$$;
ALTER FUNCTION ringfence.begin_partition_drop(regclass, timestamptz) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.begin_partition_drop(regclass, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.begin_partition_drop(regclass, timestamptz) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.begin_partition_drop(regclass, timestamptz) IS
	'the drop to go on with: one that was begun, or a new one for the oldest partition with all its range before that time and no row that a legal hold keeps; NULL if there is none; for drop_partitions(); 22004, 42809, 55000 where no policy says so';

-- A hold was placed on a row while its partition was on its way out, or the policy
-- changed. The check comes first and by itself, so that ATTACH needn't read the rows
-- while it keeps writers out of the tables that foreign keys reference.
CREATE FUNCTION ringfence.put_back_partition(id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	constraint_name CONSTANT name := 'ringfence_bounds';
	leaving record;
BEGIN
	SELECT d.relation, d.partition, c.column_name,
		ringfence.partition_literal(d.relation, d.lower_bound) AS lower_bound,
		ringfence.partition_literal(d.relation, d.upper_bound) AS upper_bound
	INTO leaving
	FROM ringfence_data.partition_drops AS d
	CROSS JOIN LATERAL ringfence.partition_column(d.relation) AS c
	WHERE d.id = put_back_partition.id;
	IF NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = leaving.partition AND k.conname = constraint_name) THEN
		PERFORM ringfence.try_ddl(format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I IS NOT NULL AND %s%I < %s)',
			leaving.partition, constraint_name, leaving.column_name,
			CASE WHEN leaving.lower_bound <> 'MINVALUE' THEN format('%I >= %s AND ', leaving.column_name, leaving.lower_bound)
				ELSE '' END,
			leaving.column_name, leaving.upper_bound));
		RETURN false;
	END IF;
	RETURN ringfence.try_ddl(format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)',
		leaving.relation, leaving.partition, leaving.lower_bound, leaving.upper_bound));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.put_back_partition(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.put_back_partition(uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.put_back_partition(uuid) IS
	'one of the two steps by which a detached partition becomes one again; true once it is; for advance_partition_drop()';

-- LOCK TABLE wants a right to write, which nobody has on the audit log. Queries don't
-- stand in a queue for this lock, so it may be waited for: autovacuum gives way to
-- who has waited for deadlock_timeout.
CREATE FUNCTION ringfence.stop_autovacuum(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
BEGIN
	EXECUTE format('COMMENT ON TABLE %s IS %L', rel, obj_description(rel, 'pg_class'));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.stop_autovacuum(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.stop_autovacuum(regclass) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.stop_autovacuum(regclass) IS
	'takes SHARE UPDATE EXCLUSIVE on a table of the caller''s, until the transaction ends; 55P03 where somebody keeps it for longer than two seconds';

CREATE FUNCTION ringfence.advance_partition_drop(id uuid) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
	leaving record;
	inherits record;
	foreign_key name;
BEGIN
	SELECT d.relation, d.partition, d.name, d.lower_bound, d.upper_bound, d.rows_estimate, d.bytes, d.detached_at,
		c.oid IS NOT NULL AS is_present, r.oid IS NOT NULL AS has_table,
		ringfence.may_drop_partitions(d.relation, d.cutoff) AS is_due
	INTO leaving
	FROM ringfence_data.partition_drops AS d
	-- By its name too: in a database restored from a dump the number may be another's.
	LEFT JOIN pg_class AS c ON c.oid = d.partition AND d.partition::text = d.name
		AND c.relkind = 'r' AND c.relowner = 'ringfence_owner'::regrole
	LEFT JOIN pg_class AS r ON r.oid = d.relation
	WHERE d.id = advance_partition_drop.id AND d.partition IS NOT NULL
	FOR UPDATE OF d;
	IF NOT FOUND THEN
		RETURN 'gone';
	END IF;
	SELECT
		i.inhparent = leaving.relation AND b.lower_bound = leaving.lower_bound AND b.upper_bound = leaving.upper_bound
			AND (leaving.is_due OR i.inhdetachpending) AS is_here,
		i.inhdetachpending AS is_pending, p.partdefid <> 0 AS has_default
	INTO inherits
	FROM pg_inherits AS i
	INNER JOIN pg_partitioned_table AS p ON p.partrelid = i.inhparent
	CROSS JOIN LATERAL ringfence.partition_bounds(i.inhrelid) AS b
	WHERE i.inhrelid = leaving.partition;

	IF NOT leaving.is_present OR inherits.is_here IS FALSE OR FOUND <> (leaving.detached_at IS NULL) THEN
		-- Somebody else detached, dropped or attached it, who has other plans with it,
		-- or no policy says so any more.
		DELETE FROM ringfence_data.partition_drops AS d WHERE d.id = advance_partition_drop.id;
		RETURN 'gone';
	ELSIF inherits.is_pending OR inherits.has_default THEN
		PERFORM ringfence.stop_autovacuum(leaving.partition);
		IF NOT ringfence.try_ddl(format('ALTER TABLE %s DETACH PARTITION %s', leaving.relation, leaving.partition)
				|| CASE WHEN inherits.is_pending THEN ' FINALIZE' ELSE '' END) THEN
			RETURN 'busy';
		END IF;
		UPDATE ringfence_data.partition_drops AS d
		SET detached_at = clock_timestamp()
		WHERE d.id = advance_partition_drop.id;
		RETURN 'detached';
	ELSIF inherits.is_here THEN
		RETURN 'attached';
	ELSIF (leaving.has_table AND NOT leaving.is_due) OR ringfence.is_partition_held(jsonb_build_object('drop', id)) THEN
		IF NOT leaving.has_table OR NOT ringfence.put_back_partition(id) THEN
			RETURN 'busy';
		END IF;
		UPDATE ringfence_data.partition_drops AS d
		SET kept_at = clock_timestamp(), partition = NULL
		WHERE d.id = advance_partition_drop.id;
		RETURN 'kept';
	END IF;
	PERFORM ringfence.stop_autovacuum(leaving.partition);
	-- Each locks everybody out of the table that it references: one a transaction, lest
	-- who uses two of them waits for us with what we wait for.
	SELECT k.conname INTO foreign_key
	FROM pg_constraint AS k
	WHERE k.conrelid = leaving.partition AND k.contype = 'f'
	ORDER BY k.conname
	LIMIT 1;
	IF FOUND THEN
		RETURN CASE
			WHEN ringfence.try_ddl(format('ALTER TABLE %s DROP CONSTRAINT %I', leaving.partition, foreign_key)) THEN 'detached'
			ELSE 'busy'
		END;
	END IF;
	PERFORM ringfence.audit_event('retention.partition_dropped', leaving.relation::text, jsonb_build_object(
		'partition', leaving.name, 'from', leaving.lower_bound, 'to', leaving.upper_bound,
		'rows_estimate', leaving.rows_estimate, 'bytes', leaving.bytes), org => NULL);
	UPDATE ringfence_data.partition_drops AS d
	SET dropped_at = clock_timestamp(), partition = NULL
	WHERE d.id = advance_partition_drop.id;
	IF NOT ringfence.try_ddl(format('DROP TABLE %s', leaving.partition)) THEN
		RAISE EXCEPTION 'partition % is in use', leaving.name USING ERRCODE = 'lock_not_available';
	END IF;
	RETURN 'dropped';
EXCEPTION WHEN lock_not_available THEN
	RETURN 'busy';
END
$$;
ALTER FUNCTION ringfence.advance_partition_drop(uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.advance_partition_drop(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.advance_partition_drop(uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.advance_partition_drop(uuid) IS
	'the next step of a drop, and how it went: attached (detach_partition() is next), detached (and on the way), dropped, kept (in its table again, since a legal hold was placed on it, or no policy says so any more), busy (again, later), gone (there is nothing to do); one step a transaction; for drop_partitions()';

CREATE FUNCTION ringfence.fail_partition_drop(id uuid, problem text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE ringfence_data.partition_drops AS d
	SET last_error = problem
	WHERE d.id = fail_partition_drop.id AND d.partition IS NOT NULL
$$;
ALTER FUNCTION ringfence.fail_partition_drop(uuid, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.fail_partition_drop(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.fail_partition_drop(uuid, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.fail_partition_drop(uuid, text) IS
	'notes what stopped an attempt to drop a partition; for drop_partitions()';

-- A run of retention has what stopped it on record.
CREATE FUNCTION ringfence.record_drop_failure(rel regclass, problem text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.record_batch(r.id, jsonb_build_object('relation', rel::oid, 'name', rel::text, 'step', p.step,
		'action', p.action, 'phase', 'partitions'), 0, clock_timestamp(), problem)
	FROM ringfence_data.retention_runs AS r
	CROSS JOIN ringfence_data.retention_policies AS p
	WHERE r.state = 'running' AND r.pid = pg_backend_pid() AND p.relation = rel AND p.action = 'drop_partition'
$$;
REVOKE EXECUTE ON FUNCTION ringfence.record_drop_failure(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.record_drop_failure(regclass, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.record_drop_failure(regclass, text) IS
	'puts what stopped partitions from being dropped on the record of the run of retention that this session is at, if it is; for drop_partitions()';

-- Each step has a transaction of its own, which has let go of the table when the
-- worker begins. A block that catches errors can't commit, so the steps are in one
-- and commit outside; and what follows a commit is begin_job(), before which the
-- caller's search_path is in force.
CREATE PROCEDURE ringfence.drop_partitions(
	rel regclass,
	before timestamptz,
	INOUT dropped bigint DEFAULT 0,
	max_seconds integer DEFAULT 60
)
LANGUAGE plpgsql
AS $$
DECLARE
	lock_name pg_catalog.text;
	deadline pg_catalog.timestamptz;
	drop_id pg_catalog.uuid;
	outcome pg_catalog.text;
	problem pg_catalog.text;
	pause pg_catalog.float8;
	patience pg_catalog.int4;
BEGIN
	PERFORM ringfence.begin_job();
	-- Where that can't be, it is to fail before there is a lock to let go of.
	COMMIT;
	PERFORM ringfence.begin_job();
	dropped := 0;
	lock_name := 'drop_partitions:' || coalesce(rel::oid, 0);
	deadline := clock_timestamp() + make_interval(secs => coalesce(max_seconds, 0));
	IF NOT ringfence.job_lock(lock_name) THEN
		RETURN;
	END IF;
	LOOP
		BEGIN
			drop_id := ringfence.begin_partition_drop(rel, before);
		EXCEPTION WHEN OTHERS THEN
			drop_id := NULL;
			PERFORM ringfence.record_drop_failure(rel, format('%s: %s', SQLSTATE, SQLERRM));
			RAISE WARNING 'could not drop partitions of table %: %', rel, SQLERRM USING ERRCODE = SQLSTATE;
		END;
		EXIT WHEN drop_id IS NULL;
		COMMIT;

		pause := 0.05;
		LOOP
			PERFORM ringfence.begin_job();
			problem := NULL;
			BEGIN
				outcome := ringfence.advance_partition_drop(drop_id);
			EXCEPTION WHEN OTHERS THEN
				outcome := 'failed';
				problem := format('%s: %s', SQLSTATE, SQLERRM);
			END;
			COMMIT;
			PERFORM ringfence.begin_job();
			IF outcome = 'attached' THEN
				-- A transaction that uses the table for longer is the next run's affair.
				patience := 1000 * least(greatest(extract(epoch FROM deadline - clock_timestamp()), 0.1), 5);
				BEGIN
					outcome := CASE WHEN ringfence.detach_partition(drop_id, patience) THEN 'detached' ELSE 'busy' END;
				EXCEPTION WHEN insufficient_resources THEN
					outcome := 'busy';
					problem := format('%s: %s', SQLSTATE, SQLERRM);
				WHEN OTHERS THEN
					outcome := 'failed';
					problem := format('%s: %s', SQLSTATE, SQLERRM);
				END;
			END IF;
			IF outcome = 'failed' OR problem IS NOT NULL THEN
				PERFORM ringfence.fail_partition_drop(drop_id, problem);
				PERFORM ringfence.record_drop_failure(rel, problem);
				RAISE WARNING 'could not drop a partition of table %: %', rel, problem;
			ELSIF outcome = 'dropped' THEN
				dropped := dropped + 1;
			END IF;
			EXIT WHEN outcome IN ('dropped', 'kept', 'gone', 'failed') OR clock_timestamp() > deadline;
			COMMIT;
			IF outcome OPERATOR(pg_catalog.=) 'busy' THEN
				PERFORM pg_catalog.pg_sleep(pause);
				pause := least(pause OPERATOR(pg_catalog.*) 2, 2);
			END IF;
		END LOOP;
		EXIT WHEN outcome NOT IN ('dropped', 'kept', 'gone') OR clock_timestamp() > deadline;
		COMMIT;
		PERFORM ringfence.begin_job();
	END LOOP;
	PERFORM ringfence.job_unlock(lock_name);
	COMMIT;
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.drop_partitions(regclass, timestamptz, bigint, integer) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.drop_partitions(regclass, timestamptz, bigint, integer) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.drop_partitions(regclass, timestamptz, bigint, integer) IS
	'drops the partitions of a table whose range lies before a time, the oldest first, and goes on with what an earlier run left undone; not the default partition, nor one with a row that a legal hold keeps; hands back how many are dropped; detaches with CONCURRENTLY where there is no default partition; where locks are not to be had at once it tries again, for max_seconds at most; a second one of that table leaves at once; what stops it is a warning, and on record: in retention_batches if a run of retention calls it, and as last_error in partition_drops once it has begun with a partition; it commits; 2D000 inside a transaction block, 42501';

CREATE FUNCTION ringfence.partitions_leaving(OUT partition regclass) RETURNS SETOF regclass
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 5 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	IF to_regclass('ringfence_data.partition_drops') IS NOT NULL THEN
		RETURN QUERY SELECT d.partition FROM ringfence_data.partition_drops AS d WHERE d.partition IS NOT NULL;
	END IF;
END
$$;
ALTER FUNCTION ringfence.partitions_leaving() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.partitions_leaving() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.partitions_leaving() TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.partitions_leaving() IS
	'partitions that drop_partitions() began with: detached, they are tables by themselves until they are dropped';

CREATE FUNCTION ringfence.verify_partitions()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.partitioned_tables') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT 'error', 'partition_missing', p.relation::text,
		format('there is no partition for rows from %s on, which can''t be written', min(m.lower_bound) AT TIME ZONE 'UTC'),
		'SELECT ringfence.make_partitions(); -- until it returns 0'
	FROM ringfence_data.partitioned_tables AS p
	INNER JOIN pg_class AS c ON c.oid = p.relation
	CROSS JOIN LATERAL ringfence.missing_partitions(p.relation, p.every, least(p.ahead, 1), ringfence.retention_now()) AS m
	-- A default partition takes them; the audit log's are verify_audit_log()'s to name.
	WHERE NOT EXISTS (SELECT FROM pg_partitioned_table AS t WHERE t.partrelid = p.relation AND t.partdefid <> 0)
		AND NOT ringfence.is_audit_table(p.relation)
	GROUP BY p.relation;
	RETURN QUERY
	SELECT 'warning', 'partition_drop_stuck', d.name,
		format('since %s it is to be dropped from table %s, and could not be%s', d.started_at, d.relation, ': ' || d.last_error),
		format('CALL ringfence.drop_partitions(%L, %L);', d.relation, d.cutoff)
	FROM ringfence_data.partition_drops AS d
	WHERE d.partition IS NOT NULL AND d.started_at < statement_timestamp() - interval '1 day';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.verify_partitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_partitions() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_partitions() IS
	'checks of verify(): registered tables have partitions for now and soon, and those that are to be dropped are';
