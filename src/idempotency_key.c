/*
 * idempotency_key.c: whose a key is, and who has it now.
 *
 * A key belongs to an organization, a caller and an endpoint: its id is half the
 * digest of them all, so that no search can meet another's. The caller is the
 * user; without one, the login role of a connection of one's own, the subject
 * of the token, or the session that an anonymous client names in X-Session-Key.
 * Anonymous clients that name none can't be told apart: there what was sent is
 * part of the id, so that a stranger's key is met by nobody who doesn't send the
 * very same.
 *
 * Two with the same id wait for one another by a lock that ends with the
 * transaction, after its record can be seen. It is an advisory lock of a kind
 * that SQL has no function for.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "idempotency.h"

/* SQL's own advisory locks have 1 and 2 there. */
#define LOCK_KIND 0x5246

/* ringfence.idempotency_wait */
static int	longest_wait = 5000;

static RfDigest *digest = NULL;

/*
 * Begins the use of a key, at the request's endpoint if there is a request. The
 * strings live as long as the memory context that is current.
 */
void
rf_key_begin(RfKeyUse *use, const char *key)
{
	memset(use, 0, sizeof(*use));
	use->key = pstrdup(key);
	use->method = pstrdup(rf_request_method());
	use->in_request = *use->method != '\0';
	use->path = use->in_request ? rf_request_path() : "";
	use->identity = rf_context_peek();
}

/*
 * What tells tokens apart that name no user: their subject; or, without one,
 * all that isn't of this token alone.
 */
static bool
add_claims(void)
{
	static const char *const subject[] = {"iss", "sub", "org_id"};
	static const char *const passing[] = {"exp", "iat", "nbf", "jti"};
	const char *claims = rf_context_claims();
	char	   *values[lengthof(subject)];
	Datum		others;

	if (*claims == '\0' || !rf_json_fields(claims, strlen(claims),
										   GetDatabaseEncoding(),
										   lengthof(subject), subject, values))
	{
		rf_digest_string(digest, claims);
		return false;
	}
	for (int i = 0; i < (int) lengthof(subject); i++)
		rf_digest_string(digest, values[i] != NULL ? values[i] : "");
	if (values[1] != NULL && *values[1] != '\0')
		return true;
	others = DirectFunctionCall1(jsonb_in, CStringGetDatum(claims));
	for (int i = 0; i < (int) lengthof(passing); i++)
		others = DirectFunctionCall2(jsonb_delete, others,
									 CStringGetTextDatum(passing[i]));
	rf_digest_string(digest, JsonbToCString(NULL, &DatumGetJsonbP(others)->root,
											0));
	return false;
}

static void
add_stranger(const RfKeyUse *use)
{
	const char *session;

	rf_digest_string(digest, "claims");
	if (add_claims())
		return;
	session = rf_request_header(RF_HEADER_SESSION_KEY);
	if (session != NULL && *session != '\0')
	{
		rf_digest_string(digest, "session");
		rf_digest_string(digest, session);
		return;
	}
	rf_digest_string(digest, "anonymous");
	rf_digest_field(digest, &use->fingerprint, sizeof(RfHash));
}

/*
 * Whose the key is. A request's user and organization are those of its claims,
 * known or not: the first request of a new user or member may be the one that
 * makes them known, and its repetition has to meet it.
 */
static void
add_caller(const RfKeyUse *use)
{
	const RfSubject *claimed = rf_context_subject();
	const RfIdentity *identity = use->identity;
	RfSubject	subject = {0};

	if (claimed != NULL)
		subject = *claimed;
	else if (identity != NULL)
	{
		subject.has_user = identity->has_user;
		subject.user = identity->user;
		subject.has_org = identity->has_org;
		subject.org = identity->org;
	}

	rf_digest_field(digest, &subject.org,
					subject.has_org ? sizeof(subject.org) : 0);
	if (subject.has_user)
	{
		rf_digest_string(digest, "user");
		rf_digest_field(digest, &subject.user, sizeof(subject.user));
	}
	else if (!rf_session_is(RF_ROLE_AUTHENTICATOR))
	{
		rf_digest_string(digest, "login");
		rf_digest_string(digest, GetUserNameFromId(GetSessionUserId(), false));
	}
	else
		add_stranger(use);
}

static void
identify(RfKeyUse *use)
{
	RfHash		hash;

	rf_digest_begin(digest);
	add_caller(use);
	rf_digest_string(digest, use->method);
	rf_digest_string(digest, use->path);
	rf_digest_string(digest, use->key);
	rf_digest_end(digest, &hash);
	memcpy(&use->id, &hash, sizeof(use->id));
}

