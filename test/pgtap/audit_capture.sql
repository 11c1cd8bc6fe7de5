-- One record for each row that a statement changed, whichever way it came to:
-- in order, with the key and only the columns that changed; none for a change
-- that was rolled back or that changed nothing.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(72);

-- The operations

CREATE TABLE public.t (id integer PRIMARY KEY, a text, b integer DEFAULT 7);
SELECT ringfence.audit('public.t') \g /dev/null
INSERT INTO t (id, a) VALUES (1, 'one'), (2, NULL);
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT t 1 -> {"a": "one", "b": 7, "id": 1}',
	'INSERT t 2 -> {"b": 7, "id": 2}'], 'INSERT: a record a row, of the columns that have a value, defaults included');
UPDATE t SET a = 'uno', b = 7 WHERE id = 1;
UPDATE t SET a = NULL, b = 8 WHERE id = 1;
UPDATE t SET a = 'due' WHERE id = 2;
SELECT results_eq('SELECT news()', ARRAY[
	'UPDATE t 1 {"a": "one"} -> {"a": "uno"}',
	'UPDATE t 1 {"a": "uno", "b": 7} -> {"a": null, "b": 8}',
	'UPDATE t 2 {"a": null} -> {"a": "due"}'], 'UPDATE: the columns that changed, a null where there is no value');
DELETE FROM t WHERE id = 1;
SELECT results_eq('SELECT news()', ARRAY['DELETE t 1 {"b": 8, "id": 1} ->'], 'DELETE: the row as it was');
TRUNCATE t;
SELECT results_eq('SELECT news()', ARRAY['TRUNCATE t'], 'TRUNCATE: one record for the table');
SELECT is((SELECT old IS NULL AND new IS NULL AND personal IS NULL AND key IS NULL FROM newest), true, 'of no row');
INSERT INTO t VALUES (1, NULL, NULL) RETURNING a \g /dev/null
SELECT results_eq('SELECT news()', ARRAY['INSERT t 1 -> {"id": 1}'], 'RETURNING changes nothing about it');

-- What changes nothing

UPDATE t SET a = a, b = NULL;
UPDATE t SET id = id;
INSERT INTO t VALUES (1, NULL, NULL) ON CONFLICT (id) DO UPDATE SET a = excluded.a;
UPDATE t SET a = 'x' WHERE id = 99;
DELETE FROM t WHERE id = 99;
INSERT INTO t VALUES (1, 'other', NULL) ON CONFLICT DO NOTHING;
SELECT is_empty('SELECT news()', 'an UPDATE that changes nothing leaves no record, nor does one of no row');
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
CREATE TRIGGER keep BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.keep();
UPDATE t SET a = 'refused';
SELECT is_empty('SELECT news()', 'nor one that a trigger took back');
DROP TRIGGER keep ON public.t;
CREATE FUNCTION public.upper_a() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.a := upper(NEW.a); RETURN NEW; END $$;
CREATE TRIGGER upper_a BEFORE INSERT OR UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.upper_a();
UPDATE t SET a = 'changed';
SELECT results_eq('SELECT news()', ARRAY['UPDATE t 1 {"a": null} -> {"a": "CHANGED"}'], 'a record has what was stored, not what was sent');
DROP TRIGGER upper_a ON public.t;

-- Other ways to the same

COPY t (id, a) FROM stdin;
10	ten
11	\N
\.
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT t 10 -> {"a": "ten", "b": 7, "id": 10}',
	'INSERT t 11 -> {"b": 7, "id": 11}'], 'COPY');
INSERT INTO t (id, a) VALUES (10, 'X'), (12, 'twelve') ON CONFLICT (id) DO UPDATE SET a = excluded.a, b = t.b;
SELECT results_eq('SELECT news()', ARRAY[
	'UPDATE t 10 {"a": "ten"} -> {"a": "X"}',
	'INSERT t 12 -> {"a": "twelve", "b": 7, "id": 12}'], 'ON CONFLICT DO UPDATE is the one or the other');
MERGE INTO t USING (VALUES (10, 'merged'), (11, NULL), (12, 'twelve'), (13, 'new')) AS s (id, a) ON s.id = t.id
	WHEN MATCHED AND s.a IS NULL THEN DELETE
	WHEN MATCHED THEN UPDATE SET a = s.a
	WHEN NOT MATCHED THEN INSERT (id, a) VALUES (s.id, s.a);
