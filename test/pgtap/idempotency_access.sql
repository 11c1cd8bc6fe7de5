-- Idempotency keys: owners and admins list their organization's, without what was
-- answered; nobody else sees any and nobody at all writes them; what has expired
-- can be deleted, and nothing that has not, with whosever code.
\ir include/tenants.sql
SET client_min_messages = warning;
SELECT plan(165);

CREATE ROLE regress_key_job LOGIN IN ROLE ringfence_jobs;
INSERT INTO ringfence_data.users (id, email) VALUES
	('aaaaaaaa-0000-4000-8000-0000000000ad', 'admin@a.test'), ('aaaaaaaa-0000-4000-8000-0000000000a0', 'worker@a.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES
	(:'org_a', 'aaaaaaaa-0000-4000-8000-0000000000ad', '{admin}'), (:'org_a', 'aaaaaaaa-0000-4000-8000-0000000000a0', '{worker}');
CREATE FUNCTION public.add_key(org uuid, usr uuid, key text, expires_in interval) RETURNS void
LANGUAGE sql
AS $$
	INSERT INTO ringfence_data.idempotency_keys
		(id, org_id, user_id, key, method, path, fingerprint, created_at, expires_at, status, headers, processed, complete, response)
	VALUES (md5(concat(org, usr, key))::uuid, org, usr, key, 'POST', '/payments', sha256('fingerprint'),
		'2025-01-01 00:00+00', now() + expires_in, '201', '[{"Location": "/payments/7"}]', 1, true, 'the answer')
$$;
CREATE FUNCTION public.expired() RETURNS bigint LANGUAGE sql
AS $$SELECT count(*) FROM ringfence_data.idempotency_keys AS k WHERE k.expires_at < now()$$;
CREATE FUNCTION public.keys() RETURNS text LANGUAGE sql
AS $$SELECT string_agg(k.key, ' ' ORDER BY k.key) FROM ringfence_data.idempotency_keys AS k$$;
SELECT add_key(:'org_a', :'user_a', 'a', '1 day'), add_key(:'org_a', NULL, 'a_expired', '-1 hour'),
	add_key(:'org_b', :'user_b', 'b', '1 day'), add_key(:'org_b', :'user_b', 'b_expired', '-1 day'),
	add_key(NULL, NULL, 'none', '1 day'), add_key(NULL, NULL, 'none_expired', '-1 minute') \g /dev/null
ANALYZE ringfence_data.idempotency_keys;

-- Reading

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT results_eq('SELECT (k.key, k.method, k.path, k.user_id, k.status, k.complete, k.expires_at > now())::text FROM ringfence_v1.idempotency_keys AS k ORDER BY 1',
	ARRAY[format('(a,POST,/payments,%s,201,t,t)', :'user_a'), '(a_expired,POST,/payments,,201,t,f)'], 'an owner lists the organization''s keys');
SELECT results_eq('SELECT k.key COLLATE "default" FROM ringfence_data.idempotency_keys AS k ORDER BY 1', ARRAY['a', 'a_expired'], 'in the table as well');
SELECT is_empty(format('SELECT k.key FROM ringfence_data.idempotency_keys AS k WHERE k.org_id = %L', :'org_b'), 'no others, asked for by organization');
SELECT is_empty('SELECT k.key FROM ringfence_data.idempotency_keys AS k WHERE k.org_id IS NULL', 'nor those of none');
SELECT is_empty('SELECT k.key FROM ringfence_v1.idempotency_keys AS k WHERE k.key IN (''b'', ''none'')', 'by their keys');
SELECT is_empty(format('SELECT k.key FROM ringfence_v1.idempotency_keys AS k WHERE k.user_id = %L', :'user_b'), 'or their users');
SELECT throws_ok('SELECT ' || e || ' FROM ringfence_data.idempotency_keys AS k', '42501', 'permission denied for table idempotency_keys', 'nobody sees ' || e)
FROM unnest(ARRAY['k.response', 'k.fingerprint', 'k.id', 'k.headers', 'k.processed', 'k.*', 'k', 'k.ctid', 'k.xmin', 'to_jsonb(k)', 'k::text',
	'length(k.response)', 'pg_column_size(k.response)', 'k.response IS NULL', 'count(k.response)', 'row_to_json(k)', 'hash_record(k)']) AS e;
SELECT throws_ok('SELECT k.key FROM ringfence_data.idempotency_keys AS k ' || c, '42501', 'permission denied for table idempotency_keys', 'or learns of it: ' || c)
FROM unnest(ARRAY['WHERE k.response IS NOT NULL', 'WHERE k.fingerprint = sha256('''')', 'WHERE k.id IS NOT NULL', 'WHERE octet_length(k.response) > 1', 'WHERE k.processed = 1',
	'WHERE k.headers LIKE ''%Location%''', 'WHERE k IS NOT NULL', 'ORDER BY k.response', 'GROUP BY k.key, k.fingerprint', 'FOR UPDATE', 'FOR KEY SHARE',
	'NATURAL JOIN (SELECT sha256(''fingerprint'') AS fingerprint) AS f', 'JOIN (VALUES (md5('''')::uuid)) AS f (id) USING (id)']) AS c;
SELECT throws_ok('SELECT response FROM ringfence_v1.idempotency_keys', '42703', NULL, 'the view has none of it');
SELECT is_empty('SELECT FROM pg_stats AS s WHERE s.tablename = ''idempotency_keys''', 'statistics tell nothing');
SELECT throws_ok(s, '42501', NULL, 'a member may not: ' || split_part(s, ' ', 1) || ' ' || r)
FROM unnest(ARRAY['ringfence_data.idempotency_keys', 'ringfence_v1.idempotency_keys']) AS r,
	unnest(ARRAY[format('INSERT INTO %s (key) VALUES (''x'')', r), format('UPDATE %s SET key = ''x''', r), format('DELETE FROM %s', r)]) AS s;
SELECT throws_ok('TRUNCATE ringfence_data.idempotency_keys', '42501', NULL, 'nor empty the table');
COMMIT;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-0000000000ad", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}');
SELECT is((SELECT count(*) FROM ringfence_v1.idempotency_keys), 2::bigint, 'an admin lists them');
COMMIT;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-0000000000ad", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a", "roles": ["worker"]}');
SELECT is_empty('SELECT key FROM ringfence_v1.idempotency_keys', 'not by a token for less');
COMMIT;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-0000000000a0", "org_id": "0aaaaaaa-0000-7000-8000-00000000000a"}');
SELECT is((SELECT count(*) FROM public.notes), 1::bigint, 'a worker is a member');
SELECT is_empty('SELECT key FROM ringfence_v1.idempotency_keys', 'who sees none');
SELECT is_empty('SELECT key FROM ringfence_data.idempotency_keys', 'in the table neither');
COMMIT;
BEGIN;
SELECT claim(:'claims_b');
SELECT results_eq('SELECT k.key COLLATE "default" FROM ringfence_v1.idempotency_keys AS k ORDER BY 1', ARRAY['b', 'b_expired'], 'another organization''s owner lists that one''s');
SELECT is_empty('SELECT k.key FROM ringfence_data.idempotency_keys AS k WHERE k.key LIKE ''a%''', 'and none of these');
COMMIT;
BEGIN;
SELECT claim('{"sub": "aaaaaaaa-0000-4000-8000-00000000000a"}');
SELECT is_empty('SELECT key FROM ringfence_v1.idempotency_keys', 'without an organization there are none, not even those of none');
COMMIT;
BEGIN;
SELECT claim(NULL, 'ringfence_anon');
SELECT throws_ok('SELECT key FROM ringfence_v1.idempotency_keys', '42501', 'permission denied for view idempotency_keys', 'somebody unknown may not ask');
SELECT throws_ok('SELECT key FROM ringfence_data.idempotency_keys', '42501', NULL, 'nor in the table');
COMMIT;

-- A condition of the caller's is asked of no row that is not theirs.
RESET SESSION AUTHORIZATION;
CREATE FUNCTION public.betray(key text, expires_at timestamptz) RETURNS boolean
LANGUAGE plpgsql COST 0.0000001
AS $$
BEGIN
	IF key NOT LIKE 'a%' THEN
		RAISE EXCEPTION 'there is a key %', key;
	END IF;
	RETURN true;
END
$$;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT lives_ok('SELECT key FROM ringfence_v1.idempotency_keys WHERE betray(key, expires_at)', 'a cheap condition comes after the policies');
SELECT lives_ok('SELECT key FROM ringfence_data.idempotency_keys WHERE 1 / (key LIKE ''a%'')::int > 0 AND expires_at < now() + interval ''1 year''', 'and so does one that fails');
COMMIT;

-- Operators and jobs

SET SESSION AUTHORIZATION regress_operator;
SELECT is_empty('SELECT key FROM ringfence_v1.idempotency_keys', 'an operator sees none from outside');
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'ticket 9') \g /dev/null
SELECT string_agg(k.key, ' ' ORDER BY k.key) AS keys FROM ringfence_v1.idempotency_keys AS k \gset
ROLLBACK;
SELECT is(:'keys'::text, 'a a_expired', 'and one organization''s from within');
SELECT throws_ok('SELECT response FROM ringfence_data.idempotency_keys', '42501', NULL, 'without the answers');
SELECT throws_ok('DELETE FROM ringfence_data.idempotency_keys', '42501', NULL, 'to read');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.action = 'audit.read' AND l.reason = 'ticket 9' AND l.org_id = :'org_a'), 1::bigint, 'on record');
SET SESSION AUTHORIZATION regress_key_job;
SELECT throws_ok('SELECT ' || c || ' FROM ringfence_data.idempotency_keys', '42501', NULL, 'a job, for whom no policy holds, may not read them: ' || c)
FROM unnest(ARRAY['key', 'id', 'response', 'expires_at', '*']) AS c;
SELECT throws_ok('SELECT key FROM ringfence_v1.idempotency_keys', '42501', NULL, 'nor list');
SELECT throws_ok('DELETE FROM ringfence_data.idempotency_keys', '42501', NULL, 'nor delete');
RESET SESSION AUTHORIZATION;

