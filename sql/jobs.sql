-- Jobs: what has to be done again and again, when that was done last, and who
-- calls it: pg_cron by schedule(), or whatever can run a statement every minute.
-- All of it happens as ringfence_jobs, whoever logged in.

-- Written by jobs, and too often, or too much, for a record of it all in the audit
-- log, which has an event of what came of it.
CREATE FUNCTION ringfence.is_job_table(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce((
		SELECT n.nspname = 'ringfence_data' AND c.relname IN ('job_heartbeats', 'org_deletions', 'org_export_parts', 'exports', 'export_parts')
		FROM pg_catalog.pg_class AS c
		INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = rel
	), false);
END;
REVOKE EXECUTE ON FUNCTION ringfence.is_job_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_job_table(regclass) TO ringfence_owner, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_job_table(regclass) IS
	'whether a table is one in which jobs note how far they are, whose changes are not audited: job_heartbeats, org_deletions, org_export_parts, exports, export_parts';

-- A command is kept as text: pg_upgrade refuses columns that hold functions' OIDs,
-- and a function that was dropped and made again is the same job.
CREATE FUNCTION ringfence.job_function(command text) RETURNS oid
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
	SELECT p.oid
	FROM pg_proc AS p
	INNER JOIN pg_namespace AS n ON n.oid = p.pronamespace
	CROSS JOIN LATERAL pg_identify_object('pg_proc'::regclass, p.oid, 0) AS i
	WHERE starts_with(command, quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(') AND i.identity = command
$$;
REVOKE EXECUTE ON FUNCTION ringfence.job_function(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.job_function(text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.job_function(text) IS
	'the function of that identity ("ringfence.audit_seal()"), as pg_identify_object() writes it, or NULL';

-- Asked when a job is registered and again each time it runs: what may be run as
-- ringfence_jobs is nobody's to slip in later under the same name.
CREATE FUNCTION ringfence.check_job_function(fn oid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	proc pg_proc;
BEGIN
	SELECT p.* INTO proc FROM pg_proc AS p WHERE p.oid = fn;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the function of the job does not exist' USING ERRCODE = 'undefined_function';
	END IF;
	IF proc.pronamespace = 'pg_catalog'::regnamespace THEN
		RAISE EXCEPTION '% cannot be a job', fn::regprocedure
			USING ERRCODE = 'wrong_object_type', DETAIL = 'It is one of the server''s own functions.';
	ELSIF NOT (proc.prokind = 'f' AND NOT proc.proretset
		OR fn = 'ringfence.run_retention(integer,regclass,uuid)'::regprocedure) THEN
		RAISE EXCEPTION '% cannot be a job', fn::regprocedure
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'A job is a function that returns one value. An error in a procedure that commits could not be put on record.',
			HINT = 'Have a function do a part, return how much it did, and register it with repeats => true.';
	ELSIF proc.pronargs > proc.pronargdefaults THEN
		RAISE EXCEPTION '% cannot be a job', fn::regprocedure
			USING ERRCODE = 'wrong_object_type', DETAIL = 'It has parameters without a default.';
	ELSIF (SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = proc.pronamespace AND p.proname = proc.proname) > 1 THEN
		RAISE EXCEPTION '% cannot be a job', fn::regprocedure
			USING ERRCODE = 'ambiguous_function', DETAIL = 'There is another function of its name in the schema.';
	ELSIF NOT has_schema_privilege('ringfence_jobs', proc.pronamespace, 'USAGE')
		OR NOT has_function_privilege('ringfence_jobs', fn, 'EXECUTE') THEN
		RAISE EXCEPTION 'role "ringfence_jobs" may not execute %', fn::regprocedure
			USING ERRCODE = 'insufficient_privilege',
			HINT = format('GRANT USAGE ON SCHEMA %s and EXECUTE ON FUNCTION %s TO ringfence_jobs.',
				proc.pronamespace::regnamespace, fn::regprocedure);
	ELSIF proc.proowner <> 'ringfence_owner'::regrole AND NOT pg_has_role(proc.proowner, 'ringfence_jobs', 'MEMBER') THEN
		RAISE EXCEPTION '% belongs to role "%"', fn::regprocedure, proc.proowner::regrole
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'It would run as ringfence_jobs, whom row security does not hold.',
			HINT = 'A job''s function belongs to a superuser, to ringfence_owner or to a member of ringfence_jobs.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_job_function(oid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_job_function(oid) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.check_job_function(oid) IS
	'refuses what can be no job: 42883 if it does not exist, 42809 for a procedure, a set, required parameters or a function of pg_catalog, 42725 if its name is not its own, 42501 if ringfence_jobs may not execute it or its owner could not act as ringfence_jobs';

-- Not all at the full hour.
CREATE FUNCTION ringfence.cron_fields(job text, every interval) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE
	WHEN every < interval '2 minutes' THEN '* * * * *'
	WHEN every < interval '1 hour' THEN format('*/%s * * * *', floor(extract(epoch FROM every) / 60))
	WHEN every < interval '2 hours' THEN format('%s * * * *', abs(hashtext(job)) % 60)
	WHEN every < interval '1 day' THEN format('%s */%s * * *', abs(hashtext(job)) % 60, floor(extract(epoch FROM every) / 3600))
	WHEN every < interval '7 days' THEN format('%s 3 * * *', abs(hashtext(job)) % 60)
	WHEN every < interval '28 days' THEN format('%s 3 * * 0', abs(hashtext(job)) % 60)
	ELSE format('%s 3 1 * *', abs(hashtext(job)) % 60)
END;
REVOKE EXECUTE ON FUNCTION ringfence.cron_fields(text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.cron_fields(text, interval) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.cron_fields(text, interval) IS
	'the fields of a crontab line for a job that runs that often, if it brings none: at a minute that depends on its name';

-- Whoever could have another function run in place of audit_seal() could stop the log
-- from being sealed with all looking well.
CREATE FUNCTION ringfence.check_job_right(job text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (
		SELECT FROM ringfence_data.jobs AS j
		WHERE j.job = check_job_right.job AND (
			j.command LIKE 'ringfence.%'
			OR EXISTS (
				SELECT FROM pg_proc AS p
				WHERE p.oid = ringfence.job_function(j.command) AND p.proowner = 'ringfence_owner'::regrole
			)
		)
	) AND NOT ringfence.installing() AND NOT pg_has_role(session_user, 'ringfence_owner', 'MEMBER') THEN
		RAISE EXCEPTION 'permission denied for job "%"', job
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'It was registered by an app.',
			HINT = 'Superusers and members of ringfence_owner may change it; ringfence.enable_job() stops it.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_job_right(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_job_right(text) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.check_job_right(text) IS
	'42501 if a job of that name runs a function of ringfence or an app and the session''s user is no member of ringfence_owner';

CREATE FUNCTION ringfence.register_job(
	job text,
	command regprocedure,
	every interval,
	cron text DEFAULT NULL,
	stale_after interval DEFAULT NULL,
	repeats boolean DEFAULT false,
	description text DEFAULT ''
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $$
BEGIN
	PERFORM ringfence.require_core();
	IF job IS NULL OR command IS NULL OR every IS NULL THEN
		RAISE EXCEPTION 'job, command and interval must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM ringfence.check_job_right(job);
	PERFORM ringfence.check_job_function(command);
	INSERT INTO ringfence_data.jobs AS j (job, command, every, cron, stale_after, repeats, description)
	VALUES (
		register_job.job,
		(pg_identify_object('pg_proc'::regclass, register_job.command, 0)).identity,
		register_job.every,
		coalesce(register_job.cron, ringfence.cron_fields(register_job.job, register_job.every)),
		coalesce(register_job.stale_after, 3 * register_job.every + interval '10 minutes'),
		coalesce(register_job.repeats, false),
		coalesce(register_job.description, '')
	)
	ON CONFLICT ON CONSTRAINT jobs_pkey DO UPDATE
	SET command = excluded.command, every = excluded.every, cron = excluded.cron, stale_after = excluded.stale_after,
		repeats = excluded.repeats, description = excluded.description;
	INSERT INTO ringfence_data.job_heartbeats (job) VALUES (register_job.job) ON CONFLICT DO NOTHING;
EXCEPTION WHEN check_violation THEN
	RAISE EXCEPTION 'invalid job "%"', job
		USING ERRCODE = 'invalid_parameter_value',
		DETAIL = 'A name begins with a lower-case letter and has up to 63 letters, digits and underscores; a job runs every second to every 366 days and is stale some time later; a schedule has the five fields of a crontab line.';
END
$$;
ALTER FUNCTION ringfence.register_job(text, regprocedure, interval, text, interval, boolean, text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.register_job(text, regprocedure, interval, text, interval, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.register_job(text, regprocedure, interval, text, interval, boolean, text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.register_job(text, regprocedure, interval, text, interval, boolean, text) IS
	'has run_jobs() call a function as ringfence_jobs as often as "every" says, and schedule() give it to pg_cron by its crontab fields, of its choice if there are none; a parameter max_seconds of it gets the time that is left; with repeats it is called again, in a transaction of its own, until it returns 0, false or NULL; without a success for stale_after (by default three times "every" and ten minutes) verify() names it; a second call replaces the first, but for jobs of apps, which superusers and members of ringfence_owner may replace; 22004, 22023, 42501, 42725, 42809, 42883, 55000';

CREATE FUNCTION ringfence.unregister_job(job text) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	PERFORM ringfence.check_job_right(job);
	DELETE FROM ringfence_data.job_heartbeats AS h WHERE h.job = unregister_job.job;
	DELETE FROM ringfence_data.jobs AS j WHERE j.job = unregister_job.job;
	RETURN FOUND;
END
$$;
ALTER FUNCTION ringfence.unregister_job(text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.unregister_job(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.unregister_job(text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.unregister_job(text) IS
	'forgets a job; false if there is none of that name; a schedule of pg_cron goes with the next schedule(); 42501 for a job of an app, as in register_job(), 55000';

CREATE FUNCTION ringfence.enable_job(job text, enabled boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	UPDATE ringfence_data.jobs AS j SET enabled = enable_job.enabled WHERE j.job = enable_job.job;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'job "%" does not exist', job
			USING ERRCODE = 'undefined_object', HINT = 'ringfence.job_status() lists them.';
	END IF;
END
$$;
ALTER FUNCTION ringfence.enable_job(text, boolean) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.enable_job(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.enable_job(text, boolean) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.enable_job(text, boolean) IS
	'has a job run, or no longer: at once for run_jobs() and run_job(), with the next schedule() for pg_cron, whose calls of it fail until then; 42704, 55000';

-- Sealing begins with a key: a database without one has nothing to fail at every
-- minute.
CREATE FUNCTION ringfence.audit_seal_if_keyed() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
RETURN CASE WHEN ringfence.audit_key_usable() OR ringfence.audit_sealed_at() IS NOT NULL THEN ringfence.audit_seal() END;
REVOKE EXECUTE ON FUNCTION ringfence.audit_seal_if_keyed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_seal_if_keyed() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.audit_seal_if_keyed() IS
	'audit_seal(), but NULL where the log was never sealed and there is no usable key to begin with; the job "audit_seal"';

-- What a run consists of. The functions are called by the procedures below, each
-- transaction of which begin_job() has begun.

CREATE FUNCTION ringfence.job_call(fn oid, max_seconds integer) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('SELECT (%I.%I(%s))::pg_catalog.text', n.nspname, p.proname,
		CASE WHEN EXISTS (
			SELECT FROM unnest(p.proargnames[:p.pronargs], p.proargtypes::oid[]) AS a (name, type)
			WHERE a.name = 'max_seconds' AND a.type = 'integer'::regtype
		) THEN format('max_seconds => %s', greatest(max_seconds, 1)) ELSE '' END)
	FROM pg_proc AS p
	INNER JOIN pg_namespace AS n ON n.oid = p.pronamespace
	WHERE p.oid = fn
$$;
REVOKE EXECUTE ON FUNCTION ringfence.job_call(oid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.job_call(oid, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.job_call(oid, integer) IS
	'the statement that calls a job''s function; a parameter max_seconds of it gets that many';

CREATE FUNCTION ringfence.refuse_standby() RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pg_is_in_recovery() THEN
		RAISE EXCEPTION 'cannot run jobs on a standby'
			USING ERRCODE = 'read_only_sql_transaction', HINT = 'Have them run on the primary.';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.refuse_standby() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.refuse_standby() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.refuse_standby() IS '25006 on a standby';

-- Who has the lock knows that nobody is at work: a run that has no end by now came
-- to none.
CREATE FUNCTION ringfence.start_job(job text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry record;
BEGIN
	PERFORM ringfence.require_core();
	PERFORM ringfence.refuse_standby();
	SELECT j.command, j.enabled INTO entry FROM ringfence_data.jobs AS j WHERE j.job = start_job.job;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'job "%" does not exist', job
			USING ERRCODE = 'undefined_object', HINT = 'ringfence.job_status() lists them.';
	ELSIF NOT entry.enabled THEN
		RAISE EXCEPTION 'job "%" is disabled', job
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Call ringfence.enable_job(), or ringfence.schedule() to take it out of pg_cron''s schedule.';
	ELSIF NOT ringfence.job_lock('job:' || job) THEN
		RETURN NULL;
	END IF;
	INSERT INTO ringfence_data.job_heartbeats AS h (job, last_started_at, pid)
	VALUES (start_job.job, ringfence.retention_now(), pg_backend_pid())
	ON CONFLICT ON CONSTRAINT job_heartbeats_pkey DO UPDATE
	SET failures = h.failures + (h.pid IS NOT NULL)::integer,
		last_failed_at = CASE WHEN h.pid IS NULL THEN h.last_failed_at ELSE h.last_started_at END,
		last_error = CASE WHEN h.pid IS NULL THEN h.last_error
			ELSE format('the run in process %s came to no end: it was cancelled, or its session or the server stopped', h.pid) END,
		last_started_at = excluded.last_started_at,
		pid = excluded.pid;
	RETURN coalesce(
		(SELECT 'procedure' FROM pg_proc AS p WHERE p.oid = ringfence.job_function(entry.command) AND p.prokind = 'p'),
		'function');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.start_job(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.start_job(text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.start_job(text) IS
	'takes the lock of a job, puts the start of a run on record, one before that came to no end as a failure, and returns what is to be run: function or procedure; NULL if it is running already; 25006, 42704, 55000; for run_job()';

CREATE FUNCTION ringfence.job_step(job text, deadline timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry record;
	fn oid;
	answer text;
BEGIN
	SELECT j.command, j.repeats INTO STRICT entry FROM ringfence_data.jobs AS j WHERE j.job = job_step.job;
	fn := ringfence.job_function(entry.command);
	IF fn IS NULL THEN
		RAISE EXCEPTION 'function % does not exist', entry.command USING ERRCODE = 'undefined_function';
	END IF;
	PERFORM ringfence.check_job_function(fn);
	EXECUTE ringfence.job_call(fn, extract(epoch FROM deadline - clock_timestamp())::integer) INTO answer;
	RETURN entry.repeats AND coalesce(answer, '') NOT IN ('', '0', 'false');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.job_step(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.job_step(text, timestamptz) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.job_step(text, timestamptz) IS
	'calls the function of a job once; true if that is to be repeated; 42883 and whatever it throws; for run_job()';

CREATE FUNCTION ringfence.finish_job(job text, error text, unfinished boolean) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	present CONSTANT timestamptz := ringfence.retention_now();
BEGIN
	UPDATE ringfence_data.job_heartbeats AS h
	SET pid = NULL,
		last_finished_at = present,
		last_succeeded_at = CASE WHEN error IS NULL THEN present ELSE h.last_succeeded_at END,
		last_failed_at = CASE WHEN error IS NULL THEN h.last_failed_at ELSE present END,
		last_error = coalesce(left(error, 1000), h.last_error),
		failures = CASE WHEN error IS NULL THEN 0 ELSE h.failures + 1 END,
		unfinished = finish_job.unfinished
	WHERE h.job = finish_job.job;
	PERFORM ringfence.job_unlock('job:' || job);
	IF error IS NOT NULL THEN
		RAISE WARNING 'job "%" failed', job USING DETAIL = error;
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.finish_job(text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.finish_job(text, text, boolean) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.finish_job(text, text, boolean) IS
	'puts the end of a run on record, with the error that it came to or NULL, and whether the time was up before all was done; lets go of the lock; for run_job()';

-- A multiple of the time that a step took, so that most of a processor is left to
-- others, and longer as long as they are behind or wait.
CREATE FUNCTION ringfence.job_rest(took double precision) RETURNS double precision
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN (s.max_lag >= 0 AND ringfence.replication_lag() > s.max_lag)
			OR (s.max_waiters >= 0 AND ringfence.lock_waiters() > s.max_waiters) THEN 0.5
		ELSE least(took, 5) * current_setting('ringfence.retention_rest')::double precision
	END
	FROM (
		SELECT pg_size_bytes(current_setting('ringfence.retention_max_lag')) AS max_lag,
			current_setting('ringfence.retention_max_waiters')::integer AS max_waiters
	) AS s
$$;
REVOKE EXECUTE ON FUNCTION ringfence.job_rest(double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.job_rest(double precision) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.job_rest(double precision) IS
	'seconds to rest after a step that took so many, by the settings that retention rests by; for run_job()';

CREATE FUNCTION ringfence.retention_unfinished() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT r.state = 'out of time' FROM ringfence_data.retention_runs AS r ORDER BY r.id DESC LIMIT 1), false)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_unfinished() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_unfinished() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_unfinished() IS
	'whether the last run of retention ended because its time was up; for run_job()';

-- The last run may be another session's.
CREATE FUNCTION ringfence.retention_error() RETURNS text
LANGUAGE sql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(r.last_error, 'the run failed')
	FROM (
		SELECT i.state, i.pid, i.last_error FROM ringfence_data.retention_runs AS i ORDER BY i.id DESC LIMIT 1
	) AS r
	WHERE r.state = 'failed' AND r.pid = pg_backend_pid()
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_error() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_error() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_error() IS
	'SQLSTATE and message of the last error of the last run of retention, if that was this session''s and failed; else NULL; for run_job()';

-- Between a COMMIT and begin_job() nothing is looked up by name: the caller's
-- search_path is in force there. A block that catches errors can't commit, so each
-- step is in one and commits outside.
CREATE PROCEDURE ringfence.run_one_job(job text, deadline timestamptz, INOUT error text)
LANGUAGE plpgsql
AS $$
DECLARE
	kind pg_catalog.text;
	procedural boolean;
	began pg_catalog.timestamptz;
	rest pg_catalog.float8;
	again boolean;
	late boolean;
BEGIN
	-- Where nothing can commit, that is said before a lock is taken, which the
	-- session would keep if the error is caught.
	COMMIT;
	PERFORM ringfence.begin_job();
	error := NULL;
	late := false;
	kind := ringfence.start_job(job);
	IF kind IS NULL THEN
		RAISE NOTICE 'job "%" is running already', job;
		RETURN;
	END IF;
	procedural := kind = 'procedure';
	COMMIT;

	IF procedural THEN
		PERFORM ringfence.begin_job();
		CALL ringfence.run_retention(greatest(1, extract(epoch FROM deadline - clock_timestamp()))::integer);
		COMMIT;
		PERFORM ringfence.begin_job();
		-- What fails in part doesn't end the run, and is the job's failure all the same.
		error := ringfence.retention_error();
		PERFORM ringfence.finish_job(job, error, ringfence.retention_unfinished());
		COMMIT;
		RETURN;
	END IF;

	LOOP
		PERFORM ringfence.begin_job();
		began := clock_timestamp();
		BEGIN
			again := ringfence.job_step(job, deadline);
		EXCEPTION WHEN OTHERS THEN
			again := false;
			error := format('%s: %s', SQLSTATE, SQLERRM);
		END;
		COMMIT;
		EXIT WHEN NOT again;

		PERFORM ringfence.begin_job();
		rest := ringfence.job_rest(extract(epoch FROM clock_timestamp() - began));
		PERFORM pg_sleep(least(rest, extract(epoch FROM deadline - clock_timestamp())));
		late := clock_timestamp() >= deadline;
		COMMIT;
		EXIT WHEN late;
	END LOOP;
	PERFORM ringfence.begin_job();
	PERFORM ringfence.finish_job(job, error, late);
	COMMIT;
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.run_one_job(text, timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.run_one_job(text, timestamptz, text) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.run_one_job(text, timestamptz, text) IS
	'runs a job, with a commit after each step, and hands back the error that it came to, or NULL; nothing, with a notice, if it is running already; for run_job() and run_jobs()';

CREATE PROCEDURE ringfence.run_job(job text, max_seconds integer DEFAULT 50)
LANGUAGE plpgsql
AS $$
DECLARE
	error pg_catalog.text;
BEGIN
	PERFORM ringfence.begin_job();
	CALL ringfence.run_one_job(job, clock_timestamp() + make_interval(secs => max_seconds), error);
	-- All is committed by now.
	PERFORM ringfence.begin_job();
	IF error IS NOT NULL THEN
		RAISE EXCEPTION 'job "%" failed', job USING ERRCODE = 'raise_exception', DETAIL = error;
	END IF;
	COMMIT;
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.run_job(text, integer) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.run_job(text, integer) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.run_job(text, integer) IS
	'runs a job now, whether it is due or not, for about that long at most; if it is running already, nothing happens; for members of ringfence_jobs, outside a transaction block; P0001 with the job''s error as detail, 25006, 2D000, 42501, 42704, 55000';

CREATE FUNCTION ringfence.due_jobs() RETURNS text[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	PERFORM ringfence.refuse_standby();
	-- A timer that ticks once a minute must not skip every other time; whose error
	-- can't be caught comes last; who has waited longest comes first.
	RETURN ARRAY(
		SELECT j.job
		FROM ringfence_data.jobs AS j
		LEFT JOIN ringfence_data.job_heartbeats AS h ON h.job = j.job
		WHERE j.enabled AND (
			h.last_started_at IS NULL OR h.unfinished OR h.last_started_at + 0.9 * j.every <= ringfence.retention_now()
		)
		ORDER BY j.command LIKE 'ringfence.run\_retention(%', h.last_started_at NULLS FIRST, j.every, j.job);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.due_jobs() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.due_jobs() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.due_jobs() IS
	'the jobs that are due, in the order in which run_jobs() runs them; 25006, 55000';

CREATE PROCEDURE ringfence.run_jobs(max_seconds integer DEFAULT 50)
LANGUAGE plpgsql
AS $$
DECLARE
	deadline pg_catalog.timestamptz;
	due pg_catalog.text[];
	job pg_catalog.text;
	error pg_catalog.text;
	failed pg_catalog.text[];
	errors pg_catalog.text[];
BEGIN
	PERFORM ringfence.begin_job();
	deadline := clock_timestamp() + make_interval(secs => max_seconds);
	due := ringfence.due_jobs();
	FOREACH job IN ARRAY due LOOP
		PERFORM ringfence.begin_job();
		EXIT WHEN clock_timestamp() >= deadline;
		CALL ringfence.run_one_job(job, deadline, error);
		IF error IS NOT NULL THEN
			PERFORM ringfence.begin_job();
			failed := failed || job;
			errors := errors || format('%s: %s', job, error);
			COMMIT;
		END IF;
	END LOOP;
	PERFORM ringfence.begin_job();
	IF failed IS NOT NULL THEN
		RAISE EXCEPTION 'jobs failed: %', array_to_string(failed, ', ')
			USING ERRCODE = 'raise_exception', DETAIL = array_to_string(errors, E'\n');
	END IF;
	COMMIT;
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.run_jobs(integer) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.run_jobs(integer) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.run_jobs(integer) IS
	'runs all jobs that are due, one after the other, for about that long; one that fails is on record and does not keep the others from running: the error that names it comes when all are done; for a timer, every minute; two at once share the work; for members of ringfence_jobs, outside a transaction block; P0001, 25006, 2D000, 42501, 55000';

-- How they are.

CREATE FUNCTION ringfence.job_status(
	OUT job text,
	OUT state text,
	OUT stale boolean,
	OUT every interval,
	OUT last_started_at timestamptz,
	OUT last_finished_at timestamptz,
	OUT last_succeeded_at timestamptz,
	OUT last_failed_at timestamptz,
	OUT last_error text,
	OUT failures integer,
	OUT pid integer,
	OUT unfinished boolean,
	OUT command text,
	OUT command_exists boolean,
	OUT cron text,
	OUT stale_after interval,
	OUT description text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $$
BEGIN
	IF to_regclass('ringfence_data.jobs') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT
		j.job COLLATE "default",
		CASE
			WHEN NOT j.enabled THEN 'disabled'
			WHEN h.pid IS NOT NULL THEN
				CASE WHEN EXISTS (SELECT FROM pg_stat_get_activity(h.pid)) THEN 'running' ELSE 'interrupted' END
			WHEN h.last_started_at IS NULL THEN 'never ran'
			WHEN h.failures > 0 THEN 'failed'
			ELSE 'succeeded'
		END,
		j.enabled AND greatest(h.last_succeeded_at, j.registered_at) + j.stale_after < ringfence.retention_now(),
		j.every,
		h.last_started_at,
		h.last_finished_at,
		h.last_succeeded_at,
		h.last_failed_at,
		h.last_error,
		coalesce(h.failures, 0),
		h.pid,
		coalesce(h.unfinished, false),
		j.command COLLATE "default",
		ringfence.job_function(j.command) IS NOT NULL,
		j.cron COLLATE "default",
		j.stale_after,
		j.description
	FROM ringfence_data.jobs AS j
	LEFT JOIN ringfence_data.job_heartbeats AS h ON h.job = j.job
	ORDER BY j.job;
END
$$;
ALTER FUNCTION ringfence.job_status() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.job_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.job_status() TO ringfence_operator, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.job_status() IS
	'each job, its state (never ran, running, succeeded, failed, interrupted: it came to no end; disabled), whether it is stale: without a success for longer than stale_after; when it ran last, the last error, how many runs failed in a row, the process that runs it; unfinished: its time was up before all was done';

CREATE FUNCTION ringfence.verify_jobs()
RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('ringfence_data.jobs') IS NULL THEN
		RETURN;
	END IF;
	IF NOT EXISTS (SELECT FROM ringfence.job_status() AS s WHERE s.last_started_at IS NOT NULL) THEN
		RETURN QUERY
		SELECT 'warning', 'jobs_not_scheduled', current_database()::text,
			'no job ever ran: nothing is sealed, expires or leaves on time',
			'SELECT s.job, s.schedule, s.command, s.scheduler, s.state FROM ringfence.schedule() AS s;'
		FROM ringfence_data.apps AS a
		WHERE a.app = 'core' AND a.installed_at < ringfence.retention_now() - interval '1 day'
			AND EXISTS (SELECT FROM ringfence.job_status() AS s WHERE s.state <> 'disabled');
		RETURN;
	END IF;
	RETURN QUERY
	SELECT 'warning', 'job_stale', s.job,
		CASE s.state
			WHEN 'running' THEN format('the job has not succeeded for more than %s: it is running in process %s since %s',
				s.stale_after, s.pid, s.last_started_at)
			ELSE format('the job has not succeeded for more than %s: %s', s.stale_after,
				coalesce('since ' || s.last_succeeded_at, 'it never did'))
		END,
		format('CALL ringfence.run_job(%L);', s.job)
	FROM ringfence.job_status() AS s
	WHERE s.stale
	UNION ALL
	SELECT 'warning', 'job_failing', s.job,
		format('the job failed %s times in a row, last with: %s', s.failures, s.last_error),
		format('CALL ringfence.run_job(%L);', s.job)
	FROM ringfence.job_status() AS s
	WHERE s.failures >= 3 AND s.state <> 'disabled'
	UNION ALL
	SELECT 'warning', 'job_command_missing', s.job,
		format('the job''s function is gone: %s', s.command),
		format('SELECT ringfence.unregister_job(%L);', s.job)
	FROM ringfence.job_status() AS s
	WHERE NOT s.command_exists;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.verify_jobs() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.verify_jobs() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.verify_jobs() IS
	'checks of verify(): jobs run, succeed, and have a function; that none ever ran is a finding a day after core was installed';

-- Schedules.

CREATE FUNCTION ringfence.login_timeout(username name) RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT make_interval(secs => coalesce(
		(
			SELECT extract(epoch FROM (CASE WHEN o.option_value ~ '^\d+$' THEN o.option_value || ' milliseconds' ELSE
				regexp_replace(o.option_value, '^(\d+) *min$', '\1 minutes') END)::interval)::double precision
			FROM pg_db_role_setting AS s
			CROSS JOIN LATERAL pg_options_to_table(s.setconfig) AS o
			WHERE o.option_name = 'statement_timeout'
				AND s.setrole IN (0, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = username))
				AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
			ORDER BY s.setrole = 0, s.setdatabase = 0
			LIMIT 1
		),
		(
			SELECT t.setting::double precision / 1000
			FROM pg_settings AS t
			WHERE t.name = 'statement_timeout' AND t.source IN ('default', 'configuration file', 'command line')
		),
		0))
$$;
REVOKE EXECUTE ON FUNCTION ringfence.login_timeout(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.login_timeout(name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.login_timeout(name) IS
	'the statement_timeout that a login of that role to this database begins with; 0 for none';

CREATE FUNCTION ringfence.check_job_login(username name) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	login pg_roles;
	hint CONSTANT text := 'CREATE ROLE ringfence_cron LOGIN IN ROLE ringfence_jobs;';
BEGIN
	SELECT r.* INTO login FROM pg_roles AS r WHERE r.rolname = username;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role "%" does not exist', username USING ERRCODE = 'undefined_object', HINT = hint;
	ELSIF NOT login.rolcanlogin THEN
		RAISE EXCEPTION 'role "%" cannot log in', username
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'Jobs are started by a login.', HINT = hint;
	ELSIF NOT pg_has_role(login.oid, 'ringfence_jobs', 'USAGE')
		OR NOT pg_has_role(login.oid, 'ringfence_jobs',
			CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
		RAISE EXCEPTION 'role "%" is not a member of role "ringfence_jobs"', username
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'It needs a membership that it inherits from and can set its role to.', HINT = hint;
	ELSIF NOT login.rolsuper AND pg_has_role(login.oid, 'ringfence_authenticator', 'MEMBER') THEN
		RAISE EXCEPTION 'role "%" is what requests log in as', username
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'Jobs need a login of their own.', HINT = hint;
	ELSIF NOT has_database_privilege(login.oid, current_database(), 'CONNECT') THEN
		RAISE EXCEPTION 'role "%" may not connect to database "%"', username, current_database()
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('GRANT CONNECT ON DATABASE %I TO %I;', current_database(), username);
	ELSIF ringfence.login_timeout(username) BETWEEN interval '1 millisecond' AND interval '1 minute' THEN
		RAISE EXCEPTION 'the statement_timeout of role "%" would cancel jobs', username
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('It is %s, and a run is one statement.', ringfence.login_timeout(username)),
			HINT = format('ALTER ROLE %I IN DATABASE %I SET statement_timeout = 0;', username, current_database());
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.check_job_login(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.check_job_login(name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.check_job_login(name) IS
	'refuses a role that can''t run jobs: 42704 if it does not exist, 55000 if it cannot log in or connect, is no member of ringfence_jobs, is what requests log in as, or has a statement_timeout up to a minute';

-- The minute of a job of pg_cron's is its own: it may take most of its interval.
CREATE FUNCTION ringfence.cron_command(job text, every interval) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN format('CALL ringfence.run_job(%L, %s)', job,
	least(3000, greatest(10, floor(0.8 * extract(epoch FROM every))))::integer);
REVOKE EXECUTE ON FUNCTION ringfence.cron_command(text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.cron_command(text, interval) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.cron_command(text, interval) IS
	'the statement by which pg_cron runs a job: for up to 80 % of its interval, 10 to 3000 seconds';

-- Older releases of pg_cron can't name a user: it takes 1.4.
CREATE FUNCTION ringfence.pg_cron_usable() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname = 'pg_cron')
	AND to_regprocedure('cron.schedule_in_database(text,text,text,text,text,boolean)') IS NOT NULL;
REVOKE EXECUTE ON FUNCTION ringfence.pg_cron_usable() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.pg_cron_usable() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.pg_cron_usable() IS
	'whether extension pg_cron is in this database, in a version (1.4) that schedules for other users';

CREATE FUNCTION ringfence.cron_entries(
	OUT jobid bigint,
	OUT jobname text,
	OUT schedule text,
	OUT command text,
	OUT username text,
	OUT active boolean
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'SELECT c.jobid, c.jobname::text, c.schedule, c.command, c.username, c.active
		FROM %I.job AS c
		WHERE c.jobname LIKE $1 AND c.command LIKE $2 AND c.database = current_database()
		ORDER BY c.jobname, c.jobid', 'cron')
	USING 'ringfence.%', 'CALL ringfence.run\_job(%';
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.cron_entries() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.cron_entries() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.cron_entries() IS
	'the entries of pg_cron''s schedule that schedule() made for this database, of those that the caller sees';

CREATE FUNCTION ringfence.schedule_with_cron(username name, without text[])
RETURNS TABLE (job text, schedule text, command text, scheduler text, state text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry record;
	wanted record;
BEGIN
	FOR entry IN
		SELECT c.jobid, c.jobname, c.schedule, c.command
		FROM ringfence.cron_entries() AS c
		WHERE c.username <> schedule_with_cron.username OR NOT EXISTS (
			SELECT FROM ringfence.job_status() AS s
			WHERE 'ringfence.' || s.job = c.jobname AND s.state <> 'disabled' AND s.job <> ALL (without)
		)
	LOOP
		EXECUTE format('SELECT %I.unschedule($1::bigint)', 'cron') USING entry.jobid;
		RETURN QUERY SELECT substr(entry.jobname, 11), entry.schedule, entry.command, 'pg_cron', 'unscheduled';
	END LOOP;
	FOR wanted IN
		SELECT s.job, 'ringfence.' || s.job AS jobname, s.cron, ringfence.cron_command(s.job, s.every) AS command
		FROM ringfence.job_status() AS s
		WHERE s.state <> 'disabled' AND s.job <> ALL (without)
	LOOP
		SELECT c.schedule, c.command, c.active INTO entry FROM ringfence.cron_entries() AS c WHERE c.jobname = wanted.jobname;
		state := CASE
			WHEN NOT FOUND THEN 'scheduled'
			WHEN entry.schedule = wanted.cron AND entry.command = wanted.command AND entry.active THEN 'unchanged'
			ELSE 'rescheduled'
		END;
		IF state <> 'unchanged' THEN
			EXECUTE format('SELECT %I.schedule_in_database($1, $2, $3, $4, $5, true)', 'cron')
				USING wanted.jobname, wanted.cron, wanted.command, current_database()::text, username::text;
		END IF;
		RETURN QUERY SELECT wanted.job, wanted.cron, wanted.command, 'pg_cron', state;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.schedule_with_cron(name, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.schedule_with_cron(name, text[]) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.schedule_with_cron(name, text[]) IS
	'has pg_cron run the enabled jobs but those named, as that login, and takes out of its schedule what else schedule() put there; for schedule()';

CREATE FUNCTION ringfence.shell_word(word text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE WHEN word ~ '^[A-Za-z0-9_./:=-]+$' THEN word ELSE '''' || replace(word, '''', '''\''''') || '''' END;
REVOKE EXECUTE ON FUNCTION ringfence.shell_word(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.shell_word(text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.shell_word(text) IS 'a word as a POSIX shell reads it, in quotes where it needs them';

-- A connection string's value, for a name may have blanks and equal signs in it.
CREATE FUNCTION ringfence.psql_command(username name, statement text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN format('psql -X -q -w -d %s -c %s',
	ringfence.shell_word(format('dbname=%s user=%s',
		CASE WHEN current_database() ~ '^\w+$' THEN current_database()::text
			ELSE '''' || regexp_replace(current_database(), '([''\\])', '\\\1', 'g') || '''' END,
		CASE WHEN username ~ '^\w+$' THEN username::text
			ELSE '''' || regexp_replace(username, '([''\\])', '\\\1', 'g') || '''' END)),
	ringfence.shell_word(statement));
REVOKE EXECUTE ON FUNCTION ringfence.psql_command(name, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.psql_command(name, text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.psql_command(name, text) IS
	'the command that runs a statement in this database as that login, for a shell on the server';

-- In a crontab % ends the command, in a unit $ and % stand for other things.
CREATE FUNCTION ringfence.schedule_outside(username name)
RETURNS TABLE (job text, schedule text, command text, scheduler text, state text)
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $sql$
	SELECT NULL, '* * * * *', replace(ringfence.psql_command(username, 'CALL ringfence.run_jobs()'), '%', '\%'),
		'crontab', 'not scheduled'
	UNION ALL
	SELECT NULL, 'OnCalendar=minutely',
		'ExecStart=/bin/sh -c ' || replace(replace(replace(replace(
			to_json(ringfence.psql_command(username, 'CALL ringfence.run_jobs()'))::text, '$', '$$'), '%', '%%'), '\/', '/'), E'\n', ' '),
		'systemd', 'not scheduled'
$sql$;
REVOKE EXECUTE ON FUNCTION ringfence.schedule_outside(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.schedule_outside(name) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.schedule_outside(name) IS
	'how to run all jobs without pg_cron: a line of a crontab, and what a systemd timer and its service need; for schedule()';

-- The database that pg_cron's worker reads may be another one than this.
CREATE FUNCTION ringfence.schedule_elsewhere(username name, without text[])
RETURNS TABLE (job text, schedule text, command text, scheduler text, state text)
LANGUAGE sql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.job, s.cron,
		format('SELECT cron.schedule_in_database(%L, %L, %L, %L, %L);', 'ringfence.' || current_database() || '.' || s.job, s.cron,
			ringfence.cron_command(s.job, s.every), current_database(), username),
		format('pg_cron in database "%s"', c.setting), 'not scheduled'
	FROM pg_settings AS c
	CROSS JOIN ringfence.job_status() AS s
	WHERE c.name = 'cron.database_name' AND c.setting <> current_database()
		AND s.state <> 'disabled' AND s.job <> ALL (without)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.schedule_elsewhere(name, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.schedule_elsewhere(name, text[]) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.schedule_elsewhere(name, text[]) IS
	'where pg_cron is loaded for another database: the statements to run there; for schedule()';

CREATE FUNCTION ringfence.schedule(username name DEFAULT NULL, without text[] DEFAULT '{}')
RETURNS TABLE (job text, schedule text, command text, scheduler text, state text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	login CONSTANT name := coalesce(username, current_user);
	unknown text;
BEGIN
	PERFORM ringfence.require_core();
	PERFORM ringfence.check_job_login(login);
	SELECT w.name INTO unknown
	FROM unnest(without) AS w (name)
	WHERE w.name IS NULL OR w.name NOT IN (SELECT s.job FROM ringfence.job_status() AS s)
	LIMIT 1;
	IF FOUND OR without IS NULL THEN
		RAISE EXCEPTION 'job "%" does not exist', unknown
			USING ERRCODE = 'undefined_object', HINT = 'ringfence.job_status() lists them.';
	END IF;
	IF ringfence.pg_cron_usable() THEN
		RETURN QUERY SELECT s.job, s.schedule, s.command, s.scheduler, s.state FROM ringfence.schedule_with_cron(login, without) AS s;
		RETURN;
	END IF;
	IF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN
		RAISE NOTICE 'extension "pg_cron" is older than 1.4, which jobs need'
			USING HINT = 'ALTER EXTENSION pg_cron UPDATE, after its package, or use another scheduler.';
	END IF;
	RETURN QUERY SELECT s.job, s.schedule, s.command, s.scheduler, s.state FROM ringfence.schedule_elsewhere(login, without) AS s;
	RETURN QUERY SELECT s.job, s.schedule, s.command, s.scheduler, s.state FROM ringfence.schedule_outside(login) AS s;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.schedule(name, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.schedule(name, text[]) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.schedule(name, text[]) IS
	'has pg_cron run all enabled jobs but those named, logging in as that role (by default the present one), and lists what it did: scheduled, rescheduled, unchanged, unscheduled; repeatable; where pg_cron is not in this database, what to do instead: statements for the database that it is in, a crontab line, a systemd timer (not scheduled; a NULL job is all of them); 42704, 55000, and pg_cron''s own 42501';

CREATE FUNCTION ringfence.unschedule() RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	entry record;
	removed integer := 0;
BEGIN
	IF NOT ringfence.pg_cron_usable() THEN
		RETURN 0;
	END IF;
	FOR entry IN SELECT c.jobid FROM ringfence.cron_entries() AS c LOOP
		EXECUTE format('SELECT %I.unschedule($1::bigint)', 'cron') USING entry.jobid;
		removed := removed + 1;
	END LOOP;
	RETURN removed;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.unschedule() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.unschedule() TO pg_database_owner;
COMMENT ON FUNCTION ringfence.unschedule() IS
	'takes what schedule() put there out of pg_cron''s schedule, and returns how many entries; 0 where pg_cron is not in this database';
