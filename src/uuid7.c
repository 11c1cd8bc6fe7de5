/*
 * uuid7.c: time-ordered identifiers (RFC 9562, version 7).
 *
 * 48 bits of milliseconds, 12 bits of the millisecond's fraction, 62 random
 * bits. Within one backend each value is greater than the one before, whatever
 * the clock does: the time used is at least one step past the last. Backends
 * don't share a state, so between them the order is the clock's.
 */
#include "postgres.h"

#include <time.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "ringfence.h"

/* The finest time that 12 bits of fraction can tell apart, in nanoseconds. */
#define STEP_NS (1000000 / 4096 + 1)
#define NS_PER_MS INT64CONST(1000000)

PG_FUNCTION_INFO_V1(ringfence_uuid7);
PG_FUNCTION_INFO_V1(ringfence_uuid7_time);

/* Makes the next identifier. May throw only if no random bytes can be had. */
void
rf_uuid7(RfUuid *uuid)
{
	static int64 last_ns = 0;	/* of this backend; never reset */
	struct timespec now;
	int64		ns;
	uint64		ms;
	uint32		fraction;

	clock_gettime(CLOCK_REALTIME, &now);
	ns = (int64) now.tv_sec * INT64CONST(1000000000) + now.tv_nsec;
	if (ns < last_ns + STEP_NS)
		ns = last_ns + STEP_NS;
	last_ns = ns;

	rf_random(&uuid->data[8], 8);
	ms = (uint64) (ns / NS_PER_MS);
	fraction = (uint32) ((ns % NS_PER_MS) * 4096 / NS_PER_MS);
	for (int i = 0; i < 6; i++)
		uuid->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	uuid->data[6] = (unsigned char) (0x70 | fraction >> 8);
	uuid->data[7] = (unsigned char) fraction;
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
}

/* The time in an identifier, in microseconds. */
TimestampTz
rf_uuid7_time(const RfUuid *uuid)
{
	uint64		ms = 0;
	uint32		fraction;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | uuid->data[i];
	fraction = (uint32) (uuid->data[6] & 0x0f) << 8 | uuid->data[7];
	return (TimestampTz) (ms * 1000 + fraction * 1000 / 4096) -
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/* The 36-character form, palloc'd. */
char *
rf_uuid_text(const RfUuid *uuid)
{
	static const char hex[] = "0123456789abcdef";
	char	   *result = palloc(RF_UUID_TEXT + 1);
	char	   *p = result;

	for (int i = 0; i < RF_UUID_BYTES; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[uuid->data[i] >> 4];
		*p++ = hex[uuid->data[i] & 0x0f];
	}
	*p = '\0';
	return result;
}

Datum
ringfence_uuid7(PG_FUNCTION_ARGS)
{
	RfUuid	   *uuid = palloc(sizeof(RfUuid));

	rf_uuid7(uuid);
	PG_RETURN_UUID_P((pg_uuid_t *) uuid);
}

/* uuid7_time(id uuid): NULL for one of another version. */
Datum
ringfence_uuid7_time(PG_FUNCTION_ARGS)
{
	const RfUuid *uuid = (const RfUuid *) PG_GETARG_UUID_P(0);

	if (uuid->data[6] >> 4 != 7)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(rf_uuid7_time(uuid));
}
