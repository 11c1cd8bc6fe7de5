-- A person is erased as was declared: rows deleted, or anonymized where others
-- need them, keys and checks whole, the ledger's amounts and the sealed audit log
-- as they were, and nothing left that says who it was; others are untouched. A dry
-- run says the same and does nothing; a second time there is nothing to do.
\ir include/subjects.sql
SELECT plan(90);

CREATE FUNCTION public.everything() RETURNS text LANGUAGE sql
AS $$
	SELECT md5(concat(
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.people AS t), (SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.orders AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.letters AS t), (SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.tracks AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.org_id, t.user_id) FROM ringfence_data.memberships AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.org_id, t.id) FROM ringfence_data.consents AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.org_id, t.id) FROM ringfence_data.ledger_accounts AS t),
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM ringfence_data.audit_log AS t
			LEFT JOIN ringfence_data.audit_relations AS r ON r.id = t.relation_id
			-- Another process notes when operators came and left.
			WHERE t.action IS DISTINCT FROM 'org.entered' AND r.relation IS DISTINCT FROM 'ringfence_data.org_entries'::regclass)))
$$;
CREATE FUNCTION public.others() RETURNS text LANGUAGE sql
AS $$
	SELECT md5(concat(
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.people AS t WHERE t.name LIKE 'Bob%' OR t.name LIKE 'Quinn%'),
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.orders AS t WHERE t.total > 20),
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.letters AS t WHERE t.body = 'Hello'),
		(SELECT string_agg(t::text, '|' ORDER BY t.id) FROM shop.tracks AS t WHERE t.lat > 2)))
$$;

-- An account of the ledger, a consent, and a letter that is gone already: only the
-- log knows of it.
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}') \g /dev/null
SELECT ringfence.open_asset('EUR', 2) \g /dev/null
SELECT ringfence.open_account('bank', 'Bank', 'EUR', 'asset') \g /dev/null
SELECT ringfence.open_account('p:1', 'Pat Person', 'EUR', 'liability', party_kind => 'person', party_id => :'pat') \g /dev/null
SELECT ringfence.open_account('c:1', 'Twin Company', 'EUR', 'liability', party_kind => 'company', party_id => :'pat') \g /dev/null
SELECT ringfence.transfer(ringfence.account('bank'), ringfence.account('p:1'), 500, 'test', '0aaaaaaa-0000-7000-8000-000000000aaa') \g /dev/null
SELECT ringfence.give_consent('person', :'pat', 'location', 'v1', '{"form": "signup", "name": "Pat Person"}') \g /dev/null
INSERT INTO shop.letters (person_id, body) VALUES (:'pat', 'Pat wrote this once');
DELETE FROM shop.letters AS l WHERE l.body = 'Pat wrote this once';
COMMIT;
SELECT ringfence.audit_seal() \g /dev/null
SELECT cmp_ok(remembered('Pat Person', 'pat@', 'Pat Street', 'Pat wrote'), '>', 8::bigint, 'the log tells of Pat');
SELECT everything() AS before, others() AS of_others \gset

-- A dry run

SELECT string_agg(l, E'\n' ORDER BY l COLLATE "C") AS plan FROM unnest(ARRAY[
	'ringfence_data.consents anonymize 1 {evidence,reason}', 'ringfence_data.ledger_accounts anonymize 1 {name}',
	'ringfence_data.ledger_transfers keep 1', 'ringfence_data.memberships delete 1', 'shop.letters anonymize 1 {body}',
	'shop.letters delete 2', 'shop.orders anonymize 2 {address}', 'shop.people anonymize 1 {api_token,email,name,phone}',
	'shop.receipts keep 1', 'shop.tracks delete 1']) AS l \gset
