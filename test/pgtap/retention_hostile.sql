-- Retention where somebody would turn it on others: tenants who call what is the
-- jobs', tasks that nobody declared, names and values that are SQL, triggers of
-- tables' owners who would be the job, objects in the way of names, declarations
-- about what is somebody else's. Rows go because a policy says so, as the rows'
-- owner, or not at all.
\ir include/tenants.sql
SET client_min_messages = error;
SET ringfence.retention_rest = 0;
SET ringfence.retention_clock = '2026-01-01 00:00+00';
SELECT plan(127);

CREATE FUNCTION public.failure(statement text) RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE statement;
	RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE VIEW public.last_run AS
SELECT r.id, r.state COLLATE "default" AS state, r.rows, r.errors, r.last_error
FROM ringfence_data.retention_runs AS r
ORDER BY r.started_at DESC, r.id DESC
LIMIT 1;
CREATE TABLE public.item (id integer PRIMARY KEY, at timestamptz, v text);
SELECT ringfence.protect('public.item', '{"owner": "all"}');
CREATE INDEX ON public.item (org_id, at);
INSERT INTO public.item (org_id, id, at, v) VALUES
	(:'org_a', 1, '2020-01-01', 'x'), (:'org_a', 2, '2020-01-01', 'y'), (:'org_a', 3, '2025-12-31', 'x'), (:'org_b', 4, '2020-01-01', 'x');
CREATE FUNCTION public.ids() RETURNS integer[] LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT array_agg(i.id ORDER BY i.id) FROM public.item AS i';

-- Nobody calls it but jobs; who declares is the database's owner

CREATE FUNCTION public.callable(who name) RETURNS text[] LANGUAGE sql STABLE
AS $$
	SELECT coalesce(array_agg(p.oid::regprocedure::text ORDER BY p.oid::regprocedure::text COLLATE "C"), '{}')
	FROM pg_proc AS p
	WHERE p.pronamespace = 'ringfence'::regnamespace AND has_function_privilege(who, p.oid, 'EXECUTE')
		AND p.proname ~ '^run_|retain|retention|place_hold|release_hold|holds$|held|hold_|holding|purge$|rule|filter|due|batch|job|replication_lag|lock_waiters|unreferenced|reference_depth|check_value|column_(type|is_set)|has_org_column|average|has_personal|require_core|after_failure|policy_document'
		AND p.proname !~ 'is_job_table|is_retention_table|job_status|register_job'
$$;
SELECT is(callable('ringfence_anon'), '{}', 'nobody who is nobody calls anything of it');
SELECT is(callable('ringfence_member'), '{ringfence.holding_org(uuid),ringfence.retaining(),ringfence.retention_now()}', 'tenants ask what time it is, and whether it is retention');
SELECT is(callable('ringfence_operator'),
	'{ringfence.holding_org(uuid),ringfence.lock_waiters(),"ringfence.place_hold(text,regclass,text,uuid,jsonb,timestamp with time zone)","ringfence.release_hold(uuid,text)",ringfence.replication_lag(),ringfence.retaining(),ringfence.retention_now()}',
	'operators place holds as well');
CREATE FUNCTION public.writable(who name) RETURNS SETOF text LANGUAGE sql STABLE
AS $$
	SELECT format('%s %s', c.oid::regclass, p.privilege)
	FROM pg_class AS c, unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p (privilege)
	WHERE c.relnamespace IN ('ringfence_data'::regnamespace, 'ringfence_v1'::regnamespace) AND c.relname ~ '^(retention_|legal_holds)'
		AND c.relkind IN ('r', 'p', 'v') AND (has_table_privilege(who, c.oid, p.privilege)
			OR (p.privilege IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(who, c.oid, p.privilege)))
	ORDER BY 1
$$;
SELECT is_empty(format('SELECT writable(%L)', who), who || ' writes none of its tables') FROM unnest('{ringfence_anon,ringfence_member,ringfence_operator}'::name[]) AS who;
SELECT is((SELECT array_agg(w) FROM writable('ringfence_jobs') AS w),
	'{ringfence_data.retention_batches INSERT,ringfence_data.retention_runs INSERT,ringfence_data.retention_runs UPDATE,ringfence_data.retention_stats INSERT,ringfence_data.retention_stats UPDATE}', 'jobs write what they did');
SELECT is(ARRAY[has_table_privilege('ringfence_jobs', 'public.item', 'SELECT'), has_table_privilege('ringfence_jobs', 'public.item', 'DELETE')], '{f,f}', 'and have no right on the rows');

