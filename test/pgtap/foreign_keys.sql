-- verify() names each column that is named for another table and has no foreign
-- key, with the rows that go astray; the finding's own fix makes the key.
-- require_foreign_keys() counts them for one table, makes its findings errors,
-- and keeps which columns are no references.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT plan(115);

CREATE FUNCTION pg_temp.id(name text) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN md5(name)::uuid;

CREATE FUNCTION pg_temp.findings() RETURNS TABLE (severity text, code text, object text, message text, fix text)
LANGUAGE sql AS $$
	SELECT v.severity, v.code, v.object, v.message, v.fix
	FROM ringfence.verify() AS v
	WHERE v.code NOT IN ('server_too_old', 'temp_tables_granted')
$$;

-- Code, object and what the message says of rows.
CREATE FUNCTION pg_temp.found(VARIADIC objects text[] DEFAULT '{}') RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT format('%s %s: %s', f.severity, f.object, substring(f.message FROM '[^:]*$'))
	FROM pg_temp.findings() AS f
	WHERE f.code = 'foreign_key_missing' AND (objects = '{}' OR f.object = ANY (objects))
$$;

CREATE FUNCTION pg_temp.run(fix text) RETURNS void
LANGUAGE plpgsql AS $$ BEGIN EXECUTE fix; END $$;

CREATE FUNCTION pg_temp.missing(rel regclass) RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT format('%s -> %s%s', m.column_name, m.parent, coalesce('.' || m.parent_column, ', no key'))
	FROM ringfence.missing_foreign_keys(rel) AS m
$$;

SELECT is_empty('SELECT * FROM ringfence.missing_foreign_keys()', 'what core and cleaning make has its keys');

-- Which columns name a table.

INSERT INTO ringfence_data.orgs (id, name) SELECT pg_temp.id(o), 'Organization ' || o FROM unnest(ARRAY['a', 'b']) AS o;
CREATE SCHEMA shop;
CREATE SCHEMA depot;
CREATE TABLE shop.clients (id uuid PRIMARY KEY);
CREATE TABLE shop.categories (id integer PRIMARY KEY);
CREATE TABLE shop.addresses (id bigint PRIMARY KEY);
CREATE TABLE shop.people (id uuid PRIMARY KEY);
CREATE TABLE shop.shelves (id uuid PRIMARY KEY);
CREATE TABLE shop.analyses (id uuid PRIMARY KEY);
CREATE TABLE shop.staff (id uuid PRIMARY KEY);
CREATE TABLE shop.sales_ledgers (id uuid PRIMARY KEY);
CREATE TABLE shop.events (id uuid NOT NULL);
CREATE TABLE shop.items (id uuid PRIMARY KEY);
CREATE TABLE shop.order_items (id uuid PRIMARY KEY);
CREATE TABLE shop.countries (id text PRIMARY KEY);
CREATE TABLE shop."odd table" (id uuid PRIMARY KEY);
CREATE TABLE shop.unguarded (id uuid PRIMARY KEY);
CREATE TABLE depot.stores (id uuid PRIMARY KEY);
CREATE TABLE depot.clients (id uuid PRIMARY KEY);
CREATE TABLE shop.visits (
	id uuid PRIMARY KEY,
	client_id uuid, billing_client_id uuid, category_id integer, address_id bigint, person_id uuid, shelf_id uuid,
	analysis_id uuid, staff_id uuid, ledger_id uuid, debit_ledger_id uuid, item_id uuid, country_id text, "odd table_id" uuid,
	user_id uuid, approving_user_id uuid, parent_id uuid, previous_visit_id uuid, store_id uuid, booking_id uuid,
	-- These name nothing here.
	unguarded_id uuid, device_id uuid, request_id text, stripe_client_id text, stripe_event_id text, paid boolean, client_ids uuid[],
	_id uuid, id_client uuid
);
SELECT ringfence.protect(c.oid, row_class => CASE c.relname WHEN 'countries' THEN 'reference' ELSE 'org' END)
	FROM pg_class AS c WHERE c.relnamespace IN ('shop'::regnamespace, 'depot'::regnamespace) AND c.relkind = 'r' AND c.relname <> 'unguarded';
ALTER TABLE shop.events DROP CONSTRAINT events_pkey, ADD COLUMN at date NOT NULL, ADD PRIMARY KEY (org_id, id, at);

SELECT set_eq($$SELECT * FROM pg_temp.missing('shop.visits')$$, ARRAY[
	'client_id -> shop.clients.id', 'billing_client_id -> shop.clients.id', 'category_id -> shop.categories.id',
	'address_id -> shop.addresses.id', 'person_id -> shop.people.id', 'shelf_id -> shop.shelves.id',
	'analysis_id -> shop.analyses.id', 'staff_id -> shop.staff.id', 'ledger_id -> shop.sales_ledgers.id',
	'debit_ledger_id -> shop.sales_ledgers.id', 'item_id -> shop.items.id', 'country_id -> shop.countries.id',
	'odd table_id -> shop."odd table".id', 'user_id -> ringfence_data.users.id', 'approving_user_id -> ringfence_data.users.id',
	'parent_id -> shop.visits.id', 'previous_visit_id -> shop.visits.id', 'store_id -> depot.stores.id',
	'booking_id -> cleaning.bookings.id'],
	'columns are named for tables: plurals, words before, the exact name before a longer one, one''s own schema before others, users, the table itself');
