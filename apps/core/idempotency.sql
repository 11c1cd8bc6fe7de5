-- What was done already. Keys are written and read by the library alone, past row
-- security; webhook events by webhook_once(); both without audit triggers.

CREATE TABLE ringfence_data.idempotency_keys (
	id uuid NOT NULL PRIMARY KEY,
	org_id uuid,
	user_id uuid,
	key text COLLATE "C" NOT NULL,
	method text COLLATE "C" NOT NULL,
	path text COLLATE "C" NOT NULL,
	fingerprint bytea NOT NULL,
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	status text COLLATE "C",
	headers text,
	processed bigint NOT NULL,
	complete boolean NOT NULL,
	response bytea,
	CONSTRAINT idempotency_keys_key_check CHECK (octet_length(key) BETWEEN 1 AND 255),
	CONSTRAINT idempotency_keys_fingerprint_check CHECK (octet_length(fingerprint) = 32),
	CONSTRAINT idempotency_keys_processed_check CHECK (processed >= 0)
);
-- No index but the key's: every write would pay for one on expires_at, to spare
-- purge_idempotency_keys() reading the table.
-- Compressing costs the first call more than it saves, for a row that is gone in
-- a day; and ANALYZE would copy responses into pg_statistic.
ALTER TABLE ringfence_data.idempotency_keys
	ALTER COLUMN response SET STORAGE EXTERNAL,
	ALTER COLUMN response SET STATISTICS 0,
	ALTER COLUMN headers SET STATISTICS 0,
	ALTER COLUMN key SET STATISTICS 0;
COMMENT ON TABLE ringfence_data.idempotency_keys IS
	'what was done under each key and answered, until it expires; written by the library alone; dumps contain the answers';
COMMENT ON COLUMN ringfence_data.idempotency_keys.id IS
	'half the SHA-256 of whose the key is, method, path and the key itself: no two organizations ever meet in it';
COMMENT ON COLUMN ringfence_data.idempotency_keys.org_id IS 'the organization, or NULL';
COMMENT ON COLUMN ringfence_data.idempotency_keys.user_id IS 'the user, or NULL';
COMMENT ON COLUMN ringfence_data.idempotency_keys.key IS 'the key as the client sent it, 1 to 255 bytes';
COMMENT ON COLUMN ringfence_data.idempotency_keys.method IS
	'POST, PATCH, PUT or DELETE; CALL for idempotent(); an empty string outside a request';
COMMENT ON COLUMN ringfence_data.idempotency_keys.path IS
	'the endpoint, decoded: "/payments", "/rpc/pay"; for CALL the function; an empty string outside a request';
COMMENT ON COLUMN ringfence_data.idempotency_keys.fingerprint IS
	'SHA-256 of the statement with its parameters: another one under the same key is refused';
COMMENT ON COLUMN ringfence_data.idempotency_keys.created_at IS 'when it was done';
COMMENT ON COLUMN ringfence_data.idempotency_keys.expires_at IS 'from when the key counts as unknown';
COMMENT ON COLUMN ringfence_data.idempotency_keys.status IS 'response.status as it was set, or NULL';
COMMENT ON COLUMN ringfence_data.idempotency_keys.headers IS 'response.headers as it was set, or NULL';
COMMENT ON COLUMN ringfence_data.idempotency_keys.processed IS 'number of rows in the command tag';
COMMENT ON COLUMN ringfence_data.idempotency_keys.complete IS
	'false if the answer was larger than ringfence.idempotency_max_response, or of an endpoint whose answers are not kept: it is not here';
COMMENT ON COLUMN ringfence_data.idempotency_keys.response IS 'the rows that were answered, in the library''s own format';

CREATE TABLE ringfence_data.idempotency_required (
	method text COLLATE "C" NOT NULL,
	path text COLLATE "C" NOT NULL,
	PRIMARY KEY (method, path),
	CONSTRAINT idempotency_required_method_check CHECK (method IN ('POST', 'PATCH', 'PUT', 'DELETE')),
	CONSTRAINT idempotency_required_path_check CHECK (path ~ '^/' AND octet_length(path) <= 1000)
);
COMMENT ON TABLE ringfence_data.idempotency_required IS
	'endpoints that refuse a request without an Idempotency-Key; written by require_idempotency_key()';
