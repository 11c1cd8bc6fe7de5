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
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"

#define MIN_RUN 64				/* blocks that a run has room for at first, */
#define MAX_RUN 65536			/* and at most */
#define MAX_DISTANCE 4096		/* how far off a block out of order may be */
#define MAX_NAMED_GAP 1000		/* missing blocks that are named one by one */
#define MAX_RENUMBERED 100000	/* numbers tried for blocks out of order */

PG_FUNCTION_INFO_V1(ringfence_audit_verify);

/* The chain while it is read. */
typedef struct Chain
{
	RfVerify   *verify;
	Relation	blocks;
	int64		newest;			/* number of the last block read, or 0 */
	RfHash		newest_hash;
	bool		newest_signed;	/* by a key that is known */
	int			room;			/* for blocks in the run */
	int64		weight;			/* bytes that the run will take, roughly */
	int64		tried;			/* numbers tried for blocks out of order */
	MemoryContext last;			/* holds verify->previous */
} Chain;

/* Adds a row to the result. */
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

/* A fixed number of bytes as hexadecimal, palloc'd. */
static char *
hex(const void *data, int len)
{
	const unsigned char *bytes = data;
	char	   *digits = palloc(2 * len + 1);

	for (int i = 0; i < len; i++)
		sprintf(digits + 2 * i, "%02x", bytes[i]);
	return digits;
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
					   hex(&verify->keys[i].id, RF_HASH_BYTES));

	signer = rf_signer_open(verify->digest, true);
	if (signer != NULL && has_first)
	{
		RfSealKey  *key = rf_keys_find(verify->keys, verify->nkeys,
									   &signer->key_id);

		if (key == NULL || !key->trusted)
			rf_finding(verify, 0, NULL, NULL, "key_unknown",
					   "key %s, which the server signs with, is not one of the chain's: the keys were replaced",
					   hex(&signer->key_id, RF_HASH_BYTES));
	}
}

