-- What is near: places, and the charger that makes a tier.

CREATE TYPE merchant_v1.near_place AS (
	place_id text,
	name text,
	lat double precision,
	lng double precision,
	distance_m double precision,
	stale boolean,
	merchant_id uuid,
	exclusives jsonb
);
COMMENT ON TYPE merchant_v1.near_place IS 'a place found by nearby()';
COMMENT ON COLUMN merchant_v1.near_place.place_id IS 'the place';
COMMENT ON COLUMN merchant_v1.near_place.name IS 'name of the place';
COMMENT ON COLUMN merchant_v1.near_place.lat IS 'latitude, degrees';
COMMENT ON COLUMN merchant_v1.near_place.lng IS 'longitude, degrees';
COMMENT ON COLUMN merchant_v1.near_place.distance_m IS 'how far it is, meters';
COMMENT ON COLUMN merchant_v1.near_place.stale IS 'whether it is longer ago than the setting place_minutes that the maps service was asked';
COMMENT ON COLUMN merchant_v1.near_place.merchant_id IS 'the merchant whose place it is, if it is one''s';
COMMENT ON COLUMN merchant_v1.near_place.exclusives IS 'what that merchant offers now: [{"perk_id", "title", "reward_nova", "price_nova"}, ...]; an empty array if nothing, or while it is paused';

-- The nearest in degrees are not the nearest in meters; but as many places as are
-- wanted lie within the distance that their true order gives, so that no more than
-- that has to be searched, however large the radius. The number is a constant for
-- the planner, which would take an unknown one for a tenth of the table.
CREATE FUNCTION merchant_v1.nearby(
	lat double precision,
	lng double precision,
	radius_m double precision DEFAULT 1000,
	max_places integer DEFAULT 20
) RETURNS SETOF merchant_v1.near_place
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 20
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (nearby.lat BETWEEN -90 AND 90 AND nearby.lng BETWEEN -180 AND 180
		AND radius_m BETWEEN 0 AND 50000 AND max_places BETWEEN 1 AND 100) IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid search'
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'It takes a position, a radius of 0 to 50000 meters, and 1 to 100 places.';
	END IF;
	RETURN QUERY
	WITH reach AS MATERIALIZED (
		SELECT CASE
			WHEN count(*) < nearby.max_places THEN nearby.radius_m
			ELSE least(nearby.radius_m, (array_agg(k.distance_m ORDER BY k.distance_m))[nearby.max_places])
		END AS distance_m
		FROM (
			SELECT ringfence.distance_m(nearby.lat, nearby.lng, p.lat, p.lng) AS distance_m
			FROM merchant.places AS p
			WHERE p.active
			ORDER BY point(p.lng, p.lat) <-> point(nearby.lng, nearby.lat)
			LIMIT 100
		) AS k
	), found AS MATERIALIZED (
		SELECT c.id, c.name, c.lat, c.lng, c.fetched_at, c.distance_m
		FROM (
			SELECT p.id, p.name, p.lat, p.lng, p.fetched_at,
				ringfence.distance_m(nearby.lat, nearby.lng, p.lat, p.lng) AS distance_m,
				r.distance_m AS reach_m
			FROM reach AS r
			CROSS JOIN unnest(ringfence.boxes_around(nearby.lat, nearby.lng, r.distance_m)) AS b (box)
			INNER JOIN merchant.places AS p ON point(p.lng, p.lat) <@ b.box
			WHERE p.active
		) AS c
		WHERE c.distance_m <= c.reach_m
		ORDER BY c.distance_m, c.id
		LIMIT nearby.max_places
	)
	SELECT f.id, f.name, f.lat, f.lng, f.distance_m,
		f.fetched_at < now() - make_interval(mins => s.place_minutes),
		m.id,
		coalesce((
			SELECT jsonb_agg(jsonb_build_object('perk_id', e.id, 'title', e.title,
				'reward_nova', e.reward_nova, 'price_nova', e.price_nova) ORDER BY e.id)
			FROM merchant.perks AS e
			WHERE e.org_id = m.org_id AND e.merchant_id = m.id AND e.exclusive AND e.active AND NOT m.paused
		), '[]')
	FROM found AS f
	LEFT JOIN merchant.settings AS s ON s.org_id = ringfence.org_id()
	LEFT JOIN merchant.claims AS c ON c.org_id = ringfence.org_id() AND c.place_id = f.id
	LEFT JOIN merchant.merchants AS m ON m.org_id = c.org_id AND m.id = c.merchant_id
	ORDER BY f.distance_m, f.id;
