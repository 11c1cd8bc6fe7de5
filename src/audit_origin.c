/*
 * audit_origin.c: who does it, from where, and why.
 *
 * Made once for a transaction and role, since a record of every row repeats it.
 * Nothing here decides anything: who may do what was decided before, and a
 * header is the caller's word. The context isn't fixed by looking: a superuser's
 * session that writes before it says who it acts for stays free to.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "audit.h"

#define MAX_AGENT 256
#define TRACE_ID 32				/* hexadecimal digits, after "00-" */

/* Columns that say where a record comes from. */
static const RfAuditColumn columns[] = {
	AUDIT_USER_ID, AUDIT_ACTOR, AUDIT_LOGIN, AUDIT_ROLE, AUDIT_REQUEST_ID,
	AUDIT_CORRELATION_ID, AUDIT_CLIENT_IP, AUDIT_USER_AGENT, AUDIT_REASON,
};

/*
 * The answer for this transaction, context, role and reason; in origin_mcxt.
 * Void for any other, and after an error on the way. Without a context and a
 * request it holds for the session, until a role is changed.
 */
static struct
{
	bool		valid;
	bool		lasting;		/* nothing in it is this transaction's */
	uint64		transaction;
	uint64		generation;
	Oid			role;
	Oid			login;
	char		reason[RF_MAX_REASON + 1];	/* ringfence.reason then */
	RfAuditRecord record;
}			origin;

static MemoryContext origin_mcxt = NULL;

/* ringfence.reason; owned by guc.c */
static char *reason_setting = NULL;

/*
 * Who a record names. A login without a context acts for itself: as a job or
 * an operator if its role says so.
 */
static RfActor
actor_of(const RfIdentity *identity)
{
	if (identity != NULL && identity->actor != RF_ACTOR_ANONYMOUS)
		return identity->actor;
	if (rf_context_in_request())
		return RF_ACTOR_ANONYMOUS;
	if (rf_session_is(RF_ROLE_JOBS) || GetUserId() == get_role_oid(RF_ROLE_JOBS, true))
		return RF_ACTOR_JOB;
	if (rf_session_is(RF_ROLE_OPERATOR))
		return RF_ACTOR_OPERATOR;
	return RF_ACTOR_SYSTEM;
}

/*
 * The value itself, with blanks for control characters. A setting that came with
 * the connection may hold bytes that are no text of the database.
 */
char *
rf_audit_printable(char *value)
{
	bool		is_text = pg_verifymbstr(value, strlen(value), true);

	for (char *p = value; *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = ' ';
		else if (!is_text && (unsigned char) *p > 0x7f)
			*p = '?';
	return value;
}

/* Printable, and no longer than it may be, cut between characters. */
static char *
clean(char *value, int limit)
{
	if (value == NULL || *value == '\0')
		return NULL;
	(void) rf_audit_printable(value);
	value[pg_mbcliplen(value, strlen(value), limit)] = '\0';
	return value;
}

/* The trace id of a traceparent (W3C Trace Context), or NULL. */
static char *
trace_id(char *parent)
{
	if (parent == NULL || strlen(parent) < 3 + TRACE_ID + 1 ||
		strspn(parent, "0123456789abcdef") != 2 || parent[2] != '-' ||
		strspn(parent + 3, "0123456789abcdef") != TRACE_ID ||
		parent[3 + TRACE_ID] != '-' || strncmp(parent, "ff", 2) == 0 ||
		strspn(parent + 3, "0") == TRACE_ID)
		return NULL;
	return pnstrdup(parent + 3, TRACE_ID);
}

/* Unicode's blanks and what shows nothing at all. */
static bool
is_invisible(pg_wchar c)
{
	return c <= ' ' || (c >= 0x7f && c <= 0xa0) || c == 0xad || c == 0x34f ||
		c == 0x61c || c == 0x115f || c == 0x1160 || c == 0x1680 ||
		(c >= 0x17b4 && c <= 0x17b5) || (c >= 0x180b && c <= 0x180f) ||
		(c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f) ||
		(c >= 0x205f && c <= 0x206f) || c == 0x2800 || c == 0x3000 ||
		c == 0x3164 || (c >= 0xfe00 && c <= 0xfe0f) || c == 0xfeff ||
		c == 0xffa0 || (c >= 0xe0000 && c <= 0xe0fff);
}

/* Is there nothing to be read in it? NULL counts as empty. */
bool
rf_audit_blank(const char *value)
{
	bool		is_utf8 = GetDatabaseEncoding() == PG_UTF8;

	if (value == NULL)
		return true;
	for (const char *p = value; *p != '\0'; p += pg_mblen(p))
		if (!is_invisible(is_utf8 || (unsigned char) *p < 0x80 ?
						  utf8_to_unicode((const unsigned char *) p) : 'x'))
			return false;
	return true;
}

/* The setting's reason, or the header's, or that of the operator's entry. */
static char *
reason_of(char *header)
{
	char	   *setting = rf_audit_printable(pstrdup(reason_setting != NULL ? reason_setting : ""));

	if (!rf_audit_blank(setting))
		return setting;
	if (header == NULL || rf_audit_blank(rf_audit_printable(header)))
		return rf_entry_reason() == NULL ? NULL :
			rf_audit_printable(pstrdup(rf_entry_reason()));
	if (strlen(header) > RF_MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the reason is too long"),
				 errdetail("Header %s has more than %d bytes.",
						   "x-reason", RF_MAX_REASON)));
	return header;
}

