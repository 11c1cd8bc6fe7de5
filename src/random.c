/*
 * random.c: random bytes in small pieces.
 *
 * A call of the generator costs more than an identifier is worth, so bytes are
 * drawn by the pool and handed out once; what was handed out is wiped here. A
 * backend draws its first pool after it was forked, so that no two share one.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "miscadmin.h"

#include "ringfence.h"

#define POOL_BYTES 1024

/* Bytes not handed out yet, at the end of the pool; of this process alone. */
static struct
{
	int			pid;
	size_t		left;
	unsigned char bytes[POOL_BYTES];
}			pool;

/* Fills "bytes" (at most POOL_BYTES). Throws if no random bytes can be had. */
void
rf_random(void *bytes, size_t len)
{
	Assert(len <= POOL_BYTES);
	if (pool.left < len || pool.pid != MyProcPid)
	{
		pool.left = 0;
		if (!pg_strong_random(pool.bytes, POOL_BYTES))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		pool.left = POOL_BYTES;
		pool.pid = MyProcPid;
	}
	pool.left -= len;
	memcpy(bytes, pool.bytes + pool.left, len);
	OPENSSL_cleanse(pool.bytes + pool.left, len);
}
