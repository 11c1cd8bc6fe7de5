-- Subjects: people, and which tables are about them; and who was erased.

CREATE TABLE ringfence_data.subjects (
	kind text COLLATE "C" NOT NULL,
	relation regclass NOT NULL,
	column_name name NOT NULL,
	action text COLLATE "C" NOT NULL,
	rules jsonb,
	purpose text COLLATE "C",
	is_root boolean NOT NULL DEFAULT false,
	PRIMARY KEY (kind, relation, column_name),
	CONSTRAINT subjects_kind_check CHECK (kind ~ '^[a-z][a-z0-9_]{0,30}$'),
	CONSTRAINT subjects_action_check CHECK (action IN ('delete', 'anonymize', 'keep')),
	CONSTRAINT subjects_rules_check CHECK (
		CASE action WHEN 'keep' THEN rules IS NULL WHEN 'anonymize' THEN rules IS NOT NULL ELSE true END
		AND jsonb_typeof(rules) = 'object' IS NOT FALSE
	),
	CONSTRAINT subjects_purpose_check CHECK (purpose ~ '^[a-z][a-z0-9_.-]{0,62}$')
);
CREATE UNIQUE INDEX subjects_root_key ON ringfence_data.subjects (kind) WHERE is_root;
COMMENT ON TABLE ringfence_data.subjects IS
	'which rows are about a person, and what becomes of them when that person is erased; written by declare_subject()';
COMMENT ON COLUMN ringfence_data.subjects.kind IS 'the kind of person: "client", "driver", "user"; as in memberships.party';
COMMENT ON COLUMN ringfence_data.subjects.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.subjects.column_name IS 'the column that holds the person''s id';
COMMENT ON COLUMN ringfence_data.subjects.action IS
	'delete, anonymize or keep; rows to be deleted that others reference are anonymized where there are rules';
COMMENT ON COLUMN ringfence_data.subjects.rules IS 'what becomes of columns, as for retain(): {"name": "pseudonym", "phone": "null"}';
COMMENT ON COLUMN ringfence_data.subjects.purpose IS
	'the consent that the rows rest on: they are erased when it is withdrawn; NULL for none';
COMMENT ON COLUMN ringfence_data.subjects.is_root IS 'whether it is the table of the people themselves; one for each kind';

CREATE TABLE ringfence_data.subject_hooks (
	kind text COLLATE "C" NOT NULL,
	function text COLLATE "C" NOT NULL,
	PRIMARY KEY (kind, function),
	CONSTRAINT subject_hooks_kind_check CHECK (kind ~ '^[a-z][a-z0-9_]{0,30}$')
);
COMMENT ON TABLE ringfence_data.subject_hooks IS
	'functions that are called before a person is erased; written by on_erase()';
COMMENT ON COLUMN ringfence_data.subject_hooks.kind IS 'the kind of person';
-- Text, since a cluster that stores a regprocedure can't be taken over by pg_upgrade.
COMMENT ON COLUMN ringfence_data.subject_hooks.function IS 'the function, with its schema and its argument: "merchant.end_driver(uuid)"';

-- No foreign keys: an erasure is to be known for longer than whom it was about,
-- and than their organization.
CREATE TABLE ringfence_data.erasures (
	org_id uuid NOT NULL,
	kind text COLLATE "C" NOT NULL,
	subject_id uuid NOT NULL,
	erased_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	erased_by uuid,
	reason text NOT NULL,
	counts jsonb NOT NULL,
	PRIMARY KEY (org_id, kind, subject_id),
	CONSTRAINT erasures_reason_check CHECK (reason ~ '[[:alnum:]]' AND length(reason) <= 500),
	CONSTRAINT erasures_counts_check CHECK (jsonb_typeof(counts) = 'object')
);
COMMENT ON TABLE ringfence_data.erasures IS
	'who was erased, so that it can be done again after a restore: ids, and nothing personal; written by erase_subject()';
COMMENT ON COLUMN ringfence_data.erasures.org_id IS
	'the organization, or 00000000-0000-0000-0000-000000000000 for a user, who belongs to none';
COMMENT ON COLUMN ringfence_data.erasures.kind IS 'the kind of person';
COMMENT ON COLUMN ringfence_data.erasures.subject_id IS 'the id that the person had';
COMMENT ON COLUMN ringfence_data.erasures.erased_at IS 'when it was done; the last time that there was anything to erase';
COMMENT ON COLUMN ringfence_data.erasures.erased_by IS 'the user who did it; NULL for a job or an operator';
COMMENT ON COLUMN ringfence_data.erasures.reason IS 'the reason that was given';
COMMENT ON COLUMN ringfence_data.erasures.counts IS 'how many rows of each table were deleted or anonymized';