-- The code of ringfence_owner: whatever a function of its does by mistake.

CREATE FUNCTION public.as_owner(statement text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
GRANT CREATE ON SCHEMA public TO ringfence_owner;
ALTER FUNCTION public.as_owner(text) OWNER TO ringfence_owner;
REVOKE CREATE ON SCHEMA public FROM ringfence_owner;
SELECT throws_ok(format('SELECT as_owner(%L)', 'SELECT ' || c || ' FROM ringfence_data.idempotency_keys AS k'), '42501', 'permission denied for table idempotency_keys',
	'it can''t read ' || c)
FROM unnest(ARRAY['k.response', 'k.fingerprint', 'k.key', 'k.org_id', 'k.headers', 'k.*', 'k', 'k.id FROM ringfence_data.idempotency_keys AS k WHERE k.key = ''b'' UNION ALL SELECT k.id']) AS c;
SELECT is(as_owner('SELECT id, expires_at FROM ringfence_data.idempotency_keys'), 3::bigint, 'it sees that some have expired');
SELECT is(as_owner('SELECT FROM ringfence_data.idempotency_keys WHERE expires_at >= now()'), 0::bigint, 'and none that has not');
SELECT format('SELECT FROM ringfence_data.idempotency_keys WHERE id = %L', k.id) AS by_id FROM ringfence_data.idempotency_keys AS k WHERE k.key = 'b' \gset
SELECT is(as_owner(:'by_id'), 0::bigint, 'though it knew the id');
SELECT throws_ok($$SELECT as_owner('UPDATE ringfence_data.idempotency_keys SET expires_at = now()')$$, '42501',
	'new row violates row-level security policy for table "idempotency_keys"', 'it has none expire, or live on');
SELECT throws_ok(format('SELECT as_owner(%L)', s), '42501', 'permission denied for table idempotency_keys', 'it may not: ' || split_part(s, ' ', 1))
FROM unnest(ARRAY['INSERT INTO ringfence_data.idempotency_keys (id) VALUES (gen_random_uuid())', 'UPDATE ringfence_data.idempotency_keys SET response = NULL',
	'UPDATE ringfence_data.idempotency_keys SET org_id = NULL', 'TRUNCATE ringfence_data.idempotency_keys']) AS s;
BEGIN;
SELECT is(as_owner('DELETE FROM ringfence_data.idempotency_keys'), 3::bigint, 'a DELETE of all');
SELECT is(keys(), 'a b none', 'is one of what has expired');
ROLLBACK;
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}');
SELECT is(as_owner('SELECT FROM ringfence_data.idempotency_keys WHERE expires_at >= now()'), 0::bigint, 'within an organization');
SELECT is(as_owner('DELETE FROM ringfence_data.idempotency_keys'), 3::bigint, 'just so');
SELECT is(keys(), 'a b none', 'for its own keys too');
ROLLBACK;
CREATE ROLE regress_key_member LOGIN;
GRANT ringfence_owner TO regress_key_member;
GRANT ringfence_member TO regress_key_member;
SET SESSION AUTHORIZATION regress_key_member;
SELECT is_empty('SELECT FROM ringfence_data.idempotency_keys', 'a member of ringfence_owner reads none in another role''s name');
SELECT lives_ok('DELETE FROM ringfence_data.idempotency_keys', 'and deletes none');
RESET SESSION AUTHORIZATION;
SELECT is(keys(), 'a a_expired b b_expired none none_expired', 'all are there');
DROP ROLE regress_key_member;

