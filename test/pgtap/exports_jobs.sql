-- Exports that the job writes: canceled, failing, tried again and given up, begun
-- anew where what is there is no beginning, in turn between organizations, on
-- record, and gone after a week.
\ir include/exports.sql
SELECT plan(82);

CREATE FUNCTION public.asks_books(query text) RETURNS text
LANGUAGE sql RETURN public.asks('aaaaaaaa-0000-4000-8000-0000000000b1', '0aaaaaaa-0000-7000-8000-00000000000a', query);
CREATE FUNCTION public.does(endpoint text, export text, usr uuid DEFAULT 'aaaaaaaa-0000-4000-8000-0000000000b1') RETURNS text
LANGUAGE sql RETURN public.asks(usr, '0aaaaaaa-0000-7000-8000-00000000000a', format('SELECT true FROM ringfence_v1.%I(%L)', endpoint, export));
CREATE FUNCTION public.begun(name text) RETURNS text LANGUAGE sql RETURN public.asks_books(public.starts(quote_literal(begun.name)));
CREATE PROCEDURE public.parts_of(bytes integer) LANGUAGE sql
AS $$ SELECT job(format('RESET ROLE; SET ringfence.export_part_bytes = %s; SET ROLE ringfence_jobs', bytes)) $$;
-- The job's clock, so many hours, minutes and seconds after the year 2030 began.
CREATE PROCEDURE public.at(time_of interval) LANGUAGE sql
AS $$ SELECT job(format('RESET ROLE; SET ringfence.retention_clock = %L; SET ROLE ringfence_jobs', timestamptz '2030-01-01 00:00+00' + time_of)) $$;
CREATE FUNCTION public.waits(export text) RETURNS interval
LANGUAGE sql AS $$ SELECT e.next_try_at - timestamptz '2030-01-01 00:00+00' FROM ringfence_data.exports AS e WHERE e.id = export::uuid $$;
-- What is in the audit log of exports.
CREATE FUNCTION public.events() RETURNS TABLE (action text, key text, org_id uuid, user_id uuid, details jsonb, reason text)
LANGUAGE sql AS $$
	SELECT l.action COLLATE "default", l.key COLLATE "default", l.org_id, l.user_id, l.new, l.reason
	FROM ringfence_data.audit_log AS l WHERE l.action LIKE 'export.%' ORDER BY l.recorded_at, l.id
$$;
CALL at('0');

-- Canceled.

SELECT begun('sales') AS queued, begun('sales') AS running \gset
SELECT is(does('cancel_export', :'queued'), 't', 'who asked for an export cancels it');
SELECT is(state(:'queued'), 'canceled', 'then it is');
SELECT is(does('cancel_export', :'queued'), 'PT409 the export is canceled', 'once');
SELECT is(does('retry_export', :'queued'), 'PT409 the export has not failed', 'it is not tried again');
SELECT is(steps(1), 1, 'a step clears it');
CALL parts_of(1000);
SELECT is(steps(4), 4, 'the other one is begun');
SELECT is((SELECT e.parts FROM ringfence_data.exports AS e WHERE e.id = :'running'), 2, 'and has parts');
SELECT is(does('cancel_export', :'running', :'user_other'), 'PT404 export not found', 'to another member there is none');
SELECT is(does('cancel_export', :'running', :'user_boss'), 't', 'the owner cancels it');
SELECT is(steps(), 1, 'a step clears it, and nothing goes on');
SELECT is(whole(:'running'), NULL, 'its parts are gone');
SELECT is(asks_books(part(:'running', 1)), 'PT409 the export is not done', 'so there is none to be had');
SELECT begun('sales') AS done \gset
SELECT steps() \g /dev/null
SELECT is(does('cancel_export', :'done'), 'PT409 the export is done', 'one that is done is not canceled');
SELECT results_eq($$SELECT e.action, e.key, e.user_id, e.details ->> 'name' FROM events() AS e WHERE e.action <> 'export.done' AND e.org_id = '0aaaaaaa-0000-7000-8000-00000000000a'$$,
	format($$VALUES ('export.requested', %1$L, %4$L::uuid, 'sales'), ('export.requested', %2$L, %4$L, 'sales'), ('export.canceled', %1$L, %4$L, 'sales'), ('export.started', %2$L, NULL, 'sales'),
		('export.canceled', %2$L, %5$L, 'sales'), ('export.requested', %3$L, %4$L, 'sales'), ('export.started', %3$L, NULL, 'sales')$$, :'queued', :'running', :'done', :'user_books', :'user_boss'),
	'who asked for what and who canceled it is in the audit log');
