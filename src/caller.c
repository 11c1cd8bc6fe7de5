/*
 * caller.c: the context as SQL functions.
 *
 * Policies call these for every row, so they read the pinned identity and
 * nothing else. has_role() remembers its answer in the call site, as long as
 * its argument is a constant and the pin is the same one. A parameter would not
 * do: a function's expression is evaluated with other values in the same place.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "compat.h"
#include "idempotency.h"
#include "ringfence.h"

PG_FUNCTION_INFO_V1(ringfence_org_id);
PG_FUNCTION_INFO_V1(ringfence_user_id);
PG_FUNCTION_INFO_V1(ringfence_has_role);
PG_FUNCTION_INFO_V1(ringfence_party_id);
PG_FUNCTION_INFO_V1(ringfence_actor);
PG_FUNCTION_INFO_V1(ringfence_context);
PG_FUNCTION_INFO_V1(ringfence_narrowed);
PG_FUNCTION_INFO_V1(ringfence_expires_at);
PG_FUNCTION_INFO_V1(ringfence_request_id);
PG_FUNCTION_INFO_V1(ringfence_client_ip);
PG_FUNCTION_INFO_V1(ringfence_pre_request);
PG_FUNCTION_INFO_V1(ringfence_set_context);
PG_FUNCTION_INFO_V1(ringfence_begin_org);
PG_FUNCTION_INFO_V1(ringfence_find_org);

/* What one call site of has_role() answered; in its fn_mcxt. */
typedef struct RoleCache
{
	uint64		generation;
	bool		result;
} RoleCache;

/* This transaction's request id; stale once that has ended. */
static struct
{
	uint64		transaction;
	char		id[RF_REQUEST_ID_BYTES];
}			request;

/* ringfence.trusted_proxies */
static int	trusted_proxies = 0;

/*
 * A copy that lives as long as the call site: the argument of a procedure
 * outlives the transaction, whose end resets the pin's memory, and a palloc for
 * each row costs a sequential scan a tenth. An older copy is never overwritten,
 * for its pointer may be in use.
 */
static Datum
uuid_result(FmgrInfo *flinfo, const RfUuid *uuid)
{
	RfUuid	   *copy = flinfo->fn_extra;

	if (copy == NULL || memcmp(copy, uuid, sizeof(*copy)) != 0)
	{
		copy = MemoryContextAlloc(flinfo->fn_mcxt, sizeof(*copy));
		*copy = *uuid;
		flinfo->fn_extra = copy;
	}
	return UUIDPGetDatum((pg_uuid_t *) copy);
}

Datum
ringfence_org_id(PG_FUNCTION_ARGS)
{
	const RfIdentity *identity = rf_context();

	if (!identity->has_org)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(uuid_result(fcinfo->flinfo, &identity->org));
}

Datum
ringfence_user_id(PG_FUNCTION_ARGS)
{
	const RfIdentity *identity = rf_context();

	if (!identity->has_user)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(uuid_result(fcinfo->flinfo, &identity->user));
}

static bool
has_any_role(const RfGrants *grants, ArrayType *roles)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(roles, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *role;

		if (nulls[i])
			continue;
		role = TextDatumGetCString(elements[i]);
		for (int j = 0; j < grants->nroles; j++)
			if (strcmp(role, grants->roles[j]) == 0)
				return true;
	}
	return false;
}

static bool
argument_is_constant(const FmgrInfo *flinfo)
{
	FuncExpr   *call = (FuncExpr *) flinfo->fn_expr;

	return call != NULL && IsA(call, FuncExpr) &&
		list_length(call->args) == 1 && IsA(linitial(call->args), Const);
}

Datum
ringfence_has_role(PG_FUNCTION_ARGS)
{
	const RfIdentity *identity = rf_context();
	RoleCache  *cache = fcinfo->flinfo->fn_extra;
	bool		result;

	if (identity->grants.nroles == 0)
		PG_RETURN_BOOL(false);
	if (cache != NULL && cache->generation == rf_context_generation())
		PG_RETURN_BOOL(cache->result);

	result = has_any_role(&identity->grants, PG_GETARG_ARRAYTYPE_P(0));
	if (argument_is_constant(fcinfo->flinfo))
	{
		if (cache == NULL)
			cache = fcinfo->flinfo->fn_extra =
				MemoryContextAlloc(fcinfo->flinfo->fn_mcxt,
								   sizeof(RoleCache));
		cache->generation = rf_context_generation();
		cache->result = result;
	}
	PG_RETURN_BOOL(result);
}

