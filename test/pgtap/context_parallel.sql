-- Parallel workers have the leader's context, or the query fails: never fewer
-- rows. The leader takes no part, so that every row comes from a worker.
\ir include/tenants.sql
CREATE TABLE public.many (id uuid NOT NULL DEFAULT ringfence.uuid7(), n int NOT NULL);
SELECT ringfence.protect('public.many', '{"*": "all"}');
INSERT INTO public.many (org_id, n)
SELECT CASE WHEN g % 2 = 0 THEN :'org_a' ELSE :'org_b' END::uuid, g
FROM generate_series(1, 20000) AS g;
ANALYZE public.many;
CREATE FUNCTION public.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
SELECT plan(16);

SET parallel_leader_participation = off;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = off;
PREPARE counting AS SELECT count(*) FROM public.many;
SET SESSION AUTHORIZATION regress_web;

BEGIN;
SELECT claim(:'claims_a');
SELECT is((SELECT count(*) FROM public.many), 10000::bigint, 'a first use in a parallel plan has its workers see every row of A');
SELECT matches(
	(SELECT string_agg(p.line, ' ') FROM (SELECT public.plan_of('SELECT count(*) FROM public.many')) AS p (line)),
	'Workers Planned: [1-9]', 'the plan has workers');
SELECT results_eq('SELECT count(*), sum(n % 2) FROM public.many', $$VALUES (10000::bigint, 0::bigint)$$, 'and no other');
SAVEPOINT s;
SELECT is((SELECT count(*) FROM public.many), 10000::bigint, 'in a subtransaction');
ROLLBACK TO s;
SELECT is((SELECT count(*) FROM public.many), 10000::bigint, 'and after it was rolled back');
COMMIT;

BEGIN;
SELECT claim(:'claims_b');
SELECT ringfence.pre_request();
SELECT results_eq('SELECT count(*), sum(n % 2) FROM public.many', $$VALUES (10000::bigint, 10000::bigint)$$, 'the next transaction''s workers see B''s');
SELECT is((SELECT count(DISTINCT org_id) FROM public.many WHERE ringfence.has_role('owner')), 1::bigint, 'roles reach a worker');
COMMIT;

BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT count(*) FROM public.many), 0::bigint, 'nobody''s workers see nothing');
COMMIT;
RESET SESSION AUTHORIZATION;

-- Inside a function that has settings of its own, which end with it
CREATE FUNCTION public.counted() RETURNS bigint LANGUAGE plpgsql STABLE
SET work_mem = '8MB'
AS $$ BEGIN RETURN (SELECT count(*) FROM public.many); END $$;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT is(public.counted(), 10000::bigint, 'within a function that has settings');
SELECT is((SELECT count(*) FROM public.many), 10000::bigint, 'and after it');
COMMIT;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('EXECUTE counting', ARRAY[10000::bigint], 'a prepared parallel plan');
COMMIT;
BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT results_eq('EXECUTE counting', ARRAY[0::bigint], 'serves nobody with nothing');
COMMIT;
RESET SESSION AUTHORIZATION;

-- A session that signed in, and what it left behind for workers
CREATE ROLE regress_parallel_bi LOGIN;
GRANT ringfence_member TO regress_parallel_bi;
SELECT ringfence.add_jwt_key('parallel');
SELECT ringfence.jwt_sign(:'claims_a') AS token_a \gset
SET SESSION AUTHORIZATION regress_parallel_bi;
SET ROLE ringfence_member;
SELECT ringfence.sign_in(:'token_a', true);
SELECT is((SELECT count(*) FROM public.many), 10000::bigint, 'a session that signed in has workers too');
SELECT ringfence.sign_out();
RESET ROLE;
RESET SESSION AUTHORIZATION;

-- A parallel plan that has nothing to do with us fixes no context
CREATE TABLE public.plain AS SELECT g AS n FROM generate_series(1, 20000) AS g;
GRANT SELECT ON public.plain TO ringfence_member;
ANALYZE public.plain;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT count(*) FROM public.plain), 20000::bigint, 'a plan with workers on a table that is nobody''s');
SELECT lives_ok(format('SELECT claim(%L)', :'claims_a'), 'leaves the claims open');
SELECT is((SELECT count(*) FROM public.many), 10000::bigint, 'and the next one has them');
COMMIT;
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
DROP ROLE regress_parallel_bi;
