/*
 * audit_forget_shape.c: what a column was called in records.
 *
 * A record refers to the names that its table's columns had then. A column is
 * followed back through them by its number, which it keeps when it is renamed,
 * and by its name where the table was made anew in between.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "audit_forget.h"
#include "seal.h"

/* Columns of a table by their numbers; NULL where there is none. */
typedef struct Names
{
	int			highest;
	char	   *names[MaxHeapAttributeNumber + 1];
} Names;

/* By id. */
int
rf_forget_compare_shapes(const void *a, const void *b)
{
	int32		x = ((const RfForgetShape *) a)->id;
	int32		y = ((const RfForgetShape *) b)->id;

	return (x > y) - (x < y);
}

/* The shapes that some tables have had, in the order of their ids. */
static RfForgetShape *
read_shapes(List *relids, Snapshot snapshot, int *count)
{
	Relation	rel = rf_seal_table("audit_relations", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	int			size = 16;
	RfForgetShape *shapes = palloc(size * sizeof(RfForgetShape));
	HeapTuple	tuple;

	*count = 0;
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		no_id;
		bool		no_relation;
		bool		no_columns;
		int32		id = (int32) rf_seal_int(rel, tuple, "id", INT4OID, &no_id);
		Datum		relation = rf_seal_value(rel, tuple, "relation",
											 REGCLASSOID, &no_relation);
		Datum		columns = rf_seal_value(rel, tuple, "columns", JSONBOID,
											&no_columns);
		RfForgetShape *shape;

		if (no_id || no_relation || no_columns ||
			!list_member_oid(relids, DatumGetObjectId(relation)))
			continue;
		if (*count == size)
		{
			size *= 2;
			shapes = repalloc(shapes, size * sizeof(RfForgetShape));
		}
		shape = &shapes[(*count)++];
		shape->id = id;
		shape->relid = DatumGetObjectId(relation);
		shape->columns = DatumGetJsonbPCopy(columns);
		shape->name = NULL;
	}
	systable_endscan(scan);
	relation_close(rel, NoLock);
	qsort(shapes, *count, sizeof(RfForgetShape), rf_forget_compare_shapes);
	return shapes;
}

/* The columns that a shape had. */
static Names *
names_of_shape(Jsonb *columns)
{
	Names	   *names = palloc0(sizeof(Names));
	JsonbIterator *it = JsonbIteratorInit(&columns->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	int			number = 0;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			number = atoi(pnstrdup(v.val.string.val, v.val.string.len));
		else if (token == WJB_VALUE && v.type == jbvString && number > 0 &&
				 number <= MaxHeapAttributeNumber)
		{
			names->names[number] = pnstrdup(v.val.string.val,
											v.val.string.len);
			names->highest = Max(names->highest, number);
		}
	}
	return names;
}

/* The columns that a table has. */
static Names *
names_of_table(Oid relid)
{
	Names	   *names = palloc0(sizeof(Names));
	Relation	rel = table_open(relid, NoLock);

	for (int number = 1; number <= RelationGetDescr(rel)->natts; number++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel),
											  number - 1);

		if (att->attisdropped)
			continue;
		names->names[number] = pstrdup(NameStr(att->attname));
		names->highest = number;
	}
	table_close(rel, NoLock);
	return names;
}

/*
 * Was the table made anew after it had that shape, by a dump and restore, which
 * keeps names and not numbers? A number is never given again: see audit_names().
 */
static bool
made_anew(const Names *shape, const Names *following)
{
	for (int number = 1; number < shape->highest; number++)
		if (following->names[number] != NULL && shape->names[number] == NULL)
			return true;
	return false;
}

/* What the column was called in each shape of a table, the newest first. */
static void
name_column(RfForgetShape *shapes, int count, Oid relid, const char *column)
{
	Names	   *following = names_of_table(relid);
	int			number = get_attnum(relid, column);

	for (int i = count - 1; i >= 0 && number > 0; i--)
	{
		RfForgetShape *shape = &shapes[i];
		Names	   *names;

		if (shape->relid != relid)
			continue;
		names = names_of_shape(shape->columns);
		if (made_anew(names, following))
		{
			const char *name = following->names[number];

			number = names->highest;
			while (number > 0 && (name == NULL || names->names[number] == NULL ||
								  strcmp(names->names[number], name) != 0))
				number--;
		}
		shape->name = names->names[number];
		following = names;
	}
}


/*
 * The shapes that some tables, which are locked, have had, in the order of their
 * ids, and what the column that is called so now was called in each; palloc'd.
 */
RfForgetShape *
rf_forget_shapes(List *relids, const char *column, Snapshot snapshot,
				 int *count)
{
	RfForgetShape *shapes = read_shapes(relids, snapshot, count);
	ListCell   *lc;

	foreach(lc, relids)
		name_column(shapes, *count, lfirst_oid(lc), column);
	return shapes;
}
