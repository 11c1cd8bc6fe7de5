-- audit(), unaudit() and label(): which tables are audited, under which
-- organization, with what required and what hidden; protect() and unprotect()
-- keep it so, and DDL does not lose it.
\ir include/tenants.sql
SET client_min_messages = warning;
SELECT plan(61);

-- The triggers that a table has: their arguments, "truncate" for the other one.
CREATE FUNCTION public.triggers(rel regclass) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(CASE WHEN g.tgtype = 32 THEN 'truncate ' ELSE '' END || array_to_string(a.arguments, ','), '; ' ORDER BY g.tgname)
	FROM pg_trigger AS g
	CROSS JOIN LATERAL (SELECT regexp_split_to_array(rtrim(substring(pg_get_triggerdef(g.oid) FROM 'audit_row\((.*)\)$')), ', ')) AS a (arguments)
	WHERE g.tgrelid = rel AND g.tgfoid = 'ringfence.audit_row()'::regprocedure
$$;
CREATE FUNCTION public.last_record() RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('op', l.operation, 'old', l.old, 'new', l.new, 'personal', ringfence.audit_values(NULL, l.personal, 'new'),
		'none', l.org_id = '00000000-0000-0000-0000-000000000000')
	FROM ringfence_data.audit_log AS l ORDER BY l.id DESC LIMIT 1
$$;

-- What core and protect() attach.

SELECT is_empty($$
	SELECT t.relation FROM ringfence_data.tables AS t
	WHERE (ringfence.audit_arguments(t.relation) IS NULL)
		<> (ringfence.is_audit_table(t.relation) OR ringfence.is_idempotency_table(t.relation) OR ringfence.is_ledger_table(t.relation)
			OR ringfence.is_retention_table(t.relation) OR ringfence.is_job_table(t.relation) OR ringfence.is_tombstone_table(t.relation))
$$, 'every protected table is audited, but for the audit log''s own, keys and webhook events, what the ledger records, and what jobs do');
SELECT results_eq($$SELECT (ringfence.audit_arguments(r))[1] FROM unnest(ARRAY['ringfence_data.orgs', 'ringfence_data.memberships', 'ringfence_data.users', 'cleaning.bookings']::regclass[]) AS r$$,
	ARRAY['id', 'org_id', '', 'org_id'], 'under the organization that its rows are of, or none');
SELECT is(triggers('public.notes'), '''org_id''; truncate ''org_id''', 'protect() attaches both triggers');
SELECT results_eq('SELECT l.relation::text, l.column_name, l.label FROM ringfence.labels() AS l WHERE l.relation::text LIKE ''ringfence_data.%'' ORDER BY 1, 2', $$VALUES
	('ringfence_data.consents', 'evidence'::name, 'personal'), ('ringfence_data.consents', 'reason', 'personal'), ('ringfence_data.export_parts', 'data', 'personal'), ('ringfence_data.export_parts', 'last_key', 'personal'), ('ringfence_data.jwt_keys', 'secret', 'secret'), ('ringfence_data.ledger_accounts', 'name', 'personal'), ('ringfence_data.memberships', 'invited_as', 'personal'), ('ringfence_data.org_export_parts', 'data', 'personal'),
	('ringfence_data.users', 'email', 'personal'), ('ringfence_data.users', 'name', 'personal')$$, 'core says what is personal and what is secret');
SELECT results_eq('SELECT l.relation::text, count(*) FROM ringfence.labels() AS l WHERE l.relation::text LIKE ''cleaning.%'' GROUP BY 1 ORDER BY 1', $$VALUES
	('cleaning.bookings', 2::bigint), ('cleaning.clients', 4), ('cleaning.invoice_items', 1), ('cleaning.invoices', 1), ('cleaning.leads', 4), ('cleaning.workers', 4)$$, 'and so does cleaning');

-- audit().

