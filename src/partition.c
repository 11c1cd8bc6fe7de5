/*
 * partition.c: a partition leaves its table, and nobody has to wait for it.
 *
 * DETACH PARTITION CONCURRENTLY commits amid its work, so no function can run it.
 * A background worker does (see apart.c), as the table's owner, while the caller
 * waits, whose transaction must hold no lock on the table. The worker is given
 * nothing but the id of a row of partition_drops, which only the code of
 * ringfence_owner writes; it makes the statement of what the catalogs say, and
 * notes in the transaction that ends the detaching that it was our doing.
 *
 * What takes locks that traffic would queue behind is watched: all its waits for
 * tables together may last so long and no longer. lock_timeout counts for each
 * lock alone, and for other waits, which nobody queues behind, as well.
 *
 * Lock order: the partition for the session, so that no other worker is at it and
 * autovacuum gives way; then what the statement locks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"

#include "apart.h"
#include "compat.h"
#include "ringfence.h"

/* How long waits for tables may last, all together, and how often we look; ms. */
#define WATCH_LIMIT 50
#define WATCH_TICK 5
#define WATCH_MAX 10000

#define MAX_PATIENCE 600000
#define MAX_MESSAGE 512
#define WAIT_CLASS(info) ((info) & 0xFF000000)
#define WAIT_OBJECT(info) ((info) & 0x0000FFFF)

PG_FUNCTION_INFO_V1(ringfence_partition_bounds);
PG_FUNCTION_INFO_V1(ringfence_limit_lock_waits);
PG_FUNCTION_INFO_V1(ringfence_lock_waits_exceeded);
PG_FUNCTION_INFO_V1(ringfence_detach_partition);

typedef struct DetachRequest
{
	RfApart		apart;
	RfUuid		id;				/* of the row in partition_drops */
	int			patience;		/* ms, for waits that nobody queues behind */
	/* the answer */
	bool		detached;
	int			sqlstate;		/* 0 if nothing failed but a wait */
	char		message[MAX_MESSAGE];
} DetachRequest;

/* What is to be detached, as partition_drops and the catalogs say. */
typedef struct DetachTarget
{
	Oid			relid;
	Oid			partition;
	TimestampTz cutoff;
} DetachTarget;

/*
 * The watch: started for one piece of DDL, and stopped after it or when the
 * transaction ends. The signal handler changes what is volatile.
 */
static struct
{
	bool		registered;
	TimeoutId	timeout;
	bool		running;
	bool		over_commits;	/* as the worker's statement goes on */
	volatile int left;			/* ms */
	volatile bool struck;
}			watch;

/* --- Bounds --- */

/* A bound as a moment, in UTC; false for what is none. */
static bool
bound_time(List *datums, TimestampTz *time)
{
	PartitionRangeDatum *datum;
	Const	   *value;

	if (list_length(datums) != 1)
		return false;
	datum = linitial_node(PartitionRangeDatum, datums);
	if (datum->kind == PARTITION_RANGE_DATUM_MINVALUE)
		*time = DT_NOBEGIN;
	else if (datum->kind == PARTITION_RANGE_DATUM_MAXVALUE)
		*time = DT_NOEND;
	else if (datum->value == NULL || !IsA(datum->value, Const))
		return false;
	else
	{
		value = (Const *) datum->value;
		if (value->constisnull)
			return false;
		if (value->consttype == TIMESTAMPTZOID ||
			value->consttype == TIMESTAMPOID)
			*time = DatumGetTimestampTz(value->constvalue);
		else if (value->consttype == DATEOID)
			*time = DatumGetTimestamp(DirectFunctionCall1(date_timestamp,
														  value->constvalue));
		else
			return false;
	}
	return true;
}

/*
 * The range of a partition; false if it has none, of one column that tells a
 * time, or is no partition.
 */
