-- Rows for the merchant app: pg_temp.merchant_rows(organization, a letter that
-- stands for it in keys). In each organization there are
--
--   zone 1 TST, merchants 1 Asada (place 1) and 2 Bagels (place 2), both beside
--   charger 1, and 3 Coffee (place 3), which is beside charger 2 alone;
--   perks 1 Asada's exclusive, reward 25, price 10; 2 Asada's other perk;
--   3 Bagels' exclusive, for nothing; 4 Asada's inactive exclusive; 5 Coffee's
--   exclusive; drivers 1 Dana, 2 Drew, whose number is not verified, and 3 Dee.
--
-- Row n of a table is 0e000000-TTTT-7000-8000-OOOOOOOOOOnn, O the letter, TTTT one of
-- 0001 zones, 0002 merchants, 0003 perks, 0004 drivers, 0005 intents,
-- 0006 exclusive_sessions, 0007 visits, 0008 claim_links, 0009 users. With history,
-- Dana has an active session at Asada, Dee a completed one with a visit, and Coffee a
-- link to claim place 4.
CREATE FUNCTION pg_temp.m_id(kind text, o text, n integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN ('0e000000-' || lpad(kind, 4, '0') || '-7000-8000-' || repeat(o, 10) || lpad(n::text, 2, '0'))::uuid;

CREATE FUNCTION pg_temp.merchant_places() RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO merchant.chargers (id, name, lat, lng)
	VALUES ('ch:1', 'First Street', 30.2672, -97.7431), ('ch:2', 'Second Street', 30.3000, -97.7431);
	INSERT INTO merchant.places (id, name, lat, lng, city)
	VALUES ('pl:1', 'Asada', 30.2680, -97.7431, 'Austin'), ('pl:2', 'Bagels', 30.2690, -97.7440, 'Austin'),
		('pl:3', 'Coffee', 30.3001, -97.7431, 'Austin'), ('pl:4', 'Donuts', 30.3002, -97.7431, 'Austin');
	INSERT INTO merchant.charger_places (charger_id, place_id) VALUES ('ch:1', 'pl:1'), ('ch:1', 'pl:2'), ('ch:2', 'pl:3');
$$;

CREATE FUNCTION pg_temp.merchant_rows(org uuid, o text, history boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM ringfence.set_context(org);
	INSERT INTO merchant.zones (org_id, id, tag, name, lat, lng, radius_m)
	VALUES (org, pg_temp.m_id('1', o, 1), 'TST', 'Test City', 30.27, -97.74, 20000);
	INSERT INTO merchant.merchants (org_id, id, zone_id, name, tag)
	SELECT org, pg_temp.m_id('2', o, n), pg_temp.m_id('1', o, 1), name, upper(name)
	FROM (VALUES (1, 'Asada'), (2, 'Bagels'), (3, 'Coffee')) AS m (n, name);
	INSERT INTO merchant.claims (org_id, place_id, merchant_id)
	SELECT org, 'pl:' || n, pg_temp.m_id('2', o, n) FROM generate_series(1, 3) AS n;
	INSERT INTO merchant.perks (org_id, id, merchant_id, title, exclusive, active, reward_nova, price_nova)
	SELECT org, pg_temp.m_id('3', o, n), pg_temp.m_id('2', o, seller), title, exclusive, active, reward, price
	FROM (VALUES (1, 1, 'Taco', true, true, 25, 10), (2, 1, 'Salsa', false, true, 0, 0), (3, 2, 'Bagel', true, true, 0, 0),
		(4, 1, 'Churro', true, false, 5, 0), (5, 3, 'Espresso', true, true, 0, 0))
		AS p (n, seller, title, exclusive, active, reward, price);
	INSERT INTO merchant.drivers (org_id, id, name, phone, phone_verified_at)
	SELECT org, pg_temp.m_id('4', o, n), name, '+1512555010' || n, CASE WHEN n <> 2 THEN now() END
	FROM (VALUES (1, 'Dana'), (2, 'Drew'), (3, 'Dee')) AS d (n, name);
	IF NOT history THEN
		RETURN;
	END IF;
	INSERT INTO merchant.favorites (org_id, driver_id, merchant_id)
	VALUES (org, pg_temp.m_id('4', o, 1), pg_temp.m_id('2', o, 2));
	INSERT INTO merchant.intents (org_id, id, driver_id, lat, lng, charger_id, charger_distance_m, tier)
	SELECT org, pg_temp.m_id('5', o, n), pg_temp.m_id('4', o, n), 30.2672, -97.7431, 'ch:1', 0, 'A'
	FROM unnest(ARRAY[1, 3]) AS n;
	INSERT INTO merchant.exclusive_sessions (org_id, id, driver_id, merchant_id, perk_id, intent_id, charger_id, state,
		reward_nova, price_nova, activated_at, expires_at, redeem_until, ended_at)
	SELECT org, pg_temp.m_id('6', o, n), pg_temp.m_id('4', o, n), pg_temp.m_id('2', o, 1), pg_temp.m_id('3', o, 1),
		pg_temp.m_id('5', o, n), 'ch:1', state, 0, 0, now(), now() + interval '1 hour', now() + interval '90 minutes',
		CASE WHEN state <> 'ACTIVE' THEN now() END
	FROM (VALUES (1, 'ACTIVE'), (3, 'COMPLETED')) AS s (n, state);
	INSERT INTO merchant.visits (org_id, id, session_id, driver_id, merchant_id, expires_at)
	VALUES (org, pg_temp.m_id('7', o, 3), pg_temp.m_id('6', o, 3), pg_temp.m_id('4', o, 3), pg_temp.m_id('2', o, 1),
		now() + interval '1 hour');
	INSERT INTO merchant.visit_codes (org_id, visit_id, driver_id, code)
	VALUES (org, pg_temp.m_id('7', o, 3), pg_temp.m_id('4', o, 3), 'TST-ASADA-00000000000' || upper(o));
	INSERT INTO merchant.redemption_attempts (org_id, merchant_id, failures) VALUES (org, pg_temp.m_id('2', o, 1), 1);
	INSERT INTO merchant.claim_links (org_id, id, place_id, merchant_id, email, token_hash)
	VALUES (org, pg_temp.m_id('8', o, 1), 'pl:4', pg_temp.m_id('2', o, 3), 'coffee@' || o || '.example', sha256(convert_to(o, 'UTF8')));
END
$$;

-- Two operators, whose first letters are a and b, each with an owner, an admin, an
-- accountant, a member of no role, drivers Dana and Drew, and merchant Asada.
CREATE FUNCTION pg_temp.volt() RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	o text;
	org uuid;
BEGIN
	PERFORM pg_temp.merchant_places();
	FOREACH o IN ARRAY ARRAY['a', 'b'] LOOP
		org := pg_temp.m_id('0', o, 0);
		INSERT INTO ringfence_data.orgs (id, name) VALUES (org, CASE o WHEN 'a' THEN 'Volt Austin' ELSE 'Volt Dallas' END);
		INSERT INTO ringfence_data.users (id, email)
		SELECT pg_temp.m_id('9', o, n), 'user' || n || '@' || o || '.example' FROM generate_series(1, 8) AS n;
		INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party)
		SELECT org, pg_temp.m_id('9', o, n), ARRAY[role], CASE
				WHEN kind IS NULL THEN '{}'
				ELSE jsonb_build_object(role, pg_temp.m_id(kind, o, party)) END
		FROM (VALUES (1, 'owner', NULL, NULL), (2, 'admin', NULL, NULL), (3, 'accountant', NULL, NULL), (4, 'guest', NULL, NULL),
			(5, 'driver', '4', 1), (6, 'driver', '4', 2), (7, 'driver', '4', 3), (8, 'merchant', '2', 1))
			AS m (n, role, kind, party);
		PERFORM pg_temp.merchant_rows(org, o);
	END LOOP;
END
$$;

-- From here on a member with that role and no other: driver or merchant n.
CREATE FUNCTION pg_temp.act(role text, n integer DEFAULT 1, o text DEFAULT 'a') RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	PERFORM ringfence.set_context(pg_temp.m_id('0', o, 0),
		pg_temp.m_id('9', o, CASE role WHEN 'owner' THEN 1 WHEN 'admin' THEN 2 WHEN 'accountant' THEN 3 WHEN 'driver' THEN 4 + n
			WHEN 'merchant' THEN 8 ELSE 4 END),
		ARRAY[role], CASE WHEN role IN ('driver', 'merchant')
			THEN jsonb_build_object(role, pg_temp.m_id(CASE role WHEN 'driver' THEN '4' ELSE '2' END, o, n)) ELSE '{}' END);
	SET LOCAL ROLE ringfence_member;
END
$$;

-- What activates a perk from where charger 1 is.
CREATE FUNCTION pg_temp.activate(perk uuid) RETURNS text
LANGUAGE sql AS $$
	SELECT format('SELECT merchant_v1.activate_exclusive(%L, (SELECT id FROM merchant_v1.capture_intent(30.2672, -97.7431)))', perk)
$$;
