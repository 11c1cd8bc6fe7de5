-- adopt(): protect() for a table that has rows already, without keeping its
-- writers out while they are looked through.
--
-- A trigger comes first: from its commit on, each row that is written gets its
-- org_id. So one pass over the pages that the table has by then finds every row
-- without one, whatever else happens; and a pass that was interrupted can begin
-- again, for what has an org_id is skipped.

CREATE FUNCTION ringfence.adopt_row() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parent regclass;
BEGIN
	IF TG_NARGS = 1 THEN
		NEW.org_id := TG_ARGV[0];
		RETURN NEW;
	END IF;
	-- Whoever may make triggers could name a view, or columns that are compared
	-- by casts and operators of their own, and have their functions run here.
	SELECT c.oid INTO parent
	FROM pg_class AS c
	INNER JOIN pg_attribute AS po ON po.attrelid = c.oid AND po.attname = 'org_id' AND po.atttypid = 'uuid'::regtype
	INNER JOIN pg_attribute AS pk ON pk.attrelid = c.oid AND pk.attname = TG_ARGV[1]
	INNER JOIN pg_attribute AS ck ON ck.attrelid = TG_RELID AND ck.attname = TG_ARGV[2] AND ck.atttypid = pk.atttypid
	INNER JOIN pg_attribute AS co ON co.attrelid = TG_RELID AND co.attname = 'org_id' AND co.atttypid = 'uuid'::regtype
	INNER JOIN pg_type AS t ON t.oid = pk.atttypid AND t.typnamespace = 'pg_catalog'::regnamespace
	WHERE c.oid = TG_ARGV[0]::oid AND c.relkind IN ('r', 'p') AND ringfence.row_class(c.oid) = 'org';
	IF parent IS NULL THEN
		RAISE EXCEPTION 'rows cannot be assigned by that table and column'
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'The table must be protected, and both columns of the same type of PostgreSQL''s own.';
	END IF;
	EXECUTE format(
		'SELECT (array_agg(DISTINCT p.org_id))[1] FROM %s AS p WHERE p.%I = ($1).%I HAVING count(DISTINCT p.org_id) = 1',
		parent, TG_ARGV[1], TG_ARGV[2])
	INTO NEW.org_id
	USING NEW;
	RETURN NEW;
END
$$;
ALTER FUNCTION ringfence.adopt_row() OWNER TO ringfence_jobs;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_row() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_row() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_row() IS
	'trigger of a table that adopt() is at work on: gives a row the organization in its argument, or that of the row it references, or leaves it without one';

CREATE FUNCTION ringfence.adopt_key(rel regclass, parent regclass, via name) RETURNS name
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	via_column pg_attribute;
	key name;
