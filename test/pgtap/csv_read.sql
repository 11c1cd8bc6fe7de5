-- CSV text as rows: what RFC 4180 says is read, what it doesn't is refused with
-- its line, and what COPY writes comes back as it was.
SELECT plan(68);

-- Lines of the result as "line: cells", for texts that are short.
CREATE FUNCTION pg_temp.rows_of(csv text, delimiter text DEFAULT ',') RETURNS SETOF text
LANGUAGE sql
AS $$ SELECT r.line || ': ' || r.cells::text FROM ringfence.csv_rows(csv, delimiter) AS r $$;

-- SQLSTATE, message and detail of what a statement fails with.
CREATE FUNCTION pg_temp.failure_of(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE || ' ' || SQLERRM, nullif(detail, ''));
END
$$;

-- The cases of RFC 4180, section 2, one to seven.
SELECT results_eq($$SELECT pg_temp.rows_of(E'aaa,bbb,ccc\r\nzzz,yyy,xxx\r\n')$$, $$VALUES ('1: {aaa,bbb,ccc}'), ('2: {zzz,yyy,xxx}')$$,
	'each record is on a line of its own, ended by CRLF');
SELECT results_eq($$SELECT pg_temp.rows_of(E'aaa,bbb,ccc\r\nzzz,yyy,xxx')$$, $$VALUES ('1: {aaa,bbb,ccc}'), ('2: {zzz,yyy,xxx}')$$,
	'the last one may lack the line end');
SELECT results_eq($$SELECT pg_temp.rows_of('aaa, b b ,ccc')$$, $$VALUES ('1: {aaa," b b ",ccc}')$$, 'blanks are part of a cell');
SELECT results_eq($$SELECT pg_temp.rows_of(E'"aaa","bbb","ccc"\r\nzzz,yyy,xxx')$$,
	$$VALUES ('1: {aaa,bbb,ccc}'), ('2: {zzz,yyy,xxx}')$$, 'a cell may stand in quotes');
SELECT results_eq($$SELECT r.line, r.cells FROM ringfence.csv_rows(E'"aaa","b\r\nbb","ccc"\r\nzzz,yyy,xxx') AS r$$,
	$$VALUES (1, ARRAY['aaa', E'b\r\nbb', 'ccc']), (3, ARRAY['zzz', 'yyy', 'xxx'])$$, 'line ends, kept as they are,');
SELECT results_eq($$SELECT pg_temp.rows_of('"a,a","b"')$$, $$VALUES ('1: {"a,a",b}')$$, 'delimiters');
SELECT results_eq($$SELECT r.cells FROM ringfence.csv_rows('"aaa","b""bb",""""') AS r$$, $$VALUES (ARRAY['aaa', 'b"bb', '"'])$$,
	'and quotes, written twice, may be in it then');

-- What the RFC leaves open.
SELECT results_eq($$SELECT r.cells FROM ringfence.csv_rows('a,,"",') AS r$$, $$VALUES (ARRAY['a', NULL, '', NULL])$$,
	'an empty cell is NULL, one in quotes is empty text');
SELECT results_eq($$SELECT pg_temp.rows_of(E'a\nb\rc\r\nd')$$, $$VALUES ('1: {a}'), ('2: {b}'), ('3: {c}'), ('4: {d}')$$,
	'a line ends with LF or CR, too');
SELECT results_eq($$SELECT pg_temp.rows_of(E'\n\na\r\n\r\n\rb\n\n')$$, $$VALUES ('3: {a}'), ('6: {b}')$$, 'lines without a byte are no records');
SELECT results_eq($$SELECT pg_temp.rows_of(E' \n,')$$, $$VALUES ('1: {" "}'), ('2: {NULL,NULL}')$$, 'those with a blank or a delimiter are');
SELECT results_eq($$SELECT pg_temp.rows_of(E'"\n\r\n\r"\n""\na')$$, $$VALUES (E'1: {"\n\r\n\r"}'), ('5: {""}'), ('6: {a}')$$,
	'lines within quotes count');
