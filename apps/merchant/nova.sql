-- Nova: what its types are, and the one way in which the app posts it. Balances
-- are the ledger's.

CREATE TABLE merchant.nova_types (
	type text NOT NULL,
	driver boolean NOT NULL,
	merchant boolean NOT NULL,
	debit text NOT NULL,
	credit text NOT NULL,
	who text[] NOT NULL,
	reference text,
	idempotency text NOT NULL,
	comment text NOT NULL,
	PRIMARY KEY (type, driver, merchant),
	CONSTRAINT nova_types_type_check
		CHECK (type IN ('driver_earn', 'driver_redeem', 'merchant_topup', 'admin_grant')),
	CONSTRAINT nova_types_debit_check
		CHECK (debit IN ('driver:{driver}', 'merchant:{merchant}', 'nova.sold', 'nova.rewards', 'nova.grants')
			AND (driver OR debit <> 'driver:{driver}') AND (merchant OR debit <> 'merchant:{merchant}')),
	CONSTRAINT nova_types_credit_check
		CHECK (credit IN ('driver:{driver}', 'merchant:{merchant}') AND credit <> debit
			AND (driver OR credit <> 'driver:{driver}') AND (merchant OR credit <> 'merchant:{merchant}')),
	CONSTRAINT nova_types_who_check CHECK (cardinality(who) > 0)
);
COMMENT ON TABLE merchant.nova_types IS
	'The types of Nova transfers, by the parties that they name: from which account to which, who may post them, and what makes a repetition harmless. post_nova() goes by these rows, and nova_verify() compares the ledger with them.';
COMMENT ON COLUMN merchant.nova_types.type IS 'driver_earn, driver_redeem, merchant_topup or admin_grant: the kind of the transfer';
COMMENT ON COLUMN merchant.nova_types.driver IS 'whether a driver is named';
COMMENT ON COLUMN merchant.nova_types.merchant IS 'whether a merchant is named';
COMMENT ON COLUMN merchant.nova_types.debit IS 'the account that is debited; {driver} and {merchant} stand for the ids of those named';
COMMENT ON COLUMN merchant.nova_types.credit IS 'the account that is credited';
COMMENT ON COLUMN merchant.nova_types.who IS 'roles that may post it; job stands for jobs that entered the organization';
COMMENT ON COLUMN merchant.nova_types.reference IS 'what its reference must be; NULL if it needs none';
COMMENT ON COLUMN merchant.nova_types.idempotency IS 'why a repetition moves nothing';
COMMENT ON COLUMN merchant.nova_types.comment IS 'what it is for';
INSERT INTO merchant.nova_types (type, driver, merchant, debit, credit, who, reference, idempotency, comment) VALUES
	('driver_earn', true, true, 'merchant:{merchant}', 'driver:{driver}', '{driver,merchant}', NULL,
		'on hold under the session''s id, posted with its visit, which is redeemed once',
		'the merchant''s reward for a redeemed visit, out of its budget'),
	('driver_earn', true, false, 'nova.rewards', 'driver:{driver}', '{merchant}', NULL,
		'posted with a visit, which is redeemed once',
		'the operator''s bonus for a redeemed visit, an expense; once a day for a driver at a merchant'),
	('driver_redeem', true, true, 'driver:{driver}', 'merchant:{merchant}', '{merchant}', NULL,
		'has the visit''s id',
		'the price of a perk, paid when the visit is redeemed'),
	('merchant_topup', false, true, 'nova.sold', 'merchant:{merchant}', '{owner,admin,job}', 'payment id',
		'has an id made of the payment''s',
		'Nova that a merchant bought for its budget'),
	('admin_grant', true, false, 'nova.grants', 'driver:{driver}', '{owner,admin}', 'reason',
		'the request''s Idempotency-Key, which is required',
		'Nova that the operator gives a driver, an expense'),
	('admin_grant', false, true, 'nova.grants', 'merchant:{merchant}', '{owner,admin}', 'reason',
		'the request''s Idempotency-Key, which is required',
		'Nova that the operator gives a merchant, an expense');

-- The row of settings comes first: of two that set up an organization at the same
-- time, the second waits for it and finds all done.
CREATE FUNCTION merchant.setup_org() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM merchant.settings AS s WHERE s.org_id = ringfence.org_id()) THEN
		RETURN;
	END IF;
	INSERT INTO merchant.settings (org_id) VALUES (ringfence.org_id()) ON CONFLICT DO NOTHING;
	IF FOUND THEN
		PERFORM ringfence.open_asset('NOVA', 0, 'Nova');
		PERFORM ringfence.open_account('nova.sold', 'Nova sold to merchants', 'NOVA', 'asset');
		PERFORM ringfence.open_account('nova.rewards', 'Nova given for visits', 'NOVA', 'expense');
		PERFORM ringfence.open_account('nova.grants', 'Nova granted', 'NOVA', 'expense');
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.setup_org() FROM PUBLIC;
COMMENT ON FUNCTION merchant.setup_org() IS
	'settings of the organization of the context, and its asset and fixed accounts in the ledger, unless they are there; called with the owner''s rights';

