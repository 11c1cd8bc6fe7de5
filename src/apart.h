/*
 * apart.h: records that a background worker commits; see apart.c.
 */
#ifndef RINGFENCE_APART_H
#define RINGFENCE_APART_H

#include "port/atomics.h"
#include "storage/dsm.h"

/* The head of what travels to the worker. */
typedef struct RfApart
{
	pg_atomic_uint32 state;
	Oid			database;
	int			pid;			/* of the caller */
} RfApart;

extern dsm_segment *rf_apart_segment(Size size);
extern void rf_apart_run(dsm_segment *segment, const char *function,
						 const char *name, const char *what);
extern dsm_segment *rf_apart_attach(Datum main_arg, const char *activity);
extern void rf_apart_become_owner(void);
extern void rf_apart_become_superuser(void);
extern void rf_apart_record(dsm_segment *segment,
							void (*record) (RfApart *apart));

#endif							/* RINGFENCE_APART_H */
