/*
 * audit_forget_before.c: personal values out of records that are old enough.
 *
 * One organization's records of one table, oldest first, by the primary key of
 * each month's partition, which begins with the organization and the time. A
 * mark in audit_forgotten says how far that came, so that nothing is read twice:
 *
 * - A pass begins at "since" and goes to the time asked for, in as many calls as
 *   the caller's batches make of it; "reached" is where the next one goes on.
 * - A record is dated when its row changed and is there when its transaction
 *   commits, perhaps much later. So "since" follows only to "settled_at", a time
 *   before which no record can come any more: a call notes the time and the next
 *   transaction id, and once all transactions before that one are over, the time
 *   is settled. What a pass found beyond it is looked at again by the next.
 * - Records can turn up behind the mark in two ways: the table got partitions or
 *   children that were audited by themselves, or an older month was attached.
 *   The first shows in the ids that the table's records have, each with the time
 *   since when it is in use, the second in "oldest", the log's first month.
 *
 * A mark is written in the transaction that forgets, under the lock on the log
 * that audit_forget.c tells of. Nothing is written for what a few hundred
 * records say anew each time.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit.h"
#include "audit_forget.h"
#include "compat.h"
#include "seal.h"
#include "table.h"

PG_FUNCTION_INFO_V1(ringfence_audit_forget_before);

/* A mark is worth its writing once so much was read, or time has passed. */
#define WORTH_RECORDS 1000
#define WORTH_TIME (12 * USECS_PER_HOUR)

/* An id that the table's records have. */
typedef struct ShapeId
{
	int32		id;
	TimestampTz since;			/* when it came into use */
} ShapeId;

/* A row of audit_forgotten. */
typedef struct Mark
{
	bool		found;
	ItemPointerData tid;
	TimestampTz since;			/* everything before it is forgotten */
	TimestampTz reached;		/* and this pass's part before this, too */
	TimestampTz settled_at;
	TimestampTz seen_at;		/* settled once "seen_xid" and what is */
	uint64		seen_xid;		/* before it is over */
	int			incarnation;	/* that counts it */
	TimestampTz oldest;			/* the log's first time */
	int			nids;
	int32	   *ids;			/* that are covered */
} Mark;

/* A call at work. */
typedef struct Work
{
	const RfUuid *org;
	Oid			relid;
	TimestampTz before;
	int64		batch;
	Snapshot	snapshot;
	int			nids;
	ShapeId    *ids;			/* in order */
	Mark		mark;
	int64		count;			/* records forgotten */
	int64		seen;			/* records read */
	int			nparts;			/* partitions read */
	TimestampTz last;			/* of the last record read */
} Work;

static int
compare_ids(const void *a, const void *b)
{
	int32		x = ((const ShapeId *) a)->id;
	int32		y = ((const ShapeId *) b)->id;

	return (x > y) - (x < y);
}

/* The ids that the table, its partitions and children are recorded under. */
static void
read_ids(Work *work)
{
	List	   *relids = find_all_inheritors(work->relid, AccessShareLock, NULL);
	Relation	rel = rf_seal_table("audit_relations", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false,
										  work->snapshot, 0, NULL);
	int			size = 16;
	HeapTuple	tuple;

	work->ids = palloc(size * sizeof(ShapeId));
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		no_id;
		bool		no_relation;
		bool		no_time;
		int32		id = (int32) rf_seal_int(rel, tuple, "id", INT4OID, &no_id);
		Datum		relation = rf_seal_value(rel, tuple, "relation",
											 REGCLASSOID, &no_relation);
		TimestampTz since = rf_seal_int(rel, tuple, "recorded_at",
										TIMESTAMPTZOID, &no_time);

		if (no_id || no_relation ||
			!list_member_oid(relids, DatumGetObjectId(relation)))
			continue;
		if (work->nids == size)
		{
			size *= 2;
			work->ids = repalloc(work->ids, size * sizeof(ShapeId));
		}
		work->ids[work->nids].id = id;
		work->ids[work->nids++].since = no_time ? DT_NOBEGIN : since;
	}
	systable_endscan(scan);
	relation_close(rel, NoLock);
	qsort(work->ids, work->nids, sizeof(ShapeId), compare_ids);
}

