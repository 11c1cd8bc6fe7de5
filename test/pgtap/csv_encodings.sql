-- In databases of other encodings: formulas are told by the characters that the
-- encoding has, rows come back as they were, and exports are UTF-8; a client may have
-- another encoding still.
SELECT plan(33);
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.name_of(encoding text) RETURNS text LANGUAGE sql RETURN 'csv_encoding_' || lower(encoding);
CREATE TABLE public.encodings (encoding text);
INSERT INTO public.encodings VALUES ('LATIN1'), ('EUC_JP'), ('EUC_TW'), ('SQL_ASCII');
SELECT format('DROP DATABASE IF EXISTS %I', pg_temp.name_of(encoding)) FROM public.encodings \gexec
SELECT format('CREATE DATABASE %I ENCODING %L TEMPLATE template0 LC_COLLATE ''C'' LC_CTYPE ''C''', pg_temp.name_of(encoding), encoding) FROM public.encodings \gexec
SELECT dblink_connect(encoding, 'dbname=' || pg_temp.name_of(encoding)), dblink_exec(encoding, 'SET client_min_messages = warning'),
	dblink_exec(encoding, 'CREATE EXTENSION ringfence') FROM public.encodings \g /dev/null
-- What a query answers in a database of an encoding: an error's code and message.
CREATE FUNCTION public.answer(encoding text, query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT string_agg(r.line, E'\n') FROM dblink(encoding, query) AS r (line text));
EXCEPTION WHEN OTHERS THEN
	RETURN concat_ws(' ', SQLSTATE, SQLERRM);
END
$$;

-- Bytes in that encoding; a formula by hand.
CREATE TABLE public.bytes (encoding text, cell bytea, formula boolean, what text);
INSERT INTO public.bytes VALUES
	('LATIN1', '\xa03d31', true, 'a no-break space and ='), ('LATIN1', '\xad3d31', true, 'a soft hyphen and ='), ('LATIN1', '\x8540', true, 'a next line and @'),
	('LATIN1', '\xe93d31', false, 'a letter and ='), ('LATIN1', '\x27e93d', false, 'an apostrophe, a letter and ='),
	('EUC_JP', '\xa1e131', true, 'a full-width ='), ('EUC_JP', '\xa1dc31', true, 'a full-width +'), ('EUC_JP', '\xa1dd31', true, 'a full-width -'), ('EUC_JP', '\xa1f731', true, 'a full-width @'),
	('EUC_JP', '\xa1a13d31', true, 'an ideographic space and ='), ('EUC_JP', '\x27a1a1a1e131', true, 'an apostrophe, an ideographic space and a full-width ='),
	('EUC_JP', '\xa1e231', false, 'not equal'), ('EUC_JP', '\xa4a2a1e131', false, 'a letter and a full-width ='), ('EUC_JP', '\x8fb0a13d', false, 'a letter of three bytes and ='),
	('EUC_TW', '\xa2b831', true, 'a full-width ='), ('EUC_TW', '\x8ea1a2b831', true, 'the same, with its plane'), ('EUC_TW', '\x8ea1a1a13d31', true, 'an ideographic space, with its plane, and ='),
	('EUC_TW', '\xc4a13d', false, 'a letter and ='), ('EUC_TW', '\x8ea1c4a13d', false, 'the same, with its plane'), ('EUC_TW', '\x8ea2a2b831', false, 'a letter of another plane'),
	('SQL_ASCII', '\xefbc9d31', true, 'a full-width = in UTF-8'), ('SQL_ASCII', '\xc2a03d31', true, 'a no-break space in UTF-8 and ='), ('SQL_ASCII', '\xe93d31', false, 'a byte of another encoding and =');
SELECT is(public.answer(encoding, format($$SELECT (ringfence.csv_guard(c) <> c)::text || (ringfence.csv_unguard(ringfence.csv_guard(c)) = c)::text FROM convert_from(%L, %L) AS c$$, cell, encoding)),
	formula::text || 'true', format('%s: %s is %s formula', encoding, what, CASE WHEN formula THEN 'a' ELSE 'no' END))
