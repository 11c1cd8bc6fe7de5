-- Personal values leave the audit log by age and by person: all that are meant and
-- no others, in batches that go on where the last one ended, whatever became of the
-- table, the row and its columns; and what was sealed still verifies.
\ir include/tenants.sql
SET client_min_messages = warning;
SELECT plan(74);

\set ann '0aaaaaaa-0000-7000-8000-000000000a11'
\set bob '0aaaaaaa-0000-7000-8000-000000000b0b'

CREATE TABLE public.visits (
	id integer NOT NULL,
	client uuid,
	phone text,
	note text
);
SELECT ringfence.protect('public.visits', '{"owner": "all"}');
SELECT ringfence.label('public.visits', 'phone', 'personal') \g /dev/null
CREATE TABLE public.others (id integer PRIMARY KEY, phone text);
SELECT ringfence.audit('public.others'), ringfence.label('public.others', 'phone', 'personal') \g /dev/null

-- The records with a personal value, as "table key operation" with what is left of
-- it; in order.
CREATE FUNCTION public.values_of(rels text DEFAULT '%', org uuid DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', regexp_replace(r.name, '^public\.', ''), l.key, lower(l.operation), coalesce(
		(SELECT string_agg(coalesce(v.value ->> 'value', '-'), ',' ORDER BY s.key, v.key) FROM jsonb_each(l.personal) AS s, jsonb_each(s.value) AS v)))
	FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	WHERE l.personal IS NOT NULL AND r.name LIKE 'public.' || rels AND (org IS NULL OR l.org_id = org)
	ORDER BY l.recorded_at, l.id
$$;
-- Dates a row's records back, as if the server's clock had been so then.
CREATE FUNCTION public.date_back(rel regclass, key text, days integer) RETURNS void LANGUAGE sql
SET session_replication_role = replica AS $$
	UPDATE ringfence_data.audit_log AS l
	SET recorded_at = m.moment,
		id = overlay(l.id::text PLACING regexp_replace(lpad(to_hex((extract(epoch FROM m.moment) * 1000)::bigint), 12, '0'), '(.{8})(.{4})', '\1-\2') || '-7000' FROM 1 FOR 18)::uuid
	FROM (SELECT date_trunc('milliseconds', clock_timestamp()) - days * interval '1 day' AS moment) AS m
	WHERE l.key = date_back.key AND l.relation_id IN (SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.relation = rel)
$$;
CREATE FUNCTION public.forget(days integer, batch integer DEFAULT 1000, org uuid DEFAULT '0aaaaaaa-0000-7000-8000-00000000000a', rel regclass DEFAULT 'public.visits')
RETURNS bigint LANGUAGE sql AS $$
	SELECT ringfence.audit_forget_before(rel, now() - days * interval '1 day', org, batch)
$$;
SELECT ringfence.make_audit_partition(now() - n * interval '20 days') FROM generate_series(1, 10) AS n \g /dev/null

-- By age

INSERT INTO public.visits (org_id, id, phone, note) SELECT :'org_a', n, 'a' || n, 'note' FROM generate_series(1, 6) AS n;
INSERT INTO public.visits (org_id, id, phone) VALUES (:'org_b', 1, 'b1');
INSERT INTO public.others VALUES (1, 'o1');
UPDATE public.visits SET phone = phone || '!' WHERE org_id = :'org_a' AND id = 6;
-- Newer ones are stored first, so that no order of storage does.
SELECT date_back('public.visits', v.key, v.days) FROM (VALUES ('5', 40), ('4', 70), ('3', 100), ('2', 130), ('1', 130)) AS v (key, days) \g /dev/null
SELECT date_back('public.others', '1', 130) \g /dev/null
SELECT ringfence.make_audit_partitions() \g /dev/null
SELECT ringfence.audit_seal() \g /dev/null
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'what is sealed verifies');

SELECT is(ringfence.audit_forgotten_before('public.visits', :'org_a'), '-infinity', 'nothing was forgotten yet');
SELECT is(forget(90, 1), 1::bigint, 'as many as the batch');
SELECT is(ringfence.audit_forgotten_before('public.visits', :'org_a'), '-infinity', 'which is not all');
SELECT results_eq($$SELECT count(*) FROM values_of('visits') AS v WHERE v ~ '^visits [12] insert -$'$$, ARRAY[1::bigint], 'of the oldest');
SELECT is(forget(90, 1), 1::bigint, 'the next batch goes on');
SELECT set_eq(format($$SELECT * FROM values_of('visits', %L)$$, :'org_a'),
	ARRAY['visits 1 insert -', 'visits 2 insert -', 'visits 3 insert a3', 'visits 4 insert a4', 'visits 5 insert a5', 'visits 6 insert a6', 'visits 6 update a6!,a6'], 'from there');
