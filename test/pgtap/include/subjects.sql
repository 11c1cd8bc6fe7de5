-- People of a kind of their own, in two organizations, and tables about them: for
-- files on erasure, access and consents. What a member or operator does is sent
-- from a session of its own and committed, or an error.
\ir tenants.sql
SET client_min_messages = warning;
\set pat   '0aaaaaaa-0000-7000-8000-0000000000d1'
\set quinn '0aaaaaaa-0000-7000-8000-0000000000d2'
\set bob   '0bbbbbbb-0000-7000-8000-0000000000d3'
\set nobody '0aaaaaaa-0000-7000-8000-0000000000df'
\set user_pat   'aaaaaaaa-0000-4000-8000-0000000000d1'
\set user_quinn 'aaaaaaaa-0000-4000-8000-0000000000d2'
\set user_clerk 'aaaaaaaa-0000-4000-8000-0000000000d4'

CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO ringfence_member;
CREATE TABLE shop.people (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	org_id uuid NOT NULL DEFAULT ringfence.org_id(),
	name text NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
	email text NOT NULL CHECK (email ~ '^[^@ ]+@[^@ ]+$'),
	phone text UNIQUE,
	api_token text,
	PRIMARY KEY (org_id, id),
	UNIQUE (org_id, email)
);
CREATE TABLE shop.orders (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	org_id uuid NOT NULL DEFAULT ringfence.org_id(),
	person_id uuid NOT NULL,
	address text NOT NULL,
	total integer NOT NULL,
	PRIMARY KEY (org_id, id),
	FOREIGN KEY (org_id, person_id) REFERENCES shop.people (org_id, id)
);
-- Of a letter that an order came by, the order keeps the number.
CREATE TABLE shop.letters (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	org_id uuid NOT NULL DEFAULT ringfence.org_id(),
	person_id uuid NOT NULL,
	body text,
	answers uuid,
	PRIMARY KEY (org_id, id),
	FOREIGN KEY (org_id, person_id) REFERENCES shop.people (org_id, id),
	FOREIGN KEY (org_id, answers) REFERENCES shop.letters (org_id, id)
);
CREATE TABLE shop.complaints (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	org_id uuid NOT NULL DEFAULT ringfence.org_id(),
	letter_id uuid NOT NULL,
	PRIMARY KEY (org_id, id),
	FOREIGN KEY (org_id, letter_id) REFERENCES shop.letters (org_id, id)
);
CREATE TABLE shop.tracks (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	org_id uuid NOT NULL DEFAULT ringfence.org_id(),
	person_id uuid NOT NULL,
	lat double precision,
	PRIMARY KEY (org_id, id),
	FOREIGN KEY (org_id, person_id) REFERENCES shop.people (org_id, id)
);
CREATE TABLE shop.receipts (
	id uuid NOT NULL DEFAULT ringfence.uuid7(),
	org_id uuid NOT NULL DEFAULT ringfence.org_id(),
	person_id uuid NOT NULL,
	total integer NOT NULL,
	PRIMARY KEY (org_id, id)
);
SELECT ringfence.protect(format('shop.%I', t)::regclass, '{"owner": "all", "person": "select"}')
FROM unnest('{people,orders,letters,complaints,tracks,receipts}'::text[]) AS t \g /dev/null
SELECT ringfence.label('shop.people', c, 'personal') FROM unnest('{name,email,phone}'::name[]) AS c \g /dev/null
SELECT ringfence.label('shop.orders', 'address', 'personal'), ringfence.label('shop.letters', 'body', 'personal'),
	ringfence.label('shop.tracks', 'lat', 'personal') \g /dev/null

SELECT
	ringfence.declare_subject('person', 'shop.people', 'id', 'anonymize',
		'{"name": "pseudonym", "email": "pseudonym", "phone": "null", "api_token": "null"}', is_root => true),
	ringfence.declare_subject('person', 'shop.orders', 'person_id', 'anonymize', '{"address": {"constant": "erased"}, "total": "keep"}'),
	ringfence.declare_subject('person', 'shop.letters', 'person_id', 'delete', '{"body": "null"}'),
	ringfence.declare_subject('person', 'shop.tracks', 'person_id', 'delete', purpose => 'location'),
	ringfence.declare_subject('person', 'shop.receipts', 'person_id', 'keep') \g /dev/null

INSERT INTO ringfence_data.users (id, email, name) VALUES
	(:'user_pat', 'pat@people.test', 'Pat'), (:'user_quinn', 'quinn@people.test', 'Quinn'), (:'user_clerk', 'clerk@a.test', 'Clerk');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles, party, invited_as) VALUES
	(:'org_a', :'user_pat', '{person}', jsonb_build_object('person', upper(:'pat')), 'pat@people.test'),
	(:'org_a', :'user_quinn', '{person,clerk}', jsonb_build_object('person', :'quinn'), 'quinn@people.test'),
	(:'org_a', :'user_clerk', '{clerk}', '{}', NULL);
