-- Exclusive sessions and their state machine, which is a table.

CREATE TABLE merchant.session_transitions (
	from_state text NOT NULL,
	to_state text NOT NULL,
	meaning text NOT NULL,
	PRIMARY KEY (from_state, to_state)
);
COMMENT ON TABLE merchant.session_transitions IS
	'What may become of an exclusive session: a change of state that is not here is refused, and a state that nothing leads from is final.';
COMMENT ON COLUMN merchant.session_transitions.from_state IS 'the state before';
COMMENT ON COLUMN merchant.session_transitions.to_state IS 'the state after';
COMMENT ON COLUMN merchant.session_transitions.meaning IS 'what makes it so';
INSERT INTO merchant.session_transitions (from_state, to_state, meaning) VALUES
	('ACTIVE', 'COMPLETED', 'the driver is done: complete_exclusive()'),
	('ACTIVE', 'EXPIRED', 'its time is over: expire_sessions(), or the driver''s next activation'),
	('ACTIVE', 'CANCELED', 'the operator ended it: force_close_sessions()');

-- A visit has three ids of its session, so that the session's parties are the
-- visit's. What was promised is kept here: a perk may change meanwhile. Who and
-- where it was is forgotten after it has ended: see retention.sql and subjects.sql.
CREATE TABLE merchant.exclusive_sessions (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	driver_id uuid,
	merchant_id uuid NOT NULL,
	perk_id uuid NOT NULL,
	intent_id uuid,
	charger_id text COLLATE "C" REFERENCES merchant.chargers (id),
	state text NOT NULL DEFAULT 'ACTIVE',
	reward_nova bigint NOT NULL,
	price_nova bigint NOT NULL,
	activated_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL,
	redeem_until timestamptz NOT NULL,
	ended_at timestamptz,
	PRIMARY KEY (org_id, id),
	CONSTRAINT exclusive_sessions_parties_key UNIQUE (org_id, id, driver_id, merchant_id),
	CONSTRAINT exclusive_sessions_intent_id_key UNIQUE (org_id, intent_id),
	CONSTRAINT exclusive_sessions_driver_id_fkey FOREIGN KEY (org_id, driver_id)
		REFERENCES merchant.drivers (org_id, id),
	CONSTRAINT exclusive_sessions_merchant_id_fkey FOREIGN KEY (org_id, merchant_id)
		REFERENCES merchant.merchants (org_id, id),
	CONSTRAINT exclusive_sessions_perk_id_fkey FOREIGN KEY (org_id, perk_id, merchant_id)
		REFERENCES merchant.perks (org_id, id, merchant_id),
	CONSTRAINT exclusive_sessions_intent_id_fkey FOREIGN KEY (org_id, intent_id, driver_id)
		REFERENCES merchant.intents (org_id, id, driver_id),
	CONSTRAINT exclusive_sessions_state_check CHECK (state IN ('ACTIVE', 'COMPLETED', 'EXPIRED', 'CANCELED')),
	CONSTRAINT exclusive_sessions_known_check CHECK (state <> 'ACTIVE' OR num_nulls(driver_id, intent_id, charger_id) = 0),
	CONSTRAINT exclusive_sessions_reward_nova_check CHECK (reward_nova >= 0),
	CONSTRAINT exclusive_sessions_price_nova_check CHECK (price_nova >= 0),
	CONSTRAINT exclusive_sessions_expires_at_check CHECK (expires_at > activated_at AND redeem_until >= expires_at),
	CONSTRAINT exclusive_sessions_ended_at_check
		CHECK ((ended_at IS NULL) = (state = 'ACTIVE') AND ended_at >= activated_at)
);
CREATE UNIQUE INDEX exclusive_sessions_active_key ON merchant.exclusive_sessions (org_id, driver_id)
	WHERE state = 'ACTIVE';
CREATE INDEX exclusive_sessions_driver_id_idx ON merchant.exclusive_sessions (org_id, driver_id, activated_at);
CREATE INDEX exclusive_sessions_merchant_id_idx ON merchant.exclusive_sessions (org_id, merchant_id, activated_at);
CREATE INDEX exclusive_sessions_perk_id_idx ON merchant.exclusive_sessions (org_id, perk_id);
CREATE INDEX exclusive_sessions_charger_id_idx ON merchant.exclusive_sessions (charger_id);
CREATE INDEX exclusive_sessions_expires_at_idx ON merchant.exclusive_sessions (expires_at) WHERE state = 'ACTIVE';

