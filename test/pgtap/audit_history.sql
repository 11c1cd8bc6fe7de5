-- history() and row_at(): a row's records in order and the row as it was at any
-- moment, through renames, partitions and children, of rows older than their
-- audit, with personal values until they are forgotten; as far as the caller may
-- read the log.
\ir include/tenants.sql
SET client_min_messages = warning;
SELECT plan(71);

CREATE FUNCTION public.at(rel regclass, key text, moment timestamptz DEFAULT clock_timestamp()) RETURNS text
LANGUAGE sql AS $$ SELECT (ringfence.row_at(rel, key, moment) - 'org_id')::text $$;
CREATE FUNCTION public.story(rel regclass, key text) RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT concat_ws(' ', h.operation, (h.old - 'org_id')::text, '->', (h.new - 'org_id')::text) FROM ringfence.history(rel, key) AS h
$$;

-- A row from its beginning to its end.

CREATE SCHEMA shop;
CREATE TABLE shop.items (
	org_id uuid NOT NULL DEFAULT ringfence.org_id() REFERENCES ringfence_data.orgs,
	id text NOT NULL,
	name text,
	price integer,
	api_token text,
	PRIMARY KEY (org_id, id)
);
SELECT ringfence.protect('shop.items', '{"owner,admin": "all", "worker": "select"}') \g /dev/null
SELECT clock_timestamp() AS before \gset
INSERT INTO shop.items (org_id, id, name, price) VALUES (:'org_a', 'a1', 'mop', 5), (:'org_b', 'a1', 'rake', 9);
SELECT clock_timestamp() AS inserted \gset
UPDATE shop.items SET price = 6, api_token = 'hush' WHERE org_id = :'org_a';
SELECT clock_timestamp() AS changed \gset
UPDATE shop.items SET name = NULL WHERE org_id = :'org_a';
UPDATE shop.items SET name = name;
SELECT clock_timestamp() AS emptied \gset
DELETE FROM shop.items WHERE org_id = :'org_a';
SELECT clock_timestamp() AS deleted \gset
INSERT INTO shop.items (org_id, id, name) VALUES (:'org_a', 'a1', 'mop again');

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq($$SELECT story('shop.items', 'a1')$$, ARRAY[
	'INSERT -> {"id": "a1", "name": "mop", "price": 5}',
	'UPDATE {"price": 5, "api_token": null} -> {"price": 6, "api_token": "[secret]"}',
	'UPDATE {"name": "mop"} -> {"name": null}',
	'DELETE {"id": "a1", "price": 6, "api_token": "[secret]"} ->',
	'INSERT -> {"id": "a1", "name": "mop again"}'], 'a history is what happened, in order, without what changed nothing');
SELECT results_eq($$SELECT h.relation, h.actor, h.login, h.user_id IS NULL FROM ringfence.history('shop.items', 'a1') AS h LIMIT 1$$,
	$$VALUES ('shop.items', 'system', 'postgres', true)$$, 'and who did it');
SELECT is(at('shop.items', 'a1', :'before'), NULL, 'before it was made there was no row');
SELECT is(at('shop.items', 'a1', :'inserted'), '{"id": "a1", "name": "mop", "price": 5, "api_token": null}', 'then there was');
SELECT is(at('shop.items', 'a1', :'changed'), '{"id": "a1", "name": "mop", "price": 6, "api_token": "[secret]"}', 'then it had changed, with a secret');
SELECT is(at('shop.items', 'a1', :'emptied'), '{"id": "a1", "name": null, "price": 6, "api_token": "[secret]"}', 'a value can become none');
SELECT is(at('shop.items', 'a1', :'deleted'), NULL, 'then it was gone');
SELECT is(at('shop.items', 'a1'), '{"id": "a1", "name": "mop again", "price": null, "api_token": null}', 'and there again, as now');
SELECT is(ringfence.row_at('shop.items', 'a1') ->> 'org_id', :'org_a', 'it is the organization''s own');
SELECT is(at('shop.items', 'nothing'), NULL, 'of what never was there is no row');
SELECT is_empty($$SELECT ringfence.history('shop.items', 'nothing')$$, 'nor a history');
SELECT is(ringfence.row_at(NULL, 'a1'), NULL, 'nothing asked, nothing answered');
INSERT INTO shop.items (id, name) VALUES ('a2', 'today');
SELECT is(at('shop.items', 'a2'), '{"id": "a2", "name": "today", "price": null, "api_token": null}', 'a change of one''s own transaction counts');
SELECT results_eq($$SELECT h.actor, h.user_id::text, h.login, h.role FROM ringfence.history('shop.items', 'a2') AS h$$,
	format('VALUES (%L, %L, %L, %L)', 'user', :'user_a', 'regress_web', 'ringfence_member'), 'and is the user''s');
