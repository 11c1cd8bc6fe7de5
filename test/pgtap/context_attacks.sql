-- Attacks on the context from inside a request, from a pooled connection and
-- from other logins. Each shows what the attacker gets: an error, or nothing of
-- the other organization.
\ir include/tenants.sql
CREATE ROLE regress_attack_login LOGIN;
GRANT ringfence_member, ringfence_anon TO regress_attack_login;
CREATE FUNCTION public.forged_pin() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
AS 'SELECT ringfence.org_id()';
SELECT ringfence.add_jwt_key('attack');
SELECT
	ringfence.jwt_sign(:'claims_a') AS token_a,
	ringfence.jwt_sign(:'claims_b') AS token_b \gset
SELECT plan(81);

-- set_config in a request
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT ringfence.pre_request();
SELECT throws_ok(
	format('SELECT set_config(''request.jwt.claims'', %L, true)', :'claims_b'),
	'42501', 'the claims cannot be changed after the context was fixed', 'other claims are refused once the context is fixed');
SELECT throws_ok(
	format('SELECT set_config(''request.jwt.claims'', %L, false)', :'claims_b'),
	'0A000', 'a setting for the session cannot be used in a request', 'for the session not even the same');
SELECT throws_ok(
	format('SET LOCAL request.jwt.claims = %L', :'claims_b'),
	'42501', 'the claims cannot be changed after the context was fixed', 'SET is refused likewise');
SELECT lives_ok(
	format('SELECT set_config(''request.jwt.claims'', %L, true)', :'claims_a'), 'the same claims are no change');
