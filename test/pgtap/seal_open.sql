-- A transaction that is open while a block is sealed was there before it, also if
-- none with a higher number has ended: its records are in the next block, and are not
-- taken for ones that were dated back.
\ir include/tenants.sql
SELECT plan(6);

CREATE FUNCTION public.id_of(moment timestamptz) RETURNS uuid LANGUAGE sql AS $$
	SELECT overlay(overlay(lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || md5(moment::text) PLACING '7000' FROM 13 FOR 4) PLACING '8' FROM 17 FOR 1)::char(32)::uuid
$$;
SELECT date_trunc('milliseconds', now()) - interval '11 minutes' AS moment \gset
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO ringfence_data.audit_log (org_id, id, recorded_at, transaction_id, incarnation, operation, actor, login, role, action)
VALUES (:'org_a', id_of(:'moment'), :'moment', pg_current_xact_id()::text::bigint, 1, 'EVENT', 'system', 'x', 'x', 'test.open');
SELECT pg_current_xact_id()::text AS xid \gset
PREPARE TRANSACTION 'regress_open';
SELECT is(ringfence.audit_seal(), 1::bigint, 'while a transaction is open, which began eleven minutes ago');
SELECT ok(:xid = ANY (ARRAY(SELECT pg_snapshot_xip(b.snapshot)::text::bigint)), 'the block says that it was')
FROM ringfence_data.audit_blocks AS b WHERE b.number = 1;
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'and verifies');
COMMIT PREPARED 'regress_open';
SELECT is(ringfence.audit_seal(), 2::bigint, 'its record is in the next');
SELECT is((SELECT o.records FROM ringfence_data.audit_block_orgs AS o WHERE o.block = 2 AND o.org_id = :'org_a'), 1::bigint, 'alone');
SELECT is_empty('SELECT * FROM ringfence.audit_verify()', 'and is not taken for one that was dated back');

SELECT * FROM finish();
