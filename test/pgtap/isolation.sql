-- protect(), unprotect() and add_foreign_key(): what a table is afterwards, and
-- that no statement of a tenant gets past it. An attack that is refused is tried
-- again with the protection off, where it succeeds.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT plan(220);

-- From here on a user of the organization a, b or c with these roles and parties.
CREATE FUNCTION pg_temp.act_as(org text, roles text DEFAULT '{owner}', party jsonb DEFAULT '{}', usr text DEFAULT '1',
	role name DEFAULT 'ringfence_member') RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	PERFORM ringfence.set_context(pg_temp.id(org), pg_temp.id(usr), roles::text[], party);
	EXECUTE format('SET LOCAL ROLE %I', role);
END
$$;

CREATE FUNCTION pg_temp.id(name text) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN md5(name)::uuid;

-- SQLSTATE, message and detail of a statement's error, without the values in it.
CREATE FUNCTION pg_temp.error_of(statement text, VARIADIC hidden text[] DEFAULT '{}') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	code text;
	message text;
	detail text;
	value text;
BEGIN
	EXECUTE statement;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	message := concat_ws(' ', code, message, detail);
	FOREACH value IN ARRAY hidden LOOP
		message := replace(message, value, '...');
	END LOOP;
	RETURN message;
END
$$;

CREATE FUNCTION pg_temp.rows_of(statement text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	affected bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS affected = ROW_COUNT;
	RETURN affected;
END
$$;

-- The policies of a table: name, kind, command, roles, expressions.
CREATE FUNCTION pg_temp.policies(rel regclass) RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT format('%s %s %s %s %s', p.policyname, lower(p.permissive), lower(p.cmd), p.roles, coalesce(p.qual, p.with_check))
		FROM pg_policies AS p
		WHERE format('%I.%I', p.schemaname, p.tablename)::regclass = rel
		ORDER BY p.policyname
$$;

INSERT INTO ringfence_data.orgs (id, name)
SELECT pg_temp.id(o), 'Organization ' || o FROM unnest(ARRAY['a', 'b', 'c']) AS o;
CREATE SCHEMA shop;
SET LOCAL search_path = public, shop;

-- What protect() makes of a table.

CREATE TABLE shop.clients (id uuid PRIMARY KEY DEFAULT ringfence.uuid7(), name text NOT NULL, user_id uuid);
SELECT lives_ok($$SELECT ringfence.protect('shop.clients', '{"owner, admin": "all", "clerk": "select update", "client": "select where id is client"}')$$,
	'an ordinary table can be protected');

SELECT col_type_is('shop', 'clients', 'org_id', 'uuid', 'it has org_id uuid');
SELECT col_not_null('shop', 'clients', 'org_id', 'not null');
SELECT is((SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d INNER JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
		WHERE a.attrelid = 'shop.clients'::regclass AND a.attname = 'org_id'), 'ringfence.org_id()',
	'by default the organization of the context');
SELECT fk_ok('shop', 'clients', 'org_id', 'ringfence_data', 'orgs', 'id', 'which is an organization');
SELECT col_is_pk('shop', 'clients', ARRAY['org_id', 'id'], 'the primary key is led by org_id');
SELECT is((SELECT conname FROM pg_constraint WHERE conrelid = 'shop.clients'::regclass AND contype = 'p'), 'clients_pkey',
	'and kept its name');
SELECT table_owner_is('shop', 'clients', 'ringfence_owner', 'the table belongs to ringfence_owner');
SELECT results_eq($$SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'shop.clients'::regclass$$,
	'VALUES (true, true)', 'row security is enabled and forced');
SELECT results_eq($$SELECT pg_temp.policies('shop.clients')$$,
	$$VALUES
		('delete_for_owner_admin permissive delete {ringfence_member} ringfence.has_role(VARIADIC ARRAY[''owner''::text, ''admin''::text])'),
		('insert_for_owner_admin permissive insert {ringfence_member} ringfence.has_role(VARIADIC ARRAY[''owner''::text, ''admin''::text])'),
		('operator_read permissive select {ringfence_operator} ringfence.installed()'),
		('org_isolation restrictive all {public} (org_id = ringfence.org_id())'),
		('owner_code permissive all {ringfence_owner} ringfence.installed()'),
		('select_for_clerk_owner_admin permissive select {ringfence_member} ringfence.has_role(VARIADIC ARRAY[''clerk''::text, ''owner''::text, ''admin''::text])'),
		('select_for_client_own_id permissive select {ringfence_member} (ringfence.has_role(VARIADIC ARRAY[''client''::text]) AND (id = ringfence.party_id(''client''::text)))'),
		('update_for_clerk_owner_admin permissive update {ringfence_member} ringfence.has_role(VARIADIC ARRAY[''clerk''::text, ''owner''::text, ''admin''::text])')$$,
	'the policies say what the matrix says');
SELECT table_privs_are('shop', 'clients', 'ringfence_member', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], 'members hold the four commands');
SELECT table_privs_are('shop', 'clients', 'ringfence_operator', ARRAY['SELECT'], 'operators read');
SELECT table_privs_are('shop', 'clients', 'ringfence_anon', ARRAY[]::text[], 'anonymous callers hold nothing');
SELECT results_eq($$SELECT row_class, access FROM ringfence_data.tables WHERE relation = 'shop.clients'::regclass$$,
	$$VALUES ('org', '{"owner, admin": "all", "clerk": "select update", "client": "select where id is client"}'::jsonb)$$,
	'the table is registered with its matrix');

-- Rows of one's own organization, and no others.

SELECT pg_temp.act_as('a');
SELECT is(pg_temp.rows_of($$INSERT INTO clients (id, name) VALUES (pg_temp.id('client a'), 'secret of a')$$), 1::bigint, 'a row without org_id is written');
SELECT results_eq('SELECT org_id FROM clients', $$VALUES (pg_temp.id('a'))$$, 'and belongs to the organization of the context');
SELECT pg_temp.act_as('b');
SELECT is(pg_temp.rows_of($$INSERT INTO clients (id, name) VALUES (pg_temp.id('client b'), 'secret of b'), (pg_temp.id('client a'), 'same id as in a')$$),
	2::bigint, 'another organization may use the same id');
