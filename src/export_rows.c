/*
 * export_rows.c: the rows of an export, one after the other, into parts.
 *
 * A cursor hands out rows, and each is written before the next is made, until one
 * doesn't fit: so memory is that of a part and a row, however many there are. Keys
 * only ever go up, which is checked: an export that goes on after the key of its
 * last row would miss rows that have the same one, or none.
 *
 * A row that doesn't fit into its part any more begins the next one. Where that
 * is another statement's, it is read there again.
 *
 * Everything lives in the context that rf_export_open() is given, but for the
 * portal, which an error closes with the (sub)transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "compat.h"
#include "export.h"

/* Asked of the cursor, which costs as much as a narrow row. */
#define ROWS_AT_A_TIME 1000

typedef struct KeyColumn
{
	Oid			type;
	Oid			collation;
	int16		typlen;
	bool		typbyval;
	FmgrInfo   *compare;
	FmgrInfo	output;
} KeyColumn;

/* A key, in a context of its own. */
typedef struct Key
{
	bool		known;
	Datum	   *values;
	MemoryContext mcxt;
} Key;

struct RfExportReader
{
	DestReceiver receiver;		/* first: what the executor knows of it */
	const RfExportOrder *order;
	Portal		portal;
	TupleDesc	desc;
	int			ncolumns;		/* without the key */
	RfCsvWriter *writer;		/* NULL for NDJSON */
	RfCsvBuffer buffer;
	Size		limit;			/* of a part */
	KeyColumn  *columns;
	Key			last;			/* of the last row in the part */
	Key			next;			/* of the one that didn't fit */
	bool		may_repeat;		/* "last" is of the part before */
	int64		rows;
	Size		fits;			/* length without that row, or 0 */
	MemoryContext mcxt;
	MemoryContext row_mcxt;
};

static int
compare_keys(const RfExportReader *reader, const Datum *a, const Datum *b)
{
	for (int i = 0; i < reader->order->nkeys; i++)
	{
		const KeyColumn *column = &reader->columns[i];
		int			result = DatumGetInt32(FunctionCall2Coll(column->compare,
															 column->collation,
															 a[i], b[i]));

		if (result != 0)
			return result;
	}
	return 0;
}

static void
keep_key(const RfExportReader *reader, const Datum *values, Key *key)
{
	MemoryContext old;

	MemoryContextReset(key->mcxt);
	old = MemoryContextSwitchTo(key->mcxt);
	key->values = palloc(reader->order->nkeys * sizeof(Datum));
	for (int i = 0; i < reader->order->nkeys; i++)
		key->values[i] = datumCopy(values[i], reader->columns[i].typbyval,
								   reader->columns[i].typlen);
	key->known = true;
	MemoryContextSwitchTo(old);
}

static void
refuse_key(const RfExportReader *reader, const bool *nulls)
{
	for (int i = 0; i < reader->order->nkeys; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a row of the export has no key"),
					 errdetail("Its column \"%s\" is NULL.",
							   NameStr(TupleDescAttr(reader->desc, reader->ncolumns + i)->attname)),
					 errhint("The columns that the export was declared with must identify each row.")));
}

/* False for the last row of the part before, which is met again. */
static bool
check_key(RfExportReader *reader, const Datum *values, const bool *nulls)
{
	int			result;
	bool		repeated = reader->may_repeat;

	refuse_key(reader, nulls);
	reader->may_repeat = false;
	if (!reader->last.known)
		return true;
	result = compare_keys(reader, values, reader->last.values);
	if (result == 0 && repeated)
		return false;
	if (result <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("two rows of the export have the same key"),
				 errhint("The columns that the export was declared with must identify each row.")));
	return true;
}