SELECT set_eq($$SELECT m.column_name, m.carries_org FROM ringfence.missing_foreign_keys('shop.visits') AS m WHERE NOT m.carries_org$$,
	$$VALUES ('user_id'::name, false), ('approving_user_id', false), ('country_id', false)$$,
	'org_id is for parents whose rows belong to an organization');
SELECT set_eq($$SELECT f.object FROM pg_temp.findings() AS f WHERE f.code = 'foreign_key_missing'$$,
	$$SELECT format('shop.visits.%I', m.column_name) FROM ringfence.missing_foreign_keys('shop.visits') AS m$$, 'each is a finding, and nothing else is');
SELECT is_empty($$SELECT f.code, f.object FROM pg_temp.findings() AS f WHERE f.severity = 'error'$$, 'as long as no row is wrong, a warning');

SELECT lives_ok($$SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f WHERE f.code = 'foreign_key_missing'$$, 'the fixes run');
SELECT is_empty('SELECT f.code, f.object FROM pg_temp.findings() AS f', 'and nothing is found afterwards, of indexes and validity neither');
SELECT fk_ok('shop', 'visits', ARRAY['org_id', 'billing_client_id'], 'shop', 'clients', ARRAY['org_id', 'id'], 'a key with org_id');
SELECT fk_ok('shop', 'visits', ARRAY['org_id', 'odd table_id'], 'shop', 'odd table', ARRAY['org_id', 'id'], 'one of names that need quotes');
SELECT fk_ok('shop', 'visits', ARRAY['org_id', 'parent_id'], 'shop', 'visits', ARRAY['org_id', 'id'], 'one to the same table');
SELECT fk_ok('shop', 'visits', ARRAY['user_id'], 'ringfence_data', 'users', ARRAY['id'], 'one to users');
SELECT ok(bool_and(k.convalidated), 'all are valid') FROM pg_constraint AS k WHERE k.conrelid = 'shop.visits'::regclass AND k.contype = 'f';

SELECT throws_ok(format('INSERT INTO shop.visits (org_id, id, client_id) VALUES (%L, %L, %L)', pg_temp.id('a'), pg_temp.id('v'), pg_temp.id('nobody')),
	'23503', 'insert or update on table "visits" violates foreign key constraint "visits_org_id_client_id_fkey"', 'and hold');

-- Whose table is meant.

CREATE TABLE shop.trips (id uuid PRIMARY KEY, item_id uuid, account_id uuid, event_id uuid, client_id text, lead_id text, user_id text, trip_id uuid);
CREATE TABLE shop.cash_accounts (id uuid PRIMARY KEY);
CREATE TABLE shop.bonus_accounts (id uuid PRIMARY KEY);
SELECT ringfence.protect(t) FROM unnest(ARRAY['shop.trips', 'shop.cash_accounts', 'shop.bonus_accounts']::regclass[]) AS t;
SELECT set_eq($$SELECT * FROM pg_temp.missing('shop.trips')$$, ARRAY[
	'item_id -> shop.items.id', 'account_id -> shop.bonus_accounts.id', 'account_id -> shop.cash_accounts.id',
	'event_id -> shop.events, no key', 'client_id -> shop.clients, no key', 'user_id -> ringfence_data.users, no key'],
	'two tables may be meant; a name that is a table''s own tells of a reference that no key can hold, but not if the table is another app''s');
SELECT results_eq($$SELECT f.severity, f.message, f.fix FROM pg_temp.findings() AS f WHERE f.object = 'shop.trips.account_id'$$,
	$$VALUES ('warning',
		'it is named for another table and has no foreign key, and which table is meant is not clear: shop.bonus_accounts, shop.cash_accounts',
		'-- Call ringfence.add_foreign_key() with the one that is meant, or ringfence.except_reference(''shop.trips'', ''account_id'', reason).')$$,
	'where several may be meant the message names them, and the fix is by hand');
SELECT results_eq($$SELECT r.parent, r.orphans, r.fix FROM ringfence.require_foreign_keys('shop.trips', required => false) AS r WHERE r.column_name = 'account_id'$$,
	$$VALUES
		('shop.bonus_accounts'::regclass, 0::bigint, 'SELECT ringfence.add_foreign_key(''shop.trips'', ''{account_id}'', ''shop.bonus_accounts'');'),
		('shop.cash_accounts', 0, 'SELECT ringfence.add_foreign_key(''shop.trips'', ''{account_id}'', ''shop.cash_accounts'');')$$,
	'require_foreign_keys() has a row for each, with the fix for it');
