-- Sealed transfers: what a superuser changes of them, adds or takes away, with all
-- that is derived in line with it, is named by ledger_verify(), and so is a block
-- that was changed or taken away; the audit log has each block's hash.
\ir include/ledger.sql
SET client_min_messages = warning;
SELECT plan(72);

-- What ledger_verify() says, with the number of the block among the organization's
CREATE FUNCTION public.found(org uuid DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$
	SELECT coalesce(string_agg(CASE v.org_id WHEN '0bbbbbbb-0000-7000-8000-00000000000b' THEN 'B: ' ELSE '' END || v.code
		|| CASE WHEN v.object LIKE 'block to %' THEN (SELECT ' ' || count(*) FROM ringfence_data.ledger_blocks AS b WHERE b.org_id = v.org_id AND b.sealed_to <= substr(v.object, 10)::timestamptz)
			WHEN v.object LIKE 'record %' THEN '' ELSE ' ' || v.object END, '; ' ORDER BY v.org_id, v.code, v.object), 'nothing')
	FROM ringfence.ledger_verify(org) AS v
$$;
CREATE FUNCTION public.tampered(VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	statement text;
	n bigint;
BEGIN
	SET LOCAL session_replication_role = replica;
	FOREACH statement IN ARRAY statements LOOP
		EXECUTE statement;
		GET DIAGNOSTICS n = ROW_COUNT;
		IF n = 0 THEN
			RAISE EXCEPTION 'did nothing: %', statement;
		END IF;
	END LOOP;
	SET LOCAL session_replication_role = origin;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = found();
EXCEPTION WHEN OTHERS THEN
	RETURN SQLERRM;
END
$$;
CREATE FUNCTION public.add(account text, debits bigint, credits bigint) RETURNS text LANGUAGE sql STABLE
RETURN format('UPDATE ringfence_data.ledger_balances SET debits = debits + %s, credits = credits + %s WHERE account_id = %L AND slot = 0', debits, credits, a(account));
CREATE FUNCTION public.forge(name text, model text, differences jsonb DEFAULT '{}') RETURNS text LANGUAGE sql STABLE
RETURN format('INSERT INTO ringfence_data.ledger_transfers SELECT r.* FROM ringfence_data.ledger_transfers AS t, jsonb_populate_record(t, %L) AS r WHERE t.id = %L',
	jsonb_build_object('id', id(name)) || differences, id(model));
-- What a change of a transfer that no balance tells of comes to
CREATE FUNCTION public.rewritten(VARIADIC changes text[]) RETURNS text LANGUAGE sql
AS $$ SELECT tampered(VARIADIC array_agg(format('UPDATE ringfence_data.ledger_transfers SET %s', c.c) ORDER BY c.n)) FROM unnest(changes) WITH ORDINALITY AS c (c, n) $$;
-- What is younger than a second is left for the next time.
CREATE FUNCTION public.sealed() RETURNS text LANGUAGE plpgsql
AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM pg_sleep(extract(epoch FROM max(t.recorded_at) + interval '1001 milliseconds' - clock_timestamp())) FROM ringfence_data.ledger_transfers AS t;
	PERFORM set_config('role', 'ringfence_jobs', true);
	n := ringfence.ledger_seal('1 second');
	PERFORM set_config('role', 'postgres', true);
	RETURN n;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

SELECT is(sealed(), '0', 'nothing to seal');
SELECT is((SELECT count(*) FROM ringfence_data.ledger_blocks), 0::bigint, 'no block');
SELECT is(codes('{"id": "one", "amount": 10, "reference": "r", "metadata": {"a": 1}}', '{"id": "two", "amount": 20}', '{"id": "hold", "amount": 5, "state": "pending", "timeout": "1 hour"}'), 'ok ok ok', 'transfers');
-- Until they are sealed, what no balance depends on can be changed by who gets past the defences.
SELECT is(rewritten(format('kind = ''other'' WHERE id = %L', id('one'))), 'nothing', 'a kind');
SELECT is(rewritten(format('reference = ''other'', metadata = NULL, actor = NULL WHERE id = %L', id('one'))), 'nothing', 'and what is said');
SELECT is(rewritten(format('amount = amount + 1 WHERE id = %L', id('one')), format('amount = amount - 1 WHERE id = %L', id('two'))), 'nothing', 'or two amounts');
SELECT is(sealed(), '3', 'sealed');
SELECT is(found(), 'nothing', 'nothing is wrong');
SELECT is(said('SELECT ringfence.transfer(a(''B:cash''), a(''B:sales''), 7, ''charge'', id(''of B''))', 'B'), id('of B')::text, 'another organization''s');
SELECT is(sealed(), '1', 'sealed');
SELECT is(sealed(), '0', 'nothing is sealed twice');
SELECT is(codes('{"id": "three", "amount": 30}', '{"id": "post", "pending_id": "hold", "amount": 4}'), 'ok ok', 'more of A''s');
SELECT is(found(), 'nothing', 'what isn''t sealed isn''t wrong');
SELECT is(sealed(), '2', 'sealed');
SELECT results_eq('SELECT o.name, b.transfers, octet_length(b.root), b.sealed_from < b.sealed_to FROM ringfence_data.ledger_blocks AS b INNER JOIN ringfence_data.orgs AS o ON o.id = b.org_id ORDER BY b.sealed_to',
	'VALUES (''Tenant A'', 3::bigint, 32, true), (''Tenant B'', 1, 32, true), (''Tenant A'', 2, 32, true)', 'a block for each organization that had any');
SELECT results_eq('SELECT l.org_id, l.key COLLATE "default" FROM ringfence_data.audit_log AS l WHERE l.action = ''ledger.sealed'' ORDER BY l.id',
	'SELECT b.org_id, encode(b.root, ''hex'') FROM ringfence_data.ledger_blocks AS b ORDER BY b.sealed_to', 'whose hash the audit log has');
SELECT is(found() || ', ' || found(:'org_a') || ', ' || found(:'org_b'), 'nothing, nothing, nothing', 'nothing is wrong');

-- Any column of a sealed transfer
SELECT is(rewritten(format('%s WHERE id = %L', change, id(name))), coalesce(also, '') || 'block_altered ' || block, format('%s of %s', change, name))
FROM (VALUES
	(1, 'kind = ''other''', 'one', 1, NULL), (2, 'reference = ''other''', 'one', 1, NULL), (3, 'reference = NULL', 'one', 1, NULL), (4, 'reference = ''new''', 'two', 1, NULL),
	(5, 'metadata = ''{"a": 2}''', 'one', 1, NULL), (6, 'metadata = NULL', 'one', 1, NULL), (7, 'actor = NULL', 'two', 1, NULL), (8, 'actor = ringfence.uuid7()', 'two', 1, NULL),
	(9, 'posted_at = posted_at - interval ''1 microsecond''', 'one', 1, NULL), (10, 'posted_at = ''2020-01-01Z'', posted_on = ''2020-01-01''', 'three', 2, NULL),
	(11, 'recorded_at = recorded_at + interval ''1 microsecond''', 'one', 1, NULL), (12, 'kind = ''other''', 'post', 2, NULL),
	(13, 'id = ringfence.uuid7()', 'two', 1, NULL)
) AS c (n, change, name, block, also)
ORDER BY c.n;
SELECT is(tampered(format('UPDATE ringfence_data.ledger_transfers SET kind = ''other'' WHERE id = %L', id('of B'))), 'B: block_altered 1', 'of B');
SELECT is(tampered(format('UPDATE ringfence_data.ledger_transfers SET expires_at = NULL WHERE id = %L', id('hold'))), 'block_altered 1', 'the end of a hold that was posted');
-- With all that follows from it
SELECT is(rewritten(format('amount = amount + 1 WHERE id = %L', id('one')), format('amount = amount - 1 WHERE id = %L', id('two'))), 'block_altered 1', 'two amounts');
SELECT is(rewritten(format('amount = amount + 1 WHERE id = %L', id('one')), format('amount = amount - 1 WHERE id = %L', id('three'))), 'block_altered 1; block_altered 2', 'of two blocks');
SELECT is(tampered(format('UPDATE ringfence_data.ledger_transfers SET amount = 11 WHERE id = %L', id('one')), add('cash', 1, 0), add('sales', 0, 1)), 'block_altered 1', 'an amount');
SELECT is(tampered(format('DELETE FROM ringfence_data.ledger_transfers WHERE id = %L', id('one')), add('cash', -10, 0), add('sales', 0, -10)), 'block_altered 1', 'a transfer that was deleted');
SELECT is(tampered(format('DELETE FROM ringfence_data.ledger_transfers WHERE id IN (%L, %L, %L, %L)', id('one'), id('two'), id('hold'), id('post')), add('cash', -34, 0), add('sales', 0, -34)), 'block_altered 1; block_altered 2', 'a whole block');
SELECT is(tampered(forge('forged', 'one'), add('cash', 10, 0), add('sales', 0, 10)), 'block_altered 1', 'one that was added to a block');
SELECT is(tampered(forge('forged', 'one'), format('DELETE FROM ringfence_data.ledger_transfers WHERE id = %L', id('one'))), 'block_altered 1', 'or put in the place of another');
SELECT is(tampered(format('UPDATE ringfence_data.ledger_transfers SET recorded_at = clock_timestamp() WHERE id = %L', id('one'))), 'block_altered 1', 'one moved to where nothing is sealed yet');
SELECT is(tampered(forge('forged', 'one', jsonb_build_object('recorded_at', (SELECT b.sealed_to - interval '1 microsecond' FROM ringfence_data.ledger_blocks AS b WHERE b.org_id = :'org_b'))), add('cash', 10, 0), add('sales', 0, 10)),
	'transfer_unsealed 2', 'one added between two blocks');
SELECT is(tampered(forge('forged', 'of B', jsonb_build_object('recorded_at', (SELECT max(b.sealed_to) - interval '1 microsecond' FROM ringfence_data.ledger_blocks AS b))), add('B:cash', 7, 0), add('B:sales', 0, 7)),
	'B: transfer_unsealed 1', 'one added after the last block of an organization, in a time that was sealed');
SELECT is(tampered(forge('forged', 'one', '{"recorded_at": "1969-06-01Z", "posted_at": "1969-06-01Z", "posted_on": "1969-06-01"}'), add('cash', 10, 0), add('sales', 0, 10)) ~ '^(block_altered 1|transfer_unsealed [12])$', true, 'one added before all time');
SELECT is(tampered(forge('forged', 'one', jsonb_build_object('recorded_at', statement_timestamp(), 'posted_at', statement_timestamp(), 'posted_on', (statement_timestamp() AT TIME ZONE 'UTC')::date)), add('cash', 10, 0), add('sales', 0, 10)), 'nothing', 'one added since is like any other');

-- Blocks
SELECT is(tampered('UPDATE ringfence_data.ledger_blocks SET transfers = transfers + 1 WHERE transfers = 3'), 'block_altered 1', 'a block''s number');
SELECT is(tampered('UPDATE ringfence_data.ledger_blocks SET root = sha256(''x'') WHERE transfers = 2'), 'block_altered 2; block_unrecorded 2', 'its hash');
SELECT is(tampered('UPDATE ringfence_data.ledger_blocks SET root = sha256(''x'') WHERE transfers = 3'), 'block_altered 1; block_altered 2; block_unrecorded 1', 'which the next one has');
SELECT is(tampered('UPDATE ringfence_data.ledger_blocks SET sealed_from = sealed_from + interval ''1 microsecond'' WHERE transfers = 2'), 'block_altered 2', 'its time');
SELECT is(tampered('UPDATE ringfence_data.ledger_blocks SET record = ringfence.uuid7() WHERE transfers = 2'), 'block_missing; block_unrecorded 2', 'its record');
SELECT is(tampered('UPDATE ringfence_data.ledger_blocks AS b SET record = o.record FROM ringfence_data.ledger_blocks AS o WHERE b.transfers = 2 AND o.transfers = 3'), 'block_missing; block_unrecorded 2', 'for another''s');
SELECT is(tampered('DELETE FROM ringfence_data.ledger_blocks WHERE transfers = 2'), 'block_missing', 'a block that was deleted');
SELECT is(tampered('DELETE FROM ringfence_data.ledger_blocks WHERE transfers = 3') ~ 'block_altered', true, 'the first');
SELECT is(tampered('DELETE FROM ringfence_data.ledger_blocks WHERE transfers = 1') ~ '^B: block_missing', true, 'B''s only one');
SELECT is(tampered('DELETE FROM ringfence_data.ledger_blocks') ~ 'block_missing.*B: block_missing', true, 'all of them');
-- A block reckoned anew over what was changed: the audit log has the one that was.
CREATE FUNCTION public.resealed() RETURNS text LANGUAGE plpgsql
AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE ringfence_data.ledger_transfers SET kind = 'other' WHERE id = id('three');
	UPDATE ringfence_data.ledger_blocks AS b SET root = ringfence.ledger_root(p.root, b.org_id, b.sealed_from, b.sealed_to, d.transfers, d.digest)
	FROM ringfence_data.ledger_blocks AS p, ringfence.ledger_digests('0aaaaaaa-0000-7000-8000-00000000000a', 'epoch', (SELECT max(x.sealed_to) FROM ringfence_data.ledger_blocks AS x)) AS d
	WHERE b.transfers = 2 AND p.transfers = 3 AND d.block = 2;
	SET LOCAL session_replication_role = origin;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = found();
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	RETURN SQLERRM;
END
$$;
SELECT is(resealed(), 'block_unrecorded 2', 'a block that was reckoned anew');
SELECT is(found(), 'nothing', 'all is undone');

-- Who may seal, and who is told
CREATE ROLE regress_ledger_job LOGIN IN ROLE ringfence_jobs;
CREATE FUNCTION public.ask(call text) RETURNS text LANGUAGE plpgsql
AS $$ DECLARE answer text; BEGIN EXECUTE 'SELECT ' || call INTO answer; RETURN answer; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM; END $$;
SET SESSION AUTHORIZATION regress_ledger_job;
SELECT is(ask('ringfence.ledger_seal()'), '42501 permission denied to seal the ledger', 'a job has to see all rows');
SET ROLE ringfence_jobs;
SELECT is(ask('ringfence.ledger_seal()'), '0', 'as this role does');
SELECT is(ask('(SELECT coalesce(string_agg(v.code, '' ''), ''nothing'') FROM ringfence.ledger_verify() AS v)'), 'nothing', 'and verifies');
RESET ROLE;
SET SESSION AUTHORIZATION regress_operator;
SELECT is(ask('ringfence.ledger_seal()'), '42501 permission denied for function ledger_seal', 'an operator doesn''t');
SET SESSION AUTHORIZATION regress_web;
BEGIN; SELECT claim(:'claims_a');
SELECT is(ask('ringfence.ledger_seal()'), '42501 permission denied for function ledger_seal', 'nor does an owner');
SELECT is(ask('(SELECT coalesce(string_agg(v.code, '' ''), ''nothing'') FROM ringfence_v1.ledger_verify() AS v)'), 'nothing', 'to whom nothing is wrong');
SELECT is(ask('(SELECT string_agg(b.transfers::text, '' '' ORDER BY b.sealed_to) FROM ringfence_data.ledger_blocks AS b)'), '3 2', 'who sees the own blocks'); COMMIT;
RESET SESSION AUTHORIZATION;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(sealed(), '25000 the ledger cannot be sealed at this isolation level', 'repeatable read');
COMMIT;
SET session_replication_role = replica;
UPDATE ringfence_data.ledger_transfers SET kind = 'other' WHERE id = id('one');
RESET session_replication_role;
SET SESSION AUTHORIZATION regress_web;
BEGIN; SELECT claim(:'claims_a');
SELECT is(ask('(SELECT coalesce(string_agg(v.code, '' ''), ''nothing'') FROM ringfence_v1.ledger_verify() AS v)'), 'block_altered', 'when something is, the owner is told'); COMMIT;
BEGIN; SELECT claim(:'claims_b');
SELECT is(ask('(SELECT coalesce(string_agg(v.code, '' ''), ''nothing'') FROM ringfence_v1.ledger_verify() AS v)'), 'nothing', 'B''s isn''t'); COMMIT;
RESET SESSION AUTHORIZATION;
SET session_replication_role = replica;
UPDATE ringfence_data.ledger_transfers SET kind = 'charge' WHERE id = id('one');
RESET session_replication_role;
SELECT is(found(), 'nothing', 'put right');

-- A transaction that is posting is waited for, so that what it has recorded is sealed.
SELECT dblink_connect('other', format('dbname=%L host=%L port=%L user=postgres options=''-c statement_timeout=60s''', current_database(),
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'))) \g /dev/null
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
SELECT is((SELECT r.answer FROM dblink('other', $$SELECT codes('{"id": "late", "amount": 1}')$$) AS r (answer text)), 'ok', 'another session posts');
SET lock_timeout = '200ms';
SELECT is(sealed(), '55P03 canceling statement due to lock timeout', 'and has not committed');
SELECT is(codes('{"id": "meanwhile", "amount": 1}'), 'ok', 'others post meanwhile');
RESET lock_timeout;
SELECT dblink_exec('other', 'COMMIT') \g /dev/null
SELECT is(sealed(), '2', 'both are sealed when it has');
SELECT is(found(), 'nothing', 'and nothing is wrong');
SELECT dblink_disconnect('other') \g /dev/null
DROP ROLE regress_ledger_job;
SELECT * FROM finish();
