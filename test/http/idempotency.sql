-- What the HTTP tests post to with an Idempotency-Key: a schema of its own,
-- with a table that each organization has its part of, and functions. A request
-- in progress is waited for half a second. The library is preloaded for the
-- layer that sets the key itself.
SELECT format('ALTER DATABASE %I SET %s = %L', current_database(), s.name, s.value)
FROM (VALUES ('ringfence.idempotency_wait', '500ms'), ('session_preload_libraries', 'ringfence')) AS s (name, value) \gexec

CREATE SCHEMA once;
CREATE SCHEMA once_v1;
GRANT USAGE ON SCHEMA once, once_v1 TO ringfence_member, ringfence_anon;

CREATE TABLE once.payments (
	id uuid NOT NULL DEFAULT ringfence.uuid7() PRIMARY KEY,
	amount integer NOT NULL,
	note text
);
SELECT ringfence.protect('once.payments', '{"owner": "all", "*": "select insert"}');
CREATE VIEW once_v1.payments WITH (security_invoker = true) AS SELECT p.org_id, p.id, p.amount, p.note FROM once.payments AS p;
GRANT SELECT, INSERT, UPDATE, DELETE ON once_v1.payments TO ringfence_member;
CREATE VIEW once_v1.obligatory WITH (security_invoker = true) AS SELECT p.org_id, p.id, p.amount, p.note FROM once.payments AS p;
GRANT SELECT, INSERT ON once_v1.obligatory TO ringfence_member;
SELECT ringfence.require_idempotency_key('POST', '/obligatory');

-- Says the status and a header of its answer itself.
CREATE FUNCTION once_v1.pay(amount integer, note text) RETURNS once_v1.payments
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	made once_v1.payments;
BEGIN
	INSERT INTO once_v1.payments (amount, note) VALUES (pay.amount, pay.note) RETURNING * INTO made;
	PERFORM set_config('response.status', '202', true),
		set_config('response.headers', format('[{"Location": "/payments?id=eq.%s"}]', made.id), true);
	RETURN made;
END
$$;
CREATE FUNCTION once_v1.pay_silently(note text) RETURNS void
LANGUAGE sql VOLATILE
AS $$INSERT INTO once.payments (amount, note) VALUES (1, note)$$;
CREATE FUNCTION once_v1.pay_thrice(note text) RETURNS SETOF integer
LANGUAGE sql VOLATILE
AS $$INSERT INTO once.payments (amount, note) SELECT g, note FROM generate_series(1, 3) AS g RETURNING amount$$;
CREATE FUNCTION once_v1.pay_slowly(note text, seconds double precision) RETURNS integer
LANGUAGE plpgsql
AS $$
BEGIN
	INSERT INTO once.payments (amount, note) VALUES (1, pay_slowly.note);
	PERFORM pg_sleep(seconds);
	RETURN 1;
END
$$;
CREATE FUNCTION once_v1.refuse(note text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
	INSERT INTO once.payments (amount, note) VALUES (1, refuse.note);
	RAISE EXCEPTION 'no money' USING ERRCODE = 'PT402';
END
$$;
CREATE FUNCTION once_v1.pay_once(key text, amount integer, note text) RETURNS jsonb
LANGUAGE sql VOLATILE
AS $$SELECT ringfence.idempotent(key, 'once_v1.pay(integer,text)', jsonb_build_object('amount', amount, 'note', note))$$;

-- For callers without a token.
CREATE TABLE once.letters (id integer GENERATED ALWAYS AS IDENTITY, body text);
CREATE FUNCTION once_v1.write_letter(body text) RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$INSERT INTO once.letters (body) VALUES (body) RETURNING id$$;
