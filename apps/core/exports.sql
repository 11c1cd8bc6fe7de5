-- Exports on record: what can be exported and by whom, each export that was made
-- or asked for, the parts of large ones, and what is exported every week or month.

CREATE TABLE ringfence_data.export_definitions (
	name text COLLATE "C" NOT NULL PRIMARY KEY,
	relation regclass NOT NULL,
	key name[] NOT NULL,
	roles text[] NOT NULL,
	range_column name,
	filename text COLLATE "C" NOT NULL,
	description text NOT NULL DEFAULT '',
	declared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	CONSTRAINT export_definitions_name_check CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
	CONSTRAINT export_definitions_filename_check CHECK (filename ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$'),
	CONSTRAINT export_definitions_key_check CHECK (cardinality(key) BETWEEN 1 AND 8),
	CONSTRAINT export_definitions_roles_check CHECK (cardinality(roles) BETWEEN 1 AND 32)
);
COMMENT ON TABLE ringfence_data.export_definitions IS
	'what can be exported; written by declare_export() and undeclare_export()';
COMMENT ON COLUMN ringfence_data.export_definitions.name IS 'name of the export: "sales_ledger"';
COMMENT ON COLUMN ringfence_data.export_definitions.relation IS 'the view or table whose rows it has, with the rights of whoever asks';
COMMENT ON COLUMN ringfence_data.export_definitions.key IS 'columns that identify a row and give the order';
COMMENT ON COLUMN ringfence_data.export_definitions.roles IS 'who may have it: members with one of these roles';
COMMENT ON COLUMN ringfence_data.export_definitions.range_column IS
	'the date or time that a range of days is about, in the organization''s time zone; NULL for an export without a range';
COMMENT ON COLUMN ringfence_data.export_definitions.filename IS 'what a file of it is called, without range and extension';
COMMENT ON COLUMN ringfence_data.export_definitions.description IS 'what is in it';
COMMENT ON COLUMN ringfence_data.export_definitions.declared_at IS 'when it was declared last';

CREATE TABLE ringfence_data.exports (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	name text COLLATE "C" NOT NULL,
	roles text[] NOT NULL,
	format text COLLATE "C" NOT NULL,
	options jsonb,
	from_date date,
	to_date date,
	time_zone text NOT NULL,
	consistent boolean NOT NULL DEFAULT false,
	filename text COLLATE "C" NOT NULL,
	requested_by uuid NOT NULL DEFAULT ringfence.user_id(),
	requested_as jsonb NOT NULL DEFAULT ringfence.context(),
	request_id text COLLATE "C" DEFAULT ringfence.request_id(),
	state text COLLATE "C" NOT NULL DEFAULT 'queued',
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	started_at timestamptz,
	finished_at timestamptz,
	next_try_at timestamptz NOT NULL DEFAULT ringfence.retention_now(),
	served_at timestamptz,
	pid integer,
	attempts integer NOT NULL DEFAULT 0,
	last_error text,
	shape text,
	expected_rows bigint,
	rows bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	parts integer NOT NULL DEFAULT 0,
	sha256 bytea,
	as_of timestamptz,
	parts_since timestamptz,
	parts_gone_at timestamptz,
	PRIMARY KEY (org_id, id),
	CONSTRAINT exports_format_check CHECK (format IN ('csv', 'ndjson')),
	CONSTRAINT exports_to_date_check CHECK (to_date >= from_date),
	CONSTRAINT exports_state_check CHECK (state IN ('queued', 'running', 'done', 'failed', 'canceled')),
	CONSTRAINT exports_finished_at_check CHECK ((finished_at IS NULL) = (state IN ('queued', 'running'))),
	CONSTRAINT exports_sha256_check CHECK ((sha256 IS NULL) = (state <> 'done')),
	CONSTRAINT exports_last_error_check CHECK (state <> 'failed' OR last_error IS NOT NULL),
	CONSTRAINT exports_rows_check CHECK (rows >= 0 AND bytes >= 0 AND parts >= 0 AND attempts >= 0)
) WITH (fillfactor = 70);
CREATE INDEX exports_created_at_idx ON ringfence_data.exports (org_id, created_at);
CREATE INDEX exports_served_at_idx ON ringfence_data.exports (org_id, served_at DESC) WHERE served_at IS NOT NULL;
CREATE INDEX exports_next_try_at_idx ON ringfence_data.exports (next_try_at) WHERE state IN ('queued', 'running');
CREATE INDEX exports_unfinished_idx ON ringfence_data.exports (org_id) WHERE state IN ('queued', 'running');
CREATE INDEX exports_canceled_idx ON ringfence_data.exports (finished_at) WHERE state = 'canceled' AND parts_gone_at IS NULL;
CREATE INDEX exports_failed_idx ON ringfence_data.exports (finished_at) WHERE state = 'failed';
COMMENT ON TABLE ringfence_data.exports IS
	'each export that was made or asked for: who, what, and what came of it; written by export_now(), start_export() and the job "exports"';
COMMENT ON COLUMN ringfence_data.exports.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.exports.id IS 'identifies the export; ids grow with time';
COMMENT ON COLUMN ringfence_data.exports.name IS 'what was exported, as in export_definitions';
COMMENT ON COLUMN ringfence_data.exports.roles IS 'who could have it when it was asked for: one of these roles';
COMMENT ON COLUMN ringfence_data.exports.format IS 'csv or ndjson';
COMMENT ON COLUMN ringfence_data.exports.options IS 'options of the format, as csv_options() takes them; NULL for its defaults';
COMMENT ON COLUMN ringfence_data.exports.from_date IS 'the first day of the range; NULL for no limit';
COMMENT ON COLUMN ringfence_data.exports.to_date IS 'the last day of it';
COMMENT ON COLUMN ringfence_data.exports.time_zone IS 'where days begin and end, and times are written: the organization''s when it was asked for';
COMMENT ON COLUMN ringfence_data.exports.consistent IS 'whether all of it is as of one moment; otherwise each part is as of its own';
COMMENT ON COLUMN ringfence_data.exports.filename IS 'what the file is called, with range and extension';
COMMENT ON COLUMN ringfence_data.exports.requested_by IS 'the user who asked for it';
COMMENT ON COLUMN ringfence_data.exports.requested_as IS 'as whom: the context of that request, with the roles and parties that its token had';
COMMENT ON COLUMN ringfence_data.exports.request_id IS 'the request that it came with';
COMMENT ON COLUMN ringfence_data.exports.state IS 'queued, running, done, failed (for good: a dead letter), canceled';
COMMENT ON COLUMN ringfence_data.exports.created_at IS 'when it was asked for';
COMMENT ON COLUMN ringfence_data.exports.started_at IS 'when the job first took it up; NULL before';
COMMENT ON COLUMN ringfence_data.exports.finished_at IS 'when it was done, failed for good or was canceled';
COMMENT ON COLUMN ringfence_data.exports.next_try_at IS 'from when the job goes on with it';
COMMENT ON COLUMN ringfence_data.exports.served_at IS 'when the job last did anything about it: organizations take turns by it';
COMMENT ON COLUMN ringfence_data.exports.pid IS 'the process that has taken it up; another one takes it over';
COMMENT ON COLUMN ringfence_data.exports.attempts IS 'how often it was taken up since the last part';
COMMENT ON COLUMN ringfence_data.exports.last_error IS 'SQLSTATE and message of what stopped it last, or NULL';
COMMENT ON COLUMN ringfence_data.exports.shape IS 'a digest of the columns that its parts are of: others begin it anew';
COMMENT ON COLUMN ringfence_data.exports.expected_rows IS 'how many rows there were when it began; NULL before';
COMMENT ON COLUMN ringfence_data.exports.rows IS 'rows in its parts so far, or in the answer of export_now()';
COMMENT ON COLUMN ringfence_data.exports.bytes IS 'their bytes, in UTF-8';
COMMENT ON COLUMN ringfence_data.exports.parts IS 'parts so far; 0 for what export_now() answered';
COMMENT ON COLUMN ringfence_data.exports.sha256 IS 'SHA-256 of the whole, of all parts one after the other; NULL until it is done';
COMMENT ON COLUMN ringfence_data.exports.as_of IS
	'all that was committed before this moment is in it; NULL where each part has its own, and until it is done';
COMMENT ON COLUMN ringfence_data.exports.parts_since IS 'when its first part was made, from which their retention counts';
COMMENT ON COLUMN ringfence_data.exports.parts_gone_at IS 'when parts were deleted before their time, by an erasure or because it was canceled';

CREATE TABLE ringfence_data.export_parts (
	org_id uuid NOT NULL,
	export_id uuid NOT NULL,
	part integer NOT NULL,
	rows bigint NOT NULL,
	bytes bigint NOT NULL,
	data bytea NOT NULL,
	sha256 bytea NOT NULL,
	last_key text[],
	as_of timestamptz NOT NULL DEFAULT now(),
	made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org_id, export_id, part),
	CONSTRAINT export_parts_export_fkey FOREIGN KEY (org_id, export_id) REFERENCES ringfence_data.exports (org_id, id),
	CONSTRAINT export_parts_part_check CHECK (part >= 1),
	CONSTRAINT export_parts_bytes_check CHECK (bytes = octet_length(data)),
	CONSTRAINT export_parts_sha256_check CHECK (sha256 = pg_catalog.sha256(data))
);
CREATE INDEX export_parts_made_at_idx ON ringfence_data.export_parts (org_id, made_at);
-- Compressing takes twice as long as all the rest, for what is gone in some days;
-- and ANALYZE would copy rows into pg_statistic.
ALTER TABLE ringfence_data.export_parts
	ALTER COLUMN data SET STORAGE EXTERNAL,
	ALTER COLUMN data SET STATISTICS 0,
	ALTER COLUMN last_key SET STATISTICS 0;
