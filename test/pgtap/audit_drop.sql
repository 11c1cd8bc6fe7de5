-- Months of the audit log are dropped with a signed statement, after which nothing is
-- found where nothing else was done. It can't be had for months that aren't whole,
-- over, sealed and as they were sealed, it excuses no record of another time, none
-- whose month is still there, and none that differs, and it doesn't hold once it is
-- altered, or its event is gone.
\ir include/tenants.sql
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT plan(61);

CREATE TABLE public.visits (id integer NOT NULL, note text);
SELECT ringfence.protect('public.visits', '{"owner": "all"}');
-- Dates a row's records back, as if the server's clock had been so then.
CREATE FUNCTION public.date_back(row_key text, moment timestamptz) RETURNS void LANGUAGE sql
SET session_replication_role = replica AS $$
	UPDATE ringfence_data.audit_log AS l
	SET recorded_at = date_back.moment + row_key::integer * interval '1 second',
		id = overlay(l.id::text PLACING regexp_replace(
			lpad(to_hex((extract(epoch FROM date_back.moment) * 1000)::bigint + row_key::integer * 1000), 12, '0'), '(.{8})(.{4})', '\1-\2') || '-7000' FROM 1 FOR 18)::uuid
	WHERE l.key = row_key AND l.relation_id IN (SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.relation = 'public.visits'::regclass)
$$;
CREATE FUNCTION public.tamper(command text) RETURNS void LANGUAGE plpgsql SET session_replication_role = replica AS $$
BEGIN
	EXECUTE command;
END $$;
SELECT m.month AS month, m.next AS next, m.last AS last, m.present AS present,
	'audit_log_' || to_char(m.month, 'YYYYMM') AS partition, 'audit_log_' || to_char(m.next, 'YYYYMM') AS next_partition,
	to_char(m.month, 'YYYY-MM-DD') || '/' || to_char(m.next, 'YYYY-MM-DD') AS range
FROM (
	SELECT date_trunc('month', now()) AS present, date_trunc('month', now()) - interval '5 months' AS month,
		date_trunc('month', now()) - interval '4 months' AS next, date_trunc('month', now()) - interval '3 months' AS last
) AS m \gset
SELECT ringfence.make_audit_partition(m.moment) FROM (VALUES (:'month'::timestamptz), (:'next'), (:'last')) AS m (moment) \g /dev/null

SELECT throws_ok(format('SELECT ringfence.audit_state_drop(%L, %L, %L)', :'month', :'next', 'old'), '55000', 'the audit log was never sealed', 'nothing is stated of a log without a seal');
INSERT INTO public.visits (org_id, id, note) SELECT o.id, n, 'note' FROM (VALUES (:'org_a'::uuid), (:'org_b')) AS o (id), generate_series(1, 6) AS n;
SELECT date_back(v.key, v.moment) FROM (VALUES ('1', :'month'::timestamptz), ('2', :'month'), ('3', :'month'), ('4', :'next')) AS v (key, moment) \g /dev/null
SELECT ringfence.make_audit_partitions() \g /dev/null
SELECT is(ringfence.audit_seal(), 1::bigint, 'months are sealed');
UPDATE public.visits SET note = 'later' WHERE id > 4;
SELECT is(ringfence.audit_seal(), 2::bigint, 'and what came later');
SELECT ringfence.audit_checkpoint() AS checkpoint \gset
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'all of it verifies');

-- What can't be stated

SELECT throws_ok(format('SELECT ringfence.audit_state_drop(%s, %s, %s)', c.a, c.b, c.reason), c.code, c.message, c.name)
FROM (VALUES
	('NULL', quote_literal(:'next'), '''old''', '22004', 'the range must be given', 'no range'),
	(quote_literal(:'month'), quote_literal(:'next'), 'NULL', '23502', 'a reason is required to drop records', 'no reason'),
	(quote_literal(:'month'), quote_literal(:'next'), ''' ''', '23502', 'a reason is required to drop records', 'a blank one'),
	(quote_literal(:'month'), quote_literal(:'next'), 'repeat(''x'', 1001)', '22023', 'the reason is too long', 'a long one'),
	(quote_literal(:'next'), quote_literal(:'month'), '''old''', '22023', 'invalid range of the audit log', 'nothing'),
	(format('%L::timestamptz + interval ''1 microsecond''', :'month'), quote_literal(:'next'), '''old''', '22023', 'invalid range of the audit log', 'less than a month'),
	(quote_literal(:'month'), format('%L::timestamptz + interval ''1 day''', :'next'), '''old''', '22023', 'invalid range of the audit log', 'a day more'),
	('''-infinity''', quote_literal(:'next'), '''old''', '22023', 'invalid range of the audit log', 'all that was'),
	(quote_literal(:'present'), format('%L::timestamptz + interval ''1 month''', :'present'), '''old''', '55000', 'months of the audit log can be dropped a day after their end', 'the present month'),
	('''2001-01-01''', '''2001-02-01''', '''old''', '55000', 'the audit log has no partition for the range', 'a month that is not there')
) AS c (a, b, reason, code, message, name);
BEGIN READ ONLY;
SELECT throws_ok(format('SELECT ringfence.audit_state_drop(%L, %L, %L)', :'month', :'next', 'old'), '25006', 'cannot execute audit_state_drop() in a read-only transaction', 'on a standby');
ROLLBACK;

