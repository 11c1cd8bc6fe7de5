/*
 * fuzz_idempotency.c: what a header gives as a key is a key, however it is
 * written; a path never grows when it is decoded; a record is read no further
 * than it goes.
 */
#include "postgres_fe.h"

#include "idempotency.h"
#include "memory.h"

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static void
require(bool holds)
{
	if (!holds)
		abort();
}

/* As a string of RFC 8941. */
static char *
quote(const char *key)
{
	char	   *quoted = pg_malloc(2 * strlen(key) + 3);
	char	   *out = quoted;

	*out++ = '"';
	for (const char *c = key; *c != '\0'; c++)
	{
		if (*c == '"' || *c == '\\')
			*out++ = '\\';
		*out++ = *c;
	}
	*out++ = '"';
	*out = '\0';
	return quoted;
}

/* Without the blanks around it. */
static char *
trim(const char *value)
{
	char	   *trimmed = pg_strdup(value + strspn(value, " \t"));
	size_t		len = strlen(trimmed);

	while (len > 0 && strchr(" \t", trimmed[len - 1]) != NULL)
		trimmed[--len] = '\0';
	return trimmed;
}

static void
check_key(const char *value)
{
	char	   *key = pg_malloc(RF_MAX_IDEMPOTENCY_KEY + 1);
	char	   *again = pg_malloc(RF_MAX_IDEMPOTENCY_KEY + 1);
	char	   *header = trim(value);
	bool		quoted = *header == '"';

	if (!rf_key_parse(value, key))
	{
		require(quoted || !rf_key_valid(header));
		return;
	}
	require(strlen(key) > 0 && strlen(key) <= RF_MAX_IDEMPOTENCY_KEY);
	require(rf_key_valid(key));
	for (const char *c = key; *c != '\0'; c++)
		require((unsigned char) *c >= ' ' && *c != 0x7f);
	require(quoted || strcmp(key, header) == 0);
	require(!quoted || strcmp(quote(key), header) == 0);
	require(rf_key_parse(quote(key), again) && strcmp(key, again) == 0);
}

static void
check_path(const char *path)
{
	char	   *decoded = pg_strdup(path);
	size_t		len = strlen(path);

	rf_path_decode(decoded);
	require(strlen(decoded) <= len && (len - strlen(decoded)) % 2 == 0);
	require(strchr(path, '%') != NULL || strcmp(path, decoded) == 0);
	require(strlen(decoded) < len || strcmp(path, decoded) == 0);
}

/* The reader against what it must give; "how" says what to ask it for. */
static void
check_reader(const uint8 *how, size_t nsteps, const uint8 *data, size_t size)
{
	RfReader	reader = {data, data + size};
	size_t		at = 0;

	for (size_t step = 0; step < nsteps; step++)
	{
		uint32		len = how[step] < 2 ? 4 - 2 * how[step] : how[step] - 2;
		bool		fits = !reader.failed && len <= size - at;

		if (how[step] < 2)
		{
			uint32		expected = 0;

			for (uint32 i = 0; fits && i < len; i++)
				expected = expected << 8 | data[at + i];
			require((how[step] == 0 ? rf_read_u32(&reader) :
					 rf_read_u16(&reader)) == expected);
		}
		else
			require(rf_read_bytes(&reader, len) ==
					(fits ? (const char *) data + at : NULL));
		require(reader.failed == !fits);
		at += fits ? len : 0;
	}
}

/* Values with their lengths before them, as a record has them. */
static void
check_record(const uint8 *data, size_t size)
{
	RfReader	reader = {data, data + size};
	char	   *copy = pg_malloc(size);

	while (!reader.failed)
	{
		uint32		len = rf_read_u32(&reader);
		const char *bytes = rf_read_bytes(&reader, len);

		require((bytes == NULL) == reader.failed);
		if (bytes != NULL)
			memcpy(copy, bytes, len);
	}
	require(rf_read_u32(&reader) == 0 && rf_read_u16(&reader) == 0 &&
			rf_read_bytes(&reader, 0) == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	RfReader	none = {NULL};
	uint8	   *bytes = pg_malloc(size);
	char	   *string;

	require(rf_read_bytes(&none, 1) == NULL && none.failed);
	if (size > 0)
		memcpy(bytes, data, size);
	check_reader(data, size / 2, bytes, size);
	check_record(bytes, size);

	/* No longer than its characters, so that a step past its end is seen. */
	string = pnstrdup((char *) bytes, size);
	check_key(string);
	check_path(string);
	memory_reset();
	return 0;
}