SELECT results_eq(
	format('SELECT n.body FROM public.notes AS n WHERE (SELECT ringfence.org_id() IS NOT NULL) OR set_config(''x.y'', %L, true) = ''''', :'claims_b'),
	ARRAY['note of A'], 'a setting of another name changes nothing');
SELECT throws_ok(
	'SELECT set_config(''ringfence.pin'', ''{"actor": "user", "org_id": "0bbbbbbb-0000-7000-8000-00000000000b"}'', true)',
	'42501', NULL, 'the workers'' pin can''t be set');
SELECT throws_ok(
	'SELECT set_config(''ringfence.session'', ''{"sub": "x"}'', true)', '42501', NULL, 'nor can the session''s');
SELECT throws_ok(
	'SELECT set_config(''ringfence.anything'', ''1'', true)', '42602', NULL, 'nor one of our prefix that there is not');
SELECT throws_ok(
	'SELECT set_config(''ringfence.jwt_leeway'', ''300'', true)', '42501', NULL, 'nor one that tokens depend on');
SELECT throws_ok(
	'SELECT ringfence.set_context(''0bbbbbbb-0000-7000-8000-00000000000b'')', '42501', NULL, 'set_context() is not for tenants');
SELECT throws_ok(
	'SELECT ringfence.begin_org(''0bbbbbbb-0000-7000-8000-00000000000b'')', '42501', NULL, 'nor is begin_org()');
SELECT throws_ok(
	'SELECT ringfence.enter_org(''0bbbbbbb-0000-7000-8000-00000000000b'', ''x'')', '42501', NULL, 'nor is enter_org()');
SELECT throws_ok(
	'SELECT ringfence.jwt_sign(''{}'')', '42501', NULL, 'nor may they sign');
SELECT throws_ok(
	'SELECT * FROM ringfence_data.jwt_keys', '42501', NULL, 'or read keys');
SELECT throws_ok(
	'SELECT ringfence.jwks()', '42501', NULL, 'or have them shown');
SELECT throws_ok(
	format('SELECT ringfence.sign_in(%L)', :'token_b'), '42501', 'the context of this transaction is already fixed',
	'even a good token for another organization is refused');
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of A'], 'and A still sees A''s rows alone');
COMMIT;

-- An anonymous request can't become somebody
BEGIN;
SELECT claim('{"role": "ringfence_anon"}', 'ringfence_anon');
SELECT ringfence.pre_request();
SELECT throws_ok(
	format('SELECT claim(%L)', :'claims_a'), '42501', 'the claims cannot be changed after the context was fixed',
	'nobody''s context is fixed as well');
SELECT lives_ok('SET LOCAL ROLE ringfence_member', 'the role can be set, since the login may');
SELECT is_empty('SELECT * FROM public.notes', 'which shows nothing');
COMMIT;

-- RESET and savepoints
BEGIN;
SELECT claim(:'claims_a');
SELECT ringfence.pre_request();
SELECT throws_ok('RESET request.jwt.claims', '0A000', 'SET for the session cannot be used in a request', 'RESET is refused');
SELECT throws_ok('RESET ALL', '0A000', NULL, 'RESET ALL likewise');
SAVEPOINT attack;
SET LOCAL request.jwt.claims TO DEFAULT;
SELECT throws_ok('SELECT * FROM public.notes', '42501', 'the claims were changed after the context was fixed', 'the default of the claims leaves a transaction without a context');
ROLLBACK TO attack;
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of A'], 'until it is rolled back');
ROLLBACK;
BEGIN;
SAVEPOINT before_the_pin;
SELECT claim(:'claims_a');
SELECT ringfence.pre_request();
ROLLBACK TO before_the_pin;
SET LOCAL ROLE ringfence_member;
SELECT throws_ok('SELECT * FROM public.notes', '42501', 'the claims were changed after the context was fixed', 'a rollback over the pin does not unpin');
SELECT throws_ok(
	format('SELECT claim(%L)', :'claims_b'), '42501', NULL, 'so that no other claims can be brought');
SELECT claim(:'claims_a');
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of A'], 'while the same claims can');
ROLLBACK;

-- Roles
BEGIN;
SELECT claim(:'claims_a');
SELECT ringfence.pre_request();
SELECT throws_ok('SET LOCAL ROLE ringfence_owner', '42501', NULL, 'SET ROLE to the owner is refused');
SELECT throws_ok('SET LOCAL ROLE ringfence_jobs', '42501', NULL, 'and to the jobs'' role');
SELECT throws_ok('SET LOCAL ROLE ringfence_operator', '42501', NULL, 'and to the operators''');
SAVEPOINT s;
SET LOCAL ROLE NONE;
SELECT throws_ok('SELECT * FROM public.notes', '42501', NULL, 'no role at all is a login without rights');
ROLLBACK TO s;
SET LOCAL ROLE ringfence_anon;
SELECT throws_ok('SELECT * FROM public.notes', '42501', 'permission denied for table notes', 'and the anonymous role has none either');
COMMIT;
RESET SESSION AUTHORIZATION;

-- A DBA's careless function: the context holds inside, whoever owns it
CREATE FUNCTION public.careless() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'SELECT body FROM public.notes ORDER BY body';
ALTER FUNCTION public.careless() OWNER TO ringfence_owner;
CREATE FUNCTION public.switches(claims text) RETURNS SETOF text LANGUAGE plpgsql
AS $$ BEGIN PERFORM set_config('request.jwt.claims', claims, true); RETURN QUERY SELECT body FROM public.notes; END $$;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('SELECT * FROM public.careless()', ARRAY['note of A'], 'a SECURITY DEFINER function of ringfence_owner sees A''s rows alone');
SELECT throws_ok(format('SELECT * FROM public.switches(%L)', :'claims_b'), '42501', NULL, 'a function can''t change the claims');
SELECT throws_ok(
	format('DO $d$ BEGIN PERFORM set_config(''request.jwt.claims'', %L, true); END $d$', :'claims_b'), '42501', NULL, 'nor can a DO block');
SELECT throws_ok(
	format('DO $d$ BEGIN BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN PERFORM set_config(''request.jwt.claims'', %L, true); END; END $d$', :'claims_b'),
	'42501', NULL, 'nor can one with an exception handler');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT throws_ok(
	'ALTER FUNCTION public.forged_pin() SET ringfence.pin = ''{"org_id": "0bbbbbbb-0000-7000-8000-00000000000b"}''',
	'42501', NULL, 'a function can''t carry a forged pin into a worker, whoever makes it');
SELECT throws_ok(
	'ALTER ROLE regress_attack_login SET ringfence.pin = ''x''', '42501', NULL, 'nor can a role');

-- What could stay in the session for the next tenant
PREPARE kept_plan AS SELECT body FROM public.notes ORDER BY body;
PREPARE by_id(uuid) AS SELECT body FROM public.notes WHERE id = $1;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT ringfence.pre_request();
SELECT throws_ok('DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM public.notes', '0A000', 'a cursor WITH HOLD cannot be used in a request', 'no cursor is held over');
SELECT throws_ok(
	'DO $d$ BEGIN EXECUTE ''DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM public.notes''; END $d$',
	'0A000', 'a cursor WITH HOLD cannot be used in a request', 'not by a DO block either');
SELECT throws_ok('LISTEN other_tenants', '0A000', 'LISTEN cannot be used in a request', 'no channel is listened on');
COMMIT;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok('DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM public.notes', '0A000', 'a cursor WITH HOLD cannot be used in a request', 'not even before anything fixed the context');
ROLLBACK;
BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT throws_ok('DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM public.notes', '0A000', 'a cursor WITH HOLD cannot be used in a request', 'nor before a token, since it is run at the commit');
SELECT ringfence.sign_in(:'token_a');
SELECT throws_ok('LISTEN other_tenants', '0A000', 'LISTEN cannot be used in a request', 'a token makes a request as claims do');
ROLLBACK;
BEGIN;
SELECT claim(:'claims_a');
SELECT ringfence.pre_request();
COMMIT;
SELECT set_config('request.jwt.claims', :'claims_a', false), set_config('role', 'ringfence_member', false);
SELECT is(ringfence.org_id(), NULL, 'claims that were left set for the session are nobody''s');
SELECT is_empty('SELECT * FROM public.notes', 'and show the next transaction nothing');
RESET ROLE;
RESET SESSION AUTHORIZATION;
SET request.jwt.claims = '';
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT set_config('row_security', 'off', true);
SELECT throws_ok('SELECT * FROM public.notes', '42501', 'query would be affected by row-level security policy for table "notes"', 'row_security = off refuses, it does not open');
SELECT set_config('row_security', 'on', true);
DECLARE plain CURSOR FOR SELECT body FROM public.notes;
SELECT lives_ok('FETCH plain', 'a cursor for the transaction is fine');
SELECT throws_ok('PREPARE mine AS SELECT 1', '0A000', 'PREPARE cannot be used in a request', 'no statement is prepared under a name that the layer may use');
SELECT throws_ok('DEALLOCATE kept_plan', '0A000', 'DEALLOCATE cannot be used in a request', 'nor is one of the layer''s dropped');
SELECT throws_ok('DO $d$ BEGIN EXECUTE ''DEALLOCATE ALL''; END $d$', '0A000', 'DEALLOCATE cannot be used in a request', 'nor all of them, in a DO block');
SELECT throws_ok('SET row_security = off', '0A000', NULL, 'no setting is made for the session');
SELECT throws_ok('SELECT set_config(''row_security'', ''off'', false)', '0A000', NULL, 'nor by the function');
SELECT throws_ok('SELECT set_config(''row_security'', ''off'', (SELECT false))', '0A000', NULL, 'nor if it does not say what for');
SELECT throws_ok('DO $d$ BEGIN PERFORM set_config(''statement_timeout'', ''1'', false); END $d$', '0A000', NULL, 'nor in a DO block');
SELECT throws_ok('UPDATE pg_settings SET setting = ''off'' WHERE name = ''row_security''', '0A000', NULL, 'nor by the view');
SELECT throws_ok('WITH u AS (UPDATE pg_settings SET setting = ''1'' WHERE name = ''statement_timeout'' RETURNING 1) SELECT * FROM u', NULL, NULL, 'nor by the view in a CTE');
SELECT throws_ok('ALTER ROLE regress_web PASSWORD ''mine''', '0A000', 'ALTER ROLE cannot be used in a request', 'the login''s password is not theirs to set');
SELECT throws_ok('ALTER ROLE ringfence_member SET statement_timeout = 1', '0A000', NULL, 'nor the settings of a role that all share');
SELECT throws_ok('EXPLAIN ANALYZE SELECT * FROM public.notes', '0A000', 'EXPLAIN ANALYZE cannot be used in a request', 'hidden rows are not counted for anybody');
SELECT lives_ok('EXPLAIN SELECT * FROM public.notes', 'EXPLAIN alone is fine');
COMMIT;
SELECT throws_ok('FETCH plain', '34000', NULL, 'and gone after it');

-- The same plan for another tenant, custom and generic
SET plan_cache_mode = force_generic_plan;
BEGIN;
SELECT claim(:'claims_b');
SELECT results_eq('EXECUTE kept_plan', ARRAY['note of B'], 'a plan that several tenants use gives B''s rows to B');
SELECT results_eq('EXECUTE by_id(''0bbbbbbb-0000-7000-8000-0000000000e1'')', ARRAY['note of B'], 'a generic plan finds B''s row for B');
COMMIT;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('EXECUTE kept_plan', ARRAY['note of A'], 'and A''s to A');
SELECT is_empty('EXECUTE by_id(''0bbbbbbb-0000-7000-8000-0000000000e1'')', 'and not for A');
COMMIT;
BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT is_empty('EXECUTE kept_plan', 'and none to nobody');
COMMIT;
RESET plan_cache_mode;
DEALLOCATE ALL;
RESET SESSION AUTHORIZATION;

-- A login that is no authenticator
SET SESSION AUTHORIZATION regress_attack_login;
BEGIN;
SELECT claim(:'claims_a');
SELECT is_empty('SELECT * FROM public.notes', 'claims of another login mean nothing');
SELECT throws_ok('INSERT INTO public.notes (body) VALUES (''x'')', '42501', NULL, 'and write nothing');
COMMIT;
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT claim(:'claims_a');
SELECT is(ringfence.org_id(), NULL, 'a superuser''s neither, for superusers are members of nothing');
COMMIT;

-- Through a connection of its own, since this session's real login may do all
SELECT format('host=%s port=%s dbname=%s', split_part(current_setting('unix_socket_directories'), ',', 1),
	current_setting('port'), current_database()) AS conninfo \gset
SELECT dblink_connect('web', :'conninfo' || ' user=regress_web');
SELECT throws_ok(
	$$SELECT dblink_exec('web', 'SET SESSION AUTHORIZATION postgres')$$, '42501', NULL, 'SET SESSION AUTHORIZATION is refused to the login');
SELECT dblink_disconnect('web');
SELECT dblink_connect('bi', :'conninfo' || ' user=regress_attack_login');
SELECT dblink_exec('bi', 'SET ROLE ringfence_member');
SELECT count(*) FROM dblink('bi', format('SELECT ringfence.sign_in(%L, true)::text', :'token_a')) AS d (context text);
SELECT results_eq(
	$$SELECT body FROM dblink('bi', 'SELECT body FROM public.notes') AS n (body text)$$, ARRAY['note of A'], 'a session signs in');
SELECT dblink_exec('bi', 'DISCARD ALL');
SELECT dblink_exec('bi', 'SET ROLE ringfence_member');
SELECT is_empty(
	$$SELECT body FROM dblink('bi', 'SELECT body FROM public.notes') AS n (body text)$$, 'and DISCARD ALL, as a pool sends it, ends that');
SELECT dblink_disconnect('bi');

-- Signed-in sessions
SET SESSION AUTHORIZATION regress_attack_login;
SET ROLE ringfence_member;
SELECT lives_ok(format('SELECT ringfence.sign_in(%L, true)', :'token_a'), 'a session can sign in with a token');
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of A'], 'and keeps its context over transactions');
RESET ALL;
SET ROLE ringfence_member;
SELECT is_empty('SELECT * FROM public.notes', 'RESET ALL ends it');
BEGIN;
SELECT ringfence.sign_in(:'token_a', true);
ROLLBACK;
SELECT is_empty('SELECT * FROM public.notes', 'a sign-in that was rolled back did not happen');
SELECT ringfence.sign_in(:'token_a', true);
SELECT ringfence.sign_out();
SELECT is_empty('SELECT * FROM public.notes', 'sign_out() ends it');
RESET ROLE;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_web;
SET ROLE ringfence_member;
SELECT throws_ok(
	format('SELECT ringfence.sign_in(%L, true)', :'token_a'), '0A000', NULL, 'an authenticator''s session can''t sign in: it is shared');
SELECT lives_ok(format('SELECT ringfence.sign_in(%L)', :'token_a'), 'its transaction can');
SELECT is_empty('SELECT * FROM public.notes', 'and only that one');
RESET ROLE;
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
REVOKE ALL ON SCHEMA public FROM regress_attack_login;
DROP ROLE regress_attack_login;
