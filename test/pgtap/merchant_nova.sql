-- Nova: wallets and budgets are accounts of the ledger and nothing else; each type
-- moves what its row says, from where to where it says, once; who may not, can't.
BEGIN;
SELECT plan(74);
\ir include/merchant.sql
SELECT pg_temp.volt() \g /dev/null
SELECT pg_temp.m_id('0', 'a', 0) AS org, pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('2', 'a', 2) AS bagels,
	pg_temp.m_id('3', 'a', 1) AS taco, pg_temp.m_id('4', 'a', 1) AS dana, pg_temp.m_id('4', 'a', 3) AS dee \gset
CREATE FUNCTION pg_temp.balances() RETURNS text
LANGUAGE sql AS $$
	SELECT string_agg(name || ' ' || balance, ', ' ORDER BY name)
		FROM (
			SELECT CASE a.code WHEN 'driver:' || pg_temp.m_id('4', 'a', 1) THEN 'dana' WHEN 'merchant:' || pg_temp.m_id('2', 'a', 1) THEN 'asada'
						ELSE a.code END AS name,
					ringfence.normal_balance(a.kind, sum(b.debits)::bigint, sum(b.credits)::bigint) AS balance
				FROM ringfence_data.ledger_accounts AS a
					JOIN ringfence_data.ledger_balances AS b ON b.org_id = a.org_id AND b.account_id = a.id
				WHERE a.org_id = pg_temp.m_id('0', 'a', 0)
				GROUP BY a.code, a.kind) AS w
		WHERE name NOT LIKE '%:%' OR balance <> 0
$$;

-- What there is from the start.
SELECT results_eq(format('SELECT code, scale FROM ringfence_data.ledger_assets WHERE org_id = %L', :'org'),
	$$VALUES ('NOVA'::text COLLATE "C", 0::smallint)$$, 'the first driver or merchant brings the asset, which has no fractions');
SELECT results_eq(format($$SELECT code COLLATE "default", kind COLLATE "default", no_overdraft FROM ringfence_data.ledger_accounts
		WHERE org_id = %L AND party_id IS NULL ORDER BY 1$$, :'org'),
	$$VALUES ('nova.grants', 'expense', false), ('nova.rewards', 'expense', false), ('nova.sold', 'asset', false)$$,
	'and the operator''s own accounts');
SELECT results_eq(format($$SELECT party_kind COLLATE "default", count(*), bool_and(kind = 'liability' AND no_overdraft AND credit_limit = 0
			AND code = party_kind || ':' || party_id) FROM ringfence_data.ledger_accounts
		WHERE org_id = %L AND party_id IS NOT NULL GROUP BY 1 ORDER BY 1$$, :'org'),
	$$VALUES ('driver', 3::bigint, true), ('merchant', 3, true)$$, 'each driver and merchant an account that can''t be overdrawn');
SELECT is_empty($$
	SELECT a.attrelid::regclass, a.attname
		FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
		WHERE c.relnamespace = 'merchant'::regnamespace AND a.attname ~ 'balance'
$$, 'no table of the app has a balance');
SELECT throws_ok($$INSERT INTO merchant.drivers (org_id, name) VALUES (pg_temp.m_id('0', 'b', 0), 'x')$$, '42501',
	'a wallet is opened in the organization of the context', 'whose row it is, whose wallet it is')
	FROM (SELECT ringfence.set_context(:'org')) AS c;
