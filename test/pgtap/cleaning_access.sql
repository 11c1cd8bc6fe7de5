-- The access matrix of the cleaning app, tried in raw SQL on the tables: what
-- each role reads and writes, and what it does not, own organization or other.
BEGIN;
SELECT plan(83);

\ir include/act_as.sql

-- How many rows of each table the current role reads.
CREATE FUNCTION pg_temp.seen() RETURNS TABLE (rel text, rows bigint)
LANGUAGE plpgsql AS $$
BEGIN
	FOREACH rel IN ARRAY ARRAY['clients', 'teams', 'workers', 'worker_rates', 'bookings', 'booking_prices', 'invoices',
		'invoice_items', 'payments', 'leads', 'referral_credits', 'photos'] LOOP
		EXECUTE format('SELECT count(*) FROM cleaning.%I', rel) INTO rows;
		RETURN NEXT;
	END LOOP;
END
$$;

CREATE TEMPORARY TABLE own_rows AS
SELECT d.rel, d.rows
	FROM (
		SELECT 'clients', count(*) FROM cleaning.clients WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a'
		UNION ALL SELECT 'teams', 4
		UNION ALL SELECT 'workers', 8
		UNION ALL SELECT 'worker_rates', 16
		UNION ALL SELECT 'bookings', 333
		UNION ALL SELECT 'booking_prices', count(*) FROM cleaning.booking_prices
			WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a'
		UNION ALL SELECT 'invoices', count(*) FROM cleaning.invoices WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a'
		UNION ALL SELECT 'invoice_items', count(*) FROM cleaning.invoice_items
			WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a'
		UNION ALL SELECT 'payments', count(*) FROM cleaning.payments WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a'
		UNION ALL SELECT 'leads', 24
		UNION ALL SELECT 'referral_credits', 3
		UNION ALL SELECT 'photos', count(*) FROM cleaning.photos WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a'
	) AS d (rel, rows);
-- Photos of bookings of the worker's team, and of the client's.
CREATE TEMPORARY TABLE own_photos AS
SELECT count(*) FILTER (WHERE b.team_id = '0d9f6c1e-0003-7000-8000-0000a0000001') AS worker,
		count(*) FILTER (WHERE b.client_id = '0d9f6c1e-0002-7000-8000-0000a0000001') AS client
	FROM cleaning.photos AS p
		JOIN cleaning.bookings AS b ON b.org_id = p.org_id AND b.id = p.booking_id;
GRANT SELECT ON own_rows, own_photos TO ringfence_member;

SELECT is((SELECT count(*) FROM own_rows WHERE rows > 0), 12::bigint, 'Alder Clean has rows in every table');
SELECT is((SELECT worker > 0 AND client > 0 AND worker < p.rows FROM own_photos, own_rows AS p WHERE p.rel = 'photos'), true, 'photos are of several teams and clients');

-- Reading.

SELECT pg_temp.act_as('owner');
SELECT results_eq('SELECT rel, rows FROM pg_temp.seen() ORDER BY 1', 'SELECT rel, rows FROM own_rows ORDER BY 1',
	'the owner reads every row of the organization, and no other');
SELECT pg_temp.act_as('admin');
SELECT results_eq('SELECT rel, rows FROM pg_temp.seen() ORDER BY 1', 'SELECT rel, rows FROM own_rows ORDER BY 1',
	'so does an admin');
