-- Demo data of the merchant app. Run by a superuser after install('merchant'):
--
--   psql -v scale=1 -f apps/merchant/demo.sql
--
-- Two operators with twelve merchants and twenty drivers each; scale=N makes N
-- thousand places around them. Everything follows from the numbers below; nothing is
-- random. A second run does nothing.
--
-- Organizations, and o, which stands for them in every other key:
--
--   Juniper Charge   0d9f6c2e-0000-7000-8000-00000000000a   o = 0000a   zone ATX, Austin
--   Kestrel Charge   0d9f6c2e-0000-7000-8000-00000000000b   o = 0000b   zone DFW, Dallas
--
-- Row n of a table in organization o is 0d9f6c2e-TTTT-7000-8000-OOOOONNNNNNN,
-- o and n in hexadecimal, TTTT one of
--
--   0001 users   0002 zones   0003 merchants   0004 perks   0005 drivers
--
-- Users 1 to 5 of an organization are its owner, admin, two drivers and a merchant,
-- whose parties are drivers 1 and 2 and merchant 1. Merchant n has place demo:ATX:n
-- (demo:DFW:n), beside charger demo:ATX:1 for n up to 6, demo:ATX:2 beyond. Perk 2n - 1
-- is its exclusive, with a reward of 20 + n and a price of n, perk 2n another perk.
-- Drivers have a verified number but every fifth.

\set ON_ERROR_STOP on
\if :{?scale}
\elif :{?SCALE}
	\set scale :SCALE
\else
	\set scale 1
\endif

SELECT EXISTS (SELECT FROM ringfence_data.orgs WHERE id = '0d9f6c2e-0000-7000-8000-00000000000a') AS loaded \gset
\if :loaded
	\echo 'merchant: the demo data is there already'
\else

BEGIN;
SET LOCAL synchronous_commit = off;
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.demo_id(kind integer, o integer, n bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT
RETURN ('0d9f6c2e-' || lpad(to_hex(kind), 4, '0') || '-7000-8000-' || lpad(to_hex(o), 5, '0')
	|| lpad(to_hex(n), 7, '0'))::uuid;

CREATE TEMPORARY TABLE demo_orgs ON COMMIT DROP AS
SELECT o, ('0d9f6c2e-0000-7000-8000-' || lpad(to_hex(o), 12, '0'))::uuid AS org_id, name, tag, city, lat, lng
FROM (VALUES
	(10, 'Juniper Charge', 'ATX', 'Austin', 30.2672, -97.7431),
	(11, 'Kestrel Charge', 'DFW', 'Dallas', 32.7767, -96.7970)) AS d (o, name, tag, city, lat, lng);

INSERT INTO merchant.chargers (id, name, lat, lng, source)
SELECT 'demo:' || d.tag || ':' || n, d.city || ' charger ' || n, d.lat + (n - 1) * 0.01, d.lng, 'demo'
FROM demo_orgs AS d CROSS JOIN generate_series(1, 2) AS n;

-- A spiral of places, a thousand times the scale in all.
INSERT INTO merchant.places (id, name, lat, lng, city, fetched_at)
SELECT 'demo:' || d.tag || ':' || n,
	(ARRAY['Asada', 'Bagels', 'Coffee', 'Donuts', 'Empanadas', 'Falafel', 'Gelato', 'Hummus', 'Injera', 'Juice', 'Kebab',
		'Laksa'])[1 + (n - 1) % 12] || CASE WHEN n > 12 THEN ' ' || n ELSE '' END,
	CASE WHEN n <= 12 THEN d.lat + (n - 1) / 6 * 0.01 + (n - 1) % 6 * 0.0004 ELSE d.lat + 0.0006 * sqrt(n) * sin(n * 2.39996) END,
	CASE WHEN n <= 12 THEN d.lng + (n - 1) % 6 * 0.0003 ELSE d.lng + 0.0007 * sqrt(n) * cos(n * 2.39996) END,
	d.city, now()
FROM demo_orgs AS d CROSS JOIN generate_series(1, greatest(12, :scale * 500)) AS n;
INSERT INTO merchant.charger_places (charger_id, place_id)
SELECT 'demo:' || d.tag || ':' || 1 + (n - 1) / 6, 'demo:' || d.tag || ':' || n
FROM demo_orgs AS d CROSS JOIN generate_series(1, 12) AS n;

INSERT INTO ringfence_data.orgs (id, name, status) SELECT org_id, name, 'active' FROM demo_orgs ORDER BY o;
INSERT INTO ringfence_data.users (id, email, name)
SELECT pg_temp.demo_id(1, d.o, u.n), u.who || '@' || lower(replace(d.name, ' ', '-')) || '.example', d.name || ' ' || u.who
FROM demo_orgs AS d
CROSS JOIN (VALUES (1, 'owner'), (2, 'admin'), (3, 'driver1'), (4, 'driver2'), (5, 'merchant1')) AS u (n, who)
ORDER BY d.o, u.n;
INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party)
SELECT d.org_id, pg_temp.demo_id(1, d.o, u.n), ARRAY[u.role],
	CASE WHEN u.kind IS NULL THEN '{}' ELSE jsonb_build_object(u.role, pg_temp.demo_id(u.kind, d.o, u.party)) END