COMMIT;

-- Who may ask.

RESET SESSION AUTHORIZATION;
INSERT INTO ringfence_data.users (id, email) VALUES ('aaaaaaaa-0000-4000-8000-0000000000a0', 'worker@a.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES (:'org_a', 'aaaaaaaa-0000-4000-8000-0000000000a0', '{worker}');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-0000000000a0", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}');
SELECT is((SELECT count(*) FROM shop.items), 2::bigint, 'a worker reads the rows');
SELECT is_empty($$SELECT ringfence.history('shop.items', 'a1')$$, 'but not their history');
SELECT is(at('shop.items', 'a1', :'inserted'), NULL, 'nor what they were');
COMMIT;
BEGIN;
SELECT claim(:'claims_b');
SELECT results_eq($$SELECT story('shop.items', 'a1')$$, ARRAY['INSERT -> {"id": "a1", "name": "rake", "price": 9}'],
	'another organization''s row of that key has a history of its own');
SELECT is(at('shop.items', 'a1', :'deleted'), '{"id": "a1", "name": "rake", "price": 9, "api_token": null}', 'and was something else');
SELECT is(at('shop.items', 'a2'), NULL, 'and of a row it has not it learns nothing');
COMMIT;
BEGIN;
SELECT claim(NULL, 'ringfence_anon');
SELECT throws_ok($$SELECT ringfence.history('public.notes', 'a1')$$, '42501', 'permission denied for function history', 'nobody may not ask');
SELECT throws_ok($$SELECT ringfence.row_at('public.notes', 'a1')$$, '42501', 'permission denied for function row_at', 'either way');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM ringfence.history('shop.items', 'a1')), 6::bigint, 'a superuser in no organization reads every one''s');
SELECT throws_ok(format('SELECT at(''shop.items'', ''a1'', %L)', :'inserted'), '21000', 'several organizations have a row a1 in table shop.items', 'of which there is no one row');
BEGIN;
SELECT ringfence.set_context(:'org_b') \g /dev/null
SELECT is(at('shop.items', 'a1', :'inserted'), '{"id": "a1", "name": "rake", "price": 9, "api_token": null}', 'unless it is in one');
SELECT is((SELECT count(*) FROM ringfence.history('shop.items', 'a1')), 1::bigint, 'in which the history is that one''s');
SELECT is((SELECT count(*) FROM ringfence.history('ringfence_data.users', :'user_a')), 1::bigint, 'and what belongs to none');
COMMIT;
SELECT is((SELECT h.new ->> 'name' FROM ringfence.history('ringfence_data.orgs', :'org_a') AS h), 'Tenant A', 'an organization''s own row is found by its id');

-- Renamed tables and columns, added and dropped ones.

ALTER TABLE shop.items RENAME COLUMN price TO cents;
UPDATE shop.items SET cents = 700 WHERE id = 'a2';
SELECT clock_timestamp() AS renamed \gset
ALTER TABLE shop.items RENAME TO goods;
ALTER TABLE shop.goods SET SCHEMA public;
ALTER TABLE public.goods ADD COLUMN color text DEFAULT 'red';
UPDATE public.goods SET color = 'blue' WHERE id = 'a2';
SELECT clock_timestamp() AS colored \gset
ALTER TABLE public.goods DROP COLUMN color;
ALTER TABLE public.goods ADD COLUMN color integer;
UPDATE public.goods SET cents = 800 WHERE id = 'a2';
SELECT results_eq($$SELECT story('public.goods', 'a2')$$, ARRAY[
	'INSERT -> {"id": "a2", "name": "today"}',
	'UPDATE {"cents": null} -> {"cents": 700}',
	'UPDATE {"color": "red"} -> {"color": "blue"}',
	'UPDATE {"cents": 700} -> {"cents": 800}'], 'a history goes through renames');
