-- audit_event() records what changed no table: for those who may, of the
-- organization they are in, in words that are bounded; with the transaction, or
-- apart from it, where a rollback doesn't take it along and READ ONLY doesn't stop
-- it.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(60);

CREATE ROLE regress_audit_job LOGIN IN ROLE ringfence_jobs;
CREATE TABLE public.t (id integer PRIMARY KEY);
SELECT ringfence.audit('public.t') \g /dev/null
CREATE FUNCTION public.last_event() RETURNS jsonb LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('operation', n.operation, 'action', n.action, 'subject', n.key, 'details', n.new, 'reason', n.reason,
		'org', nullif(n.org_id, '00000000-0000-0000-0000-000000000000'), 'actor', n.actor, 'user', n.user_id, 'login', n.login, 'role', n.role,
		'request', n.request_id, 'old', n.old, 'personal', n.personal, 'relation', n.relation_id))
	FROM public.newest AS n
$$;

-- What is recorded

SELECT ringfence.audit_event('export.started') AS id \gset
SELECT is(last_event(), '{"operation": "EVENT", "action": "export.started", "actor": "system", "login": "postgres", "role": "postgres"}', 'an action is enough');
SELECT is((SELECT id FROM newest), :'id', 'its record''s id is returned');
SELECT ringfence.audit_event('invoice.sent_by.e_mail2', 'invoice 7', '{"pages": 2, "to": {"name": "x", "api_key": "k"}, "token": ["t"]}', 'asked to', :'org_a') AS id \gset
SELECT is(last_event(), jsonb_build_object('operation', 'EVENT', 'action', 'invoice.sent_by.e_mail2', 'subject', 'invoice 7',
	'details', '{"pages": 2, "to": {"name": "x", "api_key": "[secret]"}, "token": "[secret]"}'::jsonb, 'reason', 'asked to', 'org', :'org_a',
	'actor', 'system', 'login', 'postgres', 'role', 'postgres'), 'subject, details without their secrets, reason, organization');
BEGIN;
SELECT ringfence.set_context(:'org_b', :'user_b', '{owner}');
SET LOCAL ringfence.reason = 'by setting';
SELECT ringfence.audit_event('a.b') \g /dev/null
SELECT is(last_event(), jsonb_build_object('operation', 'EVENT', 'action', 'a.b', 'reason', 'by setting', 'org', :'org_b', 'actor', 'user', 'user', :'user_b',
	'login', 'postgres', 'role', 'postgres'), 'the context''s organization, and the reason in force, where none is given');
SELECT ringfence.audit_event('a.b', reason => 'mine', org => NULL) \g /dev/null
SELECT is(last_event() - '{actor,user,login,role}'::text[], '{"operation": "EVENT", "action": "a.b", "reason": "mine"}', 'or another one, or none');
COMMIT;
SELECT count(*) AS ignored FROM news() \gset
INSERT INTO t SELECT 1 FROM (SELECT ringfence.audit_event('first.of_all')) AS e;
SELECT ringfence.audit_event('a.b', n::text) FROM generate_series(1, 3) AS n \g /dev/null
SELECT results_eq('SELECT news()', ARRAY['EVENT first.of_all', 'INSERT t 1 -> {"id": 1}', 'EVENT a.b 1', 'EVENT a.b 2', 'EVENT a.b 3'], 'in order, among the changes');

-- What is not

