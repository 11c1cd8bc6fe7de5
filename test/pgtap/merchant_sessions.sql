-- Exclusive sessions: what an activation takes, that it is one for a driver, and
-- the state machine, which holds for everybody.
BEGIN;
SELECT plan(91);
\ir include/merchant.sql
SELECT pg_temp.volt() \g /dev/null
SELECT pg_temp.m_id('0', 'a', 0) AS org, pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('2', 'a', 2) AS bagels,
	pg_temp.m_id('3', 'a', 1) AS taco, pg_temp.m_id('3', 'a', 2) AS salsa, pg_temp.m_id('3', 'a', 3) AS bagel,
	pg_temp.m_id('3', 'a', 4) AS churro, pg_temp.m_id('3', 'a', 5) AS espresso,
	pg_temp.m_id('4', 'a', 1) AS dana, pg_temp.m_id('4', 'a', 2) AS drew, pg_temp.m_id('4', 'a', 3) AS dee \gset

-- The statement that activates, for throws_ok().
CREATE FUNCTION pg_temp.activate(perk uuid, intent uuid) RETURNS text
LANGUAGE sql AS $$SELECT format('SELECT merchant_v1.activate_exclusive(%L, %L)', perk, intent)$$;
-- Rows as they would have been an hour or two ago, past triggers.
CREATE FUNCTION pg_temp.age_sessions(by interval) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	SET LOCAL session_replication_role = replica;
	UPDATE merchant.exclusive_sessions
	SET activated_at = activated_at - by, expires_at = expires_at - by, redeem_until = redeem_until - by
	WHERE state = 'ACTIVE';
	SET LOCAL session_replication_role = origin;
END
$$;

SELECT pg_temp.act('owner');
SELECT lives_ok(format('SELECT merchant_v1.topup_merchant(%L, 60, ''pi_1'')', :'asada'), 'Asada buys 60 Nova');

-- An intent.
SELECT pg_temp.act('driver');
SELECT id AS intent, tier, charger_id, expires_at - now() AS good_for, jsonb_array_length(nearby) AS places, charger_distance_m
	FROM merchant_v1.capture_intent(30.2672, -97.7431) \gset
SELECT is(:'tier' || ' ' || :'charger_id' || ' ' || :'charger_distance_m', 'A ch:1 0', 'at the charger the tier is A');
SELECT is(:'good_for' || ', ' || :'places', '00:15:00, 2', 'the intent is good for 15 minutes, and there are places around');
SELECT is((SELECT tier || ' ' || charger_id FROM merchant_v1.capture_intent(30.2691, -97.7431)), 'B ch:1', '211 m away it is B');
SELECT id AS far, tier, charger_id IS NULL AS none FROM merchant_v1.capture_intent(30.2709, -97.7431) \gset
SELECT is(:'tier' || :'none', 'Ct', '411 m away there is no charger');
SELECT id AS other_charger FROM merchant_v1.capture_intent(30.3000, -97.7431) \gset
SELECT throws_ok('SELECT merchant_v1.capture_intent(91, 0)', '22023', 'invalid search', 'a position is on the earth');
SELECT throws_ok('SELECT merchant_v1.capture_intent(NULL, NULL)', '22023', 'invalid search', 'and somewhere');
SELECT is((SELECT count(*) FROM merchant_v1.intents), 4::bigint, 'a driver reads the own intents');
RESET ROLE;
UPDATE merchant.chargers SET active = false WHERE id = 'ch:1';
SELECT pg_temp.act('driver');
SELECT is((SELECT tier FROM merchant_v1.capture_intent(30.2672, -97.7431)), 'C', 'a charger that is gone makes no tier');
RESET ROLE;
UPDATE merchant.chargers SET active = true WHERE id = 'ch:1';
SELECT pg_temp.act('owner');
UPDATE merchant_v1.settings SET tier_a_m = 500, tier_b_m = 600;
SELECT pg_temp.act('driver');
SELECT is((SELECT tier FROM merchant_v1.capture_intent(30.2709, -97.7431)), 'A', 'thresholds are settings');
SELECT pg_temp.act('owner');
UPDATE merchant_v1.settings SET tier_a_m = 120, tier_b_m = 400;
SELECT throws_ok('UPDATE merchant_v1.settings SET tier_b_m = 120', '23514',
	'new row for relation "settings" violates check constraint "settings_tier_b_m_check"', 'in their order');
