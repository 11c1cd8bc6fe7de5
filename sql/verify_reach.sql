-- verify(), part three: what lies beside the policies of a table: views, grants,
-- functions, roles.

-- From the roles that may act for tenants, along SET ROLE.
CREATE FUNCTION ringfence.reachable_roles(OUT role oid, OUT may_log_in boolean) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
BEGIN ATOMIC
	WITH RECURSIVE memberships AS (
		-- New in 16: a membership that neither inherits nor can be SET.
		SELECT m.roleid, m.member
		FROM pg_catalog.pg_auth_members AS m
		WHERE coalesce((to_jsonb(m.*) ->> 'set_option')::boolean, true)
			OR coalesce((to_jsonb(m.*) ->> 'inherit_option')::boolean, true)
	), logins AS (
		SELECT r.oid
		FROM pg_catalog.pg_roles AS r
		WHERE r.rolname IN ('ringfence_authenticator', 'ringfence_anon', 'ringfence_member')
		UNION
		SELECT m.member FROM memberships AS m INNER JOIN logins AS l ON l.oid = m.roleid
	), reached AS (
		SELECT l.oid FROM logins AS l
		UNION
		SELECT m.roleid FROM memberships AS m INNER JOIN reached AS r ON r.oid = m.member
	)
	SELECT r.oid, r.oid IN (SELECT l.oid FROM logins AS l) FROM reached AS r;
END;
REVOKE EXECUTE ON FUNCTION ringfence.reachable_roles() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.reachable_roles() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.reachable_roles() IS
	'the roles that tenants'' connections have or can take; may_log_in: is a member of ringfence_authenticator, ringfence_anon or ringfence_member, or one of these itself';