SELECT is((SELECT e.details FROM events() AS e WHERE e.action = 'export.done'), (SELECT jsonb_build_object('name', 'sales', 'from', NULL, 'to', NULL, 'format', 'csv', 'requested_by', :'user_books',
	'rows', 300, 'bytes', octet_length(whole(:'done')), 'parts', e.parts, 'sha256', encode(sha256(convert_to(whole(:'done'), 'UTF8')), 'hex')) FROM ringfence_data.exports AS e WHERE e.id = :'done'), 'and what came out');
SELECT asks_books($$SELECT ringfence.export_now('sales', '2026-03-01', '2026-03-01')$$) AS now \gset
SELECT is((SELECT e.details FROM events() AS e WHERE e.action = 'export.made'), jsonb_build_object('name', 'sales', 'from', '2026-03-01', 'to', '2026-03-01', 'format', 'csv',
	'rows', 9, 'bytes', octet_length(:'now'), 'sha256', encode(sha256(convert_to(:'now', 'UTF8')), 'hex')), 'as it is of one that is answered at once');

-- Failing. While the printer is out of paper, no row is read.

CREATE TABLE shop.printer (paper boolean);
INSERT INTO shop.printer VALUES (true);
CREATE FUNCTION shop.print(what text) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
BEGIN
	IF NOT (SELECT p.paper FROM shop.printer AS p) THEN
		RAISE EXCEPTION 'no paper';
	END IF;
	RETURN what;
END
$$;
GRANT EXECUTE ON FUNCTION shop.print(text) TO ringfence_member;
CREATE VIEW shop.printed WITH (security_invoker = true) AS SELECT s.id, shop.print(s.what) AS what FROM shop.sales AS s WHERE s.id <= 5;
GRANT SELECT ON shop.printed TO ringfence_member;
SELECT ringfence.declare_export('printed', 'shop.printed', '{id}', '{books}') \g /dev/null
CALL parts_of(1);
SELECT begun('printed') AS export \gset
SELECT steps(4) \g /dev/null
UPDATE shop.printer SET paper = false;
SELECT is(steps(), 1, 'an export fails');
SELECT is(error(:'export'), 'queued P0001: no paper', 'which it says');
SELECT is(waits(:'export'), '1 minute', 'it waits a minute');
CALL at('59 seconds');
SELECT is(steps(), 0, 'and not less');
CALL at('1 minute');
SELECT is(steps(), 2, 'then it is taken up again, and fails');
SELECT is(waits(:'export'), '6 minutes', 'five minutes more');
CALL at('6 minutes');
SELECT is(steps(), 2, 'a third time');
SELECT is(waits(:'export'), '36 minutes', 'half an hour');
CALL at('36 minutes');
SELECT is(steps(), 2, 'a fourth');
SELECT is(waits(:'export'), '2 hours 36 minutes', 'two hours');
CALL at('2 hours 35 minutes 59.999999 seconds');
SELECT is(steps(), 0, 'to the microsecond');
CALL at('2 hours 36 minutes');
SELECT is(steps(), 2, 'the fifth');
SELECT is(error(:'export'), 'failed P0001: no paper', 'is the last');
SELECT is(asks_books($$SELECT ROW(d.id, d.name, d.requested_by, d.last_error, d.rows, d.parts) FROM ringfence_v1.export_dead_letter AS d$$),
	format('(%s,printed,%s,"P0001: no paper",2,2)', :'export', :'user_books'), 'it is a dead letter');
SELECT is(step(), format('P0001 could not write export "%s" of organization "%s": SQLSTATE P0001', :'export', :'org_a'), 'which the job reports');
SELECT is((SELECT e.reason FROM events() AS e WHERE e.action = 'export.failed'), 'P0001', 'and the audit log, without what it says');
CALL at('1 year');
SELECT is(step() ~ '^P0001', true, 'nothing else happens to it');
SELECT is(does('retry_export', :'export', :'user_other'), 'PT404 export not found', 'another member does not have it tried again');
SELECT is(does('retry_export', :'export'), 't', 'who asked for it does');
UPDATE shop.printer SET paper = true;
CREATE TEMPORARY TABLE first_parts AS SELECT p.part, p.made_at FROM ringfence_data.export_parts AS p WHERE p.export_id = :'export';
SELECT is(steps(), 4, 'it is taken up and goes on: three rows');
SELECT is(whole(:'export'), E'id,what\r\n1,sale 1\r\n2,sale 2\r\n3,sale 3\r\n4,sale 4\r\n5,sale 5\r\n', 'after the parts that it had');
SELECT is((SELECT count(*) FROM first_parts INNER JOIN ringfence_data.export_parts AS p USING (part, made_at) WHERE p.export_id = :'export'), 2::bigint, 'which stay as they were');
SELECT is((SELECT e.action FROM events() AS e WHERE e.key = :'export' AND e.action = 'export.retried'), 'export.retried', 'and that is on record');
SELECT is(asks_books('SELECT count(*) FROM ringfence_v1.export_dead_letter'), '0', 'it is a dead letter no more');

