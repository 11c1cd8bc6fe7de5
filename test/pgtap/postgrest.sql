-- The replay of PostgREST's requests: the transaction that a request sees, and
-- the answers that PostgREST gives to rows, to refusals and to errors. That a
-- real PostgREST answers alike is shown in test/http/postgrest.sh.
\ir include/postgrest.sql

CREATE SCHEMA regress_v1;
GRANT USAGE ON SCHEMA regress_v1 TO ringfence_anon, ringfence_member;
CREATE FUNCTION regress_v1.echo() RETURNS jsonb
LANGUAGE sql VOLATILE
RETURN jsonb_build_object(
	'role', current_user,
	'login', session_user,
	'read_only', current_setting('transaction_read_only'),
	'isolation', current_setting('transaction_isolation'),
	'search_path', current_setting('search_path'),
	'claims', current_setting('request.jwt.claims')::jsonb,
	'method', current_setting('request.method'),
	'path', current_setting('request.path'),
	'headers', current_setting('request.headers')::jsonb,
	'cookies', current_setting('request.cookies')::jsonb,
	'pid', pg_backend_pid());
CREATE FUNCTION regress_v1.reader() RETURNS text
LANGUAGE sql STABLE
RETURN current_setting('transaction_read_only');
CREATE FUNCTION regress_v1.fail(code text, message text, detail text DEFAULT '', hint text DEFAULT '') RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint;
END
$$;
CREATE FUNCTION regress_v1.respond() RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	PERFORM set_config('response.status', '202', true),
		set_config('response.headers', '[{"Retry-After": "7"}, {"X-One": "1"}]', true);
	RETURN 'later';
END
$$;
CREATE FUNCTION regress_v1.numbers(upto integer) RETURNS SETOF integer
LANGUAGE sql IMMUTABLE
RETURN generate_series(1, upto);
CREATE FUNCTION regress_v1.pairs(upto integer, OUT n integer, OUT twice integer) RETURNS SETOF record
LANGUAGE sql IMMUTABLE
RETURN ROW(upto, upto * 2);
CREATE FUNCTION regress_v1.pair(n integer, word text, OUT a integer, OUT b text)
LANGUAGE sql IMMUTABLE
RETURN ROW(n, word);

\set alder '0d9f6c1e-0000-7000-8000-00000000000a'
\set birch '0d9f6c1e-0000-7000-8000-00000000000b'

SELECT plan(51);

-- The transaction.

SELECT is(
	(test.rpc(test.claims('Alder Clean', 'owner'), 'regress_v1', 'echo', headers => '{"x-request-id": "r-1"}')).body - 'pid',
	jsonb_build_object(
		'role', 'ringfence_member', 'login', 'regress_web', 'read_only', 'off', 'isolation', 'read committed',
		'search_path', '"regress_v1", "public"', 'claims', test.claims('Alder Clean', 'owner'),
		'method', 'POST', 'path', '/rpc/echo', 'cookies', '{}'::jsonb,
		'headers', '{"host": "localhost:3000", "accept": "*/*", "user-agent": "curl/7.88.1", "authorization": "Bearer TOKEN", "x-request-id": "r-1"}'::jsonb),
	'a request has its role, claims, method, path, headers and search_path');
SELECT is(
	(test.rpc(NULL, 'regress_v1', 'echo')).body - 'pid' - 'search_path' - 'isolation' - 'cookies',
	'{"role": "ringfence_anon", "login": "regress_web", "read_only": "off", "claims": {"role": "ringfence_anon"},
		"method": "POST", "path": "/rpc/echo", "headers": {"host": "localhost:3000", "accept": "*/*", "user-agent": "curl/7.88.1"}}',
	'one without a token has the anonymous role');
SELECT is(
	(test.rpc(NULL, 'regress_v1', 'echo', method => 'GET')).body ->> 'read_only',
	'on', 'GET is read only');
