/*
 * idempotent.c: idempotent(), which calls a function once a key.
 *
 * For SQL, and for layers in front of the database that can't set a key for a
 * statement. The function is called with the caller's rights, by the names of
 * its parameters, which are those of the JSON object. What it returns becomes
 * JSON, and is what a repetition gets.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "idempotency.h"

PG_FUNCTION_INFO_V1(ringfence_idempotent);

/* A function's parameters that take a value, and what it returns. */
typedef struct Callee
{
	Oid			function;
	int			nparams;
	Oid		   *types;
	char	  **names;
	bool		variadic;		/* the last one */
	bool		is_set;
	Oid			result;
} Callee;

static void
refuse_callee(Oid function, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot call %s with an idempotency key",
					format_procedure(function)),
			 errdetail_internal("%s", detail)));
}

/* Does it return a row whose columns only the query could tell? */
static bool
returns_unknown_row(HeapTuple tuple)
{
	return ((Form_pg_proc) GETSTRUCT(tuple))->prorettype == RECORDOID &&
		build_function_result_tupdesc_t(tuple) == NULL;
}

static void
read_parameters(Callee *callee, HeapTuple tuple)
{
	char	  **names = NULL;
	char	   *modes = NULL;
	Oid		   *types = NULL;
	int			n = get_func_arg_info(tuple, &types, &names, &modes);

	callee->types = palloc(n * sizeof(Oid) + 1);
	callee->names = palloc(n * sizeof(char *) + 1);
	for (int i = 0; i < n; i++)
	{
		char		mode = modes != NULL ? modes[i] : PROARGMODE_IN;

		if (mode == PROARGMODE_OUT || mode == PROARGMODE_TABLE)
			continue;
		if (IsPolymorphicType(types[i]))
			refuse_callee(callee->function, "It has parameters of no certain type.");
		callee->variadic = mode == PROARGMODE_VARIADIC;
		callee->types[callee->nparams] = types[i];
		callee->names[callee->nparams++] = names != NULL ? names[i] : pstrdup("");
	}
}

static void
read_callee(Callee *callee, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	memset(callee, 0, sizeof(*callee));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION)
		refuse_callee(function, "It is not a plain function.");
	if (returns_unknown_row(tuple))
		refuse_callee(function, "The columns of the record that it returns are not known.");
	callee->function = function;
	callee->is_set = proc->proretset;
	callee->result = proc->prorettype;
	read_parameters(callee, tuple);
	ReleaseSysCache(tuple);
}

static int
find_parameter(const Callee *callee, const JsonbValue *name)
{
	for (int i = 0; i < callee->nparams; i++)
		if (*callee->names[i] != '\0' &&
			strlen(callee->names[i]) == (size_t) name->val.string.len &&
			memcmp(callee->names[i], name->val.string.val,
				   name->val.string.len) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function %s has no parameter \"%.*s\"",
					format_procedure(callee->function),
					name->val.string.len, name->val.string.val)));
	return -1;					/* keep the compiler quiet */
}

/*
 * The query that calls the function with the arguments in $1, a JSON object,
 * and makes JSON of the result.
 */
static char *
call_query(const Callee *callee, Jsonb *arguments)
{
	StringInfoData query;
	StringInfoData fields;
	JsonbIterator *it = JsonbIteratorInit(&arguments->root);
	JsonbIteratorToken token;
	JsonbValue	v;

	initStringInfo(&query);
	initStringInfo(&fields);
	appendStringInfo(&query, "SELECT %s FROM (SELECT %s(",
					 callee->is_set ?
					 "COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s.result)), '[]')" :
					 callee->result == VOIDOID ? "s.result" :
					 "pg_catalog.to_jsonb(s.result)",
					 quote_qualified_identifier(get_namespace_name(get_func_namespace(callee->function)),
												get_func_name(callee->function)));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		int			i;

		if (token != WJB_KEY)
			continue;
		i = find_parameter(callee, &v);
		appendStringInfo(&query, "%s%s%s => a.%s", fields.len > 0 ? ", " : "",
						 callee->variadic && i == callee->nparams - 1 ?
						 "VARIADIC " : "",
						 quote_identifier(callee->names[i]),
						 quote_identifier(callee->names[i]));
		appendStringInfo(&fields, "%s%s %s", fields.len > 0 ? ", " : "",
						 quote_identifier(callee->names[i]),
						 format_type_extended(callee->types[i], -1,
											  FORMAT_TYPE_TYPEMOD_GIVEN |
											  FORMAT_TYPE_FORCE_QUALIFY));
	}
	appendStringInfoString(&query, ") AS result");
	if (fields.len > 0)
		appendStringInfo(&query, " FROM pg_catalog.jsonb_to_record($1) AS a (%s)",
						 fields.data);
	appendStringInfoString(&query, ") AS s");
	return query.data;
}

static bool
calls(Node *node, void *function)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == *(Oid *) function)
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, calls, function, 0);
	return expression_tree_walker(node, calls, function);
}

/*
 * Prepares the query. Of functions with one name, the one meant must be what
 * its parameters lead to.
 */
