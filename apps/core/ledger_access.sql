-- Who reads the ledger: owners, admins and accountants all of their
-- organization's, parties their own accounts and what was posted to them,
-- operators that of the organization they have entered, which is recorded.

SELECT ringfence.ledger_guard();

CREATE POLICY owner_code ON ringfence_data.ledger_assets AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_assets AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_assets AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant') OR EXISTS (
		SELECT FROM ringfence_data.ledger_accounts AS a
		WHERE a.org_id = ledger_assets.org_id AND a.asset = ledger_assets.code
			AND a.party_id = ringfence.party_id(a.party_kind)
	));
CREATE POLICY operator_read ON ringfence_data.ledger_assets AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

CREATE POLICY owner_code ON ringfence_data.ledger_accounts AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_accounts AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_accounts AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant') OR party_id = ringfence.party_id(party_kind));
CREATE POLICY operator_read ON ringfence_data.ledger_accounts AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

CREATE POLICY owner_code ON ringfence_data.ledger_transfers AS PERMISSIVE FOR SELECT TO ringfence_owner
	USING (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_transfers AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_transfers AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant')
		OR debit_account_id = ANY ((SELECT ringfence.own_accounts())::uuid[])
		OR credit_account_id = ANY ((SELECT ringfence.own_accounts())::uuid[]));
CREATE POLICY operator_read ON ringfence_data.ledger_transfers AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

CREATE POLICY owner_code ON ringfence_data.ledger_holds AS PERMISSIVE FOR SELECT TO ringfence_owner
	USING (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_holds AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_holds AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant')
		OR debit_account_id = ANY ((SELECT ringfence.own_accounts())::uuid[])
		OR credit_account_id = ANY ((SELECT ringfence.own_accounts())::uuid[]));
CREATE POLICY operator_read ON ringfence_data.ledger_holds AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

CREATE POLICY owner_code ON ringfence_data.ledger_balances AS PERMISSIVE FOR SELECT TO ringfence_owner
	USING (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_balances AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_balances AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant')
		OR account_id = ANY ((SELECT ringfence.own_accounts())::uuid[]));
CREATE POLICY operator_read ON ringfence_data.ledger_balances AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

CREATE POLICY owner_code ON ringfence_data.ledger_periods AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_periods AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_periods AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant'));
CREATE POLICY operator_read ON ringfence_data.ledger_periods AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

CREATE POLICY owner_code ON ringfence_data.ledger_closing_balances AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_closing_balances AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_closing_balances AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant')
		OR account_id = ANY ((SELECT ringfence.own_accounts())::uuid[]));
CREATE POLICY operator_read ON ringfence_data.ledger_closing_balances AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

CREATE POLICY owner_code ON ringfence_data.ledger_blocks AS PERMISSIVE FOR SELECT TO ringfence_owner
	USING (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.ledger_blocks AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_accountant ON ringfence_data.ledger_blocks AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin', 'accountant'));
CREATE POLICY operator_read ON ringfence_data.ledger_blocks AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());

GRANT SELECT ON ringfence_data.ledger_assets, ringfence_data.ledger_accounts, ringfence_data.ledger_transfers,
	ringfence_data.ledger_holds, ringfence_data.ledger_balances, ringfence_data.ledger_periods,
	ringfence_data.ledger_closing_balances, ringfence_data.ledger_blocks
	TO ringfence_member, ringfence_operator, ringfence_jobs;

SELECT ringfence.register_table(t.rel, 'directory', '{"owner,admin,accountant": "select"}')
FROM unnest(ARRAY[
	'ringfence_data.ledger_assets', 'ringfence_data.ledger_accounts', 'ringfence_data.ledger_transfers',
	'ringfence_data.ledger_holds', 'ringfence_data.ledger_balances', 'ringfence_data.ledger_periods',
	'ringfence_data.ledger_closing_balances', 'ringfence_data.ledger_blocks'
]::regclass[]) AS t (rel);

SELECT ringfence.except_reference('ringfence_data.ledger_holds', c.column_name, 'the transfer''s own foreign key holds it')
FROM (VALUES ('debit_account_id'), ('credit_account_id')) AS c (column_name);

-- An account may be called after whom it is kept for.
SELECT ringfence.label('ringfence_data.ledger_accounts', 'name', 'personal');
SELECT ringfence.audit(t.rel)
FROM unnest(ARRAY[
	'ringfence_data.ledger_assets', 'ringfence_data.ledger_accounts', 'ringfence_data.ledger_periods'
]::regclass[]) AS t (rel);