SELECT set_eq('SELECT news()', ARRAY[
	'UPDATE t 10 {"a": "X"} -> {"a": "merged"}',
	'DELETE t 11 {"b": 7, "id": 11} ->',
	'INSERT t 13 -> {"a": "new", "b": 7, "id": 13}'], 'MERGE does each of them');
WITH gone AS (DELETE FROM t WHERE id = 13 RETURNING id, a), raised AS (UPDATE t SET b = b + 1 WHERE id = 12 RETURNING id)
INSERT INTO t (id, a) SELECT 14, g.a FROM gone AS g, raised AS r;
SELECT set_eq('SELECT news()', ARRAY[
	'DELETE t 13 {"a": "new", "b": 7, "id": 13} ->',
	'UPDATE t 12 {"b": 7} -> {"b": 8}',
	'INSERT t 14 -> {"a": "new", "b": 7, "id": 14}'], 'statements in WITH');
WITH unread AS (UPDATE t SET b = 9 WHERE id = 12) SELECT 1 \g /dev/null
SELECT results_eq('SELECT news()', ARRAY['UPDATE t 12 {"b": 8} -> {"b": 9}'], 'also where nobody reads what they return');
BEGIN;
DECLARE rows CURSOR FOR SELECT id FROM t WHERE id IN (10, 12) ORDER BY id FOR UPDATE;
FETCH rows \g /dev/null
UPDATE t SET b = 0 WHERE CURRENT OF rows;
FETCH rows \g /dev/null
DELETE FROM t WHERE CURRENT OF rows;
COMMIT;
SELECT results_eq('SELECT news()', ARRAY[
	'UPDATE t 10 {"b": 7} -> {"b": 0}',
	'DELETE t 12 {"a": "twelve", "b": 9, "id": 12} ->'], 'WHERE CURRENT OF');
CREATE VIEW public.t_view AS SELECT id, a FROM public.t WHERE id > 9;
UPDATE t_view SET a = 'through' WHERE id = 10;
SELECT results_eq('SELECT news()', ARRAY['UPDATE t 10 {"a": "merged"} -> {"a": "through"}'], 'through a view it is the table''s');
PREPARE change (integer) AS UPDATE t SET b = $1 WHERE id = 10;
EXECUTE change (5);
EXPLAIN (ANALYZE, COSTS OFF) EXECUTE change (6) \g /dev/null
EXPLAIN EXECUTE change (7) \g /dev/null
SELECT results_eq('SELECT news()', ARRAY[
	'UPDATE t 10 {"b": 0} -> {"b": 5}',
	'UPDATE t 10 {"b": 5} -> {"b": 6}'], 'a prepared one, and EXPLAIN if it runs it');
CREATE TABLE public.copied AS SELECT * FROM public.t;
SELECT is_empty('SELECT news()', 'tables that are not audited are not');
SET session_replication_role = replica;
UPDATE t SET b = 100;
TRUNCATE t;
RESET session_replication_role;
SELECT is_empty('SELECT news()', 'session_replication_role = replica leaves nothing on record: it is the DBA''s way to load data');

-- The columns of the table

INSERT INTO t VALUES (1, 'a', 1);
ALTER TABLE public.t ADD doubled integer GENERATED ALWAYS AS (b * 2) STORED, ADD gone text, ADD z text NOT NULL DEFAULT 'zz';
SELECT results_eq('SELECT news()', ARRAY['INSERT t 1 -> {"a": "a", "b": 1, "id": 1}'], 'columns that a table gets are no change of its rows');
UPDATE t SET b = 2, gone = 'soon';
ALTER TABLE public.t DROP gone;
UPDATE t SET b = 3;
ALTER TABLE public.t RENAME a TO renamed;
UPDATE t SET renamed = 'b';
ALTER TABLE public.t RENAME TO t2;
DELETE FROM t2;
SELECT results_eq('SELECT news()', ARRAY[
	'UPDATE t 1 {"b": 1, "gone": null, "doubled": 2} -> {"b": 2, "gone": "soon", "doubled": 4}',
	'UPDATE t 1 {"b": 2, "doubled": 4} -> {"b": 3, "doubled": 6}',
	'UPDATE t 1 {"renamed": "a"} -> {"renamed": "b"}',
	'DELETE t2 1 {"b": 3, "z": "zz", "id": 1, "doubled": 6, "renamed": "b"} ->'],
	'generated, dropped and renamed columns; a record names table and columns as they are called then');
