-- audit_seal() covers each record once, in the first block after its
-- transaction; proofs and checkpoints hold; nobody writes the seal's tables, and
-- a tenant sees and checks its own part of them alone.
\ir include/tenants.sql
SELECT plan(58);

-- A record's leaf is what test/verify_audit.py --vector computes.
SET session_replication_role = replica;
SELECT ringfence.make_audit_partition('2026-01-02') \g /dev/null
INSERT INTO ringfence_data.audit_relations (id, relation, name, columns)
VALUES (100000, 'public.notes', 'public.clients', '{}');
INSERT INTO ringfence_data.audit_log (
	org_id, id, recorded_at, transaction_id, incarnation, relation_id, user_id, operation, actor, login, role, key,
	request_id, client_ip, user_agent, reason, old, new, personal
) VALUES (
	:'org_a', '01900000-0000-7000-8000-000000000001', '2026-01-02 03:04:05.678+00', 3, 1, 100000,
	:'user_a', 'UPDATE', 'user', 'web', 'ringfence_member', '17', 'r-1', '192.0.2.7', 'curl/8.0', 'Zürich',
	'{"b": 1.50, "note": null, "password": "[secret]"}',
	'{"b": -20, "note": ["x", true, false, {"é": {}, "zz": []}], "password": "[secret]"}',
	'{"new": {"email": {"salt": "AAECAwQFBgcICQoLDA0ODw==", "value": "a@example.test"}},
	"old": {"email": {"commitment": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="}}}'
);
RESET session_replication_role;
SELECT is(ringfence.audit_checkpoint(), NULL, 'there is no checkpoint before the first block');
SELECT is(ringfence.audit_seal(), 1::bigint, 'the first block is number 1');
SELECT is(
	(SELECT encode(substr(l.leaves, strpos(encode(l.leaves, 'hex'), '01900000') / 2 + 17, 32), 'hex')
	FROM ringfence_data.audit_leaves AS l
	WHERE l.org_id = :'org_a' AND l.block = 1 AND l.part = 0),
	'ca01d7fdb29330db8ddc713d99bf0810049f27236ee5765954878405d89fcea0', 'a leaf is that of the test vector');
SELECT is(ringfence.audit_seal(), NULL, 'nothing new: no block');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'what was sealed verifies');
SELECT is(
	(SELECT sum(b.records)::bigint FROM ringfence_data.audit_blocks AS b),
	(SELECT count(*) FROM ringfence_data.audit_log), 'it covers every record');
SELECT results_eq(
	$$SELECT o.org_id, sum(o.records)::bigint FROM ringfence_data.audit_block_orgs AS o GROUP BY 1 ORDER BY 1$$,
	$$SELECT l.org_id, count(*) FROM ringfence_data.audit_log AS l GROUP BY 1 ORDER BY 1$$, 'of every organization');

-- Later blocks
UPDATE public.notes SET body = body || '!' WHERE org_id = :'org_a';
SELECT is(ringfence.audit_seal(), 2::bigint, 'the second block');
SELECT results_eq(
	$$SELECT o.org_id, o.records FROM ringfence_data.audit_block_orgs AS o WHERE o.block = 2$$,
	format('VALUES (%L::uuid, 1::bigint)', :'org_a'), 'has the one new record');
SELECT is(octet_length(b.entries), 256, 'among eight entries') FROM ringfence_data.audit_blocks AS b WHERE b.number = 2;
SELECT is(b.previous, a.hash, 'and continues the first')
FROM ringfence_data.audit_blocks AS a, ringfence_data.audit_blocks AS b WHERE a.number = 1 AND b.number = 2;
SELECT is(h.number, 2::bigint, 'which the head states') FROM ringfence_data.audit_head AS h;

-- The sealing transaction itself isn't complete.
BEGIN;
UPDATE public.notes SET body = 'before' WHERE org_id = :'org_a';
SELECT is(ringfence.audit_seal(), NULL, 'what the sealing transaction wrote before is not sealed yet');
UPDATE public.notes SET body = 'after' WHERE org_id = :'org_a';
COMMIT;
SELECT is(ringfence.audit_seal(), 3::bigint, 'but by the next seal');
SELECT is(b.records, 2::bigint, 'with what it wrote after') FROM ringfence_data.audit_blocks AS b WHERE b.number = 3;

-- Savepoints and rollback
BEGIN;
SAVEPOINT a;
UPDATE public.notes SET body = 'kept' WHERE org_id = :'org_a';
SAVEPOINT b;
UPDATE public.notes SET body = 'lost' WHERE org_id = :'org_a';
ROLLBACK TO b;
COMMIT;
SELECT is(ringfence.audit_seal(), 4::bigint, 'a savepoint''s record');
SELECT is(b.records, 1::bigint, 'without what was rolled back') FROM ringfence_data.audit_blocks AS b WHERE b.number = 4;
BEGIN;
UPDATE public.notes SET body = 'rolled back' WHERE org_id = :'org_b';
ROLLBACK;
SELECT is(ringfence.audit_seal(), NULL, 'a transaction that rolled back has nothing to seal');

-- Prepared transactions
BEGIN;
UPDATE public.notes SET body = 'prepared' WHERE org_id = :'org_b';
PREPARE TRANSACTION 'seal';
UPDATE public.notes SET body = 'meanwhile' WHERE org_id = :'org_a';
SELECT is(ringfence.audit_seal(), 5::bigint, 'while a transaction is prepared');
SELECT results_eq($$SELECT o.org_id FROM ringfence_data.audit_block_orgs AS o WHERE o.block = 5$$,
	format('VALUES (%L::uuid)', :'org_a'), 'its records are not sealed');
COMMIT PREPARED 'seal';
SELECT is(ringfence.audit_seal(), 6::bigint, 'once it is committed');
SELECT results_eq($$SELECT o.org_id FROM ringfence_data.audit_block_orgs AS o WHERE o.block = 6$$,
	format('VALUES (%L::uuid)', :'org_b'), 'they are');

-- Forgetting doesn't touch the leaf.
SET session_replication_role = replica;
UPDATE ringfence_data.audit_log AS l
SET personal = jsonb_set(l.personal, '{new,email}', jsonb_build_object('commitment', encode(sha256(
	'\x02'::bytea || decode('AAECAwQFBgcICQoLDA0ODw==', 'base64') || '"'::bytea || int4send(14) || convert_to('a@example.test', 'UTF8')), 'base64')))
WHERE l.id = '01900000-0000-7000-8000-000000000001';
RESET session_replication_role;
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'a forgotten personal value leaves the leaf valid, and all the rest verifies');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify(3, 4)$$, 'a part of the chain verifies by itself');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify(100)$$, 'no block is no finding');
SELECT is_empty(format('SELECT * FROM ringfence.audit_verify(org => %L)', :'org_a'), 'one organization''s part verifies');

