-- Retention: what is kept how long, what must be kept, and what was done.

CREATE TABLE ringfence_data.retention_policies (
	relation regclass NOT NULL,
	step text NOT NULL,
	column_name name,
	keep interval,
	action text COLLATE "C" NOT NULL,
	rules jsonb,
	filter jsonb,
	min_keep interval,
	max_keep interval,
	audit_rows boolean NOT NULL DEFAULT false,
	outlives_org boolean NOT NULL DEFAULT false,
	reason text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (relation, step),
	CONSTRAINT retention_policies_step_check CHECK (step ~ '^[a-z][a-z0-9_]{0,62}$'),
	CONSTRAINT retention_policies_action_check CHECK (action IN ('delete', 'anonymize', 'drop_partition', 'forever')),
	CONSTRAINT retention_policies_keep_check CHECK (
		CASE WHEN action = 'forever' THEN column_name IS NULL AND keep IS NULL AND reason IS NOT NULL
		ELSE column_name IS NOT NULL AND min_keep > '0' AND keep BETWEEN min_keep AND max_keep END
	),
	CONSTRAINT retention_policies_rules_check CHECK ((rules IS NOT NULL) = (action = 'anonymize'))
);
COMMENT ON TABLE ringfence_data.retention_policies IS
	'how long rows of a table are kept and what becomes of them then; written by retain(), retain_forever() and unretain()';
COMMENT ON COLUMN ringfence_data.retention_policies.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.retention_policies.step IS 'names one of the things that are done to its rows, each in its time';
COMMENT ON COLUMN ringfence_data.retention_policies.column_name IS 'the date or timestamp that the period counts from; a row without one is kept';
COMMENT ON COLUMN ringfence_data.retention_policies.keep IS 'the period, in UTC';
COMMENT ON COLUMN ringfence_data.retention_policies.action IS 'delete, anonymize, drop_partition, or forever: the table''s rows are kept for good';
COMMENT ON COLUMN ringfence_data.retention_policies.rules IS
	'for anonymize, by column: "null", "pseudonym", "keep", {"constant": value}, {"truncate": decimals}';
COMMENT ON COLUMN ringfence_data.retention_policies.filter IS
	'which rows it is about, or NULL for all: {"column": value, [values], null, or {"not": any of these}}';
COMMENT ON COLUMN ringfence_data.retention_policies.min_keep IS 'the shortest period that an organization may choose';
COMMENT ON COLUMN ringfence_data.retention_policies.max_keep IS 'the longest';
COMMENT ON COLUMN ringfence_data.retention_policies.audit_rows IS
	'whether the audit log records each row; otherwise one event for each batch';
COMMENT ON COLUMN ringfence_data.retention_policies.outlives_org IS
	'whether rows stay, until their own time, when their organization is deleted';
COMMENT ON COLUMN ringfence_data.retention_policies.reason IS 'why: a law, a contract; needed for forever';
COMMENT ON COLUMN ringfence_data.retention_policies.created_at IS 'when the step was first declared';

CREATE TABLE ringfence_data.retention_overrides (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	relation regclass NOT NULL,
	step text NOT NULL,
	keep interval NOT NULL,
	reason text,
	set_by uuid,
	set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org_id, relation, step),
	CONSTRAINT retention_overrides_policy_fkey FOREIGN KEY (relation, step)
		REFERENCES ringfence_data.retention_policies (relation, step) ON DELETE CASCADE,
	CONSTRAINT retention_overrides_keep_check CHECK (keep > '0')
);
CREATE INDEX retention_overrides_policy_idx ON ringfence_data.retention_overrides (relation, step);
COMMENT ON TABLE ringfence_data.retention_overrides IS
	'periods that organizations chose, within the policy''s bounds; written by set_retention()';
COMMENT ON COLUMN ringfence_data.retention_overrides.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.retention_overrides.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.retention_overrides.step IS 'the policy''s step';
COMMENT ON COLUMN ringfence_data.retention_overrides.keep IS 'the period, in UTC; where the policy''s bounds have changed since, what is nearest to it within them';
COMMENT ON COLUMN ringfence_data.retention_overrides.reason IS 'why, or NULL';
COMMENT ON COLUMN ringfence_data.retention_overrides.set_by IS 'the user who chose it, or NULL';
COMMENT ON COLUMN ringfence_data.retention_overrides.set_at IS 'when';

