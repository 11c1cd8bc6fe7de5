/*
 * retention.c: what removes and anonymizes rows, and what tells it to wait.
 *
 * One function does all of it: retention, erasure, the end of an organization.
 * It is told what by names of what was registered, and has the statement made of
 * them by retention_statement(), so that nobody can have it run a statement of
 * their own. That runs as foreign keys' cascades do: as the table's owner, past
 * row security that is forced on owners too, and with the organization as the
 * context, for triggers and defaults. Meanwhile audit_row() records nothing,
 * unless it is asked to: the caller records one event for all the rows.
 *
 * Each call that changes rows holds ShareLock on legal_holds until its transaction
 * ends. So a hold waits for the batch that is under way, and the next one sees it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogdefs.h"
#include "catalog/pg_extension_d.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "ringfence.h"

#define CLOCK_SETTING "ringfence.retention_clock"
#define WAIT_CLASS(info) ((info) & 0xFF000000)
#define WAIT_EVENT(info) ((info) & 0x0000FFFF)

PG_FUNCTION_INFO_V1(ringfence_retention_execute);
PG_FUNCTION_INFO_V1(ringfence_lock_holds);
PG_FUNCTION_INFO_V1(ringfence_retaining);
PG_FUNCTION_INFO_V1(ringfence_retention_now);
PG_FUNCTION_INFO_V1(ringfence_job_lock);
PG_FUNCTION_INFO_V1(ringfence_job_unlock);
PG_FUNCTION_INFO_V1(ringfence_replication_lag);
PG_FUNCTION_INFO_V1(ringfence_lock_waiters);

/* Settings; owned by guc.c. */
static char *clock_setting = NULL;
static int	batch_ms = 50;
static char *region = NULL;
static double rest_factor = 9.0;
static int	max_lag = 65536;
static int	max_waiters = 5;

/*
 * What runs now: set around a statement, and put back when it ends or fails; the
 * lists are the caller's memory.
 */
typedef struct RetentionState
{
	bool		active;
	bool		recorded;		/* row by row in the audit log */
	List	   *own;			/* the task's table, its partitions, children */
	List	   *cascaded;		/* tables whose rows go with its rows */
} RetentionState;

static RetentionState running;

/*
 * Is a row going or changing that the audit log is not to tell of? Not what
 * triggers do to other tables meanwhile, nor what a foreign key sets to NULL.
 */
bool
rf_retention_unrecorded(Oid relid, bool is_delete)
{
	return running.active && !running.recorded &&
		(list_member_oid(running.own, relid) ||
		 (is_delete && list_member_oid(running.cascaded, relid)));
}

/* What is to be run, as retention_statement() says. */
typedef struct RetentionOrder
{
	Oid			relid;
	Oid			owner;
	char	   *statement;
	List	   *own;			/* as in "running" */
	List	   *cascaded;
	bool		recorded;
	bool		batch;			/* few rows, by their places */
} RetentionOrder;

/* An array of oids as a list, in that memory. */
static List *
oid_list(Datum array, MemoryContext mcxt)
{
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	List	   *list = NIL;
	Datum	   *oids;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), OIDOID, sizeof(Oid), true,
					  TYPALIGN_INT, &oids, NULL, &n);
	for (int i = 0; i < n; i++)
		list = lappend_oid(list, DatumGetObjectId(oids[i]));
	MemoryContextSwitchTo(old);
	return list;
}

/*
 * Has the statement made for a task; in the caller's memory. Made as the jobs'
 * role, which row security doesn't keep from any hold. Throws where there is
 * none.
 */
static void
take_order(Datum task, Datum org, bool has_org, MemoryContext mcxt, RetentionOrder *order)
{
	Oid			types[] = {JSONBOID, UUIDOID};
	Datum		values[] = {task, org};
	char		nulls[] = {' ', has_org ? ' ' : 'n'};
	bool		isnull[6];
	TupleDesc	desc;
	HeapTuple	tuple;
	Datum		statement;
	Oid			user;
	int			security;

	/* An error puts the user back with the (sub)transaction. */
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(get_role_oid(RF_ROLE_JOBS, false),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute_with_args("SELECT s.rel::pg_catalog.oid, s.statement,"
							  " coalesce(($1 OPERATOR(pg_catalog.->>) 'audit_rows')::pg_catalog.bool, false),"
							  " $1 OPERATOR(pg_catalog.?) 'batch',"
							  " r.own, r.cascaded"
							  " FROM ringfence.retention_statement($1, $2) AS s"
							  " CROSS JOIN LATERAL ringfence.retention_reach(s.rel) AS r",
							  lengthof(types), types, values, nulls, false,
							  2) != SPI_OK_SELECT)
		elog(ERROR, "could not make the statement of a task");
	SetUserIdAndSecContext(user, security);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is nothing to do of that name")));
	desc = SPI_tuptable->tupdesc;
	tuple = SPI_tuptable->vals[0];
	order->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull[0]));
	statement = SPI_getbinval(tuple, desc, 2, &isnull[1]);
	order->recorded = DatumGetBool(SPI_getbinval(tuple, desc, 3, &isnull[2]));
	order->batch = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull[3]));
	if (isnull[0] || isnull[1])
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is nothing to do of that name")));
	order->own = oid_list(SPI_getbinval(tuple, desc, 5, &isnull[4]), mcxt);
	order->cascaded = oid_list(SPI_getbinval(tuple, desc, 6, &isnull[5]), mcxt);
	order->statement = MemoryContextStrdup(mcxt, TextDatumGetCString(statement));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * The answer of a statement: one row of one jsonb, or of a query plan's json. In
 * the caller's memory.
 */
