/*
 * table.h: rows that the library writes itself; see table.c.
 */
#ifndef RINGFENCE_TABLE_H
#define RINGFENCE_TABLE_H

#include "access/htup.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

extern void rf_table_index(Relation rel, TupleTableSlot **slots, int n);
extern void rf_table_index_entry(Relation rel, Relation index,
								 IndexInfo *info, Datum *values, bool *nulls,
								 ItemPointer tid);
extern void rf_table_index_others(Relation rel, TupleTableSlot **slots, int n,
								  const Oid *known, int nknown,
								  bool summarizing);
extern void rf_table_index_tuple(Relation rel, HeapTuple tuple,
								 const Oid *known, int nknown,
								 bool summarizing);
extern void rf_table_insert(Relation rel, HeapTuple tuple);
extern void rf_table_update(Relation rel, ItemPointer tid, HeapTuple tuple);

#endif							/* RINGFENCE_TABLE_H */
