/*
 * request.c: what a request may not do to the connection that it shares.
 *
 * A request's connection serves another tenant next. So in a request a statement
 * may not leave anything in the session: no cursor's rows, no channel, no
 * setting, and no statement prepared under a name that the HTTP layer uses. Nor
 * may it change the login role itself, or count hidden rows with EXPLAIN
 * ANALYZE.
 *
 * Statements are refused as they are run, which a DO block or a function does
 * not get around. set_config() for the session is a function call, so it is
 * refused where a query is analyzed. What an HTTP layer sends by itself is
 * none of this: it prepares by protocol, and sets for the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_namespace.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "idempotency.h"
#include "ringfence.h"

static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static post_parse_analyze_hook_type prev_post_parse_analyze = NULL;

static void
refuse(const char *what, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s cannot be used in a request", what),
			 errdetail_internal("%s", detail)));
}

static void
refuse_leftover(const char *what)
{
	refuse(what, "The connection serves another tenant next.");
}

/* Is the current role one that all tenants act as? */
static bool
is_shared_role(void)
{
	static const char *const shared[] = {
		"ringfence_anon", "ringfence_member", RF_ROLE_OPERATOR, RF_ROLE_JOBS,
	};

	for (int i = 0; i < (int) lengthof(shared); i++)
		if (GetUserId() == get_role_oid(shared[i], true))
			return true;
	return false;
}

/* Is it EXPLAIN ANALYZE? Of contradicting options the one that runs counts. */
bool
rf_explains_by_running(const ExplainStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "analyze") == 0 && defGetBoolean(option))
			return true;
	}
	return false;
}

/*
 * Refuses by the kind of statement. What the check costs falls on those kinds
 * alone.
 */
static void
check_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DeclareCursorStmt:

			/*
			 * Run to its end when the transaction commits, it would matter
			 * even if the context came after it.
			 */
			if ((((DeclareCursorStmt *) statement)->options &
				 CURSOR_OPT_HOLD) && rf_session_is(RF_ROLE_AUTHENTICATOR))
				refuse_leftover("a cursor WITH HOLD");
			break;
		case T_ListenStmt:
			if (rf_context_in_request())
				refuse_leftover("LISTEN");
			break;
		case T_PrepareStmt:
			if (rf_context_in_request())
				refuse_leftover("PREPARE");
			break;
		case T_DeallocateStmt:
			if (rf_context_in_request())
				refuse_leftover("DEALLOCATE");
			break;
		case T_VariableSetStmt:
			if (!((VariableSetStmt *) statement)->is_local &&
				((VariableSetStmt *) statement)->kind != VAR_SET_MULTI &&
				rf_context_in_request())
				refuse_leftover("SET for the session");
			break;
		case T_ExplainStmt:
			if (rf_explains_by_running((ExplainStmt *) statement) &&
				rf_context_in_request())
				refuse("EXPLAIN ANALYZE",
					   "It counts rows that policies hide.");
			break;
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
			if (rf_session_is(RF_ROLE_AUTHENTICATOR) ||
				(is_shared_role() && !superuser()))
				refuse("ALTER ROLE", "All tenants share the role.");
			break;
		default:
			break;
	}
}

/*
 * Acts before the chain, and writes the records of COPY and TRUNCATE after it;
 * the statement isn't looked at then.
 */
static void
check_utility(PlannedStmt *pstmt, const char *queryString,
			  bool readOnlyTree, ProcessUtilityContext context,
			  ParamListInfo params, QueryEnvironment *queryEnv,
			  DestReceiver *dest, QueryCompletion *qc)
{
	check_statement(pstmt->utilityStmt);
	rf_idempotency_utility(pstmt->utilityStmt, context);
	if (prev_ProcessUtility)
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
							queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
	if (IsTransactionState())
		rf_audit_flush();
}

static bool
sets_for_session(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) &&
		((FuncExpr *) node)->funcid == F_SET_CONFIG)
	{
		Node	   *is_local = lthird(((FuncExpr *) node)->args);

		if (!IsA(is_local, Const) || ((Const *) is_local)->constisnull ||
			!DatumGetBool(((Const *) is_local)->constvalue))
			return true;
	}
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		/* The view's rule calls set_config() for the session. */
		if (query->commandType == CMD_UPDATE && query->resultRelation > 0)
		{
			Oid			relid = rt_fetch(query->resultRelation,
										 query->rtable)->relid;

			if (relid == get_relname_relid("pg_settings",
										   PG_CATALOG_NAMESPACE))
				return true;
		}
		return query_tree_walker(query, sets_for_session, context, 0);
	}
	return expression_tree_walker(node, sets_for_session, context);
}

/* Acts before the chain. */
static void
check_query(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (query->commandType != CMD_UTILITY && rf_context_in_request() &&
		sets_for_session((Node *) query, NULL))
		refuse_leftover("a setting for the session");
	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);
}

/* Installs the hooks. Called once, from _PG_init. */
void
rf_request_init(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = check_utility;
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = check_query;
}
