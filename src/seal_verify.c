/*
 * seal_verify.c: audit_verify(), which says what was altered.
 *
 * The chain is read in order with one snapshot: each block's header against its
 * hash and signature, its number and the hash before it; then, a run of blocks
 * at a time, what they cover (seal_compare.c). A run is as long as its records'
 * leaves fit into maintenance_work_mem. Last come the head and the checkpoint
 * that was given. No lock is taken that anybody waits for.
 *
 * What the rows hold may be anything: each finding is a row of the result, and
 * nothing but a missing table or column is an error. What a finding means for
 * the rows after it is said rather than guessed: a block whose header is wrong
 * is looked into as if it were right.
 */
#include "postgres.h"

#include <stdarg.h>

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "seal.h"

#define MIN_RUN 64				/* blocks that a run has room for at first, */
#define MAX_RUN 65536			/* and at most */
#define MAX_DISTANCE 4096		/* how far off a block out of order may be */
#define MAX_RENUMBERED 100000	/* numbers tried for blocks out of order */

PG_FUNCTION_INFO_V1(ringfence_audit_verify);

/* The chain while it is read. */
typedef struct Chain
{
	RfVerify   *verify;
	Relation	blocks;
	int64		first;			/* of the blocks to verify */
	int64		newest;			/* number of the last block read, or 0 */
	RfHash		newest_hash;
	bool		newest_signed;	/* by a key that is known */
	bool		pending;		/* its signature wasn't looked at yet: */
	RfBlock		unchecked;
	unsigned char header[RF_HEADER_BYTES];
	int			room;			/* for blocks in the run */
	int64		weight;			/* bytes that the run will take, roughly */
	int64		tried;			/* numbers tried for blocks out of order */
	MemoryContext last;			/* holds verify->previous */
} Chain;

