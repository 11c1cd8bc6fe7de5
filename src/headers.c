/*
 * headers.c: the headers of the request, as far as anybody here asks for them.
 *
 * PostgREST gives them as one JSON object, and several rooms ask for one or the
 * other. So it is parsed once, and what is of interest in it is kept, for as
 * long as the transaction and the setting are the same: the setting is known
 * again by its length and hash, for a copy would be one of the bearer token.
 *
 * Headers are the caller's word and decide nothing about who they are.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "ringfence.h"

static const char *const names[RF_HEADERS] = {
	[RF_HEADER_CORRELATION_ID] = "x-correlation-id",
	[RF_HEADER_FORWARDED_FOR] = "x-forwarded-for",
	[RF_HEADER_IDEMPOTENCY_KEY] = "idempotency-key",
	[RF_HEADER_REASON] = "x-reason",
	[RF_HEADER_REQUEST_ID] = "x-request-id",
	[RF_HEADER_SESSION_KEY] = "x-session-key",
	[RF_HEADER_TRACEPARENT] = "traceparent",
	[RF_HEADER_USER_AGENT] = "user-agent",
};

/* What was parsed last; the values are in header_mcxt. */
static struct
{
	bool		valid;
	uint64		transaction;
	size_t		length;			/* of the setting */
	uint64		hash;
	bool		unreadable;		/* it is no JSON object, or too long */
	char	   *values[RF_HEADERS];
}			parsed;
static MemoryContext header_mcxt = NULL;

static void
parse(const char *setting, size_t length, uint64 hash)
{
	MemoryContext old;

	parsed.valid = false;
	MemoryContextReset(header_mcxt);
	old = MemoryContextSwitchTo(header_mcxt);
	parsed.unreadable = !rf_json_fields(setting, length, GetDatabaseEncoding(),
										RF_HEADERS, names, parsed.values);
	MemoryContextSwitchTo(old);
	parsed.transaction = rf_context_transaction();
	parsed.length = length;
	parsed.hash = hash;
	parsed.valid = true;
}

/* Has the setting parsed; NULL if there is none. */
static const char *
read_headers(void)
{
	const char *setting = GetConfigOption("request.headers", true, false);
	size_t		length;
	uint64		hash;

	if (setting == NULL || *setting == '\0')
		return NULL;
	length = strlen(setting);
	hash = hash_bytes_extended((const unsigned char *) setting, length, 0);
	if (!parsed.valid || parsed.transaction != rf_context_transaction() ||
		parsed.length != length || parsed.hash != hash)
		parse(setting, length, hash);
	return setting;
}

/* The value of a header, palloc'd; NULL if the request has none, or there is none. */
char *
rf_request_header(RfHeader header)
{
	if (read_headers() == NULL || parsed.values[header] == NULL)
		return NULL;
	return pstrdup(parsed.values[header]);
}

/* Are there headers that can't be read, of which this may be one? */
bool
rf_request_headers_unread(const char *name)
{
	const char *setting = read_headers();

	return setting != NULL && parsed.unreadable &&
		strstr(setting, name) != NULL;
}

/* Makes room for the values. Called once, from _PG_init. */
void
rf_headers_init(void)
{
	header_mcxt = AllocSetContextCreate(TopMemoryContext,
										"ringfence request headers",
										ALLOCSET_SMALL_SIZES);
}
