-- webhook_once(): a provider's event has one effect, in each organization and in
-- none, however often and by however many connections it comes; one that comes
-- again with another payload is refused, on record; and nobody but those who
-- receive webhooks can have an id taken for known.
\ir include/tenants.sql
\ir include/audit.sql
SET client_min_messages = warning;
SELECT plan(94);

CREATE TABLE public.payments (event_id text);
CREATE FUNCTION public.receive(event_id text, payload text DEFAULT 'payload') RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
	IF ringfence.webhook_once('stripe', event_id, sha256(convert_to(payload, 'UTF8'))) THEN
		INSERT INTO public.payments VALUES (receive.event_id);
		RETURN true;
	END IF;
	RETURN false;
END
$$;
CREATE FUNCTION public.effects(event_id text) RETURNS bigint LANGUAGE sql
AS $$SELECT count(*) FROM public.payments AS p WHERE p.event_id = effects.event_id$$;

-- Once

SELECT is(receive('evt_1'), true, 'an event is new');
SELECT is(receive('evt_1'), false, 'once');
SELECT is(receive('evt_1'), false, 'and never again');
SELECT is(effects('evt_1'), 1::bigint, 'its effect is there once');
BEGIN;
SELECT is(receive('evt_2'), true, 'in a transaction');
SELECT is(receive('evt_2'), false, 'it is known at once');
ROLLBACK;
SELECT is(receive('evt_2'), true, 'what was rolled back had no effect, so it comes for the first time');
BEGIN;
SAVEPOINT attempt;
SELECT is(receive('evt_3'), true, 'in a savepoint');
ROLLBACK TO attempt;
SELECT is(receive('evt_3'), true, 'likewise');
COMMIT;
SELECT is(effects('evt_3'), 1::bigint, 'with one effect');
SELECT is((SELECT array_agg(ringfence.webhook_once('stripe', 'evt_bulk', sha256(''))) FROM generate_series(1, 3)), '{t,f,f}', 'in one statement as well');
SELECT is(ringfence.webhook_once('paypal', 'evt_1', sha256('')), true, 'the same id of another provider is another event');
SELECT is(ringfence.webhook_once('stripe', 'EVT_1', sha256('')), true, 'and so is one in other letters');
SELECT is(ringfence.webhook_once('stripe', 'evt_1 ', sha256('')), true, 'or with a space');
SELECT is(ringfence.webhook_once('stripe', E'e\u0301', sha256('')), true, 'bytes count');
SELECT is(ringfence.webhook_once('stripe', E'\u00e9', sha256('')), true, 'not what they look like');

-- The organization

BEGIN;
SELECT ringfence.set_context(:'org_a');
SELECT is(receive('evt_1'), true, 'to an organization an event comes apart');
SELECT is(receive('evt_a'), true, 'and another');
COMMIT;
BEGIN;
SELECT ringfence.set_context(:'org_b');
SELECT is(receive('evt_a', 'other'), true, 'which says nothing to a second one, whatever its payload');
COMMIT;
BEGIN;
SELECT ringfence.set_context(:'org_a');
SELECT is(receive('evt_a'), false, 'while the first one knows it');
COMMIT;
SELECT is(receive('evt_a'), true, 'without an organization it is new once more');
SELECT results_eq($$SELECT e.org_id::text, e.request_id IS NOT NULL, e.received_at <= clock_timestamp(), e.payload_hash = sha256('payload')
		FROM ringfence_data.webhook_events AS e WHERE e.event_id = 'evt_a' ORDER BY 1$$,
	format($$VALUES ('00000000-0000-0000-0000-000000000000', true, true, true), ('%s', true, true, true), ('%s', true, true, false)$$, :'org_a', :'org_b'),
	'all three stand beside each other');

-- Another payload

SELECT count(*) AS ignored FROM news() \gset
PREPARE changed AS SELECT receive('evt_1', 'changed');
SELECT throws_ok('changed', 'PT409', 'webhook event "evt_1" was received before with another payload', 'a known id with another payload is an error');
SELECT format('EVENT webhook.changed ["stripe", "evt_1"] {"event_id": "evt_1", "provider": "stripe", "received_at": %s, "changed_hash": "%s", "recorded_hash": "%s"}',
	to_jsonb(e.received_at), encode(sha256('changed'), 'hex'), encode(sha256('payload'), 'hex')) AS expected
	FROM ringfence_data.webhook_events AS e
	WHERE (e.provider, e.event_id, e.org_id) = ('stripe', 'evt_1', '00000000-0000-0000-0000-000000000000') \gset