CREATE TABLE ringfence_data.legal_holds (
	org_id uuid NOT NULL,
	id uuid NOT NULL,
	relation regclass,
	subject_kind text COLLATE "C",
	subject_id uuid,
	rows jsonb,
	reason text NOT NULL,
	until timestamptz,
	placed_by uuid,
	placed_login name NOT NULL,
	placed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	released_at timestamptz,
	released_by uuid,
	released_login name,
	release_reason text,
	PRIMARY KEY (org_id, id),
	CONSTRAINT legal_holds_reason_check CHECK (reason ~ '[[:alnum:]]' AND length(reason) <= 1000),
	CONSTRAINT legal_holds_subject_id_check CHECK ((subject_kind IS NULL) = (subject_id IS NULL)),
	CONSTRAINT legal_holds_rows_check CHECK (rows IS NULL OR (relation IS NOT NULL AND subject_kind IS NULL)),
	CONSTRAINT legal_holds_released_at_check CHECK ((released_at IS NULL) = (release_reason IS NULL))
);
COMMENT ON TABLE ringfence_data.legal_holds IS
	'what must be kept whatever policies and erasures say; written by place_hold() and release_hold(), never deleted';
COMMENT ON COLUMN ringfence_data.legal_holds.org_id IS
	'the organization whose rows are held, or 00000000-0000-0000-0000-000000000000 for those of all';
COMMENT ON COLUMN ringfence_data.legal_holds.id IS 'identifies the hold';
COMMENT ON COLUMN ringfence_data.legal_holds.relation IS 'the table whose rows are held; NULL for every table';
COMMENT ON COLUMN ringfence_data.legal_holds.subject_kind IS 'the kind of person about whom rows are held: "driver"; NULL for rows about anybody';
COMMENT ON COLUMN ringfence_data.legal_holds.subject_id IS 'that person';
COMMENT ON COLUMN ringfence_data.legal_holds.rows IS 'the filter that picks the rows, as retain() takes it; NULL for all';
COMMENT ON COLUMN ringfence_data.legal_holds.reason IS 'why, 1 to 1000 characters';
COMMENT ON COLUMN ringfence_data.legal_holds.until IS 'when it ends by itself; NULL for never';
COMMENT ON COLUMN ringfence_data.legal_holds.placed_by IS 'the user who placed it, or NULL';
COMMENT ON COLUMN ringfence_data.legal_holds.placed_login IS 'the database role that had logged in';
COMMENT ON COLUMN ringfence_data.legal_holds.placed_at IS 'when it was placed';
COMMENT ON COLUMN ringfence_data.legal_holds.released_at IS 'since when it is released; NULL while it isn''t';
COMMENT ON COLUMN ringfence_data.legal_holds.released_by IS 'the user who released it, or NULL';
COMMENT ON COLUMN ringfence_data.legal_holds.released_login IS 'the database role that had logged in then';
COMMENT ON COLUMN ringfence_data.legal_holds.release_reason IS 'why it was released';

CREATE TABLE ringfence_data.retention_runs (
	id uuid NOT NULL PRIMARY KEY,
	for_relation text,
	for_org uuid,
	state text COLLATE "C" NOT NULL DEFAULT 'running',
	pid integer NOT NULL,
	started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at timestamptz,
	expected_rows bigint,
	rows bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	batches bigint NOT NULL DEFAULT 0,
	errors bigint NOT NULL DEFAULT 0,
	present text,
	stopped_at jsonb,
	waiting_for text COLLATE "C",
	last_error text,
	CONSTRAINT retention_runs_state_check CHECK (state IN ('running', 'finished', 'out of time', 'failed', 'interrupted')),
	CONSTRAINT retention_runs_finished_at_check CHECK ((finished_at IS NULL) = (state = 'running')),
	CONSTRAINT retention_runs_waiting_for_check CHECK (waiting_for IN ('replication', 'locks'))
) WITH (fillfactor = 70);
CREATE INDEX retention_runs_finished_at_idx ON ringfence_data.retention_runs (finished_at);
COMMENT ON TABLE ringfence_data.retention_runs IS 'each call of run_retention(); written by it alone';
COMMENT ON COLUMN ringfence_data.retention_runs.id IS 'identifies the run';
COMMENT ON COLUMN ringfence_data.retention_runs.for_relation IS 'the table that it was for; NULL for all';
COMMENT ON COLUMN ringfence_data.retention_runs.for_org IS 'the organization that it was for; NULL for all';
COMMENT ON COLUMN ringfence_data.retention_runs.state IS
	'running, finished (nothing was left), out of time (the next one goes on), failed (in part: errors), interrupted (cancelled, or the server stopped)';
