-- The context: what pins it, what it says, and that nothing but a known member
-- of an active organization gets one.
\ir include/tenants.sql
CREATE FUNCTION public.holds(VARIADIC roles text[]) RETURNS boolean LANGUAGE plpgsql STABLE
AS $$ BEGIN RETURN ringfence.has_role(VARIADIC roles); END $$;
CREATE FUNCTION public.is_owner() RETURNS boolean LANGUAGE plpgsql STABLE
AS $$ BEGIN RETURN ringfence.has_role('owner'); END $$;
SELECT plan(81);

-- A member of an active organization
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT lives_ok('SELECT ringfence.pre_request()', 'pre_request() takes a member''s claims');
SELECT is(ringfence.org_id(), :'org_a', 'org_id() is the organization of the claims');
SELECT is(ringfence.user_id(), :'user_a', 'user_id() is their subject');
SELECT is(ringfence.actor(), 'user', 'the actor is a user');
SELECT ok(ringfence.has_role('owner'), 'a role of the membership counts');
SELECT ok(ringfence.has_role('nobody', 'admin'), 'one of several roles is enough');
SELECT ok(NOT ringfence.has_role('finance'), 'a role that the membership lacks does not count');
SELECT is(ringfence.has_role(VARIADIC NULL::text[]), NULL, 'has_role(NULL) is NULL');
SELECT ok(NOT ringfence.has_role(VARIADIC ARRAY[NULL]::text[]), 'a NULL role is held by nobody');
SELECT ok(NOT ringfence.has_role(''), 'an empty role is held by nobody');
SELECT is(ringfence.party_id('client'), :'client_a', 'party_id() is the membership''s party');
SELECT is(ringfence.party_id('worker'), NULL, 'a party that the membership lacks is NULL');
SELECT is(
	ringfence.context(),
	jsonb_build_object('actor', 'user', 'sub', :'user_a', 'org_id', :'org_a',
		'roles', '["owner", "admin"]'::jsonb, 'party', jsonb_build_object('client', :'client_a')),
	'context() shows it whole');
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of A'], 'a member sees the organization''s rows alone');
COMMIT;
SELECT is(
	(SELECT current_setting('request.jwt.claims', true)), '', 'the claims are empty after the transaction');
BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT is(ringfence.org_id(), NULL, 'and the next transaction has no organization');
SELECT is_empty('SELECT * FROM public.notes', 'and sees no row');
COMMIT;

-- has_role() must not remember an answer for another argument, nor for another
-- context
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq(
	$$SELECT holds(r) FROM unnest(ARRAY['owner', 'nobod', 'owner', 'nobod']) AS r$$,
	ARRAY[true, false, true, false], 'has_role() with arguments that vary in one place');
COMMIT;
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}');
SELECT ok(is_owner(), 'an answer');
SELECT ringfence.set_context(:'org_b', :'user_a', '{worker}');
SELECT ok(NOT is_owner(), 'is another one in another context');
COMMIT;
SET SESSION AUTHORIZATION regress_web;

-- A token narrows a membership and never widens it
BEGIN;
SELECT claim(jsonb_set(:'claims_a', '{roles}', '["admin", "finance"]')::text);
SELECT ok(ringfence.has_role('admin'), 'a role in token and membership counts');
SELECT ok(NOT ringfence.has_role('owner'), 'a role that the token leaves out does not');
SELECT ok(NOT ringfence.has_role('finance'), 'nor does one that only the token has');
COMMIT;
BEGIN;
SELECT claim(jsonb_set(:'claims_a', '{party}', '{"client": "aaaaaaaa-0000-7000-8000-0000000000c2", "worker": "aaaaaaaa-0000-7000-8000-0000000000c1"}')::text);
SELECT is(ringfence.party_id('client'), NULL, 'a party id that is not the membership''s does not count');
SELECT is(ringfence.party_id('worker'), NULL, 'nor does a kind that only the token has');
COMMIT;
BEGIN;
SELECT claim(jsonb_set(:'claims_a', '{roles}', '[]')::text);
SELECT ok(NOT ringfence.has_role('owner', 'admin'), 'a token with an empty list of roles has none');
SELECT is(ringfence.org_id(), :'org_a', 'but is still its organization''s');
COMMIT;

