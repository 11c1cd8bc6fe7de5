-- What csv() writes is read back as it was, by csv_rows() and by COPY, with every
-- combination of options: random rows of quotes, line ends, delimiters, formulas,
-- emoji, text from right to left, NULL and ''; what can't be told apart is known.
BEGIN;
SELECT plan(14);

SELECT current_setting('data_directory') || '/csv_round_trip_' || pg_backend_pid() AS file \gset
\setenv CSV_FILE :file
SELECT set_config('test.file', :'file', false) AS file \gset

CREATE TABLE public.cells (n integer, a text, b varchar, c text);
SELECT setseed(0.41) AS seed \gset
INSERT INTO public.cells (n, a, b, c)
SELECT n,
	CASE WHEN random() < 0.85 THEN array_to_string(ARRAY(SELECT p[1 + floor(random() * cardinality(p))::int] FROM generate_series(1, (n * 7919) % 6)), '') END,
	CASE WHEN random() < 0.85 THEN p[1 + floor(random() * cardinality(p))::int] || repeat('y', n % 20) || p[1 + floor(random() * cardinality(p))::int] END,
	CASE WHEN random() < 0.85 THEN p[1 + floor(random() * cardinality(p))::int] END
FROM generate_series(1, 150) AS n, (VALUES (ARRAY['', ' ', ',', ';', '|', '-', ':', '"', '""', E'\n', E'\r', E'\r\n', E'\t', '=', '+', '@', '''', '''''', '\', '\.', '\N', 'NULL', 'n/a', 'a', 'bc', '5', 'true',
	E'\u00A0', E'\uFEFF', E'\uFF1D', E'\u05D0\u05D1', E'\u0627\u0644', E'\u202E', E'\U0001F600', E'\U0001F469\u200D\U0001F680', E'\u0301', E'\x01', E'\x1F', E'\x7F'])) AS v (p);
-- And by hand.
INSERT INTO public.cells (n, a, b, c) VALUES
	(151, NULL, '', NULL), (152, '', NULL, ''), (153, '"', '""', '"""'), (154, '''', '''=', '''''='), (155, E'\r', E'\n', E'\r\n'), (156, '\.', '\N', 'n/a'), (157, NULL, NULL, NULL),
	(158, '', '', ''), (159, ' ', '  =', E'\t'), (160, E'\uFEFF', E'\uFEFF=', E'\uFEFF"');

CREATE TABLE public.options AS
SELECT row_number() OVER () AS n, ringfence.csv_options(d.delimiter, b.bom, t.null_text, q.quote, e.newline, h.header, g.guard) AS o
FROM unnest(ARRAY[',', ';', E'\t', ' ', '-', E'\x1F']) AS d (delimiter), unnest(ARRAY[false, true]) AS b (bom), unnest(ARRAY['', '\N', '5']) AS t (null_text),
	unnest(ARRAY['minimal', 'text', 'all']) AS q (quote), unnest(ARRAY[E'\r\n', E'\n']) AS e (newline), unnest(ARRAY[true, false]) AS h (header), unnest(ARRAY[true, false]) AS g (guard);
SELECT is(count(*), 6 * 2 * 3 * 3 * 2 * 2 * 2::bigint, 'every combination of options') FROM public.options;

CREATE FUNCTION pg_temp.written(o ringfence.csv_options) RETURNS text LANGUAGE sql
RETURN (SELECT ringfence.csv(t, o) FROM (SELECT c.n, c.a, c.b, c.c FROM public.cells AS c ORDER BY c.n) AS t);
-- The cell as it was, of one that was read.
CREATE FUNCTION pg_temp.plain(cell text, o ringfence.csv_options) RETURNS text LANGUAGE sql
RETURN CASE WHEN (o).guard THEN ringfence.csv_unguard(cell) ELSE cell END;

-- The reader knows no text for NULL but the empty one.
CREATE FUNCTION pg_temp.astray_in_rows(o ringfence.csv_options) RETURNS bigint LANGUAGE sql AS $$
	WITH r AS (
		SELECT row_number() OVER () AS place, cells FROM ringfence.csv_rows(pg_temp.written(o), (o).delimiter)
	), was AS (
		SELECT c.n + (o).header::int AS place, ARRAY[c.n::text, c.a, c.b, c.c] AS cells FROM public.cells AS c
		UNION ALL
		SELECT 1, ARRAY['n', 'a', 'b', 'c'] WHERE (o).header
	)
	SELECT count(*)
	FROM was
	FULL JOIN r ON r.place = was.place
	WHERE ARRAY[r.cells[1], pg_temp.plain(r.cells[2], o), pg_temp.plain(r.cells[3], o), pg_temp.plain(r.cells[4], o)] IS DISTINCT FROM was.cells
$$;
SELECT is_empty($$SELECT n, o FROM public.options WHERE (o).null_text = '' AND pg_temp.astray_in_rows(o) > 0$$, 'csv_rows() reads every cell as it was');
SELECT is((SELECT count(*) FROM public.options WHERE (o).null_text = ''), 6 * 2 * 3 * 2 * 2 * 2::bigint, 'of so many files');

CREATE TABLE public.read (LIKE public.cells);
CREATE FUNCTION pg_temp.astray_in_copy(o ringfence.csv_options) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	object CONSTANT oid := lo_from_bytea(0, convert_to(pg_temp.written(o), 'UTF8'));
BEGIN
	TRUNCATE public.read;
	PERFORM lo_export(object, current_setting('test.file')), lo_unlink(object);
	EXECUTE format('COPY public.read FROM %L (FORMAT csv, HEADER %s, DELIMITER %L, NULL %L, ENCODING %L)', current_setting('test.file'), o.header::text, o.delimiter, o.null_text, 'UTF8');
	RETURN (SELECT count(*) FROM (
		(TABLE public.cells EXCEPT ALL SELECT r.n, pg_temp.plain(r.a, o), pg_temp.plain(r.b, o), pg_temp.plain(r.c, o) FROM public.read AS r)
		UNION ALL (SELECT r.n, pg_temp.plain(r.a, o), pg_temp.plain(r.b, o), pg_temp.plain(r.c, o) FROM public.read AS r EXCEPT ALL TABLE public.cells)) AS d);
END
$$;
-- COPY takes a byte order mark for a part of the first line, which only a header may be.
SELECT is_empty($$SELECT n, o FROM public.options WHERE ((o).header OR NOT (o).bom) AND (n % 2 = 0 OR (o).delimiter = ',') AND pg_temp.astray_in_copy(o) > 0$$, 'COPY reads the rows as they were');
UPDATE public.read SET c = c || '.' WHERE n = 153;
SELECT is((SELECT count(*) FROM (TABLE public.cells EXCEPT ALL TABLE public.read) AS d) > 0, true, 'a cell that is another one is noticed');

-- Alone in its row.
SELECT is((SELECT array_agg(r.cells[1] ORDER BY r.line) FROM ringfence.csv_rows((SELECT ringfence.csv(t) FROM unnest(ARRAY['', NULL, 'x', '\.', ' ']) AS v, LATERAL (SELECT v AS a) AS t)) AS r),
	ARRAY['a', '', 'x', '\.', ' '], 'a NULL alone in its row is a line without a byte, which is no record');
SELECT is((SELECT array_agg(r.cells ORDER BY r.line) FROM ringfence.csv_rows((SELECT ringfence.csv(t, ringfence.csv_options(quote => 'all', header => false)) FROM unnest(ARRAY['', NULL, 'x']) AS v, LATERAL (SELECT v AS a) AS t)) AS r),
	ARRAY[ARRAY[''], ARRAY['x']], 'whatever is quoted');

-- Long cells, of the kinds that are written in words of bytes, and doubled.
SELECT is((SELECT array_agg(md5(r.cells[2]) ORDER BY r.line) = array_agg(md5(v.cell) ORDER BY v.n) AND count(*) = 6
	FROM (VALUES (1, repeat('x', 1000000)), (2, repeat('"', 1000000)), (3, repeat(E'\r\n', 500000)), (4, '=' || repeat(',"', 500000)), (5, repeat(E'\U0001F600', 1000000)), (6, repeat(E'\u05D0"', 500000))) AS v (n, cell)
	INNER JOIN ringfence.csv_rows((SELECT ringfence.csv(t, ringfence.csv_options(guard => false)) FROM (VALUES (1, repeat('x', 1000000)), (2, repeat('"', 1000000)), (3, repeat(E'\r\n', 500000)),
		(4, '=' || repeat(',"', 500000)), (5, repeat(E'\U0001F600', 1000000)), (6, repeat(E'\u05D0"', 500000))) AS t (n, cell))) AS r ON r.cells[1] = v.n::text), true, 'cells of a million characters come back');
SELECT is(ringfence.csv_unguard(ringfence.csv_guard(v.cell)) = v.cell AND ringfence.csv_guard(v.cell) = '''' || v.cell, true, 'and are guarded, behind ' || what)
FROM (VALUES (repeat(' ', 1000000) || '=1', 'blanks'), (repeat('''', 1000000) || '=1', 'apostrophes'), (repeat(E'\u2003', 300000) || '@', 'blanks that are no ASCII')) AS v (cell, what);

-- No text has a NUL, and what stands for one stays as it is.
SELECT throws_ok($$SELECT ringfence.csv_rows(convert_from('\x612c0062', 'UTF8'))$$, '22021', 'invalid byte sequence for encoding "UTF8": 0x00', 'there is no NUL in a text');
SELECT is((SELECT ringfence.csv(t) FROM (SELECT '{"a":"\u0000"}'::json AS j, '\x00ff00'::bytea AS b, '\0' AS p, E'\u2400' AS s) AS t), E'j,b,p,s\r\n"{""a"":""\\u0000""}",\\x00ff00,\\0,\u2400\r\n',
	'as JSON and bytea write it, it is not one');
SELECT is((SELECT ringfence.ndjson(t) FROM (SELECT '{"a":"\u0000"}'::json AS j, E'\x01\x1F"\\' AS p) AS t), E'{"j":{"a":"\\u0000"},"p":"\\u0001\\u001f\\"\\\\"}\n', 'nor in NDJSON');

\! rm -f "$CSV_FILE"
SELECT * FROM finish();
ROLLBACK;
