-- Exports: who may declare them, and the bytes that come out, at once or in parts:
-- the same, whole, in order, of the days that were asked for, or an error.
\ir include/exports.sql
SELECT plan(91);

CREATE FUNCTION public.asks_books(query text) RETURNS text
LANGUAGE sql RETURN public.asks('aaaaaaaa-0000-4000-8000-0000000000b1', '0aaaaaaa-0000-7000-8000-00000000000a', query);
-- Of so many bytes a part.
CREATE PROCEDURE public.parts_of(bytes integer) LANGUAGE sql
AS $$ SELECT job(format('RESET ROLE; SET ringfence.export_part_bytes = %s; SET ROLE ringfence_jobs', bytes)) $$;

-- Declarations.

CREATE VIEW shop.by_owner AS SELECT s.id, s.amount FROM shop.sales AS s;
CREATE VIEW shop.by_nobody WITH (security_invoker = false) AS SELECT s.id FROM shop.sales AS s;
CREATE VIEW shop.hidden WITH (security_invoker = true) AS SELECT s.id FROM shop.sales AS s;
CREATE VIEW shop.odd WITH (security_invoker = true) AS SELECT s.id, s.what, s.amount::float8 AS real, '{}'::jsonb AS doc, s.day::timestamp AS local FROM shop.sales AS s;
CREATE TABLE shop.plain (id integer PRIMARY KEY);
GRANT SELECT ON shop.by_owner, shop.by_nobody, shop.odd, shop.plain TO ringfence_member;
SELECT throws_ok(format('SELECT ringfence.declare_export(%s)', arguments), code, message, what) FROM (VALUES
	($$'x', 'shop.by_owner', '{id}', '{books}'$$, '42809', '"shop.by_owner" cannot be exported', 'a view that reads with its owner''s rights is not exported'),
	($$'x', 'shop.by_nobody', '{id}', '{books}'$$, '42809', '"shop.by_nobody" cannot be exported', 'nor one that says so'),
	($$'x', 'shop.plain', '{id}', '{books}'$$, '42809', '"shop.plain" cannot be exported', 'nor a table that is not protected'),
	($$'x', 'ringfence_data.apps', '{name}', '{books}'$$, '42809', '"ringfence_data.apps" cannot be exported', 'nor one of the system''s'),
	($$'x', 'pg_catalog.pg_class', '{relname}', '{books}'$$, '42809', '"pg_class" cannot be exported', 'nor a catalog'),
	($$'x', 'shop.hidden', '{id}', '{books}'$$, '42501', 'role "ringfence_member" may not read shop.hidden', 'nor what members may not read'),
	($$'x', 'shop.odd', '{real}', '{books}'$$, '42804', 'column "real" of relation shop.odd cannot be a key', 'a key has no fractions that are rounded'),
	($$'x', 'shop.odd', '{id,doc}', '{books}'$$, '42804', 'column "doc" of relation shop.odd cannot be a key', 'nor documents'),
	($$'x', 'shop.odd', '{id,none}', '{books}'$$, '42703', 'column "none" of relation shop.odd does not exist', 'a key''s columns exist'),
	($$'x', 'shop.odd', '{ctid}', '{books}'$$, '42703', 'column "ctid" of relation shop.odd does not exist', 'and are no system columns'),
	($$'x', 'shop.odd', '{id}', '{books}', 'none'$$, '42703', 'column "none" of relation shop.odd does not exist', 'so does that of a range'),
	($$'x', 'shop.odd', '{id}', '{books}', 'local'$$, '42804', 'column "local" of relation shop.odd is of type timestamp without time zone', 'which is a date or a moment'),
	($$'x', 'shop.odd', '{}', '{books}'$$, '22023', 'invalid key of an export', 'a key has a column'),
	($$'x', 'shop.odd', '{id,id}', '{books}'$$, '22023', 'invalid key of an export', 'each once'),
	($$'x', 'shop.odd', '{id,NULL}', '{books}'$$, '22023', 'invalid key of an export', 'and none is NULL'),
	($$'x', 'shop.odd', '{a,b,c,d,e,f,g,h,i}', '{books}'$$, '22023', 'invalid key of an export', 'eight at most'),
	($$'X', 'shop.odd', '{id}', '{books}'$$, '22023', 'invalid name of export "X", or of its file', 'a name is in lower case'),
	($$'x y', 'shop.odd', '{id}', '{books}'$$, '22023', 'invalid name of export "x y", or of its file', 'and one word'),
	($$'', 'shop.odd', '{id}', '{books}'$$, '22023', 'invalid name of export "", or of its file', 'of one letter at least'),
	($$repeat('x', 64), 'shop.odd', '{id}', '{books}'$$, '22023', format('invalid name of export "%s", or of its file', repeat('x', 64)), 'and 63 at most'),
	($$'x', 'shop.odd', '{id}', '{books}', filename => 'a/b'$$, '22023', 'invalid name of export "x", or of its file', 'a file''s name is no path'),
	($$'x', 'shop.odd', '{id}', '{}'$$, '22023', 'invalid roles of export "x"', 'somebody may have it'),
	($$'x', 'shop.odd', '{id}', '{"a b"}'$$, '22023', 'invalid roles of export "x"', 'with roles that there can be'),
	($$NULL, 'shop.odd', '{id}', '{books}'$$, '22004', 'name, relation, key and roles must be given', 'nothing is left open')) AS v (arguments, code, message, what);
