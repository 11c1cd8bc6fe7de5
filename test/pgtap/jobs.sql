-- Jobs: each runs as ringfence_jobs, in transactions of its own, as often as it
-- should, with a heartbeat before and after; one that fails, hangs, is cancelled or
-- has lost its function is known by it, and keeps no other from running. Who may
-- not run jobs can't, and what is run is nobody's to put in place.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SELECT plan(138);

CREATE ROLE regress_cron LOGIN IN ROLE ringfence_jobs;
CREATE ROLE regress_job_owner;
CREATE FUNCTION pg_temp.connect(name text, username text, more text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dblink_connect(name, format('dbname=%L host=%L port=%L user=%s options=''-c client_min_messages=error -c statement_timeout=60s -c ringfence.retention_rest=0 %s''',
		current_database(), split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), username, more));
END
$$;
SELECT pg_temp.connect('cron', 'regress_cron'), pg_temp.connect('su', 'postgres') \g /dev/null
-- Calls at the top level of a session: in a function nothing can commit.
CREATE FUNCTION call(statement text, connection text DEFAULT 'cron') RETURNS text LANGUAGE sql AS $$ SELECT dblink_exec(connection, statement) $$;
CREATE FUNCTION beat(job text) RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(' ', s.state, s.failures, s.last_error) FROM ringfence.job_status() AS s WHERE s.job = beat.job $$;