END
$$;
REVOKE EXECUTE ON FUNCTION
	merchant_v1.nearby(double precision, double precision, double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	merchant_v1.nearby(double precision, double precision, double precision, integer) TO ringfence_member;
COMMENT ON FUNCTION
	merchant_v1.nearby(double precision, double precision, double precision, integer) IS 'Places around a position
By everybody; GET will do. The nearest first, with the merchant and the exclusives of each that the caller may see. radius_m is at most 50000, max_places 100. 400 for what is no position, radius or number.';

CREATE TYPE merchant_v1.captured_intent AS (
	id uuid,
	tier text,
	charger_id text,
	charger_distance_m double precision,
	expires_at timestamptz,
	nearby jsonb
);
COMMENT ON TYPE merchant_v1.captured_intent IS 'what capture_intent() answers';
COMMENT ON COLUMN merchant_v1.captured_intent.id IS 'the intent, for activate_exclusive()';
COMMENT ON COLUMN merchant_v1.captured_intent.tier IS 'A, B or C: how near a charger is, by the settings';
COMMENT ON COLUMN merchant_v1.captured_intent.charger_id IS 'the nearest charger; null if there is none near';
COMMENT ON COLUMN merchant_v1.captured_intent.charger_distance_m IS 'how far it is, meters';
COMMENT ON COLUMN merchant_v1.captured_intent.expires_at IS 'until when the intent can be used';
COMMENT ON COLUMN merchant_v1.captured_intent.nearby IS 'what nearby() finds there, as an array';

CREATE FUNCTION merchant.require_driver() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.has_role('driver') OR ringfence.party_id('driver') IS NULL THEN
		RAISE EXCEPTION 'only a driver may do this' USING ERRCODE = 'insufficient_privilege';
	END IF;
	RETURN ringfence.party_id('driver');
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.require_driver() FROM PUBLIC;
COMMENT ON FUNCTION merchant.require_driver() IS
	'the driver who calls; 42501 if it is none; for ringfence_owner''s functions';

-- With the owner's rights, for the tier is not the driver's to write.
CREATE FUNCTION merchant_v1.capture_intent(
	lat double precision,
	lng double precision
) RETURNS merchant_v1.captured_intent
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	driver CONSTANT uuid := merchant.require_driver();
	rules record;
	charger record;
	answer merchant_v1.captured_intent;
BEGIN
	SELECT s.tier_a_m, s.tier_b_m, s.intent_minutes INTO rules
	FROM merchant.settings AS s
	WHERE s.org_id = org;
	IF NOT FOUND OR NOT EXISTS (SELECT FROM merchant.drivers AS d WHERE d.org_id = org AND d.id = driver) THEN
		RAISE EXCEPTION 'driver not found' USING ERRCODE = 'PT404';
	END IF;
	answer.nearby := (
		SELECT coalesce(jsonb_agg(to_jsonb(n.*) ORDER BY n.distance_m, n.place_id), '[]')
		FROM merchant_v1.nearby(capture_intent.lat, capture_intent.lng) AS n
	);
	SELECT c.id, c.distance_m INTO charger
	FROM (
		SELECT r.id, ringfence.distance_m(capture_intent.lat, capture_intent.lng, r.lat, r.lng) AS distance_m
		FROM unnest(ringfence.boxes_around(capture_intent.lat, capture_intent.lng, rules.tier_b_m)) AS b (box)
		INNER JOIN merchant.chargers AS r ON point(r.lng, r.lat) <@ b.box
		WHERE r.active
	) AS c
	WHERE c.distance_m < rules.tier_b_m
	ORDER BY c.distance_m, c.id
	LIMIT 1;
	answer.tier := merchant.tier(charger.distance_m, rules.tier_a_m, rules.tier_b_m);
	answer.charger_id := charger.id;
	answer.charger_distance_m := charger.distance_m;
	answer.expires_at := now() + make_interval(mins => rules.intent_minutes);
	INSERT INTO merchant.intents AS i (org_id, driver_id, lat, lng, charger_id, charger_distance_m, tier)
	VALUES (org, driver, capture_intent.lat, capture_intent.lng, answer.charger_id, answer.charger_distance_m, answer.tier)
	RETURNING i.id INTO answer.id;
	RETURN answer;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.capture_intent(double precision, double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.capture_intent(double precision, double precision) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.capture_intent(double precision, double precision) IS 'Say where one is
By drivers. Remembers the position, and answers with its tier, the charger that makes it, and what is near. 403 not a driver; 400 for what is no position.';