ALTER TABLE ringfence_data.erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.erasures FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.erasures AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.erasures AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.erasures AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.erasures AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
REVOKE TRUNCATE ON ringfence_data.erasures FROM ringfence_owner;
GRANT SELECT ON ringfence_data.erasures TO ringfence_member, ringfence_operator, ringfence_jobs;

SELECT ringfence.register_table('ringfence_data.erasures', 'directory', '{"owner,admin": "select"}'),
	ringfence.audit('ringfence_data.erasures'),
	ringfence.except_reference('ringfence_data.erasures', 'org_id', 'it is to be known for longer than the organization is there'),
	ringfence.except_reference('ringfence_data.erasures', 'subject_id', 'which table it was in depends on kind, and it may be gone');
SELECT ringfence.protect(t.rel, row_class => 'system')
FROM unnest(ARRAY['ringfence_data.subjects', 'ringfence_data.subject_hooks']::regclass[]) AS t (rel);
GRANT SELECT ON ringfence_data.subjects, ringfence_data.subject_hooks TO ringfence_jobs;

-- A user is of no organization: this reaches into all of them.
SELECT
	ringfence.declare_subject('user', 'ringfence_data.users', 'id', 'anonymize',
		'{"email": "pseudonym", "name": "null"}', is_root => true),
	ringfence.declare_subject('user', 'ringfence_data.memberships', 'user_id', 'delete');

SELECT ringfence.retain_forever('ringfence_data.erasures',
	'A dump from before an erasure brings the person back: it has to be known whom to erase again.', outlives_org => true);

CREATE VIEW ringfence_v1.erasures WITH (security_invoker = true) AS
SELECT
	e.kind,
	e.subject_id,
	e.erased_at,
	e.erased_by,
	e.reason,
	e.counts
FROM ringfence_data.erasures AS e;
COMMENT ON VIEW ringfence_v1.erasures IS
	'who was erased from the organization, for its owners and admins: ids, and nothing personal';
COMMENT ON COLUMN ringfence_v1.erasures.kind IS 'client, driver, worker, ...';
COMMENT ON COLUMN ringfence_v1.erasures.subject_id IS 'the id that the person had';
COMMENT ON COLUMN ringfence_v1.erasures.erased_at IS 'when it was done';
COMMENT ON COLUMN ringfence_v1.erasures.erased_by IS 'the user who did it';
COMMENT ON COLUMN ringfence_v1.erasures.reason IS 'the reason that was given';
COMMENT ON COLUMN ringfence_v1.erasures.counts IS 'how many rows of each table were deleted or anonymized';
GRANT SELECT ON ringfence_v1.erasures TO ringfence_member, ringfence_operator, ringfence_jobs;

CREATE FUNCTION ringfence_v1.erase_subject(kind text, id uuid, reason text, dry_run boolean DEFAULT true)
RETURNS TABLE (relation text, action text, columns text[], rows bigint)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.relation, e.action, e.columns, e.rows
	FROM ringfence.erase_subject(kind, id, reason, dry_run) AS e
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.erase_subject(text, uuid, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.erase_subject(text, uuid, text, boolean)
	TO ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence_v1.erase_subject(text, uuid, text, boolean) IS
	'erases a person from the organization, or with dry_run says what would be done: rows deleted, anonymized and kept, by table; for owners and admins, and for oneself; 42501, PT404, PT409 under a legal hold or where no owner would be left, 22004, 22023, 25000';

CREATE FUNCTION ringfence_v1.erase_me(kind text, reason text)
RETURNS TABLE (relation text, action text, columns text[], rows bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	me uuid := CASE kind WHEN 'user' THEN ringfence.user_id() ELSE ringfence.party_id(kind) END;
BEGIN
	IF me IS NULL THEN
		RAISE EXCEPTION 'subject not found' USING ERRCODE = 'PT404';
	END IF;
	RETURN QUERY
	SELECT e.relation, e.action, e.columns, e.rows
	FROM ringfence.erase_subject(erase_me.kind, me, erase_me.reason, false) AS e;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.erase_me(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.erase_me(text, text) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.erase_me(text, text) IS
	'erases the signed-in user: "user" from everywhere, another kind (client, driver, ...) from the organization, as which the membership ends; says what was done, by table; PT404 if the user is none of that kind, PT409 under a legal hold or where no owner would be left, 22023, 25000';

CREATE FUNCTION ringfence_v1.export_subject(kind text, id uuid) RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.export_subject(kind, id)
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.export_subject(text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.export_subject(text, uuid) TO ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence_v1.export_subject(text, uuid) IS
	'everything that is kept about a person, as one JSON document, without secrets; for owners and admins, and for oneself; that it was done is on record; 42501, PT404, 22004, 22023, 25000';