SELECT throws_ok(format('SELECT ringfence.audit_event(%L)', a), '22023', 'invalid action of an audit event', coalesce('no action: ' || a, 'no action'))
FROM unnest(ARRAY[NULL, '', 'word', '.', 'a.', '.a', 'a..b', 'A.b', 'a.B', '1.a', '_a.b', 'a b.c', 'a.b-c', E'a.b\n', 'é.a', repeat('a', 62) || '.b']) AS a;
SELECT lives_ok(format('SELECT ringfence.audit_event(%L)', repeat('a', 61) || '.b'), 'an action of 63 bytes');
SELECT throws_ok(format('SELECT ringfence.audit_event(%L, details => %L)', 'a.b', d), '22023', 'invalid details of an audit event', 'no details: ' || d)
FROM unnest(ARRAY['null', '1', '"text"', '[]', '[{"a": 1}]']) AS d;
SELECT lives_ok(format('SELECT ringfence.audit_event(%L, %L, %L, %L)', 'a.b', repeat('é', 500), '{}', repeat('é', 500)), 'a subject and a reason of 1,000 bytes');
SELECT throws_ok(format('SELECT ringfence.audit_event(%L, %L)', 'a.b', 'x' || repeat('é', 500)), '22023', 'the subject of an audit event is too long', 'a longer subject');
SELECT throws_ok(format('SELECT ringfence.audit_event(%L, reason => %L)', 'a.b', 'x' || repeat('é', 500)), '22023', 'the reason of an audit event is too long', 'a longer reason');
SELECT lives_ok($$SELECT ringfence.audit_event('a.b', details => jsonb_build_object('k', repeat('x', 1000000)))$$, 'details of 1 MB');
SELECT throws_ok($$SELECT ringfence.audit_event('a.b', details => jsonb_build_object('k', repeat('x', 1100000)))$$, '22023', 'invalid details of an audit event', 'longer ones');
SELECT throws_ok($$SELECT ringfence.audit_event('A.b', apart => true)$$, '22023', 'invalid action of an audit event', 'apart it is looked at as well');
SELECT count(*) AS ignored FROM news() \gset

-- Rollback, and apart from it

BEGIN;
SELECT ringfence.audit_event('is.gone') \g /dev/null
SAVEPOINT one;
SELECT ringfence.audit_event('is.gone_too') \g /dev/null
ROLLBACK TO one;
SELECT results_eq('SELECT news()', ARRAY['EVENT is.gone'], 'what a savepoint takes back');
ROLLBACK;
SELECT is_empty('SELECT news()', 'and a transaction');
BEGIN;
INSERT INTO t VALUES (2);
SELECT pg_current_xact_id()::text AS xid \gset
SELECT ringfence.audit_event('stays.here', 's', '{"password": "p", "k": 1}', 'r', :'org_a', apart => true) AS id \gset
SELECT ok(id = :'id' AND transaction_id <> :'xid'::bigint, 'apart there is a record at once, of a transaction of its own') FROM newest;
ROLLBACK;
SELECT results_eq('SELECT news()', ARRAY['EVENT stays.here s {"k": 1, "password": "[secret]"}'], 'which stays when the caller''s is rolled back');
SELECT is(last_event() - '{operation,action,subject,details}'::text[], jsonb_build_object('reason', 'r', 'org', :'org_a', 'actor', 'system', 'login', 'postgres', 'role', 'postgres'),
	'with the caller as its origin');
DO $$
BEGIN
	BEGIN
		PERFORM ringfence.audit_event('was.refused', apart => true), ringfence.audit_event('was.tried');
		RAISE EXCEPTION 'refused';
	EXCEPTION WHEN raise_exception THEN
		INSERT INTO t VALUES (3);
	END;
END
$$;
SELECT results_eq('SELECT news()', ARRAY['EVENT was.refused', 'INSERT t 3 -> {"id": 3}'], 'or a subtransaction');
BEGIN READ ONLY;
SELECT ringfence.audit_event('only.read', 's') AS id \gset
SELECT results_eq('SELECT id FROM newest', ARRAY[:'id'::uuid], 'a READ ONLY transaction leaves one as well');
ROLLBACK;
SELECT results_eq('SELECT news()', ARRAY['EVENT only.read s'], 'which stays');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) AS before FROM ringfence_data.audit_log \gset
SELECT ringfence.audit_event('seen.later', apart => true) \g /dev/null
SELECT is((SELECT count(*) FROM ringfence_data.audit_log), :'before'::bigint, 'an older snapshot doesn''t see it');
COMMIT;
SELECT results_eq('SELECT news()', ARRAY['EVENT seen.later'], 'the next one does');
SELECT format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()),
	format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()) \gexec
SELECT ringfence.audit_event('past.settings', apart => true) \g /dev/null
SELECT results_eq('SELECT news()', ARRAY['EVENT past.settings'], 'settings of the database that are meant for clients don''t stop it');
SELECT format('ALTER DATABASE %I RESET ALL', current_database()) \gexec
SELECT ringfence.audit_event('a.b', n::text, apart => true) FROM generate_series(1, 20) AS n \g /dev/null
SELECT is((SELECT count(*) FROM news()), 20::bigint, 'many of them one after the other');

