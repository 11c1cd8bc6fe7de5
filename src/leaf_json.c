/*
 * leaf_json.c: JSON in a record's canonical form.
 *
 * jsonb is walked where it lies. What is in it was chosen by others, so the
 * work must stay in proportion to what is stored, and the stack small: a
 * container inside DEPTH_LIMIT others, a value whose form would be longer than
 * JSON_LIMIT, and a number that takes 12 bytes and prints 131072 enter as a
 * hash of what is stored.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "compat.h"
#include "leaf.h"

#define JSON_LIMIT ((size_t) 64 * 1024 * 1024)
#define DEPTH_LIMIT 64
#define NUMBER_LIMIT 1000

/* The head of a numeric, of which the server shows no declaration. */
#define NUMERIC_SPECIAL 0xC000
#define NUMERIC_SHORT 0x8000
#define SHORT_DSCALE(head) (((head) & 0x1F80) >> 7)
#define SHORT_WEIGHT(head) \
	((int) ((head) & 0x003F) - (((head) & 0x0040) != 0 ? 64 : 0))
#define LONG_DSCALE(head) ((head) & 0x3FFF)
#define DIGITS_OF_GROUP 4

static void put_part(RfLeafMaker *maker, const RfJsonPart *part);

/* A hash in place of what is too much. */
static void
put_hash(RfLeafMaker *maker, char tag, const void *data, size_t len)
{
	RfHash		hash;

	rf_digest(maker->digest, data, len, &hash);
	rf_leaf_byte(maker, tag);
	rf_leaf_bytes(maker, &hash, sizeof(hash));
}

/* At least so many characters are printed of a number, and at most 4 more. */
static int
printed_length(Numeric number)
{
	const uint16 *head = (const uint16 *) VARDATA_ANY(number);
	int			weight;
	int			dscale;

	if ((head[0] & NUMERIC_SPECIAL) == NUMERIC_SPECIAL)
		return 0;
	if ((head[0] & NUMERIC_SHORT) != 0)
	{
		weight = SHORT_WEIGHT(head[0]);
		dscale = SHORT_DSCALE(head[0]);
	}
	else
	{
		weight = (int16) head[1];
		dscale = LONG_DSCALE(head[0]);
	}
	return (weight > 0 ? weight * DIGITS_OF_GROUP : 0) + 1 +
		(dscale > 0 ? dscale + 1 : 0);
}

static void
put_number(RfLeafMaker *maker, const RfJsonPart *part)
{
	Numeric		number = DatumGetNumeric(PointerGetDatum(part->data));
	bytea	   *binary;

	if (printed_length(number) <= NUMBER_LIMIT)
	{
		char	   *digits = DatumGetCString(DirectFunctionCall1(numeric_out,
																 NumericGetDatum(number)));
		size_t		len = strlen(digits);

		if (len <= NUMBER_LIMIT)
		{
			rf_leaf_byte(maker, '#');
			rf_leaf_field(maker, digits, len);
			pfree(digits);
			return;
		}
		pfree(digits);
	}
	binary = DatumGetByteaPP(DirectFunctionCall1(numeric_send,
												 NumericGetDatum(number)));
	put_hash(maker, 'N', VARDATA_ANY(binary), VARSIZE_ANY_EXHDR(binary));
	pfree(binary);
}

/*
 * Reads the value at "offset" of the data at "base", and sets the offset to the
 * end of it. Numbers and containers are aligned within their container.
 */
static inline void
read_part(const char *base, JEntry entry, uint32 *offset, RfJsonPart *part)
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
void
rf_leaf_pair(JsonbContainer *object, uint32 index, RfJsonPart *key,
			 RfJsonPart *value)
{
	uint32		count = JsonContainerSize(object);
	const char *base = (const char *) &object->children[2 * count];
	uint32		offset = getJsonbOffset(object, index);

	read_part(base, object->children[index], &offset, key);
	offset = getJsonbOffset(object, count + index);
	read_part(base, object->children[count + index], &offset, value);
}

/* A key of an object as it enters, and where its pair is. */
typedef struct SortedKey
{
	size_t		begin;			/* of its field in the buffer */
	size_t		len;
	uint32		index;
} SortedKey;

