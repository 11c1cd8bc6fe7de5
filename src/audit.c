/*
 * audit.c: what changed.
 *
 * A row trigger makes one record of each changed row, with the columns that
 * changed. It is AFTER, so that it sees what was stored: after defaults,
 * generated columns and other triggers. Rows that a foreign key's cascade, a
 * CTE, MERGE, ON CONFLICT, COPY or a deferred trigger changed come by the same
 * way.
 *
 * A row whose key changes is another row from then on, and so is one that moves
 * to another organization: it is recorded as deleted and inserted, as
 * PostgreSQL does with one that moves between partitions. An UPDATE that changes
 * nothing leaves no record.
 *
 * Memory: a record is put together in the trigger's own context and buffers of
 * this file, and copied by rf_audit_append().
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "audit.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(ringfence_audit_row);

/* Values above it are recorded as their size and digest. */
#define VALUE_LIMIT (64 * 1024 * 1024)
#define TIGHT_VALUE_LIMIT (64 * 1024)
#define ROW_LIMIT (200 * 1024 * 1024)

/* A buffer that grew beyond this is freed when its record is done. */
#define KEPT_BYTES (64 * 1024)

/* Bytes of a key that is recorded as it is; audit_key() knows it too. */
#define MAX_KEY 1000

/* Where old and new are written, in mcxt, never freed but for their size. */
typedef struct Buffers
{
	StringInfoData old;
	StringInfoData new;
} Buffers;

/*
 * "busy" while a record is put together: a cast to json may run a statement that
 * makes another one, which brings buffers of its own. An error leaves it set
 * until the transaction ends.
 */
static struct
{
	bool		busy;
	Buffers		buffers;
	MemoryContext mcxt;
}			work;

/* What belongs to no organization. */
static RfUuid no_org;

/* Texts of operations; made once, in work.mcxt. */
static Datum operations[OPERATIONS];

/* --- What changed --- */

/* Do the bytes of two values differ, detoasted? */
static bool
differs(const RfAuditField *field, Datum a, Datum b)
{
	if (field->typbyval)
		return a != b;
	if (field->typlen == -1)
	{
		struct varlena *va = (struct varlena *) DatumGetPointer(a);
		struct varlena *vb = (struct varlena *) DatumGetPointer(b);

		/* Also equal pointers to TOAST, which an UPDATE keeps. */
		if (VARSIZE_ANY(va) == VARSIZE_ANY(vb) &&
			memcmp(va, vb, VARSIZE_ANY(va)) == 0)
			return false;
	}
	return !datum_image_eq(a, b, false, field->typlen);
}

/* Chooses the columns that an UPDATE changed; says how many. */
static int
choose_changed(RfAuditPlan *plan, TupleTableSlot *old, TupleTableSlot *new)
{
	int			n = 0;

	for (int i = 0; i < plan->nfields; i++)
	{
		int			att = plan->fields[i].attno - 1;

		plan->chosen[i] = old->tts_isnull[att] != new->tts_isnull[att] ||
			(!old->tts_isnull[att] &&
			 differs(&plan->fields[i], old->tts_values[att],
					 new->tts_values[att]));
		n += plan->chosen[i];
	}
	return n;
}

/* Chooses the columns that have a value. */
static void
choose_present(RfAuditPlan *plan, TupleTableSlot *slot)
{
	for (int i = 0; i < plan->nfields; i++)
		plan->chosen[i] = !slot->tts_isnull[plan->fields[i].attno - 1];
}

static bool
changes_identity(const RfAuditPlan *plan)
{
	for (int i = 0; i < plan->nfields; i++)
		if (plan->fields[i].is_key && plan->chosen[i])
			return true;
	return false;
}

/* --- Its parts --- */

/*
 * The chosen columns of one side as jsonb, without the personal ones and the
 * org's, which the record has; NULL if there is none. In the buffer.
 */