-- Anything that is in a record can be sealed.
SET session_replication_role = replica;
INSERT INTO ringfence_data.audit_log (org_id, id, recorded_at, transaction_id, incarnation, operation, actor, login, role, action, new, personal)
SELECT :'org_a', ringfence.uuid7(), clock_timestamp(), pg_current_xact_id()::text::bigint, 1, 'EVENT', 'system', 'x', 'x', 'test.odd', v.new, v.personal
FROM (VALUES
	('[]'::jsonb, '{}'::jsonb), ('"scalar"', '[]'), ('null', 'null'), ('1e131000', '{"new": {}}'), ('-0.000', '{"new": []}'),
	('{}', '{"new": {"a": 1}}'), ('{"": {"": []}}', '{"new": {"a": {"commitment": "short"}}}'),
	('[1, "a", null, {"a": [[[]]]}]', '{"old": {"a": {"salt": "AAECAwQFBgcICQoLDA0ODw==", "value": 1, "more": 2}}}'),
	('true', '{"old": {"a": {"salt": "!!!!!!!!!!!!!!!!!!!!!!==", "value": 1}}}'), ('false', '{"other": {"a": {"commitment": ""}}}'),
	(NULL, NULL), ((SELECT jsonb_agg(1e131000) FROM generate_series(1, 600)), NULL),
	((SELECT jsonb_object_agg('key ' || n, repeat('x', 100)) FROM generate_series(1, 3000) AS n),
		jsonb_build_object('new', jsonb_build_object('a', jsonb_build_object('salt', 'AAECAwQFBgcICQoLDA0ODw==', 'value',
			(SELECT jsonb_agg(1e131000) FROM generate_series(1, 600))))))
) AS v (new, personal);
RESET session_replication_role;
SELECT is(ringfence.audit_seal(), 7::bigint, 'records of any content are sealed');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'and verify');
INSERT INTO public.notes (org_id, body) SELECT :'org_b', 'many' FROM generate_series(1, 66000);
SELECT is(ringfence.audit_seal(), 8::bigint, 'a long list');
SELECT results_eq($$SELECT l.part, octet_length(l.leaves) / 48 FROM ringfence_data.audit_leaves AS l WHERE l.block = 8 ORDER BY 1$$,
	$$VALUES (0, 65536), (1, 464)$$, 'comes in parts');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'and verifies');

SET maintenance_work_mem = '1MB';
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'also in many small steps');
RESET maintenance_work_mem;

-- Proofs
SELECT ok(
	p.proof ->> 'org_id' = l.org_id::text AND p.proof ->> 'id' = l.id::text
		AND (p.proof -> 'block' ->> 'number')::int = 8 AND jsonb_array_length(p.proof -> 'path') > 0,
	'a proof of a record among 66000')
