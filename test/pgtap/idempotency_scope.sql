-- Whose a key is: an organization's, a user's, an endpoint's. Whoever else sends it
-- finds it free, whatever they send with it, and can't learn that it is used, by
-- whom, or what was answered; nor can who was a member once, or says to be somebody.
-- What keeps them apart is the key's id (identify() in idempotency_key.c), and
-- where two share an id, the fingerprint.
\ir include/idempotency.sql
SET client_min_messages = warning;
SELECT plan(115);

CREATE SCHEMA regress_v1;
CREATE TABLE regress_v1.items (id uuid NOT NULL DEFAULT ringfence.uuid7(), name text NOT NULL);
SELECT ringfence.protect('regress_v1.items', '{"owner,admin": "all"}') \g /dev/null
CREATE VIEW regress_v1.things WITH (security_invoker = true) AS SELECT i.id, i.org_id, i.name FROM regress_v1.items AS i;
GRANT SELECT, INSERT, UPDATE, DELETE ON regress_v1.things TO ringfence_member;
GRANT USAGE ON SCHEMA regress_v1 TO ringfence_anon, ringfence_member, ringfence_operator;
-- Answers anybody with a secret that is theirs.
CREATE TABLE public.secrets (secret uuid DEFAULT gen_random_uuid(), word text);
CREATE FUNCTION regress_v1.knock(word text) RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER
AS 'INSERT INTO public.secrets (word) VALUES (word) RETURNING secret';

CREATE TABLE public.people AS
SELECT p.name, test.claims(p.org, p.role) AS claims
FROM (VALUES ('owner', 'Alder Clean', 'owner'), ('admin', 'Alder Clean', 'admin'), ('stranger', 'Birch Services', 'owner')) AS p (name, org, role);
-- the owner, as one of the other organization's
INSERT INTO public.people
SELECT 'guest', o.claims || jsonb_build_object('org_id', s.claims -> 'org_id')
FROM public.people AS o, public.people AS s
WHERE o.name = 'owner' AND s.name = 'stranger';
INSERT INTO ringfence_data.memberships (org_id, user_id, roles)
SELECT (p.claims ->> 'org_id')::uuid, (p.claims ->> 'sub')::uuid, '{owner}' FROM public.people AS p WHERE p.name = 'guest';
CREATE FUNCTION public.person(name text) RETURNS jsonb LANGUAGE sql STABLE
AS 'SELECT p.claims FROM public.people AS p WHERE p.name = person.name';

-- What came of each request that an answer was kept of, to be compared.
CREATE TABLE public.answers (name text, answer text);
-- Sends a request: what came of it; with a name, remembers the answer, or says
-- whether it is the same as the one remembered.
CREATE FUNCTION public.ask(name text, call text) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	r test.response;
	known text := (SELECT a.answer FROM public.answers AS a WHERE a.name = ask.name);
BEGIN
	EXECUTE 'SELECT r.* FROM ' || call || ' AS r' INTO r;
	IF known IS NULL AND r.code IS NULL THEN
		INSERT INTO public.answers VALUES (name, coalesce(r.body::text, 'nothing'));
	END IF;
	RETURN concat_ws(' ', r.status, r.code, r.message, CASE WHEN r.headers ? 'Idempotency-Replayed' THEN 'again' END,
		CASE WHEN known IS NOT NULL AND known <> coalesce(r.body::text, 'nothing') THEN 'another answer' END);
