-- What retain() and declare_subject() take of columns: filters, which pick rows, and
-- rules, which say what becomes of columns.

-- Both are objects whose keys are columns. Nothing of them reaches a statement but
-- through %I and %L.

-- Of a domain the type that it is of: nobody's CHECK runs where values are compared.
CREATE FUNCTION ringfence.column_type(rel regclass, column_name text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	WITH RECURSIVE types AS (
		SELECT a.atttypid AS type, a.atttypmod AS modifier
		FROM pg_catalog.pg_attribute AS a
		WHERE a.attrelid = rel AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
		SELECT y.typbasetype, y.typtypmod
		FROM types AS t
		INNER JOIN pg_catalog.pg_type AS y ON y.oid = t.type AND y.typtype = 'd'
	)
	SELECT format_type(t.type, t.modifier)
	FROM types AS t
	INNER JOIN pg_catalog.pg_type AS y ON y.oid = t.type AND y.typtype <> 'd';
END;
REVOKE EXECUTE ON FUNCTION ringfence.column_type(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.column_type(regclass, text) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.column_type(regclass, text) IS 'the type of a column as SQL writes it, for a domain the one it is of; NULL if there is none of that name';

CREATE FUNCTION ringfence.filter_condition(rel regclass, filter jsonb, alias text DEFAULT 't') RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(string_agg(
		CASE
			WHEN p.wanted = 'null' THEN format('%s IS %sNULL', p.reference, CASE WHEN p.negated THEN 'NOT ' ELSE '' END)
			WHEN p.negated THEN format('(%s) IS NOT TRUE', p.equal)
			ELSE p.equal
		END, ' AND ' ORDER BY p.name), 'true')
	FROM (
		SELECT f.name, f.reference, f.negated, f.wanted,
			CASE jsonb_typeof(f.wanted)
				WHEN 'array' THEN format('%s = ANY (%L::%s[])', f.reference,
					(SELECT array_agg(v.value) FROM jsonb_array_elements_text(f.wanted) AS v (value))::text, f.type)
				ELSE format('%s = %L::%s', f.reference, f.wanted #>> '{}', f.type)
			END AS equal
		FROM (
			SELECT e.key AS name, CASE WHEN alias = '' THEN '' ELSE quote_ident(alias) || '.' END || quote_ident(e.key) AS reference,
				ringfence.column_type(rel, e.key) AS type,
				jsonb_typeof(e.value) = 'object' AS negated,
				CASE jsonb_typeof(e.value) WHEN 'object' THEN e.value -> 'not' ELSE e.value END AS wanted
			FROM jsonb_each(filter) AS e
		) AS f
	) AS p
$$;
REVOKE EXECUTE ON FUNCTION ringfence.filter_condition(regclass, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.filter_condition(regclass, jsonb, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.filter_condition(regclass, jsonb, text) IS
	'a filter as SQL: {"column": value, or [values], or null, or {"not": any of these}}, joined by AND; "true" for NULL; the columns'' names alone if the alias is an empty string; of what check_filter() let pass';

CREATE FUNCTION ringfence.check_filter(rel regclass, filter jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry record;
	wanted jsonb;
BEGIN
	IF filter IS NULL THEN
		RETURN;
	END IF;
	IF jsonb_typeof(filter) <> 'object' OR filter = '{}' THEN
		RAISE EXCEPTION 'a filter must be a JSON object with a column'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Write for example {"status": ["lost", "canceled"]}.';
	END IF;
	FOR entry IN SELECT f.key, f.value FROM jsonb_each(filter) AS f LOOP
		IF ringfence.column_type(rel, entry.key) IS NULL THEN
			RAISE EXCEPTION 'column "%" of table % does not exist', entry.key, rel USING ERRCODE = 'undefined_column';
		END IF;
		IF entry.key = ANY (ringfence.audit_secret_columns(rel)::text[]) THEN
			RAISE EXCEPTION 'column "%" of table % is secret', entry.key, rel
				USING ERRCODE = 'invalid_parameter_value', DETAIL = 'What a filter picks would tell what it holds.';
		END IF;
		wanted := entry.value;
		IF jsonb_typeof(wanted) = 'object' AND wanted ? 'not' AND wanted - 'not' = '{}' THEN
			wanted := wanted -> 'not';
		END IF;
		IF jsonb_typeof(wanted) = 'object' OR wanted = '[]' OR EXISTS (
			SELECT FROM jsonb_array_elements(CASE jsonb_typeof(wanted) WHEN 'array' THEN wanted ELSE '[]' END) AS v (value)
			WHERE jsonb_typeof(v.value) IN ('object', 'array', 'null')
		) THEN
			RAISE EXCEPTION 'invalid filter % on column "%"', entry.value, entry.key
				USING ERRCODE = 'invalid_parameter_value',
				HINT = 'It is a value, a list of values, null, or {"not": one of these}.';
		END IF;
		IF wanted <> 'null' THEN
			-- Are they values of the column's type?
			PERFORM ringfence.check_value(rel, entry.key, v.value)
			FROM jsonb_array_elements_text(
				CASE jsonb_typeof(wanted) WHEN 'array' THEN wanted ELSE jsonb_build_array(wanted) END) AS v (value);
		END IF;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_filter(regclass, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_filter(regclass, jsonb) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.check_filter(regclass, jsonb) IS
	'refuses what is no filter for a table: 22023, 42703, and what the column''s type refuses';

-- Values are compared and read by nobody's code but the server's and extensions':
-- no arrays, composites and ranges, which may have a domain in them.
CREATE FUNCTION ringfence.takes_values(rel regclass, column_name text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	WITH RECURSIVE types AS (
		SELECT a.atttypid AS type
		FROM pg_catalog.pg_attribute AS a
		WHERE a.attrelid = rel AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
		SELECT y.typbasetype
		FROM types AS t
		INNER JOIN pg_catalog.pg_type AS y ON y.oid = t.type AND y.typtype = 'd'
	)
	SELECT coalesce(bool_or(
		y.typtype = 'e' OR (
			y.typtype = 'b' AND y.typsubscript <> 'array_subscript_handler'::regproc
			AND (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.oid = y.typowner)
			AND EXISTS (
				SELECT FROM pg_catalog.pg_opclass AS o
				INNER JOIN pg_catalog.pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'btree'
				WHERE o.opcdefault AND o.opcintype = CASE y.typname WHEN 'varchar' THEN 'text'::regtype::oid ELSE y.oid END
			)
		)), false)
	FROM types AS t
	INNER JOIN pg_catalog.pg_type AS y ON y.oid = t.type AND y.typtype <> 'd';
END;
REVOKE EXECUTE ON FUNCTION ringfence.takes_values(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.takes_values(regclass, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.takes_values(regclass, text) IS
	'whether filters and rules can have values of a column''s type: an enum, or a scalar type of a superuser''s that can be compared';

CREATE FUNCTION ringfence.check_value(rel regclass, column_name text, value text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Without its length, by which a cast would cut it.
	type CONSTANT regtype := regexp_replace(ringfence.column_type(rel, column_name), '\(.*?\)', '')::regtype;
BEGIN
	IF NOT ringfence.takes_values(rel, column_name) THEN
		RAISE EXCEPTION 'values of column "%" of table % cannot be compared', column_name, rel
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is of type %s.', type);
	END IF;
	EXECUTE format('SELECT %L::%s', value, type);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_value(regclass, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_value(regclass, text, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.check_value(regclass, text, text) IS
	'refuses, with the error of the column''s type, a value that is none of it, and types that can''t be compared or may run anybody''s code: 22023';

-- What a rule makes of a column, and whether a row has yet to be changed by it. A
-- row that is done is known by its values: nothing else has to be kept of it, and
-- no row is done twice.
CREATE FUNCTION ringfence.rule_parts(rel regclass, rules jsonb, alias text DEFAULT 't', OUT name text, OUT value text, OUT todo text)
RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.key,
		CASE
			WHEN r.value = '"null"' THEN 'NULL'
			WHEN r.value = '"pseudonym"' THEN
				format('CASE WHEN %1$s ~ %2$L THEN %1$s WHEN %1$s IS NOT NULL THEN %3$L || replace(gen_random_uuid()::text, ''-'', '''') || %4$L END',
					c.reference, p.pattern, 'anon-', CASE WHEN p.email THEN '@anonymous.invalid' ELSE '' END)
			WHEN r.value ? 'constant' THEN format('%L::%s', r.value ->> 'constant', t.type)
			WHEN r.value ? 'truncate' THEN format('trunc(%s::numeric, %s)::%s', c.reference, (r.value ->> 'truncate')::integer, t.type)
		END,
		CASE
			WHEN r.value = '"null"' THEN format('%s IS NOT NULL', c.reference)
			WHEN r.value = '"pseudonym"' THEN format('%s !~ %L', c.reference, p.pattern)
			WHEN r.value ? 'constant' THEN format('%s IS DISTINCT FROM %L::%s', c.reference, r.value ->> 'constant', t.type)
			WHEN r.value ? 'truncate' THEN
				format('%1$s <> trunc(%1$s::numeric, %2$s)::%3$s', c.reference, (r.value ->> 'truncate')::integer, t.type)
		END
	FROM jsonb_each(rules) AS r
	CROSS JOIN LATERAL (
		SELECT CASE WHEN alias = '' THEN '' ELSE quote_ident(alias) || '.' END || quote_ident(r.key) AS reference
	) AS c
	CROSS JOIN LATERAL (SELECT ringfence.column_type(rel, r.key) AS type) AS t
	CROSS JOIN LATERAL (
		SELECT r.key ILIKE '%email%' AS email,
			CASE WHEN r.key ILIKE '%email%' THEN '^anon-[0-9a-f]{32}@anonymous[.]invalid$' ELSE '^anon-[0-9a-f]{32}$' END AS pattern
	) AS p
	WHERE r.value <> '"keep"'
$$;
REVOKE EXECUTE ON FUNCTION ringfence.rule_parts(regclass, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.rule_parts(regclass, jsonb, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.rule_parts(regclass, jsonb, text) IS
	'rules as SQL: each column, the expression of its new value, and the condition under which it is not that yet';

CREATE FUNCTION ringfence.rule_assignments(rel regclass, rules jsonb) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(format('%I = %s', p.name, p.value), ', ' ORDER BY p.name) FROM ringfence.rule_parts(rel, rules) AS p
$$;
REVOKE EXECUTE ON FUNCTION ringfence.rule_assignments(regclass, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.rule_assignments(regclass, jsonb) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.rule_assignments(regclass, jsonb) IS 'the SET list of an UPDATE, of a table called t, that rules come to';

CREATE FUNCTION ringfence.rule_todo(rel regclass, rules jsonb, alias text DEFAULT 't') RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT '(' || string_agg(p.todo, ' OR ' ORDER BY p.name) || ')' FROM ringfence.rule_parts(rel, rules, alias) AS p
$$;
REVOKE EXECUTE ON FUNCTION ringfence.rule_todo(regclass, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.rule_todo(regclass, jsonb, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.rule_todo(regclass, jsonb, text) IS
	'the condition under which a row has yet to be changed by rules; the columns'' names alone if the alias is an empty string, as an index wants them';

CREATE FUNCTION ringfence.check_rules(rel regclass, rules jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry record;
	length_needed CONSTANT integer := 60;
BEGIN
	IF rules IS NULL OR jsonb_typeof(rules) <> 'object'
		OR NOT EXISTS (SELECT FROM jsonb_each(rules) AS r WHERE r.value <> '"keep"') THEN
		RAISE EXCEPTION 'rules must be a JSON object that changes a column'
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write for example {"name": "pseudonym", "phone": "null", "lat": {"truncate": 1}, "id": "keep"}.';
	END IF;
	FOR entry IN
		SELECT r.key AS name, r.value AS rule, a.attnum, a.attnotnull, a.atttypid, a.atttypmod, a.attgenerated, y.typcategory
		FROM jsonb_each(rules) AS r
		LEFT JOIN pg_attribute AS a ON a.attrelid = rel AND a.attname = r.key AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_type AS y ON y.oid = a.atttypid
	LOOP
		IF entry.attnum IS NULL THEN
			RAISE EXCEPTION 'column "%" of table % does not exist', entry.name, rel USING ERRCODE = 'undefined_column';
		END IF;
		IF entry.rule = '"null"' THEN
			IF entry.attnotnull THEN
				RAISE EXCEPTION 'column "%" of table % cannot be null', entry.name, rel
					USING ERRCODE = 'invalid_parameter_value', HINT = 'Drop its NOT NULL, or give it another rule.';
			END IF;
		ELSIF entry.rule = '"pseudonym"' THEN
			IF entry.typcategory <> 'S' OR (entry.atttypmod > 0 AND entry.atttypmod - 4 < length_needed) THEN
				RAISE EXCEPTION 'column "%" of table % cannot hold a pseudonym', entry.name, rel
					USING ERRCODE = 'invalid_parameter_value',
					DETAIL = format('A pseudonym is text of up to %s characters.', length_needed);
			END IF;
		ELSIF jsonb_typeof(entry.rule) = 'object' AND entry.rule ? 'truncate' AND entry.rule - 'truncate' = '{}'
			AND entry.rule ->> 'truncate' ~ '^[0-9]$' THEN
			IF entry.typcategory <> 'N' THEN
				RAISE EXCEPTION 'column "%" of table % is no number', entry.name, rel USING ERRCODE = 'invalid_parameter_value';
			END IF;
		ELSIF jsonb_typeof(entry.rule) = 'object' AND entry.rule ? 'constant' AND entry.rule - 'constant' = '{}'
			AND jsonb_typeof(entry.rule -> 'constant') IN ('string', 'number', 'boolean') THEN
			PERFORM ringfence.check_value(rel, entry.name, entry.rule ->> 'constant');
		ELSIF entry.rule <> '"keep"' THEN
			RAISE EXCEPTION 'invalid rule % for column "%"', entry.rule, entry.name
				USING ERRCODE = 'invalid_parameter_value',
				HINT = 'A rule is "null", "pseudonym", "keep", {"constant": value} or {"truncate": number of decimals, 0 to 9}.';
		END IF;
		IF entry.rule <> '"keep"' AND (entry.attgenerated <> '' OR entry.name = 'org_id' OR EXISTS (
			SELECT FROM pg_constraint AS k
			WHERE k.conrelid = rel AND k.contype = 'p' AND entry.attnum = ANY (k.conkey)
		)) THEN
			RAISE EXCEPTION 'column "%" of table % cannot be changed', entry.name, rel
				USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It is part of the primary key, or generated.';
		END IF;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_rules(regclass, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_rules(regclass, jsonb) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.check_rules(regclass, jsonb) IS
	'refuses what are no rules for a table: 22023, 42703, and what the column''s type refuses';