CREATE ROLE regress_app;
CREATE ROLE regress_other;
SELECT format('GRANT CREATE ON DATABASE %I TO regress_app; ALTER DATABASE %1$I OWNER TO regress_app', current_database()) \gexec
CREATE VIEW shop.theirs WITH (security_invoker = true) AS SELECT s.id, s.what FROM shop.sales AS s;
CREATE VIEW shop.mine WITH (security_invoker = true) AS SELECT s.id, s.what FROM shop.sales AS s;
GRANT SELECT ON shop.theirs, shop.mine TO ringfence_member;
ALTER VIEW shop.theirs OWNER TO regress_other;
ALTER VIEW shop.mine OWNER TO regress_app;
GRANT USAGE ON SCHEMA shop TO regress_app;
SELECT ringfence.declare_export('theirs', 'shop.theirs', '{id}', '{books}') \g /dev/null
SET SESSION AUTHORIZATION regress_app;
SELECT throws_ok($$SELECT ringfence.declare_export('x', 'shop.theirs', '{id}', '{books}')$$, '42501', 'must be owner of relation shop.theirs', 'the database''s owner doesn''t declare what is another''s');
SELECT lives_ok($$SELECT ringfence.declare_export('mine', 'shop.mine', '{id}', '{books}')$$, 'but their own');
SELECT throws_ok($$SELECT ringfence.declare_export('theirs', 'shop.mine', '{id}', '{books}')$$, '42501', 'must be owner of relation shop.theirs', 'and takes no name over');
SELECT throws_ok($$SELECT ringfence.undeclare_export('theirs')$$, '42501', 'must be owner of the relation of export "theirs"', 'nor takes it back');
SELECT ok(ringfence.undeclare_export('mine'), 'but their own');
RESET SESSION AUTHORIZATION;
SELECT format('ALTER DATABASE %I OWNER TO postgres; REVOKE ALL ON DATABASE %1$I FROM regress_app', current_database()) \gexec
SELECT lives_ok($$SELECT ringfence.declare_export('theirs', 'shop.mine', '{what,id}', '{books,clerk}', filename => 'It_is-1', description => 'x')$$, 'it is declared again, as something else');
SELECT results_eq($$SELECT relation::text, key, roles, filename, description FROM ringfence_data.export_definitions WHERE name = 'theirs'$$,
	$$VALUES ('shop.mine', '{what,id}'::name[], '{books,clerk}'::text[], 'It_is-1' COLLATE "C", 'x')$$, 'and is that');