CREATE TABLE public.nothing ();
SELECT ringfence.audit('public.nothing') \g /dev/null
INSERT INTO nothing DEFAULT VALUES;
DELETE FROM nothing;
SELECT results_eq('SELECT news()', ARRAY['INSERT nothing ->', 'DELETE nothing ->'], 'a table without columns');

-- Keys and organizations

CREATE TABLE public.keyless (a integer, b text);
SELECT ringfence.audit('public.keyless') \g /dev/null
INSERT INTO keyless VALUES (1, 'x'), (1, 'x');
UPDATE keyless SET b = 'y' WHERE ctid = (SELECT min(ctid) FROM keyless);
DELETE FROM keyless WHERE b = 'y';
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT keyless -> {"a": 1, "b": "x"}', 'INSERT keyless -> {"a": 1, "b": "x"}',
	'UPDATE keyless {"a": 1, "b": "x"} -> {"b": "y"}',
	'DELETE keyless {"a": 1, "b": "y"} ->'], 'without a primary key there is no key, and the whole row before stands for it');
CREATE TABLE public.pairs (b date, n integer, a text, PRIMARY KEY (a, b));
SELECT ringfence.audit('public.pairs') \g /dev/null
INSERT INTO pairs VALUES ('2026-02-03', 1, 'q"\');
UPDATE pairs SET n = 2;
UPDATE pairs SET b = '2026-02-04', n = 3;
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT pairs ["q\"\\", "2026-02-03"] -> {"a": "q\"\\", "b": "2026-02-03", "n": 1}',
	'UPDATE pairs ["q\"\\", "2026-02-03"] {"n": 1} -> {"n": 2}',
	'DELETE pairs ["q\"\\", "2026-02-03"] {"a": "q\"\\", "b": "2026-02-03", "n": 2} ->',
	'INSERT pairs ["q\"\\", "2026-02-04"] -> {"a": "q\"\\", "b": "2026-02-04", "n": 3}'],
	'several columns are an array, in the key''s order; another key is another row');
INSERT INTO public.notes (org_id, id, body) VALUES (:'org_a', '0aaaaaaa-0000-7000-8000-0000000000e2', 'mine');
SELECT is((SELECT org_id FROM newest), :'org_a', 'a record belongs to the row''s organization');
UPDATE public.notes SET body = 'still mine' WHERE id = '0aaaaaaa-0000-7000-8000-0000000000e2';
UPDATE public.notes SET org_id = :'org_b' WHERE id = '0aaaaaaa-0000-7000-8000-0000000000e2';
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT notes 0aaaaaaa-0000-7000-8000-0000000000e2 -> {"id": "0aaaaaaa-0000-7000-8000-0000000000e2", "body": "mine"}',
	'UPDATE notes 0aaaaaaa-0000-7000-8000-0000000000e2 {"body": "mine"} -> {"body": "still mine"}',
	'DELETE notes 0aaaaaaa-0000-7000-8000-0000000000e2 {"id": "0aaaaaaa-0000-7000-8000-0000000000e2", "body": "still mine"} ->',
	'INSERT notes 0aaaaaaa-0000-7000-8000-0000000000e2 -> {"id": "0aaaaaaa-0000-7000-8000-0000000000e2", "body": "still mine"}'],
	'the organization is the record''s and not repeated; a row that changes hands leaves one and enters the other');
SELECT results_eq($$
	SELECT l.operation COLLATE "default", l.org_id FROM ringfence_data.audit_log AS l
	WHERE l.key = '0aaaaaaa-0000-7000-8000-0000000000e2' ORDER BY l.recorded_at, l.id OFFSET 2$$,
	format('VALUES (%L, %L::uuid), (%L, %L)', 'DELETE', :'org_a', 'INSERT', :'org_b'), 'neither organization sees the other''s part');
UPDATE ringfence_data.orgs SET region = 'north' WHERE id = :'org_a';
SELECT results_eq('SELECT org_id, key, old, new FROM newest',
	format('VALUES (%L::uuid, %L, %L::jsonb, %L::jsonb)', :'org_a', :'org_a', '{"region": null}', '{"region": "north"}'), 'the organization''s own row is its own');
SELECT is((SELECT org_id FROM ringfence_data.audit_log WHERE key = '["q\"\\", "2026-02-04"]'), '00000000-0000-0000-0000-000000000000',
	'what belongs to none has the nil UUID');

