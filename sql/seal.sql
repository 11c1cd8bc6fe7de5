-- Tamper evidence: blocks over the audit log, signed, and what checks them.
-- Written in C (src/seal*.c), which reads past row security and believes only
-- tables of ringfence_owner.

CREATE FUNCTION ringfence.audit_seal_block() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_seal_block';
REVOKE EXECUTE ON FUNCTION ringfence.audit_seal_block() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_seal_block() TO ringfence_owner;
COMMENT ON FUNCTION ringfence.audit_seal_block() IS
	'closes a block over the records of all transactions that ended since the last one, and returns its number, or NULL if there are none; for audit_seal()';

-- Partitions come last: their locks are then held only until the commit.
CREATE FUNCTION ringfence.audit_seal() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sealed bigint := ringfence.audit_seal_block();
BEGIN
	PERFORM ringfence.make_audit_partitions();
	RETURN sealed;
END
$$;
ALTER FUNCTION ringfence.audit_seal() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.audit_seal() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_seal() TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_seal() IS
	'seals the audit log: closes and signs a block over the records committed since the last one, and returns its number, or NULL if there are none; for a job, every minute; 55000 without a usable key in ringfence.audit_key_file, XX001 if the end of the chain was tampered with';

CREATE FUNCTION ringfence.audit_verify(
	first bigint DEFAULT NULL,
	last bigint DEFAULT NULL,
	checkpoint jsonb DEFAULT NULL,
	org uuid DEFAULT NULL,
	OUT block bigint,
	OUT org_id uuid,
	OUT record uuid,
	OUT problem text,
	OUT detail text
) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000 ROWS 10
AS 'MODULE_PATHNAME', 'ringfence_audit_verify';
REVOKE EXECUTE ON FUNCTION ringfence.audit_verify(bigint, bigint, jsonb, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_verify(bigint, bigint, jsonb, uuid)
	TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_verify(bigint, bigint, jsonb, uuid) IS
	'what was altered in the audit log since it was sealed, nothing if all is well: all blocks or those from first to last, and whether the chain still has what a checkpoint says; with org, that organization''s part alone; 22023 for what is no checkpoint';

CREATE FUNCTION ringfence.audit_proof(id uuid, org uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'ringfence_audit_proof';
REVOKE EXECUTE ON FUNCTION ringfence.audit_proof(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_proof(uuid, uuid) TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_proof(uuid, uuid) IS
	'proof that a record was sealed, which can be checked outside the database: its leaf, the paths to the signed header of its block, and the public key; NULL if no block has it; XX001 if the block was tampered with';

CREATE FUNCTION ringfence.audit_checkpoint() RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_checkpoint';
REVOKE EXECUTE ON FUNCTION ringfence.audit_checkpoint() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_checkpoint() TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_checkpoint() IS
	'a signed statement of the newest block''s number and hash, to keep where this server''s superusers can''t reach; NULL as long as there is no block; 55000 without a usable key, XX001 if the end of the chain was tampered with';

CREATE FUNCTION ringfence.audit_endorse_key(public_key bytea) RETURNS bytea
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_audit_endorse_key';
REVOKE EXECUTE ON FUNCTION ringfence.audit_endorse_key(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_endorse_key(bytea) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_endorse_key(bytea) IS
	'vouches, with the key in use, for the one that is to be configured next, whose 32 bytes are given, and returns its id; 22023, 42710 if it is one of the chain''s already';

CREATE FUNCTION ringfence.audit_key_usable() RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_key_usable';
REVOKE EXECUTE ON FUNCTION ringfence.audit_key_usable() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_key_usable() TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_key_usable() IS
	'whether ringfence.audit_key_file names a key that audit_seal() can sign with';

CREATE FUNCTION ringfence.audit_sealed_at() RETURNS timestamptz
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_sealed_at';
REVOKE EXECUTE ON FUNCTION ringfence.audit_sealed_at() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_sealed_at() TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_sealed_at() IS
	'when the newest block of the audit log was sealed; NULL as long as there is none';
