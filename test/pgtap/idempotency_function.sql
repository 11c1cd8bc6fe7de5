-- idempotent() calls a function once a key, with the caller's rights and arguments
-- by name, and returns its result as JSON, once more whenever it is called again. It
-- takes no function whose parameters or result it can't tell, and no other one than
-- it was told.
\ir include/idempotency.sql
SET client_min_messages = warning;
SELECT plan(160);

-- Every call leaves a line.
CREATE TABLE public.calls (n integer GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION public.note(what text) RETURNS integer LANGUAGE sql VOLATILE
AS 'INSERT INTO public.calls (what) VALUES (what) RETURNING 1';
CREATE FUNCTION public.calls() RETURNS text LANGUAGE sql
AS $$ WITH c AS (DELETE FROM public.calls RETURNING n, what) SELECT coalesce(string_agg(c.what, ' ' ORDER BY c.n), '-') FROM c $$;
CREATE FUNCTION public.call(key text, fn text, args text DEFAULT '{}') RETURNS text LANGUAGE sql
AS $$ SELECT test.tx(format('SELECT ringfence.idempotent(%L, %L, %L)', key, fn, args)) $$;
-- Calls twice with a key of its own: the result, and what was called; or both.
CREATE FUNCTION public.twice(fn text, args text DEFAULT '{}') RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	key CONSTANT text := 'twice ' || md5(fn || args);
	first CONSTANT text := call(key, fn, args);
	again CONSTANT text := call(key, fn, args);
BEGIN
	RETURN concat_ws(' :: ', first, CASE WHEN again IS DISTINCT FROM first THEN again END, calls());
END
$$;

-- Results

CREATE TYPE public.mood AS ENUM ('sad', 'glad');
CREATE TYPE public.pair AS (a integer, b text);
CREATE DOMAIN public.odd AS integer CHECK (VALUE % 2 <> 0);
CREATE TABLE public.things (id integer, name text, r numeric);
CREATE FUNCTION public.r_integer() RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT note(''call'') + 41';
CREATE FUNCTION public.r_text() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''call'') || ''"x"''';
CREATE FUNCTION public.r_boolean() RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT note(''call'') > 0';
CREATE FUNCTION public.r_numeric() RETURNS numeric LANGUAGE sql VOLATILE AS 'SELECT note(''call'') * 1.10';
CREATE FUNCTION public.r_null() RETURNS integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM note('call'); RETURN NULL; END $$;
CREATE FUNCTION public.r_void() RETURNS void LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM note('call'); END $$;
CREATE FUNCTION public.r_json() RETURNS json LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT ''{"b": 1, "a": [2, null]}''::json';
CREATE FUNCTION public.r_jsonb() RETURNS jsonb LANGUAGE sql VOLATILE AS 'SELECT to_jsonb(note(''call''))';
CREATE FUNCTION public.r_json_null() RETURNS jsonb LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT ''null''::jsonb';
CREATE FUNCTION public.r_array() RETURNS integer[] LANGUAGE sql VOLATILE AS 'SELECT ARRAY[note(''call''), NULL]';
CREATE FUNCTION public.r_mood() RETURNS mood LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT ''glad''::mood';
CREATE FUNCTION public.r_odd() RETURNS odd LANGUAGE sql VOLATILE AS 'SELECT note(''call'')::odd';
CREATE FUNCTION public.r_moment() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT ''2024-02-29 12:00+00''::timestamptz';
CREATE FUNCTION public.r_pair() RETURNS pair LANGUAGE sql VOLATILE AS 'SELECT note(''call''), ''x''';
CREATE FUNCTION public.r_thing() RETURNS things LANGUAGE sql VOLATILE AS 'INSERT INTO things VALUES (note(''call''), ''thing'', 1.50) RETURNING *';
CREATE FUNCTION public.r_no_pair() RETURNS pair LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM note('call'); RETURN NULL; END $$;
CREATE FUNCTION public.r_out(OUT x integer) LANGUAGE sql VOLATILE AS 'SELECT note(''call'')';
CREATE FUNCTION public.r_outs(OUT r integer, OUT s text) LANGUAGE sql VOLATILE AS 'SELECT note(''call''), ''y''';
CREATE FUNCTION public.r_table() RETURNS TABLE (r integer, "Odd name" text) LANGUAGE plpgsql VOLATILE
AS $$ BEGIN RETURN QUERY SELECT note('call'), 'one' UNION ALL SELECT 2, NULL; END $$;
CREATE FUNCTION public.r_one_column() RETURNS TABLE (x integer) LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN QUERY SELECT note('call') UNION ALL SELECT 2; END $$;
CREATE FUNCTION public.r_set() RETURNS SETOF integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN NEXT note('call'); RETURN NEXT NULL; RETURN NEXT 3; END $$;
CREATE FUNCTION public.r_empty() RETURNS SETOF integer LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM note('call'); END $$;
CREATE FUNCTION public.r_things() RETURNS SETOF things LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM note('call'); RETURN QUERY SELECT 1, 'a', NULL::numeric UNION ALL SELECT 2, 'b', 2; END $$;
SELECT is(twice(fn), result || ' :: call', fn)
FROM (VALUES
	('public.r_integer()', '42'),
	('r_text()', '"1\"x\""'),
	('r_boolean()', 'true'),
	('r_numeric()', '1.10'),
	('r_null()', 'NULL'),
	('r_void()', 'NULL'),
	('r_json()', '{"a": [2, null], "b": 1}'),
	('r_jsonb()', '1'),
	('r_json_null()', 'null'),
	('r_array()', '[1, null]'),
	('r_mood()', '"glad"'),
	('r_odd()', '1'),
	('r_moment()', '"2024-02-29T12:00:00+00:00"'),
	('r_pair()', '{"a": 1, "b": "x"}'),
	('r_thing()', '{"r": 1.50, "id": 1, "name": "thing"}'),
	('r_no_pair()', 'NULL'),
	('r_out()', '1'),
	('r_outs()', '{"r": 1, "s": "y"}'),
	('r_table()', '[{"r": 1, "Odd name": "one"}, {"r": 2, "Odd name": null}]'),
	('r_one_column()', '[1, 2]'),
	('r_set()', '[1, null, 3]'),
	('r_empty()', '[]'),
	('r_things()', '[{"r": null, "id": 1, "name": "a"}, {"r": 2, "id": 2, "name": "b"}]')
) AS f (fn, result);

