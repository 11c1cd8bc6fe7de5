/*
 * subxact.c: errors that are caught.
 */
#include "postgres.h"

#include "access/xact.h"

#include "subxact.h"

/*
 * For PG_CATCH(): undoes the subtransaction that was begun under this memory
 * context and resource owner, goes back to these, and returns the error. It is
 * the caller's, who frees or rethrows it.
 */
ErrorData *
rf_subxact_undo(MemoryContext mcxt, ResourceOwner owner)
{
	ErrorData  *error;

	MemoryContextSwitchTo(mcxt);
	error = CopyErrorData();
	FlushErrorState();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(mcxt);
	CurrentResourceOwner = owner;
	return error;
}