SELECT results_eq($$SELECT h.relation FROM ringfence.history('public.goods', 'a2') AS h$$,
	ARRAY['shop.items', 'shop.items', 'public.goods', 'public.goods'], 'each record names the table as it was called');
SELECT is(at('public.goods', 'a2', :'renamed'), '{"id": "a2", "name": "today", "cents": 700, "color": null, "api_token": null}', 'a row has its columns of now');
SELECT is(at('public.goods', 'a2', :'colored'), '{"id": "a2", "name": "today", "cents": 700, "color": null, "api_token": null}', 'not those that are gone, whatever has their name');
SELECT is((SELECT n.names ->> 'price' FROM ringfence.audit_names('public.goods') AS n ORDER BY n.relation_id LIMIT 1), 'cents', 'what a column is called now');
SELECT is((SELECT bool_or(n.names ? 'color') FROM ringfence.audit_names('public.goods') AS n WHERE n.relation_id <
	(SELECT max(r.id) FROM ringfence_data.audit_relations AS r)), false, 'one that is gone has no name');

-- Restored from a dump, the table has its names and other numbers.

CREATE TABLE public.fresh AS SELECT org_id, id, name, cents, api_token, color FROM public.goods;
SET session_replication_role = replica;
UPDATE ringfence_data.audit_relations SET relation = 'public.fresh' WHERE relation = 'public.goods'::regclass;
RESET session_replication_role;
SELECT is(at('public.fresh', 'a2', :'renamed'), '{"id": "a2", "name": "today", "cents": 700, "color": null, "api_token": null}', 'what was recorded before a restore is understood');
SELECT ringfence.audit('public.fresh') \g /dev/null
ALTER TABLE public.fresh RENAME COLUMN cents TO price_minor;
SELECT is(at('public.fresh', 'a2', :'renamed'), '{"id": "a2", "name": "today", "color": null, "api_token": null, "price_minor": 700}', 'and through renames after it');

-- Rows that are older than their audit.

CREATE TABLE public.old_stock (id integer PRIMARY KEY, n integer, kept text, password text);
INSERT INTO public.old_stock SELECT i, i * 10, 'kept', 'hush' FROM generate_series(1, 4) AS i;
SELECT ringfence.audit('public.old_stock') \g /dev/null
SELECT clock_timestamp() AS began \gset
UPDATE public.old_stock SET n = n + 1 WHERE id < 4;
SELECT clock_timestamp() AS once \gset
UPDATE public.old_stock SET n = n + 1, kept = NULL WHERE id < 4;
DELETE FROM public.old_stock WHERE id = 2;
INSERT INTO public.old_stock VALUES (5, 5, NULL, NULL);
DELETE FROM public.old_stock WHERE id = 3;
INSERT INTO public.old_stock VALUES (3, 0, 'new', NULL);
SELECT is(at('public.old_stock', '1', :'began'), '{"n": 10, "id": 1, "kept": "kept", "password": "[secret]"}', 'back from the row as it is');
SELECT is(at('public.old_stock', '1', :'once'), '{"n": 11, "id": 1, "kept": "kept", "password": "[secret]"}', 'not further than asked');
SELECT is(at('public.old_stock', '1'), '{"n": 12, "id": 1, "kept": null, "password": "[secret]"}', 'or not at all');
SELECT is(at('public.old_stock', '2', :'began'), '{"n": 20, "id": 2, "kept": "kept", "password": "[secret]"}', 'back from what was deleted');
SELECT is(at('public.old_stock', '2'), NULL, 'which is gone now');
SELECT is(at('public.old_stock', '3', :'once'), '{"n": 31, "id": 3, "kept": "kept", "password": "[secret]"}', 'not from what came after it');
SELECT is(at('public.old_stock', '4', :'began'), '{"n": 40, "id": 4, "kept": "kept", "password": "[secret]"}', 'what never changed was as it is');
SELECT is(at('public.old_stock', '5', :'began'), NULL, 'and what was made later was not');

-- Keys of several columns, and changed ones.