-- Partitions and children

CREATE TABLE public.p (id integer, k integer, v text, PRIMARY KEY (k, id)) PARTITION BY LIST (k);
CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES IN (1);
CREATE TABLE public.p_rest (v text, id integer NOT NULL, junk text, k integer NOT NULL);
ALTER TABLE public.p_rest DROP junk;
ALTER TABLE public.p ATTACH PARTITION public.p_rest DEFAULT;
SELECT ringfence.audit('public.p') \g /dev/null
CREATE TABLE public.p2 PARTITION OF public.p FOR VALUES IN (2) PARTITION BY RANGE (id);
CREATE TABLE public.p2a PARTITION OF public.p2 FOR VALUES FROM (0) TO (100);
INSERT INTO p VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c');
UPDATE p SET v = v || '!';
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT p ["1", "1"] -> {"k": 1, "v": "a", "id": 1}',
	'INSERT p ["2", "2"] -> {"k": 2, "v": "b", "id": 2}',
	'INSERT p ["3", "3"] -> {"k": 3, "v": "c", "id": 3}',
	'UPDATE p ["1", "1"] {"v": "a"} -> {"v": "a!"}',
	'UPDATE p ["2", "2"] {"v": "b"} -> {"v": "b!"}',
	'UPDATE p ["3", "3"] {"v": "c"} -> {"v": "c!"}'],
	'partitions are the table: also of partitions, with columns in another order, made later');
UPDATE p SET k = 2 WHERE id = 1;
SELECT results_eq('SELECT news()', ARRAY[
	'DELETE p ["1", "1"] {"k": 1, "v": "a!", "id": 1} ->',
	'INSERT p ["2", "1"] -> {"k": 2, "v": "a!", "id": 1}'], 'a row that moves from one to another');
CREATE TABLE public.same_key (id integer, k integer) PARTITION BY LIST (k);
CREATE TABLE public.same_key1 PARTITION OF public.same_key FOR VALUES IN (1);
CREATE TABLE public.same_key2 PARTITION OF public.same_key FOR VALUES IN (2);
SELECT ringfence.audit('public.same_key') \g /dev/null
INSERT INTO same_key VALUES (5, 1);
UPDATE same_key SET k = 2;
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT same_key -> {"k": 1, "id": 5}', 'DELETE same_key {"k": 1, "id": 5} ->', 'INSERT same_key -> {"k": 2, "id": 5}'], 'also without a key');
INSERT INTO p1 VALUES (9, 1, 'direct');
UPDATE p1 SET v = 'straight';
UPDATE p2a SET v = 'deep' WHERE id = 2;
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT p ["1", "9"] -> {"k": 1, "v": "direct", "id": 9}',
	'UPDATE p ["1", "9"] {"v": "direct"} -> {"v": "straight"}',
	'UPDATE p ["2", "2"] {"v": "b!"} -> {"v": "deep"}'], 'a write past the table into a partition is the table''s record');
TRUNCATE p1;
SELECT results_eq('SELECT news()', ARRAY['TRUNCATE p'], 'so is its TRUNCATE');
TRUNCATE p2a;
SELECT results_eq('SELECT news()', ARRAY['TRUNCATE p'], 'also of a partition made later');
TRUNCATE p;
SELECT results_eq('SELECT DISTINCT news()', ARRAY['TRUNCATE p'], 'and that of all');
ALTER TABLE public.p DETACH PARTITION public.p_rest;
INSERT INTO p_rest (id, k) VALUES (7, 7);
SELECT is_empty('SELECT news()', 'a partition that is detached is a table of its own');
CREATE TABLE public.parent (id integer PRIMARY KEY, v text);
CREATE TABLE public.child (extra integer) INHERITS (public.parent);
SELECT ringfence.audit('public.parent') \g /dev/null
INSERT INTO parent VALUES (1, 'p');
INSERT INTO child VALUES (2, 'c', 7);
UPDATE parent SET v = v || '!';
DELETE FROM parent;
SELECT set_eq('SELECT news()', ARRAY[
	'INSERT parent 1 -> {"v": "p", "id": 1}',
	'INSERT child -> {"v": "c", "id": 2, "extra": 7}',
	'UPDATE parent 1 {"v": "p"} -> {"v": "p!"}',
	'UPDATE child {"v": "c", "id": 2, "extra": 7} -> {"v": "c!"}',
	'DELETE parent 1 {"v": "p!", "id": 1} ->',
	'DELETE child {"v": "c!", "id": 2, "extra": 7} ->'], 'a child by inheritance has its own columns and key');