SELECT pg_temp.act_as('dispatcher');
SELECT results_eq('SELECT rel, rows FROM pg_temp.seen() ORDER BY 1', $$
	SELECT rel, CASE WHEN rel IN ('worker_rates', 'payments', 'referral_credits') THEN 0 ELSE rows END
		FROM own_rows ORDER BY 1
$$, 'a dispatcher reads no worker rates, payments or credits');
SELECT pg_temp.act_as('finance');
SELECT results_eq('SELECT rel, rows FROM pg_temp.seen() ORDER BY 1', $$
	SELECT rel, CASE WHEN rel IN ('leads', 'photos') THEN 0 ELSE rows END FROM own_rows ORDER BY 1
$$, 'finance reads no leads and photos');
SELECT pg_temp.act_as('worker');
SELECT results_eq('SELECT rel, rows FROM pg_temp.seen() ORDER BY 1', $$
	SELECT rel, CASE rel WHEN 'teams' THEN 4 WHEN 'workers' THEN 1 WHEN 'bookings' THEN 83
			WHEN 'photos' THEN (SELECT worker FROM own_photos) ELSE 0 END::bigint
		FROM own_rows ORDER BY 1
$$, 'a worker reads the teams, the own record and the bookings and photos of the own team: no price, rate or invoice');
SELECT pg_temp.act_as('client');
SELECT results_eq('SELECT rel, rows FROM pg_temp.seen() ORDER BY 1', $$
	VALUES ('booking_prices', 8::bigint), ('bookings', 8), ('clients', 1), ('invoice_items', 6), ('invoices', 6), ('leads', 0),
		('payments', 6), ('photos', (SELECT client FROM own_photos)), ('referral_credits', 0), ('teams', 0), ('worker_rates', 0), ('workers', 0)
$$, 'a client reads the own record, bookings, prices, photos, invoices and payments');

SELECT pg_temp.act_as('worker');
SELECT is((SELECT array_agg(DISTINCT team_id) FROM cleaning.bookings),
	'{0d9f6c1e-0003-7000-8000-0000a0000001}', 'the bookings that a worker reads are the own team''s');
SELECT is((SELECT count(*) FROM cleaning_v1.bookings), 83::bigint, 'the view shows a worker as many');
SELECT is((SELECT count(*) FROM cleaning_v1.bookings
		WHERE price_minor IS NOT NULL OR currency IS NOT NULL OR gst_rate IS NOT NULL), 0::bigint,
	'and no price of any');
SELECT is((SELECT id FROM cleaning.workers), '0d9f6c1e-0004-7000-8000-0000a0000001', 'the record that a worker reads is the own one');
SELECT throws_ok('TABLE cleaning.invoice_counters', '42501', 'permission denied for table invoice_counters',
	'the invoice counter is for functions alone');

SELECT pg_temp.act_as('client');
SELECT is((SELECT array_agg(DISTINCT client_id) FROM cleaning.bookings),
	'{0d9f6c1e-0002-7000-8000-0000a0000001}', 'a client''s bookings are the own ones');
SELECT is((SELECT array_agg(DISTINCT client_id) FROM cleaning.invoices),
	'{0d9f6c1e-0002-7000-8000-0000a0000001}', 'so are the invoices');
SELECT is((SELECT array_agg(DISTINCT client_id) FROM cleaning.invoice_items),
	'{0d9f6c1e-0002-7000-8000-0000a0000001}', 'their lines');
SELECT is((SELECT array_agg(DISTINCT client_id) FROM cleaning.payments),
	'{0d9f6c1e-0002-7000-8000-0000a0000001}', 'and the payments');
SELECT is((SELECT count(*) FROM cleaning_v1.bookings WHERE price_minor > 0 AND currency = 'CAD'), 8::bigint,
	'a client sees the own prices');

RESET ROLE;
SELECT ringfence.set_context('0d9f6c1e-0000-7000-8000-00000000000a', NULL, '{worker}',
	'{"worker": "0d9f6c1e-0004-7000-8000-0000b0000001"}');
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT count(*) FROM cleaning.bookings), 0::bigint, 'a worker record of another organization opens nothing');
RESET ROLE;
SELECT ringfence.set_context('0d9f6c1e-0000-7000-8000-00000000000a', NULL, '{worker,client}', '{}');
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT count(*) FROM cleaning.bookings), 0::bigint, 'nor do the roles without a party');
RESET ROLE;
SELECT ringfence.set_context('0d9f6c1e-0000-7000-8000-00000000000a', NULL, '{}', '{}');
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT sum(rows) FROM pg_temp.seen()), 0::numeric, 'nor does membership without a role');
RESET ROLE;
SELECT ringfence.set_context();
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT sum(rows) FROM pg_temp.seen()), 0::numeric, 'without an organization there are no rows');
SELECT throws_ok($$INSERT INTO cleaning.clients (name) VALUES ('Nobody')$$, '42501',
	'new row violates row-level security policy for table "clients"', 'and none can be written');
