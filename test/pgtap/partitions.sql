-- Partitions are made ahead and dropped whole, by month or by day in UTC: those of
-- registered tables alone, none that is younger than the policy says, that a hold is
-- on, or that somebody else has plans with. What was begun is ended by the next run.
\ir include/tenants.sql
SET client_min_messages = error;
SELECT plan(142);

CREATE SCHEMA app;
GRANT ALL ON SCHEMA app TO ringfence_owner;
SELECT ringfence.protect_schema('app') \g /dev/null

-- A table of that name, with a time of that type.
CREATE FUNCTION public.make_table(name text, type text DEFAULT 'timestamptz') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %s (org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs (id),
		id uuid NOT NULL DEFAULT ringfence.uuid7(), at %s NOT NULL, seen_by uuid, v text DEFAULT ''new'' CHECK (v <> ''''),
		w integer GENERATED ALWAYS AS (length(v)) STORED, PRIMARY KEY (org_id, at, id)) PARTITION BY RANGE (at)', name, type);
	EXECUTE format('CREATE INDEX ON %s (org_id, seen_by)', name);
	EXECUTE format('SELECT ringfence.protect(%L, %L)', name, '{"owner": "all"}');
END $$;
CREATE FUNCTION public.partitions(rel regclass) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', c.relname, to_char(b.lower_bound, 'YYYY-MM-DD HH24:MI:SS'), to_char(b.upper_bound, 'YYYY-MM-DD HH24:MI:SS'))
	FROM pg_inherits AS i
	INNER JOIN pg_class AS c ON c.oid = i.inhrelid
	CROSS JOIN LATERAL ringfence.partition_bounds(c.oid) AS b
	WHERE i.inhparent = rel
	ORDER BY b.lower_bound, c.relname
$$;
SET TimeZone = 'Pacific/Auckland';
SET ringfence.retention_clock = '2026-01-31 23:59:00+00';

-- Registering

SELECT make_table('app.pings') \g /dev/null
SELECT is(ringfence.partition_by('app.pings', 'month', 2), 3, 'partition_by() makes the present partition and those ahead');
SET TimeZone = 'UTC';
SELECT results_eq($$SELECT partitions('app.pings')$$, ARRAY[
	'pings_202601 2026-01-01 00:00:00 2026-02-01 00:00:00',
	'pings_202602 2026-02-01 00:00:00 2026-03-01 00:00:00',
	'pings_202603 2026-03-01 00:00:00 2026-04-01 00:00:00'], 'months of UTC, whatever the session''s zone is');
SELECT is(ringfence.partition_by('app.pings', 'month', 2), 0, 'a second call makes none');
SELECT results_eq($$SELECT p.every COLLATE "default", p.ahead FROM ringfence_data.partitioned_tables AS p WHERE p.relation = 'app.pings'::regclass$$,
	$$VALUES ('month', 2)$$, 'the table is registered');
SELECT results_eq($$SELECT DISTINCT c.relrowsecurity, c.relforcerowsecurity, c.relowner::regrole::text FROM pg_inherits AS i
	INNER JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'app.pings'::regclass$$,
	$$VALUES (true, true, 'ringfence_owner')$$, 'partitions are ringfence_owner''s, with row security in force');
SELECT is_empty($$SELECT x.grantee::regrole, x.privilege_type FROM pg_inherits AS i INNER JOIN pg_class AS c ON c.oid = i.inhrelid,
	aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x WHERE i.inhparent = 'app.pings'::regclass
	AND (x.grantee <> c.relowner OR x.privilege_type = 'TRUNCATE')$$, 'and nobody else has a privilege on them');
SELECT results_eq($$SELECT g.tgname::text COLLATE "default" FROM pg_trigger AS g WHERE g.tgrelid = 'app.pings_202602'::regclass AND NOT g.tgisinternal ORDER BY 1$$,
	ARRAY['ringfence_audit', 'ringfence_audit_truncate'], 'they are audited');
SELECT results_eq($$SELECT k.contype::text, k.confrelid::regclass::text FROM pg_constraint AS k WHERE k.conrelid = 'app.pings_202602'::regclass AND k.contype IN ('f', 'p', 'c') ORDER BY 1$$,
	$$VALUES ('c', '-'), ('f', 'ringfence_data.orgs'), ('p', '-')$$, 'with the constraints of their table');
SELECT is((SELECT count(*) FROM pg_index AS i WHERE i.indrelid = 'app.pings_202602'::regclass), 2::bigint, 'and its indexes');
SELECT is(obj_description('app.pings_202602'::regclass), 'rows of 2026-02, UTC', 'and a comment');
INSERT INTO app.pings (org_id, at) VALUES (:'org_a', '2026-01-31 23:59:59+00'), (:'org_a', '2026-02-01 00:00:00+00');
SELECT results_eq($$SELECT p.tableoid::regclass::text, p.v, p.w FROM app.pings AS p ORDER BY 1$$,
	$$VALUES ('app.pings_202601', 'new', 3), ('app.pings_202602', 'new', 3)$$, 'each row finds its month');
SELECT is_empty($$SELECT * FROM ringfence.verify() AS v WHERE v.object ~ '^app\.'$$, 'verify() finds nothing in them');

SELECT throws_ok($$SELECT ringfence.partition_by(NULL, 'month')$$, '42809', '"NULL" is not a table that is partitioned by time', 'no table');
SELECT throws_ok($$SELECT ringfence.partition_by(4711::regclass, 'month')$$, '42809', '"4711" is not a table that is partitioned by time', 'one that doesn''t exist');
SELECT throws_ok($$SELECT ringfence.partition_by('public.notes', 'month')$$, '42809', '"public.notes" is not a table that is partitioned by time', 'an ordinary one');
SELECT throws_ok($$SELECT ringfence.partition_by('app.pings_202601', 'month')$$, '42809', '"app.pings_202601" is not a table that is partitioned by time', 'a partition');
CREATE TABLE public.listed (a date) PARTITION BY LIST (a);
CREATE TABLE public.ranged (a date, b date) PARTITION BY RANGE (a, b);
CREATE TABLE public.counted (a integer) PARTITION BY RANGE (a);
CREATE TABLE public.expressed (a date) PARTITION BY RANGE ((a + 1));
SELECT throws_ok(format($$SELECT ringfence.partition_by('public.%s', 'month')$$, t.name), '42809',
	format('"public.%s" is not a table that is partitioned by time', t.name), 'one by ' || t.name)
FROM unnest(ARRAY['listed', 'ranged', 'counted', 'expressed']) AS t (name);
CREATE TABLE public.mine (a date) PARTITION BY RANGE (a);
SELECT throws_ok($$SELECT ringfence.partition_by('public.mine', 'month')$$, '55000', 'table public.mine does not belong to role "ringfence_owner"', 'one of another owner');
ALTER TABLE public.mine OWNER TO ringfence_owner;
SELECT throws_ok($$SELECT ringfence.partition_by('public.mine', 'month')$$, '42501', 'role "ringfence_owner" cannot create tables in schema public', 'one where none can be made');
SELECT throws_ok($$SELECT ringfence.partition_by('app.pings', 'year')$$, '22023', 'invalid partitions: 3 ahead, each of a year', 'a year');
SELECT throws_ok($$SELECT ringfence.partition_by('app.pings', 'month', -1)$$, '22023', 'invalid partitions: -1 ahead, each of a month', 'less than none ahead');
SELECT throws_ok($$SELECT ringfence.partition_by('app.pings', 'month', NULL)$$, '22023', 'invalid partitions: NULL ahead, each of a month', 'nobody knows how many ahead');
CREATE ROLE regress_partition_dba;
SELECT pg_catalog.pg_get_userbyid(d.datdba) AS owner FROM pg_database AS d WHERE d.datname = current_database() \gset
ALTER DATABASE :DBNAME OWNER TO regress_partition_dba;
GRANT USAGE ON SCHEMA app TO regress_partition_dba;
SELECT 'app.pings'::regclass::oid AS pings, 'ringfence_data.audit_log'::regclass::oid AS audit_log \gset
SET SESSION AUTHORIZATION regress_partition_dba;
SELECT throws_ok(format('SELECT ringfence.partition_by(%s::regclass, ''day'', 400)', :pings), '42501', 'must be owner of table app.pings', 'the database''s owner says nothing of tables of apps');
SELECT throws_ok(format('SELECT ringfence.partition_by(%s::regclass, NULL)', :audit_log), '42501', 'must be owner of table ringfence_data.audit_log', 'or of the audit log');
RESET SESSION AUTHORIZATION;
ALTER DATABASE :DBNAME OWNER TO :owner;
DROP OWNED BY regress_partition_dba;
DROP ROLE regress_partition_dba;
SELECT results_eq($$SELECT p.every COLLATE "default" FROM ringfence_data.partitioned_tables AS p WHERE p.relation IN ('app.pings'::regclass, 'ringfence_data.audit_log'::regclass)$$,
	ARRAY['month', 'month'], 'all is as it was');
SELECT throws_ok($$SET ROLE ringfence_jobs; SELECT ringfence.partition_by('app.pings'::regclass, 'month')$$, '42501', 'permission denied for schema app', 'jobs don''t get at tables');
RESET ROLE;
SET ROLE ringfence_jobs;
SELECT throws_ok($$SELECT ringfence.partition_by(4711::regclass, 'month')$$, '42501', 'permission denied for function partition_by', 'nor register them');
SELECT throws_ok($$SELECT ringfence.make_partition(4711::regclass, 'month', now(), now())$$, '42501', 'permission denied for function make_partition', 'nor make one at will');
SELECT throws_ok($$SELECT ringfence.try_ddl('DROP TABLE app.pings')$$, '42501', 'permission denied for function try_ddl', 'nor run DDL');
SELECT throws_ok($$INSERT INTO ringfence_data.partition_drops (relation) VALUES (4711)$$, '42501', 'permission denied for table partition_drops', 'nor say what is to be dropped');
SET ROLE ringfence_member;
SELECT throws_ok($$SELECT ringfence.make_partitions()$$, '42501', 'permission denied for function make_partitions', 'members make none');
SELECT throws_ok($$SELECT ringfence.detach_partition(ringfence.uuid7(), 1)$$, '42501', 'permission denied for function detach_partition', 'and detach none');
SELECT throws_ok($$CALL ringfence.drop_partitions(4711::regclass, now())$$, '42501', 'permission denied for procedure drop_partitions', 'and drop none');
RESET ROLE;

-- Other types and names

SELECT make_table('app.by_date', 'date'), make_table('app."By ''local"" time%"', 'timestamp') \g /dev/null
SELECT is(ringfence.partition_by('app.by_date', 'day', 1), 2, 'days');
SELECT results_eq($$SELECT partitions('app.by_date')$$, ARRAY[
	'by_date_20260131 2026-01-31 00:00:00 2026-02-01 00:00:00',
	'by_date_20260201 2026-02-01 00:00:00 2026-02-02 00:00:00'], 'of a date');
SELECT is(ringfence.partition_by('app."By ''local"" time%"', 'month', 0), 1, 'a name that has to be quoted');
SELECT results_eq($$SELECT partitions('app."By ''local"" time%"')$$, ARRAY['By ''local" time%_202601 2026-01-01 00:00:00 2026-02-01 00:00:00'], 'of a timestamp without time zone');
SELECT make_table('app.' || repeat('l', 62)), make_table('app.' || repeat('ü', 31)) \g /dev/null
SELECT is(ringfence.partition_by(('app.' || repeat('l', 62))::regclass, 'day', 0), 1, 'a long name');
SELECT results_eq($$SELECT c.relname::text COLLATE "default" FROM pg_inherits AS i INNER JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = ('app.' || repeat('l', 62))::regclass$$,
	ARRAY[repeat('l', 54) || '_20260131'], 'is cut, not the date');
SELECT is(ringfence.partition_by(('app.' || repeat('ü', 31))::regclass, 'day', 0), 1, 'a long name of letters of two bytes');
SELECT results_eq($$SELECT c.relname::text COLLATE "default" FROM pg_inherits AS i INNER JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = ('app.' || repeat('ü', 31))::regclass$$,
	ARRAY[repeat('ü', 27) || '_20260131'], 'is cut between letters');
SELECT results_eq($$SELECT b.lower_bound, b.upper_bound FROM ringfence.partition_bounds('public.notes') AS b$$, 'VALUES (NULL::timestamptz, NULL::timestamptz)', 'an ordinary table has no bounds');
SELECT results_eq($$SELECT b.lower_bound FROM ringfence.partition_bounds(4711::regclass) AS b$$, 'VALUES (NULL::timestamptz)', 'nor has one that doesn''t exist');
SELECT format('DROP TABLE app.%I, app.%I, app.%I', repeat('l', 62), repeat('ü', 31), 'By ''local" time%') \gexec
SELECT is_empty($$SELECT FROM ringfence_data.partitioned_tables AS p WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = p.relation)$$, 'a dropped table is forgotten');

-- Making ahead

SET ringfence.retention_clock = '2026-02-01 00:00:00+00';
SELECT is(ringfence.make_partitions(), 1::bigint, 'time goes on: one partition is made a call');
SELECT is(ringfence.make_partitions(), 1::bigint, 'then that of another table');
SELECT is(ringfence.make_partitions(), 0::bigint, 'and then none');
SELECT results_eq($$SELECT p.name FROM (VALUES (1, 'app.pings'::regclass), (2, 'app.by_date')) AS t (place, rel) CROSS JOIN LATERAL partitions(t.rel) AS p (name)
	WHERE p.name ~ '^(pings_202604|by_date_20260202) ' ORDER BY t.place$$,
	ARRAY['pings_202604 2026-04-01 00:00:00 2026-05-01 00:00:00', 'by_date_20260202 2026-02-02 00:00:00 2026-02-03 00:00:00'], 'those are the next ones');
SET ringfence.retention_clock = '2026-03-01 00:00:00+00';
BEGIN;
SET LOCAL ROLE ringfence_owner;
CREATE TABLE app.pings_half PARTITION OF app.pings FOR VALUES FROM ('2026-05-01 00:00:00+00') TO ('2026-05-16 00:00:00+00');
CREATE TABLE app.by_date_march PARTITION OF app.by_date FOR VALUES FROM ('2026-03-01') TO ('2026-03-31');
SELECT ringfence.lock_children('app.pings'), ringfence.lock_children('app.by_date') \g /dev/null
COMMIT;
SELECT throws_ok('SELECT ringfence.make_partitions()', '42P17', 'partition "pings_202605" would overlap partition "pings_half"', 'half a month can''t be completed');
SET ringfence.retention_clock = '2026-03-30 00:00:00+00';
SELECT is(ringfence.make_partitions(), 1::bigint, 'which keeps no other table from having its own');
SELECT results_eq($$SELECT partitions('app.by_date') OFFSET 3$$, ARRAY[
	'by_date_march 2026-03-01 00:00:00 2026-03-31 00:00:00',
	'by_date_20260331 2026-03-31 00:00:00 2026-04-01 00:00:00'], 'what a DBA''s partition covers is not made again');
SELECT throws_ok('SELECT ringfence.make_partitions()', '42P17', 'partition "pings_202605" would overlap partition "pings_half"', 'then it is an error');
DROP TABLE app.pings_half;
CREATE TABLE public.pings_202605 ();
BEGIN;
CREATE TABLE app.pings_202605 ();
ALTER TABLE app.pings_202605 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
COMMIT;
SELECT throws_ok('SELECT ringfence.make_partitions()', '42P07', 'table app.pings_202605 is in the way of a partition of table app.pings', 'another table of its name is not taken for it');
DROP TABLE app.pings_202605;
SELECT is(ringfence.make_partitions(), 1::bigint, 'without it, it is made');
SET ringfence.retention_clock = '2026-06-30 00:00:00+00';
SELECT set_eq($$SELECT v.code COLLATE "default" FROM ringfence.verify() AS v WHERE v.object = 'app.pings'$$, ARRAY['partition_missing'], 'verify() tells where the present or the next period has no partition');
SET ringfence.retention_clock = '2026-03-30 00:00:00+00';
SELECT ringfence.partition_by('app.pings', NULL) \g /dev/null
SELECT is_empty($$SELECT v.code COLLATE "default" FROM ringfence.verify() AS v WHERE v.object = 'app.pings'$$, 'but not of a table that is registered no more');
SELECT is(ringfence.make_partitions(), 0::bigint, 'none are made for that');

-- What policies can say

SELECT throws_ok($$SELECT ringfence.retain('app.pings', 'at', '30 days', 'drop_partition')$$, '55000', 'partitions of table app.pings are not made by ringfence', 'a policy needs a registered table');
SELECT ringfence.partition_by('app.pings', 'month', 1) \g /dev/null
SELECT throws_ok($$SELECT ringfence.retain('public.notes', 'id', '30 days', 'drop_partition')$$, '42804', NULL, 'and a column that tells a time');
ALTER TABLE app.pings ADD made_at timestamptz DEFAULT now();
SELECT throws_ok($$SELECT ringfence.retain('app.pings', 'made_at', '30 days', 'drop_partition')$$, '42809', 'table app.pings is not partitioned by column "made_at"', 'the one that it is partitioned by');
ALTER TABLE app.pings ADD UNIQUE (org_id, id, at);
BEGIN;
CREATE TABLE app.answers (id uuid NOT NULL, ping_id uuid, ping_at timestamptz);
SELECT ringfence.protect('app.answers') \g /dev/null
COMMIT;
ALTER TABLE app.answers ADD CONSTRAINT answers_ping_fkey FOREIGN KEY (org_id, ping_id, ping_at) REFERENCES app.pings (org_id, id, at);
SELECT throws_ok($$SELECT ringfence.retain('app.pings', 'at', '30 days', 'drop_partition')$$, '55000', 'table app.pings is referenced by table app.answers', 'a table that is referenced');
DROP TABLE app.answers;
SELECT lives_ok($$SELECT ringfence.retain('app.pings', 'at', '30 days', 'drop_partition')$$, 'a policy');

-- Dropping

SET ringfence.retention_clock = '2026-04-15 00:00:00+00';
INSERT INTO app.pings (org_id, at, v) SELECT :'org_a', m.at, 'kept' FROM generate_series('2026-01-01'::timestamptz, '2026-05-01', '1 day') AS m (at);
INSERT INTO app.pings (org_id, at, v) VALUES (:'org_b', '2026-02-14', 'of B');
SELECT throws_ok($$CALL ringfence.drop_partitions('app.pings', '2026-02-01')$$, '2D000', 'invalid transaction termination', 'it can''t be part of a transaction');
CALL ringfence.drop_partitions('app.pings', '2026-04-01') \g /dev/null
SELECT is_empty('SELECT FROM ringfence_data.partition_drops', 'nothing is dropped that is younger than the policy lets it be');
CALL ringfence.drop_partitions('app.by_date', '2026-01-01') \g /dev/null
CALL ringfence.drop_partitions('public.notes', '2026-01-01') \g /dev/null
CALL ringfence.drop_partitions(4711::regclass, '2026-01-01') \g /dev/null
CALL ringfence.drop_partitions(NULL, '2026-01-01') \g /dev/null
CALL ringfence.drop_partitions('app.pings', NULL) \g /dev/null
CALL ringfence.drop_partitions('app.pings', '-infinity') \g /dev/null
SELECT is_empty('SELECT FROM ringfence_data.partition_drops', 'nor without a policy, a table or a time');
SELECT throws_ok($$SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01')$$, '55000', 'no policy lets partitions of table app.pings be dropped that are as young as 2026-04-01 00:00:00+00', 'which is why');
SELECT throws_ok($$SELECT ringfence.begin_partition_drop('app.by_date', '2026-01-01')$$, '55000', NULL, 'a table without a policy');
SELECT throws_ok($$SELECT ringfence.begin_partition_drop('public.notes', '2026-01-01')$$, '42809', NULL, 'a table without partitions');
SELECT throws_ok($$SELECT ringfence.begin_partition_drop(NULL, '2026-01-01')$$, '22004', 'table and time must be given', 'no table');

-- Nearly a month: its end is past the time.
CALL ringfence.drop_partitions('app.pings', '2026-01-31 23:59:59+00') \g /dev/null
SELECT is_empty('SELECT FROM ringfence_data.partition_drops', 'a partition goes when all its range is past');
ANALYZE app.pings;
CALL ringfence.drop_partitions('app.pings', '2026-02-01') \g /dev/null
SELECT results_eq($$SELECT d.name COLLATE "default", d.lower_bound, d.upper_bound, d.cutoff, d.rows_estimate, d.bytes > 0, d.partition, d.started_at <= d.detached_at, d.detached_at <= d.dropped_at, d.kept_at, d.last_error
	FROM ringfence_data.partition_drops AS d$$,
	$$VALUES ('app.pings_202601', '2026-01-01'::timestamptz, '2026-02-01'::timestamptz, '2026-02-01'::timestamptz, 32::bigint, true, NULL::regclass, true, true, NULL::timestamptz, NULL)$$,
	'it is on record');
SELECT is(to_regclass('app.pings_202601'), NULL, 'it is gone');
SELECT is((SELECT min(p.at) FROM app.pings AS p), '2026-02-01'::timestamptz, 'with its rows, and no others');
SELECT results_eq($$SELECT l.key COLLATE "default", l.org_id, l.new - 'bytes' FROM ringfence_data.audit_log AS l WHERE l.action = 'retention.partition_dropped'$$,
	$$VALUES ('app.pings', '00000000-0000-0000-0000-000000000000'::uuid, '{"partition": "app.pings_202601", "from": "2026-01-01T00:00:00+00:00", "to": "2026-02-01T00:00:00+00:00", "rows_estimate": 32}'::jsonb)$$,
	'an event tells of it');
SELECT is_empty($$SELECT FROM pg_locks AS l WHERE l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()) AND l.pid <> pg_backend_pid() AND l.mode = 'ShareUpdateExclusiveLock'$$,
	'no lock is left');

-- A hold on a row of another organization, then none

SELECT ringfence.place_hold('court order 1', 'app.pings', rows => '{"v": "of B"}') AS hold \gset
SET ringfence.retention_clock = '2026-05-15 00:00:00+00';
CALL ringfence.drop_partitions('app.pings', '2026-04-01') \g /dev/null
SELECT results_eq($$SELECT partitions('app.pings') LIMIT 2$$, ARRAY[
	'pings_202602 2026-02-01 00:00:00 2026-03-01 00:00:00',
	'pings_202604 2026-04-01 00:00:00 2026-05-01 00:00:00'], 'a partition with a row that a hold is on stays, the next one goes');
SELECT is((SELECT count(*) FROM app.pings AS p WHERE p.at < '2026-03-01'), 30::bigint, 'with all its rows');
SELECT ringfence.release_hold(:'hold', 'done') \g /dev/null

-- Step by step: a hold when it is detached already

SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01') AS drop_id \gset
SELECT is(ringfence.begin_partition_drop('app.pings', '2026-04-01'), :'drop_id'::uuid, 'without it, it is begun with; a second time is the same');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'attached', 'first it is attached');
SELECT ok(ringfence.detach_partition(:'drop_id', 10000), 'a worker detaches it');
SELECT is((SELECT count(*) FROM pg_inherits AS i WHERE i.inhrelid = 'app.pings_202602'::regclass), 0::bigint, 'then it is no partition');
SELECT ok(NOT ringfence.detach_partition(:'drop_id', 10000), 'a second time there is nothing to detach');
SELECT is_empty($$SELECT v.code, v.object FROM ringfence.verify() AS v WHERE v.object ~ 'pings_202602'$$, 'verify() knows of it');
SET ROLE ringfence_owner;
SELECT is((SELECT count(*) FROM app.pings_202602), 0::bigint, 'it shows nothing to its owner');
RESET ROLE;
SELECT ringfence.place_hold('court order 2', 'app.pings', rows => '{"v": "of B"}') AS hold \gset
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'busy', 'once a hold is on it, it is on its way back');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'kept', 'and back');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'gone', 'that drop is over');
SELECT is((SELECT count(*) FROM app.pings AS p WHERE p.at < '2026-03-01'), 30::bigint, 'its rows are in the table again');
SELECT results_eq($$SELECT d.kept_at IS NOT NULL, d.dropped_at, d.partition FROM ringfence_data.partition_drops AS d ORDER BY d.id DESC LIMIT 1$$,
	'VALUES (true, NULL::timestamptz, NULL::regclass)', 'which is on record');
SELECT results_eq($$SELECT k.contype::text FROM pg_constraint AS k WHERE k.conrelid = 'app.pings_202602'::regclass AND k.contype = 'f' AND k.conparentid <> 0$$, ARRAY['f'], 'with its foreign key');
SELECT results_eq($$SELECT g.tgname::text COLLATE "default" FROM pg_trigger AS g WHERE g.tgrelid = 'app.pings_202602'::regclass AND NOT g.tgisinternal ORDER BY 1$$,
	ARRAY['ringfence_audit', 'ringfence_audit_truncate'], 'and its triggers');
SELECT ringfence.release_hold(:'hold', 'done') \g /dev/null

-- An error of a statement is not taken for a lock, and leaves nothing to be canceled later.

CREATE FUNCTION public.waits_after_error() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM ringfence.try_ddl('SELECT 1/0');
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	SET LOCAL lock_timeout = '500ms';
	LOCK TABLE app.by_date;
	RETURN 'locked';
EXCEPTION WHEN lock_not_available OR query_canceled THEN
	RETURN SQLSTATE;
END $$;
SELECT dblink_connect('locker', format('dbname=%L host=%L port=%L user=postgres', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))), dblink_exec('locker', 'BEGIN; LOCK TABLE app.by_date') \g /dev/null
SELECT throws_ok($$SELECT ringfence.try_ddl('SELECT 1/0')$$, '22012', 'division by zero', 'what a statement throws is thrown');
SELECT is(waits_after_error(), '55P03', 'who waits for a lock after that waits as long as they meant to');
SELECT dblink_disconnect('locker') \g /dev/null

-- What somebody else does meanwhile

SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01') AS drop_id \gset
ALTER TABLE app.pings DETACH PARTITION app.pings_202602;
SELECT ok(NOT ringfence.detach_partition(:'drop_id', 10000), 'what somebody detached is not detached');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'gone', 'nor dropped');
ALTER TABLE app.pings ATTACH PARTITION app.pings_202602 FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00');
SELECT ringfence.begin_partition_drop('app.pings', '2026-03-01') AS drop_id \gset
ALTER TABLE app.pings DETACH PARTITION app.pings_202602;
ALTER TABLE app.pings ATTACH PARTITION app.pings_202602 FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:01+00');
SELECT ok(NOT ringfence.detach_partition(:'drop_id', 10000), 'nor is what got another range');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'gone', 'that is another partition');
ALTER TABLE app.pings DETACH PARTITION app.pings_202602;
ALTER TABLE app.pings ATTACH PARTITION app.pings_202602 FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00');
SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01') AS drop_id \gset
SELECT ok(ringfence.detach_partition(:'drop_id', 10000), 'what was detached');
ALTER TABLE app.pings ATTACH PARTITION app.pings_202602 FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'gone', 'and somebody attached again stays');
-- What the policy says
SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01') AS drop_id \gset
SELECT ringfence.retain('app.pings', 'at', '90 days', 'drop_partition') \g /dev/null
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'gone', 'what a policy says no more is left alone');
SELECT ringfence.retain('app.pings', 'at', '30 days', 'drop_partition') \g /dev/null
SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01') AS drop_id \gset
SELECT ok(ringfence.detach_partition(:'drop_id', 10000), 'what is detached already');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'detached', 'and has no foreign key any more');
SELECT ringfence.unretain('app.pings') \g /dev/null
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'kept', 'goes back');
SELECT is((SELECT count(*) FROM app.pings AS p WHERE p.at < '2026-03-01'), 30::bigint, 'with its rows');
SELECT results_eq($$SELECT k.contype::text FROM pg_constraint AS k WHERE k.conrelid = 'app.pings_202602'::regclass AND k.contype = 'f' AND k.conparentid <> 0 AND k.convalidated$$, ARRAY['f'], 'and a foreign key');
SELECT ringfence.retain('app.pings', 'at', '30 days', 'drop_partition') \g /dev/null

ALTER TABLE app.pings DETACH PARTITION app.pings_202602;
ALTER TABLE app.pings ATTACH PARTITION app.pings_202602 FOR VALUES FROM (MINVALUE) TO ('2026-03-01 00:00:00+00');
SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01') AS drop_id \gset
SELECT ringfence.partition_by('app.pings', NULL) \g /dev/null
SELECT ok(NOT ringfence.detach_partition(:'drop_id', 10000), 'nor one of a table that is registered no more');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'gone', 'which is a way to stop it');
SELECT ringfence.partition_by('app.pings', 'month', 1) \g /dev/null
SELECT ringfence.begin_partition_drop('app.pings', '2026-04-01') AS drop_id \gset
ALTER TABLE app.pings_202602 OWNER TO postgres;
SELECT ok(NOT ringfence.detach_partition(:'drop_id', 10000), 'nor one of another owner');
ALTER TABLE app.pings_202602 OWNER TO ringfence_owner;

SELECT throws_ok(format('SELECT ringfence.detach_partition(%L, 0)', :'drop_id'), '22023', 'invalid patience 0', 'no patience');
SELECT throws_ok(format('SELECT ringfence.detach_partition(%L, 600001)', :'drop_id'), '22023', 'invalid patience 600001', 'too much');
SELECT is(ringfence.detach_partition(NULL, 1), NULL, 'nothing for nothing');
SELECT ok(NOT ringfence.detach_partition(ringfence.uuid7(), 10000), 'there is nothing to an id that is none');
BEGIN TRANSACTION READ ONLY;
SELECT throws_ok(format('SELECT ringfence.detach_partition(%L, 1)', :'drop_id'), '25006', 'cannot execute detach_partition() in a read-only transaction', 'not where nothing may be written');
ROLLBACK;
SELECT throws_ok('SELECT ringfence.limit_lock_waits(-1)', '22023', 'invalid limit -1', 'no limit is less than none');

-- The next run goes on with what was begun, though it is given another time
CALL ringfence.drop_partitions('app.pings', '-infinity') \g /dev/null
SELECT is(to_regclass('app.pings_202602'), NULL, 'what was begun is ended; a partition from MINVALUE on');
SELECT is((SELECT d.lower_bound FROM ringfence_data.partition_drops AS d ORDER BY d.id DESC LIMIT 1), '-infinity'::timestamptz, 'of which there is no first day');

-- A default partition can't be there when another is detached concurrently
SET ringfence.retention_clock = '2026-07-15 00:00:00+00';
BEGIN;
SET LOCAL ROLE ringfence_owner;
CREATE TABLE app.pings_rest PARTITION OF app.pings DEFAULT;
SELECT ringfence.lock_children('app.pings') \g /dev/null
COMMIT;
INSERT INTO app.pings (org_id, at) VALUES (:'org_a', '2020-01-01');
SELECT is_empty($$SELECT v.code COLLATE "default" FROM ringfence.verify() AS v WHERE v.object = 'app.pings'$$, 'with a default partition none is missing');
SELECT ringfence.begin_partition_drop('app.pings', '2026-06-01') AS drop_id \gset
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'detached', 'it is detached without a worker');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'detached', 'its foreign key goes');
SELECT is(ringfence.advance_partition_drop(:'drop_id'), 'dropped', 'and the rest');
CALL ringfence.drop_partitions('app.pings', '2026-06-01') \g /dev/null
SELECT results_eq($$SELECT p.at FROM app.pings AS p WHERE p.at < '2026-06-01'$$, ARRAY['2020-01-01'::timestamptz], 'only the default partition is never dropped');
UPDATE ringfence_data.partition_drops SET partition = 'app.pings_rest', dropped_at = NULL, started_at = now() - interval '2 days' WHERE id = :'drop_id';
SELECT results_eq($$SELECT v.code COLLATE "default" FROM ringfence.verify() AS v WHERE v.code ~ '^partition_drop'$$, ARRAY['partition_drop_stuck'], 'verify() tells of one that takes too long');
UPDATE ringfence_data.partition_drops SET partition = NULL, dropped_at = now() WHERE id = :'drop_id';

-- The audit log: it is stated first that what is dropped was all there

RESET ringfence.retention_clock;
SELECT results_eq($$SELECT p.every COLLATE "default", p.ahead FROM ringfence_data.partitioned_tables AS p WHERE p.relation = 'ringfence_data.audit_log'::regclass$$,
	$$VALUES ('month', 3)$$, 'the audit log is registered');
SELECT c.oid::regclass AS last_month FROM pg_inherits AS i INNER JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'ringfence_data.audit_log'::regclass ORDER BY c.relname DESC LIMIT 1 \gset
SELECT format('DROP TABLE %s', :'last_month') \gexec
SELECT is(ringfence.make_partitions(), 1::bigint, 'its partitions are made ahead as well');
SELECT isnt(to_regclass(:'last_month'), NULL, 'by its own maker');
BEGIN;
SET LOCAL session_replication_role = replica;
SELECT ringfence.make_audit_partition('2023-12-01'), ringfence.make_audit_partition('2024-01-01'), ringfence.make_audit_partition('2024-02-01') \g /dev/null
INSERT INTO ringfence_data.audit_log (org_id, id, recorded_at, transaction_id, incarnation, operation, action, actor, login, role)
SELECT :'org_a', (lpad(to_hex((extract(epoch FROM m.at) * 1000)::bigint), 12, '0') || '7000800000000000000' || m.n)::uuid,
	m.at, pg_current_xact_id()::text::bigint, 1, 'EVENT', 'test.old', 'system', 'x', 'x'
FROM (SELECT '2024-01-31 12:00:00+00'::timestamptz AS at, n FROM generate_series(0, 9) AS n) AS m;
COMMIT;
SELECT ringfence.retain('ringfence_data.audit_log', 'recorded_at', '1 year', 'drop_partition') \g /dev/null
CALL ringfence.drop_partitions('ringfence_data.audit_log', '2024-01-01') \g /dev/null
SELECT is(to_regclass('ringfence_data.audit_log_202312'), NULL, 'where nothing was ever sealed a month goes without a statement');
ALTER TABLE ringfence_data.audit_log_202402 OWNER TO CURRENT_USER;
CALL ringfence.run_retention(rel => 'ringfence_data.audit_log');
SELECT isnt(to_regclass('ringfence_data.audit_log_202401'), NULL, 'where a partition is another''s none goes');
SELECT is((SELECT r.state COLLATE "default" FROM ringfence_data.retention_runs AS r ORDER BY r.id DESC LIMIT 1), 'failed', 'which a run has failed with');
SELECT results_eq($$SELECT b.relation, b.step, b.action COLLATE "default", b.rows, b.error FROM ringfence_data.retention_batches AS b WHERE b.error LIKE '55000%'$$,
	$$VALUES ('ringfence_data.audit_log', 'drop_partition', 'drop_partition', 0::bigint,
		'55000: partition ringfence_data.audit_log_202402 of table ringfence_data.audit_log does not belong to role "ringfence_owner"')$$, 'and has on record');
SELECT is_empty($$SELECT FROM ringfence_data.partition_drops AS d WHERE d.relation = 'ringfence_data.audit_log'::regclass AND d.dropped_at IS NULL$$, 'and nothing is begun');
ALTER TABLE ringfence_data.audit_log_202402 OWNER TO ringfence_owner;
SELECT ringfence.audit_seal() \g /dev/null
SELECT ringfence.place_hold('court order', 'ringfence_data.audit_log', rows => '{"action": "test.old"}') AS hold \gset
CALL ringfence.drop_partitions('ringfence_data.audit_log', '2024-02-01') \g /dev/null
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.action = 'test.old'), 10::bigint, 'so does one with a record that a hold is on');
SELECT ringfence.release_hold(:'hold', 'over') \g /dev/null
BEGIN;
SELECT ringfence.set_context(:'org_a') \g /dev/null
SELECT ringfence.place_hold('lawsuit', 'public.notes', rows => '{"body": "x"}') AS hold \gset
COMMIT;
CALL ringfence.drop_partitions('ringfence_data.audit_log', '2024-02-01') \g /dev/null
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.action = 'test.old'), 10::bigint, 'or one with a record of an organization of which anything is held');
BEGIN;
SELECT ringfence.set_context(:'org_a') \g /dev/null
SELECT ringfence.release_hold(:'hold', 'over') \g /dev/null
COMMIT;
CREATE FUNCTION public.connect(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dblink_connect(name, format('dbname=%L host=%L port=%L user=postgres', current_database(),
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')));
END $$;
CREATE FUNCTION public.await_lock() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		PERFORM pg_stat_clear_snapshot();
		IF EXISTS (SELECT FROM pg_locks AS l WHERE l.relation = 'ringfence_data.audit_drops'::regclass AND NOT l.granted) THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN false;
END $$;
SELECT connect('blocker'), connect('stater'), dblink_exec('blocker', 'BEGIN; LOCK TABLE ringfence_data.audit_drops') \g /dev/null
SELECT dblink_send_query('stater', $$SELECT ringfence.begin_partition_drop('ringfence_data.audit_log', '2024-02-01')$$) \g /dev/null
SELECT ok(await_lock(), 'while it is stated that a month was all there');
SELECT is_empty($$SELECT l.mode FROM pg_locks AS l WHERE l.relation = 'ringfence_data.legal_holds'::regclass AND l.mode = 'ShareLock'$$, 'holds can be placed');
SELECT dblink_cancel_query('stater') \g /dev/null
SELECT dblink_disconnect('stater'), dblink_disconnect('blocker') \g /dev/null
BEGIN;
SELECT ringfence.set_context(:'org_b') \g /dev/null
SELECT ringfence.place_hold('lawsuit') \g /dev/null
COMMIT;
CALL ringfence.drop_partitions('ringfence_data.audit_log', '2024-02-01') \g /dev/null
SELECT is(to_regclass('ringfence_data.audit_log_202401'), NULL, 'one that is sealed goes');
SELECT isnt(to_regclass('ringfence_data.audit_log_202402'), NULL, 'and no other');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.action = 'audit.dropped'), 1::bigint, 'which was stated');
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'so that nothing is missed');
SELECT ringfence.audit_seal() \g /dev/null
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'nor later');

SELECT * FROM finish();
