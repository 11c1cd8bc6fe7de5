-- What is near: the nearest places in their true order, whatever the radius, with
-- what merchants offer there; and the charger that makes a tier.
BEGIN;
SELECT plan(44);
\ir include/merchant.sql
SELECT pg_temp.volt() \g /dev/null

SELECT pg_temp.act('driver');
SELECT results_eq('SELECT place_id, name, round(distance_m::numeric), merchant_id, stale FROM merchant_v1.nearby(30.2672, -97.7431)',
	format($$VALUES ('pl:1', 'Asada', 89::numeric, %L::uuid, false), ('pl:2', 'Bagels', 218, %L, false)$$,
		pg_temp.m_id('2', 'a', 1), pg_temp.m_id('2', 'a', 2)),
	'a driver finds the places around, the nearest first');
SELECT is((SELECT exclusives FROM merchant_v1.nearby(30.2672, -97.7431) LIMIT 1),
	jsonb_build_array(jsonb_build_object('perk_id', pg_temp.m_id('3', 'a', 1), 'title', 'Taco', 'reward_nova', 25, 'price_nova', 10)),
	'with the exclusives that can be had there, and no other perk');
SELECT results_eq('SELECT place_id, merchant_id, exclusives FROM merchant_v1.nearby(30.3002, -97.7431, 5)',
	$$VALUES ('pl:4', NULL::uuid, '[]'::jsonb)$$, 'a place without a merchant is a place');
SELECT is((SELECT array_agg(place_id) FROM merchant_v1.nearby(30.2672, -97.7431, 100)), '{pl:1}', 'the radius is a radius');
SELECT is((SELECT array_agg(place_id) FROM merchant_v1.nearby(30.2672, -97.7431, 50000, 3)), '{pl:1,pl:2,pl:3}', 'and the number a number');
SELECT is((SELECT count(*) FROM merchant_v1.nearby(0, 0)), 0::bigint, 'elsewhere there is nothing');
SELECT throws_ok('SELECT merchant_v1.nearby(0, 0, 50001)', '22023', 'invalid search', 'a radius beyond 50 km is refused');
SELECT throws_ok('SELECT merchant_v1.nearby(0, 0, -1)', '22023', 'invalid search', 'so is a negative one');
SELECT throws_ok('SELECT merchant_v1.nearby(0, 0, 1, 101)', '22023', 'invalid search', 'more than 100 places');
SELECT throws_ok('SELECT merchant_v1.nearby(0, 0, 1, 0)', '22023', 'invalid search', 'none');
SELECT throws_ok('SELECT merchant_v1.nearby(NULL, 0)', '22023', 'invalid search', 'nowhere');
SELECT throws_ok('SELECT merchant_v1.nearby(91, 0)', '22023', 'invalid search', 'and no place on earth');
SELECT pg_temp.act('merchant', 2);
SELECT is((SELECT array_agg(merchant_id ORDER BY place_id) FROM merchant_v1.nearby(30.2672, -97.7431)),
	ARRAY[NULL, pg_temp.m_id('2', 'a', 2)], 'a merchant finds the same places, and of merchants itself');
SELECT pg_temp.act('driver', 1, 'b');
SELECT is((SELECT array_agg(merchant_id ORDER BY place_id) FROM merchant_v1.nearby(30.2672, -97.7431)),
	ARRAY[pg_temp.m_id('2', 'b', 1), pg_temp.m_id('2', 'b', 2)], 'the same places are other merchants'' for another operator');
SELECT pg_temp.act('owner');
SELECT is((SELECT paused FROM merchant_v1.pause_merchant(pg_temp.m_id('2', 'a', 1), 'test')), true, 'a merchant is paused');
SELECT pg_temp.act('driver');
SELECT is((SELECT exclusives FROM merchant_v1.nearby(30.2672, -97.7431) LIMIT 1), '[]'::jsonb, 'and offers nothing');
RESET ROLE;
UPDATE merchant.places SET active = false WHERE id = 'pl:1';
UPDATE merchant.places SET fetched_at = now() - interval '61 minutes' WHERE id = 'pl:2';
SELECT pg_temp.act('driver');
SELECT results_eq('SELECT place_id, stale FROM merchant_v1.nearby(30.2672, -97.7431)', $$VALUES ('pl:2', true)$$,
	'a place that is gone is not found, one not asked for in an hour is stale');
