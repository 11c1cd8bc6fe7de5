-- What a team does to a booking and a client may contest. Workers and clients
-- have no right to update bookings, so these run with the owner's rights: each
-- checks first who asks. The owner is held to the caller's organization by
-- org_isolation like everybody else.

CREATE FUNCTION cleaning.may_work_on(booking uuid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	visible boolean;
BEGIN
	IF ringfence.has_role('owner', 'admin', 'dispatcher') THEN
		visible := EXISTS (
			SELECT FROM cleaning.bookings AS b
			WHERE b.org_id = ringfence.org_id() AND b.id = booking);
	ELSIF ringfence.has_role('worker') THEN
		visible := EXISTS (
			SELECT FROM cleaning.bookings AS b
			JOIN cleaning.workers AS w ON w.org_id = b.org_id AND w.team_id = b.team_id
			WHERE b.org_id = ringfence.org_id() AND b.id = booking
				AND w.id = ringfence.party_id('worker'));
	ELSE
		RAISE EXCEPTION 'not allowed to work on bookings'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'The office and the team of the booking are.';
	END IF;
	IF NOT visible THEN
		RAISE EXCEPTION 'booking not found' USING ERRCODE = 'PT404';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.may_work_on(uuid) FROM PUBLIC;
COMMENT ON FUNCTION cleaning.may_work_on(uuid) IS
	'refuses who may not start or complete a booking: 42501 by role, PT404 if it is not theirs; called with the owner''s rights';

CREATE FUNCTION cleaning.start_work(booking uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM cleaning.may_work_on(booking);
	PERFORM cleaning.move_booking(booking, 'in_progress', NULL);
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.start_work(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.start_work(uuid) TO ringfence_member;
COMMENT ON FUNCTION cleaning.start_work(uuid) IS
	'start_booking() with the owner''s rights, for the office and the booking''s team';

CREATE FUNCTION cleaning.complete_work(booking uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	zone CONSTANT text := cleaning.time_zone();
	today CONSTANT date := (now() AT TIME ZONE zone)::date;
	invoice CONSTANT uuid := ringfence.uuid7();
	counter record;
	present record;
	price record;
BEGIN
	PERFORM cleaning.may_work_on(booking);

	-- The counter before the booking: a transaction that completes several
	-- bookings then holds all that another one would have to wait for.
	INSERT INTO cleaning.invoice_counters AS c (org_id, last_number, last_date)
	VALUES (org, 1, today)
	ON CONFLICT (org_id) DO UPDATE
		SET last_number = c.last_number + 1, last_date = greatest(c.last_date, today)
	RETURNING c.last_number, c.last_date INTO counter;

	SELECT b.client_id, b.status, b.address, b.starts_at INTO present
	FROM cleaning.bookings AS b
	WHERE b.org_id = org AND b.id = booking
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'booking not found' USING ERRCODE = 'PT404';
	END IF;
	IF present.status NOT IN ('confirmed', 'in_progress') THEN
		RAISE EXCEPTION 'a booking that is % cannot be completed', present.status
			USING ERRCODE = 'PT409';
	END IF;

	SELECT p.price_minor, p.currency, p.gst_rate,
		cleaning.gst(p.price_minor, p.gst_rate) AS gst_minor INTO price
	FROM cleaning.booking_prices AS p
	WHERE p.org_id = org AND p.booking_id = booking
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'booking has no price' USING ERRCODE = 'PT409';
	END IF;

	INSERT INTO cleaning.invoices (org_id, id, number, booking_id, client_id, issue_date, due_date,
		currency, net_minor, gst_minor)
	VALUES (org, invoice, counter.last_number, booking, present.client_id, counter.last_date,
		counter.last_date + coalesce(cleaning.setting('payment_days')::integer, 14),
		price.currency, price.price_minor, price.gst_minor);
	INSERT INTO cleaning.invoice_items (org_id, invoice_id, client_id, position, description,
		net_minor, gst_rate, gst_minor)
	VALUES (org, invoice, present.client_id, 1,
		format('Cleaning on %s, %s',
			to_char(present.starts_at AT TIME ZONE zone, 'YYYY-MM-DD'), present.address),
		price.price_minor, price.gst_rate, price.gst_minor);

	UPDATE cleaning.bookings AS b
	SET status = 'done'
	WHERE b.org_id = org AND b.id = booking;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.complete_work(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.complete_work(uuid) TO ringfence_member;
COMMENT ON FUNCTION cleaning.complete_work(uuid) IS
	'complete_booking() with the owner''s rights, for the office and the booking''s team';

CREATE FUNCTION cleaning.contest_booking(booking uuid, expected integer) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.has_role('owner', 'admin', 'dispatcher', 'client') THEN
		RAISE EXCEPTION 'not allowed to dispute bookings'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'The office and the client of the booking are.';
	END IF;
	IF NOT ringfence.has_role('owner', 'admin', 'dispatcher') AND NOT EXISTS (
		SELECT FROM cleaning.bookings AS b
		WHERE b.org_id = ringfence.org_id() AND b.id = booking
			AND b.client_id = ringfence.party_id('client')) THEN
		RAISE EXCEPTION 'booking not found' USING ERRCODE = 'PT404';
	END IF;
	PERFORM cleaning.move_booking(booking, 'disputed', expected);
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.contest_booking(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.contest_booking(uuid, integer) TO ringfence_member;
COMMENT ON FUNCTION cleaning.contest_booking(uuid, integer) IS
	'dispute_booking() with the owner''s rights, for the office and the booking''s client';

CREATE FUNCTION cleaning.begin_photo(booking uuid, content_type text, size_bytes integer, sha256 text) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	photo CONSTANT uuid := ringfence.uuid7();
	present record;
BEGIN
	PERFORM cleaning.may_work_on(booking);
	SELECT b.client_id, b.team_id, b.status INTO present
	FROM cleaning.bookings AS b
	WHERE b.org_id = org AND b.id = booking
	FOR KEY SHARE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'booking not found' USING ERRCODE = 'PT404';
	END IF;
	IF present.status IN ('draft', 'canceled') THEN
		RAISE EXCEPTION 'a booking that is % has no photos', present.status USING ERRCODE = 'PT409';
	END IF;
	INSERT INTO cleaning.photos (org_id, id, booking_id, client_id, team_id, content_type, size_bytes, sha256)
	VALUES (org, photo, booking, present.client_id, present.team_id, begin_photo.content_type, begin_photo.size_bytes,
		begin_photo.sha256);
	RETURN photo;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.begin_photo(uuid, text, integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning.begin_photo(uuid, text, integer, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning.begin_photo(uuid, text, integer, text) IS
	'photo_begin() with the owner''s rights, for the office and the booking''s team; a booking with photos has a team, or is canceled and stays as it is';
