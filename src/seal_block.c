/*
 * seal_block.c: blocks, heads and keys: what they say, and the bytes that are
 * hashed and signed of them.
 *
 * Which records a block covers. audit_seal() takes a snapshot while it holds
 * SHARE ROW EXCLUSIVE on audit_blocks, which no writer of records asks for. A
 * block covers the records of the transactions that its snapshot shows as
 * complete, and a record belongs to the first block that covers it. Nothing
 * can slip in behind a block:
 *
 * - A snapshot decides about a whole transaction at once: it is complete for it
 *   or it isn't, and its rows are visible or not together. A record carries the
 *   number of its top-level transaction, also if a savepoint wrote it; a
 *   snapshot lists the top-level ones that run. So of a transaction that is
 *   complete for the snapshot all records are read with that same snapshot,
 *   and it can write no more; of another one none is.
 * - A prepared transaction stays in the list until COMMIT PREPARED. A seal that
 *   waited for another takes its snapshot after it has the lock, so it sees
 *   that one's block; what is complete for a snapshot is so for later ones.
 * - The sealing transaction itself isn't complete, though its own snapshot
 *   doesn't list it: it is added, so that its records, whether written before
 *   or after the seal, belong to a later block. So are those that run and have
 *   a number beyond the last that ended, where a snapshot's list stops.
 * - Transaction ids are counted in 64 bits, and within an incarnation: a
 *   restored dump goes on in the next one. What an earlier incarnation wrote
 *   came with the dump, and is covered by the first block of the next.
 *
 * A transaction that rolled back has no records, wherever it is counted.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

#include "compat.h"
#include "seal.h"

static int
compare_xids(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return (x > y) - (x < y);
}

/* The 64-bit form of a transaction id that is not after "next". */
static uint64
widen(TransactionId xid, FullTransactionId next)
{
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (uint64) epoch << 32 | xid;
}

/* Reads the text of a pg_snapshot; false if it is none. */
static bool
parse_xids(RfXids *xids)
{
	const char *at = xids->text;
	char	   *end;

	xids->xmin = strtoull(at, &end, 10);
	if (*end != ':')
		return false;
	xids->xmax = strtoull(end + 1, &end, 10);
	if (*end != ':')
		return false;
	xids->nxip = 0;
	xids->xip = palloc((strlen(end) / 2 + 1) * sizeof(uint64));
	while (*end != '\0' && end[1] != '\0')
		xids->xip[xids->nxip++] = strtoull(end + 1, &end, 10);
	return true;
}

/*
 * The top-level transactions that run now, ours among them; palloc'd.
 */
TransactionId *
rf_xids_running(int *count)
{
	RunningTransactions running = GetRunningTransactionData();
	TransactionId *xids = palloc((running->xcnt + 1) * sizeof(TransactionId));

	/* Subtransactions come after them. */
	memcpy(xids, running->xids, running->xcnt * sizeof(TransactionId));
	*count = running->xcnt;
	LWLockRelease(ProcArrayLock);
	LWLockRelease(XidGenLock);
	return xids;
}

/*
 * The transactions that a snapshot shows as complete, but for our own. The
 * snapshot must have been taken after "own" was assigned, and after "running"
 * was read. Of those, some may not be before the snapshot's xmax, which is the
 * one after the last that ended: they are listed, so that whatever is not before
 * ours began after the snapshot. Numbers are given in order, so what is between
 * them and not listed is no top-level transaction.
 */
void
rf_xids_take(RfXids *xids, Snapshot snapshot, FullTransactionId own,
			 const TransactionId *running, int nrunning)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint64		own_xid = U64FromFullTransactionId(own);
	StringInfoData string;
	uint32		n = 0;

	xids->xmin = widen(snapshot->xmin, next);
	xids->xmax = widen(snapshot->xmax, next);
	xids->xip = palloc((snapshot->xcnt + nrunning + 1) * sizeof(uint64));
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		xids->xip[n++] = widen(snapshot->xip[i], next);
	if (own_xid < xids->xmax)
		xids->xip[n++] = own_xid;
	for (int i = 0; i < nrunning; i++)
		if (TransactionIdFollowsOrEquals(running[i], snapshot->xmax))
		{
			xids->xip[n] = widen(running[i], next);
			xids->xmax = Max(xids->xmax, xids->xip[n] + 1);
			n++;
		}
	xids->xmin = Min(xids->xmin, own_xid);
	xids->nxip = n;
	qsort(xids->xip, n, sizeof(uint64), compare_xids);

	initStringInfo(&string);
	appendStringInfo(&string, UINT64_FORMAT ":" UINT64_FORMAT ":",
					 xids->xmin, xids->xmax);
	for (uint32 i = 0; i < n; i++)
		appendStringInfo(&string, "%s" UINT64_FORMAT, i > 0 ? "," : "",
						 xids->xip[i]);
	xids->datum = DirectFunctionCall1(pg_snapshot_in,
									  CStringGetDatum(string.data));
	xids->text = DatumGetCString(DirectFunctionCall1(pg_snapshot_out,
													 xids->datum));
}

