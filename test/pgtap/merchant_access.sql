-- The access matrix of the merchant app, tried in raw SQL on the tables: what each
-- role reads and writes, and what it does not, own organization or other.
BEGIN;
SELECT plan(70);
\ir include/merchant.sql
SELECT pg_temp.merchant_places() \g /dev/null
INSERT INTO ringfence_data.orgs (id, name) VALUES (pg_temp.m_id('0', 'a', 0), 'Volt Austin'), (pg_temp.m_id('0', 'b', 0), 'Volt Dallas');
SELECT pg_temp.merchant_rows(pg_temp.m_id('0', 'a', 0), 'a', true), pg_temp.merchant_rows(pg_temp.m_id('0', 'b', 0), 'b', true) \g /dev/null
SELECT pg_temp.m_id('2', 'a', 1) AS asada, pg_temp.m_id('2', 'a', 2) AS bagels, pg_temp.m_id('2', 'b', 1) AS theirs,
	pg_temp.m_id('4', 'a', 1) AS dana, pg_temp.m_id('4', 'a', 3) AS dee, pg_temp.m_id('1', 'a', 1) AS zone \gset

-- How many rows of each table the current role reads, of those with any.
CREATE FUNCTION pg_temp.seen() RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	answer jsonb := '{}';
	rel text;
	rows bigint;
BEGIN
	FOREACH rel IN ARRAY ARRAY['zones', 'settings', 'merchants', 'claims', 'perks', 'drivers', 'favorites', 'intents', 'exclusive_sessions',
		'visits', 'visit_codes', 'chargers', 'places', 'charger_places'] LOOP
		EXECUTE format('SELECT count(*) FROM merchant.%I', rel) INTO rows;
		answer := answer || CASE WHEN rows > 0 THEN jsonb_build_object(rel, rows) ELSE '{}' END;
	END LOOP;
	RETURN answer;
END
$$;
\set shared '{"chargers": 2, "places": 4, "charger_places": 3}'

-- Reading.
SELECT pg_temp.act('owner');
SELECT is(pg_temp.seen() - '{chargers,places,charger_places}'::text[], '{"zones": 1, "settings": 1, "merchants": 3, "claims": 3, "perks": 5, "drivers": 3,
	"favorites": 1, "intents": 2, "exclusive_sessions": 2, "visits": 1}', 'the owner reads every row of the organization but codes');
SELECT pg_temp.act('admin');
SELECT is(pg_temp.seen() - '{chargers,places,charger_places}'::text[], '{"zones": 1, "settings": 1, "merchants": 3, "claims": 3, "perks": 5, "drivers": 3,
	"favorites": 1, "intents": 2, "exclusive_sessions": 2, "visits": 1}', 'so does an admin');
SELECT pg_temp.act('driver');
SELECT is(pg_temp.seen(), '{"zones": 1, "settings": 1, "merchants": 3, "claims": 3, "perks": 5, "drivers": 1, "favorites": 1, "intents": 1,
	"exclusive_sessions": 1}' || :'shared'::jsonb, 'a driver reads what is offered, and of what drivers do the own');
SELECT pg_temp.act('driver', 3);
SELECT is(pg_temp.seen(), '{"zones": 1, "settings": 1, "merchants": 3, "claims": 3, "perks": 5, "drivers": 1, "intents": 1,
	"exclusive_sessions": 1, "visits": 1, "visit_codes": 1}' || :'shared'::jsonb, 'so does another: a visit with its code is the driver''s own');
SELECT is((SELECT count(*) FROM merchant.drivers WHERE id = :'dana'), 0::bigint, 'who does not find the first one');
SELECT is((SELECT count(*) FROM merchant.intents WHERE driver_id = :'dana'), 0::bigint, 'nor where that one was');
SELECT is((SELECT count(*) FROM merchant_v1.wallet WHERE party_id <> :'dee'), 0::bigint, 'nor anybody''s Nova');
SELECT is((SELECT count(*) FROM merchant_v1.activity WHERE driver_id <> :'dee'), 0::bigint, 'nor what anybody does');
SELECT is((SELECT count(*) FROM merchant_v1.analytics), 0::bigint, 'nor any merchant''s figures');
SELECT is((SELECT count(*) FROM merchant_v1.overview), 0::bigint, 'nor the operator''s');
SELECT pg_temp.act('merchant');
SELECT is(pg_temp.seen(), '{"zones": 1, "settings": 1, "merchants": 1, "claims": 1, "perks": 3, "exclusive_sessions": 2, "visits": 1}' || :'shared'::jsonb,
	'a merchant reads its own, with its sessions and visits, and no driver, position or code');
