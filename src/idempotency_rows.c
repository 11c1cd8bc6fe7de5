/*
 * idempotency_rows.c: the rows of a statement, kept on their way to the client.
 *
 * While the statement runs, its rows pass through a receiver of ours to the
 * client's, and copies of them wait in a memory context of their own. At its end
 * they are written down: a version, the columns by name and type, and each value
 * as text, which outlives an upgrade of the server. Types whose OIDs are the
 * same in every server go by that, others by name.
 *
 * An answer of PostgREST's is known by its columns: one row, with the body, the
 * status and the headers of the response. There a body that is too large to keep
 * is left out of the row.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "libpq/pqformat.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "idempotency.h"

/* Rows on their way to the client, with copies of them. */
struct RfRows
{
	DestReceiver pub;
	DestReceiver *dest;			/* the client's, or NULL */
	TupleDesc	desc;			/* or NULL: there are no rows */
	int			body;			/* column of PostgREST's body, or -1 */
	Size		limit;			/* bytes that are kept */
	bool		secret;			/* nothing of the answer is */
	bool		complete;		/* no row was too large to keep */
	int64		nrows;
	Size		bytes;
	List	   *tuples;			/* MinimalTuples in mcxt */
	MemoryContext mcxt;
};

/* --- Columns --- */

static int
find_column(TupleDesc desc, const char *name)
{
	for (int i = 0; desc != NULL && i < desc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i;
	return -1;
}

/* A text column that PostgREST reads a part of the response from, or -1. */
int
rf_response_column(TupleDesc desc, const char *name)
{
	int			column = find_column(desc, name);

	if (column < 0 || TupleDescAttr(desc, column)->atttypid != TEXTOID ||
		find_column(desc, "page_total") < 0)
		return -1;
	return column;
}

int
rf_body_column(TupleDesc desc)
{
	if (rf_response_column(desc, "response_status") < 0 ||
		rf_response_column(desc, "response_headers") < 0)
		return -1;
	return find_column(desc, "body");
}

/* The columns of the rows that a statement sends; NULL if it sends none. */
TupleDesc
rf_rows_sent(const QueryDesc *queryDesc)
{
	return queryDesc->operation == CMD_SELECT ||
		queryDesc->plannedstmt->hasReturning ? queryDesc->tupDesc : NULL;
}

/*
 * Refuses columns whose values can't be read back from text: those of a row
 * type that has no name.
 */
void
rf_rows_check(TupleDesc desc)
{
	for (int i = 0; desc != NULL && i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;

		if (rf_type_settings(type) != RF_SETTINGS_NONE &&
			get_typtype(type) == TYPTYPE_PSEUDO &&
			type != VOIDOID && type != CSTRINGOID)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a result of type %s cannot be recorded under an idempotency key",
							format_type_be(type)),
					 errhint("Cast column \"%s\" to text or jsonb.",
							 NameStr(TupleDescAttr(desc, i)->attname))));
	}
}

/* --- Recording --- */

/* A row without its body, and without the headers if they may be a secret. */
static MinimalTuple
without_body(RfRows *rows, TupleTableSlot *slot)
{
	bool	   *nulls = palloc(slot->tts_nvalid * sizeof(bool));

	memcpy(nulls, slot->tts_isnull, slot->tts_nvalid * sizeof(bool));
	nulls[rows->body] = true;
	if (rows->secret)
		nulls[rf_response_column(rows->desc, "response_headers")] = true;
	return rf_form_minimal_tuple(slot->tts_tupleDescriptor, slot->tts_values,
								 nulls);
}

static void
forget_rows(RfRows *rows)
{
	rows->complete = false;
	rows->tuples = NIL;
	MemoryContextReset(rows->mcxt);
}

/*
 * Keeps a row, of the current memory context or a longer-lived one. One too many
 * has all of them forgotten.
 */
