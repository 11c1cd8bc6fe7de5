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

/*
 * The key in the value of an Idempotency-Key header: a string of RFC 8941,
 * quoted, or the bare key. "key" has room for one of the greatest length. False
 * for what is neither, parameters behind the string included.
 */
bool
rf_key_parse(const char *header, char *key)
{
	const char *next = header;
	size_t		len = 0;

	if (*next != '"')
	{
		if (!rf_key_valid(header))
			return false;
		strcpy(key, header);
		return true;
	}
	next++;
	for (;;)
	{
		char		c = *next++;

		if (c == '"')
			break;
		if (c == '\\')
		{
			c = *next++;
			if (c != '"' && c != '\\')
				return false;
		}
		if (c == '\0' || len == RF_MAX_IDEMPOTENCY_KEY)
			return false;
		key[len++] = c;
	}
	key[len] = '\0';
	return *next == '\0' && rf_key_valid(key);
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
