/*
 * idempotency.c: a write that is sent twice happens once.
 *
 * The setting ringfence.idempotency_key, made for the transaction by
 * pre_request() or by SET LOCAL, arms the next top-level statement that changes
 * anything. Its answer is recorded in the transaction of its effect. If there is
 * a record already, the statement is started and ended as ever, which checks
 * privileges and leaves nothing open, but it isn't run: the recorded rows go to
 * the client. A data-modifying WITH query that nobody reads would be run to its
 * end by ExecutorFinish, so the list of those is emptied.
 *
 * Each assignment of a key has a serial number, and "uses" lists those that a
 * statement has used, with the subtransaction level of the use: an assignment
 * that a rollback to a savepoint brings back is known as used, and one whose use
 * was rolled back is not. The list lives in TopTransactionContext and is
 * forgotten with the transaction. A key protects one statement: another one
 * that changes something while it is set is done, with a warning.
 *
 * What can't be protected is refused while a key waits for its statement; a
 * transaction that wrote something and never used its key can't commit.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/portal.h"

#include "compat.h"
#include "idempotency.h"

PG_FUNCTION_INFO_V1(ringfence_set_idempotency_key);

#define SETTING "ringfence.idempotency_key"

/* A statement whose answer is being recorded. */
struct RfRecording
{
	RfKeyUse	use;
	RfRows	   *rows;
};

typedef struct KeyUsed
{
	uint64		serial;
	int			level;			/* of the subtransaction */
	bool		undone;			/* it was rolled back */
} KeyUsed;

/* The assignment in force; 0 for none. Set by the assign hook. */
uint64		rf_idempotency_serial = 0;

/* Counts assignments in this backend. */
static uint64 assignments = 0;

/* The one that came from a header; older ones don't matter. */
static uint64 header_serial = 0;

/* KeyUsed, in the order of their first uses; reset by key_at_xact_end(). */
static List *uses = NIL;

/* Storage of the setting, and guc.c's record of it; owned by guc.c. */
static char *key_setting = NULL;
static struct config_generic *key_record = NULL;

/* --- Assignments --- */

/* The use of the assignment in force, or NULL. */
static KeyUsed *
find_use(void)
{
	ListCell   *lc;

	/* A new assignment, as in most cases, is beyond the end of the list. */
	if (uses == NIL ||
		((KeyUsed *) llast(uses))->serial < rf_idempotency_serial)
		return NULL;
	foreach(lc, uses)
	{
		KeyUsed    *used = lfirst(lc);

		if (used->serial == rf_idempotency_serial)
			return used;
	}
	return NULL;
}

/* Does the key wait for its statement? */
static bool
is_armed(void)
{
	KeyUsed    *used;

	if (rf_idempotency_serial == 0)
		return false;
	used = find_use();
	return used == NULL || used->undone;
}

static void
note_use(void)
{
	KeyUsed    *used = find_use();

	if (used == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

		used = palloc(sizeof(KeyUsed));
		uses = lappend(uses, used);
		MemoryContextSwitchTo(old);
	}
	used->serial = rf_idempotency_serial;
	used->level = GetCurrentTransactionNestLevel();
	used->undone = false;
}

/* Did the key that is in force come with the request? */
static bool
is_from_header(void)
{
	return rf_idempotency_serial != 0 && rf_idempotency_serial == header_serial;
}

static bool
check_key(char **newval, void **extra, GucSource source)
{
	uint64	   *serial;

	if (*newval == NULL || **newval == '\0')
		return true;
	if (source != PGC_S_SESSION)
	{
		GUC_check_errmsg("parameter \"%s\" can only be set in a transaction",
						 SETTING);
		return false;
	}
	if (!rf_key_valid(*newval))
	{
		GUC_check_errmsg("invalid idempotency key");
		GUC_check_errdetail("A key has 1 to %d bytes and no control characters.",
							RF_MAX_IDEMPOTENCY_KEY);
		return false;
	}
	serial = rf_guc_malloc(sizeof(uint64));
	*serial = ++assignments;
	*extra = serial;
	return true;
}

