-- Reports: what an organization took, what it owes the tax office, what it is
-- owed, what its people did. Amounts are integers in minor units, one currency a
-- row. A day is a day in the organization's time zone. They read with the
-- caller's rights and write nothing, so that they run on a replica too.

CREATE INDEX invoices_issue_date_idx ON cleaning.invoices (org_id, issue_date, number);
CREATE INDEX bookings_starts_at_idx ON cleaning.bookings (org_id, starts_at);

CREATE FUNCTION cleaning.day_of(moment timestamptz, zone text) RETURNS date
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (moment AT TIME ZONE zone)::date;
REVOKE EXECUTE ON FUNCTION cleaning.day_of(timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.day_of(timestamptz, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.day_of(timestamptz, text) IS 'the day that a moment is on, as a zone counts it';

CREATE FUNCTION cleaning.period_start(day date, period text, since date) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN period = 'all' THEN since ELSE date_trunc(period, day::timestamp)::date END;
REVOKE EXECUTE ON FUNCTION cleaning.period_start(date, text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.period_start(date, text, date) TO ringfence_member;
COMMENT ON FUNCTION cleaning.period_start(date, text, date) IS
	'the first day of the month or quarter that a day is in; of the period "all" the day given';

-- In whole numbers: a division of numerics has an end, and may round up to a half.
CREATE FUNCTION cleaning.share(part bigint, whole bigint, amount bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN part = 0 THEN 0
	WHEN part = whole THEN amount
	ELSE sign(amount::numeric) * div(2 * part::numeric * abs(amount::numeric) + whole, 2 * whole::numeric)
END::bigint;
REVOKE EXECUTE ON FUNCTION cleaning.share(bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.share(bigint, bigint, bigint) TO ringfence_member;
COMMENT ON FUNCTION cleaning.share(bigint, bigint, bigint) IS
	'amount * part / whole, rounded to a whole number, halves away from zero; 0 of nothing. A larger amount never has a smaller share, and the whole amount has the whole part';

CREATE FUNCTION cleaning.refuse_report("from" date, "to" date) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.org_id() IS NULL THEN
		RAISE EXCEPTION 'no organization is set for this transaction' USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF NOT ringfence.has_role('owner', 'admin', 'finance') THEN
		RAISE EXCEPTION 'not allowed to read reports'
			USING ERRCODE = 'insufficient_privilege', DETAIL = 'Owner, admin and finance are.';
	END IF;
	IF "from" IS NULL OR "to" IS NULL THEN
		RAISE EXCEPTION 'from and to are needed' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF "from" > "to" THEN
		RAISE EXCEPTION 'from is after to' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF "from" < '0001-01-01' OR "to" > '9999-12-31' THEN
		RAISE EXCEPTION 'day is not of the years 1 to 9999' USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.refuse_report(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.refuse_report(date, date) TO ringfence_member;
COMMENT ON FUNCTION cleaning.refuse_report(date, date) IS
	'refuses a report: 42501 to all but owner, admin and finance, 22004 and 22023 for days that make no range';

CREATE FUNCTION cleaning.refuse_basis(basis text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF basis IN ('accrual', 'cash') IS NOT TRUE THEN
		RAISE EXCEPTION 'basis is accrual or cash' USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.refuse_basis(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.refuse_basis(text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.refuse_basis(text) IS 'refuses (22023) a basis that is neither accrual nor cash';

-- What was paid on an invoice by the start and by the end of each period in which
-- money moved on it. It is counted back from what the invoice says today, so that
-- payments which retention has taken away are not missed.
CREATE FUNCTION cleaning.receipts("from" date, "to" date, period text, zone text)
RETURNS TABLE (
	invoice_id uuid, currency text, period_start date, net_minor bigint, gst_minor bigint, total_minor bigint,
	held_before bigint, held_after bigint, refunded_before bigint, refunded_after bigint
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH moved AS (
		SELECT p.invoice_id,
			CASE WHEN cleaning.day_of(p.created_at, receipts.zone) <= receipts."to"
				THEN cleaning.period_start(cleaning.day_of(p.created_at, receipts.zone), receipts.period, receipts."from") END AS period_start,
			sum(CASE p.kind WHEN 'refund' THEN -p.amount_minor ELSE p.amount_minor END)::bigint AS held,
			sum(CASE p.kind WHEN 'refund' THEN p.amount_minor ELSE 0 END)::bigint AS refunded
		FROM cleaning.payments AS p
		WHERE p.org_id = ringfence.org_id()
			AND p.created_at >= ringfence.day_start(receipts.zone, receipts."from" - 1)
			AND cleaning.day_of(p.created_at, receipts.zone) >= receipts."from"
		GROUP BY 1, 2
	), counted AS (
		SELECT m.invoice_id, m.period_start, m.held, m.refunded,
			coalesce(sum(m.held) OVER later, 0)::bigint AS held_later,
			coalesce(sum(m.refunded) OVER later, 0)::bigint AS refunded_later
		FROM moved AS m
		WINDOW later AS (PARTITION BY m.invoice_id ORDER BY m.period_start DESC NULLS FIRST
			ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
	)
	SELECT c.invoice_id, i.currency, c.period_start, i.net_minor, i.gst_minor, i.total_minor,
		i.paid_minor - i.refunded_minor - c.held_later - c.held,
		i.paid_minor - i.refunded_minor - c.held_later,
		i.refunded_minor - c.refunded_later - c.refunded,
		i.refunded_minor - c.refunded_later
	FROM counted AS c
	INNER JOIN cleaning.invoices AS i ON i.org_id = ringfence.org_id() AND i.id = c.invoice_id
	WHERE c.period_start IS NOT NULL;
END;
REVOKE EXECUTE ON FUNCTION cleaning.receipts(date, date, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.receipts(date, date, text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.receipts(date, date, text, text) IS
	'of each invoice and period (month, quarter, all) in which money moved on it: what was held (payments and deposits less refunds) and refunded before and after, minor units; for reports';

-- gst_report() by issue date: a sum over invoice lines.
CREATE FUNCTION cleaning.gst_invoiced("from" date, "to" date, period text)
RETURNS TABLE (currency text, period_start date, gst_rate numeric, invoices bigint, net_minor bigint, gst_minor bigint)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT i.currency, cleaning.period_start(i.issue_date, gst_invoiced.period, gst_invoiced."from"), t.gst_rate,
		count(DISTINCT i.id), sum(t.net_minor)::bigint, sum(t.gst_minor)::bigint
	FROM cleaning.invoices AS i
	INNER JOIN cleaning.invoice_items AS t ON t.org_id = i.org_id AND t.invoice_id = i.id
	WHERE i.org_id = ringfence.org_id() AND t.org_id = ringfence.org_id()
		AND i.issue_date BETWEEN gst_invoiced."from" AND gst_invoiced."to"
	GROUP BY 1, 2, 3;
END;
REVOKE EXECUTE ON FUNCTION cleaning.gst_invoiced(date, date, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.gst_invoiced(date, date, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.gst_invoiced(date, date, text) IS 'what was invoiced, by currency, period and GST rate; for gst_report()';

-- gst_report() by the day on which money moved. Of C received on an invoice,
-- share(gst, total, C) is GST and the rest is net; each is split among the rates of
-- the invoice, lowest first, by shares of running sums. So every sum comes out
-- exactly, a period is the difference of two such figures, and all of an invoice
-- received is all of its GST.
CREATE FUNCTION cleaning.gst_received("from" date, "to" date, period text, zone text)
RETURNS TABLE (currency text, period_start date, gst_rate numeric, invoices bigint, net_minor bigint, gst_minor bigint)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH received AS (
		SELECT r.invoice_id, r.currency, r.period_start, r.net_minor, r.gst_minor, r.held_before, r.held_after,
			cleaning.share(r.gst_minor, r.total_minor, r.held_before) AS gst_before,
			cleaning.share(r.gst_minor, r.total_minor, r.held_after) AS gst_after
		FROM cleaning.receipts(gst_received."from", gst_received."to", gst_received.period, gst_received.zone) AS r
	), rates AS (
		SELECT t.invoice_id, t.gst_rate, sum(t.net_minor)::bigint AS net, sum(t.gst_minor)::bigint AS gst
		FROM cleaning.invoice_items AS t
		WHERE t.org_id = ringfence.org_id() AND t.invoice_id IN (SELECT r.invoice_id FROM received AS r)
		GROUP BY t.invoice_id, t.gst_rate
	), running AS (
		SELECT r.invoice_id, r.gst_rate, r.net, r.gst,
			sum(r.net) OVER so_far::bigint AS net_upto, sum(r.gst) OVER so_far::bigint AS gst_upto
		FROM rates AS r
		WINDOW so_far AS (PARTITION BY r.invoice_id ORDER BY r.gst_rate)
	)
	SELECT r.currency, r.period_start, s.gst_rate, count(*),
		sum(cleaning.share(s.net_upto, r.net_minor, r.held_after - r.gst_after)
			- cleaning.share(s.net_upto - s.net, r.net_minor, r.held_after - r.gst_after)
			- cleaning.share(s.net_upto, r.net_minor, r.held_before - r.gst_before)
			+ cleaning.share(s.net_upto - s.net, r.net_minor, r.held_before - r.gst_before))::bigint,
		sum(cleaning.share(s.gst_upto, r.gst_minor, r.gst_after)
			- cleaning.share(s.gst_upto - s.gst, r.gst_minor, r.gst_after)
			- cleaning.share(s.gst_upto, r.gst_minor, r.gst_before)
			+ cleaning.share(s.gst_upto - s.gst, r.gst_minor, r.gst_before))::bigint
	FROM received AS r
	INNER JOIN running AS s ON s.invoice_id = r.invoice_id
	GROUP BY 1, 2, 3;
END;
REVOKE EXECUTE ON FUNCTION cleaning.gst_received(date, date, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.gst_received(date, date, text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.gst_received(date, date, text, text) IS 'what was received less what was refunded, by currency, period and GST rate; for gst_report()';

CREATE FUNCTION cleaning_v1.gst_report("from" date, "to" date, basis text DEFAULT 'accrual', period text DEFAULT 'month')
RETURNS TABLE (
	currency text, period_start date, gst_rate numeric, invoices bigint, net_minor bigint, gst_minor bigint, total_minor bigint
)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone CONSTANT text := cleaning.time_zone();
BEGIN
	PERFORM cleaning.refuse_report(gst_report."from", gst_report."to");
	PERFORM cleaning.refuse_basis(gst_report.basis);
	IF gst_report.period IN ('month', 'quarter', 'all') IS NOT TRUE THEN
		RAISE EXCEPTION 'period is month, quarter or all' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF gst_report.basis = 'accrual' THEN
		RETURN QUERY
		SELECT g.currency, g.period_start, g.gst_rate, g.invoices, g.net_minor, g.gst_minor, g.net_minor + g.gst_minor
		FROM cleaning.gst_invoiced(gst_report."from", gst_report."to", gst_report.period) AS g
		ORDER BY 1, 2, 3;
	ELSE
		RETURN QUERY
		SELECT g.currency, g.period_start, g.gst_rate, g.invoices, g.net_minor, g.gst_minor, g.net_minor + g.gst_minor
		FROM cleaning.gst_received(gst_report."from", gst_report."to", gst_report.period, zone) AS g
		ORDER BY 1, 2, 3;
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning_v1.gst_report(date, date, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.gst_report(date, date, text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.gst_report(date, date, text, text) IS 'GST invoiced or received
For owner, admin and finance. A row for each currency, period and GST rate that has anything, in this order. from and to are the first and the last day, in the organization''s time zone. period is month (by default), quarter or all; period_start is its first day, also where from is later, and of all it is from. Amounts are integers in minor units.
basis accrual (by default): invoices is the number of invoices issued in the period with a line of that rate; net_minor and gst_minor are the sums of those lines, as rounded on each.
basis cash: invoices is the number of invoices on which money moved in the period; net_minor and gst_minor are what came in as payments and deposits less what went out as refunds. Of what an invoice has received by a moment, received * gst / total is GST, rounded to a whole minor unit, halves away from zero, and the rest is net; several rates share both in proportion, lowest rate first, each rounded on the running sum. A period has what there is at its end less what there was at its start. So total_minor is exactly what was received, periods add up, and an invoice paid in full has brought in exactly its GST.
total_minor is net_minor + gst_minor. 403 another role; 400 a day missing or out of the years 1 to 9999, from after to, no such basis or period.';

-- What the workers of a booking's team cost for it.
CREATE FUNCTION cleaning.labour("from" date, "to" date, zone text)
RETURNS TABLE (currency text, month date, labour_minor bigint, unrated_workers bigint, unstaffed_bookings bigint)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH done AS (
		SELECT b.team_id, cleaning.day_of(b.starts_at, labour.zone) AS day,
			(extract(epoch FROM b.ends_at - b.starts_at) * 1000000)::bigint AS microseconds,
			coalesce(i.currency, cleaning.setting('currency')) AS currency
		FROM cleaning.bookings AS b
		LEFT JOIN cleaning.invoices AS i ON i.org_id = ringfence.org_id() AND i.booking_id = b.id
		WHERE b.org_id = ringfence.org_id() AND b.status IN ('done', 'disputed')
			AND b.starts_at >= ringfence.day_start(labour.zone, labour."from" - 1)
			AND b.starts_at < ringfence.day_start(labour.zone, labour."to" + 2)
			AND cleaning.day_of(b.starts_at, labour.zone) BETWEEN labour."from" AND labour."to"
	), rates AS (
		SELECT r.worker_id, r.rate_minor, r.currency, r.valid_from,
			lead(r.valid_from) OVER (PARTITION BY r.worker_id ORDER BY r.valid_from) AS valid_until
		FROM cleaning.worker_rates AS r
		WHERE r.org_id = ringfence.org_id()
	)
	SELECT coalesce(r.currency, d.currency), date_trunc('month', d.day::timestamp)::date,
		coalesce(sum(cleaning.share(r.rate_minor, 3600000000, d.microseconds)), 0)::bigint,
		count(DISTINCT w.id) FILTER (WHERE r.worker_id IS NULL),
		count(*) FILTER (WHERE w.id IS NULL)
	FROM done AS d
	LEFT JOIN cleaning.workers AS w ON w.org_id = ringfence.org_id() AND w.team_id = d.team_id
	LEFT JOIN rates AS r
		ON r.worker_id = w.id AND r.valid_from <= d.day AND (r.valid_until > d.day OR r.valid_until IS NULL)
	GROUP BY 1, 2;
END;
REVOKE EXECUTE ON FUNCTION cleaning.labour(date, date, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.labour(date, date, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.labour(date, date, text) IS 'what work on done bookings cost, by currency and month; for pnl_report()';

CREATE FUNCTION cleaning_v1.pnl_report("from" date, "to" date, basis text DEFAULT 'accrual')
RETURNS TABLE (
	currency text, month date, revenue_minor bigint, refunds_minor bigint, credits_minor bigint, labour_minor bigint,
	profit_minor bigint, unrated_workers bigint, unstaffed_bookings bigint
)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone CONSTANT text := cleaning.time_zone();
BEGIN
	PERFORM cleaning.refuse_report(pnl_report."from", pnl_report."to");
	PERFORM cleaning.refuse_basis(pnl_report.basis);
	RETURN QUERY
	WITH moved AS MATERIALIZED (
		SELECT r.currency, r.period_start,
			(r.held_after - cleaning.share(r.gst_minor, r.total_minor, r.held_after))
				- (r.held_before - cleaning.share(r.gst_minor, r.total_minor, r.held_before)) AS held,
			cleaning.share(r.net_minor, r.total_minor, r.refunded_after)
				- cleaning.share(r.net_minor, r.total_minor, r.refunded_before) AS refunded
		FROM cleaning.receipts(pnl_report."from", pnl_report."to", 'month', zone) AS r
	), parts (currency, month, revenue, refunds, credits, labour, unrated, unstaffed) AS (
		SELECT m.currency, m.period_start, CASE pnl_report.basis WHEN 'cash' THEN m.held + m.refunded ELSE 0 END, m.refunded,
			0::bigint, 0::bigint, 0::bigint, 0::bigint
		FROM moved AS m
		WHERE pnl_report.basis = 'cash' OR m.refunded <> 0
		UNION ALL
		SELECT i.currency, date_trunc('month', i.issue_date::timestamp)::date, i.net_minor, 0, 0, 0, 0, 0
		FROM cleaning.invoices AS i
		WHERE pnl_report.basis = 'accrual' AND i.org_id = ringfence.org_id()
			AND i.issue_date BETWEEN pnl_report."from" AND pnl_report."to"
		UNION ALL
		SELECT c.currency, date_trunc('month', cleaning.day_of(c.created_at, zone)::timestamp)::date, 0, 0, c.amount_minor, 0, 0, 0
		FROM cleaning.referral_credits AS c
		WHERE c.org_id = ringfence.org_id()
			AND c.created_at >= ringfence.day_start(zone, pnl_report."from" - 1)
			AND c.created_at < ringfence.day_start(zone, pnl_report."to" + 2)
			AND cleaning.day_of(c.created_at, zone) BETWEEN pnl_report."from" AND pnl_report."to"
		UNION ALL
		SELECT l.currency, l.month, 0, 0, 0, l.labour_minor, l.unrated_workers, l.unstaffed_bookings
		FROM cleaning.labour(pnl_report."from", pnl_report."to", zone) AS l
	)
	SELECT p.currency, p.month, sum(p.revenue)::bigint, sum(p.refunds)::bigint, sum(p.credits)::bigint, sum(p.labour)::bigint,
		sum(p.revenue - p.refunds - p.credits - p.labour)::bigint, sum(p.unrated)::bigint, sum(p.unstaffed)::bigint
	FROM parts AS p
	GROUP BY p.currency, p.month
	ORDER BY p.currency, p.month;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning_v1.pnl_report(date, date, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.pnl_report(date, date, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.pnl_report(date, date, text) IS 'Profit and loss
For owner, admin and finance. A row for each currency and month that has anything, in this order; month is its first day. from and to are the first and the last day, in the organization''s time zone. Amounts are integers in minor units without GST; currencies are never added together.
revenue_minor: basis accrual (by default) the net of invoices issued, basis cash the net of payments and deposits received, as gst_report() counts it. refunds_minor: the net of refunds paid out; of R refunded on an invoice by a moment R * net / total is net, rounded to a whole minor unit, halves away from zero, and a month has the difference. credits_minor: referral credits given. labour_minor: of bookings that are done or disputed and began in the month, hours from start to end times the rate of each worker of the team, valid on the day on which the booking began, rounded once for each booking and worker, halves away from zero. Who is in a team is what it is today, for no history is kept.
profit_minor is revenue_minor - refunds_minor - credits_minor - labour_minor. unrated_workers: workers who did such a booking without a rate on its day, and unstaffed_bookings: such bookings whose team has nobody today; both cost nothing in labour_minor and stand with the currency of the invoice.
403 another role; 400 a day missing or out of the years 1 to 9999, from after to, no such basis.';

CREATE FUNCTION cleaning_v1.aged_receivables(as_of date DEFAULT NULL)
RETURNS TABLE (
	client_id uuid, client_name text, currency text, invoices bigint, not_due_minor bigint, days_1_30_minor bigint,
	days_31_60_minor bigint, days_61_90_minor bigint, over_90_minor bigint, refunded_minor bigint, total_minor bigint
)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone CONSTANT text := cleaning.time_zone();
	day CONSTANT date := coalesce(as_of, cleaning.day_of(now(), zone));
BEGIN
	PERFORM cleaning.refuse_report(day, day);
	RETURN QUERY
	WITH later AS (
		SELECT p.invoice_id,
			sum(CASE p.kind WHEN 'refund' THEN -p.amount_minor ELSE p.amount_minor END)::bigint AS held,
			sum(CASE p.kind WHEN 'refund' THEN p.amount_minor ELSE 0 END)::bigint AS refunded
		FROM cleaning.payments AS p
		WHERE p.org_id = ringfence.org_id() AND p.created_at >= ringfence.day_start(zone, day) AND cleaning.day_of(p.created_at, zone) > day
		GROUP BY p.invoice_id
	), open AS (
		SELECT i.client_id, i.currency, day - i.due_date AS days,
			i.total_minor - i.paid_minor + i.refunded_minor + coalesce(l.held, 0) AS owed,
			i.refunded_minor - coalesce(l.refunded, 0) AS refunded
		FROM cleaning.invoices AS i
		LEFT JOIN later AS l ON l.invoice_id = i.id
		WHERE i.org_id = ringfence.org_id() AND i.issue_date <= day
			AND i.total_minor - i.paid_minor + i.refunded_minor + coalesce(l.held, 0) <> 0
	), aged AS (
		SELECT o.client_id, o.currency, o.days, o.owed, least(o.owed, o.refunded) AS refunded, o.owed - least(o.owed, o.refunded) AS due
		FROM open AS o
	)
	SELECT a.client_id, c.name, a.currency, count(*),
		coalesce(sum(a.due) FILTER (WHERE a.days <= 0), 0)::bigint,
		coalesce(sum(a.due) FILTER (WHERE a.days BETWEEN 1 AND 30), 0)::bigint,
		coalesce(sum(a.due) FILTER (WHERE a.days BETWEEN 31 AND 60), 0)::bigint,
		coalesce(sum(a.due) FILTER (WHERE a.days BETWEEN 61 AND 90), 0)::bigint,
		coalesce(sum(a.due) FILTER (WHERE a.days > 90), 0)::bigint,
		sum(a.refunded)::bigint, sum(a.owed)::bigint
	FROM aged AS a
	INNER JOIN cleaning.clients AS c ON c.org_id = ringfence.org_id() AND c.id = a.client_id
	GROUP BY a.client_id, c.name, a.currency
	ORDER BY c.name, a.client_id, a.currency;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning_v1.aged_receivables(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.aged_receivables(date) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.aged_receivables(date) IS 'What clients owe, by age
For owner, admin and finance. A row for each client and currency with an open invoice, in order of name. as_of is a day in the organization''s time zone, by default today; of a day in the past, invoices issued by its end count, less payments, deposits and refunds of that day and before. due_date is what it is today.
invoices: open ones. Of what was not paid yet: not_due_minor, due on as_of or later; days_1_30_minor, days_31_60_minor, days_61_90_minor, over_90_minor, so many days past the due date. refunded_minor: what was paid and went back, of whatever age; record_payment() would take it again. total_minor is the sum of these six: totals of invoices less payments and deposits plus refunds. Amounts are integers in minor units.
403 another role; 400 a day out of the years 1 to 9999.';

CREATE FUNCTION cleaning_v1.worker_utilisation("from" date, "to" date)
RETURNS TABLE (
	worker_id uuid, worker_name text, team_id uuid, bookings bigint, booked_minutes bigint, done_minutes bigint,
	canceled_minutes bigint, capacity_minutes bigint, utilisation numeric
)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone CONSTANT text := cleaning.time_zone();
	weekly numeric;
	capacity bigint;
	since timestamptz;
	until timestamptz;
BEGIN
	PERFORM cleaning.refuse_report(worker_utilisation."from", worker_utilisation."to");
	weekly := coalesce(cleaning.setting('worker_hours_per_week')::numeric, 40);
	IF (weekly > 0 AND weekly <= 168) IS NOT TRUE THEN
		RAISE EXCEPTION 'setting worker_hours_per_week is not above 0 and at most 168'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	capacity := round(weekly * 60 * (worker_utilisation."to" - worker_utilisation."from" + 1) / 7);
	since := ringfence.day_start(zone, worker_utilisation."from");
	until := ringfence.day_start(zone, worker_utilisation."to" + 1);
	RETURN QUERY
	WITH work AS (
		SELECT b.team_id,
			count(*) FILTER (WHERE b.status <> 'canceled') AS bookings,
			round(coalesce(sum(t.seconds) FILTER (WHERE b.status <> 'canceled'), 0) / 60)::bigint AS booked,
			round(coalesce(sum(t.seconds) FILTER (WHERE b.status IN ('done', 'disputed')), 0) / 60)::bigint AS done,
			round(coalesce(sum(t.seconds) FILTER (WHERE b.status = 'canceled'), 0) / 60)::bigint AS canceled
		FROM cleaning.bookings AS b
		CROSS JOIN LATERAL (SELECT extract(epoch FROM least(b.ends_at, until) - greatest(b.starts_at, since)) AS seconds) AS t
		WHERE b.org_id = ringfence.org_id() AND b.team_id IS NOT NULL AND b.status <> 'draft'
			AND b.starts_at < until AND b.ends_at > since
		GROUP BY b.team_id
	)
	SELECT w.id, w.name, w.team_id, coalesce(t.bookings, 0), coalesce(t.booked, 0), coalesce(t.done, 0), coalesce(t.canceled, 0),
		capacity, round(coalesce(t.booked, 0)::numeric / nullif(capacity, 0), 4)
	FROM cleaning.workers AS w
	LEFT JOIN work AS t ON t.team_id = w.team_id
	WHERE w.org_id = ringfence.org_id()
	ORDER BY w.name, w.id;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning_v1.worker_utilisation(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.worker_utilisation(date, date) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.worker_utilisation(date, date) IS 'What workers are booked for
For owner, admin and finance. A row for each worker, in order of name. from and to are the first and the last day, in the organization''s time zone; of a booking that reaches over an end of the range the part within counts. A worker has the bookings of the team that the worker is in today. Minutes are those that pass, whatever the clocks do, rounded to whole ones once for each figure.
bookings and booked_minutes: confirmed, in progress, done and disputed; done_minutes: done and disputed; canceled_minutes: canceled. Drafts don''t count. capacity_minutes: hours a week of the setting worker_hours_per_week, 40 by default, times 60, times days / 7, rounded. utilisation: booked_minutes / capacity_minutes as a fraction, rounded to 4 digits; NULL without capacity.
403 another role; 400 a day missing or out of the years 1 to 9999, from after to.';