SELECT ringfence.retain('public.item', 'at', '1 year');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is(failure(statement), '42501 permission denied for ' || what, 'a tenant: ' || statement)
FROM (VALUES
	('CALL ringfence.run_retention()', 'procedure run_retention'),
	('SELECT ringfence.begin_job()', 'function begin_job'),
	('SELECT ringfence.job_lock(''retention'')', 'function job_lock'),
	('SELECT ringfence.job_unlock(''retention'')', 'function job_unlock'),
	($$SELECT ringfence.retention_execute('{"kind": "policy"}')$$, 'function retention_execute'),
	($$SELECT s.statement FROM ringfence.retention_statement('{"kind": "policy"}', NULL) AS s$$, 'function retention_statement'),
	($$SELECT ringfence.retain('public.item', 'at', '1 day')$$, 'function retain'),
	($$SELECT ringfence.retain_forever('public.item', 'x')$$, 'function retain_forever'),
	($$SELECT ringfence.unretain('public.item')$$, 'function unretain'),
	('SELECT p.rows FROM ringfence.retention_preview() AS p', 'function retention_preview'),
	($$SELECT ringfence.place_hold('x')$$, 'function place_hold'),
	('SELECT ringfence.release_hold(ringfence.uuid7(), ''x'')', 'function release_hold'),
	('SELECT ringfence.retention_rollup()', 'function retention_rollup'),
	($$SELECT ringfence.record_purge(ringfence.org_id(), 'x', '{}')$$, 'function record_purge'),
	('SELECT ringfence.replication_lag()', 'function replication_lag'),
	('SELECT p.step FROM ringfence_data.retention_policies AS p', 'table retention_policies'),
	('SELECT r.rows FROM ringfence_data.retention_runs AS r', 'table retention_runs'),
	('SELECT r.rows FROM ringfence_v1.retention_progress AS r', 'view retention_progress'),
	($$INSERT INTO ringfence_data.legal_holds (org_id, id, reason, placed_login) VALUES (ringfence.org_id(), ringfence.uuid7(), 'x', 'x')$$, 'table legal_holds'),
	('UPDATE ringfence_data.legal_holds SET released_at = now()', 'table legal_holds'),
	('DELETE FROM ringfence_data.retention_batches', 'table retention_batches')
) AS r (statement, what);
SELECT is(failure('SET LOCAL ringfence.retention_clock = ''2500-01-01'''), '42501 permission denied to set parameter "ringfence.retention_clock"', 'a tenant has no clock');
COMMIT;
RESET SESSION AUTHORIZATION;

-- Who is no job: the database's owner, an operator

CREATE ROLE regress_dba LOGIN;
CREATE ROLE regress_job LOGIN;
CREATE ROLE regress_app;
GRANT ringfence_jobs TO regress_job;
GRANT CREATE ON SCHEMA public TO regress_app, regress_dba;
SELECT pg_get_userbyid(d.datdba) AS owner FROM pg_database AS d WHERE d.datname = current_database() \gset
ALTER DATABASE :DBNAME OWNER TO regress_dba;
\set said `psql -X -q -A -t -v VERBOSITY=verbose -U regress_dba -c 'CALL ringfence.run_retention()' 2>&1 | head -n 1`
SELECT is(:'said'::text, 'ERROR:  42501: permission denied for function begin_job', 'the database''s owner is no job');
SET SESSION AUTHORIZATION regress_dba;
SELECT is(failure('SELECT ringfence.begin_job()'), '42501 permission denied for function begin_job', 'and does not become one');
SELECT is(failure($$SELECT ringfence.retention_execute('{"kind": "due"}')$$), '42501 permission denied for function retention_execute', 'nor runs a task');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_operator;
SELECT is(failure('CALL ringfence.run_retention()'), '42501 permission denied for procedure run_retention', 'an operator is no job');
SELECT is(failure('SET ringfence.retention_clock = ''2500-01-01'''), '42501 permission denied to set parameter "ringfence.retention_clock"', 'and has no clock');
RESET SESSION AUTHORIZATION;
SELECT is(ids(), '{1,2,3,4}', 'nothing has happened');

-- Tasks that nobody declared

