/*
 * audit_forget.c: personal values out of records, and the records stay.
 *
 * A record's leaf holds a commitment to each personal value instead of the
 * value: SHA-256 over a random salt and the value. Forgetting replaces salt and
 * value by that commitment, so that the leaf stays what it was, and nobody can
 * try values against it without the salt. This is the only change that a record
 * ever sees; like writing, it goes past triggers and privileges.
 *
 * Whoever forgets holds SHARE UPDATE EXCLUSIVE on the log, so that two never
 * change the same record; writers of records don't wait for it. Records are
 * changed while the partition is scanned, which the scan's snapshot doesn't see,
 * and get their index entries some hundreds at a time.
 *
 * Memory: a forgetter has a context of its own, in the one that it was begun
 * in; what a record takes is in one that is reset for the next, and new tuples
 * in one that is reset with their index entries.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/valid.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "audit.h"
#include "audit_forget.h"
#include "compat.h"
#include "seal.h"
#include "table.h"

PG_FUNCTION_INFO_V1(ringfence_audit_forget);

#define HASH_TEXT 44			/* RF_HASH_BYTES in base64 */
#define MAX_WAITING 256			/* new tuples without index entries */

/* A partition whose records are forgotten. */
struct RfForgetter
{
	Relation	rel;
	AttrNumber	personal;
	RfLeafMaker *maker;
	MemoryContext context;
	MemoryContext record;		/* reset for each record */
	MemoryContext waiting;		/* of the tuples in the slots */
	int			nall;			/* slots from the front: for all indexes */
	int			nsummarizing;	/* from the end: for summarizing ones alone */
	TupleTableSlot *slots[MAX_WAITING]; /* NULL until needed */
};

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
forget(RfLeafMaker *maker, Jsonb *personal)
{
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

/*
 * The index of a partition that finds a row's records: by organization, table
 * and key, or else by organization alone. Sets how many of those it takes.
 */
static Oid
choose_index(Relation rel, int *nkeys)
{
	static const char *const columns[] = {"org_id", "relation_id", "key"};
	Oid			index_oid = rf_seal_index(rel, lengthof(columns), columns);

	*nkeys = lengthof(columns);
	if (OidIsValid(index_oid))
		return index_oid;
	*nkeys = 1;
	return rf_seal_index(rel, 1, columns);
}

/* Has a record values that can be forgotten? */
static bool
has_values(Jsonb *personal)
{
	JsonbIterator *it = JsonbIteratorInit(&personal->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	int			depth = 0;

	while ((token = JsonbIteratorNext(&it, &v, depth >= 3)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT)
			depth++;
		else if (token == WJB_END_OBJECT)
			depth--;
		else if (token == WJB_KEY && depth == 3 && v.val.string.len == 5 &&
				 memcmp(v.val.string.val, "value", 5) == 0)
			return true;
	}
	return false;
}

/*
 * Begins with a partition, which must be open and locked; no other must be at
 * work with it. Changes are seen by later commands after rf_forget_end().
 */
RfForgetter *
rf_forget_begin(Relation partition)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "ringfence audit forgetting",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	RfForgetter *forgetter = palloc0(sizeof(RfForgetter));

	forgetter->rel = partition;
	forgetter->personal = rf_seal_column(partition, "personal", JSONBOID);
	forgetter->maker = rf_leaf_begin(rf_digest_create(context), NULL, 0);
	forgetter->context = context;
	forgetter->record = AllocSetContextCreate(context,
											  "ringfence audit record",
											  ALLOCSET_DEFAULT_SIZES);
	forgetter->waiting = AllocSetContextCreate(context,
											   "ringfence audit records",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	return forgetter;
}

/* Makes the index entries of the tuples that wait for them. */
static void
index_waiting(RfForgetter *forgetter)
{
	TupleTableSlot **last = forgetter->slots + MAX_WAITING -
	forgetter->nsummarizing;
	MemoryContext old = MemoryContextSwitchTo(forgetter->record);

	if (forgetter->nall > 0)
		rf_table_index(forgetter->rel, forgetter->slots, forgetter->nall);
	if (forgetter->nsummarizing > 0)
		rf_table_index_others(forgetter->rel, last, forgetter->nsummarizing,
							  NULL, 0, true);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < MAX_WAITING; i++)
		if (forgetter->slots[i] != NULL)
			ExecClearTuple(forgetter->slots[i]);
	forgetter->nall = 0;
	forgetter->nsummarizing = 0;
	MemoryContextReset(forgetter->record);
	MemoryContextReset(forgetter->waiting);
}

/* Has a new tuple wait for its index entries. */
static void
add_waiting(RfForgetter *forgetter, HeapTuple tuple)
{
	int			n = HeapTupleIsHeapOnly(tuple) ?
	MAX_WAITING - ++forgetter->nsummarizing : forgetter->nall++;
	TupleTableSlot *slot = forgetter->slots[n];

	if (slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(forgetter->context);

		slot = MakeSingleTupleTableSlot(RelationGetDescr(forgetter->rel),
										&TTSOpsHeapTuple);
		forgetter->slots[n] = slot;
		MemoryContextSwitchTo(old);
	}
	ExecStoreHeapTuple(tuple, slot, false);
	slot->tts_tableOid = RelationGetRelid(forgetter->rel);
	slot->tts_tid = tuple->t_self;
	if (forgetter->nall + forgetter->nsummarizing == MAX_WAITING)
		index_waiting(forgetter);
}

/* Replaces a record by one with another personal column. */
static void
replace_record(RfForgetter *forgetter, HeapTuple tuple, Jsonb *personal)
{
	TupleDesc	desc = RelationGetDescr(forgetter->rel);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc0(desc->natts * sizeof(bool));
	bool	   *replaced = palloc0(desc->natts * sizeof(bool));
	ItemPointerData tid = tuple->t_self;
	MemoryContext old;
	HeapTuple	made;
	bool		summarizing;

	values[forgetter->personal - 1] = JsonbPGetDatum(personal);
	replaced[forgetter->personal - 1] = true;
	old = MemoryContextSwitchTo(forgetter->waiting);
	made = heap_modify_tuple(tuple, desc, values, nulls, replaced);
	MemoryContextSwitchTo(old);
	rf_heap_update(forgetter->rel, &tid, made, &summarizing);
	if (!HeapTupleIsHeapOnly(made) || summarizing)
		add_waiting(forgetter, made);
}

/* Destroys a record's personal values; says whether there were any. */
bool
rf_forget_record(RfForgetter *forgetter, HeapTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(forgetter->record);
	bool		isnull;
	Datum		value = heap_getattr(tuple, forgetter->personal,
									 RelationGetDescr(forgetter->rel),
									 &isnull);
	Jsonb	   *personal = isnull ? NULL : DatumGetJsonbP(value);
	bool		any = personal != NULL && has_values(personal);

	if (any)
		replace_record(forgetter, tuple, forget(forgetter->maker, personal));
	MemoryContextSwitchTo(old);
	MemoryContextReset(forgetter->record);
	return any;
}

/* Ends with the partition, which stays open, and frees the forgetter. */
void
rf_forget_end(RfForgetter *forgetter)
{
	index_waiting(forgetter);
	for (int i = 0; i < MAX_WAITING; i++)
		if (forgetter->slots[i] != NULL)
			ExecDropSingleTupleTableSlot(forgetter->slots[i]);
	MemoryContextDelete(forgetter->context);
	CommandCounterIncrement();
}

/*
 * Opens the log and keeps others from forgetting until the transaction ends.
 * Throws 55000 without a log.
 */
Relation
rf_forget_lock_log(void)
{
	Relation	log = rf_directory_open("audit_log", AccessShareLock);

	if (log == NULL)
		rf_audit_missing();
	LockRelation(log, ShareUpdateExclusiveLock);
	return log;
}

/* The records of a row in one partition; says how many had values. */
static int64
forget_in_partition(Relation rel, const RfUuid *org, int relation_id,
					text *key)
{
	ScanKeyData keys[3];
	ScanKeyData indexed[3];		/* numbered as the index's, up to 17 */
	int			nindexed;
	Oid			index_oid = choose_index(rel, &nindexed);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	RfForgetter *forgetter = rf_forget_begin(rel);
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		count = 0;

	ScanKeyInit(&keys[0], get_attnum(RelationGetRelid(rel), "org_id"),
				BTEqualStrategyNumber, F_UUID_EQ, PointerGetDatum(org));
	ScanKeyInit(&keys[1], get_attnum(RelationGetRelid(rel), "relation_id"),
				BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(relation_id));
	ScanKeyInit(&keys[2], get_attnum(RelationGetRelid(rel), "key"),
				BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(key));
	memcpy(indexed, keys, sizeof(keys));
	scan = systable_beginscan(rel, index_oid, OidIsValid(index_oid), snapshot,
							  OidIsValid(index_oid) ? nindexed : 3, indexed);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		if (rf_heap_key_test(tuple, RelationGetDescr(rel), 3, keys))
			count += rf_forget_record(forgetter, tuple);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	rf_forget_end(forgetter);
	return count;
}

/* The ids under which a table, its partitions and children are recorded. */
static List *
relation_ids(Oid relid)
{
	List	   *relids = find_all_inheritors(relid, AccessShareLock, NULL);
	List	   *ids = NIL;
	ListCell   *lc;

	foreach(lc, relids)
		ids = list_concat(ids, rf_audit_relation_ids(lfirst_oid(lc)));
	return ids;
}

/* What was forgotten is on record: the row, how many records, and why. */
static void
record_forgetting(RfAuditRecord *record, const RfUuid *org, const char *name,
				  text *key, int64 count)
{
	StringInfoData details;

	initStringInfo(&details);
	appendStringInfo(&details, "{\"records\": " INT64_FORMAT ", \"relation\": ", count);
	escape_json(&details, name);
	appendStringInfoChar(&details, '}');
	rf_audit_set_text(record, AUDIT_ACTION, "audit.forgotten");
	rf_audit_set(record, AUDIT_KEY, PointerGetDatum(key));
	rf_audit_set(record, AUDIT_NEW,
				 DirectFunctionCall1(jsonb_in, CStringGetDatum(details.data)));
	rf_audit_set(record, AUDIT_ORG_ID, PointerGetDatum(org));
	(void) rf_audit_append(record);
}

/*
 * audit_forget(rel regclass, key text): destroys the personal values in the
 * records of a row, which is one of the organization of the context, or without
 * one a row of no organization. Says in how many records there were any.
 */
Datum
ringfence_audit_forget(PG_FUNCTION_ARGS)
{
	const RfIdentity *identity = rf_context_peek();
	RfUuid		org = {{0}};
	Relation	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	Relation	log;
	text	   *key = cstring_to_text(rf_audit_key(text_to_cstring(PG_GETARG_TEXT_PP(1))));
	RfAuditRecord record;
	List	   *ids;
	int64		count = 0;
	ListCell   *lc;

	rf_audit_begin(&record, OPERATION_EVENT);
	if (record.nulls[AUDIT_REASON])
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("a reason is required to forget personal values"),
				 errhint("SET LOCAL ringfence.reason.")));
	if (identity != NULL && identity->has_org)
		org = identity->org;
	else if (get_attnum(RelationGetRelid(rel), "org_id") != InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("no organization is set for this transaction"),
				 errdetail("A row of table \"%s\" is an organization's.",
						   RelationGetRelationName(rel))));
	log = rf_forget_lock_log();
	ids = relation_ids(rf_audit_root(rel));
	foreach(lc, find_all_inheritors(RelationGetRelid(log), RowExclusiveLock, NULL))
	{
		Relation	partition = table_open(lfirst_oid(lc), NoLock);
		ListCell   *id;

		if (partition->rd_rel->relkind == RELKIND_RELATION)
			foreach(id, ids)
				count += forget_in_partition(partition, &org, lfirst_int(id),
											 key);
		table_close(partition, NoLock);
	}
	if (count > 0)
		record_forgetting(&record, &org, rf_audit_relation_name(RelationGetRelid(rel)),
						  key, count);
	table_close(log, NoLock);
	table_close(rel, NoLock);
	PG_RETURN_INT64(count);
}