-- Claims that mean nobody. Each is tried as a read and as a write, and neither
-- may raise anything but the refusal of the write.
CREATE FUNCTION pg_temp.nobody(claims text, what text) RETURNS SETOF text
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', claims, true);
	PERFORM ringfence.pre_request();
	RETURN NEXT ok(
		ringfence.org_id() IS NULL AND (SELECT count(*) FROM public.notes) = 0, what || ': no row');
	RETURN NEXT throws_ok(
		'INSERT INTO public.notes (body) VALUES (''x'')', '42501', NULL, what || ': no write');
END
$$;
SELECT nobody.* FROM pg_temp.nobody('', 'empty claims') AS nobody;
SELECT nobody.* FROM pg_temp.nobody('{}', 'claims without a subject') AS nobody;
SELECT nobody.* FROM pg_temp.nobody('null', 'claims that are no object') AS nobody;
SELECT nobody.* FROM pg_temp.nobody('{"sub": "aaaaaaaa-0000-4000', 'claims cut short') AS nobody;
SELECT nobody.* FROM pg_temp.nobody('{"sub": 7, "org_id": true}', 'claims of another type') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(:'claims_a' || ' {}', 'claims with something behind them') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(repeat('[', 100000), 'claims nested too deep') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(jsonb_set(:'claims_a', '{x}', to_jsonb(repeat('x', 20000)))::text, 'claims too long') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(replace(:'claims_a', '}', ', "org_id": "' || :'org_b' || '"}'), 'an organization named twice') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(replace(:'claims_a', :'org_a', :'org_b'), 'somebody else''s organization') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(replace(:'claims_a', :'org_a', '0fffffff-0000-7000-8000-00000000000f'), 'an organization that does not exist') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(replace(:'claims_a', :'user_a', 'ffffffff-0000-4000-8000-00000000000f'), 'a user that does not exist') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(replace(:'claims_a', :'org_a', '{' || :'org_a' || '}'), 'an organization in another spelling') AS nobody;
SELECT nobody.* FROM pg_temp.nobody(jsonb_set(:'claims_a', '{roles}', '"owner"')::text, 'roles that are no list') AS nobody;

-- A user without an organization is a user all the same
BEGIN;
SELECT claim((:'claims_a'::jsonb - 'org_id')::text);
SELECT is(ringfence.user_id(), :'user_a', 'claims without an organization still have their user');
SELECT is(ringfence.org_id(), NULL, 'and no organization');
SELECT results_eq('SELECT name FROM ringfence_v1.my_orgs', ARRAY['Tenant A'], 'who sees where they belong');
COMMIT;
RESET SESSION AUTHORIZATION;

-- Membership and status hold from the next transaction on
UPDATE ringfence_data.memberships SET roles = '{finance}' WHERE user_id = :'user_a';
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT ok(ringfence.has_role('finance') AND NOT ringfence.has_role('owner'), 'changed roles hold at once');
COMMIT;
RESET SESSION AUTHORIZATION;
UPDATE ringfence_data.memberships SET status = 'invited', invited_as = 'owner@a.test' WHERE user_id = :'user_a';
SET SESSION AUTHORIZATION regress_web;
SELECT nobody.* FROM pg_temp.nobody(:'claims_a', 'a member who was only invited') AS nobody;
RESET SESSION AUTHORIZATION;
DELETE FROM ringfence_data.memberships WHERE user_id = :'user_a';
SET SESSION AUTHORIZATION regress_web;
SELECT nobody.* FROM pg_temp.nobody(:'claims_a', 'a removed member') AS nobody;
RESET SESSION AUTHORIZATION;
UPDATE ringfence_data.orgs SET status = 'suspended' WHERE id = :'org_b';
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_b');
SELECT throws_ok('SELECT ringfence.pre_request()', 'PT403', 'the organization is suspended', 'a suspended organization is refused');
SELECT throws_ok('SELECT * FROM public.notes', 'PT403', 'the organization is suspended', 'without the pre-request too');
ROLLBACK;
RESET SESSION AUTHORIZATION;
UPDATE ringfence_data.orgs SET status = 'closed' WHERE id = :'org_b';
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_b');
SELECT throws_ok('SELECT ringfence.pre_request()', 'PT403', 'the organization is closed', 'so is a closed one');
ROLLBACK;
BEGIN;
SELECT claim(replace(:'claims_b', :'user_b', :'user_a'));
SELECT lives_ok('SELECT ringfence.pre_request()', 'but only its members are told');
COMMIT;
RESET SESSION AUTHORIZATION;

