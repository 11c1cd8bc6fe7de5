/*
 * context.c: who is asking, fixed once a transaction.
 *
 * The first question in a transaction pins the answer until the transaction
 * ends. It comes from one of: a verified token (sign_in), an operator's entry
 * (enter_org), a superuser's word (set_context), a session that signed in, or
 * PostgREST's request.jwt.claims. Those count only if the login role belongs to
 * ringfence_authenticator, and if they were set in this very transaction: one
 * that left them set for the session would lend them to the next. They name a
 * user and an org; the membership is looked up, so that the roles are the
 * member's of this moment and a removed member is nobody. Anything missing,
 * malformed or unknown pins "nobody": org_id() is NULL, policies match no row,
 * writes are refused.
 *
 * Three places hold the pin. The truth is "current", a static of this backend;
 * the transaction callback resets it. The setting request.jwt.claims is ours:
 * its check hook refuses another value while a context is pinned, and what a
 * check hook can't refuse (RESET, a rollback to a savepoint) makes every later
 * question in the transaction an error. The setting ringfence.pin carries the
 * pin to parallel workers: its check hook accepts the text of the pin itself
 * and, while a worker starts, what the leader sent; an ExecutorStart hook puts
 * it in place before a plan with workers runs. A worker without it raises an
 * error, since no rows from it would be a wrong result.
 *
 * Memory: an identity, the claims it came from and the pin's text live in
 * context_mcxt, which the transaction callback resets. A later pin makes new
 * ones, for somebody may still be reading the old. What goes back and forth
 * between two identities makes each once, however often.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "compat.h"
#include "ringfence.h"

/* All reset by context_at_xact_end(). */
static struct
{
	bool		loaded_late;	/* amid a parallel operation: claims were lost */
	bool		pinned;
	bool		from_claims;
	bool		stale;			/* the claims are no longer those pinned */
	const char *claims;			/* in context_mcxt; "" for none */
	const char *pin;			/* serialized identity, or NULL */
	const RfIdentity *identity; /* in context_mcxt, never changed there */
	const RfIdentity *former;	/* the one before it, or NULL; likewise */
	RfSubject	subject;		/* whom the claims name, known or not */
}			current;

/* Counts pins in this backend; never reset, so that a cache can't be fooled. */
static uint64 generation = 0;

/* Counts transactions of this backend, from 1. */
static uint64 transactions = 1;

/* guc.c's record of request.jwt.claims, which it never moves. */
static struct config_generic *claims_record = NULL;

/* The pin of a transaction that nobody is behind. */
#define NOBODY_PIN "{\"actor\":\"anonymous\",\"roles\":[],\"party\":{}}"

static MemoryContext context_mcxt = NULL;

/* Storage of the settings; owned by guc.c. */
static char *claims_setting = NULL;
static char *pin_setting = NULL;

static const char *const actor_names[] = {
	[RF_ACTOR_ANONYMOUS] = "anonymous",
	[RF_ACTOR_USER] = "user",
	[RF_ACTOR_OPERATOR] = "operator",
	[RF_ACTOR_JOB] = "job",
	[RF_ACTOR_SYSTEM] = "system",
};

/*
 * Is the login role a member of that role? Superusers are not taken for
 * members of everything.
 */
bool
rf_session_is(const char *role)
{
	Oid			role_oid = get_role_oid(role, true);

	return OidIsValid(role_oid) &&
		is_member_of_role_nosuper(GetSessionUserId(), role_oid);
}

static const char *
claims_text(void)
{
	return claims_setting != NULL ? claims_setting : "";
}

/*
 * Are there claims, set in this transaction? A setting has a stack just then:
 * claims from before it are another request's.
 */
static bool
has_claims(void)
{
	return claims_record->stack != NULL && *claims_text() != '\0';
}

/* The claims of the request, or an empty string; owned by guc.c. */
const char *
rf_context_claims(void)
{
	return has_claims() ? claims_text() : "";
}

/*
 * Narrows a membership's roles and parties to those that the token names. A
 * token that names none has them all.
 */