-- Processes that come to no end.
SELECT begun('printed') AS export \gset
SELECT steps(1), job(format('RESET ROLE; UPDATE ringfence_data.exports SET pid = -%s WHERE id = %L; SET ROLE ringfence_jobs', n, :'export')) FROM generate_series(1, 5) AS n \g /dev/null
SELECT is(ROW(state(:'export'), (SELECT e.attempts FROM ringfence_data.exports AS e WHERE e.id = :'export')), ROW('running'::text, 5), 'five processes have taken it up and left nothing');
SELECT steps(1) \g /dev/null
SELECT is(error(:'export'), 'failed 57P02: each time that it was taken up, the process that wrote it came to no end', 'a sixth gives it up');

-- Keys that identify no row.

CREATE TABLE shop.pairs (id integer PRIMARY KEY, kind integer, a integer, b integer);
SELECT ringfence.protect('shop.pairs', '{"books": "all"}') \g /dev/null
INSERT INTO shop.pairs (org_id, id, kind, a, b) VALUES
	(:'org_a', 10, 1, 1, 1), (:'org_a', 11, 1, 1, 1),
	(:'org_a', 20, 2, 1, 1), (:'org_a', 21, 2, 1, 2), (:'org_a', 22, 2, 1, 2), (:'org_a', 23, 2, 1, 3),
	(:'org_a', 30, 3, NULL, 1), (:'org_a', 40, 4, 1, 1), (:'org_a', 41, 4, 2, NULL),
	(:'org_a', 50, 5, 1, 1), (:'org_a', 51, 5, 1, 2), (:'org_a', 52, 5, 1, NULL), (:'org_a', 53, 5, 2, 1),
	(:'org_a', 60, 6, 1, 1), (:'org_a', 61, 6, 1, 2), (:'org_a', 62, 6, 1, 3);
SELECT format('CREATE VIEW shop.pairs_%s WITH (security_invoker = true) AS SELECT p.id, p.a, p.b FROM shop.pairs AS p WHERE p.kind = %1$s; GRANT SELECT ON shop.pairs_%1$s TO ringfence_member', n) FROM generate_series(1, 6) AS n \gexec
SELECT ringfence.declare_export('pairs_' || n, ('shop.pairs_' || n)::regclass, '{a,b}', '{books}') FROM generate_series(1, 6) AS n \g /dev/null
CREATE TEMPORARY TABLE broken AS
SELECT v.n, v.message, v.code, begun('pairs_' || v.n) AS parts, asks_books(starts(format('%L, consistent => true', 'pairs_' || v.n))) AS consistent, v.what
FROM (VALUES
	(1, '22000', 'two rows of the export have the same key', 'a key that two rows have'), (2, '22000', 'two rows of the export have the same key', 'in different parts'),
	(3, '22004', 'a row of the export has no key', 'a key that is NULL'), (4, '22004', 'a row of the export has no key', 'in its second column'),
	(5, '22004', 'a row of the export has no key', 'among the other rows')) AS v (n, code, message, what);
SELECT steps() \g /dev/null
SELECT is(ARRAY[error(b.parts), error(b.consistent), 'failed ' || asks_books(format('SELECT ringfence.export_now(%L, NULL, NULL)', 'pairs_' || b.n))],
	ARRAY[format('failed %s: %s', b.code, b.message), format('failed %s: %s', b.code, b.message), format('failed %s %s', b.code, b.message)], b.what || ' is an error') FROM broken AS b;
SELECT begun('pairs_6') AS export \gset
SELECT steps(4) \g /dev/null
INSERT INTO shop.pairs (org_id, id, kind, a, b) VALUES (:'org_a', 63, 6, 1, 2);
SELECT steps() \g /dev/null
SELECT is(error(:'export'), 'failed 22000: two rows of the export have the same key', 'so is one that comes to the last row of a part later');

-- Beginning anew.

