/*
 * audit_forget_subject.c: personal values out of the records of whatever was
 * about a person.
 *
 * A column says whom a row is about, but a record of an UPDATE has the columns
 * that changed and no others. So the rows' keys are collected first, from the
 * records of INSERT and DELETE and of an UPDATE of that column, and from the rows
 * that are there now, which may be older than recording is; then all records
 * with one of those keys are forgotten. Rows that are long gone are found by
 * their records, and so are those of the column's earlier names.
 *
 * A partition is read once for each of the two: by its index of organization and
 * table where it has one, as months do that are over, or else by the
 * organization's part of the primary key. Of a key its digest is kept.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "audit.h"
#include "audit_forget.h"
#include "compat.h"
#include "seal.h"

PG_FUNCTION_INFO_V1(ringfence_audit_forget_subject);

/* A call at work. */
typedef struct Work
{
	const RfUuid *subject;
	char	   *text;			/* of it */
	const char *column;
	RfDigest   *digest;
	int			nshapes;
	RfForgetShape *shapes;		/* in the order of their ids */
	HTAB	   *keys;			/* digests */
	MemoryContext record;		/* reset for each record */
	int64		count;			/* records forgotten */
} Work;

/* Columns of a record that matter here. */
typedef struct Columns
{
	TupleDesc	desc;
	AttrNumber	relation_id;
	AttrNumber	key;
	AttrNumber	old;
	AttrNumber	new;
	AttrNumber	personal;
} Columns;

/* What to do with the records of a table. */
typedef void (*Visit) (Work *work, const Columns *columns, const RfForgetShape *shape,
					   HeapTuple tuple, RfForgetter *forgetter);

static const RfForgetShape *
find_shape(const Work *work, int32 id)
{
	RfForgetShape key = {.id = id};

	return bsearch(&key, work->shapes, work->nshapes, sizeof(RfForgetShape),
				   rf_forget_compare_shapes);
}

/* --- Keys --- */

static void
add_key(Work *work, const char *key, size_t len)
{
	RfHash		hash;

	rf_digest(work->digest, key, len, &hash);
	(void) hash_search(work->keys, &hash, HASH_ENTER, NULL);
}

static bool
has_key(Work *work, const char *key, size_t len)
{
	RfHash		hash;

	rf_digest(work->digest, key, len, &hash);
	return hash_search(work->keys, &hash, HASH_FIND, NULL) != NULL;
}

/* Writes types as the log has them, whatever the session's settings are. */
static void
neutral_settings(void)
{
	static const char *const settings[][2] = {
		{"datestyle", "ISO"}, {"intervalstyle", "postgres"},
		{"extra_float_digits", "1"}, {"bytea_output", "hex"},
		{"lc_monetary", "C"}, {"timezone", "UTC"},
		{"search_path", "pg_catalog"}, {"quote_all_identifiers", "off"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
}

/* The column that holds a table's organization, as it is audited. */
static AttrNumber
org_column(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;
	const char *name = "org_id";

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (strcmp(triggers->triggers[i].tgname, "ringfence_audit") == 0 &&
			triggers->triggers[i].tgnargs > 0)
			name = triggers->triggers[i].tgargs[0];
	return get_attnum(RelationGetRelid(rel), name);
}

/* The columns of a table's key, as records have it; says how many. */
static int
key_columns(Relation rel, AttrNumber *attnos)
{
	Oid			index_oid = rf_primary_key_index(rel);
	AttrNumber	org = org_column(rel);
	Relation	index;
	int			n = 0;

	if (!OidIsValid(index_oid))
		return 0;
	index = index_open(index_oid, AccessShareLock);
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		if (index->rd_index->indkey.values[i] != org)
			attnos[n++] = index->rd_index->indkey.values[i];
	index_close(index, AccessShareLock);
	if (n == 0)
		attnos[n++] = org;
	return n;
}

static char *
value_text(Relation rel, HeapTuple tuple, AttrNumber attno)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attno, RelationGetDescr(rel),
									 &isnull);
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(getBaseType(get_atttype(RelationGetRelid(rel), attno)),
					  &output, &is_varlena);
	return isnull ? "" : OidOutputFunctionCall(output, value);
}

