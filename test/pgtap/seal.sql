-- audit_seal() covers each record once, in the first block after its
-- transaction; proofs and checkpoints hold; nobody writes the seal's tables, and
-- a tenant sees and checks its own part of them alone.
\ir include/tenants.sql
SELECT plan(95);

-- A record's leaf is what test/verify_audit.py --vector computes.
BEGIN;
SET LOCAL session_replication_role = replica;
SELECT ringfence.make_audit_partition('2026-01-02') \g /dev/null
INSERT INTO ringfence_data.audit_relations (id, relation, name, columns)
VALUES (100000, 'public.notes', 'public.clients', '{"1": "id", "2": "b"}');
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
SET LOCAL session_replication_role = origin;
SELECT is(ringfence.audit_checkpoint(), NULL, 'there is no checkpoint before the first block');
SELECT is(ringfence.audit_seal(), 1::bigint, 'the first block is number 1');
SELECT is(
	(SELECT encode(substr(l.leaves, strpos(encode(l.leaves, 'hex'), '01900000') / 2 + 17, 32), 'hex')
	FROM ringfence_data.audit_leaves AS l
	WHERE l.org_id = :'org_a' AND l.block = 1 AND l.part = 0),
	'f1a192e0192be7c7c9c372668d4a532726defd9ad5e54821db9be3b8af9744d5', 'a leaf is that of the test vector');
-- Its id is of another time than it is.
SELECT results_eq($$SELECT v.block, v.record, v.problem, v.detail FROM ringfence.audit_verify() AS v$$,
	$$VALUES (1::bigint, '01900000-0000-7000-8000-000000000001'::uuid, 'record_inserted',
		'its id is not of the time that it is dated: ringfence did not write it so')$$, 'and nothing else is found');
SET LOCAL session_replication_role = replica;
UPDATE ringfence_data.audit_log AS l
SET personal = jsonb_set(l.personal, '{new,email}', jsonb_build_object('commitment', encode(sha256(
	'\x02'::bytea || decode('AAECAwQFBgcICQoLDA0ODw==', 'base64') || '"'::bytea || int4send(14) || convert_to('a@example.test', 'UTF8')), 'base64')))
WHERE l.id = '01900000-0000-7000-8000-000000000001';
SET LOCAL session_replication_role = origin;
SELECT results_eq($$SELECT v.problem FROM ringfence.audit_verify() AS v$$, $$VALUES ('record_inserted')$$,
	'a forgotten personal value leaves the leaf valid');
ROLLBACK;

SELECT is(ringfence.audit_seal(), 1::bigint, 'nothing of what rolled back remains');
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

SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'all of it verifies');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify(3, 4)$$, 'a part of the chain verifies by itself');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify(100)$$, 'no block is no finding');
SELECT is_empty(format('SELECT * FROM ringfence.audit_verify(org => %L)', :'org_a'), 'one organization''s part verifies');

-- Anything that is in a record can be sealed.
CREATE FUNCTION public.plant(org uuid, new jsonb, personal jsonb, id uuid DEFAULT ringfence.uuid7(), moment timestamptz DEFAULT NULL,
	xid bigint DEFAULT pg_current_xact_id()::text::bigint, incarnation integer DEFAULT 1) RETURNS void LANGUAGE sql
SET session_replication_role = replica AS $$
	INSERT INTO ringfence_data.audit_log (org_id, id, recorded_at, transaction_id, incarnation, operation, actor, login, role, action, new, personal)
	SELECT org, id, coalesce(moment, timestamptz '1970-01-01 00:00+00' + make_interval(secs => ('x' || m.hex)::bit(48)::bigint / 1000)
		+ (('x' || m.fraction)::bit(12)::integer * 1000 / 4096) * interval '1 microsecond'
		+ (('x' || m.hex)::bit(48)::bigint % 1000) * interval '1 millisecond'), xid, incarnation, 'EVENT', 'system', 'x', 'x', 'test.odd', new, personal
	FROM (SELECT substr(replace(id::text, '-', ''), 1, 12), substr(replace(id::text, '-', ''), 14, 3)) AS m (hex, fraction)
