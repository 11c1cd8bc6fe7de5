-- Operators and jobs enter one organization at a time, for a reason, on a
-- record that their own rollback does not take back.
\ir include/tenants.sql
CREATE ROLE regress_entry_job LOGIN;
GRANT ringfence_jobs TO regress_entry_job;
-- The record's end is written by another process, shortly after ours ended.
CREATE FUNCTION public.ended(reason text) RETURNS boolean LANGUAGE plpgsql
AS $$
BEGIN
	FOR attempt IN 1..500 LOOP
		PERFORM 1 FROM ringfence_data.org_entries AS e WHERE e.reason = ended.reason AND e.ended_at >= e.started_at;
		IF FOUND THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
	RETURN false;
END
$$;
SELECT plan(39);

SET SESSION AUTHORIZATION regress_operator;
SELECT is_empty('SELECT * FROM public.notes', 'an operator sees nothing before entering');
SELECT is_empty('SELECT * FROM ringfence_data.orgs', 'not even which organizations there are');
SELECT is(ringfence.find_org('Tenant A'), :'org_a', 'but can find one by its name');
SELECT is(ringfence.find_org('tenant a'), NULL, 'its exact name');
BEGIN;
SELECT isnt(ringfence.enter_org(:'org_a', 'ticket 1'), NULL, 'an operator enters with a reason');
SELECT is(ringfence.org_id(), :'org_a', 'and is in that organization');
SELECT is(ringfence.actor(), 'operator', 'as an operator');
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of A'], 'sees its rows');
SELECT throws_ok('INSERT INTO public.notes (body) VALUES (''x'')', '42501', NULL, 'may not write them');
SELECT throws_ok(format('SELECT ringfence.enter_org(%L, ''too'')', :'org_b'), '42501', 'the context of this transaction is already fixed', 'can''t enter another one meanwhile');
SELECT results_eq('SELECT login, reason, ended_at FROM ringfence_data.org_entries', $$VALUES ('regress_operator', 'ticket 1', NULL::timestamptz)$$, 'and is on record, without an end yet');
ROLLBACK;
SELECT is_empty('SELECT * FROM public.notes', 'out again, an operator sees nothing');
RESET SESSION AUTHORIZATION;
SELECT ok(ended('ticket 1'), 'the rolled back entry is on record, with its end');

SET SESSION AUTHORIZATION regress_operator;
BEGIN READ ONLY;
SELECT lives_ok(format('SELECT ringfence.enter_org(%L, ''ticket 2'')', :'org_b'), 'a READ ONLY transaction can enter');
SELECT results_eq('SELECT body FROM public.notes', ARRAY['note of B'], 'and read');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT ok(ended('ticket 2'), 'and is recorded as well');

SET SESSION AUTHORIZATION regress_operator;
SELECT throws_ok(format('SELECT ringfence.enter_org(%L, '''')', :'org_a'), '22023', 'a reason is needed to enter an organization', 'no reason, no entry');
SELECT throws_ok(format('SELECT ringfence.enter_org(%L, E'' \t\n'')', :'org_a'), '22023', NULL, 'a blank one is none');
SELECT throws_ok(format('SELECT ringfence.enter_org(%L, repeat(''x'', 1001))', :'org_a'), '22023', NULL, 'nor is a novel');
SELECT is(ringfence.enter_org(NULL, 'x'), NULL, 'NULL enters nowhere');
SELECT throws_ok('SELECT ringfence.enter_org(''0fffffff-0000-7000-8000-00000000000f'', ''x'')', '42704', NULL, 'one that does not exist can''t be entered');
SELECT throws_ok('UPDATE ringfence_data.org_entries SET reason = ''''', '42501', NULL, 'the record can''t be changed by those it is about');
SELECT throws_ok('DELETE FROM ringfence_data.org_entries', '42501', NULL, 'or deleted');
RESET SESSION AUTHORIZATION;

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('SELECT reason FROM ringfence_data.org_entries', ARRAY['ticket 1'], 'the tenant''s owner sees who was there, and no other tenant''s visitors');
COMMIT;
BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT throws_ok(format('SELECT ringfence.enter_org(%L, ''x'')', :'org_b'), '42501', NULL, 'a member can''t enter');
SELECT throws_ok('SELECT ringfence.find_org(''Tenant B'')', '42501', NULL, 'or ask which names are taken');
COMMIT;
RESET SESSION AUTHORIZATION;

SET SESSION AUTHORIZATION regress_entry_job;
SET ROLE ringfence_jobs;
BEGIN;
SELECT ringfence.enter_org(:'org_b', 'nightly');
SELECT is(ringfence.actor(), 'job', 'a job enters as a job');
SELECT is(ringfence.org_id(), :'org_b', 'one organization at a time');
COMMIT;
RESET ROLE;
RESET SESSION AUTHORIZATION;
SELECT ok(ended('nightly'), 'on record too');

SET SESSION AUTHORIZATION regress_operator;
SELECT throws_ok('SELECT ringfence_v1.set_org_status(''suspended'')', '42501', 'no organization is entered', 'an operator suspends no organization from outside');
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'unpaid');
SELECT throws_ok('SELECT ringfence_v1.set_org_status(''gone'')', '22023', 'invalid status "gone" of an organization', 'a status must be one');
SELECT lives_ok('SELECT ringfence_v1.set_org_status(''suspended'')', 'and can do so from within');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT results_eq(
	format('SELECT name, status FROM ringfence_data.orgs WHERE id IN (%L, %L) ORDER BY name', :'org_a', :'org_b'),
	$$VALUES ('Tenant A', 'suspended'), ('Tenant B', 'active')$$, 'that one alone');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok('SELECT ringfence_v1.set_org_status(''active'')', '42501', NULL, 'its owner can''t undo it');
SELECT throws_ok('SELECT ringfence.pre_request()', 'PT403', NULL, 'and is out');
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT lives_ok(format('SELECT ringfence.enter_org(%L, ''ticket 3'')', :'org_a'), 'a suspended organization can be entered by an operator');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT ok(ended('ticket 3'), 'on record');

-- Settings of the database are for clients, not for the record
SELECT format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()) \gexec
SELECT format('ALTER DATABASE %I SET lock_timeout = ''10ms''', current_database()) \gexec
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT lives_ok(format('SELECT ringfence.enter_org(%L, ''ticket 4'')', :'org_b'), 'a database of read-only transactions can be entered');
SELECT pg_sleep(0.1);
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT ok(ended('ticket 4'), 'and an end is recorded that is waited for longer than a lock may be');
SELECT format('ALTER DATABASE %I RESET ALL', current_database()) \gexec

SELECT * FROM finish();
DROP ROLE regress_entry_job;
