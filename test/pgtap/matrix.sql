-- The isolation matrix: prove() finds no leak in the demo database and in
-- tables of every make, and names each one that a protection taken away opens.
BEGIN;
SELECT plan(48);

-- What leaks in these tables and the views on them, as "object command, ...".
CREATE FUNCTION pg_temp.leaking(VARIADIC rels regclass[]) RETURNS text
LANGUAGE sql AS $$
	SELECT coalesce(string_agg(DISTINCT p.object || ' ' || p.command, ', '), '')
		FROM ringfence.prove(relations => rels) AS p
		WHERE p.leaks > 0
$$;

-- Tables that are empty otherwise.
INSERT INTO ringfence_data.org_entries (org_id, actor, login, reason, pid)
SELECT o.id, 'operator', 'regress_operator', 'a row to reach for', 1
	FROM ringfence_data.orgs AS o;
SELECT ringfence.add_jwt_key('matrix') \g /dev/null
SELECT ringfence.except_reference('cleaning.leads', 'referrer_id', 'a row to reach for') \g /dev/null
SELECT ringfence.require_idempotency_key('POST', '/matrix'), ringfence.keep_idempotency_keys('POST', '/matrix', '1 hour') \g /dev/null
INSERT INTO ringfence_data.idempotency_keys (id, org_id, key, method, path, fingerprint, created_at, expires_at, processed, complete, response)
SELECT md5(o.id::text)::uuid, o.id, 'matrix', 'POST', '/matrix', sha256(''), now(), now() + '1 day', 1, true, ''
	FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.webhook_events (org_id, provider, event_id, payload_hash)
SELECT o.id, 'matrix', 'evt_1', sha256('')
	FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.idempotency_keys (id, org_id, key, method, path, fingerprint, created_at, expires_at, processed, complete, response)
SELECT md5('expired' || o.id)::uuid, o.id, 'expired', 'POST', '/matrix', sha256(''), now() - interval '2 days', now() - interval '1 day', 1, true, ''
	FROM ringfence_data.orgs AS o;
SELECT ringfence.webhook_once('matrix', 'evt_1', sha256('')) \g /dev/null
INSERT INTO ringfence_data.tombstones (org_id, store, object_key) SELECT o.id, 'matrix', o.id || '/1' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.erasures (org_id, kind, subject_id, reason, counts)
SELECT o.id, 'client', md5(o.id::text)::uuid, 'matrix', '{}' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.consents (org_id, subject_kind, subject_id, purpose, text_version, action)
SELECT o.id, 'client', md5(o.id::text)::uuid, 'matrix', '1', 'given' FROM ringfence_data.orgs AS o;
SET LOCAL session_replication_role = replica;
INSERT INTO ringfence_data.audit_blocks (number, incarnation, snapshot, sealed_at, records, nonce, root, entries, previous, details, hash, key_id, signature)
VALUES (1, 1, pg_current_snapshot(), now(), 1, '', '', '', '', '', '', '', '');
INSERT INTO ringfence_data.audit_keys (key_id, public_key, added_at) VALUES ('', '', now());
INSERT INTO ringfence_data.audit_head (singleton, number, hash, stated_at, key_id, signature) VALUES (true, 1, '', now(), '', '');
INSERT INTO ringfence_data.audit_block_orgs (org_id, block, records, root) SELECT o.id, 1, 1, '' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.audit_leaves (org_id, block, part, leaves) SELECT o.id, 1, 0, '' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.ledger_assets (org_id, code, name, scale) SELECT o.id, 'MATRIX', 'Matrix', 0 FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.ledger_accounts (org_id, id, code, name, asset, kind, party_kind, party_id)
SELECT o.id, md5(o.id::text || n)::uuid, 'matrix ' || n, 'Matrix', 'MATRIX', 'asset', 'client', md5(o.id::text)::uuid
	FROM ringfence_data.orgs AS o, generate_series(1, 2) AS n;
INSERT INTO ringfence_data.ledger_transfers (org_id, id, debit_account_id, credit_account_id, amount, posted_at, recorded_at, posted_on, asset, state, kind)
SELECT o.id, md5(o.id::text)::uuid, md5(o.id::text || 1)::uuid, md5(o.id::text || 2)::uuid, 1, now(), now(), ringfence.ledger_day(now()), 'MATRIX', 'pending', 'matrix'
	FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.ledger_holds (org_id, id, debit_account_id, credit_account_id, amount)