SELECT results_eq('SELECT name FROM clients ORDER BY name', $$VALUES ('same id as in a'), ('secret of b')$$, 'SELECT: one''s own rows only');
SELECT is(pg_temp.rows_of('UPDATE clients SET name = name'), 2::bigint, 'UPDATE: likewise');
SELECT is(pg_temp.rows_of($$UPDATE clients SET name = 'x' WHERE org_id = pg_temp.id('a')$$), 0::bigint, 'UPDATE of another organization''s rows finds none');
SELECT is(pg_temp.rows_of($$DELETE FROM clients WHERE org_id = pg_temp.id('a')$$), 0::bigint, 'nor does DELETE');
SELECT is(pg_temp.rows_of($$SELECT FROM clients WHERE org_id = pg_temp.id('a') FOR UPDATE$$), 0::bigint, 'nor does SELECT FOR UPDATE');
SELECT throws_ok($$INSERT INTO clients (org_id, name) VALUES (pg_temp.id('a'), 'planted')$$, '42501',
	'new row violates row-level security policy "org_isolation" for table "clients"', 'a row can''t be planted in another organization');
SELECT throws_ok($$UPDATE clients SET org_id = pg_temp.id('a')$$, '42501',
	'new row violates row-level security policy "org_isolation" for table "clients"', 'nor moved there');
SELECT throws_ok($$INSERT INTO clients (org_id, id, name) VALUES (pg_temp.id('a'), pg_temp.id('client a'), 'x') ON CONFLICT (org_id, id) DO UPDATE SET name = 'x'$$,
	'42501', 'new row violates row-level security policy "org_isolation" for table "clients"', 'nor written over there');
SELECT is(pg_temp.rows_of($$MERGE INTO clients AS c USING (VALUES (pg_temp.id('client a'))) AS v (id) ON c.id = v.id AND c.name LIKE 'secret%'
	WHEN MATCHED THEN UPDATE SET name = 'x'$$), 0::bigint, 'MERGE finds no other organization''s row');

SAVEPOINT bare;
RESET ROLE;
ALTER TABLE clients DISABLE ROW LEVEL SECURITY;
SELECT pg_temp.act_as('b');
SELECT is(pg_temp.rows_of($$UPDATE clients SET name = 'x' WHERE org_id = pg_temp.id('a')$$), 1::bigint, 'without row security UPDATE crosses');
SELECT is(pg_temp.rows_of($$INSERT INTO clients (org_id, name) VALUES (pg_temp.id('a'), 'planted')$$), 1::bigint, 'INSERT crosses');
SELECT is(pg_temp.rows_of('SELECT FROM clients'), 4::bigint, 'SELECT crosses');
SELECT is(pg_temp.rows_of($$DELETE FROM clients WHERE org_id = pg_temp.id('a')$$), 2::bigint, 'DELETE crosses');
ROLLBACK TO bare;

SELECT pg_temp.act_as(NULL);
SELECT is_empty('SELECT FROM clients', 'without an organization no row is seen');
SELECT throws_ok($$INSERT INTO clients (name) VALUES ('x')$$, '42501', NULL, 'nor written');
SELECT pg_temp.act_as('a', '{}');
SELECT is_empty('SELECT FROM clients', 'without a role no row is seen');
SELECT throws_ok($$INSERT INTO clients (name) VALUES ('x')$$, '42501', NULL, 'nor written');
SELECT pg_temp.act_as('a', '{clerk}');
SELECT is(pg_temp.rows_of('UPDATE clients SET name = name'), 1::bigint, 'a role does what its rule names');
SELECT is(pg_temp.rows_of('DELETE FROM clients'), 0::bigint, 'and no more');
SELECT throws_ok($$INSERT INTO clients (name) VALUES ('x')$$, '42501', 'new row violates row-level security policy for table "clients"', 'and no more');
SELECT pg_temp.act_as('a', role => 'ringfence_operator');
SELECT results_eq('SELECT name FROM clients', $$VALUES ('secret of a')$$, 'an operator reads the organization that was entered');
SELECT throws_ok('UPDATE clients SET name = name', '42501', 'permission denied for table clients', 'and writes nothing');
SELECT pg_temp.act_as('a', role => 'ringfence_anon');
SELECT throws_ok('SELECT FROM shop.clients', '42501', 'permission denied for schema shop', 'an anonymous caller gets nowhere');
RESET ROLE;

-- The grammar.

CREATE TABLE shop.workers (id uuid PRIMARY KEY, team_id uuid, user_id uuid);
CREATE TABLE shop.jobs (id uuid PRIMARY KEY, team_id uuid, client_id uuid, user_id uuid, note text);
SELECT ringfence.protect('shop.workers', '{"owner": "all", "worker": "select where id is worker"}');
SELECT ringfence.protect('shop.jobs', '{
	"owner": "all",
	"clerk": ["select", "update where user_id is user"],
	"client": "select   where  client_id  is  client",
	"worker": "select update where team_id matches shop.workers as worker",
	"*": "select where user_id is user"}');
SELECT results_eq(
	$$SELECT role, command, condition, own_column FROM ringfence.access_rules('shop.jobs', '{"a,b": "select delete", "*": ["all where user_id is user"]}')$$,
	$$VALUES
		('*', 'select', 'user_id = ringfence.user_id()', 'user_id'),
		('*', 'insert', 'user_id = ringfence.user_id()', 'user_id'),
		('*', 'update', 'user_id = ringfence.user_id()', 'user_id'),
		('*', 'delete', 'user_id = ringfence.user_id()', 'user_id'),
		('a', 'select', NULL, NULL), ('a', 'delete', NULL, NULL),
		('b', 'select', NULL, NULL), ('b', 'delete', NULL, NULL)$$,
	'a matrix as rows');
SELECT ringfence.set_context(pg_temp.id('a'));
INSERT INTO shop.workers (org_id, id, team_id) VALUES
	(pg_temp.id('a'), pg_temp.id('w1'), pg_temp.id('t1')), (pg_temp.id('a'), pg_temp.id('w2'), NULL),
	(pg_temp.id('b'), pg_temp.id('w3'), pg_temp.id('t2'));
INSERT INTO shop.jobs (org_id, id, team_id, client_id, user_id, note)
SELECT pg_temp.id(j.org), pg_temp.id(j.note), pg_temp.id(j.team), pg_temp.id(j.client), pg_temp.id(j.usr), j.note
FROM (VALUES
	('a', 't1', 'c1', 'u1', 'a1'), ('a', 't1', 'c2', 'u2', 'a2'), ('a', 't2', 'c1', 'u2', 'a3'), ('a', NULL, NULL, NULL, 'a4'),
	('b', 't1', 'c1', 'u1', 'b1'), ('b', 't2', 'c2', 'u2', 'b2')
) AS j (org, team, client, usr, note);