COMMENT ON COLUMN ringfence_data.retention_runs.pid IS 'process id of its session';
COMMENT ON COLUMN ringfence_data.retention_runs.started_at IS 'when it began';
COMMENT ON COLUMN ringfence_data.retention_runs.recorded_at IS 'when its last batch was committed';
COMMENT ON COLUMN ringfence_data.retention_runs.finished_at IS 'when it ended';
COMMENT ON COLUMN ringfence_data.retention_runs.expected_rows IS 'how many rows had come due, by the planner''s estimate; NULL for one organization';
COMMENT ON COLUMN ringfence_data.retention_runs.rows IS 'rows removed, anonymized or, in the audit log, forgotten';
COMMENT ON COLUMN ringfence_data.retention_runs.bytes IS 'their size, estimated by the tables'' average';
COMMENT ON COLUMN ringfence_data.retention_runs.batches IS 'batches committed';
COMMENT ON COLUMN ringfence_data.retention_runs.errors IS 'batches that failed';
COMMENT ON COLUMN ringfence_data.retention_runs.present IS 'the table that it is at';
COMMENT ON COLUMN ringfence_data.retention_runs.stopped_at IS 'where it was when its time was up, for the next one to go on from';
COMMENT ON COLUMN ringfence_data.retention_runs.waiting_for IS 'replication or locks, while it waits for others, or if it was out of time over that; else NULL';
COMMENT ON COLUMN ringfence_data.retention_runs.last_error IS 'SQLSTATE and message of the last batch that failed';

CREATE TABLE ringfence_data.retention_batches (
	org_id uuid NOT NULL,
	id uuid NOT NULL,
	run_id uuid NOT NULL,
	relation text NOT NULL,
	step text NOT NULL,
	action text COLLATE "C" NOT NULL,
	rows bigint NOT NULL,
	bytes bigint,
	started_at timestamptz NOT NULL,
	duration interval NOT NULL,
	error text,
	PRIMARY KEY (org_id, id),
	CONSTRAINT retention_batches_run_id_fkey FOREIGN KEY (run_id) REFERENCES ringfence_data.retention_runs (id)
);
CREATE INDEX retention_batches_run_id_idx ON ringfence_data.retention_batches (run_id);
CREATE INDEX retention_batches_started_at_idx ON ringfence_data.retention_batches (org_id, started_at);
COMMENT ON TABLE ringfence_data.retention_batches IS
	'each batch of each run, in the same transaction as what it did; written by run_retention() alone';
COMMENT ON COLUMN ringfence_data.retention_batches.org_id IS
	'the organization, or 00000000-0000-0000-0000-000000000000 for rows of none';
COMMENT ON COLUMN ringfence_data.retention_batches.id IS 'identifies the batch';
COMMENT ON COLUMN ringfence_data.retention_batches.run_id IS 'the run';
COMMENT ON COLUMN ringfence_data.retention_batches.relation IS 'the table, as it was called then';
COMMENT ON COLUMN ringfence_data.retention_batches.step IS 'the policy''s step';
COMMENT ON COLUMN ringfence_data.retention_batches.action IS
	'delete, anonymize, drop_partition, or forget: personal values in the audit log';
COMMENT ON COLUMN ringfence_data.retention_batches.rows IS 'rows that it was done to, without those that went with them by ON DELETE CASCADE';
COMMENT ON COLUMN ringfence_data.retention_batches.bytes IS 'their size, estimated by the table''s average; NULL for forget';
COMMENT ON COLUMN ringfence_data.retention_batches.started_at IS 'when it began';
COMMENT ON COLUMN ringfence_data.retention_batches.duration IS 'how long it took';
COMMENT ON COLUMN ringfence_data.retention_batches.error IS 'SQLSTATE and message, if it failed; then nothing was done';

CREATE TABLE ringfence_data.retention_stats (
	org_id uuid NOT NULL,
	day date NOT NULL,
	relation text NOT NULL,
	step text NOT NULL,
	action text COLLATE "C" NOT NULL,
	rows bigint NOT NULL,
	bytes bigint NOT NULL,
	batches bigint NOT NULL,
	errors bigint NOT NULL,
	PRIMARY KEY (org_id, day, relation, step, action)
);
COMMENT ON TABLE ringfence_data.retention_stats IS
	'sums of retention_batches, which stay when these are gone; written by retention_rollup() alone';
