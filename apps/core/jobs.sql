-- Jobs: what is run, how often, and the heartbeat of each, which is apart from
-- what is registered: that is audited, and beats are too many.

CREATE TABLE ringfence_data.jobs (
	job text COLLATE "C" NOT NULL PRIMARY KEY,
	command text COLLATE "C" NOT NULL,
	every interval NOT NULL,
	cron text COLLATE "C" NOT NULL,
	stale_after interval NOT NULL,
	repeats boolean NOT NULL DEFAULT false,
	enabled boolean NOT NULL DEFAULT true,
	description text NOT NULL DEFAULT '',
	registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT jobs_job_check CHECK (job ~ '^[a-z][a-z0-9_]{0,62}$'),
	CONSTRAINT jobs_every_check CHECK (every BETWEEN '1 second' AND '366 days'),
	CONSTRAINT jobs_cron_check CHECK (cron ~ '^[0-9a-zA-Z*/,-]+( [0-9a-zA-Z*/,-]+){4}$'),
	CONSTRAINT jobs_stale_after_check CHECK (stale_after > every)
);
COMMENT ON TABLE ringfence_data.jobs IS
	'jobs that run_jobs() and pg_cron run; written by register_job(), enable_job() and unregister_job()';
COMMENT ON COLUMN ringfence_data.jobs.job IS 'name of the job: a lower-case letter, then letters, digits and underscores';
COMMENT ON COLUMN ringfence_data.jobs.command IS
	'the function that is called, as pg_identify_object() writes it: "ringfence.expire_pending(integer)"';
COMMENT ON COLUMN ringfence_data.jobs.every IS 'how often run_jobs() runs it';
COMMENT ON COLUMN ringfence_data.jobs.cron IS 'when pg_cron runs it: five fields as in a crontab, in UTC';
COMMENT ON COLUMN ringfence_data.jobs.stale_after IS 'how long after its last success verify() names it';
COMMENT ON COLUMN ringfence_data.jobs.repeats IS
	'whether it is called again, in a transaction of its own, until it returns 0, false or NULL';
COMMENT ON COLUMN ringfence_data.jobs.enabled IS 'false for one that does not run';
COMMENT ON COLUMN ringfence_data.jobs.description IS 'what it does';
COMMENT ON COLUMN ringfence_data.jobs.registered_at IS 'when it was registered first';

CREATE TABLE ringfence_data.job_heartbeats (
	job text COLLATE "C" NOT NULL PRIMARY KEY REFERENCES ringfence_data.jobs (job),
	last_started_at timestamptz,
	last_finished_at timestamptz,
	last_succeeded_at timestamptz,
	last_failed_at timestamptz,
	last_error text,
	failures integer NOT NULL DEFAULT 0,
	pid integer,
	unfinished boolean NOT NULL DEFAULT false,
	CONSTRAINT job_heartbeats_failures_check CHECK (failures >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE ringfence_data.job_heartbeats IS 'when each job ran last and how that went; written by run_job() and run_jobs()';
COMMENT ON COLUMN ringfence_data.job_heartbeats.job IS 'the job';
COMMENT ON COLUMN ringfence_data.job_heartbeats.last_started_at IS 'when the last run began; NULL before the first';
COMMENT ON COLUMN ringfence_data.job_heartbeats.last_finished_at IS 'when a run last came to its end, good or bad';
COMMENT ON COLUMN ringfence_data.job_heartbeats.last_succeeded_at IS 'when a run last ended without an error';
COMMENT ON COLUMN ringfence_data.job_heartbeats.last_failed_at IS
	'when a run last ended with an error; when it began, if it came to no end';
COMMENT ON COLUMN ringfence_data.job_heartbeats.last_error IS 'the last error: SQLSTATE and message, up to 1000 characters; it stays after a success';
COMMENT ON COLUMN ringfence_data.job_heartbeats.failures IS 'how many runs have failed since the last success';
COMMENT ON COLUMN ringfence_data.job_heartbeats.pid IS 'the process that runs it; NULL when none does; one that is gone came to no end';
COMMENT ON COLUMN ringfence_data.job_heartbeats.unfinished IS 'whether time was up in the last run before all was done: then it is due again at once';

SELECT ringfence.protect('ringfence_data.jobs', row_class => 'system');
SELECT
	ringfence.create_policies('ringfence_data.job_heartbeats', 'system', '{}'),
	ringfence.set_table_grants('ringfence_data.job_heartbeats', 'system', '{}', '{}'),
	ringfence.register_table('ringfence_data.job_heartbeats', 'system', '{}');
GRANT SELECT ON ringfence_data.jobs TO ringfence_jobs;
GRANT SELECT, INSERT, UPDATE ON ringfence_data.job_heartbeats TO ringfence_jobs;

SELECT ringfence.register_job(j.job, j.command, j.every, j.cron, j.stale_after, j.repeats, j.description)
FROM (VALUES
	('audit_seal', 'ringfence.audit_seal_if_keyed()'::regprocedure, interval '1 minute', '* * * * *', interval '15 minutes', false,
		'seals the audit log'),
	('ledger_seal', 'ringfence.ledger_seal(interval)', '1 hour', '52 * * * *', '1 day', false,
		'seals the ledger'),
	('expire_pending', 'ringfence.expire_pending(integer)', '1 minute', '* * * * *', '15 minutes', true,
		'releases what pending transfers hold whose time has passed'),
	('retention', 'ringfence.run_retention(integer,regclass,uuid)', '1 hour', '7 * * * *', '1 day', false,
		'deletes and anonymizes what has come due'),
	('org_deletion', 'ringfence.delete_orgs_step()', '1 hour', '37 * * * *', '1 day', true,
		'exports and deletes organizations whose deletion is due'),
	('purge_idempotency_keys', 'ringfence.purge_idempotency_keys(integer)', '1 hour', '22 * * * *', '1 day', true,
		'deletes idempotency keys that have expired'),
	('partitions', 'ringfence.make_partitions()', '1 day', '17 3 * * *', '3 days', true,
		'makes partitions ahead of time'),
	('retention_stats', 'ringfence.retention_rollup()', '1 day', '47 2 * * *', '3 days', false,
		'sums up what retention did by day')
) AS j (job, command, every, cron, stale_after, repeats, description);
