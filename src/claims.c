/*
 * claims.c: reads what a caller says of itself, and never raises an error.
 *
 * Claims, token headers and request headers are JSON from outside. Whatever is
 * wrong with them means "nothing was said", so that a malformed claim can't
 * take an anonymous read down with it. PostgreSQL's own JSON lexer does the
 * reading; what it may still raise (nesting too deep for the stack, an escape
 * that the database's encoding lacks) is refused before it sees it.
 *
 * The file is also built outside the server, where palloc is malloc, so that a
 * fuzzer and the address sanitizer see every byte. Memory is the caller's
 * current context; nothing is freed here.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <ctype.h>
#include <math.h>

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "compat.h"
#include "ringfence.h"

typedef enum JsonKind
{
	KIND_STRING,
	KIND_NUMBER,
	KIND_LITERAL,				/* true, false, null */
	KIND_OBJECT,
	KIND_ARRAY,
} JsonKind;

/*
 * Gets each value of the root object and each value one level below it:
 * "field" is the root's field, "inner" the field within that (NULL when the
 * value is the root's own or an array's element), "depth" 1 or 2. False means
 * that the whole text is malformed.
 */
typedef bool (*JsonSink) (void *arg, int depth, const char *field,
						  const char *inner, JsonKind kind, const char *value);

typedef struct JsonScan
{
	JsonSink	sink;
	void	   *arg;
	int			depth;			/* containers open now */
	bool		root_is_object;
	bool		failed;
	char	   *field;			/* the field of the root we are in */
	char	   *inner;			/* the field of the container below it */
} JsonScan;

static void
emit(JsonScan *scan, JsonKind kind, const char *value)
{
	if (scan->failed || scan->field == NULL ||
		scan->depth < 1 || scan->depth > 2)
		return;
	if (!scan->sink(scan->arg, scan->depth, scan->field,
					scan->depth == 2 ? scan->inner : NULL, kind, value))
		scan->failed = true;
}

static RF_JSON_ACTION
object_start(void *state)
{
	JsonScan   *scan = state;

	if (scan->depth == 0)
		scan->root_is_object = true;
	else
		emit(scan, KIND_OBJECT, NULL);
	scan->depth++;
	if (scan->depth == 2)
		scan->inner = NULL;
	RF_JSON_ACTION_RETURN;
}

static RF_JSON_ACTION
array_start(void *state)
{
	JsonScan   *scan = state;

	emit(scan, KIND_ARRAY, NULL);
	scan->depth++;
	if (scan->depth == 2)
		scan->inner = NULL;
	RF_JSON_ACTION_RETURN;
}

static RF_JSON_ACTION
container_end(void *state)
{
	JsonScan   *scan = state;

	scan->depth--;
	RF_JSON_ACTION_RETURN;
}

static RF_JSON_ACTION
field_start(void *state, char *fname, bool isnull)
{
	JsonScan   *scan = state;

	(void) isnull;
	if (scan->depth == 1)
		scan->field = fname;
	else if (scan->depth == 2)
		scan->inner = fname;
	RF_JSON_ACTION_RETURN;
}

static RF_JSON_ACTION
scalar(void *state, char *token, JsonTokenType type)
{
	JsonScan   *scan = state;

	if (type == JSON_TOKEN_STRING)
		emit(scan, KIND_STRING, token);
	else if (type == JSON_TOKEN_NUMBER)
		emit(scan, KIND_NUMBER, token);
	else
		emit(scan, KIND_LITERAL, token);
	RF_JSON_ACTION_RETURN;
}

/*
 * Could the lexer do worse than return an error? Counts brackets outside
 * strings, and looks for \u where the server would have to convert it.
 */
static bool
safe_to_lex(const char *json, size_t len, int encoding)
{
	bool		in_string = false;
	int			depth = 0;

	for (size_t i = 0; i < len; i++)
	{
		char		c = json[i];

		if (c == '\0')
			return false;
		if (in_string)
		{
			if (c == '\\')
			{
				i++;
				if (i < len && json[i] == 'u' && encoding != PG_UTF8)
					return false;
			}
			else if (c == '"')
				in_string = false;
		}
		else if (c == '"')
			in_string = true;
		else if (c == '{' || c == '[')
		{
			if (++depth > RF_MAX_NESTING)
				return false;
		}
		else if (c == '}' || c == ']')
			depth--;
	}
	return true;
}

