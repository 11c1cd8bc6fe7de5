-- Exports of views whose code would be somebody else while it is read: the job, its
-- owner, another organization; that would write, or leave something behind for the
-- job. And names, values and options that are SQL, or lines of a header.
\ir include/exports.sql
SELECT plan(66);

CREATE FUNCTION public.asks_books(query text) RETURNS text
LANGUAGE sql RETURN public.asks('aaaaaaaa-0000-4000-8000-0000000000b1', '0aaaaaaa-0000-7000-8000-00000000000a', query);
CREATE FUNCTION public.begun(arguments text) RETURNS text LANGUAGE sql RETURN public.asks_books(public.starts(arguments));
CREATE PROCEDURE public.parts_of(bytes integer) LANGUAGE sql
AS $$ SELECT job(format('RESET ROLE; SET ringfence.export_part_bytes = %s; SET ROLE ringfence_jobs', bytes)) $$;

-- For each row the code runs a statement, and tells what came of it.

CREATE TABLE shop.attack (n integer, statement text, answer text, answer_at_once text);
CREATE TABLE shop.later (id integer);
GRANT SELECT ON shop.attack TO ringfence_member;
GRANT SELECT, INSERT ON shop.later TO ringfence_member;
CREATE FUNCTION shop.attack(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN coalesce(answer, 'done');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
-- It lets a statement pass that has no answer, or is refused.
CREATE DOMAIN shop.trapped AS text CONSTRAINT trapped_check CHECK (shop.attack(VALUE) NOT IN ('done', 'a mess'));
CREATE FUNCTION shop.unsecured() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('row_security', 'off', true);
	RETURN (SELECT count(*) FROM shop.sales);
END
$$;
-- In the job there are no claims; in a request they are refused.
CREATE FUNCTION shop.as_b() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM set_config('request.jwt.claims', '{"role": "ringfence_member", "sub": "bbbbbbbb-0000-4000-8000-00000000000b", "org_id": "0bbbbbbb-0000-7000-8000-00000000000b"}', true);
	EXCEPTION WHEN insufficient_privilege THEN
	END;
	RETURN (SELECT count(*) FROM shop.sales AS s WHERE s.what LIKE 'secret%');
END
$$;
CREATE FUNCTION shop.mess(fails boolean DEFAULT false) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
	PERFORM set_config(s.name, s.setting, s.is_local)
	FROM (VALUES ('DateStyle', 'German', false), ('TimeZone', 'Asia/Tokyo', true), ('search_path', 'shop', false), ('row_security', 'off', false), ('statement_timeout', '1h', false),
		('ringfence.export_part_bytes', '7', false), ('work_mem', '64kB', true), ('transaction_read_only', 'on', true), ('request.jwt.claims', '', false)) AS s (name, setting, is_local)
	WHERE s.name <> 'request.jwt.claims' OR current_setting('request.jwt.claims', true) IS NULL;
	IF fails THEN
		RAISE EXCEPTION 'a mess';
	END IF;
	RETURN 'a mess';
END
$$;
CREATE PROCEDURE shop.commits() LANGUAGE plpgsql AS $$
BEGIN
	COMMIT;
END
$$;
CREATE FUNCTION shop.escalate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'deferred as %', current_user;
END
$$;
CREATE CONSTRAINT TRIGGER escalate AFTER INSERT ON shop.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shop.escalate();
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA shop TO ringfence_member;
INSERT INTO shop.attack (n, statement, answer, answer_at_once)
SELECT row_number() OVER (), v.* FROM (VALUES
	('SELECT current_user', 'ringfence_member', NULL),
	('SELECT ringfence.context() - ''roles'' - ''party''', format('{"sub": "%s", "actor": "user", "org_id": "%s"}', :'user_books', :'org_a'), NULL),
	('SELECT count(*) || max(s.what) FROM shop.sales AS s WHERE s.what LIKE ''secret%'' OR s.id = 1', '1sale 1', NULL),
	('RESET ROLE', '42501 cannot set parameter "role" within security-definer function', '0A000 SET for the session cannot be used in a request'),
	('SET ROLE ringfence_jobs', '42501 cannot set parameter "role" within security-definer function', '0A000 SET for the session cannot be used in a request'),
	('SET LOCAL ROLE postgres', '42501 cannot set parameter "role" within security-definer function', NULL),
	('SELECT set_config(''role'', ''ringfence_owner'', true)', '42501 cannot set parameter "role" within security-definer function', NULL),
	('SET SESSION AUTHORIZATION DEFAULT', '42501 cannot set parameter "session_authorization" within security-definer function', '0A000 SET for the session cannot be used in a request'),
	(format('SELECT ringfence.set_context(%L)', :'org_b'), '42501 permission denied for function set_context', NULL),
	(format('SELECT ringfence.enter_org(%L, ''x'')', :'org_b'), '42501 permission denied for function enter_org', NULL),
	(format('SELECT ringfence.begin_org(%L)', :'org_b'), '42501 permission denied for function begin_org', NULL),
	('SELECT shop.as_b()', '0', NULL),
	('CALL shop.commits()', '2D000 invalid transaction termination', NULL),
	('COMMIT', '0A000 EXECUTE of transaction commands is not implemented', NULL),
	('CREATE TEMPORARY TABLE x ()', '42501 cannot create temporary table within security-restricted operation', NULL),
	('DECLARE c CURSOR WITH HOLD FOR SELECT 1', '42501 cannot create a cursor WITH HOLD within security-restricted operation', '0A000 a cursor WITH HOLD cannot be used in a request'),
	('INSERT INTO shop.later VALUES (1)', '42501 cannot fire deferred trigger within security-restricted operation', NULL),
	('UPDATE ringfence_data.exports SET state = ''done''', '42501 permission denied for table exports', NULL),
	('INSERT INTO ringfence_data.export_parts (part) VALUES (1)', '42501 permission denied for table export_parts', NULL),
	('DELETE FROM ringfence_data.export_parts', '42501 permission denied for table export_parts', NULL),
	(format('SELECT ringfence.store_export_part(%L, %L, ''x'', 1, NULL, true)', :'org_a', :'unknown'), '42501 permission denied for function store_export_part', NULL),
	(format('SELECT ringfence.export_write(%L, %L)', :'org_b', :'unknown'), '42501 permission denied for function export_write', NULL),
	(format('INSERT INTO shop.sales (org_id, id, day, amount) VALUES (%L, -1, ''2026-01-01'', 0)', :'org_b'), '42501 new row violates row-level security policy "org_isolation" for table "sales"', NULL),
	('SELECT shop.unsecured()', '42501 query would be affected by row-level security policy for table "sales"', NULL)) AS v (statement, answer, answer_at_once);
CREATE VIEW shop.trap WITH (security_invoker = true) AS SELECT a.n, shop.attack(a.statement) AS answer FROM shop.attack AS a;
CREATE VIEW shop.trap_domain WITH (security_invoker = true) AS SELECT a.n, a.statement::shop.trapped AS answer FROM shop.attack AS a;
GRANT SELECT ON shop.trap, shop.trap_domain TO ringfence_member;
SELECT ringfence.declare_export('trap', 'shop.trap', '{n}', '{books}'), ringfence.declare_export('trap_domain', 'shop.trap_domain', '{n}', '{books}') \g /dev/null
CALL parts_of(1);
SELECT begun('''trap''') AS parts, begun('''trap'', consistent => true') AS consistent, begun('''trap_domain''') AS domain \gset
SELECT steps() \g /dev/null
SELECT whole(:'parts') AS parts, whole(:'consistent') AS consistent, asks_books($$SELECT ringfence.export_now('trap', NULL, NULL)$$) AS at_once \gset
SELECT is(ARRAY[p.cells[2], c.cells[2], o.cells[2]], ARRAY[a.answer, a.answer, coalesce(a.answer_at_once, a.answer)], a.statement)
FROM shop.attack AS a
LEFT JOIN ringfence.csv_rows(:'parts') AS p ON p.line = a.n + 1
LEFT JOIN ringfence.csv_rows(:'consistent') AS c ON c.line = a.n + 1
LEFT JOIN ringfence.csv_rows(:'at_once') AS o ON o.line = a.n + 1
ORDER BY a.n;
SELECT is(state(:'domain'), 'done', 'nor does any get through a domain');

-- What is left for the job.

CREATE FUNCTION public.job_says(query text) RETURNS text LANGUAGE sql AS $$ SELECT r.line FROM dblink('job', query) AS r (line text) $$;
\set left 'SELECT concat_ws('' '', current_user, session_user, ringfence.context(), (SELECT count(*) FROM pg_cursors WHERE is_holdable), (SELECT md5(string_agg(s.name || s.setting, '','' ORDER BY s.name)) FROM pg_settings AS s))'
SELECT job_says(:'left') AS before \gset
SELECT is(split_part(:'before', ' ', 1), 'ringfence_jobs', 'the job is the job');
TRUNCATE shop.attack;
INSERT INTO shop.attack (n, statement) VALUES (1, 'SELECT shop.mess()'), (2, 'SELECT shop.mess()');
SELECT begun('''trap''') AS parts, begun('''trap'', consistent => true') AS consistent \gset
SELECT steps() \g /dev/null
SELECT is(ARRAY[whole(:'parts'), whole(:'consistent')], array_fill(E'n,answer\r\n1,a mess\r\n2,a mess\r\n'::text, '{2}'), 'settings are changed while rows are read');
SELECT is(job_says(:'left'), :'before', 'and are what they were behind them');
CREATE VIEW shop.fails WITH (security_invoker = true) AS SELECT a.n, shop.mess(true) FROM shop.attack AS a;
CREATE VIEW shop.fails_early WITH (security_invoker = true) AS SELECT a.n FROM shop.attack AS a WHERE shop.mess(true) = a.statement;
GRANT SELECT ON shop.fails, shop.fails_early TO ringfence_member;
SELECT ringfence.declare_export('fails', 'shop.fails', '{n}', '{books}'), ringfence.declare_export('fails_early', 'shop.fails_early', '{n}', '{books}') \g /dev/null
SELECT begun('''fails''') AS export, begun('''fails'', consistent => true') AS consistent, begun('''fails_early''') AS early, begun('''sales''') AS other \gset
SELECT job('BEGIN') \g /dev/null
SELECT job_says(:'left') AS before \gset
SELECT steps(8) \g /dev/null
SELECT is(job_says(:'left'), :'before', 'after an error too, in the same transaction');
SELECT job('COMMIT') \g /dev/null
SELECT is(ARRAY[error(:'export'), error(:'consistent'), error(:'early')], array_fill('queued P0001: a mess'::text, '{3}'), 'which is the export''s');
SELECT steps() \g /dev/null
SELECT is((SELECT e.rows FROM ringfence_data.exports AS e WHERE e.id = :'other'), 300::bigint, 'and no other''s');
SELECT is(sent('regress_web', format($$SELECT set_config('role', 'ringfence_member', true) || set_config('request.jwt.claims', '{"role": "ringfence_member", "sub": "%s", "org_id": "%s"}', true)$$, :'user_books', :'org_a'),
	$$SELECT concat_ws(' ', current_setting('DateStyle'), length(ringfence.export_now('sales', NULL, NULL)) > 0, current_user, current_setting('DateStyle'))$$), 'ISO, MDY t ringfence_member ISO, MDY', 'nor is anything left for a request');

-- Code that comes to no end, and lets no error pass.

CREATE FUNCTION shop.forever() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
	LOOP
		NULL;
	END LOOP;
EXCEPTION WHEN OTHERS THEN
	RETURN 'caught';
END
$$;
CREATE VIEW shop.endless WITH (security_invoker = true) AS SELECT a.n, shop.forever() FROM shop.attack AS a;
CREATE VIEW shop.endless_early WITH (security_invoker = true) AS SELECT a.n FROM shop.attack AS a WHERE shop.forever() = a.statement;
GRANT SELECT ON shop.endless, shop.endless_early TO ringfence_member;
SELECT ringfence.declare_export('endless', 'shop.endless', '{n}', '{books}'), ringfence.declare_export('endless_early', 'shop.endless_early', '{n}', '{books}') \g /dev/null
SELECT begun('''endless''') AS export, begun('''endless'', consistent => true') AS consistent, begun('''endless_early''') AS early, begun('''sales''') AS other \gset
SELECT job('SET ringfence.export_timeout = 20') \g /dev/null
SELECT steps(8) \g /dev/null
SELECT is(ARRAY[error(:'export'), error(:'consistent'), error(:'early')], array_fill('queued 57000: reading a part of the export took too long'::text, '{3}'), 'an export takes its time and no more');
SELECT job('SET ringfence.export_timeout = 300000') \g /dev/null
SELECT is(job_says(:'left'), :'before', 'nothing is left of it');
SELECT steps() \g /dev/null
SELECT is(state(:'other'), 'done', 'the job goes on with others');
SELECT is(sent('regress_web', format($$SELECT set_config('role', 'ringfence_member', true) || set_config('request.jwt.claims', '{"role": "ringfence_member", "sub": "%s", "org_id": "%s"}', true) || set_config('ringfence.export_timeout', '20', true)$$,
	:'user_books', :'org_a'), $$SELECT ringfence.export_now('endless', NULL, NULL)$$), '57000 reading a part of the export took too long', 'so does one at once');

-- What is read as of one moment ends, however fast each part is.

CREATE FUNCTION shop.dawdle() RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
	WHILE clock_timestamp() < statement_timestamp() + interval '3 milliseconds' LOOP
		NULL;
	END LOOP;
	RETURN 1;
END
$$;
CREATE VIEW shop.slow WITH (security_invoker = true) AS SELECT s.id, shop.dawdle() FROM shop.sales AS s;
GRANT SELECT ON shop.slow TO ringfence_member;
SELECT ringfence.declare_export('slow', 'shop.slow', '{id}', '{books}') \g /dev/null
SELECT begun('''slow''') AS parts, begun('''slow'', consistent => true') AS consistent \gset
SELECT job('RESET ROLE; SET ringfence.export_consistent_timeout = 1; SET ringfence.export_part_bytes = 1000; SET ROLE ringfence_jobs') \g /dev/null
SELECT steps() \g /dev/null
SELECT is(error(:'consistent'), 'failed 54000: reading the export as of one moment took too long', 'an export as of one moment takes its time and no more');
SELECT is((SELECT count(*) FROM ringfence_data.export_parts AS p WHERE p.export_id = :'consistent'), 0::bigint, 'and leaves nothing');
SELECT is((SELECT e.state COLLATE "default" || e.rows FROM ringfence_data.exports AS e WHERE e.id = :'parts'), 'done300', 'one in parts takes more');
SELECT job('RESET ROLE; RESET ringfence.export_consistent_timeout; RESET ringfence.export_part_bytes; SET ROLE ringfence_jobs') \g /dev/null

-- Names and values that are SQL.

CREATE TABLE shop."t"";DROP TABLE shop.sales;--" (id uuid NOT NULL DEFAULT ringfence.uuid7(), "k"" '\k" text NOT NULL, "%I;" date NOT NULL DEFAULT '2026-01-01', "=c" text);
SELECT ringfence.protect('shop."t"";DROP TABLE shop.sales;--"', '{"books": "all"}') \g /dev/null
CREATE VIEW shop."v'; SELECT 1; $$" WITH (security_invoker = true) AS SELECT t."k"" '\k", t."%I;", t."=c" FROM shop."t"";DROP TABLE shop.sales;--" AS t;
GRANT SELECT ON shop."v'; SELECT 1; $$" TO ringfence_member;
SELECT ringfence.declare_export('names', 'shop."v''; SELECT 1; $$"', ARRAY['%I;', E'k" ''\\k'], '{books}', '%I;') \g /dev/null
INSERT INTO shop."t"";DROP TABLE shop.sales;--" (org_id, "k"" '\k", "=c")
SELECT :'org_a', v, v FROM unnest(ARRAY['''; DROP TABLE shop.sales; --', '\''; DROP TABLE shop.sales; --', '\', '''', '"', '%L', '$1', '$$', E'a\r\nb', '', ' ', 'NULL', '{', '},{"', E'\t', '=1', '''=1', U&'\202E\+01F600', 'ё']) AS v;
CALL parts_of(1);
SELECT job('SET standard_conforming_strings = off') \g /dev/null
SELECT begun('''names'', ''2026-01-01'', ''2026-01-01''') AS export, begun('''names'', format => ''ndjson''') AS lines \gset
SELECT steps() \g /dev/null
SELECT job('SET standard_conforming_strings = on') \g /dev/null
SELECT is(ARRAY[state(:'export'), state(:'lines')], '{done,done}', 'names of relations and columns are names');
SELECT set_eq(format('SELECT ringfence.csv_unguard(c.cells[1]) FROM ringfence.csv_rows(whole(%L)) AS c WHERE c.line > 1', :'export'), 'SELECT t."=c" FROM shop."t"";DROP TABLE shop.sales;--" AS t', 'keys are values, whatever is in them');
SELECT set_eq(format($$SELECT l::jsonb ->> '=c' FROM string_to_table(rtrim(whole(%L), E'\n'), E'\n') AS l$$, :'lines'), 'SELECT t."=c" FROM shop."t"";DROP TABLE shop.sales;--" AS t', 'in either form');
SELECT is((SELECT e.parts FROM ringfence_data.exports AS e WHERE e.id = :'export'), 19, 'each in a part of its own');
SELECT is(split_part(whole(:'export'), E'\r\n', 1), $$"k"" '\k",%I;,"'=c"$$, 'a column that begins like a formula has an apostrophe before it');
SELECT is(asks_books(format('SELECT ringfence_v1.start_export(%s)', arguments)), answer, arguments) FROM (VALUES
	($$'sales'' OR true --'$$, 'PT404 export not found'), ($$'sales"; DROP TABLE shop.sales; --'$$, 'PT404 export not found'), ($$E'sales\r\nSet-Cookie: x'$$, 'PT404 export not found'), ($$NULL$$, 'PT404 export not found'),
	($$'sales', format => 'csv; DROP TABLE shop.sales'$$, '22023 invalid format of an export'), ($$'sales', format => E'csv"\r\nSet-Cookie: x'$$, '22023 invalid format of an export'),
	($$'sales', options => '{"delimiter": "\n"}'$$, '22023 invalid delimiter of a CSV'), ($$'sales', options => '{"; DROP TABLE shop.sales": 1}'$$, '22023 invalid option "; DROP TABLE shop.sales"'),
	($$'sales', options => '["delimiter"]'$$, '22023 options must be a JSON object'), ($$'sales', options => '{"delimiter": null}'$$, '22023 invalid option "delimiter"'),
	($$'sales', options => '{"header": "false"}'$$, '22023 invalid option "header"')) AS v (arguments, answer);
SELECT is(asks_books('SELECT ringfence.export_now(''sales'', NULL, NULL, ''csv'', ROW('','', NULL, NULL, NULL, NULL, NULL, NULL)::ringfence.csv_options)'), '22023 invalid option "bom"', 'options are not made past their checks');

-- Lines of a header.

SELECT throws_ok(format('SELECT ringfence.declare_export(%L, ''shop.ledger'', ''{id}'', ''{books}'', filename => %L)', name, filename), '22023', format('invalid name of export "%s", or of its file', name), what) FROM (VALUES
	('x', E'a\r\nSet-Cookie: x', 'a file''s name has no lines'), ('x', E'a\n', 'not even behind it'), ('x', 'a"; filename="b', 'nor quotes'), ('x', 'a;b', 'nor other parameters'), ('x', '..', 'nor dots'),
	('x', '-rf', 'nor begins it with a hyphen'), ('x', 'é', 'nor has it letters that need another form'), (E'x\n', NULL, 'nor has a name of an export'), (E'x\r\nSet-Cookie: x', NULL, 'lines')) AS v (name, filename, what);
SELECT throws_ok($$UPDATE ringfence_data.export_definitions SET filename = E'a\n' WHERE name = 'sales'$$, '23514', 'new row for relation "export_definitions" violates check constraint "export_definitions_filename_check"', 'whoever writes it');

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
