-- Merchants, the places that are theirs, and what they offer.

CREATE TABLE merchant.merchants (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	zone_id uuid NOT NULL,
	name text NOT NULL,
	tag text COLLATE "C" NOT NULL,
	paused boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT merchants_tag_key UNIQUE (org_id, tag),
	CONSTRAINT merchants_zone_id_fkey FOREIGN KEY (org_id, zone_id) REFERENCES merchant.zones (org_id, id),
	CONSTRAINT merchants_name_check CHECK (length(name) BETWEEN 1 AND 200),
	CONSTRAINT merchants_tag_check CHECK (tag ~ '^[A-Z0-9]{2,12}$')
);
CREATE INDEX merchants_zone_id_idx ON merchant.merchants (org_id, zone_id);

COMMENT ON TABLE merchant.merchants IS 'Merchants with whom the operator has a contract. Each has a Nova budget in the ledger, account merchant:ID.';
COMMENT ON COLUMN merchant.merchants.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.merchants.id IS 'key within the organization; the party "merchant" of a membership';
COMMENT ON COLUMN merchant.merchants.zone_id IS 'the zone; its tag begins the merchant''s redemption codes';
COMMENT ON COLUMN merchant.merchants.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN merchant.merchants.tag IS 'second part of redemption codes: 2 to 12 capital letters and digits; unique within the organization';
COMMENT ON COLUMN merchant.merchants.paused IS 'whether its exclusives can''t be activated; set by pause_merchant() and resume_merchant()';
COMMENT ON COLUMN merchant.merchants.created_at IS 'when the row was made';

CREATE TABLE merchant.claims (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	place_id text COLLATE "C" NOT NULL REFERENCES merchant.places (id),
	merchant_id uuid NOT NULL,
	claimed_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, place_id),
	CONSTRAINT claims_merchant_id_fkey FOREIGN KEY (org_id, merchant_id) REFERENCES merchant.merchants (org_id, id)
);
CREATE INDEX claims_place_id_idx ON merchant.claims (place_id);
CREATE INDEX claims_merchant_id_idx ON merchant.claims (org_id, merchant_id);

COMMENT ON TABLE merchant.claims IS 'Which place is which merchant''s. A merchant may have several, a place is one merchant''s within the organization.';
COMMENT ON COLUMN merchant.claims.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.claims.place_id IS 'the place';
COMMENT ON COLUMN merchant.claims.merchant_id IS 'the merchant';
COMMENT ON COLUMN merchant.claims.claimed_at IS 'when it was claimed';

CREATE TABLE merchant.perks (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	merchant_id uuid NOT NULL,
	title text NOT NULL,
	exclusive boolean NOT NULL DEFAULT false,
	active boolean NOT NULL DEFAULT true,
	reward_nova bigint NOT NULL DEFAULT 0,
	price_nova bigint NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT perks_merchant_id_key UNIQUE (org_id, id, merchant_id),
	CONSTRAINT perks_merchant_id_fkey FOREIGN KEY (org_id, merchant_id) REFERENCES merchant.merchants (org_id, id),
	CONSTRAINT perks_title_check CHECK (length(title) BETWEEN 1 AND 200),
	CONSTRAINT perks_reward_nova_check CHECK (reward_nova BETWEEN 0 AND 1000000000000),
	CONSTRAINT perks_price_nova_check CHECK (price_nova BETWEEN 0 AND 1000000000000)
);
CREATE INDEX perks_merchant_id_idx ON merchant.perks (org_id, merchant_id);

COMMENT ON TABLE merchant.perks IS 'What merchants offer. An exclusive is a perk that is activated for a while, by a driver who charges nearby.';
COMMENT ON COLUMN merchant.perks.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.perks.id IS 'key within the organization';
COMMENT ON COLUMN merchant.perks.merchant_id IS 'the merchant';
COMMENT ON COLUMN merchant.perks.title IS 'what is offered, 1 to 200 characters';
COMMENT ON COLUMN merchant.perks.exclusive IS 'whether it is an exclusive';
COMMENT ON COLUMN merchant.perks.active IS 'whether it can be had now';
COMMENT ON COLUMN merchant.perks.reward_nova IS 'Nova that the merchant gives the driver for a redeemed visit, 0 or more';
COMMENT ON COLUMN merchant.perks.price_nova IS 'Nova that the driver pays the merchant for it, 0 or more';
COMMENT ON COLUMN merchant.perks.created_at IS 'when the row was made';