SELECT t.org_id, t.id, t.debit_account_id, t.credit_account_id, t.amount FROM ringfence_data.ledger_transfers AS t WHERE t.kind = 'matrix';
INSERT INTO ringfence_data.ledger_balances (org_id, account_id) SELECT a.org_id, a.id FROM ringfence_data.ledger_accounts AS a WHERE a.asset = 'MATRIX';
INSERT INTO ringfence_data.ledger_periods (org_id, closed_before) SELECT o.id, '2025-01-01' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.ledger_closing_balances (org_id, closed_before, account_id, debits, credits)
SELECT a.org_id, '2025-01-01', a.id, 0, 0 FROM ringfence_data.ledger_accounts AS a WHERE a.asset = 'MATRIX';
INSERT INTO ringfence_data.ledger_blocks (org_id, sealed_to, sealed_from, transfers, root, record) SELECT o.id, now(), '2025-01-01', 1, '', o.id FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.audit_forgotten (relation, org_id, since, reached, settled_at, seen_at, seen_xid, incarnation, oldest, relation_ids)
SELECT 'ringfence_data.orgs', o.id, now(), now(), now(), now(), 1, 1, now(), '{1}' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.audit_drops (event, range_start, range_end, first_block, last_block, block_hash, stated_at, reason, key_id, signature)
VALUES (md5('drop')::uuid, '2025-01-01', '2025-02-01', 1, 1, '', now(), 'matrix', '', '');
INSERT INTO ringfence_data.legal_holds (org_id, id, relation, rows, reason, placed_login)
SELECT o.id, md5(o.id::text)::uuid, 'cleaning.teams', '{"name": "matrix"}', 'matrix', 'matrix' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.retention_runs (id, state, pid, finished_at) VALUES (md5('matrix')::uuid, 'finished', 1, now());
INSERT INTO ringfence_data.retention_batches (org_id, id, run_id, relation, step, action, rows, started_at, duration)
SELECT o.id, md5(o.id::text)::uuid, md5('matrix')::uuid, 'matrix', 'matrix', 'delete', 1, now(), '0' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.retention_stats (org_id, day, relation, step, action, rows, bytes, batches, errors)
SELECT o.id, '2025-01-01', 'matrix', 'matrix', 'delete', 1, 1, 1, 0 FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.retention_overrides (org_id, relation, step, keep)
SELECT o.id, 'cleaning.photos', 'delete', '60 days' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.org_deletions (org_id, id, reason, ordered_login, due_at, next_try_at)
SELECT o.id, md5(o.id::text)::uuid, 'matrix', 'matrix', '2100-01-01', '2100-01-01' FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.org_export_parts (org_id, deletion_id, part, relation, rows, data, sha256)
SELECT o.id, md5(o.id::text)::uuid, 1, 'matrix', 1, '', sha256('') FROM ringfence_data.orgs AS o;
INSERT INTO ringfence_data.export_definitions (name, relation, key, roles, filename) VALUES ('matrix', 'cleaning.teams', '{id}', '{owner}', 'matrix');
INSERT INTO ringfence_data.exports (org_id, id, name, roles, format, time_zone, filename, requested_by, requested_as)
SELECT m.org_id, md5(m.user_id::text)::uuid, 'matrix', m.roles, 'csv', 'UTC', 'matrix.csv', m.user_id, '{}' FROM ringfence_data.memberships AS m;
INSERT INTO ringfence_data.export_parts (org_id, export_id, part, rows, bytes, data, sha256)
SELECT e.org_id, e.id, 1, 0, 0, '', sha256('') FROM ringfence_data.exports AS e;
INSERT INTO ringfence_data.export_schedules (org_id, name, format, every, requested_by, requested_as, next_on)
SELECT m.org_id, 'matrix', 'csv', 'week', m.user_id, '{}', '2100-01-01' FROM ringfence_data.memberships AS m;
INSERT INTO ringfence_data.partition_drops (relation, partition, name, lower_bound, upper_bound, cutoff, bytes)
VALUES ('ringfence_data.audit_log', 'cleaning.teams', 'matrix', '2020-01-01', '2020-02-01', '2021-01-01', 0);
SET LOCAL session_replication_role = origin;
\ir include/merchant.sql
SELECT pg_temp.merchant_places() \g /dev/null
SELECT pg_temp.merchant_rows(o.id, right(o.id::text, 1), true) FROM ringfence_data.orgs AS o \g /dev/null
SELECT ringfence.set_context() \g /dev/null

