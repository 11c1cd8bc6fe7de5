-- Whom rows are about, and what an erasure makes of them. Amounts and dates stay,
-- as records of the business must, and say nothing of the person any more.

-- Nothing can be done for a client without an address. What is done stays done.
CREATE FUNCTION cleaning.end_client(client uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	booking uuid;
BEGIN
	FOR booking IN
		SELECT b.id
		FROM cleaning.bookings AS b
		WHERE b.org_id = ringfence.org_id() AND b.client_id = end_client.client AND b.status IN ('draft', 'confirmed', 'in_progress')
		ORDER BY b.id
		FOR UPDATE
	LOOP
		PERFORM cleaning.move_booking(booking, 'canceled', NULL);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION cleaning.end_client(uuid) FROM PUBLIC;
COMMENT ON FUNCTION cleaning.end_client(uuid) IS
	'cancels the bookings of a client who is to be forgotten that are not done; for erase_subject()';

SELECT ringfence.on_erase('client', 'cleaning.end_client(uuid)');

SELECT ringfence.declare_subject(s.kind, format('cleaning.%I', s.rel)::regclass, s.column_name, s.action, s.rules::jsonb,
	is_root => s.column_name = 'id')
FROM (VALUES
	('client', 'clients', 'id', 'anonymize', '{"name": "pseudonym", "email": "null", "phone": "null", "address": "null"}'),
	('client', 'photos', 'client_id', 'delete', NULL),
	('client', 'bookings', 'client_id', 'anonymize', '{"address": {"constant": ""}, "notes": {"constant": ""}}'),
	('client', 'booking_prices', 'client_id', 'keep', NULL),
	('client', 'invoices', 'client_id', 'anonymize', '{"notes": {"constant": ""}}'),
	('client', 'invoice_items', 'client_id', 'anonymize', '{"description": {"constant": "Cleaning"}}'),
	('client', 'payments', 'client_id', 'keep', NULL),
	('client', 'referral_credits', 'client_id', 'keep', NULL),
	('client', 'leads', 'client_id', 'anonymize', '{"name": "pseudonym", "email": "null", "phone": "null", "address": "null"}'),
	('worker', 'workers', 'id', 'anonymize', '{"name": "pseudonym", "email": "null", "phone": "null", "team_id": "null"}'),
	('worker', 'worker_rates', 'worker_id', 'keep', NULL),
	('lead', 'leads', 'id', 'delete', '{"name": "pseudonym", "email": "null", "phone": "null", "address": "null"}')
) AS s (kind, rel, column_name, action, rules);