FROM demo_orgs AS d
CROSS JOIN (VALUES (1, 'owner', NULL, NULL), (2, 'admin', NULL, NULL), (3, 'driver', 5, 1), (4, 'driver', 5, 2),
	(5, 'merchant', 3, 1)) AS u (n, role, kind, party);

-- Wallets and budgets are opened in the organization of the context.
CREATE FUNCTION pg_temp.demo_org(org uuid, o integer, tag text, city text, lat double precision, lng double precision) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM ringfence.set_context(org, pg_temp.demo_id(1, o, 1), '{owner}');
	INSERT INTO merchant.zones (org_id, id, tag, name, lat, lng, radius_m)
	VALUES (org, pg_temp.demo_id(2, o, 1), demo_org.tag, city, demo_org.lat, demo_org.lng, 20000);
	INSERT INTO merchant.merchants (org_id, id, zone_id, name, tag)
	SELECT org, pg_temp.demo_id(3, o, n), pg_temp.demo_id(2, o, 1), p.name, upper(left(p.name, 12))
	FROM generate_series(1, 12) AS n
	INNER JOIN merchant.places AS p ON p.id = 'demo:' || demo_org.tag || ':' || n;
	INSERT INTO merchant.claims (org_id, place_id, merchant_id)
	SELECT org, 'demo:' || demo_org.tag || ':' || n, pg_temp.demo_id(3, o, n) FROM generate_series(1, 12) AS n;
	INSERT INTO merchant.perks (org_id, id, merchant_id, title, exclusive, reward_nova, price_nova)
	SELECT org, pg_temp.demo_id(4, o, 2 * n - x), pg_temp.demo_id(3, o, n), CASE x WHEN 1 THEN 'While you charge' ELSE 'Any time' END,
		x = 1, x * (20 + n), x * n
	FROM generate_series(1, 12) AS n CROSS JOIN generate_series(0, 1) AS x;
	INSERT INTO merchant.drivers (org_id, id, name, phone, phone_verified_at)
	SELECT org, pg_temp.demo_id(5, o, n),
		(ARRAY['Dana', 'Drew', 'Devi', 'Dmitri', 'Dora'])[1 + (n - 1) % 5] || ' ' || (ARRAY['Abbott', 'Baker', 'Chen', 'Dubois'])[1 + (n - 1) / 5],
		'+1555' || lpad((o * 1000 + n)::text, 7, '0'), CASE WHEN n % 5 <> 0 THEN now() END
	FROM generate_series(1, 20) AS n;
	PERFORM merchant_v1.topup_merchant(pg_temp.demo_id(3, o, n), 1000, 'demo-' || n) FROM generate_series(1, 12) AS n;
END
$$;
SELECT pg_temp.demo_org(org_id, o, tag, city, lat, lng) FROM demo_orgs ORDER BY o \g /dev/null

DROP FUNCTION pg_temp.demo_org(uuid, integer, text, text, double precision, double precision), pg_temp.demo_id(integer, integer, bigint);
COMMIT;

ANALYZE merchant.places, merchant.chargers, merchant.merchants, merchant.perks, merchant.drivers;
SELECT count(*) AS places FROM merchant.places \gset
\echo 'merchant: 2 operators,' :places 'places'
\endif
