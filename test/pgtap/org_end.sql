-- The end of an organization: who may close and delete it, and take that back;
-- what is exported, what goes, what stays and under which name; holds and locks are
-- waited for; no other organization loses a row.
\ir include/tenants.sql
SET client_min_messages = warning;
SELECT plan(123);

CREATE FUNCTION pg_temp.connect(name text, username text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dblink_connect(name, format('dbname=%L host=%L port=%L user=%s options=''-c client_min_messages=error -c statement_timeout=60s -c ringfence.retention_rest=0''',
		current_database(), split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), username));
END
$$;
SELECT pg_temp.connect('su', 'postgres') \g /dev/null
CREATE FUNCTION call(statement text, connection text DEFAULT 'su') RETURNS text LANGUAGE sql AS $$ SELECT dblink_exec(connection, statement) $$;
CREATE FUNCTION clock(later interval) RETURNS text LANGUAGE sql AS $$ SELECT call(format('SET ringfence.retention_clock = %L', clock_timestamp() + later)) $$;
CREATE FUNCTION how(org uuid) RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(': ', d.stage, d.waits_for) FROM ringfence.org_deletions() AS d WHERE d.org_id = org ORDER BY d.id DESC LIMIT 1 $$;

-- Two organizations alike: people with orders, of which some have receipts, which
-- are kept; trees; notes; a table of several parts.

