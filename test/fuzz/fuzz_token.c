/*
 * fuzz_token.c: a token is taken apart without a crash, and each of its parts
 * has one spelling: what decodes encodes to the same text again.
 */
#include "postgres_fe.h"

#include "memory.h"
#include "ringfence.h"

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static void
check_part(const char *part, size_t len)
{
	size_t		size = len / 4 * 3 + 3;
	unsigned char *decoded = pg_malloc(size);
	int			n = rf_base64url_decode(part, len, decoded, size);
	char	   *encoded;

	if (n < 0)
		return;
	encoded = pg_malloc(len + 4);
	if ((size_t) n > size ||
		rf_base64url_encode(decoded, n, encoded, len + 4) != len ||
		memcmp(encoded, part, len) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	char	   *token = pg_malloc(size);
	RfToken		parts;
	RfUuid		uuid;
	char	   *string;

	memcpy(token, data, size);
	check_part(token, size);
	if (rf_token_split(token, size, &parts))
	{
		if (parts.header_len + parts.payload_len + parts.signature_len + 2 != size ||
			parts.signed_len != parts.header_len + 1 + parts.payload_len)
			abort();
		check_part(parts.header, parts.header_len);
		check_part(parts.payload, parts.payload_len);
		check_part(parts.signature, parts.signature_len);
	}

	string = pg_malloc(size + 1);
	memcpy(string, data, size);
	string[size] = '\0';
	(void) rf_uuid_parse(string, &uuid);
	memory_reset();
	return 0;
}
