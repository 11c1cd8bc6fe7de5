-- verify(), part one: row security, policies and columns of protected tables.
-- Each verify_ function makes some checks and returns their findings: severity,
-- code, object, message, and the SQL that removes it. They run inside verify(),
-- whose search_path qualifies every name in what they return.

CREATE FUNCTION ringfence.registered_tables(OUT rel regclass, OUT row_class text, OUT access jsonb, OUT columns jsonb)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.tables') IS NOT NULL THEN
		RETURN QUERY SELECT t.relation, t.row_class, t.access, t.columns FROM ringfence_data.tables AS t;
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.registered_tables() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.registered_tables() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.registered_tables() IS
	'ringfence_data.tables, or nothing where core is not installed';

CREATE FUNCTION ringfence.protected_children(OUT parent regclass, OUT child regclass) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
BEGIN ATOMIC
	WITH RECURSIVE children AS (
		SELECT t.rel AS parent, i.inhrelid AS child
		FROM ringfence.registered_tables() AS t
		INNER JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.rel
		UNION
		SELECT c.parent, i.inhrelid
		FROM children AS c
		INNER JOIN pg_catalog.pg_inherits AS i ON i.inhparent = c.child
	)
	SELECT c.parent, c.child::regclass FROM children AS c;
END;
REVOKE EXECUTE ON FUNCTION ringfence.protected_children() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.protected_children() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.protected_children() IS
	'partitions and children of protected tables, at every depth';

CREATE FUNCTION ringfence.verify_register()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	-- A table that protect() does not know, where only protected ones may be.
	SELECT 'error', 'table_not_protected', c.oid::regclass::text,
		'its schema admits only protected tables, and this one was never protected',
		format('SELECT ringfence.protect(%L);', c.oid::regclass)
	FROM pg_catalog.pg_class AS c
	WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
		AND c.relnamespace::regnamespace::name IN (SELECT s.schema_name FROM ringfence.guarded_schemas() AS s)
		AND c.oid NOT IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
		AND c.oid NOT IN (SELECT p.child FROM ringfence.protected_children() AS p)
		AND c.oid NOT IN (SELECT p.rel FROM ringfence.partitions_leaving() AS p (rel))
	UNION ALL
	SELECT 'warning', 'register_stale', t.rel::oid::text,
		'ringfence_data.tables names a table that no longer exists',
		format('SELECT ringfence.register_table(%s::oid::regclass, NULL, NULL);', t.rel::oid)
	FROM ringfence.registered_tables() AS t
	WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = t.rel)
	UNION ALL
	SELECT 'warning', 'register_stale', s.schema_name::text,
		'ringfence_data.protected_schemas names a schema that does not exist',
		format('SELECT ringfence.unprotect_schema(%L);', s.schema_name)
	FROM ringfence.guarded_schemas() AS s
	WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n WHERE n.nspname = s.schema_name);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_register() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_register() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_register() IS
	'checks of verify(): is every table registered that should be, and is what is registered there';

CREATE FUNCTION ringfence.verify_row_security()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH tables AS MATERIALIZED (
		SELECT c.oid::regclass AS rel, c.relrowsecurity, c.relforcerowsecurity
		FROM pg_catalog.pg_class AS c
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
			AND (
				c.oid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
				OR (
					c.relnamespace::regnamespace::name IN (SELECT s.schema_name FROM ringfence.guarded_schemas() AS s)
					AND c.oid NOT IN (SELECT p.child FROM ringfence.protected_children() AS p)
				)
			)
	)
	SELECT 'error', 'rls_disabled', t.rel::text,
		'row security is disabled: who may read the table reads every organization''s rows',
		format('ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY; ALTER TABLE %1$s FORCE ROW LEVEL SECURITY;', t.rel)
	FROM tables AS t
	WHERE NOT t.relrowsecurity
	UNION ALL
	SELECT 'error', 'rls_not_forced', t.rel::text,
		'row security does not hold for the table''s owner, nor for functions and views that run as the owner',
		format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', t.rel)
	FROM tables AS t
	WHERE t.relrowsecurity AND NOT t.relforcerowsecurity
	UNION ALL
	SELECT 'error', 'partition_reachable', p.child::text,
		format('policies of %s do not hold for a query that names this partition or child', p.parent),
		format('SELECT ringfence.lock_children(%L);', p.parent)
	FROM ringfence.protected_children() AS p
	INNER JOIN pg_catalog.pg_class AS c ON c.oid = p.child
	WHERE (c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity))
		OR EXISTS (
			SELECT FROM aclexplode(c.relacl) AS x
			WHERE x.grantee = 0 OR x.grantee IN (
				SELECT r.oid FROM pg_catalog.pg_roles AS r
				WHERE r.rolname IN ('ringfence_anon', 'ringfence_member', 'ringfence_operator')
			)
		)
	UNION ALL
	SELECT 'error', 'parent_not_protected', i.inhparent::regclass::text,
		format('a query of this table reads rows of %s without its policies', t.rel),
		CASE
			WHEN c.relispartition THEN format('ALTER TABLE %s DETACH PARTITION %s;', i.inhparent::regclass, t.rel)
			ELSE format('ALTER TABLE %s NO INHERIT %s;', t.rel, i.inhparent::regclass)
		END
	FROM ringfence.registered_tables() AS t
	INNER JOIN pg_catalog.pg_class AS c ON c.oid = t.rel
	INNER JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = t.rel
	WHERE i.inhparent NOT IN (SELECT p.rel FROM ringfence.registered_tables() AS p);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_row_security() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_row_security() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_row_security() IS
	'checks of verify(): row security in force, on partitions and children as well';