-- throws_ok() lets a cancellation pass.
CREATE FUNCTION cancelled(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'no';
EXCEPTION WHEN query_canceled THEN
	RETURN SQLERRM;
END $$;

-- What core registers.

SELECT set_eq('SELECT s.job FROM ringfence.job_status() AS s WHERE s.command ~ ''^ringfence''',
	ARRAY['audit_seal', 'expire_pending', 'exports', 'ledger_seal', 'org_deletion', 'partitions', 'purge_idempotency_keys', 'retention', 'retention_stats'],
	'core has its jobs');
SELECT is_empty('SELECT s.job FROM ringfence.job_status() AS s WHERE NOT s.command_exists OR s.state <> ''never ran'' OR s.stale', 'each has its function, and none ran yet');
SELECT is((SELECT count(DISTINCT s.description) FROM ringfence.job_status() AS s), (SELECT count(*) FROM ringfence.job_status() AS s), 'each says what it does');
SELECT is(ringfence.audit_key_usable(), true, 'this server has a key to seal with');
SELECT lives_ok('SELECT call(''CALL ringfence.run_jobs()'')', 'they run, as a member of ringfence_jobs');
SELECT is_empty('SELECT s.job, s.last_error FROM ringfence.job_status() AS s WHERE s.state <> ''succeeded'' OR s.failures > 0 OR s.pid IS NOT NULL OR s.last_succeeded_at IS NULL',
	'and all succeed');
SELECT is((SELECT count(*) FROM ringfence.verify() AS v WHERE v.code ~ '^job'), 0::bigint, 'which leaves verify() nothing to say');
SELECT ringfence.enable_job(s.job, false) FROM ringfence.job_status() AS s \g /dev/null
SELECT is((SELECT string_agg(DISTINCT s.state, ', ') FROM ringfence.job_status() AS s), 'disabled', 'they can be disabled');

-- How one runs.

CREATE TABLE public.ran (n integer GENERATED ALWAYS AS IDENTITY, job text, role name DEFAULT current_user, path text DEFAULT current_setting('search_path'),
	xid xid8 DEFAULT pg_current_xact_id(), setting text);
GRANT SELECT, INSERT, DELETE ON public.ran TO ringfence_jobs;
CREATE FUNCTION public.once() RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran (job, setting) VALUES ('once', current_setting('lock_timeout')) $$;
CREATE FUNCTION public.thrice() RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.ran (job) VALUES ('thrice');
	RETURN 3 - (SELECT count(*) FROM public.ran WHERE job = 'thrice');
END $$;
CREATE FUNCTION public.forever(batch integer DEFAULT 1, max_seconds integer DEFAULT NULL) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.ran (job, setting) VALUES ('forever', max_seconds);
	PERFORM pg_sleep(0.2);
	RETURN true;
END $$;
CREATE FUNCTION public.fails() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.ran (job) VALUES ('fails');
	RETURN 1 / (SELECT count(*) FROM public.ran WHERE job = 'mended');
END $$;
CREATE FUNCTION public.hangs() RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(600) $$;

SELECT lives_ok($$SELECT ringfence.register_job('once', 'public.once()', '1 hour', '5 * * * *', '1 day', false, 'runs once')$$, 'a job is registered');
SELECT results_eq($$SELECT s.command, s.every, s.cron, s.stale_after, s.description, s.state FROM ringfence.job_status() AS s WHERE s.job = 'once'$$,
	$$VALUES ('public.once()', interval '1 hour', '5 * * * *', interval '1 day', 'runs once', 'never ran')$$, 'as it was said');
SELECT call('CALL ringfence.run_job(''once'')') \g /dev/null
SELECT results_eq('SELECT role, path, setting FROM ran', $$VALUES ('ringfence_jobs'::name, 'pg_catalog, pg_temp', '500ms')$$,
	'and runs as ringfence_jobs, with its settings, whoever logged in');
SELECT is(beat('once'), 'succeeded 0', 'which is on record');
SELECT is((SELECT s.last_started_at <= s.last_finished_at AND s.last_finished_at = s.last_succeeded_at FROM ringfence.job_status() AS s WHERE s.job = 'once'), true, 'with its times');
SELECT call('CALL ringfence.run_job(''once'')') \g /dev/null
SELECT is((SELECT count(*) FROM ran), 2::bigint, 'run_job() runs it whether it is due or not');

SELECT ringfence.register_job('thrice', 'public.thrice()', '1 minute', repeats => true) \g /dev/null
SELECT call('CALL ringfence.run_job(''thrice'')') \g /dev/null
SELECT results_eq($$SELECT count(*), count(DISTINCT xid) FROM ran WHERE job = 'thrice'$$, 'VALUES (3::bigint, 3::bigint)',
	'one that repeats is called until it returns 0, each time in a transaction of its own');
DELETE FROM ran;
SELECT ringfence.register_job('thrice', 'public.thrice()', '1 minute') \g /dev/null
SELECT call('CALL ringfence.run_job(''thrice'')') \g /dev/null
SELECT is((SELECT count(*) FROM ran), 1::bigint, 'and one that does not, once');
SELECT is((SELECT array_agg(s.cron) FROM ringfence.job_status() AS s WHERE s.job = 'thrice'), '{"* * * * *"}', 'one without a schedule gets that of its interval');

SELECT ringfence.register_job('forever', 'public.forever(integer,integer)', '1 hour', repeats => true) \g /dev/null
SELECT call('CALL ringfence.run_job(''forever'', 1)') \g /dev/null
SELECT is((SELECT count(*) BETWEEN 2 AND 5 FROM ran WHERE job = 'forever'), true, 'when the time is up it ends, though there were more to do');
SELECT is((SELECT array_agg(DISTINCT r.setting) FROM ran AS r WHERE r.job = 'forever'), '{1}', 'a parameter max_seconds gets the time that is left');
SELECT is((SELECT s.unfinished FROM ringfence.job_status() AS s WHERE s.job = 'forever'), true, 'that more is to be done is on record');
SELECT is(dblink_exec('su', 'SET ROLE ringfence_jobs'), 'SET', 'who asks');
SELECT results_eq($$SELECT due FROM dblink('su', 'SELECT unnest(ringfence.due_jobs())') AS d (due text)$$, ARRAY['forever'], 'so that it is due again at once, as no other is');
SELECT call('RESET ROLE', 'su') \g /dev/null
SELECT ringfence.unregister_job('forever') \g /dev/null

-- When they are due.

SELECT ringfence.register_job('thrice', 'public.thrice()', '1 minute', repeats => true) \g /dev/null
SELECT call('CALL ringfence.run_jobs()') \g /dev/null
DELETE FROM ran;
SELECT call('CALL ringfence.run_jobs()') \g /dev/null
SELECT is((SELECT count(*) FROM ran), 0::bigint, 'run_jobs() runs none that is not due');
SELECT call(format('SET ringfence.retention_clock = %L', clock_timestamp() + interval '55 seconds'), 'su') \g /dev/null
SELECT call('CALL ringfence.run_jobs()', 'su') \g /dev/null
SELECT is((SELECT string_agg(DISTINCT job, ', ') FROM ran), 'thrice', 'a timer that is some seconds early skips no minute');
DELETE FROM ran;
SELECT call(format('SET ringfence.retention_clock = %L', clock_timestamp() + interval '61 minutes'), 'su') \g /dev/null
SELECT call('CALL ringfence.run_jobs()', 'su') \g /dev/null
SELECT is((SELECT string_agg(DISTINCT job, ', ' ORDER BY job) FROM ran), 'once, thrice', 'after an hour both are due');
SELECT call('RESET ringfence.retention_clock', 'su') \g /dev/null

-- Errors.

SELECT ringfence.register_job('fails', 'public.fails()', '1 second', repeats => true), ringfence.enable_job('once', false), ringfence.enable_job('thrice', false),
	ringfence.register_job('after', 'public.once()', '1 second') \g /dev/null
DELETE FROM ran;
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''fails'''')'')', 'P0001', 'job "fails" failed', 'an error of a job is one of the call');
SELECT is(beat('fails'), 'failed 1 22012: division by zero', 'and on record');
SELECT is((SELECT count(*) FROM ran), 0::bigint, 'what it did is undone');
UPDATE ringfence_data.job_heartbeats SET last_started_at = NULL WHERE job = 'fails';
SELECT throws_ok('SELECT call(''CALL ringfence.run_jobs()'')', 'P0001', 'jobs failed: fails', 'run_jobs() names the jobs that failed');
SELECT is((SELECT string_agg(job, ', ') FROM ran), 'once', 'after the others have run');
SELECT is(beat('fails'), 'failed 2 22012: division by zero', 'failures in a row are counted');
SELECT is((SELECT s.last_succeeded_at IS NULL AND s.last_failed_at = s.last_finished_at FROM ringfence.job_status() AS s WHERE s.job = 'fails'), true, 'with the time of the last one');
SELECT is((SELECT count(*) FROM ringfence.verify() AS v WHERE v.code = 'job_failing'), 0::bigint, 'two are no finding');
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''fails'''')'')', 'P0001', 'job "fails" failed', 'it fails again');
SELECT results_eq('SELECT v.severity, v.object, v.message FROM ringfence.verify() AS v WHERE v.code = ''job_failing''',
	$$VALUES ('warning', 'fails', 'the job failed 3 times in a row, last with: 22012: division by zero')$$, 'three are');