-- Arguments

CREATE FUNCTION public.a_two(amount integer, word text DEFAULT 'none') RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT amount || word';
CREATE FUNCTION public.a_r(r integer, a integer, s integer, result integer) RETURNS things LANGUAGE sql VOLATILE AS 'SELECT note(''call''), ''x'' || s || result, r * 10.0 + a';
CREATE FUNCTION public.a_odd("Odd ""name" integer, "select" integer) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT note(''call'') + "Odd ""name" - "select"';
CREATE FUNCTION public.a_types(n numeric, t text[], j jsonb, p pair, m mood, b bytea, at timestamptz, d odd) RETURNS text LANGUAGE sql VOLATILE
AS 'SELECT note(''call''); SELECT concat_ws('' '', n, t, j, p, m, b, at AT TIME ZONE ''UTC'', d)';
CREATE FUNCTION public.a_many(word text, VARIADIC numbers integer[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT word || array_to_string(numbers, '','')';
CREATE FUNCTION public.a_inout(INOUT n integer, OUT m integer) LANGUAGE sql VOLATILE AS 'SELECT n + note(''call''), n';
CREATE FUNCTION public.a_unnamed(integer, integer DEFAULT 2) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT $1 + $2';
CREATE FUNCTION public.a_defaults(integer DEFAULT 1, integer DEFAULT 2) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT note(''call'') + $1 + $2';
CREATE FUNCTION public.a_short(c char(3), b bit(2), v varchar(2), n numeric(3, 1)) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT concat_ws('' '', c, b, v, n)';
CREATE FUNCTION public.a_strict(n integer) RETURNS integer LANGUAGE sql VOLATILE STRICT AS 'SELECT note(''call'')';
SELECT is(twice(fn, args), result, fn || ' with ' || args)
FROM (VALUES
	('a_two(integer,text)', '{"word": "x", "amount": 5}', '"5x" :: call'),
	('a_two(integer,text)', '{"amount": 5}', '"5none" :: call'),
	('a_two(integer,text)', '{"amount": "5"}', '"5none" :: call'),
	('a_two(integer,text)', '{"amount": 5, "word": null}', 'NULL :: call'),
	('a_r(integer,integer,integer,integer)', '{"r": 1, "a": 2, "s": 3, "result": 4}', '{"r": 12.0, "id": 1, "name": "x34"} :: call'),
	('a_odd(integer,integer)', '{"Odd \"name": 5, "select": 2}', '4 :: call'),
	('a_types(numeric,text[],jsonb,pair,mood,bytea,timestamptz,odd)',
		'{"n": 1.50, "t": ["a", null, "b c"], "j": {"k": [1]}, "p": {"a": 1, "b": "x"}, "m": "sad", "b": "\\x00ff", "at": "2024-02-29T12:00:00+01:00", "d": 3}',
		'"1.50 {a,NULL,\"b c\"} {\"k\": [1]} (1,x) sad \\x00ff 2024-02-29 11:00:00 3" :: call'),
	('a_many(text,integer[])', '{"word": "x", "numbers": [1, 2, 3]}', '"x1,2,3" :: call'),
	('a_many(text,integer[])', '{"word": "x", "numbers": []}', '"x" :: call'),
	('a_inout(integer)', '{"n": 5}', '{"m": 5, "n": 6} :: call'),
	('a_defaults(integer,integer)', '{}', '4 :: call'),
	('a_short(character,bit,character varying,numeric)', '{"c": "abcdef", "b": "101", "v": "xyz", "n": 12.345}', '"abcdef 101 xyz 12.345" :: call'),
	('a_strict(integer)', '{"n": null}', 'NULL :: -'),
	('a_two(integer,text)', '{}', '42883 function public.a_two() does not exist :: -'),
	('a_two(integer,text)', '{"amount": 5, "words": "x"}', '42883 function a_two(integer,text) has no parameter "words" :: -'),
	('a_two(integer,text)', '{"amount": 5, "Word": "x"}', '42883 function a_two(integer,text) has no parameter "Word" :: -'),
	('a_two(integer,text)', '{"": 5}', '42883 function a_two(integer,text) has no parameter "" :: -'),
	('a_two(integer,text)', '{"amount": 5, "word\"); DROP TABLE calls; --": "x"}', '42883 function a_two(integer,text) has no parameter "word"); DROP TABLE calls; --" :: -'),
	('a_inout(integer)', '{"n": 5, "m": 6}', '42883 function a_inout(integer) has no parameter "m" :: -'),
	('a_unnamed(integer,integer)', '{"": 5}', '42883 function a_unnamed(integer,integer) has no parameter "" :: -'),
	('a_unnamed(integer,integer)', '{"$1": 5}', '42883 function a_unnamed(integer,integer) has no parameter "$1" :: -'),
	('a_two(integer,text)', '{"amount": "five"}', '22P02 invalid input syntax for type integer: "five" :: -'),
	('a_two(integer,text)', '{"amount": 1.5}', '22P02 invalid input syntax for type integer: "1.5" :: -'),
	('a_types(numeric,text[],jsonb,pair,mood,bytea,timestamptz,odd)', '{"n": 1, "t": [], "j": 1, "p": null, "m": "bad", "b": "", "at": "now", "d": 1}', '22P02 invalid input value for enum mood: "bad" :: -'),
	('r_integer()', '[]', '22023 arguments must be a JSON object :: -'),
	('r_integer()', 'null', '22023 arguments must be a JSON object :: -'),
	('r_integer()', '"x"', '22023 arguments must be a JSON object :: -'),
	('none()', '{}', '42883 function "none()" does not exist :: -')
) AS f (fn, args, result);
SELECT is(test.tx('SELECT ringfence.idempotent(' || a || ')'), e, a)
FROM (VALUES
	('NULL, ''r_integer()''', '22023 invalid idempotency key'),
	('''''', '42883 function ringfence.idempotent(unknown) does not exist'),
	(''''', ''r_integer()''', '22023 invalid idempotency key'),
	('repeat(''k'', 256), ''r_integer()''', '22023 invalid idempotency key'),
	('E''a\nb'', ''r_integer()''', '22023 invalid idempotency key'),
	('''k'', NULL', '22004 function must not be null'),
	('''k'', ''r_integer()'', NULL', '22023 arguments must be a JSON object'),
	('''k'', 0', '42883 function with OID 0 does not exist'),
	('repeat(''k'', 255), ''r_integer()''', '42'),
	('key => ''named'', args => ''{}'', fn => ''r_integer()''', '42')
) AS f (a, e);
SELECT calls() \g /dev/null

-- What stands for a call: key, function, arguments, role

SELECT is(call('k', 'a_two(integer,text)', '{"amount": 5, "word": "x"}'), '"5x"', 'a call');
SELECT is(call('k', fn, args), result, what)
FROM (VALUES
	('public.a_two(integer, text)', '{"word": "x", "amount": 5}', '"5x"', 'its arguments in another order'),
	('a_two(int,text)', ' {"amount":5,"word":"x","amount":5}', '"5x"', 'however they are written'),
	('a_two(int,text)', '{"amount": 6, "word": "x"}', 'PT422 the idempotency key was used for another request', 'others are refused'),
	('a_two(int,text)', '{"amount": 5}', 'PT422 the idempotency key was used for another request', 'and fewer'),
	('a_two(int,text)', '{"amount": "5", "word": "x"}', 'PT422 the idempotency key was used for another request', 'or of another type'),
	('a_two(int,text)', '{"nonsense": 1}', 'PT422 the idempotency key was used for another request', 'which are not even looked at'),
	('a_many(text,int[])', '{"word": "x", "numbers": [7]}', '"x7"', 'another function has keys of its own')
) AS f (fn, args, result, what);
SELECT is(call('K', 'a_two(integer,text)', '{"amount": 5, "word": "x"}'), '"5x"', 'another key is another call');
SELECT is(calls(), 'call call call', 'three calls in all');
SELECT is(test.tx(setting, $$SELECT ringfence.idempotent('k', 'public.a_two(integer,text)', '{"amount": 5, "word": "x"}')$$), '"5x"', 'the same under: ' || setting)
FROM unnest(ARRAY['SET LOCAL search_path = pg_catalog', 'SET LOCAL search_path = public, ringfence', 'SET LOCAL quote_all_identifiers = on', 'SET LOCAL DateStyle = German', 'SET LOCAL standard_conforming_strings = off']) AS setting;
SELECT is(test.tx('SET LOCAL search_path = pg_catalog', $$SELECT ringfence.idempotent('k', 'public.a_many(text,integer[])', '{"word": "x", "numbers": [7]}')$$), '"x7"', 'without the caller''s search_path it is found');
SELECT results_eq('SELECT k.path COLLATE "default", k.method COLLATE "default", k.key COLLATE "default", k.processed, k.complete FROM ringfence_data.idempotency_keys AS k WHERE k.key IN (''k'', ''K'') ORDER BY 1, 3',
	$$VALUES ('public.a_many(pg_catalog.text,integer[])', 'CALL', 'k', 1::bigint, true), ('public.a_two(integer,pg_catalog.text)', 'CALL', 'K', 1, true), ('public.a_two(integer,pg_catalog.text)', 'CALL', 'k', 1, true)$$, 'on record by the function''s own name');
SELECT is(calls(), '-', 'nothing was called');
CREATE TYPE public."Odd type" AS (a integer);
CREATE FUNCTION public."Odd function"(x "Odd type", y pg_catalog.timestamptz) RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT (x).a';
SELECT is(call('odd', 'public."Odd function"("Odd type",timestamptz)', '{"x": {"a": 7}, "y": null}'), '7', 'names that need quotes');
SELECT is((SELECT k.path FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'odd'), 'public."Odd function"(public."Odd type",timestamp with time zone)', 'are on record with them');

-- Functions that can't be called so

CREATE PROCEDURE public.proceed() LANGUAGE sql AS 'SELECT note(''call'')';
CREATE FUNCTION public.any_record() RETURNS record LANGUAGE sql VOLATILE AS 'SELECT note(''call''), 2';
CREATE FUNCTION public.any_records() RETURNS SETOF record LANGUAGE sql VOLATILE AS 'SELECT note(''call''), 2';
CREATE FUNCTION public.any_thing(x anyelement) RETURNS anyelement LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT x';
CREATE FUNCTION public.on_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note('call'); RETURN NULL; END $$;
SELECT is(call('refused', fn, args), '42809 cannot call ' || fn || ' with an idempotency key', fn)
FROM (VALUES ('proceed()', '{}'), ('max(integer)', '{}'), ('row_number()', '{}'), ('any_record()', '{}'), ('any_records()', '{}'), ('any_thing(anyelement)', '{"x": 1}')) AS f (fn, args);
SELECT is(call('refused', 'on_change()'), '0A000 trigger functions can only be called as triggers', 'a trigger');
CREATE FUNCTION public.o_one(x integer) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''integer''); SELECT ''integer''';
CREATE FUNCTION public.o_one(x text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''text''); SELECT ''text''';
CREATE FUNCTION public.o_two(x bigint, y text DEFAULT '') RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''bigint''); SELECT ''bigint''';
CREATE FUNCTION public.o_two(x integer) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''integer''); SELECT ''integer''';
CREATE FUNCTION public.o_three(x integer DEFAULT 1) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''one''); SELECT ''one''';
CREATE FUNCTION public.o_three() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''none''); SELECT ''none''';
CREATE FUNCTION public.o_four(x integer, y integer DEFAULT 1) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''two''); SELECT ''two''';
CREATE FUNCTION public.o_four(x integer) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''one''); SELECT ''one''';
SELECT calls() \g /dev/null
SELECT is(twice(fn, args), result, 'of one name: ' || fn)
FROM (VALUES
	('o_one(integer)', '{"x": 1}', '"integer" :: integer'),
	('o_one(text)', '{"x": 1}', '"text" :: text'),
	('o_two(bigint,text)', '{"x": 1}', '"bigint" :: bigint'),
	('o_two(integer)', '{"x": 1}', '"integer" :: integer'),
	('o_three(integer)', '{"x": 2}', '"one" :: one'),
	('o_three(integer)', '{}', '42725 function public.o_three() is not unique :: -'),
	('o_four(integer,integer)', '{"x": 1, "y": 2}', '"two" :: two'),
	('o_four(integer,integer)', '{"x": 1}', '42725 function public.o_four(x => integer) is not unique :: -'),
	('o_four(integer)', '{"x": 1}', '42725 function public.o_four(x => integer) is not unique :: -')
) AS f (fn, args, result);
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'refused'), 0::bigint, 'nothing is recorded of what was refused');

