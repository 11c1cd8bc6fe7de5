/*
 * seal.c: audit_seal(), which closes a block over the newest records.
 *
 * One seal at a time: SHARE ROW EXCLUSIVE on audit_blocks, taken before the
 * snapshot and held until the transaction ends. Writers of records take no lock
 * that conflicts with it. seal_block.c argues why nothing slips in behind a
 * block.
 *
 * A block's leaves are collected in memory, 68 bytes each, sorted by org and
 * id, and written with their trees' roots. The chain's end is checked first: a
 * block on top of a chain whose head says something else would bury what
 * happened to it.
 *
 * Rows are inserted as the catalogs' are, past row security, triggers and
 * privileges: no role may write these tables. audit_seal_block() is for
 * ringfence_owner, which owns them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"

#define MIN_ENTRIES 8

PG_FUNCTION_INFO_V1(ringfence_audit_seal_block);
PG_FUNCTION_INFO_V1(ringfence_audit_endorse_key);

/* A seal at work. */
typedef struct Seal
{
	Relation	blocks;
	Snapshot	snapshot;
	RfDigest   *digest;
	RfSigner   *signer;
	bool		has_previous;
	RfBlock		previous;
	RfHead		head;
	RfSealKey  *keys;
	int			nkeys;
	int64		newest;			/* the highest number that was given, or 0 */
	bool		damaged;		/* the end isn't what the head says */
	RfBlock		block;			/* the new one */
	RfLogQuery	query;
	CatalogIndexState org_indexes;
	CatalogIndexState leaf_indexes;
	Relation	orgs;
	Relation	leaves;
	unsigned char *part;		/* a part of a leaf list */
	uint64		norgs;
	uint64		max_entries;
	RfHash	   *entries;
} Seal;

static void
insert_row(Relation rel, CatalogIndexState indexes, int ncolumns,
		   const char *const *columns, const Datum *values)
{
	HeapTuple	tuple = rf_seal_tuple(rel, ncolumns, columns, values);

	if (indexes != NULL)
		CatalogTupleInsertWithInfo(rel, tuple, indexes);
	else
	{
		rf_seal_insertable(rel);
		CatalogTupleInsert(rel, tuple);
	}
	heap_freetuple(tuple);
}

/* Adds a key, endorsed or the first one. */
static void
insert_key(const RfSigner *endorser, const unsigned char *public_key,
		   const RfHash *key_id, TimestampTz added_at,
		   const unsigned char *endorsement)
{
	static const char *const columns[] = {
		"key_id", "public_key", "added_at", "endorsed_by", "endorsement",
	};
	Relation	rel = rf_seal_table("audit_keys", RowExclusiveLock);
	Datum		values[lengthof(columns)];
	int			n = 3;

	values[0] = rf_bytea(key_id, RF_HASH_BYTES);
	values[1] = rf_bytea(public_key, RF_HASH_BYTES);
	values[2] = TimestampTzGetDatum(added_at);
	if (endorser != NULL && endorsement != NULL)
	{
		values[3] = rf_bytea(&endorser->key_id, RF_HASH_BYTES);
		values[4] = rf_bytea(endorsement, RF_SIGNATURE_BYTES);
		n = 5;
	}
	insert_row(rel, NULL, n, columns, values);
	relation_close(rel, NoLock);
}

/* Reads the end of the chain, the keys and the head, with a new snapshot. */
static void
read_chain(Seal *seal)
{
	Relation	rel = rf_seal_table("audit_keys", AccessShareLock);
	RfBlock		first;
	bool		has_first;

	seal->has_previous = rf_block_newest(seal->blocks, seal->snapshot,
										 &seal->previous);
	seal->newest = seal->has_previous ? seal->previous.number : 0;
	has_first = seal->has_previous &&
		rf_block_find(seal->blocks, seal->snapshot, 1, false, &first);
	seal->keys = rf_keys_read(rel, seal->snapshot, &seal->nkeys);
	rf_keys_trust(seal->digest, seal->keys, seal->nkeys,
				  has_first ? &first.key_id : NULL);
	relation_close(rel, NoLock);
	rel = rf_seal_table("audit_head", AccessShareLock);
	rf_head_read(rel, seal->snapshot, &seal->head);
	relation_close(rel, NoLock);
}