SELECT is(
	(test.rpc(NULL, 'regress_v1', 'reader')).body #>> '{}',
	'on', 'so is POST to a function that only reads');
SELECT is(
	(test.rpc(NULL, 'regress_v1', 'echo')).body -> 'pid',
	(test.rpc(test.claims('Birch Services'), 'regress_v1', 'echo')).body -> 'pid',
	'requests share a connection');
SELECT is(
	(SELECT count(*) FROM dblink(test.connection(), 'SELECT name FROM pg_prepared_statements WHERE statement LIKE ''%echo%''') AS t(name text)),
	1::bigint, 'a statement is prepared once');
SELECT is(
	(SELECT t.left_over FROM dblink(test.connection(), $$
			SELECT concat_ws('|', current_user = session_user, current_setting('request.jwt.claims'), current_setting('transaction_read_only'))
		$$) AS t(left_over text)),
	't||off', 'nothing of a request is left on its connection');

-- Reading.

SELECT is(r.status, 200, 'rows: 200') FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams') AS r;
SELECT is(
	(SELECT count(DISTINCT b ->> 'org_id') FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'bookings') AS r,
		jsonb_array_elements(r.body) AS b WHERE b ->> 'org_id' = :'alder'),
	1::bigint, 'the rows are the organization''s');
SELECT is(
	(SELECT array_agg(b ->> 'status') FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'bookings',
			'WHERE status = $1 AND org_id = $2 ORDER BY id LIMIT 2', ARRAY['draft', :'alder']) AS r, jsonb_array_elements(r.body) AS b),
	'{draft,draft}', 'parameters are bound and take the type of the column');
SELECT is(r.body, '[]', 'and find nothing of another organization')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'bookings', 'org_id = $1', ARRAY[:'birch']) AS r;
SELECT is(
	(SELECT array_agg(DISTINCT r.body #>> '{0,org_id}') FROM (VALUES ('Alder Clean'), ('Birch Services')) AS o(name),
		LATERAL test.get(test.claims(o.name, 'owner'), 'cleaning_v1', 'clients', 'ORDER BY id LIMIT 1') AS r),
	ARRAY[:'alder', :'birch'], 'one prepared statement serves two organizations');
SELECT is(ROW(r.status, r.headers), ROW(206, '{"content-range": "0-0/4"}'::jsonb), 'a part of the rows, counted: 206')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'ORDER BY id LIMIT 1', headers => '{"prefer": "count=exact"}') AS r;
SELECT is(r.headers, '{"content-range": "*/*"}', 'no rows, not counted')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'name = $1', '{none}') AS r;
SELECT is(ROW(r.status, r.body), ROW(200, NULL::jsonb), 'HEAD has no body')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', method => 'HEAD') AS r;
SELECT is(ROW(r.status, r.code), ROW(406, 'PGRST116'::text), 'one object wanted, many found: 406')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', headers => '{"accept": "application/vnd.pgrst.object+json"}') AS r;
SELECT is(r.body ->> 'org_id', :'alder', 'one object wanted and found')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'ORDER BY id LIMIT 1', headers => '{"accept": "application/vnd.pgrst.object+json"}') AS r;
SELECT matches(r.body #>> '{}', '^org_id,id,name\n' || :'alder' || ',', 'text/csv')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'ORDER BY id LIMIT 1', headers => '{"accept": "text/csv"}', columns => 'org_id, id, name') AS r;
SELECT is(ROW(r.status, r.code, r.headers), ROW(401, '42501'::text, '{"WWW-Authenticate": "Bearer"}'::jsonb), 'without a token: 401')
	FROM test.get(NULL, 'cleaning_v1', 'teams') AS r;
SELECT is(ROW(r.status, r.code), ROW(404, '42P01'::text), 'no such relation: 404')
	FROM test.get(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'nonesuch') AS r;

-- Writing.

SELECT is(ROW(r.status, r.body #>> '{0,org_id}', r.body #>> '{0,name}'), ROW(201, :'alder'::text, 'Posted'::text), 'POST: 201 and the row')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '{"name": "Posted"}') AS r;
SELECT is(ROW(r.status, r.body), ROW(201, NULL::jsonb), 'POST of several, minimal: 201 and no body')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '[{"name": "One"}, {"name": "Two"}]', '{}') AS r;
SELECT is(
	(SELECT count(*) FROM cleaning.teams WHERE org_id = :'alder' AND name IN ('Posted', 'One', 'Two')),
	3::bigint, 'and the rows are committed');
SELECT matches(r.headers ->> 'location', '^/teams\?id=eq\.[0-9a-f-]{36}$', 'headers-only: the location')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '{"name": "Where"}', '{"prefer": "return=headers-only"}') AS r;
SELECT is(ROW(r.status, r.code, r.details), ROW(409, '23505'::text, NULL::text), 'a duplicate: 409, the values not shown')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '{"name": "Posted"}') AS r;
SELECT is(ROW(r.status, r.body), ROW(201, '[]'::jsonb), 'a duplicate ignored')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '{"name": "Posted"}',
		'{"prefer": "resolution=ignore-duplicates,return=representation"}', '{org_id,name}') AS r;
