/*
 * apart.c: what has to be on record whatever becomes of the transaction.
 *
 * An error rolls a transaction back, and PostgREST runs GET in one that is READ
 * ONLY. So a background worker writes such a record in a transaction of its own
 * and commits it while the caller waits. Without a free worker slot
 * (max_worker_processes) there is no record, and then the caller gets an error.
 *
 * What is to be recorded travels in a dynamic shared memory segment that belongs
 * to the calling transaction and begins with an RfApart; the worker copies what
 * it needs. The only fields written after the start are the result and "state":
 * by the worker once, to done or failed, after which it sets the caller's latch.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "apart.h"
#include "compat.h"
#include "ringfence.h"

/*
 * The worker may wait for a lock of the transaction that waits for it, which
 * no deadlock check sees.
 */
#define LOCK_TIMEOUT "10s"

enum
{
	APART_PENDING,
	APART_DONE,
	APART_FAILED,
};

/* A new segment of that size, whose head is an RfApart. */
dsm_segment *
rf_apart_segment(Size size)
{
	dsm_segment *segment = dsm_create(size, 0);
	RfApart    *apart = dsm_segment_address(segment);

	memset(apart, 0, size);
	pg_atomic_init_u32(&apart->state, APART_PENDING);
	apart->database = MyDatabaseId;
	apart->pid = MyProcPid;
	return segment;
}

static void
await(RfApart *apart, BackgroundWorkerHandle *handle, const char *what)
{
	for (;;)
	{
		uint32		state = pg_atomic_read_u32(&apart->state);
		pid_t		pid;

		if (state == APART_DONE)
		{
			pg_read_barrier();	/* before the result is looked at */
			return;
		}
		if (state == APART_FAILED ||
			GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED)
		{
			/* It may have finished between the two looks. */
			if (pg_atomic_read_u32(&apart->state) == APART_DONE)
				continue;
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not record %s", what),
					 errhint("The server log says why.")));
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Has a worker run that function of ours on the segment, and waits until it has
 * committed; "what" is recorded, for messages. Throws 53000 if it could not.
 */
void
rf_apart_run(dsm_segment *segment, const char *function, const char *name,
			 const char *what)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "ringfence", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not record %s", what),
				 errdetail("No background worker slot is free."),
				 errhint("Try again later, or raise \"max_worker_processes\".")));
	await(dsm_segment_address(segment), handle, what);
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

/*
 * In the worker: attaches to the segment and connects to the database, with
 * "activity" for pg_stat_activity.
 */
dsm_segment *
rf_apart_attach(Datum main_arg, const char *activity)
{
	dsm_segment *segment;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "ringfence worker");
	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		proc_exit(0);			/* the caller gave up */
	dsm_pin_mapping(segment);
	override_settings();
	BackgroundWorkerInitializeConnectionByOid(((RfApart *) dsm_segment_address(segment))->database,
											  InvalidOid, 0);
	pgstat_report_activity(STATE_RUNNING, activity);
	return segment;
}

/*
 * In the worker, within its transaction: what is written is written as
 * ringfence_owner, whose code an index or a policy may be; and back, before the
 * transaction ends.
 */
void
rf_apart_become_owner(void)
{
	SetUserIdAndSecContext(get_role_oid(RF_ROLE_OWNER, false),
						   SECURITY_LOCAL_USERID_CHANGE);
}

void
rf_apart_become_superuser(void)
{
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
}

/*
 * In the worker: runs a function that writes the record and commits it, tells
 * the caller how it went, and lets go of the segment.
 */
void
rf_apart_record(dsm_segment *segment, void (*record) (RfApart *apart))
{
	RfApart    *apart = dsm_segment_address(segment);
	int			pid = apart->pid;
	PGPROC	   *caller;

	PG_TRY();
	{
		record(apart);
		pg_write_barrier();		/* the result is there first */
		pg_atomic_write_u32(&apart->state, APART_DONE);
	}
	PG_CATCH();
	{
		pg_atomic_write_u32(&apart->state, APART_FAILED);
		PG_RE_THROW();
	}
	PG_END_TRY();
	caller = BackendPidGetProc(pid);
	if (caller != NULL)
		SetLatch(&caller->procLatch);
	dsm_detach(segment);
}
