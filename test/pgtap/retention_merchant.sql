-- What the merchant app keeps, and for how long: positions 90 days, drivers of
-- sessions and visits a year, codes and attempts less; an operator may choose less,
-- within bounds. All of it by a clock that the test moves, and after each step the
-- app and the ledger agree.
\ir include/merchant.sql
SELECT plan(49);
SELECT pg_temp.volt() \g /dev/null
SELECT pg_temp.m_id('0', 'a', 0) AS org, pg_temp.m_id('3', 'a', 1) AS taco, pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('4', 'a', 1) AS dana \gset

-- In each organization Dana redeems a visit to Asada and completes the session, and
-- has a position besides that came to nothing; Dee's session goes on.
CREATE FUNCTION pg_temp.visit(o text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	session uuid;
	given text;
BEGIN
	PERFORM pg_temp.act('owner', 1, o);
	PERFORM merchant_v1.topup_merchant(pg_temp.m_id('2', o, 1), 1000, 'topup ' || o);
	PERFORM merchant_v1.grant_nova(50, 'welcome', driver => pg_temp.m_id('4', o, 1));
	PERFORM merchant_v1.invite_claim('pl:4', pg_temp.m_id('2', o, 1), 'asada@' || o || '.example');
	PERFORM pg_temp.act('driver', 1, o);
	PERFORM merchant_v1.capture_intent(30.2672, -97.7431);
	PERFORM merchant_v1.capture_intent(10, 10);
	SELECT s.id INTO session FROM merchant_v1.activate_exclusive(pg_temp.m_id('3', o, 1),
		(SELECT c.id FROM merchant_v1.capture_intent(30.2672, -97.7431) AS c)) AS s;
	SELECT v.code INTO given FROM merchant_v1.verify_visit(session) AS v;
	PERFORM pg_temp.act('merchant', 1, o);
	PERFORM merchant_v1.redeem_visit('TST-ASADA-000000000000');
	PERFORM merchant_v1.redeem_visit(given);
	PERFORM pg_temp.act('driver', 1, o);
	PERFORM merchant_v1.complete_exclusive(session);
	PERFORM pg_temp.act('driver', 3, o);
	PERFORM merchant_v1.activate_exclusive(pg_temp.m_id('3', o, 1), (SELECT c.id FROM merchant_v1.capture_intent(30.2672, -97.7431) AS c));
END
$$;
BEGIN; SELECT pg_temp.visit('a') \g /dev/null
COMMIT;
BEGIN; SELECT pg_temp.visit('b') \g /dev/null
COMMIT;

-- What is known of an organization's drivers.
CREATE FUNCTION pg_temp.known(o text) RETURNS jsonb
LANGUAGE sql AS $$
	SELECT jsonb_build_object(
		'intents', (SELECT count(*) FROM merchant.intents AS i WHERE i.org_id = d.org),
		'positions', (SELECT count(*) FROM merchant.intents AS i
			WHERE i.org_id = d.org AND num_nonnulls(i.lat, i.lng, i.charger_id, i.charger_distance_m) > 0),
		'sessions', (SELECT count(*) FROM merchant.exclusive_sessions AS s WHERE s.org_id = d.org),
		'chargers', (SELECT count(s.charger_id) FROM merchant.exclusive_sessions AS s WHERE s.org_id = d.org),
		'drivers', (SELECT count(s.driver_id) + count(s.intent_id) FROM merchant.exclusive_sessions AS s WHERE s.org_id = d.org),
		'visits', (SELECT count(*) FROM merchant.visits AS v WHERE v.org_id = d.org),
		'visitors', (SELECT count(v.driver_id) FROM merchant.visits AS v WHERE v.org_id = d.org),
		'codes', (SELECT count(*) FROM merchant.visit_codes AS c WHERE c.org_id = d.org),
		'attempts', (SELECT count(*) FROM merchant.redemption_attempts AS a WHERE a.org_id = d.org),
		'links', (SELECT count(*) FROM merchant.claim_links AS l WHERE l.org_id = d.org))
	FROM (SELECT pg_temp.m_id('0', o, 0) AS org) AS d
$$;
CREATE FUNCTION pg_temp.clock(passed interval) RETURNS void LANGUAGE sql
AS $$ SELECT set_config('ringfence.retention_clock', (now() + passed)::text, false) $$;
CREATE FUNCTION pg_temp.sound(what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is((SELECT state || ' ' || errors FROM ringfence_data.retention_runs ORDER BY id DESC LIMIT 1), 'finished 0', what || ': the run finished');
	RETURN NEXT is_empty('SELECT problem, object FROM merchant.nova_verify()', what || ': ledger and app agree');
END
$$;
\set all '{"intents": 4, "positions": 4, "sessions": 2, "chargers": 2, "drivers": 4, "visits": 1, "visitors": 1, "codes": 1, "attempts": 1, "links": 1}'

-- Declared, and seen by who owns the rows.

SELECT results_eq($$
	SELECT p.relation::text, p.step, p.action COLLATE "default", p.column_name::text COLLATE "default", p.keep, p.min_keep, p.max_keep
		FROM ringfence_data.retention_policies AS p WHERE p.relation::text LIKE 'merchant.%' ORDER BY 1, 2
$$, $$
	VALUES ('merchant.claim_links', 'delete', 'delete', 'expires_at', interval '24 hours', interval '24 hours', interval '24 hours'),
		('merchant.drivers', 'forever', 'forever', NULL, NULL, NULL, NULL),
		('merchant.exclusive_sessions', 'driver', 'anonymize', 'ended_at', '1 year', '90 days', '1 year'),
		('merchant.exclusive_sessions', 'location', 'anonymize', 'ended_at', '90 days', '2 days', '90 days'),
		('merchant.intents', 'delete', 'delete', 'created_at', '90 days', '2 days', '1 year'),
		('merchant.intents', 'location', 'anonymize', 'created_at', '90 days', '2 days', '90 days'),
		('merchant.redemption_attempts', 'delete', 'delete', 'since', '30 days', '8 days', '90 days'),
		('merchant.visit_codes', 'delete', 'delete', 'created_at', '90 days', '8 days', '1 year'),
		('merchant.visits', 'driver', 'anonymize', 'verified_at', '1 year', '90 days', '1 year')
$$, 'what is kept for how long');
SELECT is_empty($$
	SELECT c.relation::text, c.column_name FROM ringfence_data.columns AS c
		WHERE c.label = 'personal' AND c.relation::text LIKE 'merchant.%'
			AND NOT EXISTS (SELECT FROM ringfence_data.retention_policies AS p WHERE p.relation = c.relation)
$$, 'no table with personal values is left out');
BEGIN;
SELECT pg_temp.act('owner');
SELECT is((SELECT count(*) FROM ringfence_v1.retention WHERE relation::text LIKE 'merchant.%'), 9::bigint, 'the owner reads it');
ROLLBACK;

-- Nothing is due.

SELECT is(pg_temp.known('a'), :'all', 'everything is there');
CALL ringfence.run_retention();
SELECT is(pg_temp.known('a'), :'all', 'and stays');
SELECT * FROM pg_temp.sound('now');
SELECT pg_temp.clock('47 hours 59 minutes') \g /dev/null
CALL ringfence.run_retention(rel => 'merchant.claim_links');
SELECT is(pg_temp.known('a') -> 'links', '1', 'a claim link is kept for a day after its day');
SELECT pg_temp.clock('48 hours 1 minute') \g /dev/null
CALL ringfence.run_retention(rel => 'merchant.claim_links');
SELECT is(pg_temp.known('a') -> 'links', '0', 'and no longer');

-- Without retention nothing of it can be done.

SELECT throws_ok(format('UPDATE merchant.exclusive_sessions SET driver_id = NULL WHERE org_id = %L AND state = ''COMPLETED''', :'org'), 'PT409',
	'a session that is COMPLETED cannot be changed', 'nobody else has a session forget its driver');
SELECT throws_ok(format('UPDATE merchant.visits SET driver_id = NULL WHERE org_id = %L', :'org'), 'PT409',
	'a visit that is redeemed cannot be changed', 'or a visit');
SELECT throws_ok(format('UPDATE merchant.intents SET lat = NULL WHERE org_id = %L', :'org'), '23514',
	'new row for relation "intents" violates check constraint "intents_position_check"', 'half a position is none');
SELECT throws_ok(format('UPDATE merchant.intents SET lat = NULL, lng = NULL WHERE org_id = %L AND tier = ''A''', :'org'), '23514',
	'new row for relation "intents" violates check constraint "intents_position_check"', 'nor is a charger without one');
SELECT throws_ok(format('UPDATE merchant.intents SET tier = ''A'' WHERE org_id = %L AND tier = ''C''', :'org'), '23514',
	'new row for relation "intents" violates check constraint "intents_tier_check"', 'as long as there is a position the tier goes with the charger');

-- A choice of one operator's.

BEGIN;
SELECT pg_temp.act('owner', 1, 'b');
SELECT throws_ok('SELECT ringfence_v1.set_retention(''merchant.intents'', ''location'', ''1 year'', ''more'')', '22023', 'invalid period 1 year', 'positions are not kept longer');
SELECT lives_ok('SELECT ringfence_v1.set_retention(''merchant.intents'', ''location'', ''7 days'', ''less'')', 'but for less time, if an operator wants');
COMMIT;
SELECT pg_temp.clock('8 days') \g /dev/null
CALL ringfence.run_retention();
SELECT is(pg_temp.known('a'), :'all'::jsonb || '{"links": 0}', 'a week later the one operator has all');
SELECT is(pg_temp.known('b'), :'all'::jsonb || '{"links": 0, "positions": 0}', 'the other no positions');
SELECT * FROM pg_temp.sound('a week later');
SELECT pg_temp.clock('31 days') \g /dev/null
CALL ringfence.run_retention();
SELECT is(pg_temp.known('a'), :'all'::jsonb || '{"links": 0, "attempts": 0}', 'a month later wrong codes are forgotten');

-- 90 days: where.

SELECT pg_temp.clock('89 days 23 hours') \g /dev/null
CALL ringfence.run_retention();
SELECT is(pg_temp.known('a'), :'all'::jsonb || '{"links": 0, "attempts": 0}', 'until 90 days are over the rest stays');
SELECT pg_temp.clock('90 days 1 hour') \g /dev/null
SELECT results_eq(format($$
	SELECT p.relation, p.step, p.rows, p.referenced FROM ringfence.retention_preview('merchant.intents', %L) AS p ORDER BY 2
$$, :'org'), $$VALUES ('merchant.intents', 'delete', 4::bigint, 2::bigint), ('merchant.intents', 'location', 4, 0)$$, 'what is due then can be seen before');
CALL ringfence.run_retention();
SELECT is(pg_temp.known('a'), '{"intents": 2, "positions": 0, "sessions": 2, "chargers": 1, "drivers": 4, "visits": 1, "visitors": 1, "codes": 0,
	"attempts": 0, "links": 0}', 'then no position is known, and of intents those of sessions; a session under way keeps its charger');
SELECT * FROM pg_temp.sound('after 90 days');
SELECT results_eq(format($$SELECT tier, lat, lng, charger_id COLLATE "default", charger_distance_m FROM merchant.intents WHERE org_id = %L$$, :'org'),
	$$VALUES ('A', NULL::double precision, NULL::double precision, NULL, NULL::double precision), ('A', NULL, NULL, NULL, NULL)$$, 'how sure it was is');
BEGIN;
SELECT pg_temp.act('owner');
SELECT results_eq('SELECT state, driver_id, charger_id COLLATE "default" FROM merchant_v1.exclusive_sessions WHERE state = ''COMPLETED''',
	format('VALUES (''COMPLETED'', %L::uuid, NULL::text)', :'dana'), 'the owner reads who it was, not where');
SELECT is((SELECT count(*) FROM merchant_v1.intents WHERE lat IS NULL), 2::bigint, 'intents without a position can be read');
ROLLBACK;
CALL ringfence.run_retention(rel => 'merchant.intents');
SELECT is((SELECT rows FROM ringfence_data.retention_runs ORDER BY id DESC LIMIT 1), 0::bigint, 'a second run finds nothing to do');

-- A year: who. The session is over by now.
UPDATE merchant.exclusive_sessions SET state = 'EXPIRED', ended_at = greatest(now(), activated_at) WHERE state = 'ACTIVE';
SELECT pg_temp.clock('364 days') \g /dev/null
CALL ringfence.run_retention();
SELECT is(pg_temp.known('a') ->> 'drivers', '4', 'until a year is over it is known who it was');
SELECT is(pg_temp.known('a') ->> 'chargers', '0', 'where Dee''s session was is not');
SELECT pg_temp.clock('1 year 1 day') \g /dev/null
-- Before their visits, whose keys follow them.
CALL ringfence.run_retention(rel => 'merchant.exclusive_sessions', org => :'org');
SELECT is(pg_temp.known('a'), '{"intents": 2, "positions": 0, "sessions": 2, "chargers": 0, "drivers": 0, "visits": 1, "visitors": 0, "codes": 0,
	"attempts": 0, "links": 0}', 'after a year sessions, and visits with them, are figures');
SELECT is(pg_temp.known('b') ->> 'drivers', '4', 'the other operator''s are left alone');
CALL ringfence.run_retention();
SELECT is(pg_temp.known('a') - '{attempts,links,codes}'::text[], '{"intents": 0, "positions": 0, "sessions": 2, "chargers": 0, "drivers": 0,
	"visits": 1, "visitors": 0}', 'the intents of sessions go then');
SELECT is(pg_temp.known('b') - '{attempts,links,codes}'::text[], pg_temp.known('a') - '{attempts,links,codes}'::text[], 'with both');
SELECT * FROM pg_temp.sound('after a year');
BEGIN;
SELECT pg_temp.act('owner');
SELECT results_eq(format('SELECT activations, completed, expired, drivers, visits, redeemed, nova_given, nova_taken FROM merchant_v1.analytics WHERE merchant_id = %L', :'asada'),
	'VALUES (2::bigint, 1::bigint, 1::bigint, 0::bigint, 1::bigint, 1::bigint, 25::bigint, 10::bigint)', 'the merchant''s figures stand');
SELECT results_eq('SELECT sessions_active, visits_redeemed, driver_nova FROM merchant_v1.overview', 'VALUES (0::bigint, 1::bigint, 65::bigint)', 'and the operator''s');
SELECT is((SELECT activations FROM merchant_v1.exclusives WHERE perk_id = :'taco'), 2::bigint, 'and the exclusive''s');
SELECT is((SELECT count(*) FROM merchant_v1.visits WHERE driver_id IS NULL AND code IS NULL), 1::bigint, 'the visit is nobody''s');
SELECT is(merchant_v1.force_close_sessions('x'), 0, 'sessions that have ended are not ended again');
SELECT pg_temp.act('driver');
SELECT results_eq('SELECT DISTINCT event COLLATE "default" FROM merchant_v1.activity ORDER BY 1', ARRAY['admin_grant', 'driver_earn', 'driver_redeem'], 'the driver''s feed has the wallet alone');
SELECT is((SELECT balance FROM merchant_v1.wallet), 65::bigint, 'of which nothing is lost');
SELECT is((SELECT s.state FROM merchant_v1.activate_exclusive(:'taco', (SELECT c.id FROM merchant_v1.capture_intent(30.2672, -97.7431) AS c)) AS s),
	'ACTIVE', 'and the driver goes on');
ROLLBACK;
SELECT is_empty($$SELECT operation, key FROM ringfence_v1.audit_log WHERE relation = 'merchant.intents' AND operation IN ('UPDATE', 'DELETE')$$,
	'no record tells of each row that went');
SELECT results_eq(format($$
	SELECT l.new ->> 'step', sum((l.new ->> 'rows')::integer) FROM ringfence_data.audit_log AS l
		WHERE l.action = 'retention.purged' AND l.key = 'merchant.intents' AND l.org_id = %L
			AND l.new ->> 'action' <> 'forget' GROUP BY 1 ORDER BY 1
$$, :'org'), $$VALUES ('delete', 4::bigint), ('location', 2)$$, 'but one of each batch');

-- Sessions that expire are the job's.
SELECT results_eq('SELECT command COLLATE "default", every, repeats FROM ringfence_data.jobs WHERE job = ''expire_sessions''',
	$$VALUES ('merchant.expire_sessions(integer)', interval '1 minute', true)$$, 'sessions expire by a job of every minute');

SELECT * FROM finish();
