-- Tombstones: whatever takes a row away, or its object, leaves one in the same
-- transaction, whoever does it and with whatever context; no tenant reads, writes
-- or takes one; a worker has what it took to itself until the lease is over.
BEGIN;
SELECT plan(95);
\ir include/act_as.sql

\set org '0d9f6c1e-0000-7000-8000-00000000000a'
\set other '0d9f6c1e-0000-7000-8000-00000000000b'
DELETE FROM cleaning.photos;
DELETE FROM ringfence_data.tombstones;

-- A confirmed booking of team 1 for client 2, with as many photos.
CREATE FUNCTION pg_temp.book(photos integer, n integer DEFAULT 1) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
	booking uuid := ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid;
BEGIN
	INSERT INTO cleaning.bookings (org_id, id, client_id, team_id, status, starts_at, ends_at, address)
	VALUES ('0d9f6c1e-0000-7000-8000-00000000000a', booking, '0d9f6c1e-0002-7000-8000-0000a0000002', '0d9f6c1e-0003-7000-8000-0000a0000001',
		'confirmed', '2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x');
	INSERT INTO cleaning.photos (org_id, booking_id, client_id, team_id, content_type, size_bytes, sha256)
	SELECT b.org_id, b.id, b.client_id, b.team_id, 'image/png', i, repeat('a', 64)
	FROM cleaning.bookings AS b, generate_series(1, photos) AS i
	WHERE b.id = booking;
	RETURN booking;
END
$$;
-- The keys of tombstones that were left since this was asked last, and whose and where.
CREATE FUNCTION pg_temp.left_behind() RETURNS TABLE (org_id uuid, store text, object_key text)
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	RETURN QUERY
	WITH seen AS (
		DELETE FROM ringfence_data.tombstones AS t
		RETURNING t.org_id, t.store COLLATE "default" AS store, t.object_key COLLATE "default" AS object_key
	)
	SELECT s.org_id, s.store, s.object_key FROM seen AS s ORDER BY 3;
END
$$;
CREATE TEMPORARY TABLE keys AS SELECT NULL::uuid AS org_id, NULL::text AS store, NULL::text AS object_key WHERE false;
CREATE FUNCTION pg_temp.note_keys() RETURNS void LANGUAGE sql AS $$
	DELETE FROM keys;
	INSERT INTO keys (org_id, store, object_key)
	SELECT p.org_id, 'photos', p.object_key FROM cleaning.photos AS p WHERE p.booking_id::text LIKE '00000000-%';
