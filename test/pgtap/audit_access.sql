-- The audit log: owners and admins read what concerns their organization, an
-- operator what concerns the one entered, on record; nobody else reads and nobody
-- at all writes. Its partitions come by themselves and are closed from the start.
\ir include/tenants.sql
SET client_min_messages = warning;
SELECT plan(96);

INSERT INTO ringfence_data.users (id, email) VALUES
	('aaaaaaaa-0000-4000-8000-0000000000ad', 'admin@a.test'), ('aaaaaaaa-0000-4000-8000-0000000000a0', 'worker@a.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES
	(:'org_a', 'aaaaaaaa-0000-4000-8000-0000000000ad', '{admin}'), (:'org_a', 'aaaaaaaa-0000-4000-8000-0000000000a0', '{worker}');
SELECT to_char(now() AT TIME ZONE 'UTC', '"ringfence_data.audit_log_"YYYYMM') AS this_month \gset

-- Reading.

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('SELECT (l.operation, l.relation, l.key, l.new ->> ''body'')::text FROM ringfence_v1.audit_log AS l WHERE l.relation = ''public.notes''',
	ARRAY['(INSERT,public.notes,0aaaaaaa-0000-7000-8000-0000000000e1,"note of A")'], 'an owner reads what concerns the organization');
SELECT set_eq('SELECT DISTINCT l.relation COLLATE "default" FROM ringfence_v1.audit_log AS l', ARRAY['public.notes', 'ringfence_data.orgs', 'ringfence_data.memberships'], 'in every table');
SELECT set_eq('SELECT DISTINCT l.org_id FROM ringfence_data.audit_log AS l', ARRAY[:'org_a'::uuid], 'and nothing else');
SELECT results_eq($$SELECT (c.operation, c.key, c.column_name, c.old, c.new #>> '{}')::text FROM ringfence_v1.audit_changes AS c WHERE c.relation = 'public.notes' AND c.column_name = 'body'$$,
	ARRAY['(INSERT,0aaaaaaa-0000-7000-8000-0000000000e1,body,,"note of A")'], 'column by column as well');
UPDATE public.notes SET body = 'changed';
SELECT results_eq($$SELECT (c.column_name, c.old #>> '{}', c.new #>> '{}', c.actor, c.user_id)::text FROM ringfence_v1.audit_changes AS c WHERE c.operation = 'UPDATE'$$,
	ARRAY[format('(body,"note of A",changed,user,%s)', :'user_a')], 'a change is there with the next statement');
COMMIT;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-0000000000ad", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}');
SELECT is((SELECT count(*) FROM ringfence_v1.audit_log WHERE relation = 'public.notes'), 2::bigint, 'an admin reads it');
SELECT throws_ok('SELECT recorded_at FROM ringfence_data.audit_relations', '42501', NULL, 'but not when a table was first written');
SELECT throws_ok('SELECT number FROM ringfence_data.audit_incarnations', '42501', NULL, 'nor on which servers');
COMMIT;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-0000000000a0", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}');
SELECT is((SELECT count(*) FROM public.notes), 1::bigint, 'a worker is a member');
SELECT is_empty('SELECT id FROM ringfence_v1.audit_log', 'who reads nothing of it');
SELECT is_empty('SELECT id FROM ringfence_v1.audit_changes', 'in no form');
SELECT is_empty('SELECT id FROM ringfence_data.audit_log', 'nor in the table');
SELECT is_empty('SELECT id FROM ringfence_data.audit_relations', 'nor what tables there are');
COMMIT;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-00000000000a"}');
SELECT is_empty('SELECT id FROM ringfence_data.audit_log', 'without an organization there is nothing');
SELECT is_empty('SELECT id FROM ringfence_data.audit_relations', 'not even tables');
COMMIT;
BEGIN;
SELECT claim(NULL, 'ringfence_anon');
SELECT throws_ok('SELECT id FROM ringfence_v1.audit_log', '42501', 'permission denied for view audit_log', 'nobody reads nothing');
COMMIT;
BEGIN;
SELECT claim(:'claims_b');
SELECT is_empty($$SELECT id FROM ringfence_v1.audit_log WHERE new::text LIKE '%note of A%' OR key LIKE '0aaa%'$$, 'another organization''s owner reads none of it');
SELECT throws_ok(format('SELECT id FROM %s', :'this_month'), '42501', NULL, 'not by a partition''s name either');
COMMIT;

-- Operators.

SET SESSION AUTHORIZATION regress_operator;
SET ROLE ringfence_operator;
SELECT is_empty('SELECT id FROM ringfence_v1.audit_log', 'an operator who has entered none reads nothing');
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'ticket 7') \g /dev/null
SELECT array_agg(DISTINCT l.org_id) AS orgs FROM ringfence_data.audit_log AS l \gset
SELECT count(*) AS records FROM ringfence_v1.audit_log WHERE relation = 'public.notes' \gset
SELECT count(*) AS entries FROM ringfence.history('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1') \gset
ROLLBACK;
SELECT is(:'orgs'::uuid[], ARRAY[:'org_a'::uuid], 'in one, an operator reads what concerns it');
SELECT is(:'records'::text, '2', 'through the views');
SELECT is(:'entries'::text, '2', 'and by row');
SELECT throws_ok('SELECT number FROM ringfence_data.audit_incarnations', '42501', NULL, 'what operators need not know they may not');
RESET SESSION AUTHORIZATION;
RESET ROLE;
SELECT results_eq($$SELECT (l.org_id, l.actor, l.login, l.reason)::text FROM ringfence_data.audit_log AS l WHERE l.action = 'audit.read'$$,
	ARRAY[format('(%s,operator,regress_operator,"ticket 7")', :'org_a')], 'an operator''s reading is on record, once, whatever became of the transaction');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('SELECT (l.action, l.actor, l.reason, l.relation)::text FROM ringfence_v1.audit_log AS l WHERE l.operation = ''EVENT'' AND l.action = ''audit.read''',
	ARRAY['(audit.read,operator,"ticket 7",)'], 'where the organization reads it');
COMMIT;

-- Writing: by privileges, and by triggers where there are no bounds to those.

BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok(s, '42501', NULL, 'a member may not: ' || split_part(s, ' ', 1) || ' ' || r)
	FROM unnest(ARRAY['ringfence_data.audit_log', 'ringfence_data.audit_relations']) AS r,
		unnest(ARRAY[format('INSERT INTO %s DEFAULT VALUES', r), format('UPDATE %s SET id = id', r), format('DELETE FROM %s', r)]) AS s;
SELECT throws_ok('SELECT ringfence.audit_forget(''public.notes'', ''x'')', '42501', 'permission denied for function audit_forget', 'nor forget');
SELECT throws_ok('SELECT ringfence.audit_event(''a.b'')', '42501', 'permission denied for function audit_event', 'nor invent');
SELECT throws_ok('SELECT ringfence.label(''public.notes'', ''body'', ''secret'')', '42501', 'permission denied for function label', 'nor hide');
SELECT throws_ok('SELECT ringfence.make_audit_partition(now())', '42501', 'permission denied for function make_audit_partition', 'nor make partitions');
COMMIT;
RESET SESSION AUTHORIZATION;
SET ROLE ringfence_owner;
SELECT throws_ok(s, '42501', 'permission denied for table ' || split_part(r, '.', 2), 'nor may ringfence_owner''s code: ' || split_part(s, ' ', 1) || ' ' || r)
	FROM unnest(ARRAY['ringfence_data.audit_log', 'ringfence_data.audit_relations', 'ringfence_data.audit_incarnations', :'this_month']) AS r,
		unnest(ARRAY[format('INSERT INTO %s DEFAULT VALUES', r), format('DELETE FROM %s', r), format('TRUNCATE %s', r)]) AS s;
RESET ROLE;
SELECT throws_ok(s, '42501', 'the audit log is written by ringfence alone', 'nor a superuser: ' || split_part(s, ' ', 1) || ' ' || r)
	FROM unnest(ARRAY['ringfence_data.audit_log', 'ringfence_data.audit_relations', 'ringfence_data.audit_incarnations', :'this_month']) AS r,
		unnest(ARRAY[format('INSERT INTO %s DEFAULT VALUES', r), format('DELETE FROM %s', r), format('TRUNCATE %s', r),
			format('COPY %s FROM ''/dev/null''', r), format('UPDATE %s SET %s = NULL', r, (SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = r::regclass AND a.attnum = 1))]) AS s;

-- Partitions.

SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'ringfence_data.audit_log'::regclass), 4::bigint, 'there are partitions for this month and three more');
SELECT is(ringfence.make_audit_partitions(5), 2, 'others are made ahead');
SELECT is(ringfence.make_audit_partitions(5), 0, 'once');
SELECT throws_ok('SELECT ringfence.make_audit_partitions(-1)', '22023', 'invalid number of months -1', 'not behind');
SET timezone = 'Pacific/Kiritimati';
SELECT is(ringfence.make_audit_partition('2031-01-31 23:59:59.999+00')::text, 'ringfence_data.audit_log_203101', 'a month ends in UTC');
SELECT is(ringfence.make_audit_partition('2031-02-01 00:00+00')::text, 'ringfence_data.audit_log_203102', 'whatever the session''s time zone is');
SELECT is(ringfence.make_audit_partition('2031-12-31 23:00-05')::text, 'ringfence_data.audit_log_203201', 'or the moment''s');
SET timezone = 'UTC';
SELECT is(pg_get_expr(relpartbound, oid), 'FOR VALUES FROM (''2031-01-01 00:00:00+00'') TO (''2031-02-01 00:00:00+00'')', 'its bounds are the month''s')
	FROM pg_class WHERE oid = 'ringfence_data.audit_log_203101'::regclass;