SELECT ringfence.retain('public.item', 'at', '1 year', filter => '{"v": "x"}');
SELECT ringfence.retain_forever('public.notes', 'kept');
SELECT 'public.item'::regclass::oid AS item, 'public.notes'::regclass::oid AS notes, 'ringfence_data.orgs'::regclass::oid AS orgs \gset
SET SESSION AUTHORIZATION regress_job;
SELECT is(failure(format('SELECT ringfence.retention_execute(%L, %L)', replace(replace(replace(task, ':item', :'item'), ':notes', :'notes'), ':orgs', :'orgs'), :'org_a')), answer, 'task ' || task)
FROM (VALUES
	('{}', '42704 there is nothing to do of that name'),
	('null', '22004 a task must be given'),
	('[]', '22004 a task must be given'),
	('{"kind": "sql", "statement": "DELETE FROM public.item RETURNING 1"}', '42704 there is nothing to do of that name'),
	('{"kind": "sql", "relation": ":item", "step": "delete"}', '42704 there is nothing to do of that name'),
	('{"relation": ":item", "step": "delete"}', '42704 there is nothing to do of that name'),
	('{"kind": null, "relation": ":item", "step": "delete"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": ":item"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": ":item", "step": "delete'' OR true --"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": ":item", "step": "other", "filter": {}, "keep": "0", "column_name": "at", "action": "delete"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": ":notes", "step": "forever"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": ":notes", "step": "delete"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": ":orgs", "step": "delete"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": "4294967295", "step": "delete"}', '42704 there is nothing to do of that name'),
	('{"kind": "policy", "relation": "public.item; DROP TABLE public.item", "step": "delete"}', '22P02 invalid input syntax for type oid: "public.item; DROP TABLE public.item"'),
	('{"kind": "policy", "relation": ":item", "step": "delete", "batch": "1; DROP TABLE public.item"}', '22P02 invalid input syntax for type integer: "1; DROP TABLE public.item"'),
	('{"kind": "policy", "relation": ":item", "step": "delete", "batch": 10, "due": "x''); DROP TABLE public.item; --", "place": "(0,1)"}', '22007 invalid input syntax for type timestamp with time zone: "x''); DROP TABLE public.item; --"'),
	('{"kind": "policy", "relation": ":item", "step": "delete", "batch": 10, "due": "2020-01-01", "place": "x'' OR true --"}', '22P02 invalid input syntax for type tid: "x'' OR true --"'),
	('{"kind": "policy", "relation": ":item", "step": "delete", "batch": 10, "audit_rows": "x"}', '22P02 invalid input syntax for type boolean: "x"')
) AS r (task, answer);
SELECT is(failure('SELECT ringfence.retention_execute(NULL)'), '22004 a task must be given', 'no task');
SELECT is(ids(), '{1,2,3,4}', 'nothing has happened');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(failure(format('SELECT ringfence.retention_execute(%L, %L)', jsonb_build_object('kind', 'policy', 'relation', :'item', 'step', 'delete', 'batch', 10), :'org_a')),
	'25000 rows are removed and anonymized under READ COMMITTED only', 'a snapshot that would not see a hold is none');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT alike(failure(format('SELECT ringfence.retention_execute(%L, %L)', jsonb_build_object('kind', 'policy', 'relation', :'item', 'step', 'delete', 'batch', 10), :'org_a')), '25000 %', 'in SERIALIZABLE as little');
COMMIT;
BEGIN READ ONLY;
SELECT alike(failure(format('SELECT ringfence.retention_execute(%L, %L)', jsonb_build_object('kind', 'policy', 'relation', :'item', 'step', 'delete', 'batch', 10), :'org_a')), '25006 %', 'nor where one only reads');
COMMIT;
-- A job that has entered an organization stays in it, and a task too
BEGIN;
SET LOCAL ROLE ringfence_jobs;
SELECT ringfence.enter_org(:'org_b', 'to look after it') \g /dev/null
SELECT is(failure(format('SELECT ringfence.retention_execute(%L, %L)', jsonb_build_object('kind', 'policy', 'relation', :'item', 'step', 'delete', 'batch', 10), :'org_a')),
	'42501 the context of this transaction is already fixed', 'another organization than the one entered');
COMMIT;
SELECT is(ids(), '{1,2,3,4}', 'nothing has happened still');
-- What is declared is done as it was declared, whatever else the task says
SELECT ringfence.retention_execute(format('{"kind": "policy", "relation": "%s", "step": "delete", "batch": 10, "filter": null, "keep": "1 second", "org": "%s", "column_name": "id"}', :'item', :'org_b')::jsonb, :'org_a') ->> 'done' AS done \gset
SELECT is(:'done' || ' ' || ids()::text, '1 {2,3,4}', 'what a task says beyond the name counts for nothing');
RESET SESSION AUTHORIZATION;

-- Names and values that are SQL