-- Rights

CREATE ROLE regress_function_login LOGIN;
GRANT ringfence_member TO regress_function_login;
CREATE ROLE regress_function_nobody LOGIN;
GRANT INSERT ON public.calls TO ringfence_member;
CREATE FUNCTION public.w_invoker() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT current_user::text';
CREATE FUNCTION public.w_definer() RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT note(''call''); SELECT current_user::text';
CREATE FUNCTION public.w_secret() RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT note(''secret''); SELECT ''secret''';
REVOKE EXECUTE ON FUNCTION public.w_secret() FROM PUBLIC;
SELECT is(call('who', 'w_invoker()'), '"postgres"', 'called by the superuser, with that one''s rights');
SELECT is(call('secret', 'w_secret()'), '"secret"', 'who may call anything');
SELECT is(test.tx('SET LOCAL ROLE ringfence_member', $$SELECT ringfence.idempotent('who', 'w_invoker()')$$), 'PT422 the idempotency key was used for another request', 'another role''s is another call');
SELECT calls() \g /dev/null
SELECT set_config('test.client', 'regress_function_login', false) \g /dev/null
SELECT is(twice('w_invoker()'), '"regress_function_login" :: call', 'with the caller''s rights');
SELECT is(twice('w_definer()'), '"postgres" :: call', 'or the owner''s, if the function says so');
SELECT is(twice('w_secret()'), '42501 permission denied for function w_secret :: -', 'without the right to call it, it is not called');
SELECT is(call('secret', 'w_secret()'), '42501 permission denied for function w_secret', 'however the key was used by others');
SELECT is(call('secret', 'calls()'), '42501 permission denied for table calls', 'and what it does, it may not do either');
SELECT is((SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'secret'), 1::bigint, 'nothing of that is recorded');
-- rights that were taken back; by its OID, no schema is asked about the function
CREATE SCHEMA hidden;
CREATE FUNCTION hidden.w_hidden() RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT public.note(''hidden''); SELECT ''hidden''';
GRANT USAGE ON SCHEMA hidden TO regress_function_login;
GRANT EXECUTE ON FUNCTION public.w_secret() TO regress_function_login;
CREATE FUNCTION public.call_oid(key text, fn regprocedure) RETURNS text LANGUAGE sql
AS $$ SELECT test.tx(format('SELECT ringfence.idempotent(%L, %s::regprocedure)', key, fn::oid)) $$;
SELECT is(ARRAY[call_oid('mine', f), call_oid('mine', f)], ARRAY[a, a], 'as long as there is the right: ' || f::text) FROM (VALUES ('w_secret()'::regprocedure, '"secret"'), ('hidden.w_hidden()', '"hidden"')) AS r (f, a);
SELECT is(calls(), 'secret hidden', 'called once each');
REVOKE EXECUTE ON FUNCTION public.w_secret() FROM regress_function_login;
REVOKE USAGE ON SCHEMA hidden FROM regress_function_login;
SELECT is(call_oid(k, f), a, 'not the recorded result either: ' || f::text || ', ' || k)
FROM (VALUES ('w_secret()'::regprocedure, '42501 permission denied for function w_secret'), ('hidden.w_hidden()', '42501 permission denied for schema hidden')) AS r (f, a), unnest('{mine,new}'::text[]) AS k;
GRANT USAGE ON SCHEMA hidden TO regress_function_login;
REVOKE EXECUTE ON FUNCTION hidden.w_hidden() FROM PUBLIC;
SELECT is(call_oid('mine', 'hidden.w_hidden()'), '42501 permission denied for function w_hidden', 'nor by the right to call that everybody has');
GRANT EXECUTE ON FUNCTION hidden.w_hidden() TO PUBLIC;
SELECT is(call_oid('mine', 'hidden.w_hidden()'), '"hidden"', 'given again, it is');
SELECT is(calls(), '-', 'called by nobody');
SELECT set_config('test.client', 'regress_function_nobody', false) \g /dev/null
SELECT is(test.tx('SELECT ringfence.idempotent(''k'', ''r_integer()'')'), '42501 permission denied for schema ringfence', 'who has no part in it can''t use it');
SELECT set_config('test.client', '', false) \g /dev/null