-- Deleting

SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok('SELECT ringfence.purge_idempotency_keys()', '42501', 'permission denied for function purge_idempotency_keys', 'no tenant deletes keys');
COMMIT;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_operator;
SELECT throws_ok('SELECT ringfence.purge_idempotency_keys()', '42501', NULL, 'nor an operator');
RESET SESSION AUTHORIZATION;
SELECT throws_ok(format('SELECT ringfence.purge_idempotency_keys(%s)', b), '22023', 'invalid batch ' || m, 'no batch: ' || m)
FROM (VALUES ('NULL', '<NULL>'), ('0', '0'), ('-1', '-1')) AS i (b, m);
BEGIN READ ONLY;
SELECT throws_ok('SELECT ringfence.purge_idempotency_keys()', '25006', NULL, 'nothing is deleted in a transaction that only reads');
ROLLBACK;
SET SESSION AUTHORIZATION regress_key_job;
SELECT is(ringfence.purge_idempotency_keys(1), 1::bigint, 'a job deletes as many as it says');
RESET SESSION AUTHORIZATION;
SELECT is(expired(), 2::bigint, 'and no more');
SELECT dblink_connect('user', format('dbname=%L host=%L port=%L user=postgres', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))) \gset
SELECT dblink_exec('user', 'BEGIN') \gset
SELECT key FROM dblink('user', 'SELECT key FROM ringfence_data.idempotency_keys WHERE expires_at < now() LIMIT 1 FOR KEY SHARE') AS t (key text) \gset
SET SESSION AUTHORIZATION regress_key_job;
SET lock_timeout = '10s';
SELECT is(ringfence.purge_idempotency_keys(), 1::bigint, 'all that have expired, but for those in use');
RESET SESSION AUTHORIZATION;
SELECT ok(expired() = 1 AND :'key' = ANY (string_to_array(keys(), ' ')), 'which nobody waits for');
SELECT dblink_exec('user', 'COMMIT'), dblink_disconnect('user') \gset
SELECT add_key(:'org_b', :'user_b', 'b_again', '-1 day') \g /dev/null
SET SESSION AUTHORIZATION regress_key_job;
BEGIN;
SELECT ringfence.enter_org(:'org_a', 'nightly') \g /dev/null
SELECT is(ringfence.purge_idempotency_keys(), 2::bigint, 'from within an organization, every one''s');
COMMIT;
SELECT is(ringfence.purge_idempotency_keys(), 0::bigint, 'until there are none');
RESET SESSION AUTHORIZATION;
SELECT is(keys(), 'a b none', 'and nothing else');
SELECT add_key(:'org_b', :'user_b', 'b_expired', '-1 day') \g /dev/null
SET ROLE pg_database_owner;
SELECT is(ringfence.purge_idempotency_keys(), 1::bigint, 'the database''s owner may as well');
RESET ROLE;
SELECT is_empty('SELECT FROM pg_trigger AS t WHERE t.tgrelid = ''ringfence_data.idempotency_keys''::regclass', 'what is deleted is not copied into the audit log');