CREATE TABLE public.canary (n integer);
INSERT INTO public.canary VALUES (1);
CREATE TABLE public."ta""ble'; DROP TABLE public.canary; --" (
	"i""d'" integer PRIMARY KEY,
	"at'; DROP TABLE public.canary; -- %s %I %1$s" timestamptz,
	"c""' OR true --" text,
	"d%L $1 \x" text,
	"e') IS NULL; DROP TABLE public.canary; --email" text
);
SELECT ringfence.protect($$public."ta""ble'; DROP TABLE public.canary; --"$$, '{"owner": "all"}');
SELECT $$public."ta""ble'; DROP TABLE public.canary; --"$$ AS t \gset
CREATE INDEX ON :t (org_id, "at'; DROP TABLE public.canary; -- %s %I %1$s");
INSERT INTO :t (org_id, "i""d'", "at'; DROP TABLE public.canary; -- %s %I %1$s", "c""' OR true --", "d%L $1 \x", "e') IS NULL; DROP TABLE public.canary; --email") VALUES
	(:'org_a', 1, '2020-01-01', 'x'' OR true --', 'a', 'b'), (:'org_a', 2, '2020-01-01', '%s $$ \', 'a', 'b'), (:'org_a', 3, '2020-01-01', 'x', 'a', 'b'), (:'org_a', 4, '2025-12-31', 'x'' OR true --', 'a', 'b'),
	(:'org_b', 5, '2020-01-01', '{', 'a', 'b'), (:'org_b', 6, '2020-01-01', 'a,b"', 'a', 'b');
SELECT ringfence.retain(:'t', $$at'; DROP TABLE public.canary; -- %s %I %1$s$$, '1 year',
	filter => jsonb_build_object($$c"' OR true --$$, jsonb_build_array($$x' OR true --$$, $$%s $$ || '$$' || $$ \$$, '{', 'a,b"')));
SELECT ringfence.retain(:'t', $$at'; DROP TABLE public.canary; -- %s %I %1$s$$, '1 month', 'anonymize',
	jsonb_build_object($$d%L $1 \x$$, jsonb_build_object('constant', $$'; DROP TABLE public.canary; --$$ || ' %s $$ \'), $$e') IS NULL; DROP TABLE public.canary; --email$$, 'pseudonym'));
CALL ringfence.run_retention(60, :'t');
SELECT is((SELECT array_agg("i""d'" ORDER BY "i""d'") FROM :t), '{3,4}', 'the rows that the filter picks are gone, and no other');
SELECT results_eq(format($f$SELECT "d%%L $1 \x", "e') IS NULL; DROP TABLE public.canary; --email" ~ '^anon-[0-9a-f]{32}@anonymous\.invalid$' FROM %s ORDER BY "i""d'"$f$, :'t'),
	$$VALUES ('''; DROP TABLE public.canary; -- %s $' || '$ \', true), ('a', false)$$, 'what is due is what the rules say, to the letter');
SELECT is((SELECT r.state || ' ' || r.rows FROM last_run AS r), 'finished 5', 'without an error');
SELECT is((SELECT count(*) FROM public.canary), 1::bigint, 'nothing else has happened');
SELECT ringfence.place_hold('x', :'t', rows => jsonb_build_object($$c"' OR true --$$, $$x') OR true; DROP TABLE public.canary; --$$)) \g /dev/null
SELECT ringfence.place_hold('x', :'t', rows => jsonb_build_object($$c"' OR true --$$, 'x')) \g /dev/null
SET ringfence.retention_clock = '2500-01-01 00:00+00';
SELECT ringfence.unretain(:'t') \g /dev/null
SELECT ringfence.retain(:'t', $$at'; DROP TABLE public.canary; -- %s %I %1$s$$, '1 year');
CALL ringfence.run_retention(60, :'t');
SET ringfence.retention_clock = '2026-01-01 00:00+00';
SELECT is((SELECT array_agg("i""d'" ORDER BY "i""d'") FROM :t), '{3}', 'a hold picks what its filter says');
SELECT is((SELECT count(*) FROM public.canary), 1::bigint, 'and nothing else has happened');
SELECT is(failure(format('SELECT ringfence.%s', call)), answer, call)
FROM (VALUES
	($$retain('public.item', 'at; DROP TABLE public.canary', '1 year')$$, '42703 column "at; DROP TABLE public.canary" of table public.item does not exist'),
	($$retain('public.item', 'at', '1 year', 'delete; DROP TABLE public.canary')$$, '22023 invalid action "delete; DROP TABLE public.canary"'),
	($$retain('public.item', 'at', '1 year', filter => '{"v OR true": "x"}')$$, '42703 column "v OR true" of table public.item does not exist'),
	($$retain('public.item', 'at', '1 year', 'anonymize', '{"v = (SELECT 1)": "null"}')$$, '42703 column "v = (SELECT 1)" of table public.item does not exist'),
	($$place_hold('x', 'public.item', rows => '{"v OR false": "x"}')$$, '42703 column "v OR false" of table public.item does not exist')
) AS r (call, answer);

-- Triggers of a table's owner

CREATE SCHEMA regress_app AUTHORIZATION regress_app;
GRANT USAGE ON SCHEMA regress_app TO PUBLIC;
CREATE TABLE public.audited (id integer PRIMARY KEY, v text);
SELECT ringfence.protect('public.audited', row_class => 'system');
INSERT INTO public.audited VALUES (1, 'as it was');
CREATE POLICY regress_app ON public.audited TO regress_app USING (true);
CREATE TABLE public.owned (org_id uuid NOT NULL, id integer, at timestamptz, command text);
CREATE INDEX ON public.owned (org_id, at);
ALTER TABLE public.owned OWNER TO regress_app;
SELECT ringfence.retain('public.owned', 'at', '1 year');
SET ROLE regress_app;
-- Who was who, and what came of it.
CREATE TABLE regress_app.log (what text, who name);
GRANT INSERT ON regress_app.log TO PUBLIC;
CREATE TABLE regress_app.more (n integer);
CREATE FUNCTION regress_app.note(what text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ BEGIN INSERT INTO regress_app.log VALUES (what, current_user); RETURN true; END $$;
CREATE FUNCTION regress_app.try() RETURNS trigger LANGUAGE plpgsql
AS $$
BEGIN
	EXECUTE OLD.command;
	PERFORM regress_app.note('done');
	RETURN OLD;
EXCEPTION WHEN OTHERS THEN
	PERFORM regress_app.note(SQLSTATE || ' ' || SQLERRM);
	RETURN OLD;
END
$$;
CREATE TRIGGER try BEFORE DELETE ON public.owned FOR EACH ROW EXECUTE FUNCTION regress_app.try();
CREATE FUNCTION regress_app.fired() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM regress_app.note('fired'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER fired AFTER INSERT ON regress_app.more DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION regress_app.fired();
CREATE FUNCTION regress_app.arrow(a jsonb, b text) RETURNS text LANGUAGE plpgsql
AS $$ BEGIN PERFORM regress_app.note('operator'); RETURN jsonb_extract_path_text(a, b); END $$;
CREATE OPERATOR regress_app.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = regress_app.arrow);
RESET ROLE;
CREATE FUNCTION public.attempts() RETURNS SETOF text LANGUAGE sql
AS $$ WITH l AS (DELETE FROM regress_app.log RETURNING what, who) SELECT l.who || ': ' || l.what FROM l GROUP BY l.who, l.what ORDER BY 1 $$;
CREATE FUNCTION public.try(command text) RETURNS void LANGUAGE sql
AS $$ INSERT INTO public.owned VALUES ('0aaaaaaa-0000-7000-8000-00000000000a', 1, '2020-01-01', try.command) $$;

\set ON_ERROR_STOP off
SELECT try('SELECT 1') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT attempts()', '{regress_app: done}'::text[], 'a trigger runs as the table''s owner');
SELECT try('SET ROLE ringfence_jobs') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT attempts()', '{"regress_app: 42501 cannot set parameter \"role\" within security-definer function"}'::text[], 'who can''t be the job');
SELECT try('RESET ROLE') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT attempts()', '{"regress_app: 42501 cannot set parameter \"role\" within security-definer function"}'::text[], 'nor the one who called it');
SELECT try('SET SESSION AUTHORIZATION DEFAULT') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT attempts()', '{"regress_app: 42501 cannot set parameter \"session_authorization\" within security-definer function"}'::text[], 'by whatever name');
SELECT try($$SELECT ringfence.retention_execute('{"kind": "due"}')$$) \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT alike((SELECT string_agg(a, ' ') FROM attempts() AS a), 'regress_app: 42501 permission denied for %', 'nor call what the job calls');
GRANT SELECT, UPDATE ON public.audited TO regress_app;
SELECT try('UPDATE public.audited SET v = ''written amid a purge''') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT a.v FROM public.audited AS a', '{written amid a purge}'::text[], 'what it writes by rights of its own');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	WHERE r.name = 'public.audited' AND l.operation = 'UPDATE' AND l.new ->> 'v' = 'written amid a purge'), 1::bigint, 'is on record as ever');
SELECT attempts() \g /dev/null
SELECT try('DELETE FROM public.item') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT attempts()', '{regress_app: 42501 permission denied for table item}'::text[], 'nor write other tables');
SELECT is(ids(), '{2,3,4}', 'which stay as they are');

SELECT try('SET search_path = regress_app, pg_catalog') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT current_setting('search_path') AS path \gset
RESET search_path;
SELECT results_eq('SELECT attempts()', '{regress_app: done}'::text[], 'a search_path that a trigger sets finds the job no operator');
SELECT is(:'path', current_setting('search_path'), 'and is over with the batch');
SELECT try($$SELECT set_config('row_security', 'off', false), set_config('lock_timeout', '0', false), set_config('ringfence.retention_max_lag', '-1', false)$$) \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT current_setting(''row_security''), current_setting(''lock_timeout''), current_setting(''ringfence.retention_max_lag'')', $$VALUES ('on', '0', '64MB')$$, 'as is any other setting');
SELECT attempts() \g /dev/null

SELECT try('DECLARE c CURSOR WITH HOLD FOR SELECT regress_app.note(''held'')') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT is((SELECT array_agg(DISTINCT split_part(a, ':', 1)) FROM attempts() AS a), '{regress_app}', 'a cursor that is held is not read by the job');
CLOSE ALL;
SELECT try('SET CONSTRAINTS ALL DEFERRED; INSERT INTO regress_app.more VALUES (1)') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT is((SELECT array_agg(DISTINCT split_part(a, ':', 1)) FROM attempts() AS a), '{regress_app}', 'a deferred trigger is not run by the job')
FROM (SELECT count(*) FROM public.owned) AS o;
DELETE FROM public.owned;
SELECT try('INSERT INTO regress_app.more VALUES (2)') \g /dev/null
SELECT attempts() \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT results_eq('SELECT attempts()', '{regress_app: done,regress_app: fired}'::text[], 'one that a trigger sets off is run with it');
SELECT try('CREATE TEMPORARY TABLE retention_policies (relation regclass)') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT is((SELECT count(*) FROM attempts() AS a WHERE a LIKE 'regress_app: 42501 %'), 1::bigint, 'it leaves no temporary object behind');
SELECT try('SELECT ringfence.set_context(''0bbbbbbb-0000-7000-8000-00000000000b'', NULL, ''{owner}'')') \g /dev/null
CALL ringfence.run_retention(60, 'public.owned');
SELECT alike((SELECT string_agg(a, ' ') FROM attempts() AS a), 'regress_app: 42501 %', 'nor another context');
\set ON_ERROR_STOP on
-- One that can be told apart from all others runs in every organization's context alike
SET ROLE regress_app;
CREATE OR REPLACE FUNCTION regress_app.try() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = 'P0001'; END $$;
RESET ROLE;
DELETE FROM public.owned WHERE command IS NULL;
INSERT INTO public.owned SELECT :'org_a', n, '2020-01-01', NULL FROM generate_series(1, 3000) AS n;
CALL ringfence.run_retention(60, 'public.owned');
SELECT is((SELECT count(*) FROM public.owned), 3000::bigint, 'a trigger that refuses all keeps all');
SELECT is((SELECT count(*) < 100 FROM ringfence_data.retention_batches AS b INNER JOIN last_run AS r ON r.id = b.run_id), true, 'and is given up on');
SELECT ringfence.unretain('public.owned') \g /dev/null

-- Objects in the way of names, wherever the caller's search_path leads

SET ROLE regress_app;
CREATE FUNCTION regress_app.is_value(x anyelement) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN regress_app.note('value ' || pg_typeof(x)::text); END $$;
CREATE DOMAIN regress_app.uuid AS pg_catalog.uuid CHECK (regress_app.is_value(VALUE));
CREATE DOMAIN regress_app.jsonb AS pg_catalog.jsonb CHECK (regress_app.is_value(VALUE));
CREATE DOMAIN regress_app.timestamptz AS pg_catalog.timestamptz CHECK (regress_app.is_value(VALUE));
CREATE DOMAIN regress_app.text AS pg_catalog.text CHECK (regress_app.is_value(VALUE));
CREATE DOMAIN regress_app.int8 AS pg_catalog.int8 CHECK (regress_app.is_value(VALUE));
CREATE DOMAIN regress_app.float8 AS pg_catalog.float8 CHECK (regress_app.is_value(VALUE));
CREATE FUNCTION regress_app.clock_timestamp() RETURNS pg_catalog.timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_app.note('function'); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION regress_app.equals(a pg_catalog.float8, b integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_app.note('operator'); RETURN a OPERATOR(pg_catalog.=) b::pg_catalog.float8; END $$;
CREATE FUNCTION regress_app.at_least(a pg_catalog.timestamptz, b pg_catalog.timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_app.note('operator'); RETURN a OPERATOR(pg_catalog.>=) b; END $$;
CREATE OPERATOR regress_app.= (LEFTARG = pg_catalog.float8, RIGHTARG = integer, FUNCTION = regress_app.equals);
CREATE OPERATOR regress_app.>= (LEFTARG = pg_catalog.timestamptz, RIGHTARG = pg_catalog.timestamptz, FUNCTION = regress_app.at_least);
CREATE TABLE regress_app.retention_policies (relation regclass);
RESET ROLE;
TRUNCATE regress_app.log;
-- A session of its own: what is compiled is compiled there
\setenv PGOPTIONS '-c search_path=regress_app,pg_catalog -c ringfence.retention_rest=0'
\! psql -X -q -c "CALL ringfence.run_retention(60, 'public.item')"
\setenv PGOPTIONS ''
SELECT is_empty('SELECT attempts()', 'nothing in the caller''s search_path is taken for what is meant');
SELECT is(ids(), '{2,3}', 'and a run does what it should');
SET search_path = regress_app, pg_catalog;
SELECT p.step FROM ringfence.retention_preview() AS p \g /dev/null
SELECT ringfence.retain('public.item', 'at', '1 year', filter => '{"v": "x"}');
SELECT ringfence.place_hold('x', 'public.item', rows => '{"id": 17}') AS hold \gset
SELECT ringfence.release_hold(:'hold', 'x');
SET search_path = public, pg_catalog;
SELECT is_empty('SELECT attempts() AS a EXCEPT SELECT ''regress_app: x''', 'nor by what declares and shows');
RESET search_path;

-- What is somebody else's to declare

CREATE TABLE public.root (id integer PRIMARY KEY, at timestamptz, command text);
CREATE INDEX ON public.root (at);
INSERT INTO public.root VALUES (1, '2020-01-01', 'SELECT 1');
SET SESSION AUTHORIZATION regress_dba;
SELECT is(failure(format('SELECT ringfence.%s', call)), '42501 must be owner of table public.root', 'a table that is not the declarer''s: ' || call)
FROM unnest(ARRAY[
	$$retain('public.root', 'at', '1 year')$$,
	$$retain('public.root', 'at', '1 year', 'anonymize', '{"command": {"constant": "ALTER ROLE regress_dba SUPERUSER"}}')$$,
	$$retain_forever('public.root', 'mine')$$
]) AS call;
CREATE TABLE public.mine (id integer, at timestamptz, v text);
CREATE INDEX ON public.mine (at);
INSERT INTO public.mine VALUES (1, '2020-01-01', 'x'), (2, '2025-12-31', 'x');
SELECT is(failure($$SELECT ringfence.retain('public.mine', 'at', '1 year')$$), 'nothing', 'one''s own is one''s own');
SELECT is(failure($$SELECT ringfence.retain('public.item', 'at', '2 years')$$), '42501 must be owner of table public.item', 'one that is protected is its owner''s');
-- What types and domains run, they run as nobody better
CREATE SCHEMA regress_dba;
CREATE TABLE regress_dba.log (who name);
GRANT USAGE ON SCHEMA regress_dba TO PUBLIC;
GRANT INSERT ON regress_dba.log TO PUBLIC;
CREATE FUNCTION regress_dba.is_fine(x text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO regress_dba.log VALUES (current_user); RETURN true; END $$;
CREATE DOMAIN regress_dba.fine AS text CHECK (regress_dba.is_fine(VALUE));
CREATE TABLE public.domains (id integer, at timestamptz, v regress_dba.fine);
CREATE INDEX ON public.domains (at);
SELECT ringfence.retain('public.domains', 'at', '1 year', filter => '{"v": "x"}');
RESET SESSION AUTHORIZATION;
SELECT ringfence.place_hold('x', 'public.domains', rows => '{"v": ["x", "y"]}') \g /dev/null
INSERT INTO public.domains SELECT n, '2020-01-01', 'z' FROM generate_series(1, 2) AS n;
TRUNCATE regress_dba.log;
SELECT ringfence.place_hold('x', 'public.domains', rows => '{"v": "z"}') \g /dev/null
CALL ringfence.run_retention(60, 'public.domains');
SELECT is_empty('SELECT l.who FROM regress_dba.log AS l WHERE l.who <> ''regress_dba''', 'a domain''s check runs as nobody who has more rights');
CALL ringfence.run_retention(60, 'public.mine');
SELECT is((SELECT array_agg(m.id) FROM public.mine AS m), '{2}', 'what is the declarer''s own goes');
SELECT is((SELECT r.command FROM public.root AS r), 'SELECT 1', 'what isn''t stays as it is');
-- A table of ringfence's own stays what it is, whoever declares
CREATE INDEX audit_log_regress_idx ON ringfence_data.audit_log (org_id, recorded_at);
SELECT count(*) AS records FROM ringfence_data.audit_log \gset
SELECT failure($$SELECT ringfence.retain('ringfence_data.audit_log', 'recorded_at', '1 second')$$) \g /dev/null
SELECT failure($$SELECT ringfence.retain('ringfence_data.legal_holds', 'placed_at', '1 second')$$) \g /dev/null
SET ringfence.retention_clock = '2500-01-01';
CALL ringfence.run_retention(60, 'ringfence_data.audit_log');
CALL ringfence.run_retention(60, 'ringfence_data.legal_holds');
SET ringfence.retention_clock = '2026-01-01 00:00+00';
SELECT is((SELECT count(*) >= :records FROM ringfence_data.audit_log), true, 'no policy removes a record of the audit log');
SELECT is((SELECT count(*) > 0 FROM ringfence_data.legal_holds), true, 'nor a hold');

-- Another organization's

INSERT INTO ringfence_data.users (id, email) VALUES ('aaaaaaaa-0000-4000-8000-0000000000a2', 'worker@a.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES (:'org_a', 'aaaaaaaa-0000-4000-8000-0000000000a2', '{worker}');
SELECT ringfence.retain('public.item', 'at', '1 year', min_keep => '1 day', max_keep => '10 years');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT ringfence_v1.place_hold('a dispute', 'public.item', rows => '{"id": 2}') AS hold_a \gset
SELECT ringfence_v1.set_retention('public.item', 'delete', '2 years');
COMMIT;
BEGIN;
SELECT claim(:'claims_b');
SELECT is(failure(format('SELECT ringfence_v1.release_hold(%L, ''x'')', :'hold_a')), 'PT404 hold not found', 'a hold of another organization''s can''t be released');
SELECT is((SELECT count(*) FROM ringfence_v1.legal_holds), 0::bigint, 'or seen');
SELECT results_eq($$SELECT r.keep FROM ringfence_v1.retention AS r WHERE r.relation = 'public.item'$$, '{1 year}'::interval[], 'nor its period');
SELECT ringfence_v1.set_retention('public.item', 'delete', '1 day');
SELECT ringfence_v1.place_hold('ours') AS hold_b \gset
SELECT is(failure(format('SELECT ringfence_v1.place_hold(%s)', call)), answer, 'place_hold ' || call)
FROM (VALUES
	($$'x', 'ringfence_data.orgs'$$, 'PT404 table not found'), ($$'x', 'ringfence_data.retention_policies'$$, 'PT404 table not found'), ($$'x', 'pg_catalog.pg_class'$$, 'PT404 table not found'),
	($$'x', 'public.root'$$, 'PT404 table not found'), ($$'x', 'nowhere.nothing'$$, 'PT404 table not found'), ($$'x', 'public.item'';'$$, 'PT404 table not found'),
	($$'x', 'public.item', rows => '{"nope": 1}'$$, '42703 column "nope" of table public.item does not exist'), ($$' '$$, '23502 a reason is required for a hold'),
	($$'x', subject_kind => 'nobody', subject_id => ringfence.uuid7()$$, '42704 no table is declared to be about a "nobody"')
) AS r (call, answer);
COMMIT;
BEGIN;
SELECT claim('{"role": "ringfence_member", "sub": "aaaaaaaa-0000-4000-8000-0000000000a2", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}');
SELECT alike(failure(statement), '42501 %', 'a worker: ' || statement)
FROM unnest(ARRAY[$$SELECT ringfence_v1.set_retention('public.item', 'delete', '1 day')$$, $$SELECT ringfence_v1.place_hold('x')$$, format('SELECT ringfence_v1.release_hold(%L, ''x'')', :'hold_a')]) AS statement;
SELECT is((SELECT (SELECT count(*) FROM ringfence_v1.retention) + (SELECT count(*) FROM ringfence_v1.legal_holds) + (SELECT count(*) FROM ringfence_v1.retention_batches) + (SELECT count(*) FROM ringfence_v1.retention_stats)), 0::bigint, 'who sees nothing of it');
COMMIT;
RESET SESSION AUTHORIZATION;
-- What an operator holds in an organization, or in all, it does not release
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'a court order') \g /dev/null
SELECT ringfence.place_hold('a court order', 'public.item', rows => '{"id": 2}') AS hold_o \gset
COMMIT;
SELECT ringfence.place_hold('a court order for all', 'public.notes') AS hold_all \gset
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is(failure(format('SELECT ringfence_v1.release_hold(%L, ''x'')', :'hold_o')), '42501 the hold was placed by an operator', 'an operator''s hold stays');
SELECT is(failure(format('SELECT ringfence_v1.release_hold(%L, ''x'')', :'hold_all')), 'PT404 hold not found', 'one on all is nobody''s');
SELECT lives_ok(format('SELECT ringfence_v1.release_hold(%L, ''settled'')', :'hold_a'), 'its own it releases');
SELECT is(failure(format('SELECT ringfence_v1.release_hold(%L, ''x'')', :'hold_a')), 'PT404 hold not found', 'once');
COMMIT;
RESET SESSION AUTHORIZATION;
UPDATE public.item SET at = '2020-01-01' WHERE id IN (2, 3);
CALL ringfence.run_retention(60, 'public.item');
SELECT is(ids(), '{2}', 'what the operator holds is kept, whatever the organization did');

DROP OWNED BY regress_app, regress_dba, regress_job;
ALTER DATABASE :DBNAME OWNER TO :owner;
DROP ROLE regress_app, regress_dba, regress_job;
SELECT * FROM finish();