CREATE FUNCTION merchant.open_wallet() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NEW.org_id IS DISTINCT FROM ringfence.org_id() THEN
		RAISE EXCEPTION 'a wallet is opened in the organization of the context'
			USING ERRCODE = 'insufficient_privilege', HINT = 'Set the context to that of the row first.';
	END IF;
	PERFORM merchant.setup_org();
	PERFORM ringfence.open_account(
		TG_ARGV[0] || ':' || NEW.id,
		CASE TG_ARGV[0] WHEN 'driver' THEN 'Wallet of a driver' ELSE 'Budget of a merchant' END,
		'NOVA', 'liability', no_overdraft => true, party_kind => TG_ARGV[0], party_id => NEW.id);
	RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.open_wallet() FROM PUBLIC;
COMMENT ON FUNCTION merchant.open_wallet() IS
	'trigger: opens the Nova account of a new driver or merchant, as its argument says; 42501 outside the context of the row''s organization';

CREATE TRIGGER open_wallet AFTER INSERT ON merchant.drivers
FOR EACH ROW EXECUTE FUNCTION merchant.open_wallet('driver');
COMMENT ON TRIGGER open_wallet ON merchant.drivers IS 'opens the driver''s wallet in the ledger';
CREATE TRIGGER open_wallet AFTER INSERT ON merchant.merchants
FOR EACH ROW EXECUTE FUNCTION merchant.open_wallet('merchant');
COMMENT ON TRIGGER open_wallet ON merchant.merchants IS 'opens the merchant''s budget in the ledger';