SELECT results_eq('SELECT news()', ARRAY[:'expected'], 'on record with both hashes, though it failed');
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}');
INSERT INTO public.notes (body) VALUES ('is taken back');
SELECT throws_ok('changed', 'PT409', NULL, 'in an organization');
ROLLBACK;
SELECT is((SELECT (n.org_id, n.action, n.key, n.user_id, n.actor)::text FROM newest AS n),
	format('(%s,webhook.changed,"[""stripe"", ""evt_1""]",%s,user)', :'org_a', :'user_a'), 'it is the organization''s record, and stays when its transaction is rolled back');
SELECT count(*) AS ignored FROM news() \gset
SELECT is(effects('evt_1'), 2::bigint, 'it has no effect');
SELECT is(receive('evt_1'), false, 'and the first payload is known as before');
SELECT throws_ok('changed', 'PT409', NULL, 'each time');
SELECT is((SELECT count(*) FROM news()), 1::bigint, 'it is on record');
SELECT throws_ok('SELECT ringfence.webhook_once(''stripe'', ''evt_1'', substr(sha256(''payload''), 1, 31))', 'PT409', NULL, 'a part of the hash is another hash');
SELECT count(*) AS ignored FROM news() \gset
SELECT ringfence.webhook_once(repeat('"', 255), repeat('\', 255), sha256('')) \g /dev/null
SELECT throws_ok($$SELECT ringfence.webhook_once(repeat('"', 255), repeat('\', 255), sha256('x'))$$, 'PT409', NULL, 'the longest ids');
SELECT is((SELECT n.key FROM newest AS n), 'sha256:' || encode(sha256(convert_to(jsonb_build_array(repeat('"', 255), repeat('\', 255))::text, 'UTF8')), 'hex'),
	'are recorded by their hash, where they are too long for a record''s key');
CREATE FUNCTION public.diagnostics(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN detail || ' | ' || hint;
END
$$;
SELECT is(diagnostics('SELECT receive(''evt_1'', ''changed'')'),
	'The hashes of both payloads are on record in the audit log, as event "webhook.changed". | Find out from the provider which payload is its own, and whether your hash covers what changes with each delivery.',
	'the error says where to look');

-- What is no event

SELECT throws_ok(format('SELECT ringfence.webhook_once(%L, %L, %L)', p, e, h), '22023', 'invalid webhook event', what)
FROM (VALUES
	(NULL, 'e', sha256(''), 'no provider'),
	('', 'e', sha256(''), 'an empty one'),
	(repeat('p', 256), 'e', sha256(''), 'one of 256 bytes'),
	(repeat('é', 128), 'e', sha256(''), 'in whatever letters'),
	(E'a\nb', 'e', sha256(''), 'one with a line break'),
	('p', NULL, sha256(''), 'no id'),
	('p', '', sha256(''), 'an empty id'),
	('p', repeat('e', 256), sha256(''), 'an id of 256 bytes'),
	('p', E'e\t', sha256(''), 'one with a tab'),
	('p', E'\x01', sha256(''), 'another control character'),
	('p', E'e\x7f', sha256(''), 'the last of them'),
	('p', 'e', NULL, 'no hash'),
	('p', 'e', '', 'an empty hash'),
	('p', 'e', substr(sha256(''), 1, 15), 'a hash of 15 bytes'),
	('p', 'e', sha512('') || '\x00', 'a hash of 65 bytes')
) AS i (p, e, h, what);
SELECT is(ringfence.webhook_once(repeat('p', 255), repeat('é', 127), substr(sha256(''), 1, 16)), true, '255 bytes, and a hash of 16');
SELECT is(ringfence.webhook_once('p', 'e', sha512('')), true, 'or 64');
SELECT is(ringfence.webhook_once('p', '"; DROP TABLE x; --', sha256('')), true, 'anything else is an id');

-- Other transactions

BEGIN READ ONLY;
SELECT throws_ok('SELECT ringfence.webhook_once(''stripe'', ''evt_ro'', sha256(''''))', '25006', 'cannot execute INSERT in a read-only transaction', 'nothing is received in a transaction that only reads');
ROLLBACK;
CREATE FUNCTION public.connect(name text) RETURNS integer
LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM dblink_connect(name, format('dbname=%L host=%L port=%L user=postgres', current_database(),
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')));
	RETURN (SELECT t.pid FROM dblink(name, 'SELECT pg_backend_pid()') AS t (pid integer));
END
$$;
-- Whether another connection comes to wait for a lock.
CREATE FUNCTION public.waits(pid integer) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		IF cardinality(pg_blocking_pids(pid)) > 0 THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN false;
END
$$;
-- "true", "false", or the error's code.
CREATE FUNCTION public.answer(name text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	result text;
BEGIN
	result := (SELECT t.new FROM dblink_get_result(name) AS t (new boolean))::text;
	PERFORM FROM dblink_get_result(name) AS t (new boolean);
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	PERFORM FROM dblink_get_result(name) AS t (new boolean);
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT connect('first') AS first, connect('second') AS second \gset

SELECT dblink_exec('first', 'BEGIN') \gset
SELECT is(t.new, true, 'the first of two') FROM dblink('first', 'SELECT receive(''evt_c1'')') AS t (new boolean);
SELECT dblink_send_query('second', 'SELECT receive(''evt_c1'')') \gset
SELECT ok(waits(:second), 'has the second wait');
SELECT dblink_exec('first', 'COMMIT') \gset
SELECT is(answer('second'), 'false', 'which finds the event known');
SELECT is(effects('evt_c1'), 1::bigint, 'with one effect');

SELECT dblink_exec('first', 'BEGIN') \gset
SELECT is(t.new, true, 'where the first') FROM dblink('first', 'SELECT receive(''evt_c2'')') AS t (new boolean);
SELECT dblink_send_query('second', 'SELECT receive(''evt_c2'')') \gset
SELECT ok(waits(:second), 'has the second wait');
SELECT dblink_exec('first', 'ROLLBACK') \gset
SELECT is(answer('second'), 'true', 'and rolls back, the event is new to the second');
SELECT is(effects('evt_c2'), 1::bigint, 'with one effect');

SELECT dblink_exec('first', 'BEGIN') \gset
SELECT is(t.new, true, 'the first of two with other payloads') FROM dblink('first', 'SELECT receive(''evt_c3'')') AS t (new boolean);
SELECT dblink_send_query('second', 'SELECT receive(''evt_c3'', ''changed'')') \gset
SELECT ok(waits(:second), 'has the second wait');
SELECT is(t.new, true, 'nobody waits for another event') FROM dblink('first', 'SELECT receive(''evt_c4'')') AS t (new boolean);
SELECT dblink_exec('first', 'COMMIT') \gset
SELECT alike(answer('second'), 'PT409 webhook event "evt_c3" was received before%', 'and refused');
SELECT is(effects('evt_c3'), 1::bigint, 'with one effect');

SELECT dblink_exec('second', 'BEGIN ISOLATION LEVEL REPEATABLE READ') \gset
SELECT is(t.one, 1, 'a snapshot') FROM dblink('second', 'SELECT 1') AS t (one integer);
SELECT is(receive('evt_c5'), true, 'that is older than the event');
SELECT dblink_send_query('second', 'SELECT receive(''evt_c5'')') \gset
SELECT is(answer('second'), '40001 could not serialize access due to concurrent update', 'is told to try again');
SELECT dblink_exec('second', 'ROLLBACK') \gset
SELECT is(effects('evt_c5'), 1::bigint, 'with one effect');
SELECT dblink_disconnect('first'), dblink_disconnect('second') \gset

-- Who may

CREATE ROLE regress_webhook_job LOGIN IN ROLE ringfence_jobs;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok('SELECT ringfence.webhook_once(''stripe'', ''evt_9'', sha256(''''))', '42501', 'permission denied for function webhook_once', 'no member receives webhooks');
SELECT throws_ok(s, '42501', 'permission denied for table webhook_events', 'nor may a member: ' || split_part(s, ' ', 1))
FROM unnest(ARRAY['SELECT event_id FROM ringfence_data.webhook_events', 'INSERT INTO ringfence_data.webhook_events DEFAULT VALUES',
	'UPDATE ringfence_data.webhook_events SET event_id = ''''', 'DELETE FROM ringfence_data.webhook_events', 'TRUNCATE ringfence_data.webhook_events']) AS s;
COMMIT;
BEGIN;
SELECT claim(NULL, 'ringfence_anon');
SELECT throws_ok('SELECT ringfence.webhook_once(''stripe'', ''evt_9'', sha256(''''))', '42501', 'permission denied for function webhook_once', 'nor somebody unknown');
SELECT throws_ok('SELECT event_id FROM ringfence_data.webhook_events', '42501', NULL, 'or reads of them');
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_webhook_job;
SELECT is(ringfence.webhook_once('stripe', 'evt_10', sha256('')), true, 'a job may');
SELECT throws_ok('SELECT event_id FROM ringfence_data.webhook_events', '42501', NULL, 'but not look');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_operator;
SELECT is(ringfence.webhook_once('stripe', 'evt_10', sha256('')), false, 'an operator may');
SELECT throws_ok('SELECT event_id FROM ringfence_data.webhook_events', '42501', NULL, 'but not look either');
RESET SESSION AUTHORIZATION;
SET ROLE pg_database_owner;
SELECT is(ringfence.webhook_once('stripe', 'evt_10', sha256('')), false, 'so may the database''s owner');
RESET ROLE;
CREATE FUNCTION public.endpoint(event_id text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$SELECT ringfence.webhook_once('stripe', event_id, sha256(''))$$;
ALTER FUNCTION public.endpoint(text) OWNER TO pg_database_owner;
GRANT EXECUTE ON FUNCTION public.endpoint(text) TO ringfence_anon, ringfence_member;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(NULL, 'ringfence_anon');
SELECT ringfence.pre_request();
SELECT is(endpoint('evt_11'), true, 'and an endpoint of the owner''s, for a provider who has no account here');
COMMIT;
BEGIN;
SELECT claim(:'claims_b');
SELECT is(endpoint('evt_11'), true, 'or one who has');
SELECT is(ringfence.org_id(), :'org_b', 'in the organization of the request');
COMMIT;
RESET SESSION AUTHORIZATION;
UPDATE ringfence_data.orgs SET status = 'suspended' WHERE id = :'org_b';
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_b');
SELECT throws_ok('SELECT endpoint(''evt_12'')', 'PT403', NULL, 'a suspended organization receives none');
ROLLBACK;
RESET SESSION AUTHORIZATION;

-- Not even ringfence_owner's code gets from one organization to another.
SET ROLE ringfence_owner;
SELECT is((SELECT array_agg(DISTINCT e.org_id::text) FROM ringfence_data.webhook_events AS e), '{00000000-0000-0000-0000-000000000000}', 'without an organization, the code behind it sees what belongs to none');
SELECT throws_ok(format('INSERT INTO ringfence_data.webhook_events (org_id, provider, event_id, payload_hash) VALUES (%L, ''p'', ''e'', sha256(''''))', :'org_b'),
	'42501', 'new row violates row-level security policy "org_isolation" for table "webhook_events"', 'and adds to none');
SELECT throws_ok(s, '42501', 'permission denied for table webhook_events', 'what was received stays: ' || split_part(s, ' ', 1))
FROM unnest(ARRAY['UPDATE ringfence_data.webhook_events SET event_id = ''''', 'TRUNCATE ringfence_data.webhook_events']) AS s;
SELECT is_empty(s || ' RETURNING event_id', 'row security keeps it: ' || split_part(s, ' ', 1))
FROM unnest(ARRAY['UPDATE ringfence_data.webhook_events SET received_at = now()', 'DELETE FROM ringfence_data.webhook_events']) AS s;
RESET ROLE;

-- Without core

SELECT ringfence.uninstall('cleaning', true) \g /dev/null
SELECT ringfence.uninstall('merchant', true) \g /dev/null
DROP TABLE public.notes;
SELECT ringfence.uninstall('core', true) \g /dev/null
SELECT throws_ok('SELECT ringfence.webhook_once(''stripe'', ''evt_1'', sha256(''''))', '55000', 'app "core" is not installed', 'without core there is no telling');
DROP ROLE regress_webhook_job;

SELECT * FROM finish();