SELECT is(ringfence.make_audit_partition('2031-01-01 00:00+00'), 'ringfence_data.audit_log_203101', 'one that is there is found');
SELECT is_empty($$
	SELECT c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity, c.relowner::regrole, c.relacl
		FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'ringfence_data.audit_log'::regclass AND (
			NOT c.relrowsecurity OR NOT c.relforcerowsecurity OR c.relowner <> 'ringfence_owner'::regrole
			OR EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid)
			OR EXISTS (SELECT FROM aclexplode(c.relacl) AS x WHERE x.grantee <> c.relowner OR x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')))
$$, 'each is closed to everybody');
SELECT set_eq($$
	SELECT regexp_replace(pg_get_indexdef(p.indexrelid), '^.* USING ', '') FROM pg_index AS p WHERE p.indrelid = 'ringfence_data.audit_log_203101'::regclass
$$, $$
	SELECT regexp_replace(pg_get_indexdef(l.indexrelid), '^.* USING ', '') FROM pg_index AS l WHERE l.indrelid = 'ringfence_data.audit_log'::regclass
$$, 'with the indexes of the log');
SELECT is_empty($$SELECT v.code, v.object FROM ringfence.verify() AS v WHERE v.object LIKE '%audit\_log%' OR v.code LIKE 'audit%'$$, 'verify() has nothing to say of them');
CREATE TABLE public.audit_log_203301 (LIKE ringfence_data.audit_log);
ALTER TABLE public.audit_log_203301 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE public.audit_log_203301 SET SCHEMA ringfence_data;
SELECT throws_ok('SELECT ringfence.make_audit_partition(''2033-01-01'')', '55000', 'table ringfence_data.audit_log_203301 is not a partition of the audit log', 'a table in the way is not taken for one');
DROP TABLE ringfence_data.audit_log_203301;

-- Two sessions that want the same one, and others who go on writing meanwhile.

SELECT dblink_connect(c, format('dbname=%L host=%L port=%L user=postgres', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))) FROM unnest('{first,second,third}'::text[]) AS c \g /dev/null
SELECT dblink_exec('first', 'BEGIN') \gset
SELECT p AS made FROM dblink('first', 'SELECT ringfence.make_audit_partition(''2034-01-01'')') AS t (p text) \gset
SELECT dblink_send_query('second', 'SELECT ringfence.make_audit_partition(''2034-01-01'')') \gset
SELECT dblink_exec('third', 'SET lock_timeout = ''10s''') \gset
SELECT dblink_exec('third', 'UPDATE public.notes SET body = body || ''!''') \gset
SELECT is(n, 2::bigint, 'others write and read the log while a partition is made')
	FROM dblink('third', 'SELECT count(*) FROM ringfence_data.audit_log WHERE new ->> ''body'' LIKE ''%!''') AS t (n bigint);
