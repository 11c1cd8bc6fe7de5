-- Idempotency where somebody means it no harm, or all of it: headers that can't be
-- read, labels that lie, code that runs where no statement does, callers whom nobody
-- knows, answers that are secrets, tables that were changed. A write with a key has
-- one effect, or fails, and its answer is for nobody else.
\ir include/idempotency.sql
SET client_min_messages = warning;
SELECT plan(157);

-- Every call of w() leaves a line.
CREATE TABLE public.log (n integer GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION public.w(what text) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$ BEGIN INSERT INTO public.log (what) VALUES (what); RETURN what; END $$;
CREATE FUNCTION public.logged() RETURNS text LANGUAGE sql
AS $$ WITH l AS (DELETE FROM public.log RETURNING n, what) SELECT coalesce(string_agg(l.what, ' ' ORDER BY l.n), '-') FROM l $$;
CREATE TABLE public.t (a integer PRIMARY KEY);
-- Sends a statement twice with a key of its own: the answer, and what was logged;
-- or both answers where they differ.
CREATE FUNCTION public.twice(statement text, VARIADIC settings text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	key CONSTANT text := 'twice ' || md5(statement);
	first CONSTANT text := test.once(key, statement, 1, VARIADIC settings);
	again CONSTANT text := test.once(key, statement, 1, VARIADIC settings);
BEGIN
	RETURN concat_ws(' :: ', first, CASE WHEN again IS DISTINCT FROM first THEN again END, logged());
END
$$;

CREATE SCHEMA regress_v1;
CREATE TABLE regress_v1.items (id uuid NOT NULL DEFAULT ringfence.uuid7(), name text NOT NULL);
SELECT ringfence.protect('regress_v1.items', '{"owner,admin": "all"}') \g /dev/null
GRANT USAGE ON SCHEMA regress_v1 TO ringfence_anon, ringfence_member;
CREATE FUNCTION public.owner() RETURNS jsonb LANGUAGE sql STABLE RETURN test.claims('Alder Clean', 'owner') - 'roles' - 'party';
CREATE FUNCTION public.named(name text) RETURNS bigint LANGUAGE sql
AS $$ SELECT count(*) FROM regress_v1.items AS i WHERE i.name = named.name $$;
-- A request of the owner's by a layer that sends what it likes as headers.
CREATE FUNCTION public.raw(path text, headers text, VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('test.client', 'regress_web', true);
	RETURN test.tx(VARIADIC ARRAY['SET LOCAL ROLE ringfence_member', format('SET LOCAL request.jwt.claims = %L', owner()), 'SET LOCAL request.method = ''POST''',
		format('SET LOCAL request.path = %L', path), format('SET LOCAL request.headers = %L', headers), 'SELECT ringfence.pre_request() IS NOT NULL'] || statements);
END
$$;

-- Headers that are long, or can't be read

\set long '$$test.post(owner(), ''regress_v1'', ''items'', ''{"name": "long"}'', test.keyed(''long'', ''representation'', jsonb_build_object(''x-pad'', repeat(''x'', 17000))))$$'
SELECT is(ARRAY[test.sent(:long), test.sent(:long)], '{201,"201 again"}', 'a key among long headers');
SELECT is(named('long'), 1::bigint, 'done once');
SELECT is(test.sent(call), '400 PT400 the headers of the request cannot be read', 'headers of more than 256 kB that have a key: ' || n)
FROM generate_series(1, 2) AS n, (VALUES ($$test.post(owner(), 'regress_v1', 'items', '{"name": "longer"}', test.keyed('longer', other => jsonb_build_object('x-pad', repeat('x', 270000))))$$)) AS r (call);
SELECT is(named('longer'), 0::bigint, 'nothing is done');
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "longer"}', jsonb_build_object('x-pad', repeat('x', 270000)))$$), '201', 'it is without one');
SELECT is(raw('/items', headers, 'INSERT INTO regress_v1.items (name) VALUES (''raw'')'), 'PT400 the headers of the request cannot be read', 'refused: ' || headers)
FROM unnest(ARRAY[
	'{"idempotency-key": "raw", "x": "\u0000"}',
	'{"idempotency-key": "a\u0000b"}',
	'{"idempotency-key": "raw", "x": "\ud800"}',
	'{"idempotency-key": "raw"',
	'{"idempotency-key": "raw"} {}',
	'[{"idempotency-key": "raw"}]',
	'idempotency-key: raw'
]) AS headers;
SELECT is(named('raw'), 0::bigint, 'nothing is done');
SELECT is(raw('/items', '{"x": "\u0000"}', 'INSERT INTO regress_v1.items (name) VALUES (''raw'')'), 't | INSERT 0 1', 'it is without a key among them');

-- Callers whom the directory doesn't know, but their tokens tell apart

CREATE FUNCTION regress_v1.whoami() RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$ BEGIN RETURN public.w('who') || ' ' || (current_setting('request.jwt.claims')::jsonb - 'exp' - 'iat' - 'jti' - 'nbf')::text; END $$;
CREATE TABLE public.strangers (n integer GENERATED ALWAYS AS IDENTITY, who text, claims jsonb);
INSERT INTO public.strangers (who, claims) VALUES
	('a subject that is no user', '{"sub": "e8a8c0d5-0000-4000-8000-000000000001"}'),
	('another one', '{"sub": "e8a8c0d5-0000-4000-8000-000000000002"}'),
	('one that is no UUID', '{"sub": "alice@idp"}'),
	('of another issuer', '{"sub": "alice@idp", "iss": "https://idp.example"}'),
	('in an organization', '{"sub": "alice@idp", "org_id": "0d9f6c1e-0000-7000-8000-0000000000ff"}'),
	('no subject', '{"email": "bob@example.com"}'),
	('no subject, with something else', '{"email": "carol@example.com"}'),
	('an empty one', '{"sub": "", "email": "dave@example.com"}'),
	('another empty one', '{"sub": "", "email": "erin@example.com"}'),
	('a number', '{"sub": 1}'),
	('another number', '{"sub": 2}'),
	('nothing but a role', '{}');
CREATE FUNCTION public.whoami(claims jsonb) RETURNS text LANGUAGE sql
AS $$
	SELECT concat_ws(' ', r.status, r.code, CASE WHEN r.code IS NULL THEN r.body #>> '{}' END, CASE WHEN r.headers ? 'Idempotency-Replayed' THEN 'again' END)
	FROM test.rpc('{"role": "ringfence_member"}' || claims, 'regress_v1', 'whoami', headers => test.keyed('1')) AS r
$$;
SELECT is(whoami(s.claims), '200 who ' || ('{"role": "ringfence_member"}' || s.claims)::text, 'one key: ' || s.who) FROM (SELECT * FROM public.strangers ORDER BY n) AS s;
SELECT is(logged(), btrim(repeat('who ', 12)), 'each is heard');
SELECT is(whoami(s.claims || passing), '200 who ' || ('{"role": "ringfence_member"}' || s.claims)::text || ' again', format('the own answer, with %s: %s', passing, s.who))
FROM (SELECT * FROM public.strangers ORDER BY n) AS s, LATERAL (VALUES (jsonb_build_object('exp', 4102444800 + s.n, 'iat', s.n, 'jti', s.n::text))) AS p (passing);
SELECT is(logged(), '-', 'nobody is heard twice');

-- Tokens, wherever they are given out

SELECT ringfence.add_jwt_key('hostile') \g /dev/null
CREATE TABLE public.tokens (token text);
GRANT INSERT ON public.tokens TO ringfence_member;
CREATE FUNCTION public.keep(token text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO public.tokens VALUES (token); RETURN token; END $$;
CREATE FUNCTION regress_v1.change(org uuid) RETURNS jsonb LANGUAGE plpgsql VOLATILE
AS $$ BEGIN RETURN jsonb_build_object('token', public.keep(ringfence_v1.switch_org(org))); END $$;
CREATE FUNCTION regress_v1.change_quietly(org uuid) RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	PERFORM set_config('response.headers', jsonb_build_array(jsonb_build_object('Set-Cookie', 'token=' || public.keep(ringfence_v1.switch_org(org))))::text, true);
	RETURN 'changed';
END
$$;
SELECT owner() AS owner, owner() ->> 'org_id' AS org \gset
SELECT matches(raw('/graphql', '{"idempotency-key": "token 1"}', format('SELECT keep(ringfence_v1.switch_org(%L))', :'org')), '^t \| eyJ[^ |]+$', 'a token, by another path');
SELECT is(raw('/graphql', '{"idempotency-key": "token 1"}', format('SELECT keep(ringfence_v1.switch_org(%L))', :'org')), 't | nothing', 'is given once');
SELECT matches(test.sent(call) || ' ' || test.sent(call), '^200 200 again$', 'by ' || what)
FROM (VALUES
	('a function that puts it somewhere', $$test.rpc(owner(), 'regress_v1', 'change', jsonb_build_object('org', owner() ->> 'org_id'), headers => test.keyed('token 2'))$$),
	('one that makes a header of it', $$test.rpc(owner(), 'regress_v1', 'change_quietly', jsonb_build_object('org', owner() ->> 'org_id'), headers => test.keyed('token 3'))$$)
) AS r (what, call);
SELECT is(raw('/graphql', '{}', format('SELECT (ringfence.idempotent(''token 4'', ''regress_v1.change(uuid)'', jsonb_build_object(''org'', %L::text)) ->> ''token'') LIKE ''eyJ%%''', :'org')), 't | t', 'by idempotent()');
SELECT is(raw('/graphql', '{}', format('SELECT ringfence.idempotent(''token 4'', ''regress_v1.change(uuid)'', jsonb_build_object(''org'', %L::text))', :'org')), 't | {"complete": false, "replayed": true}', 'which has none the second time');
SELECT is(raw('/graphql', '{"idempotency-key": "token 5"}', format('SELECT ringfence.idempotent(''token 6'', ''regress_v1.change(uuid)'', jsonb_build_object(''org'', %L::text)) IS NULL', :'org')), 't | f', 'by a request with a key of its own');
SELECT set_config('test.client', 'regress_web', false) \g /dev/null
SELECT matches(test.tx('SET LOCAL ROLE ringfence_member', format('SET LOCAL request.jwt.claims = %L', :'owner'), 'SET LOCAL ringfence.idempotency_key = ''token 7''', format('SELECT keep(ringfence_v1.switch_org(%L))', :'org')),
	'^eyJ[^ |]+$', 'or outside of any');
SELECT is(test.tx('SET LOCAL ROLE ringfence_member', format('SET LOCAL request.jwt.claims = %L', :'owner'), 'SET LOCAL ringfence.idempotency_key = ''after''', 'SELECT w(''after'')'), 'after', 'another transaction of the same session')
FROM generate_series(1, 2);
SELECT is(logged(), 'after', 'is done once');
SELECT set_config('test.client', '', false) \g /dev/null
SELECT is((SELECT count(DISTINCT k.token) FROM public.tokens AS k), 6::bigint, 'six tokens in all');
SELECT results_eq('SELECT k.key COLLATE "default", k.complete FROM ringfence_data.idempotency_keys AS k WHERE k.key LIKE ''token _'' OR k.key = ''after'' ORDER BY 1',
	$$VALUES ('after', true), ('token 1', false), ('token 2', false), ('token 3', false), ('token 4', false), ('token 5', false), ('token 6', false), ('token 7', false)$$, 'the keys are on record, without the answers');
SELECT is((SELECT array_agg(DISTINCT k.key) FROM ringfence_data.idempotency_keys AS k, public.tokens AS s WHERE position(convert_to(s.token, 'UTF8') IN k.response) > 0 OR k::text LIKE '%' || s.token || '%'), NULL, 'and no token is');

-- What a function or an aggregate says of itself

CREATE FUNCTION public.add_up(sum integer, x integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN sum + x; END $$;
CREATE FUNCTION public.add_up_loudly(sum integer, x integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM public.w('add'); RETURN sum + x; END $$;
CREATE FUNCTION public.take_off_loudly(sum integer, x integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM public.w('take'); RETURN sum - x; END $$;
CREATE FUNCTION public.end_loudly(sum integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM public.w('end'); RETURN sum; END $$;
CREATE AGGREGATE public.loud_sum(integer) (SFUNC = public.add_up_loudly, STYPE = integer, INITCOND = '0');
CREATE AGGREGATE public.loud_end(integer) (SFUNC = public.add_up, STYPE = integer, INITCOND = '0', FINALFUNC = public.end_loudly);
CREATE AGGREGATE public.loud_back(integer) (SFUNC = public.add_up, STYPE = integer, INITCOND = '0',
	MSFUNC = public.add_up, MINVFUNC = public.take_off_loudly, MSTYPE = integer, MINITCOND = '0');
CREATE SEQUENCE public.s;
CREATE FUNCTION public.draw(sum integer, x integer) RETURNS integer LANGUAGE sql VOLATILE SECURITY DEFINER RETURN nextval('public.s');
CREATE AGGREGATE public.draw_all(integer) (SFUNC = public.draw, STYPE = integer, INITCOND = '0');
CREATE FUNCTION public.is_fine(x integer) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM public.w('check'); RETURN true; END $$;
CREATE DOMAIN public.checked AS integer CHECK (public.is_fine(VALUE));
CREATE DOMAIN public.checked_too AS public.checked;
SELECT is(twice(statement), answer, statement)
FROM (VALUES
	(1, 'SELECT loud_sum(x) FROM unnest(''{1,2}''::integer[]) AS x', '3 :: add add'),
	(2, 'SELECT loud_end(x) FROM unnest(''{1,2}''::integer[]) AS x', '3 :: end'),
	(3, 'SELECT loud_sum(x) OVER (ORDER BY x) FROM unnest(''{1,2}''::integer[]) AS x', '1, 3 :: add add'),
	(4, 'SELECT loud_back(x) OVER (ORDER BY x ROWS 1 PRECEDING) FROM unnest(''{1,2,3}''::integer[]) AS x', '1, 3, 5 :: take'),
	(5, 'SELECT 1 FROM unnest(''{1,2}''::integer[]) AS x HAVING loud_sum(x) > 0', '1 :: add add'),
	(6, 'SELECT x FROM (SELECT loud_sum(x) AS x FROM unnest(''{1,2}''::integer[]) AS x) AS s WHERE x > 0', '3 :: add add'),
	(7, 'SELECT 5::checked', '5 :: check'),
	(8, 'SELECT 6::checked_too', '6 :: check'),
	(9, 'SELECT 1 WHERE 7::text::checked > 0', '1 :: check'),
	(10, 'SELECT (ARRAY[8]::checked[])::text', '{8} :: check'),
	(11, 'SELECT draw_all(x) IS NULL FROM unnest(''{1,2}''::integer[]) AS x', 'f :: -')
) AS r (n, statement, answer)
ORDER BY n;
SELECT is((SELECT last_value FROM public.s), 2::bigint, 'no number was drawn again');
SELECT is(ARRAY[raw('/sum', '{"idempotency-key": "sum"}', 'SELECT draw_all(1)'), raw('/sum', '{"idempotency-key": "sum"}', 'SELECT draw_all(1)')], '{t | 3,t | 3}', 'nor in a request');
SELECT is((SELECT last_value FROM public.s), 3::bigint, 'which drew one');
CREATE FUNCTION regress_v1.fresh() RETURNS uuid LANGUAGE sql VOLATILE RETURN ringfence.uuid7();
SELECT is(ARRAY[raw('/rpc/fresh', '{"idempotency-key": "fresh"}', 'SELECT regress_v1.fresh()')], ARRAY[raw('/rpc/fresh', '{"idempotency-key": "fresh"}', 'SELECT regress_v1.fresh()')], 'a function of which a call of another is left has one answer');
-- after a use that was undone
SELECT is(test.tx('SET LOCAL ringfence.idempotency_key = undone', 'SAVEPOINT a', 'INSERT INTO t VALUES (1)', 'ROLLBACK TO a', 'SELECT loud_sum(x) FROM unnest(''{1,2}''::integer[]) AS x'), 'INSERT 0 1 | ROLLBACK | 3', 'after a use that was undone');
SELECT is(test.once('undone', 'SELECT loud_sum(x) FROM unnest(''{1,2}''::integer[]) AS x'), '3', 'an aggregate uses the key');
SELECT is(logged(), 'add add', 'done once');
-- A label that lies is believed, so that such a transaction can't be committed.
CREATE FUNCTION public.lie(what text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM public.w(what); RETURN what; END $$;
SELECT is(test.once('lie', 'SELECT lie(''x'')'), 'x | 25000 the transaction wrote without using its idempotency key', 'a write behind a label that lies');
SELECT is(test.tx('SET LOCAL ringfence.idempotency_key = lie', 'SELECT lie(''x'')', 'SET TRANSACTION READ ONLY'), 'x | 25000 the transaction wrote without using its idempotency key', 'is not hidden by a transaction that only reads from there on');
SELECT is(test.tx('SELECT w(''y'')', 'SET TRANSACTION READ ONLY', 'SET LOCAL ringfence.idempotency_key = lie'), 'y | 25000 the transaction wrote without using its idempotency key', 'nor by a key that comes later');
SELECT is(test.once('lie', 'SELECT jsonb_populate_record(NULL::holder, ''{"d": 1}'')'), '42704 type "holder" does not exist', 'there is no such type');
CREATE TYPE public.holder AS (d checked);
SELECT is(test.once('lie', 'SELECT jsonb_populate_record(NULL::holder, ''{"d": 1}'')'), '(1) | 25000 the transaction wrote without using its idempotency key', 'as little as by a function that checks a domain');
SELECT is(logged(), '-', 'nothing of it is left');

-- What runs where no statement of the client's does

CREATE TABLE public.counter (x integer);
INSERT INTO public.counter VALUES (0);
CREATE TABLE public.plain (a integer PRIMARY KEY);
CREATE FUNCTION public.count_up() RETURNS trigger LANGUAGE plpgsql
AS $$
DECLARE
	r record;
BEGIN
	FOR r IN UPDATE public.counter SET x = x + 1 RETURNING * LOOP NULL; END LOOP;
	RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON public.plain DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.count_up();
SELECT is(test.tx(VARIADIC ARRAY['INSERT INTO plain VALUES (1)', 'SET LOCAL ringfence.idempotency_key = deferred'] || s.now), 'INSERT 0 1' || s.answer || ' | 25000 the transaction wrote without using its idempotency key',
	format('a trigger that reads by a cursor uses no key, %s: %s', s.moment, n))
FROM generate_series(1, 2) AS n,
	(VALUES ('{SET CONSTRAINTS ALL IMMEDIATE}'::text[], ' | SET CONSTRAINTS', 'where it is called for'), ('{}', '', 'at the end')) AS s (now, answer, moment);
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'deferred'), 0::bigint, 'none is recorded');
SELECT is(test.tx(VARIADIC '{INSERT INTO plain VALUES (2)}' || ('{SET LOCAL ringfence.idempotency_key = mine,INSERT INTO t VALUES (2)}'::text[] || s.now)), 'INSERT 0 1 | INSERT 0 1' || s.answer, 'nor the one that another statement used: ' || s.moment)
FROM (VALUES ('{SET CONSTRAINTS ALL IMMEDIATE,DELETE FROM plain}'::text[], ' | SET CONSTRAINTS | DELETE 1', 'where it is called for'), ('{}', '', 'at the end')) AS s (now, answer, moment);
SELECT is((SELECT x FROM counter), 2, 'it did its part each time');
\set said `psql -X -q -A -t -v VERBOSITY=terse -c 'SELECT ringfence.org_id()' -c BEGIN -c "SET LOCAL ringfence.idempotency_key = 'silent'" -c "INSERT INTO plain VALUES (3)" -c COMMIT 2>&1`
SELECT is(:'said'::text, '', 'without a warning');
SELECT is((SELECT x FROM counter), 3, 'once');
CREATE FUNCTION public.volatile_zero() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN 0; END $$;
CREATE FUNCTION public.stable_zero() RETURNS integer LANGUAGE plpgsql STABLE
AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT public.volatile_zero() AS zero LOOP RETURN r.zero; END LOOP;
END
$$;
SELECT is(test.once('planner', 'DELETE FROM t WHERE a > stable_zero()'), 'DELETE 1', 'a function that the planner calls uses no key: ' || n) FROM generate_series(1, 2) AS n;
INSERT INTO public.t VALUES (3);
SELECT is(test.once('planner', 'DELETE FROM t WHERE a > stable_zero()'), 'DELETE 1', 'the statement did');
SELECT is((SELECT array_agg(a) FROM t), '{3}', 'once');

-- A request that asks for its context again

CREATE FUNCTION regress_v1.ask_again(name text) RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	PERFORM public.w(name), ringfence.pre_request();
	RETURN name;
END
$$;
\set again '$$test.rpc(owner(), ''regress_v1'', ''ask_again'', ''{"name": "asked"}'', headers => test.keyed(''ask''))$$'
SELECT is(ARRAY[test.sent(:again), test.sent(:again)], '{200,"200 again"}', 'has one key');
SELECT is(raw('/items', '{"idempotency-key": "ask"}', 'SELECT w(''one'')', 'SELECT ringfence.pre_request() IS NOT NULL', 'SELECT w(''two'')'), 't | one | t | two', 'which is for one statement: ' || what)
FROM (VALUES (1, 'first'), (2, 'again')) AS r (n, what);
SELECT is(logged(), 'asked one two two', 'the others are done each time');

-- idempotent() in requests

CREATE FUNCTION public.inner_f() RETURNS integer LANGUAGE plpgsql VOLATILE
AS $$ BEGIN PERFORM public.w('inner'), set_config('response.status', '202', true), set_config('response.headers', '[{"X-Inner": "1"}]', true); RETURN 1; END $$;
CREATE FUNCTION regress_v1.outer_f(n text) RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	PERFORM set_config('response.status', '201', true), set_config('response.headers', jsonb_build_array(jsonb_build_object('X-Mine', n))::text, true);
	PERFORM ringfence.idempotent('same', 'public.quiet_f()');
	RETURN n;
END
$$;
CREATE FUNCTION public.quiet_f() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM public.w('quiet'); RETURN 1; END $$;
CREATE FUNCTION regress_v1.around_f(n text) RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	PERFORM ringfence.idempotent('same', 'public.inner_f()');
	PERFORM set_config('response.headers', jsonb_build_array(jsonb_build_object('X-Mine', n))::text, true);
	RETURN n;
END
$$;
CREATE FUNCTION regress_v1.alone_f(n text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM ringfence.idempotent('same', 'public.quiet_f()'); RETURN n; END $$;
SELECT is(concat_ws(' ', r.status, r.body #>> '{}', r.headers), answer, what)
FROM (VALUES
	(1, 'outer_f', '{"n": "first"}', '{}', '201 first {"X-Mine": "first"}', 'what a function sets around a call'),
	(2, 'outer_f', '{"n": "second"}', '{}', '201 second {"X-Mine": "second"}', 'stays as the call is given again'),
	(3, 'outer_f', '{"n": "third"}', '{"idempotency-key": "third"}', '201 third {"X-Mine": "third"}', 'in a request with a key as well'),
	(4, 'outer_f', '{"n": "third"}', '{"idempotency-key": "third"}', '201 third {"X-Mine": "third", "Idempotency-Replayed": "true"}', 'whose repetition says so'),
	(5, 'around_f', '{"n": "first"}', '{}', '202 first {"X-Mine": "first"}', 'and what it sets after it'),
	(6, 'around_f', '{"n": "second"}', '{}', '202 second {"X-Mine": "second"}', 'with the status of the call'),
	(7, 'alone_f', '{"n": "alone"}', '{}', '200 alone {"Idempotency-Replayed": "true"}', 'none of it is the call''s own')
) AS c (i, fn, arguments, headers, answer, what),
	LATERAL test.rpc(owner(), 'regress_v1', c.fn, c.arguments::jsonb, headers => c.headers::jsonb) AS r
ORDER BY i;
SELECT is(logged(), 'quiet inner', 'each was called once');
-- a call in progress, which a function may catch as any other error
CREATE FUNCTION regress_v1.try() RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	PERFORM ringfence.idempotent('held', 'public.quiet_f()');
	RETURN 'called';
EXCEPTION WHEN SQLSTATE 'PT409' THEN
	RETURN 'busy';
END
$$;
CREATE FUNCTION regress_v1.fail() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN ringfence.idempotent('held', 'public.quiet_f()'); END $$;
ALTER DATABASE :DBNAME SET ringfence.idempotency_wait = 0;
SELECT test.disconnect() \g /dev/null
SELECT set_config('test.client', 'regress_web', false) \g /dev/null
SELECT test.client() AS web \gset
SELECT dblink_exec(:'web', 'BEGIN') \g /dev/null
SELECT * FROM dblink(:'web', format('SELECT set_config(''role'', ''ringfence_member'', true), set_config(''request.jwt.claims'', %L, true)', owner())) AS t (a text, b text) \g /dev/null
SELECT * FROM dblink(:'web', 'SELECT ringfence.idempotent(''held'', ''public.quiet_f()'')') AS t (a text) \g /dev/null
SELECT is(concat_ws(' ', r.status, r.body #>> '{}'), '200 busy', 'a call in progress, in a request with ' || h.headers::text)
FROM (VALUES ('{}'::jsonb), ('{"idempotency-key": "try"}')) AS h (headers), LATERAL test.rpc(owner(), 'regress_v1', 'try', headers => h.headers) AS r;
SELECT is(test.sent(format('test.rpc(owner(), ''regress_v1'', ''fail'', headers => %L)', h.headers)), '409 PT409 a request with the same idempotency key is in progress', 'or uncaught, with ' || h.headers::text)
FROM (VALUES ('{}'::jsonb), ('{"idempotency-key": "fail"}')) AS h (headers);
SELECT dblink_exec(:'web', 'ROLLBACK') \g /dev/null
ALTER DATABASE :DBNAME RESET ringfence.idempotency_wait;
SELECT test.disconnect() \g /dev/null
SELECT set_config('test.client', '', false) \g /dev/null
SELECT logged() \g /dev/null
-- in parallel with itself
CREATE FUNCTION public.parallel_f(x integer) RETURNS jsonb LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$ BEGIN RETURN ringfence.idempotent('p' || x, 'public.quiet_f()'); END $$;
CREATE TABLE public.many AS SELECT x FROM generate_series(1, 1000) AS x;
SELECT is(test.tx('SET LOCAL parallel_setup_cost = 0', 'SET LOCAL parallel_tuple_cost = 0', 'SET LOCAL min_parallel_table_scan_size = 0', 'SELECT count(parallel_f(x)) FROM many'),
	'25000 cannot execute ringfence.idempotent() during a parallel operation', 'a function that says it may run in parallel, and may not');

-- Cursors that have been read

\set read '''DECLARE c CURSOR FOR SELECT w(''''cursor'''')'', ''FETCH ALL FROM c'', ''SET LOCAL ringfence.idempotency_key = cursor'', ''FETCH ALL FROM c'''
SELECT is(test.tx(:read, 'INSERT INTO t VALUES (4)', 'FETCH ALL FROM c'), 'DECLARE CURSOR | cursor | nothing | INSERT 0 1 | nothing', 'a cursor at its end, which runs nothing any more');
SELECT is(logged(), 'cursor', 'ran once');
\set said `psql -X -q -A -t -v VERBOSITY=terse -c 'SELECT ringfence.org_id()' -c BEGIN -c "DECLARE c CURSOR WITH HOLD FOR SELECT w('said')" -c "FETCH ALL FROM c" -c "SET LOCAL ringfence.idempotency_key = 'said'" -c "INSERT INTO t VALUES (5)" -c "FETCH ALL FROM c" -c "MOVE FORWARD ALL FROM c" -c COMMIT 2>&1`
SELECT is(:'said'::text, E'\nsaid', 'is no reason for a warning');
SELECT is(logged(), 'said', 'ran once');

-- EXPLAIN, by whatever its option says

SELECT matches(test.tx('SET LOCAL ringfence.idempotency_key = explain', 'EXPLAIN (ANALYZE false, COSTS OFF) INSERT INTO t VALUES (6)', 'INSERT INTO t VALUES (7)'), '^Insert on t.* \| INSERT 0 1$', 'one that runs nothing');
SELECT is(test.once('explain 2', 'EXPLAIN (' || option || ') INSERT INTO t VALUES (8)'), '0A000 EXPLAIN cannot be used with an idempotency key', 'one that runs it: ' || option) FROM unnest('{ANALYZE,ANALYZE on,"ANALYZE 1","COSTS off, ANALYZE true"}'::text[]) AS option;
SELECT is((SELECT array_agg(a ORDER BY a) FROM t WHERE a > 5), '{7}', 'nothing of it was run');

-- CREATE EXTENSION, whose script is none of the client's statements

\set said `psql -X -q -A -t -v VERBOSITY=terse -c 'SELECT ringfence.org_id()' -c BEGIN -c "DROP EXTENSION dblink" -c "SET LOCAL ringfence.idempotency_key = 'extension'" -c "INSERT INTO t VALUES (9)" -c "CREATE EXTENSION dblink WITH SCHEMA public" -c ROLLBACK 2>&1`
SELECT is(:'said'::text, E'\nWARNING:  the statement is not protected by the idempotency key, which has been used', 'after a key was used it is done with one warning');
SELECT is(test.once('extension', 'CREATE EXTENSION pgtap'), '0A000 CREATE EXTENSION cannot be used with an idempotency key', 'before that it is refused');

-- What others can see of a key in use

CREATE FUNCTION public.words(bytes bytea) RETURNS bigint[] LANGUAGE sql IMMUTABLE
AS $$
	SELECT array_agg(get_byte(bytes, i + a) * 16777216::bigint + get_byte(bytes, i + b) * 65536 + get_byte(bytes, i + c) * 256 + get_byte(bytes, i + d))
	FROM generate_series(0, length(bytes) - 4, 4) AS i, (VALUES (0, 1, 2, 3), (3, 2, 1, 0)) AS o (a, b, c, d)
$$;
CREATE FUNCTION public.locks(key text) RETURNS bigint[] LANGUAGE sql
AS $$
	SELECT string_to_array(split_part(test.tx('SET LOCAL ringfence.idempotency_key = ' || quote_literal(key), 'SELECT w(''lock'')',
		'SELECT concat(l.classid, '' '', l.objid) FROM pg_locks AS l WHERE l.locktype = ''advisory'' AND l.pid = pg_backend_pid() AND l.objsubid = 21062'), ' | ', 2), ' ')::bigint[]
$$;
CREATE TABLE public.seen AS SELECT key, locks(key) AS locks, locks(key) AS again FROM unnest('{order-1,order-2}'::text[]) AS key;
SELECT results_eq('SELECT cardinality(s.locks), s.locks = s.again FROM seen AS s ORDER BY s.key', $$VALUES (2, true), (2, true)$$, 'a key is locked, the same each time');
SELECT is((SELECT count(DISTINCT s.locks) FROM seen AS s), 2::bigint, 'another one by another lock');
SELECT is((SELECT array_agg(s.key) FROM seen AS s, ringfence_data.idempotency_keys AS k WHERE k.key = s.key AND s.locks && (words(uuid_send(k.id)) || words(sha256(uuid_send(k.id))))), NULL,
	'which can''t be computed from whose it is and what it is');
SELECT is(logged(), 'lock lock', 'each done once');

-- Types within types

DO $$
BEGIN
	CREATE TYPE public.t0 AS (a integer, b integer);
	FOR i IN 1 .. 16 LOOP
		EXECUTE format('CREATE TYPE public.t%s AS (a public.t%s, b public.t%2$s)', i, i - 1);
	END LOOP;
END
$$;
SELECT is(twice('INSERT INTO log (what) VALUES (''deep'') RETURNING NULL::t16'), 'NULL :: deep', 'are no harder than others');
SELECT is((SELECT array_agg(length(k.response) < 5000) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'twice ' || md5('INSERT INTO log (what) VALUES (''deep'') RETURNING NULL::t16')), '{t}', 'each is described once');

-- Values out of line, of more bytes than are kept

CREATE TABLE public.blobs (b bytea);
ALTER TABLE public.blobs ALTER b SET STORAGE EXTERNAL;
INSERT INTO public.blobs SELECT convert_to(repeat('0123456789abcdef', 100000), 'UTF8');
SELECT is(ARRAY[length(test.once('blob', 'DELETE FROM blobs RETURNING b'))::text, test.once('blob', 'DELETE FROM blobs RETURNING b')], '{3200002,nothing}', 'one that is deleted is given once');
SELECT is((SELECT array_agg(k.processed) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'blob' AND NOT k.complete AND length(k.response) < 100), '{1}', 'and not kept');

-- Time

CREATE TABLE public.moments (at timestamptz);
SELECT is(test.once('time', 'INSERT INTO moments VALUES (clock_timestamp())'), 'INSERT 0 1', 'a key''s time');
SELECT is((SELECT k.created_at >= m.at AND k.expires_at - k.created_at = '1 day' FROM moments AS m, ringfence_data.idempotency_keys AS k WHERE k.key = 'time'), true, 'begins when its statement is done');
SELECT is(test.tx('SET LOCAL ringfence.idempotency_key = own', 'SELECT w(''own'')', 'SET LOCAL ringfence.idempotency_key = ''''',
	'UPDATE ringfence_data.idempotency_keys SET expires_at = now() - interval ''1 hour'' WHERE key = ''own''', 'SET LOCAL ringfence.idempotency_key = own', 'SELECT w(''own'')'), 'own | UPDATE 1 | own', 'one that is over, in the same transaction');
SELECT is(logged(), 'own own', 'has another effect');
SELECT is((SELECT array_agg(k.expires_at > now()) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'own'), '{t}', 'and another record');
UPDATE ringfence_data.idempotency_keys AS k SET expires_at = now() - interval '1 minute' WHERE k.key = 'own';
BEGIN;
SELECT FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'own' FOR UPDATE \g /dev/null
SELECT is(test.once('own', 'SELECT w(''own'')', 1, VARIADIC settings), 'PT409 a request with the same idempotency key is in progress', 'whoever has the record of one that is over is waited for no longer than anybody: ' || array_to_string(settings, ', '))
FROM (VALUES ('{ringfence.idempotency_wait = 0}'::text[]), ('{ringfence.idempotency_wait = 30}'), ('{lock_timeout = 30}')) AS s (settings);
COMMIT;
SELECT is(logged(), '-', 'before anything is done');

-- The table, changed

DELETE FROM ringfence_data.idempotency_keys;
SELECT test.answer('SELECT pg_backend_pid()') AS pid \gset
SELECT is(test.tx(VARIADIC changes || ARRAY['SET LOCAL ringfence.idempotency_key = changed', 'SELECT w(''changed'')', 'SET LOCAL ringfence.idempotency_key = more', 'SELECT w(''changed'')']), answers || '55000 table "idempotency_keys" is not as core makes it', what)
FROM (VALUES
	('{ALTER TABLE ringfence_data.idempotency_keys DROP CONSTRAINT idempotency_keys_pkey}'::text[], 'ALTER TABLE | ', 'no primary key'),
	('{"ALTER TABLE ringfence_data.idempotency_keys DROP CONSTRAINT idempotency_keys_pkey, ADD PRIMARY KEY (created_at)"}', 'ALTER TABLE | ', 'that of another column'),
	('{"ALTER TABLE ringfence_data.idempotency_keys DROP CONSTRAINT idempotency_keys_pkey, ADD PRIMARY KEY (id, created_at)"}', 'ALTER TABLE | ', 'or of two'),
	('{"ALTER TABLE ringfence_data.idempotency_keys ADD note text NOT NULL DEFAULT ''x''"}', 'ALTER TABLE | ', 'a column that needs a value'),
	('{"ALTER TABLE ringfence_data.idempotency_keys ADD note text GENERATED ALWAYS AS (key || ''x'') STORED"}', 'ALTER TABLE | ', 'or has one of its own'),
	('{ALTER TABLE ringfence_data.idempotency_keys RENAME status TO other}', 'ALTER TABLE | ', 'another name'),
	('{ALTER TABLE ringfence_data.idempotency_keys DROP status CASCADE}', 'ALTER TABLE | ', 'none'),
	('{ALTER TABLE ringfence_data.idempotency_keys RENAME TO others,"CREATE TABLE ringfence_data.idempotency_keys (LIKE ringfence_data.others, PRIMARY KEY (id)) PARTITION BY HASH (id)","CREATE TABLE ringfence_data.part PARTITION OF ringfence_data.idempotency_keys FOR VALUES WITH (MODULUS 1, REMAINDER 0)",ALTER TABLE ringfence_data.idempotency_keys OWNER TO ringfence_owner}',
		'ALTER TABLE | CREATE TABLE | CREATE TABLE | ALTER TABLE | ', 'a partitioned one')
) AS c (changes, answers, what);
SELECT is(logged(), '-', 'nothing is done');
SELECT is(test.answer('SELECT pg_backend_pid()'), :'pid', 'nobody crashed');
SELECT is(test.tx('ALTER TABLE ringfence_data.idempotency_keys ADD note text, ADD again text DEFAULT ''x''', 'CREATE INDEX ON ringfence_data.idempotency_keys (key)', 'SET LOCAL ringfence.idempotency_key = added', 'SELECT w(''added'')', 'SET LOCAL ringfence.idempotency_key = added', 'SELECT w(''added'')'),
	'ALTER TABLE | CREATE INDEX | added | added', 'columns that need none, and an index, do no harm');
SELECT is(test.once('added', 'SELECT w(''added'')'), 'added', 'to anybody');
SELECT is(logged(), 'added', 'done once');

-- Settings that are not ours

\set said `psql -X -q -A -t -c "SET quote_all_identifiers = off" -c "SELECT ringfence.org_id() IS NULL" -c "SELECT current_setting('request.headers', true) IS NULL, current_setting('request.method', true) IS NULL" 2>&1`
SELECT is(:'said'::text, E't\nt|t', 'outside of a request there are no headers, as ever');
CREATE TYPE public.mood AS ENUM ('sad', 'glad');
SELECT test.answer('PREPARE m (mood, mood[]) AS INSERT INTO log (what) VALUES ($1::text) RETURNING $1, $2') \g /dev/null
SELECT is(test.once('mood', 'EXECUTE m (''glad'', ''{sad}'')', 2, 'quote_all_identifiers = ' || quoted), '(glad,{sad})', 'names of types are the same with quote_all_identifiers ' || quoted) FROM unnest('{off,on,off}'::text[]) AS quoted;
SELECT is(logged(), 'glad', 'done once');

SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) AS c \g /dev/null
SELECT * FROM finish();