SELECT ok(ringfence.undeclare_export('theirs') AND NOT ringfence.undeclare_export('theirs'), 'it is taken back once');
DROP VIEW shop.theirs, shop.mine;
REVOKE ALL ON SCHEMA shop FROM regress_app;
DROP ROLE regress_app, regress_other;

-- At once.

SELECT E'id,day,what,amount,sold_at,client_id\r\n'
	'1,2026-03-01,sale 1,0.25,2026-03-01 02:00:00-08,\r\n'
	'2,2026-03-01,sale 2,0.50,2026-03-01 04:00:00-08,\r\n'
	'3,2026-03-01,sale 3,0.75,2026-03-01 06:00:00-08,aaaaaaaa-0000-7000-8000-0000000000c2\r\n'
	'4,2026-03-01,sale 4,1.00,2026-03-01 08:00:00-08,\r\n'
	'5,2026-03-01,sale 5,1.25,2026-03-01 10:00:00-08,\r\n'
	'6,2026-03-01,sale 6,1.50,2026-03-01 12:00:00-08,aaaaaaaa-0000-7000-8000-0000000000c2\r\n'
	'7,2026-03-01,"''=1+2",1.75,2026-03-01 14:00:00-08,\r\n'
	'8,2026-03-01,,2.00,2026-03-01 16:00:00-08,\r\n'
	'9,2026-03-01,sale 9,2.25,2026-03-01 18:00:00-08,aaaaaaaa-0000-7000-8000-0000000000c2\r\n' AS first_day \gset
SELECT is(asks_books($$SELECT ringfence.export_now('sales', NULL, '2026-03-01')$$), :'first_day', 'an export''s bytes, at once');
SELECT is(asks_books($$SELECT set_config('DateStyle', 'German', true) || set_config('TimeZone', 'Asia/Tokyo', true) || set_config('extra_float_digits', '0', true) || ringfence.export_now('sales', NULL, '2026-03-01')$$),
	'German, DMYAsia/Tokyo0' || :'first_day', 'whatever the session''s settings are');
SELECT asks_books($$SELECT ringfence.export_now('sales', '2026-03-01', '2026-03-31')$$) AS sales \gset
SELECT is(ARRAY[length(:'sales') - length(replace(:'sales', E'\r\n', '.')), position('secret' IN :'sales')], '{301,0}', 'a header and three hundred rows of A, none of B');

-- In parts, of one row each.

CALL parts_of(1);
SELECT r ->> 0 AS export, r AS answer FROM CAST(asks_books($$SELECT jsonb_build_array(e.id, e.state, e.percent, e.filename, e.time_zone,
	current_setting('response.status'), current_setting('response.headers')::jsonb) FROM ringfence_v1.start_export('sales', '2026-03-01', '2026-03-31') AS e$$) AS jsonb) AS r \gset
SELECT is(:'answer'::jsonb - 0, format('["queued", null, "sales-ledger-2026-03-01--2026-03-31.csv", "America/Vancouver", "202", [{"Location": "/rpc/export_manifest?id=%s"}]]', :'export')::jsonb,
	'start_export() is answered 202, and where it can be looked for');
