-- Records find their place whatever a DBA does with the log: columns and indexes of
-- their own, columns in another order, partitions that were made otherwise or are
-- missing. A missing one is made amid the statement that needs it, closed like the
-- others.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(34);

CREATE TABLE public.t (id integer PRIMARY KEY, v text);
SELECT ringfence.audit('public.t') \g /dev/null
SELECT 'ringfence_data.audit_log_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMM') AS present \gset
CREATE FUNCTION public.drop_partitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	partition regclass;
BEGIN
	FOR partition IN SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = 'ringfence_data.audit_log'::regclass LOOP
		EXECUTE format('DROP TABLE %s', partition);
	END LOOP;
END $$;

-- The DBA's own columns and indexes

ALTER TABLE ringfence_data.audit_log ADD note text, ADD counted integer DEFAULT 5;
SELECT lives_ok($$INSERT INTO t VALUES (1, 'a')$$, 'with a column of its own the log is written as before');
SELECT results_eq('SELECT news()', ARRAY['INSERT t 1 -> {"v": "a", "id": 1}'], 'in the columns that are ours');
SELECT is((SELECT note FROM ringfence_data.audit_log WHERE key = '1' AND new ->> 'v' = 'a'), NULL, 'and nothing in the other');
ALTER TABLE ringfence_data.audit_log DROP note, DROP counted;
INSERT INTO t VALUES (2, 'b');
SELECT results_eq('SELECT news()', ARRAY['INSERT t 2 -> {"v": "b", "id": 2}'], 'also when it is gone');
CREATE INDEX dba_expression ON ringfence_data.audit_log ((new ->> 'v'), upper(login)) WHERE reason IS NOT NULL;
CREATE INDEX dba_gin ON ringfence_data.audit_log USING gin (new);
SET ringfence.reason = 'why';
INSERT INTO t VALUES (3, 'c'), (4, 'd');
RESET ringfence.reason;
INSERT INTO t VALUES (5, 'c');
SELECT count(*) AS ignored FROM news() \gset
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT is((SELECT key COLLATE "default" FROM ringfence_data.audit_log WHERE new ->> 'v' = 'c' AND upper(login) = 'POSTGRES' AND reason IS NOT NULL), '3', 'an index of the DBA''s on expressions has the record, if its condition says so');
SET enable_bitmapscan = on;
SELECT set_eq($$SELECT key COLLATE "default" FROM ringfence_data.audit_log WHERE new @> '{"v": "c"}'$$, ARRAY['3', '5'], 'so has one of another kind');
SELECT ok((SELECT count(*) FROM ringfence_data.audit_log WHERE org_id = :'org_a' AND recorded_at > '2000-01-01') > 0
	AND (SELECT count(*) FROM ringfence_data.audit_log WHERE relation_id = (SELECT max(id) FROM ringfence_data.audit_relations WHERE relation = 'public.t'::regclass) AND key = '3') = 1,
	'and ours');
RESET enable_seqscan;
RESET enable_bitmapscan;

-- A partition with columns in another order, and a name of its own

SELECT drop_partitions();
DO $$
DECLARE
	bounds CONSTANT text := format('FROM (%L) TO (%L)', date_trunc('month', now(), 'UTC'), date_trunc('month', now(), 'UTC') + interval '1 month');
