-- The reports of the cleaning app: figures worked out by hand, days as the
-- organization's time zone counts them, who may read them, and that they add up.
\ir include/postgrest.sql
BEGIN;
SELECT plan(105);

-- What a member with this role reads, through a GET of PostgREST's.
SELECT test.claims('Alder Clean', 'finance') AS finance \gset

\set rowan 00000000-0000-7000-8000-0000000000f1
\set thorn 00000000-0000-7000-8000-0000000000f2
INSERT INTO ringfence_data.orgs (id, name, settings) VALUES
	(:'rowan', 'Regress Rowan', '{"currency": "USD", "time_zone": "America/New_York"}'),
	(:'thorn', 'Regress Thorn', '{"currency": "USD", "time_zone": "America/New_York"}');

CREATE FUNCTION pg_temp.key(org uuid, n integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN (left(org::text, 24) || right(org::text, 2) || lpad(n::text, 10, '0'))::uuid;

CREATE FUNCTION pg_temp.act_in(org uuid, VARIADIC roles text[] DEFAULT '{finance}') RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	PERFORM ringfence.set_context(org, NULL, roles, jsonb_build_object('client', pg_temp.key(org, 11), 'worker', pg_temp.key(org, 31)));
	SET LOCAL ROLE ringfence_member;
END
$$;

-- A booking of that number, and its invoice of lines {net, rate} if there are any.
CREATE FUNCTION pg_temp.book(org uuid, n integer, client integer, team integer, status text, starts timestamp, ends timestamp,
	issued date DEFAULT NULL, due date DEFAULT NULL, currency text DEFAULT 'USD', lines numeric[] DEFAULT NULL) RETURNS SETOF text
LANGUAGE sql AS $$
	INSERT INTO cleaning.bookings (org_id, id, client_id, team_id, status, starts_at, ends_at, address)
	VALUES (org, pg_temp.key(org, 100 + n), pg_temp.key(org, client), pg_temp.key(org, team), book.status,
		starts AT TIME ZONE 'America/New_York', ends AT TIME ZONE 'America/New_York', 'x');
	INSERT INTO cleaning.invoices (org_id, id, number, booking_id, client_id, issue_date, due_date, currency, net_minor, gst_minor)
	SELECT org, pg_temp.key(org, 200 + n), n, pg_temp.key(org, 100 + n), pg_temp.key(org, client), issued, due, book.currency,
		sum(lines[i][1]), sum(cleaning.gst(lines[i][1]::bigint, lines[i][2]))
	FROM generate_subscripts(lines, 1) AS i
	HAVING count(*) > 0;
	INSERT INTO cleaning.invoice_items (org_id, invoice_id, client_id, position, description, net_minor, gst_rate, gst_minor)
	SELECT org, pg_temp.key(org, 200 + n), pg_temp.key(org, client), i, 'x', lines[i][1], lines[i][2], cleaning.gst(lines[i][1]::bigint, lines[i][2])
	FROM generate_subscripts(lines, 1) AS i;
	SELECT NULL WHERE false
$$;

CREATE FUNCTION pg_temp.pay(org uuid, n integer, kind text, amount bigint, moment timestamp) RETURNS SETOF text
LANGUAGE sql AS $$
	INSERT INTO cleaning.payments (org_id, invoice_id, client_id, kind, amount_minor, currency, provider, provider_ref, created_at)
	SELECT i.org_id, i.id, i.client_id, pay.kind, amount, i.currency, 'bank', ringfence.uuid7(), moment AT TIME ZONE 'America/New_York'
	FROM cleaning.invoices AS i
	WHERE i.org_id = org AND i.number = n;
	UPDATE cleaning.invoices AS i
	SET paid_minor = paid_minor + CASE pay.kind WHEN 'refund' THEN 0 ELSE amount END,
		refunded_minor = refunded_minor + CASE pay.kind WHEN 'refund' THEN amount ELSE 0 END
	WHERE i.org_id = org AND i.number = n;
	SELECT NULL WHERE false
$$;

-- Regress Rowan, in New York: clients 11 and 12, team 21 of workers 31 and 32, team
-- 22 of nobody, worker 33 without a team.
CREATE FUNCTION pg_temp.fill(org uuid) RETURNS SETOF text
LANGUAGE sql AS $$
	INSERT INTO cleaning.clients (org_id, id, name) VALUES (org, pg_temp.key(org, 11), 'Ann'), (org, pg_temp.key(org, 12), 'Bob');
	INSERT INTO cleaning.teams (org_id, id, name) VALUES (org, pg_temp.key(org, 21), 'One'), (org, pg_temp.key(org, 22), 'Two');
	INSERT INTO cleaning.workers (org_id, id, team_id, name) VALUES
		(org, pg_temp.key(org, 31), pg_temp.key(org, 21), 'Una'), (org, pg_temp.key(org, 32), pg_temp.key(org, 21), 'Vic'),
		(org, pg_temp.key(org, 33), NULL, 'Wes');
	INSERT INTO cleaning.worker_rates (org_id, worker_id, valid_from, rate_minor, currency) VALUES
		(org, pg_temp.key(org, 31), '2025-01-01', 3000, 'USD'), (org, pg_temp.key(org, 31), '2025-03-09', 3333, 'USD'),
		(org, pg_temp.key(org, 32), '2025-03-01', 2000, 'EUR');
	-- GST of 10010 at 5 % is 500.5, so 501: total 10511.
	SELECT pg_temp.book(org, 1, 11, 21, 'done', '2025-01-31 22:00', '2025-02-01 01:00', '2025-01-31', '2025-02-14', 'USD', '{{10010, 0.05}}');
	-- 0 + 100 + 49.95, so 50, + 50 = 200 on 4333: total 4533.
	SELECT pg_temp.book(org, 2, 12, 21, 'done', '2025-03-09 00:30', '2025-03-09 04:00', '2025-02-10', '2025-03-12', 'USD',
		'{{1000, 0}, {2000, 0.05}, {333, 0.15}, {1000, 0.05}}');
	-- 1000 on 5000: total 6000.
	SELECT pg_temp.book(org, 3, 11, 21, 'disputed', '2025-11-02 00:30', '2025-11-02 03:00', '2025-02-28', '2025-03-14', 'EUR', '{{5000, 0.2}}');
	SELECT pg_temp.book(org, 4, 11, 22, 'done', '2025-03-01 10:00', '2025-03-01 11:00', '2025-03-01', '2025-03-15', 'USD', '{{0, 0.05}}');
	-- 249.975, so 250, on 3333: total 3583.
	SELECT pg_temp.book(org, 5, 12, 21, 'done', '2025-03-31 23:00', '2025-03-31 23:20', '2025-03-31', '2025-04-14', 'USD', '{{3333, 0.075}}');
	SELECT pg_temp.book(org, 6, 12, 21, 'confirmed', '2025-03-08 23:00', '2025-03-09 01:00');
	SELECT pg_temp.book(org, 7, 12, 21, 'canceled', '2025-03-15 10:00', '2025-03-15 12:00');
	SELECT pg_temp.book(org, 8, 12, 21, 'draft', '2025-03-16 10:00', '2025-03-16 12:00');
	-- The last moments of months there are the next month in UTC.
	SELECT pg_temp.pay(org, 1, 'deposit', 2628, '2025-01-31 23:30');
	SELECT pg_temp.pay(org, 1, 'payment', 7883, '2025-02-28 23:59:59.999999');
	SELECT pg_temp.pay(org, 2, 'payment', 1000, '2025-03-09 00:00');
	SELECT pg_temp.pay(org, 2, 'payment', 3533, '2025-04-01 00:00');
	SELECT pg_temp.pay(org, 3, 'payment', 6000, '2025-03-05 12:00');
	SELECT pg_temp.pay(org, 3, 'refund', 1500, '2025-03-31 23:59:59');
	SELECT pg_temp.pay(org, 3, 'refund', 4500, '2025-04-02 12:00');
	INSERT INTO cleaning.leads (org_id, id, name, status, referrer_id, client_id)
	VALUES (org, pg_temp.key(org, 41), 'x', 'converted', pg_temp.key(org, 11), pg_temp.key(org, 12));
	INSERT INTO cleaning.referral_credits (org_id, lead_id, client_id, amount_minor, currency, created_at)
	VALUES (org, pg_temp.key(org, 41), pg_temp.key(org, 11), 2500, 'USD', timestamp '2025-02-28 23:59:59' AT TIME ZONE 'America/New_York');
	SELECT NULL WHERE false
$$;
SELECT pg_temp.fill(:'rowan');

-- GST by issue date.

SELECT pg_temp.act_in(:'rowan');
SELECT results_eq($$SELECT currency, period_start, gst_rate, invoices, net_minor, gst_minor, total_minor
	FROM cleaning_v1.gst_report('2025-01-01', '2025-12-31')$$, $$VALUES
	('EUR', date '2025-02-01', 0.2, 1::bigint, 5000::bigint, 1000::bigint, 6000::bigint),
	('USD', '2025-01-01', 0.05, 1, 10010, 501, 10511),
	('USD', '2025-02-01', 0, 1, 1000, 0, 1000),
	('USD', '2025-02-01', 0.05, 1, 3000, 150, 3150),
	('USD', '2025-02-01', 0.15, 1, 333, 50, 383),
	('USD', '2025-03-01', 0.05, 1, 0, 0, 0),
	('USD', '2025-03-01', 0.075, 1, 3333, 250, 3583)$$, 'GST invoiced, by currency, month and rate');
SELECT results_eq($$SELECT currency, period_start, gst_rate, invoices, net_minor, gst_minor, total_minor
	FROM cleaning_v1.gst_report('2025-01-31', '2025-12-31', period => 'quarter') WHERE currency = 'USD'$$, $$VALUES
	('USD', date '2025-01-01', 0::numeric, 1::bigint, 1000::bigint, 0::bigint, 1000::bigint),
	-- Invoices 1, 2 and 4: 10010 + 3000 + 0, and 501 + 150 + 0.
	('USD', '2025-01-01', 0.05, 3, 13010, 651, 13661),
	('USD', '2025-01-01', 0.075, 1, 3333, 250, 3583),
	('USD', '2025-01-01', 0.15, 1, 333, 50, 383)$$, 'by quarter: an invoice with two lines of a rate counts once');
SELECT results_eq($$SELECT currency, period_start, gst_rate, invoices, net_minor
	FROM cleaning_v1.gst_report('2025-02-10', '2025-03-30', 'accrual', 'all')$$, $$VALUES
	('EUR', date '2025-02-10', 0.2, 1::bigint, 5000::bigint),
	('USD', '2025-02-10', 0, 1, 1000),
	('USD', '2025-02-10', 0.05, 2, 3000),
	('USD', '2025-02-10', 0.15, 1, 333)$$, 'as a whole, from the first day to the last, both included');

-- GST by the day on which money moved.

SELECT results_eq($$SELECT currency, period_start, gst_rate, invoices, net_minor, gst_minor, total_minor
	FROM cleaning_v1.gst_report('2025-01-01', '2025-12-31', 'cash')$$, $$VALUES
	-- Of 6000 paid 1500 goes back: 4500 * 1000 / 6000 = 750. Then the rest.
	('EUR', date '2025-03-01', 0.2, 1::bigint, 3750::bigint, 750::bigint, 4500::bigint),
	('EUR', '2025-04-01', 0.2, 1, -3750, -750, -4500),
	-- 2628 * 501 / 10511 = 125.26, so 125; then 501 - 125 = 376 of 7883.
	('USD', '2025-01-01', 0.05, 1, 2503, 125, 2628),
	('USD', '2025-02-01', 0.05, 1, 7507, 376, 7883),
	-- 1000 * 200 / 4533 = 44.12, so 44, and 956 net. Of 44: up to 5 % 44 * 150 / 200 = 33,
	-- up to 15 % all. Of 956: up to 0 % 956 * 1000 / 4333 = 220.63, so 221, up to 5 %
	-- 956 * 4000 / 4333 = 882.53, so 883, up to 15 % all.
	('USD', '2025-03-01', 0, 1, 221, 0, 221),
	('USD', '2025-03-01', 0.05, 1, 662, 33, 695),
	('USD', '2025-03-01', 0.15, 1, 73, 11, 84),
	-- 1000 - 221; 3000 - 662 and 150 - 33; 333 - 73 and 50 - 11.
	('USD', '2025-04-01', 0, 1, 779, 0, 779),
	('USD', '2025-04-01', 0.05, 1, 2338, 117, 2455),
	('USD', '2025-04-01', 0.15, 1, 260, 39, 299)$$, 'GST received, by currency, month and rate');
SELECT results_eq($$SELECT currency, period_start, gst_rate, invoices, net_minor, gst_minor, total_minor
	FROM cleaning_v1.gst_report('2025-01-15', '2025-06-30', 'cash', 'all')$$, $$VALUES
	('EUR', date '2025-01-15', 0.2, 1::bigint, 0::bigint, 0::bigint, 0::bigint),
	('USD', '2025-01-15', 0, 1, 1000, 0, 1000),
	('USD', '2025-01-15', 0.05, 2, 13010, 651, 13661),
	('USD', '2025-01-15', 0.15, 1, 333, 50, 383)$$, 'as a whole: what is paid in full has brought in what was invoiced, what was refunded nothing');
SELECT results_eq($$SELECT currency, gst_rate, net_minor, gst_minor FROM cleaning_v1.gst_report('2025-02-01', '2025-02-28', 'cash')$$,
	$$VALUES ('USD', 0.05, 7507::bigint, 376::bigint)$$, 'a payment a microsecond before midnight there is of that month');
SELECT is_empty($$SELECT * FROM cleaning_v1.gst_report('2025-02-01', '2025-02-27', 'cash')$$, 'and of its last day');
SELECT results_eq($$SELECT gst_rate, net_minor FROM cleaning_v1.gst_report('2025-04-01', '2025-04-01', 'cash')$$,
	$$VALUES (0::numeric, 779::bigint), (0.05, 2338), (0.15, 260)$$, 'one at midnight of the day that begins');

-- Profit and loss.

SELECT results_eq($$SELECT currency, month, revenue_minor, refunds_minor, credits_minor, labour_minor, profit_minor, unrated_workers, unstaffed_bookings
	FROM cleaning_v1.pnl_report('2025-01-01', '2025-12-31')$$, $$VALUES
	('EUR', date '2025-02-01', 5000::bigint, 0::bigint, 0::bigint, 0::bigint, 5000::bigint, 0::bigint, 0::bigint),
	-- Refunded 1500 * 5000 / 6000. Vic: 2.5 hours of 2000, and a third of 2000, so 667.
	('EUR', '2025-03-01', 0, 1250, 0, 5667, -6917, 0, 0),
	('EUR', '2025-04-01', 0, 3750, 0, 0, -3750, 0, 0),
	-- 00:30 to 03:00 when clocks go back: 3.5 hours of 2000.
	('EUR', '2025-11-01', 0, 0, 0, 7000, -7000, 0, 0),
	-- Una: 3 hours of 3000, all on the day on which they begin. Vic had no rate.
	('USD', '2025-01-01', 10010, 0, 0, 9000, 1010, 1, 0),
	('USD', '2025-02-01', 4333, 0, 2500, 0, 1833, 0, 0),
	-- 00:30 to 04:00 when clocks go forward: 2.5 hours of 3333, 8332.5, so 8333; and 1111.
	('USD', '2025-03-01', 3333, 0, 0, 9444, -6111, 0, 1),
	-- 3.5 hours of 3333, 11665.5, so 11666.
	('USD', '2025-11-01', 0, 0, 0, 11666, -11666, 0, 0)$$, 'profit and loss by invoices');
SELECT results_eq($$SELECT currency, month, revenue_minor, refunds_minor, credits_minor, labour_minor, profit_minor, unrated_workers, unstaffed_bookings
	FROM cleaning_v1.pnl_report('2025-01-01', '2025-12-31', 'cash')$$, $$VALUES
	('EUR', date '2025-03-01', 5000::bigint, 1250::bigint, 0::bigint, 5667::bigint, -1917::bigint, 0::bigint, 0::bigint),
	('EUR', '2025-04-01', 0, 3750, 0, 0, -3750, 0, 0),
	('EUR', '2025-11-01', 0, 0, 0, 7000, -7000, 0, 0),
	('USD', '2025-01-01', 2503, 0, 0, 9000, -6497, 1, 0),
	('USD', '2025-02-01', 7507, 0, 2500, 0, 5007, 0, 0),
	('USD', '2025-03-01', 956, 0, 0, 9444, -8488, 0, 1),
	('USD', '2025-04-01', 3377, 0, 0, 0, 3377, 0, 0),
	('USD', '2025-11-01', 0, 0, 0, 11666, -11666, 0, 0)$$, 'and by receipts');
SELECT results_eq($$SELECT labour_minor FROM cleaning_v1.pnl_report('2025-01-31', '2025-01-31')$$, '{9000}'::bigint[],
	'work over midnight is of the day on which it began');
SELECT is_empty($$SELECT * FROM cleaning_v1.pnl_report('2025-02-01', '2025-02-01')$$, 'and not of the next');

-- What is owed.

SELECT results_eq($$SELECT client_name, currency, invoices, not_due_minor, days_1_30_minor, days_31_60_minor, days_61_90_minor, over_90_minor,
		refunded_minor, total_minor FROM cleaning_v1.aged_receivables('2025-03-31')$$, $$VALUES
	-- Paid 6000, of which 1500 went back in the last second of the day.
	('Ann', 'EUR', 1::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 1500::bigint, 1500::bigint),
	-- Invoice 5; invoice 2, due 19 days ago, 4533 - 1000.
	('Bob', 'USD', 2, 3583, 3533, 0, 0, 0, 0, 7116)$$, 'what clients owed on a day, by age');
SELECT results_eq($$SELECT client_name, invoices, not_due_minor, days_1_30_minor, total_minor FROM cleaning_v1.aged_receivables('2025-02-14')$$,
	-- 10511 - 2628, and 4533.
	$$VALUES ('Ann', 1::bigint, 7883::bigint, 0::bigint, 7883::bigint), ('Bob', 1, 4533, 0, 4533)$$, 'the day on which it is due is not past it');
SELECT results_eq($$SELECT client_name, invoices, not_due_minor, days_1_30_minor, total_minor FROM cleaning_v1.aged_receivables('2025-02-15')$$,
	$$VALUES ('Ann', 1::bigint, 0::bigint, 7883::bigint, 7883::bigint), ('Bob', 1, 4533, 0, 4533)$$, 'the next one is');
SELECT results_eq($$
	SELECT d.day, r.days_1_30_minor, r.days_31_60_minor, r.days_61_90_minor, r.over_90_minor, r.total_minor
	FROM unnest('{2025-05-14,2025-05-15,2025-06-13,2025-06-14,2025-07-13,2025-07-14}'::date[]) AS d (day)
	CROSS JOIN LATERAL cleaning_v1.aged_receivables(d.day) AS r
	WHERE r.client_name = 'Bob'
	ORDER BY 1$$, $$VALUES
	(date '2025-05-14', 3583::bigint, 0::bigint, 0::bigint, 0::bigint, 3583::bigint),
	('2025-05-15', 0, 3583, 0, 0, 3583), ('2025-06-13', 0, 3583, 0, 0, 3583), ('2025-06-14', 0, 0, 3583, 0, 3583),
	('2025-07-13', 0, 0, 3583, 0, 3583), ('2025-07-14', 0, 0, 0, 3583, 3583)$$, '30, 60 and 90 days belong to the younger age');
SELECT is_empty($$SELECT * FROM cleaning_v1.aged_receivables('2025-01-30')$$, 'before there was an invoice nothing was owed');
SELECT results_eq($$SELECT client_name, currency, refunded_minor, total_minor FROM cleaning_v1.aged_receivables() WHERE client_name = 'Ann'$$,
	$$VALUES ('Ann', 'EUR', 6000::bigint, 6000::bigint)$$, 'today, without a day: what went back is apart from what was never paid');

-- What workers are booked for.

SELECT results_eq($$SELECT worker_name, bookings, booked_minutes, done_minutes, canceled_minutes, capacity_minutes, utilisation
	FROM cleaning_v1.worker_utilisation('2025-03-01', '2025-03-31')$$, $$VALUES
	-- Bookings 2, 5 and 6: 150 + 20 + 120. 40 * 60 * 31 / 7 = 10628.57; 290 / 10629 = 0.02728.
	('Una', 3::bigint, 290::bigint, 170::bigint, 120::bigint, 10629::bigint, 0.0273),
	('Vic', 3, 290, 170, 120, 10629, 0.0273),
	('Wes', 0, 0, 0, 0, 10629, 0)$$, 'what workers are booked for');
SELECT results_eq($$SELECT worker_name, bookings, booked_minutes, done_minutes, capacity_minutes, utilisation
	FROM cleaning_v1.worker_utilisation('2025-03-09', '2025-03-09') WHERE worker_name = 'Una'$$,
	-- 60 after midnight and 150. 2400 / 7 = 342.86; 210 / 343 = 0.61224.
	$$VALUES ('Una', 2::bigint, 210::bigint, 150::bigint, 343::bigint, 0.6122)$$, 'on a day of 23 hours, a booking that began before it');
SELECT results_eq($$SELECT booked_minutes, done_minutes FROM cleaning_v1.worker_utilisation('2025-11-02', '2025-11-02') WHERE worker_name = 'Una'$$,
	$$VALUES (210::bigint, 210::bigint)$$, 'on one of 25 hours');
SELECT results_eq($$
	SELECT r.bookings, r.booked_minutes
	FROM unnest('{2025-01-30,2025-01-31,2025-02-01,2025-02-02}'::date[]) AS d (day)
	CROSS JOIN LATERAL cleaning_v1.worker_utilisation(d.day, d.day) AS r
	WHERE r.worker_name = 'Una'
	ORDER BY d.day$$, $$VALUES (0::bigint, 0::bigint), (1, 120), (1, 60), (0, 0)$$, 'three hours over midnight are two and one');
RESET ROLE;
UPDATE ringfence_data.orgs SET settings = settings || '{"worker_hours_per_week": 17.5}' WHERE id = :'rowan';
SELECT pg_temp.act_in(:'rowan');
SELECT results_eq($$SELECT DISTINCT capacity_minutes FROM cleaning_v1.worker_utilisation('2025-03-03', '2025-03-09')$$, '{1050}'::bigint[],
	'the setting says how many hours a week has');
RESET ROLE;
UPDATE ringfence_data.orgs SET settings = settings || '{"worker_hours_per_week": 0}' WHERE id = :'rowan';
SELECT pg_temp.act_in(:'rowan');
SELECT throws_ok($$SELECT * FROM cleaning_v1.worker_utilisation('2025-03-03', '2025-03-09')$$, '22023',
	'setting worker_hours_per_week is not above 0 and at most 168', 'which must be some');
RESET ROLE;
UPDATE ringfence_data.orgs SET settings = settings - 'worker_hours_per_week' WHERE id = :'rowan';

-- Midnight that strikes twice, in Havana: the day begins with the first.
SELECT is(ringfence.day_start('America/Havana', '2025-11-02'), '2025-11-02 04:00+00', 'the first of two midnights begins a day');
SELECT is(ringfence.day_start('America/Havana', '2025-03-09'), '2025-03-09 05:00+00', 'the first moment after a midnight that is left out does');
SELECT is(ringfence.day_start('Pacific/Apia', '2025-03-09'), '2025-03-08 11:00+00', 'a midnight elsewhere is a midnight');

-- Rounding.
SELECT results_eq($$SELECT cleaning.share(p, w, a) FROM (VALUES (1, 2, 1), (1, 2, 2), (1, 2, -1), (501, 10511, 10511), (1, 3, 1), (2, 3, 1),
		(0, 0, 0), (0, 5, 5), (499999999999, 999999999999, 1000000000000), (9999999999999, 9999999999999, 9999999999999)) AS v (p, w, a)$$,
	'{1,1,-1,501,0,1,0,0,499999999999,9999999999999}'::bigint[], 'shares are rounded halves away from zero, in whole numbers');

-- Arguments.

SELECT pg_temp.act_in(:'rowan');
SELECT throws_ok(format('SELECT * FROM cleaning_v1.%s', c.call), c.code, c.message, c.call)
FROM (VALUES
	('gst_report(''2025-02-01'', ''2025-01-31'')', '22023', 'from is after to'),
	('pnl_report(''2025-02-01'', ''2025-01-31'')', '22023', 'from is after to'),
	('worker_utilisation(''2025-02-01'', ''2025-01-31'')', '22023', 'from is after to'),
	('gst_report(NULL, ''2025-01-31'')', '22004', 'from and to are needed'),
	('pnl_report(''2025-01-01'', NULL)', '22004', 'from and to are needed'),
	('worker_utilisation(NULL, NULL)', '22004', 'from and to are needed'),
	('gst_report(''2025-01-01'', ''infinity'')', '22023', 'day is not of the years 1 to 9999'),
	('pnl_report(''-infinity'', ''2025-01-01'')', '22023', 'day is not of the years 1 to 9999'),
	('aged_receivables(''infinity'')', '22023', 'day is not of the years 1 to 9999'),
	('worker_utilisation(''0044-03-15 BC'', ''2025-01-01'')', '22023', 'day is not of the years 1 to 9999'),
	('gst_report(''2025-01-01'', ''2025-01-31'', ''accruals'')', '22023', 'basis is accrual or cash'),
	('gst_report(''2025-01-01'', ''2025-01-31'', NULL)', '22023', 'basis is accrual or cash'),
	('pnl_report(''2025-01-01'', ''2025-01-31'', '''')', '22023', 'basis is accrual or cash'),
	('gst_report(''2025-01-01'', ''2025-01-31'', period => ''week'')', '22023', 'period is month, quarter or all'),
	('gst_report(''2025-01-01'', ''2025-01-31'', ''cash'', NULL)', '22023', 'period is month, quarter or all')
) AS c (call, code, message);
SELECT is((SELECT sum(net_minor) FROM cleaning_v1.gst_report('0001-01-01', '9999-12-31') WHERE currency = 'USD'), 17676::numeric,
	'all of time: 10010 + 4333 + 3333 invoiced');
SELECT is((SELECT sum(total_minor) FROM cleaning_v1.gst_report('0001-01-01', '9999-12-31', 'cash', 'quarter') WHERE currency = 'USD'),
	15044::numeric, '10511 + 4533 received');
SELECT is((SELECT sum(profit_minor) FROM cleaning_v1.pnl_report('0001-01-01', '9999-12-31', 'cash') WHERE currency = 'USD'),
	-18267::numeric, '10010 + 4333 - 2500 - 9000 - 9444 - 11666 of profit');
SELECT is((SELECT total_minor FROM cleaning_v1.aged_receivables('9999-12-31') WHERE client_name = 'Bob'), 3583::bigint, 'and of what is owed at its end');
SELECT is((SELECT booked_minutes FROM cleaning_v1.worker_utilisation('0001-01-01', '9999-12-31') WHERE worker_name = 'Una'), 680::bigint,
	'180 + 150 + 210 + 20 + 120 minutes');
SELECT is_empty($$SELECT * FROM cleaning_v1.gst_report('2030-01-01', '2030-12-31')$$, 'a year without anything is empty');
SELECT is_empty($$SELECT * FROM cleaning_v1.gst_report('2030-01-01', '2030-12-31', 'cash')$$, 'of money too');
SELECT is_empty($$SELECT * FROM cleaning_v1.pnl_report('2030-01-01', '2030-12-31')$$, 'of profit too');

-- Who may.

CREATE FUNCTION pg_temp.reports() RETURNS TABLE (report text, answer jsonb)
LANGUAGE sql AS $$
	SELECT 'gst_report accrual', to_jsonb(r) FROM cleaning_v1.gst_report('2020-01-01', '2030-12-31') AS r
	UNION ALL SELECT 'gst_report cash', to_jsonb(r) FROM cleaning_v1.gst_report('2020-01-01', '2030-12-31', 'cash') AS r
	UNION ALL SELECT 'pnl_report accrual', to_jsonb(r) FROM cleaning_v1.pnl_report('2020-01-01', '2030-12-31') AS r
	UNION ALL SELECT 'pnl_report cash', to_jsonb(r) FROM cleaning_v1.pnl_report('2020-01-01', '2030-12-31', 'cash') AS r
	UNION ALL SELECT 'aged_receivables', to_jsonb(r) FROM cleaning_v1.aged_receivables('2025-06-30') AS r
	UNION ALL SELECT 'worker_utilisation', to_jsonb(r) FROM cleaning_v1.worker_utilisation('2020-01-01', '2030-12-31') AS r
	ORDER BY 1, 2
$$;
CREATE TEMPORARY TABLE calls (call text);
INSERT INTO calls VALUES ('gst_report(''2025-01-01'', ''2025-12-31'')'), ('pnl_report(''2025-01-01'', ''2025-12-31'')'),
	('aged_receivables()'), ('worker_utilisation(''2025-01-01'', ''2025-12-31'')');
CREATE TEMPORARY TABLE told (who text, report text, answer jsonb);
GRANT SELECT ON calls TO PUBLIC;
GRANT SELECT, INSERT ON told TO PUBLIC;

SELECT pg_temp.act_in(:'rowan', 'finance');
INSERT INTO told SELECT 'finance', r.* FROM pg_temp.reports() AS r;
SELECT is((SELECT count(DISTINCT report) FROM told), 6::bigint, 'finance reads every report');
SELECT pg_temp.act_in(:'rowan', 'owner');
SELECT results_eq('SELECT * FROM pg_temp.reports()', 'SELECT report, answer FROM told WHERE who = $$finance$$ ORDER BY 1, 2', 'so does the owner');
SELECT pg_temp.act_in(:'rowan', 'admin');
SELECT results_eq('SELECT * FROM pg_temp.reports()', 'SELECT report, answer FROM told WHERE who = $$finance$$ ORDER BY 1, 2', 'so does an admin');
SELECT pg_temp.act_in(:'rowan', 'worker', 'finance', 'client');
SELECT results_eq('SELECT * FROM pg_temp.reports()', 'SELECT report, answer FROM told WHERE who = $$finance$$ ORDER BY 1, 2',
	'another role beside it takes nothing away');
SELECT pg_temp.act_in(:'rowan', 'dispatcher');
SELECT throws_ok('SELECT * FROM cleaning_v1.' || call, '42501', 'not allowed to read reports', 'a dispatcher does not: ' || call) FROM calls;
SELECT pg_temp.act_in(:'rowan', 'worker');
SELECT throws_ok('SELECT * FROM cleaning_v1.' || call, '42501', 'not allowed to read reports', 'nor a worker: ' || call) FROM calls;
SELECT pg_temp.act_in(:'rowan', 'client');
SELECT throws_ok('SELECT * FROM cleaning_v1.' || call, '42501', 'not allowed to read reports', 'nor a client: ' || call) FROM calls;
RESET ROLE;
SELECT ringfence.set_context();
SET LOCAL ROLE ringfence_member;
SELECT throws_ok('SELECT * FROM cleaning_v1.' || call, '42501', 'no organization is set for this transaction', 'without an organization there is none: ' || call)
FROM calls;
SET LOCAL ROLE ringfence_anon;
SELECT throws_ok('SELECT * FROM cleaning_v1.' || call, '42501', 'permission denied for schema cleaning_v1', 'nobody reads one: ' || call) FROM calls;
SET LOCAL ROLE ringfence_operator;
SELECT throws_ok('SELECT * FROM cleaning_v1.' || call, '42501', 'permission denied for schema cleaning_v1', 'nor an operator: ' || call) FROM calls;

-- Another organization's rows, of the same kinds and with the same names.
RESET ROLE;
SELECT pg_temp.fill(:'thorn');
SELECT pg_temp.pay(:'thorn', 5, 'payment', 1, '2025-05-01 12:00');
SELECT pg_temp.act_in(:'rowan');
SELECT results_eq('SELECT * FROM pg_temp.reports()', 'SELECT report, answer FROM told WHERE who = $$finance$$ ORDER BY 1, 2',
	'the rows of another organization change no figure');
SELECT pg_temp.act_in(:'thorn');
SELECT results_eq($$SELECT invoices, days_61_90_minor FROM cleaning_v1.aged_receivables('2025-06-30') WHERE client_name = 'Bob'$$,
	$$VALUES (1::bigint, 3582::bigint)$$, 'nor do these change theirs');

-- What retention has taken away is counted still.
RESET ROLE;
SET LOCAL session_replication_role = replica;
DELETE FROM cleaning.payments WHERE org_id = :'rowan' AND created_at < '2025-02-02';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.act_in(:'rowan');
SELECT results_eq($$SELECT gst_rate, net_minor, gst_minor FROM cleaning_v1.gst_report('2025-02-01', '2025-02-28', 'cash')$$,
	$$VALUES (0.05, 7507::bigint, 376::bigint)$$, 'a payment that is gone was made before those that are there');

-- That figures add up: 60 invoices of up to four lines, money in and out of them in
-- 2025, half of them paid in full at last.

\set maple 00000000-0000-7000-8000-0000000000f3
RESET ROLE;
INSERT INTO ringfence_data.orgs (id, name, settings) VALUES (:'maple', 'Regress Maple', '{"currency": "USD", "time_zone": "America/New_York"}');
INSERT INTO cleaning.clients (org_id, id, name) VALUES (:'maple', pg_temp.key(:'maple', 11), 'Ann');
INSERT INTO cleaning.teams (org_id, id, name) VALUES (:'maple', pg_temp.key(:'maple', 21), 'One');
SELECT setseed(0.25) \g /dev/null
DO $$
DECLARE
	maple CONSTANT uuid := '00000000-0000-7000-8000-0000000000f3';
	lines numeric[];
	bill record;
	moment timestamp;
BEGIN
	FOR n IN 1..60 LOOP
		lines := '{}';
		FOR line IN 1..1 + n % 4 LOOP
			-- Small amounts are the ones that rounding is large for.
			lines := lines || ARRAY[ARRAY[floor(1 + random() * CASE n % 3 WHEN 0 THEN 9 WHEN 1 THEN 400 ELSE 90000 END)::numeric,
				(ARRAY[0, 0.05, 0.075, 0.15, 0.2])[1 + floor(random() * 5)::integer]]];
		END LOOP;
		PERFORM pg_temp.book(maple, n, 11, 21, 'done', timestamp '2025-01-01 10:00', timestamp '2025-01-01 12:00', '2025-01-01', '2025-01-15',
			CASE WHEN n % 5 = 0 THEN 'EUR' ELSE 'USD' END, lines);
		moment := timestamp '2025-01-01 06:00';
		FOR step IN 1..6 LOOP
			moment := moment + random() * interval '60 days';
			SELECT i.total_minor - i.paid_minor + i.refunded_minor AS due, i.paid_minor - i.refunded_minor AS held INTO bill
			FROM cleaning.invoices AS i WHERE i.org_id = maple AND i.number = n;
			IF step = 6 AND n % 2 = 0 AND bill.due > 0 THEN
				PERFORM pg_temp.pay(maple, n, 'payment', bill.due, timestamp '2025-12-30 12:00');
			ELSIF random() < 0.3 AND bill.held > 0 THEN
				PERFORM pg_temp.pay(maple, n, 'refund', 1 + floor(random() * bill.held)::bigint, moment);
			ELSIF bill.due > 0 THEN
				PERFORM pg_temp.pay(maple, n, (ARRAY['payment', 'deposit'])[1 + step % 2], 1 + floor(random() * bill.due)::bigint, moment);
			END IF;
		END LOOP;
	END LOOP;
END
$$;
SELECT pg_temp.act_in(:'maple');
SELECT is((SELECT count(*) > 200 FROM cleaning.payments), true, 'there is money to count');

-- Ways to cut the year into ranges of whole days.
CREATE TEMPORARY TABLE ranges AS
SELECT way, lag(day, 1, date '2025-01-01') OVER (PARTITION BY way ORDER BY day) AS since, day - 1 AS until
FROM (
	SELECT 'months' AS way, generate_series(date '2025-02-01', '2026-01-01', '1 month')::date AS day
	UNION ALL SELECT 'weeks', generate_series(date '2025-01-08', '2025-12-31', '7 days')::date UNION ALL SELECT 'weeks', '2026-01-01'
	UNION ALL SELECT 'random', date '2025-01-02' + (random() * 362)::integer FROM generate_series(1, 20) UNION ALL SELECT 'random', '2026-01-01'
	UNION ALL SELECT 'half', '2025-07-01' UNION ALL SELECT 'half', '2026-01-01'
) AS cuts
GROUP BY way, day;
CREATE TEMPORARY TABLE parts AS
SELECT r.way, g.* FROM ranges AS r CROSS JOIN LATERAL cleaning_v1.gst_report(r.since, r.until, 'cash', 'all') AS g;
SELECT is_empty($$
	SELECT w.way, g.currency, g.gst_rate, g.net_minor, g.gst_minor
	FROM (SELECT DISTINCT p.way FROM parts AS p) AS w
	CROSS JOIN cleaning_v1.gst_report('2025-01-01', '2025-12-31', 'cash', 'all') AS g
	EXCEPT
	SELECT p.way, p.currency, p.gst_rate, sum(p.net_minor), sum(p.gst_minor) FROM parts AS p GROUP BY 1, 2, 3
$$, 'the parts of a year sum to the year, by rate, however it is cut');
SELECT is((SELECT count(DISTINCT way) FROM parts), 4::bigint, 'into months, weeks, halves, or anywhere');
SELECT results_eq($$
	SELECT p.way, p.currency, sum(p.net_minor + p.gst_minor) FROM parts AS p GROUP BY 1, 2 ORDER BY 1, 2$$, $$
	SELECT w.way, p.currency, sum(CASE p.kind WHEN 'refund' THEN -p.amount_minor ELSE p.amount_minor END)
	FROM (VALUES ('half'), ('months'), ('random'), ('weeks')) AS w (way) CROSS JOIN cleaning.payments AS p GROUP BY 1, 2 ORDER BY 1, 2
$$, 'net and GST are what was received');
SELECT results_eq($$
	SELECT r.since, g.currency, sum(g.total_minor) FROM ranges AS r CROSS JOIN LATERAL cleaning_v1.gst_report(r.since, r.until, 'cash') AS g
	WHERE r.way = 'random' GROUP BY 1, 2 ORDER BY 1, 2$$, $$
	SELECT r.since, p.currency, sum(CASE p.kind WHEN 'refund' THEN -p.amount_minor ELSE p.amount_minor END)
	FROM ranges AS r INNER JOIN cleaning.payments AS p ON (p.created_at AT TIME ZONE 'America/New_York')::date BETWEEN r.since AND r.until
	WHERE r.way = 'random' GROUP BY 1, 2 ORDER BY 1, 2
$$, 'in each part');
SELECT results_eq($$SELECT currency, sum(net_minor + gst_minor) FROM cleaning_v1.gst_report('2025-01-01', '2025-12-31', 'cash') GROUP BY 1 ORDER BY 1$$,
	$$SELECT currency, sum(paid_minor - refunded_minor) FROM cleaning.invoices GROUP BY 1 ORDER BY 1$$, 'which the invoices say too');
SELECT results_eq($$
	SELECT p.way, p.currency, sum(p.net_minor) FROM parts AS p GROUP BY 1, 2 ORDER BY 1, 2$$, $$
	SELECT r.way, p.currency, sum(p.revenue_minor - p.refunds_minor)
	FROM ranges AS r CROSS JOIN LATERAL cleaning_v1.pnl_report(r.since, r.until, 'cash') AS p GROUP BY 1, 2 ORDER BY 1, 2
$$, 'revenue less refunds is the net of it, in each way too');
SELECT results_eq($$SELECT currency, month, revenue_minor FROM cleaning_v1.pnl_report('2025-01-01', '2025-12-31') WHERE revenue_minor <> 0 ORDER BY 1$$,
	$$SELECT currency, period_start, sum(net_minor)::bigint FROM cleaning_v1.gst_report('2025-01-01', '2025-12-31') GROUP BY 1, 2 ORDER BY 1$$,
	'revenue by invoices is the net of those');
SELECT results_eq($$SELECT currency, sum(net_minor), sum(gst_minor) FROM cleaning_v1.gst_report('2025-01-01', '2025-12-31') GROUP BY 1 ORDER BY 1$$,
	$$SELECT currency, sum(net_minor), sum(gst_minor) FROM cleaning.invoices GROUP BY 1 ORDER BY 1$$, 'which are the invoices');
SELECT results_eq($$SELECT currency, sum(total_minor) FROM cleaning_v1.aged_receivables('2025-08-15') GROUP BY 1 ORDER BY 1$$, $$
	SELECT i.currency, sum(i.total_minor) - (SELECT sum(CASE p.kind WHEN 'refund' THEN -p.amount_minor ELSE p.amount_minor END)
			FROM cleaning.payments AS p WHERE p.currency = i.currency AND (p.created_at AT TIME ZONE 'America/New_York')::date <= '2025-08-15')
	FROM cleaning.invoices AS i GROUP BY 1 ORDER BY 1
$$, 'what is owed is what was invoiced less what was received by then');

-- Invoices that are paid have brought in just what is on their lines, by rate; of
-- one or two rates each has, at any time, no less than before when money came in.
RESET ROLE;
SET LOCAL session_replication_role = replica;
DELETE FROM cleaning.payments AS p USING cleaning.invoices AS i
	WHERE i.org_id = :'maple' AND p.org_id = i.org_id AND p.invoice_id = i.id AND i.status <> 'paid';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.act_in(:'maple');
SELECT results_eq($$SELECT currency, gst_rate, net_minor, gst_minor FROM cleaning_v1.gst_report('2025-01-01', '2025-12-31', 'cash', 'all') ORDER BY 1, 2$$, $$
	SELECT i.currency, t.gst_rate, sum(t.net_minor)::bigint, sum(t.gst_minor)::bigint
	FROM cleaning.invoices AS i INNER JOIN cleaning.invoice_items AS t ON t.invoice_id = i.id
	WHERE i.status = 'paid' GROUP BY 1, 2 ORDER BY 1, 2
$$, 'an invoice that is paid has brought in its lines');
SELECT is((SELECT count(*) >= 25 FROM cleaning.invoices WHERE status = 'paid'), true, 'and half of them are');
RESET ROLE;
SET LOCAL session_replication_role = replica;
DELETE FROM cleaning.payments AS p WHERE p.org_id = :'maple' AND (
	EXISTS (SELECT FROM cleaning.payments AS r WHERE r.org_id = p.org_id AND r.invoice_id = p.invoice_id AND r.kind = 'refund')
	OR (SELECT count(DISTINCT t.gst_rate) FROM cleaning.invoice_items AS t WHERE t.org_id = p.org_id AND t.invoice_id = p.invoice_id) > 2);
SET LOCAL session_replication_role = origin;
SELECT pg_temp.act_in(:'maple');
SELECT is((SELECT count(*) > 20 FROM cleaning.payments), true, 'where nothing was refunded');
SELECT is_empty($$SELECT r.*, g.* FROM ranges AS r CROSS JOIN LATERAL cleaning_v1.gst_report(r.since, r.until, 'cash', 'all') AS g
	WHERE g.net_minor < 0 OR g.gst_minor < 0$$, 'no figure is below zero');

-- The demo data, read as PostgREST reads it: by GET, in a read-only transaction.

RESET ROLE;
SELECT is((r.body -> 0) - 'gst_minor', jsonb_build_object('currency', 'CAD', 'period_start', '2020-01-01', 'gst_rate', 0.05, 'invoices', i.count,
		'net_minor', i.net, 'total_minor', i.total), 'Alder Clean''s invoices, by GET')
FROM test.rpc(:'finance', 'cleaning_v1', 'gst_report', '{"from": "2020-01-01", "to": "2030-12-31", "period": "all"}', 'GET') AS r,
	(SELECT count(*), sum(net_minor) AS net, sum(total_minor) AS total FROM cleaning.invoices WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a') AS i;
SELECT is(r.body #>> '{0,total_minor}', i.held::text, 'its receipts')
FROM test.rpc(:'finance', 'cleaning_v1', 'gst_report', '{"from": "2020-01-01", "to": "2030-12-31", "period": "all", "basis": "cash"}', 'GET') AS r,
	(SELECT sum(CASE kind WHEN 'refund' THEN -amount_minor ELSE amount_minor END) AS held FROM cleaning.payments
		WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a') AS i;
SELECT is((SELECT sum((e ->> 'revenue_minor')::bigint) FROM jsonb_array_elements(r.body) AS e), i.net, 'its revenue')
FROM test.rpc(:'finance', 'cleaning_v1', 'pnl_report', '{"from": "2020-01-01", "to": "2030-12-31"}', 'GET') AS r,
	(SELECT sum(net_minor) AS net FROM cleaning.invoices WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a') AS i;
SELECT is((SELECT sum((e ->> 'total_minor')::bigint) FROM jsonb_array_elements(r.body) AS e), i.owed, 'what it is owed')
FROM test.rpc(:'finance', 'cleaning_v1', 'aged_receivables', '{}', 'GET') AS r,
	(SELECT (SELECT sum(total_minor) FROM cleaning.invoices WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a')
		- sum(CASE kind WHEN 'refund' THEN -amount_minor ELSE amount_minor END) AS owed FROM cleaning.payments
		WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a') AS i;
SELECT is(jsonb_array_length(r.body), 8, 'its eight workers')
FROM test.rpc(:'finance', 'cleaning_v1', 'worker_utilisation', '{"from": "2025-01-01", "to": "2025-12-31"}', 'GET') AS r;
SELECT is(ROW(r.status, r.code, r.message, r.details), ROW(403, '42501'::text, 'not allowed to read reports'::text, 'Owner, admin and finance are.'::text), 'a dispatcher is told who may')
FROM test.rpc(test.claims('Alder Clean', 'dispatcher'), 'cleaning_v1', 'gst_report', '{"from": "2025-01-01", "to": "2025-12-31"}', 'GET') AS r;
SELECT is(r.status, 401, 'without a token there is none')
FROM test.rpc(NULL, 'cleaning_v1', 'gst_report', '{"from": "2025-01-01", "to": "2025-12-31"}', 'GET') AS r;
SELECT is(ROW(r.status, r.code), ROW(400, '22023'::text), 'a range that is none is a bad request')
FROM test.rpc(:'finance', 'cleaning_v1', 'pnl_report', '{"from": "2025-12-31", "to": "2025-01-01"}', 'GET') AS r;
SELECT throws_ok('UPDATE cleaning.booking_prices AS p SET price_minor = 1000000000000 FROM cleaning.bookings AS b WHERE b.id = p.booking_id AND b.status = ''draft''', '23514',
	'new row for relation "booking_prices" violates check constraint "booking_prices_price_minor_check"', 'no price is such that sums of some are beyond a bigint');

SELECT * FROM finish();
ROLLBACK;