SELECT format($$SELECT jsonb_build_array(e.state, e.expected_rows, e.rows, e.percent, e.parts, e.rows_per_second > 0, e.sha256, e.available_until IS NULL, e.attempts) FROM ringfence_v1.exports AS e WHERE e.id = %L$$, :'export') AS progress \gset
SELECT is(asks_books(format('SELECT ringfence_v1.export_part(%L, 1)', :'export')), 'PT409 the export is not done', 'there are no parts to be had yet');
SELECT steps(1) \g /dev/null
SELECT is(asks_books(:'progress')::jsonb - 5, '["running", null, 0, null, 0, null, true, 1]', 'a step takes it up');
SELECT steps(1) \g /dev/null
SELECT is(asks_books(:'progress')::jsonb - 5, '["running", 300, 0, 0.0, 0, null, true, 1]', 'one counts its rows');
SELECT steps(30) \g /dev/null
SELECT is(asks_books(:'progress')::jsonb, '["running", 300, 30, 10.0, 30, true, null, true, 0]', 'thirty write thirty of them: a tenth');
SELECT is(asks_books(format('SELECT ringfence_v1.export_part(%L, 1)', :'export')), 'PT409 the export is not done', 'which nobody has before it is done');
SELECT is(steps(), 270, 'and so on');
SELECT is(asks_books(:'progress')::jsonb - 6, '["done", 300, 300, 100, 300, true, false, 0]', 'it is done');
SELECT ok(whole(:'export') = :'sales', 'its parts one after the other are the bytes of the synchronous export');
SELECT is(asks_books(format('SELECT e.sha256 FROM ringfence_v1.exports AS e WHERE e.id = %L', :'export')), encode(sha256(convert_to(:'sales', 'UTF8')), 'hex'), 'which the record has the SHA-256 of');
SELECT is(asks_books(part(:'export', 1)), E'id,day,what,amount,sold_at,client_id\r\n1,2026-03-01,sale 1,0.25,2026-03-01 02:00:00-08,\r\n', 'the header is in the first part');
SELECT is(asks_books(part(:'export', 7)), E'7,2026-03-01,"''=1+2",1.75,2026-03-01 14:00:00-08,\r\n', 'and in no other; a row that is larger than a part is one');
SELECT is(replace(asks_books(format('SELECT octet_length(ringfence_v1.export_part(%L, 7)) || current_setting(''response.headers'')', :'export')), '  ', ' '),
	format('51[{"Content-Type": "text/csv; charset=utf-8"}, {"Content-Disposition": "attachment; filename=\"sales-ledger-2026-03-01--2026-03-31.007.csv\""}, {"Repr-Digest": "sha-256=:%s:"}]',
		encode(sha256(E'7,2026-03-01,"''=1+2",1.75,2026-03-01 14:00:00-08,\r\n'), 'base64')), 'each is a file, with its digest');
SELECT is(asks_books(format('SELECT ringfence_v1.export_part(%L, %s)', :'export', n)), 'PT404 part not found', 'there is no part ' || n) FROM unnest('{0,301,"NULL"}'::text[]) AS n;
SELECT asks_books(format('SELECT ringfence_v1.export_manifest(%L)', :'export')) AS manifest \gset
SELECT is(:'manifest'::jsonb - 'parts', jsonb_build_object('id', :'export', 'name', 'sales', 'format', 'csv', 'filename', 'sales-ledger-2026-03-01--2026-03-31.csv',
	'from', '2026-03-01', 'to', '2026-03-31', 'time_zone', 'America/Vancouver', 'consistent', false, 'as_of', NULL, 'state', 'done', 'last_error', NULL, 'rows', 300, 'bytes', octet_length(:'sales'),
	'sha256', encode(sha256(convert_to(:'sales', 'UTF8')), 'hex')), 'the manifest says what it is');
