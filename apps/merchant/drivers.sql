-- Drivers, and the merchants that they like.

CREATE TABLE merchant.drivers (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	name text NOT NULL,
	phone text,
	phone_verified_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT drivers_phone_key UNIQUE (org_id, phone),
	CONSTRAINT drivers_name_check CHECK (length(name) BETWEEN 1 AND 200),
	CONSTRAINT drivers_phone_check CHECK (phone ~ '^\+[1-9][0-9]{6,14}$'),
	CONSTRAINT drivers_phone_verified_at_check CHECK (phone IS NOT NULL OR phone_verified_at IS NULL)
);

COMMENT ON TABLE merchant.drivers IS 'Drivers. Each has a Nova wallet in the ledger, account driver:ID.';
COMMENT ON COLUMN merchant.drivers.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.drivers.id IS 'key within the organization; the party "driver" of a membership';
COMMENT ON COLUMN merchant.drivers.name IS 'name, 1 to 200 characters';
COMMENT ON COLUMN merchant.drivers.phone IS 'phone number, E.164: +15125550100; unique within the organization';
COMMENT ON COLUMN merchant.drivers.phone_verified_at IS 'when the number was proved to be the driver''s; NULL again once it changes';
COMMENT ON COLUMN merchant.drivers.created_at IS 'when the row was made';

CREATE FUNCTION merchant.unverify_phone() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NEW.phone IS DISTINCT FROM OLD.phone AND NEW.phone_verified_at IS NOT DISTINCT FROM OLD.phone_verified_at THEN
		NEW.phone_verified_at := NULL;
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.unverify_phone() FROM PUBLIC;
COMMENT ON FUNCTION merchant.unverify_phone() IS
	'trigger: a number that changes is not verified, unless the same statement says when it was';

CREATE TRIGGER unverify_phone BEFORE UPDATE OF phone ON merchant.drivers
FOR EACH ROW EXECUTE FUNCTION merchant.unverify_phone();
COMMENT ON TRIGGER unverify_phone ON merchant.drivers IS 'another number is not verified';

CREATE TABLE merchant.favorites (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	driver_id uuid NOT NULL DEFAULT ringfence.party_id('driver'),
	merchant_id uuid NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, driver_id, merchant_id),
	CONSTRAINT favorites_driver_id_fkey FOREIGN KEY (org_id, driver_id)
		REFERENCES merchant.drivers (org_id, id) ON DELETE CASCADE,
	CONSTRAINT favorites_merchant_id_fkey FOREIGN KEY (org_id, merchant_id) REFERENCES merchant.merchants (org_id, id)
);
CREATE INDEX favorites_merchant_id_idx ON merchant.favorites (org_id, merchant_id);

COMMENT ON TABLE merchant.favorites IS 'Merchants that drivers saved.';
COMMENT ON COLUMN merchant.favorites.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.favorites.driver_id IS 'the driver; the caller by default';
COMMENT ON COLUMN merchant.favorites.merchant_id IS 'the merchant';
COMMENT ON COLUMN merchant.favorites.created_at IS 'when it was saved';