-- The request's own marks
BEGIN;
SELECT set_config('request.headers', '{"x-request-id": "r-1", "x-forwarded-for": "203.0.113.9, 198.51.100.7"}', true);
SELECT is(ringfence.request_id(), 'r-1', 'request_id() is the header''s');
SELECT is(ringfence.client_ip(), NULL, 'a forwarded address is not believed by itself');
SET LOCAL ringfence.trusted_proxies = 1;
SELECT is(ringfence.client_ip(), '198.51.100.7', 'one trusted proxy vouches for the last entry');
SET LOCAL ringfence.trusted_proxies = 2;
SELECT is(ringfence.client_ip(), '203.0.113.9', 'two for the one before');
SET LOCAL ringfence.trusted_proxies = 3;
SELECT is(ringfence.client_ip(), NULL, 'and nobody for one that is not there');
COMMIT;
BEGIN;
SELECT set_config('request.headers', E'{"x-request-id": "a b\\nc", "x-forwarded-for": "drop table"}', true);
SELECT matches(ringfence.request_id(), '^[0-9a-f-]{36}$', 'a request id that could not be logged is replaced');
SELECT is(ringfence.request_id(), ringfence.request_id(), 'and stays the same within a transaction');
SET LOCAL ringfence.trusted_proxies = 1;
SELECT is(ringfence.client_ip(), NULL, 'an address that is none is NULL');
COMMIT;

-- What the functions return outlives the context that it came from
CREATE PROCEDURE public.kept(org uuid, INOUT seen uuid) LANGUAGE plpgsql
AS $$ BEGIN COMMIT; PERFORM ringfence.set_context('0bbbbbbb-0000-7000-8000-00000000000b', 'bbbbbbbb-0000-4000-8000-00000000000b'); seen := org; END $$;
CREATE TABLE public.kept_result (seen uuid);
DO $$
DECLARE
	result uuid;
BEGIN
	PERFORM ringfence.set_context('0aaaaaaa-0000-7000-8000-00000000000a');
	CALL public.kept(ringfence.org_id(), result);
	INSERT INTO public.kept_result VALUES (result);
END
$$;
SELECT results_eq('SELECT seen FROM public.kept_result', ARRAY[:'org_a'::uuid], 'a procedure''s argument is the same after its COMMIT');

-- Code that goes back and forth between two callers, as an export does with each
-- part, keeps each once, until the transaction ends
BEGIN;
DO $$
BEGIN
	FOR i IN 1 .. 500 LOOP
		PERFORM ringfence.set_context('0aaaaaaa-0000-7000-8000-00000000000a'),
			ringfence.set_context('0bbbbbbb-0000-7000-8000-00000000000b', 'bbbbbbbb-0000-4000-8000-00000000000b');
	END LOOP;
END
$$;
SELECT cmp_ok(m.total_bytes, '<=', 65536::bigint, 'contexts that come back a thousand times take no more memory')
FROM pg_backend_memory_contexts AS m WHERE m.name = 'ringfence context';
SELECT is(ringfence.org_id(), :'org_b', 'and the last one counts');
COMMIT;

-- uuid7
SELECT matches(ringfence.uuid7()::text, '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$', 'uuid7() is version 7, variant 10');
SELECT is(
	(SELECT count(*) FROM (
		SELECT u.id <= lag(u.id) OVER (ORDER BY u.n) AS falls
		FROM (SELECT g AS n, ringfence.uuid7() AS id FROM generate_series(1, 10000) AS g) AS u
	) AS s WHERE falls), 0::bigint, '10,000 of them rise strictly');
SELECT ok(
	abs(extract(epoch FROM clock_timestamp()) * 1000
		- ('x' || left(replace(ringfence.uuid7()::text, '-', ''), 12))::bit(48)::bigint) < 60000,
	'and begin with the time in milliseconds');

SELECT * FROM finish();
