/*
 * audit_shape.c: what tables were called, and their columns, when they changed.
 *
 * A record refers to a row of audit_relations instead of repeating a name, and
 * keeps its meaning when the table or a column is renamed: the next record
 * refers to another row. These rows are never changed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "table.h"

PG_FUNCTION_INFO_V1(ringfence_audit_shape);

#define RELATIONS "audit_relations"

enum
{
	RELATIONS_ID = 1,
	RELATIONS_RELATION,
	RELATIONS_NAME,
	RELATIONS_COLUMNS,
	RELATIONS_RECORDED_AT,
	RELATIONS_NATTS = RELATIONS_RECORDED_AT,
};

/* The table that a partition's rows are known under; itself for any other. */
Oid
rf_audit_root(Relation rel)
{
	if (!rel->rd_rel->relispartition)
		return RelationGetRelid(rel);
	return llast_oid(get_partition_ancestors(RelationGetRelid(rel)));
}

/* A relation's name with its schema, as SQL writes it; palloc'd. */
char *
rf_audit_relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *schema = name == NULL ? NULL :
	get_namespace_name(get_rel_namespace(relid));

	if (schema == NULL)
		elog(ERROR, "cache lookup failed for relation %u", relid);
	return quote_qualified_identifier(schema, name);
}

/* Opens audit_relations if it is as it was made; throws if not. */
static Relation
open_relations(void)
{
	Relation	rel = rf_directory_open(RELATIONS, AccessShareLock);

	if (rel == NULL)
		rf_audit_missing();
	if (rf_audit_column(rel, "id", INT4OID) != RELATIONS_ID ||
		rf_audit_column(rel, "relation", REGCLASSOID) != RELATIONS_RELATION ||
		rf_audit_column(rel, "name", TEXTOID) != RELATIONS_NAME ||
		rf_audit_column(rel, "columns", JSONBOID) != RELATIONS_COLUMNS ||
		rf_audit_column(rel, "recorded_at", TIMESTAMPTZOID) != RELATIONS_RECORDED_AT)
		rf_audit_missing();
	return rel;
}

/* {"1": "id", ...} */
static Jsonb *
column_names(TupleDesc desc)
{
	JsonbParseState *state = NULL;
	JsonbValue	v;

	v.type = jbvString;
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		v.val.string.val = psprintf("%d", att->attnum);
		v.val.string.len = strlen(v.val.string.val);
		(void) pushJsonbValue(&state, WJB_KEY, &v);
		v.val.string.val = pstrdup(NameStr(att->attname));
		v.val.string.len = strlen(v.val.string.val);
		(void) pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * The row with that name and those columns, or 0; "is_own" tells whether this
 * transaction wrote it.
 */
static int
find_shape(Relation relations, Oid relid, const char *name, Jsonb *columns,
		   bool *is_own)
{
	TupleDesc	desc = RelationGetDescr(relations);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			id = 0;

	ScanKeyInit(&key, RELATIONS_RELATION, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(relations, InvalidOid, false, snapshot, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[RELATIONS_NATTS];
		bool		nulls[RELATIONS_NATTS];
		Jsonb	   *found;

		for (int i = 0; i < RELATIONS_NATTS; i++)
			values[i] = heap_getattr(tuple, i + 1, desc, &nulls[i]);
		if (nulls[RELATIONS_NAME - 1] || nulls[RELATIONS_COLUMNS - 1] ||
			strcmp(TextDatumGetCString(values[RELATIONS_NAME - 1]), name) != 0)
			continue;
		found = DatumGetJsonbP(values[RELATIONS_COLUMNS - 1]);
		if (compareJsonbContainers(&found->root, &columns->root) != 0 ||
			DatumGetInt32(values[RELATIONS_ID - 1]) < id)
			continue;
		id = DatumGetInt32(values[RELATIONS_ID - 1]);
		*is_own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return id;
}

static int
highest_id(Relation relations)
{
	SysScanDesc scan;
	HeapTuple	tuple;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			id = 0;
	bool		isnull;

	scan = systable_beginscan(relations, InvalidOid, false, snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		id = Max(id, DatumGetInt32(heap_getattr(tuple, RELATIONS_ID,
												RelationGetDescr(relations),
												&isnull)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return id;
}

static int
add_shape(Relation relations, Oid relid, const char *name, Jsonb *columns)
{
	Datum	   *values = palloc0(RelationGetDescr(relations)->natts * sizeof(Datum));
	bool	   *nulls = palloc(RelationGetDescr(relations)->natts * sizeof(bool));
	int			id = highest_id(relations) + 1;
	HeapTuple	tuple;

	memset(nulls, true, RelationGetDescr(relations)->natts * sizeof(bool));
	memset(nulls, false, RELATIONS_NATTS * sizeof(bool));
	values[RELATIONS_ID - 1] = Int32GetDatum(id);
	values[RELATIONS_RELATION - 1] = ObjectIdGetDatum(relid);
	values[RELATIONS_NAME - 1] = CStringGetTextDatum(name);
	values[RELATIONS_COLUMNS - 1] = JsonbPGetDatum(columns);
	values[RELATIONS_RECORDED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	tuple = heap_form_tuple(RelationGetDescr(relations), values, nulls);
	rf_table_insert(relations, tuple);
	return id;
}

/*
 * The row of audit_relations that says what a relation is called now and which
 * columns it has; made if there is none. "is_own" tells whether this transaction
 * wrote it. Two sessions that look for the same one wait for each other: it is
 * usually made by the DDL that changed the table, while nobody else writes that.
 */
int
rf_audit_relation_id(Relation rel, bool *is_own)
{
	Oid			relid = rf_audit_root(rel);
	Relation	named = relid == RelationGetRelid(rel) ? rel :
	table_open(relid, AccessShareLock);
	char	   *name = rf_audit_relation_name(relid);
	Jsonb	   *columns = column_names(RelationGetDescr(named));
	Relation	relations = open_relations();
	int			id;

	*is_own = false;
	id = find_shape(relations, relid, name, columns, is_own);
	if (id == 0)
	{
		LockRelation(relations, ShareRowExclusiveLock);
		id = find_shape(relations, relid, name, columns, is_own);
		if (id == 0)
		{
			id = add_shape(relations, relid, name, columns);
			*is_own = true;
		}
	}
	/* The lock stays until the row is there for all. */
	table_close(relations, NoLock);
	if (named != rel)
		table_close(named, AccessShareLock);
	return id;
}

/* The ids of all rows that a relation ever had. */
List *
rf_audit_relation_ids(Oid relid)
{
	Relation	relations = open_relations();
	Snapshot	snapshot;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *ids = NIL;
	bool		isnull;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyInit(&key, RELATIONS_RELATION, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(relations, InvalidOid, false, snapshot, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		ids = lappend_int(ids, DatumGetInt32(heap_getattr(tuple, RELATIONS_ID,
														  RelationGetDescr(relations),
														  &isnull)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relations, AccessShareLock);
	return ids;
}

/* audit_shape(rel regclass): notes a table's name and columns of now. */
Datum
ringfence_audit_shape(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	bool		is_own;
	int			id = rf_audit_relation_id(rel, &is_own);

	table_close(rel, AccessShareLock);
	PG_RETURN_INT32(id);
}