RESET ROLE;

-- A thousand places around, and at places where a longitude is short, or ends.
INSERT INTO merchant.places (id, name, lat, lng)
SELECT format('%s:%s', c.n, g), 'x', c.lat + 0.02 * sin(g * 1.7) * (g % 97) / 97,
		CASE WHEN x.lng > 180 THEN x.lng - 360 WHEN x.lng < -180 THEN x.lng + 360 ELSE x.lng END
	FROM (VALUES (1, 30.5, -97.0), (2, 69.6, 18.9), (3, -16.8, 179.99), (4, 52.0, -180.0)) AS c (n, lat, lng)
		CROSS JOIN generate_series(1, 1000) AS g
		CROSS JOIN LATERAL (SELECT c.lng + 0.05 * cos(g * 2.3) * (g % 89) / 89 AS lng) AS x;
CREATE FUNCTION pg_temp.truly(lat0 double precision, lng0 double precision, radius double precision, most integer) RETURNS text[]
LANGUAGE sql AS $$
	SELECT array_agg(n.id ORDER BY n.d, n.id)
		FROM (
			SELECT p.id, ringfence.distance_m(lat0, lng0, p.lat, p.lng) AS d
				FROM merchant.places AS p
				WHERE p.active AND ringfence.distance_m(lat0, lng0, p.lat, p.lng) <= radius
				ORDER BY d, p.id LIMIT most) AS n
$$;
CREATE FUNCTION pg_temp.nearest(lat0 double precision, lng0 double precision, radius double precision, most integer) RETURNS text[]
LANGUAGE sql AS $$
	SELECT array_agg(n.place_id ORDER BY n.distance_m, n.place_id) FROM merchant_v1.nearby(lat0, lng0, radius, most) AS n
$$;
SELECT is(pg_temp.nearest(lat, lng, radius, most), pg_temp.truly(lat, lng, radius, most),
		format('%s, %s: the first %s of %s within %s m are those of a search through all', lat, lng, most,
			(SELECT count(*) FROM merchant.places AS p WHERE ringfence.distance_m(lat, lng, p.lat, p.lng) <= radius), radius))
	FROM (VALUES (30.501, -97.001, 300, 20), (30.501, -97.001, 50000, 20), (30.501, -97.001, 3000, 100), (30.6, -96.0, 50000, 5),
		(69.601, 18.901, 500, 20), (69.601, 18.901, 50000, 20), (69.61, 18.8, 50000, 100),
		(-16.801, 179.999, 2000, 20), (-16.801, -179.995, 50000, 20), (52.001, 180, 50000, 20), (52.001, -179.99, 1000, 20))
		AS s (lat, lng, radius, most);
SELECT ok(cardinality(pg_temp.nearest(-16.801, 179.999, 2000, 100)) > 5, 'there are some on both sides of the 180th meridian');

-- GET is read-only.
SAVEPOINT s;
SELECT pg_temp.act('driver');
SET TRANSACTION READ ONLY;
SELECT is((SELECT count(*) FROM merchant_v1.nearby(30.2672, -97.7431, 300)), 1::bigint, 'nearby() reads only');
SELECT is((SELECT count(*) FROM merchant_v1.active_exclusive()), 0::bigint, 'so does active_exclusive()');
SELECT lives_ok(format('SELECT count(*) FROM merchant_v1.%I', v.name), format('and view %s', v.name))
	FROM unnest(ARRAY['wallet', 'activity', 'analytics', 'overview', 'exclusives', 'nova']) AS v (name);
ROLLBACK TO s;

-- Tiers: nearer than 120 m is A, nearer than 400 B, the rest C.
SELECT is(merchant.tier(d, 120, 400), t, format('%s m from a charger is tier %s', coalesce(d::text, 'any'), t))
	FROM (VALUES (0, 'A'), (119.999, 'A'), (120, 'B'), (399.999, 'B'), (400, 'C'), (1e6, 'C'), (NULL, 'C')) AS x (d, t);

SELECT * FROM finish();
ROLLBACK;