INSERT INTO ran (job) VALUES ('mended');
SELECT ringfence.register_job('fails', 'public.fails()', '1 second') \g /dev/null
SELECT lives_ok('SELECT call(''CALL ringfence.run_job(''''fails'''')'')', 'until it succeeds');
SELECT is(beat('fails'), 'succeeded 0 22012: division by zero', 'which ends the count; the last error stays to be read');
SELECT is((SELECT count(*) FROM ringfence.verify() AS v WHERE v.code ~ '^job'), 0::bigint, 'and the finding');
SELECT ringfence.unregister_job('fails'), ringfence.unregister_job('after') \g /dev/null
CREATE FUNCTION public.asserts() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'told %', repeat('x', 2000) USING ERRCODE = 'PT409'; END $$;
SELECT ringfence.register_job('asserts', 'public.asserts()', '1 hour') \g /dev/null
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''asserts'''')'')', 'P0001', 'job "asserts" failed', 'whatever the error');
SELECT is((SELECT length(s.last_error) FROM ringfence.job_status() AS s WHERE s.job = 'asserts'), 1000, 'a long one is cut');
SELECT ringfence.unregister_job('asserts') \g /dev/null

-- One that hangs, or comes to no end.

SELECT ringfence.register_job('hangs', 'public.hangs()', '1 minute', stale_after => '2 minutes') \g /dev/null
SELECT pg_temp.connect('hung', 'regress_cron') \g /dev/null
SELECT dblink_send_query('hung', 'CALL ringfence.run_job(''hangs'')') \g /dev/null
CREATE FUNCTION await(condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE met boolean;
BEGIN
	FOR i IN 1 .. 600 LOOP
		EXECUTE 'SELECT ' || condition INTO met;
		PERFORM pg_stat_clear_snapshot();
		EXIT WHEN met;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RETURN met;
END $$;
SELECT ok(await($$beat('hangs') = 'running 0' AND (SELECT a.wait_event FROM pg_stat_activity AS a JOIN ringfence.job_status() AS s ON s.pid = a.pid WHERE s.job = 'hangs') = 'PgSleep'$$),
	'a job that runs says so, and in which process');
SELECT is(call('CALL ringfence.run_job(''hangs'')'), 'CALL', 'who comes second leaves');
SELECT is((SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'regress_cron'), 1::bigint, 'and runs nothing');
SELECT is(beat('hangs'), 'running 0', 'the heartbeat is the first one''s');
SELECT is(call('CALL ringfence.run_jobs()'), 'CALL', 'run_jobs() passes over it');
SELECT call(format('SET ringfence.retention_clock = %L', clock_timestamp() + interval '3 minutes'), 'su') \g /dev/null
CREATE FUNCTION findings() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT f FROM dblink('su', 'SELECT concat_ws('' '', v.severity, v.code, v.object, regexp_replace(v.message, ''process .*'', ''process ...'')) FROM ringfence.verify() AS v WHERE v.code ~ ''^job'' ORDER BY 1') AS d (f text)
$$;
SELECT results_eq('SELECT findings()', ARRAY['warning job_stale hangs the job has not succeeded for more than 00:02:00: it is running in process ...'],
	'after some time verify() names it');
SELECT call('RESET ringfence.retention_clock', 'su') \g /dev/null
SELECT dblink_cancel_query('hung') \g /dev/null
SELECT is(cancelled('SELECT * FROM dblink_get_result(''hung'') AS r (t text)'), 'canceling statement due to user request', 'it can be cancelled');
SELECT dblink_disconnect('hung') \g /dev/null
SELECT ok(await($$beat('hangs') = 'interrupted 0'$$), 'then its heartbeat has no end, and its process is gone');
CREATE OR REPLACE FUNCTION public.hangs() RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT is(call('CALL ringfence.run_job(''hangs'')'), 'CALL', 'the next run goes ahead');
SELECT matches(beat('hangs'), '^succeeded 0 the run in process \d+ came to no end: it was cancelled, or its session or the server stopped$', 'and tells of the one before');
CREATE OR REPLACE FUNCTION public.hangs() RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(600) $$;
SELECT call('SET statement_timeout = ''300ms''') \g /dev/null
SELECT is(cancelled('SELECT call(''CALL ringfence.run_job(''''hangs'''')'')'), 'canceling statement due to statement timeout', 'a timeout of the login cancels the whole call');
SELECT call('SET statement_timeout = ''60s''') \g /dev/null
CREATE OR REPLACE FUNCTION public.hangs() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'again'; END $$;
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''hangs'''')'')', 'P0001', 'job "hangs" failed', 'in the same session the lock is free again');
SELECT is(beat('hangs'), 'failed 2 P0001: again', 'both runs have failed');
SELECT ringfence.unregister_job('hangs') \g /dev/null

-- A function that is gone, or another's.

CREATE FUNCTION public.comes_and_goes() RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran (job) VALUES ('comes and goes') $$;
SELECT ringfence.register_job('goes', 'public.comes_and_goes()', '1 hour') \g /dev/null
DROP FUNCTION public.comes_and_goes();
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''goes'''')'')', 'P0001', 'job "goes" failed', 'a job whose function was dropped fails');
SELECT is(beat('goes'), 'failed 1 42883: function public.comes_and_goes() does not exist', 'and says why');
SELECT results_eq('SELECT findings()', ARRAY['warning job_command_missing goes the job''s function is gone: public.comes_and_goes()'], 'as verify() does');
CREATE FUNCTION public.comes_and_goes() RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran (job) VALUES ('planted') $$;
ALTER FUNCTION public.comes_and_goes() OWNER TO regress_job_owner;
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''goes'''')'')', 'P0001', 'job "goes" failed', 'what others put in its place is not run');
SELECT is(beat('goes'), 'failed 2 42501: public.comes_and_goes() belongs to role "regress_job_owner"', 'nor trusted');
SELECT is((SELECT count(*) FROM ran WHERE job = 'planted'), 0::bigint, 'in no way');
ALTER FUNCTION public.comes_and_goes() OWNER TO postgres;
CREATE FUNCTION public.comes_and_goes(n integer DEFAULT 1) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''goes'''')'')', 'P0001', 'job "goes" failed', 'nor is it called where another has its name');
SELECT is(beat('goes'), 'failed 3 42725: public.comes_and_goes() cannot be a job', 'for which would be called is not certain');
DROP FUNCTION public.comes_and_goes(integer);
REVOKE EXECUTE ON FUNCTION public.comes_and_goes() FROM PUBLIC;
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''goes'''')'')', 'P0001', 'job "goes" failed', 'without the right to it');
SELECT is(beat('goes'), 'failed 4 42501: role "ringfence_jobs" may not execute public.comes_and_goes()', 'it says so');
GRANT EXECUTE ON FUNCTION public.comes_and_goes() TO ringfence_jobs;
SELECT is(call('CALL ringfence.run_job(''goes'')'), 'CALL', 'the same function again, made anew, is the same job');
SELECT ringfence.unregister_job('goes') \g /dev/null

-- What can be registered.

CREATE FUNCTION public.needs(n integer) RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION public.many() RETURNS SETOF integer LANGUAGE sql AS $$ SELECT 1 $$;
CREATE PROCEDURE public.proc() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
CREATE FUNCTION public.theirs() RETURNS void LANGUAGE sql AS $$ SELECT $$;
ALTER FUNCTION public.theirs() OWNER TO regress_job_owner;
SELECT throws_ok(format('SELECT ringfence.register_job(%s)', e.arguments), e.state, e.message, e.name)
FROM (VALUES
	('''a'', ''public.needs(integer)'', ''1 hour''', '42809', 'public.needs(integer) cannot be a job', 'a function that needs arguments is no job'),
	('''a'', ''public.many()'', ''1 hour''', '42809', 'public.many() cannot be a job', 'nor one that returns a set'),
	('''a'', ''public.proc()'', ''1 hour''', '42809', 'public.proc() cannot be a job', 'nor a procedure'),
	('''a'', ''public.theirs()'', ''1 hour''', '42501', 'public.theirs() belongs to role "regress_job_owner"', 'nor what belongs to others'),
	('''a'', ''public.nothing()'', ''1 hour''', '42883', 'function "public.nothing()" does not exist', 'nor what does not exist'),
	('''O''''Brien'', ''public.once()'', ''1 hour''', '22023', 'invalid job "O''Brien"', 'a name has no quotes'),
	('repeat(''a'', 64), ''public.once()'', ''1 hour''', '22023', 'invalid job "' || repeat('a', 64) || '"', 'and no more than 63 letters'),
	('''a'', ''public.once()'', ''0''', '22023', 'invalid job "a"', 'an interval is more than nothing'),
	('''a'', ''public.once()'', ''1 hour'', ''hourly''', '22023', 'invalid job "a"', 'a schedule has five fields'),
	('''a'', ''public.once()'', ''1 hour'', E''* * * * *\n''', '22023', 'invalid job "a"', 'and nothing else'),
	('''a'', ''public.once()'', ''1 hour'', stale_after => ''1 hour''', '22023', 'invalid job "a"', 'it isn''t stale before it is due'),
	('''a'', ''pg_catalog.pg_notification_queue_usage()'', ''1 hour''', '42809', 'pg_notification_queue_usage() cannot be a job', 'nor what does nothing of ours'),
	('NULL, ''public.once()'', ''1 hour''', '22004', 'job, command and interval must be given', 'nothing may be left out')
) AS e (arguments, state, message, name);
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''nothing'''')'')', '42704', 'job "nothing" does not exist', 'a job that is not registered can''t be run');
SELECT throws_ok('SELECT ringfence.enable_job(''nothing'')', '42704', 'job "nothing" does not exist', 'nor enabled');
SELECT is(ringfence.unregister_job('nothing'), false, 'nor forgotten');
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''once'''')'')', '55000', 'job "once" is disabled', 'one that is disabled is not run');
SELECT ringfence.register_job('once', 'public.once()', '1 hour') \g /dev/null
SELECT is(beat('once'), 'disabled 0', 'and stays so when it is registered again');