$$;
-- They are those of the keys that were noted.
CREATE FUNCTION pg_temp.all_left(description text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	RETURN results_eq('SELECT org_id, store, object_key FROM pg_temp.left_behind() ORDER BY 3',
		'SELECT org_id, store, object_key FROM keys ORDER BY 3', description);
END
$$;
CREATE FUNCTION pg_temp.none_left(description text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	RETURN is_empty('SELECT object_key FROM pg_temp.left_behind()', description);
END
$$;

-- Who deletes.

SELECT pg_temp.book(2) AS booking \gset
SELECT pg_temp.note_keys() \g /dev/null
SELECT results_eq('SELECT object_key FROM keys ORDER BY 1', format($$
	SELECT %L || '/' || %L || '/' || id FROM cleaning.photos WHERE booking_id = %2$L ORDER BY 1$$, :'org', :'booking'),
	'a key is made of organization, booking and photo');
SELECT is((SELECT count(*) FROM keys), 2::bigint, 'of each photo');
SELECT pg_temp.act_as('dispatcher');
DELETE FROM cleaning_v1.photos WHERE booking_id = :'booking';
SELECT pg_temp.all_left('a dispatcher deletes them, and each leaves a tombstone');

SELECT pg_temp.book(1, 2) AS booking \gset
SELECT pg_temp.note_keys() \g /dev/null
SELECT pg_temp.act_as('client');
DELETE FROM cleaning.photos;
SELECT pg_temp.none_left('a client deletes none');
SELECT pg_temp.act_as('owner', 'Birch Services');
DELETE FROM cleaning.photos;
SELECT pg_temp.none_left('nor does another organization');
UPDATE cleaning.workers SET team_id = '0d9f6c1e-0003-7000-8000-0000a0000002' WHERE id = '0d9f6c1e-0004-7000-8000-0000a0000001';
SELECT pg_temp.act_as('worker');
DELETE FROM cleaning_v1.photos;
SELECT pg_temp.none_left('nor a worker of another team');
UPDATE cleaning.workers SET team_id = '0d9f6c1e-0003-7000-8000-0000a0000001' WHERE id = '0d9f6c1e-0004-7000-8000-0000a0000001';
SELECT pg_temp.act_as('worker');
DELETE FROM cleaning_v1.photos;
SELECT pg_temp.all_left('one of the booking''s team does, and leaves a tombstone');

-- Cascades, whatever the context is.

RESET ROLE;
SELECT pg_temp.book(3, 3) AS booking \gset
SELECT pg_temp.note_keys() \g /dev/null
SELECT ringfence.set_context() \g /dev/null
DELETE FROM cleaning.bookings WHERE id = :'booking';
SELECT pg_temp.all_left('a booking that is deleted without a context takes its photos along, and they leave tombstones');
SELECT pg_temp.book(1, 4) AS booking \gset
SELECT pg_temp.note_keys() \g /dev/null
SELECT ringfence.set_context(:'other', NULL, '{owner}') \g /dev/null
DELETE FROM cleaning.bookings WHERE id = :'booking';
SELECT pg_temp.all_left('in another organization''s context as well');
SELECT ringfence.set_context() \g /dev/null

-- A role that may delete photos, and nothing else.
CREATE ROLE regress_tombstone_dba BYPASSRLS;
GRANT USAGE ON SCHEMA cleaning TO regress_tombstone_dba;
GRANT SELECT, DELETE ON cleaning.photos TO regress_tombstone_dba;
SELECT pg_temp.book(1, 5) AS booking \gset
SELECT pg_temp.note_keys() \g /dev/null
SET LOCAL ROLE regress_tombstone_dba;
SET LOCAL row_security = off;
DELETE FROM cleaning.photos WHERE booking_id = :'booking';
SELECT throws_ok('SELECT count(*) FROM ringfence_data.tombstones', '42501', 'permission denied for schema ringfence_data',
	'who deletes a photo need not be let near tombstones');
SELECT pg_temp.all_left('and leaves one all the same, with row security off');
SET LOCAL row_security = on;
SELECT pg_temp.book(1, 6) AS booking \gset
SELECT pg_temp.note_keys() \g /dev/null
SET LOCAL ROLE ringfence_owner;
SELECT throws_ok(format('DELETE FROM cleaning.photos WHERE booking_id = %L; SELECT 1/0', :'booking'), '22012', 'division by zero', 'what fails');
SELECT pg_temp.none_left('leaves none');

-- Another object under the row.
UPDATE cleaning.bookings SET version = version, notes = 'x', team_id = '0d9f6c1e-0003-7000-8000-0000a0000002',
	client_id = '0d9f6c1e-0002-7000-8000-0000a0000003' WHERE id = :'booking';
SELECT results_eq('SELECT team_id, client_id FROM cleaning.photos WHERE booking_id::text LIKE ''00000000-%''',
	$$VALUES ('0d9f6c1e-0003-7000-8000-0000a0000002'::uuid, '0d9f6c1e-0002-7000-8000-0000a0000003'::uuid)$$,
	'a photo follows its booking to another team and client');
SELECT pg_temp.none_left('and is the same object');
UPDATE cleaning.bookings SET version = version, id = '00000000-0000-7000-8000-0000000000ff' WHERE id = :'booking';
SELECT pg_temp.all_left('under another key it is another, and the one of before leaves a tombstone');
SELECT throws_ok('TRUNCATE cleaning.photos', '55000', 'table cleaning.photos cannot be truncated', 'TRUNCATE would leave none, and is refused');
SET LOCAL client_min_messages = warning;
SELECT throws_ok('TRUNCATE cleaning.bookings CASCADE', '55000', 'table cleaning.photos cannot be truncated', 'one that cascades as well');
DELETE FROM cleaning.bookings WHERE id::text LIKE '00000000-%';
DELETE FROM ringfence_data.tombstones;

-- Nobody else.

SELECT pg_temp.book(1, 7) AS booking \gset
DELETE FROM cleaning.photos WHERE booking_id = :'booking';
SELECT org_id AS dead_org, object_key AS dead_key FROM ringfence_data.tombstones \gset
SELECT pg_temp.act_as('owner');
SELECT throws_ok('SELECT id FROM ringfence_data.tombstones', '42501', 'permission denied for table tombstones', 'an owner reads none');
SELECT throws_ok(format('INSERT INTO ringfence_data.tombstones (org_id, store, object_key) VALUES (%L, ''photos'', %L)', :'org', :'dead_key'),
	'42501', 'permission denied for table tombstones', 'makes none');
SELECT throws_ok('UPDATE ringfence_data.tombstones SET done_at = now()', '42501', 'permission denied for table tombstones', 'changes none');
SELECT throws_ok('DELETE FROM ringfence_data.tombstones', '42501', 'permission denied for table tombstones', 'deletes none');
SELECT throws_ok('SELECT * FROM ringfence.tombstone_claim()', '42501', 'permission denied for function tombstone_claim', 'takes none');
SELECT throws_ok('SELECT ringfence.tombstone_done(''{}'')', '42501', 'permission denied for function tombstone_done', 'ticks none off');
SELECT throws_ok('SELECT ringfence.tombstone_failed(NULL, NULL)', '42501', 'permission denied for function tombstone_failed', 'puts none off');
SELECT throws_ok('SELECT * FROM ringfence.tombstone_backlog()', '42501', 'permission denied for function tombstone_backlog', 'counts none');
SELECT throws_ok('SELECT ringfence.tombstone(''cleaning.leads'', ''source'', ''photos'')', '42501', 'permission denied for function tombstone',
	'and has no table leave any');
SELECT throws_ok('INSERT INTO cleaning.photos (booking_id, client_id, content_type, size_bytes, sha256) VALUES (NULL, NULL, NULL, NULL, NULL)', '42501',
	'permission denied for table photos', 'nor writes photos past photo_begin()');
SELECT throws_ok('UPDATE cleaning.photos SET sha256 = NULL', '42501', 'permission denied for table photos', 'or changes them');
RESET ROLE;
GRANT TEMPORARY ON DATABASE :DBNAME TO ringfence_member;
SELECT pg_temp.act_as('owner');
CREATE TEMPORARY TABLE mine (org_id uuid, object_key text);
SELECT throws_ok('CREATE TRIGGER forge AFTER DELETE ON mine FOR EACH ROW EXECUTE FUNCTION ringfence.leave_tombstone(''object_key'', ''photos'')',
	'42501', 'permission denied for function ringfence.leave_tombstone', 'a table of a tenant''s own leaves none');
DROP TABLE mine;
RESET ROLE;
-- Nor does one of the database's owner.
CREATE ROLE regress_tombstone_owner;
GRANT CREATE ON DATABASE :DBNAME TO regress_tombstone_owner;
SELECT pg_catalog.pg_get_userbyid(d.datdba) AS owner FROM pg_database AS d WHERE d.datname = current_database() \gset
ALTER DATABASE :DBNAME OWNER TO regress_tombstone_owner;
SET LOCAL SESSION AUTHORIZATION regress_tombstone_owner;
CREATE SCHEMA forgery;
CREATE TABLE forgery.mine (org_id uuid NOT NULL, object_key text, UNIQUE (org_id, object_key));
SELECT throws_ok('CREATE TRIGGER forge AFTER DELETE ON forgery.mine FOR EACH ROW EXECUTE FUNCTION ringfence.leave_tombstone(''object_key'', ''photos'')',
	'42501', 'permission denied for function ringfence.leave_tombstone', 'nor does one of the database''s owner');
SELECT throws_ok('SELECT ringfence.tombstone(''forgery.mine'', ''object_key'', ''photos'')', '42501', 'permission denied for function tombstone',
	'who can''t have it done either');
RESET SESSION AUTHORIZATION;
SELECT throws_ok('SELECT ringfence.tombstone(''forgery.mine'', ''object_key'', ''others'')', '55000', 'table forgery.mine does not belong to role "ringfence_owner"',
	'and for whom no superuser does it unawares');
ALTER TABLE forgery.mine OWNER TO ringfence_owner;
GRANT USAGE ON SCHEMA forgery TO ringfence_owner;
SELECT throws_ok('SELECT ringfence.tombstone(''forgery.mine'', ''object_key'', ''photos'')', '42710', 'store "photos" has the objects of another table',
	'no table leaves any for another one''s objects');
SELECT lives_ok('SELECT ringfence.tombstone(''forgery.mine'', ''object_key'', ''others'')', 'but for its own');
SELECT is((SELECT count(*) FROM ringfence_data.tombstones WHERE store = 'photos'), 1::bigint, 'none was forged');
DROP SCHEMA forgery CASCADE;
ALTER DATABASE :DBNAME OWNER TO :owner;
SELECT ringfence.set_context() \g /dev/null
SET LOCAL ROLE ringfence_owner;
SELECT is((SELECT count(*) FROM ringfence_data.tombstones), 0::bigint, 'ringfence_owner''s code sees none without a context');
SELECT throws_ok(format('INSERT INTO ringfence_data.tombstones (org_id, store, object_key) VALUES (%L, ''photos'', %L)', :'dead_org', :'dead_key'),
	'42501', 'new row violates row-level security policy "org_isolation" for table "tombstones"', 'and makes some in triggers alone');
RESET ROLE;

-- Keys that lead nowhere else.

SELECT results_eq(format($$
	SELECT k.key, ringfence.is_object_key(k.key, %L) FROM (VALUES
		(1, %1$L || '/a'), (2, %1$L || '/a/b.c-d_e'), (3, NULL), (4, %1$L), (5, %1$L || '/'), (6, '/' || %1$L || '/a'), (7, %1$L || '/../a'),
		(8, %1$L || '/a/..'), (9, %1$L || '/./a'), (10, %1$L || '//a'), (11, %1$L || '/a' || chr(10)), (12, %1$L || '/a' || chr(127)),
		(13, upper(%1$L) || '/a'), (14, %2$L || '/a'), (15, 'a'), (16, ''), (17, %1$L || '/' || repeat('a', 987)),
		(18, %1$L || '/' || repeat('a', 988)), (19, %1$L || '/a..b'), (20, %1$L || '/a\b')) AS k (n, key) ORDER BY k.n
$$, :'org', :'other'), format($$
	SELECT k.key, k.ok FROM (VALUES
		(1, %1$L || '/a', true), (2, %1$L || '/a/b.c-d_e', true), (3, NULL, true), (4, %1$L, false), (5, %1$L || '/', false),
		(6, '/' || %1$L || '/a', false), (7, %1$L || '/../a', false), (8, %1$L || '/a/..', false), (9, %1$L || '/./a', false),
		(10, %1$L || '//a', false), (11, %1$L || '/a' || chr(10), false), (12, %1$L || '/a' || chr(127), false), (13, upper(%1$L) || '/a', false),
		(14, %2$L || '/a', false), (15, 'a', false), (16, '', false), (17, %1$L || '/' || repeat('a', 987), true),
		(18, %1$L || '/' || repeat('a', 988), false), (19, %1$L || '/a..b', true), (20, %1$L || '/a\b', false)) AS k (n, key, ok) ORDER BY k.n
$$, :'org', :'other'), 'a key begins with its organization, and no part of it leads up or is empty');
SELECT throws_ok(format('INSERT INTO ringfence_data.tombstones (org_id, store, object_key) VALUES (%L, ''photos'', %L)', :'org', :'other' || '/a'),
	'23514', 'new row for relation "tombstones" violates check constraint "tombstones_object_key_check"',
	'not even a superuser has a worker delete an object in another organization''s name');
SELECT throws_ok(format('UPDATE cleaning.photos SET object_key = %L', :'org' || '/x'), '428C9',
	'column "object_key" can only be updated to DEFAULT', 'the key of a photo is the database''s');

-- What can leave tombstones.

CREATE SCHEMA attic;
CREATE TABLE attic.files (id uuid NOT NULL DEFAULT ringfence.uuid7() PRIMARY KEY, path text, size integer);
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''files'')', '42809', 'rows of table attic.files belong to no organization',
	'a table of no organization leaves none');