static Datum
take_answer(const RetentionOrder *order, MemoryContext mcxt)
{
	MemoryContext old;
	Datum		answer;
	char	   *value;

	if (SPI_execute(order->statement, false, 2) < 0 || SPI_processed != 1 ||
		SPI_tuptable == NULL)
		elog(ERROR, "unexpected answer of a task for table %u", order->relid);
	value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

	if (value == NULL)
		elog(ERROR, "no answer of a task for table %u", order->relid);
	old = MemoryContextSwitchTo(mcxt);
	answer = DirectFunctionCall1(jsonb_in, CStringGetDatum(value));
	MemoryContextSwitchTo(old);
	return answer;
}

/*
 * Locks the table, as its statement will anyway, so that it stays what it is and
 * whose it is.
 */
static void
lock_table(RetentionOrder *order, bool reads)
{
	Relation	rel = try_relation_open(order->relid, reads ? AccessShareLock :
										RowExclusiveLock);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table is gone")));
	order->owner = rel->rd_rel->relowner;
	relation_close(rel, NoLock);
}

static void
set_for_statement(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Settings of the statement, in a level of their own. Of a batch the planner
 * knows no row count worth the name, and one plan is right for all: the index,
 * and then row by row.
 */
static void
set_all(const RetentionOrder *order)
{
	set_for_statement("search_path", "pg_catalog, pg_temp");
	/* Times go out as text and come back. */
	set_for_statement("DateStyle", "ISO");
	set_for_statement("IntervalStyle", "postgres");
	set_for_statement("TimeZone", "UTC");
	if (!order->batch)
		return;
	set_for_statement("enable_hashjoin", "off");
	set_for_statement("enable_mergejoin", "off");
	set_for_statement("enable_seqscan", "off");
	set_for_statement("jit", "off");
}

/*
 * Runs the statement as the table's owner. Triggers of the table run with it; of
 * what they do, nothing may be left for the rest of the transaction, which has
 * other rights than theirs: no setting, and nothing that is put off until the
 * commit. So everything is checked at once, and the rest refused, but for
 * ringfence_owner's own tables in its own code.
 */
static Datum
run_as_owner(const RetentionOrder *order, MemoryContext mcxt)
{
	Oid			user;
	int			security;
	int			nest_level = NewGUCNestLevel();
	bool		restricted;
	Datum		answer;

	GetUserIdAndSecContext(&user, &security);
	restricted = user != order->owner;
	if (restricted &&
		SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not check constraints");
	set_all(order);
	/* An error puts the user back with the (sub)transaction. */
	SetUserIdAndSecContext(order->owner, security |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS |
						   (restricted ? SECURITY_RESTRICTED_OPERATION : 0));
	answer = take_answer(order, mcxt);
	SetUserIdAndSecContext(user, security);
	AtEOXact_GUC(false, nest_level);
	return answer;
}

/*
 * Makes the organization the context, unless it is that already; says whether it
 * did. Who has one can't work on another's.
 */
static bool
enter(const RfIdentity *present, const RfUuid *org)
{
	RfIdentity	identity;

	if (org == NULL)
		return false;
	if (present->has_org)
	{
		if (memcmp(&present->org, org, sizeof(RfUuid)) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("the context of this transaction is already fixed")));
		return false;
	}
	memset(&identity, 0, sizeof(identity));
	identity.actor = RF_ACTOR_JOB;
	identity.has_org = true;
	identity.org = *org;
	rf_context_override(&identity);
	return true;
}

/* Kinds of tasks that leave rows as they are, so that no hold waits for them. */
static const char *const reading_kinds[] = {
	"due", "estimate", "preview", "export", "org_export", NULL
};

/* Kinds that are about a person: those who ask for them are checked before. */
static const char *const subject_kinds[] = {"erase", "export", "find", NULL};

static bool
is_kind(Jsonb *task, const char *const *kinds)
{
	JsonbValue	value;
	JsonbValue *kind = getKeyJsonValueFromContainer(&task->root, "kind", 4,
													&value);

	if (kind == NULL || kind->type != jbvString)
		return false;
	for (int i = 0; kinds[i] != NULL; i++)
		if (kind->val.string.len == (int) strlen(kinds[i]) &&
			memcmp(kind->val.string.val, kinds[i], strlen(kinds[i])) == 0)
			return true;
	return false;
}

static Datum
execute(Datum task, const RfUuid *org, bool reads, MemoryContext mcxt)
{
	RfIdentity	present = *rf_context();
	RetentionState outer = running;
	RetentionOrder order;
	uint64		messages;
	bool		entered;
	Datum		answer = (Datum) 0;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");

	/*
	 * A table may have been given another's name while this one waited for
	 * it.
	 */
	do
	{
		messages = SharedInvalidMessageCounter;
		take_order(task, PointerGetDatum(org), org != NULL, mcxt, &order);
		lock_table(&order, reads);
	} while (messages != SharedInvalidMessageCounter);
	entered = enter(&present, org);
	PG_TRY();
	{
		running.active = true;
		running.recorded = order.recorded;
		running.own = order.own;
		running.cascaded = order.cascaded;
		answer = run_as_owner(&order, mcxt);
	}
	PG_FINALLY();
	{
		running = outer;
		if (entered)
			rf_context_override(&present);
	}
	PG_END_TRY();
	SPI_finish();
	return answer;
}

/* Opens legal_holds, to be locked so until the transaction ends. */
static void
lock_holds(LOCKMODE mode)
{
	Relation	holds = rf_directory_open("legal_holds", mode);

	if (holds == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("app \"%s\" is not installed", "core"),
				 errhint("Call %s.", "ringfence.install('core')")));
	relation_close(holds, NoLock);
}