-- The demo database, whole.

CREATE TEMPORARY TABLE matrix AS SELECT * FROM ringfence.prove();
SELECT is_empty('SELECT object, command, role, target, detail FROM matrix WHERE leaks > 0', 'nothing leaks');
SELECT diag(format('isolation matrix: %s attempts, %s leaks', sum(attempts), sum(leaks))) FROM matrix;
SELECT cmp_ok(sum(attempts), '>', 9000::numeric, 'there were thousands of attempts') FROM matrix;
SELECT is_empty($$
	SELECT t.relation::text FROM ringfence_data.tables AS t EXCEPT SELECT m.object FROM matrix AS m WHERE m.attempts > 0
$$, 'every protected table was attempted');
SELECT is_empty($$
	SELECT c.oid::regclass::text
		FROM pg_class AS c
		WHERE c.relkind = 'v' AND c.relnamespace IN (
			SELECT n.oid FROM ringfence_data.apps AS a, pg_namespace AS n WHERE n.nspname = ANY (a.schemas))
			-- One that shows what a function returns stands on no table.
			AND EXISTS (
				SELECT FROM pg_rewrite AS w
					INNER JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
						AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
					WHERE w.ev_class = c.oid)
	EXCEPT
	SELECT m.object FROM matrix AS m WHERE m.attempts > 0
$$, 'and every view of the apps');
SELECT set_eq('SELECT DISTINCT role FROM matrix', ARRAY['owner', 'admin', 'accountant', 'dispatcher', 'finance', 'worker', 'client', 'driver', 'merchant',
	'ringfence_member', 'ringfence_anon', 'ringfence_owner', 'ringfence_operator', 'ringfence_authenticator', 'pg_database_owner'],
	'by every role of an access matrix and every database role that is let near');
SELECT set_eq('SELECT DISTINCT command, target FROM matrix WHERE attempts > 0', $$
	SELECT c.command, t.target
		FROM (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('COPY')) AS c (command),
			(VALUES ('own'), ('other'), ('none')) AS t (target)
	UNION VALUES ('REFERENCE', 'other'), ('REFERENCE', 'none'), ('UNIQUE', 'other'), ('UNIQUE', 'none')
$$, 'with every command, in and against the own organization, another and none');
SELECT is_empty($$
	SELECT m.object, m.command, m.role, m.target
		FROM matrix AS m
		WHERE m.attempts = 0 AND NOT (
			m.role = 'ringfence_owner' AND (m.object IN ('ringfence_data.users', 'ringfence_v1.me', 'ringfence_v1.members',
					'ringfence_data.idempotency_keys', 'ringfence_v1.idempotency_keys', 'ringfence_data.webhook_events')
				OR m.object::regclass IN (SELECT t.relation FROM ringfence_data.tables AS t WHERE t.row_class = 'system')))
			-- Shared rows are kept by operators and owner, through views as well.
			AND NOT (m.role IN ('ringfence_owner', 'ringfence_operator') AND EXISTS (
				SELECT FROM ringfence_data.tables AS t
					WHERE t.row_class = 'reference' AND t.relation = to_regclass(replace(m.object, '_v1.', '.'))))
			-- Partitions for months to come.
			AND NOT (m.object LIKE 'ringfence_data.audit_log\_%' AND m.detail LIKE '%there is no row to reach')
$$, 'nothing was left out but what a role is meant to reach');
SELECT results_eq($$
	SELECT m.detail FROM matrix AS m
		WHERE m.object = 'cleaning.bookings' AND m.command = 'SELECT' AND m.target = 'own' AND m.role IN ('finance', 'owner')
		ORDER BY m.role
$$, ARRAY['333 rows', '333 rows'], 'roles do read what is theirs');
SELECT results_eq($$
	SELECT m.role, m.detail FROM matrix AS m
		WHERE m.object = 'cleaning.clients' AND m.command = 'REFERENCE' OR m.object = 'cleaning.workers'
			AND m.command = 'REFERENCE' AND m.target = 'other' AND m.role IN ('owner', 'client')
		ORDER BY m.role
$$, $$VALUES ('client', '42501'), ('owner', '23503')$$, 'a reference is refused by rights or by the foreign key');

-- It leaves no trace.

