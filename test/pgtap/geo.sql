-- Distances on the earth, and boxes that hold all that is near: exact where the
-- numbers can be known, at the poles and at the 180th meridian as anywhere else.
BEGIN;
SELECT plan(22);

-- A degree of a great circle is pi * 6371008.8 / 180 = 111195.08 m.
SELECT is(round(ringfence.distance_m(0, 0, 1, 0)::numeric, 2), 111195.08, 'a degree of latitude');
SELECT is(round(ringfence.distance_m(0, 0, 0, 1)::numeric, 2), 111195.08, 'a degree of longitude at the equator');
SELECT is(round(ringfence.distance_m(60, 0, 60, 0.001)::numeric, 2), 55.60, 'is half as long at 60 degrees');
SELECT is(ringfence.distance_m(30, -97, 30, -97), 0::double precision, 'it is not far to where one is');
SELECT is(ringfence.distance_m(1, 2, 3, 4), ringfence.distance_m(3, 4, 1, 2), 'there is as far as back');
SELECT is(round(ringfence.distance_m(0, 0, 0, 180)::numeric), 20015114::numeric, 'to the other side it is half the way round');
SELECT is(round(ringfence.distance_m(90, 0, -90, 77)::numeric), 20015114::numeric, 'from pole to pole as well');
SELECT is(round(ringfence.distance_m(10, 179.5, 10, -179.5)::numeric), round(ringfence.distance_m(10, 0, 10, 1)::numeric),
	'the 180th meridian is no border');
SELECT is(round(ringfence.distance_m(89.9, 0, 89.9, 180)::numeric), 22239::numeric, 'nor is the pole');
-- Paris, Notre-Dame, to London, St Paul's.
SELECT is(round(ringfence.distance_m(48.8530, 2.3499, 51.5138, -0.0984)::numeric, -3), 343000::numeric, 'Paris is 343 km from London');
SELECT is(ringfence.distance_m('NaN', 0, 0, 0), 'NaN'::double precision, 'what is no number is no distance');
SELECT is(ringfence.distance_m(0, 'Infinity', 0, 0), 'NaN'::double precision, 'nor is what is infinite, and neither is an error');

SELECT is(cardinality(ringfence.boxes_around(30, -97, 1000)), 1, 'one box is enough');
SELECT is(cardinality(ringfence.boxes_around(30, 179.999, 1000)), 2, 'beside the 180th meridian it takes two');
SELECT is(cardinality(ringfence.boxes_around(30, -179.999, 1000)), 2, 'from either side');
SELECT is((ringfence.boxes_around(89.999, 50, 1000))[1] ~= box(point(180, 90), point(-180, 89.990007)), true,
	'around a pole all longitudes are near');
SELECT throws_ok('SELECT ringfence.boxes_around(90.1, 0, 1)', '22023', 'invalid position', 'there is no latitude beyond the pole');
SELECT throws_ok('SELECT ringfence.boxes_around(0, ''NaN'', 1)', '22023', 'invalid position', 'a longitude is a number');
SELECT throws_ok('SELECT ringfence.boxes_around(0, 0, -1)', '22023', 'invalid radius', 'a radius is not negative');

-- What is within the radius is in a box; what is far outside of it is in none.
CREATE TEMPORARY TABLE centres AS
SELECT lat, lng, radius
	FROM unnest(ARRAY[0, 30, -45, 60, 85, -89.99, 90]) AS lat, unnest(ARRAY[0, -97.7, 179.99, -180]) AS lng,
		unnest(ARRAY[10, 1000, 50000]) AS radius;
CREATE TEMPORARY TABLE around AS
SELECT c.lat AS lat0, c.lng AS lng0, c.radius, p.lat, p.lng, ringfence.distance_m(c.lat, c.lng, p.lat, p.lng) AS distance,
		EXISTS (SELECT FROM unnest(ringfence.boxes_around(c.lat, c.lng, c.radius)) AS b (box) WHERE point(p.lng, p.lat) <@ b.box) AS held
	FROM centres AS c
		CROSS JOIN generate_series(0, 355, 5) AS bearing
		CROSS JOIN unnest(ARRAY[0.5, 0.999, 3]) AS share
		CROSS JOIN LATERAL (SELECT radians(c.lat) AS phi, c.radius * share / 6371008.8 AS delta, radians(bearing) AS theta) AS a
		CROSS JOIN LATERAL (SELECT asin(least(1, greatest(-1, sin(phi) * cos(delta) + cos(phi) * sin(delta) * cos(theta)))) AS phi2) AS b
		CROSS JOIN LATERAL (SELECT degrees(phi2) AS lat,
				c.lng + degrees(atan2(sin(theta) * sin(delta) * cos(phi), cos(delta) - sin(phi) * sin(phi2))) AS lng_wide) AS w
		CROSS JOIN LATERAL (SELECT w.lat,
				CASE WHEN lng_wide > 180 THEN lng_wide - 360 WHEN lng_wide < -180 THEN lng_wide + 360 ELSE lng_wide END AS lng) AS p;
SELECT cmp_ok((SELECT count(*) FROM around WHERE distance <= radius), '>', 11000::bigint, 'thousands of points are within the radius');
SELECT is_empty('SELECT lat0, lng0, radius, lat, lng FROM around WHERE distance <= radius AND NOT held', 'and every one in a box');
SELECT is((SELECT count(*) FROM around WHERE held AND distance > 2.9 * radius AND abs(lat0) < 80), 0::bigint,
	'what is three times as far is in none');

SELECT * FROM finish();
ROLLBACK;