SELECT is(:'manifest'::jsonb -> 'parts' -> 6 #- '{as_of}', jsonb_build_object('part', 7, 'rows', 1, 'bytes', 51, 'sha256', encode(sha256(E'7,2026-03-01,"''=1+2",1.75,2026-03-01 14:00:00-08,\r\n'), 'hex')), 'and of which parts');
SELECT is(jsonb_array_length(:'manifest'::jsonb -> 'parts'), 300, 'all of them');

-- The header has 38 bytes, the first row 50: what fits exactly, fits.
CALL parts_of(88);
SELECT asks_books(starts($$'sales', '2026-03-01', '2026-03-01'$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is((SELECT array_agg(p.bytes ORDER BY p.part) FROM ringfence_data.export_parts AS p WHERE p.export_id = :'export'), '{88,50,86,50,50,86,51,44,86}', 'parts of 88 bytes at most');
CALL parts_of(98);
SELECT asks_books(starts($$'sales', '2026-03-01', '2026-03-01'$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is((SELECT array_agg(p.bytes ORDER BY p.part) FROM ringfence_data.export_parts AS p WHERE p.export_id = :'export'), '{88,50,86,50,50,86,95,86}', 'or of as many rows as there is room for');
SELECT is(whole(:'export'), :'first_day', 'without a gap');
CALL parts_of(5000);
SELECT asks_books(starts($$'sales', '2026-03-01', '2026-03-31', consistent => true$$)) AS export \gset
SELECT is(steps(), 3, 'all parts of one that is consistent are written in a step');
SELECT ok(whole(:'export') = :'sales', 'and are the same bytes');
SELECT cmp_ok((SELECT e.parts FROM ringfence_data.exports AS e WHERE e.id = :'export'), '=', (SELECT count(*)::integer FROM ringfence_data.export_parts AS p WHERE p.export_id = :'export' AND p.bytes <= 5000), 'none beyond its size');

-- Other forms.

SELECT asks_books($$SELECT ringfence.export_now('sales', '2026-03-01', '2026-03-01', 'ndjson')$$) AS lines \gset
SELECT is(split_part(:'lines', E'\n', 7), '{"id":7,"day":"2026-03-01","what":"=1+2","amount":1.75,"sold_at":"2026-03-01T14:00:00-08:00","client_id":null}', 'a row as JSON');
CALL parts_of(300);
SELECT asks_books(starts($$'sales', '2026-03-01', '2026-03-01', 'ndjson'$$)) AS export, asks_books(starts($$'sales', '2030-01-01', NULL, 'ndjson'$$)) AS none,
	asks_books(starts($$'sales', '2026-03-01', '2026-03-01', 'csv', '{"delimiter": ";", "bom": true, "null_text": "none", "quote": "all", "newline": "\n", "guard": false}'$$)) AS styled,
	asks_books(starts($$'sales', '2026-03-01', '2026-03-01', 'csv', '{"bom": true, "header": false}'$$)) AS headless,
	asks_books(starts($$'sales', '2030-01-01'$$)) AS empty \gset
SELECT steps() \g /dev/null
SELECT is(whole(:'export'), :'lines', 'in parts, lines of JSON are the same');
SELECT is(asks_books(format('SELECT left(encode(ringfence_v1.export_part(%L, 1), ''escape''), 7) || left(current_setting(''response.headers''), 41)', :'export')), '{"id":1[{"Content-Type": "application/x-ndjson"}', 'and said to be that');
SELECT is(whole(:'styled'), asks_books($$SELECT ringfence.export_now('sales', '2026-03-01', '2026-03-01', 'csv', ringfence.csv_options(';', true, 'none', 'all', E'\n', true, false))$$), 'options make the same bytes');
SELECT matches(whole(:'styled'), U&'^\FEFF"id";"day";"what";"amount";"sold_at";"client_id"\000A"1";.*\000A"7";"2026-03-01";"=1\\+2";"1.75";"2026-03-01 14:00:00-08";none\000A', 'which they ask for');
SELECT is(whole(:'headless'), U&'\FEFF' || substr(:'first_day', 39), 'one without a header has a byte order mark still, once');
SELECT is(asks_books($$SELECT ringfence.export_now('sales', '2026-03-01', '2026-03-01', 'csv', ringfence.csv_options(bom => true, header => false))$$), whole(:'headless'), 'as it has at once');
SELECT is(ARRAY[whole(:'empty'), whole(:'none')], ARRAY[E'id,day,what,amount,sold_at,client_id\r\n', ''], 'no rows are a header, or nothing');
SELECT results_eq(format('SELECT e.state COLLATE "default", e.expected_rows, e.rows, e.parts FROM ringfence_data.exports AS e WHERE e.id IN (%L, %L)', :'empty', :'none'),
	$$VALUES ('done', 0::bigint, 0::bigint, 1), ('done', 0::bigint, 0::bigint, 1)$$, 'in one part');
-- A column may be called as the statement calls the table.
CREATE TABLE shop.short (id integer NOT NULL, t text, k text);
SELECT ringfence.protect('shop.short', '{"books": "all"}'), ringfence.declare_export('short', 'shop.short', '{id}', '{books}') \g /dev/null
INSERT INTO shop.short (org_id, id, t, k) VALUES (:'org_a', 1, 'x', 'y');
SELECT is(asks_books($$SELECT ringfence.export_now('short', NULL, NULL, 'ndjson')$$)::jsonb - 'org_id', '{"id": 1, "t": "x", "k": "y"}', 'a column t is not the row');

-- Days.

SELECT is(asks_books(format($$SELECT concat_ws(' ', length(e) - length(replace(e, E'\r\n', '.')) - 1, split_part(split_part(e, E'\r\n', 2), ',', 1)) FROM ringfence.export_now('sold', %L, %1$L) AS e$$, day)), answer, 'moments of ' || day || ' in Vancouver')
FROM (VALUES ('2026-03-07', '12 72'), ('2026-03-08', '12 84'), ('2026-03-09', '12 96'), ('2026-02-28', '0 ')) AS v (day, answer);
INSERT INTO shop.sales (org_id, id, day, sold_at, amount) VALUES (:'org_a', 901, '2026-11-02', '2026-11-01 06:59:59.999999+00', 1), (:'org_a', 902, '2026-11-02', '2026-11-01 07:00:00+00', 1),
	(:'org_a', 903, '2026-11-02', '2026-11-02 07:59:59.999999+00', 1), (:'org_a', 904, '2026-11-02', '2026-11-02 08:00:00+00', 1);
SELECT asks_books(starts($$'sold', '2026-11-01', '2026-11-01'$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is(regexp_replace(whole(:'export'), '^.*?\r\n', ''), E'902,2026-11-02,,1.00,2026-11-01 00:00:00-07,\r\n903,2026-11-02,,1.00,2026-11-01 23:59:59.999999-08,\r\n', 'a day of 25 hours, to the microsecond, in parts too');
-- In Havana it is one o'clock, then midnight again. Each moment is of one day.
UPDATE ringfence_data.orgs SET settings = '{"time_zone": "America/Havana"}' WHERE id = :'org_a';
UPDATE shop.sales SET sold_at = CASE id WHEN 901 THEN timestamptz '2026-11-01 03:59:59.999999+00' WHEN 902 THEN '2026-11-01 04:00:00+00' WHEN 903 THEN '2026-11-01 05:00:00+00' ELSE '2026-11-02 05:00:00+00' END WHERE id > 900;
SELECT is(asks_books(format($$SELECT regexp_replace(ringfence.export_now('sold', %L, %1$L, options => ringfence.csv_options(header => false)), '(\d+),[^\r]*,([^,]*),\r\n', '\1 \2;', 'g')$$, day)), answer, 'midnight twice: ' || day)
FROM (VALUES ('2026-10-31', '901 2026-10-31 23:59:59.999999-04;'), ('2026-11-01', '902 2026-11-01 00:00:00-04;903 2026-11-01 00:00:00-05;')) AS v (day, answer);
UPDATE ringfence_data.orgs SET settings = '{"time_zone": "America/Vancouver"}' WHERE id = :'org_a';
DELETE FROM shop.sales WHERE id > 900;
SELECT is(asks_books(format('SELECT ringfence.export_now(%s)', arguments)), answer, 'a range: ' || arguments) FROM (VALUES
	($$'sales', '2026-03-02', '2026-03-01'$$, '22023 invalid range of an export'),
	($$'sales', '-infinity', '2026-03-01'$$, '22023 invalid range of an export'),
	($$'sales', '0001-01-01 BC', '2026-03-01'$$, '22023 invalid range of an export'),
	($$'sales', NULL, '10000-01-01'$$, '22023 invalid range of an export'),
	($$'sales', '5874897-12-31', NULL$$, '22023 invalid range of an export'),
	($$'everything', '2026-03-01', NULL$$, '22023 the export has no range'),
	($$'none', NULL, NULL$$, 'PT404 export not found'),
	($$'sales', NULL, NULL, 'xml'$$, '22023 invalid format of an export')) AS v (arguments, answer);

-- As of when: while row 10 is read, somebody else changes one behind it, adds two and deletes one.

CREATE FUNCTION shop.meddle(id integer) RETURNS integer LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
BEGIN
	IF id = 10 THEN
		PERFORM public.dblink_exec(format('dbname=%s user=postgres', current_database()), $sql$
			UPDATE shop.sales SET what = 'late' WHERE org_id = '0aaaaaaa-0000-7000-8000-00000000000a' AND id = 20;
			DELETE FROM shop.sales WHERE org_id = '0aaaaaaa-0000-7000-8000-00000000000a' AND id = 15;
			INSERT INTO shop.sales (org_id, id, day, amount) VALUES ('0aaaaaaa-0000-7000-8000-00000000000a', -1, '2026-03-01', 1), ('0aaaaaaa-0000-7000-8000-00000000000a', 1025, '2026-03-01', 1)
			ON CONFLICT DO NOTHING $sql$);
	END IF;
	RETURN id;
END
$$;
GRANT EXECUTE ON FUNCTION shop.meddle(integer) TO ringfence_member;
CREATE VIEW shop.live WITH (security_invoker = true) AS SELECT shop.meddle(s.id) AS id, s.id AS key, s.what FROM shop.sales AS s WHERE s.id BETWEEN 9 AND 20 OR s.id NOT BETWEEN 1 AND 300;
GRANT SELECT ON shop.live TO ringfence_member;
SELECT ringfence.declare_export('live', 'shop.live', '{key}', '{books}') \g /dev/null
CREATE FUNCTION public.ids(export text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(concat_ws(' ', c.cells[1], nullif(c.cells[3], 'sale ' || c.cells[1])), ', ' ORDER BY c.line) FROM ringfence.csv_rows(whole(export)) AS c WHERE c.line > 1 $$;
CALL parts_of(1);
SELECT clock_timestamp() AS asked, asks_books(starts($$'live', consistent => true$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is(ids(:'export'), '9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20', 'one that is consistent is as of its beginning');
SELECT is((SELECT count(*) FROM shop.sales WHERE id IN (-1, 1025) OR what = 'late'), 3::bigint, 'though all of that has happened');
SELECT is((SELECT e.as_of > :'asked' AND e.as_of < e.finished_at AND m.manifest ->> 'as_of' = to_jsonb(e.as_of) #>> '{}' AND count(DISTINCT p.as_of) = 1 AND min(p.as_of) = e.as_of
	FROM ringfence_data.exports AS e INNER JOIN ringfence_data.export_parts AS p ON p.export_id = e.id, asks_books(format('SELECT ringfence_v1.export_manifest(%L)', e.id)) AS t (text), CAST(t.text AS jsonb) AS m (manifest)
	WHERE e.id = :'export' GROUP BY e.as_of, e.finished_at, m.manifest), true, 'which it says');
DELETE FROM shop.sales WHERE id IN (-1, 1025);
INSERT INTO shop.sales (org_id, id, day, what, amount) VALUES (:'org_a', 15, '2026-03-02', 'sale 15', 1);
UPDATE shop.sales SET what = 'sale 20' WHERE org_id = :'org_a' AND id = 20;
SELECT asks_books(starts($$'live'$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is(ids(:'export'), '9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20 late, 1025', 'another one''s parts are each as of its own: nothing twice, nothing behind it');

SELECT is((SELECT array_agg(p.as_of ORDER BY p.as_of) = array_agg(p.as_of ORDER BY p.part) AND count(DISTINCT p.as_of) = count(*) AND bool_and(p.as_of < p.made_at) FROM ringfence_data.export_parts AS p WHERE p.export_id = :'export'), true, 'which each says');
SELECT is((SELECT e.as_of FROM ringfence_data.exports AS e WHERE e.id = :'export'), NULL, 'and the whole doesn''t');

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
