-- Exports of each week and month: of the days that have ended where the organization
-- is, as the member who scheduled them for as long as they may.
\ir include/exports.sql
SELECT plan(50);

-- The clock of requests and of the job.
CREATE PROCEDURE public.at(moment timestamptz) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET ringfence.retention_clock = %L', current_database(), moment);
	PERFORM public.job(format('RESET ROLE; SET ringfence.retention_clock = %L; SET ROLE ringfence_jobs', moment));
END
$$;
CREATE FUNCTION public.asks_books(query text) RETURNS text
LANGUAGE sql RETURN public.asks('aaaaaaaa-0000-4000-8000-0000000000b1', '0aaaaaaa-0000-7000-8000-00000000000a', query);
CREATE FUNCTION public.schedules(arguments text) RETURNS text
LANGUAGE sql RETURN public.asks_books(format('SELECT ringfence_v1.schedule_export(%s)', arguments));
CREATE FUNCTION public.schedule(schedule text) RETURNS text
LANGUAGE sql AS $$ SELECT concat_ws(' ', s.next_on, s.enabled, s.last_error) FROM ringfence_data.export_schedules AS s WHERE s.id = schedule::uuid $$;
-- What was started since it was asked last: the file, its days, for whom, how many rows.
CREATE FUNCTION public.started() RETURNS SETOF text LANGUAGE sql AS $$
	WITH told AS (UPDATE ringfence_data.exports AS e SET request_id = 'told' WHERE e.request_id IS DISTINCT FROM 'told' RETURNING e.*)
	SELECT concat_ws(' ', o.name, t.filename, t.from_date, t.to_date, t.state, t.rows) FROM told AS t INNER JOIN ringfence_data.orgs AS o ON o.id = t.org_id ORDER BY t.id
$$;
INSERT INTO shop.sales (org_id, id, day, amount) SELECT o, 1000 + n, date '2026-10-01' + n, n FROM unnest(ARRAY[:'org_a', :'org_b']::uuid[]) AS o, generate_series(0, 365) AS n;

-- Scheduled on the first of November in UTC, a Sunday, which is the last of October in Vancouver.

CALL at('2026-11-01 05:00+00');
SELECT schedules($$'sales', 'month'$$) AS monthly, schedules($$'sales', 'week', options => '{"delimiter": ";"}'$$) AS weekly, asks(:'user_b', :'org_b', $$SELECT ringfence_v1.schedule_export('sales', 'month')$$) AS other \gset
SELECT is(schedule(:'monthly'), '2026-11-01 t', 'the month that it is there');
SELECT is(schedule(:'weekly'), '2026-11-02 t', 'the week, which ends on Sunday');
SELECT is(schedule(:'other'), '2026-12-01 t', 'where it is November, November');
SELECT is(asks_books($$SELECT string_agg(concat_ws(' ', s.id, s.name, s.every, s.next_on, s.enabled), ', ' ORDER BY s.id) FROM ringfence_v1.export_schedules AS s$$),
	format('%s sales month 2026-11-01 t, %s sales week 2026-11-02 t', :'monthly', :'weekly'), 'whoever scheduled them sees them');
SELECT is(asks(:'user_boss', :'org_a', 'SELECT count(*) FROM ringfence_v1.export_schedules'), '2', 'so does the owner');
SELECT is(asks(:'user_other', :'org_a', 'SELECT count(*) FROM ringfence_v1.export_schedules'), '0', 'and nobody else');
SELECT is(asks(:'user_boss', :'org_a', 'SELECT requested_as FROM ringfence_data.export_schedules'), '42501 permission denied for table export_schedules', 'as whom nobody reads');
CALL at('2026-11-01 06:59:59.999999+00');
SELECT is(steps(), 0, 'October is not over');
CALL at('2026-11-01 07:00+00');
SELECT is(steps(), 4, 'then it is exported');
SELECT results_eq('SELECT started()', $$VALUES ('Tenant A sales-ledger-2026-10-01--2026-10-31.csv 2026-10-01 2026-10-31 done 31')$$, 'all of its days');
SELECT is(schedule(:'monthly'), '2026-12-01 t', 'November is next');
SELECT is((SELECT concat_ws(' ', l.user_id, l.new ->> 'requested_by', l.new ->> 'schedule') FROM ringfence_data.audit_log AS l WHERE l.action = 'export.requested'), concat_ws(' ', :'user_books', :'monthly'), 'the audit log has it from the job, for whom and why');
CALL at('2026-11-02 07:59:59.999999+00');
SELECT is(steps(), 0, 'the week ends with winter time');
CALL at('2026-11-02 08:00+00');
SELECT steps() \g /dev/null
SELECT results_eq('SELECT started()', $$VALUES ('Tenant A sales-ledger-2026-10-26--2026-11-01.csv 2026-10-26 2026-11-01 done 7')$$, 'and has seven days');
SELECT is(left(whole((SELECT s.last_export::text FROM ringfence_data.export_schedules AS s WHERE s.id = :'weekly')), 7), 'id;day;', 'as its options say');
SELECT is(asks_books(format('SELECT ringfence_v1.unschedule_export(%L)', :'weekly')), '', 'whoever scheduled it ends it');
CALL at('2027-02-01 07:59:59+00');
SELECT steps() \g /dev/null
SELECT set_eq('SELECT started()', $$VALUES
	('Tenant A sales-ledger-2026-11-01--2026-11-30.csv 2026-11-01 2026-11-30 done 30'), ('Tenant A sales-ledger-2026-12-01--2026-12-31.csv 2026-12-01 2026-12-31 done 31'),
	('Tenant B sales-ledger-2026-11-01--2026-11-30.csv 2026-11-01 2026-11-30 done 30'), ('Tenant B sales-ledger-2026-12-01--2026-12-31.csv 2026-12-01 2026-12-31 done 31'),
	('Tenant B sales-ledger-2027-01-01--2027-01-31.csv 2027-01-01 2027-01-31 done 31')$$, 'months that were slept through are made up for, each where it has ended');