SELECT pg_temp.act('owner');
SELECT is((SELECT org_id FROM merchant_v1.setup()), :'org', 'setting up again changes nothing');
SELECT is(pg_temp.balances(), 'asada 0, dana 0, nova.grants 0, nova.rewards 0, nova.sold 0', 'nobody has any Nova');
RESET ROLE;
INSERT INTO ringfence_data.orgs (id, name) VALUES ('0e000000-0000-7000-8000-cccccccccc00', 'Volt Boston');
SELECT ringfence.set_context('0e000000-0000-7000-8000-cccccccccc00', NULL, '{admin}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT tier_a_m || ' ' || tier_b_m || ' ' || paused FROM merchant_v1.setup()), '120 400 false', 'an organization may be set up before it has any driver');
RESET ROLE;
SELECT is((SELECT count(*) FROM ringfence_data.ledger_accounts WHERE org_id = '0e000000-0000-7000-8000-cccccccccc00'), 3::bigint,
	'which opens its accounts');
SELECT pg_temp.act('driver');
SELECT throws_ok('SELECT merchant_v1.setup()', '42501', 'permission denied for this organization', 'drivers set up nothing');

-- merchant_topup: nova.sold -> the merchant's budget.
SELECT pg_temp.act('admin');
SELECT id AS topup, type, amount, merchant_id, driver_id IS NULL AS no_driver, reference, actor
	FROM merchant_v1.topup_merchant(:'asada', 1000, 'pi_1') \gset
SELECT is(:'type' || ' ' || :'amount' || ' ' || :'merchant_id' || ' ' || :'no_driver' || ' ' || :'reference' || ' ' || :'actor',
	'merchant_topup 1000 ' || :'asada' || ' t pi_1 ' || pg_temp.m_id('9', 'a', 2), 'merchant_topup: what a merchant bought');
SELECT is(pg_temp.balances(), 'asada 1000, dana 0, nova.grants 0, nova.rewards 0, nova.sold 1000', 'is in its budget, and sold');
SELECT is((SELECT id FROM merchant_v1.topup_merchant(:'asada', 1000, 'pi_1')), :'topup', 'the same payment again is the same transfer');
SELECT is(pg_temp.balances(), 'asada 1000, dana 0, nova.grants 0, nova.rewards 0, nova.sold 1000', 'and moves nothing');
SELECT throws_ok(format('SELECT merchant_v1.topup_merchant(%L, 999, ''pi_1'')', :'asada'), 'PT409', NULL, 'but not with another amount');
SELECT throws_ok(format('SELECT merchant_v1.topup_merchant(%L, 1000, ''pi_1'')', :'bagels'), 'PT409', NULL, 'nor for another merchant');
SELECT throws_ok(format('SELECT merchant_v1.topup_merchant(%L, 1, %L)', :'asada', p), '22023', m, w)
	FROM (VALUES (NULL, 'payment id is required', 'a payment id is required'), (' ', 'payment id is required', 'a blank is none'),
		(repeat('x', 256), 'payment id is too long', 'and 256 bytes are too many')) AS x (p, m, w);
SELECT throws_ok(format('SELECT merchant_v1.topup_merchant(%L, %s, ''pi_2'')', :'asada', a), '22023', 'amount is not a positive number of Nova',
	format('%s is no amount', a)) FROM unnest(ARRAY['0', '-1', 'NULL']) AS a;
SELECT throws_ok(format('SELECT merchant_v1.topup_merchant(%L, 1, ''pi_2'')', m), 'PT404', 'merchant not found', 'there must be the merchant')
	FROM unnest(ARRAY[pg_temp.m_id('2', 'b', 1), gen_random_uuid(), NULL]) AS m;
SELECT pg_temp.act('merchant');
SELECT throws_ok(format('SELECT merchant_v1.topup_merchant(%L, 1, ''pi_2'')', :'asada'), '42501', 'permission denied for this organization',
	'a merchant tops up nothing itself');
SELECT pg_temp.act('accountant');
SELECT throws_ok(format('SELECT merchant_v1.topup_merchant(%L, 1, ''pi_2'')', :'asada'), '42501', 'permission denied for this organization',
	'nor does an accountant');
SELECT is((SELECT count(*) FROM merchant_v1.nova), 1::bigint, 'who reads it');

-- admin_grant: nova.grants -> a driver's wallet or a merchant's budget.
SELECT pg_temp.act('owner');
SELECT is((SELECT type || ' ' || amount || ' ' || driver_id || ' ' || reference FROM merchant_v1.grant_nova(50, 'welcome', driver => :'dana')),
	'admin_grant 50 ' || :'dana' || ' welcome', 'admin_grant: what a driver is given, and why');
SELECT is(pg_temp.balances(), 'asada 1000, dana 50, nova.grants 50, nova.rewards 0, nova.sold 1000', 'is in the wallet, and an expense');
SELECT is((SELECT type || ' ' || amount || ' ' || merchant_id FROM merchant_v1.grant_nova(7, 'sorry', merchant => :'asada')),
	'admin_grant 7 ' || :'asada', 'a merchant can be given some as well');
SELECT is(pg_temp.balances(), 'asada 1007, dana 50, nova.grants 57, nova.rewards 0, nova.sold 1000', 'likewise');
SELECT throws_ok(format('SELECT merchant_v1.grant_nova(1, %L, driver => %L)', r, :'dana'), '22023', 'reason is required', 'not without a reason')
	FROM unnest(ARRAY[NULL, '', E' \n']) AS r;
SELECT throws_ok(format('SELECT merchant_v1.grant_nova(1, %L, driver => %L)', repeat('é', 128), :'dana'), '22023', 'reason is too long',
	'nor with one of 256 bytes');
SELECT throws_ok(format('SELECT merchant_v1.grant_nova(0, ''x'', driver => %L)', :'dana'), '22023', 'amount is not a positive number of Nova', 'nor nothing');
SELECT throws_ok('SELECT merchant_v1.grant_nova(1, ''x'')', '22023', 'a grant is for a driver or for a merchant', 'nor to nobody');
SELECT throws_ok(format('SELECT merchant_v1.grant_nova(1, ''x'', %L, %L)', :'dana', :'asada'), '22023',
	'a grant is for a driver or for a merchant', 'nor to two');
SELECT throws_ok($$SELECT merchant_v1.grant_nova(1, 'x', driver => pg_temp.m_id('4', 'b', 1))$$, 'PT404', 'driver not found', 'nor to another organization''s driver');
SELECT throws_ok($$SELECT merchant_v1.grant_nova(1, 'x', merchant => pg_temp.m_id('2', 'b', 1))$$, 'PT404', 'merchant not found', 'or merchant');
SELECT pg_temp.act('driver');
SELECT throws_ok(format('SELECT merchant_v1.grant_nova(1, ''x'', driver => %L)', :'dana'), '42501', 'permission denied for this organization',
	'a driver grants nothing');
SELECT pg_temp.act('merchant');
SELECT throws_ok(format('SELECT merchant_v1.grant_nova(1, ''x'', merchant => %L)', :'asada'), '42501', 'permission denied for this organization',
	'nor does a merchant');
RESET ROLE;
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_required WHERE (method, path) = ('POST', '/rpc/grant_nova')), 1::bigint,
	'requests must bring a key');

