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
 * Whoever makes an aggregate can make flat ones up: they are checked when read.
 *
 * Memory: all of a state is in a child of the aggregate's context, but for the
 * buffer, which rf_aggregate_result_context() finds a place for. What is of the type
 * of the rows is in a child of that, which goes when a row of another type comes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
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
	uint32		columns;		/* a hash of their types; 0 for JSON */
	bool		is_json;
	bool		is_row;			/* else the argument is a scalar */
	RfCsvOptions options;
	Oid			type;			/* of the rows written last */
	int32		typmod;
	const TypeCacheEntry *cached;	/* of that, unless it is anonymous */
	uint64		version;		/* of its columns */
	MemoryContext type_context; /* of what follows */
	RfCsvWriter *writer;
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
} CsvState;

/* Behind the bytes of a state that is flat. */
typedef struct CsvTrailer
{
	uint32		header;
	uint32		columns;
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
	CsvTrailer	trailer = {state->header, state->columns, state->is_json};

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

static void
refuse_state(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("invalid state of csv() or ndjson()")));
}

/* The same where it can be nothing else. */
static CsvState *
need_state(FunctionCallInfo fcinfo)
{
	CsvState   *state = get_state(fcinfo, 0);

	if (state == NULL && !PG_ARGISNULL(0))
		refuse_state();
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

/* Never 0. */
static uint32
hash_columns(TupleDesc desc)
{
	uint32		hash = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped)
			hash = hash_combine(hash, murmurhash32(attribute->atttypid));
	}
	return Max(hash, 1);
}

/* Rows whose columns have other types, or are more or fewer, make no table. */
static void
check_same_columns(uint32 before, uint32 now)
{
	if (before != now)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the rows of a CSV have different columns")));
}

/* What is asked of each row's type: whether it is still what it was. */
static inline bool
is_same_type(const CsvState *state, Oid type, int32 typmod)
{
	return state->desc != NULL && state->type == type &&
		state->typmod == typmod &&
		(state->cached == NULL ||
		 state->cached->tupDesc_identifier == state->version);
}

/* The version is taken first: one that is too old is noticed. */
static TupleDesc
row_desc(CsvState *state, Oid type, int32 typmod)
{
	state->cached = type == RECORDOID ? NULL :
		lookup_type_cache(type, TYPECACHE_TUPDESC);
	if (state->cached != NULL)
		state->version = state->cached->tupDesc_identifier;
	return lookup_rowtype_tupdesc_copy(type, typmod);
}

/*
 * Prepares for rows of a type: the first, or another one with like columns, or the
 * same, altered meanwhile.
 */
static void
begin_type(CsvState *state, Oid type, int32 typmod)
{
	bool		first = state->desc == NULL;
	MemoryContext former = state->type_context;
	MemoryContext caller;
	TupleDesc	desc;

	state->type_context = AllocSetContextCreate(state->object.eoh_context,
												"ringfence csv row type",
												ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(state->type_context);
	desc = state->is_row ? row_desc(state, type, typmod) : scalar_desc(type);
	if (!state->is_json)
	{
		uint32		columns = hash_columns(desc);

		if (!first)
			check_same_columns(state->columns, columns);
		state->columns = columns;
		state->writer = rf_csv_writer(desc, -1, &state->options,
									  state->type_context);
	}
	state->values = palloc(Max(1, desc->natts) * sizeof(Datum));
	state->nulls = palloc(Max(1, desc->natts) * sizeof(bool));
	if (first && !state->is_json)
	{
		rf_csv_header(state->writer, &state->buffer);
		state->header = rf_csv_length(&state->buffer);
	}
	state->desc = desc;
	state->type = type;
	state->typmod = typmod;
	if (former != NULL)
		MemoryContextDelete(former);
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
static void
take_row(CsvState *state, HeapTupleHeader header)
{
	Oid			type = HeapTupleHeaderGetTypeId(header);
	int32		typmod = HeapTupleHeaderGetTypMod(header);
	HeapTupleData tuple;

	if (!is_same_type(state, type, typmod))
		begin_type(state, type, typmod);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, state->desc, state->values, state->nulls);
}

/* The same of a scalar. */
static void
take_scalar(CsvState *state, Datum value, bool is_null)
{
	if (state->desc == NULL)
		begin_type(state, state->type, -1);
	state->values[0] = value;
	state->nulls[0] = is_null;
}

/* An object of JSON knows its type's columns itself. */
static void
add_json(CsvState *state, Datum value, bool is_null)
{
	if (!state->is_row)
	{
		take_scalar(state, value, is_null);
		value = HeapTupleGetDatum(heap_form_tuple(state->desc, state->values,
												  state->nulls));
	}
	rf_ndjson_row(value, &state->buffer);
}

static Datum
add_row(FunctionCallInfo fcinfo, bool is_json)
{
	MemoryContext parent = aggregate_context(fcinfo);
	CsvState   *state = need_state(fcinfo);

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
	if (is_json)
		add_json(state, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	else
	{
		if (state->is_row)
			take_row(state, PG_GETARG_HEAPTUPLEHEADER(1));
		else
			take_scalar(state, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
		rf_csv_row(state->writer, state->values, state->nulls, &state->buffer);
	}
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

/*
 * What a flat state says, whose bytes are read where they are. Throws 22P03 or
 * 22021 for one that can't be: what comes of it is a text.
 */
static void
read_flat(Datum value, CsvState *state)
{
	bytea	   *bytes = DatumGetByteaP(value);
	CsvTrailer	trailer;
	const char *rows;

	if (VARSIZE(bytes) < VARHDRSZ + sizeof(trailer))
		refuse_state();
	state->buffer.data = (char *) bytes;
	state->buffer.len = VARSIZE(bytes) - sizeof(trailer);
	memcpy(&trailer, state->buffer.data + state->buffer.len, sizeof(trailer));
	if (trailer.header > rf_csv_length(&state->buffer))
		refuse_state();
	rows = rf_csv_bytes(&state->buffer) + trailer.header;
	(void) pg_verify_mbstr(GetDatabaseEncoding(), rf_csv_bytes(&state->buffer),
						   trailer.header, false);
	(void) pg_verify_mbstr(GetDatabaseEncoding(), rows,
						   rf_csv_length(&state->buffer) - trailer.header,
						   false);
	state->header = trailer.header;
	state->columns = trailer.columns;
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
		to->columns = from->columns;
	}
	else
	{
		check_same_columns(to->columns, from->columns);
		skip = from->header;
	}
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
