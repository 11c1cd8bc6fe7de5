-- Visits, the codes that prove them, and wrong codes. A visit forgets its driver with
-- its session, by the key that they share; that it was the session's is then for the
-- session's staying where it is to keep. (A second key for that would leave PostgREST
-- with two ways to embed one in the other.)

CREATE TABLE merchant.visits (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	session_id uuid NOT NULL,
	driver_id uuid,
	merchant_id uuid NOT NULL,
	verified_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL,
	redeemed_at timestamptz,
	PRIMARY KEY (org_id, id),
	CONSTRAINT visits_session_id_key UNIQUE (org_id, session_id),
	CONSTRAINT visits_driver_id_key UNIQUE (org_id, id, driver_id),
	CONSTRAINT visits_session_id_fkey FOREIGN KEY (org_id, session_id, driver_id, merchant_id)
		REFERENCES merchant.exclusive_sessions (org_id, id, driver_id, merchant_id) ON UPDATE CASCADE,
	CONSTRAINT visits_driver_id_fkey FOREIGN KEY (org_id, driver_id) REFERENCES merchant.drivers (org_id, id),
	CONSTRAINT visits_merchant_id_fkey FOREIGN KEY (org_id, merchant_id) REFERENCES merchant.merchants (org_id, id),
	CONSTRAINT visits_expires_at_check CHECK (expires_at >= verified_at),
	CONSTRAINT visits_redeemed_at_check CHECK (redeemed_at BETWEEN verified_at AND expires_at)
);
CREATE INDEX visits_driver_id_idx ON merchant.visits (org_id, driver_id, verified_at);
CREATE INDEX visits_merchant_id_idx ON merchant.visits (org_id, merchant_id, verified_at);

COMMENT ON TABLE merchant.visits IS 'Visits of drivers to merchants, one for a session, made by verify_visit() and redeemed once by redeem_visit().';
COMMENT ON COLUMN merchant.visits.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.visits.id IS 'key within the organization; the id of the transfer of its price as well';
COMMENT ON COLUMN merchant.visits.session_id IS 'the exclusive session';
COMMENT ON COLUMN merchant.visits.driver_id IS 'the driver, as on the session; NULL once that is forgotten';
COMMENT ON COLUMN merchant.visits.merchant_id IS 'the merchant, as on the session';
COMMENT ON COLUMN merchant.visits.verified_at IS 'when the driver got the code';
COMMENT ON COLUMN merchant.visits.expires_at IS 'until when the code is good';
COMMENT ON COLUMN merchant.visits.redeemed_at IS 'when the merchant redeemed it; NULL if it has not';

-- A merchant reads the visits, so the codes that prove them stand apart: one that
-- could be read could be redeemed without the driver.
CREATE TABLE merchant.visit_codes (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	visit_id uuid NOT NULL,
	driver_id uuid,
	code text COLLATE "C" NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, visit_id),
	CONSTRAINT visit_codes_code_key UNIQUE (org_id, code),
	CONSTRAINT visit_codes_visit_id_fkey FOREIGN KEY (org_id, visit_id) REFERENCES merchant.visits (org_id, id),
	CONSTRAINT visit_codes_driver_id_fkey FOREIGN KEY (org_id, visit_id, driver_id)
		REFERENCES merchant.visits (org_id, id, driver_id) ON UPDATE CASCADE,
	CONSTRAINT visit_codes_code_check CHECK (code ~ '^[A-Z0-9]{2,8}-[A-Z0-9]{2,12}-[0-9A-HJKMNP-TV-Z]{12}$')
);

COMMENT ON TABLE merchant.visit_codes IS 'Redemption codes, for the driver alone to read.';
COMMENT ON COLUMN merchant.visit_codes.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.visit_codes.visit_id IS 'the visit';
COMMENT ON COLUMN merchant.visit_codes.driver_id IS 'the driver, as on the visit; NULL once that is forgotten';
COMMENT ON COLUMN merchant.visit_codes.created_at IS 'when it was given';
COMMENT ON COLUMN merchant.visit_codes.code IS 'what the driver shows the merchant, unique within the organization: tags of zone and merchant, and 60 random bits; null to others than the driver';

CREATE TABLE merchant.redemption_attempts (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	merchant_id uuid NOT NULL,
	failures integer NOT NULL DEFAULT 0,
	since timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, merchant_id),
	CONSTRAINT redemption_attempts_merchant_id_fkey FOREIGN KEY (org_id, merchant_id)
		REFERENCES merchant.merchants (org_id, id),
	CONSTRAINT redemption_attempts_failures_check CHECK (failures >= 0)
);

COMMENT ON TABLE merchant.redemption_attempts IS 'How many wrong codes a merchant has tried, within the setting redeem_minutes.';
COMMENT ON COLUMN merchant.redemption_attempts.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.redemption_attempts.merchant_id IS 'the merchant';
COMMENT ON COLUMN merchant.redemption_attempts.failures IS 'wrong codes since then';
COMMENT ON COLUMN merchant.redemption_attempts.since IS 'when the first of them was tried';

CREATE FUNCTION merchant.guard_visit() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.retaining() THEN
		RETURN NEW;
	END IF;
	IF OLD.redeemed_at IS NOT NULL THEN
		RAISE EXCEPTION 'a visit that is redeemed cannot be changed' USING ERRCODE = 'PT409';
	END IF;
	IF to_jsonb(NEW) - 'redeemed_at' <> to_jsonb(OLD) - 'redeemed_at' THEN
		RAISE EXCEPTION 'a visit can only be redeemed' USING ERRCODE = 'PT409';
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.guard_visit() FROM PUBLIC;
COMMENT ON FUNCTION merchant.guard_visit() IS
	'trigger: a visit is redeemed once, and else stays as it is, but for retention and erasure; PT409 where it refuses';

CREATE TRIGGER guard BEFORE UPDATE ON merchant.visits
FOR EACH ROW EXECUTE FUNCTION merchant.guard_visit();
COMMENT ON TRIGGER guard ON merchant.visits IS 'redeemed once';

-- Twelve letters of Crockford's alphabet, which has no I, L, O and U. Of a random
-- uuid these bytes are random in their lower five bits.
CREATE FUNCTION merchant.random_tail() RETURNS text
LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
	SELECT string_agg(
		substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + (get_byte(r.bytes, p.position) & 31), 1), '' ORDER BY p.position)
	FROM (SELECT uuid_send(gen_random_uuid()) AS bytes) AS r
	CROSS JOIN unnest(ARRAY[0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]) AS p (position);
END;
REVOKE EXECUTE ON FUNCTION merchant.random_tail() FROM PUBLIC;
COMMENT ON FUNCTION merchant.random_tail() IS
	'the part of a redemption code that can''t be guessed: 12 letters and digits, 60 bits of the server''s cryptographic generator';
