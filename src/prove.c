/*
 * prove.c: runs a statement as another role, with no way back.
 *
 * prove() tries statements out in a superuser's session. Under SET ROLE, a
 * function that one of them calls could RESET ROLE and be that superuser. Here
 * the user is changed as it is for a SECURITY DEFINER function, in which the
 * server refuses SET ROLE and SET SESSION AUTHORIZATION.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "compat.h"
#include "ringfence.h"

PG_FUNCTION_INFO_V1(ringfence_run_as);

/*
 * run_as(db_role name, statement text, OUT rows bigint, OUT digest numeric)
 *
 * A SELECT has to give one row of these two columns; of other statements the
 * rows that they touched are counted. If it throws, the abort of the
 * subtransaction restores the user.
 */
Datum
ringfence_run_as(PG_FUNCTION_ARGS)
{
	Oid			role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);
	char	   *statement = text_to_cstring(PG_GETARG_TEXT_PP(1));
	MemoryContext caller = CurrentMemoryContext;
	TupleDesc	desc;
	Datum		values[2] = {0};
	bool		nulls[2] = {false, true};
	Oid			saved_user;
	int			saved_context;
	int			result;

	if (!superuser() || !superuser_arg(GetSessionUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to run statements as another role")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	GetUserIdAndSecContext(&saved_user, &saved_context);
	SetUserIdAndSecContext(role,
						   saved_context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	result = SPI_execute(statement, false, 0);
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot run this statement: %s",
						SPI_result_code_string(result))));
	values[0] = Int64GetDatum((int64) SPI_processed);
	if (result == SPI_OK_SELECT && SPI_processed == 1 &&
		SPI_gettypeid(SPI_tuptable->tupdesc, 1) == INT8OID &&
		SPI_gettypeid(SPI_tuptable->tupdesc, 2) == NUMERICOID)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		MemoryContext old = MemoryContextSwitchTo(caller);

		values[0] = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &nulls[0]);
		values[1] = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &nulls[1]);
		if (!nulls[1])
			values[1] = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[1]));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	SetUserIdAndSecContext(saved_user, saved_context);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