BEGIN
	SELECT a.* INTO via_column
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = via AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', via, rel USING ERRCODE = 'undefined_column';
	END IF;
	IF ringfence.row_class(parent) IS DISTINCT FROM 'org' THEN
		RAISE EXCEPTION 'table % is not protected', parent
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'The organization of each row is to be that of the row it references there.',
			HINT = 'Adopt that table first.';
	END IF;
	-- What a foreign key says, or else the primary key.
	SELECT a.attname INTO key
	FROM pg_constraint AS c
	INNER JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = c.confkey[1]
	WHERE c.conrelid = rel AND c.contype = 'f' AND c.confrelid = parent AND c.conkey = ARRAY[via_column.attnum];
	IF NOT FOUND THEN
		SELECT a.attname INTO key
		FROM pg_attribute AS a
		WHERE a.attrelid = parent AND a.atttypid = via_column.atttypid
			AND ARRAY[a.attname] = array_remove(ringfence.primary_key_columns(parent), 'org_id');
	END IF;
	IF key IS NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not reference table %', via, rel, parent
			USING ERRCODE = 'invalid_foreign_key',
			DETAIL = 'There is no foreign key, and the primary key is not org_id and one column of the same type.';
	END IF;
	RETURN key;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_key(regclass, regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_key(regclass, regclass, name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_key(regclass, regclass, name) IS
	'the column of a protected table that a column of another one references; for adopt(); 42703, 42830, 55000';

CREATE FUNCTION ringfence.adopt_check(
	rel regclass,
	access jsonb,
	org uuid,
	parent regclass,
	via name,
	batch_size integer
) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	class pg_class;
BEGIN
	IF rel IS NULL OR access IS NULL OR batch_size IS NULL THEN
		RAISE EXCEPTION 'table, access and batch size must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	-- Only a block begun before this statement has an older transaction.
	IF now() < statement_timestamp() THEN
		RAISE EXCEPTION 'ringfence.adopt() cannot run inside a transaction block'
			USING ERRCODE = 'active_sql_transaction', DETAIL = 'It commits as it goes.';
	END IF;
	PERFORM 1 FROM pg_roles AS r WHERE r.rolname = current_user AND (r.rolsuper OR r.rolbypassrls);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'permission denied to adopt a table'
			USING ERRCODE = 'insufficient_privilege',
			HINT = 'It takes a superuser, or a role with BYPASSRLS that owns the table and is a member of ringfence_owner.';
	END IF;
	IF NOT pg_has_role('ringfence_owner', 'MEMBER') THEN
		RAISE EXCEPTION 'must be a member of role "ringfence_owner" to make it the owner of table %', rel
			USING ERRCODE = 'insufficient_privilege';
	END IF;
	SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
	IF NOT FOUND OR class.relkind NOT IN ('r', 'p') OR class.relpersistence = 't' OR class.relispartition THEN
		RAISE EXCEPTION '"%" is not a table that can be adopted', rel
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'It takes an ordinary or partitioned table, and not a partition of one.';
	END IF;
	IF class.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = rel) THEN
		RAISE EXCEPTION 'table % has child tables', rel
			USING ERRCODE = 'feature_not_supported', HINT = 'Take them out with ALTER TABLE ... NO INHERIT, or partition the table.';
	END IF;
	IF to_regclass('ringfence_data.orgs') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;
	IF ringfence.row_class(rel) IS NOT NULL THEN
		RAISE EXCEPTION 'table % is already protected', rel
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.protect() to give it another access matrix.';
	END IF;
	PERFORM 1 FROM ringfence.guarded_schemas() AS s WHERE s.schema_name = class.relnamespace::regnamespace::name;
	IF FOUND THEN
		RAISE EXCEPTION 'schema % admits only protected tables', class.relnamespace::regnamespace
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'adopt() commits changes to the table before it is protected.',
			HINT = format('Call ringfence.unprotect_schema(%1$L) before, and ringfence.protect_schema(%1$L) after it.',
				class.relnamespace::regnamespace);
	END IF;
	IF (parent IS NULL) <> (via IS NULL) OR (org IS NOT NULL AND parent IS NOT NULL) THEN
		RAISE EXCEPTION 'either org or parent and via must be given'
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'org is the organization of every row; parent and via name a protected table and the column that references it.';
	END IF;
	IF batch_size < 1 THEN
		RAISE EXCEPTION 'invalid batch size %', batch_size USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM 1
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = 'org_id' AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid <> 'uuid'::regtype;
	IF FOUND THEN
		RAISE EXCEPTION 'column "org_id" of table % is not of type uuid', rel USING ERRCODE = 'datatype_mismatch';
	END IF;
	IF ringfence.primary_key_columns(rel) IS NULL AND NOT EXISTS (
		SELECT FROM pg_attribute AS a WHERE a.attrelid = rel AND a.attname = 'id' AND a.attnum > 0 AND NOT a.attisdropped
	) THEN
		RAISE EXCEPTION 'table % has neither a primary key nor a column "id"', rel
			USING ERRCODE = 'invalid_table_definition',
			HINT = 'Give it a column that identifies a row within an organization.';
	END IF;
	IF org IS NOT NULL AND NOT EXISTS (SELECT FROM ringfence_data.orgs AS o WHERE o.id = org) THEN
		RAISE EXCEPTION 'organization % does not exist', org USING ERRCODE = 'foreign_key_violation';
	END IF;
	PERFORM 1 FROM ringfence.access_rules(rel, access);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_check(regclass, jsonb, uuid, regclass, name, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_check(regclass, jsonb, uuid, regclass, name, integer) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_check(regclass, jsonb, uuid, regclass, name, integer) IS
	'refuses what adopt() could not finish, before anything is touched; 22004, 22023, 23503, 25001, 42501, 42703, 42804, 42809, 42830, 42P16, 0A000, 55000';

CREATE FUNCTION ringfence.adopt_begin(rel regclass, org uuid, parent regclass, key name, via name) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- Only the first call needs the table to itself, for that moment.
	IF NOT EXISTS (
		SELECT FROM pg_attribute AS a WHERE a.attrelid = rel AND a.attname = 'org_id' AND a.attnum > 0 AND NOT a.attisdropped
	) THEN
		EXECUTE format('ALTER TABLE %s ADD COLUMN org_id uuid', rel);
	END IF;
	IF org IS NULL AND parent IS NULL THEN
		RETURN;
	END IF;
	IF parent IS NOT NULL THEN
		EXECUTE format('GRANT USAGE ON SCHEMA %s TO ringfence_jobs',
			(SELECT c.relnamespace::regnamespace FROM pg_class AS c WHERE c.oid = parent));
		EXECUTE format('GRANT SELECT (org_id, %I) ON %s TO ringfence_jobs', key, parent);
	END IF;
	EXECUTE format(
		'CREATE OR REPLACE TRIGGER ringfence_adopt BEFORE INSERT OR UPDATE ON %s FOR EACH ROW WHEN (NEW.org_id IS NULL) EXECUTE FUNCTION ringfence.adopt_row(%s)',
		rel, coalesce(quote_literal(org), format('%L, %L, %L', parent::oid, key, via)));
	EXECUTE format('COMMENT ON TRIGGER ringfence_adopt ON %s IS %L', rel,
		'gives new rows an org_id until ringfence.adopt() is done');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_begin(regclass, uuid, regclass, name, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_begin(regclass, uuid, regclass, name, name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_begin(regclass, uuid, regclass, name, name) IS
	'first step of adopt(): the column org_id, still nullable, and the trigger that fills it in what is written from now on';

-- Runs of pages that hold about batch_size rows each.
CREATE FUNCTION ringfence.adopt_batches(
	rel regclass,
	batch_size integer,
	OUT leaf regclass,
	OUT first_page tid,
	OUT next_page tid
) RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
	SELECT l.leaf, format('(%s,0)', p.page)::tid, format('(%s,0)', p.page + l.step)::tid
	FROM (
		SELECT
			c.oid::regclass AS leaf,
			pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages,
			greatest(1, batch_size / greatest(1, CASE WHEN c.relpages > 0 THEN c.reltuples / c.relpages ELSE 50 END))::bigint AS step
		FROM pg_partition_tree(rel) AS t
		INNER JOIN pg_catalog.pg_class AS c ON c.oid = t.relid
		WHERE t.isleaf
		UNION ALL
		SELECT
			c.oid::regclass,
			pg_relation_size(c.oid) / current_setting('block_size')::bigint,
			greatest(1, batch_size / greatest(1, CASE WHEN c.relpages > 0 THEN c.reltuples / c.relpages ELSE 50 END))::bigint
		FROM pg_catalog.pg_class AS c
		WHERE c.oid = rel AND c.relkind = 'r'
	) AS l
	CROSS JOIN LATERAL generate_series(0, l.pages - 1, l.step) AS p (page)
	ORDER BY l.leaf::oid, p.page;
END;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_batches(regclass, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_batches(regclass, integer) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_batches(regclass, integer) IS
	'the pages of a table, and of its partitions, in runs of about so many rows; for adopt()';

-- Where it may, without the table's own triggers, which are not meant for this:
-- no row's modification time or version changes.
CREATE FUNCTION ringfence.adopt_batch(
	leaf regclass,
	first_page tid,
	next_page tid,
	org uuid,
	parent regclass,
	key name,
	via name
) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	assigned bigint;
BEGIN
	IF has_parameter_privilege(current_user, 'session_replication_role', 'SET') THEN
		PERFORM set_config('session_replication_role', 'replica', true);
	END IF;
	IF org IS NOT NULL THEN
		EXECUTE format(
			'UPDATE ONLY %s AS c SET org_id = $1 WHERE c.ctid >= $2 AND c.ctid < $3 AND c.org_id IS NULL', leaf)
		USING org, first_page, next_page;
	ELSE
		EXECUTE format(
			'UPDATE ONLY %1$s AS c
			SET org_id = m.org_id
			FROM (
				SELECT p.%3$I AS key, (array_agg(DISTINCT p.org_id))[1] AS org_id
				FROM %2$s AS p
				WHERE p.%3$I IN (
					SELECT b.%4$I FROM ONLY %1$s AS b WHERE b.ctid >= $1 AND b.ctid < $2 AND b.org_id IS NULL
				)
				GROUP BY p.%3$I
				HAVING count(DISTINCT p.org_id) = 1
			) AS m
			WHERE c.ctid >= $1 AND c.ctid < $2 AND c.org_id IS NULL AND c.%4$I = m.key',
			leaf, parent, key, via)
		USING first_page, next_page;
	END IF;
	GET DIAGNOSTICS assigned = ROW_COUNT;
	RETURN assigned;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_batch(regclass, tid, tid, uuid, regclass, name, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_batch(regclass, tid, tid, uuid, regclass, name, name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_batch(regclass, tid, tid, uuid, regclass, name, name) IS
	'gives the rows of some pages that have no org_id theirs, and returns how many; for adopt()';

CREATE FUNCTION ringfence.adopt_refuse_unassigned(rel regclass, via name) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	key text := (
		SELECT string_agg(format('c.%I', k.name), ', ' ORDER BY k.place)
		FROM unnest(coalesce(ringfence.primary_key_columns(rel), ARRAY['id'::name])) WITH ORDINALITY AS k (name, place)
	);
	total bigint;
	examples text;
BEGIN
	EXECUTE format(
		'SELECT count(*), string_agg(u.example, ''; '') FILTER (WHERE u.place <= 10)
		FROM (
			SELECT concat_ws('', '', %1$s)%2$s AS example, row_number() OVER (ORDER BY %1$s) AS place
			FROM %3$s AS c
			WHERE c.org_id IS NULL
		) AS u',
		key,
		CASE WHEN via IS NULL THEN ''
			ELSE format(' || format('' (%%s %%s)'', %L::text, coalesce(c.%I::text, ''is null''))', via, via) END,
		rel)
	INTO total, examples;
	IF total > 0 THEN
		RAISE EXCEPTION 'table % has rows that cannot be assigned to an organization', rel
			USING ERRCODE = 'not_null_violation',
			DETAIL = format('Rows: %s. %s: %s.', total, CASE WHEN total > 10 THEN 'The first 10 by key' ELSE 'By key' END, examples),
			HINT = 'Correct or delete them, then call ringfence.adopt() again: it goes on where it stopped.';
	END IF;
	EXECUTE format(
		'SELECT count(*), string_agg(u.example, ''; '') FILTER (WHERE u.place <= 10)
		FROM (
			SELECT format(''%%s (org_id %%s)'', concat_ws('', '', %1$s), c.org_id) AS example, row_number() OVER (ORDER BY %1$s) AS place
			FROM %2$s AS c
			WHERE NOT EXISTS (SELECT FROM ringfence_data.orgs AS o WHERE o.id = c.org_id)
		) AS u',
		key, rel)
	INTO total, examples;
	IF total > 0 THEN
		RAISE EXCEPTION 'table % has rows of organizations that do not exist', rel
			USING ERRCODE = 'foreign_key_violation',
			DETAIL = format('Rows: %s. %s: %s.', total, CASE WHEN total > 10 THEN 'The first 10 by key' ELSE 'By key' END, examples),
			HINT = 'Correct or delete them, then call ringfence.adopt() again.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_refuse_unassigned(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_refuse_unassigned(regclass, name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_refuse_unassigned(regclass, name) IS
	'23502 if rows of a table have no org_id yet, 23503 if it is none of an organization; with their number and up to ten keys';

CREATE FUNCTION ringfence.adopt_constrain(rel regclass) RETURNS name
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org_column pg_attribute;
	foreign_key name;
BEGIN
	SELECT a.* INTO STRICT org_column FROM pg_attribute AS a WHERE a.attrelid = rel AND a.attname = 'org_id';
	IF NOT org_column.attnotnull
		AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = rel AND c.conname = 'ringfence_adopt') THEN
		EXECUTE format('ALTER TABLE %s ADD CONSTRAINT ringfence_adopt CHECK (org_id IS NOT NULL) NOT VALID', rel);
	END IF;
	LOOP
		SELECT c.conname INTO foreign_key
		FROM pg_constraint AS c
		WHERE c.conrelid = rel AND c.contype = 'f' AND c.confrelid = 'ringfence_data.orgs'::regclass
			AND c.conkey = ARRAY[org_column.attnum];
		EXIT WHEN FOUND;
		-- A partitioned table's can't be NOT VALID before 18.
		EXECUTE format('ALTER TABLE %s ADD FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id)%s', rel,
			CASE WHEN (SELECT k.relkind FROM pg_class AS k WHERE k.oid = rel) = 'r' THEN ' NOT VALID' ELSE '' END);
	END LOOP;
	RETURN foreign_key;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_constrain(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_constrain(regclass) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_constrain(regclass) IS
	'step of adopt(): what org_id must be is checked from now on, and not yet validated; returns the name of the foreign key';

CREATE FUNCTION ringfence.adopt_validate(rel regclass, constraint_name name) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = rel AND c.conname = constraint_name AND NOT c.convalidated) THEN
		EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', rel, constraint_name);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_validate(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_validate(regclass, name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_validate(regclass, name) IS
	'step of adopt(): validates a constraint, which keeps no writer out';

CREATE FUNCTION ringfence.adopt_finish(rel regclass, access jsonb, parent regclass, key name, via name) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', rel);
	EXECUTE format('ALTER TABLE %s ALTER COLUMN org_id SET NOT NULL, ALTER COLUMN org_id SET DEFAULT ringfence.org_id()', rel);
	IF EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = rel AND c.conname = 'ringfence_adopt') THEN
		EXECUTE format('ALTER TABLE %s DROP CONSTRAINT ringfence_adopt', rel);
	END IF;
	IF EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = rel AND t.tgname = 'ringfence_adopt') THEN
		EXECUTE format('DROP TRIGGER ringfence_adopt ON %s', rel);
	END IF;
	IF parent IS NOT NULL THEN
		EXECUTE format('REVOKE SELECT (org_id, %I) ON %s FROM ringfence_jobs', key, parent);
	END IF;
	EXECUTE format('COMMENT ON COLUMN %s.org_id IS %L', rel, 'the organization that owns the row');
	PERFORM ringfence.protect(rel, access);
	IF parent IS NOT NULL THEN
		RAISE NOTICE 'nothing yet keeps column "%" of table % to rows of table % of the same organization', via, rel, parent
			USING HINT = format('SELECT ringfence.add_foreign_key(%L, %L, %L);', rel, ARRAY[via], parent);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.adopt_finish(regclass, jsonb, regclass, name, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.adopt_finish(regclass, jsonb, regclass, name, name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.adopt_finish(regclass, jsonb, regclass, name, name) IS
	'last step of adopt(): org_id is NOT NULL, the trigger goes, the table is protected, all at once';

-- A procedure that commits can't have a SET clause: each step is a function
-- that has one, and nothing here depends on the search_path but the names of
-- operators, which the setting of each transaction settles.
CREATE PROCEDURE ringfence.adopt(
	rel regclass,
	access jsonb DEFAULT '{}',
	org uuid DEFAULT NULL,
	parent regclass DEFAULT NULL,
	via name DEFAULT NULL,
	batch_size integer DEFAULT 10000
)
LANGUAGE plpgsql
AS $$
DECLARE
	key name;
	batch record;
	assigned bigint := 0;
	foreign_key name;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	PERFORM ringfence.adopt_check(rel, access, org, parent, via, batch_size);
	IF parent IS NOT NULL THEN
		key := ringfence.adopt_key(rel, parent, via);
	END IF;
	-- Inside a function or a block this is where it fails, with nothing done.
	COMMIT;

	PERFORM ringfence.adopt_begin(rel, org, parent, key, via);
	COMMIT;

	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	IF org IS NOT NULL OR parent IS NOT NULL THEN
		FOR batch IN
			SELECT b.leaf, b.first_page, b.next_page FROM ringfence.adopt_batches(rel, batch_size) AS b
		LOOP
			-- Rows are locked in the order they lie in; other transactions may have another.
			LOOP
				BEGIN
					assigned := assigned
						OPERATOR(pg_catalog.+) ringfence.adopt_batch(batch.leaf, batch.first_page, batch.next_page, org, parent, key, via);
					EXIT;
				EXCEPTION WHEN deadlock_detected THEN
					NULL;
				END;
			END LOOP;
			COMMIT;
		END LOOP;
		RAISE NOTICE '% rows of table % have been assigned to an organization', assigned, rel;
	END IF;

	PERFORM ringfence.adopt_refuse_unassigned(rel, via);
	foreign_key := ringfence.adopt_constrain(rel);
	COMMIT;
	PERFORM ringfence.adopt_validate(rel, 'ringfence_adopt');
	COMMIT;
	PERFORM ringfence.adopt_validate(rel, foreign_key);
	COMMIT;
	PERFORM ringfence.adopt_finish(rel, access, parent, key, via);
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.adopt(regclass, jsonb, uuid, regclass, name, integer) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.adopt(regclass, jsonb, uuid, regclass, name, integer) TO pg_database_owner;
COMMENT ON PROCEDURE ringfence.adopt(regclass, jsonb, uuid, regclass, name, integer) IS
	'protect() for a table with rows: adds org_id, fills it in committed batches with org or with that of the row of a protected parent that the column via references, validates it without keeping writers out, then protects the table; called again after an interruption it goes on; 23502 with the rows that cannot be assigned, 23503, 25001 and 2D000 inside a transaction, and what protect() raises';
