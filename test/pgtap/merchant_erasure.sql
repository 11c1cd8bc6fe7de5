-- A driver who wants to be forgotten: what is under way ends and gives merchants
-- back what is on hold, name, number and positions go, and Nova that moved stays.
BEGIN;
SELECT plan(34);
\ir include/merchant.sql
SELECT pg_temp.volt() \g /dev/null
SELECT pg_temp.m_id('0', 'a', 0) AS org, pg_temp.m_id('3', 'a', 1) AS taco, pg_temp.m_id('2', 'a', 1) AS asada,
	pg_temp.m_id('4', 'a', 1) AS dana, pg_temp.m_id('4', 'a', 3) AS dee \gset

-- Dana has one visit redeemed, a code that could be redeemed yet, and an active
-- session; Dee has an active session.
SELECT pg_temp.act('owner');
SELECT merchant_v1.topup_merchant(:'asada', 1000, 'pi'), merchant_v1.grant_nova(50, 'welcome', driver => :'dana') \g /dev/null
SELECT pg_temp.act('driver');
INSERT INTO merchant_v1.favorites (merchant_id) VALUES (:'asada');
SELECT id AS first FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT code FROM merchant_v1.verify_visit(:'first') \gset
SELECT pg_temp.act('merchant');
SELECT merchant_v1.redeem_visit(:'code') \g /dev/null
SELECT pg_temp.act('driver');
SELECT merchant_v1.complete_exclusive(:'first') \g /dev/null
SELECT id AS second FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT code FROM merchant_v1.verify_visit(:'second') \gset
SELECT merchant_v1.complete_exclusive(:'second') \g /dev/null
RESET ROLE;
-- A code in hand keeps a driver from another activation; by this clock it doesn't.
SET LOCAL session_replication_role = replica;
UPDATE merchant.visits SET verified_at = verified_at - interval '1 day', expires_at = expires_at - interval '1 day' WHERE session_id = :'second';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.act('driver');
SELECT id AS third FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT merchant_v1.capture_intent(10, 10) \g /dev/null
SELECT pg_temp.act('driver', 3);
SELECT id AS dees FROM merchant_v1.activate_exclusive(:'taco', (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431))) \gset
SELECT pg_temp.act('merchant');
SELECT results_eq('SELECT balance, held FROM merchant_v1.wallet', 'VALUES (985::bigint, 75::bigint)', 'three rewards are on hold, two of them for Dana');

-- Who may.
SELECT throws_ok(format('SELECT * FROM ringfence_v1.erase_subject(''driver'', %L, ''x'', false)', :'dana'), '42501', 'permission denied for this subject', 'a merchant has no driver erased');
SELECT pg_temp.act('driver', 3);
SELECT throws_ok(format('SELECT * FROM ringfence_v1.erase_subject(''driver'', %L, ''x'', false)', :'dana'), '42501', 'permission denied for this subject', 'nor does another driver');
SELECT pg_temp.act('owner', 1, 'b');
SELECT throws_ok(format('SELECT * FROM ringfence_v1.erase_subject(''driver'', %L, ''x'', false)', :'dana'), 'PT404', 'subject not found', 'another organization''s owner finds none');

-- What there is to be told.
SELECT pg_temp.act('driver');
SELECT ringfence_v1.export_subject('driver', :'dana') AS document \gset
SELECT is((SELECT jsonb_object_agg(t.key, jsonb_array_length(t.value)) FROM jsonb_each(:'document'::jsonb -> 'tables') AS t WHERE t.key LIKE 'merchant.%'),
	'{"merchant.drivers": 1, "merchant.favorites": 1, "merchant.intents": 4, "merchant.exclusive_sessions": 3, "merchant.visits": 2, "merchant.visit_codes": 2}',
	'the driver is told everything');