static void
assign_key(const char *newval, void *extra)
{
	rf_idempotency_serial = newval == NULL || *newval == '\0' ||
		extra == NULL || InitializingParallelWorker ? 0 : *(uint64 *) extra;
}

/*
 * set_idempotency_key(key text): like SET LOCAL, which can't load the library
 * in a session that hasn't yet. Throws 22004, 22023, and 25P01 outside a
 * transaction block.
 */
Datum
ringfence_set_idempotency_key(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("idempotency key must not be null"),
				 errhint("Pass an empty string for no key.")));
	RequireTransactionBlock(true, "ringfence.set_idempotency_key()");
	rf_set_for_transaction(SETTING, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* --- Requests --- */

static bool
is_write(const char *method)
{
	static const char *const writes[] = {"POST", "PATCH", "PUT", "DELETE"};

	for (int i = 0; i < (int) lengthof(writes); i++)
		if (strcmp(method, writes[i]) == 0)
			return true;
	return false;
}

static void
require_key(const char *method)
{
	if (rf_endpoint(method, rf_request_path()).required)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '0')),
				 errmsg("the request needs an idempotency key"),
				 errhint("Send a header Idempotency-Key with a value of its own, such as a random UUID, and repeat that value when repeating the request.")));
}

/*
 * For pre_request(): takes the key of a request that may write, once. Throws
 * 400 if it is malformed, or missing where one is required.
 */
void
rf_idempotency_arm(void)
{
	const char *method = rf_request_method();
	char		key[RF_MAX_IDEMPOTENCY_KEY + 1];
	char	   *header;

	if (XactReadOnly || !is_write(method) || is_from_header())
		return;
	header = rf_request_header(RF_HEADER_IDEMPOTENCY_KEY);
	if (header == NULL)
	{
		if (rf_request_header_unread(RF_HEADER_IDEMPOTENCY_KEY))
			ereport(ERROR,
					(errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '0')),
					 errmsg("the headers of the request cannot be read"),
					 errdetail("They are no JSON object of strings, or have more than %d bytes.",
							   RF_MAX_HEADERS),
					 errhint("There seems to be an idempotency key among them, which must not be ignored.")));
		require_key(method);
		return;
	}
	if (!rf_key_parse(header, key))
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '0')),
				 errmsg("invalid idempotency key"),
				 errdetail("A key has 1 to %d bytes and no control characters; it is sent bare, or in double quotes as in RFC 8941.",
						   RF_MAX_IDEMPOTENCY_KEY)));
	rf_set_for_transaction(SETTING, key);
	header_serial = rf_idempotency_serial;
}

/* --- Statements --- */

/*
 * Is code of a function being run? SPI has no question for that, but it tells
 * whoever asks it to forget a relation, of a name that nobody can have given.
 */
static bool
is_in_function(void)
{
	return SPI_unregister_relation("") != SPI_ERROR_UNCONNECTED;
}

/*
 * Is it the client's own statement? One that a function or a planner runs in
 * turn isn't among those of the portal, unless the function reads it with a
 * cursor: that is a portal of its own.
 */
static bool
is_top_level(const QueryDesc *queryDesc)
{
	return ActivePortal != NULL && !is_in_function() &&
		list_member_ptr(ActivePortal->stmts, queryDesc->plannedstmt);
}

static void
refuse(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s cannot be used with an idempotency key", what),
			 errhint("%s", hint)));
}

/* The key has been used, so that nobody may think that it protects more. */
static void
warn_unprotected(void)
{
	ereport(WARNING,
			(errmsg("the statement is not protected by the idempotency key, which has been used"),
			 errhint("Set a key of its own for it, or set an empty one to say that it needs none.")));
}

static void
check_statement(const QueryDesc *queryDesc, ScanDirection direction,
				uint64 count)
{
	if (list_length(ActivePortal->stmts) != 1)
		refuse("a statement that a rule makes several of",
			   "Replace the rule by a trigger.");
	/* An option that DECLARE CURSOR always has, and nothing else. */
	if (ActivePortal->cursorOptions & CURSOR_OPT_FAST_PLAN)
		refuse("a cursor", "Send the statement itself.");
	if (!ScanDirectionIsForward(direction) || count != 0)
		refuse("fetching a result in parts",
			   "Fetch all rows at once, without a row limit.");
	rf_rows_check(queryDesc->tupDesc);
}