$$;
SELECT plant(:'org_a', v.new, v.personal)
FROM (VALUES
	('[]'::jsonb, '{}'::jsonb), ('"scalar"', '[]'), ('null', 'null'), ('1e131000', '{"new": {}}'), ('-0.000', '{"new": []}'),
	('{}', '{"new": {"a": 1}}'), ('{"": {"": []}}', '{"new": {"a": {"commitment": "short"}}}'),
	('[1, "a", null, {"a": [[[]]]}]', '{"old": {"a": {"salt": "AAECAwQFBgcICQoLDA0ODw==", "value": 1, "more": 2}}}'),
	('true', '{"old": {"a": {"salt": "!!!!!!!!!!!!!!!!!!!!!!==", "value": 1}}}'), ('false', '{"other": {"a": {"commitment": ""}}}'),
	(NULL, NULL), ((SELECT jsonb_agg(1e999) FROM generate_series(1, 80000)), NULL),
	((SELECT jsonb_object_agg('key ' || n, repeat('x', 100)) FROM generate_series(1, 3000) AS n),
		jsonb_build_object('new', jsonb_build_object('a', jsonb_build_object('salt', 'AAECAwQFBgcICQoLDA0ODw==', 'value',
			(SELECT jsonb_agg(1e999) FROM generate_series(1, 80000))))))
) AS v (new, personal) \g /dev/null
-- However deep it is, also with a small stack.
SELECT plant(:'org_a', v.new, jsonb_build_object('new', jsonb_build_object('a', jsonb_build_object('salt', 'AAECAwQFBgcICQoLDA0ODw==', 'value', v.new))))
FROM (VALUES ((repeat('[', 5000) || repeat(']', 5000))::jsonb), ((repeat('{"a":', 5000) || '1' || repeat('}', 5000))::jsonb)) AS v (new) \g /dev/null
SET max_stack_depth = '100kB';
SELECT is(ringfence.audit_seal(), 7::bigint, 'records of any content are sealed');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'and verify');
RESET max_stack_depth;
INSERT INTO public.notes (org_id, body) SELECT :'org_b', 'many' FROM generate_series(1, 66000);
SELECT is(ringfence.audit_seal(), 8::bigint, 'a long list');
SELECT results_eq($$SELECT l.part, octet_length(l.leaves) / 48 FROM ringfence_data.audit_leaves AS l WHERE l.block = 8 ORDER BY 1$$,
	$$VALUES (0, 65536), (1, 464)$$, 'comes in parts');
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'and verifies');

SET maintenance_work_mem = '1MB';
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'also in many small steps');
RESET maintenance_work_mem;