/* By length, then by bytes; what isn't UTF-8 comes after the same that is. */
static int
compare_keys(const void *a, const void *b, void *arg)
{
	const SortedKey *x = a;
	const SortedKey *y = b;
	const unsigned char *data = ((RfLeafMaker *) arg)->data;
	int			order;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	order = memcmp(data + x->begin + sizeof(uint32),
				   data + y->begin + sizeof(uint32), x->len);
	if (order == 0)
		order = memcmp(data + x->begin, data + y->begin, sizeof(uint32));
	return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

/*
 * Which pair of an object comes when, palloc'd. It is stored in the order of
 * the keys' bytes, shorter ones first; in another encoding that isn't the order
 * of UTF-8, and NULL stands for the order it is in.
 */
uint32 *
rf_leaf_order(RfLeafMaker *maker, JsonbContainer *object)
{
	uint32		count = JsonContainerSize(object);
	size_t		start = maker->len;
	SortedKey  *keys;
	uint32	   *order;

	if (!maker->convert || count < 2)
		return NULL;
	keys = MemoryContextAllocHuge(CurrentMemoryContext,
								  count * sizeof(SortedKey));
	order = MemoryContextAllocHuge(CurrentMemoryContext,
								   count * sizeof(uint32));
	for (uint32 i = 0; i < count; i++)
	{
		RfJsonPart	key;
		RfJsonPart	value;

		rf_leaf_pair(object, i, &key, &value);
		keys[i].begin = maker->len;
		rf_leaf_string(maker, key.data, key.len);
		keys[i].len = maker->len - keys[i].begin - sizeof(uint32);
		keys[i].index = i;
	}
	qsort_arg(keys, count, sizeof(SortedKey), compare_keys, maker);
	for (uint32 i = 0; i < count; i++)
		order[i] = keys[i].index;
	pfree(keys);
	maker->len = start;
	return order;
}

static void
put_object(RfLeafMaker *maker, JsonbContainer *object)
{
	uint32		count = JsonContainerSize(object);
	JEntry	   *entries = object->children;
	const char *base = (const char *) &entries[2 * count];
	uint32		key_offset = 0;
	uint32		offset = getJsonbOffset(object, count);
	uint32	   *order = rf_leaf_order(maker, object);
	RfJsonPart	key;
	RfJsonPart	value;

	rf_leaf_byte(maker, '{');
	rf_leaf_u32(maker, count);
	for (uint32 i = 0; i < count && !maker->too_long; i++)
	{
		if (order != NULL)
			rf_leaf_pair(object, order[i], &key, &value);
		else
		{
			read_part(base, entries[i], &key_offset, &key);
			read_part(base, entries[count + i], &offset, &value);
		}
		rf_leaf_string(maker, key.data, key.len);
		put_part(maker, &value);
	}
}

static void
put_array(RfLeafMaker *maker, JsonbContainer *array)
{
	uint32		count = JsonContainerSize(array);
	uint32		offset = 0;
	RfJsonPart	part;

	if (!JsonContainerIsScalar(array))
	{
		rf_leaf_byte(maker, '[');
		rf_leaf_u32(maker, count);
	}
	for (uint32 i = 0; i < count && !maker->too_long; i++)
	{
		read_part((const char *) &array->children[count], array->children[i],
				  &offset, &part);
		put_part(maker, &part);
	}
}

static void
put_container(RfLeafMaker *maker, const RfJsonPart *part)
{
	JsonbContainer *container = (JsonbContainer *) part->data;

	if (maker->depth == DEPTH_LIMIT)
	{
		put_hash(maker, 'x', part->data, part->len);
		return;
	}
	maker->depth++;
	if (JsonContainerIsObject(container))
		put_object(maker, container);
	else
		put_array(maker, container);
	maker->depth--;
}

/* A value of jsonb; stops, and says so, past the limit. */
static void
put_part(RfLeafMaker *maker, const RfJsonPart *part)
{
	if (maker->len > maker->limit)
		maker->too_long = true;
	if (maker->too_long)
		return;
	if (JBE_ISNULL(part->entry))
		rf_leaf_byte(maker, 'n');
	else if (JBE_ISBOOL_TRUE(part->entry))
		rf_leaf_byte(maker, 't');
	else if (JBE_ISBOOL_FALSE(part->entry))
		rf_leaf_byte(maker, 'f');
	else if (JBE_ISSTRING(part->entry))
	{
		rf_leaf_byte(maker, '"');
		rf_leaf_string(maker, part->data, part->len);
	}
	else if (JBE_ISNUMERIC(part->entry))
		put_number(maker, part);
	else
		put_container(maker, part);
}

/* The form of a whole value, without a length before it. Never throws for it. */
void
rf_leaf_json(RfLeafMaker *maker, const RfJsonPart *value)
{
	size_t		start = maker->len;

	maker->limit = start + JSON_LIMIT;
	maker->too_long = false;
	maker->depth = 0;
	put_part(maker, value);
	if (maker->too_long)
	{
		maker->len = start;
		put_hash(maker, 'x', value->data, value->len);
	}
}
