/*
 * module.c: loads the library and chains the executor.
 *
 * Settings and callbacks are registered first and hooks last, so that an error
 * on the way leaves no hook behind. Nothing needs shared_preload_libraries;
 * session_preload_libraries spares the first parallel query of a session an
 * error (see context.c).
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compat.h"
#include "ringfence.h"
#include "seal.h"

RF_MODULE_MAGIC;

static ExecutorStart_hook_type prev_ExecutorStart = NULL;
static ExecutorFinish_hook_type prev_ExecutorFinish = NULL;

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
	if (prev_ExecutorFinish)
		prev_ExecutorFinish(queryDesc);
	else
		standard_ExecutorFinish(queryDesc);

	if (has_fired_triggers(queryDesc))
		rf_audit_flush();
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
	rf_session_init();
	rf_caller_init();
	rf_jwt_init();
	rf_audit_init();
	rf_signing_init();
	MarkGUCPrefixReserved("ringfence");
	rf_guard_init();
	rf_planner_init();
	rf_request_init();
	prev_ExecutorStart = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
	prev_ExecutorFinish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_executor;
}
