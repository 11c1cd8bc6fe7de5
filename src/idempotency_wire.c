/*
 * idempotency_wire.c: bytes that came from outside: keys, paths, records.
 *
 * Pure functions over the caller's buffers, built outside the server as well
 * for the fuzzer.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "idempotency.h"
#include "ringfence.h"

/* Is it a key: 1 to 255 bytes, none of them a control character? */
bool
rf_key_valid(const char *key)
{
	size_t		len = strlen(key);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char) key[i] < 0x20 || key[i] == 0x7f)
			return false;
	return len > 0 && len <= RF_MAX_IDEMPOTENCY_KEY;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A string of RFC 8941, without what stands around it. */
static bool
parse_quoted(const char *next, const char *end, char *key)
{
	size_t		len = 0;

	for (next++; next < end; next++)
	{
		if (*next == '"')
			break;
		if (*next == '\\' && (++next == end || (*next != '"' && *next != '\\')))
			return false;
		if (len == RF_MAX_IDEMPOTENCY_KEY)
			return false;
		key[len++] = *next;
	}
	key[len] = '\0';
	return next + 1 == end;
}

/*
 * The key in the value of an Idempotency-Key header: a string of RFC 8941,
 * quoted, or the bare key; blanks around it are no part of it. "key" has room
 * for one of the greatest length. False for what is neither, parameters behind
 * the string included.
 */
bool
rf_key_parse(const char *header, char *key)
{
	const char *end = header + strlen(header);

	while (is_blank(*header))
		header++;
	while (end > header && is_blank(end[-1]))
		end--;
	if (*header == '"')
		return parse_quoted(header, end, key) && rf_key_valid(key);
	if (end - header > RF_MAX_IDEMPOTENCY_KEY)
		return false;
	memcpy(key, header, end - header);
	key[end - header] = '\0';
	return rf_key_valid(key);
}

/*
 * Decodes a path's percent-escapes in place, so that one endpoint has one
 * spelling. What is no escape, or of a NUL, stays.
 */
void
rf_path_decode(char *path)
{
	char	   *out = path;

	while (*path != '\0')
	{
		int			high = path[0] == '%' ? rf_hex_digit(path[1]) : -1;
		int			low = high >= 0 ? rf_hex_digit(path[2]) : -1;

		if (low >= 0 && (high > 0 || low > 0))
		{
			*out++ = (char) (high * 16 + low);
			path += 3;
		}
		else
			*out++ = *path++;
	}
	*out = '\0';
}

/* The next bytes, in place; NULL, and the reader has failed, past the end. */
const char *
rf_read_bytes(RfReader *reader, uint32 len)
{
	const unsigned char *bytes = reader->next;

	if (reader->failed || (size_t) (reader->end - bytes) < len)
	{
		reader->failed = true;
		return NULL;
	}
	reader->next += len;
	return (const char *) bytes;
}

/* The next number, most significant byte first; 0 past the end. */
uint32
rf_read_u32(RfReader *reader)
{
	const unsigned char *bytes =
	(const unsigned char *) rf_read_bytes(reader, 4);

	return bytes == NULL ? 0 : (uint32) bytes[0] << 24 |
		(uint32) bytes[1] << 16 | (uint32) bytes[2] << 8 | bytes[3];
}

uint32
rf_read_u16(RfReader *reader)
{
	const unsigned char *bytes =
	(const unsigned char *) rf_read_bytes(reader, 2);

	return bytes == NULL ? 0 : (uint32) bytes[0] << 8 | bytes[1];
}
