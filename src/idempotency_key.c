/*
 * idempotency_key.c: whose a key is, and what it was sent with.
 *
 * A key belongs to an organization, a caller and an endpoint: its id is half the
 * digest of them all, so that no search can meet another's. The caller is the
 * user; without one, the login role of a connection of one's own, the subject
 * of the token, or the session that an anonymous client names in X-Session-Key.
 * Anonymous clients that name none can't be told apart: there what was sent is
 * part of the id, so that a stranger's key is met by nobody who doesn't send the
 * very same.
 *
 * The fingerprint is the digest of what was sent. Values enter it as text that
 * depends on no setting of the session.
 *
 * Two with the same id wait for one another by a lock that ends with the
 * transaction, after its record can be seen. It is an advisory lock of a kind
 * that SQL has no function for.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_control.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "pgtime.h"
#include "port/pg_bswap.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_locale.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/xml.h"

#include "compat.h"
#include "idempotency.h"

/* SQL's own advisory locks have 1 and 2 there. */
#define LOCK_KIND 0x5246

/* ringfence.idempotency_wait */
static int	longest_wait = 5000;

static RfDigest *digest = NULL;

/* --- Fingerprints --- */

static void
add(const void *data, size_t len)
{
	uint32		prefix = pg_hton32((uint32) len);

	rf_digest_add(digest, &prefix, sizeof(prefix));
	rf_digest_add(digest, data, len);
}

static void
add_string(const char *string)
{
	add(string, strlen(string));
}

/* Not format_type(): that goes by quote_all_identifiers. */
static void
append_type_name(StringInfo out, Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	appendStringInfo(out, "%s.%s", get_namespace_name(form->typnamespace),
					 NameStr(form->typname));
	ReleaseSysCache(tuple);
}

/* A type by name, with what it is made of; a row type's columns once. */
static void
describe_type(StringInfo out, Oid type, List **described)
{
	Oid			element = get_element_type(type);
	TupleDesc	desc;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (OidIsValid(element))
	{
		describe_type(out, element, described);
		appendStringInfoString(out, "[]");
		return;
	}
	if (type < FirstGenbkiObjectId)
		appendStringInfo(out, "%u", type);
	else
		append_type_name(out, type);
	if (getBaseType(type) != type)
	{
		appendStringInfoChar(out, ':');
		describe_type(out, getBaseType(type), described);
		return;
	}
	if (get_typtype(type) != TYPTYPE_COMPOSITE ||
		list_member_oid(*described, type))
		return;
	*described = lappend_oid(*described, type);
	desc = lookup_rowtype_tupdesc(type, -1);
	appendStringInfoChar(out, '(');
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		appendStringInfo(out, "%s ", NameStr(att->attname));
		describe_type(out, att->atttypid, described);
		appendStringInfoChar(out, ',');
	}
	appendStringInfoChar(out, ')');
	ReleaseTupleDesc(desc);
}

/*
 * What stands for a type, in every server: its OID if that is fixed, in "buf",
 * or its name and what it is made of, palloc'd.
 */
const char *
rf_type_label(Oid type, char *buf)
{
	StringInfoData label;
	List	   *described = NIL;

	if (type < FirstGenbkiObjectId)
	{
		buf[pg_ultoa_n(type, buf)] = '\0';
		return buf;
	}
	initStringInfo(&label);
	describe_type(&label, type, &described);
	return label.data;
}

/*
 * How much of a session's settings the text of a type's values depends on.
 * Types that are not PostgreSQL's own may be made of any others.
 */
RfSettings
rf_type_settings(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case NUMERICOID:
		case UUIDOID:
		case TEXTOID:
		case TEXTARRAYOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case JSONOID:
		case JSONBOID:
			return RF_SETTINGS_NONE;
		case MONEYOID:
		case MONEYARRAYOID:
			return RF_SETTINGS_ALL;
		default:
			return type < FirstGenbkiObjectId ? RF_SETTINGS_USUAL :
				RF_SETTINGS_ALL;
	}
}

static bool
is_utc(void)
{
	const char *zone = pg_get_timezone_name(session_timezone);

	return zone != NULL &&
		(strcmp(zone, "UTC") == 0 || strcmp(zone, "Etc/UTC") == 0 ||
		 strcmp(zone, "GMT") == 0);
}