SELECT is(dblink_is_busy('second'), 1, 'who wants the same one waits');
SELECT dblink_exec('first', 'COMMIT') \gset
SELECT is(p, 'ringfence_data.audit_log_203401', 'and finds it made') FROM dblink_get_result('second') AS t (p text);
SELECT dblink_disconnect(c) FROM unnest('{first,second,third}'::text[]) AS c \g /dev/null

-- A month that nobody made a partition for gets one by the first change in it,
-- whoever makes that and whatever the session's settings are.

DO $$ BEGIN EXECUTE format('DROP TABLE %s', to_char(now() AT TIME ZONE 'UTC', '"ringfence_data.audit_log_"YYYYMM')); END $$;
SELECT hasnt_table('ringfence_data', split_part(:'this_month', '.', 2), 'a partition is missing');
SET SESSION AUTHORIZATION regress_web;
SET search_path = '';
BEGIN;
SELECT public.claim(:'claims_a');
UPDATE public.notes SET body = 'missing';
COMMIT;
RESET search_path;
RESET SESSION AUTHORIZATION;
SELECT has_table('ringfence_data', split_part(:'this_month', '.', 2), 'a member''s change makes it');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE new ->> 'body' = 'missing'), 1::bigint, 'and is in it');

-- Filters use indexes.

