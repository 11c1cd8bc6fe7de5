-- Two organizations with an owner each, and a table with a row of each; the
-- claims as psql variables. For files that need no app.
\set ON_ERROR_STOP on
\set QUIET on
\set org_a '0aaaaaaa-0000-7000-8000-00000000000a'
\set org_b '0bbbbbbb-0000-7000-8000-00000000000b'
\set user_a 'aaaaaaaa-0000-4000-8000-00000000000a'
\set user_b 'bbbbbbbb-0000-4000-8000-00000000000b'
\set client_a 'aaaaaaaa-0000-7000-8000-0000000000c1'
\set claims_a '{"role": "ringfence_member", "sub": "aaaaaaaa-0000-4000-8000-00000000000a", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}'
\set claims_b '{"role": "ringfence_member", "sub": "bbbbbbbb-0000-4000-8000-00000000000b", "org_id": "0bbbbbbb-0000-7000-8000-00000000000b"}'

INSERT INTO ringfence_data.orgs (id, name) VALUES
	(:'org_a', 'Tenant A'),
	(:'org_b', 'Tenant B');
INSERT INTO ringfence_data.users (id, email) VALUES
	(:'user_a', 'owner@a.test'),
	(:'user_b', 'owner@b.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party) VALUES
	(:'org_a', :'user_a', '{owner,admin}', jsonb_build_object('client', :'client_a')),
	(:'org_b', :'user_b', '{owner}', '{}');

CREATE TABLE public.notes (id uuid NOT NULL DEFAULT ringfence.uuid7(), body text NOT NULL);
SELECT ringfence.protect('public.notes', '{"owner": "all", "*": "select"}');
INSERT INTO public.notes (org_id, id, body) VALUES
	(:'org_a', '0aaaaaaa-0000-7000-8000-0000000000e1', 'note of A'),
	(:'org_b', '0bbbbbbb-0000-7000-8000-0000000000e1', 'note of B');

-- What PostgREST does at the head of a request, but for the pre-request.
CREATE FUNCTION public.claim(claims text, role text DEFAULT 'ringfence_member') RETURNS void
LANGUAGE sql
AS $$
	SELECT set_config('role', claim.role, true), set_config('request.jwt.claims', claim.claims, true)
$$;
