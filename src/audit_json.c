/*
 * audit_json.c: rows as jsonb, written straight from datums.
 *
 * An object's keys are known when a table is first audited: its columns, in
 * jsonb's order. So the bytes that jsonb stores can be written one after the
 * other, without the tree of values that the server's own functions build and
 * sort. What they don't write in one go (arrays, composites, types of
 * extensions) goes through to_jsonb(), whose results are copied in whole.
 *
 * Values of fields with secret names, at any depth, are replaced by "[secret]". A
 * value larger than the caller's limit is written as its size and SHA-256:
 * jsonb holds 256 MB, a row can hold more.
 *
 * Memory: a result lives in the buffer it was begun with, which is the
 * caller's; the rest is palloc'd in the current context.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "common/shortest_dec.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit.h"
#include "compat.h"
#include "subxact.h"

#define HEX_DIGITS "0123456789abcdefABCDEF"

/* A text of type json that is longer isn't parsed without a safety net. */
#define PLAIN_JSON_BYTES 16000

/* Nor one that is longer than this at all: its elements take more memory. */
#define MAX_PARSED_JSON (16 * 1024 * 1024)

/* --- The writer --- */

/* Begins an object of so many pairs; what the buffer held is gone. */
void
rf_json_begin(RfJsonObject *object, StringInfo buf, int npairs)
{
	Size		head = VARHDRSZ + offsetof(JsonbContainer, children) +
	2 * npairs * sizeof(JEntry);

	resetStringInfo(buf);
	enlargeStringInfo(buf, head);
	buf->len = head;
	object->buf = buf;
	object->npairs = npairs;
	object->entries = 0;
	object->data = 0;
	((JsonbContainer *) VARDATA(buf->data))->header = npairs | JB_FOBJECT;
}

/* Notes the entry whose bytes were just appended: "type" and how many. */
static void
end_entry(RfJsonObject *object, uint32 type, uint32 len)
{
	JsonbContainer *container = (JsonbContainer *) VARDATA(object->buf->data);
	int			i = object->entries++;

	Assert(i < 2 * object->npairs);
	object->data += len;
	if (object->data > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the row is too large for the audit log")));
	container->children[i] = type |
		(i % JB_OFFSET_STRIDE == 0 ? object->data | JENTRY_HAS_OFF : len);
}

/* Appends zeros up to the next int; says how many. */
static int
pad(StringInfo buf)
{
	int			padding = INTALIGN(buf->len) - buf->len;

	for (int i = 0; i < padding; i++)
		appendStringInfoCharMacro(buf, '\0');
	return padding;
}

/* All keys come before any value, in jsonb's order. */
void
rf_json_key(RfJsonObject *object, const char *key, int len)
{
	Assert(object->entries < object->npairs);
	appendBinaryStringInfo(object->buf, key, len);
	end_entry(object, JENTRY_ISSTRING, len);
}

void
rf_json_string(RfJsonObject *object, const char *value, int len)
{
	appendBinaryStringInfo(object->buf, value, len);
	end_entry(object, JENTRY_ISSTRING, len);
}

void
rf_json_null(RfJsonObject *object)
{
	end_entry(object, JENTRY_ISNULL, 0);
}

static void
put_bool(RfJsonObject *object, bool value)
{
	end_entry(object, value ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE, 0);
}

static void
put_numeric(RfJsonObject *object, Numeric value)
{
	int			padding = pad(object->buf);

	appendBinaryStringInfo(object->buf, (char *) value, VARSIZE(value));
	end_entry(object, JENTRY_ISNUMERIC, padding + VARSIZE(value));
}

static void
put_cstring(RfJsonObject *object, const char *value)
{
	rf_json_string(object, value, strlen(value));
}

/* A whole jsonb as one value: an object, an array, or the scalar in it. */
void
rf_json_jsonb(RfJsonObject *object, Jsonb *value)
{
	JsonbValue	scalar;
	int			padding;

	if (!JB_ROOT_IS_SCALAR(value))
	{
		padding = pad(object->buf);
		appendBinaryStringInfo(object->buf, VARDATA(value),
							   VARSIZE(value) - VARHDRSZ);
		end_entry(object, JENTRY_ISCONTAINER,
				  padding + VARSIZE(value) - VARHDRSZ);
		return;
	}
	(void) JsonbExtractScalar(&value->root, &scalar);
	switch (scalar.type)
	{
		case jbvString:
			rf_json_string(object, scalar.val.string.val,
						   scalar.val.string.len);
			break;
		case jbvNumeric:
			put_numeric(object, scalar.val.numeric);
			break;
		case jbvBool:
			put_bool(object, scalar.val.boolean);
			break;
		default:
			rf_json_null(object);
			break;
	}
}

/* The finished object, in the buffer. */
Jsonb *
rf_json_end(RfJsonObject *object)
{
	Assert(object->entries == 2 * object->npairs);
	SET_VARSIZE(object->buf->data, object->buf->len);
	return (Jsonb *) object->buf->data;
}

/* --- Values --- */

/* The SHA-256 of some bytes in hexadecimal, palloc'd. */
char *
rf_sha256_hex(const char *bytes, Size len)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char	   *hex = palloc(2 * PG_SHA256_DIGEST_LENGTH + 1);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) bytes, len) < 0 ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute a SHA-256 digest");
	pg_cryptohash_free(ctx);
	hex[hex_encode((const char *) digest, sizeof(digest), hex)] = '\0';
	return hex;
}