CREATE TABLE public.lines (org_id uuid NOT NULL REFERENCES ringfence_data.orgs, "order" integer NOT NULL, line text NOT NULL, n integer, PRIMARY KEY (org_id, "order", line));
SELECT ringfence.protect('public.lines', '{"owner": "all"}') \g /dev/null
INSERT INTO public.lines VALUES (:'org_a', 7, 'a "b", \c', 1);
SELECT l.key AS composite FROM ringfence_data.audit_log AS l JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id WHERE r.name = 'public.lines' \gset
SELECT is(:'composite'::jsonb, '["7", "a \"b\", \\c"]', 'a key of several columns is an array');
SELECT is(at('public.lines', :'composite'), '{"n": 1, "line": "a \"b\", \\c", "order": 7}', 'by which a row is found');
SELECT clock_timestamp() AS keyed \gset
UPDATE public.lines SET "order" = 8;
SELECT is(at('public.lines', :'composite'), NULL, 'a row whose key changes is gone');
SELECT is(at('public.lines', '["8", "a \"b\", \\c"]') , '{"n": 1, "line": "a \"b\", \\c", "order": 8}', 'and is another');
SELECT is(at('public.lines', :'composite', :'keyed'), '{"n": 1, "line": "a \"b\", \\c", "order": 7}', 'from then on');
SELECT ringfence.unaudit('public.lines') \g /dev/null
INSERT INTO public.lines VALUES (:'org_a', 9, 'x', 1);
SELECT ringfence.audit('public.lines') \g /dev/null
SELECT is(at('public.lines', '["9", "x"]'), '{"n": 1, "line": "x", "order": 9}', 'one that is older than its audit is found by its key as well');

-- Partitions and children.