/* --- In flight --- */

/*
 * 409. PostgREST sets headers of a failure by SQLSTATE PGRST alone; its message
 * and detail are JSON then.
 */
static void
refuse_in_flight(const RfKeyUse *use)
{
	if (use->from_header)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('P', 'G', 'R', 'S', 'T')),
				 errmsg_internal("{\"code\": \"PT409\", \"message\": \"a request with the same idempotency key is in progress\", \"details\": null, \"hint\": \"Repeat it later with the same key.\"}"),
				 errdetail_internal("{\"status\": 409, \"headers\": {\"Retry-After\": \"1\"}}")));
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '9')),
			 errmsg("a request with the same idempotency key is in progress"),
			 errhint("Repeat it later with the same key.")));
}

/*
 * Does what may wait for somebody else, at most as long as both settings allow;
 * 409 then.
 */
static bool
wait_for(RfKeyUse *use, bool (*act) (RfKeyUse *use))
{
	MemoryContext old = CurrentMemoryContext;
	int			nest_level = NewGUCNestLevel();
	volatile bool result = false;

	if (LockTimeout == 0 || LockTimeout > longest_wait)
	{
		char		wait[12];

		/* Zero would be for ever. */
		pg_ltoa(Max(longest_wait, 1), wait);
		(void) set_config_option("lock_timeout", wait, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, ERROR,
								 false);
	}
	PG_TRY();
	{
		result = act(use);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(old);
		FlushErrorState();
		refuse_in_flight(use);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, nest_level);
	return result;
}

static bool
wait_for_lock(RfKeyUse *use)
{
	(void) LockAcquire(&use->tag, ExclusiveLock, false, false);
	return true;
}

/* Locks the key; true if this transaction had it already. */
static bool
lock(RfKeyUse *use)
{
	uint32		words[2];
	RfHash		hash;

	/* Everybody sees pg_locks: let nobody recognize a key that they guess. */
	rf_digest_begin(digest);
	rf_digest_add(digest, GetMockAuthenticationNonce(), MOCK_AUTH_NONCE_LEN);
	rf_digest_add(digest, &use->id, sizeof(use->id));
	rf_digest_end(digest, &hash);
	memcpy(words, hash.data, sizeof(words));
	SET_LOCKTAG_ADVISORY(use->tag, MyDatabaseId, words[0], words[1], LOCK_KIND);
	switch (LockAcquire(&use->tag, ExclusiveLock, false, true))
	{
		case LOCKACQUIRE_NOT_AVAIL:
			break;
		case LOCKACQUIRE_ALREADY_HELD:
		case LOCKACQUIRE_ALREADY_CLEAR:
			return true;
		default:
			return false;
	}
	if (longest_wait == 0)
		refuse_in_flight(use);
	(void) wait_for(use, wait_for_lock);
	return false;
}

/*
 * Makes the key this transaction's, whose fingerprint is known by now. True if
 * it was used before; then "answer" is what was recorded, in the current memory
 * context. Throws 409 if another transaction holds it for too long, 422 if it
 * was used with something else.
 */
bool
rf_key_claim(RfKeyUse *use, RfAnswer *answer)
{
	RfHash		fingerprint;
	bool		was_held;

	identify(use);
	was_held = lock(use);
	if (!rf_key_find(use, &fingerprint, answer))
	{
		/* It calls for itself, and has no answer yet. */
		if (was_held && !use->expired)
			refuse_in_flight(use);
		if (use->expired && !wait_for(use, rf_key_remove_expired))
			refuse_in_flight(use);
		return false;
	}
	if (memcmp(&fingerprint, &use->fingerprint, sizeof(RfHash)) != 0)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('P', 'T', '4', '2', '2')),
				 errmsg("the idempotency key was used for another request"),
				 errdetail("A key stands for one request: its statement, values, headers that shape the answer, and role."),
				 errhint("Send a new key with a new request.")));
	return true;
}

/* Registers the setting. Called once, from rf_idempotency_init(). */
void
rf_key_init(void)
{
	digest = rf_digest_create(TopMemoryContext);
	DefineCustomIntVariable("ringfence.idempotency_wait",
							"Longest wait for a request in progress with the same idempotency key.",
							"Zero doesn't wait. A shorter lock_timeout counts.",
							&longest_wait, 5000, 0, INT_MAX, PGC_SUSET,
							GUC_UNIT_MS | GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
}