/*
 * Makes sure that the configured key is one of the chain's: registers the very
 * first, and refuses any other that no earlier one endorsed.
 */
static void
check_key(Seal *seal)
{
	RfSealKey  *key;

	if (seal->nkeys == 0 && !seal->has_previous)
	{
		insert_key(NULL, seal->signer->public_key, &seal->signer->key_id,
				   GetCurrentTimestamp(), NULL);
		return;
	}
	key = rf_keys_find(seal->keys, seal->nkeys, &seal->signer->key_id);
	if (key == NULL || !key->trusted)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit key is not one of the chain's"),
				 errhint("Configure the earlier key, call %s with the public part of the new one, then configure that.",
						 "ringfence.audit_endorse_key()")));
}

/* Did a key of the chain's sign the head? */
static bool
head_signed(const Seal *seal)
{
	const RfHead *head = &seal->head;
	RfSealKey  *key = rf_keys_find(seal->keys, seal->nkeys, &head->key_id);
	unsigned char message[RF_HEAD_BYTES];

	rf_head_message(head->number, &head->hash, head->stated_at, &head->key_id,
					message);
	return head->rows > 0 && head->broken == NULL && key != NULL &&
		key->trusted && rf_signature_valid(key->public_key, message,
										   sizeof(message), head->signature);
}

/*
 * Goes on after the newest block that can be read, past every number that was
 * given, and past one more: the gap is for ever a finding of audit_verify().
 */
static void
skip_damage(Seal *seal)
{
	seal->damaged = true;
	while (seal->has_previous && seal->previous.broken != NULL)
		seal->has_previous = rf_block_before(seal->blocks, seal->snapshot,
											 seal->previous.number - 1,
											 &seal->previous);
	if (head_signed(seal))
		seal->newest = Max(seal->newest, seal->head.number);
	seal->newest++;
}

/*
 * Does the chain end where its head says? Throws XX001 if not, unless that is
 * accepted.
 */
static void
check_end(Seal *seal, bool accept)
{
	const RfHead *head = &seal->head;
	const RfBlock *newest = &seal->previous;

	if (head->rows != (seal->has_previous ? 1 : 0) ||
		(seal->has_previous &&
		 (newest->broken != NULL || head->number != newest->number ||
		  memcmp(&head->hash, &newest->hash, RF_HASH_BYTES) != 0)))
	{
		if (!accept)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the audit chain does not end where its head says"),
					 errhint("%s tells what was altered; when that is looked into, %s goes on.",
							 "ringfence.audit_verify()",
							 "ringfence.audit_accept_damage()")));
		skip_damage(seal);
	}
	else if (accept)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit chain ends where its head says"),
				 errdetail("There is no damage that %s stops at.",
						   "ringfence.audit_seal()")));
	if (seal->has_previous &&
		newest->incarnation == seal->block.incarnation &&
		seal->block.xids.xmax < newest->xids.xmax)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("transaction ids have gone back since the newest audit block")));
}

/* The new block takes what no block covers yet. */
static int
place_in_new_block(void *arg, const RfPlacing *record)
{
	Seal	   *seal = arg;

	if (!rf_block_covers(&seal->block, record->incarnation, record->xid) ||
		(seal->has_previous &&
		 rf_block_covers(&seal->previous, record->incarnation, record->xid)))
		return -1;
	return 0;
}

static void
collect_records(Seal *seal)
{
	RfLogQuery *query = &seal->query;
	int			nshapes;
	RfShapeName *shapes = rf_seal_shapes(seal->snapshot, &nshapes);

	query->snapshot = seal->snapshot;
	query->place = place_in_new_block;
	query->arg = seal;
	query->maker = rf_leaf_begin(seal->digest, shapes, nshapes);
	rf_block_ranges(seal->has_previous ? &seal->previous : NULL,
					&seal->block, query);
	rf_log_query(query);
	rf_log_sort(query);
}