SELECT is(:'document'::jsonb #>> '{tables,merchant.drivers,0,phone}', '+15125550101', 'the number');
SELECT is((:'document'::jsonb #> '{tables,merchant.visit_codes,0}') ? 'code', false, 'but no secret');

-- First to see, then for good.
SELECT pg_temp.act('owner');
SELECT isnt_empty(format('SELECT relation FROM ringfence_v1.erase_subject(''driver'', %L, ''asked by mail'')', :'dana'), 'what would be done can be seen');
SELECT is((SELECT name FROM merchant_v1.drivers WHERE id = :'dana'), 'Dana', 'and nothing is done by that');
SELECT results_eq(format($$
	SELECT e.relation, e.action, e.rows FROM ringfence_v1.erase_subject('driver', %L, 'asked by mail', false) AS e
		WHERE e.relation LIKE 'merchant.%%' AND e.rows > 0 AND e.action <> 'forget' ORDER BY 1
$$, :'dana'), $$
	VALUES ('merchant.drivers', 'anonymize', 1::bigint), ('merchant.exclusive_sessions', 'anonymize', 3), ('merchant.favorites', 'delete', 1),
		('merchant.intents', 'delete', 4), ('merchant.visit_codes', 'delete', 2), ('merchant.visits', 'anonymize', 2)
$$, 'the owner has the driver erased');
SELECT results_eq(format('SELECT name ~ ''^anon-[0-9a-f]{32}$'', phone, phone_verified_at FROM merchant_v1.drivers WHERE id = %L', :'dana'),
	'VALUES (true, NULL::text, NULL::timestamptz)', 'name and number are gone');
SELECT results_eq('SELECT balance, held FROM merchant_v1.wallet WHERE party_kind = ''merchant'' AND balance > 0', 'VALUES (985::bigint, 25::bigint)',
	'what was on hold for the driver is the merchant''s again, what is for another stays');
SELECT is((SELECT balance FROM merchant_v1.wallet WHERE party_id = :'dana'), 65::bigint, 'the wallet has what it had');
SELECT results_eq('SELECT id, state, driver_id, intent_id, charger_id COLLATE "default" FROM merchant_v1.exclusive_sessions ORDER BY activated_at, id', format($$
	VALUES (%L::uuid, 'COMPLETED', NULL::uuid, NULL::uuid, NULL::text), (%L, 'COMPLETED', NULL, NULL, NULL), (%L, 'CANCELED', NULL, NULL, NULL), (%L, 'ACTIVE', %L,
		(SELECT id FROM merchant.intents WHERE org_id = %L), 'ch:1')
$$, :'first', :'second', :'third', :'dees', :'dee', :'org'), 'sessions are nobody''s, the active one has ended; another driver''s goes on');
SELECT is((SELECT count(*) FROM merchant_v1.intents WHERE driver_id = :'dana'), 0::bigint, 'no position is left');
SELECT results_eq('SELECT driver_id, code COLLATE "default" FROM merchant_v1.visits', 'VALUES (NULL::uuid, NULL::text), (NULL, NULL)', 'visits are figures');
SELECT is((SELECT count(*) FROM ringfence_data.memberships), 7::bigint, 'the driver can''t sign in any more');
SELECT results_eq(format('SELECT activations, completed, canceled, visits, redeemed, nova_given FROM merchant_v1.analytics WHERE merchant_id = %L', :'asada'),
	'VALUES (4::bigint, 2::bigint, 1::bigint, 2::bigint, 1::bigint, 25::bigint)', 'the merchant''s figures stand');
SELECT pg_temp.act('merchant');
SELECT is((SELECT result FROM merchant_v1.redeem_visit(:'code')), 'not_found', 'a code in hand is worth nothing');
RESET ROLE;
SELECT is_empty('SELECT problem, object FROM merchant.nova_verify()', 'ledger and app agree');
SELECT is_empty(format('SELECT * FROM ringfence.ledger_verify(%L)', :'org'), 'and the ledger with itself');
SELECT is_empty(format($$
	SELECT l.relation, l.key
		FROM ringfence_v1.audit_log AS l
			JOIN ringfence_data.audit_log AS r ON r.id = l.id AND r.org_id = %2$L
		WHERE l.new::text LIKE '%%+15125550101%%' OR l.old::text LIKE '%%+15125550101%%'
			OR (l.relation = 'merchant.drivers' AND l.key LIKE '%%' || %1$L || '%%' AND (l.new ->> 'name' = 'Dana' OR l.old ->> 'name' = 'Dana'))
			OR (l.relation = 'merchant.intents' AND l.new ->> 'driver_id' = %1$L AND l.new ->> 'lat' IS NOT NULL)
$$, :'dana', :'org'), 'the audit log knows neither name nor number nor positions');
SELECT isnt_empty(format('SELECT key FROM ringfence_v1.audit_log WHERE relation = ''merchant.intents'' AND new ->> ''driver_id'' = %L AND new ->> ''lat'' IS NOT NULL', :'dee'),
	'but those of others');

-- Once.
SELECT pg_temp.act('owner');
SELECT is((SELECT coalesce(sum(e.rows), 0) FROM ringfence_v1.erase_subject('driver', :'dana', 'asked again', false) AS e
	WHERE e.relation LIKE 'merchant.%' AND e.action IN ('delete', 'anonymize')), 0::numeric, 'a second time there is nothing to do');

-- A consent to positions that is withdrawn takes these alone, also those of a session under way.
SELECT pg_temp.act('driver', 3);
SELECT ringfence_v1.give_consent('driver', :'dee', 'location', '2026-01') \g /dev/null
SELECT is(ringfence.has_consent('driver', :'dee', 'location'), true, 'a driver consents to positions');
SELECT ringfence_v1.withdraw_consent('driver', :'dee', 'location', 'no more') \g /dev/null
SELECT is(ringfence.has_consent('driver', :'dee', 'location'), false, 'and takes it back');
SELECT results_eq('SELECT id, state, charger_id COLLATE "default" FROM merchant_v1.exclusive_sessions', format('VALUES (%L::uuid, ''ACTIVE'', ''ch:1'')', :'dees'),
	'the session goes on');
SELECT results_eq('SELECT lat, lng, charger_id COLLATE "default", tier FROM merchant_v1.intents', $$VALUES (NULL::double precision, NULL::double precision, NULL::text, 'A')$$,
	'the position that it needs no more is gone');
SELECT is((SELECT name FROM merchant_v1.drivers), 'Dee', 'the driver stays');
SELECT is((SELECT state FROM merchant_v1.complete_exclusive(:'dees')), 'COMPLETED', 'and completes it');
SELECT is((SELECT tier FROM merchant_v1.capture_intent(10, 10)), 'C', 'positions that are captured later are the app''s to ask consent for');
RESET ROLE;
SELECT is_empty('SELECT problem, object FROM merchant.nova_verify()', 'ledger and app agree');

-- A hold on the driver beats it.
SELECT pg_temp.act('owner');
SELECT ringfence_v1.place_hold('a dispute', subject_kind => 'driver', subject_id => :'dee') \g /dev/null
SELECT throws_ok(format('SELECT * FROM ringfence_v1.erase_subject(''driver'', %L, ''x'', false)', :'dee'), 'PT409', 'a legal hold keeps this subject', 'a driver under a legal hold stays');
SELECT is((SELECT name FROM merchant_v1.drivers WHERE id = :'dee'), 'Dee', 'as they are');

SELECT * FROM finish();
ROLLBACK;
