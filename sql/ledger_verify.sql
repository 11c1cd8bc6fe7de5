-- ledger_verify(): everything that the ledger derives, reckoned anew from its
-- transfers. It reads with the caller's rights, and all of a call is of one
-- snapshot. Transfers are read once, and those that have to do with holds once
-- more; planned anew each time, since one organization is read in another way
-- than all of them.

CREATE FUNCTION ringfence.ledger_period_ends(
	org uuid,
	OUT org_id uuid,
	OUT ends timestamptz[],
	OUT closed_at timestamptz[]
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT p.org_id, array_agg(p.closed_before ORDER BY p.closed_before), array_agg(p.closed_at ORDER BY p.closed_before)
	FROM ringfence_data.ledger_periods AS p
	WHERE org IS NULL OR p.org_id = org
	GROUP BY p.org_id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_period_ends(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_period_ends(uuid)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_period_ends(uuid) IS
	'the closed periods of an organization, or of all, in order: when they end, and when they were closed; for ledger_verify()';

-- Those of its answers that begin with "period" are of rows that nothing else is
-- wrong with.
CREATE FUNCTION ringfence.ledger_flaw(
	state text,
	amount bigint,
	debit_account_id uuid,
	credit_account_id uuid,
	pending_id uuid,
	reverses_id uuid,
	expires_at timestamptz,
	posted_at timestamptz,
	recorded_at timestamptz,
	posted_on date,
	period_closed_at timestamptz
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN amount <= 0 THEN 'its amount is not more than 0'
	WHEN debit_account_id = credit_account_id THEN 'it debits and credits the same account'
	WHEN posted_at > recorded_at THEN 'it was posted to a time that was in the future'
	WHEN posted_on <> ringfence.ledger_day(posted_at) THEN 'posted_on is not the day of posted_at'
	WHEN state NOT IN ('posted', 'pending', 'voided', 'expired') THEN 'its state is none'
	WHEN state = 'pending' AND pending_id IS NOT NULL OR state IN ('voided', 'expired') AND pending_id IS NULL
		THEN 'its state does not go with whether it resolves another'
	WHEN reverses_id IS NOT NULL AND (state <> 'posted' OR pending_id IS NOT NULL)
		THEN 'its state does not go with a reversal'
	WHEN expires_at IS NOT NULL AND state <> 'pending' THEN 'it expires, and is not pending'
	WHEN recorded_at > period_closed_at THEN 'period'
END;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_flaw(text, bigint, uuid, uuid, uuid, uuid, timestamptz, timestamptz, timestamptz, date, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_flaw(text, bigint, uuid, uuid, uuid, uuid, timestamptz, timestamptz, timestamptz, date, timestamptz)
	TO ringfence_owner, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.ledger_flaw(text, bigint, uuid, uuid, uuid, uuid, timestamptz, timestamptz, timestamptz, date, timestamptz) IS
	'what a constraint would have refused of a transfer, unless somebody took it away; "period" for one that was recorded after its period had been closed; NULL if nothing is wrong';

-- The one pass: turnover and holds by account and period. Periods count from 0;
-- what is not closed has the number after the last. There are few groups, which
-- the planner can't know: it would sort what it can hash.
CREATE FUNCTION ringfence.ledger_recount(
	org uuid,
	OUT org_id uuid,
	OUT account_id uuid,
	OUT asset text,
	OUT period integer,
	OUT debits numeric,
	OUT credits numeric,
	OUT debits_held numeric,
	OUT credits_held numeric,
	OUT flaws bigint
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
SET enable_sort = off
SET enable_mergejoin = off
AS $$
BEGIN
	RETURN QUERY
	SELECT t.org_id, s.account_id, t.asset, t.period,
		coalesce(sum(s.debit) FILTER (WHERE t.state = 'posted'), 0),
		coalesce(sum(s.credit) FILTER (WHERE t.state = 'posted'), 0),
		coalesce(sum(s.debit) FILTER (WHERE t.state = 'pending'), 0),
		coalesce(sum(s.credit) FILTER (WHERE t.state = 'pending'), 0),
		count(t.flaw)
	FROM (
		SELECT x.org_id, x.debit_account_id, x.credit_account_id, x.amount, x.asset, x.state,
			coalesce(width_bucket(x.posted_at, p.ends), 0) AS period,
			ringfence.ledger_flaw(x.state, x.amount, x.debit_account_id, x.credit_account_id, x.pending_id, x.reverses_id,
				x.expires_at, x.posted_at, x.recorded_at, x.posted_on, p.closed_at[width_bucket(x.posted_at, p.ends) + 1]) AS flaw
		FROM ringfence_data.ledger_transfers AS x
		LEFT JOIN ringfence.ledger_period_ends(org) AS p ON p.org_id = x.org_id
		WHERE org IS NULL OR x.org_id = org
	) AS t
	CROSS JOIN LATERAL (
		VALUES (t.debit_account_id, t.amount, 0), (t.credit_account_id, 0, t.amount)
	) AS s (account_id, debit, credit)
	GROUP BY t.org_id, s.account_id, t.asset, t.period;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_recount(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_recount(uuid)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_recount(uuid) IS
	'what was posted to each account in each closed period and since, what was ever held of it, and how many of its transfers are flawed; for ledger_verify()';

CREATE FUNCTION ringfence.ledger_flawed_transfers(org uuid)
RETURNS TABLE (org_id uuid, code text, object text, detail text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
	RETURN QUERY
	SELECT f.org_id,
		CASE f.flaw WHEN 'period' THEN 'period_violated' ELSE 'transfer_invalid' END,
		format('transfer %s', f.id),
		CASE f.flaw
			WHEN 'period' THEN format('it counts from %s and was recorded at %s, after that period had been closed', f.posted_at, f.recorded_at)
			ELSE f.flaw
		END
	FROM (
		SELECT x.org_id, x.id, x.posted_at, x.recorded_at,
			ringfence.ledger_flaw(x.state, x.amount, x.debit_account_id, x.credit_account_id, x.pending_id, x.reverses_id,
				x.expires_at, x.posted_at, x.recorded_at, x.posted_on, p.closed_at[width_bucket(x.posted_at, p.ends) + 1]) AS flaw
		FROM ringfence_data.ledger_transfers AS x
		LEFT JOIN ringfence.ledger_period_ends(org) AS p ON p.org_id = x.org_id
		WHERE org IS NULL OR x.org_id = org
	) AS f
	WHERE f.flaw IS NOT NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_flawed_transfers(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_flawed_transfers(uuid)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_flawed_transfers(uuid) IS
	'the transfers that ledger_flaw() finds something wrong with; for ledger_verify(), where ledger_recount() has counted any';

CREATE FUNCTION ringfence.ledger_verify_accounts(org uuid)
RETURNS TABLE (org_id uuid, code text, object text, detail text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
	RETURN QUERY
	WITH recount AS MATERIALIZED (
		SELECT r.org_id, r.account_id, r.asset, r.period, r.debits, r.credits, r.debits_held, r.credits_held, r.flaws
		FROM ringfence.ledger_recount(org) AS r
	), resolved AS (
		SELECT h.org_id, s.account_id, sum(s.debit) AS debits, sum(s.credit) AS credits
		FROM ringfence_data.ledger_transfers AS r
		INNER JOIN ringfence_data.ledger_transfers AS h ON h.org_id = r.org_id AND h.id = r.pending_id AND h.state = 'pending'
		CROSS JOIN LATERAL (
			VALUES (h.debit_account_id, h.amount, 0), (h.credit_account_id, 0, h.amount)
		) AS s (account_id, debit, credit)
		WHERE r.pending_id IS NOT NULL AND (org IS NULL OR r.org_id = org)
		GROUP BY h.org_id, s.account_id
	), counted AS (
		SELECT r.org_id, r.account_id, r.debits, r.credits,
			r.debits_held - coalesce(d.debits, 0) AS debits_held, r.credits_held - coalesce(d.credits, 0) AS credits_held
		FROM (
			SELECT c.org_id, c.account_id, sum(c.debits) AS debits, sum(c.credits) AS credits,
				sum(c.debits_held) AS debits_held, sum(c.credits_held) AS credits_held
			FROM recount AS c
			GROUP BY c.org_id, c.account_id
		) AS r
		LEFT JOIN resolved AS d ON d.org_id = r.org_id AND d.account_id = r.account_id
	), present AS (
		SELECT b.org_id, b.account_id, sum(b.debits) AS debits, sum(b.credits) AS credits,
			sum(b.debits_pending) AS debits_held, sum(b.credits_pending) AS credits_held, bool_or(b.slot = 0) AS slots
		FROM ringfence_data.ledger_balances AS b
		WHERE org IS NULL OR b.org_id = org
		GROUP BY b.org_id, b.account_id
	), holds AS (
		SELECT h.org_id, s.account_id, sum(s.debit) AS debits, sum(s.credit) AS credits
		FROM ringfence_data.ledger_holds AS h
		CROSS JOIN LATERAL (
			VALUES (h.debit_account_id, h.amount, 0), (h.credit_account_id, 0, h.amount)
		) AS s (account_id, debit, credit)
		WHERE org IS NULL OR h.org_id = org
		GROUP BY h.org_id, s.account_id
	), accounts AS MATERIALIZED (
		SELECT
			a.org_id,
			a.id,
			format('account "%s"', a.code) AS object,
			a.asset,
			a.kind,
			a.no_overdraft,
			a.credit_limit,
			a.closed_at,
			p.slots IS NOT TRUE AS lost,
			coalesce(c.debits, 0) AS debits,
			coalesce(c.credits, 0) AS credits,
			coalesce(c.debits_held, 0) AS debits_held,
			coalesce(c.credits_held, 0) AS credits_held,
			coalesce(p.debits, 0) AS present_debits,
			coalesce(p.credits, 0) AS present_credits,
			coalesce(p.debits_held, 0) AS present_debits_held,
			coalesce(p.credits_held, 0) AS present_credits_held,
			coalesce(h.debits, 0) AS holds_debits,
			coalesce(h.credits, 0) AS holds_credits
		FROM ringfence_data.ledger_accounts AS a
		LEFT JOIN counted AS c ON c.org_id = a.org_id AND c.account_id = a.id
		LEFT JOIN present AS p ON p.org_id = a.org_id AND p.account_id = a.id
		LEFT JOIN holds AS h ON h.org_id = a.org_id AND h.account_id = a.id
		WHERE org IS NULL OR a.org_id = org
	)
	SELECT a.org_id, 'balance_missing', a.object, 'it has no balance in slot 0, of nothing even, and nothing can be posted to it'
	FROM accounts AS a
	WHERE a.lost
	UNION ALL
	SELECT a.org_id, 'balance_drift', a.object,
		format('its balance says %s of debits and %s of credits, its transfers say %s and %s',
			a.present_debits, a.present_credits, a.debits, a.credits)
	FROM accounts AS a
	WHERE (a.present_debits, a.present_credits) <> (a.debits, a.credits)
	UNION ALL
	SELECT a.org_id, 'pending_drift', a.object,
		format('its balance says that %s of debits and %s of credits are held, its pending transfers say %s and %s',
			a.present_debits_held, a.present_credits_held, a.debits_held, a.credits_held)
	FROM accounts AS a
	WHERE (a.present_debits_held, a.present_credits_held) <> (a.debits_held, a.credits_held)
	UNION ALL
	SELECT a.org_id, 'holds_drift', a.object,
		format('ledger_holds says that %s of debits and %s of credits are held, its pending transfers say %s and %s',
			a.holds_debits, a.holds_credits, a.debits_held, a.credits_held)
	FROM accounts AS a
	WHERE (a.holds_debits, a.holds_credits) <> (a.debits_held, a.credits_held)
	UNION ALL
	SELECT a.org_id, 'limit_broken', a.object,
		format('with what is held it is overdrawn by %s, and %s is allowed', t.taken, a.credit_limit)
	FROM accounts AS a
	CROSS JOIN LATERAL (
		SELECT CASE WHEN a.kind IN ('asset', 'expense') THEN a.credits + a.credits_held - a.debits
			ELSE a.debits + a.debits_held - a.credits END AS taken
	) AS t
	WHERE a.no_overdraft AND t.taken > a.credit_limit
	UNION ALL
	SELECT a.org_id, 'closed_account_used', a.object,
		format('it is closed, and not empty: debits of %s, credits of %s, of which %s and %s are held',
			a.debits + a.debits_held, a.credits + a.credits_held, a.debits_held, a.credits_held)
	FROM accounts AS a
	WHERE a.closed_at IS NOT NULL AND (a.debits <> a.credits OR a.debits_held <> 0 OR a.credits_held <> 0)
	UNION ALL
	SELECT a.org_id, 'asset_missing', a.object, format('its asset, %s, is not there', a.asset)
	FROM accounts AS a
	WHERE NOT EXISTS (
		SELECT FROM ringfence_data.ledger_assets AS s WHERE s.org_id = a.org_id AND s.code = a.asset
	)
	UNION ALL
	SELECT a.org_id, 'asset_unbalanced', format('asset %s', a.asset),
		format('by the balances of its accounts %s was debited and %s credited', sum(a.present_debits), sum(a.present_credits))
	FROM accounts AS a
	GROUP BY a.org_id, a.asset
	HAVING sum(a.present_debits) <> sum(a.present_credits)
	UNION ALL
	SELECT r.org_id, CASE WHEN a.id IS NULL THEN 'account_missing' ELSE 'asset_mismatch' END,
		coalesce(a.object, format('account %s', r.account_id)),
		CASE WHEN a.id IS NULL THEN 'transfers name it, and it is not there'
			ELSE format('transfers of asset %s name it, which is one of %s', r.asset, a.asset) END
	FROM recount AS r
	LEFT JOIN accounts AS a ON a.org_id = r.org_id AND a.id = r.account_id
	WHERE a.asset IS DISTINCT FROM r.asset
	GROUP BY r.org_id, r.account_id, r.asset, a.id, a.object, a.asset
	UNION ALL
	-- The row that close_period() left, or should have, for an account that moved.
	SELECT coalesce(m.org_id, c.org_id), 'closing_drift',
		format('%s before %s', coalesce(a.object, format('account %s', coalesce(m.account_id, c.account_id))), coalesce(m.closed_before, c.closed_before)),
		CASE
			WHEN c.org_id IS NULL THEN 'it has no closing balance there, and had moved since the one before'
			WHEN m.org_id IS NULL THEN 'it has a closing balance there, and had not moved since the one before, or there is no such period'
			ELSE format('its closing balance says %s of debits and %s of credits, its transfers say %s and %s',
				c.debits, c.credits, m.debits, m.credits)
		END
	FROM (
		SELECT s.org_id, s.account_id, p.ends[s.period + 1] AS closed_before,
			sum(s.debits) OVER running AS debits, sum(s.credits) OVER running AS credits
		FROM (
			SELECT r.org_id, r.account_id, r.period, sum(r.debits) AS debits, sum(r.credits) AS credits
			FROM recount AS r
			GROUP BY r.org_id, r.account_id, r.period
			HAVING sum(r.debits) <> 0 OR sum(r.credits) <> 0
		) AS s
		INNER JOIN ringfence.ledger_period_ends(org) AS p ON p.org_id = s.org_id AND s.period < cardinality(p.ends)
		WINDOW running AS (PARTITION BY s.org_id, s.account_id ORDER BY s.period)
	) AS m
	FULL JOIN (
		SELECT b.org_id, b.account_id, b.closed_before, b.debits, b.credits
		FROM ringfence_data.ledger_closing_balances AS b
		WHERE org IS NULL OR b.org_id = org
	) AS c ON c.org_id = m.org_id AND c.account_id = m.account_id AND c.closed_before = m.closed_before
	LEFT JOIN accounts AS a ON a.org_id = coalesce(m.org_id, c.org_id) AND a.id = coalesce(m.account_id, c.account_id)
	WHERE (m.debits, m.credits) IS DISTINCT FROM (c.debits, c.credits)
	UNION ALL
	SELECT f.org_id, f.code, f.object, f.detail
	FROM (SELECT sum(r.flaws) AS flaws FROM recount AS r) AS n
	CROSS JOIN LATERAL ringfence.ledger_flawed_transfers(org) AS f
	WHERE n.flaws > 0;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_verify_accounts(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_verify_accounts(uuid)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_verify_accounts(uuid) IS
	'checks of ledger_verify(): balances, holds, limits and closing balances are what transfers make them';

CREATE FUNCTION ringfence.ledger_verify_links(org uuid)
RETURNS TABLE (org_id uuid, code text, object text, detail text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
	RETURN QUERY
	SELECT r.org_id, 'resolution_wrong', format('transfer %s', r.id),
		CASE
			WHEN h.id IS NULL THEN format('it resolves %s, which is not there', r.pending_id)
			WHEN h.state <> 'pending' THEN format('it resolves %s, which is not pending', r.pending_id)
			WHEN r.amount > h.amount THEN format('it posts %s of %s, which is more than %s holds', r.amount, h.amount, r.pending_id)
			ELSE format('it resolves %s, which is of other accounts, another asset or another amount', r.pending_id)
		END
	FROM ringfence_data.ledger_transfers AS r
	LEFT JOIN ringfence_data.ledger_transfers AS h ON h.org_id = r.org_id AND h.id = r.pending_id
	WHERE r.pending_id IS NOT NULL AND (org IS NULL OR r.org_id = org)
		AND (h.state IS DISTINCT FROM 'pending' OR r.amount > h.amount OR (r.state <> 'posted' AND r.amount <> h.amount)
			OR (r.debit_account_id, r.credit_account_id, r.asset) <> (h.debit_account_id, h.credit_account_id, h.asset))
	UNION ALL
	SELECT r.org_id, 'resolution_repeated', format('transfer %s', r.pending_id),
		format('%s transfers resolve it', count(*))
	FROM ringfence_data.ledger_transfers AS r
	WHERE r.pending_id IS NOT NULL AND (org IS NULL OR r.org_id = org)
	GROUP BY r.org_id, r.pending_id
	HAVING count(*) > 1
	UNION ALL
	SELECT r.org_id, 'reversal_wrong', format('transfer %s', r.id),
		CASE
			WHEN o.id IS NULL THEN format('it reverses %s, which is not there', r.reverses_id)
			ELSE format('it reverses %s, and is not the same the other way round', r.reverses_id)
		END
	FROM ringfence_data.ledger_transfers AS r
	LEFT JOIN ringfence_data.ledger_transfers AS o ON o.org_id = r.org_id AND o.id = r.reverses_id
	WHERE r.reverses_id IS NOT NULL AND (org IS NULL OR r.org_id = org)
		AND (o.id IS NULL OR o.state <> 'posted' OR o.reverses_id IS NOT NULL
			OR (r.debit_account_id, r.credit_account_id, r.asset, r.amount)
				<> (o.credit_account_id, o.debit_account_id, o.asset, o.amount))
	UNION ALL
	SELECT r.org_id, 'reversal_repeated', format('transfer %s', r.reverses_id),
		format('%s transfers reverse it', count(*))
	FROM ringfence_data.ledger_transfers AS r
	WHERE r.reverses_id IS NOT NULL AND (org IS NULL OR r.org_id = org)
	GROUP BY r.org_id, r.reverses_id
	HAVING count(*) > 1
	UNION ALL
	SELECT h.org_id, 'hold_wrong', format('hold %s', h.id),
		CASE
			WHEN t.id IS NULL THEN 'its transfer is not there'
			WHEN r.id IS NOT NULL THEN format('%s resolved it already', r.id)
			ELSE 'it is not what its transfer says'
		END
	FROM ringfence_data.ledger_holds AS h
	LEFT JOIN ringfence_data.ledger_transfers AS t ON t.org_id = h.org_id AND t.id = h.id
	LEFT JOIN ringfence_data.ledger_transfers AS r ON r.org_id = h.org_id AND r.pending_id = h.id
	WHERE (org IS NULL OR h.org_id = org)
		AND (r.id IS NOT NULL OR t.state IS DISTINCT FROM 'pending' OR t.expires_at IS DISTINCT FROM h.expires_at
			OR (t.debit_account_id, t.credit_account_id, t.amount) <> (h.debit_account_id, h.credit_account_id, h.amount));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_verify_links(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_verify_links(uuid)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_verify_links(uuid) IS
	'checks of ledger_verify(): what resolves a pending transfer or reverses another goes with it, and holds are those that nothing resolved';

CREATE FUNCTION ringfence.ledger_verify(org uuid DEFAULT NULL)
RETURNS TABLE (org_id uuid, code text, object text, detail text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	whose CONSTANT uuid := ringfence.ledger_scope(org);
BEGIN
	RETURN QUERY
	SELECT f.org_id, f.code, f.object, f.detail
	FROM (
		SELECT NULL::uuid AS org_id, d.code, d.object, d.message AS detail FROM ringfence.ledger_defences() AS d
		UNION ALL
		SELECT a.org_id, a.code, a.object, a.detail FROM ringfence.ledger_verify_accounts(whose) AS a
		UNION ALL
		SELECT l.org_id, l.code, l.object, l.detail FROM ringfence.ledger_verify_links(whose) AS l
		UNION ALL
		SELECT b.org_id, b.code, b.object, b.detail FROM ringfence.ledger_verify_blocks(whose) AS b
	) AS f
	ORDER BY f.org_id NULLS FIRST, f.code, f.object;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_verify(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_verify(uuid)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_verify(uuid) IS
	'what doesn''t add up in the ledger of an organization, or of all: everything reckoned anew from its transfers, and what guards its tables (without an organization); no row where all is well; for a nightly job, after SET ROLE ringfence_jobs; 42501 where row security would hide rows from the caller; doc/ledger.md has the codes';