COMMENT ON COLUMN ringfence_data.idempotency_required.method IS 'POST, PATCH, PUT or DELETE';
COMMENT ON COLUMN ringfence_data.idempotency_required.path IS 'the path, decoded: "/payments", "/rpc/pay"';

CREATE TABLE ringfence_data.idempotency_retention (
	method text COLLATE "C" NOT NULL,
	path text COLLATE "C" NOT NULL,
	retention interval NOT NULL,
	answers boolean NOT NULL DEFAULT true,
	PRIMARY KEY (method, path),
	CONSTRAINT idempotency_retention_method_check CHECK (method IN ('POST', 'PATCH', 'PUT', 'DELETE', 'CALL')),
	CONSTRAINT idempotency_retention_path_check CHECK ((path ~ '^/' OR method = 'CALL') AND octet_length(path) <= 1000),
	CONSTRAINT idempotency_retention_retention_check CHECK (retention > '0' AND retention <= '10 years')
);
COMMENT ON TABLE ringfence_data.idempotency_retention IS
	'endpoints whose keys are kept for another time than ringfence.idempotency_retention, or without the answers; written by keep_idempotency_keys()';
COMMENT ON COLUMN ringfence_data.idempotency_retention.method IS 'POST, PATCH, PUT, DELETE, or CALL for idempotent()';
COMMENT ON COLUMN ringfence_data.idempotency_retention.path IS
	'the path, decoded: "/payments", "/rpc/pay"; for CALL the function: "app.pay(uuid,integer)"';
COMMENT ON COLUMN ringfence_data.idempotency_retention.retention IS 'how long, from the first use, in seconds';
COMMENT ON COLUMN ringfence_data.idempotency_retention.answers IS
	'whether answers are kept as well: not those of endpoints that give out secrets';
-- It answers with a token.
INSERT INTO ringfence_data.idempotency_retention (method, path, retention, answers)
VALUES ('POST', '/rpc/switch_org', '24:00:00', false);

CREATE TABLE ringfence_data.webhook_events (
	org_id uuid NOT NULL,
	provider text COLLATE "C" NOT NULL,
	event_id text COLLATE "C" NOT NULL,
	payload_hash bytea NOT NULL,
	received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	request_id text COLLATE "C",
	PRIMARY KEY (org_id, provider, event_id),
	CONSTRAINT webhook_events_provider_check CHECK (octet_length(provider) BETWEEN 1 AND 255),
	CONSTRAINT webhook_events_event_id_check CHECK (octet_length(event_id) BETWEEN 1 AND 255),
	CONSTRAINT webhook_events_payload_hash_check CHECK (octet_length(payload_hash) BETWEEN 16 AND 64)
);
COMMENT ON TABLE ringfence_data.webhook_events IS
	'events that providers sent and that had their effect, for good; written by webhook_once()';
COMMENT ON COLUMN ringfence_data.webhook_events.org_id IS
	'the organization it was for, or 00000000-0000-0000-0000-000000000000 for none';
COMMENT ON COLUMN ringfence_data.webhook_events.provider IS 'who sent it: "stripe"';
COMMENT ON COLUMN ringfence_data.webhook_events.event_id IS 'the provider''s id of the event';
COMMENT ON COLUMN ringfence_data.webhook_events.payload_hash IS 'hash of the payload, 16 to 64 bytes, as webhook_once() was given it';
COMMENT ON COLUMN ringfence_data.webhook_events.received_at IS 'when it was received first';
COMMENT ON COLUMN ringfence_data.webhook_events.request_id IS 'the request that brought it';