-- driver_earn on hold: promised by the merchant's budget.
SELECT pg_temp.act('owner');
UPDATE merchant_v1.settings SET visit_bonus_nova = 5;
SELECT pg_temp.act('driver');
SELECT id AS session FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT results_eq('SELECT balance, held, available, expected FROM merchant_v1.wallet', 'VALUES (50::bigint, 0::bigint, 50::bigint, 25::bigint)',
	'a reward that is promised is expected in the driver''s wallet');
SELECT pg_temp.act('merchant');
SELECT results_eq('SELECT balance, held, available, expected FROM merchant_v1.wallet', 'VALUES (1007::bigint, 25::bigint, 982::bigint, 0::bigint)',
	'and held in the merchant''s budget');
SELECT is((SELECT count(*) FROM merchant_v1.nova WHERE type = 'driver_earn'), 0::bigint, 'but not paid');
SELECT pg_temp.act('accountant');
SELECT results_eq('SELECT id, state COLLATE "default", kind COLLATE "default", amount, expires_at > now() + interval ''90 minutes'' FROM ringfence_v1.ledger_transfers WHERE state = ''pending''',
	format('VALUES (%L::uuid, ''pending'', ''driver_earn'', 25::bigint, true)', :'session'), 'the hold has the session''s id and outlasts its visit');

-- driver_redeem, driver_earn out of the budget, driver_earn of the operator.
SELECT pg_temp.act('driver');
SELECT id AS visit, code FROM merchant_v1.verify_visit(:'session') \gset
SELECT pg_temp.act('merchant');
SELECT is((SELECT result FROM merchant_v1.redeem_visit(:'code')), 'redeemed', 'the visit is redeemed');
RESET ROLE;
SELECT is(pg_temp.balances(), 'asada 992, dana 70, nova.grants 57, nova.rewards 5, nova.sold 1000',
	'10 from driver to merchant, 25 from merchant to driver, 5 from the operator''s rewards');
SELECT pg_temp.act('owner');
SELECT results_eq('SELECT type COLLATE "default", amount, driver_id, merchant_id, visit_id FROM merchant_v1.nova WHERE visit_id IS NOT NULL ORDER BY amount',
	format($$VALUES ('driver_earn', 5::bigint, %1$L::uuid, NULL::uuid, %3$L::uuid), ('driver_redeem', 10, %1$L, %2$L, %3$L), ('driver_earn', 25, %1$L, %2$L, %3$L)$$,
		:'dana', :'asada', :'visit'), 'each by itself');