SELECT results_eq($$SELECT pg_temp.rows_of(U&'\FEFF"a",b')$$, $$VALUES ('1: {a,b}')$$, 'a byte order mark in front is passed over');
SELECT results_eq($$SELECT r.cells FROM ringfence.csv_rows(U&'\FEFF\FEFFa' || E'\n' || U&'\FEFFb') AS r$$,
	$$VALUES (ARRAY[U&'\FEFFa']), (ARRAY[U&'\FEFFb'])$$, 'one, and none elsewhere');
SELECT is_empty($$SELECT pg_temp.rows_of('')$$, 'nothing has no records');
SELECT is_empty($$SELECT pg_temp.rows_of(U&'\FEFF')$$, 'nor has a byte order mark');
SELECT is_empty($$SELECT pg_temp.rows_of(E'\r\n\n\r')$$, 'nor have line ends');
SELECT results_eq($$SELECT pg_temp.rows_of('""')$$, $$VALUES ('1: {""}')$$, 'two quotes are a record');
SELECT results_eq($$SELECT pg_temp.rows_of(E'a,b;c', ';')$$, $$VALUES ('1: {"a,b",c}')$$, 'cells may be delimited by a semicolon');
SELECT results_eq($$SELECT r.cells FROM ringfence.csv_rows(E'a,b\t"b\tc"\td;', E'\t') AS r$$, $$VALUES (ARRAY['a,b', E'b\tc', 'd;'])$$, 'or a tab');
SELECT results_eq($$SELECT r.cells FROM ringfence.csv_rows(E'\x01\x1F\x7F,\t') AS r$$, $$VALUES (ARRAY[E'\x01\x1F\x7F', E'\t'])$$,
	'control characters are text like others');
SELECT results_eq($$SELECT r.cells FROM ringfence.csv_rows(U&'\+01F600\200D\+01F469,"\0627\0644\0633\0644\0627\0645""",\202Eabc') AS r$$,
	$$VALUES (ARRAY[U&'\+01F600\200D\+01F469', U&'\0627\0644\0633\0644\0627\0645"', U&'\202Eabc'])$$, 'emoji and right-to-left text are kept');
SELECT is_empty($$SELECT ringfence.csv_rows(NULL)$$, 'NULL has no records');
SELECT is_empty($$SELECT ringfence.csv_rows('a', NULL)$$, 'whatever the text is');

-- What is no CSV.
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows(E'a,b\nc,d"d\n')$$),
	'22P04 malformed CSV on line 2 | Cell 2 of the record that begins there has a quote in it and is not quoted.', 'a stray quote');
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows(E'a,b\nc, "d"\n')$$),
	'22P04 malformed CSV on line 2 | Cell 2 of the record that begins there has a quote in it and is not quoted.', 'a blank before a quote');
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows(E'"a\n",b\n"c\n\n" ,d')$$),
	'22P04 malformed CSV on line 3 | Cell 1 of the record that begins there goes on after its closing quote.', 'a blank after it');
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows(E'a\n\nb,c,"d\n\ne,f\n')$$),
	'22P04 malformed CSV on line 3 | Cell 3 of the record that begins there has no closing quote.', 'no closing quote');
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows('"')$$),
	'22P04 malformed CSV on line 1 | Cell 1 of the record that begins there has no closing quote.', 'one quote alone');
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows('"""')$$),
	'22P04 malformed CSV on line 1 | Cell 1 of the record that begins there has no closing quote.', 'three of them');
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows(U&'a\FEFF"b"')$$),
	'22P04 malformed CSV on line 1 | Cell 1 of the record that begins there has a quote in it and is not quoted.', 'a byte order mark elsewhere');
SELECT is((SELECT cardinality(r.cells) FROM ringfence.csv_rows(repeat(',', 1599)) AS r), 1600, 'a record has 1600 cells');
SELECT is(pg_temp.failure_of($$SELECT ringfence.csv_rows(E'a\n' || repeat(',', 1600))$$),
	'22P04 malformed CSV on line 2 | The record that begins there has cell 1601, which is more than are read.', 'and not one more');
SELECT is(pg_temp.failure_of(format('SELECT ringfence.csv_rows(''a'', %L)', d)),
	'22023 invalid delimiter of a CSV | It is one character of ASCII that is no letter, digit, quote or line end.', 'no delimiter: ' || what)
