-- Consents, only added to: the last one of a person and purpose counts.

CREATE TABLE ringfence_data.consents (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	subject_kind text COLLATE "C" NOT NULL,
	subject_id uuid NOT NULL,
	purpose text COLLATE "C" NOT NULL,
	text_version text,
	action text COLLATE "C" NOT NULL,
	evidence jsonb,
	reason text,
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	recorded_by uuid DEFAULT ringfence.user_id(),
	request_id text COLLATE "C" DEFAULT ringfence.request_id(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT consents_subject_kind_check CHECK (subject_kind ~ '^[a-z][a-z0-9_]{0,30}$'),
	CONSTRAINT consents_purpose_check CHECK (purpose ~ '^[a-z][a-z0-9_.-]{0,62}$'),
	CONSTRAINT consents_text_version_check CHECK (length(text_version) BETWEEN 1 AND 100),
	CONSTRAINT consents_action_check CHECK (
		action = 'withdrawn' OR (action = 'given' AND text_version IS NOT NULL)
	),
	CONSTRAINT consents_evidence_check CHECK (jsonb_typeof(evidence) = 'object')
);
CREATE INDEX consents_subject_id_idx ON ringfence_data.consents (org_id, subject_id, purpose, recorded_at);
CREATE INDEX consents_subject_kind_idx ON ringfence_data.consents (subject_id) WHERE subject_kind = 'user';
COMMENT ON TABLE ringfence_data.consents IS
	'what people consented to, and what not any more; written by give_consent() and withdraw_consent(), never changed but by an erasure';
COMMENT ON COLUMN ringfence_data.consents.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.consents.id IS 'identifies the record';
COMMENT ON COLUMN ringfence_data.consents.subject_kind IS 'the kind of person, as in subjects';
COMMENT ON COLUMN ringfence_data.consents.subject_id IS 'the person';
COMMENT ON COLUMN ringfence_data.consents.purpose IS 'what for: "marketing", "location"';
COMMENT ON COLUMN ringfence_data.consents.text_version IS 'the version of the text that was agreed to; NULL for a withdrawal';
COMMENT ON COLUMN ringfence_data.consents.action IS 'given or withdrawn';
COMMENT ON COLUMN ringfence_data.consents.evidence IS 'what shows it: the form, the box, the recording; NULL once erased';
COMMENT ON COLUMN ringfence_data.consents.reason IS 'the reason given for a withdrawal; NULL once erased';
COMMENT ON COLUMN ringfence_data.consents.recorded_at IS 'when it was recorded';
COMMENT ON COLUMN ringfence_data.consents.recorded_by IS 'the user who recorded it: the person, or somebody for them';
COMMENT ON COLUMN ringfence_data.consents.request_id IS 'the request that it came with';

CREATE TRIGGER guard AFTER UPDATE OR DELETE ON ringfence_data.consents
	FOR EACH ROW EXECUTE FUNCTION ringfence.guard_consent();
COMMENT ON TRIGGER guard ON ringfence_data.consents IS 'only added to';

-- People read their own, whatever they are here.
ALTER TABLE ringfence_data.consents ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.consents FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.consents AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.consents AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.consents AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY select_for_member_own_subject_id ON ringfence_data.consents AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (subject_id = CASE subject_kind WHEN 'user' THEN ringfence.user_id() ELSE ringfence.party_id(subject_kind) END);
CREATE POLICY operator_read ON ringfence_data.consents AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
REVOKE TRUNCATE ON ringfence_data.consents FROM ringfence_owner;
GRANT SELECT ON ringfence_data.consents TO ringfence_member, ringfence_operator, ringfence_jobs;

SELECT
	ringfence.register_table('ringfence_data.consents', 'directory', '{"owner,admin": "select", "*": "select"}'),
	ringfence.label('ringfence_data.consents', 'evidence', 'personal'),
	ringfence.label('ringfence_data.consents', 'reason', 'personal'),
	ringfence.audit('ringfence_data.consents');
SELECT ringfence.except_reference('ringfence_data.consents', 'subject_id', 'which table it is in depends on subject_kind');

SELECT ringfence.retain_forever('ringfence_data.consents',
	'It has to be shown that there was a consent as long as anything rests on it; an erasure empties the evidence.');

CREATE VIEW ringfence_v1.consents WITH (security_invoker = true) AS
SELECT
	c.id,
	c.subject_kind,
	c.subject_id,
	c.purpose,
	c.text_version,
	c.action,
	c.evidence,
	c.reason,
	c.recorded_at,
	c.recorded_by
FROM ringfence_data.consents AS c;
COMMENT ON VIEW ringfence_v1.consents IS
	'what people consented to and withdrew, for owners and admins, and each one''s own: the last record of a purpose counts';
COMMENT ON COLUMN ringfence_v1.consents.id IS 'identifies the record; ids grow with time';
COMMENT ON COLUMN ringfence_v1.consents.subject_kind IS 'client, driver, worker, user, ...';
COMMENT ON COLUMN ringfence_v1.consents.subject_id IS 'the person';
COMMENT ON COLUMN ringfence_v1.consents.purpose IS 'what for';
COMMENT ON COLUMN ringfence_v1.consents.text_version IS 'the version of the text that was agreed to';
COMMENT ON COLUMN ringfence_v1.consents.action IS 'given or withdrawn';
COMMENT ON COLUMN ringfence_v1.consents.evidence IS 'what shows it; null once erased';
COMMENT ON COLUMN ringfence_v1.consents.reason IS 'the reason given for a withdrawal';
COMMENT ON COLUMN ringfence_v1.consents.recorded_at IS 'when it was recorded';
COMMENT ON COLUMN ringfence_v1.consents.recorded_by IS 'the user who recorded it';
GRANT SELECT ON ringfence_v1.consents TO ringfence_member, ringfence_operator, ringfence_jobs;

CREATE FUNCTION ringfence_v1.give_consent(kind text, id uuid, purpose text, text_version text, evidence jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_consent(kind, id, purpose);
	PERFORM ringfence.require_subject_right(kind, id, ringfence.org_id());
	RETURN ringfence.give_consent(kind, id, purpose, text_version, evidence);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.give_consent(text, uuid, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.give_consent(text, uuid, text, text, jsonb) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.give_consent(text, uuid, text, text, jsonb) IS
	'records that a person consents to a purpose, to a version of its text, with what shows it, and returns the record''s id; for oneself, or for owners and admins on somebody''s behalf; 22004, 22023, 42501, PT404';

CREATE FUNCTION ringfence_v1.withdraw_consent(kind text, id uuid, purpose text, reason text DEFAULT 'withdrawn') RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_consent(kind, id, purpose);
	PERFORM ringfence.require_subject_right(kind, id, ringfence.org_id());
	RETURN ringfence.withdraw_consent(kind, id, purpose, reason);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.withdraw_consent(text, uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.withdraw_consent(text, uuid, text, text) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.withdraw_consent(text, uuid, text, text) IS
	'takes a consent back; what rests on it is erased at once; returns how many rows that were, or null where a legal hold keeps them; for oneself, or for owners and admins on somebody''s behalf; 22004, 22023, 42501, PT404, 25000';