-- The database's owner has jobs of their own, and doesn't change others under their names.

CREATE ROLE regress_job_dba IN ROLE ringfence_jobs;
SELECT pg_catalog.pg_get_userbyid(d.datdba) AS owner FROM pg_database AS d WHERE d.datname = current_database() \gset
ALTER DATABASE :DBNAME OWNER TO regress_job_dba;
SET SESSION AUTHORIZATION regress_job_dba;
CREATE SCHEMA IF NOT EXISTS dba;
CREATE FUNCTION dba.nothing() RETURNS void LANGUAGE sql AS $$ SELECT $$;
GRANT USAGE ON SCHEMA dba TO ringfence_owner, ringfence_jobs;
SELECT throws_ok($$SELECT ringfence.register_job('audit_seal', 'dba.nothing()', '1 hour')$$, '42501', 'permission denied for job "audit_seal"', 'who owns the database does not replace sealing');
SELECT throws_ok($$SELECT ringfence.unregister_job('audit_seal')$$, '42501', 'permission denied for job "audit_seal"', 'or take it away');
SELECT throws_ok($$SELECT ringfence.register_job('expire_sessions', 'dba.nothing()', '1 hour')$$, '42501', 'permission denied for job "expire_sessions"', 'nor a job of an app');
SELECT lives_ok($$SELECT ringfence.register_job('mine', 'dba.nothing()', '1 hour')$$, 'but registers others');
SELECT lives_ok($$SELECT ringfence.register_job('mine', 'dba.nothing()', '2 hours')$$, 'and changes those');
SELECT is(ringfence.unregister_job('mine'), true, 'and takes them away');
RESET SESSION AUTHORIZATION;
DROP SCHEMA dba CASCADE;
ALTER DATABASE :DBNAME OWNER TO :owner;
DROP OWNED BY regress_job_dba;
DROP ROLE regress_job_dba;
SELECT is((SELECT s.command FROM ringfence.job_status() AS s WHERE s.job = 'audit_seal'), 'ringfence.audit_seal_if_keyed()', 'the log is sealed as ever');
SELECT lives_ok($$SELECT ringfence.register_job('audit_seal', 'ringfence.audit_seal_if_keyed()', '1 minute', '* * * * *', '15 minutes', false, 'seals the audit log')$$,
	'a superuser may change it');