static Jsonb *
write_side(RfAuditPlan *plan, TupleTableSlot *slot, StringInfo buf, Size limit)
{
	RfJsonObject object;
	int			n = 0;

	for (int i = 0; i < plan->nfields; i++)
		n += plan->chosen[i] && !plan->fields[i].apart;
	if (n == 0)
		return NULL;
	rf_json_begin(&object, buf, n);
	for (int i = 0; i < plan->nfields; i++)
		if (plan->chosen[i] && !plan->fields[i].apart)
			rf_json_key(&object, plan->fields[i].name, plan->fields[i].name_len);
	for (int i = 0; i < plan->nfields; i++)
		if (plan->chosen[i] && !plan->fields[i].apart)
			rf_audit_write_value(&object, &plan->fields[i], slot, limit);
	return rf_json_end(&object);
}

static char *
field_text(const RfAuditField *field, TupleTableSlot *slot)
{
	Datum		value = slot->tts_values[field->attno - 1];
	Oid			output;
	bool		is_varlena;

	if (field->kind == KIND_UUID)
		return rf_uuid_text((RfUuid *) DatumGetUUIDP(value));
	getTypeOutputInfo(field->type, &output, &is_varlena);
	return OidOutputFunctionCall(output, value);
}

/* A long key stands for itself by its digest, so that an index can hold it. */
char *
rf_audit_key(char *key)
{
	Size		len = strlen(key);

	if (len <= MAX_KEY)
		return key;
	return psprintf("sha256:%s", rf_sha256_hex(key, len));
}

/* The primary key without the org; several columns as a JSON array. */
static char *
key_text(const RfAuditPlan *plan, TupleTableSlot *slot)
{
	StringInfoData json;

	if (plan->nkeys == 1)
		return rf_audit_key(field_text(&plan->fields[plan->keys[0]], slot));
	initStringInfo(&json);
	for (int i = 0; i < plan->nkeys; i++)
	{
		appendStringInfoString(&json, i == 0 ? "[" : ", ");
		escape_json(&json, field_text(&plan->fields[plan->keys[i]], slot));
	}
	appendStringInfoChar(&json, ']');
	return rf_audit_key(json.data);
}

static void
set_jsonb(RfAuditRecord *record, RfAuditColumn column, Jsonb *value)
{
	record->nulls[column] = value == NULL;
	if (value != NULL)
		record->values[column] = JsonbPGetDatum(value);
}

/* Throws, since a table of the audit log isn't there. */
void
rf_audit_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the audit log does not exist"),
			 errhint("App \"core\" has it: call ringfence.install('core').")));
}

/* The number of a column of one of the audit log's tables; throws if it isn't so. */
AttrNumber
rf_audit_column(Relation rel, const char *name, Oid type)
{
	AttrNumber	attno = rf_directory_column(rel, name, type);

	if (attno == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column \"%s\" of table \"%s\" is not as app \"core\" made it",
						name, RelationGetRelationName(rel))));
	return attno;
}

/*
 * Begins a record of no organization, with who does it; see rf_audit_origin()
 * for what it may throw.
 */
void
rf_audit_begin(RfAuditRecord *record, RfAuditOperation operation)
{
	memset(record->nulls, true, sizeof(record->nulls));
	rf_audit_origin(record);
	rf_audit_set(record, AUDIT_OPERATION, operations[operation]);
	rf_audit_set(record, AUDIT_ORG_ID, UUIDPGetDatum((pg_uuid_t *) &no_org));
}

/* --- A row's record --- */

static void
check_reason(const RfAuditPlan *plan, const RfAuditRecord *record, Relation rel)
{
	if (plan->needs_reason && record->nulls[AUDIT_REASON])
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("a reason is required to change table \"%s\"",
						RelationGetRelationName(rel)),
				 errhint("Send the header x-reason, or SET LOCAL ringfence.reason.")));
}

/* Bytes that the chosen columns take, at most as far as it matters. */
static Size
chosen_bytes(const RfAuditPlan *plan, TupleTableSlot *slot)
{
	Size		bytes = 0;

	for (int i = 0; i < plan->nfields; i++)
	{
		int			att = plan->fields[i].attno - 1;

		if (plan->fields[i].typlen == -1 && plan->chosen[i] &&
			!slot->tts_isnull[att])
			bytes += toast_raw_datum_size(slot->tts_values[att]);
	}
	return bytes;
}

