-- Carrying policies out: run_retention(), in batches that commit by themselves,
-- what it looks at before each, and what it leaves on record.

-- Settings of a transaction of a job, which waits for a lock for less than it takes
-- until a deadlock is looked for: it is never others that give way. Nothing here but set_config(), which a SET
-- clause would undo when the function ends; and no other statement of a job comes
-- before it in a transaction.
CREATE FUNCTION ringfence.begin_job() RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT set_config('role', 'ringfence_jobs', true);
	SELECT set_config('row_security', 'on', true);
	SELECT set_config('lock_timeout', '500ms', true);
	SELECT set_config('jit', 'off', true);
	SELECT NULL::void;
END;
REVOKE EXECUTE ON FUNCTION ringfence.begin_job() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.begin_job() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.begin_job() IS
	'has the rest of a transaction run as ringfence_jobs, with the settings that jobs need; first in each transaction of a procedure that commits; 42501 for who is no member of that role';

-- Written by runs alone, and too often for a record each in the audit log.
CREATE FUNCTION ringfence.is_retention_table(rel regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce((
		SELECT n.nspname = 'ringfence_data' AND c.relname IN ('retention_runs', 'retention_batches', 'retention_stats')
		FROM pg_catalog.pg_class AS c
		INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = rel
	), false);
END;
REVOKE EXECUTE ON FUNCTION ringfence.is_retention_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.is_retention_table(regclass) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.is_retention_table(regclass) IS
	'whether a table is one of retention''s own records, whose changes are not audited: retention_runs, retention_batches, retention_stats';

CREATE FUNCTION ringfence.average_row_bytes(rel regclass) RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
	SELECT coalesce(sum(c.relpages + coalesce(t.relpages, 0)) * current_setting('block_size')::bigint
		/ nullif(sum(greatest(c.reltuples, 0)), 0), 0)
	FROM ringfence.with_children(rel) AS w
	INNER JOIN pg_catalog.pg_class AS c ON c.oid = w.child AND c.relkind = 'r'
	LEFT JOIN pg_catalog.pg_class AS t ON t.oid = c.reltoastrelid;
END;
REVOKE EXECUTE ON FUNCTION ringfence.average_row_bytes(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.average_row_bytes(regclass) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.average_row_bytes(regclass) IS
	'bytes of a table, TOAST included, by the number of rows, both as they were when it was last analyzed or vacuumed; 0 if that isn''t known; takes no lock';

-- Which policies a run carries out, and in what order: children before parents, and
-- after one that ran out of time those from where it stopped on, then the others.
CREATE FUNCTION ringfence.retention_order(rel regclass, stopped jsonb) RETURNS SETOF jsonb
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SET search_path = pg_catalog, pg_temp
AS $$
	WITH ordered AS MATERIALIZED (
		SELECT p.relation, p.step, p.action, p.audit_rows, row_number() OVER (
			ORDER BY ringfence.reference_depth(p.relation), p.relation::text, p.action DESC, p.keep, p.step
		) AS place
		FROM ringfence_data.retention_policies AS p
		WHERE p.action <> 'forever' AND (retention_order.rel IS NULL OR p.relation = retention_order.rel)
	)
	SELECT jsonb_build_object('relation', o.relation::oid, 'name', o.relation::text, 'step', o.step, 'action', o.action,
		'audit_rows', o.audit_rows, 'row_bytes', ringfence.average_row_bytes(o.relation),
		'forgets', ringfence.forgets_audit(o.relation, o.step))
	FROM ordered AS o
	ORDER BY o.place < coalesce((
		SELECT f.place FROM ordered AS f WHERE f.relation = (stopped ->> 'relation')::oid AND f.step = stopped ->> 'step'
	), 0), o.place
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_order(regclass, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_order(regclass, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_order(regclass, jsonb) IS
	'the policies of a table, or all, as a run carries them out, beginning with that at which another stopped: {"relation": oid, "name", "step", "action", ...}';

-- Once all that a table has of persons is gone from rows of that age, whatever they
-- are like, it can go from the audit log: with the rows, or when rules have been at
-- each personal column. Of several such steps the first is in time.
CREATE FUNCTION ringfence.forgets_audit(rel regclass, step text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	WITH personal AS MATERIALIZED (
		SELECT c.column_name::text AS name FROM ringfence_data.columns AS c WHERE c.relation = rel AND c.label = 'personal'
	), steps AS MATERIALIZED (
		SELECT p.step, p.keep, p.action, p.rules
		FROM ringfence_data.retention_policies AS p
		WHERE p.relation = rel AND p.filter IS NULL AND p.action <> 'forever'
	)
	SELECT EXISTS (SELECT FROM personal) AND coalesce(forgets_audit.step = (
		SELECT s.step
		FROM steps AS s
		WHERE s.action IN ('delete', 'drop_partition') OR NOT EXISTS (
			SELECT FROM personal AS n
			WHERE NOT EXISTS (
				SELECT FROM steps AS e WHERE e.keep <= s.keep AND e.rules ? n.name AND e.rules -> n.name <> '"keep"'
			)
		)
		ORDER BY s.keep, s.step
		LIMIT 1
	), false)
$$;
REVOKE EXECUTE ON FUNCTION ringfence.forgets_audit(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.forgets_audit(regclass, text) TO ringfence_owner, ringfence_jobs;
COMMENT ON FUNCTION ringfence.forgets_audit(regclass, text) IS
	'whether, by the time that this step of its policy comes, nothing personal is left in any row of the table: steps with a filter leave some as they are';

CREATE FUNCTION ringfence.due_orgs(work jsonb, org uuid) RETURNS uuid[]
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(o.value::uuid ORDER BY o.value)
	FROM jsonb_array_elements_text(ringfence.retention_execute(
		jsonb_build_object('kind', 'due', 'relation', work -> 'relation', 'step', work -> 'step'))) AS o (value)
	WHERE due_orgs.org IS NULL OR o.value::uuid = due_orgs.org
$$;
REVOKE EXECUTE ON FUNCTION ringfence.due_orgs(jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.due_orgs(jsonb, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.due_orgs(jsonb, uuid) IS
	'the organizations with rows that a policy''s step has yet to do; one NULL for rows of none; NULL if there is nothing to do';

-- Of a policy's rows the planner has an estimate, which costs nothing; where it
-- fails, the run will tell of it.
CREATE FUNCTION ringfence.retention_estimate(rel regclass) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy record;
	total numeric := 0;
BEGIN
	FOR policy IN
		SELECT p.relation, p.step
		FROM ringfence_data.retention_policies AS p
		WHERE p.action IN ('delete', 'anonymize') AND (retention_estimate.rel IS NULL OR p.relation = retention_estimate.rel)
	LOOP
		BEGIN
			total := total + (ringfence.retention_execute(
				jsonb_build_object('kind', 'estimate', 'relation', policy.relation::oid, 'step', policy.step))
				#>> '{0,Plan,Plan Rows}')::numeric;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
	END LOOP;
	RETURN total;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_estimate(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_estimate(regclass) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_estimate(regclass) IS
	'how many rows have come due in a table, or in all, by the planner''s statistics';

CREATE FUNCTION ringfence.retention_begin(rel regclass, org uuid, OUT run uuid, OUT stopped jsonb) RETURNS record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence.require_core();
	-- Who has the lock knows that no other run is under way.
	UPDATE ringfence_data.retention_runs AS r
	SET state = 'interrupted', finished_at = clock_timestamp(), waiting_for = NULL
	WHERE r.state = 'running';
	SELECT r.stopped_at INTO stopped
	FROM ringfence_data.retention_runs AS r
	WHERE r.for_relation IS NOT DISTINCT FROM rel::text AND r.for_org IS NOT DISTINCT FROM org
	ORDER BY r.id DESC
	LIMIT 1;
	run := ringfence.uuid7();
	INSERT INTO ringfence_data.retention_runs (id, for_relation, for_org, pid, expected_rows)
	VALUES (run, rel::text, org, pg_backend_pid(), CASE WHEN org IS NULL THEN ringfence.retention_estimate(rel) END);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_begin(regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_begin(regclass, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_begin(regclass, uuid) IS
	'puts a run on record and returns its id, and where the last one of its kind stopped if that ran out of time; one that did not come to its end is marked as interrupted; for run_retention()';

-- Jobs record events of no organization or of the one they entered; this one is
-- of the organization whose rows went.
CREATE FUNCTION ringfence.record_purge(org uuid, relation text, details jsonb) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ringfence.audit_event('retention.purged', relation, details, NULL, nullif(org, ringfence.holding_org(NULL)))
$$;
ALTER FUNCTION ringfence.record_purge(uuid, text, jsonb) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.record_purge(uuid, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.record_purge(uuid, text, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.record_purge(uuid, text, jsonb) IS
	'records the event retention.purged in an organization''s audit log; for record_batch()';

-- Of what is purged of these records themselves there is none.
CREATE FUNCTION ringfence.record_batch(
	run uuid,
	work jsonb,
	rows bigint,
	began timestamptz,
	error text DEFAULT NULL,
	bytes bigint DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT uuid := ringfence.holding_org((work ->> 'org_id')::uuid);
	action CONSTANT text := CASE work ->> 'phase' WHEN 'audit' THEN 'forget' ELSE work ->> 'action' END;
	size CONSTANT bigint := CASE WHEN bytes IS NULL AND work ->> 'phase' = 'rows' THEN rows * (work ->> 'row_bytes')::double precision
		ELSE bytes END;
BEGIN
	UPDATE ringfence_data.retention_runs AS r
	SET rows = r.rows + record_batch.rows, bytes = r.bytes + coalesce(size, 0), batches = r.batches + 1,
		errors = r.errors + (record_batch.error IS NOT NULL)::integer,
		last_error = coalesce(format('%s, %s: ', work ->> 'name', work ->> 'step') || record_batch.error, r.last_error),
		recorded_at = clock_timestamp(), waiting_for = NULL
	WHERE r.id = run;
	IF error IS NULL AND ringfence.is_retention_table((work ->> 'relation')::oid::regclass) THEN
		RETURN;
	END IF;
	INSERT INTO ringfence_data.retention_batches
		(org_id, id, run_id, relation, step, action, rows, bytes, started_at, duration, error)
	VALUES (org, ringfence.uuid7(), run, work ->> 'name', work ->> 'step', action,
		record_batch.rows, size, began, clock_timestamp() - began, record_batch.error);
	IF record_batch.rows > 0 THEN
		PERFORM ringfence.record_purge(org, work ->> 'name',
			jsonb_build_object('step', work ->> 'step', 'action', action, 'rows', record_batch.rows));
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.record_batch(uuid, jsonb, bigint, timestamptz, text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.record_batch(uuid, jsonb, bigint, timestamptz, text, bigint) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.record_batch(uuid, jsonb, bigint, timestamptz, text, bigint) IS
	'puts a batch on record, with the event retention.purged in the organization''s audit log; for run_retention()';

-- How many rows the next batch takes, for it to last as long as it should.
CREATE FUNCTION ringfence.next_batch(present integer, took double precision) RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT greatest(100, least(50000, 2 * present, present / greatest(0.25, took * 1000 / m.wanted)))::integer
	FROM (SELECT extract(epoch FROM current_setting('ringfence.retention_batch_ms')::interval) * 1000 AS wanted) AS m
$$;
REVOKE EXECUTE ON FUNCTION ringfence.next_batch(integer, double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.next_batch(integer, double precision) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.next_batch(integer, double precision) IS
	'the size of a batch after one of that size that took so many seconds: at most twice as many rows, 100 to 50,000';

-- Personal values in the audit log, of one organization after the other, as far as
-- the time of a batch goes. A hold on any row of the table keeps an organization's
-- records, for they don't tell which row a filter would have picked.
CREATE FUNCTION ringfence.forget_due(run uuid, work jsonb, state jsonb, batch integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel CONSTANT regclass := (work ->> 'relation')::oid;
	policy CONSTANT jsonb := ringfence.policy_document(rel, work ->> 'step');
	deadline CONSTANT timestamptz := clock_timestamp() + current_setting('ringfence.retention_batch_ms')::interval;
	org uuid;
	cutoff timestamptz;
	began timestamptz;
	done bigint;
	seen integer := 0;
BEGIN
	-- As a batch of rows does: who places a hold waits for this one.
	PERFORM ringfence.lock_holds();
	FOR org IN
		SELECT o.id
		FROM (
			SELECT i.id FROM ringfence_data.orgs AS i WHERE ringfence.has_org_column(rel)
			UNION ALL
			SELECT ringfence.holding_org(NULL) WHERE NOT ringfence.has_org_column(rel)
		) AS o (id)
		WHERE policy IS NOT NULL
			AND (work ->> 'org_id' IS NULL OR o.id = (work ->> 'org_id')::uuid)
			AND (NOT state ? 'org' OR o.id >= (state ->> 'org')::uuid)
		ORDER BY o.id
	LOOP
		IF seen > 0 AND clock_timestamp() >= deadline THEN
			RETURN jsonb_build_object('org', org, 'due', true);
		END IF;
		seen := seen + 1;
		cutoff := date_trunc('day', ringfence.retention_cutoff(policy, org), 'UTC');
		CONTINUE WHEN ringfence.audit_forgotten_before(rel, org) >= cutoff OR ringfence.hold_condition(rel, org) <> 'true';
		began := clock_timestamp();
		done := ringfence.audit_forget_before(rel, cutoff, org, batch);
		IF done > 0 THEN
			PERFORM ringfence.record_batch(run, work || jsonb_build_object('org_id', org), done, began);
		END IF;
		IF done >= batch THEN
			RETURN jsonb_build_object('org', org, 'due', true);
		END IF;
	END LOOP;
	RETURN '{}'::jsonb;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.forget_due(uuid, jsonb, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.forget_due(uuid, jsonb, jsonb, integer) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.forget_due(uuid, jsonb, jsonb, integer) IS
	'forgets personal values in records of a table that are as old as its policy keeps rows, up to the start of that day, and puts it on record; not where a hold is on any row of it; answers where to go on, or an empty object; for retention_batch()';

-- The state of the work is where the last batch ended: {"batch", "due", "place",
-- "took", "finished"}, "org" in the audit log; and what became of the one before, if it failed: "skip".
CREATE FUNCTION ringfence.retention_batch(run uuid, work jsonb, state jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	began CONSTANT timestamptz := clock_timestamp();
	batch CONSTANT integer := coalesce((state ->> 'batch')::integer, 1000);
	org CONSTANT uuid := (work ->> 'org_id')::uuid;
	task CONSTANT jsonb := jsonb_strip_nulls(jsonb_build_object('kind', 'policy', 'relation', work -> 'relation', 'step', work -> 'step',
		'batch', batch, 'audit_rows', work -> 'audit_rows', 'due', state -> 'due', 'place', state -> 'place', 'past', state -> 'past',
		'tie', state -> 'tie', 'skip', state -> 'skip'));
	answer jsonb;
	done bigint := 0;
	took double precision;
BEGIN
	-- A batch that a crash takes back is done again.
	PERFORM set_config('synchronous_commit', 'off', true);
	UPDATE ringfence_data.retention_runs AS r
	SET present = work ->> 'name'
	WHERE r.id = run AND r.present IS DISTINCT FROM work ->> 'name';
	IF work ->> 'phase' = 'audit' THEN
		answer := ringfence.forget_due(run, work, state, least(batch, 2000));
	ELSE
		-- Rows that are locked get no more children: what the next statement sees
		-- of these is all there is.
		IF ringfence.has_held_children((work ->> 'relation')::oid, org) THEN
			PERFORM ringfence.retention_execute(task || '{"lock": true}', org);
		END IF;
		answer := ringfence.retention_execute(task, org);
		done := (answer ->> 'done')::bigint;
	END IF;
	IF done > 0 THEN
		PERFORM ringfence.record_batch(run, work, done, began);
	END IF;
	took := extract(epoch FROM clock_timestamp() - began);
	RETURN answer || jsonb_build_object('failures', coalesce(state -> 'failures', '0'),
		-- What was only read, others need no rest from.
		'took', CASE WHEN done > 0 OR work ->> 'phase' = 'audit' THEN took ELSE took / 10 END,
		'batch', CASE WHEN batch < 100 THEN 2 * batch ELSE ringfence.next_batch(batch, took) END,
		'finished', NOT answer ? 'due');
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_batch(uuid, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_batch(uuid, jsonb, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_batch(uuid, jsonb, jsonb) IS
	'does the next batch of some work, after the state of the last one, puts it on record, and returns its state; for run_retention()';

-- Who waits for a lock in vain tries again a few times, and a row that got a child
-- meanwhile is seen to have it the next time. What else fails is tried again with
-- fewer rows, until it is clear which one is in the way. That is passed over, and
-- stays due. A statement that can't be right for any row (class 42), and too many
-- rows in the way, end the work.
CREATE FUNCTION ringfence.after_failure(work jsonb, state jsonb, code text, message text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN f.waits AND f.retries <= 3 THEN
			(state - '{error,late}'::text[]) || jsonb_build_object('retries', f.retries, 'took', 0.1, 'finished', false)
		WHEN code = '23503' AND NOT state ? 'again' THEN
			(state - '{error,late}'::text[]) || jsonb_build_object('again', true, 'took', 0, 'finished', false)
		WHEN f.waits OR work ->> 'phase' <> 'rows' OR code LIKE '42%' OR f.failures > 50 THEN
			jsonb_build_object('error', f.error, 'finished', true)
		WHEN f.batch > 1 THEN
			(state - '{skip,tie,late}'::text[])
			|| jsonb_build_object('error', f.error, 'failures', f.failures, 'batch', greatest(1, f.batch / 10), 'took', 0.05, 'finished', false)
		ELSE
			(state - '{tie,late}'::text[])
			|| jsonb_build_object('error', f.error, 'failures', f.failures, 'batch', 1, 'skip', true, 'took', 0.05, 'finished', false)
	END
	FROM (
		SELECT coalesce((state ->> 'failures')::integer, 0) + 1 AS failures, coalesce((state ->> 'batch')::integer, 1000) AS batch,
			coalesce((state ->> 'retries')::integer, 0) + 1 AS retries, code IN ('55P03', '40P01', '40001') AS waits,
			format('%s: %s', code, message) AS error
	) AS f
$$;
REVOKE EXECUTE ON FUNCTION ringfence.after_failure(jsonb, jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.after_failure(jsonb, jsonb, text, text) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.after_failure(jsonb, jsonb, text, text) IS
	'the state of some work after a batch failed: the same once more, fewer rows, past the one row that fails, or at an end; with "error" for what is to be on record; for run_retention()';

-- Seconds to wait before the next batch. While others are behind or wait, it is
-- asked again; that somebody waits is visible meanwhile.
CREATE FUNCTION ringfence.retention_wait(run uuid, state jsonb) RETURNS double precision
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	max_lag CONSTANT bigint := pg_size_bytes(current_setting('ringfence.retention_max_lag'));
	max_waiters CONSTANT integer := current_setting('ringfence.retention_max_waiters')::integer;
	reason text;
BEGIN
	reason := CASE
		WHEN max_lag >= 0 AND ringfence.replication_lag() > max_lag THEN 'replication'
		WHEN max_waiters >= 0 AND ringfence.lock_waiters() > max_waiters THEN 'locks'
	END;
	UPDATE ringfence_data.retention_runs AS r
	SET waiting_for = reason
	WHERE r.id = run AND r.waiting_for IS DISTINCT FROM reason;
	IF reason IS NOT NULL THEN
		RETURN least(1, coalesce(2 * (state ->> 'waited')::double precision, 0.05));
	END IF;
	RETURN CASE WHEN state ? 'waited' THEN 0
		ELSE (state ->> 'took')::double precision * current_setting('ringfence.retention_rest')::double precision END;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_wait(uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_wait(uuid, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_wait(uuid, jsonb) IS
	'how many seconds to rest after a batch: as long as it took, times ringfence.retention_rest, and up to a second more as long as a standby is more than ringfence.retention_max_lag behind or more than ringfence.retention_max_waiters sessions wait for locks; for run_retention()';

CREATE FUNCTION ringfence.retention_end(run uuid, stopped jsonb) RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE ringfence_data.retention_runs AS r
	SET state = CASE WHEN stopped IS NOT NULL THEN 'out of time' WHEN r.errors > 0 THEN 'failed' ELSE 'finished' END,
		finished_at = clock_timestamp(), stopped_at = stopped, present = NULL,
		waiting_for = CASE WHEN stopped IS NOT NULL THEN r.waiting_for END
	WHERE r.id = run
	RETURNING r.errors
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_end(uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_end(uuid, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_end(uuid, jsonb) IS
	'puts the end of a run on record, and where it stopped if its time was up; returns how many batches failed; for run_retention()';

-- Some work, batch by batch, until there is nothing left of it or the time is up:
-- then the state says "late". Types are looked up before the first statement, in
-- whatever search_path.
CREATE PROCEDURE ringfence.run_work(run uuid, work jsonb, deadline timestamptz, INOUT state jsonb)
LANGUAGE plpgsql
AS $$
DECLARE
	began pg_catalog.timestamptz;
	wait pg_catalog.float8;
BEGIN
	PERFORM ringfence.begin_job();
	LOOP
		began := clock_timestamp();
		BEGIN
			state := ringfence.retention_batch(run, work, state);
		EXCEPTION WHEN OTHERS THEN
			state := ringfence.after_failure(work, state, SQLSTATE, SQLERRM);
			IF state ? 'error' THEN
				PERFORM ringfence.record_batch(run, work, 0, began, state ->> 'error');
			END IF;
		END;
		COMMIT;
		PERFORM ringfence.begin_job();
		LOOP
			state := state || jsonb_build_object('late', clock_timestamp() >= deadline);
			EXIT WHEN (state ->> 'late')::boolean;
			wait := ringfence.retention_wait(run, state);
			EXIT WHEN wait = 0;
			COMMIT;
			PERFORM ringfence.begin_job();
			PERFORM pg_sleep(wait);
			state := state || jsonb_build_object('waited', wait);
		END LOOP;
		state := state - 'waited';
		EXIT WHEN (state ->> 'finished')::boolean OR (state ->> 'late')::boolean;
	END LOOP;
	IF (state ->> 'finished')::boolean THEN
		state := state - '{due,place,past,tie}'::text[];
	END IF;
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.run_work(uuid, jsonb, timestamptz, jsonb) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.run_work(uuid, jsonb, timestamptz, jsonb) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.run_work(uuid, jsonb, timestamptz, jsonb) IS
	'does a policy''s step for one organization, or what the audit log has of its table, in batches that commit, after the state that is given; for run_retention()';

-- A policy's step, one organization after the other; from where the last run stopped.
CREATE PROCEDURE ringfence.run_policy(run uuid, work jsonb, org uuid, deadline timestamptz, INOUT stopped jsonb)
LANGUAGE plpgsql
AS $$
DECLARE
	due_orgs pg_catalog.uuid[];
	due_org pg_catalog.uuid;
	state pg_catalog.jsonb;
	resumes pg_catalog.bool;
BEGIN
	PERFORM ringfence.begin_job();
	resumes := coalesce((stopped ->> 'relation')::oid = (work ->> 'relation')::oid AND stopped ->> 'step' = work ->> 'step', false);
	-- What is wrong with one table doesn't keep the others.
	BEGIN
		IF work ->> 'action' <> 'drop_partition' THEN
			due_orgs := ringfence.due_orgs(work, org);
		END IF;
	EXCEPTION WHEN OTHERS THEN
		PERFORM ringfence.record_batch(run, work, 0, clock_timestamp(), format('%s: %s', SQLSTATE, SQLERRM));
	END;
	COMMIT;
	PERFORM ringfence.begin_job();
	FOREACH due_org IN ARRAY coalesce(due_orgs, '{}') LOOP
		CONTINUE WHEN resumes AND due_org < (stopped ->> 'org')::uuid;
		state := CASE WHEN resumes AND due_org IS NOT DISTINCT FROM (stopped ->> 'org')::uuid THEN stopped -> 'state' ELSE '{}' END;
		CALL ringfence.run_work(run, work || jsonb_build_object('phase', 'rows', 'org_id', due_org), deadline, state);
		IF (state ->> 'late')::boolean THEN
			stopped := jsonb_build_object('late', true, 'relation', work -> 'relation', 'step', work -> 'step', 'org', due_org,
				'state', state - '{late,finished,error,retries,again}'::text[]);
			RETURN;
		END IF;
	END LOOP;
	IF (work ->> 'forgets')::boolean THEN
		state := '{}';
		CALL ringfence.run_work(run, work || jsonb_build_object('phase', 'audit', 'org_id', org), deadline, state);
	END IF;
	stopped := jsonb_build_object('late', clock_timestamp() >= deadline, 'relation', work -> 'relation', 'step', work -> 'step');
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.run_policy(uuid, jsonb, uuid, timestamptz, jsonb) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.run_policy(uuid, jsonb, uuid, timestamptz, jsonb) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.run_policy(uuid, jsonb, uuid, timestamptz, jsonb) IS
	'does a policy''s step for the organizations that have something due, then forgets in the audit log what it has of the table; given where another run stopped, and gives where this one is: {"late", "relation", "step", "org", "state"}; for run_retention()';

CREATE PROCEDURE ringfence.run_partitions(run uuid, work jsonb, deadline timestamptz)
LANGUAGE plpgsql
AS $$
DECLARE
	began pg_catalog.timestamptz;
	dropped pg_catalog.int8;
BEGIN
	PERFORM ringfence.begin_job();
	began := clock_timestamp();
	dropped := 0;
	-- It commits, and so catches its errors itself.
	CALL ringfence.drop_partitions((work ->> 'relation')::oid::regclass,
		ringfence.retention_cutoff(ringfence.policy_document((work ->> 'relation')::oid, work ->> 'step'), NULL),
		dropped, greatest(1, ceil(extract(epoch FROM deadline - clock_timestamp())))::integer);
	PERFORM ringfence.begin_job();
	IF dropped > 0 THEN
		PERFORM ringfence.record_batch(run, work || '{"phase": "partitions"}', coalesce(sum(d.rows_estimate), 0)::bigint, began, NULL,
			sum(d.bytes)::bigint)
		FROM ringfence_data.partition_drops AS d
		WHERE d.relation = (work ->> 'relation')::oid AND d.dropped_at >= began;
	END IF;
	COMMIT;
	PERFORM ringfence.begin_job();
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.run_partitions(uuid, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.run_partitions(uuid, jsonb, timestamptz) TO ringfence_jobs;
COMMENT ON PROCEDURE ringfence.run_partitions(uuid, jsonb, timestamptz) IS
	'drops the partitions of a table whose time has come, and puts it on record; for run_retention()';

-- What fails is left where it is, and on record; what comes after it is done.
CREATE PROCEDURE ringfence.run_retention(
	max_seconds integer DEFAULT 300,
	rel regclass DEFAULT NULL,
	org uuid DEFAULT NULL
)
LANGUAGE plpgsql
AS $$
DECLARE
	run pg_catalog.uuid;
	deadline pg_catalog.timestamptz;
	work pg_catalog.jsonb;
	stopped pg_catalog.jsonb;
	failures pg_catalog.int8;
BEGIN
	-- Where this is refused, nothing has been locked yet.
	COMMIT;
	PERFORM ringfence.begin_job();
	IF NOT ringfence.job_lock('retention') THEN
		RAISE NOTICE 'retention is running already';
		RETURN;
	END IF;
	deadline := clock_timestamp() + make_interval(secs => max_seconds);
	SELECT b.run, b.stopped INTO run, stopped FROM ringfence.retention_begin(rel, org) AS b;
	COMMIT;

	PERFORM ringfence.begin_job();
	FOR work IN SELECT w FROM ringfence.retention_order(rel, stopped) AS w LOOP
		IF work ->> 'action' = 'drop_partition' THEN
			CALL ringfence.run_partitions(run, work, deadline);
		END IF;
		CALL ringfence.run_policy(run, work, org, deadline, stopped);
		EXIT WHEN (stopped ->> 'late')::boolean;
	END LOOP;
	failures := ringfence.retention_end(run, CASE WHEN (stopped ->> 'late')::boolean THEN stopped - 'late' END);
	COMMIT;

	PERFORM ringfence.begin_job();
	PERFORM ringfence.job_unlock('retention');
	IF failures > 0 THEN
		RAISE WARNING 'retention failed in part'
			USING DETAIL = (SELECT r.last_error FROM ringfence_data.retention_runs AS r WHERE r.id = run),
			HINT = 'ringfence_data.retention_batches has each error.';
	END IF;
END
$$;
REVOKE EXECUTE ON PROCEDURE ringfence.run_retention(integer, regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE ringfence.run_retention(integer, regclass, uuid) TO ringfence_jobs, pg_database_owner;
COMMENT ON PROCEDURE ringfence.run_retention(integer, regclass, uuid) IS
	'does what retention policies say, for one table or organization or all, until nothing is left or the time is up, when the next one goes on from there: batches that commit by themselves, with a rest after each; of two at once one leaves; what is on record of it: retention_runs, retention_batches; for members of ringfence_jobs, outside a transaction block: 42501, 2D000';

CREATE FUNCTION ringfence.retention_preview(
	rel regclass DEFAULT NULL,
	org uuid DEFAULT NULL,
	OUT relation text,
	OUT step text,
	OUT action text,
	OUT org_id uuid,
	OUT cutoff timestamptz,
	OUT rows bigint,
	OUT oldest timestamptz,
	OUT age interval,
	OUT held bigint,
	OUT referenced bigint
) RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 100
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET row_security = off
AS $$
	SELECT w.work ->> 'name', w.work ->> 'step', w.work ->> 'action', g.org_id, c.cutoff,
		(a.answer ->> 'rows')::bigint, (a.answer ->> 'oldest')::timestamptz,
		CASE WHEN isfinite((a.answer ->> 'oldest')::timestamptz) THEN ringfence.retention_now() - (a.answer ->> 'oldest')::timestamptz END,
		(a.answer ->> 'held')::bigint, (a.answer ->> 'referenced')::bigint
	FROM (
		SELECT p.work FROM ringfence.retention_order(rel, NULL) AS p (work) WHERE p.work ->> 'action' <> 'drop_partition'
	) AS w
	CROSS JOIN LATERAL unnest(ringfence.due_orgs(w.work, org)) AS g (org_id)
	CROSS JOIN LATERAL (
		SELECT ringfence.retention_cutoff(
			ringfence.policy_document((w.work ->> 'relation')::oid::regclass, w.work ->> 'step'), g.org_id) AS cutoff
	) AS c
	CROSS JOIN LATERAL (
		SELECT ringfence.retention_execute(
			jsonb_build_object('kind', 'preview', 'relation', w.work -> 'relation', 'step', w.work -> 'step'), g.org_id) AS answer
	) AS a
	WHERE (a.answer ->> 'rows')::bigint > 0
	ORDER BY 1, 2, 4
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_preview(regclass, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_preview(regclass, uuid) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_preview(regclass, uuid) IS
	'what run_retention() would find to do now, without touching it: rows that have come due by table, step and organization, the oldest and its age, how many of them a hold keeps and how many are referenced still; for jobs and superusers: 42501';

-- What is kept of batches when these are gone.
CREATE FUNCTION ringfence.retention_rollup() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
	days bigint;
BEGIN
	INSERT INTO ringfence_data.retention_stats AS s (org_id, day, relation, step, action, rows, bytes, batches, errors)
	SELECT b.org_id, b.started_at::date, b.relation, b.step, b.action,
		sum(b.rows), coalesce(sum(b.bytes), 0), count(*), count(b.error)
	FROM ringfence_data.retention_batches AS b
	WHERE b.started_at >= clock_timestamp()::date - 7
	GROUP BY b.org_id, b.started_at::date, b.relation, b.step, b.action
	ON CONFLICT ON CONSTRAINT retention_stats_pkey DO UPDATE
	SET rows = excluded.rows, bytes = excluded.bytes, batches = excluded.batches, errors = excluded.errors
	WHERE (s.rows, s.bytes, s.batches, s.errors) IS DISTINCT FROM (excluded.rows, excluded.bytes, excluded.batches, excluded.errors);
	GET DIAGNOSTICS days = ROW_COUNT;
	RETURN days;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.retention_rollup() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.retention_rollup() TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.retention_rollup() IS
	'sums up the batches of the last seven days by organization, day, table and step in retention_stats, where they stay; returns how many sums are new or changed; for a job, daily';