SELECT is(asks(:'user_a', :'org_a', erase('person', :'pat', true)), :'plan', 'a dry run says what would be done');
SELECT is(asks(:'user_a', :'org_a', format('SELECT count(*) FROM ringfence_v1.erase_subject(''person'', %L, ''asked'')', :'pat')), '12', 'it is what happens unless one says otherwise');
SELECT is(everything(), :'before', 'and changes nothing');
SELECT is_empty('SELECT * FROM ringfence_data.erasures', 'nor is anybody on the list');

-- The erasure

SELECT is(asks(:'user_a', :'org_a', erase('person', :'pat')), :'plan', 'it does what the dry run said');
SELECT results_eq($$SELECT p.name ~ '^anon-[0-9a-f]{32}$', p.email ~ '^anon-[0-9a-f]{32}@anonymous\.invalid$', p.phone, p.api_token FROM shop.people AS p WHERE p.id = '0aaaaaaa-0000-7000-8000-0000000000d1'$$,
	'VALUES (true, true, NULL::text, NULL::text)', 'the person has no name, an address of nobody''s and no number');
SELECT isnt((SELECT substr(p.name, 6) FROM shop.people AS p WHERE p.id = :'pat'), (SELECT substr(split_part(p.email, '@', 1), 6) FROM shop.people AS p WHERE p.id = :'pat'), 'nothing links one to another');
SELECT results_eq('SELECT address, total FROM shop.orders WHERE total < 30 ORDER BY 2', $$VALUES ('erased', 10), ('erased', 20)$$, 'orders are there, without an address');
SELECT results_eq('SELECT right(id::text, 2), body FROM shop.letters ORDER BY 1', $$VALUES ('f3', NULL), ('f4', 'Hello')$$, 'letters are gone, in whatever order they answer each other; one that is referenced says nothing');
SELECT is((SELECT count(*) FROM shop.complaints), 1::bigint, 'what references it is there');
SELECT is((SELECT array_agg(t.lat ORDER BY t.lat) FROM shop.tracks AS t), '{2.5,3.5}', 'tracks are gone');
SELECT is((SELECT array_agg(r.total ORDER BY r.total) FROM shop.receipts AS r), '{10,40}', 'receipts are there');
SELECT is(others(), :'of_others', 'others are as they were');
SELECT results_eq($$SELECT code COLLATE "default", name ~ '^anon-[0-9a-f]{32}$', party_id IS NOT NULL FROM ringfence_data.ledger_accounts WHERE party_id IS NOT NULL ORDER BY 1$$,
	$$VALUES ('c:1', false, true), ('p:1', true, true)$$, 'the account has no name; one of another kind with that id has');
SELECT is(remembered('Twin Company'), 1::bigint, 'and has it in the log as well');
SELECT is_empty(format('SELECT * FROM ringfence.ledger_verify(%L)', :'org_a'), 'the ledger adds up');
SELECT results_eq('SELECT action COLLATE "default", text_version, evidence, reason FROM ringfence_data.consents ORDER BY recorded_at', $$VALUES ('given', 'v1', NULL::jsonb, NULL::text), ('withdrawn', NULL, NULL, NULL)$$, 'consents are withdrawn; what showed them is gone');
SELECT is((SELECT count(*) FROM ringfence_data.memberships AS m WHERE m.user_id = :'user_pat'), 0::bigint, 'the membership as that person ended');
SELECT is(asks(:'user_pat', :'org_a', 'SELECT count(*) FROM shop.people'), '0', 'and the token with it');
SELECT is((SELECT u.email FROM ringfence_data.users AS u WHERE u.id = :'user_pat'), 'pat@people.test', 'the account elsewhere is the user''s own affair');

-- The record