SELECT ringfence.protect('attic.files', '{"owner": "all"}') \g /dev/null
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', NULL)', '22004', 'table, column and store must be given', 'without a store');
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''My Files'')', '22023', 'invalid store "My Files"', 'with a bad one');
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''pth'', ''files'')', '42703', 'column "pth" of table attic.files does not exist', 'no such column');
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''size'', ''files'')', '42804', 'column "size" of table attic.files is not of type text', 'no key');
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''files'')', '55000', 'tenants may write column "path" of table attic.files',
	'keys that tenants choose');
SELECT ringfence.protect('attic.files', '{"owner": "all"}', columns => '{"insert": ["id", "size"], "update": ["size"]}') \g /dev/null
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''files'')', '55000', 'two rows of table attic.files could name one object',
	'an object that could be two rows''');
CREATE UNIQUE INDEX ON attic.files (org_id, path) WHERE size > 0;
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''files'')', '55000', 'two rows of table attic.files could name one object',
	'of some rows as well');
CREATE UNIQUE INDEX ON attic.files (org_id, path);
INSERT INTO attic.files (org_id, path) VALUES (:'org', 'files/1');
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''files'')', '23514',
	'check constraint "files_path_object_key_check" of relation "files" is violated by some row', 'keys that are there already');
DELETE FROM attic.files;
SELECT lives_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''files'')', 'all is well');
SELECT lives_ok('SELECT ringfence.tombstone(''attic.files'', ''path'', ''archive'')', 'and can be said again, of another store');
ALTER TABLE attic.files ADD COLUMN thumbnail text;
CREATE UNIQUE INDEX ON attic.files (org_id, thumbnail);
SELECT throws_ok('SELECT ringfence.tombstone(''attic.files'', ''thumbnail'', ''files'')', '42710', 'rows of table attic.files leave tombstones for another column',
	'not of another column');