/* The key of a row, as records have it. */
static void
add_row(Work *work, Relation rel, HeapTuple tuple, const AttrNumber *attnos,
		int n)
{
	StringInfoData json;
	char	   *key;

	if (n == 1)
		key = rf_audit_key(value_text(rel, tuple, attnos[0]));
	else
	{
		initStringInfo(&json);
		for (int i = 0; i < n; i++)
		{
			appendStringInfoString(&json, i == 0 ? "[" : ", ");
			escape_json(&json, value_text(rel, tuple, attnos[i]));
		}
		appendStringInfoChar(&json, ']');
		key = rf_audit_key(json.data);
	}
	add_key(work, key, strlen(key));
}

/*
 * The keys of rows that are about the subject now; of the organization's, if the
 * table has it in a column.
 */
static void
add_rows(Work *work, Relation rel, const RfUuid *org, Snapshot snapshot)
{
	const char *const columns[] = {"org_id", work->column};
	AttrNumber	org_attno = rf_directory_column(rel, columns[0], UUIDOID);
	bool		by_org = org != NULL && org_attno != InvalidAttrNumber;
	Oid			index_oid = by_org ? rf_seal_index(rel, 2, columns) :
	rf_seal_index(rel, 1, columns + 1);
	AttrNumber	attnos[INDEX_MAX_KEYS];
	int			n = key_columns(rel, attnos);
	ScanKeyData keys[2];
	int			nkeys = 0;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (n == 0)
		return;
	if (by_org)
		ScanKeyInit(&keys[nkeys++], org_attno, BTEqualStrategyNumber,
					F_UUID_EQ, UUIDPGetDatum((pg_uuid_t *) org));
	ScanKeyInit(&keys[nkeys++],
				get_attnum(RelationGetRelid(rel), work->column),
				BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) work->subject));
	scan = systable_beginscan(rel, index_oid, OidIsValid(index_oid), snapshot,
							  nkeys, keys);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(work->record);

		CHECK_FOR_INTERRUPTS();
		add_row(work, rel, tuple, attnos, n);
		MemoryContextSwitchTo(old);
		MemoryContextReset(work->record);
	}
	systable_endscan(scan);
}

/* The keys of all rows that are about the subject now. */
static void
add_present(Work *work, List *relids, const RfUuid *org, Snapshot snapshot)
{
	int			nest_level = NewGUCNestLevel();
	ListCell   *lc;

	neutral_settings();
	foreach(lc, relids)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			add_rows(work, rel, org, snapshot);
		table_close(rel, NoLock);
	}
	AtEOXact_GUC(false, nest_level);
}

/* --- Records --- */

/* Is it a string, and the subject? */
static bool
is_subject(const Work *work, const JsonbValue *value)
{
	return value != NULL && value->type == jbvString &&
		value->val.string.len == RF_UUID_TEXT &&
		memcmp(value->val.string.val, work->text, RF_UUID_TEXT) == 0;
}

static JsonbValue *
json_field(const JsonbValue *object, const char *name, JsonbValue *buffer)
{
	if (object == NULL || object->type != jbvBinary ||
		!JsonContainerIsObject(object->val.binary.data))
		return NULL;
	return getKeyJsonValueFromContainer(object->val.binary.data, name,
										strlen(name), buffer);
}

/* Does a column of jsonb, read as an object, have the subject in that field? */
static bool
side_mentions(const Work *work, const Columns *columns, HeapTuple tuple,
			  AttrNumber attno, const char *name)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, attno, columns->desc, &isnull);
	JsonbValue	root;
	JsonbValue	buffer;

	if (isnull)
		return false;
	root.type = jbvBinary;
	root.val.binary.data = &DatumGetJsonbP(datum)->root;
	return is_subject(work, json_field(&root, name, &buffer));
}

