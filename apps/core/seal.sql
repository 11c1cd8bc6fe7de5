-- The seal on the audit log: blocks, the part of each organization in them, the
-- keys that signed them. Written by audit_seal() alone.

CREATE TABLE ringfence_data.audit_blocks (
	number bigint NOT NULL PRIMARY KEY,
	incarnation integer NOT NULL,
	snapshot pg_snapshot NOT NULL,
	sealed_at timestamptz NOT NULL,
	records bigint NOT NULL,
	nonce bytea NOT NULL,
	root bytea NOT NULL,
	entries bytea NOT NULL,
	previous bytea NOT NULL,
	details bytea NOT NULL,
	hash bytea NOT NULL,
	key_id bytea NOT NULL,
	signature bytea NOT NULL,
	CONSTRAINT audit_blocks_number_check CHECK (number > 0)
);
-- Hashes don't compress, and ANALYZE has nothing to learn from them.
ALTER TABLE ringfence_data.audit_blocks
	ALTER COLUMN entries SET STORAGE EXTERNAL,
	ALTER COLUMN entries SET STATISTICS 0;
COMMENT ON TABLE ringfence_data.audit_blocks IS
	'the chain that seals the audit log: each block covers the records of the transactions that ended since the one before; doc/audit.md gives the bytes that are hashed and signed';
COMMENT ON COLUMN ringfence_data.audit_blocks.number IS 'counts the blocks from 1';
COMMENT ON COLUMN ringfence_data.audit_blocks.incarnation IS 'the server that the snapshot counts in; audit_incarnations';
COMMENT ON COLUMN ringfence_data.audit_blocks.snapshot IS
	'which transactions had ended: their records are in this block or an earlier one, all others in a later one';
COMMENT ON COLUMN ringfence_data.audit_blocks.sealed_at IS 'when it was sealed, by the server''s clock';
COMMENT ON COLUMN ringfence_data.audit_blocks.records IS 'how many records it covers, of all organizations';
COMMENT ON COLUMN ringfence_data.audit_blocks.nonce IS '16 random bytes, so that details can''t be guessed';
COMMENT ON COLUMN ringfence_data.audit_blocks.root IS 'root of the tree over entries';
COMMENT ON COLUMN ringfence_data.audit_blocks.entries IS
	'a hash of 32 bytes for each organization in it, in order, among random ones that hide how many there are';
COMMENT ON COLUMN ringfence_data.audit_blocks.previous IS 'hash of the block before it; zeros for the first';
COMMENT ON COLUMN ringfence_data.audit_blocks.details IS 'hash of nonce, incarnation, snapshot and records';
COMMENT ON COLUMN ringfence_data.audit_blocks.hash IS 'hash of the header: number, sealed_at, root, previous, details, key_id';
COMMENT ON COLUMN ringfence_data.audit_blocks.key_id IS 'the key that signed it; audit_keys';
COMMENT ON COLUMN ringfence_data.audit_blocks.signature IS 'Ed25519 signature of the header';

CREATE TABLE ringfence_data.audit_block_orgs (
	org_id uuid NOT NULL,
	block bigint NOT NULL,
	records bigint NOT NULL,
	root bytea NOT NULL,
	previous bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (org_id, block)
);
CREATE INDEX audit_block_orgs_block_idx ON ringfence_data.audit_block_orgs (block, org_id);
COMMENT ON TABLE ringfence_data.audit_block_orgs IS 'the part that each organization has in each block';
COMMENT ON COLUMN ringfence_data.audit_block_orgs.org_id IS
	'the organization, or 00000000-0000-0000-0000-000000000000 for what belongs to none';
COMMENT ON COLUMN ringfence_data.audit_block_orgs.block IS 'number of the block';
COMMENT ON COLUMN ringfence_data.audit_block_orgs.records IS 'how many of its records the block covers';
COMMENT ON COLUMN ringfence_data.audit_block_orgs.previous IS 'the block that it had a part in before; 0 if this is the first';
COMMENT ON COLUMN ringfence_data.audit_block_orgs.root IS 'root of the tree over their leaves, in the order of their ids';

CREATE TABLE ringfence_data.audit_leaves (
	org_id uuid NOT NULL,
	block bigint NOT NULL,
	part integer NOT NULL,
	leaves bytea NOT NULL,
	PRIMARY KEY (org_id, block, part)
);
CREATE INDEX audit_leaves_block_idx ON ringfence_data.audit_leaves (block, org_id, part);
ALTER TABLE ringfence_data.audit_leaves
	ALTER COLUMN leaves SET STORAGE EXTERNAL,
	ALTER COLUMN leaves SET STATISTICS 0;
COMMENT ON TABLE ringfence_data.audit_leaves IS
	'the leaves of the records in a block, so that audit_verify() can say which record was altered';
COMMENT ON COLUMN ringfence_data.audit_leaves.org_id IS 'the organization';
COMMENT ON COLUMN ringfence_data.audit_leaves.block IS 'number of the block';
COMMENT ON COLUMN ringfence_data.audit_leaves.part IS 'counts the rows of a long list from 0';
COMMENT ON COLUMN ringfence_data.audit_leaves.leaves IS
	'up to 65536 times the id (16 bytes) and the leaf (32 bytes) of a record, in the order of the ids';