Datum
ringfence_party_id(PG_FUNCTION_ARGS)
{
	const RfIdentity *identity = rf_context();
	text	   *kind = PG_GETARG_TEXT_PP(0);
	size_t		len = VARSIZE_ANY_EXHDR(kind);

	for (int i = 0; i < identity->grants.nparties; i++)
	{
		const RfParty *party = &identity->grants.parties[i];

		if (strlen(party->kind) == len &&
			memcmp(party->kind, VARDATA_ANY(kind), len) == 0)
		{
			RfUuid	   *id = palloc(sizeof(RfUuid));

			*id = party->id;
			PG_RETURN_UUID_P((pg_uuid_t *) id);
		}
	}
	PG_RETURN_NULL();
}

Datum
ringfence_actor(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(rf_actor_name(rf_context()->actor)));
}

/*
 * The identity as jsonb: the pin's own form, which is that of claims, with the
 * names that the functions have.
 */
Datum
ringfence_context(PG_FUNCTION_ARGS)
{
	const char *json = rf_context_serialize(rf_context());

	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

Datum
ringfence_narrowed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(rf_context()->narrowed);
}

/* When the token behind the context ends; NULL where there is none. */
Datum
ringfence_expires_at(PG_FUNCTION_ARGS)
{
	double		expires = rf_context()->expires;

	if (expires <= 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(DirectFunctionCall1(float8_timestamptz,
										Float8GetDatum(expires)));
}

/* Would we repeat this in a log line or a header? */
static bool
plausible_request_id(const char *id)
{
	size_t		len = strlen(id);

	return len > 0 && len < RF_REQUEST_ID_BYTES &&
		strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			   "0123456789._:/+=-") == len;
}

/* This transaction's request id: the header's if that will do, or a new one. */
const char *
rf_request_id(void)
{
	const char *header;
	RfUuid		uuid;

	(void) rf_context();
	if (request.transaction == rf_context_transaction())
		return request.id;

	header = rf_request_header(RF_HEADER_REQUEST_ID);
	if (header == NULL || !plausible_request_id(header))
	{
		rf_uuid7(&uuid);
		header = rf_uuid_text(&uuid);
	}
	strlcpy(request.id, header, sizeof(request.id));
	request.transaction = rf_context_transaction();
	return request.id;
}

Datum
ringfence_request_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(rf_request_id()));
}

/*
 * The nth address from the right of a comma-separated list, trimmed, in
 * "list" itself; NULL if there are fewer.
 */
static char *
nth_from_right(char *list, int n)
{
	char	   *item = NULL;

	do
	{
		char	   *comma;

		if (item == list)
			return NULL;
		comma = strrchr(list, ',');
		item = comma == NULL ? list : comma + 1;
		if (comma != NULL)
			*comma = '\0';
	} while (--n > 0);
	while (*item == ' ' || *item == '\t')
		item++;
	for (size_t len = strlen(item);
		 len > 0 && (item[len - 1] == ' ' || item[len - 1] == '\t'); len--)
		item[len - 1] = '\0';
	return item;
}

/* Is it an address that inet_in() takes without an error? */
static bool
plausible_address(const char *address)
{
	unsigned char buf[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, address, buf) == 1 ||
		inet_pton(AF_INET6, address, buf) == 1;
}

/*
 * The caller's address, an inet; false if it has none or it isn't known. It is
 * the connection's own, or, where proxies that append to x-forwarded-for are
 * trusted, the entry that the outermost of them made.
 */
bool
rf_client_ip(Datum *address)
{
	LOCAL_FCINFO(connection, 0);

	if (trusted_proxies > 0)
	{
		char	   *header = rf_request_header(RF_HEADER_FORWARDED_FOR);
		char	   *entry = NULL;

		if (header != NULL)
			entry = nth_from_right(header, trusted_proxies);
		if (entry == NULL || !plausible_address(entry))
			return false;
		*address = DirectFunctionCall1(inet_in, CStringGetDatum(entry));
		return true;
	}

	InitFunctionCallInfoData(*connection, NULL, 0, InvalidOid, NULL, NULL);
	*address = inet_client_addr(connection);
	return !connection->isnull;
}

