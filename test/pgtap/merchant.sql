-- An exclusive's way through merchant_v1, from a position to a redeemed visit, as
-- requests of the people who take part: what each is answered, and with which HTTP
-- status.
\ir include/postgrest.sql
\ir include/merchant.sql
SELECT plan(70);
SELECT pg_temp.volt() \g /dev/null
SELECT test.claims('Volt Austin', 'owner') AS owner, test.claims('Volt Austin', 'driver') AS driver,
	test.claims('Volt Austin', 'merchant') AS merchant, test.claims('Volt Dallas', 'owner') AS stranger,
	test.claims('Volt Dallas', 'driver') AS strange_driver, test.claims('Volt Dallas', 'merchant') AS strange_merchant,
	test.claims('Volt Austin', 'driver') || jsonb_build_object('sub', pg_temp.m_id('9', 'a', 7),
		'party', jsonb_build_object('driver', pg_temp.m_id('4', 'a', 3))) AS dee,
	pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('3', 'a', 1) AS taco, pg_temp.m_id('4', 'a', 1) AS dana \gset

-- Nova to begin with.
SELECT is(r.status || ' ' || r.code, '400 PT400', 'a grant without an Idempotency-Key is refused')
	FROM test.rpc(:'owner', 'merchant_v1', 'grant_nova', jsonb_build_object('amount', 50, 'reason', 'welcome', 'driver', :'dana')) AS r;
SELECT body ->> 'id' AS granted FROM test.rpc(:'owner', 'merchant_v1', 'grant_nova', jsonb_build_object('amount', 50, 'reason', 'welcome', 'driver', :'dana'),
	headers => '{"idempotency-key": "grant-1"}') \gset
SELECT is(r.status || ' ' || (r.body ->> 'id'), '200 ' || :'granted', 'with one it is made, and a repetition answers the same')
	FROM test.rpc(:'owner', 'merchant_v1', 'grant_nova', jsonb_build_object('amount', 50, 'reason', 'welcome', 'driver', :'dana'),
		headers => '{"idempotency-key": "grant-1"}') AS r;
SELECT is(r.status || ' ' || r.code, '422 PT422', 'the key is not good for another grant')
	FROM test.rpc(:'owner', 'merchant_v1', 'grant_nova', jsonb_build_object('amount', 51, 'reason', 'welcome', 'driver', :'dana'),
		headers => '{"idempotency-key": "grant-1"}') AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'a driver grants nothing')
	FROM test.rpc(:'driver', 'merchant_v1', 'grant_nova', jsonb_build_object('amount', 51, 'reason', 'x', 'driver', :'dana'),
		headers => '{"idempotency-key": "grant-2"}') AS r;
SELECT is(r.body, '[{"balance": 50, "available": 50}]'::jsonb, 'the driver has it once')
	FROM test.get(:'driver', 'merchant_v1', 'wallet', columns => 'wallet.balance, wallet.available') AS r;
SELECT is(r.status || ' ' || (r.body ->> 'amount'), '200 1000', 'the merchant''s budget is topped up')
	FROM test.rpc(:'owner', 'merchant_v1', 'topup_merchant', jsonb_build_object('merchant', :'asada', 'amount', 1000, 'payment_id', 'pi_1')) AS r;

-- Capture.
SELECT status AS answer, body ->> 'id' AS intent, body ->> 'tier' AS tier, body -> 'nearby' -> 0 AS nearest
	FROM test.rpc(:'driver', 'merchant_v1', 'capture_intent', '{"lat": 30.2672, "lng": -97.7431}') \gset
