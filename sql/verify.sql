-- verify(): what is wrong with the isolation of this database, and the SQL that
-- rights it. The checks are in verify_tables.sql, verify_keys.sql,
-- verify_reach.sql, verify_audit.sql, verify_references.sql, verify_ledger.sql and
-- verify_retention.sql;
-- here are those of the database itself, and verify().

-- For each major version the first release that has every fix so far of a hole
-- through which SQL that a tenant may run gets around row security. All the
-- known ones are listed, the last of a major version counts.
CREATE FUNCTION ringfence.verify_server(
	server integer DEFAULT current_setting('server_version_num')::integer
) RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH floors (major, minor, cve, hole) AS (
		VALUES
			(15, 14, 'CVE-2025-8713', 'planner statistics show rows of partitions and children'),
			(16, 10, 'CVE-2025-8713', 'planner statistics show rows of partitions and children'),
			(17, 6, 'CVE-2025-8713', 'planner statistics show rows of partitions and children'),
			(15, 16, 'CVE-2026-2004', 'selectivity estimators of operators run code of the caller''s choice'),
			(16, 12, 'CVE-2026-2004', 'selectivity estimators of operators run code of the caller''s choice'),
			(17, 8, 'CVE-2026-2004', 'selectivity estimators of operators run code of the caller''s choice'),
			(18, 2, 'CVE-2026-2004', 'selectivity estimators of operators run code of the caller''s choice'),
			(15, 18, 'CVE-2026-6473', 'any SQL can write past a buffer'),
			(16, 14, 'CVE-2026-6473', 'any SQL can write past a buffer'),
			(17, 10, 'CVE-2026-6473', 'any SQL can write past a buffer'),
			(18, 4, 'CVE-2026-6473', 'any SQL can write past a buffer'),
			(15, 19, 'CVE-2026-14666', 'cached plans keep the policies of roles as they were'),
			(16, 15, 'CVE-2026-14666', 'cached plans keep the policies of roles as they were'),
			(17, 11, 'CVE-2026-14666', 'cached plans keep the policies of roles as they were'),
			(18, 5, 'CVE-2026-14666', 'cached plans keep the policies of roles as they were')
	)
	SELECT 'error', 'server_too_old', format('PostgreSQL %s.%s', server / 10000, server % 10000),
		format('row security can be got around: %s', string_agg(format('%s (%s)', f.hole, f.cve), '; ' ORDER BY f.minor)),
		format('-- Update the server to %s.%s or later.', server / 10000, max(f.minor))
	FROM floors AS f
	WHERE f.major = server / 10000 AND server % 10000 < f.minor
	HAVING count(*) > 0
	UNION ALL
	SELECT 'error', 'server_too_old', format('PostgreSQL %s.%s', server / 10000, server % 10000),
		'this major version is older than any that is supported here',
		'-- Update the server to 15 or later.'
	WHERE server < 150000;
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_server(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_server(integer) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_server(integer) IS
	'checks of verify(): has a server of that version every fix that row security needs';

CREATE FUNCTION ringfence.verify_database()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT 'warning', 'core_not_installed', current_database()::text,
		'there is nothing to protect tables with yet',
		'SELECT ringfence.install(''core'');'
	WHERE to_regclass('ringfence_data.tables') IS NULL
	UNION ALL
	SELECT 'warning', 'extension_outdated', e.extname::text,
		format('the database has version %s, the loaded library is of version %s', e.extversion, ringfence.library_version()),
		format('ALTER EXTENSION %I UPDATE;', e.extname)
	FROM pg_catalog.pg_extension AS e
	WHERE e.extname = 'ringfence' AND ringfence.library_version() <> e.extversion
	UNION ALL
	-- The guard is only as good as the triggers that call it.
	SELECT 'error', CASE WHEN e.oid IS NULL THEN 'guard_missing' WHEN e.evtenabled IN ('D', 'R') THEN 'guard_disabled' ELSE 'guard_altered' END,
		w.name,
		'tables appear in and vanish from protected schemas without a check, or new partitions without an audit',
		CASE
			WHEN e.oid IS NULL THEN 'SELECT ringfence.prepare_database();'
			WHEN e.evtenabled IN ('D', 'R') THEN format('ALTER EVENT TRIGGER %I ENABLE;', w.name)
			ELSE format('DROP EVENT TRIGGER %I; SELECT ringfence.prepare_database();', w.name)
		END
	FROM (VALUES
		('ringfence_guard', 'ddl_command_end', 'ringfence.guard_ddl()',
			ARRAY['CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE MATERIALIZED VIEW',
				'CREATE FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA', 'CREATE POLICY', 'ALTER POLICY']),
		('ringfence_audit', 'ddl_command_end', 'ringfence.audit_ddl()', ARRAY['CREATE TABLE', 'ALTER TABLE']),
		('ringfence_forget', 'sql_drop', 'ringfence.forget_dropped()', ARRAY['DROP TABLE', 'ALTER TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP POLICY'])
	) AS w (name, event, function, tags)
	LEFT JOIN pg_catalog.pg_event_trigger AS e ON e.evtname = w.name
	WHERE to_regclass('ringfence_data.tables') IS NOT NULL
		AND (e.oid IS NULL OR e.evtenabled IN ('D', 'R') OR e.evtevent <> w.event
			OR e.evtfoid <> to_regprocedure(w.function) OR NOT coalesce(e.evttags @> w.tags, true))
	UNION ALL
	SELECT 'warning', 'temp_tables_granted', d.datname::text,
		'tenants may make temporary tables: names of theirs can stand before yours, and what they hold outlives the request on a pooled connection',
		format('REVOKE TEMPORARY ON DATABASE %I FROM %s;', d.datname, g.tenants)
	FROM pg_catalog.pg_database AS d
	CROSS JOIN ringfence.tenants_holding(coalesce(d.datacl, acldefault('d', d.datdba)), d.datdba, 'TEMPORARY') AS g (tenants)
	WHERE d.datname = current_database() AND g.tenants IS NOT NULL
	UNION ALL
	SELECT 'error', 'create_granted', d.datname::text,
		'tenants may make schemas in the database',
		format('REVOKE CREATE ON DATABASE %I FROM %s;', d.datname, g.tenants)
	FROM pg_catalog.pg_database AS d
	CROSS JOIN ringfence.tenants_holding(d.datacl, d.datdba, 'CREATE') AS g (tenants)
	WHERE d.datname = current_database() AND g.tenants IS NOT NULL
	UNION ALL
	SELECT 'error', 'create_granted', n.nspname::text,
		'tenants may make tables, functions and operators in the schema',
		format('REVOKE CREATE ON SCHEMA %I FROM %s;', n.nspname, g.tenants)
	FROM pg_catalog.pg_namespace AS n
	CROSS JOIN ringfence.tenants_holding(n.nspacl, n.nspowner, 'CREATE') AS g (tenants)
	WHERE n.nspname !~ '^pg_(toast_)?temp_' AND g.tenants IS NOT NULL
	UNION ALL
	SELECT 'info', 'published', p.pubname::text,
		format('the publication sends rows of every organization to its subscribers: %s', string_agg(t.rel::text, ', ' ORDER BY t.rel::text)),
		CASE
			WHEN p.puballtables THEN format('DROP PUBLICATION %I;', p.pubname)
			ELSE string_agg(DISTINCT
				CASE WHEN r.oid IS NOT NULL THEN format('ALTER PUBLICATION %I DROP TABLE %s;', p.pubname, t.rel)
				ELSE format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %s;', p.pubname, c.relnamespace::regnamespace) END,
				' ')
		END
	FROM pg_catalog.pg_publication AS p
	CROSS JOIN ringfence.registered_tables() AS t
	INNER JOIN pg_catalog.pg_class AS c ON c.oid = t.rel
	LEFT JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid AND r.prrelid = t.rel
	WHERE t.row_class <> 'reference'
		AND (
			p.puballtables
			OR (r.oid IS NOT NULL AND r.prqual IS NULL)
			OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace AS s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)
		)
	GROUP BY p.pubname, p.puballtables;
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_database() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_database() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_database() IS
	'checks of verify(): guard, extension, rights in the database and its schemas, publications';

