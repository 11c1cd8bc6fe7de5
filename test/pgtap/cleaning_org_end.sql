-- The end of a cleaning company: photos leave tombstones that outlive it, people are
-- gone or nobody, and invoices stay for the years that they must.
SELECT plan(22);
SET client_min_messages = warning;
\set org '0d9f6c1e-0000-7000-8000-00000000000a'
\set other '0d9f6c1e-0000-7000-8000-00000000000b'
DELETE FROM ringfence_data.tombstones;
CREATE TEMPORARY TABLE photos_before AS SELECT object_key COLLATE "default" AS object_key FROM cleaning.photos WHERE org_id = :'org';
CREATE TEMPORARY TABLE invoices_before AS SELECT number, total_minor, paid_minor, status FROM cleaning.invoices WHERE org_id = :'org';
SELECT count(*) AS photos FROM cleaning.photos WHERE org_id = :'other' \gset

CREATE FUNCTION public.rows(org uuid) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	answer jsonb := '{}';
	rel text;
	rows bigint;
BEGIN
	FOREACH rel IN ARRAY ARRAY['teams', 'workers', 'worker_rates', 'booking_prices', 'leads', 'photos', 'invoice_counters'] LOOP
		EXECUTE format('SELECT count(*) FROM cleaning.%I WHERE org_id = $1', rel) INTO rows USING org;
		answer := answer || jsonb_build_object(rel, rows);
	END LOOP;
	RETURN answer;
END
$$;
-- Alder Clean is closed and its deletion carried out, without waiting.
CREATE PROCEDURE public.finish_deletions() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..5000 LOOP
		EXIT WHEN ringfence.delete_orgs_step() = 0;
		COMMIT;
	END LOOP;
END
$$;
UPDATE ringfence_data.orgs SET status = 'closed' WHERE id = :'org';
SELECT ringfence.delete_org(:'org', 'they left', '0') \g /dev/null
CALL public.finish_deletions();

SELECT is((SELECT stage || ' ' || coalesce(waits_for, '') FROM ringfence_data.org_deletions), 'done ', 'the deletion is carried out');
SELECT is((SELECT status FROM ringfence_data.orgs WHERE id = :'org'), 'deleted', 'the organization is deleted');
SELECT is((SELECT count(*) FROM cleaning.photos WHERE org_id = :'org'), 0::bigint, 'no photo is left');
SELECT set_eq('SELECT object_key COLLATE "default" FROM ringfence_data.tombstones', 'SELECT object_key FROM photos_before', 'each leaves a tombstone');
SELECT is((SELECT count(*) FROM cleaning.photos WHERE org_id = :'other'), :photos::bigint, 'another organization''s stay');
SELECT results_eq(format('SELECT number, total_minor, paid_minor, status FROM cleaning.invoices WHERE org_id = %L ORDER BY number', :'org'),
	'TABLE invoices_before ORDER BY number', 'invoices stay as they were');
SELECT isnt((SELECT count(*) FROM cleaning.payments WHERE org_id = :'org'), 0::bigint, 'so do payments');
SELECT is((SELECT count(*) FROM cleaning.bookings WHERE org_id = :'org'), (SELECT count(*) FROM invoices_before), 'of bookings those that are invoiced');
SELECT is_empty(format('SELECT id FROM cleaning.bookings WHERE org_id = %L AND (address <> '''' OR notes <> '''')', :'org'), 'which say nowhere');
SELECT is_empty(format('SELECT id FROM cleaning.clients WHERE org_id = %L AND (name !~ ''^anon-[0-9a-f]{32}$'' OR num_nonnulls(email, phone, address) > 0)', :'org'),
	'and clients who are nobody');
SELECT is((SELECT count(*) FROM cleaning.invoice_items WHERE org_id = :'org' AND description LIKE 'Cleaning on %'), (SELECT count(*) FROM invoices_before), 'an invoice stays as it was issued, with its line');
SELECT is((SELECT count(*) FROM cleaning.referral_credits WHERE org_id = :'org'), 3::bigint, 'credits stay');
SELECT is_empty(format('SELECT id FROM cleaning.leads WHERE org_id = %L AND (name !~ ''^anon-'' OR num_nonnulls(email, phone, address) > 0)', :'org'), 'with leads who are nobody');
SELECT is(public.rows(:'org') - '{leads,teams}'::text[], '{"workers": 0, "worker_rates": 0, "booking_prices": 0, "photos": 0, "invoice_counters": 0}', 'the rest is gone');
SELECT is((SELECT (public.rows(:'other') ->> 'workers')::integer), 8, 'of this organization alone');

SELECT is_empty(format('SELECT id FROM ringfence_data.audit_log WHERE org_id = %L AND jsonb_path_exists(personal, ''$.*.*.value'')', :'org'),
	'the audit log knows nobody either');
SELECT isnt((SELECT count(*) FROM ringfence_data.audit_log WHERE org_id = :'other' AND jsonb_path_exists(personal, '$.*.*.value')), 0::bigint, 'but in the other organization');

-- Tombstones are worked off after it; what is done goes when its time has come.
SET ROLE ringfence_jobs;
SELECT is(ringfence.tombstone_done(ARRAY(SELECT c.id FROM ringfence.tombstone_claim(10000) AS c)), (SELECT count(*) FROM ringfence_data.tombstones), 'a worker has the images deleted');
RESET ROLE;
SELECT set_config('ringfence.retention_clock', (now() + interval '91 days')::text, false) \g /dev/null
CALL ringfence.run_retention(rel => 'ringfence_data.tombstones');
SELECT is((SELECT count(*) FROM ringfence_data.tombstones), 0::bigint, 'and is forgotten 90 days later');

-- And so do the invoices.
SELECT set_config('ringfence.retention_clock', '2034-01-01', false) \g /dev/null
CALL ringfence.run_retention(org => :'org');
SELECT is((SELECT count(*) FROM cleaning.invoices WHERE org_id = :'org'), 0::bigint, 'seven years later the invoices go');
SELECT is((SELECT count(*) FROM cleaning.clients WHERE org_id = :'org') + (SELECT count(*) FROM cleaning.bookings WHERE org_id = :'org')
	+ (SELECT count(*) FROM cleaning.payments WHERE org_id = :'org') + (SELECT count(*) FROM cleaning.leads WHERE org_id = :'org'), 0::bigint, 'with all that they referred to');
RESET ringfence.retention_clock;
SELECT is_empty('SELECT code, object FROM ringfence.verify() WHERE severity = ''error''', 'nothing is broken by it');

SELECT * FROM finish();