SELECT is(:'answer' || ' ' || :'tier', '200 A', 'the driver says where they are');
SELECT is(:'nearest'::jsonb ->> 'name', 'Asada', 'and hears what is near');
SELECT is(:'nearest'::jsonb #>> '{exclusives,0,perk_id}', :'taco', 'with what can be had there');
SELECT is(r.status || ' ' || r.code, '405 25006', 'GET captures nothing')
	FROM test.rpc(:'driver', 'merchant_v1', 'capture_intent', '{"lat": 30.2672, "lng": -97.7431}', 'GET') AS r;
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 2', 'GET finds what is near')
	FROM test.rpc(:'driver', 'merchant_v1', 'nearby', '{"lat": 30.2672, "lng": -97.7431}', 'GET') AS r;
SELECT is(r.status || ' ' || r.message, '400 invalid search', 'on earth')
	FROM test.rpc(:'driver', 'merchant_v1', 'nearby', '{"lat": 130, "lng": -97.7431}', 'GET') AS r;
SELECT is(r.status, 401, 'not without a token')
	FROM test.rpc(NULL, 'merchant_v1', 'nearby', '{"lat": 30.2672, "lng": -97.7431}', 'GET') AS r;

-- Activate.
SELECT is(r.status || ' ' || r.body, '200 []', 'no exclusive is active')
	FROM test.rpc(:'driver', 'merchant_v1', 'active_exclusive', method => 'GET') AS r;
SELECT is(r.status || ' ' || r.message, '404 intent not found', 'a driver can''t use another''s intent')
	FROM test.rpc(:'dee', 'merchant_v1', 'activate_exclusive', jsonb_build_object('perk', :'taco', 'intent', :'intent')) AS r;
SELECT is(r.status || ' ' || r.message, '404 exclusive not found', 'nor another organization''s driver this one''s exclusive')
	FROM test.rpc(:'strange_driver', 'merchant_v1', 'activate_exclusive', jsonb_build_object('perk', :'taco', 'intent', :'intent')) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'paused'), '200 true', 'the owner pauses everything')
	FROM test.rpc(:'owner', 'merchant_v1', 'emergency_pause', '{"reason": "drill"}') AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '503 PT503 exclusives are paused', 'which the driver is told')
	FROM test.rpc(:'driver', 'merchant_v1', 'activate_exclusive', jsonb_build_object('perk', :'taco', 'intent', :'intent')) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'paused'), '200 false', 'the owner ends it')
	FROM test.rpc(:'owner', 'merchant_v1', 'emergency_resume', '{"reason": "over"}') AS r;
SELECT is(r.body, '[{"reason": "over", "new": {"paused": false}}, {"reason": "drill", "new": {"paused": true}}]'::jsonb, 'both are on record, with why')
	FROM test.get(:'owner', 'ringfence_v1', 'audit_log', 'WHERE relation = $1 AND operation = $2 ORDER BY recorded_at DESC', ARRAY['merchant.settings', 'UPDATE'],
		columns => 'audit_log.reason, audit_log.new') AS r;
SELECT status AS answer, body ->> 'id' AS session, body ->> 'state' AS state
	FROM test.rpc(:'driver', 'merchant_v1', 'activate_exclusive', jsonb_build_object('perk', :'taco', 'intent', :'intent')) \gset
SELECT is(:'answer' || ' ' || :'state', '200 ACTIVE', 'the driver activates the exclusive');
SELECT is(r.status || ' ' || (r.body ->> 'id'), '200 ' || :'session', 'a second tap is the same session')
	FROM test.rpc(:'driver', 'merchant_v1', 'activate_exclusive', jsonb_build_object('perk', :'taco', 'intent', :'intent')) AS r;
SELECT is(r.status || ' ' || (r.body -> 0 ->> 'id'), '200 ' || :'session', 'GET shows it')
	FROM test.rpc(:'driver', 'merchant_v1', 'active_exclusive', method => 'GET') AS r;
SELECT is(r.body, '[{"balance": 1000, "held": 25}]'::jsonb, 'the reward is on hold')
	FROM test.get(:'merchant', 'merchant_v1', 'wallet', columns => 'wallet.balance, wallet.held') AS r;
