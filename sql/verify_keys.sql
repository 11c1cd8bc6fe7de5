-- verify(), part two: keys and indexes. Foreign keys and unique keys are checked
-- past row security, so without org_id they tell one tenant about another.

CREATE FUNCTION ringfence.verify_foreign_keys()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH keys AS MATERIALIZED (
		SELECT
			k.oid,
			k.conrelid::regclass AS child,
			k.confrelid::regclass AS parent,
			k.conname,
			k.convalidated,
			k.conkey,
			k.confkey,
			k.confdeltype,
			k.confdelsetcols,
			t.row_class AS child_class,
			ca.attnum AS child_org,
			pa.attnum AS parent_org,
			CASE k.confdeltype WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'
				WHEN 'd' THEN 'SET DEFAULT' ELSE 'NO ACTION' END AS on_delete,
			EXISTS (
				SELECT FROM unnest(k.conkey, k.confkey) AS p (child_column, parent_column)
				WHERE p.child_column = ca.attnum AND p.parent_column = pa.attnum
			) AS carries_org
		FROM ringfence.registered_tables() AS t
		INNER JOIN pg_catalog.pg_constraint AS k ON k.conrelid = t.rel AND k.contype = 'f' AND k.conparentid = 0
		INNER JOIN ringfence.registered_tables() AS p ON p.rel = k.confrelid AND p.row_class IN ('org', 'directory')
		INNER JOIN pg_catalog.pg_attribute AS pa ON pa.attrelid = k.confrelid AND pa.attname = 'org_id' AND NOT pa.attisdropped
		LEFT JOIN pg_catalog.pg_attribute AS ca ON ca.attrelid = k.conrelid AND ca.attname = 'org_id' AND NOT ca.attisdropped
	), columns AS (
		SELECT
			k.oid,
			array_agg(c.attname ORDER BY n.place) FILTER (WHERE c.attname <> 'org_id') AS child_columns,
			string_agg(quote_ident(p.attname), ', ' ORDER BY n.place) FILTER (WHERE p.attname <> 'org_id') AS parent_columns,
			array_agg(p.attname ORDER BY p.attname) FILTER (WHERE p.attname <> 'org_id') AS parent_set
		FROM keys AS k
		CROSS JOIN unnest(k.conkey, k.confkey) WITH ORDINALITY AS n (child_column, parent_column, place)
		INNER JOIN pg_catalog.pg_attribute AS c ON c.attrelid = k.child AND c.attnum = n.child_column
		INNER JOIN pg_catalog.pg_attribute AS p ON p.attrelid = k.parent AND p.attnum = n.parent_column
		GROUP BY k.oid
	)
	SELECT 'error', 'foreign_key_without_org', format('%I ON %s', k.conname, k.child),
		format('it lets a row reference another organization''s row in %s, and tells whether there is one', k.parent),
		CASE WHEN k.child_class = 'org' THEN
			CASE WHEN NOT EXISTS (
				SELECT FROM pg_catalog.pg_index AS i
				WHERE i.indrelid = k.parent AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
					AND (
						SELECT array_agg(a.attname ORDER BY a.attname)
						FROM pg_catalog.pg_attribute AS a
						WHERE a.attrelid = i.indrelid AND a.attname <> 'org_id'
							AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
					) = c.parent_set
					AND (i.indkey::int2[])[0] = k.parent_org
			) THEN format('ALTER TABLE %s ADD UNIQUE (org_id, %s); ', k.parent, c.parent_columns) ELSE '' END
			|| format('SELECT ringfence.add_foreign_key(%L, %L, %L, %L); ', k.child, c.child_columns, k.parent, k.on_delete)
		ELSE '' END || format('ALTER TABLE %s DROP CONSTRAINT %I;', k.child, k.conname)
	FROM keys AS k
	INNER JOIN columns AS c ON c.oid = k.oid
	WHERE NOT k.carries_org AND k.child_class IN ('org', 'user', 'reference')
	UNION ALL
	SELECT 'warning', 'foreign_key_nulls_org', format('%I ON %s', k.conname, k.child),
		'ON DELETE SET NULL would empty org_id with the rest, so that deleting the referenced row fails',
		format('ALTER TABLE %1$s DROP CONSTRAINT %2$I; SELECT ringfence.add_foreign_key(%1$L, %3$L, %4$L, %5$L);',
			k.child, k.conname, c.child_columns, k.parent, k.on_delete)
	FROM keys AS k
	INNER JOIN columns AS c ON c.oid = k.oid
	WHERE k.carries_org AND k.confdeltype = 'n'
		AND (k.confdelsetcols IS NULL OR k.confdelsetcols = '{}' OR k.child_org = ANY (k.confdelsetcols))
	UNION ALL
	SELECT 'warning', 'foreign_key_not_validated', format('%I ON %s', k.conname, k.conrelid::regclass),
		'rows that were there before the foreign key may violate it',
		-- To a table's owner PostgreSQL would call any key valid.
		format('SELECT ringfence.require_all_rows(%1$L); ALTER TABLE %1$s VALIDATE CONSTRAINT %2$I;', k.conrelid::regclass, k.conname)
	FROM pg_catalog.pg_constraint AS k
	WHERE k.contype = 'f' AND NOT k.convalidated
		AND k.conrelid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
	UNION ALL
	SELECT 'warning', 'foreign_key_index_missing', format('%I ON %s', k.conname, k.conrelid::regclass),
		'no index leads with its columns: deleting or changing a referenced row scans the table',
		format('CREATE INDEX ON %s (%s);', k.conrelid::regclass, (
			SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n.place)
			FROM unnest(k.conkey) WITH ORDINALITY AS n (attnum, place)
			INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = n.attnum
		))
	FROM pg_catalog.pg_constraint AS k
	WHERE k.contype = 'f' AND k.conrelid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
		-- One without org_id is to be replaced, not indexed.
		AND NOT EXISTS (SELECT FROM keys AS w WHERE w.oid = k.oid AND NOT w.carries_org)
		-- Two of the columns are enough: org_id and one that tells rows apart.
		AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_index AS i
			WHERE i.indrelid = k.conrelid AND i.indisvalid
				AND ringfence.index_serves_key(i.indexrelid, k.conkey)
				AND i.indnkeyatts >= least(cardinality(k.conkey), 2)
				AND (i.indkey::int2[])[0:least(cardinality(k.conkey), 2) - 1] <@ k.conkey
		);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_foreign_keys() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_foreign_keys() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_foreign_keys() IS
	'checks of verify(): foreign keys between protected tables carry org_id, are valid and have an index';