SET session_replication_role = replica;
INSERT INTO ringfence_data.audit_log (org_id, id, recorded_at, transaction_id, incarnation, relation_id, user_id, operation, actor, login, role, key, new)
SELECT CASE n % 10 WHEN 0 THEN :'org_a'::uuid ELSE :'org_b' END, gen_random_uuid(), date_trunc('month', now(), 'UTC') + n * interval '1 min', 1, 1,
		(SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.name = CASE n % 3 WHEN 0 THEN 'public.notes' ELSE 'ringfence_data.orgs' END),
		:'user_a', 'INSERT', 'user', 'x', 'x', n::text, '{}'
	FROM generate_series(1, 30000) AS n;
RESET session_replication_role;
VACUUM ANALYZE ringfence_data.audit_log, ringfence_data.audit_relations;
CREATE FUNCTION public.indexes(filter text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	conditions text[];
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) SELECT * FROM ringfence_v1.audit_log ' || filter LOOP
		-- Of empty partitions nothing is asked.
		IF line ~ 'Seq Scan' AND line ~ to_char(now() AT TIME ZONE 'UTC', '"audit_log_"YYYYMM') THEN
			RETURN line;
		END IF;
		conditions := conditions || (regexp_match(line, 'Index Cond: (.*)$'))[1];
	END LOOP;
	RETURN (SELECT c FROM unnest(conditions) AS c WHERE c IS NOT NULL ORDER BY length(c) DESC LIMIT 1);
END
$$;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT matches(indexes('WHERE relation = ''public.notes'' AND key = ''1'''), '\(org_id = ringfence.org_id\(\)\)', 'by table and key');
SELECT matches(indexes('WHERE recorded_at >= now() - interval ''1 hour'''), 'org_id = ringfence.org_id\(\)\) AND \(recorded_at >= ', 'by time');
SELECT matches(indexes('WHERE id = ''aaaaaaaa-0000-4000-8000-0000000000ad'''), 'org_id = ringfence.org_id\(\)\) AND \(id = ', 'by id');
SELECT matches(indexes('WHERE operation = ''DELETE'' ORDER BY recorded_at DESC LIMIT 20'), 'org_id = ringfence.org_id\(\)', 'by operation, within the organization');
SELECT matches(indexes(format('WHERE user_id = %L ORDER BY recorded_at DESC LIMIT 20', :'user_a')), 'org_id = ringfence.org_id\(\)', 'by user, within the organization');
SELECT matches(indexes('ORDER BY recorded_at DESC LIMIT 20'), 'org_id = ringfence.org_id\(\)', 'the newest are read in their order');
COMMIT;
RESET SESSION AUTHORIZATION;

-- Without the extension nothing is open.

BEGIN;
DROP EXTENSION ringfence CASCADE;
SELECT count(*) AS policies FROM pg_policy WHERE polrelid::regclass::text LIKE 'ringfence_data.audit%' \gset
SELECT count(*) AS records FROM ringfence_data.audit_log WHERE new ->> 'body' = 'missing' \gset
SET LOCAL ROLE ringfence_member;
SELECT (SELECT count(*) FROM ringfence_data.audit_log) AS read, (SELECT count(id) FROM ringfence_data.audit_relations) AS names \gset
ROLLBACK;
SELECT is(:'policies'::text, '0', 'with the extension the policies go');
SELECT is(:'read'::text, '0', 'and the log is closed');
SELECT is(:'names'::text, '0', 'altogether');
SELECT is(:'records'::text, '1', 'with every record in it');

SELECT * FROM finish();