SELECT is(r.status || ' ' || r.message, '404 session not found', 'nobody else completes it')
	FROM test.rpc(:'dee', 'merchant_v1', 'complete_exclusive', jsonb_build_object('session', :'session')) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'or reads it')
	FROM test.get(:'dee', 'merchant_v1', 'exclusive_sessions', 'WHERE id = $1', ARRAY[:'session']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'another organization''s owner neither')
	FROM test.get(:'stranger', 'merchant_v1', 'exclusive_sessions', 'WHERE id = $1', ARRAY[:'session']) AS r;
SELECT is(r.status || ' ' || r.body, '200 0', 'who ends none of this one''s sessions')
	FROM test.rpc(:'stranger', 'merchant_v1', 'force_close_sessions', '{"reason": "x"}') AS r;
SELECT is(r.status || ' ' || r.message, '404 merchant not found', 'nor pauses its merchants')
	FROM test.rpc(:'stranger', 'merchant_v1', 'pause_merchant', jsonb_build_object('merchant', :'asada', 'reason', 'x')) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'one driver reads nothing of another: not the record')
	FROM test.get(:'dee', 'merchant_v1', 'drivers', 'WHERE id = $1', ARRAY[:'dana']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'not the wallet')
	FROM test.get(:'dee', 'merchant_v1', 'wallet', 'WHERE party_id = $1', ARRAY[:'dana']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'not the feed')
	FROM test.get(:'dee', 'merchant_v1', 'activity', 'WHERE driver_id = $1', ARRAY[:'dana']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'not where they were')
	FROM test.get(:'dee', 'merchant_v1', 'intents', 'WHERE driver_id = $1', ARRAY[:'dana']) AS r;

-- Verify.
SELECT status AS answer, body ->> 'code' AS code FROM test.rpc(:'driver', 'merchant_v1', 'verify_visit', jsonb_build_object('session', :'session')) \gset
SELECT is(:'answer' || ' ' || left(:'code', 10), '200 TST-ASADA-', 'the driver gets a code');
SELECT is(r.status || ' ' || (r.body ->> 'code'), '200 ' || :'code', 'again the same')
	FROM test.rpc(:'driver', 'merchant_v1', 'verify_visit', jsonb_build_object('session', :'session')) AS r;
SELECT is(r.status || ' ' || r.message, '404 session not found', 'nobody else does')
	FROM test.rpc(:'dee', 'merchant_v1', 'verify_visit', jsonb_build_object('session', :'session')) AS r;
SELECT is(r.body, '[{"code": null}]'::jsonb, 'the merchant reads no code')
	FROM test.get(:'merchant', 'merchant_v1', 'visits', columns => 'visits.code') AS r;

-- Redeem: what is wrong with a code is counted, although it is answered with 4xx.
SELECT is(r.status || ' ' || (r.body ->> 'result') || ' ' || (r.body ->> 'attempts_left'), '404 not_found 9', 'a wrong code')
	FROM test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', '{"code": "TST-ASADA-000000000000"}') AS r;
SELECT is(r.status || ' ' || (r.body ->> 'result') || ' ' || (r.body ->> 'attempts_left'), '404 not_found 8', 'counts')
	FROM test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', '{"code": "TST-ASADA-000000000001"}') AS r;
SELECT is(r.status || ' ' || (r.body ->> 'result'), '404 not_found', 'the right one is wrong for another organization''s merchant')
	FROM test.rpc(:'strange_merchant', 'merchant_v1', 'redeem_visit', jsonb_build_object('code', :'code')) AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'and nothing for a driver')
	FROM test.rpc(:'driver', 'merchant_v1', 'redeem_visit', jsonb_build_object('code', :'code')) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'result') || ' ' || (r.body ->> 'reward_nova') || ' ' || (r.body ->> 'price_nova'), '200 redeemed 25 10', 'the merchant redeems it')
	FROM test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', jsonb_build_object('code', :'code'), headers => '{"idempotency-key": "redeem-1"}') AS r;
