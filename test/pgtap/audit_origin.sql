-- A record says who did it, by which login and role, in which request, from where
-- and why. What the caller says of itself (headers, a reason) decides nothing and
-- never stops a write, whatever it holds; but a table can require a reason.
\ir include/tenants.sql
\ir include/audit.sql
\ir include/postgrest.sql
SET client_min_messages = warning;
SELECT plan(93);

CREATE ROLE regress_audit_job LOGIN IN ROLE ringfence_jobs;
CREATE ROLE regress_audit_bi LOGIN IN ROLE ringfence_member;
CREATE TABLE public.box (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
CREATE TABLE public.reasoned (id integer PRIMARY KEY, v text);
SELECT ringfence.audit('public.box'), ringfence.audit('public.reasoned', require_reason => true) \g /dev/null
GRANT SELECT, INSERT, UPDATE ON public.box TO ringfence_anon, ringfence_member, ringfence_operator, ringfence_jobs;

-- The newest record's origin, without what is not known. Asked amid any request.
CREATE FUNCTION public.origin() RETURNS jsonb LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('actor', n.actor, 'user', n.user_id, 'login', n.login, 'role', n.role, 'request', n.request_id,
		'correlation', n.correlation_id, 'ip', n.client_ip, 'agent', n.user_agent, 'reason', n.reason))
	FROM public.newest AS n
$$;
CREATE FUNCTION public.request(claims text, headers text DEFAULT '{}', role text DEFAULT 'ringfence_member') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', request.role, true), set_config('request.jwt.claims', claims, true), set_config('request.headers', headers, true);
	PERFORM ringfence.pre_request();
END $$;

-- Who

INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "system", "login": "postgres", "role": "postgres"}', 'a login of its own');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT request(:'claims_a', '{"x-request-id": "r-1", "user-agent": "curl/8", "x-correlation-id": "c-1", "x-reason": "ticket 7"}');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), jsonb_build_object('actor', 'user', 'user', :'user_a', 'login', 'regress_web', 'role', 'ringfence_member', 'request', 'r-1',
	'correlation', 'c-1', 'agent', 'curl/8', 'reason', 'ticket 7'), 'a user''s request');
COMMIT;
BEGIN;
SELECT request('{"role": "ringfence_anon"}', '{"x-request-id": "r-2"}', 'ringfence_anon');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "anonymous", "login": "regress_web", "role": "ringfence_anon", "request": "r-2"}', 'a request of nobody');
COMMIT;
BEGIN;
SELECT request('{"sub": "cccccccc-0000-4000-8000-00000000000c", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}', '{"x-request-id": "r-3"}');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "anonymous", "login": "regress_web", "role": "ringfence_member", "request": "r-3"}',
	'a request whose claims name a stranger is nobody''s: the claims alone are not believed');
COMMIT;
BEGIN;
SELECT request('{"sub": "bbbbbbbb-0000-4000-8000-00000000000b", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}', '{"x-request-id": "r-4"}');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), jsonb_build_object('actor', 'user', 'user', :'user_b', 'login', 'regress_web', 'role', 'ringfence_member', 'request', 'r-4'),
	'a user in an organization that is not theirs');
COMMIT;
SET SESSION AUTHORIZATION regress_operator;
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "operator", "login": "regress_operator", "role": "regress_operator"}', 'an operator');
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'ticket 8') \g /dev/null
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "operator", "login": "regress_operator", "role": "regress_operator", "reason": "ticket 8"}', 'in an organization, for the reason of the entry');
COMMIT;
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'reason', NULL, 'which ends with the transaction');
SET SESSION AUTHORIZATION regress_audit_job;
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "job", "login": "regress_audit_job", "role": "regress_audit_job"}', 'a job');
BEGIN;
SELECT ringfence.enter_org(:'org_b', 'nightly') \g /dev/null
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "job", "login": "regress_audit_job", "role": "regress_audit_job", "reason": "nightly"}', 'in an organization');
COMMIT;
RESET SESSION AUTHORIZATION;
SET ROLE ringfence_jobs;
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "job", "login": "postgres", "role": "ringfence_jobs"}', 'a superuser who took on the jobs'' role, beside the login');
SET ROLE ringfence_member;
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "system", "login": "postgres", "role": "ringfence_member"}', 'the role that is in force is known at once');
RESET ROLE;
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), jsonb_build_object('actor', 'user', 'user', :'user_a', 'login', 'postgres', 'role', 'postgres'), 'a superuser acting for a user, with the login');
COMMIT;
BEGIN;
SELECT ringfence.set_context(:'org_a');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), '{"actor": "system", "login": "postgres", "role": "postgres"}', 'or for an organization');
COMMIT;
SELECT ringfence.add_jwt_key('audit') AS ignored \gset
SELECT ringfence.jwt_sign(:'claims_a'::jsonb) AS token \gset
SET SESSION AUTHORIZATION regress_audit_bi;
BEGIN;
SELECT ringfence.sign_in(:'token') \g /dev/null
INSERT INTO box (v) VALUES ('x');
SELECT is(origin(), jsonb_build_object('actor', 'user', 'user', :'user_a', 'login', 'regress_audit_bi', 'role', 'regress_audit_bi'), 'a user who signed in without a request');
COMMIT;
RESET SESSION AUTHORIZATION;

