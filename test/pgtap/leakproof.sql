-- PostgreSQL runs cheap leakproof conditions before the policies, and what
-- stands beside them tells whether they held for a hidden row. Here they come
-- after. A table under row security of a session that never loaded the library
-- shows that the attack works where nothing stops it.
\ir include/tenants.sql
CREATE TABLE public.prices (id uuid NOT NULL DEFAULT ringfence.uuid7(), price bigint NOT NULL, currency text NOT NULL);
SELECT ringfence.protect('public.prices', '{"*": "all"}');
INSERT INTO public.prices (org_id, price, currency) VALUES (:'org_a', 1, 'EUR'), (:'org_b', 7777777, 'EUR');
CREATE TABLE public.bare (tenant text NOT NULL, price bigint NOT NULL, currency text NOT NULL);
INSERT INTO public.bare VALUES ('a', 1, 'EUR'), ('b', 7777777, 'EUR');
ALTER TABLE public.bare ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.bare USING (tenant = current_setting('x.tenant', true));
GRANT SELECT ON public.bare TO regress_web, ringfence_member;
ANALYZE public.prices, public.bare;
SELECT format('host=%s port=%s dbname=%s user=regress_web', split_part(current_setting('unix_socket_directories'), ',', 1),
	current_setting('port'), current_database()) AS conninfo \gset

-- Did the side effect happen that only a hidden row could cause?
CREATE FUNCTION public.told(condition text, rel text) RETURNS boolean LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('x.told', '', true);
	EXECUTE format('SELECT count(*) FROM public.%I AS p WHERE %s', rel, condition);
	RETURN current_setting('x.told') = 'yes';
END
$$;
\set subselect 'price = 7777777 AND currency = (SELECT set_config(''x.told'', ''yes'', true))'
\set branch 'CASE WHEN price = 7777777 THEN set_config(''x.told'', ''yes'', true) IS NULL ELSE false END'
\set function 'price = 7777777 AND set_config(''x.told'', ''yes'', true) IS NULL'
SELECT plan(11);

SELECT dblink_connect('bare', :'conninfo') \gset
SELECT dblink_exec('bare', 'SET x.tenant = ''a''; SET enable_indexscan = off') \gset
SELECT results_eq(
	format('SELECT t FROM dblink(''bare'', %L) AS d (t boolean)', format('SELECT public.told(%L, ''bare'')', :'subselect')),
	ARRAY[true], 'without the library a sub-select tells of a hidden row');
SELECT results_eq(
	format('SELECT t FROM dblink(''bare'', %L) AS d (t boolean)', format('SELECT public.told(%L, ''bare'')', :'branch')),
	ARRAY[true], 'and so does a branch of a CASE');
SELECT dblink_disconnect('bare') \gset

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT ok(NOT told(:'subselect', 'prices'), 'a sub-select beside a comparison is not run by hidden rows');
SELECT ok(NOT told(:'branch', 'prices'), 'a branch of a CASE neither');
SELECT is(told(:'function', 'prices'), told(replace(:'function', '7777777', '7777778'), 'prices'),
	'a function without columns does not tell a hidden value from none');
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT ok(NOT told(:'subselect', 'prices'), 'in a sequential scan neither');
SELECT ok(NOT told('EXISTS (SELECT FROM public.prices AS q WHERE q.price = p.price AND q.price = 7777777 AND q.currency = (SELECT set_config(''x.told'', ''yes'', true)))', 'prices'),
	'nor in a sub-query');
SELECT ok(told(replace(:'subselect', '7777777', '1'), 'prices'), 'for a row of one''s own it is run');
COMMIT;
BEGIN;
SET LOCAL ROLE ringfence_member;
SELECT ok(NOT told(:'subselect', 'prices'), 'nobody is told anything');
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_operator;
SELECT ok(NOT told(:'subselect', 'prices'), 'nor an operator who has not entered');
RESET SESSION AUTHORIZATION;

-- Indexes are used as before
CREATE FUNCTION public.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql
AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
INSERT INTO public.prices (org_id, price, currency) SELECT :'org_a', g, 'EUR' FROM generate_series(1, 5000) AS g;
CREATE INDEX ON public.prices (org_id, price);
ANALYZE public.prices;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT matches(
	(SELECT string_agg(l, ' ') FROM public.plan_of('SELECT * FROM public.prices WHERE price = 17') AS l),
	'Index Cond: .*org_id.*price', 'a leakproof condition is still an index condition');
COMMIT;
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
