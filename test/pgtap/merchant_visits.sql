-- Visits: a code that nobody can guess or read but the driver, redeemed once, by
-- its merchant, with few attempts.
BEGIN;
SELECT plan(57);
\ir include/merchant.sql
SELECT pg_temp.volt() \g /dev/null
SELECT pg_temp.m_id('0', 'a', 0) AS org, pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('2', 'a', 2) AS bagels,
	pg_temp.m_id('3', 'a', 1) AS taco, pg_temp.m_id('3', 'a', 3) AS bagel, pg_temp.m_id('4', 'a', 1) AS dana \gset
CREATE FUNCTION pg_temp.past_triggers(statement text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	SET LOCAL session_replication_role = replica;
	EXECUTE statement;
	SET LOCAL session_replication_role = origin;
END
$$;

SELECT pg_temp.act('owner');
SELECT merchant_v1.topup_merchant(:'asada', 1000, 'pi_1') \g /dev/null
SELECT merchant_v1.grant_nova(15, 'welcome', driver => :'dana') \g /dev/null
SELECT pg_temp.act('driver');
SELECT id AS session FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset

-- A code.
SELECT pg_temp.act('driver', 3);
SELECT throws_ok(format('SELECT merchant_v1.verify_visit(%L)', :'session'), 'PT404', 'session not found', 'another driver gets no code');
SELECT pg_temp.act('merchant');
SELECT throws_ok(format('SELECT merchant_v1.verify_visit(%L)', :'session'), '42501', 'only a driver may do this', 'nor does the merchant');
SELECT pg_temp.act('admin');
SELECT throws_ok(format('SELECT merchant_v1.verify_visit(%L)', :'session'), '42501', 'only a driver may do this', 'nor does the office');
SELECT pg_temp.act('driver', 1, 'b');
SELECT throws_ok(format('SELECT merchant_v1.verify_visit(%L)', :'session'), 'PT404', 'session not found',
	'to another organization''s driver there is no such session');
SELECT pg_temp.act('driver');
SELECT id AS visit, code, expires_at - verified_at AS good_for, redeemed_at FROM merchant_v1.verify_visit(:'session') \gset
SELECT matches(:'code'::text, '^TST-ASADA-[0-9A-HJKMNP-TV-Z]{12}$', 'the driver gets one: zone, merchant, twelve random characters');
SELECT is(:'good_for'::text, '00:30:00', 'it is good for half an hour');
SELECT is((SELECT id || code FROM merchant_v1.verify_visit(:'session')), :'visit' || :'code', 'asking again gives the same');
SELECT is((SELECT code FROM merchant_v1.visits), :'code', 'the driver reads it');
SELECT pg_temp.act('merchant');
SELECT results_eq('SELECT id, code FROM merchant_v1.visits', format('VALUES (%L::uuid, NULL::text)', :'visit'),
	'the merchant reads the visit without the code');
SELECT is((SELECT count(*) FROM merchant.visit_codes), 0::bigint, 'which it does not find in the table either');
SELECT pg_temp.act('owner');
SELECT results_eq('SELECT id, code FROM merchant_v1.visits', format('VALUES (%L::uuid, NULL::text)', :'visit'), 'nor does the owner');
SELECT is((SELECT array_agg(DISTINCT l.new ->> 'code') FROM ringfence_v1.audit_log AS l WHERE l.relation = 'merchant.visit_codes'),
	'{[secret]}', 'the audit log does not tell it');
RESET ROLE;
SELECT is((SELECT count(DISTINCT merchant.random_tail()) FROM generate_series(1, 10000)), 10000::bigint, 'ten thousand codes are all different');
SELECT is((SELECT string_agg(DISTINCT c, '' ORDER BY c) FROM generate_series(1, 1000) AS g,
		LATERAL (SELECT merchant.random_tail() AS t WHERE g IS NOT NULL) AS r, string_to_table(r.t, NULL) AS c), '0123456789ABCDEFGHJKMNPQRSTVWXYZ', 'of 32 characters');
SELECT is_empty($$
	SELECT p, c, count(*)
		FROM generate_series(1, 6400) AS g, LATERAL (SELECT merchant.random_tail() AS t WHERE g IS NOT NULL) AS r,
			generate_series(1, 12) AS p, LATERAL substr(r.t, p, 1) AS c
		GROUP BY p, c HAVING count(*) NOT BETWEEN 100 AND 300
$$, 'each as frequent as the others in each place');

-- Wrong codes.
SELECT pg_temp.act('driver');
SELECT throws_ok('SELECT merchant_v1.redeem_visit(''x'')', '42501', 'only a merchant may do this', 'a driver redeems nothing');
SELECT pg_temp.act('owner');
SELECT throws_ok('SELECT merchant_v1.redeem_visit(''x'')', '42501', 'only a merchant may do this', 'nor does the owner');
RESET ROLE;
SELECT ringfence.set_context(:'org', NULL, '{merchant}', jsonb_build_object('merchant', pg_temp.m_id('2', 'b', 1))) \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT throws_ok('SELECT merchant_v1.redeem_visit(''x'')', 'PT404', 'merchant not found', 'a merchant of another organization is none here');
SELECT pg_temp.act('merchant', 1, 'b');
SELECT is((SELECT result FROM merchant_v1.redeem_visit(:'code')), 'not_found', 'and finds no code of this one');
SELECT pg_temp.act('merchant', 2);
SELECT is((SELECT result || attempts_left FROM merchant_v1.redeem_visit(:'code')), 'not_found9', 'another merchant''s code is none');
SELECT is(current_setting('response.status'), '404', 'which is a 404');
SELECT is((SELECT result || attempts_left FROM merchant_v1.redeem_visit(NULL)), 'not_found8', 'nor is no code');
SELECT is((SELECT array_agg((merchant_v1.redeem_visit('TST-BAGELS-0000000' || n)).attempts_left) FROM generate_series(1, 8) AS n),
	'{7,6,5,4,3,2,1,0}', 'each wrong one counts');
SELECT is((SELECT result || attempts_left FROM merchant_v1.redeem_visit('TST-BAGELS-00000000')), 'too_many_attempts0', 'until there were too many');
SELECT is(current_setting('response.status'), '429', 'which is a 429');
SELECT matches(current_setting('response.headers'), '^\[\{"Retry-After": "900"\}\]$', 'that says when to come again');
SELECT pg_temp.act('driver', 3);
SELECT id AS bagels_session FROM merchant_v1.activate_exclusive(:'bagel', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT code AS bagels_code FROM merchant_v1.verify_visit(:'bagels_session') \gset
SELECT pg_temp.act('merchant', 2);
SELECT is((SELECT result FROM merchant_v1.redeem_visit(:'bagels_code')), 'too_many_attempts', 'then not even a right one is taken');
SELECT pg_temp.act('merchant');
SELECT is((SELECT result || attempts_left FROM merchant_v1.redeem_visit('x')), 'not_found9', 'other merchants have attempts of their own');
SELECT pg_temp.past_triggers('UPDATE merchant.redemption_attempts SET since = since - interval ''15 minutes''');
SELECT pg_temp.act('merchant', 2);
SELECT is((SELECT result || attempts_left FROM merchant_v1.redeem_visit(:'bagels_code')), 'redeemed10', 'after a quarter of an hour all are forgotten');
SELECT is((SELECT result || attempts_left FROM merchant_v1.redeem_visit('x')), 'not_found9', 'and counted afresh');
SELECT throws_ok('SELECT * FROM merchant.redemption_attempts', '42501', 'permission denied for table redemption_attempts', 'nobody sees the count');
SELECT pg_temp.act('owner');
UPDATE merchant_v1.settings SET redeem_attempts = 1;
SELECT pg_temp.act('merchant', 3);
SELECT is((SELECT array_agg((merchant_v1.redeem_visit('x' || n)).result) FROM generate_series(1, 2) AS n), '{not_found,too_many_attempts}',
	'how many there are is a setting');
SELECT pg_temp.act('owner');
UPDATE merchant_v1.settings SET redeem_attempts = 10, visit_bonus_nova = 5;

-- Redeemed.
SELECT pg_temp.act('merchant');
SELECT result, visit_id, session_id, driver_id, reward_nova, bonus_nova, price_nova
	FROM merchant_v1.redeem_visit('  ' || lower(:'code') || ' ') \gset
SELECT is(:'result' || ' ' || :'visit_id' || ' ' || :'session_id' || ' ' || :'driver_id',
	'redeemed ' || :'visit' || ' ' || :'session' || ' ' || :'dana', 'the merchant redeems the code, however it is written');
SELECT is(:'reward_nova' || ' ' || :'bonus_nova' || ' ' || :'price_nova', '25 5 10', 'and reads what was paid');
SELECT is((SELECT result FROM merchant_v1.redeem_visit(:'code')), 'already_redeemed', 'a second time it is redeemed already');
SELECT is(current_setting('response.status'), '409', 'which is a 409');
SELECT is((SELECT attempts_left FROM merchant_v1.redeem_visit(:'code')), 10, 'and no wrong code');
SELECT is((SELECT balance FROM merchant_v1.wallet), 985::bigint, 'the merchant has 1000 - 25 + 10');
SELECT is((SELECT count(*) FROM merchant_v1.visits WHERE redeemed_at IS NOT NULL), 1::bigint, 'the visit is redeemed');
SELECT pg_temp.act('driver');
SELECT is((SELECT balance FROM merchant_v1.wallet), 35::bigint, 'the driver has 15 - 10 + 25 + 5');
SELECT is((SELECT state FROM merchant_v1.complete_exclusive(:'session')), 'COMPLETED', 'the session goes on to its end');
SELECT is((SELECT balance FROM merchant_v1.wallet), 35::bigint, 'which pays nothing more');

-- Not redeemed.
SELECT id AS session FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT code FROM merchant_v1.verify_visit(:'session') \gset
SELECT pg_temp.act('admin');
SELECT is(merchant_v1.force_close_sessions('fraud', :'asada'), 1, 'an admin ends the session');
SELECT pg_temp.act('merchant');
SELECT is((SELECT result FROM merchant_v1.redeem_visit(:'code')), 'canceled', 'whose code is no good any more');
SELECT is((SELECT held FROM merchant_v1.wallet), 0::bigint, 'and whose reward is free');
SELECT pg_temp.act('driver');
SELECT id AS session FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT code FROM merchant_v1.verify_visit(:'session') \gset
SELECT merchant_v1.complete_exclusive(:'session') \g /dev/null
SELECT throws_ok(pg_temp.activate(:'bagel'), 'PT409', 'a code is not redeemed yet', 'who has a code gets nothing else meanwhile');
SELECT pg_temp.act('merchant');
SELECT is((SELECT held FROM merchant_v1.wallet), 25::bigint, 'a session that is completed with a code keeps the reward on hold');
SELECT pg_temp.past_triggers('UPDATE merchant.visits SET verified_at = verified_at - interval ''30 minutes'', expires_at = expires_at - interval ''30 minutes'' WHERE redeemed_at IS NULL');
SELECT pg_temp.act('merchant');
SELECT is((SELECT result FROM merchant_v1.redeem_visit(:'code')), 'expired', 'half an hour later the code has expired');
SELECT pg_temp.past_triggers('UPDATE merchant.visits SET expires_at = now() + interval ''1 second'' WHERE redeemed_at IS NULL');
SELECT pg_temp.act('merchant');
SELECT is((SELECT result || ' ' || reward_nova || ' ' || bonus_nova FROM merchant_v1.redeem_visit(:'code')), 'redeemed 25 0',
	'a second before it had not; but there is no second bonus of the day');
SELECT pg_temp.past_triggers('UPDATE merchant.visits SET verified_at = verified_at - interval ''1 day'', expires_at = expires_at - interval ''1 day'', redeemed_at = redeemed_at - interval ''1 day''');
SELECT pg_temp.act('driver');
SELECT code FROM merchant_v1.verify_visit((SELECT id FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))))) \gset
RESET ROLE;
SELECT ringfence.set_context(:'org', NULL, '{driver,merchant}', jsonb_build_object('driver', :'dana', 'merchant', :'asada')) \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT result || ' ' || reward_nova || ' ' || bonus_nova FROM merchant_v1.redeem_visit(:'code')), 'redeemed 25 0',
	'nor one for who is driver and merchant at once');
