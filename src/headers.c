/*
 * headers.c: what PostgREST says of the request.
 *
 * It gives the headers as one JSON object, and several rooms ask for one or the
 * other. So it is parsed once, and what is of interest in it is kept, for as
 * long as the transaction and the setting are the same: the setting is known
 * again by its length and hash, for a copy would be one of the bearer token.
 *
 * All this is the caller's word and decides nothing about who they are.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "idempotency.h"
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

static const char *
setting_or_empty(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value != NULL ? value : "";
}

/* Has the setting parsed; NULL if there is none. */
static const char *
read_headers(void)
{
	const char *setting = setting_or_empty("request.headers");
	size_t		length;
	uint64		hash;

	if (*setting == '\0')
		return NULL;
	length = strlen(setting);
	hash = hash_bytes_extended((const unsigned char *) setting, length, 0);
	if (!parsed.valid || parsed.transaction != rf_context_transaction() ||
		parsed.length != length || parsed.hash != hash)
		parse(setting, length, hash);
	return setting;
}

/* Values of headers, palloc'd; NULL for those that the request hasn't got. */
void
rf_request_headers(int n, const RfHeader *headers, char **values)
{
	bool		any = read_headers() != NULL;

	for (int i = 0; i < n; i++)
	{
		const char *value = any ? parsed.values[headers[i]] : NULL;

		values[i] = value != NULL ? pstrdup(value) : NULL;
	}
}

char *
rf_request_header(RfHeader header)
{
	char	   *value;

	rf_request_headers(1, &header, &value);
	return value;
}

/* Are there headers that can't be read, of which this may be one? */
bool
rf_request_header_unread(RfHeader header)
{
	const char *setting = read_headers();

	return setting != NULL && parsed.unreadable &&
		strstr(setting, names[header]) != NULL;
}

/* GET, POST and so on; empty outside a request. Owned by guc.c. */
const char *
rf_request_method(void)
{
	return setting_or_empty("request.method");
}

/* The path, without the query, palloc'd; decoded where that makes text. */
const char *
rf_request_path(void)
{
	const char *raw = setting_or_empty("request.path");
	char	   *path = pstrdup(raw);

	rf_path_decode(path);
	return pg_verifymbstr(path, strlen(path), true) ? path : pstrdup(raw);
}

bool
rf_request_has_headers(void)
{
	return *setting_or_empty("request.headers") != '\0';
}

/* Makes room for the values. Called once, from _PG_init. */
void
rf_headers_init(void)
{
	header_mcxt = AllocSetContextCreate(TopMemoryContext,
										"ringfence request headers",
										ALLOCSET_SMALL_SIZES);
}