END
$$;
CREATE FUNCTION public.knock(name text, claims jsonb, key text, word text DEFAULT 'open', session_key text DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$
	SELECT ask(name, format('test.rpc(%L, ''regress_v1'', ''knock'', %L, headers => %L)', claims, jsonb_build_object('word', word),
		jsonb_strip_nulls(jsonb_build_object('idempotency-key', key, 'x-session-key', session_key))))
$$;

-- Organizations, users, endpoints

CREATE TABLE public.requests (n integer GENERATED ALWAYS AS IDENTITY, who text, call text);
INSERT INTO public.requests (who, call) VALUES
	('an owner', $$test.post(person('owner'), 'regress_v1', 'items', '{"name": "x"}', test.keyed('key', 'representation'))$$),
	('another user of the organization', $$test.post(person('admin'), 'regress_v1', 'items', '{"name": "x"}', test.keyed('key', 'representation'))$$),
	('the user, in another organization', $$test.post(person('guest'), 'regress_v1', 'items', '{"name": "x"}', test.keyed('key', 'representation'))$$),
	('that organization''s owner', $$test.post(person('stranger'), 'regress_v1', 'items', '{"name": "x"}', test.keyed('key', 'representation'))$$),
	('another endpoint', $$test.post(person('owner'), 'regress_v1', 'things', '{"name": "x"}', test.keyed('key', 'representation'))$$),
	('another method', $$test.patch(person('owner'), 'regress_v1', 'items', 'items.name = $1', '{"name": "y"}', '{x}', test.keyed('key', 'representation'))$$),
	('a function', $$test.rpc(person('owner'), 'regress_v1', 'knock', '{"word": "x"}', headers => test.keyed('key'))$$);
SELECT matches(ask(r.who, r.call), '^20[01]$', r.who || ': the key is free') FROM (SELECT * FROM public.requests ORDER BY n) AS r;
SELECT matches(ask(r.who, r.call), '^20[01] again$', r.who || ': the own answer') FROM (SELECT * FROM public.requests ORDER BY n) AS r;
SELECT is((SELECT count(DISTINCT a.answer) FROM public.answers AS a), 7::bigint, 'all of them differ');
SELECT results_eq($$
	SELECT o.name, count(DISTINCT k.user_id), string_agg(k.method || ' ' || k.path, ', ' ORDER BY k.path, k.method) COLLATE "default"
		FROM ringfence_data.idempotency_keys AS k JOIN ringfence_data.orgs AS o ON o.id = k.org_id
		WHERE k.key = 'key'
		GROUP BY 1 ORDER BY 1
$$, $$VALUES ('Alder Clean', 2::bigint, 'PATCH /items, POST /items, POST /items, POST /rpc/knock, POST /things'), ('Birch Services', 2, 'POST /items, POST /items')$$,
	'each on record as it was');

-- Whether a key is used

SELECT is(ask('used', $$test.post(person('owner'), 'regress_v1', 'items', '{"name": "mine"}', test.keyed('used', 'representation'))$$), '201', 'a key is used');
SELECT is(ask('probe', $$test.post(person('stranger'), 'regress_v1', 'items', '{"name": "probe"}', test.keyed('used', 'representation'))$$), '201',
	'a stranger who tries it with something else is not told 422');
SELECT is(ask('guest', $$test.post(person('guest'), 'regress_v1', 'items', '{"name": "probe"}', test.keyed('used', 'representation'))$$), '201', 'nor is the user itself elsewhere');
SELECT is(ask('used', $$test.post(person('admin'), 'regress_v1', 'items', '{"name": "probe"}', test.keyed('used', 'representation'))$$), '201 another answer', 'or a colleague');
SELECT is(ask('used', $$test.post(person('owner'), 'regress_v1', 'items', '{"name": "probe"}', test.keyed('used', 'representation'))$$),
	'422 PT422 the idempotency key was used for another request another answer', 'whose it is, is');
SELECT is(ask('used', $$test.post(person('owner'), 'regress_v1', 'items', '{"name": "mine"}', test.keyed('used', 'representation'))$$), '201 again', 'and still gets the answer');

-- in flight: a request that has not ended keeps nobody else waiting
ALTER DATABASE :DBNAME SET ringfence.idempotency_wait = 0;
SELECT test.disconnect() \g /dev/null
SELECT set_config('test.client', 'regress_web', false) \g /dev/null
SELECT test.client() AS web \gset
SELECT dblink_exec(:'web', 'BEGIN') \g /dev/null
SELECT * FROM dblink(:'web', format($$
	SELECT set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', %L, true), set_config('request.method', 'POST', true),
		set_config('request.path', '/items', true), set_config('request.headers', '{"idempotency-key": "flight"}', true)
$$, person('owner'))) AS t (a text, b text, c text, d text, e text) \g /dev/null
SELECT * FROM dblink(:'web', 'SELECT ringfence.pre_request()') AS t (a text) \g /dev/null
SELECT dblink_exec(:'web', 'INSERT INTO regress_v1.items (name) VALUES (''flight'')') \g /dev/null
SELECT is(ask('f1', $$test.post(person('owner'), 'regress_v1', 'items', '{"name": "flight"}', test.keyed('flight'))$$),
	'409 PT409 a request with the same idempotency key is in progress', 'a key in use by its owner');
SELECT is(r.headers, '{"Retry-After": "1"}', 'who may repeat it in a second')
FROM test.post(person('owner'), 'regress_v1', 'items', '{"name": "flight"}', test.keyed('flight')) AS r;
SELECT is(ask('flight ' || who, format('test.post(person(%L), ''regress_v1'', ''items'', ''{"name": "flight"}'', test.keyed(''flight''))', who)), '201', 'is free to others meanwhile: ' || who)
FROM unnest(ARRAY['stranger', 'guest', 'admin']) AS who;
SELECT is(ask('f2', $$test.post(person('owner'), 'regress_v1', 'things', '{"name": "flight"}', test.keyed('flight'))$$), '201', 'and at another endpoint');
SELECT dblink_exec(:'web', 'ROLLBACK'), dblink_disconnect(:'web') \g /dev/null
ALTER DATABASE :DBNAME RESET ringfence.idempotency_wait;
SELECT is(ask('f1', $$test.post(person('owner'), 'regress_v1', 'items', '{"name": "flight"}', test.keyed('flight'))$$), '201', 'free again after a ROLLBACK');

-- Nobody

SELECT is(knock('anonymous', NULL, 'key'), '200', 'an anonymous request');
SELECT is(knock('anonymous', NULL, 'key'), '200 again', 'once more');
SELECT is(knock('anonymous', NULL, 'key', 'sesame'), '200 another answer', 'somebody else''s with the same key is not told 422, and runs');
SELECT is(knock('anonymous', NULL, 'key', 'sesame'), '200 again another answer', 'with a repetition of its own');
SELECT is(knock('anonymous', NULL, 'key', session_key => ''), '200 again', 'an empty session is none');
SELECT is(knock('session 1', NULL, 'key', session_key => 's1'), '200', 'a session that names itself has keys of its own');
SELECT is(knock('session 1', NULL, 'key', session_key => 's1'), '200 again', 'and its own answers');
SELECT is(knock('session 1', NULL, 'key', 'sesame', 's1'), '422 PT422 the idempotency key was used for another request another answer', 'each for one request');
SELECT is(knock('session 2', NULL, 'key', session_key => 's2'), '200', 'another session knows nothing of them');
SELECT is(knock('session 2', NULL, 'key', 'sesame', 's2'), '422 PT422 the idempotency key was used for another request another answer', 'but of its own');
SELECT is(knock('session s', NULL, '1key', session_key => 's'), '200', 'however the two are cut');
SELECT is(knock('session 1', NULL, 'key', session_key => 's1'), '200 again', 'each has its own still');
SELECT is((SELECT count(DISTINCT a.answer) FROM public.answers AS a WHERE a.name IN ('anonymous', 'session 1', 'session 2', 'session s')), 4::bigint, 'four answers');
SELECT is(knock('owner', person('owner'), 'both', session_key => 's1'), '200', 'a user who names a session');
SELECT is(knock('owner', person('owner'), 'both', session_key => 's2'), '200 again', 'is the user in any');
SELECT is(knock('owner', NULL, 'both', session_key => person('owner') ->> 'sub'), '200 another answer', 'a session named after a user is not the user');
SELECT is(knock('owner', '{"sub": "0d9f6c1e-ffff-7000-8000-00000000ffff"}', 'both', session_key => 's1'), '200 another answer', 'nor are claims of an unknown one');
SELECT is(knock('owner', person('owner') - 'sub', 'both', session_key => 's3'), '200 another answer', 'or of none');
SELECT is(knock('subject', '{"sub": "ext|1", "iss": "https://a.example", "iat": 1}', 'claims', session_key => 's1'), '200', 'a subject that is no user here');
SELECT is(knock('subject', '{"sub": "ext|1", "iss": "https://a.example", "iat": 2}', 'claims', session_key => 's2'), '200 again', 'is the same in another token and session');
SELECT is(knock('subject', '{"sub": "ext|1", "iss": "https://a.example"}', 'claims', 'sesame'), '422 PT422 the idempotency key was used for another request another answer', 'for one request');
SELECT is(knock('subject', '{"sub": "ext|2", "iss": "https://a.example"}', 'claims', session_key => 's1'), '200 another answer', 'and not another subject');
SELECT is(knock('subject', '{"sub": "ext|1", "iss": "https://b.example"}', 'claims', session_key => 's1'), '200 another answer', 'or somebody else''s');
SELECT is(knock('device', '{"device": "x", "iat": 1}', 'claims', session_key => 's1'), '200', 'a token without one');
SELECT is(knock('device', '{"device": "x", "iat": 2}', 'claims', session_key => 's1'), '200 again', 'is what else it says');
SELECT is(knock('device', '{"device": "y", "iat": 1}', 'claims', session_key => 's1'), '200 another answer', 'which others don''t');
SELECT is(knock('owner', person('owner') - 'org_id', 'both'), '200 another answer', 'the user without an organization has keys apart');
SELECT is(knock('owner', person('owner'), 'both'), '200 again', 'which leave the first as it was');

-- Who is no longer what they were

SELECT is(knock('admin', person('admin'), 'left'), '200', 'a member''s answer');
SELECT is(knock('admin', person('admin') || '{"roles": []}', 'left'), '422 PT422 the idempotency key was used for another request another answer',
	'a token that is good for less does not get it');
SELECT is(knock('narrow', person('admin') || '{"roles": []}', 'narrow'), '200', 'one of its own it gets');
SELECT is(knock('narrow', person('admin') || '{"roles": []}', 'narrow'), '200 again', 'again');
SELECT is(knock('narrow', person('admin'), 'narrow'), '422 PT422 the idempotency key was used for another request another answer', 'which one for more does not');
UPDATE ringfence_data.memberships AS m SET roles = '{admin,finance,owner}' WHERE m.user_id = (person('admin') ->> 'sub')::uuid;
SELECT is(knock('more', person('admin') || '{"roles": ["owner", "admin"]}', 'more'), '200', 'a member of several roles');
SELECT is(knock('more', person('admin') || '{"roles": ["admin", "owner"]}', 'more'), '200 again', 'is the same in another order');
SELECT is(knock('more', person('admin') || '{"roles": ["admin", "owner", "nobody"]}', 'more'), '200 again', 'or with one that doesn''t count');
SELECT is(knock('more', person('admin') || '{"roles": ["admin", "owner", "finance"]}', 'more'), '422 PT422 the idempotency key was used for another request another answer', 'but not with one that does');
UPDATE ringfence_data.memberships AS m SET roles = '{owner,finance,admin}' WHERE m.user_id = (person('admin') ->> 'sub')::uuid;
SELECT is(knock('more', person('admin') || '{"roles": ["owner", "admin"]}', 'more'), '200 again', 'however they are listed');
UPDATE ringfence_data.memberships AS m SET roles = '{finance}' WHERE m.user_id = (person('admin') ->> 'sub')::uuid;
SELECT is(knock('admin', person('admin'), 'left'), '422 PT422 the idempotency key was used for another request another answer', 'nor does a member of less');
UPDATE ringfence_data.memberships AS m SET roles = '{admin}' WHERE m.user_id = (person('admin') ->> 'sub')::uuid;
SELECT is(knock('admin', person('admin'), 'left'), '200 again', 'as before, the member does');
DELETE FROM ringfence_data.memberships AS m WHERE m.user_id = (person('admin') ->> 'sub')::uuid;
SELECT is(knock('admin', person('admin'), 'left'), '422 PT422 the idempotency key was used for another request another answer', 'removed, they don''t either');
SELECT is(ask('another user of the organization', (SELECT r.call FROM public.requests AS r WHERE r.who = 'another user of the organization')),
	'422 PT422 the idempotency key was used for another request another answer', 'at no endpoint');
UPDATE ringfence_data.orgs AS o SET status = 'suspended' WHERE o.name = 'Birch Services';
SELECT is(ask('that organization''s owner', (SELECT r.call FROM public.requests AS r WHERE r.who = 'that organization''s owner')),
	'403 PT403 the organization is suspended another answer', 'in an organization that is suspended nobody is answered');
UPDATE ringfence_data.orgs AS o SET status = 'active' WHERE o.name = 'Birch Services';
REVOKE INSERT ON regress_v1.items FROM ringfence_member;
SELECT is(ask('an owner', (SELECT r.call FROM public.requests AS r WHERE r.who = 'an owner')), '403 42501 permission denied for table items another answer',
	'nor where the statement''s privileges are gone');
GRANT INSERT ON regress_v1.items TO ringfence_member;
SELECT is(ask('an owner', (SELECT r.call FROM public.requests AS r WHERE r.who = 'an owner')), '201 again', 'as long as they are');

-- Operators

CREATE ROLE regress_scope_operator LOGIN IN ROLE ringfence_operator;
SELECT person('owner') AS owner, person('owner') ->> 'org_id' AS org_a, person('stranger') ->> 'org_id' AS org_b \gset
-- Enters an organization, and knocks with the setting or, as if it were a request, with what that would have set.
CREATE FUNCTION public.visit(login text, org text, VARIADIC settings text[] DEFAULT '{}'::text[]) RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('test.client', login, true);
	RETURN test.tx(VARIADIC ARRAY[format('SELECT ringfence.enter_org(%L, ''ticket'') IS NULL', org)] || ARRAY(SELECT 'SET LOCAL ' || s FROM unnest(settings) AS s)
		|| '{SET LOCAL ringfence.idempotency_key = key,SELECT regress_v1.knock(''open'')}'::text[]);
END
$$;
SELECT visit('regress_operator', :'org_a') AS first \gset
SELECT matches(:'first'::text, '^f \| [0-9a-f-]{36}$', 'an operator within an organization');
SELECT is(visit('regress_operator', :'org_a'), :'first'::text, 'once more');
SELECT isnt(visit('regress_operator', :'org_b'), :'first'::text, 'within another one');
SELECT isnt(visit('regress_scope_operator', :'org_a'), :'first'::text, 'another operator');
SELECT visit('regress_operator', :'org_a', 'request.method = ''POST''', 'request.path = ''/rpc/knock''') AS forged \gset
SELECT matches(:'forged'::text, '^f \| [0-9a-f-]{36}$', 'one who acts as if it were a member''s request');
SELECT is((SELECT count(*) FROM public.answers AS a WHERE a.answer = to_jsonb(split_part(:'forged', ' | ', 2))::text), 0::bigint, 'has an answer of its own');
SELECT results_eq($$
	SELECT o.name, k.user_id, string_agg(k.method || k.path, ', ' ORDER BY k.method) COLLATE "default"
		FROM ringfence_data.idempotency_keys AS k JOIN ringfence_data.orgs AS o ON o.id = k.org_id
		WHERE k.key = 'key' AND k.user_id IS NULL
		GROUP BY 1, 2 ORDER BY 1
$$, $$VALUES ('Alder Clean', NULL::uuid, ', , POST/rpc/knock'), ('Birch Services', NULL, '')$$, 'they are the organization''s, and no user''s');

-- A connection of one's own, over which one and another signs in

CREATE ROLE regress_scope_login LOGIN;
GRANT ringfence_member TO regress_scope_login;
SELECT ringfence.add_jwt_key('scope') \g /dev/null
CREATE FUNCTION public.sign_in(person text, VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('test.client', 'regress_scope_login', true);
	RETURN test.tx(VARIADIC CASE WHEN person IS NOT NULL THEN ARRAY[format('SELECT ringfence.sign_in(%L) IS NULL', ringfence.jwt_sign(person(person)))] ELSE '{SELECT false}' END || statements);
END
$$;
\set knock '''SET LOCAL ringfence.idempotency_key = key'', ''SELECT regress_v1.knock(''''open'''')'''
SELECT sign_in('owner', :knock) AS first \gset
SELECT matches(:'first'::text, '^f \| [0-9a-f-]{36}$', 'who signed in');
SELECT is(sign_in('owner', :knock), :'first'::text, 'once more');
SELECT isnt(sign_in('guest', :knock), :'first'::text, 'into another organization');
SELECT isnt(sign_in('stranger', :knock), :'first'::text, 'somebody else');
SELECT isnt(sign_in(NULL, :knock), :'first'::text, 'nobody');
SELECT isnt(sign_in(NULL, format('SET LOCAL request.jwt.claims = %L', person('owner')), :knock), :'first'::text, 'nobody, with somebody''s claims');
SELECT isnt(sign_in('stranger', format('SET LOCAL request.jwt.claims = %L', person('owner')), :knock), :'first'::text, 'nor somebody else with them');
SELECT is(sign_in('stranger', 'SET LOCAL ringfence.idempotency_key = probe', 'SELECT regress_v1.knock(''probe'') IS NULL'), 'f | f', 'a key that somebody else');
SELECT is(sign_in('owner', 'SET LOCAL ringfence.idempotency_key = probe', 'SELECT regress_v1.knock(''own'') IS NULL'), 'f | f', 'used for something else is free');
-- as if it were the request that the owner sent before
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'both'), 5::bigint, 'what requests have used');
CREATE FUNCTION public.forge(person text) RETURNS text LANGUAGE sql
AS $$
	SELECT sign_in(person, 'SET LOCAL request.method = ''POST''', 'SET LOCAL request.path = ''/rpc/knock''',
		'SET LOCAL request.headers = ''{"idempotency-key": "both", "x-session-key": "s1"}''', 'SET LOCAL search_path = regress_v1, public',
		'SET LOCAL ringfence.idempotency_key = ''both''', 'SELECT regress_v1.knock(''open'')')