SELECT throws_ok($$INSERT INTO cleaning.clients (org_id, name) VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', 'Nobody')$$,
	'42501', 'new row violates row-level security policy for table "clients"',
	'whatever organization they name');
RESET ROLE;
SET LOCAL ROLE ringfence_anon;
SELECT throws_ok('SELECT id FROM cleaning_v1.bookings', '42501', 'permission denied for schema cleaning_v1',
	'nothing of it is public');

-- Writing.

SELECT pg_temp.act_as('dispatcher');
SELECT lives_ok($$INSERT INTO cleaning_v1.bookings (id, client_id, team_id, starts_at, ends_at, address, price_minor)
	VALUES ('00000000-0000-7000-8000-000000000001', '0d9f6c1e-0002-7000-8000-0000a0000002',
		'0d9f6c1e-0003-7000-8000-0000a0000001', '2026-01-05 17:00+00', '2026-01-05 19:00+00', '1 Test Street', 10010)$$,
	'a dispatcher makes a booking with its price');
SELECT results_eq($$SELECT status, version, price_minor, currency, gst_rate, notes FROM cleaning_v1.bookings
	WHERE id = '00000000-0000-7000-8000-000000000001'$$,
	$$VALUES ('draft', 1, 10010::bigint, 'CAD', 0.05000::numeric, '')$$,
	'it is a draft, in the organization''s currency and with its GST rate');
SELECT lives_ok($$UPDATE cleaning_v1.bookings SET price_minor = 12000, gst_rate = 0, notes = 'Ring twice'
	WHERE id = '00000000-0000-7000-8000-000000000001'$$, 'a dispatcher changes both');
SELECT results_eq($$SELECT version, price_minor, currency, gst_rate, notes FROM cleaning_v1.bookings
	WHERE id = '00000000-0000-7000-8000-000000000001'$$,
	$$VALUES (2, 12000::bigint, 'CAD', 0.00000::numeric, 'Ring twice')$$, 'and both have changed');
SELECT lives_ok($$UPDATE cleaning_v1.bookings SET client_id = '0d9f6c1e-0002-7000-8000-0000a0000003'
	WHERE id = '00000000-0000-7000-8000-000000000001'$$, 'a draft may go to another client');
SELECT is((SELECT client_id FROM cleaning.booking_prices WHERE booking_id = '00000000-0000-7000-8000-000000000001'),
	'0d9f6c1e-0002-7000-8000-0000a0000003', 'and its price goes with it');
SELECT throws_ok($$INSERT INTO cleaning_v1.bookings (client_id, starts_at, ends_at, address, status)
	VALUES ('0d9f6c1e-0002-7000-8000-0000a0000002', '2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x', 'done')$$,
	'22023', 'a new booking is a draft of version 1', 'a booking begins as a draft');
SELECT throws_ok($$INSERT INTO cleaning.bookings (client_id, team_id, starts_at, ends_at, address, status)
	VALUES ('0d9f6c1e-0002-7000-8000-0000a0000002', '0d9f6c1e-0003-7000-8000-0000a0000001', '2026-01-05 17:00+00',
		'2026-01-05 19:00+00', 'x', 'done')$$,
	'42501', 'permission denied for table bookings', 'in raw SQL too');
SELECT throws_ok($$UPDATE cleaning_v1.bookings SET id = '00000000-0000-7000-8000-000000000002'
	WHERE id = '00000000-0000-7000-8000-000000000001'$$,
	'22023', 'org_id, id, created_at and updated_at are set by the database', 'the view keeps the key');
SELECT throws_ok($$UPDATE cleaning.bookings SET id = '00000000-0000-7000-8000-000000000002'
	WHERE id = '00000000-0000-7000-8000-000000000001'$$,
	'42501', 'permission denied for table bookings', 'the grants keep it in raw SQL');
SELECT throws_ok($$UPDATE cleaning_v1.bookings SET price_minor = NULL WHERE id = '00000000-0000-7000-8000-000000000001'$$,
	'22023', 'currency and GST rate need a price', 'a price stays');