/* The same of "personal": {"new": {name: {"value": ...}}}. */
static bool
personal_mentions(const Work *work, const Columns *columns, HeapTuple tuple,
				  const char *name)
{
	static const char *const sides[] = {"new", "old"};
	bool		isnull;
	Datum		datum = heap_getattr(tuple, columns->personal, columns->desc,
									 &isnull);
	JsonbValue	root;

	if (isnull)
		return false;
	root.type = jbvBinary;
	root.val.binary.data = &DatumGetJsonbP(datum)->root;
	for (int i = 0; i < (int) lengthof(sides); i++)
	{
		JsonbValue	buffers[3];
		JsonbValue *value = json_field(&root, sides[i], &buffers[0]);

		value = json_field(value, name, &buffers[1]);
		if (is_subject(work, json_field(value, "value", &buffers[2])))
			return true;
	}
	return false;
}

/* Does a record itself say that its row was about the subject? */
static bool
mentions(const Work *work, const Columns *columns, const RfForgetShape *shape,
		 HeapTuple tuple)
{
	return shape->name != NULL &&
		(side_mentions(work, columns, tuple, columns->new, shape->name) ||
		 side_mentions(work, columns, tuple, columns->old, shape->name) ||
		 personal_mentions(work, columns, tuple, shape->name));
}

/* First: which rows were about the subject? */
static void
collect_record(Work *work, const Columns *columns, const RfForgetShape *shape,
			   HeapTuple tuple, RfForgetter *forgetter)
{
	bool		isnull;
	Datum		key = heap_getattr(tuple, columns->key, columns->desc, &isnull);
	text	   *string;

	(void) forgetter;
	if (isnull || !mentions(work, columns, shape, tuple))
		return;
	string = DatumGetTextPP(key);
	add_key(work, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

/* Then: forget their records. Those of a table without keys speak for themselves. */
static void
forget_record(Work *work, const Columns *columns, const RfForgetShape *shape,
			  HeapTuple tuple, RfForgetter *forgetter)
{
	bool		isnull;
	Datum		key;
	text	   *string;

	if (heap_attisnull(tuple, columns->personal, columns->desc))
		return;
	key = heap_getattr(tuple, columns->key, columns->desc, &isnull);
	if (isnull)
	{
		if (!mentions(work, columns, shape, tuple))
			return;
	}
	else
	{
		string = DatumGetTextPP(key);
		if (!has_key(work, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string)))
			return;
	}
	work->count += rf_forget_record(forgetter, tuple);
}

static void
visit_record(Work *work, const Columns *columns, HeapTuple tuple,
			 RfForgetter *forgetter, Visit visit)
{
	MemoryContext old = MemoryContextSwitchTo(work->record);
	bool		isnull;
	Datum		id = heap_getattr(tuple, columns->relation_id, columns->desc,
								  &isnull);
	const RfForgetShape *shape = isnull ? NULL : find_shape(work, DatumGetInt32(id));

	CHECK_FOR_INTERRUPTS();
	if (shape != NULL)
		visit(work, columns, shape, tuple, forgetter);
	MemoryContextSwitchTo(old);
	MemoryContextReset(work->record);
}

/* The organization's records of the table in a partition. */
static void
visit_partition(Work *work, Relation rel, const RfUuid *org,
				Snapshot snapshot, Visit visit)
{
	static const char *const names[] = {"org_id", "relation_id"};
	Oid			index_oid = rf_seal_index(rel, 2, names);
	bool		by_table = OidIsValid(index_oid);
	Columns		columns = {
		.desc = RelationGetDescr(rel),
		.relation_id = rf_seal_column(rel, "relation_id", INT4OID),
		.key = rf_seal_column(rel, "key", TEXTOID),
		.old = rf_seal_column(rel, "old", JSONBOID),
		.new = rf_seal_column(rel, "new", JSONBOID),
		.personal = rf_seal_column(rel, "personal", JSONBOID),
	};
	RfForgetter *forgetter = rf_forget_begin(rel);

	if (!by_table)
		index_oid = rf_seal_index(rel, 1, names);
	for (int i = 0; i < (by_table ? work->nshapes : 1); i++)
	{
		ScanKeyData keys[2];
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&keys[0], rf_seal_column(rel, "org_id", UUIDOID),
					BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum((pg_uuid_t *) org));
		ScanKeyInit(&keys[1], columns.relation_id, BTEqualStrategyNumber,
					F_INT4EQ, Int32GetDatum(work->shapes[i].id));
		scan = systable_beginscan(rel, index_oid, OidIsValid(index_oid),
								  snapshot, by_table ? 2 : 1, keys);
		while ((tuple = systable_getnext(scan)) != NULL)
			visit_record(work, &columns, tuple, forgetter, visit);
		systable_endscan(scan);
	}
	rf_forget_end(forgetter);
}

