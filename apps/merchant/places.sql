-- What a map knows: chargers, places, and which place a charger is beside. Shared
-- by all organizations, and fed by operators (ringfence_operator).

CREATE TABLE merchant.chargers (
	id text COLLATE "C" NOT NULL PRIMARY KEY,
	name text NOT NULL,
	lat double precision NOT NULL,
	lng double precision NOT NULL,
	source text NOT NULL DEFAULT 'manual',
	active boolean NOT NULL DEFAULT true,
	updated_at timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT chargers_id_check CHECK (octet_length(id) BETWEEN 1 AND 255),
	CONSTRAINT chargers_name_check CHECK (length(name) BETWEEN 1 AND 200),
	CONSTRAINT chargers_lat_check CHECK (lat BETWEEN -90 AND 90),
	CONSTRAINT chargers_lng_check CHECK (lng BETWEEN -180 AND 180)
);
CREATE INDEX chargers_position_idx ON merchant.chargers USING gist (point(lng, lat)) WHERE active;

COMMENT ON TABLE merchant.chargers IS 'Chargers for cars, shared by all organizations.';
COMMENT ON COLUMN merchant.chargers.id IS 'the feed''s id: nrel:12345';
COMMENT ON COLUMN merchant.chargers.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN merchant.chargers.lat IS 'latitude, degrees';
COMMENT ON COLUMN merchant.chargers.lng IS 'longitude, degrees';
COMMENT ON COLUMN merchant.chargers.source IS 'the feed that it came from';
COMMENT ON COLUMN merchant.chargers.active IS 'false for one that is gone: it makes nobody a tier';
COMMENT ON COLUMN merchant.chargers.updated_at IS 'when the feed last told of it';

CREATE TABLE merchant.places (
	id text COLLATE "C" NOT NULL PRIMARY KEY,
	name text NOT NULL,
	lat double precision NOT NULL,
	lng double precision NOT NULL,
	address text,
	city text,
	active boolean NOT NULL DEFAULT true,
	fetched_at timestamptz NOT NULL DEFAULT now(),
	CONSTRAINT places_id_check CHECK (octet_length(id) BETWEEN 1 AND 255),
	CONSTRAINT places_name_check CHECK (length(name) BETWEEN 1 AND 200),
	CONSTRAINT places_lat_check CHECK (lat BETWEEN -90 AND 90),
	CONSTRAINT places_lng_check CHECK (lng BETWEEN -180 AND 180)
);
CREATE INDEX places_position_idx ON merchant.places USING gist (point(lng, lat)) WHERE active;

COMMENT ON TABLE merchant.places IS 'Places where something is sold, as a maps service knew them when asked; shared by all organizations. A place is no merchant: claims says which merchant has it.';
COMMENT ON COLUMN merchant.places.id IS 'the maps service''s id';
COMMENT ON COLUMN merchant.places.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN merchant.places.lat IS 'latitude, degrees';
COMMENT ON COLUMN merchant.places.lng IS 'longitude, degrees';
COMMENT ON COLUMN merchant.places.address IS 'postal address, as given';
COMMENT ON COLUMN merchant.places.city IS 'city, as given';
COMMENT ON COLUMN merchant.places.active IS 'false for one that is gone';
COMMENT ON COLUMN merchant.places.fetched_at IS 'when the maps service was asked';

CREATE TABLE merchant.charger_places (
	charger_id text COLLATE "C" NOT NULL REFERENCES merchant.chargers (id) ON DELETE CASCADE,
	place_id text COLLATE "C" NOT NULL REFERENCES merchant.places (id) ON DELETE CASCADE,
	PRIMARY KEY (charger_id, place_id)
);
CREATE INDEX charger_places_place_id_idx ON merchant.charger_places (place_id);

COMMENT ON TABLE merchant.charger_places IS 'Which places are beside which chargers: a driver at the charger may use what is offered at the place.';
COMMENT ON COLUMN merchant.charger_places.charger_id IS 'the charger';
COMMENT ON COLUMN merchant.charger_places.place_id IS 'the place';
