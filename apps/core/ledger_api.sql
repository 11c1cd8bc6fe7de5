-- Endpoints of the ledger: what its tables have, and their books, for those who
-- may read them. Posting has none here: apps wrap it in functions of their own.

CREATE VIEW ringfence_v1.ledger_assets WITH (security_invoker = true) AS
SELECT a.code, a.name, a.scale, a.created_at
FROM ringfence_data.ledger_assets AS a;
COMMENT ON VIEW ringfence_v1.ledger_assets IS
	'what the organization''s accounts count, for its owners, admins and accountants; everybody else sees the assets of their own accounts';
COMMENT ON COLUMN ringfence_v1.ledger_assets.code IS 'identifies it: "EUR"';
COMMENT ON COLUMN ringfence_v1.ledger_assets.name IS 'the name to show';
COMMENT ON COLUMN ringfence_v1.ledger_assets.scale IS 'how many digits of an amount are decimals';
COMMENT ON COLUMN ringfence_v1.ledger_assets.created_at IS 'when it was made';
GRANT SELECT ON ringfence_v1.ledger_assets TO ringfence_member, ringfence_operator;

CREATE VIEW ringfence_v1.ledger_accounts WITH (security_invoker = true) AS
SELECT
	a.id,
	a.code,
	a.name,
	a.asset,
	a.kind,
	b.balance,
	b.balance - CASE WHEN a.kind IN ('asset', 'expense') THEN b.credits_pending ELSE b.debits_pending END
		+ a.credit_limit AS available,
	b.debits,
	b.credits,
	b.debits_pending,
	b.credits_pending,
	a.no_overdraft,
	a.credit_limit,
	a.party_kind,
	a.party_id,
	a.closed_at,
	a.created_at
FROM ringfence_data.ledger_accounts AS a
CROSS JOIN LATERAL (
	SELECT
		ringfence.normal_balance(a.kind, sum(s.debits)::bigint, sum(s.credits)::bigint) AS balance,
		sum(s.debits)::bigint AS debits,
		sum(s.credits)::bigint AS credits,
		sum(s.debits_pending)::bigint AS debits_pending,
		sum(s.credits_pending)::bigint AS credits_pending
	FROM ringfence_data.ledger_balances AS s
	WHERE s.org_id = a.org_id AND s.account_id = a.id
) AS b;
COMMENT ON VIEW ringfence_v1.ledger_accounts IS
	'the organization''s accounts with their balances of now, in minor units, for its owners, admins and accountants; everybody else sees their own';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.id IS 'identifies the account';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.code IS 'its unique code';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.name IS 'the name to show';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.asset IS 'what is counted in it';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.kind IS 'asset, liability, equity, revenue or expense';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.balance IS
	'debits less credits for asset and expense, credits less debits for the others';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.available IS
	'what can leave it: the balance, less what is held of it, and the credit limit';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.debits IS 'all that was ever debited';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.credits IS 'all that was ever credited';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.debits_pending IS 'held to be debited';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.credits_pending IS 'held to be credited';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.no_overdraft IS 'whether it stays above minus credit_limit';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.credit_limit IS 'how far below 0 it may go then';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.party_kind IS 'the kind of party whose account it is, or null';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.party_id IS 'that party, or null';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.closed_at IS 'since when nothing is posted to it, or null';
COMMENT ON COLUMN ringfence_v1.ledger_accounts.created_at IS 'when it was opened';
GRANT SELECT ON ringfence_v1.ledger_accounts TO ringfence_member, ringfence_operator;

CREATE VIEW ringfence_v1.ledger_transfers WITH (security_invoker = true) AS
SELECT
	t.id,
	t.posted_at,
	t.posted_on,
	t.recorded_at,
	t.debit_account_id,
	t.credit_account_id,
	t.amount,
	t.asset,
	t.state,
	t.kind,
	t.actor,
	t.pending_id,
	t.reverses_id,
	t.expires_at,
	t.reference,
	t.metadata