-- What was done to a month before, stating it does not hide.
CREATE FUNCTION public.stated(command text, first timestamptz, last timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
BEGIN
	PERFORM public.tamper(command);
	PERFORM ringfence.audit_state_drop(first, last, 'old');
	RAISE EXCEPTION 'stated';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' ', SQLSTATE, message, substring(detail FROM 'the first is ([a-z_]+)'));
END $$;
SELECT is(stated(format(c.command, format('l.key = %L AND l.org_id = %L AND l.relation_id IN (SELECT r.id FROM ringfence_data.audit_relations AS r WHERE r.relation = ''public.visits''::regclass)', c.key, :'org_a')),
	:'month', :'next'), c.expected, c.name)
FROM (VALUES
	('DELETE FROM ringfence_data.audit_log AS l WHERE %s', '2', 'XX001 the range is not as it was sealed record_missing', 'a record was removed'),
	('DELETE FROM ringfence_data.audit_log AS l WHERE recorded_at < now() - interval ''2 months''', '2', 'P0001 stated', 'all were removed: it is stated of none'),
	('UPDATE ringfence_data.audit_log AS l SET reason = ''x'' WHERE %s', '2', 'XX001 the range is not as it was sealed record_altered', 'a record was altered'),
	('UPDATE ringfence_data.audit_log AS l SET reason = ''x'' WHERE %s', '5', 'P0001 stated', 'one of another month was'),
	('UPDATE ringfence_data.audit_log AS l SET id = gen_random_uuid() WHERE %s', '2', 'XX001 the range has records that ringfence did not write', 'a record got another id'),
	('UPDATE ringfence_data.audit_log AS l SET transaction_id = 9000000000000000000 WHERE %s', '2', '55000 records of the range are not sealed yet', 'a record is of no block'),
	('UPDATE ringfence_data.audit_leaves AS l SET leaves = set_byte(leaves, 20, 255 - get_byte(leaves, 20)) WHERE block = 1', '2', 'XX001 the range is not as it was sealed leaves_altered', 'a leaf list was altered'),
	('UPDATE ringfence_data.audit_blocks AS l SET sealed_at = now() WHERE number = 1', '2', 'XX001 the range is not as it was sealed block_altered', 'a block was altered'),
	('UPDATE ringfence_data.audit_blocks AS l SET signature = hash || hash WHERE number = 2', '2', 'XX001 audit block 2 is not as it was sealed', 'the newest block was'),
	('UPDATE ringfence_data.audit_keys AS l SET added_at = now()', '2', 'P0001 stated', 'nothing was')
) AS c (command, key, expected, name);
BEGIN;
SELECT tamper('DELETE FROM ringfence_data.audit_log AS l WHERE recorded_at < now() - interval ''2 months''') \g /dev/null
SELECT ringfence.audit_state_drop(:'month', :'next', 'old') \g /dev/null
SELECT is((SELECT count(*) FROM ringfence.audit_verify() AS v WHERE v.problem = 'record_missing'), 8::bigint, 'a statement of none excuses none');
SELECT format('ALTER TABLE ringfence_data.audit_log DETACH PARTITION ringfence_data.%I', :'partition') \gexec
SELECT is((SELECT count(*) FROM ringfence.audit_verify() AS v WHERE v.problem = 'record_missing'), 8::bigint, 'also when the month is dropped');
ROLLBACK;
BEGIN;
INSERT INTO public.visits (org_id, id, note) VALUES (:'org_a', 7, 'not sealed');
SELECT date_back('7', :'month') \g /dev/null
SELECT throws_ok(format('SELECT ringfence.audit_state_drop(%L, %L, %L)', :'month', :'next', 'old'), '55000', 'records of the range are not sealed yet', 'what is not sealed yet has to be first');
ROLLBACK;