-- Within functions, queries and transactions

SELECT is(test.tx('SELECT ringfence.idempotent(''n1'', ''r_integer()'')::text || ringfence.idempotent(''n1'', ''r_integer()'')'), '4242', 'twice in a query');
SELECT is(test.tx('SELECT ringfence.idempotent(k, ''r_integer()'') FROM unnest(''{n1,n2,n2,n3}''::text[]) AS k'), '42, 42, 42, 42', 'once a key');
SELECT is(calls(), 'call call call', 'three keys, three calls');
CREATE FUNCTION public.n_loop() RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	results jsonb[];
BEGIN
	PERFORM note('loop');
	FOR i IN 1 .. 3 LOOP
		results := results || ringfence.idempotent('n4', 'a_two(integer,text)', '{"amount": 7}');
	END LOOP;
	RETURN results;
END
$$;
SELECT is(test.tx('SELECT n_loop()'), '{"\"7none\"","\"7none\"","\"7none\""}', 'in a function');
SELECT is(calls(), 'loop call', 'once');
SELECT is(test.once('n5', 'SELECT n_loop()'), '{"\"7none\"","\"7none\"","\"7none\""}', 'which has a key itself') FROM generate_series(1, 2);
SELECT is(calls(), 'loop', 'and is done once');
CREATE FUNCTION public.n_outer(key text) RETURNS text LANGUAGE plpgsql VOLATILE
AS $$ BEGIN PERFORM note('outer'); RETURN ringfence.idempotent(key, 'r_integer()'); END $$;
SELECT is(call('n6', 'n_outer(text)', '{"key": "n6"}'), '"42"', 'one within another, with the same key') FROM generate_series(1, 2);
SELECT is(calls(), 'outer call', 'each once');
CREATE FUNCTION public.n_again(depth integer) RETURNS jsonb LANGUAGE plpgsql VOLATILE
AS $$ BEGIN PERFORM note('again'); RETURN CASE WHEN depth > 0 THEN ringfence.idempotent('n7', 'n_again(integer)', jsonb_build_object('depth', depth - 1)) END; END $$;
SELECT is(call('n7', 'n_again(integer)', '{"depth": 1}'), 'PT409 a request with the same idempotency key is in progress', 'one that calls for itself');
SELECT is(call('n7', 'n_again(integer)', '{"depth": 0}'), 'NULL', 'has done nothing by that');
SELECT is(calls(), 'again', 'but this');
CREATE FUNCTION public.n_fail(fail boolean) RETURNS integer LANGUAGE plpgsql VOLATILE
AS $$ BEGIN PERFORM note('fail'); IF fail THEN RAISE EXCEPTION 'failed'; END IF; RETURN 1; END $$;
CREATE FUNCTION public.n_catch() RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	results text[] := '{}';
BEGIN
	BEGIN
		PERFORM ringfence.idempotent('n8', 'n_fail(boolean)', '{"fail": true}');
	EXCEPTION WHEN raise_exception THEN
		results := results || '1'::text;
	END;
	BEGIN
		PERFORM ringfence.idempotent('n8', 'n_fail(boolean)', '{"fail": false}');
		RAISE EXCEPTION 'after';
	EXCEPTION WHEN raise_exception THEN
		results := results || '2'::text;
	END;
	BEGIN
		results := results || ringfence.idempotent('n8', 'a_two(integer,text)', '{"amount": 3}')::text;
		results := results || ringfence.idempotent('n8', 'n_fail(boolean)', '{"fail": false}')::text;
		PERFORM ringfence.idempotent('n8', 'n_fail(boolean)', '{"fail": true}');
	EXCEPTION WHEN SQLSTATE 'PT422' THEN
		results := results || '3'::text;
	END;
	results := results || ringfence.idempotent('n8', 'n_fail(boolean)', '{"fail": null}')::text;
	RETURN array_to_string(results, ' ');
