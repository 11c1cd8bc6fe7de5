/*
 * seal_proof.c: what can be checked outside the database: proofs that a record
 * was sealed, and signed heads of the chain to publish elsewhere.
 *
 * A proof is made of what was sealed; the record beside it is the one that is
 * there now, and whoever checks the proof computes its leaf. Of other
 * organizations it says nothing but hashes and the padded number of entries.
 *
 * The tables have no index on records' ids. An id is a UUID of version 7, so
 * its time tells where in the chain to begin; what isn't found from there on is
 * looked for before.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"

#define PROOF_VERSION 1
#define CLOCK_SLACK (5 * USECS_PER_MINUTE)

PG_FUNCTION_INFO_V1(ringfence_audit_proof);
PG_FUNCTION_INFO_V1(ringfence_audit_checkpoint);
PG_FUNCTION_INFO_V1(ringfence_audit_key_usable);
PG_FUNCTION_INFO_V1(ringfence_audit_sealed_at);

/* Where a record's leaf is. */
typedef struct Found
{
	int64		block;
	RfUuid		org;
	unsigned char *list;		/* all of the org's leaves in the block */
	uint64		count;
	uint64		index;
} Found;

static void
append_hex(StringInfo json, const char *name, const void *data, int len)
{
	const unsigned char *bytes = data;

	if (name != NULL)
		appendStringInfo(json, ", \"%s\": ", name);
	appendStringInfoChar(json, '"');
	for (int i = 0; i < len; i++)
		appendStringInfo(json, "%02x", bytes[i]);
	appendStringInfoChar(json, '"');
}

static void
append_path(StringInfo json, const char *name, const RfHash *path, int length)
{
	appendStringInfo(json, ", \"%s\": [", name);
	for (int i = 0; i < length; i++)
	{
		if (i > 0)
			appendStringInfoString(json, ", ");
		append_hex(json, NULL, &path[i], RF_HASH_BYTES);
	}
	appendStringInfoChar(json, ']');
}

pg_noreturn static void
refuse_damaged(int64 number)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("audit block " INT64_FORMAT " is not as it was sealed",
					number),
			 errhint("%s tells what was altered.",
					 "ringfence.audit_verify()")));
}