-- Retention that fails in part is a job that failed, whatever else it did.

CREATE TABLE public.poison (id integer PRIMARY KEY, at timestamptz NOT NULL);
CREATE INDEX ON public.poison (at);
INSERT INTO public.poison (id, at) SELECT n, '2020-01-01' FROM generate_series(1, 3) AS n;
CREATE FUNCTION public.refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '22000'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON public.poison FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION public.refuse_poison();
SELECT ringfence.retain('public.poison', 'at', '1 day'), ringfence.enable_job('retention') \g /dev/null
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''retention'''')'')', 'P0001', 'job "retention" failed', 'retention that fails in part fails');
SELECT is((SELECT count(*) FROM public.poison), 1::bigint, 'though it does what it can');
SELECT is(beat('retention'), 'failed 1 public.poison, delete: 22000: not this one', 'the heartbeat tells');
SELECT call('UPDATE ringfence_data.job_heartbeats SET last_started_at = NULL WHERE job = ''retention''', 'su') \g /dev/null
SELECT throws_ok('SELECT call(''CALL ringfence.run_jobs()'')', 'P0001', 'jobs failed: retention', 'and run_jobs()');
SELECT throws_ok('SELECT call(''CALL ringfence.run_job(''''retention'''')'')', 'P0001', 'job "retention" failed', 'once more');
SELECT results_eq('SELECT v.object, v.message FROM ringfence.verify() AS v WHERE v.code = ''job_failing''',
	$$VALUES ('retention', 'the job failed 3 times in a row, last with: public.poison, delete: 22000: not this one')$$, 'and verify() names it');
