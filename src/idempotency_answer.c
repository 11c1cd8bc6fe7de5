/*
 * idempotency_answer.c: a recorded answer, given again.
 *
 * Rows that were written down are of the columns that the statement has now, or
 * it is an error. In an answer of PostgREST's the header that tells a replay is
 * added, and a body that was too large is replaced by one that says so.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "idempotency.h"

#define REPLAYED "{\"Idempotency-Replayed\": \"true\"}"

static void
refuse_shape(void)
{
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '9')),
			 errmsg("the answer to the idempotency key was recorded under another shape"),
			 errdetail("The columns or types of the result have changed since."),
			 errhint("The request has had its effect: look it up, and don't send it again with a new key.")));
}

static bool
is_text(const char *bytes, uint32 len, const char *string)
{
	return bytes != NULL && len == strlen(string) &&
		memcmp(bytes, string, len) == 0;
}

static void
check_columns(RfReader *reader, TupleDesc desc)
{
	const char *version = rf_read_bytes(reader, 1);
	int			natts = rf_read_u16(reader);
	bool		same = version != NULL && *version == RF_ANSWER_VERSION &&
	natts == desc->natts;

	for (int i = 0; same && i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char		label[RF_LABEL_BYTES];
		uint32		len = rf_read_u32(reader);

		same = is_text(rf_read_bytes(reader, len), len, NameStr(att->attname));
		len = rf_read_u32(reader);
		same = same && is_text(rf_read_bytes(reader, len), len,
							   rf_type_label(att->atttypid, label));
	}
	if (!same)
		refuse_shape();
}

/* How to make values of a column. */
typedef struct ColumnInput
{
	Oid			type;
	Oid			parameter;
	FmgrInfo	input;
} ColumnInput;

static void
refuse_damaged(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the answer to the idempotency key cannot be read")));
}

/* The value as it was, whatever the column's length or precision is now. */
static Datum
read_value(ColumnInput *column, const char *bytes, uint32 len)
{
	if (!pg_verifymbstr(bytes, len, true))
		refuse_damaged();
	if (rf_is_string(column->type))
		return PointerGetDatum(cstring_to_text_with_len(bytes, len));
	return InputFunctionCall(&column->input, pnstrdup(bytes, len),
							 column->parameter, -1);
}

/* response.headers with one more; as they were if they are no array. */
static char *
with_replayed(const char *headers)
{
	const char *end;

	if (headers == NULL || *headers == '\0')
		return "[" REPLAYED "]";
	end = strrchr(headers, ']');
	if (end == NULL || headers[strspn(headers, " \t\n\r")] != '[')
		return pstrdup(headers);
	for (const char *c = end - 1; c >= headers; c--)
	{
		if (*c == '[')
			return "[" REPLAYED "]";
		if (strchr(" \t\n\r", *c) == NULL)
			break;
	}
	return psprintf("%.*s, %s]", (int) (end - headers), headers, REPLAYED);
}

/* What PostgREST reads from the row tells that it is a replay. */
static void
adjust_response(const RfAnswer *answer, TupleDesc desc, ColumnInput *columns,
				Datum *values, bool *nulls)
{
	int			body = rf_body_column(desc);
	int			headers = rf_response_column(desc, "response_headers");
	int			status = rf_response_column(desc, "response_status");

	if (body < 0)
		return;
	values[headers] = CStringGetTextDatum(with_replayed(nulls[headers] ? NULL :
														TextDatumGetCString(values[headers])));
	nulls[headers] = false;
	if (answer->complete)
		return;
	values[status] = CStringGetTextDatum("200");
	nulls[status] = false;
	switch (columns[body].type)
	{
		case TEXTOID:
		case VARCHAROID:
		case JSONOID:
		case JSONBOID:
			values[body] = read_value(&columns[body], RF_NOT_KEPT,
									  strlen(RF_NOT_KEPT));
			nulls[body] = false;
			break;
		default:
			break;
	}
}

static List *
read_rows(RfReader *reader, const RfAnswer *answer, TupleDesc desc)
{
	ColumnInput *columns = palloc(desc->natts * sizeof(ColumnInput) + 1);
	Datum	   *values = palloc(desc->natts * sizeof(Datum) + 1);
	bool	   *nulls = palloc(desc->natts * sizeof(bool) + 1);
	MemoryContext row_mcxt = AllocSetContextCreate(CurrentMemoryContext,
												   "ringfence recorded row",
												   ALLOCSET_DEFAULT_SIZES);
	List	   *tuples = NIL;
	uint32		nrows = rf_read_u32(reader);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Oid			input;

		/* A domain's CHECK has been passed; it may do things of its own. */
		columns[i].type = getBaseType(att->atttypid);
		getTypeInputInfo(columns[i].type, &input, &columns[i].parameter);
		fmgr_info(input, &columns[i].input);
	}
	for (uint32 row = 0; row < nrows && !reader->failed; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(row_mcxt);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < desc->natts; i++)
		{
			uint32		len = rf_read_u32(reader);
			const char *bytes = len == RF_ANSWER_NULL ? NULL : rf_read_bytes(reader, len);

			nulls[i] = bytes == NULL;
			values[i] = nulls[i] ? (Datum) 0 : read_value(&columns[i], bytes, len);
		}
		if (!reader->failed)
			adjust_response(answer, desc, columns, values, nulls);
		MemoryContextSwitchTo(old);
		if (!reader->failed)
			tuples = lappend(tuples, rf_form_minimal_tuple(desc, values, nulls));
		MemoryContextReset(row_mcxt);
	}
	MemoryContextDelete(row_mcxt);
	if (reader->failed || reader->next != reader->end)
		refuse_damaged();
	return tuples;
}

