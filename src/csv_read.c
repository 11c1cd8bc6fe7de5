/*
 * csv_read.c: CSV text as rows.
 *
 * csv_rows() has the cells as they come, csv_table() has them by the header of
 * the file. A record is made in a context of its own and goes into the result's
 * tuplestore, so that beyond text and result no memory is taken that grows.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "csv_split.h"

#define MAX_NAME_SHOWN 64

PG_FUNCTION_INFO_V1(ringfence_csv_rows);
PG_FUNCTION_INFO_V1(ringfence_csv_table);

/* A record's cells: text in the current context, NULL where it's empty. */
typedef struct CsvRecord
{
	int			line;
	int			ncells;
	Datum		cells[RF_CSV_MAX_CELLS];
	bool		nulls[RF_CSV_MAX_CELLS];
} CsvRecord;

/* What a caller of csv_table() wants, and where the file has it. */
typedef struct CsvColumns
{
	int			n;
	char	  **names;
	bool	   *required;
	int			nfound;			/* as many as the header has */
	int			found[RF_CSV_MAX_CELLS];
} CsvColumns;

static const char *
flaw_detail(RfCsvFlaw flaw)
{
	switch (flaw)
	{
		case RF_CSV_STRAY_QUOTE:
			return "Cell %d of the record that begins there has a quote in it and is not quoted.";
		case RF_CSV_AFTER_QUOTE:
			return "Cell %d of the record that begins there goes on after its closing quote.";
		case RF_CSV_NOT_CLOSED:
			return "Cell %d of the record that begins there has no closing quote.";
		case RF_CSV_TOO_MANY_CELLS:
			return "The record that begins there has cell %d, which is more than are read.";
		case RF_CSV_SOUND:
			break;
	}
	elog(ERROR, "unexpected flaw of CSV: %d", (int) flaw);
	return NULL;				/* keep the compiler quiet */
}

static void
malformed(const RfCsvSplit *split)
{
	ereport(ERROR,
			(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
			 errmsg("malformed CSV on line %d", split->line),
			 errdetail(flaw_detail(split->flaw), split->cell)));
}

static Datum
cell_text(const RfCsvCell *cell)
{
	text	   *value = palloc(VARHDRSZ + cell->len);

	SET_VARSIZE(value, VARHDRSZ + rf_csv_cell_copy(cell, VARDATA(value)));
	return PointerGetDatum(value);
}

/* The next record, or false after the last one; 22P04 for what is none. */
static bool
read_record(RfCsvSplit *split, CsvRecord *record)
{
	RfCsvCell	cell;
	RfCsvStep	step;
	int			n = 0;

	CHECK_FOR_INTERRUPTS();
	do
	{
		step = rf_csv_split_next(split, &cell);
		if (step == RF_CSV_FAILED)
			malformed(split);
		if (step == RF_CSV_END)
			return false;
		record->nulls[n] = cell.len == 0 && !cell.quoted;
		record->cells[n] = record->nulls[n] ? (Datum) 0 : cell_text(&cell);
		n++;
	} while (step == RF_CSV_CELL);
	record->line = split->line;
	record->ncells = n;
	return true;
}

/* Throws 22023 for a delimiter that can't be told from what is in cells. */
static void
begin_text(RfCsvSplit *split, text *csv, text *delimiter)
{
	unsigned char c = '\0';

	if (VARSIZE_ANY_EXHDR(delimiter) == 1)
		c = *VARDATA_ANY(delimiter);
	if (c == '\0' || c == '"' || c == '\r' || c == '\n' || isalnum(c) ||
		IS_HIGHBIT_SET(c))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid delimiter of a CSV"),
				 errdetail("It is one character of ASCII that is no letter, digit, quote or line end.")));
	rf_csv_split_begin(split, VARDATA_ANY(csv), VARSIZE_ANY_EXHDR(csv), c);
}

/* A row of the result: the record's line, and these cells. */
static void
put_row(ReturnSetInfo *result, int line, Datum *cells, bool *nulls, int ncells)
{
	int			lower = 1;
	Datum		values[2];
	bool		none[2] = {false, false};

	values[0] = Int32GetDatum(line);
	values[1] = PointerGetDatum(construct_md_array(cells, nulls, 1, &ncells,
												   &lower, TEXTOID, -1, false,
												   TYPALIGN_INT));
	tuplestore_putvalues(result->setResult, result->setDesc, values, none);
}

/*
 * csv_rows(csv, delimiter): each record's line and cells. Throws 22P04, 22023.
 */
Datum
ringfence_csv_rows(PG_FUNCTION_ARGS)
{
	text	   *csv = PG_GETARG_TEXT_PP(0);
	CsvRecord  *record = palloc(sizeof(CsvRecord));
	RfCsvSplit	split;
	ReturnSetInfo *result;
	MemoryContext context;
	MemoryContext caller;

	begin_text(&split, csv, PG_GETARG_TEXT_PP(1));
	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	context = AllocSetContextCreate(CurrentMemoryContext, "ringfence CSV record",
									ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	while (read_record(&split, record))
	{
		put_row(result, record->line, record->cells, record->nulls,
				record->ncells);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return (Datum) 0;
}

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What a cell of the header names, blanks around it left out; a copy. */
static char *
header_name(Datum cell)
{
	char	   *name = TextDatumGetCString(cell);
	size_t		len;

	while (is_blank(*name))
		name++;
	len = strlen(name);
	while (len > 0 && is_blank(name[len - 1]))
		name[--len] = '\0';
	return name;
}

/*
 * Where a name stands among the columns, whatever the case of ASCII letters. Names
 * are as many and as long as the caller likes, so that this may be interrupted.
 */
static int
find_column(const CsvColumns *columns, const char *name)
{
	for (int i = 0; i < columns->n; i++)
	{
		const char *a = columns->names[i];
		const char *b = name;

		CHECK_FOR_INTERRUPTS();
		while (*a != '\0' && pg_ascii_tolower((unsigned char) *a) ==
			   pg_ascii_tolower((unsigned char) *b))
		{
			a++;
			b++;
		}
		if (*a == '\0' && *b == '\0')
			return i;
	}
	return -1;
}

static void
bad_columns(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("columns of CSV are not a list of different names, and those required among them")));
}

