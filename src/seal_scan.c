/*
 * seal_scan.c: reads the records of some transactions out of the audit log.
 *
 * Past row security and without SPI: audit_log is found by name, believed only
 * if ringfence_owner owns it, and its partitions are read one after the other
 * with the snapshot given. Where only some transactions matter, the BRIN index
 * on transaction_id tells which pages can hold them; it may name too many, and
 * without it all are read. A tuple is deformed as far as the columns that place
 * it, and further only if it is wanted. What a record needs on the way is in a
 * context that is reset for the next.
 *
 * An organization's own records come by the primary key, which begins with it.
 */
#include "postgres.h"

#include "access/brin.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/tidbitmap.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"

#define LOG_TABLE "audit_log"

/* One partition being read. */
typedef struct LogScan
{
	RfLogQuery *query;
	Relation	rel;
	AttrNumber	attnos[AUDIT_COLUMNS];
	AttrNumber	placing;		/* the last column that places a record */
	TupleTableSlot *slot;
	MemoryContext context;		/* reset for each record */
} LogScan;

/* Makes room for an item and returns it. */
static RfItem *
next_item(RfLogQuery *query)
{
	if (query->nitems == query->capacity)
	{
		query->capacity *= 2;
		query->items = repalloc_huge(query->items,
									 query->capacity * sizeof(RfItem));
	}
	return &query->items[query->nitems++];
}

/* Looks at the record in the slot, and keeps its leaf if it is wanted. */
static void
visit_record(LogScan *scan)
{
	RfLogQuery *query = scan->query;
	TupleTableSlot *slot = scan->slot;
	Datum		values[AUDIT_COLUMNS];
	bool		nulls[AUDIT_COLUMNS];
	MemoryContext old;
	RfPlacing	record;
	RfItem	   *item;
	int			block;

	slot_getsomeattrs(slot, scan->placing);
	for (int i = AUDIT_ORG_ID; i <= AUDIT_INCARNATION; i++)
	{
		if (slot->tts_isnull[scan->attnos[i] - 1])
		{
			query->nameless++;
			return;
		}
		values[i] = slot->tts_values[scan->attnos[i] - 1];
		nulls[i] = false;
	}
	record.org = (const RfUuid *) DatumGetUUIDP(values[AUDIT_ORG_ID]);
	record.id = (const RfUuid *) DatumGetUUIDP(values[AUDIT_ID]);
	record.recorded_at = DatumGetTimestampTz(values[AUDIT_RECORDED_AT]);
	record.xid = (uint64) DatumGetInt64(values[AUDIT_TRANSACTION_ID]);
	record.incarnation = (uint32) DatumGetInt32(values[AUDIT_INCARNATION]);
	if ((query->org != NULL &&
		 memcmp(record.org, query->org, RF_UUID_BYTES) != 0) ||
		(query->id != NULL &&
		 memcmp(record.id, query->id, RF_UUID_BYTES) != 0))
		return;
	block = query->place(query->arg, &record);
	if (block < 0)
		return;

	slot_getallattrs(slot);
	for (int i = AUDIT_INCARNATION + 1; i < AUDIT_COLUMNS; i++)
	{
		values[i] = slot->tts_values[scan->attnos[i] - 1];
		nulls[i] = slot->tts_isnull[scan->attnos[i] - 1];
	}
	if (query->take != NULL)
	{
		query->take(query->arg, values, nulls);
		return;
	}
	item = next_item(query);
	item->block = (uint32) block;
	item->org = *record.org;
	item->id = *record.id;
	old = MemoryContextSwitchTo(scan->context);
	rf_leaf(query->maker, values, nulls, &item->leaf);
	MemoryContextSwitchTo(old);
	MemoryContextReset(scan->context);
}

static void
visit_all(LogScan *scan, TableScanDesc desc)
{
	while (table_scan_getnextslot(desc, ForwardScanDirection, scan->slot))
	{
		CHECK_FOR_INTERRUPTS();
		visit_record(scan);
	}
	table_endscan(desc);
}

