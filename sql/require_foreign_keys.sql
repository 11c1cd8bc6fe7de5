-- Foreign keys that are missing: a column named for another table, client_id for
-- clients, that nothing keeps to rows which are there. verify() names each,
-- require_foreign_keys() counts the rows that go astray, and columns that name
-- something else are excepted, with the reason.

CREATE FUNCTION ringfence.except_reference(rel regclass, column_name name, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF rel IS NULL OR column_name IS NULL THEN
		RAISE EXCEPTION 'table and column must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF reason IS NULL THEN
		DELETE FROM ringfence_data.reference_exemptions AS e
		WHERE e.relation = rel AND e.column_name = except_reference.column_name;
		RETURN;
	END IF;
	IF btrim(reason) = '' OR length(reason) > 1000 THEN
		RAISE EXCEPTION 'invalid reason for column "%" of table %', column_name, rel
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Say in 1 to 1000 characters what it names instead: "the payment''s id at Stripe".';
	END IF;
	PERFORM 1 FROM pg_attribute AS a
	WHERE a.attrelid = rel AND a.attname = except_reference.column_name AND a.attnum > 0 AND NOT a.attisdropped;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', column_name, rel USING ERRCODE = 'undefined_column';
	END IF;
	INSERT INTO ringfence_data.reference_exemptions AS e (relation, column_name, reason)
	VALUES (rel, except_reference.column_name, except_reference.reason)
	ON CONFLICT ON CONSTRAINT reference_exemptions_pkey DO UPDATE SET reason = excluded.reason
	WHERE e.reason <> excluded.reason;
END
$$;
ALTER FUNCTION ringfence.except_reference(regclass, name, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.except_reference(regclass, name, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.except_reference(regclass, name, text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.except_reference(regclass, name, text) IS
	'says that a column, though it is named for another table, needs no foreign key, and why; a NULL reason takes that back; 22004, 22023, 42703';

CREATE FUNCTION ringfence.reference_exemptions(OUT relation regclass, OUT column_name name, OUT reason text) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 50 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	IF to_regclass('ringfence_data.reference_exemptions') IS NOT NULL THEN
		RETURN QUERY SELECT e.relation, e.column_name, e.reason FROM ringfence_data.reference_exemptions AS e;
	END IF;
END
$$;
ALTER FUNCTION ringfence.reference_exemptions() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.reference_exemptions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reference_exemptions() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.reference_exemptions() IS
	'what except_reference() has said of columns';

-- RENAME COLUMN doesn't say what the name was: it was the excepted one that is
-- gone. Where several are (columns dropped behind our back), none is guessed.
CREATE FUNCTION ringfence.reference_altered(rel oid, column_number integer) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF column_number <= 0 OR to_regclass('ringfence_data.reference_exemptions') IS NULL THEN
		RETURN;
	END IF;
	UPDATE ringfence_data.reference_exemptions AS e
	SET column_name = n.attname
	FROM (
		SELECT min(g.column_name::text) AS old_name
		FROM ringfence_data.reference_exemptions AS g
		WHERE g.relation = rel
			AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = g.relation AND a.attname = g.column_name)
		HAVING count(*) = 1
	) AS o
	INNER JOIN pg_attribute AS n ON n.attrelid = rel AND n.attnum = column_number
	WHERE e.relation = rel AND e.column_name = o.old_name::name
		AND NOT EXISTS (
			SELECT FROM ringfence_data.reference_exemptions AS t WHERE t.relation = rel AND t.column_name = n.attname
		);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.reference_altered(oid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reference_altered(oid, integer) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.reference_altered(oid, integer) IS
	'keeps an exemption with a column that was renamed; for the event trigger';

CREATE FUNCTION ringfence.set_foreign_keys_required(rel regclass, required boolean) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE ringfence_data.tables AS t
	SET foreign_keys_required = set_foreign_keys_required.required
	WHERE t.relation = rel AND t.foreign_keys_required <> set_foreign_keys_required.required
$$;
ALTER FUNCTION ringfence.set_foreign_keys_required(regclass, boolean) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.set_foreign_keys_required(regclass, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.set_foreign_keys_required(regclass, boolean) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.set_foreign_keys_required(regclass, boolean) IS
	'notes in ringfence_data.tables whether verify() is to call a foreign key that is missing an error; for require_foreign_keys()';

CREATE FUNCTION ringfence.foreign_keys_required(rel regclass) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	RETURN EXISTS (SELECT FROM ringfence_data.tables AS t WHERE t.relation = rel AND t.foreign_keys_required);
END
$$;
ALTER FUNCTION ringfence.foreign_keys_required(regclass) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.foreign_keys_required(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.foreign_keys_required(regclass) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.foreign_keys_required(regclass) IS
	'whether require_foreign_keys() has said so of a table';

-- What a table of things is called after one of them: client_id may name clients,
-- and debit_account_id, if not debit_accounts, then accounts.
CREATE FUNCTION ringfence.reference_names(column_name name, OUT table_name text, OUT words integer, OUT whole boolean)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT ROWS 20
BEGIN ATOMIC
	SELECT DISTINCT f.form, cardinality(w.words) - s.place + 1, s.place = 1
	FROM (SELECT string_to_array(left(column_name::text, -3), '_') AS words) AS w
	CROSS JOIN LATERAL generate_series(1, cardinality(w.words)) AS s (place)
	CROSS JOIN LATERAL (SELECT array_to_string(w.words[s.place:], '_') AS one) AS o
	CROSS JOIN LATERAL (VALUES
		(o.one),
		(o.one || 's'),
		(o.one || 'es'),
		(regexp_replace(o.one, 'y$', 'ies')),
		(regexp_replace(o.one, 'fe?$', 'ves')),
		(regexp_replace(o.one, 'is$', 'es')),
		(regexp_replace(o.one, 'person$', 'people')),
		(regexp_replace(o.one, '(^|_)child$', '\1children')),
		(regexp_replace(o.one, '(^|_)(wo)?man$', '\1\2men'))
	) AS f (form)
	WHERE column_name::text ~ '._id$' AND o.one <> '';
END;
REVOKE EXECUTE ON FUNCTION ringfence.reference_names(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reference_names(name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.reference_names(name) IS
	'what a table may be called that a column ..._id names, singular and plural; of several words the last ones too: words is how many, whole whether all';

-- An app speaks of its own tables, of those of apps that it requires, and of
-- core's. Tables of a DBA's own may speak of any.
CREATE FUNCTION ringfence.reference_distance(child_schema name, parent_schema name) RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	child_app text;
	parent_app text;
BEGIN
	IF child_schema = parent_schema THEN
		RETURN 0;
	END IF;
	SELECT a.app INTO child_app FROM ringfence_data.apps AS a WHERE child_schema = ANY (a.schemas);
	SELECT a.app INTO parent_app FROM ringfence_data.apps AS a WHERE parent_schema = ANY (a.schemas);
	IF child_app IS NOT DISTINCT FROM parent_app THEN
		RETURN 1;
	ELSIF parent_app = 'core' THEN
		RETURN 3;
	ELSIF child_app IS NULL OR EXISTS (
		WITH RECURSIVE required AS (
			SELECT unnest(a.requires) AS app FROM ringfence_data.apps AS a WHERE a.app = child_app
			UNION
			SELECT unnest(a.requires) FROM ringfence_data.apps AS a INNER JOIN required AS r ON r.app = a.app
		)
		SELECT FROM required AS r WHERE r.app = parent_app
	) THEN
		RETURN 2;
	END IF;
	RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.reference_distance(name, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reference_distance(name, name) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.reference_distance(name, name) IS
	'how far a table looks for what its columns name: 0 in its schema, 1 in its app, 2 in apps that this one requires (tables of no app: in any), 3 in core; NULL if not there';

-- One row for each table that a column may name; several if nothing tells which.
-- Left out are records of what was, which outlive what they speak of, and parents
-- that nobody may lock a row of, as a foreign key has to.
CREATE FUNCTION ringfence.missing_foreign_keys(
	rel regclass DEFAULT NULL,
	OUT child regclass,
	OUT column_name name,
	OUT parent regclass,
	OUT parent_column name,
	OUT carries_org boolean,
	OUT choices bigint
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
SET jit = off
BEGIN ATOMIC
	WITH tables AS MATERIALIZED (
		SELECT t.rel, t.row_class, c.relname, n.nspname, o.attnum AS org, c.relowner
		FROM ringfence.registered_tables() AS t
		INNER JOIN pg_catalog.pg_class AS c ON c.oid = t.rel
		INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_attribute AS o ON o.attrelid = c.oid AND o.attname = 'org_id' AND NOT o.attisdropped
		WHERE NOT ringfence.is_audit_table(t.rel) AND NOT ringfence.is_idempotency_table(t.rel)
	), parents AS MATERIALIZED (
		SELECT t.rel, t.relname, t.nspname, t.org
		FROM tables AS t
		WHERE has_any_column_privilege(t.relowner, t.rel, 'SELECT') AND has_any_column_privilege(t.relowner, t.rel, 'UPDATE')
	), keys AS MATERIALIZED (
		SELECT p.rel, a.attname, a.atttypid, i.indisprimary
		FROM parents AS p
		INNER JOIN pg_catalog.pg_index AS i ON i.indrelid = p.rel
		INNER JOIN pg_catalog.pg_attribute AS a
			ON a.attrelid = p.rel AND a.attnum = (i.indkey::int2[])[i.indnkeyatts - 1] AND a.attname <> 'org_id'
		WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
			AND i.indnkeyatts = CASE WHEN p.org IS NULL THEN 1 ELSE 2 END
			AND (p.org IS NULL OR (i.indkey::int2[])[0] = p.org)
	), columns AS MATERIALIZED (
		SELECT t.rel, t.nspname, t.org, a.attnum, a.attname, a.atttypid, EXISTS (
			SELECT FROM pg_catalog.pg_constraint AS k
			WHERE k.conrelid = t.rel AND k.contype = 'p' AND a.attnum = ANY (k.conkey)
		) AS in_primary_key
		FROM tables AS t
		INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.rel AND a.attnum > 0 AND NOT a.attisdropped
		WHERE a.attname::text ~ '._id$' AND (missing_foreign_keys.rel IS NULL OR t.rel = missing_foreign_keys.rel)
			-- Of an organization's own row org_id_unreferenced speaks; a virtual
			-- column can have no foreign key.
			AND NOT (a.attname = 'org_id' AND t.row_class = 'org') AND a.attgenerated <> 'v'
			AND NOT EXISTS (
				SELECT FROM pg_catalog.pg_constraint AS k
				WHERE k.conrelid = t.rel AND k.contype = 'f' AND a.attnum = ANY (k.conkey)
			)
			AND NOT EXISTS (
				SELECT FROM ringfence.reference_exemptions() AS e WHERE e.relation = t.rel AND e.column_name = a.attname
			)
	), candidates AS (
		SELECT c.rel, c.attnum, c.attname, p.rel AS parent, p.org IS NOT NULL AS carries_org, k.attname AS parent_column,
			rank() OVER (
				PARTITION BY c.rel, c.attnum
				ORDER BY k.attname IS NULL, n.words DESC, p.relname <> n.table_name, d.distance
			) AS place
		FROM columns AS c
		CROSS JOIN LATERAL ringfence.reference_names(c.attname) AS n
		INNER JOIN parents AS p
			ON p.relname = n.table_name
			OR right(p.relname, length(n.table_name) + 1) = '_' || n.table_name
			OR (n.table_name = 'parent' AND p.rel = c.rel)
		CROSS JOIN LATERAL (SELECT ringfence.reference_distance(c.nspname, p.nspname) AS distance) AS d
		LEFT JOIN LATERAL (
			SELECT k.attname
			FROM keys AS k
			WHERE k.rel = p.rel AND k.atttypid = c.atttypid AND (k.indisprimary OR k.attname IN ('id', c.attname))
			ORDER BY k.indisprimary DESC
			LIMIT 1
		) AS k ON true
		WHERE d.distance IS NOT NULL
			-- Where no key fits, it takes the very name, and no other app's, to make it
			-- a reference.
			AND (k.attname IS NOT NULL OR (n.whole AND p.relname = n.table_name AND d.distance <> 2))
			AND (p.org IS NULL OR c.org IS NOT NULL)
			-- visit_id of visits is what identifies a visit, not another one.
			AND NOT (p.rel = c.rel AND (c.in_primary_key OR (n.whole AND n.table_name <> 'parent')))
	), chosen AS (
		SELECT DISTINCT c.rel, c.attnum, c.attname, c.parent, c.parent_column, c.carries_org
		FROM candidates AS c
		WHERE c.place = 1
	)
	SELECT c.rel, c.attname, c.parent, c.parent_column, c.carries_org, count(*) OVER (PARTITION BY c.rel, c.attnum)
	FROM chosen AS c
	ORDER BY c.rel::text, c.attnum, c.parent::text;
END;
ALTER FUNCTION ringfence.missing_foreign_keys(regclass) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.missing_foreign_keys(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.missing_foreign_keys(regclass) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.missing_foreign_keys(regclass) IS
	'columns of protected tables, or of one, that are named for another table and in no foreign key: the table or tables that each may name (choices is how many), the column of the key that fits, or NULL if none does, and whether the foreign key has to carry org_id';

-- Who reads a table runs its owner's code, with their own rights: planning looks
-- into expressions of indexes and constraints. So a superuser doesn't read those
-- of everybody.
CREATE FUNCTION ringfence.sees_all_rows(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT (r.rolsuper OR (r.rolbypassrls AND has_table_privilege(rel, 'SELECT')))
		AND NOT EXISTS (
			SELECT FROM ringfence.with_children(rel) AS w
			INNER JOIN pg_catalog.pg_class AS c ON c.oid = w.child
			INNER JOIN pg_catalog.pg_roles AS o ON o.oid = c.relowner
			WHERE NOT o.rolsuper AND o.rolname NOT IN ('ringfence_owner', current_user)
		)
	FROM pg_catalog.pg_roles AS r
	WHERE r.rolname = current_user;
END;
REVOKE EXECUTE ON FUNCTION ringfence.sees_all_rows(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.sees_all_rows(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.sees_all_rows(regclass) IS
	'whether the current role may read a table past its policies, and the table''s owner is to be trusted by it: a superuser, ringfence_owner or the role itself';

-- A foreign table's size is not known here, so with one for a partition the
-- whole counts as large.
CREATE FUNCTION ringfence.is_large(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT sum(pg_relation_size(c.oid)) > 16 * 1024 * 1024 OR bool_or(c.relkind = 'f')
	FROM ringfence.with_children(rel) AS w
	INNER JOIN pg_catalog.pg_class AS c ON c.oid = w.child;
END;
REVOKE EXECUTE ON FUNCTION ringfence.is_large(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_large(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_large(regclass) IS
	'whether a table, with its partitions and children, has more than 16 MB: such a one verify() reads no row of, and its indexes are better made concurrently';

-- Other than foreign_key_problems() it lists nothing, knows of parents without
-- organizations as well, and is NULL for who doesn't see every row. Types with
-- an equality of their own are not looked for past pg_catalog.
CREATE FUNCTION ringfence.count_foreign_key_problems(
	child regclass,
	column_name name,
	parent regclass,
	parent_column name,
	carries_org boolean,
	OUT orphans bigint,
	OUT other_org bigint
) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET enable_nestloop = off
AS $$
DECLARE
	key_collation record;
BEGIN
	SELECT n.nspname, c.collname INTO key_collation
	FROM pg_attribute AS a
	INNER JOIN pg_type AS t ON t.oid = a.atttypid
	LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
	LEFT JOIN pg_namespace AS n ON n.oid = c.collnamespace
	WHERE a.attrelid = parent AND a.attname = parent_column AND a.attnum > 0
		AND (t.typnamespace = 'pg_catalog'::regnamespace OR t.typtype = 'e');
	IF NOT (FOUND AND ringfence.sees_all_rows(child) AND ringfence.sees_all_rows(parent)) THEN
		RETURN;
	END IF;
	EXECUTE format(
		'SELECT count(*) FILTER (WHERE p.there IS NULL), count(*) FILTER (WHERE p.there)
		FROM %1$s AS c
		LEFT JOIN (SELECT DISTINCT p.%4$s, true AS there FROM %3$s AS p) AS p ON p.%4$s = c.%2$s%5$s
		WHERE c.%2$s IS NOT NULL AND NOT EXISTS (SELECT FROM %3$s AS p WHERE %6$s p.%4$s = c.%2$s%5$s)',
		child, quote_ident(column_name), parent, quote_ident(parent_column),
		CASE WHEN key_collation.collname IS NOT NULL THEN format(' COLLATE %I.%I', key_collation.nspname, key_collation.collname) END,
		CASE WHEN carries_org THEN 'p.org_id = c.org_id AND' END)
	INTO orphans, other_org;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.count_foreign_key_problems(regclass, name, regclass, name, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.count_foreign_key_problems(regclass, name, regclass, name, boolean)
	TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.count_foreign_key_problems(regclass, name, regclass, name, boolean) IS
	'how many rows a foreign key would refuse: those that reference no row at all, and those that reference another organization''s; reads both tables once; NULL for a role that does not see every row, or where others than superusers, ringfence_owner and the role itself own one of them';

CREATE FUNCTION ringfence.foreign_key_name(child regclass, column_name name) RETURNS name
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT n.name::name
	FROM pg_catalog.pg_class AS c
	CROSS JOIN LATERAL generate_series(0, 99) AS s (number)
	CROSS JOIN LATERAL (
		SELECT left(c.relname || '_' || column_name, 50) || '_fkey' || coalesce(nullif(s.number, 0)::text, '') AS name
	) AS n
	WHERE c.oid = child
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = c.oid AND k.conname = n.name)
	ORDER BY s.number
	LIMIT 1;
END;
REVOKE EXECUTE ON FUNCTION ringfence.foreign_key_name(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.foreign_key_name(regclass, name) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.foreign_key_name(regclass, name) IS
	'a name for a foreign key that no constraint of the table has';

-- The key is made NOT VALID where rows stand in its way: it holds for those to
-- come, and foreign_key_not_validated goes on speaking of the others.
CREATE FUNCTION ringfence.foreign_key_fix(
	child regclass,
	column_name name,
	parent regclass,
	parent_column name,
	carries_org boolean,
	problems bigint
) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class AS c WHERE c.oid = child);
	large boolean := ringfence.is_large(child);
	astray boolean := coalesce(problems > 0, false);
	key name[] := CASE WHEN carries_org THEN ARRAY['org_id'] ELSE '{}' END::name[] || column_name;
	key_list text := (SELECT string_agg(quote_ident(k.name), ', ' ORDER BY k.place) FROM unnest(key) WITH ORDINALITY AS k (name, place));
	call text := format('SELECT ringfence.add_foreign_key(%L, %L, %L', child, ARRAY[column_name], parent);
	index text := '';
	key_name name;
BEGIN
	IF parent_column IS NULL THEN
		RETURN format('-- Give the two one type and %s a key, or call ringfence.except_reference(%L, %L, reason).', parent, child, column_name);
	END IF;
	IF ringfence.has_child_index(child, key) THEN
		index := '';
	ELSIF large AND NOT partitioned THEN
		index := format('CREATE INDEX CONCURRENTLY ON %s (%s); ', child, key_list);
	ELSIF NOT carries_org THEN
		index := format('CREATE INDEX ON %s (%s); ', child, key_list);
	END IF;
	IF partitioned THEN
		RETURN CASE WHEN astray THEN '-- Correct the rows that it would refuse, then: ' ELSE '' END
			|| CASE
				WHEN carries_org THEN call || ');'
				ELSE index || format('SELECT ringfence.require_all_rows(%L); ALTER TABLE %s ADD FOREIGN KEY (%s) REFERENCES %s (%I);',
					child, child, key_list, parent, parent_column)
			END
			|| CASE WHEN large THEN ' -- keeps writers out while it reads the table' ELSE '' END;
	ELSIF carries_org THEN
		RETURN index || concat_ws(' ',
			CASE WHEN large OR astray THEN call || ', validate => false);' END,
			CASE WHEN NOT astray THEN call || ');' END);
	END IF;
	key_name := ringfence.foreign_key_name(child, column_name);
	RETURN index || format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%I) NOT VALID;',
			child, key_name, key_list, parent, parent_column)
		|| CASE
			WHEN astray THEN ''
			ELSE format(' SELECT ringfence.require_all_rows(%L); ALTER TABLE %s VALIDATE CONSTRAINT %I;', child, child, key_name)
		END;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.foreign_key_fix(regclass, name, regclass, name, boolean, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.foreign_key_fix(regclass, name, regclass, name, boolean, bigint)
	TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.foreign_key_fix(regclass, name, regclass, name, boolean, bigint) IS
	'the SQL that makes a missing foreign key: at once; without validation if rows are known to stand in its way; of a large table in statements to be run one by one, none of which keeps writers out for long; a comment where a column has to change first';

CREATE FUNCTION ringfence.require_foreign_keys(
	rel regclass,
	exempt jsonb DEFAULT '{}',
	required boolean DEFAULT true
) RETURNS TABLE (column_name name, parent regclass, orphans bigint, other_org bigint, fix text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF rel IS NULL OR exempt IS NULL OR required IS NULL THEN
		RAISE EXCEPTION 'table, exemptions and whether foreign keys are required must be given'
			USING ERRCODE = 'null_value_not_allowed';
	ELSIF ringfence.row_class(rel) IS NULL THEN
		RAISE EXCEPTION 'table % is not protected', rel
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Call ringfence.protect(), or ringfence.adopt() if it has rows.';
	ELSIF jsonb_typeof(exempt) <> 'object'
		OR EXISTS (SELECT FROM jsonb_each(exempt) AS e WHERE jsonb_typeof(e.value) NOT IN ('string', 'null')) THEN
		RAISE EXCEPTION 'invalid exemptions % of table %', exempt, rel
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write for example {"device_id": "the maker''s own number"}; null instead of a reason takes one back.';
	END IF;
	PERFORM ringfence.except_reference(rel, e.key::name, e.value) FROM jsonb_each_text(exempt) AS e;
	PERFORM ringfence.set_foreign_keys_required(rel, required);
	RETURN QUERY
	SELECT m.column_name, m.parent, p.orphans, p.other_org,
		ringfence.foreign_key_fix(rel, m.column_name, m.parent, m.parent_column, m.carries_org, p.orphans + p.other_org)
	FROM ringfence.missing_foreign_keys(rel) AS m
	CROSS JOIN LATERAL ringfence.count_foreign_key_problems(rel, m.column_name, m.parent, m.parent_column, m.carries_org) AS p;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.require_foreign_keys(regclass, jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.require_foreign_keys(regclass, jsonb, boolean) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.require_foreign_keys(regclass, jsonb, boolean) IS
	'lists the columns of a protected table that are named for another table and have no foreign key, one row for each table that they may name: rows that reference nothing, rows that reference another organization''s (NULL where not counted: the role does not see every row, or no key fits), and the SQL that makes the key; from now on verify() calls a missing one an error, or, where required is false, a warning; exempt says of columns why they are no references ({"device_id": "the maker''s own number"}), or takes that back (null), and leaves others as they are; 22004, 22023, 42703, 55000';
