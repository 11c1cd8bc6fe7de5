/*
 * csv_write.c: rows as lines of CSV.
 *
 * A writer is made once of a row type: it knows of each column by which code its
 * cells are written, whether they could be formulas, and whether they are quoted
 * whatever is in them. The commonest types are written straight into the buffer;
 * of the others the type's output function is called, which was looked up then.
 * What is written is what COPY ... (FORMAT csv) writes, but for the guard, and for
 * dates, times and bytea, which don't depend on a session's settings here.
 *
 * Memory: the writer lives in the context that it was made in. What an output
 * function or detoasting allocates goes into a context of the writer's, which is
 * emptied after each row.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "csv.h"
#include "csv_scan.h"
#include "csv_time.h"

/* More than the longest number, date or key takes, with quotes. */
#define SHORT_CELL (MAXDATELEN + 8)

/* Longer cells are measured before they are quoted, shorter ones aren't worth it. */
#define MEASURED_CELL 65536

typedef enum CellKind
{
	CELL_OUTPUT,				/* by the type's output function */
	CELL_TEXT,					/* a varlena whose bytes are the text */
	CELL_BOOL,
	CELL_INT2,
	CELL_INT4,
	CELL_INT8,
	CELL_FLOAT4,
	CELL_FLOAT8,
	CELL_DATE,
	CELL_TIMESTAMP,
	CELL_TIMESTAMPTZ,
	CELL_UUID,
	CELL_BYTEA,
} CellKind;

typedef struct CsvColumn
{
	CellKind	kind;
	int			attribute;		/* index into a row's values */
	bool		guard;			/* a cell may be a formula */
	bool		quote;			/* each is quoted */
	bool		check;			/* so may a cell be that has no special sign */
	FmgrInfo	output;
} CsvColumn;

struct RfCsvWriter
{
	RfCsvOptions options;
	MemoryContext row_context;
	bool		row_used;		/* there is something in it */
	const bool *formula_starts;
	RfCsvZone	zone;
	TupleDesc	desc;
	int			ncolumns;
	CsvColumn	columns[FLEXIBLE_ARRAY_MEMBER];
};

/* How a type's cells are written, and whether they can't ever be a formula. */
static CellKind
cell_kind(Oid type, bool *safe)
{
	*safe = true;
	switch (getBaseType(type))
	{
		case BOOLOID:
			return CELL_BOOL;
		case INT2OID:
			return CELL_INT2;
		case INT4OID:
			return CELL_INT4;
		case INT8OID:
			return CELL_INT8;
		case FLOAT4OID:
			return CELL_FLOAT4;
		case FLOAT8OID:
			return CELL_FLOAT8;
		case DATEOID:
			return CELL_DATE;
		case TIMESTAMPOID:
			return CELL_TIMESTAMP;
		case TIMESTAMPTZOID:
			return CELL_TIMESTAMPTZ;
		case UUIDOID:
			return CELL_UUID;
		case BYTEAOID:
			return CELL_BYTEA;
		case NUMERICOID:
		case CASHOID:
		case OIDOID:
		case XIDOID:
		case XID8OID:
		case CIDOID:
		case TIDOID:
		case PG_LSNOID:
		case TIMEOID:
		case TIMETZOID:
		case INTERVALOID:
		case JSONBOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
		case MACADDR8OID:
		case BITOID:
		case VARBITOID:
			return CELL_OUTPUT;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case JSONOID:
			*safe = false;
			return CELL_TEXT;
		default:
			*safe = false;
			return CELL_OUTPUT;
	}
}

static void
make_column(CsvColumn *column, Form_pg_attribute attribute,
			const RfCsvOptions *options, MemoryContext context)
{
	bool		safe;
	Oid			function;
	bool		is_varlena;

	column->kind = cell_kind(attribute->atttypid, &safe);
	column->attribute = attribute->attnum - 1;
	column->guard = options->guard && !safe;
	column->quote = options->quote == RF_CSV_QUOTE_ALL ||
		(options->quote == RF_CSV_QUOTE_TEXT && !safe);
	column->check = column->quote || options->null_len > 0 ||
		strchr(" +-.:", options->delimiter) != NULL;
	if (column->kind == CELL_OUTPUT || column->kind == CELL_FLOAT4 ||
		column->kind == CELL_FLOAT8)
	{
		getTypeOutputInfo(attribute->atttypid, &function, &is_varlena);
		fmgr_info_cxt(function, &column->output, context);
	}
}

/*
 * A writer of the first so many attributes of a row type, or of all if it is less
 * than 0, without those that were dropped. The options and the row type are copied.
 * Raises an error for a type that has no output function.
 */