static bool
read_bounds(Oid partition, TimestampTz *lower, TimestampTz *upper)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(partition));
	bool		found = false;
	bool		isnull;
	Datum		bound;

	if (!HeapTupleIsValid(tuple))
		return false;
	bound = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &isnull);
	if (!isnull)
	{
		PartitionBoundSpec *spec = stringToNode(TextDatumGetCString(bound));

		found = spec->strategy == PARTITION_STRATEGY_RANGE &&
			!spec->is_default &&
			bound_time(spec->lowerdatums, lower) &&
			bound_time(spec->upperdatums, upper);
	}
	ReleaseSysCache(tuple);
	return found;
}

/* partition_bounds(partition regclass, OUT lower_bound, OUT upper_bound) */
Datum
ringfence_partition_bounds(PG_FUNCTION_ARGS)
{
	TimestampTz lower = 0;
	TimestampTz upper = 0;
	bool		found = read_bounds(PG_GETARG_OID(0), &lower, &upper);
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[] = {!found, !found};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = TimestampTzGetDatum(lower);
	values[1] = TimestampTzGetDatum(upper);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* --- The watch --- */

/* In the signal handler: what is it that this process waits for? */
static void
look(void)
{
	uint32		wait = *(volatile uint32 *) &MyProc->wait_event_info;

	if (watch.struck || WAIT_CLASS(wait) != PG_WAIT_LOCK ||
		WAIT_OBJECT(wait) != LOCKTAG_RELATION)
		return;
	watch.left -= WATCH_TICK;
	if (watch.left <= 0)
	{
		watch.struck = true;
		QueryCancelPending = true;
		InterruptPending = true;
		SetLatch(MyLatch);
	}
}

/*
 * If it struck when the wait was over already, nothing is canceled any more: what
 * was to be done is done.
 */
static void
stop_watch(void)
{
	if (!watch.running)
		return;
	watch.running = false;
	disable_timeout(watch.timeout, false);
	if (watch.struck)
		QueryCancelPending = false;
}

static void
stop_watch_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			if (!watch.over_commits)
				stop_watch();
			break;
		case XACT_EVENT_ABORT:
			/* The cancel was its reason: there is none to take back. */
			watch.struck = false;
			stop_watch();
			break;
		default:
			break;
	}
}

/*
 * Cancels what runs once its waits for tables took so many milliseconds. The
 * timeout and the callback are registered on first use: few sessions need them.
 */
static void
start_watch(int limit, bool over_commits)
{
	if (!watch.registered)
	{
		watch.timeout = RegisterTimeout(USER_TIMEOUT, look);
		RegisterXactCallback(stop_watch_at_xact_end, NULL);
		watch.registered = true;
	}
	stop_watch();
	watch.struck = false;
	watch.left = limit;
	watch.over_commits = over_commits;
	watch.running = true;
	enable_timeout_every(watch.timeout,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 WATCH_TICK),
						 WATCH_TICK);
}

/* limit_lock_waits(milliseconds integer): 0 ends it */
Datum
ringfence_limit_lock_waits(PG_FUNCTION_ARGS)
{
	int			limit = PG_GETARG_INT32(0);

	if (limit < 0 || limit > WATCH_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid limit %d", limit),
				 errdetail("It is 0 to %d milliseconds.", WATCH_MAX)));
	if (limit == 0)
		stop_watch();
	else
		start_watch(limit, false);
	PG_RETURN_VOID();
}

/* lock_waits_exceeded(): was it the limit that canceled what ran? */
Datum
ringfence_lock_waits_exceeded(PG_FUNCTION_ARGS)
{
	bool		struck = watch.running && watch.struck;

	/* The cancel was what brought us here: there is none to take back. */
	watch.struck = false;
	stop_watch();
	PG_RETURN_BOOL(struck);
}

/* --- The worker --- */

