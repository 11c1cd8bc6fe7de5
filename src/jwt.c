/*
 * jwt.c: signs and verifies JSON Web Tokens (RFC 7519), HS256 alone.
 *
 * The algorithm is the key's, never the token's: a header that names another
 * ("none" included) is refused before any key is looked at. The signature is
 * checked before the payload is read, in constant time. Whatever is wrong with
 * a token before its signature holds gives one and the same error.
 *
 * A key's secret is copied out of its row, used and wiped; the copy is released
 * by a memory context callback, so that an error can't leave it behind.
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ringfence.h"

#define HS256_BYTES 32
#define HS256_TEXT 44			/* base64url of that, with its NUL */

PG_FUNCTION_INFO_V1(ringfence_jwt_sign);
PG_FUNCTION_INFO_V1(ringfence_jwt_verify);
PG_FUNCTION_INFO_V1(ringfence_random_secret);

/* ringfence.jwt_leeway, in seconds */
static int	jwt_leeway = 30;

/* The last transaction that signed a token. */
static uint64 signed_in_transaction = 0;

static void
wipe_key(void *arg)
{
	RfJwtKey   *key = arg;

	if (key->secret != NULL)
		OPENSSL_cleanse(key->secret, key->secret_len);
}

/*
 * Looks a key up; false if there is none of that id in use. The secret is wiped
 * when the current memory context goes.
 */
static bool
find_key(const char *kid, RfJwtKey **result)
{
	RfJwtKey   *key = palloc0(sizeof(RfJwtKey));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = wipe_key;
	callback->arg = key;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	*result = key;
	return rf_directory_jwt_key(kid, key);
}

static void
hs256(const RfJwtKey *key, const char *message, size_t len,
	  unsigned char *signature)
{
	unsigned int size = HS256_BYTES;

	if (HMAC(EVP_sha256(), key->secret, (int) key->secret_len,
			 (const unsigned char *) message, len, signature, &size) == NULL ||
		size != HS256_BYTES)
		elog(ERROR, "could not compute a message authentication code");
}

pg_noreturn static void
refuse_token(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("the token is not valid")));
}

/* A part of the token as text, palloc'd and NUL-terminated, or NULL. */
static char *
decode_part(const char *part, size_t part_len, size_t *len)
{
	size_t		size = part_len / 4 * 3 + 4;
	unsigned char *out = palloc(size);
	int			n = rf_base64url_decode(part, part_len, out, size - 1);

	if (n < 0)
		return NULL;
	out[n] = '\0';
	*len = n;
	return (char *) out;
}

/* Finds the key that the token was signed with, or refuses the token. */
static RfJwtKey *
check_signature(const char *token, const RfToken *parts)
{
	RfTokenHeader header;
	RfJwtKey   *key;
	unsigned char expected[HS256_BYTES];
	unsigned char given[HS256_BYTES + 1];
	char	   *json;
	size_t		len;
	bool		matches;

	json = decode_part(parts->header, parts->header_len, &len);
	if (json == NULL ||
		!rf_token_header_parse(json, len, GetDatabaseEncoding(), &header) ||
		header.unsupported || !header.has_kid || !header.has_alg ||
		strcmp(header.alg, "HS256") != 0 ||
		rf_base64url_decode(parts->signature, parts->signature_len, given,
							sizeof(given)) != HS256_BYTES ||
		!find_key(header.kid, &key))
		refuse_token();

	hs256(key, token, parts->signed_len, expected);
	matches = CRYPTO_memcmp(expected, given, HS256_BYTES) == 0;
	OPENSSL_cleanse(expected, sizeof(expected));
	if (!matches)
		refuse_token();
	return key;
}

/* Is it meant for us, by an issuer we know, and valid now? */
static void
check_claims(const RfClaims *claims, const RfJwtKey *key)
{
	double		now = (double) time(NULL);
	bool		for_us = false;

	for (int i = 0; i < claims->naudiences; i++)
		for_us = for_us || strcmp(claims->audiences[i], key->audience) == 0;
	if (!for_us || claims->issuer == NULL ||
		strcmp(claims->issuer, key->issuer) != 0 || !claims->has_exp)
		refuse_token();
	if (claims->has_nbf && now + jwt_leeway < claims->nbf)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the token is not valid yet")));
	if (now - jwt_leeway >= claims->exp)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the token has expired"),
				 errhint("Sign in again.")));
}

/*
 * Verifies a token and reads its claims; returns the payload, palloc'd. Throws
 * 28000 for every token that does not hold.
 */
char *
rf_jwt_verify(const char *token, size_t len, RfClaims *claims)
{
	RfToken		parts;
	RfJwtKey   *key;
	char	   *payload;
	size_t		payload_len;

	if (!rf_token_split(token, len, &parts))
		refuse_token();
	key = check_signature(token, &parts);
	payload = decode_part(parts.payload, parts.payload_len, &payload_len);
	if (payload == NULL ||
		!pg_verify_mbstr(PG_UTF8, payload, (int) payload_len, true))
		refuse_token();
	payload = pg_any_to_server(payload, (int) payload_len, PG_UTF8);
	if (!rf_claims_parse(payload, strlen(payload), GetDatabaseEncoding(),
						 claims))
		refuse_token();
	check_claims(claims, key);
	return payload;
}