DROP TRIGGER refuse ON public.poison;
SELECT is(call('CALL ringfence.run_job(''retention'')'), 'CALL', 'when nothing is in the way');
SELECT is((SELECT count(*) FROM public.poison), 0::bigint, 'it does the rest');
SELECT is((SELECT s.state FROM ringfence.job_status() AS s WHERE s.job = 'retention'), 'succeeded', 'and succeeds');
SELECT ringfence.enable_job('retention', false), ringfence.unretain('public.poison') \g /dev/null

-- Who may.

SELECT throws_ok('SELECT call(''BEGIN; CALL ringfence.run_jobs()'')', '2D000', 'invalid transaction termination', 'jobs need transactions of their own');
SELECT call('ROLLBACK') \g /dev/null
SELECT ringfence.register_job('caught', 'public.once()', '1 hour') \g /dev/null
SELECT is(call('DO $$ BEGIN CALL ringfence.run_job(''caught''); EXCEPTION WHEN invalid_transaction_termination THEN NULL; END $$'), 'DO', 'who catches that');
SELECT is(call('CALL ringfence.run_job(''caught'')', 'su'), 'CALL', 'has not kept the job for themselves');
SELECT is(beat('caught'), 'succeeded 0', 'it can be run');
SELECT ringfence.unregister_job('caught') \g /dev/null
SELECT pg_temp.connect('web', 'regress_web'), pg_temp.connect('operator', 'regress_operator') \g /dev/null
SELECT call('SET ROLE ringfence_member', 'web') \g /dev/null
SELECT throws_ok(format('SELECT call(%L, %L)', e.statement, e.connection), '42501', e.message, format('%s may not: %s', e.connection, e.statement))
FROM (VALUES
	('web', 'CALL ringfence.run_jobs()', 'permission denied for procedure run_jobs'),
	('web', 'CALL ringfence.run_job(''once'')', 'permission denied for procedure run_job'),
	('web', 'CALL ringfence.delete_orgs()', 'permission denied for procedure delete_orgs'),
	('web', 'DO $$ BEGIN PERFORM ringfence.job_status(); END $$', 'permission denied for function job_status'),
	('web', 'DO $$ BEGIN PERFORM ringfence.schedule(); END $$', 'permission denied for function schedule'),
	('web', 'UPDATE ringfence_data.job_heartbeats SET failures = 0', 'permission denied for table job_heartbeats'),
	('web', 'UPDATE ringfence_data.jobs SET command = ''public.theirs()''', 'permission denied for table jobs'),
	('operator', 'CALL ringfence.run_jobs()', 'permission denied for procedure run_jobs'),
	('cron', 'UPDATE ringfence_data.jobs SET command = ''public.theirs()''', 'permission denied for table jobs'),
	('cron', 'DO $$ BEGIN PERFORM ringfence.register_job(''a'', ''public.once()'', ''1 hour''); END $$', 'permission denied for function register_job')
) AS e (connection, statement, message);
SELECT is_empty($$
	SELECT p.oid::regprocedure
	FROM pg_proc AS p
	WHERE p.pronamespace = 'ringfence'::regnamespace AND p.proname ~ 'job|schedul|cron|org_deletion|delete_org|org_stage|org_table|org_batch|org_part'
		AND (has_function_privilege('ringfence_member', p.oid, 'EXECUTE') OR has_function_privilege('ringfence_anon', p.oid, 'EXECUTE'))
$$, 'no function of theirs is a tenant''s');