CALL at('2 years');
CREATE VIEW shop.changing WITH (security_invoker = true) AS SELECT s.id, s.what FROM shop.sales AS s WHERE s.id <= 5;
GRANT SELECT ON shop.changing TO ringfence_member;
SELECT ringfence.declare_export('changing', 'shop.changing', '{id}', '{books}') \g /dev/null
SELECT begun('changing') AS export \gset
SELECT steps(4) \g /dev/null
CREATE OR REPLACE VIEW shop.changing WITH (security_invoker = true) AS SELECT s.id, s.what, s.amount FROM shop.sales AS s WHERE s.id <= 5;
SELECT steps() \g /dev/null
SELECT is(error(:'export'), 'queued 40001: the columns of the export have changed', 'a part has the columns of those before it');
CALL at('2 years 1 minute');
SELECT steps() \g /dev/null
SELECT is(whole(:'export'), E'id,what,amount\r\n1,sale 1,0.25\r\n2,sale 2,0.50\r\n3,sale 3,0.75\r\n4,sale 4,1.00\r\n5,sale 5,1.25\r\n', 'or all begin anew');
SELECT begun('changing') AS export \gset
SELECT steps(4) \g /dev/null
SELECT ringfence.declare_export('changing', 'shop.changing', '{what}', '{books}') \g /dev/null
SELECT steps() \g /dev/null
CALL at('2 years 2 minutes');
SELECT steps() \g /dev/null
SELECT is((SELECT e.rows FROM ringfence_data.exports AS e WHERE e.id = :'export'), 5::bigint, 'as they do for another key');
SELECT begun('changing') AS export \gset
SELECT steps(4) \g /dev/null
SELECT ringfence.place_hold('a dispute', 'ringfence_data.export_parts') AS hold \gset
CREATE OR REPLACE VIEW shop.changing WITH (security_invoker = true) AS SELECT s.id, s.what, s.amount, s.day FROM shop.sales AS s WHERE s.id <= 5;
SELECT steps() \g /dev/null
CALL at('2 years 3 minutes');
SELECT steps() \g /dev/null
SELECT is(error(:'export'), 'queued 55006: it has to begin anew, and a legal hold is on parts that it has', 'parts under a legal hold are in the way');
SELECT is((SELECT count(*) FROM ringfence_data.export_parts AS p WHERE p.export_id = :'export'), 2::bigint, 'and stay');
SELECT ringfence.release_hold(:'hold', 'settled') \g /dev/null
CALL at('2 years 1 hour');
SELECT steps() \g /dev/null
SELECT is(split_part(whole(:'export'), E'\r\n', 1) || (SELECT e.rows FROM ringfence_data.exports AS e WHERE e.id = :'export'), 'id,what,amount,day5', 'until it is released');
SELECT begun('changing') AS export, begun('changing') AS second, begun('printed') AS third \gset
SELECT steps(4) \g /dev/null
ALTER VIEW shop.changing SET (security_invoker = false);
SELECT steps() \g /dev/null
SELECT is(ARRAY[error(:'export'), error(:'second'), state(:'third')], '{failed 42704: there is no such export,failed 42704: there is no such export,done}', 'a view that comes to read with its owner''s rights is exported no further');
SELECT is(asks_books($$SELECT ringfence.export_now('changing', NULL, NULL)$$), '42704 there is no such export', 'nor at once');
ALTER VIEW shop.changing SET (security_invoker = true);
SELECT begun('changing') AS export, begun('printed') AS second \gset
SELECT steps(4) \g /dev/null
DROP VIEW shop.changing;
SELECT ringfence.undeclare_export('printed') \g /dev/null
SELECT steps() \g /dev/null
SELECT is(error(:'export'), 'failed 42704: there is no such export', 'one that is dropped is a dead letter');
SELECT is(error(:'second'), 'failed 42704: the export is not declared any more', 'so is what is not declared any more');

-- So many at a time.

CALL parts_of(100000);
SELECT is((SELECT array_agg(length(begun('sales'))) FROM generate_series(1, 10)), array_fill(36, '{10}'), 'a member has ten exports under way');
SELECT is(begun('sales'), 'PT429 too many exports are under way', 'and no eleventh');
SELECT is((SELECT array_agg(length(asks(u, :'org_a', starts()))) FROM unnest(ARRAY[:'user_other', :'user_client']::uuid[]) AS u, generate_series(1, 10)), array_fill(36, '{20}'), 'an organization thirty');
UPDATE ringfence_data.memberships SET roles = '{owner,admin}' WHERE user_id = :'user_boss';
SELECT is(asks(:'user_boss', :'org_a', starts()), 'PT429 too many exports are under way', 'whoever asks for one more');
SELECT is(does('retry_export', :'export'), 'PT429 too many exports are under way', 'nor one that is tried again');
SELECT is(length(asks(:'user_b', :'org_b', starts())), 36, 'another organization has its own');
SELECT does('cancel_export', (SELECT e.id::text FROM ringfence_data.exports AS e WHERE e.requested_by = :'user_books' AND e.state = 'queued' LIMIT 1)) \g /dev/null
SELECT is(length(begun('sales')), 36, 'one that is canceled makes room');
SELECT steps() \g /dev/null
SELECT is(length(begun('sales')), 36, 'so do those that are done');
SELECT steps() \g /dev/null