/* Writes the leaves of one organization, and its root and entry. */
static void
write_org(Seal *seal, const RfItem *items, uint64 count)
{
	static const char *const leaf_columns[] = {"org_id", "block", "part", "leaves"};
	static const char *const org_columns[] = {"org_id", "block", "records", "root", "previous"};
	Datum		values[5];
	int64		previous = rf_org_last(seal->orgs, seal->snapshot, &items->org,
									   seal->block.number - 1, NULL);
	RfHash		root;
	unsigned char *end = seal->part;
	int			part = 0;

	rf_tree_of(seal->digest, &items->leaf, sizeof(RfItem), count, &root);
	values[0] = UUIDPGetDatum((pg_uuid_t *) &items->org);
	values[1] = Int64GetDatum(seal->block.number);
	for (uint64 i = 0; i < count; i++)
	{
		end = rf_put_bytes(end, &items[i].id, RF_UUID_BYTES);
		end = rf_put_bytes(end, &items[i].leaf, RF_HASH_BYTES);
		if ((i + 1) % RF_LEAVES_PER_PART != 0 && i + 1 < count)
			continue;
		CHECK_FOR_INTERRUPTS();
		values[2] = Int32GetDatum(part++);
		values[3] = rf_bytea(seal->part, end - seal->part);
		insert_row(seal->leaves, seal->leaf_indexes, 4, leaf_columns, values);
		pfree(DatumGetPointer(values[3]));
		end = seal->part;
	}
	values[2] = Int64GetDatum((int64) count);
	values[3] = rf_bytea(&root, RF_HASH_BYTES);
	values[4] = Int64GetDatum(previous);
	insert_row(seal->orgs, seal->org_indexes, 5, org_columns, values);
	pfree(DatumGetPointer(values[3]));

	if (seal->norgs == seal->max_entries)
	{
		seal->max_entries *= 2;
		seal->entries = repalloc_huge(seal->entries,
									  seal->max_entries * sizeof(RfHash));
	}
	rf_org_entry(seal->digest, &items->org, seal->block.number, previous,
				 count, &root, &seal->entries[seal->norgs++]);
}

static int
compare_hashes(const void *a, const void *b)
{
	return memcmp(a, b, RF_HASH_BYTES);
}

/*
 * Brings the entries to a power of two with random ones, and into an order that
 * says nothing. max_entries is one already.
 */