-- Numbers cost what they take, not what they print: beyond 1000 characters the
-- leaf holds their binary form. A container inside 64 others enters as it is stored.
CREATE FUNCTION public.leaf_of(form bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT substr(a.leaves, 17) FROM ringfence_data.audit_leaves AS a
	WHERE a.block = (SELECT max(number) FROM ringfence_data.audit_blocks) AND octet_length(a.leaves) = 48
		AND substr(a.leaves, 17) = (
			SELECT sha256('\x00'::bytea || 'rfa1' || uuid_send(l.org_id) || uuid_send(l.id)
				|| int8send((extract(epoch FROM l.recorded_at) * 1000000)::bigint) || int8send(l.transaction_id) || int4send(l.incarnation)
				|| '\xffffffff' || int4send(5) || 'EVENT' || int4send(6) || 'system' || '\xffffffff' || int4send(1) || 'x' || int4send(1) || 'x'
				|| int4send(8) || 'test.odd' || decode(repeat('ffffffff', 7), 'hex') || int4send(octet_length(form)) || form || '\xffffffff')
			FROM ringfence_data.audit_log AS l WHERE l.id = encode(substr(a.leaves, 1, 16), 'hex')::uuid)
$$;
SELECT plant(:'org_b', '1e999', NULL) \g /dev/null
SELECT is(ringfence.audit_seal(), 9::bigint, 'a number of 1000 digits');
SELECT isnt(leaf_of('#'::bytea || int4send(1000) || convert_to('1' || repeat('0', 999), 'UTF8')), NULL, 'is in the leaf as it is printed');
SELECT plant(:'org_b', '-1e999', NULL) \g /dev/null
SELECT is(ringfence.audit_seal(), 10::bigint, 'one of 1001 characters');
SELECT isnt(leaf_of('N'::bytea || sha256(numeric_send(-1e999))), NULL, 'is there as a hash of its binary form');
SELECT plant(:'org_b', ('0.' || repeat('0', 2000) || '1')::jsonb, NULL) \g /dev/null
SELECT is(ringfence.audit_seal(), 11::bigint, 'one with many decimals');
SELECT isnt(leaf_of('N'::bytea || sha256(numeric_send(('0.' || repeat('0', 2000) || '1')::numeric))), NULL, 'too');
SELECT plant(:'org_b', (repeat('[', 65) || repeat(']', 65))::jsonb, NULL) \g /dev/null
SELECT is(ringfence.audit_seal(), 12::bigint, 'lists that are nested 65 deep');
SELECT isnt(coalesce(leaf_of(f.form || sha256('\x00000040')), leaf_of(f.form || sha256('\x40000000'))), NULL, 'are there to a depth of 64')
FROM (SELECT decode(repeat('5b00000001', 64), 'hex') || 'x') AS f (form);
SELECT plant(:'org_b', jsonb_agg(1e131071), NULL) FROM generate_series(1, 200), generate_series(1, 500) AS n GROUP BY n \g /dev/null
SET statement_timeout = '20s';
SELECT is(ringfence.audit_seal(), 13::bigint, 'many huge numbers are sealed in no time');
RESET statement_timeout;
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'and all verify');

-- Records that the writer can't have written.
CREATE FUNCTION public.planted() RETURNS TABLE (block bigint, problem text, detail text) LANGUAGE sql AS $$
	SELECT v.block, v.problem, substr(v.detail, 1, strpos(v.detail || ':', ':') - 1) FROM ringfence.audit_verify() AS v
$$;
CREATE FUNCTION public.id_of(moment timestamptz) RETURNS uuid LANGUAGE sql AS $$
	SELECT overlay(overlay(lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || md5(moment::text) PLACING '7000' FROM 13 FOR 4) PLACING '8' FROM 17 FOR 1)::char(32)::uuid
$$;
BEGIN;
SELECT plant(:'org_a', '{}', NULL, gen_random_uuid(), date_trunc('hour', now())) \g /dev/null
SELECT results_eq($$SELECT * FROM planted()$$,
	$$VALUES (NULL::bigint, 'record_inserted', 'its id is not of the time that it is dated')$$, 'an id that tells no time, not sealed yet');
ROLLBACK;
BEGIN;
SELECT plant(:'org_a', '{}', NULL, xid => 9000000000000000000), plant(:'org_a', '{}', NULL, xid => -5) \g /dev/null
SELECT results_eq($$SELECT * FROM planted()$$, $$SELECT NULL::bigint, 'record_inserted', 'it is of a transaction that has not begun yet, so that no block covers it' FROM generate_series(1, 2)$$,
	'a transaction that has not begun');
SELECT results_eq(format($$SELECT v.problem FROM ringfence.audit_verify(org => %L) AS v$$, :'org_a'), $$VALUES ('record_inserted'), ('record_inserted')$$, 'which its organization sees');
SELECT is_empty(format($$SELECT * FROM ringfence.audit_verify(org => %L)$$, :'org_b'), 'but no other');
ROLLBACK;
BEGIN;
SELECT plant(:'org_a', '{}', NULL, incarnation => 77, xid => 700) \g /dev/null
SELECT results_eq($$SELECT * FROM planted()$$, $$VALUES (NULL::bigint, 'record_inserted', 'it is of an incarnation that there never was, so that no block will cover it')$$,
	'an incarnation that there never was');
