-- prove(): the isolation matrix, tried out on the rows that are there.
--
-- Every object is attacked with every command by every caller, each attempt
-- one statement in a subtransaction that is rolled back. Each runs in two
-- worlds: the database as it is, and the same without the rows of the other
-- organization, which a superuser has deleted. What is expected is worked out
-- by the superuser from org_id, never by row security. An attempt leaks if
--
--   1. it returned, changed or deleted a row that is not the caller's to reach
--      (of another organization; any at all without one, or of a table that no
--      tenant may reach), or had a reference to such a row accepted,
--   2. the rows of the other organization differ after it: one was made,
--      changed or deleted, in whatever table, by whatever trigger,
--   3. the caller gets another answer (SQLSTATE, message, number of rows, rows)
--      than in the world in which the other organization never was,
--   4. TRUNCATE, or COPY FROM into a table, was accepted: they know no rows.
--
-- An attempt that ends in an error is refused, whatever the error was; rule 3
-- still compares it.

-- A view's class comes from the tables under it: org if a row there has an
-- owner, else system, else reference.
CREATE FUNCTION ringfence.prove_objects(
	OUT rel regclass,
	OUT row_class text,
	OUT kind text,
	OUT base oid[]
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	WITH RECURSIVE protected AS (
		SELECT t.relation::oid AS oid, t.relation::oid AS root, t.row_class
		FROM ringfence_data.tables AS t
		UNION
		SELECT i.inhrelid, p.root, p.row_class
		FROM protected AS p
		INNER JOIN pg_inherits AS i ON i.inhparent = p.oid
	), dependent AS (
		SELECT p.oid, b.base, p.row_class
		FROM protected AS p
		CROSS JOIN LATERAL (VALUES (p.oid), (p.root)) AS b (base)
		UNION
		SELECT w.ev_class, d.base, d.row_class
		FROM dependent AS d
		INNER JOIN pg_depend AS e ON e.classid = 'pg_rewrite'::regclass
			AND e.refclassid = 'pg_class'::regclass AND e.refobjid = d.oid
		INNER JOIN pg_rewrite AS w ON w.oid = e.objid
	)
	SELECT c.oid::regclass,
		CASE
			WHEN c.relkind IN ('r', 'p') THEN min(d.row_class)
			WHEN bool_or(d.row_class NOT IN ('system', 'reference')) THEN 'org'
			ELSE max(d.row_class)
		END,
		c.relkind::text,
		array_agg(d.base ORDER BY d.base)
	FROM dependent AS d
	INNER JOIN pg_class AS c ON c.oid = d.oid
	WHERE c.relkind IN ('r', 'p', 'v', 'm')
	GROUP BY c.oid
	ORDER BY c.relkind IN ('v', 'm'), c.oid::regclass::text;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_objects() FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_objects() IS
	'what the isolation matrix covers: protected tables, their partitions and children, and the views on any of them, with the tables under each; for prove()';

-- Roles that bypass row security are verify()'s to name.
CREATE FUNCTION ringfence.prove_callers(OUT caller text, OUT db_role name, OUT roles text[]) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT btrim(r.role), 'ringfence_member', ARRAY[btrim(r.role)]
	FROM ringfence_data.tables AS t
	CROSS JOIN LATERAL jsonb_object_keys(t.access) AS k (roles)
	CROSS JOIN LATERAL string_to_table(k.roles, ',') AS r (role)
	WHERE btrim(r.role) <> '*'
	UNION
	SELECT g.rolname, g.rolname, '{}'
	FROM ringfence.prove_objects() AS o
	INNER JOIN pg_class AS c ON c.oid = o.rel
	INNER JOIN pg_attribute AS a ON a.attrelid = c.oid
	CROSS JOIN LATERAL (
		SELECT x.grantee FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x
		UNION
		SELECT x.grantee FROM aclexplode(a.attacl) AS x
	) AS x
	INNER JOIN pg_roles AS g ON g.oid = x.grantee
	WHERE NOT g.rolsuper AND NOT g.rolbypassrls
	UNION
	SELECT g.rolname, g.rolname, '{}'
	FROM pg_roles AS g
	WHERE g.rolname IN (
		'ringfence_member', 'ringfence_anon', 'ringfence_owner', 'ringfence_operator', 'ringfence_authenticator'
	);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_callers() FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_callers() IS
	'who attempts: a member with each role of an access matrix, one with none, ringfence''s own database roles and every other one that holds a privilege on an object; for prove()';

-- For each kind of party that an access matrix names, one of that organization.
CREATE FUNCTION ringfence.prove_party(org uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	source record;
	party jsonb := '{}'::jsonb;
	id text;
BEGIN
	FOR source IN
		SELECT coalesce(m.parts[2], i.parts[2]) AS kind,
			coalesce(to_regclass(m.parts[1]), t.relation) AS rel,
			CASE WHEN m.parts IS NULL THEN i.parts[1] ELSE 'id' END AS key
		FROM ringfence_data.tables AS t
		CROSS JOIN LATERAL jsonb_path_query(t.access, 'strict $.** ? (@.type() == "string")') AS r (rule)
		CROSS JOIN LATERAL regexp_match(r.rule #>> '{}', 'where\s+(\w+)\s+is\s+(\w+)\s*$') AS i (parts)
		CROSS JOIN LATERAL regexp_match(r.rule #>> '{}', 'matches\s+([\w.]+)\s+as\s+(\w+)\s*$') AS m (parts)
		WHERE t.row_class = 'org' AND coalesce(m.parts[2], nullif(i.parts[2], 'user')) IS NOT NULL
		ORDER BY m.parts IS NULL, i.parts[1] <> 'id', t.relation
	LOOP
		IF NOT party ? source.kind THEN
			EXECUTE format('SELECT min(r.%I::text) FROM %s AS r WHERE r.org_id = $1', source.key, source.rel)
				INTO id USING org;
			IF id IS NOT NULL THEN
				party := party || jsonb_build_object(source.kind, id);
			END IF;
		END IF;
	END LOOP;
	RETURN party;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_party(uuid) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_party(uuid) IS
	'a party of each kind among an organization''s rows, as a membership has it; for prove()';

CREATE FUNCTION ringfence.prove_orgs(own uuid, other uuid) RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	filled text;
	chosen uuid[];
BEGIN
	SELECT string_agg(format('(EXISTS (SELECT FROM %s AS r WHERE r.org_id = o.id))::int', t.relation), ' + ')
		INTO filled
	FROM ringfence_data.tables AS t
	WHERE t.row_class = 'org';
	EXECUTE format(
		'SELECT array_agg(o.id ORDER BY %s DESC, o.id)
		FROM (
			SELECT o.id FROM ringfence_data.orgs AS o
			WHERE o.status = ''active'' AND o.id NOT IN ($1, $2)
			ORDER BY o.id LIMIT 100
		) AS o', coalesce(filled, '0'))
		INTO chosen USING coalesce(own, '00000000-0000-0000-0000-000000000000'),
			coalesce(other, '00000000-0000-0000-0000-000000000000');
	IF own IS NULL THEN
		own := chosen[1];
		chosen := chosen[2:];
	END IF;
	other := coalesce(other, chosen[1]);
	IF own = other OR (
		SELECT count(*) FROM ringfence_data.orgs AS o WHERE o.id IN (prove_orgs.own, prove_orgs.other)
	) < 2 THEN
		RAISE EXCEPTION 'it takes two organizations'
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Make two with rows in the tables to be proved, or name others.';
	END IF;
	RETURN ARRAY[own, other];
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_orgs(uuid, uuid) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_orgs(uuid, uuid) IS
	'the two organizations of a matrix: those given, else the ones with rows in the most tables; 22023 if there are no two; for prove()';

-- The user is a member of the own organization alone where there is one, so
-- that nothing of another is theirs.
CREATE FUNCTION ringfence.prove_frame(own uuid, other uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (
		SELECT jsonb_build_object(
			'own', own,
			'other', other,
			'user', coalesce((
				SELECT m.user_id
				FROM ringfence_data.memberships AS m
				WHERE m.org_id = own AND m.status = 'active' AND NOT EXISTS (
					SELECT FROM ringfence_data.memberships AS e WHERE e.user_id = m.user_id AND e.org_id <> own)
				ORDER BY m.user_id
				LIMIT 1
			), gen_random_uuid()),
			'members', ARRAY(
				SELECT m.user_id FROM ringfence_data.memberships AS m WHERE m.org_id = own AND m.status = 'active'),
			'strangers', ARRAY(
				SELECT m.user_id FROM ringfence_data.memberships AS m WHERE m.org_id = other
				EXCEPT
				SELECT m.user_id FROM ringfence_data.memberships AS m WHERE m.org_id = own),
			'own_party', ringfence.prove_party(own),
			'other_party', ringfence.prove_party(other)
		)
	);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_frame(uuid, uuid) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_frame(uuid, uuid) IS
	'what is known of the two organizations: their ids, users and parties; for prove()';

CREATE FUNCTION ringfence.prove_has_column(rel regclass, name name) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT EXISTS (
		SELECT FROM pg_catalog.pg_attribute AS a
		WHERE a.attrelid = rel AND a.attname = name AND a.attnum > 0 AND a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype
	);
END;
REVOKE EXECUTE ON FUNCTION ringfence.prove_has_column(regclass, name) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_has_column(regclass, name) IS
	'whether a table or view has a column of that name and type uuid; for prove()';

CREATE FUNCTION ringfence.prove_condition(rel regclass, row_class text, side text, frame jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key name;
	own jsonb := jsonb_build_array(frame -> 'own');
	other jsonb := jsonb_build_array(frame -> 'other');
	ids jsonb;
BEGIN
	IF row_class IN ('system', 'reference') THEN
		RETURN 'true';
	ELSIF rel = 'ringfence_data.orgs'::regclass THEN
		key := 'id';
	ELSIF rel = 'ringfence_data.users'::regclass THEN
		key := 'id';
		own := frame -> 'members';
		other := frame -> 'strangers';
	ELSIF row_class = 'user' THEN
		key := 'user_id';
		own := jsonb_build_array(frame -> 'user');
		other := frame -> 'strangers';
	ELSIF ringfence.prove_has_column(rel, 'org_id') THEN
		key := 'org_id';
	ELSE
		RETURN NULL;
	END IF;
	ids := CASE side WHEN 'other' THEN other ELSE own END;
	RETURN format(CASE side WHEN 'foreign' THEN 'r.%I <> ALL (%L::uuid[])' ELSE 'r.%I = ANY (%L::uuid[])' END,
		key, ARRAY(SELECT jsonb_array_elements_text(ids)));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_condition(regclass, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_condition(regclass, text, text, jsonb) IS
	'SQL that is true for the rows r of one side: own, other (the other organization''s) or foreign (all but the own); NULL for a view that doesn''t tell; for prove()';

-- One row as text by column name; of a table also where it lies.
CREATE FUNCTION ringfence.prove_row(rel regclass, condition text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names name[];
	result jsonb;
BEGIN
	SELECT array_agg(a.attname) INTO names
	FROM pg_attribute AS a
	INNER JOIN pg_class AS c ON c.oid = a.attrelid
	WHERE a.attrelid = rel AND NOT a.attisdropped
		AND (a.attnum > 0 OR (c.relkind IN ('r', 'p') AND a.attname IN ('ctid', 'tableoid')));
	EXECUTE format('SELECT jsonb_object(%L, ARRAY[%s]) FROM %s AS r WHERE %s LIMIT 1',
		names,
		(SELECT string_agg(format('r.%I::text', n.name), ', ' ORDER BY n.place)
			FROM unnest(names) WITH ORDINALITY AS n (name, place)),
		rel,
		coalesce(condition, 'true')) INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_row(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_row(regclass, text) IS
	'a row that meets a condition, each value as text, or NULL; for prove()';

-- A column of a view counts as writable if those of its name under it are.
CREATE FUNCTION ringfence.prove_columns(rel regclass, base oid[], db_role name, privilege text) RETURNS name[]
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.allowed), array_agg(a.attname ORDER BY a.attnum))
	FROM (
		SELECT a.attname, a.attnum,
			has_column_privilege(db_role, rel, a.attnum, privilege) AND NOT EXISTS (
				SELECT FROM pg_attribute AS b
				WHERE b.attrelid = ANY (base) AND b.attname = a.attname AND b.attnum > 0 AND privilege <> 'SELECT'
					AND NOT has_column_privilege(db_role, b.attrelid, b.attnum, privilege)
			) AS allowed
		FROM pg_attribute AS a
		WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped AND NOT (privilege <> 'SELECT' AND EXISTS (
			SELECT FROM pg_attribute AS b
			WHERE b.attrelid = ANY (base) AND b.attname = a.attname AND b.attnum > 0 AND b.attgenerated <> ''
		))
	) AS a
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_columns(regclass, oid[], name, text) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_columns(regclass, oid[], name, text) IS
	'the columns that a role may select, insert or update, or all if it may none; no generated ones to write; for prove()';

-- The column to update: one that no constraint might refuse before row
-- security is asked.
CREATE FUNCTION ringfence.prove_update_column(rel regclass, base oid[], columns name[]) RETURNS name
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.attname
	FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = ANY (columns)
	ORDER BY
		EXISTS (
			SELECT FROM pg_attribute AS b
			INNER JOIN pg_constraint AS k ON k.conrelid = b.attrelid AND b.attnum = ANY (k.conkey)
			WHERE b.attrelid = ANY (base) AND b.attname = a.attname
		) OR EXISTS (
			SELECT FROM pg_attribute AS b
			INNER JOIN pg_index AS i ON i.indrelid = b.attrelid AND i.indisunique AND b.attnum = ANY (i.indkey)
			WHERE b.attrelid = ANY (base) AND b.attname = a.attname
		),
		a.attname IN ('org_id', 'user_id'),
		a.attnum DESC
	LIMIT 1
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_update_column(regclass, oid[], name[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_update_column(regclass, oid[], name[]) IS
	'of some columns the one that the fewest constraints are on; for prove()';

CREATE FUNCTION ringfence.prove_insert(rel regclass, columns name[], template jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN CASE
	WHEN template IS NULL THEN format('INSERT INTO %s DEFAULT VALUES', rel)
	ELSE (
		SELECT format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE VALUES (%s)', rel,
			string_agg(quote_ident(c.name), ', ' ORDER BY c.place),
			string_agg(quote_nullable(template ->> c.name::text), ', ' ORDER BY c.place))
		FROM unnest(columns) WITH ORDINALITY AS c (name, place)
	)
END;
REVOKE EXECUTE ON FUNCTION ringfence.prove_insert(regclass, name[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_insert(regclass, name[], jsonb) IS
	'an INSERT of the row that a template describes; for prove()';

CREATE FUNCTION ringfence.prove_delete_template(template jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
RETURN format('DELETE FROM %s AS r WHERE r.ctid = %L', (template ->> 'tableoid')::oid::regclass, template ->> 'ctid');
REVOKE EXECUTE ON FUNCTION ringfence.prove_delete_template(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_delete_template(jsonb) IS
	'a DELETE of the row that a template was made from, so that it can be inserted again; for prove()';

-- The statements for one object and one caller. "target" is where the caller
-- stands and aims: own (in the own organization, at whatever is in reach),
-- other (there, at what is not the own), none (in no organization). "triggers"
-- says whether triggers fire: they do where somebody merely acts, and do not
-- where one aims at another's row, since a trigger that happens to refuse this
-- row is no isolation. "leak_if" is rows or accepted, where one of these is a
-- leak by itself (rules 1 and 4). "prepare" is what a superuser does before.

CREATE FUNCTION ringfence.prove_try(
	command text,
	target text,
	statement text,
	triggers boolean,
	leak_if text DEFAULT NULL,
	prepare text DEFAULT NULL
) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN statement IS NOT NULL THEN pg_catalog.jsonb_build_object('command', command, 'target', target,
	'statement', statement, 'triggers', triggers, 'leak_if', leak_if, 'prepare', prepare) END;
REVOKE EXECUTE ON FUNCTION ringfence.prove_try(text, text, text, boolean, text, text) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_try(text, text, text, boolean, text, text) IS
	'an attempt, or NULL if it has no statement; for prove()';

CREATE FUNCTION ringfence.prove_reads(object jsonb, db_role name) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass := (object ->> 'rel')::regclass;
	kind text := object ->> 'kind';
	row_class text := object ->> 'row_class';
	columns text := (
		SELECT string_agg(quote_ident(c.name), ', ')
		FROM unnest(ringfence.prove_columns(rel, ARRAY[rel::oid], db_role, 'SELECT')) AS c (name)
	);
	query text := format('SELECT %s FROM %s AS r', columns, rel);
	digest text := 'SELECT count(*), sum(hashtextextended(q::text, 0)) FROM (%s) AS q';
	target text;
	leak_if text;
BEGIN
	FOREACH target IN ARRAY ARRAY['own', 'other', 'none'] LOOP
		leak_if := CASE
			WHEN row_class = 'reference' THEN NULL
			WHEN row_class = 'system' OR kind = 'm' OR (target = 'none' AND kind <> 'v') THEN 'rows'
		END;
		RETURN NEXT ringfence.prove_try('SELECT', target, format(digest, query), false, leak_if);
		RETURN NEXT ringfence.prove_try('COPY', target,
			CASE kind
				WHEN 'r' THEN format('COPY %s (%s) TO ''/dev/null''', rel, columns)
				ELSE format('COPY (%s) TO ''/dev/null''', query)
			END, false, leak_if);
	END LOOP;
	IF row_class NOT IN ('system', 'reference') THEN
		RETURN NEXT ringfence.prove_try('SELECT', 'other',
			format(digest, query || ' WHERE ' || (object ->> 'foreign')), false, 'rows');
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_reads(jsonb, name) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_reads(jsonb, name) IS
	'attempts to read an object: all of it, by SELECT and COPY TO, and its foreign rows; for prove()';

CREATE FUNCTION ringfence.prove_changes(object jsonb, db_role name) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass := (object ->> 'rel')::regclass;
	is_view boolean := object ->> 'kind' IN ('v', 'm');
	base oid[] := ARRAY(SELECT b::oid FROM jsonb_array_elements_text(object -> 'base') AS b);
	changed name := ringfence.prove_update_column(rel, base, ringfence.prove_columns(rel, base, db_role, 'UPDATE'));
	to_own text := format('UPDATE %s AS r SET %I = %L', rel, changed, object -> 'own_row' ->> changed::text);
	to_other text := format('UPDATE %s AS r SET %I = %L', rel, changed, object -> 'other_row' ->> changed::text);
	remove text := format('DELETE FROM %s AS r', rel);
	unowned text := CASE WHEN object ->> 'row_class' IN ('system', 'reference') THEN 'rows' END;
	aimed record;
	target text;
BEGIN
	RETURN NEXT ringfence.prove_try('UPDATE', 'own', to_own, true, unowned);
	RETURN NEXT ringfence.prove_try('DELETE', 'own', remove, true, unowned);
	IF NOT is_view THEN
		RETURN NEXT ringfence.prove_try('UPDATE', 'own', to_own, false, unowned);
		RETURN NEXT ringfence.prove_try('DELETE', 'own', remove, false, unowned);
	END IF;
	FOR aimed IN
		SELECT *
		FROM (VALUES ('other', ' WHERE ' || (object ->> 'foreign')), ('none', ''), ('none', ' WHERE ' || (object ->> 'other')))
			AS a (target, condition)
	LOOP
		RETURN NEXT ringfence.prove_try('UPDATE', aimed.target, to_other || aimed.condition, is_view, 'rows');
		RETURN NEXT ringfence.prove_try('DELETE', aimed.target, remove || aimed.condition, is_view, 'rows');
	END LOOP;
	IF ringfence.prove_has_column(rel, 'org_id') THEN
		RETURN NEXT ringfence.prove_try('UPDATE', 'other',
			format('UPDATE %s AS r SET org_id = %L', rel, object ->> 'other_org'), is_view);
	END IF;
	FOREACH target IN ARRAY ARRAY['own', 'other', 'none'] LOOP
		RETURN NEXT ringfence.prove_try('TRUNCATE', target, format('TRUNCATE %s CASCADE', rel), true, 'accepted');
		RETURN NEXT ringfence.prove_try('COPY', target, format('COPY %s FROM ''/dev/null''', rel), true,
			CASE WHEN NOT is_view THEN 'accepted' END);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_changes(jsonb, name) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_changes(jsonb, name) IS
	'attempts to change or delete rows: whatever is in reach, foreign rows, and the own ones by giving them away; to truncate; to load by COPY FROM, which no table with row security admits; for prove()';

-- A row of the other organization is inserted as it is. Where it exists row
-- security speaks before the unique key does; in the world where it doesn't
-- nothing but row security stands in its way.
CREATE FUNCTION ringfence.prove_inserts(object jsonb, db_role name) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass := (object ->> 'rel')::regclass;
	is_view boolean := object ->> 'kind' IN ('v', 'm');
	unowned boolean := object ->> 'row_class' IN ('system', 'reference');
	base oid[] := ARRAY(SELECT b::oid FROM jsonb_array_elements_text(object -> 'base') AS b);
	columns name[] := ringfence.prove_columns(rel, base, db_role, 'INSERT');
	own_row jsonb := nullif(object -> 'own_row', 'null');
	other_row jsonb := nullif(object -> 'other_row', 'null');
BEGIN
	RETURN QUERY
	SELECT ringfence.prove_try('INSERT', v.target, ringfence.prove_insert(rel, columns, v.template), v.triggers OR is_view,
		CASE WHEN unowned THEN 'rows' END,
		CASE WHEN NOT is_view AND (unowned OR v.target = 'own') THEN ringfence.prove_delete_template(v.template) END)
	FROM (VALUES
		('own', own_row, true),
		('other', other_row, false),
		('none', other_row, false)
	) AS v (target, template, triggers)
	WHERE v.template IS NOT NULL OR is_view;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_inserts(jsonb, name) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_inserts(jsonb, name) IS
	'attempts to insert a row of the own and one of the other organization; for prove()';

CREATE FUNCTION ringfence.prove_not_null(columns name[]) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
RETURN (SELECT string_agg(format('r.%I IS NOT NULL', c.name), ' AND ') FROM unnest(columns) AS c (name));
REVOKE EXECUTE ON FUNCTION ringfence.prove_not_null(name[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_not_null(name[]) IS
	'SQL that is true for the rows r that have a value in each of some columns; for prove()';

-- A row in which a check constraint admits values there, if there is one.
CREATE FUNCTION ringfence.prove_own_row(object jsonb, columns name[]) RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
RETURN coalesce(
	ringfence.prove_row((object ->> 'rel')::regclass, concat_ws(' AND ', object ->> 'own', ringfence.prove_not_null(columns))),
	nullif(object -> 'own_row', 'null'));
REVOKE EXECUTE ON FUNCTION ringfence.prove_own_row(jsonb, name[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_own_row(jsonb, name[]) IS
	'a row of the own organization, preferably one with values in some columns; for prove()';

-- An own row is taken away and inserted again, but for the columns of one
-- foreign key, which point at a row of the other organization.
CREATE FUNCTION ringfence.prove_references(object jsonb, db_role name) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass := (object ->> 'rel')::regclass;
	columns name[] := ringfence.prove_columns(rel, ARRAY[rel::oid], db_role, 'INSERT');
	key record;
	own_row jsonb;
	parent jsonb;
	template jsonb;
	statement text;
BEGIN
	FOR key IN
		SELECT c.confrelid::regclass AS parent,
			array_agg(a.attname ORDER BY k.place) FILTER (WHERE a.attname <> 'org_id') AS columns,
			array_agg(f.attname ORDER BY k.place) FILTER (WHERE a.attname <> 'org_id') AS parent_columns
		FROM pg_constraint AS c
		INNER JOIN ringfence_data.tables AS t ON t.relation = c.confrelid AND t.row_class = 'org'
		CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k (child, parent, place)
		INNER JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.child
		INNER JOIN pg_attribute AS f ON f.attrelid = c.confrelid AND f.attnum = k.parent
		WHERE c.conrelid = rel AND c.contype = 'f' AND c.conparentid = 0
		GROUP BY c.oid
	LOOP
		CONTINUE WHEN key.columns IS NULL;
		own_row := ringfence.prove_own_row(object, key.columns);
		parent := ringfence.prove_row(key.parent, format('r.org_id = %L', object ->> 'other_org'));
		CONTINUE WHEN own_row IS NULL OR parent IS NULL;
		template := own_row || (
			SELECT jsonb_object_agg(k.name, parent ->> k.parent_name::text)
			FROM unnest(key.columns, key.parent_columns) AS k (name, parent_name)
		);
		statement := ringfence.prove_insert(rel, ARRAY(SELECT unnest(columns) UNION SELECT unnest(key.columns)), template);
		RETURN QUERY
		SELECT ringfence.prove_try('REFERENCE', t.target, statement, true, 'rows', ringfence.prove_delete_template(own_row))
		FROM (VALUES ('other'), ('none')) AS t (target);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_references(jsonb, name) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_references(jsonb, name) IS
	'attempts to reference a row of the other organization by each foreign key; for prove()';

CREATE FUNCTION ringfence.prove_unique_columns(index_oid oid) RETURNS name[]
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(a.attname ORDER BY a.attnum)
	FROM pg_index AS i
	INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum > 0
	WHERE i.indexrelid = index_oid AND a.attname NOT IN ('org_id', 'user_id') AND (
		a.attnum = ANY (i.indkey[:i.indnkeyatts - 1]) OR EXISTS (
			SELECT FROM pg_depend AS d
			WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
				AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum
		)
	)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_unique_columns(oid) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_unique_columns(oid) IS
	'the columns that a unique index is about, in keys, expressions and predicate, but for org_id and user_id; for prove()';

-- Twice for each unique index or exclusion constraint: an own row with the other's values in its
-- columns, and, lest a check constraint refuse the mixture, the other's row
-- whole under the own org_id. Whether the value exists shows by rule 3.
CREATE FUNCTION ringfence.prove_uniques(object jsonb, db_role name) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass := (object ->> 'rel')::regclass;
	owner jsonb := jsonb_build_object('org_id', object ->> 'own_org', 'user_id', object ->> 'user');
	columns name[] := ringfence.prove_columns(rel, ARRAY[rel::oid], db_role, 'INSERT');
	key record;
	own_row jsonb;
	other_row jsonb;
	mixed text;
	whole text;
	prepare text;
BEGIN
	owner := owner - CASE object ->> 'row_class' WHEN 'user' THEN 'org_id' ELSE 'user_id' END;
	FOR key IN
		SELECT ringfence.prove_unique_columns(i.indexrelid) AS columns,
			pg_get_expr(i.indpred, i.indrelid) AS predicate
		FROM pg_index AS i
		WHERE i.indrelid = rel AND (i.indisunique OR i.indisexclusion)
	LOOP
		CONTINUE WHEN key.columns IS NULL;
		own_row := ringfence.prove_own_row(object, key.columns);
		other_row := ringfence.prove_row(rel, concat_ws(' AND ',
			object ->> 'other', '(' || key.predicate || ')', ringfence.prove_not_null(key.columns)));
		CONTINUE WHEN own_row IS NULL OR other_row IS NULL;
		mixed := ringfence.prove_insert(rel, ARRAY(SELECT unnest(columns) UNION SELECT unnest(key.columns)),
			own_row || (
				SELECT jsonb_object_agg(c.name, other_row ->> c.name::text) FROM unnest(key.columns) AS c (name)
			));
		whole := ringfence.prove_insert(rel, columns, other_row || owner);
		prepare := ringfence.prove_delete_template(own_row);
		RETURN QUERY
		SELECT ringfence.prove_try('UNIQUE', t.target, t.statement, t.triggers, NULL, prepare)
		FROM (VALUES
			('other', mixed, true), ('other', whole, false), ('none', mixed, true), ('none', whole, false)
		) AS t (target, statement, triggers);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_uniques(jsonb, name) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_uniques(jsonb, name) IS
	'attempts to insert what a unique index has of the other organization; for prove()';

-- What is a role's own by design: ringfence_owner's functions keep ringfence's
-- tables, find users anywhere, delete keys that have expired and take webhooks
-- for no organization; operators keep reference data.
CREATE FUNCTION ringfence.prove_is_own_business(object jsonb, db_role name, command text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN CASE db_role
	WHEN 'ringfence_owner' THEN object ->> 'row_class' IN ('system', 'reference')
		OR EXISTS (
			SELECT FROM jsonb_array_elements_text(object -> 'base') AS b (rel)
			WHERE b.rel::oid IN (
				to_regclass('ringfence_data.users'),
				to_regclass('ringfence_data.idempotency_keys'),
				to_regclass('ringfence_data.webhook_events')
			)
		)
	WHEN 'ringfence_operator' THEN object ->> 'row_class' = 'reference' AND command NOT IN ('SELECT', 'TRUNCATE')
	ELSE false
END;
REVOKE EXECUTE ON FUNCTION ringfence.prove_is_own_business(jsonb, name, text) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_is_own_business(jsonb, name, text) IS
	'whether a role is meant to reach all rows of an object, so that nothing can be proved by its trying; for prove()';

CREATE FUNCTION ringfence.prove_object(rel regclass, row_class text, kind text, base oid[], frame jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb := jsonb_strip_nulls(jsonb_build_object(
		'rel', rel::text,
		'row_class', row_class,
		'kind', kind,
		'base', to_jsonb(base::bigint[]),
		'own_org', frame ->> 'own',
		'other_org', frame ->> 'other',
		'user', frame ->> 'user',
		'own', ringfence.prove_condition(rel, row_class, 'own', frame),
		'other', ringfence.prove_condition(rel, row_class, 'other', frame),
		'foreign', ringfence.prove_condition(rel, row_class, 'foreign', frame)
	));
BEGIN
	PERFORM ringfence.set_context((frame ->> 'own')::uuid, (frame ->> 'user')::uuid);
	result := result || jsonb_build_object('own_row', ringfence.prove_row(rel, result ->> 'own'));
	PERFORM ringfence.set_context((frame ->> 'other')::uuid, (frame -> 'strangers' ->> 0)::uuid);
	result := result || jsonb_build_object('other_row', ringfence.prove_row(rel, result ->> 'other'));
	RETURN result;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_object(regclass, text, text, oid[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_object(regclass, text, text, oid[], jsonb) IS
	'what the attempts on an object are made from: its conditions, a row of the own and one of the other organization; for prove()';

CREATE FUNCTION ringfence.prove_statements(object jsonb, db_role name) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT ringfence.prove_reads(object, db_role);
	RETURN QUERY SELECT ringfence.prove_changes(object, db_role);
	RETURN QUERY SELECT ringfence.prove_inserts(object, db_role);
	IF object ->> 'row_class' IN ('org', 'user') AND object ->> 'kind' IN ('r', 'p') THEN
		RETURN QUERY SELECT ringfence.prove_references(object, db_role);
		RETURN QUERY SELECT ringfence.prove_uniques(object, db_role);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_statements(jsonb, name) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_statements(jsonb, name) IS
	'every attempt on an object by a role; for prove()';

-- A table without a row of the other organization proves nothing by keeping it
-- from the caller: its attempts are left out, and so they are counted.
CREATE FUNCTION ringfence.prove_plan(frame jsonb, relations regclass[]) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	object jsonb;
	caller record;
BEGIN
	FOR object IN
		SELECT ringfence.prove_object(o.rel, o.row_class, o.kind, o.base, frame)
		FROM ringfence.prove_objects() AS o
		WHERE relations IS NULL OR o.rel = ANY (relations) OR o.base && relations::oid[]
	LOOP
		FOR caller IN SELECT c.* FROM ringfence.prove_callers() AS c ORDER BY c.roles = '{}', c.caller LOOP
			RETURN QUERY
			SELECT s.attempt || jsonb_build_object(
				'object', object -> 'rel', 'role', caller.caller, 'db_role', caller.db_role, 'roles', caller.roles,
				'skip', CASE
					WHEN ringfence.prove_is_own_business(object, caller.db_role, s.attempt ->> 'command')
						THEN 'the role''s own to reach'
					WHEN object ->> 'kind' IN ('r', 'p') AND object ->> 'other_row' IS NULL
						THEN 'there is no row to reach'
				END)
			FROM ringfence.prove_statements(object, caller.db_role) AS s (attempt)
			WHERE s.attempt IS NOT NULL;
		END LOOP;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_plan(jsonb, regclass[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_plan(jsonb, regclass[]) IS
	'every attempt of the matrix, on all objects or on some relations and what stands on them; for prove()';

-- Where the own organization has a row and the other has none, a copy of it
-- becomes the other's.
CREATE FUNCTION ringfence.prove_lend_rows(frame jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass;
	template jsonb;
BEGIN
	FOR rel IN SELECT t.relation FROM ringfence_data.tables AS t WHERE t.row_class = 'org' LOOP
		template := ringfence.prove_row(rel, format('r.org_id = %L', frame ->> 'own'));
		CONTINUE WHEN template IS NULL OR ringfence.prove_row(rel, format('r.org_id = %L', frame ->> 'other')) IS NOT NULL;
		BEGIN
			EXECUTE ringfence.prove_insert(rel, ringfence.prove_columns(rel, ARRAY[rel::oid], current_user, 'INSERT'),
				template || jsonb_build_object('org_id', frame -> 'other'));
		EXCEPTION WHEN OTHERS THEN
			CONTINUE;
		END;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_lend_rows(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_lend_rows(jsonb) IS
	'gives the other organization a row in each table where only the own one has any; for prove()';

CREATE FUNCTION ringfence.prove_remove_other(frame jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owned record;
BEGIN
	FOR owned IN
		SELECT t.relation, t.row_class
		FROM ringfence_data.tables AS t
		WHERE t.row_class NOT IN ('system', 'reference')
	LOOP
		EXECUTE format('DELETE FROM %s AS r WHERE %s', owned.relation,
			coalesce(ringfence.prove_condition(owned.relation, owned.row_class, 'other', frame), 'false'));
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_remove_other(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_remove_other(jsonb) IS
	'deletes every row of the other organization; for prove(), which rolls it back';

CREATE FUNCTION ringfence.prove_fingerprint(frame jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (
		SELECT 'SELECT ' || string_agg(
			format(
				'(SELECT concat_ws('':'', count(*), sum(hashtextextended(r.tableoid || r.ctid::text, 0))) FROM %s AS r WHERE %s)',
				t.relation, coalesce(ringfence.prove_condition(t.relation, t.row_class, 'other', frame), 'false')),
			' || '','' || ' ORDER BY t.relation)
		FROM ringfence_data.tables AS t
		WHERE t.row_class NOT IN ('system', 'reference')
	);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_fingerprint(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_fingerprint(jsonb) IS
	'a query whose result changes with every row of the other organization that is made, changed or deleted; for prove()';

CREATE FUNCTION ringfence.run_as(db_role name, statement text, OUT rows bigint, OUT digest numeric) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_run_as';
REVOKE EXECUTE ON FUNCTION ringfence.run_as(name, text) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.run_as(name, text) IS
	'runs a statement as a role, from which nothing in it can get back to the superuser who calls this: the two columns of a SELECT that gives one row, else the number of rows; for prove()';

-- What a statement answers: SQLSTATE and message or NULL, rows, a digest of
-- them, and whether the other organization's rows are no longer as expected.
CREATE FUNCTION ringfence.prove_attempt(attempt jsonb, frame jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	nobody boolean := attempt ->> 'target' = 'none';
	statement text := attempt ->> 'statement';
	replication_role text := current_setting('session_replication_role');
	rows bigint;
	digest numeric;
	expected text := frame ->> 'expected';
	actual text := expected;
	state text;
	message text;
BEGIN
	BEGIN
		IF attempt ->> 'prepare' IS NOT NULL THEN
			PERFORM set_config('session_replication_role', 'replica', true);
			EXECUTE attempt ->> 'prepare';
			PERFORM set_config('session_replication_role', replication_role, true);
		END IF;
		PERFORM ringfence.set_context(
			CASE WHEN NOT nobody THEN (frame ->> 'own')::uuid END,
			CASE WHEN NOT nobody THEN (frame ->> 'user')::uuid END,
			ARRAY(SELECT jsonb_array_elements_text(attempt -> 'roles')),
			frame -> CASE attempt ->> 'target' WHEN 'own' THEN 'own_party' ELSE 'other_party' END);
		SELECT r.rows, r.digest INTO rows, digest
		FROM ringfence.run_as((attempt ->> 'db_role')::name, statement) AS r;
		IF rows > 0 AND attempt ->> 'command' <> 'SELECT' THEN
			EXECUTE frame ->> 'fingerprint' INTO actual;
		END IF;
		RAISE EXCEPTION USING ERRCODE = 'RF000', MESSAGE = 'attempt undone';
	EXCEPTION
		WHEN SQLSTATE 'RF000' THEN
			NULL;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
			rows := NULL;
	END;
	RETURN jsonb_build_object('state', state, 'message', message, 'rows', rows, 'digest', digest,
		'changed', actual IS DISTINCT FROM expected);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_attempt(jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_attempt(jsonb, jsonb) IS
	'runs one attempt as its caller, undoes it and returns the answer; for prove()';

-- COPY needs a file, and a caller may have no right to files: here it has one,
-- so that the answer is that of the table and its policies. A role that can't be
-- changed stays as it is, and is refused.
CREATE FUNCTION ringfence.prove_lend_files(plan jsonb[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	db_role name;
BEGIN
	FOR db_role IN SELECT DISTINCT p.attempt ->> 'db_role' FROM unnest(plan) AS p (attempt) ORDER BY 1 LOOP
		BEGIN
			EXECUTE format('ALTER ROLE %I INHERIT', db_role);
			EXECUTE format('GRANT pg_read_server_files, pg_write_server_files TO %I', db_role);
		EXCEPTION WHEN OTHERS THEN
			CONTINUE;
		END;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_lend_files(jsonb[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_lend_files(jsonb[]) IS
	'lets the callers of a plan read and write files; for prove(), which rolls it back';

-- Ordered so that settings change seldom: each change costs every cached plan.
CREATE FUNCTION ringfence.prove_world(plan jsonb[], frame jsonb, with_other boolean) RETURNS jsonb[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	expected text;
	step record;
	answers jsonb[] := array_fill(NULL::jsonb, ARRAY[cardinality(plan)]);
	lent boolean := false;
BEGIN
	BEGIN
		IF NOT with_other THEN
			PERFORM ringfence.prove_remove_other(frame);
		END IF;
		EXECUTE frame ->> 'fingerprint' INTO expected;
		frame := frame || jsonb_build_object('expected', expected);
		FOR step IN
			SELECT p.place, p.attempt ->> 'command' = 'COPY' AS copies,
				CASE WHEN (p.attempt -> 'triggers')::boolean THEN 'origin' ELSE 'replica' END AS replication_role
			FROM unnest(plan) WITH ORDINALITY AS p (attempt, place)
			WHERE p.attempt ->> 'skip' IS NULL
			ORDER BY 2, 3, 1
		LOOP
			IF step.copies AND NOT lent THEN
				PERFORM ringfence.prove_lend_files(plan);
				lent := true;
			END IF;
			IF current_setting('session_replication_role') <> step.replication_role THEN
				PERFORM set_config('session_replication_role', step.replication_role, true);
			END IF;
			answers[step.place] := ringfence.prove_attempt(plan[step.place], frame);
		END LOOP;
		RAISE EXCEPTION USING ERRCODE = 'RF000', MESSAGE = 'world undone';
	EXCEPTION WHEN SQLSTATE 'RF000' THEN
		NULL;
	END;
	RETURN answers;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_world(jsonb[], jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_world(jsonb[], jsonb, boolean) IS
	'the answers to all attempts, in the order of the plan, with or without the other organization in the database; for prove()';

-- The rules at the head of this file.
CREATE FUNCTION ringfence.prove_verdict(attempt jsonb, answer jsonb, without jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN CASE
	WHEN answer IS NULL THEN NULL
	WHEN attempt ->> 'leak_if' = 'rows' AND (answer ->> 'rows')::bigint > 0 THEN
		CASE attempt ->> 'command'
			WHEN 'REFERENCE' THEN 'a reference to the other organization was accepted'
			ELSE format('%s rows that are not the caller''s', answer ->> 'rows')
		END
	WHEN attempt ->> 'leak_if' = 'rows' AND (without ->> 'rows')::bigint > 0 THEN
		format('%s rows that are not the caller''s', without ->> 'rows')
	WHEN attempt ->> 'leak_if' = 'accepted' AND answer ->> 'state' IS NULL THEN 'accepted'
	WHEN (answer -> 'changed')::boolean OR (without -> 'changed')::boolean THEN
		'the other organization''s rows changed'
	WHEN answer ->> 'state' IS DISTINCT FROM without ->> 'state' OR answer ->> 'rows' IS DISTINCT FROM without ->> 'rows' THEN
		format('the answer is %s, without the other organization %s',
			coalesce(answer ->> 'state', (answer ->> 'rows') || ' rows'),
			coalesce(without ->> 'state', (without ->> 'rows') || ' rows'))
	WHEN answer <> without THEN
		CASE WHEN answer ->> 'state' IS NULL THEN 'the rows say' ELSE 'the message says' END
		|| ' whether the other organization is there'
END;
REVOKE EXECUTE ON FUNCTION ringfence.prove_verdict(jsonb, jsonb, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_verdict(jsonb, jsonb, jsonb) IS
	'what an attempt leaked, by its answers in the two worlds, or NULL; for prove()';

CREATE FUNCTION ringfence.prove_report(
	plan jsonb[],
	answers jsonb[],
	answers_without jsonb[],
	OUT object text,
	OUT command text,
	OUT role text,
	OUT target text,
	OUT attempts bigint,
	OUT leaks bigint,
	OUT refused bigint,
	OUT detail text
) RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.object, t.command, t.role, t.target,
		count(*) FILTER (WHERE t.skip IS NULL),
		count(t.verdict),
		count(t.state),
		coalesce(
			string_agg(DISTINCT 'leak: ' || t.verdict || ' (' || left(t.statement, 300) || ')', '; '),
			string_agg(DISTINCT 'not attempted: ' || t.skip, '; '),
			string_agg(DISTINCT coalesce(t.state, t.rows || ' rows'), ', '))
	FROM (
		SELECT p.attempt ->> 'object' AS object, p.attempt ->> 'command' AS command, p.attempt ->> 'role' AS role,
			p.attempt ->> 'target' AS target, p.attempt ->> 'skip' AS skip, p.attempt ->> 'statement' AS statement,
			p.answer ->> 'state' AS state, p.answer ->> 'rows' AS rows,
			min(p.place) OVER (PARTITION BY p.attempt ->> 'object') AS place,
			ringfence.prove_verdict(p.attempt, p.answer, p.without) AS verdict
		FROM unnest(plan, answers, answers_without) WITH ORDINALITY AS p (attempt, answer, without, place)
	) AS t
	GROUP BY t.place, t.object, t.command, t.role, t.target
	ORDER BY t.place, t.command, t.role, t.target
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_report(jsonb[], jsonb[], jsonb[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_report(jsonb[], jsonb[], jsonb[]) IS
	'a plan and its answers in both worlds as rows for a DBA; for prove()';

-- To know the truth, prove() reads views and lends rows as the superuser who
-- calls it, and that runs code of whoever owns them.
CREATE FUNCTION ringfence.prove_refuse_strangers() RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	strange record;
BEGIN
	SELECT o.rel, r.rolname INTO strange
	FROM ringfence.prove_objects() AS o
	INNER JOIN pg_class AS c ON c.oid = o.rel
	INNER JOIN pg_roles AS r ON r.oid = c.relowner
	WHERE NOT r.rolsuper AND r.rolname <> 'ringfence_owner'
	ORDER BY o.rel::text
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'cannot prove "%", which belongs to role "%"', strange.rel, strange.rolname
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'Its owner''s code would run with your rights.',
			HINT = 'Give it to ringfence_owner, as protect() does.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove_refuse_strangers() FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove_refuse_strangers() IS
	'42501 if anything that the isolation matrix covers belongs to another role than ringfence_owner or a superuser; for prove()';

CREATE FUNCTION ringfence.prove(
	own uuid DEFAULT NULL,
	other uuid DEFAULT NULL,
	relations regclass[] DEFAULT NULL,
	OUT object text,
	OUT command text,
	OUT role text,
	OUT target text,
	OUT attempts bigint,
	OUT leaks bigint,
	OUT refused bigint,
	OUT detail text
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before jsonb := ringfence.context();
	orgs uuid[] := ringfence.prove_orgs(own, other);
	frame jsonb := ringfence.prove_frame(orgs[1], orgs[2]);
	plan jsonb[];
	answers jsonb[];
	answers_without jsonb[];
BEGIN
	PERFORM ringfence.prove_refuse_strangers();
	BEGIN
		PERFORM set_config(s.name, s.value, true)
		FROM (VALUES
			('row_security', 'on'), ('session_replication_role', 'replica'), ('client_min_messages', 'error'),
			('max_parallel_workers_per_gather', '0'), ('jit', 'off')
		) AS s (name, value);
		SET CONSTRAINTS ALL IMMEDIATE;
		PERFORM ringfence.prove_lend_rows(frame);
		frame := frame || jsonb_build_object('fingerprint', ringfence.prove_fingerprint(frame));
		plan := ARRAY(SELECT p.attempt FROM ringfence.prove_plan(frame, relations) AS p (attempt));
		answers := ringfence.prove_world(plan, frame, true);
		answers_without := ringfence.prove_world(plan, frame, false);
		RAISE EXCEPTION USING ERRCODE = 'RF000', MESSAGE = 'matrix undone';
	EXCEPTION WHEN SQLSTATE 'RF000' THEN
		NULL;
	END;
	PERFORM ringfence.set_context((before ->> 'org_id')::uuid, (before ->> 'sub')::uuid,
		ARRAY(SELECT jsonb_array_elements_text(before -> 'roles')), before -> 'party');
	RETURN QUERY SELECT r.* FROM ringfence.prove_report(plan, answers, answers_without) AS r;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.prove(uuid, uuid, regclass[]) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.prove(uuid, uuid, regclass[]) IS
	'tries out the isolation of two organizations, those given or two with rows: every protected table and view on one x command x role x own, other and no organization, or of some relations and what stands on them, all rolled back; a leak is a foreign row returned, made, changed or deleted, a reference to one accepted, any row of a table of organizations without one, or an answer that differs from that of a database without the other organization; for superusers; takes row locks on both organizations'' rows; 22023, 42501 if an object belongs to another role than ringfence_owner or a superuser';