/* Writes a row at the end of the part; what is beyond its limit counts as none. */
static void
write_row(RfExportReader *reader, TupleTableSlot *slot)
{
	Size		before = reader->buffer.len;
	Datum	   *key = slot->tts_values + reader->ncolumns;

	if (!check_key(reader, key, slot->tts_isnull + reader->ncolumns))
		return;
	if (reader->writer != NULL)
		rf_csv_row(reader->writer, slot->tts_values, slot->tts_isnull,
				   &reader->buffer);
	else
		rf_ndjson_row(slot->tts_values[0], &reader->buffer);
	if (reader->rows > 0 && rf_csv_length(&reader->buffer) > reader->limit)
	{
		reader->fits = before;
		keep_key(reader, key, &reader->next);
		return;
	}
	reader->rows++;
	keep_key(reader, key, &reader->last);
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RfExportReader *reader = (RfExportReader *) self;
	MemoryContext old = MemoryContextSwitchTo(reader->row_mcxt);

	slot_getallattrs(slot);
	write_row(reader, slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->row_mcxt);
	return reader->fits == 0;	/* else no other row for now */
}

static void
receive_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	(void) self;
	(void) operation;
	(void) desc;
}

static void
receive_end(DestReceiver *self)
{
	(void) self;
}

static void
describe_keys(RfExportReader *reader)
{
	reader->columns = palloc0(reader->order->nkeys * sizeof(KeyColumn));
	for (int i = 0; i < reader->order->nkeys; i++)
	{
		KeyColumn  *column = &reader->columns[i];
		Form_pg_attribute att = TupleDescAttr(reader->desc, reader->ncolumns + i);
		TypeCacheEntry *type = lookup_type_cache(getBaseType(att->atttypid),
												 TYPECACHE_CMP_PROC_FINFO);
		Oid			output;
		bool		is_varlena;

		if (!OidIsValid(type->cmp_proc_finfo.fn_oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("type %s has no order", format_type_be(att->atttypid))));
		column->type = type->type_id;
		column->collation = att->attcollation;
		column->typlen = type->typlen;
		column->typbyval = type->typbyval;
		column->compare = &type->cmp_proc_finfo;
		getTypeOutputInfo(type->type_id, &output, &is_varlena);
		fmgr_info(output, &column->output);
	}
}

/* The key that the part before ended with. */
static void
take_up_key(RfExportReader *reader)
{
	Datum	   *values = palloc(reader->order->nkeys * sizeof(Datum));

	if (reader->order->after == NIL)
		return;
	if (list_length(reader->order->after) != reader->order->nkeys)
		elog(ERROR, "the last part of an export has another key");
	for (int i = 0; i < reader->order->nkeys; i++)
	{
		Oid			input;
		Oid			parameter;

		getTypeInputInfo(reader->columns[i].type, &input, &parameter);
		values[i] = OidInputFunctionCall(input, list_nth(reader->order->after, i),
										 parameter, -1);
	}
	keep_key(reader, values, &reader->last);
	reader->may_repeat = true;
}

static MemoryContext
small_context(MemoryContext parent, const char *name)
{
	return AllocSetContextCreateInternal(parent, name, ALLOCSET_SMALL_SIZES);
}

/*
 * Begins to read, as whoever is the user now, under the snapshot that is active.
 * SPI must be connected, and the settings those that the rows are to be written
 * under. A part is of "limit" bytes at most, or of one row.
 */
RfExportReader *
rf_export_open(const RfExportOrder *order, Size limit, MemoryContext mcxt)
{
	MemoryContext old = MemoryContextSwitchTo(mcxt);
	RfExportReader *reader = palloc0(sizeof(RfExportReader));
	SPIPlanPtr	plan;

	reader->receiver.receiveSlot = receive_row;
	reader->receiver.rStartup = receive_startup;
	reader->receiver.rShutdown = receive_end;
	reader->receiver.rDestroy = receive_end;
	reader->receiver.mydest = DestNone;
	reader->order = order;
	reader->limit = limit;
	reader->mcxt = mcxt;
	reader->row_mcxt = AllocSetContextCreate(mcxt, "ringfence export row",
											 ALLOCSET_DEFAULT_SIZES);
	reader->last.mcxt = small_context(mcxt, "ringfence export key");
	reader->next.mcxt = small_context(mcxt, "ringfence export key");

	/* To sort all that is left for the sake of a part is never worth it. */
	plan = SPI_prepare_cursor(order->statement, 0, NULL,
							  CURSOR_OPT_NO_SCROLL |
							  (order->consistent ? 0 : CURSOR_OPT_FAST_PLAN));
	if (plan == NULL)
		elog(ERROR, "could not prepare an export: %s",
			 SPI_result_code_string(SPI_result));
	reader->portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	PinPortal(reader->portal);
	MemoryContextSwitchTo(mcxt);
	reader->desc = reader->portal->tupDesc;
	reader->ncolumns = reader->desc->natts - order->nkeys;
	describe_keys(reader);
	take_up_key(reader);
	rf_csv_buffer_init(&reader->buffer, order->ndjson ? "NDJSON" : "CSV", mcxt);
	if (!order->ndjson)
		reader->writer = rf_csv_writer(reader->desc, reader->ncolumns,
									   &order->options, mcxt);
	if (reader->writer != NULL && order->header)
		rf_csv_header(reader->writer, &reader->buffer);
	MemoryContextSwitchTo(old);
	return reader;
}