CREATE TABLE ringfence_data.audit_keys (
	key_id bytea NOT NULL PRIMARY KEY,
	public_key bytea NOT NULL,
	added_at timestamptz NOT NULL,
	endorsed_by bytea,
	endorsement bytea,
	CONSTRAINT audit_keys_endorsement_check CHECK ((endorsed_by IS NULL) = (endorsement IS NULL))
);
COMMENT ON TABLE ringfence_data.audit_keys IS
	'public keys of the chain: the first one, and those that an earlier one vouched for';
COMMENT ON COLUMN ringfence_data.audit_keys.key_id IS 'SHA-256 of public_key';
COMMENT ON COLUMN ringfence_data.audit_keys.public_key IS 'Ed25519 public key, 32 bytes';
COMMENT ON COLUMN ringfence_data.audit_keys.added_at IS 'when it was added';
COMMENT ON COLUMN ringfence_data.audit_keys.endorsed_by IS 'the key that vouches for it; NULL for the first';
COMMENT ON COLUMN ringfence_data.audit_keys.endorsement IS 'that key''s Ed25519 signature of public_key and added_at';

CREATE TABLE ringfence_data.audit_head (
	singleton boolean NOT NULL PRIMARY KEY,
	number bigint NOT NULL,
	hash bytea NOT NULL,
	stated_at timestamptz NOT NULL,
	key_id bytea NOT NULL,
	signature bytea NOT NULL,
	CONSTRAINT audit_head_singleton_check CHECK (singleton)
);
COMMENT ON TABLE ringfence_data.audit_head IS
	'one row: the newest block, signed, so that its removal is noticed';
COMMENT ON COLUMN ringfence_data.audit_head.singleton IS 'true';
COMMENT ON COLUMN ringfence_data.audit_head.number IS 'number of the newest block';
COMMENT ON COLUMN ringfence_data.audit_head.hash IS 'its hash';
COMMENT ON COLUMN ringfence_data.audit_head.stated_at IS 'when that was stated';
COMMENT ON COLUMN ringfence_data.audit_head.key_id IS 'the key that signed it; audit_keys';
COMMENT ON COLUMN ringfence_data.audit_head.signature IS 'Ed25519 signature of number, hash, stated_at and key_id';

CREATE TABLE ringfence_data.audit_drops (
	event uuid NOT NULL PRIMARY KEY,
	range_start timestamptz NOT NULL,
	range_end timestamptz NOT NULL,
	first_block bigint NOT NULL,
	last_block bigint NOT NULL,
	block_hash bytea NOT NULL,
	stated_at timestamptz NOT NULL,
	reason text NOT NULL,
	key_id bytea NOT NULL,
	signature bytea NOT NULL,
	CONSTRAINT audit_drops_range_check CHECK (range_start < range_end)
);
COMMENT ON TABLE ringfence_data.audit_drops IS
	'signed statements that months of the audit log were all there, as they were sealed, and then dropped; written by audit_state_drop(); doc/audit.md gives the bytes that are signed';
COMMENT ON COLUMN ringfence_data.audit_drops.event IS 'id of the event audit.dropped, a record of no organization';
COMMENT ON COLUMN ringfence_data.audit_drops.range_start IS 'records from this time on';
COMMENT ON COLUMN ringfence_data.audit_drops.range_end IS 'to before this time';
COMMENT ON COLUMN ringfence_data.audit_drops.first_block IS 'that are in the blocks from this one; 0 if there were none';
COMMENT ON COLUMN ringfence_data.audit_drops.last_block IS 'to this one';
COMMENT ON COLUMN ringfence_data.audit_drops.block_hash IS 'hash of last_block, which makes it a statement of this chain; zeros if there is none';
COMMENT ON COLUMN ringfence_data.audit_drops.stated_at IS 'when that was stated';
COMMENT ON COLUMN ringfence_data.audit_drops.reason IS 'why they were dropped';
COMMENT ON COLUMN ringfence_data.audit_drops.key_id IS 'the key that signed it; audit_keys';
COMMENT ON COLUMN ringfence_data.audit_drops.signature IS 'Ed25519 signature of the statement';

SELECT ringfence.audit_close(t.rel)
FROM unnest(ARRAY[
	'ringfence_data.audit_blocks', 'ringfence_data.audit_block_orgs', 'ringfence_data.audit_leaves',
	'ringfence_data.audit_keys', 'ringfence_data.audit_head', 'ringfence_data.audit_drops'
]::regclass[]) AS t (rel);

-- An organization's own part in the blocks.
CREATE POLICY org_isolation ON ringfence_data.audit_block_orgs AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_block_orgs AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_block_orgs AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());
CREATE POLICY org_isolation ON ringfence_data.audit_leaves AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (org_id = ringfence.org_id()) WITH CHECK (org_id = ringfence.org_id());
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_leaves AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_leaves AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.audit_reading());
GRANT SELECT ON ringfence_data.audit_block_orgs, ringfence_data.audit_leaves TO
	ringfence_member, ringfence_operator, ringfence_jobs;

