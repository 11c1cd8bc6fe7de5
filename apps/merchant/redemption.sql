-- A merchant redeems a code. What is wrong with a code is answered, not raised: an
-- error would roll the count of wrong codes back with the rest. (So would a caller
-- who has the transaction fail on purpose. What keeps codes from being guessed is
-- that there are 2^60 of them; the count keeps honest errors from being many.)

CREATE TYPE merchant_v1.redemption AS (
	result text,
	visit_id uuid,
	session_id uuid,
	driver_id uuid,
	redeemed_at timestamptz,
	reward_nova bigint,
	bonus_nova bigint,
	price_nova bigint,
	attempts_left integer
);
COMMENT ON TYPE merchant_v1.redemption IS 'what redeem_visit() answers';
COMMENT ON COLUMN merchant_v1.redemption.result IS 'redeemed (200), already_redeemed, expired or canceled (409), not_found (404), too_many_attempts (429)';
COMMENT ON COLUMN merchant_v1.redemption.visit_id IS 'the visit; null if no code of the merchant''s is that';
COMMENT ON COLUMN merchant_v1.redemption.session_id IS 'its session';
COMMENT ON COLUMN merchant_v1.redemption.driver_id IS 'its driver';
COMMENT ON COLUMN merchant_v1.redemption.redeemed_at IS 'when it was redeemed';
COMMENT ON COLUMN merchant_v1.redemption.reward_nova IS 'what the driver got from the merchant';
COMMENT ON COLUMN merchant_v1.redemption.bonus_nova IS 'what the driver got from the operator';
COMMENT ON COLUMN merchant_v1.redemption.price_nova IS 'what the driver paid the merchant';
COMMENT ON COLUMN merchant_v1.redemption.attempts_left IS 'how many wrong codes may be tried before it is too many';

-- The reward was on hold and is certain; the price is asked of the wallet first,
-- so that one does not pay for the other.
CREATE FUNCTION merchant.pay_visit(visit uuid, session uuid, bonus bigint) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	details CONSTANT jsonb := jsonb_build_object('session', pay_visit.session, 'visit', pay_visit.visit);
	present record;
BEGIN
	SELECT s.driver_id, s.merchant_id, s.reward_nova, s.price_nova INTO present
	FROM merchant.exclusive_sessions AS s
	WHERE s.org_id = ringfence.org_id() AND s.id = pay_visit.session;
	IF present.price_nova > 0 THEN
		PERFORM merchant.post_nova('driver_redeem', present.price_nova, present.driver_id, present.merchant_id,
			id => visit, details => details);
	END IF;
	IF present.reward_nova > 0 THEN
		PERFORM ringfence.post_pending(session, kind => 'driver_earn', metadata => details
			|| jsonb_build_object('driver', present.driver_id, 'merchant', present.merchant_id));
	END IF;
	IF bonus > 0 THEN
		PERFORM merchant.post_nova('driver_earn', bonus, present.driver_id, NULL, details => details);
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.pay_visit(uuid, uuid, bigint) FROM PUBLIC;
COMMENT ON FUNCTION merchant.pay_visit(uuid, uuid, bigint) IS
	'posts the Nova of a visit that is redeemed: its price, its reward, a bonus; PT409 and what else the ledger refuses; for redeem_visit()';

-- The bonus is the operator's: not for a visit that a driver redeems alone, and once
-- a day for a driver at a merchant.
CREATE FUNCTION merchant.visit_bonus(driver uuid, merchant uuid, bonus bigint) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.party_id('driver') IS NOT DISTINCT FROM visit_bonus.driver OR EXISTS (
		SELECT FROM merchant.visits AS v
		WHERE v.org_id = ringfence.org_id() AND v.driver_id = visit_bonus.driver AND v.merchant_id = visit_bonus.merchant
			AND v.redeemed_at > now() - interval '1 day') THEN
		RETURN 0;
	END IF;
	RETURN bonus;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.visit_bonus(uuid, uuid, bigint) FROM PUBLIC;
COMMENT ON FUNCTION merchant.visit_bonus(uuid, uuid, bigint) IS
	'the operator''s bonus for a visit that is about to be redeemed; 0 if the driver redeems it, or had a visit redeemed there within a day; for redeem_visit()';

CREATE FUNCTION merchant_v1.redeem_visit(code text) RETURNS merchant_v1.redemption
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.org_id();
	seller CONSTANT uuid := ringfence.party_id('merchant');
	given CONSTANT text := upper(btrim(redeem_visit.code));
	rules record;
	attempts record;
	session record;
	visit record;
	answer merchant_v1.redemption;