SELECT is(r.status || ' ' || (r.body ->> 'result'), '200 redeemed', 'the same request is answered the same, whose answer got lost')
	FROM test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', jsonb_build_object('code', :'code'), headers => '{"idempotency-key": "redeem-1"}') AS r;
SELECT is(r.status || ' ' || (r.body ->> 'result'), '409 already_redeemed', 'another one finds it redeemed')
	FROM test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', jsonb_build_object('code', :'code')) AS r;
SELECT is(r.body, '[{"balance": 985, "held": 0}]'::jsonb, 'once: the merchant has 1000 + 10 - 25')
	FROM test.get(:'merchant', 'merchant_v1', 'wallet', columns => 'wallet.balance, wallet.held') AS r;
SELECT is(r.body, '[{"balance": 65}]'::jsonb, 'the driver has 50 - 10 + 25')
	FROM test.get(:'driver', 'merchant_v1', 'wallet', columns => 'wallet.balance') AS r;

-- Too many.
SELECT is((SELECT array_agg(DISTINCT r.status) FROM generate_series(1, 8) AS n,
		LATERAL test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', jsonb_build_object('code', 'TST-ASADA-0000000' || n)) AS r), '{404}', 'eight more wrong ones');
SELECT is(r.status || ' ' || (r.body ->> 'result'), '429 too_many_attempts', 'are too many')
	FROM test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', '{"code": "TST-ASADA-000000ZZ"}') AS r;
SELECT matches(r.headers ->> 'Retry-After', '^(900|[1-8]?[0-9]{1,2})$', 'for at most a quarter of an hour')
	FROM test.rpc(:'merchant', 'merchant_v1', 'redeem_visit', '{"code": "TST-ASADA-000000ZZ"}') AS r;

-- Complete.
SELECT is(r.status || ' ' || (r.body ->> 'state'), '200 COMPLETED', 'the driver completes the session')
	FROM test.rpc(:'driver', 'merchant_v1', 'complete_exclusive', jsonb_build_object('session', :'session')) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'state'), '200 COMPLETED', 'twice')
	FROM test.rpc(:'driver', 'merchant_v1', 'complete_exclusive', jsonb_build_object('session', :'session')) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'none is active')
	FROM test.rpc(:'driver', 'merchant_v1', 'active_exclusive', method => 'GET') AS r;
SELECT is((SELECT string_agg(e ->> 'event', ' ' ORDER BY e ->> 'event') FROM jsonb_array_elements(r.body) AS e),
		'activated admin_grant completed driver_earn driver_redeem redeemed verified', 'the feed tells it all')
	FROM test.get(:'driver', 'merchant_v1', 'activity', 'ORDER BY happened_at DESC, transfer_id', columns => 'activity.event') AS r;
SELECT is((r.body -> 0) - '{org_id,last_activated_at}'::text[], jsonb_build_object('perk_id', :'taco', 'title', 'Taco', 'active', true, 'reward_nova', 25,
		'price_nova', 10, 'merchant_id', :'asada', 'merchant_name', 'Asada', 'paused', false, 'activations', 1), 'the owner lists exclusives with merchant and activations')
	FROM test.get(:'owner', 'merchant_v1', 'exclusives', 'WHERE activations > 0') AS r;
SELECT is((r.body -> 0) - 'org_id', '{"paused": false, "drivers": 3, "merchants": 3, "merchants_paused": 0, "sessions_active": 0, "visits_redeemed": 1,
		"driver_nova": 65, "merchant_nova": 985, "nova_sold": 1000, "nova_rewards": 0, "nova_grants": 50}'::jsonb, 'and sees it all at a glance')
	FROM test.get(:'owner', 'merchant_v1', 'overview') AS r;
SELECT is(r.body -> 0 -> 'drivers', '3'::jsonb, 'as the other operator does the own')
	FROM test.get(:'stranger', 'merchant_v1', 'overview') AS r;

-- Favorites.
SELECT is(r.status, 201, 'a driver saves a merchant')
	FROM test.post(:'driver', 'merchant_v1', 'favorites', jsonb_build_object('merchant_id', :'asada')) AS r;
