-- Payments of the cleaning app: what record_payment() takes, refuses and
-- answers again, and how the invoice follows.
BEGIN;
SELECT plan(37);

\ir include/act_as.sql

-- An invoice over 105.00 CAD of client 1 in Alder Clean.
CREATE FUNCTION pg_temp.make_invoice() RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
	visit uuid;
	made uuid;
BEGIN
	RESET ROLE;
	INSERT INTO cleaning.bookings AS b (org_id, client_id, team_id, status, starts_at, ends_at, address)
		VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', '0d9f6c1e-0002-7000-8000-0000a0000001',
			'0d9f6c1e-0003-7000-8000-0000a0000001', 'confirmed', '2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x')
		RETURNING b.id INTO visit;
	INSERT INTO cleaning.booking_prices (org_id, booking_id, client_id, price_minor, currency, gst_rate)
		VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', visit, '0d9f6c1e-0002-7000-8000-0000a0000001', 10000, 'CAD', 0.05);
	PERFORM pg_temp.act_as('dispatcher');
	PERFORM cleaning_v1.complete_booking(visit);
	SELECT i.id INTO made FROM cleaning_v1.invoices AS i WHERE i.booking_id = visit;
	RESET ROLE;
	RETURN made;
END
$$;

-- The amounts and the status of an invoice.
CREATE FUNCTION pg_temp.state(invoice uuid) RETURNS text
LANGUAGE sql AS $$
	SELECT format('%s %s %s', i.paid_minor, i.refunded_minor, i.status) FROM cleaning_v1.invoices AS i WHERE i.id = invoice
$$;

SELECT pg_temp.make_invoice() AS i, pg_temp.make_invoice() AS other \gset
SELECT pg_temp.act_as('finance');
\set pay 'SELECT cleaning_v1.record_payment(%L, %L, %s, %L, %L, %L)'

SELECT is(pg_temp.state(:'i'), '0 0 issued', 'an invoice');
SELECT results_eq(format($$
	SELECT invoice_id, client_id, kind, amount_minor, currency, provider, provider_ref
		FROM cleaning_v1.record_payment(%L, 'deposit', 2500, 'CAD', 'stripe', 'pi_1')
$$, :'i'), format($$
	VALUES (%L::uuid, '0d9f6c1e-0002-7000-8000-0000a0000001'::uuid, 'deposit', 2500::bigint, 'CAD', 'stripe', 'pi_1')
$$, :'i'), 'a deposit is recorded');
SELECT is(pg_temp.state(:'i'), '2500 0 partly_paid', 'and counts');
SELECT throws_ok(format(:'pay', :'i', 'payment', 8001, 'CAD', 'stripe', 'pi_2'), 'PT409', 'payment is more than is due',
	'a minor unit too much is refused');
SELECT is(pg_temp.state(:'i'), '2500 0 partly_paid', 'and leaves nothing');
SELECT lives_ok(format(:'pay', :'i', 'payment', 8000, 'CAD', 'stripe', 'pi_2'), 'what is due is taken');
SELECT is(pg_temp.state(:'i'), '10500 0 paid', 'then the invoice is paid');
SELECT throws_ok(format(:'pay', :'i', 'payment', 1, 'CAD', 'stripe', 'pi_3'), 'PT409', 'payment is more than is due',
	'a paid invoice takes no more');

-- Again.
SELECT is((SELECT cleaning_v1.record_payment(:'i', 'payment', 8000, 'CAD', 'stripe', 'pi_2')),
	(SELECT p FROM cleaning_v1.payments AS p WHERE p.provider_ref = 'pi_2'), 'the same payment again answers with the first');
SELECT is(pg_temp.state(:'i'), '10500 0 paid', 'and counts once');
SELECT is((SELECT count(*) FROM cleaning_v1.payments WHERE invoice_id = :'i'), 2::bigint, 'it stands once');
SELECT throws_ok(format(:'pay', :'i', 'payment', 7999, 'CAD', 'stripe', 'pi_2'), 'PT409',
	'provider reference stands for another payment', 'the reference with another amount is refused');
SELECT throws_ok(format(:'pay', :'i', 'refund', 8000, 'CAD', 'stripe', 'pi_2'), 'PT409',
	'provider reference stands for another payment', 'with another kind');
