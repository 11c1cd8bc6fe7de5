-- csv() writes what COPY writes, but for formulas; those are told and untold as the
-- corpus says; what was written is read back as it was; options, errors and rights.
\ir include/tenants.sql
BEGIN;
SELECT plan(130);
\ir include/injections.sql

-- COPY's bytes, and csv()'s, of a query; and a CSV read into a table.
SELECT current_setting('data_directory') || '/csv_test_' || pg_backend_pid() AS file \gset
\setenv CSV_FILE :file
SELECT set_config('test.file', :'file', false) AS file \gset
CREATE FUNCTION pg_temp.copied(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (%s) TO %L (FORMAT csv, HEADER)', query, current_setting('test.file'));
	RETURN pg_read_file(current_setting('test.file'));
END
$$;
CREATE FUNCTION pg_temp.written(query text, options ringfence.csv_options DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SELECT ringfence.csv(this_row, $1) FROM (%s) AS this_row', query) INTO answer USING options;
	RETURN answer;
END
$$;
CREATE FUNCTION pg_temp.as_copy() RETURNS ringfence.csv_options LANGUAGE sql
RETURN ringfence.csv_options(guard => false, newline => E'\n');
CREATE FUNCTION pg_temp.read(csv text, into_table regclass, more text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	object CONSTANT oid := lo_from_bytea(0, convert_to(csv, 'UTF8'));
BEGIN
	PERFORM lo_export(object, current_setting('test.file')), lo_unlink(object);
	EXECUTE format('COPY %s FROM %L (FORMAT csv, HEADER %s)', into_table, current_setting('test.file'), more);
END
$$;

-- --- As COPY does ---

CREATE TYPE public.mood AS ENUM ('', 'so, so', '=good');
CREATE TYPE public.pair AS (a integer, b text);
CREATE DOMAIN public.word AS text CHECK (VALUE <> 'forbidden');
CREATE DOMAIN public.score AS integer;
CREATE DOMAIN public.couple AS pair;
CREATE TABLE public.everything (
	"plain" text, gone integer, "with ""quote"", and comma" varchar(40), padded char(5), n name, c "char",
	i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, num numeric, cash money, o oid, yes boolean,
	d date, ts timestamp, tstz timestamptz, t time, ttz timetz, iv interval, id uuid, bytes bytea, j json, jb jsonb,
	texts text[], dates date[], m mood, p pair, w word, s score, cp couple, ip inet, net cidr, mac macaddr, bits varbit,
	r int4range, pt point, x xml, v tsvector, rel regclass, lsn pg_lsn
);
ALTER TABLE public.everything DROP COLUMN gone;
INSERT INTO public.everything DEFAULT VALUES;
-- A server may have been built without it.
SELECT CASE WHEN EXISTS (SELECT FROM pg_config AS c WHERE c.setting ~ 'with-libxml') THEN quote_literal('<a b="c,">&lt;</a>') ELSE 'NULL' END AS some_xml \gset
INSERT INTO public.everything VALUES (
	E'"quoted", \r\n=end', 'comma,', 'ab', 'name', '"', -32768, -2147483648, -9223372036854775808, '-1.5e-38', '-1e308',
	-12345678901234567890.123456789, '-$1,234.56', 4294967295, true, '0044-03-15 BC', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999+00',
	'24:00', '23:59:59.000001-15:59', '-1 year 2 mons -3 days 04:05:06.7', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '\x00ff22',
	E' {"a":\n"b,"}', '{"a": "say \"hi\", then"}', E'{NULL,"",a,"b,\\"c\\"\n"}', '{2026-01-01,infinity}', '=good', '(-1,"x,""y""")',
	'=word', -1, '(,)', '::1', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '[1,5)', '(1,2)', :some_xml, '''a'' b:1', 'pg_class', '0/16B3748');
INSERT INTO public.everything (plain, f4, f8, num, d, ts, tstz, id, iv) VALUES
	('', 'NaN', 'Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '00000000-0000-0000-0000-000000000000', '0'),
	('\.', '-Infinity', '-0', '-Infinity', '-infinity', 'infinity', '-infinity', '01234567-89ab-cdef-0123-456789abcdef', '1 day'),
	(' leading and trailing ', 0.1, 0.1, 0.10, '0001-01-01', '0001-01-01', '0001-01-01 00:00+00', NULL, NULL),
	(E'\t', 1e10, 1e21, 1e30, '0001-12-31 BC', '0001-12-31 23:59:59.999999 BC', '0001-12-31 23:59 BC', NULL, NULL),
	(E'\U0001F469\u200D\U0001F680, \u0627\u0644\u0639\u0631\u0628\u064A\u0629 \u202E', 1, 1, 0, '9999-12-31', '9999-12-31 23:59:59.9', '9999-12-31 23:59:59.99+00', NULL, NULL),
	('null', 2, 2, -0.00, '10000-01-01', '10000-01-01', '10000-01-01 00:00+00', NULL, NULL),
	('"', 3, 3, 3, '2000-02-29', '2000-02-29 12:34:56.000001', '2000-02-29 12:34:56.100+00', NULL, NULL),
	('""', 3, 3, 3, '5874897-12-31', '1900-02-28', '1900-03-01 00:00+00', NULL, NULL);
-- On both sides of a word's end, and of what fits in a word.
INSERT INTO public.everything (plain)
SELECT overlay(repeat('x', length) PLACING special FROM place FOR 1)
FROM generate_series(1, 40) AS length, generate_series(1, 40) AS place, unnest(ARRAY['"', ',', E'\n', E'\r', ';', E'\u00E9']) AS special
WHERE place <= length AND (length < 20 OR place IN (1, 15, 16, 17, length));
INSERT INTO public.everything (plain) SELECT repeat('x', n) FROM generate_series(0, 70) AS n;

SELECT is(pg_temp.written('TABLE public.everything', pg_temp.as_copy()) = pg_temp.copied('TABLE public.everything'), true,
	'a table of every type is written as COPY writes it');
SELECT is((SELECT ringfence.csv(e, pg_temp.as_copy()) = pg_temp.copied('TABLE public.everything') FROM public.everything AS e), true,
	'also as rows of the table''s own type, of which a column was dropped');
SELECT is(pg_temp.written('SELECT tstz FROM public.everything', pg_temp.as_copy()), pg_temp.copied('SELECT tstz FROM public.everything'),
		'in the time zone of ' || zone)
FROM unnest(ARRAY['America/Vancouver', 'Asia/Kathmandu', 'Africa/Monrovia', 'Australia/Lord_Howe', 'XYZ+3:15']) AS zone,
	set_config('TimeZone', zone, true);
SELECT is(pg_temp.written(query, pg_temp.as_copy()) = pg_temp.copied(query), true, 'thousands of moments, in a zone with summer time')
FROM (VALUES ($$SELECT moment AT TIME ZONE 'UTC' AS plain, moment, moment::date AS day FROM (
	SELECT timestamptz '1880-01-01' + n * interval '13 days 7 hours 11 min 13.000017 sec' AS moment FROM generate_series(1, 5000, 1) AS n) AS s$$)) AS v (query),
	set_config('TimeZone', 'Europe/London', true) AS zone;
SET LOCAL TimeZone = 'UTC';
SELECT is(pg_temp.written(query, pg_temp.as_copy()) = pg_temp.copied(query), true, 'every day of five centuries, and of the first')
FROM (VALUES ($$SELECT date '0001-01-01' + n AS a, date '1599-01-01' + 5 * n AS b FROM generate_series(0, 36600) AS n$$)) AS v (query);
SELECT is(pg_temp.written($$SELECT repeat('x,"', 333333) || 'y' AS cell, repeat('z', 1000000) AS plain$$, pg_temp.as_copy())
	= pg_temp.copied($$SELECT repeat('x,"', 333333) || 'y' AS cell, repeat('z', 1000000) AS plain$$), true, 'cells of a million characters');
CREATE TABLE public.toasted (a text, b text, bytes bytea);
ALTER TABLE public.toasted ALTER COLUMN b SET STORAGE external;
INSERT INTO public.toasted SELECT repeat('compressed, ', 9000), repeat('beside', 9000), decode(repeat('0a', 90000), 'hex');
SELECT is((SELECT ringfence.csv(t, pg_temp.as_copy()) = pg_temp.copied('TABLE public.toasted') FROM public.toasted AS t), true, 'and toasted ones');
SELECT is(pg_temp.written('SELECT FROM generate_series(1, 3)', pg_temp.as_copy()), E'\n\n\n\n', 'rows without columns are empty lines');
SELECT is(pg_temp.written($$SELECT * FROM (VALUES ('\.'), (NULL), (''), ('\.x')) AS v (a)$$, pg_temp.as_copy()), E'a\n"\\."\n\n""\n\\.x\n',
	'a line that ends what COPY reads is quoted, NULL is empty, what is empty is quoted');
SELECT is(pg_temp.written($$SELECT '\.' AS a, '\.' AS b$$, pg_temp.as_copy()), E'a,b\n\\.,\\.\n', 'which matters in a column alone');
SELECT is(pg_temp.written('SELECT 0.1::real + 0.2::real AS f4, 0.1::float8 + 0.2::float8 AS f8', pg_temp.as_copy()), E'f4,f8\n0.3,0.3\n',
	'floats have the digits that the session asks for') FROM set_config('extra_float_digits', '0', true);
SET LOCAL extra_float_digits = 1;
SET LOCAL DateStyle = 'German';
SET LOCAL bytea_output = 'escape';
SELECT is(pg_temp.written($$SELECT date '2026-02-01' AS d, timestamp '2026-02-01 01:02:03.5' AS t, timestamptz '2026-02-01 01:02+00' AS z, '=1'::bytea AS b$$),
	E'd,t,z,b\r\n2026-02-01,2026-02-01 01:02:03.5,2026-02-01 01:02:00+00,\\x3d31\r\n', 'dates and bytea look the same whatever the session''s settings are');
RESET DateStyle;
RESET bytea_output;

-- --- Rows ---

SELECT is(ringfence.csv(e), '', 'without rows there is nothing, as the columns aren''t known') FROM public.everything AS e WHERE false;
SELECT is(ringfence.csv(r), E'a,b\r\n1,x\r\n', 'a NULL row is passed over')
FROM unnest(ARRAY[NULL, '(1,x)', NULL]::public.pair[]) WITH ORDINALITY AS u (a, b, n), LATERAL (SELECT CASE WHEN u.a IS NOT NULL THEN ROW(u.a, u.b)::public.pair END AS r) AS s;
SELECT is(ringfence.csv(NULL::public.pair), '', 'and alone it is none');
SELECT is(ringfence.csv(ROW(NULL, NULL)::public.pair), E'a,b\r\n,\r\n', 'a row of NULLs is one');
SELECT is(ringfence.csv(c), E'a,b\r\n1,x\r\n', 'a domain over a row is a row') FROM (SELECT '(1,x)'::public.couple AS c) AS s;
SELECT is(ringfence.csv(f), E'a,b\r\n1,"x,"\r\n', 'a function''s rows') FROM ROWS FROM (jsonb_to_record('{"a": 1, "b": "x,"}') AS (a integer, b text)) AS f;
SELECT is(ringfence_v1.csv(v), E'value\r\n1\r\n\r\n3\r\n', 'a scalar is a row of one column') FROM unnest(ARRAY[1, NULL, 3]) AS v;
SELECT is(string_agg(s.csv, '|' ORDER BY s.k), E'a\r\n1\r\n3\r\n|a\r\n2\r\n', 'groups have a CSV each')
FROM (SELECT v.n % 2 = 0 AS k, ringfence.csv(t ORDER BY v.n) AS csv
	FROM (VALUES (3), (2), (1)) AS v (n), LATERAL (SELECT v.n AS a) AS t GROUP BY 1) AS s;
SELECT is(array_agg(s.csv ORDER BY s.csv), ARRAY[E'n\r\n1\r\n', E'n\r\n1\r\n2\r\n', E'n\r\n2\r\n'], 'and so have grouping sets')
FROM (SELECT ringfence.csv(v ORDER BY v.n)::text AS csv FROM (VALUES (1), (2)) AS v (n) GROUP BY GROUPING SETS ((), (v.n))) AS s;
SELECT is(ringfence.csv(r), E'a,b\r\n1,x\r\n2,y\r\n', 'rows of two types with columns of the same types')
FROM (SELECT p AS r FROM (SELECT 1 AS a, 'x'::text AS b) AS p UNION ALL SELECT p FROM (SELECT 2 AS c, 'y'::text AS d) AS p) AS s;
SELECT throws_ok($$SELECT ringfence.csv(r) FROM (SELECT p AS r FROM (SELECT 1 AS a, 'x'::text AS b) AS p UNION ALL SELECT ROW(1)) AS s$$,
	'42804', 'the rows of a CSV have different columns', 'but not with others');
SELECT throws_ok($$SELECT ringfence.csv(n) OVER () FROM public.notes AS n$$, '0A000',
	'aggregate function ringfence.csv(record) does not support use as a window function', 'it is no window function');
SELECT throws_ok($$SELECT ringfence.csv_add(NULL, n) FROM public.notes AS n$$, '0A000',
	'csv() and ndjson() are aggregates, and no window functions', 'its parts can''t be called by hand');
SELECT throws_ok($$SELECT ringfence.csv_finish('\x00')$$, '0A000',
	'csv() and ndjson() are aggregates, and no window functions', 'none of them');
SELECT throws_ok($$SELECT ringfence_v1.csv(repeat('"', 540000000))$$, '54000', 'the CSV is larger than 1 GB', 'there is an end to it');
SET LOCAL client_min_messages = warning;
CREATE TYPE public.hostile;
CREATE FUNCTION public.hostile_in(cstring) RETURNS hostile LANGUAGE internal STRICT IMMUTABLE AS 'textin';
CREATE FUNCTION public.hostile_out(hostile) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'shell_out';
CREATE TYPE public.hostile (INPUT = hostile_in, OUTPUT = hostile_out, LIKE = text);
RESET client_min_messages;
SELECT throws_ok($$SELECT ringfence.csv(t) FROM (SELECT n, 'x'::public.hostile AS h FROM generate_series(1, 3) AS n) AS t$$,
	'0A000', 'cannot display a value of a shell type', 'a type that can''t be shown has the query fail');

-- --- Formulas ---

SELECT is_empty('SELECT n, cell, formula FROM public.injections WHERE (ringfence.csv_guard(cell) <> cell) <> formula', 'what is a formula is told from what isn''t');
SELECT is_empty('SELECT n, cell FROM public.injections WHERE formula AND ringfence.csv_guard(cell) <> '''''''' || cell', 'an apostrophe goes in front');
SELECT is_empty('SELECT n, cell FROM public.injections WHERE ringfence.csv_unguard(ringfence.csv_guard(cell)) <> cell', 'and comes off again');
SELECT is(ringfence.csv_unguard(x), y, 'of ' || x || ' there remains ' || y)
FROM (VALUES ('''=1', '=1'), ('''''=1', '''=1'), ('=1', '=1'), ('''plain', '''plain'), ('''', ''''), ('', ''), (''' -', ' -')) AS v (x, y);
-- Every string of five of these, which are what is looked for and what isn't.
SELECT is((SELECT count(*) FROM (
		SELECT string_agg(s, '' ORDER BY s) FROM (
			SELECT a || b || c || d AS s
			FROM unnest(p) AS a, unnest(p) AS b, unnest(p) AS c, unnest(p) AS d
			WHERE ringfence.csv_unguard(ringfence.csv_guard(a || b || c || d)) <> a || b || c || d) AS x
		HAVING count(*) > 0) AS wrong), 0::bigint, 'every short string is guarded and unguarded to itself')
FROM (VALUES (ARRAY['', '''', ' ', '=', '-', E'\t', 'x', E'\u00A0', E'\uFEFF', E'\uFF1D', E'\u00E9', '"'])) AS v (p);
SELECT is((SELECT count(*) FROM (
		SELECT a || b || c AS s FROM unnest(p) AS a, unnest(p) AS b, unnest(p) AS c) AS x
		GROUP BY ringfence.csv_guard(x.s) HAVING count(DISTINCT x.s) > 1 LIMIT 1), NULL, 'no two become the same')
FROM (VALUES (ARRAY['', '''', ' ', '=', '-', E'\t', 'x', E'\u00A0', E'\uFEFF', E'\uFF1D', E'\u00E9', '"'])) AS v (p);

CREATE TABLE public.cells (n integer, cell text, formula boolean);
SELECT lives_ok('SELECT pg_temp.read((SELECT ringfence.csv(i) FROM public.injections AS i), ''public.cells'')', 'COPY reads the corpus');
SELECT is_empty($$SELECT i.n, i.cell, c.cell FROM public.injections AS i FULL JOIN public.cells AS c USING (n)
	WHERE ringfence.csv_unguard(c.cell) IS DISTINCT FROM i.cell$$, 'and every cell is what it was, once the guard is off');
SELECT is_empty($$SELECT n, cell FROM public.cells WHERE cell ~ '^[=+@\t\r\n-]' OR cell ~ E'^[\\s\uFEFF\u00A0\u3000\u200B]+[=+@-]'$$, 'none of them is a formula');
SELECT is(pg_temp.written($$SELECT '=x' AS t, '=x'::varchar AS v, '=x'::char(4) AS c, '=x'::name AS n, '='::"char" AS ch, '=x'::public.word AS w,
	'=good'::public.mood AS e, '-5'::json AS j$$),
	E't,v,c,n,ch,w,e,j\r\n"\'=x","\'=x","\'=x  ","\'=x","\'=","\'=x","\'=good","\'-5"\r\n', 'texts of all kinds are guarded');
SELECT is(pg_temp.written($$SELECT -5 AS i, -5::bigint AS b, -0.5 AS n, '-Infinity'::float8 AS f, '-$5'::money AS m, -5::public.score AS s, '-1 day'::interval AS iv,
	'-infinity'::date AS d, '-5'::jsonb AS j$$),
	E'i,b,n,f,m,s,iv,d,j\r\n-5,-5,-0.5,-Infinity,-$5.00,-5,-1 days,-infinity,-5\r\n', 'numbers and times stay what they are');
SELECT is(pg_temp.written('SELECT 1 AS "=1+1", 2 AS "a,b", 3 AS "''@x"'), E'"\'=1+1","a,b","\'\'@x"\r\n1,2,3\r\n', 'columns'' names are guarded as well');
SELECT is(pg_temp.written($$SELECT '=1' AS a$$, ringfence.csv_options(guard => false)), E'a\r\n=1\r\n', 'unless it is off');

-- --- Options ---

SELECT is(pg_temp.written($$SELECT 1 AS a, NULL AS b, 'x;y' AS c, '' AS d, 'x,y' AS e$$, ringfence.csv_options(delimiter => ';')),
	E'a;b;c;d;e\r\n1;;"x;y";"";x,y\r\n', 'another delimiter');
SELECT is(pg_temp.written($$SELECT -1.5 AS a, '2026-01-01'::date AS b, '12:30'::time AS c, 'a-b' AS d, 'ab' AS e, NULL AS f$$, ringfence.csv_options(delimiter => '-')),
	E'a-b-c-d-e-f\r\n"-1.5"-"2026-01-01"-12:30:00-"a-b"-ab-\r\n', 'one that is in numbers and dates');
SELECT is(pg_temp.written($$SELECT E'x\ty' AS a, 'z' AS b$$, ringfence.csv_options(delimiter => E'\t')), E'a\tb\r\n"x\ty"\tz\r\n', 'a tab');
SELECT is(pg_temp.written('SELECT 1 AS a', ringfence.csv_options(bom => true)), E'\uFEFFa\r\n1\r\n', 'a byte order mark');
SELECT is(pg_temp.written('SELECT 1 AS a', ringfence.csv_options(bom => true, header => false)), E'\uFEFF1\r\n', 'also without a header');
SELECT is(pg_temp.written($$SELECT NULL AS a, 'n/a' AS b, '' AS c, 5 AS d$$, ringfence.csv_options(null_text => 'n/a')), E'a,b,c,d\r\nn/a,"n/a",,5\r\n',
	'another text for NULL, which is quoted where it is one');
SELECT is(pg_temp.written($$SELECT NULL AS a, 5 AS b, 50 AS c, '5' AS d, true AS t, '\x'::bytea AS x$$, ringfence.csv_options(null_text => '5')), E'a,b,c,d,t,x\r\n5,"5",50,"5",t,\\x\r\n',
	'or a number');
SELECT is(pg_temp.written($$SELECT 1 AS a, 'x' AS b, '' AS c, NULL AS d, true AS e, '2026-01-01'::date AS f, '{1}'::int[] AS g$$, ringfence.csv_options(quote => 'text')),
	E'"a","b","c","d","e","f","g"\r\n1,"x","",,t,2026-01-01,"{1}"\r\n', 'all texts quoted');
SELECT is(pg_temp.written($$SELECT 1 AS a, 'x' AS b, '' AS c, NULL AS d, true AS e, '\xff'::bytea AS f, 1.5 AS g$$, ringfence.csv_options(quote => 'all')),
	E'"a","b","c","d","e","f","g"\r\n"1","x","",,"t","\\xff","1.5"\r\n', 'all but NULL quoted');
SELECT is(pg_temp.written('SELECT 1 AS a', ringfence.csv_options(header => false, newline => E'\n')), E'1\n', 'no header, and LF');
SELECT is(pg_temp.written('SELECT 1 AS a', ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL)), E'a\r\n1\r\n', 'a field that is NULL means the default');
SELECT is(ringfence.csv(t, ringfence.csv_options(delimiter => t.d) ORDER BY t.a), E'a;d\r\n1;";"\r\n2;,\r\n', 'the options are those of the first row')
FROM (VALUES (1, ';'), (2, ',')) AS t (a, d);
SELECT is(ringfence.csv_options()::text, '(",",f,"",minimal,"' || E'\r\n' || '",t,t)', 'the defaults');
SELECT is(ringfence.csv_options(quote => NULL, guard => NULL), ringfence.csv_options(), 'are what NULL stands for');
SELECT throws_ok(format('SELECT ringfence.csv_options(%s => %L)', option, value), '22023', message, option || ' is not ' || to_json(value))
FROM (VALUES
	('delimiter', '', 'invalid delimiter of a CSV'), ('delimiter', ';;', 'invalid delimiter of a CSV'), ('delimiter', '"', 'invalid delimiter of a CSV'),
	('delimiter', E'\n', 'invalid delimiter of a CSV'), ('delimiter', '5', 'invalid delimiter of a CSV'), ('delimiter', 'x', 'invalid delimiter of a CSV'),
	('delimiter', E'\u00E9', 'invalid delimiter of a CSV'), ('quote', 'none', 'invalid quoting of a CSV'), ('newline', E'\r', 'invalid line end of a CSV'),
	('null_text', 'a"b', 'invalid text for NULL in a CSV'), ('null_text', E'\n', 'invalid text for NULL in a CSV'), ('null_text', repeat('x', 64), 'invalid text for NULL in a CSV'),
	('null_text', 'a,b', 'the text for NULL in a CSV contains the delimiter'), ('null_text', '=1', 'the text for NULL in a CSV begins like a formula')
) AS v (option, value, message);
SELECT throws_ok($$SELECT ringfence.csv(t, ROW('x', false, '', 'minimal', E'\n', true, true)::ringfence.csv_options) FROM (SELECT 1) AS t$$,
	'22023', 'invalid delimiter of a CSV', 'what the constructor refuses is refused in a row made by hand');

-- --- Read back ---

CREATE TABLE public.random (
	n integer, t text, v varchar, i bigint, f double precision, num numeric, b boolean, d date, ts timestamptz, bytes bytea, id uuid, jb jsonb, texts text[], iv interval
);
SELECT setseed(0.25) AS seed \gset
INSERT INTO public.random
SELECT n,
	CASE WHEN random() < 0.9 THEN (SELECT coalesce(string_agg(p[1 + floor(random() * cardinality(p))::int], '' ORDER BY k), '') FROM generate_series(1, (n * 7919 + floor(random() * 12)::int) % 12) AS k) END,
	CASE WHEN random() < 0.9 THEN p[1 + floor(random() * cardinality(p))::int] || repeat('y', n % 20) || p[1 + floor(random() * cardinality(p))::int] END,
	CASE WHEN random() < 0.9 THEN ((random() - 0.5) * 1e18)::bigint END, CASE WHEN random() < 0.9 THEN (random() - 0.5) * 10 ^ floor(random() * 200 - 100) END,
	CASE WHEN random() < 0.9 THEN ((random() - 0.5) * 1e9)::numeric / 1000 END, CASE WHEN random() < 0.9 THEN random() < 0.5 END,
	date '1000-01-01' + floor(random() * 500000)::int, timestamptz '1900-01-01' + random() * interval '200 years',
	decode(substr(md5(random()::text), 1, 2 * floor(random() * 16)::int), 'hex'), md5(random()::text)::uuid,
	jsonb_build_object('k', p[1 + floor(random() * cardinality(p))::int], 'n', random()),
	ARRAY[NULL, p[1 + floor(random() * cardinality(p))::int], 'x'], random() * interval '1000 days' - interval '500 days'
FROM generate_series(1, 2000) AS n, (VALUES (ARRAY['', ' ', ',', ';', '"', '""', E'\n', E'\r', E'\r\n', E'\t', '=', '+', '-', '@', '''', '\', '\.', '\N', 'a', 'bc', 'NULL', E'\u00E9', E'\u00A0',
	E'\uFEFF', E'\uFF1D', E'\u05D0\u05D1', E'\u202E', E'\U0001F600', E'\U0001F1E8\U0001F1E6', '{', '}', '(', E'\x01'])) AS v (p);
CREATE TABLE public.read (LIKE public.random);
-- How many rows COPY reads otherwise than they were, once the guard is off.
CREATE FUNCTION pg_temp.astray(options ringfence.csv_options) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE public.read;
	PERFORM pg_temp.read((SELECT ringfence.csv(r, options) FROM public.random AS r), 'public.read',
		format(', DELIMITER %L, NULL %L', options.delimiter, options.null_text));
	IF options.guard THEN
		UPDATE public.read SET t = ringfence.csv_unguard(t), v = ringfence.csv_unguard(v);
	END IF;
	RETURN (SELECT count(*) FROM (
		(TABLE public.random EXCEPT ALL TABLE public.read) UNION ALL (TABLE public.read EXCEPT ALL TABLE public.random)) AS d);
END
$$;
SELECT is(pg_temp.astray(o), 0::bigint, '28,000 random cells are read as they were, of ' || to_json(o))
FROM (VALUES (ringfence.csv_options()), (ringfence.csv_options(delimiter => ';', null_text => '\N', newline => E'\n', guard => false)),
	(ringfence.csv_options(delimiter => E'\t', null_text => 'NULL', quote => 'all')), (ringfence.csv_options(delimiter => '|', quote => 'text'))) AS v (o);
UPDATE public.random SET t = coalesce(t, '') || '!' WHERE n = 1000;
SELECT is((SELECT count(*) FROM (TABLE public.random EXCEPT ALL TABLE public.read) AS d), 1::bigint, 'a row that is another one is noticed');

-- --- NDJSON ---

SELECT is(ringfence.ndjson(t ORDER BY t.a), E'{"a":1,"b":"x\\ny","c":{"k" :  1},"d":"2026-01-01"}\n{"a":2,"b":null,"c":[1,  "\\n"],"d":"infinity"}\n', 'rows as JSON, one a line')
FROM (VALUES (1, E'x\ny', E'{"k" :\n\r1}'::json, date '2026-01-01'), (2, NULL, E'[1,\n\r"\\n"]', 'infinity')) AS t (a, b, c, d);
SELECT is((SELECT count(*) FROM regexp_split_to_table(rtrim(j.lines, E'\n'), E'\n') AS line (l)
		INNER JOIN public.everything AS e ON row_to_json(e)::jsonb = line.l::jsonb), (SELECT count(*) FROM (SELECT row_to_json(e)::jsonb AS r FROM public.everything AS e) AS a
		INNER JOIN (SELECT row_to_json(e)::jsonb AS r FROM public.everything AS e) AS b USING (r)), 'every type, as row_to_json() has it')
FROM (SELECT ringfence.ndjson(e) AS lines FROM public.everything AS e) AS j;
SELECT is(ringfence.ndjson(n), '', 'without rows there is nothing') FROM public.notes AS n WHERE false;
SELECT is(ringfence_v1.ndjson(v), E'{"value":1}\n{"value":null}\n', 'a scalar is a row of one column') FROM unnest(ARRAY[1, NULL]) AS v;
SELECT is(ringfence.ndjson(r), E'{"a":1,"b":"x"}\n{"f1":1}\n', 'rows of several types')
FROM (SELECT p AS r FROM (SELECT 1 AS a, 'x'::text AS b) AS p UNION ALL SELECT NULL UNION ALL SELECT ROW(1)) AS s;

-- --- In parallel ---

CREATE TABLE public.large AS SELECT n, repeat(chr(65 + n % 26), n % 9) AS t, CASE WHEN n % 3 = 0 THEN n END AS z FROM generate_series(1, 20000) AS n;
ALTER TABLE public.large SET (parallel_workers = 2);
SELECT ringfence.csv(l ORDER BY n) AS csv, ringfence.ndjson(l ORDER BY n) AS json FROM public.large AS l \gset serial_
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL parallel_leader_participation = off;
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
CREATE FUNCTION pg_temp.sorted(lines text, line_end text) RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(l, line_end ORDER BY l COLLATE "C") FROM string_to_table(rtrim(lines, line_end), line_end) AS l);
SELECT ok((SELECT count(*) = 1 FROM pg_temp.plan_of(query) AS p (l) WHERE l LIKE '%Partial Aggregate%'), 'workers aggregate: ' || query)
FROM (VALUES ('SELECT ringfence.csv(l) FROM public.large AS l'), ('SELECT ringfence.csv(s) FROM (SELECT n, t, z FROM public.large) AS s'),
	('SELECT ringfence.ndjson(l) FROM public.large AS l')) AS v (query);
SELECT ringfence.csv(l) AS named FROM public.large AS l \gset parallel_
SELECT ringfence.csv(s, ringfence.csv_options(bom => true, quote => 'text', delimiter => ';')) AS unnamed
FROM (SELECT n, (n + 1)::text AS m FROM public.large) AS s \gset parallel_
SELECT is(split_part(:'parallel_named', E'\r\n', 1), 'n,t,z', 'the header comes first');
SELECT is(length(:'parallel_named') - length(replace(:'parallel_named', 'n,t,z', '')), 5, 'and once');
SELECT is(pg_temp.sorted(:'parallel_named', E'\r\n') = pg_temp.sorted(:'serial_csv', E'\r\n'), true, 'with the same rows');
SELECT is(split_part(:'parallel_unnamed', E'\r\n', 1), E'\uFEFF"n";"m"', 'so do a byte order mark and options, of rows that have no name');
SELECT is(length(:'parallel_unnamed') - length(replace(:'parallel_unnamed', '"n";"m"', '')), 7, 'once');
SELECT is(position(E'\uFEFF' IN substr(:'parallel_unnamed', 2)), 0, 'each');
-- The digits of 1 to 20000 are 88894.
SELECT is(length(:'parallel_unnamed'), 1 + 9 + 20000 * 5 + 88894 + 88898, 'with all rows');
SELECT is(pg_temp.sorted(json, E'\n') = pg_temp.sorted(:'serial_json', E'\n'), true, 'NDJSON as well')
FROM (SELECT ringfence.ndjson(l)::text AS json FROM public.large AS l) AS s;
SELECT is((SELECT ringfence.csv(l) FROM public.large AS l WHERE n < 0), '', 'no worker has a row');
SELECT is(sum(length(g.csv)), 7 * 7 + length(:'serial_csv') - 7::bigint, 'groups, of which each worker has a part, are whole')
FROM (SELECT n % 7 AS k, ringfence.csv(l)::text AS csv FROM public.large AS l GROUP BY 1) AS g;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET parallel_leader_participation;

-- --- Who may ---

SELECT is(array_agg(r ORDER BY r), '{pg_database_owner,ringfence_jobs,ringfence_member,ringfence_operator,ringfence_owner}', f || ' is for members, operators, jobs and owners')
FROM (VALUES ('ringfence.csv(record)'), ('ringfence.csv(record, ringfence.csv_options)'), ('ringfence.ndjson(record)'), ('ringfence.csv_guard(text)'), ('ringfence.csv_unguard(text)'),
	('ringfence.csv_options(text, boolean, text, text, text, boolean, boolean)')) AS v (f),
	unnest(ARRAY['pg_database_owner', 'ringfence_anon', 'ringfence_authenticator', 'ringfence_jobs', 'ringfence_member', 'ringfence_operator', 'ringfence_owner']) AS r
WHERE has_function_privilege(r, f, 'EXECUTE') GROUP BY f;
SELECT is(array_agg(r ORDER BY r), '{ringfence_member,ringfence_operator,ringfence_owner}', f || ' is for members and operators')
FROM unnest(ARRAY['ringfence_v1', 'cleaning_v1', 'merchant_v1']) AS n, unnest(ARRAY['csv', 'ndjson']) AS a, format('%s.%s(anyelement)', n, a) AS f,
	unnest(ARRAY['pg_database_owner', 'ringfence_anon', 'ringfence_authenticator', 'ringfence_jobs', 'ringfence_member', 'ringfence_operator', 'ringfence_owner']) AS r
WHERE has_function_privilege(r, f, 'EXECUTE') GROUP BY f;
-- Only a formula of the own organization, as the view is read with the caller's rights.
INSERT INTO cleaning.clients (org_id, name, email) SELECT o.id, '=HYPERLINK("' || o.name || '")', 'formula@example.org' FROM ringfence_data.orgs AS o WHERE o.name IN ('Alder Clean', 'Birch Services');
\ir include/act_as.sql
SELECT pg_temp.act_as('owner');
SELECT is(cleaning_v1.csv(c), E'name,email\r\n"\'=HYPERLINK(""Alder Clean"")",formula@example.org\r\n', 'a member has the own organization''s rows as CSV')
FROM (SELECT v.name, v.email FROM cleaning_v1.clients AS v WHERE v.email = 'formula@example.org') AS c;
SELECT is(cleaning_v1.ndjson(c), E'{"name":"=HYPERLINK(\\"Alder Clean\\")"}\n', 'and as NDJSON, where it is no formula')
FROM (SELECT v.name FROM cleaning_v1.clients AS v WHERE v.email = 'formula@example.org') AS c;
RESET ROLE;
SET LOCAL ROLE ringfence_anon;
SELECT throws_ok('SELECT cleaning_v1.csv(1)', '42501', NULL, 'nobody has nothing');
RESET ROLE;

UPDATE ringfence_data.orgs SET settings = settings || '{"record_exports": true}' WHERE name = 'Alder Clean';
SELECT pg_temp.act_as('owner');
SELECT throws_ok(format('SELECT %s(c) FROM cleaning_v1.clients AS c', f), 'PT403', 'exports of this organization go on record', f || ' refuses where exports go on record')
FROM unnest(ARRAY['cleaning_v1.csv', 'cleaning_v1.ndjson', 'ringfence_v1.csv', 'ringfence_v1.ndjson', 'merchant_v1.csv', 'merchant_v1.ndjson']) AS f;
SELECT throws_ok('SELECT cleaning_v1.csv(c) FROM cleaning_v1.clients AS c WHERE false', 'PT403', 'exports of this organization go on record', 'also without rows');
RESET ROLE;
UPDATE ringfence_data.orgs SET settings = settings || '{"record_exports": false}' WHERE name = 'Alder Clean';
UPDATE ringfence_data.orgs SET settings = settings || '{"record_exports": true}' WHERE name = 'Birch Services';
SELECT pg_temp.act_as('owner');
SELECT isnt((SELECT cleaning_v1.csv(c) FROM cleaning_v1.clients AS c), '', 'not for another organization''s setting');
RESET ROLE;

-- A schema of somebody's own: the database's owner has it served so.
CREATE ROLE regress_csv_owner;
SELECT format('ALTER DATABASE %I OWNER TO regress_csv_owner', current_database()) \gexec
SET ROLE regress_csv_owner;
CREATE SCHEMA regress_v1;
SELECT ringfence.serve_formats('regress_v1') \g /dev/null
GRANT USAGE ON SCHEMA regress_v1 TO ringfence_member;
SELECT is((SELECT array_agg(p.proname || ' ' || p.proacl::text ORDER BY p.proname) FROM pg_proc AS p WHERE p.pronamespace = 'regress_v1'::regnamespace AND has_function_privilege('ringfence_member', p.oid, 'EXECUTE')
	AND has_function_privilege('ringfence_operator', p.oid, 'EXECUTE') AND NOT has_function_privilege('ringfence_anon', p.oid, 'EXECUTE')),
	(SELECT array_agg(n || ' {regress_csv_owner=X/regress_csv_owner,ringfence_member=X/regress_csv_owner,ringfence_operator=X/regress_csv_owner}') FROM unnest('{csv,ndjson}'::text[]) AS n), 'for members and operators');
SELECT throws_ok($$SELECT ringfence.serve_formats('regress_v1')$$, '42723', 'function "csv" already exists with same argument types', 'once');
RESET ROLE;
SELECT pg_temp.act_as('owner');
SELECT is(regress_v1.csv(v) || regress_v1.ndjson(v), E'value\r\n\"\'=1\"\r\n{\"value\":\"=1\"}\n', 'an owner''s own schema has the aggregates too') FROM (VALUES ('=1')) AS v (value);
SELECT throws_ok($$SELECT ringfence.serve_formats('regress_v1')$$, '42501', 'permission denied for function serve_formats', 'a member has nothing served');
RESET ROLE;
\! rm -f "$CSV_FILE"

SELECT * FROM finish();
ROLLBACK;
