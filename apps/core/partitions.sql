-- Tables whose partitions are made ahead, and the partitions that left.

CREATE TABLE ringfence_data.partitioned_tables (
	relation regclass NOT NULL PRIMARY KEY,
	every text COLLATE "C" NOT NULL,
	ahead integer NOT NULL,
	CONSTRAINT partitioned_tables_every_check CHECK (every IN ('month', 'day')),
	CONSTRAINT partitioned_tables_ahead_check CHECK (ahead BETWEEN 0 AND 400)
);
COMMENT ON TABLE ringfence_data.partitioned_tables IS
	'tables whose partitions make_partitions() makes and drop_partitions() drops; written by partition_by()';
COMMENT ON COLUMN ringfence_data.partitioned_tables.relation IS 'the partitioned table';
COMMENT ON COLUMN ringfence_data.partitioned_tables.every IS 'what a partition holds: a month or a day, in UTC';
COMMENT ON COLUMN ringfence_data.partitioned_tables.ahead IS 'how many are made beyond the present one';

CREATE TABLE ringfence_data.partition_drops (
	id uuid NOT NULL DEFAULT ringfence.uuid7() PRIMARY KEY,
	relation regclass NOT NULL,
	partition regclass,
	name text COLLATE "C" NOT NULL,
	lower_bound timestamptz NOT NULL,
	upper_bound timestamptz NOT NULL,
	cutoff timestamptz NOT NULL,
	rows_estimate bigint,
	bytes bigint NOT NULL,
	started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	detached_at timestamptz,
	dropped_at timestamptz,
	kept_at timestamptz,
	last_error text,
	CONSTRAINT partition_drops_bounds_check CHECK (lower_bound < upper_bound AND upper_bound <= cutoff),
	CONSTRAINT partition_drops_end_check CHECK (dropped_at IS NULL OR kept_at IS NULL),
	CONSTRAINT partition_drops_partition_check CHECK ((partition IS NULL) = (dropped_at IS NOT NULL OR kept_at IS NOT NULL))
);
CREATE UNIQUE INDEX partition_drops_partition_key ON ringfence_data.partition_drops (partition);
CREATE INDEX partition_drops_relation_idx ON ringfence_data.partition_drops (relation) WHERE partition IS NOT NULL;
COMMENT ON TABLE ringfence_data.partition_drops IS
	'partitions that drop_partitions() took out of their tables, and how far it is with each: what a crash left undone is done by the next run; written by it alone';
COMMENT ON COLUMN ringfence_data.partition_drops.id IS 'identifies the drop';
COMMENT ON COLUMN ringfence_data.partition_drops.relation IS 'the table';
COMMENT ON COLUMN ringfence_data.partition_drops.partition IS 'the partition, until it is dropped or back in the table';
COMMENT ON COLUMN ringfence_data.partition_drops.name IS 'its name with its schema, as SQL writes it';
COMMENT ON COLUMN ringfence_data.partition_drops.lower_bound IS 'from when its rows are, in UTC; -infinity for all before';
COMMENT ON COLUMN ringfence_data.partition_drops.upper_bound IS 'until when, exclusive';
COMMENT ON COLUMN ringfence_data.partition_drops.cutoff IS 'the time that was given: rows before it have come due';
COMMENT ON COLUMN ringfence_data.partition_drops.rows_estimate IS 'how many rows it had, as ANALYZE knew; NULL if it never ran';
COMMENT ON COLUMN ringfence_data.partition_drops.bytes IS 'its size with indexes';
COMMENT ON COLUMN ringfence_data.partition_drops.started_at IS 'when it was begun with';
COMMENT ON COLUMN ringfence_data.partition_drops.detached_at IS
	'when it was detached; committed with that, so that what somebody else detached is never dropped';
COMMENT ON COLUMN ringfence_data.partition_drops.dropped_at IS 'when it was dropped';
COMMENT ON COLUMN ringfence_data.partition_drops.kept_at IS
	'when it was put back into the table, since a legal hold had been placed on its rows, or no policy said so any more';
COMMENT ON COLUMN ringfence_data.partition_drops.last_error IS 'SQLSTATE and message of what stopped the last attempt, or NULL';

SELECT ringfence.protect(t.rel, row_class => 'system')
FROM unnest(ARRAY['ringfence_data.partitioned_tables', 'ringfence_data.partition_drops']::regclass[]) AS t (rel);
GRANT SELECT ON ringfence_data.partitioned_tables, ringfence_data.partition_drops TO ringfence_jobs, ringfence_operator;

INSERT INTO ringfence_data.partitioned_tables (relation, every, ahead)
VALUES ('ringfence_data.audit_log', 'month', 3);