SELECT pg_temp.act_as('a');
SELECT results_eq('SELECT note FROM jobs ORDER BY 1', $$VALUES ('a1'), ('a2'), ('a3'), ('a4')$$, 'all: every row of the organization');
SELECT pg_temp.act_as('a', '{client}', jsonb_build_object('client', pg_temp.id('c1')), 'u9');
SELECT results_eq('SELECT note FROM jobs ORDER BY 1', $$VALUES ('a1'), ('a3')$$, 'is KIND: rows of that party');
SELECT is(pg_temp.rows_of('UPDATE jobs SET note = note'), 0::bigint, 'and only by the command named');
SELECT pg_temp.act_as('a', '{client}', '{}', 'u9');
SELECT is_empty('SELECT FROM jobs', 'is KIND: without that party no rows, not those where the column is NULL');
SELECT pg_temp.act_as('a', '{worker}', jsonb_build_object('client', pg_temp.id('c1')), 'u9');
SELECT is_empty('SELECT FROM jobs', 'is KIND: a party without the role is worth nothing');
SELECT pg_temp.act_as('a', '{worker}', jsonb_build_object('worker', pg_temp.id('w1')), 'u9');
SELECT results_eq('SELECT note FROM jobs ORDER BY 1', $$VALUES ('a1'), ('a2')$$, 'matches: rows that share the party''s value');
SELECT is(pg_temp.rows_of('UPDATE jobs SET note = note'), 2::bigint, 'matches: holds for the other command as well');
SELECT throws_ok($$UPDATE jobs SET team_id = pg_temp.id('t2')$$, '42501', 'new row violates row-level security policy for table "jobs"',
	'matches: a row can''t be moved out of it');
SELECT pg_temp.act_as('a', '{worker}', jsonb_build_object('worker', pg_temp.id('w2')), 'u9');
SELECT is_empty('SELECT FROM jobs', 'matches: NULL matches nothing');
SELECT pg_temp.act_as('a', '{worker}', jsonb_build_object('worker', pg_temp.id('w3')), 'u9');
SELECT is_empty('SELECT FROM jobs', 'matches: another organization''s worker is nobody here');
SELECT pg_temp.act_as('a', '{guest}', '{}', 'u2');
SELECT results_eq('SELECT note FROM jobs ORDER BY 1', $$VALUES ('a2'), ('a3')$$, '* and is user: every member, rows of their own');
SELECT pg_temp.act_as('a', '{clerk}', '{}', 'u1');
SELECT is(pg_temp.rows_of('SELECT FROM jobs'), 4::bigint, 'a list of rules: the first');
SELECT is(pg_temp.rows_of('UPDATE jobs SET note = note'), 1::bigint, 'a list of rules: the second');
RESET ROLE;

SELECT lives_ok($$SELECT ringfence.protect('shop.jobs', '{"a_b": "select where user_id is user", "a,b": "select where user_id is client"}')$$,
	'roles whose names run together');
SELECT results_eq($$SELECT polname FROM pg_policy WHERE polrelid = 'shop.jobs'::regclass AND polname LIKE 'select%' ORDER BY 1$$,
	$$VALUES ('select_for_a_b_own_user_id'::name), ('select_for_a_b_own_user_id_2')$$, 'do not keep their policies from being made');

-- Once more, and with another matrix.

SELECT ringfence.protect('shop.jobs', '{"owner": "all", "clerk": "select"}');
CREATE TEMPORARY TABLE before AS SELECT p FROM pg_temp.policies('shop.jobs') AS p;
CREATE POLICY mine ON shop.jobs AS RESTRICTIVE TO ringfence_member USING (note IS NOT NULL);
SELECT ringfence.protect('shop.jobs', '{"owner": "all", "clerk": "select"}');
SELECT results_eq($$SELECT p FROM pg_temp.policies('shop.jobs') AS p WHERE p NOT LIKE 'mine %'$$, 'SELECT p FROM before', 'the same call again changes nothing');
SELECT policies_are('shop', 'jobs', ARRAY['owner_code', 'org_isolation', 'operator_read', 'select_for_clerk_owner', 'insert_for_owner', 'update_for_owner', 'delete_for_owner', 'mine'],
	'a DBA''s own policy stays');
SELECT ringfence.protect('shop.jobs', '{"finance": "select"}');
SELECT policies_are('shop', 'jobs', ARRAY['owner_code', 'org_isolation', 'operator_read', 'select_for_finance', 'mine'],
	'another matrix leaves nothing of the first');
SELECT table_privs_are('shop', 'jobs', 'ringfence_member', ARRAY['SELECT'], 'and takes back its grants');
DROP POLICY mine ON shop.jobs;

-- The other row classes.

CREATE TABLE shop.preferences (user_id uuid PRIMARY KEY, theme text);
SELECT ringfence.protect('shop.preferences', '{"*": "all"}', 'user');
SELECT col_is_pk('shop', 'preferences', 'user_id', 'user: keys stay as they are');
SELECT pg_temp.act_as('a', '{}', '{}', 'u1');
SELECT is(pg_temp.rows_of($$INSERT INTO preferences VALUES (pg_temp.id('u1'), 'dark')$$), 1::bigint, 'user: a row of one''s own');
SELECT throws_ok($$INSERT INTO preferences VALUES (pg_temp.id('u2'), 'dark')$$, '42501',
	'new row violates row-level security policy "user_isolation" for table "preferences"', 'user: not one of another');
SELECT pg_temp.act_as('b', '{owner}', '{}', 'u2');
SELECT is_empty('SELECT FROM preferences', 'user: others do not see it');
SELECT pg_temp.act_as('b', '{}', '{}', 'u1');
SELECT results_eq('SELECT theme FROM preferences', $$VALUES ('dark')$$, 'user: oneself does, in whatever organization');
SELECT pg_temp.act_as('b', role => 'ringfence_operator');
SELECT throws_ok('SELECT FROM preferences', '42501', 'permission denied for table preferences', 'user: operators do not');
RESET ROLE;

CREATE TABLE shop.currencies (code text PRIMARY KEY);
INSERT INTO shop.currencies VALUES ('EUR');
SELECT ringfence.protect('shop.currencies', row_class => 'reference');
SELECT pg_temp.act_as('a', '{}');
SELECT results_eq('SELECT code FROM currencies', $$VALUES ('EUR')$$, 'reference: members read');
SELECT throws_ok($$INSERT INTO currencies VALUES ('XXX')$$, '42501', 'permission denied for table currencies', 'reference: and do not write');
SELECT pg_temp.act_as(NULL, role => 'ringfence_anon');
SELECT results_eq('SELECT code FROM currencies', $$VALUES ('EUR')$$, 'reference: anonymous callers read');
SELECT pg_temp.act_as(NULL, role => 'ringfence_operator');
SELECT is(pg_temp.rows_of($$INSERT INTO currencies VALUES ('CAD')$$), 1::bigint, 'reference: operators write');
RESET ROLE;
SELECT table_privs_are('shop', 'currencies', 'ringfence_member', ARRAY['SELECT'], 'reference: members hold SELECT');

