/*
 * session.c: signing in without an HTTP layer.
 *
 * sign_in(token) verifies a token here, in C, so the login role needs no
 * trust. It fixes the context of the transaction, or of the session: then the
 * claims live in the setting ringfence.session, which only this file can set
 * and which goes with ROLLBACK, RESET ALL and DISCARD ALL as settings do. What
 * the token says is looked up again in every transaction, and its expiry is
 * checked again; only the signature is not.
 */
#include "postgres.h"

#include <time.h>

#include "access/parallel.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"

#include "ringfence.h"

PG_FUNCTION_INFO_V1(ringfence_sign_in);
PG_FUNCTION_INFO_V1(ringfence_sign_out);

/* Storage of ringfence.session; owned by guc.c. */
static char *session_setting = NULL;

/* The only value that the check hook accepts just now; set around our SET. */
static const char *session_expected = NULL;

static bool
check_session(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	if (*newval == NULL || **newval == '\0' || InitializingParallelWorker ||
		(session_expected != NULL &&
		 strcmp(*newval, session_expected) == 0))
		return true;
	GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
	GUC_check_errmsg("parameter \"%s\" cannot be set", "ringfence.session");
	GUC_check_errhint("Call ringfence.sign_in().");
	return false;
}

static void
set_session(const char *value)
{
	session_expected = value;
	PG_TRY();
	{
		(void) set_config_option("ringfence.session", value, PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_SET, true, ERROR,
								 false);
	}
	PG_FINALLY();
	{
		session_expected = NULL;
	}
	PG_END_TRY();
}

/*
 * The claims that the session signed in with, or NULL. Throws once the token
 * they came from has expired.
 */
const char *
rf_session_claims(void)
{
	RfClaims	claims;

	if (!rf_session_signed_in())
		return NULL;
	if (!rf_claims_parse(session_setting, strlen(session_setting),
						 GetDatabaseEncoding(), &claims) ||
		!claims.has_exp || (double) time(NULL) >= claims.exp)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the session's sign-in has expired"),
				 errhint("Call %s and sign in again.",
						 "ringfence.sign_out()")));
	return session_setting;
}

bool
rf_session_signed_in(void)
{
	return session_setting != NULL && *session_setting != '\0';
}

/* sign_in(token text, session boolean) */
Datum
ringfence_sign_in(PG_FUNCTION_ARGS)
{
	text	   *token = PG_GETARG_TEXT_PP(0);
	bool		session = PG_GETARG_BOOL(1);
	RfClaims	claims;
	RfIdentity	identity;
	char	   *payload;

	if (session && rf_session_is(RF_ROLE_AUTHENTICATOR))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot sign in the session of an authenticator"),
				 errdetail("Its connections are shared by all tenants."),
				 errhint("Sign in for the transaction.")));

	payload = rf_jwt_verify(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token),
							&claims);
	rf_context_identify(&claims, &identity);
	rf_context_replace(&identity);
	if (session)
		set_session(payload);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in,
										CStringGetDatum(rf_context_serialize(&identity))));
}

/* Ends the session's sign-in; this transaction's context stays as it is. */
Datum
ringfence_sign_out(PG_FUNCTION_ARGS)
{
	set_session("");
	PG_RETURN_VOID();
}

void
rf_session_init(void)
{
	DefineCustomStringVariable("ringfence.session",
							   "The claims that this session signed in with.",
							   NULL,
							   &session_setting, "", PGC_SUSET,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE |
							   GUC_DISALLOW_IN_FILE | GUC_SUPERUSER_ONLY,
							   check_session, NULL, NULL);
}
