/*
 * entry.c: how an operator or a job enters an org, on the record.
 *
 * A record that the operator's own transaction wrote would go with its
 * ROLLBACK, and a READ ONLY transaction could write none. So a background
 * worker writes it: it commits the row before enter_org() returns, then waits
 * for the virtual transaction of the operator to end, whichever way it does,
 * and notes the time. Without a committed row nobody gets in; without a free
 * worker slot (max_worker_processes) nobody does either.
 *
 * The request travels in a dynamic shared memory segment that belongs to the
 * calling transaction; the worker copies it and lets go before it waits. The
 * only field written after the start is "state": by the worker once, to done
 * or failed, after which it sets the caller's latch.
 *
 * If the server stops or crashes, rows stay without an end; the next entry into
 * the org closes those whose session is gone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "ringfence.h"

#define MAX_REASON 1000

/*
 * The worker may wait for a lock of the transaction that waits for it, which
 * no deadlock check sees.
 */
#define LOCK_TIMEOUT "10s"

PG_FUNCTION_INFO_V1(ringfence_enter_org);

typedef enum EntryState
{
	ENTRY_PENDING,
	ENTRY_DONE,
	ENTRY_FAILED,
} EntryState;

typedef struct EntryRequest
{
	pg_atomic_uint32 state;
	Oid			database;
	Oid			owner;			/* ringfence_owner */
	RfUuid		id;
	RfUuid		org;
	RfActor		actor;
	VirtualTransactionId vxid;	/* of the operator's transaction */
	int			pid;
	char		login[NAMEDATALEN];
	char		reason[MAX_REASON + 1];
} EntryRequest;

static RfActor
entering_actor(void)
{
	Oid			operator_role = get_role_oid(RF_ROLE_OPERATOR, true);
	Oid			jobs_role = get_role_oid(RF_ROLE_JOBS, true);

	if (OidIsValid(operator_role) &&
		is_member_of_role_nosuper(GetUserId(), operator_role))
		return RF_ACTOR_OPERATOR;
	if (OidIsValid(jobs_role) &&
		is_member_of_role_nosuper(GetUserId(), jobs_role))
		return RF_ACTOR_JOB;
	if (superuser())
		return RF_ACTOR_OPERATOR;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to enter an organization"),
			 errhint("Only members of role \"%s\" or \"%s\" may.",
					 RF_ROLE_OPERATOR, RF_ROLE_JOBS)));
	return RF_ACTOR_ANONYMOUS;	/* keep the compiler quiet */
}

static char *
entry_reason(text *value)
{
	char	   *reason = text_to_cstring(value);

	if (strspn(reason, " \t\r\n") == strlen(reason) ||
		strlen(reason) > MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a reason is needed to enter an organization"),
				 errdetail("It must have between 1 and %d bytes that are not all blank.",
						   MAX_REASON)));
	return reason;
}

static void
start_worker(dsm_segment *segment, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "ringfence", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "rf_entry_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "ringfence org entry", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "ringfence org entry", BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not record the entry into an organization"),
				 errdetail("No background worker slot is free."),
				 errhint("Try again later, or raise \"max_worker_processes\".")));
}

/* Waits until the row is committed. Throws if that failed. */
static void
await_record(EntryRequest *request, BackgroundWorkerHandle *handle)
{
	for (;;)
	{
		uint32		state = pg_atomic_read_u32(&request->state);
		pid_t		pid;

		if (state == ENTRY_DONE)
			return;
		if (state == ENTRY_FAILED ||
			GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED)
		{
			/* It may have finished between the two looks. */
			if (pg_atomic_read_u32(&request->state) == ENTRY_DONE)
				return;
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not record the entry into an organization"),
					 errhint("The server log says why.")));
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* enter_org(org uuid, reason text) */
Datum
ringfence_enter_org(PG_FUNCTION_ARGS)
{
	RfUuid	   *org = (RfUuid *) PG_GETARG_UUID_P(0);
	char	   *reason = entry_reason(PG_GETARG_TEXT_PP(1));
	RfActor		actor = entering_actor();
	RfIdentity	identity = *rf_context();
	RfUuid	   *id = palloc(sizeof(RfUuid));
	BackgroundWorkerHandle *handle;
	dsm_segment *segment;
	EntryRequest *request;

	if (identity.has_org)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the context of this transaction is already fixed"),
				 errhint("Enter one organization a transaction.")));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot enter an organization on a standby"),
				 errdetail("The entry could not be recorded.")));
	if (rf_directory_org(org) == RF_ORG_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("organization \"%s\" does not exist",
						rf_uuid_text(org))));

	rf_uuid7(id);
	segment = dsm_create(sizeof(EntryRequest), 0);
	request = dsm_segment_address(segment);
	memset(request, 0, sizeof(*request));
	pg_atomic_init_u32(&request->state, ENTRY_PENDING);
	request->database = MyDatabaseId;
	request->owner = get_role_oid(RF_ROLE_OWNER, false);
	request->id = *id;
	request->org = *org;
	request->actor = actor;
	rf_my_virtual_transaction(request->vxid);
	request->pid = MyProcPid;
	strlcpy(request->login, GetUserNameFromId(GetSessionUserId(), false),
			sizeof(request->login));
	strlcpy(request->reason, reason, sizeof(request->reason));

	start_worker(segment, &handle);
	await_record(request, handle);
	dsm_detach(segment);

	identity.actor = actor;
	identity.has_org = true;
	identity.org = *org;
	memset(&identity.grants, 0, sizeof(identity.grants));
	rf_context_replace(&identity);
	PG_RETURN_UUID_P((pg_uuid_t *) id);
}