Datum
ringfence_client_ip(PG_FUNCTION_ARGS)
{
	Datum		address;

	if (!rf_client_ip(&address))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(address);
}

/*
 * PostgREST's db-pre-request. Claims under a login role that may not bring any
 * are a mistake in the set-up more often than an attack: it is worth a line in
 * the log, while the request goes on as nobody's.
 */
Datum
ringfence_pre_request(PG_FUNCTION_ARGS)
{
	const RfIdentity *identity = rf_context();
	const char *claims = GetConfigOption("request.jwt.claims", true, false);

	(void) rf_request_id();
	rf_idempotency_arm();
	if (identity->actor == RF_ACTOR_ANONYMOUS && claims != NULL &&
		*claims != '\0' && !rf_session_is(RF_ROLE_AUTHENTICATOR))
		ereport(WARNING,
				(errmsg("claims were ignored because login role \"%s\" is not a member of role \"%s\"",
						GetUserNameFromId(GetSessionUserId(), false),
						RF_ROLE_AUTHENTICATOR)));
	PG_RETURN_VOID();
}

/* For superusers: a context without claims, also in place of an earlier one. */
Datum
ringfence_set_context(PG_FUNCTION_ARGS)
{
	RfIdentity	identity;

	if (!superuser() || !superuser_arg(GetSessionUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set the context"),
				 errdetail("Only a superuser's own session may set it without a token.")));

	memset(&identity, 0, sizeof(identity));
	identity.actor = RF_ACTOR_SYSTEM;
	if (!PG_ARGISNULL(0))
	{
		identity.has_org = true;
		memcpy(&identity.org, PG_GETARG_UUID_P(0), sizeof(RfUuid));
	}
	if (!PG_ARGISNULL(1))
	{
		identity.actor = RF_ACTOR_USER;
		identity.has_user = true;
		memcpy(&identity.user, PG_GETARG_UUID_P(1), sizeof(RfUuid));
	}
	if ((!PG_ARGISNULL(2) &&
		 !rf_grants_read_roles(PG_GETARG_DATUM(2), &identity.grants)) ||
		(!PG_ARGISNULL(3) &&
		 !rf_grants_read_parties(PG_GETARG_DATUM(3), &identity.grants)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("roles or party are malformed"),
				 errdetail("Roles are at most %d names, parties at most %d pairs of a kind and a UUID.",
						   RF_MAX_ROLES, RF_MAX_PARTIES)));
	rf_context_override(&identity);
	PG_RETURN_VOID();
}

/*
 * Fixes the context to an org that does not exist yet, so that the code which
 * makes one can write its first rows under the same policies as everybody.
 * EXECUTE is ringfence_owner's alone.
 */
Datum
ringfence_begin_org(PG_FUNCTION_ARGS)
{
	RfIdentity	identity = *rf_context();

	if (rf_directory_org((RfUuid *) PG_GETARG_UUID_P(0)) != RF_ORG_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot begin an organization that exists")));
	memset(&identity.grants, 0, sizeof(identity.grants));
	if (identity.actor == RF_ACTOR_ANONYMOUS)
		identity.actor = RF_ACTOR_SYSTEM;
	identity.has_org = true;
	memcpy(&identity.org, PG_GETARG_UUID_P(0), sizeof(RfUuid));
	rf_context_replace(&identity);
	PG_RETURN_VOID();
}

/*
 * The id of the organization of that name, for operators: row security shows
 * them none before they have entered it.
 */
Datum
ringfence_find_org(PG_FUNCTION_ARGS)
{
	RfUuid	   *org = palloc(sizeof(RfUuid));

	if (!rf_directory_find_org(PG_GETARG_DATUM(0), org))
		PG_RETURN_NULL();
	PG_RETURN_UUID_P((pg_uuid_t *) org);
}

void
rf_caller_init(void)
{
	DefineCustomIntVariable("ringfence.trusted_proxies",
							"Number of trusted proxies that append to x-forwarded-for.",
							"Zero takes the address of the connection.",
							&trusted_proxies, 0, 0, 16, PGC_SUSET,
							GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
}
