-- What PostgREST serves. Every view reads with the caller's rights, and shows
-- org_id because the foreign keys that join them do.

CREATE VIEW cleaning_v1.clients WITH (security_invoker = true) AS
SELECT c.org_id, c.id, c.name, c.email, c.phone, c.address, c.created_at
FROM cleaning.clients AS c;
GRANT SELECT, INSERT, UPDATE, DELETE ON cleaning_v1.clients TO ringfence_member;

CREATE VIEW cleaning_v1.teams WITH (security_invoker = true) AS
SELECT t.org_id, t.id, t.name, t.created_at
FROM cleaning.teams AS t;
GRANT SELECT, INSERT, UPDATE, DELETE ON cleaning_v1.teams TO ringfence_member;

CREATE VIEW cleaning_v1.workers WITH (security_invoker = true) AS
SELECT w.org_id, w.id, w.team_id, w.name, w.email, w.phone, w.created_at
FROM cleaning.workers AS w;
GRANT SELECT, INSERT, UPDATE, DELETE ON cleaning_v1.workers TO ringfence_member;

CREATE VIEW cleaning_v1.worker_rates WITH (security_invoker = true) AS
SELECT r.org_id, r.id, r.worker_id, r.valid_from, r.rate_minor, r.currency, r.created_at
FROM cleaning.worker_rates AS r;
GRANT SELECT, INSERT, UPDATE, DELETE ON cleaning_v1.worker_rates TO ringfence_member;

CREATE VIEW cleaning_v1.bookings WITH (security_invoker = true) AS
SELECT b.org_id, b.id, b.client_id, b.team_id, b.status, b.starts_at, b.ends_at, b.address, b.notes,
	p.price_minor, p.currency, p.gst_rate, b.version, b.created_at, b.updated_at
FROM cleaning.bookings AS b
LEFT JOIN cleaning.booking_prices AS p ON p.org_id = b.org_id AND p.booking_id = b.id;
ALTER VIEW cleaning_v1.bookings ALTER COLUMN org_id SET DEFAULT ringfence.org_id();
ALTER VIEW cleaning_v1.bookings ALTER COLUMN id SET DEFAULT ringfence.uuid7();
ALTER VIEW cleaning_v1.bookings ALTER COLUMN notes SET DEFAULT '';
GRANT SELECT, INSERT, UPDATE ON cleaning_v1.bookings TO ringfence_member;

CREATE VIEW cleaning_v1.invoices WITH (security_invoker = true) AS
SELECT i.org_id, i.id, i.number, i.booking_id, i.client_id, i.status, i.issue_date, i.due_date, i.notes,
	i.currency, i.net_minor, i.gst_minor, i.total_minor, i.paid_minor, i.refunded_minor, i.created_at
FROM cleaning.invoices AS i;
GRANT SELECT, UPDATE ON cleaning_v1.invoices TO ringfence_member;

CREATE VIEW cleaning_v1.invoice_items WITH (security_invoker = true) AS
SELECT t.org_id, t.invoice_id, t.client_id, t.position, t.description, t.net_minor, t.gst_rate, t.gst_minor
FROM cleaning.invoice_items AS t;
GRANT SELECT ON cleaning_v1.invoice_items TO ringfence_member;

CREATE VIEW cleaning_v1.payments WITH (security_invoker = true) AS
SELECT p.org_id, p.id, p.invoice_id, p.client_id, p.kind, p.amount_minor, p.currency,
	p.provider, p.provider_ref, p.created_at
FROM cleaning.payments AS p;
GRANT SELECT ON cleaning_v1.payments TO ringfence_member;

CREATE VIEW cleaning_v1.leads WITH (security_invoker = true) AS
SELECT l.org_id, l.id, l.name, l.email, l.phone, l.address, l.source, l.status,
	l.referrer_id, l.client_id, l.created_at
FROM cleaning.leads AS l;
GRANT SELECT, INSERT, UPDATE, DELETE ON cleaning_v1.leads TO ringfence_member;

CREATE VIEW cleaning_v1.referral_credits WITH (security_invoker = true) AS
SELECT c.org_id, c.id, c.lead_id, c.client_id, c.amount_minor, c.currency, c.created_at
FROM cleaning.referral_credits AS c;
GRANT SELECT ON cleaning_v1.referral_credits TO ringfence_member;

-- Without team_id, by which PostgREST would find a second way from here to bookings.
CREATE VIEW cleaning_v1.photos WITH (security_invoker = true) AS
SELECT p.org_id, p.id, p.booking_id, p.client_id, p.object_key, p.content_type, p.size_bytes, p.sha256, p.created_at
FROM cleaning.photos AS p;
GRANT SELECT, DELETE ON cleaning_v1.photos TO ringfence_member;