/* A time of a row; the beginning of time for NULL. */
static TimestampTz
mark_time(Relation rel, HeapTuple tuple, const char *name)
{
	bool		isnull;
	int64		value = rf_seal_int(rel, tuple, name, TIMESTAMPTZOID, &isnull);

	return isnull ? DT_NOBEGIN : value;
}

/* Takes the ids out of an array, unless it isn't a plain one. */
static void
read_covered(Relation rel, HeapTuple tuple, Mark *mark)
{
	bool		isnull;
	Datum		value = rf_seal_value(rel, tuple, "relation_ids",
									  INT4ARRAYOID, &isnull);
	ArrayType  *array = isnull ? NULL : DatumGetArrayTypePCopy(value);

	if (isnull || ARR_NDIM(array) != 1 || ARR_HASNULL(array))
		return;
	mark->nids = ARR_DIMS(array)[0];
	mark->ids = (int32 *) ARR_DATA_PTR(array);
}

/* Reads the mark; if there is none, it is one of nothing done. */
static void
read_mark(Relation rel, Work *work)
{
	static const char *const columns[] = {"relation", "org_id"};
	Oid			index_oid = rf_seal_index(rel, lengthof(columns), columns);
	Mark	   *mark = &work->mark;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&keys[0], rf_seal_column(rel, "relation", REGCLASSOID),
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(work->relid));
	ScanKeyInit(&keys[1], rf_seal_column(rel, "org_id", UUIDOID),
				BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) work->org));
	scan = systable_beginscan(rel, index_oid, OidIsValid(index_oid),
							  work->snapshot, lengthof(keys), keys);
	tuple = systable_getnext(scan);
	mark->since = mark->reached = mark->settled_at = DT_NOBEGIN;
	mark->seen_at = mark->oldest = DT_NOBEGIN;
	if (tuple != NULL)
	{
		mark->found = true;
		mark->tid = tuple->t_self;
		mark->since = mark_time(rel, tuple, "since");
		mark->reached = Max(mark->since, mark_time(rel, tuple, "reached"));
		mark->settled_at = mark_time(rel, tuple, "settled_at");
		mark->seen_at = mark_time(rel, tuple, "seen_at");
		mark->seen_xid = (uint64) rf_seal_int(rel, tuple, "seen_xid", INT8OID,
											  &isnull);
		mark->incarnation = (int) rf_seal_int(rel, tuple, "incarnation",
											  INT4OID, &isnull);
		mark->oldest = mark_time(rel, tuple, "oldest");
		read_covered(rel, tuple, mark);
	}
	systable_endscan(scan);
}

/* Goes back to where records may have turned up since. */
static void
go_back(Work *work, TimestampTz oldest)
{
	Mark	   *mark = &work->mark;
	TimestampTz from = oldest < mark->oldest ? DT_NOBEGIN : DT_NOEND;

	for (int i = 0; i < work->nids; i++)
	{
		bool		covered = false;

		for (int j = 0; j < mark->nids && !covered; j++)
			covered = mark->ids[j] == work->ids[i].id;
		if (!covered)
			from = Min(from, work->ids[i].since);
	}
	mark->since = Min(mark->since, from);
	mark->reached = Min(mark->reached, from);
	mark->oldest = oldest;
}

/*
 * Takes the snapshot, and says whether all transactions are over that had a
 * number before, but for our own. One may have a number that is not before the
 * snapshot's xmax: what counts there is the next to be given.
 */
static bool
take_snapshot(Work *work, uint64 *next, uint64 *oldest)
{
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	FullTransactionId next_xid = ReadNextFullTransactionId();
	uint32		behind;
	uint32		own_xids;

	*next = U64FromFullTransactionId(next_xid);
	work->snapshot = RegisterSnapshot(GetLatestSnapshot());
	next_xid = ReadNextFullTransactionId();
	behind = XidFromFullTransactionId(next_xid) - work->snapshot->xmin;
	*oldest = U64FromFullTransactionId(next_xid) - behind;
	own_xids = FullTransactionIdIsValid(own) &&
		U64FromFullTransactionId(own) >= *oldest ? 1 : 0;
	return work->snapshot->xcnt == 0 && *oldest + own_xids >= *next;
}

