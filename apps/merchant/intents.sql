-- Where drivers were when they asked what is near. Positions stand here and
-- nowhere else: what is to be forgotten is forgotten in one table.

CREATE TABLE merchant.intents (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	driver_id uuid NOT NULL,
	lat double precision,
	lng double precision,
	charger_id text COLLATE "C" REFERENCES merchant.chargers (id),
	charger_distance_m double precision,
	tier text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT intents_driver_id_key UNIQUE (org_id, id, driver_id),
	CONSTRAINT intents_driver_id_fkey FOREIGN KEY (org_id, driver_id) REFERENCES merchant.drivers (org_id, id),
	CONSTRAINT intents_lat_check CHECK (lat BETWEEN -90 AND 90),
	CONSTRAINT intents_lng_check CHECK (lng BETWEEN -180 AND 180),
	CONSTRAINT intents_position_check CHECK ((lat IS NULL) = (lng IS NULL) AND (lat IS NOT NULL OR charger_id IS NULL)),
	CONSTRAINT intents_charger_distance_m_check CHECK ((charger_distance_m IS NULL) = (charger_id IS NULL)),
	CONSTRAINT intents_tier_check
		CHECK (tier IN ('A', 'B', 'C') AND (lat IS NULL OR (tier = 'C') = (charger_id IS NULL)))
);
CREATE INDEX intents_driver_id_idx ON merchant.intents (org_id, driver_id, created_at);
CREATE INDEX intents_charger_id_idx ON merchant.intents (charger_id);

COMMENT ON TABLE merchant.intents IS 'Positions of drivers, captured by capture_intent(), with the charger that was near.';
COMMENT ON COLUMN merchant.intents.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.intents.id IS 'key within the organization';
COMMENT ON COLUMN merchant.intents.driver_id IS 'the driver';
COMMENT ON COLUMN merchant.intents.lat IS 'latitude, degrees; NULL, as are longitude and charger, once the position is forgotten';
COMMENT ON COLUMN merchant.intents.lng IS 'longitude, degrees; NULL once the position is forgotten';
COMMENT ON COLUMN merchant.intents.charger_id IS 'the nearest charger; NULL if none is nearer than the setting tier_b_m, and once the position is forgotten';
COMMENT ON COLUMN merchant.intents.charger_distance_m IS 'how far it was, meters';
COMMENT ON COLUMN merchant.intents.tier IS 'A, B or C by the settings of that moment: how sure it is that the driver charges; kept when the position is forgotten';
COMMENT ON COLUMN merchant.intents.created_at IS 'when it was captured';
