/*
 * audit_plan.c: what a backend remembers of each audited relation.
 *
 * A plan says how a row becomes a record: the columns in jsonb's order, how
 * each is written, its label, the primary key, the column that holds the org,
 * and the row of audit_relations that names this shape of the table. It is
 * built at the relation's first write and lives until something it stands on
 * changes: the relcache says so for the table, and a trigger on the tables of
 * labels and secret names has it say so too. A plan that stands on rows which
 * its own transaction wrote goes with that transaction.
 *
 * Memory: each plan lives in a context of its own, a child of plan_mcxt. One that
 * is built anew while a trigger uses the old (a cast to json may run anything)
 * leaves that an orphan until the trigger is done, or the transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "audit.h"
#include "compat.h"

static MemoryContext plan_mcxt = NULL;
static HTAB *plans = NULL;		/* PlanEntry by relid */
static int	users = 0;			/* triggers at work with any plan */
static List *orphans = NIL;		/* plans in use that were replaced; in
								 * plan_mcxt */

/* Is there a plan that this transaction's own rows gave its relation_id? */
static bool any_provisional = false;

/*
 * How often to look again when an invalidation came meanwhile. Debugging settings
 * send one at each look; what was read under locks is good enough then.
 */
#define MAX_ATTEMPTS 10

typedef struct PlanEntry
{
	Oid			relid;			/* hash key */
	RfAuditPlan *plan;			/* or NULL */
} PlanEntry;

/* --- Building a plan --- */

static RfAuditKind
kind_of(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return KIND_BOOL;
		case INT2OID:
			return KIND_INT2;
		case INT4OID:
			return KIND_INT4;
		case INT8OID:
			return KIND_INT8;
		case FLOAT4OID:
			return KIND_FLOAT4;
		case FLOAT8OID:
			return KIND_FLOAT8;
		case NUMERICOID:
			return KIND_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return KIND_TEXT;
		case UUIDOID:
			return KIND_UUID;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return KIND_DATETIME;
		case JSONOID:
			return KIND_JSON;
		case JSONBOID:
			return KIND_JSONB;
		default:
			return KIND_OTHER;
	}
}

/*
 * Does to_jsonb() take any value of a type? It runs casts to json that types
 * have, and json itself holds what jsonb refuses.
 */
static bool
is_harmless(Oid type)
{
	Oid			element = get_base_element_type(type);

	if (OidIsValid(element))
		type = getBaseType(element);
	return type != JSONOID && !type_is_rowtype(type) &&
		!SearchSysCacheExists2(CASTSOURCETARGET, ObjectIdGetDatum(type),
							   ObjectIdGetDatum(JSONOID));
}

/* Does the output of a type that isn't ours to write depend on settings? */
static bool
is_sensitive(Oid type)
{
	Oid			element = get_base_element_type(type);

	if (OidIsValid(element))
		type = getBaseType(element);
	switch (kind_of(type))
	{
		case KIND_FLOAT4:
		case KIND_FLOAT8:
		case KIND_DATETIME:
			return true;
		case KIND_OTHER:
			return type != INETOID && type != CIDROID && !type_is_enum(type);
		default:
			return false;
	}
}

/* Is it a type whose output is the name of an object? */
static bool
names_objects(Oid type)
{
	Oid			element = get_base_element_type(type);

	switch (OidIsValid(element) ? element : type)
	{
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGNAMESPACEOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGROLEOID:
		case REGTYPEOID:
			return true;
		default:
			return type_is_rowtype(type);
	}
}

static int
compare_fields(const void *a, const void *b)
{
	const RfAuditField *l = a;
	const RfAuditField *r = b;

	if (l->name_len != r->name_len)
		return l->name_len < r->name_len ? -1 : 1;
	return memcmp(l->name, r->name, l->name_len);
}