-- A statement

SELECT ringfence.audit_state_drop(:'month', :'next', 'older than 4 months') AS event \gset
SELECT results_eq('SELECT l.id, l.org_id, l.key COLLATE "default", l.new, l.reason COLLATE "default" FROM ringfence_data.audit_log AS l WHERE l.action = ''audit.dropped''',
	format('VALUES (%L::uuid, ''00000000-0000-0000-0000-000000000000''::uuid, %L, %L::jsonb, %L)', :'event', :'range',
		jsonb_build_object('from', to_char(:'month'::timestamptz, 'YYYY-MM-DD'), 'to', to_char(:'next'::timestamptz, 'YYYY-MM-DD'), 'records', 6, 'first_block', 1, 'last_block', 1), 'older than 4 months'),
	'is on record itself');
SELECT results_eq('SELECT d.event, d.range_start, d.range_end, d.first_block, d.last_block, d.reason FROM ringfence_data.audit_drops AS d',
	format('VALUES (%L::uuid, %L::timestamptz, %L::timestamptz, 1::bigint, 1::bigint, %L)', :'event', :'month', :'next', 'older than 4 months'), 'and says which records are meant');
SELECT is(ringfence.audit_state_drop(:'month', :'next', 'again'), :'event'::uuid, 'again it is the same');
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'as long as the month is there');
SELECT l.id AS record FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.key = '2' AND l.new ->> 'note' = 'note' \gset
SELECT l.id AS next_record FROM ringfence_data.audit_log AS l WHERE l.org_id = :'org_a' AND l.key = '4' AND l.new ->> 'note' = 'note' \gset
BEGIN;
SELECT tamper(format('DELETE FROM ringfence_data.audit_log AS l WHERE l.id = %L', :'record')) \g /dev/null
SELECT results_eq('SELECT v.record, v.problem FROM ringfence.audit_verify() AS v', format('VALUES (%L::uuid, ''record_missing'')', :'record'), 'it is verified as ever');
SELECT throws_ok(format('SELECT ringfence.audit_state_drop(%L, %L, %L)', :'month', :'next', 'again'), 'XX001', 'the range is not as it was sealed', 'also by who states it again');
ROLLBACK;
BEGIN;
SELECT tamper('DELETE FROM ringfence_data.audit_drops') \g /dev/null
SELECT format('ALTER TABLE ringfence_data.audit_log DETACH PARTITION ringfence_data.%I', :'partition') \gexec
SELECT is((SELECT count(*) FROM ringfence.audit_verify() AS v WHERE v.problem = 'record_missing'), 6::bigint, 'without a statement each record of a dropped month is missing');
ROLLBACK;

SELECT format('ALTER TABLE ringfence_data.audit_log DETACH PARTITION ringfence_data.%I', :'partition') \gexec
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'with it nothing is, before the event is sealed');
SELECT is(ringfence.audit_seal(), 3::bigint, 'the event is sealed');
SELECT is_empty(format('SELECT * FROM ringfence.audit_verify(checkpoint => %L)', :'checkpoint'), 'and after; and an old checkpoint holds');
SELECT is_empty('SELECT * FROM ringfence.audit_verify(1, 1)', 'a range of blocks, too');
SELECT is(p.proof ->> 'id' || coalesce(p.proof ->> 'record', ' gone'), :'record' || ' gone', 'that it was sealed can still be proved') FROM ringfence.audit_proof(:'record') AS p (proof);
SELECT is(p.proof -> 'record' ->> 'id', :'next_record', 'and of what is kept the record is there') FROM ringfence.audit_proof(:'next_record') AS p (proof);

