/*
 * seal_drop.c: statements that a part of the log was dropped.
 *
 * Blocks and leaf lists stay when months of the log are dropped, so that kept
 * records can be proved, and each record that is gone would be a finding. A
 * statement in audit_drops says of a range of time, and of the blocks that its
 * records are in, that they were all there, as they were sealed, before they were
 * dropped: audit_state_drop() verifies that (seal_state.c) and signs it. It holds
 * as long as
 *
 * - a key of the chain's signed it, and the last of its blocks is the one that it
 *   names, so that it is of this chain and no other's with the same key;
 * - its event is on record: nobody drops a month and no one knows;
 * - no partition is attached for the time that a record is of. What is still in
 *   the log is verified record by record, whatever was stated.
 *
 * It speaks of records that are missing and of nothing else: those that are there
 * and differ are findings as ever, and so are lists, roots and blocks.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "leaf.h"
#include "seal.h"

/* What is signed of a statement, as bytea. */
Datum
rf_drop_message(RfDigest *digest, const RfDrop *drop)
{
	RfLeafMaker *maker = rf_leaf_begin(digest, NULL, 0);

	maker->len = 0;
	rf_leaf_bytes(maker, "rfx1", 4);
	rf_leaf_u64(maker, rf_unix_time(drop->range_start));
	rf_leaf_u64(maker, rf_unix_time(drop->range_end));
	rf_leaf_u64(maker, (uint64) drop->first_block);
	rf_leaf_u64(maker, (uint64) drop->last_block);
	rf_leaf_bytes(maker, &drop->block_hash, RF_HASH_BYTES);
	rf_leaf_bytes(maker, &drop->event, RF_UUID_BYTES);
	rf_leaf_u64(maker, rf_unix_time(drop->stated_at));
	rf_leaf_bytes(maker, &drop->key_id, RF_HASH_BYTES);
	rf_leaf_string(maker, drop->reason, strlen(drop->reason));
	return rf_bytea(maker->data, maker->len);
}

/* Is a record of that id of the range's time? */
bool
rf_drop_covers(const RfDrop *drop, const RfUuid *id)
{
	TimestampTz time;

	if (id->data[6] >> 4 != 7)
		return false;
	time = rf_uuid7_time(id);
	return time >= drop->range_start && time < drop->range_end;
}

static TimestampTz
drop_time(Relation rel, HeapTuple tuple, const char *name, RfDrop *drop)
{
	bool		isnull;
	TimestampTz time = rf_seal_int(rel, tuple, name, TIMESTAMPTZOID, &isnull);

	rf_check_broken(drop, !isnull, name);
	return time;
}

/* Reads a row of audit_drops; "broken" names what isn't as it must be. */
static void
read_drop(Relation rel, HeapTuple tuple, RfDrop *drop)
{
	bool		isnull;
	Datum		value;

	memset(drop, 0, sizeof(*drop));
	drop->range_start = drop_time(rel, tuple, "range_start", drop);
	drop->range_end = drop_time(rel, tuple, "range_end", drop);
	drop->stated_at = drop_time(rel, tuple, "stated_at", drop);
	drop->first_block = rf_seal_int(rel, tuple, "first_block", INT8OID, &isnull);
	rf_check_broken(drop, !isnull, "first_block");
	drop->last_block = rf_seal_int(rel, tuple, "last_block", INT8OID, &isnull);
	rf_check_broken(drop, !isnull, "last_block");
	rf_check_broken(drop, rf_seal_bytes(rel, tuple, "block_hash",
										&drop->block_hash, RF_HASH_BYTES),
					"block_hash");
	value = rf_seal_value(rel, tuple, "event", UUIDOID, &isnull);
	if (!isnull)
		memcpy(&drop->event, DatumGetUUIDP(value), RF_UUID_BYTES);
	rf_check_broken(drop, !isnull, "event");
	value = rf_seal_value(rel, tuple, "reason", TEXTOID, &isnull);
	drop->reason = isnull ? pstrdup("") : TextDatumGetCString(value);
	rf_check_broken(drop, !isnull, "reason");
	rf_check_broken(drop, rf_seal_bytes(rel, tuple, "key_id", &drop->key_id,
										RF_HASH_BYTES), "key_id");
	rf_check_broken(drop, rf_seal_bytes(rel, tuple, "signature",
										drop->signature, RF_SIGNATURE_BYTES),
					"signature");
}

/* Reads audit_drops into the current memory context. Believes none of it yet. */
RfDrop *
rf_drops_read(Snapshot snapshot, int *count)
{
	Relation	rel = rf_seal_table("audit_drops", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	int			size = 16;
	RfDrop	   *drops = palloc(size * sizeof(RfDrop));
	HeapTuple	tuple;

	*count = 0;
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		if (*count == size)
		{
			size *= 2;
			drops = repalloc_huge(drops, size * sizeof(RfDrop));
		}
		read_drop(rel, tuple, &drops[(*count)++]);
	}
	systable_endscan(scan);
	relation_close(rel, NoLock);
	return drops;
}