ROLLBACK;
BEGIN;
SELECT plant(:'org_a', '{}', NULL, id_of(now() - interval '11 minutes'), xid => (SELECT pg_snapshot_xmax(max(b.snapshot::text)::pg_snapshot)::text::bigint FROM ringfence_data.audit_blocks AS b WHERE b.number = 12)) \g /dev/null
SELECT results_eq($$SELECT * FROM planted()$$, $$VALUES (13::bigint, 'record_inserted', 'the record belongs to this block by its transaction, but was not sealed in it')$$,
	'what was not sealed is named once');
ROLLBACK;
SELECT pg_current_xact_id()::text AS xid \gset
BEGIN;
SELECT plant(:'org_a', '{}', NULL, id_of(now() - interval '9 minutes'), xid => :xid) \g /dev/null
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'a clock may go back a little');
SELECT plant(:'org_a', '{}', NULL, id_of(now() - interval '11 minutes'), xid => :xid) \g /dev/null
SELECT results_eq($$SELECT * FROM planted()$$, $$VALUES (NULL::bigint, 'record_backdated', 'it is dated before its transaction can have begun, or the clock went back')$$,
	'a record that is dated back');
SELECT is(ringfence.audit_seal(), 14::bigint, 'is sealed');
SELECT results_eq($$SELECT * FROM planted()$$, $$VALUES (14::bigint, 'record_backdated', 'it is dated before its transaction can have begun, or the clock went back')$$,
	'but remains a finding');
ROLLBACK;
BEGIN;
SELECT plant(:'org_a', '{}', NULL, id_of(now() + interval '9 minutes'), xid => :xid) \g /dev/null
SELECT is_empty($$SELECT * FROM ringfence.audit_verify()$$, 'a little into the future is the clock');
SELECT ringfence.make_audit_partition(now() + interval '11 minutes') \g /dev/null
SELECT plant(:'org_a', '{}', NULL, id_of(now() + interval '11 minutes'), xid => :xid) \g /dev/null
SELECT results_eq($$SELECT * FROM planted()$$, $$VALUES (NULL::bigint, 'record_postdated', 'it is dated after it was there, or the clock went back')$$,
	'more is not');
SELECT is(ringfence.audit_seal(), 14::bigint, 'sealed');
SELECT results_eq($$SELECT * FROM planted()$$, $$VALUES (14::bigint, 'record_postdated', 'it is dated after it was there, or the clock went back')$$,
	'it remains a finding too');
ROLLBACK;

-- An index that inserting past the executor can't keep is refused.
CREATE INDEX seal_odd ON ringfence_data.audit_blocks ((encode(hash, 'hex')));
UPDATE public.notes SET body = body || '?' WHERE org_id = :'org_b' AND body <> 'many';
SELECT throws_ok('SELECT ringfence.audit_seal()', '55000', 'index "seal_odd" cannot be on table "audit_blocks"', 'an index over an expression is refused');
DROP INDEX ringfence_data.seal_odd;
CREATE INDEX seal_odd ON ringfence_data.audit_leaves (block) WHERE part > 0;
SELECT throws_ok('SELECT ringfence.audit_seal()', '55000', 'index "seal_odd" cannot be on table "audit_leaves"', 'a partial one too');
DROP INDEX ringfence_data.seal_odd;
ALTER TABLE ringfence_data.audit_head ADD COLUMN note integer NOT NULL DEFAULT 1;
SELECT throws_ok('SELECT ringfence.audit_seal()', '55000', 'column "note" of table "audit_head" must not be NOT NULL', 'and a column that must not be NULL');
ALTER TABLE ringfence_data.audit_head DROP COLUMN note;
SELECT is(ringfence.audit_seal(), 14::bigint, 'without them all is well');
-- Nor do partitions that can't be made keep a block from being sealed.
UPDATE public.notes SET body = body || '?' WHERE org_id = :'org_b' AND body <> 'many';
BEGIN;
ALTER FUNCTION ringfence.make_audit_partitions(integer) RENAME TO missing;
SET LOCAL client_min_messages = error;
SELECT is(ringfence.audit_seal(), 15::bigint, 'a block is sealed though partitions can''t be made');
ROLLBACK;
-- Proofs
SELECT ok(
	p.proof ->> 'org_id' = l.org_id::text AND p.proof ->> 'id' = l.id::text
		AND (p.proof -> 'block' ->> 'number')::int = 8 AND jsonb_array_length(p.proof -> 'path') > 0,
	'a proof of a record among 66000')