CREATE TABLE shop.secrets (name text PRIMARY KEY);
SELECT ringfence.protect('shop.secrets', row_class => 'system');
SELECT pg_temp.act_as('a');
SELECT throws_ok('SELECT FROM secrets', '42501', 'permission denied for table secrets', 'system: members do not read');
SELECT pg_temp.act_as('a', role => 'ringfence_operator');
SELECT throws_ok('SELECT FROM secrets', '42501', 'permission denied for table secrets', 'system: nor do operators');
RESET ROLE;

-- Refusals of protect() and unprotect().

CREATE TABLE shop.plain (id uuid PRIMARY KEY, label text);
SELECT throws_ok(format('SELECT ringfence.protect(%L, %L)', 'shop.plain', m.access), m.code, m.message, m.about)
	FROM (VALUES
		('[]', '22023', 'access must be a JSON object', 'an array as matrix'),
		('{"": "all"}', '22023', 'invalid role "" in access of table shop.plain', 'no role'),
		('{"Owner": "all"}', '22023', 'invalid role "Owner" in access of table shop.plain', 'a role in upper case'),
		('{"owner,": "all"}', '22023', 'invalid role "" in access of table shop.plain', 'a comma too many'),
		('{"o''); DROP TABLE x; --": "all"}', '22023', 'invalid role "o''); DROP TABLE x; --" in access of table shop.plain', 'SQL for a role'),
		('{"owner": "everything"}', '22023', 'invalid rule "everything" in access of table shop.plain', 'no such command'),
		('{"owner": "truncate"}', '22023', 'invalid rule "truncate" in access of table shop.plain', 'a command that is never granted'),
		('{"owner": "select, insert"}', '22023', 'invalid rule "select, insert" in access of table shop.plain', 'commands with commas'),
		('{"owner": ""}', '22023', 'invalid rule "" in access of table shop.plain', 'no rule'),
		('{"owner": null}', '22023', 'invalid rule null in access of table shop.plain', 'null for a rule'),
		('{"owner": true}', '22023', 'invalid rule true in access of table shop.plain', 'a boolean for a rule'),
		('{"owner": {"select": true}}', '22023', 'invalid rule {"select": true} in access of table shop.plain', 'an object for a rule'),
		('{"owner": "select where"}', '22023', 'invalid rule "select where" in access of table shop.plain', 'no condition'),
		('{"owner": "select where true"}', '22023', 'invalid condition "true" in access of table shop.plain', 'SQL for a condition'),
		('{"owner": "select where id = 1 or true"}', '22023', 'invalid condition "id = 1 or true" in access of table shop.plain', 'more SQL for a condition'),
		('{"owner": "select where id is client) or (true"}', '22023', 'invalid condition "id is client) or (true" in access of table shop.plain', 'SQL behind a condition'),
		('{"owner": "select where id matches plain as client"}', '22023', 'invalid condition "id matches plain as client" in access of table shop.plain', 'a table without its schema'),
		('{"owner": "select where owner_id is user"}', '42703', 'column "owner_id" of table shop.plain does not exist', 'no such column'),
		('{"owner": "select where id matches shop.nothing as client"}', '42P01', 'relation "shop.nothing" does not exist', 'no such table'),
		('{"owner": "select where label is user"}', '42883', 'operator does not exist: text = uuid', 'a column that is no uuid')
	) AS m (access, code, message, about);
SELECT throws_ok($$SELECT ringfence.protect(NULL)$$, '22004', 'table, access, row class and columns must be given', 'NULL for a table');
SELECT throws_ok($$SELECT ringfence.protect('shop.plain', NULL)$$, '22004', 'table, access, row class and columns must be given', 'NULL for a matrix');
SELECT throws_ok($$SELECT ringfence.protect('shop.plain', row_class => 'tenant')$$, '22023', 'invalid row class "tenant"', 'no such row class');
SELECT throws_ok($$SELECT ringfence.protect('shop.plain', row_class => 'directory')$$, '22023', 'invalid row class "directory"', 'core''s own row class');
SELECT throws_ok($$SELECT ringfence.protect('shop.plain', owner => 'nobody')$$, '42704', 'role "nobody" does not exist', 'no such owner');
SELECT throws_ok($$SELECT ringfence.protect('cleaning_v1.bookings')$$, '42809', '"cleaning_v1.bookings" is not a table that can be protected', 'a view');
SELECT throws_ok($$SELECT ringfence.protect(1::oid::regclass)$$, '42809', '"1" is not a table that can be protected', 'no table at all');
CREATE TEMPORARY TABLE brief (id uuid PRIMARY KEY);
SELECT throws_ok($$SELECT ringfence.protect('brief')$$, '42809', NULL, 'a temporary table');
SELECT throws_ok($$SELECT ringfence.protect('ringfence_data.memberships')$$, '42809', 'table ringfence_data.memberships has policies of its own', 'a table that the context is read from');
SELECT throws_ok($$SELECT ringfence.unprotect('ringfence_data.orgs')$$, '42809', 'table ringfence_data.orgs has policies of its own', 'likewise for unprotect()');
INSERT INTO shop.plain VALUES (pg_temp.id('x'));
SELECT throws_ok($$SELECT ringfence.protect('shop.plain')$$, '55000', 'table shop.plain has rows and no column "org_id"', 'a table with rows');
CREATE TABLE shop.odd (id uuid PRIMARY KEY, org_id text);
SELECT throws_ok($$SELECT ringfence.protect('shop.odd')$$, '42804', 'column "org_id" of table shop.odd is not of type uuid', 'an org_id that is text');
CREATE TABLE shop.keyless (label text);
SELECT throws_ok($$SELECT ringfence.protect('shop.keyless')$$, '42P16', 'table shop.keyless has neither a primary key nor a column "id"', 'a table without a key');
SELECT ok(NOT EXISTS (SELECT FROM ringfence_data.tables WHERE relation IN ('shop.plain'::regclass, 'shop.odd', 'shop.keyless')),
	'what was refused is not registered');
SELECT is((SELECT count(*) FROM pg_policies WHERE schemaname = 'shop' AND tablename IN ('plain', 'odd', 'keyless')), 0::bigint, 'and has no policies');

SELECT pg_temp.act_as('a');
SELECT throws_ok(format('SELECT %s', f.call), '42501', NULL, 'a member may not call ' || f.call)
	FROM (VALUES ('ringfence.protect(''shop.plain'')'), ('ringfence.unprotect(''shop.clients'')'), ('ringfence.protect_schema(''shop'')'),
		('ringfence.unprotect_schema(''cleaning'')'), ('ringfence.register_table(''shop.clients'', NULL, NULL)'),
		('ringfence.create_policies(''shop.clients'', ''org'', ''{}'')'), ('ringfence.drop_policies(''shop.clients'')'),
		('ringfence.add_foreign_key(''shop.jobs'', ''{client_id}'', ''shop.clients'')')) AS f (call);