SELECT is(ROW(r.status, r.body #>> '{0,name}'), ROW(200, 'Posted'::text), 'a duplicate merged: 200')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '{"name": "Posted"}',
		'{"prefer": "resolution=merge-duplicates,return=representation"}', '{org_id,name}') AS r;
SELECT is(ROW(r.status, r.code, r.message), ROW(403, '42501'::text, 'new row violates row-level security policy "org_isolation" for table "teams"'::text), 'a row for another organization: 403')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', jsonb_build_object('name', 'Planted', 'org_id', :'birch')) AS r;
SELECT is(ROW(r.status, r.code), ROW(400, 'PGRST204'::text), 'no such column: 400')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '{"nonsense": 1}') AS r;
SELECT is(ROW(r.status, r.code), ROW(400, '23502'::text), 'a missing value: 400')
	FROM test.post(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', '{"name": null}') AS r;
SELECT is(ROW(r.status, r.body #>> '{0,name}'), ROW(200, 'Renamed'::text), 'PATCH: 200 and the row')
	FROM test.patch(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'teams.name = $1', '{"name": "Renamed"}', '{Posted}') AS r;
SELECT is(ROW(r.status, r.body), ROW(204, NULL::jsonb), 'PATCH, minimal: 204')
	FROM test.patch(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'teams.name = $1', '{"name": "Again"}', '{Renamed}', '{}') AS r;
SELECT is(ROW(r.status, r.body), ROW(200, '[]'::jsonb), 'PATCH of another organization''s rows: 200 and none')
	FROM test.patch(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'org_id = $1', '{"name": "Taken"}', ARRAY[:'birch']) AS r;
SELECT is(ROW(r.status, r.body #>> '{0,name}'), ROW(200, 'Again'::text), 'DELETE: 200 and the row')
	FROM test.delete(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'name = $1', '{Again}') AS r;
SELECT is(ROW(r.status, r.body), ROW(204, NULL::jsonb), 'DELETE, minimal: 204')
	FROM test.delete(test.claims('Alder Clean', 'owner'), 'cleaning_v1', 'teams', 'name = $1', '{One}', '{}') AS r;

-- Functions.

SELECT is(ROW(r.status, r.body), ROW(200, '[1, 2, 3]'::jsonb), 'a set of scalars')
	FROM test.rpc(NULL, 'regress_v1', 'numbers', '{"upto": 3}') AS r;
SELECT is(ROW(r.status, r.body), ROW(200, '[{"n": 2, "twice": 4}]'::jsonb), 'a set of rows')
	FROM test.rpc(NULL, 'regress_v1', 'pairs', '{"upto": 2}') AS r;
SELECT is(ROW(r.status, r.body), ROW(200, '{"a": 7, "b": "x"}'::jsonb), 'a row, with arguments of two types')
	FROM test.rpc(NULL, 'regress_v1', 'pair', '{"n": 7, "word": "x"}', 'GET') AS r;
SELECT is(ROW(r.status, r.body, r.headers), ROW(202, '"later"'::jsonb, '{"Retry-After": "7", "X-One": "1"}'::jsonb), 'a function sets status and headers')
	FROM test.rpc(NULL, 'regress_v1', 'respond') AS r;
SELECT is(ROW(r.status, r.code), ROW(404, 'PGRST202'::text), 'no such function: 404')
	FROM test.rpc(NULL, 'regress_v1', 'numbers', '{"down": 3}') AS r;

-- Errors.

SELECT is(ROW(r.status, r.code, r.message, r.details, r.hint), ROW(409, 'PT409'::text, 'taken'::text, 'Row 1.'::text, 'Try 2.'::text), 'PTnnn sets the status')
	FROM test.rpc(NULL, 'regress_v1', 'fail', '{"code": "PT409", "message": "taken", "detail": "Row 1.", "hint": "Try 2."}') AS r;
SELECT is(r.body, '{"code": "PT409", "message": "taken", "details": "Row 1.", "hint": null}', 'the body says it too')
	FROM test.rpc(NULL, 'regress_v1', 'fail', '{"code": "PT409", "message": "taken", "detail": "Row 1."}') AS r;
SELECT is(ROW(r.status, r.code, r.message, r.headers), ROW(429, 'R1'::text, 'slower'::text, '{"Retry-After": "1"}'::jsonb), 'PGRST sets status, body and headers')
	FROM test.rpc(NULL, 'regress_v1', 'fail', jsonb_build_object('code', 'PGRST',
		'message', '{"code": "R1", "message": "slower"}', 'detail', '{"status": 429, "headers": {"Retry-After": "1"}}')) AS r;
SELECT is(
	array_agg(test.status_of(s.code, 'm', false) ORDER BY s.n),
	'{400,409,409,405,503,500,500,500,404,404,403,500,400}', 'other codes have the status of PostgREST''s table')
	FROM unnest('{P0001,23503,23505,25006,53100,53400,40001,55P03,42883,42P01,42501,XX000,22023}'::text[]) WITH ORDINALITY AS s(code, n);
SELECT is(r.status, 405, 'a write in a GET: 405')
	FROM test.request('GET', '/teams', test.claims('Alder Clean', 'owner'),
		'WITH pgrst_source AS (DELETE FROM cleaning_v1.teams RETURNING 1) SELECT null::bigint, 1, '''', '''', '''', '''' FROM pgrst_source') AS r;
SELECT is(ROW(r.status, r.body), ROW(201, '[{"name": "Free"}]'::jsonb), 'a statement of one''s own')
	FROM test.request('POST', '/teams', test.claims('Alder Clean', 'owner'),
		'INSERT INTO teams (name) SELECT name FROM (SELECT $1 AS json_data) AS p, json_to_record(p.json_data) AS b(name text) RETURNING teams.name',
		ARRAY['{"name": "Free"}']) AS r;
SELECT is((test.rpc(NULL, 'regress_v1', 'numbers', '{"upto": 1}')).status, 200, 'after errors the connection serves on');

-- A second connection, and an end to the first.

SELECT set_config('test.connection', 'other', false) AS connection \gset
SELECT is((test.rpc(NULL, 'regress_v1', 'numbers', '{"upto": 1}')).status, 200, 'a second connection');
SELECT is(dblink_get_connections() @> '{web,other}', true, 'stands beside the first');
SELECT lives_ok('SELECT test.disconnect()', 'and is closed');
SELECT throws_ok($$SELECT test.claims('No Such Org', 'owner')$$, 'P0001', 'organization "No Such Org" has no member with role "owner"',
	'claims of nobody are an error of the test');

SELECT * FROM finish();
