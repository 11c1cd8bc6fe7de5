-- The demo data of the cleaning app: what its head promises, and that a second
-- run leaves it alone.
\ir ../../apps/cleaning/demo.sql
BEGIN;
SELECT plan(11);

SELECT is((SELECT count(*) FROM cleaning.bookings), 999::bigint, 'loaded twice, there are 999 bookings');
SELECT results_eq('SELECT id::text, name, settings ->> $$currency$$ FROM ringfence_data.orgs ORDER BY id', $$VALUES
	('0d9f6c1e-0000-7000-8000-00000000000a', 'Alder Clean', 'CAD'),
	('0d9f6c1e-0000-7000-8000-00000000000b', 'Birch Services', 'AUD'),
	('0d9f6c1e-0000-7000-8000-00000000000c', 'Cedar Home Care', 'NZD')$$, 'of three organizations');
SELECT results_eq($$SELECT user_id::text, roles::text, party::text FROM ringfence_data.memberships
	WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000a' ORDER BY user_id$$, $$VALUES
	('0d9f6c1e-0001-7000-8000-0000a0000001', '{owner}', '{}'),
	('0d9f6c1e-0001-7000-8000-0000a0000002', '{admin}', '{}'),
	('0d9f6c1e-0001-7000-8000-0000a0000003', '{dispatcher}', '{}'),
	('0d9f6c1e-0001-7000-8000-0000a0000004', '{finance}', '{}'),
	('0d9f6c1e-0001-7000-8000-0000a0000005', '{worker}', '{"worker": "0d9f6c1e-0004-7000-8000-0000a0000001"}'),
	('0d9f6c1e-0001-7000-8000-0000a0000006', '{client}', '{"client": "0d9f6c1e-0002-7000-8000-0000a0000001"}'),
	('0d9f6c1e-0001-7000-8000-0000a0000007', '{finance}', '{}')$$, 'with a member for each role');
SELECT is((SELECT count(*) FROM ringfence_data.memberships WHERE user_id = '0d9f6c1e-0001-7000-8000-0000a0000007'),
	3::bigint, 'and an accountant of all three');
SELECT is((SELECT team_id FROM cleaning.workers WHERE id = '0d9f6c1e-0004-7000-8000-0000a0000001'),
	'0d9f6c1e-0003-7000-8000-0000a0000001', 'the worker is in team 1');
SELECT is((SELECT count(DISTINCT status) FROM cleaning.bookings WHERE client_id = '0d9f6c1e-0002-7000-8000-0000a0000001'),
	4::bigint, 'the client has bookings in several statuses');
SELECT is((SELECT count(DISTINCT (org_id, status)) FROM cleaning.bookings), 18::bigint, 'each organization has bookings in all six');
SELECT is((SELECT count(DISTINCT (org_id, status)) FROM cleaning.invoices), 12::bigint, 'and invoices in all four');
SELECT is((SELECT count(DISTINCT (org_id, kind)) FROM cleaning.payments), 9::bigint, 'and payments of all three kinds');
SELECT is((SELECT count(DISTINCT (org_id, status)) FROM cleaning.leads), 12::bigint, 'and leads in all four');
SELECT results_eq('SELECT count(DISTINCT org_id), count(*) = 2 * count(DISTINCT (org_id, booking_id)) FROM cleaning.photos', 'VALUES (3::bigint, true)', 'and photos, two of a booking');

SELECT * FROM finish();
ROLLBACK;