TRUNCATE ONLY parent;
SELECT results_eq('SELECT news()', ARRAY['TRUNCATE parent'], 'TRUNCATE ONLY');
TRUNCATE parent;
SELECT set_eq('SELECT news()', ARRAY['TRUNCATE parent', 'TRUNCATE child'], 'TRUNCATE with the children');

-- What one change brings about

CREATE TABLE public.owner (id integer PRIMARY KEY);
CREATE TABLE public.dog (id integer PRIMARY KEY, owner_id integer REFERENCES public.owner ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE public.cat (id integer PRIMARY KEY, owner_id integer REFERENCES public.owner ON UPDATE SET DEFAULT ON DELETE SET NULL);
ALTER TABLE public.cat ALTER owner_id SET DEFAULT 100;
CREATE TABLE public.flea (id integer PRIMARY KEY, dog_id integer REFERENCES public.dog ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
SELECT ringfence.audit(t.rel) FROM unnest('{public.owner,public.dog,public.cat,public.flea}'::regclass[]) AS t (rel) \g /dev/null
INSERT INTO owner VALUES (1), (2), (100);
INSERT INTO dog VALUES (11, 1), (12, 2);
INSERT INTO cat VALUES (21, 1), (22, 2);
INSERT INTO flea VALUES (31, 11);
SELECT is(count(*), 8::bigint, 'eight rows, eight records') FROM news();
UPDATE owner SET id = 5 WHERE id = 1;
SELECT set_eq('SELECT news()', ARRAY[
	'DELETE owner 1 {"id": 1} ->', 'INSERT owner 5 -> {"id": 5}',
	'UPDATE dog 11 {"owner_id": 1} -> {"owner_id": 5}', 'UPDATE cat 21 {"owner_id": 1} -> {"owner_id": 100}'], 'ON UPDATE CASCADE and SET DEFAULT');
DELETE FROM owner WHERE id IN (2, 5);
SELECT set_eq('SELECT news()', ARRAY[
	'DELETE owner 2 {"id": 2} ->', 'DELETE owner 5 {"id": 5} ->',
	'DELETE dog 11 {"id": 11, "owner_id": 5} ->', 'DELETE dog 12 {"id": 12, "owner_id": 2} ->',
	'UPDATE cat 22 {"owner_id": 2} -> {"owner_id": null}', 'DELETE flea 31 {"id": 31, "dog_id": 11} ->'],
	'ON DELETE CASCADE, over two tables, and SET NULL');
TRUNCATE owner CASCADE;
SELECT set_eq('SELECT news()', ARRAY['TRUNCATE owner', 'TRUNCATE dog', 'TRUNCATE cat', 'TRUNCATE flea'], 'TRUNCATE CASCADE is one of each table');

CREATE TABLE public.outer_rows (id integer PRIMARY KEY, v text);
CREATE TABLE public.inner_rows (id integer PRIMARY KEY, v text);
SELECT ringfence.audit('public.outer_rows'), ringfence.audit('public.inner_rows') \g /dev/null
CREATE FUNCTION public.write_inner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO inner_rows VALUES (NEW.id * 10, NEW.v);
	UPDATE inner_rows SET v = v || '!' WHERE id = NEW.id * 10;
	RETURN NEW;
END $$;
CREATE TRIGGER a_first AFTER INSERT ON public.outer_rows FOR EACH ROW EXECUTE FUNCTION public.write_inner();
INSERT INTO outer_rows VALUES (1, 'a'), (2, 'b');
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT inner_rows 10 -> {"v": "a", "id": 10}', 'UPDATE inner_rows 10 {"v": "a"} -> {"v": "a!"}', 'INSERT outer_rows 1 -> {"v": "a", "id": 1}',
	'INSERT inner_rows 20 -> {"v": "b", "id": 20}', 'UPDATE inner_rows 20 {"v": "b"} -> {"v": "b!"}', 'INSERT outer_rows 2 -> {"v": "b", "id": 2}'],
	'statements of a trigger amid those of the statement, in the order in which they happen');
