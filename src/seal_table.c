/*
 * seal_table.c: opens the tables of the audit room, and reads and makes rows.
 *
 * The code of the seal reads past row security, so it believes a table only if
 * ringfence_owner owns it, and a column only if it has the type that it is
 * read as. What is missing is an error; what a row holds may be anything.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"

/*
 * Opens a table of core. Throws 55000 if there is none of that name, or
 * another's.
 */
Relation
rf_seal_table(const char *name, LOCKMODE lockmode)
{
	Relation	rel = rf_directory_open(name, lockmode);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" is missing, or is not ringfence's own",
						RF_DATA_SCHEMA, name),
				 errhint("App \"core\" makes it.")));
	return rel;
}

/* The number of a column. Throws 55000 if there is none of that type. */
AttrNumber
rf_seal_column(Relation rel, const char *name, Oid type)
{
	AttrNumber	attno = rf_directory_column(rel, name, type);

	if (attno == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no column \"%s\" of type %s",
						RelationGetRelationName(rel), name,
						format_type_be(type))));
	return attno;
}

/* A usable B-tree index that begins with these columns, or InvalidOid. */
Oid
rf_seal_index(Relation rel, int ncolumns, const char *const *columns)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool		matches = index->rd_rel->relam == BTREE_AM_OID &&
		form->indisvalid && form->indnkeyatts >= ncolumns &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);

		for (int i = 0; matches && i < ncolumns; i++)
			matches = form->indkey.values[i] > 0 &&
				(index->rd_indoption[i] & INDOPTION_DESC) == 0 &&
				strcmp(NameStr(TupleDescAttr(RelationGetDescr(rel),
											 form->indkey.values[i] - 1)->attname),
					   columns[i]) == 0;
		index_close(index, AccessShareLock);
		if (matches)
		{
			result = lfirst_oid(lc);
			break;
		}
	}
	list_free(indexes);
	return result;
}

/* A column of a row. */
Datum
rf_seal_value(Relation rel, HeapTuple tuple, const char *name, Oid type,
			  bool *isnull)
{
	return heap_getattr(tuple, rf_seal_column(rel, name, type),
						RelationGetDescr(rel), isnull);
}

/* An int4, int8 or timestamptz of a row; 0 if it is NULL. */
int64
rf_seal_int(Relation rel, HeapTuple tuple, const char *name, Oid type,
			bool *isnull)
{
	Datum		value = rf_seal_value(rel, tuple, name, type, isnull);

	if (*isnull)
		return 0;
	return type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

/* Copies a bytea of just that length; false, and zeros, for anything else. */
bool
rf_seal_bytes(Relation rel, HeapTuple tuple, const char *name, void *out,
			  int len)
{
	bool		isnull;
	Datum		value = rf_seal_value(rel, tuple, name, BYTEAOID, &isnull);
	bytea	   *bytes = isnull ? NULL : DatumGetByteaPP(value);

	if (bytes == NULL || VARSIZE_ANY_EXHDR(bytes) != (size_t) len)
	{
		memset(out, 0, len);
		return false;
	}
	memcpy(out, VARDATA_ANY(bytes), len);
	return true;
}

/* A new bytea. Throws 54000 if it would be too long for one. */
Datum
rf_bytea(const void *data, size_t len)
{
	bytea	   *result;

	if (len > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a block has too many organizations")));
	result = palloc(len + VARHDRSZ);
	SET_VARSIZE(result, len + VARHDRSZ);
	memcpy(VARDATA(result), data, len);
	return PointerGetDatum(result);
}

/*
 * A row with these columns, the others NULL. The types are the caller's care.
 * Throws 55000 if there is another that must not be NULL.
 */
HeapTuple
rf_seal_tuple(Relation rel, int ncolumns, const char *const *columns,
			  const Datum *values)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *all = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

	memset(nulls, true, desc->natts * sizeof(bool));
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber	attno = get_attnum(RelationGetRelid(rel), columns[i]);

		if (attno <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" has no column \"%s\"",
							RelationGetRelationName(rel), columns[i])));
		all[attno - 1] = values[i];
		nulls[attno - 1] = false;
	}
	for (int i = 0; i < desc->natts; i++)
		if (nulls[i] && TupleDescAttr(desc, i)->attnotnull &&
			!TupleDescAttr(desc, i)->attisdropped)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column \"%s\" of table \"%s\" must not be NOT NULL",
							NameStr(TupleDescAttr(desc, i)->attname),
							RelationGetRelationName(rel))));
	return heap_form_tuple(desc, all, nulls);
}