/* Is it signed by a key that is known, trusted or not? Says so if not. */
static bool
verify_signature(Chain *chain, int64 number, const RfHash *key_id,
				 const void *message, size_t len,
				 const unsigned char *signature, const char *what)
{
	RfVerify   *verify = chain->verify;
	RfSealKey  *key = rf_keys_find(verify->keys, verify->nkeys, key_id);

	if (key == NULL || key->broken != NULL)
		rf_finding(verify, number, NULL, NULL, "key_unknown",
				   "%s is signed with key %s, which is not in audit_keys",
				   what, hex(key_id, RF_HASH_BYTES));
	else if (!rf_signature_valid(key->public_key, message, len, signature))
		rf_finding(verify, number, NULL, NULL, "signature_invalid",
				   "the signature of %s does not hold", what);
	else
		return true;
	return false;
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
 * A block by itself: columns, details, hash and signature. One that was sealed
 * under another number is looked at as that one from here on.
 */
static void
verify_header(Chain *chain, RfBlock *block)
{
	RfVerify   *verify = chain->verify;
	unsigned char header[RF_HEADER_BYTES];
	RfHash		hash;

	chain->newest_signed = false;
	if (block->broken != NULL)
	{
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
	if (memcmp(&hash, &block->hash, RF_HASH_BYTES) != 0)
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
	chain->newest_signed = verify_signature(chain, block->stored,
											&block->key_id, header,
											sizeof(header), block->signature,
											"the block");
}

/* Says which blocks are missing, both included. */
static void
report_gap(Chain *chain, int64 first, int64 last)
{
	if (last - first >= MAX_NAMED_GAP)
		rf_finding(chain->verify, first, NULL, NULL, "block_missing",
				   "blocks " INT64_FORMAT " to " INT64_FORMAT " are missing",
				   first, last);
	else
		for (int64 number = first; number <= last; number++)
			rf_finding(chain->verify, number, NULL, NULL, "block_missing",
					   "block " INT64_FORMAT " is missing", number);
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
		report_gap(chain, previous == NULL ? 1 : previous->stored + 1,
				   block->stored - 1);
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
take_block(Chain *chain, HeapTuple tuple, int64 first)
{
	RfVerify   *verify = chain->verify;
	MemoryContext old = MemoryContextSwitchTo(verify->context);
	RfBlock		block;
	int64		records;

	rf_block_read(chain->blocks, tuple, true, &block);
	block.stored = block.number;
	chain->newest = block.number;
	chain->newest_hash = block.hash;
	if (block.number < first)
	{
		/* Only what the first block of the range follows. */
		MemoryContextSwitchTo(chain->last);
		verify->previous = palloc(sizeof(RfBlock));
		rf_block_read(chain->blocks, tuple, false, verify->previous);
		verify->previous->stored = block.number;
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

static void
verify_blocks(Chain *chain, int64 first, int64 last)
{
	static const char *const columns[] = {"number"};
	Oid			index_oid = rf_seal_index(chain->blocks, 1, columns);
	AttrNumber	number = rf_seal_column(chain->blocks, "number", INT8OID);
	Relation	index;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;

	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no index on (%s)",
						RelationGetRelationName(chain->blocks), "number")));
	ScanKeyInit(&keys[0], number, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(first > 1 ? first - 1 : PG_INT64_MIN));
	ScanKeyInit(&keys[1], number, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(last));
	index = index_open(index_oid, AccessShareLock);
	scan = systable_beginscan_ordered(chain->blocks, index,
									  chain->verify->snapshot, 2, keys);
	while ((tuple = systable_getnext_ordered(scan,
											 ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		take_block(chain, tuple, first);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	end_run(chain);
}

/* What audit_head states, against the end of the chain. */
static void
verify_head(Chain *chain)
{
	RfVerify   *verify = chain->verify;
	Relation	rel = rf_seal_table("audit_head", AccessShareLock);
	unsigned char message[RF_HEAD_BYTES];
	RfBlock		newest;
	RfHead		head;

	rf_head_read(rel, verify->snapshot, &head);
	relation_close(rel, NoLock);
	/* Of a range that begins after the last block, none was read. */
	if (chain->newest == 0 &&
		rf_block_newest(chain->blocks, verify->snapshot, &newest))
	{
		chain->newest = newest.number;
		chain->newest_hash = newest.hash;
	}
	if (head.rows == 0 && chain->newest == 0)
		return;
	if (head.rows != 1 || head.broken != NULL)
	{
		rf_finding(verify, 0, NULL, NULL, "head_altered",
				   "audit_head has %d rows or a damaged one, not the one that states the newest block",
				   head.rows);
		return;
	}
	rf_head_message(head.number, &head.hash, head.stated_at, &head.key_id,
					message);
	(void) verify_signature(chain, 0, &head.key_id, message, sizeof(message),
							head.signature, "the head");
	if (head.number > chain->newest)
		report_gap(chain, chain->newest + 1, head.number);
	else if (head.number < chain->newest && !chain->newest_signed)
		rf_finding(verify, chain->newest, NULL, NULL, "block_inserted",
				   "the head states block " INT64_FORMAT " as the newest",
				   head.number);
	else if (head.number < chain->newest)
		rf_finding(verify, chain->newest, NULL, NULL, "head_altered",
				   "the head states block " INT64_FORMAT ", but the newest is block " INT64_FORMAT,
				   head.number, chain->newest);
	else if (memcmp(&head.hash, &chain->newest_hash, RF_HASH_BYTES) != 0)
		rf_finding(verify, head.number, NULL, NULL, "head_altered",
				   "the head states another hash of the newest block");
}

/* A checkpoint that was published, against the chain. */
static void
verify_checkpoint(Chain *chain, Jsonb *json)
{
	RfVerify   *verify = chain->verify;
	RfCheckpoint checkpoint;
	unsigned char message[RF_HEAD_BYTES];
	RfBlock		block;
	RfHash		key_id;
	RfSealKey  *key;

	rf_checkpoint_parse(json, &checkpoint);
	rf_digest(verify->digest, checkpoint.public_key, RF_HASH_BYTES, &key_id);
	rf_head_message(checkpoint.number, &checkpoint.hash, checkpoint.stated_at,
					&key_id, message);
	if (!rf_signature_valid(checkpoint.public_key, message, sizeof(message),
							checkpoint.signature))
	{
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint's own signature does not hold");
		return;
	}
	key = rf_keys_find(verify->keys, verify->nkeys, &key_id);
	if (key == NULL || !key->trusted)
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint is signed with key %s, which is not one of the chain's: the keys were replaced, or it is another chain's",
				   hex(&key_id, RF_HASH_BYTES));
	if (!rf_block_find(chain->blocks, verify->snapshot, checkpoint.number,
					   false, &block))
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint states block " INT64_FORMAT ", which is not there",
				   checkpoint.number);
	else if (memcmp(&block.hash, &checkpoint.hash, RF_HASH_BYTES) != 0)
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint states another hash of this block: it, or one before it, is not the one that was sealed");
}

/*
 * audit_verify(first, last, checkpoint, org) returns setof (block, org_id,
 * record, problem, detail)
 */
Datum
ringfence_audit_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		first = PG_ARGISNULL(0) ? 1 : Max(PG_GETARG_INT64(0), 1);
	int64		last = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1);
	MemoryContext context;
	MemoryContext old;
	RfVerify	verify = {0};
	Chain		chain = {0};
	RfShapeName *shapes;
	int			nshapes;

	InitMaterializedSRF(fcinfo, 0);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"ringfence audit verification",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	verify.context = AllocSetContextCreate(context, "ringfence audit run",
										   ALLOCSET_DEFAULT_SIZES);
	verify.findings = result->setResult;
	verify.desc = result->setDesc;
	verify.org = PG_ARGISNULL(3) ? NULL : (RfUuid *) PG_GETARG_UUID_P(3);
	verify.snapshot = RegisterSnapshot(GetLatestSnapshot());
	verify.digest = rf_digest_create();
	shapes = rf_seal_shapes(verify.snapshot, &nshapes);
	verify.maker = rf_leaf_begin(verify.digest, shapes, nshapes);
	chain.verify = &verify;
	chain.last = AllocSetContextCreate(context, "ringfence audit block",
									   ALLOCSET_SMALL_SIZES);
	chain.blocks = rf_seal_table("audit_blocks", AccessShareLock);

	verify_keys(&chain);
	verify_blocks(&chain, first, last);
	if (PG_ARGISNULL(1))
		verify_head(&chain);
	if (!PG_ARGISNULL(2))
		verify_checkpoint(&chain, PG_GETARG_JSONB_P(2));
	relation_close(chain.blocks, NoLock);
	UnregisterSnapshot(verify.snapshot);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return (Datum) 0;
}