/*
 * For ExecutorRun, before the chain, of a statement that no other one runs. If
 * it was done before, its answer has been sent, and it must not be run. Else the
 * result is a recording for rf_idempotency_end(), or NULL for a statement that
 * no key is set for. Throws 0A000 for what can't be recorded, 409 and 422.
 */
RfRecording *
rf_idempotency_begin(QueryDesc *queryDesc, ScanDirection direction,
					 uint64 count, bool *replayed)
{
	RfRecording *recording;
	RfAnswer	answer;

	*replayed = false;
	/* At its end a portal is run once more, and nothing is. */
	if (ScanDirectionIsNoMovement(direction) || XactReadOnly ||
		!is_top_level(queryDesc) ||
		!rf_plan_modifies(queryDesc->plannedstmt, is_from_header()))
		return NULL;
	if (!is_armed())
	{
		warn_unprotected();
		return NULL;
	}
	check_statement(queryDesc, direction, count);

	recording = palloc0(sizeof(RfRecording));
	rf_key_begin(&recording->use, key_setting);
	recording->use.from_header = is_from_header();
	rf_key_fingerprint_statement(&recording->use, queryDesc);
	note_use();
	if (rf_key_claim(&recording->use, &answer))
	{
		rf_answer_replay(queryDesc, &recording->use, &answer);
		rf_key_end(&recording->use);
		*replayed = true;
		return NULL;
	}
	recording->rows = rf_rows_begin(rf_rows_sent(queryDesc), queryDesc->dest,
									&recording->use);
	queryDesc->dest = rf_rows_receiver(recording->rows);
	return recording;
}

/* After the chain: records what the statement answered. */
void
rf_idempotency_end(RfRecording *recording, QueryDesc *queryDesc)
{
	RfAnswer	answer;

	queryDesc->dest = rf_rows_destination(recording->rows);
	answer.processed = queryDesc->estate->es_processed;
	rf_answer_settings(&recording->use, &answer);
	rf_rows_end(recording->rows, &answer);
	rf_key_add(&recording->use, &answer);
	rf_key_end(&recording->use);
}

/* --- Utility statements --- */

static bool are_constants(List *nodes);

/* Is it a value that is there without running anything? */
static bool
is_constant(Node *node)
{
	switch (nodeTag(node))
	{
		case T_A_Const:
			return true;
		case T_TypeCast:
			return is_constant(((TypeCast *) node)->arg);
		case T_A_ArrayExpr:
			return are_constants(((A_ArrayExpr *) node)->elements);
		default:
			return false;
	}
}

static bool
are_constants(List *nodes)
{
	ListCell   *lc;

	foreach(lc, nodes)
	{
		if (!is_constant(lfirst(lc)))
			return false;
	}
	return true;
}

/* Is it certain to change nothing, or run by statements that we do see? */
static bool
is_harmless(Node *statement)
{
	Query	   *explained;

	switch (nodeTag(statement))
	{
		case T_TransactionStmt:
		case T_VariableSetStmt:
		case T_VariableShowStmt:
		case T_LockStmt:
		case T_ConstraintsSetStmt:
		case T_PrepareStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_DeclareCursorStmt:
		case T_FetchStmt:
		case T_ClosePortalStmt:
		case T_ListenStmt:
		case T_UnlistenStmt:
		case T_LoadStmt:
		case T_CheckPointStmt:
			return true;
		case T_ExecuteStmt:
			/* The statement is seen; what makes its parameters isn't. */
			return are_constants(((ExecuteStmt *) statement)->params);
		case T_ExplainStmt:
			explained = castNode(Query, ((ExplainStmt *) statement)->query);
			return !rf_explains_by_running((ExplainStmt *) statement) &&
				(explained->utilityStmt == NULL ||
				 is_harmless(explained->utilityStmt));
		case T_CopyStmt:
			return !((CopyStmt *) statement)->is_from &&
				((CopyStmt *) statement)->relation != NULL;
		default:
			return false;
	}
}