SELECT merchant_v1.complete_exclusive((SELECT id FROM merchant_v1.active_exclusive())) \g /dev/null
SELECT pg_temp.past_triggers('UPDATE merchant.visits SET verified_at = verified_at - interval ''1 day'', expires_at = expires_at - interval ''1 day'', redeemed_at = redeemed_at - interval ''1 day''');
SELECT pg_temp.act('driver');
SELECT code FROM merchant_v1.verify_visit((SELECT id FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))))) \gset
SELECT pg_temp.act('merchant');
SELECT is((SELECT result || ' ' || bonus_nova FROM merchant_v1.redeem_visit(:'code')), 'redeemed 5', 'the next day there is');
SELECT pg_temp.act('driver');
SELECT merchant_v1.complete_exclusive((SELECT id FROM merchant_v1.active_exclusive())) \g /dev/null
SELECT pg_temp.act('owner');
UPDATE merchant_v1.perks SET price_nova = 1000 WHERE id = :'taco';
SELECT pg_temp.act('driver');
SELECT id AS session FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT code FROM merchant_v1.verify_visit(:'session') \gset
SELECT pg_temp.act('merchant');
SELECT throws_ok(format('SELECT merchant_v1.redeem_visit(%L)', :'code'), 'PT409', 'an account would be overdrawn',
	'a price that the wallet does not cover is not paid');
SELECT is((SELECT count(*) FROM merchant_v1.visits WHERE redeemed_at IS NULL AND session_id = :'session'), 1::bigint, 'nor is the visit redeemed');

-- What is redeemed stays.
RESET ROLE;
SELECT throws_ok(format('UPDATE merchant.visits SET redeemed_at = NULL WHERE id = %L', :'visit'), 'PT409',
	'a visit that is redeemed cannot be changed', 'for the owner of the tables as well');
SELECT throws_ok(format('UPDATE merchant.visits SET expires_at = now() + interval ''1 day'' WHERE session_id = %L', :'session'), 'PT409',
	'a visit can only be redeemed', 'nor does a code get better');
SELECT is_empty('SELECT * FROM merchant.nova_verify()', 'ledger and visits agree');
SELECT is_empty(format('SELECT * FROM ringfence.ledger_verify(%L)', :'org'), 'and the ledger with itself');

SELECT * FROM finish();
ROLLBACK;
