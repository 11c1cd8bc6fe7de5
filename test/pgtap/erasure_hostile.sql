-- Nobody erases or exports whom they may not: not another organization's people,
-- of whom it can't even be found out whether they are there; not each other; not
-- by kinds, reasons and declarations that are something else; and whoever may only
-- declare subjects gets no right by it that they don't have.
\ir include/subjects.sql
SELECT plan(100);

CREATE FUNCTION public.rows_of(kind text DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$
	SELECT md5(concat(
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.people AS t), (SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.orders AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.letters AS t), (SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.tracks AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.org_id, t.user_id) FROM ringfence_data.memberships AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM ringfence_data.users AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.kind, t.relation::text, t.column_name) FROM ringfence_data.subjects AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.org_id, t.id) FROM ringfence_data.audit_log AS t
			LEFT JOIN ringfence_data.audit_relations AS r ON r.id = t.relation_id
			-- Another process notes when operators came and left.
			WHERE t.action IS DISTINCT FROM 'org.entered' AND r.relation IS DISTINCT FROM 'ringfence_data.org_entries'::regclass)))
$$;
SELECT rows_of() AS before \gset

-- Another organization's are as unknown as nobody's

SELECT is(asks(:'user_a', :'org_a', f), 'PT404 subject not found', 'an owner does not find another organization''s: ' || left(f, 45))
FROM unnest(ARRAY[erase('person', :'bob'), erase('person', :'bob', true), export('person', :'bob')]) AS f;
SELECT is(asks(:'user_a', :'org_a', f), 'PT404 subject not found', 'nor one that is nowhere: ' || left(f, 45))
FROM unnest(ARRAY[erase('person', :'nobody'), erase('person', :'nobody', true), export('person', :'nobody')]) AS f;
SELECT is(operator_asks(:'org_a', f), 'PT404 subject not found', 'nor does an operator who is in the one: ' || left(f, 45))
FROM unnest(ARRAY[erase('person', :'bob'), export('person', :'bob')]) AS f;
-- The one that an attacker makes at home has the same id.
INSERT INTO shop.people (org_id, id, name, email) VALUES (:'org_b', :'quinn', 'Twin', 'twin@people.test');
INSERT INTO shop.tracks (org_id, person_id, lat) VALUES (:'org_b', :'quinn', 66);
SELECT is(asks(:'user_b', :'org_b', erase('person', :'quinn')), E'shop.people anonymize 1 {api_token,email,name,phone}\nshop.tracks delete 1', 'one with the same id');
SELECT results_eq(format('SELECT name, email, phone FROM shop.people WHERE org_id = %L AND id = %L', :'org_a', :'quinn'), $$VALUES ('Quinn Person', 'quinn@people.test', '+2')$$, 'is another one');
SELECT is((SELECT array_agg(t.lat ORDER BY t.lat) FROM shop.tracks AS t), '{1.5,2.5,3.5}', 'with their own rows');
SELECT is((SELECT m.party FROM ringfence_data.memberships AS m WHERE m.user_id = :'user_quinn'), jsonb_build_object('person', :'quinn'), 'their own membership');
SELECT cmp_ok(remembered('Quinn Person'), '>', 0::bigint, 'and their own past');
SELECT is((asks(:'user_b', :'org_b', export('person', :'quinn'))::jsonb) #>> '{tables,shop.people,0,org_id}', :'org_b', 'which an export of that id does not show either');
DELETE FROM shop.people AS p WHERE p.org_id = :'org_b' AND p.id = :'quinn';
DELETE FROM ringfence_data.erasures;
SELECT rows_of() AS before \gset

-- People among themselves, and those who are no owners

SELECT is(asks(u, :'org_a', f), '42501 permission denied for this subject', 'a person and another: ' || left(f, 45))
FROM unnest(ARRAY[:'user_pat', :'user_clerk']::uuid[]) AS u,
	unnest(ARRAY[erase('person', :'quinn'), erase('person', :'quinn', true), export('person', :'quinn'), erase('person', :'bob'), erase('person', :'nobody'),
		erase('user', :'user_quinn'), export('user', :'user_quinn')]) AS f;
SELECT is(asks(:'user_a', :'org_a', f), '42501 permission denied for this subject', 'an owner and a user: ' || left(f, 45))
FROM unnest(ARRAY[erase('user', :'user_pat'), export('user', :'user_pat'), erase('user', :'user_b'), erase('user', :'nobody')]) AS f;
SELECT is(asks(:'user_pat', NULL, f), '42501 permission denied for this subject', 'without an organization there are no people: ' || left(f, 45))
FROM unnest(ARRAY[erase('person', :'pat'), export('person', :'pat')]) AS f;
SELECT is(asks(:'user_pat', :'org_b', erase('person', :'pat')), '42501 permission denied for this subject', 'nor in one that the user is not in');
SELECT is(asks(:'user_clerk', :'org_a', $$SELECT count(*) FROM ringfence_v1.erase_me('person', 'me')$$), 'PT404 subject not found', 'who is none of a kind has nothing to erase');
SELECT is(asks(:'nobody', :'org_a', $$SELECT count(*) FROM ringfence_v1.erase_me('user', 'me')$$), 'PT404 subject not found', 'nor has who is nobody');
SELECT is(asks(:'user_a', :'org_a', $$SELECT count(*) FROM ringfence_v1.erase_me(NULL, 'me')$$), 'PT404 subject not found', 'nor a kind of none');
-- A party of the kind "user" is a trap.
UPDATE ringfence_data.memberships AS m SET party = m.party || jsonb_build_object('user', :'user_b') WHERE m.user_id = :'user_clerk';
SELECT is(asks(:'user_clerk', :'org_a', erase('user', :'user_b')), '42501 permission denied for this subject', 'a party does not make a user of anybody');
UPDATE ringfence_data.memberships AS m SET party = '{}' WHERE m.user_id = :'user_clerk';
SELECT rows_of() AS before \gset

-- Roles of the database

SELECT matches(asks(:'user_a', :'org_a', f), '^42501 permission denied for (function|table|schema)', 'a member reaches no more than the endpoints: ' || f)
FROM unnest(ARRAY[
	format('SELECT count(*) FROM ringfence.erase_subject(''person'', %L, ''x'', false, %L)', :'bob', :'org_b'),
	format('SELECT ringfence.export_subject(''person'', %L, %L)', :'bob', :'org_b'),
	format('SELECT ringfence.retention_execute(''{"kind": "erase", "step": "delete", "subject": "person", "id": "%s"}'', %L)', :'bob', :'org_b'),
	format('SELECT ringfence.audit_forget_subject(''ringfence_data.users'', ''id'', %L)', :'user_b'),
	'SELECT ringfence.erasure_list()', 'SELECT count(*) FROM ringfence.reapply_erasures()',
	'SELECT ringfence.declare_subject(''person'', ''shop.people'', ''id'', ''delete'')', 'SELECT ringfence.undeclare_subject(''person'', ''shop.people'')',
	'SELECT ringfence.on_erase(''person'', ''pg_catalog.uuid_hash(uuid)'')',
	'SELECT count(*) FROM ringfence_data.subjects', 'SELECT count(*) FROM ringfence_data.subject_hooks',
	'INSERT INTO ringfence_data.erasures (org_id) VALUES (ringfence.org_id()) RETURNING reason', 'DELETE FROM ringfence_data.erasures RETURNING reason',
	'UPDATE ringfence_data.erasures SET reason = reason RETURNING reason']) AS f;
SELECT is(sent('regress_operator', 'SELECT ''not entered''', erase('person', :'bob')), '42501 permission denied for this subject', 'an operator enters first');
SELECT is(operator_asks(:'org_a', format('SELECT count(*) FROM ringfence.erase_subject(''person'', %L, ''x'', false, %L)', :'bob', :'org_b')), '42501 permission denied for this subject', 'and reaches no other organization than that');
SELECT is(operator_asks(:'org_a', format('SELECT ringfence.export_subject(''person'', %L, %L)', :'bob', :'org_b')), '42501 permission denied for this subject', 'by an export neither');

-- Words that are something else

SELECT is(asks(:'user_a', :'org_a', f.query), f.answer, 'refused: ' || f.query)
FROM (VALUES
	(erase('person''; DROP TABLE shop.people; --', :'pat'), '22023 unknown kind of subject "person''; DROP TABLE shop.people; --"'),
	(erase('Person', :'pat'), '22023 unknown kind of subject "Person"'),
	(erase(NULL, :'pat'), '22004 kind of subject must be given'),
	(erase('person', NULL), '22004 id of the subject must be given'),
	(erase('person', :'pat', reason => NULL), '22023 a reason must be given'),
	(erase('person', :'pat', reason => E' \t'), '22023 a reason must be given'),
	(erase('person', :'pat', reason => repeat('x', 501)), '22023 a reason must be given'),
	(export('persons', :'pat'), '22023 unknown kind of subject "persons"'),
	(export('person', NULL), '22004 id of the subject must be given')
) AS f (query, answer);
SELECT is(rows_of(), :'before', 'after all that nothing is different');
SELECT is(asks(:'user_a', :'org_a', erase('person', :'pat', reason => $$'); DELETE FROM shop.people; --$$)) LIKE '%shop.people anonymize 1%', true, 'a reason is text');
SELECT is((SELECT e.reason FROM ringfence_data.erasures AS e), $$'); DELETE FROM shop.people; --$$, 'as it was given');

-- Declarations

CREATE ROLE regress_dba LOGIN;
GRANT USAGE ON SCHEMA shop TO regress_dba;
ALTER DATABASE :DBNAME OWNER TO regress_dba;
CREATE TABLE shop."we''ird; table" (
	id uuid NOT NULL, org_id uuid NOT NULL, "the; ""person" uuid, "na'me" text DEFAULT 'x', PRIMARY KEY (org_id, id)
);
SELECT ringfence.protect('shop."we''''ird; table"') \g /dev/null
INSERT INTO shop."we''ird; table" (org_id, id, "the; ""person") VALUES (:'org_a', gen_random_uuid(), :'quinn');
CREATE TABLE public.roots (org_id uuid NOT NULL, id uuid NOT NULL, command text);
CREATE TABLE shop.own (org_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (org_id, id));
ALTER TABLE shop."we''ird; table" OWNER TO regress_dba;
ALTER TABLE shop.own OWNER TO regress_dba;
CREATE FUNCTION public.end_person(person uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS '';
SET SESSION AUTHORIZATION regress_dba;
SELECT lives_ok($$SELECT ringfence.declare_subject('person', 'shop."we''''ird; table"', 'the; "person', 'anonymize', '{"na''me": {"constant": "it''s; DROP TABLE shop.people"}}')$$, 'the database''s owner declares any name');
SELECT throws_ok(q, '42501', 'must be owner of ' || m, 'but nobody else''s: ' || left(q, 110)) FROM (VALUES
	($$SELECT ringfence.declare_subject('person', 'public.roots', 'id', 'anonymize', '{"command": {"constant": "ALTER ROLE regress_dba SUPERUSER"}}')$$, 'table public.roots'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'id', 'keep')$$, 'table shop.people'),
	($$SELECT ringfence.declare_subject('user', 'ringfence_data.memberships', 'user_id', 'anonymize', '{"roles": {"constant": "{owner}"}}')$$, 'table ringfence_data.memberships'),
	($$SELECT ringfence.declare_subject('user', 'ringfence_data.legal_holds', 'subject_id', 'anonymize', '{"until": {"constant": "2000-01-01"}}')$$, 'table ringfence_data.legal_holds'),
	($$SELECT ringfence.undeclare_subject('person', 'shop.people')$$, 'table shop.people'),
	($$SELECT ringfence.undeclare_subject('user', 'ringfence_data.users')$$, 'table ringfence_data.users'),
	($$SELECT ringfence.declare_subject('person', 'shop.own', 'id', 'keep', is_root => true)$$, 'table shop.people'),
	($$SELECT ringfence.on_erase('person', 'public.end_person(uuid)')$$, 'function public.end_person(uuid)')
) AS t (q, m);
SELECT lives_ok($$SELECT ringfence.declare_subject('member', 'shop.own', 'id', 'keep', is_root => true), ringfence.undeclare_subject('member', 'shop.own')$$, 'the root of a kind of one''s own is one''s own');
RESET SESSION AUTHORIZATION;
SELECT throws_ok(q, c, m, 'nor does a superuser: ' || m) FROM (VALUES
	($$SELECT ringfence.declare_subject('person', 'ringfence_data.audit_log', 'user_id', 'delete')$$, '42809', 'table ringfence_data.audit_log is a record'),
	($$SELECT ringfence.declare_subject('person', 'ringfence_data.ledger_transfers', 'id', 'delete')$$, '42809', 'table ringfence_data.ledger_transfers is a record'),
	($$SELECT ringfence.declare_subject('person', 'pg_catalog.pg_class', 'oid', 'delete')$$, '42809', '"pg_class" is not a table that can be about a subject'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'name', 'delete')$$, '42804', 'column "name" of table shop.people is not of type uuid'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'missing', 'delete')$$, '42703', 'column "missing" of table shop.people does not exist'),
	($$SELECT ringfence.declare_subject('person', 'ringfence_data.users', 'id', 'delete')$$, '55000', 'table ringfence_data.users has no column "org_id"'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'id', 'delete')$$, '55000', 'rows of table shop.people cannot be deleted'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'id', 'drop')$$, '22023', 'invalid action "drop"'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'id', 'anonymize')$$, '22023', 'rules must be a JSON object that changes a column'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'id', 'anonymize', '{"name = 1; --": "null"}')$$, '42703', 'column "name = 1; --" of table shop.people does not exist'),
	($$SELECT ringfence.declare_subject('person', 'shop.people', 'id', 'anonymize', '{"org_id": {"constant": "0bbbbbbb-0000-7000-8000-00000000000b"}}')$$, '22023', 'column "org_id" of table shop.people cannot be changed'),
	($$SELECT ringfence.declare_subject('Per son', 'shop.people', 'id', 'keep')$$, '22023', 'invalid kind of subject "Per son", or purpose'),
	($$SELECT ringfence.declare_subject(NULL, 'shop.people', 'id', 'keep')$$, '22004', 'kind, table, column and action must be given')
) AS t (q, c, m);
SET SESSION AUTHORIZATION regress_dba;
SELECT throws_ok('SELECT * FROM shop.people', '42501', NULL, 'who declares reads nothing');
SELECT throws_ok(format('SELECT ringfence.erase_subject(''person'', %L, ''x'')', :'quinn'), '42501', NULL, 'erases nothing');
SELECT throws_ok(format('SELECT * FROM ringfence.reapply_erasures(''[{"org": "%s", "kind": "person", "id": "%s", "erased_at": "2020-01-01"}]'')', :'org_a', :'quinn'), '42501', 'permission denied for function reapply_erasures', 'not by a list of their own either');
SELECT throws_ok(format('SELECT ringfence.subject_task(''{"kind": "export", "subject": "person", "id": "%s"}'', ''rows'', %L, ''shop.people'')', :'quinn', :'org_a'), '42501', NULL, 'and exports nothing');
RESET SESSION AUTHORIZATION;
SELECT is(asks(:'user_a', :'org_a', erase('person', :'quinn')) LIKE '%shop."we''''ird; table" anonymize 1 {na''me}%', true, 'odd names are names');
SELECT is((SELECT w."na'me" FROM shop."we''ird; table" AS w), 'it''s; DROP TABLE shop.people', 'and values values');

-- Rows of another owner's: nobody but that owner, whose policies these are, reads
-- them, and what they reference stays.

CREATE TABLE public.read_as (reader text);
GRANT INSERT ON public.read_as TO PUBLIC;
CREATE TABLE shop.replies (org_id uuid NOT NULL, letter_id uuid NOT NULL, FOREIGN KEY (org_id, letter_id) REFERENCES shop.letters (org_id, id));
CREATE FUNCTION shop.note_reader() RETURNS boolean LANGUAGE sql VOLATILE
AS 'INSERT INTO public.read_as (reader) VALUES (current_user) RETURNING true';
ALTER TABLE shop.replies ENABLE ROW LEVEL SECURITY;
CREATE POLICY noted ON shop.replies USING (shop.note_reader());
ALTER TABLE shop.letters OWNER TO ringfence_owner;
GRANT REFERENCES ON shop.letters TO regress_dba;
GRANT USAGE ON SCHEMA shop TO ringfence_owner;
GRANT SELECT ON shop.replies TO ringfence_owner;
ALTER TABLE shop.replies OWNER TO regress_dba;
INSERT INTO shop.replies (org_id, letter_id) VALUES (:'org_b', '0bbbbbbb-0000-7000-8000-0000000000f4');
SELECT is(asks(:'user_b', :'org_b', erase('person', :'bob')), E'shop.letters anonymize 1 {body}\nshop.orders anonymize 1 {address}\nshop.people anonymize 1 {api_token,email,name,phone}\nshop.receipts keep 1\nshop.tracks delete 1', 'what another owner''s rows reference is anonymized');
SELECT is_empty('SELECT * FROM public.read_as', 'without a look at these rows');
SELECT is((SELECT count(*) FROM shop.replies), 1::bigint, 'which are there');

ALTER DATABASE :DBNAME OWNER TO postgres;
ALTER TABLE shop."we''ird; table" OWNER TO postgres;
ALTER TABLE shop.own OWNER TO postgres;
ALTER TABLE shop.replies OWNER TO postgres;
REVOKE ALL ON shop.letters FROM regress_dba;
REVOKE USAGE ON SCHEMA shop FROM regress_dba;
DROP ROLE regress_dba;
SELECT * FROM finish();