CREATE FUNCTION ringfence.verify_org_column()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH tables AS MATERIALIZED (
		SELECT c.oid::regclass AS rel, a.attnum, a.attnotnull, pg_get_expr(d.adbin, d.adrelid) AS preset
		FROM ringfence.registered_tables() AS t
		INNER JOIN pg_catalog.pg_class AS c ON c.oid = t.rel
		LEFT JOIN pg_catalog.pg_attribute AS a
			ON a.attrelid = c.oid AND a.attname = 'org_id' AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE t.row_class = 'org'
	)
	SELECT 'error', 'org_id_missing', t.rel::text,
		'the table has no column org_id, so its rows belong to nobody',
		format('SELECT ringfence.protect(%L, t.access, columns => t.columns) FROM ringfence_data.tables AS t WHERE t.relation = %1$L::regclass;', t.rel)
	FROM tables AS t
	WHERE t.attnum IS NULL
	UNION ALL
	SELECT 'error', 'org_id_nullable', t.rel::text,
		'org_id may be NULL: such a row is out of every organization''s sight, and foreign keys do not check it',
		format('ALTER TABLE %s ALTER COLUMN org_id SET NOT NULL;', t.rel)
	FROM tables AS t
	WHERE NOT t.attnotnull
	UNION ALL
	SELECT 'warning', 'org_id_default', t.rel::text,
		'org_id does not default to the organization of the context',
		format('ALTER TABLE %s ALTER COLUMN org_id SET DEFAULT ringfence.org_id();', t.rel)
	FROM tables AS t
	WHERE t.attnum IS NOT NULL AND t.preset IS DISTINCT FROM 'ringfence.org_id()'
	UNION ALL
	SELECT 'warning', 'org_id_unreferenced', t.rel::text,
		'org_id may hold what is no organization: it has no foreign key to ringfence_data.orgs',
		format('ALTER TABLE %s ADD FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs (id);', t.rel)
	FROM tables AS t
	WHERE t.attnum IS NOT NULL AND NOT EXISTS (
		SELECT FROM pg_catalog.pg_constraint AS k
		WHERE k.conrelid = t.rel AND k.contype = 'f' AND k.conkey = ARRAY[t.attnum]
			AND k.confrelid = to_regclass('ringfence_data.orgs')
	);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_org_column() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_org_column() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_org_column() IS
	'checks of verify(): org_id is there, not null, filled by default and references an organization';