/* All of a partition; in its own order, not where another scan happens to be. */
static void
scan_everything(LogScan *scan)
{
	visit_all(scan, table_beginscan_strat(scan->rel, scan->query->snapshot,
										  0, NULL, true, false));
}

/* The records on pages "first" to "last". */
static void
scan_pages(LogScan *scan, BlockNumber first, BlockNumber last)
{
	ItemPointerData low;
	ItemPointerData high;
	TableScanDesc desc;

	ItemPointerSet(&low, first, 0);
	ItemPointerSet(&high, last, MaxOffsetNumber);
	desc = table_beginscan_tidrange(scan->rel, scan->query->snapshot,
									&low, &high);
	while (table_scan_getnextslot_tidrange(desc, ForwardScanDirection,
										   scan->slot))
	{
		CHECK_FOR_INTERRUPTS();
		visit_record(scan);
	}
	table_endscan(desc);
}

/* A valid BRIN index whose first column is transaction_id, or InvalidOid. */
static Oid
transaction_index(Relation rel, AttrNumber attno)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (index->rd_rel->relam == BRIN_AM_OID && form->indisvalid &&
			form->indkey.values[0] == attno &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
			result = lfirst_oid(lc);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return result;
}

/* Adds the pages that may hold transactions of a range. */
static void
add_pages(Relation index, Snapshot snapshot, const RfXidRange *range,
		  TIDBitmap *pages)
{
	IndexScanDesc desc = rf_index_beginscan_bitmap(index, snapshot, 2);
	ScanKeyData keys[2];

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTGreaterEqualStrategyNumber,
						   INT8OID, InvalidOid, F_INT8GE,
						   Int64GetDatum((int64) range->first));
	ScanKeyEntryInitialize(&keys[1], 0, 1, BTLessEqualStrategyNumber,
						   INT8OID, InvalidOid, F_INT8LE,
						   Int64GetDatum((int64) range->last));
	index_rescan(desc, keys, 2, NULL, 0);
	(void) index_getbitmap(desc, pages);
	index_endscan(desc);
}

/* The records of the query's ranges, with those that share their pages. */
static void
scan_ranges(LogScan *scan, Oid index_oid)
{
	Relation	index = index_open(index_oid, AccessShareLock);
	TIDBitmap  *pages = tbm_create(work_mem * 1024L, NULL);
	RfPageIterator iterator;
	BlockNumber first = InvalidBlockNumber;
	BlockNumber last = InvalidBlockNumber;
	BlockNumber page;

	for (int i = 0; i < scan->query->nranges; i++)
		add_pages(index, scan->query->snapshot, &scan->query->ranges[i],
				  pages);
	rf_pages_begin(&iterator, pages);
	while (rf_pages_next(&iterator, &page))
	{
		if (first != InvalidBlockNumber && page != last + 1)
		{
			scan_pages(scan, first, last);
			first = page;
		}
		else if (first == InvalidBlockNumber)
			first = page;
		last = page;
	}
	if (first != InvalidBlockNumber)
		scan_pages(scan, first, last);
	rf_pages_end(&iterator);
	tbm_free(pages);
	index_close(index, AccessShareLock);
}

/*
 * The records of one organization, by an index that begins with org_id and
 * recorded_at. The time of a single one is in its id.
 */
static void
scan_org(LogScan *scan, Oid index_oid)
{
	const RfLogQuery *query = scan->query;
	SysScanDesc desc;
	ScanKeyData keys[2];
	int			nkeys = 0;
	HeapTuple	tuple;

	ScanKeyInit(&keys[nkeys++], scan->attnos[AUDIT_ORG_ID],
				BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) query->org));
	if (query->id != NULL)
		ScanKeyInit(&keys[nkeys++], scan->attnos[AUDIT_RECORDED_AT],
					BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
					TimestampTzGetDatum(rf_uuid7_time(query->id)));
	desc = systable_beginscan(scan->rel, index_oid, true, query->snapshot,
							  nkeys, keys);
	while ((tuple = systable_getnext(desc)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreHeapTuple(tuple, scan->slot, false);
		visit_record(scan);
	}
	systable_endscan(desc);
}

