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

/* Closes those of the open indexes that are known. */
static void
leave_out(ResultRelInfo *target, const Oid *known, int nknown)
{
	int			left = 0;

	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		Relation	index = target->ri_IndexRelationDescs[i];
		int			j = 0;

		while (j < nknown && RelationGetRelid(index) != known[j])
			j++;
		if (j < nknown)
		{
			index_close(index, NoLock);
			continue;
		}
		target->ri_IndexRelationDescs[left] = index;
		target->ri_IndexRelationInfo[left] = target->ri_IndexRelationInfo[i];
		left++;
	}
	target->ri_NumIndices = left;
}

/*
 * Makes the index entries of stored rows, by the executor: for any index but
 * those that are known, or for summarizing ones alone.
 */
void
rf_table_index_others(Relation rel, TupleTableSlot **slots, int n,
					  const Oid *known, int nknown, bool summarizing)
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
	leave_out(target, known, nknown);
	for (int i = 0; i < n; i++)
	{
		rf_insert_index_tuples(target, slots[i], estate, summarizing);
		ResetPerTupleExprContext(estate);
	}
	ExecCloseIndices(target);
	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, security);
	FreeExecutorState(estate);
}

/* Makes the entries in all of them. */
void
rf_table_index(Relation rel, TupleTableSlot **slots, int n)
{
	rf_table_index_others(rel, slots, n, NULL, 0, false);
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

/* Makes the index entries of one row, likewise. */
void
rf_table_index_tuple(Relation rel, HeapTuple tuple, const Oid *known,
					 int nknown, bool summarizing)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													&TTSOpsHeapTuple);

	ExecStoreHeapTuple(tuple, slot, false);
	slot->tts_tableOid = RelationGetRelid(rel);
	slot->tts_tid = tuple->t_self;
	rf_table_index_others(rel, &slot, 1, known, nknown, summarizing);
	ExecDropSingleTupleTableSlot(slot);
}

/* Adds a row, which later commands of the transaction see. */
void
rf_table_insert(Relation rel, HeapTuple tuple)
{
	simple_heap_insert(rel, tuple);
	rf_table_index_tuple(rel, tuple, NULL, 0, false);
	CommandCounterIncrement();
}

/* Puts a new version of a row in its place, likewise. */
void
rf_table_update(Relation rel, ItemPointer tid, HeapTuple tuple)
{
	bool		summarizing;

	rf_heap_update(rel, tid, tuple, &summarizing);
	if (!HeapTupleIsHeapOnly(tuple) || summarizing)
		rf_table_index_tuple(rel, tuple, NULL, 0, summarizing);
	CommandCounterIncrement();
}
