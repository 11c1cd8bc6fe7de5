-- Nobody writes the audit log but the library: no tenant, operator or job, not the
-- code or the owner of the tables, not the database's owner, and no superuser by an
-- ordinary statement; neither the log nor a partition of it, nor what belongs to it.
-- Privileges, row security and a trigger each refuse by themselves.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(49);

CREATE ROLE regress_audit_job LOGIN IN ROLE ringfence_jobs;
CREATE ROLE regress_audit_dba LOGIN;
CREATE ROLE regress_audit_maker LOGIN;
SELECT format('ALTER DATABASE %I OWNER TO regress_audit_dba', current_database()) \gexec
GRANT USAGE ON SCHEMA ringfence_data TO regress_audit_maker;
UPDATE public.notes SET body = body || '!';

SELECT set_eq(
	$$SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relnamespace = 'ringfence_data'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname ~ '^audit_log'$$,
	$$SELECT 'ringfence_data.audit_log' UNION ALL
		SELECT 'ringfence_data.audit_log_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n), 'YYYYMM') FROM generate_series(0, 3) AS n$$,
	'the log and its partitions');

-- Tries all ways to write each table of the log as whoever calls it. Tells of those
-- that were not refused with 42501 and that message.
CREATE FUNCTION public.unrefused(message text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	attempt text;
	target record;
	caught text;
BEGIN
	FOR target IN
		SELECT c.oid::regclass AS rel, c.relname AS name, quote_ident(a.attname) AS col
		FROM pg_class AS c
		INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = 1
		WHERE c.relnamespace = 'ringfence_data'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname ~ '^audit_'
		ORDER BY 1
	LOOP
		FOREACH attempt IN ARRAY ARRAY[
			'INSERT INTO %1$s DEFAULT VALUES',
			'INSERT INTO %1$s (%2$s) SELECT NULL WHERE false',
			'INSERT INTO %1$s (%2$s) VALUES (NULL) ON CONFLICT DO NOTHING',
			'UPDATE %1$s SET %2$s = DEFAULT',
			'UPDATE %1$s SET %2$s = NULL WHERE false',
			'DELETE FROM %1$s',
			'DELETE FROM %1$s WHERE false',
			'TRUNCATE %1$s',
			'TRUNCATE %1$s CASCADE',
			'MERGE INTO %1$s AS t USING (SELECT 1) AS s ON false WHEN NOT MATCHED THEN INSERT (%2$s) VALUES (NULL)',
			'WITH gone AS (DELETE FROM %1$s RETURNING 1) SELECT count(*) FROM gone'
		] LOOP
			BEGIN
				EXECUTE format(attempt, target.rel, target.col);
				RETURN NEXT format(attempt, target.rel, target.col);
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS caught = MESSAGE_TEXT;
				IF SQLSTATE <> '42501' OR caught <> format(message, target.name) THEN
					RETURN NEXT format(attempt, target.rel, target.col) || ': ' || SQLSTATE || ' ' || caught;
				END IF;
			END;
		END LOOP;
	END LOOP;
END $$;
SELECT format('SELECT count(*) AS records, md5(string_agg(l::text, %L ORDER BY l.recorded_at, l.id)) AS digest FROM ringfence_data.audit_log AS l', ' ') AS state \gset
:state \gset

SELECT is_empty($$SELECT unrefused('the audit log is written by ringfence alone')$$, 'a superuser');
SELECT throws_ok('COPY ringfence_data.audit_log FROM PROGRAM ''echo''', '42501', 'the audit log is written by ringfence alone', 'by COPY');
SET ROLE ringfence_owner;
SELECT is_empty($$SELECT unrefused('permission denied for table %s')$$, 'the owner of the tables');
RESET ROLE;
SET SESSION AUTHORIZATION regress_audit_dba;
SELECT is_empty($$SELECT unrefused('permission denied for table %s')$$, 'the owner of the database');
SET SESSION AUTHORIZATION regress_audit_maker;
SELECT is_empty($$SELECT unrefused('permission denied for table %s')$$, 'a role that sees the schema');
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'look') \g /dev/null
SELECT is_empty($$SELECT unrefused('permission denied for table %s')$$, 'an operator in an organization');
COMMIT;
SET SESSION AUTHORIZATION regress_audit_job;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'nightly') \g /dev/null
SELECT is_empty($$SELECT unrefused('permission denied for table %s')$$, 'a job');
COMMIT;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is_empty($$SELECT unrefused('permission denied for table %s')$$, 'an organization''s owner');
SELECT throws_ok($$SELECT 1 FROM ringfence_data.audit_log FOR UPDATE$$, '42501', 'permission denied for table audit_log', 'can''t lock a record');
SELECT throws_ok($$LOCK ringfence_data.audit_log IN ROW EXCLUSIVE MODE$$, '42501', 'permission denied for table audit_log', 'or the log');
SELECT throws_ok($$LOCK ringfence_data.audit_relations IN SHARE ROW EXCLUSIVE MODE$$, '42501', 'permission denied for table audit_relations', 'or its tables, which would stop others'' writes');
SELECT throws_ok($$INSERT INTO ringfence_v1.audit_log (id) VALUES (NULL)$$, '55000', 'cannot insert into view "audit_log"', 'or write through the view');
SELECT throws_ok($$UPDATE ringfence_v1.audit_log SET reason = 'x'$$, '55000', 'cannot update view "audit_log"', 'change it');
SELECT throws_ok($$DELETE FROM ringfence_v1.audit_log$$, '55000', 'cannot delete from view "audit_log"', 'empty it');
SELECT throws_ok($$DELETE FROM ringfence_v1.audit_changes$$, '55000', 'cannot delete from view "audit_changes"', 'by the other one neither');
SELECT throws_ok($$SELECT ringfence.audit_forget('public.notes', 'x')$$, '42501', 'permission denied for function audit_forget', 'or forget');
SELECT throws_ok($$SELECT ringfence.unaudit('public.notes')$$, '42501', 'permission denied for function unaudit', 'end the recording');
SELECT throws_ok($$SELECT ringfence.audit('public.notes', '')$$, '42501', 'permission denied for function audit', 'record for another organization');
SELECT throws_ok($$ALTER TABLE public.notes DISABLE TRIGGER ringfence_audit$$, '42501', 'must be owner of table notes', 'switch the trigger off');
SELECT throws_ok($$DROP TRIGGER ringfence_audit ON public.notes$$, '42501', 'must be owner of relation notes', 'drop it');
SELECT throws_ok($$DROP TRIGGER ringfence_audit_refuse ON ringfence_data.audit_log$$, '42501', 'must be owner of relation audit_log', 'drop the log''s');
SELECT throws_ok($$SET LOCAL session_replication_role = replica$$, '42501', 'permission denied to set parameter "session_replication_role"', 'go past triggers');
COMMIT;
BEGIN;
SELECT claim('{"role": "ringfence_anon"}', 'ringfence_anon');
SELECT throws_ok($$DELETE FROM ringfence_data.audit_log$$, '42501', NULL, 'nobody can''t either');
COMMIT;
RESET SESSION AUTHORIZATION;