SELECT throws_ok('SELECT merchant_v1.capture_intent(30, -97)', '42501', 'only a driver may do this', 'the office captures no intents');
SELECT pg_temp.act('merchant');
SELECT throws_ok('SELECT merchant_v1.capture_intent(30, -97)', '42501', 'only a driver may do this', 'nor does a merchant');
RESET ROLE;
SELECT ringfence.set_context(:'org', NULL, '{driver}', '{}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT throws_ok('SELECT merchant_v1.capture_intent(30, -97)', '42501', 'only a driver may do this', 'nor the role without the party');
RESET ROLE;
SELECT ringfence.set_context(:'org', NULL, '{driver}', jsonb_build_object('driver', pg_temp.m_id('4', 'b', 1))) \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT throws_ok('SELECT merchant_v1.capture_intent(30, -97)', 'PT404', 'driver not found', 'a driver of another organization is none here');
SELECT throws_ok(pg_temp.activate(:'taco', :'intent'), 'PT404', 'driver not found', 'and activates nothing');

-- What an activation takes.
SELECT pg_temp.act('driver', 2);
SELECT id AS drews FROM merchant_v1.capture_intent(30.2672, -97.7431) \gset
SELECT throws_ok(pg_temp.activate(:'taco', :'drews'), 'PT403', 'phone number is not verified', 'a number that is not verified');
SELECT pg_temp.act('driver');
SELECT throws_ok(pg_temp.activate(pg_temp.m_id('3', 'b', 1), :'intent'), 'PT404', 'exclusive not found', 'another organization''s exclusive');
SELECT throws_ok(pg_temp.activate(gen_random_uuid(), :'intent'), 'PT404', 'exclusive not found', 'is like one that does not exist');
SELECT throws_ok(pg_temp.activate(:'salsa', :'intent'), 'PT409', 'perk is not an exclusive', 'a perk that is none');
SELECT throws_ok(pg_temp.activate(:'churro', :'intent'), 'PT409', 'exclusive is not active', 'one that is off');
SELECT throws_ok(pg_temp.activate(:'taco', :'drews'), 'PT404', 'intent not found', 'another driver''s intent');
SELECT throws_ok(pg_temp.activate(:'taco', NULL), 'PT404', 'intent not found', 'no intent');
SELECT throws_ok(pg_temp.activate(:'taco', :'far'), 'PT409', 'no charger is near', 'tier C');
SELECT throws_ok(pg_temp.activate(:'taco', :'other_charger'), 'PT409', 'merchant is not beside that charger', 'the wrong charger');
SELECT throws_ok(pg_temp.activate(:'espresso', :'intent'), 'PT409', 'merchant is not beside that charger', 'the wrong merchant');
SELECT pg_temp.act('admin');
SELECT is((SELECT paused FROM merchant_v1.pause_merchant(:'asada', 'a complaint')), true, 'an admin pauses the merchant');
SELECT pg_temp.act('driver');
SELECT throws_ok(pg_temp.activate(:'taco', :'intent'), 'PT409', 'merchant is paused', 'whose exclusive can''t be had then');
SELECT pg_temp.act('admin');
SELECT is((SELECT paused FROM merchant_v1.resume_merchant(:'asada', 'settled')), false, 'the admin ends the pause');
SELECT is((SELECT paused FROM merchant_v1.emergency_pause('fire')), true, 'and stops everything');
SELECT is((SELECT count(*) FROM merchant_v1.overview WHERE paused), 1::bigint, 'the office goes on working');
SELECT pg_temp.act('driver');
SELECT throws_ok(pg_temp.activate(:'taco', :'intent'), 'PT503', 'exclusives are paused', 'no driver activates anything');
SELECT pg_temp.act('driver', 1, 'b');
SELECT id AS intent_b FROM merchant_v1.capture_intent(30.2672, -97.7431) \gset
SELECT lives_ok(pg_temp.activate(pg_temp.m_id('3', 'b', 3), :'intent_b'), 'but those of other operators');
SELECT pg_temp.act('admin');
SELECT is((SELECT paused FROM merchant_v1.emergency_resume('out')), false, 'it goes on');
RESET ROLE;
SET LOCAL session_replication_role = replica;
UPDATE merchant.intents SET created_at = now() - interval '15 minutes' WHERE id = :'intent';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.act('driver');
SELECT throws_ok(pg_temp.activate(:'taco', :'intent'), 'PT409', 'intent is too old', 'an intent of 15 minutes ago is too old');
SELECT id AS intent FROM merchant_v1.capture_intent(30.2672, -97.7431) \gset

-- Active.
SELECT id AS session, state, expires_at - activated_at AS lasts, redeem_until - expires_at AS more, reward_nova, price_nova, merchant_id
	FROM merchant_v1.activate_exclusive(:'taco', :'intent') \gset
SELECT is(:'state' || ' ' || :'lasts' || ' ' || :'more', 'ACTIVE 01:00:00 00:30:00', 'a session lasts an hour, its visit half an hour more');
SELECT is(:'reward_nova' || ' ' || :'price_nova' || ' ' || :'merchant_id', '25 10 ' || :'asada', 'on the terms of the perk');
SELECT is((SELECT id FROM merchant_v1.activate_exclusive(:'taco', :'intent')), :'session', 'a second tap answers with the same session');
SELECT is((SELECT count(*) FROM merchant_v1.exclusive_sessions), 1::bigint, 'there is one');
SELECT throws_ok(pg_temp.activate(:'bagel', :'intent'), 'PT409', 'another exclusive is active', 'another exclusive has to wait');
SELECT is((SELECT id FROM merchant_v1.active_exclusive()), :'session', 'it is the active one');
SELECT pg_temp.act('driver', 3);
SELECT is((SELECT count(*) FROM merchant_v1.active_exclusive()), 0::bigint, 'and not another driver''s');
SELECT throws_ok(format('SELECT merchant_v1.complete_exclusive(%L)', :'session'), 'PT404', 'session not found', 'who can''t complete it');
SELECT id AS dees FROM merchant_v1.capture_intent(30.2672, -97.7431) \gset
SELECT lives_ok(pg_temp.activate(:'taco', :'dees'), 'but have one as well');
SELECT pg_temp.act('merchant');
SELECT throws_ok(format('SELECT merchant_v1.complete_exclusive(%L)', :'session'), '42501', 'only a driver may do this', 'nor can the merchant');

-- The budget: 60, of which 25 are promised twice.
RESET ROLE;
UPDATE merchant.drivers SET phone_verified_at = now() WHERE id = :'drew';
SELECT pg_temp.act('driver', 2);
SELECT throws_ok(pg_temp.activate(:'taco', :'drews'), 'PT409', NULL, 'a reward that the budget does not cover is promised to nobody');
SELECT is((SELECT count(*) FROM merchant_v1.exclusive_sessions), 0::bigint, 'and no session is left of it');
SELECT lives_ok(pg_temp.activate(:'bagel', :'drews'), 'one without a reward needs no budget');

-- Over.
SELECT pg_temp.age_sessions('1 hour');
SELECT pg_temp.act('driver');
SELECT is((SELECT state FROM merchant_v1.exclusive_sessions), 'EXPIRED', 'after an hour a session counts as expired');
SELECT is((SELECT count(*) FROM merchant_v1.active_exclusive()), 0::bigint, 'and is not active');
SELECT throws_ok(format('SELECT merchant_v1.complete_exclusive(%L)', :'session'), 'PT409', 'a session that is EXPIRED cannot become COMPLETED',
	'nor to be completed');
SELECT throws_ok(format('SELECT merchant_v1.verify_visit(%L)', :'session'), 'PT409', 'session is EXPIRED', 'it gives no code');
RESET ROLE;
SELECT is((SELECT state FROM merchant.exclusive_sessions WHERE id = :'session'), 'ACTIVE', 'though no job has been there');
SELECT pg_temp.act('owner');
SELECT is((SELECT held FROM merchant_v1.wallet WHERE party_id = :'asada'), 50::bigint, 'and the rewards of two are on hold');
SELECT pg_temp.act('driver');
SELECT throws_ok(pg_temp.activate(:'bagel', :'intent'), 'PT409', 'intent was used', 'the same intent is not good for another one');
SELECT lives_ok(pg_temp.activate(:'bagel'), 'a new one makes another session');
RESET ROLE;
SELECT results_eq(format('SELECT state, ended_at = expires_at FROM merchant.exclusive_sessions WHERE id = %L', :'session'),
	$$VALUES ('EXPIRED', true)$$, 'and closes the one that was over');
SELECT pg_temp.act('owner');
SELECT is((SELECT held FROM merchant_v1.wallet WHERE party_id = :'asada'), 25::bigint, 'whose reward is free again');
RESET ROLE;

SET LOCAL ROLE ringfence_jobs;
SELECT is(merchant.expire_sessions(1), 1::bigint, 'a job takes as many as it is told');
SELECT is(merchant.expire_sessions(), 2::bigint, 'then the rest, of all organizations, and none that lasts');
SELECT is(merchant.expire_sessions(), 0::bigint, 'until there is none');
SELECT throws_ok('SELECT merchant.expire_sessions(0)', '22023', 'invalid batch 0', 'none at a time is refused');
RESET ROLE;
SELECT pg_temp.act('owner');
SELECT throws_ok('SELECT merchant.expire_sessions()', '42501', 'permission denied for function expire_sessions', 'it is for jobs');

-- Completed.
SELECT pg_temp.act('driver');
SELECT id AS session FROM merchant_v1.active_exclusive() \gset
SELECT is((SELECT state FROM merchant_v1.complete_exclusive(:'session')), 'COMPLETED', 'the driver completes the session');
SELECT is((SELECT state FROM merchant_v1.complete_exclusive(:'session')), 'COMPLETED', 'twice, for all that it matters');

-- Canceled.
SELECT lives_ok(pg_temp.activate(:'taco'), 'Dana has the next one');
SELECT throws_ok('SELECT merchant_v1.force_close_sessions(''x'')', '42501', 'permission denied for this organization', 'drivers end no others');
SELECT pg_temp.act('admin');
SELECT throws_ok('SELECT merchant_v1.force_close_sessions('' '')', '22023', 'reason is required', 'nor does an admin without a reason');
SELECT is(merchant_v1.force_close_sessions('test', driver => :'drew'), 0, 'none of a driver who has none');
SELECT is(merchant_v1.force_close_sessions('a storm'), 1, 'then all');
SELECT results_eq('SELECT state, count(*) FROM merchant_v1.exclusive_sessions GROUP BY 1 ORDER BY 1',
	$$VALUES ('CANCELED', 1::bigint), ('COMPLETED', 1), ('EXPIRED', 3)$$, 'it is canceled');
SELECT pg_temp.act('driver');
SELECT results_eq($$SELECT event, count(*) FROM merchant_v1.activity GROUP BY 1 ORDER BY 1$$,
	$$VALUES ('activated', 3::bigint), ('canceled', 1), ('completed', 1), ('expired', 1)$$, 'and the driver''s feed tells of each');
SELECT pg_temp.act('admin');
SELECT is((SELECT held FROM merchant_v1.wallet WHERE party_id = :'asada'), 25::bigint,
	'its reward is not promised any more');
SELECT is((SELECT l.reason FROM ringfence_v1.audit_log AS l
		WHERE l.relation = 'merchant.exclusive_sessions' AND l.new ->> 'state' = 'CANCELED'), 'a storm', 'why is on record');

-- The machine, for the owner of the tables as well.
RESET ROLE;
CREATE FUNCTION pg_temp.change(state text, change text) RETURNS text
LANGUAGE sql AS $$
	SELECT format('UPDATE merchant.exclusive_sessions SET %s WHERE org_id = %L AND state = %L', change, pg_temp.m_id('0', 'a', 0), state)
$$;
SELECT throws_ok(pg_temp.change(f, format('state = %L', t)), 'PT409', format('a session that is %s cannot be changed', f),
		format('what is %s does not become %s', f, t))
	FROM unnest(ARRAY['COMPLETED', 'EXPIRED', 'CANCELED']) AS f, unnest(ARRAY['ACTIVE', 'EXPIRED']) AS t;
SELECT throws_ok(pg_temp.change('COMPLETED', 'ended_at = now()'), 'PT409', 'a session that is COMPLETED cannot be changed',
	'nor does anything else of it change');
SELECT pg_temp.act('driver');
SELECT lives_ok(pg_temp.activate(:'bagel'), 'Dana has one more');
RESET ROLE;
SELECT throws_ok(pg_temp.change('ACTIVE', 'state = ''PENDING'''), 'PT409', 'a session that is ACTIVE cannot become PENDING',
	'what is active becomes nothing that is not in the table');
SELECT throws_ok(pg_temp.change('ACTIVE', 'expires_at = expires_at + interval ''1 hour'''), 'PT409',
	'only the state of a session can be changed', 'nor lasts longer');
SELECT throws_ok(pg_temp.change('ACTIVE', 'state = ''COMPLETED'''), '23514', NULL, 'it ends at some time');
DELETE FROM merchant.session_transitions WHERE to_state = 'COMPLETED';
SELECT throws_ok(pg_temp.change('ACTIVE', 'state = ''COMPLETED'', ended_at = now()'), 'PT409',
	'a session that is ACTIVE cannot become COMPLETED', 'what may become of it is said in the table alone');
INSERT INTO merchant.session_transitions (from_state, to_state, meaning) VALUES ('ACTIVE', 'COMPLETED', 'test');
SELECT lives_ok(pg_temp.change('ACTIVE', 'state = ''COMPLETED'', ended_at = now()'), 'with the row there it may');
INSERT INTO merchant.intents (org_id, id, driver_id, lat, lng, charger_id, charger_distance_m, tier)
SELECT :'org', pg_temp.m_id('5', 'a', n), :'dana', 30.2672, -97.7431, 'ch:1', 0, 'A' FROM unnest(ARRAY[91, 92]) AS n;
CREATE FUNCTION pg_temp.plant(driver uuid, merchant uuid, perk uuid, VARIADIC intents integer[]) RETURNS text
LANGUAGE sql AS $$
	SELECT format('INSERT INTO merchant.exclusive_sessions (org_id, driver_id, merchant_id, perk_id, intent_id, charger_id, reward_nova,
			price_nova, expires_at, redeem_until)
		SELECT %L, %L, %L, %L, pg_temp.m_id(''5'', ''a'', n), ''ch:1'', 0, 0, now() + interval ''1 hour'', now() + interval ''1 hour''
		FROM unnest(%L::integer[]) AS n', pg_temp.m_id('0', 'a', 0), driver, merchant, perk, intents)
$$;
SELECT throws_ok(pg_temp.plant(:'dana', :'bagels', :'bagel', 91, 92), '23505',
	'duplicate key value violates unique constraint "exclusive_sessions_active_key"', 'two active ones of a driver can''t be');
SELECT throws_ok(pg_temp.plant(:'dana', :'asada', :'bagel', 91), '23503',
	'insert or update on table "exclusive_sessions" violates foreign key constraint "exclusive_sessions_perk_id_fkey"',
	'nor one of a merchant who does not have the perk');
SELECT throws_ok(pg_temp.plant(:'dee', :'bagels', :'bagel', 91), '23503',
	'insert or update on table "exclusive_sessions" violates foreign key constraint "exclusive_sessions_intent_id_fkey"',
	'nor one with another driver''s intent');
SELECT is_empty('SELECT * FROM merchant.nova_verify()', 'ledger and sessions agree');

SELECT * FROM finish();
ROLLBACK;