/* Within a transaction with a snapshot, as ringfence_owner. */
static bool
find_target(const RfUuid *id, DetachTarget *target)
{
	Oid			types[] = {UUIDOID};
	Datum		values[] = {PointerGetDatum(id)};
	bool		found;
	bool		isnull;

	rf_apart_become_owner();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute_with_args("SELECT d.relation::pg_catalog.oid,"
							  " d.partition::pg_catalog.oid, d.cutoff"
							  " FROM ringfence_data.partition_drops AS d"
							  " INNER JOIN ringfence_data.partitioned_tables AS p"
							  " ON p.relation OPERATOR(pg_catalog.=) d.relation"
							  " WHERE d.id OPERATOR(pg_catalog.=) $1"
							  " AND d.detached_at IS NULL"
							  " AND d.dropped_at IS NULL AND d.kept_at IS NULL",
							  lengthof(types), types, values, NULL, true,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition_drops");
	found = SPI_processed == 1;
	if (found)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		target->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
		target->partition = DatumGetObjectId(SPI_getbinval(tuple, desc, 2,
														   &isnull));
		target->cutoff = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3,
														   &isnull));
	}
	SPI_finish();
	rf_apart_become_superuser();
	return found;
}

/* Is it a table of that kind and owner? */
static bool
is_ours(Oid relid, char relkind, Oid owner, bool *is_partition)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class class = (Form_pg_class) GETSTRUCT(tuple);

		result = class->relkind == relkind && class->relowner == owner;
		*is_partition = class->relispartition;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * Is the target still a partition of the table, with a range that lies before the
 * cutoff, and both ringfence_owner's? To be asked with the partition locked.
 */
static bool
may_detach(const DetachTarget *target, Oid owner)
{
	bool		is_partition = false;
	bool		ignored;
	TimestampTz lower;
	TimestampTz upper;

	return is_ours(target->relid, RELKIND_PARTITIONED_TABLE, owner, &ignored) &&
		is_ours(target->partition, RELKIND_RELATION, owner, &is_partition) &&
		is_partition &&
		get_partition_parent(target->partition, true) == target->relid &&
		read_bounds(target->partition, &lower, &upper) &&
		!TIMESTAMP_NOT_FINITE(upper) && upper <= target->cutoff;
}

static RangeVar *
range_var(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	char	   *name = get_rel_name(relid);

	if (schema == NULL || name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table is gone")));
	return makeRangeVar(schema, name, -1);
}

/*
 * Runs the statement, which commits, and leaves another transaction open. In a
 * portal, as a client's statement is: event triggers need one for a snapshot of
 * that other transaction.
 */
static void
run_detach(const DetachTarget *target)
{
	AlterTableStmt *statement = makeNode(AlterTableStmt);
	AlterTableCmd *command = makeNode(AlterTableCmd);
	PartitionCmd *partition = makeNode(PartitionCmd);
	PlannedStmt *planned = makeNode(PlannedStmt);
	Portal		portal = CreateNewPortal();
	QueryCompletion completion;
	const char *sql;

	partition->name = range_var(target->partition);
	partition->concurrent = true;
	command->subtype = AT_DetachPartition;
	command->def = (Node *) partition;
	statement->relation = range_var(target->relid);
	statement->objtype = OBJECT_TABLE;
	statement->cmds = list_make1(command);
	planned->commandType = CMD_UTILITY;
	planned->utilityStmt = (Node *) statement;
	planned->stmt_location = -1;

	sql = psprintf("ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY",
				   quote_qualified_identifier(statement->relation->schemaname,
											  statement->relation->relname),
				   quote_qualified_identifier(partition->name->schemaname,
											  partition->name->relname));
	debug_query_string = sql;
	pgstat_report_activity(STATE_RUNNING, sql);

	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CMDTAG_ALTER_TABLE,
					  list_make1(planned), NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	(void) rf_portal_run(portal, &completion);
	PortalDrop(portal, false);
}

/* Notes, in the transaction that ends the detaching, that it is done. */
static void
record_detached(const RfUuid *id)
{
	Oid			types[] = {UUIDOID};
	Datum		values[] = {PointerGetDatum(id)};

	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute_with_args("UPDATE ringfence_data.partition_drops"
							  " SET detached_at = pg_catalog.clock_timestamp()"
							  " WHERE id OPERATOR(pg_catalog.=) $1",
							  lengthof(types), types, values, NULL, false,
							  0) != SPI_OK_UPDATE || SPI_processed != 1)
		elog(ERROR, "could not record that a partition is detached");
	SPI_finish();
	PopActiveSnapshot();
}