SELECT is(r.status, 409, 'twice is a conflict')
	FROM test.post(:'driver', 'merchant_v1', 'favorites', jsonb_build_object('merchant_id', :'asada')) AS r;
SELECT is(r.status, 201, 'or nothing, if asked so')
	FROM test.post(:'driver', 'merchant_v1', 'favorites', jsonb_build_object('merchant_id', :'asada'),
		'{"prefer": "return=representation, resolution=ignore-duplicates"}', ARRAY['org_id', 'driver_id', 'merchant_id']) AS r;
SELECT is(r.status || ' ' || r.code, '409 23503', 'another organization''s merchant is none')
	FROM test.post(:'driver', 'merchant_v1', 'favorites', jsonb_build_object('merchant_id', pg_temp.m_id('2', 'b', 1))) AS r;
SELECT is(r.details, 'Key is not present in table "merchants".', 'like one that does not exist')
	FROM test.post(:'driver', 'merchant_v1', 'favorites', jsonb_build_object('merchant_id', pg_temp.m_id('2', 'b', 1))) AS r;
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 1', 'there is one')
	FROM test.get(:'driver', 'merchant_v1', 'favorites') AS r;
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 1', 'which the driver removes')
	FROM test.delete(:'driver', 'merchant_v1', 'favorites', 'merchant_id = $1', ARRAY[:'asada']) AS r;

-- Payments that a provider tells of come in by a job, which enters the organization.
CREATE ROLE regress_merchant_job LOGIN;
GRANT ringfence_jobs TO regress_merchant_job;
SET SESSION AUTHORIZATION regress_merchant_job;
SELECT throws_ok('SELECT merchant.expire_sessions()', '42501', 'query would be affected by row-level security policy for table "exclusive_sessions"',
	'a login that has not become the jobs'' role expires nothing, and is told so');
SELECT throws_ok('SELECT * FROM merchant.nova_verify()', '42501', NULL, 'nor finds that all is well');
BEGIN;
SELECT ringfence.enter_org('0e000000-0000-7000-8000-aaaaaaaaaa00', 'webhook evt_1') \g /dev/null
SELECT is((SELECT type || ' ' || amount || ' ' || reference FROM merchant_v1.topup_merchant('0e000000-0002-7000-8000-aaaaaaaaaa02', 500, 'pi_2')),
	'merchant_topup 500 pi_2', 'a job records a top-up');
SELECT throws_ok('SELECT merchant_v1.grant_nova(1, ''x'', merchant => ''0e000000-0002-7000-8000-aaaaaaaaaa02'')', '42501',
	'permission denied for function grant_nova', 'and grants nothing');
COMMIT;
RESET SESSION AUTHORIZATION;
DROP ROLE regress_merchant_job;
SELECT is(r.body, '[{"merchant_nova": 1485}]'::jsonb, 'the merchant has it')
	FROM test.get(:'owner', 'merchant_v1', 'overview', columns => 'overview.merchant_nova') AS r;

-- A lint of its own: every endpoint says what it is for.
SELECT is_empty($$
	SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'merchant_v1'::regnamespace AND p.prokind <> 'a' AND obj_description(p.oid) !~ '\n'
	UNION ALL
	SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'merchant_v1'::regnamespace AND c.relkind = 'v' AND obj_description(c.oid) !~ '\n'
	UNION ALL
	SELECT a.attrelid::regclass || '.' || a.attname
		FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
		WHERE c.relnamespace IN ('merchant_v1'::regnamespace, 'merchant'::regnamespace) AND c.relkind IN ('r', 'v') AND a.attnum > 0
			AND col_description(a.attrelid, a.attnum) IS NULL
$$, 'every endpoint has a title and a description, every column a comment');
SELECT is_empty(format('SELECT * FROM ringfence.ledger_verify(%L)', pg_temp.m_id('0', 'a', 0)), 'the ledger adds up');

SELECT * FROM finish();
