-- Whom rows are about, and what an erasure makes of them. Nova that moved stays in
-- the ledger, under the id of somebody who has no name any more.

-- Holds that are there end here: a code that could have been redeemed goes with the
-- driver, and the merchant shall not wait for it. Locks in the order of the app.
CREATE FUNCTION merchant.end_driver(driver uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	session record;
BEGIN
	PERFORM 1 FROM merchant.drivers AS d WHERE d.org_id = org AND d.id = end_driver.driver FOR UPDATE;
	FOR session IN
		SELECT s.id, s.state, s.redeem_until
		FROM merchant.exclusive_sessions AS s
		WHERE s.org_id = org AND s.driver_id = end_driver.driver
		ORDER BY s.id
		FOR UPDATE
	LOOP
		PERFORM 1 FROM merchant.visits AS v WHERE v.org_id = org AND v.session_id = session.id FOR UPDATE;
		IF session.state = 'ACTIVE' THEN
			UPDATE merchant.exclusive_sessions AS s
			SET state = 'CANCELED', ended_at = greatest(now(), s.activated_at)
			WHERE s.org_id = org AND s.id = session.id;
		END IF;
		IF session.redeem_until > now() AND EXISTS (
			SELECT FROM ringfence_data.ledger_holds AS h WHERE h.org_id = org AND h.id = session.id) THEN
			PERFORM ringfence.void_pending(session.id);
		END IF;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.end_driver(uuid) FROM PUBLIC;
COMMENT ON FUNCTION merchant.end_driver(uuid) IS
	'ends the active session of a driver who is to be forgotten, and gives merchants back what is on hold for that driver; for erase_subject()';

SELECT ringfence.on_erase('driver', 'merchant.end_driver(uuid)');

SELECT ringfence.declare_subject('driver', format('merchant.%I', s.rel)::regclass, s.column_name, s.action, s.rules::jsonb,
	s.purpose, s.column_name = 'id')
FROM (VALUES
	('drivers', 'id', 'anonymize', '{"name": "pseudonym", "phone": "null", "phone_verified_at": "null"}', NULL),
	('favorites', 'driver_id', 'delete', NULL, NULL),
	('visit_codes', 'driver_id', 'delete', NULL, NULL),
	('visits', 'driver_id', 'anonymize', '{"driver_id": "null"}', NULL),
	('exclusive_sessions', 'driver_id', 'anonymize', '{"driver_id": "null", "intent_id": "null", "charger_id": "null"}', NULL),
	-- Of one who only withdraws the consent to it, sessions still reference some.
	('intents', 'driver_id', 'delete', '{"lat": "null", "lng": "null", "charger_id": "null", "charger_distance_m": "null"}', 'location')
) AS s (rel, column_name, action, rules, purpose);