END
$$;
SELECT is(test.tx('SELECT n_catch()'), '1 2 "3none" 1 3 1', 'a block that is undone takes the key back, as often as that is');
SELECT is(calls(), 'fail', 'one call is left');
SELECT is(call('n8', 'n_fail(boolean)', '{"fail": null}'), '1', 'the last one');
SELECT is(call('n8', 'n_fail(boolean)', '{"fail": false}'), 'PT422 the idempotency key was used for another request', 'alone');
SELECT is(test.tx('SAVEPOINT a', 'SELECT ringfence.idempotent(''n9'', ''r_integer()'')', 'ROLLBACK TO a', 'SELECT ringfence.idempotent(''n9'', ''r_integer()'')', 'SELECT ringfence.idempotent(''n9'', ''r_integer()'')'),
	'42 | ROLLBACK | 42 | 42', 'so does a savepoint');
SELECT is(test.tx('SELECT ringfence.idempotent(''n10'', ''r_integer()'')', 'SELECT 1 / 0'), '42 | 22012 division by zero', 'and the transaction');
SELECT is((SELECT array_agg(k.key) FROM ringfence_data.idempotency_keys AS k WHERE k.key IN ('n9', 'n10')), '{n9}', 'one of them is used');
SELECT is(calls(), 'call', 'once');
SELECT is(test.tx('SET TRANSACTION READ ONLY', 'SELECT ringfence.idempotent(''n9'', ''r_integer()'')'), '25006 cannot execute ringfence.idempotent() in a read-only transaction', 'not where nothing can be written');
SELECT is(test.tx('SET LOCAL ringfence.idempotency_key = n11', 'SELECT ringfence.idempotent(''n9'', ''r_integer()'')', 'INSERT INTO calls (what) VALUES (''n11'')'), '42 | INSERT 0 1', 'a key that is set is for another statement');
SELECT is(calls(), 'n11', 'which is done');