FROM public.bytes ORDER BY encoding, cell;

SELECT is(public.answer(encoding, format($$
	SELECT count(*)::text || count(*) FILTER (WHERE ringfence.csv_unguard(r.cells[1]) = c.cell AND r.cells[2] IS NULL AND r.cells[3] = '' AND ringfence.csv_unguard(r.cells[4]) = c.quoted)::text
	FROM (SELECT row_number() OVER () AS n, cells FROM ringfence.csv_rows((
			SELECT ringfence.csv(t, ringfence.csv_options(header => false, quote => 'text') ORDER BY t.n)
			FROM (SELECT n, convert_from(b, %1$L) AS cell, NULL::text AS none, ''::text AS empty, convert_from(b, %1$L) || E'",\r\n' || convert_from(b, %1$L) AS quoted
				FROM unnest(%2$L::bytea[]) WITH ORDINALITY AS u (b, n)) AS s, LATERAL (SELECT s.cell, s.none, s.empty, s.quoted, s.n) AS t))) AS r
	INNER JOIN (SELECT n, convert_from(b, %1$L) AS cell, convert_from(b, %1$L) || E'",\r\n' || convert_from(b, %1$L) AS quoted FROM unnest(%2$L::bytea[]) WITH ORDINALITY AS u (b, n)) AS c USING (n)
	$$, encoding, array_agg(cell))), count(*)::text || count(*)::text, encoding || ': what csv() writes is read back as it was')
FROM public.bytes GROUP BY encoding ORDER BY encoding;
SELECT is(public.answer(encoding, 'SELECT ringfence.csv_options(bom => true)::text'), '22023 a byte order mark needs a database in UTF8', encoding || ': no byte order mark')
FROM public.encodings WHERE encoding IN ('EUC_JP', 'SQL_ASCII') ORDER BY encoding;

