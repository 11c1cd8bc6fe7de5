-- A foreign key for a table in use: the fix that verify() has for a large one, run
-- statement by statement, lets others write throughout; add_foreign_key() in one
-- call doesn't. So this file runs in no transaction, and the others come over a
-- connection of their own.
\set QUIET on
SET client_min_messages = warning;
SELECT plan(17);

SELECT format('dbname=%L host=%L port=%L user=postgres options=-cclient_min_messages=warning', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')) AS connection \gset
SELECT dblink_connect('writing', :'connection'), dblink_connect('calling', :'connection') \gset
SELECT dblink_exec('writing', 'SET lock_timeout = ''200ms''') \gset

CREATE FUNCTION pg_temp.id(name text) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN md5(name)::uuid;
-- SQLSTATE of what a writer meets with who inserts, or NULL.
CREATE FUNCTION pg_temp.writer(client text DEFAULT 'of a') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dblink_exec('writing', format('INSERT INTO shop.readings (org_id, id, client_id) VALUES (%L, gen_random_uuid(), %L)',
		pg_temp.id('a'), pg_temp.id(client)));
	PERFORM dblink_exec('writing', format('UPDATE shop.clients SET name = ''new'' WHERE org_id = %L', pg_temp.id('a')));
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
CREATE FUNCTION pg_temp.finding() RETURNS TABLE (code text, message text, fix text) LANGUAGE sql AS $$
	SELECT v.code, v.message, v.fix FROM ringfence.verify() AS v WHERE v.object LIKE '%shop.%'
$$;
CREATE FUNCTION pg_temp.locks(rel regclass) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT DISTINCT l.mode FROM pg_locks AS l WHERE l.pid = pg_backend_pid() AND l.relation = rel
		AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
$$;

INSERT INTO ringfence_data.orgs (id, name) SELECT pg_temp.id(o), 'Organization ' || o FROM unnest(ARRAY['a', 'b']) AS o;
CREATE SCHEMA shop;
CREATE TABLE shop.clients (id uuid PRIMARY KEY, name text);
CREATE TABLE shop.readings (id uuid PRIMARY KEY, client_id uuid) WITH (fillfactor = 10);
SELECT ringfence.protect('shop.clients'), ringfence.protect('shop.readings') \gset
SET session_replication_role = replica;
INSERT INTO shop.clients (org_id, id) SELECT pg_temp.id(o), pg_temp.id('of ' || o) FROM unnest(ARRAY['a', 'b']) AS o;
INSERT INTO shop.readings (org_id, id, client_id) SELECT pg_temp.id('a'), gen_random_uuid(), pg_temp.id('of a') FROM generate_series(1, 30000);
RESET session_replication_role;

-- Statement by statement. Each is run in a transaction that stays open while
-- somebody writes, but for the index, which can't be.

SELECT is(f.fix, 'CREATE INDEX CONCURRENTLY ON shop.readings (org_id, client_id); '
	|| 'SELECT ringfence.add_foreign_key(''shop.readings'', ''{client_id}'', ''shop.clients'', validate => false); '
	|| 'SELECT ringfence.add_foreign_key(''shop.readings'', ''{client_id}'', ''shop.clients'');', 'the fix for a table of more than 16 MB')
	FROM pg_temp.finding() AS f;
SELECT s[1] AS make_index, s[2] AS make_key, s[3] AS validate FROM pg_temp.finding() AS f, string_to_array(rtrim(f.fix, ';'), '; ') AS s \gset
:make_index;
SELECT has_index('shop', 'readings', 'readings_org_id_client_id_idx', ARRAY['org_id', 'client_id'], 'its first statement makes an index');
SELECT is(f.fix, :'make_key' || '; ' || :'validate' || ';', 'which the finding no longer asks for') FROM pg_temp.finding() AS f;
:make_key \gset
SELECT is((SELECT array_agg(f.code) FROM pg_temp.finding() AS f), ARRAY['foreign_key_not_validated'], 'its second makes the key');
SELECT is(pg_temp.writer('of b'), '23503', 'which holds for new rows');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'shop.readings'::regclass), 2::bigint, 'and uses that index');
BEGIN;
:validate \gset
SELECT set_eq($$SELECT pg_temp.locks('shop.readings')$$, ARRAY['ShareUpdateExclusiveLock'], 'its third validates under a lock that lets others write');
SELECT is(pg_temp.writer(), NULL, 'and they do');
COMMIT;
SELECT is_empty('SELECT f.code FROM pg_temp.finding() AS f', 'afterwards there is no finding');
SELECT ok(k.convalidated, 'the key is valid') FROM pg_constraint AS k WHERE k.conname = 'readings_org_id_client_id_fkey';
BEGIN;
SELECT is(ringfence.add_foreign_key('shop.readings', '{client_id}', 'shop.clients'), 'readings_org_id_client_id_fkey', 'once more');
SELECT is(pg_temp.writer(), NULL, 'nobody waits for it');
COMMIT;

-- In one call.

ALTER TABLE shop.readings DROP CONSTRAINT readings_org_id_client_id_fkey;
DROP INDEX shop.readings_org_id_client_id_idx;
BEGIN;
SELECT ringfence.add_foreign_key('shop.readings', '{client_id}', 'shop.clients') \gset
SELECT is(pg_temp.writer(), '55P03', 'a call that does it all keeps writers out until its transaction ends');
ROLLBACK;
SELECT is(pg_temp.writer(), NULL, 'and no longer');

-- Two at a time.

BEGIN;
SELECT ringfence.add_foreign_key('shop.readings', '{client_id}', 'shop.clients', validate => false) \gset
SELECT dblink_send_query('calling', 'SELECT ringfence.add_foreign_key(''shop.readings'', ''{client_id}'', ''shop.clients'')') \gset
COMMIT;
SELECT is((SELECT name FROM dblink_get_result('calling') AS t (name name)), 'readings_org_id_client_id_fkey', 'a second call waits for the first');
SELECT is((SELECT count(*) FROM pg_constraint WHERE conrelid = 'shop.readings'::regclass AND contype = 'f'), 2::bigint, 'finds its key');
SELECT ok(k.convalidated, 'and validates it') FROM pg_constraint AS k WHERE k.conname = 'readings_org_id_client_id_fkey';

SELECT * FROM finish();
