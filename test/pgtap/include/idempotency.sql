-- Requests with a key, and a client that sends statements of its own with one.
--
--   test.keyed(key [, preference, other headers])
--                                        headers of a request, for postgrest.sql
--   test.sent(call)                      what a request comes to that is given as a string:
--                                        its status; the error; "again" for a repetition
--   test.tx(statement, ...)              what each of a transaction's statements answered, " | " between them
--   test.once(key, statement [, columns, setting, ...])
--                                        the same of one statement with a key
--
-- A client has a connection of its own as the role in test.client, else as the
-- superuser. A statement answers with its rows, ", " between them, or with its
-- command tag; BEGIN, SET LOCAL, SAVEPOINT and COMMIT with nothing, as long as they
-- succeed. What fails ends the transaction: "SQLSTATE message". A row of one column
-- is its value, and of more columns, which have to be announced, a row as text.
\ir postgrest.sql

CREATE FUNCTION test.keyed(key text, preference text DEFAULT NULL, other jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('idempotency-key', key, 'prefer', 'return=' || preference)) || other;

CREATE FUNCTION test.sent(call text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
	answer test.response;
BEGIN
	EXECUTE 'SELECT r.* FROM ' || call || ' AS r' INTO answer;
	RETURN concat_ws(' ', answer.status, answer.code, answer.message, CASE WHEN answer.headers ? 'Idempotency-Replayed' THEN 'again' END);
END
$$;

CREATE FUNCTION test.client() RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	login CONSTANT text := coalesce(nullif(current_setting('test.client', true), ''), 'postgres');
	name CONSTANT text := 'client_' || login;
BEGIN
	IF name <> ALL (coalesce(public.dblink_get_connections(), '{}')) THEN
		PERFORM public.dblink_connect(name, format('dbname=%L host=%L port=%L user=%L options=''-c statement_timeout=60s''',
				current_database(),
				split_part(current_setting('unix_socket_directories'), ',', 1),
				current_setting('port'), login));
		-- loads the library, without which the setting means nothing
		IF has_schema_privilege(login, 'ringfence', 'USAGE') THEN
			PERFORM FROM public.dblink(name, 'SELECT ringfence.org_id()') AS t(id text);
		END IF;
	END IF;
	RETURN name;
END
$$;

CREATE FUNCTION test.answer(statement text, columns integer DEFAULT 1) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SELECT coalesce(string_agg(coalesce(%s, ''NULL''), '', ''), ''nothing'') FROM public.dblink(%L, %L) AS t(%s)',
			CASE WHEN columns = 1 THEN 't.c1' ELSE 't::text' END, test.client(), statement,
			(SELECT string_agg(format('c%s text', n), ', ') FROM generate_series(1, columns) AS n))
		INTO answer;
	RETURN answer;
END
$$;

CREATE FUNCTION test.tx(statements text[], columns integer) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	statement text;
	answer text;
	answers text[] := '{}';
	message text;
	code text;
BEGIN
	FOREACH statement IN ARRAY '{BEGIN}' || statements || '{COMMIT}'::text[] LOOP
		answer := test.answer(statement, CASE WHEN statement ~* '^(begin|set|savepoint|rollback|release|commit)' THEN 1 ELSE columns END);
		IF NOT answer = ANY ('{BEGIN,SET,SAVEPOINT,COMMIT}') THEN
			answers := answers || answer;
		END IF;
	END LOOP;
	RETURN array_to_string(answers, ' | ');
EXCEPTION WHEN query_canceled OR OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	PERFORM public.dblink_exec(test.client(), 'ROLLBACK');
	RETURN array_to_string(answers || concat_ws(' ', code, message), ' | ');
END
$$;

CREATE FUNCTION test.tx(VARIADIC statements text[]) RETURNS text
LANGUAGE sql
RETURN test.tx(statements, 1);

CREATE FUNCTION test.once(key text, statement text, columns integer DEFAULT 1, VARIADIC settings text[] DEFAULT '{}') RETURNS text
LANGUAGE sql
AS $$
	SELECT test.tx(ARRAY(SELECT 'SET LOCAL ' || s FROM unnest(settings) AS s)
		|| format('SET LOCAL ringfence.idempotency_key = %L', key) || statement, columns)
$$;