SELECT is(forget(90), 1::bigint, 'a larger one takes the rest');
SELECT is(forget(90), 0::bigint, 'and then there is no more');
SELECT ok(m.mark BETWEEN now() - interval '90 days 1 minute' AND now() - interval '90 days', 'up to then') FROM ringfence.audit_forgotten_before('public.visits', :'org_a') AS m (mark);
SELECT is(ringfence.audit_forgotten_before('public.visits', :'org_b'), '-infinity', 'not the other organization''s');
SELECT set_eq(format($$SELECT * FROM values_of('visits', %L)$$, :'org_a'),
	ARRAY['visits 1 insert -', 'visits 2 insert -', 'visits 3 insert -', 'visits 4 insert a4', 'visits 5 insert a5', 'visits 6 insert a6', 'visits 6 update a6!,a6'], 'younger ones stay');
SELECT results_eq(format($$SELECT * FROM values_of('visits', %L)$$, :'org_b'), ARRAY['visits 1 insert b1'], 'so do another organization''s');
SELECT results_eq($$SELECT * FROM values_of('others')$$, ARRAY['others 1 insert o1'], 'and another table''s');
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'all of it verifies');
SELECT is(l.new, '{"id": 1, "note": "note"}'::jsonb, 'what is not personal is as it was')
FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.key = '1' AND l.new ? 'note';
SELECT is(forget(60), 1::bigint, 'time goes on');
SELECT is(forget(90), 0::bigint, 'an earlier time finds nothing to do');
SELECT is(forget(0, org => :'org_b'), 1::bigint, 'of the other organization');
SELECT is(ringfence.audit_forget_before('public.others', now(), NULL, 10), 1::bigint, 'of none');
SELECT is_empty($$SELECT l.action FROM ringfence_data.audit_log AS l WHERE l.action LIKE 'audit.%'$$, 'the caller records that it was done');

-- What is done is not read again: a value that turns up there, past the log's
-- writer, is not found.
SELECT l.personal AS before FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.key = '5' AND l.personal IS NOT NULL \gset
CREATE FUNCTION public.put_back(value jsonb, what text, org uuid DEFAULT '0aaaaaaa-0000-7000-8000-00000000000a') RETURNS void LANGUAGE sql
SET session_replication_role = replica AS $$
	UPDATE ringfence_data.audit_log AS l SET personal = value WHERE l.org_id = org AND l.key = what AND l.personal IS NOT NULL
		AND l.relation_id IN (SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.relation = 'public.visits'::regclass)
$$;
SELECT put_back(:'before', '1') \g /dev/null
SELECT is(forget(60), 0::bigint, 'done months are not read again');
-- An older month can be attached.
SELECT ringfence.make_audit_partition(now() - interval '3 years') \g /dev/null
SELECT is(forget(60), 1::bigint, 'until an older one is attached');
SELECT is(forget(60), 0::bigint, 'which happens once');

-- Nor is what a pass has behind it.
INSERT INTO public.visits (org_id, id, phone) SELECT :'org_b', n, 'b' || n FROM generate_series(2, 4) AS n;
SELECT is(forget(-1, 2, :'org_b'), 2::bigint, 'a batch of a new pass');
SELECT put_back(:'before', '2', :'org_b') \g /dev/null
SELECT is(forget(-1, 2, :'org_b'), 1::bigint, 'the next one begins where it ended');

-- A transaction that was open, and is dated before the mark.
BEGIN;
INSERT INTO public.visits (org_id, id, phone) VALUES (:'org_a', 7, 'late');
PREPARE TRANSACTION 'regress_late';
SELECT is(forget(-1), 3::bigint, 'all up to tomorrow');
SELECT is(forget(-1), 0::bigint, 'is forgotten');
INSERT INTO public.visits (org_id, id, phone) VALUES (:'org_a', 8, 'later');
SELECT is(forget(-1), 1::bigint, 'what is new since, too');
COMMIT PREPARED 'regress_late';
SELECT is(forget(-1), 1::bigint, 'and what comes late');
SELECT is(forget(-1), 0::bigint, 'once');
SELECT put_back(:'before', '8') \g /dev/null
SELECT is(forget(1), 0::bigint, 'an earlier time reads none of it');