CREATE TABLE public.visits (id integer, at date, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE public.visits_1 PARTITION OF public.visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE public.visits_2 (note text, at date NOT NULL, gone text, id integer NOT NULL);
ALTER TABLE public.visits_2 DROP COLUMN gone;
ALTER TABLE public.visits ATTACH PARTITION public.visits_2 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
CREATE TABLE public.base (id integer PRIMARY KEY, note text);
CREATE TABLE public.child (more text, PRIMARY KEY (id)) INHERITS (public.base);
SELECT ringfence.audit(t) FROM unnest('{public.visits,public.base}'::regclass[]) AS t \g /dev/null
INSERT INTO public.visits VALUES (1, '2026-05-05', 'one'), (2, '2027-05-05', 'two');
UPDATE public.visits_2 SET note = 'second';
INSERT INTO public.child VALUES (1, 'note', 'more');
SELECT is(at('public.visits', '["2", "2027-05-05"]'), '{"at": "2027-05-05", "id": 2, "note": "second"}', 'rows of partitions are the table''s');
SELECT is(at('public.visits_2', '["2", "2027-05-05"]'), '{"at": "2027-05-05", "id": 2, "note": "second"}', 'by the partition''s name as well');
SELECT is(at('public.base', '1'), '{"id": 1, "note": "note"}', 'a child''s rows are its parent''s, in its columns');
SELECT is(at('public.child', '1'), '{"id": 1, "more": "more", "note": "note"}', 'and its own');
SELECT results_eq($$SELECT h.relation FROM ringfence.history('public.base', '1') AS h$$, ARRAY['public.child'], 'recorded under its name');

-- TRUNCATE.

SELECT clock_timestamp() AS kept \gset
TRUNCATE public.visits_1;
SELECT is(at('public.visits', '["1", "2026-05-05"]'), NULL, 'what was truncated is gone');
SELECT is(at('public.visits', '["1", "2026-05-05"]', :'kept'), '{"at": "2026-05-05", "id": 1, "note": "one"}', 'but was there');
SELECT is(at('public.visits', '["2", "2027-05-05"]') IS NOT NULL, true, 'and what lay in another partition is there');
SELECT clock_timestamp() AS truncated \gset
UPDATE public.visits SET note = 'still' WHERE id = 2;
DELETE FROM public.visits;
INSERT INTO public.visits VALUES (1, '2026-05-05', 'again');
SELECT is(at('public.visits', '["2", "2027-05-05"]', :'truncated'), '{"at": "2027-05-05", "id": 2, "note": "second"}', 'as its later records tell');
SELECT is(at('public.visits', '["1", "2026-05-05"]', :'truncated'), NULL, 'and those of the other');

-- Personal values.

SELECT ringfence.label('public.notes', 'body', 'personal') \g /dev/null
UPDATE public.notes SET body = 'Ann Smith' WHERE org_id = :'org_a';
SELECT clock_timestamp() AS named \gset
UPDATE public.notes SET body = 'Ann Jones' WHERE org_id = :'org_a';
SELECT is(at('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1', :'named'), '{"id": "0aaaaaaa-0000-7000-8000-0000000000e1", "body": "Ann Smith"}', 'personal values are there');
SELECT throws_ok($$SELECT ringfence.audit_forget('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1')$$,
	'23502', 'a reason is required to forget personal values', 'nothing is forgotten without a reason');
BEGIN;
SET LOCAL ringfence.reason = 'asked to be forgotten';
SELECT throws_ok($$SELECT ringfence.audit_forget('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1')$$,
	'42501', 'no organization is set for this transaction', 'nor without an organization');
SELECT ringfence.set_context(:'org_b') \g /dev/null
SELECT is(ringfence.audit_forget('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1'), 0::bigint, 'nor from another one');
ROLLBACK;
-- A month that is over has an index of its keys, and is searched by that.
SELECT ringfence.make_audit_partition(date_trunc('month', now()) - interval '2 months') AS past \gset
SELECT ringfence.make_audit_partitions() \g /dev/null
SELECT is((SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = :'past'::regclass AND indkey::text = '1 6 13'),
	format('CREATE INDEX %s_key_idx ON %s USING btree (org_id, relation_id, key)', split_part(:'past', '.', 2), :'past'),
	'a past month gets an index of its keys');
-- Moves a record by that time, as only a superuser past the triggers can.
CREATE FUNCTION pg_temp.move(record uuid, by interval) RETURNS void LANGUAGE sql
SET session_replication_role = replica
AS $$
	WITH moved AS (DELETE FROM ringfence_data.audit_log AS l WHERE l.id = record RETURNING l.*)
	INSERT INTO ringfence_data.audit_log
	SELECT m.org_id, m.id, m.recorded_at + by, m.transaction_id, m.incarnation, m.relation_id, m.user_id, m.operation, m.actor, m.login, m.role,
		m.action, m.key, m.request_id, m.correlation_id, m.client_ip, m.user_agent, m.reason, m.old, m.new, m.personal
	FROM moved AS m
$$;
SELECT id AS moved FROM ringfence_data.audit_log WHERE key = '0aaaaaaa-0000-7000-8000-0000000000e1' AND personal IS NOT NULL ORDER BY id LIMIT 1 \gset
SELECT pg_temp.move(:'moved', '-2 months') \g /dev/null
BEGIN;
SELECT ringfence.set_context(:'org_a') \g /dev/null
SET LOCAL ringfence.reason = 'asked to be forgotten';
SELECT is(ringfence.audit_forget('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1'), 2::bigint, 'until they are forgotten');
SELECT results_eq(
	$$SELECT l.key, l.new, l.reason FROM ringfence_data.audit_log AS l WHERE l.action = 'audit.forgotten'$$,
	$$VALUES ('0aaaaaaa-0000-7000-8000-0000000000e1'::text COLLATE "C", '{"records": 2, "relation": "public.notes"}'::jsonb, 'asked to be forgotten')$$,
	'which is on record');
SELECT is(ringfence.audit_forget('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1'), 0::bigint, 'a second time there is nothing left to forget');
COMMIT;
SELECT pg_temp.move(:'moved', '2 months') \g /dev/null
SELECT results_eq($$SELECT story('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1')$$, ARRAY[
	'INSERT -> {"id": "0aaaaaaa-0000-7000-8000-0000000000e1", "body": "note of A"}',
	'UPDATE {"body": null} -> {"body": null}', 'UPDATE {"body": null} -> {"body": null}'], 'then they are null, and that they changed is known');
SELECT results_eq($$SELECT h.forgotten FROM ringfence.history('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1') AS h$$,
	$$VALUES ('{}'::text[]), ('{body}'), ('{body}')$$, 'and that they were forgotten');
SELECT is(at('public.notes', '0aaaaaaa-0000-7000-8000-0000000000e1', :'named'), '{"id": "0aaaaaaa-0000-7000-8000-0000000000e1", "body": null}', 'in the row as well');

SELECT * FROM finish();
