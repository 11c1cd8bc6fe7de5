-- Isolation: ordinary row security, generated from one declaration a table.

CREATE FUNCTION ringfence.register_table(
	rel regclass,
	row_class text,
	access jsonb,
	columns jsonb DEFAULT '{}'
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF row_class IS NULL THEN
		DELETE FROM ringfence_data.tables AS t WHERE t.relation = rel;
	ELSE
		INSERT INTO ringfence_data.tables AS t (relation, row_class, access, columns)
		VALUES (rel, register_table.row_class, register_table.access, register_table.columns)
		ON CONFLICT (relation) DO UPDATE
		SET row_class = excluded.row_class,
			access = excluded.access,
			columns = excluded.columns,
			protected_at = clock_timestamp();
	END IF;
END
$$;
ALTER FUNCTION ringfence.register_table(regclass, text, jsonb, jsonb) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.register_table(regclass, text, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.register_table(regclass, text, jsonb, jsonb) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.register_table(regclass, text, jsonb, jsonb) IS
	'notes in ringfence_data.tables how a table is protected; a NULL row class forgets it; for protect() and unprotect()';

CREATE FUNCTION ringfence.row_class(rel regclass) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	IF to_regclass('ringfence_data.tables') IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT t.row_class FROM ringfence_data.tables AS t WHERE t.relation = rel);
END
$$;
ALTER FUNCTION ringfence.row_class(regclass) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.row_class(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.row_class(regclass) TO pg_database_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.row_class(regclass) IS
	'the row class that a table is protected with, or NULL if it is not protected';

-- The grammar of a rule, in full: COMMANDS [where COLUMN is KIND | where COLUMN
-- is user | where COLUMN matches SCHEMA.TABLE as KIND]. Nothing of it reaches a
-- policy but through quote_ident, quote_literal or regclass.
CREATE FUNCTION ringfence.access_rules(
	rel regclass,
	access jsonb,
	OUT role text,
	OUT command text,
	OUT condition text,
	OUT own_column text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry record;
	rule jsonb;
	parts text[];
	scope text[];
	commands text[];
BEGIN
	IF jsonb_typeof(access) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION 'access must be a JSON object'
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write for example {"owner,admin": "all", "client": "select where client_id is client"}.';
	END IF;
	FOR entry IN
		SELECT btrim(r.name) AS name, a.value
		FROM jsonb_each(access) WITH ORDINALITY AS a (key, value, place),
			regexp_split_to_table(a.key, ',') WITH ORDINALITY AS r (name, position)
		ORDER BY a.place, r.position
	LOOP
		IF entry.name !~ '^([a-z][a-z0-9_]{0,30}|\*)$' THEN
			RAISE EXCEPTION 'invalid role "%" in access of table %', entry.name, rel
				USING ERRCODE = 'invalid_parameter_value',
				HINT = 'A role is lower case letters, digits and underscores; * stands for every member.';
		END IF;
		FOR rule IN
			SELECT r.value
			FROM jsonb_array_elements(
				CASE jsonb_typeof(entry.value) WHEN 'array' THEN entry.value ELSE jsonb_build_array(entry.value) END
			) AS r (value)
		LOOP
			parts := regexp_match(rule #>> '{}',
				'^\s*((?:all|select|insert|update|delete)(?:\s+(?:select|insert|update|delete))*)(?:\s+where\s+(\S.*?))?\s*$');
			IF jsonb_typeof(rule) <> 'string' OR parts IS NULL THEN
				RAISE EXCEPTION 'invalid rule % in access of table %', rule, rel
					USING ERRCODE = 'invalid_parameter_value',
					HINT = 'A rule is "all" or some of "select insert update delete", and may end in "where COLUMN is KIND", "where COLUMN is user" or "where COLUMN matches SCHEMA.TABLE as KIND".';
			END IF;
			commands := CASE
				WHEN parts[1] ~ '^all' THEN ARRAY['select', 'insert', 'update', 'delete']
				ELSE regexp_split_to_array(parts[1], '\s+')
			END;
			condition := NULL;
			own_column := NULL;
			IF parts[2] IS NOT NULL THEN
				scope := regexp_match(parts[2], '^(\w+)\s+is\s+([a-z]\w*)$');
				IF scope IS NOT NULL THEN
					own_column := scope[1];
					condition := CASE scope[2]
						WHEN 'user' THEN format('%I = ringfence.user_id()', own_column)
						ELSE format('%I = ringfence.party_id(%L)', own_column, scope[2])
					END;
				ELSE
					scope := regexp_match(parts[2], '^(\w+)\s+matches\s+(\w+)\.(\w+)\s+as\s+([a-z]\w*)$');
					IF scope IS NULL THEN
						RAISE EXCEPTION 'invalid condition "%" in access of table %', parts[2], rel
							USING ERRCODE = 'invalid_parameter_value',
							HINT = 'A condition is "COLUMN is KIND", "COLUMN is user" or "COLUMN matches SCHEMA.TABLE as KIND".';
					END IF;
					own_column := scope[1];
					condition := format(
						'%I = (SELECT p.%I FROM %s AS p WHERE p.org_id = ringfence.org_id() AND p.id = ringfence.party_id(%L))',
						own_column, own_column, format('%I.%I', scope[2], scope[3])::regclass, scope[4]);
				END IF;
				PERFORM 1 FROM pg_attribute AS a
				WHERE a.attrelid = rel AND a.attname = own_column AND a.attnum > 0 AND NOT a.attisdropped;
				IF NOT FOUND THEN
					RAISE EXCEPTION 'column "%" of table % does not exist', own_column, rel
						USING ERRCODE = 'undefined_column';
				END IF;
			END IF;
			FOREACH command IN ARRAY commands LOOP
				role := entry.name;
				RETURN NEXT;
			END LOOP;
		END LOOP;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.access_rules(regclass, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.access_rules(regclass, jsonb) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.access_rules(regclass, jsonb) IS
	'an access matrix as rows: role, command, the SQL condition that limits it or NULL, and that condition''s column; 22023 for what is not in the grammar';

CREATE FUNCTION ringfence.drop_policies(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy name;
BEGIN
	FOR policy IN
		SELECT p.polname
		FROM pg_policy AS p
		WHERE p.polrelid = rel
			AND p.polname ~ '^((org|user)_isolation|owner_code|operator_(read|write)|reference_read|(select|insert|update|delete)_for_.*)$'
	LOOP
		EXECUTE format('DROP POLICY %I ON %s', policy, rel);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.drop_policies(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.drop_policies(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.drop_policies(regclass) IS
	'drops the policies that protect() makes, by their names; a DBA''s own stay';

CREATE FUNCTION ringfence.access_policies(
	rel regclass,
	access jsonb,
	OUT policy name,
	OUT command text,
	OUT expression text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT
		p.stem || CASE WHEN p.same_stem > 1 THEN '_' || p.same_stem ELSE '' END,
		p.command,
		CASE
			WHEN '*' = ANY (p.roles) THEN coalesce(p.condition, 'ringfence.installed()')
			ELSE (
				SELECT format('ringfence.has_role(%s)', string_agg(quote_literal(n.name), ', ' ORDER BY n.place))
				FROM unnest(p.roles) WITH ORDINALITY AS n (name, place)
			) || coalesce(' AND ' || p.condition, '')
		END
	FROM (
		SELECT
			s.command,
			s.condition,
			s.roles,
			s.stem,
			row_number() OVER (PARTITION BY s.stem ORDER BY s.roles, s.condition) AS same_stem
		FROM (
			SELECT
				g.command,
				g.condition,
				g.roles,
				left(g.command || '_for_' || replace(array_to_string(g.roles, '_'), '*', 'member')
					|| coalesce('_own_' || g.own_column, ''), 60) AS stem
			FROM (
				SELECT r.command, r.condition, r.own_column, array_agg(r.role ORDER BY r.place) AS roles
				FROM (
					SELECT a.role, a.command, a.condition, a.own_column, min(a.place) AS place
					FROM ringfence.access_rules(rel, access) WITH ORDINALITY
						AS a (role, command, condition, own_column, place)
					GROUP BY a.role, a.command, a.condition, a.own_column
				) AS r
				GROUP BY r.command, r.condition, r.own_column
			) AS g
		) AS s
	) AS p;
END;
REVOKE EXECUTE ON FUNCTION ringfence.access_policies(regclass, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.access_policies(regclass, jsonb) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.access_policies(regclass, jsonb) IS
	'the permissive policies of an access matrix: one for each command and condition, named after the roles it is for';

-- Every policy of a protected table: what create_policies() makes and verify()
-- expects.
CREATE FUNCTION ringfence.table_policies(
	rel regclass,
	row_class text,
	access jsonb,
	OUT policy name,
	OUT kind text,
	OUT command text,
	OUT roles text,
	OUT expression text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT f.policy, f.kind, f.command, f.roles, f.expression
	FROM (VALUES
		(ARRAY['org', 'user', 'reference', 'system'],
			'owner_code', 'permissive', 'all', 'ringfence_owner', 'ringfence.installed()'),
		(ARRAY['org'], 'org_isolation', 'restrictive', 'all', 'public', 'org_id = ringfence.org_id()'),
		(ARRAY['user'], 'user_isolation', 'restrictive', 'all', 'public', 'user_id = ringfence.user_id()'),
		(ARRAY['org'], 'operator_read', 'permissive', 'select', 'ringfence_operator', 'ringfence.installed()'),
		(ARRAY['reference'], 'reference_read', 'permissive', 'select', 'ringfence_anon, ringfence_member', 'ringfence.installed()'),
		(ARRAY['reference'], 'operator_write', 'permissive', 'all', 'ringfence_operator', 'ringfence.installed()')
	) AS f (row_classes, policy, kind, command, roles, expression)
	WHERE table_policies.row_class = ANY (f.row_classes)
	UNION ALL
	SELECT a.policy, 'permissive', a.command, 'ringfence_member', a.expression
	FROM ringfence.access_policies(rel, access) AS a
	WHERE table_policies.row_class IN ('org', 'user');
END;
REVOKE EXECUTE ON FUNCTION ringfence.table_policies(regclass, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.table_policies(regclass, text, jsonb) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.table_policies(regclass, text, jsonb) IS
	'the policies of a table of that row class and access matrix; the expression is for USING and WITH CHECK alike';

-- Policies are dropped and made afresh, so that a second call with another
-- matrix leaves nothing of the first.
CREATE FUNCTION ringfence.create_policies(rel regclass, row_class text, access jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p record;
BEGIN
	PERFORM ringfence.drop_policies(rel);
	EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', rel);
	EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', rel);
	FOR p IN
		SELECT t.policy, t.kind, t.command, t.roles, t.expression
		FROM ringfence.table_policies(rel, row_class, access) AS t
	LOOP
		EXECUTE format('CREATE POLICY %I ON %s AS %s FOR %s TO %s %s %s',
			p.policy, rel, p.kind, p.command, p.roles,
			CASE WHEN p.command <> 'insert' THEN 'USING (' || p.expression || ')' ELSE '' END,
			CASE WHEN p.command IN ('all', 'insert', 'update') THEN 'WITH CHECK (' || p.expression || ')' ELSE '' END);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.create_policies(regclass, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.create_policies(regclass, text, jsonb) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.create_policies(regclass, text, jsonb) IS
	'puts row security in force on a table and makes its policies afresh, restrictive and permissive';

-- A command on some columns only, or on all where the table's column lists say
-- nothing of it.
CREATE FUNCTION ringfence.column_grant(rel regclass, command text, columns jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF jsonb_typeof(columns) <> 'object' OR EXISTS (
		SELECT FROM jsonb_each(columns) AS c
		WHERE c.key NOT IN ('select', 'insert', 'update') OR jsonb_typeof(c.value) <> 'array' OR c.value = '[]'
	) THEN
		RAISE EXCEPTION 'invalid columns % of table %', columns, rel
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write for example {"update": ["due_date", "notes"]}; select, insert and update can be limited so.';
	END IF;
	RETURN command || coalesce((
		SELECT ' (' || string_agg(quote_ident(c.name), ', ' ORDER BY c.place) || ')'
		FROM jsonb_array_elements_text(columns -> command) WITH ORDINALITY AS c (name, place)
	), '');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.column_grant(regclass, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.column_grant(regclass, text, jsonb) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.column_grant(regclass, text, jsonb) IS
	'the privilege that GRANT is to give for a command, with its columns if the table limits it; 22023 for lists that are none';

-- TRUNCATE knows no rows, so not even the owner's own code may: it would reach
-- every organization's.
CREATE FUNCTION ringfence.set_table_grants(rel regclass, row_class text, access jsonb, columns jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class pg_class := (SELECT c FROM pg_class AS c WHERE c.oid = rel);
	schema_name name := (SELECT n.nspname FROM pg_namespace AS n WHERE n.oid = class.relnamespace);
	commands text;
BEGIN
	EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, ringfence_anon, ringfence_member, ringfence_operator', rel);
	EXECUTE format('REVOKE TRUNCATE ON %s FROM %s', rel, class.relowner::regrole);
	EXECUTE format('GRANT USAGE ON SCHEMA %I TO ringfence_owner', schema_name);
	IF row_class IN ('org', 'user') THEN
		SELECT string_agg(ringfence.column_grant(rel, r.command, columns), ', ' ORDER BY r.command) INTO commands
		FROM (SELECT DISTINCT a.command FROM ringfence.access_rules(rel, access) AS a) AS r;
	ELSIF row_class = 'reference' THEN
		commands := 'select';
		EXECUTE format('GRANT SELECT ON %s TO ringfence_anon', rel);
		EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO ringfence_operator', rel);
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO ringfence_anon, ringfence_operator', schema_name);
	END IF;
	IF row_class = 'org' THEN
		EXECUTE format('GRANT SELECT ON %s TO ringfence_operator', rel);
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO ringfence_operator', schema_name);
	END IF;
	IF commands IS NOT NULL THEN
		EXECUTE format('GRANT %s ON %s TO ringfence_member', commands, rel);
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO ringfence_member', schema_name);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.set_table_grants(regclass, text, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.set_table_grants(regclass, text, jsonb, jsonb) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.set_table_grants(regclass, text, jsonb, jsonb) IS
	'grants the commands that a matrix names, and no others: never TRUNCATE, REFERENCES or TRIGGER';

CREATE FUNCTION ringfence.primary_key_columns(rel regclass) RETURNS name[]
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT array_agg(a.attname ORDER BY k.place)
	FROM pg_catalog.pg_constraint AS c
	CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (attnum, place)
	INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
	WHERE c.conrelid = rel AND c.contype = 'p';
END;
REVOKE EXECUTE ON FUNCTION ringfence.primary_key_columns(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.primary_key_columns(regclass) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.primary_key_columns(regclass) IS
	'the columns of a table''s primary key in order, or NULL';

-- A primary key that other tables reference can't be replaced under them: then
-- the composite key stands beside it, and verify() goes on naming the old one.
CREATE FUNCTION ringfence.lead_key_with_org(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key name[] := ringfence.primary_key_columns(rel);
	key_name name := (SELECT c.conname FROM pg_constraint AS c WHERE c.conrelid = rel AND c.contype = 'p');
	columns text;
BEGIN
	IF key[1] = 'org_id' THEN
		RETURN;
	END IF;
	IF key IS NULL THEN
		PERFORM 1 FROM pg_attribute AS a
		WHERE a.attrelid = rel AND a.attname = 'id' AND a.attnum > 0 AND NOT a.attisdropped;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'table % has neither a primary key nor a column "id"', rel
				USING ERRCODE = 'invalid_table_definition',
				HINT = 'Give it a column that identifies a row within an organization.';
		END IF;
		key := ARRAY['id'];
	END IF;
	columns := (
		SELECT string_agg(quote_ident(k.name), ', ' ORDER BY k.place)
		FROM unnest(ARRAY['org_id'] || array_remove(key, 'org_id')) WITH ORDINALITY AS k (name, place)
	);
	IF key_name IS NULL THEN
		EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (%s)', rel, columns);
	ELSIF EXISTS (SELECT FROM pg_constraint AS c WHERE c.confrelid = rel AND c.contype = 'f') THEN
		IF NOT EXISTS (
			SELECT FROM pg_index AS i
			WHERE i.indrelid = rel AND i.indisunique
				AND pg_get_indexdef(i.indexrelid, 1, false) = 'org_id'
				AND i.indnkeyatts = cardinality(array_remove(key, 'org_id')) + 1
		) THEN
			EXECUTE format('ALTER TABLE %s ADD UNIQUE (%s)', rel, columns);
		END IF;
		RAISE NOTICE 'primary key of table % is not led by org_id', rel
			USING HINT = 'Other tables reference it; point them at the new key (org_id, ...) with ringfence.add_foreign_key().';
	ELSE
		EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I PRIMARY KEY (%s)',
			rel, key_name, key_name, columns);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.lead_key_with_org(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lead_key_with_org(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.lead_key_with_org(regclass) IS
	'makes sure that a table has a key that org_id leads; 42P16 if it has nothing to identify a row by';

CREATE FUNCTION ringfence.ensure_org_column(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	existing pg_attribute;
BEGIN
	SELECT a.* INTO existing
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = 'org_id' AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		IF ringfence.has_rows(rel)
			OR EXISTS (SELECT FROM pg_partition_tree(rel) AS t WHERE t.isleaf AND ringfence.has_rows(t.relid)) THEN
			RAISE EXCEPTION 'table % has rows and no column "org_id"', rel
				USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'Only you can know which organization each row belongs to.',
				HINT = 'Use CALL ringfence.adopt().';
		END IF;
		EXECUTE format('ALTER TABLE %s ADD COLUMN org_id uuid NOT NULL DEFAULT ringfence.org_id()', rel);
		EXECUTE format('COMMENT ON COLUMN %s.org_id IS %L', rel, 'the organization that owns the row');
	ELSIF existing.atttypid <> 'uuid'::regtype THEN
		RAISE EXCEPTION 'column "org_id" of table % is not of type uuid', rel
			USING ERRCODE = 'datatype_mismatch';
	ELSE
		IF NOT existing.attnotnull THEN
			EXECUTE format('ALTER TABLE %s ALTER COLUMN org_id SET NOT NULL', rel);
		END IF;
		IF NOT existing.atthasdef THEN
			EXECUTE format('ALTER TABLE %s ALTER COLUMN org_id SET DEFAULT ringfence.org_id()', rel);
		END IF;
	END IF;
	IF NOT EXISTS (
		SELECT FROM pg_constraint AS c
		WHERE c.conrelid = rel AND c.contype = 'f' AND c.confrelid = 'ringfence_data.orgs'::regclass
			AND c.conkey = ringfence.column_numbers(rel, '{org_id}')
	) THEN
		EXECUTE format('ALTER TABLE %s ADD FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id)', rel);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ensure_org_column(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ensure_org_column(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.ensure_org_column(regclass) IS
	'makes sure that a table has org_id uuid NOT NULL DEFAULT ringfence.org_id() and its foreign key; 55000 if there are rows that it could not fill';

-- Row security of a parent does not hold for a query that names a partition or
-- a child, so each of those shows nothing to anybody by itself.
CREATE FUNCTION ringfence.lock_children(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	child regclass;
BEGIN
	FOR child IN
		WITH RECURSIVE children AS (
			SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = rel
			UNION
			SELECT i.inhrelid FROM pg_inherits AS i INNER JOIN children AS c ON i.inhparent = c.inhrelid
		)
		SELECT c.inhrelid FROM children AS c
	LOOP
		EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', child);
		EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', child);
		EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, ringfence_anon, ringfence_member, ringfence_operator', child);
		EXECUTE format('REVOKE TRUNCATE ON %s FROM %s', child, (SELECT c.relowner::regrole FROM pg_class AS c WHERE c.oid = child));
	END LOOP;
	-- One whose event trigger did not fire has no audit triggers, or not all.
	IF child IS NOT NULL AND ringfence.audit_arguments(rel) IS NOT NULL THEN
		PERFORM ringfence.audit(rel, require_reason => NULL);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.lock_children(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.lock_children(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.lock_children(regclass) IS
	'forces row security without a policy on partitions and children, so that they can be reached through their parent only; has them audited if their parent is';

CREATE FUNCTION ringfence.refuse_directory(rel regclass) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.row_class(rel) = 'directory' THEN
		RAISE EXCEPTION 'table % has policies of its own', rel
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'Who belongs to which organization is read from it; app "core" made its policies.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.refuse_directory(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.refuse_directory(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.refuse_directory(regclass) IS
	'42809 for orgs, users and memberships, which protect() would take from under the context';

CREATE FUNCTION ringfence.protect(
	rel regclass,
	access jsonb DEFAULT '{}',
	row_class text DEFAULT 'org',
	owner name DEFAULT 'ringfence_owner',
	columns jsonb DEFAULT '{}'
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class pg_class;
BEGIN
	IF rel IS NULL OR access IS NULL OR row_class IS NULL OR columns IS NULL THEN
		RAISE EXCEPTION 'table, access, row class and columns must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
	IF NOT FOUND OR class.relkind NOT IN ('r', 'p') OR class.relpersistence = 't'
		OR class.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) THEN
		RAISE EXCEPTION '"%" is not a table that can be protected', rel
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'Row security is for ordinary and partitioned tables.';
	END IF;
	IF class.relispartition THEN
		RAISE EXCEPTION 'table % is a partition', rel
			USING ERRCODE = 'wrong_object_type', HINT = 'Protect its parent.';
	END IF;
	IF row_class NOT IN ('org', 'user', 'reference', 'system') THEN
		RAISE EXCEPTION 'invalid row class "%"', row_class
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It is org, user, reference or system.';
	END IF;
	IF to_regclass('ringfence_data.orgs') IS NULL THEN
		RAISE EXCEPTION 'app "core" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Call ringfence.install(''core'').';
	END IF;
	PERFORM ringfence.refuse_directory(rel);

	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', rel);
	IF owner IS NOT NULL AND class.relowner <> quote_ident(owner)::regrole THEN
		IF NOT pg_has_role(owner, 'MEMBER') THEN
			RAISE EXCEPTION 'must be a member of role "%" to make it the owner of table %', owner, rel
				USING ERRCODE = 'insufficient_privilege', HINT = 'Pass owner => NULL to keep the table''s owner.';
		END IF;
		EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', class.relnamespace::regnamespace, owner);
		EXECUTE format('ALTER TABLE %s OWNER TO %I', rel, owner);
	END IF;
	IF row_class = 'org' THEN
		PERFORM ringfence.ensure_org_column(rel);
		PERFORM ringfence.lead_key_with_org(rel);
	END IF;
	PERFORM ringfence.create_policies(rel, row_class, access);
	PERFORM ringfence.set_table_grants(rel, row_class, access, columns);
	PERFORM ringfence.lock_children(rel);
	PERFORM ringfence.register_table(rel, row_class, access, columns);
	IF to_regclass('ringfence_data.audit_log') IS NOT NULL AND NOT ringfence.is_audit_table(rel) THEN
		PERFORM ringfence.audit(rel, CASE row_class WHEN 'org' THEN 'org_id' END, NULL);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.protect(regclass, jsonb, text, name, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.protect(regclass, jsonb, text, name, jsonb) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.protect(regclass, jsonb, text, name, jsonb) IS
	'makes a table safe for tenants: org_id, keys led by it, row security in force, policies and grants from an access matrix ({"owner,admin": "all", "client": "select where client_id is client"}); row class org, user (user_id), reference (read by all, written by operators) or system (no tenant); columns can limit a command for every tenant ({"update": ["due_date", "notes"]}); its changes are audited; repeatable; a NULL owner keeps the table''s own; 22023, 42809, 55000';

CREATE FUNCTION ringfence.unprotect(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.refuse_directory(rel);
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', rel);
	EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, ringfence_anon, ringfence_member, ringfence_operator', rel);
	EXECUTE format('GRANT TRUNCATE ON %s TO %s', rel, (SELECT c.relowner::regrole FROM pg_class AS c WHERE c.oid = rel));
	PERFORM ringfence.drop_policies(rel);
	EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', rel);
	EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', rel);
	PERFORM ringfence.register_table(rel, NULL, NULL);
	PERFORM ringfence.unaudit(rel);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.unprotect(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.unprotect(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.unprotect(regclass) IS
	'takes a table out of the tenants'' reach and removes its row security and its auditing; columns, keys, rows and records stay; refused at commit (42501) in a schema that admits only protected tables';

CREATE FUNCTION ringfence.has_rows(rel regclass) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_has_rows';
REVOKE EXECUTE ON FUNCTION ringfence.has_rows(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_rows(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.has_rows(regclass) IS
	'whether a table has any row, whoever may see it';
