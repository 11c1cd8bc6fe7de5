-- Attacks on the audit log by those who write its tables' code, and by whoever can
-- have a statement fail at the worst moment: nobody's code runs with more rights
-- than its author has, nothing that an error left behind is used afterwards, and
-- what a record says stays true while other code runs amid it.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(21);

CREATE ROLE regress_audit_jack;
CREATE ROLE regress_audit_dbo LOGIN;
SELECT format('GRANT CREATE ON DATABASE %I TO regress_audit_dbo', current_database()) \gexec
GRANT EXECUTE ON FUNCTION ringfence.audit_row() TO regress_audit_dbo;
GRANT USAGE ON SCHEMA ringfence TO regress_audit_dbo;

-- A trigger whose condition looks like the arguments of ours.

SET ROLE regress_audit_dbo;
CREATE SCHEMA mine;
CREATE TABLE mine.p (i int);
CREATE TRIGGER ringfence_audit AFTER INSERT ON mine.p FOR EACH ROW
	WHEN (new.i::text <> $q$audit_row(); DO $x$ BEGIN ALTER ROLE regress_audit_jack SUPERUSER; EXCEPTION WHEN insufficient_privilege THEN NULL; END $x$; --$q$)
	EXECUTE FUNCTION ringfence.audit_row('');
CREATE TABLE mine.c () INHERITS (mine.p);
DROP TRIGGER IF EXISTS ringfence_audit ON mine.c;
RESET ROLE;
ALTER TABLE mine.p ADD COLUMN note text;
SELECT is((SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_audit_jack'), false, 'a trigger''s condition is not run by whoever alters the table');
SELECT hasnt_trigger('mine', 'c', 'ringfence_audit', 'nor is a trigger with a condition taken for one of audit()');

-- Code of ringfence_owner in an index on the log.

SELECT 'ringfence_data.audit_log_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMM') AS month \gset
SET ROLE ringfence_owner;
CREATE FUNCTION ringfence_data.climb() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user) THEN
		ALTER ROLE regress_audit_jack SUPERUSER;
	END IF;
END
$$;
CREATE FUNCTION ringfence_data.climbing(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	PERFORM ringfence_data.climb();
	RETURN t || ' as ' || current_user;
END
$$;
SELECT format('CREATE INDEX climbing ON %s (ringfence_data.climbing(login))', :'month') \gexec
RESET ROLE;
UPDATE public.notes SET body = 'by a superuser' WHERE org_id = :'org_a';
SELECT is((SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_audit_jack'), false, 'a superuser''s change runs the owner''s code as the owner');
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'ticket 1') \g /dev/null
SELECT count(*) FROM ringfence_v1.audit_log \g /dev/null
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE action = 'audit.read'), 1::bigint, 'an operator''s reading is on record');
SELECT is((SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_audit_jack'), false, 'and so does the worker that records it');
SET enable_seqscan = off;
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE ringfence_data.climbing(login) = 'regress_operator as ' || current_user AND action = 'audit.read'),
	0::bigint, 'the index holds what the owner computed');
RESET enable_seqscan;
DROP INDEX ringfence_data.climbing;

-- An index with an expression on what a new shape is written to.

CREATE INDEX upper_names ON ringfence_data.audit_relations ((upper(name)));
CREATE TABLE public.z (i int);
SELECT ringfence.audit('public.z');
INSERT INTO public.z VALUES (1);
SET enable_seqscan = off;
SELECT is((SELECT name::text FROM ringfence_data.audit_relations WHERE upper(name) = 'PUBLIC.Z'), 'public.z', 'such an index on the tables'' names is kept up');
RESET enable_seqscan;
DROP INDEX ringfence_data.upper_names;

-- A write that fails while it learns of the partition.

SELECT dblink_connect('other', format('dbname=%s', current_database())) \g /dev/null
SELECT dblink_connect('late', format('dbname=%s', current_database())) \g /dev/null
SELECT dblink_exec('late', 'INSERT INTO public.z VALUES (0)') \g /dev/null
SELECT dblink_exec('late', 'SET lock_timeout = ''100ms''') \g /dev/null
SELECT format('CREATE INDEX by_id ON %s (id)', :'month') \gexec
SELECT dblink_exec('other', format('BEGIN; LOCK TABLE %s', :'month')) \g /dev/null
SELECT throws_like($$SELECT dblink_exec('late', 'INSERT INTO public.z VALUES (2)')$$, '%lock timeout%', 'a write that gets no lock on the log fails');
SELECT dblink_exec('other', 'ROLLBACK') \g /dev/null
SELECT dblink_exec('late', 'INSERT INTO public.z VALUES (3)') \g /dev/null
SELECT is((SELECT new FROM newest), '{"i": 3}', 'the next one is recorded');
SELECT id AS newest FROM newest \gset
SET enable_seqscan = off;
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE id = :'newest'), 1::bigint, 'and in the index that was made meanwhile');
RESET enable_seqscan;
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id WHERE r.name = 'public.z'),
	3::bigint, 'the failed one left nothing');
SELECT dblink_disconnect('late') \g /dev/null

-- The same while it learns of the secret names.