static void
visit_log(Work *work, List *partitions, const RfUuid *org, Snapshot snapshot,
		  Visit visit)
{
	ListCell   *lc;

	foreach(lc, partitions)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			visit_partition(work, rel, org, snapshot, visit);
		table_close(rel, NoLock);
	}
}

/* Forgets what is about the subject, in an organization's records or nobody's. */
static void
forget_subject(Work *work, Relation log, List *relids, const RfUuid *org,
			   bool is_nobody)
{
	List	   *partitions = find_all_inheritors(RelationGetRelid(log),
												 RowExclusiveLock, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	HASHCTL		control = {.keysize = sizeof(RfHash),
		.entrysize = sizeof(RfHash),
	.hcxt = CurrentMemoryContext};

	work->shapes = rf_forget_shapes(relids, work->column, snapshot,
									&work->nshapes);
	if (work->nshapes == 0)
	{
		/* It never was audited. */
		UnregisterSnapshot(snapshot);
		return;
	}
	work->keys = hash_create("ringfence audit keys", 256, &control,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	add_present(work, relids, is_nobody ? NULL : org, snapshot);
	visit_log(work, partitions, org, snapshot, collect_record);
	visit_log(work, partitions, org, snapshot, forget_record);
	UnregisterSnapshot(snapshot);
}

/* Throws unless the column can say whom a row is about. */
static void
check_column(Relation rel, const char *column)
{
	AttrNumber	attno = get_attnum(RelationGetRelid(rel), column);

	if (attno <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist", column,
						RelationGetRelationName(rel))));
	if (getBaseType(get_atttype(RelationGetRelid(rel), attno)) != UUIDOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is not of type uuid",
						column, RelationGetRelationName(rel))));
}

/*
 * audit_forget_subject(rel regclass, column_name name, subject uuid, org uuid):
 * destroys the personal values in all records of the rows that are or were about
 * the subject by that column, one organization's or for NULL nobody's. Says in
 * how many records there were any.
 */
Datum
ringfence_audit_forget_subject(PG_FUNCTION_ARGS)
{
	RfUuid		nobody = {{0}};
	Work		work = {0};
	MemoryContext context;
	MemoryContext old;
	Relation	rel;
	Relation	log;
	List	   *relids;

	PreventCommandIfReadOnly("audit_forget_subject()");
	PreventCommandIfParallelMode("audit_forget_subject()");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("table, column and subject must be given")));
	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	work.column = NameStr(*PG_GETARG_NAME(1));
	work.subject = (RfUuid *) PG_GETARG_UUID_P(2);
	check_column(rel, work.column);
	context = AllocSetContextCreate(CurrentMemoryContext,
									"ringfence audit forgetting",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	work.record = AllocSetContextCreate(context, "ringfence audit record",
										ALLOCSET_DEFAULT_SIZES);
	work.digest = rf_digest_create(context);
	work.text = rf_uuid_text(work.subject);
	log = rf_forget_lock_log();
	relids = find_all_inheritors(rf_audit_root(rel), AccessShareLock, NULL);
	forget_subject(&work, log, relids,
				   PG_ARGISNULL(3) ? &nobody : (RfUuid *) PG_GETARG_UUID_P(3),
				   PG_ARGISNULL(3));
	table_close(log, NoLock);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	PG_RETURN_INT64(work.count);
}