/*
 * retention_execute(task jsonb, org uuid): does what the task names to rows of
 * one table, and returns the answer of its statement.
 */
Datum
ringfence_retention_execute(PG_FUNCTION_ARGS)
{
	bool		reads;

	if (PG_ARGISNULL(0) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(0)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a task must be given")));
	reads = is_kind(PG_GETARG_JSONB_P(0), reading_kinds);
	if (is_kind(PG_GETARG_JSONB_P(0), subject_kinds) && !superuser() &&
		GetUserId() != get_role_oid(RF_ROLE_OWNER, false))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for what is about a person"),
				 errhint("Call %s or %s.", "ringfence.erase_subject()",
						 "ringfence.export_subject()")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("rows are removed and anonymized under READ COMMITTED only"),
				 errdetail("An older snapshot would not see a hold that was placed since.")));
	PreventCommandIfReadOnly("retention_execute()");
	lock_holds(reads ? AccessShareLock : ShareLock);
	PG_RETURN_DATUM(execute(PG_GETARG_DATUM(0),
							PG_ARGISNULL(1) ? NULL :
							(const RfUuid *) PG_GETARG_UUID_P(1), reads,
							CurrentMemoryContext));
}

/* lock_holds(): holds wait until the transaction ends. */
Datum
ringfence_lock_holds(PG_FUNCTION_ARGS)
{
	lock_holds(ShareLock);
	PG_RETURN_VOID();
}

/* retaining(): is what happens to a row retention's or an erasure's doing? */
Datum
ringfence_retaining(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(running.active);
}

/* retention_now(): what periods count from. */
Datum
ringfence_retention_now(PG_FUNCTION_ARGS)
{
	if (clock_setting == NULL || *clock_setting == '\0')
		PG_RETURN_TIMESTAMPTZ(GetCurrentTimestamp());
	PG_RETURN_DATUM(DirectFunctionCall3(timestamptz_in,
										CStringGetDatum(clock_setting),
										ObjectIdGetDatum(InvalidOid),
										Int32GetDatum(-1)));
}

/*
 * A lock of the database's for a name. It is the session's, and kept over
 * commits; an abort, which is what an error comes to that nobody caught, lets go
 * of it.
 */
static void
job_tag(FunctionCallInfo fcinfo, LOCKTAG *tag)
{
	text	   *name = PG_GETARG_TEXT_PP(0);

	/* A column of an extension, which has none: the tag is nobody else's. */
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, ExtensionRelationId,
					   hash_bytes((unsigned char *) VARDATA_ANY(name),
								  VARSIZE_ANY_EXHDR(name)), 1);
}

