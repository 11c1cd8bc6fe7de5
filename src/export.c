/*
 * export.c: runs exports: all rows in one answer, or in parts that are stored.
 *
 * Rows are read as ringfence_member, in the context of whoever asked and in a
 * security-restricted operation, under settings of the export's own: so row
 * security holds, and the bytes are the same whoever runs it. Between the parts
 * of an export that is read in one go, user, settings and context are put back,
 * for parts are stored with the rights of the job.
 *
 * An error puts user and settings back with the (sub)transaction; the context,
 * which outlives one, is put back here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "export.h"

PG_FUNCTION_INFO_V1(ringfence_export_read);
PG_FUNCTION_INFO_V1(ringfence_export_number);
PG_FUNCTION_INFO_V1(ringfence_export_write);

/* Settings; owned by guc.c. */
static int	part_bytes = 1024 * 1024;
static int	export_timeout = 300000;
static int	consistent_timeout = 900000;

/* What is put back. Allocated: locals that change may be lost with an error. */
typedef struct Stage
{
	RfIdentity	present;
	bool		identified;		/* another context than the present one */
	bool		timed;			/* by ringfence.export_timeout */
	bool		timed_out;
	TimestampTz until;
	Oid			user;
	int			security;
	int			nest_level;
} Stage;

static void
set_for_export(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Settings that rows and their order depend on, in a level of their own. */
static void
set_all(const RfExportOrder *order)
{
	set_for_export("search_path", "pg_catalog, pg_temp");
	set_for_export("DateStyle", "ISO, YMD");
	set_for_export("IntervalStyle", "postgres");
	set_for_export("TimeZone", order->zone);
	set_for_export("extra_float_digits", "1");
	set_for_export("bytea_output", "hex");
	set_for_export("xmloption", "content");
	set_for_export("row_security", "on");
	/* Of a statement that is run for one part, whose rows are some thousand. */
	set_for_export("cursor_tuple_fraction", "0.01");
}

static Stage *
make_stage(void)
{
	Stage	   *stage = palloc0(sizeof(Stage));

	stage->present = *rf_context();
	return stage;
}

/* Until leave(): whoever asked, and a time that a part may take. */
static void
enter(const RfExportOrder *order, const RfIdentity *identity, Stage *stage)
{
	GetUserIdAndSecContext(&stage->user, &stage->security);
	stage->nest_level = NewGUCNestLevel();
	set_all(order);
	if (identity != NULL)
	{
		rf_context_override(identity);
		stage->identified = true;
	}
	stage->timed = export_timeout > 0 &&
		!get_timeout_active(STATEMENT_TIMEOUT);
	if (stage->timed)
	{
		stage->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   export_timeout);
		enable_timeout_at(STATEMENT_TIMEOUT, stage->until);
	}
	SetUserIdAndSecContext(get_role_oid(RF_ROLE_MEMBER, false),
						   stage->security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

/* Puts back what an error wouldn't; harmless the second time. */
static void
leave_context(Stage *stage)
{
	if (stage->timed)
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		stage->timed_out = GetCurrentTimestamp() >= stage->until;
	}
	stage->timed = false;
	if (stage->identified)
		rf_context_override(&stage->present);
	stage->identified = false;
}

static void
leave(Stage *stage)
{
	SetUserIdAndSecContext(stage->user, stage->security);
	AtEOXact_GUC(false, stage->nest_level);
	leave_context(stage);
}

/*
 * Called while an error is being handled, which is thrown on. A time that ran out,
 * if it was ours, is no cancellation, which blocks that catch errors let pass.
 */
static void
leave_by_error(Stage *stage)
{
	leave_context(stage);
	if (geterrcode() != ERRCODE_QUERY_CANCELED || !stage->timed_out)
		return;
	FlushErrorState();
	ereport(ERROR,
			(errcode(ERRCODE_OPERATOR_INTERVENTION),
			 errmsg("reading a part of the export took too long"),
			 errdetail("It may take %d ms, which is \"%s\".", export_timeout,
					   "ringfence.export_timeout"),
			 errhint("An index that leads with the organization and the key of the export spares it sorting all rows for each part.")));
}

/*
 * export_read(name text, from_date date, to_date date, format text,
 * options csv_options): all rows that the caller sees.
 */
Datum
ringfence_export_read(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, DATEOID, DATEOID, TEXTOID,
	get_fn_expr_argtype(fcinfo->flinfo, 4)};
	Datum		values[5];
	char		nulls[5];
	RfExportOrder order;
	RfExportReader *volatile reader = NULL;
	Stage	   *stage;
	MemoryContext mcxt = CurrentMemoryContext;
	TupleDesc	desc;
	Datum		result[2];
	bool		isnull[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 0; i < 5; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	rf_export_take_order("ringfence.export_now_order($1, $2, $3, $4, $5)",
						 lengthof(types), types, values, nulls, mcxt, &order);
	stage = make_stage();
	PG_TRY();
	{
		enter(&order, NULL, stage);
		reader = rf_export_open(&order, MaxAllocSize, mcxt);
		(void) rf_export_part(reader);
		leave(stage);
	}
	PG_CATCH();
	{
		leave_by_error(stage);
		PG_RE_THROW();
	}
	PG_END_TRY();
	result[0] = PointerGetDatum(rf_export_text(reader));
	result[1] = Int64GetDatum(rf_export_rows(reader));
	rf_export_close(reader);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  result, isnull)));
}