static void
narrow(RfGrants *grants, const RfClaims *claims)
{
	RfGrants	all = *grants;

	if (claims->has_roles)
	{
		grants->nroles = 0;
		for (int i = 0; i < all.nroles; i++)
			for (int j = 0; j < claims->grants.nroles; j++)
				if (strcmp(all.roles[i], claims->grants.roles[j]) == 0)
				{
					strlcpy(grants->roles[grants->nroles++], all.roles[i],
							RF_NAME_BYTES);
					break;
				}
	}
	if (claims->has_party)
	{
		grants->nparties = 0;
		for (int i = 0; i < all.nparties; i++)
			for (int j = 0; j < claims->grants.nparties; j++)
				if (strcmp(all.parties[i].kind,
						   claims->grants.parties[j].kind) == 0 &&
					memcmp(&all.parties[i].id, &claims->grants.parties[j].id,
						   sizeof(RfUuid)) == 0)
					grants->parties[grants->nparties++] = all.parties[i];
	}
}

/*
 * Turns claims into an identity, as far as the directory confirms them. An
 * error only if the caller is a member of an org that is not active.
 */
void
rf_context_identify(const RfClaims *claims, RfIdentity *identity)
{
	RfOrgStatus status;

	memset(identity, 0, sizeof(*identity));
	identity->narrowed = claims->has_roles || claims->has_party;
	identity->expires = claims->has_exp ? claims->exp : 0;
	if (!claims->has_user)
		return;
	if (!claims->has_org ||
		!rf_directory_member(&claims->org, &claims->user, &identity->grants))
	{
		memset(&identity->grants, 0, sizeof(identity->grants));
		if (!rf_directory_user(&claims->user))
			return;
		identity->actor = RF_ACTOR_USER;
		identity->has_user = true;
		identity->user = claims->user;
		return;
	}

	status = rf_directory_org(&claims->org);
	if (status == RF_ORG_SUSPENDED || status == RF_ORG_CLOSED)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '3')),
				 status == RF_ORG_SUSPENDED ?
				 errmsg("the organization is suspended") :
				 errmsg("the organization is closed"),
				 errhint("Its owner can ask the operator of this service.")));
	if (status != RF_ORG_ACTIVE)
	{
		memset(&identity->grants, 0, sizeof(identity->grants));
		return;
	}

	identity->actor = RF_ACTOR_USER;
	identity->has_user = true;
	identity->user = claims->user;
	identity->has_org = true;
	identity->org = claims->org;
	narrow(&identity->grants, claims);
}

static bool
is_identity(const RfIdentity *kept, const RfIdentity *identity)
{
	return kept != NULL && memcmp(kept, identity, sizeof(*identity)) == 0;
}

/* The identity as it is kept until the transaction ends. */
static const RfIdentity *
keep_identity(const RfIdentity *identity)
{
	RfIdentity *copy;

	if (is_identity(current.identity, identity))
		return current.identity;
	if (is_identity(current.former, identity))
		return current.former;
	copy = MemoryContextAlloc(context_mcxt, sizeof(RfIdentity));
	*copy = *identity;
	return copy;
}

static void
pin(const RfIdentity *identity, bool from_claims)
{
	const RfIdentity *kept = keep_identity(identity);

	if (current.claims == NULL || strcmp(current.claims, claims_text()) != 0)
		current.claims = MemoryContextStrdup(context_mcxt, claims_text());
	if (kept != current.identity)
		current.former = current.identity;
	current.identity = kept;
	current.from_claims = from_claims;
	current.stale = false;
	current.pin = NULL;
	memset(&current.subject, 0, sizeof(current.subject));
	generation++;
	current.pinned = true;
}