-- Endpoints that require a key, and how long keys are kept; less what apps require.

CREATE FUNCTION public.settings() RETURNS text
LANGUAGE sql
AS $$
	SELECT string_agg(rtrim(concat_ws(' ', s.method, s.path, s.retention)), ', ' ORDER BY s.method, s.path, s.retention)
	FROM (
		SELECT r.method, r.path, '' AS retention FROM ringfence_data.idempotency_required AS r WHERE r.path <> '/rpc/grant_nova'
		UNION ALL
		SELECT r.method, r.path, r.retention || CASE WHEN r.answers THEN '' ELSE ' without answers' END FROM ringfence_data.idempotency_retention AS r
	) AS s
$$;
SET SESSION AUTHORIZATION regress_web;
BEGIN;
SELECT claim(:'claims_a');
SELECT throws_ok('SELECT ringfence.require_idempotency_key(''POST'', ''/payments'')', '42501', 'permission denied for function require_idempotency_key', 'no tenant requires keys');
SELECT throws_ok('SELECT ringfence.keep_idempotency_keys(''POST'', ''/payments'', ''1 day'')', '42501', 'permission denied for function keep_idempotency_keys', 'or says how long they count');
SELECT throws_ok('SELECT path FROM ringfence_data.' || t, '42501', 'permission denied for table ' || t, 'or reads ' || t)
FROM unnest(ARRAY['idempotency_required', 'idempotency_retention']) AS t;
COMMIT;
RESET SESSION AUTHORIZATION;
SET ROLE pg_database_owner;
SELECT lives_ok(s, 'the database''s owner may: ' || s)
FROM unnest(ARRAY[
	'SELECT ringfence.require_idempotency_key(''POST'', ''/payments'')',
	'SELECT ringfence.require_idempotency_key(''POST'', ''/payments'', true)',
	'SELECT ringfence.require_idempotency_key(''PATCH'', ''/rpc/päy'')',
	'SELECT ringfence.keep_idempotency_keys(''POST'', ''/payments'', ''1 day'')',
	'SELECT ringfence.keep_idempotency_keys(''POST'', ''/payments'', ''1 month'')',
	'SELECT ringfence.keep_idempotency_keys(''CALL'', ''public.add_key(uuid,uuid,text,interval)'', ''0.5 s'')'
]) AS s;
RESET ROLE;
SELECT is(settings(), 'CALL public.add_key(pg_catalog.uuid,pg_catalog.uuid,pg_catalog.text,interval) 00:00:00.5, PATCH /rpc/päy, POST /payments, POST /payments 720:00:00, POST /rpc/invite_claim 24:00:00 without answers, POST /rpc/switch_org 24:00:00 without answers',
	'each is there once, a month as 30 days');