SELECT throws_ok($$DELETE FROM cleaning.bookings WHERE id = '00000000-0000-7000-8000-000000000001'$$,
	'42501', 'permission denied for table bookings', 'bookings are not deleted');
SELECT throws_ok($$DELETE FROM cleaning_v1.bookings WHERE id = '00000000-0000-7000-8000-000000000001'$$,
	'42501', 'permission denied for view bookings', 'through the view neither');
SELECT throws_ok($$INSERT INTO cleaning.worker_rates (worker_id, valid_from, rate_minor)
	VALUES ('0d9f6c1e-0004-7000-8000-0000a0000001', '2026-01-01', 1)$$,
	'42501', 'new row violates row-level security policy for table "worker_rates"', 'a dispatcher sets no rates');
SELECT throws_ok($$UPDATE cleaning.invoices SET paid_minor = 0$$, '42501', 'permission denied for table invoices',
	'nobody sets paid amounts');
UPDATE cleaning.invoices SET notes = 'hello' WHERE number = 1;
SELECT is((SELECT notes FROM cleaning.invoices WHERE number = 1), '', 'a dispatcher does not change invoices');
DELETE FROM cleaning.leads;
SELECT is((SELECT count(*) FROM cleaning.leads), 24::bigint, 'nor delete leads');
SELECT lives_ok($$INSERT INTO cleaning_v1.leads (name, email, source) VALUES ('New Lead', 'lead@example.com', 'web')$$,
	'a dispatcher notes a lead');
SELECT lives_ok($$UPDATE cleaning_v1.leads SET status = 'contacted' WHERE email = 'lead@example.com'$$, 'and works on it');
SELECT throws_ok($$UPDATE cleaning_v1.leads SET status = 'converted' WHERE email = 'lead@example.com'$$,
	'23514', 'new row for relation "leads" violates check constraint "leads_client_id_check"',
	'conversion is for convert_lead()');
SELECT throws_ok($$UPDATE cleaning_v1.leads SET client_id = '0d9f6c1e-0002-7000-8000-0000a0000002'$$,
	'42501', 'permission denied for table leads', 'so is the client of a lead');

SELECT pg_temp.act_as('finance');
SELECT lives_ok($$INSERT INTO cleaning_v1.worker_rates (worker_id, valid_from, rate_minor)
	VALUES ('0d9f6c1e-0004-7000-8000-0000a0000001', '2026-01-01', 2500)$$, 'finance sets rates');
SELECT is((SELECT currency FROM cleaning_v1.worker_rates WHERE valid_from = '2026-01-01'), 'CAD',
	'in the organization''s currency');
SELECT lives_ok($$UPDATE cleaning_v1.invoices SET due_date = due_date + 7, notes = 'extended' WHERE number = 2$$,
	'finance extends an invoice');
SELECT is((SELECT notes FROM cleaning.invoices WHERE number = 2), 'extended', 'which has changed');
SELECT throws_ok($$UPDATE cleaning.invoices SET number = 1000 WHERE number = 2$$,
	'42501', 'permission denied for table invoices', 'an invoice keeps its number');
SELECT throws_ok($$UPDATE cleaning.invoices SET net_minor = 1 WHERE number = 2$$,
	'42501', 'permission denied for table invoices', 'and its amounts');
SELECT throws_ok($$UPDATE cleaning.invoices SET due_date = issue_date - 1 WHERE number = 2$$,
	'23514', 'new row for relation "invoices" violates check constraint "invoices_due_date_check"',
	'it is not due before it is issued');
SELECT throws_ok($$UPDATE cleaning.invoices SET due_date = 'infinity' WHERE number = 2$$,
	'23514', 'new row for relation "invoices" violates check constraint "invoices_due_date_check"',
	'nor never');
SELECT throws_ok($$INSERT INTO cleaning.payments (invoice_id, client_id, kind, amount_minor, currency, provider, provider_ref)
	SELECT id, client_id, 'payment', 1, currency, 'cash', 'forged' FROM cleaning.invoices WHERE number = 2$$,
	'42501', 'permission denied for table payments', 'payments are recorded by record_payment() alone');
