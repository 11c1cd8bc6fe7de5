-- verify(), part five: columns that are named for another table have a foreign
-- key. The only check that looks at rows, and so with the caller's eyes: it
-- counts those that go astray, if the tables are not large, for a superuser or a
-- role with BYPASSRLS.

CREATE FUNCTION ringfence.verify_references()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m record;
	orphans bigint;
	other_org bigint;
BEGIN
	FOR m IN
		SELECT
			f.child,
			f.column_name,
			min(f.parent::oid)::regclass AS parent,
			min(f.parent_column) AS parent_column,
			bool_and(f.carries_org) AS carries_org,
			count(*) AS choices,
			string_agg(f.parent::text, ', ' ORDER BY f.parent::text) AS parents
		FROM ringfence.missing_foreign_keys() AS f
		GROUP BY f.child, f.column_name
	LOOP
		orphans := NULL;
		other_org := NULL;
		IF m.choices = 1 AND NOT ringfence.is_large(m.child) AND NOT ringfence.is_large(m.parent) THEN
			SELECT p.orphans, p.other_org INTO orphans, other_org
			FROM ringfence.count_foreign_key_problems(m.child, m.column_name, m.parent, m.parent_column, m.carries_org) AS p;
		END IF;
		severity := CASE
			WHEN orphans + other_org > 0 OR ringfence.foreign_keys_required(m.child) THEN 'error'
			ELSE 'warning'
		END;
		code := 'foreign_key_missing';
		object := format('%s.%I', m.child, m.column_name);
		IF m.choices > 1 THEN
			message := format('it is named for another table and has no foreign key, and which table is meant is not clear: %s', m.parents);
			fix := format('-- Call ringfence.add_foreign_key() with the one that is meant, or ringfence.except_reference(%L, %L, reason).',
				m.child, m.column_name);
		ELSIF m.parent_column IS NULL THEN
			message := format('it is named for %s, which has no unique key of its type, so that no foreign key can hold it', m.parent);
			fix := ringfence.foreign_key_fix(m.child, m.column_name, m.parent, m.parent_column, m.carries_org, NULL);
		ELSE
			message := format('it is named for %s, and no foreign key keeps it to rows that are there%s: %s', m.parent,
				CASE WHEN m.carries_org THEN ', and to the same organization''s' ELSE '' END,
				CASE
					WHEN orphans IS NULL THEN 'rows that violate that were not counted'
					WHEN orphans + other_org = 0 THEN 'no row violates that yet'
					ELSE format('%s %s no row at all%s', orphans, CASE orphans WHEN 1 THEN 'references' ELSE 'reference' END,
						CASE WHEN m.carries_org THEN format(', %s one of another organization', other_org) ELSE '' END)
				END);
			fix := ringfence.foreign_key_fix(m.child, m.column_name, m.parent, m.parent_column, m.carries_org, orphans + other_org);
		END IF;
		RETURN NEXT;
	END LOOP;
	RETURN QUERY
	SELECT 'warning', 'exemption_stale', format('%s.%I', e.relation, e.column_name),
		'ringfence_data.reference_exemptions has a reason for a column that does not exist',
		format('SELECT ringfence.except_reference(%s::oid::regclass, %L, NULL);', e.relation::oid, e.column_name)
	FROM ringfence.reference_exemptions() AS e
	WHERE NOT EXISTS (
		SELECT FROM pg_attribute AS a WHERE a.attrelid = e.relation AND a.attname = e.column_name AND a.attnum > 0
	);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.verify_references() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_references() TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.verify_references() IS
	'checks of verify(): columns named for another table have a foreign key, and those excepted are there; with the caller''s rights, for it counts rows';