CREATE TABLE attic.parts (at date NOT NULL, org_id uuid NOT NULL, path text, PRIMARY KEY (org_id, at)) PARTITION BY RANGE (at);
SELECT throws_ok('SELECT ringfence.tombstone(''attic.parts'', ''path'', ''files'')', '42809', '"attic.parts" is not a table that tombstones can be left by',
	'rows that move between partitions leave none');
SELECT throws_ok(format('INSERT INTO attic.files (org_id, path) VALUES (%L, ''files/1'')', :'org'), '23514',
	'new row for relation "files" violates check constraint "files_path_object_key_check"', 'from then on a key is one');
INSERT INTO attic.files (org_id, path, size) VALUES (:'org', :'org' || '/1', 1), (:'org', NULL, 2), (:'org', :'org' || '/3', 3), (:'org', :'org' || '/4', 4);
DELETE FROM ringfence_data.tombstones;
DELETE FROM attic.files WHERE size < 3;
UPDATE attic.files SET path = NULL WHERE size = 3;
UPDATE attic.files SET size = 5 WHERE size = 4;
SELECT results_eq('SELECT store, right(object_key, 2) FROM pg_temp.left_behind() ORDER BY 2', $$VALUES ('archive', '/1'), ('archive', '/3')$$,
	'rows that go or let go of an object leave one, those without an object or with the same none');

