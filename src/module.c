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

RF_MODULE_MAGIC;

static ExecutorStart_hook_type prev_ExecutorStart = NULL;

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
	MarkGUCPrefixReserved("ringfence");
	rf_guard_init();
	rf_planner_init();
	rf_request_init();
	prev_ExecutorStart = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
}
