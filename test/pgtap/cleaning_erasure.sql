-- A client, a worker, a lead who want to be forgotten: who they were is gone, what
-- was done, invoiced and paid stays.
BEGIN;
SELECT plan(35);
\ir include/act_as.sql
\set org '0d9f6c1e-0000-7000-8000-00000000000a'
\set client '0d9f6c1e-0002-7000-8000-0000a0000001'
\set worker '0d9f6c1e-0004-7000-8000-0000a0000001'
DELETE FROM ringfence_data.tombstones;

-- Client 1 sent a lead, became a client from another, and has photos, an open
-- booking, and a visit that is in progress.
SELECT pg_temp.act_as('dispatcher');
INSERT INTO cleaning_v1.bookings (id, client_id, team_id, starts_at, ends_at, address, notes, price_minor)
SELECT ('00000000-0000-7000-8000-00000000000' || n)::uuid, :'client', '0d9f6c1e-0003-7000-8000-0000a0000001', '2026-01-05 17:00+00', '2026-01-05 19:00+00',
	'1 Secret Street', 'Key under the mat', 100
FROM generate_series(1, 3) AS n;
SELECT cleaning_v1.confirm_booking('00000000-0000-7000-8000-000000000002'), cleaning_v1.confirm_booking('00000000-0000-7000-8000-000000000003') \g /dev/null
SELECT cleaning_v1.start_booking('00000000-0000-7000-8000-000000000003') \g /dev/null
SELECT cleaning_v1.photo_begin('00000000-0000-7000-8000-000000000003', 'image/png', n, repeat('a', 64)) FROM generate_series(1, 2) AS n \g /dev/null
RESET ROLE;
UPDATE cleaning.leads SET referrer_id = :'client' WHERE id = '0d9f6c1e-0009-7000-8000-0000a0000001';
UPDATE cleaning.invoices SET notes = 'for Mrs. Secret' WHERE org_id = :'org' AND client_id = :'client';
SELECT count(*) AS invoices, sum(total_minor) AS total, sum(paid_minor) AS paid, min(number) AS number FROM cleaning.invoices WHERE org_id = :'org' AND client_id = :'client' \gset
SELECT count(*) AS others FROM cleaning.clients WHERE org_id = :'org' AND name !~ '^anon-' \gset
SELECT name, email, phone, address FROM cleaning.clients WHERE org_id = :'org' AND id = :'client' \gset
CREATE TEMPORARY TABLE photos_before AS SELECT object_key FROM cleaning.photos WHERE org_id = :'org' AND client_id = :'client';
GRANT SELECT ON photos_before TO ringfence_member;
SELECT cmp_ok((SELECT count(*) FROM photos_before), '>=', 2::bigint, 'the client has photos');

-- The client asks for it, and is told first what is known.
SELECT pg_temp.act_as('client');
SELECT is((SELECT jsonb_object_agg(t.key, jsonb_array_length(t.value)) FROM jsonb_each(ringfence_v1.export_subject('client', :'client') -> 'tables') AS t
		WHERE t.key IN ('cleaning.clients', 'cleaning.bookings', 'cleaning.invoices', 'cleaning.invoice_items', 'cleaning.leads')),
	'{"cleaning.clients": 1, "cleaning.bookings": 11, "cleaning.invoices": 6, "cleaning.invoice_items": 6, "cleaning.leads": 1}', 'a client is told everything');
SELECT throws_ok(format('SELECT ringfence_v1.export_subject(''client'', %L)', '0d9f6c1e-0002-7000-8000-0000a0000002'), '42501', 'permission denied for this subject',
	'and nothing of others');
SELECT throws_ok(format('SELECT * FROM ringfence_v1.erase_subject(''client'', %L, ''x'', false)', '0d9f6c1e-0002-7000-8000-0000a0000002'), '42501',
	'permission denied for this subject', 'and has no other erased');