void
rf_rows_keep(RfRows *rows, MinimalTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(rows->mcxt);

	rows->nrows++;
	rows->bytes += tuple->t_len;
	rows->tuples = lappend(rows->tuples, tuple);
	if (rows->bytes > rows->limit)
		forget_rows(rows);
	MemoryContextSwitchTo(old);
}

/* How many bytes of a row's values a copy of the row would only point to. */
static Size
bytes_elsewhere(TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	Size		bytes = 0;

	slot_getallattrs(slot);
	for (int i = 0; i < desc->natts; i++)
	{
		struct varlena *value = (struct varlena *) DatumGetPointer(slot->tts_values[i]);

		if (TupleDescAttr(desc, i)->attlen == -1 && !slot->tts_isnull[i] &&
			(VARATT_IS_EXTERNAL_ONDISK(value) || VARATT_IS_COMPRESSED(value)))
			bytes += toast_raw_datum_size(PointerGetDatum(value));
	}
	return bytes;
}

static void
keep_row(RfRows *rows, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(rows->mcxt);

	rows->bytes += bytes_elsewhere(slot);
	if (rows->complete)
		rf_rows_keep(rows, ExecCopySlotMinimalTuple(slot));
	else
	{
		rows->nrows++;
		forget_rows(rows);
	}
	if (!rows->complete && rows->nrows == 1 && rows->body >= 0)
		rows->tuples = list_make1(without_body(rows, slot));
	MemoryContextSwitchTo(old);
}

static void
start_rows(DestReceiver *self, int operation, TupleDesc desc)
{
	RfRows	   *rows = (RfRows *) self;

	rows->dest->rStartup(rows->dest, operation, desc);
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RfRows	   *rows = (RfRows *) self;

	keep_row(rows, slot);
	return rows->dest->receiveSlot(slot, rows->dest);
}

static void
end_rows(DestReceiver *self)
{
	RfRows	   *rows = (RfRows *) self;

	rows->dest->rShutdown(rows->dest);
}

static void
destroy_rows(DestReceiver *self)
{
	(void) self;
}

/*
 * Begins to keep rows of these columns on their way to "dest", as far as the
 * key's endpoint has them kept. The result is palloc'd; rf_rows_end() ends it.
 */
RfRows *
rf_rows_begin(TupleDesc desc, DestReceiver *dest, const RfKeyUse *use)
{
	RfRows	   *rows = palloc0(sizeof(RfRows));

	rows->pub.receiveSlot = receive_row;
	rows->pub.rStartup = start_rows;
	rows->pub.rShutdown = end_rows;
	rows->pub.rDestroy = destroy_rows;
	rows->pub.mydest = dest != NULL ? dest->mydest : DestNone;
	rows->dest = dest;
	rows->desc = desc;
	rows->body = rf_body_column(desc);
	rows->limit = rf_key_answer_limit(use);
	rows->secret = !use->endpoint.answers;
	rows->complete = true;
	rows->mcxt = AllocSetContextCreate(CurrentMemoryContext,
									   "ringfence recorded rows",
									   ALLOCSET_DEFAULT_SIZES);
	return rows;
}

DestReceiver *
rf_rows_receiver(RfRows *rows)
{
	return &rows->pub;
}

DestReceiver *
rf_rows_destination(RfRows *rows)
{
	return rows->dest;
}

/* --- Writing down --- */

bool
rf_is_string(Oid type)
{
	return type == TEXTOID || type == VARCHAROID || type == JSONOID;
}

RfSettings
rf_columns_settings(TupleDesc desc)
{
	RfSettings	needed = RF_SETTINGS_NONE;

	for (int i = 0; i < desc->natts; i++)
		needed = Max(needed, rf_type_settings(TupleDescAttr(desc, i)->atttypid));
	return needed;
}

static void
put_bytes(StringInfo out, const char *bytes, int len)
{
	pq_sendint32(out, len);
	appendBinaryStringInfo(out, bytes, len);
}

