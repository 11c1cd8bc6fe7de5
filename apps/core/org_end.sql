-- The end of an organization: who ordered it, how far it is, and what was exported.

CREATE TABLE ringfence_data.org_deletions (
	org_id uuid NOT NULL REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL,
	reason text NOT NULL,
	ordered_login name NOT NULL,
	ordered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	due_at timestamptz NOT NULL,
	cancelled_at timestamptz,
	cancelled_login name,
	cancel_reason text,
	started_at timestamptz,
	exported_at timestamptz,
	finished_at timestamptz,
	stage text COLLATE "C" NOT NULL DEFAULT 'ordered',
	next_try_at timestamptz NOT NULL,
	waits_for text,
	todo jsonb,
	after jsonb,
	moved boolean NOT NULL DEFAULT false,
	batch integer NOT NULL DEFAULT 1000,
	parts integer NOT NULL DEFAULT 0,
	deleted jsonb NOT NULL DEFAULT '{}',
	kept jsonb NOT NULL DEFAULT '{}',
	forgotten jsonb NOT NULL DEFAULT '{}',
	last_error text,
	PRIMARY KEY (org_id, id),
	CONSTRAINT org_deletions_stage_check CHECK (stage IN ('ordered', 'export', 'delete', 'anonymize', 'done')),
	CONSTRAINT org_deletions_started_at_check CHECK ((started_at IS NULL) = (stage = 'ordered')),
	CONSTRAINT org_deletions_finished_at_check CHECK ((finished_at IS NULL) = (stage <> 'done')),
	CONSTRAINT org_deletions_cancelled_at_check CHECK (
		(cancelled_at IS NULL) = (cancel_reason IS NULL) AND (cancelled_at IS NULL OR stage = 'ordered')
	)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX org_deletions_org_id_key ON ringfence_data.org_deletions (org_id) WHERE cancelled_at IS NULL;
COMMENT ON TABLE ringfence_data.org_deletions IS
	'deletions of organizations that were ordered, and how far each is; written by delete_org(), cancel_org_deletion() and the job "org_deletion"';
COMMENT ON COLUMN ringfence_data.org_deletions.org_id IS 'the organization';
COMMENT ON COLUMN ringfence_data.org_deletions.id IS 'identifies the order';
COMMENT ON COLUMN ringfence_data.org_deletions.reason IS 'why it was ordered';
COMMENT ON COLUMN ringfence_data.org_deletions.ordered_login IS 'the database role that had logged in';
COMMENT ON COLUMN ringfence_data.org_deletions.ordered_at IS 'when it was ordered';
COMMENT ON COLUMN ringfence_data.org_deletions.due_at IS 'from when it is carried out';
COMMENT ON COLUMN ringfence_data.org_deletions.cancelled_at IS 'when it was taken back, or NULL';
COMMENT ON COLUMN ringfence_data.org_deletions.cancelled_login IS 'the database role that had logged in then';
COMMENT ON COLUMN ringfence_data.org_deletions.cancel_reason IS 'why it was taken back';
COMMENT ON COLUMN ringfence_data.org_deletions.started_at IS 'when it began; it can''t be taken back from then on';
COMMENT ON COLUMN ringfence_data.org_deletions.exported_at IS 'when everything was exported; nothing is deleted before';
COMMENT ON COLUMN ringfence_data.org_deletions.finished_at IS 'when nothing was left to delete';
COMMENT ON COLUMN ringfence_data.org_deletions.stage IS 'ordered, export, delete, anonymize, done';
COMMENT ON COLUMN ringfence_data.org_deletions.next_try_at IS 'from when the job goes on with it';
COMMENT ON COLUMN ringfence_data.org_deletions.waits_for IS 'what it waits for, or NULL';
COMMENT ON COLUMN ringfence_data.org_deletions.todo IS
	'what is left of the stage, the present one first: tables, subjects'' rules, or tables whose records are forgotten; NULL before its first step';
COMMENT ON COLUMN ringfence_data.org_deletions.after IS 'the key of the last row of the present table that was exported';
COMMENT ON COLUMN ringfence_data.org_deletions.moved IS 'whether the present pass over all tables has deleted anything';
COMMENT ON COLUMN ringfence_data.org_deletions.batch IS 'how many rows the next batch may have';
COMMENT ON COLUMN ringfence_data.org_deletions.parts IS 'parts exported so far';
COMMENT ON COLUMN ringfence_data.org_deletions.deleted IS 'rows deleted so far, by table';
COMMENT ON COLUMN ringfence_data.org_deletions.kept IS
	'rows that could not be deleted, by table, as of the last pass: held, locked, or referenced by rows that stay';
COMMENT ON COLUMN ringfence_data.org_deletions.forgotten IS
	'records in the audit log whose personal values were forgotten so far, by table';
COMMENT ON COLUMN ringfence_data.org_deletions.last_error IS 'SQLSTATE and message of what stopped the last step, or NULL';

CREATE TABLE ringfence_data.org_export_parts (
	org_id uuid NOT NULL,
	deletion_id uuid NOT NULL,
	part integer NOT NULL,
	relation text NOT NULL,
	rows integer NOT NULL,
	data bytea NOT NULL,
	sha256 bytea NOT NULL,
	made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org_id, deletion_id, part),
	CONSTRAINT org_export_parts_deletion_fkey FOREIGN KEY (org_id, deletion_id) REFERENCES ringfence_data.org_deletions (org_id, id),
	CONSTRAINT org_export_parts_rows_check CHECK (rows > 0),
	CONSTRAINT org_export_parts_sha256_check CHECK (sha256 = pg_catalog.sha256(data))
);
CREATE INDEX org_export_parts_made_at_idx ON ringfence_data.org_export_parts (org_id, made_at);
-- ANALYZE would copy rows into pg_statistic.
ALTER TABLE ringfence_data.org_export_parts ALTER COLUMN data SET STATISTICS 0;
COMMENT ON TABLE ringfence_data.org_export_parts IS
	'an organization''s rows as they were before it was deleted, for operators to hand over, for 30 days; written by the job "org_deletion"';