CREATE TABLE public.customers (id uuid NOT NULL, name text NOT NULL, email text, api_token text);
CREATE TABLE public.orders (id integer NOT NULL, customer_id uuid NOT NULL);
CREATE TABLE public.lines (id integer NOT NULL, order_id integer NOT NULL, what text);
CREATE TABLE public.receipts (id integer NOT NULL, order_id integer NOT NULL, amount bigint, made_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE public.tree (id integer NOT NULL, parent_id integer);
CREATE TABLE public.big (n integer NOT NULL, "odd ""name""" text NOT NULL, filler text);
ALTER TABLE public.big ADD COLUMN org_id uuid NOT NULL DEFAULT ringfence.org_id(), ADD PRIMARY KEY (org_id, "odd ""name""", n);
SELECT ringfence.protect(t.rel, '{"owner": "all"}')
FROM unnest('{public.customers,public.orders,public.lines,public.receipts,public.tree,public.big}'::regclass[]) AS t (rel) \g /dev/null
ALTER TABLE public.orders ADD FOREIGN KEY (org_id, customer_id) REFERENCES public.customers (org_id, id);
ALTER TABLE public.lines ADD FOREIGN KEY (org_id, order_id) REFERENCES public.orders (org_id, id) ON DELETE CASCADE;
ALTER TABLE public.receipts ADD FOREIGN KEY (org_id, order_id) REFERENCES public.orders (org_id, id) ON DELETE CASCADE;
ALTER TABLE public.tree ADD FOREIGN KEY (org_id, parent_id) REFERENCES public.tree (org_id, id);
CREATE INDEX ON public.receipts (org_id, made_at);
SELECT
	ringfence.retain('public.receipts', 'made_at', '7 years', outlives_org => true),
	ringfence.declare_subject('customer', 'public.customers', 'id', 'anonymize', '{"name": "pseudonym", "email": "null"}', is_root => true) \g /dev/null
SELECT ringfence.label('public.customers', 'email', 'personal'), ringfence.label('public.receipts', 'amount', 'personal') \g /dev/null
-- The records of an organization that have a personal value yet, by table.
CREATE FUNCTION values_left(org uuid) RETURNS TABLE (relation text, records bigint) LANGUAGE sql AS $$
	SELECT r.name COLLATE "default", count(*)
	FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
	WHERE l.org_id = org AND jsonb_path_exists(l.personal, '$.*.*.value')
	GROUP BY 1
	ORDER BY 1
$$;
INSERT INTO public.customers (org_id, id, name, email, api_token)
SELECT o.id, md5(n::text)::uuid, 'Customer ' || n, n || '@customers.test', 'hush ' || n FROM ringfence_data.orgs AS o, generate_series(1, 40) AS n WHERE o.name ~ '^Tenant';
INSERT INTO public.orders (org_id, id, customer_id) SELECT c.org_id, n, c.id FROM public.customers AS c, generate_series(1, 30) AS n WHERE c.name = 'Customer ' || n;
INSERT INTO public.lines (org_id, id, order_id, what) SELECT o.org_id, 10 * o.id + n, o.id, 'line' FROM public.orders AS o, generate_series(1, 3) AS n;
INSERT INTO public.receipts (org_id, id, order_id, amount) SELECT o.org_id, o.id, o.id, 100 FROM public.orders AS o WHERE o.id <= 5;
INSERT INTO public.tree (org_id, id, parent_id)
SELECT o.id, n, nullif(n / 2, 0) FROM ringfence_data.orgs AS o, generate_series(1, 31) AS n WHERE o.name ~ '^Tenant';
UPDATE public.tree SET parent_id = 31 WHERE id = 31;
INSERT INTO public.big (org_id, n, "odd ""name""", filler)
SELECT o.id, n, md5(n::text), repeat('x', 1000) FROM ringfence_data.orgs AS o, generate_series(1, 2500) AS n WHERE o.name ~ '^Tenant';
CREATE FUNCTION rows_of(org uuid) RETURNS TABLE (relation text, hash text) LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
	FOR relation IN SELECT o.relation::text FROM ringfence.org_tables() AS o WHERE o.exported ORDER BY 1 LOOP
		EXECUTE format('SELECT count(*) || '' '' || md5(coalesce(string_agg(t::text, '''' ORDER BY t::text COLLATE "C"), '''')) FROM %s AS t WHERE t.org_id = $1', relation)
			INTO hash USING org;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE TABLE public.before AS SELECT :'org_b'::uuid AS org, r.relation, r.hash FROM rows_of(:'org_b') AS r;
SELECT cmp_ok((SELECT count(*) FROM before WHERE hash !~ '^0 '), '=', 8::bigint, 'there is something to lose');

-- Who may.

SELECT pg_temp.connect('op', 'regress_operator') \g /dev/null
SELECT call('SET ROLE ringfence_operator', 'op') \g /dev/null
CREATE FUNCTION as_operator(org uuid, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	PERFORM dblink_exec('op', 'BEGIN');
	IF org IS NOT NULL THEN
		PERFORM t FROM dblink('op', format('SELECT ringfence.enter_org(%L, ''ticket 7'')', org)) AS d (t text);
	END IF;
	SELECT t INTO result FROM dblink('op', statement) AS d (t text);
	PERFORM dblink_exec('op', 'COMMIT');
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	PERFORM dblink_exec('op', 'ROLLBACK');
	RAISE;
END $$;
SELECT throws_ok(format('SELECT as_operator(%s, %L)', e.org, format(e.statement, :'org_a')), e.state, e.message, e.name)
FROM (VALUES
	('NULL', 'SELECT ringfence.delete_org(%L, ''over'')', '42501', 'permission denied to delete an organization', 'an operator deletes nothing from outside'),
	(quote_literal(:'org_b'), 'SELECT ringfence.delete_org(%L, ''over'')', '42501', 'permission denied to delete an organization', 'nor from another organization'),
	('NULL', 'SELECT ringfence.cancel_org_deletion(%L, ''over'')', '42501', 'permission denied to delete an organization', 'nor takes anything back'),
	(quote_literal(:'org_a'), 'SELECT ringfence.delete_org(%L, '' '')', '23502', 'a reason is required', 'a reason is needed'),
	(quote_literal(:'org_a'), 'SELECT ringfence.delete_org(%L, ''over'', ''-1 day'')', '22023', 'an organization cannot be deleted after -1 days', 'and a time that is to come'),
	(quote_literal(:'org_a'), 'SELECT ringfence.delete_org(%L, ''over'', ''infinity''::text::interval)', '22007', NULL, 'some day'),
	(quote_literal(:'org_a'), 'SELECT ringfence.delete_org(%L, ''over'', ''11 years'')', '22023', 'an organization cannot be deleted after 11 years', 'not too far away'),
	(quote_literal(:'org_a'), 'SELECT ringfence.delete_org(%L, ''over'')', '55000', 'the organization is active', 'one that is not closed isn''t deleted'),
	(quote_literal(:'org_a'), 'SELECT ringfence.cancel_org_deletion(%L, ''over'')', 'PT404', 'no deletion of the organization is ordered', 'and there is nothing to cancel')
) AS e (org, statement, state, message, name);
SELECT throws_ok($$SELECT ringfence.delete_org('0fffffff-0000-7000-8000-00000000000f', 'over')$$, '42704', 'organization "0fffffff-0000-7000-8000-00000000000f" does not exist', 'an unknown one neither');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_b');
SELECT throws_ok(format('SELECT ringfence.%s', f.f), '42501', 'permission denied for function ' || split_part(f.f, '(', 1), 'no member may call ' || split_part(f.f, '(', 1))
FROM (VALUES ('delete_org(ringfence.org_id(), ''x'')'), ('cancel_org_deletion(ringfence.org_id(), ''x'')'), ('close_org(ringfence.org_id(), ''x'')'), ('org_deletions()'), ('delete_orgs_step()')) AS f (f);
SELECT throws_ok('SELECT count(*) FROM ringfence_data.org_deletions', '42501', 'permission denied for table org_deletions', 'or see deletions');
SELECT throws_ok('SELECT count(*) FROM ringfence_data.org_export_parts', '42501', 'permission denied for table org_export_parts', 'or exports');
ROLLBACK;
RESET SESSION AUTHORIZATION;

-- An owner closes.

INSERT INTO ringfence_data.users (id, email) VALUES ('aaaaaaaa-0000-4000-8000-0000000000ad', 'admin@a.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES (:'org_a', 'aaaaaaaa-0000-4000-8000-0000000000ad', '{admin}');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(replace(:'claims_a', :'user_a', 'aaaaaaaa-0000-4000-8000-0000000000ad'));
SELECT throws_ok('SELECT ringfence_v1.close_org(''enough'')', '42501', 'permission denied for this organization', 'an admin may not close the organization');
COMMIT;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok('SELECT ringfence_v1.close_org('''')', '23502', 'a reason is required', 'an owner may, for a reason');
SELECT lives_ok('SELECT ringfence_v1.close_org(''enough'')', 'which is given');
SELECT is((SELECT count(*) FROM public.notes), 1::bigint, 'what has begun goes on');
COMMIT;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok('SELECT count(*) FROM public.notes', 'PT403', 'the organization is closed', 'and no more comes after it');
ROLLBACK;
BEGIN;
SELECT claim(:'claims_b');
SELECT is((SELECT count(*) FROM public.notes), 1::bigint, 'but elsewhere');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM public.notes WHERE org_id = :'org_a'), 1::bigint, 'the rows are all there');

-- Ordered, taken back, ordered again.

SELECT lives_ok(format('SELECT as_operator(%L, %L)', :'org_a', format('SELECT ringfence.delete_org(%L, ''contract over'')', :'org_a')), 'an operator who entered it orders its deletion');
SELECT is(how(:'org_a'), 'ordered', 'which is on record');
SELECT is((SELECT d.due_at - d.ordered_at BETWEEN interval '29 days 23 hours' AND interval '30 days 1 minute' FROM ringfence.org_deletions() AS d), true, 'for 30 days later');
SELECT throws_ok(format('SELECT ringfence.delete_org(%L, ''again'')', :'org_a'), 'PT409', 'the deletion of the organization is ordered already', 'once');
SELECT throws_ok(format('SELECT as_operator(%L, ''SELECT ringfence_v1.set_org_status(''''active'''')'')', :'org_a'), 'PT409', 'the deletion of the organization is ordered', 'it can''t be reopened meanwhile');
SELECT throws_ok(format('SELECT as_operator(%L, ''SELECT ringfence_v1.set_org_status(''''deleted'''')'')', :'org_a'), '22023', 'invalid status "deleted" of an organization', 'nor be called deleted');
SELECT is(call('CALL ringfence.delete_orgs()'), 'CALL', 'the job runs');
SELECT is(how(:'org_a'), 'ordered', 'and leaves it alone until the time has come');
SELECT throws_ok(format('SET ROLE ringfence_jobs; SELECT ringfence.retention_execute(''{"kind": "org_delete", "relation": "public.notes"}'', %L)', :'org_a'),
	'55000', 'the deletion of the organization is not at that stage', 'whoever asks for it');
SELECT lives_ok(format('SELECT as_operator(%L, %L)', :'org_a', format('SELECT ringfence.cancel_org_deletion(%L, ''they paid'')', :'org_a')), 'the order can be taken back');
SELECT is(how(:'org_a'), 'cancelled', 'which is on record as well');
SELECT lives_ok(format('SELECT as_operator(%L, ''SELECT ringfence_v1.set_org_status(''''active'''')'')', :'org_a'), 'then it can be reopened');
SELECT clock('31 days') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is(how(:'org_a'), 'cancelled', 'and the time passes without a deletion');
SELECT clock('0') \g /dev/null
SELECT lives_ok(format('SELECT as_operator(NULL, %L)', format('SELECT ringfence.close_org(%L, ''they did not'')', :'org_a')), 'an operator closes it, entering it for that');
SELECT lives_ok(format('SELECT ringfence.delete_org(%L, ''contract over'', ''1 day'')', :'org_a'), 'and the owner of the database may order the deletion');

-- Held as a whole, it does not begin.

CREATE FUNCTION hold(org uuid, rel regclass DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
	PERFORM ringfence.set_context(org);
	RETURN ringfence.place_hold('lawsuit', rel);
END $$;
CREATE FUNCTION release(org uuid, hold uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM ringfence.set_context(org);
	PERFORM ringfence.release_hold(hold, 'settled');
END $$;
SELECT hold(:'org_a') AS hold \gset
SELECT clock('25 hours') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is(how(:'org_a'), 'ordered: a legal hold on the organization', 'a hold on the organization is waited for');
SELECT is((SELECT count(*) FROM ringfence_data.org_export_parts), 0::bigint, 'before anything else');
SELECT release(:'org_a', :'hold') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is(how(:'org_a'), 'ordered: a legal hold on the organization', 'it is looked at again an hour later');
SELECT hold(:'org_a', 'public.notes') AS hold \gset

-- Then: export, and deletion but for what is held.

SELECT results_eq(format('SELECT * FROM values_left(%L)', :'org_a'), $$VALUES ('public.customers', 40::bigint), ('public.receipts', 5)$$, 'the audit log knows people');
CREATE TABLE public.original AS SELECT r.relation, r.hash FROM rows_of(:'org_a') AS r;
CREATE TABLE public.big_before AS SELECT to_jsonb(b) AS doc FROM public.big AS b WHERE b.org_id = :'org_a';
SELECT clock('27 hours') \g /dev/null
SELECT is(call('CALL ringfence.delete_orgs()'), 'CALL', 'an hour later it begins');
SELECT is((SELECT concat_ws(' ', s.state, s.last_error) FROM ringfence.job_status() AS s WHERE s.job = 'org_deletion'), 'succeeded', 'without an error');
SELECT is(how(:'org_a'), 'delete: a legal hold on rows of public.notes', 'and waits where rows of a table are held');
SELECT is((SELECT count(*) FROM public.notes WHERE org_id = :'org_a'), 1::bigint, 'which are there');
SELECT throws_ok(format('SELECT ringfence.cancel_org_deletion(%L, ''too late'')', :'org_a'), '55000', 'the deletion of the organization has begun', 'it can''t be taken back any more');

SELECT is_empty('SELECT p.part FROM ringfence_data.org_export_parts AS p WHERE p.sha256 <> sha256(p.data) OR p.rows <> array_length(string_to_array(convert_from(p.data, ''UTF8''), E''\n''), 1) - 1',
	'each part has as many lines as it says');
SELECT results_eq('SELECT p.part FROM ringfence_data.org_export_parts AS p ORDER BY p.part', 'SELECT generate_series(1, (SELECT d.parts FROM ringfence.org_deletions() AS d WHERE d.cancelled_at IS NULL))', 'parts are counted');
CREATE TABLE public.exported AS
SELECT p.part, p.relation, l.n, l.line::jsonb AS doc
FROM ringfence_data.org_export_parts AS p
CROSS JOIN LATERAL string_to_table(rtrim(convert_from(p.data, 'UTF8'), E'\n'), E'\n') WITH ORDINALITY AS l (line, n);
SELECT results_eq('SELECT relation, count(*) FROM exported GROUP BY relation ORDER BY relation COLLATE "C"',
	'SELECT relation, split_part(hash, '' '', 1)::bigint FROM original WHERE hash !~ ''^0 '' ORDER BY relation COLLATE "C"', 'every row was exported, once');
SELECT is((SELECT count(*) BETWEEN 3 AND 5 FROM ringfence_data.org_export_parts WHERE relation = 'public.big'), true, 'in parts of about a megabyte');
SELECT is((SELECT bool_and(octet_length(data) <= 1002000) FROM ringfence_data.org_export_parts), true, 'and no more than that and a row');
SELECT results_eq('SELECT doc FROM exported WHERE relation = ''public.big'' ORDER BY part, n', 'SELECT doc FROM big_before ORDER BY doc ->> ''odd "name"'' COLLATE "C", (doc -> ''n'')::integer', 'in the order of the key');
SELECT is((SELECT doc FROM exported WHERE relation = 'public.customers' AND doc ->> 'name' = 'Customer 7'),
	jsonb_build_object('org_id', :'org_a', 'id', md5('7')::uuid, 'name', 'Customer 7', 'email', '7@customers.test'), 'as it was, but for secrets');
SELECT is((SELECT count(*) FROM exported WHERE doc ->> 'org_id' IS DISTINCT FROM :'org_a'), 0::bigint, 'and of nobody else');
SELECT is((SELECT min(part) FROM exported WHERE relation = 'public.customers') < (SELECT min(part) FROM exported WHERE relation = 'public.orders'), true, 'parents come first');

-- The hold is released; a row is locked.

SELECT release(:'org_a', :'hold') \g /dev/null
SELECT pg_temp.connect('locker', 'postgres') \g /dev/null
SELECT call('BEGIN', 'locker') \g /dev/null
SELECT n FROM dblink('locker', format('SELECT count(*) FROM (SELECT FROM public.notes WHERE org_id = %L FOR UPDATE) AS n', :'org_a')) AS d (n bigint) \g /dev/null
SELECT clock('29 hours') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is(how(:'org_a'), 'delete: locked rows of public.notes', 'rows that somebody has locked are not waited for, but come back to');
SELECT call('ROLLBACK', 'locker') \g /dev/null
SELECT clock('29 hours 2 minutes') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is(how(:'org_a'), 'done', 'a minute later');
SELECT is((SELECT concat_ws(' ', s.state, s.last_error) FROM ringfence.job_status() AS s WHERE s.job = 'org_deletion'), 'succeeded', 'nothing went wrong on the way');

-- What is left.

SELECT results_eq(format('SELECT relation, split_part(hash, '' '', 1) FROM rows_of(%L) WHERE hash !~ ''^0 '' ORDER BY relation COLLATE "C"', :'org_a'),
	$$VALUES ('public.customers', '5'), ('public.orders', '5'), ('public.receipts', '5')$$, 'what outlives an organization stays, and what that references');
SELECT is((SELECT hash FROM rows_of(:'org_a') WHERE relation = 'public.receipts'), (SELECT hash FROM original WHERE relation = 'public.receipts'), 'as it was');
SELECT is((SELECT bool_and(name ~ '^anon-[0-9a-f]{32}$' AND email IS NULL) AND count(DISTINCT name) = 5 FROM public.customers WHERE org_id = :'org_a'), true, 'whom it is about is not to be known');
SELECT is((SELECT count(*) FROM public.tree WHERE org_id = :'org_a'), 0::bigint, 'rows that reference each other are gone');
SELECT is((SELECT d.deleted FROM ringfence.org_deletions() AS d WHERE d.stage = 'done'),
	'{"public.big": 2500, "public.tree": 31, "public.lines": 90, "public.notes": 1, "public.orders": 25, "public.customers": 35, "ringfence_data.memberships": 2}', 'how many of which is on record');
SELECT is((SELECT d.kept FROM ringfence.org_deletions() AS d WHERE d.stage = 'done'), '{"public.orders": 5, "public.customers": 5}', 'and what could not go');
SELECT results_eq(format('SELECT o.name ~ ''^anon-[0-9a-f]{32}$'', o.status, o.settings FROM ringfence_data.orgs AS o WHERE o.id = %L', :'org_a'),
	$$VALUES (true, 'deleted', '{}'::jsonb)$$, 'the organization has no name any more');
SELECT results_eq(format('SELECT l.action COLLATE "default", l.reason FROM ringfence_data.audit_log AS l WHERE l.org_id = %L AND l.action ~ ''^org[.]'' ORDER BY l.recorded_at, l.id', :'org_a'),
	$$VALUES ('org.closed', 'enough'), ('org.deletion_ordered', 'contract over'), ('org.deletion_cancelled', 'they paid'), ('org.closed', 'they did not'),
		('org.deletion_ordered', 'contract over'), ('org.deletion_begun', 'contract over'), ('org.exported', 'contract over'), ('org.deleted', 'contract over')$$,
	'its audit log tells the story');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.operation = 'DELETE'), 0::bigint, 'without a record of each row');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.operation = 'INSERT') > 200, true, 'and with all that was there before');
SELECT is_empty(format('SELECT * FROM values_left(%L)', :'org_a'), 'but for personal values, also of rows that stay');
SELECT is((SELECT l.new -> 'forgotten' FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.action = 'org.deleted'), '{"public.customers": 40, "public.receipts": 5}',
	'which the event says');
SELECT results_eq(format('SELECT * FROM values_left(%L)', :'org_b'), $$VALUES ('public.customers', 40::bigint), ('public.receipts', 5)$$, 'the other''s are there');
SELECT is_empty(format('SELECT r.relation, r.hash FROM rows_of(%L) AS r EXCEPT SELECT b.relation, b.hash FROM before AS b', :'org_b'), 'the other organization has every row as it was');
SELECT is((SELECT count(*) FROM ringfence.verify() AS v WHERE v.object ~ 'ringfence|cleaning|merchant' OR v.code ~ '^(job|audit|org|retention)'), 0::bigint, 'verify() finds nothing');
SELECT is_empty('SELECT v.problem, v.detail FROM ringfence.audit_verify() AS v', 'nor does audit_verify()');

-- Afterwards.

SELECT throws_ok(format('SELECT ringfence.delete_org(%L, ''again'')', :'org_a'), '55000', 'the organization is deleted', 'it can''t be deleted twice');
SELECT throws_ok(format('SELECT as_operator(%L, ''SELECT ringfence_v1.set_org_status(''''active'''')'')', :'org_a'), 'PT409', 'the organization is deleted', 'nor come back');
SELECT throws_ok(format('SELECT ringfence.cancel_org_deletion(%L, ''too late'')', :'org_a'), '55000', 'the deletion of the organization has begun', 'by no means');
SELECT is(as_operator(:'org_a', 'SELECT count(*) FROM ringfence_data.org_export_parts'), (SELECT count(*)::text FROM ringfence_data.org_export_parts), 'an operator who enters it reads its export');
SELECT is(as_operator(:'org_b', 'SELECT count(*) FROM ringfence_data.org_export_parts'), '0', 'and from another organization none of it');
SELECT is(as_operator(NULL, 'SELECT count(*) FROM ringfence_data.org_export_parts'), '0', 'nor from none');
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is(ringfence.org_id(), NULL, 'its members are members no more');
COMMIT;
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM ringfence_data.users WHERE email ~ '@a[.]test$'), 2::bigint, 'though users still');
SELECT clock('60 days') \g /dev/null
SELECT is(call('CALL ringfence.run_retention(50, ''ringfence_data.org_export_parts'')'), 'CALL', 'after a month');
SELECT is((SELECT count(*) FROM ringfence_data.org_export_parts), 0::bigint, 'the export is gone too');
SELECT is((SELECT count(*) FROM public.receipts), 10::bigint, 'and receipts are not');

-- A table that goes, a policy that comes, while a deletion is under way; one that
-- was ordered for an organization that is open.

CREATE TABLE public.gone (id integer NOT NULL);
SELECT ringfence.protect('public.gone', '{"owner": "all"}') \g /dev/null
SELECT ringfence.set_context(:'org_b') \g /dev/null
SELECT as_operator(NULL, format('SELECT ringfence.close_org(%L, ''over'')', :'org_b')) \g /dev/null
SELECT ringfence.set_context() \g /dev/null
SELECT ringfence.delete_org(:'org_b', 'over', '0') \g /dev/null
SELECT clock('0') \g /dev/null
CREATE FUNCTION step_until(stage text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	present text;
BEGIN
	FOR i IN 1 .. 500 LOOP
		SELECT d.stage INTO present FROM dblink('su', 'SELECT d.stage, d.present FROM ringfence.org_deletions() AS d WHERE d.finished_at IS NULL AND d.cancelled_at IS NULL') AS d (stage text, table_name text);
		EXIT WHEN present = stage AND EXISTS (SELECT FROM ringfence_data.org_deletions AS d WHERE d.stage = step_until.stage AND d.todo IS NOT NULL);
		PERFORM n FROM dblink('su', 'SELECT ringfence.delete_orgs_step()') AS d (n bigint);
	END LOOP;
	RETURN present;
END $$;
SELECT call('SET ROLE ringfence_jobs') \g /dev/null
SELECT is(step_until('delete'), 'delete', 'a deletion is under way');
SELECT hold(:'org_b') AS hold \gset
SELECT is(step_until('anonymize'), 'delete', 'a hold on all of the organization');
SELECT is(how(:'org_b'), 'delete: a legal hold on rows of ringfence_data.memberships', 'stops it where it is');
SELECT release(:'org_b', :'hold') \g /dev/null
SELECT ringfence.set_context() \g /dev/null
SELECT call('RESET ROLE') \g /dev/null
SELECT clock('61 minutes') \g /dev/null
SELECT call('SET ROLE ringfence_jobs') \g /dev/null
SELECT n FROM dblink('su', 'SELECT ringfence.delete_orgs_step()') AS d (n bigint) \g /dev/null
SELECT is((SELECT d.todo @> '[{"relation": "public.gone"}]' FROM ringfence_data.org_deletions AS d WHERE d.stage = 'delete'), true, 'and will come to a table');
DROP TABLE public.gone;
CREATE TABLE public.later AS SELECT 1 AS made;
ALTER TABLE public.notes ADD COLUMN made_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX ON public.notes (org_id, made_at);
SELECT ringfence.retain('public.notes', 'made_at', '1 year', outlives_org => true) \g /dev/null
SELECT call('RESET ROLE') \g /dev/null
SELECT is(call('CALL ringfence.delete_orgs()'), 'CALL', 'that was dropped meanwhile');
SELECT is(how(:'org_b'), 'done', 'it goes on without');
SELECT is((SELECT count(*) FROM public.notes WHERE org_id = :'org_b'), 1::bigint, 'and leaves what has come to outlive the organization');
SELECT is((SELECT count(*) FROM public.customers WHERE org_id = :'org_b'), 5::bigint, 'the rest is gone');
UPDATE ringfence_data.orgs SET status = 'closed' WHERE name = 'Cedar Home Care';
SELECT ringfence.delete_org(o.id, 'over', '0') FROM ringfence_data.orgs AS o WHERE o.name = 'Cedar Home Care' \g /dev/null
UPDATE ringfence_data.orgs SET status = 'suspended' WHERE name = 'Cedar Home Care';
SELECT clock('1 second') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is(how(o.id), 'ordered: the organization is suspended', 'one that was opened again by hand is not deleted') FROM ringfence_data.orgs AS o WHERE o.name = 'Cedar Home Care';
UPDATE ringfence_data.orgs SET status = 'closed' WHERE name = 'Cedar Home Care';

SELECT is((SELECT d.waits_for IS NOT NULL FROM ringfence.org_deletions() AS d ORDER BY d.id DESC LIMIT 1), true, 'and says so');

-- An app, whole.

SELECT clock('2 hours') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is((SELECT d.stage FROM ringfence.org_deletions() AS d ORDER BY d.id DESC LIMIT 1), 'done', 'an organization of the app goes');
SELECT is((SELECT concat_ws(' ', s.state, s.last_error) FROM ringfence.job_status() AS s WHERE s.job = 'org_deletion'), 'succeeded', 'without an error');
SELECT is_empty($$SELECT 1 FROM cleaning.clients AS c JOIN ringfence_data.orgs AS o ON o.id = c.org_id
	WHERE o.status = 'deleted' AND (c.name !~ '^anon-' OR c.email IS NOT NULL OR c.phone IS NOT NULL OR c.address IS NOT NULL)$$, 'its clients have no names');
SELECT is((SELECT count(*) > 0 FROM cleaning.invoices AS i JOIN ringfence_data.orgs AS o ON o.id = i.org_id WHERE o.status = 'deleted'), true, 'its invoices are there');
SELECT is_empty($$SELECT 1 FROM cleaning.photos AS p JOIN ringfence_data.orgs AS o ON o.id = p.org_id WHERE o.status = 'deleted'$$, 'its photos are not');
SELECT is((SELECT count(*) FROM ringfence_data.tombstones AS t JOIN ringfence_data.orgs AS o ON o.id = t.org_id WHERE o.status = 'deleted'),
	(SELECT (d.deleted ->> 'cleaning.photos')::bigint FROM ringfence.org_deletions() AS d ORDER BY d.id DESC LIMIT 1), 'and each has left a tombstone');
SELECT is((SELECT count(*) FROM cleaning.bookings AS b JOIN ringfence_data.orgs AS o ON o.id = b.org_id WHERE o.status = 'active'), 666::bigint, 'the others have their bookings');
SELECT is((SELECT count(*) FROM ringfence.verify() AS v WHERE v.object ~ 'ringfence|cleaning|merchant' OR v.code ~ '^(job|audit|org|retention)'), 0::bigint, 'and verify() finds nothing');

-- What fails for one organization keeps no other, and is on record.

SELECT clock('0') \g /dev/null
\set poison '0ccccccc-0000-7000-8000-00000000000c'
\set harmless '0ddddddd-0000-7000-8000-00000000000d'
INSERT INTO ringfence_data.orgs (id, name, status) VALUES (:'poison', 'Poison', 'closed'), (:'harmless', 'Harmless', 'closed');
INSERT INTO public.customers (org_id, id, name, email) SELECT o.id, md5(o.name)::uuid, o.name, o.name || '@customers.test' FROM ringfence_data.orgs AS o WHERE o.id IN (:'poison', :'harmless');
INSERT INTO public.orders (org_id, id, customer_id) SELECT c.org_id, 1, c.id FROM public.customers AS c WHERE c.name = 'Harmless';
INSERT INTO public.receipts (org_id, id, order_id, amount) VALUES (:'harmless', 1, 1, 100);
CREATE FUNCTION public.refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'not this one' USING ERRCODE = TG_ARGV[0];
END $$;
CREATE TRIGGER refuse BEFORE DELETE ON public.customers FOR EACH ROW WHEN (OLD.name = 'Poison') EXECUTE FUNCTION public.refuse_poison('P0001');
SELECT ringfence.delete_org(:'poison', 'over', '0') \g /dev/null
SELECT ringfence.delete_org(:'harmless', 'over', '0') \g /dev/null
SELECT hold(:'harmless', 'public.receipts') AS hold \gset
SELECT ringfence.set_context() \g /dev/null
SELECT clock('1 second') \g /dev/null
SELECT throws_ok('SELECT call(''CALL ringfence.delete_orgs()'')', 'P0001', 'job "org_deletion" failed', 'a deletion that fails is a failure of the job');
SELECT is((SELECT concat_ws(' ', s.state, s.failures, s.last_error) FROM ringfence.job_status() AS s WHERE s.job = 'org_deletion'),
	format('failed 1 P0001: could not delete organization "%s": P0001: not this one', :'poison'), 'which says whose, and why');
SELECT is(how(:'poison'), 'delete: P0001: not this one', 'as the deletion does');
SELECT is((SELECT count(*) FROM public.customers WHERE org_id = :'poison'), 1::bigint, 'of which nothing is undone or done');
SELECT is(how(:'harmless'), 'anonymize: a legal hold on rows of public.receipts', 'another one, ordered later, goes on');
SELECT results_eq(format('SELECT * FROM values_left(%L)', :'harmless'), $$VALUES ('public.receipts', 1::bigint)$$, 'up to personal values in the audit log that a hold is on');
SELECT release(:'harmless', :'hold') \g /dev/null
SELECT ringfence.set_context() \g /dev/null
SELECT clock('30 minutes') \g /dev/null
SELECT throws_ok('SELECT call(''CALL ringfence.delete_orgs()'')', 'P0001', 'job "org_deletion" failed', 'the failure stays one as long as nothing has changed');
SELECT clock('61 minutes') \g /dev/null
SELECT throws_ok('SELECT call(''CALL ringfence.delete_orgs()'')', 'P0001', 'job "org_deletion" failed', 'an hour later it is tried again');
SELECT is(how(:'harmless'), 'done', 'and the other one comes to its end');
SELECT is_empty(format('SELECT * FROM values_left(%L)', :'harmless'), 'without a value');
CREATE OR REPLACE TRIGGER refuse BEFORE DELETE ON public.customers FOR EACH ROW WHEN (OLD.name = 'Poison') EXECUTE FUNCTION public.refuse_poison('55P03');
SELECT clock('122 minutes') \g /dev/null
SELECT is(call('CALL ringfence.delete_orgs()'), 'CALL', 'a lock that was not to be had is no failure');
SELECT is(how(:'poison'), 'delete: 55P03: not this one', 'it is waited for');
DROP TRIGGER refuse ON public.customers;
SELECT clock('124 minutes') \g /dev/null
SELECT is(call('CALL ringfence.delete_orgs()'), 'CALL', 'a minute later it goes on');
SELECT is(how(:'poison') || ' ' || (SELECT string_agg(p.rows::text, ',' ORDER BY p.part) FROM ringfence_data.org_export_parts AS p WHERE p.org_id = :'poison'), 'done 1',
	'from where it was: nothing is exported twice');

-- A policy of somebody else's table does not run with the rights of who owns the rows.

SELECT clock('0') \g /dev/null
\set watched '0eeeeeee-0000-7000-8000-00000000000e'
CREATE ROLE regress_watcher;
INSERT INTO ringfence_data.orgs (id, name, status) VALUES (:'watched', 'Watched', 'closed');
INSERT INTO public.customers (org_id, id, name) VALUES (:'watched', :'watched', 'Watched');
CREATE FUNCTION public.watch() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'policy runs as %', current_user; END $$;
CREATE TABLE public.watchers (org_id uuid, customer_id uuid, FOREIGN KEY (org_id, customer_id) REFERENCES public.customers (org_id, id));
INSERT INTO public.watchers (org_id, customer_id) VALUES (:'watched', :'watched');
ALTER TABLE public.watchers ENABLE ROW LEVEL SECURITY;
CREATE POLICY watch ON public.watchers USING (public.watch());
GRANT SELECT ON public.watchers TO ringfence_owner;
ALTER TABLE public.watchers OWNER TO regress_watcher;
SELECT ringfence.delete_org(:'watched', 'over', '0') \g /dev/null
SELECT clock('1 second') \g /dev/null
SELECT throws_ok('SELECT call(''CALL ringfence.delete_orgs()'')', 'P0001', 'job "org_deletion" failed', 'a row that somebody else references can''t go');
SELECT matches(how(:'watched'), '^delete: 23503: .*"customers" violates .*foreign key constraint', 'which the foreign key says, and no policy is asked');
DELETE FROM public.watchers;
SELECT clock('61 minutes') \g /dev/null
SELECT call('CALL ringfence.delete_orgs()') \g /dev/null
SELECT is(how(:'watched'), 'done', 'once it is gone the deletion goes on');
DROP OWNED BY regress_watcher;
DROP ROLE regress_watcher;

SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) AS c \g /dev/null
SELECT * FROM finish();
