-- verify(), part six: nobody writes the ledger but the library, and nothing is put
-- on its tables that the library, which writes past triggers and checks, would
-- leave out.

CREATE FUNCTION ringfence.ledger_constraints(OUT rel regclass, OUT name name) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 40
BEGIN ATOMIC
	SELECT to_regclass('ringfence_data.' || t.table_name), (t.table_name || '_' || n.suffix)::name
	FROM (VALUES
		('ledger_assets', '{pkey,org_id_fkey,code_check,scale_check}'::text[]),
		('ledger_accounts', '{pkey,org_id_fkey,code_key,asset_key,asset_fkey,kind_check,credit_limit_check,party_id_check}'),
		('ledger_transfers', '{pkey,org_id_fkey,debit_account_id_fkey,credit_account_id_fkey,pending_id_fkey,reverses_id_fkey,
			credit_account_id_check,amount_check,posted_at_check,posted_on_check,state_check,kind_check,pending_id_check,reverses_id_check,
			expires_at_check,reference_check,metadata_check}'),
		('ledger_holds', '{pkey,org_id_fkey,id_fkey,amount_check}'),
		('ledger_balances', '{pkey,org_id_fkey,account_id_fkey,slot_check}'),
		('ledger_periods', '{pkey,org_id_fkey,closed_before_check}'),
		('ledger_closing_balances', '{pkey,org_id_fkey,account_id_fkey}'),
		('ledger_blocks', '{pkey,org_id_fkey,sealed_to_check,transfers_check}')
	) AS t (table_name, suffixes)
	CROSS JOIN unnest(t.suffixes) AS n (suffix);
END;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_constraints() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_constraints()
	TO ringfence_owner, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.ledger_constraints() IS
	'constraints of the ledger''s tables that what is posted rests on';