CREATE FUNCTION ringfence.verify_unique_keys()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH tables AS MATERIALIZED (
		SELECT t.rel, a.attnum AS org
		FROM ringfence.registered_tables() AS t
		INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.rel AND a.attname = 'org_id' AND NOT a.attisdropped
		WHERE t.row_class = 'org'
	), keys AS MATERIALIZED (
		SELECT
			t.rel,
			t.org,
			i.indexrelid::regclass AS index,
			x.relname AS index_name,
			i.indisunique AND i.indisvalid AND i.indpred IS NULL AS complete,
			k.conname,
			k.oid AS constraint_oid,
			(i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns,
			NOT EXISTS (
				SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS c (attnum)
				LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.rel AND a.attnum = c.attnum
				WHERE a.atttypid IS DISTINCT FROM 'uuid'::regtype
			) AS only_uuids
		FROM tables AS t
		INNER JOIN pg_catalog.pg_index AS i ON i.indrelid = t.rel AND (i.indisunique OR i.indisexclusion)
		INNER JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
		LEFT JOIN pg_catalog.pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
	)
	-- A random uuid can't be guessed, so probing for one tells little.
	SELECT CASE WHEN k.only_uuids THEN 'warning' ELSE 'error' END, 'unique_reveals_values',
		format('%I ON %s', k.index_name, k.rel),
		'a refused duplicate tells one organization what another has: the key does not hold org_id',
		CASE WHEN k.conname IS NOT NULL THEN
			format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s;', k.rel, k.conname,
				regexp_replace(pg_get_constraintdef(k.constraint_oid), '\(',
					CASE WHEN pg_get_constraintdef(k.constraint_oid) LIKE 'EXCLUDE%' THEN '(org_id WITH =, ' ELSE '(org_id, ' END))
		ELSE
			format('DROP INDEX %s; %s;', k.index,
				regexp_replace(pg_get_indexdef(k.index), '( USING \w+ \()', '\1org_id, '))
		END
	FROM keys AS k
	WHERE NOT k.org = ANY (k.columns)
	UNION ALL
	SELECT 'warning', 'key_not_led_by_org', format('%I ON %s', k.index_name, k.rel),
		'org_id is in the key, but not first: rows of one organization lie apart, and the table can''t be distributed by it',
		CASE WHEN k.conname IS NOT NULL THEN
			format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s;', k.rel, k.conname,
				regexp_replace(regexp_replace(pg_get_constraintdef(k.constraint_oid), ', org_id\M( WITH =)?', ''), '\(',
					CASE WHEN pg_get_constraintdef(k.constraint_oid) LIKE 'EXCLUDE%' THEN '(org_id WITH =, ' ELSE '(org_id, ' END))
		ELSE
			format('DROP INDEX %s; %s;', k.index,
				regexp_replace(regexp_replace(pg_get_indexdef(k.index), ', org_id\M', ''), '( USING \w+ \()', '\1org_id, '))
		END
	FROM keys AS k
	WHERE k.org = ANY (k.columns[2:]) AND k.columns[1] <> k.org
	UNION ALL
	SELECT 'warning', 'key_not_led_by_org', t.rel::text,
		'no unique key is led by org_id, so that no foreign key can carry it',
		format('SELECT ringfence.lead_key_with_org(%L);', t.rel)
	FROM tables AS t
	WHERE NOT EXISTS (SELECT FROM keys AS k WHERE k.rel = t.rel AND k.complete AND k.columns[1] = t.org)
		AND NOT EXISTS (SELECT FROM keys AS k WHERE k.rel = t.rel AND k.org = ANY (k.columns[2:]))
	UNION ALL
	SELECT 'warning', 'org_index_missing', t.rel::text,
		'no index is led by org_id: every query of a tenant reads every organization''s rows',
		format('CREATE INDEX ON %s (org_id);', t.rel)
	FROM tables AS t
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_index AS i
		WHERE i.indrelid = t.rel AND i.indisvalid AND i.indpred IS NULL AND (i.indkey::int2[])[0] = t.org
	);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_unique_keys() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_unique_keys() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_unique_keys() IS
	'checks of verify(): unique keys, exclusion constraints and indexes are led by org_id';