COMMENT ON TABLE ringfence_data.export_parts IS
	'the parts of exports, which are the file one after the other; written by the job "exports", read by export_part()';
COMMENT ON COLUMN ringfence_data.export_parts.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.export_parts.export_id IS 'the export';
COMMENT ON COLUMN ringfence_data.export_parts.part IS 'counts the parts from 1';
COMMENT ON COLUMN ringfence_data.export_parts.rows IS 'how many rows are in it';
COMMENT ON COLUMN ringfence_data.export_parts.bytes IS 'its length';
COMMENT ON COLUMN ringfence_data.export_parts.data IS
	'whole rows in the order of the key, as CSV or newline-delimited JSON in UTF-8; a header is in the first part alone';
COMMENT ON COLUMN ringfence_data.export_parts.sha256 IS 'SHA-256 of data';
COMMENT ON COLUMN ringfence_data.export_parts.last_key IS 'the key of its last row, where the next part goes on; NULL without rows';
COMMENT ON COLUMN ringfence_data.export_parts.as_of IS 'all rows of its keys that were committed before this moment are in it';
COMMENT ON COLUMN ringfence_data.export_parts.made_at IS 'when it was made';

CREATE TABLE ringfence_data.export_schedules (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	name text COLLATE "C" NOT NULL,
	format text COLLATE "C" NOT NULL,
	options jsonb,
	every text COLLATE "C" NOT NULL,
	requested_by uuid NOT NULL DEFAULT ringfence.user_id(),
	requested_as jsonb NOT NULL DEFAULT ringfence.context(),
	next_on date NOT NULL,
	enabled boolean NOT NULL DEFAULT true,
	next_try_at timestamptz NOT NULL DEFAULT ringfence.retention_now(),
	last_export uuid,
	last_error text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org_id, id),
	CONSTRAINT export_schedules_format_check CHECK (format IN ('csv', 'ndjson')),
	CONSTRAINT export_schedules_every_check CHECK (every IN ('week', 'month')),
	CONSTRAINT export_schedules_last_error_check CHECK (enabled OR last_error IS NOT NULL)
);
CREATE INDEX export_schedules_next_on_idx ON ringfence_data.export_schedules (next_on) WHERE enabled;
COMMENT ON TABLE ringfence_data.export_schedules IS
	'exports of each week or month that has ended; written by schedule_export() and unschedule_export(), and by the job "exports"';
