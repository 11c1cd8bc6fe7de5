/*
 * compat.h: the one place where server versions differ. Written for 18; each
 * entry says in which version the newer form came, and goes when the older
 * version does.
 */
#ifndef RINGFENCE_COMPAT_H
#define RINGFENCE_COMPAT_H

/* JSON semantic actions return an error code: new in 16. */
#if PG_VERSION_NUM >= 160000
#define RF_JSON_ACTION JsonParseErrorType
#define RF_JSON_ACTION_RETURN return JSON_SUCCESS
#else
#define RF_JSON_ACTION void
#define RF_JSON_ACTION_RETURN return
#endif

/* The lexer takes a context of the caller's to fill: new in 17. */
#ifdef JSONAPI_H
static inline JsonLexContext *
rf_json_lexer(const char *json, int len, int encoding)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, len, encoding, true);
#else
	return makeJsonLexContextCstringLen(unconstify(char *, json), len,
										encoding, true);
#endif
}
#endif

#ifndef FRONTEND

/* A process's virtual transaction is in its "vxid": new in 17. */
#ifdef _PROC_H_
#if PG_VERSION_NUM >= 170000
#define rf_my_virtual_transaction(id) \
	((id).procNumber = MyProc->vxid.procNumber, \
	 (id).localTransactionId = MyProc->vxid.lxid)
#else
#define rf_my_virtual_transaction(id) \
	((id).backendId = MyProc->backendId, \
	 (id).localTransactionId = MyProc->lxid)
#endif
#endif

/* A setting can be looked up: new in 16. */
#ifdef GUC_TABLES_H
static inline struct config_generic *
rf_find_setting(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return find_option(name, false, false, ERROR);
#else
	struct config_generic **all = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	elog(ERROR, "parameter \"%s\" not found", name);
	return NULL;				/* keep the compiler quiet */
#endif
}
#endif

/* What hangs on a setting's value is allocated by guc.c: new in 16. */
#ifdef GUC_H
static inline void *
rf_guc_malloc(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(ERROR, size);
#else
	void	   *data = malloc(size);

	if (data == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	return data;
#endif
}
#endif

/* One function asks for the privileges on any kind of object: new in 16. */
#ifdef ACL_H
#if PG_VERSION_NUM >= 160000
#define rf_aclcheck(class, object, mode) \
	object_aclcheck(class, object, GetUserId(), mode)
#else
#define rf_aclcheck(class, object, mode) \
	((class) == NamespaceRelationId ? \
	 pg_namespace_aclcheck(object, GetUserId(), mode) : \
	 pg_proc_aclcheck(object, GetUserId(), mode))
#endif
#endif

/* ExecutorRun() no longer says that it is the only run: new in 18. */
#if PG_VERSION_NUM >= 180000
#define RF_RUN_PARAMETERS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define RF_RUN_ARGUMENTS queryDesc, direction, count
#else
#define RF_RUN_PARAMETERS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, \
	bool execute_once
#define RF_RUN_ARGUMENTS queryDesc, direction, count, execute_once
#endif

/* transaction_timeout: new in 17. For the settings of a background worker. */
#if PG_VERSION_NUM >= 170000
#define RF_SETTINGS_OF_17 {"transaction_timeout", "0"},
#else
#define RF_SETTINGS_OF_17
#endif

/* pg_noreturn stands before the declaration: new in 18. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* RelationGetPrimaryKeyIndex() says whether it may be deferrable: new in 18. */
#if PG_VERSION_NUM >= 180000
#define rf_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define rf_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* Generated columns that are computed when read: new in 18. */
#if PG_VERSION_NUM >= 180000
#define rf_is_virtual(att) ((att)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define rf_is_virtual(att) false
#endif

/* ExecInsertIndexTuples() can skip all but summarizing indexes: new in 16. */
#if PG_VERSION_NUM >= 160000
#define rf_insert_index_tuples(target, slot, estate, summarizing) \
	((void) ExecInsertIndexTuples(target, slot, estate, false, false, NULL, \
								  NIL, summarizing))
#else
#define rf_insert_index_tuples(target, slot, estate, summarizing) \
	((void) (summarizing), \
	 (void) ExecInsertIndexTuples(target, slot, estate, false, false, NULL, \
								  NIL))
#endif

/* An index may have something to let go of after insertions: new in 17. */
#if PG_VERSION_NUM >= 170000
#define rf_index_insert_cleanup(index, info) index_insert_cleanup(index, info)
#else
#define rf_index_insert_cleanup(index, info) ((void) 0)
#endif

/*
 * simple_heap_update() and heap_update() tell which indexes need an entry, which
 * may be summarizing ones alone: new in 16. The latter waits for whoever is
 * changing the row.
 */
#ifdef HEAPAM_H
static inline void
rf_heap_update(Relation rel, ItemPointer tid, HeapTuple tuple,
			   bool *summarizing)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;

	simple_heap_update(rel, tid, tuple, &indexes);
	*summarizing = indexes == TU_Summarizing;
#else
	simple_heap_update(rel, tid, tuple);
	*summarizing = false;
#endif
}

