-- What is kept about a person, as one document: every declared table, the ledger,
-- memberships and consents, nothing of anybody else, no secret; each export is on
-- record.
\ir include/subjects.sql
SELECT plan(30);

BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', '{owner}') \g /dev/null
SELECT ringfence.open_asset('EUR', 2), ringfence.open_account('bank', 'Bank', 'EUR', 'asset'),
	ringfence.open_account('p:1', 'Pat Person', 'EUR', 'liability', party_kind => 'person', party_id => :'pat'),
	ringfence.open_account('p:2', 'Quinn Person', 'EUR', 'liability', party_kind => 'person', party_id => :'quinn') \g /dev/null
SELECT ringfence.transfer(ringfence.account('bank'), ringfence.account('p:1'), 500, 'test', '0aaaaaaa-0000-7000-8000-000000000aaa'),
	ringfence.transfer(ringfence.account('p:1'), ringfence.account('p:2'), 70, 'test', '0aaaaaaa-0000-7000-8000-000000000aab'),
	ringfence.transfer(ringfence.account('bank'), ringfence.account('p:2'), 9, 'test', '0aaaaaaa-0000-7000-8000-000000000aac') \g /dev/null
SELECT ringfence.give_consent('person', :'pat', 'location', 'v1', '{"form": "signup"}'), ringfence.give_consent('person', :'quinn', 'location', 'v1') \g /dev/null
COMMIT;
-- One table that is about people in two ways.
CREATE TABLE shop.gifts (
	id uuid NOT NULL DEFAULT ringfence.uuid7(), org_id uuid NOT NULL DEFAULT ringfence.org_id(), giver_id uuid, taker_id uuid, thing text,
	PRIMARY KEY (org_id, id)
);
SELECT ringfence.protect('shop.gifts'), ringfence.declare_subject('person', 'shop.gifts', 'giver_id', 'anonymize', '{"giver_id": "null"}'),
	ringfence.declare_subject('person', 'shop.gifts', 'taker_id', 'anonymize', '{"taker_id": "null"}') \g /dev/null
INSERT INTO shop.gifts (org_id, giver_id, taker_id, thing) VALUES (:'org_a', :'pat', :'quinn', 'book'), (:'org_a', :'quinn', :'pat', 'pen'),
	(:'org_a', :'pat', :'pat', 'cake'), (:'org_a', :'quinn', :'quinn', 'hat'), (:'org_b', :'pat', :'pat', 'trap');
SELECT asks(:'user_a', :'org_a', export('person', :'pat'))::jsonb AS doc \gset

SELECT set_eq(format('SELECT jsonb_object_keys(%L)', :'doc'), '{subject,exported_at,tables,consents}'::text[], 'a document of four parts');
SELECT is(:'doc'::jsonb -> 'subject', jsonb_build_object('kind', 'person', 'id', :'pat'), 'says whom it is about');
SELECT cmp_ok(abs(extract(epoch FROM clock_timestamp() - (:'doc'::jsonb ->> 'exported_at')::timestamptz)), '<', 60::numeric, 'and when it was made');
SELECT results_eq(format('SELECT t.key, jsonb_array_length(t.value) FROM jsonb_each(%L::jsonb -> ''tables'') AS t ORDER BY 1', :'doc'), $$VALUES
	('ringfence_data.ledger_accounts', 1), ('ringfence_data.ledger_transfers', 2), ('ringfence_data.memberships', 1),
	('shop.gifts', 3), ('shop.letters', 3), ('shop.orders', 2), ('shop.people', 1), ('shop.receipts', 1), ('shop.tracks', 1)$$, 'it has the rows of every table, each once');