SELECT results_eq($$
	SELECT e.relation, e.action, e.rows FROM ringfence_v1.erase_me('client', 'I move away') AS e
		WHERE e.relation IN ('cleaning.clients', 'cleaning.bookings', 'cleaning.invoices', 'cleaning.invoice_items', 'cleaning.leads', 'cleaning.photos')
			AND e.action <> 'forget' ORDER BY 1
$$, $$
	VALUES ('cleaning.bookings', 'anonymize', 11::bigint), ('cleaning.clients', 'anonymize', 1), ('cleaning.invoice_items', 'anonymize', 6),
		('cleaning.invoices', 'anonymize', 6), ('cleaning.leads', 'anonymize', 1), ('cleaning.photos', 'delete', (SELECT count(*) FROM photos_before))
$$, 'what the client asks for is done');
RESET ROLE;
SELECT results_eq(format('SELECT name ~ ''^anon-[0-9a-f]{32}$'', email, phone, address FROM cleaning.clients WHERE org_id = %L AND id = %L', :'org', :'client'),
	'VALUES (true, NULL::text, NULL::text, NULL::text)', 'the client is nobody');
SELECT is((SELECT count(*) FROM cleaning.clients WHERE org_id = :'org' AND name !~ '^anon-'), :others - 1::bigint, 'and no other is');
SELECT is_empty(format('SELECT id FROM cleaning.bookings WHERE org_id = %L AND client_id = %L AND (address <> '''' OR notes <> '''')', :'org', :'client'), 'no booking says where');
SELECT results_eq('SELECT id, status FROM cleaning.bookings WHERE id::text LIKE ''00000000-%'' ORDER BY id', $$
	VALUES ('00000000-0000-7000-8000-000000000001'::uuid, 'canceled'), ('00000000-0000-7000-8000-000000000002', 'canceled'), ('00000000-0000-7000-8000-000000000003', 'canceled')
$$, 'what was not done is canceled');
SELECT is((SELECT count(*) FROM cleaning.bookings WHERE org_id = :'org' AND client_id = :'client' AND status IN ('done', 'disputed')), :invoices::bigint, 'what was done stays done');
SELECT results_eq(format('SELECT count(*), sum(total_minor), sum(paid_minor), min(number) FROM cleaning.invoices WHERE org_id = %L AND client_id = %L', :'org', :'client'),
	format('VALUES (%s::bigint, %s::numeric, %s::numeric, %s::bigint)', :'invoices', :'total', :'paid', :'number'), 'invoices have their numbers and amounts');