static inline TM_Result
rf_heap_try_update(Relation rel, ItemPointer tid, HeapTuple tuple,
				   bool *summarizing)
{
	TM_FailureData failure;
	LockTupleMode lockmode;
	CommandId	command = GetCurrentCommandId(true);
	TM_Result	result;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;

	result = heap_update(rel, tid, tuple, command, InvalidSnapshot, true,
						 &failure, &lockmode, &indexes);
	*summarizing = result == TM_Ok && indexes == TU_Summarizing;
#else
	result = heap_update(rel, tid, tuple, command, InvalidSnapshot, true,
						 &failure, &lockmode);
	*summarizing = false;
#endif
	return result;
}
#endif

/* A process's number is a variable: new in 17. */
#ifdef _PROC_H_
#if PG_VERSION_NUM >= 170000
#define rf_my_proc_number() MyProcNumber
#else
#define rf_my_proc_number() MyProc->pgprocno
#endif
#endif

/* Whether a stronger lock counts can be said: new in 17. */
#ifdef LOCK_H_
#if PG_VERSION_NUM >= 170000
#define rf_lock_held(tag, mode) LockHeldByMe(tag, mode, false)
#else
#define rf_lock_held(tag, mode) LockHeldByMe(tag, mode)
#endif
#endif

/* A minimal tuple can have bytes in front: new in 18. */
#ifdef HTUP_DETAILS_H
#if PG_VERSION_NUM >= 180000
#define rf_form_minimal_tuple(desc, values, nulls) \
	heap_form_minimal_tuple(desc, values, nulls, 0)
#else
#define rf_form_minimal_tuple(desc, values, nulls) \
	heap_form_minimal_tuple(desc, values, nulls)
#endif
#endif

/*
 * Where an aggregate's final function returns its result, that is taken as it is,
 * in whatever context: new in 16. Before, it was copied unless it was in the
 * context that the node's results are made in. That one is emptied for each group,
 * before the group's first row, so that it does for the whole of a query with one
 * group; with several, some of which go on when others end, it doesn't.
 */
#ifdef EXECNODES_H
static inline MemoryContext
rf_aggregate_result_context(FunctionCallInfo fcinfo, MemoryContext otherwise)
{
#if PG_VERSION_NUM < 160000
	AggState   *aggregate = (AggState *) fcinfo->context;
	Agg		   *plan = castNode(Agg, aggregate->ss.ps.plan);

	if (plan->aggstrategy == AGG_PLAIN && plan->groupingSets == NIL)
		return aggregate->ss.ps.ps_ExprContext->ecxt_per_tuple_memory;
#else
	(void) fcinfo;
#endif
	return otherwise;
}
#endif

/* HeapKeyTest() is a function: new in 16. */
#ifdef VALID_H
static inline bool
rf_heap_key_test(HeapTuple tuple, TupleDesc desc, int nkeys, ScanKey keys)
{
#if PG_VERSION_NUM >= 160000
	return HeapKeyTest(tuple, desc, nkeys, keys);
#else
	bool		result;

	HeapKeyTest(tuple, desc, nkeys, keys, result);
	return result;
#endif
}
#endif

/* varatt.h holds what postgres.h had: new in 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* PG_MODULE_MAGIC_EXT names the module: new in 18. */
#ifdef PG_MODULE_MAGIC_EXT
#define RF_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "ringfence", .version = RINGFENCE_VERSION)
#else
#define RF_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* An index scan counts for EXPLAIN if asked to: new in 18. */
#ifdef GENAM_H
#if PG_VERSION_NUM >= 180000
#define rf_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#define rf_index_beginscan_bitmap(index, snapshot, nkeys) \
	index_beginscan_bitmap(index, snapshot, NULL, nkeys)
#else
#define rf_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#define rf_index_beginscan_bitmap(index, snapshot, nkeys) \
	index_beginscan_bitmap(index, snapshot, nkeys)
#endif
#endif

/* PortalRun() is no longer told that it is the only run: new in 18. */
#ifdef PQUERY_H
#if PG_VERSION_NUM >= 180000
#define rf_portal_run(portal, completion) \
	PortalRun(portal, FETCH_ALL, true, None_Receiver, None_Receiver, completion)
#else
#define rf_portal_run(portal, completion) \
	PortalRun(portal, FETCH_ALL, true, true, None_Receiver, None_Receiver, \
			  completion)
#endif
#endif

/* Private iterators of a bitmap, which fill what they are given: new in 18. */
#ifdef TIDBITMAP_H
#if PG_VERSION_NUM >= 180000
typedef TBMPrivateIterator *RfPageIterator;
#define rf_pages_begin(iterator, pages) \
	(*(iterator) = tbm_begin_private_iterate(pages))
#define rf_pages_end(iterator) tbm_end_private_iterate(*(iterator))
#else
typedef TBMIterator *RfPageIterator;
#define rf_pages_begin(iterator, pages) \
	(*(iterator) = tbm_begin_iterate(pages))
#define rf_pages_end(iterator) tbm_end_iterate(*(iterator))
#endif

static inline bool
rf_pages_next(RfPageIterator *iterator, BlockNumber *page)
{
#if PG_VERSION_NUM >= 180000
	TBMIterateResult result;

	if (!tbm_private_iterate(*iterator, &result))
		return false;
	*page = result.blockno;
#else
	TBMIterateResult *result = tbm_iterate(*iterator);

	if (result == NULL)
		return false;
	*page = result->blockno;
#endif
	return true;
}
#endif

#endif							/* FRONTEND */

#endif							/* RINGFENCE_COMPAT_H */