-- The owner's rights are for the catalogs: the owner sees no row of any tenant.
CREATE FUNCTION ringfence.verify_catalogs()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
SET jit = off
BEGIN ATOMIC
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_server() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_database() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_roles() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_register() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_row_security() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_policies() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_org_column() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_foreign_keys() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_unique_keys() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_triggers() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_views() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_grants() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_functions() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_audited() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_audit_log() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_ledger() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_retention() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_subjects() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_jobs() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_partitions() AS r
	UNION ALL
	SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_tombstones() AS r;
END;
ALTER FUNCTION ringfence.verify_catalogs() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.verify_catalogs() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_catalogs() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.verify_catalogs() IS
	'checks of verify() that read no row: all but verify_references()';

CREATE FUNCTION ringfence.verify()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET jit = off
BEGIN ATOMIC
	SELECT f.severity, f.code, f.object, f.message, f.fix
	FROM (
		SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_catalogs() AS r
		UNION ALL
		SELECT r.severity, r.code, r.object, r.message, r.fix FROM ringfence.verify_references() AS r
	) AS f
	ORDER BY array_position(ARRAY['error', 'warning', 'info'], f.severity), f.code, f.object;
END;
ALTER FUNCTION ringfence.verify() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.verify() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.verify() IS
	'what is wrong with the isolation of this database, worst first: severity (error, warning, info), code, object, message, and the SQL that removes the finding; no row where all is well; of tenants'' rows it tells no more than how many violate a foreign key that is missing, and that to who sees them all';
