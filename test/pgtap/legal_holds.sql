-- Legal holds: what one is on is kept, whatever policies say, until it is released
-- or over; whose it is, who placed it, why and until when stays on record.
\ir include/tenants.sql
SET client_min_messages = error;
SET ringfence.retention_rest = 0;
SET ringfence.retention_clock = '2026-01-01 00:00+00';
SELECT plan(69);

-- "SQLSTATE message / detail" of what fails; "nothing" otherwise.
CREATE FUNCTION public.failure(statement text) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	code text;
	message text;
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' / ', code || ' ' || message, nullif(detail, ''));
END
$$;

-- People, what was told of them, what belongs to that; all of it due. In each
-- organization person 1 has reports 11 and 12, person 2 has 21; report N has file 10 N.
CREATE FUNCTION public.person(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE TABLE public.person (id uuid NOT NULL PRIMARY KEY, at timestamptz NOT NULL, name text);
CREATE TABLE public.report (id integer NOT NULL PRIMARY KEY, at timestamptz NOT NULL, person_id uuid, other_id uuid, body text, state text);
CREATE TABLE public.file (id integer NOT NULL PRIMARY KEY, report_id integer);
CREATE TABLE public.remark (id integer NOT NULL PRIMARY KEY, report_id integer);
CREATE TABLE public.loose (id integer PRIMARY KEY, at timestamptz NOT NULL);
SELECT ringfence.protect('public.person', '{"owner": "all"}'), ringfence.protect('public.report', '{"owner": "all"}'),
	ringfence.protect('public.file', '{"owner": "all"}'), ringfence.protect('public.remark', '{"owner": "all"}') \g /dev/null
ALTER TABLE public.report ADD FOREIGN KEY (org_id, person_id) REFERENCES public.person (org_id, id);
ALTER TABLE public.file ADD FOREIGN KEY (org_id, report_id) REFERENCES public.report (org_id, id) ON DELETE CASCADE;
ALTER TABLE public.remark ADD FOREIGN KEY (org_id, report_id) REFERENCES public.report (org_id, id) ON DELETE SET NULL (report_id);
CREATE INDEX ON public.person (org_id, at) WHERE name !~ '^anon-[0-9a-f]{32}$';
CREATE INDEX ON public.report (org_id, at);
CREATE INDEX ON public.loose (at);
SELECT ringfence.retain('public.person', 'at', '1 year', 'anonymize', '{"name": "pseudonym"}'), ringfence.retain('public.report', 'at', '1 year'),
	ringfence.retain('public.loose', 'at', '1 year') \g /dev/null
SELECT ringfence.declare_subject('witness', 'public.person', 'id', 'anonymize', '{"name": "pseudonym"}', is_root => true),
	ringfence.declare_subject('witness', 'public.report', 'person_id', 'delete') \g /dev/null
CREATE PROCEDURE public.fill() LANGUAGE sql
AS $$
	DELETE FROM public.remark;
	DELETE FROM public.file;
	DELETE FROM public.report;
	DELETE FROM public.person;
	DELETE FROM public.loose;
	INSERT INTO public.person (org_id, id, at, name) SELECT o.id, person(n), '2020-01-01', 'P' || n FROM ringfence_data.orgs AS o, generate_series(1, 2) AS n WHERE o.name LIKE 'Tenant _';
	INSERT INTO public.report (org_id, id, at, person_id, state)
	SELECT o.id, n, '2020-01-01', person(n / 10), CASE WHEN n = 12 THEN 'open' END FROM ringfence_data.orgs AS o, unnest('{11,12,21}'::integer[]) AS n WHERE o.name LIKE 'Tenant _';
	INSERT INTO public.file (org_id, id, report_id) SELECT r.org_id, 10 * r.id, r.id FROM public.report AS r;
	INSERT INTO public.loose (id, at) VALUES (1, '2020-01-01');
	UPDATE ringfence_data.legal_holds SET released_at = now(), release_reason = 'test' WHERE released_at IS NULL;
$$;
-- What is left: people who still have a name, reports, other rows; each organization's.
CREATE FUNCTION public.kept() RETURNS text LANGUAGE sql STABLE
AS $$
	SELECT coalesce(string_agg(concat_ws(' ', right(o.name, 1), k.what), ', ' ORDER BY o.name), '-') || CASE WHEN EXISTS (SELECT FROM public.loose) THEN ', loose' ELSE '' END
	FROM (
		SELECT l.org_id, string_agg(l.what, ' ' ORDER BY l.what) AS what
		FROM (
			SELECT p.org_id, p.name FROM public.person AS p WHERE p.name LIKE 'P_'
			UNION ALL SELECT r.org_id, r.id::text FROM public.report AS r
			UNION ALL SELECT f.org_id, f.id::text FROM public.file AS f
		) AS l (org_id, what)
		GROUP BY l.org_id
	) AS k
	INNER JOIN ringfence_data.orgs AS o ON o.id = k.org_id
$$;
-- A hold in an organization, or in none; its id.
CREATE FUNCTION public.hold(org uuid, call text) RETURNS uuid LANGUAGE plpgsql
AS $$
DECLARE
	hold uuid;
BEGIN
	IF org IS NOT NULL THEN
		PERFORM ringfence.set_context(org, NULL, '{owner}');
	END IF;
	EXECUTE format('SELECT ringfence.place_hold(%s)', call) INTO hold;
	RETURN hold;
END
$$;
CREATE FUNCTION public.release(org uuid, hold uuid) RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
	IF org IS NOT NULL THEN
		PERFORM ringfence.set_context(org, NULL, '{owner}');
	END IF;
	PERFORM ringfence.release_hold(hold, 'settled');
END
$$;
-- What a preview says: table, step, rows, held, referenced; of organization A.
CREATE FUNCTION public.preview() RETURNS SETOF text LANGUAGE sql
AS $$
	SELECT concat_ws(' ', p.relation, p.rows, p.held, p.referenced)
	FROM ringfence.retention_preview(org => '0aaaaaaa-0000-7000-8000-00000000000a') AS p
	WHERE p.relation LIKE 'public.%'
	ORDER BY 1
$$;

-- What can't be held

SELECT is(failure(format('SELECT ringfence.place_hold(%s)', call)), answer, 'place_hold ' || left(call, 60))
FROM (VALUES
	('NULL', '23502 a reason is required for a hold / It has 1 to 1000 characters, a letter or digit among them.'),
	('''''', '23502 a reason is required for a hold / It has 1 to 1000 characters, a letter or digit among them.'),
	(''' - ''', '23502 a reason is required for a hold / It has 1 to 1000 characters, a letter or digit among them.'),
	('repeat(''x'', 1001)', '23502 a reason is required for a hold / It has 1 to 1000 characters, a letter or digit among them.'),
	('''x'', ''pg_class''', '42809 "pg_class" is not a table that can have a retention policy'),
	('''x'', subject_kind => ''witness''', '22023 invalid hold / A subject has a kind and an id; rows are of a table, and said without a subject.'),
	('''x'', subject_id => person(1)', '22023 invalid hold / A subject has a kind and an id; rows are of a table, and said without a subject.'),
	('''x'', rows => ''{"id": 1}''', '22023 invalid hold / A subject has a kind and an id; rows are of a table, and said without a subject.'),
	('''x'', ''public.report'', ''witness'', person(1), ''{"id": 1}''', '22023 invalid hold / A subject has a kind and an id; rows are of a table, and said without a subject.'),
	('''x'', subject_kind => ''nobody'', subject_id => person(1)', '42704 no table is declared to be about a "nobody"'),
	('''x'', ''public.report'', rows => ''{"nope": 1}''', '42703 column "nope" of table public.report does not exist'),
	('''x'', ''public.report'', rows => ''{"id": "x"}''', '22P02 invalid input syntax for type integer: "x"'),
	('''x'', ''public.report'', rows => ''{}''', '22023 a filter must be a JSON object with a column'),
	('''x'', until => ''2026-01-01 00:00+00''', '22023 a hold cannot end in the past')
) AS r (call, answer);
SELECT is((SELECT count(*) FROM ringfence_data.legal_holds), 0::bigint, 'nothing is held');
SELECT is(failure('SELECT ringfence.release_hold(ringfence.uuid7(), ''x'')'), 'PT404 hold not found / It is another organization''s, or released already, or there is none.', 'nothing is released');
SELECT is(failure('SELECT ringfence.release_hold(NULL, ''x'')'), 'PT404 hold not found / It is another organization''s, or released already, or there is none.', 'nor by no name');

-- Without a hold

CALL fill();
SELECT results_eq('SELECT preview()', '{public.person 2 0 0,public.report 3 0 0}'::text[], 'all is due');
CALL ringfence.run_retention(60);
SELECT is(kept(), '-', 'and goes');

-- Each kind of hold, in one organization and in all

CALL fill();
SELECT hold(:'org_a', '''all of it''') AS hold \gset
SELECT results_eq('SELECT preview()', '{public.person 2 2 0,public.report 3 3 3}'::text[], 'a hold on an organization, and on what would go along');
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210 P1 P2', 'keeps all of its rows, and no other''s');
SELECT results_eq($$SELECT r.state COLLATE "default", r.errors FROM ringfence_data.retention_runs AS r ORDER BY r.started_at DESC LIMIT 1$$, $$VALUES ('finished', 0::bigint)$$, 'without an error');
SELECT throws_ok(format('SELECT release(%L, %L)', :'org_b', :'hold'), 'PT404', 'hold not found', 'no other organization releases it');
SELECT throws_ok(format('SELECT release(NULL, %L)', :'hold'), 'PT404', 'hold not found', 'nor does nobody''s context');
SELECT release(:'org_a', :'hold');
CALL ringfence.run_retention(60);
SELECT is(kept(), '-', 'released, it keeps nothing');
SELECT throws_ok(format('SELECT release(%L, %L)', :'org_a', :'hold'), 'PT404', 'hold not found', 'it is released once');

CALL fill();
SELECT hold(:'org_a', '''the reports'', ''public.report''') \g /dev/null
SELECT results_eq('SELECT preview()', '{public.person 2 0 0,public.report 3 3 0}'::text[], 'a hold on a table');
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210', 'keeps its rows, with what would go along');

CALL fill();
SELECT hold(:'org_a', '''the files'', ''public.file''') \g /dev/null
SELECT results_eq('SELECT preview()', '{public.person 2 0 0,public.report 3 0 3}'::text[], 'a hold on what would go along');
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210', 'keeps what it belongs to');

CALL fill();
INSERT INTO public.remark (org_id, id, report_id) VALUES (:'org_a', 1, 21), (:'org_a', 2, NULL);
SELECT hold(:'org_a', '''a remark'', ''public.remark''') \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 21 210', 'a hold on what would be changed keeps what it references');
SELECT is((SELECT m.report_id FROM public.remark AS m WHERE m.id = 1), 21, 'and it is not changed');

CALL fill();
SELECT hold(:'org_a', '''open ones'', ''public.report'', rows => ''{"state": "open"}''') \g /dev/null
SELECT results_eq('SELECT preview()', '{public.person 2 0 0,public.report 3 1 0}'::text[], 'a hold on rows');
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 12 120', 'keeps those that its filter picks');

CALL fill();
SELECT hold(:'org_a', '''all but one'', ''public.report'', rows => ''{"id": {"not": 11}}''') \g /dev/null
SELECT hold(:'org_a', '''the closed ones'', ''public.report'', rows => ''{"state": null, "id": [11, 12]}''') \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210', 'several holds keep what any of them picks');

CALL fill();
SELECT hold(:'org_a', '''a file'', ''public.file'', rows => ''{"id": 110}''') \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110', 'a hold on rows that would go along keeps those that they belong to');

CALL fill();
SELECT hold(:'org_a', format('''one person'', subject_kind => ''witness'', subject_id => %L', person(1))) \g /dev/null
SELECT results_eq('SELECT preview()', '{public.person 2 1 0,public.report 3 2 0}'::text[], 'a hold on a subject');
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 P1', 'keeps all that is about that person, in that organization');

CALL fill();
SELECT hold(:'org_a', format('''one person in one table'', ''public.person'', ''witness'', %L', person(1))) \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A P1', 'of a subject and a table, what is in that table');

CALL fill();
UPDATE public.report SET person_id = NULL WHERE id = 11;
SELECT hold(:'org_a', format('''one person'', subject_kind => ''witness'', subject_id => %L', person(1))) \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 12 120 P1', 'what is about nobody is about nobody');

CALL fill();
SELECT hold(NULL, '''all that there is''') AS hold \gset
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210 P1 P2, B 11 110 12 120 21 210 P1 P2, loose', 'a hold of no organization is on all, and on rows of none');
SELECT throws_ok(format('SELECT release(%L, %L)', :'org_a', :'hold'), 'PT404', 'hold not found', 'which none releases');
SELECT release(NULL, :'hold');
CALL ringfence.run_retention(60);
SELECT is(kept(), '-', 'but who placed it');

CALL fill();
SELECT hold(NULL, format('''a person everywhere'', subject_kind => ''witness'', subject_id => %L', person(2))) \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 21 210 P2, B 21 210 P2', 'a hold on a person in all organizations');
CALL fill();
SELECT hold(:'org_a', '''rows of none''') \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210 P1 P2', 'an organization''s is not on rows of none');

-- A table without a policy's rows, several at once, one after the other
CALL fill();
SELECT hold(:'org_a', '''first'', ''public.report'', rows => ''{"id": 11}''') AS first \gset
SELECT hold(:'org_a', '''second'', ''public.report'', rows => ''{"id": 11}''') AS second \gset
SELECT release(:'org_a', :'first');
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110', 'what two are on is kept until both are released');
SELECT release(:'org_a', :'second');
CALL ringfence.run_retention(60);
SELECT is(kept(), '-', 'and no longer');

-- Until when

CALL fill();
SELECT hold(:'org_a', '''for a while'', ''public.report'', until => ''2026-02-01 00:00+00''') \g /dev/null
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210', 'a hold with an end holds');
SET ringfence.retention_clock = '2026-01-31 23:59:59.999999+00';
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210', 'up to it');
SET ringfence.retention_clock = '2026-02-01 00:00+00';
CALL ringfence.run_retention(60);
SELECT is(kept(), '-', 'and is over then by itself');
SET ringfence.retention_clock = '2026-01-01 00:00+00';

-- A hold that can't be understood any more keeps all
CALL fill();
SELECT hold(:'org_a', '''of a state'', ''public.report'', rows => ''{"body": "x"}''') \g /dev/null
ALTER TABLE public.report DROP COLUMN body;
CALL ringfence.run_retention(60);
SELECT is(kept(), 'A 11 110 12 120 21 210', 'a hold that names a column that is gone');
SELECT results_eq($$SELECT r.state COLLATE "default", r.errors > 0 FROM ringfence_data.retention_runs AS r ORDER BY r.started_at DESC LIMIT 1$$, $$VALUES ('failed', true)$$, 'is an error on record');

-- What is not due, or has been done, is no hold's to count

CALL fill();
UPDATE public.report SET at = '2025-12-31';
SELECT hold(:'org_a', '''all of it''') \g /dev/null
SELECT results_eq('SELECT preview()', '{public.person 2 2 0}'::text[], 'what is not due is not counted as held');

-- Personal values in the audit log are kept as well as rows are

SELECT ringfence.label('public.person', 'name', 'personal') \g /dev/null
CALL fill();
SELECT hold(:'org_a', format('''one person'', subject_kind => ''witness'', subject_id => %L', person(1))) AS hold \gset
SET ringfence.retention_clock = '2030-01-01 00:00+00';
CREATE FUNCTION public.remembered(org uuid) RETURNS boolean LANGUAGE sql
AS $$
	SELECT coalesce(bool_or(ringfence.audit_values(l.new, l.personal, 'new') ->> 'name' LIKE 'P_'), false)
	FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id AND r.relation = 'public.person'::regclass
	WHERE l.org_id = remembered.org AND l.personal IS NOT NULL
$$;
SELECT is(ARRAY[remembered(:'org_a'), remembered(:'org_b')], '{t,t}', 'the audit log knows names');
CALL ringfence.run_retention(60, 'public.person');
CALL ringfence.run_retention(60, 'public.person');
SELECT is(ARRAY[remembered(:'org_a'), remembered(:'org_b')], '{t,f}', 'and forgets them where no hold is on the table''s rows');
SELECT release(:'org_a', :'hold');
CALL ringfence.run_retention(60, 'public.person');
CALL ringfence.run_retention(60, 'public.person');
SELECT is(remembered(:'org_a'), false, 'then there, too');
SELECT is_empty('SELECT v FROM ringfence.audit_verify() AS v', 'it verifies');
SET ringfence.retention_clock = '2026-01-01 00:00+00';

-- Who, why, until when

DELETE FROM ringfence_data.legal_holds;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT ringfence_v1.place_hold('a dispute', 'public.report', rows => '{"id": 12}', until => '2027-01-01 00:00+00') AS own \gset
SELECT results_eq('SELECT h.id, h.relation, h.rows, h.reason, h.until, h.placed_by, h.released_at FROM ringfence_v1.legal_holds AS h',
	format($$VALUES (%L::uuid, 'public.report', '{"id": 12}'::jsonb, 'a dispute', timestamptz '2027-01-01 00:00+00', %L::uuid, NULL::timestamptz)$$, :'own', :'user_a'), 'an owner sees what it holds');
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'a court order') \g /dev/null
SELECT ringfence.place_hold('a court order', subject_kind => 'witness', subject_id => person(1)) AS ordered \gset
COMMIT;
SELECT is((SELECT count(*) FROM ringfence_data.legal_holds AS h WHERE h.org_id = :'org_a'), 0::bigint, 'an operator outside sees none');
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT h.id, h.org_id, h.reason, h.placed_by, h.placed_login FROM ringfence_data.legal_holds AS h ORDER BY h.id',
	format($$VALUES (%L::uuid, %L::uuid, 'a dispute', %L::uuid, name 'regress_web'), (%L, %2$L, 'a court order', NULL, 'regress_operator')$$, :'own', :'org_a', :'user_a', :'ordered'), 'who placed it is on record');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is(failure(format('SELECT ringfence_v1.release_hold(%L, '' '')', :'own')), '23502 a reason is required to release a hold', 'a release has a reason');
SELECT ringfence_v1.release_hold(:'own', 'settled');
SELECT results_eq('SELECT h.reason, h.released_at IS NOT NULL, h.released_by, h.release_reason FROM ringfence_v1.legal_holds AS h ORDER BY h.id',
	format($$VALUES ('a dispute', true, %L::uuid, 'settled'), ('a court order', false, NULL, NULL)$$, :'user_a'), 'what is released stays on record');
SELECT is(failure(format('SELECT ringfence_v1.release_hold(%L, ''x'')', :'ordered')), '42501 the hold was placed by an operator', 'an operator''s hold is the operator''s');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT results_eq($$SELECT l.operation COLLATE "default", l.actor COLLATE "default", l.user_id, l.new ->> 'reason', l.new ->> 'release_reason'
	FROM ringfence_data.audit_log AS l INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id AND r.relation = 'ringfence_data.legal_holds'::regclass
	WHERE l.org_id = '0aaaaaaa-0000-7000-8000-00000000000a' AND l.key ~ '$$ || :'own' || $$|$$ || :'ordered' || $$' ORDER BY l.id$$,
	format($$VALUES ('INSERT', 'user', %L::uuid, 'a dispute', NULL), ('INSERT', 'operator', NULL, 'a court order', NULL), ('UPDATE', 'user', %1$L, NULL, 'settled')$$, :'user_a'), 'and in the audit log');
SET ROLE ringfence_owner;
SELECT is(failure(statement), '42501 permission denied for table legal_holds', 'none is deleted: ' || statement)
FROM unnest('{DELETE FROM ringfence_data.legal_holds,TRUNCATE ringfence_data.legal_holds}'::text[]) AS statement;
RESET ROLE;
SET SESSION AUTHORIZATION regress_operator;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'over') \g /dev/null
SELECT lives_ok(format('SELECT ringfence.release_hold(%L, ''over'')', :'ordered'), 'an operator releases it');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT results_eq('SELECT h.released_login, h.release_reason FROM ringfence_data.legal_holds AS h WHERE h.released_by IS NULL', $$VALUES (name 'regress_operator', 'over')$$, 'who released it is on record');

-- A hold goes with its table
SELECT ringfence.place_hold('x', 'public.loose') \g /dev/null
SELECT ringfence.unretain('public.loose') \g /dev/null
DROP TABLE public.loose;
SELECT lives_ok('SELECT p.rows FROM ringfence.retention_preview() AS p', 'a table that is gone is no hold''s');

SELECT * FROM finish();