COMMENT ON COLUMN ringfence_data.retention_stats.org_id IS 'the organization, or 00000000-0000-0000-0000-000000000000';
COMMENT ON COLUMN ringfence_data.retention_stats.day IS 'the day, in UTC';
COMMENT ON COLUMN ringfence_data.retention_stats.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.retention_stats.step IS 'the policy''s step';
COMMENT ON COLUMN ringfence_data.retention_stats.action IS 'delete, anonymize, drop_partition or forget';
COMMENT ON COLUMN ringfence_data.retention_stats.rows IS 'rows that it was done to';
COMMENT ON COLUMN ringfence_data.retention_stats.bytes IS 'their size, estimated';
COMMENT ON COLUMN ringfence_data.retention_stats.batches IS 'batches';
COMMENT ON COLUMN ringfence_data.retention_stats.errors IS 'batches that failed';

SELECT
	ringfence.protect('ringfence_data.retention_policies', row_class => 'system'),
	ringfence.protect('ringfence_data.retention_overrides', '{"owner,admin": "select"}');

-- Holds on all organizations are nobody's to see but the owner's code, and who
-- has no organization writes those alone.
ALTER TABLE ringfence_data.legal_holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.legal_holds FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.legal_holds AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.legal_holds AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (
		org_id = ringfence.org_id()
		OR (current_user = 'ringfence_owner' AND org_id = '00000000-0000-0000-0000-000000000000')
	)
	WITH CHECK (org_id = ringfence.holding_org(ringfence.org_id()));
CREATE POLICY select_for_owner_admin ON ringfence_data.legal_holds AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.legal_holds AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
REVOKE DELETE, TRUNCATE ON ringfence_data.legal_holds FROM ringfence_owner;
GRANT SELECT ON ringfence_data.legal_holds TO ringfence_member, ringfence_operator, ringfence_jobs;

-- What jobs leave on record, organizations read of their own.
ALTER TABLE ringfence_data.retention_batches ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.retention_batches FORCE ROW LEVEL SECURITY;
CREATE POLICY org_isolation ON ringfence_data.retention_batches AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.retention_batches AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.retention_batches AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
ALTER TABLE ringfence_data.retention_stats ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.retention_stats FORCE ROW LEVEL SECURITY;
CREATE POLICY org_isolation ON ringfence_data.retention_stats AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.retention_stats AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.retention_stats AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
REVOKE TRUNCATE ON ringfence_data.retention_batches, ringfence_data.retention_stats FROM ringfence_owner;
GRANT SELECT ON ringfence_data.retention_batches, ringfence_data.retention_stats TO ringfence_member, ringfence_operator;

SELECT ringfence.create_policies('ringfence_data.retention_runs', 'system', '{}');
REVOKE TRUNCATE ON ringfence_data.retention_runs FROM ringfence_owner;

GRANT SELECT ON ringfence_data.retention_policies, ringfence_data.retention_overrides, ringfence_data.columns TO ringfence_jobs;
GRANT SELECT (id, status) ON ringfence_data.orgs TO ringfence_jobs;
GRANT SELECT, INSERT, UPDATE ON ringfence_data.retention_runs, ringfence_data.retention_stats TO ringfence_jobs;
GRANT SELECT, INSERT ON ringfence_data.retention_batches TO ringfence_jobs;

SELECT
	ringfence.register_table('ringfence_data.legal_holds', 'directory', '{"owner,admin": "select"}'),
	ringfence.register_table('ringfence_data.retention_batches', 'directory', '{"owner,admin": "select"}'),
	ringfence.register_table('ringfence_data.retention_stats', 'directory', '{"owner,admin": "select"}'),
	ringfence.register_table('ringfence_data.retention_runs', 'system', '{}'),
	ringfence.audit('ringfence_data.legal_holds');

SELECT ringfence.except_reference(t.rel, 'org_id', 'what is on record outlives the organization, or is of none')
FROM unnest(ARRAY[
	'ringfence_data.legal_holds', 'ringfence_data.retention_batches', 'ringfence_data.retention_stats'
]::regclass[]) AS t (rel);
SELECT ringfence.except_reference('ringfence_data.legal_holds', 'subject_id', 'it is a row of the table that its kind names');

