/*
 * audit_leaf.c: the canonical form of a record, and its leaf.
 *
 * doc/audit.md gives the form. It depends on nothing but the record: not on
 * the server's encoding, its byte order, its version, or how a value happens
 * to be stored. It is built in one buffer that is used again for the next
 * record; jsonb is walked where it lies. What has to be detoasted or printed is
 * palloc'd in the current memory context, which the caller resets.
 *
 * What is in a record was chosen by others, and sealing must not fail for it:
 * a "personal" of an unknown form enters as the JSON that it is, and a value
 * that would be longer than JSON_LIMIT (a number such as 1e131071 takes 12
 * bytes, and prints 131072) as the hash of its stored form.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"

#define NULL_FIELD 0xFFFFFFFF
#define JSON_LIMIT ((size_t) 64 * 1024 * 1024)
#define SALT_BYTES 16
#define HASH_BASE64 44

struct RfLeafMaker
{
	RfDigest   *digest;
	unsigned char *data;
	size_t		len;
	size_t		size;
	size_t		limit;			/* where a value of JSON becomes too long */
	bool		too_long;
	bool		convert;		/* text isn't UTF-8 */
	char	   *aligned;		/* for jsonb that isn't */
	RfShapeName *names;			/* by id */
	int			nnames;
};

/* A value inside jsonb: its entry, and its bytes. */
typedef struct JsonPart
{
	JEntry		entry;
	const char *data;
	uint32		len;
} JsonPart;

static void put_container(RfLeafMaker *maker, JsonbContainer *container);

static void
reserve(RfLeafMaker *maker, size_t more)
{
	if (maker->len + more <= maker->size)
		return;
	while (maker->size < maker->len + more)
		maker->size *= 2;
	maker->data = repalloc_huge(maker->data, maker->size);
}

static inline void
put_bytes(RfLeafMaker *maker, const void *data, size_t len)
{
	reserve(maker, len);
	memcpy(maker->data + maker->len, data, len);
	maker->len += len;
}

static inline void
put_byte(RfLeafMaker *maker, unsigned char byte)
{
	reserve(maker, 1);
	maker->data[maker->len++] = byte;
}

static inline void
put_u32(RfLeafMaker *maker, uint32 value)
{
	reserve(maker, sizeof(value));
	rf_put_u32(maker->data + maker->len, value);
	maker->len += sizeof(value);
}

static inline void
put_u64(RfLeafMaker *maker, uint64 value)
{
	reserve(maker, sizeof(value));
	rf_put_u64(maker->data + maker->len, value);
	maker->len += sizeof(value);
}

static inline void
put_field(RfLeafMaker *maker, const void *data, size_t len)
{
	put_u32(maker, (uint32) len);
	put_bytes(maker, data, len);
}

/* A field of text in the server's encoding. */
static inline void
put_string(RfLeafMaker *maker, const char *string, int len)
{
	if (maker->convert)
	{
		char	   *utf8 = pg_server_to_any(string, len, PG_UTF8);

		put_field(maker, utf8, utf8 == string ? (size_t) len : strlen(utf8));
	}
	else
		put_field(maker, string, len);
}