BEGIN
	IF NOT ringfence.has_role('merchant') OR seller IS NULL THEN
		RAISE EXCEPTION 'only a merchant may do this' USING ERRCODE = 'insufficient_privilege';
	END IF;
	SELECT s.redeem_attempts, make_interval(mins => s.redeem_minutes) AS redeem_within, s.visit_bonus_nova INTO rules
	FROM merchant.settings AS s
	WHERE s.org_id = org;
	IF NOT FOUND OR NOT EXISTS (SELECT FROM merchant.merchants AS m WHERE m.org_id = org AND m.id = seller) THEN
		RAISE EXCEPTION 'merchant not found' USING ERRCODE = 'PT404';
	END IF;

	-- A merchant's redemptions come one after the other, or guesses made at the
	-- same time would count as one.
	INSERT INTO merchant.redemption_attempts (org_id, merchant_id) VALUES (org, seller) ON CONFLICT DO NOTHING;
	SELECT CASE WHEN a.since > now() - rules.redeem_within THEN a.failures ELSE 0 END AS failures, a.since INTO attempts
	FROM merchant.redemption_attempts AS a
	WHERE a.org_id = org AND a.merchant_id = seller
	FOR NO KEY UPDATE;
	answer.attempts_left := greatest(rules.redeem_attempts - attempts.failures, 0);
	IF answer.attempts_left = 0 THEN
		answer.result := 'too_many_attempts';
		PERFORM set_config('response.status', '429', true);
		PERFORM set_config('response.headers', (
			coalesce(nullif(current_setting('response.headers', true), ''), '[]')::jsonb || jsonb_build_object(
				'Retry-After', ceil(extract(epoch FROM attempts.since + rules.redeem_within - now()))::text))::text, true);
		RETURN answer;
	END IF;

	SELECT v.id, v.session_id INTO visit
	FROM merchant.visit_codes AS c
	INNER JOIN merchant.visits AS v ON v.org_id = c.org_id AND v.id = c.visit_id
	WHERE c.org_id = org AND c.code = given AND v.merchant_id = seller;
	IF NOT FOUND THEN
		UPDATE merchant.redemption_attempts AS a
		SET failures = attempts.failures + 1, since = CASE attempts.failures WHEN 0 THEN now() ELSE a.since END
		WHERE a.org_id = org AND a.merchant_id = seller;
		answer.attempts_left := answer.attempts_left - 1;
		answer.result := 'not_found';
		PERFORM set_config('response.status', '404', true);
		RETURN answer;
	END IF;

	SELECT s.state, s.driver_id, s.reward_nova, s.price_nova INTO session
	FROM merchant.exclusive_sessions AS s
	WHERE s.org_id = org AND s.id = visit.session_id
	FOR NO KEY UPDATE;
	SELECT v.id, v.session_id, v.redeemed_at, v.verified_at, v.expires_at INTO visit
	FROM merchant.visits AS v
	WHERE v.org_id = org AND v.id = visit.id
	FOR NO KEY UPDATE;
	answer.visit_id := visit.id;
	answer.session_id := visit.session_id;
	answer.driver_id := session.driver_id;
	answer.redeemed_at := visit.redeemed_at;
	answer.result := CASE
		WHEN visit.redeemed_at IS NOT NULL THEN 'already_redeemed'
		WHEN session.state = 'CANCELED' THEN 'canceled'
		WHEN visit.expires_at <= now() THEN 'expired'
		ELSE 'redeemed'
	END;
	IF answer.result <> 'redeemed' THEN
		PERFORM set_config('response.status', '409', true);
		RETURN answer;
	END IF;

	answer.redeemed_at := greatest(now(), visit.verified_at);
	answer.reward_nova := session.reward_nova;
	answer.bonus_nova := merchant.visit_bonus(session.driver_id, seller, rules.visit_bonus_nova);
	answer.price_nova := session.price_nova;
	UPDATE merchant.visits AS v
	SET redeemed_at = answer.redeemed_at
	WHERE v.org_id = org AND v.id = visit.id;
	PERFORM merchant.pay_visit(visit.id, visit.session_id, answer.bonus_nova);
	RETURN answer;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.redeem_visit(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.redeem_visit(text) TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.redeem_visit(text) IS 'Redeem a code that a driver shows
By merchants, their own codes. Pays the price out of the driver''s wallet, the reward that was on hold and the operator''s bonus into it. Answers with result: redeemed (200); already_redeemed, expired or canceled (409); not_found (404), which counts as an attempt; too_many_attempts (429, with Retry-After). 403 not a merchant; 404 as an error if there is no such merchant; 409 as an error if the wallet does not cover the price.';