-- Results that are too large, or not to be kept

CREATE FUNCTION public.l_text(bytes integer) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT note(''call''); SELECT repeat(''x'', bytes)';
CREATE FUNCTION public.large(bytes integer) RETURNS text LANGUAGE sql
AS $$ SELECT test.tx('SET LOCAL ringfence.idempotency_max_response = 1000', format('SELECT ringfence.idempotent(''l%s'', ''l_text(integer)'', ''{"bytes": %1$s}'')', bytes)) $$;
SELECT is(ARRAY[length(large(800)), length(large(800))], '{802,802}', 'one that is recorded');
SELECT is(ARRAY[length(large(2000))::text, large(2000), large(2000)], '{2002,"{\"complete\": false, \"replayed\": true}","{\"complete\": false, \"replayed\": true}"}', 'one that is not');
SELECT is(calls(), 'call call', 'each was called once');
SELECT is((SELECT array_agg(k.complete ORDER BY k.key) FROM ringfence_data.idempotency_keys AS k WHERE k.key IN ('l2000', 'l800') AND (k.complete OR length(k.response) < 100)), '{f,t}', 'without a part of it');
SELECT ringfence.keep_idempotency_keys('CALL', 'public.l_text(integer)', '1 hour', false) \g /dev/null
SELECT is(ARRAY[large(5), large(5), large(800)], ARRAY['"xxxxx"', '{"complete": false, "replayed": true}', '"' || repeat('x', 800) || '"'], 'of a function whose results are not to be kept: none of those to come');
SELECT is((SELECT array_agg(position('xxxxx'::bytea IN k.response)) FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'l5'), '{0}', 'nowhere');
SELECT is(calls(), 'call', 'called once');