SELECT schedules($$'everything', 'month'$$) AS everything \gset
CALL at('2027-02-01 08:00+00');
SELECT steps() \g /dev/null
SELECT set_eq('SELECT started()', $$VALUES ('Tenant A sales-ledger-2027-01-01--2027-01-31.csv 2027-01-01 2027-01-31 done 31'), ('Tenant A everything-2027-02-01.csv done 666')$$, 'what has no range is exported whole');

-- What can't be started.

CALL at('2027-03-01 08:00+00');
UPDATE ringfence_data.orgs SET settings = '{"time_zone": "Mars/Base"}' WHERE id = :'org_b';
SELECT is(asks(:'user_b', :'org_b', $$SELECT ringfence_v1.schedule_export('sales', 'month')$$), '22023 time zone "Mars/Base" not recognized', 'a time zone is one');
SELECT asks_books(starts()) FROM generate_series(1, 10) \g /dev/null
SELECT steps(3) \g /dev/null
SELECT is(ARRAY[schedule(:'monthly'), schedule(:'everything'), schedule(:'other')], ARRAY['2027-03-01 t PT429: too many exports are under way', '2027-03-01 t PT429: too many exports are under way',
	'2027-03-01 t 22023: time zone "Mars/Base" not recognized'], 'what comes in between is noted');
SELECT steps() \g /dev/null
SELECT is((SELECT count(*) FROM started()), 10::bigint, 'the others are written, and nothing is started in that minute');
CALL at('2027-03-01 08:00:59+00');
SELECT is(steps(), 0, 'nor before its end');
CALL at('2027-03-01 08:01+00');
SELECT steps() \g /dev/null
SELECT set_eq('SELECT started()', $$VALUES ('Tenant A sales-ledger-2027-02-01--2027-02-28.csv 2027-02-01 2027-02-28 done 28'), ('Tenant A everything-2027-03-01.csv done 666')$$,
	'then it is, of the days that it was for');
UPDATE ringfence_data.orgs SET settings = '{}' WHERE id = :'org_b';
CALL at('2027-03-01 08:59:59+00');
SELECT is(steps(), 0, 'what can''t be for another reason waits an hour');
CALL at('2027-03-01 09:00+00');
-- As an erasure does.
SELECT dblink_connect('eraser', format('dbname=%s user=postgres', current_database())), dblink_exec('eraser', 'BEGIN'),
	dblink_exec('eraser', format('DO $$BEGIN PERFORM ringfence.lock_exports(%L); END$$', :'org_b')) \g /dev/null
SELECT is(step(), '1', 'the job goes on while an erasure is under way');
SELECT is(schedule(:'other'), '2027-03-01 t 55P03: canceling statement due to lock timeout', 'but for two seconds');
SELECT dblink_disconnect('eraser') \g /dev/null
CALL at('2027-03-01 09:01+00');
SELECT steps() \g /dev/null
SELECT set_eq('SELECT started()', $$VALUES ('Tenant B sales-ledger-2027-02-01--2027-02-28.csv 2027-02-01 2027-02-28 done 28')$$, 'and is started then');
SELECT is(ARRAY[schedule(:'monthly'), schedule(:'everything'), schedule(:'other')], '{2027-04-01 t,2027-04-01 t,2027-04-01 t}', 'and that is all');
UPDATE ringfence_data.orgs SET status = 'suspended' WHERE id = :'org_a';
UPDATE ringfence_data.orgs SET status = 'closed' WHERE id = :'org_b';
CALL at('2027-04-02 00:00+00');
SELECT is(steps(), 0, 'for an organization that is suspended or closed nothing is started');
SELECT is(ARRAY[schedule(:'monthly'), schedule(:'other')], '{2027-04-01 t,2027-04-01 t}', 'its schedules stay');
UPDATE ringfence_data.orgs SET status = 'active' WHERE id IN (:'org_a', :'org_b');
SELECT steps() \g /dev/null
SELECT is((SELECT count(*) FROM started()), 3::bigint, 'until it is back');

