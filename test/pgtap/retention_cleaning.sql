-- What the cleaning app keeps, and for how long: photos 90 days, notes a year, leads
-- that came to nothing one or two, business records seven. By a clock that the test
-- moves over the demo data, whose bookings are of 2025 and clients of 2024.
SELECT plan(40);
SET timezone = 'UTC';
\set org '0d9f6c1e-0000-7000-8000-00000000000a'

CREATE FUNCTION pg_temp.clock(moment timestamptz) RETURNS void LANGUAGE sql
AS $$ SELECT set_config('ringfence.retention_clock', moment::text, false) $$;
CREATE FUNCTION pg_temp.finished() RETURNS text LANGUAGE sql
AS $$ SELECT state || ' ' || errors FROM ringfence_data.retention_runs ORDER BY id DESC LIMIT 1 $$;
-- How many rows of each table there are, of all organizations.
CREATE FUNCTION pg_temp.rows() RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	answer jsonb := '{}';
	rel text;
	rows bigint;
BEGIN
	FOREACH rel IN ARRAY ARRAY['clients', 'bookings', 'booking_prices', 'invoices', 'invoice_items', 'payments', 'leads', 'referral_credits', 'photos', 'workers'] LOOP
		EXECUTE format('SELECT count(*) FROM cleaning.%I', rel) INTO rows;
		answer := answer || jsonb_build_object(rel, rows);
	END LOOP;
	RETURN answer;
END
$$;

-- Declared.

SELECT results_eq($$
	SELECT p.relation::text, p.step, p.action COLLATE "default", p.column_name::text COLLATE "default", p.keep, p.max_keep, p.outlives_org
		FROM ringfence_data.retention_policies AS p WHERE p.relation::text LIKE 'cleaning.%' ORDER BY 1, 2
$$, $$
	VALUES ('cleaning.bookings', 'delete', 'delete', 'ends_at', interval '7 years', interval '10 years', false),
		('cleaning.bookings', 'not_done', 'delete', 'ends_at', '2 years', '7 years', false),
		('cleaning.bookings', 'notes', 'anonymize', 'ends_at', '1 year', '7 years', false),
		('cleaning.clients', 'delete', 'delete', 'created_at', '7 years', '10 years', false),
		('cleaning.invoice_items', 'forever', 'forever', NULL, NULL, NULL, true),
		('cleaning.invoices', 'delete', 'delete', 'created_at', '7 years', '10 years', true),
		('cleaning.leads', 'converted', 'anonymize', 'created_at', '1 year', '7 years', false),
		('cleaning.leads', 'delete', 'delete', 'created_at', '7 years', '10 years', false),
		('cleaning.leads', 'lost', 'delete', 'created_at', '1 year', '2 years', false),
		('cleaning.leads', 'stale', 'delete', 'created_at', '2 years', '3 years', false),
		('cleaning.payments', 'delete', 'delete', 'created_at', '7 years', '10 years', true),
		('cleaning.photos', 'delete', 'delete', 'created_at', '90 days', '1 year', false),
		('cleaning.referral_credits', 'delete', 'delete', 'created_at', '7 years', '10 years', true),
		('cleaning.workers', 'forever', 'forever', NULL, NULL, NULL, false)
$$, 'what is kept for how long');
SELECT is_empty($$
	SELECT c.relation::text, c.column_name FROM ringfence_data.columns AS c
		WHERE c.label = 'personal' AND c.relation::text LIKE 'cleaning.%'
			AND NOT EXISTS (SELECT FROM ringfence_data.retention_policies AS p WHERE p.relation = c.relation)
$$, 'no table with personal values is left out');
SELECT pg_temp.rows() AS before \gset
SELECT cmp_ok((SELECT min(value::integer) FROM jsonb_each_text(:'before')), '>', 0, 'there are rows in all tables');

-- Photos.