/* A session that ends between two transactions has no abort to let go of them. */
static void
let_go(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (!IsTransactionOrTransactionBlock())
		LockReleaseAll(DEFAULT_LOCKMETHOD, true);
}

/* job_lock(name text): without waiting; false if somebody has it already. */
Datum
ringfence_job_lock(PG_FUNCTION_ARGS)
{
	static bool registered = false;
	LOCKTAG		tag;

	PreventCommandDuringRecovery("job_lock()");
	if (!registered)
	{
		before_shmem_exit(let_go, (Datum) 0);
		registered = true;
	}
	job_tag(fcinfo, &tag);
	switch (LockAcquire(&tag, ExclusiveLock, true, true))
	{
		case LOCKACQUIRE_NOT_AVAIL:
			PG_RETURN_BOOL(false);
		case LOCKACQUIRE_OK:
			PG_RETURN_BOOL(true);
		default:
			/* This session has it, and counts. */
			(void) LockRelease(&tag, ExclusiveLock, true);
			PG_RETURN_BOOL(false);
	}
}

/* job_unlock(name text) */
Datum
ringfence_job_unlock(PG_FUNCTION_ARGS)
{
	LOCKTAG		tag;

	job_tag(fcinfo, &tag);
	if (!rf_lock_held(&tag, ExclusiveLock))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(LockRelease(&tag, ExclusiveLock, true));
}

/* How far a standby, or who else receives WAL, has come; 0 if it doesn't say. */
static XLogRecPtr
receiver_position(WalSnd *walsnd)
{
	XLogRecPtr	position = InvalidXLogRecPtr;

	SpinLockAcquire(&walsnd->mutex);
	if (walsnd->pid != 0 && (walsnd->state == WALSNDSTATE_CATCHUP ||
							 walsnd->state == WALSNDSTATE_STREAMING))
		position = XLogRecPtrIsInvalid(walsnd->apply) ? walsnd->flush :
			walsnd->apply;
	SpinLockRelease(&walsnd->mutex);
	return position;
}

/* replication_lag(): bytes that the slowest connected receiver has yet to apply. */
Datum
ringfence_replication_lag(PG_FUNCTION_ARGS)
{
	XLogRecPtr	present;
	int64		lag = 0;

	if (RecoveryInProgress())
		PG_RETURN_INT64(0);
	present = GetFlushRecPtr(NULL);
	for (int i = 0; i < max_wal_senders; i++)
	{
		XLogRecPtr	position = receiver_position(&WalSndCtl->walsnds[i]);

		if (!XLogRecPtrIsInvalid(position) && position < present)
			lag = Max(lag, (int64) (present - position));
	}
	PG_RETURN_INT64(lag);
}

/*
 * lock_waiters(): sessions of this database that wait for a lock on a table, a row
 * or a transaction just now. Advisory locks are the application's own business.
 */
Datum
ringfence_lock_waiters(PG_FUNCTION_ARGS)
{
	int			waiters = 0;

	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		uint32		wait = *(volatile uint32 *) &proc->wait_event_info;

		/* One that left meanwhile counts at most once too often. */
		if (proc->databaseId == MyDatabaseId &&
			WAIT_CLASS(wait) == PG_WAIT_LOCK &&
			WAIT_EVENT(wait) <= LOCKTAG_TRANSACTION)
			waiters++;
	}
	PG_RETURN_INT32(waiters);
}

/* Registers settings. Called once, from _PG_init. */
void
rf_retention_init(void)
{
	DefineCustomStringVariable("ringfence.region",
							   "The region whose organizations this database keeps.",
							   "Organizations of other regions are refused; empty takes any.",
							   &region, "", PGC_SUSET, 0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("ringfence.retention_batch_ms",
							"How long a batch of retention is meant to take.",
							"Batches grow and shrink to meet it.",
							&batch_ms, 50, 1, 60000, PGC_USERSET,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable(CLOCK_SETTING,
							   "The time that retention counts from, instead of now.",
							   "For tests and previews.",
							   &clock_setting, "", PGC_SUSET,
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("ringfence.retention_max_lag",
							"How far a standby may be behind before retention waits for it.",
							"-1 never waits.",
							&max_lag, 65536, -1, MAX_KILOBYTES, PGC_USERSET,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("ringfence.retention_max_waiters",
							"How many sessions may be waiting for locks before retention waits for them.",
							"-1 never waits.",
							&max_waiters, 5, -1, INT_MAX / 2, PGC_USERSET,
							0, NULL, NULL, NULL);
	DefineCustomRealVariable("ringfence.retention_rest",
							 "How long retention rests after a batch, as a multiple of the time that it took.",
							 NULL,
							 &rest_factor, 9.0, 0.0, 1000.0, PGC_USERSET,
							 0, NULL, NULL, NULL);
}