INSERT INTO shop.people (org_id, id, name, email, phone, api_token) VALUES
	(:'org_a', :'pat', 'Pat Person', 'pat@people.test', '+1', 'hush'),
	(:'org_a', :'quinn', 'Quinn Person', 'quinn@people.test', '+2', NULL),
	(:'org_b', :'bob', 'Bob Person', 'pat@people.test', '+3', NULL);
INSERT INTO shop.orders (org_id, person_id, address, total) VALUES
	(:'org_a', :'pat', '1 Pat Street', 10), (:'org_a', :'pat', '1 Pat Street', 20),
	(:'org_a', :'quinn', '2 Quinn Street', 30), (:'org_b', :'bob', '3 Bob Street', 40);
INSERT INTO shop.letters (org_id, id, person_id, body, answers) VALUES
	(:'org_a', '0aaaaaaa-0000-7000-8000-0000000000f1', :'pat', 'Dear shop', NULL),
	(:'org_a', '0aaaaaaa-0000-7000-8000-0000000000f2', :'pat', 'Dear Pat', '0aaaaaaa-0000-7000-8000-0000000000f1'),
	(:'org_a', '0aaaaaaa-0000-7000-8000-0000000000f3', :'pat', 'I complain', NULL),
	(:'org_b', '0bbbbbbb-0000-7000-8000-0000000000f4', :'bob', 'Hello', NULL);
INSERT INTO shop.complaints (org_id, letter_id) VALUES (:'org_a', '0aaaaaaa-0000-7000-8000-0000000000f3');
INSERT INTO shop.tracks (org_id, person_id, lat) VALUES (:'org_a', :'pat', 1.5), (:'org_a', :'quinn', 2.5), (:'org_b', :'bob', 3.5);
INSERT INTO shop.receipts (org_id, person_id, total) VALUES (:'org_a', :'pat', 10), (:'org_b', :'bob', 40);

-- What a query answers to whoever logs in so and says that first: its rows, or an
-- error's code and message.
CREATE FUNCTION public.sent(login text, first text, query text, level text DEFAULT 'READ COMMITTED') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM dblink_connect('sent', format('dbname=%s user=%s', current_database(), login));
	BEGIN
		PERFORM dblink_exec('sent', 'BEGIN ISOLATION LEVEL ' || level);
		PERFORM s.done FROM dblink('sent', first) AS s (done text);
		SELECT string_agg(r.line, E'\n') INTO answer FROM dblink('sent', query) AS r (line text);
		PERFORM dblink_exec('sent', 'COMMIT');
		PERFORM dblink_disconnect('sent');
		RETURN coalesce(answer, '');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS answer = PG_EXCEPTION_DETAIL;
		PERFORM dblink_disconnect('sent');
		RETURN concat_ws(' ', SQLSTATE, SQLERRM || CASE WHEN SQLSTATE = 'PT409' THEN ': ' || answer ELSE '' END);
	END;
END
$$;
-- As a member, by a token.
CREATE FUNCTION public.asks(usr uuid, org uuid, query text, level text DEFAULT 'READ COMMITTED') RETURNS text
LANGUAGE sql
RETURN public.sent('regress_web', format(
	$$SELECT set_config('role', 'ringfence_member', true) || set_config('request.jwt.claims', %L, true)$$,
	jsonb_strip_nulls(jsonb_build_object('role', 'ringfence_member', 'sub', usr, 'org_id', org))), query, level);
CREATE FUNCTION public.operator_asks(org uuid, query text) RETURNS text
LANGUAGE sql
RETURN public.sent('regress_operator', format('SELECT ringfence.enter_org(%L, ''ticket 7'')', org), query);
-- The calls, and what they say in short: lines without rows are left out.
CREATE FUNCTION public.erase(kind text, id uuid, dry_run boolean DEFAULT false, reason text DEFAULT 'asked') RETURNS text
LANGUAGE sql
RETURN format(
	$$SELECT concat_ws(' ', e.relation, e.action, e.rows, e.columns) FROM ringfence_v1.erase_subject(%L, %L, %L, %L) AS e
		WHERE e.rows > 0 AND e.relation <> 'ringfence_data.audit_log' ORDER BY e.relation COLLATE "C", e.action$$,
	kind, id, reason, dry_run);
CREATE FUNCTION public.export(kind text, id uuid) RETURNS text
LANGUAGE sql
RETURN format('SELECT ringfence_v1.export_subject(%L, %L)', kind, id);
-- Everything that the audit log still says of somebody.
CREATE FUNCTION public.remembered(VARIADIC words text[]) RETURNS bigint
LANGUAGE sql STABLE
AS $$
	SELECT count(*) FROM ringfence_data.audit_log AS l
	WHERE EXISTS (SELECT FROM unnest(words) AS w WHERE concat(l.old, l.new, l.personal, l.key) ILIKE '%' || w || '%')
$$;