SELECT is(current_user, 'postgres'::name, 'the role is as before');
SELECT is(current_setting('session_replication_role'), 'origin', 'settings are as before');
SELECT is(ringfence.org_id(), NULL, 'no context is left');
SELECT ringfence.set_context('0d9f6c1e-0000-7000-8000-00000000000c', '0d9f6c1e-0001-7000-8000-0000c0000005', '{worker}',
	'{"worker": "0d9f6c1e-0004-7000-8000-0000c0000001"}') \g /dev/null
SELECT ringfence.context() AS context \gset
SELECT pg_temp.leaking('cleaning.teams') AS leaking \gset
SELECT is(:'leaking'::text, '', 'it can be run in a context');
SELECT is(ringfence.context(), :'context'::jsonb, 'which is then as before');
SELECT is((SELECT count(*) FROM cleaning.bookings), 999::bigint, 'no row came or went');
SELECT is_empty($$
	SELECT m.member::regrole
		FROM pg_auth_members AS m
		WHERE m.roleid IN ('pg_read_server_files'::regrole, 'pg_write_server_files'::regrole)
$$, 'nobody keeps a right to files');

-- Who may, and with what.

SELECT is_empty($$
	SELECT p.oid::regprocedure, x.grantee::regrole
		FROM pg_proc AS p
			CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
		WHERE p.pronamespace = 'ringfence'::regnamespace AND p.proname ~ '^prove(_|$)' AND x.grantee <> p.proowner
$$, 'only superusers may run it');
SELECT throws_ok($$SELECT ringfence.prove('0d9f6c1e-0000-7000-8000-00000000000a', '0d9f6c1e-0000-7000-8000-00000000000a')$$,
	'22023', 'it takes two organizations', 'one organization is not two');
SELECT throws_ok($$SELECT ringfence.prove(other => '0d9f6c1e-0000-7000-8000-0000000fffff')$$,
	'22023', 'it takes two organizations', 'nor is one that does not exist');
SELECT is((SELECT sum(p.leaks) FROM ringfence.prove('0d9f6c1e-0000-7000-8000-00000000000c',
	'0d9f6c1e-0000-7000-8000-00000000000b', '{cleaning.leads}') AS p), 0::numeric, 'any two organizations will do');

-- Tables of every make: identity, generated and oddly named columns, arrays and
-- bytes, partitions, children, checks, exclusion constraints, triggers that
-- refuse, views with triggers of their own, rows of users, shared rows.

CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE ROLE regress_analyst;
CREATE SCHEMA zoo;
GRANT USAGE ON SCHEMA zoo TO regress_analyst;
CREATE TYPE zoo.size AS ENUM ('small', 'large');
CREATE TABLE zoo."Odd Name" (
	id bigint GENERATED ALWAYS AS IDENTITY,
	"Code ""x""" text NOT NULL,
	n integer NOT NULL CHECK (n > 0),
	doubled integer GENERATED ALWAYS AS (n * 2) STORED,
	tags text[] NOT NULL DEFAULT '{}',
	body bytea,
	size zoo.size,
	during tstzrange,
	extra jsonb,
	UNIQUE (id)
);
SELECT ringfence.protect('zoo."Odd Name"', '{"owner": "all", "worker": "select update"}') \g /dev/null
ALTER TABLE zoo."Odd Name" ADD EXCLUDE USING gist (org_id WITH =, during WITH &&);
ALTER TABLE zoo."Odd Name" DROP CONSTRAINT "Odd Name_id_key";
CREATE TABLE zoo.events (at date NOT NULL, id integer NOT NULL, note text, odd_id bigint) PARTITION BY RANGE (at);
CREATE TABLE zoo.events_2025 PARTITION OF zoo.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
ALTER TABLE zoo.events ADD COLUMN org_id uuid NOT NULL DEFAULT ringfence.org_id(), ADD PRIMARY KEY (org_id, at, id),
	ADD FOREIGN KEY (org_id, odd_id) REFERENCES zoo."Odd Name" (org_id, id);