-- A path and operators of the caller's own change nothing.

CREATE SCHEMA evil;
CREATE TABLE evil.caught (what text);
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ INSERT INTO evil.caught VALUES ('clock_timestamp'); SELECT 'infinity'::timestamptz $$;
CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO evil.caught VALUES ('='); SELECT true $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same);
CREATE FUNCTION evil.negate(boolean) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO evil.caught VALUES ('late'); SELECT true $$;
CREATE FUNCTION evil.later(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO evil.caught VALUES ('>='); SELECT true $$;
CREATE OPERATOR evil.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.later);
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false);
GRANT USAGE ON SCHEMA evil TO PUBLIC;
GRANT INSERT ON evil.caught TO PUBLIC;
SELECT ringfence.enable_job('once'), ringfence.enable_job('thrice'), ringfence.register_job('thrice', 'public.thrice()', '1 second', repeats => true) \g /dev/null
DELETE FROM ran;
SELECT pg_temp.connect('evil', 'regress_cron', '-c search_path=evil,pg_catalog') \g /dev/null
SELECT is(call('CALL ringfence.run_job(''thrice'')', 'evil'), 'CALL', 'who brings a search_path of their own');
DELETE FROM ran;
UPDATE ringfence_data.job_heartbeats SET last_started_at = NULL WHERE job = 'thrice';
SELECT is(call('CALL ringfence.run_jobs()', 'evil'), 'CALL', 'has jobs run all the same');
SELECT is((SELECT count(*) FROM evil.caught), 0::bigint, 'and nothing else');
SELECT is((SELECT count(*) FROM ran WHERE job = 'thrice' AND path = 'pg_catalog, pg_temp'), 3::bigint, 'each step has the path that jobs have');

-- Findings.

SELECT results_eq('SELECT findings()', '{}'::text[], 'all is well');
SELECT call(format('SET ringfence.retention_clock = %L', clock_timestamp() + interval '1 day'), 'su') \g /dev/null
SELECT matches((SELECT string_agg(f, '; ') FROM findings() AS f),
	'^warning job_stale once the job has not succeeded for more than 03:10:00: since [^;]+; warning job_stale thrice the job has not succeeded for more than 00:10:03: since [^;]+$',
	'what did not run in time is named');
DELETE FROM ran;
SELECT is(call('CALL ringfence.run_jobs()', 'su'), 'CALL', 'until it does');
SELECT results_eq('SELECT findings()', '{}'::text[], 'then it is not');
SELECT call(format('SET ringfence.retention_clock = %L', clock_timestamp() + interval '23 hours'), 'su') \g /dev/null
UPDATE ringfence_data.job_heartbeats SET last_started_at = NULL, last_finished_at = NULL, last_succeeded_at = NULL, last_failed_at = NULL;
SELECT results_eq('SELECT findings()', '{}'::text[], 'where nothing ever ran, a day after the installation is soon enough');
SELECT call(format('SET ringfence.retention_clock = %L', clock_timestamp() + interval '25 hours'), 'su') \g /dev/null
SELECT results_eq('SELECT findings()', ARRAY[format('warning jobs_not_scheduled %s no job ever ran: nothing is sealed, expires or leaves on time', current_database()) COLLATE "default"],
	'and then it is said, once');