-- Policies are no tenant's to read as they stand: this shows what is in force for
-- the organization of the context, or to operators without one.
CREATE FUNCTION ringfence_data.retention_in_force(
	OUT relation text,
	OUT step text,
	OUT action text,
	OUT column_name name,
	OUT keep interval,
	OUT default_keep interval,
	OUT min_keep interval,
	OUT max_keep interval,
	OUT rules jsonb,
	OUT filter jsonb,
	OUT outlives_org boolean,
	OUT reason text
) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.relation::text, p.step, p.action, p.column_name,
		least(greatest(coalesce(o.keep, p.keep), p.min_keep), p.max_keep), p.keep, p.min_keep, p.max_keep,
		p.rules, p.filter, p.outlives_org, coalesce(o.reason, p.reason)
	FROM ringfence_data.retention_policies AS p
	LEFT JOIN ringfence_data.retention_overrides AS o
		ON o.org_id = ringfence.org_id() AND o.relation = p.relation AND o.step = p.step
	WHERE ringfence.has_role('owner', 'admin') OR ringfence.actor() IN ('operator', 'job')
		OR (ringfence.org_id() IS NULL AND pg_has_role(session_user, 'ringfence_operator', 'MEMBER'))
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.retention_in_force() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_data.retention_in_force() TO ringfence_member, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence_data.retention_in_force() IS
	'retention policies as they are in force for the organization of the context; for the view ringfence_v1.retention';

CREATE VIEW ringfence_v1.retention WITH (security_invoker = true) AS
SELECT r.relation, r.step, r.action, r.column_name, r.keep, r.default_keep, r.min_keep, r.max_keep, r.rules, r.filter,
	r.outlives_org, r.reason
FROM ringfence_data.retention_in_force() AS r;
COMMENT ON VIEW ringfence_v1.retention IS
	'how long rows are kept in the organization and what becomes of them then, for its owners and admins, and for operators';
COMMENT ON COLUMN ringfence_v1.retention.relation IS 'the table';
COMMENT ON COLUMN ringfence_v1.retention.step IS 'names one of the things that are done to its rows';
COMMENT ON COLUMN ringfence_v1.retention.action IS 'delete, anonymize, drop_partition, or forever';
COMMENT ON COLUMN ringfence_v1.retention.column_name IS 'the date or timestamp that the period counts from';
COMMENT ON COLUMN ringfence_v1.retention.keep IS 'the period in force';
COMMENT ON COLUMN ringfence_v1.retention.default_keep IS 'the period without a choice of the organization''s own';
COMMENT ON COLUMN ringfence_v1.retention.min_keep IS 'the shortest period that set_retention() takes';
COMMENT ON COLUMN ringfence_v1.retention.max_keep IS 'the longest';
COMMENT ON COLUMN ringfence_v1.retention.rules IS 'what anonymizing makes of columns';
COMMENT ON COLUMN ringfence_v1.retention.filter IS 'which rows it is about; null for all';
COMMENT ON COLUMN ringfence_v1.retention.outlives_org IS 'whether rows stay when the organization is deleted';
COMMENT ON COLUMN ringfence_v1.retention.reason IS 'why';
GRANT SELECT ON ringfence_v1.retention TO ringfence_member, ringfence_operator, ringfence_jobs;

CREATE VIEW ringfence_v1.retention_batches WITH (security_invoker = true) AS
SELECT b.id, b.started_at, b.duration, b.relation, b.step, b.action, b.rows, b.bytes, b.error
FROM ringfence_data.retention_batches AS b;
COMMENT ON VIEW ringfence_v1.retention_batches IS
	'what left the organization, batch by batch, for its owners and admins; sums by day, which stay longer, are in retention_stats';
COMMENT ON COLUMN ringfence_v1.retention_batches.id IS 'identifies the batch';
COMMENT ON COLUMN ringfence_v1.retention_batches.started_at IS 'when it began';
COMMENT ON COLUMN ringfence_v1.retention_batches.duration IS 'how long it took';
COMMENT ON COLUMN ringfence_v1.retention_batches.relation IS 'the table';
COMMENT ON COLUMN ringfence_v1.retention_batches.step IS 'the policy''s step';
COMMENT ON COLUMN ringfence_v1.retention_batches.action IS 'delete, anonymize, drop_partition, or forget: personal values in the audit log';
COMMENT ON COLUMN ringfence_v1.retention_batches.rows IS 'rows that it was done to';
COMMENT ON COLUMN ringfence_v1.retention_batches.bytes IS 'their size, estimated';
COMMENT ON COLUMN ringfence_v1.retention_batches.error IS 'why it failed, or null';
GRANT SELECT ON ringfence_v1.retention_batches TO ringfence_member, ringfence_operator;