static Size
value_limit(const RfAuditPlan *plan, TupleTableSlot *old, TupleTableSlot *new)
{
	if ((old != NULL && chosen_bytes(plan, old) > ROW_LIMIT) ||
		(new != NULL && chosen_bytes(plan, new) > ROW_LIMIT))
		return TIGHT_VALUE_LIMIT;
	return VALUE_LIMIT;
}

static void
trim(StringInfo buf)
{
	if (buf->maxlen > KEPT_BYTES)
	{
		MemoryContext old = MemoryContextSwitchTo(work.mcxt);

		pfree(buf->data);
		initStringInfo(buf);
		MemoryContextSwitchTo(old);
	}
}

/* Puts together the record of a change and adds it. */
static void
write_change(RfAuditPlan *plan, RfAuditRecord *record, TupleTableSlot *old,
			 TupleTableSlot *new, Buffers *buffers)
{
	Size		limit = value_limit(plan, old, new);
	Jsonb	   *personal_new;
	Jsonb	   *personal_old;

	personal_new = rf_audit_personal_side(plan, new, limit);
	if (new != NULL)
		set_jsonb(record, AUDIT_NEW, write_side(plan, new, &buffers->new, limit));
	/* Without a key, the whole row as it was says which it is. */
	if (old != NULL && new != NULL && plan->nkeys == 0)
		choose_present(plan, old);
	personal_old = rf_audit_personal_side(plan, old, limit);
	if (old != NULL)
		set_jsonb(record, AUDIT_OLD, write_side(plan, old, &buffers->old, limit));
	set_jsonb(record, AUDIT_PERSONAL,
			  rf_audit_personal(personal_new, personal_old));
	/* A cast to json may have written as somebody else, of another origin. */
	rf_audit_origin(record);
	(void) rf_audit_append(record);
}

/* Records a change of the chosen columns; either slot may be NULL. */
static void
record_change(RfAuditPlan *plan, Relation rel, RfAuditOperation operation,
			  TupleTableSlot *old, TupleTableSlot *new)
{
	TupleTableSlot *present = new != NULL ? new : old;
	RfAuditRecord record;

	rf_audit_begin(&record, operation);
	check_reason(plan, &record, rel);
	if (plan->org_attno != InvalidAttrNumber &&
		!present->tts_isnull[plan->org_attno - 1])
		record.values[AUDIT_ORG_ID] = present->tts_values[plan->org_attno - 1];
	rf_audit_set(&record, AUDIT_RELATION_ID, Int32GetDatum(plan->relation_id));
	if (plan->nkeys > 0)
		rf_audit_set_text(&record, AUDIT_KEY, key_text(plan, present));

	if (work.busy)
	{
		Buffers		own;

		initStringInfo(&own.old);
		initStringInfo(&own.new);
		write_change(plan, &record, old, new, &own);
		return;
	}
	work.busy = true;
	write_change(plan, &record, old, new, &work.buffers);
	work.busy = false;
	trim(&work.buffers.old);
	trim(&work.buffers.new);
}

static void
record_row(RfAuditPlan *plan, Relation rel, RfAuditOperation operation,
		   TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	choose_present(plan, slot);
	if (operation == OPERATION_INSERT)
		record_change(plan, rel, operation, NULL, slot);
	else
		record_change(plan, rel, operation, slot, NULL);
}

static void
record_update(RfAuditPlan *plan, Relation rel, TupleTableSlot *old,
			  TupleTableSlot *new)
{
	slot_getallattrs(old);
	slot_getallattrs(new);
	if (choose_changed(plan, old, new) == 0)
		return;
	if (changes_identity(plan))
	{
		record_row(plan, rel, OPERATION_DELETE, old);
		record_row(plan, rel, OPERATION_INSERT, new);
	}
	else
		record_change(plan, rel, OPERATION_UPDATE, old, new);
}

static void
record_truncate(RfAuditPlan *plan, Relation rel)
{
	RfAuditRecord record;

	rf_audit_begin(&record, OPERATION_TRUNCATE);
	check_reason(plan, &record, rel);
	rf_audit_set(&record, AUDIT_RELATION_ID, Int32GetDatum(plan->relation_id));
	rf_audit_append(&record);
}

