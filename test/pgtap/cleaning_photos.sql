-- Photos of visits, as requests of the people who take part: who begins, reads and
-- deletes them, and what a photo can be.
\ir include/postgrest.sql
SELECT plan(36);

SELECT test.claims('Alder Clean', 'dispatcher') AS dispatcher, test.claims('Alder Clean', 'worker') AS worker,
	test.claims('Alder Clean', 'client') AS client, test.claims('Alder Clean', 'finance') AS finance,
	test.claims('Birch Services', 'owner') AS stranger, test.claims('Birch Services', 'worker') AS strange_worker \gset
DELETE FROM cleaning.photos;
DELETE FROM ringfence_data.tombstones;
-- A booking of team 1, where the worker is, for client 1; one of team 2; a draft.
INSERT INTO cleaning.bookings (org_id, id, client_id, team_id, status, starts_at, ends_at, address)
SELECT '0d9f6c1e-0000-7000-8000-00000000000a', ('00000000-0000-7000-8000-00000000000' || n)::uuid, '0d9f6c1e-0002-7000-8000-0000a0000001',
	('0d9f6c1e-0003-7000-8000-0000a000000' || team)::uuid, status, '2026-01-05 17:00+00', '2026-01-05 19:00+00', 'x'
FROM (VALUES (1, 1, 'in_progress'), (2, 2, 'confirmed'), (3, 1, 'draft'), (4, 1, 'canceled')) AS b (n, team, status);
\set own '00000000-0000-7000-8000-000000000001'
\set others '00000000-0000-7000-8000-000000000002'
CREATE FUNCTION public.photo(booking uuid, changes jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('booking', booking, 'content_type', 'image/jpeg', 'size_bytes', 1000, 'sha256', repeat('0a', 32)) || changes;

-- Begin.

SELECT status AS answer, body AS row, body ->> 'id' AS photo FROM test.rpc(:'worker', 'cleaning_v1', 'photo_begin', photo(:'own')) \gset
SELECT is(:'answer'::text, '200', 'a worker of the team begins a photo');
SELECT is(:'row'::jsonb - '{created_at,id}'::text[], jsonb_build_object('org_id', '0d9f6c1e-0000-7000-8000-00000000000a', 'booking_id', :'own',
	'client_id', '0d9f6c1e-0002-7000-8000-0000a0000001', 'content_type', 'image/jpeg',
	'size_bytes', 1000, 'sha256', repeat('0a', 32), 'object_key', '0d9f6c1e-0000-7000-8000-00000000000a/' || :'own' || '/' || :'photo'),
	'and reads it, and under which key to store it');
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '404 PT404 booking not found', 'not for another team')
	FROM test.rpc(:'worker', 'cleaning_v1', 'photo_begin', photo(:'others')) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '404 PT404 booking not found', 'nor another organization''s booking')
	FROM test.rpc(:'stranger', 'cleaning_v1', 'photo_begin', photo(:'own')) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '403 42501 not allowed to work on bookings', 'a client takes none')
	FROM test.rpc(:'client', 'cleaning_v1', 'photo_begin', photo(:'own')) AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'finance neither')
	FROM test.rpc(:'finance', 'cleaning_v1', 'photo_begin', photo(:'own')) AS r;
SELECT is(r.status || ' ' || r.code, '401 42501', 'nor who has no token')
	FROM test.rpc(NULL, 'cleaning_v1', 'photo_begin', photo(:'own')) AS r;
SELECT is(r.status, 200, 'the dispatcher does, for any team')
	FROM test.rpc(:'dispatcher', 'cleaning_v1', 'photo_begin', photo(:'others')) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, '409 PT409 a booking that is ' || b.status || ' has no photos', 'not of what is ' || b.status)
	FROM (VALUES ('3', 'draft'), ('4', 'canceled')) AS b (n, status),
		LATERAL test.rpc(:'dispatcher', 'cleaning_v1', 'photo_begin', photo(('00000000-0000-7000-8000-00000000000' || b.n)::uuid)) AS r;
SELECT is(r.status || ' ' || r.code || ' ' || r.message, w.answer, 'no photo: ' || w.changes)
	FROM (VALUES
		('{"content_type": "text/html"}', '400 23514 new row for relation "photos" violates check constraint "photos_content_type_check"'),
		('{"content_type": null}', '400 23502 null value in column "content_type" of relation "photos" violates not-null constraint'),
		('{"size_bytes": 0}', '400 23514 new row for relation "photos" violates check constraint "photos_size_bytes_check"'),
		('{"size_bytes": 10485761}', '400 23514 new row for relation "photos" violates check constraint "photos_size_bytes_check"'),
		('{"sha256": "0a"}', '400 23514 new row for relation "photos" violates check constraint "photos_sha256_check"')) AS w (changes, answer),
		LATERAL test.rpc(:'worker', 'cleaning_v1', 'photo_begin', photo(:'own', w.changes::jsonb)) AS r;
SELECT is(r.status || ' ' || (r.body ->> 'size_bytes'), '200 10485760', 'ten megabytes are one')
	FROM test.rpc(:'worker', 'cleaning_v1', 'photo_begin', photo(:'own', '{"size_bytes": 10485760, "content_type": "image/heic"}')) AS r;
SELECT is(r.status || ' ' || r.code, '405 25006', 'GET begins none')
	FROM test.rpc(:'worker', 'cleaning_v1', 'photo_begin', photo(:'own'), 'GET') AS r;
