/*
 * digest.h: SHA-256; see digest.c.
 */
#ifndef RINGFENCE_DIGEST_H
#define RINGFENCE_DIGEST_H

#define RF_HASH_BYTES 32

typedef struct RfHash
{
	unsigned char data[RF_HASH_BYTES];
} RfHash;

typedef struct RfDigest RfDigest;

extern RfDigest *rf_digest_create(MemoryContext mcxt);
extern void rf_digest_begin(RfDigest *digest);
extern void rf_digest_add(RfDigest *digest, const void *data, size_t len);
extern void rf_digest_field(RfDigest *digest, const void *data, size_t len);
extern void rf_digest_string(RfDigest *digest, const char *string);
extern void rf_digest_end(RfDigest *digest, RfHash *hash);
extern void rf_digest(RfDigest *digest, const void *data, size_t len,
					  RfHash *hash);

#endif							/* RINGFENCE_DIGEST_H */