-- Writing through cleaning_v1.bookings, which joins two tables.

CREATE FUNCTION cleaning.insert_booking() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NEW.status <> 'draft' OR NEW.version <> 1 THEN
		RAISE EXCEPTION 'a new booking is a draft of version 1' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF NEW.price_minor IS NULL AND (NEW.currency IS NOT NULL OR NEW.gst_rate IS NOT NULL) THEN
		RAISE EXCEPTION 'currency and GST rate need a price' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	INSERT INTO cleaning.bookings AS b (org_id, id, client_id, team_id, starts_at, ends_at, address, notes)
	VALUES (NEW.org_id, NEW.id, NEW.client_id, NEW.team_id, NEW.starts_at, NEW.ends_at, NEW.address, NEW.notes)
	RETURNING b.status, b.version, b.created_at, b.updated_at
	INTO NEW.status, NEW.version, NEW.created_at, NEW.updated_at;
	IF NEW.price_minor IS NOT NULL THEN
		INSERT INTO cleaning.booking_prices AS p (org_id, booking_id, client_id, price_minor, currency, gst_rate)
		VALUES (NEW.org_id, NEW.id, NEW.client_id, NEW.price_minor,
			coalesce(NEW.currency, cleaning.setting('currency')),
			coalesce(NEW.gst_rate, cleaning.setting('gst_rate')::numeric, 0))
		RETURNING p.currency, p.gst_rate INTO NEW.currency, NEW.gst_rate;
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.insert_booking() FROM PUBLIC;
COMMENT ON FUNCTION cleaning.insert_booking() IS
	'trigger: a booking and its price, inserted through cleaning_v1.bookings; 22023 where it refuses';

CREATE TRIGGER insert_booking INSTEAD OF INSERT ON cleaning_v1.bookings
FOR EACH ROW EXECUTE FUNCTION cleaning.insert_booking();
COMMENT ON TRIGGER insert_booking ON cleaning_v1.bookings IS 'inserts the booking and its price';

CREATE FUNCTION cleaning.update_booking() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (NEW.org_id, NEW.id, NEW.created_at, NEW.updated_at)
		IS DISTINCT FROM (OLD.org_id, OLD.id, OLD.created_at, OLD.updated_at) THEN
		RAISE EXCEPTION 'org_id, id, created_at and updated_at are set by the database'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF NEW.price_minor IS NULL AND (NEW.currency IS NOT NULL OR NEW.gst_rate IS NOT NULL) THEN
		RAISE EXCEPTION 'currency and GST rate need a price'
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'A price cannot be removed; price_minor 0 makes the booking free.';
	END IF;
	-- The row as it was when the statement began; the version says if it still is.
	UPDATE cleaning.bookings AS b
	SET client_id = NEW.client_id, team_id = NEW.team_id, status = NEW.status, starts_at = NEW.starts_at,
		ends_at = NEW.ends_at, address = NEW.address, notes = NEW.notes, version = NEW.version
	WHERE b.org_id = OLD.org_id AND b.id = OLD.id
	RETURNING b.version, b.updated_at INTO NEW.version, NEW.updated_at;
	IF NOT FOUND THEN
		IF EXISTS (SELECT FROM cleaning.bookings AS b WHERE b.org_id = OLD.org_id AND b.id = OLD.id) THEN
			RAISE EXCEPTION 'not allowed to change this booking' USING ERRCODE = 'insufficient_privilege';
		END IF;
		RETURN NULL;
	END IF;
	IF (NEW.price_minor, NEW.currency, NEW.gst_rate)
		IS DISTINCT FROM (OLD.price_minor, OLD.currency, OLD.gst_rate) THEN
		INSERT INTO cleaning.booking_prices AS p (org_id, booking_id, client_id, price_minor, currency, gst_rate)
		VALUES (NEW.org_id, NEW.id, NEW.client_id, NEW.price_minor,
			coalesce(NEW.currency, cleaning.setting('currency')),
			coalesce(NEW.gst_rate, cleaning.setting('gst_rate')::numeric, 0))
		ON CONFLICT (org_id, booking_id) DO UPDATE
			SET price_minor = EXCLUDED.price_minor, currency = EXCLUDED.currency, gst_rate = EXCLUDED.gst_rate
		RETURNING p.currency, p.gst_rate INTO NEW.currency, NEW.gst_rate;
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.update_booking() FROM PUBLIC;
COMMENT ON FUNCTION cleaning.update_booking() IS
	'trigger: a booking and its price, changed through cleaning_v1.bookings; 42501, 22023 or PT409 where it refuses';