FROM ringfence_data.ledger_transfers AS t;
COMMENT ON VIEW ringfence_v1.ledger_transfers IS
	'the organization''s transfers, which never change, for its owners, admins and accountants; everybody else sees those from and to their own accounts';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.id IS 'identifies the transfer';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.posted_at IS 'when it counts';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.posted_on IS
	'the day of posted_at in UTC, to filter an account''s transfers by: its index has the day';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.recorded_at IS 'when it was made';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.debit_account_id IS 'the account that is debited';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.credit_account_id IS 'the account that is credited';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.amount IS 'how much, in minor units';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.asset IS 'what is moved';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.state IS
	'posted moves the amount, pending reserves it, voided and expired release what pending_id reserved';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.kind IS 'what it was for';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.actor IS 'the user who made it';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.pending_id IS 'the pending transfer that it resolves';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.reverses_id IS 'the transfer that it undoes';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.expires_at IS 'until when a pending one can be posted';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.reference IS 'free text; the reason of a reversal';
COMMENT ON COLUMN ringfence_v1.ledger_transfers.metadata IS 'a JSON object, or null';
GRANT SELECT ON ringfence_v1.ledger_transfers TO ringfence_member, ringfence_operator;

CREATE FUNCTION ringfence_v1.ledger_statement(account uuid, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL)
RETURNS TABLE (
	posted_at timestamptz,
	transfer_id uuid,
	kind text,
	counterparty_id uuid,
	debit bigint,
	credit bigint,
	balance bigint,
	reference text,
	metadata jsonb
)
LANGUAGE sql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.posted_at, s.transfer_id, s.kind, s.counterparty_id, s.debit, s.credit, s.balance, s.reference, s.metadata
	FROM ringfence.statement(account, "from", "to") AS s
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.ledger_statement(uuid, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.ledger_statement(uuid, timestamptz, timestamptz)
	TO ringfence_member, ringfence_operator;
COMMENT ON FUNCTION ringfence_v1.ledger_statement(uuid, timestamptz, timestamptz) IS
	'what was posted to an account, oldest first, with the balance after each: from a moment on, before another; for owners, admins and accountants, and for whose account it is; PT404 for an account that the caller may not see';

-- What the organization at hand may have reckoned up: 42501 for those who may not.
-- An operator's doing so is on record like their reading.
CREATE FUNCTION ringfence_data.accounting_org() RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.org_id() IS NULL OR NOT (
		ringfence.has_role('owner', 'admin', 'accountant') OR ringfence.actor() IN ('operator', 'job')
	) THEN
		RAISE EXCEPTION 'permission denied for the ledger'
			USING ERRCODE = 'insufficient_privilege', DETAIL = 'It takes one of the roles: owner, admin, accountant.';
	END IF;
	PERFORM ringfence.audit_reading();
	RETURN ringfence.org_id();
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.accounting_org() FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.accounting_org() IS
	'the organization whose books the caller may reckon up; 42501; for ringfence_owner''s functions';

CREATE FUNCTION ringfence_v1.trial_balance(at timestamptz DEFAULT NULL)
RETURNS TABLE (
	asset text,
	account_id uuid,
	code text,
	name text,
	kind text,
	debits bigint,
	credits bigint,
	balance bigint
)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.asset, t.account_id, t.code, t.name, t.kind, t.debits, t.credits, t.balance
	FROM ringfence.trial_balance(ringfence_data.accounting_org(), at) AS t
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.trial_balance(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.trial_balance(timestamptz) TO ringfence_member, ringfence_operator;
COMMENT ON FUNCTION ringfence_v1.trial_balance(timestamptz) IS
	'what each account of the organization has turned over, and its balance, now or by what was posted up to and at a moment, for its owners, admins and accountants: debits and credits of an asset add up to the same; 42501';

CREATE FUNCTION ringfence_v1.close_period(before date) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin', 'accountant');
	RETURN ringfence.close_period(before);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.close_period(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.close_period(date) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.close_period(date) IS
	'closes the organization''s books before a date, for good, and returns the instant, for its owners, admins and accountants; 22004, 22023 for a date in the future, 42501, PT409 if they are closed before a later date';

CREATE FUNCTION ringfence_v1.ledger_verify()
RETURNS TABLE (code text, object text, detail text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT v.code, v.object, v.detail
	FROM ringfence.ledger_verify(ringfence_data.accounting_org()) AS v
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.ledger_verify() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.ledger_verify() TO ringfence_member, ringfence_operator;
COMMENT ON FUNCTION ringfence_v1.ledger_verify() IS
	'what doesn''t add up in the organization''s ledger, for its owners, admins and accountants; nothing if all is well; 42501';