SELECT is((SELECT id FROM merchant_v1.nova WHERE type = 'driver_redeem'), :'visit', 'the price has the visit''s id');
SELECT is((SELECT sum(debits) = sum(credits) AND sum(debits) = 1097 FROM ringfence_v1.trial_balance()), true, 'debits are credits');
SELECT results_eq('SELECT driver_nova, merchant_nova, nova_sold, nova_rewards, nova_grants, visits_redeemed FROM merchant_v1.overview',
	'VALUES (70::bigint, 992::bigint, 1000::bigint, 5::bigint, 57::bigint, 1::bigint)', 'the overview says so');
SELECT results_eq(format('SELECT nova_given, nova_taken, nova_bought, nova_granted, balance, held, activations, redeemed FROM merchant_v1.analytics WHERE merchant_id = %L', :'asada'),
	'VALUES (25::bigint, 10::bigint, 1000::bigint, 7::bigint, 992::bigint, 0::bigint, 1::bigint, 1::bigint)', 'and so do the merchant''s figures');
SELECT pg_temp.act('driver');
SELECT results_eq('SELECT event, nova FROM merchant_v1.activity WHERE nova IS NOT NULL ORDER BY nova',
	$$VALUES ('driver_redeem', -10::bigint), ('driver_earn', 5), ('driver_earn', 25), ('admin_grant', 50)$$, 'and the driver''s feed');
SELECT is((SELECT sum(nova) FROM merchant_v1.activity), (SELECT balance FROM merchant_v1.wallet)::numeric, 'whose sum is the balance');

-- A reversal.
RESET ROLE;
SELECT ringfence.set_context(:'org') \g /dev/null
SELECT ringfence.reverse((SELECT t.id FROM ringfence_data.ledger_transfers AS t WHERE t.reference = 'sorry'), 'no, not sorry') \g /dev/null
SELECT is(pg_temp.balances(), 'asada 985, dana 70, nova.grants 50, nova.rewards 5, nova.sold 1000', 'a grant can be undone');
SELECT pg_temp.act('merchant');
SELECT results_eq('SELECT type COLLATE "default", amount, merchant_id, reference FROM merchant_v1.nova WHERE reverses_id IS NOT NULL',
	format($$VALUES ('reversal', 7::bigint, %L::uuid, 'no, not sorry')$$, :'asada'), 'which its merchant sees');

-- The types' table is the rule.
RESET ROLE;
SELECT results_eq('SELECT type, driver, merchant, debit, credit FROM merchant.nova_types ORDER BY 1, 2, 3', $$VALUES
	('admin_grant', false, true, 'nova.grants', 'merchant:{merchant}'), ('admin_grant', true, false, 'nova.grants', 'driver:{driver}'),
	('driver_earn', true, false, 'nova.rewards', 'driver:{driver}'), ('driver_earn', true, true, 'merchant:{merchant}', 'driver:{driver}'),
	('driver_redeem', true, true, 'driver:{driver}', 'merchant:{merchant}'), ('merchant_topup', false, true, 'nova.sold', 'merchant:{merchant}')$$,
	'it says of each type from where to where');
CREATE FUNCTION pg_temp.post(role text, type text, driver uuid, merchant uuid) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM ringfence.set_context(pg_temp.m_id('0', 'a', 0), NULL, ARRAY[role]);
	PERFORM merchant.post_nova(post.type, 1, post.driver, post.merchant, 'x');
	RETURN NEXT 'posted';
EXCEPTION WHEN OTHERS THEN
	RETURN NEXT SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT is(pg_temp.post('owner', t, d, m), e, w)
	FROM (VALUES ('driver_redeem', :'dana'::uuid, NULL::uuid, '22023 Nova of type "driver_redeem" is not for these parties', 'a price needs a merchant'),
		('merchant_topup', :'dana', :'asada', '22023 Nova of type "merchant_topup" is not for these parties', 'a top-up has no driver'),
		('driver_earn', NULL, NULL, '22023 Nova of type "driver_earn" is not for these parties', 'a reward has one'),
		('gift', :'dana', NULL, '22023 Nova of type "gift" is not for these parties', 'another type there is not'),
		('driver_earn', :'dana', NULL, '42501 not allowed to post Nova of type "driver_earn"', 'not even the owner makes a reward'),
		('admin_grant', gen_random_uuid(), NULL, NULL, 'a party without an account')) AS x (t, d, m, e, w)
	WHERE e IS NOT NULL;