CREATE TRIGGER update_booking INSTEAD OF UPDATE ON cleaning_v1.bookings
FOR EACH ROW EXECUTE FUNCTION cleaning.update_booking();
COMMENT ON TRIGGER update_booking ON cleaning_v1.bookings IS 'changes the booking and its price';

-- Nobody is granted DELETE on the view. Without a trigger the answer to one would
-- be 55000, which is an internal error to HTTP, before it came to grants.
CREATE FUNCTION cleaning.delete_booking() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'bookings are not deleted'
		USING ERRCODE = 'insufficient_privilege', HINT = 'Call cancel_booking().';
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.delete_booking() FROM PUBLIC;
COMMENT ON FUNCTION cleaning.delete_booking() IS
	'trigger: refuses (42501) to delete through cleaning_v1.bookings';

CREATE TRIGGER delete_booking INSTEAD OF DELETE ON cleaning_v1.bookings
FOR EACH ROW EXECUTE FUNCTION cleaning.delete_booking();
COMMENT ON TRIGGER delete_booking ON cleaning_v1.bookings IS 'refuses: bookings are canceled';

-- The views say of their columns what the tables say of theirs.
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN
		SELECT v.oid::regclass AS view, a.attname AS name, min(d.description) AS description
		FROM pg_class AS v
		JOIN pg_attribute AS a ON a.attrelid = v.oid AND a.attnum > 0
		JOIN pg_class AS t ON t.relnamespace = 'cleaning'::regnamespace
			AND (t.relname = v.relname OR (v.relname = 'bookings' AND t.relname = 'booking_prices'
				AND a.attname IN ('price_minor', 'currency', 'gst_rate')))
		JOIN pg_attribute AS o ON o.attrelid = t.oid AND o.attname = a.attname AND o.attnum > 0
		JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass
			AND d.objoid = t.oid AND d.objsubid = o.attnum
		WHERE v.relnamespace = 'cleaning_v1'::regnamespace AND v.relkind = 'v'
		GROUP BY v.oid, a.attname
		ORDER BY v.oid::regclass::text, a.attname
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.name, c.description);
	END LOOP;
END
$$;

COMMENT ON VIEW cleaning_v1.clients IS 'Clients
Read by owner, admin, dispatcher and finance, and by a client the own row; written by owner, admin, dispatcher, deleted by owner and admin.';
COMMENT ON VIEW cleaning_v1.teams IS 'Teams
Read by everybody but clients; written by owner, admin, dispatcher, deleted by owner and admin.';
COMMENT ON VIEW cleaning_v1.workers IS 'Workers
Read by owner, admin, dispatcher and finance, and by a worker the own row; written by owner, admin, dispatcher, deleted by owner and admin.';
COMMENT ON VIEW cleaning_v1.worker_rates IS 'What an hour of a worker costs
Read and written by owner, admin and finance, deleted by owner and admin.';
COMMENT ON VIEW cleaning_v1.bookings IS 'Bookings
Read by owner, admin, dispatcher and finance, by a worker those of the own team without prices, by a client the own ones; written by owner, admin, dispatcher. Never deleted: cancel them. 403 where the role may read and not write, 409 for a stale version, an edge that the status machine lacks, or a change to a closed booking.';
COMMENT ON VIEW cleaning_v1.invoices IS 'Invoices
Read by owner, admin, dispatcher and finance, by a client the own ones; issued by complete_booking(). Owner, admin and finance may change due_date and notes.';
COMMENT ON VIEW cleaning_v1.invoice_items IS 'Lines of invoices
Read by owner, admin, dispatcher and finance, by a client those of the own invoices.';
COMMENT ON VIEW cleaning_v1.payments IS 'Payments, deposits and refunds
Read by owner, admin and finance, by a client the own ones; recorded by record_payment().';
COMMENT ON VIEW cleaning_v1.leads IS 'Leads
Read and written by owner, admin, dispatcher, deleted by owner and admin; converted by convert_lead().';
COMMENT ON VIEW cleaning_v1.referral_credits IS 'Referral credits
Read by owner, admin and finance, by a client the own ones; given by convert_lead().';
COMMENT ON VIEW cleaning_v1.photos IS 'Photos of visits
Read and deleted by owner, admin, dispatcher and by workers of the booking''s team, read by a client those of the own bookings; begun by photo_begin(). A row that is deleted has its image deleted some time later.';

-- What a request gets by "Accept": any view or function of this schema as CSV or
-- NDJSON. PostgREST finds the aggregates by the names of the types they return.
SELECT ringfence.serve_formats('cleaning_v1');