-- Exports.
SELECT dblink_exec(encoding, $$
	DO 'BEGIN PERFORM ringfence.install(''core''); END';
	INSERT INTO ringfence_data.orgs (id, name) VALUES ('aaaaaaaa-0000-7000-8000-00000000000a', 'Alder');
	INSERT INTO ringfence_data.users (id, email, name) VALUES ('aaaaaaaa-0000-7000-8000-0000000000a1', 'a@a.test', 'A');
	INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES ('aaaaaaaa-0000-7000-8000-00000000000a', 'aaaaaaaa-0000-7000-8000-0000000000a1', '{owner}');
	CREATE SCHEMA shop;
	GRANT USAGE ON SCHEMA shop TO ringfence_member;
	CREATE TABLE shop.sales (org_id uuid NOT NULL DEFAULT ringfence.org_id(), id integer NOT NULL, what text, PRIMARY KEY (org_id, id));
	DO 'BEGIN PERFORM ringfence.protect(''shop.sales'', ''{"owner": "all"}''); PERFORM ringfence.declare_export(''sales'', ''shop.sales'', ''{id}'', ''{owner}''); END';
$$) FROM public.encodings WHERE encoding IN ('LATIN1', 'EUC_JP') \g /dev/null
SELECT dblink_exec(encoding, format('INSERT INTO shop.sales (org_id, id, what) SELECT ''aaaaaaaa-0000-7000-8000-00000000000a'', n, repeat(convert_from(%L, %L), 40) FROM generate_series(1, 50) AS n', cell, encoding))
FROM (VALUES ('LATIN1', '\xe9'::bytea), ('EUC_JP', '\xa1e1')) AS v (encoding, cell) \g /dev/null
CREATE FUNCTION public.exported(encoding text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dblink_exec(encoding, $x$
		BEGIN;
		DO 'BEGIN PERFORM ringfence.set_context(''aaaaaaaa-0000-7000-8000-00000000000a'', ''aaaaaaaa-0000-7000-8000-0000000000a1'', ''{owner}'', ''{}''); END';
		SET LOCAL ROLE ringfence_member;
		DO 'BEGIN PERFORM ringfence_v1.start_export(''sales''); PERFORM ringfence.export_now(''sales'', NULL, NULL); END';
		COMMIT;
		SET ringfence.export_part_bytes = 1000;
		SET ROLE ringfence_jobs;
	$x$);
	PERFORM dblink_exec(encoding, 'DO ''BEGIN WHILE ringfence.export_step() > 0 LOOP COMMIT; END LOOP; END''');
	PERFORM dblink_exec(encoding, 'RESET ROLE');
	-- Parts that end within no character, all in UTF-8, and digests that are theirs.
	RETURN public.answer(encoding, $x$
		SELECT concat_ws(' ', e.state, e.bytes = (SELECT sum(octet_length(p.data)) FROM ringfence_data.export_parts AS p WHERE p.export_id = e.id),
			e.sha256 = sha256(d.whole), encode(substr(d.whole, 1, 60), 'hex'), (SELECT count(*) > 1 FROM ringfence_data.export_parts AS p WHERE p.export_id = e.id),
			(SELECT n.sha256 = e.sha256 AND n.bytes = e.bytes FROM ringfence_data.exports AS n WHERE n.id <> e.id))
		FROM ringfence_data.exports AS e, LATERAL (SELECT string_agg(p.data, '' ORDER BY p.part) AS whole FROM ringfence_data.export_parts AS p WHERE p.export_id = e.id) AS d
		WHERE d.whole IS NOT NULL$x$);
END
$$;
SELECT is(public.exported('LATIN1'), 'done t t ' || encode(substr(convert_to(E'org_id,id,what\r\naaaaaaaa-0000-7000-8000-00000000000a,1,' || repeat(E'\u00E9', 40), 'UTF8'), 1, 60), 'hex') || ' t t',
	'LATIN1: exports are UTF-8, in parts and at once');
SELECT is(public.exported('EUC_JP'), 'done t t ' || encode(substr(convert_to(E'org_id,id,what\r\naaaaaaaa-0000-7000-8000-00000000000a,1,"''' || repeat(E'\uFF1D', 40), 'UTF8'), 1, 60), 'hex') || ' t t',
	'EUC_JP: also of characters that are longer there, and guarded');

-- A client in Shift JIS, where a character's second byte may be a backslash or a bar.
SELECT current_setting('data_directory') || '/csv_encodings_' || pg_backend_pid() AS file \gset
\setenv CSV_FILE :file
CREATE TABLE public.japanese (n integer, t text);
INSERT INTO public.japanese VALUES (1, E'\u8868|"\u30DD'), (2, E'\uFF1D1'), (3, E'\u30BD'), (4, '\'), (5, NULL), (6, E'\u3000=1');
CREATE TABLE public.read (LIKE public.japanese);
SELECT lo_from_bytea(0, convert_to((SELECT ringfence.csv(j, ringfence.csv_options(delimiter => '|')) FROM public.japanese AS j), 'SJIS')) AS object \gset
SELECT lo_export(:object, :'file'), lo_unlink(:object) \g /dev/null
COPY public.read FROM :'file' (FORMAT csv, HEADER, DELIMITER '|', ENCODING 'SJIS');
\! rm -f "$CSV_FILE"
SELECT results_eq('SELECT n, ringfence.csv_unguard(t) FROM public.read ORDER BY n', 'SELECT n, t FROM public.japanese ORDER BY n', 'what a client in Shift JIS has comes back');
SELECT is(array_agg(r.n ORDER BY r.n), '{2,6}', 'guarded where it has to be') FROM public.read AS r INNER JOIN public.japanese AS j USING (n) WHERE r.t <> j.t;

SELECT dblink_disconnect(encoding) FROM public.encodings \g /dev/null
SELECT format('DROP DATABASE %I', pg_temp.name_of(encoding)) FROM public.encodings \gexec
SELECT * FROM finish();
