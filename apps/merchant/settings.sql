-- What an operator decides: where it works, and by which numbers.

CREATE TABLE merchant.zones (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	tag text COLLATE "C" NOT NULL,
	name text NOT NULL,
	lat double precision NOT NULL,
	lng double precision NOT NULL,
	radius_m integer NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT zones_tag_key UNIQUE (org_id, tag),
	CONSTRAINT zones_tag_check CHECK (tag ~ '^[A-Z0-9]{2,8}$'),
	CONSTRAINT zones_name_check CHECK (length(name) BETWEEN 1 AND 200),
	CONSTRAINT zones_lat_check CHECK (lat BETWEEN -90 AND 90),
	CONSTRAINT zones_lng_check CHECK (lng BETWEEN -180 AND 180),
	CONSTRAINT zones_radius_m_check CHECK (radius_m BETWEEN 1 AND 1000000)
);

COMMENT ON TABLE merchant.zones IS 'Zones in which the operator works; a merchant is in one.';
COMMENT ON COLUMN merchant.zones.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.zones.id IS 'key within the organization';
COMMENT ON COLUMN merchant.zones.tag IS 'what redemption codes begin with: 2 to 8 capital letters and digits; unique within the organization';
COMMENT ON COLUMN merchant.zones.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN merchant.zones.lat IS 'latitude of the centre, degrees';
COMMENT ON COLUMN merchant.zones.lng IS 'longitude of the centre, degrees';
COMMENT ON COLUMN merchant.zones.radius_m IS 'how far the zone reaches from there, meters';
COMMENT ON COLUMN merchant.zones.created_at IS 'when the row was made';

-- Activations hold a share lock on the row: who pauses waits for those under
-- way, and those that come after see it.
CREATE TABLE merchant.settings (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	tier_a_m integer NOT NULL DEFAULT 120,
	tier_b_m integer NOT NULL DEFAULT 400,
	intent_minutes integer NOT NULL DEFAULT 15,
	session_minutes integer NOT NULL DEFAULT 60,
	visit_minutes integer NOT NULL DEFAULT 30,
	place_minutes integer NOT NULL DEFAULT 60,
	redeem_attempts integer NOT NULL DEFAULT 10,
	redeem_minutes integer NOT NULL DEFAULT 15,
	visit_bonus_nova bigint NOT NULL DEFAULT 0,
	paused boolean NOT NULL DEFAULT false,
	PRIMARY KEY (org_id),
	CONSTRAINT settings_tier_a_m_check CHECK (tier_a_m > 0),
	CONSTRAINT settings_tier_b_m_check CHECK (tier_b_m > tier_a_m AND tier_b_m <= 50000),
	CONSTRAINT settings_intent_minutes_check CHECK (intent_minutes BETWEEN 1 AND 1440),
	CONSTRAINT settings_session_minutes_check CHECK (session_minutes BETWEEN 1 AND 10080),
	CONSTRAINT settings_visit_minutes_check CHECK (visit_minutes BETWEEN 1 AND 10080),
	CONSTRAINT settings_place_minutes_check CHECK (place_minutes BETWEEN 1 AND 525600),
	CONSTRAINT settings_redeem_attempts_check CHECK (redeem_attempts BETWEEN 1 AND 1000),
	CONSTRAINT settings_redeem_minutes_check CHECK (redeem_minutes BETWEEN 1 AND 10080),
	CONSTRAINT settings_visit_bonus_nova_check CHECK (visit_bonus_nova >= 0)
);

COMMENT ON TABLE merchant.settings IS 'Settings of the organization, one row each; made by setup(), or with the first driver or merchant.';
COMMENT ON COLUMN merchant.settings.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.settings.tier_a_m IS 'a charger nearer than this many meters makes tier A';
COMMENT ON COLUMN merchant.settings.tier_b_m IS 'one nearer than this makes tier B; at this distance or more there is no charger, tier C';
COMMENT ON COLUMN merchant.settings.intent_minutes IS 'for how long a captured position may be used to activate an exclusive';
COMMENT ON COLUMN merchant.settings.session_minutes IS 'how long an exclusive session lasts';
COMMENT ON COLUMN merchant.settings.visit_minutes IS 'for how long a redemption code is good';
COMMENT ON COLUMN merchant.settings.place_minutes IS 'after how long what is known of a place is called stale';
COMMENT ON COLUMN merchant.settings.redeem_attempts IS 'how many wrong codes a merchant may try within redeem_minutes';
COMMENT ON COLUMN merchant.settings.redeem_minutes IS 'after how long wrong codes are forgotten';
COMMENT ON COLUMN merchant.settings.visit_bonus_nova IS 'what the operator gives a driver for each redeemed visit, beside the merchant''s reward; 0 for nothing';
COMMENT ON COLUMN merchant.settings.paused IS 'whether activations are stopped everywhere; set by emergency_pause() and emergency_resume()';

-- STRICT would make a missing charger a missing tier.
CREATE FUNCTION merchant.tier(charger_distance_m double precision, tier_a_m integer, tier_b_m integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN charger_distance_m < tier_a_m THEN 'A'
	WHEN charger_distance_m < tier_b_m THEN 'B'
	ELSE 'C'
END;
REVOKE EXECUTE ON FUNCTION merchant.tier(double precision, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant.tier(double precision, integer, integer) TO ringfence_member;
COMMENT ON FUNCTION merchant.tier(double precision, integer, integer) IS
	'how sure it is that a driver charges: A nearer to a charger than the first threshold, B nearer than the second, else C; C without a charger as well';
