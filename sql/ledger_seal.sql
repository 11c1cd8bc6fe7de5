-- Sealing the ledger: a block for each organization and stretch of time, whose
-- hash the audit log has as well, which is signed. What a superuser alters in
-- transfers that are sealed is found by ledger_verify().

CREATE FUNCTION ringfence.ledger_settle(age interval) RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_ledger_settle';
REVOKE EXECUTE ON FUNCTION ringfence.ledger_settle(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_settle(interval) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_settle(interval) IS
	'waits for the transactions that are posting, of whatever organization, while others go on, and returns a moment so long ago, before which everything that was recorded can then be seen; for ledger_seal(); 25000, 55000';

CREATE FUNCTION ringfence.ledger_add_block(
	org uuid,
	sealed_from timestamptz,
	sealed_to timestamptz,
	transfers bigint,
	root bytea,
	details jsonb
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'ringfence_ledger_add_block';
REVOKE EXECUTE ON FUNCTION ringfence.ledger_add_block(uuid, timestamptz, timestamptz, bigint, bytea, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_add_block(uuid, timestamptz, timestamptz, bigint, bytea, jsonb) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_add_block(uuid, timestamptz, timestamptz, bigint, bytea, jsonb) IS
	'writes a row of ledger_blocks, past the trigger that refuses everybody else, and has the audit log record its hash with these details, as the event ledger.sealed; for ledger_seal()';

-- A block's hash takes in the one before it, so that none can be taken out.
CREATE FUNCTION ringfence.ledger_root(
	previous bytea,
	org uuid,
	sealed_from timestamptz,
	sealed_to timestamptz,
	transfers bigint,
	digest bytea
) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(convert_to(concat_ws(';', 'ringfence ledger 1', encode(coalesce(previous, ''), 'hex'), org,
	extract(epoch FROM sealed_from), extract(epoch FROM sealed_to), transfers, encode(digest, 'hex')), 'UTF8'));
REVOKE EXECUTE ON FUNCTION ringfence.ledger_root(bytea, uuid, timestamptz, timestamptz, bigint, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_root(bytea, uuid, timestamptz, timestamptz, bigint, bytea)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_root(bytea, uuid, timestamptz, timestamptz, bigint, bytea) IS
	'the hash of a block: SHA-256 of "ringfence ledger 1", the hash of the organization''s block before it in hex or nothing, the organization, from when and to when in seconds since 1970 with six decimals, how many transfers, and the hash over these in hex, with ";" between them';

CREATE FUNCTION ringfence.ledger_block_ends(
	org uuid,
	after timestamptz,
	OUT org_id uuid,
	OUT begins timestamptz[],
	OUT ends timestamptz[]
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT b.org_id, array_agg(b.sealed_from ORDER BY b.sealed_to), array_agg(b.sealed_to ORDER BY b.sealed_to)
	FROM ringfence_data.ledger_blocks AS b
	WHERE (org IS NULL OR b.org_id = org) AND b.sealed_to > after
	GROUP BY b.org_id;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_block_ends(uuid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_block_ends(uuid, timestamptz) TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_block_ends(uuid, timestamptz) IS
	'the blocks of an organization, or of all, that end after a moment, in order: where they begin and end; for ledger_seal() and ledger_verify()';

-- What is hashed is text, that no setting changes but those that are fixed here.
CREATE FUNCTION ringfence.ledger_digests(
	org uuid,
	first timestamptz,
	past timestamptz,
	OUT org_id uuid,
	OUT block integer,
	OUT stray boolean,
	OUT transfers bigint,
	OUT digest bytea
) RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 100
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO, YMD'
SET plan_cache_mode = force_custom_plan
SET enable_mergejoin = off
AS $$
BEGIN
	RETURN QUERY
	SELECT t.org_id, t.block, t.stray, count(*), sha256(string_agg(t.leaf, ''::bytea ORDER BY t.id))
	FROM (
		SELECT
			x.org_id,
			x.id,
			coalesce(width_bucket(x.recorded_at, b.ends), 0) + 1 AS block,
			coalesce(x.recorded_at < b.begins[width_bucket(x.recorded_at, b.ends) + 1], false) AS stray,
			sha256(convert_to(ROW(x.id, x.debit_account_id, x.credit_account_id, x.amount, x.posted_at, x.recorded_at, x.asset,
				x.state, x.kind, x.actor, x.pending_id, x.reverses_id, x.expires_at, x.reference, x.metadata)::text, 'UTF8')) AS leaf
		FROM ringfence_data.ledger_transfers AS x
		LEFT JOIN ringfence.ledger_block_ends(org, first) AS b ON b.org_id = x.org_id
		WHERE (org IS NULL OR x.org_id = org) AND x.recorded_at >= first AND x.recorded_at < past
		-- Hashes are sorted, not transfers.
		OFFSET 0
	) AS t
	GROUP BY t.org_id, t.block, t.stray;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_digests(uuid, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_digests(uuid, timestamptz, timestamptz)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_digests(uuid, timestamptz, timestamptz) IS
	'transfers that were recorded in that time, by organization and block: the number of the block among the organization''s that end after the beginning, or one more than there are; whether they fall between that one and the one before; how many; and SHA-256 of the SHA-256 of each, in the order of their ids, as PostgreSQL writes a row in UTC: (id, debit_account_id, credit_account_id, amount, posted_at, recorded_at, asset, state, kind, actor, pending_id, reverses_id, expires_at, reference, metadata)';

-- Blocks end before the millionth transfer or so: what is hashed of one has to fit
-- into a value.
CREATE FUNCTION ringfence.ledger_seal(age interval DEFAULT '1 minute') RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
	settled timestamptz := ringfence.ledger_settle(coalesce(age, '0'));
	sealed_from timestamptz;
	sealed_to timestamptz;
	part record;
	root bytea;
	sealed bigint := 0;
BEGIN
	IF row_security_active('ringfence_data.ledger_transfers') THEN
		RAISE EXCEPTION 'permission denied to seal the ledger'
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'Row security would hide transfers from you.', HINT = 'SET ROLE ringfence_jobs first.';
	END IF;
	sealed_from := coalesce((SELECT max(b.sealed_to) FROM ringfence_data.ledger_blocks AS b), 'epoch');
	IF sealed_from > settled + coalesce(age, '0') THEN
		RAISE WARNING 'the ledger is sealed to a time that has not come'
			USING DETAIL = format('The clock says %s, and the last block ends at %s.', clock_timestamp(), sealed_from),
			HINT = 'Nothing is sealed until then. Set the clock right.';
	END IF;
	FOR sealed_to IN
		SELECT c.recorded_at
		FROM (
			SELECT t.recorded_at, row_number() OVER (ORDER BY t.recorded_at) AS number
			FROM ringfence_data.ledger_transfers AS t
			WHERE t.recorded_at > sealed_from AND t.recorded_at < settled
		) AS c
		WHERE c.number % 1000000 = 0
		UNION
		SELECT settled
		WHERE sealed_from < settled
		ORDER BY 1
	LOOP
		FOR part IN
			SELECT d.org_id, d.transfers, d.digest
			FROM ringfence.ledger_digests(NULL, sealed_from, sealed_to) AS d
			ORDER BY d.org_id
		LOOP
			root := ringfence.ledger_root(
				(SELECT b.root FROM ringfence_data.ledger_blocks AS b WHERE b.org_id = part.org_id ORDER BY b.sealed_to DESC LIMIT 1),
				part.org_id, sealed_from, sealed_to, part.transfers, part.digest);
			PERFORM ringfence.ledger_add_block(part.org_id, sealed_from, sealed_to, part.transfers, root,
				jsonb_build_object('sealed_from', sealed_from, 'sealed_to', sealed_to, 'transfers', part.transfers));
			sealed := sealed + part.transfers;
		END LOOP;
		sealed_from := sealed_to;
	END LOOP;
	RETURN sealed;
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_seal(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_seal(interval) TO ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_seal(interval) IS
	'seals what was posted since the last time, but for what is younger than an age, in blocks for each organization whose hashes the audit log records, and returns how many transfers that are; the age is how far the clock may be set back without transfers being missed; waits for transactions that are posting, as long as lock_timeout lets it; a warning while the clock is behind the last block; for a job, hourly or so; 42501 unless all rows are seen, 25000';

-- The audit log is not read by those whom it would show nothing.
CREATE FUNCTION ringfence.ledger_verify_blocks(org uuid)
RETURNS TABLE (org_id uuid, code text, object text, detail text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
	logged boolean := NOT row_security_active('ringfence_data.audit_log') OR pg_has_role('ringfence_operator', 'USAGE')
		OR (ringfence.has_role('owner', 'admin') AND pg_has_role('ringfence_member', 'USAGE'));
BEGIN
	RETURN QUERY
	WITH blocks AS MATERIALIZED (
		SELECT b.org_id, b.sealed_from, b.sealed_to, b.transfers, b.root, b.record,
			row_number() OVER blocks_of AS number, lag(b.root) OVER blocks_of AS previous
		FROM ringfence_data.ledger_blocks AS b
		WHERE org IS NULL OR b.org_id = org
		WINDOW blocks_of AS (PARTITION BY b.org_id ORDER BY b.sealed_to)
	), digests AS (
		SELECT d.org_id, d.block, d.stray, d.transfers, d.digest
		FROM ringfence.ledger_digests(org, '-infinity', (SELECT max(b.sealed_to) FROM blocks AS b)) AS d
	)
	SELECT b.org_id, 'block_altered', format('block to %s', b.sealed_to),
		CASE
			WHEN d.transfers IS DISTINCT FROM b.transfers THEN format('it was sealed with %s transfers, and there are %s', b.transfers, coalesce(d.transfers, 0))
			ELSE 'its transfers, or itself or the block before it, are not what was sealed'
		END
	FROM blocks AS b
	LEFT JOIN digests AS d ON d.org_id = b.org_id AND d.block = b.number AND NOT d.stray
	WHERE d.transfers IS DISTINCT FROM b.transfers
		OR b.root IS DISTINCT FROM ringfence.ledger_root(b.previous, b.org_id, b.sealed_from, b.sealed_to, d.transfers, d.digest)
	UNION ALL
	SELECT d.org_id, 'transfer_unsealed', format('block to %s', coalesce(b.sealed_to, (SELECT max(x.sealed_to) FROM blocks AS x))),
		format('%s transfers are recorded for a time before it that had been sealed without them', d.transfers)
	FROM digests AS d
	LEFT JOIN blocks AS b ON b.org_id = d.org_id AND b.number = d.block
	WHERE d.stray OR b.org_id IS NULL
	UNION ALL
	SELECT b.org_id, 'block_unrecorded', format('block to %s', b.sealed_to), 'the audit log does not have its hash'
	FROM blocks AS b
	WHERE logged AND NOT EXISTS (
		SELECT FROM ringfence_data.audit_log AS l
		WHERE l.org_id = b.org_id AND l.id = b.record
			AND l.recorded_at BETWEEN ringfence.uuid7_time(b.record) - interval '1 minute' AND ringfence.uuid7_time(b.record) + interval '1 minute'
			AND l.action = 'ledger.sealed' AND l.key = encode(b.root, 'hex')
	)
	UNION ALL
	-- The newest are the ones that no other would miss.
	SELECT l.org_id, 'block_missing', format('record %s', l.id), 'the audit log has a block that is not there'
	FROM (
		SELECT a.org_id, max(b.sealed_to) AS sealed_to
		FROM (
			SELECT DISTINCT x.org_id
			FROM ringfence_data.ledger_assets AS x
			WHERE org IS NULL OR x.org_id = org
		) AS a
		LEFT JOIN blocks AS b ON b.org_id = a.org_id
		GROUP BY a.org_id
	) AS o
	INNER JOIN ringfence_data.audit_log AS l ON l.org_id = o.org_id
		AND l.recorded_at >= coalesce(o.sealed_to, '-infinity')
	WHERE logged AND l.action = 'ledger.sealed'
		AND NOT EXISTS (SELECT FROM blocks AS b WHERE b.org_id = l.org_id AND b.record = l.id);
END
$$;
REVOKE EXECUTE ON FUNCTION ringfence.ledger_verify_blocks(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ringfence.ledger_verify_blocks(uuid)
	TO ringfence_owner, ringfence_operator, ringfence_jobs;
COMMENT ON FUNCTION ringfence.ledger_verify_blocks(uuid) IS
	'checks of ledger_verify(): transfers are what was sealed, and blocks what the audit log recorded';