-- An expression without what reading it back from the catalog adds: spaces,
-- parentheses, casts of literals, VARIADIC ARRAY[], AS. The ones compared have
-- no OR, so parentheses can't change their meaning.
CREATE FUNCTION ringfence.policy_essence(expression text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN regexp_replace(
	regexp_replace(expression, '::[a-z]+( varying)?(\[\])?|\mVARIADIC\M|\mARRAY\M|\mAS\M', '', 'g'),
	'[][()\s]', '', 'g');
REVOKE EXECUTE ON FUNCTION ringfence.policy_essence(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.policy_essence(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.policy_essence(text) IS
	'a policy''s expression in a form in which what protect() wrote and what the catalog says are equal';

CREATE FUNCTION ringfence.present_policies(
	rel regclass,
	OUT policy name,
	OUT kind text,
	OUT command text,
	OUT roles text,
	OUT using_expression text,
	OUT check_expression text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT
		p.polname,
		CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
		CASE p.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE 'all' END,
		(
			SELECT string_agg(coalesce(r.rolname, 'public'), ', ' ORDER BY r.rolname)
			FROM unnest(p.polroles) AS g (role)
			LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = g.role
		),
		pg_get_expr(p.polqual, p.polrelid),
		pg_get_expr(p.polwithcheck, p.polrelid)
	FROM pg_catalog.pg_policy AS p
	WHERE p.polrelid = rel;
END;
REVOKE EXECUTE ON FUNCTION ringfence.present_policies(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.present_policies(regclass) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.present_policies(regclass) IS
	'the policies that a table has, in the terms of table_policies()';

CREATE FUNCTION ringfence.compare_policies(rel regclass, row_class text, access jsonb)
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH pairs AS (
		SELECT
			coalesce(w.policy, h.policy) AS policy,
			coalesce(w.kind, h.kind) AS kind,
			w.policy IS NOT NULL AS wanted,
			h.policy IS NOT NULL AS present,
			(h.kind, h.command, h.roles) = (w.kind, w.command, w.roles)
				AND (w.command = 'insert'
					OR ringfence.policy_essence(h.using_expression) = ringfence.policy_essence(w.expression))
				AND (w.command IN ('select', 'delete')
					OR ringfence.policy_essence(h.check_expression) = ringfence.policy_essence(w.expression)) AS same
		FROM ringfence.table_policies(rel, row_class, access) AS w
		FULL JOIN ringfence.present_policies(rel) AS h ON h.policy = w.policy
	)
	SELECT
		CASE
			WHEN NOT p.wanted THEN 'info'
			WHEN p.kind = 'restrictive' THEN 'error'
			ELSE 'warning'
		END,
		CASE
			WHEN NOT p.wanted THEN 'policy_not_declared'
			WHEN p.kind = 'restrictive' THEN 'isolation_policy_'
			ELSE 'policy_'
		END || CASE WHEN NOT p.wanted THEN '' WHEN p.present THEN 'altered' ELSE 'missing' END,
		format('%I ON %s', p.policy, rel),
		CASE
			WHEN NOT p.wanted THEN 'a policy that the table''s access matrix does not account for; it can''t cross organizations, but may widen what roles of one see'
			WHEN p.present THEN 'the policy is not what protect() makes of the table''s access matrix'
			WHEN p.kind = 'restrictive' THEN 'nothing keeps the organizations apart: the restrictive policy is missing'
			ELSE 'a policy that the table''s access matrix asks for is missing'
		END,
		CASE
			WHEN p.wanted THEN format('SELECT ringfence.create_policies(%L, %L, %L);', rel, row_class, access)
			ELSE format('DROP POLICY %I ON %s;', p.policy, rel)
		END
	FROM pairs AS p
	WHERE p.same IS NOT TRUE;
END;
REVOKE EXECUTE ON FUNCTION ringfence.compare_policies(regclass, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.compare_policies(regclass, text, jsonb) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.compare_policies(regclass, text, jsonb) IS
	'findings where the policies of a table are not those of its row class and access matrix';

-- A matrix can name a table that was dropped since: that is a finding, and no
-- reason for verify() to fail.
CREATE FUNCTION ringfence.verify_policies()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
BEGIN
	FOR t IN
		SELECT r.rel, r.row_class, r.access
		FROM ringfence.registered_tables() AS r
		INNER JOIN pg_class AS c ON c.oid = r.rel
		-- Without the column there can be no policies: org_id_missing says so.
		WHERE r.row_class <> 'org'
			OR EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = r.rel AND a.attname = 'org_id' AND NOT a.attisdropped)
	LOOP
		IF t.row_class <> 'directory' THEN
			BEGIN
				RETURN QUERY SELECT * FROM ringfence.compare_policies(t.rel, t.row_class, t.access);
			EXCEPTION WHEN OTHERS THEN
				RETURN QUERY SELECT 'error', 'access_invalid', t.rel::text,
					format('the access matrix can no longer be applied: %s', SQLERRM),
					format('SELECT ringfence.protect(%L); -- closes it to tenants; give it a matrix that holds', t.rel);
			END;
		ELSIF NOT EXISTS (
			SELECT FROM ringfence.present_policies(t.rel) AS p
			WHERE p.kind = 'restrictive' AND p.command = 'all' AND p.roles = 'public'
				AND p.policy IN ('org_isolation', 'user_isolation')
		) THEN
			RETURN QUERY SELECT 'error', 'isolation_policy_missing',
				format('%I ON %s', CASE t.rel::text WHEN 'ringfence_data.users' THEN 'user_isolation' ELSE 'org_isolation' END, t.rel),
				'nothing keeps the organizations apart: the restrictive policy is missing',
				'-- Make it again as the script of app "core" does.';
		END IF;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.verify_policies() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_policies() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_policies() IS
	'checks of verify(): the policies of protected tables are those of their access matrices';