-- Labels and shapes
INSERT INTO public.visits (org_id, id, phone, note) VALUES (:'org_a', 9, 'a9', 'n9');
SELECT ringfence.label('public.visits', 'note', 'personal') \g /dev/null
ALTER TABLE public.visits ADD COLUMN seen boolean;
UPDATE public.visits SET note = 'n9!' WHERE id = 9;
SELECT is(forget(-1), 2::bigint, 'a column that was labelled later, in another shape of the table');
SELECT results_eq($$SELECT * FROM values_of('visits') AS v WHERE v ~ ' 9 '$$, ARRAY['visits 9 insert -', 'visits 9 update -,-'], 'is forgotten');
SELECT ringfence.label('public.visits', 'note', NULL) \g /dev/null

-- A table that becomes a partition brings the records that it has of its own.
CREATE TABLE public.days (org_id uuid NOT NULL, day date NOT NULL, phone text, PRIMARY KEY (org_id, day)) PARTITION BY RANGE (day);
CREATE TABLE public.day1 (org_id uuid NOT NULL, day date NOT NULL, phone text, PRIMARY KEY (org_id, day));
SELECT ringfence.audit(t.rel), ringfence.label(t.rel, 'phone', 'personal') FROM (VALUES ('public.days'::regclass), ('public.day1')) AS t (rel) \g /dev/null
INSERT INTO public.day1 VALUES (:'org_a', '2026-01-01', 'd1');
SELECT is(forget(-1, rel => 'public.days'), 0::bigint, 'a partitioned table');
SELECT ringfence.unaudit('public.day1') \g /dev/null
ALTER TABLE public.days ATTACH PARTITION public.day1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT is(forget(-1, rel => 'public.days'), 1::bigint, 'and what its partition had before');
INSERT INTO public.days VALUES (:'org_a', '2026-01-02', 'd2');
SELECT is(forget(-1, rel => 'public.day1'), 1::bigint, 'a partition is its root');
SELECT is(forget(-1, rel => 'public.notes'), 0::bigint, 'a table without personal columns has none');
CREATE TABLE public.unknown (id integer, client uuid);
SELECT is(forget(-1, rel => 'public.unknown'), 0::bigint, 'nor has one that never was audited');

SELECT throws_ok($$SELECT forget(0, 0)$$, '22023', 'invalid batch of 0 records', 'a batch has records');
SELECT throws_ok($$SELECT ringfence.audit_forget_before('public.visits', NULL, NULL, 1)$$, '22004', 'table, time and batch must be given', 'and there is a time');
BEGIN READ ONLY;
SELECT throws_ok($$SELECT forget(0)$$, '25006', 'cannot execute audit_forget_before() in a read-only transaction', 'a read-only transaction forgets nothing');
ROLLBACK;
SELECT put_back(:'before', '8') \g /dev/null
BEGIN;
UPDATE public.visits SET phone = 'rolled back' WHERE id = 9;
SELECT is(forget(-1), 1::bigint, 'what a transaction forgets');
ROLLBACK;
UPDATE public.visits SET phone = 'kept' WHERE id = 9;
SELECT is(forget(-1), 1::bigint, 'it remembers when it is rolled back');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify() AS v WHERE v.problem NOT LIKE 'record_%'$$, 'the seal is whole');

-- Indexes have the new versions of many records, the DBA's too.
CREATE INDEX dba_actor ON ringfence_data.audit_log (upper(actor), relation_id);
INSERT INTO public.visits (org_id, id, phone) SELECT :'org_a', n, repeat('p', 200) FROM generate_series(1001, 3000) AS n;
SELECT max(r.id) AS shape FROM ringfence_data.audit_relations AS r WHERE r.relation = 'public.visits'::regclass \gset
SELECT is(forget(-1, 1500), 1500::bigint, 'many at once');
SELECT is(forget(-1, 1500), 500::bigint, 'and the rest');
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.recorded_at > '2000-01-01' AND l.relation_id = :shape AND l.key::integer > 1000
	AND l.personal -> 'new' -> 'phone' ? 'commitment'), 2000::bigint, 'all are found by the primary key');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE upper(l.actor) = 'SYSTEM' AND l.relation_id = :shape AND l.key::integer > 1000
	AND l.personal -> 'new' -> 'phone' ? 'commitment'), 2000::bigint, 'and by an index of the DBA''s');
RESET enable_seqscan;
RESET enable_bitmapscan;

-- By person

