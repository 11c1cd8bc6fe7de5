-- Orgs, users and memberships. Their axes are their own, so their policies are
-- written out here: an org is its own tenant, a user belongs to no org, and a
-- membership is its org's row and its user's row alike.

CREATE TABLE ringfence_data.orgs (
	id uuid NOT NULL DEFAULT ringfence.uuid7() PRIMARY KEY,
	name text NOT NULL,
	region text,
	status text NOT NULL DEFAULT 'active',
	settings jsonb NOT NULL DEFAULT '{}',
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT orgs_name_key UNIQUE (name),
	CONSTRAINT orgs_name_check CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 200),
	CONSTRAINT orgs_status_check CHECK (status IN ('active', 'suspended', 'closed', 'deleted')),
	CONSTRAINT orgs_settings_check CHECK (jsonb_typeof(settings) = 'object' AND octet_length(settings::text) <= 65536)
);
COMMENT ON TABLE ringfence_data.orgs IS 'organizations: the tenants';
COMMENT ON COLUMN ringfence_data.orgs.id IS 'identifies the organization; org_id everywhere else';
COMMENT ON COLUMN ringfence_data.orgs.name IS 'unique name, 1 to 200 characters';
COMMENT ON COLUMN ringfence_data.orgs.region IS
	'where its data is to be kept, in the operator''s own terms: that of ringfence.region, where that is set';
COMMENT ON COLUMN ringfence_data.orgs.status IS
	'active, suspended, closed, or deleted: then nothing is left of it but what outlives it; members of one that is not active are refused (PT403)';
COMMENT ON COLUMN ringfence_data.orgs.settings IS 'settings of the organization, a JSON object of 64 kB at most; set_org_settings() writes them';
COMMENT ON COLUMN ringfence_data.orgs.created_at IS 'when it was made';

-- All that an organization has is in its organization's database, so that it is
-- enough to look at the organization.
CREATE FUNCTION ringfence_data.keep_region() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here CONSTANT text := nullif(current_setting('ringfence.region', true), '');
BEGIN
	IF NEW.region IS NULL AND TG_OP = 'INSERT' THEN
		NEW.region := here;
	ELSIF here <> coalesce(NEW.region, '') THEN
		RAISE EXCEPTION 'an organization of region "%" cannot be kept here', coalesce(NEW.region, '')
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('This database is of region "%s".', here);
	END IF;
	RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.keep_region() FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.keep_region() IS
	'trigger: an organization is of the region in ringfence.region, which a new one gets by itself; any, where that is not set; 22023';

CREATE TRIGGER keep_region BEFORE INSERT OR UPDATE OF region ON ringfence_data.orgs
FOR EACH ROW EXECUTE FUNCTION ringfence_data.keep_region();

-- A user's id is random, not time-ordered: whoever invites an address sees the
-- id, and its time would tell whether the address was known before.
CREATE TABLE ringfence_data.users (
	id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	email text NOT NULL,
	name text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT users_email_check CHECK (email ~ '^[^@\s[:cntrl:]]+@[^@\s[:cntrl:]]+$' AND length(email) <= 254)
);
CREATE UNIQUE INDEX users_email_key ON ringfence_data.users (lower(email));
COMMENT ON TABLE ringfence_data.users IS 'people, each once, whatever organizations they belong to';
COMMENT ON COLUMN ringfence_data.users.id IS 'identifies the user; "sub" in a token';
COMMENT ON COLUMN ringfence_data.users.email IS 'e-mail address, unique without regard to case';
COMMENT ON COLUMN ringfence_data.users.name IS 'the name to show, or NULL';
COMMENT ON COLUMN ringfence_data.users.created_at IS 'when the user was first known';

CREATE TABLE ringfence_data.memberships (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	user_id uuid NOT NULL REFERENCES ringfence_data.users (id),
	roles text[] NOT NULL DEFAULT '{}',
	party jsonb NOT NULL DEFAULT '{}',
	status text NOT NULL DEFAULT 'active',
	invited_as text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org_id, user_id),
	CONSTRAINT memberships_roles_check CHECK (
		cardinality(roles) <= 32
		AND coalesce(array_ndims(roles), 1) = 1
		AND cardinality(string_to_array(array_to_string(roles, ','), ',')) = cardinality(roles)
		AND array_to_string(roles, ',') ~ '^([a-z][a-z0-9_]{0,30}(,[a-z][a-z0-9_]{0,30})*)?$'
	),
	CONSTRAINT memberships_party_check CHECK (jsonb_typeof(party) = 'object'),
	CONSTRAINT memberships_status_check CHECK (status IN ('invited', 'active')),
	CONSTRAINT memberships_invited_as_check CHECK (status = 'active' OR invited_as IS NOT NULL)
);
CREATE INDEX memberships_user_id_idx ON ringfence_data.memberships (user_id);
COMMENT ON TABLE ringfence_data.memberships IS
	'who belongs to which organization and as what; looked up in every request';
COMMENT ON COLUMN ringfence_data.memberships.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.memberships.user_id IS 'the user';
COMMENT ON COLUMN ringfence_data.memberships.roles IS
	'roles in the organization, as access matrices name them: lower case, at most 32; a token can narrow them, never widen';
COMMENT ON COLUMN ringfence_data.memberships.party IS
	'who the user is in the organization''s own records: {"client": uuid, "worker": uuid, ...}';
COMMENT ON COLUMN ringfence_data.memberships.status IS 'invited (grants nothing yet) or active';
COMMENT ON COLUMN ringfence_data.memberships.invited_as IS 'the address that the invitation was for';
COMMENT ON COLUMN ringfence_data.memberships.created_at IS 'when the user was invited or added';

CREATE TABLE ringfence_data.org_entries (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	actor text NOT NULL,
	login text NOT NULL,
	reason text NOT NULL,
	pid integer NOT NULL,
	started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	ended_at timestamptz,
	PRIMARY KEY (org_id, id),
	CONSTRAINT org_entries_actor_check CHECK (actor IN ('operator', 'job')),
	CONSTRAINT org_entries_ended_at_check CHECK (ended_at >= started_at OR ended_at IS NULL)
);
COMMENT ON TABLE ringfence_data.org_entries IS
	'each time an operator or a job entered the organization; written by enter_org() apart from its transaction, so that a rollback does not erase it';
COMMENT ON COLUMN ringfence_data.org_entries.org_id IS 'the organization that was entered';
COMMENT ON COLUMN ringfence_data.org_entries.id IS 'identifies the entry';
COMMENT ON COLUMN ringfence_data.org_entries.actor IS 'operator or job';
COMMENT ON COLUMN ringfence_data.org_entries.login IS 'the database role that was logged in';
COMMENT ON COLUMN ringfence_data.org_entries.reason IS 'the reason that was given';
COMMENT ON COLUMN ringfence_data.org_entries.pid IS 'process id of the session';
COMMENT ON COLUMN ringfence_data.org_entries.started_at IS 'when it entered';
COMMENT ON COLUMN ringfence_data.org_entries.ended_at IS
	'when its transaction ended; NULL while it runs, or after the server stopped under it, until the next entry';
