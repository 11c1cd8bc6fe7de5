-- Sends requests the way PostgREST does, statement for statement, over a
-- connection of its own as the login role regress_web: BEGIN in the access mode
-- of the method, one list of set_config, the pre-request, one main statement
-- with its parameters bound, COMMIT. A failure is rolled back and answered with
-- the status and the body that PostgREST would give.
--
--   test.claims(org name [, role])               the claims of a member, as a token would carry them
--   test.get(claims, schema, relation [, tail, params, headers])
--   test.post(claims, schema, relation, body [, headers, on_conflict])
--   test.patch(claims, schema, relation, tail, body [, params, headers])
--   test.delete(claims, schema, relation, tail [, params, headers])
--   test.rpc(claims, schema, function [, arguments, method, headers])
--   test.request(method, path, claims, query [, params, headers])
--
-- Each returns (status, code, message, details, hint, body, headers). NULL
-- claims are a request without a token. A tail is the SQL behind the relation:
-- "WHERE status = $1 ORDER BY id", its parameters untyped, with a column that a
-- PATCH also sets written as relation.column. The connection stays open and is
-- used again, with its prepared statements, as by a pool of one;
-- set_config('test.connection', name, false) changes to another.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dblink WITH SCHEMA public;
RESET client_min_messages;

CREATE SCHEMA test;

CREATE TYPE test.response AS (
	status integer,
	code text,
	message text,
	details text,
	hint text,
	body jsonb,
	headers jsonb
);

