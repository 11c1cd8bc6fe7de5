/*
 * audit_event.c: what happened without a change of a table.
 *
 * An event is a record like any other, of the caller's transaction; or, where
 * that could take it along by rolling back or may not write, committed apart by
 * a background worker (see apart.c). An operator's reading of the audit log is
 * always of the second kind.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

#include "apart.h"
#include "audit.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(ringfence_audit_event);
PG_FUNCTION_INFO_V1(ringfence_audit_reading);
PG_FUNCTION_INFO_V1(ringfence_audit_values);

#define MAX_SUBJECT 1000
#define MAX_DETAILS (1024 * 1024)

/* A record on its way to the worker: its tuple follows. */
typedef struct EventRequest
{
	RfApart		apart;
	RfUuid		id;				/* the record's; set by the worker */
	uint32		length;
	char		tuple[FLEXIBLE_ARRAY_MEMBER];	/* MAXALIGNed */
} EventRequest;

/* The transaction and context whose reading is on record. */
static struct
{
	uint64		transaction;
	uint64		generation;
}			reading;

/* --- Apart --- */

static void
write_apart(RfApart *apart)
{
	EventRequest *request = (EventRequest *) apart;
	RfAuditRecord record;
	HeapTupleData tuple;

	StartTransactionCommand();
	rf_apart_become_owner();
	memset(&tuple, 0, sizeof(tuple));
	tuple.t_len = request->length;
	tuple.t_data = (HeapTupleHeader) MAXALIGN(request->tuple);
	rf_audit_deform(&tuple, &record);
	request->id = rf_audit_append(&record);
	rf_audit_flush();
	rf_apart_become_superuser();
	CommitTransactionCommand();
}

/* The worker. */
void
rf_audit_event_main(Datum main_arg)
{
	dsm_segment *segment = rf_apart_attach(main_arg, "recording an audit event");

	rf_apart_record(segment, write_apart);
	proc_exit(0);
}

/* Has a worker commit a record; returns its id. Throws 53000 if it can't. */
static RfUuid
append_apart(RfAuditRecord *record)
{
	HeapTuple	tuple;
	dsm_segment *segment;
	EventRequest *request;
	RfUuid		id;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot record an event on a standby")));
	tuple = rf_audit_form(record);
	segment = rf_apart_segment(offsetof(EventRequest, tuple) + tuple->t_len +
							   MAXIMUM_ALIGNOF);
	request = dsm_segment_address(segment);
	request->length = tuple->t_len;
	memcpy((char *) MAXALIGN(request->tuple), tuple->t_data, tuple->t_len);
	rf_apart_run(segment, "rf_audit_event_main", "ringfence audit event",
				 "the event");
	id = request->id;
	dsm_detach(segment);
	return id;
}

/* --- Events --- */

/* Does the code that asks run as ringfence_owner or the database's owner? */
static bool
is_owner(void)
{
	return superuser() ||
		has_privs_of_role(GetUserId(), get_role_oid(RF_ROLE_OWNER, false)) ||
		has_privs_of_role(GetUserId(), ROLE_PG_DATABASE_OWNER);
}

/* Lower-case words with dots between: "invoice.sent". */
static char *
action_name(FunctionCallInfo fcinfo)
{
	char	   *action = PG_ARGISNULL(0) ? pstrdup("") :
	text_to_cstring(PG_GETARG_TEXT_PP(0));
	size_t		len = strlen(action);

	if (len >= NAMEDATALEN || strchr(action, '.') == NULL ||
		strspn(action, "abcdefghijklmnopqrstuvwxyz0123456789_.") != len ||
		action[0] < 'a' || action[0] > 'z' || action[len - 1] == '.' ||
		strstr(action, "..") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid action of an audit event"),
				 errdetail("It is two or more words of lower-case letters, digits and underscores with dots between, like \"invoice.sent\", of at most %d bytes.",
						   NAMEDATALEN - 1)));
	if (strncmp(action, "audit.", 6) == 0 && !is_owner())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to record an event \"%s\"", action),
				 errdetail("Names that begin with \"audit.\" are for the audit log's own events.")));
	return action;
}

/*
 * Which organization an event is of: that of the context, where there is one.
 * Without, owners may name any, a job none, and operators have to enter one.
 */
static void
check_org(const RfUuid *org)
{
	const RfIdentity *identity = rf_context_peek();

	if (superuser())
		return;
	if (identity == NULL || !identity->has_org ?
		!is_owner() && (org != NULL ||
						!has_privs_of_role(GetUserId(), get_role_oid(RF_ROLE_JOBS, false))) :
		org == NULL || memcmp(&identity->org, org, sizeof(*org)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to record an event of that organization"),
				 errhint("Call %s first.", "ringfence.enter_org()")));
}

static Datum
event_details(FunctionCallInfo fcinfo)
{
	Jsonb	   *details = PG_GETARG_JSONB_P(2);

	if (!JB_ROOT_IS_OBJECT(details) || VARSIZE(details) > MAX_DETAILS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid details of an audit event"),
				 errdetail("They are a JSON object of at most %d bytes.",
						   MAX_DETAILS)));
	return JsonbPGetDatum(rf_json_mask(details));
}