static SPIPlanPtr
prepare_call(const Callee *callee, Jsonb *arguments)
{
	Oid			type = JSONBOID;
	Oid			function = callee->function;
	SPIPlanPtr	plan = SPI_prepare(call_query(callee, arguments), 1, &type);
	CachedPlanSource *source;

	if (plan == NULL)
		elog(ERROR, "could not prepare a call of function %u", function);
	source = linitial(SPI_plan_get_plan_sources(plan));
	if (!calls(linitial(source->query_list), &function))
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
				 errmsg("the arguments lead to another function than %s",
						format_procedure(function)),
				 errhint("Name all of its parameters.")));
	return plan;
}

/* May the caller call it? A recorded result isn't for who may not either. */
static void
check_privileges(Oid function)
{
	Oid			schema = get_func_namespace(function);

	if (rf_aclcheck(NamespaceRelationId, schema, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SCHEMA,
					   get_namespace_name(schema));
	if (rf_aclcheck(ProcedureRelationId, function, ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION,
					   get_func_name(function));
}

/*
 * Calls the function; NULL for what is NULL in SQL, or nothing. The result is in
 * the current memory context.
 */
static Jsonb *
call(const Callee *callee, Jsonb *arguments)
{
	MemoryContext mcxt = CurrentMemoryContext;
	Datum		value = JsonbPGetDatum(arguments);
	bool		isnull = true;
	Jsonb	   *result = NULL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_plan(prepare_call(callee, arguments), &value, NULL, false,
						 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call function %u", callee->function);
	if (SPI_processed == 1 && callee->result != VOIDOID)
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							  &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(mcxt);

		result = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

/* The one column in which results are recorded. */
static TupleDesc
result_columns(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(1);

	TupleDescInitEntry(desc, 1, "result", JSONBOID, -1, 0);
	return desc;
}

static char *
if_changed(char *after, const char *before)
{
	return after == NULL || before == NULL || strcmp(after, before) != 0 ?
		after : NULL;
}

/* Of the response's settings, "before" what was set before the call. */
static void
record(RfKeyUse *use, Jsonb *result, const RfAnswer *before)
{
	TupleDesc	desc = result_columns();
	RfRows	   *rows = rf_rows_begin(desc, NULL, use);
	Datum		value = PointerGetDatum(result);
	bool		isnull = result == NULL;
	RfAnswer	answer;

	rf_rows_keep(rows, rf_form_minimal_tuple(desc, &value, &isnull));
	answer.processed = 1;
	rf_answer_settings(use, &answer);
	answer.status = if_changed(answer.status, before->status);
	answer.headers = if_changed(answer.headers, before->headers);
	rf_rows_end(rows, &answer);
	rf_key_add(use, &answer);
}

static Datum
recorded_result(const RfAnswer *answer, bool *isnull)
{
	TupleDesc	desc = result_columns();
	List	   *tuples = rf_answer_rows(answer, desc);
	TupleTableSlot *slot;

	if (tuples == NIL)
		return DirectFunctionCall1(jsonb_in, CStringGetDatum(RF_NOT_KEPT));
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	ExecStoreMinimalTuple(linitial(tuples), slot, false);
	return slot_getattr(slot, 1, isnull);
}

/* The function, qualified, as pg_identify_object() writes it by default. */
static char *
signature(Oid function)
{
	int			nest_level = 0;
	char	   *result;

	if (quote_all_identifiers)
		nest_level = rf_plain_begin(RF_SETTINGS_USUAL, false);
	result = format_procedure_qualified(function);
	rf_plain_end(nest_level);
	return result;
}

static void
check_arguments(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0) || !rf_key_valid(text_to_cstring(PG_GETARG_TEXT_PP(0))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid idempotency key"),
				 errdetail("A key has 1 to %d bytes and no control characters.",
						   RF_MAX_IDEMPOTENCY_KEY)));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("function must not be null")));
	if (PG_ARGISNULL(2) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(2)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments must be a JSON object"),
				 errhint("Name each parameter: {\"amount\": 100}.")));
}

/*
 * idempotent(key text, fn regprocedure, args jsonb) returns jsonb
 *
 * The response's status and headers that the function sets are recorded too, and
 * set again unless the request around the call has set its own.
 */
Datum
ringfence_idempotent(PG_FUNCTION_ARGS)
{
	Callee		callee;
	RfKeyUse	use;
	RfAnswer	answer;
	Jsonb	   *arguments;
	Jsonb	   *result;
	Datum		value;
	bool		isnull = false;

	check_arguments(fcinfo);
	PreventCommandIfReadOnly("ringfence.idempotent()");
	PreventCommandIfParallelMode("ringfence.idempotent()");
	arguments = PG_GETARG_JSONB_P(2);
	read_callee(&callee, PG_GETARG_OID(1));
	check_privileges(callee.function);
	rf_key_begin(&use, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	use.method = "CALL";
	use.path = signature(callee.function);
	rf_key_fingerprint_call(&use, JsonbToCString(NULL, &arguments->root,
												 VARSIZE(arguments)));
	if (rf_key_claim(&use, &answer))
	{
		value = recorded_result(&answer, &isnull);
		rf_answer_apply_call(&use, &answer);
	}
	else
	{
		rf_answer_settings(&use, &answer);
		result = call(&callee, arguments);
		record(&use, result, &answer);
		isnull = result == NULL;
		value = PointerGetDatum(result);
	}
	rf_key_end(&use);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(value);
}