/* The place of an id in leaves that are in its order; false if it isn't there. */
static bool
find_in_leaves(const unsigned char *leaves, uint64 count, const RfUuid *id,
			   uint64 *index)
{
	uint64		low = 0;
	uint64		high = count;

	while (low < high)
	{
		uint64		middle = low + (high - low) / 2;
		int			order = memcmp(leaves + middle * RF_LISTED_LEAF_BYTES, id,
								   RF_UUID_BYTES);

		if (order == 0)
		{
			*index = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* The first block that can have a record of that id. */
static int64
first_block(Relation blocks, Snapshot snapshot, const RfUuid *id)
{
	TimestampTz moment = 0;
	RfBlock		block;
	int64		low = 1;
	int64		high;

	if (id->data[6] >> 4 != 7 || !rf_block_newest(blocks, snapshot, &block))
		return 1;
	for (int i = 0; i < 6; i++)
		moment = moment << 8 | id->data[i];
	moment = moment * 1000 - (int64) rf_unix_time(0) - CLOCK_SLACK;
	high = block.number;
	while (low < high)
	{
		int64		middle = low + (high - low) / 2;

		if (!rf_block_find(blocks, snapshot, middle, false, &block))
			return 1;
		if (block.sealed_at < moment)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A scan of leaf lists in the order of blocks; of one org, or of all. */
static SysScanDesc
begin_leaves(Relation rel, Relation *index, Snapshot snapshot, int64 first,
			 int64 last, const RfUuid *org)
{
	static const char *const by_block[] = {"block", "org_id", "part"};
	static const char *const by_org[] = {"org_id", "block", "part"};
	Oid			index_oid = rf_seal_index(rel, 3, org != NULL ? by_org : by_block);
	AttrNumber	block = rf_seal_column(rel, "block", INT8OID);
	ScanKeyData keys[3];
	int			nkeys = 0;

	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no index on (%s)",
						RelationGetRelationName(rel),
						org != NULL ? "org_id, block, part" :
						"block, org_id, part")));
	if (org != NULL)
		ScanKeyInit(&keys[nkeys++], rf_seal_column(rel, "org_id", UUIDOID),
					BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum((pg_uuid_t *) org));
	ScanKeyInit(&keys[nkeys++], block, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(first));
	ScanKeyInit(&keys[nkeys++], block, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(last));
	*index = index_open(index_oid, AccessShareLock);
	return systable_beginscan_ordered(rel, *index, snapshot, nkeys, keys);
}

/* Reads one list into found->list, all parts, and finds the id in it. */
static bool
read_list(Relation rel, Snapshot snapshot, const RfUuid *id, Found *found)
{
	Relation	index;
	SysScanDesc scan = begin_leaves(rel, &index, snapshot, found->block,
									found->block, &found->org);
	HeapTuple	tuple;
	size_t		len = 0;

	while ((tuple = systable_getnext_ordered(scan,
											 ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		Datum		value = rf_seal_value(rel, tuple, "leaves", BYTEAOID,
										  &isnull);
		bytea	   *bytes = isnull ? NULL : DatumGetByteaPP(value);
		size_t		more = isnull ? 0 : VARSIZE_ANY_EXHDR(bytes);

		CHECK_FOR_INTERRUPTS();
		if (more == 0)
			continue;
		found->list = found->list == NULL ?
			MemoryContextAllocHuge(CurrentMemoryContext, more) :
			repalloc_huge(found->list, len + more);
		memcpy(found->list + len, VARDATA_ANY(bytes), more);
		len += more;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	found->count = len / RF_LISTED_LEAF_BYTES;
	return len % RF_LISTED_LEAF_BYTES == 0 &&
		find_in_leaves(found->list, found->count, id, &found->index);
}

/* Looks for the id in the leaf lists of some blocks. */
static bool
find_leaf(Relation rel, Snapshot snapshot, const RfUuid *id,
		  const RfUuid *org, int64 first, int64 last, Found *found)
{
	Relation	index;
	SysScanDesc scan = begin_leaves(rel, &index, snapshot, first, last, org);
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext,
											  "ringfence audit leaves",
											  ALLOCSET_DEFAULT_SIZES);
	HeapTuple	tuple;
	bool		is_there = false;

	while (!is_there &&
		   (tuple = systable_getnext_ordered(scan,
											 ForwardScanDirection)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(row);
		bool		no_org;
		bool		no_block;
		bool		no_leaves;
		Datum		uuid = rf_seal_value(rel, tuple, "org_id", UUIDOID,
										 &no_org);
		Datum		leaves = rf_seal_value(rel, tuple, "leaves", BYTEAOID,
										   &no_leaves);

		CHECK_FOR_INTERRUPTS();
		found->block = rf_seal_int(rel, tuple, "block", INT8OID, &no_block);
		if (!no_org && !no_block && !no_leaves)
		{
			bytea	   *bytes = DatumGetByteaPP(leaves);

			memcpy(&found->org, DatumGetUUIDP(uuid), RF_UUID_BYTES);
			is_there = find_in_leaves((unsigned char *) VARDATA_ANY(bytes),
									  VARSIZE_ANY_EXHDR(bytes) / RF_LISTED_LEAF_BYTES,
									  id, &found->index);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	MemoryContextDelete(row);
	return is_there;
}

/* Is there a leaf of an organization's record of that id? */
bool
rf_is_sealed(Relation blocks, Snapshot snapshot, const RfUuid *id,
			 const RfUuid *org)
{
	Relation	leaves = rf_seal_table("audit_leaves", AccessShareLock);
	Found		found = {0};
	bool		result = find_leaf(leaves, snapshot, id, org,
								   first_block(blocks, snapshot, id),
								   PG_INT64_MAX, &found);

	relation_close(leaves, NoLock);
	return result;
}

/* The part of a proof that leads from the org's root to the signature. */
static void
append_block(StringInfo json, RfDigest *digest, const RfBlock *block,
			 const RfHash *entry, const RfSealKey *key)
{
	RfHash		path[RF_MAX_PATH];
	RfHash		root;
	uint64		index = 0;
	int			length;

	while (index < block->nentries &&
		   memcmp(&block->entries[index], entry, RF_HASH_BYTES) != 0)
		index++;
	rf_tree_of(digest, block->entries, RF_HASH_BYTES, block->nentries, &root);
	if (index == block->nentries || key == NULL || block->broken != NULL ||
		memcmp(&root, &block->root, RF_HASH_BYTES) != 0)
		refuse_damaged(block->number);
	length = rf_tree_path(digest, block->entries, RF_HASH_BYTES,
						  block->nentries, index, path);
	appendStringInfo(json, ", \"entry_index\": " UINT64_FORMAT
					 ", \"entries\": " UINT64_FORMAT, index, block->nentries);
	append_path(json, "entry_path", path, length);
	appendStringInfo(json, ", \"block\": {\"number\": " INT64_FORMAT
					 ", \"sealed_at\": " INT64_FORMAT, block->number,
					 (int64) rf_unix_time(block->sealed_at));
	append_hex(json, "root", &block->root, RF_HASH_BYTES);
	append_hex(json, "previous", &block->previous, RF_HASH_BYTES);
	append_hex(json, "details", &block->details, RF_HASH_BYTES);
	append_hex(json, "key_id", &block->key_id, RF_HASH_BYTES);
	append_hex(json, "hash", &block->hash, RF_HASH_BYTES);
	append_hex(json, "signature", block->signature, RF_SIGNATURE_BYTES);
	appendStringInfoChar(json, '}');
	append_hex(json, "public_key", key->public_key, RF_HASH_BYTES);
}

/* The proof as JSON text. Throws XX001 if the block can't be believed. */
static char *
proof_text(Relation blocks, Snapshot snapshot, const RfUuid *id,
		   const Found *found)
{
	RfDigest   *digest = rf_digest_create(CurrentMemoryContext);
	const unsigned char *leaves = found->list + RF_UUID_BYTES;
	Relation	keys_rel = rf_seal_table("audit_keys", AccessShareLock);
	Relation	orgs = rf_seal_table("audit_block_orgs", AccessShareLock);
	int			nkeys;
	RfSealKey  *keys = rf_keys_read(keys_rel, snapshot, &nkeys);
	int64		previous;
	StringInfoData json;
	RfHash		path[RF_MAX_PATH];
	RfHash		root;
	RfHash		entry;
	RfBlock		block;
	int			length;

	relation_close(keys_rel, NoLock);
	if (!rf_block_find(blocks, snapshot, found->block, true, &block))
		refuse_damaged(found->block);
	rf_tree_of(digest, leaves, RF_LISTED_LEAF_BYTES, found->count, &root);
	if (rf_org_last(orgs, snapshot, &found->org, found->block,
					&previous) != found->block)
		refuse_damaged(found->block);
	relation_close(orgs, NoLock);
	rf_org_entry(digest, &found->org, found->block, previous, found->count,
				 &root, &entry);
	length = rf_tree_path(digest, leaves, RF_LISTED_LEAF_BYTES, found->count,
						  found->index, path);

	initStringInfo(&json);
	appendStringInfo(&json, "{\"version\": %d, \"org_id\": \"%s\"",
					 PROOF_VERSION, rf_uuid_text(&found->org));
	appendStringInfo(&json, ", \"id\": \"%s\"", rf_uuid_text(id));
	append_hex(&json, "leaf", leaves + found->index * RF_LISTED_LEAF_BYTES,
			   RF_HASH_BYTES);
	appendStringInfo(&json, ", \"index\": " UINT64_FORMAT
					 ", \"records\": " UINT64_FORMAT
					 ", \"previous_block\": " INT64_FORMAT, found->index,
					 found->count, previous);
	append_path(&json, "path", path, length);
	append_block(&json, digest, &block, &entry,
				 rf_keys_find(keys, nkeys, &block.key_id));
	appendStringInfoString(&json, ", \"record\": null}");
	return json.data;
}

/* audit_proof(id uuid, org uuid) returns jsonb, NULL if no block has it */
Datum
ringfence_audit_proof(PG_FUNCTION_ARGS)
{
	RfUuid	   *id;
	RfUuid	   *org;
	Snapshot	snapshot;
	Relation	blocks;
	Relation	leaves;
	Found		found = {0};
	int64		first;
	Jsonb	   *proof = NULL;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	id = (RfUuid *) PG_GETARG_UUID_P(0);
	org = PG_ARGISNULL(1) ? NULL : (RfUuid *) PG_GETARG_UUID_P(1);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	blocks = rf_seal_table("audit_blocks", AccessShareLock);
	leaves = rf_seal_table("audit_leaves", AccessShareLock);
	first = first_block(blocks, snapshot, id);
	if ((find_leaf(leaves, snapshot, id, org, first, PG_INT64_MAX, &found) ||
		 (first > 1 && find_leaf(leaves, snapshot, id, org, 1, first - 1,
								 &found))) &&
		read_list(leaves, snapshot, id, &found))
	{
		char	   *json = proof_text(blocks, snapshot, id, &found);
		Datum		value = DirectFunctionCall1(jsonb_in,
												CStringGetDatum(json));

		proof = rf_record_into(DatumGetJsonbP(value),
							   rf_record_json(snapshot, &found.org, id));
	}
	relation_close(leaves, NoLock);
	relation_close(blocks, NoLock);
	UnregisterSnapshot(snapshot);
	if (proof == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(proof);
}

/* The end of the chain as audit_head states it; false if there is none yet. */
static bool
read_end(RfDigest *digest, Snapshot snapshot, const RfSigner *signer,
		 RfHead *head)
{
	Relation	blocks = rf_seal_table("audit_blocks", AccessShareLock);
	Relation	rel = rf_seal_table("audit_head", AccessShareLock);
	Relation	keys_rel = rf_seal_table("audit_keys", AccessShareLock);
	int			nkeys;
	RfSealKey  *keys = rf_keys_read(keys_rel, snapshot, &nkeys);
	RfSealKey  *key;
	RfBlock		newest;
	RfBlock		first;
	bool		any = rf_block_newest(blocks, snapshot, &newest);

	rf_head_read(rel, snapshot, head);
	rf_keys_trust(digest, keys, nkeys,
				  rf_block_find(blocks, snapshot, 1, false, &first) ?
				  &first.key_id : NULL);
	relation_close(keys_rel, NoLock);
	relation_close(rel, NoLock);
	relation_close(blocks, NoLock);
	if (!any && head->rows == 0)
		return false;
	key = rf_keys_find(keys, nkeys, &signer->key_id);
	if (!any || head->rows != 1 || head->number != newest.number ||
		memcmp(&head->hash, &newest.hash, RF_HASH_BYTES) != 0 ||
		key == NULL || !key->trusted)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the audit chain does not end where its head says, or its keys were replaced"),
				 errhint("%s tells what was altered.",
						 "ringfence.audit_verify()")));
	return true;
}

/* audit_checkpoint() returns jsonb, NULL as long as there is no block */
Datum
ringfence_audit_checkpoint(PG_FUNCTION_ARGS)
{
	RfDigest   *digest = rf_digest_create(CurrentMemoryContext);
	RfSigner   *signer = rf_signer_open(digest, false);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TimestampTz now = GetCurrentTimestamp();
	unsigned char message[RF_HEAD_BYTES];
	unsigned char signature[RF_SIGNATURE_BYTES];
	StringInfoData json;
	RfHead		head;
	bool		any = read_end(digest, snapshot, signer, &head);

	UnregisterSnapshot(snapshot);
	if (!any)
		PG_RETURN_NULL();
	rf_head_message(head.number, &head.hash, now, &signer->key_id, message);
	rf_sign(signer, message, sizeof(message), signature);
	initStringInfo(&json);
	appendStringInfo(&json, "{\"version\": %d, \"number\": " INT64_FORMAT
					 ", \"stated_at\": " INT64_FORMAT, PROOF_VERSION,
					 head.number, (int64) rf_unix_time(now));
	append_hex(&json, "hash", &head.hash, RF_HASH_BYTES);
	append_hex(&json, "public_key", signer->public_key, RF_HASH_BYTES);
	append_hex(&json, "signature", signature, RF_SIGNATURE_BYTES);
	appendStringInfoChar(&json, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* audit_key_usable() returns boolean */
Datum
ringfence_audit_key_usable(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(rf_signer_open(rf_digest_create(CurrentMemoryContext), true) != NULL);
}

/*
 * audit_sealed_at() returns timestamptz: past row security, which shows no
 * block to anybody outside an organization.
 */
Datum
ringfence_audit_sealed_at(PG_FUNCTION_ARGS)
{
	Oid			namespace_oid = get_namespace_oid(RF_DATA_SCHEMA, true);
	Relation	blocks;
	RfBlock		newest;
	bool		any;

	if (!OidIsValid(namespace_oid) ||
		!OidIsValid(get_relname_relid("audit_blocks", namespace_oid)))
		PG_RETURN_NULL();
	blocks = rf_seal_table("audit_blocks", AccessShareLock);
	any = rf_block_newest(blocks, GetActiveSnapshot(), &newest);
	relation_close(blocks, NoLock);
	if (!any)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(newest.sealed_at);
}
