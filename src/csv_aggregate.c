/*
 * csv_aggregate.c: the aggregates csv() and ndjson().
 *
 * The state is the output as far as it is written, and the final function returns
 * its buffer as it stands: nothing is copied. So the state can't be used again
 * after that, and the aggregates say READ_WRITE of themselves, which has the server
 * refuse them as window functions.
 *
 * It is of type bytea, in the form of an expanded object of ours: only a superuser
 * may make an aggregate with a state of type internal, and apps make some of their
 * own. Nobody can make an expanded object by SQL, so that a state is what it says.
 *
 * In a parallel query each process writes lines of its own, behind a header of its
 * own. Flat, as it is sent from one to another, a state is its bytes and a trailer,
 * which says how long the header is; where two are merged the second one loses it.
 *
 * Memory: all of a state is in a child of the aggregate's context, but for the
 * buffer, which rf_aggregate_result_context() finds a place for.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/expandeddatum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "compat.h"
#include "csv.h"

PG_FUNCTION_INFO_V1(ringfence_csv_add);
PG_FUNCTION_INFO_V1(ringfence_ndjson_add);
PG_FUNCTION_INFO_V1(ringfence_csv_merge);
PG_FUNCTION_INFO_V1(ringfence_csv_finish);
PG_FUNCTION_INFO_V1(ringfence_csv_finish_unrecorded);

typedef struct CsvState
{
	ExpandedObjectHeader object;	/* with the context of all of this */
	RfCsvBuffer buffer;
	uint32		header;			/* how many bytes of it are no rows */
	bool		is_json;
	bool		is_row;			/* else the argument is a scalar */
	RfCsvOptions options;
	RfCsvWriter *writer;
	Oid			type;			/* of the rows written last */
	int32		typmod;
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
} CsvState;

/* Behind the bytes of a state that is flat. */
typedef struct CsvTrailer
{
	uint32		header;
	uint32		is_json;
} CsvTrailer;

static Size flat_size(ExpandedObjectHeader *object);
static void flatten(ExpandedObjectHeader *object, void *to, Size size);

static const ExpandedObjectMethods methods = {flat_size, flatten};

static Size
flat_size(ExpandedObjectHeader *object)
{
	return ((CsvState *) object)->buffer.len + sizeof(CsvTrailer);
}

static void
flatten(ExpandedObjectHeader *object, void *to, Size size)
{
	CsvState   *state = (CsvState *) object;
	CsvTrailer	trailer = {state->header, state->is_json};

	Assert(size == flat_size(object));
	SET_VARSIZE(to, size);
	memcpy(VARDATA(to), rf_csv_bytes(&state->buffer),
		   rf_csv_length(&state->buffer));
	memcpy((char *) to + state->buffer.len, &trailer, sizeof(trailer));
}

/* The state that an argument is; NULL if it is none, or flat. */
static CsvState *
get_state(FunctionCallInfo fcinfo, int argument)
{
	struct varlena *value;
	ExpandedObjectHeader *object;

	if (PG_ARGISNULL(argument))
		return NULL;
	value = (struct varlena *) PG_GETARG_POINTER(argument);
	if (!VARATT_IS_EXTERNAL_EXPANDED(value))
		return NULL;
	object = DatumGetEOHP(PointerGetDatum(value));
	return object->eoh_methods == &methods ? (CsvState *) object : NULL;
}

/* The same where it can be nothing else. */
static CsvState *
need_state(FunctionCallInfo fcinfo)
{
	CsvState   *state = get_state(fcinfo, 0);

	if (state == NULL && !PG_ARGISNULL(0))
		elog(ERROR, "the state of a CSV is flat");
	return state;
}

/* The aggregate's context; an error where it is none. */
static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (AggCheckCallContext(fcinfo, &context) != AGG_CONTEXT_AGGREGATE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("csv() and ndjson() are aggregates, and no window functions")));
	return context;
}

