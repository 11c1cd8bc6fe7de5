-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION ringfence" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;

-- CREATE EXTENSION takes a schema that is there already, with the owner it has:
-- who owns the schema of our code could put other code in its place.
DO LANGUAGE plpgsql $do$
BEGIN
	IF EXISTS (
		SELECT FROM pg_namespace AS n
		INNER JOIN pg_roles AS o ON o.oid = n.nspowner
		LEFT JOIN aclexplode(n.nspacl) AS a ON a.privilege_type = 'CREATE'
		LEFT JOIN pg_roles AS g ON g.oid = a.grantee
		WHERE n.nspname = 'ringfence'
			AND (NOT o.rolsuper OR (a.grantee IS NOT NULL AND g.rolsuper IS NOT TRUE))
	) THEN
		RAISE EXCEPTION 'schema "ringfence" exists and others than superusers may put objects into it'
			USING ERRCODE = 'duplicate_schema', HINT = 'Drop the schema first.';
	END IF;
END
$do$;

-- Roles belong to the cluster: a second database finds them there, and DROP
-- EXTENSION leaves them. A role that exists with more rights than it may have
-- was not made by us, so it is refused rather than adopted.
DO LANGUAGE plpgsql $do$
DECLARE
	wanted record;
	existing pg_catalog.pg_roles;
BEGIN
	FOR wanted IN
		SELECT *
		FROM (VALUES
			('ringfence_owner', 'NOLOGIN NOINHERIT', false),
			('ringfence_anon', 'NOLOGIN NOINHERIT', false),
			('ringfence_member', 'NOLOGIN NOINHERIT', false),
			('ringfence_operator', 'NOLOGIN', false),
			('ringfence_jobs', 'NOLOGIN BYPASSRLS', true),
			('ringfence_authenticator', 'NOLOGIN NOINHERIT', false)
		) AS r (name, attributes, bypasses)
	LOOP
		SELECT r.* INTO existing FROM pg_catalog.pg_roles AS r WHERE r.rolname = wanted.name;
		IF NOT FOUND THEN
			-- Two databases may be set up at the same time.
			BEGIN
				EXECUTE format('CREATE ROLE %I', wanted.name) || ' ' || wanted.attributes;
			EXCEPTION WHEN duplicate_object OR unique_violation THEN
				NULL;
			END;
		ELSIF existing.rolsuper OR existing.rolcanlogin OR existing.rolcreaterole OR existing.rolcreatedb
			OR (existing.rolbypassrls AND NOT wanted.bypasses) THEN
			RAISE EXCEPTION 'role "%" exists with rights that it may not have', wanted.name
				USING ERRCODE = 'duplicate_object',
				DETAIL = 'It must not be able to log in, to create roles or databases, or to bypass row security.',
				HINT = 'Rename that role, or take those rights from it.';
		END IF;
	END LOOP;
END
$do$;

GRANT ringfence_anon, ringfence_member TO ringfence_authenticator;

COMMENT ON SCHEMA ringfence IS 'code of ringfence: functions that keep the tenants of this database apart';
GRANT USAGE ON SCHEMA ringfence TO
	ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