RESET ROLE;

SELECT ringfence.protect('shop.keyless', owner => 'postgres', row_class => 'system');
SELECT table_owner_is('shop', 'keyless', 'postgres', 'an owner can be chosen');
SELECT ringfence.protect('shop.keyless', owner => NULL, row_class => 'system');
SELECT table_owner_is('shop', 'keyless', 'postgres', 'or kept');
SELECT lives_ok($$SELECT ringfence.unprotect('shop.keyless')$$, 'unprotect()');
SELECT results_eq($$SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'shop.keyless'::regclass$$, 'VALUES (false, false)', 'takes row security off');
SELECT policies_are('shop', 'keyless', ARRAY[]::name[], 'drops the policies');
SELECT ok(ringfence.row_class('shop.keyless') IS NULL, 'forgets the table');
SAVEPOINT unprotected;
SELECT ringfence.unprotect('shop.clients');
SELECT table_privs_are('shop', 'clients', 'ringfence_member', ARRAY[]::text[], 'and takes the grants back with it');
SELECT is((SELECT count(*) FROM shop.clients), 3::bigint, 'while the rows stay');
ROLLBACK TO unprotected;

-- Keys.

CREATE TABLE shop.numbered (id bigint GENERATED ALWAYS AS IDENTITY, label text);
SELECT ringfence.protect('shop.numbered');
SELECT col_is_pk('shop', 'numbered', ARRAY['org_id', 'id'], 'a table without a primary key gets one on id');
CREATE TABLE shop.pairs (a text, b text, PRIMARY KEY (a, b));
SELECT ringfence.protect('shop.pairs');
SELECT col_is_pk('shop', 'pairs', ARRAY['org_id', 'a', 'b'], 'a key of two columns keeps both');
CREATE TABLE shop.ready (org_id uuid, id uuid, PRIMARY KEY (org_id, id));
SELECT ringfence.protect('shop.ready');
SELECT col_is_pk('shop', 'ready', ARRAY['org_id', 'id'], 'a key that is right stays');
SELECT fk_ok('shop', 'ready', 'org_id', 'ringfence_data', 'orgs', 'id', 'and what is missing is added');
CREATE TABLE shop.trailing (id uuid, org_id uuid, PRIMARY KEY (id, org_id));
SELECT ringfence.protect('shop.trailing');
SELECT col_is_pk('shop', 'trailing', ARRAY['org_id', 'id'], 'org_id moves to the front');
CREATE TABLE shop.referenced (id uuid PRIMARY KEY);
CREATE TABLE shop.referencing (id uuid PRIMARY KEY, referenced_id uuid REFERENCES shop.referenced);
SELECT ringfence.protect('shop.referenced');
SELECT col_is_pk('shop', 'referenced', 'id', 'a primary key that is referenced stays');
SELECT col_is_unique('shop', 'referenced', ARRAY['org_id', 'id'], 'and has the composite one beside it');
SELECT ringfence.protect('shop.referenced');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'shop.referenced'::regclass), 2::bigint, 'once');

-- Partitions.

