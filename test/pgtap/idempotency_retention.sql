-- How long keys count: 24 hours, another time for all of them, or for an endpoint,
-- from the next use on; then they are free, whether or not they have been deleted.
\ir include/idempotency.sql
SET client_min_messages = warning;
SELECT plan(41);

CREATE SCHEMA regress_v1;
GRANT USAGE ON SCHEMA regress_v1 TO ringfence_member;
CREATE TABLE regress_v1.items (id uuid NOT NULL DEFAULT ringfence.uuid7(), name text NOT NULL);
SELECT ringfence.protect('regress_v1.items', '{"owner": "all"}') \g /dev/null
CREATE FUNCTION regress_v1.make(item text) RETURNS text LANGUAGE sql VOLATILE
AS 'INSERT INTO regress_v1.items (name) VALUES (item) RETURNING name';
CREATE FUNCTION regress_v1.make_once(item text) RETURNS jsonb LANGUAGE sql VOLATILE
AS 'SELECT ringfence.idempotent(item, ''regress_v1.make(text)'', jsonb_build_object(''item'', item))';
CREATE FUNCTION public.owner() RETURNS jsonb LANGUAGE sql STABLE RETURN test.claims('Alder Clean', 'owner');
CREATE FUNCTION public.post(name text) RETURNS text LANGUAGE sql
AS $$ SELECT test.sent(format('test.post(owner(), ''regress_v1'', ''items'', %L, test.keyed(%L))', jsonb_build_object('name', name), name)) $$;
CREATE FUNCTION public.kept(key text) RETURNS text LANGUAGE sql
AS $$ SELECT string_agg((k.expires_at - k.created_at)::text, ' ') FROM ringfence_data.idempotency_keys AS k WHERE k.key = kept.key $$;
CREATE FUNCTION public.count(name text) RETURNS bigint LANGUAGE sql
AS $$ SELECT pg_catalog.count(*) FROM regress_v1.items AS i WHERE i.name = count.name $$;

-- The default, and another one

SELECT is(current_setting('ringfence.idempotency_retention'), '1d', 'the default');
SELECT is(post('a'), '201', 'a key');
SELECT is(kept('a'), '1 day', 'is kept for a day');
SELECT is((SELECT k.created_at BETWEEN now() - interval '1 hour' AND clock_timestamp() FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'a'), true, 'from its first use');
ALTER DATABASE :DBNAME SET ringfence.idempotency_retention = '90min';
SELECT test.disconnect() \g /dev/null
SELECT is(post('b'), '201', 'another default');
SELECT is(kept('b'), '01:30:00', 'is for keys of later');
SELECT is(kept('a'), '1 day', 'not for earlier ones');
SELECT matches(test.tx('SET LOCAL ringfence.idempotency_retention = 0'), '^22023 0.* is outside the valid range for parameter "ringfence.idempotency_retention"', 'nothing is no time');
SET SESSION AUTHORIZATION regress_web;
SELECT throws_ok(format('SET LOCAL ringfence.%s', s), '42501', NULL, 'no tenant changes it: ' || s)
FROM unnest('{idempotency_retention = 1,idempotency_max_response = 1,idempotency_wait = 1}'::text[]) AS s;
RESET SESSION AUTHORIZATION;

-- Endpoints

SELECT ringfence.keep_idempotency_keys('POST', '/items', '7 days'), ringfence.keep_idempotency_keys('POST', '/rpc/make', '30 seconds'),
	ringfence.keep_idempotency_keys('CALL', 'regress_v1.make(text)', '1 month') \g /dev/null
SELECT is(post('c'), '201', 'an endpoint with a time of its own');
SELECT is(kept('c'), '7 days', 'has it, in a session that was there before');
SELECT is(test.sent($$test.request('POST', '/%69tems', owner(), 'INSERT INTO regress_v1.items (name) VALUES (''d'') RETURNING 1', '{}', test.keyed('d'))$$), '201', 'however its path is written');
SELECT is(kept('d'), '7 days', 'it is the same');
SELECT is(test.sent($$test.patch(owner(), 'regress_v1', 'items', 'items.name = $1', '{"name": "e"}', '{d}', test.keyed('e'))$$), '204', 'another method');
SELECT is(kept('e'), '01:30:00', 'has the default');
SELECT is(test.sent($$test.rpc(owner(), 'regress_v1', 'make', '{"item": "f"}', headers => test.keyed('f'))$$), '200', 'a function of the API');
SELECT is(kept('f'), '00:00:30', 'has its own');
SELECT is(test.sent($$test.rpc(owner(), 'regress_v1', 'make_once', '{"item": "g"}')$$), '200', 'one that idempotent() calls');
SELECT is(kept('g'), '30 days', 'has another');
SELECT is(test.once('plain', 'INSERT INTO regress_v1.items (org_id, name) VALUES ((SELECT org_id FROM regress_v1.items LIMIT 1), ''plain'')', 1, 'ringfence.idempotency_retention = 3600'), 'INSERT 0 1', 'outside of requests');
SELECT is(kept('plain'), '01:00:00', 'there is the default');
BEGIN;
SELECT ringfence.keep_idempotency_keys('POST', '/items', '1 hour') \g /dev/null
SELECT is(post('h'), '201', 'before a change is committed');
COMMIT;
SELECT is(kept('h'), '7 days', 'it does not count');
SELECT is(post('i'), '201', 'after it is');
SELECT is(kept('i'), '01:00:00', 'it does');
BEGIN;
SELECT ringfence.keep_idempotency_keys('POST', '/items', '2 hours') \g /dev/null
ROLLBACK;
SELECT ringfence.keep_idempotency_keys('POST', '/rpc/make', NULL) \g /dev/null
SELECT is(ARRAY[post('j'), test.sent($$test.rpc(owner(), 'regress_v1', 'make', '{"item": "k"}', headers => test.keyed('k'))$$)], '{201,200}', 'taken back');
SELECT is(ARRAY[kept('j'), kept('k')], '{01:00:00,01:30:00}', 'it is as before');
DELETE FROM ringfence_data.idempotency_retention;
SELECT is(post('l'), '201', 'by hand as well');
SELECT is(kept('l'), '01:30:00', 'the default again');

-- Their end

SELECT is(post('a'), '201 again', 'a key counts');
UPDATE ringfence_data.idempotency_keys AS k SET created_at = now() - interval '1 day', expires_at = now() + interval '1 minute' WHERE k.key = 'a';
SELECT is(post('a'), '201 again', 'to its end');
UPDATE ringfence_data.idempotency_keys AS k SET expires_at = now() WHERE k.key IN ('a', 'b');
SELECT is(ARRAY[post('a'), post('a')], '{201,"201 again"}', 'and is new again, deleted or not');
SELECT is(ARRAY[count('a'), count('b')], '{2,1}', 'with another effect');
SELECT is(kept('a'), '01:30:00', 'one record of it');
SELECT is(ringfence.purge_idempotency_keys(), 1::bigint, 'what has expired is deleted');
SELECT is(kept('b'), NULL, 'without a trace');
SELECT is(ARRAY[post('b'), post('b'), post('a')], '{201,"201 again","201 again"}', 'which changes nothing about it');
UPDATE ringfence_data.idempotency_keys AS k SET expires_at = now() WHERE k.key = 'b';
SELECT is(test.sent($$test.post(owner(), 'regress_v1', 'items', '{"name": "other"}', test.keyed('b'))$$), '201', 'an expired key is free for another request');
SELECT is(post('b'), '422 PT422 the idempotency key was used for another request', 'whose it is then');

SELECT * FROM finish();