-- Claims of an org's member with a role, where there is one of them with no other.
CREATE FUNCTION test.claims(org text, role text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_claims jsonb;
BEGIN
	SELECT jsonb_build_object('role', 'ringfence_member', 'sub', m.user_id, 'org_id', m.org_id,
			'roles', to_jsonb(m.roles), 'party', m.party)
		INTO found_claims
		FROM ringfence_data.memberships AS m
			JOIN ringfence_data.orgs AS o ON o.id = m.org_id
		WHERE o.name = claims.org
			AND (claims.role IS NULL OR claims.role = ANY (m.roles))
			AND m.status = 'active'
		ORDER BY cardinality(m.roles), m.user_id
		LIMIT 1;
	IF found_claims IS NULL THEN
		RAISE EXCEPTION 'organization "%" has no member with role "%"', org, role;
	END IF;
	RETURN found_claims;
END
$$;

-- Name of the open connection; opens it where needed.
CREATE FUNCTION test.connection() RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name CONSTANT text := coalesce(nullif(current_setting('test.connection', true), ''), 'web');
	login CONSTANT text := coalesce(nullif(current_setting('test.login', true), ''), 'regress_web');
BEGIN
	IF name = ANY (coalesce(public.dblink_get_connections(), '{}')) THEN
		RETURN name;
	END IF;
	PERFORM public.dblink_connect(name, format('dbname=%L host=%L port=%L user=%L application_name=postgrest',
			current_database(),
			split_part(current_setting('unix_socket_directories'), ',', 1),
			current_setting('port'), login));
	RETURN name;
END
$$;

-- Ends the connection, as a pool does with an idle one.
CREATE FUNCTION test.disconnect() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM public.dblink_disconnect(test.connection());
END
$$;

-- HTTP status of an SQLSTATE, from the table in PostgREST's Error.hs.
CREATE FUNCTION test.status_of(code text, message text, anonymous boolean) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN code ~ '^PT[1-5][0-9][0-9]$' THEN pg_catalog.substr(code, 3)::integer
	WHEN code LIKE 'PT%' THEN 500
	WHEN code LIKE '08%' THEN 503
	WHEN code LIKE '09%' THEN 500
	WHEN code LIKE '0L%' OR code LIKE '0P%' THEN 403
	WHEN code IN ('23503', '23505') THEN 409
	WHEN code = '25006' THEN 405
	WHEN code = '21000' AND message LIKE '%requires a WHERE clause' THEN 400
	WHEN code = '21000' OR code LIKE '25%' THEN 500
	WHEN code LIKE '28%' THEN 403
	WHEN code LIKE '2D%' OR code LIKE '38%' OR code LIKE '39%' OR code LIKE '3B%' OR code LIKE '40%' THEN 500
	WHEN code = '53400' THEN 500
	WHEN code LIKE '53%' THEN 503
	WHEN code LIKE '54%' OR code LIKE '55%' THEN 500
	WHEN code = '57P01' THEN 503
	WHEN code LIKE '57%' OR code LIKE '58%' OR code LIKE 'F0%' OR code LIKE 'HV%' THEN 500
	WHEN code = 'P0001' THEN 400
	WHEN code LIKE 'P0%' OR code LIKE 'XX%' THEN 500
	WHEN code = '42883' AND message LIKE 'function xmlagg(%' THEN 406
	WHEN code IN ('42883', '42P01') THEN 404
	WHEN code = '42P17' THEN 500
	WHEN code = '42501' AND anonymous THEN 401
	WHEN code = '42501' THEN 403
	ELSE 400
END;

-- The answer to a failed request.
CREATE FUNCTION test.failure(code text, message text, details text, hint text, anonymous boolean)
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answer test.response;
	shaped jsonb;
BEGIN
	answer.headers := '{}';
	IF code = 'PGRST' THEN
		shaped := message::jsonb;
		answer.status := details::jsonb ->> 'status';
		answer.code := shaped ->> 'code';
		answer.message := shaped ->> 'message';
		answer.details := shaped ->> 'details';
		answer.hint := shaped ->> 'hint';
		answer.headers := coalesce(details::jsonb -> 'headers', '{}');
	ELSE
		answer.status := test.status_of(code, message, anonymous);
		answer.code := code;
		answer.message := message;
		answer.details := nullif(details, '');
		answer.hint := nullif(hint, '');
		IF answer.status = 401 THEN
			answer.headers := '{"WWW-Authenticate": "Bearer"}';
		END IF;
	END IF;
	answer.body := jsonb_build_object('code', answer.code, 'message', answer.message,
			'details', answer.details, 'hint', answer.hint);
	RETURN answer;
END
$$;

-- Makes sure that a statement is prepared under a name of its own, as hasql
-- does; it says nothing where it is. Returns the name.
CREATE FUNCTION test.prepared(conn text, statement text, types text[]) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name CONSTANT text := 'pgrst_' || md5(statement || array_to_string(types, ','));
	known boolean;
BEGIN
	SELECT t.known
		INTO known
		FROM public.dblink(conn, format(
				'SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE name = %L)', name))
			AS t(known boolean);
	RETURN CASE WHEN known THEN name ELSE '!' || name END;
END
$$;

-- One request. kind: read, write or call; columns that differ between them are
-- told apart by it. types are the parameters' types, "unknown" where PostgreSQL
-- is to infer them.
CREATE FUNCTION test.send(kind text, method text, path text, claims jsonb, schema text, read_only boolean,
		statement text, types text[], params text[], headers jsonb, OUT answer test.response,
		OUT total bigint, OUT page bigint, OUT location text, OUT inserted text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	settings CONSTANT text := 'select set_config(''search_path'', $1, true), set_config(''role'', $2, true), '
		'set_config(''request.jwt.claims'', $3, true), set_config(''request.method'', $4, true), '
		'set_config(''request.path'', $5, true), set_config(''request.headers'', $6, true), '
		'set_config(''request.cookies'', $7, true)';
	role CONSTANT text := coalesce(claims ->> 'role', 'ringfence_anon');
	conn CONSTANT text := test.connection();
	settings_name text := test.prepared(conn, settings, '{}');
	main_name text := test.prepared(conn, statement, types);
	sent_headers CONSTANT jsonb := '{"host": "localhost:3000", "accept": "*/*", "user-agent": "curl/7.88.1"}'
		|| CASE WHEN claims IS NULL THEN '{}' ELSE '{"authorization": "Bearer TOKEN"}'::jsonb END
		|| coalesce(headers, '{}');
	body text;
	response_headers text;
	response_status text;
	code text;
	message text;
	details text;
	hint text;
BEGIN
	IF settings_name LIKE '!%' THEN
		settings_name := substr(settings_name, 2);
		PERFORM public.dblink_exec(conn, format('PREPARE %I AS %s', settings_name, settings));
	END IF;
	-- PostgREST prepares by protocol and in the request; PREPARE is refused there.
	-- So it comes before, and what is wrong with it is told in its place.
	IF main_name LIKE '!%' THEN
		BEGIN
			PERFORM public.dblink_exec(conn, format('BEGIN; SET LOCAL ROLE %I; SET LOCAL search_path = %I, public; PREPARE %I %s AS %s; COMMIT',
					role, schema, substr(main_name, 2),
					CASE WHEN types <> '{}' THEN '(' || array_to_string(types, ', ') || ')' END, statement));
			main_name := substr(main_name, 2);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
				details = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			PERFORM public.dblink_exec(conn, 'ROLLBACK');
		END;
	END IF;
	BEGIN
		PERFORM public.dblink_exec(conn, 'BEGIN ISOLATION LEVEL READ COMMITTED READ '
				|| CASE WHEN read_only THEN 'ONLY' ELSE 'WRITE' END);
		PERFORM *
			FROM public.dblink(conn, format('EXECUTE %I (%L, %L, %L, %L, %L, %L, %L)', settings_name,
					format('"%s", "public"', schema), role,
					coalesce(claims, '{}') || jsonb_build_object('role', role),
					method, path, sent_headers, '{}'))
				AS t(a text, b text, c text, d text, e text, f text, g text);
		PERFORM * FROM public.dblink(conn, 'select "ringfence"."pre_request"()') AS t(nothing text);
		IF main_name LIKE '!%' THEN
			RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = details, HINT = hint;
		END IF;
		main_name := format('EXECUTE %I %s', main_name,
				(SELECT '(' || string_agg(format('%L', p), ', ' ORDER BY n) || ')'
					FROM unnest(params) WITH ORDINALITY AS u(p, n)));
		IF kind = 'write' THEN
			SELECT NULL, t.page, array_to_string(t.header, '&'), t.body, t.headers, t.status, t.inserted
				INTO total, page, location, body, response_headers, response_status, inserted
				FROM public.dblink(conn, main_name) AS t(total text, page bigint, header text[], body text,
						headers text, status text, inserted text);
		ELSE
			SELECT t.total, t.page, t.body, t.headers, t.status
				INTO total, page, body, response_headers, response_status
				FROM public.dblink(conn, main_name) AS t(total bigint, page bigint, body text,
						headers text, status text, inserted text);
		END IF;
		IF headers ->> 'accept' LIKE 'application/vnd.pgrst.object+json%' AND page <> 1 THEN
			RAISE EXCEPTION USING ERRCODE = 'PGRST', MESSAGE = jsonb_build_object('code', 'PGRST116',
					'message', 'JSON object requested, multiple (or no) rows returned',
					'details', format('The result contains %s rows', page))::text,
				DETAIL = '{"status": 406, "headers": {}}';
		END IF;
		PERFORM public.dblink_exec(conn, 'COMMIT');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
			details = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		BEGIN
			PERFORM public.dblink_exec(conn, 'ROLLBACK');
		EXCEPTION WHEN connection_exception THEN
			PERFORM public.dblink_disconnect(conn);
		END;
		answer := test.failure(code, message, details, hint, claims IS NULL);
		RETURN;
	END;
	answer.headers := coalesce((SELECT jsonb_object_agg(h.key, h.value)
				FROM jsonb_array_elements(response_headers::jsonb) AS e
					CROSS JOIN LATERAL jsonb_each(e) AS h), '{}');
	answer.status := nullif(response_status, '')::integer;
	BEGIN
		answer.body := nullif(body, '')::jsonb;
	EXCEPTION WHEN invalid_text_representation THEN
		answer.body := to_jsonb(body);
	END;
END
$$;

-- PostgREST's main statement around a source query.
CREATE FUNCTION test.main_statement(kind text, source text, body text, selected text DEFAULT 'SELECT * FROM pgrst_source',
		header text DEFAULT 'array[]::text[]', inserted text DEFAULT '''''', counted text DEFAULT '',
		page text DEFAULT 'pg_catalog.count(_postgrest_t)')
	RETURNS text
LANGUAGE sql IMMUTABLE
RETURN pg_catalog.format('WITH pgrst_source AS (%s)%s SELECT %s AS total_result_set, %s AS page_total, %s%s AS body, '
	'nullif(current_setting(''response.headers'', true), '''') AS response_headers, '
	'nullif(current_setting(''response.status'', true), '''') AS response_status, '
	'%s AS response_inserted FROM (%s) _postgrest_t',
	source,
	CASE WHEN counted <> '' THEN pg_catalog.format(', pgrst_source_count AS (%s)', counted) END,
	CASE WHEN counted <> '' THEN '(SELECT pg_catalog.count(*) FROM pgrst_source_count)'
		WHEN kind = 'write' THEN ''''''
		ELSE 'null::bigint' END,
	page,
	CASE WHEN kind = 'write' THEN header || ' AS header, ' END,
	body, inserted, CASE WHEN kind = 'read' THEN ' ' || selected || ' ' ELSE selected END);

-- The body of a list of rows, in the media type that the request accepts.
CREATE FUNCTION test.rows_as(headers jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN headers ->> 'accept' LIKE 'text/csv%' THEN
		'(SELECT coalesce(string_agg(a.k, '',''), '''')  FROM (    SELECT json_object_keys(r)::text as k    '
		'FROM (       SELECT row_to_json(hh) as r from pgrst_source as hh limit 1    ) s  ) a) || E''\n'' || '
		'coalesce(string_agg(substring(_postgrest_t::text, 2, length(_postgrest_t::text) - 2), E''\n''), '''')'
	WHEN headers ->> 'accept' LIKE 'application/vnd.pgrst.object+json%' THEN
		'coalesce(json_agg(_postgrest_t)->0, ''null'')'
	ELSE 'coalesce(json_agg(_postgrest_t), ''[]'')'
END;

-- Types of the columns named by the keys of a payload; NULL for what isn't one.
CREATE FUNCTION test.typed_keys(relation regclass, body jsonb, OUT keys text[], OUT types text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(k.key ORDER BY k.key), '{}'),
			coalesce(array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.key), '{}')
		FROM jsonb_object_keys(CASE WHEN jsonb_typeof(body) = 'array' THEN body -> 0 ELSE body END) AS k(key)
			LEFT JOIN pg_attribute AS a
				ON a.attrelid = relation AND a.attname = k.key AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- The FROM list that turns a payload, bound as $1, into rows.
CREATE FUNCTION test.payload(keys text[], types text[], is_array boolean, one_row boolean DEFAULT false) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
	SELECT pg_catalog.format('FROM (SELECT $1 AS json_data) pgrst_payload, LATERAL (SELECT %s FROM %s%s) pgrst_body',
			pg_catalog.string_agg(pg_catalog.format('"%s"', k), ', ' ORDER BY n),
			CASE WHEN pg_catalog.count(k) = 0 AND is_array THEN 'json_array_elements(pgrst_payload.json_data) _ '
				WHEN pg_catalog.count(k) = 0 THEN '(values(1)) _ '
				ELSE pg_catalog.format('%s(pgrst_payload.json_data) AS _(%s) ',
					CASE WHEN is_array THEN 'json_to_recordset' ELSE 'json_to_record' END,
					pg_catalog.string_agg(pg_catalog.format('"%s" %s', k, t), ', ' ORDER BY n))
			END,
			CASE WHEN one_row THEN 'LIMIT 1' END)
		FROM ROWS FROM (pg_catalog.unnest(keys), pg_catalog.unnest(types)) WITH ORDINALITY AS u(k, t, n)
$$;

-- A tail as it stands behind a relation: a bare condition gets its WHERE.
CREATE FUNCTION test.tail(tail text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN tail ~* '^\s*(where|order|limit|offset)\M' OR tail ~ '^\s*$' THEN tail ELSE 'WHERE ' || tail END;

CREATE FUNCTION test.get(claims jsonb, schema text, relation text, tail text DEFAULT '', params text[] DEFAULT '{}',
		headers jsonb DEFAULT '{}', columns text DEFAULT NULL, method text DEFAULT 'GET')
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target CONSTANT text := format('"%s"."%s"', schema, relation);
	sent record;
	answer test.response;
BEGIN
	IF to_regclass(target) IS NULL THEN
		RETURN test.failure('42P01', format('relation "%s.%s" does not exist', schema, relation), NULL, NULL, claims IS NULL);
	END IF;
	SELECT *
		INTO sent
		FROM test.send('read', method, '/' || relation, claims, schema, true,
			test.main_statement('read', format(' SELECT %s FROM %s %s ', coalesce(columns, target || '.*'), target, test.tail(tail)),
				test.rows_as(headers),
				counted => CASE WHEN headers ->> 'prefer' LIKE '%count=exact%' THEN
						rtrim(format('SELECT 1 FROM %s %s', target,
							regexp_replace(test.tail(tail), '\m(order by|limit|offset)\M.*$', '', 'i')))
					ELSE '' END),
			array_fill('unknown'::text, ARRAY[cardinality(params)]), params, headers);
	answer := sent.answer;
	IF answer.code IS NULL THEN
		answer.status := coalesce(answer.status, CASE WHEN sent.page < sent.total THEN 206 ELSE 200 END);
		answer.headers := jsonb_build_object('content-range',
				format('%s/%s', CASE WHEN sent.page > 0 THEN format('0-%s', sent.page - 1) ELSE '*' END,
					coalesce(sent.total::text, '*'))) || answer.headers;
		IF method = 'HEAD' THEN
			answer.body := NULL;
		END IF;
	END IF;
	RETURN answer;
END
$$;

-- The part that the writes to a relation have in common.
CREATE FUNCTION test.write(method text, claims jsonb, schema text, relation text, source text, returning_rows boolean,
		types text[], params text[], headers jsonb, header text DEFAULT 'array[]::text[]', inserted text DEFAULT '''''')
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sent record;
	answer test.response;
BEGIN
	SELECT *
		INTO sent
		FROM test.send('write', method, '/' || relation, claims, schema, false,
			test.main_statement('write', source,
				CASE WHEN returning_rows THEN test.rows_as(headers) ELSE '''''::text' END,
				CASE WHEN returning_rows THEN format('SELECT "%1$s".* FROM "pgrst_source" AS "%1$s"     ', relation)
					ELSE 'SELECT * FROM pgrst_source' END,
				header, inserted),
			types, params, headers);
	answer := sent.answer;
	IF answer.code IS NULL THEN
		answer.status := coalesce(answer.status, CASE
				WHEN method = 'POST' AND headers ->> 'prefer' LIKE '%resolution=merge-duplicates%'
					AND coalesce(nullif(sent.inserted, '')::integer, 0) <= 0 THEN 200
				WHEN method = 'POST' THEN 201
				WHEN returning_rows THEN 200
				ELSE 204
			END);
		IF sent.location <> '' THEN
			answer.headers := jsonb_build_object('location', format('/%s?%s', relation, sent.location)) || answer.headers;
		END IF;
	END IF;
	RETURN answer;
END
$$;

CREATE FUNCTION test.post(claims jsonb, schema text, relation text, body jsonb,
		headers jsonb DEFAULT '{"prefer": "return=representation"}', on_conflict text[] DEFAULT NULL)
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target CONSTANT text := format('"%s"."%s"', schema, relation);
	prefer CONSTANT text := coalesce(headers ->> 'prefer', '');
	merge CONSTANT boolean := prefer LIKE '%resolution=merge-duplicates%';
	keys text[];
	types text[];
	quoted text[];
	unknown text;
	source text;
BEGIN
	IF to_regclass(target) IS NULL THEN
		RETURN test.failure('42P01', format('relation "%s.%s" does not exist', schema, relation), NULL, NULL, claims IS NULL);
	END IF;
	SELECT t.keys, t.types INTO keys, types FROM test.typed_keys(target::regclass, body) AS t;
	IF array_position(types, NULL) IS NOT NULL THEN
		unknown := keys[array_position(types, NULL)];
		RETURN test.failure('PGRST', jsonb_build_object('code', 'PGRST204', 'message',
				format('Could not find the ''%s'' column of ''%s'' in the schema cache', unknown, relation))::text,
			'{"status": 400}', NULL, claims IS NULL);
	END IF;
	quoted := ARRAY(SELECT format('"%s"', k) FROM unnest(keys) WITH ORDINALITY AS u(k, n) ORDER BY n);
	source := format('INSERT INTO %s%s SELECT %s %s %s%s RETURNING %s', target,
			CASE WHEN keys <> '{}' THEN '(' || array_to_string(quoted, ', ') || ')' END,
			(SELECT string_agg('"pgrst_body".' || q, ', ' ORDER BY n) FROM unnest(quoted) WITH ORDINALITY AS u(q, n)),
			test.payload(keys, types, jsonb_typeof(body) = 'array'),
			CASE WHEN merge THEN 'WHERE set_config(''pgrst.inserted'', (coalesce(nullif(current_setting(''pgrst.inserted'', true), '''')::int, 0) + 1)::text, true) <> ''0''' END,
			CASE WHEN on_conflict IS NOT NULL THEN
				format(' ON CONFLICT(%s) DO %s', (SELECT string_agg(format('"%s"', c), ', ') FROM unnest(on_conflict) AS c),
					CASE WHEN merge THEN 'UPDATE SET ' || (SELECT string_agg(q || ' = EXCLUDED.' || q, ', ' ORDER BY n) FROM unnest(quoted) WITH ORDINALITY AS u(q, n))
						|| 'WHERE set_config(''pgrst.inserted'', (coalesce(nullif(current_setting(''pgrst.inserted'', true), '''')::int, 0) - 1)::text, true) <> ''-1'''
					ELSE 'NOTHING' END)
			END,
			CASE WHEN prefer LIKE '%return=representation%' OR prefer LIKE '%return=headers-only%' THEN target || '.*' ELSE '1' END);
	RETURN test.write('POST', claims, schema, relation, source, prefer LIKE '%return=representation%', '{json}',
		ARRAY[body::text], headers,
		inserted => CASE WHEN merge THEN 'nullif(current_setting(''pgrst.inserted'', true),'''')::int' ELSE '''''' END,
		header => CASE WHEN prefer LIKE '%return=headers-only%' THEN
				'CASE WHEN pg_catalog.count(_postgrest_t) = 1 THEN coalesce((WITH data AS (SELECT row_to_json(_) AS row FROM pgrst_source AS _ LIMIT 1) '
				'SELECT array_agg(json_data.key || ''='' || coalesce(''eq.'' || json_data.value, ''is.null'')) '
				'FROM data CROSS JOIN json_each_text(data.row) AS json_data WHERE json_data.key IN (''id'')), array[]::text[]) '
				'ELSE array[]::text[] END'
			ELSE 'array[]::text[]' END);
END
$$;

CREATE FUNCTION test.patch(claims jsonb, schema text, relation text, tail text, body jsonb, params text[] DEFAULT '{}',
		headers jsonb DEFAULT '{"prefer": "return=representation"}')
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target CONSTANT text := format('"%s"."%s"', schema, relation);
	returning_rows CONSTANT boolean := coalesce(headers ->> 'prefer', '') LIKE '%return=representation%';
	keys text[];
	types text[];
BEGIN
	IF to_regclass(target) IS NULL THEN
		RETURN test.failure('42P01', format('relation "%s.%s" does not exist', schema, relation), NULL, NULL, claims IS NULL);
	END IF;
	SELECT t.keys, t.types INTO keys, types FROM test.typed_keys(target::regclass, body) AS t;
	IF array_position(types, NULL) IS NOT NULL THEN
		RETURN test.failure('PGRST', jsonb_build_object('code', 'PGRST204', 'message',
				format('Could not find the ''%s'' column of ''%s'' in the schema cache', keys[array_position(types, NULL)], relation))::text,
			'{"status": 400}', NULL, claims IS NULL);
	END IF;
	-- $1 is the payload: the tail's own parameters follow it
	FOR i IN REVERSE cardinality(params) .. 1 LOOP
		tail := replace(tail, '$' || i, '$' || i + 1);
	END LOOP;
	RETURN test.write('PATCH', claims, schema, relation,
		format('UPDATE %s SET %s %s %s RETURNING %s', target,
			(SELECT string_agg(format('"%1$s" = "pgrst_body"."%1$s"', k), ', ' ORDER BY n) FROM unnest(keys) WITH ORDINALITY AS u(k, n)),
			test.payload(keys, types, jsonb_typeof(body) = 'array'), test.tail(tail),
			CASE WHEN returning_rows THEN target || '.*' ELSE '1' END),
		returning_rows, '{json}' || array_fill('unknown'::text, ARRAY[cardinality(params)]), body::text || params, headers);
END
$$;

CREATE FUNCTION test.delete(claims jsonb, schema text, relation text, tail text, params text[] DEFAULT '{}',
		headers jsonb DEFAULT '{"prefer": "return=representation"}')
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target CONSTANT text := format('"%s"."%s"', schema, relation);
	returning_rows CONSTANT boolean := coalesce(headers ->> 'prefer', '') LIKE '%return=representation%';
BEGIN
	IF to_regclass(target) IS NULL THEN
		RETURN test.failure('42P01', format('relation "%s.%s" does not exist', schema, relation), NULL, NULL, claims IS NULL);
	END IF;
	RETURN test.write('DELETE', claims, schema, relation,
		format('DELETE FROM %s %s RETURNING %s', target, test.tail(tail),
			CASE WHEN returning_rows THEN target || '.*' ELSE '1' END),
		returning_rows, array_fill('unknown'::text, ARRAY[cardinality(params)]), params, headers);
END
$$;

-- Calls a function; GET, and any function that isn't volatile, in a read-only
-- transaction.
CREATE FUNCTION test.rpc(claims jsonb, schema text, function text, arguments jsonb DEFAULT '{}',
		method text DEFAULT 'POST', headers jsonb DEFAULT '{}')
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	target CONSTANT text := format('"%s"."%s"', schema, function);
	proc pg_proc;
	is_row boolean;
	is_void boolean;
	keys text[];
	types text[];
	call text;
	body text;
	sent record;
	answer test.response;
	source text;
BEGIN
	SELECT p.*
		INTO proc
		FROM pg_proc AS p
			CROSS JOIN LATERAL (
				SELECT coalesce(array_agg(a.name ORDER BY a.n) FILTER (WHERE a.mode IN ('i', 'b', 'v')), '{}') AS names
					FROM ROWS FROM (unnest(coalesce(p.proargnames, '{}')),
							unnest(coalesce(p.proargmodes::text[], array_fill('i'::text, ARRAY[p.pronargs::integer]))))
						WITH ORDINALITY AS a(name, mode, n)) AS i
		WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = schema)
			AND p.proname = function
			AND ARRAY(SELECT jsonb_object_keys(arguments)) <@ i.names
			AND i.names[:p.pronargs - p.pronargdefaults] <@ ARRAY(SELECT jsonb_object_keys(arguments))
		ORDER BY p.oid
		LIMIT 1;
	IF NOT FOUND THEN
		RETURN test.failure('PGRST', jsonb_build_object('code', 'PGRST202', 'message',
				format('Could not find the function %s.%s in the schema cache', schema, function))::text,
			'{"status": 404}', NULL, claims IS NULL);
	END IF;
	SELECT proc.prorettype = 'record'::regtype
			OR (t.typtype = 'c' OR (t.typtype = 'd' AND b.typtype = 'c')), proc.prorettype = 'void'::regtype, t.typname
		INTO is_row, is_void, source
		FROM pg_type AS t
			LEFT JOIN pg_type AS b ON b.oid = t.typbasetype
		WHERE t.oid = proc.prorettype;
	SELECT coalesce(array_agg(a.name ORDER BY a.n), '{}'), coalesce(array_agg(format_type(a.type, NULL) ORDER BY a.n), '{}')
		INTO keys, types
		FROM unnest(proc.proargnames[:proc.pronargs], proc.proargtypes::oid[]) WITH ORDINALITY AS a(name, type, n)
		WHERE arguments ? a.name;
	call := format('%s(%s)', target,
		(SELECT string_agg(format('"%1$s" := pgrst_body."%1$s"', k), ', ' ORDER BY n) FROM unnest(keys) WITH ORDINALITY AS u(k, n)));
	call := CASE WHEN is_row THEN call || ' pgrst_call' ELSE format('(SELECT %s pgrst_scalar) pgrst_call', call) END;
	call := format('SELECT %s %s %s', CASE WHEN is_row THEN '"pgrst_call".*' ELSE 'pgrst_call.pgrst_scalar' END,
		CASE WHEN keys = '{}' THEN 'FROM' ELSE test.payload(keys, types, false, true) || ' , LATERAL' END, call);
	body := CASE
		WHEN headers ->> 'accept' LIKE 'text/csv%' AND source = 'text/csv' THEN format('%s(_postgrest_t.pgrst_scalar)', proc.prorettype::regtype)
		WHEN is_row AND proc.proretset THEN test.rows_as(headers)
		WHEN is_row THEN 'coalesce(json_agg(_postgrest_t)->0, ''null'')'
		WHEN proc.proretset THEN 'coalesce(json_agg(_postgrest_t.pgrst_scalar), ''[]'')'
		ELSE 'coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, ''null'')'
	END;
	SELECT *
		INTO sent
		FROM test.send('call', method, '/rpc/' || function, claims, schema,
			method IN ('GET', 'HEAD') OR proc.provolatile <> 'v',
			test.main_statement('call', call, body, format('SELECT "%1$s".* FROM "pgrst_source" AS "%1$s"     ', CASE WHEN is_row THEN source ELSE function END),
				page => CASE WHEN proc.proretset THEN 'pg_catalog.count(_postgrest_t)' ELSE '1' END),
			CASE WHEN keys = '{}' THEN '{}' ELSE '{json}'::text[] END,
			CASE WHEN keys = '{}' THEN '{}' ELSE ARRAY[arguments::text] END, headers);
	answer := sent.answer;
	IF answer.code IS NULL THEN
		answer.status := coalesce(answer.status, CASE WHEN is_void THEN 204 ELSE 200 END);
		IF is_void OR method = 'HEAD' THEN
			answer.body := NULL;
		END IF;
	END IF;
	RETURN answer;
END
$$;

-- Any statement: a source query, put into the form that PostgREST gives it, or
-- a whole main statement. The schema is the profile header's, else cleaning_v1.
CREATE FUNCTION test.request(method text, path text, claims jsonb, query text, params text[] DEFAULT '{}',
		headers jsonb DEFAULT '{}')
	RETURNS test.response
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	reads CONSTANT boolean := method IN ('GET', 'HEAD');
	kind CONSTANT text := CASE WHEN path LIKE '/rpc/%' THEN 'call' WHEN reads THEN 'read' ELSE 'write' END;
	whole CONSTANT boolean := query ~* '^\s*with\s+pgrst_source\M';
	types text[] := array_fill('unknown'::text, ARRAY[cardinality(params)]);
	sent record;
	answer test.response;
BEGIN
	IF query LIKE '%$1 AS json_data%' THEN
		types[1] := 'json';
	END IF;
	SELECT *
		INTO sent
		FROM test.send(CASE WHEN whole AND query LIKE '% AS header,%' THEN 'write' ELSE kind END, method, path, claims,
			coalesce(headers ->> CASE WHEN reads THEN 'accept-profile' ELSE 'content-profile' END, 'cleaning_v1'), reads,
			CASE WHEN whole THEN query
				ELSE test.main_statement(kind, query, test.rows_as(headers)) END,
			types, params, headers);
	answer := sent.answer;
	IF answer.code IS NULL THEN
		answer.status := coalesce(answer.status, CASE WHEN kind = 'write' AND method = 'POST' THEN 201 ELSE 200 END);
	END IF;
	RETURN answer;
END
$$;