-- Who has lost the right.

SELECT schedules($$'sold', 'month'$$) AS sold \gset
SELECT asks(:'user_books', :'org_a', $$SELECT ringfence_v1.schedule_export('sold', 'week')$$, '{"roles": ["books"]}') AS narrow \gset
UPDATE ringfence_data.memberships SET roles = '{books}' WHERE org_id = :'org_a' AND user_id = :'user_books';
CALL at('2027-05-03 12:00+00');
SELECT steps() \g /dev/null
SELECT is(ARRAY[schedule(:'monthly'), schedule(:'everything'), schedule(:'sold')], array_fill('2027-05-01 f 42501: who asked for the export no longer has the roles that it was asked for with'::text, '{3}'),
	'a member who is less than they were exports nothing that they scheduled');
SELECT is(schedule(:'narrow'), '2027-05-10 t', 'but what a token asked for that had no more');
UPDATE ringfence_data.memberships SET roles = '{books,clerk}' WHERE org_id = :'org_a' AND user_id = :'user_books';
CALL at('2027-06-02 12:00+00');
SELECT steps() \g /dev/null
SELECT is(schedule(:'monthly'), '2027-05-01 f 42501: who asked for the export no longer has the roles that it was asked for with', 'for good');
SELECT is(asks(:'user_boss', :'org_a', format('SELECT s.enabled || s.last_error FROM ringfence_v1.export_schedules AS s WHERE s.id = %L', :'monthly')), 'false42501: who asked for the export no longer has the roles that it was asked for with', 'which the owner sees');
DELETE FROM ringfence_data.memberships WHERE org_id = :'org_a' AND user_id = :'user_books';
SELECT ringfence.undeclare_export('sales') \g /dev/null
CALL at('2027-08-02 12:00+00');
SELECT steps() \g /dev/null
SELECT is(schedule(:'narrow'), '2027-06-07 f 42501: who asked for the export is no longer a member of the organization', 'nor for who has left');
SELECT is(schedule(:'other'), '2027-07-01 f 42704: the export is not declared any more', 'nor what is not declared any more');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES (:'org_a', :'user_books', '{books,clerk}');

-- Refusals.

SELECT is(schedules(arguments), answer, arguments) FROM (VALUES
	($$'sold', 'day'$$, '22023 invalid period of a schedule'), ($$'sold', NULL$$, '22023 invalid period of a schedule'), ($$'none', 'week'$$, 'PT404 export not found'),
	($$'sold', 'week', 'xml'$$, '22023 invalid format of an export'), ($$'sold', 'week', options => '{"delimiter": "ab"}'$$, '22023 invalid delimiter of a CSV'),
	($$'sold', 'week; DROP TABLE shop.sales'$$, '22023 invalid period of a schedule')) AS v (arguments, answer);
SELECT is(asks(:'user_clerk', :'org_a', $$SELECT ringfence_v1.schedule_export('sold', 'week')$$), '42501 permission denied for this export', 'who may not have it does not schedule it');
SELECT is(asks(usr, org, format('SELECT ringfence_v1.unschedule_export(%L)', id)), 'PT404 schedule not found', 'nobody ends another''s schedule, or another organization''s')
FROM (VALUES (:'user_other'::uuid, :'org_a'::uuid, :'monthly'), (:'user_boss', :'org_a', :'other'), (:'user_boss', :'org_a', :'unknown')) AS v (usr, org, id);
SELECT is(asks(:'user_boss', :'org_a', format('SELECT ringfence_v1.unschedule_export(%L)', :'monthly')), '', 'but the owner');
SELECT schedules($$'sold', 'week'$$) FROM generate_series(1, 47) \g /dev/null
SELECT is((SELECT count(*) FROM ringfence_data.export_schedules WHERE org_id = :'org_a'), 50::bigint, 'fifty of an organization');
SELECT is(schedules($$'sold', 'week'$$), 'PT429 too many exports are scheduled', 'are all');

SELECT dblink_disconnect('job') \g /dev/null
SELECT * FROM finish();