/*
 * At the beginning of a pass: up to when is everything there? "all_over" tells
 * that all that began before "now" is, "next" which transaction is the next and
 * "oldest" the first that may not be over.
 */
static void
settle(Work *work, TimestampTz now, bool all_over, uint64 next, uint64 oldest)
{
	Mark	   *mark = &work->mark;
	int			incarnation = rf_audit_incarnation();

	if (mark->reached > mark->since)
		return;
	if (all_over)
		mark->settled_at = now;
	else if (mark->seen_at > DT_NOBEGIN &&
			 (incarnation > mark->incarnation || oldest >= mark->seen_xid))
		mark->settled_at = mark->seen_at;
	else if (mark->seen_at > DT_NOBEGIN)
		return;
	mark->seen_at = now;
	mark->seen_xid = next;
	mark->incarnation = incarnation;
}

static bool
is_ours(const Work *work, Datum id)
{
	ShapeId		key = {DatumGetInt32(id), 0};

	return bsearch(&key, work->ids, work->nids, sizeof(ShapeId),
				   compare_ids) != NULL;
}

/* Forgets in a partition; false if the batch is full before its end. */
static bool
forget_in_partition(Work *work, Relation rel)
{
	static const char *const columns[] = {"org_id", "recorded_at"};
	Oid			index_oid = rf_seal_index(rel, lengthof(columns), columns);
	AttrNumber	time = rf_seal_column(rel, "recorded_at", TIMESTAMPTZOID);
	AttrNumber	relation_id = rf_seal_column(rel, "relation_id", INT4OID);
	RfForgetter *forgetter;
	ScanKeyData keys[3];
	Relation	index;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no index on (%s)",
						RelationGetRelationName(rel), "org_id, recorded_at")));
	ScanKeyInit(&keys[0], rf_seal_column(rel, "org_id", UUIDOID),
				BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) work->org));
	ScanKeyInit(&keys[1], time, BTGreaterEqualStrategyNumber,
				F_TIMESTAMPTZ_GE, TimestampTzGetDatum(work->mark.reached));
	ScanKeyInit(&keys[2], time, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
				TimestampTzGetDatum(work->before));
	index = index_open(index_oid, AccessShareLock);
	forgetter = rf_forget_begin(rel);
	scan = systable_beginscan_ordered(rel, index, work->snapshot, 3, keys);
	while (work->count < work->batch &&
		   (tuple = systable_getnext_ordered(scan,
											 ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		Datum		id = heap_getattr(tuple, relation_id,
									  RelationGetDescr(rel), &isnull);

		CHECK_FOR_INTERRUPTS();
		work->seen++;
		if (isnull || !is_ours(work, id) ||
			!rf_forget_record(forgetter, tuple))
			continue;
		work->count++;
		work->last = DatumGetTimestampTz(heap_getattr(tuple, time,
													  RelationGetDescr(rel),
													  &isnull));
	}
	systable_endscan_ordered(scan);
	rf_forget_end(forgetter);
	index_close(index, AccessShareLock);
	work->nparts++;
	return work->count < work->batch;
}

/*
 * Forgets in what a partition of the log is made of. Returns DT_NOEND if that
 * came to its end, or else up to when it did for certain.
 */
static TimestampTz
forget_in_part(Work *work, const RfLogPart *part)
{
	TimestampTz reached = DT_NOEND;
	List	   *relids;
	ListCell   *lc;

	LockRelationOid(part->relid, RowExclusiveLock);
	relids = find_all_inheritors(part->relid, RowExclusiveLock, NULL);
	foreach(lc, relids)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION &&
			!forget_in_partition(work, rel))
			reached = part->is_default ? work->mark.reached :
				list_length(relids) > 1 ? part->lower : work->last;
		table_close(rel, NoLock);
		if (reached < DT_NOEND)
			break;
	}
	return reached;
}