/*
 * Fixes the settings that values' text depends on, until rf_plain_end(), or
 * the end of the (sub)transaction. Most are as they have to be already, and
 * lc_monetary, which is slow to set, matters to money alone. The time zone
 * matters where text is compared, since a time's offset is in its text.
 */
int
rf_plain_begin(RfSettings needed, bool in_utc)
{
	const struct
	{
		const char *name;
		const char *value;
		bool		is_so;
	}			settings[] =
	{
		{"array_nulls", "on", Array_nulls},
		{"bytea_output", "hex", bytea_output == BYTEA_OUTPUT_HEX},
		{"datestyle", "ISO", DateStyle == USE_ISO_DATES},
		{"extra_float_digits", "1", extra_float_digits > 0},
		{"intervalstyle", "postgres", IntervalStyle == INTSTYLE_POSTGRES},
		{"lc_monetary", "C", needed < RF_SETTINGS_ALL || strcmp(locale_monetary, "C") == 0},
		{"quote_all_identifiers", "off", !quote_all_identifiers},
		{"timezone", "UTC", !in_utc || is_utc()},
		{"xmloption", "content", xmloption == XMLOPTION_CONTENT},
	};
	int			nest_level = 0;

	if (needed == RF_SETTINGS_NONE)
		return 0;
	for (int i = 0; i < (int) lengthof(settings); i++)
	{
		if (settings[i].is_so)
			continue;
		if (nest_level == 0)
			nest_level = NewGUCNestLevel();
		(void) set_config_option(settings[i].name, settings[i].value,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, ERROR, false);
	}
	return nest_level;
}

void
rf_plain_end(int nest_level)
{
	if (nest_level > 0)
		AtEOXact_GUC(true, nest_level);
}

static void
add_value(Oid type, Datum value)
{
	Oid			output;
	bool		is_varlena;

	/* A text's bytes; those of a bytea are half as many as its text's. */
	if (type == TEXTOID || type == VARCHAROID || type == JSONOID ||
		type == BYTEAOID)
	{
		struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

		add(VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
		return;
	}
	getTypeOutputInfo(type, &output, &is_varlena);
	add_string(OidOutputFunctionCall(output, value));
}

static void
add_parameter(ParamListInfo params, int n)
{
	const ParamExternData *param = &params->params[n];
	char		label[RF_LABEL_BYTES];
	char		kind;

	kind = !OidIsValid(param->ptype) ? '-' : param->isnull ? 'n' : 'v';
	rf_digest_add(digest, &kind, 1);
	if (kind == '-')
		return;
	add_string(rf_type_label(param->ptype, label));
	if (!param->isnull)
		add_value(param->ptype, param->value);
}

static void
add_parameters(ParamListInfo params)
{
	int			n = params != NULL ? params->numParams : 0;
	RfSettings	needed = RF_SETTINGS_NONE;
	int			nest_level;

	/* Those of a client have no hooks. */
	Assert(n == 0 || params->paramFetch == NULL);
	for (int i = 0; i < n; i++)
		needed = Max(needed, rf_type_settings(params->params[i].ptype));
	nest_level = rf_plain_begin(needed, true);
	for (int i = 0; i < n; i++)
		add_parameter(params, i);
	rf_plain_end(nest_level);
}

static int
compare_grants(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(RfHash));
}

/*
 * What the caller may see and do, in whatever order: a recorded answer is not
 * for a token of the same user that may less.
 */
static void
add_grants(const RfIdentity *identity)
{
	RfHash		grants[RF_MAX_ROLES + RF_MAX_PARTIES];
	int			n = 0;

	for (int i = 0; identity != NULL && i < identity->grants.nroles; i++)
	{
		rf_digest_begin(digest);
		add_string(identity->grants.roles[i]);
		rf_digest_end(digest, &grants[n++]);
	}
	for (int i = 0; identity != NULL && i < identity->grants.nparties; i++)
	{
		rf_digest_begin(digest);
		add_string(identity->grants.parties[i].kind);
		add(&identity->grants.parties[i].id, sizeof(RfUuid));
		rf_digest_end(digest, &grants[n++]);
	}
	qsort(grants, n, sizeof(RfHash), compare_grants);
	rf_digest_begin(digest);
	add(grants, n * sizeof(RfHash));
}

