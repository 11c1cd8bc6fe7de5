-- What PostgREST serves as /rpc: the steps of a booking, payments, conversion of
-- leads. Each answers with the row that it made or changed, as the caller may
-- see it. Steps that are not the office's alone are taken in work.sql.

CREATE FUNCTION cleaning_v1.confirm_booking(booking uuid, version integer DEFAULT NULL)
RETURNS cleaning_v1.bookings
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT cleaning.move_booking(confirm_booking.booking, 'confirmed', confirm_booking.version);
	SELECT b FROM cleaning_v1.bookings AS b WHERE b.org_id = ringfence.org_id() AND b.id = confirm_booking.booking;
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.confirm_booking(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.confirm_booking(uuid, integer) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.confirm_booking(uuid, integer) IS 'Confirm a draft
By owner, admin, dispatcher. Answers with the booking. 404 not found; 403 not allowed; 409 not a draft, without a team or a price, or of another version than given.';

CREATE FUNCTION cleaning_v1.start_booking(booking uuid)
RETURNS cleaning_v1.bookings
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT cleaning.start_work(start_booking.booking);
	SELECT b FROM cleaning_v1.bookings AS b WHERE b.org_id = ringfence.org_id() AND b.id = start_booking.booking;
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.start_booking(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.start_booking(uuid) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.start_booking(uuid) IS 'Begin the visit of a confirmed booking
By owner, admin, dispatcher and the workers of its team. Answers with the booking, to workers without prices. 404 not found, or another team''s; 403 not allowed; 409 not confirmed.';

CREATE FUNCTION cleaning_v1.complete_booking(booking uuid)
RETURNS cleaning_v1.bookings
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT cleaning.complete_work(complete_booking.booking);
	SELECT b FROM cleaning_v1.bookings AS b WHERE b.org_id = ringfence.org_id() AND b.id = complete_booking.booking;
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.complete_booking(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.complete_booking(uuid) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.complete_booking(uuid) IS 'Complete a booking and issue its invoice
By owner, admin, dispatcher and the workers of its team. The booking is confirmed or in progress and becomes done; the invoice takes the next number of the organization. Answers with the booking, to workers without prices. 404 not found, or another team''s; 403 not allowed; 409 any other status.';

CREATE FUNCTION cleaning_v1.cancel_booking(booking uuid, version integer DEFAULT NULL)
RETURNS cleaning_v1.bookings
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT cleaning.move_booking(cancel_booking.booking, 'canceled', cancel_booking.version);
	SELECT b FROM cleaning_v1.bookings AS b WHERE b.org_id = ringfence.org_id() AND b.id = cancel_booking.booking;
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.cancel_booking(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.cancel_booking(uuid, integer) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.cancel_booking(uuid, integer) IS 'Cancel a booking that is not done
By owner, admin, dispatcher. Answers with the booking. 404 not found; 403 not allowed; 409 done, disputed or canceled already, or of another version than given.';

CREATE FUNCTION cleaning_v1.dispute_booking(booking uuid, version integer DEFAULT NULL)
RETURNS cleaning_v1.bookings
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT cleaning.contest_booking(dispute_booking.booking, dispute_booking.version);
	SELECT b FROM cleaning_v1.bookings AS b WHERE b.org_id = ringfence.org_id() AND b.id = dispute_booking.booking;
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.dispute_booking(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.dispute_booking(uuid, integer) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.dispute_booking(uuid, integer) IS 'Dispute a done booking
By owner, admin, dispatcher and its client. Answers with the booking. 404 not found, or another client''s; 403 not allowed; 409 not done, or of another version than given.';

CREATE FUNCTION cleaning_v1.resolve_dispute(booking uuid, version integer DEFAULT NULL)
RETURNS cleaning_v1.bookings
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT cleaning.move_booking(resolve_dispute.booking, 'done', resolve_dispute.version);
	SELECT b FROM cleaning_v1.bookings AS b WHERE b.org_id = ringfence.org_id() AND b.id = resolve_dispute.booking;
END;
REVOKE EXECUTE ON FUNCTION cleaning_v1.resolve_dispute(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.resolve_dispute(uuid, integer) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.resolve_dispute(uuid, integer) IS 'Settle the dispute about a booking, which is done again
By owner, admin, dispatcher; money goes back by record_payment(). Answers with the booking. 404 not found; 403 not allowed; 409 not disputed, or of another version than given.';

CREATE FUNCTION cleaning_v1.photo_begin(booking uuid, content_type text, size_bytes integer, sha256 text)
RETURNS cleaning_v1.photos
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	photo CONSTANT uuid := cleaning.begin_photo(photo_begin.booking, photo_begin.content_type, photo_begin.size_bytes,
		photo_begin.sha256);
BEGIN
	RETURN (SELECT p FROM cleaning_v1.photos AS p WHERE p.org_id = ringfence.org_id() AND p.id = photo);
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning_v1.photo_begin(uuid, text, integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.photo_begin(uuid, text, integer, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.photo_begin(uuid, text, integer, text) IS 'Begin a photo of a visit
By owner, admin, dispatcher and the workers of the booking''s team. content_type is image/jpeg, image/png, image/webp or image/heic, size_bytes at most 10485760, sha256 64 hexadecimal digits in lower case. Answers with the photo, whose object_key says where the image is to be stored. 404 booking not found, or another team''s; 403 not allowed; 409 the booking is a draft or canceled; 400 what is no photo.';

CREATE FUNCTION cleaning_v1.record_payment(invoice uuid, kind text, amount_minor bigint, currency text,
	provider text, provider_ref text)
RETURNS cleaning_v1.payments
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	bill record;
	payment cleaning_v1.payments;
BEGIN
	IF NOT ringfence.has_role('owner', 'admin', 'finance') THEN
		RAISE EXCEPTION 'not allowed to record payments' USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF record_payment.kind IN ('payment', 'deposit', 'refund') IS NOT TRUE THEN
		RAISE EXCEPTION 'kind is payment, deposit or refund' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF (record_payment.amount_minor > 0) IS NOT TRUE THEN
		RAISE EXCEPTION 'amount is not a positive number of minor units' USING ERRCODE = 'invalid_parameter_value';
	END IF;

	-- All that follows waits here for another payment on this invoice.
	SELECT i.client_id, i.currency, i.total_minor, i.paid_minor - i.refunded_minor AS held_minor INTO bill
	FROM cleaning.invoices AS i
	WHERE i.org_id = org AND i.id = invoice
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'invoice not found' USING ERRCODE = 'PT404';
	END IF;

	SELECT p.org_id, p.id, p.invoice_id, p.client_id, p.kind, p.amount_minor, p.currency,
		p.provider, p.provider_ref, p.created_at INTO payment
	FROM cleaning.payments AS p
	WHERE p.org_id = org AND p.provider = record_payment.provider AND p.provider_ref = record_payment.provider_ref;
	IF FOUND THEN
		IF (payment.invoice_id, payment.kind, payment.amount_minor, payment.currency)
			IS DISTINCT FROM (invoice, record_payment.kind, record_payment.amount_minor, record_payment.currency) THEN
			RAISE EXCEPTION 'provider reference stands for another payment' USING ERRCODE = 'PT409';
		END IF;
		RETURN payment;
	END IF;

	IF record_payment.currency IS DISTINCT FROM bill.currency THEN
		RAISE EXCEPTION 'invoice is in another currency' USING ERRCODE = 'invalid_parameter_value',
			DETAIL = format('It is in %s.', bill.currency);
	END IF;
	IF record_payment.kind = 'refund' THEN
		IF record_payment.amount_minor > bill.held_minor THEN
			RAISE EXCEPTION 'refund is more than was paid' USING ERRCODE = 'PT409',
				DETAIL = format('At most %s can be refunded.', bill.held_minor);
		END IF;
	ELSIF record_payment.amount_minor > bill.total_minor - bill.held_minor THEN
		RAISE EXCEPTION 'payment is more than is due' USING ERRCODE = 'PT409',
			DETAIL = format('%s is due.', bill.total_minor - bill.held_minor);
	END IF;

	INSERT INTO cleaning.payments AS p (org_id, invoice_id, client_id, kind, amount_minor, currency,
		provider, provider_ref)
	VALUES (org, invoice, bill.client_id, record_payment.kind, record_payment.amount_minor, record_payment.currency,
		record_payment.provider, record_payment.provider_ref)
	ON CONFLICT ON CONSTRAINT payments_provider_ref_key DO NOTHING
	RETURNING p.org_id, p.id, p.invoice_id, p.client_id, p.kind, p.amount_minor, p.currency,
		p.provider, p.provider_ref, p.created_at INTO payment;
	IF NOT FOUND THEN
		-- On another invoice, a moment ago.
		RAISE EXCEPTION 'provider reference stands for another payment' USING ERRCODE = 'PT409';
	END IF;

	UPDATE cleaning.invoices AS i
	SET paid_minor = i.paid_minor
			+ CASE WHEN record_payment.kind = 'refund' THEN 0 ELSE record_payment.amount_minor END,
		refunded_minor = i.refunded_minor
			+ CASE WHEN record_payment.kind = 'refund' THEN record_payment.amount_minor ELSE 0 END
	WHERE i.org_id = org AND i.id = invoice;
	RETURN payment;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning_v1.record_payment(uuid, text, bigint, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.record_payment(uuid, text, bigint, text, text, text) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.record_payment(uuid, text, bigint, text, text, text) IS 'Record a payment, deposit or refund on an invoice
By owner, admin, finance. amount_minor is above 0 and in the invoice''s currency. Answers with the payment; the invoice''s amounts and status follow. The same provider reference with the same content answers with the payment recorded first. 404 invoice not found; 403 not allowed; 400 bad kind, amount or currency; 409 more than is due or was paid, or a provider reference that stands for another payment.';

CREATE FUNCTION cleaning_v1.convert_lead(lead uuid)
RETURNS cleaning_v1.clients
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	credit_minor CONSTANT bigint := cleaning.setting('referral_credit_minor')::bigint;
	present record;
	client cleaning_v1.clients;
BEGIN
	IF NOT ringfence.has_role('owner', 'admin', 'dispatcher') THEN
		RAISE EXCEPTION 'not allowed to convert leads' USING ERRCODE = 'insufficient_privilege';
	END IF;
	SELECT l.name, l.email, l.phone, l.address, l.status, l.referrer_id INTO present
	FROM cleaning.leads AS l
	WHERE l.org_id = org AND l.id = lead
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'lead not found' USING ERRCODE = 'PT404';
	END IF;
	IF present.status = 'converted' THEN
		RAISE EXCEPTION 'lead is already converted' USING ERRCODE = 'PT409';
	END IF;

	INSERT INTO cleaning.clients AS c (org_id, name, email, phone, address)
	VALUES (org, present.name, present.email, present.phone, present.address)
	ON CONFLICT (org_id, lower(email)) DO NOTHING
	RETURNING c.org_id, c.id, c.name, c.email, c.phone, c.address, c.created_at INTO client;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'a client has the e-mail address of this lead' USING ERRCODE = 'PT409';
	END IF;
	UPDATE cleaning.leads AS l
	SET status = 'converted', client_id = client.id
	WHERE l.org_id = org AND l.id = lead;
	IF present.referrer_id IS NOT NULL AND credit_minor > 0 THEN
		INSERT INTO cleaning.referral_credits (org_id, lead_id, client_id, amount_minor, currency)
		VALUES (org, lead, present.referrer_id, credit_minor, cleaning.setting('currency'));
	END IF;
	RETURN client;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning_v1.convert_lead(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cleaning_v1.convert_lead(uuid) TO ringfence_member;
COMMENT ON FUNCTION cleaning_v1.convert_lead(uuid) IS 'Make a client of a lead
By owner, admin, dispatcher. Answers with the client. The client who sent the lead gets one credit of the setting referral_credit_minor, if the organization has it set. 404 not found; 403 not allowed; 409 converted already, or a client has the e-mail address.';
