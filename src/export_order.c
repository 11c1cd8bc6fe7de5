/*
 * export_order.c: what is to be exported, and whether who asked for it may still
 * have it.
 *
 * An export that runs as a job has the context of the request that asked for it.
 * The directory is asked anew each time: whoever has lost a role or party since
 * would get fewer rows from there on, so the export ends instead.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"
#include "export.h"

PG_FUNCTION_INFO_V1(ringfence_export_identify);

/* An array of texts as a list of strings, in that memory. */
static List *
text_list(Datum array, MemoryContext mcxt)
{
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	List	   *list = NIL;
	Datum	   *texts;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false,
					  TYPALIGN_INT, &texts, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			list = lappend(list, TextDatumGetCString(texts[i]));
	MemoryContextSwitchTo(old);
	return list;
}

/* A text of the first row, by the column's name; NULL for NULL. */
static char *
text_field(const char *name, MemoryContext mcxt)
{
	int			column = SPI_fnumber(SPI_tuptable->tupdesc, name);
	char	   *value;

	if (column <= 0)
		elog(ERROR, "an order has no column \"%s\"", name);
	value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
	return value == NULL ? NULL : MemoryContextStrdup(mcxt, value);
}

static Datum
field(const char *name, bool *isnull)
{
	int			column = SPI_fnumber(SPI_tuptable->tupdesc, name);

	if (column <= 0)
		elog(ERROR, "an order has no column \"%s\"", name);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column,
						 isnull);
}

static bool
is_true(const char *name)
{
	bool		isnull;
	Datum		value = field(name, &isnull);

	return !isnull && DatumGetBool(value);
}

/* Whether a format is that, and not CSV; there is no other. */
static bool
is_ndjson(const char *format)
{
	if (format == NULL ||
		(strcmp(format, "ndjson") != 0 && strcmp(format, "csv") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid format of an export"),
				 errhint("It is csv or ndjson.")));
	return *format == 'n';
}

/*
 * Takes the order that a function of ours makes, called as given, into that
 * memory. SPI must be connected. Throws 42704 where there is none, 22023 for options
 * or a format that can't be.
 */
void
rf_export_take_order(const char *call, int nargs, Oid *types, Datum *values,
					 const char *nulls, MemoryContext mcxt, RfExportOrder *order)
{
	const char *query = psprintf("SELECT o.statement, o.keys, o.format, o.options, o.zone, o.roles,"
								 " o.requested_as, o.after, o.consistent, o.header"
								 " FROM %s AS o", call);
	Datum		value;
	bool		isnull;

	if (SPI_execute_with_args(query, nargs, types, values, nulls, true,
							  2) != SPI_OK_SELECT)
		elog(ERROR, "could not take the order of an export");
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no such export")));
	memset(order, 0, sizeof(*order));
	order->statement = text_field("statement", mcxt);
	if (order->statement == NULL)
		elog(ERROR, "an order has no statement");
	order->zone = text_field("zone", mcxt);
	order->requested_as = text_field("requested_as", mcxt);
	order->ndjson = is_ndjson(text_field("format", mcxt));
	order->nkeys = DatumGetInt32(field("keys", &isnull));
	order->header = is_true("header");
	order->consistent = is_true("consistent");
	value = field("roles", &isnull);
	order->roles = isnull ? NIL : text_list(value, mcxt);
	value = field("after", &isnull);
	order->after = isnull ? NIL : text_list(value, mcxt);
	rf_csv_options_default(&order->options);
	value = field("options", &isnull);
	if (!isnull)
		rf_csv_options_read(DatumGetHeapTupleHeader(value), &order->options);
	SPI_freetuptable(SPI_tuptable);
}

static bool
has_one_role(const RfGrants *grants, List *roles)
{
	ListCell   *lc;

	foreach(lc, roles)
	{
		for (int i = 0; i < grants->nroles; i++)
		{
			if (strcmp(grants->roles[i], lfirst(lc)) == 0)
				return true;
		}
	}
	return false;
}

/*
 * Who a context was, if they still are all that it says and have one of these
 * roles. Throws 42501 if not, PT403 if their organization is not active.
 */
void
rf_export_identify(const char *requested_as, List *roles, RfIdentity *identity)
{
	RfClaims	claims;

	memset(&claims, 0, sizeof(claims));
	if (!rf_claims_parse(requested_as, strlen(requested_as),
						 GetDatabaseEncoding(), &claims))
		elog(ERROR, "could not read the context of an export");
	rf_context_identify(&claims, identity);
	if (identity->actor != RF_ACTOR_USER || !identity->has_org)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("who asked for the export is no longer a member of the organization")));
	if (!has_one_role(&identity->grants, roles) ||
		identity->grants.nroles < claims.grants.nroles ||
		identity->grants.nparties < claims.grants.nparties)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("who asked for the export no longer has the roles that it was asked for with")));
}

/* export_identify(context jsonb as text, roles text[]): only throws. */
Datum
ringfence_export_identify(PG_FUNCTION_ARGS)
{
	RfIdentity	identity;

	rf_export_identify(text_to_cstring(PG_GETARG_TEXT_PP(0)),
					   text_list(PG_GETARG_DATUM(1), CurrentMemoryContext),
					   &identity);
	PG_RETURN_VOID();
}