SELECT throws_ok(format(:'pay', :'i', 'payment', 8000, 'USD', 'stripe', 'pi_2'), 'PT409',
	'provider reference stands for another payment', 'with another currency');
SELECT throws_ok(format(:'pay', :'other', 'payment', 8000, 'CAD', 'stripe', 'pi_2'), 'PT409',
	'provider reference stands for another payment', 'on another invoice');
SELECT lives_ok(format(:'pay', :'other', 'payment', 8000, 'CAD', 'bank', 'pi_2'), 'another provider may use it');

-- Refunds.
SELECT throws_ok(format(:'pay', :'i', 'refund', 10501, 'CAD', 'stripe', 're_1'), 'PT409', 'refund is more than was paid',
	'a refund of more than was paid is refused');
SELECT lives_ok(format(:'pay', :'i', 'refund', 500, 'CAD', 'stripe', 're_1'), 'a part goes back');
SELECT is(pg_temp.state(:'i'), '10500 500 partly_paid', 'then a part is due');
SELECT lives_ok(format(:'pay', :'i', 'payment', 500, 'CAD', 'cash', '1'), 'which can be paid again');
SELECT is(pg_temp.state(:'i'), '11000 500 paid', 'and is paid');
SELECT lives_ok(format(:'pay', :'i', 'refund', 10500, 'CAD', 'stripe', 're_2'), 'all goes back');
SELECT is(pg_temp.state(:'i'), '11000 11000 refunded', 'then the invoice is refunded');
SELECT throws_ok(format(:'pay', :'i', 'refund', 1, 'CAD', 'stripe', 're_3'), 'PT409', 'refund is more than was paid',
	'nothing is left to refund');

-- Input.
SELECT throws_ok(format(:'pay', :'other', 'gift', 1, 'CAD', 'cash', '2'), '22023', 'kind is payment, deposit or refund',
	'a kind that does not exist');
SELECT throws_ok(format(:'pay', :'other', NULL, 1, 'CAD', 'cash', '2'), '22023', 'kind is payment, deposit or refund',
	'no kind');
SELECT throws_ok(format(:'pay', :'other', 'payment', 0, 'CAD', 'cash', '2'), '22023',
	'amount is not a positive number of minor units', 'nothing');
SELECT throws_ok(format(:'pay', :'other', 'refund', -5, 'CAD', 'cash', '2'), '22023',
	'amount is not a positive number of minor units', 'less than nothing');
SELECT throws_ok(format(:'pay', :'other', 'payment', 1, 'AUD', 'cash', '2'), '22023', 'invoice is in another currency',
	'another currency');
SELECT throws_ok(format(:'pay', :'other', 'payment', 1, 'CAD', 'cash', NULL), '23502',
	'null value in column "provider_ref" of relation "payments" violates not-null constraint', 'no reference');
SELECT throws_ok(format(:'pay', :'other', 'payment', 1, 'CAD', '', '2'), '23514',
	'new row for relation "payments" violates check constraint "payments_provider_check"', 'an empty provider');
SELECT throws_ok(format(:'pay', '0d9f6c1e-0007-7000-8000-0000b0000001', 'payment', 1, 'CAD', 'cash', '2'), 'PT404',
	'invoice not found', 'another organization''s invoice is not there');

-- Who.
SELECT pg_temp.act_as('dispatcher');
SELECT throws_ok(format(:'pay', :'other', 'payment', 1, 'CAD', 'cash', '2'), '42501', 'not allowed to record payments',
	'a dispatcher records no payments');
SELECT pg_temp.act_as('client');
SELECT throws_ok(format(:'pay', :'other', 'payment', 1, 'CAD', 'cash', '2'), '42501', 'not allowed to record payments',
	'nor does a client');
SELECT is((SELECT count(*) FROM cleaning_v1.payments WHERE invoice_id = :'i'), 5::bigint, 'who sees the own payments');
SELECT pg_temp.act_as('finance', 'Birch Services');
SELECT throws_ok(format(:'pay', :'other', 'payment', 1, 'CAD', 'cash', '2'), 'PT404', 'invoice not found',
	'finance of another organization finds no such invoice');
SELECT lives_ok(format(:'pay', (SELECT id FROM cleaning_v1.invoices WHERE status = 'issued' ORDER BY number LIMIT 1), 'payment', 1,
	'AUD', 'stripe', 'pi_2'), 'but may use the same reference');

SELECT * FROM finish();
ROLLBACK;