/* Writes the mark, in place of the one that was read. */
static void
write_mark(Relation rel, Work *work)
{
	static const char *const columns[] = {
		"relation", "org_id", "since", "reached", "settled_at", "seen_at",
		"seen_xid", "incarnation", "oldest", "relation_ids",
	};
	Mark	   *mark = &work->mark;
	Datum		values[lengthof(columns)];
	Datum	   *ids = palloc(work->nids * sizeof(Datum) + 1);
	HeapTuple	tuple;

	for (int i = 0; i < work->nids; i++)
		ids[i] = Int32GetDatum(work->ids[i].id);
	values[0] = ObjectIdGetDatum(work->relid);
	values[1] = UUIDPGetDatum((pg_uuid_t *) work->org);
	values[2] = TimestampTzGetDatum(mark->since);
	values[3] = TimestampTzGetDatum(mark->reached);
	values[4] = TimestampTzGetDatum(mark->settled_at);
	values[5] = TimestampTzGetDatum(mark->seen_at);
	values[6] = Int64GetDatum((int64) mark->seen_xid);
	values[7] = Int32GetDatum(mark->incarnation);
	values[8] = TimestampTzGetDatum(mark->oldest);
	values[9] = PointerGetDatum(construct_array(ids, work->nids, INT4OID,
												sizeof(int32), true,
												TYPALIGN_INT));
	tuple = rf_seal_tuple(rel, lengthof(columns), columns, values);
	if (mark->found)
		rf_table_update(rel, &mark->tid, tuple);
	else
		rf_table_insert(rel, tuple);
}

/* Forgets, month by month, and moves the mark. */
static void
forget_before(Work *work, Relation log)
{
	Relation	marks = rf_seal_table("audit_forgotten", RowExclusiveLock);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz reached = DT_NOEND;
	Mark	   *mark = &work->mark;
	TimestampTz began;
	RfLogPart  *parts;
	int			nparts;
	bool		moved;
	uint64		next;
	uint64		oldest;
	bool		all_over = take_snapshot(work, &next, &oldest);

	read_ids(work);
	read_mark(marks, work);
	parts = rf_log_parts(log, &nparts);
	if (work->nids > 0 && nparts > 0)
	{
		const RfLogPart *first = &parts[nparts > 1 && parts->is_default ? 1 : 0];

		began = mark->since;
		moved = mark->nids != work->nids || mark->oldest != first->lower;
		go_back(work, first->lower);
		settle(work, now, all_over, next, oldest);
		for (int i = 0; i < nparts && reached == DT_NOEND; i++)
			if (parts[i].lower < work->before && parts[i].upper > mark->reached)
				reached = forget_in_part(work, &parts[i]);
		if (reached < DT_NOEND)
			mark->reached = Max(mark->reached, reached);
		else
			mark->reached = mark->since = Max(mark->since,
											  Min(work->before, mark->settled_at));
		if (!mark->found || moved || work->count > 0 || work->nparts > 1 ||
			work->seen >= WORTH_RECORDS || began + WORTH_TIME <= mark->since)
			write_mark(marks, work);
	}
	UnregisterSnapshot(work->snapshot);
	relation_close(marks, NoLock);
}

/*
 * audit_forget_before(rel regclass, before timestamptz, org uuid, batch integer):
 * destroys the personal values in the oldest records of a table, which must have
 * been made before a time and be one organization's, or nobody's. Says in how
 * many there were any, at most "batch"; if fewer, there are no more.
 */
Datum
ringfence_audit_forget_before(PG_FUNCTION_ARGS)
{
	RfUuid		nobody = {{0}};
	Work		work = {0};
	MemoryContext context;
	MemoryContext old;
	Relation	rel;
	Relation	log;

	PreventCommandIfReadOnly("audit_forget_before()");
	PreventCommandIfParallelMode("audit_forget_before()");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("table, time and batch must be given")));
	work.before = PG_GETARG_TIMESTAMPTZ(1);
	work.org = PG_ARGISNULL(2) ? &nobody : (RfUuid *) PG_GETARG_UUID_P(2);
	work.batch = PG_GETARG_INT32(3);
	if (work.batch < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid batch of %d records", PG_GETARG_INT32(3)),
				 errhint("It is at least 1.")));
	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	work.relid = rf_audit_root(rel);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"ringfence audit forgetting",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	log = rf_forget_lock_log();
	forget_before(&work, log);
	table_close(log, NoLock);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	PG_RETURN_INT64(work.count);
}