SELECT is(r.status || ' ' || r.code, '403 42501', 'nor does a POST to the view')
	FROM test.post(:'dispatcher', 'cleaning_v1', 'photos', :'row'::jsonb - 'object_key') AS r;

-- Read.

SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 3', 'the dispatcher reads all')
	FROM test.get(:'dispatcher', 'cleaning_v1', 'photos') AS r;
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 2', 'a worker those of the own team')
	FROM test.get(:'worker', 'cleaning_v1', 'photos') AS r;
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 3', 'a client those of the own bookings')
	FROM test.get(:'client', 'cleaning_v1', 'photos') AS r;
SELECT is((SELECT array_agg(r.status || ' ' || r.body) FROM (VALUES (:'finance'), (:'stranger'), (:'strange_worker')) AS w (claims),
	LATERAL test.get(w.claims::jsonb, 'cleaning_v1', 'photos') AS r), '{"200 []","200 []","200 []"}', 'finance and other organizations none');
SELECT is(r.status || ' ' || r.code, '401 42501', 'nor who has no token') FROM test.get(NULL, 'cleaning_v1', 'photos') AS r;
UPDATE cleaning.bookings SET client_id = '0d9f6c1e-0002-7000-8000-0000a0000002', team_id = '0d9f6c1e-0003-7000-8000-0000a0000001', version = version WHERE id = :'others';
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 3', 'a booking that goes to another team is read by that one')
	FROM test.get(:'worker', 'cleaning_v1', 'photos') AS r;
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 2', 'one that goes to another client by that one')
	FROM test.get(:'client', 'cleaning_v1', 'photos') AS r;

-- Change and delete.

SELECT is(r.status || ' ' || r.code, '403 42501', 'nobody has a photo stand for another image')
	FROM test.patch(:'dispatcher', 'cleaning_v1', 'photos', 'id = $1', '{"sha256": "x"}', ARRAY[:'photo']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'a client deletes none')
	FROM test.delete(:'client', 'cleaning_v1', 'photos', 'id = $1', ARRAY[:'photo']) AS r;
SELECT is(r.status || ' ' || r.body, '200 []', 'another organization neither')
	FROM test.delete(:'stranger', 'cleaning_v1', 'photos', 'id = $1', ARRAY[:'photo']) AS r;
SELECT is(r.status || ' ' || (r.body -> 0 ->> 'id'), '200 ' || :'photo', 'a worker of the team does')
	FROM test.delete(:'worker', 'cleaning_v1', 'photos', 'id = $1', ARRAY[:'photo']) AS r;
SELECT results_eq('SELECT org_id, store COLLATE "default", object_key COLLATE "default", done_at FROM ringfence_data.tombstones', format($$
	VALUES ('0d9f6c1e-0000-7000-8000-00000000000a'::uuid, 'photos', '0d9f6c1e-0000-7000-8000-00000000000a/%s/%s', NULL::timestamptz)
$$, :'own', :'photo'), 'which leaves the image to a worker of another kind');
SELECT is(r.status || ' ' || jsonb_array_length(r.body), '200 2', 'the others stay')
	FROM test.get(:'dispatcher', 'cleaning_v1', 'photos') AS r;

-- A team that a canceled booking loses.
UPDATE cleaning.bookings SET status = 'canceled', team_id = NULL, version = version WHERE id = :'others';
SELECT is((SELECT team_id FROM cleaning.photos WHERE booking_id = :'others'), NULL, 'a photo loses it as well');
SELECT throws_ok(format('UPDATE cleaning.bookings SET team_id = %L WHERE id = %L', '0d9f6c1e-0003-7000-8000-0000a0000001', :'others'), 'PT409',
	'a booking that is canceled cannot be changed', 'and never gets one again');
SELECT throws_ok($$INSERT INTO cleaning.photos (org_id, booking_id, client_id, team_id, content_type, size_bytes, sha256)
	SELECT org_id, id, client_id, '0d9f6c1e-0003-7000-8000-0000a0000002', 'image/png', 1, repeat('a', 64)
		FROM cleaning.bookings WHERE id = '00000000-0000-7000-8000-000000000001'$$, '23503',
	'insert or update on table "photos" violates foreign key constraint "photos_team_id_fkey"', 'a photo is not shown to another team than the booking''s');
SELECT throws_ok($$INSERT INTO cleaning.photos (org_id, booking_id, client_id, team_id, content_type, size_bytes, sha256)
	SELECT org_id, id, '0d9f6c1e-0002-7000-8000-0000a0000002', team_id, 'image/png', 1, repeat('a', 64)
		FROM cleaning.bookings WHERE id = '00000000-0000-7000-8000-000000000001'$$, '23503',
	'insert or update on table "photos" violates foreign key constraint "photos_booking_id_fkey"', 'nor to another client');
SELECT throws_ok($$INSERT INTO cleaning.photos (org_id, booking_id, client_id, team_id, object_key, content_type, size_bytes, sha256)
	SELECT org_id, id, client_id, team_id, org_id || '/x', 'image/png', 1, repeat('a', 64)
		FROM cleaning.bookings WHERE id = '00000000-0000-7000-8000-000000000001'$$, '428C9',
	'cannot insert a non-DEFAULT value into column "object_key"', 'not even a superuser chooses a key');

SELECT * FROM finish();