FROM (VALUES ('', 'none'), ('"', 'a quote'), (E'\n', 'LF'), (E'\r', 'CR'), (',,', 'two'), ('x', 'a letter'), ('5', 'a digit'), ('é', 'beyond ASCII'))
	AS v (d, what);

-- Much of it.
SELECT results_eq($$SELECT length(r.cells[1]), length(r.cells[2]), md5(r.cells[1]), md5(r.cells[2])
	FROM ringfence.csv_rows(repeat('x', 1000000) || ',"' || repeat('y""', 500000) || '"') AS r$$,
	$$VALUES (1000000, 1000000, md5(repeat('x', 1000000)), md5(repeat('y"', 500000)))$$, 'cells of a million characters');
SELECT results_eq($$SELECT count(*), min(r.line), max(r.line), sum(r.cells[1]::integer), count(*) FILTER (WHERE r.cells[2] = E'\n')
	FROM ringfence.csv_rows((SELECT string_agg(i || E',"\n"', E'\r\n') FROM generate_series(1, 100000) AS i)) AS r$$,
	$$VALUES (100000::bigint, 1, 199999, 5000050000::bigint, 100000::bigint)$$, 'a hundred thousand records');

-- Where words of eight bytes begin and end makes no difference.
SELECT is_empty($$
	SELECT n, at, special
	FROM generate_series(0, 20) AS n
	CROSS JOIN generate_series(0, n) AS at
	CROSS JOIN (VALUES ('""', '"'), (',', ','), (E'\n', E'\n'), (E'\r', E'\r'), ('x', 'x')) AS s (written, special)
	WHERE (SELECT array_agg(r.cells) FROM ringfence.csv_rows(
			'"' || repeat('a', at) || written || repeat('b', n - at) || '",' || repeat('c', n) || ',"' || repeat('d', at) || '"') AS r)
		IS DISTINCT FROM ARRAY[ARRAY[repeat('a', at) || special || repeat('b', n - at), nullif(repeat('c', n), ''), repeat('d', at)]]
$$, 'every special character at every place');

-- By the header.
CREATE FUNCTION pg_temp.table_of(csv text, ragged boolean DEFAULT false) RETURNS SETOF text
LANGUAGE sql
AS $$ SELECT r.line || ': ' || r.cells::text FROM ringfence.csv_table(csv, '{name,email,phone}', '{name}', ragged => ragged) AS r $$;
SELECT results_eq($$SELECT pg_temp.table_of(E'name,email,phone\na,b,c\n,"",')$$, $$VALUES ('2: {a,b,c}'), ('3: {NULL,"",NULL}')$$,
	'a header names the columns');
SELECT results_eq($$SELECT pg_temp.table_of(U&'\FEFF" Phone ",NAME' || E'\r\n\r\n1,a\r\n')$$, $$VALUES ('3: {a,NULL,1}')$$,
	'some of them, in any order and case, with blanks around');
SELECT is_empty($$SELECT pg_temp.table_of('name')$$, 'it may be all there is');
SELECT is(pg_temp.failure_of($$SELECT pg_temp.table_of(E'\n')$$),
	'22P04 the CSV has no header | The first record names the columns: name (required), email, phone.', 'but has to be there');
SELECT is(pg_temp.failure_of($$SELECT pg_temp.table_of(E'email,phone\n')$$),
	'22P04 no column "name" in the header of the CSV | The first record names the columns: name (required), email, phone.',
	'with the columns that are required');
SELECT is(pg_temp.failure_of($$SELECT pg_temp.table_of(E'name,e-mail\n')$$),
	'22P04 unknown column "e-mail" in the header of the CSV | The first record names the columns: name (required), email, phone.',
	'with no other');
SELECT is(pg_temp.failure_of($$SELECT pg_temp.table_of(E'name,\n')$$),
	'22P04 unknown column "" in the header of the CSV | The first record names the columns: name (required), email, phone.',
	'with none that has no name');
SELECT is(pg_temp.failure_of(format('SELECT pg_temp.table_of(%L)', repeat('é', 40))), '22P04 unknown column "' || repeat('é', 32)
	|| '" in the header of the CSV | The first record names the columns: name (required), email, phone.', 'told by its beginning where it is long');