-- verify() knows who could choose keys, and what was declared and leaves none.

SELECT is_empty('SELECT code, object FROM ringfence.verify_tombstones()', 'nothing is wrong');
GRANT INSERT (path) ON attic.files TO ringfence_member;
SELECT results_eq('SELECT severity, code, object FROM ringfence.verify_tombstones()', $$VALUES ('error', 'tombstone_key_writable', 'attic.files.path')$$,
	'a key that tenants came to choose');
REVOKE INSERT (path) ON attic.files FROM ringfence_member;
SAVEPOINT intact;
ALTER TABLE attic.files DISABLE TRIGGER ringfence_tombstone;
SELECT results_eq('SELECT severity, code, object FROM ringfence.verify_tombstones()', $$VALUES ('error', 'tombstone_trigger_missing', 'attic.files')$$,
	'a trigger that does not fire');
ROLLBACK TO intact;
DROP TRIGGER ringfence_tombstone_update ON attic.files;
SELECT results_eq('SELECT severity, code, object FROM ringfence.verify_tombstones()', $$VALUES ('error', 'tombstone_trigger_missing', 'attic.files')$$,
	'or is gone');
SELECT lives_ok('SELECT ringfence.untombstone(''attic.files'')', 'it can be taken back');
SELECT is_empty('SELECT code, object FROM ringfence.verify_tombstones()', 'then nothing is wrong');
DELETE FROM attic.files;
SELECT pg_temp.none_left('and nothing left behind');