SELECT matches(pg_temp.post('owner', 'admin_grant', gen_random_uuid(), NULL), '^PT404 account "driver:[0-9a-f-]{36}" does not exist$', 'a party without an account is none');
SELECT is(pg_temp.post('merchant', 'admin_grant', :'dana', NULL), '42501 not allowed to post Nova of type "admin_grant"', 'a merchant grants nothing by any way');
RESET ROLE;
SELECT pg_temp.act('owner');
SELECT throws_ok(format('SELECT merchant.post_nova(''admin_grant'', 1, %L, NULL, ''x'')', :'dana'), '42501',
	'permission denied for function post_nova', 'nobody calls it but the app''s own functions');
SELECT throws_ok(format('SELECT ringfence.transfer(%L, %L, 1, ''admin_grant'')', gen_random_uuid(), gen_random_uuid()), '42501',
	'permission denied for function transfer', 'nor the ledger');

-- nova_verify() finds what went past them.
RESET ROLE;
SELECT ringfence.set_context(:'org') \g /dev/null
SELECT is_empty('SELECT * FROM merchant.nova_verify()', 'all is well');
SELECT ringfence.transfer(ringfence.account('nova.grants'), ringfence.account('driver:' || :'dana'), 1, 'driver_earn',
	metadata => jsonb_build_object('driver', :'dana')) AS forged \gset
SELECT results_eq('SELECT problem, object, detail FROM merchant.nova_verify()',
	format($$VALUES ('type_broken', %L, 'driver_earn goes from nova.grants to driver:%s')$$, :'forged', :'dana'), 'a reward out of the wrong account is found');
SELECT ringfence.reverse(:'forged', 'forged') \g /dev/null
SELECT ringfence.transfer(ringfence.account('nova.grants'), ringfence.account('driver:' || :'dana'), 1, 'gift') AS forged \gset
SELECT ok(EXISTS (SELECT FROM merchant.nova_verify() WHERE (problem, object, detail) = ('type_broken', :'forged', 'gift is no type of Nova for its parties')),
	'so is a type that there is not');
SET LOCAL session_replication_role = replica;
INSERT INTO merchant.drivers (org_id, id, name) VALUES (:'org', '0e000000-0004-7000-8000-aaaaaaaaaa99', 'No Wallet');
UPDATE merchant.visits SET redeemed_at = now() WHERE id = :'visit';
INSERT INTO merchant.visits (org_id, session_id, driver_id, merchant_id, expires_at, redeemed_at)
SELECT org_id, gen_random_uuid(), driver_id, merchant_id, now(), now() FROM merchant.visits WHERE id = :'visit';
INSERT INTO merchant.exclusive_sessions (org_id, id, driver_id, merchant_id, perk_id, intent_id, charger_id, state, reward_nova, price_nova,
	activated_at, expires_at, redeem_until, ended_at)
SELECT s.org_id, v.session_id, s.driver_id, s.merchant_id, s.perk_id, gen_random_uuid(), s.charger_id, 'COMPLETED', 0, 3, now(), now() + interval '1 hour',
		now() + interval '1 hour', now()
	FROM merchant.exclusive_sessions AS s, merchant.visits AS v WHERE s.id = :'session' AND v.id <> :'visit';
INSERT INTO merchant.exclusive_sessions (org_id, id, driver_id, merchant_id, perk_id, intent_id, charger_id, state, reward_nova, price_nova,
	activated_at, expires_at, redeem_until, ended_at)
SELECT s.org_id, '0e000000-0006-7000-8000-aaaaaaaaaa99', s.driver_id, s.merchant_id, s.perk_id, gen_random_uuid(), s.charger_id, 'COMPLETED', 9, 0, now(),
		now() + interval '1 hour', now() + interval '1 hour', now()
	FROM merchant.exclusive_sessions AS s WHERE s.id = :'session';
SET LOCAL session_replication_role = origin;
SELECT ringfence.open_account('ghost', 'Ghost', 'NOVA', 'liability', party_kind => 'driver', party_id => gen_random_uuid()) \g /dev/null
SELECT results_eq($$SELECT problem, count(*) FROM merchant.nova_verify() WHERE problem <> 'type_broken' GROUP BY 1 ORDER BY 1$$,
	$$VALUES ('hold_broken', 1::bigint), ('party_missing', 1), ('visit_unpaid', 1), ('wallet_missing', 1)$$,
	'a driver without a wallet, a wallet without a driver, a promise that the ledger does not know, a visit that was not paid');
SET LOCAL ROLE ringfence_jobs;
SELECT is((SELECT count(*) FROM merchant.nova_verify()), 6::bigint, 'a job finds it all');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