static void
put_text(RfLeafMaker *maker, Datum value)
{
	struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

	put_string(maker, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

/* An address as inet prints it. */
static void
put_inet(RfLeafMaker *maker, Datum value)
{
	inet	   *address = DatumGetInetPP(value);
	char		string[sizeof("xxxx:xxxx:xxxx:xxxx:xxxx:xxxx:255.255.255.255/128")];

	if (pg_inet_net_ntop(ip_family(address), ip_addr(address),
						 ip_bits(address), string, sizeof(string)) == NULL)
		elog(ERROR, "could not print an address");
	put_field(maker, string, strlen(string));
}

/* A value of jsonb; stops, and says so, past the limit. */
static void
put_part(RfLeafMaker *maker, const JsonPart *part)
{
	if (maker->len > maker->limit)
		maker->too_long = true;
	if (maker->too_long)
		return;
	if (JBE_ISNULL(part->entry))
		put_byte(maker, 'n');
	else if (JBE_ISBOOL_TRUE(part->entry))
		put_byte(maker, 't');
	else if (JBE_ISBOOL_FALSE(part->entry))
		put_byte(maker, 'f');
	else if (JBE_ISSTRING(part->entry))
	{
		put_byte(maker, '"');
		put_string(maker, part->data, part->len);
	}
	else if (JBE_ISNUMERIC(part->entry))
	{
		char	   *number;

		number = DatumGetCString(DirectFunctionCall1(numeric_out,
													 PointerGetDatum(part->data)));
		put_byte(maker, '#');
		put_field(maker, number, strlen(number));
		pfree(number);
	}
	else
		put_container(maker, (JsonbContainer *) part->data);
}

/*
 * Reads the value at "offset" of the data at "base", and sets the offset to the
 * end of it. Numbers and containers are aligned within their container.
 */
static inline void
read_part(const char *base, JEntry entry, uint32 *offset, JsonPart *part)
{
	uint32		begin = *offset;

	JBE_ADVANCE_OFFSET(*offset, entry);
	if (JBE_ISNUMERIC(entry) || JBE_ISCONTAINER(entry))
		begin = INTALIGN(begin);
	part->entry = entry;
	part->data = base + begin;
	part->len = *offset - begin;
}

/* The pair at "index" of an object, for the few times that order won't do. */
static void
read_pair(JsonbContainer *object, uint32 index, JsonPart *key, JsonPart *value)
{
	uint32		count = JsonContainerSize(object);
	const char *base = (const char *) &object->children[2 * count];
	uint32		offset = getJsonbOffset(object, index);

	read_part(base, object->children[index], &offset, key);
	offset = getJsonbOffset(object, count + index);
	read_part(base, object->children[count + index], &offset, value);
}

/* A key of an object in UTF-8, and where its pair is. */
typedef struct SortedKey
{
	const char *name;
	size_t		len;
	uint32		index;
}			SortedKey;

static int
compare_keys(const void *a, const void *b)
{
	const		SortedKey *x = a;
	const		SortedKey *y = b;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return memcmp(x->name, y->name, x->len);
}

/*
 * Which pair of an object comes when. It is stored in the order of the keys'
 * bytes, shorter ones first; in another encoding that isn't the order of UTF-8,
 * and NULL stands for the order it is in.
 */
static SortedKey *
sort_pairs(RfLeafMaker *maker, JsonbContainer *object)
{
	uint32		count = JsonContainerSize(object);
	SortedKey  *keys;

	if (!maker->convert || count < 2)
		return NULL;
	keys = MemoryContextAllocHuge(CurrentMemoryContext,
								  count * sizeof(SortedKey));
	for (uint32 i = 0; i < count; i++)
	{
		JsonPart	key;
		JsonPart	value;

		read_pair(object, i, &key, &value);
		keys[i].name = pg_server_to_any(key.data, key.len, PG_UTF8);
		keys[i].len = keys[i].name == key.data ? key.len :
			strlen(keys[i].name);
		keys[i].index = i;
	}
	qsort(keys, count, sizeof(SortedKey), compare_keys);
	return keys;
}

static void
put_object(RfLeafMaker *maker, JsonbContainer *object)
{
	uint32		count = JsonContainerSize(object);
	JEntry	   *entries = object->children;
	const char *base = (const char *) &entries[2 * count];
	uint32		key_offset = 0;
	uint32		offset = getJsonbOffset(object, count);
	SortedKey  *order = sort_pairs(maker, object);
	JsonPart	key;
	JsonPart	value;

	put_byte(maker, '{');
	put_u32(maker, count);
	for (uint32 i = 0; i < count && !maker->too_long; i++)
	{
		if (order != NULL)
			read_pair(object, order[i].index, &key, &value);
		else
		{
			read_part(base, entries[i], &key_offset, &key);
			read_part(base, entries[count + i], &offset, &value);
		}
		put_string(maker, key.data, key.len);
		put_part(maker, &value);
	}
}

static void
put_container(RfLeafMaker *maker, JsonbContainer *container)
{
	uint32		count = JsonContainerSize(container);
	uint32		offset = 0;
	JsonPart	part;

	check_stack_depth();
	if (JsonContainerIsObject(container))
	{
		put_object(maker, container);
		return;
	}
	if (!JsonContainerIsScalar(container))
	{
		put_byte(maker, '[');
		put_u32(maker, count);
	}
	for (uint32 i = 0; i < count && !maker->too_long; i++)
	{
		read_part((const char *) &container->children[count],
				  container->children[i], &offset, &part);
		put_part(maker, &part);
	}
}

/* What takes the place of a value from "start" on that was too long. */
static void
put_stored_form(RfLeafMaker *maker, size_t start, const void *data, size_t len)
{
	RfHash		hash;

	rf_digest(maker->digest, data, len, &hash);
	maker->len = start;
	put_byte(maker, 'x');
	put_bytes(maker, &hash, sizeof(hash));
	maker->too_long = false;
}

/*
 * The stored jsonb, where it can be read: in place, or copied, since a short
 * header leaves it unaligned.
 */
static JsonbContainer *
jsonb_container(RfLeafMaker *maker, Datum value, size_t *len)
{
	struct varlena *stored = PG_DETOAST_DATUM_PACKED(value);

	*len = VARSIZE_ANY_EXHDR(stored);
	if (VARATT_IS_SHORT(stored))
	{
		memcpy(maker->aligned, VARDATA_ANY(stored), *len);
		return (JsonbContainer *) maker->aligned;
	}
	return (JsonbContainer *) VARDATA_ANY(stored);
}

/* The form of a whole value, without the length before it. */
static void
put_json_value(RfLeafMaker *maker, JsonbContainer *container, size_t len)
{
	size_t		start = maker->len;

	maker->limit = start + JSON_LIMIT;
	maker->too_long = false;
	put_container(maker, container);
	if (maker->too_long)
		put_stored_form(maker, start, container, len);
}

/* Leaves room for a length; ends the field that began there. */
static size_t
begin_field(RfLeafMaker *maker)
{
	put_u32(maker, 0);
	return maker->len;
}

static void
end_field(RfLeafMaker *maker, size_t start)
{
	rf_put_u32(maker->data + start - sizeof(uint32),
			   (uint32) (maker->len - start));
}

static void
put_json(RfLeafMaker *maker, Datum value)
{
	size_t		len;
	JsonbContainer *container = jsonb_container(maker, value, &len);
	size_t		start = begin_field(maker);

	put_json_value(maker, container, len);
	end_field(maker, start);
}

/* Decodes base64 of exactly that many bytes in its one right spelling. */
static bool
decode_base64(const JsonPart *part, unsigned char *out, int len)
{
	size_t		digits = (len * 8 + 5) / 6;
	char		url[HASH_BASE64];
	unsigned char decoded[HASH_BASE64];

	if (!JBE_ISSTRING(part->entry) || part->len != (uint32) (len + 2) / 3 * 4 ||
		part->len > sizeof(url))
		return false;
	for (size_t i = 0; i < part->len; i++)
	{
		char		c = part->data[i];

		if ((i >= digits) != (c == '=') || c == '-' || c == '_')
			return false;
		url[i] = c == '+' ? '-' : c == '/' ? '_' : c;
	}
	if (rf_base64url_decode(url, digits, decoded, sizeof(decoded)) != len)
		return false;
	memcpy(out, decoded, len);
	return true;
}

static bool
part_is(const JsonPart *part, const char *string)
{
	return part->len == strlen(string) &&
		memcmp(part->data, string, part->len) == 0;
}

/*
 * The commitment to a personal value: the stored one, or that of its salt and
 * value. False if it is neither {"salt", "value"} nor {"commitment"}.
 */
static bool
personal_commitment(RfLeafMaker *maker, const JsonPart *part,
					RfHash *commitment)
{
	JsonbContainer *object = (JsonbContainer *) part->data;
	size_t		start = maker->len;
	size_t		value_start;
	unsigned char salt[SALT_BYTES];
	JsonPart	key;
	JsonPart	value;

	if (!JBE_ISCONTAINER(part->entry) || !JsonContainerIsObject(object))
		return false;
	if (JsonContainerSize(object) == 1)
	{
		read_pair(object, 0, &key, &value);
		return part_is(&key, "commitment") &&
			decode_base64(&value, commitment->data, RF_HASH_BYTES);
	}
	if (JsonContainerSize(object) != 2)
		return false;
	read_pair(object, 0, &key, &value);
	if (!part_is(&key, "salt") || !decode_base64(&value, salt, SALT_BYTES))
		return false;
	read_pair(object, 1, &key, &value);
	if (!part_is(&key, "value"))
		return false;

	put_byte(maker, 0x02);
	put_bytes(maker, salt, SALT_BYTES);
	value_start = maker->len;
	maker->limit = value_start + JSON_LIMIT;
	maker->too_long = false;
	put_part(maker, &value);
	if (maker->too_long)
		put_stored_form(maker, value_start, value.data, value.len);
	rf_digest(maker->digest, maker->data + start, maker->len - start,
			  commitment);
	maker->len = start;
	return true;
}

/*
 * The same for a value of "personal" that is a container, "len" bytes long.
 * False if it is of another form.
 */
bool
rf_leaf_commitment(RfLeafMaker *maker, JsonbContainer *value, int len,
				   RfHash *commitment)
{
	JsonPart	part = {JENTRY_ISCONTAINER, (const char *) value, (uint32) len};

	maker->len = 0;
	return personal_commitment(maker, &part, commitment);
}

/* The commitments under "new" or "old". */
static bool
put_commitments(RfLeafMaker *maker, char which, const JsonPart *part,
				uint32 *count)
{
	JsonbContainer *object = (JsonbContainer *) part->data;
	SortedKey  *order;

	if (!JBE_ISCONTAINER(part->entry) || !JsonContainerIsObject(object) ||
		JsonContainerSize(object) == 0)
		return false;
	order = sort_pairs(maker, object);
	for (uint32 i = 0; i < JsonContainerSize(object); i++)
	{
		JsonPart	column;
		JsonPart	value;
		RfHash		commitment;

		read_pair(object, order != NULL ? order[i].index : i, &column,
				  &value);
		if (!personal_commitment(maker, &value, &commitment))
			return false;
		put_byte(maker, which);
		put_string(maker, column.data, column.len);
		put_bytes(maker, &commitment, sizeof(commitment));
		(*count)++;
	}
	return true;
}

/* Personal values as commitments; a form that isn't ours as plain JSON. */
static void
put_personal(RfLeafMaker *maker, Datum datum)
{
	size_t		len;
	JsonbContainer *object = jsonb_container(maker, datum, &len);
	size_t		start = begin_field(maker);
	uint32		count = 0;
	bool		valid = JsonContainerIsObject(object) &&
	JsonContainerSize(object) > 0;

	put_u32(maker, 0);
	for (uint32 i = 0; valid && i < JsonContainerSize(object); i++)
	{
		JsonPart	key;
		JsonPart	value;

		read_pair(object, i, &key, &value);
		if (part_is(&key, "new"))
			valid = put_commitments(maker, 'n', &value, &count);
		else if (part_is(&key, "old"))
			valid = put_commitments(maker, 'o', &value, &count);
		else
			valid = false;
	}
	if (valid)
		rf_put_u32(maker->data + start, count);
	else
	{
		maker->len = start;
		put_u32(maker, NULL_FIELD);
		put_json_value(maker, object, len);
	}
	end_field(maker, start);
}

static int
compare_shape(const void *key, const void *member)
{
	int32		id = *(const int32 *) key;
	const RfShapeName *shape = member;

	return (id > shape->id) - (id < shape->id);
}

/* The table's name when the record was written. */
static void
put_relation(RfLeafMaker *maker, int32 id)
{
	RfShapeName *shape = bsearch(&id, maker->names, maker->nnames,
								 sizeof(RfShapeName), compare_shape);

	if (shape == NULL)
		put_u32(maker, NULL_FIELD);
	else
		put_field(maker, shape->name, shape->len);
}

/*
 * Makes leaves, with that digest and those names, which stay the caller's.
 * Everything it allocates for longer than a record is in the current context.
 */
RfLeafMaker *
rf_leaf_begin(RfDigest *digest, RfShapeName *names, int nnames)
{
	RfLeafMaker *maker = palloc0(sizeof(RfLeafMaker));

	maker->digest = digest;
	maker->size = 8192;
	maker->data = palloc(maker->size);
	maker->aligned = palloc(VARATT_SHORT_MAX);
	maker->convert = GetDatabaseEncoding() != PG_UTF8 &&
		GetDatabaseEncoding() != PG_SQL_ASCII;
	maker->names = names;
	maker->nnames = nnames;
	return maker;
}

/*
 * The leaf of a record, whose columns come in the order of RfAuditColumn; the
 * first five must not be NULL.
 */
void
rf_leaf(RfLeafMaker *maker, const Datum *values, const bool *nulls,
		RfHash *leaf)
{
	maker->len = 0;
	put_bytes(maker, "\0rfa1", 5);
	put_bytes(maker, DatumGetUUIDP(values[AUDIT_ORG_ID]), RF_UUID_BYTES);
	put_bytes(maker, DatumGetUUIDP(values[AUDIT_ID]), RF_UUID_BYTES);
	put_u64(maker, rf_unix_time(DatumGetTimestampTz(values[AUDIT_RECORDED_AT])));
	put_u64(maker, (uint64) DatumGetInt64(values[AUDIT_TRANSACTION_ID]));
	put_u32(maker, (uint32) DatumGetInt32(values[AUDIT_INCARNATION]));
	if (nulls[AUDIT_RELATION_ID])
		put_u32(maker, NULL_FIELD);
	else
		put_relation(maker, DatumGetInt32(values[AUDIT_RELATION_ID]));
	/* user_id comes after the operation and the actor. */
	for (int i = AUDIT_OPERATION; i < AUDIT_COLUMNS; i++)
	{
		if (nulls[i])
			put_u32(maker, NULL_FIELD);
		else if (i == AUDIT_CLIENT_IP)
			put_inet(maker, values[i]);
		else if (i == AUDIT_OLD || i == AUDIT_NEW)
			put_json(maker, values[i]);
		else if (i == AUDIT_PERSONAL)
			put_personal(maker, values[i]);
		else
			put_text(maker, values[i]);
		if (i == AUDIT_ACTOR)
		{
			if (nulls[AUDIT_USER_ID])
				put_u32(maker, NULL_FIELD);
			else
				put_field(maker, DatumGetUUIDP(values[AUDIT_USER_ID]),
						  RF_UUID_BYTES);
		}
	}
	rf_digest(maker->digest, maker->data, maker->len, leaf);
}