FROM (SELECT l.org_id, l.id FROM ringfence_data.audit_log AS l ORDER BY l.id DESC LIMIT 1) AS l
CROSS JOIN LATERAL ringfence.audit_proof(l.id) AS p (proof);
SELECT is(ringfence.audit_proof(ringfence.uuid7()), NULL, 'of an unknown record there is none');
SELECT is(ringfence.audit_proof('00000000-0000-0000-0000-000000000000'), NULL, 'whatever its id is like');

-- Checkpoints
SELECT is_empty($$SELECT * FROM ringfence.audit_verify(checkpoint => ringfence.audit_checkpoint())$$, 'a checkpoint of now holds');
SELECT throws_ok($$SELECT * FROM ringfence.audit_verify(checkpoint => '{}')$$, '22023', 'invalid checkpoint', 'what is no checkpoint is refused');
SELECT throws_ok($$SELECT * FROM ringfence.audit_verify(checkpoint => '[1]')$$, '22023', 'invalid checkpoint', 'a list too');
SELECT throws_ok($$SELECT * FROM ringfence.audit_verify(checkpoint => ringfence.audit_checkpoint() || '{"hash": "xyz"}')$$,
	'22023', 'invalid checkpoint', 'or a hash that is none');
SELECT results_eq($$SELECT v.block, v.problem FROM ringfence.audit_verify(checkpoint => ringfence.audit_checkpoint() || '{"number": 7}') AS v$$,
	$$VALUES (7::bigint, 'checkpoint_mismatch')$$, 'one that was changed doesn''t hold');
SELECT throws_ok($$SELECT ringfence.audit_endorse_key('\x00')$$, '22023', 'a public key must have 32 bytes', 'a key that is too short is refused');

-- Who may write
CREATE FUNCTION public.refused(statement text, role text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	PERFORM set_config('role', role, true);
	FOREACH t IN ARRAY ARRAY['audit_blocks', 'audit_block_orgs', 'audit_leaves', 'audit_keys', 'audit_head'] LOOP
		BEGIN
			EXECUTE format(statement, 'ringfence_data.' || t);
			RETURN NEXT t;
		EXCEPTION WHEN insufficient_privilege THEN
			NULL;
		END;
	END LOOP;
	PERFORM set_config('role', 'none', true);
END
$$;
SELECT is_empty(format('SELECT refused(%L, %L)', s.statement, r.role), format('%s: %s', r.role, s.statement))
FROM (VALUES ('DELETE FROM %s'), ('TRUNCATE %s'), ('INSERT INTO %s DEFAULT VALUES')) AS s (statement),
	(VALUES ('ringfence_owner'), ('postgres')) AS r (role)
ORDER BY r.role, s.statement;

-- Tenants
BEGIN;
SELECT set_config('rf.other', (SELECT l.id::text FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_b' ORDER BY l.id LIMIT 1), true),
	set_config('rf.own', (SELECT l.id::text FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.transaction_id <> 3 ORDER BY l.id LIMIT 1), true) \g /dev/null
SELECT ringfence.set_context(:'org_a', :'user_a', ARRAY['owner'], '{}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT results_eq($$SELECT DISTINCT o.org_id FROM ringfence_data.audit_block_orgs AS o$$, format('VALUES (%L::uuid)', :'org_a'),
	'an owner sees their part of the blocks alone');
SELECT results_eq($$SELECT DISTINCT l.org_id FROM ringfence_data.audit_leaves AS l$$, format('VALUES (%L::uuid)', :'org_a'), 'and their leaves');
SELECT is((SELECT count(b.hash) FROM ringfence_data.audit_blocks AS b), 8::bigint, 'and the headers of all blocks');
SELECT throws_ok($$SELECT b.records FROM ringfence_data.audit_blocks AS b$$, '42501', NULL, 'but not how much others did');
SELECT is_empty($$SELECT * FROM ringfence_v1.audit_verify()$$, 'they check their part');
SELECT is(ringfence_v1.audit_proof(current_setting('rf.own')::uuid) ->> 'org_id', :'org_a', 'they get proofs of their records');
SELECT throws_ok($$SELECT ringfence_v1.audit_proof(current_setting('rf.other')::uuid)$$, 'PT404', 'there is no sealed record of that id', 'of another''s there is none');
SELECT throws_ok($$SELECT ringfence_v1.audit_proof(ringfence.uuid7())$$, 'PT404', 'there is no sealed record of that id', 'as of one that is unknown');
SELECT is((ringfence_v1.audit_checkpoint() ->> 'number')::int, 8, 'they get checkpoints');
SELECT throws_ok($$SELECT * FROM ringfence.audit_verify()$$, '42501', NULL, 'but may not check the others'' part');
COMMIT;
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', ARRAY['staff'], '{}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is_empty($$SELECT b.hash FROM ringfence_data.audit_blocks AS b$$, 'a member without those roles sees no block');
COMMIT;

SELECT * FROM finish();
