-- app: core
-- requires:
-- schemas: ringfence_data, ringfence_v1

-- The tables that every other app stands on, and the endpoints of a member.

CREATE SCHEMA ringfence_data;
COMMENT ON SCHEMA ringfence_data IS 'tables of ringfence: orgs, users, memberships, and what each room keeps';
GRANT USAGE ON SCHEMA ringfence_data TO
	ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;

CREATE SCHEMA ringfence_v1;
COMMENT ON SCHEMA ringfence_v1 IS 'endpoints of ringfence, for PostgREST''s db-schemas';
GRANT USAGE ON SCHEMA ringfence_v1 TO
	ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;

-- What ringfence itself keeps: no tenant reaches these.

CREATE TABLE ringfence_data.apps (
	app text COLLATE "C" NOT NULL PRIMARY KEY,
	version text NOT NULL,
	schemas name[] NOT NULL,
	requires text[] NOT NULL,
	installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ringfence_data.apps IS 'installed apps; written by install(), upgrade() and uninstall()';
COMMENT ON COLUMN ringfence_data.apps.app IS 'name of the app, as in its script''s file name';
COMMENT ON COLUMN ringfence_data.apps.version IS 'installed version';
COMMENT ON COLUMN ringfence_data.apps.schemas IS 'schemas that the app made; uninstall() drops them';
COMMENT ON COLUMN ringfence_data.apps.requires IS 'apps that must be installed with it';
COMMENT ON COLUMN ringfence_data.apps.installed_at IS 'when it was installed';

CREATE TABLE ringfence_data.tables (
	relation regclass NOT NULL PRIMARY KEY,
	row_class text NOT NULL,
	access jsonb NOT NULL,
	columns jsonb NOT NULL DEFAULT '{}',
	protected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	foreign_keys_required boolean NOT NULL DEFAULT false,
	CONSTRAINT tables_row_class_check CHECK (row_class IN ('org', 'user', 'reference', 'system', 'directory'))
);
COMMENT ON TABLE ringfence_data.tables IS 'protected tables; written by protect() and unprotect()';
COMMENT ON COLUMN ringfence_data.tables.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.tables.row_class IS
	'org: rows of one organization; user: rows of one user; reference: shared, read by all; system: no tenant; directory: policies of its own, made by core';
COMMENT ON COLUMN ringfence_data.tables.access IS 'the access matrix that its policies were made from';
COMMENT ON COLUMN ringfence_data.tables.columns IS 'the columns that a command is limited to for every tenant, by command';
COMMENT ON COLUMN ringfence_data.tables.protected_at IS 'when they were made';
COMMENT ON COLUMN ringfence_data.tables.foreign_keys_required IS
	'whether a foreign key that is missing is an error of verify(), no warning; written by require_foreign_keys()';

CREATE TABLE ringfence_data.reference_exemptions (
	relation regclass NOT NULL,
	column_name name NOT NULL,
	reason text NOT NULL,
	PRIMARY KEY (relation, column_name),
	CONSTRAINT reference_exemptions_reason_check CHECK (btrim(reason) <> '' AND length(reason) <= 1000)
);
COMMENT ON TABLE ringfence_data.reference_exemptions IS
	'columns that are named for another table and need no foreign key; written by except_reference() and require_foreign_keys()';
COMMENT ON COLUMN ringfence_data.reference_exemptions.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.reference_exemptions.column_name IS 'the column';
COMMENT ON COLUMN ringfence_data.reference_exemptions.reason IS 'why, in 1 to 1000 characters';

CREATE TABLE ringfence_data.protected_schemas (
	schema_name name NOT NULL PRIMARY KEY
);
COMMENT ON TABLE ringfence_data.protected_schemas IS
	'schemas that admit only protected tables; written by protect_schema() and unprotect_schema()';
COMMENT ON COLUMN ringfence_data.protected_schemas.schema_name IS 'name of the schema';

CREATE TABLE ringfence_data.jwt_keys (
	kid text COLLATE "C" NOT NULL PRIMARY KEY,
	secret bytea NOT NULL,
	issuer text NOT NULL,
	audience text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	signs_from timestamptz NOT NULL DEFAULT clock_timestamp(),
	retired_at timestamptz,
	CONSTRAINT jwt_keys_kid_check CHECK (octet_length(kid) BETWEEN 1 AND 63),
	CONSTRAINT jwt_keys_secret_check CHECK (octet_length(secret) BETWEEN 32 AND 1024),
	CONSTRAINT jwt_keys_issuer_check CHECK (issuer <> ''),
	CONSTRAINT jwt_keys_audience_check CHECK (audience <> '')
);
-- ANALYZE would copy secrets into pg_statistic.
ALTER TABLE ringfence_data.jwt_keys ALTER COLUMN secret SET STATISTICS 0;
COMMENT ON TABLE ringfence_data.jwt_keys IS
	'HS256 keys for tokens; read by ringfence_owner''s functions only; dumps contain the secrets';
COMMENT ON COLUMN ringfence_data.jwt_keys.kid IS 'key id, as in a token''s header';
COMMENT ON COLUMN ringfence_data.jwt_keys.secret IS 'the key, 32 to 1024 bytes';
COMMENT ON COLUMN ringfence_data.jwt_keys.issuer IS 'the iss that a token signed with it must carry';
COMMENT ON COLUMN ringfence_data.jwt_keys.audience IS 'the aud that it must carry';
COMMENT ON COLUMN ringfence_data.jwt_keys.created_at IS 'when it was added';
COMMENT ON COLUMN ringfence_data.jwt_keys.signs_from IS
	'since when it signs: of the keys in use, the one with the latest of these times that has come';
COMMENT ON COLUMN ringfence_data.jwt_keys.retired_at IS 'since when tokens signed with it are refused, or NULL';