COMMENT ON COLUMN ringfence_data.org_export_parts.org_id IS 'the organization';
COMMENT ON COLUMN ringfence_data.org_export_parts.deletion_id IS 'the order to delete it';
COMMENT ON COLUMN ringfence_data.org_export_parts.part IS 'counts the parts from 1';
COMMENT ON COLUMN ringfence_data.org_export_parts.relation IS 'the table that the rows are of';
COMMENT ON COLUMN ringfence_data.org_export_parts.rows IS 'how many';
COMMENT ON COLUMN ringfence_data.org_export_parts.data IS
	'the rows as newline-delimited JSON in UTF-8, in the order of the primary key, without secret columns; about a million bytes';
COMMENT ON COLUMN ringfence_data.org_export_parts.sha256 IS 'SHA-256 of data';
COMMENT ON COLUMN ringfence_data.org_export_parts.made_at IS 'when it was made';

SELECT
	ringfence.create_policies('ringfence_data.org_deletions', 'system', '{}'),
	ringfence.set_table_grants('ringfence_data.org_deletions', 'system', '{}', '{}'),
	ringfence.register_table('ringfence_data.org_deletions', 'system', '{}');
GRANT SELECT, UPDATE ON ringfence_data.org_deletions TO ringfence_jobs;

-- Jobs write it, past row security; operators read that of the organization they
-- have entered, which is recorded.
ALTER TABLE ringfence_data.org_export_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.org_export_parts FORCE ROW LEVEL SECURITY;
CREATE POLICY org_isolation ON ringfence_data.org_export_parts AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY operator_read ON ringfence_data.org_export_parts AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());
REVOKE TRUNCATE ON ringfence_data.org_export_parts FROM ringfence_owner;
GRANT SELECT ON ringfence_data.org_export_parts TO ringfence_operator;
GRANT SELECT, INSERT ON ringfence_data.org_export_parts TO ringfence_jobs;

SELECT
	ringfence.register_table('ringfence_data.org_export_parts', 'directory', '{}'),
	ringfence.label('ringfence_data.org_export_parts', 'data', 'personal'),
	ringfence.retain('ringfence_data.org_export_parts', 'made_at', '30 days', outlives_org => true);

CREATE FUNCTION ringfence_v1.close_org(reason text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence_data.require_role('owner');
	PERFORM ringfence.check_deletion_reason(reason);
	UPDATE ringfence_data.orgs AS o SET status = 'closed' WHERE o.id = ringfence.org_id();
	PERFORM ringfence.audit_event('org.closed', NULL, NULL, reason);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.close_org(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.close_org(text) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.close_org(text) IS
	'closes the organization, for an owner of it: every member is refused (PT403) from the next transaction on, and what is in it stays until the operator of the service reopens or deletes it; 23502 without a reason, 42501';