-- What the statement doesn't hide
CREATE FUNCTION public.found(command text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.tamper(command);
	RETURN QUERY SELECT concat_ws(' ', v.block, v.problem, count(*)) FROM ringfence.audit_verify() AS v GROUP BY v.block, v.problem ORDER BY 1;
END $$;
CREATE FUNCTION public.finds(command text, expected text[], name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	result text[];
BEGIN
	BEGIN
		SELECT array_agg(f) INTO result FROM public.found(command) AS f;
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN
		NULL;
	END;
	RETURN NEXT public.is(result, expected, name);
END $$;
SELECT finds(format('DELETE FROM ringfence_data.audit_log WHERE id = %L', :'next_record'), ARRAY['1 record_missing 1'], 'a record of the next month was removed');
SELECT finds(format('DELETE FROM ringfence_data.audit_log WHERE id = %L', :'event'), ARRAY['3 record_missing 1'], 'the sealed event was removed');
SELECT finds('UPDATE ringfence_data.audit_drops SET range_end = range_end + interval ''1 month''', ARRAY['1 drop_altered 1', '1 record_missing 6'], 'the range was widened');
SELECT finds('UPDATE ringfence_data.audit_drops SET last_block = 2', ARRAY['1 record_missing 6', '2 drop_altered 1'], 'it was made one of more blocks');
SELECT finds('UPDATE ringfence_data.audit_drops SET reason = ''none''', ARRAY['1 drop_altered 1', '1 record_missing 6'], 'the reason was altered');
SELECT finds('UPDATE ringfence_data.audit_drops SET signature = sha512(signature)', ARRAY['1 drop_altered 1', '1 record_missing 6'], 'the signature was altered');
SELECT finds('UPDATE ringfence_data.audit_drops SET block_hash = ''''', ARRAY['1 drop_altered 1', '1 record_missing 6'], 'a column holds anything');
SELECT finds('UPDATE ringfence_data.audit_drops SET key_id = sha256(key_id)', ARRAY['1 drop_altered 1', '1 record_missing 6'], 'it is of another key');
SELECT finds('DELETE FROM ringfence_data.audit_drops', ARRAY['1 record_missing 6'], 'it was removed');
SELECT finds('INSERT INTO ringfence_data.audit_drops SELECT ringfence.uuid7(), range_start, range_end + interval ''1 month'', first_block, last_block, block_hash, stated_at, reason, key_id, signature
	FROM ringfence_data.audit_drops', ARRAY['1 drop_altered 1'], 'one was added');
SELECT finds(format('CREATE TABLE ringfence_data.audit_log_again PARTITION OF ringfence_data.audit_log FOR VALUES FROM (%L) TO (%L)', :'month', :'next'), ARRAY['1 record_missing 6'], 'the month has a partition again');
SELECT format('ALTER TABLE ringfence_data.audit_log ATTACH PARTITION ringfence_data.%I FOR VALUES FROM (%L) TO (%L)', :'partition', :'month', :'next') AS attach \gset
BEGIN;
:attach;
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'attached again as it was, it verifies');
SELECT finds(format('UPDATE ringfence_data.audit_log SET reason = ''x'' WHERE id = %L', :'record'), ARRAY['1 record_altered 1'], 'altered, it doesn''t');
ROLLBACK;
-- A statement whose event went before it was sealed.
SELECT tamper(format('DELETE FROM ringfence_data.audit_drops WHERE event <> %L', :'event')) \g /dev/null
SELECT ringfence.audit_state_drop(:'next', :'last', 'next') AS next_event \gset
SELECT format('ALTER TABLE ringfence_data.audit_log DETACH PARTITION ringfence_data.%I', :'next_partition') \gexec
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'another month is dropped');
SELECT finds(format('DELETE FROM ringfence_data.audit_log WHERE id = %L', :'next_event'), ARRAY['1 drop_unrecorded 1', '1 record_missing 2'], 'its event was removed before it was sealed');

-- Who sees and checks it
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', ARRAY['owner'], '{}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is_empty('SELECT * FROM ringfence_v1.audit_verify()', 'an owner''s own check knows of it');
SELECT is((SELECT count(*) FROM ringfence_data.audit_drops), 2::bigint, 'owners read the statements');
COMMIT;
BEGIN;
SELECT ringfence.set_context(:'org_a', :'user_a', ARRAY['staff'], '{}') \g /dev/null
SET LOCAL ROLE ringfence_member;
SELECT is((SELECT count(*) FROM ringfence_data.audit_drops), 0::bigint, 'other members don''t');
COMMIT;
SELECT results_eq($$SELECT r.name FROM (VALUES ('ringfence_anon'), ('ringfence_member'), ('ringfence_operator'), ('ringfence_authenticator'), ('ringfence_jobs'), ('ringfence_owner')) AS r (name)
	WHERE has_function_privilege(r.name, 'ringfence.audit_state_drop(timestamptz, timestamptz, text)', 'EXECUTE') ORDER BY 1$$, ARRAY['ringfence_jobs', 'ringfence_owner'], 'jobs and the owner''s code state it');
SELECT throws_ok('DELETE FROM ringfence_data.audit_drops', '42501', 'the audit log is written by ringfence alone', 'and nobody writes it otherwise');

SELECT * FROM finish();