SELECT ringfence.protect('zoo.events', '{"owner": "all"}') \g /dev/null
CREATE TABLE zoo.stubborn (id integer NOT NULL, note text);
CREATE TABLE zoo.stubborn_child () INHERITS (zoo.stubborn);
CREATE FUNCTION zoo.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
CREATE TABLE zoo.diaries (user_id uuid NOT NULL, day date NOT NULL, body text, PRIMARY KEY (user_id, day));
CREATE TABLE zoo.colors (id text PRIMARY KEY, hex text);
SELECT ringfence.protect('zoo.stubborn', '{"owner": "all"}'), ringfence.protect('zoo.diaries', '{"*": "all"}', 'user'),
	ringfence.protect('zoo.colors', row_class => 'reference') \g /dev/null
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON zoo.stubborn FOR EACH ROW EXECUTE FUNCTION zoo.refuse();
CREATE VIEW zoo.odd WITH (security_invoker) AS SELECT id, n, tags FROM zoo."Odd Name";
CREATE VIEW zoo.odder WITH (security_invoker) AS SELECT count(*) AS n, 1 / nullif(max(id), 0) AS inverse FROM zoo.odd;
CREATE VIEW zoo.broken WITH (security_invoker) AS SELECT o.org_id, 1 / (o.n - o.n) AS never FROM zoo."Odd Name" AS o;
CREATE VIEW zoo.guarded WITH (security_invoker) AS SELECT DISTINCT org_id, id, note FROM zoo.stubborn;
CREATE TRIGGER refuse INSTEAD OF INSERT OR UPDATE OR DELETE ON zoo.guarded FOR EACH ROW EXECUTE FUNCTION zoo.refuse();
CREATE MATERIALIZED VIEW zoo.frozen AS SELECT * FROM zoo."Odd Name";
GRANT ALL ON zoo.odd, zoo.odder, zoo.broken, zoo.guarded TO ringfence_member;
GRANT SELECT (id, n), UPDATE (n) ON zoo."Odd Name" TO regress_analyst;

INSERT INTO zoo."Odd Name" (org_id, "Code ""x""", n, tags, body, size, during, extra)
SELECT o.id, 'it''s', 7, '{a,"b c",NULL}', '\x00ff', 'large', '[2025-01-01,2025-01-02)', '{"k": [1]}'
	FROM ringfence_data.orgs AS o;
INSERT INTO zoo.events (org_id, at, id, note, odd_id)
SELECT o.org_id, '2025-06-01', 1, 'x', o.id FROM zoo."Odd Name" AS o;
SET LOCAL session_replication_role = replica;
INSERT INTO zoo.stubborn (org_id, id, note) SELECT o.id, 1, 'x' FROM ringfence_data.orgs AS o;
INSERT INTO zoo.stubborn_child (org_id, id, note) SELECT o.id, 2, 'x' FROM ringfence_data.orgs AS o;
SET LOCAL session_replication_role = origin;
INSERT INTO zoo.diaries (user_id, day, body) SELECT u.id, '2025-01-01', 'x' FROM ringfence_data.users AS u;
INSERT INTO zoo.colors (id, hex) VALUES ('red', 'f00');
REFRESH MATERIALIZED VIEW zoo.frozen;

CREATE TEMPORARY TABLE zoo_matrix AS
SELECT * FROM ringfence.prove(relations => ARRAY(
	SELECT t.relation FROM ringfence_data.tables AS t WHERE t.relation::text LIKE 'zoo.%'));
SELECT is_empty('SELECT object, command, role, target, detail FROM zoo_matrix WHERE leaks > 0',
	'nothing leaks from tables of other makes');
SELECT set_eq('SELECT object FROM zoo_matrix GROUP BY object HAVING sum(attempts) > sum(refused)',
	ARRAY['zoo."Odd Name"', 'zoo.events', 'zoo.stubborn', 'zoo.diaries', 'zoo.colors', 'zoo.odd', 'zoo.odder', 'zoo.guarded',
	'zoo.broken'], 'each table and view that is granted answers somebody');
SELECT set_eq('SELECT object FROM zoo_matrix GROUP BY object HAVING sum(attempts) BETWEEN 1 AND sum(refused)',
	ARRAY['zoo.events_2025', 'zoo.stubborn_child', 'zoo.frozen'],
	'partitions, children and what is not granted were attempted as well');
SELECT is((SELECT detail FROM zoo_matrix WHERE (object, command, role, target) = ('zoo.broken', 'SELECT', 'owner', 'own')),
	'22012', 'an error is a refusal, by its SQLSTATE');
SELECT is((SELECT detail FROM zoo_matrix WHERE (object, command, role, target) = ('zoo.stubborn', 'INSERT', 'owner', 'own')),
	'P0001', 'a trigger''s as well');
