/*
 * ledger_seal.c: what sealing the ledger takes beside SQL.
 *
 * A block is of the transfers that were recorded in a stretch of time, and is
 * made when nothing can be recorded there any more. Who posts locks the table of
 * transfers, then looks at the clock, and keeps the lock until it commits: so
 * once those are gone that have the lock at a moment, all that was recorded
 * before it can be seen. Others go on posting meanwhile.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit.h"
#include "compat.h"
#include "ledger.h"
#include "seal.h"
#include "table.h"

PG_FUNCTION_INFO_V1(ringfence_ledger_add_block);
PG_FUNCTION_INFO_V1(ringfence_ledger_settle);

static bool
is_listed(VirtualTransactionId vxid, const VirtualTransactionId *list, int n)
{
	for (int i = 0; i < n; i++)
		if (VirtualTransactionIdEquals(vxid, list[i]))
			return true;
	return false;
}

/*
 * Waits for those who have the table locked for writing rows. VACUUM's lock is in
 * the way of the same, but who waited for autovacuum would have it canceled: a
 * process that is seen to vacuum is left out. One that isn't seen any more has
 * ended, or is prepared.
 */
static void
wait_for_writers(Relation rel)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	VirtualTransactionId *all;
	VirtualTransactionId *others;
	int			nall;
	int			nothers;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, RelationGetRelid(rel));
	holders = GetLockConflicts(&tag, ShareLock, NULL);
	others = GetCurrentVirtualXIDs(InvalidTransactionId, false, false,
								   PROC_IS_AUTOVACUUM | PROC_IN_VACUUM,
								   &nothers);
	all = GetCurrentVirtualXIDs(InvalidTransactionId, false, false, 0, &nall);
	for (; VirtualTransactionIdIsValid(*holders); holders++)
		if (!is_listed(*holders, all, nall) ||
			is_listed(*holders, others, nothers))
			(void) VirtualXactLock(*holders, true);
}

/*
 * ledger_settle(age interval): waits until all that was recorded before a moment
 * can be seen, and returns that moment: now less the age, or an earlier one. Keeps
 * others from sealing until the transaction ends.
 */
Datum
ringfence_ledger_settle(PG_FUNCTION_ARGS)
{
	Relation	blocks;
	Relation	transfers;
	TimestampTz moment;

	PreventCommandIfReadOnly("ringfence.ledger_settle()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("the ledger cannot be sealed at this isolation level"),
				 errhint("Use READ COMMITTED.")));
	blocks = rf_ledger_table("ledger_blocks", ShareRowExclusiveLock);
	transfers = rf_ledger_open(RF_LEDGER_TRANSFERS, AccessShareLock);
	moment = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													 TimestampTzGetDatum(GetCurrentTimestamp()),
													 PG_GETARG_DATUM(0)));
	moment = Min(moment, GetCurrentTimestamp());
	wait_for_writers(transfers);
	relation_close(transfers, NoLock);
	relation_close(blocks, NoLock);
	PG_RETURN_TIMESTAMPTZ(moment);
}

/*
 * ledger_add_block(org uuid, sealed_from timestamptz, sealed_to timestamptz,
 * transfers bigint, root bytea, details jsonb): writes a block, past the trigger
 * that refuses everybody else, and has the audit log record its hash.
 */
Datum
ringfence_ledger_add_block(PG_FUNCTION_ARGS)
{
	static const char *const columns[] = {
		"org_id", "sealed_from", "sealed_to", "transfers", "root", "record",
	};
	Relation	blocks;
	Datum		values[lengthof(columns)];
	RfAuditRecord record;
	RfUuid		id;

	PreventCommandIfReadOnly("ringfence.ledger_add_block()");
	if (PG_GETARG_INT64(3) <= 0 ||
		PG_GETARG_TIMESTAMPTZ(1) >= PG_GETARG_TIMESTAMPTZ(2) ||
		PG_GETARG_TIMESTAMPTZ(2) > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid block of the ledger"),
				 errdetail("It is of at least one transfer, and of a time that has passed.")));
	rf_audit_begin(&record, OPERATION_EVENT);
	rf_audit_set_text(&record, AUDIT_ACTION, "ledger.sealed");
	rf_audit_set(&record, AUDIT_ORG_ID, PG_GETARG_DATUM(0));
	rf_audit_set(&record, AUDIT_KEY,
				 DirectFunctionCall2(binary_encode, PG_GETARG_DATUM(4),
									 CStringGetTextDatum("hex")));
	rf_audit_set(&record, AUDIT_NEW, PG_GETARG_DATUM(5));
	id = rf_audit_append(&record);

	for (int i = 0; i < 5; i++)
		values[i] = PG_GETARG_DATUM(i);
	values[5] = UUIDPGetDatum((pg_uuid_t *) &id);
	blocks = rf_ledger_table("ledger_blocks", ShareRowExclusiveLock);
	rf_table_insert(blocks,
					rf_seal_tuple(blocks, lengthof(columns), columns, values));
	relation_close(blocks, NoLock);
	PG_RETURN_VOID();
}
