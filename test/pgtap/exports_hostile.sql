-- Exports where somebody is after what is not theirs: another tenant with the ids of
-- an export, members who are less than they were, clients, and who calls or
-- writes what is the job's.
\ir include/exports.sql
SELECT plan(131);

CREATE FUNCTION public.asks_books(query text) RETURNS text
LANGUAGE sql RETURN public.asks('aaaaaaaa-0000-4000-8000-0000000000b1', '0aaaaaaa-0000-7000-8000-00000000000a', query);
CREATE FUNCTION public.begun(arguments text DEFAULT '''sales''') RETURNS text LANGUAGE sql RETURN public.asks_books(public.starts(arguments));
CREATE PROCEDURE public.parts_of(bytes integer) LANGUAGE sql
AS $$ SELECT job(format('RESET ROLE; SET ringfence.export_part_bytes = %s; SET ROLE ringfence_jobs', bytes)) $$;
-- All that an error says.
CREATE FUNCTION public.whole_answer(usr uuid, org uuid, query text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	PERFORM dblink_connect('answer', format('dbname=%s user=regress_web', current_database()));
	PERFORM dblink_exec('answer', 'BEGIN');
	PERFORM s.done FROM dblink('answer', format($q$SELECT set_config('role', 'ringfence_member', true) || set_config('request.jwt.claims', %L, true)$q$,
		jsonb_build_object('role', 'ringfence_member', 'sub', usr, 'org_id', org))) AS s (done text);
	PERFORM s.done FROM dblink('answer', query) AS s (done text);
	PERFORM dblink_disconnect('answer');
	RETURN 'an answer';
EXCEPTION WHEN OTHERS THEN
	PERFORM dblink_disconnect('answer');
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, message, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- Another tenant; a member who may not; one who may, but for themselves.

SELECT begun() AS done \gset
SELECT steps() \g /dev/null
CALL parts_of(1000);
SELECT begun() AS running \gset
SELECT steps(4) \g /dev/null
SELECT begun() AS queued, begun() AS failed, asks_books($$SELECT ringfence_v1.schedule_export('sales', 'month')$$) AS schedule \gset
UPDATE ringfence_data.exports SET state = 'failed', finished_at = now(), last_error = 'XX000: x' WHERE id = :'failed';
CREATE TEMPORARY TABLE strangers AS
SELECT * FROM (VALUES ('the admin of another organization', :'user_b'::uuid, :'org_b'::uuid), ('a member without the role', :'user_clerk', :'org_a'),
	('a member with the role', :'user_other', :'org_a'), ('a client', :'user_client', :'org_a')) AS s (who, usr, org);
CREATE TEMPORARY TABLE before AS SELECT e.* FROM ringfence_data.exports AS e;
SELECT is(whole_answer(s.usr, s.org, format(q.query, e.id)), whole_answer(s.usr, s.org, format(q.query, :'unknown')), format('to %s each %s export is unknown to %s', s.who, e.state, q.name))
FROM strangers AS s
CROSS JOIN (SELECT x.id, x.state FROM ringfence_data.exports AS x) AS e
CROSS JOIN (VALUES ('SELECT ringfence_v1.export_manifest(%L)', 'export_manifest()'), ('SELECT ringfence_v1.export_part(%L, 1)', 'export_part()'),
	('SELECT ringfence_v1.cancel_export(%L)', 'cancel_export()'), ('SELECT ringfence_v1.retry_export(%L)', 'retry_export()')) AS q (query, name);
SELECT is(whole_answer(:'user_b', :'org_b', format('SELECT ringfence_v1.export_part(%L, 1)', :'unknown')), 'PT404 | export not found', 'which is all that is said');
SELECT is(whole_answer(s.usr, s.org, format('SELECT ringfence_v1.unschedule_export(%L)', :'schedule')), 'PT404 | schedule not found', s.who || ' ends no schedule') FROM strangers AS s;
SELECT is(asks(s.usr, s.org, 'SELECT (SELECT count(*) FROM ringfence_v1.exports) + (SELECT count(*) FROM ringfence_v1.export_dead_letter) + (SELECT count(*) FROM ringfence_v1.export_schedules)'), '0', s.who || ' sees none') FROM strangers AS s;
SELECT set_eq('SELECT e.* FROM ringfence_data.exports AS e', 'SELECT * FROM before', 'and nothing has happened to any');
SELECT is(asks_books(format($$SELECT (SELECT count(*) FROM ringfence_v1.exports) || left(convert_from(ringfence_v1.export_part(%L, 1), 'UTF8'), 6)$$, :'done')), '4id,day', 'whoever asked sees them');
SELECT is(asks(:'user_b', :'org_a', 'SELECT count(*) FROM ringfence_v1.exports'), '0', 'a token for an organization that one is not of shows nothing');
SELECT is(asks(:'user_b', :'org_a', starts()), '42501 no organization is set for this transaction', 'and starts nothing');
SELECT is(asks(:'user_clerk', :'org_a', starts()), '42501 permission denied for this export', 'nor does a role that may not');
SELECT is(asks_books('SELECT string_agg(d.name, '', '' ORDER BY d.name) FROM ringfence_v1.export_definitions AS d') || '; ' || asks(:'user_clerk', :'org_a', 'SELECT count(*) FROM ringfence_v1.export_definitions'),
	'everything, sales, sold; 0', 'what one may not have one is not told of');
SELECT is(asks(:'user_boss', :'org_a', format('SELECT ringfence_v1.export_part(%L, 1)', :'done')), '42501 permission denied for this export', 'the owner sees an export, and has what is in it only by its roles');
SELECT is(asks(:'user_a', :'org_a', format('SELECT count(ringfence_v1.export_part(%L, 1))', :'done')), '1', 'as the admin does');
SELECT is(sent('regress_web', 'SELECT set_config(''role'', ''ringfence_anon'', true)', format('SELECT ringfence_v1.%s', call)), '42501 permission denied for function ' || split_part(call, '(', 1), 'nobody calls ' || split_part(call, '(', 1))
FROM unnest(ARRAY['start_export(''sales'')', format('export_part(%L, 1)', :'done')]) AS call;
SELECT is(sent('regress_operator', 'SELECT set_config(''role'', ''ringfence_operator'', true)', format('SELECT ringfence_v1.export_part(%L, 1)', :'done')), '42501 permission denied for function export_part', 'nor does an operator read what is in a file');
DELETE FROM ringfence_data.exports WHERE id IN (:'queued', :'failed');

-- Who is less than they were.

UPDATE ringfence_data.memberships SET roles = '{clerk}' WHERE user_id = :'user_books';
SELECT steps() \g /dev/null
SELECT is(error(:'running'), 'failed 42501: who asked for the export no longer has the roles that it was asked for with', 'an export ends with the role that it needs');
SELECT is(asks_books(format('SELECT ringfence_v1.export_part(%L, 1)', e)), 'PT404 export not found', 'and no part is had, be it done') FROM unnest(ARRAY[:'running', :'done']) AS e;
UPDATE ringfence_data.memberships SET roles = '{books}' WHERE user_id = :'user_books';
SELECT is(asks_books(format('SELECT count(ringfence_v1.export_part(%L, 1))', :'done')), '1', 'who has that role again has it');
UPDATE ringfence_data.memberships SET roles = '{books,clerk}' WHERE user_id = :'user_books';
SELECT is(asks(:'user_books', :'org_a', format('SELECT ringfence_v1.export_part(%L, 1)', :'done'), '{"roles": ["clerk"]}'), 'PT404 export not found', 'but not by a token without it');
SELECT begun() AS running \gset
SELECT steps(4) \g /dev/null
DELETE FROM ringfence_data.memberships WHERE user_id = :'user_books';
SELECT steps() \g /dev/null
SELECT is(error(:'running'), 'failed 42501: who asked for the export is no longer a member of the organization', 'who has left gets no more of it');
SELECT is(asks_books(format('SELECT ringfence_v1.export_part(%L, 1)', :'done')), 'PT404 export not found', 'nor what is done');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES (:'org_a', :'user_books', '{books,clerk}');

-- Whose rows are their own alone.

SELECT asks(:'user_client', :'org_a', starts()) AS own, asks(:'user_client', :'org_a', starts($$'sales', consistent => true$$)) AS own_whole \gset
SELECT steps() \g /dev/null
SELECT results_eq(format($$SELECT count(*), count(*) FILTER (WHERE c.cells[6] = %L), sum(c.cells[1]::integer) FROM ringfence.csv_rows(whole(%L)) AS c WHERE c.line > 1$$, :'client_b', e),
	'VALUES (100::bigint, 100::bigint, 15150::bigint)', 'a client''s export has the client''s rows') FROM unnest(ARRAY[:'own', :'own_whole']) AS e;
SELECT is(asks(:'user_client', :'org_a', $$SELECT ringfence.export_now('sales', NULL, NULL)$$), whole(:'own'), 'as it has at once');
SELECT is((SELECT e.expected_rows FROM ringfence_data.exports AS e WHERE e.id = :'own'), 100::bigint, 'the others'' are not counted');
UPDATE ringfence_data.memberships SET party = jsonb_build_object('client', :'client_a') WHERE user_id = :'user_client';
SELECT is(asks(:'user_client', :'org_a', format('SELECT ringfence_v1.export_part(%L, 1)', :'own')), '42501 permission denied for this export', 'who is another client now has none of it');
SELECT asks(:'user_client', :'org_a', starts()) AS other \gset
SELECT steps() \g /dev/null
SELECT is((SELECT e.rows FROM ringfence_data.exports AS e WHERE e.id = :'other'), 0::bigint, 'but their own rows');

-- What is the job's.

CREATE FUNCTION public.callable(who name) RETURNS text[] LANGUAGE sql STABLE AS $$
	SELECT coalesce(array_agg(p.proname::text ORDER BY p.proname), '{}') FROM pg_proc AS p
	WHERE p.pronamespace IN ('ringfence'::regnamespace, 'ringfence_data'::regnamespace) AND has_function_privilege(who, p.oid, 'EXECUTE')
		AND p.proname ~ 'export|shape|can_go_on|scheduled|due_schedule|time_zone|date_in_zone|response_headers|digest_header|parts_kept'
		AND p.proname !~ 'subject|org_export|^export_org'
$$;
SELECT is(callable('ringfence_anon'), '{}', 'nobody who is nobody calls anything of it');
SELECT is(callable('ringfence_member'), '{export_now,exportable,parts_kept,refuse_unrecorded_export}', 'members call what answers for themselves');
SELECT is(callable('ringfence_operator'), '{parts_kept,refuse_unrecorded_export}', 'operators less');
SELECT is(asks(:'user_a', :'org_a', 'SELECT ringfence.' || call), '42501 permission denied for function ' || split_part(call, '(', 1), 'a member does not call ' || split_part(call, '(', 1)) FROM (VALUES
	(format('export_write(%L, %L)', :'org_b', :'done')), (format('export_number(%L, %L, ''count'')', :'org_b', :'done')), (format('store_export_part(%L, %L, ''x'', 1, NULL, true)', :'org_b', :'done')),
	('export_read(''sales'', NULL, NULL, ''csv'', NULL)'), ('declare_export(''x'', ''shop.sales'', ''{id}'', ''{client}'')'), ('undeclare_export(''sales'')'), ('export_step()'),
	(format('delete_export_parts(%L, %L)', :'org_b', :'done')), (format('take_up_export(%L, %L)', :'org_b', :'done')),
	(format('export_event(''done'', %L, %L)', :'org_b', :'done')), ('check_export_limit(NULL, NULL)')) AS v (call);
SELECT is(asks(:'user_a', :'org_a', query), '42501 permission denied for table ' || split_part(split_part(query, 'ringfence_data.', 2), ' ', 1), 'no ' || query) FROM unnest(ARRAY[
	'SELECT data FROM ringfence_data.export_parts', 'SELECT requested_as FROM ringfence_data.exports', 'SELECT relation FROM ringfence_data.export_definitions', 'SELECT requested_as FROM ringfence_data.export_schedules',
	'INSERT INTO ringfence_data.exports (id) VALUES (NULL)', 'INSERT INTO ringfence_data.export_parts (part) VALUES (1)', 'INSERT INTO ringfence_data.export_definitions (name) VALUES (NULL)', 'INSERT INTO ringfence_data.export_schedules (id) VALUES (NULL)',
	'UPDATE ringfence_data.exports SET state = ''queued''', 'UPDATE ringfence_data.export_parts SET part = 1', 'UPDATE ringfence_data.export_definitions SET roles = ''{client}''', 'UPDATE ringfence_data.export_schedules SET next_on = ''2000-01-01''',
	'DELETE FROM ringfence_data.exports', 'DELETE FROM ringfence_data.export_parts', 'DELETE FROM ringfence_data.export_definitions', 'DELETE FROM ringfence_data.export_schedules']) AS query;
SELECT is(sent('regress_web', 'SELECT set_config(''role'', ''ringfence_anon'', true)', 'SELECT id FROM ringfence_data.' || t), '42501 permission denied for schema ringfence_data', 'nor anything of ' || t || ' for nobody')
FROM unnest('{exports,export_parts,export_definitions,export_schedules}'::text[]) AS t;

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