SELECT is((SELECT array_agg(party_id) FROM merchant_v1.wallet), ARRAY[:'asada'::uuid], 'and its budget');
SELECT is((SELECT array_agg(merchant_id) FROM merchant_v1.analytics), ARRAY[:'asada'::uuid], 'its figures');
SELECT is((SELECT count(*) FROM merchant_v1.overview), 0::bigint, 'but not the operator''s');
SELECT pg_temp.act('merchant', 2);
SELECT is(pg_temp.seen() - '{chargers,places,charger_places}'::text[], '{"zones": 1, "settings": 1, "merchants": 1, "claims": 1, "perks": 1}',
	'another has no sessions');
SELECT pg_temp.act('accountant');
SELECT is(pg_temp.seen(), :'shared'::jsonb, 'an accountant reads the ledger and nothing here');
SELECT is((SELECT count(*) FROM merchant_v1.wallet), 6::bigint, 'that is, all wallets');
SELECT pg_temp.act('guest');
SELECT is(pg_temp.seen(), :'shared'::jsonb, 'without a role there is nothing but what is shared');
RESET ROLE;
SELECT ringfence.set_context(pg_temp.m_id('0', 'a', 0), NULL, '{driver,merchant}', '{}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is(pg_temp.seen() - '{chargers,places,charger_places}'::text[], '{"zones": 1, "settings": 1, "merchants": 3, "claims": 3, "perks": 5}',
	'roles without a party own nothing');
RESET ROLE;
SELECT ringfence.set_context(pg_temp.m_id('0', 'a', 0), NULL, '{driver,merchant}',
	jsonb_build_object('driver', pg_temp.m_id('4', 'b', 1), 'merchant', pg_temp.m_id('2', 'b', 1))) \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is(pg_temp.seen() - '{chargers,places,charger_places}'::text[], '{"zones": 1, "settings": 1, "merchants": 3, "claims": 3, "perks": 5}',
	'nor do another organization''s parties');
SELECT is((SELECT count(*) FROM merchant_v1.wallet), 0::bigint, 'no wallet either');
RESET ROLE;
SELECT ringfence.set_context(pg_temp.m_id('0', 'a', 0), NULL, '{}', jsonb_build_object('driver', :'dana')) \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is(pg_temp.seen(), :'shared'::jsonb, 'nor a party without the role');
RESET ROLE;
SELECT ringfence.set_context() \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is(pg_temp.seen(), :'shared'::jsonb, 'without an organization there is only what is shared');
RESET ROLE;
SET LOCAL ROLE ringfence_anon;
SELECT throws_ok('SELECT * FROM merchant_v1.places', '42501', 'permission denied for schema merchant_v1', 'requests without a token reach nothing');
SELECT throws_ok('SELECT * FROM merchant.drivers', '42501', 'permission denied for table drivers', 'not even by raw SQL');

-- Writing: the office.
SELECT pg_temp.act('admin');
SELECT lives_ok($$INSERT INTO merchant_v1.zones (tag, name, lat, lng, radius_m) VALUES ('NEW', 'New', 31, -97, 1000)$$, 'an admin adds a zone without code');
SELECT throws_ok($$INSERT INTO merchant_v1.zones (tag, name, lat, lng, radius_m) VALUES ('NEW', 'New', 31, -97, 1000)$$, '23505',
	'duplicate key value violates unique constraint "zones_tag_key"', 'whose tag is its own');
