CREATE FUNCTION ringfence.uuid7() RETURNS uuid
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_uuid7';
REVOKE EXECUTE ON FUNCTION ringfence.uuid7() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.uuid7() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.uuid7() IS
	'a new time-ordered identifier (RFC 9562, version 7); greater than the one before in the same session';

CREATE FUNCTION ringfence.uuid7_time(id uuid) RETURNS timestamptz
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_uuid7_time';
REVOKE EXECUTE ON FUNCTION ringfence.uuid7_time(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.uuid7_time(uuid)
	TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.uuid7_time(uuid) IS
	'when a UUID version 7 was made, by the clock of whoever made it; NULL for one of another version';

CREATE FUNCTION ringfence.library_version() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_library_version';
REVOKE EXECUTE ON FUNCTION ringfence.library_version() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.library_version() TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.library_version() IS
	'the version of the library that this session runs; verify() compares it with the extension''s';

-- The context. What policies call is granted to every role of ours: it shows a
-- caller nothing but the caller.

CREATE FUNCTION ringfence.org_id() RETURNS uuid
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_org_id';
REVOKE EXECUTE ON FUNCTION ringfence.org_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.org_id() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.org_id() IS
	'the organization of this transaction, or NULL: then policies match no row; PT403 if that organization is suspended or closed';

CREATE FUNCTION ringfence.user_id() RETURNS uuid
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_user_id';
REVOKE EXECUTE ON FUNCTION ringfence.user_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.user_id() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.user_id() IS
	'the user of this transaction, or NULL';

CREATE FUNCTION ringfence.has_role(VARIADIC roles text[]) RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE STRICT COST 10
AS 'MODULE_PATHNAME', 'ringfence_has_role';
REVOKE EXECUTE ON FUNCTION ringfence.has_role(VARIADIC text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.has_role(VARIADIC text[]) TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.has_role(VARIADIC text[]) IS
	'whether the user holds one of these roles in the organization of this transaction';

CREATE FUNCTION ringfence.party_id(kind text) RETURNS uuid
LANGUAGE c STABLE PARALLEL SAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_party_id';
REVOKE EXECUTE ON FUNCTION ringfence.party_id(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.party_id(text) TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.party_id(text) IS
	'who the user is in the organization''s own records: the id of that kind (client, worker, driver, merchant, ...) in the membership, or NULL';

CREATE FUNCTION ringfence.actor() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_actor';
REVOKE EXECUTE ON FUNCTION ringfence.actor() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.actor() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.actor() IS
	'who acts: user, operator, job, system (a superuser''s set_context) or anonymous';

CREATE FUNCTION ringfence.context() RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_context';
REVOKE EXECUTE ON FUNCTION ringfence.context() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.context() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.context() IS
	'the whole context: {actor, sub, org_id, roles, party}, in the form that claims have';

CREATE FUNCTION ringfence.narrowed() RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_narrowed';
REVOKE EXECUTE ON FUNCTION ringfence.narrowed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.narrowed() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.narrowed() IS
	'whether the token of this context names roles or parties, and so may hold less than the membership; for functions that give out tokens';

CREATE FUNCTION ringfence.expires_at() RETURNS timestamptz
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_expires_at';
REVOKE EXECUTE ON FUNCTION ringfence.expires_at() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.expires_at() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.expires_at() IS
	'when the token of this context ends, or NULL; for functions that give out tokens';

CREATE FUNCTION ringfence.request_id() RETURNS text
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_request_id';
REVOKE EXECUTE ON FUNCTION ringfence.request_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.request_id() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.request_id() IS
	'the x-request-id of this request, or one made for this transaction';

CREATE FUNCTION ringfence.client_ip() RETURNS inet
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'ringfence_client_ip';
REVOKE EXECUTE ON FUNCTION ringfence.client_ip() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.client_ip() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.client_ip() IS
	'the caller''s address: the connection''s, or that which ringfence.trusted_proxies proxies vouch for; NULL if unknown; a hint, never a proof';

CREATE FUNCTION ringfence.pre_request() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_pre_request';
REVOKE EXECUTE ON FUNCTION ringfence.pre_request() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.pre_request() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.pre_request() IS
	'PostgREST''s db-pre-request: fixes the context for the transaction; PT403 if the organization is suspended or closed';

-- A policy that would say "true" says this: it depends on the extension, so that
-- DROP EXTENSION ... CASCADE takes it along and leaves its table closed.
CREATE FUNCTION ringfence.installed() RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN true;
REVOKE EXECUTE ON FUNCTION ringfence.installed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.installed() TO ringfence_owner, ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.installed() IS
	'true, for policies that let their role see every row of the organization; they go with the extension';

-- Other ways in than PostgREST's claims.

CREATE FUNCTION ringfence.sign_in(token text, session boolean DEFAULT false) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_sign_in';
REVOKE EXECUTE ON FUNCTION ringfence.sign_in(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.sign_in(text, boolean) TO ringfence_anon, ringfence_member, pg_database_owner;
COMMENT ON FUNCTION ringfence.sign_in(text, boolean) IS
	'verifies a signed token and fixes the context of the transaction, or of every transaction of the session until the token expires; returns the context; 28000 for a token that does not hold';

CREATE FUNCTION ringfence.sign_out() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_sign_out';
REVOKE EXECUTE ON FUNCTION ringfence.sign_out() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.sign_out() TO ringfence_anon, ringfence_member, pg_database_owner;
COMMENT ON FUNCTION ringfence.sign_out() IS
	'ends the session''s sign-in; a transaction''s context stays to its end';

CREATE FUNCTION ringfence.enter_org(org uuid, reason text) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_enter_org';
REVOKE EXECUTE ON FUNCTION ringfence.enter_org(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.enter_org(uuid, text) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.enter_org(uuid, text) IS
	'enters an organization until the transaction ends, for operators and jobs; start and end are recorded in ringfence_data.org_entries even if the transaction rolls back; returns the record''s id; 42501, 42704 (no such organization), 22023 (no reason), 53000 (could not be recorded)';

CREATE FUNCTION ringfence.find_org(name text) RETURNS uuid
LANGUAGE c STABLE PARALLEL RESTRICTED STRICT
AS 'MODULE_PATHNAME', 'ringfence_find_org';
REVOKE EXECUTE ON FUNCTION ringfence.find_org(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.find_org(text) TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.find_org(text) IS
	'the id of the organization of exactly that name, or NULL, for operators and jobs, who see none before they have entered it';

CREATE FUNCTION ringfence.set_context(org uuid DEFAULT NULL, usr uuid DEFAULT NULL, roles text[] DEFAULT NULL, party jsonb DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_set_context';
REVOKE EXECUTE ON FUNCTION ringfence.set_context(uuid, uuid, text[], jsonb) FROM PUBLIC;
COMMENT ON FUNCTION ringfence.set_context(uuid, uuid, text[], jsonb) IS
	'a context without a token, in place of an earlier one, for superusers in tests and repairs; 42501 for everybody else';

CREATE FUNCTION ringfence.begin_org(org uuid) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_begin_org';
REVOKE EXECUTE ON FUNCTION ringfence.begin_org(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.begin_org(uuid) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.begin_org(uuid) IS
	'fixes the context to an organization that is about to be made; 42501 if it exists or another one is fixed';
