/*
 * table.c: rows of the library's own tables, past privileges and triggers.
 *
 * The tables are ringfence_owner's, and a DBA may have added indexes. What such
 * an index evaluates is the owner's code: it runs as the owner, in whoever's
 * session a row is written, as it does in VACUUM and REINDEX.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "compat.h"
#include "table.h"

/* Makes the index entries of stored rows, by the executor: for any index. */
void
rf_table_index(Relation rel, TupleTableSlot **slots, int n)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);
	int			nest_level = NewGUCNestLevel();
	Oid			user;
	int			security;

	/* An error puts the user back with the transaction. */
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   security | SECURITY_RESTRICTED_OPERATION);
	InitResultRelInfo(target, rel, 0, NULL, 0);
	ExecOpenIndices(target, false);
	for (int i = 0; i < n; i++)
	{
		rf_insert_index_tuples(target, slots[i], estate);
		ResetPerTupleExprContext(estate);
	}
	ExecCloseIndices(target);
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, security);
	FreeExecutorState(estate);
}

/*
 * Makes one entry of an index without expressions and predicate, whose "info"
 * the caller keeps.
 */
void
rf_table_index_entry(Relation rel, Relation index, IndexInfo *info,
					 Datum *values, bool *nulls, ItemPointer tid)
{
	/* What the access method keeps there doesn't outlive this. */
	info->ii_AmCache = NULL;
	info->ii_Context = CurrentMemoryContext;
	(void) index_insert(index, values, nulls, tid, rel,
						index->rd_index->indisunique ?
						UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
						false, info);
	rf_index_insert_cleanup(index, info);
	info->ii_AmCache = NULL;
}

static void
index_tuple(Relation rel, HeapTuple tuple)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													&TTSOpsHeapTuple);

	ExecStoreHeapTuple(tuple, slot, false);
	slot->tts_tableOid = RelationGetRelid(rel);
	slot->tts_tid = tuple->t_self;
	rf_table_index(rel, &slot, 1);
	ExecDropSingleTupleTableSlot(slot);
}

/* Adds a row, which later commands of the transaction see. */
void
rf_table_insert(Relation rel, HeapTuple tuple)
{
	simple_heap_insert(rel, tuple);
	index_tuple(rel, tuple);
	CommandCounterIncrement();
}

/* Puts a new version of a row in its place, likewise. */
void
rf_table_update(Relation rel, ItemPointer tid, HeapTuple tuple)
{
	rf_heap_update(rel, tid, tuple);
	if (!HeapTupleIsHeapOnly(tuple))
		index_tuple(rel, tuple);
	CommandCounterIncrement();
}