/*
 * All the worker's work. False if there is nothing to detach; throws, with some
 * of it done perhaps: what is left to do then shows in the catalogs.
 */
static bool
detach(const RfUuid *id)
{
	DetachTarget target;
	LockRelId	lock;
	Oid			owner;
	MemoryContext mcxt = CurrentMemoryContext;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(mcxt);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!find_target(id, &target))
		return false;
	lock.dbId = MyDatabaseId;
	lock.relId = target.partition;
	LockRelationIdForSession(&lock, ShareUpdateExclusiveLock);

	owner = get_role_oid(RF_ROLE_OWNER, false);
	if (!may_detach(&target, owner))
		return false;
	PopActiveSnapshot();
	SetUserIdAndSecContext(owner, 0);
	start_watch(WATCH_LIMIT, true);
	run_detach(&target);
	MemoryContextSwitchTo(mcxt);
	record_detached(id);
	stop_watch();
	rf_apart_become_superuser();
	/* The transaction has it too. Nothing but an abort would let go of it. */
	UnlockRelationIdForSession(&lock, ShareUpdateExclusiveLock);
	CommitTransactionCommand();
	return true;
}

/* Is that how a wait ends that took too long? */
static bool
is_impatience(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* The statement's memory has to outlast the transactions that it ends. */
static void
answer(RfApart *apart)
{
	DetachRequest *request = (DetachRequest *) apart;
	MemoryContext mcxt = AllocSetContextCreate(TopMemoryContext,
											   "ringfence partition",
											   ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(mcxt);
	PG_TRY();
	{
		request->detached = detach(&request->id);
		if (!request->detached)
			AbortCurrentTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(mcxt);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		if (!is_impatience(error))
		{
			request->sqlstate = error->sqlerrcode;
			strlcpy(request->message, error->message,
					pg_mbcliplen(error->message, strlen(error->message),
								 MAX_MESSAGE - 1) + 1);
		}
	}
	PG_END_TRY();
}

/* The worker: see the head of this file. */
void
rf_partition_main(Datum main_arg)
{
	dsm_segment *segment = rf_apart_attach(main_arg, "detaching a partition");
	DetachRequest *request = dsm_segment_address(segment);
	char		patience[16];

	snprintf(patience, sizeof(patience), "%d", request->patience);
	SetConfigOption("lock_timeout", patience, PGC_SUSET, PGC_S_OVERRIDE);
	rf_apart_record(segment, answer);
	proc_exit(0);
}

/* detach_partition(id uuid, patience integer) */
Datum
ringfence_detach_partition(PG_FUNCTION_ARGS)
{
	int			patience = PG_GETARG_INT32(1);
	dsm_segment *segment;
	DetachRequest *request;
	char		message[MAX_MESSAGE];
	bool		detached;
	int			sqlstate;

	if (patience < 1 || patience > MAX_PATIENCE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid patience %d", patience),
				 errdetail("It is 1 to %d milliseconds.", MAX_PATIENCE)));
	PreventCommandIfReadOnly("detach_partition()");
	segment = rf_apart_segment(sizeof(DetachRequest));
	request = dsm_segment_address(segment);
	memcpy(&request->id, PG_GETARG_UUID_P(0), sizeof(RfUuid));
	request->patience = patience;
	rf_apart_run(segment, "rf_partition_main", "ringfence partition",
				 "that a partition was detached");
	detached = request->detached;
	sqlstate = request->sqlstate;
	strlcpy(message, request->message, MAX_MESSAGE);
	dsm_detach(segment);
	if (sqlstate != 0)
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("could not detach a partition: %s", message)));
	PG_RETURN_BOOL(detached);
}