$$;
SELECT is(forge('owner'), 'f | PT422 the idempotency key was used for another request', 'whose it was, meets it by another statement');
SELECT forge('stranger') AS stranger, forge('guest') AS guest, forge(NULL) AS nobody \gset
SELECT matches(f, '^f \| [0-9a-f-]{36}$', 'others don''t') FROM unnest(ARRAY[:'stranger', :'guest', :'nobody']) AS f;
SELECT is((SELECT count(*) FROM public.answers AS a WHERE a.answer = ANY (ARRAY(SELECT to_jsonb(split_part(f, ' | ', 2))::text FROM unnest(ARRAY[:'stranger', :'guest', :'nobody']) AS f))),
	0::bigint, 'nor get its answer');

-- What a function of the API can do from within its own request

CREATE FUNCTION regress_v1.go_elsewhere(name text) RETURNS uuid LANGUAGE plpgsql
AS $$
DECLARE
	made uuid;
BEGIN
	PERFORM set_config('request.method', 'PATCH', true), set_config('request.path', '/items', true),
		set_config('request.headers', '{"idempotency-key": "elsewhere"}', true);
	INSERT INTO regress_v1.items (name) VALUES (name) RETURNING id INTO made;
	RETURN made;
END
$$;
CREATE FUNCTION regress_v1.set_key(name text, key text) RETURNS uuid LANGUAGE plpgsql
AS $$
DECLARE
	made uuid;