static void
set_field(RfAuditField *field, Form_pg_attribute att)
{
	FuncExpr   *call;

	memset(field, 0, sizeof(*field));
	field->attno = att->attnum;
	field->typlen = att->attlen;
	field->typbyval = att->attbyval;
	field->type = getBaseType(att->atttypid);
	field->kind = kind_of(field->type);
	field->name = pstrdup(NameStr(att->attname));
	field->name_len = strlen(field->name);
	if (field->kind == KIND_OTHER)
	{
		field->is_array = OidIsValid(get_base_element_type(field->type));
		field->harmless = is_harmless(field->type);
		call = makeFuncExpr(F_TO_JSONB, JSONBOID,
							list_make1(makeNullConst(field->type, -1, InvalidOid)),
							InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
		fmgr_info(F_TO_JSONB, &field->to_jsonb);
		fmgr_info_set_expr((Node *) call, &field->to_jsonb);
	}
}

static void
set_fields(RfAuditPlan *plan, TupleDesc desc)
{
	plan->fields = palloc(desc->natts * sizeof(RfAuditField));
	plan->nfields = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && !rf_is_virtual(att))
			set_field(&plan->fields[plan->nfields++], att);
	}
	for (int i = 0; i < plan->nfields; i++)
		if (plan->fields[i].kind == KIND_OTHER)
		{
			plan->sensitive |= is_sensitive(plan->fields[i].type);
			plan->names_objects |= names_objects(plan->fields[i].type);
		}
	qsort(plan->fields, plan->nfields, sizeof(RfAuditField), compare_fields);
}

/* The primary key, without the column that holds the org. */
static void
set_keys(RfAuditPlan *plan, Relation rel)
{
	Oid			index_oid = rf_primary_key_index(rel);
	Relation	index;

	plan->nkeys = 0;
	for (int i = 0; i < plan->nfields; i++)
		if (plan->fields[i].attno == plan->org_attno)
			plan->fields[i].is_key = true;
	if (!OidIsValid(index_oid))
		return;
	index = index_open(index_oid, AccessShareLock);
	for (int k = 0; k < IndexRelationGetNumberOfKeyAttributes(index); k++)
		for (int i = 0; i < plan->nfields; i++)
			if (plan->fields[i].attno == index->rd_index->indkey.values[k])
			{
				plan->fields[i].is_key = true;
				if (plan->fields[i].attno != plan->org_attno)
					plan->keys[plan->nkeys++] = i;
				plan->sensitive |= is_sensitive(plan->fields[i].type);
			}
	/* The org's row itself: there the id is both. */
	if (plan->nkeys == 0 && plan->org_attno != InvalidAttrNumber)
		for (int i = 0; i < plan->nfields; i++)
			if (plan->fields[i].attno == plan->org_attno)
				plan->keys[plan->nkeys++] = i;
	index_close(index, AccessShareLock);
}

/* Arguments of the trigger: the org's column or '', then options. */
static void
read_arguments(RfAuditPlan *plan, Relation rel, int nargs, char **args)
{
	plan->nargs = nargs;
	plan->args = palloc(nargs * sizeof(char *) + 1);
	for (int i = 0; i < nargs; i++)
		plan->args[i] = pstrdup(args[i]);
	plan->org_attno = InvalidAttrNumber;
	plan->needs_reason = false;
	if (nargs > 0 && *args[0] != '\0')
	{
		plan->org_attno = get_attnum(RelationGetRelid(rel), args[0]);
		if (plan->org_attno <= 0 ||
			TupleDescAttr(RelationGetDescr(rel),
						  plan->org_attno - 1)->atttypid != UUIDOID)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\", which holds the organization, is no uuid column",
							args[0], RelationGetRelationName(rel)),
					 errhint("Call ringfence.audit() for the table again.")));
	}
	for (int i = 1; i < nargs; i++)
		if (strcmp(args[i], "reason") == 0)
			plan->needs_reason = true;
}

static void
build(RfAuditPlan *plan, Relation rel, int nargs, char **args)
{
	MemoryContext old = MemoryContextSwitchTo(plan->mcxt);

	read_arguments(plan, rel, nargs, args);
	set_fields(plan, RelationGetDescr(rel));
	set_keys(plan, rel);
	rf_audit_label(plan);
	plan->relation_id = rf_audit_relation_id(rel, &plan->provisional);
	any_provisional |= plan->provisional;
	MemoryContextSwitchTo(old);
}

static void
drop_plan(RfAuditPlan *plan)
{
	if (plan->users == 0)
		MemoryContextDelete(plan->mcxt);
	else
	{
		MemoryContext old = MemoryContextSwitchTo(plan_mcxt);

		orphans = lappend(orphans, plan);
		MemoryContextSwitchTo(old);
	}
}

static RfAuditPlan *
new_plan(Oid relid)
{
	MemoryContext mcxt = AllocSetContextCreate(plan_mcxt,
											   "ringfence audit plan",
											   ALLOCSET_SMALL_SIZES);
	RfAuditPlan *plan = MemoryContextAllocZero(mcxt, sizeof(RfAuditPlan));

	plan->relid = relid;
	plan->mcxt = mcxt;
	return plan;
}