CREATE VIEW ringfence_v1.retention_stats WITH (security_invoker = true) AS
SELECT s.day, s.relation, s.step, s.action, s.rows, s.bytes, s.batches, s.errors
FROM ringfence_data.retention_stats AS s;
COMMENT ON VIEW ringfence_v1.retention_stats IS 'what left the organization, by day, for its owners and admins';
COMMENT ON COLUMN ringfence_v1.retention_stats.day IS 'the day, in UTC';
COMMENT ON COLUMN ringfence_v1.retention_stats.relation IS 'the table';
COMMENT ON COLUMN ringfence_v1.retention_stats.step IS 'the policy''s step';
COMMENT ON COLUMN ringfence_v1.retention_stats.action IS 'delete, anonymize, drop_partition or forget';
COMMENT ON COLUMN ringfence_v1.retention_stats.rows IS 'rows that it was done to';
COMMENT ON COLUMN ringfence_v1.retention_stats.bytes IS 'their size, estimated';
COMMENT ON COLUMN ringfence_v1.retention_stats.batches IS 'batches';
COMMENT ON COLUMN ringfence_v1.retention_stats.errors IS 'batches that failed';
GRANT SELECT ON ringfence_v1.retention_stats TO ringfence_member, ringfence_operator;

-- A run is of the whole database, which operators and jobs watch.
CREATE FUNCTION ringfence_data.running_retention(
	OUT id uuid,
	OUT state text,
	OUT started_at timestamptz,
	OUT running_for interval,
	OUT present text,
	OUT rows bigint,
	OUT bytes bigint,
	OUT batches bigint,
	OUT errors bigint,
	OUT rows_per_second numeric,
	OUT percent numeric,
	OUT waiting_for text,
	OUT last_error text
) RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL RESTRICTED ROWS 1 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.id, r.state, r.started_at, clock_timestamp() - r.started_at, r.present, r.rows, r.bytes, r.batches, r.errors,
		round(r.rows / greatest(extract(epoch FROM r.recorded_at - r.started_at), 0.001)),
		CASE WHEN r.expected_rows > 0 THEN least(round(100.0 * r.rows / r.expected_rows, 1), 100) END,
		r.waiting_for, r.last_error
	FROM ringfence_data.retention_runs AS r
	WHERE r.state = 'running'
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.running_retention() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_data.running_retention() TO ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence_data.running_retention() IS 'the run of retention that is under way; for the view ringfence_v1.retention_progress';

CREATE VIEW ringfence_v1.retention_progress WITH (security_invoker = true) AS
SELECT r.id, r.state, r.started_at, r.running_for, r.present, r.rows, r.bytes, r.batches, r.errors, r.rows_per_second, r.percent,
	r.waiting_for, r.last_error
FROM ringfence_data.running_retention() AS r;
COMMENT ON VIEW ringfence_v1.retention_progress IS
	'the run of retention that is under way, for operators and jobs: one row, or none';
COMMENT ON COLUMN ringfence_v1.retention_progress.id IS 'identifies the run';
COMMENT ON COLUMN ringfence_v1.retention_progress.state IS 'running; one that was killed stays so until the next run';
COMMENT ON COLUMN ringfence_v1.retention_progress.started_at IS 'when it began';
COMMENT ON COLUMN ringfence_v1.retention_progress.running_for IS 'for how long it has been running';
COMMENT ON COLUMN ringfence_v1.retention_progress.present IS 'the table that it is at';
COMMENT ON COLUMN ringfence_v1.retention_progress.rows IS 'rows done so far';
COMMENT ON COLUMN ringfence_v1.retention_progress.bytes IS 'their size, estimated';
COMMENT ON COLUMN ringfence_v1.retention_progress.batches IS 'batches so far';
COMMENT ON COLUMN ringfence_v1.retention_progress.errors IS 'batches that failed';
COMMENT ON COLUMN ringfence_v1.retention_progress.rows_per_second IS 'rows by time, rests included';
COMMENT ON COLUMN ringfence_v1.retention_progress.percent IS
	'of the rows that had come due when it began, by the planner''s estimate; null where that knew of none';