static void
begin_fingerprint(const RfKeyUse *use)
{
	add_grants(use->identity);
	add_string(use->method);
	add_string(use->path);
	add_string(GetUserNameFromId(GetUserId(), false));
}

/* The statement alone, of those that were sent together. */
static void
add_statement(const QueryDesc *queryDesc)
{
	const PlannedStmt *stmt = queryDesc->plannedstmt;
	const char *string = queryDesc->sourceText;
	size_t		len = strlen(string);

	if (stmt->stmt_location > 0 && (size_t) stmt->stmt_location < len)
	{
		string += stmt->stmt_location;
		len -= stmt->stmt_location;
	}
	if (stmt->stmt_len > 0 && (size_t) stmt->stmt_len < len)
		len = stmt->stmt_len;
	while (len > 0 && scanner_isspace(*string))
	{
		string++;
		len--;
	}
	while (len > 0 && scanner_isspace(string[len - 1]))
		len--;
	add(string, len);
}

void
rf_key_fingerprint_statement(RfKeyUse *use, const QueryDesc *queryDesc)
{
	begin_fingerprint(use);
	add_string(namespace_search_path);
	add_statement(queryDesc);
	add_parameters(queryDesc->params);
	rf_digest_end(digest, &use->fingerprint);
}

/* For idempotent(), whose function is the endpoint. */
void
rf_key_fingerprint_call(RfKeyUse *use, const char *arguments)
{
	begin_fingerprint(use);
	add_string(arguments);
	rf_digest_end(digest, &use->fingerprint);
}

/* --- Keys --- */

/* The request's path, decoded where that makes text. */
static const char *
request_path(void)
{
	char	   *path = pstrdup(rf_request_path());

	rf_path_decode(path);
	return pg_verifymbstr(path, strlen(path), true) ? path :
		pstrdup(rf_request_path());
}

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
	use->path = use->in_request ? request_path() : "";
	use->identity = rf_context_peek();
}

/*
 * What tells tokens apart of people whom the directory doesn't know: their
 * subject; or, without one, all that isn't of this token alone.
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
		add_string(claims);
		return false;
	}
	for (int i = 0; i < (int) lengthof(subject); i++)
		add_string(values[i] != NULL ? values[i] : "");
	if (values[1] != NULL && *values[1] != '\0')
		return true;
	others = DirectFunctionCall1(jsonb_in, CStringGetDatum(claims));
	for (int i = 0; i < (int) lengthof(passing); i++)
		others = DirectFunctionCall2(jsonb_delete, others,
									 CStringGetTextDatum(passing[i]));
	add_string(JsonbToCString(NULL, &DatumGetJsonbP(others)->root, 0));
	return false;
}

static void
add_caller(const RfKeyUse *use)
{
	const char *session;

	if (use->identity != NULL && use->identity->has_user)
	{
		add_string("user");
		add(&use->identity->user, sizeof(RfUuid));
		return;
	}
	if (!rf_session_is(RF_ROLE_AUTHENTICATOR))
	{
		add_string("login");
		add_string(GetUserNameFromId(GetSessionUserId(), false));
		return;
	}
	add_string("claims");
	if (add_claims())
		return;
	session = rf_request_header(RF_HEADER_SESSION_KEY);
	if (session != NULL && *session != '\0')
	{
		add_string("session");
		add_string(session);
		return;
	}
	add_string("anonymous");
	add(&use->fingerprint, sizeof(RfHash));
}

static void
identify(RfKeyUse *use)
{
	RfHash		hash;

	rf_digest_begin(digest);
	if (use->identity != NULL && use->identity->has_org)
		add(&use->identity->org, sizeof(RfUuid));
	else
		add_string("");
	add_caller(use);
	add_string(use->method);
	add_string(use->path);
	add_string(use->key);
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
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	digest = rf_digest_create();
	MemoryContextSwitchTo(old);
	DefineCustomIntVariable("ringfence.idempotency_wait",
							"Longest wait for a request in progress with the same idempotency key.",
							"Zero doesn't wait. A shorter lock_timeout counts.",
							&longest_wait, 5000, 0, INT_MAX, PGC_SUSET,
							GUC_UNIT_MS | GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
}