CREATE FUNCTION ringfence.verify_triggers()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT 'error', 'foreign_key_disabled', format('%I ON %s', k.conname, g.tgrelid::regclass),
		'the triggers that check this foreign key are disabled',
		format('ALTER TABLE %s ENABLE TRIGGER ALL;', g.tgrelid::regclass)
	FROM pg_catalog.pg_trigger AS g
	INNER JOIN pg_catalog.pg_constraint AS k ON k.oid = g.tgconstraint
	WHERE g.tgisinternal AND g.tgenabled IN ('D', 'R')
		AND g.tgrelid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
	GROUP BY k.conname, g.tgrelid
	UNION ALL
	SELECT 'warning', 'trigger_disabled', format('%I ON %s', g.tgname, g.tgrelid::regclass),
		'the trigger does not fire',
		format('ALTER TABLE %s ENABLE TRIGGER %I;', g.tgrelid::regclass, g.tgname)
	FROM pg_catalog.pg_trigger AS g
	WHERE NOT g.tgisinternal AND g.tgenabled IN ('D', 'R')
		AND g.tgrelid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
	UNION ALL
	SELECT 'error', 'rule_on_table', format('%I ON %s', r.rulename, r.ev_class::regclass),
		'a rule rewrites queries of the table, and its own run with the rights of the table''s owner',
		format('DROP RULE %I ON %s;', r.rulename, r.ev_class::regclass)
	FROM pg_catalog.pg_rewrite AS r
	WHERE r.ev_class IN (SELECT t.rel FROM ringfence.registered_tables() AS t);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_triggers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_triggers() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_triggers() IS
	'checks of verify(): triggers of protected tables fire, and there are no rules';