static const RfHeader origin_headers[] = {
	RF_HEADER_CORRELATION_ID, RF_HEADER_TRACEPARENT, RF_HEADER_USER_AGENT,
	RF_HEADER_REASON,
};

static void
read_origin(void)
{
	RfAuditRecord *record = &origin.record;
	const RfIdentity *identity = rf_context_peek();
	char	   *headers[lengthof(origin_headers)];
	char	   *correlation;

	rf_request_headers(lengthof(origin_headers), origin_headers, headers);
	correlation = clean(headers[0], RF_REQUEST_ID_BYTES - 1);
	record->nulls[AUDIT_USER_ID] = identity == NULL || !identity->has_user;
	if (!record->nulls[AUDIT_USER_ID])
		record->values[AUDIT_USER_ID] =
			datumCopy(UUIDPGetDatum((pg_uuid_t *) &identity->user), false,
					  RF_UUID_BYTES);
	rf_audit_set_text(record, AUDIT_ACTOR, rf_actor_name(actor_of(identity)));
	rf_audit_set_text(record, AUDIT_LOGIN, GetUserNameFromId(GetSessionUserId(), false));
	rf_audit_set_text(record, AUDIT_ROLE, GetUserNameFromId(GetUserId(), false));
	rf_audit_set_text(record, AUDIT_REQUEST_ID, rf_context_in_request() ? rf_request_id() : NULL);
	rf_audit_set_text(record, AUDIT_CORRELATION_ID,
					  correlation != NULL ? correlation :
					  trace_id(headers[1]));
	record->nulls[AUDIT_CLIENT_IP] =
		!rf_client_ip(&record->values[AUDIT_CLIENT_IP]);
	rf_audit_set_text(record, AUDIT_USER_AGENT, clean(headers[2], MAX_AGENT));
	rf_audit_set_text(record, AUDIT_REASON, reason_of(headers[3]));
}

/* Is there neither a context nor a request? */
static bool
is_plain(void)
{
	return rf_context_peek() == NULL && !rf_request_has_headers() &&
		!rf_context_in_request();
}

static bool
is_current(void)
{
	const char *reason = reason_setting != NULL ? reason_setting : "";

	if (!origin.valid || origin.role != GetUserId() ||
		origin.login != GetSessionUserId() ||
		strcmp(origin.reason, reason) != 0)
		return false;
	if (origin.transaction == rf_context_transaction() &&
		origin.generation == rf_context_generation())
		return true;
	return origin.lasting && is_plain();
}

/*
 * Fills in the columns that say where a record comes from; the values live
 * until the next call, by whomever, in another transaction or role. May throw: 42501 if the
 * claims changed under the context, 22023 for a reason that is none.
 */
void
rf_audit_origin(RfAuditRecord *record)
{
	MemoryContext old;

	if (!is_current())
	{
		origin.valid = false;
		MemoryContextReset(origin_mcxt);
		old = MemoryContextSwitchTo(origin_mcxt);
		read_origin();
		MemoryContextSwitchTo(old);
		origin.lasting = is_plain() && rf_entry_reason() == NULL;
		origin.transaction = rf_context_transaction();
		origin.generation = rf_context_generation();
		origin.role = GetUserId();
		origin.login = GetSessionUserId();
		strlcpy(origin.reason, reason_setting != NULL ? reason_setting : "",
				sizeof(origin.reason));
		origin.valid = true;
	}
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		record->values[columns[i]] = origin.record.values[columns[i]];
		record->nulls[columns[i]] = origin.record.nulls[columns[i]];
	}
}

static bool
check_reason(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	if (*newval == NULL || strlen(*newval) <= RF_MAX_REASON)
		return true;
	GUC_check_errdetail("It has more than %d bytes.", RF_MAX_REASON);
	return false;
}

/* A role was renamed, or granted or revoked. */
static void
role_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	(void) arg;
	(void) cacheid;
	(void) hashvalue;
	origin.valid = false;
}

/* Registers the setting and callbacks. Called once, from rf_audit_init(). */
void
rf_audit_origin_init(void)
{
	origin_mcxt = AllocSetContextCreate(TopMemoryContext,
										"ringfence audit origin",
										ALLOCSET_SMALL_SIZES);
	DefineCustomStringVariable("ringfence.reason",
							   "Why the transaction changes what it changes, for the audit log.",
							   "In a request the header x-reason says it; set it with SET LOCAL.",
							   &reason_setting, "", PGC_USERSET,
							   GUC_NOT_IN_SAMPLE, check_reason, NULL, NULL);
	CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, role_changed, (Datum) 0);
}