-- The chain is everybody's, as far as it says nothing of how much others do.
CREATE POLICY org_isolation ON ringfence_data.audit_blocks AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (ringfence.org_id() IS NOT NULL) WITH CHECK (ringfence.org_id() IS NOT NULL);
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_blocks AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_blocks AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
GRANT SELECT (number, sealed_at, root, previous, details, hash, key_id, signature)
	ON ringfence_data.audit_blocks TO ringfence_member, ringfence_operator;
CREATE POLICY org_isolation ON ringfence_data.audit_keys AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (ringfence.org_id() IS NOT NULL) WITH CHECK (ringfence.org_id() IS NOT NULL);
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_keys AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_keys AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.audit_head AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (ringfence.org_id() IS NOT NULL) WITH CHECK (ringfence.org_id() IS NOT NULL);
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_head AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_head AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
CREATE POLICY org_isolation ON ringfence_data.audit_drops AS RESTRICTIVE FOR ALL TO PUBLIC
	USING (ringfence.org_id() IS NOT NULL) WITH CHECK (ringfence.org_id() IS NOT NULL);
CREATE POLICY select_for_owner_admin ON ringfence_data.audit_drops AS PERMISSIVE FOR SELECT TO ringfence_member
	USING (ringfence.has_role('owner', 'admin'));
CREATE POLICY operator_read ON ringfence_data.audit_drops AS PERMISSIVE FOR SELECT TO ringfence_operator
	USING (ringfence.installed());
GRANT SELECT ON ringfence_data.audit_keys, ringfence_data.audit_head, ringfence_data.audit_drops
	TO ringfence_member, ringfence_operator;
GRANT SELECT ON ringfence_data.audit_blocks, ringfence_data.audit_keys, ringfence_data.audit_head,
	ringfence_data.audit_drops TO ringfence_jobs;

SELECT ringfence.register_table(t.rel, 'directory', '{"owner,admin": "select"}')
FROM unnest(ARRAY[
	'ringfence_data.audit_blocks', 'ringfence_data.audit_block_orgs', 'ringfence_data.audit_leaves',
	'ringfence_data.audit_keys', 'ringfence_data.audit_head', 'ringfence_data.audit_drops'
]::regclass[]) AS t (rel);

-- What the organization at hand may have checked: 42501 for those who may not. An
-- operator's checking is on record like their reading.
CREATE FUNCTION ringfence_data.audited_org() RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ringfence.org_id() IS NULL OR NOT (
		ringfence.has_role('owner', 'admin') OR ringfence.actor() IN ('operator', 'job')
	) THEN
		RAISE EXCEPTION 'permission denied for the audit log'
			USING ERRCODE = 'insufficient_privilege', DETAIL = 'It takes one of the roles: owner, admin.';
	END IF;
	PERFORM ringfence.audit_reading();
	RETURN ringfence.org_id();
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_data.audited_org() FROM PUBLIC;
COMMENT ON FUNCTION ringfence_data.audited_org() IS
	'the organization whose audit log the caller may check; 42501; for ringfence_owner''s functions';

CREATE FUNCTION ringfence_v1.audit_verify(
	first bigint DEFAULT NULL,
	last bigint DEFAULT NULL,
	checkpoint jsonb DEFAULT NULL
) RETURNS TABLE (block bigint, record uuid, problem text, detail text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT v.block, v.record, v.problem, v.detail
	FROM ringfence.audit_verify(first, last, checkpoint, ringfence_data.audited_org()) AS v
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.audit_verify(bigint, bigint, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.audit_verify(bigint, bigint, jsonb) TO ringfence_member, ringfence_operator;
COMMENT ON FUNCTION ringfence_v1.audit_verify(bigint, bigint, jsonb) IS
	'what was altered in the organization''s audit log since it was sealed, for its owners and admins; nothing if all is well; with a checkpoint kept from earlier also whether the chain still has what it says; 42501, 22023';

CREATE FUNCTION ringfence_v1.audit_proof(id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	proof jsonb := ringfence.audit_proof(id, ringfence_data.audited_org());
BEGIN
	IF proof IS NULL THEN
		RAISE EXCEPTION 'there is no sealed record of that id' USING ERRCODE = 'PT404';
	END IF;
	RETURN proof;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.audit_proof(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.audit_proof(uuid) TO ringfence_member, ringfence_operator;
COMMENT ON FUNCTION ringfence_v1.audit_proof(uuid) IS
	'proof that one of the organization''s records was sealed, for its owners and admins, which can be checked without this server; 42501, PT404 for a record that is not sealed yet, unknown, or another organization''s';

CREATE FUNCTION ringfence_v1.audit_checkpoint() RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ringfence_data.audited_org();
	RETURN ringfence.audit_checkpoint();
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence_v1.audit_checkpoint() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence_v1.audit_checkpoint() TO ringfence_member, ringfence_operator;
COMMENT ON FUNCTION ringfence_v1.audit_checkpoint() IS
	'a signed statement of the newest block, for owners and admins to keep: audit_verify() checks the chain against it later; null as long as nothing is sealed; 42501';
