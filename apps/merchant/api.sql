-- What PostgREST serves. Every view reads with the caller's rights, and shows
-- org_id because the foreign keys that join them do.

CREATE FUNCTION merchant.session_state(state text, expires_at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN state = 'ACTIVE' AND expires_at <= now() THEN 'EXPIRED' ELSE state END;
REVOKE EXECUTE ON FUNCTION merchant.session_state(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant.session_state(text, timestamptz) TO ringfence_member;
COMMENT ON FUNCTION merchant.session_state(text, timestamptz) IS
	'the state of a session now: one whose time is over counts as EXPIRED before expire_sessions() says so';

CREATE VIEW merchant_v1.zones WITH (security_invoker = true) AS
SELECT z.org_id, z.id, z.tag, z.name, z.lat, z.lng, z.radius_m, z.created_at
FROM merchant.zones AS z;
GRANT SELECT, INSERT, UPDATE, DELETE ON merchant_v1.zones TO ringfence_member;

CREATE VIEW merchant_v1.settings WITH (security_invoker = true) AS
SELECT s.org_id, s.tier_a_m, s.tier_b_m, s.intent_minutes, s.session_minutes, s.visit_minutes, s.place_minutes,
	s.redeem_attempts, s.redeem_minutes, s.visit_bonus_nova, s.paused
FROM merchant.settings AS s;
GRANT SELECT, UPDATE ON merchant_v1.settings TO ringfence_member;

CREATE VIEW merchant_v1.chargers WITH (security_invoker = true) AS
SELECT c.id, c.name, c.lat, c.lng, c.source, c.active, c.updated_at
FROM merchant.chargers AS c;
GRANT SELECT ON merchant_v1.chargers TO ringfence_member;

CREATE VIEW merchant_v1.places WITH (security_invoker = true) AS
SELECT p.id, p.name, p.lat, p.lng, p.address, p.city, p.active, p.fetched_at
FROM merchant.places AS p;
GRANT SELECT ON merchant_v1.places TO ringfence_member;

CREATE VIEW merchant_v1.charger_places WITH (security_invoker = true) AS
SELECT c.charger_id, c.place_id
FROM merchant.charger_places AS c;
GRANT SELECT ON merchant_v1.charger_places TO ringfence_member;

CREATE VIEW merchant_v1.merchants WITH (security_invoker = true) AS
SELECT m.org_id, m.id, m.zone_id, m.name, m.tag, m.paused, m.created_at
FROM merchant.merchants AS m;
GRANT SELECT, INSERT, UPDATE ON merchant_v1.merchants TO ringfence_member;

CREATE VIEW merchant_v1.claims WITH (security_invoker = true) AS
SELECT c.org_id, c.place_id, c.merchant_id, c.claimed_at
FROM merchant.claims AS c;
GRANT SELECT, INSERT, DELETE ON merchant_v1.claims TO ringfence_member;

CREATE VIEW merchant_v1.perks WITH (security_invoker = true) AS
SELECT p.org_id, p.id, p.merchant_id, p.title, p.exclusive, p.active, p.reward_nova, p.price_nova, p.created_at
FROM merchant.perks AS p;
GRANT SELECT, INSERT, UPDATE ON merchant_v1.perks TO ringfence_member;

CREATE VIEW merchant_v1.drivers WITH (security_invoker = true) AS
SELECT d.org_id, d.id, d.name, d.phone, d.phone_verified_at, d.created_at
FROM merchant.drivers AS d;
GRANT SELECT, INSERT, UPDATE ON merchant_v1.drivers TO ringfence_member;

CREATE VIEW merchant_v1.favorites WITH (security_invoker = true) AS
SELECT f.org_id, f.driver_id, f.merchant_id, f.created_at
FROM merchant.favorites AS f;
GRANT SELECT, INSERT, DELETE ON merchant_v1.favorites TO ringfence_member;

CREATE VIEW merchant_v1.intents WITH (security_invoker = true) AS
SELECT i.org_id, i.id, i.driver_id, i.lat, i.lng, i.charger_id, i.charger_distance_m, i.tier, i.created_at
FROM merchant.intents AS i;
GRANT SELECT ON merchant_v1.intents TO ringfence_member;

CREATE VIEW merchant_v1.exclusive_sessions WITH (security_invoker = true) AS
SELECT s.org_id, s.id, s.driver_id, s.merchant_id, s.perk_id, s.intent_id, s.charger_id,
	merchant.session_state(s.state, s.expires_at) AS state, s.reward_nova, s.price_nova,
	s.activated_at, s.expires_at, s.redeem_until, s.ended_at
FROM merchant.exclusive_sessions AS s;
GRANT SELECT ON merchant_v1.exclusive_sessions TO ringfence_member;

CREATE VIEW merchant_v1.visits WITH (security_invoker = true) AS
SELECT v.org_id, v.id, v.session_id, v.driver_id, v.merchant_id, c.code, v.verified_at, v.expires_at, v.redeemed_at
FROM merchant.visits AS v
LEFT JOIN merchant.visit_codes AS c ON c.org_id = v.org_id AND c.visit_id = v.id;
GRANT SELECT ON merchant_v1.visits TO ringfence_member;

-- A policy that lets a party read its own rows among all leaves the planner to look
-- at all of them. So a party's own accounts are found first, and the planner knows
-- them, for they are constant within a statement. What may be seen is for the
-- ledger's policies all the same.
CREATE FUNCTION merchant.sees_all() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ringfence.has_role('owner', 'admin', 'accountant')
	OR (ringfence.party_id('driver') IS NULL AND ringfence.party_id('merchant') IS NULL);
REVOKE EXECUTE ON FUNCTION merchant.sees_all() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant.sees_all() TO ringfence_member;
COMMENT ON FUNCTION merchant.sees_all() IS
	'whether to look for more Nova accounts than the caller''s own; whether there are any to be seen is for the policies';

CREATE FUNCTION merchant.own_wallets(VARIADIC kinds text[]) RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(
		SELECT a.id
		FROM unnest(kinds) AS k (kind)
		INNER JOIN ringfence_data.ledger_accounts AS a
			ON a.org_id = ringfence.org_id() AND a.party_kind = k.kind AND a.party_id = ringfence.party_id(k.kind)
		WHERE a.asset = 'NOVA'
	);
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.own_wallets(VARIADIC text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant.own_wallets(VARIADIC text[]) TO ringfence_member;
COMMENT ON FUNCTION merchant.own_wallets(VARIADIC text[]) IS
	'the Nova accounts of the parties of these kinds that the caller is: driver, merchant';

CREATE VIEW merchant_v1.nova WITH (security_invoker = true) AS
SELECT t.org_id, t.id, t.kind AS type, t.amount,
	(coalesce(t.metadata, r.metadata) ->> 'driver')::uuid AS driver_id,
	(coalesce(t.metadata, r.metadata) ->> 'merchant')::uuid AS merchant_id,
	(coalesce(t.metadata, r.metadata) ->> 'visit')::uuid AS visit_id,
	t.reference, t.reverses_id, t.actor, t.posted_at
FROM (
	SELECT x.org_id, x.id, x.kind, x.amount, x.metadata, x.reference, x.reverses_id, x.actor, x.posted_at
	FROM ringfence_data.ledger_transfers AS x
	WHERE merchant.sees_all() AND x.asset = 'NOVA' AND x.state = 'posted'
	UNION ALL
	SELECT x.org_id, x.id, x.kind, x.amount, x.metadata, x.reference, x.reverses_id, x.actor, x.posted_at
	FROM ringfence_data.ledger_transfers AS x
	WHERE NOT merchant.sees_all() AND x.org_id = ringfence.org_id() AND x.state = 'posted'
		AND x.debit_account_id = ANY (merchant.own_wallets('driver', 'merchant'))
	UNION ALL
	SELECT x.org_id, x.id, x.kind, x.amount, x.metadata, x.reference, x.reverses_id, x.actor, x.posted_at
	FROM ringfence_data.ledger_transfers AS x
	WHERE NOT merchant.sees_all() AND x.org_id = ringfence.org_id() AND x.state = 'posted'
		AND x.credit_account_id = ANY (merchant.own_wallets('driver', 'merchant')) AND x.debit_account_id <> ALL (merchant.own_wallets('driver', 'merchant'))
) AS t
LEFT JOIN ringfence_data.ledger_transfers AS r ON r.org_id = t.org_id AND r.id = t.reverses_id;
GRANT SELECT ON merchant_v1.nova TO ringfence_member;

CREATE VIEW merchant_v1.wallet WITH (security_invoker = true) AS
SELECT a.org_id, a.id AS account_id, a.party_kind, a.party_id, b.balance, b.held, b.balance - b.held AS available, b.expected
FROM (
	SELECT x.org_id, x.id, x.party_kind, x.party_id
	FROM ringfence_data.ledger_accounts AS x
	WHERE merchant.sees_all() AND x.asset = 'NOVA' AND x.party_kind IN ('driver', 'merchant')
	UNION ALL
	SELECT x.org_id, x.id, x.party_kind, x.party_id
	FROM ringfence_data.ledger_accounts AS x
	WHERE NOT merchant.sees_all() AND x.org_id = ringfence.org_id() AND x.id = ANY (merchant.own_wallets('driver', 'merchant'))
) AS a
CROSS JOIN LATERAL (
	SELECT
		sum(s.credits - s.debits)::bigint AS balance,
		sum(s.debits_pending)::bigint AS held,
		sum(s.credits_pending)::bigint AS expected
	FROM ringfence_data.ledger_balances AS s
	WHERE s.org_id = a.org_id AND s.account_id = a.id
) AS b;
GRANT SELECT ON merchant_v1.wallet TO ringfence_member;

-- Nova that came to or left the wallet of the driver who asks, and what became of
-- that driver's sessions and visits.
CREATE VIEW merchant_v1.activity WITH (security_invoker = true) AS
SELECT e.org_id, ringfence.party_id('driver') AS driver_id, e.happened_at, e.event, e.nova, e.merchant_id, e.session_id, e.transfer_id
FROM (
	SELECT t.org_id, t.posted_at AS happened_at, t.kind COLLATE "default" AS event, -t.amount AS nova,
		(t.metadata ->> 'merchant')::uuid AS merchant_id, (t.metadata ->> 'session')::uuid AS session_id, t.id AS transfer_id
	FROM ringfence_data.ledger_transfers AS t
	WHERE t.org_id = ringfence.org_id() AND t.debit_account_id = ANY (merchant.own_wallets('driver')) AND t.state = 'posted'
	UNION ALL
	SELECT t.org_id, t.posted_at, t.kind COLLATE "default", t.amount,
		(t.metadata ->> 'merchant')::uuid, (t.metadata ->> 'session')::uuid, t.id
	FROM ringfence_data.ledger_transfers AS t
	WHERE t.org_id = ringfence.org_id() AND t.credit_account_id = ANY (merchant.own_wallets('driver')) AND t.state = 'posted'
	UNION ALL
	SELECT s.org_id, s.activated_at, 'activated', NULL, s.merchant_id, s.id, NULL
	FROM merchant.exclusive_sessions AS s
	WHERE s.org_id = ringfence.org_id() AND s.driver_id = ringfence.party_id('driver')
	UNION ALL
	SELECT s.org_id, coalesce(s.ended_at, s.expires_at), lower(merchant.session_state(s.state, s.expires_at)),
		NULL, s.merchant_id, s.id, NULL
	FROM merchant.exclusive_sessions AS s
	WHERE s.org_id = ringfence.org_id() AND s.driver_id = ringfence.party_id('driver')
		AND merchant.session_state(s.state, s.expires_at) <> 'ACTIVE'
	UNION ALL
	SELECT v.org_id, v.verified_at, 'verified', NULL, v.merchant_id, v.session_id, NULL
	FROM merchant.visits AS v
	WHERE v.org_id = ringfence.org_id() AND v.driver_id = ringfence.party_id('driver')
	UNION ALL
	SELECT v.org_id, v.redeemed_at, 'redeemed', NULL, v.merchant_id, v.session_id, NULL
	FROM merchant.visits AS v
	WHERE v.org_id = ringfence.org_id() AND v.driver_id = ringfence.party_id('driver') AND v.redeemed_at IS NOT NULL
) AS e;
GRANT SELECT ON merchant_v1.activity TO ringfence_member;

-- A driver reads merchants and no merchant's figures.
CREATE VIEW merchant_v1.analytics WITH (security_invoker = true) AS
SELECT m.org_id, m.id AS merchant_id, m.name, m.paused,
	s.activations, s.active, s.completed, s.expired, s.canceled, s.drivers, v.visits, v.redeemed,
	d.nova_given, c.nova_taken, c.nova_bought, c.nova_granted, b.balance, b.held
FROM merchant.merchants AS m
CROSS JOIN LATERAL (
	SELECT count(*) AS activations,
		count(*) FILTER (WHERE merchant.session_state(x.state, x.expires_at) = 'ACTIVE') AS active,
		count(*) FILTER (WHERE x.state = 'COMPLETED') AS completed,
		count(*) FILTER (WHERE merchant.session_state(x.state, x.expires_at) = 'EXPIRED') AS expired,
		count(*) FILTER (WHERE x.state = 'CANCELED') AS canceled,
		count(DISTINCT x.driver_id) AS drivers
	FROM merchant.exclusive_sessions AS x
	WHERE x.org_id = m.org_id AND x.merchant_id = m.id
) AS s
CROSS JOIN LATERAL (
	SELECT count(*) AS visits, count(x.redeemed_at) AS redeemed
	FROM merchant.visits AS x
	WHERE x.org_id = m.org_id AND x.merchant_id = m.id
) AS v
INNER JOIN ringfence_data.ledger_accounts AS a
	ON a.org_id = m.org_id AND a.party_kind = 'merchant' AND a.party_id = m.id AND a.asset = 'NOVA'
CROSS JOIN LATERAL (
	SELECT coalesce(sum(t.amount), 0)::bigint AS nova_given
	FROM ringfence_data.ledger_transfers AS t
	WHERE t.org_id = a.org_id AND t.debit_account_id = a.id AND t.state = 'posted' AND t.kind = 'driver_earn'
) AS d
CROSS JOIN LATERAL (
	SELECT
		coalesce(sum(t.amount) FILTER (WHERE t.kind = 'driver_redeem'), 0)::bigint AS nova_taken,
		coalesce(sum(t.amount) FILTER (WHERE t.kind = 'merchant_topup'), 0)::bigint AS nova_bought,
		coalesce(sum(t.amount) FILTER (WHERE t.kind = 'admin_grant'), 0)::bigint AS nova_granted
	FROM ringfence_data.ledger_transfers AS t
	WHERE t.org_id = a.org_id AND t.credit_account_id = a.id AND t.state = 'posted'
) AS c
CROSS JOIN LATERAL (
	SELECT sum(x.credits - x.debits)::bigint AS balance, sum(x.debits_pending)::bigint AS held
	FROM ringfence_data.ledger_balances AS x
	WHERE x.org_id = a.org_id AND x.account_id = a.id
) AS b
WHERE ringfence.has_role('owner', 'admin') OR m.id = ringfence.party_id('merchant');
GRANT SELECT ON merchant_v1.analytics TO ringfence_member;

CREATE VIEW merchant_v1.overview WITH (security_invoker = true) AS
SELECT s.org_id, s.paused,
	(SELECT count(*) FROM merchant.drivers AS d WHERE d.org_id = s.org_id) AS drivers,
	m.merchants, m.merchants_paused,
	x.sessions_active, v.visits_redeemed,
	w.driver_nova, w.merchant_nova, w.nova_sold, w.nova_rewards, w.nova_grants
FROM merchant.settings AS s
CROSS JOIN LATERAL (
	SELECT count(*) AS merchants, count(*) FILTER (WHERE r.paused) AS merchants_paused
	FROM merchant.merchants AS r
	WHERE r.org_id = s.org_id
) AS m
CROSS JOIN LATERAL (
	SELECT count(*) AS sessions_active
	FROM merchant.exclusive_sessions AS r
	WHERE r.org_id = s.org_id AND r.state = 'ACTIVE' AND r.expires_at > now()
) AS x
CROSS JOIN LATERAL (
	SELECT count(r.redeemed_at) AS visits_redeemed
	FROM merchant.visits AS r
	WHERE r.org_id = s.org_id
) AS v
CROSS JOIN LATERAL (
	SELECT
		coalesce(sum(b.credits - b.debits) FILTER (WHERE a.party_kind = 'driver'), 0)::bigint AS driver_nova,
		coalesce(sum(b.credits - b.debits) FILTER (WHERE a.party_kind = 'merchant'), 0)::bigint AS merchant_nova,
		coalesce(sum(b.debits - b.credits) FILTER (WHERE a.code = 'nova.sold'), 0)::bigint AS nova_sold,
		coalesce(sum(b.debits - b.credits) FILTER (WHERE a.code = 'nova.rewards'), 0)::bigint AS nova_rewards,
		coalesce(sum(b.debits - b.credits) FILTER (WHERE a.code = 'nova.grants'), 0)::bigint AS nova_grants
	FROM ringfence_data.ledger_accounts AS a
	INNER JOIN ringfence_data.ledger_balances AS b ON b.org_id = a.org_id AND b.account_id = a.id
	WHERE a.org_id = s.org_id AND a.asset = 'NOVA'
) AS w
WHERE ringfence.has_role('owner', 'admin');
GRANT SELECT ON merchant_v1.overview TO ringfence_member;

CREATE VIEW merchant_v1.exclusives WITH (security_invoker = true) AS
SELECT p.org_id, p.id AS perk_id, p.title, p.active, p.reward_nova, p.price_nova,
	m.id AS merchant_id, m.name AS merchant_name, m.paused,
	s.activations, s.last_activated_at
FROM merchant.perks AS p
INNER JOIN merchant.merchants AS m ON m.org_id = p.org_id AND m.id = p.merchant_id
CROSS JOIN LATERAL (
	SELECT count(*) AS activations, max(x.activated_at) AS last_activated_at
	FROM merchant.exclusive_sessions AS x
	WHERE x.org_id = p.org_id AND x.perk_id = p.id
) AS s
WHERE p.exclusive;
GRANT SELECT ON merchant_v1.exclusives TO ringfence_member;

-- The views say of their columns what the tables say of theirs.
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN
		SELECT v.oid::regclass AS view, a.attname AS name, min(d.description) AS description
		FROM pg_class AS v
		JOIN pg_attribute AS a ON a.attrelid = v.oid AND a.attnum > 0
		JOIN pg_class AS t ON t.relnamespace = 'merchant'::regnamespace
			AND (t.relname = v.relname
				OR (v.relname = 'visits' AND t.relname = 'visit_codes' AND a.attname = 'code')
				OR (v.relname = 'exclusives' AND t.relname = 'perks')
				OR (v.relname IN ('exclusives', 'analytics') AND t.relname = 'merchants' AND a.attname IN ('paused', 'name'))
				OR (v.relname = 'overview' AND t.relname = 'settings'))
		JOIN pg_attribute AS o ON o.attrelid = t.oid AND o.attname = a.attname AND o.attnum > 0
		JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass
			AND d.objoid = t.oid AND d.objsubid = o.attnum
		WHERE v.relnamespace = 'merchant_v1'::regnamespace AND v.relkind = 'v'
		GROUP BY v.oid, a.attname
		ORDER BY v.oid::regclass::text, a.attname
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.name, c.description);
	END LOOP;
END
$$;

COMMENT ON VIEW merchant_v1.zones IS 'Zones
Read by everybody, written by owner and admin.';
COMMENT ON VIEW merchant_v1.settings IS 'Settings of the organization
One row. Read by everybody, changed by owner and admin; paused is changed by emergency_pause() and emergency_resume().';
COMMENT ON VIEW merchant_v1.chargers IS 'Chargers
The same for all organizations.';
COMMENT ON VIEW merchant_v1.places IS 'Places of the map
The same for all organizations. nearby() finds those around a position.';
COMMENT ON VIEW merchant_v1.charger_places IS 'Which places are beside which chargers
The same for all organizations.';
COMMENT ON VIEW merchant_v1.merchants IS 'Merchants
Read by owner, admin and drivers, by a merchant the own row; written by owner and admin, and paused by pause_merchant(). Never deleted.';
COMMENT ON VIEW merchant_v1.claims IS 'Which place is which merchant''s
Read by owner, admin and drivers, by a merchant the own ones; added and removed by owner and admin. 409 where a place is claimed.';
COMMENT ON VIEW merchant_v1.perks IS 'Perks
Read by owner, admin and drivers, by a merchant the own ones; written by owner and admin, and by a merchant the own ones. Never deleted: make them inactive.';
COMMENT ON VIEW merchant_v1.drivers IS 'Drivers
Read and written by owner and admin, by a driver the own row read. Never deleted.';
COMMENT ON VIEW merchant_v1.favorites IS 'Merchants that drivers saved
A driver reads, adds and removes the own ones: POST with Prefer: resolution=ignore-duplicates. Read by owner and admin.';
COMMENT ON VIEW merchant_v1.intents IS 'Captured positions
Read by owner and admin, by a driver the own ones; captured by capture_intent().';
COMMENT ON VIEW merchant_v1.exclusive_sessions IS 'Exclusive sessions
Read by owner and admin, by drivers and merchants the own ones. A session whose time is over is EXPIRED here, whether or not the job has been there.';
COMMENT ON COLUMN merchant_v1.exclusive_sessions.state IS 'ACTIVE, COMPLETED, EXPIRED or CANCELED; EXPIRED as soon as expires_at has passed';
COMMENT ON VIEW merchant_v1.visits IS 'Visits
Read by owner and admin, by drivers and merchants the own ones; the code is the driver''s alone. Made by verify_visit(), redeemed by redeem_visit().';
COMMENT ON VIEW merchant_v1.nova IS 'Nova transfers
What was posted, for owner, admin and accountant; drivers and merchants read what touched their own wallet.';
COMMENT ON COLUMN merchant_v1.nova.org_id IS 'the organization';
COMMENT ON COLUMN merchant_v1.nova.id IS 'the transfer in the ledger';
COMMENT ON COLUMN merchant_v1.nova.type IS 'driver_earn, driver_redeem, merchant_topup, admin_grant, or reversal';
COMMENT ON COLUMN merchant_v1.nova.amount IS 'Nova, above 0 whatever the type';
COMMENT ON COLUMN merchant_v1.nova.driver_id IS 'the driver, if one takes part; of a reversal, that of the transfer undone';
COMMENT ON COLUMN merchant_v1.nova.merchant_id IS 'the merchant, likewise';
COMMENT ON COLUMN merchant_v1.nova.visit_id IS 'the visit that it was for';
COMMENT ON COLUMN merchant_v1.nova.reference IS 'payment id of a top-up, reason of a grant or reversal';
COMMENT ON COLUMN merchant_v1.nova.reverses_id IS 'the transfer that it undoes';
COMMENT ON COLUMN merchant_v1.nova.actor IS 'the user who made it';
COMMENT ON COLUMN merchant_v1.nova.posted_at IS 'when it counts';
COMMENT ON VIEW merchant_v1.wallet IS 'Nova wallets of drivers and budgets of merchants
All for owner, admin and accountant; drivers and merchants read their own.';
COMMENT ON COLUMN merchant_v1.wallet.org_id IS 'the organization';
COMMENT ON COLUMN merchant_v1.wallet.account_id IS 'the account in the ledger';
COMMENT ON COLUMN merchant_v1.wallet.party_kind IS 'driver or merchant';
COMMENT ON COLUMN merchant_v1.wallet.party_id IS 'the driver or merchant';
COMMENT ON COLUMN merchant_v1.wallet.balance IS 'Nova in it';
COMMENT ON COLUMN merchant_v1.wallet.held IS 'of these, promised to others: rewards of sessions under way';
COMMENT ON COLUMN merchant_v1.wallet.available IS 'what can be spent: the balance, less what is promised';
COMMENT ON COLUMN merchant_v1.wallet.expected IS 'what others have promised to it';
COMMENT ON VIEW merchant_v1.activity IS 'What the driver who asks did and earned
Nobody else''s, and nothing for who is no driver. Order by happened_at, transfer_id.';
COMMENT ON COLUMN merchant_v1.activity.org_id IS 'the organization';
COMMENT ON COLUMN merchant_v1.activity.driver_id IS 'the driver who asks';
COMMENT ON COLUMN merchant_v1.activity.happened_at IS 'when';
COMMENT ON COLUMN merchant_v1.activity.event IS 'activated, completed, expired, canceled, verified, redeemed, or the type of a Nova transfer';
COMMENT ON COLUMN merchant_v1.activity.nova IS 'what came to the wallet, or left it if below 0; null for other events';
COMMENT ON COLUMN merchant_v1.activity.merchant_id IS 'the merchant, if one takes part';
COMMENT ON COLUMN merchant_v1.activity.session_id IS 'the exclusive session, if it is about one';
COMMENT ON COLUMN merchant_v1.activity.transfer_id IS 'the transfer in the ledger, for Nova';
COMMENT ON VIEW merchant_v1.analytics IS 'Figures of merchants
One row for each merchant, for owner and admin; a merchant reads its own. Reversals are not taken off the sums: the balance is what counts.';
COMMENT ON COLUMN merchant_v1.analytics.org_id IS 'the organization';
COMMENT ON COLUMN merchant_v1.analytics.merchant_id IS 'the merchant';
COMMENT ON COLUMN merchant_v1.analytics.activations IS 'exclusive sessions so far';
COMMENT ON COLUMN merchant_v1.analytics.active IS 'of these, under way';
COMMENT ON COLUMN merchant_v1.analytics.completed IS 'completed by the driver';
COMMENT ON COLUMN merchant_v1.analytics.expired IS 'expired';
COMMENT ON COLUMN merchant_v1.analytics.canceled IS 'ended by the operator';
COMMENT ON COLUMN merchant_v1.analytics.drivers IS 'how many drivers these were, of the sessions whose driver is not forgotten yet';
COMMENT ON COLUMN merchant_v1.analytics.visits IS 'codes given to drivers';
COMMENT ON COLUMN merchant_v1.analytics.redeemed IS 'of these, redeemed';
COMMENT ON COLUMN merchant_v1.analytics.nova_given IS 'rewards, driver_earn';
COMMENT ON COLUMN merchant_v1.analytics.nova_taken IS 'prices, driver_redeem';
COMMENT ON COLUMN merchant_v1.analytics.nova_bought IS 'merchant_topup';
COMMENT ON COLUMN merchant_v1.analytics.nova_granted IS 'admin_grant';
COMMENT ON COLUMN merchant_v1.analytics.balance IS 'Nova in its budget';
COMMENT ON COLUMN merchant_v1.analytics.held IS 'of these, promised to drivers';
COMMENT ON VIEW merchant_v1.overview IS 'The organization at a glance
One row, for owner and admin, by one statement.';
COMMENT ON COLUMN merchant_v1.overview.drivers IS 'drivers';
COMMENT ON COLUMN merchant_v1.overview.merchants IS 'merchants';
COMMENT ON COLUMN merchant_v1.overview.merchants_paused IS 'of these, paused';
COMMENT ON COLUMN merchant_v1.overview.sessions_active IS 'exclusive sessions under way';
COMMENT ON COLUMN merchant_v1.overview.visits_redeemed IS 'visits redeemed so far';
COMMENT ON COLUMN merchant_v1.overview.driver_nova IS 'Nova in the wallets of drivers';
COMMENT ON COLUMN merchant_v1.overview.merchant_nova IS 'Nova in the budgets of merchants';
COMMENT ON COLUMN merchant_v1.overview.nova_sold IS 'Nova that merchants bought';
COMMENT ON COLUMN merchant_v1.overview.nova_rewards IS 'Nova that the operator gave for visits';
COMMENT ON COLUMN merchant_v1.overview.nova_grants IS 'Nova that the operator granted';
COMMENT ON VIEW merchant_v1.exclusives IS 'Exclusives
Perks that are exclusive, with merchant and how often they were activated, in the sessions that the caller may read: all for owner and admin, the own for drivers and merchants. Switched by toggle_exclusive().';
COMMENT ON COLUMN merchant_v1.exclusives.perk_id IS 'the perk';
COMMENT ON COLUMN merchant_v1.exclusives.merchant_name IS 'name of the merchant';
COMMENT ON COLUMN merchant_v1.exclusives.activations IS 'how often it was activated';
COMMENT ON COLUMN merchant_v1.exclusives.last_activated_at IS 'when last';

-- The rules, with the owner's rights, for tenants have none to them.

CREATE FUNCTION merchant_v1.session_transitions()
RETURNS TABLE (from_state text, to_state text, meaning text)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER ROWS 3
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.from_state, t.to_state, t.meaning
	FROM merchant.session_transitions AS t
	ORDER BY t.from_state, t.to_state
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.session_transitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.session_transitions() TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.session_transitions() IS 'What may become of an exclusive session
By everybody; GET will do. The same for all organizations; a state that nothing leads from is final.';

CREATE FUNCTION merchant_v1.nova_types()
RETURNS TABLE (
	type text,
	driver boolean,
	merchant boolean,
	debit text,
	credit text,
	who text[],
	reference text,
	idempotency text,
	comment text
)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER ROWS 6
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.type, t.driver, t.merchant, t.debit, t.credit, t.who, t.reference, t.idempotency, t.comment
	FROM merchant.nova_types AS t
	ORDER BY t.type, t.driver, t.merchant
$$;
REVOKE EXECUTE ON FUNCTION merchant_v1.nova_types() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant_v1.nova_types() TO ringfence_member;
COMMENT ON FUNCTION merchant_v1.nova_types() IS 'Types of Nova transfers
By everybody; GET will do. What each moves from where to where, by the parties that it names, who may, and why a repetition is harmless. The same for all organizations.';

-- What a request gets by "Accept": any view or function of this schema as CSV or
-- NDJSON. PostgREST finds the aggregates by the names of the types they return.
SELECT ringfence.serve_formats('merchant_v1');