SELECT results_eq($$SELECT f.message, f.fix FROM pg_temp.findings() AS f WHERE f.object = 'shop.trips.client_id'$$,
	$$VALUES (
		'it is named for shop.clients, which has no unique key of its type, so that no foreign key can hold it',
		'-- Give the two one type and shop.clients a key, or call ringfence.except_reference(''shop.trips'', ''client_id'', reason).')$$,
	'a reference of another type than the key is found as well');
ALTER TABLE shop.trips ALTER client_id TYPE uuid USING NULL;
SELECT results_eq($$SELECT f.fix FROM pg_temp.findings() AS f WHERE f.object = 'shop.trips.client_id'$$,
	$$VALUES ('SELECT ringfence.add_foreign_key(''shop.trips'', ''{client_id}'', ''shop.clients'');')$$, 'and can be one once it has that type');
SELECT ringfence.except_reference('shop.trips', c, 'no such thing') FROM unnest(ARRAY['account_id', 'client_id', 'event_id', 'item_id', 'user_id']) AS c;
SELECT is_empty('SELECT f.object FROM pg_temp.findings() AS f', 'columns that are no references are no findings');

CREATE TABLE depot.trips (id uuid PRIMARY KEY, client_id uuid);
SELECT ringfence.protect('depot.trips');
SELECT results_eq($$SELECT * FROM pg_temp.missing('depot.trips')$$, ARRAY['client_id -> depot.clients.id'], 'another schema has its own table of the name');
DROP TABLE depot.clients;
SELECT results_eq($$SELECT * FROM pg_temp.missing('depot.trips')$$, ARRAY['client_id -> shop.clients.id'], 'or uses the one that others of no app have');
ALTER TABLE depot.trips RENAME client_id TO worker_id;
SELECT results_eq($$SELECT * FROM pg_temp.missing('depot.trips')$$, ARRAY['worker_id -> cleaning.workers.id'], 'or an app''s');
DROP TABLE depot.trips;

-- Other classes of rows, keys and columns.

ALTER TABLE cleaning.leads ADD COLUMN booking_id uuid, ADD COLUMN store_id uuid, ADD COLUMN user_id uuid;
SELECT set_eq($$SELECT * FROM pg_temp.missing('cleaning.leads')$$, ARRAY['booking_id -> cleaning.bookings.id', 'user_id -> ringfence_data.users.id'],
	'an app''s tables speak of its own and core''s, not of a DBA''s');
ALTER TABLE cleaning.leads DROP COLUMN booking_id, DROP COLUMN store_id, DROP COLUMN user_id;