FROM (SELECT l.org_id, l.id FROM ringfence_data.audit_log AS l WHERE l.new ->> 'body' = 'many' ORDER BY l.id DESC LIMIT 1) AS l
CROSS JOIN LATERAL ringfence.audit_proof(l.id) AS p (proof);
SELECT is(
	p.record, to_jsonb(l) - 'relation_id' || jsonb_build_object('relation', r.name, 'columns', r.columns,
		'recorded_at', (extract(epoch FROM l.recorded_at) * 1000000)::bigint, 'client_ip', l.client_ip::text),
	'the record is in it')
FROM (
	SELECT l.* FROM ringfence_data.audit_log AS l WHERE l.relation_id IS NOT NULL AND l.personal IS NOT NULL AND l.new IS NOT NULL
	ORDER BY l.id LIMIT 1
) AS l
INNER JOIN ringfence_data.audit_relations AS r ON r.id = l.relation_id
CROSS JOIN LATERAL (SELECT ringfence.audit_proof(l.id) -> 'record') AS p (record);
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
SELECT is((SELECT count(b.hash) FROM ringfence_data.audit_blocks AS b), 14::bigint, 'and the headers of all blocks');
SELECT throws_ok($$SELECT b.records FROM ringfence_data.audit_blocks AS b$$, '42501', NULL, 'but not how much others did');
SELECT is_empty($$SELECT * FROM ringfence_v1.audit_verify()$$, 'they check their part');
SELECT is(ringfence_v1.audit_proof(current_setting('rf.own')::uuid) ->> 'org_id', :'org_a', 'they get proofs of their records');
SELECT is(ringfence_v1.audit_proof(current_setting('rf.own')::uuid) -> 'record' ->> 'id', current_setting('rf.own'), 'with the record');
SELECT throws_ok($$SELECT ringfence_v1.audit_proof(current_setting('rf.other')::uuid)$$, 'PT404', 'there is no sealed record of that id', 'of another''s there is none');
SELECT throws_ok($$SELECT ringfence_v1.audit_proof(ringfence.uuid7())$$, 'PT404', 'there is no sealed record of that id', 'as of one that is unknown');
SELECT is((ringfence_v1.audit_checkpoint() ->> 'number')::int, 14, 'they get checkpoints');
SELECT throws_ok($$SELECT * FROM ringfence.audit_verify()$$, '42501', NULL, 'but may not check the others'' part');
COMMIT;
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', ARRAY['staff'], '{}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is_empty($$SELECT b.hash FROM ringfence_data.audit_blocks AS b$$, 'a member without those roles sees no block');
COMMIT;

-- An operator's checking is on record.
SET SESSION AUTHORIZATION regress_operator;
BEGIN READ ONLY;
SELECT ringfence.enter_org(:'org_a', 'ticket 8') \g /dev/null
SELECT is_empty($$SELECT * FROM ringfence_v1.audit_verify()$$, 'an operator checks the organization that they entered');
ROLLBACK;
BEGIN READ ONLY;
SELECT ringfence.enter_org(:'org_a', 'ticket 9') \g /dev/null
SELECT ok(count(*) > 0, 'and reads its leaves') FROM ringfence_data.audit_leaves AS l;
ROLLBACK;
RESET SESSION AUTHORIZATION;
SELECT results_eq(format($$SELECT jsonb_build_array(l.login, l.reason) FROM ringfence_data.audit_log AS l WHERE l.org_id = %L AND l.action = 'audit.read' ORDER BY l.recorded_at$$, :'org_a'),
	$$VALUES ('["regress_operator", "ticket 8"]'::jsonb), ('["regress_operator", "ticket 9"]')$$, 'both are on record');

SELECT * FROM finish();
