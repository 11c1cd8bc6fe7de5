-- What the demo adds to its database: the login role of the HTTP layer, a key
-- to sign tokens with, an endpoint with a hole in it, and one for payments that
-- has never heard of anything being sent twice.
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
COMMENT ON SCHEMA demo_v1 IS 'endpoints of the demo';
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

CREATE SCHEMA demo;
COMMENT ON SCHEMA demo IS 'a table of the demo';
GRANT USAGE ON SCHEMA demo TO ringfence_member;
BEGIN;
CREATE TABLE demo.payments (
	id uuid NOT NULL DEFAULT ringfence.uuid7() PRIMARY KEY,
	amount_minor bigint NOT NULL,
	paid_by text NOT NULL
);
COMMENT ON TABLE demo.payments IS 'payments, by nothing but an id that each new row gets';
SELECT ringfence.protect('demo.payments', '{"owner, admin": "select insert"}') \g /dev/null
COMMIT;
CREATE VIEW demo_v1.payments WITH (security_invoker = true) AS
SELECT p.org_id, p.id, p.amount_minor, p.paid_by FROM demo.payments AS p;
COMMENT ON VIEW demo_v1.payments IS 'payments, read and added by owners and admins';
GRANT SELECT, INSERT ON demo_v1.payments TO ringfence_member;