DROP TRIGGER a_first ON public.outer_rows;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.outer_rows DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION public.write_inner();
BEGIN;
INSERT INTO outer_rows VALUES (3, 'c');
SELECT results_eq('SELECT news()', ARRAY['INSERT outer_rows 3 -> {"v": "c", "id": 3}'], 'before a deferred trigger ran');
COMMIT;
SELECT results_eq('SELECT news()', ARRAY['INSERT inner_rows 30 -> {"v": "c", "id": 30}', 'UPDATE inner_rows 30 {"v": "c"} -> {"v": "c!"}'], 'what it wrote at COMMIT is on record');
BEGIN;
INSERT INTO outer_rows VALUES (4, 'd');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT outer_rows 4 -> {"v": "d", "id": 4}', 'INSERT inner_rows 40 -> {"v": "d", "id": 40}',
	'UPDATE inner_rows 40 {"v": "d"} -> {"v": "d!"}'], 'SET CONSTRAINTS likewise');
COMMIT;
DROP TRIGGER late ON public.outer_rows;
CREATE FUNCTION public.add_two(first integer) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO inner_rows VALUES (first), (first + 1);
	RETURN (SELECT count(*) FROM ringfence_data.audit_log WHERE key IN (first::text, (first + 1)::text));
END $$;
INSERT INTO outer_rows SELECT 50, add_two(51)::text;
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT inner_rows 51 -> {"id": 51}', 'INSERT inner_rows 52 -> {"id": 52}', 'INSERT outer_rows 50 -> {"v": "2", "id": 50}'],
	'a function''s next statement sees the records of the one before');

-- A type whose conversion to JSON writes as well: its record is made amid the other one.
CREATE TYPE public.mood AS ENUM ('good', 'bad');
CREATE TABLE public.moods (id integer PRIMARY KEY, at_noon mood, note text, z integer);
SELECT ringfence.audit('public.moods') \g /dev/null
CREATE FUNCTION public.mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO inner_rows VALUES (60 + CASE WHEN $1 = 'bad' THEN 1 ELSE 0 END, repeat('w', 30));
	UPDATE moods SET z = 1 WHERE id = 99;
	RETURN '"' || upper($1::text) || '"';
END $$;
CREATE CAST (mood AS json) WITH FUNCTION public.mood_json(mood);
INSERT INTO moods VALUES (99);
INSERT INTO moods VALUES (1, 'good', 'n', 5);
SELECT set_eq('SELECT news()', ARRAY[
	'INSERT moods 99 -> {"id": 99}', 'UPDATE moods 99 {"z": null} -> {"z": 1}',
	'INSERT inner_rows 60 -> {"v": "wwwwwwwwwwwwwwwwwwwwwwwwwwwwww", "id": 60}',
	'INSERT moods 1 -> {"z": 5, "id": 1, "note": "n", "at_noon": "GOOD"}'], 'neither record gets into the other');
DROP CAST (mood AS json);

-- Savepoints, exceptions, transactions

CREATE TABLE public.s (id integer PRIMARY KEY, v text);
SELECT ringfence.audit('public.s') \g /dev/null
BEGIN;
INSERT INTO s VALUES (1);
SAVEPOINT one;
INSERT INTO s VALUES (2);
SAVEPOINT two;
INSERT INTO s VALUES (3);
ROLLBACK TO two;
INSERT INTO s VALUES (4);
RELEASE one;
SAVEPOINT three;
INSERT INTO s VALUES (5);
ROLLBACK TO three;
COMMIT;
SELECT results_eq('SELECT news()', ARRAY['INSERT s 1 -> {"id": 1}', 'INSERT s 2 -> {"id": 2}', 'INSERT s 4 -> {"id": 4}'],
	'what a savepoint took back is not on record, the rest is');
BEGIN;
INSERT INTO s VALUES (6);
ROLLBACK;
SELECT is_empty('SELECT news()', 'nor what a transaction took back');
SELECT throws_ok('INSERT INTO s VALUES (7), (1)', '23505', 'duplicate key value violates unique constraint "s_pkey"', 'a statement that fails');
SELECT is_empty('SELECT news()', 'leaves nothing');
CREATE FUNCTION public.try_inner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO inner_rows VALUES (NEW.id * 10);
		IF NEW.id % 2 = 0 THEN
			RAISE EXCEPTION 'even';
		END IF;
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO inner_rows VALUES (NEW.id * 10 + 1);
	END;
	RETURN NEW;