static void
set_for_now(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Types whose output depends on settings are written as pg_dump would, in UTC,
 * so that a record means the same in every session. Returns the nest level to go
 * back to, 0 where nothing had to change.
 */
static int
neutral_settings(const RfAuditPlan *plan)
{
	int			nest_level;

	if (likely(!plan->sensitive))
		return 0;
	nest_level = NewGUCNestLevel();
	if (DateStyle != USE_ISO_DATES)
		set_for_now("datestyle", "ISO");
	if (IntervalStyle != INTSTYLE_POSTGRES)
		set_for_now("intervalstyle", "postgres");
	if (extra_float_digits != 1)
		set_for_now("extra_float_digits", "1");
	if (bytea_output != BYTEA_OUTPUT_HEX)
		set_for_now("bytea_output", "hex");
	if (strcmp(locale_monetary, "C") != 0)
		set_for_now("lc_monetary", "C");
	if (strcmp(pg_get_timezone_name(session_timezone), "UTC") != 0)
		set_for_now("timezone", "UTC");
	if (plan->names_objects)
	{
		set_for_now("search_path", "pg_catalog");
		set_for_now("quote_all_identifiers", "off");
	}
	return nest_level;
}

/*
 * audit_row(org column, options...): the trigger of audited tables. May throw:
 * 23502 where a reason is required and there is none, 55000 without an audit
 * log.
 */
Datum
ringfence_audit_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;
	RfAuditPlan *plan;
	bool		chosen[MaxHeapAttributeNumber];
	bool	   *outer_chosen;
	int			nest_level;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s must be called as an AFTER trigger",
						"ringfence.audit_row()")));
	rel = trigger->tg_relation;
	/* Of these the caller records one event for all rows. */
	if (rf_retention_unrecorded(RelationGetRelid(rel),
								TRIGGER_FIRED_BY_DELETE(trigger->tg_event)))
		return PointerGetDatum(NULL);
	/* A label may have been given while the statement waited for a row. */
	AcceptInvalidationMessages();
	plan = rf_audit_plan(rel, trigger->tg_trigger->tgnargs,
						 trigger->tg_trigger->tgargs);
	outer_chosen = plan->chosen;
	plan->chosen = chosen;
	nest_level = neutral_settings(plan);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		record_truncate(plan, rel);
	else if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s must be called as a row trigger",
						"ringfence.audit_row()")));
	else if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		record_row(plan, rel, OPERATION_INSERT, trigger->tg_trigslot);
	else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		record_row(plan, rel, OPERATION_DELETE, trigger->tg_trigslot);
	else
		record_update(plan, rel, trigger->tg_trigslot, trigger->tg_newslot);
	if (nest_level > 0)
		AtEOXact_GUC(true, nest_level);
	plan->chosen = outer_chosen;
	rf_audit_plan_done(plan);
	return PointerGetDatum(NULL);
}

static void
audit_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		work.busy = false;
}

/* Registers settings and callbacks, makes constants. Called once, from _PG_init. */
void
rf_audit_init(void)
{
	static const char *const names[OPERATIONS] = {
		[OPERATION_INSERT] = "INSERT",
		[OPERATION_UPDATE] = "UPDATE",
		[OPERATION_DELETE] = "DELETE",
		[OPERATION_TRUNCATE] = "TRUNCATE",
		[OPERATION_EVENT] = "EVENT",
	};
	MemoryContext old;

	rf_audit_plan_init();
	rf_audit_origin_init();
	rf_audit_incarnation_init();
	rf_audit_partition_init();
	rf_audit_log_init();
	RegisterXactCallback(audit_at_xact_end, NULL);
	work.mcxt = AllocSetContextCreate(TopMemoryContext,
									  "ringfence audit values",
									  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work.mcxt);
	initStringInfo(&work.buffers.old);
	initStringInfo(&work.buffers.new);
	for (int i = 0; i < OPERATIONS; i++)
		operations[i] = CStringGetTextDatum(names[i]);
	MemoryContextSwitchTo(old);
}