-- A first write leaves the transaction free to be somebody's
BEGIN;
INSERT INTO box (v) VALUES ('x');
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'user', :'user_a', 'a superuser who writes first and sets the context later');
SELECT ringfence.set_context(:'org_b', :'user_b', '{owner}');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'user', :'user_b', 'and another one');
COMMIT;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SET LOCAL ROLE ringfence_member;
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'user', NULL, 'a write before there are claims is nobody''s');
SELECT request(:'claims_a');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'user', :'user_a', 'and does not fix the context to nobody');
COMMIT;

-- Code with the rights of another
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_audit_definer;
GRANT INSERT ON public.box TO regress_audit_definer;
CREATE FUNCTION public.definer_write() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ INSERT INTO public.box (v) VALUES ('d') $$;
ALTER FUNCTION public.definer_write() OWNER TO regress_audit_definer;
CREATE TABLE public.above (id integer PRIMARY KEY);
CREATE TABLE public.below (id integer PRIMARY KEY, above_id integer REFERENCES public.above ON DELETE CASCADE);
SELECT ringfence.audit('public.above'), ringfence.audit('public.below') \g /dev/null
INSERT INTO above VALUES (1);
INSERT INTO below VALUES (2, 1);
GRANT SELECT, DELETE ON public.above TO ringfence_member;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT request(:'claims_a');
SELECT definer_write();
SELECT is(origin() - 'request', jsonb_build_object('actor', 'user', 'user', :'user_a', 'login', 'regress_web', 'role', 'regress_audit_definer'),
	'a SECURITY DEFINER function: its owner''s role, and still the user and the login');
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'role', 'ringfence_member', 'after it the role is the user''s again');
DELETE FROM above WHERE id = 1;
-- The role is that of the user, and from 18 on the owner of the table.
SELECT is(origin() - 'request' - 'role', jsonb_build_object('actor', 'user', 'user', :'user_a', 'login', 'regress_web'),
	'what a foreign key''s cascade deletes is the user''s deletion');
COMMIT;

-- The request's id
BEGIN;
SELECT request(:'claims_a');
INSERT INTO box (v) VALUES ('x');
SELECT origin() ->> 'request' AS request_id \gset
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'request', :'request_id', 'a request without an id gets one, the same for all its records');
SELECT is(ringfence.request_id(), :'request_id', 'which it can ask for');
COMMIT;
BEGIN;
SELECT request(:'claims_a');
INSERT INTO box (v) VALUES ('x');
SELECT isnt(origin() ->> 'request', :'request_id', 'the next one another');
COMMIT;

-- Headers

