/*
 * module.c: loads the library and chains the executor.
 *
 * Settings and callbacks are registered first and hooks last, so that an error
 * on the way leaves no hook behind. Nothing needs shared_preload_libraries;
 * session_preload_libraries spares the first parallel query of a session an
 * error (see context.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compat.h"
#include "idempotency.h"
#include "ledger.h"
#include "ringfence.h"
#include "seal.h"

RF_MODULE_MAGIC;

static ExecutorStart_hook_type prev_ExecutorStart = NULL;
static ExecutorRun_hook_type prev_ExecutorRun = NULL;
static ExecutorFinish_hook_type prev_ExecutorFinish = NULL;

/*
 * The statement that is being run or finished, if no other one runs it; reset
 * when it ends, or by the abort of the (sub)transaction that it began in.
 */
static struct
{
	QueryDesc  *statement;
	int			level;			/* of the subtransaction */
}			outermost;

extern PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(ringfence_library_version);

/* Acts before the chain: workers must find the context when they start. */
static void
start_executor(QueryDesc *queryDesc, int eflags)
{
	if (queryDesc->plannedstmt->parallelModeNeeded &&
		!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		rf_context_publish();

	if (prev_ExecutorStart)
		prev_ExecutorStart(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

/* Is it what the client asked for? Then it is "outermost" until it leaves. */
static bool
enter_statement(QueryDesc *queryDesc)
{
	if (outermost.statement != NULL)
		return false;
	outermost.statement = queryDesc;
	outermost.level = GetCurrentTransactionNestLevel();
	return true;
}

/* Is a statement being run that a utility statement would be part of? */
bool
rf_statement_running(void)
{
	return outermost.statement != NULL;
}

static void
chain_run(RF_RUN_PARAMETERS)
{
	if (prev_ExecutorRun)
		prev_ExecutorRun(RF_RUN_ARGUMENTS);
	else
		standard_ExecutorRun(RF_RUN_ARGUMENTS);
}

/* Acts before and after the chain; a statement done before isn't run. */
static void
run_executor(RF_RUN_PARAMETERS)
{
	bool		entered = enter_statement(queryDesc);

	if (unlikely(rf_idempotency_set()) && entered)
	{
		bool		replayed;
		RfRecording *recording = rf_idempotency_begin(queryDesc, direction,
													  count, &replayed);

		if (!replayed)
			chain_run(RF_RUN_ARGUMENTS);
		if (recording != NULL)
			rf_idempotency_end(recording, queryDesc);
	}
	else
		chain_run(RF_RUN_ARGUMENTS);
	if (entered)
		outermost.statement = NULL;
}

/*
 * Is the end of a statement also that of its triggers? Not if the statement
 * around it fires them: the check or cascade of a foreign key. A plain SELECT,
 * which has none, carries the same flag.
 */
static bool
has_fired_triggers(const QueryDesc *queryDesc)
{
	const PlannedStmt *stmt = queryDesc->plannedstmt;

	return !(queryDesc->estate->es_top_eflags & EXEC_FLAG_SKIP_TRIGGERS) ||
		(queryDesc->operation == CMD_SELECT && stmt->rowMarks == NIL &&
		 !stmt->hasModifyingCTE);
}

/* Acts after the chain: what was recorded is there for the next statement. */
static void
finish_executor(QueryDesc *queryDesc)
{
	bool		entered = enter_statement(queryDesc);

	if (prev_ExecutorFinish)
		prev_ExecutorFinish(queryDesc);
	else
		standard_ExecutorFinish(queryDesc);
	if (entered)
		outermost.statement = NULL;

	if (has_fired_triggers(queryDesc))
		rf_audit_flush();
}

static void
leave_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		outermost.statement = NULL;
}

static void
leave_at_subxact_end(SubXactEvent event, SubTransactionId mySubid,
					 SubTransactionId parentSubid, void *arg)
{
	(void) mySubid;
	(void) parentSubid;
	(void) arg;
	if (event == SUBXACT_EVENT_ABORT_SUB &&
		outermost.level >= GetCurrentTransactionNestLevel())
		outermost.statement = NULL;
}

Datum
ringfence_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(RINGFENCE_VERSION));
}

void
_PG_init(void)
{
	rf_context_init();
	rf_headers_init();
	rf_session_init();
	rf_caller_init();
	rf_jwt_init();
	rf_audit_init();
	rf_signing_init();
	rf_idempotency_init();
	rf_ledger_init();
	rf_retention_init();
	rf_export_init();
	MarkGUCPrefixReserved("ringfence");
	rf_guard_init();
	rf_planner_init();
	rf_request_init();
	RegisterXactCallback(leave_at_xact_end, NULL);
	RegisterSubXactCallback(leave_at_subxact_end, NULL);
	prev_ExecutorStart = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
	prev_ExecutorRun = ExecutorRun_hook;
	ExecutorRun_hook = run_executor;
	prev_ExecutorFinish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_executor;
}