/* Adds a row to the result, or counts it, if it matters before a statement. */
void
rf_finding(RfVerify *verify, int64 block, const RfUuid *org,
		   const RfUuid *record, const char *problem, const char *detail,...)
{
	Datum		values[5];
	bool		nulls[5] = {false};
	StringInfoData message;
	va_list		args;

	initStringInfo(&message);
	for (;;)
	{
		int			needed;

		va_start(args, detail);
		needed = appendStringInfoVA(&message, detail, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	if (verify->stating != NULL)
	{
		if (record != NULL && !rf_drop_covers(verify->stating, record))
			return;
		if (verify->problems++ == 0)
			verify->problem = MemoryContextStrdup(verify->outer,
												  psprintf("%s: %s", problem,
														   message.data));
		return;
	}
	nulls[0] = block == 0;
	values[0] = Int64GetDatum(block);
	nulls[1] = org == NULL;
	values[1] = UUIDPGetDatum((pg_uuid_t *) org);
	nulls[2] = record == NULL;
	values[2] = UUIDPGetDatum((pg_uuid_t *) record);
	values[3] = CStringGetTextDatum(problem);
	values[4] = CStringGetTextDatum(message.data);
	tuplestore_putvalues(verify->findings, verify->desc, values, nulls);
	pfree(DatumGetPointer(values[3]));
	pfree(DatumGetPointer(values[4]));
	pfree(message.data);
}

/* Checks the keys, and the configured one among them. */
static void
verify_keys(Chain *chain)
{
	RfVerify   *verify = chain->verify;
	Relation	rel = rf_seal_table("audit_keys", AccessShareLock);
	RfBlock		first;
	bool		has_first;
	RfSigner   *signer;

	verify->keys = rf_keys_read(rel, verify->snapshot, &verify->nkeys);
	relation_close(rel, NoLock);
	has_first = rf_block_find(chain->blocks, verify->snapshot, 1, false,
							  &first);
	rf_keys_trust(verify->digest, verify->keys, verify->nkeys,
				  has_first ? &first.key_id : NULL);
	for (int i = 0; i < verify->nkeys; i++)
		if (!verify->keys[i].trusted)
			rf_finding(verify, 0, NULL, NULL, "key_unknown",
					   "key %s is not vouched for by an earlier key of the chain",
					   rf_hash_text(&verify->keys[i].id));

	signer = rf_signer_open(verify->digest, true);
	if (signer != NULL && has_first)
	{
		RfSealKey  *key = rf_keys_find(verify->keys, verify->nkeys,
									   &signer->key_id);

		if (key == NULL || !key->trusted)
			rf_finding(verify, 0, NULL, NULL, "key_unknown",
					   "key %s, which the server signs with, is not one of the chain's: the keys were replaced",
					   rf_hash_text(&signer->key_id));
	}
}

/*
 * Was the block, whose header doesn't give its hash, sealed under another
 * number? Returns that, or 0.
 */
static int64
true_number(Chain *chain, const RfBlock *block)
{
	RfBlock		other = *block;
	unsigned char header[RF_HEADER_BYTES];
	RfHash		hash;

	for (int64 distance = 1;
		 distance < MAX_DISTANCE && chain->tried < MAX_RENUMBERED; distance++)
	{
		for (int sign = -1; sign <= 1; sign += 2)
		{
			other.number = block->number + sign * distance;
			if (other.number < 1)
				continue;
			chain->tried++;
			rf_block_header(&other, header);
			rf_digest(chain->verify->digest, header, sizeof(header), &hash);
			if (memcmp(&hash, &block->hash, RF_HASH_BYTES) == 0)
				return other.number;
		}
	}
	return 0;
}

/*
 * A signature costs as much as fifty records, and whoever signed a block signed
 * all before it with it. So of an organization's part, which anybody of it may
 * have verified as often as they like, only those are looked at that no block
 * with the same key follows. "next" is the one after, if its header is good.
 */
static void
settle_signature(Chain *chain, const RfBlock *next)
{
	const RfBlock *block = &chain->unchecked;

	if (!chain->pending)
		return;
	chain->pending = false;
	if (next == NULL || next->number != block->number + 1 ||
		memcmp(&next->previous, &block->hash, RF_HASH_BYTES) != 0 ||
		memcmp(&next->key_id, &block->key_id, RF_HASH_BYTES) != 0)
		chain->newest_signed =
			rf_verify_signature(chain->verify, block->number, &block->key_id,
								chain->header, RF_HEADER_BYTES,
								block->signature, "the block");
}

/*
 * A block by itself: columns, details, hash and signature. One that was sealed
 * under another number is looked at as that one from here on.
 */
static void
verify_header(Chain *chain, RfBlock *block)
{
	RfVerify   *verify = chain->verify;
	unsigned char header[RF_HEADER_BYTES];
	RfHash		hash;
	bool		good;

	if (block->broken != NULL)
	{
		settle_signature(chain, NULL);
		chain->newest_signed = false;
		rf_finding(verify, block->number, NULL, NULL, "block_altered",
				   "column \"%s\" is damaged", block->broken);
		return;
	}
	rf_block_details(verify->digest, block, &hash);
	block->details_good = memcmp(&hash, &block->details, RF_HASH_BYTES) == 0;
	if (!block->details_good && verify->org == NULL)
		rf_finding(verify, block->number, NULL, NULL, "block_altered",
				   "incarnation, snapshot, records or nonce are not those that were sealed");
	rf_block_header(block, header);
	rf_digest(verify->digest, header, sizeof(header), &hash);
	good = memcmp(&hash, &block->hash, RF_HASH_BYTES) == 0;
	settle_signature(chain, good ? block : NULL);
	if (good && verify->org != NULL)
	{
		chain->pending = true;
		chain->unchecked = *block;
		memcpy(chain->header, header, sizeof(header));
		block->intact = block->details_good;
		return;
	}
	if (!good)
	{
		int64		number = true_number(chain, block);

		if (number > 0)
		{
			rf_finding(verify, block->number, NULL, NULL, "block_reordered",
					   "this is block " INT64_FORMAT, number);
			block->number = number;
			rf_block_header(block, header);
		}
		else
			rf_finding(verify, block->number, NULL, NULL, "block_altered",
					   "its header does not give its hash");
	}
	chain->newest_signed = rf_verify_signature(verify, block->stored,
											   &block->key_id, header,
											   sizeof(header), block->signature,
											   "the block");
	block->intact = block->details_good && chain->newest_signed;
}

/*
 * The block's place: after the one before it, and sealed as such. False if it
 * can have none.
 */
static bool
verify_link(Chain *chain, RfBlock *block)
{
	RfVerify   *verify = chain->verify;
	const RfBlock *previous = verify->nblocks > 0 ?
	&verify->blocks[verify->nblocks - 1] : verify->previous;
	RfHash		expected;

	if (block->stored < 1 ||
		(previous != NULL && block->stored <= previous->stored))
	{
		rf_finding(verify, block->stored, NULL, NULL, "block_inserted",
				   "there can be no such block beside the others");
		return false;
	}
	memset(&expected, 0, sizeof(expected));
	if (previous != NULL)
		expected = previous->hash;
	if (block->stored != (previous == NULL ? 1 : previous->stored + 1))
	{
		rf_verify_gap(verify, Max(previous == NULL ? 1 : previous->stored + 1,
								  chain->first), block->stored - 1);
		block->after_gap = true;
		return true;
	}
	/* One out of order was named as such, and so was what follows it. */
	if (block->stored != block->number ||
		(previous != NULL && previous->stored != previous->number))
		return true;
	if (memcmp(&expected, &block->previous, RF_HASH_BYTES) != 0)
		rf_finding(verify, block->stored, NULL, NULL, "block_altered",
				   "it does not continue the block before it");
	if (previous != NULL && previous->broken == NULL &&
		block->broken == NULL && verify->org == NULL &&
		(block->incarnation < previous->incarnation ||
		 (block->incarnation == previous->incarnation &&
		  block->xids.xmax < previous->xids.xmax)))
		rf_finding(verify, block->stored, NULL, NULL, "block_altered",
				   "its snapshot is older than that of the block before it");
	return true;
}

static int
compare_blocks(const void *a, const void *b)
{
	int64		x = ((const RfBlock *) a)->number;
	int64		y = ((const RfBlock *) b)->number;

	return (x > y) - (x < y);
}

/* Looks into the blocks of the run, and begins another after them. */
static void
end_run(Chain *chain)
{
	RfVerify   *verify = chain->verify;
	RfBlock    *previous;
	MemoryContext last;
	MemoryContext old;

	if (verify->nblocks == 0)
		return;
	qsort(verify->blocks, verify->nblocks, sizeof(RfBlock), compare_blocks);
	rf_verify_compare(verify);

	/*
	 * The last one is what the next run begins after: keep what counts of it.
	 * A damaged one may share some of that with the one kept now.
	 */
	last = AllocSetContextCreate(CurrentMemoryContext,
								 "ringfence audit block",
								 ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(last);
	previous = palloc(sizeof(RfBlock));
	*previous = verify->blocks[verify->nblocks - 1];
	previous->xids.text = pstrdup(previous->xids.text);
	if (previous->xids.xip != NULL)
	{
		size_t		size = previous->xids.nxip * sizeof(uint64);

		previous->xids.xip = palloc(size + 1);
		memcpy(previous->xids.xip,
			   verify->blocks[verify->nblocks - 1].xids.xip, size);
	}
	previous->entries = NULL;
	previous->nentries = 0;
	verify->previous = previous;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(chain->last);
	chain->last = last;
	MemoryContextReset(verify->context);
	verify->blocks = NULL;
	verify->nblocks = 0;
	chain->weight = 0;
}

/* Adds a block to the run, in verify->context, which must be the current one. */
static void
add_to_run(Chain *chain, RfBlock *block)
{
	RfVerify   *verify = chain->verify;
	const RfBlock *before = verify->nblocks > 0 ?
	&verify->blocks[verify->nblocks - 1] : verify->previous;

	/* Where nothing says what it covered, that was the next one's. */
	if (block->broken != NULL && before != NULL)
	{
		block->xids = before->xids;
		block->incarnation = before->incarnation;
	}
	if (verify->blocks == NULL)
	{
		chain->room = MIN_RUN;
		verify->blocks = palloc(chain->room * sizeof(RfBlock));
	}
	else if (verify->nblocks == chain->room)
	{
		chain->room *= 2;
		verify->blocks = repalloc(verify->blocks,
								  chain->room * sizeof(RfBlock));
	}
	verify->blocks[verify->nblocks++] = *block;
}

/* Takes the next block of the chain. */
static void
take_block(Chain *chain, HeapTuple tuple)
{
	RfVerify   *verify = chain->verify;
	MemoryContext old = MemoryContextSwitchTo(verify->context);
	RfBlock		block;
	int64		records;

	rf_block_read(chain->blocks, tuple, true, &block);
	block.stored = block.number;
	chain->newest = block.number;
	chain->newest_hash = block.hash;
	if (block.number < chain->first)
	{
		/* Only what the first block of the range follows. */
		if (block.broken != NULL && verify->previous != NULL)
		{
			MemoryContextSwitchTo(old);
			return;
		}
		MemoryContextSwitchTo(chain->last);
		verify->previous = palloc(sizeof(RfBlock));
		rf_block_read(chain->blocks, tuple, false, verify->previous);
		verify->previous->stored = block.number;
		verify->previous->intact =
			rf_block_signed(verify->digest, &block,
							rf_keys_find(verify->keys, verify->nkeys,
										 &block.key_id));
		if (block.broken != NULL)
			rf_finding(verify, block.number, NULL, NULL, "block_altered",
					   "column \"%s\" is damaged", block.broken);
		MemoryContextSwitchTo(old);
		return;
	}
	verify_header(chain, &block);
	if (!verify_link(chain, &block))
	{
		MemoryContextSwitchTo(old);
		return;
	}
	add_to_run(chain, &block);
	MemoryContextSwitchTo(old);

	/* "records" may be anything: it only decides how much is read at once. */
	records = verify->org != NULL ? 0 :
		Min(Max(block.records, 0), PG_INT32_MAX);
	chain->weight += records * (int64) sizeof(RfItem) +
		(int64) block.nentries * RF_HASH_BYTES + (int64) sizeof(RfBlock);
	if (verify->nblocks == MAX_RUN ||
		chain->weight >= maintenance_work_mem * INT64CONST(1024))
		end_run(chain);
}

/*
 * The number of the block that the first one of the range follows: what is
 * before a gap there may have been damaged, and accepted as such.
 */
static int64
block_before_range(Chain *chain)
{
	Snapshot	snapshot = chain->verify->snapshot;
	RfBlock		before;
	bool		found = rf_block_before(chain->blocks, snapshot,
										chain->first - 1, &before);

	if (found && before.number < chain->first - 1)
		while (found && before.broken != NULL)
			found = rf_block_before(chain->blocks, snapshot,
									before.number - 1, &before);
	return found ? before.number : chain->first;
}

static void
verify_blocks(Chain *chain, int64 last)
{
	static const char *const columns[] = {"number"};
	Oid			index_oid = rf_seal_index(chain->blocks, 1, columns);
	AttrNumber	number = rf_seal_column(chain->blocks, "number", INT8OID);
	Relation	index;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	int64		from = PG_INT64_MIN;

	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no index on (%s)",
						RelationGetRelationName(chain->blocks), "number")));
	if (chain->first > 1)
		from = block_before_range(chain);
	ScanKeyInit(&keys[0], number, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(from));
	ScanKeyInit(&keys[1], number, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(last));
	index = index_open(index_oid, AccessShareLock);
	scan = systable_beginscan_ordered(chain->blocks, index,
									  chain->verify->snapshot, 2, keys);
	while ((tuple = systable_getnext_ordered(scan,
											 ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		take_block(chain, tuple);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	settle_signature(chain, NULL);
	end_run(chain);
}

/*
 * Verifies the blocks from "first" to "last"; up to the newest, and the head, if
 * that is PG_INT64_MAX, and against a checkpoint, if there is one. The caller
 * has set whose part it is for and where findings go, and all else to zeros.
 */
void
rf_verify_chain(RfVerify *verify, int64 first, int64 last, Jsonb *checkpoint)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "ringfence audit verification",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Chain		chain = {0};
	RfShapeName *shapes;
	int			nshapes;

	verify->outer = context;
	verify->context = AllocSetContextCreate(context, "ringfence audit run",
											ALLOCSET_DEFAULT_SIZES);
	verify->snapshot = RegisterSnapshot(GetLatestSnapshot());
	verify->digest = rf_digest_create(CurrentMemoryContext);
	shapes = rf_seal_shapes(verify->snapshot, &nshapes);
	verify->maker = rf_leaf_begin(verify->digest, shapes, nshapes);
	chain.verify = verify;
	chain.first = Max(first, 1);
	chain.last = AllocSetContextCreate(context, "ringfence audit block",
									   ALLOCSET_SMALL_SIZES);
	chain.blocks = rf_seal_table("audit_blocks", AccessShareLock);

	verify_keys(&chain);
	if (verify->stating == NULL)
		rf_drops_begin(verify, chain.blocks);
	verify->suspects = rf_suspects_begin(verify, chain.blocks,
										 chain.first == 1 && last == PG_INT64_MAX);
	verify_blocks(&chain, last);
	if (last == PG_INT64_MAX)
		rf_verify_head(verify, chain.blocks, chain.newest, &chain.newest_hash,
					   chain.newest_signed);
	if (checkpoint != NULL)
		rf_verify_checkpoint(verify, chain.blocks, checkpoint);
	relation_close(chain.blocks, NoLock);
	UnregisterSnapshot(verify->snapshot);
	MemoryContextSwitchTo(old);
	if (verify->problem != NULL)
		verify->problem = pstrdup(verify->problem);
	MemoryContextDelete(context);
}

/*
 * audit_verify(first, last, checkpoint, org) returns setof (block, org_id,
 * record, problem, detail)
 */
Datum
ringfence_audit_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	RfVerify	verify = {0};

	InitMaterializedSRF(fcinfo, 0);
	verify.findings = result->setResult;
	verify.desc = result->setDesc;
	verify.org = PG_ARGISNULL(3) ? NULL : (RfUuid *) PG_GETARG_UUID_P(3);
	rf_verify_chain(&verify, PG_ARGISNULL(0) ? 1 : PG_GETARG_INT64(0),
					PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1),
					PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
	return (Datum) 0;
}