CREATE TABLE shop.themes (user_id uuid PRIMARY KEY, client_id uuid, country_id text);
CREATE TABLE shop.regions (id text PRIMARY KEY, country_id text, client_id uuid);
CREATE TABLE shop.client_details (client_id uuid PRIMARY KEY, notes text);
CREATE TABLE shop.tickets (ticket_id uuid PRIMARY KEY, parent_ticket_id uuid);
CREATE TABLE shop.stubs (id uuid PRIMARY KEY, ticket_id uuid);
CREATE TABLE shop.parts (id uuid NOT NULL, client_id uuid, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE shop.parts_1 PARTITION OF shop.parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
ALTER TABLE shop.parts ADD PRIMARY KEY (id, at);
CREATE TABLE shop.totals (id uuid PRIMARY KEY, client_id uuid, item_id uuid GENERATED ALWAYS AS (NULL::uuid) STORED);
SELECT ringfence.protect(t) FROM unnest(ARRAY['shop.client_details', 'shop.tickets', 'shop.stubs', 'shop.parts', 'shop.totals']::regclass[]) AS t;
SELECT ringfence.protect('shop.themes', row_class => 'user'), ringfence.protect('shop.regions', row_class => 'reference');
SELECT set_eq($$SELECT format('%s: %s', t.rel, m) FROM unnest(ARRAY['shop.client_details', 'shop.tickets', 'shop.stubs', 'shop.parts',
		'shop.totals', 'shop.themes', 'shop.regions']::regclass[]) AS t (rel), pg_temp.missing(t.rel) AS m$$, ARRAY[
	'shop.themes: user_id -> ringfence_data.users.id', 'shop.themes: country_id -> shop.countries.id',
	'shop.regions: country_id -> shop.countries.id',
	'shop.client_details: client_id -> shop.clients.id',
	'shop.tickets: parent_ticket_id -> shop.tickets.ticket_id', 'shop.stubs: ticket_id -> shop.tickets.ticket_id',
	'shop.parts: client_id -> shop.clients.id',
	'shop.totals: client_id -> shop.clients.id', 'shop.totals: item_id -> shop.items.id'],
	'of tables that belong to no organization those that need none; a key that is a reference; keys of other names; partitioned tables, once; no key is a reference to itself');
SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f WHERE f.code = 'foreign_key_missing';
SELECT is_empty('SELECT f.code, f.object FROM pg_temp.findings() AS f', 'their fixes run and clear the findings');

-- What another foreign key covers.

CREATE TABLE shop.covered (id uuid PRIMARY KEY, visit_id uuid, client_id uuid, item_id uuid);
SELECT ringfence.protect('shop.covered');
ALTER TABLE shop.visits ADD UNIQUE (org_id, id, client_id);
ALTER TABLE shop.items ADD CONSTRAINT items_id_key UNIQUE (id);
ALTER TABLE shop.covered ADD FOREIGN KEY (org_id, visit_id, client_id) REFERENCES shop.visits (org_id, id, client_id) NOT VALID,
	ADD FOREIGN KEY (item_id) REFERENCES shop.items (id);
CREATE INDEX ON shop.covered (org_id, visit_id, client_id);
SELECT set_eq('SELECT f.code FROM pg_temp.findings() AS f', ARRAY['foreign_key_not_validated', 'foreign_key_without_org', 'unique_reveals_values'],
	'of a column in a key of several, in one that is not valid yet, in one without org_id: the findings of that key, and no other');
DROP TABLE shop.covered;
ALTER TABLE shop.items DROP CONSTRAINT items_id_key;

-- Records outlive what they speak of; a parent that nobody may lock can't be one.

SELECT is_empty($$SELECT * FROM pg_temp.missing('ringfence_data.audit_log')$$, 'records of the audit log reference nothing');
CREATE TABLE shop.receipts (id uuid PRIMARY KEY);
CREATE TABLE shop.prints (id uuid PRIMARY KEY, receipt_id uuid);
SELECT ringfence.protect('shop.receipts'), ringfence.protect('shop.prints');
SELECT results_eq($$SELECT * FROM pg_temp.missing('shop.prints')$$, ARRAY['receipt_id -> shop.receipts.id'], 'a parent');
REVOKE UPDATE ON shop.receipts FROM ringfence_owner;
SELECT is_empty($$SELECT * FROM pg_temp.missing('shop.prints')$$, 'whose owner may update no row can have no foreign key');
DROP TABLE shop.receipts, shop.prints;

-- Rows that go astray.

CREATE TABLE shop.places (id text COLLATE "C" PRIMARY KEY);
CREATE TABLE shop.stops (id uuid PRIMARY KEY, client_id uuid, place_id text, user_id uuid);
SELECT ringfence.protect('shop.places', '{"owner": "all"}'), ringfence.protect('shop.stops', '{"owner": "all"}');
INSERT INTO ringfence_data.users (id, email) VALUES (pg_temp.id('u'), 'u@example.test');
INSERT INTO shop.clients (org_id, id) VALUES
	(pg_temp.id('a'), pg_temp.id('of a')), (pg_temp.id('b'), pg_temp.id('of b')),
	(pg_temp.id('a'), pg_temp.id('of both')), (pg_temp.id('b'), pg_temp.id('of both'));
INSERT INTO shop.places (org_id, id) VALUES (pg_temp.id('a'), 'here'), (pg_temp.id('b'), 'there');
INSERT INTO shop.stops (org_id, id, client_id, place_id, user_id) VALUES
	(pg_temp.id('a'), pg_temp.id('1'), pg_temp.id('of a'), 'here', pg_temp.id('u')),
	(pg_temp.id('a'), pg_temp.id('2'), pg_temp.id('of both'), 'HERE', pg_temp.id('u')),
	(pg_temp.id('a'), pg_temp.id('3'), pg_temp.id('of b'), 'there', pg_temp.id('nobody')),
	(pg_temp.id('b'), pg_temp.id('4'), pg_temp.id('of a'), 'there', NULL),
	(pg_temp.id('b'), pg_temp.id('5'), pg_temp.id('of b'), NULL, NULL),
	(pg_temp.id('b'), pg_temp.id('6'), pg_temp.id('nobody'), '', NULL),
	(pg_temp.id('b'), pg_temp.id('7'), NULL, NULL, NULL);
SELECT results_eq($$SELECT r.column_name, r.parent, r.orphans, r.other_org FROM ringfence.require_foreign_keys('shop.stops', required => false) AS r$$,
	$$VALUES ('client_id'::name, 'shop.clients'::regclass, 1::bigint, 2::bigint), ('place_id', 'shop.places', 2, 1), ('user_id', 'ringfence_data.users', 1, 0)$$,
	'rows that reference nothing, and those that reference another organization''s row, are counted apart; a row that two organizations have is one''s own; NULL is no reference');
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY[
	'error shop.stops.client_id:  1 references no row at all, 2 one of another organization',
	'error shop.stops.place_id:  2 reference no row at all, 1 one of another organization',
	'error shop.stops.user_id:  1 references no row at all'], 'with such rows a finding is an error, and says how many');