/*
 * Runs one statement in a transaction of its own, as ringfence_owner in the
 * entered org: the record passes the same policies as any other row.
 */
static void
record(const EntryRequest *request, const char *sql, int nargs, Oid *types,
	   Datum *values)
{
	RfIdentity	identity;

	memset(&identity, 0, sizeof(identity));
	identity.actor = request->actor;
	identity.has_org = true;
	identity.org = request->org;

	rf_context_override(&identity);
	SetUserIdAndSecContext(request->owner, SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not record the entry into an organization");
	PopActiveSnapshot();
	SPI_finish();
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	CommitTransactionCommand();
}

static void
record_start(const EntryRequest *request)
{
	Oid			types[] = {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
	Datum		values[6];

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	values[0] = PointerGetDatum(&request->org);
	values[1] = PointerGetDatum(&request->id);
	values[2] = CStringGetTextDatum(rf_actor_name(request->actor));
	values[3] = CStringGetTextDatum(request->login);
	values[4] = CStringGetTextDatum(request->reason);
	values[5] = Int32GetDatum(request->pid);
	record(request,
		   "WITH interrupted AS ("
		   " UPDATE ringfence_data.org_entries AS e"
		   " SET ended_at = CASE WHEN e.started_at OPERATOR(pg_catalog.<)"
		   " pg_catalog.pg_postmaster_start_time()"
		   " THEN pg_catalog.pg_postmaster_start_time()"
		   " ELSE greatest(e.started_at, pg_catalog.clock_timestamp()) END"
		   " WHERE e.org_id OPERATOR(pg_catalog.=) $1"
		   " AND e.ended_at IS NULL"
		   " AND (e.started_at OPERATOR(pg_catalog.<)"
		   " pg_catalog.pg_postmaster_start_time() OR NOT EXISTS ("
		   " SELECT FROM pg_catalog.pg_stat_get_activity(e.pid))))"
		   " INSERT INTO ringfence_data.org_entries"
		   " (org_id, id, actor, login, reason, pid)"
		   " VALUES ($1, $2, $3, $4, $5, $6)",
		   lengthof(types), types, values);
}

static void
record_end(const EntryRequest *request)
{
	Oid			types[] = {UUIDOID, UUIDOID};
	Datum		values[2];

	StartTransactionCommand();
	(void) VirtualXactLock(request->vxid, true);
	SetCurrentStatementStartTimestamp();
	values[0] = PointerGetDatum(&request->org);
	values[1] = PointerGetDatum(&request->id);
	record(request,
		   "UPDATE ringfence_data.org_entries"
		   " SET ended_at ="
		   " greatest(started_at, pg_catalog.clock_timestamp())"
		   " WHERE org_id OPERATOR(pg_catalog.=) $1"
		   " AND id OPERATOR(pg_catalog.=) $2",
		   lengthof(types), types, values);
}

/*
 * Settings of the database or the server that are meant for clients would end
 * the worker, or have it write nothing.
 */
static void
override_settings(void)
{
	static const char *const settings[][2] = {
		{"lock_timeout", LOCK_TIMEOUT},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"row_security", "on"},
		RF_SETTINGS_OF_17
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
}

/* The worker: see the head of this file. */
void
rf_entry_main(Datum main_arg)
{
	dsm_segment *segment;
	EntryRequest *shared;
	EntryRequest request;
	PGPROC	   *caller;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "ringfence org entry");
	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		proc_exit(0);			/* the caller gave up */
	dsm_pin_mapping(segment);
	shared = dsm_segment_address(segment);
	request = *shared;

	override_settings();
	BackgroundWorkerInitializeConnectionByOid(request.database, InvalidOid, 0);
	pgstat_report_activity(STATE_RUNNING, "recording an org entry");
	PG_TRY();
	{
		record_start(&request);
		pg_atomic_write_u32(&shared->state, ENTRY_DONE);
	}
	PG_CATCH();
	{
		pg_atomic_write_u32(&shared->state, ENTRY_FAILED);
		PG_RE_THROW();
	}
	PG_END_TRY();
	caller = BackendPidGetProc(request.pid);
	if (caller != NULL)
		SetLatch(&caller->procLatch);
	dsm_detach(segment);

	/* The end of a transaction is worth any wait. */
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_activity(STATE_RUNNING, "waiting for an org entry to end");
	record_end(&request);
	proc_exit(0);
}
