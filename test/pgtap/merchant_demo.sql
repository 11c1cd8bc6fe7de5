-- The demo data of the merchant app: what its head promises, and that a second run
-- leaves it alone.
\ir ../../apps/merchant/demo.sql
\ir ../../apps/merchant/demo.sql
BEGIN;
SELECT plan(9);

SELECT results_eq($$SELECT id::text, name FROM ringfence_data.orgs WHERE id::text LIKE '0d9f6c2e%' ORDER BY id$$, $$VALUES
	('0d9f6c2e-0000-7000-8000-00000000000a', 'Juniper Charge'),
	('0d9f6c2e-0000-7000-8000-00000000000b', 'Kestrel Charge')$$, 'loaded twice, there are two operators');
SELECT results_eq($$SELECT user_id::text, roles::text, party::text FROM ringfence_data.memberships
	WHERE org_id = '0d9f6c2e-0000-7000-8000-00000000000a' ORDER BY user_id$$, $$VALUES
	('0d9f6c2e-0001-7000-8000-0000a0000001', '{owner}', '{}'),
	('0d9f6c2e-0001-7000-8000-0000a0000002', '{admin}', '{}'),
	('0d9f6c2e-0001-7000-8000-0000a0000003', '{driver}', '{"driver": "0d9f6c2e-0005-7000-8000-0000a0000001"}'),
	('0d9f6c2e-0001-7000-8000-0000a0000004', '{driver}', '{"driver": "0d9f6c2e-0005-7000-8000-0000a0000002"}'),
	('0d9f6c2e-0001-7000-8000-0000a0000005', '{merchant}', '{"merchant": "0d9f6c2e-0003-7000-8000-0000a0000001"}')$$, 'with people in them');
SELECT results_eq('SELECT count(*), count(DISTINCT org_id) FROM merchant.merchants', 'VALUES (24::bigint, 2::bigint)', 'twelve merchants each');
SELECT results_eq('SELECT count(*), count(phone_verified_at) FROM merchant.drivers', 'VALUES (40::bigint, 32::bigint)',
	'and twenty drivers, of whom every fifth has no verified number');
SELECT is((SELECT count(*) FROM merchant.places), 1000::bigint, 'among a thousand places');
SELECT results_eq($$SELECT exclusive, reward_nova, price_nova FROM merchant.perks WHERE merchant_id = '0d9f6c2e-0003-7000-8000-0000b0000003' ORDER BY id$$,
	$$VALUES (true, 23::bigint, 3::bigint), (false, 0, 0)$$, 'merchant 3 offers what the head says');
SELECT ringfence.set_context('0d9f6c2e-0000-7000-8000-00000000000a', NULL, '{owner}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT merchant_nova FROM merchant_v1.overview), 12000::bigint, 'each merchant has bought a thousand Nova');
RESET ROLE;
SELECT is_empty('SELECT problem, object FROM merchant.nova_verify()', 'ledger and app agree');
SELECT ringfence.set_context('0d9f6c2e-0000-7000-8000-00000000000a', NULL, '{driver}', '{"driver": "0d9f6c2e-0005-7000-8000-0000a0000001"}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT state FROM merchant_v1.activate_exclusive('0d9f6c2e-0004-7000-8000-0000a0000001',
	(SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431)))), 'ACTIVE', 'an exclusive can be activated');

SELECT * FROM finish();
ROLLBACK;