static void
pad_entries(Seal *seal)
{
	uint64		count = MIN_ENTRIES;

	while (count < seal->norgs)
		count *= 2;
	if (!pg_strong_random(&seal->entries[seal->norgs],
						  (count - seal->norgs) * sizeof(RfHash)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	qsort(seal->entries, count, sizeof(RfHash), compare_hashes);
	seal->block.nentries = count;
	seal->block.entries = seal->entries;
	rf_tree_of(seal->digest, seal->entries, sizeof(RfHash), count,
			   &seal->block.root);
}

/* Writes all organizations' leaves, and makes the block's root of them. */
static void
write_orgs(Seal *seal)
{
	RfItem	   *items = seal->query.items;
	uint64		begin = 0;

	seal->orgs = rf_seal_table("audit_block_orgs", RowExclusiveLock);
	seal->leaves = rf_seal_table("audit_leaves", RowExclusiveLock);
	rf_seal_insertable(seal->orgs);
	rf_seal_insertable(seal->leaves);
	seal->org_indexes = CatalogOpenIndexes(seal->orgs);
	seal->leaf_indexes = CatalogOpenIndexes(seal->leaves);
	seal->max_entries = MIN_ENTRIES;
	seal->entries = palloc(seal->max_entries * sizeof(RfHash));
	seal->part = palloc(RF_LEAVES_PER_PART * RF_LISTED_LEAF_BYTES);
	for (uint64 i = 1; i <= seal->query.nitems; i++)
	{
		if (i < seal->query.nitems &&
			memcmp(&items[i].org, &items[begin].org, RF_UUID_BYTES) == 0)
			continue;
		write_org(seal, &items[begin], i - begin);
		begin = i;
	}
	pad_entries(seal);
	CatalogCloseIndexes(seal->org_indexes);
	CatalogCloseIndexes(seal->leaf_indexes);
	relation_close(seal->orgs, NoLock);
	relation_close(seal->leaves, NoLock);
}

/* Completes the block, signs it and writes it. */
static void
write_block(Seal *seal)
{
	static const char *const columns[] = {
		"number", "incarnation", "snapshot", "sealed_at", "records", "nonce",
		"root", "entries", "previous", "details", "hash", "key_id", "signature",
	};
	RfBlock    *block = &seal->block;
	unsigned char header[RF_HEADER_BYTES];
	Datum		values[lengthof(columns)];

	block->records = (int64) seal->query.nitems;
	block->key_id = seal->signer->key_id;
	if (seal->has_previous)
		block->previous = seal->previous.hash;
	if (!pg_strong_random(block->nonce, RF_NONCE_BYTES))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	rf_block_details(seal->digest, block, &block->details);
	rf_block_header(block, header);
	rf_digest(seal->digest, header, sizeof(header), &block->hash);
	rf_sign(seal->signer, header, sizeof(header), block->signature);

	values[0] = Int64GetDatum(block->number);
	values[1] = Int32GetDatum((int32) block->incarnation);
	values[2] = block->xids.datum;
	values[3] = TimestampTzGetDatum(block->sealed_at);
	values[4] = Int64GetDatum(block->records);
	values[5] = rf_bytea(block->nonce, RF_NONCE_BYTES);
	values[6] = rf_bytea(&block->root, RF_HASH_BYTES);
	values[7] = rf_bytea(block->entries, block->nentries * sizeof(RfHash));
	values[8] = rf_bytea(&block->previous, RF_HASH_BYTES);
	values[9] = rf_bytea(&block->details, RF_HASH_BYTES);
	values[10] = rf_bytea(&block->hash, RF_HASH_BYTES);
	values[11] = rf_bytea(&block->key_id, RF_HASH_BYTES);
	values[12] = rf_bytea(block->signature, RF_SIGNATURE_BYTES);
	insert_row(seal->blocks, NULL, lengthof(columns), columns, values);
}

/* States the new head in place of the old one. */
static void
write_head(Seal *seal)
{
	static const char *const columns[] = {
		"singleton", "number", "hash", "stated_at", "key_id", "signature",
	};
	Relation	rel = rf_seal_table("audit_head", RowExclusiveLock);
	RfBlock    *block = &seal->block;
	unsigned char message[RF_HEAD_BYTES];
	unsigned char signature[RF_SIGNATURE_BYTES];
	Datum		values[lengthof(columns)];
	HeapTuple	tuple;

	rf_head_message(block->number, &block->hash, block->sealed_at,
					&block->key_id, message);
	rf_sign(seal->signer, message, sizeof(message), signature);
	values[0] = BoolGetDatum(true);
	values[1] = Int64GetDatum(block->number);
	values[2] = rf_bytea(&block->hash, RF_HASH_BYTES);
	values[3] = TimestampTzGetDatum(block->sealed_at);
	values[4] = rf_bytea(&block->key_id, RF_HASH_BYTES);
	values[5] = rf_bytea(signature, RF_SIGNATURE_BYTES);
	tuple = rf_seal_tuple(rel, lengthof(columns), columns, values);
	rf_seal_insertable(rel);
	if (seal->head.rows > 0)
		CatalogTupleUpdate(rel, &seal->head.tid, tuple);
	else
		CatalogTupleInsert(rel, tuple);
	relation_close(rel, NoLock);
}

/*
 * audit_seal_block(accept_damage boolean) returns bigint: seals what was
 * committed since the last block, or returns NULL if that is nothing. After
 * damage that is accepted there is a block in any case.
 */
Datum
ringfence_audit_seal_block(PG_FUNCTION_ARGS)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "ringfence audit seal",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Seal	   *seal = palloc0(sizeof(Seal));
	FullTransactionId own;
	TransactionId *running;
	int			nrunning;
	int64		number;

	PreventCommandIfReadOnly("audit_seal()");
	PreventCommandIfParallelMode("audit_seal()");
	/* A crash must not lose a block that a checkpoint has been published of. */
	ForceSyncCommit();
	seal->digest = rf_digest_create(CurrentMemoryContext);
	seal->signer = rf_signer_open(seal->digest, false);
	seal->blocks = rf_seal_table("audit_blocks", ShareRowExclusiveLock);
	seal->block.incarnation = (uint32) rf_audit_incarnation();
	own = GetTopFullTransactionId();
	running = rf_xids_running(&nrunning);
	/* What this transaction did so far is visible too, but isn't complete. */
	CommandCounterIncrement();
	seal->snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* What begins from here on is dated later than this. */
	seal->block.sealed_at = GetCurrentTimestamp();
	rf_xids_take(&seal->block.xids, seal->snapshot, own, running, nrunning);

	read_chain(seal);
	check_end(seal, PG_GETARG_BOOL(0));
	check_key(seal);
	seal->block.number = seal->newest + 1;
	collect_records(seal);
	number = seal->query.nitems > 0 || seal->damaged ? seal->block.number : 0;
	if (number > 0)
	{
		write_orgs(seal);
		write_block(seal);
		write_head(seal);
		rf_log_summarize(&seal->query);
	}
	UnregisterSnapshot(seal->snapshot);
	relation_close(seal->blocks, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	if (number == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(number);
}

/*
 * audit_endorse_key(public_key bytea): vouches, with the configured key, for
 * another one, so that it can be configured next.
 */
Datum
ringfence_audit_endorse_key(PG_FUNCTION_ARGS)
{
	bytea	   *public_key = PG_GETARG_BYTEA_PP(0);
	Seal	   *seal = palloc0(sizeof(Seal));
	TimestampTz now = GetCurrentTimestamp();
	unsigned char message[RF_ENDORSEMENT_BYTES];
	unsigned char signature[RF_SIGNATURE_BYTES];
	RfHash		id;

	PreventCommandIfReadOnly("audit_endorse_key()");
	if (VARSIZE_ANY_EXHDR(public_key) != RF_HASH_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a public key must have %d bytes", RF_HASH_BYTES),
				 errhint("They are the last ones of \"openssl pkey -in FILE -pubout -outform DER\".")));
	seal->digest = rf_digest_create(CurrentMemoryContext);
	seal->signer = rf_signer_open(seal->digest, false);
	seal->blocks = rf_seal_table("audit_blocks", ShareRowExclusiveLock);
	seal->snapshot = RegisterSnapshot(GetLatestSnapshot());
	read_chain(seal);
	check_key(seal);
	rf_digest(seal->digest, VARDATA_ANY(public_key), RF_HASH_BYTES, &id);
	if (rf_keys_find(seal->keys, seal->nkeys, &id) != NULL ||
		memcmp(&id, &seal->signer->key_id, RF_HASH_BYTES) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("that audit key is one of the chain's already")));
	rf_endorsement_message((unsigned char *) VARDATA_ANY(public_key), now,
						   message);
	rf_sign(seal->signer, message, sizeof(message), signature);
	insert_key(seal->signer, (unsigned char *) VARDATA_ANY(public_key), &id,
			   now, signature);
	UnregisterSnapshot(seal->snapshot);
	relation_close(seal->blocks, NoLock);
	PG_RETURN_BYTEA_P(DatumGetByteaPP(rf_bytea(&id, RF_HASH_BYTES)));
}