END $$;
CREATE TRIGGER a_first AFTER INSERT ON public.s FOR EACH ROW EXECUTE FUNCTION public.try_inner();
CREATE TRIGGER z_last AFTER INSERT ON public.s FOR EACH ROW EXECUTE FUNCTION public.try_inner();
ALTER TABLE public.s DISABLE TRIGGER a_first;
INSERT INTO s VALUES (71), (72), (73), (74);
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT s 71 -> {"id": 71}', 'INSERT inner_rows 710 -> {"id": 710}',
	'INSERT s 72 -> {"id": 72}', 'INSERT inner_rows 721 -> {"id": 721}',
	'INSERT s 73 -> {"id": 73}', 'INSERT inner_rows 730 -> {"id": 730}',
	'INSERT s 74 -> {"id": 74}', 'INSERT inner_rows 741 -> {"id": 741}'],
	'a trigger that fails and recovers amid a statement of many rows takes its own records along, and none of the statement''s');
ALTER TABLE public.s DISABLE TRIGGER z_last;
ALTER TABLE public.s ENABLE TRIGGER a_first;
INSERT INTO s VALUES (75), (76);
SELECT results_eq('SELECT news()', ARRAY[
	'INSERT inner_rows 750 -> {"id": 750}', 'INSERT s 75 -> {"id": 75}',
	'INSERT inner_rows 761 -> {"id": 761}', 'INSERT s 76 -> {"id": 76}'], 'also one that runs before the record is made');
ALTER TABLE public.s DISABLE TRIGGER a_first;
CREATE FUNCTION public.fail_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id = 83 THEN
		RAISE EXCEPTION 'the third row';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER z_fail AFTER INSERT ON public.s FOR EACH ROW EXECUTE FUNCTION public.fail_late();
DO $$
BEGIN
	INSERT INTO s VALUES (80);
	BEGIN
		INSERT INTO s VALUES (81), (82), (83), (84);
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO s VALUES (85);
	END;
	INSERT INTO s VALUES (86);
END
$$;
DROP TRIGGER z_fail ON public.s;
SELECT results_eq('SELECT news()', ARRAY['INSERT s 80 -> {"id": 80}', 'INSERT s 85 -> {"id": 85}', 'INSERT s 86 -> {"id": 86}'],
	'a statement that fails amid its rows and is caught leaves nothing');
CREATE FUNCTION public.fail_always() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fails'; END $$;
CREATE FUNCTION public.write_picky() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO picky VALUES (NEW.id * 10 + 1), (NEW.id * 10 + 2), (NEW.id * 10 + 3);
	RETURN NULL;
EXCEPTION WHEN raise_exception THEN
	RETURN NULL;
END $$;
CREATE TABLE public.picky (id integer PRIMARY KEY);
SELECT ringfence.audit('public.picky') \g /dev/null
CREATE TRIGGER z_fail AFTER INSERT ON public.picky FOR EACH ROW WHEN (NEW.id % 10 = 3) EXECUTE FUNCTION public.fail_always();
CREATE TRIGGER z_write AFTER INSERT ON public.s FOR EACH ROW EXECUTE FUNCTION public.write_picky();
INSERT INTO s VALUES (87), (88);
DROP TRIGGER z_write ON public.s;
SELECT results_eq('SELECT news()', ARRAY['INSERT s 87 -> {"id": 87}', 'INSERT s 88 -> {"id": 88}'],
	'nor does one that a trigger began and caught amid another, which keeps its own');
CREATE PROCEDURE public.in_parts() LANGUAGE plpgsql AS $$
BEGIN
	FOR n IN 91..94 LOOP
		INSERT INTO s VALUES (n);
		IF n % 2 = 0 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
	INSERT INTO s VALUES (95);
END $$;
CALL in_parts();
SELECT results_eq('SELECT news()', ARRAY['INSERT s 91 -> {"id": 91}', 'INSERT s 93 -> {"id": 93}', 'INSERT s 95 -> {"id": 95}'],
	'a procedure that commits and rolls back as it goes');
SELECT is(count(DISTINCT transaction_id), 3::bigint, 'in transactions of their own') FROM ringfence_data.audit_log WHERE key IN ('91', '93', '95');
BEGIN;
SELECT pg_current_xact_id()::text AS xid \gset
SAVEPOINT one;
INSERT INTO s VALUES (96);
RELEASE one;
COMMIT;
SELECT is((SELECT transaction_id FROM newest), :'xid'::bigint, 'a record names the transaction, not the subtransaction');
SELECT count(*) AS ignored FROM news() \gset

