-- The functions that read exports take orders that were never meant, put back what
-- they changed whatever stops them, and lose no row where reading pauses.
\ir include/exports.sql
SELECT plan(26);

-- --- Orders that were never meant ---

CREATE FUNCTION public.reads(arguments text) RETURNS text LANGUAGE sql RETURN format('SELECT ringfence.export_read(%s)', arguments);
SELECT throws_ok(reads('''sales'', NULL, NULL, NULL, NULL'), '22023', 'invalid format of an export', 'an export is read in a format,');
SELECT throws_ok(reads('''sales'', NULL, NULL, ''xlsx'', NULL'), '22023', 'invalid format of an export', 'and of those there are');
SELECT throws_ok(reads('''sales'', NULL, NULL, ''csv'', ROW(''x'', NULL, NULL, NULL, NULL, NULL, NULL)::ringfence.csv_options'), '22023', 'invalid delimiter of a CSV',
	'under options that can be');
SELECT throws_ok(reads('NULL, NULL, NULL, ''csv'', NULL'), '42704', 'there is no such export', 'what has no name is not there');
SELECT throws_ok(format('SELECT ringfence.export_identify(%L, ''{books}'')', context), 'XX000', 'could not read the context of an export', quote_literal(context) || ' is no context')
FROM unnest(ARRAY['', '[]', 'null', '{"sub": ']) AS context;
SELECT throws_ok('SELECT ringfence.export_identify(''{}'', ''{books}'')', '42501', 'who asked for the export is no longer a member of the organization', 'nobody is no member');
SELECT throws_ok(format('SELECT ringfence.export_identify(%L, %L)', jsonb_build_object('role', 'ringfence_member', 'sub', :'user_books', 'org_id', :'org_a'), roles),
	'42501', 'who asked for the export no longer has the roles that it was asked for with', 'no role is one of ' || roles)
FROM unnest(ARRAY['{}', '{NULL}', '{{boss,chief},{NULL,head}}']) AS roles;
SELECT asks(:'user_books', :'org_a', starts()) AS export \gset
SELECT is(ringfence.export_number(:'org_a', :'export', 'count'), 300::bigint, 'an export is counted');
DELETE FROM shop.sales WHERE org_id = :'org_a' AND id > 1;
SELECT throws_ok(format('SELECT ringfence.export_number(%L, %L, ''rows'')', :'org_a', :'export'), 'XX000', 'unexpected answer of an export''s statement', 'a row is no number');
SELECT steps() \g /dev/null

-- --- What is put back ---

-- In one of ten rows the view does what it is told.
CREATE FUNCTION shop.probe(id integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	mode CONSTANT text := CASE WHEN id % 10 = 5 THEN current_setting('test.mode', true) END;
BEGIN
	IF mode = 'fail' THEN
		RAISE EXCEPTION 'row % fails', id;
	ELSIF mode = 'settings' THEN
		PERFORM set_config('TimeZone', 'Asia/Tokyo', true), set_config('bytea_output', 'escape', true);
	ELSIF mode = 'caught' THEN
		BEGIN
			PERFORM 1 / 0;
		EXCEPTION WHEN division_by_zero THEN
			RETURN mode;
		END;
	ELSIF mode = 'inner' THEN
		RETURN length(ringfence.export_now('everything', NULL, NULL)) > 0;
	ELSIF mode IS NOT NULL THEN
		EXECUTE mode;
	END IF;
	RETURN 'done';
END
$$;
GRANT EXECUTE ON FUNCTION shop.probe(integer) TO ringfence_member;
CREATE VIEW shop.probed WITH (security_invoker = true) AS SELECT s.id, shop.probe(s.id) AS done FROM shop.sales AS s;
GRANT SELECT ON shop.probed TO ringfence_member;
SELECT ringfence.declare_export('probed', 'shop.probed', '{id}', '{books}') \g /dev/null
INSERT INTO shop.sales (org_id, id, day, amount) SELECT :'org_a', n, '2026-03-01', n FROM generate_series(2, 30) AS n;

CREATE FUNCTION public.present() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT concat_ws(' ', current_user, session_user, current_setting('search_path'), current_setting('TimeZone'), current_setting('bytea_output'), ringfence.org_id(),
		(SELECT string_agg(c.name, ' ') FROM pg_cursors AS c), current_setting('statement_timeout'))
$$;
-- What came of it, whatever is not as it was before, and how long the export is after:
-- 9 bytes of header, 9 rows of 8 and 21 of 9, of which 3 have "caught" for "done".
CREATE FUNCTION public.probes(mode text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	before CONSTANT text := public.present();
BEGIN
	PERFORM set_config('test.mode', mode, true);
	BEGIN
		PERFORM ringfence.export_now('probed', NULL, NULL);
		RETURN NEXT 'read';
	EXCEPTION WHEN OTHERS THEN
		RETURN NEXT SQLSTATE;
	END;
	IF public.present() <> before THEN
		RETURN NEXT format('%s, not %s', public.present(), before);
	END IF;
	PERFORM set_config('test.mode', 'caught', true);
	RETURN NEXT length(ringfence.export_now('probed', NULL, NULL));
END
$$;
GRANT EXECUTE ON FUNCTION public.probes(text), public.present() TO ringfence_member;
SELECT is(asks(:'user_books', :'org_a', format('SELECT public.probes(%L)', mode)), answer || E'\n276', 'all is as it was after: ' || mode)
FROM (VALUES ('fail', 'P0001'), ('settings', 'read'), ('caught', 'read'), ('inner', 'read'), ('CLOSE ALL', '42501'), ('RESET ROLE', '0A000'),
	('CREATE TEMPORARY TABLE t ()', '42501'), ('ROLLBACK', '0A000')) AS v (mode, answer);

-- --- Where reading pauses ---

-- The cursor is asked for a thousand rows at a time, and parts end in between.
CREATE PROCEDURE public.sell(many integer) LANGUAGE sql AS $$
	DELETE FROM shop.sales;
	INSERT INTO shop.sales (org_id, id, day, amount) SELECT '0aaaaaaa-0000-7000-8000-00000000000a', n, '2026-03-01', n FROM generate_series(1, many) AS n;
$$;
SELECT job('SET ringfence.export_part_bytes = 20000') \g /dev/null
CALL public.sell(999);
SELECT asks(:'user_books', :'org_a', starts($$'sales', consistent => true$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is(whole(:'export') = asks(:'user_books', :'org_a', $$SELECT ringfence.export_now('sales', NULL, NULL)$$), true, '999 rows are whole in parts');
CALL public.sell(1000);
SELECT asks(:'user_books', :'org_a', starts($$'sales', consistent => true$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is(whole(:'export') = asks(:'user_books', :'org_a', $$SELECT ringfence.export_now('sales', NULL, NULL)$$), true, '1000 rows are whole in parts');
CALL public.sell(1001);
SELECT asks(:'user_books', :'org_a', starts($$'sales', consistent => true$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is(whole(:'export') = asks(:'user_books', :'org_a', $$SELECT ringfence.export_now('sales', NULL, NULL)$$), true, '1001 rows are whole in parts');
CALL public.sell(2000);
SELECT asks(:'user_books', :'org_a', starts($$'sales', consistent => true$$)) AS export \gset
SELECT steps() \g /dev/null
SELECT is(whole(:'export') = asks(:'user_books', :'org_a', $$SELECT ringfence.export_now('sales', NULL, NULL)$$), true, '2000 rows are whole in parts');

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