/* Is a transaction complete? */
bool
rf_xids_complete(const RfXids *xids, uint64 xid)
{
	if (xid < xids->xmin)
		return true;
	return xid < xids->xmax &&
		bsearch(&xid, xids->xip, xids->nxip, sizeof(uint64),
				compare_xids) == NULL;
}

/* Does the block cover the records of that transaction? */
bool
rf_block_covers(const RfBlock *block, uint32 incarnation, uint64 xid)
{
	return incarnation < block->incarnation ||
		(incarnation == block->incarnation &&
		 rf_xids_complete(&block->xids, xid));
}

/*
 * Which transactions may have records that "last" covers and "previous", if
 * there is one, doesn't: those that had no number yet for the previous block,
 * and of those that ran then the ones that don't any more. A transaction that
 * stays open for days so doesn't make each seal read all since it began.
 */
void
rf_block_ranges(const RfBlock *previous, const RfBlock *last,
				RfLogQuery *query)
{
	uint64		first = PG_UINT64_MAX;
	uint64		latest = 0;

	query->everything = previous == NULL ||
		previous->incarnation != last->incarnation ||
		previous->broken != NULL || last->broken != NULL;
	query->nranges = 1;
	query->ranges[0].first = query->everything ? 0 : previous->xids.xmax;
	query->ranges[0].last = PG_INT64_MAX;
	if (query->everything)
		return;
	for (uint32 i = 0; i < previous->xids.nxip; i++)
	{
		uint64		xid = previous->xids.xip[i];

		if (rf_xids_complete(&last->xids, xid))
		{
			first = Min(first, xid);
			latest = Max(latest, xid);
		}
	}
	if (first <= latest)
	{
		query->ranges[1].first = first;
		query->ranges[1].last = latest;
		query->nranges = 2;
	}
}

static void
read_entries(Relation rel, HeapTuple tuple, RfBlock *block)
{
	bool		isnull;
	Datum		value = rf_seal_value(rel, tuple, "entries", BYTEAOID, &isnull);
	bytea	   *bytes = isnull ? NULL : DatumGetByteaP(value);

	rf_check_broken(block, !isnull && VARSIZE_ANY_EXHDR(bytes) % RF_HASH_BYTES == 0,
					"entries");
	if (isnull || VARSIZE_ANY_EXHDR(bytes) % RF_HASH_BYTES != 0)
		return;
	block->nentries = VARSIZE_ANY_EXHDR(bytes) / RF_HASH_BYTES;
	block->entries = (RfHash *) palloc(VARSIZE_ANY_EXHDR(bytes) + 1);
	memcpy(block->entries, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

/*
 * Reads a row of audit_blocks into the current memory context, with its list
 * of entries if asked. Whatever the row holds, the block can be worked with:
 * "broken" names what isn't as it must be.
 */
void
rf_block_read(Relation rel, HeapTuple tuple, bool entries, RfBlock *block)
{
	bool		isnull;

	memset(block, 0, sizeof(*block));
	block->number = rf_seal_int(rel, tuple, "number", INT8OID, &isnull);
	rf_check_broken(block, !isnull, "number");
	block->incarnation = (uint32) rf_seal_int(rel, tuple, "incarnation",
											  INT4OID, &isnull);
	rf_check_broken(block, !isnull, "incarnation");
	block->records = rf_seal_int(rel, tuple, "records", INT8OID, &isnull);
	rf_check_broken(block, !isnull && block->records >= 0, "records");
	block->sealed_at = rf_seal_int(rel, tuple, "sealed_at", TIMESTAMPTZOID,
								   &isnull);
	rf_check_broken(block, !isnull, "sealed_at");
	block->xids.datum = rf_seal_value(rel, tuple, "snapshot", PG_SNAPSHOTOID,
									  &isnull);
	block->xids.text = isnull ? pstrdup("0:0:") :
		DatumGetCString(DirectFunctionCall1(pg_snapshot_out,
											block->xids.datum));
	rf_check_broken(block, !isnull && parse_xids(&block->xids), "snapshot");
	rf_check_broken(block, rf_seal_bytes(rel, tuple, "nonce", block->nonce,
										 RF_NONCE_BYTES), "nonce");
	rf_check_broken(block, rf_seal_bytes(rel, tuple, "root", &block->root,
										 RF_HASH_BYTES), "root");
	rf_check_broken(block, rf_seal_bytes(rel, tuple, "previous", &block->previous,
										 RF_HASH_BYTES), "previous");
	rf_check_broken(block, rf_seal_bytes(rel, tuple, "details", &block->details,
										 RF_HASH_BYTES), "details");
	rf_check_broken(block, rf_seal_bytes(rel, tuple, "hash", &block->hash,
										 RF_HASH_BYTES), "hash");
	rf_check_broken(block, rf_seal_bytes(rel, tuple, "key_id", &block->key_id,
										 RF_HASH_BYTES), "key_id");
	rf_check_broken(block, rf_seal_bytes(rel, tuple, "signature",
										 block->signature, RF_SIGNATURE_BYTES),
					"signature");
	if (entries)
		read_entries(rel, tuple, block);
}

static bool
find_block(Relation rel, Snapshot snapshot, StrategyNumber strategy,
		   int64 number, bool entries, RfBlock *block)
{
	static const char *const columns[] = {"number"};
	Oid			index_oid = rf_seal_index(rel, 1, columns);
	Relation	index;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no index on (%s)",
						RelationGetRelationName(rel), "number")));
	ScanKeyInit(&key, rf_seal_column(rel, "number", INT8OID), strategy,
				strategy == BTEqualStrategyNumber ? F_INT8EQ : F_INT8LE,
				Int64GetDatum(number));
	index = index_open(index_oid, AccessShareLock);
	scan = systable_beginscan_ordered(rel, index, snapshot, 1, &key);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	if (tuple != NULL)
		rf_block_read(rel, tuple, entries, block);
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	return tuple != NULL;
}

