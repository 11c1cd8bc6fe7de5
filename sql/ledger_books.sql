-- Books of the ledger: balances now and at a moment, statements, the trial
-- balance, the closing of periods. All but close_period() read with the caller's
-- rights. What an account had turned over is reckoned from the nearest of what is
-- known, the last closing balance before or the balance of now, so that the
-- transfers between are all that is read. All of a query is of one snapshot.

CREATE FUNCTION ringfence.normal_balance(kind text, debits bigint, credits bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE WHEN kind IN ('asset', 'expense') THEN debits - credits ELSE credits - debits END;
REVOKE EXECUTE ON FUNCTION ringfence.normal_balance(text, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.normal_balance(text, bigint, bigint)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.normal_balance(text, bigint, bigint) IS
	'the balance of an account of that kind: debits less credits for asset and expense, credits less debits for liability, equity and revenue';

CREATE FUNCTION ringfence.ledger_day(moment timestamptz) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (moment AT TIME ZONE 'UTC')::date;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_day(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_day(timestamptz)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.ledger_day(timestamptz) IS
	'the day of a moment in UTC, as posted_on of ledger_transfers has it: what is posted from one moment to another lies between their days';

CREATE FUNCTION ringfence.ledger_account_kind(org uuid, account uuid) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_kind text;
BEGIN
	SELECT a.kind INTO found_kind
	FROM ringfence_data.ledger_accounts AS a
	WHERE a.org_id = org AND a.id = account;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account "%" does not exist', account USING ERRCODE = 'PT404';
	END IF;
	RETURN found_kind;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_account_kind(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_account_kind(uuid, uuid)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_account_kind(uuid, uuid) IS
	'the kind of an account; PT404 if there is none that the caller may see; for balance() and statement()';

CREATE FUNCTION ringfence.ledger_turnover(
	org uuid,
	account uuid,
	before timestamptz,
	OUT debits bigint,
	OUT credits bigint
) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	closing record;
	opened_at timestamptz;
	first timestamptz;
	past timestamptz;
	direction integer := 1;
BEGIN
	SELECT c.closed_before, c.debits, c.credits INTO closing
	FROM ringfence_data.ledger_closing_balances AS c
	WHERE c.org_id = org AND c.account_id = account AND c.closed_before <= before
	ORDER BY c.closed_before DESC
	LIMIT 1;
	SELECT a.created_at INTO opened_at
	FROM ringfence_data.ledger_accounts AS a
	WHERE a.org_id = org AND a.id = account;

	-- Numbers, since infinities can't be subtracted.
	IF 2 * extract(epoch FROM before)
		> extract(epoch FROM coalesce(closing.closed_before, opened_at)) + extract(epoch FROM now()) THEN
		SELECT coalesce(sum(b.debits), 0), coalesce(sum(b.credits), 0) INTO debits, credits
		FROM ringfence_data.ledger_balances AS b
		WHERE b.org_id = org AND b.account_id = account;
		direction := -1;
		first := before;
		past := 'infinity';
	ELSE
		debits := coalesce(closing.debits, 0);
		credits := coalesce(closing.credits, 0);
		first := coalesce(closing.closed_before, '-infinity');
		past := before;
	END IF;
	debits := debits + direction * (
		SELECT coalesce(sum(t.amount), 0)
		FROM ringfence_data.ledger_transfers AS t
		WHERE t.org_id = org AND t.debit_account_id = account AND t.state = 'posted'
			AND t.posted_on BETWEEN ringfence.ledger_day(first) AND ringfence.ledger_day(past)
			AND t.posted_at >= first AND t.posted_at < past
	);
	credits := credits + direction * (
		SELECT coalesce(sum(t.amount), 0)
		FROM ringfence_data.ledger_transfers AS t
		WHERE t.org_id = org AND t.credit_account_id = account AND t.state = 'posted'
			AND t.posted_on BETWEEN ringfence.ledger_day(first) AND ringfence.ledger_day(past)
			AND t.posted_at >= first AND t.posted_at < past
	);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_turnover(uuid, uuid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_turnover(uuid, uuid, timestamptz)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_turnover(uuid, uuid, timestamptz) IS
	'what was posted to an account before a moment, in minor units; for balance() and statement()';

CREATE FUNCTION ringfence.balance(account uuid, at timestamptz DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.ledger_org();
	kind CONSTANT text := ringfence.ledger_account_kind(org, account);
	debits bigint;
	credits bigint;
BEGIN
	IF at IS NULL THEN
		SELECT sum(b.debits), sum(b.credits) INTO debits, credits
		FROM ringfence_data.ledger_balances AS b
		WHERE b.org_id = org AND b.account_id = account;
	ELSE
		SELECT t.debits, t.credits INTO debits, credits
		FROM ringfence.ledger_turnover(org, account, at + interval '1 microsecond') AS t;
	END IF;
	RETURN ringfence.normal_balance(kind, debits, credits);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.balance(uuid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.balance(uuid, timestamptz)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.balance(uuid, timestamptz) IS
	'the balance of an account in minor units, now or by what was posted up to and at a moment: debits less credits for asset and expense, credits less debits for the others; PT404 for an account that the caller may not see, 42501 without an organization';

CREATE FUNCTION ringfence.available(account uuid) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.ledger_org();
	left_over bigint;
BEGIN
	SELECT ringfence.normal_balance(a.kind, sum(b.debits)::bigint, sum(b.credits)::bigint)
		- CASE WHEN a.kind IN ('asset', 'expense') THEN sum(b.credits_pending) ELSE sum(b.debits_pending) END
		+ a.credit_limit
	INTO left_over
	FROM ringfence_data.ledger_accounts AS a
	INNER JOIN ringfence_data.ledger_balances AS b ON b.org_id = a.org_id AND b.account_id = a.id
	WHERE a.org_id = org AND a.id = account
	GROUP BY a.kind, a.credit_limit;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account "%" does not exist', account USING ERRCODE = 'PT404';
	END IF;
	RETURN left_over;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.available(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.available(uuid)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.available(uuid) IS
	'what can leave an account now, in minor units: its balance, less what pending transfers hold of it, and its credit limit; less than 0 only for one that may be overdrawn; PT404 for an account that the caller may not see, 42501 without an organization';

-- No index but the accounts' has the day; but what was posted from a moment on was
-- not recorded before it either.
CREATE FUNCTION ringfence.ledger_moved(
	org uuid,
	first timestamptz,
	past timestamptz,
	OUT account_id uuid,
	OUT debits numeric,
	OUT credits numeric
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
	RETURN QUERY
	SELECT m.account_id, sum(m.debit), sum(m.credit)
	FROM (
		SELECT t.debit_account_id AS account_id, t.amount AS debit, 0 AS credit
		FROM ringfence_data.ledger_transfers AS t
		WHERE t.org_id = org AND t.state = 'posted' AND t.recorded_at >= first
			AND t.posted_on BETWEEN ringfence.ledger_day(first) AND ringfence.ledger_day(past)
			AND t.posted_at >= first AND t.posted_at < past
		UNION ALL
		SELECT t.credit_account_id, 0, t.amount
		FROM ringfence_data.ledger_transfers AS t
		WHERE t.org_id = org AND t.state = 'posted' AND t.recorded_at >= first
			AND t.posted_on BETWEEN ringfence.ledger_day(first) AND ringfence.ledger_day(past)
			AND t.posted_at >= first AND t.posted_at < past
	) AS m
	GROUP BY m.account_id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_moved(uuid, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_moved(uuid, timestamptz, timestamptz)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_moved(uuid, timestamptz, timestamptz) IS
	'what was posted to each account from a moment on, before another, in minor units; for ledger_turnovers()';

CREATE FUNCTION ringfence.ledger_turnovers(
	org uuid,
	before timestamptz,
	OUT account_id uuid,
	OUT debits bigint,
	OUT credits bigint
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	closed_before CONSTANT timestamptz := (
		SELECT max(p.closed_before)
		FROM ringfence_data.ledger_periods AS p
		WHERE p.org_id = org AND p.closed_before <= before
	);
	first CONSTANT timestamptz := coalesce(closed_before, (
		SELECT min(a.created_at) FROM ringfence_data.ledger_accounts AS a WHERE a.org_id = org
	));
BEGIN
	IF before = 'infinity' THEN
		RETURN QUERY
		SELECT b.account_id, sum(b.debits)::bigint, sum(b.credits)::bigint
		FROM ringfence_data.ledger_balances AS b
		WHERE b.org_id = org
		GROUP BY b.account_id;
	-- Numbers, since infinities can't be subtracted.
	ELSIF 2 * extract(epoch FROM before) > extract(epoch FROM first) + extract(epoch FROM now()) THEN
		RETURN QUERY
		SELECT b.account_id,
			(sum(b.debits) - coalesce(min(m.debits), 0))::bigint,
			(sum(b.credits) - coalesce(min(m.credits), 0))::bigint
		FROM ringfence_data.ledger_balances AS b
		LEFT JOIN ringfence.ledger_moved(org, before, 'infinity') AS m ON m.account_id = b.account_id
		WHERE b.org_id = org
		GROUP BY b.account_id;
	ELSE
		RETURN QUERY
		SELECT a.id,
			(coalesce(c.debits, 0) + coalesce(m.debits, 0))::bigint,
			(coalesce(c.credits, 0) + coalesce(m.credits, 0))::bigint
		FROM ringfence_data.ledger_accounts AS a
		LEFT JOIN LATERAL (
			SELECT l.debits, l.credits
			FROM ringfence_data.ledger_closing_balances AS l
			WHERE l.org_id = a.org_id AND l.account_id = a.id AND l.closed_before <= before
			ORDER BY l.closed_before DESC
			LIMIT 1
		) AS c ON true
		LEFT JOIN ringfence.ledger_moved(org, coalesce(closed_before, '-infinity'), before) AS m ON m.account_id = a.id
		WHERE a.org_id = org;
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_turnovers(uuid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_turnovers(uuid, timestamptz)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_turnovers(uuid, timestamptz) IS
	'what was posted to each account before a moment, in minor units; for trial_balance() and close_period()';

CREATE FUNCTION ringfence.ledger_entries(account uuid, begins timestamptz, ends timestamptz)
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
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.ledger_org();
	account_kind CONSTANT text := ringfence.ledger_account_kind(org, account);
	first CONSTANT timestamptz := coalesce(begins, '-infinity');
	past CONSTANT timestamptz := coalesce(ends, 'infinity');
	opening bigint := 0;
BEGIN
	IF begins IS NOT NULL THEN
		SELECT ringfence.normal_balance(account_kind, o.debits, o.credits) INTO opening
		FROM ringfence.ledger_turnover(org, account, first) AS o;
	END IF;
	RETURN QUERY
	SELECT e.posted_at, e.id, e.kind, e.counterparty_id, e.debit, e.credit,
		(opening + sum(ringfence.normal_balance(account_kind, coalesce(e.debit, 0), coalesce(e.credit, 0)))
			OVER (ORDER BY e.posted_on, e.posted_at, e.id ROWS UNBOUNDED PRECEDING))::bigint,
		e.reference, e.metadata
	FROM (
		SELECT t.posted_on, t.posted_at, t.id, t.kind, t.credit_account_id AS counterparty_id,
			t.amount AS debit, NULL::bigint AS credit, t.reference, t.metadata
		FROM ringfence_data.ledger_transfers AS t
		WHERE t.org_id = org AND t.debit_account_id = account AND t.state = 'posted'
			AND t.posted_on BETWEEN ringfence.ledger_day(first) AND ringfence.ledger_day(past)
			AND t.posted_at >= first AND t.posted_at < past
		UNION ALL
		SELECT t.posted_on, t.posted_at, t.id, t.kind, t.debit_account_id,
			NULL::bigint, t.amount, t.reference, t.metadata
		FROM ringfence_data.ledger_transfers AS t
		WHERE t.org_id = org AND t.credit_account_id = account AND t.state = 'posted'
			AND t.posted_on BETWEEN ringfence.ledger_day(first) AND ringfence.ledger_day(past)
			AND t.posted_at >= first AND t.posted_at < past
	) AS e
	-- The day comes first since the indexes are sorted by it already.
	ORDER BY e.posted_on, e.posted_at, e.id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_entries(uuid, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_entries(uuid, timestamptz, timestamptz)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_entries(uuid, timestamptz, timestamptz) IS
	'what statement() returns; its parameters have names that are no keywords';

CREATE FUNCTION ringfence.statement(account uuid, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL)
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
LANGUAGE sql STABLE PARALLEL RESTRICTED COST 1000
BEGIN ATOMIC
	SELECT e.posted_at, e.transfer_id, e.kind, e.counterparty_id, e.debit, e.credit, e.balance, e.reference, e.metadata
	FROM ringfence.ledger_entries(account, "from", "to") AS e;
END;
REVOKE EXECUTE ON FUNCTION ringfence.statement(uuid, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.statement(uuid, timestamptz, timestamptz)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.statement(uuid, timestamptz, timestamptz) IS
	'what was posted to an account, oldest first, in minor units: from a moment on ("from"; NULL for the beginning) and before another ("to"; NULL for no end), each with the balance after it, and with debit or credit NULL; nothing of pending transfers; PT404 for an account that the caller may not see, 42501 without an organization';

-- To whom row security would show nothing, nothing would seem to be all there is.
CREATE FUNCTION ringfence.ledger_scope(org uuid) RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT row_security_active('ringfence_data.ledger_transfers') THEN
		RETURN org;
	ELSIF ringfence.org_id() IS NULL OR org <> ringfence.org_id()
		OR NOT (pg_has_role('ringfence_owner', 'USAGE') OR pg_has_role('ringfence_operator', 'USAGE')) THEN
		RAISE EXCEPTION 'permission denied for the ledger'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = format('Row security hides rows of it from role "%s".', current_user),
			HINT = 'SET ROLE ringfence_jobs, or enter the organization as an operator.';
	END IF;
	RETURN ringfence.org_id();
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_scope(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_scope(uuid) TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_scope(uuid) IS
	'that organization, or NULL for all, if the caller sees all of it, and the context''s for who is held to that by row security; 42501; for trial_balance() and ledger_verify()';

CREATE FUNCTION ringfence.trial_balance(org uuid DEFAULT ringfence.org_id(), at timestamptz DEFAULT NULL)
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
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1000
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	whose CONSTANT uuid := coalesce(ringfence.ledger_scope(org), ringfence.ledger_org());
BEGIN
	RETURN QUERY
	SELECT a.asset, a.id, a.code, a.name, a.kind, t.debits, t.credits,
		ringfence.normal_balance(a.kind, t.debits, t.credits)
	FROM ringfence_data.ledger_accounts AS a
	-- Later than any transfer can be is now, and costs only the balances.
	INNER JOIN ringfence.ledger_turnovers(whose, coalesce(at + interval '1 microsecond', 'infinity')) AS t
		ON t.account_id = a.id
	WHERE a.org_id = whose
	ORDER BY a.asset, a.code;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.trial_balance(uuid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.trial_balance(uuid, timestamptz)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.trial_balance(uuid, timestamptz) IS
	'what each account of an organization has turned over, in minor units, and its balance, now or by what was posted up to and at a moment: debits and credits of an asset add up to the same; 42501 without an organization, and for another than the context''s unless row security doesn''t hold for the caller';

-- Balances before the period: ledger_turnovers() would start from the period if it
-- were there.
CREATE FUNCTION ringfence.close_period(before date) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.ledger_org();
	past timestamptz;
	closed_before timestamptz;
BEGIN
	IF before IS NULL THEN
		RAISE EXCEPTION 'a date must be given' USING ERRCODE = 'null_value_not_allowed';
	ELSIF NOT isfinite(before) THEN
		RAISE EXCEPTION 'books cannot be closed before %', before USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT before::timestamp AT TIME ZONE coalesce(o.settings ->> 'time_zone', 'UTC') INTO past
	FROM ringfence_data.orgs AS o
	WHERE o.id = org;

	PERFORM ringfence.ledger_lock(org);
	IF past > clock_timestamp() THEN
		RAISE EXCEPTION 'books cannot be closed before %', before
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('%s is in the future.', past);
	END IF;
	SELECT max(p.closed_before) INTO closed_before
	FROM ringfence_data.ledger_periods AS p
	WHERE p.org_id = org;
	IF past = closed_before THEN
		RETURN past;
	ELSIF past < closed_before THEN
		RAISE EXCEPTION 'books are closed already up to a later date than %', before
			USING ERRCODE = 'PT409', DETAIL = format('They are closed before %s.', closed_before);
	END IF;

	INSERT INTO ringfence_data.ledger_closing_balances (org_id, closed_before, account_id, debits, credits)
	SELECT org, past, t.account_id, t.debits, t.credits
	FROM ringfence.ledger_turnovers(org, past) AS t
	LEFT JOIN LATERAL (
		SELECT c.debits, c.credits
		FROM ringfence_data.ledger_closing_balances AS c
		WHERE c.org_id = org AND c.account_id = t.account_id
		ORDER BY c.closed_before DESC
		LIMIT 1
	) AS c ON true
	WHERE (t.debits, t.credits) <> (coalesce(c.debits, 0), coalesce(c.credits, 0));
	INSERT INTO ringfence_data.ledger_periods (org_id, closed_before, closed_at, closed_by)
	VALUES (org, past, clock_timestamp(), ringfence.user_id());
	RETURN past;
END
$$;
ALTER FUNCTION ringfence.close_period(date) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.close_period(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.close_period(date) TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.close_period(date) IS
	'closes the books of the organization of the context before a date, so that nothing is posted there any more, and returns the instant: midnight in the time zone of the organization''s settings (time_zone; UTC); nothing happens if it is closed before that date already; waits for transfers that are being posted; 22004, 22023 for a date in the future, 25000 under REPEATABLE READ and above, 42501, PT409 if it is closed before a later date';