static bool
json_scan(const char *json, size_t len, size_t limit, int encoding,
		  JsonSink sink, void *arg)
{
	JsonScan	scan = {0};
	JsonSemAction sem = {0};
	JsonLexContext *lex;

	if (len == 0 || len > limit || !safe_to_lex(json, len, encoding))
		return false;

	scan.sink = sink;
	scan.arg = arg;
	sem.semstate = &scan;
	sem.object_start = object_start;
	sem.object_end = container_end;
	sem.array_start = array_start;
	sem.array_end = container_end;
	sem.object_field_start = field_start;
	sem.scalar = scalar;

	lex = rf_json_lexer(json, (int) len, encoding);
	if (pg_parse_json(lex, &sem) != JSON_SUCCESS)
		return false;
	return scan.root_is_object && !scan.failed;
}

/* The value of a hexadecimal digit, or -1. */
int
rf_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The 36-character form only: uuid_in()'s other spellings raise errors. */
bool
rf_uuid_parse(const char *string, RfUuid *uuid)
{
	int			n = 0;

	if (string == NULL || strlen(string) != RF_UUID_TEXT)
		return false;
	for (int i = 0; i < RF_UUID_TEXT;)
	{
		int			high;
		int			low;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (string[i++] != '-')
				return false;
			continue;
		}
		high = rf_hex_digit(string[i]);
		low = rf_hex_digit(string[i + 1]);
		if (high < 0 || low < 0)
			return false;
		uuid->data[n++] = (unsigned char) (high << 4 | low);
		i += 2;
	}
	return true;
}

/* A number of seconds since 1970, finite, as RFC 7519 wants it. */
static bool
numeric_date(JsonKind kind, const char *value, double *date)
{
	if (kind != KIND_NUMBER)
		return false;
	*date = strtod(value, NULL);
	return isfinite(*date) != 0;
}

static bool
copy_name(char *target, const char *value)
{
	size_t		len = strlen(value);

	if (len == 0 || len >= RF_NAME_BYTES)
		return false;
	memcpy(target, value, len + 1);
	return true;
}

static bool
claims_roles(RfClaims *claims, int depth, const char *inner, JsonKind kind,
			 const char *value)
{
	RfGrants   *grants = &claims->grants;

	if (depth == 1)
	{
		if (claims->has_roles || kind != KIND_ARRAY)
			return false;
		claims->has_roles = true;
		return true;
	}
	return inner == NULL && kind == KIND_STRING &&
		grants->nroles < RF_MAX_ROLES &&
		copy_name(grants->roles[grants->nroles++], value);
}

static bool
claims_party(RfClaims *claims, int depth, const char *inner, JsonKind kind,
			 const char *value)
{
	RfGrants   *grants = &claims->grants;
	RfParty    *party;

	if (depth == 1)
	{
		if (claims->has_party || kind != KIND_OBJECT)
			return false;
		claims->has_party = true;
		return true;
	}
	if (kind == KIND_LITERAL && strcmp(value, "null") == 0)
		return true;
	if (inner == NULL || kind != KIND_STRING ||
		grants->nparties >= RF_MAX_PARTIES)
		return false;
	for (int i = 0; i < grants->nparties; i++)
		if (strcmp(grants->parties[i].kind, inner) == 0)
			return false;
	party = &grants->parties[grants->nparties++];
	return copy_name(party->kind, inner) && rf_uuid_parse(value, &party->id);
}

static bool
claims_audience(RfClaims *claims, int depth, JsonKind kind, const char *value)
{
	if (depth == 1 && kind == KIND_ARRAY)
		return claims->naudiences == 0;
	if (kind != KIND_STRING || claims->naudiences >= RF_MAX_AUDIENCES)
		return false;
	claims->audiences[claims->naudiences++] = pstrdup(value);
	return true;
}

/*
 * A claim that decides something may come once. A subject or org of another
 * form than ours (another issuer's, say) is merely nobody we know.
 */
