/*
 * audit_label.c: which columns and fields hold secrets or personal data.
 *
 * Labels stand in ringfence_data.columns, names that tell of a secret in
 * ringfence_data.secret_names. A trigger on both has every session read them
 * anew: it sends the invalidation that DDL would.
 *
 * Memory: the patterns live in a context of their own until they change.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "audit.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(ringfence_audit_labels_changed);
PG_FUNCTION_INFO_V1(ringfence_audit_secret_name);

#define LABELS "columns"
#define SECRET_NAMES "secret_names"
#define MAX_ATTEMPTS 10			/* see audit_plan.c */

/* The patterns of secret_names; void while "valid" is false. */
static struct
{
	bool		valid;
	uint64		changes;		/* of the table, counted */
	Oid			relid;
	int			n;
	char	  **patterns;
	MemoryContext mcxt;
}			secrets;

/* Names that were looked at; emptied with the patterns. */
typedef struct KnownName
{
	bool		used;
	bool		is_secret;
	uint8		len;
	char		name[29];
} KnownName;

#define KNOWN_NAMES 256

static KnownName known_names[KNOWN_NAMES];

/* --- Secret names --- */

static void
read_patterns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	AttrNumber	attno = rf_audit_column(rel, "pattern", TEXTOID);
	MemoryContext old = MemoryContextSwitchTo(secrets.mcxt);
	List	   *found = NIL;
	SysScanDesc scan;
	HeapTuple	tuple;
	ListCell   *lc;

	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, attno, desc, &isnull);

		if (!isnull)
			found = lappend(found, TextDatumGetCString(value));
	}
	systable_endscan(scan);
	secrets.patterns = palloc(list_length(found) * sizeof(char *) + 1);
	foreach(lc, found)
		secrets.patterns[secrets.n++] = lfirst(lc);
	MemoryContextSwitchTo(old);
}

/*
 * Whatever stops this on the way, the patterns stay void: a session that missed
 * some would write secrets in clear.
 */
static void
load_secret_names(void)
{
	int			attempts = 0;
	uint64		changes;
	Relation	rel;

	if (secrets.mcxt == NULL)
		secrets.mcxt = AllocSetContextCreate(TopMemoryContext, "ringfence secret names",
											 ALLOCSET_SMALL_SIZES);
	do
	{
		MemoryContextReset(secrets.mcxt);
		secrets.n = 0;
		memset(known_names, 0, sizeof(known_names));
		rel = rf_directory_open(SECRET_NAMES, AccessShareLock);
		if (rel == NULL)
			rf_audit_missing();
		secrets.relid = RelationGetRelid(rel);
		changes = secrets.changes;
		read_patterns(rel);
		table_close(rel, AccessShareLock);
	} while (secrets.changes != changes && ++attempts < MAX_ATTEMPTS);
	secrets.valid = true;
}

/* Does a text contain a pattern, its letters and digits taken alone? */
static bool
contains_pattern(const char *name, int len)
{
	char		buf[NAMEDATALEN * 2];
	char	   *bare = len < (int) sizeof(buf) ? buf : palloc(len + 1);
	char	   *p = bare;
	bool		result = false;

	for (int i = 0; i < len; i++)
	{
		unsigned char c = name[i];

		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			*p++ = c;
	}
	*p = '\0';
	for (int i = 0; i < secrets.n && !result; i++)
		result = strstr(bare, secrets.patterns[i]) != NULL;
	if (bare != buf)
		pfree(bare);
	return result;
}

/*
 * Does a name tell of a secret? It does if it contains a pattern, with case and
 * everything but letters and digits left aside. JSON repeats its names row by
 * row, so answers for short ones are remembered.
 */
bool
rf_audit_secret_name(const char *name, int len)
{
	KnownName  *known;

	if (!secrets.valid)
		load_secret_names();
	if (len > (int) sizeof(known->name))
		return contains_pattern(name, len);
	known = &known_names[hash_bytes((const unsigned char *) name, len) % KNOWN_NAMES];
	if (!known->used || known->len != len || memcmp(known->name, name, len) != 0)
	{
		known->is_secret = contains_pattern(name, len);
		known->used = true;
		known->len = len;
		memcpy(known->name, name, len);
	}
	return known->is_secret;
}

static bool
has_secret_name(Jsonb *value)
{
	JsonbIterator *it = JsonbIteratorInit(&value->root);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
		if (token == WJB_KEY &&
			rf_audit_secret_name(v.val.string.val, v.val.string.len))
			return true;
	return false;
}

/* audit_secret_name(name text): does a name tell of a secret? */
Datum
ringfence_audit_secret_name(PG_FUNCTION_ARGS)
{
	text	   *name = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(rf_audit_secret_name(VARDATA_ANY(name),
										VARSIZE_ANY_EXHDR(name)));
}

/*
 * The same value with "[secret]" for whatever a secret name stands before, however
 * deep; itself if there is none. NULLs stay.
 */
