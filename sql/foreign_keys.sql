-- Foreign keys between protected tables. PostgreSQL checks foreign keys past
-- row security: one on the id alone lets a tenant reference another's row, and
-- tells by the error whether there is such a row. So each carries org_id.

-- A key leads with org_id and then has as many columns as are given, of their
-- types; the primary key goes before others.
CREATE FUNCTION ringfence.referenced_key(child regclass, columns name[], parent regclass) RETURNS name[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass;
	missing name;
	child_types oid[];
	candidate record;
BEGIN
	IF child IS NULL OR columns IS NULL OR parent IS NULL THEN
		RAISE EXCEPTION 'child, columns and parent must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF cardinality(columns) = 0 OR array_position(columns, NULL) IS NOT NULL OR 'org_id' = ANY (columns)
		OR cardinality(columns) <> (SELECT count(DISTINCT c.name) FROM unnest(columns) AS c (name)) THEN
		RAISE EXCEPTION 'invalid columns % of a foreign key', columns
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Name the columns that hold the parent''s key, each once, without org_id, which is always part of it.';
	END IF;
	FOREACH rel IN ARRAY ARRAY[child, parent] LOOP
		IF ringfence.row_class(rel) IS NULL THEN
			RAISE EXCEPTION 'table % is not protected', rel
				USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Call ringfence.protect(), or ringfence.adopt() if it has rows.';
		END IF;
		PERFORM 1 FROM pg_attribute AS a
		WHERE a.attrelid = rel AND a.attname = 'org_id' AND a.attnum > 0 AND NOT a.attisdropped;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'rows of table % do not belong to an organization', rel
				USING ERRCODE = 'wrong_object_type', HINT = 'An ordinary foreign key is right there.';
		END IF;
	END LOOP;

	SELECT min(c.name) FILTER (WHERE a.attnum IS NULL), array_agg(a.atttypid ORDER BY c.place)
	INTO missing, child_types
	FROM unnest(columns) WITH ORDINALITY AS c (name, place)
	LEFT JOIN pg_attribute AS a
		ON a.attrelid = child AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped;
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', missing, child
			USING ERRCODE = 'undefined_column';
	END IF;

	SELECT k.names[2:] AS names, k.types[2:] AS types INTO candidate
	FROM (
		SELECT
			i.indexrelid,
			i.indisprimary,
			array_agg(a.attname ORDER BY x.place) AS names,
			array_agg(a.atttypid ORDER BY x.place) AS types
		FROM pg_index AS i
		CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS x (attnum, place)
		INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = x.attnum
		WHERE i.indrelid = parent AND i.indisunique AND i.indisvalid AND i.indimmediate
			AND i.indpred IS NULL AND i.indexprs IS NULL
			AND i.indnkeyatts = cardinality(columns) + 1 AND x.place <= i.indnkeyatts
		GROUP BY i.indexrelid, i.indisprimary
	) AS k
	WHERE k.names[1] = 'org_id'
	ORDER BY k.types[2:] = child_types DESC, k.indisprimary DESC, k.indexrelid
	LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table % has no unique key of org_id and % more', parent,
			CASE cardinality(columns) WHEN 1 THEN 'one column' ELSE cardinality(columns) || ' columns' END
			USING ERRCODE = 'invalid_foreign_key',
			HINT = 'Give it a primary key or unique constraint that org_id leads.';
	ELSIF candidate.types <> child_types THEN
		RAISE EXCEPTION 'columns % of table % are not of the types of the key of table %', columns, child, parent
			USING ERRCODE = 'datatype_mismatch',
			DETAIL = format('The key is org_id and %s: %s. The columns are %s.',
				array_to_string(candidate.names, ', '), candidate.types::regtype[], child_types::regtype[]);
	END IF;
	RETURN candidate.names;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.referenced_key(regclass, name[], regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.referenced_key(regclass, name[], regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.referenced_key(regclass, name[], regclass) IS
	'the columns of a protected table, org_id left out, that columns of another one may reference together with org_id; 22004, 22023, 55000 not protected, 42809, 42703, 42830 no such key, 42804';

-- As PostgreSQL's own checks compare: by the collation of the parent's column.
CREATE FUNCTION ringfence.key_comparison(columns name[], parent regclass, parent_columns name[]) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT string_agg(
		format('p.%I = c.%I', a.attname, cc.name)
			|| CASE WHEN a.attcollation <> 0 THEN format(' COLLATE %s', a.attcollation::regcollation) ELSE '' END,
		' AND ' ORDER BY cc.place)
	FROM unnest(columns) WITH ORDINALITY AS cc (name, place)
	INNER JOIN unnest(parent_columns) WITH ORDINALITY AS pc (name, place) ON pc.place = cc.place
	INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = parent AND a.attname = pc.name AND a.attnum > 0;
END;
REVOKE EXECUTE ON FUNCTION ringfence.key_comparison(name[], regclass, name[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.key_comparison(name[], regclass, name[]) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.key_comparison(name[], regclass, name[]) IS
	'SQL that compares columns of a child, c, with those of a parent, p';

-- row_security = off makes it fail where policies would have it see less. The
-- planner expects few problems and would look for each one's row in a scan of its
-- own: without nested loops the time is that of reading both tables.
CREATE FUNCTION ringfence.foreign_key_problems(
	child regclass,
	columns name[],
	parent regclass
) RETURNS TABLE (org_id uuid, key text, problem text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_nestloop = off
AS $$
DECLARE
	parent_columns name[] := ringfence.referenced_key(child, columns, parent);
BEGIN
	RETURN QUERY EXECUTE format(
		'SELECT c.org_id, concat_ws('', '', %1$s), CASE WHEN p.there THEN ''other_org'' ELSE ''orphan'' END
		FROM %4$s AS c
		LEFT JOIN (SELECT DISTINCT %5$s, true AS there FROM %2$s AS p) AS p ON %3$s
		WHERE (%1$s) IS NOT NULL
			AND NOT EXISTS (SELECT FROM %2$s AS p WHERE p.org_id = c.org_id AND %3$s)
		ORDER BY 1, 2',
		(SELECT string_agg(format('c.%I', c.name), ', ' ORDER BY c.place) FROM unnest(columns) WITH ORDINALITY AS c (name, place)),
		parent, ringfence.key_comparison(columns, parent, parent_columns), child,
		(SELECT string_agg(format('p.%I', c.name), ', ' ORDER BY c.place)
			FROM unnest(parent_columns) WITH ORDINALITY AS c (name, place)));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.foreign_key_problems(regclass, name[], regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.foreign_key_problems(regclass, name[], regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.foreign_key_problems(regclass, name[], regclass) IS
	'the rows of a table that a foreign key of org_id and these columns would refuse: orphan (there is no such row) or other_org (it belongs to another organization); looks at every row or fails (42501), so it takes a superuser or a role with BYPASSRLS';

-- PostgreSQL validates a foreign key with a query as the current user: a table
-- owner whom policies show no row finds nothing wrong with any. So where there
-- are rows, only a role that sees them all may go on.
CREATE FUNCTION ringfence.require_all_rows(rel regclass) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM 1 FROM pg_roles AS r WHERE r.rolname = current_user AND (r.rolsuper OR r.rolbypassrls);
	IF NOT FOUND AND (
		ringfence.has_rows(rel)
		OR EXISTS (SELECT FROM pg_partition_tree(rel) AS t WHERE t.isleaf AND ringfence.has_rows(t.relid))
	) THEN
		RAISE EXCEPTION 'permission denied to check all rows of table %', rel
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'Row security would hide from you what has to be checked.',
			HINT = 'Do this as a superuser or a role with BYPASSRLS.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.require_all_rows(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.require_all_rows(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.require_all_rows(regclass) IS
	'42501 if the table has rows and the current role is subject to row security';

CREATE FUNCTION ringfence.refuse_foreign_key_problems(child regclass, columns name[], parent regclass) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_problems record;
BEGIN
	SELECT
		count(*) AS total,
		count(*) FILTER (WHERE p.problem = 'orphan') AS orphans,
		count(*) FILTER (WHERE p.problem = 'other_org') AS others,
		string_agg(format('%s (%s, %s)', p.key, p.org_id, p.problem), '; ') FILTER (WHERE p.place <= 10) AS examples
	INTO found_problems
	FROM ringfence.foreign_key_problems(child, columns, parent) WITH ORDINALITY AS p (org_id, key, problem, place);
	IF found_problems.total > 0 THEN
		RAISE EXCEPTION 'table % has rows that do not reference a row of their own organization in table %', child, parent
			USING ERRCODE = 'foreign_key_violation',
			DETAIL = format('%s reference no row at all, %s one of another organization. %s: %s.',
				found_problems.orphans, found_problems.others,
				CASE WHEN found_problems.total > 10 THEN 'The first 10' ELSE 'They are' END, found_problems.examples),
			HINT = 'ringfence.foreign_key_problems() lists them all. Correct them and repeat the call.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.refuse_foreign_key_problems(regclass, name[], regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.refuse_foreign_key_problems(regclass, name[], regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.refuse_foreign_key_problems(regclass, name[], regclass) IS
	'23503 with a count and up to ten examples if foreign_key_problems() finds any';

CREATE FUNCTION ringfence.column_numbers(rel regclass, columns name[]) RETURNS int2[]
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT array_agg(a.attnum ORDER BY c.place)
	FROM unnest(columns) WITH ORDINALITY AS c (name, place)
	INNER JOIN pg_catalog.pg_attribute AS a
		ON a.attrelid = rel AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped;
END;
REVOKE EXECUTE ON FUNCTION ringfence.column_numbers(regclass, name[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.column_numbers(regclass, name[]) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.column_numbers(regclass, name[]) IS
	'the attribute numbers of columns, in the order given';

-- What is looked up by a foreign key is not NULL, so an index of the rows where
-- that is so has all there is to find.
CREATE FUNCTION ringfence.index_serves_key(index regclass, key int2[]) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT i.indpred IS NULL OR EXISTS (
		SELECT
		FROM pg_catalog.pg_attribute AS a
		WHERE a.attrelid = i.indrelid AND a.attnum = ANY (key)
			AND pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname)
	)
	FROM pg_catalog.pg_index AS i
	WHERE i.indexrelid = index;
END;
REVOKE EXECUTE ON FUNCTION ringfence.index_serves_key(regclass, int2[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.index_serves_key(regclass, int2[]) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.index_serves_key(regclass, int2[]) IS
	'whether an index is complete for a foreign key of these columns: not partial, or of the rows where one of them is not NULL';

CREATE FUNCTION ringfence.has_child_index(child regclass, key name[]) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT EXISTS (
		SELECT
		FROM pg_catalog.pg_index AS i
		WHERE i.indrelid = child AND i.indisvalid AND i.indnkeyatts >= cardinality(key)
			AND ringfence.index_serves_key(i.indexrelid, ringfence.column_numbers(child, key))
			AND (
				SELECT array_agg(a.attname ORDER BY a.attname)
				FROM unnest((i.indkey::int2[])[0:cardinality(key) - 1]) AS k (attnum)
				INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = child AND a.attnum = k.attnum
			) = (SELECT array_agg(c.name ORDER BY c.name) FROM unnest(key) AS c (name))
	);
END;
REVOKE EXECUTE ON FUNCTION ringfence.has_child_index(regclass, name[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_child_index(regclass, name[]) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.has_child_index(regclass, name[]) IS
	'whether an index that is complete for them leads with these columns, in whatever order';

CREATE FUNCTION ringfence.ensure_child_index(child regclass, columns name[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.has_child_index(child, 'org_id'::name || columns) THEN
		EXECUTE format('CREATE INDEX ON %s (org_id, %s)', child,
			(SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.place)
				FROM unnest(columns) WITH ORDINALITY AS c (name, place)));
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ensure_child_index(regclass, name[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ensure_child_index(regclass, name[]) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.ensure_child_index(regclass, name[]) IS
	'makes an index on org_id and these columns unless one leads with them; keeps writers out while it does';

CREATE FUNCTION ringfence.add_foreign_key(
	child regclass,
	columns name[],
	parent regclass,
	on_delete text DEFAULT 'NO ACTION',
	validate boolean DEFAULT true
) RETURNS name
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parent_columns name[] := ringfence.referenced_key(child, columns, parent);
	action text := upper(regexp_replace(btrim(on_delete), '\s+', ' ', 'g'));
	action_code "char";
	partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class AS c WHERE c.oid = child);
	column_list text := (
		SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.place)
		FROM unnest(columns) WITH ORDINALITY AS c (name, place)
	);
	existing pg_constraint;
	old_name name;
BEGIN
	IF on_delete IS NULL OR validate IS NULL THEN
		RAISE EXCEPTION 'on_delete and validate must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	action_code := CASE action
		WHEN 'NO ACTION' THEN 'a' WHEN 'RESTRICT' THEN 'r' WHEN 'CASCADE' THEN 'c'
		WHEN 'SET NULL' THEN 'n' WHEN 'SET DEFAULT' THEN 'd'
	END;
	IF action_code IS NULL THEN
		RAISE EXCEPTION 'invalid ON DELETE action "%"', on_delete
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It is NO ACTION, RESTRICT, CASCADE, SET NULL or SET DEFAULT.';
	END IF;
	IF action = 'SET NULL' AND EXISTS (
		SELECT FROM pg_attribute AS a
		WHERE a.attrelid = child AND a.attnum = ANY (ringfence.column_numbers(child, columns)) AND a.attnotnull
	) THEN
		RAISE EXCEPTION 'columns % of table % cannot be set to NULL', columns, child
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Drop their NOT NULL, or choose another ON DELETE action.';
	END IF;

	-- Of two calls one waits, so that they don't make two keys. Writers don't: what
	-- is made below takes the locks that it needs.
	EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', child);
	SELECT c.* INTO existing
	FROM pg_constraint AS c
	WHERE c.contype = 'f' AND c.conrelid = child AND c.confrelid = parent
		AND c.conkey = ringfence.column_numbers(child, 'org_id'::name || columns)
		AND c.confkey = ringfence.column_numbers(parent, 'org_id'::name || parent_columns);
	IF existing.oid IS NOT NULL AND (
		existing.confdeltype <> action_code
		OR (action LIKE 'SET %' AND existing.confdelsetcols IS DISTINCT FROM ringfence.column_numbers(child, columns))
	) THEN
		RAISE EXCEPTION 'foreign key "%" of table % exists with another ON DELETE action', existing.conname, child
			USING ERRCODE = 'duplicate_object',
			HINT = format('Drop it first: ALTER TABLE %s DROP CONSTRAINT %I;', child, existing.conname);
	END IF;

	IF existing.oid IS NULL OR (validate AND NOT existing.convalidated) THEN
		IF validate THEN
			PERFORM ringfence.require_all_rows(child);
			IF (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.rolname = current_user) THEN
				PERFORM ringfence.refuse_foreign_key_problems(child, columns, parent);
			END IF;
		ELSIF partitioned THEN
			RAISE EXCEPTION 'the foreign key of a partitioned table must be validated'
				USING ERRCODE = 'feature_not_supported';
		END IF;
	END IF;
	IF existing.oid IS NULL THEN
		PERFORM ringfence.ensure_child_index(child, columns);
		EXECUTE format('ALTER TABLE %s ADD FOREIGN KEY (org_id, %s) REFERENCES %s (org_id, %s) ON DELETE %s%s',
			child, column_list, parent,
			(SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.place)
				FROM unnest(parent_columns) WITH ORDINALITY AS c (name, place)),
			action || CASE WHEN action LIKE 'SET %' THEN format(' (%s)', column_list) ELSE '' END,
			CASE WHEN NOT partitioned THEN ' NOT VALID' ELSE '' END);
		SELECT c.* INTO STRICT existing
		FROM pg_constraint AS c
		WHERE c.contype = 'f' AND c.conrelid = child AND c.confrelid = parent
			AND c.conkey = ringfence.column_numbers(child, 'org_id'::name || columns);
	END IF;
	IF validate AND NOT existing.convalidated THEN
		EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', child, existing.conname);
	END IF;

	FOR old_name IN
		SELECT c.conname
		FROM pg_constraint AS c
		WHERE c.contype = 'f' AND c.conrelid = child AND c.confrelid = parent
			AND c.conkey = ringfence.column_numbers(child, columns)
	LOOP
		RAISE NOTICE 'foreign key "%" of table % does not carry org_id', old_name, child
			USING HINT = format('The new one replaces it: ALTER TABLE %s DROP CONSTRAINT %I;', child, old_name);
	END LOOP;
	RETURN existing.conname;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.add_foreign_key(regclass, name[], regclass, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.add_foreign_key(regclass, name[], regclass, text, boolean) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.add_foreign_key(regclass, name[], regclass, text, boolean) IS
	'makes the foreign key (org_id, columns) of one protected table to a key of another, and an index for it, and returns its name; what violates it is listed first; SET NULL leaves org_id alone; validate => false skips the rows there are, a second call makes up for it; repeatable; 23503, 42501 to a role that does not see all rows, 42710 it exists with another action, 22004, 22023, 42703, 42804, 42809, 42830, 55000';
