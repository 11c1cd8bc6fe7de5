-- The functions of csv() and ndjson() hold to what they promise whatever they are
-- called with: by hand, with states that were made up, with rows whose type changes
-- under way; and what takes long can be stopped.
BEGIN;
SELECT plan(37);

-- --- By hand, and as window functions ---

SELECT throws_ok(format('SELECT ringfence.%s', f), '0A000', 'csv() and ndjson() are aggregates, and no window functions', f || ' is not for calling by hand')
FROM unnest(ARRAY['csv_add(NULL, 1)', 'csv_add(''\x00'', ROW(1))', 'csv_add(NULL, 1, NULL)', 'ndjson_add(NULL, 1)', 'csv_merge(''\x00'', ''\x00'')', 'csv_merge(NULL, NULL)',
	'csv_finish(''\x00'')', 'csv_finish(NULL)', 'ndjson_finish(''\x00'')', 'csv_finish_unrecorded(''\x00'')', 'ndjson_finish_unrecorded(NULL)']) AS f;
SELECT throws_ok('SELECT ringfence.csv(v) OVER () FROM (VALUES (1)) AS v', '0A000', 'aggregate function ringfence.csv(record) does not support use as a window function',
	'csv() is no window function, as its result is its state');
CREATE AGGREGATE public.window_csv(anyelement) (SFUNC = ringfence.csv_add, STYPE = bytea, FINALFUNC = ringfence.csv_finish, FINALFUNC_MODIFY = READ_ONLY);
SELECT throws_ok('SELECT public.window_csv(n) OVER (ORDER BY n) FROM generate_series(1, 3) AS n', '0A000', 'csv() and ndjson() are aggregates, and no window functions',
	'nor is an aggregate of it that says it were one');
-- Which share a state.
CREATE AGGREGATE public.same_csv(anyelement) (SFUNC = ringfence.csv_add, STYPE = bytea, FINALFUNC = ringfence.ndjson_finish, FINALFUNC_MODIFY = READ_ONLY);
SELECT results_eq('SELECT public.window_csv(n)::text, public.same_csv(n)::text FROM generate_series(1, 2) AS n',
	$$VALUES (E'value\r\n1\r\n2\r\n', E'value\r\n1\r\n2\r\n')$$, 'to finish twice changes nothing');

-- --- States that were made up ---