COMMENT ON COLUMN ringfence_data.export_schedules.org_id IS 'the organization that owns the row';
COMMENT ON COLUMN ringfence_data.export_schedules.id IS 'identifies the schedule';
COMMENT ON COLUMN ringfence_data.export_schedules.name IS 'what is exported, as in export_definitions';
COMMENT ON COLUMN ringfence_data.export_schedules.format IS 'csv or ndjson';
COMMENT ON COLUMN ringfence_data.export_schedules.options IS 'options of the format, or NULL';
COMMENT ON COLUMN ringfence_data.export_schedules.every IS 'week, from Monday to Sunday, or month';
COMMENT ON COLUMN ringfence_data.export_schedules.requested_by IS 'the member as whom it is exported';
COMMENT ON COLUMN ringfence_data.export_schedules.requested_as IS 'the context in which it was scheduled, with the roles and parties of its token';
COMMENT ON COLUMN ringfence_data.export_schedules.next_on IS
	'the day, in the organization''s time zone, from which the week or month that ended the day before is exported';
COMMENT ON COLUMN ringfence_data.export_schedules.enabled IS 'false once the member has lost the right: last_error says why';
COMMENT ON COLUMN ringfence_data.export_schedules.next_try_at IS 'from when that is tried, if it failed before';
COMMENT ON COLUMN ringfence_data.export_schedules.last_export IS 'the export that it started last';
COMMENT ON COLUMN ringfence_data.export_schedules.last_error IS 'why it could not be started, or NULL';
COMMENT ON COLUMN ringfence_data.export_schedules.created_at IS 'when it was scheduled';

-- Owners and admins see all, others what they asked for themselves and might ask
-- for still. As whom stays with the owner's code.
ALTER TABLE ringfence_data.exports ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.exports FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.exports AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.exports AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.exports AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY select_for_member_own_requested_by ON ringfence_data.exports AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (requested_by = ringfence.user_id() AND ringfence.has_role(VARIADIC roles));
CREATE POLICY operator_read ON ringfence_data.exports AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
REVOKE TRUNCATE ON ringfence_data.exports FROM ringfence_owner;
GRANT SELECT (
	org_id, id, name, roles, format, options, from_date, to_date, time_zone, consistent, filename, requested_by, request_id, state,
	created_at, started_at, finished_at, next_try_at, served_at, attempts, last_error, expected_rows, rows, bytes, parts, sha256,
	as_of, parts_since, parts_gone_at
) ON ringfence_data.exports TO ringfence_member, ringfence_operator;
GRANT SELECT, INSERT, UPDATE ON ringfence_data.exports TO ringfence_jobs;

