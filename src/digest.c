/*
 * digest.c: SHA-256.
 *
 * The digest keeps one EVP context, which fetches the algorithm once: creating
 * and fetching would take several times as long as the hash of a record.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "port/pg_bswap.h"

#include "digest.h"

struct RfDigest
{
	EVP_MD_CTX *context;
	MemoryContextCallback callback;
};

static void
release_digest(void *arg)
{
	RfDigest   *digest = arg;

	EVP_MD_CTX_free(digest->context);
	digest->context = NULL;
}

/* A digest that lives as long as a memory context. */
RfDigest *
rf_digest_create(MemoryContext mcxt)
{
	RfDigest   *digest = MemoryContextAllocZero(mcxt, sizeof(RfDigest));

	digest->callback.func = release_digest;
	digest->callback.arg = digest;
	MemoryContextRegisterResetCallback(mcxt, &digest->callback);
	digest->context = EVP_MD_CTX_new();
	if (digest->context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1)
		elog(ERROR, "could not set up SHA-256");
	return digest;
}

static void
check(int result)
{
	if (result != 1)
		elog(ERROR, "could not compute SHA-256");
}

/* SHA-256 of what comes in pieces. A new beginning forgets what was added. */
void
rf_digest_begin(RfDigest *digest)
{
	check(EVP_DigestInit_ex(digest->context, NULL, NULL));
}

void
rf_digest_add(RfDigest *digest, const void *data, size_t len)
{
	check(EVP_DigestUpdate(digest->context, data, len));
}

/* With its length before it, so that two fields can't pass for two others. */
void
rf_digest_field(RfDigest *digest, const void *data, size_t len)
{
	uint32		prefix = pg_hton32((uint32) len);

	rf_digest_add(digest, &prefix, sizeof(prefix));
	rf_digest_add(digest, data, len);
}

void
rf_digest_string(RfDigest *digest, const char *string)
{
	rf_digest_field(digest, string, strlen(string));
}

void
rf_digest_end(RfDigest *digest, RfHash *hash)
{
	check(EVP_DigestFinal_ex(digest->context, hash->data, NULL));
}

/* SHA-256 of some bytes. "hash" may lie within them. */
void
rf_digest(RfDigest *digest, const void *data, size_t len, RfHash *hash)
{
	rf_digest_begin(digest);
	rf_digest_add(digest, data, len);
	rf_digest_end(digest, hash);
}
