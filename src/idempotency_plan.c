/*
 * idempotency_plan.c: does a statement change anything?
 *
 * INSERT, UPDATE, DELETE and MERGE do, alone or in WITH. A SELECT does if it
 * calls a volatile function, but for those that a client calls on its way to
 * the statement that the key is for: PostgreSQL's own, unless they leave
 * something behind, and the ones of ringfence that say who is there. Such a
 * call may be all that is left of a function that was inlined; so of a request,
 * which has but one statement, any volatile function is enough.
 *
 * What a finished plan evaluates is asked of its nodes; where a plan can't hold
 * a volatile function, as in an index condition, nobody looks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "idempotency.h"

static bool expression_modifies(Node *node, void *context);
static bool plans_modify(List *plans, bool in_request);

static bool
is_one_of(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static bool
function_modifies(Oid function, void *context)
{
	static const char *const lasting[] = {
		"lo_creat", "lo_create", "lo_from_bytea", "lo_import", "lo_put",
		"lo_truncate", "lo_truncate64", "lo_unlink", "lowrite", "nextval",
		"pg_logical_emit_message", "pg_notify", "setval",
	};
	static const char *const preparing[] = {
		"pre_request", "set_idempotency_key",
	};

	/* Not in a request, where they may be all of it. */
	static const char *const entering[] = {
		"begin_org", "enter_org", "idempotent", "random_secret",
		"set_context", "sign_in", "sign_out", "uuid7",
	};
	bool		in_request = *(bool *) context;
	Oid			schema;
	char	   *name;

	if (func_volatile(function) != PROVOLATILE_VOLATILE)
		return false;
	schema = get_func_namespace(function);
	name = get_func_name(function);
	if (name == NULL)
		return true;
	if (schema == PG_CATALOG_NAMESPACE)
		return in_request ? strcmp(name, "set_config") != 0 :
			is_one_of(name, lasting, lengthof(lasting));
	return schema != get_namespace_oid("ringfence", true) ||
		(!is_one_of(name, preparing, lengthof(preparing)) &&
		 (in_request || !is_one_of(name, entering, lengthof(entering))));
}

/* pg_proc calls every aggregate immutable, whatever it is made of. */
static bool
aggregate_modifies(Oid aggregate, void *context)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	FormData_pg_aggregate form;
	Oid			parts[6];

	if (!HeapTupleIsValid(tuple))
		return false;
	form = *(Form_pg_aggregate) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	parts[0] = form.aggtransfn;
	parts[1] = form.aggfinalfn;
	parts[2] = form.aggcombinefn;
	parts[3] = form.aggmtransfn;
	parts[4] = form.aggminvtransfn;
	parts[5] = form.aggmfinalfn;
	for (int i = 0; i < (int) lengthof(parts); i++)
		if (OidIsValid(parts[i]) && function_modifies(parts[i], context))
			return true;
	return false;
}

/* A cast to a domain evaluates the domain's CHECKs. */
static bool
domain_modifies(Oid domain, void *context)
{
	DomainConstraintRef *ref = palloc(sizeof(DomainConstraintRef));
	ListCell   *lc;

	/* The memory context lets go of it. */
	InitDomainConstraintRef(domain, ref, CurrentMemoryContext, false);
	foreach(lc, ref->constraints)
	{
		DomainConstraintState *constraint = lfirst(lc);

		if (expression_modifies((Node *) constraint->check_expr, context))
			return true;
	}
	return false;
}

static bool
expression_modifies(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CoerceToDomain) &&
		domain_modifies(((CoerceToDomain *) node)->resulttype, context))
		return true;
	if (IsA(node, Aggref) &&
		aggregate_modifies(((Aggref *) node)->aggfnoid, context))
		return true;
	if (IsA(node, WindowFunc) &&
		aggregate_modifies(((WindowFunc *) node)->winfnoid, context))
		return true;
	return check_functions_in_node(node, function_modifies, context) ||
		expression_tree_walker(node, expression_modifies, context);
}

/* What a node evaluates beside its target list and conditions. */
static Node *
own_expressions(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Result:
			return ((Result *) plan)->resconstantqual;
		case T_FunctionScan:
			return (Node *) ((FunctionScan *) plan)->functions;
		case T_ValuesScan:
			return (Node *) ((ValuesScan *) plan)->values_lists;
		case T_TableFuncScan:
			return (Node *) ((TableFuncScan *) plan)->tablefunc;
		case T_SampleScan:
			return (Node *) ((SampleScan *) plan)->tablesample;
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
			return (Node *) ((Join *) plan)->joinqual;
		case T_ForeignScan:
			return (Node *) ((ForeignScan *) plan)->fdw_exprs;
		case T_CustomScan:
			return (Node *) ((CustomScan *) plan)->custom_exprs;
		case T_WindowAgg:
			return (Node *) list_make2(((WindowAgg *) plan)->startOffset,
									   ((WindowAgg *) plan)->endOffset);
		case T_Limit:
			return (Node *) list_make2(((Limit *) plan)->limitOffset,
									   ((Limit *) plan)->limitCount);
		default:
			return NULL;
	}
}

/* A node's children, but for those on its left and right. */
static List *
own_plans(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Append:
			return ((Append *) plan)->appendplans;
		case T_MergeAppend:
			return ((MergeAppend *) plan)->mergeplans;
		case T_SubqueryScan:
			return list_make1(((SubqueryScan *) plan)->subplan);
		case T_CustomScan:
			return ((CustomScan *) plan)->custom_plans;
		default:
			return NIL;
	}
}

static bool
plan_modifies(Plan *plan, bool in_request)
{
	if (plan == NULL)
		return false;
	return expression_modifies((Node *) plan->targetlist, &in_request) ||
		expression_modifies((Node *) plan->qual, &in_request) ||
		expression_modifies(own_expressions(plan), &in_request) ||
		plan_modifies(plan->lefttree, in_request) ||
		plan_modifies(plan->righttree, in_request) ||
		plans_modify(own_plans(plan), in_request);
}

static bool
plans_modify(List *plans, bool in_request)
{
	ListCell   *lc;

	foreach(lc, plans)
		if (plan_modifies((Plan *) lfirst(lc), in_request))
		return true;
	return false;
}

/* Is it a statement that a key protects, of a request or another client? */
bool
rf_plan_modifies(const PlannedStmt *stmt, bool in_request)
{
	return stmt->commandType != CMD_SELECT || stmt->hasModifyingCTE ||
		plan_modifies(stmt->planTree, in_request) ||
		plans_modify(stmt->subplans, in_request);
}
