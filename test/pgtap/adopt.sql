-- adopt(): a table with rows becomes a protected one in which each row belongs to
-- an organization, in steps that are committed one by one. So this file runs in
-- no transaction, and whatever happens meanwhile comes over other connections.
\set QUIET on
SET client_min_messages = warning;
SELECT plan(73);

SELECT format('dbname=%L host=%L port=%L user=postgres options=-cclient_min_messages=warning', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')) AS connection \gset
SELECT dblink_connect('adopting', :'connection'), dblink_connect('writing', :'connection') \gset

CREATE FUNCTION pg_temp.id(name text) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN md5(name)::uuid;
-- Waits until the connection "adopting" waits for a lock.
CREATE FUNCTION pg_temp.wait_until_blocked(pid integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..3000 LOOP
		PERFORM pg_stat_clear_snapshot();
		IF cardinality(pg_blocking_pids(pid)) > 0 THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN false;
END
$$;
CREATE FUNCTION pg_temp.error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	code text;
	message text;
	detail text;
BEGIN
	PERFORM dblink_exec('adopting', statement);
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' ', code, message, nullif(detail, ''));
END
$$;

INSERT INTO ringfence_data.orgs (id, name) SELECT pg_temp.id(o), 'Organization ' || o FROM unnest(ARRAY['a', 'b']) AS o;

-- A schema from before: no org_id anywhere, and a trigger that notes changes.

CREATE SCHEMA shop;
CREATE TABLE shop.customers (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE shop.orders (id integer PRIMARY KEY, customer_id integer REFERENCES shop.customers, changes integer NOT NULL DEFAULT 0);
CREATE TABLE shop.lines (order_id integer, line integer, note text, PRIMARY KEY (order_id, line));
CREATE FUNCTION shop.count_changes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.changes := OLD.changes + 1; RETURN NEW; END';
CREATE TRIGGER count_changes BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.count_changes();
INSERT INTO shop.customers SELECT n, 'customer ' || n FROM generate_series(1, 500) AS n;
INSERT INTO shop.orders SELECT n, 1 + n % 500 FROM generate_series(1, 5000) AS n;
INSERT INTO shop.lines SELECT 1 + n / 3, n % 3, 'line' FROM generate_series(1, 9000) AS n;
ANALYZE shop.customers, shop.orders, shop.lines;

-- One organization for every row.

CALL ringfence.adopt('shop.customers', '{"owner": "all"}', org => pg_temp.id('a'), batch_size => 100);
SELECT is((SELECT count(*) FROM shop.customers WHERE org_id = pg_temp.id('a')), 500::bigint, 'each row belongs to the organization that was named');
SELECT col_not_null('shop', 'customers', 'org_id', 'org_id is not null');
SELECT is((SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d INNER JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
		WHERE a.attrelid = 'shop.customers'::regclass AND a.attname = 'org_id'), 'ringfence.org_id()', 'by default the organization of the context');
SELECT results_eq($$SELECT convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'shop.customers'::regclass AND contype = 'f'$$,
	$$VALUES (true, 'FOREIGN KEY (org_id) REFERENCES ringfence_data.orgs(id)')$$, 'with a valid foreign key');
SELECT col_is_unique('shop', 'customers', ARRAY['org_id', 'id'], 'and a key that others can reference');
SELECT is(ringfence.row_class('shop.customers'), 'org', 'the table is protected');
SELECT table_owner_is('shop', 'customers', 'ringfence_owner', 'and belongs to ringfence_owner');
SELECT triggers_are('shop', 'customers', ARRAY['ringfence_audit', 'ringfence_audit_truncate'], 'no trigger is left but those of the audit log');
SELECT is((SELECT count(*) FROM pg_constraint WHERE conname = 'ringfence_adopt'), 0::bigint, 'nor a check');
SELECT throws_ok($$CALL ringfence.adopt('shop.customers', org => pg_temp.id('a'))$$, '55000', 'table shop.customers is already protected', 'once is enough');

-- Each row's organization from the row that it references.

UPDATE shop.customers SET org_id = pg_temp.id('b') WHERE id % 2 = 0;
INSERT INTO shop.orders VALUES (6001, NULL), (6002, NULL);
SELECT is(pg_temp.error_of($$CALL ringfence.adopt('shop.orders', '{"owner": "all"}', parent => 'shop.customers', via => 'customer_id', batch_size => 700)$$),
	'23502 table shop.orders has rows that cannot be assigned to an organization Rows: 2. By key: 6001 (customer_id is null); 6002 (customer_id is null).',
	'rows that reference nothing are reported');
SELECT is(ringfence.row_class('shop.orders'), NULL, 'the table is not protected then');
SELECT results_eq($$SELECT relrowsecurity, relowner::regrole::text FROM pg_class WHERE oid = 'shop.orders'::regclass$$, $$VALUES (false, 'postgres')$$, 'nor half of it');
SELECT is_empty($$SELECT FROM pg_constraint WHERE conrelid = 'shop.orders'::regclass AND conname = 'ringfence_adopt'$$, 'nothing refuses a row');
SELECT is((SELECT count(*) FROM shop.orders AS o JOIN shop.customers AS c ON c.id = o.customer_id AND c.org_id = o.org_id), 5000::bigint, 'what can be assigned is');
SELECT lives_ok('INSERT INTO shop.orders VALUES (6003, NULL), (6004, 4)', 'the table is written as before');
SELECT is((SELECT org_id FROM shop.orders WHERE id = 6004), pg_temp.id('b'), 'and what is written and can be assigned is, at once');
DELETE FROM shop.orders WHERE id IN (6001, 6002);
UPDATE shop.orders SET customer_id = 3 WHERE id = 6003;
SELECT is((SELECT org_id FROM shop.orders WHERE id = 6003), pg_temp.id('a'), 'a correction assigns a row as well');
CALL ringfence.adopt('shop.orders', '{"owner": "all"}', parent => 'shop.customers', via => 'customer_id');
SELECT is(ringfence.row_class('shop.orders'), 'org', 'called again it goes on to the end');
SELECT is((SELECT count(*) FROM shop.orders AS o JOIN shop.customers AS c ON c.id = o.customer_id AND c.org_id = o.org_id), 5002::bigint, 'every row has its own organization');
SELECT is((SELECT count(*) FROM shop.orders WHERE changes > 0), 1::bigint, 'the table''s own triggers had no part in it');
SELECT col_is_pk('shop', 'orders', ARRAY['org_id', 'id'], 'the primary key is led by org_id');
SELECT is(has_column_privilege('ringfence_jobs', 'shop.customers', 'org_id', 'SELECT'), false, 'the right to read the parent was taken back');
SELECT results_eq($$SELECT v.code, v.object FROM ringfence.verify() AS v WHERE v.object LIKE '%shop.orders' AND v.severity = 'error'$$,
	$$VALUES ('foreign_key_without_org', 'orders_customer_id_fkey ON shop.orders')$$, 'verify() names what is left to do');
SELECT lives_ok((SELECT format('DO %L', format('BEGIN EXECUTE %L; END', v.fix)) FROM ringfence.verify() AS v WHERE v.code = 'foreign_key_without_org'), 'and its fix does it');

-- While others write: adopt() waits for a row that is locked, and there is time.

SELECT pid AS adopting FROM dblink('adopting', 'SELECT pg_backend_pid()') AS t (pid integer) \gset
SELECT is(pg_temp.error_of($$CALL ringfence.adopt('shop.lines', parent => 'shop.orders', via => 'note')$$),
	'42830 column "note" of table shop.lines does not reference table shop.orders There is no foreign key, and the primary key is not org_id and one column of the same type.',
	'a column that is of another type than the parent''s key');

-- Rows of two parents with the same key are not guessed at.
INSERT INTO shop.orders (org_id, id, customer_id) VALUES (pg_temp.id('a'), 100001, 1), (pg_temp.id('b'), 100001, 2);
INSERT INTO shop.lines VALUES (100001, 0, 'whose?');
SELECT is(pg_temp.error_of($$CALL ringfence.adopt('shop.lines', '{"owner": "all"}', parent => 'shop.orders', via => 'order_id')$$),
	'23502 table shop.lines has rows that cannot be assigned to an organization Rows: 1. By key: 100001, 0 (order_id 100001).',
	'a reference that two organizations'' rows answer to is reported');
DELETE FROM shop.lines WHERE order_id = 100001;
ALTER TABLE shop.lines DISABLE TRIGGER ringfence_adopt;
UPDATE shop.lines SET org_id = NULL;
ALTER TABLE shop.lines ENABLE TRIGGER ringfence_adopt;
VACUUM FULL shop.lines;
ANALYZE shop.lines;

SELECT dblink_exec('writing', 'BEGIN'), dblink_exec('writing', 'DO $do$ BEGIN PERFORM FROM shop.lines WHERE order_id = 2000 AND line = 1 FOR UPDATE; END $do$') \gset
SELECT dblink_send_query('adopting', $$CALL ringfence.adopt('shop.lines', '{"owner": "all"}', parent => 'shop.orders', via => 'order_id', batch_size => 500)$$) \gset
SELECT ok(pg_temp.wait_until_blocked(:adopting), 'adopt() waits for a locked row');
SELECT is(count(*) > 500 AND count(*) < 9000, true, 'what came before it is committed') FROM shop.lines WHERE org_id IS NOT NULL;
SELECT lives_ok('INSERT INTO shop.lines (order_id, line) VALUES (4000, 7), (4001, 7)', 'meanwhile rows are inserted');
SELECT lives_ok('UPDATE shop.lines SET note = ''changed'' WHERE order_id = 3000', 'and changed');
SELECT is((SELECT count(*) FROM shop.lines AS l JOIN shop.orders AS o ON o.id = l.order_id AND o.org_id = l.org_id WHERE l.order_id IN (3000, 4000, 4001) AND (l.line = 7 OR l.order_id = 3000)),
	5::bigint, 'which assigns them');
SELECT ok(pg_cancel_backend(:adopting), 'it is interrupted');
SELECT is_empty($$SELECT FROM dblink_get_result('adopting', false) AS t (status text)$$, 'in the middle');
SELECT alike(dblink_error_message('adopting'), '%canceling statement due to user request%', 'by a cancel');
SELECT * FROM dblink_get_result('adopting') AS t (status text);
SELECT is(ringfence.row_class('shop.lines'), NULL, 'the table is not protected');
SELECT count(*) AS done FROM shop.lines WHERE org_id IS NOT NULL \gset
SELECT ok(:done > 500, 'what was done stays done');
SELECT dblink_exec('writing', 'COMMIT') \gset
CALL ringfence.adopt('shop.lines', '{"owner": "all"}', parent => 'shop.orders', via => 'order_id', batch_size => 500);
SELECT is((SELECT count(*) FROM shop.lines AS l JOIN shop.orders AS o ON o.id = l.order_id AND o.org_id = l.org_id), 9002::bigint, 'called again it goes on to the end');
SELECT is(ringfence.row_class('shop.lines'), 'org', 'and protects the table');

-- A deadlock costs one batch, which is tried again.

CREATE TABLE shop.pairs (id integer PRIMARY KEY, org_id uuid);
INSERT INTO shop.pairs VALUES (1), (2);
CREATE TABLE shop.lock (id integer);
CREATE FUNCTION shop.wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN LOCK TABLE shop.lock IN ACCESS SHARE MODE; RETURN NEW; END';
CREATE TRIGGER wait BEFORE UPDATE ON shop.pairs FOR EACH ROW EXECUTE FUNCTION shop.wait();
ALTER TABLE shop.pairs ENABLE ALWAYS TRIGGER wait;
SELECT dblink_exec('writing', 'SET deadlock_timeout = ''10min'''), dblink_exec('adopting', 'SET deadlock_timeout = ''2s''') \gset
SELECT dblink_exec('writing', 'BEGIN; LOCK TABLE shop.lock') \gset
SELECT dblink_send_query('adopting', format('CALL ringfence.adopt(''shop.pairs'', org => %L)', pg_temp.id('a'))) \gset
SELECT ok(pg_temp.wait_until_blocked(:adopting), 'adopt() holds a row and waits for a lock');
-- Waits for that row, until adopt() finds that neither can go on.
SELECT dblink_exec('writing', 'DO $do$ BEGIN PERFORM FROM shop.pairs WHERE id = 1 FOR UPDATE; END $do$') \gset
SELECT ok(pg_temp.wait_until_blocked(:adopting), 'it has let go of the row, and waits for it');
SELECT dblink_exec('writing', 'COMMIT') \gset
SELECT is((SELECT status FROM dblink_get_result('adopting') AS t (status text)), 'CALL', 'a deadlock is got over');
SELECT * FROM dblink_get_result('adopting') AS t (status text);
SELECT is((SELECT count(*) FROM shop.pairs WHERE org_id = pg_temp.id('a')), 2::bigint, 'and every row assigned');

-- Partitions.

CREATE TABLE shop.events (id integer, at date, label text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE shop.events_2 PARTITION OF shop.events FOR VALUES FROM ('2026-07-01') TO ('2027-01-01') PARTITION BY RANGE (at);
CREATE TABLE shop.events_2_rest PARTITION OF shop.events_2 DEFAULT;
INSERT INTO shop.events SELECT n, date '2026-01-01' + n % 360 FROM generate_series(1, 3000) AS n;
CALL ringfence.adopt('shop.events', '{"owner": "all"}', org => pg_temp.id('b'), batch_size => 300);
SELECT is((SELECT count(*) FROM shop.events WHERE org_id = pg_temp.id('b')), 3000::bigint, 'a partitioned table');
SELECT is(ringfence.row_class('shop.events'), 'org', 'is adopted as well');
SELECT is_empty($$SELECT v.code, v.object FROM ringfence.verify() AS v WHERE v.object LIKE 'shop.events%'$$, 'with its partitions');

-- A column org_id of one's own.

CREATE TABLE shop.tagged (id integer PRIMARY KEY, org_id uuid);
INSERT INTO shop.tagged VALUES (1, pg_temp.id('a')), (2, pg_temp.id('b')), (3, NULL), (4, pg_temp.id('z'));
SELECT is(pg_temp.error_of($$CALL ringfence.adopt('shop.tagged')$$),
	'23502 table shop.tagged has rows that cannot be assigned to an organization Rows: 1. By key: 3.', 'rows without, and nothing said of them');
SELECT is(pg_temp.error_of(format('CALL ringfence.adopt(''shop.tagged'', org => %L)', pg_temp.id('a'))),
	format('23503 table shop.tagged has rows of organizations that do not exist Rows: 1. By key: 4 (org_id %s).', pg_temp.id('z')), 'rows of nobody');
DELETE FROM shop.tagged WHERE id = 4;
CALL ringfence.adopt('shop.tagged');
SELECT results_eq('SELECT id, org_id FROM shop.tagged ORDER BY 1', $$VALUES (1, pg_temp.id('a')), (2, pg_temp.id('b')), (3, pg_temp.id('a'))$$,
	'what is assigned already stays, and with it what was done before');
CREATE TABLE shop.empty (id integer PRIMARY KEY);
CALL ringfence.adopt('shop.empty');
SELECT is(ringfence.row_class('shop.empty'), 'org', 'an empty table needs nothing said');

-- Refusals, before anything is touched.

CREATE TABLE shop.plain (id integer PRIMARY KEY, customer_id integer);
INSERT INTO shop.plain VALUES (1, 1);
CREATE TABLE shop.keyless (label text);
CREATE TABLE shop.texts (id integer PRIMARY KEY, org_id text);
CREATE TABLE shop.parent (id integer PRIMARY KEY);
CREATE TABLE shop.child () INHERITS (shop.parent);
CREATE VIEW shop.view AS SELECT 1 AS id;
CREATE SCHEMA closed;
CREATE TABLE closed.plain (id integer PRIMARY KEY);
SELECT ringfence.protect_schema('closed') \gset
SELECT throws_ok(format('CALL ringfence.adopt(%s)', c.arguments), c.code, c.message, c.about)
	FROM (VALUES
		('NULL', '22004', 'table, access and batch size must be given', 'no table'),
		('''shop.plain'', batch_size => NULL', '22004', 'table, access and batch size must be given', 'no batch size'),
		('''shop.plain'', batch_size => 0', '22023', 'invalid batch size 0', 'batches of nothing'),
		('''shop.plain'', ''{"owner": "everything"}''', '22023', 'invalid rule "everything" in access of table shop.plain', 'a matrix that does not hold'),
		('''shop.plain'', parent => ''shop.customers''', '22023', 'either org or parent and via must be given', 'a parent and no column'),
		('''shop.plain'', via => ''customer_id''', '22023', 'either org or parent and via must be given', 'a column and no parent'),
		('''shop.plain'', org => pg_temp.id(''a''), parent => ''shop.customers'', via => ''customer_id''', '22023', 'either org or parent and via must be given', 'both'),
		('''shop.plain'', org => pg_temp.id(''z'')', '23503', format('organization %s does not exist', pg_temp.id('z')), 'an organization that does not exist'),
		('''shop.plain'', parent => ''shop.customers'', via => ''nothing''', '42703', 'column "nothing" of table shop.plain does not exist', 'no such column'),
		('''shop.plain'', parent => ''shop.parent'', via => ''customer_id''', '55000', 'table shop.parent is not protected', 'a parent that is not protected'),
		('''shop.keyless''', '42P16', 'table shop.keyless has neither a primary key nor a column "id"', 'a table without a key'),
		('''shop.texts''', '42804', 'column "org_id" of table shop.texts is not of type uuid', 'an org_id that is text'),
		('''shop.parent''', '0A000', 'table shop.parent has child tables', 'a table with children'),
		('''shop.view''', '42809', '"shop.view" is not a table that can be adopted', 'a view'),
		('''shop.events_1''', '42809', '"shop.events_1" is not a table that can be adopted', 'a partition'),
		('''closed.plain''', '55000', 'schema closed admits only protected tables', 'a table in a protected schema')
	) AS c (arguments, code, message, about);
SELECT is(pg_temp.error_of(format('BEGIN; CALL ringfence.adopt(''shop.plain'', org => %L)', pg_temp.id('a'))),
	'2D000 invalid transaction termination', 'in a block of statements sent together it can''t commit');
SELECT dblink_exec('adopting', 'ROLLBACK; BEGIN') \gset
SELECT is(pg_temp.error_of(format('CALL ringfence.adopt(''shop.plain'', org => %L)', pg_temp.id('a'))),
	'25001 ringfence.adopt() cannot run inside a transaction block It commits as it goes.', 'in a transaction block it says so');
SELECT dblink_exec('adopting', 'ROLLBACK') \gset
SELECT throws_ok($$CALL ringfence.adopt('shop.plain', org => pg_temp.id('a'))$$, '2D000', 'invalid transaction termination', 'nor can it inside a function');
SELECT hasnt_column('shop', 'plain', 'org_id', 'after all that the table is as it was');
CREATE ROLE regress_adopt_dba;
GRANT USAGE ON SCHEMA shop TO regress_adopt_dba;
SELECT format('ALTER DATABASE %I OWNER TO regress_adopt_dba', current_database()) \gexec
SET ROLE regress_adopt_dba;
SELECT throws_ok($$CALL ringfence.adopt('shop.plain', org => '00000000-0000-0000-0000-000000000000')$$, '42501', 'permission denied to adopt a table', 'who does not see every row may not');
RESET ROLE;
SET ROLE ringfence_member;
SELECT throws_ok($$CALL ringfence.adopt('ringfence_data.apps')$$, '42501', 'permission denied for procedure adopt', 'members may not call it');
RESET ROLE;
SELECT format('ALTER DATABASE %I OWNER TO postgres', current_database()) \gexec
DROP OWNED BY regress_adopt_dba;
DROP ROLE regress_adopt_dba;

-- The trigger of adopt() runs with rights that see every row: it takes no
-- comparison that somebody made.
CREATE TYPE shop.kind AS ENUM ('a');
CREATE TABLE shop.victim (org_id uuid, via shop.kind);
CREATE TRIGGER adopting BEFORE INSERT ON shop.victim FOR EACH ROW
	EXECUTE FUNCTION ringfence.adopt_row('1259', 'oid', 'via');
SELECT throws_ok('INSERT INTO shop.victim (via) VALUES (''a'')', '42809', 'rows cannot be assigned by that table and column',
	'a trigger of somebody''s own gets nothing out of it');

SELECT dblink_disconnect('adopting'), dblink_disconnect('writing') \gset
SELECT * FROM finish();