-- Who may

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok($$SELECT ringfence.audit_event('a.b')$$, '42501', 'permission denied for function audit_event', 'a member may not');
SELECT throws_ok($$SELECT ringfence.audit_reading()$$, '42501', 'permission denied for function audit_reading', 'nor say that it reads');
COMMIT;
BEGIN;
SELECT claim('{"role": "ringfence_anon"}', 'ringfence_anon');
SELECT throws_ok($$SELECT ringfence.audit_event('a.b')$$, '42501', NULL, 'nor may nobody');
COMMIT;
SET SESSION AUTHORIZATION regress_operator;
SELECT throws_ok($$SELECT ringfence.audit_event('a.b')$$, '42501', 'permission denied to record an event of that organization', 'nor an operator who has entered none');
SELECT throws_ok(format('SELECT ringfence.audit_event(%L, org => %L)', 'a.b', :'org_a'), '42501', 'permission denied to record an event of that organization', 'of any');
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'ticket 1') \g /dev/null
SELECT ringfence.audit_event('records.shown', 's') \g /dev/null
SELECT is(last_event(), jsonb_build_object('operation', 'EVENT', 'action', 'records.shown', 'subject', 's', 'reason', 'ticket 1', 'org', :'org_a', 'actor', 'operator',
	'login', 'regress_operator', 'role', 'regress_operator'), 'one who has may, of that one');
SELECT throws_ok(format('SELECT ringfence.audit_event(%L, org => %L)', 'a.b', :'org_b'), '42501', 'permission denied to record an event of that organization', 'not of another');
SELECT throws_ok($$SELECT ringfence.audit_event('a.b', org => NULL)$$, '42501', 'permission denied to record an event of that organization', 'nor of none');
SELECT throws_ok(format('SELECT ringfence.audit_event(%L, org => %L, apart => true)', 'a.b', :'org_b'), '42501', 'permission denied to record an event of that organization', 'apart neither');
COMMIT;
SET SESSION AUTHORIZATION regress_audit_job;
SELECT throws_ok(format('SELECT ringfence.audit_event(%L, org => %L)', 'a.b', :'org_a'), '42501', 'permission denied to record an event of that organization', 'a job that has entered none');
BEGIN;
SELECT ringfence.enter_org(:'org_b', 'nightly') \g /dev/null
SELECT ringfence.audit_event('report.made', apart => true) \g /dev/null
SELECT is(last_event(), jsonb_build_object('operation', 'EVENT', 'action', 'report.made', 'reason', 'nightly', 'org', :'org_b', 'actor', 'job',
	'login', 'regress_audit_job', 'role', 'regress_audit_job'), 'and one that has');
COMMIT;
RESET SESSION AUTHORIZATION;
-- Code of the apps acts for members.
CREATE FUNCTION public.send_invoice(org uuid) RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT ringfence.audit_event('invoice.sent', org => org) $$;
ALTER FUNCTION public.send_invoice(uuid) OWNER TO ringfence_owner;
GRANT EXECUTE ON FUNCTION public.send_invoice(uuid) TO ringfence_member;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT set_config('request.headers', '{"x-request-id": "r1"}', true) \g /dev/null
SELECT claim(:'claims_a');
SELECT send_invoice(ringfence.org_id()) \g /dev/null
SELECT is(last_event(), jsonb_build_object('operation', 'EVENT', 'action', 'invoice.sent', 'org', :'org_a', 'actor', 'user', 'user', :'user_a',
	'login', 'regress_web', 'role', 'ringfence_owner', 'request', 'r1'), 'ringfence_owner''s code records events of a member''s request');
COMMIT;
RESET SESSION AUTHORIZATION;

-- Past what is on record
CREATE TABLE public.reasoned (id integer PRIMARY KEY);
SELECT ringfence.audit('public.reasoned', require_reason => true) \g /dev/null
SELECT lives_ok($$SELECT ringfence.audit_event('a.b')$$, 'an event needs no reason');
SELECT count(*) AS ignored FROM news() \gset
SELECT ringfence.unaudit('public.reasoned') \g /dev/null
INSERT INTO reasoned VALUES (1);
SELECT results_eq('SELECT news()', ARRAY['EVENT audit.detached public.reasoned'], 'that a table is audited no longer is the last that is recorded of it');

DROP OWNED BY regress_audit_job;
DROP ROLE regress_audit_job;
SELECT * FROM finish();
