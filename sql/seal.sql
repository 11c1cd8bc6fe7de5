-- Tamper evidence: blocks over the audit log, signed, and what checks them.
-- Written in C (src/seal*.c), which reads past row security and believes only
-- tables of ringfence_owner.

CREATE FUNCTION ringfence.audit_seal_block(accept_damage boolean) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_audit_seal_block';
REVOKE EXECUTE ON FUNCTION ringfence.audit_seal_block(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_seal_block(boolean) TO ringfence_owner;
COMMENT ON FUNCTION ringfence.audit_seal_block(boolean) IS
	'closes a block over the records of all transactions that ended since the last one, and returns its number, or NULL if there are none; for audit_seal() and audit_accept_damage()';

-- Partitions come last: their locks are then held only until the commit. Whatever
-- is wrong with them, the block stays.
CREATE FUNCTION ringfence.audit_seal() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sealed bigint;
BEGIN
	sealed := ringfence.audit_seal_block(false);
	BEGIN
		PERFORM ringfence.make_audit_partitions();
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING 'could not make the audit log''s partitions: %', SQLERRM USING ERRCODE = SQLSTATE;
	END;
	RETURN sealed;
END
$$;
ALTER FUNCTION ringfence.audit_seal() OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.audit_seal() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_seal() TO ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_seal() IS
	'seals the audit log: closes and signs a block over the records committed since the last one, and returns its number, or NULL if there are none; for a job, every minute; 55000 without a usable key in ringfence.audit_key_file, XX001 if the end of the chain was tampered with';

CREATE FUNCTION ringfence.audit_accept_damage(reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sealed bigint;
BEGIN
	IF coalesce(audit_accept_damage.reason, '') !~ '[[:alnum:]]' THEN
		RAISE EXCEPTION 'a reason is required to accept damage' USING ERRCODE = 'not_null_violation';
	END IF;
	sealed := ringfence.audit_seal_block(true);
	PERFORM ringfence.audit_event(
		'audit.damage_accepted', sealed::text, NULL, audit_accept_damage.reason, NULL);
	RETURN sealed;
END
$$;
ALTER FUNCTION ringfence.audit_accept_damage(text) OWNER TO ringfence_owner;
REVOKE EXECUTE ON FUNCTION ringfence.audit_accept_damage(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_accept_damage(text) TO pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_accept_damage(text) IS
	'goes on after the end of the chain was tampered with and audit_seal() refuses: seals a block that leaves a number out, which audit_verify() goes on to name, and records the event audit.damage_accepted; returns the block''s number; 55000 if there is no damage, 23502';

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
	'proof that a record was sealed, which can be checked outside the database: the record with all that was sealed of it, its leaf, the paths to the signed header of its block, and the public key; NULL if no block has it; XX001 if the block was tampered with';

CREATE FUNCTION ringfence.audit_checkpoint() RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'ringfence_audit_checkpoint';
REVOKE EXECUTE ON FUNCTION ringfence.audit_checkpoint() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_checkpoint() TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_checkpoint() IS
	'a signed statement of the newest block''s number and hash, to keep where this server''s superusers can''t reach; NULL as long as there is no block; 55000 without a usable key, XX001 if the end of the chain was tampered with';

CREATE FUNCTION ringfence.audit_state_drop(
	range_start timestamptz,
	range_end timestamptz,
	reason text
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'ringfence_audit_state_drop';
REVOKE EXECUTE ON FUNCTION ringfence.audit_state_drop(timestamptz, timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.audit_state_drop(timestamptz, timestamptz, text)
	TO ringfence_owner, ringfence_jobs, pg_database_owner;
COMMENT ON FUNCTION ringfence.audit_state_drop(timestamptz, timestamptz, text) IS
	'states, signed with the audit key and on record as the event audit.dropped, whose id it returns, that the audit log''s records of whole months, in UTC, are all there as they were sealed, and may be dropped: audit_verify() then does not miss them once they are; to be committed before the partitions are detached; repeatable; 22004, 22023, 23502, 55000 for months that are not over, not there or not sealed as a whole, or without a usable key, XX001 if they are not as they were sealed';

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