RfCsvWriter *
rf_csv_writer(TupleDesc desc, int ncolumns, const RfCsvOptions *options,
			  MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	int			natts = ncolumns < 0 ? desc->natts : Min(ncolumns, desc->natts);
	RfCsvWriter *writer = palloc0(offsetof(RfCsvWriter, columns) +
								  natts * sizeof(CsvColumn));

	writer->options = *options;
	writer->desc = CreateTupleDescCopy(desc);
	writer->formula_starts = rf_csv_formula_starts();
	writer->row_context = AllocSetContextCreate(context, "ringfence csv row",
												ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(writer->desc, i);

		if (!attribute->attisdropped)
			make_column(&writer->columns[writer->ncolumns++], attribute,
						options, context);
	}
	MemoryContextSwitchTo(caller);
	return writer;
}

/* --- Cells --- */

static inline void
put_char(RfCsvBuffer *buffer, char c)
{
	rf_csv_buffer_room(buffer, 1);
	buffer->data[buffer->len++] = c;
}

/* A cell in quotes, behind an apostrophe if it is a formula. */
static void
put_quoted(const char *cell, Size len, bool formula, RfCsvBuffer *buffer)
{
	Size		quotes = len;
	char	   *to;

	if (len > MEASURED_CELL)
	{
		quotes = 0;
		for (Size i = 0; i < len; i++)
			quotes += cell[i] == '"';
	}
	rf_csv_buffer_room(buffer, len + quotes + 3);
	to = buffer->data + buffer->len;
	*to++ = '"';
	if (formula)
		*to++ = '\'';
	to = csv_copy_doubling(to, cell, len);
	*to++ = '"';
	buffer->len = to - buffer->data;
}

static inline bool
is_null_text(const RfCsvWriter *writer, const char *cell, Size len)
{
	return len == writer->options.null_len &&
		memcmp(cell, writer->options.null_text, len) == 0;
}

/* Text of any kind, quoted where it has to be. */
static inline void
put_text(const RfCsvWriter *writer, const CsvColumn *column,
		 const char *cell, Size len, RfCsvBuffer *buffer)
{
	bool		formula = column->guard && len > 0 &&
	unlikely(writer->formula_starts[(unsigned char) *cell]) &&
	rf_csv_is_formula(cell, len);

	/* "\." alone in a line ends what COPY reads. */
	if (!formula && !column->quote && !is_null_text(writer, cell, len) &&
		!(writer->ncolumns == 1 && len == 2 && memcmp(cell, "\\.", 2) == 0))
	{
		rf_csv_buffer_room(buffer, len);
		if (csv_copy_plain(buffer->data + buffer->len, cell, len,
						   writer->options.delimiter))
		{
			buffer->len += len;
			return;
		}
	}
	put_quoted(cell, len, formula, buffer);
}

/* Quotes the cell that begins there, which has no quote in it, if it has to be. */
static void
check_cell(const RfCsvWriter *writer, const CsvColumn *column, Size begin,
		   RfCsvBuffer *buffer)
{
	char	   *cell = buffer->data + begin;
	Size		len = buffer->len - begin;

	if (!column->quote && !is_null_text(writer, cell, len) &&
		memchr(cell, writer->options.delimiter, len) == NULL)
		return;
	rf_csv_buffer_room(buffer, 2);
	cell = buffer->data + begin;
	memmove(cell + 1, cell, len);
	cell[0] = '"';
	cell[len + 1] = '"';
	buffer->len += 2;
}

/* By the output function, whose memory goes with the row. */
static void
put_output(RfCsvWriter *writer, CsvColumn *column, Datum value,
		   RfCsvBuffer *buffer)
{
	MemoryContext caller = MemoryContextSwitchTo(writer->row_context);
	char	   *cell;

	writer->row_used = true;
	cell = OutputFunctionCall(&column->output, value);
	MemoryContextSwitchTo(caller);
	put_text(writer, column, cell, strlen(cell), buffer);
}

/* A varlena whose bytes can be read; detoasted, it goes with the row. */
static struct varlena *
readable(RfCsvWriter *writer, Datum value)
{
	struct varlena *bytes = (struct varlena *) DatumGetPointer(value);
	MemoryContext caller;

	if (!VARATT_IS_EXTERNAL(bytes) && !VARATT_IS_COMPRESSED(bytes))
		return bytes;
	caller = MemoryContextSwitchTo(writer->row_context);
	writer->row_used = true;
	bytes = detoast_attr(bytes);
	MemoryContextSwitchTo(caller);
	return bytes;
}

/* In hexadecimal, whatever bytea_output says. */
static void
put_bytea(RfCsvWriter *writer, Datum value, RfCsvBuffer *buffer)
{
	struct varlena *bytes = readable(writer, value);
	Size		len = VARSIZE_ANY_EXHDR(bytes);
	char	   *to;

	rf_csv_buffer_room(buffer, 2 + 2 * len);
	to = buffer->data + buffer->len;
	*to++ = '\\';
	*to++ = 'x';
	to += hex_encode(VARDATA_ANY(bytes), len, to);
	buffer->len = to - buffer->data;
}