Datum
ringfence_jwt_verify(PG_FUNCTION_ARGS)
{
	text	   *token = PG_GETARG_TEXT_PP(0);
	RfClaims	claims;
	char	   *payload = rf_jwt_verify(VARDATA_ANY(token),
										VARSIZE_ANY_EXHDR(token), &claims);

	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(payload)));
}

/* Appends a part to the token, encoded. */
static void
append_part(StringInfo token, const char *part, size_t len)
{
	size_t		size = (len + 2) / 3 * 4 + 1;
	char	   *encoded = palloc(size);

	if (rf_base64url_encode((const unsigned char *) part, len, encoded,
							size) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("claims are too large for a token"),
				 errdetail("A token has at most %d bytes.", RF_MAX_TOKEN)));
	appendStringInfoString(token, encoded);
}

/*
 * The claims with the registered ones that are ours to say: whoever signs does
 * not get to choose issuer, audience or times.
 */
static char *
complete_claims(Jsonb *claims, const RfJwtKey *key, int64 lifetime)
{
	static const char *const ours[] = {"iss", "aud", "iat", "exp"};
	int64		now = (int64) time(NULL);
	Datum		object = JsonbPGetDatum(claims);
	StringInfoData added;

	if (!JB_ROOT_IS_OBJECT(claims))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("claims must be a JSON object")));
	for (int i = 0; i < (int) lengthof(ours); i++)
		object = DirectFunctionCall2(jsonb_delete, object,
									 CStringGetTextDatum(ours[i]));

	initStringInfo(&added);
	appendStringInfoString(&added, "{\"iss\": ");
	escape_json(&added, key->issuer);
	appendStringInfoString(&added, ", \"aud\": ");
	escape_json(&added, key->audience);
	appendStringInfo(&added, ", \"iat\": " INT64_FORMAT
					 ", \"exp\": " INT64_FORMAT "}", now, now + lifetime);
	object = DirectFunctionCall2(jsonb_concat, object,
								 DirectFunctionCall1(jsonb_in,
													 CStringGetDatum(added.data)));
	return JsonbToCString(NULL, &DatumGetJsonbP(object)->root, -1);
}

static int64
interval_seconds(const Interval *interval)
{
	double		days = interval->month * (double) DAYS_PER_MONTH + interval->day;
	double		seconds = days * SECS_PER_DAY;

	seconds += interval->time / (double) USECS_PER_SEC;
	if (!(seconds >= 1 && seconds <= 366.0 * SECS_PER_DAY))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a token's lifetime must be between a second and a year")));
	return (int64) seconds;
}

/* Was a token signed in this transaction? Its answer had better not be kept. */
bool
rf_jwt_signed(void)
{
	return signed_in_transaction == rf_context_transaction();
}

/* jwt_sign(claims jsonb, kid text, lifetime interval) */
Datum
ringfence_jwt_sign(PG_FUNCTION_ARGS)
{
	Jsonb	   *claims = PG_GETARG_JSONB_P(0);
	char	   *kid = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64		lifetime = interval_seconds(PG_GETARG_INTERVAL_P(2));
	RfJwtKey   *key;
	StringInfoData header;
	StringInfoData token;
	unsigned char signature[HS256_BYTES];
	char	   *payload;

	if (!find_key(kid, &key))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("token key \"%s\" does not exist or was retired",
						kid),
				 errhint("Make one with %s.", "ringfence.add_jwt_key()")));

	initStringInfo(&header);
	appendStringInfoString(&header, "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":");
	escape_json(&header, kid);
	appendStringInfoChar(&header, '}');
	payload = complete_claims(claims, key, lifetime);
	payload = pg_server_to_any(payload, (int) strlen(payload), PG_UTF8);

	initStringInfo(&token);
	append_part(&token, header.data, header.len);
	appendStringInfoChar(&token, '.');
	append_part(&token, payload, strlen(payload));
	hs256(key, token.data, token.len, signature);
	appendStringInfoChar(&token, '.');
	append_part(&token, (char *) signature, sizeof(signature));
	if (token.len > RF_MAX_TOKEN)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("claims are too large for a token"),
				 errdetail("A token has at most %d bytes.", RF_MAX_TOKEN)));
	signed_in_transaction = rf_context_transaction();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(token.data, token.len));
}

/* random_secret(bytes int) */
Datum
ringfence_random_secret(PG_FUNCTION_ARGS)
{
	int32		size = PG_GETARG_INT32(0);
	bytea	   *secret;

	if (size < 16 || size > 1024)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a secret must have between 16 and 1024 bytes")));
	secret = palloc(VARHDRSZ + size);
	SET_VARSIZE(secret, VARHDRSZ + size);
	if (!pg_strong_random(VARDATA(secret), size))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	PG_RETURN_BYTEA_P(secret);
}

void
rf_jwt_init(void)
{
	DefineCustomIntVariable("ringfence.jwt_leeway",
							"Seconds by which clocks may differ when a token's times are checked.",
							NULL,
							&jwt_leeway, 30, 0, 300, PGC_SUSET,
							GUC_UNIT_S | GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
}