SELECT is(:'doc'::jsonb #> '{tables,shop.people,0}', jsonb_build_object('id', :'pat', 'org_id', :'org_a', 'name', 'Pat Person', 'email', 'pat@people.test', 'phone', '+1'), 'a row is whole but for its secret');
SELECT ok(position('hush' IN :'doc') = 0, 'which is nowhere');
SELECT ok(:'doc' NOT LIKE '%Quinn Person%' AND :'doc' NOT LIKE '%Bob%' AND :'doc' NOT LIKE '%hat%' AND :'doc' NOT LIKE '%trap%', 'as is what is about others alone');
SELECT results_eq(format('SELECT (c.value ->> ''purpose''), c.value -> ''evidence'' FROM jsonb_array_elements(%L::jsonb -> ''consents'') AS c', :'doc'), $$VALUES ('location', '{"form": "signup"}'::jsonb)$$, 'consents are told');
SELECT is(:'doc'::jsonb #>> '{tables,ringfence_data.memberships,0,user_id}', :'user_pat', 'and who signs in as the person');

-- Whose it is

SELECT is(asks(:'user_pat', :'org_a', export('person', :'pat'))::jsonb - 'exported_at', :'doc'::jsonb - 'exported_at', 'the person is given the same');
SELECT is(operator_asks(:'org_a', export('person', :'pat'))::jsonb - 'exported_at', :'doc'::jsonb - 'exported_at', 'and so is an operator who entered');
SELECT is(asks(:'user_quinn', :'org_a', export('person', :'pat')), '42501 permission denied for this subject', 'nobody else');
SELECT results_eq($$SELECT key COLLATE "default", actor COLLATE "default", org_id, user_id, new -> 'rows' ->> 'shop.orders' FROM ringfence_data.audit_log WHERE action = 'subject.exported' ORDER BY id$$,
	format('VALUES (%1$L, ''user'', %2$L::uuid, %3$L::uuid, ''2''), (%1$L, ''user'', %2$L, %4$L, ''2''), (%1$L, ''operator'', %2$L, NULL, ''2'')', 'person:' || :'pat', :'org_a', :'user_a', :'user_pat'), 'each export is on record, with how much it was');
SELECT ok(NOT EXISTS (SELECT FROM ringfence_data.audit_log AS l WHERE l.action = 'subject.exported' AND l.new::text LIKE '%Pat%'), 'not with what');

-- A user, from everywhere

INSERT INTO ringfence_data.memberships (org_id, user_id, roles) VALUES (:'org_b', :'user_pat', '{clerk}');
BEGIN;
SELECT ringfence.set_context(:'org_b', :'user_b', '{owner}'), ringfence.give_consent('user', :'user_pat', 'newsletter', '2') \g /dev/null
COMMIT;
SELECT asks(:'user_pat', :'org_a', export('user', :'user_pat'))::jsonb AS doc \gset
SELECT results_eq(format('SELECT t.key, jsonb_array_length(t.value) FROM jsonb_each(%L::jsonb -> ''tables'') AS t ORDER BY 1', :'doc'),
	$$VALUES ('ringfence_data.memberships', 2), ('ringfence_data.users', 1)$$, 'a user is told of memberships everywhere');
SELECT is(:'doc'::jsonb #>> '{tables,ringfence_data.users,0,email}', 'pat@people.test', 'and of the account');
SELECT is(:'doc'::jsonb #>> '{consents,0,org_id}', :'org_b', 'and of consents, whoever has them');
SELECT is(jsonb_array_length(asks(:'user_pat', NULL, export('user', :'user_pat'))::jsonb #> '{tables,ringfence_data.memberships}'), 2, 'without an organization as well');
SELECT is(asks(:'user_a', :'org_a', export('user', :'user_pat')), '42501 permission denied for this subject', 'no owner is told of a user');
SELECT operator_asks(:'org_a', export('user', :'user_pat'))::jsonb AS doc \gset
SELECT is(ARRAY[:'doc'::jsonb #>> '{tables,ringfence_data.memberships,0,org_id}', :'doc'::jsonb #>> '{tables,ringfence_data.memberships,1,org_id}'], ARRAY[:'org_a', NULL],
	'an operator is told of the organization that was entered');
SELECT is(:'doc'::jsonb -> 'consents', '[]', 'and of no other''s consents');
SELECT is(operator_asks(:'org_a', export('user', :'user_b')), '42501 permission denied for this subject', 'nor of its users');

-- Afterwards

SELECT is(asks(:'user_pat', :'org_a', $$SELECT count(*) > 0 FROM ringfence_v1.erase_me('person', 'I leave')$$), 't', 'who is erased');
SELECT is(asks(:'user_pat', :'org_a', export('person', :'pat')), '42501 permission denied for this subject', 'is that person no more');
SELECT asks(:'user_a', :'org_a', export('person', :'pat'))::jsonb AS doc \gset
SELECT ok(:'doc' NOT LIKE '%Pat %' AND :'doc' NOT LIKE '%pat@%' AND :'doc' NOT LIKE '%signup%', 'nothing says any more who it was');
SELECT is(jsonb_array_length(:'doc'::jsonb #> '{tables,shop.gifts}'), 0, 'what was about somebody is about nobody');
SELECT is((SELECT count(*) FROM shop.gifts), 5::bigint, 'and is there');
SELECT is(jsonb_array_length(:'doc'::jsonb #> '{tables,ringfence_data.ledger_transfers}'), 2, 'the books have what was paid');
SELECT matches(asks(:'user_a', :'org_a', export('person', :'pat'), 'READ COMMITTED READ ONLY'), '^25006 ', 'an export is recorded, so it writes');
-- One with many rows.
INSERT INTO shop.tracks (org_id, person_id, lat) SELECT :'org_a', :'quinn', n FROM generate_series(1, 20000) AS n;
SELECT is(jsonb_array_length(asks(:'user_a', :'org_a', export('person', :'quinn'))::jsonb #> '{tables,shop.tracks}'), 20001, 'many rows are many');

SELECT * FROM finish();
