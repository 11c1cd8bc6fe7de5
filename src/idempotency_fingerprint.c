/*
 * idempotency_fingerprint.c: what a key was sent with.
 *
 * The fingerprint is the digest of what was sent, by whom it was sent as far as
 * their rights go, and where to. Values enter it as text that depends on no
 * setting of the session; so do they leave a record and come back.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_locale.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/xml.h"

#include "compat.h"
#include "idempotency.h"

static RfDigest *digest = NULL;

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
	if (rf_is_string(type) || type == BYTEAOID)
	{
		struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

		rf_digest_field(digest, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
		return;
	}
	getTypeOutputInfo(type, &output, &is_varlena);
	rf_digest_string(digest, OidOutputFunctionCall(output, value));
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
	rf_digest_string(digest, rf_type_label(param->ptype, label));
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
		rf_digest_string(digest, identity->grants.roles[i]);
		rf_digest_end(digest, &grants[n++]);
	}
	for (int i = 0; identity != NULL && i < identity->grants.nparties; i++)
	{
		rf_digest_begin(digest);
		rf_digest_string(digest, identity->grants.parties[i].kind);
		rf_digest_field(digest, &identity->grants.parties[i].id, sizeof(RfUuid));
		rf_digest_end(digest, &grants[n++]);
	}
	qsort(grants, n, sizeof(RfHash), compare_grants);
	rf_digest_begin(digest);
	rf_digest_field(digest, grants, n * sizeof(RfHash));
}

static void
begin_fingerprint(const RfKeyUse *use)
{
	add_grants(use->identity);
	rf_digest_string(digest, use->method);
	rf_digest_string(digest, use->path);
	rf_digest_string(digest, GetUserNameFromId(GetUserId(), false));
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
	rf_digest_field(digest, string, len);
}

void
rf_key_fingerprint_statement(RfKeyUse *use, const QueryDesc *queryDesc)
{
	begin_fingerprint(use);
	rf_digest_string(digest, namespace_search_path);
	add_statement(queryDesc);
	add_parameters(queryDesc->params);
	rf_digest_end(digest, &use->fingerprint);
}

/* For idempotent(), whose function is the endpoint. */
void
rf_key_fingerprint_call(RfKeyUse *use, const char *arguments)
{
	begin_fingerprint(use);
	rf_digest_string(digest, arguments);
	rf_digest_end(digest, &use->fingerprint);
}

/* Makes the digest. Called once, from rf_idempotency_init(). */
void
rf_fingerprint_init(void)
{
	digest = rf_digest_create(TopMemoryContext);
}