CREATE FUNCTION merchant.nova_account(rule text, driver text, merchant text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN replace(replace(rule, '{driver}', coalesce(driver, '')), '{merchant}', coalesce(merchant, ''));
REVOKE EXECUTE ON FUNCTION merchant.nova_account(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant.nova_account(text, text, text) TO ringfence_jobs;
COMMENT ON FUNCTION merchant.nova_account(text, text, text) IS
	'the code of the account that a type''s rule names, for these parties';

-- Every Nova transfer of the app is made here, but for what becomes of a hold.
CREATE FUNCTION merchant.post_nova(
	type text,
	amount bigint,
	driver uuid,
	merchant uuid,
	reference text DEFAULT NULL,
	id uuid DEFAULT NULL,
	details jsonb DEFAULT '{}',
	hold_for interval DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rule record;
BEGIN
	SELECT t.debit, t.credit, t.who, t.reference INTO rule
	FROM merchant.nova_types AS t
	WHERE t.type = post_nova.type
		AND t.driver = (post_nova.driver IS NOT NULL) AND t.merchant = (post_nova.merchant IS NOT NULL);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'Nova of type "%" is not for these parties', type
			USING ERRCODE = 'invalid_parameter_value', HINT = 'merchant_v1.nova_types() lists which are.';
	END IF;
	IF NOT ringfence.has_role(VARIADIC rule.who) AND ringfence.actor() <> ALL (rule.who) THEN
		RAISE EXCEPTION 'not allowed to post Nova of type "%"', type
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = format('It takes one of the roles: %s.', array_to_string(rule.who, ', '));
	END IF;
	IF (amount > 0) IS NOT TRUE THEN
		RAISE EXCEPTION 'amount is not a positive number of Nova' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF rule.reference IS NOT NULL AND coalesce(reference, '') !~ '\S' THEN
		RAISE EXCEPTION '% is required', rule.reference USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF octet_length(reference) > 255 THEN
		RAISE EXCEPTION '% is too long', rule.reference
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It has more than 255 bytes.';
	END IF;
	RETURN ringfence.transfer(
		debit_account_id => ringfence.account(merchant.nova_account(rule.debit, driver::text, merchant::text)),
		credit_account_id => ringfence.account(merchant.nova_account(rule.credit, driver::text, merchant::text)),
		amount => amount,
		kind => type,
		id => id,
		asset => 'NOVA',
		reference => reference,
		metadata => details || jsonb_strip_nulls(jsonb_build_object('driver', driver, 'merchant', merchant)),
		pending => hold_for IS NOT NULL,
		timeout => hold_for);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.post_nova(text, bigint, uuid, uuid, text, uuid, jsonb, interval) FROM PUBLIC;
COMMENT ON FUNCTION merchant.post_nova(text, bigint, uuid, uuid, text, uuid, jsonb, interval) IS
	'posts Nova by the rule of its type and the parties given, or puts it on hold for a while; returns the transfer''s id; metadata are the details and the parties; called with the owner''s rights; 42501, 22023, PT409 and what else the ledger refuses';

-- An id for a transfer, out of what must not happen twice (RFC 9562, version 8).
CREATE FUNCTION merchant.transfer_id(what text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT encode(
		set_byte(set_byte(h.hash, 6, get_byte(h.hash, 6) & 15 | 128), 8, get_byte(h.hash, 8) & 63 | 128), 'hex')::uuid
	FROM (SELECT substr(sha256(convert_to(what, 'UTF8')), 1, 16) AS hash) AS h;
END;
REVOKE EXECUTE ON FUNCTION merchant.transfer_id(text) FROM PUBLIC;
COMMENT ON FUNCTION merchant.transfer_id(text) IS
	'an id that is always the same for the same text, so that the ledger knows a repetition';

-- row_security = off makes it fail where policies would have it find nothing.
CREATE FUNCTION merchant.nova_verify()
RETURNS TABLE (org_id uuid, problem text, object text, detail text)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
BEGIN
	RETURN QUERY
	SELECT t.org_id, 'type_broken', t.id::text,
		CASE
			WHEN y.type IS NULL THEN format('%s is no type of Nova for its parties', t.kind)
			ELSE format('%s goes from %s to %s', t.kind, d.code, c.code)
		END
	FROM ringfence_data.ledger_transfers AS t
	INNER JOIN ringfence_data.ledger_accounts AS d ON d.org_id = t.org_id AND d.id = t.debit_account_id
	INNER JOIN ringfence_data.ledger_accounts AS c ON c.org_id = t.org_id AND c.id = t.credit_account_id
	LEFT JOIN merchant.nova_types AS y
		ON y.type = t.kind AND y.driver = coalesce(t.metadata ? 'driver', false)
			AND y.merchant = coalesce(t.metadata ? 'merchant', false)
	WHERE t.asset = 'NOVA' AND t.state IN ('posted', 'pending') AND t.reverses_id IS NULL
		AND (
			d.code <> merchant.nova_account(y.debit, t.metadata ->> 'driver', t.metadata ->> 'merchant')
			OR c.code <> merchant.nova_account(y.credit, t.metadata ->> 'driver', t.metadata ->> 'merchant')
		) IS NOT FALSE
	UNION ALL
	SELECT p.org_id, 'wallet_missing', p.code, 'the party has no account of that code in the ledger'
	FROM (
		SELECT r.org_id, r.id, 'driver' AS kind, 'driver:' || r.id AS code FROM merchant.drivers AS r
		UNION ALL
		SELECT m.org_id, m.id, 'merchant', 'merchant:' || m.id FROM merchant.merchants AS m
	) AS p
	WHERE NOT EXISTS (
		SELECT FROM ringfence_data.ledger_accounts AS a
		WHERE a.org_id = p.org_id AND a.code = p.code AND a.asset = 'NOVA' AND a.kind = 'liability'
			AND a.no_overdraft AND a.credit_limit = 0 AND a.party_kind = p.kind AND a.party_id = p.id
	)
	UNION ALL
	SELECT a.org_id, 'party_missing', a.code, 'the account''s party is not there'
	FROM ringfence_data.ledger_accounts AS a
	INNER JOIN ringfence_data.orgs AS o ON o.id = a.org_id AND o.status <> 'deleted'
	WHERE a.asset = 'NOVA' AND a.party_id IS NOT NULL
		AND NOT EXISTS (
			SELECT FROM merchant.drivers AS r
			WHERE a.party_kind = 'driver' AND r.org_id = a.org_id AND r.id = a.party_id)
		AND NOT EXISTS (
			SELECT FROM merchant.merchants AS m
			WHERE a.party_kind = 'merchant' AND m.org_id = a.org_id AND m.id = a.party_id)
	UNION ALL
	SELECT s.org_id, 'hold_broken', s.id::text, 'the session''s hold in the ledger is not its reward'
	FROM merchant.exclusive_sessions AS s
	LEFT JOIN ringfence_data.ledger_transfers AS t ON t.org_id = s.org_id AND t.id = s.id
	WHERE s.reward_nova > 0
		AND (t.state = 'pending' AND t.kind = 'driver_earn' AND t.amount = s.reward_nova
			AND (s.driver_id IS NULL OR t.metadata ->> 'driver' = s.driver_id::text)
			AND t.metadata ->> 'merchant' = s.merchant_id::text) IS NOT TRUE
	UNION ALL
	SELECT v.org_id, 'visit_unpaid', v.id::text, 'the visit is redeemed, and its reward or price was not posted'
	FROM merchant.visits AS v
	INNER JOIN merchant.exclusive_sessions AS s ON s.org_id = v.org_id AND s.id = v.session_id
	WHERE v.redeemed_at IS NOT NULL
		AND (
			(s.reward_nova > 0 AND NOT EXISTS (
				SELECT FROM ringfence_data.ledger_transfers AS t
				WHERE t.org_id = v.org_id AND t.pending_id = s.id AND t.state = 'posted' AND t.amount = s.reward_nova))
			OR (s.price_nova > 0 AND NOT EXISTS (
				SELECT FROM ringfence_data.ledger_transfers AS t
				WHERE t.org_id = v.org_id AND t.id = v.id AND t.state = 'posted' AND t.kind = 'driver_redeem'
					AND t.amount = s.price_nova))
		);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.nova_verify() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant.nova_verify() TO ringfence_jobs;
COMMENT ON FUNCTION merchant.nova_verify() IS
	'where the ledger and the app disagree, of all organizations that are not deleted, and but for drivers that are forgotten: type_broken (a Nova transfer that breaks the rule of its type), wallet_missing, party_missing, hold_broken, visit_unpaid; no row where all is well; for a job, as ringfence_jobs or a superuser: 42501 for who does not see every row';