CREATE TABLE public.accounts (id int PRIMARY KEY, password text, extra jsonb);
SELECT ringfence.audit('public.accounts');
SELECT dblink_connect('late', format('dbname=%s', current_database())) \g /dev/null
SELECT dblink_exec('late', 'SET lock_timeout = ''100ms''') \g /dev/null
SELECT dblink_exec('other', 'BEGIN; LOCK TABLE ringfence_data.secret_names') \g /dev/null
SELECT throws_like($$SELECT dblink_exec('late', 'INSERT INTO public.accounts VALUES (1, ''T4cret'', ''{"token": "T4cret"}'')')$$, '%lock timeout%', 'a write that cannot learn the secret names fails');
SELECT dblink_exec('other', 'ROLLBACK') \g /dev/null
SELECT dblink_exec('late', $$INSERT INTO public.accounts VALUES (1, 'T4cret', '{"token": "T4cret"}')$$) \g /dev/null
SELECT is((SELECT new FROM newest), '{"id": 1, "password": "[secret]", "extra": {"token": "[secret]"}}', 'the next one knows them');
SELECT dblink_disconnect('late') \g /dev/null
SELECT dblink_disconnect('other') \g /dev/null
ALTER TABLE ringfence_data.secret_names RENAME COLUMN pattern TO pattern_once;
SELECT throws_ok($$UPDATE public.accounts SET password = 'other'$$, '55000', 'column "pattern" of table "secret_names" is not as app "core" made it',
	'without them nothing is recorded, and so nothing changed');
ALTER TABLE ringfence_data.secret_names RENAME COLUMN pattern_once TO pattern;
CREATE TABLE public.odd (i int);
SELECT ringfence.audit('public.odd');
ALTER EVENT TRIGGER ringfence_guard DISABLE;
ALTER TABLE ringfence_data.columns RENAME COLUMN label TO label_once;
SELECT throws_ok('INSERT INTO public.odd VALUES (1)', '55000', 'column "label" of table "columns" is not as app "core" made it', 'nor without labels');
ALTER TABLE ringfence_data.columns RENAME COLUMN label_once TO label;
ALTER EVENT TRIGGER ringfence_guard ENABLE;

-- A cast to json that writes as somebody else, amid a record.

CREATE TYPE public.mood AS ENUM ('fine');
CREATE TABLE public.inner_log (id serial PRIMARY KEY, m text);
CREATE TABLE public.outer_table (id int PRIMARY KEY, note1 text, m public.mood, z text);
SELECT ringfence.audit('public.inner_log'), ringfence.audit('public.outer_table');
GRANT ALL ON public.inner_log, public.inner_log_id_seq TO regress_audit_jack;
GRANT CREATE, USAGE ON SCHEMA public TO regress_audit_jack;
CREATE FUNCTION public.mood_json(public.mood) RETURNS json LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO public.inner_log (m) VALUES (repeat('w', 30));
	RETURN '"cast"';
END
$$;
ALTER FUNCTION public.mood_json(public.mood) OWNER TO regress_audit_jack;
CREATE CAST (public.mood AS json) WITH FUNCTION public.mood_json(public.mood);
SET ringfence.reason = 'a reason of some length';
INSERT INTO public.outer_table VALUES (1, 'n', 'fine', 'zzz');
RESET ringfence.reason;
SELECT results_eq(
	$$SELECT r.name COLLATE "default", l.role COLLATE "default", l.reason, l.new
		FROM ringfence_data.audit_log AS l INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
		WHERE r.name IN ('public.inner_log', 'public.outer_table') ORDER BY r.name$$,
	$$VALUES ('public.inner_log', 'regress_audit_jack', 'a reason of some length', '{"id": 1, "m": "wwwwwwwwwwwwwwwwwwwwwwwwwwwwww"}'::jsonb),
		('public.outer_table', current_user::text COLLATE "default", 'a reason of some length', '{"id": 1, "note1": "n", "m": "cast", "z": "zzz"}')$$,
	'both records are whole, each with its own author');

-- A composite that jsonb refuses has a secret in it.

CREATE TYPE public.login AS (name text, password text, extra json);
CREATE TABLE public.logins (id int PRIMARY KEY, l public.login);
SELECT ringfence.audit('public.logins');
INSERT INTO public.logins VALUES (1, ROW('ann', 'T4cret', '{"a": "\u0000"}'));
SELECT is((SELECT new #> '{l,bytes}' IS NOT NULL FROM newest), true, 'what cannot be looked into is recorded by its digest');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE new::text ~ 'T4cret'), 0::bigint, 'and without the secret');

-- Events.

CREATE FUNCTION public.planted(org uuid) RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT ringfence.audit_event('note.planted', 'x', org => org)
$$;
ALTER FUNCTION public.planted(uuid) OWNER TO ringfence_owner;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a') \g /dev/null
SELECT throws_ok(format('SELECT public.planted(%L)', :'org_b'), '42501', 'permission denied to record an event of that organization', 'no member''s request plants an event in another organization');
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'ticket 2') \g /dev/null
SELECT throws_ok($$SELECT ringfence.audit_event('audit.read', 'x')$$, '42501', 'permission denied to record an event "audit.read"', 'nor does an operator forge the log''s own');
COMMIT;
SELECT throws_ok(format('SELECT ringfence.enter_org(%L, U&''\00a0\200b\3000'')', :'org_a'), '22023', 'a reason is needed to enter an organization', 'a reason can be read');
RESET SESSION AUTHORIZATION;

SELECT finish();
SELECT format('REVOKE CREATE ON DATABASE %I FROM regress_audit_dbo', current_database()) \gexec
DROP OWNED BY regress_audit_dbo, regress_audit_jack CASCADE;
DROP ROLE regress_audit_jack, regress_audit_dbo;