static CsvState *
make_state(FunctionCallInfo fcinfo, MemoryContext parent, bool is_json)
{
	MemoryContext context = AllocSetContextCreate(parent, "ringfence csv",
												  ALLOCSET_SMALL_SIZES);
	CsvState   *state = MemoryContextAllocZero(context, sizeof(CsvState));

	EOH_init_header(&state->object, &methods, context);
	state->is_json = is_json;
	rf_csv_buffer_init(&state->buffer, is_json ? "NDJSON" : "CSV",
					   rf_aggregate_result_context(fcinfo, context));
	return state;
}

/* A scalar is a row of one column. */
static TupleDesc
scalar_desc(Oid type)
{
	TupleDesc	desc = CreateTemplateTupleDesc(1);

	TupleDescInitEntry(desc, 1, "value", type, -1, 0);
	return BlessTupleDesc(desc);
}

/* Rows whose columns have other types, or are more or fewer, make no table. */
static void
check_same_columns(TupleDesc before, TupleDesc now)
{
	bool		same = before->natts == now->natts;

	for (int i = 0; same && i < now->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(before, i);
		Form_pg_attribute b = TupleDescAttr(now, i);

		same = a->atttypid == b->atttypid && a->attisdropped == b->attisdropped;
	}
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the rows of a CSV have different columns")));
}

/* Prepares for rows of a type: the first, or another one with like columns. */
static void
begin_type(CsvState *state, Oid type, int32 typmod)
{
	MemoryContext caller = MemoryContextSwitchTo(state->object.eoh_context);
	TupleDesc	desc;

	if (state->is_row)
		desc = lookup_rowtype_tupdesc_copy(type, typmod);
	else
		desc = scalar_desc(type);
	if (state->desc != NULL && !state->is_json)
		check_same_columns(state->desc, desc);
	if (!state->is_json)
		state->writer = rf_csv_writer(desc, -1, &state->options,
									  state->object.eoh_context);
	state->values = palloc(Max(1, desc->natts) * sizeof(Datum));
	state->nulls = palloc(Max(1, desc->natts) * sizeof(bool));
	if (state->desc == NULL && !state->is_json)
	{
		rf_csv_header(state->writer, &state->buffer);
		state->header = rf_csv_length(&state->buffer);
	}
	state->desc = desc;
	state->type = type;
	state->typmod = typmod;
	MemoryContextSwitchTo(caller);
}

/* The state of the first row: what the argument is, and the options. */
static CsvState *
first_row(FunctionCallInfo fcinfo, MemoryContext parent, bool is_json)
{
	CsvState   *state = make_state(fcinfo, parent, is_json);
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 1);

	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of the rows");
	state->is_row = type_is_rowtype(type);
	if (!state->is_row)
		state->type = type;
	if (PG_NARGS() > 2 && !PG_ARGISNULL(2))
		rf_csv_options_read(PG_GETARG_HEAPTUPLEHEADER(2), &state->options);
	else
		rf_csv_options_default(&state->options);
	return state;
}

/* Splits a row into values; those are in the row, or in the current context. */
static Datum
take_row(CsvState *state, Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	Oid			type = HeapTupleHeaderGetTypeId(header);
	int32		typmod = HeapTupleHeaderGetTypMod(header);
	HeapTupleData tuple;

	if (state->desc == NULL || type != state->type || typmod != state->typmod)
		begin_type(state, type, typmod);
	if (!state->is_json)
	{
		tuple.t_len = HeapTupleHeaderGetDatumLength(header);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = header;
		heap_deform_tuple(&tuple, state->desc, state->values, state->nulls);
	}
	return HeapTupleHeaderGetDatum(header);
}

/* The same of a scalar. */
static Datum
take_scalar(CsvState *state, Datum value, bool is_null)
{
	if (state->desc == NULL)
		begin_type(state, state->type, -1);
	state->values[0] = value;
	state->nulls[0] = is_null;
	if (!state->is_json)
		return (Datum) 0;
	return HeapTupleGetDatum(heap_form_tuple(state->desc, state->values,
											 state->nulls));
}