/*
 * The log's partitions and the times that each is for, palloc'd: the default one
 * first, the others in order. They are not locked; those that are being detached
 * are left out.
 */
RfLogPart *
rf_log_parts(Relation log, int *count)
{
	PartitionKey key = RelationGetPartitionKey(log);
	PartitionDesc desc;
	PartitionBoundInfo bounds;
	RfLogPart  *parts;

	*count = 0;
	if (key == NULL || key->strategy != PARTITION_STRATEGY_RANGE ||
		key->partnatts != 1 || key->parttypid[0] != TIMESTAMPTZOID ||
		key->partattrs[0] == 0)
		elog(ERROR, "the audit log is not partitioned by time");
	desc = RelationGetPartitionDesc(log, true);
	parts = palloc((desc->nparts + 1) * sizeof(RfLogPart));
	if (desc->nparts == 0)
		return parts;
	bounds = desc->boundinfo;
	if (bounds->default_index >= 0)
	{
		parts->is_default = true;
		parts->relid = desc->oids[bounds->default_index];
		parts->lower = DT_NOBEGIN;
		parts->upper = DT_NOEND;
		(*count)++;
	}
	for (int i = 0; i <= bounds->ndatums; i++)
	{
		RfLogPart  *part = &parts[*count];

		if (bounds->indexes[i] < 0)
			continue;
		part->is_default = false;
		part->relid = desc->oids[bounds->indexes[i]];
		part->lower = i > 0 &&
			bounds->kind[i - 1][0] == PARTITION_RANGE_DATUM_VALUE ?
			DatumGetTimestampTz(bounds->datums[i - 1][0]) : DT_NOBEGIN;
		part->upper = i < bounds->ndatums &&
			bounds->kind[i][0] == PARTITION_RANGE_DATUM_VALUE ?
			DatumGetTimestampTz(bounds->datums[i][0]) : DT_NOEND;
		(*count)++;
	}
	return parts;
}

static void
scan_partition(RfLogQuery *query, Relation rel)
{
	static const char *const org_first[] = {"org_id", "recorded_at"};
	LogScan		scan;
	Oid			index;

	scan.query = query;
	scan.rel = rel;
	scan.placing = 0;
	for (int i = 0; i < AUDIT_COLUMNS; i++)
	{
		scan.attnos[i] = rf_seal_column(rel, rf_audit_columns[i].name,
										rf_audit_columns[i].type);
		if (i <= AUDIT_INCARNATION)
			scan.placing = Max(scan.placing, scan.attnos[i]);
	}
	scan.context = AllocSetContextCreate(CurrentMemoryContext,
										 "ringfence audit record",
										 ALLOCSET_DEFAULT_SIZES);
	index = query->org == NULL ? InvalidOid :
		rf_seal_index(rel, lengthof(org_first), org_first);
	if (OidIsValid(index))
	{
		scan.slot = MakeSingleTupleTableSlot(RelationGetDescr(rel),
											 &TTSOpsHeapTuple);
		scan_org(&scan, index);
	}
	else
	{
		scan.slot = table_slot_create(rel, NULL);
		index = query->everything ||
			rel->rd_tableam->scan_set_tidrange == NULL ? InvalidOid :
			transaction_index(rel, scan.attnos[AUDIT_TRANSACTION_ID]);
		if (OidIsValid(index))
			scan_ranges(&scan, index);
		else
			scan_everything(&scan);
	}
	ExecDropSingleTupleTableSlot(scan.slot);
	MemoryContextDelete(scan.context);
}

/*
 * Finds the wanted records and puts their leaves into query->items, in the
 * current memory context. The partitions stay locked, as after any
 * query; one that is asked for alone must be locked already. Throws 55000 if the log isn't there or isn't as it should be.
 */