SELECT results_eq($$
	SELECT l.operation COLLATE "default", r.name COLLATE "default", l.key COLLATE "default"
		FROM ringfence_data.audit_log AS l JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
		WHERE r.name LIKE 'ringfence\_data.idempotency%' AND l.key NOT LIKE '%/rpc/grant\_nova%' AND l.key NOT LIKE '%/rpc/invite\_claim%' ORDER BY l.id
$$, $$VALUES ('INSERT', 'ringfence_data.idempotency_required', '["POST", "/payments"]'), ('INSERT', 'ringfence_data.idempotency_required', '["PATCH", "/rpc/päy"]'),
	('INSERT', 'ringfence_data.idempotency_retention', '["POST", "/payments"]'), ('UPDATE', 'ringfence_data.idempotency_retention', '["POST", "/payments"]'),
	('INSERT', 'ringfence_data.idempotency_retention', '["CALL", "public.add_key(pg_catalog.uuid,pg_catalog.uuid,pg_catalog.text,interval)"]')$$,
	'on record');
SELECT ringfence.idempotent('call', 'add_key(uuid,uuid,text,interval)', '{"org": null, "usr": null, "key": "made", "expires_in": "1 day"}') \g /dev/null
SELECT is((SELECT k.expires_at - k.created_at FROM ringfence_data.idempotency_keys AS k WHERE k.method = 'CALL'), '0.5 s', 'by which the library goes');
DROP FUNCTION public.add_key(uuid, uuid, text, interval);
SELECT ringfence.require_idempotency_key('POST', '/payments', false), ringfence.require_idempotency_key('POST', '/payments', false),
	ringfence.keep_idempotency_keys('POST', '/payments', NULL), ringfence.keep_idempotency_keys('POST', '/none', NULL),
	ringfence.keep_idempotency_keys('CALL', 'public.add_key(pg_catalog.uuid,pg_catalog.uuid,pg_catalog.text,interval)', NULL) \g /dev/null
