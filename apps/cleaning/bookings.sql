-- Bookings, their status machine, and their prices.

CREATE TABLE cleaning.bookings (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	client_id uuid NOT NULL,
	team_id uuid,
	status text NOT NULL DEFAULT 'draft',
	starts_at timestamptz NOT NULL,
	ends_at timestamptz NOT NULL,
	address text NOT NULL,
	notes text NOT NULL DEFAULT '',
	version integer NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT bookings_client_id_key UNIQUE (org_id, id, client_id),
	CONSTRAINT bookings_client_id_fkey FOREIGN KEY (org_id, client_id) REFERENCES cleaning.clients (org_id, id),
	CONSTRAINT bookings_team_id_fkey FOREIGN KEY (org_id, team_id) REFERENCES cleaning.teams (org_id, id),
	CONSTRAINT bookings_status_check
		CHECK (status IN ('draft', 'confirmed', 'in_progress', 'done', 'canceled', 'disputed')),
	CONSTRAINT bookings_team_id_check CHECK (team_id IS NOT NULL OR status IN ('draft', 'canceled')),
	-- Of the years that reports are of, so that how long it takes is a number.
	CONSTRAINT bookings_ends_at_check CHECK (
		ends_at > starts_at AND starts_at >= '0001-01-01 00:00:00+00' AND ends_at < '10000-01-01 00:00:00+00'
	)
);
CREATE INDEX bookings_client_id_idx ON cleaning.bookings (org_id, client_id);
CREATE INDEX bookings_team_id_idx ON cleaning.bookings (org_id, team_id, starts_at);

COMMENT ON TABLE cleaning.bookings IS 'Bookings: one visit of a team to a client.';
COMMENT ON COLUMN cleaning.bookings.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.bookings.id IS 'key within the organization';
COMMENT ON COLUMN cleaning.bookings.client_id IS 'the client; fixed once the booking is done, disputed or canceled';
COMMENT ON COLUMN cleaning.bookings.team_id IS 'the team; needed from confirmation on';
COMMENT ON COLUMN cleaning.bookings.status IS 'draft, confirmed, in_progress, done, canceled or disputed; a new booking is a draft, done is set by complete_booking()';
COMMENT ON COLUMN cleaning.bookings.starts_at IS 'when the visit begins';
COMMENT ON COLUMN cleaning.bookings.ends_at IS 'when the visit ends, after starts_at';
COMMENT ON COLUMN cleaning.bookings.address IS 'where to clean; the team sees this, not the client''s record';
COMMENT ON COLUMN cleaning.bookings.notes IS 'what the team should know';
COMMENT ON COLUMN cleaning.bookings.version IS 'counts the changes from 1; send the version you read, and a change made in between is refused (409)';
COMMENT ON COLUMN cleaning.bookings.created_at IS 'when the row was made';
COMMENT ON COLUMN cleaning.bookings.updated_at IS 'when the row last changed';

CREATE TABLE cleaning.booking_prices (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	booking_id uuid NOT NULL,
	client_id uuid NOT NULL,
	price_minor bigint NOT NULL,
	currency text NOT NULL DEFAULT cleaning.setting('currency'),
	gst_rate numeric(6, 5) NOT NULL DEFAULT coalesce(cleaning.setting('gst_rate')::numeric, 0),
	PRIMARY KEY (org_id, booking_id),
	CONSTRAINT booking_prices_booking_id_fkey FOREIGN KEY (org_id, booking_id, client_id)
		REFERENCES cleaning.bookings (org_id, id, client_id) ON UPDATE CASCADE ON DELETE CASCADE,
	-- What is invoiced adds up to a bigint in reports, however much there is of it.
	CONSTRAINT booking_prices_price_minor_check CHECK (price_minor BETWEEN 0 AND 999999999999),
	CONSTRAINT booking_prices_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
	CONSTRAINT booking_prices_gst_rate_check CHECK (gst_rate BETWEEN 0 AND 1)
);

COMMENT ON TABLE cleaning.booking_prices IS 'Prices of bookings, apart from them because workers may read bookings and not prices.';
COMMENT ON COLUMN cleaning.booking_prices.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN cleaning.booking_prices.booking_id IS 'the booking';
COMMENT ON COLUMN cleaning.booking_prices.client_id IS 'the client, as on the booking';
COMMENT ON COLUMN cleaning.booking_prices.price_minor IS 'price without GST in minor units of the currency, 0 to 999999999999; NULL to callers who may not see prices';
COMMENT ON COLUMN cleaning.booking_prices.currency IS 'ISO 4217 code of the price; the organization''s by default';
COMMENT ON COLUMN cleaning.booking_prices.gst_rate IS 'GST to be added, as a fraction (0.05 is 5 percent); the organization''s by default';