SELECT is_empty(format('SELECT number FROM cleaning.invoices WHERE org_id = %L AND client_id = %L AND notes <> ''''', :'org', :'client'), 'and no notes');
SELECT results_eq(format('SELECT DISTINCT description FROM cleaning.invoice_items WHERE org_id = %L AND client_id = %L', :'org', :'client'), ARRAY['Cleaning'], 'their lines say no address');
SELECT isnt((SELECT count(*) FROM cleaning.payments WHERE org_id = :'org' AND client_id = :'client'), 0::bigint, 'payments stay');
SELECT is((SELECT count(*) FROM cleaning.photos WHERE org_id = :'org' AND client_id = :'client'), 0::bigint, 'photos don''t');
SELECT set_eq('SELECT object_key COLLATE "default" FROM ringfence_data.tombstones', 'SELECT object_key COLLATE "default" FROM photos_before', 'and each leaves a tombstone for its image');
SELECT results_eq(format('SELECT name ~ ''^anon-[0-9a-f]{32}$'', email, phone, address, status FROM cleaning.leads WHERE org_id = %L AND client_id = %L', :'org', :'client'),
	$$VALUES (true, NULL::text, NULL::text, NULL::text, 'converted')$$, 'so is the lead that became the client');
SELECT is((SELECT name FROM cleaning.leads WHERE id = '0d9f6c1e-0009-7000-8000-0000a0000001'), 'Prospect 1', 'a lead that the client sent is somebody else');
SELECT is((SELECT count(*) FROM ringfence_data.memberships WHERE org_id = :'org' AND party ->> 'client' = :'client'), 0::bigint, 'the client can''t sign in any more');
SELECT is_empty(format($$
	SELECT l.id, l.operation FROM ringfence_v1.audit_log AS l JOIN ringfence_data.audit_log AS r ON r.id = l.id AND r.org_id = %L
		WHERE l.relation LIKE 'cleaning.%%' AND concat(l.old, l.new) ~ %L
$$, :'org', 'Secret|' || :'email' || '|under the mat.*' || :'client'), 'the audit log doesn''t know who it was');
SELECT pg_temp.act_as('owner');
SELECT lives_ok($$INSERT INTO cleaning_v1.clients (name, email) VALUES ('Again', (SELECT 'again@example.com'))$$, 'business goes on');
SELECT lives_ok(format('INSERT INTO cleaning_v1.clients (name, email) VALUES (''Again'', %L)', :'email'), 'the address is free');
SELECT is((SELECT coalesce(sum(e.rows), 0) FROM ringfence_v1.erase_subject('client', :'client', 'again', false) AS e WHERE e.action IN ('delete', 'anonymize')), 0::numeric,
	'a second time there is nothing to do');
SELECT lives_ok(format('SELECT cleaning_v1.record_payment(%L, ''refund'', 1, ''CAD'', ''bank'', ''late'')',
	(SELECT id FROM cleaning_v1.invoices WHERE client_id = :'client' AND status = 'paid' ORDER BY number LIMIT 1)), 'and money can be given back');

-- A worker.
SELECT is((SELECT sum(e.rows) FROM ringfence_v1.erase_subject('worker', :'worker', 'left', false) AS e WHERE e.relation = 'cleaning.workers' AND e.action = 'anonymize'), 1::numeric,
	'a worker is erased');
SELECT results_eq(format('SELECT name ~ ''^anon-'', email, phone, team_id FROM cleaning_v1.workers WHERE id = %L', :'worker'), 'VALUES (true, NULL::text, NULL::text, NULL::uuid)', 'and in no team');
SELECT is((SELECT count(*) FROM cleaning_v1.worker_rates WHERE worker_id = :'worker'), 2::bigint, 'what the hours cost stays');
RESET ROLE;
SELECT is((SELECT count(*) FROM ringfence_data.memberships WHERE org_id = :'org' AND party ->> 'worker' = :'worker'), 0::bigint, 'the worker can''t sign in any more');

-- Leads: one goes, one for whom a credit was given is nobody.
SELECT pg_temp.act_as('admin');
SELECT ringfence_v1.erase_subject('lead', '0d9f6c1e-0009-7000-8000-0000a0000001', 'asked', false), ringfence_v1.erase_subject('lead', '0d9f6c1e-0009-7000-8000-0000a0000008', 'asked', false) \g /dev/null
SELECT is((SELECT count(*) FROM cleaning_v1.leads WHERE id = '0d9f6c1e-0009-7000-8000-0000a0000001'), 0::bigint, 'a lead is deleted');
SELECT results_eq('SELECT name ~ ''^anon-'', email, status FROM cleaning_v1.leads WHERE id = ''0d9f6c1e-0009-7000-8000-0000a0000008''', $$VALUES (true, NULL::text, 'converted')$$,
	'one that a credit was given for is anonymized');
SELECT is((SELECT count(*) FROM cleaning_v1.referral_credits), 3::bigint, 'and the credit stays');

-- A hold on the table, or on rows of it.
SELECT ringfence_v1.place_hold('a dispute', 'cleaning.invoices') \g /dev/null
SELECT throws_ok('SELECT * FROM ringfence_v1.erase_subject(''client'', ''0d9f6c1e-0002-7000-8000-0000a0000002'', ''x'', false)', 'PT409', 'a legal hold keeps this subject',
	'a client whose invoices are held stays');
SELECT isnt((SELECT email FROM cleaning_v1.clients WHERE id = '0d9f6c1e-0002-7000-8000-0000a0000002'), NULL, 'as they were');
SELECT is_empty('SELECT status FROM cleaning_v1.bookings WHERE client_id = ''0d9f6c1e-0002-7000-8000-0000a0000002'' AND status = ''canceled'' AND updated_at = now()',
	'and what is open goes on');
RESET ROLE;
SELECT is_empty('SELECT code, object FROM ringfence.verify() WHERE severity = ''error''', 'nothing is broken by it');

SELECT * FROM finish();
ROLLBACK;
