/*
 * leaf_text.c: text of any server encoding in a record's canonical form.
 *
 * Text enters as UTF-8. Some encodings have characters without an equivalent
 * there, and one (MULE_INTERNAL) has no conversion at all: sealing must not
 * fail for what somebody wrote, so such a text enters as the bytes that it is,
 * with the top bit of its length set. No text is long enough to set it.
 */
#include "postgres.h"

#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace.h"
#include "mb/pg_wchar.h"

#include "leaf.h"

#define RAW_TEXT 0x80000000		/* in a length: the bytes aren't UTF-8 */
#define CONVERTED_AT_ONCE 8192

/* Looks up how text becomes UTF-8; the server's own way, whatever the path. */
void
rf_leaf_text_begin(RfLeafMaker *maker)
{
	int			encoding = GetDatabaseEncoding();

	maker->convert = encoding != PG_UTF8 && encoding != PG_SQL_ASCII;
	maker->conversion = maker->convert ?
		FindDefaultConversion(PG_CATALOG_NAMESPACE, encoding, PG_UTF8) :
		InvalidOid;
}

/* Makes room for more bytes. */
void
rf_leaf_reserve(RfLeafMaker *maker, size_t more)
{
	if (maker->len + more <= maker->size)
		return;
	while (maker->size < maker->len + more)
		maker->size *= 2;
	maker->data = repalloc_huge(maker->data, maker->size);
}

static bool
is_ascii(const char *string, size_t len)
{
	unsigned char bits = 0;

	for (size_t i = 0; i < len; i++)
		bits |= (unsigned char) string[i];
	return bits < 0x80;
}

/* Appends text as UTF-8, piece by piece; stops at what has no equivalent. */
static bool
put_utf8(RfLeafMaker *maker, const char *string, size_t len)
{
	if (!OidIsValid(maker->conversion))
		return false;
	while (len > 0)
	{
		int			srclen = (int) Min(len, CONVERTED_AT_ONCE);
		int			destlen = srclen * MAX_CONVERSION_GROWTH + 1;
		unsigned char *dest;
		int			converted;

		rf_leaf_reserve(maker, destlen);
		dest = maker->data + maker->len;
		dest[0] = '\0';
		converted = pg_do_encoding_conversion_buf(maker->conversion,
												  GetDatabaseEncoding(),
												  PG_UTF8,
												  (unsigned char *) string,
												  srclen, dest, destlen, true);
		if (converted <= 0)
			return false;
		maker->len += strlen((char *) dest);
		string += converted;
		len -= converted;
	}
	return true;
}

/* A field of text that isn't UTF-8 yet. Never throws for what is in it. */
void
rf_leaf_convert(RfLeafMaker *maker, const char *string, size_t len)
{
	size_t		start = maker->len;

	if (is_ascii(string, len))
	{
		rf_leaf_field(maker, string, len);
		return;
	}
	rf_leaf_u32(maker, 0);
	if (put_utf8(maker, string, len))
	{
		rf_put_u32(maker->data + start,
				   (uint32) (maker->len - start - sizeof(uint32)));
		return;
	}
	maker->len = start;
	rf_leaf_u32(maker, RAW_TEXT | (uint32) len);
	rf_leaf_bytes(maker, string, len);
}