SELECT pg_temp.clock('2025-01-02') \g /dev/null
CALL ringfence.run_retention();
SELECT is(pg_temp.rows(), :'before', 'before anything is due all stays');
SELECT is(pg_temp.finished(), 'finished 0', 'and the run finished');
SELECT pg_temp.clock('2025-07-01') \g /dev/null
CREATE TEMPORARY TABLE due AS SELECT object_key FROM cleaning.photos WHERE created_at < '2025-04-02';
GRANT SELECT ON due TO ringfence_jobs;
SELECT cmp_ok((SELECT count(*) FROM due), '>', 10::bigint, 'photos are due that are older than 90 days');
BEGIN;
SELECT ringfence.set_context(:'org', '0d9f6c1e-0001-7000-8000-0000a0000001', '{owner}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT ringfence_v1.set_retention('cleaning.photos', 'delete', '30 days', 'we need them for less') \g /dev/null
COMMIT;
INSERT INTO due (object_key) SELECT object_key FROM cleaning.photos WHERE org_id = :'org' AND created_at >= '2025-04-02' AND created_at < '2025-06-01';
SELECT results_eq('SELECT sum(rows) FROM ringfence.retention_preview(''cleaning.photos'')', 'SELECT count(*)::numeric FROM due', 'which can be seen before');
CALL ringfence.run_retention();
SELECT is(pg_temp.finished(), 'finished 0', 'a run in July');
SELECT is_empty('SELECT object_key FROM due INTERSECT SELECT object_key FROM cleaning.photos', 'none of them stays');
SELECT is(pg_temp.rows(), :'before'::jsonb || jsonb_build_object('photos', (:'before'::jsonb ->> 'photos')::integer - (SELECT count(*) FROM due)), 'and everything else does');
SELECT set_eq('SELECT object_key FROM ringfence_data.tombstones', 'SELECT object_key FROM due', 'each left a tombstone');
SELECT results_eq('SELECT DISTINCT created_at, due_at, done_at FROM ringfence_data.tombstones WHERE created_at < ''2025-07-01 01:00''',
	$$VALUES ('2025-07-01 00:00+00'::timestamptz, '2025-07-01 00:00+00'::timestamptz, NULL::timestamptz)$$, 'at once');
SELECT is(min(created_at) >= '2025-06-01', true, 'one organization keeps less than the others') FROM cleaning.photos WHERE org_id = :'org';
SELECT is(min(created_at) BETWEEN '2025-04-02' AND '2025-05-01', true, 'who keep 90 days') FROM cleaning.photos WHERE org_id <> :'org';

-- A worker deletes them; what is done is proof for a while.
BEGIN;
SET LOCAL ROLE ringfence_jobs;
SELECT is(ringfence.tombstone_done(ARRAY(SELECT c.id FROM ringfence.tombstone_claim(10000) AS c)), (SELECT count(*) FROM due), 'a worker has them deleted');
COMMIT;
SELECT pg_temp.clock('2025-09-28') \g /dev/null
CALL ringfence.run_retention(rel => 'ringfence_data.tombstones');
SELECT is((SELECT count(*) FROM ringfence_data.tombstones), (SELECT count(*) FROM due), 'which is on record for 90 days');
SELECT pg_temp.clock('2025-09-30') \g /dev/null
CALL ringfence.run_retention(rel => 'ringfence_data.tombstones');
SELECT is((SELECT count(*) FROM ringfence_data.tombstones), 0::bigint, 'and no longer');

-- Notes and leads.

SELECT pg_temp.clock('2025-11-01') \g /dev/null
CALL ringfence.run_retention();
SELECT is((SELECT count(*) FROM cleaning.leads), 72::bigint, 'leads are kept for a year');
SELECT pg_temp.clock('2025-12-01') \g /dev/null
SELECT count(*) AS lost FROM cleaning.leads WHERE status = 'lost' \gset
SELECT count(*) AS converted FROM cleaning.leads WHERE status = 'converted' \gset
CALL ringfence.run_retention();
SELECT is(pg_temp.finished(), 'finished 0', 'a run in December');
SELECT is((SELECT count(*) FROM cleaning.leads), (72 - :lost)::bigint, 'those that were lost go then');
SELECT is((SELECT count(*) FROM cleaning.leads WHERE status = 'lost'), 0::bigint, 'all of them');
SELECT is((SELECT count(*) FROM cleaning.leads WHERE status = 'converted' AND name ~ '^anon-[0-9a-f]{32}$' AND num_nonnulls(email, phone, address) = 0),
	:converted::bigint, 'those that became clients forget who they were');
SELECT is((SELECT count(DISTINCT name) FROM cleaning.leads WHERE status = 'converted'), :converted::bigint, 'each by another name');
SELECT is((SELECT count(*) FROM cleaning.leads AS l WHERE status = 'converted' AND EXISTS (SELECT FROM cleaning.clients AS c WHERE c.org_id = l.org_id AND c.id = l.client_id)),
	:converted::bigint, 'and which client they became is known');
SELECT isnt((SELECT count(*) FROM cleaning.leads WHERE status IN ('new', 'contacted') AND name LIKE 'Prospect %'), 0::bigint, 'those that are open are left alone');
SELECT pg_temp.clock('2026-03-01') \g /dev/null
SELECT count(*) FILTER (WHERE ends_at < '2025-03-01') AS old_notes, count(*) FILTER (WHERE ends_at >= '2025-03-01') AS new_notes
	FROM cleaning.bookings WHERE notes <> '' \gset
SELECT cmp_ok(:old_notes, '>', 0, 'bookings of more than a year ago have notes');
SELECT throws_ok('UPDATE cleaning.bookings SET address = '''' WHERE status = ''done''', 'PT409', 'a booking that is done cannot be changed', 'what is done is not changed');
CREATE TEMPORARY TABLE versions AS SELECT org_id, id, version, updated_at FROM cleaning.bookings;
CALL ringfence.run_retention();
SELECT is((SELECT count(*) FROM cleaning.bookings WHERE notes <> ''), :new_notes::bigint, 'but loses its notes after a year');
SELECT results_eq('SELECT org_id, id, version, updated_at FROM cleaning.bookings ORDER BY 1, 2', 'TABLE versions ORDER BY 1, 2', 'and is of the same version');
SELECT is((SELECT count(*) FROM cleaning.photos), 0::bigint, 'no photo of 2025 is left');

-- Two years: leads and bookings that came to nothing.

SELECT pg_temp.clock('2028-03-01') \g /dev/null
SELECT count(*) AS undone FROM cleaning.bookings WHERE status IN ('draft', 'canceled') AND ends_at < '2026-03-01' \gset
CALL ringfence.run_retention();
SELECT is((SELECT count(*) FROM cleaning.leads), :converted::bigint, 'leads that nothing came of are gone after two years');
SELECT is((SELECT count(*) FROM cleaning.bookings), (999 - :undone)::bigint, 'and bookings that were not done');
SELECT is((SELECT count(*) FROM cleaning.booking_prices AS p WHERE NOT EXISTS (SELECT FROM cleaning.bookings AS b WHERE b.org_id = p.org_id AND b.id = p.booking_id)),
	0::bigint, 'with their prices');
SELECT is(pg_temp.rows() -> 'invoices', :'before'::jsonb -> 'invoices', 'invoices stay');
SELECT is(pg_temp.rows() -> 'clients', :'before'::jsonb -> 'clients', 'so do clients');

-- Seven years: the rest, children before parents. One organization is abroad.

SELECT pg_temp.clock('2031-12-20') \g /dev/null
CALL ringfence.run_retention();
SELECT is((SELECT count(*) FROM cleaning.clients WHERE created_at < '2024-12-20'), (SELECT count(*) FROM cleaning.clients AS c
	WHERE c.created_at < '2024-12-20' AND (EXISTS (SELECT FROM cleaning.bookings AS b WHERE b.org_id = c.org_id AND b.client_id = c.id)
		OR EXISTS (SELECT FROM cleaning.leads AS l WHERE l.org_id = c.org_id AND c.id IN (l.client_id, l.referrer_id)))),
	'after seven years a client of whom nothing is on record goes');
BEGIN;
SELECT ringfence.set_context(:'org', '0d9f6c1e-0001-7000-8000-0000a0000001', '{owner}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT ringfence_v1.set_retention('cleaning.invoices', 'delete', '10 years', 'the law here') \g /dev/null
COMMIT;
SELECT pg_temp.clock('2033-06-01') \g /dev/null
-- Children go first, so that one run takes all of it.
CALL ringfence.run_retention();
SELECT is(pg_temp.finished(), 'finished 0', 'a run in 2033');
SELECT is((SELECT jsonb_object_agg(rel, rows) FROM (
		SELECT 'clients', count(*) FROM cleaning.clients WHERE org_id <> :'org'
		UNION ALL SELECT 'bookings', count(*) FROM cleaning.bookings WHERE org_id <> :'org'
		UNION ALL SELECT 'invoices', count(*) FROM cleaning.invoices WHERE org_id <> :'org'
		UNION ALL SELECT 'invoice_items', count(*) FROM cleaning.invoice_items WHERE org_id <> :'org'
		UNION ALL SELECT 'payments', count(*) FROM cleaning.payments
		UNION ALL SELECT 'leads', count(*) FROM cleaning.leads
		UNION ALL SELECT 'workers', count(*) FROM cleaning.workers WHERE org_id <> :'org') AS d (rel, rows)),
	'{"clients": 0, "bookings": 0, "invoices": 0, "invoice_items": 0, "payments": 0, "leads": 0, "workers": 16}', 'nothing of 2025 is left but staff');
SELECT is((SELECT count(*) FROM cleaning.invoices), (SELECT count(*) FROM cleaning.bookings), 'where invoices are kept for ten years, their bookings are');
SELECT is_empty('SELECT client_id FROM cleaning.invoices EXCEPT SELECT id FROM cleaning.clients', 'and their clients');

SELECT * FROM finish();