-- In requests

CREATE SCHEMA regress_v1;
GRANT USAGE ON SCHEMA regress_v1 TO ringfence_anon, ringfence_member;
CREATE FUNCTION public.q_pay(amount integer) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
BEGIN
	PERFORM note('pay');
	PERFORM set_config('response.status', '202', true), set_config('response.headers', '[{"Location": "/payments/1"}]', true);
	RETURN format('%s of %s', amount, ringfence.org_id());
END
$$;
CREATE FUNCTION regress_v1.pay(payment text, amount integer) RETURNS jsonb LANGUAGE sql VOLATILE
AS $$ SELECT ringfence.idempotent(payment, 'public.q_pay(integer)', jsonb_build_object('amount', amount)) $$;
CREATE FUNCTION public.pay(claims jsonb, payment text, amount integer, headers jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
AS $$
	SELECT concat_ws(' ', r.status, r.code, CASE WHEN r.code IS NULL THEN r.body #>> '{}' END, nullif(r.headers, '{}'))
	FROM test.rpc(claims, 'regress_v1', 'pay', jsonb_build_object('payment', payment, 'amount', amount), headers => headers) AS r
$$;
SELECT test.claims('Alder Clean', 'owner') AS alder, test.claims('Alder Clean', 'owner') ->> 'org_id' AS org_a, test.claims('Birch Services', 'owner') AS birch, test.claims('Birch Services', 'owner') ->> 'org_id' AS org_b \gset
SELECT is(pay(:'alder', 'p1', 5), format('202 5 of %s {"Location": "/payments/1"}', :'org_a'), 'a request whose function calls another');
SELECT is(pay(:'alder', 'p1', 5), format('202 5 of %s {"Location": "/payments/1", "Idempotency-Replayed": "true"}', :'org_a'), 'again, with its status and headers');
SELECT matches(pay(:'alder', 'p1', 6), '^422 PT422', 'for another amount');
SELECT is(pay(:'birch', 'p1', 6), format('202 6 of %s {"Location": "/payments/1"}', :'org_b'), 'another organization has keys of its own');
SELECT is(pay(:'birch', 'p1', 6), format('202 6 of %s {"Location": "/payments/1", "Idempotency-Replayed": "true"}', :'org_b'), 'and its answers');
SELECT is(pay(:'alder', 'p2', 7, test.keyed('header')), format('202 7 of %s {"Location": "/payments/1"}', :'org_a'), 'a request with a key');
SELECT is(pay(:'alder', 'p2', 7, test.keyed('header')), format('202 7 of %s {"Location": "/payments/1", "Idempotency-Replayed": "true"}', :'org_a'), 'answers by that');
SELECT is(pay(:'alder', 'p2', 7, test.keyed('other')), format('202 7 of %s {"Location": "/payments/1", "Idempotency-Replayed": "true"}', :'org_a'), 'one with another key by the function''s');
SELECT is(calls(), 'pay pay pay', 'three payments in all');
SELECT results_eq('SELECT k.method COLLATE "default", k.path COLLATE "default", k.key COLLATE "default", k.status COLLATE "default" FROM ringfence_data.idempotency_keys AS k WHERE k.org_id IS NOT NULL ORDER BY 1, 2, 3', $$VALUES
	('CALL', 'public.q_pay(integer)', 'p1', '202'), ('CALL', 'public.q_pay(integer)', 'p1', '202'), ('CALL', 'public.q_pay(integer)', 'p2', '202'),
	('POST', '/rpc/pay', 'header', '202'), ('POST', '/rpc/pay', 'other', '202')$$, 'on record');

SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) AS c \g /dev/null
DROP OWNED BY regress_function_login, regress_function_nobody;
DROP ROLE regress_function_login, regress_function_nobody;
SELECT * FROM finish();