SELECT is(pg_temp.failure_of($$SELECT pg_temp.table_of(E'name,Name\n')$$),
	'22P04 column "Name" is twice in the header of the CSV | The first record names the columns: name (required), email, phone.',
	'and with none twice');
SELECT is(pg_temp.failure_of($$SELECT pg_temp.table_of(E'name,email\na,b\n\nc\n')$$),
	'22P04 malformed CSV on line 4 | The number of cells in the record that begins there is 1, and 2 in the header.', 'a record is not shorter');
SELECT results_eq($$SELECT pg_temp.table_of(E'name,email\na,b\n\nc\n', true)$$, $$VALUES ('2: {a,b,NULL}'), ('4: {c,NULL,NULL}')$$,
	'unless that is allowed');
SELECT is(pg_temp.failure_of($$SELECT pg_temp.table_of(E'name,email\na,b,\n', true)$$),
	'22P04 malformed CSV on line 2 | The number of cells in the record that begins there is 3, and 2 in the header.', 'nor ever longer');
SELECT is((SELECT count(*) FROM ringfence.csv_table(E'a\n1\n2', '{a}', max_rows => 2)), 2::bigint, 'as many records as wanted');
SELECT throws_ok($$SELECT ringfence.csv_table(E'a\n1\n2\n3', '{a}', max_rows => 2)$$, '54000', 'the CSV has more than 2 records', 'and no more');
SELECT throws_ok(format('SELECT ringfence.csv_table(''a'', %L, %L)', c.columns, c.required), '22023',
	'columns of CSV are not a list of different names, and those required among them', format('no columns: %s, %s', c.columns, c.required))
FROM (VALUES ('{}', '{}'), ('{a,A}', '{}'), ('{a,NULL}', '{}'), ('{a}', '{b}')) AS c (columns, required);

-- What COPY writes of random rows is read as they were, NULL and '' included.
SELECT setseed(0.17);
CREATE TABLE public.random_cells AS
SELECT n, CASE WHEN random() < 0.1 THEN NULL ELSE (
		SELECT string_agg((ARRAY['a', ',', '"', E'\n', E'\r', ' ', ';', '''', '\', '.', 'é', U&'\+01F600', E'\t', '='])[1 + floor(random() * 14)::integer], '')
		FROM generate_series(1, n % 12)) END AS a,
	CASE WHEN random() < 0.1 THEN NULL WHEN random() < 0.1 THEN '' ELSE repeat('x"', floor(random() * 20)::integer) END AS b, random() < 0.5 AS c
FROM generate_series(1, 2000) AS n;
UPDATE public.random_cells SET a = '' WHERE a IS NULL AND n % 2 = 0;
\set written `psql -X -q -d :'DBNAME' -c "COPY (SELECT * FROM public.random_cells ORDER BY n) TO STDOUT (FORMAT csv)"`
SELECT cmp_ok(length(:'written'), '>', 20000, 'COPY writes random rows');
SELECT set_config('test.written', :'written', false) IS NOT NULL AS kept \gset
SELECT results_eq($$SELECT r.cells FROM ringfence.csv_rows(current_setting('test.written')) AS r$$,
	$$SELECT ARRAY[n::text, a, b, left(c::text, 1)] FROM public.random_cells ORDER BY n$$, 'which come back as they were');
SELECT results_eq(format($$
	SELECT r.cells
	FROM ringfence.csv_table((SELECT ringfence.csv(x, ringfence.csv_options(guard => false, %s)) FROM (SELECT r.* FROM public.random_cells AS r ORDER BY r.n) AS x),
		'{n,a,b,c}', delimiter => %L) AS r
	$$, o.options, o.delimiter), $$SELECT ARRAY[n::text, a, b, left(c::text, 1)] FROM public.random_cells ORDER BY n$$, 'so do they when csv() writes them: ' || o.options)
FROM (VALUES ('bom => false', ','), ('bom => true, delimiter => '';''', ';'), ('delimiter => E''\t'', newline => E''\n''', E'\t'), ('quote => ''all''', ',')) AS o (options, delimiter);

SELECT * FROM finish();