-- Code with the owner's rights, called by a member.
CREATE FUNCTION public.definer_unrefused() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT public.unrefused('permission denied for table %s') $$;
ALTER FUNCTION public.definer_unrefused() OWNER TO ringfence_owner;
CREATE FUNCTION public.superuser_unrefused() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT public.unrefused('the audit log is written by ringfence alone') $$;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is_empty('SELECT definer_unrefused()', 'a function of ringfence_owner''s');
SELECT is_empty('SELECT superuser_unrefused()', 'a superuser''s');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT :'records' AS records_before, :'digest' AS digest_before \gset
SELECT md5(string_agg(l::text, ' ' ORDER BY l.recorded_at, l.id)) AS digest
FROM (SELECT * FROM ringfence_data.audit_log ORDER BY recorded_at, id LIMIT :records_before) AS l \gset
SELECT is(:'digest'::text, :'digest_before'::text, 'after all that no record is another');

-- A record of what never happened: the trigger function on a table of one's own.
GRANT CREATE ON SCHEMA public TO regress_audit_maker;
SET SESSION AUTHORIZATION regress_audit_maker;
CREATE TABLE public.forged (org_id uuid, id integer PRIMARY KEY);
SELECT throws_ok($$CREATE TRIGGER ringfence_audit AFTER INSERT ON public.forged FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row('org_id')$$,
	'42501', 'permission denied for schema ringfence', 'who can make tables can''t have them record');
RESET SESSION AUTHORIZATION;
GRANT USAGE ON SCHEMA ringfence TO regress_audit_maker;
SET SESSION AUTHORIZATION regress_audit_maker;
SELECT throws_ok($$CREATE TRIGGER ringfence_audit AFTER INSERT ON public.forged FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row('org_id')$$,
	'42501', 'permission denied for function ringfence.audit_row', 'nor with the schema');
SELECT throws_ok($$CREATE TRIGGER x AFTER INSERT ON public.forged FOR EACH ROW EXECUTE FUNCTION ringfence.audit_labels_changed()$$,
	'42501', 'permission denied for function ringfence.audit_labels_changed', 'or have labels read');