SELECT set_eq($$SELECT p.key, p.problem FROM ringfence.foreign_key_problems('shop.stops', '{place_id}', 'shop.places') AS p$$,
	$$VALUES ('HERE', 'orphan'), ('', 'orphan'), ('there', 'other_org')$$, 'foreign_key_problems() lists them, of a column of another collation than the key too');
SELECT is(f.fix, 'SELECT ringfence.add_foreign_key(''shop.stops'', ''{client_id}'', ''shop.clients'', validate => false);',
	'the fix leaves those rows alone') FROM pg_temp.findings() AS f WHERE f.object = 'shop.stops.client_id';
SELECT lives_ok($$SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f$$, 'it runs');
SELECT set_eq($$SELECT f.severity, f.code, f.object FROM pg_temp.findings() AS f$$, $$VALUES
	('warning', 'foreign_key_not_validated', 'stops_org_id_client_id_fkey ON shop.stops'),
	('warning', 'foreign_key_not_validated', 'stops_org_id_place_id_fkey ON shop.stops'),
	('warning', 'foreign_key_not_validated', 'stops_user_id_fkey ON shop.stops')$$, 'and what is left is to validate the keys');
SELECT throws_ok($$UPDATE shop.stops SET client_id = pg_temp.id('of a') WHERE id = pg_temp.id('5')$$, '23503',
	'insert or update on table "stops" violates foreign key constraint "stops_org_id_client_id_fkey"', 'no row is added to them');
SELECT throws_ok($$SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f WHERE f.object LIKE 'stops_org_id_client%'$$, '23503',
	'insert or update on table "stops" violates foreign key constraint "stops_org_id_client_id_fkey"', 'they are in the way');
DELETE FROM shop.stops WHERE id IN (SELECT pg_temp.id(n) FROM unnest(ARRAY['2', '3', '4', '6']) AS n);
SAVEPOINT blind;
SET LOCAL ROLE ringfence_owner;
SELECT throws_ok($$SELECT ringfence.require_all_rows('shop.stops'); ALTER TABLE shop.stops VALIDATE CONSTRAINT stops_org_id_client_id_fkey;$$,
	'42501', 'permission denied to check all rows of table shop.stops', 'an owner who sees no row does not validate them');
ROLLBACK TO blind;
SELECT lives_ok($$SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f$$, 'once they are corrected the keys are validated');
SELECT is_empty('SELECT f.code, f.object FROM pg_temp.findings() AS f', 'and nothing is found');

-- A member can go on only where nothing holds them: an attack, with and without.

ALTER TABLE shop.stops ADD COLUMN shelf_id uuid;
INSERT INTO shop.shelves (org_id, id) VALUES (pg_temp.id('b'), pg_temp.id('shelf of b'));
SELECT set_config('test.shelf', pg_temp.id('shelf of b')::text, true);
GRANT USAGE ON SCHEMA shop TO ringfence_member;
SAVEPOINT attack;
SELECT ringfence.set_context(pg_temp.id('a'), roles => '{owner}');
SET LOCAL ROLE ringfence_member;
SELECT lives_ok('INSERT INTO shop.stops (id, shelf_id) VALUES (gen_random_uuid(), current_setting(''test.shelf'')::uuid)',
	'without a key a member references another organization''s row');
RESET ROLE;
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['error shop.stops.shelf_id:  0 reference no row at all, 1 one of another organization'],
	'which verify() tells whoever sees all rows');
ROLLBACK TO attack;
SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f;
SELECT ringfence.set_context(pg_temp.id('a'), roles => '{owner}');
SET LOCAL ROLE ringfence_member;
SELECT throws_ok('INSERT INTO shop.stops (id, shelf_id) VALUES (gen_random_uuid(), current_setting(''test.shelf'')::uuid)', '23503',
	'insert or update on table "stops" violates foreign key constraint "stops_org_id_shelf_id_fkey"', 'with it, not');
RESET ROLE;

-- Who counts.

ALTER TABLE shop.stops ADD COLUMN person_id uuid;
UPDATE shop.stops SET person_id = pg_temp.id('nobody') WHERE id = pg_temp.id('1');
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['error shop.stops.person_id:  1 references no row at all, 0 one of another organization'], 'a superuser');
CREATE ROLE regress_fk_dba;
CREATE ROLE regress_fk_auditor BYPASSRLS IN ROLE regress_fk_dba;
GRANT USAGE ON SCHEMA shop TO regress_fk_dba;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO regress_fk_dba', current_database()); END $$;
SET LOCAL ROLE regress_fk_dba;
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['warning shop.stops.person_id:  rows that violate that were not counted'],
	'to the database''s owner, who sees no row, the finding is the same without the count');
