/*
 * fuzz_claims.c: claims, token headers and request headers are read without a
 * crash, and what is accepted keeps within the limits.
 */
#include "postgres_fe.h"

#include "mb/pg_wchar.h"

#include "memory.h"
#include "ringfence.h"

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static void
require(bool holds)
{
	if (!holds)
		abort();
}

static void
check_name(const char *name)
{
	size_t		len = strnlen(name, RF_NAME_BYTES);

	require(len > 0 && len < RF_NAME_BYTES);
}

static void
check_claims(const RfClaims *claims)
{
	const RfGrants *grants = &claims->grants;

	require(grants->nroles >= 0 && grants->nroles <= RF_MAX_ROLES);
	require(grants->nparties >= 0 && grants->nparties <= RF_MAX_PARTIES);
	require(claims->naudiences >= 0 &&
			claims->naudiences <= RF_MAX_AUDIENCES);
	require(claims->has_roles || grants->nroles == 0);
	require(claims->has_party || grants->nparties == 0);
	for (int i = 0; i < grants->nroles; i++)
		check_name(grants->roles[i]);
	for (int i = 0; i < grants->nparties; i++)
		check_name(grants->parties[i].kind);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const int encodings[] = {PG_UTF8, PG_LATIN1, PG_SQL_ASCII};
	static const char *const names[] = {"x-request-id", "user-agent"};
	char	   *json = pg_malloc(size + 1);

	/* As the server has it: terminated, and valid in the encoding. */
	memcpy(json, data, size);
	json[size] = '\0';
	for (int i = 0; i < (int) lengthof(encodings); i++)
	{
		RfClaims	claims;
		RfTokenHeader header;
		char	   *values[lengthof(names)];

		if (rf_claims_parse(json, size, encodings[i], &claims))
			check_claims(&claims);
		else
			require(!claims.has_user && !claims.has_org &&
					claims.grants.nroles == 0);
		if (rf_token_header_parse(json, size, encodings[i], &header))
		{
			require(!header.has_alg || strnlen(header.alg, RF_NAME_BYTES) < RF_NAME_BYTES);
			require(!header.has_kid || strnlen(header.kid, RF_NAME_BYTES) < RF_NAME_BYTES);
		}
		rf_json_fields(json, size, encodings[i], lengthof(names), names, values);
		for (int j = 0; j < (int) lengthof(names); j++)
			require(values[j] == NULL || strlen(values[j]) <= size);
	}
	memory_reset();
	return 0;
}