SELECT throws_ok($$UPDATE cleaning_v1.bookings SET notes = 'x' WHERE id = '0d9f6c1e-0006-7000-8000-0000a0000001'$$,
	'42501', 'not allowed to change this booking', 'finance does not change bookings');
UPDATE cleaning.booking_prices SET price_minor = 0;
SELECT is((SELECT count(*) FROM cleaning.booking_prices WHERE price_minor = 0), 0::bigint, 'nor prices');

SELECT pg_temp.act_as('worker');
SELECT throws_ok($$UPDATE cleaning_v1.bookings SET notes = 'x' WHERE id = '0d9f6c1e-0006-7000-8000-0000a0000004'$$,
	'42501', 'not allowed to change this booking', 'a worker does not change bookings');
UPDATE cleaning.bookings SET notes = 'x' WHERE id = '0d9f6c1e-0006-7000-8000-0000a0000004';
SELECT is((SELECT count(*) FROM cleaning.bookings WHERE notes = 'x'), 0::bigint, 'in raw SQL neither');
SELECT throws_ok($$INSERT INTO cleaning_v1.bookings (client_id, starts_at, ends_at, address)
	VALUES ('0d9f6c1e-0002-7000-8000-0000a0000002', '2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x')$$,
	'42501', 'new row violates row-level security policy for table "bookings"', 'nor make them');
SELECT throws_ok($$INSERT INTO cleaning.booking_prices (booking_id, client_id, price_minor)
	VALUES ('00000000-0000-7000-8000-000000000001', '0d9f6c1e-0002-7000-8000-0000a0000003', 1) ON CONFLICT DO NOTHING$$,
	'42501', 'new row violates row-level security policy for table "booking_prices"', 'nor probe prices by inserting them');
SELECT pg_temp.act_as('client');
UPDATE cleaning.clients SET name = 'x';
SELECT isnt((SELECT name FROM cleaning.clients), 'x', 'a client does not change the own record');
SELECT throws_ok($$UPDATE cleaning_v1.bookings SET address = 'x' WHERE id = '0d9f6c1e-0006-7000-8000-0000a0000029'$$,
	'42501', 'not allowed to change this booking', 'nor the own booking');

SELECT pg_temp.act_as('admin');
SELECT lives_ok($$DELETE FROM cleaning_v1.leads WHERE email = 'lead@example.com'$$, 'an admin deletes a lead');
SELECT is((SELECT count(*) FROM cleaning_v1.leads WHERE email = 'lead@example.com'), 0::bigint, 'which is gone');
SELECT throws_ok($$DELETE FROM cleaning_v1.clients WHERE id = '0d9f6c1e-0002-7000-8000-0000a0000001'$$, '23503',
	'update or delete on table "clients" violates foreign key constraint "bookings_client_id_fkey" on table "bookings"',
	'a client with bookings stays');

-- Other organizations.

SELECT throws_ok($$INSERT INTO cleaning_v1.bookings (client_id, starts_at, ends_at, address)
	VALUES ('0d9f6c1e-0002-7000-8000-0000b0000001', '2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x')$$, '23503',
	'insert or update on table "bookings" violates foreign key constraint "bookings_client_id_fkey"',
	'another organization''s client can''t be booked');
SELECT throws_ok($$INSERT INTO cleaning_v1.bookings (client_id, starts_at, ends_at, address)
	VALUES ('ffffffff-ffff-7fff-8fff-ffffffffffff', '2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x')$$, '23503',
	'insert or update on table "bookings" violates foreign key constraint "bookings_client_id_fkey"',
	'and looks like one that does not exist');
SELECT throws_ok($$UPDATE cleaning_v1.bookings SET team_id = '0d9f6c1e-0003-7000-8000-0000b0000001'
	WHERE id = '00000000-0000-7000-8000-000000000001'$$, '23503',
	'insert or update on table "bookings" violates foreign key constraint "bookings_team_id_fkey"',
	'another organization''s team can''t be sent');