-- Owners and admins list their organization's keys, and never see what was
-- answered. ringfence_owner's functions reach what has expired, to delete it, and
-- know nothing else of it; FOR UPDATE wants the right to update some column.
ALTER TABLE ringfence_data.idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.idempotency_keys AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed() AND expires_at < statement_timestamp()) WITH CHECK (false);
CREATE POLICY org_isolation ON ringfence_data.idempotency_keys AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (
		org_id = ringfence.org_id()
		OR (current_user = 'ringfence_owner' AND expires_at < statement_timestamp())
	)
	WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.idempotency_keys AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.idempotency_keys AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());
REVOKE ALL ON ringfence_data.idempotency_keys FROM ringfence_owner;
GRANT SELECT (id, expires_at), UPDATE (expires_at), DELETE ON ringfence_data.idempotency_keys TO ringfence_owner;
GRANT SELECT (org_id, user_id, key, method, path, created_at, expires_at, status, complete)
	ON ringfence_data.idempotency_keys TO ringfence_member, ringfence_operator;

-- Nobody but webhook_once(): whoever could ask for ids, or register some, could
-- have an event ignored that is still to come.
ALTER TABLE ringfence_data.webhook_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.webhook_events FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.webhook_events AS PERMISSIVE FOR SELECT TO ringfence_owner
	USING (ringfence.installed());
CREATE POLICY owner_code_insert ON ringfence_data.webhook_events AS PERMISSIVE FOR INSERT TO ringfence_owner
	WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.webhook_events AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = coalesce(ringfence.org_id(), '00000000-0000-0000-0000-000000000000'))
	WITH CHECK (org_id = coalesce(ringfence.org_id(), '00000000-0000-0000-0000-000000000000'));
REVOKE ALL ON ringfence_data.webhook_events FROM ringfence_owner;
-- What retention deletes as the table's owner, row security keeps from its code.
GRANT SELECT, INSERT, DELETE, UPDATE (received_at) ON ringfence_data.webhook_events TO ringfence_owner;

SELECT
	ringfence.register_table('ringfence_data.idempotency_keys', 'directory', '{"owner,admin": "select"}'),
	ringfence.register_table('ringfence_data.webhook_events', 'directory', '{}');
SELECT ringfence.protect(t.rel, row_class => 'system')
FROM unnest(ARRAY[
	'ringfence_data.idempotency_required', 'ringfence_data.idempotency_retention'
]::regclass[]) AS t (rel);

-- What is said of endpoints counts at once in every session.
CREATE TRIGGER ringfence_idempotency_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON ringfence_data.idempotency_required
	FOR EACH STATEMENT EXECUTE FUNCTION ringfence.idempotency_changed();
CREATE TRIGGER ringfence_idempotency_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON ringfence_data.idempotency_retention
	FOR EACH STATEMENT EXECUTE FUNCTION ringfence.idempotency_changed();

CREATE VIEW ringfence_v1.idempotency_keys WITH (security_invoker = true) AS
SELECT
	k.key,
	k.method,
	k.path,
	k.user_id,
	k.status,
	k.complete,
	k.created_at,
	k.expires_at
FROM ringfence_data.idempotency_keys AS k;
COMMENT ON VIEW ringfence_v1.idempotency_keys IS
	'idempotency keys that were used in the organization, for its owners and admins, until they are deleted some time after they expired; what was answered is not shown';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.key IS 'the key as the client sent it';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.method IS
	'POST, PATCH, PUT or DELETE; CALL for a call by idempotent(); an empty string outside a request';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.path IS
	'the endpoint, or the function that idempotent() called; an empty string outside a request';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.user_id IS 'the user who sent it';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.status IS
	'the HTTP status that the endpoint set itself; null where PostgREST chose it';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.complete IS
	'false if the answer was too large to be kept, or not to be kept: then a repetition has no effect, and no body either';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.created_at IS 'when it was first used';
COMMENT ON COLUMN ringfence_v1.idempotency_keys.expires_at IS 'from when it counts as new again';
GRANT SELECT ON ringfence_v1.idempotency_keys TO ringfence_member, ringfence_operator;