SELECT is(settings(), 'PATCH /rpc/päy, POST /rpc/invite_claim 24:00:00 without answers, POST /rpc/switch_org 24:00:00 without answers', 'and taken back, for a function that is gone as well');
SELECT throws_ok(format('SELECT ringfence.%s(%L, %L, %L)', f.name, i.method, i.path, f.argument), '22023', i.message, f.name || ': ' || replace(i.message, E'\n', ' '))
FROM (VALUES ('require_idempotency_key', 'true'), ('keep_idempotency_keys', '1 day')) AS f (name, argument),
	(VALUES
		(NULL, '/x', 'invalid method "<NULL>"'),
		('', '/x', 'invalid method ""'),
		('GET', '/x', 'invalid method "GET"'),
		('post', '/x', 'invalid method "post"'),
		('POST', NULL, 'invalid path "<NULL>"'),
		('POST', '', 'invalid path ""'),
		('POST', 'payments', 'invalid path "payments"'),
		('POST', '/payments?id=eq.1', 'invalid path "/payments?id=eq.1"'),
		('POST', E'/pay\nments', E'invalid path "/pay\nments"'),
		('POST', '/' || repeat('x', 1000), 'invalid path "/' || repeat('x', 1000) || '"')
	) AS i (method, path, message);
SELECT ringfence.keep_idempotency_keys('POST', '/rpc/switch_org', '1 hour') \g /dev/null
SELECT is(settings(), 'PATCH /rpc/päy, POST /rpc/invite_claim 24:00:00 without answers, POST /rpc/switch_org 01:00:00 without answers', 'who says another time says nothing of answers');
SELECT throws_ok('SELECT ringfence.keep_idempotency_keys(''POST'', ''/rpc/switch_org'', NULL' || a || ')', '22023', 'how long keys are kept must be given where their answers are not', 'nor is that forgotten by the way: NULL' || a)
FROM unnest(ARRAY['', ', NULL', ', false']) AS a;
SELECT throws_ok('SELECT ringfence.keep_idempotency_keys(''POST'', ''/rpc/other'', NULL, false)', '22023', NULL, 'elsewhere neither');
SELECT ringfence.keep_idempotency_keys('POST', '/rpc/other', '1 hour', false), ringfence.keep_idempotency_keys('POST', '/rpc/switch_org', NULL, true) \g /dev/null
SELECT is(settings(), 'PATCH /rpc/päy, POST /rpc/invite_claim 24:00:00 without answers, POST /rpc/other 01:00:00 without answers', 'it is said and taken back by name');
SELECT ringfence.keep_idempotency_keys('POST', '/rpc/other', '1 hour', true) \g /dev/null
SELECT is(settings(), 'PATCH /rpc/päy, POST /rpc/invite_claim 24:00:00 without answers, POST /rpc/other 01:00:00', 'either way');
SELECT throws_ok('SELECT ringfence.require_idempotency_key(''POST'', ''/x'', NULL)', '22023', 'whether a key is required must be given', 'yes or no');
SELECT throws_ok('SELECT ringfence.require_idempotency_key(''CALL'', ''public.keys()'')', '22023', 'invalid method "CALL"', 'idempotent() has a key always');
SELECT throws_ok(format('SELECT ringfence.keep_idempotency_keys(''POST'', ''/x'', %L)', i), '22023', 'keys cannot be kept for ' || i, 'no time: ' || i)
FROM unnest(ARRAY['00:00:00', '-00:00:01', '-1 days', '11 years']) AS i;
SELECT throws_ok(format('SELECT ringfence.keep_idempotency_keys(''CALL'', %L, ''1 day'')', f), '42883', format('function "%s" does not exist', coalesce(f, '<NULL>')), 'no function: ' || coalesce(f, 'NULL'))
FROM unnest(ARRAY[NULL, '', 'keys()', 'public.keys', 'public.betray(text, timestamptz)', 'public.none()', '/payments']) AS f;

-- Without core

SELECT ringfence.uninstall('cleaning', true) \g /dev/null
SELECT ringfence.uninstall('merchant', true) \g /dev/null
DROP TABLE public.notes;
SELECT ringfence.uninstall('core', true) \g /dev/null
SELECT throws_ok('SELECT ringfence.' || f, '55000', 'app "core" is not installed', 'without core there is no ' || f)
FROM unnest(ARRAY['purge_idempotency_keys()', 'require_idempotency_key(''POST'', ''/x'')', 'keep_idempotency_keys(''POST'', ''/x'', NULL)']) AS f;
DROP ROLE regress_key_job;

SELECT * FROM finish();