SELECT throws_ok($$INSERT INTO cleaning_v1.workers (name, team_id) VALUES ('x', '0d9f6c1e-0003-7000-8000-0000b0000001')$$,
	'23503', 'insert or update on table "workers" violates foreign key constraint "workers_team_id_fkey"',
	'nor joined');
SELECT throws_ok($$INSERT INTO cleaning_v1.worker_rates (worker_id, valid_from, rate_minor)
	VALUES ('0d9f6c1e-0004-7000-8000-0000b0000001', '2026-01-01', 1)$$,
	'23503', 'insert or update on table "worker_rates" violates foreign key constraint "worker_rates_worker_id_fkey"',
	'another organization''s worker has no rate here');
SELECT throws_ok($$INSERT INTO cleaning_v1.leads (name, referrer_id) VALUES ('x', '0d9f6c1e-0002-7000-8000-0000b0000001')$$,
	'23503', 'insert or update on table "leads" violates foreign key constraint "leads_referrer_id_fkey"',
	'another organization''s client sends no leads');
SELECT throws_ok($$INSERT INTO cleaning.booking_prices (booking_id, client_id, price_minor)
	VALUES ('0d9f6c1e-0006-7000-8000-0000b0000001', '0d9f6c1e-0002-7000-8000-0000b0000008', 1)$$,
	'23503', 'insert or update on table "booking_prices" violates foreign key constraint "booking_prices_booking_id_fkey"',
	'another organization''s booking has no price here');
SELECT throws_ok($$INSERT INTO cleaning.booking_prices (booking_id, client_id, price_minor)
	VALUES ('0d9f6c1e-0006-7000-8000-0000a0000144', '0d9f6c1e-0002-7000-8000-0000a0000001', 1)$$,
	'23503', 'insert or update on table "booking_prices" violates foreign key constraint "booking_prices_booking_id_fkey"',
	'a price can''t be shown to another client than the booking''s');
SELECT throws_ok($$INSERT INTO cleaning_v1.clients (org_id, name) VALUES ('0d9f6c1e-0000-7000-8000-00000000000b', 'x')$$,
	'42501', 'new row violates row-level security policy "org_isolation" for table "clients"',
	'rows can''t be put into another organization');
SELECT throws_ok($$UPDATE cleaning.clients SET org_id = '0d9f6c1e-0000-7000-8000-00000000000b'
	WHERE id = '0d9f6c1e-0002-7000-8000-0000a0000029'$$,
	'42501', 'new row violates row-level security policy "org_isolation" for table "clients"', 'nor moved there');
SELECT is((SELECT count(*) FROM cleaning_v1.bookings WHERE org_id <> '0d9f6c1e-0000-7000-8000-00000000000a'), 0::bigint,
	'nor found there');

-- What is unique is so within an organization.
SELECT lives_ok($$INSERT INTO cleaning_v1.clients (name, email) VALUES ('A', 'twin@example.com')$$, 'an e-mail address, once');
SELECT throws_ok($$INSERT INTO cleaning_v1.clients (name, email) VALUES ('B', 'Twin@Example.com')$$, '23505',
	'duplicate key value violates unique constraint "clients_email_key"', 'not twice, whatever its case');
SELECT throws_ok($$INSERT INTO cleaning_v1.teams (name) VALUES ('North')$$, '23505',
	'duplicate key value violates unique constraint "teams_name_key"', 'a team''s name neither');
SELECT pg_temp.act_as('owner', 'Birch Services');
SELECT lives_ok($$INSERT INTO cleaning_v1.clients (name, email) VALUES ('A', 'twin@example.com')$$,
	'another organization has a client of that address and learns nothing');
SELECT lives_ok($$INSERT INTO cleaning_v1.clients (id, name) VALUES ('0d9f6c1e-0002-7000-8000-0000a0000001', 'A')$$,
	'or of that id');
RESET ROLE;
SELECT is((SELECT count(*) FROM cleaning.clients WHERE id = '0d9f6c1e-0002-7000-8000-0000a0000001'), 2::bigint,
	'both stand');

SELECT * FROM finish();
ROLLBACK;