-- In turn.

CALL parts_of(1);
SELECT asks_books(starts($$'sales', '2026-03-01', '2026-03-10'$$)) AS first, asks_books(starts($$'sales', '2026-03-01', '2026-03-01'$$)) AS second, asks(:'user_b', :'org_b', starts()) AS other \gset
SELECT steps(24) \g /dev/null
SELECT is(ARRAY(SELECT (SELECT count(*) FROM ringfence_data.export_parts AS p WHERE p.export_id = e) FROM unnest(ARRAY[:'first', :'second', :'other']::uuid[]) WITH ORDINALITY AS e (e, n) ORDER BY n),
	'{10,0,10}', 'two organizations take turns, each with its oldest');
CALL parts_of(100000);
SELECT steps() \g /dev/null
SELECT matches(whole(:'other'), '^id,day,what,amount,sold_at,client_id\r\n1,2026-03-01,secret of B 1,1.00,.*\r\n100,2026-03-01,secret of B 100,100.00,[^\n]*\r\n$', 'each has its own rows');

-- An organization that is not active.

SELECT begun('sales') AS export \gset
UPDATE ringfence_data.orgs SET status = 'suspended' WHERE id = :'org_a';
SELECT steps(2) \g /dev/null
SELECT is(error(:'export'), 'failed PT403: the organization is suspended', 'for one that is suspended nothing is written');
UPDATE ringfence_data.orgs SET status = 'active' WHERE id = :'org_a';
SELECT is(does('retry_export', :'export'), 't', 'it is tried again when it is back');
SELECT steps() \g /dev/null
SELECT is(state(:'export'), 'done', 'and is written');

-- Where exports go on record.

SELECT is(left(asks_books('SELECT ringfence_v1.csv(e) FROM ringfence_v1.exports AS e'), 8), 'id,name,', 'rows can be had as CSV');
UPDATE ringfence_data.orgs SET settings = settings || '{"record_exports": true}' WHERE id = :'org_a';
SELECT is(asks_books('SELECT ringfence_v1.csv(e) FROM ringfence_v1.exports AS e'), 'PT403 exports of this organization go on record', 'unless exports go on record');
SELECT is(asks_books('SELECT ringfence_v1.ndjson(e) FROM ringfence_v1.exports AS e'), 'PT403 exports of this organization go on record', 'nor as JSON a line');
SELECT is(left(asks(:'user_b', :'org_b', 'SELECT ringfence_v1.csv(e) FROM ringfence_v1.exports AS e'), 8), 'id,name,', 'which is the organization''s to say');
SELECT is(left(asks_books($$SELECT ringfence.export_now('sales', NULL, NULL)$$), 7), 'id,day,', 'an export on record is answered');
SELECT is(length(begun('sales')), 36, 'and a large one begun');
SELECT steps() \g /dev/null

-- After a week.

SELECT begun('sales') AS export \gset
SELECT steps() \g /dev/null
SELECT asks_books(part(:'export', 1)) = whole(:'export') AS same \gset
SELECT ok(:'same', 'a part is there');
SET ringfence.retention_rest = 0;
SELECT set_config('ringfence.retention_clock', (now() + interval '6 days 23 hours')::text, false) \g /dev/null
CALL ringfence.run_retention(60, 'ringfence_data.export_parts');
SELECT isnt(whole(:'export'), NULL, 'almost a week later too');
SELECT set_config('ringfence.retention_clock', (now() + interval '7 days 1 minute')::text, false) \g /dev/null
CALL ringfence.run_retention(60, 'ringfence_data.export_parts');
RESET ringfence.retention_clock;
SELECT is(asks_books(part(:'export', 1)), 'PT410 the export has expired', 'then it has expired');
SELECT is(asks_books(format($$SELECT e.available_until - e.finished_at < interval '7 days' AND e.available_until > e.started_at + interval '7 days' FROM ringfence_v1.exports AS e WHERE e.id = %L$$, :'export')), 't', 'when it was said to');
SELECT is(asks_books(format($$SELECT ARRAY[m ->> 'state', m ->> 'rows', jsonb_array_length(m -> 'parts')::text, length(m ->> 'sha256')::text] FROM ringfence_v1.export_manifest(%L) AS m$$, :'export')), '{done,300,0,64}', 'what it was stays on record');

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
