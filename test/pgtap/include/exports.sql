-- Sales of two organizations, a view and exports of them: for files on exports.
-- What a member or operator does is sent from a session of its own and committed;
-- the answer is its lines, or an error's code and message.
\ir tenants.sql
SET client_min_messages = warning;
\set user_boss 'aaaaaaaa-0000-4000-8000-0000000000b0'
\set user_books 'aaaaaaaa-0000-4000-8000-0000000000b1'
\set user_other 'aaaaaaaa-0000-4000-8000-0000000000b2'
\set user_clerk 'aaaaaaaa-0000-4000-8000-0000000000b3'
\set user_client 'aaaaaaaa-0000-4000-8000-0000000000b4'
\set client_b 'aaaaaaaa-0000-7000-8000-0000000000c2'
\set unknown '0aaaaaaa-0000-7000-8000-0000000000ff'

CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO ringfence_member;
CREATE TABLE shop.sales (
	org_id uuid NOT NULL DEFAULT ringfence.org_id(),
	id integer NOT NULL,
	day date NOT NULL,
	sold_at timestamptz NOT NULL DEFAULT now(),
	client_id uuid,
	what text,
	amount numeric(12,2) NOT NULL,
	PRIMARY KEY (org_id, id)
);
CREATE INDEX ON shop.sales (org_id, day, id);
SELECT ringfence.protect('shop.sales', '{"owner,admin,books": "all", "client": "select where client_id is client"}') \g /dev/null
CREATE VIEW shop.ledger WITH (security_invoker = true) AS
SELECT s.id, s.day, s.what, s.amount, s.sold_at, s.client_id FROM shop.sales AS s;
GRANT SELECT ON shop.ledger TO ringfence_member;
SELECT
	ringfence.declare_export('sales', 'shop.ledger', '{day,id}', '{admin,books,client}', 'day', 'sales-ledger', 'what was sold'),
	ringfence.declare_export('sold', 'shop.ledger', '{sold_at,id}', '{admin,books}', 'sold_at'),
	ringfence.declare_export('everything', 'shop.sales', '{id}', '{books}') \g /dev/null

UPDATE ringfence_data.orgs SET settings = '{"time_zone": "America/Vancouver"}' WHERE id = :'org_a';
INSERT INTO ringfence_data.users (id, email, name) VALUES
	(:'user_boss', 'boss@a.test', 'Boss'), (:'user_books', 'books@a.test', 'Books'), (:'user_other', 'other@a.test', 'Other'),
	(:'user_clerk', 'clerk@a.test', 'Clerk'), (:'user_client', 'client@a.test', 'Client');
UPDATE ringfence_data.memberships SET roles = '{owner,admin}' WHERE user_id = :'user_b';
INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party) VALUES
	(:'org_a', :'user_boss', '{owner}', '{}'),
	(:'org_a', :'user_books', '{books,clerk}', '{}'),
	(:'org_a', :'user_other', '{books}', '{}'),
	(:'org_a', :'user_clerk', '{clerk}', '{}'),
	(:'org_a', :'user_client', '{client}', jsonb_build_object('client', :'client_b'));
-- 300 of A, of which a third are a client's, from the first of March on, one a day
-- and a time; 100 of B.
INSERT INTO shop.sales (org_id, id, day, sold_at, client_id, what, amount)
SELECT :'org_a', n, date '2026-03-01' + n / 10, timestamptz '2026-03-01 08:00:00+00' + n * interval '2 hours',
	CASE WHEN n % 3 = 0 THEN :'client_b'::uuid END, CASE n % 50 WHEN 7 THEN '=1+2' WHEN 8 THEN NULL ELSE 'sale ' || n END, n / 4.0
FROM generate_series(1, 300) AS n;
INSERT INTO shop.sales (org_id, id, day, what, amount)
SELECT :'org_b', n, date '2026-03-01', 'secret of B ' || n, n FROM generate_series(1, 100) AS n;

CREATE FUNCTION public.sent(login text, first text, query text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM dblink_connect('sent', format('dbname=%s user=%s', current_database(), login));
	BEGIN
		PERFORM dblink_exec('sent', 'BEGIN');
		PERFORM s.done FROM dblink('sent', first) AS s (done text);
		SELECT string_agg(r.line, E'\n') INTO answer FROM dblink('sent', query) AS r (line text);
		PERFORM dblink_exec('sent', 'COMMIT');
		PERFORM dblink_disconnect('sent');
		RETURN coalesce(answer, '');
	EXCEPTION WHEN OTHERS THEN
		PERFORM dblink_disconnect('sent');
		RETURN concat_ws(' ', SQLSTATE, SQLERRM);
	END;
END
$$;
-- As a member, by a token, which may be narrowed.
CREATE FUNCTION public.asks(usr uuid, org uuid, query text, narrowed jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql
RETURN public.sent('regress_web', format(
	$$SELECT set_config('role', 'ringfence_member', true) || set_config('request.jwt.claims', %L, true)$$,
	jsonb_strip_nulls(jsonb_build_object('role', 'ringfence_member', 'sub', usr, 'org_id', org)) || narrowed), query);
-- Steps of the job until there is nothing to do, or so many, in a session that stays.
SELECT dblink_connect('job', format('dbname=%s user=postgres options=''-c client_min_messages=error -c ringfence.retention_rest=0''', current_database())) \g /dev/null
CREATE FUNCTION public.job(statement text) RETURNS text LANGUAGE sql AS $$ SELECT dblink_exec('job', statement) $$;
SELECT job('SET ROLE ringfence_jobs') \g /dev/null
CREATE FUNCTION public.step() RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT r.line FROM dblink('job', 'SELECT ringfence.export_step()') AS r (line text));
EXCEPTION WHEN OTHERS THEN
	RETURN concat_ws(' ', SQLSTATE, SQLERRM);
END
$$;
CREATE FUNCTION public.steps(most integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
	done integer := 0;
BEGIN
	WHILE done < most AND public.step() = '1' LOOP
		done := done + 1;
	END LOOP;
	RETURN done;
END
$$;
-- What is asked for most.
CREATE FUNCTION public.starts(arguments text DEFAULT '''sales''') RETURNS text
LANGUAGE sql RETURN format('SELECT e.id FROM ringfence_v1.start_export(%s) AS e', arguments);
CREATE FUNCTION public.part(export uuid, part integer) RETURNS text
LANGUAGE sql RETURN format('SELECT convert_from(ringfence_v1.export_part(%L, %s), ''UTF8'')', export, part);
CREATE FUNCTION public.state(export text) RETURNS text
LANGUAGE sql AS $$ SELECT e.state COLLATE "default" FROM ringfence_data.exports AS e WHERE e.id = export::uuid $$;
CREATE FUNCTION public.whole(export text) RETURNS text
LANGUAGE sql AS $$ SELECT string_agg(convert_from(p.data, 'UTF8'), '' ORDER BY p.part) FROM ringfence_data.export_parts AS p WHERE p.export_id = export::uuid $$;
CREATE FUNCTION public.error(export text) RETURNS text
LANGUAGE sql AS $$ SELECT e.state || ' ' || e.last_error FROM ringfence_data.exports AS e WHERE e.id = export::uuid $$;