-- The worker.

INSERT INTO ringfence_data.tombstones (id, org_id, store, object_key, created_at, due_at)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, o.org, 'photos', o.org || '/' || n, '2027-01-01 00:00+00'::timestamptz + n * interval '1 second',
	'2027-01-01 00:00+00'::timestamptz + n * interval '1 second'
FROM generate_series(1, 4) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 2 = 0 THEN :'org' ELSE :'other' END::uuid AS org) AS o;
\set t1 '00000000-0000-7000-8000-000000000001'
\set t2 '00000000-0000-7000-8000-000000000002'
CREATE ROLE regress_tombstone_job LOGIN;
GRANT ringfence_jobs TO regress_tombstone_job;
SET LOCAL ringfence.retention_clock = '2027-01-01 00:00:03+00';
SET LOCAL ROLE regress_tombstone_job;
SELECT throws_ok('SELECT * FROM ringfence.tombstone_claim()', '42501', 'query would be affected by row-level security policy for table "tombstones"',
	'a worker that has not become ringfence_jobs is told so');
RESET ROLE;
SET LOCAL ROLE ringfence_jobs;
SELECT throws_ok(format('SELECT * FROM ringfence.tombstone_claim(%s)', c.arguments), '22023', c.message, 'no claim: ' || c.arguments)
FROM (VALUES ('0', 'invalid batch 0'), ('10001', 'invalid batch 10001'), ('NULL', 'invalid batch <NULL>'), ('1, ''0''', 'invalid lease 00:00:00'),
	('1, ''25 hours''', 'invalid lease 25:00:00'), ('1, NULL', 'invalid lease <NULL>')) AS c (arguments, message);
SELECT results_eq('SELECT store COLLATE "default", waiting, claimed, failing, oldest_seconds FROM ringfence.tombstone_backlog()',
	$$VALUES ('photos', 4::bigint, 0::bigint, 0::bigint, 2::bigint)$$, 'four wait, the oldest for two seconds');
SELECT results_eq('SELECT id, org_id, attempts FROM ringfence.tombstone_claim(2, ''1 minute'') ORDER BY id', format($$
	VALUES (%L::uuid, %L::uuid, 1), (%L, %L, 1)$$, :'t1', :'other', :'t2', :'org'), 'it gets those that wait longest, of all organizations');
SELECT results_eq('SELECT right(object_key, 2) COLLATE "default" FROM ringfence.tombstone_claim()', ARRAY['/3'],
	'then what else is due: not what was taken, nor what is not due yet');