Jsonb *
rf_json_mask(Jsonb *value)
{
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	bool		skip = false;

	if (JB_ROOT_IS_SCALAR(value) || !has_secret_name(value))
		return value;

	it = JsonbIteratorInit(&value->root);
	while ((token = JsonbIteratorNext(&it, &v, skip)) != WJB_DONE)
	{
		if (skip && token == WJB_VALUE && v.type != jbvNull)
		{
			v.type = jbvString;
			v.val.string.val = RF_AUDIT_MASK;
			v.val.string.len = strlen(RF_AUDIT_MASK);
		}
		skip = token == WJB_KEY &&
			rf_audit_secret_name(v.val.string.val, v.val.string.len);
		result = pushJsonbValue(&state, token,
								token < WJB_BEGIN_ARRAY ||
								(token == WJB_BEGIN_ARRAY &&
								 v.val.array.rawScalar) ? &v : NULL);
	}
	return JsonbValueToJsonb(result);
}

/*
 * Forgets the patterns if a relation that changed is theirs (or any may have,
 * for InvalidOid); says whether it did.
 */
bool
rf_audit_forget_names(Oid relid)
{
	if (relid != InvalidOid && relid != secrets.relid)
		return false;
	secrets.valid = false;
	secrets.changes++;
	return true;
}

/* --- Labels --- */

/* A relation, and whatever it is a partition or child of. */
static List *
with_ancestors(Oid relid)
{
	List	   *all = list_make1_oid(relid);
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);

	for (int i = 0; i < list_length(all); i++)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(list_nth_oid(all, i)));
		scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true,
								  NULL, 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
			all = list_append_unique_oid(all,
										 ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
		systable_endscan(scan);
	}
	table_close(inherits, AccessShareLock);
	return all;
}

static RfAuditLabel
label_of(const char *name)
{
	if (strcmp(name, "secret") == 0)
		return LABEL_SECRET;
	if (strcmp(name, "personal") == 0)
		return LABEL_PERSONAL;
	return LABEL_PLAIN;
}

/* Takes over the labels that one relation gives; the stricter one stays. */
static void
apply_labels(RfAuditPlan *plan, Relation labels, Oid relid)
{
	TupleDesc	desc = RelationGetDescr(labels);
	AttrNumber	column_attno = rf_audit_column(labels, "column_name", NAMEOID);
	AttrNumber	label_attno = rf_audit_column(labels, "label", TEXTOID);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, rf_audit_column(labels, "relation", REGCLASSOID),
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(labels, rf_primary_key_index(labels),
							  OidIsValid(rf_primary_key_index(labels)), NULL,
							  1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		nulls[2];
		Datum		column_name = heap_getattr(tuple, column_attno, desc, &nulls[0]);
		Datum		label_name = heap_getattr(tuple, label_attno, desc, &nulls[1]);
		const char *column;
		RfAuditLabel label;

		if (nulls[0] || nulls[1])
			continue;
		column = NameStr(*DatumGetName(column_name));
		label = label_of(TextDatumGetCString(label_name));
		for (int i = 0; i < plan->nfields; i++)
			if (strcmp(plan->fields[i].name, column) == 0)
				plan->fields[i].label = Max(plan->fields[i].label, label);
	}
	systable_endscan(scan);
}

/* Of the orgs themselves: there the id is both. */
static bool
org_is_key(const RfAuditPlan *plan)
{
	return plan->nkeys == 1 &&
		plan->fields[plan->keys[0]].attno == plan->org_attno;
}

/*
 * Gives each field its label: of the table, of what it is a partition or child
 * of, or by its name.
 */
void
rf_audit_label(RfAuditPlan *plan)
{
	Relation	labels = rf_directory_open(LABELS, AccessShareLock);
	ListCell   *lc;

	if (labels == NULL)
		rf_audit_missing();
	foreach(lc, with_ancestors(plan->relid))
		apply_labels(plan, labels, lfirst_oid(lc));
	table_close(labels, AccessShareLock);
	for (int i = 0; i < plan->nfields; i++)
	{
		RfAuditField *field = &plan->fields[i];

		if (field->label != LABEL_PLAIN &&
			rf_audit_secret_name(field->name, field->name_len))
			field->label = LABEL_SECRET;
		/* A key that isn't stored would be no key. */
		if (field->is_key)
			field->label = LABEL_NONE;
		field->apart = field->label == LABEL_PERSONAL ||
			(field->attno == plan->org_attno && !org_is_key(plan));
	}
}

/* --- Changes --- */

static void
invalidate(Oid relid)
{
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		CacheInvalidateRelcacheByRelid(relid);
}

static void
invalidate_labelled(HeapTuple tuple, AttrNumber attno, TupleDesc desc)
{
	bool		isnull;
	Datum		relid = heap_getattr(tuple, attno, desc, &isnull);
	ListCell   *lc;

	if (isnull || !SearchSysCacheExists1(RELOID, relid))
		return;
	foreach(lc, find_all_inheritors(DatumGetObjectId(relid), NoLock, NULL))
		invalidate(lfirst_oid(lc));
}

/*
 * Trigger on the tables of labels and of secret names: every session builds its
 * plans anew once this has committed.
 */
Datum
ringfence_audit_labels_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s must be called as a trigger",
						"ringfence.audit_labels_changed()")));
	rel = trigger->tg_relation;
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		CacheInvalidateRelcacheAll();
	else if (strcmp(RelationGetRelationName(rel), LABELS) != 0)
		invalidate(RelationGetRelid(rel));
	else
	{
		AttrNumber	attno = rf_audit_column(rel, "relation", REGCLASSOID);

		invalidate_labelled(trigger->tg_trigtuple, attno, RelationGetDescr(rel));
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
			invalidate_labelled(trigger->tg_newtuple, attno,
								RelationGetDescr(rel));
	}
	return PointerGetDatum(NULL);
}
