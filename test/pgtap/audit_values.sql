-- Values in a record are those of the row: as to_jsonb() gives them, the same in
-- every session whatever its settings, and none that a table can hold makes a
-- write fail. A value that is kept out of line and didn't change isn't recorded;
-- one that did is recorded whole, or if it is very large by its size and digest.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(136);

-- What a record has for a value of a type.
CREATE FUNCTION public.recorded(type text, literal text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('CREATE TABLE public.one_value (id integer PRIMARY KEY, v %s)', type);
	PERFORM ringfence.audit('public.one_value');
	EXECUTE format('INSERT INTO public.one_value VALUES (1, %L)', literal);
	SELECT (n.new -> 'v')::text INTO result FROM public.newest AS n WHERE n.operation = 'INSERT' AND n.key = '1';
	DROP TABLE public.one_value;
	RETURN result;
END $$;
CREATE TYPE public.colour AS ENUM ('red', 'dark green');
CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN public.very_positive AS positive CHECK (VALUE > 10);
CREATE DOMAIN public.document AS json;
CREATE TYPE public.address AS (street text, "No" integer, flags boolean[]);
CREATE DOMAIN public.home AS address CHECK ((VALUE).street <> '');
CREATE TYPE public.person AS (name text, home address);

SELECT is(recorded(t.type, t.literal), t.expected, format('%s %s', t.type, translate(t.literal, E'\n\t', '  ')))
FROM (VALUES
	('boolean', 'yes', 'true'),
	('boolean', 'no', 'false'),
	('smallint', '-32768', '-32768'),
	('integer', '2147483647', '2147483647'),
	('bigint', '-9223372036854775808', '-9223372036854775808'),
	('numeric', '1.500', '1.500'),
	('numeric', '-123456789012345678901234567890.0123456789', '-123456789012345678901234567890.0123456789'),
	('numeric(6,2)', '7', '7.00'),
	('numeric', '0', '0'),
	('numeric', 'NaN', '"NaN"'),
	('numeric', 'Infinity', '"Infinity"'),
	('numeric', '-Infinity', '"-Infinity"'),
	('real', '0.1', '0.1'),
	('double precision', '0.30000000000000004', '0.30000000000000004'),
	('double precision', '1e20', '100000000000000000000'),
	('double precision', '5e-324', '0.' || repeat('0', 323) || '5'),
	('double precision', '-0', '0'),
	('double precision', 'NaN', '"NaN"'),
	('real', '-Infinity', '"-Infinity"'),
	('text', '', '""'),
	('text', E'a"b\\c\n\t/', '"a\"b\\c\n\t/"'),
	('text', 'Zoë 😀', '"Zoë 😀"'),
	('text', 'null', '"null"'),
	('varchar(5)', 'abc', '"abc"'),
	('char(5)', 'abc', '"abc  "'),
	('name', 'some name', '"some name"'),
	('"char"', 'x', '"x"'),
	('uuid', '0AAAAAAA-0000-7000-8000-00000000000A', '"0aaaaaaa-0000-7000-8000-00000000000a"'),
	('date', '2026-02-03', '"2026-02-03"'),
	('date', 'infinity', '"infinity"'),
	('date', '0044-03-15 BC', '"0044-03-15 BC"'),
	('timestamp', '2026-02-03 04:05:06.789', '"2026-02-03T04:05:06.789"'),
	('timestamptz', '2026-02-03 04:05:06+02', '"2026-02-03T02:05:06+00:00"'),
	('timestamptz', '-infinity', '"-infinity"'),
	('time', '04:05:06.7', '"04:05:06.7"'),
	('timetz', '04:05:06-08', '"04:05:06-08"'),
	('interval', '1 year 2 mons -3 days 04:05:06', '"1 year 2 mons -3 days +04:05:06"'),
	('bytea', '\xdeadbeef00', '"\\xdeadbeef00"'),
	('inet', '10.1.2.3/8', '"10.1.2.3/8"'),
	('macaddr', '08-00-2b-01-02-03', '"08:00:2b:01:02:03"'),
	('bit(4)', '1010', '"1010"'),
	('point', '1,2.5', '"(1,2.5)"'),
	('pg_lsn', '0/16', '"0/16"'),
	('oid', '26', '"26"'),
	('tsvector', 'b:2 a:1', '"''a'':1 ''b'':2"'),
	('int4range', '[1,5]', '"[1,6)"'),
	('numrange', 'empty', '"empty"'),
	('daterange', '[2026-01-01,)', '"[2026-01-01,)"'),
	('tstzrange', '[2026-02-03 04:05:06+02,)', '"[\"2026-02-03 02:05:06+00\",)"'),
	('int4multirange', '{[1,3),[5,8)}', '"{[1,3),[5,8)}"'),
	('colour', 'dark green', '"dark green"'),
	('very_positive', '11', '11'),
	('document', '{"b": 1, "a": 2}', '{"a": 2, "b": 1}'),
	('integer[]', '{1,NULL,3}', '[1, null, 3]'),
	('integer[]', '{{1,2},{3,4}}', '[[1, 2], [3, 4]]'),
	('text[]', '{}', '[]'),
	('positive[]', '{1,2}', '[1, 2]'),
	('timestamptz[]', '{2026-02-03 04:05:06+02}', '["2026-02-03T02:05:06+00:00"]'),
	('address', '("Main St",5,"{t,f}")', '{"No": 5, "flags": [true, false], "street": "Main St"}'),
	('home', '("Main St",,)', '{"No": null, "flags": null, "street": "Main St"}'),
	('person[]', '{"(Ann,\"(Main St,5,)\")",NULL}', '[{"home": {"No": 5, "flags": null, "street": "Main St"}, "name": "Ann"}, null]'),
	('json', 'null', 'null'),
	('json', ' "text" ', '"text"'),
	('json', '{"a": 1, "b": [1.50, {"c": null}], "a": 2}', '{"a": 2, "b": [1.50, {"c": null}]}'),
	('json', '{"e": 1.5e3}', '{"e": 1500}'),
	('json', '"\u00e9\ud83d\ude00"', '"é😀"'),
	('jsonb', '[]', '[]'),
	('jsonb', '{"a": {"b": {"c": [true, "x", {}]}}}', '{"a": {"b": {"c": [true, "x", {}]}}}'),
	('jsonb', '1e3', '1000'),
	('jsonb', 'null', 'null'),
	-- What json holds and jsonb can't is recorded as its text.
	('json', '{"a": "\u0000"}', '"{\"a\": \"\\u0000\"}"'),
	('json', '["\ud800"]', '"[\"\\ud800\"]"'),
	('json', '{"n": 1e400000}', '"{\"n\": 1e400000}"'),
	('json[]', '{1,"\"x\""}', '[1, "x"]'),
	('xid8', '17', '"17"')
) AS t (type, literal, expected);
SELECT lives_ok($$SELECT recorded('json[]', '{"\"\\\\u0000\""}')$$, 'what jsonb can''t hold doesn''t stop a write: in an array');

-- Which of a type's values are equal is nothing to a record: only the same is.
CREATE TABLE public.same (id integer PRIMARY KEY, n numeric, f double precision, c char(3), j json, a integer[]);
SELECT ringfence.audit('public.same') \g /dev/null
INSERT INTO same VALUES (1, 1.0, 1, 'a', '{"x":1}', '{1}');
SELECT count(*) AS ignored FROM news() \gset
UPDATE same SET n = 1.0, c = 'a  ', j = '{"x":1}', a = '[1:1]={1}';
SELECT is_empty('SELECT news()', 'the same value by another spelling is no change');
UPDATE same SET n = 1.00, j = '{"x": 1}';
SELECT results_eq('SELECT news()', ARRAY['UPDATE same 1 {"j": {"x": 1}, "n": 1.0} -> {"j": {"x": 1}, "n": 1.00}'], 'an equal one that is stored otherwise is');

-- Settings

CREATE TABLE public.settings (d date, ts timestamp, tz timestamptz, tt timetz, i interval, b bytea, f4 real, f8 double precision, tza timestamptz[],
	r tstzrange, c person, ia interval[], j json, bya bytea[], reg regclass, id timestamptz PRIMARY KEY);
CREATE TABLE public.pointed_at ();
SELECT ringfence.audit('public.settings') \g /dev/null
CREATE FUNCTION public.write_settings() RETURNS void LANGUAGE sql AS $$
	DELETE FROM public.settings;
	INSERT INTO public.settings VALUES (date '2026-02-03', timestamp '2026-02-03 04:05:06', timestamptz '2026-02-03 04:05:06+00', timetz '04:05:06+02',
		make_interval(1, 2, 0, 3, 4, 5, 6), bytea '\x0041ff', 0.1::real, 0.1::float8 + 0.2::float8, ARRAY[timestamptz '2026-02-03 04:05:06+00'],
		tstzrange(timestamptz '2026-02-03 04:05:06+00', NULL), NULL, ARRAY[make_interval(0, -1, 0, 1)], '{"a": 1}', ARRAY[bytea '\x00'],
		'public.pointed_at'::regclass, timestamptz '2026-02-03 04:05:06+00')
$$;
SELECT write_settings() \g /dev/null
SELECT key AS plain_key, new AS plain, old AS plain_old FROM newest \gset
SELECT is(:'plain'::jsonb, jsonb_build_object('d', '2026-02-03', 'ts', '2026-02-03T04:05:06', 'tz', '2026-02-03T04:05:06+00:00', 'tt', '04:05:06+02',
	'i', '1 year 2 mons 3 days 04:05:06', 'b', '\x0041ff', 'f4', 0.1, 'f8', 0.30000000000000004, 'tza', '["2026-02-03T04:05:06+00:00"]'::jsonb,
	'r', '["2026-02-03 04:05:06+00",)', 'ia', '["-1 mons +1 day"]'::jsonb, 'j', '{"a": 1}'::jsonb, 'bya', '["\\x00"]'::jsonb,
	'reg', 'public.pointed_at', 'id', '2026-02-03T04:05:06+00:00'), 'values of types whose output depends on settings');
SELECT is(:'plain_key'::text, '2026-02-03 04:05:06+00', 'and such a key');
CREATE FUNCTION public.as_plain(setting text, value text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	before CONSTANT text := current_setting(setting);
	kept text;
	plain record;
BEGIN
	PERFORM public.write_settings();
	SELECT n.new, n.key INTO plain FROM public.newest AS n;
	PERFORM set_config(setting, value, false);
	kept := current_setting(setting);
	PERFORM public.write_settings();
	kept := nullif(current_setting(setting), kept);
	PERFORM set_config(setting, before, false);
	RETURN NEXT is(n.new, plain.new, format('%s = %s: the same record', setting, value)) FROM public.newest AS n;
	RETURN NEXT is(n.key, plain.key, format('%s = %s: the same key', setting, value)) FROM public.newest AS n;
	RETURN NEXT is(l.old, plain.new, format('%s = %s: the same before', setting, value))
		FROM ringfence_data.audit_log AS l WHERE l.operation = 'DELETE' ORDER BY l.recorded_at DESC, l.id DESC LIMIT 1;
	RETURN NEXT is(kept, NULL, format('%s = %s: stays as it was set', setting, value));
END $$;
SELECT as_plain(t.setting, t.value)
FROM (VALUES ('DateStyle', 'SQL, DMY'), ('TimeZone', 'America/Vancouver'), ('IntervalStyle', 'sql_standard'), ('IntervalStyle', 'iso_8601'),
	('bytea_output', 'escape'), ('extra_float_digits', '-10'), ('extra_float_digits', '3'), ('search_path', 'pg_catalog'),
	('quote_all_identifiers', 'on')) AS t (setting, value);
CREATE FUNCTION public.fails_to_json(colour) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no json'; END $$;
CREATE TABLE public.failing (id integer PRIMARY KEY, v colour);
SELECT ringfence.audit('public.failing') \g /dev/null
CREATE CAST (colour AS json) WITH FUNCTION public.fails_to_json(colour);
SET DateStyle = 'SQL, DMY';
SELECT throws_ok($$INSERT INTO failing VALUES (1, 'red')$$, 'P0001', 'no json', 'a type that can''t be recorded can''t be written');
SELECT is(current_setting('DateStyle'), 'SQL, DMY', 'and leaves the settings as they are');
RESET DateStyle;
DROP CAST (colour AS json);

-- Encodings

CREATE TABLE public.encoded (id text PRIMARY KEY, "größe" text);
SELECT ringfence.audit('public.encoded') \g /dev/null
SELECT U&'\00fc' AS small_letter \gset
\encoding LATIN1
INSERT INTO encoded VALUES (U&'\00fc', U&'gr\00f6\00dfe');
SELECT ok(new = jsonb_build_object('id', U&'\00fc', U&'gr\00f6\00dfe', U&'gr\00f6\00dfe') AND key = U&'\00fc', 'a client of another encoding') FROM newest;
\encoding UTF8
SELECT is((SELECT new ->> 'größe' FROM newest), 'größe', 'writes what others read');

-- Out of line

CREATE TABLE public.docs (id integer PRIMARY KEY, n integer, doc text, packed text, bin bytea, j jsonb);
ALTER TABLE public.docs ALTER doc SET STORAGE EXTERNAL, ALTER packed SET STORAGE MAIN, ALTER j SET STORAGE EXTENDED;
SELECT ringfence.audit('public.docs') \g /dev/null
INSERT INTO docs SELECT 1, 1, string_agg(md5(g::text), ''), repeat('packed', 2000), decode(string_agg(md5(g::text), ''), 'hex'),
	jsonb_build_object('items', jsonb_agg(md5(g::text)))
FROM generate_series(1, 2000) AS g;
SELECT ok(pg_column_size(doc) = 64000 AND pg_column_size(packed) < 1000 AND pg_column_size(bin) = 32000 AND pg_relation_size(c.reltoastrelid) > 100000,
	'values out of line, compressed and not') FROM docs, pg_class AS c WHERE c.oid = 'public.docs'::regclass;
SELECT is((SELECT new FROM newest), (SELECT to_jsonb(d) FROM docs AS d), 'are recorded whole');
SELECT count(*) AS ignored FROM news() \gset
UPDATE docs SET n = 2;
SELECT results_eq('SELECT news()', ARRAY['UPDATE docs 1 {"n": 1} -> {"n": 2}'], 'those that an UPDATE leaves alone are not recorded');
UPDATE docs SET doc = doc || '', packed = packed || '', bin = bin || '', j = j || '{}';
SELECT is_empty('SELECT news()', 'nor those that it writes anew with the same content');
ALTER TABLE public.docs ALTER doc SET STORAGE MAIN, ALTER packed SET STORAGE EXTERNAL;
UPDATE docs SET doc = doc || '', packed = packed || '';
SELECT ok(pg_column_size(packed) = 12000, 'one that was compressed is not any more') FROM docs;
SELECT is_empty('SELECT news()', 'which is no change either');
SELECT doc AS doc_before FROM docs \gset
UPDATE docs SET doc = 'X' || substr(doc, 2), n = 3;
SELECT ok(old = jsonb_build_object('n', 2, 'doc', :'doc_before') AND new = jsonb_build_object('n', 3, 'doc', 'X' || substr(:'doc_before', 2)),
	'one of which a byte changed is recorded whole, before and after') FROM newest;
SELECT count(*) AS ignored FROM news() \gset
CREATE FUNCTION public.untouched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := NEW.n + 1; RETURN NEW; END $$;
CREATE TRIGGER untouched BEFORE UPDATE ON public.docs FOR EACH ROW EXECUTE FUNCTION public.untouched();
UPDATE docs SET n = n;
SELECT results_eq('SELECT news()', ARRAY['UPDATE docs 1 {"n": 3} -> {"n": 4}'], 'also where a trigger makes the row');
SELECT to_jsonb(d) AS doc_row FROM docs AS d \gset
DELETE FROM docs;
SELECT is((SELECT old FROM newest), :'doc_row'::jsonb, 'a row that is deleted is recorded whole');
SELECT count(*) AS ignored FROM news() \gset

-- Very large values

CREATE TABLE public.large (id integer PRIMARY KEY, n integer, v text, b bytea, w text, x text, y text);
SELECT ringfence.audit('public.large') \g /dev/null
INSERT INTO large (id, n, v) VALUES (1, 1, repeat('x', 70 * 1024 * 1024));
SELECT is((SELECT new FROM newest), (SELECT jsonb_build_object('id', 1, 'n', 1, 'v',
	jsonb_build_object('bytes', 73400320, 'sha256', encode(sha256(l.v::bytea), 'hex'))) FROM large AS l), 'of 70 MB there are the size and the SHA-256');
SELECT count(*) AS ignored FROM news() \gset
UPDATE large SET n = 2;
SELECT results_eq('SELECT news()', ARRAY['UPDATE large 1 {"n": 1} -> {"n": 2}'], 'and nothing if it doesn''t change');
UPDATE large SET v = 'short';
SELECT is((SELECT old #>> '{v,bytes}' || ' ' || (new ->> 'v') FROM newest), '73400320 short', 'it can become a short one');
SELECT lives_ok($$INSERT INTO large (id, b) VALUES (2, decode(repeat('ab', 140000000), 'hex'))$$, '140 MB of bytea, whose text is more than jsonb can hold');
SELECT is((SELECT new FROM newest), (SELECT jsonb_build_object('id', 2, 'b',
	jsonb_build_object('bytes', 140000000, 'sha256', encode(sha256(l.b), 'hex'))) FROM large AS l WHERE l.id = 2), 'are recorded likewise');
SELECT lives_ok($$INSERT INTO large (id, n, v, w, x, y)
	SELECT 3, 5, r.v, r.v, r.v, r.v FROM (VALUES (repeat('y', 60000000))) AS r (v)$$, 'a row of 240 MB, of values that are none too large by themselves');
SELECT is((SELECT new - '{w,x,y}'::text[] FROM newest), (SELECT jsonb_build_object('id', 3, 'n', 5, 'v',
	jsonb_build_object('bytes', 60000000, 'sha256', encode(sha256(l.v::bytea), 'hex'))) FROM large AS l WHERE l.id = 3), 'has them by their digests, and the short ones whole');

SELECT * FROM finish();