RESET SESSION AUTHORIZATION;
-- What a transaction with those headers leaves on record: they are read once in
-- each, so it takes one for each call.
CREATE FUNCTION public.sent(headers text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('request.headers', headers, true);
	INSERT INTO public.box (v) VALUES ('sent');
	RETURN public.origin() - '{actor,user,login,role,request}'::text[];
END $$;
SELECT is(sent('{"user-agent": "Zoë/1 \"x\"", "x-correlation-id": "c/2", "x-reason": "because"}'), '{"agent": "Zoë/1 \"x\"", "correlation": "c/2", "reason": "because"}', 'headers');
SELECT format('SELECT is(sent(%L), %L, %L)', h, '{}', 'no headers: ' || h) FROM unnest(ARRAY['', '{}', '[]', 'null', '"user-agent"', 'not JSON', '{"user-agent": "cut',
	'{"User-Agent": "upper case is another name"}', '{"user-agent": ""}', '{"user-agent": null, "x-reason": null}']) AS h \gexec
SELECT format('SELECT lives_ok(%L, %L)', format('SELECT sent(%L)', h), 'doesn''t stop a write: ' || left(h, 60)) FROM unnest(ARRAY['{"user-agent": 5, "x-reason": [1], "traceparent": {}}',
	'{"user-agent": "\u0000"}', '{"user-agent": "\ud800"}', repeat('[', 100000), '{"x-correlation-id": "' || repeat('c', 100000) || '"}']) AS h \gexec
SELECT is(sent(E'{"user-agent": "a\\u0007b\\nc\\td\\u001b[31m\\u007f"}') ->> 'agent', 'a b c d [31m ', 'control characters become spaces in an agent');
SELECT is(sent(E'{"x-correlation-id": "a\\r\\nb"}') ->> 'correlation', 'a  b', 'and in a correlation id');
SELECT is(sent('{"user-agent": "x' || repeat('é', 5000) || '"}') ->> 'agent', 'x' || repeat('é', 127), 'an agent of 10 kB is cut to 256 bytes, between characters');
SELECT is(sent('{"user-agent": "' || repeat('a', 256) || '"}') ->> 'agent', repeat('a', 256), 'one of 256 bytes isn''t');
SELECT is(sent('{"x-correlation-id": "' || repeat('c', 1000) || '"}') ->> 'correlation', repeat('c', 128), 'a correlation id is cut to 128 bytes');
SELECT is(sent('{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}'), '{"correlation": "4bf92f3577b34da6a3ce929d0e0e4736"}', 'the trace id of a traceparent is one');
SELECT is(sent('{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-correlation-id": "c"}'), '{"correlation": "c"}', 'unless there is one');
SELECT format('SELECT is(sent(%L), %L, %L)', jsonb_build_object('traceparent', h), '{}', 'no traceparent: ' || h) FROM unnest(ARRAY['x', '00-4bf92f3577b34da6a3ce929d0e0e4736',
	'00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01', '00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01',
	'00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01', '0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
	'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '00-00000000000000000000000000000000-00f067aa0ba902b7-01']) AS h \gexec
SELECT is(sent('{"x-forwarded-for": "10.0.0.1"}'), '{}', 'where no proxy is trusted, none tells the address');
SET ringfence.trusted_proxies = 1;
SELECT is(sent('{"x-forwarded-for": "10.0.0.1, 192.0.2.7"}'), '{"ip": "192.0.2.7"}', 'where one is, its entry counts');
SELECT is(sent('{"x-forwarded-for": "2001:db8::1"}'), '{"ip": "2001:db8::1"}', 'of either family');
SELECT is(sent('{"x-forwarded-for": "192.0.2.7; DROP TABLE x"}'), '{}', 'if it is an address');
RESET ringfence.trusted_proxies;
SELECT is(sent('{"user-agent": "a", "x-request-id": "outside"}'), '{"agent": "a"}', 'outside a request there is no request id');
SELECT is((SELECT request_id FROM newest), NULL, 'whatever a header says');

-- Reasons
SELECT is(sent('{"x-reason": "' || repeat('é', 500) || '"}') ->> 'reason', repeat('é', 500), 'a reason of 1,000 bytes');
SELECT throws_ok(format('SELECT sent(%L)', '{"x-reason": "x' || repeat('é', 500) || '"}'), '22023', 'the reason is too long', 'and no more');
SELECT throws_ok(format('SET ringfence.reason = %L', repeat('r', 1001)), '22023', format('invalid value for parameter "ringfence.reason": "%s"', repeat('r', 1001)), 'nor by the setting');
BEGIN;
SET LOCAL ringfence.reason = 'by setting';
SELECT is(sent('{"x-reason": "by header"}') ->> 'reason', 'by setting', 'the setting''s reason goes before the header''s');
SET LOCAL ringfence.reason = 'another';
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'reason', 'another', 'it can change in a transaction');
SET LOCAL ringfence.reason = E' \t\n';
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'reason', 'by header', 'a blank one is none');
COMMIT;
SELECT is(sent('{"x-reason": "  \t "}'), '{}', 'nor is a blank header');
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'the entry''s') \g /dev/null
SET LOCAL ringfence.reason = 'of this change';
INSERT INTO box (v) VALUES ('x');
SELECT is(origin() ->> 'reason', 'of this change', 'an operator can give one more precise than that of the entry');
COMMIT;
RESET SESSION AUTHORIZATION;