/* Was the plan made for a trigger with these arguments? */
static bool
has_arguments(const RfAuditPlan *plan, int nargs, char **args)
{
	if (plan->nargs != nargs)
		return false;
	for (int i = 0; i < nargs; i++)
		if (strcmp(plan->args[i], args[i]) != 0)
			return false;
	return true;
}

static void
rebuild(PlanEntry *entry, Relation rel, int nargs, char **args)
{
	if (entry->plan != NULL)
		drop_plan(entry->plan);
	entry->plan = NULL;
	entry->plan = new_plan(entry->relid);
	/* An invalidation that comes meanwhile unsets it. */
	entry->plan->valid = true;
	PG_TRY();
	{
		build(entry->plan, rel, nargs, args);
	}
	PG_CATCH();
	{
		entry->plan->valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * The plan of a relation whose audit trigger fires; rf_audit_plan_done() when it
 * has, an error ends that too. May throw, and then leaves none behind.
 */
RfAuditPlan *
rf_audit_plan(Relation rel, int nargs, char **args)
{
	Oid			relid = RelationGetRelid(rel);
	PlanEntry  *entry;
	bool		found;

	entry = hash_search(plans, &relid, HASH_ENTER, &found);
	if (!found)
		entry->plan = NULL;
	for (int i = 0; i < MAX_ATTEMPTS &&
		 (entry->plan == NULL ||
		  unlikely(!entry->plan->valid ||
				   !has_arguments(entry->plan, nargs, args))); i++)
		rebuild(entry, rel, nargs, args);
	entry->plan->users++;
	users++;
	return entry->plan;
}

void
rf_audit_plan_done(RfAuditPlan *plan)
{
	users--;
	if (--plan->users == 0 && unlikely(list_member_ptr(orphans, plan)))
	{
		orphans = list_delete_ptr(orphans, plan);
		MemoryContextDelete(plan->mcxt);
	}
}

/* --- Invalidation --- */

static void
forget_all(void)
{
	HASH_SEQ_STATUS status;
	PlanEntry  *entry;

	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (entry->plan != NULL)
			entry->plan->valid = false;
}

static void
relation_changed(Datum arg, Oid relid)
{
	PlanEntry  *entry;

	(void) arg;
	if (rf_audit_forget_names(relid))
	{
		forget_all();
		return;
	}
	entry = hash_search(plans, &relid, HASH_FIND, NULL);
	if (entry != NULL && entry->plan != NULL)
		entry->plan->valid = false;
}

/* Rows that an aborted transaction wrote are no ground to stand on. */
static void
settle_provisional(bool committed)
{
	HASH_SEQ_STATUS status;
	PlanEntry  *entry;

	if (!any_provisional)
		return;
	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->plan == NULL || !entry->plan->provisional)
			continue;
		if (committed)
			entry->plan->provisional = false;
		else
			entry->plan->valid = false;
	}
	if (committed)
		any_provisional = false;
}

/* Triggers that an error ended, which may have been caught, use no plan now. */
static void
release_all(void)
{
	HASH_SEQ_STATUS status;
	PlanEntry  *entry;
	ListCell   *lc;

	if (users == 0 && orphans == NIL)
		return;
	users = 0;
	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (entry->plan != NULL)
			entry->plan->users = 0;
	foreach(lc, orphans)
		MemoryContextDelete(((RfAuditPlan *) lfirst(lc))->mcxt);
	list_free(orphans);
	orphans = NIL;
}

static void
plan_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	release_all();
	settle_provisional(event == XACT_EVENT_COMMIT);
}

static void
plan_at_subxact_end(SubXactEvent event, SubTransactionId my_subid,
					SubTransactionId parent_subid, void *arg)
{
	(void) my_subid;
	(void) parent_subid;
	(void) arg;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		settle_provisional(false);
}

/* Registers callbacks. Called once, from rf_audit_init(). */
void
rf_audit_plan_init(void)
{
	HASHCTL		ctl;

	plan_mcxt = AllocSetContextCreate(TopMemoryContext, "ringfence audit plans",
									  ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(PlanEntry);
	ctl.hcxt = plan_mcxt;
	plans = hash_create("ringfence audit plans", 32, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterXactCallback(plan_at_xact_end, NULL);
	RegisterSubXactCallback(plan_at_subxact_end, NULL);
}