static bool
claims_sink(void *arg, int depth, const char *field, const char *inner,
			JsonKind kind, const char *value)
{
	RfClaims   *claims = arg;

	if (strcmp(field, "roles") == 0)
		return claims_roles(claims, depth, inner, kind, value);
	if (strcmp(field, "party") == 0)
		return claims_party(claims, depth, inner, kind, value);
	if (strcmp(field, "aud") == 0)
		return claims_audience(claims, depth, kind, value);
	if (depth != 1)
		return true;

	if (strcmp(field, "sub") == 0)
	{
		if (claims->seen_user)
			return false;
		claims->seen_user = true;
		claims->has_user = kind == KIND_STRING &&
			rf_uuid_parse(value, &claims->user);
	}
	else if (strcmp(field, "org_id") == 0)
	{
		if (claims->seen_org)
			return false;
		claims->seen_org = true;
		claims->has_org = kind == KIND_STRING &&
			rf_uuid_parse(value, &claims->org);
	}
	else if (strcmp(field, "exp") == 0)
	{
		if (claims->has_exp || !numeric_date(kind, value, &claims->exp))
			return false;
		claims->has_exp = true;
	}
	else if (strcmp(field, "nbf") == 0)
	{
		if (claims->has_nbf || !numeric_date(kind, value, &claims->nbf))
			return false;
		claims->has_nbf = true;
	}
	else if (strcmp(field, "iss") == 0)
	{
		if (claims->issuer != NULL || kind != KIND_STRING)
			return false;
		claims->issuer = pstrdup(value);
	}
	else if (strcmp(field, "actor") == 0)
		return kind == KIND_STRING && copy_name(claims->actor, value);
	return true;
}

/*
 * Reads claims. False, and claims that say nothing, if the text is not a JSON
 * object or says something twice or in a form that is not its own.
 */
bool
rf_claims_parse(const char *json, size_t len, int encoding, RfClaims *claims)
{
	memset(claims, 0, sizeof(*claims));
	if (json_scan(json, len, RF_MAX_CLAIMS, encoding, claims_sink, claims))
		return true;
	memset(claims, 0, sizeof(*claims));
	return false;
}

static bool
header_sink(void *arg, int depth, const char *field, const char *inner,
			JsonKind kind, const char *value)
{
	RfTokenHeader *header = arg;

	(void) inner;
	if (strcmp(field, "crit") == 0)
		header->unsupported = true;
	if (depth != 1)
		return true;
	if (strcmp(field, "alg") == 0)
	{
		if (header->has_alg || kind != KIND_STRING)
			return false;
		header->has_alg = true;
		return copy_name(header->alg, value);
	}
	if (strcmp(field, "kid") == 0)
	{
		if (header->has_kid || kind != KIND_STRING)
			return false;
		header->has_kid = true;
		return copy_name(header->kid, value);
	}
	if (strcmp(field, "typ") == 0 &&
		(kind != KIND_STRING ||
		 (pg_strcasecmp(value, "JWT") != 0 &&
		  pg_strcasecmp(value, "at+jwt") != 0)))
		header->unsupported = true;
	return true;
}

/* Reads a token's header; false as for rf_claims_parse(). */
bool
rf_token_header_parse(const char *json, size_t len, int encoding,
					  RfTokenHeader *header)
{
	memset(header, 0, sizeof(*header));
	return json_scan(json, len, RF_MAX_CLAIMS, encoding, header_sink, header);
}

typedef struct FieldSearch
{
	int			n;
	const char *const *names;
	char	  **values;
} FieldSearch;

static bool
search_sink(void *arg, int depth, const char *field, const char *inner,
			JsonKind kind, const char *value)
{
	FieldSearch *search = arg;

	(void) inner;
	if (depth != 1 || kind != KIND_STRING)
		return true;
	for (int i = 0; i < search->n; i++)
		if (search->values[i] == NULL && strcmp(field, search->names[i]) == 0)
			search->values[i] = pstrdup(value);
	return true;
}

/*
 * The first string field of each name in the root object (palloc'd), or NULL.
 * False, and all of them NULL, if that is no object we read.
 */
bool
rf_json_fields(const char *json, size_t len, int encoding, int n,
			   const char *const *names, char **values)
{
	FieldSearch search = {n, names, values};

	memset(values, 0, n * sizeof(*values));
	if (json_scan(json, len, RF_MAX_HEADERS, encoding, search_sink, &search))
		return true;
	memset(values, 0, n * sizeof(*values));
	return false;
}