-- Required reasons
SELECT throws_ok($$INSERT INTO reasoned VALUES (1)$$, '23502', 'a reason is required to change table "reasoned"', 'INSERT without a reason');
SELECT is_empty('SELECT * FROM reasoned', 'is refused');
BEGIN;
SET LOCAL ringfence.reason = 'ticket 9';
INSERT INTO reasoned VALUES (1, 'a');
SELECT is(origin() ->> 'reason', 'ticket 9', 'with one it is recorded');
COMMIT;
SELECT throws_ok($$UPDATE reasoned SET v = 'b'$$, '23502', 'a reason is required to change table "reasoned"', 'UPDATE without one');
SELECT throws_ok($$UPDATE reasoned SET id = 2$$, '23502', 'a reason is required to change table "reasoned"', 'of the key');
SELECT throws_ok($$DELETE FROM reasoned$$, '23502', 'a reason is required to change table "reasoned"', 'DELETE');
SELECT throws_ok($$TRUNCATE reasoned$$, '23502', 'a reason is required to change table "reasoned"', 'TRUNCATE');
SELECT throws_ok($$INSERT INTO reasoned VALUES (1) ON CONFLICT (id) DO UPDATE SET v = 'c'$$, '23502', 'a reason is required to change table "reasoned"', 'ON CONFLICT');
SELECT throws_ok($$WITH w AS (DELETE FROM reasoned) SELECT 1$$, '23502', 'a reason is required to change table "reasoned"', 'in WITH');
BEGIN;
SET LOCAL ringfence.reason = '  ';
SELECT throws_ok($$UPDATE reasoned SET v = 'b'$$, '23502', 'a reason is required to change table "reasoned"', 'a blank one is none');
COMMIT;
SELECT lives_ok($$UPDATE reasoned SET v = v$$, 'what changes nothing needs no reason');
SELECT results_eq('SELECT id, v FROM reasoned', $$VALUES (1, 'a')$$, 'nothing had changed');
SELECT sent('{"x-reason": "header"}') AS ignored \gset
BEGIN;
SELECT set_config('request.headers', '{"x-reason": "by header"}', true) \g /dev/null
DELETE FROM reasoned;
SELECT is(origin() ->> 'reason', 'by header', 'a header will do');
COMMIT;
SELECT throws_ok($$INSERT INTO reasoned VALUES (3)$$, '23502', 'a reason is required to change table "reasoned"', 'for its transaction');

-- As PostgREST sends it
SELECT is(r.status, 201, 'a request')
FROM test.post(test.claims('Tenant A'), 'public', 'notes', '{"body": "posted"}',
	'{"x-request-id": "post-1", "x-reason": "by post", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}') AS r;
SELECT is(origin(), jsonb_build_object('actor', 'user', 'user', :'user_a', 'login', 'regress_web', 'role', 'ringfence_member', 'request', 'post-1',
	'correlation', '4bf92f3577b34da6a3ce929d0e0e4736', 'agent', 'curl/7.88.1', 'reason', 'by post'), 'all of it');
SELECT is(r.status, 201, 'the next one on the same connection')
FROM test.post(test.claims('Tenant B'), 'public', 'notes', '{"body": "posted"}', '{"x-request-id": "not an id\n", "user-agent": "other"}') AS r;
SELECT is(origin() - 'request', jsonb_build_object('actor', 'user', 'user', :'user_b', 'login', 'regress_web', 'role', 'ringfence_member', 'agent', 'other'),
	'has nothing of it');
SELECT matches(origin() ->> 'request', '^[0-9a-f]{8}-[0-9a-f]{4}-7', 'an id that could be none is replaced');
SELECT ringfence.audit('public.notes', require_reason => true) \g /dev/null
SELECT is((r.status, r.code, r.message)::text, '(400,23502,"a reason is required to change table ""notes""")', 'a reason that is required and missing')
FROM test.post(test.claims('Tenant A'), 'public', 'notes', '{"body": "posted"}') AS r;
SELECT is(r.status, 201, 'and sent') FROM test.post(test.claims('Tenant A'), 'public', 'notes', '{"body": "posted"}', '{"x-reason": "asked to"}') AS r;
SELECT test.disconnect() \g /dev/null

-- When, and in which transaction
BEGIN;
SELECT clock_timestamp() AS before, pg_current_xact_id()::text AS xid \gset
INSERT INTO box (v) VALUES ('x'), ('y'), ('z');
SELECT ok(count(*) = 3 AND min(l.recorded_at) >= date_trunc('milliseconds', :'before'::timestamptz) AND max(l.recorded_at) <= clock_timestamp(), 'records have the time of the change')
	FROM ringfence_data.audit_log AS l WHERE l.transaction_id = :'xid'::bigint;
SELECT ok(bool_and(l.id > l.previous), 'ids grow')
	FROM (SELECT id, lag(id) OVER (ORDER BY (new ->> 'id')::integer) AS previous FROM ringfence_data.audit_log WHERE transaction_id = :'xid'::bigint) AS l;
COMMIT;

DROP OWNED BY regress_audit_definer, regress_audit_job, regress_audit_bi;
DROP ROLE regress_audit_job, regress_audit_bi, regress_audit_definer;
SELECT * FROM finish();