/* The identity as JSON, in the form that claims have, palloc'd. */
char *
rf_context_serialize(const RfIdentity *identity)
{
	const RfGrants *grants = &identity->grants;
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"actor\":\"%s\"",
					 actor_names[identity->actor]);
	if (identity->has_user)
		appendStringInfo(&json, ",\"sub\":\"%s\"",
						 rf_uuid_text(&identity->user));
	if (identity->has_org)
		appendStringInfo(&json, ",\"org_id\":\"%s\"",
						 rf_uuid_text(&identity->org));
	appendStringInfoString(&json, ",\"roles\":[");
	for (int i = 0; i < grants->nroles; i++)
	{
		if (i > 0)
			appendStringInfoChar(&json, ',');
		escape_json(&json, grants->roles[i]);
	}
	appendStringInfoString(&json, "],\"party\":{");
	for (int i = 0; i < grants->nparties; i++)
	{
		if (i > 0)
			appendStringInfoChar(&json, ',');
		escape_json(&json, grants->parties[i].kind);
		appendStringInfo(&json, ":\"%s\"",
						 rf_uuid_text(&grants->parties[i].id));
	}
	appendStringInfoString(&json, "}}");
	return json.data;
}

static void
deserialize(const char *json, RfIdentity *identity)
{
	RfClaims	claims;

	memset(identity, 0, sizeof(*identity));
	if (!rf_claims_parse(json, strlen(json), GetDatabaseEncoding(), &claims))
		elog(ERROR, "could not read the leader's context");
	for (int i = 0; i < (int) lengthof(actor_names); i++)
		if (strcmp(claims.actor, actor_names[i]) == 0)
			identity->actor = (RfActor) i;
	identity->has_user = claims.has_user;
	identity->user = claims.user;
	identity->has_org = claims.has_org;
	identity->org = claims.org;
	identity->grants = claims.grants;
}

/* Fixes the context. Runs at most once a transaction, unless it throws. */
static void
establish(void)
{
	RfIdentity	identity;
	RfClaims	claims;
	bool		from_claims = false;
	const char *session;

	if (current.loaded_late ||
		(IsParallelWorker() && (pin_setting == NULL || *pin_setting == '\0')))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the context did not reach a parallel operation"),
				 errhint("Repeat the transaction, or add \"ringfence\" to \"session_preload_libraries\".")));
	if (IsParallelWorker())
	{
		deserialize(pin_setting, &identity);
		pin(&identity, false);
		return;
	}

	session = rf_session_claims();
	memset(&claims, 0, sizeof(claims));
	if (session != NULL)
		(void) rf_claims_parse(session, strlen(session),
							   GetDatabaseEncoding(), &claims);
	else if (has_claims() && rf_session_is(RF_ROLE_AUTHENTICATOR))
	{
		from_claims = true;
		(void) rf_claims_parse(claims_text(), strlen(claims_text()),
							   GetDatabaseEncoding(), &claims);
	}
	rf_context_identify(&claims, &identity);
	pin(&identity, from_claims);
	if (!from_claims)
		return;
	current.subject.has_user = claims.has_user;
	current.subject.user = claims.user;
	current.subject.has_org = claims.has_org;
	current.subject.org = claims.org;
}

static void
refuse_stale(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the claims were changed after the context was fixed"),
			 errdetail("A transaction has one context from its first use to its end."),
			 errhint("Start another transaction for another caller.")));
}

/*
 * The context of this transaction, fixed by the first call. The result is
 * valid until the transaction ends. May throw: PT403 for an org that is not
 * active, 42501 if the claims changed since.
 */
const RfIdentity *
rf_context(void)
{
	if (unlikely(!current.pinned))
		establish();
	if (unlikely(current.stale))
		refuse_stale();
	return current.identity;
}

/*
 * Fixes the context to an identity that the caller has verified. It may take
 * the place of one without an org, never that of another org.
 */
void
rf_context_replace(const RfIdentity *identity)
{
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot set the context during a parallel operation")));
	if (current.pinned && current.identity->has_org &&
		memcmp(current.identity, identity, sizeof(*identity)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the context of this transaction is already fixed"),
				 errhint("Start another transaction for another caller.")));
	pin(identity, false);
}

/* The same for a superuser's word, which goes past any earlier one. */
void
rf_context_override(const RfIdentity *identity)
{
	current.pinned = false;
	rf_context_replace(identity);
}

/*
 * Whom the request's claims name, though the directory may not know them, or
 * not yet; NULL where the context didn't come from such claims.
 */
const RfSubject *
rf_context_subject(void)
{
	return current.subject.has_user ? &current.subject : NULL;
}

/* Changes with every pin: what was derived from an older one is void. */
uint64
rf_context_generation(void)
{
	return generation;
}

