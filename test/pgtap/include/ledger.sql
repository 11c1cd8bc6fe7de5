-- Two organizations, A and B, with the same accounts, and shorthands to post to
-- A's. Amounts are cents.
--
--   cash      asset                        wallet   liability, no overdraft; the party client of A
--   till      asset, no overdraft          credit   liability, down to -100
--   rent      expense                      capital  equity
--   refunds   expense, no overdraft        sales    revenue
--   issued    expense, in points           points   liability, in points
--
--   a(account)            its id; "B:cash" is B's; of one that is not there, an id that nothing has
--   id(name)              an id that is always the same
--   t(differences)        a transfer of 100 from cash to sales, or one that resolves a hold, but for what
--                         is said: debit, credit, id and pending_id by name, the rest as its columns are
--   codes(differences, ...)   posts these in one batch: their codes
--   once(differences)         posts it by transfer(): what came of it
--   said(statement [, org])   what came of a statement in that organization: its value, or
--                             "SQLSTATE message | detail"; so often undone what failed
--   sums(account)         its debits, credits, and those that are held
--   state()               stands for all rows of the ledger
--
-- Statements run with the rights of ringfence_owner, as the functions of an app do.
\ir tenants.sql

DO $$
DECLARE
	org record;
BEGIN
	FOR org IN SELECT o.id, m.party FROM ringfence_data.orgs AS o INNER JOIN ringfence_data.memberships AS m ON m.org_id = o.id
		WHERE o.name LIKE 'Tenant %'
	LOOP
		PERFORM ringfence.set_context(org.id);
		PERFORM ringfence.open_asset('EUR', 2, 'Euro'), ringfence.open_asset('PTS', 0);
		PERFORM ringfence.open_account(n.code, initcap(n.code), n.asset, n.kind, n.credit_limit IS NOT NULL, coalesce(n.credit_limit, 0))
		FROM (VALUES
			('cash', 'EUR', 'asset', NULL), ('till', 'EUR', 'asset', 0), ('rent', 'EUR', 'expense', NULL),
			('refunds', 'EUR', 'expense', 0), ('credit', 'EUR', 'liability', 100), ('capital', 'EUR', 'equity', NULL),
			('sales', 'EUR', 'revenue', NULL), ('issued', 'PTS', 'expense', NULL), ('points', 'PTS', 'liability', NULL)
		) AS n (code, asset, kind, credit_limit);
		PERFORM ringfence.open_account('wallet', 'Wallet', 'EUR', 'liability', true, 0,
			CASE WHEN org.party ? 'client' THEN 'client' END, (org.party ->> 'client')::uuid);
	END LOOP;
END
$$;

CREATE FUNCTION public.id(name text) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN CASE WHEN name ~ '^[0-9a-f]{8}-[0-9a-f-]{27}$' THEN name::uuid ELSE md5(name)::uuid END;

CREATE FUNCTION public.a(account text) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
AS $$
	SELECT coalesce((
		SELECT l.id
		FROM ringfence_data.ledger_accounts AS l
		INNER JOIN ringfence_data.orgs AS o ON o.id = l.org_id
		WHERE o.name = 'Tenant ' || CASE WHEN account LIKE 'B:%' THEN 'B' ELSE 'A' END
			AND l.code = regexp_replace(account, '^B:', '')
	), CASE WHEN account IS NOT NULL THEN public.id(account) END)
$$;

CREATE FUNCTION public.t(differences jsonb) RETURNS ringfence.transfer LANGUAGE sql STABLE
AS $$
	SELECT jsonb_populate_record(NULL::ringfence.transfer, (d.said - '{debit,credit}'::text[]) || jsonb_build_object(
		'debit_account_id', public.a(d.said ->> 'debit'),
		'credit_account_id', public.a(d.said ->> 'credit'),
		'id', public.id(d.said ->> 'id'),
		'pending_id', public.id(d.said ->> 'pending_id')
	))
	FROM (
		SELECT CASE WHEN differences ? 'pending_id' THEN '{}'
			ELSE '{"debit": "cash", "credit": "sales", "amount": 100, "kind": "charge"}'::jsonb END || differences AS said
	) AS d
$$;

CREATE FUNCTION public.as_app(statement text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
AS $$ DECLARE answer text; BEGIN EXECUTE statement INTO answer; RETURN answer; END $$;
ALTER FUNCTION public.as_app(text) OWNER TO ringfence_owner;

CREATE FUNCTION public.said(statement text, org text DEFAULT 'A') RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	message text;
	detail text;
BEGIN
	PERFORM ringfence.set_context(o.id, m.user_id, m.roles, m.party)
	FROM ringfence_data.orgs AS o
	INNER JOIN ringfence_data.memberships AS m ON m.org_id = o.id
	WHERE o.name = 'Tenant ' || org;
	RETURN public.as_app(statement);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE || ' ' || message, nullif(detail, ''));
END
$$;

CREATE FUNCTION public.codes(VARIADIC differences jsonb[]) RETURNS text LANGUAGE sql
AS $$
	SELECT said(format('SELECT string_agg(r.code, '' '' ORDER BY r.position) FROM ringfence.transfers(%L) AS r',
		(SELECT array_agg(public.t(d.d) ORDER BY d.n) FROM unnest(differences) WITH ORDINALITY AS d (d, n))))
$$;

CREATE FUNCTION public.once(differences jsonb) RETURNS text LANGUAGE sql
AS $$
	SELECT regexp_replace(said(format('SELECT ringfence.transfer(%L, %L, %L, %L, %L, %L, %L, %L, %L, %L, %L)',
		t.debit_account_id, t.credit_account_id, t.amount, t.kind, t.id, t.asset, t.reference, t.metadata,
		t.state = 'pending', t.timeout, t.posted_at)), '^[0-9a-f]{8}-[0-9a-f-]{27}$', 'ok')
	FROM public.t(differences) AS t
$$;

CREATE FUNCTION public.sums(account text) RETURNS text LANGUAGE sql STABLE
AS $$
	SELECT concat_ws(' ', sum(b.debits), sum(b.credits), sum(b.debits_pending), sum(b.credits_pending))
	FROM ringfence_data.ledger_balances AS b
	WHERE b.account_id = public.a(account)
$$;

CREATE FUNCTION public.state() RETURNS text LANGUAGE sql STABLE
AS $$
	SELECT md5(string_agg(s.r, E'\n' ORDER BY s.r))
	FROM (
		SELECT t::text FROM ringfence_data.ledger_transfers AS t
		UNION ALL SELECT h::text FROM ringfence_data.ledger_holds AS h
		UNION ALL SELECT b::text FROM ringfence_data.ledger_balances AS b
		UNION ALL SELECT l::text FROM ringfence_data.ledger_accounts AS l
		UNION ALL SELECT e::text FROM ringfence_data.ledger_assets AS e
		UNION ALL SELECT p::text FROM ringfence_data.ledger_periods AS p
		UNION ALL SELECT c::text FROM ringfence_data.ledger_closing_balances AS c
		UNION ALL SELECT k::text FROM ringfence_data.ledger_blocks AS k
	) AS s (r)
$$;
