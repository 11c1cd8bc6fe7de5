/*
 * audit_forget.h: what the files share that take personal values out of records.
 */
#ifndef RINGFENCE_AUDIT_FORGET_H
#define RINGFENCE_AUDIT_FORGET_H

#include "access/htup.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* audit_forget.c */
typedef struct RfForgetter RfForgetter;

extern RfForgetter *rf_forget_begin(Relation partition);
extern bool rf_forget_record(RfForgetter *forgetter, HeapTuple tuple);
extern void rf_forget_end(RfForgetter *forgetter);
extern Relation rf_forget_lock_log(void);

/* A shape that a table had, and what the column was called then, or NULL. */
typedef struct RfForgetShape
{
	int32		id;
	Oid			relid;
	Jsonb	   *columns;
	const char *name;
} RfForgetShape;

/* audit_forget_shape.c */
extern int	rf_forget_compare_shapes(const void *a, const void *b);
extern RfForgetShape *rf_forget_shapes(List *relids, const char *column,
									   Snapshot snapshot, int *count);

#endif							/* RINGFENCE_AUDIT_FORGET_H */
