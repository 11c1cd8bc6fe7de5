-- The guard: in a protected schema no transaction commits that leaves a table
-- unprotected, however it came there. Commits are needed to see that, so the
-- statements go over a second connection and this file runs in no transaction.
\set QUIET on
SET client_min_messages = warning;
SELECT plan(64);

SELECT dblink_connect('dba', format('dbname=%L host=%L port=%L user=postgres options=-cclient_min_messages=warning', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))) \gset

-- Runs statements, which may begin and end transactions, over there.
CREATE FUNCTION pg_temp.run(statements text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN dblink_exec('dba', statements);
EXCEPTION WHEN OTHERS THEN
	PERFORM dblink_exec('dba', 'ROLLBACK');
	RAISE;
END
$$;
CREATE FUNCTION pg_temp.refused(statements text, rel text, about text) RETURNS text LANGUAGE sql AS $$
	SELECT throws_ok(format('SELECT pg_temp.run(%L)', statements), '42501', format('table "%s" is not protected', rel), about)
$$;
CREATE FUNCTION pg_temp.admitted(statements text, about text) RETURNS text LANGUAGE sql AS $$
	SELECT lives_ok(format('SELECT pg_temp.run(%L)', statements), about)
$$;

CREATE SCHEMA shop;
CREATE TABLE shop.early (id uuid PRIMARY KEY);
SELECT ringfence.protect_schema('shop') \gset
SELECT has_table('shop', 'early', 'what was there before stays');

-- Ways for a table to appear.

SELECT pg_temp.refused('CREATE TABLE shop.t (id uuid PRIMARY KEY)', 'shop.t', 'CREATE TABLE');
SELECT hasnt_table('shop', 't', 'there is none afterwards');
SELECT pg_temp.refused('CREATE TABLE IF NOT EXISTS shop.t (id uuid PRIMARY KEY)', 'shop.t', 'CREATE TABLE IF NOT EXISTS');
SELECT pg_temp.refused('CREATE TABLE shop.t AS SELECT 1 AS id', 'shop.t', 'CREATE TABLE AS');
SELECT pg_temp.refused('SELECT 1 AS id INTO shop.t', 'shop.t', 'SELECT INTO');
SELECT pg_temp.refused('CREATE TABLE shop.t (LIKE cleaning.clients INCLUDING ALL)', 'shop.t', 'CREATE TABLE LIKE');
SELECT pg_temp.refused('CREATE UNLOGGED TABLE shop.t (id uuid PRIMARY KEY)', 'shop.t', 'CREATE UNLOGGED TABLE');
SELECT pg_temp.refused('CREATE TABLE shop."Odd name" (id uuid PRIMARY KEY)', 'shop."Odd name"', 'a name that wants quotes');
SELECT pg_temp.refused('CREATE TABLE shop.t (id uuid, at date) PARTITION BY RANGE (at)', 'shop.t', 'a partitioned table');
SELECT pg_temp.refused('CREATE MATERIALIZED VIEW shop.t AS SELECT 1 AS id', 'shop.t', 'a materialized view');
SELECT pg_temp.refused('CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; CREATE FOREIGN TABLE shop.t (id uuid) SERVER nowhere',
	'shop.t', 'a foreign table');
SELECT pg_temp.refused('CREATE TABLE public.t (id uuid PRIMARY KEY); ALTER TABLE public.t SET SCHEMA shop', 'shop.t', 'SET SCHEMA');
SELECT pg_temp.refused('CREATE TABLE shop.t (id uuid) INHERITS (cleaning.clients)', 'shop.t', 'a child of a protected table');
SELECT pg_temp.refused('CREATE SCHEMA AUTHORIZATION CURRENT_USER CREATE TABLE u (id uuid); DROP SCHEMA postgres CASCADE; CREATE TABLE shop.t (id uuid)', 'shop.t', 'among other statements');
SELECT pg_temp.refused('DO $do$ BEGIN EXECUTE ''CREATE TABLE shop.t (id uuid)''; END $do$', 'shop.t', 'inside a DO block');
SELECT pg_temp.refused('BEGIN; SAVEPOINT s; CREATE TABLE shop.t (id uuid); RELEASE s; COMMIT', 'shop.t', 'inside a subtransaction');
SELECT pg_temp.refused('BEGIN; CREATE TABLE shop.t (id uuid); SET LOCAL ROLE ringfence_anon; COMMIT', 'shop.t', 'whoever commits');
SELECT pg_temp.refused('BEGIN; CREATE TABLE shop.t (id uuid); PREPARE TRANSACTION ''t''', 'shop.t', 'PREPARE TRANSACTION is as good as a commit');
SELECT pg_temp.refused('CREATE TABLE shop.t (id uuid); ALTER TABLE shop.t ENABLE ROW LEVEL SECURITY', 'shop.t', 'row security alone is not enough: its owner is exempt');
SELECT pg_temp.refused('CREATE TABLE shop.t (id uuid); ALTER TABLE shop.t ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.t FORCE ROW LEVEL SECURITY; CREATE POLICY p ON shop.t USING (true)',
	'shop.t', 'nor are policies of one''s own');
SELECT pg_temp.refused('DROP POLICY org_isolation ON cleaning.teams', 'cleaning.teams', 'a table that loses its restrictive policy');
SELECT pg_temp.refused('DROP POLICY user_isolation ON ringfence_data.users', 'ringfence_data.users', 'core''s own tables likewise');
SELECT pg_temp.admitted('BEGIN; DROP POLICY org_isolation ON cleaning.teams; SELECT 1 FROM (SELECT ringfence.protect(t.relation, t.access, columns => t.columns) FROM ringfence_data.tables AS t WHERE t.relation = ''cleaning.teams''::regclass) AS p; COMMIT', 'but one that has it again at the end is fine');
SELECT pg_temp.admitted('CREATE POLICY widened ON cleaning.teams TO ringfence_member USING (true); DROP POLICY widened ON cleaning.teams', 'other policies may come and go');
CREATE ROLE regress_guard_developer;
GRANT CREATE, USAGE ON SCHEMA shop TO regress_guard_developer;
SELECT pg_temp.refused('SET ROLE regress_guard_developer; CREATE TABLE shop.t (id uuid)', 'shop.t', 'a role that is no superuser');
SELECT is(dblink_exec('dba', 'RESET ROLE'), 'RESET', 'back to the superuser');

-- What may be committed.

SELECT pg_temp.admitted('BEGIN; CREATE TABLE shop.kept (id uuid PRIMARY KEY); SELECT ringfence.protect(''shop.kept''); COMMIT', 'a table that is protected by then');
SELECT has_table('shop', 'kept', 'is there');
SELECT pg_temp.admitted('BEGIN; CREATE TABLE shop.t (id uuid PRIMARY KEY); DROP TABLE shop.t; COMMIT', 'one that is gone by then');
SELECT pg_temp.admitted('BEGIN; SAVEPOINT s; CREATE TABLE shop.t (id uuid PRIMARY KEY); ROLLBACK TO s; COMMIT', 'one that was rolled back');
SELECT pg_temp.admitted('BEGIN; CREATE TABLE shop.t (id uuid PRIMARY KEY); ROLLBACK', 'all that was rolled back');
SELECT pg_temp.admitted('BEGIN; CREATE TABLE shop.t (id uuid PRIMARY KEY); ALTER TABLE shop.t SET SCHEMA public; COMMIT', 'one that lies elsewhere by then');
SELECT pg_temp.admitted('CREATE TABLE shop.shut (id uuid); ALTER TABLE shop.shut ENABLE ROW LEVEL SECURITY; ALTER TABLE shop.shut FORCE ROW LEVEL SECURITY',
	'one that shows nothing to anybody: row security forced and no policy');
SELECT pg_temp.admitted('CREATE TEMPORARY TABLE brief (id uuid); DROP TABLE brief', 'a temporary table');
SELECT pg_temp.admitted('CREATE TABLE public.elsewhere (id uuid PRIMARY KEY)', 'a table in another schema');
SELECT pg_temp.admitted('CREATE VIEW shop.v AS SELECT 1 AS id; CREATE SEQUENCE shop.s; CREATE INDEX ON shop.kept (org_id); CREATE TYPE shop.pair AS (a integer, b integer)',
	'views, sequences, indexes and types');
SELECT pg_temp.admitted('ALTER TABLE shop.kept ADD COLUMN name text; ALTER TABLE shop.kept RENAME COLUMN name TO label; ALTER TABLE shop.kept RENAME TO still_kept',
	'changes of a protected table');

-- Ways to take protection off.

SELECT pg_temp.refused('ALTER TABLE shop.still_kept DISABLE ROW LEVEL SECURITY', 'shop.still_kept', 'DISABLE ROW LEVEL SECURITY');
SELECT pg_temp.refused('ALTER TABLE shop.still_kept NO FORCE ROW LEVEL SECURITY', 'shop.still_kept', 'NO FORCE ROW LEVEL SECURITY');
SELECT pg_temp.refused('BEGIN; SELECT ringfence.unprotect(''shop.still_kept''); COMMIT', 'shop.still_kept', 'unprotect()');
SELECT pg_temp.refused('ALTER TABLE shop.early ADD COLUMN label text', 'shop.early', 'a table of before is looked at when it is altered');
SELECT pg_temp.admitted('BEGIN; ALTER TABLE shop.still_kept DISABLE ROW LEVEL SECURITY; UPDATE shop.still_kept SET label = label; ALTER TABLE shop.still_kept ENABLE ROW LEVEL SECURITY; COMMIT',
	'what is on again at the commit may have been off');
SELECT results_eq('SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = ''shop.still_kept''::regclass', 'VALUES (true, true)',
	'after all of that it is protected');

-- Partitions.

SELECT pg_temp.admitted('BEGIN; CREATE TABLE shop.events (org_id uuid, id uuid, at date, PRIMARY KEY (org_id, id, at)) PARTITION BY RANGE (at); SELECT ringfence.protect(''shop.events''); COMMIT',
	'a partitioned table that is protected');
SELECT pg_temp.refused('CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM (''2026-01-01'') TO (''2027-01-01'')', 'shop.events_1', 'a new partition by itself');
SELECT pg_temp.admitted('BEGIN; CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM (''2026-01-01'') TO (''2027-01-01''); SELECT ringfence.lock_children(''shop.events''); COMMIT',
	'one that is locked in the same transaction');
SELECT pg_temp.refused('ALTER TABLE shop.events_1 DISABLE ROW LEVEL SECURITY', 'shop.events_1', 'and stays so');

-- What is dropped is forgotten.

SELECT ok(ringfence.row_class('shop.still_kept') = 'org', 'a protected table is registered');
SELECT 'shop.still_kept'::regclass::oid AS kept, 'shop.events'::regclass::oid AS events \gset
SELECT pg_temp.admitted('BEGIN; DROP TABLE shop.still_kept; ROLLBACK', 'a DROP TABLE that is rolled back');
SELECT is((SELECT count(*) FROM ringfence_data.tables WHERE relation = :kept), 1::bigint, 'forgets nothing');
SELECT pg_temp.admitted('DROP TABLE shop.still_kept', 'DROP TABLE');
SELECT is((SELECT count(*) FROM ringfence_data.tables WHERE relation = :kept), 0::bigint, 'forgets the table');
SELECT pg_temp.admitted('BEGIN; CREATE SCHEMA brief; CREATE TABLE brief.t (id uuid PRIMARY KEY); SELECT ringfence.protect(''brief.t''); COMMIT', 'a table in a schema to be dropped');
SELECT 'brief.t'::regclass::oid AS brief \gset
SELECT pg_temp.admitted('DROP SCHEMA brief CASCADE', 'DROP SCHEMA');
SELECT is((SELECT count(*) FROM ringfence_data.tables WHERE relation = :brief), 0::bigint, 'forgets its tables');

-- protect_schema() and unprotect_schema().

SELECT throws_ok('SELECT ringfence.protect_schema(''nowhere'')', '3F000', 'schema "nowhere" does not exist', 'no such schema');
SELECT lives_ok('SELECT ringfence.protect_schema(''shop'')', 'a schema may be protected twice');
SELECT lives_ok('SELECT ringfence.unprotect_schema(''shop'')', 'and let go');
SELECT pg_temp.admitted('CREATE TABLE shop.t (id uuid PRIMARY KEY)', 'after that it admits any table');
SELECT lives_ok('SELECT ringfence.unprotect_schema(''nowhere'')', 'letting go what is not protected does nothing');
SELECT ringfence.protect_schema('shop') \gset
SELECT pg_temp.refused('CREATE TABLE shop.u (id uuid)', 'shop.u', 'protected again, it admits none');

-- The DBA's own way past it.

SELECT is((SELECT array_agg(evtenabled ORDER BY evtname) FROM pg_event_trigger WHERE evtname LIKE 'ringfence\_%'), '{O,O,O}', 'the event triggers are enabled the ordinary way');
SELECT pg_temp.admitted('SET session_replication_role = replica; CREATE TABLE shop.loaded (id uuid); RESET session_replication_role',
	'so a superuser who loads data as a replica is let be');

SELECT * FROM finish();
SELECT dblink_disconnect('dba') \gset
DROP SCHEMA shop CASCADE;
DROP ROLE regress_guard_developer;