CREATE TABLE public.trips (id integer, part text, client uuid, phone text, note text, PRIMARY KEY (id, part));
CREATE TABLE public.calls (client uuid, phone text);
CREATE TABLE public.people (org_id uuid NOT NULL, id uuid NOT NULL, name text, PRIMARY KEY (org_id, id));
INSERT INTO public.trips VALUES (1, 'a"b', :'ann', 't1', 'before recording');
SELECT ringfence.audit(t.rel), ringfence.label(t.rel, t.name, 'personal')
FROM (VALUES ('public.trips'::regclass, 'phone'), ('public.calls', 'phone'), ('public.people', 'name'), ('public.people', 'id')) AS t (rel, name) \g /dev/null
SELECT max(l.id::text) AS start FROM ringfence_data.audit_log AS l \gset
INSERT INTO public.visits (org_id, id, client, phone) VALUES
	(:'org_a', 11, :'ann', 'v11'), (:'org_a', 12, :'bob', 'v12'), (:'org_a', 13, :'ann', 'v13'), (:'org_a', 14, NULL, 'v14'), (:'org_a', 15, :'ann', 'v15'), (:'org_b', 11, :'ann', 'w11');
UPDATE public.visits SET phone = phone || '!' WHERE id BETWEEN 11 AND 15;
DELETE FROM public.visits WHERE id = 13;
UPDATE public.visits SET client = :'ann' WHERE id = 14;
UPDATE public.visits SET client = :'bob' WHERE id = 15;
SELECT date_back('public.visits', v.key, 70) FROM (VALUES ('11'), ('13')) AS v (key) \g /dev/null
ALTER TABLE public.visits RENAME COLUMN client TO whom;
INSERT INTO public.visits (org_id, id, whom, phone) VALUES (:'org_a', 16, :'ann', 'v16'), (:'org_a', 17, :'bob', 'v17');
UPDATE public.trips SET phone = 't1!' WHERE id = 1;
INSERT INTO public.trips VALUES (2, 'c', :'ann', 't2'), (3, 'd', :'bob', 't3');
DELETE FROM public.trips WHERE id = 2;
INSERT INTO public.calls VALUES (:'ann', 'c1'), (:'bob', 'c2');
UPDATE public.calls SET phone = phone || '!';
INSERT INTO public.people VALUES (:'org_a', :'ann', 'Ann'), (:'org_a', :'bob', 'Bob'), (:'org_b', :'ann', 'Ann of B');
UPDATE public.people SET name = name || ' X';
SELECT ringfence.audit_seal() IS NOT NULL AS sealed \g /dev/null

SELECT throws_ok($$SELECT ringfence.audit_forget_subject('public.visits', 'whom', NULL)$$, '22004', 'table, column and subject must be given', 'there is a subject');
SELECT is(ringfence.audit_forget_subject('public.visits', 'whom', :'ann'), 0::bigint, 'without an organization nobody''s records are meant');
SELECT is(ringfence.audit_forget_subject('public.unknown', 'client', :'ann'), 0::bigint, 'a table that never was audited has none');
BEGIN;
SELECT ringfence.set_context(:'org_a') \g /dev/null
SELECT throws_ok(format($$SELECT ringfence.audit_forget_subject('public.visits', 'client', %L)$$, :'ann'), '42703', 'column "client" of table "visits" does not exist', 'the column is one of now');
SELECT throws_ok(format($$SELECT ringfence.audit_forget_subject('public.visits', 'phone', %L)$$, :'ann'), '42804', 'column "phone" of table "visits" is not of type uuid', 'and a uuid');
SELECT is(ringfence.audit_forget_subject('public.visits', 'whom', ringfence.uuid7()), 0::bigint, 'of nobody there is nothing');
-- 11: insert, update. 13: insert, update, delete. 14 and 15: each insert, update. 16: insert.
SELECT is(ringfence.audit_forget_subject('public.visits', 'whom', :'ann'), 10::bigint, 'all records of rows that were about her, also before, and also those of rows that are gone');
SELECT is(ringfence.audit_forget_subject('public.visits', 'whom', :'ann'), 0::bigint, 'once');
COMMIT;
SELECT results_eq(format($$SELECT DISTINCT v FROM values_of('visits', %L) AS v WHERE v ~ ' 1[1-6] ' AND v !~ '-' ORDER BY v$$, :'org_a'),
	ARRAY['visits 12 insert v12', 'visits 12 update v12!,v12'], 'the others'' are as they were')
