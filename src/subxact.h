/*
 * subxact.h: errors that are caught; see subxact.c.
 */
#ifndef RINGFENCE_SUBXACT_H
#define RINGFENCE_SUBXACT_H

#include "utils/elog.h"
#include "utils/palloc.h"
#include "utils/resowner.h"

extern ErrorData *rf_subxact_undo(MemoryContext mcxt, ResourceOwner owner);

#endif							/* RINGFENCE_SUBXACT_H */