CREATE TABLE shop.events (org_id uuid NOT NULL, id uuid, at date, label text, PRIMARY KEY (org_id, id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (at);
CREATE TABLE shop.events_2026_rest PARTITION OF shop.events_2026 DEFAULT;
GRANT SELECT ON shop.events_2026_rest TO ringfence_member, PUBLIC;
SELECT ringfence.protect('shop.events', '{"owner": "all"}');
SELECT throws_ok($$SELECT ringfence.protect('shop.events_2026')$$, '42809', 'table shop.events_2026 is a partition', 'a partition is not protected by itself');
SELECT pg_temp.act_as('a');
SELECT is(pg_temp.rows_of($$INSERT INTO events (id, at, label) VALUES (pg_temp.id('x'), '2026-05-05', 'of a')$$), 1::bigint, 'rows go through the parent');
SELECT pg_temp.act_as('b');
SELECT is_empty('SELECT FROM events', 'where other organizations do not see them');
SELECT throws_ok('SELECT FROM events_2026_rest', '42501', 'permission denied for table events_2026_rest', 'a partition can''t be read by name');
SELECT throws_ok('SELECT FROM events_2026', '42501', 'permission denied for table events_2026', 'nor can one that has partitions itself');
RESET ROLE;
SAVEPOINT granted;
GRANT SELECT ON shop.events_2026_rest TO ringfence_member;
SELECT pg_temp.act_as('b');
SELECT is_empty('SELECT FROM events_2026_rest', 'even if it were granted it would show nothing');
RESET ROLE;
ALTER TABLE shop.events_2026_rest DISABLE ROW LEVEL SECURITY;
SELECT pg_temp.act_as('b');
SELECT results_eq('SELECT label FROM events_2026_rest', $$VALUES ('of a')$$, 'without row security of its own it does');
ROLLBACK TO granted;
SELECT pg_temp.act_as('a');
SELECT results_eq('SELECT label FROM events', $$VALUES ('of a')$$, 'the parent''s policies suffice for the parent');
RESET ROLE;

-- What row security does not cover is not granted.

SELECT pg_temp.act_as('a');
SELECT throws_ok('TRUNCATE clients', '42501', 'permission denied for table clients', 'TRUNCATE is refused');
RESET ROLE;
SAVEPOINT truncating;
GRANT TRUNCATE ON shop.clients TO ringfence_member;
SELECT pg_temp.act_as('a');
SELECT lives_ok('TRUNCATE clients', 'were it granted, it would be done');
RESET ROLE;
SELECT is_empty('SELECT FROM shop.clients', 'to every organization');
ROLLBACK TO truncating;
CREATE SCHEMA lab;
GRANT CREATE, USAGE ON SCHEMA lab TO ringfence_member;
SELECT pg_temp.act_as('a');
SELECT throws_ok('CREATE TABLE lab.probe (org_id uuid, id uuid, FOREIGN KEY (org_id, id) REFERENCES clients)', '42501',
	'permission denied for table clients', 'REFERENCES is refused, even to who may make tables');
SELECT throws_ok('CREATE TRIGGER t BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', '42501',
	'permission denied for table clients', 'so is a trigger');
SELECT throws_ok('ALTER TABLE clients DISABLE ROW LEVEL SECURITY', '42501', 'must be owner of table clients', 'so is taking row security off');
SELECT throws_ok('CREATE POLICY p ON clients USING (true)', '42501', 'must be owner of table clients', 'so is a policy');
RESET ROLE;
SAVEPOINT referencing;
GRANT REFERENCES ON shop.clients TO ringfence_member;
SELECT pg_temp.act_as('a');
SELECT lives_ok('CREATE TABLE lab.probe (org_id uuid, id uuid, FOREIGN KEY (org_id, id) REFERENCES clients)', 'were REFERENCES granted');
SELECT is(pg_temp.error_of($$INSERT INTO lab.probe VALUES (pg_temp.id('b'), pg_temp.id('client b'))$$), NULL, 'a foreign key would tell of a row there is');
SELECT alike(pg_temp.error_of($$INSERT INTO lab.probe VALUES (pg_temp.id('b'), pg_temp.id('client z'))$$), '23503%', 'from one there is not');
ROLLBACK TO referencing;

-- Code with other rights.

CREATE FUNCTION lab.all_clients() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'SELECT name FROM shop.clients ORDER BY 1';
GRANT USAGE ON SCHEMA lab TO ringfence_owner;
SAVEPOINT definer;
SELECT pg_temp.act_as('a');
SELECT is((SELECT count(*) FROM lab.all_clients()), 3::bigint, 'a superuser''s SECURITY DEFINER function crosses');
RESET ROLE;
ALTER FUNCTION lab.all_clients() OWNER TO ringfence_owner;
SELECT pg_temp.act_as('a');
SELECT results_eq('SELECT lab.all_clients()', $$VALUES ('secret of a')$$, 'one of ringfence_owner, who owns the table, does not');
RESET ROLE;
ALTER TABLE shop.clients NO FORCE ROW LEVEL SECURITY;
SELECT pg_temp.act_as('a');
SELECT is((SELECT count(*) FROM lab.all_clients()), 3::bigint, 'unless row security is not forced');
ROLLBACK TO definer;

CREATE VIEW lab.view_of_clients AS SELECT name FROM shop.clients;
ALTER VIEW lab.view_of_clients OWNER TO ringfence_owner;
GRANT SELECT ON lab.view_of_clients TO ringfence_member;
SELECT pg_temp.act_as('a', '{}');
SELECT results_eq('SELECT name FROM lab.view_of_clients', $$VALUES ('secret of a')$$,
	'a view of ringfence_owner that is not security_invoker does not cross, though it forgets the roles');
RESET ROLE;

SAVEPOINT careless;
CREATE POLICY everything ON shop.clients TO PUBLIC USING (true) WITH CHECK (true);
GRANT ALL ON shop.clients TO PUBLIC;
SELECT pg_temp.act_as('a', '{}');
SELECT results_eq('SELECT name FROM clients', $$VALUES ('secret of a')$$, 'a careless permissive policy opens the organization''s own rows');
SELECT is(pg_temp.rows_of($$UPDATE clients SET name = 'x' WHERE org_id = pg_temp.id('b')$$), 0::bigint, 'and no other''s');
SELECT throws_ok($$INSERT INTO clients (org_id, name) VALUES (pg_temp.id('b'), 'x')$$, '42501', NULL, 'for no command');
RESET ROLE;
DROP POLICY org_isolation ON shop.clients;
SELECT pg_temp.act_as('a', '{}');
SELECT is(pg_temp.rows_of('SELECT FROM clients'), 3::bigint, 'without the restrictive policy it opens all');
ROLLBACK TO careless;

-- Probing through errors.

ALTER TABLE shop.clients ADD COLUMN code text, ADD CONSTRAINT clients_code_key UNIQUE (org_id, code);
SELECT ringfence.protect('shop.jobs', '{"owner": "all"}');
SELECT pg_temp.act_as('a');
UPDATE clients SET code = 'C-1';
SELECT pg_temp.act_as('b');
SELECT is(pg_temp.error_of($$INSERT INTO clients (name, code) VALUES ('probe', 'C-1')$$), NULL, 'a value that another organization has is free');
SELECT is(pg_temp.rows_of($$INSERT INTO clients (name, code) VALUES ('probe', 'C-1') ON CONFLICT (org_id, code) DO NOTHING$$), 0::bigint,
	'until one has it oneself');
RESET ROLE;
SAVEPOINT probing;
DELETE FROM shop.clients WHERE name = 'probe';
ALTER TABLE shop.clients ADD UNIQUE (code);
SELECT pg_temp.act_as('b');
SELECT alike(pg_temp.error_of($$INSERT INTO clients (name, code) VALUES ('probe', 'C-1')$$), '23505%', 'a unique key without org_id tells who has it');
ROLLBACK TO probing;

SELECT ringfence.add_foreign_key('shop.jobs', '{client_id}', 'shop.clients', validate => false);
SELECT pg_temp.act_as('a');
SELECT is(pg_temp.error_of($$INSERT INTO jobs (id, client_id) VALUES (pg_temp.id('j1'), pg_temp.id('client a'))$$), NULL, 'a row of one''s own can be referenced');
SELECT is(pg_temp.error_of($$INSERT INTO jobs (id, client_id) VALUES (pg_temp.id('j2'), pg_temp.id('client b'))$$, pg_temp.id('client b')::text),
	pg_temp.error_of($$INSERT INTO jobs (id, client_id) VALUES (pg_temp.id('j2'), pg_temp.id('client z'))$$, pg_temp.id('client z')::text),
	'another organization''s row answers like one that does not exist');
SELECT alike(pg_temp.error_of($$INSERT INTO jobs (id, client_id) VALUES (pg_temp.id('j2'), pg_temp.id('client b'))$$),
	'23503 insert or update on table "jobs" violates foreign key constraint%', 'with a refusal');
SELECT alike(pg_temp.error_of($$UPDATE jobs SET client_id = pg_temp.id('client b') WHERE id = pg_temp.id('j1')$$), '23503%', 'UPDATE likewise');
RESET ROLE;
SAVEPOINT single;
ALTER TABLE shop.jobs DROP CONSTRAINT jobs_org_id_client_id_fkey;
DELETE FROM shop.clients WHERE name = 'same id as in a';
ALTER TABLE shop.clients ADD UNIQUE (id);
ALTER TABLE shop.jobs ADD FOREIGN KEY (client_id) REFERENCES shop.clients (id) NOT VALID;
SELECT pg_temp.act_as('a');
SELECT is(pg_temp.error_of($$INSERT INTO jobs (id, client_id) VALUES (pg_temp.id('j2'), pg_temp.id('client b'))$$), NULL,
	'a foreign key without org_id lets another organization''s row be referenced');
SELECT alike(pg_temp.error_of($$INSERT INTO jobs (id, client_id) VALUES (pg_temp.id('j3'), pg_temp.id('client z'))$$), '23503%',
	'and tells it from one that does not exist');
ROLLBACK TO single;

-- Leaky functions.

CREATE FUNCTION lab.leak(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001
AS $$ BEGIN PERFORM set_config('test.leaked', current_setting('test.leaked') || value || ';', true); RETURN true; END $$;
SELECT set_config('test.leaked', '', true);
SELECT pg_temp.act_as('a');
SELECT is(pg_temp.rows_of('SELECT FROM clients WHERE lab.leak(name)'), 1::bigint, 'a cheap function that tells what it is called with');
SELECT is(current_setting('test.leaked'), 'secret of a;', 'is called with one''s own rows only');
SELECT is(pg_temp.error_of($$SELECT FROM clients WHERE 1 / (CASE name WHEN 'secret of b' THEN 0 ELSE 1 END) = 1$$), NULL,
	'nor does an error tell what others have');
SELECT is(pg_temp.error_of($$SELECT FROM clients WHERE name::xml IS DOCUMENT AND org_id = pg_temp.id('b')$$), NULL, 'whatever the condition beside it');
RESET ROLE;
SAVEPOINT leaking;
ALTER TABLE shop.clients DISABLE ROW LEVEL SECURITY;
SELECT set_config('test.leaked', '', true);
SELECT pg_temp.act_as('a');
SELECT is(pg_temp.error_of($$SELECT FROM clients WHERE 1 / (CASE name WHEN 'secret of b' THEN 0 ELSE 1 END) = 1$$), '22012 division by zero ',
	'without row security the error tells');
SELECT is(pg_temp.rows_of('SELECT FROM clients WHERE lab.leak(name) AND org_id = ringfence.org_id()'), 1::bigint, 'and the function');
SELECT alike(current_setting('test.leaked'), '%secret of b%', 'is called with others'' rows');
ROLLBACK TO leaking;

-- Plans.

INSERT INTO shop.numbered (org_id, label)
SELECT pg_temp.id((ARRAY['a', 'b', 'c'])[1 + n % 3]), 'label ' || n FROM generate_series(1, 30000) AS n;
ALTER TABLE shop.numbered DROP CONSTRAINT numbered_pkey, ADD PRIMARY KEY (org_id, id);
ANALYZE shop.numbered;
SELECT ringfence.protect('shop.numbered', '{"owner": "all"}');
CREATE FUNCTION pg_temp.plan_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	lines text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
		lines := lines || line || E'\n';
	END LOOP;
	RETURN lines;
END
$$;
SELECT pg_temp.act_as('a');
SELECT alike(pg_temp.plan_of('SELECT label FROM numbered WHERE id = 7'), '%Index Cond: ((org_id = ringfence.org_id()) AND (id = 7))%',
	'the policy is an index condition together with the query''s');
SELECT alike(pg_temp.plan_of('SELECT label FROM numbered ORDER BY id LIMIT 10'), '%Index Cond: (org_id = ringfence.org_id())%', 'and by itself');

PREPARE labels (bigint) AS SELECT count(*), min(org_id::text), max(org_id::text) FROM shop.numbered WHERE id > $1;
SET LOCAL plan_cache_mode = force_generic_plan;
SELECT pg_temp.act_as('a');
SELECT results_eq('EXECUTE labels (0)', $$VALUES (10000::bigint, pg_temp.id('a')::text, pg_temp.id('a')::text)$$, 'a prepared statement');
SELECT pg_temp.act_as('b');
SELECT results_eq('EXECUTE labels (0)', $$VALUES (10000::bigint, pg_temp.id('b')::text, pg_temp.id('b')::text)$$, 'keeps its plan for another organization, not its rows');
SELECT pg_temp.act_as(NULL);
SELECT results_eq('EXECUTE labels (0)', 'VALUES (0::bigint, NULL::text, NULL::text)', 'and has none without one');
SELECT pg_temp.act_as('b', '{}');
SELECT results_eq('EXECUTE labels (0)', 'VALUES (0::bigint, NULL::text, NULL::text)', 'or without a role');
RESET ROLE;
SELECT is((SELECT generic_plans FROM pg_prepared_statements WHERE name = 'labels') >= 4, true, 'it was the generic plan');
SELECT results_eq('EXECUTE labels (0)', $$VALUES (30000::bigint, (SELECT min(pg_temp.id(o)::text) FROM unnest(ARRAY['a','b','c']) AS o), (SELECT max(pg_temp.id(o)::text) FROM unnest(ARRAY['a','b','c']) AS o))$$,
	'a superuser, whom no policy binds, gets a plan of its own');
SET LOCAL plan_cache_mode = auto;

-- Foreign keys.

CREATE TABLE shop.parents (id uuid, code text, PRIMARY KEY (id));
CREATE TABLE shop.children (id uuid PRIMARY KEY, parent_id uuid, parent_code text, mandatory_id uuid NOT NULL, odd text);
CREATE TABLE shop.outside (id uuid PRIMARY KEY);
SELECT throws_ok($$SELECT ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents')$$, '55000', 'table shop.children is not protected', 'a child that is not protected');
SELECT ringfence.protect('shop.parents', '{"owner": "all"}');
SELECT ringfence.protect('shop.children', '{"owner": "all"}');
SELECT throws_ok(format('SELECT ringfence.add_foreign_key(%s)', f.arguments), f.code, f.message, f.about)
	FROM (VALUES
		($$NULL, '{parent_id}', 'shop.parents'$$, '22004', 'child, columns and parent must be given', 'NULL for the child'),
		($$'shop.children', NULL, 'shop.parents'$$, '22004', 'child, columns and parent must be given', 'NULL for the columns'),
		($$'shop.children', '{parent_id}', NULL$$, '22004', 'child, columns and parent must be given', 'NULL for the parent'),
		($$'shop.children', '{parent_id}', 'shop.parents', NULL$$, '22004', 'on_delete and validate must be given', 'NULL for the action'),
		($$'shop.children', '{}', 'shop.parents'$$, '22023', 'invalid columns {} of a foreign key', 'no columns'),
		($$'shop.children', '{NULL}', 'shop.parents'$$, '22023', 'invalid columns {NULL} of a foreign key', 'NULL for a column'),
		($$'shop.children', '{org_id,parent_id}', 'shop.parents'$$, '22023', 'invalid columns {org_id,parent_id} of a foreign key', 'org_id among the columns'),
		($$'shop.children', '{parent_id,parent_id}', 'shop.parents'$$, '22023', 'invalid columns {parent_id,parent_id} of a foreign key', 'a column twice'),
		($$'shop.children', '{parent_id}', 'shop.outside'$$, '55000', 'table shop.outside is not protected', 'a parent that is not protected'),
		($$'shop.children', '{parent_code}', 'shop.currencies'$$, '42809', 'rows of table shop.currencies do not belong to an organization', 'a reference table for a parent'),
		($$'shop.children', '{nothing}', 'shop.parents'$$, '42703', 'column "nothing" of table shop.children does not exist', 'no such column'),
		($$'shop.children', '{parent_code}', 'shop.parents'$$, '42804', 'columns {parent_code} of table shop.children are not of the types of the key of table shop.parents', 'another type'),
		($$'shop.children', '{parent_id,parent_code}', 'shop.parents'$$, '42830', 'table shop.parents has no unique key of org_id and 2 columns more', 'more columns than any key has'),
		($$'shop.children', '{parent_id}', 'shop.parents', 'DROP'$$, '22023', 'invalid ON DELETE action "DROP"', 'no such action'),
		($$'shop.children', '{mandatory_id}', 'shop.parents', 'SET NULL'$$, '22023', 'columns {mandatory_id} of table shop.children cannot be set to NULL', 'SET NULL of what can''t be NULL')
	) AS f (arguments, code, message, about);

INSERT INTO shop.parents (org_id, id, code) VALUES (pg_temp.id('a'), pg_temp.id('p1'), 'one'), (pg_temp.id('b'), pg_temp.id('p2'), 'two');
INSERT INTO shop.children (org_id, id, parent_id, mandatory_id) VALUES
	(pg_temp.id('a'), pg_temp.id('k1'), pg_temp.id('p1'), pg_temp.id('p1')),
	(pg_temp.id('a'), pg_temp.id('k2'), pg_temp.id('p2'), pg_temp.id('p1')),
	(pg_temp.id('b'), pg_temp.id('k3'), pg_temp.id('p9'), pg_temp.id('p2')),
	(pg_temp.id('b'), pg_temp.id('k4'), NULL, pg_temp.id('p2'));
SELECT set_eq($$SELECT * FROM ringfence.foreign_key_problems('shop.children', '{parent_id}', 'shop.parents')$$,
	$$VALUES (pg_temp.id('a'), pg_temp.id('p2')::text, 'other_org'), (pg_temp.id('b'), pg_temp.id('p9')::text, 'orphan')$$,
	'foreign_key_problems() lists what would violate a foreign key');
SELECT is(pg_temp.error_of($$SELECT ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents')$$),
	'23503 table shop.children has rows that do not reference a row of their own organization in table shop.parents '
	|| '1 reference no row at all, 1 one of another organization. They are: '
	|| (SELECT string_agg(format('%s (%s, %s)', p.key, p.org_id, p.problem), '; ' ORDER BY p.org_id, p.key)
		FROM ringfence.foreign_key_problems('shop.children', '{parent_id}', 'shop.parents') AS p) || '.',
	'add_foreign_key() refuses with them in its detail');
SELECT pg_temp.act_as(NULL, role => 'ringfence_owner');
SELECT throws_matching($$SELECT ringfence.foreign_key_problems('shop.children', '{parent_id}', 'shop.parents')$$,
	'query would be affected by row-level security policy', 'who does not see every row is told so');
SELECT throws_ok($$SELECT ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents')$$, '42501',
	'permission denied to check all rows of table shop.children', 'and can''t validate');
SELECT lives_ok('ALTER TABLE shop.children ADD CONSTRAINT blind FOREIGN KEY (org_id, parent_id) REFERENCES shop.parents (org_id, id)',
	'(PostgreSQL itself would find nothing wrong: the table''s owner sees no row)');
RESET ROLE;
ALTER TABLE shop.children DROP CONSTRAINT blind;
SELECT is(ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents', 'set null', false), 'children_org_id_parent_id_fkey',
	'without validation it is made for the rows to come');
SELECT is((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'children_org_id_parent_id_fkey'),
	'FOREIGN KEY (org_id, parent_id) REFERENCES parents(org_id, id) ON DELETE SET NULL (parent_id) NOT VALID', 'SET NULL spares org_id');
SELECT has_index('shop', 'children', 'children_org_id_parent_id_idx', ARRAY['org_id', 'parent_id'], 'it has an index');
SELECT alike(pg_temp.error_of($$SELECT ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents', 'SET NULL')$$), '23503%',
	'a second call validates, and finds the problems');
SELECT throws_ok($$SELECT ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents', 'CASCADE')$$, '42710',
	'foreign key "children_org_id_parent_id_fkey" of table shop.children exists with another ON DELETE action', 'another action replaces nothing');
DELETE FROM shop.children WHERE parent_id IN (pg_temp.id('p2'), pg_temp.id('p9'));
SELECT is(ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents', ' Set  Null '), 'children_org_id_parent_id_fkey', 'corrected, it validates');
SELECT ok((SELECT convalidated FROM pg_constraint WHERE conname = 'children_org_id_parent_id_fkey'), 'and is valid');
SELECT is(ringfence.add_foreign_key('shop.children', '{parent_id}', 'shop.parents', 'SET NULL'), 'children_org_id_parent_id_fkey', 'once more changes nothing');
SELECT is((SELECT count(*) FROM pg_constraint WHERE conrelid = 'shop.children'::regclass AND contype = 'f'), 2::bigint, 'there is one, and that of org_id');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'shop.children'::regclass), 2::bigint, 'one index, and that of the primary key');
SELECT pg_temp.act_as('a');
SELECT is(pg_temp.rows_of($$DELETE FROM parents$$), 1::bigint, 'a parent is deleted');
SELECT results_eq('SELECT org_id, parent_id FROM children', $$VALUES (pg_temp.id('a'), NULL::uuid)$$, 'the child''s reference is NULL, its org_id is not');
RESET ROLE;
ALTER TABLE shop.parents ADD UNIQUE (org_id, code), ADD UNIQUE (org_id, id, code);
SELECT is(ringfence.add_foreign_key('shop.children', '{parent_code}', 'shop.parents'), 'children_org_id_parent_code_fkey', 'the key is found by its type');
SELECT is(ringfence.add_foreign_key('shop.children', '{parent_id, parent_code}', 'shop.parents', 'CASCADE'), 'children_org_id_parent_id_parent_code_fkey', 'or by its number of columns');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'shop.children'::regclass), 4::bigint, 'each has its index');
ALTER TABLE shop.events ADD COLUMN parent_id uuid;
SELECT lives_ok($$SELECT ringfence.add_foreign_key('shop.events', '{parent_id}', 'shop.parents')$$, 'a partitioned table can have one');
SELECT throws_ok($$SELECT ringfence.add_foreign_key('shop.events', '{id}', 'shop.parents', validate => false)$$, '0A000',
	'the foreign key of a partitioned table must be validated', 'which must be validated');

SELECT * FROM finish();
ROLLBACK;