/* Reads the newest block; false if there is none. */
bool
rf_block_newest(Relation rel, Snapshot snapshot, RfBlock *block)
{
	return rf_block_before(rel, snapshot, PG_INT64_MAX, block);
}

/* Reads the last block up to that number; false if there is none. */
bool
rf_block_before(Relation rel, Snapshot snapshot, int64 number, RfBlock *block)
{
	return find_block(rel, snapshot, BTLessEqualStrategyNumber, number, false,
					  block);
}

/* Reads the block of that number; false if there is none. */
bool
rf_block_find(Relation rel, Snapshot snapshot, int64 number, bool entries,
			  RfBlock *block)
{
	return find_block(rel, snapshot, BTEqualStrategyNumber, number, entries,
					  block);
}

/* What a block says of itself that isn't for every tenant to read, hashed. */
void
rf_block_details(RfDigest *digest, const RfBlock *block, RfHash *details)
{
	size_t		text_len = strlen(block->xids.text);
	unsigned char *message = palloc(4 + RF_NONCE_BYTES + 4 + 4 + text_len + 8);
	unsigned char *end;

	end = rf_put_bytes(message, "rfd1", 4);
	end = rf_put_bytes(end, block->nonce, RF_NONCE_BYTES);
	end = rf_put_u32(end, block->incarnation);
	end = rf_put_u32(end, (uint32) text_len);
	end = rf_put_bytes(end, block->xids.text, text_len);
	end = rf_put_u64(end, (uint64) block->records);
	rf_digest(digest, message, end - message, details);
	pfree(message);
}

/* The RF_HEADER_BYTES that are hashed and signed. */
void
rf_block_header(const RfBlock *block, unsigned char *header)
{
	unsigned char *end;

	end = rf_put_bytes(header, "rfb1", 4);
	end = rf_put_u64(end, (uint64) block->number);
	end = rf_put_u64(end, rf_unix_time(block->sealed_at));
	end = rf_put_bytes(end, &block->root, RF_HASH_BYTES);
	end = rf_put_bytes(end, &block->previous, RF_HASH_BYTES);
	end = rf_put_bytes(end, &block->details, RF_HASH_BYTES);
	end = rf_put_bytes(end, &block->key_id, RF_HASH_BYTES);
	Assert(end - header == RF_HEADER_BYTES);
}

/* Is all that a block says of itself what that key, if it is known, signed? */
bool
rf_block_signed(RfDigest *digest, const RfBlock *block, const RfSealKey *key)
{
	unsigned char header[RF_HEADER_BYTES];
	RfHash		details;

	if (key == NULL || key->broken != NULL || block->broken != NULL)
		return false;
	rf_block_details(digest, block, &details);
	rf_block_header(block, header);
	return memcmp(&details, &block->details, RF_HASH_BYTES) == 0 &&
		rf_signature_valid(key->public_key, header, sizeof(header),
						   block->signature);
}

/*
 * An organization's leaf in the tree of a block, which says in what block it had
 * one before, or 0: so its parts are a chain of their own.
 */