BEGIN;
INSERT INTO s VALUES (101);
PREPARE TRANSACTION 'regress_audit';
SELECT is_empty('SELECT news()', 'what is prepared isn''t there yet');
INSERT INTO s VALUES (102);
COMMIT PREPARED 'regress_audit';
SELECT set_eq($$SELECT key COLLATE "default" FROM ringfence_data.audit_log WHERE key IN ('101', '102')$$, ARRAY['101', '102'], 'and is when that is committed');
SELECT count(*) AS ignored FROM news() \gset
BEGIN;
INSERT INTO s VALUES (103);
PREPARE TRANSACTION 'regress_audit';
ROLLBACK PREPARED 'regress_audit';
SELECT is_empty('SELECT news()', 'or never');

-- The first record of a table is rolled back: what was remembered for it isn't.
CREATE TABLE public.fresh (id integer PRIMARY KEY, v text);
SELECT ringfence.audit('public.fresh') \g /dev/null
BEGIN;
SAVEPOINT one;
ALTER TABLE public.fresh ADD w text;
INSERT INTO fresh VALUES (1, 'v', 'w');
ROLLBACK TO one;
INSERT INTO fresh VALUES (2, 'v');
COMMIT;
INSERT INTO fresh VALUES (3, 'v');
SELECT results_eq('SELECT news()', ARRAY['INSERT fresh 2 -> {"v": "v", "id": 2}', 'INSERT fresh 3 -> {"v": "v", "id": 3}'], 'a change of the table that is taken back');
SELECT is_empty($$
	SELECT l.key FROM ringfence_data.audit_log AS l
	WHERE l.operation <> 'EVENT' AND NOT EXISTS (SELECT FROM ringfence_data.audit_relations AS r WHERE r.id = l.relation_id)$$,
	'every record knows its table');

-- Many rows: more than a buffer holds

CREATE TABLE public.many (id integer PRIMARY KEY, v text);
SELECT ringfence.audit('public.many') \g /dev/null
INSERT INTO many SELECT n, 'v' || n FROM generate_series(1, 10000) AS n;
UPDATE many SET v = v || '!' WHERE id % 2 = 0;
DELETE FROM many WHERE id % 4 = 0;
CREATE TEMPORARY TABLE told AS SELECT line, ordinality FROM news() WITH ORDINALITY AS n (line);
SELECT is((SELECT count(*) FROM told), 17500::bigint, '10,000 rows inserted, 5,000 changed, 2,500 deleted');
SELECT results_eq('SELECT line FROM told WHERE line LIKE ''INSERT%'' ORDER BY ordinality',
	$$SELECT format('INSERT many %s -> {"v": "v%s", "id": %s}', n, n, n) FROM generate_series(1, 10000) AS n$$, 'each insertion once, in order');
SELECT results_eq('SELECT line FROM told WHERE line LIKE ''UPDATE%'' ORDER BY ordinality',
	$$SELECT format('UPDATE many %s {"v": "v%s"} -> {"v": "v%s!"}', n, n, n) FROM generate_series(2, 10000, 2) AS n$$, 'each change once, in order');
SELECT results_eq('SELECT line FROM told WHERE line LIKE ''DELETE%'' ORDER BY ordinality',
	$$SELECT format('DELETE many %s {"v": "v%s!", "id": %s} ->', n, n, n) FROM generate_series(4, 10000, 4) AS n$$, 'each deletion once, in order');
-- An error after buffers were written
DO $$
BEGIN
	INSERT INTO many SELECT CASE WHEN n = 1500 THEN 1 ELSE 20000 + n END FROM generate_series(1, 1500) AS n;
EXCEPTION WHEN unique_violation THEN
	NULL;
END
$$;
SELECT is_empty('SELECT news()', 'of 1,500 rows whose last one fails none is on record');
-- A subtransaction for each of many rows
DO $$
BEGIN
	FOR n IN 1..1200 LOOP
		BEGIN
			INSERT INTO many VALUES (30000 + n);
			IF n % 3 = 0 THEN
				RAISE EXCEPTION 'third';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT results_eq('SELECT news()',
	$$SELECT format('INSERT many %s -> {"id": %s}', 30000 + n, 30000 + n) FROM generate_series(1, 1200) AS n WHERE n % 3 <> 0$$, '1,200 subtransactions, each third rolled back');

SELECT * FROM finish();
