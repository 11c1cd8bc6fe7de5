-- What the operator does: sets up, pauses, ends sessions, sells and grants Nova.
-- All of it runs with the owner's rights after it was checked who asks.

CREATE FUNCTION merchant.give_reason(reason text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before CONSTANT text := current_setting('ringfence.reason');
BEGIN
	IF coalesce(reason, '') !~ '\S' THEN
		RAISE EXCEPTION 'reason is required' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM set_config('ringfence.reason', reason, true);
	RETURN before;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.give_reason(text) FROM PUBLIC;
COMMENT ON FUNCTION merchant.give_reason(text) IS
	'has the audit log say why, from here on, and returns what it would have said, to be set again; 22023 without a reason; for ringfence_owner''s functions';

CREATE FUNCTION merchant_v1.setup() RETURNS merchant_v1.settings
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	PERFORM merchant.setup_org();
	RETURN (SELECT s FROM merchant_v1.settings AS s WHERE s.org_id = ringfence.org_id());
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.setup() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.setup() TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.setup() IS 'Set the organization up
By owner and admin. Makes its settings and its Nova accounts unless they are there, as its first driver or merchant does. Answers with the settings. 403 not allowed.';

CREATE FUNCTION merchant_v1.claim_place(place text, zone uuid, tag text, name text DEFAULT NULL)
RETURNS merchant_v1.merchants
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	seller CONSTANT uuid := ringfence.uuid7();
	place_name text;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	SELECT p.name INTO place_name FROM merchant.places AS p WHERE p.id = claim_place.place;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'place not found' USING ERRCODE = 'PT404';
	END IF;
	IF NOT EXISTS (SELECT FROM merchant.zones AS z WHERE z.org_id = org AND z.id = claim_place.zone) THEN
		RAISE EXCEPTION 'zone not found' USING ERRCODE = 'PT404';
	END IF;
	INSERT INTO merchant.merchants (org_id, id, zone_id, name, tag)
	VALUES (org, seller, claim_place.zone, coalesce(claim_place.name, place_name), claim_place.tag);
	INSERT INTO merchant.claims (org_id, place_id, merchant_id)
	VALUES (org, claim_place.place, seller)
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'place is claimed already' USING ERRCODE = 'PT409';
	END IF;
	RETURN (SELECT m FROM merchant_v1.merchants AS m WHERE m.org_id = org AND m.id = seller);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.claim_place(text, uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.claim_place(text, uuid, text, text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.claim_place(text, uuid, text, text) IS 'Make a merchant of a place
By owner and admin. The merchant is called like the place unless a name is given, and gets a budget of no Nova. A further place of a merchant is added to claims. Answers with the merchant. 404 place or zone not found; 403 not allowed; 409 the place is claimed, or the tag taken; 400 bad tag or name.';

CREATE FUNCTION merchant.set_paused(seller uuid, paused boolean, reason text) RETURNS merchant_v1.merchants
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	before text;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	before := merchant.give_reason(reason);
	PERFORM 1 FROM merchant.merchants AS m WHERE m.org_id = org AND m.id = seller FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'merchant not found' USING ERRCODE = 'PT404';
	END IF;
	UPDATE merchant.merchants AS m
	SET paused = set_paused.paused
	WHERE m.org_id = org AND m.id = seller AND m.paused <> set_paused.paused;
	PERFORM set_config('ringfence.reason', before, true);
	RETURN (SELECT m FROM merchant_v1.merchants AS m WHERE m.org_id = org AND m.id = seller);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.set_paused(uuid, boolean, text) FROM PUBLIC;
COMMENT ON FUNCTION merchant.set_paused(uuid, boolean, text) IS
	'pause_merchant() and resume_merchant(), called with the owner''s rights; 42501, 22023, PT404';

CREATE FUNCTION merchant_v1.pause_merchant(merchant uuid, reason text) RETURNS merchant_v1.merchants
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN merchant.set_paused(pause_merchant.merchant, true, pause_merchant.reason);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.pause_merchant(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.pause_merchant(uuid, text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.pause_merchant(uuid, text) IS 'Pause a merchant
By owner and admin. From then on its exclusives can''t be activated; sessions under way go on. Answers with the merchant, also when it was paused. The reason is on record in the audit log. 404 not found; 403 not allowed; 400 without a reason.';

CREATE FUNCTION merchant_v1.resume_merchant(merchant uuid, reason text) RETURNS merchant_v1.merchants
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN merchant.set_paused(resume_merchant.merchant, false, resume_merchant.reason);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.resume_merchant(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.resume_merchant(uuid, text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.resume_merchant(uuid, text) IS 'End a merchant''s pause
By owner and admin. Answers with the merchant, also when it was not paused. 404 not found; 403 not allowed; 400 without a reason.';

CREATE FUNCTION merchant.set_emergency(paused boolean, reason text) RETURNS merchant_v1.settings
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	before text;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	before := merchant.give_reason(reason);
	PERFORM merchant.setup_org();
	UPDATE merchant.settings AS s
	SET paused = set_emergency.paused
	WHERE s.org_id = org AND s.paused <> set_emergency.paused;
	PERFORM set_config('ringfence.reason', before, true);
	RETURN (SELECT s FROM merchant_v1.settings AS s WHERE s.org_id = org);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.set_emergency(boolean, text) FROM PUBLIC;
COMMENT ON FUNCTION merchant.set_emergency(boolean, text) IS
	'emergency_pause() and emergency_resume(), called with the owner''s rights; 42501, 22023';

CREATE FUNCTION merchant_v1.emergency_pause(reason text) RETURNS merchant_v1.settings
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN merchant.set_emergency(true, emergency_pause.reason);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.emergency_pause(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.emergency_pause(text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.emergency_pause(text) IS 'Stop all activations of the organization
By owner and admin. Waits for activations under way; those that come after are refused (503). Everything else goes on. Answers with the settings, also when it was paused. The reason is on record in the audit log. 403 not allowed; 400 without a reason.';

CREATE FUNCTION merchant_v1.emergency_resume(reason text) RETURNS merchant_v1.settings
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN merchant.set_emergency(false, emergency_resume.reason);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.emergency_resume(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.emergency_resume(text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.emergency_resume(text) IS 'Allow activations again
By owner and admin. Merchants that are paused stay so. Answers with the settings, also when it was not paused. 403 not allowed; 400 without a reason.';

CREATE FUNCTION merchant_v1.toggle_exclusive(perk uuid, active boolean) RETURNS merchant_v1.perks
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF toggle_exclusive.active IS NULL THEN
		RAISE EXCEPTION 'active is true or false' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	UPDATE merchant.perks AS p
	SET active = toggle_exclusive.active
	WHERE p.org_id = ringfence.org_id() AND p.id = toggle_exclusive.perk AND p.exclusive;
	IF NOT FOUND THEN
		IF EXISTS (
			SELECT FROM merchant.perks AS p
			WHERE p.org_id = ringfence.org_id() AND p.id = toggle_exclusive.perk AND p.exclusive) THEN
			RAISE EXCEPTION 'not allowed to change this exclusive' USING ERRCODE = 'insufficient_privilege';
		END IF;
		RAISE EXCEPTION 'exclusive not found' USING ERRCODE = 'PT404';
	END IF;
	RETURN (SELECT p FROM merchant_v1.perks AS p WHERE p.org_id = ringfence.org_id() AND p.id = toggle_exclusive.perk);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.toggle_exclusive(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.toggle_exclusive(uuid, boolean) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.toggle_exclusive(uuid, boolean) IS 'Switch an exclusive on or off
By owner and admin, and by a merchant the own ones. Sessions under way go on. Answers with the perk, also when it was so already. 404 not found; 403 not allowed.';

CREATE FUNCTION merchant_v1.force_close_sessions(reason text, merchant uuid DEFAULT NULL, driver uuid DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	before text;
	session uuid;
	closed integer := 0;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	before := merchant.give_reason(reason);
	FOR session IN
		SELECT s.id
		FROM merchant.exclusive_sessions AS s
		WHERE s.org_id = org AND s.state = 'ACTIVE' AND s.expires_at > now()
			AND (force_close_sessions.merchant IS NULL OR s.merchant_id = force_close_sessions.merchant)
			AND (force_close_sessions.driver IS NULL OR s.driver_id = force_close_sessions.driver)
		ORDER BY s.id
		FOR NO KEY UPDATE
	LOOP
		UPDATE merchant.exclusive_sessions AS s
		SET state = 'CANCELED', ended_at = greatest(now(), s.activated_at)
		WHERE s.org_id = org AND s.id = session;
		PERFORM merchant.release_reward(session);
		closed := closed + 1;
	END LOOP;
	PERFORM set_config('ringfence.reason', before, true);
	RETURN closed;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.force_close_sessions(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.force_close_sessions(text, uuid, uuid) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.force_close_sessions(text, uuid, uuid) IS 'End sessions that are active
By owner and admin: all of the organization, or those of a merchant or a driver. They become CANCELED, their codes are no good any more, and rewards on hold go back. Answers with their number. The reason is on record in the audit log. 403 not allowed; 400 without a reason.';

CREATE FUNCTION merchant_v1.grant_nova(amount bigint, reason text, driver uuid DEFAULT NULL, merchant uuid DEFAULT NULL)
RETURNS merchant_v1.nova
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	granted uuid;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	IF num_nonnulls(grant_nova.driver, grant_nova.merchant) <> 1 THEN
		RAISE EXCEPTION 'a grant is for a driver or for a merchant' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF grant_nova.driver IS NOT NULL AND NOT EXISTS (
		SELECT FROM merchant.drivers AS d WHERE d.org_id = org AND d.id = grant_nova.driver) THEN
		RAISE EXCEPTION 'driver not found' USING ERRCODE = 'PT404';
	ELSIF grant_nova.merchant IS NOT NULL AND NOT EXISTS (
		SELECT FROM merchant.merchants AS m WHERE m.org_id = org AND m.id = grant_nova.merchant) THEN
		RAISE EXCEPTION 'merchant not found' USING ERRCODE = 'PT404';
	END IF;
	granted := merchant.post_nova('admin_grant', grant_nova.amount, grant_nova.driver, grant_nova.merchant,
		reference => grant_nova.reason);
	RETURN (SELECT n FROM merchant_v1.nova AS n WHERE n.org_id = org AND n.id = granted);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.grant_nova(bigint, text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.grant_nova(bigint, text, uuid, uuid) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.grant_nova(bigint, text, uuid, uuid) IS 'Grant Nova to a driver or a merchant
By owner and admin. The request must bring an Idempotency-Key, and the grant a reason of at most 255 bytes, which whoever gets it reads. Answers with the transfer. 404 driver or merchant not found; 403 not allowed; 400 no key, no reason, bad amount, both parties or none.';
SELECT ringfence.require_idempotency_key('POST', '/rpc/grant_nova');

CREATE FUNCTION merchant_v1.topup_merchant(merchant uuid, amount bigint, payment_id text) RETURNS merchant_v1.nova
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	bought uuid;
BEGIN
	IF ringfence.actor() <> 'job' THEN
		PERFORM ringfence_data.require_role('owner', 'admin');
	END IF;
	IF NOT EXISTS (
		SELECT FROM merchant.merchants AS m WHERE m.org_id = org AND m.id = topup_merchant.merchant) THEN
		RAISE EXCEPTION 'merchant not found' USING ERRCODE = 'PT404';
	END IF;
	bought := merchant.post_nova('merchant_topup', topup_merchant.amount, NULL, topup_merchant.merchant,
		reference => topup_merchant.payment_id, id => merchant.transfer_id('merchant_topup ' || topup_merchant.payment_id));
	RETURN (SELECT n FROM merchant_v1.nova AS n WHERE n.org_id = org AND n.id = bought);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.topup_merchant(uuid, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.topup_merchant(uuid, bigint, text) TO ringfence_member, ringfence_jobs;
COMMENT ON FUNCTION merchant_v1.topup_merchant(uuid, bigint, text) IS 'Record that a merchant bought Nova
By owner and admin, and by jobs that entered the organization. payment_id is the payment''s, at most 255 bytes: the same again with the same content answers with the transfer made first. Answers with the transfer. 404 merchant not found; 403 not allowed; 400 no payment id, bad amount; 409 the payment id stands for another top-up.';