BEGIN
	PERFORM set_config('ringfence.idempotency_key', key, true);
	INSERT INTO regress_v1.items (name) VALUES (name) RETURNING id INTO made;
	RETURN made;
END
$$;
SELECT is(ask('go', $$test.rpc(person('owner'), 'regress_v1', 'go_elsewhere', '{"name": "go"}', headers => test.keyed('go'))$$), '200', 'one that says it is another request');
SELECT is(ask('go', $$test.rpc(person('owner'), 'regress_v1', 'go_elsewhere', '{"name": "go"}', headers => test.keyed('go'))$$), '200 again', 'is itself');
SELECT results_eq('SELECT concat_ws('' '', k.method, k.path, k.key) COLLATE "default" FROM ringfence_data.idempotency_keys AS k WHERE k.key IN (''go'', ''elsewhere'')',
	ARRAY['POST /rpc/go_elsewhere go'], 'on record');
SELECT is(ask('set', $$test.rpc(person('owner'), 'regress_v1', 'set_key', '{"name": "set", "key": "used"}', headers => test.keyed('set'))$$),
	'500 25000 the transaction wrote without using its idempotency key', 'one that sets a key after it began fails');
SELECT is(ask('set', $$test.rpc(person('owner'), 'regress_v1', 'set_key', '{"name": "set", "key": ""}', headers => test.keyed('set'))$$), '200', 'one that takes its key away');
SELECT is(ask('set', $$test.rpc(person('owner'), 'regress_v1', 'set_key', '{"name": "set", "key": ""}', headers => test.keyed('set'))$$), '200 again', 'has used it');
SELECT is((SELECT count(*) FROM regress_v1.items AS i WHERE i.name IN ('go', 'set')), 2::bigint, 'each had one effect');
SELECT test.disconnect() \g /dev/null

