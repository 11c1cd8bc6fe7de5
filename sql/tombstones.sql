-- Tombstones: what is to be deleted outside the database. A row that stands for a
-- stored object leaves one in the transaction that deletes it, whoever does and
-- by whatever way; a worker takes them one after the other, deletes the objects
-- and says so. Tombstones reference nothing, for they outlive all that they could.

-- A key within the organization's own folder, which no path can lead out of: the
-- worker's rights are for all objects.
CREATE FUNCTION ringfence.is_object_key(object_key text, org uuid) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(
	octet_length(object_key) <= 1024
		AND starts_with(object_key COLLATE "C", org::text || '/')
		AND object_key COLLATE "C" !~ '[\x01-\x1f\x7f\\]|//|/$|(^|/)\.\.?(/|$)',
	object_key IS NULL);
REVOKE EXECUTE ON FUNCTION ringfence.is_object_key(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_object_key(text, uuid)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_object_key(text, uuid) IS
	'whether a key names an object of the organization''s: ORG/..., at most 1024 bytes, without control characters, backslashes, empty parts and parts that are dots; true for NULL, which names none';

-- Row security is on even where the caller has it fail: the statement that deletes
-- may be a job's. Nobody but tombstone() makes triggers of it: with one on a table of
-- their own people could have any object deleted.
CREATE FUNCTION ringfence.leave_tombstone() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
DECLARE
	gone jsonb;
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		RAISE EXCEPTION 'table %.% cannot be truncated', quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'Its rows stand for stored objects, which nobody would know of any more.',
			HINT = 'Delete the rows.';
	END IF;
	gone := to_jsonb(OLD);
	IF gone ->> TG_ARGV[0] IS NOT NULL THEN
		INSERT INTO ringfence_data.tombstones (org_id, store, object_key, created_at, due_at)
		VALUES ((gone ->> 'org_id')::uuid, TG_ARGV[1], gone ->> TG_ARGV[0], ringfence.retention_now(), ringfence.retention_now());
	END IF;
	RETURN NULL;
END
$$;
ALTER FUNCTION ringfence.leave_tombstone() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.leave_tombstone() FROM PUBLIC;
COMMENT ON FUNCTION ringfence.leave_tombstone() IS
	'trigger: a row that is deleted, or names another object from now on, leaves a tombstone for the object that it named; arguments are the column and the store; refuses TRUNCATE (55000); made by tombstone()';

CREATE FUNCTION ringfence.is_tombstone_table(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce((
		SELECT n.nspname = 'ringfence_data' AND c.relname = 'tombstones'
		FROM pg_catalog.pg_class AS c
		INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = rel
	), false);
END;
REVOKE EXECUTE ON FUNCTION ringfence.is_tombstone_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_tombstone_table(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_tombstone_table(regclass) IS
	'whether a table is that of tombstones, whose changes are not audited: two records would come of each object that is deleted';

CREATE FUNCTION ringfence.tombstone_columns(
	OUT rel regclass,
	OUT column_name name,
	OUT store text,
	OUT triggers bigint
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
BEGIN ATOMIC
	SELECT g.tgrelid::regclass, g.arguments[1]::name, max(g.arguments[2]), count(*)
	FROM (
		SELECT t.tgrelid, (
			SELECT array_agg(convert_from(decode(m.part[1], 'hex'), getdatabaseencoding()::name) ORDER BY m.place)
			FROM regexp_matches(encode(t.tgargs, 'hex'), '((?:(?!00)[0-9a-f]{2})*)00', 'g') WITH ORDINALITY AS m (part, place)
		) AS arguments
		FROM pg_catalog.pg_trigger AS t
		WHERE t.tgfoid = 'ringfence.leave_tombstone()'::regprocedure AND t.tgenabled = 'O'
	) AS g
	GROUP BY g.tgrelid, g.arguments[1];
END;
REVOKE EXECUTE ON FUNCTION ringfence.tombstone_columns() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tombstone_columns() TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.tombstone_columns() IS
	'columns whose rows leave tombstones: the table, the column, the store that the objects are in, and how many of the three triggers are there';

-- Who may write the column may have another row's object deleted.
CREATE FUNCTION ringfence.tenants_writing(rel regclass, column_name name) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname)
	FROM pg_catalog.pg_roles AS r
	INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = rel AND a.attname = column_name AND a.attgenerated = ''
	WHERE r.rolname IN ('ringfence_anon', 'ringfence_member')
		AND (has_column_privilege(r.oid, rel, column_name, 'INSERT') OR has_column_privilege(r.oid, rel, column_name, 'UPDATE'));
END;
REVOKE EXECUTE ON FUNCTION ringfence.tenants_writing(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tenants_writing(regclass, name) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.tenants_writing(regclass, name) IS
	'the roles of tenants that may write a column, or NULL; none may a generated one';

CREATE FUNCTION ringfence.check_tombstone_column(rel regclass, column_name name) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class record;
	column_type regtype;
	tenants text;
BEGIN
	SELECT c.relkind, c.relpersistence, c.relispartition, c.relowner INTO class FROM pg_class AS c WHERE c.oid = rel;
	-- A row that moves to another partition is deleted from the one it was in.
	IF NOT FOUND OR class.relkind <> 'r' OR class.relispartition OR class.relpersistence <> 'p'
		OR EXISTS (SELECT FROM pg_inherits AS i WHERE rel IN (i.inhrelid, i.inhparent)) THEN
		RAISE EXCEPTION '"%" is not a table that tombstones can be left by', rel
			USING ERRCODE = 'wrong_object_type', DETAIL = 'It must be an ordinary table without partitions or children.';
	END IF;
	IF NOT EXISTS (
		SELECT FROM pg_attribute AS a
		WHERE a.attrelid = rel AND a.attname = 'org_id' AND a.atttypid = 'uuid'::regtype AND a.attnotnull AND NOT a.attisdropped
	) THEN
		RAISE EXCEPTION 'rows of table % belong to no organization', rel
			USING ERRCODE = 'wrong_object_type', DETAIL = 'It has no column "org_id".', HINT = 'Call ringfence.protect() first.';
	END IF;
	IF class.relowner <> 'ringfence_owner'::regrole THEN
		RAISE EXCEPTION 'table % does not belong to role "ringfence_owner"', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'Whoever owns it could name objects of any organization.', HINT = 'Call ringfence.protect() first.';
	END IF;
	SELECT a.atttypid INTO column_type
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = check_tombstone_column.column_name AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', column_name, rel USING ERRCODE = 'undefined_column';
	ELSIF column_type <> 'text'::regtype THEN
		RAISE EXCEPTION 'column "%" of table % is not of type text', column_name, rel USING ERRCODE = 'datatype_mismatch';
	END IF;
	tenants := ringfence.tenants_writing(rel, column_name);
	IF tenants IS NOT NULL THEN
		RAISE EXCEPTION 'tenants may write column "%" of table %', column_name, rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('Whoever chooses keys chooses which objects are deleted; %s may.', tenants),
			HINT = 'Have the database make the keys, and leave the column out of the columns that protect() is given.';
	END IF;
	-- Of two rows that name an object one would take it from the other.
	IF NOT EXISTS (
		SELECT FROM pg_index AS i
		WHERE i.indrelid = rel AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
			AND ARRAY(
				SELECT a.attname FROM pg_attribute AS a
				WHERE a.attrelid = rel AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AND a.attname <> 'org_id'
			) = ARRAY[check_tombstone_column.column_name]
	) THEN
		RAISE EXCEPTION 'two rows of table % could name one object', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('CREATE UNIQUE INDEX ON %s (org_id, %I);', rel, column_name);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_tombstone_column(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_tombstone_column(regclass, name) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.check_tombstone_column(regclass, name) IS
	'whether rows of a table can leave tombstones for the objects that a column names: 42809, 42703, 42804, 55000; for tombstone()';

CREATE FUNCTION ringfence.tombstone(rel regclass, column_name name, store text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	constraint_name name;
	other regclass;
BEGIN
	IF rel IS NULL OR column_name IS NULL OR store IS NULL THEN
		RAISE EXCEPTION 'table, column and store must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF store COLLATE "C" !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
		RAISE EXCEPTION 'invalid store "%"', store
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'A store is at most 63 lower case letters, digits, underscores and hyphens.';
	END IF;
	IF to_regclass('ringfence_data.tombstones') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', rel);
	PERFORM ringfence.check_tombstone_column(rel, column_name);
	IF EXISTS (
		SELECT FROM ringfence.tombstone_columns() AS c
		WHERE c.rel = tombstone.rel AND c.column_name <> tombstone.column_name
	) THEN
		RAISE EXCEPTION 'rows of table % leave tombstones for another column', rel
			USING ERRCODE = 'duplicate_object', HINT = 'Call ringfence.untombstone() first.';
	END IF;
	-- Or rows of one could have objects of the other deleted.
	SELECT c.rel INTO other
	FROM ringfence.tombstone_columns() AS c
	WHERE c.store = tombstone.store AND c.rel <> tombstone.rel
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'store "%" has the objects of another table', store
			USING ERRCODE = 'duplicate_object', DETAIL = format('It is that of table %s.', other), HINT = 'Choose another name.';
	END IF;
	constraint_name := left((SELECT c.relname FROM pg_class AS c WHERE c.oid = rel) || '_' || column_name, 44) || '_object_key_check';
	IF NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = rel AND c.conname = constraint_name) THEN
		EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (ringfence.is_object_key(%I, org_id))', rel, constraint_name, column_name);
	END IF;
	EXECUTE format('CREATE OR REPLACE TRIGGER ringfence_tombstone AFTER DELETE ON %s
		FOR EACH ROW EXECUTE FUNCTION ringfence.leave_tombstone(%L, %L)', rel, column_name, store);
	EXECUTE format('CREATE OR REPLACE TRIGGER ringfence_tombstone_update AFTER UPDATE ON %s
		FOR EACH ROW WHEN (OLD.%2$I IS DISTINCT FROM NEW.%2$I) EXECUTE FUNCTION ringfence.leave_tombstone(%3$L, %4$L)',
		rel, column_name, column_name, store);
	EXECUTE format('CREATE OR REPLACE TRIGGER ringfence_tombstone_truncate BEFORE TRUNCATE ON %s
		FOR EACH STATEMENT EXECUTE FUNCTION ringfence.leave_tombstone(%L, %L)', rel, column_name, store);
	EXECUTE format('COMMENT ON TRIGGER ringfence_tombstone ON %s IS %L', rel, 'leaves a tombstone for the object of a row that goes');
	EXECUTE format('COMMENT ON TRIGGER ringfence_tombstone_update ON %s IS %L', rel, 'leaves a tombstone for an object that the row names no more');
	EXECUTE format('COMMENT ON TRIGGER ringfence_tombstone_truncate ON %s IS %L', rel, 'refuses what would leave none');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.tombstone(regclass, name, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tombstone(regclass, name, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.tombstone(regclass, name, text) IS
	'has rows of a table leave tombstones for the objects in a store that a column names, from now on, and holds the keys to is_object_key(); a store is one table''s, which belongs to ringfence_owner, and a key must not be used again; repeatable; for superusers and members of ringfence_owner; 22004, 22023, 23514 for keys that are there, 42501, 42703, 42710, 42804, 42809, 55000';

CREATE FUNCTION ringfence.untombstone(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item name;
BEGIN
	FOR item IN
		SELECT t.tgname FROM pg_trigger AS t WHERE t.tgrelid = rel AND t.tgfoid = 'ringfence.leave_tombstone()'::regprocedure
	LOOP
		EXECUTE format('DROP TRIGGER %I ON %s', item, rel);
	END LOOP;
	FOR item IN
		SELECT c.conname
		FROM pg_constraint AS c
		WHERE c.conrelid = rel AND c.contype = 'c' AND c.conname LIKE '%\_object\_key\_check' AND NOT ringfence.is_tombstone_table(rel)
	LOOP
		EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', rel, item);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.untombstone(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.untombstone(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.untombstone(regclass) IS
	'takes back what tombstone() did to a table: rows leave no tombstones any more; those that are there stay; 42501';

-- The worker's side, as the jobs' role, to which row security does not apply, or a
-- superuser; row_security = off makes it fail where policies would have it find
-- nothing.

CREATE FUNCTION ringfence.tombstone_claim(batch integer DEFAULT 100, lease interval DEFAULT '5 minutes')
RETURNS TABLE (org_id uuid, id uuid, store text, object_key text, attempts integer)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 100
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	moment CONSTANT timestamptz := ringfence.retention_now();
BEGIN
	IF batch BETWEEN 1 AND 10000 IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid batch %', batch
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is 1 to 10000 tombstones.';
	END IF;
	IF (lease >= interval '1 second' AND lease <= interval '1 day') IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid lease %', lease
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is a second to a day.';
	END IF;
	RETURN QUERY
	WITH due AS MATERIALIZED (
		SELECT t.id
		FROM ringfence_data.tombstones AS t
		WHERE t.done_at IS NULL AND t.due_at <= moment
		ORDER BY t.due_at
		LIMIT batch
		FOR UPDATE SKIP LOCKED
	)
	UPDATE ringfence_data.tombstones AS t
	SET claimed_at = moment, claimed_by = format('%s %s', session_user, pg_backend_pid()),
		attempts = t.attempts + 1, due_at = moment + lease
	FROM due AS d
	WHERE t.id = d.id
	RETURNING t.org_id, t.id, t.store, t.object_key, t.attempts;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.tombstone_claim(integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tombstone_claim(integer, interval) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.tombstone_claim(integer, interval) IS
	'tombstones whose objects the caller is to delete, of whatever organization, those that wait longest first: nobody else gets them before the lease is over, or when they failed; passes over those in use; commit before deleting, for what is rolled back is anybody''s again; attempts counts this one; as ringfence_jobs or a superuser: 42501 for who does not see every row; 22023';

CREATE FUNCTION ringfence.tombstone_done(ids uuid[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	done bigint;
BEGIN
	WITH known AS MATERIALIZED (
		SELECT t.id
		FROM ringfence_data.tombstones AS t
		WHERE t.id = ANY (ids) AND t.done_at IS NULL
		ORDER BY t.id
		FOR UPDATE
	)
	UPDATE ringfence_data.tombstones AS t
	SET done_at = ringfence.retention_now()
	FROM known AS k
	WHERE t.id = k.id;
	GET DIAGNOSTICS done = ROW_COUNT;
	RETURN done;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.tombstone_done(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tombstone_done(uuid[]) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.tombstone_done(uuid[]) IS
	'notes that the objects of these tombstones are gone, or were not there; returns how many of them were not noted yet; also after the lease: the object is gone all the same; as ringfence_jobs or a superuser: 42501';

CREATE FUNCTION ringfence.tombstone_failed(id uuid, error text) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
BEGIN
	UPDATE ringfence_data.tombstones AS t
	SET last_error = left(coalesce(tombstone_failed.error, ''), 1000),
		due_at = ringfence.retention_now() + least(interval '1 day', interval '30 seconds' * 2 ^ least(t.attempts, 12))
	WHERE t.id = tombstone_failed.id AND t.done_at IS NULL;
	RETURN FOUND;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.tombstone_failed(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tombstone_failed(uuid, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.tombstone_failed(uuid, text) IS
	'notes why an object could not be deleted; its tombstone is due again in a minute, in two after the second attempt, in four after the third, in a day at most; false if there is none of that id, or it is done; as ringfence_jobs or a superuser: 42501';

CREATE FUNCTION ringfence.tombstone_backlog()
RETURNS TABLE (store text, waiting bigint, claimed bigint, failing bigint, oldest_at timestamptz, oldest_seconds bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 5
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	moment CONSTANT timestamptz := ringfence.retention_now();
BEGIN
	RETURN QUERY
	SELECT t.store, count(*), count(*) FILTER (WHERE t.claimed_at IS NOT NULL AND t.due_at > moment AND t.last_error IS NULL),
		count(t.last_error), min(t.created_at), extract(epoch FROM moment - min(t.created_at))::bigint
	FROM ringfence_data.tombstones AS t
	WHERE t.done_at IS NULL
	GROUP BY t.store
	ORDER BY t.store;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.tombstone_backlog() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tombstone_backlog() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.tombstone_backlog() IS
	'by store, how many objects are yet to be deleted, how many of these a worker has now, how many failed at least once, and since when the oldest waits: what to have an alarm on; as ringfence_jobs or a superuser: 42501';

-- No row is read: the owner sees none of them.
CREATE FUNCTION ringfence.verify_tombstones()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT 'error', 'tombstone_key_writable', format('%s.%I', c.rel, c.column_name),
		format('tenants choose which stored objects are deleted with a row: %s may write the key', w.tenants),
		format('REVOKE INSERT, UPDATE ON %s FROM %s; -- and grant them on the other columns', c.rel, w.tenants)
	FROM ringfence.tombstone_columns() AS c
	CROSS JOIN ringfence.tenants_writing(c.rel, c.column_name) AS w (tenants)
	WHERE w.tenants IS NOT NULL
	UNION ALL
	SELECT 'error', 'tombstone_trigger_missing', k.conrelid::regclass::text,
		'rows stand for stored objects, and leave no tombstone for them',
		format('SELECT ringfence.tombstone(%L, COLUMN, STORE); -- or ringfence.untombstone(%1$L)', k.conrelid::regclass)
	FROM pg_catalog.pg_depend AS d
	INNER JOIN pg_catalog.pg_constraint AS k ON k.oid = d.objid AND k.contype = 'c'
	WHERE d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_proc'::regclass
		AND d.refobjid = 'ringfence.is_object_key(text, uuid)'::regprocedure
		AND NOT ringfence.is_tombstone_table(k.conrelid)
		AND NOT EXISTS (SELECT FROM ringfence.tombstone_columns() AS c WHERE c.rel = k.conrelid AND c.triggers = 3);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_tombstones() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_tombstones() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_tombstones() IS
	'checks of verify(): rows that stand for stored objects leave tombstones, for keys that no tenant can write';
