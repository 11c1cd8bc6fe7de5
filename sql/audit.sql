-- Audit: triggers that record every change, labels of columns, and the log's
-- partitions. Records are written by the library (src/audit*.c).

CREATE FUNCTION ringfence.audit_row() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_row';
REVOKE EXECUTE ON FUNCTION ringfence.audit_row() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_row() TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_row() IS
	'trigger function: records a change in the audit log; its arguments are the column that holds the organization, or an empty string, and options (reason); 23502 where a reason is required and none was given';

CREATE FUNCTION ringfence.audit_labels_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_labels_changed';
REVOKE EXECUTE ON FUNCTION ringfence.audit_labels_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_labels_changed() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.audit_labels_changed() IS
	'trigger function: has every session read labels and secret names again';

CREATE FUNCTION ringfence.audit_shape(rel regclass) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_audit_shape';
REVOKE EXECUTE ON FUNCTION ringfence.audit_shape(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_shape(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_shape(regclass) IS
	'notes a table''s name and columns of now in ringfence_data.audit_relations, unless they are there, and returns the id of that row';

CREATE FUNCTION ringfence.audit_event(
	action text,
	subject text DEFAULT NULL,
	details jsonb DEFAULT NULL,
	reason text DEFAULT NULL,
	org uuid DEFAULT ringfence.org_id(),
	apart boolean DEFAULT false
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_event';
REVOKE EXECUTE ON FUNCTION ringfence.audit_event(text, text, jsonb, text, uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_event(text, text, jsonb, text, uuid, boolean)
	TO ringfence_owner, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_event(text, text, jsonb, text, uuid, boolean) IS
	'records what happened without a change of a table ("export.started"), and returns the record''s id; "apart" commits it by itself, so that a rollback does not take it along, which a read-only transaction does anyway; 22023';

CREATE FUNCTION ringfence.audit_reading() RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_audit_reading';
REVOKE EXECUTE ON FUNCTION ringfence.audit_reading() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_reading() TO ringfence_owner, ringfence_operator;
COMMENT ON FUNCTION ringfence.audit_reading() IS
	'true, once it is on record that an operator reads the audit log of the organization entered; for its policies';

CREATE FUNCTION ringfence.audit_forget(rel regclass, key text) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_audit_forget';
REVOKE EXECUTE ON FUNCTION ringfence.audit_forget(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_forget(regclass, text) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_forget(regclass, text) IS
	'destroys the personal values in the records of a row, for good, and returns the number of records; the row is one of the organization of the context, or without one a row of no organization; what was sealed still verifies; the event audit.forgotten says that it was done, and why: 23502 without a reason';

CREATE FUNCTION ringfence.audit_forget_before(
	rel regclass,
	before timestamptz,
	org uuid DEFAULT NULL,
	batch integer DEFAULT 1000
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_forget_before';
REVOKE EXECUTE ON FUNCTION ringfence.audit_forget_before(regclass, timestamptz, uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_forget_before(regclass, timestamptz, uuid, integer)
	TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.audit_forget_before(regclass, timestamptz, uuid, integer) IS
	'destroys the personal values in the records of a table, its partitions and children, that were made before a time and are the organization''s, or for NULL nobody''s: the oldest first, in at most so many records, and returns in how many there were any: if fewer, there are no more; what was sealed still verifies; for retention, which records that it was done; 22004, 22023';

CREATE FUNCTION ringfence.audit_forgotten_before(rel regclass, org uuid DEFAULT NULL) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	RETURN coalesce((
		SELECT f.since
		FROM ringfence_data.audit_forgotten AS f
		WHERE f.relation = coalesce(pg_partition_root(rel), rel)
			AND f.org_id = coalesce(audit_forgotten_before.org, '00000000-0000-0000-0000-000000000000')
	), '-infinity');
END
$$;
ALTER FUNCTION ringfence.audit_forgotten_before(regclass, uuid) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.audit_forgotten_before(regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_forgotten_before(regclass, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.audit_forgotten_before(regclass, uuid) IS
	'up to when audit_forget_before() has nothing left to do for a table and an organization, or for NULL nobody: -infinity if it never did anything; later than any transaction that was open then it never is';

CREATE FUNCTION ringfence.audit_forget_subject(
	rel regclass,
	column_name name,
	subject uuid,
	org uuid DEFAULT ringfence.org_id()
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_forget_subject';
REVOKE EXECUTE ON FUNCTION ringfence.audit_forget_subject(regclass, name, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_forget_subject(regclass, name, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.audit_forget_subject(regclass, name, uuid, uuid) IS
	'destroys the personal values in all records of the rows that are or ever were about a subject, by a column of type uuid, and returns the number of records, which are one organization''s, or for NULL nobody''s; rows that are gone are found by their records, those that are there by themselves: call it before they are changed; for erasure, which records that it was done; 22004, 42703, 42804';

-- The library knows the limit as MAX_KEY.
CREATE FUNCTION ringfence.audit_key(key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE
	WHEN octet_length(key) <= 1000 THEN key
	ELSE 'sha256:' || encode(sha256(convert_to(key, getdatabaseencoding()::name)), 'hex')
END;
REVOKE EXECUTE ON FUNCTION ringfence.audit_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_key(text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_key(text) IS
	'a row''s key as its records have it: one of more than 1,000 bytes by its SHA-256';

CREATE FUNCTION ringfence.audit_values(recorded jsonb, personal jsonb, side text) RETURNS jsonb
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_values';
REVOKE EXECUTE ON FUNCTION ringfence.audit_values(jsonb, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_values(jsonb, jsonb, text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_values(jsonb, jsonb, text) IS
	'old or new of a record together with its personal values of that side; one that was forgotten is null';

CREATE FUNCTION ringfence.audit_forgotten(personal jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT coalesce(array_agg(DISTINCT v.key ORDER BY v.key), '{}')
	FROM jsonb_each(personal) AS s
	CROSS JOIN LATERAL jsonb_each(s.value) AS v
	WHERE NOT v.value ? 'value';
END;
REVOKE EXECUTE ON FUNCTION ringfence.audit_forgotten(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_forgotten(jsonb)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_forgotten(jsonb) IS
	'the personal columns of a record whose values were forgotten';

-- The log's own tables: nobody writes them but the library, beside privileges
-- and triggers.

CREATE FUNCTION ringfence.audit_refuse() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'the audit log is written by ringfence alone'
		USING ERRCODE = 'insufficient_privilege',
		DETAIL = format('%s of table %s was refused.', TG_OP, TG_RELID::regclass);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_refuse() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_refuse() TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_refuse() IS
	'trigger function: refuses any write (42501), to the owner as well';

-- By their names, so that one whose trigger was dropped still is one.
CREATE FUNCTION ringfence.is_audit_table(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce((
		SELECT n.nspname = 'ringfence_data' AND c.relname ~ '^audit_'
		FROM pg_catalog.pg_class AS c
		INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = rel
	), false);
END;
REVOKE EXECUTE ON FUNCTION ringfence.is_audit_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_audit_table(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_audit_table(regclass) IS
	'whether a table is one that the audit log consists of: ringfence_data.audit_...';

CREATE FUNCTION ringfence.audit_close(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	holder regrole;
BEGIN
	EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', rel);
	EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', rel);
	EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM PUBLIC', rel);
	FOR holder IN
		SELECT DISTINCT x.grantee
		FROM pg_class AS c
		CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x
		WHERE c.oid = rel AND x.grantee <> 0 AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
	LOOP
		EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM %s', rel, holder);
	END LOOP;
	EXECUTE format('CREATE OR REPLACE TRIGGER ringfence_audit_refuse
		BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s
		FOR EACH STATEMENT EXECUTE FUNCTION ringfence.audit_refuse()', rel);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_close(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_close(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_close(regclass) IS
	'closes a table of the audit log to every writer: row security forced, privileges revoked from all and the owner, a trigger that refuses; policies and reading are as before';

-- The writer calls this inside a tenant's statement when a month has no
-- partition, whatever that session's settings are. CREATE and ATTACH let others
-- read and write the log meanwhile, where PARTITION OF would lock them out. Two
-- sessions wait for each other at a lock on ringfence_data.tables, which no tenant
-- can take; after it, the caches say what there is now, whatever the transaction's
-- snapshot is of.
CREATE FUNCTION ringfence.make_audit_partition(month timestamptz) RETURNS regclass
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
SET timezone = 'UTC'
SET default_tablespace = ''
SET default_table_access_method = heap
AS $$
DECLARE
	first_day date := date_trunc('month', month);
	partition text := format('ringfence_data.%I', 'audit_log_' || to_char(first_day, 'YYYYMM'));
	present regclass;
BEGIN
	LOCK TABLE ringfence_data.tables IN SHARE UPDATE EXCLUSIVE MODE;
	present := to_regclass(partition);
	IF pg_partition_root(present) = 'ringfence_data.audit_log'::regclass THEN
		RETURN present;
	ELSIF present IS NOT NULL THEN
		RAISE EXCEPTION 'table % is not a partition of the audit log', partition
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Attach it, or give it another name.';
	END IF;

	EXECUTE format('CREATE TABLE %s (LIKE ringfence_data.audit_log
		INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)', partition);
	EXECUTE format('COMMENT ON TABLE %s IS %L', partition, format('records of %s, UTC', to_char(first_day, 'YYYY-MM')));
	PERFORM ringfence.audit_close(partition);
	EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs', partition);
	EXECUTE format('ALTER TABLE ringfence_data.audit_log ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
		partition, first_day::timestamptz, (first_day + interval '1 month')::timestamptz);
	RETURN partition::regclass;
END
$$;
ALTER FUNCTION ringfence.make_audit_partition(timestamptz) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.make_audit_partition(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.make_audit_partition(timestamptz) TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.make_audit_partition(timestamptz) IS
	'the partition of the audit log for the month, in UTC, of that moment; made if there is none; 55000 if a table of its name is in the way';

-- While a month runs, a row's records are looked for among its organization's;
-- once it is over, a btree made in one go costs a fraction of one that every write
-- had to maintain.
CREATE FUNCTION ringfence.index_past_audit_partitions() RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	partition regclass;
	made integer := 0;
BEGIN
	FOR partition IN
		SELECT c.oid
		FROM pg_inherits AS i
		INNER JOIN pg_class AS c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'ringfence_data.audit_log'::regclass
			AND c.relname ~ '^audit_log_[0-9]{6}$'
			-- A day past the month's end nobody's clock writes into it any more.
			AND to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month 1 day' < clock_timestamp()
			AND to_regclass(format('ringfence_data.%I', c.relname || '_key_idx')) IS NULL
		ORDER BY c.relname
	LOOP
		EXECUTE format('CREATE INDEX %I ON %s (org_id, relation_id, key)',
			(SELECT c.relname FROM pg_class AS c WHERE c.oid = partition) || '_key_idx', partition);
		made := made + 1;
	END LOOP;
	RETURN made;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.index_past_audit_partitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.index_past_audit_partitions() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.index_past_audit_partitions() IS
	'gives the audit log''s partitions of past months a btree of organization, table and key where they have none, and returns how many it made; for make_audit_partitions()';

CREATE FUNCTION ringfence.make_audit_partitions(ahead integer DEFAULT 3) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	present date := date_trunc('month', clock_timestamp());
	month date;
	made integer := 0;
BEGIN
	IF ahead NOT BETWEEN 0 AND 120 THEN
		RAISE EXCEPTION 'invalid number of months %', ahead
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is 0 to 120.';
	END IF;
	FOR n IN 0..ahead LOOP
		month := present + make_interval(months => n);
		IF to_regclass(format('ringfence_data.%I', 'audit_log_' || to_char(month, 'YYYYMM'))) IS NULL THEN
			PERFORM ringfence.make_audit_partition(month::timestamptz);
			made := made + 1;
		END IF;
	END LOOP;
	PERFORM ringfence.index_past_audit_partitions();
	RETURN made;
END
$$;
ALTER FUNCTION ringfence.make_audit_partitions(integer) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.make_audit_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.make_audit_partitions(integer) TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.make_audit_partitions(integer) IS
	'makes the audit log''s partitions for this month and some ahead, and returns how many were missing; gives those of past months an index of their keys; for a monthly job, audit_seal() calls it too; 22023';

-- What audit() has put on a table.

CREATE FUNCTION ringfence.audit_arguments(rel regclass) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT array_agg(convert_from(decode(m.part[1], 'hex'), getdatabaseencoding()::name) ORDER BY m.place)
	FROM pg_catalog.pg_trigger AS t
	CROSS JOIN LATERAL regexp_matches(encode(t.tgargs, 'hex'), '((?:(?!00)[0-9a-f]{2})*)00', 'g')
		WITH ORDINALITY AS m (part, place)
	WHERE t.tgrelid = rel AND t.tgname = 'ringfence_audit' AND t.tgqual IS NULL
		AND t.tgfoid = 'ringfence.audit_row()'::regprocedure;
END;
REVOKE EXECUTE ON FUNCTION ringfence.audit_arguments(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_arguments(regclass)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_arguments(regclass) IS
	'how a table is audited: the column that holds the organization, or an empty string, and options; NULL if it is not';

CREATE FUNCTION ringfence.with_children(rel regclass, OUT child regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE PARALLEL SAFE STRICT ROWS 5
BEGIN ATOMIC
	WITH RECURSIVE children AS (
		SELECT rel::oid AS oid
		UNION
		SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i INNER JOIN children AS c ON i.inhparent = c.oid
	)
	SELECT c.oid::regclass FROM children AS c;
END;
REVOKE EXECUTE ON FUNCTION ringfence.with_children(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.with_children(regclass)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.with_children(regclass) IS
	'a table, its partitions and its children at every depth';

CREATE FUNCTION ringfence.audit_org_column(rel regclass, org_column name) RETURNS name
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted name := CASE rel WHEN to_regclass('ringfence_data.orgs') THEN 'id' ELSE 'org_id' END;
	column_type regtype;
BEGIN
	IF org_column = '' THEN
		RETURN org_column;
	END IF;
	SELECT a.atttypid INTO column_type
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = coalesce(org_column, wanted) AND a.attnum > 0 AND NOT a.attisdropped;
	IF column_type = 'uuid'::regtype THEN
		RETURN coalesce(org_column, wanted);
	ELSIF org_column IS NULL THEN
		RETURN '';
	ELSIF NOT FOUND THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', org_column, rel USING ERRCODE = 'undefined_column';
	END IF;
	RAISE EXCEPTION 'column "%" of table % is not of type uuid', org_column, rel USING ERRCODE = 'datatype_mismatch';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_org_column(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_org_column(regclass, name) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_org_column(regclass, name) IS
	'the column that holds the organization: the one given, or else id of ringfence_data.orgs and org_id of others if there is one; an empty string for none; 42703, 42804';

-- Partitions get the row trigger by cloning. TRUNCATE triggers are not cloned,
-- nor is anything for children by inheritance: those get their own.
CREATE FUNCTION ringfence.audit(
	rel regclass,
	org_column name DEFAULT NULL,
	require_reason boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class pg_class;
	present text[] := ringfence.audit_arguments(rel);
	arguments text;
	target record;
BEGIN
	SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
	IF NOT FOUND OR class.relkind NOT IN ('r', 'p') OR class.relpersistence = 't'
		OR class.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) THEN
		RAISE EXCEPTION '"%" is not a table that can be audited', rel USING ERRCODE = 'wrong_object_type';
	END IF;
	IF class.relispartition THEN
		RAISE EXCEPTION 'table % is a partition', rel
			USING ERRCODE = 'wrong_object_type', HINT = 'Audit its parent.';
	END IF;
	IF ringfence.is_audit_table(rel) THEN
		RAISE EXCEPTION 'table % is part of the audit log', rel USING ERRCODE = 'wrong_object_type';
	END IF;
	IF ringfence.is_ledger_table(rel) THEN
		RAISE EXCEPTION 'table % is a record itself', rel
			USING ERRCODE = 'wrong_object_type', DETAIL = 'The ledger writes it past triggers, and ledger_verify() checks it.';
	END IF;
	IF to_regclass('ringfence_data.audit_log') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;

	arguments := quote_literal(ringfence.audit_org_column(rel, coalesce(org_column, nullif(present[1], ''))))
		|| CASE WHEN coalesce(require_reason, 'reason' = ANY (present[2:]), false) THEN ', ''reason''' ELSE '' END;
	FOR target IN
		SELECT w.child AS rel, c.relispartition AS cloned, g.oid IS NOT NULL AS has_own
		FROM ringfence.with_children(rel) AS w
		INNER JOIN pg_class AS c ON c.oid = w.child AND c.relkind IN ('r', 'p')
		LEFT JOIN pg_trigger AS g ON g.tgrelid = c.oid AND g.tgname = 'ringfence_audit' AND g.tgparentid = 0
		ORDER BY c.relispartition DESC
	LOOP
		IF NOT target.cloned THEN
			EXECUTE format('CREATE OR REPLACE TRIGGER ringfence_audit AFTER INSERT OR UPDATE OR DELETE ON %s
				FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row(%s)', target.rel, arguments);
		ELSIF target.has_own THEN
			EXECUTE format('DROP TRIGGER ringfence_audit ON %s', target.rel);
		END IF;
		EXECUTE format('CREATE OR REPLACE TRIGGER ringfence_audit_truncate AFTER TRUNCATE ON %s
			FOR EACH STATEMENT EXECUTE FUNCTION ringfence.audit_row(%s)', target.rel, arguments);
		IF NOT target.cloned THEN
			PERFORM ringfence.audit_shape(target.rel);
		END IF;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit(regclass, name, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit(regclass, name, boolean) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit(regclass, name, boolean) IS
	'has every change of a table recorded in the audit log, also of its partitions and children; protect() does it; the organization is that of org_column, none if that is empty, the one named before or org_id if it is NULL; with require_reason a change without a reason is refused (23502), NULL leaves that as it is; repeatable; 42703, 42804, 42809, 55000';

-- Runs as whoever makes the table, and needs no right of theirs unless its parent
-- is audited.
CREATE FUNCTION ringfence.audit_ddl() RETURNS event_trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	missing record;
	arguments text;
BEGIN
	FOR missing IN
		WITH RECURSIVE touched AS (
			SELECT c.objid AS oid
			FROM pg_event_trigger_ddl_commands() AS c
			WHERE c.object_type = 'table' AND c.objsubid = 0 AND NOT c.in_extension
			UNION
			SELECT i.inhrelid FROM pg_inherits AS i INNER JOIN touched AS t ON i.inhparent = t.oid
		), lines AS (
			SELECT t.oid, i.inhparent AS ancestor FROM touched AS t INNER JOIN pg_inherits AS i ON i.inhrelid = t.oid
			UNION
			SELECT l.oid, i.inhparent FROM lines AS l INNER JOIN pg_inherits AS i ON i.inhrelid = l.ancestor
		), audited AS (
			SELECT g.oid, g.tgrelid, g.tgname, encode(g.tgargs, 'hex') AS arguments
			FROM pg_trigger AS g
			INNER JOIN pg_proc AS p ON p.oid = g.tgfoid AND p.proname = 'audit_row'
			WHERE p.pronamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'ringfence')
				AND g.tgqual IS NULL
		)
		SELECT DISTINCT ON (l.oid, a.tgname) l.oid::regclass AS rel, a.tgname AS name, a.arguments
		FROM lines AS l
		INNER JOIN pg_class AS c ON c.oid = l.oid AND c.relkind IN ('r', 'p')
		INNER JOIN audited AS a ON a.tgrelid = l.ancestor
		WHERE NOT EXISTS (SELECT FROM pg_trigger AS o WHERE o.tgrelid = l.oid AND o.tgname = a.tgname)
		ORDER BY l.oid, a.tgname, a.oid
	LOOP
		-- Whoever issues DDL runs this, with no rights to our functions perhaps.
		SELECT string_agg(quote_literal(convert_from(decode(m.part[1], 'hex'), getdatabaseencoding()::name)), ', ' ORDER BY m.place)
		INTO arguments
		FROM regexp_matches(missing.arguments, '((?:(?!00)[0-9a-f]{2})*)00', 'g') WITH ORDINALITY AS m (part, place);
		IF missing.name = 'ringfence_audit' THEN
			EXECUTE format('CREATE TRIGGER ringfence_audit AFTER INSERT OR UPDATE OR DELETE ON %s
				FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row(%s)', missing.rel, arguments);
		ELSIF missing.name = 'ringfence_audit_truncate' THEN
			EXECUTE format('CREATE TRIGGER ringfence_audit_truncate AFTER TRUNCATE ON %s
				FOR EACH STATEMENT EXECUTE FUNCTION ringfence.audit_row(%s)', missing.rel, arguments);
		END IF;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_ddl() FROM PUBLIC;
COMMENT ON FUNCTION ringfence.audit_ddl() IS
	'event trigger function: has new partitions and children audited as their parents are';

CREATE FUNCTION ringfence.unaudit(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	attached record;
	found_any boolean := false;
BEGIN
	FOR attached IN
		SELECT g.tgrelid::regclass AS rel, g.tgname AS name
		FROM pg_trigger AS g
		WHERE g.tgrelid IN (SELECT w.child FROM ringfence.with_children(rel) AS w)
			AND g.tgname IN ('ringfence_audit', 'ringfence_audit_truncate') AND g.tgparentid = 0
	LOOP
		EXECUTE format('DROP TRIGGER %I ON %s', attached.name, attached.rel);
		found_any := true;
	END LOOP;
	IF found_any THEN
		PERFORM ringfence.audit_event('audit.detached', rel::text);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.unaudit(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.unaudit(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.unaudit(regclass) IS
	'ends the recording of a table''s changes, which is the last thing recorded of it (audit.detached); its records stay';

CREATE FUNCTION ringfence.label(rel regclass, column_name name, label text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF rel IS NULL OR column_name IS NULL THEN
		RAISE EXCEPTION 'table and column must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF label IS NULL THEN
		DELETE FROM ringfence_data.columns AS c
		WHERE c.relation = rel AND c.column_name = label.column_name;
		RETURN;
	END IF;
	IF label NOT IN ('secret', 'personal', 'plain') THEN
		RAISE EXCEPTION 'invalid label "%"', label
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is secret, personal or plain, or NULL to remove it.';
	END IF;
	PERFORM 1 FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = label.column_name AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', label.column_name, rel
			USING ERRCODE = 'undefined_column';
	END IF;
	INSERT INTO ringfence_data.columns AS c (relation, column_name, label)
	VALUES (rel, label.column_name, label.label)
	ON CONFLICT ON CONSTRAINT columns_pkey DO UPDATE SET label = excluded.label
	WHERE c.label <> excluded.label;
END
$$;
ALTER FUNCTION ringfence.label(regclass, name, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.label(regclass, name, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.label(regclass, name, text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.label(regclass, name, text) IS
	'says what a column, and the same column of the table''s partitions and children, holds: secret (never in the audit log), personal (there until forgotten), plain (neither, whatever its name is like); NULL removes the label; in force at once; columns of a key are always in the log; 22023, 42703';

CREATE FUNCTION ringfence.labels(OUT relation regclass, OUT column_name name, OUT label text) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 50 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	IF to_regclass('ringfence_data.columns') IS NOT NULL THEN
		RETURN QUERY SELECT c.relation, c.column_name, c.label FROM ringfence_data.columns AS c;
	END IF;
END
$$;
ALTER FUNCTION ringfence.labels() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.labels() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.labels() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.labels() IS
	'what label() has said of columns';

-- RENAME COLUMN doesn't say what the name was: it was the labelled one that is
-- gone. If several are (columns dropped behind our back), the strictest counts.
CREATE FUNCTION ringfence.audit_altered(rel oid, column_number integer) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.columns') IS NULL THEN
		RETURN;
	END IF;
	IF column_number > 0 THEN
		UPDATE ringfence_data.columns AS c
		SET column_name = r.new_name
		FROM (
			SELECT DISTINCT ON (l.relation) l.relation, l.column_name, n.attname AS new_name
			FROM ringfence.with_children(rel) AS w
			INNER JOIN pg_attribute AS p ON p.attrelid = rel AND p.attnum = column_number
			INNER JOIN pg_attribute AS n ON n.attrelid = w.child AND n.attname = p.attname AND n.attnum > 0
			INNER JOIN ringfence_data.columns AS l ON l.relation = w.child
			WHERE NOT EXISTS (
				SELECT FROM pg_attribute AS a WHERE a.attrelid = l.relation AND a.attname = l.column_name
			) AND NOT EXISTS (
				SELECT FROM ringfence_data.columns AS o WHERE o.relation = l.relation AND o.column_name = n.attname
			)
			ORDER BY l.relation, array_position(ARRAY['secret', 'personal', 'plain'], l.label)
		) AS r
		WHERE c.relation = r.relation AND c.column_name = r.column_name;
	END IF;
	IF ringfence.audit_arguments(rel) IS NOT NULL THEN
		PERFORM ringfence.audit_shape(rel);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_altered(oid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_altered(oid, integer) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.audit_altered(oid, integer) IS
	'keeps labels with a column that was renamed, and notes the shape of an audited table; for the event trigger';

-- Reading, with the caller's rights.

-- A dropped column's number is never given again. So if a later shape has a
-- number that an earlier one had skipped, the table was made anew in between, by
-- a dump and restore, which keeps names and not numbers.
CREATE FUNCTION ringfence.audit_names(rel regclass, OUT relation_id integer, OUT names jsonb) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shape record;
	following jsonb;
	present jsonb;
BEGIN
	SELECT jsonb_object_agg(a.attnum, a.attname) INTO present
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped;
	following := present;
	FOR shape IN
		SELECT r.id, r.columns
		FROM ringfence_data.audit_relations AS r
		WHERE r.relation = rel
		ORDER BY r.id DESC
	LOOP
		SELECT jsonb_object_agg(c.key, present -> n.number) FILTER (WHERE present ? n.number) INTO present
		FROM jsonb_each_text(shape.columns) AS c
		CROSS JOIN (
			SELECT EXISTS (
				SELECT FROM jsonb_object_keys(following) AS f (number)
				WHERE NOT shape.columns ? f.number
					AND f.number::integer < (SELECT max(s.number::integer) FROM jsonb_object_keys(shape.columns) AS s (number))
			) AS anew
		) AS m
		LEFT JOIN jsonb_each_text(following) AS f ON m.anew AND f.value = c.value
		CROSS JOIN LATERAL (SELECT CASE WHEN m.anew THEN f.key ELSE c.key END AS number) AS n;
		following := shape.columns;
		relation_id := shape.id;
		SELECT coalesce(jsonb_object_agg(c.value, present -> c.key) FILTER (WHERE present ? c.key), '{}') INTO names
		FROM jsonb_each_text(shape.columns) AS c;
		RETURN NEXT;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_names(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_names(regclass)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_names(regclass) IS
	'for each shape that a table has had, what its columns of then are called now: {"then": "now", ...}, without those that are gone';

CREATE FUNCTION ringfence.audit_renamed(recorded jsonb, names jsonb, keep_gone boolean) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce(jsonb_object_agg(coalesce(names ->> v.key, v.key), v.value ORDER BY names ? v.key), '{}')
	FROM jsonb_each(recorded) AS v
	WHERE keep_gone OR names ? v.key;
END;
REVOKE EXECUTE ON FUNCTION ringfence.audit_renamed(jsonb, jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_renamed(jsonb, jsonb, boolean)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_renamed(jsonb, jsonb, boolean) IS
	'values of a record by the names that its columns have now; a column that is gone keeps the one it had, or is left out';

-- A partition's records are its root's, a child's its own. Row security decides
-- what is seen; the organization of the context, and none for what belongs to
-- none, lead to the index where row security doesn't.
CREATE FUNCTION ringfence.audit_records(
	rel regclass,
	key text,
	keep_gone boolean,
	OUT id uuid,
	OUT recorded_at timestamptz,
	OUT operation text,
	OUT relation text,
	OUT actor text,
	OUT user_id uuid,
	OUT login text,
	OUT role text,
	OUT request_id text,
	OUT correlation_id text,
	OUT client_ip inet,
	OUT user_agent text,
	OUT reason text,
	OUT transaction_id bigint,
	OUT old jsonb,
	OUT new jsonb,
	OUT forgotten text[],
	OUT org_id uuid
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 20
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
	orgs uuid[] := ARRAY[ringfence.org_id(), '00000000-0000-0000-0000-000000000000'];
	shapes jsonb;
	ids integer[];
BEGIN
	SELECT jsonb_object_agg(n.relation_id, n.names), array_agg(n.relation_id) INTO shapes, ids
	FROM ringfence.with_children(coalesce(pg_partition_root(rel), rel)) AS w
	CROSS JOIN LATERAL ringfence.audit_names(w.child) AS n;
	RETURN QUERY
	SELECT l.id, l.recorded_at, l.operation, r.name, l.actor, l.user_id, l.login, l.role, l.request_id,
		l.correlation_id, l.client_ip, l.user_agent, l.reason, l.transaction_id,
		ringfence.audit_renamed(ringfence.audit_values(l.old, l.personal, 'old'), n.names, keep_gone),
		ringfence.audit_renamed(ringfence.audit_values(l.new, l.personal, 'new'), n.names, keep_gone),
		ringfence.audit_forgotten(l.personal), l.org_id
	FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	CROSS JOIN LATERAL (SELECT shapes -> l.relation_id::text AS names) AS n
	WHERE l.relation_id = ANY (ids)
		AND (l.key = ringfence.audit_key(audit_records.key) OR (audit_records.key IS NULL AND l.key IS NULL))
		AND (orgs[1] IS NULL OR l.org_id = ANY (orgs))
	ORDER BY l.recorded_at, l.id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_records(regclass, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_records(regclass, text, boolean)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_records(regclass, text, boolean) IS
	'the records of a table, its partitions and children with that key, or with none, oldest first; for history() and row_at()';

CREATE FUNCTION ringfence.history(
	rel regclass,
	key text,
	OUT id uuid,
	OUT recorded_at timestamptz,
	OUT operation text,
	OUT relation text,
	OUT actor text,
	OUT user_id uuid,
	OUT login text,
	OUT role text,
	OUT request_id text,
	OUT correlation_id text,
	OUT client_ip inet,
	OUT user_agent text,
	OUT reason text,
	OUT transaction_id bigint,
	OUT old jsonb,
	OUT new jsonb,
	OUT forgotten text[]
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED STRICT ROWS 20
BEGIN ATOMIC
	SELECT h.id, h.recorded_at, h.operation, h.relation, h.actor, h.user_id, h.login, h.role, h.request_id,
		h.correlation_id, h.client_ip, h.user_agent, h.reason, h.transaction_id, h.old, h.new, h.forgotten
	FROM ringfence.audit_records(rel, key, true) AS h;
END;
REVOKE EXECUTE ON FUNCTION ringfence.history(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.history(regclass, text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.history(regclass, text) IS
	'the records of a row, oldest first, as far as the caller may read them: through renames of the table and of its columns, which have their names of now; the key is as in the audit log: one column''s text, or several as a JSON array, without org_id';

CREATE FUNCTION ringfence.audit_secret_name(name text) RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_audit_secret_name';
REVOKE EXECUTE ON FUNCTION ringfence.audit_secret_name(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_secret_name(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.audit_secret_name(text) IS
	'whether a name tells of a secret, by ringfence_data.secret_names; for audit_secret_columns()';

CREATE FUNCTION ringfence.audit_secret_columns(rel regclass) RETURNS name[]
LANGUAGE sql STABLE PARALLEL SAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
	SELECT coalesce(array_agg(a.attname), '{}')
	FROM pg_attribute AS a
	CROSS JOIN LATERAL (
		SELECT coalesce(bool_or(c.label = 'secret'), false) AS secret, coalesce(bool_or(c.label = 'plain'), false) AS plain
		FROM ringfence_data.columns AS c
		WHERE c.column_name = a.attname AND rel IN (SELECT w.child FROM ringfence.with_children(c.relation) AS w)
	) AS l
	WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped
		AND (l.secret OR (NOT l.plain AND ringfence.audit_secret_name(a.attname::text)))
$$;
ALTER FUNCTION ringfence.audit_secret_columns(regclass) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.audit_secret_columns(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_secret_columns(regclass)
	TO ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_secret_columns(regclass) IS
	'the columns of a table that the audit log shows as "[secret]", by label or by name';

CREATE FUNCTION ringfence.refuse_ambiguous_key(rel regclass, key text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'several organizations have a row % in table %', key, rel
		USING ERRCODE = 'cardinality_violation', HINT = 'Enter one of them first.';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.refuse_ambiguous_key(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.refuse_ambiguous_key(regclass, text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.refuse_ambiguous_key(regclass, text) IS
	'21000 for a key that without an organization doesn''t say which row is meant; for row_at()';

-- The row as the caller sees it now, by the key that the log has of it.
CREATE FUNCTION ringfence.audit_present_row(rel regclass, key text) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org_column text := coalesce((ringfence.audit_arguments(rel))[1], 'org_id');
	secrets name[] := ringfence.audit_secret_columns(rel);
	columns text;
	key_columns name[];
	condition text;
	parts text[] := ARRAY[key];
	found_rows integer;
	result jsonb;
BEGIN
	SELECT string_agg(
		CASE
			WHEN a.attname = ANY (secrets) THEN
				format('CASE WHEN t.%1$I IS NOT NULL THEN ''[secret]'' END AS %1$I', a.attname)
			ELSE format('t.%I', a.attname)
		END, ', ')
	INTO columns
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(rel, a.attnum, 'SELECT');
	SELECT array_agg(a.attname ORDER BY c.place) INTO key_columns
	FROM pg_constraint AS p
	CROSS JOIN unnest(p.conkey) WITH ORDINALITY AS c (attnum, place)
	INNER JOIN pg_attribute AS a ON a.attrelid = p.conrelid AND a.attnum = c.attnum
	WHERE p.conrelid = rel AND p.contype = 'p' AND (a.attname <> org_column OR cardinality(p.conkey) = 1);
	IF columns IS NULL OR key_columns IS NULL THEN
		RETURN NULL;
	END IF;
	IF cardinality(key_columns) > 1 THEN
		parts := ARRAY(SELECT jsonb_array_elements_text(key::jsonb));
	END IF;
	SELECT string_agg(format('t.%I = ($1)[%s]::%s', k.name, k.place, format_type(a.atttypid, a.atttypmod)), ' AND ')
	INTO condition
	FROM unnest(key_columns) WITH ORDINALITY AS k (name, place)
	INNER JOIN pg_attribute AS a ON a.attrelid = rel AND a.attname = k.name;
	EXECUTE format('SELECT count(*), jsonb_agg(to_jsonb(r)) -> 0 FROM (SELECT %s FROM %s AS t WHERE %s LIMIT 2) AS r',
			columns, rel, condition)
		INTO found_rows, result USING parts;
	IF found_rows > 1 THEN
		PERFORM ringfence.refuse_ambiguous_key(rel, key);
	END IF;
	RETURN result;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.audit_present_row(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_present_row(regclass, text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_present_row(regclass, text) IS
	'a row as it is now, of it what the caller may read, secrets as in the audit log; for row_at()';

-- From the INSERT before the moment forwards, by what each UPDATE made of the
-- row. Where recording began later than the row there is no INSERT: then from
-- the next DELETE, or from the row as it is, backwards by what each UPDATE found.
-- A TRUNCATE says nothing of the row: it is gone if nothing is heard of it after
-- that but an INSERT, and it isn't there. Who may not read the log can't read the
-- table's shapes either, and must not take the row of now for that of then.
CREATE FUNCTION ringfence.row_at(rel regclass, key text, moment timestamptz DEFAULT clock_timestamp()) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000'::uuid;
	org_column text := coalesce((ringfence.audit_arguments(rel))[1], 'org_id');
	entry record;
	state jsonb;
	known boolean := false;
	in_doubt boolean := false;
	undone jsonb := '{}'::jsonb;
	next_operation text;
	org uuid;
BEGIN
	FOR entry IN
		SELECT r.operation, r.recorded_at <= moment AS past, r.old, r.new, nullif(r.org_id, nobody) AS org_id
		FROM (
			SELECT k.id, k.operation, k.recorded_at, k.old, k.new, k.org_id
			FROM ringfence.audit_records(rel, key, false) AS k
			UNION ALL
			SELECT t.id, t.operation, t.recorded_at, t.old, t.new, t.org_id
			FROM ringfence.audit_records(rel, NULL, false) AS t
			WHERE t.operation = 'TRUNCATE'
		) AS r
		ORDER BY r.recorded_at, r.id
	LOOP
		next_operation := CASE WHEN NOT entry.past THEN entry.operation END;
		EXIT WHEN known AND next_operation <> 'TRUNCATE';
		IF entry.operation <> 'TRUNCATE' THEN
			IF org <> entry.org_id AND (state IS NOT NULL OR undone <> '{}') THEN
				PERFORM ringfence.refuse_ambiguous_key(rel, key);
			END IF;
			org := entry.org_id;
		END IF;
		IF entry.past THEN
			in_doubt := entry.operation = 'TRUNCATE';
			state := CASE entry.operation
				WHEN 'INSERT' THEN entry.new
				WHEN 'UPDATE' THEN state || entry.new
				WHEN 'TRUNCATE' THEN state
			END;
			known := known OR entry.operation IN ('INSERT', 'DELETE');
		ELSIF entry.operation = 'UPDATE' THEN
			undone := entry.old || undone;
		ELSIF entry.operation = 'DELETE' THEN
			state := entry.old || undone;
			EXIT;
		ELSIF entry.operation = 'INSERT' THEN
			EXIT;
		END IF;
	END LOOP;

	IF known AND in_doubt AND coalesce(next_operation, 'TRUNCATE') IN ('INSERT', 'TRUNCATE')
		AND (next_operation = 'INSERT' OR ringfence.audit_present_row(rel, key) IS NULL) THEN
		RETURN NULL;
	ELSIF NOT known AND coalesce(next_operation, 'UPDATE') IN ('UPDATE', 'TRUNCATE')
		AND EXISTS (
			SELECT FROM ringfence_data.audit_relations AS r
			WHERE r.relation = coalesce(pg_partition_root(rel), rel)
		) THEN
		state := ringfence.audit_present_row(rel, key) || undone;
	END IF;
	-- The record itself says which organization's the row was.
	IF org IS NOT NULL AND NOT state ? org_column THEN
		state := state || jsonb_build_object(org_column, org);
	END IF;
	RETURN (
		SELECT jsonb_object_agg(a.attname, coalesce(state -> a.attname::text, 'null'))
		FROM pg_attribute AS a
		WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped AND state IS NOT NULL
	);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.row_at(regclass, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.row_at(regclass, text, timestamptz)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.row_at(regclass, text, timestamptz) IS
	'a row as it was at a moment, as far as the caller may read its records: by the columns that the table has now, null where there was no value or it was forgotten, "[secret]" for secrets; NULL if there was no row; the key is as in the audit log; 21000 if without an organization that is the key of several rows';