/*
 * Reads until the part is full, or no row is left: then true. Throws 22000 for
 * keys that don't identify rows, and whatever the rows throw.
 */
bool
rf_export_part(RfExportReader *reader)
{
	while (reader->fits == 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (PortalRunFetch(reader->portal, FETCH_FORWARD, ROWS_AT_A_TIME,
						   &reader->receiver) < ROWS_AT_A_TIME &&
			reader->fits == 0)
			return true;
	}
	/* We stopped it: it takes fewer rows than were asked for as the end. */
	reader->portal->atEnd = false;
	return false;
}

/*
 * The part that was read, in UTF-8, as a bytea: of the reader's memory, until
 * rf_export_next().
 */
struct varlena *
rf_export_data(RfExportReader *reader)
{
	Size		length;
	char	   *bytes;
	struct varlena *data;

	if (reader->fits == 0 && GetDatabaseEncoding() == PG_UTF8)
		return rf_csv_buffer_varlena(&reader->buffer);
	length = (reader->fits != 0 ? reader->fits : reader->buffer.len) - VARHDRSZ;
	if (GetDatabaseEncoding() == PG_UTF8)
	{
		/* What follows stays where it is. */
		SET_VARSIZE(reader->buffer.data, length + VARHDRSZ);
		return (struct varlena *) reader->buffer.data;
	}
	bytes = pg_server_to_any(rf_csv_bytes(&reader->buffer), length, PG_UTF8);
	if (bytes != rf_csv_bytes(&reader->buffer))
		length = strlen(bytes);
	data = palloc(length + VARHDRSZ);
	SET_VARSIZE(data, length + VARHDRSZ);
	memcpy(VARDATA(data), bytes, length);
	return data;
}

/* The same as a text, in the encoding of the database. */
struct varlena *
rf_export_text(RfExportReader *reader)
{
	return rf_csv_buffer_varlena(&reader->buffer);
}

/* How many rows are in the part. */
int64
rf_export_rows(const RfExportReader *reader)
{
	return reader->rows;
}

/*
 * The key of its last row, as an array of text; NULL without a row. Under the
 * settings that the key will be read under.
 */
Datum
rf_export_last_key(RfExportReader *reader, bool *isnull)
{
	Datum	   *texts;

	*isnull = !reader->last.known;
	if (*isnull)
		return (Datum) 0;
	texts = palloc(reader->order->nkeys * sizeof(Datum));
	for (int i = 0; i < reader->order->nkeys; i++)
		texts[i] = CStringGetTextDatum(OutputFunctionCall(&reader->columns[i].output,
														  reader->last.values[i]));
	return PointerGetDatum(construct_array(texts, reader->order->nkeys, TEXTOID,
										   -1, false, TYPALIGN_INT));
}

/* Begins the next part with the row that didn't fit. */
void
rf_export_next(RfExportReader *reader)
{
	Size		rest = reader->buffer.len - reader->fits;
	Key			last = reader->last;

	Assert(reader->fits != 0);
	memmove(rf_csv_bytes(&reader->buffer),
			reader->buffer.data + reader->fits, rest);
	reader->buffer.len = VARHDRSZ + rest;
	reader->fits = 0;
	reader->rows = 1;
	reader->last = reader->next;
	reader->next = last;
}

void
rf_export_close(RfExportReader *reader)
{
	UnpinPortal(reader->portal);
	SPI_cursor_close(reader->portal);
}
