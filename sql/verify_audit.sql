-- verify(), part four: every change of a protected table is recorded, and
-- nobody writes the record but the library.

CREATE FUNCTION ringfence.verify_audited()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH tables AS MATERIALIZED (
		SELECT t.rel, t.rel AS root, t.row_class FROM ringfence.registered_tables() AS t
		UNION ALL
		SELECT p.child, p.parent, t.row_class
		FROM ringfence.protected_children() AS p
		INNER JOIN ringfence.registered_tables() AS t ON t.rel = p.parent
	), triggers AS MATERIALIZED (
		-- 29 is AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, 32 AFTER TRUNCATE.
		SELECT g.tgrelid, g.tgtype, g.tgenabled
		FROM pg_catalog.pg_trigger AS g
		WHERE g.tgfoid = 'ringfence.audit_row()'::regprocedure AND g.tgtype IN (29, 32)
			AND g.tgqual IS NULL AND cardinality(g.tgattr::int2[]) = 0
	)
	-- Of the registered ones verify_triggers() names those that are disabled.
	SELECT 'warning', 'table_not_audited', t.rel::text,
		'not every change of the table is recorded in the audit log',
		format('SELECT ringfence.audit(%L, require_reason => NULL);', t.root)
	FROM tables AS t
	INNER JOIN pg_catalog.pg_class AS c ON c.oid = t.rel AND c.relkind IN ('r', 'p')
	WHERE to_regclass('ringfence_data.audit_log') IS NOT NULL
		AND NOT ringfence.is_audit_table(t.rel)
		AND NOT ringfence.is_idempotency_table(t.rel)
		AND NOT ringfence.is_ledger_table(t.rel)
		AND NOT ringfence.is_retention_table(t.rel)
		AND NOT ringfence.is_job_table(t.rel)
		AND NOT ringfence.is_tombstone_table(t.rel)
		AND NOT EXISTS (
			SELECT FROM triggers AS r
			INNER JOIN triggers AS s ON s.tgrelid = r.tgrelid AND s.tgtype = 32
			WHERE r.tgrelid = t.rel AND r.tgtype = 29
				AND (t.rel = t.root OR (r.tgenabled IN ('O', 'A') AND s.tgenabled IN ('O', 'A')))
		)
	UNION ALL
	SELECT 'error', 'audit_org_wrong', t.rel::text,
		'changes of the table are recorded as those of another organization than the row''s, or of none',
		format('SELECT ringfence.audit(%L, ''org_id'', NULL);', t.root)
	FROM tables AS t
	WHERE t.row_class = 'org' AND (ringfence.audit_arguments(t.rel))[1] <> 'org_id'
	UNION ALL
	SELECT 'warning', 'label_stale', format('%s.%I', l.relation, l.column_name),
		format('ringfence_data.columns has a label, %s, for a column that does not exist', l.label),
		format('SELECT ringfence.label(%s::oid::regclass, %L, NULL);', l.relation::oid, l.column_name)
	FROM ringfence.labels() AS l
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_attribute AS a
		WHERE a.attrelid = l.relation AND a.attname = l.column_name AND a.attnum > 0
	);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_audited() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_audited() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_audited() IS
	'checks of verify(): protected tables, their partitions and children are audited, under their organization; labels have a column';

CREATE FUNCTION ringfence.verify_audit_log()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH tables AS MATERIALIZED (
		SELECT c.oid::regclass AS rel, c.relacl, c.relowner
		FROM pg_catalog.pg_class AS c
		WHERE c.relkind IN ('r', 'p') AND c.relnamespace = to_regnamespace('ringfence_data')
			AND ringfence.is_audit_table(c.oid)
	), grants AS (
		SELECT t.rel, x.grantee, x.privilege_type AS privilege, x.privilege_type AS what
		FROM tables AS t
		CROSS JOIN aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) AS x
		-- Of TRUNCATE verify_grants() speaks.
		WHERE x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
		UNION ALL
		SELECT t.rel, g.role, g.privilege, format('%s (%I)', g.privilege, g.column_name)
		FROM tables AS t
		CROSS JOIN ringfence.relation_grants(t.rel) AS g
		WHERE g.column_name IS NOT NULL AND g.privilege IN ('INSERT', 'UPDATE')
	)
	SELECT 'error', 'audit_log_writable', g.rel::text,
		format('%s may write it, which nobody may but the library: %s', r.name, string_agg(g.what, ', ' ORDER BY g.what)),
		format('REVOKE %s ON %s FROM %s;', string_agg(g.what, ', ' ORDER BY g.what), g.rel, r.name)
	FROM grants AS g
	CROSS JOIN LATERAL (
		SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS name
	) AS r
	GROUP BY g.rel, r.name
	UNION ALL
	-- 62 is BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE FOR EACH STATEMENT.
	SELECT 'error', 'audit_refuse_missing', t.rel::text,
		'nothing refuses writes to it but privileges, which a superuser needs none of',
		format('SELECT ringfence.audit_close(%L);', t.rel)
	FROM tables AS t
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_trigger AS g
		WHERE g.tgrelid = t.rel AND g.tgfoid = 'ringfence.audit_refuse()'::regprocedure AND g.tgtype = 62
			AND g.tgqual IS NULL AND cardinality(g.tgattr::int2[]) = 0
			AND (g.tgenabled IN ('O', 'A') OR t.rel IN (SELECT p.rel FROM ringfence.registered_tables() AS p))
	)
	UNION ALL
	-- Where sealing was never begun there is nothing to miss.
	SELECT 'warning', 'audit_key_missing', 'ringfence.audit_key_file',
		'the audit log can''t be sealed any more: the setting names no key that could sign',
		'-- Have it name the file of the key that signed before, and reload the server.'
	WHERE ringfence.audit_sealed_at() IS NOT NULL AND NOT ringfence.audit_key_usable()
	UNION ALL
	SELECT 'info', 'audit_not_sealed', 'ringfence_data.audit_log',
		'no block was sealed for a day: what was recorded since, if anything was, can be altered without a trace',
		'SELECT ringfence.audit_seal();'
	WHERE ringfence.audit_sealed_at() < now() - interval '1 day'
	UNION ALL
	SELECT 'warning', 'audit_partition_missing', m.name,
		'the audit log has no partition for that month: the first change in it has to make one',
		format('SELECT ringfence.make_audit_partition(%L);', m.first_instant)
	FROM (
		SELECT
			s.instant AT TIME ZONE 'UTC' AS first_instant,
			'ringfence_data.audit_log_' || to_char(s.instant, 'YYYYMM') AS name
		FROM generate_series(0, 1) AS n (ahead)
		CROSS JOIN LATERAL (
			SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n.ahead) AS instant
		) AS s
	) AS m
	WHERE to_regclass('ringfence_data.audit_log') IS NOT NULL AND NOT EXISTS (
		SELECT FROM pg_catalog.pg_inherits AS i
		WHERE i.inhrelid = to_regclass(m.name) AND i.inhparent = to_regclass('ringfence_data.audit_log')
	);
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_audit_log() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_audit_log() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_audit_log() IS
	'checks of verify(): the audit log is closed to writers, is sealed if it ever was, and has room for this month and the next';