BEGIN
	EXECUTE (SELECT format('CREATE TABLE ringfence_data.audit_log_own (%s)',
			string_agg(format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attcollation = (SELECT oid FROM pg_collation WHERE collname = 'C') THEN ' COLLATE "C"' ELSE '' END,
				CASE WHEN a.attnotnull THEN ' NOT NULL' END), ', ' ORDER BY a.attname DESC))
		FROM pg_attribute AS a WHERE a.attrelid = 'ringfence_data.audit_log'::regclass AND a.attnum > 0 AND NOT a.attisdropped);
	EXECUTE (SELECT 'ALTER TABLE ringfence_data.audit_log_own ' || string_agg(format('ADD CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), ', ')
		FROM pg_constraint AS k WHERE k.conrelid = 'ringfence_data.audit_log'::regclass AND k.contype = 'c');
	PERFORM ringfence.audit_close('ringfence_data.audit_log_own');
	EXECUTE 'ALTER TABLE ringfence_data.audit_log ATTACH PARTITION ringfence_data.audit_log_own FOR VALUES ' || bounds;
END $$;
INSERT INTO t VALUES (6, 'f');
SELECT results_eq('SELECT news()', ARRAY['INSERT t 6 -> {"v": "f", "id": 6}'], 'a partition with columns in another order');
SELECT is((SELECT l.tableoid::regclass::text FROM ringfence_data.audit_log AS l WHERE l.key = '6'), 'ringfence_data.audit_log_own', 'of whatever name');
SELECT ok(n.actor = 'system' AND n.login = 'postgres' AND n.role = 'postgres' AND n.operation = 'INSERT' AND n.transaction_id > 0 AND n.org_id = '00000000-0000-0000-0000-000000000000'
	AND n.user_id IS NULL AND n.action IS NULL AND n.request_id IS NULL AND n.old IS NULL AND n.personal IS NULL, 'has each value in its column') FROM newest AS n;

-- Missing partitions

SELECT drop_partitions();
INSERT INTO t VALUES (7, 'g');
SELECT results_eq('SELECT news()', ARRAY['INSERT t 7 -> {"v": "g", "id": 7}'], 'without any partition the first record makes one');
SELECT results_eq($$SELECT i.inhrelid::regclass::text FROM pg_inherits AS i WHERE i.inhparent = 'ringfence_data.audit_log'::regclass$$, ARRAY[:'present'::text], 'that of this month');
SELECT results_eq(format($$SELECT c.relrowsecurity, c.relforcerowsecurity, c.relowner::regrole::text, t.tgenabled::text, t.tgfoid::regproc::text
	FROM pg_class AS c LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = 'ringfence_audit_refuse' WHERE c.oid = %L::regclass$$, :'present'),
	$$VALUES (true, true, 'ringfence_owner', 'O', 'ringfence.audit_refuse')$$, 'ringfence_owner''s, with row security and the trigger that refuses');
SELECT is_empty(format($$SELECT x.grantee::regrole, x.privilege_type FROM pg_class AS c, aclexplode(c.relacl) AS x
	WHERE c.oid = %L::regclass AND (x.grantee <> c.relowner OR x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))$$, :'present'), 'with no privilege for anybody to write, nor for others to read');
SELECT throws_ok(format('DELETE FROM %s', :'present'), '42501', 'the audit log is written by ringfence alone', 'closed');
-- The second statement is amid one of a session that knew the old partition.
INSERT INTO t SELECT n, 'many' FROM generate_series(1001, 1600) AS n;
SELECT is((SELECT count(*) FROM news()), 600::bigint, 'the session that made it goes on');

SELECT drop_partitions();
SET search_path = pg_catalog;
SET TimeZone = 'Pacific/Auckland';
SET default_table_access_method = heap;
SET row_security = off;
SET check_function_bodies = off;
SET standard_conforming_strings = off;
SET DateStyle = 'SQL, DMY';
INSERT INTO public.t VALUES (8, 'h');
RESET ALL;
SET client_min_messages = warning;
SELECT results_eq('SELECT news()', ARRAY['INSERT t 8 -> {"v": "h", "id": 8}'], 'whatever the session''s settings are');
SELECT is((SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class AS c WHERE c.oid = :'present'::regclass),
	format('FOR VALUES FROM (''%s'') TO (''%s'')', date_trunc('month', now(), 'UTC'), date_trunc('month', now(), 'UTC') + interval '1 month'), 'it is a month of UTC');

SELECT drop_partitions();
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
UPDATE public.notes SET body = 'of a member';
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE new ->> 'body' = 'of a member'), 1::bigint, 'amid a member''s request');
SELECT is(current_user::text, 'ringfence_member', 'who stays what it was');
SELECT throws_ok(format('CREATE TABLE %s_x ()', :'present'), '42501', 'permission denied for schema ringfence_data', 'without more rights');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT count(*) AS ignored FROM news() \gset

SELECT drop_partitions();
BEGIN;
SAVEPOINT one;
INSERT INTO t VALUES (9, 'i');
SELECT is((SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = 'ringfence_data.audit_log'::regclass), 1::bigint, 'one that was made under a savepoint');
ROLLBACK TO one;
SELECT is((SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = 'ringfence_data.audit_log'::regclass), 0::bigint, 'goes with it');
INSERT INTO t VALUES (10, 'j');
COMMIT;
SELECT results_eq('SELECT news()', ARRAY['INSERT t 10 -> {"v": "j", "id": 10}'], 'and is made again');

SELECT drop_partitions();
INSERT INTO t SELECT n, 'more' FROM generate_series(2001, 4000) AS n;
SELECT is((SELECT count(*) FROM news()), 2000::bigint, 'amid a statement of many rows');

SELECT drop_partitions();
SELECT ringfence.audit_event('by.worker', apart => true) \g /dev/null
SELECT results_eq('SELECT news()', ARRAY['EVENT by.worker'], 'by an event apart');

SELECT drop_partitions();
BEGIN;
SELECT ringfence.audit_event('at.commit') \g /dev/null
COMMIT;
SELECT results_eq('SELECT news()', ARRAY['EVENT at.commit'], 'by one that is written when its transaction commits');

SELECT drop_partitions();
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO t VALUES (11, 'k');
COMMIT;
SELECT results_eq('SELECT news()', ARRAY['INSERT t 11 -> {"v": "k", "id": 11}'], 'in a SERIALIZABLE transaction');

SELECT drop_partitions();
BEGIN;
INSERT INTO t VALUES (12, 'l');
PREPARE TRANSACTION 'regress_audit_partition';
COMMIT PREPARED 'regress_audit_partition';
SELECT results_eq('SELECT news()', ARRAY['INSERT t 12 -> {"v": "l", "id": 12}'], 'in one that is prepared');

SELECT drop_partitions();
BEGIN;
SELECT format('CREATE TABLE %s (id integer)', :'present'), format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', :'present') \gexec
COMMIT;
SELECT throws_ok($$INSERT INTO t VALUES (13, 'm')$$, '55000', format('table %s is not a partition of the audit log', :'present'), 'with something else in its place nothing can be written');
SELECT is_empty('SELECT FROM t WHERE id = 13', 'rather than leave no record');
SELECT format('DROP TABLE %s', :'present') \gexec
INSERT INTO t VALUES (13, 'm');
SELECT results_eq('SELECT news()', ARRAY['INSERT t 13 -> {"v": "m", "id": 13}'], 'without it again');

-- No log at all
BEGIN;
ALTER TABLE ringfence_data.audit_log RENAME TO elsewhere;
SELECT throws_ok($$INSERT INTO t VALUES (14, 'n')$$, '55000', 'the audit log does not exist', 'without a log an audited table can''t be written');
ROLLBACK;
INSERT INTO t VALUES (14, 'n');
SELECT results_eq('SELECT news()', ARRAY['INSERT t 14 -> {"v": "n", "id": 14}'], 'with it again');

SELECT * FROM finish();