static void
put_digest(RfJsonObject *object, const char *bytes, Size len)
{
	char	   *json = psprintf("{\"bytes\": " UINT64_FORMAT ", \"sha256\": \"%s\"}",
								(uint64) len, rf_sha256_hex(bytes, len));

	rf_json_jsonb(object,
				  DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													 CStringGetDatum(json))));
}

static void
put_text(RfJsonObject *object, const char *string, Size len, Size limit)
{
	if (len > limit)
		put_digest(object, string, len);
	else
		rf_json_string(object, string, len);
}

static void
put_jsonb(RfJsonObject *object, Jsonb *value, Size limit)
{
	if (VARSIZE(value) > limit)
		put_digest(object, VARDATA(value), VARSIZE(value) - VARHDRSZ);
	else
		rf_json_jsonb(object, rf_json_mask(value));
}

/*
 * Runs a conversion that may refuse what a table may hold. NULL if it did: a
 * write that is valid by itself must not fail here. Errors that aren't about the
 * value go on, when the subtransaction is undone.
 */
static Jsonb *
try_conversion(PGFunction function, FmgrInfo *flinfo, Datum value)
{
	MemoryContext mcxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile result = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(mcxt);
	PG_TRY();
	{
		Datum		converted = flinfo != NULL ? FunctionCall1(flinfo, value) :
		DirectFunctionCall1(function, value);

		result = DatumGetJsonbP(converted);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error = rf_subxact_undo(mcxt, owner);
		int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

		if (category != ERRCODE_DATA_EXCEPTION &&
			category != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			ReThrowError(error);
		FreeErrorData(error);
		result = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(mcxt);
	CurrentResourceOwner = owner;
	return result;
}

/*
 * Can jsonb_in() fail for this valid json? Rather says yes. It refuses \u0000,
 * lone surrogates and numbers beyond numeric, which takes an exponent or very
 * many digits.
 */
static bool
is_risky(const char *json, Size len)
{
	if (len > PLAIN_JSON_BYTES)
		return true;
	for (Size i = 1; i < len; i++)
		if ((json[i - 1] == '\\' && json[i] == 'u') ||
			((json[i] == 'e' || json[i] == 'E') &&
			 ((json[i - 1] >= '0' && json[i - 1] <= '9') || json[i - 1] == '.')))
			return true;
	return false;
}

/* A text of type json as jsonb, or NULL if that takes no such text. */
static Jsonb *
parse_json(char *json, Size len, Size limit)
{
	if (len > Min(limit, MAX_PARSED_JSON))
		return NULL;
	if (is_risky(json, len))
		return try_conversion(jsonb_in, NULL, CStringGetDatum(json));
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/*
 * A copy in which escaped ASCII characters stand for themselves and escaped
 * blanks for blanks: a name may be written so.
 */
static char *
unescape_ascii(const char *json)
{
	char	   *copy = pstrdup(json);
	char	   *out = copy;

	for (const char *in = json; *in != '\0'; in++)
	{
		unsigned int code;

		if (strncmp(in, "\\u00", 4) == 0 && strspn(in + 4, HEX_DIGITS) >= 2 &&
			sscanf(in + 4, "%2x", &code) == 1 && code < 0x80)
		{
			*out++ = code == 0 ? ' ' : (char) code;
			in += 5;
		}
		else if (*in == '\\' && in[1] != '\0' && strchr("bfnrt", in[1]) != NULL)
		{
			*out++ = ' ';
			in++;
		}
		else
			*out++ = *in;
	}
	*out = '\0';
	return copy;
}

/* What jsonb doesn't take, as text; or "[secret]" if a secret name stands in it. */
static void
put_unparsed(RfJsonObject *object, char *string, Size limit)
{
	char	   *bare = unescape_ascii(string);

	if (rf_audit_secret_name(bare, strlen(bare)))
		put_cstring(object, RF_AUDIT_MASK);
	else
		put_text(object, string, strlen(string), limit);
}

static void
put_json(RfJsonObject *object, Datum value, Size limit)
{
	char	   *json = TextDatumGetCString(value);
	Jsonb	   *parsed = parse_json(json, strlen(json), limit);

	if (parsed != NULL)
		put_jsonb(object, parsed, limit);
	else
		put_unparsed(object, json, limit);
}

/*
 * As to_jsonb() does: what is no number in JSON becomes a string. The shortest
 * text that reads back as the same value, whatever extra_float_digits says.
 */
static void
put_float(RfJsonObject *object, double value, char *shortest)
{
	if (isnan(value))
		put_cstring(object, "NaN");
	else if (isinf(value))
		put_cstring(object, value > 0 ? "Infinity" : "-Infinity");
	else
		put_numeric(object,
					DatumGetNumeric(DirectFunctionCall3(numeric_in,
														CStringGetDatum(shortest),
														ObjectIdGetDatum(InvalidOid),
														Int32GetDatum(-1))));
}

static void
put_float4(RfJsonObject *object, float4 value)
{
	char		buf[FLOAT_SHORTEST_DECIMAL_LEN];

	(void) float_to_shortest_decimal_buf(value, buf);
	put_float(object, value, buf);
}

static void
put_float8(RfJsonObject *object, float8 value)
{
	char		buf[DOUBLE_SHORTEST_DECIMAL_LEN];

	(void) double_to_shortest_decimal_buf(value, buf);
	put_float(object, value, buf);
}

static void
put_number(RfJsonObject *object, Datum value)
{
	Numeric		number = DatumGetNumeric(value);

	if (numeric_is_nan(number) || numeric_is_inf(number))
		put_cstring(object,
					DatumGetCString(DirectFunctionCall1(numeric_out,
														NumericGetDatum(number))));
	else
		put_numeric(object, number);
}

static void
put_uuid(RfJsonObject *object, Datum value)
{
	char	   *string = rf_uuid_text((RfUuid *) DatumGetUUIDP(value));

	rf_json_string(object, string, RF_UUID_TEXT);
	pfree(string);
}

/* A time with a zone is written in UTC, whatever zone the session is in. */
static void
put_datetime(RfJsonObject *object, Datum value, Oid type)
{
	char		buf[MAXDATELEN + 1];
	int			utc = 0;

	put_cstring(object, JsonEncodeDateTime(buf, value, type,
										   type == TIMESTAMPTZOID ? &utc :
										   NULL));
}

/* Arrays and the like grow when they become JSON, bytes double. */
#define GROWTH 8

/* Is it more than we would have to_jsonb() make JSON of? */
static bool
is_bulky(const RfAuditField *field, Datum value, Size limit)
{
	ArrayType  *array;

	if (field->typlen != -1)
		return false;
	if (toast_raw_datum_size(value) > limit / GROWTH)
		return true;
	if (!field->is_array)
		return false;
	/* An element that is NULL takes a bit. */
	array = DatumGetArrayTypeP(value);
	return (Size) ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) >
		limit / GROWTH;
}

/*
 * What to_jsonb() refuses. A composite's text doesn't name its fields, which may
 * be secrets, so only its digest is written.
 */
static void
put_unconverted(RfJsonObject *object, RfAuditField *field, Datum value,
				Size limit)
{
	Oid			output;
	bool		is_varlena;
	char	   *string;

	getTypeOutputInfo(field->type, &output, &is_varlena);
	string = OidOutputFunctionCall(output, value);
	if (get_base_element_type(field->type) == JSONOID)
		put_unparsed(object, string, limit);
	else
		put_digest(object, string, strlen(string));
}

static void
put_other(RfJsonObject *object, RfAuditField *field, Datum value, Size limit)
{
	Jsonb	   *converted;

	if (is_bulky(field, value, limit))
	{
		struct varlena *stored = PG_DETOAST_DATUM_PACKED(value);

		put_digest(object, VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
		return;
	}
	converted = field->harmless ?
		DatumGetJsonbP(FunctionCall1(&field->to_jsonb, value)) :
		try_conversion(NULL, &field->to_jsonb, value);
	if (converted != NULL)
		put_jsonb(object, converted, limit);
	else
		put_unconverted(object, field, value, limit);
}

/*
 * Writes a column's value; a longer one than the limit as its digest. May throw
 * whatever to_jsonb() does for the type.
 */
void
rf_json_value(RfJsonObject *object, RfAuditField *field, Datum value,
			  Size limit)
{
	switch (field->kind)
	{
		case KIND_BOOL:
			put_bool(object, DatumGetBool(value));
			break;
		case KIND_INT2:
			put_numeric(object, int64_to_numeric(DatumGetInt16(value)));
			break;
		case KIND_INT4:
			put_numeric(object, int64_to_numeric(DatumGetInt32(value)));
			break;
		case KIND_INT8:
			put_numeric(object, int64_to_numeric(DatumGetInt64(value)));
			break;
		case KIND_FLOAT4:
			put_float4(object, DatumGetFloat4(value));
			break;
		case KIND_FLOAT8:
			put_float8(object, DatumGetFloat8(value));
			break;
		case KIND_NUMERIC:
			put_number(object, value);
			break;
		case KIND_TEXT:
			{
				struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

				put_text(object, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string),
						 limit);
				break;
			}
		case KIND_UUID:
			put_uuid(object, value);
			break;
		case KIND_DATETIME:
			put_datetime(object, value, field->type);
			break;
		case KIND_JSON:
			put_json(object, value, limit);
			break;
		case KIND_JSONB:
			put_jsonb(object, DatumGetJsonbP(value), limit);
			break;
		case KIND_OTHER:
			put_other(object, field, value, limit);
			break;
	}
}