CREATE FUNCTION cleaning.booking_may_become(present text, target text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (present, target) IN (
	('draft', 'confirmed'), ('draft', 'canceled'),
	('confirmed', 'in_progress'), ('confirmed', 'done'), ('confirmed', 'canceled'),
	('in_progress', 'done'), ('in_progress', 'canceled'),
	('done', 'disputed'), ('disputed', 'done'));
REVOKE EXECUTE ON FUNCTION cleaning.booking_may_become(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.booking_may_become(text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.booking_may_become(text, text) IS 'the edges of the status machine of bookings';

CREATE FUNCTION cleaning.guard_booking() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.retaining() THEN
		RETURN NEW;
	END IF;
	IF NEW.version IS DISTINCT FROM OLD.version THEN
		RAISE EXCEPTION 'booking has version %, not %', OLD.version, NEW.version
			USING ERRCODE = 'PT409', DETAIL = 'It was changed since it was read.',
			HINT = 'Read it again, then repeat the change.';
	END IF;
	IF OLD.status IN ('done', 'canceled', 'disputed')
		AND (NEW.client_id, NEW.team_id, NEW.starts_at, NEW.ends_at, NEW.address)
		IS DISTINCT FROM (OLD.client_id, OLD.team_id, OLD.starts_at, OLD.ends_at, OLD.address) THEN
		RAISE EXCEPTION 'a booking that is % cannot be changed', OLD.status
			USING ERRCODE = 'PT409', DETAIL = 'Only its notes can.';
	END IF;
	IF NEW.status IS DISTINCT FROM OLD.status THEN
		IF NOT cleaning.booking_may_become(OLD.status, NEW.status) THEN
			RAISE EXCEPTION 'a booking that is % cannot become %', OLD.status, NEW.status
				USING ERRCODE = 'PT409';
		END IF;
		IF NEW.status = 'confirmed' AND NEW.team_id IS NULL THEN
			RAISE EXCEPTION 'booking has no team' USING ERRCODE = 'PT409';
		END IF;
		IF NEW.status = 'confirmed' AND NOT EXISTS (
			SELECT FROM cleaning.booking_prices AS p
			WHERE p.org_id = NEW.org_id AND p.booking_id = NEW.id) THEN
			RAISE EXCEPTION 'booking has no price' USING ERRCODE = 'PT409';
		END IF;
		-- A dispute is about an invoice already there.
		IF NEW.status = 'done' AND OLD.status <> 'disputed' AND NOT EXISTS (
			SELECT FROM cleaning.invoices AS i
			WHERE i.org_id = NEW.org_id AND i.booking_id = NEW.id) THEN
			RAISE EXCEPTION 'booking has no invoice'
				USING ERRCODE = 'PT409', HINT = 'Call complete_booking(), which issues it.';
		END IF;
	END IF;
	NEW.version := OLD.version + 1;
	NEW.updated_at := now();
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.guard_booking() FROM PUBLIC;
COMMENT ON FUNCTION cleaning.guard_booking() IS
	'trigger: status machine, optimistic version and frozen columns of bookings; PT409 where it refuses; not for retention and erasure';

CREATE TRIGGER guard BEFORE UPDATE ON cleaning.bookings
FOR EACH ROW EXECUTE FUNCTION cleaning.guard_booking();
COMMENT ON TRIGGER guard ON cleaning.bookings IS 'status machine, optimistic version, frozen columns';

-- The row of the price is locked before this runs, and complete_booking() locks
-- it too: either that sees the new price, or this sees the booking done.
CREATE FUNCTION cleaning.guard_price() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present text;
BEGIN
	SELECT b.status INTO present
	FROM cleaning.bookings AS b
	WHERE b.org_id = OLD.org_id AND b.id = OLD.booking_id;
	IF present IN ('draft', 'confirmed', 'in_progress') THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION 'the price of this booking can no longer be changed'
		USING ERRCODE = 'PT409', DETAIL = 'The booking is done, disputed or canceled.';
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.guard_price() FROM PUBLIC;
COMMENT ON FUNCTION cleaning.guard_price() IS
	'trigger: the price of a booking that is done, disputed or canceled stays; PT409 where it refuses';

CREATE TRIGGER guard BEFORE UPDATE ON cleaning.booking_prices
FOR EACH ROW EXECUTE FUNCTION cleaning.guard_price();
COMMENT ON TRIGGER guard ON cleaning.booking_prices IS 'the price stays once the booking is closed';

-- With the caller's rights: who may update a booking may move it.
CREATE FUNCTION cleaning.move_booking(booking uuid, target text, expected integer) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present text;
BEGIN
	SELECT b.status INTO present
	FROM cleaning.bookings AS b
	WHERE b.org_id = ringfence.org_id() AND b.id = booking
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF EXISTS (SELECT FROM cleaning.bookings AS b WHERE b.org_id = ringfence.org_id() AND b.id = booking) THEN
			RAISE EXCEPTION 'not allowed to change this booking' USING ERRCODE = 'insufficient_privilege';
		END IF;
		RAISE EXCEPTION 'booking not found' USING ERRCODE = 'PT404';
	END IF;
	IF present = target THEN
		RAISE EXCEPTION 'booking is already %', target USING ERRCODE = 'PT409';
	END IF;
	UPDATE cleaning.bookings AS b
	SET status = target, version = coalesce(expected, b.version)
	WHERE b.org_id = ringfence.org_id() AND b.id = booking;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.move_booking(uuid, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.move_booking(uuid, text, integer) TO ringfence_member;
COMMENT ON FUNCTION cleaning.move_booking(uuid, text, integer) IS
	'moves a booking along an edge of its status machine; PT404 not found, 42501 not allowed, PT409 no such edge or stale version';