static char **
read_names(ArrayType *array, int *n)
{
	Datum	   *elements;
	bool	   *nulls;
	char	  **names;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, n);
	names = palloc((*n + 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			bad_columns();
		names[i] = TextDatumGetCString(elements[i]);
	}
	return names;
}

/* Throws 22023 for what names no columns. */
static void
read_columns(ArrayType *wanted, ArrayType *required, CsvColumns *columns)
{
	char	  **names = read_names(wanted, &columns->n);
	char	  **required_names;
	int			nrequired;

	columns->names = names;
	if (columns->n == 0 || columns->n > RF_CSV_MAX_CELLS)
		bad_columns();
	for (int i = 0; i < columns->n; i++)
		if (find_column(columns, names[i]) != i)
			bad_columns();
	columns->required = palloc0(columns->n * sizeof(bool));
	required_names = read_names(required, &nrequired);
	for (int i = 0; i < nrequired; i++)
	{
		int			column = find_column(columns, required_names[i]);

		if (column < 0)
			bad_columns();
		columns->required[column] = true;
	}
}

/* A sentence with the names that a header may have. */
static int
allowed_names(const CsvColumns *columns)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < columns->n; i++)
		appendStringInfo(&names, "%s%s%s", i > 0 ? ", " : "",
						 columns->names[i],
						 columns->required[i] ? " (required)" : "");
	return errdetail("The first record names the columns: %s.", names.data);
}

/* Which column each cell of the header names. Throws 22P04. */
static void
read_header(const CsvRecord *header, CsvColumns *columns)
{
	bool	   *seen = palloc0(columns->n * sizeof(bool));

	columns->nfound = header->ncells;
	for (int i = 0; i < header->ncells; i++)
	{
		char	   *name = header->nulls[i] ? pstrdup("") :
		header_name(header->cells[i]);
		int			column = find_column(columns, name);

		if (column < 0 || seen[column])
		{
			name[pg_mbcliplen(name, strlen(name), MAX_NAME_SHOWN)] = '\0';
			ereport(ERROR,
					(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
					 column < 0 ?
					 errmsg("unknown column \"%s\" in the header of the CSV", name) :
					 errmsg("column \"%s\" is twice in the header of the CSV", name),
					 allowed_names(columns)));
		}
		seen[column] = true;
		columns->found[i] = column;
	}
	for (int i = 0; i < columns->n; i++)
		if (columns->required[i] && !seen[i])
			ereport(ERROR,
					(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
					 errmsg("no column \"%s\" in the header of the CSV",
							columns->names[i]),
					 allowed_names(columns)));
}

static void
check_length(const CsvRecord *record, const CsvColumns *columns, bool ragged)
{
	if (record->ncells == columns->nfound ||
		(ragged && record->ncells < columns->nfound))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
			 errmsg("malformed CSV on line %d", record->line),
			 errdetail("The number of cells in the record that begins there is %d, and %d in the header.",
					   record->ncells, columns->nfound)));
}

/* The record's cells in the order of the columns. */
static void
put_by_columns(ReturnSetInfo *result, const CsvRecord *record,
			   const CsvColumns *columns)
{
	Datum	   *cells = palloc0(columns->n * sizeof(Datum));
	bool	   *nulls = palloc(columns->n * sizeof(bool));

	memset(nulls, true, columns->n * sizeof(bool));
	for (int i = 0; i < record->ncells; i++)
	{
		cells[columns->found[i]] = record->cells[i];
		nulls[columns->found[i]] = record->nulls[i];
	}
	put_row(result, record->line, cells, nulls, columns->n);
}

/*
 * csv_table(csv, columns, required, delimiter, max_rows, ragged): each record's
 * line, and its cells in the order asked for. Throws 22P04, 22023, 54000.
 */
Datum
ringfence_csv_table(PG_FUNCTION_ARGS)
{
	text	   *csv = PG_GETARG_TEXT_PP(0);
	int32		max_rows = PG_GETARG_INT32(4);
	bool		ragged = PG_GETARG_BOOL(5);
	CsvRecord  *record = palloc(sizeof(CsvRecord));
	CsvColumns *columns = palloc(sizeof(CsvColumns));
	RfCsvSplit	split;
	ReturnSetInfo *result;
	MemoryContext context;
	MemoryContext caller;

	read_columns(PG_GETARG_ARRAYTYPE_P(1), PG_GETARG_ARRAYTYPE_P(2), columns);
	begin_text(&split, csv, PG_GETARG_TEXT_PP(3));
	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	if (!read_record(&split, record))
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("the CSV has no header"),
				 allowed_names(columns)));
	read_header(record, columns);

	context = AllocSetContextCreate(CurrentMemoryContext, "ringfence CSV record",
									ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	for (int32 n = 0; read_record(&split, record); n++)
	{
		if (n >= max_rows)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the CSV has more than %d records", max_rows)));
		check_length(record, columns, ragged);
		put_by_columns(result, record, columns);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return (Datum) 0;
}
