-- A driver's way through an exclusive: activated, verified, completed. All of it
-- runs with the owner's rights after it was checked who asks, for drivers write
-- none of these tables; org_isolation holds the owner to the organization.

-- Past the time of the hold there is none to be voided.
CREATE FUNCTION merchant.release_reward(session uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (
		SELECT FROM merchant.exclusive_sessions AS s
		LEFT JOIN merchant.visits AS v ON v.org_id = s.org_id AND v.session_id = s.id
		WHERE s.org_id = ringfence.org_id() AND s.id = release_reward.session
			AND s.reward_nova > 0 AND s.redeem_until > now()
			AND (v.id IS NULL OR (s.state = 'CANCELED' AND v.redeemed_at IS NULL))) THEN
		PERFORM ringfence.void_pending(session);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.release_reward(uuid) FROM PUBLIC;
COMMENT ON FUNCTION merchant.release_reward(uuid) IS
	'gives the merchant back what was on hold for a session that has ended, unless a code may yet be redeemed, or was; for ringfence_owner''s functions';

CREATE FUNCTION merchant_v1.activate_exclusive(perk uuid, intent uuid) RETURNS merchant_v1.exclusive_sessions
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	driver CONSTANT uuid := merchant.require_driver();
	session CONSTANT uuid := ringfence.uuid7();
	verified_at timestamptz;
	present record;
	rules record;
	offer record;
	seller_paused boolean;
	captured record;
	hold_for interval;
BEGIN
	-- A driver's activations come one after the other.
	SELECT d.phone_verified_at INTO verified_at
	FROM merchant.drivers AS d
	WHERE d.org_id = org AND d.id = driver
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'driver not found' USING ERRCODE = 'PT404';
	END IF;
	IF verified_at IS NULL THEN
		RAISE EXCEPTION 'phone number is not verified' USING ERRCODE = 'PT403';
	END IF;

	-- Shared with other activations, and in the way of whoever pauses.
	SELECT s.paused, s.intent_minutes, s.session_minutes, s.visit_minutes INTO rules
	FROM merchant.settings AS s
	WHERE s.org_id = org
	FOR SHARE;
	SELECT p.merchant_id, p.exclusive, p.active, p.reward_nova, p.price_nova INTO offer
	FROM merchant.perks AS p
	WHERE p.org_id = org AND p.id = activate_exclusive.perk;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'exclusive not found' USING ERRCODE = 'PT404';
	END IF;
	SELECT m.paused INTO seller_paused
	FROM merchant.merchants AS m
	WHERE m.org_id = org AND m.id = offer.merchant_id
	FOR SHARE;
	SELECT p.merchant_id, p.exclusive, p.active, p.reward_nova, p.price_nova INTO offer
	FROM merchant.perks AS p
	WHERE p.org_id = org AND p.id = activate_exclusive.perk
	FOR SHARE;

	SELECT s.id, s.perk_id, s.expires_at INTO present
	FROM merchant.exclusive_sessions AS s
	WHERE s.org_id = org AND s.driver_id = driver AND s.state = 'ACTIVE'
	FOR NO KEY UPDATE;
	IF FOUND AND present.expires_at > now() THEN
		IF present.perk_id = activate_exclusive.perk THEN
			RETURN (SELECT s FROM merchant_v1.exclusive_sessions AS s WHERE s.org_id = org AND s.id = present.id);
		END IF;
		RAISE EXCEPTION 'another exclusive is active'
			USING ERRCODE = 'PT409', HINT = 'Complete it first.';
	ELSIF FOUND THEN
		UPDATE merchant.exclusive_sessions AS s
		SET state = 'EXPIRED', ended_at = s.expires_at
		WHERE s.org_id = org AND s.id = present.id;
		PERFORM merchant.release_reward(present.id);
	END IF;

	IF rules.paused THEN
		RAISE EXCEPTION 'exclusives are paused'
			USING ERRCODE = 'PT503', DETAIL = 'The operator has stopped all activations for now.';
	ELSIF NOT offer.exclusive THEN
		RAISE EXCEPTION 'perk is not an exclusive' USING ERRCODE = 'PT409';
	ELSIF NOT offer.active THEN
		RAISE EXCEPTION 'exclusive is not active' USING ERRCODE = 'PT409';
	ELSIF seller_paused THEN
		RAISE EXCEPTION 'merchant is paused' USING ERRCODE = 'PT409';
	END IF;

	-- A reward is on hold until its code is redeemed or not good any more: who could
	-- have several would tie up a merchant's whole budget.
	IF EXISTS (
		SELECT FROM merchant.visits AS v
		INNER JOIN merchant.exclusive_sessions AS s ON s.org_id = v.org_id AND s.id = v.session_id
		WHERE v.org_id = org AND v.driver_id = driver AND v.redeemed_at IS NULL AND v.expires_at > now()
			AND s.state <> 'CANCELED') THEN
		RAISE EXCEPTION 'a code is not redeemed yet'
			USING ERRCODE = 'PT409', HINT = 'Have it redeemed, or wait until it expires.';
	END IF;

	SELECT i.charger_id, i.created_at INTO captured
	FROM merchant.intents AS i
	WHERE i.org_id = org AND i.id = activate_exclusive.intent AND i.driver_id = driver;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'intent not found' USING ERRCODE = 'PT404';
	ELSIF captured.created_at <= now() - make_interval(mins => rules.intent_minutes) THEN
		RAISE EXCEPTION 'intent is too old'
			USING ERRCODE = 'PT409', HINT = 'Call capture_intent() again.';
	ELSIF EXISTS (
		SELECT FROM merchant.exclusive_sessions AS s
		WHERE s.org_id = org AND s.intent_id = activate_exclusive.intent) THEN
		RAISE EXCEPTION 'intent was used'
			USING ERRCODE = 'PT409', HINT = 'Call capture_intent() again.';
	ELSIF captured.charger_id IS NULL THEN
		RAISE EXCEPTION 'no charger is near' USING ERRCODE = 'PT409';
	ELSIF NOT EXISTS (
		SELECT FROM merchant.charger_places AS b
		INNER JOIN merchant.claims AS c ON c.org_id = org AND c.place_id = b.place_id
		WHERE b.charger_id = captured.charger_id AND c.merchant_id = offer.merchant_id) THEN
		RAISE EXCEPTION 'merchant is not beside that charger' USING ERRCODE = 'PT409';
	END IF;

	INSERT INTO merchant.exclusive_sessions (org_id, id, driver_id, merchant_id, perk_id, intent_id, charger_id,
		reward_nova, price_nova, activated_at, expires_at, redeem_until)
	VALUES (org, session, driver, offer.merchant_id, activate_exclusive.perk, activate_exclusive.intent,
		captured.charger_id, offer.reward_nova, offer.price_nova, now(),
		now() + make_interval(mins => rules.session_minutes),
		now() + make_interval(mins => rules.session_minutes + rules.visit_minutes));
	IF offer.reward_nova > 0 THEN
		-- A minute more, for a redemption at the last moment.
		hold_for := make_interval(mins => rules.session_minutes + rules.visit_minutes + 1);
		PERFORM merchant.post_nova('driver_earn', offer.reward_nova, driver, offer.merchant_id,
			id => session, details => jsonb_build_object('session', session), hold_for => hold_for);
	END IF;
	RETURN (SELECT s FROM merchant_v1.exclusive_sessions AS s WHERE s.org_id = org AND s.id = session);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.activate_exclusive(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.activate_exclusive(uuid, uuid) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.activate_exclusive(uuid, uuid) IS 'Activate an exclusive
By drivers whose phone number is verified, with an intent captured beside a charger of the merchant''s. Answers with the session; again while it lasts, with the same session. The merchant''s reward is on hold from then on. 404 exclusive or intent not found; 403 not a driver, number not verified; 409 another exclusive is active, this one is not, its merchant is paused or not beside the charger, no charger is near, the intent is too old or was used, a code of the driver''s is not redeemed yet, or the merchant''s budget does not cover the reward; 503 all activations are paused.';

CREATE FUNCTION merchant_v1.active_exclusive() RETURNS SETOF merchant_v1.exclusive_sessions
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT s.org_id, s.id, s.driver_id, s.merchant_id, s.perk_id, s.intent_id, s.charger_id, s.state,
		s.reward_nova, s.price_nova, s.activated_at, s.expires_at, s.redeem_until, s.ended_at
	FROM merchant_v1.exclusive_sessions AS s
	WHERE s.org_id = ringfence.org_id() AND s.driver_id = ringfence.party_id('driver') AND s.state = 'ACTIVE';
END;
REVOKE EXECUTE ON FUNCTION merchant_v1.active_exclusive() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.active_exclusive() TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.active_exclusive() IS 'The session that is active now
Of the driver who asks; GET will do. An array of one session or none: one whose time is over is none.';

-- The driver's own session, locked; or anybody's, for the office.
CREATE FUNCTION merchant.lock_session(session uuid, office boolean) RETURNS merchant.exclusive_sessions
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	driver uuid;
	present merchant.exclusive_sessions;
BEGIN
	IF NOT (office AND ringfence.has_role('owner', 'admin')) THEN
		driver := merchant.require_driver();
	END IF;
	SELECT s.org_id, s.id, s.driver_id, s.merchant_id, s.perk_id, s.intent_id, s.charger_id, s.state,
		s.reward_nova, s.price_nova, s.activated_at, s.expires_at, s.redeem_until, s.ended_at INTO present
	FROM merchant.exclusive_sessions AS s
	WHERE s.org_id = ringfence.org_id() AND s.id = lock_session.session
		AND (driver IS NULL OR s.driver_id = driver)
	FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'session not found' USING ERRCODE = 'PT404';
	END IF;
	RETURN present;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.lock_session(uuid, boolean) FROM PUBLIC;
COMMENT ON FUNCTION merchant.lock_session(uuid, boolean) IS
	'locks a session of the driver who calls, or, where the office may, of anybody, and returns it; 42501, PT404; for ringfence_owner''s functions';

CREATE FUNCTION merchant_v1.complete_exclusive(session uuid) RETURNS merchant_v1.exclusive_sessions
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	present merchant.exclusive_sessions;
BEGIN
	present := merchant.lock_session(complete_exclusive.session, true);
	IF present.state <> 'COMPLETED' THEN
		present.state := merchant.session_state(present.state, present.expires_at);
		IF present.state <> 'ACTIVE' THEN
			RAISE EXCEPTION 'a session that is % cannot become %', present.state, 'COMPLETED' USING ERRCODE = 'PT409';
		END IF;
		UPDATE merchant.exclusive_sessions AS s
		SET state = 'COMPLETED', ended_at = greatest(now(), s.activated_at)
		WHERE s.org_id = org AND s.id = present.id;
		PERFORM merchant.release_reward(present.id);
	END IF;
	RETURN (SELECT s FROM merchant_v1.exclusive_sessions AS s WHERE s.org_id = org AND s.id = present.id);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.complete_exclusive(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.complete_exclusive(uuid) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.complete_exclusive(uuid) IS 'Complete the active session
By its driver, owner, admin. Answers with the session; again, with the same. A code that was given stays good; without one the reward''s hold ends. 404 not found, or another driver''s; 403 not allowed; 409 expired or canceled.';

CREATE FUNCTION merchant_v1.verify_visit(session uuid) RETURNS merchant_v1.visits
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	present merchant.exclusive_sessions;
	visit uuid;
	tags text;
	good_until timestamptz;
BEGIN
	present := merchant.lock_session(verify_visit.session, false);
	SELECT v.id INTO visit FROM merchant.visits AS v WHERE v.org_id = org AND v.session_id = present.id;
	IF NOT FOUND THEN
		present.state := merchant.session_state(present.state, present.expires_at);
		IF present.state <> 'ACTIVE' THEN
			RAISE EXCEPTION 'session is %', present.state USING ERRCODE = 'PT409';
		END IF;
		SELECT z.tag || '-' || m.tag, least(now() + make_interval(mins => s.visit_minutes), present.redeem_until)
		INTO tags, good_until
		FROM merchant.merchants AS m
		INNER JOIN merchant.zones AS z ON z.org_id = m.org_id AND z.id = m.zone_id
		INNER JOIN merchant.settings AS s ON s.org_id = m.org_id
		WHERE m.org_id = org AND m.id = present.merchant_id;
		visit := ringfence.uuid7();
		INSERT INTO merchant.visits (org_id, id, session_id, driver_id, merchant_id, verified_at, expires_at)
		VALUES (org, visit, present.id, present.driver_id, present.merchant_id, now(), good_until);
		LOOP
			INSERT INTO merchant.visit_codes (org_id, visit_id, driver_id, code)
			VALUES (org, visit, present.driver_id, tags || '-' || merchant.random_tail())
			ON CONFLICT ON CONSTRAINT visit_codes_code_key DO NOTHING;
			EXIT WHEN FOUND;
		END LOOP;
	END IF;
	RETURN (SELECT v FROM merchant_v1.visits AS v WHERE v.org_id = org AND v.id = visit);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.verify_visit(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.verify_visit(uuid) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.verify_visit(uuid) IS 'Get the code of a visit
By the driver of an active session. Answers with the visit and the code to show the merchant; again, with the same. 404 not found, or another driver''s; 403 not a driver; 409 the session is over and had no visit.';