static Datum
add_row(FunctionCallInfo fcinfo, bool is_json)
{
	MemoryContext parent = aggregate_context(fcinfo);
	CsvState   *state = need_state(fcinfo);
	Datum		row;

	/* A NULL of a row type has no columns; it is passed over. */
	if (PG_ARGISNULL(1) && (state != NULL ? state->is_row :
							type_is_rowtype(get_fn_expr_argtype(fcinfo->flinfo, 1))))
	{
		if (state == NULL)
			PG_RETURN_NULL();
		return EOHPGetRWDatum(&state->object);
	}
	if (state == NULL)
		state = first_row(fcinfo, parent, is_json);
	if (state->is_row)
		row = take_row(state, PG_GETARG_DATUM(1));
	else
		row = take_scalar(state, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	if (is_json)
		rf_ndjson_row(row, &state->buffer);
	else
		rf_csv_row(state->writer, state->values, state->nulls, &state->buffer);
	return EOHPGetRWDatum(&state->object);
}

/* Transition function of csv(): state, row or scalar[, options]. */
Datum
ringfence_csv_add(PG_FUNCTION_ARGS)
{
	return add_row(fcinfo, false);
}

/* Transition function of ndjson(). */
Datum
ringfence_ndjson_add(PG_FUNCTION_ARGS)
{
	return add_row(fcinfo, true);
}

/* What a flat state says, whose bytes are read where they are. */
static void
read_flat(Datum value, CsvState *state)
{
	bytea	   *bytes = DatumGetByteaP(value);
	CsvTrailer	trailer;

	if (VARSIZE(bytes) < VARHDRSZ + sizeof(trailer))
		elog(ERROR, "the state of a CSV is too short");
	state->buffer.data = (char *) bytes;
	state->buffer.len = VARSIZE(bytes) - sizeof(trailer);
	memcpy(&trailer, state->buffer.data + state->buffer.len, sizeof(trailer));
	if (trailer.header > rf_csv_length(&state->buffer))
		elog(ERROR, "the state of a CSV has no room for its header");
	state->header = trailer.header;
	state->is_json = trailer.is_json != 0;
}

/*
 * Combine function: the first state with the rows of the second one behind. That
 * one may go with the call.
 */
Datum
ringfence_csv_merge(PG_FUNCTION_ARGS)
{
	MemoryContext parent = aggregate_context(fcinfo);
	CsvState   *to = need_state(fcinfo);
	CsvState   *from = get_state(fcinfo, 1);
	CsvState	flat;
	uint32		skip = 0;

	if (PG_ARGISNULL(1))
	{
		if (to == NULL)
			PG_RETURN_NULL();
		return EOHPGetRWDatum(&to->object);
	}
	if (from == NULL)
	{
		read_flat(PG_GETARG_DATUM(1), &flat);
		from = &flat;
	}
	if (to == NULL)
	{
		to = make_state(fcinfo, parent, from->is_json);
		to->header = from->header;
	}
	else
		skip = from->header;
	rf_csv_buffer_append(&to->buffer, rf_csv_bytes(&from->buffer) + skip,
						 rf_csv_length(&from->buffer) - skip);
	return EOHPGetRWDatum(&to->object);
}

/* Final function: the text, which is '' where there was no row. */
Datum
ringfence_csv_finish(PG_FUNCTION_ARGS)
{
	CsvState   *state;

	(void) aggregate_context(fcinfo);
	state = need_state(fcinfo);
	if (state == NULL)
		PG_RETURN_TEXT_P(cstring_to_text(""));
	PG_RETURN_TEXT_P(rf_csv_buffer_varlena(&state->buffer));
}

/* The same for API schemas: PT403 where exports go on record. */
Datum
ringfence_csv_finish_unrecorded(PG_FUNCTION_ARGS)
{
	List	   *name = list_make2(makeString("ringfence"),
								  makeString("refuse_unrecorded_export"));

	(void) OidFunctionCall0(LookupFuncName(name, 0, NULL, false));
	return ringfence_csv_finish(fcinfo);
}