SELECT results_eq('SELECT r.column_name, r.orphans, r.other_org FROM ringfence.require_foreign_keys(''shop.stops'') AS r',
	'VALUES (''person_id''::name, NULL::bigint, NULL::bigint)', 'and so it is in require_foreign_keys()');
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['error shop.stops.person_id:  rows that violate that were not counted'], 'which is theirs to call');
SELECT lives_ok($$SELECT FROM ringfence.require_foreign_keys('shop.stops', '{"person_id": "a number of theirs"}', false)$$, 'with exemptions');
SELECT is_empty('SELECT * FROM pg_temp.found()', 'that count');
SELECT lives_ok($$SELECT ringfence.except_reference('shop.stops', 'person_id', NULL)$$, 'and to take them back');
SET LOCAL ROLE regress_fk_auditor;
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['warning shop.stops.person_id:  rows that violate that were not counted'],
	'nor does BYPASSRLS help without the right to read');
RESET ROLE;
GRANT SELECT ON shop.stops, shop.people TO regress_fk_auditor;
SET LOCAL ROLE regress_fk_auditor;
SET LOCAL row_security = on;
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['error shop.stops.person_id:  1 references no row at all, 0 one of another organization'], 'with it, it does');
RESET ROLE;
SELECT function_privs_are('ringfence', f.name, f.arguments::text[], r, ARRAY[]::text[], format('%s may not call %s()', r, f.name))
	FROM (VALUES ('require_foreign_keys', '{regclass,jsonb,boolean}'), ('except_reference', '{regclass,name,text}'),
		('reference_exemptions', '{}'), ('verify_catalogs', '{}'), ('missing_foreign_keys', '{regclass}')) AS f (name, arguments),
		unnest(ARRAY['ringfence_anon', 'ringfence_member', 'ringfence_operator', 'ringfence_authenticator']) AS r;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO postgres', current_database()); END $$;
REVOKE SELECT ON shop.stops, shop.people FROM regress_fk_auditor;

-- What is required, and what is excepted.

UPDATE shop.stops SET person_id = NULL;
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['warning shop.stops.person_id:  no row violates that yet'], 'where no row is wrong a finding is a warning');
SELECT results_eq('SELECT r.column_name::text COLLATE "default" FROM ringfence.require_foreign_keys(''shop.stops'') AS r', ARRAY['person_id'],
	'required, the keys that are missing are listed');
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['error shop.stops.person_id:  no row violates that yet'], 'and from then on errors');
SELECT ringfence.protect('shop.stops', '{"owner": "select"}');
SELECT ok(ringfence.foreign_keys_required('shop.stops'), 'protect() leaves that as it is');
SELECT is_empty($$SELECT * FROM ringfence.require_foreign_keys('shop.stops', '{"person_id": "a person''s number in the other''s system"}')$$, 'what is excepted is not listed');
SELECT is_empty('SELECT * FROM pg_temp.found()', 'and not found');
SELECT set_eq($$SELECT e.column_name, e.reason FROM ringfence.reference_exemptions() AS e WHERE e.relation = 'shop.stops'::regclass$$,
	$$VALUES ('person_id'::name, 'a person''s number in the other''s system')$$, 'the reason is kept');
SELECT is_empty('SELECT * FROM ringfence.require_foreign_keys(''shop.stops'')', 'a call that says nothing of columns leaves them');
ALTER TABLE shop.stops RENAME person_id TO shelving_person_id;
SELECT is_empty('SELECT * FROM pg_temp.found()', 'a column that is renamed stays excepted');
ALTER TABLE shop.stops ADD COLUMN staff_id uuid;
ALTER TABLE shop.stops ALTER COLUMN staff_id SET DEFAULT NULL;
SELECT is(f.fix, 'SELECT ringfence.add_foreign_key(''shop.stops'', ''{staff_id}'', ''shop.staff'');', 'a new column is found') FROM pg_temp.findings() AS f;
SELECT is_empty($$SELECT * FROM ringfence.require_foreign_keys('shop.stops', '{"staff_id": "a badge"}')$$, 'another one is excepted beside it');
SELECT ringfence.except_reference('shop.stops', 'staff_id', 'a badge''s number');
SELECT set_eq($$SELECT e.column_name, e.reason FROM ringfence.reference_exemptions() AS e WHERE e.relation = 'shop.stops'::regclass$$,
	$$VALUES ('shelving_person_id'::name, 'a person''s number in the other''s system'), ('staff_id', 'a badge''s number')$$, 'or for another reason');
SELECT results_eq($$SELECT r.column_name::text COLLATE "default" FROM ringfence.require_foreign_keys('shop.stops', '{"shelving_person_id": null}', false) AS r$$,
	ARRAY['shelving_person_id'], 'one is taken back');
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['warning shop.stops.shelving_person_id:  no row violates that yet'],
	'what is no longer required is a warning again');
SELECT is((SELECT l.new ->> 'reason' FROM ringfence_data.audit_log AS l
		INNER JOIN ringfence_data.audit_relations AS n ON n.id = l.relation_id
		WHERE n.name = 'ringfence_data.reference_exemptions' AND l.operation = 'UPDATE' AND l.new ? 'reason'), 'a badge''s number', 'all that is on record');
