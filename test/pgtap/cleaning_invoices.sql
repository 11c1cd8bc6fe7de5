-- Invoices of the cleaning app: issued by completion, numbered without gaps,
-- rounded by one rule, and of one piece with bookings and payments.
BEGIN;
SELECT plan(31);

\ir include/act_as.sql

CREATE FUNCTION pg_temp.make_booking(price_minor bigint, gst_rate numeric, starts_at timestamptz DEFAULT '2026-01-05 17:00+00')
	RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
	made uuid;
BEGIN
	RESET ROLE;
	INSERT INTO cleaning.bookings AS b (org_id, client_id, team_id, status, starts_at, ends_at, address)
		VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', '0d9f6c1e-0002-7000-8000-0000a0000001',
			'0d9f6c1e-0003-7000-8000-0000a0000001', 'confirmed', make_booking.starts_at,
			make_booking.starts_at + interval '2 hours', '1 Test Street')
		RETURNING b.id INTO made;
	INSERT INTO cleaning.booking_prices (org_id, booking_id, client_id, price_minor, currency, gst_rate)
		VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', made, '0d9f6c1e-0002-7000-8000-0000a0000001',
			make_booking.price_minor, 'CAD', make_booking.gst_rate);
	RETURN made;
END
$$;

-- The demo data keeps the rules that its loading did not go through.
SELECT is_empty($$
	SELECT i.org_id, i.number
		FROM cleaning.invoices AS i
			JOIN cleaning.invoice_items AS t ON t.org_id = i.org_id AND t.invoice_id = i.id
		GROUP BY i.org_id, i.id
		HAVING sum(t.net_minor) <> i.net_minor OR sum(t.gst_minor) <> i.gst_minor
$$, 'invoices are the sums of their lines');
SELECT is_empty($$
	SELECT i.org_id, i.number
		FROM cleaning.invoices AS i
			LEFT JOIN cleaning.payments AS p ON p.org_id = i.org_id AND p.invoice_id = i.id
		GROUP BY i.org_id, i.id
		HAVING coalesce(sum(p.amount_minor) FILTER (WHERE p.kind <> 'refund'), 0) <> i.paid_minor
			OR coalesce(sum(p.amount_minor) FILTER (WHERE p.kind = 'refund'), 0) <> i.refunded_minor
$$, 'paid and refunded are the sums of the payments');
SELECT is_empty($$
	SELECT b.org_id, b.id
		FROM cleaning.bookings AS b
			LEFT JOIN cleaning.invoices AS i ON i.org_id = b.org_id AND i.booking_id = b.id
		WHERE (i.id IS NOT NULL) <> (b.status IN ('done', 'disputed'))
$$, 'a booking has an invoice when it is done or disputed, and only then');
SELECT is_empty($$
	SELECT c.org_id
		FROM cleaning.invoice_counters AS c
			JOIN cleaning.invoices AS i USING (org_id)
		GROUP BY c.org_id
		HAVING max(i.number) <> c.last_number OR count(*) <> c.last_number
$$, 'numbers run from 1 to the counter');
SELECT is_empty($$
	SELECT i.org_id, i.number
		FROM (SELECT org_id, number, issue_date, lag(issue_date) OVER (PARTITION BY org_id ORDER BY number) AS previous
			FROM cleaning.invoices) AS i
		WHERE i.issue_date < i.previous
$$, 'dates follow the numbers');

-- Rounding.
SELECT results_eq($$
	SELECT cleaning.gst(net, rate)
		FROM (VALUES (10010, 0.05), (10, 0.05), (30, 0.05), (29, 0.05), (9, 0.05), (0, 0.05), (333, 0.15), (100, 0),
			(9999999999999, 0.07)) AS v (net, rate)
$$, '{501,1,2,1,0,0,50,0,700000000000}'::bigint[], 'GST is rounded to whole minor units, halves away from zero');
SELECT is(cleaning.gst(NULL, 0.05), NULL, 'no amount, no GST');
SELECT throws_ok($$INSERT INTO cleaning.invoice_items (org_id, invoice_id, client_id, position, description, net_minor, gst_rate,
		gst_minor)
	SELECT org_id, id, client_id, 2, 'x', 10, 0.05, 0 FROM cleaning.invoices LIMIT 1$$, '23514',
	'new row for relation "invoice_items" violates check constraint "invoice_items_gst_minor_check"',
	'a line that is rounded otherwise is refused');

-- Completion.
SELECT last_number AS last FROM cleaning.invoice_counters WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a' \gset
SELECT pg_temp.make_booking(10010, 0.05, '2026-01-06 05:00+00') AS first, pg_temp.make_booking(0, 0.05) AS free,
	pg_temp.make_booking(10000, 0.05) AS second, pg_temp.make_booking(10000, 0.05) AS third \gset
SELECT pg_temp.act_as('dispatcher');
SELECT is((cleaning_v1.complete_booking(:'first')).status, 'done', 'completion');
SELECT results_eq(format($$
	SELECT number, client_id, currency, net_minor, gst_minor, total_minor, paid_minor, refunded_minor, status,
			due_date - issue_date
		FROM cleaning_v1.invoices WHERE booking_id = %L
$$, :'first'), format($$
	VALUES (%s::bigint, '0d9f6c1e-0002-7000-8000-0000a0000001'::uuid, 'CAD', 10010::bigint, 501::bigint, 10511::bigint,
		0::bigint, 0::bigint, 'issued', 14)
$$, :last + 1), 'issues the invoice with the next number');
SELECT results_eq(format($$
	SELECT t.position, t.description, t.net_minor, t.gst_rate, t.gst_minor
		FROM cleaning_v1.invoice_items AS t JOIN cleaning_v1.invoices AS i ON i.id = t.invoice_id WHERE i.booking_id = %L
$$, :'first'), $$VALUES (1, 'Cleaning on 2026-01-05, 1 Test Street', 10010::bigint, 0.05000::numeric, 501::bigint)$$,
	'and a line that names the day in the organization''s time zone');