void
rf_log_query(RfLogQuery *query)
{
	Relation	root = rf_seal_table(LOG_TABLE, AccessShareLock);
	List	   *partitions = find_all_inheritors(OidIsValid(query->partition) ?
												 query->partition :
												 RelationGetRelid(root),
												 AccessShareLock, NULL);
	ListCell   *lc;

	query->capacity = 1024;
	query->items = palloc(query->capacity * sizeof(RfItem));
	query->nitems = 0;
	foreach(lc, partitions)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			scan_partition(query, rel);
		else if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("partition \"%s\" of the audit log is not an ordinary table",
							RelationGetRelationName(rel))));
		table_close(rel, NoLock);
	}
	list_free(partitions);
	relation_close(root, NoLock);
}

static inline int
compare_items(const RfItem *a, const RfItem *b)
{
	if (a->block != b->block)
		return a->block < b->block ? -1 : 1;
	return memcmp(&a->org, &b->org, 2 * RF_UUID_BYTES + RF_HASH_BYTES);
}

#define ST_SORT sort_items
#define ST_ELEMENT_TYPE RfItem
#define ST_COMPARE(a, b) compare_items(a, b)
#define ST_SCOPE static
#define ST_DEFINE
#define ST_CHECK_FOR_INTERRUPTS
#include "lib/sort_template.h"

/* Orders what was found by block, org, id and leaf. */
void
rf_log_sort(RfLogQuery *query)
{
	StaticAssertStmt(sizeof(RfItem) == sizeof(uint32) + 2 * RF_UUID_BYTES + RF_HASH_BYTES,
					 "an item has no padding");
	if (query->nitems > 1)
		sort_items(query->items, query->nitems);
}

/* Summarizes the whole page ranges of a partition that the ranges touch. */
static void
summarize_partition(const RfLogQuery *query, Relation rel)
{
	AttrNumber	attno = rf_seal_column(rel, "transaction_id", INT8OID);
	Oid			index_oid = transaction_index(rel, attno);
	BlockNumber npages = RelationGetNumberOfBlocks(rel);
	Relation	index;
	TIDBitmap  *pages;
	RfPageIterator iterator;
	BlockNumber range;
	BlockNumber page;
	BlockNumber done = InvalidBlockNumber;

	if (!OidIsValid(index_oid) || rel->rd_rel->relowner != GetUserId())
		return;
	index = index_open(index_oid, AccessShareLock);
	range = BrinGetPagesPerRange(index);
	pages = tbm_create(work_mem * 1024L, NULL);
	for (int i = 0; i < query->nranges; i++)
		add_pages(index, query->snapshot, &query->ranges[i], pages);
	rf_pages_begin(&iterator, pages);
	while (rf_pages_next(&iterator, &page))
	{
		page -= page % range;
		if (page == done || page + range > npages)
			continue;
		CHECK_FOR_INTERRUPTS();
		DirectFunctionCall2(brin_summarize_range, ObjectIdGetDatum(index_oid),
							Int64GetDatum((int64) page));
		done = page;
	}
	rf_pages_end(&iterator);
	tbm_free(pages);
	index_close(index, AccessShareLock);
}

/*
 * Has the BRIN indexes sum up the pages that were read, if they are full: the
 * last range, which still grows, is left alone, for its summary would have to
 * be written again by each insert. A partition that VACUUM or another works on
 * is left for the next time, and so is one that the current user doesn't own.
 */
void
rf_log_summarize(const RfLogQuery *query)
{
	Relation	root = rf_seal_table(LOG_TABLE, AccessShareLock);
	List	   *partitions = find_all_inheritors(RelationGetRelid(root),
												 AccessShareLock, NULL);
	ListCell   *lc;

	foreach(lc, partitions)
	{
		Relation	rel;

		if (!ConditionalLockRelationOid(lfirst_oid(lc),
										ShareUpdateExclusiveLock))
			continue;
		rel = table_open(lfirst_oid(lc), NoLock);
		if (rel->rd_rel->relkind == RELKIND_RELATION)
			summarize_partition(query, rel);
		table_close(rel, NoLock);
	}
	list_free(partitions);
	relation_close(root, NoLock);
}