SELECT throws_ok($$SELECT ringfence.audit_shape('public.forged')$$, '42501', 'permission denied for function audit_shape', 'nor note names');
RESET SESSION AUTHORIZATION;
-- That it is refused matters: with the right it works.
BEGIN;
GRANT EXECUTE ON FUNCTION ringfence.audit_row() TO regress_audit_maker;
SET LOCAL SESSION AUTHORIZATION regress_audit_maker;
CREATE TRIGGER ringfence_audit AFTER INSERT ON public.forged FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row('org_id');
INSERT INTO forged VALUES (:'org_b', 1);
RESET SESSION AUTHORIZATION;
SELECT is((SELECT org_id FROM newest), :'org_b', 'with EXECUTE on the trigger function one could');
ROLLBACK;
SELECT throws_ok($$SELECT ringfence.audit_row()$$, '39P01', 'ringfence.audit_row() must be called as an AFTER trigger', 'it can''t be called');
CREATE TABLE public.odd (id integer PRIMARY KEY);
CREATE TRIGGER odd BEFORE INSERT ON public.odd FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row('');
SELECT throws_ok($$INSERT INTO odd VALUES (1)$$, '39P01', 'ringfence.audit_row() must be called as an AFTER trigger', 'or attached before the change');
DROP TRIGGER odd ON public.odd;
CREATE TRIGGER odd AFTER INSERT ON public.odd FOR EACH STATEMENT EXECUTE FUNCTION ringfence.audit_row('');
SELECT throws_ok($$INSERT INTO odd VALUES (1)$$, '39P01', 'ringfence.audit_row() must be called as a row trigger', 'or for the statement');
DROP TRIGGER odd ON public.odd;
CREATE TRIGGER odd AFTER INSERT ON public.odd FOR EACH ROW EXECUTE FUNCTION ringfence.audit_row('org');
SELECT throws_ok($$INSERT INTO odd VALUES (1)$$, '42703', 'column "org" of table "odd", which holds the organization, is no uuid column', 'or with a column that there isn''t');

-- Each of the layers alone

BEGIN;
ALTER TABLE ringfence_data.audit_log DISABLE TRIGGER ringfence_audit_refuse;
SELECT lives_ok($$UPDATE ringfence_data.audit_log SET reason = 'forged'$$, 'without its trigger a superuser could change the log');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log WHERE reason IS DISTINCT FROM 'forged'), 0::bigint, 'all of it');
SELECT lives_ok($$DELETE FROM ringfence_data.audit_log$$, 'and empty it');
ROLLBACK;
BEGIN;
GRANT ALL ON ringfence_data.audit_log TO ringfence_member;
SET LOCAL SESSION AUTHORIZATION regress_web;
SELECT claim(:'claims_a');
SELECT throws_ok($$UPDATE ringfence_data.audit_log SET reason = 'forged'$$, '42501', 'the audit log is written by ringfence alone', 'with all privileges a member meets the trigger: UPDATE');
SELECT throws_ok($$DELETE FROM ringfence_data.audit_log$$, '42501', 'the audit log is written by ringfence alone', 'DELETE');
SELECT throws_ok($$INSERT INTO ringfence_data.audit_log DEFAULT VALUES$$, '42501', 'the audit log is written by ringfence alone', 'INSERT');
SELECT throws_ok($$TRUNCATE ringfence_data.audit_log$$, '42501', 'the audit log is written by ringfence alone', 'TRUNCATE');
ROLLBACK;
BEGIN;
GRANT ALL ON ringfence_data.audit_log TO ringfence_member;
ALTER TABLE ringfence_data.audit_log DISABLE TRIGGER ringfence_audit_refuse;
SET LOCAL SESSION AUTHORIZATION regress_web;
SELECT claim(:'claims_a');
SELECT ok(count(*) > 0, 'without that as well it sees its records') FROM ringfence_data.audit_log;
WITH changed AS (UPDATE ringfence_data.audit_log SET reason = 'forged' RETURNING 1), gone AS (DELETE FROM ringfence_data.audit_log RETURNING 1)
SELECT is((SELECT count(*) FROM changed) + (SELECT count(*) FROM gone), 0::bigint, 'and row security shows it none to change or delete');
SELECT throws_ok(format($$INSERT INTO ringfence_data.audit_log (org_id, id, recorded_at, transaction_id, incarnation, operation, actor, login, role, action)
	VALUES (%L, gen_random_uuid(), now(), 1, 1, 'EVENT', 'user', 'x', 'x', 'a.b')$$, :'org_a'), '42501', 'new row violates row-level security policy for table "audit_log"', 'nor lets it insert');
ROLLBACK;

-- What changes an audited table past its trigger leaves a trace

SELECT is_empty($$SELECT object FROM ringfence.verify() WHERE code = 'table_not_audited'$$, 'all tables are audited that should be');
SELECT ringfence.unaudit('public.notes') \g /dev/null
SELECT ok(count(*) = 1, 'one that is no longer is found') FROM ringfence.verify() AS v WHERE v.code = 'table_not_audited' AND v.object = 'public.notes';
SELECT is((SELECT action || ' ' || key FROM newest), 'audit.detached public.notes', 'and on record');

RESET SESSION AUTHORIZATION;
SELECT format('ALTER DATABASE %I OWNER TO postgres', current_database()) \gexec
DROP OWNED BY regress_audit_job, regress_audit_dba, regress_audit_maker;
DROP ROLE regress_audit_job, regress_audit_dba, regress_audit_maker;
SELECT * FROM finish();