SELECT call('RESET ringfence.retention_clock', 'su') \g /dev/null

-- Without pg_cron.

SELECT throws_ok(format('SELECT * FROM ringfence.schedule(%L)', e.username), e.state, e.message, e.name)
FROM (VALUES
	('regress_nobody', '42704', 'role "regress_nobody" does not exist', 'a login must exist'),
	('ringfence_jobs', '55000', 'role "ringfence_jobs" cannot log in', 'and be able to log in'),
	('regress_operator', '55000', 'role "regress_operator" is not a member of role "ringfence_jobs"', 'as a member of ringfence_jobs')
) AS e (username, state, message, name);
-- Whether a membership is inherited is the role's in 15, the grant's later.
ALTER ROLE regress_cron NOINHERIT;
REVOKE ringfence_jobs FROM regress_cron;
GRANT ringfence_jobs TO regress_cron;
SELECT throws_ok('SELECT * FROM ringfence.schedule(''regress_cron'')', '55000', NULL, 'whose rights it inherits');
ALTER ROLE regress_cron INHERIT;
REVOKE ringfence_jobs FROM regress_cron;
GRANT ringfence_jobs TO regress_cron;
ALTER ROLE regress_cron SET statement_timeout = '10s';
SELECT throws_ok('SELECT * FROM ringfence.schedule(''regress_cron'')', '55000', 'the statement_timeout of role "regress_cron" would cancel jobs', 'with the time that jobs take');
SELECT ringfence.login_timeout('regress_cron') AS timeout \gset
SELECT is(:'timeout'::interval, interval '10 seconds', 'which is that of the role');
DO $$ BEGIN EXECUTE format('ALTER ROLE regress_cron IN DATABASE %I SET statement_timeout = ''2min''', current_database()); END $$;
SELECT is(ringfence.login_timeout('regress_cron'), interval '2 minutes', 'or that of the role in the database');
GRANT ringfence_authenticator TO regress_cron;
SELECT throws_ok('SELECT * FROM ringfence.schedule(''regress_cron'')', '55000', 'role "regress_cron" is what requests log in as', 'and not for requests as well');
REVOKE ringfence_authenticator FROM regress_cron;
SELECT throws_ok('SELECT * FROM ringfence.schedule(''regress_cron'', ''{once,nothing}'')', '42704', 'job "nothing" does not exist', 'a job to be left out must be one');
SELECT results_eq('SELECT s.job, s.schedule, s.command, s.scheduler, s.state FROM ringfence.schedule(''regress_cron'') AS s WHERE s.scheduler !~ ''^pg_cron''', $$VALUES
	(NULL, '* * * * *', 'psql -X -q -w -d ''dbname=pgtap_jobs user=regress_cron'' -c ''CALL ringfence.run_jobs()''', 'crontab', 'not scheduled'),
	(NULL, 'OnCalendar=minutely', 'ExecStart=/bin/sh -c "psql -X -q -w -d ''dbname=pgtap_jobs user=regress_cron'' -c ''CALL ringfence.run_jobs()''"', 'systemd', 'not scheduled')$$,
	'where pg_cron is not, it says what else to do');
SELECT is(ringfence.psql_command('o''b', 'SELECT ''%'''), $$psql -X -q -w -d 'dbname=pgtap_jobs user='\''o\'\''b'\''' -c 'SELECT '\''%'\'''$$, 'in quotes that a shell and libpq undo');
SELECT is(ringfence.unschedule(), 0, 'and there is nothing to unschedule');
SELECT is(ringfence.cron_command('retention', '1 hour'), 'CALL ringfence.run_job(''retention'', 2880)', 'pg_cron''s own calls last up to four fifths of the interval');
SELECT results_eq($$SELECT ringfence.cron_fields('x', e) FROM unnest('{1 second,1 minute,5 minutes,1 hour,7 days}'::interval[]) WITH ORDINALITY AS e (e, n) ORDER BY n$$,
	format($$VALUES ('* * * * *'), ('* * * * *'), ('*/5 * * * *'), ('%1$s * * * *'), ('%1$s 3 * * 0')$$, abs(hashtext('x')) % 60), 'schedules are those of intervals');

SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) AS c \g /dev/null
DO $$ BEGIN EXECUTE format('ALTER ROLE regress_cron IN DATABASE %I RESET ALL', current_database()); END $$;
DROP OWNED BY regress_cron, regress_job_owner;
DROP ROLE regress_cron, regress_job_owner;
SELECT * FROM finish();