/* The same; a value that is none of its type any more is 409. */
static List *
read_rows_or_refuse(RfReader *reader, const RfAnswer *answer, TupleDesc desc)
{
	MemoryContext old = CurrentMemoryContext;
	List	   *volatile tuples = NIL;

	PG_TRY();
	{
		tuples = read_rows(reader, answer, desc);
	}
	PG_CATCH();
	{
		int			category = ERRCODE_TO_CATEGORY(geterrcode());

		if (category != ERRCODE_DATA_EXCEPTION &&
			category != ERRCODE_FEATURE_NOT_SUPPORTED &&
			category != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION &&
			category != ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
			PG_RE_THROW();
		MemoryContextSwitchTo(old);
		FlushErrorState();
		refuse_shape();
	}
	PG_END_TRY();
	return tuples;
}

/*
 * The rows of an answer as MinimalTuples, palloc'd; "desc" is what they have to
 * be like, or NULL for none. Throws 409 if they are not.
 */
List *
rf_answer_rows(const RfAnswer *answer, TupleDesc desc)
{
	RfReader	reader = {NULL};
	List	   *tuples;
	RfSettings	needed;
	int			nest_level;

	if (answer->response != NULL)
	{
		reader.next = (unsigned char *) VARDATA_ANY(answer->response);
		reader.end = reader.next + VARSIZE_ANY_EXHDR(answer->response);
	}
	if (desc == NULL)
		desc = CreateTemplateTupleDesc(0);
	check_columns(&reader, desc);
	needed = rf_columns_settings(desc);
	if (!Array_nulls)
		needed = Max(needed, RF_SETTINGS_USUAL);
	nest_level = rf_plain_begin(needed, false);
	tuples = read_rows_or_refuse(&reader, answer, desc);
	rf_plain_end(nest_level);
	return tuples;
}

/* --- The settings of a response --- */

static char *
setting_or_null(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value == NULL || *value == '\0' ? NULL : pstrdup(value);
}

/* Notes the status and headers that a request's statement has set. */
void
rf_answer_settings(const RfKeyUse *use, RfAnswer *answer)
{
	answer->status = use->in_request ? setting_or_null("response.status") : NULL;
	answer->headers = use->in_request ? setting_or_null("response.headers") : NULL;
}

/* Sets a setting until the transaction ends. */
void
rf_set_for_transaction(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, ERROR, false);
}

/* Warns of rows that can't be given again. */
static void
warn_of_loss(const RfAnswer *answer)
{
	if (!answer->complete)
		ereport(WARNING,
				(errmsg("the answer to the idempotency key was not kept"),
				 errdetail("It was too large, gave out a token, or is of an endpoint whose answers are not kept. The statement has had its effect.")));
}

/* Sets a request's status and headers again, for who reads them later. */
static void
set_response(const RfKeyUse *use, const RfAnswer *answer)
{
	warn_of_loss(answer);
	if (!use->in_request)
		return;
	if (!answer->complete)
		rf_set_for_transaction("response.status", "200");
	else if (answer->status != NULL)
		rf_set_for_transaction("response.status", answer->status);
	rf_set_for_transaction("response.headers", with_replayed(answer->headers));
}

/*
 * The same for a call, which may be but a part of the request: what was set
 * around it stays.
 */
void
rf_answer_apply_call(const RfKeyUse *use, const RfAnswer *answer)
{
	RfAnswer	now;

	warn_of_loss(answer);
	rf_answer_settings(use, &now);
	if (!use->in_request)
		return;
	if (now.status == NULL && answer->status != NULL)
		rf_set_for_transaction("response.status", answer->status);
	if (now.headers == NULL)
		rf_set_for_transaction("response.headers",
							   with_replayed(answer->headers));
}

/* --- Replay --- */

static void
send_rows(QueryDesc *queryDesc, List *tuples)
{
	DestReceiver *dest = queryDesc->dest;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(queryDesc->tupDesc,
													&TTSOpsMinimalTuple);
	ListCell   *lc;

	dest->rStartup(dest, queryDesc->operation, queryDesc->tupDesc);
	foreach(lc, tuples)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(lfirst(lc), slot, false);
		if (!dest->receiveSlot(slot, dest))
			break;
	}
	dest->rShutdown(dest);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Answers for a started statement that isn't run. Throws 409 if its columns are
 * other ones than were recorded.
 */
void
rf_answer_replay(QueryDesc *queryDesc, const RfKeyUse *use,
				 const RfAnswer *answer)
{
	EState	   *estate = queryDesc->estate;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	TupleDesc	desc = rf_rows_sent(queryDesc);
	List	   *tuples;

	estate->es_auxmodifytables = NIL;
	estate->es_processed = answer->processed;
	tuples = rf_answer_rows(answer, desc);
	set_response(use, answer);
	if (desc != NULL)
		send_rows(queryDesc, tuples);
	MemoryContextSwitchTo(old);
}
