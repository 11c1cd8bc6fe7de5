-- The end of an operator of chargers: drivers, sessions and positions are gone, Nova
-- that moved stays in the ledger, and the other operator's books agree as before.
\ir include/merchant.sql
SELECT plan(8);
SELECT pg_temp.volt() \g /dev/null
SELECT pg_temp.m_id('0', 'a', 0) AS org, pg_temp.m_id('0', 'b', 0) AS other, pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('3', 'a', 1) AS taco \gset
BEGIN;
SELECT pg_temp.act('owner');
SELECT merchant_v1.topup_merchant(:'asada', 1000, 'pi') \g /dev/null
SELECT pg_temp.act('driver');
SELECT merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) AS s \g /dev/null
SELECT merchant_v1.verify_visit((SELECT id FROM merchant_v1.active_exclusive())) \g /dev/null
COMMIT;
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
SELECT is((SELECT sum(n) FROM (
	SELECT count(*) FROM merchant.drivers WHERE org_id = :'org'
	UNION ALL SELECT count(*) FROM merchant.exclusive_sessions WHERE org_id = :'org'
	UNION ALL SELECT count(*) FROM merchant.visits WHERE org_id = :'org'
	UNION ALL SELECT count(*) FROM merchant.visit_codes WHERE org_id = :'org'
	UNION ALL SELECT count(*) FROM merchant.intents WHERE org_id = :'org'
	UNION ALL SELECT count(*) FROM merchant.merchants WHERE org_id = :'org'
	UNION ALL SELECT count(*) FROM merchant.settings WHERE org_id = :'org') AS t (n)), 0::numeric, 'nothing of it is left in the app');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_transfers WHERE org_id = :'org'), 2::bigint, 'Nova that moved is on the books');
SELECT is_empty('SELECT problem, object FROM merchant.nova_verify()', 'which nobody misses parties in');
SELECT is_empty(format('SELECT * FROM ringfence.ledger_verify(%L)', :'org'), 'and which agree with themselves');
SELECT is((SELECT count(*) FROM merchant.drivers WHERE org_id = :'other'), 3::bigint, 'the other operator is as before');
-- A party that is missing in an organization that is not deleted is still missed.
SET session_replication_role = replica;
DELETE FROM merchant.drivers WHERE org_id = :'other' AND name = 'Drew';
SET session_replication_role = origin;
SELECT results_eq('SELECT org_id, problem FROM merchant.nova_verify()', format('VALUES (%L::uuid, ''party_missing'')', :'other'), 'where a driver that vanished is missed');
SELECT is_empty('SELECT code, object FROM ringfence.verify() WHERE severity = ''error''', 'nothing is broken by it');

SELECT * FROM finish();