static int
write_uuid(Datum value, char *to)
{
	static const char digits[] = "0123456789abcdef";
	const pg_uuid_t *uuid = DatumGetUUIDP(value);
	char	   *c = to;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*c++ = '-';
		*c++ = digits[uuid->data[i] >> 4];
		*c++ = digits[uuid->data[i] & 0x0F];
	}
	return c - to;
}

/* A cell of a type that fits in SHORT_CELL bytes; says how many it took. */
static inline int
write_short(RfCsvWriter *writer, CellKind kind, Datum value, char *to)
{
	switch (kind)
	{
		case CELL_BOOL:
			*to = DatumGetBool(value) ? 't' : 'f';
			return 1;
		case CELL_INT2:
			return pg_ltoa(DatumGetInt16(value), to);
		case CELL_INT4:
			return pg_ltoa(DatumGetInt32(value), to);
		case CELL_INT8:
			return pg_lltoa(DatumGetInt64(value), to);
		case CELL_FLOAT4:
			return float_to_shortest_decimal_buf(DatumGetFloat4(value), to);
		case CELL_FLOAT8:
			return double_to_shortest_decimal_buf(DatumGetFloat8(value), to);
		case CELL_DATE:
			return rf_csv_date(DatumGetDateADT(value), to);
		case CELL_TIMESTAMP:
			return rf_csv_timestamp(DatumGetTimestamp(value), NULL, to);
		case CELL_TIMESTAMPTZ:
			return rf_csv_timestamp(DatumGetTimestampTz(value), &writer->zone, to);
		case CELL_UUID:
			return write_uuid(value, to);
		default:
			elog(ERROR, "unexpected kind of cell: %d", kind);
	}
	return 0;
}

static inline void
put_cell(RfCsvWriter *writer, CsvColumn *column, Datum value,
		 RfCsvBuffer *buffer)
{
	Size		begin = buffer->len;

	switch (column->kind)
	{
		case CELL_TEXT:
			{
				struct varlena *bytes = readable(writer, value);

				put_text(writer, column, VARDATA_ANY(bytes),
						 VARSIZE_ANY_EXHDR(bytes), buffer);
				return;
			}
		case CELL_OUTPUT:
			put_output(writer, column, value, buffer);
			return;
		case CELL_BYTEA:
			put_bytea(writer, value, buffer);
			break;
		case CELL_FLOAT4:
		case CELL_FLOAT8:
			/* Not the shortest that is read as the same, if so asked. */
			if (extra_float_digits <= 0)
			{
				put_output(writer, column, value, buffer);
				return;
			}
			/* FALLTHROUGH */
		default:
			rf_csv_buffer_room(buffer, SHORT_CELL);
			buffer->len += write_short(writer, column->kind, value,
									   buffer->data + buffer->len);
			break;
	}
	if (unlikely(column->check))
		check_cell(writer, column, begin, buffer);
}

/* --- Lines --- */

static inline void
end_line(const RfCsvWriter *writer, RfCsvBuffer *buffer)
{
	rf_csv_buffer_room(buffer, 2);
	if (writer->options.crlf)
		buffer->data[buffer->len++] = '\r';
	buffer->data[buffer->len++] = '\n';
}

/*
 * What a file begins with: a byte order mark and the columns' names, each if the
 * options say so.
 */
void
rf_csv_header(RfCsvWriter *writer, RfCsvBuffer *buffer)
{
	CsvColumn	name = {
		.guard = writer->options.guard,
		.quote = writer->options.quote != RF_CSV_QUOTE_MINIMAL,
	};

	if (writer->options.bom)
		rf_csv_buffer_append(buffer, "\xEF\xBB\xBF", 3);
	if (!writer->options.header)
		return;
	for (int i = 0; i < writer->ncolumns; i++)
	{
		int			attribute = writer->columns[i].attribute;
		const char *cell = NameStr(TupleDescAttr(writer->desc, attribute)->attname);

		if (i > 0)
			put_char(buffer, writer->options.delimiter);
		put_text(writer, &name, cell, strlen(cell), buffer);
	}
	end_line(writer, buffer);
}

/*
 * A line: values and nulls are of the row type that the writer was made of, and
 * may be toasted. Raises what the types' output functions raise, and 54000 for a
 * buffer that is full.
 */
void
rf_csv_row(RfCsvWriter *writer, const Datum *values, const bool *nulls,
		   RfCsvBuffer *buffer)
{
	for (int i = 0; i < writer->ncolumns; i++)
	{
		CsvColumn  *column = &writer->columns[i];

		if (i > 0)
			put_char(buffer, writer->options.delimiter);
		if (nulls[column->attribute])
			rf_csv_buffer_append(buffer, writer->options.null_text,
								 writer->options.null_len);
		else
			put_cell(writer, column, values[column->attribute], buffer);
	}
	end_line(writer, buffer);
	if (writer->row_used)
	{
		MemoryContextReset(writer->row_context);
		writer->row_used = false;
	}
}