static void
put_columns(StringInfo out, TupleDesc desc)
{
	pq_sendbyte(out, RF_ANSWER_VERSION);
	pq_sendint16(out, desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		char		buf[RF_LABEL_BYTES];
		const char *label = rf_type_label(att->atttypid, buf);

		put_bytes(out, NameStr(att->attname), strlen(NameStr(att->attname)));
		put_bytes(out, label, strlen(label));
	}
}

static void
put_value(StringInfo out, Oid type, FmgrInfo *output, Datum value)
{
	if (rf_is_string(type))
	{
		struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

		put_bytes(out, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
	}
	else
	{
		char	   *string = OutputFunctionCall(output, value);

		put_bytes(out, string, strlen(string));
	}
}

/*
 * Writes the rows; false if they are more than is kept, with "out" as it was.
 */
static bool
put_rows(StringInfo out, RfRows *rows)
{
	TupleDesc	desc = rows->desc;
	FmgrInfo   *outputs = palloc(desc->natts * sizeof(FmgrInfo) + 1);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	MemoryContext row_mcxt = AllocSetContextCreate(CurrentMemoryContext,
												   "ringfence recorded row",
												   ALLOCSET_DEFAULT_SIZES);
	int			start = out->len;
	bool		fits = true;
	ListCell   *lc;

	for (int i = 0; i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		Oid			output;
		bool		is_varlena;

		if (rf_is_string(type))
			continue;
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info(output, &outputs[i]);
	}
	pq_sendint32(out, list_length(rows->tuples));
	foreach(lc, rows->tuples)
	{
		MemoryContext old = MemoryContextSwitchTo(row_mcxt);

		ExecStoreMinimalTuple(lfirst(lc), slot, false);
		slot_getallattrs(slot);
		for (int i = 0; i < desc->natts; i++)
			if (slot->tts_isnull[i])
				pq_sendint32(out, RF_ANSWER_NULL);
			else
				put_value(out, TupleDescAttr(desc, i)->atttypid, &outputs[i],
						  slot->tts_values[i]);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_mcxt);
		if ((Size) (out->len - start) > rows->limit && rows->complete)
		{
			fits = false;
			break;
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(row_mcxt);
	if (!fits)
		out->len = start;
	return fits;
}

/* Keeps of a lone row of PostgREST's what is not its body, or no row at all. */
static void
give_up_rows(RfRows *rows)
{
	TupleTableSlot *slot;

	rows->complete = false;
	if (rows->nrows != 1 || rows->body < 0)
	{
		rows->tuples = NIL;
		return;
	}
	slot = MakeSingleTupleTableSlot(rows->desc, &TTSOpsMinimalTuple);
	ExecStoreMinimalTuple(linitial(rows->tuples), slot, false);
	slot_getallattrs(slot);
	rows->tuples = list_make1(without_body(rows, slot));
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Ends what rf_rows_begin() began; "answer" has the rows then, unless they give
 * out a token: then it has no headers either.
 */
void
rf_rows_end(RfRows *rows, RfAnswer *answer)
{
	StringInfoData out;
	int			nest_level;

	rows->secret = rows->secret || rf_jwt_signed();
	if (rows->secret && rows->tuples != NIL)
		give_up_rows(rows);
	if (rows->secret)
		answer->headers = NULL;
	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	if (rows->desc == NULL)
		rows->desc = CreateTemplateTupleDesc(0);
	put_columns(&out, rows->desc);
	nest_level = rf_plain_begin(rf_columns_settings(rows->desc), false);
	if (!put_rows(&out, rows))
	{
		give_up_rows(rows);
		(void) put_rows(&out, rows);
	}
	rf_plain_end(nest_level);
	answer->complete = rows->complete;
	answer->response = (bytea *) out.data;
	SET_VARSIZE(answer->response, out.len);
	MemoryContextDelete(rows->mcxt);
}
