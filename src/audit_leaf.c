/*
 * audit_leaf.c: the canonical form of a record, and its leaf.
 *
 * doc/audit.md gives the form. It depends on nothing but the record: not on
 * the server's encoding, its byte order, its version, or how a value happens
 * to be stored; leaf_text.c and leaf_json.c say where that can't be. It is
 * built in one buffer that is used again for the next record. What has to be
 * detoasted or printed is palloc'd in the current memory context, which the
 * caller resets.
 *
 * What is in a record was chosen by others, and sealing must not fail for it:
 * a "personal" of an unknown form enters as the JSON that it is.
 */
#include "postgres.h"

#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "leaf.h"

#define NO_SHAPE 0xFFFFFFFE
#define SALT_BYTES 16
#define HASH_BASE64 44

static void
put_text(RfLeafMaker *maker, Datum value)
{
	struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

	rf_leaf_string(maker, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
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
	rf_leaf_field(maker, string, strlen(string));
}

/*
 * The stored jsonb, where it can be read: in place, or copied, since a short
 * header leaves it unaligned.
 */
static RfJsonPart
stored_json(RfLeafMaker *maker, Datum value)
{
	struct varlena *stored = PG_DETOAST_DATUM_PACKED(value);
	RfJsonPart	part = {JENTRY_ISCONTAINER, VARDATA_ANY(stored),
	VARSIZE_ANY_EXHDR(stored)};

	if (VARATT_IS_SHORT(stored))
	{
		memcpy(maker->aligned, VARDATA_ANY(stored), part.len);
		part.data = maker->aligned;
	}
	return part;
}

/* Leaves room for a length; ends the field that began there. */
static size_t
begin_field(RfLeafMaker *maker)
{
	rf_leaf_u32(maker, 0);
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
	RfJsonPart	part = stored_json(maker, value);
	size_t		start = begin_field(maker);

	rf_leaf_json(maker, &part);
	end_field(maker, start);
}

/* Decodes base64 of exactly that many bytes in its one right spelling. */
static bool
decode_base64(const RfJsonPart *part, unsigned char *out, int len)
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
part_is(const RfJsonPart *part, const char *string)
{
	return part->len == strlen(string) &&
		memcmp(part->data, string, part->len) == 0;
}

/*
 * The commitment to a personal value: the stored one, or that of its salt and
 * value. False if it is neither {"salt", "value"} nor {"commitment"}.
 */
static bool
personal_commitment(RfLeafMaker *maker, const RfJsonPart *part,
					RfHash *commitment)
{
	JsonbContainer *object = (JsonbContainer *) part->data;
	size_t		start = maker->len;
	unsigned char salt[SALT_BYTES];
	RfJsonPart	key;
	RfJsonPart	value;

	if (!JBE_ISCONTAINER(part->entry) || !JsonContainerIsObject(object))
		return false;
	if (JsonContainerSize(object) == 1)
	{
		rf_leaf_pair(object, 0, &key, &value);
		return part_is(&key, "commitment") &&
			decode_base64(&value, commitment->data, RF_HASH_BYTES);
	}
	if (JsonContainerSize(object) != 2)
		return false;
	rf_leaf_pair(object, 0, &key, &value);
	if (!part_is(&key, "salt") || !decode_base64(&value, salt, SALT_BYTES))
		return false;
	rf_leaf_pair(object, 1, &key, &value);
	if (!part_is(&key, "value"))
		return false;

	rf_leaf_byte(maker, 0x02);
	rf_leaf_bytes(maker, salt, SALT_BYTES);
	rf_leaf_json(maker, &value);
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
	RfJsonPart	part = {JENTRY_ISCONTAINER, (const char *) value, (uint32) len};

	maker->len = 0;
	return personal_commitment(maker, &part, commitment);
}

/* The commitments under "new" or "old". */
static bool
put_commitments(RfLeafMaker *maker, char which, const RfJsonPart *part,
				uint32 *count)
{
	JsonbContainer *object = (JsonbContainer *) part->data;
	uint32	   *order;

	if (!JBE_ISCONTAINER(part->entry) || !JsonContainerIsObject(object) ||
		JsonContainerSize(object) == 0)
		return false;
	order = rf_leaf_order(maker, object);
	for (uint32 i = 0; i < JsonContainerSize(object); i++)
	{
		RfJsonPart	column;
		RfJsonPart	value;
		RfHash		commitment;

		rf_leaf_pair(object, order != NULL ? order[i] : i, &column,
					 &value);
		if (!personal_commitment(maker, &value, &commitment))
			return false;
		rf_leaf_byte(maker, which);
		rf_leaf_string(maker, column.data, column.len);
		rf_leaf_bytes(maker, &commitment, sizeof(commitment));
		(*count)++;
	}
	return true;
}

/* Personal values as commitments; a form that isn't ours as plain JSON. */
static void
put_personal(RfLeafMaker *maker, Datum datum)
{
	RfJsonPart	part = stored_json(maker, datum);
	JsonbContainer *object = (JsonbContainer *) part.data;
	size_t		start = begin_field(maker);
	uint32		count = 0;
	bool		valid = JsonContainerIsObject(object) &&
	JsonContainerSize(object) > 0;

	rf_leaf_u32(maker, 0);
	for (uint32 i = 0; valid && i < JsonContainerSize(object); i++)
	{
		RfJsonPart	key;
		RfJsonPart	value;

		rf_leaf_pair(object, i, &key, &value);
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
		rf_leaf_u32(maker, RF_NULL_FIELD);
		rf_leaf_json(maker, &part);
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

/*
 * What the table was when the record was written: its name, and a hash of its
 * columns; or the number of a shape that isn't there.
 */
static void
put_relation(RfLeafMaker *maker, int32 id)
{
	RfShapeName *shape = bsearch(&id, maker->names, maker->nnames,
								 sizeof(RfShapeName), compare_shape);

	if (shape == NULL)
	{
		rf_leaf_u32(maker, NO_SHAPE);
		rf_leaf_u32(maker, (uint32) id);
		return;
	}
	rf_leaf_string(maker, shape->name, shape->len);
	rf_leaf_bytes(maker, &shape->shape, RF_HASH_BYTES);
}

static void
hash_shape(RfLeafMaker *maker, RfShapeName *name)
{
	RfJsonPart	part = {JENTRY_ISNULL, NULL, 0};

	if (name->columns != NULL)
	{
		part.entry = JENTRY_ISCONTAINER;
		part.data = VARDATA(name->columns);
		part.len = VARSIZE(name->columns) - VARHDRSZ;
	}
	maker->len = 0;
	rf_leaf_json(maker, &part);
	rf_digest(maker->digest, maker->data, maker->len, &name->shape);
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
	rf_leaf_text_begin(maker);
	maker->names = names;
	maker->nnames = nnames;
	for (int i = 0; i < nnames; i++)
		hash_shape(maker, &names[i]);
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
	rf_leaf_bytes(maker, "\0rfa1", 5);
	rf_leaf_bytes(maker, DatumGetUUIDP(values[AUDIT_ORG_ID]), RF_UUID_BYTES);
	rf_leaf_bytes(maker, DatumGetUUIDP(values[AUDIT_ID]), RF_UUID_BYTES);
	rf_leaf_u64(maker, rf_unix_time(DatumGetTimestampTz(values[AUDIT_RECORDED_AT])));
	rf_leaf_u64(maker, (uint64) DatumGetInt64(values[AUDIT_TRANSACTION_ID]));
	rf_leaf_u32(maker, (uint32) DatumGetInt32(values[AUDIT_INCARNATION]));
	if (nulls[AUDIT_RELATION_ID])
		rf_leaf_u32(maker, RF_NULL_FIELD);
	else
		put_relation(maker, DatumGetInt32(values[AUDIT_RELATION_ID]));
	/* user_id comes after the operation and the actor. */
	for (int i = AUDIT_OPERATION; i < AUDIT_COLUMNS; i++)
	{
		if (nulls[i])
			rf_leaf_u32(maker, RF_NULL_FIELD);
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
				rf_leaf_u32(maker, RF_NULL_FIELD);
			else
				rf_leaf_field(maker, DatumGetUUIDP(values[AUDIT_USER_ID]),
							  RF_UUID_BYTES);
		}
	}
	rf_digest(maker->digest, maker->data, maker->len, leaf);
}