SELECT is(remembered('Pat Person', 'Pat Street', 'Pat wrote', 'Dear Pat', '"+1"', '"hush"'), 0::bigint, 'of Pat the log remembers nothing');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.personal::text LIKE '%pat@people.test%'), 0::bigint, 'no address, not of an invitation either');
SELECT cmp_ok(remembered('Bob Person', '3 Bob Street', 'Quinn Person'), '>', 2::bigint, 'of others what it did');
SELECT results_eq($$SELECT DISTINCT operation COLLATE "default" FROM ringfence_data.audit_log AS l INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id WHERE r.relation = 'shop.tracks'::regclass ORDER BY 1$$, ARRAY['INSERT'], 'there is no record of each row');
SELECT results_eq($$SELECT key COLLATE "default", reason, user_id, new -> 'rows' ->> 'shop.letters', new::text LIKE '%Pat%' FROM ringfence_data.audit_log WHERE action = 'subject.erased'$$,
	format('VALUES (%L, ''asked'', %L::uuid, ''3'', false)', 'person:' || :'pat', :'user_a'), 'but one event, of who did it and why');
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'what was sealed verifies');
SELECT ringfence.audit_seal() \g /dev/null
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'and so does what was added');
SELECT results_eq('SELECT org_id, kind COLLATE "default", subject_id, erased_by, reason, counts ->> ''shop.orders'' FROM ringfence_data.erasures',
	format('VALUES (%L::uuid, ''person'', %L::uuid, %L::uuid, ''asked'', ''2'')', :'org_a', :'pat', :'user_a'), 'it is on the list');
SELECT is(asks(:'user_a', :'org_a', 'SELECT kind || '' '' || subject_id FROM ringfence_v1.erasures'), 'person ' || :'pat', 'which the owner reads');
SELECT is(asks(:'user_b', :'org_b', 'SELECT count(*) FROM ringfence_v1.erasures'), '0', 'and no other organization''s');
SELECT is(current_setting('ringfence.reason'), '', 'the reason is not left behind');

-- Again

SELECT everything() AS before, erased_at FROM ringfence_data.erasures \gset
SELECT is(asks(:'user_a', :'org_a', erase('person', :'pat', reason => 'asked twice')), E'ringfence_data.ledger_transfers keep 1\nshop.receipts keep 1', 'a second time there is nothing to do');
SELECT results_eq('SELECT reason, erased_at FROM ringfence_data.erasures', format('VALUES (''asked'', %L::timestamptz)', :'erased_at'), 'the list is as before');
SELECT is((SELECT count(*) FROM ringfence_data.audit_log AS l WHERE l.action = 'subject.erased'), 2::bigint, 'that it was asked for is on record');
INSERT INTO shop.tracks (org_id, person_id, lat) VALUES (:'org_a', :'pat', 9);
SELECT is(asks(:'user_a', :'org_a', erase('person', :'pat', reason => 'asked again')), E'ringfence_data.ledger_transfers keep 1\nshop.receipts keep 1\nshop.tracks delete 1', 'what was added since goes');
SELECT cmp_ok((SELECT e.erased_at FROM ringfence_data.erasures AS e), '>', :'erased_at'::timestamptz, 'and the list has the later time');

-- One who is more than that stays what else they are

SELECT is(asks(:'user_a', :'org_a', erase('person', :'quinn')),
	E'ringfence_data.memberships delete 1\nshop.orders anonymize 1 {address}\nshop.people anonymize 1 {api_token,email,name,phone}\nshop.tracks delete 1', 'Quinn is erased');
SELECT results_eq(format('SELECT roles, party FROM ringfence_data.memberships WHERE user_id = %L', :'user_quinn'), $$VALUES ('{clerk}'::text[], '{}'::jsonb)$$, 'and goes on as a clerk');

-- One whom retention removed: the log knew of them

BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}') \g /dev/null
INSERT INTO shop.people (id, name, email) VALUES ('0aaaaaaa-0000-7000-8000-0000000000d7', 'Gone Person', 'gone@people.test');
DELETE FROM shop.people AS p WHERE p.name = 'Gone Person';
COMMIT;
SELECT is(remembered('Gone Person'), 2::bigint, 'one who is gone is in the log');
SELECT is(asks(:'user_a', :'org_a', erase('person', '0aaaaaaa-0000-7000-8000-0000000000d7')), '', 'and has no rows to erase');
SELECT is(remembered('Gone Person', 'gone@'), 0::bigint, 'but the log forgets');