static Datum
limited_text(FunctionCallInfo fcinfo, int argument, int limit, const char *what)
{
	char	   *value = text_to_cstring(PG_GETARG_TEXT_PP(argument));

	if (strlen(value) > (size_t) limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s of an audit event is too long", what),
				 errdetail("It has more than %d bytes.", limit)));
	return CStringGetTextDatum(rf_audit_printable(value));
}

/*
 * audit_event(action text, subject text, details jsonb, reason text, org uuid,
 * apart boolean) returns the record's id.
 */
Datum
ringfence_audit_event(PG_FUNCTION_ARGS)
{
	RfUuid	   *org = PG_ARGISNULL(4) ? NULL : (RfUuid *) PG_GETARG_UUID_P(4);
	bool		apart = XactReadOnly || (!PG_ARGISNULL(5) && PG_GETARG_BOOL(5));
	RfUuid	   *id = palloc(sizeof(RfUuid));
	RfAuditRecord record;

	check_org(org);
	rf_audit_begin(&record, OPERATION_EVENT);
	rf_audit_set_text(&record, AUDIT_ACTION, action_name(fcinfo));
	if (org != NULL)
		rf_audit_set(&record, AUDIT_ORG_ID, PG_GETARG_DATUM(4));
	if (!PG_ARGISNULL(1))
		rf_audit_set(&record, AUDIT_KEY, limited_text(fcinfo, 1, MAX_SUBJECT, "subject"));
	if (!PG_ARGISNULL(2))
		rf_audit_set(&record, AUDIT_NEW, event_details(fcinfo));
	if (!PG_ARGISNULL(3))
		rf_audit_set(&record, AUDIT_REASON,
					 limited_text(fcinfo, 3, RF_MAX_REASON, "reason"));
	*id = apart ? append_apart(&record) : rf_audit_append(&record);
	PG_RETURN_UUID_P((pg_uuid_t *) id);
}

/*
 * audit_reading(): true, and the first time in an operator's transaction the
 * reading is on record by then.
 */
Datum
ringfence_audit_reading(PG_FUNCTION_ARGS)
{
	const RfIdentity *identity = rf_context_peek();
	RfAuditRecord record;

	if (identity == NULL || !identity->has_org ||
		identity->actor == RF_ACTOR_USER ||
		(reading.transaction == rf_context_transaction() &&
		 reading.generation == rf_context_generation()))
		PG_RETURN_BOOL(true);

	rf_audit_begin(&record, OPERATION_EVENT);
	rf_audit_set_text(&record, AUDIT_ACTION, "audit.read");
	rf_audit_set(&record, AUDIT_ORG_ID, UUIDPGetDatum((pg_uuid_t *) &identity->org));
	(void) append_apart(&record);
	reading.transaction = rf_context_transaction();
	reading.generation = rf_context_generation();
	PG_RETURN_BOOL(true);
}

/* --- Reading records --- */

/* The values of one side's personal columns, NULL for those forgotten. */
static Jsonb *
personal_values(Jsonb *side)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it = JsonbIteratorInit(&side->root);
	JsonbIteratorToken token;
	JsonbValue	v;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		JsonbValue *value = NULL;

		if (token == WJB_KEY)
			(void) pushJsonbValue(&state, WJB_KEY, &v);
		if (token != WJB_VALUE)
			continue;
		if (v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data))
			value = getKeyJsonValueFromContainer(v.val.binary.data, "value", 5,
												 NULL);
		if (value == NULL)
		{
			v.type = jbvNull;
			value = &v;
		}
		(void) pushJsonbValue(&state, WJB_VALUE, value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* audit_values(recorded jsonb, personal jsonb, side text): both together. */
Datum
ringfence_audit_values(PG_FUNCTION_ARGS)
{
	JsonbValue *side = NULL;
	Jsonb	   *values;

	if (!PG_ARGISNULL(1) && !PG_ARGISNULL(2))
	{
		Jsonb	   *personal = PG_GETARG_JSONB_P(1);
		text	   *name = PG_GETARG_TEXT_PP(2);

		if (JB_ROOT_IS_OBJECT(personal))
			side = getKeyJsonValueFromContainer(&personal->root,
												VARDATA_ANY(name),
												VARSIZE_ANY_EXHDR(name), NULL);
	}
	if (side == NULL || side->type != jbvBinary ||
		!JsonContainerIsObject(side->val.binary.data))
	{
		if (PG_ARGISNULL(0))
			PG_RETURN_NULL();
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	}
	values = personal_values(JsonbValueToJsonb(side));
	if (PG_ARGISNULL(0))
		PG_RETURN_JSONB_P(values);
	PG_RETURN_DATUM(DirectFunctionCall2(jsonb_concat, PG_GETARG_DATUM(0),
										JsonbPGetDatum(values)));
}