COMMENT ON COLUMN ringfence_v1.retention_progress.waiting_for IS 'replication or locks, while it waits for others';
COMMENT ON COLUMN ringfence_v1.retention_progress.last_error IS 'the last batch that failed';
GRANT SELECT ON ringfence_v1.retention_progress TO ringfence_operator, ringfence_jobs;

-- A NULL period goes back to the policy's own.
CREATE FUNCTION ringfence_v1.set_retention(relation text, step text, keep interval, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy record;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	SELECT p.relation, p.step, p.min_keep, p.max_keep INTO policy
	FROM ringfence_data.retention_policies AS p
	WHERE p.relation::text = set_retention.relation AND p.step = set_retention.step AND p.action <> 'forever';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'retention policy not found' USING ERRCODE = 'PT404', HINT = 'The view "retention" lists them.';
	END IF;
	IF keep IS NULL THEN
		DELETE FROM ringfence_data.retention_overrides AS o
		WHERE o.org_id = ringfence.org_id() AND o.relation = policy.relation AND o.step = policy.step;
		RETURN;
	END IF;
	IF keep NOT BETWEEN policy.min_keep AND policy.max_keep THEN
		RAISE EXCEPTION 'invalid period %', keep
			USING ERRCODE = 'invalid_parameter_value',
			DETAIL = format('It is between %s and %s.', policy.min_keep, policy.max_keep);
	END IF;
	INSERT INTO ringfence_data.retention_overrides AS o (org_id, relation, step, keep, reason, set_by)
	VALUES (ringfence.org_id(), policy.relation, policy.step, set_retention.keep, set_retention.reason, ringfence.user_id())
	ON CONFLICT ON CONSTRAINT retention_overrides_pkey DO UPDATE
	SET keep = excluded.keep, reason = excluded.reason, set_by = excluded.set_by, set_at = clock_timestamp();
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.set_retention(text, text, interval, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.set_retention(text, text, interval, text) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.set_retention(text, text, interval, text) IS
	'chooses how long a policy''s step keeps the organization''s rows, within the policy''s bounds, or with a null period takes that back; for owners and admins; 42501, PT404, 22023';

CREATE VIEW ringfence_v1.legal_holds WITH (security_invoker = true) AS
SELECT h.id, ringfence.relation_name(h.relation) AS relation, h.subject_kind, h.subject_id, h.rows, h.reason, h.until, h.placed_by, h.placed_at,
	h.released_at, h.released_by, h.release_reason
FROM ringfence_data.legal_holds AS h;
COMMENT ON VIEW ringfence_v1.legal_holds IS
	'legal holds on rows of the organization, released ones included, for its owners and admins';
COMMENT ON COLUMN ringfence_v1.legal_holds.id IS 'identifies the hold';
COMMENT ON COLUMN ringfence_v1.legal_holds.relation IS 'the table whose rows are held; null for every table';
COMMENT ON COLUMN ringfence_v1.legal_holds.subject_kind IS 'the kind of person about whom rows are held';
COMMENT ON COLUMN ringfence_v1.legal_holds.subject_id IS 'that person';
COMMENT ON COLUMN ringfence_v1.legal_holds.rows IS 'the filter that picks the rows; null for all';
COMMENT ON COLUMN ringfence_v1.legal_holds.reason IS 'why';
COMMENT ON COLUMN ringfence_v1.legal_holds.until IS 'when it ends by itself; null for never';
COMMENT ON COLUMN ringfence_v1.legal_holds.placed_by IS 'the user who placed it';
COMMENT ON COLUMN ringfence_v1.legal_holds.placed_at IS 'when';
COMMENT ON COLUMN ringfence_v1.legal_holds.released_at IS 'since when it is released';
COMMENT ON COLUMN ringfence_v1.legal_holds.released_by IS 'the user who released it';
COMMENT ON COLUMN ringfence_v1.legal_holds.release_reason IS 'why it was released';
GRANT SELECT ON ringfence_v1.legal_holds TO ringfence_member, ringfence_operator;

-- An organization may hold its own rows: that only ever keeps more.
CREATE FUNCTION ringfence_v1.place_hold(
	reason text,
	relation text DEFAULT NULL,
	subject_kind text DEFAULT NULL,
	subject_id uuid DEFAULT NULL,
	rows jsonb DEFAULT NULL,
	until timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rel regclass;
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	IF relation IS NOT NULL THEN
		-- No other table exists for a tenant.
		SELECT t.relation INTO rel
		FROM ringfence_data.tables AS t
		WHERE t.relation::text = place_hold.relation AND t.row_class IN ('org', 'directory') AND ringfence.has_org_column(t.relation);
		IF rel IS NULL THEN
			RAISE EXCEPTION 'table not found' USING ERRCODE = 'PT404';
		END IF;
		-- What a hold keeps would tell of columns that no member may read.
		IF EXISTS (
			SELECT FROM jsonb_object_keys(CASE jsonb_typeof(rows) WHEN 'object' THEN rows ELSE '{}' END) AS f (name)
			INNER JOIN pg_attribute AS a ON a.attrelid = rel AND a.attname = f.name AND a.attnum > 0
			WHERE NOT has_column_privilege('ringfence_member', rel, a.attnum, 'SELECT')
		) THEN
			RAISE EXCEPTION 'permission denied for a column of the filter' USING ERRCODE = 'insufficient_privilege';
		END IF;
	END IF;
	RETURN ringfence.place_hold(reason, rel, place_hold.subject_kind, place_hold.subject_id, rows, until);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.place_hold(text, text, text, uuid, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.place_hold(text, text, text, uuid, jsonb, timestamptz) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.place_hold(text, text, text, uuid, jsonb, timestamptz) IS
	'keeps rows of the organization from retention and erasure: all, those of a table, those about a subject, or those that a filter picks, {"id": ["..."]}; returns the hold''s id; for owners and admins; 42501, PT404, 22023, 23502, 42703, 42704';

CREATE FUNCTION ringfence_v1.release_hold(hold uuid, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence_data.require_role('owner', 'admin');
	-- What an operator holds, the organization can't release.
	IF EXISTS (
		SELECT FROM ringfence_data.legal_holds AS h
		WHERE h.org_id = ringfence.org_id() AND h.id = hold AND h.placed_by IS NULL
	) THEN
		RAISE EXCEPTION 'the hold was placed by an operator' USING ERRCODE = 'insufficient_privilege';
	END IF;
	PERFORM ringfence.release_hold(hold, reason);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.release_hold(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.release_hold(uuid, text) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.release_hold(uuid, text) IS
	'ends a hold that the organization placed itself; for owners and admins; 42501 otherwise, 23502 without a reason, PT404';

-- How long core keeps its own. A policy on retention_batches must not outlast the
-- sums that retention_rollup() makes of them.
CREATE INDEX webhook_events_received_at_idx ON ringfence_data.webhook_events (org_id, received_at);
CREATE INDEX memberships_invited_idx ON ringfence_data.memberships (org_id, created_at) WHERE status = 'invited';
CREATE INDEX org_entries_started_at_idx ON ringfence_data.org_entries (org_id, started_at);

SELECT
	ringfence.retain_forever('ringfence_data.users', 'an account is kept until its user has it erased', outlives_org => true),
	ringfence.retain('ringfence_data.memberships', 'created_at', '30 days', filter => '{"status": "invited"}', step => 'invitations',
		min_keep => '1 day', max_keep => '1 year', reason => 'an invitation that nobody accepts'),
	ringfence.retain('ringfence_data.webhook_events', 'received_at', '90 days', min_keep => '30 days', max_keep => '10 years',
		reason => 'providers repeat an event for days, not months'),
	ringfence.retain('ringfence_data.org_entries', 'started_at', '7 years', min_keep => '1 year', max_keep => '30 years',
		outlives_org => true, reason => 'who entered, as long as books are kept'),
	ringfence.retain_forever('ringfence_data.audit_log', 'evidence; personal values in it are forgotten by the policies of their tables',
		outlives_org => true),
	ringfence.retain_forever('ringfence_data.ledger_accounts', 'books; whose an account is goes with an erasure', outlives_org => true),
	ringfence.retain_forever('ringfence_data.ledger_transfers', 'books', outlives_org => true),
	ringfence.retain('ringfence_data.retention_batches', 'started_at', '90 days', min_keep => '30 days', max_keep => '10 years',
		outlives_org => true, reason => 'sums of them stay in retention_stats'),
	ringfence.retain('ringfence_data.retention_runs', 'finished_at', '90 days', reason => 'as long as their batches'),
	ringfence.retain_forever('ringfence_data.legal_holds', 'evidence of what had to be kept', outlives_org => true);