CREATE TABLE public.plain (id integer PRIMARY KEY, tenant uuid, n integer);
SELECT ringfence.audit('public.plain') \g /dev/null
SELECT is(triggers('public.plain'), '''''; truncate ''''', 'a table without org_id belongs to none');
INSERT INTO public.plain VALUES (1, :'org_a', 1);
SELECT is(last_record(), jsonb_build_object('op', 'INSERT', 'old', NULL, 'new', jsonb_build_object('n', 1, 'id', 1, 'tenant', :'org_a'), 'personal', NULL, 'none', true), 'its changes are recorded so');
SELECT ringfence.audit('public.plain', 'tenant') \g /dev/null
SELECT is(triggers('public.plain'), '''tenant''; truncate ''tenant''', 'a column can be named');
INSERT INTO public.plain VALUES (2, :'org_b', 1);
SELECT is(last_record() ->> 'none', 'false', 'which counts from then on');
SELECT ringfence.audit('public.plain') \g /dev/null
SELECT is(triggers('public.plain'), '''tenant''; truncate ''tenant''', 'also when no other is');
SELECT ringfence.audit('public.plain', '') \g /dev/null
SELECT is(triggers('public.plain'), '''''; truncate ''''', 'or none');
SELECT ringfence.audit('public.plain', require_reason => true) \g /dev/null
SELECT is(triggers('public.plain'), ''''',''reason''; truncate '''',''reason''', 'a reason can be required');
SELECT throws_ok('DELETE FROM public.plain', '23502', 'a reason is required to change table "plain"', 'without it nothing is changed');
SELECT ringfence.audit('public.plain', require_reason => NULL) \g /dev/null
SELECT is(triggers('public.plain'), ''''',''reason''; truncate '''',''reason''', 'NULL leaves that as it is');
SELECT ringfence.audit('public.plain') \g /dev/null
SELECT is(triggers('public.plain'), '''''; truncate ''''', 'the default does not');
ALTER TABLE public.plain DISABLE TRIGGER ringfence_audit;
SELECT ringfence.audit('public.plain') \g /dev/null
SELECT is((SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'public.plain'::regclass AND tgname = 'ringfence_audit'), 'O', 'a trigger that was disabled fires again');
SELECT throws_ok('SELECT ringfence.audit(''public.plain'', ''nothing'')', '42703', 'column "nothing" of table public.plain does not exist', 'a column must exist');
SELECT throws_ok('SELECT ringfence.audit(''public.plain'', ''n'')', '42804', 'column "n" of table public.plain is not of type uuid', 'and hold an organization');
SELECT throws_ok('SELECT ringfence.audit(''ringfence_data.audit_log'')', '42809', 'table ringfence_data.audit_log is part of the audit log', 'the log does not audit itself');
SELECT throws_ok('SELECT ringfence.audit(''ringfence_data.ledger_transfers'')', '42809', 'table ringfence_data.ledger_transfers is a record itself', 'nor does it audit the ledger');
SELECT throws_ok('SELECT ringfence.audit(''pg_catalog.pg_class'')', '42809', '"pg_class" is not a table that can be audited', 'nor is a catalog audited');
SELECT throws_ok('SELECT ringfence.audit(''ringfence_v1.audit_log'')', '42809', '"ringfence_v1.audit_log" is not a table that can be audited', 'nor a view');
SELECT is((SELECT array_agg(x.grantee::regrole::text ORDER BY x.grantee::regrole::text) FROM pg_proc AS p, aclexplode(p.proacl) AS x
		WHERE p.oid = 'ringfence.audit_row()'::regprocedure AND x.grantee <> p.proowner), '{pg_database_owner,ringfence_owner}', 'only owners can attach its trigger');

-- unaudit(), protect() and unprotect().

SELECT ringfence.unaudit('public.plain') \g /dev/null
SELECT is(triggers('public.plain'), NULL, 'unaudit() takes them off');
SELECT is((SELECT l.key FROM ringfence_data.audit_log AS l WHERE l.action = 'audit.detached' ORDER BY l.id DESC LIMIT 1), 'public.plain', 'which is on record');
SELECT lives_ok('SELECT ringfence.unaudit(''public.plain'')', 'twice is once');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.action = 'audit.detached'), 1::bigint, 'on record too');
SELECT ringfence.audit('public.notes', require_reason => true) \g /dev/null
SELECT ringfence.protect('public.notes', '{"owner": "all"}') \g /dev/null
SELECT is(triggers('public.notes'), '''org_id'',''reason''; truncate ''org_id'',''reason''', 'protect() keeps what is required');
SELECT ringfence.unprotect('public.notes') \g /dev/null
SELECT is(triggers('public.notes'), NULL, 'unprotect() ends the audit');
SELECT ringfence.protect('public.notes', '{"owner": "all"}') \g /dev/null

-- Partitions and children.