SELECT is((SELECT detail FROM zoo_matrix WHERE (object, command, role, target) = ('zoo."Odd Name"', 'SELECT', 'regress_analyst', 'own')),
	'0 rows', 'a role that the tables know of is tried with the columns that it has');
SELECT is((SELECT detail FROM zoo_matrix WHERE (object, command, role, target) = ('zoo."Odd Name"', 'UNIQUE', 'owner', 'other')),
	'1 rows', 'the other''s values are as good as new');

-- A table in which the other organization has no row gets one for the while; a
-- table in which nobody has any is left out of the count.
DELETE FROM zoo.events WHERE org_id <> '0d9f6c1e-0000-7000-8000-00000000000a';
SELECT cmp_ok((SELECT sum(attempts) FROM ringfence.prove(relations => '{zoo.events}') WHERE target = 'other'), '>', 0::numeric,
	'a row is lent to an organization that has none');
DELETE FROM zoo.events;
SELECT results_eq($$
	SELECT DISTINCT attempts, leaks, detail FROM ringfence.prove(relations => '{zoo.events}')
$$, $$VALUES (0::bigint, 0::bigint, 'not attempted: there is no row to reach')$$, 'no row, no proof');

-- Take one protection away, and what it kept is named.

SAVEPOINT intact;
DROP POLICY org_isolation ON cleaning.leads;
SELECT pg_temp.leaking('cleaning.leads', 'cleaning.teams') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'cleaning.leads COPY, cleaning.leads DELETE, cleaning.leads INSERT, cleaning.leads SELECT, '
	'cleaning.leads UPDATE, cleaning_v1.leads COPY, cleaning_v1.leads DELETE, cleaning_v1.leads INSERT, '
	'cleaning_v1.leads SELECT, cleaning_v1.leads UPDATE', 'no org_isolation');

ALTER POLICY org_isolation ON cleaning.leads WITH CHECK (true);
SELECT pg_temp.leaking('cleaning.leads') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'cleaning.leads INSERT, cleaning.leads UPDATE, cleaning_v1.leads INSERT, cleaning_v1.leads UPDATE',
	'an org_isolation that lets rows out');

ALTER TABLE cleaning.teams DISABLE ROW LEVEL SECURITY;
SELECT pg_temp.leaking('cleaning.teams') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'cleaning.teams COPY, cleaning.teams DELETE, cleaning.teams INSERT, cleaning.teams SELECT, '
	'cleaning.teams UPDATE, cleaning_v1.teams COPY, cleaning_v1.teams DELETE, cleaning_v1.teams INSERT, '
	'cleaning_v1.teams SELECT, cleaning_v1.teams UPDATE', 'no row security');

ALTER TABLE cleaning.clients NO FORCE ROW LEVEL SECURITY;
SELECT string_agg(DISTINCT p.role || ' ' || p.command, ', ') AS leaking
	FROM ringfence.prove(relations => '{cleaning.clients}') AS p
	WHERE p.leaks > 0 AND p.object = 'cleaning.clients' \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'ringfence_owner COPY, ringfence_owner DELETE, ringfence_owner INSERT, ringfence_owner SELECT, '
	'ringfence_owner UPDATE', 'row security that is not forced, to ringfence_owner''s code');

CREATE VIEW zoo.open AS SELECT * FROM cleaning.clients;
GRANT SELECT ON zoo.open TO ringfence_member;
SELECT pg_temp.leaking('cleaning.clients') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'zoo.open COPY, zoo.open SELECT', 'a view with its owner''s rights');

CREATE VIEW zoo.open AS SELECT count(*) > 100 AS many FROM cleaning.clients;
GRANT SELECT ON zoo.open TO ringfence_member;
SELECT pg_temp.leaking('cleaning.clients') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'zoo.open SELECT', 'even one that tells a single bit');

GRANT SELECT ON zoo.frozen TO ringfence_member;
SELECT pg_temp.leaking('zoo.frozen') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'zoo.frozen COPY, zoo.frozen SELECT', 'a materialized view');

ALTER TABLE zoo.events_2025 DISABLE ROW LEVEL SECURITY;
GRANT SELECT ON zoo.events_2025 TO ringfence_member;
INSERT INTO zoo.events (org_id, at, id) SELECT o.id, '2025-06-01', 1 FROM ringfence_data.orgs AS o;
SELECT pg_temp.leaking('zoo.events_2025') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'zoo.events_2025 COPY, zoo.events_2025 SELECT', 'a partition that is reached by its name');