CREATE FUNCTION ringfence.ledger_defences() RETURNS TABLE (code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH tables AS MATERIALIZED (
		SELECT DISTINCT t.rel FROM ringfence.ledger_triggers() AS t WHERE t.rel IS NOT NULL
	), closed AS MATERIALIZED (
		SELECT t.rel FROM ringfence.ledger_triggers() AS t WHERE t.rel IS NOT NULL AND t.type = 62
	), made AS MATERIALIZED (
		SELECT t.rel, t.name, t.definition FROM ringfence.ledger_triggers() AS t WHERE t.rel IS NOT NULL
	), expected AS MATERIALIZED (
		SELECT c.rel, c.name FROM ringfence.ledger_constraints() AS c WHERE c.rel IS NOT NULL
	), grants AS (
		SELECT c.rel, x.grantee, x.privilege_type AS what
		FROM closed AS c
		INNER JOIN pg_catalog.pg_class AS r ON r.oid = c.rel
		CROSS JOIN aclexplode(coalesce(r.relacl, acldefault('r', r.relowner))) AS x
		-- Of TRUNCATE verify_grants() speaks.
		WHERE x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
		UNION ALL
		SELECT c.rel, x.grantee, format('%s (%I)', x.privilege_type, a.attname)
		FROM closed AS c
		INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.rel AND a.attacl IS NOT NULL AND NOT a.attisdropped
		INNER JOIN pg_catalog.pg_class AS r ON r.oid = c.rel
		CROSS JOIN aclexplode(a.attacl) AS x
		WHERE x.privilege_type IN ('INSERT', 'UPDATE')
			-- What foreign keys take; see ledger_guard().
			AND NOT (x.grantee = r.relowner AND x.privilege_type = 'UPDATE' AND a.attname = 'org_id')
	)
	SELECT 'ledger_writable', g.rel::text,
		format('%s may write it, which nobody may but the library: %s', r.name, string_agg(g.what, ', ' ORDER BY g.what)),
		format('REVOKE %s ON %s FROM %s;', string_agg(g.what, ', ' ORDER BY g.what), g.rel, r.name)
	FROM grants AS g
	CROSS JOIN LATERAL (
		SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS name
	) AS r
	GROUP BY g.rel, r.name
	UNION ALL
	SELECT 'ledger_guard_missing', format('%I ON %s', m.name, m.rel),
		'the trigger that refuses what would break the ledger is missing, or is another',
		'SELECT ringfence.ledger_guard();'
	FROM made AS m
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_trigger AS g
		WHERE g.tgrelid = m.rel AND g.tgname = m.name
			AND pg_get_triggerdef(g.oid) = format('CREATE TRIGGER %I %s', m.name, m.definition)
	)
	UNION ALL
	SELECT 'ledger_guard_disabled', format('%I ON %s', g.tgname, t.rel),
		'the trigger does not fire',
		format('ALTER TABLE %s ENABLE TRIGGER %s;', t.rel, CASE WHEN g.tgisinternal THEN 'ALL' ELSE quote_ident(g.tgname) END)
	FROM tables AS t
	INNER JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = t.rel AND g.tgenabled IN ('D', 'R')
	UNION ALL
	SELECT 'ledger_constraint_missing', format('%I ON %s', e.name, e.rel),
		'nothing refuses any more what the constraint did',
		'-- Make it again as the script of app "core" does.'
	FROM expected AS e
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = e.rel AND k.conname = e.name
	)
	UNION ALL
	SELECT 'ledger_index_missing', format('ringfence_data.%I', i.name),
		'nothing keeps a transfer from being resolved or reversed twice',
		'-- Make it again as the script of app "core" does.'
	FROM (VALUES ('pending_id'), ('reverses_id')) AS c (name)
	CROSS JOIN LATERAL (SELECT format('ledger_transfers_%s_key', c.name)) AS i (name)
	WHERE to_regclass('ringfence_data.ledger_transfers') IS NOT NULL AND NOT EXISTS (
		SELECT FROM pg_catalog.pg_index AS x
		WHERE x.indexrelid = to_regclass('ringfence_data.' || i.name) AND x.indisvalid
			AND pg_get_indexdef(x.indexrelid) = format(
				'CREATE UNIQUE INDEX %1$s ON ringfence_data.ledger_transfers USING btree (org_id, %2$s) WHERE (%2$s IS NOT NULL)',
				i.name, c.name)
	)
	UNION ALL
	SELECT CASE k.contype WHEN 'f' THEN 'ledger_foreign_key_not_valid' ELSE 'ledger_constraint_not_valid' END,
		format('%I ON %s', k.conname, t.rel),
		'rows that were there before the constraint may violate it',
		format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', t.rel, k.conname)
	FROM tables AS t
	INNER JOIN pg_catalog.pg_constraint AS k ON k.conrelid = t.rel AND NOT k.convalidated
	UNION ALL
	SELECT 'ledger_trigger_ignored', format('%I ON %s', g.tgname, c.rel),
		'the library writes the table past triggers, so that this one never fires',
		format('DROP TRIGGER %I ON %s;', g.tgname, c.rel)
	FROM closed AS c
	INNER JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = c.rel AND NOT g.tgisinternal
	WHERE NOT EXISTS (SELECT FROM made AS m WHERE m.rel = c.rel AND m.name = g.tgname)
	UNION ALL
	SELECT 'ledger_constraint_ignored', format('%I ON %s', k.conname, k.conrelid::regclass),
		format('the library writes %s past constraints that it doesn''t know, so that this one is not kept', c.rel),
		format('ALTER TABLE %s DROP CONSTRAINT %I;', k.conrelid::regclass, k.conname)
	FROM closed AS c
	INNER JOIN pg_catalog.pg_constraint AS k
		ON (k.conrelid = c.rel AND k.contype IN ('c', 'f', 'x'))
		-- Rows of these two come and go.
		OR (k.confrelid = c.rel AND c.rel::text IN ('ringfence_data.ledger_holds', 'ringfence_data.ledger_balances'))
	WHERE NOT EXISTS (SELECT FROM expected AS e WHERE e.rel = k.conrelid AND e.name = k.conname);
END;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_defences() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_defences()
	TO ringfence_owner, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.ledger_defences() IS
	'what keeps others from writing the ledger and is not as it was made, or was put there to no effect, and the SQL that rights it; for verify() and ledger_verify()';

CREATE FUNCTION ringfence.verify_ledger()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT 'error', d.code, d.object, d.message, d.fix
	FROM ringfence.ledger_defences() AS d
	-- Which verify_triggers() and verify_foreign_keys() name.
	WHERE d.code NOT IN ('ledger_guard_disabled', 'ledger_foreign_key_not_valid');
END;
REVOKE EXECUTE ON FUNCTION ringfence.verify_ledger() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_ledger() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_ledger() IS
	'checks of verify(): the ledger is closed to writers, and its constraints are in place';