-- Past the library: the table itself

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT set_config('role', 'ringfence_member', true), set_config('request.jwt.claims', :'owner', true) \g /dev/null
SELECT ok(count(*) > 5, 'an owner lists keys') FROM ringfence_v1.idempotency_keys;
SELECT throws_ok(s, '42501', 'permission denied for table idempotency_keys', 'but may not: ' || s)
FROM unnest(ARRAY[
	'UPDATE ringfence_data.idempotency_keys SET expires_at = now()',
	'UPDATE ringfence_data.idempotency_keys SET org_id = NULL',
	'DELETE FROM ringfence_data.idempotency_keys',
	'INSERT INTO ringfence_data.idempotency_keys SELECT * FROM ringfence_data.idempotency_keys',
	'SELECT response FROM ringfence_data.idempotency_keys',
	'SELECT id FROM ringfence_data.idempotency_keys'
]) AS s;
COMMIT;
RESET SESSION AUTHORIZATION;

SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) AS c \g /dev/null
DROP OWNED BY regress_scope_login, regress_scope_operator;
DROP ROLE regress_scope_login, regress_scope_operator;

-- Who is unknown until the request makes them known

CREATE FUNCTION regress_v1.sign_up() RETURNS uuid LANGUAGE sql VOLATILE SECURITY DEFINER
AS $$
	INSERT INTO ringfence_data.users (id, email)
	SELECT c.sub, c.sub || '@example.com' FROM (VALUES ((current_setting('request.jwt.claims')::json ->> 'sub')::uuid)) AS c (sub)
	ON CONFLICT DO NOTHING;
	INSERT INTO public.secrets (word) VALUES ('signed up') RETURNING secret;
$$;
SELECT is(ask('new user ' || n, format('test.rpc(%L, ''regress_v1'', ''sign_up'', headers => test.keyed(''sign up''))',
		jsonb_build_object('role', 'ringfence_member', 'sub', format('0d9f6c1e-0000-7000-8000-00000000fff%s', n), 'exp', moment))), answer, what)
FROM (VALUES
	(1, 4102444800, '200', 'a token of nobody known, whom the request makes a user'),
	(1, 4102444801, '200 again', 'has the answer again as a user, with another token'),
	(2, 4102444800, '200', 'another token of nobody known is somebody else'),
	(2, 4102444800, '200 again', 'and has an answer of their own')
) AS r (n, moment, answer, what);
SELECT is((SELECT count(*) FROM public.secrets AS s WHERE s.word = 'signed up'), 2::bigint, 'two have signed up');

SELECT * FROM finish();
