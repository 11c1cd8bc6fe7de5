/*
 * leaf.h: the buffer that a record's canonical form is built in, and what is
 * put there.
 */
#ifndef RINGFENCE_LEAF_H
#define RINGFENCE_LEAF_H

#include "utils/jsonb.h"

#include "seal.h"

#define RF_NULL_FIELD 0xFFFFFFFF

struct RfLeafMaker
{
	RfDigest   *digest;
	unsigned char *data;
	size_t		len;
	size_t		size;
	size_t		limit;			/* where a value of JSON becomes too long */
	bool		too_long;
	int			depth;			/* of the container at hand */
	bool		convert;		/* text isn't UTF-8 */
	Oid			conversion;		/* the function, if there is one */
	char	   *aligned;		/* for jsonb that isn't */
	RfShapeName *names;			/* by id */
	int			nnames;
};

/* A value inside jsonb: its entry, and its bytes. */
typedef struct RfJsonPart
{
	JEntry		entry;
	const char *data;
	uint32		len;
} RfJsonPart;

/* leaf_text.c */
extern void rf_leaf_text_begin(RfLeafMaker *maker);
extern void rf_leaf_reserve(RfLeafMaker *maker, size_t more);
extern void rf_leaf_convert(RfLeafMaker *maker, const char *string,
							size_t len);

/* leaf_json.c */
extern void rf_leaf_pair(JsonbContainer *object, uint32 index,
						 RfJsonPart *key, RfJsonPart *value);
extern uint32 *rf_leaf_order(RfLeafMaker *maker, JsonbContainer *object);
extern void rf_leaf_json(RfLeafMaker *maker, const RfJsonPart *value);

static inline void
rf_leaf_bytes(RfLeafMaker *maker, const void *data, size_t len)
{
	if (unlikely(maker->len + len > maker->size))
		rf_leaf_reserve(maker, len);
	memcpy(maker->data + maker->len, data, len);
	maker->len += len;
}

static inline void
rf_leaf_byte(RfLeafMaker *maker, unsigned char byte)
{
	rf_leaf_bytes(maker, &byte, 1);
}

static inline void
rf_leaf_u32(RfLeafMaker *maker, uint32 value)
{
	value = pg_hton32(value);
	rf_leaf_bytes(maker, &value, sizeof(value));
}

static inline void
rf_leaf_u64(RfLeafMaker *maker, uint64 value)
{
	value = pg_hton64(value);
	rf_leaf_bytes(maker, &value, sizeof(value));
}

static inline void
rf_leaf_field(RfLeafMaker *maker, const void *data, size_t len)
{
	rf_leaf_u32(maker, (uint32) len);
	rf_leaf_bytes(maker, data, len);
}

/* A field of text in the server's encoding. */
static inline void
rf_leaf_string(RfLeafMaker *maker, const char *string, size_t len)
{
	if (maker->convert)
		rf_leaf_convert(maker, string, len);
	else
		rf_leaf_field(maker, string, len);
}

#endif							/* RINGFENCE_LEAF_H */