SELECT is((SELECT issue_date FROM cleaning_v1.invoices WHERE booking_id = :'first'),
	(now() AT TIME ZONE 'America/Vancouver')::date, 'it is issued today, where the organization is');
SELECT throws_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'first'), 'PT409',
	'a booking that is done cannot be completed', 'once');
SELECT lives_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'free'), 'a booking may be free');
SELECT results_eq(format('SELECT number, total_minor, status FROM cleaning_v1.invoices WHERE booking_id = %L', :'free'),
	format($$VALUES (%s::bigint, 0::bigint, 'paid')$$, :last + 2), 'its invoice asks for nothing');

-- A completion that is rolled back takes no number.
SAVEPOINT before;
SELECT (cleaning_v1.complete_booking(:'second')).status AS undone \gset
ROLLBACK TO SAVEPOINT before;
SELECT is((SELECT count(*) FROM cleaning_v1.invoices WHERE booking_id = :'second'), 0::bigint, 'rolled back: no invoice');
SELECT lives_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'third'), 'the next completion');
SELECT is((SELECT number FROM cleaning_v1.invoices WHERE booking_id = :'third'), (:last + 3)::bigint, 'takes the number');
SELECT throws_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'third'), 'PT409',
	'a booking that is done cannot be completed', 'a completion that is refused');
SELECT lives_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'second'), 'before another one');
SELECT is((SELECT number FROM cleaning_v1.invoices WHERE booking_id = :'second'), (:last + 4)::bigint, 'takes none either');

-- Dates never go back.
RESET ROLE;
UPDATE cleaning.invoice_counters SET last_date = '2099-12-31' WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a';
SELECT pg_temp.make_booking(10000, 0.05) AS late \gset
SELECT pg_temp.act_as('dispatcher');
SELECT lives_ok(format('SELECT cleaning_v1.complete_booking(%L)', :'late'), 'after an invoice of a later day');
SELECT is((SELECT issue_date FROM cleaning_v1.invoices WHERE booking_id = :'late'), '2099-12-31', 'the date stays with it');

-- A new organization, without settings.
RESET ROLE;
INSERT INTO ringfence_data.orgs (id, name) VALUES ('00000000-0000-7000-8000-0000000000ff', 'Regress Rowan');
SELECT ringfence.set_context('00000000-0000-7000-8000-0000000000ff', NULL, '{owner}');
SET LOCAL ROLE ringfence_member;
INSERT INTO cleaning_v1.clients (id, name) VALUES ('00000000-0000-7000-8000-000000000001', 'A');
INSERT INTO cleaning_v1.teams (id, name) VALUES ('00000000-0000-7000-8000-000000000002', 'T');
SELECT throws_ok($$INSERT INTO cleaning_v1.bookings (client_id, starts_at, ends_at, address, price_minor)
	VALUES ('00000000-0000-7000-8000-000000000001', '2026-01-05 17:00+00', '2026-01-05 18:00+00', 'x', 1)$$,
	'23502', 'null value in column "currency" of relation "booking_prices" violates not-null constraint',
	'an organization without a currency names one with each price');
SELECT lives_ok($$INSERT INTO cleaning_v1.bookings (id, client_id, team_id, starts_at, ends_at, address, price_minor, currency)
	VALUES ('00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000001',
		'00000000-0000-7000-8000-000000000002', '2026-01-05 17:00+00', '2026-01-05 18:00+00', 'x', 500, 'EUR')$$,
	'then its bookings');
SELECT is((cleaning_v1.confirm_booking('00000000-0000-7000-8000-000000000003')).gst_rate, 0::numeric, 'bear no GST');
SELECT is((cleaning_v1.complete_booking('00000000-0000-7000-8000-000000000003')).status, 'done', 'are completed');
SELECT results_eq('SELECT number, currency, total_minor FROM cleaning_v1.invoices', $$VALUES (1::bigint, 'EUR', 500::bigint)$$,
	'and numbered from 1');

-- One booking has one invoice, and an invoice the booking's client.
RESET ROLE;
SELECT throws_ok($$INSERT INTO cleaning.invoices (org_id, number, booking_id, client_id, issue_date, due_date, currency,
		net_minor, gst_minor)
	SELECT org_id, 100000, booking_id, client_id, issue_date, due_date, currency, net_minor, gst_minor
		FROM cleaning.invoices WHERE id = '0d9f6c1e-0007-7000-8000-0000a0000001'$$,
	'23505', 'duplicate key value violates unique constraint "invoices_booking_id_key"', 'a second invoice is refused');
SELECT throws_ok($$UPDATE cleaning.invoices SET client_id = '0d9f6c1e-0002-7000-8000-0000a0000001'
	WHERE id = '0d9f6c1e-0007-7000-8000-0000a0000001'$$,
	'23503', 'update or delete on table "invoices" violates foreign key constraint "invoice_items_invoice_id_fkey" on table "invoice_items"',
	'an invoice keeps its client');
SELECT throws_ok($$UPDATE cleaning.invoices SET number = 2 WHERE id = '0d9f6c1e-0007-7000-8000-0000a0000001'$$,
	'23505', 'duplicate key value violates unique constraint "invoices_number_key"', 'a number stands once');

SELECT * FROM finish();
ROLLBACK;