SELECT lives_ok($$DELETE FROM merchant_v1.zones WHERE tag = 'NEW'$$, 'and removes it');
SELECT throws_ok($$DELETE FROM merchant_v1.zones$$, '23503', NULL, 'but none that has merchants');
SELECT lives_ok($$INSERT INTO merchant_v1.drivers (name, phone) VALUES ('New', '+15125550199')$$, 'an admin adds a driver');
SELECT is((SELECT count(*) FROM merchant_v1.wallet AS w JOIN merchant_v1.drivers AS d ON d.id = w.party_id WHERE d.name = 'New'), 1::bigint, 'who has a wallet');
SELECT throws_ok($$INSERT INTO merchant_v1.drivers (name, phone) VALUES ('Twin', '+15125550199')$$, '23505',
	'duplicate key value violates unique constraint "drivers_phone_key"', 'and a number of their own');
SELECT throws_ok($$INSERT INTO merchant_v1.drivers (name, phone) VALUES ('x', '555')$$, '23514', NULL, 'which is one');
SELECT lives_ok(format($$UPDATE merchant_v1.drivers SET phone = '+15125550177' WHERE id = %L$$, :'dana'), 'an admin changes a number');
SELECT is((SELECT phone_verified_at FROM merchant_v1.drivers WHERE id = :'dana'), NULL, 'which is not verified then');
SELECT lives_ok(format($$UPDATE merchant_v1.drivers SET phone_verified_at = now() WHERE id = %L$$, :'dana'), 'until somebody says so');
SELECT throws_ok('DELETE FROM merchant_v1.drivers', '42501', 'permission denied for view drivers', 'drivers stay');
SELECT throws_ok('DELETE FROM merchant.drivers', '42501', 'permission denied for table drivers', 'in raw SQL as well');
SELECT is((SELECT name || ' ' || tag || ' ' || paused FROM merchant_v1.claim_place('pl:4', :'zone', 'DONUTS')), 'Donuts DONUTS false', 'an admin makes a merchant of a place');
SELECT throws_ok(format($$SELECT merchant_v1.claim_place('pl:4', %L, 'AGAIN')$$, :'zone'), 'PT409', 'place is claimed already', 'once');
SELECT throws_ok(format($$SELECT merchant_v1.claim_place('pl:9', %L, 'X9')$$, :'zone'), 'PT404', 'place not found', 'a place that is there');
SELECT throws_ok($$SELECT merchant_v1.claim_place('pl:4', pg_temp.m_id('1', 'b', 1), 'X9')$$, 'PT404', 'zone not found', 'in a zone of the own');
SELECT throws_ok(format('UPDATE merchant_v1.merchants SET paused = true WHERE id = %L', :'asada'), '42501', 'permission denied for table merchants',
	'a merchant is paused with a reason');
SELECT throws_ok('UPDATE merchant_v1.settings SET paused = true', '42501', 'permission denied for table settings', 'and so is everything');
SELECT throws_ok(format('SELECT merchant_v1.pause_merchant(%L, NULL)', :'asada'), '22023', 'reason is required', 'without one nothing is');
SELECT throws_ok(format('SELECT merchant_v1.pause_merchant(%L, ''x'')', :'theirs'), 'PT404', 'merchant not found', 'another organization''s merchant is none');
SELECT is((SELECT active FROM merchant_v1.toggle_exclusive(pg_temp.m_id('3', 'a', 1), false)), false, 'an admin switches an exclusive off');
SELECT throws_ok($$SELECT merchant_v1.toggle_exclusive(pg_temp.m_id('3', 'a', 2), false)$$, 'PT404', 'exclusive not found', 'a perk that is none is none');
SELECT throws_ok($$UPDATE merchant.places SET name = 'x'$$, '42501', 'permission denied for table places', 'what is shared is not an organization''s to change');
SELECT throws_ok('UPDATE merchant.exclusive_sessions SET state = ''COMPLETED''', '42501', 'permission denied for table exclusive_sessions',
	'nor are sessions, but by functions');

-- Drivers and merchants.
SELECT pg_temp.act('driver');
SELECT lives_ok(format('INSERT INTO merchant_v1.favorites (merchant_id) VALUES (%L)', :'asada'), 'a driver saves a merchant');
SELECT throws_ok(format('INSERT INTO merchant_v1.favorites (driver_id, merchant_id) VALUES (%L, %L)', :'dee', :'asada'), '42501',
	'new row violates row-level security policy for table "favorites"', 'for nobody else');