ALTER TABLE cleaning.teams ADD UNIQUE (id);
ALTER TABLE cleaning.workers DROP CONSTRAINT workers_team_id_fkey, ADD FOREIGN KEY (team_id) REFERENCES cleaning.teams (id);
SELECT pg_temp.leaking('cleaning.workers') AS leaking \gset
ROLLBACK TO intact;
SELECT matches(:'leaking'::text, 'cleaning\.workers REFERENCE', 'a foreign key without org_id');

CREATE UNIQUE INDEX ON cleaning.clients (lower(email)) WHERE phone IS NOT NULL;
SELECT pg_temp.leaking('cleaning.clients') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'cleaning.clients UNIQUE', 'a unique index without org_id');

ALTER TABLE zoo."Odd Name" ADD EXCLUDE USING gist (during WITH &&) WHERE (n > 7);
UPDATE zoo."Odd Name" SET n = 8, during = tstzrange('2025-01-01', '2025-01-02') + tstzrange('2025-01-02', '2025-01-02')
	WHERE org_id = '0d9f6c1e-0000-7000-8000-00000000000b';
SELECT pg_temp.leaking('zoo."Odd Name"') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'zoo."Odd Name" UNIQUE', 'an exclusion constraint without org_id');

GRANT TRUNCATE ON cleaning.invoice_items TO ringfence_member;
SELECT pg_temp.leaking('cleaning.invoice_items') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'cleaning.invoice_items TRUNCATE', 'TRUNCATE, which knows no policy');

CREATE FUNCTION zoo.meddle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN UPDATE cleaning.leads SET source = 'x'; RETURN NULL; END $$;
CREATE TRIGGER meddle AFTER UPDATE ON cleaning.teams EXECUTE FUNCTION zoo.meddle();
SELECT pg_temp.leaking('cleaning.teams') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'cleaning.teams UPDATE, cleaning_v1.teams UPDATE', 'a superuser''s trigger that changes what it should not');

GRANT SELECT ON ringfence_data.jwt_keys TO ringfence_member;
CREATE POLICY open ON ringfence_data.jwt_keys USING (true);
SELECT pg_temp.leaking('ringfence_data.jwt_keys') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'ringfence_data.jwt_keys COPY, ringfence_data.jwt_keys SELECT', 'a table that no tenant may reach');

GRANT UPDATE ON zoo.colors TO ringfence_member;
CREATE POLICY open ON zoo.colors FOR UPDATE USING (true);
SELECT pg_temp.leaking('zoo.colors') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'zoo.colors UPDATE', 'shared rows that a tenant may change');

DROP POLICY user_isolation ON zoo.diaries;
SELECT pg_temp.leaking('zoo.diaries') AS leaking \gset
ROLLBACK TO intact;
SELECT is(:'leaking'::text, 'zoo.diaries COPY, zoo.diaries DELETE, zoo.diaries INSERT, zoo.diaries SELECT, zoo.diaries UPDATE',
	'rows of other users');

ROLLBACK TO intact;

-- prove() is a superuser's, and lends nobody else those rights.
CREATE ROLE regress_matrix_stranger;
CREATE FUNCTION zoo.escapes() RETURNS boolean LANGUAGE plpgsql
AS $$ BEGIN EXECUTE 'RESET ROLE'; RETURN true; END $$;
GRANT USAGE ON SCHEMA zoo TO regress_matrix_stranger;
SELECT throws_ok('SELECT ringfence.run_as(''regress_matrix_stranger'', ''SELECT zoo.escapes()'')', '42501', NULL,
	'what is run as another role can''t reset it');
ALTER TABLE zoo.colors OWNER TO regress_matrix_stranger;
SELECT throws_ok('SELECT * FROM ringfence.prove()', '42501', 'cannot prove "zoo.colors", which belongs to role "regress_matrix_stranger"',
	'and tables of others are not proved');
SET ROLE regress_matrix_stranger;
SELECT throws_ok('SELECT ringfence.run_as(''postgres'', ''SELECT 1'')', '42501', NULL, 'nor may others run anything as somebody else');
RESET ROLE;
ROLLBACK TO intact;

SELECT * FROM finish();
ROLLBACK;