CREATE FUNCTION ringfence.tenant_roles(OUT role oid, OUT name text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
BEGIN ATOMIC
	SELECT 0::oid, 'PUBLIC'
	UNION ALL
	SELECT r.oid, quote_ident(r.rolname)
	FROM pg_catalog.pg_roles AS r
	WHERE r.oid IN (SELECT x.role FROM ringfence.reachable_roles() AS x)
		AND NOT r.rolsuper
		AND r.rolname NOT IN ('ringfence_owner', 'ringfence_jobs', 'ringfence_operator');
END;
REVOKE EXECUTE ON FUNCTION ringfence.tenant_roles() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tenant_roles() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.tenant_roles() IS
	'whose grants are tenants'' grants: PUBLIC, ringfence_anon, ringfence_member and what else the authenticator reaches';

CREATE FUNCTION ringfence.relation_grants(rel oid, OUT role oid, OUT name text, OUT privilege text, OUT column_name name)
RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE STRICT ROWS 10
BEGIN ATOMIC
	SELECT x.grantee, coalesce(quote_ident(r.rolname), 'PUBLIC'), x.privilege_type, NULL::name
	FROM pg_catalog.pg_class AS c
	CROSS JOIN aclexplode(c.relacl) AS x
	LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
	WHERE c.oid = rel AND x.grantee <> c.relowner
	UNION ALL
	SELECT x.grantee, coalesce(quote_ident(r.rolname), 'PUBLIC'), x.privilege_type, a.attname
	FROM pg_catalog.pg_attribute AS a
	CROSS JOIN aclexplode(a.attacl) AS x
	LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
	WHERE a.attrelid = rel AND a.attacl IS NOT NULL AND NOT a.attisdropped;
END;
REVOKE EXECUTE ON FUNCTION ringfence.relation_grants(oid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.relation_grants(oid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.relation_grants(oid) IS
	'the privileges on a relation and its columns that are not its owner''s';

CREATE FUNCTION ringfence.tenants_holding(acl aclitem[], owner oid, VARIADIC privileges text[]) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT string_agg(t.name, ', ' ORDER BY t.role)
	FROM ringfence.tenant_roles() AS t
	WHERE t.role IN (SELECT x.grantee FROM aclexplode(acl) AS x WHERE x.privilege_type = ANY (privileges))
		AND t.role <> owner;
END;
REVOKE EXECUTE ON FUNCTION ringfence.tenants_holding(aclitem[], oid, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tenants_holding(aclitem[], oid, text[]) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.tenants_holding(aclitem[], oid, text[]) IS
	'the roles of tenants, other than the owner, to which a list of grants gives one of these privileges, as REVOKE wants them; NULL if none';

CREATE FUNCTION ringfence.tenants_of(rel oid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT string_agg(t.name, ', ' ORDER BY t.role)
	FROM ringfence.tenant_roles() AS t
	WHERE t.role IN (
		SELECT g.role FROM ringfence.relation_grants(rel) AS g
		WHERE g.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
	);
END;
REVOKE EXECUTE ON FUNCTION ringfence.tenants_of(oid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.tenants_of(oid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.tenants_of(oid) IS
	'the roles of tenants that may read or write a relation or columns of it, as REVOKE wants them; NULL if none';

-- Where requests arrive: PostgREST's own list counts if it stands in the database.
CREATE FUNCTION ringfence.exposed_schemas(OUT schema oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
BEGIN ATOMIC
	SELECT n.oid
	FROM pg_catalog.pg_namespace AS n
	WHERE n.nspname = 'ringfence'
		OR n.nspname IN (SELECT s.schema_name FROM ringfence.guarded_schemas() AS s)
		OR EXISTS (
			SELECT FROM aclexplode(n.nspacl) AS x
			WHERE x.grantee <> 0 AND x.grantee IN (SELECT t.role FROM ringfence.tenant_roles() AS t)
		)
		OR n.nspname IN (
			SELECT btrim(s.name, ' "')
			FROM pg_catalog.pg_db_role_setting AS d
			CROSS JOIN unnest(d.setconfig) AS c (setting)
			CROSS JOIN string_to_table(substring(c.setting FROM '^pgrst\.db_schemas=(.*)$'), ',') AS s (name)
			WHERE d.setrole IN (SELECT x.role FROM ringfence.reachable_roles() AS x)
				AND d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database AS b WHERE b.datname = current_database()))
		);
END;
REVOKE EXECUTE ON FUNCTION ringfence.exposed_schemas() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.exposed_schemas() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.exposed_schemas() IS
	'schemas that tenants reach by a grant to them or by PostgREST''s setting; not those that only PUBLIC may use';

CREATE FUNCTION ringfence.verify_views()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH RECURSIVE tables AS MATERIALIZED (
		SELECT t.rel::oid FROM ringfence.registered_tables() AS t WHERE t.row_class <> 'reference'
		UNION
		SELECT p.child::oid FROM ringfence.protected_children() AS p
	), sources AS MATERIALIZED (
		SELECT DISTINCT r.ev_class AS view, d.refobjid AS source
		FROM pg_catalog.pg_rewrite AS r
		INNER JOIN pg_catalog.pg_depend AS d
			ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
			AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
	), dependents AS (
		SELECT s.view FROM sources AS s WHERE s.source IN (SELECT t.rel FROM tables AS t)
		UNION
		SELECT s.view FROM sources AS s INNER JOIN dependents AS d ON s.source = d.view
	), views AS MATERIALIZED (
		SELECT
			c.oid::regclass AS view,
			c.relkind,
			pg_get_userbyid(c.relowner) AS owner,
			ringfence.tenants_of(c.oid) AS tenants,
			coalesce((
				SELECT o.option_value::boolean FROM pg_options_to_table(c.reloptions) AS o
				WHERE o.option_name = 'security_invoker'
			), false) AS invoker
		FROM pg_catalog.pg_class AS c
		WHERE c.oid IN (SELECT d.view FROM dependents AS d) AND c.relkind IN ('v', 'm')
	)
	SELECT CASE WHEN v.tenants IS NOT NULL THEN 'error' ELSE 'warning' END, 'view_not_invoker', v.view::text,
		format('the view reads protected tables with the rights of its owner, %s, and not of who asks%s', v.owner,
			CASE WHEN v.tenants IS NULL THEN '; tenants have no right to it now' END),
		format('ALTER VIEW %s SET (security_invoker = true);', v.view)
	FROM views AS v
	WHERE v.relkind = 'v' AND NOT v.invoker
	UNION ALL
	SELECT 'error', 'materialized_view_readable', v.view::text,
		format('it holds rows of protected tables without row security, and %s may read it', v.tenants),
		format('REVOKE ALL ON %s FROM %s;', v.view, v.tenants)
	FROM views AS v
	WHERE v.relkind = 'm' AND v.tenants IS NOT NULL
	UNION ALL
	SELECT 'info', 'materialized_view', v.view::text,
		'it holds rows of protected tables without row security; nothing but its grants keeps tenants out',
		format('DROP MATERIALIZED VIEW %s;', v.view)
	FROM views AS v
	WHERE v.relkind = 'm' AND v.tenants IS NULL;
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_views() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_views() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_views() IS
	'checks of verify(): views and materialized views over protected tables';

CREATE FUNCTION ringfence.verify_grants()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH grants AS MATERIALIZED (
		SELECT
			t.rel,
			t.row_class,
			g.name,
			g.role IN (SELECT x.role FROM ringfence.tenant_roles() AS x) AS tenant,
			g.privilege,
			g.column_name,
			g.privilege || coalesce(' (' || quote_ident(g.column_name) || ')', '') AS what
		FROM ringfence.registered_tables() AS t
		CROSS JOIN ringfence.relation_grants(t.rel) AS g
	)
	SELECT 'error', 'owner_privilege_granted', g.rel::text,
		format('%s may do with the table what row security does not see: %s', g.name, string_agg(g.what, ', ' ORDER BY g.what)),
		format('REVOKE %s ON %s FROM %s;', string_agg(g.what, ', ' ORDER BY g.what), g.rel, g.name)
	FROM grants AS g
	WHERE g.privilege IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN') AND (g.tenant OR g.name = 'ringfence_operator')
	GROUP BY g.rel, g.name
	UNION ALL
	-- Functions that run as the owner must not be able to either.
	SELECT 'warning', 'owner_truncates', c.oid::regclass::text,
		'its owner''s functions may TRUNCATE it, which empties it for every organization',
		format('REVOKE TRUNCATE ON %s FROM %s;', c.oid::regclass, c.relowner::regrole)
	FROM pg_catalog.pg_class AS c
	INNER JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner AND NOT r.rolsuper
	WHERE EXISTS (
			SELECT FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x
			WHERE x.grantee = c.relowner AND x.privilege_type = 'TRUNCATE'
		)
		AND c.relkind IN ('r', 'p')
		AND (c.oid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
			OR c.oid IN (SELECT p.child FROM ringfence.protected_children() AS p))
	UNION ALL
	SELECT 'warning', 'column_limit_exceeded', g.rel::text,
		format('%s may %s more columns than the table was protected with', g.name, g.privilege),
		format('REVOKE %s ON %s FROM %s; GRANT %s ON %2$s TO ringfence_member;', g.privilege, g.rel,
			string_agg(DISTINCT g.name, ', '), ringfence.column_grant(g.rel, lower(g.privilege), t.columns))
	FROM grants AS g
	INNER JOIN ringfence.registered_tables() AS t ON t.rel = g.rel
	WHERE g.tenant AND g.name NOT IN ('PUBLIC', 'ringfence_anon')
		AND (t.columns -> lower(g.privilege)) ? coalesce(g.column_name, '') IS FALSE
	GROUP BY g.rel, g.name, g.privilege, t.columns
	UNION ALL
	SELECT 'error', 'anonymous_privilege', g.rel::text,
		format('%s, whom anybody may act as, has a right to the table: %s', g.name, string_agg(g.what, ', ' ORDER BY g.what)),
		format('REVOKE %s ON %s FROM %s;', string_agg(g.what, ', ' ORDER BY g.what), g.rel, g.name)
	FROM grants AS g
	WHERE g.name IN ('PUBLIC', 'ringfence_anon') AND g.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
		AND NOT (g.row_class = 'reference' AND g.privilege = 'SELECT')
	GROUP BY g.rel, g.name
	UNION ALL
	SELECT 'error', 'reference_table_writable', g.rel::text,
		format('%s may write what every organization reads: %s', g.name, string_agg(g.what, ', ' ORDER BY g.what)),
		format('REVOKE %s ON %s FROM %s;', string_agg(g.what, ', ' ORDER BY g.what), g.rel, g.name)
	FROM grants AS g
	WHERE g.row_class = 'reference' AND g.tenant AND g.name NOT IN ('PUBLIC', 'ringfence_anon')
		AND g.privilege IN ('INSERT', 'UPDATE', 'DELETE')
	GROUP BY g.rel, g.name
	UNION ALL
	SELECT 'warning', 'unprotected_table_reachable', c.oid::regclass::text,
		format('the table is not protected, and %s may read or write it', string_agg(DISTINCT g.name, ', ' ORDER BY g.name)),
		format('REVOKE ALL ON %s FROM %s;', c.oid::regclass, string_agg(DISTINCT g.name, ', ' ORDER BY g.name))
	FROM pg_catalog.pg_class AS c
	CROSS JOIN ringfence.relation_grants(c.oid) AS g
	WHERE c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND c.relpersistence <> 't'
		AND c.relacl IS NOT NULL
		AND c.relnamespace::regnamespace::name NOT IN ('pg_catalog', 'information_schema')
		AND c.relnamespace::regnamespace::name NOT IN (SELECT s.schema_name FROM ringfence.guarded_schemas() AS s)
		AND c.oid NOT IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
		AND c.oid NOT IN (SELECT p.child FROM ringfence.protected_children() AS p)
		AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_depend AS d
			WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		)
		AND g.role IN (SELECT t.role FROM ringfence.tenant_roles() AS t)
		AND (has_schema_privilege('ringfence_member', c.relnamespace, 'USAGE')
			OR has_schema_privilege('ringfence_anon', c.relnamespace, 'USAGE'))
	GROUP BY c.oid
	UNION ALL
	SELECT CASE WHEN f.tenants IS NULL THEN 'warning' ELSE 'error' END, 'foreign_table', c.oid::regclass::text,
		'a foreign table can''t have row security',
		CASE WHEN f.guarded THEN format('DROP FOREIGN TABLE %s;', c.oid::regclass)
		ELSE format('REVOKE ALL ON %s FROM %s;', c.oid::regclass, f.tenants) END
	FROM pg_catalog.pg_class AS c
	CROSS JOIN LATERAL (
		SELECT
			ringfence.tenants_of(c.oid) AS tenants,
			c.relnamespace::regnamespace::name IN (SELECT g.schema_name FROM ringfence.guarded_schemas() AS g) AS guarded
	) AS f
	WHERE c.relkind = 'f' AND (
		f.guarded
		OR (f.tenants IS NOT NULL AND c.relnamespace IN (SELECT e.schema FROM ringfence.exposed_schemas() AS e))
	)
	UNION ALL
	SELECT 'warning', 'default_privileges', format('%s IN %s', pg_get_userbyid(d.defaclrole), coalesce(n.nspname, 'every schema')),
		format('what this role makes there is open to %s from the start', t.name),
		format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM %s;',
			pg_get_userbyid(d.defaclrole), ' IN SCHEMA ' || quote_ident(n.nspname),
			CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'S' THEN 'SEQUENCES' WHEN 'n' THEN 'SCHEMAS' ELSE 'TYPES' END,
			t.name)
	FROM pg_catalog.pg_default_acl AS d
	LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = d.defaclnamespace
	INNER JOIN ringfence.tenant_roles() AS t
		ON t.role IN (SELECT x.grantee FROM aclexplode(d.defaclacl) AS x)
	-- PUBLIC's rights to functions and types are PostgreSQL's own default.
	WHERE t.role <> 0 OR d.defaclobjtype IN ('r', 'S', 'n');
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_grants() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_grants() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_grants() IS
	'checks of verify(): no tenant holds more of a table than row security covers';

CREATE FUNCTION ringfence.verify_functions()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH tenants AS MATERIALIZED (
		SELECT t.role, t.name FROM ringfence.tenant_roles() AS t
	), schemas AS MATERIALIZED (
		SELECT
			n.oid,
			n.oid IN (SELECT e.schema FROM ringfence.exposed_schemas() AS e) AS exposed,
			EXISTS (
				SELECT FROM aclexplode(n.nspacl) AS x
				WHERE x.privilege_type = 'USAGE' AND x.grantee IN (SELECT t.role FROM tenants AS t)
			) AS usable
		FROM pg_catalog.pg_namespace AS n
		WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
	), functions AS MATERIALIZED (
		SELECT
			p.oid::regprocedure AS function,
			CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS kind,
			r.rolname AS owner,
			-- Of ringfence_owner itself verify_roles() says so, once.
			(r.rolsuper OR r.rolbypassrls) AND r.rolname <> 'ringfence_owner' AS bypasses,
			p.prosecdef,
			p.prorettype = 'trigger'::regtype AS is_trigger,
			s.exposed,
			g.tenants,
			g.public,
			(SELECT c.setting FROM unnest(p.proconfig) AS c (setting) WHERE c.setting LIKE 'search\_path=%') AS path,
			CASE
				WHEN p.prorettype <> 'trigger'::regtype THEN s.usable AND g.tenants IS NOT NULL
				ELSE EXISTS (
					SELECT FROM pg_catalog.pg_trigger AS g
					WHERE g.tgfoid = p.oid AND g.tgrelid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
				)
			END AS reachable
		FROM pg_catalog.pg_proc AS p
		INNER JOIN schemas AS s ON s.oid = p.pronamespace
		INNER JOIN pg_catalog.pg_roles AS r ON r.oid = p.proowner
		CROSS JOIN LATERAL (
			SELECT string_agg(t.name, ', ' ORDER BY t.role) AS tenants, coalesce(bool_or(t.role = 0), false) AS public
			FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
			INNER JOIN tenants AS t ON t.role = x.grantee
		) AS g
		WHERE (p.prosecdef OR s.exposed)
			AND p.prokind IN ('f', 'p')
			AND p.prorettype <> 'event_trigger'::regtype
	)
	SELECT CASE WHEN f.reachable THEN 'error' ELSE 'warning' END, 'function_search_path', f.function::text,
		'the function runs as its owner, and what its names mean is the caller''s to say: search_path is not fixed with pg_temp at its end',
		format('ALTER %s %s SET search_path = pg_catalog, pg_temp;', f.kind, f.function)
	FROM functions AS f
	WHERE f.prosecdef AND (f.reachable OR f.exposed)
		AND (f.path IS NULL OR f.path !~ '[=, ]"?pg_temp"?$')
	UNION ALL
	SELECT CASE WHEN f.is_trigger THEN 'warning' ELSE 'error' END, 'function_bypasses_rls', f.function::text,
		format('tenants can have it run as %s, for whom no policy holds', f.owner),
		CASE WHEN f.is_trigger THEN format('ALTER FUNCTION %s OWNER TO ringfence_owner;', f.function)
		ELSE format('REVOKE EXECUTE ON %s %s FROM %s;', f.kind, f.function, f.tenants) END
	FROM functions AS f
	WHERE f.prosecdef AND f.bypasses AND f.reachable
	UNION ALL
	SELECT 'warning', 'function_public', f.function::text,
		'everybody may execute it, by default and not because somebody meant it',
		format('REVOKE EXECUTE ON %s %s FROM PUBLIC;', f.kind, f.function)
	FROM functions AS f
	WHERE f.exposed AND f.public AND NOT f.is_trigger;
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_functions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_functions() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_functions() IS
	'checks of verify(): functions that tenants can have run with other rights than theirs, or by default';

CREATE FUNCTION ringfence.verify_roles()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH roles AS MATERIALIZED (
		SELECT r.oid, r.rolname, r.rolsuper, r.rolbypassrls, r.rolcreaterole, x.role IS NOT NULL AS reached,
			-- The memberships that lead to it, to be revoked.
			coalesce((
				SELECT string_agg(format('REVOKE %I FROM %I;', pg_get_userbyid(m.roleid), pg_get_userbyid(m.member)), ' '
					ORDER BY pg_get_userbyid(m.member))
				FROM pg_catalog.pg_auth_members AS m
				WHERE (NOT x.may_log_in AND m.roleid = r.oid AND m.member IN (SELECT y.role FROM ringfence.reachable_roles() AS y))
					OR (x.may_log_in AND m.member = r.oid AND m.roleid IN (
						SELECT y.role FROM ringfence.reachable_roles() AS y WHERE y.may_log_in
					))
			), '') AS way_out,
			r.rolname LIKE 'ringfence\_%' AS ours
		FROM pg_catalog.pg_roles AS r
		LEFT JOIN ringfence.reachable_roles() AS x ON x.role = r.oid
		WHERE x.role IS NOT NULL OR r.rolname IN ('ringfence_owner', 'ringfence_operator')
	)
	SELECT 'error', 'role_bypasses_rls', r.rolname::text,
		CASE WHEN r.reached THEN 'no policy holds for this role, and tenants'' connections have it or can take it'
			ELSE 'no policy holds for this role' END,
		CASE
			WHEN NOT r.rolsuper THEN format('ALTER ROLE %I NOBYPASSRLS;', r.rolname)
			WHEN r.ours OR r.way_out = '' THEN format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS;', r.rolname)
			ELSE r.way_out
		END
	FROM roles AS r
	WHERE (r.rolsuper OR r.rolbypassrls) AND r.rolname <> 'ringfence_jobs'
	UNION ALL
	SELECT 'error', 'role_creates_roles', r.rolname::text,
		'the role can give itself other roles, and tenants'' connections have it or can take it',
		format('ALTER ROLE %I NOCREATEROLE;', r.rolname)
	FROM roles AS r
	WHERE r.rolcreaterole AND NOT r.rolsuper
	UNION ALL
	SELECT 'error', 'role_is_privileged', r.rolname::text,
		'tenants'' connections can take this role, which is not for them',
		r.way_out
	FROM roles AS r
	WHERE r.reached AND NOT r.rolsuper
		AND r.rolname IN ('ringfence_owner', 'ringfence_jobs', 'ringfence_operator',
			'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
	UNION ALL
	SELECT 'error', 'role_owns_tables', r.rolname::text,
		format('tenants'' connections have or can take the role that owns %s and can take off row security',
			string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text)),
		string_agg(format('ALTER TABLE %s OWNER TO ringfence_owner;', c.oid::regclass), ' ' ORDER BY c.oid::regclass::text)
	FROM roles AS r
	INNER JOIN pg_catalog.pg_class AS c ON c.relowner = r.oid
	WHERE r.reached AND NOT r.rolsuper AND r.rolname <> 'ringfence_owner'
		AND (c.oid IN (SELECT t.rel FROM ringfence.registered_tables() AS t)
			OR c.oid IN (SELECT p.child FROM ringfence.protected_children() AS p))
	GROUP BY r.rolname
	UNION ALL
	SELECT 'error', 'role_owns_database', r.rolname::text,
		'tenants'' connections have or can take the role that owns the database and manages keys and apps',
		format('ALTER DATABASE %I OWNER TO CURRENT_USER;', current_database())
	FROM roles AS r
	INNER JOIN pg_catalog.pg_database AS d ON d.datdba = r.oid AND d.datname = current_database()
	WHERE r.reached AND NOT r.rolsuper
	UNION ALL
	SELECT 'warning', 'authenticator_inherits', m.member::regrole::text,
		format('the role holds the rights of %s without becoming it: what a request may do is not settled by its role', m.roleid::regrole),
		CASE WHEN to_jsonb(m.*) ? 'inherit_option' THEN
			format('GRANT %s TO %s WITH INHERIT FALSE;', m.roleid::regrole, m.member::regrole)
		ELSE
			format('ALTER ROLE %s NOINHERIT;', m.member::regrole)
		END
	FROM pg_catalog.pg_auth_members AS m
	INNER JOIN pg_catalog.pg_roles AS r ON r.oid = m.member
	WHERE m.roleid IN (SELECT y.role FROM ringfence.reachable_roles() AS y WHERE y.may_log_in)
		-- A login that holds ringfence_member alone is one that signs in with a token.
		AND 'ringfence_authenticator'::text IN (m.roleid::regrole::text, r.rolname)
		AND coalesce((to_jsonb(m.*) ->> 'inherit_option')::boolean, r.rolinherit)
		AND NOT r.rolsuper;
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_roles() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_roles() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_roles() IS
	'checks of verify(): what roles tenants'' connections have and can take';
