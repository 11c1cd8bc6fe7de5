-- What the demo adds to its database: the login role of the HTTP layer, a key
-- to sign tokens with, and an endpoint with a hole in it.
DO $$
BEGIN
	IF to_regrole('demo_web') IS NULL THEN
		CREATE ROLE demo_web LOGIN NOINHERIT;
	END IF;
	GRANT ringfence_authenticator TO demo_web;
END
$$;
SELECT ringfence.add_jwt_key('demo') \g /dev/null

-- A careless function: its argument ends up in the text of a statement.
CREATE SCHEMA demo_v1;
COMMENT ON SCHEMA demo_v1 IS 'an endpoint of the demo';
GRANT USAGE ON SCHEMA demo_v1 TO ringfence_member;
CREATE FUNCTION demo_v1.search_clients(term text) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY EXECUTE 'SELECT c.name FROM cleaning_v1.clients AS c WHERE c.name ILIKE ''' || term || ''' ORDER BY 1 LIMIT 3';
END
$$;
REVOKE EXECUTE ON FUNCTION demo_v1.search_clients(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION demo_v1.search_clients(text) TO ringfence_member;
COMMENT ON FUNCTION demo_v1.search_clients(text) IS 'clients by name; open to SQL injection, to show what that can and cannot do';