/* Why a statement is none of this chain's, or NULL. */
const char *
rf_drop_problem(const RfDrop *drop, Relation blocks, Snapshot snapshot,
				RfDigest *digest, RfSealKey *keys, int nkeys)
{
	RfSealKey  *key = rf_keys_find(keys, nkeys, &drop->key_id);
	bytea	   *message;
	RfBlock		block;

	if (drop->broken != NULL)
		return psprintf("column \"%s\" is damaged", drop->broken);
	if (key == NULL || !key->trusted)
		return psprintf("it is signed with key %s, which is not one of the chain's",
						rf_hash_text(&drop->key_id));
	message = DatumGetByteaPP(rf_drop_message(digest, drop));
	if (!rf_signature_valid(key->public_key, VARDATA_ANY(message),
							VARSIZE_ANY_EXHDR(message), drop->signature))
		return "its signature does not hold";
	if (drop->last_block > 0 &&
		rf_block_find(blocks, snapshot, drop->last_block, false, &block) &&
		memcmp(&block.hash, &drop->block_hash, RF_HASH_BYTES) != 0)
		return psprintf("block " INT64_FORMAT " is not the one that it names",
						drop->last_block);
	return NULL;
}

static int
place_event(void *arg, const RfPlacing *record)
{
	(void) arg;
	(void) record;
	return 0;
}

static void
take_event(void *arg, const Datum *values, const bool *nulls)
{
	bool	   *found = arg;

	*found = *found || (!nulls[AUDIT_ACTION] &&
						strcmp(TextDatumGetCString(values[AUDIT_ACTION]),
							   "audit.dropped") == 0);
}

/* Is the event that a statement names on record? It may not be sealed yet. */
static bool
is_recorded(RfVerify *verify, Relation blocks, const RfDrop *drop)
{
	RfUuid		nobody = {{0}};
	RfLogQuery	query = {0};
	bool		found = false;

	if (rf_is_sealed(blocks, verify->snapshot, &drop->event, &nobody))
		return true;
	query.snapshot = verify->snapshot;
	query.org = &nobody;
	query.id = &drop->event;
	query.everything = true;
	query.place = place_event;
	query.take = take_event;
	query.arg = &found;
	rf_log_query(&query);
	return found;
}

/* Takes what a statement says for true, or says why not. */
static void
check_drop(RfVerify *verify, Relation blocks, const RfDrop *drop)
{
	const char *problem = rf_drop_problem(drop, blocks, verify->snapshot,
										  verify->digest, verify->keys,
										  verify->nkeys);
	char	   *start = pstrdup(timestamptz_to_str(drop->range_start));

	if (problem != NULL)
		rf_finding(verify, Max(drop->last_block, 0), NULL, NULL,
				   "drop_altered",
				   "the statement that %s to %s was dropped does not hold: %s",
				   start, timestamptz_to_str(drop->range_end), problem);
	else if (!is_recorded(verify, blocks, drop))
		rf_finding(verify, Max(drop->last_block, 0), NULL, &drop->event,
				   "drop_unrecorded",
				   "the log does not have the event of the statement that %s to %s was dropped",
				   start, timestamptz_to_str(drop->range_end));
	else
		verify->drops[verify->ndrops++] = *drop;
}

/*
 * Begins, in the current memory context, once the keys were read. The log's
 * partitions are locked first, so that they stay as they are.
 */
void
rf_drops_begin(RfVerify *verify, Relation blocks)
{
	Relation	log = rf_seal_table("audit_log", AccessShareLock);
	int			count;

	(void) find_all_inheritors(RelationGetRelid(log), AccessShareLock, NULL);
	verify->months = rf_log_parts(log, &verify->nmonths);
	if (verify->nmonths > 0 && verify->months->is_default)
	{
		verify->months++;
		verify->nmonths--;
	}
	relation_close(log, NoLock);
	verify->drops = rf_drops_read(verify->snapshot, &count);
	for (int i = 0; i < count; i++)
	{
		RfDrop		drop = verify->drops[i];

		check_drop(verify, blocks, &drop);
	}
}

/* Is there a partition for that time? */
static bool
is_attached(const RfVerify *verify, TimestampTz time)
{
	int			low = 0;
	int			high = verify->nmonths;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (verify->months[middle].upper <= time)
			low = middle + 1;
		else
			high = middle;
	}
	return low < verify->nmonths && verify->months[low].lower <= time;
}

/* Was a record that is missing from a block dropped, as a statement says? */
bool
rf_is_dropped(RfVerify *verify, int64 block, const RfUuid *id)
{
	for (int i = 0; i < verify->ndrops; i++)
	{
		/* Most often it is the one of the record before. */
		int			n = (verify->last_drop + i) % verify->ndrops;
		const RfDrop *drop = &verify->drops[n];

		if (block < drop->first_block || block > drop->last_block ||
			!rf_drop_covers(drop, id))
			continue;
		verify->last_drop = n;
		return !is_attached(verify, rf_uuid7_time(id));
	}
	return false;
}