-- What is in a file nobody reads past export_part().
ALTER TABLE ringfence_data.export_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE ringfence_data.export_parts FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_code ON ringfence_data.export_parts AS PERMISSIVE FOR ALL TO ringfence_owner
	USING (ringfence.installed()) WITH CHECK (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.export_parts AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
REVOKE TRUNCATE ON ringfence_data.export_parts FROM ringfence_owner;
GRANT SELECT, INSERT, DELETE ON ringfence_data.export_parts TO ringfence_jobs;

SELECT
	ringfence.protect('ringfence_data.export_definitions', row_class => 'system'),
	ringfence.register_table('ringfence_data.exports', 'directory',
		'{"owner,admin": "select", "*": "select where requested_by is user"}'),
	ringfence.register_table('ringfence_data.export_parts', 'directory', '{}'),
	ringfence.protect('ringfence_data.export_schedules',
		'{"owner,admin": "select", "*": "select where requested_by is user"}',
		columns => '{"select": ["org_id", "id", "name", "format", "options", "every", "requested_by", "next_on", "enabled", "last_export", "last_error", "created_at"]}');
GRANT SELECT ON ringfence_data.export_definitions TO ringfence_jobs;
GRANT SELECT, UPDATE ON ringfence_data.export_schedules TO ringfence_jobs;
GRANT SELECT (settings) ON ringfence_data.orgs TO ringfence_jobs;

SELECT
	ringfence.label('ringfence_data.export_parts', 'data', 'personal'),
	ringfence.label('ringfence_data.export_parts', 'last_key', 'personal'),
	ringfence.retain('ringfence_data.export_parts', 'made_at', '7 days', min_keep => '1 day', max_keep => '30 days',
		reason => 'a copy, which can be made again'),
	ringfence.retain('ringfence_data.exports', 'created_at', '7 years', min_keep => '1 year', max_keep => '30 years',
		reason => 'who took what out, as long as books are kept'),
	ringfence.retain_forever('ringfence_data.export_schedules', 'as long as it is in force; unschedule_export() deletes it');

-- What members see and ask for.

CREATE FUNCTION ringfence_data.exportable(OUT name text, OUT description text, OUT roles text[], OUT has_range boolean) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10 SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT d.name COLLATE "default", d.description, d.roles, d.range_column IS NOT NULL
	FROM ringfence_data.export_definitions AS d
	WHERE ringfence.has_role(VARIADIC d.roles) OR ringfence.has_role('owner', 'admin')
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.exportable() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_data.exportable() TO ringfence_member;
COMMENT ON FUNCTION ringfence_data.exportable() IS
	'what the caller can export, and for owners and admins what others can; for the view ringfence_v1.export_definitions';

CREATE VIEW ringfence_v1.export_definitions WITH (security_invoker = true) AS
SELECT d.name, d.description, d.roles, d.has_range, ringfence.has_role(VARIADIC d.roles) AS allowed
FROM ringfence_data.exportable() AS d;
COMMENT ON VIEW ringfence_v1.export_definitions IS 'what can be exported: all for owners and admins, what they may have for others';
COMMENT ON COLUMN ringfence_v1.export_definitions.name IS 'name of the export, for start_export()';
COMMENT ON COLUMN ringfence_v1.export_definitions.description IS 'what is in it';
COMMENT ON COLUMN ringfence_v1.export_definitions.roles IS 'who may have it: members with one of these roles';
COMMENT ON COLUMN ringfence_v1.export_definitions.has_range IS 'whether it can be of a range of days';
COMMENT ON COLUMN ringfence_v1.export_definitions.allowed IS 'whether the caller may have it';
GRANT SELECT ON ringfence_v1.export_definitions TO ringfence_member;

-- Policies are the owner's and admin's to read, and this much everybody's.
CREATE FUNCTION ringfence_data.parts_kept() RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT least(greatest(coalesce(o.keep, p.keep), p.min_keep), p.max_keep)
	FROM ringfence_data.retention_policies AS p
	LEFT JOIN ringfence_data.retention_overrides AS o
		ON o.org_id = ringfence.org_id() AND o.relation = p.relation AND o.step = p.step
	WHERE p.relation = 'ringfence_data.export_parts'::regclass AND p.action = 'delete'
	ORDER BY 1
	LIMIT 1
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.parts_kept() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_data.parts_kept() TO ringfence_member, ringfence_operator;
COMMENT ON FUNCTION ringfence_data.parts_kept() IS
	'how long parts of exports are kept in the organization of the context; NULL for ever';

CREATE VIEW ringfence_v1.exports WITH (security_invoker = true) AS
SELECT
	e.id,
	e.name,
	e.format,
	e.options,
	e.from_date AS "from",
	e.to_date AS "to",
	e.time_zone,
	e.consistent,
	e.filename,
	e.requested_by,
	e.request_id,
	e.state,
	e.created_at,
	e.started_at,
	e.finished_at,
	CASE WHEN e.state IN ('queued', 'running') THEN e.next_try_at END AS next_try_at,
	e.attempts,
	e.last_error,
	e.rows,
	e.bytes,
	e.parts,
	e.expected_rows,
	CASE
		WHEN e.state = 'done' THEN 100
		WHEN e.expected_rows > 0 THEN least(round(100.0 * e.rows / e.expected_rows, 1), 99.9)
		WHEN e.expected_rows = 0 THEN 99.9
	END AS percent,
	round(e.rows / nullif(extract(epoch FROM coalesce(e.finished_at, e.served_at) - e.started_at), 0)) AS rows_per_second,
	encode(e.sha256, 'hex') AS sha256,
	e.as_of,
	CASE WHEN e.state = 'done' THEN coalesce(e.parts_gone_at, e.parts_since + ringfence_data.parts_kept()) END AS available_until
FROM ringfence_data.exports AS e;
COMMENT ON VIEW ringfence_v1.exports IS
	'exports of the organization: all for its owners and admins, for others what they asked for themselves; export_manifest() lists the parts of one';
COMMENT ON COLUMN ringfence_v1.exports.id IS 'identifies the export; ids grow with time';
COMMENT ON COLUMN ringfence_v1.exports.name IS 'what is exported, as in "export_definitions"';
COMMENT ON COLUMN ringfence_v1.exports.format IS 'csv or ndjson';
COMMENT ON COLUMN ringfence_v1.exports.options IS 'options of the format; null for its defaults';
COMMENT ON COLUMN ringfence_v1.exports."from" IS 'the first day of its range; null for no limit';
COMMENT ON COLUMN ringfence_v1.exports."to" IS 'the last day of it';
COMMENT ON COLUMN ringfence_v1.exports.time_zone IS 'where these days begin and end, and times are written';
COMMENT ON COLUMN ringfence_v1.exports.consistent IS 'whether all of it is as of one moment';
COMMENT ON COLUMN ringfence_v1.exports.filename IS 'what the file is called';
COMMENT ON COLUMN ringfence_v1.exports.requested_by IS 'the user who asked for it';
COMMENT ON COLUMN ringfence_v1.exports.request_id IS 'the request that it came with';
COMMENT ON COLUMN ringfence_v1.exports.state IS 'queued, running, done, failed, canceled';
COMMENT ON COLUMN ringfence_v1.exports.created_at IS 'when it was asked for';
COMMENT ON COLUMN ringfence_v1.exports.started_at IS 'when it was begun';
COMMENT ON COLUMN ringfence_v1.exports.finished_at IS 'when it was done, failed or was canceled';
COMMENT ON COLUMN ringfence_v1.exports.next_try_at IS 'from when it goes on';
COMMENT ON COLUMN ringfence_v1.exports.attempts IS 'how often it was taken up since the last part';
COMMENT ON COLUMN ringfence_v1.exports.last_error IS 'SQLSTATE and message of what stopped it last';
COMMENT ON COLUMN ringfence_v1.exports.rows IS 'rows so far';
COMMENT ON COLUMN ringfence_v1.exports.bytes IS 'bytes so far';
COMMENT ON COLUMN ringfence_v1.exports.parts IS 'parts so far; 0 for one that was answered at once';
COMMENT ON COLUMN ringfence_v1.exports.expected_rows IS 'how many rows there were when it was begun';
COMMENT ON COLUMN ringfence_v1.exports.percent IS 'rows so far of those; one that is consistent shows them when it is done';
COMMENT ON COLUMN ringfence_v1.exports.rows_per_second IS 'rows so far by the time since it was begun, waits included';
COMMENT ON COLUMN ringfence_v1.exports.sha256 IS 'SHA-256 of the whole, in hexadecimal; null until it is done';
COMMENT ON COLUMN ringfence_v1.exports.as_of IS
	'all that was committed before this moment is in it; null where each part has its own, which the manifest lists, and until it is done';
COMMENT ON COLUMN ringfence_v1.exports.available_until IS 'until when its parts can be had; past once they are gone; null where there are none';
GRANT SELECT ON ringfence_v1.exports TO ringfence_member, ringfence_operator;

CREATE VIEW ringfence_v1.export_dead_letter WITH (security_invoker = true) AS
SELECT e.id, e.name, e.format, e.from_date AS "from", e.to_date AS "to", e.requested_by, e.created_at, e.finished_at AS failed_at, e.last_error,
	e.rows, e.parts
FROM ringfence_data.exports AS e
WHERE e.state = 'failed';
COMMENT ON VIEW ringfence_v1.export_dead_letter IS
	'exports that failed for good, and why: retry_export() has them tried again; all for owners and admins, for others their own';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.id IS 'identifies the export';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.name IS 'what was to be exported';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.format IS 'csv or ndjson';
COMMENT ON COLUMN ringfence_v1.export_dead_letter."from" IS 'the first day of its range';
COMMENT ON COLUMN ringfence_v1.export_dead_letter."to" IS 'the last day of it';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.requested_by IS 'the user who asked for it';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.created_at IS 'when it was asked for';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.failed_at IS 'when it was given up';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.last_error IS 'SQLSTATE and message';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.rows IS 'rows in the parts that it has';
COMMENT ON COLUMN ringfence_v1.export_dead_letter.parts IS 'these parts, after which it would go on';
GRANT SELECT ON ringfence_v1.export_dead_letter TO ringfence_member, ringfence_operator;

CREATE VIEW ringfence_v1.export_schedules WITH (security_invoker = true) AS
SELECT s.id, s.name, s.format, s.options, s.every, s.requested_by, s.next_on, s.enabled, s.last_export, s.last_error, s.created_at
FROM ringfence_data.export_schedules AS s;
COMMENT ON VIEW ringfence_v1.export_schedules IS
	'exports of each week or month that has ended: all for owners and admins, for others what they scheduled themselves';
COMMENT ON COLUMN ringfence_v1.export_schedules.id IS 'identifies the schedule';
COMMENT ON COLUMN ringfence_v1.export_schedules.name IS 'what is exported';
COMMENT ON COLUMN ringfence_v1.export_schedules.format IS 'csv or ndjson';
COMMENT ON COLUMN ringfence_v1.export_schedules.options IS 'options of the format; null for its defaults';
COMMENT ON COLUMN ringfence_v1.export_schedules.every IS 'week, from Monday to Sunday, or month';
COMMENT ON COLUMN ringfence_v1.export_schedules.requested_by IS 'the member as whom it is exported';
COMMENT ON COLUMN ringfence_v1.export_schedules.next_on IS 'the day after the next week or month that is exported';
COMMENT ON COLUMN ringfence_v1.export_schedules.enabled IS 'false once that member has lost the right';
COMMENT ON COLUMN ringfence_v1.export_schedules.last_export IS 'the export that it started last';
COMMENT ON COLUMN ringfence_v1.export_schedules.last_error IS 'why it could not be started';
COMMENT ON COLUMN ringfence_v1.export_schedules.created_at IS 'when it was scheduled';
GRANT SELECT ON ringfence_v1.export_schedules TO ringfence_member, ringfence_operator;

CREATE FUNCTION ringfence_v1.start_export(
	name text,
	"from" date DEFAULT NULL,
	"to" date DEFAULT NULL,
	format text DEFAULT 'csv',
	options jsonb DEFAULT NULL,
	consistent boolean DEFAULT false
) RETURNS ringfence_v1.exports
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	checked record;
	export_id uuid;
	answer ringfence_v1.exports;
BEGIN
	SELECT c.roles, c.filename, c.time_zone INTO checked FROM ringfence.check_export(name, "from", "to", format, options) AS c;
	export_id := ringfence.queue_export(ringfence.org_id(), name, format, options, "from", "to", coalesce(consistent, false),
		checked.roles, checked.filename, checked.time_zone, ringfence.user_id(), ringfence.context());
	PERFORM ringfence.audit_event('export.requested', export_id::text, jsonb_build_object(
		'name', name, 'from', "from", 'to', "to", 'format', format));
	PERFORM set_config('response.status', '202', true);
	PERFORM ringfence.add_response_headers(jsonb_build_array(
		jsonb_build_object('Location', '/rpc/export_manifest?id=' || export_id)));
	SELECT e.* INTO STRICT answer FROM ringfence_v1.exports AS e WHERE e.id = export_id;
	RETURN answer;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.start_export(text, date, date, text, jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.start_export(text, date, date, text, jsonb, boolean) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.start_export(text, date, date, text, jsonb, boolean) IS
	'asks for an export of any size, of the rows that the caller sees, and returns it as it stands in "exports": a job writes it in parts; "from" and "to" are days, both included, null for no limit; options are those of CSV: {"delimiter": ";", "bom": true}; consistent has all of it as of one moment; the answer is 202, its Location the manifest; 22023, 42501, PT404, PT429 if ten of the member''s are under way, or thirty of the organization''s';

-- To whoever doesn't see it, an export is none.
CREATE FUNCTION ringfence_data.visible_export(export uuid) RETURNS ringfence_data.exports
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seen ringfence_data.exports;
BEGIN
	SELECT e.* INTO seen
	FROM ringfence_data.exports AS e
	WHERE e.org_id = ringfence.org_id() AND e.id = export
		AND (ringfence.has_role('owner', 'admin') OR (e.requested_by = ringfence.user_id() AND ringfence.has_role(VARIADIC e.roles)));
	IF NOT FOUND THEN
		RAISE EXCEPTION 'export not found' USING ERRCODE = 'PT404';
	END IF;
	RETURN seen;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.visible_export(uuid) FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.visible_export(uuid) IS
	'an export that the caller sees, as policies have it; PT404; for ringfence_owner''s functions';

-- Whoever asked has it as long as they are all that they were then.
CREATE FUNCTION ringfence_data.require_export_content(export ringfence_data.exports) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	roles CONSTANT text[] := coalesce(
		(SELECT d.roles FROM ringfence_data.export_definitions AS d WHERE d.name = export.name), export.roles);
	present CONSTANT jsonb := ringfence.context();
BEGIN
	IF NOT ringfence.has_role(VARIADIC roles) OR NOT (ringfence.has_role('owner', 'admin') OR (
		present -> 'roles' @> (
			SELECT coalesce(jsonb_agg(r.role), '[]')
			FROM jsonb_array_elements_text(export.requested_as -> 'roles') AS r (role)
			WHERE r.role = ANY (roles)
		) AND present -> 'party' @> (export.requested_as -> 'party')
	)) THEN
		RAISE EXCEPTION 'permission denied for this export'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = format('It takes one of the roles: %s; and for those who asked for it, all that they had then.', array_to_string(roles, ', '));
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.require_export_content(ringfence_data.exports) FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.require_export_content(ringfence_data.exports) IS
	'42501 unless the caller, who sees an export, may have what is in it: with one of its roles, and if not as owner or admin, with those and the parties that it was asked for with; for ringfence_owner''s functions';

CREATE FUNCTION ringfence_v1.export_manifest(id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	export CONSTANT ringfence_data.exports := ringfence_data.visible_export(id);
BEGIN
	RETURN jsonb_build_object(
		'id', export.id, 'name', export.name, 'format', export.format, 'filename', export.filename,
		'from', export.from_date, 'to', export.to_date, 'time_zone', export.time_zone, 'consistent', export.consistent, 'as_of', export.as_of,
		'state', export.state, 'last_error', export.last_error,
		'rows', export.rows, 'bytes', export.bytes, 'sha256', encode(export.sha256, 'hex'),
		'parts', (
			SELECT coalesce(jsonb_agg(jsonb_build_object(
				'part', p.part, 'rows', p.rows, 'bytes', p.bytes, 'sha256', encode(p.sha256, 'hex'), 'as_of', p.as_of) ORDER BY p.part), '[]')
			FROM ringfence_data.export_parts AS p
			WHERE p.org_id = export.org_id AND p.export_id = export.id
		));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.export_manifest(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.export_manifest(uuid) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.export_manifest(uuid) IS
	'an export and its parts: {"name", "from", "to", "state", "rows", "bytes", "sha256", "as_of", "parts": [{"part", "rows", "bytes", "sha256", "as_of"}], ...}; the parts one after the other are the file, whose SHA-256 is the whole''s; PT404';

-- It changes nothing but the answer's headers, and so can be asked of a standby.
CREATE FUNCTION ringfence_v1.export_part(id uuid, part integer) RETURNS ringfence."*/*"
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	export CONSTANT ringfence_data.exports := ringfence_data.visible_export(export_part.id);
	wanted record;
BEGIN
	PERFORM ringfence_data.require_export_content(export);
	IF export.state <> 'done' THEN
		RAISE EXCEPTION 'the export is not done'
			USING ERRCODE = 'PT409', DETAIL = format('It is %s.', export.state), HINT = 'The view "exports" says how far it is.';
	ELSIF export_part.part BETWEEN 1 AND export.parts IS NOT TRUE THEN
		RAISE EXCEPTION 'part not found'
			USING ERRCODE = 'PT404', DETAIL = CASE WHEN export.parts = 0 THEN 'The export was answered at once.' ELSE format('There are parts 1 to %s.', export.parts) END;
	END IF;
	SELECT p.data, p.sha256 INTO wanted
	FROM ringfence_data.export_parts AS p
	WHERE p.org_id = export.org_id AND p.export_id = export.id AND p.part = export_part.part;
	-- What a legal hold alone keeps is not handed out.
	IF NOT FOUND OR export.parts_gone_at IS NOT NULL THEN
		RAISE EXCEPTION 'the export has expired' USING ERRCODE = 'PT410', HINT = 'Ask for it anew with start_export().';
	END IF;
	PERFORM ringfence.add_response_headers(jsonb_build_array(
		jsonb_build_object('Content-Type', CASE export.format WHEN 'csv' THEN 'text/csv; charset=utf-8' ELSE 'application/x-ndjson' END),
		jsonb_build_object('Content-Disposition', format('attachment; filename="%s"',
			CASE WHEN export.parts = 1 THEN export.filename
				ELSE regexp_replace(export.filename, '\.(\w+)$', '.' || lpad(export_part.part::text, length(export.parts::text), '0') || '.\1') END)),
		ringfence.digest_header(wanted.sha256)));
	RETURN wanted.data;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.export_part(uuid, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.export_part(uuid, integer) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.export_part(uuid, integer) IS
	'a part of an export, as it is, with its SHA-256 in the header Repr-Digest; for those who see the export and may still have what is in it; 42501, PT404, PT409 while it is not done, PT410 once it has expired';

CREATE FUNCTION ringfence_v1.cancel_export(id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	export ringfence_data.exports := ringfence_data.visible_export(id);
BEGIN
	UPDATE ringfence_data.exports AS e
	SET state = 'canceled', finished_at = clock_timestamp(), pid = NULL
	WHERE e.org_id = export.org_id AND e.id = export.id AND e.state IN ('queued', 'running');
	IF NOT FOUND THEN
		SELECT e.* INTO export FROM ringfence_data.exports AS e WHERE e.org_id = export.org_id AND e.id = export.id;
		RAISE EXCEPTION 'the export is %', export.state
			USING ERRCODE = 'PT409', DETAIL = 'Only one that is queued or running can be canceled.';
	END IF;
	PERFORM ringfence.audit_event('export.canceled', export.id::text, jsonb_build_object('name', export.name));
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.cancel_export(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.cancel_export(uuid) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.cancel_export(uuid) IS
	'ends an export that is not done, for whoever asked for it, owners and admins; its parts go; PT404, PT409';

CREATE FUNCTION ringfence_v1.retry_export(id uuid) RETURNS ringfence_v1.exports
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	export CONSTANT ringfence_data.exports := ringfence_data.visible_export(retry_export.id);
	answer ringfence_v1.exports;
BEGIN
	PERFORM ringfence.lock_exports(export.org_id);
	PERFORM ringfence.check_export_limit(export.org_id, export.requested_by);
	UPDATE ringfence_data.exports AS e
	SET state = 'queued', finished_at = NULL, attempts = 0, pid = NULL, next_try_at = ringfence.retention_now()
	WHERE e.org_id = export.org_id AND e.id = export.id AND e.state = 'failed';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the export has not failed' USING ERRCODE = 'PT409', DETAIL = format('It is %s.', export.state);
	END IF;
	PERFORM ringfence.audit_event('export.retried', export.id::text, jsonb_build_object('name', export.name));
	SELECT e.* INTO STRICT answer FROM ringfence_v1.exports AS e WHERE e.id = export.id;
	RETURN answer;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.retry_export(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.retry_export(uuid) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.retry_export(uuid) IS
	'has an export that failed for good tried again, after the parts that it has, for whoever asked for it, owners and admins; it is exported as whoever asked; PT404, PT409 if it has not failed, PT429 if ten of the member''s are under way, or thirty of the organization''s';

CREATE FUNCTION ringfence_v1.schedule_export(name text, every text, format text DEFAULT 'csv', options jsonb DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	schedule CONSTANT uuid := ringfence.uuid7();
	checked record;
	today date;
BEGIN
	SELECT c.time_zone INTO checked FROM ringfence.check_export(name, NULL, NULL, format, options) AS c;
	IF every IN ('week', 'month') IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid period of a schedule' USING ERRCODE = 'invalid_parameter_value', HINT = 'It is week or month.';
	END IF;
	PERFORM ringfence.lock_exports(ringfence.org_id());
	IF (SELECT count(*) FROM ringfence_data.export_schedules AS s WHERE s.org_id = ringfence.org_id()) >= 50 THEN
		RAISE EXCEPTION 'too many exports are scheduled'
			USING ERRCODE = 'PT429', DETAIL = 'An organization has fifty at most.', HINT = 'unschedule_export() ends one: the view "export_schedules" lists them.';
	END IF;
	today := timezone(checked.time_zone, ringfence.retention_now())::date;
	INSERT INTO ringfence_data.export_schedules (id, name, format, options, every, next_on)
	VALUES (schedule, schedule_export.name, schedule_export.format, schedule_export.options, schedule_export.every,
		date_trunc(every, today::timestamp)::date + ('1 ' || every)::interval);
	RETURN schedule;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.schedule_export(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.schedule_export(text, text, text, jsonb) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.schedule_export(text, text, text, jsonb) IS
	'has an export made of each week (from Monday) or month once it has ended, in the organization''s time zone and as the caller is now, from the present one on; returns the schedule''s id; 22023, 42501, PT404, PT429 if there are fifty';

CREATE FUNCTION ringfence_v1.unschedule_export(id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM ringfence_data.export_schedules AS s
	WHERE s.org_id = ringfence.org_id() AND s.id = unschedule_export.id
		AND (ringfence.has_role('owner', 'admin') OR s.requested_by = ringfence.user_id());
	IF NOT FOUND THEN
		RAISE EXCEPTION 'schedule not found' USING ERRCODE = 'PT404';
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.unschedule_export(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.unschedule_export(uuid) TO ringfence_member;
COMMENT ON FUNCTION ringfence_v1.unschedule_export(uuid) IS
	'ends a schedule, for whoever made it, owners and admins; PT404';

SELECT ringfence.register_job('exports', 'ringfence.export_step()', interval '1 minute', '* * * * *', interval '15 minutes', true,
	'writes exports in parts, and starts those that are scheduled');