ALTER TABLE shop.stops DROP COLUMN staff_id;
SELECT is_empty($$SELECT FROM ringfence.reference_exemptions() AS e WHERE e.relation = 'shop.stops'::regclass$$, 'an exemption goes with its column');
SELECT ringfence.except_reference('shop.stops', 'shelving_person_id', 'none of ours');
ALTER EVENT TRIGGER ringfence_guard DISABLE;
ALTER TABLE shop.stops RENAME shelving_person_id TO carrying_person_id;
ALTER EVENT TRIGGER ringfence_guard ENABLE;
SELECT set_eq('SELECT f.severity, f.code, f.object FROM pg_temp.findings() AS f', $$VALUES
	('warning', 'exemption_stale', 'shop.stops.shelving_person_id'), ('warning', 'foreign_key_missing', 'shop.stops.carrying_person_id')$$,
	'an exemption of a column that was renamed past the event trigger is a finding');
SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f WHERE f.code = 'exemption_stale';
SELECT set_eq('SELECT f.code FROM pg_temp.findings() AS f', ARRAY['foreign_key_missing'], 'and its fix removes it');
CREATE TABLE shop.brief (id uuid PRIMARY KEY, client_id uuid);
SELECT ringfence.protect('shop.brief');
SELECT ringfence.except_reference('shop.brief', 'client_id', 'gone tomorrow');
DROP TABLE shop.brief;
SELECT is_empty('SELECT FROM ringfence.reference_exemptions() AS e WHERE e.reason = ''gone tomorrow''', 'exemptions go with their table');

SELECT throws_ok(f.call, f.code, f.message, f.about)
	FROM (VALUES
		('SELECT ringfence.require_foreign_keys(NULL)', '22004', 'table, exemptions and whether foreign keys are required must be given', 'NULL for the table'),
		('SELECT ringfence.require_foreign_keys(''shop.stops'', NULL)', '22004', 'table, exemptions and whether foreign keys are required must be given', 'NULL for exemptions'),
		('SELECT ringfence.require_foreign_keys(''shop.stops'', required => NULL)', '22004', 'table, exemptions and whether foreign keys are required must be given', 'NULL for whether'),
		('SELECT ringfence.require_foreign_keys(''shop.stops'', ''["client_id"]'')', '22023', 'invalid exemptions ["client_id"] of table shop.stops', 'exemptions without reasons'),
		('SELECT ringfence.require_foreign_keys(''shop.stops'', ''{"client_id": true}'')', '22023', 'invalid exemptions {"client_id": true} of table shop.stops', 'what is no reason'),
		('SELECT ringfence.require_foreign_keys(''shop.stops'', ''{"client_id": " "}'')', '22023', 'invalid reason for column "client_id" of table shop.stops', 'a reason that says nothing'),
		('SELECT ringfence.require_foreign_keys(''shop.stops'', ''{"nothing": "none"}'')', '42703', 'column "nothing" of table shop.stops does not exist', 'no such column'),
		('SELECT ringfence.require_foreign_keys(''shop.unguarded'')', '55000', 'table shop.unguarded is not protected', 'a table that is not protected'),
		('SELECT ringfence.except_reference(''shop.stops'', NULL, ''none'')', '22004', 'table and column must be given', 'NULL for the column'),
		('SELECT ringfence.except_reference(''shop.stops'', ''client_id'', repeat(''x'', 1001))', '22023', 'invalid reason for column "client_id" of table shop.stops', 'a reason without end')
	) AS f (call, code, message, about);

-- Large tables: verify() reads none of them, and the key is made in steps.

CREATE TABLE shop.readings (id bigint PRIMARY KEY, client_id uuid, user_id uuid, filling text) WITH (fillfactor = 10);
SELECT ringfence.protect('shop.readings');
SELECT ringfence.except_reference('shop.stops', 'carrying_person_id', 'none of ours');
SET LOCAL session_replication_role = replica;
INSERT INTO shop.readings (org_id, id, client_id, filling) SELECT pg_temp.id('a'), n, pg_temp.id('of b'), repeat('x', 200) FROM generate_series(1, 10000) AS n;
SET LOCAL session_replication_role = origin;
SELECT ok(ringfence.is_large('shop.readings'), 'a table of more than 16 MB');
SELECT results_eq('SELECT * FROM pg_temp.found()', ARRAY['warning shop.readings.client_id:  rows that violate that were not counted', 'warning shop.readings.user_id:  rows that violate that were not counted'],
	'is not read by verify()');