uint64
rf_context_transaction(void)
{
	return transactions;
}

const char *
rf_actor_name(RfActor actor)
{
	return actor_names[actor];
}

/*
 * Is this a request: a transaction of an authenticator's session that has a
 * context, or claims that nobody looked at yet?
 */
bool
rf_context_in_request(void)
{
	return (current.pinned || has_claims()) &&
		rf_session_is(RF_ROLE_AUTHENTICATOR);
}

/*
 * Puts the pin where parallel workers will find it. Called before a plan with
 * workers starts; does nothing while one runs already.
 */
void
rf_context_publish(void)
{
	const char *pin_text = NOBODY_PIN;

	if (IsParallelWorker() || IsInParallelMode())
		return;
	/* A plan may have nothing to do with us: don't fix nobody's context. */
	if (rf_context_peek() != NULL)
	{
		if (current.pin == NULL)
			current.pin = MemoryContextStrdup(context_mcxt,
											  rf_context_serialize(current.identity));
		pin_text = current.pin;
	}
	if (pin_setting == NULL || strcmp(pin_setting, pin_text) != 0)
		(void) set_config_option("ringfence.pin", pin_text, PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, ERROR,
								 false);
}

/*
 * The context if there is one to speak of: NULL where nothing is pinned and
 * nobody brought claims. Unlike rf_context() it leaves such a transaction
 * free to be somebody's later.
 */
const RfIdentity *
rf_context_peek(void)
{
	if (!current.pinned && !has_claims() && !rf_session_signed_in())
		return NULL;
	return rf_context();
}

/* --- Settings and callbacks --- */

static bool
check_claims(char **newval, void **extra, GucSource source)
{
	(void) extra;
	if (!current.pinned || source == PGC_S_TEST ||
		strcmp(*newval != NULL ? *newval : "", current.claims) == 0)
		return true;
	GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
	GUC_check_errmsg("the claims cannot be changed after the context was fixed");
	GUC_check_errdetail("A transaction has one context from its first use to its end.");
	return false;
}

static void
assign_claims(const char *newval, void *extra)
{
	(void) extra;
	if (current.pinned && current.from_claims)
		current.stale = strcmp(newval != NULL ? newval : "",
							   current.claims) != 0;
}

static bool
check_pin(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	if (*newval == NULL || **newval == '\0' || InitializingParallelWorker ||
		strcmp(*newval, NOBODY_PIN) == 0)
		return true;
	if (current.pin != NULL && strcmp(*newval, current.pin) == 0)
		return true;
	GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
	GUC_check_errmsg("parameter \"%s\" cannot be set", "ringfence.pin");
	return false;
}

/*
 * Forgets the pin with the transaction. A subtransaction's abort does not:
 * what was fixed stays so, whichever savepoint it was fixed under.
 */
static void
context_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			if (current.pinned)
				MemoryContextReset(context_mcxt);
			memset(&current, 0, sizeof(current));
			transactions++;
			break;
		default:
			break;
	}
}

/* Registers settings and callbacks. Called once, from _PG_init. */
void
rf_context_init(void)
{
	context_mcxt = AllocSetContextCreate(TopMemoryContext,
										 "ringfence context",
										 ALLOCSET_DEFAULT_SIZES);
	DefineCustomStringVariable("request.jwt.claims",
							   "The verified claims of the current request, as JSON.",
							   "Set by PostgREST; they count only for members of ringfence_authenticator, and are fixed once used.",
							   &claims_setting, "", PGC_USERSET,
							   GUC_NOT_IN_SAMPLE,
							   check_claims, assign_claims, NULL);
	claims_record = rf_find_setting("request.jwt.claims");
	current.loaded_late = IsInParallelMode() && !IsParallelWorker();
	DefineCustomStringVariable("ringfence.pin",
							   "Carries the context to parallel workers.",
							   NULL,
							   &pin_setting, "", PGC_SUSET,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE |
							   GUC_DISALLOW_IN_FILE | GUC_SUPERUSER_ONLY,
							   check_pin, NULL, NULL);
	RegisterXactCallback(context_at_xact_end, NULL);
}
