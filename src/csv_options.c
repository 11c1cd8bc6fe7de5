/*
 * csv_options.c: how a CSV is to look; the type ringfence.csv_options.
 *
 * Its values are checked where they are used as well as where they are made: the
 * type is an ordinary composite, which anybody can make a row of. A field that is
 * NULL means its default.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "compat.h"
#include "csv.h"

PG_FUNCTION_INFO_V1(ringfence_csv_options);

/* The fields of the type, which are the parameters of its constructor. */
enum
{
	FIELD_DELIMITER,
	FIELD_BOM,
	FIELD_NULL_TEXT,
	FIELD_QUOTE,
	FIELD_NEWLINE,
	FIELD_HEADER,
	FIELD_GUARD,
	FIELDS
};

static const char *const quotes[] = {"minimal", "text", "all"};

void
rf_csv_options_default(RfCsvOptions *options)
{
	memset(options, 0, sizeof(*options));
	options->delimiter = ',';
	options->header = true;
	options->guard = true;
	options->crlf = true;
	options->quote = RF_CSV_QUOTE_MINIMAL;
}

static void
read_delimiter(const char *value, RfCsvOptions *options)
{
	/* What isn't allowed can't be told from what cells or their quotes have. */
	if (strlen(value) != 1 || IS_HIGHBIT_SET(*value) ||
		(*value < ' ' && *value != '\t' && *value != '\037') ||
		(*value >= '0' && *value <= '9') || (*value >= 'A' && *value <= 'Z') ||
		(*value >= 'a' && *value <= 'z') || strchr("\"'\\\177", *value) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid delimiter of a CSV"),
				 errdetail("It is one character of ASCII: a tab, a space, or a sign that is no letter, digit, quote, apostrophe or backslash.")));
	options->delimiter = *value;
}

static void
read_null_text(const char *value, RfCsvOptions *options)
{
	options->null_len = strlen(value);
	if (options->null_len >= RF_CSV_NULL_BYTES ||
		strpbrk(value, "\"\r\n") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid text for NULL in a CSV"),
				 errdetail("It has at most %d bytes, and no quote or line break.",
						   RF_CSV_NULL_BYTES - 1)));
	strcpy(options->null_text, value);
}

static void
read_quote(const char *value, RfCsvOptions *options)
{
	for (Size i = 0; i < lengthof(quotes); i++)
	{
		if (strcmp(value, quotes[i]) == 0)
		{
			options->quote = (RfCsvQuote) i;
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid quoting of a CSV"),
			 errdetail("It is one of: minimal, text, all.")));
}

static void
read_newline(const char *value, RfCsvOptions *options)
{
	options->crlf = strcmp(value, "\r\n") == 0;
	if (!options->crlf && strcmp(value, "\n") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid line end of a CSV"),
				 errdetail("It is %s or %s.", "E'\\r\\n'", "E'\\n'")));
}

/* The null text and the delimiter, and the guard, must go together. */
static void
check_together(const RfCsvOptions *options)
{
	if (strchr(options->null_text, options->delimiter) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the text for NULL in a CSV contains the delimiter")));
	if (options->guard &&
		rf_csv_is_formula(options->null_text, options->null_len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the text for NULL in a CSV begins like a formula"),
				 errhint("Choose another one, or set %s to false.", "guard")));
	if (options->bom && GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a byte order mark needs a database in UTF8")));
}

static void
read_fields(const Datum *values, const bool *nulls, RfCsvOptions *options)
{
	rf_csv_options_default(options);
	if (!nulls[FIELD_DELIMITER])
		read_delimiter(TextDatumGetCString(values[FIELD_DELIMITER]), options);
	if (!nulls[FIELD_BOM])
		options->bom = DatumGetBool(values[FIELD_BOM]);
	if (!nulls[FIELD_NULL_TEXT])
		read_null_text(TextDatumGetCString(values[FIELD_NULL_TEXT]), options);
	if (!nulls[FIELD_QUOTE])
		read_quote(TextDatumGetCString(values[FIELD_QUOTE]), options);
	if (!nulls[FIELD_NEWLINE])
		read_newline(TextDatumGetCString(values[FIELD_NEWLINE]), options);
	if (!nulls[FIELD_HEADER])
		options->header = DatumGetBool(values[FIELD_HEADER]);
	if (!nulls[FIELD_GUARD])
		options->guard = DatumGetBool(values[FIELD_GUARD]);
	check_together(options);
}

/* What a row of ringfence.csv_options says; 22023 where it can't be. */
void
rf_csv_options_read(HeapTupleHeader record, RfCsvOptions *options)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(record),
											  HeapTupleHeaderGetTypMod(record));
	HeapTupleData tuple;
	Datum		values[FIELDS];
	bool		nulls[FIELDS];

	if (desc->natts != FIELDS)
		elog(ERROR, "type csv_options has %d fields", desc->natts);
	tuple.t_len = HeapTupleHeaderGetDatumLength(record);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = record;
	heap_deform_tuple(&tuple, desc, values, nulls);
	ReleaseTupleDesc(desc);
	read_fields(values, nulls, options);
}

/* The row of that type with these fields, the defaults where one is NULL. */
Datum
ringfence_csv_options(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	RfCsvOptions options;
	Datum		values[FIELDS];
	bool		nulls[FIELDS] = {false};
	char		delimiter[2] = {'\0'};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != FIELDS)
		elog(ERROR, "csv_options() must return csv_options");
	for (int i = 0; i < FIELDS; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i);
	}
	read_fields(values, nulls, &options);

	delimiter[0] = options.delimiter;
	values[FIELD_DELIMITER] = CStringGetTextDatum(delimiter);
	values[FIELD_BOM] = BoolGetDatum(options.bom);
	values[FIELD_NULL_TEXT] = CStringGetTextDatum(options.null_text);
	values[FIELD_QUOTE] = CStringGetTextDatum(quotes[options.quote]);
	values[FIELD_NEWLINE] = CStringGetTextDatum(options.crlf ? "\r\n" : "\n");
	values[FIELD_HEADER] = BoolGetDatum(options.header);
	values[FIELD_GUARD] = BoolGetDatum(options.guard);
	memset(nulls, false, sizeof(nulls));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