;
SELECT results_eq($$SELECT v FROM values_of('visits') AS v WHERE v ~ ' 17 '$$, ARRAY['visits 17 insert v17'], 'by any name of the column');
SELECT set_eq(format($$SELECT v FROM values_of('visits', %L) AS v WHERE v ~ ' 11 '$$, :'org_b'), ARRAY['visits 11 insert w11', 'visits 11 update w11!,w11'], 'and another organization''s');
SELECT is(ringfence.audit_forget_subject('public.trips', 'client', :'ann'), 3::bigint, 'a key of two columns, and a row older than recording');
SELECT results_eq($$SELECT * FROM values_of('trips')$$, ARRAY['trips ["1", "a\"b"] update -,-', 'trips ["2", "c"] insert -', 'trips ["3", "d"] insert t3', 'trips ["2", "c"] delete -'], 'of no organization');
SELECT is(ringfence.audit_forget_subject('public.calls', 'client', :'ann'), 2::bigint, 'a table without a key');
SELECT results_eq($$SELECT * FROM values_of('calls')$$, ARRAY['calls insert -', 'calls insert c2', 'calls update -,-', 'calls update c2!,c2'], 'record by record');
BEGIN;
SELECT ringfence.set_context(:'org_a') \g /dev/null
SELECT is(ringfence.audit_forget_subject('public.people', 'id', :'ann'), 2::bigint, 'the person''s own row, whose key is personal itself');
COMMIT;
SELECT is((SELECT count(*) FROM values_of('people') AS v WHERE v ~ 'Bob'), 2::bigint, 'and nobody else''s');
SELECT is((SELECT count(*) FROM values_of('people', :'org_b') AS v WHERE v ~ 'Ann'), 2::bigint, 'here and there');
SELECT is_empty(format($$SELECT * FROM ringfence.audit_verify() AS v WHERE v.record::text > %L$$, :'start'), 'what was sealed still verifies');

-- A dump and restore keeps names and not numbers: the table was made anew after a
-- column had been dropped, and this one renamed.
CREATE TABLE public.restored (id integer PRIMARY KEY, client uuid, phone text);
SELECT ringfence.audit('public.restored'), ringfence.label('public.restored', 'phone', 'personal') \g /dev/null
INSERT INTO public.restored VALUES (1, :'ann', 'r1'), (2, :'bob', 'r2');
DELETE FROM public.restored;
ALTER TABLE public.restored RENAME COLUMN client TO whom;
SET session_replication_role = replica;
UPDATE ringfence_data.audit_relations SET columns = jsonb_build_object('1', 'id', '3', columns -> '2', '4', 'phone') WHERE relation = 'public.restored'::regclass;
RESET session_replication_role;
SELECT is(ringfence.audit_forget_subject('public.restored', 'whom', :'ann'), 2::bigint, 'through a restore and a renaming before it');
SELECT results_eq($$SELECT * FROM values_of('restored')$$, ARRAY['restored 1 insert -', 'restored 2 insert r2', 'restored 1 delete -', 'restored 2 delete r2'], 'of that column');

-- With a key index in the present month, too.
SELECT format('CREATE INDEX ON ringfence_data.audit_log_%s (org_id, relation_id, key)', to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')) \gexec
BEGIN;
SELECT ringfence.set_context(:'org_a') \g /dev/null
SELECT is(ringfence.audit_forget_subject('public.visits', 'whom', :'bob'), 3::bigint, 'by the index of keys');
ROLLBACK;

-- Who may
SELECT results_eq($$SELECT r.name, f.name FROM (VALUES ('ringfence_anon'), ('ringfence_member'), ('ringfence_operator'), ('ringfence_authenticator'), ('ringfence_jobs'), ('ringfence_owner')) AS r (name),
		(VALUES ('before', 'ringfence.audit_forget_before(regclass, timestamptz, uuid, integer)'), ('subject', 'ringfence.audit_forget_subject(regclass, name, uuid, uuid)')) AS f (name, fn)
	WHERE has_function_privilege(r.name, f.fn, 'EXECUTE') ORDER BY 1, 2$$, $$VALUES ('ringfence_jobs', 'before'), ('ringfence_owner', 'before'), ('ringfence_owner', 'subject')$$, 'jobs and the owner''s code forget, and nobody else');
SET ROLE ringfence_jobs;
SELECT throws_ok('DELETE FROM ringfence_data.audit_forgotten', '42501', 'permission denied for table audit_forgotten', 'the mark is nobody''s to write');
RESET ROLE;
SELECT throws_ok('DELETE FROM ringfence_data.audit_forgotten', '42501', 'the audit log is written by ringfence alone', 'not even a superuser''s');

SELECT * FROM finish();