/*
 * Makes sure that rows can be inserted as the catalogs' are: that way knows no
 * expressions, predicates or exclusions. Throws 55000 otherwise.
 */
void
rf_seal_insertable(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL) ||
			!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) ||
			index->rd_index->indisexclusion || !index->rd_index->indimmediate)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("index \"%s\" cannot be on table \"%s\"",
							RelationGetRelationName(index),
							RelationGetRelationName(rel)),
					 errdetail("Indexes of the audit log's seal have columns alone."),
					 errhint("Drop the index.")));
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
}

/*
 * The last block, up to that one, that an organization has a part in, or 0; and
 * the one before, as its row says.
 */
int64
rf_org_last(Relation orgs, Snapshot snapshot, const RfUuid *org, int64 block,
			int64 *previous)
{
	static const char *const columns[] = {"org_id", "block"};
	Oid			index_oid = rf_seal_index(orgs, 2, columns);
	Relation	index;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	int64		result = 0;
	bool		isnull;

	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no index on (%s)",
						RelationGetRelationName(orgs), "org_id, block")));
	ScanKeyInit(&keys[0], rf_seal_column(orgs, "org_id", UUIDOID),
				BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) org));
	ScanKeyInit(&keys[1], rf_seal_column(orgs, "block", INT8OID),
				BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(block));
	index = index_open(index_oid, AccessShareLock);
	scan = systable_beginscan_ordered(orgs, index, snapshot, 2, keys);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	if (tuple != NULL)
	{
		result = rf_seal_int(orgs, tuple, "block", INT8OID, &isnull);
		if (previous != NULL)
			*previous = rf_seal_int(orgs, tuple, "previous", INT8OID, &isnull);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	return result;
}

static int
compare_shapes(const void *a, const void *b)
{
	int32		x = ((const RfShapeName *) a)->id;
	int32		y = ((const RfShapeName *) b)->id;

	return (x > y) - (x < y);
}

/* Names and columns in audit_relations, in the order of their ids. */
RfShapeName *
rf_seal_shapes(Snapshot snapshot, int *count)
{
	Relation	rel = rf_seal_table("audit_relations", AccessShareLock);
	AttrNumber	id = rf_seal_column(rel, "id", INT4OID);
	AttrNumber	name = rf_seal_column(rel, "name", TEXTOID);
	AttrNumber	columns = rf_seal_column(rel, "columns", JSONBOID);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	int			size = 64;
	RfShapeName *shapes = palloc(size * sizeof(RfShapeName));

	*count = 0;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		no_id;
		bool		no_name;
		bool		no_columns;
		Datum		id_value = slot_getattr(slot, id, &no_id);
		Datum		name_value = slot_getattr(slot, name, &no_name);
		Datum		columns_value = slot_getattr(slot, columns, &no_columns);
		char	   *string;

		if (no_id || no_name)
			continue;
		if (*count == size)
		{
			size *= 2;
			shapes = repalloc_huge(shapes, size * sizeof(RfShapeName));
		}
		string = TextDatumGetCString(name_value);
		shapes[*count].id = DatumGetInt32(id_value);
		shapes[*count].name = string;
		shapes[*count].len = strlen(string);
		shapes[*count].columns = no_columns ? NULL :
			DatumGetJsonbPCopy(columns_value);
		(*count)++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, AccessShareLock);
	qsort(shapes, *count, sizeof(RfShapeName), compare_shapes);
	return shapes;
}