-- Hooks, in the organization's context, with its triggers

CREATE TABLE public.hooked (org_id uuid, id uuid, actor text);
CREATE FUNCTION public.note_end(person uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'INSERT INTO public.hooked (org_id, id, actor) VALUES (ringfence.org_id(), person, ringfence.actor())';
CREATE FUNCTION public.unfit(person uuid) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION public.refuse_end(person uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'PT409'; END$$;
SELECT throws_ok($$SELECT ringfence.on_erase('person', 'public.unfit(uuid)')$$, '42P13', 'function public.unfit(uuid) cannot be called by an erasure', 'a function that would run with our rights is no hook');
SELECT throws_ok($$SELECT ringfence.on_erase('person', 'public.everything()')$$, '42P13', 'function public.everything() cannot be called by an erasure', 'nor is one that takes nobody');
CREATE ROLE regress_somebody;
CREATE FUNCTION public.anybody_end(person uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS '';
ALTER FUNCTION public.anybody_end(uuid) OWNER TO regress_somebody;
SELECT throws_ok($$SELECT ringfence.on_erase('person', 'public.anybody_end(uuid)')$$, '42P13', 'function public.anybody_end(uuid) cannot be called by an erasure', 'nor one of anybody''s, who could leave something behind for what follows');
SELECT ringfence.on_erase('person', 'public.note_end(uuid)'), ringfence.on_erase('person', 'public.note_end(uuid)') \g /dev/null
INSERT INTO shop.people (org_id, id, name, email) VALUES (:'org_a', '0aaaaaaa-0000-7000-8000-0000000000d8', 'Hooked', 'hooked@people.test');
SELECT is(asks(:'user_a', :'org_a', erase('person', '0aaaaaaa-0000-7000-8000-0000000000d8', true)), 'shop.people anonymize 1 {api_token,email,name,phone}', 'a dry run calls a hook');
SELECT is_empty('SELECT * FROM public.hooked', 'and undoes what it did');
SELECT is(operator_asks(:'org_a', erase('person', '0aaaaaaa-0000-7000-8000-0000000000d8')), 'shop.people anonymize 1 {api_token,email,name,phone}', 'an operator erases');
SELECT results_eq('SELECT org_id, right(id::text, 2), actor FROM public.hooked', format('VALUES (%L::uuid, ''d8'', ''operator'')', :'org_a'), 'the hook was called once, as who asked');
SELECT is((SELECT e.erased_by FROM ringfence_data.erasures AS e WHERE e.subject_id::text LIKE '%d8'), NULL, 'an operator is no user');
INSERT INTO shop.people (org_id, id, name, email) VALUES (:'org_a', '0aaaaaaa-0000-7000-8000-0000000000d9', 'Later', 'later@people.test');
ALTER FUNCTION public.note_end(uuid) OWNER TO regress_somebody;
SELECT is(asks(:'user_a', :'org_a', erase('person', '0aaaaaaa-0000-7000-8000-0000000000d9')), '42P13 function public.note_end(uuid) cannot be called by an erasure', 'a hook that has become somebody else''s is not called');
SELECT results_eq($$SELECT v.code COLLATE "default", v.object COLLATE "default" FROM ringfence.verify() AS v WHERE v.code = 'erase_hook_missing'$$, $$VALUES ('erase_hook_missing', 'public.note_end(uuid)')$$, 'which verify() tells');
ALTER FUNCTION public.note_end(uuid) OWNER TO postgres;
SELECT ringfence.on_erase('person', 'public.refuse_end(uuid)') \g /dev/null
SELECT matches(asks(:'user_a', :'org_a', erase('person', '0aaaaaaa-0000-7000-8000-0000000000d9')), '^PT409 not now', 'a hook that fails');
SELECT is((SELECT p.name FROM shop.people AS p WHERE p.id::text LIKE '%d9'), 'Later', 'ends the erasure as a whole');
DELETE FROM ringfence_data.subject_hooks AS h WHERE h.kind = 'person';

-- Legal holds

CREATE FUNCTION public.hold(org uuid, call text) RETURNS text LANGUAGE sql
RETURN operator_asks(hold.org, 'SELECT ringfence.place_hold(' || call || ')');
CREATE FUNCTION public.release(org uuid, hold text) RETURNS text LANGUAGE sql
RETURN operator_asks(release.org, format('SELECT ringfence.release_hold(%L, ''over'')', hold));
SELECT public.hold(:'org_b', format('''lawsuit 1'', subject_kind => ''person'', subject_id => %L', :'bob')) AS hold \gset
SELECT public.hold(:'org_b', format('''fraud of somebody else'', subject_kind => ''person'', subject_id => %L', :'nobody')),
	public.hold(:'org_b', '''nobody in particular'', rel => ''ringfence_data.memberships'', rows => ''{"status": "invited"}''') \g /dev/null
SELECT everything() AS before \gset
SELECT is(asks(:'user_b', :'org_b', erase('person', :'bob')), 'PT409 a legal hold keeps this subject: The reason: lawsuit 1.', 'who is held is not erased');
SELECT is(asks(:'user_b', :'org_b', erase('person', :'bob', true)), 'PT409 a legal hold keeps this subject: The reason: lawsuit 1.', 'which a dry run says as well');
SELECT release(:'org_b', :'hold'), public.hold(:'org_b', '''lawsuit 2''') AS hold \gset
SELECT is(asks(:'user_b', :'org_b', erase('person', :'bob')), 'PT409 a legal hold keeps this subject: It can be erased once the hold is released.', 'nor with the whole organization, why is for the list of holds to tell');
SELECT release(:'org_b', :'hold'), public.hold(:'org_b', '''lawsuit 3'', rel => ''shop.letters''') AS hold \gset
SELECT is(asks(:'user_b', :'org_b', erase('person', :'bob')), 'PT409 a legal hold keeps this subject: It can be erased once the hold is released.', 'nor with a table, why is for the list of holds to tell');
SELECT release(:'org_b', :'hold'), public.hold(:'org_b', '''lawsuit 4'', rel => ''shop.letters'', rows => ''{"id": "0bbbbbbb-0000-7000-8000-0000000000f4"}''') AS hold \gset
SELECT is(asks(:'user_b', :'org_b', erase('person', :'bob')), 'PT409 a legal hold keeps this subject: It can be erased once the hold is released.', 'nor with one row, why is for the list of holds to tell');
SELECT release(:'org_b', :'hold'), public.hold(:'org_b', '''lawsuit 5'', rel => ''shop.letters'', rows => ''{"id": "0bbbbbbb-0000-7000-8000-0000000000ff"}''') AS hold \gset
SELECT is((SELECT count(*) FROM shop.people AS p WHERE p.name = 'Bob Person'), 1::bigint, 'nothing of it is done');
BEGIN;
SELECT public.hold(:'org_b', '''lawsuit 6'', rel => ''shop.people''') AS other \gset
CREATE FUNCTION pg_temp.step(step text, column_name name, rel regclass) RETURNS jsonb LANGUAGE sql
RETURN ringfence.subject_task(jsonb_build_object('kind', 'erase', 'subject', 'person', 'id', '0bbbbbbb-0000-7000-8000-0000000000d3'), step,
	'0bbbbbbb-0000-7000-8000-00000000000b', rel, column_name);
SELECT is(pg_temp.step('anonymize', 'id', 'shop.people'), '{"rows": 0}', 'nor by a step of it alone');
SELECT is(pg_temp.step('delete', 'person_id', 'shop.tracks'), '{"rows": 1}', 'which does what is not held');
ROLLBACK;
SELECT release(:'org_b', :'other') \g /dev/null
SELECT ok(NOT EXISTS (SELECT FROM ringfence_data.erasures AS e WHERE e.org_id = :'org_b'), 'or on the list');
SELECT is(asks(:'user_b', :'org_b', erase('person', :'bob', true)), E'shop.letters delete 1\nshop.orders anonymize 1 {address}\nshop.people anonymize 1 {api_token,email,name,phone}\nshop.receipts keep 1\nshop.tracks delete 1', 'a hold on another row is none of Bob''s');

-- Users, who are of no organization

INSERT INTO ringfence_data.memberships (org_id, user_id, roles, invited_as) VALUES (:'org_b', :'user_clerk', '{clerk}', 'clerk@private.test');
-- Holds of an organization that the user is of, and of one that would have them.
\set guest 'bbbbbbbb-0000-4000-8000-0000000000d5'
INSERT INTO ringfence_data.users (id, email) VALUES (:'guest', 'guest@b.test');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES (:'org_b', :'guest', '{clerk}');
CREATE FUNCTION public.leave(dry boolean) RETURNS text LANGUAGE sql
RETURN asks('bbbbbbbb-0000-4000-8000-0000000000d5', '0bbbbbbb-0000-7000-8000-00000000000b', erase('user', 'bbbbbbbb-0000-4000-8000-0000000000d5', dry));
SELECT public.hold(:'org_a', format('''not yours'', subject_kind => ''user'', subject_id => %L', :'guest')) AS hold \gset
SELECT is(leave(true), E'ringfence_data.memberships delete 1\nringfence_data.users anonymize 1 {email,name}', 'a hold of an organization that a user is no member of does not keep them');
INSERT INTO ringfence_data.memberships (org_id, user_id, roles, status, invited_as) VALUES (:'org_a', :'guest', '{clerk}', 'invited', 'guest@b.test');
SELECT public.hold(:'org_a', '''everything of ours''') AS whole \gset
SELECT is(leave(true), E'ringfence_data.memberships delete 2\nringfence_data.users anonymize 1 {email,name}', 'nor does it by inviting them');
UPDATE ringfence_data.memberships AS m SET status = 'active' WHERE (m.org_id, m.user_id) = (:'org_a', :'guest');
SELECT is(leave(true), 'PT409 a legal hold keeps this subject: It can be erased once the hold is released.', 'once they are a member it does');
SELECT release(:'org_a', :'whole') \g /dev/null
SELECT is(leave(true), 'PT409 a legal hold keeps this subject: It can be erased once the hold is released.', 'be it on the user alone');
SELECT is(operator_asks(:'org_a', erase('user', :'guest', true)), 'PT409 a legal hold keeps this subject: The reason: not yours.', 'whose reason is told in that organization');
SELECT is(operator_asks(:'org_b', erase('user', :'guest', true)), 'PT409 a legal hold keeps this subject: It can be erased once the hold is released.', 'and in no other');
SELECT release(:'org_a', :'hold') \g /dev/null
-- An owner with a hold on their own row, and another organization's on somebody.
SELECT public.hold(:'org_a', format('''mine'', rel => ''ringfence_data.memberships'', rows => ''{"user_id": "%s"}''', :'user_a')) AS hold,
	public.hold(:'org_b', format('''fraud case 77'', subject_kind => ''user'', subject_id => %L', :'guest')) AS other \gset
SELECT is(asks(:'user_a', :'org_a', erase('user', :'user_a', true)), 'PT409 a legal hold keeps this subject: It can be erased once the hold is released.', 'an owner is not told what others hold');
SELECT release(:'org_a', :'hold'), release(:'org_b', :'other') \g /dev/null
DELETE FROM ringfence_data.memberships AS m WHERE m.user_id = :'guest' AND m.org_id = :'org_a';
SELECT is(asks(:'user_a', :'org_a', erase('user', :'user_clerk')), '42501 permission denied for this subject', 'no owner erases a user');
SELECT is(asks(:'user_clerk', :'org_a', $$SELECT concat_ws(' ', relation, action, rows) FROM ringfence_v1.erase_me('user', 'I leave') AS e WHERE e.rows > 0 AND relation <> 'ringfence_data.audit_log' ORDER BY 1$$),
	E'ringfence_data.memberships delete 2\nringfence_data.users anonymize 1', 'a user leaves, from everywhere');
SELECT results_eq(format('SELECT email LIKE ''anon-%%@anonymous.invalid'', name FROM ringfence_data.users WHERE id = %L', :'user_clerk'), 'VALUES (true, NULL::text)', 'without name and address');
SELECT is(remembered('clerk@'), 0::bigint, 'the log forgets, in every organization');
SELECT results_eq(format($$SELECT l.org_id, l.user_id, l.reason COLLATE "default", l.old ->> 'roles' FROM ringfence_data.audit_log AS l
	INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id AND r.relation = 'ringfence_data.memberships'::regclass
	WHERE l.operation = 'DELETE' AND l.key = %L ORDER BY 1$$, :'user_clerk'),
	format('VALUES (%1$L::uuid, %3$L::uuid, ''I leave'', ''["clerk"]''), (%2$L, %3$L, ''I leave'', ''["clerk"]'')', :'org_a', :'org_b', :'user_clerk'), 'and each knows that a member has left');
SELECT results_eq($$SELECT org_id, kind COLLATE "default", subject_id FROM ringfence_data.erasures WHERE kind = 'user'$$, format('VALUES (''00000000-0000-0000-0000-000000000000''::uuid, ''user'', %L::uuid)', :'user_clerk'), 'it is on the list of nobody''s');
SELECT is(asks(:'user_b', :'org_b', $$SELECT count(*) FROM ringfence_v1.erase_me('user', 'I leave')$$), 'PT409 an organization keeps at least one owner: ', 'the only owner of an organization stays');
SELECT is((SELECT u.email FROM ringfence_data.users AS u WHERE u.id = :'user_b'), 'owner@b.test', 'as they were');
UPDATE ringfence_data.orgs AS o SET status = 'closed' WHERE o.id = :'org_b';
SELECT is(operator_asks(:'org_a', f), '42501 permission denied for this subject', 'an operator reaches no user of another organization: ' || left(f, 45))
FROM unnest(ARRAY[erase('user', :'user_b'), erase('user', :'user_b', true), export('user', :'user_b'), erase('user', :'guest')]) AS f;
SELECT is(operator_asks(:'org_b', erase('user', :'user_b', reason => 'by letter')), E'ringfence_data.memberships delete 1\nringfence_data.users anonymize 1 {email,name}', 'until it is closed; an operator may, for users of the organization');
SELECT is(operator_asks(:'org_a', erase('user', :'user_b', reason => 'by letter')), '', 'or of none any more');
SELECT is(remembered('owner@b.test'), 0::bigint, 'the log of that organization forgets as well');

-- Where it can't be

SELECT matches(asks(:'user_a', :'org_a', erase('person', :'pat'), 'REPEATABLE READ'), '^25000 rows are removed and anonymized under READ COMMITTED only', 'under REPEATABLE READ a hold could be overlooked');
SELECT matches(asks(:'user_a', :'org_a', erase('person', :'pat'), 'READ COMMITTED READ ONLY'), '^25006 ', 'nothing is erased by reading');

SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'after all that the log verifies');
SELECT is_empty($$SELECT * FROM ringfence.verify() AS v WHERE v.object LIKE 'ringfence_data.%'$$, 'and so do core''s tables');

DROP FUNCTION public.anybody_end(uuid);
DROP ROLE regress_somebody;
SELECT * FROM finish();
