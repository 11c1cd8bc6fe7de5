/*
 * audit_forget.c: personal values out of records, and the records stay.
 *
 * A record's leaf holds a commitment to each personal value instead of the
 * value: SHA-256 over a random salt and the value. Forgetting replaces salt and
 * value by that commitment, so that the leaf stays what it was, and nobody can
 * try values against it without the salt. This is the only change that a record
 * ever sees; like writing, it goes past triggers and privileges.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "audit.h"
#include "compat.h"
#include "seal.h"

PG_FUNCTION_INFO_V1(ringfence_audit_forget_record);

#define HASH_TEXT 44			/* RF_HASH_BYTES in base64 */

/* {"commitment": base64} for a {"salt", "value"}; itself for any other form. */
static void
push_forgotten(JsonbParseState **state, RfLeafMaker *maker, JsonbValue *value)
{
	RfHash		commitment;
	unsigned char encoded[HASH_TEXT + 1];
	JsonbValue	v;

	if (value->type != jbvBinary ||
		!rf_leaf_commitment(maker, value->val.binary.data,
							value->val.binary.len, &commitment))
	{
		(void) pushJsonbValue(state, WJB_VALUE, value);
		return;
	}
	(void) EVP_EncodeBlock(encoded, commitment.data, RF_HASH_BYTES);
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	v.type = jbvString;
	v.val.string.val = "commitment";
	v.val.string.len = strlen("commitment");
	(void) pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = pstrdup((char *) encoded);
	v.val.string.len = HASH_TEXT;
	(void) pushJsonbValue(state, WJB_VALUE, &v);
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/* A record's personal column with commitments for values. */
static Jsonb *
forget(Jsonb *personal)
{
	RfLeafMaker *maker = rf_leaf_begin(rf_digest_create(), NULL, 0);
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbIterator *it = JsonbIteratorInit(&personal->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	int			depth = 0;

	/* Sides are walked, and what is below a column is taken whole. */
	while ((token = JsonbIteratorNext(&it, &v, depth >= 2)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY)
			depth++;
		else if (token == WJB_END_OBJECT || token == WJB_END_ARRAY)
			depth--;
		if (token == WJB_VALUE && depth == 2)
			push_forgotten(&state, maker, &v);
		else
			result = pushJsonbValue(&state, token,
									token < WJB_BEGIN_ARRAY ? &v : NULL);
	}
	return JsonbValueToJsonb(result);
}

/* Puts a new version of a tuple in its place, with its index entries. */
static void
replace(Relation rel, HeapTuple old, HeapTuple new)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													&TTSOpsHeapTuple);

	rf_heap_update(rel, &old->t_self, new);
	ExecStoreHeapTuple(new, slot, false);
	slot->tts_tableOid = RelationGetRelid(rel);
	slot->tts_tid = new->t_self;
	if (!HeapTupleIsHeapOnly(new))
	{
		InitResultRelInfo(target, rel, 0, NULL, 0);
		ExecOpenIndices(target, false);
		rf_insert_index_tuples(target, slot, estate);
		ExecCloseIndices(target);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

static Relation
open_partition_of_log(Oid relid)
{
	Relation	log = rf_directory_open("audit_log", AccessShareLock);
	Relation	rel = try_table_open(relid, RowExclusiveLock);

	if (log == NULL || rel == NULL || !rel->rd_rel->relispartition ||
		get_partition_parent(relid, true) != RelationGetRelid(log))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("that is no partition of the audit log")));
	/* Two that forget the same record go one after the other. */
	LockRelation(log, ShareUpdateExclusiveLock);
	table_close(log, NoLock);
	return rel;
}

/*
 * audit_forget_record(partition oid, record tid): destroys the personal values
 * of a record; false if it has none. EXECUTE is ringfence_owner's alone.
 */
Datum
ringfence_audit_forget_record(PG_FUNCTION_ARGS)
{
	Relation	rel = open_partition_of_log(PG_GETARG_OID(0));
	AttrNumber	attno = get_attnum(RelationGetRelid(rel), "personal");
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		isnull = true;
	Datum		value = (Datum) 0;

	if (attno > 0 &&
		table_tuple_fetch_row_version(rel, (ItemPointer) PG_GETARG_POINTER(1), snapshot,
									  slot))
		value = slot_getattr(slot, attno, &isnull);
	if (!isnull)
	{
		HeapTuple	old = ExecCopySlotHeapTuple(slot);
		Datum	   *values = palloc0(RelationGetDescr(rel)->natts * sizeof(Datum));
		bool	   *nulls = palloc0(RelationGetDescr(rel)->natts * sizeof(bool));
		bool	   *replaced = palloc0(RelationGetDescr(rel)->natts * sizeof(bool));

		values[attno - 1] = JsonbPGetDatum(forget(DatumGetJsonbP(value)));
		replaced[attno - 1] = true;
		replace(rel, old, heap_modify_tuple(old, RelationGetDescr(rel), values,
											nulls, replaced));
		CommandCounterIncrement();
	}
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	PG_RETURN_BOOL(!isnull);
}