SELECT results_eq('SELECT f.fix FROM pg_temp.findings() AS f', ARRAY[
	'CREATE INDEX CONCURRENTLY ON shop.readings (org_id, client_id); SELECT ringfence.add_foreign_key(''shop.readings'', ''{client_id}'', ''shop.clients'', validate => false); SELECT ringfence.add_foreign_key(''shop.readings'', ''{client_id}'', ''shop.clients'');',
	'CREATE INDEX CONCURRENTLY ON shop.readings (user_id); ALTER TABLE shop.readings ADD CONSTRAINT readings_user_id_fkey FOREIGN KEY (user_id) REFERENCES ringfence_data.users (id) NOT VALID; SELECT ringfence.require_all_rows(''shop.readings''); ALTER TABLE shop.readings VALIDATE CONSTRAINT readings_user_id_fkey;'],
	'its fix is in statements of which none keeps writers out for long');
SELECT results_eq('SELECT r.orphans, r.other_org, r.fix FROM ringfence.require_foreign_keys(''shop.readings'', ''{"user_id": "none"}'') AS r', $$VALUES (0::bigint, 10000::bigint,
	'CREATE INDEX CONCURRENTLY ON shop.readings (org_id, client_id); SELECT ringfence.add_foreign_key(''shop.readings'', ''{client_id}'', ''shop.clients'', validate => false);')$$,
	'require_foreign_keys() reads all of it');
CREATE INDEX ON shop.readings (client_id, org_id);
SELECT unalike(f.fix, '%INDEX%', 'an index that is there is not asked for') FROM pg_temp.findings() AS f;
DROP INDEX shop.readings_client_id_org_id_idx;
CREATE INDEX ON shop.readings (org_id, client_id) WHERE client_id > '00000000-0000-0000-0000-000000000000';
SELECT alike(f.fix, '%INDEX%', 'unless it lacks rows') FROM pg_temp.findings() AS f;
CREATE INDEX readings_some ON shop.readings (org_id, client_id) WHERE client_id IS NOT NULL;
SELECT unalike(f.fix, '%INDEX%', 'but for those that reference nothing') FROM pg_temp.findings() AS f;
SELECT pg_temp.run('SELECT ringfence.add_foreign_key(''shop.readings'', ''{client_id}'', ''shop.clients'', validate => false)');
SELECT set_eq('SELECT f.code FROM pg_temp.findings() AS f', ARRAY['foreign_key_not_validated'], 'nor is there a finding about it');
DROP INDEX shop.readings_some;
SELECT set_eq('SELECT f.code FROM pg_temp.findings() AS f', ARRAY['foreign_key_index_missing', 'foreign_key_not_validated'], 'as there is without it');

CREATE TABLE shop.logs (id bigint NOT NULL, client_id uuid, user_id uuid, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.logs_1 PARTITION OF shop.logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
SELECT ringfence.protect('shop.logs');
INSERT INTO shop.logs (org_id, id, client_id, user_id, at) VALUES (pg_temp.id('a'), 1, pg_temp.id('of b'), pg_temp.id('nobody'), '2026-06-01');
SELECT results_eq($$SELECT f.object, f.severity, f.fix FROM pg_temp.findings() AS f WHERE f.object LIKE 'shop.logs%'$$, $$VALUES
	('shop.logs.client_id', 'error', '-- Correct the rows that it would refuse, then: SELECT ringfence.add_foreign_key(''shop.logs'', ''{client_id}'', ''shop.clients'');'),
	('shop.logs.user_id', 'error', '-- Correct the rows that it would refuse, then: CREATE INDEX ON shop.logs (user_id); SELECT ringfence.require_all_rows(''shop.logs''); ALTER TABLE shop.logs ADD FOREIGN KEY (user_id) REFERENCES ringfence_data.users (id);')$$,
	'rows of partitions are counted; a partitioned table''s key waits until they are corrected');
DELETE FROM shop.logs;
SELECT pg_temp.run(f.fix) FROM pg_temp.findings() AS f WHERE f.object LIKE 'shop.logs%';
SELECT is_empty($$SELECT f.code, f.object FROM pg_temp.findings() AS f WHERE f.object LIKE '%shop.logs%'$$, 'then its fix makes it');

-- Who plans a query of a table runs what its owner put into its indexes, so that a
-- superuser's verify() leaves the tables of others alone.
CREATE ROLE regress_trapper;
CREATE TABLE shop.traps (id uuid NOT NULL, user_id uuid);
SELECT ringfence.protect('shop.traps');
SELECT set_eq($$SELECT pg_temp.found('shop.traps.user_id')$$, ARRAY['warning shop.traps.user_id:  no row violates that yet'],
	'rows of ringfence_owner''s table are counted');
ALTER TABLE shop.traps OWNER TO regress_trapper;
SELECT set_eq($$SELECT pg_temp.found('shop.traps.user_id')$$, ARRAY['warning shop.traps.user_id:  rows that violate that were not counted'],
	'those of somebody else''s aren''t');
SELECT results_eq($$SELECT r.orphans FROM ringfence.require_foreign_keys('shop.traps') AS r$$, $$VALUES (NULL::bigint)$$,
	'nor where it is asked for');

SELECT * FROM finish();
ROLLBACK;