-- Without a final function a state comes out flat, and by the merging one it goes in.
CREATE AGGREGATE public.state_of(anyelement) (SFUNC = ringfence.csv_add, STYPE = bytea);
CREATE AGGREGATE public.json_state_of(anyelement) (SFUNC = ringfence.ndjson_add, STYPE = bytea);
CREATE AGGREGATE public.merged(bytea) (SFUNC = ringfence.csv_merge, STYPE = bytea, FINALFUNC = ringfence.csv_finish, FINALFUNC_MODIFY = READ_WRITE);
CREATE TABLE public.states AS
SELECT 'two' AS name, public.state_of(n) AS state FROM generate_series(1, 2) AS n
UNION ALL
SELECT 'one', public.state_of(n) FROM generate_series(3, 3) AS n
UNION ALL
SELECT 'texts', public.state_of(t.t) FROM (SELECT 'x'::text AS t) AS t
UNION ALL
SELECT 'wide', public.state_of(t) FROM (SELECT 1 AS "ß", 2 AS b) AS t
UNION ALL
SELECT 'json', public.json_state_of(n) FROM generate_series(1, 2) AS n;
CREATE FUNCTION pg_temp.state(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT s.state FROM public.states AS s WHERE s.name = $1 $$;
-- Behind a state's bytes stand three numbers of four bytes; the first is the header's
-- length.
CREATE FUNCTION pg_temp.with_header(state bytea, was integer, is_now integer) RETURNS bytea LANGUAGE sql
RETURN set_byte(state, octet_length(state) - 13 + position(set_byte('\x00', 0, was) IN substr(state, octet_length(state) - 11, 4)), is_now);

SELECT is(merged(s.state ORDER BY s.name DESC), E'value\r\n1\r\n2\r\n3\r\n', 'states that are sound are merged under one header')
FROM public.states AS s WHERE s.name IN ('one', 'two');
SELECT is(merged(pg_temp.with_header(pg_temp.state('two'), 7, 0)), E'value\r\n1\r\n2\r\n', 'the header''s length stands where the test has it');
SELECT throws_ok(format('SELECT public.merged(%L::bytea)', s), '22P03', 'invalid state of csv() or ndjson()', 'a state must have ' || what)
FROM (VALUES
	('\x'::bytea, 'something'), ('\x0000000000000000000000', 'room for what is behind its bytes'),
	(overlay(pg_temp.state('two') PLACING '\xffffffff'::bytea FROM octet_length(pg_temp.state('two')) - 11), 'a header that is no longer than itself'),
	(pg_temp.with_header(pg_temp.state('two'), 7, 14), 'one that is no longer by a byte')
) AS v (s, what);
SELECT throws_ok(format('SELECT public.merged(%L::bytea)', s), '22021', NULL, 'a state must have ' || what)
FROM (VALUES
	(set_byte(pg_temp.state('two'), 7, 255), 'characters of the encoding'), (set_byte(pg_temp.state('two'), 7, 0), 'no zeros'),
	(set_byte(pg_temp.state('two'), 0, 255), 'such characters in its header'), (pg_temp.with_header(pg_temp.state('wide'), 6, 1), 'a header that ends with a character')
) AS v (s, what);
CREATE AGGREGATE public.begun(bytea) (SFUNC = ringfence.csv_merge, STYPE = bytea, INITCOND = '\x6100000000000000000000000000', FINALFUNC = ringfence.csv_finish, FINALFUNC_MODIFY = READ_WRITE);
SELECT throws_ok('SELECT public.begun(s.state) FROM public.states AS s', '22P03', 'invalid state of csv() or ndjson()', 'what rows are added to is none that was made up');
CREATE AGGREGATE public.begun_rows(anyelement) (SFUNC = ringfence.csv_add, STYPE = bytea, INITCOND = '\x6100000000000000000000000000', FINALFUNC = ringfence.csv_finish, FINALFUNC_MODIFY = READ_WRITE);
SELECT throws_ok('SELECT public.begun_rows(1)', '22P03', 'invalid state of csv() or ndjson()', 'nor by csv() itself');
SELECT throws_ok(format('SELECT public.merged(s.state) FROM public.states AS s WHERE s.name IN (''two'', %L)', other), '42804', 'the rows of a CSV have different columns',
	'states of other columns are not merged: ' || other)
FROM unnest(ARRAY['texts', 'wide', 'json']) AS other;

-- --- Rows whose type changes under way ---

CREATE TYPE public.changing AS (a integer, b text);
CREATE TYPE public.like_it AS (c integer, d text);
-- The third row comes after the statement.
CREATE FUNCTION public.changes(n integer, statement text, changed text) RETURNS record LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	IF n = 3 THEN
		EXECUTE statement;
	END IF;
	EXECUTE CASE WHEN n < 3 THEN $q$SELECT (1, 'x')::public.changing AS v$q$ ELSE changed END INTO r;
	RETURN r.v;
END
$$;
CREATE FUNCTION public.read_changes(aggregate text, statement text, changed text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SELECT %s(public.changes(n, $1, $2)) FROM generate_series(1, 4) AS n', aggregate) INTO answer USING statement, changed;
	RETURN answer;
END
$$;
SELECT throws_ok(format('SELECT public.read_changes(''ringfence.csv'', %L, %L)', s, q), '42804', 'the rows of a CSV have different columns', s || ' is noticed')
FROM (VALUES
	('ALTER TYPE public.changing ALTER ATTRIBUTE a TYPE text', 'SELECT (repeat(''A'', 200), repeat(''B'', 200))::public.changing AS v'),
	('ALTER TYPE public.changing ADD ATTRIBUTE c integer', 'SELECT (1, ''x'', 2)::public.changing AS v'),
	('ALTER TYPE public.changing DROP ATTRIBUTE a', 'SELECT ROW(''x'')::public.changing AS v')
) AS v (s, q);
SELECT is(public.read_changes('ringfence.csv', 'ALTER TYPE public.changing RENAME ATTRIBUTE a TO z', 'SELECT (2, ''y'')::public.changing AS v'),
	E'a,b\r\n1,x\r\n1,x\r\n2,y\r\n2,y\r\n', 'another name for a column is none for those before');
ALTER TYPE public.changing RENAME ATTRIBUTE z TO a;
SELECT is(public.read_changes('ringfence.ndjson', 'ALTER TYPE public.changing ALTER ATTRIBUTE a TYPE text', 'SELECT (''A'', ''B'')::public.changing AS v'),
	E'{"a":1,"b":"x"}\n{"a":1,"b":"x"}\n{"a":"A","b":"B"}\n{"a":"A","b":"B"}\n', 'NDJSON has each row as it is');

-- Each row is of another type than the one before: what was of that one is gone.
ALTER TYPE public.changing ALTER ATTRIBUTE a TYPE integer;
CREATE FUNCTION public.alternates(n integer) RETURNS record LANGUAGE plpgsql AS $$
BEGIN
	IF n % 2 = 0 THEN
		RETURN (n, 'x')::public.changing;
	END IF;
	RETURN (n, 'y')::public.like_it;
END
$$;
CREATE FUNCTION public.contexts() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT count(*) FROM pg_backend_memory_contexts AS m WHERE m.name = 'ringfence csv row type' $$;
SELECT results_eq($$SELECT ringfence.csv(public.alternates(n))::text, max(public.contexts()) FROM generate_series(1, 4) AS n$$,
	$$VALUES (E'c,d\r\n1,y\r\n2,x\r\n3,y\r\n4,x\r\n', 1::bigint)$$, 'types that take turns take no memory');

-- --- Zones that are none ---

SET LOCAL timezone = 'FAR+167';
SELECT is(ringfence.csv(r), E't\r\n2025-12-25 01:00:00-167\r\n', 'an offset of more than 99 hours has all its digits')
FROM (SELECT timestamptz '2026-01-01 00:00:00+00' AS t) AS r;
RESET timezone;

-- --- What takes long can be stopped ---

CREATE FUNCTION pg_temp.stopped(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'to the end';
EXCEPTION WHEN query_canceled THEN
	RETURN 'stopped';
WHEN OTHERS THEN
	RETURN SQLERRM;
END
$$;
-- Each of 1600 names is compared with all before it, and the last is one of them.
SET LOCAL statement_timeout = '50ms';
SELECT is(pg_temp.stopped($$SELECT ringfence.csv_table('a', array_agg(repeat('c', 2000) || n % 1599)) FROM generate_series(1, 1600) AS n$$), 'stopped', 'comparing names');
RESET statement_timeout;

SELECT * FROM finish();
ROLLBACK;