COMMENT ON TABLE merchant.exclusive_sessions IS 'Exclusives that drivers activated. A driver has one ACTIVE session at most. The merchant''s reward is on hold in the ledger, as a pending transfer that has the session''s id.';
COMMENT ON COLUMN merchant.exclusive_sessions.org_id IS 'the organization; set by the database';
COMMENT ON COLUMN merchant.exclusive_sessions.id IS 'key within the organization; the id of the pending transfer as well';
COMMENT ON COLUMN merchant.exclusive_sessions.driver_id IS 'the driver; NULL once that is forgotten, some time after the session has ended';
COMMENT ON COLUMN merchant.exclusive_sessions.merchant_id IS 'the merchant';
COMMENT ON COLUMN merchant.exclusive_sessions.perk_id IS 'the exclusive, a perk of that merchant';
COMMENT ON COLUMN merchant.exclusive_sessions.intent_id IS 'where the driver was, an intent of that driver; good for one session; NULL once that is forgotten';
COMMENT ON COLUMN merchant.exclusive_sessions.charger_id IS 'the charger that was near; NULL once that is forgotten';
COMMENT ON COLUMN merchant.exclusive_sessions.state IS 'ACTIVE, then COMPLETED, EXPIRED or CANCELED; see session_transitions';
COMMENT ON COLUMN merchant.exclusive_sessions.reward_nova IS 'what the driver gets for a redeemed visit, as the perk said when it was activated';
COMMENT ON COLUMN merchant.exclusive_sessions.price_nova IS 'what the driver pays for it, likewise';
COMMENT ON COLUMN merchant.exclusive_sessions.activated_at IS 'when it began';
COMMENT ON COLUMN merchant.exclusive_sessions.expires_at IS 'when its time is over, whether or not it is EXPIRED yet';
COMMENT ON COLUMN merchant.exclusive_sessions.redeem_until IS 'until when a visit of it can be redeemed at the latest';
COMMENT ON COLUMN merchant.exclusive_sessions.ended_at IS 'when it ended; NULL while it is ACTIVE';

-- For everybody, ringfence_owner's functions as well.
CREATE FUNCTION merchant.guard_session() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.retaining() THEN
		RETURN NEW;
	END IF;
	IF NOT EXISTS (SELECT FROM merchant.session_transitions AS t WHERE t.from_state = OLD.state) THEN
		RAISE EXCEPTION 'a session that is % cannot be changed', OLD.state USING ERRCODE = 'PT409';
	END IF;
	IF NEW.state IS DISTINCT FROM OLD.state AND NOT EXISTS (
		SELECT FROM merchant.session_transitions AS t
		WHERE t.from_state = OLD.state AND t.to_state = NEW.state) THEN
		RAISE EXCEPTION 'a session that is % cannot become %', OLD.state, NEW.state USING ERRCODE = 'PT409';
	END IF;
	IF to_jsonb(NEW) - '{state,ended_at}'::text[] <> to_jsonb(OLD) - '{state,ended_at}'::text[] THEN
		RAISE EXCEPTION 'only the state of a session can be changed' USING ERRCODE = 'PT409';
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.guard_session() FROM PUBLIC;
COMMENT ON FUNCTION merchant.guard_session() IS
	'trigger: the state machine of session_transitions; what has ended stays as it is, but for retention and erasure; PT409 where it refuses';

CREATE TRIGGER guard BEFORE UPDATE ON merchant.exclusive_sessions
FOR EACH ROW EXECUTE FUNCTION merchant.guard_session();
COMMENT ON TRIGGER guard ON merchant.exclusive_sessions IS 'state machine; final states are final';

-- As the jobs' role, to which row security does not apply, or a superuser;
-- row_security = off makes it fail where policies would have it find nothing.
CREATE FUNCTION merchant.expire_sessions(batch integer DEFAULT 1000) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
	expired bigint;
BEGIN
	IF batch > 0 IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid batch %', batch
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'At least one session must be let to expire.';
	END IF;
	WITH due AS MATERIALIZED (
		SELECT s.org_id, s.id
		FROM merchant.exclusive_sessions AS s
		WHERE s.state = 'ACTIVE' AND s.expires_at <= now()
		ORDER BY s.expires_at
		LIMIT batch
		FOR NO KEY UPDATE SKIP LOCKED
	)
	UPDATE merchant.exclusive_sessions AS s
	SET state = 'EXPIRED', ended_at = s.expires_at
	FROM due AS d
	WHERE s.org_id = d.org_id AND s.id = d.id;
	GET DIAGNOSTICS expired = ROW_COUNT;
	RETURN expired;
END
$$;
REVOKE EXECUTE ON FUNCTION merchant.expire_sessions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merchant.expire_sessions(integer) TO ringfence_jobs;
COMMENT ON FUNCTION merchant.expire_sessions(integer) IS
	'makes sessions EXPIRED whose time is over, of whatever organization, at most so many; passes over those in use; returns how many: call it again while that is the batch; their rewards'' holds end by themselves; for a job, as ringfence_jobs or a superuser: 42501 for who does not see every row; 22023';