SELECT is_empty('SELECT id FROM ringfence.tombstone_claim()', 'then nothing');
SELECT results_eq('SELECT waiting, claimed, failing FROM ringfence.tombstone_backlog()', $$VALUES (4::bigint, 3::bigint, 0::bigint)$$, 'three are being worked on');
SELECT matches(claimed_by, '^\S+ [0-9]+$', 'who has it is on record') FROM ringfence_data.tombstones WHERE id = :'t1';
SELECT is(ringfence.tombstone_done(ARRAY[:'t2', :'t2', :'org']::uuid[]), 1::bigint, 'one is done');
SELECT is(ringfence.tombstone_done(ARRAY[:'t2']::uuid[]), 0::bigint, 'once');
SELECT is(ringfence.tombstone_done(NULL), 0::bigint, 'nothing is nothing');
SELECT is(done_at, '2027-01-01 00:00:03+00'::timestamptz, 'when is on record') FROM ringfence_data.tombstones WHERE id = :'t2';
SELECT is(ringfence.tombstone_failed(:'t2', 'x'), false, 'what is done does not fail');
SELECT is(ringfence.tombstone_failed(:'org', 'x'), false, 'nor what is not there');
SELECT is(ringfence.tombstone_failed(:'t1', 'HTTP 503' || repeat('.', 2000)), true, 'the other fails');
SELECT is(length(last_error) || ' ' || left(last_error, 8), '1000 HTTP 503', 'why is on record') FROM ringfence_data.tombstones WHERE id = :'t1';
SELECT is(due_at, '2027-01-01 00:01:03+00'::timestamptz, 'it is due again a minute later') FROM ringfence_data.tombstones WHERE id = :'t1';
SELECT results_eq('SELECT waiting, claimed, failing FROM ringfence.tombstone_backlog()', $$VALUES (3::bigint, 1::bigint, 1::bigint)$$, 'and counts as failing');
RESET ROLE;
SET LOCAL ringfence.retention_clock = '2027-01-01 00:01:03+00';
SET LOCAL ROLE ringfence_jobs;
SELECT results_eq('SELECT right(object_key, 2) COLLATE "default", attempts FROM ringfence.tombstone_claim() ORDER BY 1',
	$$VALUES ('/1', 2), ('/4', 1)$$, 'a minute later it is taken again, with what came due meanwhile, and not what another has for five minutes');
SELECT is(ringfence.tombstone_failed(:'t1', 'HTTP 503'), true, 'it fails again');
SELECT is(due_at, '2027-01-01 00:03:03+00'::timestamptz, 'then it has two minutes') FROM ringfence_data.tombstones WHERE id = :'t1';
RESET ROLE;
UPDATE ringfence_data.tombstones SET attempts = 2000000000 WHERE id = :'t1';
SET LOCAL ringfence.retention_clock = '2027-01-01 00:05:04+00';
SET LOCAL ROLE ringfence_jobs;
SELECT is(ringfence.tombstone_failed(:'t1', 'HTTP 503'), true, 'and again, very often');
SELECT is(due_at, '2027-01-02 00:05:04+00'::timestamptz, 'it has a day') FROM ringfence_data.tombstones WHERE id = :'t1';
SELECT results_eq('SELECT right(object_key, 2) COLLATE "default", attempts FROM ringfence.tombstone_claim() ORDER BY 1', $$VALUES ('/3', 2)$$,
	'one whose worker is not heard of is another''s when the lease is over');
SELECT is(ringfence.tombstone_done(ARRAY(SELECT id FROM ringfence_data.tombstones WHERE object_key LIKE '%/3')), 1::bigint, 'the first may still say that it is done');
SELECT throws_ok('DELETE FROM ringfence_data.tombstones', '42501', 'permission denied for table tombstones', 'a worker deletes no tombstone');
SELECT throws_ok('UPDATE ringfence_data.tombstones SET object_key = ''x''', '42501', 'permission denied for table tombstones', 'nor has it name something else');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