/* The order of an export on record; made as the jobs' role. */
static void
take_stored_order(Datum org, Datum export, const char *what,
				  MemoryContext mcxt, RfExportOrder *order)
{
	Oid			types[] = {UUIDOID, UUIDOID, TEXTOID};
	Datum		values[] = {org, export, CStringGetTextDatum(what)};
	Oid			user;
	int			security;

	/* An error puts the user back with the (sub)transaction. */
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(get_role_oid(RF_ROLE_JOBS, false),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	rf_export_take_order("ringfence.export_order($1, $2, $3)",
						 lengthof(types), types, values, NULL, mcxt, order);
	SetUserIdAndSecContext(user, security);
	if (order->requested_as == NULL)
		elog(ERROR, "an export on record has no context");
}

/* The number that a statement answers with. */
static int64
one_number(const char *statement)
{
	bool		isnull;
	int64		number;

	if (SPI_execute(statement, true, 2) != SPI_OK_SELECT ||
		SPI_processed != 1 ||
		SPI_gettypeid(SPI_tuptable->tupdesc, 1) != INT8OID)
		elog(ERROR, "unexpected answer of an export's statement");
	number = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return number;
}

/* export_number(org uuid, export uuid, what text): "count" or "unkeyed". */
Datum
ringfence_export_number(PG_FUNCTION_ARGS)
{
	RfExportOrder order;
	RfIdentity	identity;
	Stage	   *stage;
	int64		number = 0;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	take_stored_order(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
					  text_to_cstring(PG_GETARG_TEXT_PP(2)), CurrentMemoryContext,
					  &order);
	rf_export_identify(order.requested_as, order.roles, &identity);
	stage = make_stage();
	PG_TRY();
	{
		enter(&order, &identity, stage);
		number = one_number(order.statement);
		leave(stage);
	}
	PG_CATCH();
	{
		leave_by_error(stage);
		PG_RE_THROW();
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_INT64(number);
}

/*
 * Has a part stored, as the user that called; throws if it is not wanted any
 * more, for the export was canceled or taken up by somebody else meanwhile.
 */
static void
store_part(Datum org, Datum export, RfExportReader *reader, Datum last_key,
		   bool no_key, bool finished)
{
	Oid			types[] = {UUIDOID, UUIDOID, BYTEAOID, INT8OID, TEXTARRAYOID,
	BOOLOID};
	Datum		values[] = {org, export,
		PointerGetDatum(rf_export_data(reader)),
		Int64GetDatum(rf_export_rows(reader)), last_key,
	BoolGetDatum(finished)};
	char		nulls[] = {' ', ' ', ' ', ' ', no_key ? 'n' : ' ', ' '};

	if (SPI_execute_with_args("SELECT ringfence.store_export_part($1, $2, $3, $4, $5, $6)",
							  lengthof(types), types, values, nulls, false,
							  2) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not store a part of an export");
	SPI_freetuptable(SPI_tuptable);
}

/*
 * All that is read as of one moment keeps what others delete meanwhile, and other
 * exports wait: so that has an end, and another try would come to the same.
 */
static void
check_consistent_timeout(TimestampTz began)
{
	if (consistent_timeout > 0 &&
		TimestampDifferenceExceeds(began, GetCurrentTimestamp(),
								   consistent_timeout))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("reading the export as of one moment took too long"),
				 errdetail("It may take %d ms, which is \"%s\".",
						   consistent_timeout,
						   "ringfence.export_consistent_timeout"),
				 errhint("Start it without \"consistent\", or for fewer days.")));
}

/* Reads and stores the next part, or all that are left. */
static void
write_parts(Datum org, Datum export, const RfExportOrder *order,
			const RfIdentity *identity, Stage *stage, MemoryContext mcxt)
{
	MemoryContext part_mcxt = AllocSetContextCreate(mcxt, "ringfence export part",
													ALLOCSET_DEFAULT_SIZES);
	TimestampTz began = GetCurrentTimestamp();
	RfExportReader *reader;
	bool		finished;

	enter(order, identity, stage);
	reader = rf_export_open(order, part_bytes, mcxt);
	for (;;)
	{
		MemoryContext old;
		bool		no_key;
		Datum		last_key;

		finished = rf_export_part(reader);
		old = MemoryContextSwitchTo(part_mcxt);
		last_key = rf_export_last_key(reader, &no_key);
		leave(stage);
		store_part(org, export, reader, last_key, no_key, finished);
		MemoryContextSwitchTo(old);
		MemoryContextReset(part_mcxt);
		if (finished || !order->consistent)
			break;
		check_consistent_timeout(began);
		rf_export_next(reader);
		enter(order, identity, stage);
	}
	rf_export_close(reader);
}

/* export_write(org uuid, export uuid): for export_step(). */
Datum
ringfence_export_write(PG_FUNCTION_ARGS)
{
	MemoryContext mcxt = AllocSetContextCreate(CurrentMemoryContext,
											   "ringfence export",
											   ALLOCSET_DEFAULT_SIZES);
	RfExportOrder order;
	RfIdentity	identity;
	Stage	   *stage;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	take_stored_order(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), "rows", mcxt,
					  &order);
	rf_export_identify(order.requested_as, order.roles, &identity);
	stage = make_stage();
	PG_TRY();
	{
		write_parts(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), &order, &identity,
					stage, mcxt);
	}
	PG_CATCH();
	{
		leave_by_error(stage);
		PG_RE_THROW();
	}
	PG_END_TRY();
	SPI_finish();
	MemoryContextDelete(mcxt);
	PG_RETURN_VOID();
}

/* Registers settings. Called once, from _PG_init. */
void
rf_export_init(void)
{
	DefineCustomIntVariable("ringfence.export_consistent_timeout",
							"How long an export as of one moment may take in all.",
							"0 turns it off.",
							&consistent_timeout, 900000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ringfence.export_part_bytes",
							"How large a part of an export is at most, unless it is one row.",
							NULL,
							&part_bytes, 1024 * 1024, 1, 64 * 1024 * 1024,
							PGC_USERSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("ringfence.export_timeout",
							"How long reading a part of an export may take.",
							"0 turns it off; statement_timeout, where it is set, goes before.",
							&export_timeout, 300000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}