static bool
sets_key_locally(Node *statement)
{
	VariableSetStmt *set = (VariableSetStmt *) statement;

	return IsA(statement, VariableSetStmt) && set->is_local &&
		set->name != NULL && pg_strcasecmp(set->name, SETTING) == 0;
}

/*
 * For utility statements that no other statement runs, before they are run:
 * refuses those that could change something beside the key. EXECUTE of one is
 * no top-level statement to PostgreSQL.
 */
void
rf_idempotency_utility(Node *statement, ProcessUtilityContext context)
{
	bool		sets_key = sets_key_locally(statement);

	if ((rf_idempotency_serial == 0 && !sets_key) ||
		(context != PROCESS_UTILITY_TOPLEVEL &&
		 context != PROCESS_UTILITY_QUERY) ||
		rf_statement_running() || is_in_function() || creating_extension)
		return;
	if (sets_key)
		RequireTransactionBlock(true, "SET LOCAL " SETTING);
	if (rf_idempotency_serial == 0 || XactReadOnly || is_harmless(statement))
		return;
	if (!is_armed())
		warn_unprotected();
	else
		refuse(GetCommandTagName(CreateCommandTag(statement)),
			   "Put it into a function, and call ringfence.idempotent().");
}

/* --- Transactions --- */

/*
 * Will the key outlive the transaction, or did it come from before, as one can
 * that was set before the library was loaded?
 */
static bool
is_set_for_session(void)
{
	const GucStack *stack = key_record->stack;

	if (stack == NULL)
		return rf_idempotency_serial != 0;
	if (stack->state == GUC_SET_LOCAL)
		return stack->masked.val.stringval != NULL &&
			*stack->masked.val.stringval != '\0';
	return stack->state == GUC_SET && rf_idempotency_serial != 0;
}

/* No key may be taken for a protection that it isn't. */
static void
check_at_commit(void)
{
	if (is_set_for_session())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("parameter \"%s\" cannot be set for a session", SETTING),
				 errhint("RESET it, and use SET LOCAL in a transaction block.")));
	if (!is_armed())
		return;
	/* A use that was undone has left nothing of what it wrote. */
	if (find_use() != NULL)
		return;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("the transaction wrote without using its idempotency key"),
				 errdetail("The key protects the next INSERT, UPDATE, DELETE or MERGE, or a SELECT that calls a volatile function, after it is set."),
				 errhint("Set the key just before the statement that it is for.")));
	if (!is_from_header())
		ereport(WARNING,
				(errmsg("no statement used the idempotency key")));
}

static void
key_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			check_at_commit();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			uses = NIL;
			break;
		default:
			break;
	}
}

static void
key_at_subxact_end(SubXactEvent event, SubTransactionId mySubid,
				   SubTransactionId parentSubid, void *arg)
{
	int			level;
	ListCell   *lc;

	(void) mySubid;
	(void) parentSubid;
	(void) arg;
	if (uses == NIL || (event != SUBXACT_EVENT_COMMIT_SUB &&
						event != SUBXACT_EVENT_ABORT_SUB))
		return;
	level = GetCurrentTransactionNestLevel();
	foreach(lc, uses)
	{
		KeyUsed    *used = lfirst(lc);

		if (used->level < level)
			continue;
		used->level = level - 1;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			used->undone = true;
	}
}

/* Registers settings and callbacks. Called once, from _PG_init. */
void
rf_idempotency_init(void)
{
	DefineCustomStringVariable(SETTING,
							   "Idempotency key of the next statement that changes something.",
							   "It can be set for the transaction only.",
							   &key_setting, "", PGC_USERSET,
							   GUC_NO_SHOW_ALL | GUC_NO_RESET_ALL |
							   GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   check_key, assign_key, NULL);
	key_record = rf_find_setting(SETTING);
	rf_fingerprint_init();
	rf_endpoint_init();
	rf_key_table_init();
	rf_key_init();
	RegisterXactCallback(key_at_xact_end, NULL);
	RegisterSubXactCallback(key_at_subxact_end, NULL);
}