void
rf_org_entry(RfDigest *digest, const RfUuid *org, int64 block, int64 previous,
			 uint64 records, const RfHash *root, RfHash *entry)
{
	unsigned char message[1 + 4 + RF_UUID_BYTES + 3 * 8 + RF_HASH_BYTES];
	unsigned char *end;

	end = rf_put_bytes(message, "\0rfo1", 5);
	end = rf_put_bytes(end, org, RF_UUID_BYTES);
	end = rf_put_u64(end, (uint64) block);
	end = rf_put_u64(end, (uint64) previous);
	end = rf_put_u64(end, records);
	end = rf_put_bytes(end, root, RF_HASH_BYTES);
	rf_digest(digest, message, end - message, entry);
}

/* The RF_ENDORSEMENT_BYTES by which one key vouches for the next. */
void
rf_endorsement_message(const unsigned char *public_key, TimestampTz added_at,
					   unsigned char *message)
{
	unsigned char *end;

	end = rf_put_bytes(message, "rfk1", 4);
	end = rf_put_bytes(end, public_key, RF_HASH_BYTES);
	end = rf_put_u64(end, rf_unix_time(added_at));
	Assert(end - message == RF_ENDORSEMENT_BYTES);
}

/* Reads audit_keys into the current memory context. Trusts none of them yet. */
RfSealKey *
rf_keys_read(Relation rel, Snapshot snapshot, int *count)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	int			size = 8;
	RfSealKey  *keys = palloc0(size * sizeof(RfSealKey));
	HeapTuple	tuple;
	bool		isnull;

	*count = 0;
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		RfSealKey  *key;

		if (*count == size)
		{
			size *= 2;
			keys = repalloc_huge(keys, size * sizeof(RfSealKey));
		}
		key = &keys[(*count)++];
		memset(key, 0, sizeof(*key));
		rf_check_broken(key, rf_seal_bytes(rel, tuple, "key_id", &key->id,
										   RF_HASH_BYTES), "key_id");
		rf_check_broken(key, rf_seal_bytes(rel, tuple, "public_key",
										   key->public_key, RF_HASH_BYTES),
						"public_key");
		key->added_at = rf_seal_int(rel, tuple, "added_at", TIMESTAMPTZOID,
									&isnull);
		rf_check_broken(key, !isnull, "added_at");
		(void) rf_seal_value(rel, tuple, "endorsed_by", BYTEAOID, &isnull);
		key->endorsed = !isnull;
		rf_check_broken(key, isnull ||
						rf_seal_bytes(rel, tuple, "endorsed_by",
									  &key->endorsed_by, RF_HASH_BYTES),
						"endorsed_by");
		rf_check_broken(key, isnull ||
						rf_seal_bytes(rel, tuple, "endorsement", key->endorsement,
									  RF_SIGNATURE_BYTES), "endorsement");
	}
	systable_endscan(scan);
	return keys;
}

/* The key of that id, or NULL. */
RfSealKey *
rf_keys_find(RfSealKey *keys, int count, const RfHash *id)
{
	for (int i = 0; i < count; i++)
		if (memcmp(&keys[i].id, id, RF_HASH_BYTES) == 0)
			return &keys[i];
	return NULL;
}

/* Does a trusted key vouch for this one? */
static bool
is_endorsed(RfSealKey *keys, int count, const RfSealKey *key)
{
	RfSealKey  *endorser = rf_keys_find(keys, count, &key->endorsed_by);
	unsigned char message[RF_ENDORSEMENT_BYTES];

	if (!key->endorsed || endorser == NULL || !endorser->trusted)
		return false;
	rf_endorsement_message(key->public_key, key->added_at, message);
	return rf_signature_valid(endorser->public_key, message, sizeof(message),
							  key->endorsement);
}

/*
 * Trusts the key that signed the first block, or, if that isn't known, a key
 * that is the only one without an endorsement; and then every key that a
 * trusted one vouches for.
 */
void
rf_keys_trust(RfDigest *digest, RfSealKey *keys, int count,
			  const RfHash *first)
{
	int			roots = 0;
	bool		more = true;

	for (int i = 0; i < count; i++)
	{
		RfHash		id;

		rf_digest(digest, keys[i].public_key, RF_HASH_BYTES, &id);
		rf_check_broken(&keys[i], memcmp(&id, &keys[i].id, RF_HASH_BYTES) == 0,
						"key_id");
		roots += !keys[i].endorsed;
	}
	for (int i = 0; i < count; i++)
		if (!keys[i].endorsed && keys[i].broken == NULL)
			keys[i].trusted = first == NULL ? roots == 1 :
				memcmp(&keys[i].id, first, RF_HASH_BYTES) == 0;
	while (more)
	{
		more = false;
		for (int i = 0; i < count; i++)
			if (!keys[i].trusted && keys[i].broken == NULL &&
				is_endorsed(keys, count, &keys[i]))
				more = keys[i].trusted = true;
	}
}
