-- Consents: what a person agreed to, to which text, and since when not any more.
-- Rows are only added; the last one of a purpose counts.

CREATE FUNCTION ringfence.guard_consent() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT ringfence.retaining() THEN
		RAISE EXCEPTION 'consents are only added to'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = format('%s of table %s was refused.', TG_OP, TG_RELID::regclass),
			HINT = 'A consent is taken back by ringfence.withdraw_consent().';
	END IF;
	RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.guard_consent() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.guard_consent() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.guard_consent() IS
	'trigger function: refuses to change or remove consents (42501), to the owner as well; an erasure and retention may';

CREATE FUNCTION ringfence.check_consent(kind text, id uuid, purpose text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.check_subject_kind(kind);
	IF id IS NULL OR purpose IS NULL THEN
		RAISE EXCEPTION 'subject and purpose must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF purpose !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
		RAISE EXCEPTION 'invalid purpose "%"', purpose
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'A purpose is up to 63 lower case letters, digits, underscores, dots and hyphens.';
	END IF;
	IF ringfence.org_id() IS NULL THEN
		RAISE EXCEPTION 'no organization is set for this transaction' USING ERRCODE = 'insufficient_privilege';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_consent(text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_consent(text, uuid, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_consent(text, uuid, text) IS
	'refuses what can''t be consented to: 22004, 22023, and 42501 without an organization';

-- Who asks for themselves is there, with or without a row. With the row locked,
-- an erasure is over, or waits for what is recorded now and has it go.
CREATE FUNCTION ringfence.require_consenter(kind text, id uuid, is_there boolean) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	is_self boolean := (CASE kind WHEN 'user' THEN ringfence.user_id() ELSE ringfence.party_id(kind) END) IS NOT DISTINCT FROM id;
BEGIN
	IF NOT (is_there OR is_self)
		OR ringfence.subject_task(jsonb_build_object('kind', 'find', 'subject', kind, 'id', id), 'erased',
			CASE WHEN kind <> 'user' THEN ringfence.org_id() END)::boolean THEN
		RAISE EXCEPTION 'subject not found' USING ERRCODE = 'PT404';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.require_consenter(text, uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.require_consenter(text, uuid, boolean) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.require_consenter(text, uuid, boolean) IS
	'PT404 for a subject that the organization doesn''t have, as its locked row shows, or that was erased; for ringfence_owner''s functions';

CREATE FUNCTION ringfence.has_consent(kind text, id uuid, purpose text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((
		SELECT c.action = 'given'
		FROM ringfence_data.consents AS c
		WHERE c.org_id = ringfence.org_id() AND c.subject_kind = has_consent.kind AND c.subject_id = has_consent.id
			AND c.purpose = has_consent.purpose
		ORDER BY c.recorded_at DESC, c.id DESC
		LIMIT 1
	), false)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.has_consent(text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_consent(text, uuid, text)
	TO ringfence_owner, ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.has_consent(text, uuid, text) IS
	'whether a person''s consent to a purpose is in force in the organization of the context, as far as the caller may read consents; false where there is none';

CREATE FUNCTION ringfence.give_consent(kind text, id uuid, purpose text, text_version text, evidence jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new_id uuid;
BEGIN
	PERFORM ringfence.check_consent(kind, id, purpose);
	IF length(text_version) BETWEEN 1 AND 100 IS NOT TRUE
		OR jsonb_typeof(evidence) <> 'object' OR octet_length(evidence::text) > 8192 THEN
		RAISE EXCEPTION 'invalid consent'
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = 'The version of the text has 1 to 100 characters; evidence is a JSON object of at most 8192 bytes.';
	END IF;
	PERFORM ringfence.require_consenter(kind, id, ringfence.share_subject(
		jsonb_build_object('subject', kind, 'id', id), CASE WHEN kind <> 'user' THEN ringfence.org_id() END));
	INSERT INTO ringfence_data.consents (subject_kind, subject_id, purpose, text_version, action, evidence)
	VALUES (
		give_consent.kind,
		give_consent.id,
		give_consent.purpose,
		give_consent.text_version,
		'given',
		give_consent.evidence
	)
	RETURNING consents.id INTO new_id;
	RETURN new_id;
END
$$;
ALTER FUNCTION ringfence.give_consent(text, uuid, text, text, jsonb) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.give_consent(text, uuid, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.give_consent(text, uuid, text, text, jsonb) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.give_consent(text, uuid, text, text, jsonb) IS
	'records that a person consents to a purpose: to which version of the text, and what shows it ({"form": "signup", ...}); returns the record''s id; for apps'' own functions, and operators and jobs in an organization; members have ringfence_v1.give_consent(); 22004, 22023, 42501, PT404';

CREATE FUNCTION ringfence.withdraw_purpose(kind text, id uuid, purpose text, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO ringfence_data.consents (subject_kind, subject_id, purpose, action, reason)
	SELECT withdraw_purpose.kind, withdraw_purpose.id, withdraw_purpose.purpose, 'withdrawn', withdraw_purpose.reason
	WHERE ringfence.has_consent(withdraw_purpose.kind, withdraw_purpose.id, withdraw_purpose.purpose);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.withdraw_purpose(text, uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.withdraw_purpose(text, uuid, text, text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.withdraw_purpose(text, uuid, text, text) IS
	'records that a consent that is in force is withdrawn; for withdraw_consent()';

-- For an erasure, past row security: what is in force, of one organization or, of
-- a user, of all.
CREATE FUNCTION ringfence.withdraw_all_consents(kind text, id uuid, org uuid) RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	WITH latest AS (
		SELECT DISTINCT ON (c.org_id, c.purpose) c.org_id, c.purpose, c.action
		FROM ringfence_data.consents AS c
		WHERE c.subject_kind = withdraw_all_consents.kind AND c.subject_id = withdraw_all_consents.id AND (org IS NULL OR c.org_id = org)
		ORDER BY c.org_id, c.purpose, c.recorded_at DESC, c.id DESC
	), withdrawn AS (
		INSERT INTO ringfence_data.consents (org_id, subject_kind, subject_id, purpose, action)
		SELECT l.org_id, withdraw_all_consents.kind, withdraw_all_consents.id, l.purpose, 'withdrawn'
		FROM latest AS l
		WHERE l.action = 'given'
		RETURNING 1
	)
	SELECT count(*) FROM withdrawn
$$;
REVOKE EXECUTE ON FUNCTION ringfence.withdraw_all_consents(text, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.withdraw_all_consents(text, uuid, uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.withdraw_all_consents(text, uuid, uuid) IS
	'records that all consents of a person that are in force are withdrawn, and returns their number; for an erasure';

CREATE FUNCTION ringfence.withdraw_consent(kind text, id uuid, purpose text, reason text DEFAULT 'withdrawn') RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The person's own words stay with the consent, which an erasure empties.
SET ringfence.reason = 'consent withdrawn'
AS $$
DECLARE
	task jsonb := jsonb_build_object('kind', 'erase', 'subject', kind, 'id', id);
	org uuid := ringfence.org_id();
	home uuid := CASE WHEN kind <> 'user' THEN org END;
	rests boolean;
	counts jsonb := '{}'::jsonb;
	held boolean;
BEGIN
	PERFORM ringfence.check_consent(kind, id, purpose);
	PERFORM ringfence.check_erasure_reason(reason);
	rests := EXISTS (SELECT FROM ringfence.subject_plan(kind) AS p WHERE p.purpose = withdraw_consent.purpose);
	PERFORM ringfence.require_consenter(kind, id,
		CASE WHEN rests THEN ringfence.lock_subject(task, home) ELSE ringfence.share_subject(task, home) END);
	PERFORM ringfence.withdraw_purpose(kind, id, purpose, reason);
	IF NOT rests THEN
		RETURN 0;
	END IF;
	held := ringfence.is_held(task, org, purpose);
	IF NOT held THEN
		counts := ringfence.changed_rows(ringfence.erase_tables(task, org, purpose));
	END IF;
	PERFORM ringfence.audit_event('consent.withdrawn', kind || ':' || id,
		jsonb_build_object('purpose', purpose, 'held', held, 'rows', counts), 'consent withdrawn');
	RETURN CASE WHEN NOT held THEN (
		SELECT coalesce(sum(c.value::bigint), 0) FROM jsonb_each_text(counts) AS c WHERE c.key <> 'ringfence_data.audit_log'
	) END;
END
$$;
ALTER FUNCTION ringfence.withdraw_consent(text, uuid, text, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.withdraw_consent(text, uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.withdraw_consent(text, uuid, text, text) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.withdraw_consent(text, uuid, text, text) IS
	'records that a consent is withdrawn, and erases what declare_subject() said rests on that purpose, by its rules; returns how many rows that were, or NULL where a legal hold keeps them: once it is released, call it again; event consent.withdrawn where anything rests on it; for apps'' own functions, and operators and jobs in an organization; members have ringfence_v1.withdraw_consent(); 22004, 22023, 42501, PT404, 25000';
