/*
 * jose.c: the outer form of a compact JSON Web Token (RFC 7515).
 *
 * Three parts of base64url without padding, nothing else. Pure functions over
 * the caller's buffers, built outside the server as well for the fuzzer.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <openssl/evp.h>

#include "ringfence.h"

/*
 * Finds the three parts. False for a token that is too long, has an empty part
 * or another number of them.
 */
bool
rf_token_split(const char *token, size_t len, RfToken *parts)
{
	const char *end = token + len;
	const char *first;
	const char *second;

	if (len == 0 || len > RF_MAX_TOKEN)
		return false;
	first = memchr(token, '.', len);
	if (first == NULL)
		return false;
	second = memchr(first + 1, '.', end - first - 1);
	if (second == NULL || memchr(second + 1, '.', end - second - 1) != NULL)
		return false;

	parts->header = token;
	parts->header_len = first - token;
	parts->payload = first + 1;
	parts->payload_len = second - first - 1;
	parts->signature = second + 1;
	parts->signature_len = end - second - 1;
	parts->signed_len = second - token;
	return parts->header_len > 0 && parts->payload_len > 0 &&
		parts->signature_len > 0;
}

/*
 * Decodes base64url without padding into "out" and returns the length, or -1
 * for anything but its one canonical spelling: OpenSSL's decoder forgives
 * white space and stray bits, so the alphabet and the last bits are looked at
 * here. "out" needs 3 bytes for each 4 begun characters of input.
 */
int
rf_base64url_decode(const char *in, size_t len, unsigned char *out,
					size_t size)
{
	size_t		padding = (4 - len % 4) % 4;
	int			decoded = 0;

	if (len == 0 || len > RF_MAX_TOKEN || len % 4 == 1 ||
		(len + padding) / 4 * 3 > size)
		return -1;
	for (size_t i = 0; i < len; i += 4)
	{
		unsigned char quad[4] = {'A', 'A', 'A', 'A'};

		for (size_t j = 0; j < 4 && i + j < len; j++)
		{
			char		c = in[i + j];

			if (c == '-')
				c = '+';
			else if (c == '_')
				c = '/';
			else if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
					   (c >= '0' && c <= '9')))
				return -1;
			quad[j] = (unsigned char) c;
		}
		if (EVP_DecodeBlock(out + decoded, quad, 4) != 3)
			return -1;
		decoded += 3;
	}
	/* What padding stands for was decoded as zero bits: it must be zero. */
	for (size_t i = 1; i <= padding; i++)
		if (out[decoded - i] != 0)
			return -1;
	return decoded - (int) padding;
}

/*
 * Encodes as base64url without padding, NUL-terminated; the length without
 * the NUL, or 0 if "out" is too small or "in" too long for a token.
 */
size_t
rf_base64url_encode(const unsigned char *in, size_t len, char *out,
					size_t size)
{
	size_t		encoded;

	if (len > RF_MAX_TOKEN || (len + 2) / 3 * 4 + 1 > size)
		return 0;
	encoded = EVP_EncodeBlock((unsigned char *) out, in, (int) len);
	while (encoded > 0 && out[encoded - 1] == '=')
		out[--encoded] = '\0';
	for (size_t i = 0; i < encoded; i++)
	{
		if (out[i] == '+')
			out[i] = '-';
		else if (out[i] == '/')
			out[i] = '_';
	}
	return encoded;
}