SELECT lives_ok('DELETE FROM merchant_v1.favorites', 'and forgets them');
SELECT throws_ok(format('INSERT INTO merchant.intents (driver_id, lat, lng, tier) VALUES (%L, 0, 0, ''A'')', :'dana'), '42501',
	'permission denied for table intents', 'a driver writes no tier');
UPDATE merchant.drivers SET phone_verified_at = 'infinity';
SELECT is((SELECT count(*) FROM merchant.drivers WHERE phone_verified_at = 'infinity'), 0::bigint, 'nor that the own number is verified');
UPDATE merchant.drivers SET name = 'Changed';
UPDATE merchant.perks SET reward_nova = 1000;
UPDATE merchant.settings SET visit_bonus_nova = 1000;
SELECT is((SELECT count(*) FROM merchant.drivers WHERE name = 'Changed') + (SELECT count(*) FROM merchant.perks WHERE reward_nova = 1000)
	+ (SELECT count(*) FROM merchant.settings WHERE visit_bonus_nova = 1000), 0::bigint, 'nor the own record, a perk or a setting');
SELECT throws_ok(format('SELECT merchant_v1.pause_merchant(%L, ''x'')', :'asada'), '42501', 'permission denied for this organization', 'nor pauses anybody');
SELECT throws_ok('SELECT merchant_v1.emergency_pause(''x'')', '42501', 'permission denied for this organization', 'or anything');
SELECT throws_ok($$SELECT merchant_v1.toggle_exclusive(pg_temp.m_id('3', 'a', 1), true)$$, '42501', 'not allowed to change this exclusive', 'nor switches exclusives');
SELECT throws_ok(format($$SELECT merchant_v1.claim_place('pl:4', %L, 'X9')$$, :'zone'), '42501', 'permission denied for this organization', 'or claims places');
SELECT pg_temp.act('merchant');
SELECT is((SELECT active FROM merchant_v1.toggle_exclusive(pg_temp.m_id('3', 'a', 1), true)), true, 'a merchant switches its exclusive on');
SELECT throws_ok($$SELECT merchant_v1.toggle_exclusive(pg_temp.m_id('3', 'a', 3), false)$$, 'PT404', 'exclusive not found', 'and no other''s');
SELECT throws_ok(format('INSERT INTO merchant_v1.perks (merchant_id, title) VALUES (%L, ''x'')', :'bagels'), '42501',
	'new row violates row-level security policy for table "perks"', 'nor offers anything in another''s name');
SELECT lives_ok(format('INSERT INTO merchant_v1.perks (merchant_id, title, exclusive, reward_nova) VALUES (%L, ''New'', true, 1)', :'asada'), 'a merchant offers a perk');
SELECT throws_ok(format('UPDATE merchant_v1.perks SET merchant_id = %L', :'bagels'), '42501', 'permission denied for table perks', 'which stays its own');

-- The rules are the app's own.
SELECT is((SELECT count(*) FROM merchant_v1.nova_types()) || ' ' || (SELECT count(*) FROM merchant_v1.session_transitions()), '6 3', 'everybody may know the rules');
SELECT throws_ok('UPDATE merchant.nova_types SET debit = ''nova.grants''', '42501', 'permission denied for table nova_types', 'no tenant changes what moves Nova');
RESET ROLE;
SET LOCAL ROLE ringfence_operator;
SELECT throws_ok('UPDATE merchant.nova_types SET debit = ''nova.grants''', '42501', 'permission denied for table nova_types', 'nor does an operator');
SELECT throws_ok('INSERT INTO merchant.session_transitions (from_state, to_state, meaning) VALUES (''COMPLETED'', ''ACTIVE'', ''x'')', '42501',
	'permission denied for table session_transitions', 'or what is final');
SELECT lives_ok($$UPDATE merchant.chargers SET name = 'x' WHERE id = 'ch:1'$$, 'who keeps chargers and places');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