CREATE TABLE public.days (id integer, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE public.days_1 PARTITION OF public.days FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (at);
CREATE TABLE public.days_1_1 PARTITION OF public.days_1 FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE public.stock (id integer PRIMARY KEY, n integer);
CREATE TABLE public.old_stock () INHERITS (public.stock);
SELECT ringfence.audit(t) FROM unnest('{public.days,public.stock}'::regclass[]) AS t \g /dev/null
SELECT is((SELECT array_agg(triggers(t)) FROM unnest('{public.days,public.days_1,public.days_1_1,public.stock,public.old_stock}'::regclass[]) AS t),
	array_fill('''''; truncate '''''::text, ARRAY[5]), 'partitions and children are audited with their parent');
INSERT INTO public.old_stock VALUES (1, 1);
SELECT is(last_record() -> 'new', '{"n": 1, "id": 1}', 'a child''s rows are recorded');
SELECT throws_ok('SELECT ringfence.audit(''public.days_1'')', '42809', 'table public.days_1 is a partition', 'a partition by itself is not');
CREATE TABLE public.days_1_2 PARTITION OF public.days_1 FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
CREATE TABLE public.new_stock () INHERITS (public.stock);
SELECT is((SELECT array_agg(triggers(t)) FROM unnest('{public.days_1_2,public.new_stock}'::regclass[]) AS t),
	array_fill('''''; truncate '''''::text, ARRAY[2]), 'new ones are from the start');
ALTER EVENT TRIGGER ringfence_audit DISABLE;
CREATE TABLE public.days_1_3 PARTITION OF public.days_1 DEFAULT;
CREATE TABLE public.late_stock () INHERITS (public.stock);
ALTER EVENT TRIGGER ringfence_audit ENABLE;
SELECT is((SELECT array_agg(triggers(t)) FROM unnest('{public.days_1_3,public.late_stock}'::regclass[]) AS t), ARRAY['''''', NULL], 'unless their event trigger is off');
SELECT ringfence.lock_children(t) FROM unnest('{public.days,public.stock}'::regclass[]) AS t \g /dev/null
SELECT is((SELECT array_agg(triggers(t)) FROM unnest('{public.days_1_3,public.late_stock}'::regclass[]) AS t),
	array_fill('''''; truncate '''''::text, ARRAY[2]), 'lock_children() gives them what is missing');
CREATE TABLE public.days_2 (id integer NOT NULL, at date NOT NULL);
SELECT ringfence.audit('public.days_2') \g /dev/null
SELECT ringfence.unaudit('public.days_2') \g /dev/null
ALTER TABLE public.days ATTACH PARTITION public.days_2 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
SELECT is(triggers('public.days_2'), '''''; truncate ''''', 'one that is attached is as well');
CREATE TABLE public.adopted (id integer PRIMARY KEY, n integer);
ALTER TABLE public.adopted INHERIT public.stock;
SELECT is(triggers('public.adopted'), '''''; truncate ''''', 'and one that comes to inherit');
CREATE ROLE regress_audit_nobody;
GRANT CREATE ON SCHEMA public TO regress_audit_nobody;
SET ROLE regress_audit_nobody;
SELECT lives_ok('CREATE TABLE public.theirs (id integer)', 'who has nothing to do with any of it makes tables as ever');
RESET ROLE;
SELECT ringfence.audit('public.days', require_reason => true) \g /dev/null
SELECT is((SELECT array_agg(DISTINCT triggers(w.child)) FROM ringfence.with_children('public.days') AS w), ARRAY[''''',''reason''; truncate '''',''reason'''],
	'a later call reaches all of them');
SELECT ringfence.unaudit(t) FROM unnest('{public.days,public.stock}'::regclass[]) AS t \g /dev/null
SELECT is((SELECT array_agg(DISTINCT triggers(w.child)) FROM unnest('{public.days,public.stock}'::regclass[]) AS t, ringfence.with_children(t) AS w), ARRAY[NULL::text],
	'and so does unaudit()');

-- label().

CREATE TABLE public.people (id integer PRIMARY KEY, name text, pin text, password_hint text, born date);
SELECT ringfence.audit('public.people') \g /dev/null
INSERT INTO public.people VALUES (1, 'Ann', '1234', 'dog', '2000-01-01');
SELECT is(last_record() -> 'new', '{"id": 1, "pin": "1234", "born": "2000-01-01", "name": "Ann", "password_hint": "[secret]"}', 'a name can tell that a column is secret');
SELECT ringfence.label('public.people', c, l) FROM (VALUES ('name'::name, 'personal'), ('pin', 'secret'), ('password_hint', 'plain')) AS v (c, l) \g /dev/null
INSERT INTO public.people VALUES (2, 'Ben', '1234', 'cat', '2000-01-01');
SELECT is(last_record() -> 'new', '{"id": 2, "pin": "[secret]", "born": "2000-01-01", "password_hint": "cat"}', 'a label says so, or that it is none, at once');
SELECT is(last_record() -> 'personal', '{"name": "Ben"}', 'or that it is personal');
SELECT ringfence.label('public.people', 'pin', NULL) \g /dev/null
SELECT is((SELECT array_agg(l.column_name || ' ' || l.label ORDER BY l.column_name) FROM ringfence.labels() AS l WHERE l.relation = 'public.people'::regclass),
	'{"name personal","password_hint plain"}', 'NULL removes one');
SELECT ringfence.label('public.people', 'pin', 'secret') \g /dev/null
SELECT throws_ok('SELECT ringfence.label(''public.people'', ''pin'', ''hidden'')', '22023', 'invalid label "hidden"', 'labels are three');
SELECT throws_ok('SELECT ringfence.label(''public.people'', ''nothing'', ''secret'')', '42703', 'column "nothing" of table public.people does not exist', 'a column must exist');
SELECT throws_ok('SELECT ringfence.label(''public.people'', NULL, ''secret'')', '22004', 'table and column must be given', 'and be named');
SELECT throws_ok('SELECT ringfence.label(NULL, ''pin'', ''secret'')', '22004', NULL, 'with its table');

ALTER TABLE public.people RENAME COLUMN pin TO code;
ALTER TABLE public.people RENAME COLUMN name TO full_name;
SELECT is((SELECT array_agg(l.column_name || ' ' || l.label ORDER BY l.column_name) FROM ringfence.labels() AS l WHERE l.relation = 'public.people'::regclass),
	'{"code secret","full_name personal","password_hint plain"}', 'a label goes with a column that is renamed');
INSERT INTO public.people VALUES (3, 'Cid', '1234', 'cow', '2000-01-01');
SELECT is(last_record() -> 'new', '{"id": 3, "born": "2000-01-01", "code": "[secret]", "password_hint": "cow"}', 'and hides it under the new name');
ALTER TABLE public.people RENAME COLUMN born TO birthday;
SELECT is((SELECT count(*) FROM ringfence.labels() AS l WHERE l.relation = 'public.people'::regclass), 3::bigint, 'one without a label gets none');
ALTER TABLE public.people RENAME TO persons;
ALTER TABLE public.persons DROP COLUMN password_hint;
SELECT is((SELECT array_agg(l.column_name || ' ' || l.label ORDER BY l.column_name) FROM ringfence.labels() AS l WHERE l.relation = 'public.persons'::regclass),
	'{"code secret","full_name personal"}', 'a column that is dropped takes its label along');
SELECT 'public.persons'::regclass::oid AS persons \gset
DROP TABLE public.persons;
SELECT is((SELECT count(*) FROM ringfence.labels() AS l WHERE l.relation = :persons), 0::bigint, 'and so does a table');

CREATE TABLE public.parent (id integer PRIMARY KEY, pin text);
CREATE TABLE public.offspring () INHERITS (public.parent);
SELECT ringfence.audit('public.parent'), ringfence.label('public.parent', 'pin', 'secret') \g /dev/null
INSERT INTO public.offspring VALUES (1, '1234');
SELECT is(last_record() -> 'new', '{"id": 1, "pin": "[secret]"}', 'a label holds for children');
ALTER TABLE public.parent RENAME COLUMN pin TO code;
INSERT INTO public.offspring VALUES (2, '1234');
SELECT is(last_record() -> 'new', '{"id": 2, "code": "[secret]"}', 'under a new name too');

-- Of what audited tables are called the log learns with the DDL.

SELECT is((SELECT array_agg(r.name || ' ' || (r.columns ->> '2') ORDER BY r.id) FROM ringfence_data.audit_relations AS r WHERE r.relation = 'public.parent'::regclass),
	'{"public.parent pin","public.parent code"}', 'each shape is noted');
ALTER TABLE public.parent RENAME TO ancestor;
SELECT is((SELECT r.name FROM ringfence_data.audit_relations AS r WHERE r.relation = 'public.ancestor'::regclass ORDER BY r.id DESC LIMIT 1), 'public.ancestor', 'and each name');
SELECT is(ringfence.audit_shape('public.ancestor'), ringfence.audit_shape('public.ancestor'), 'once');

-- Their own privileges suffice to the owner of the database.

CREATE ROLE regress_audit_dba;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO regress_audit_dba', current_database()); END $$;
GRANT CREATE ON SCHEMA public TO regress_audit_dba;
SET ROLE regress_audit_dba;
CREATE TABLE public.mine (id integer PRIMARY KEY, pin text);
SELECT lives_ok('SELECT ringfence.audit(''public.mine''), ringfence.label(''public.mine'', ''pin'', ''secret'')', 'the owner of the database can have their tables audited');
SELECT throws_ok('SELECT ringfence.audit(''ringfence_data.orgs'')', '42501', NULL, 'and not others''');
SELECT lives_ok('SELECT ringfence.unaudit(''public.mine'')', 'or no longer');
RESET ROLE;

SELECT * FROM finish();
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO postgres', current_database()); END $$;
DROP OWNED BY regress_audit_dba, regress_audit_nobody;
DROP ROLE regress_audit_dba, regress_audit_nobody;
