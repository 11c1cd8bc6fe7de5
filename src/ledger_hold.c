/*
 * ledger_hold.c: pending transfers that are waiting for what becomes of them.
 *
 * Each has a row in ledger_holds until it is posted, voided or expired by
 * another transfer. That row is what two who want to do so meet at: they lock
 * holds in the order of their ids, before any account.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ledger.h"
#include "table.h"

static int
compare_holds(const void *a, const void *b)
{
	return rf_uuid_cmp(&((const RfHold *) a)->id, &((const RfHold *) b)->id);
}

/* The hold that was there before the batch; NULL if nothing asked for it. */
RfHold *
rf_hold_find(const RfPosting *posting, const RfUuid *id)
{
	RfHold		key = {0};

	if (posting->nholds == 0)
		return NULL;
	key.id = *id;
	return bsearch(&key, posting->holds, posting->nholds, sizeof(RfHold),
				   compare_holds);
}

/* The hold that a pending transfer of the batch makes. */
RfHold *
rf_hold_make(const RfTransfer *transfer)
{
	RfHold	   *hold = palloc0(sizeof(RfHold));

	hold->id = transfer->id;
	hold->debit = transfer->debit;
	hold->credit = transfer->credit;
	hold->amount = transfer->amount;
	hold->expires_at = transfer->expires_at;
	hold->kind = transfer->kind;
	hold->known = true;
	hold->open = true;
	return hold;
}

/* Reads the transfer that the hold is of. */
static void
know_hold(RfPosting *posting, RfHold *hold)
{
	RfTransfer	transfer;

	if (!rf_transfer_find(posting, &hold->id, &transfer) ||
		transfer.state != RF_PENDING)
		return;
	hold->debit = transfer.debit;
	hold->credit = transfer.credit;
	hold->amount = transfer.amount;
	hold->expires_at = transfer.expires_at;
	hold->kind = transfer.kind;
	hold->known = true;
	pfree(transfer.asset);
	if (transfer.reference != NULL)
		pfree(transfer.reference);
	if (transfer.metadata != NULL)
		pfree(transfer.metadata);
}

/*
 * The first pending transfer of the batch with the id that this one resolves, if
 * it comes before it, or NULL. Another with that id can't be meant.
 */
const RfTransfer *
rf_hold_maker(const RfPosting *posting, const RfTransfer *transfer)
{
	int			low = 0;
	int			high = posting->n;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		const RfTransfer *other = &posting->transfers[posting->by_id[middle]];

		if (rf_uuid_cmp(&other->id, &transfer->pending) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < posting->n; low++)
	{
		const RfTransfer *other = &posting->transfers[posting->by_id[low]];

		if (rf_uuid_cmp(&other->id, &transfer->pending) != 0 ||
			other >= transfer)
			break;
		if (other->state == RF_PENDING && !other->has_pending)
			return other;
	}
	return NULL;
}

/* Fills in what the transfer leaves to its hold. */
static void
fill_from_hold(RfTransfer *transfer, const RfUuid *debit,
			   const RfUuid *credit, int64 amount, text *kind)
{
	transfer->filled_debit = !transfer->has_debit;
	transfer->filled_credit = !transfer->has_credit;
	transfer->filled_amount = !transfer->has_amount;
	transfer->filled_kind = transfer->kind == NULL;
	if (transfer->filled_debit)
		transfer->debit = *debit;
	if (transfer->filled_credit)
		transfer->credit = *credit;
	if (transfer->filled_amount)
		transfer->amount = amount;
	if (transfer->filled_kind)
		transfer->kind = kind;
	transfer->has_debit = transfer->has_credit = transfer->has_amount = true;
}

/* Has it again as it was asked for. */
static void
unfill(RfTransfer *transfer)
{
	transfer->has_debit = transfer->has_debit && !transfer->filled_debit;
	transfer->has_credit = transfer->has_credit && !transfer->filled_credit;
	transfer->has_amount = transfer->has_amount && !transfer->filled_amount;
	if (transfer->filled_kind)
		transfer->kind = NULL;
	transfer->filled_debit = transfer->filled_credit =
		transfer->filled_amount = transfer->filled_kind = false;
}

/*
 * Finds the pending transfers that the batch resolves, and lets them fill in
 * what isn't said of their accounts and amounts.
 */
void
rf_holds_collect(RfPosting *posting)
{
	int			n = 0;
	int			unique = 0;

	for (int i = 0; i < posting->n; i++)
		n += posting->transfers[i].has_pending;
	posting->nholds = 0;
	if (n == 0)
		return;
	posting->holds = palloc0(n * sizeof(RfHold));
	n = 0;
	for (int i = 0; i < posting->n; i++)
		if (posting->transfers[i].has_pending)
			posting->holds[n++].id = posting->transfers[i].pending;
	qsort(posting->holds, n, sizeof(RfHold), compare_holds);
	for (int i = 0; i < n; i++)
		if (i == 0 || rf_uuid_cmp(&posting->holds[i].id,
								  &posting->holds[unique - 1].id) != 0)
			posting->holds[unique++].id = posting->holds[i].id;
	posting->nholds = unique;
	for (int i = 0; i < unique; i++)
	{
		CHECK_FOR_INTERRUPTS();
		know_hold(posting, &posting->holds[i]);
	}

	for (int i = 0; i < posting->n; i++)
	{
		RfTransfer *transfer = &posting->transfers[i];
		const RfHold *hold;
		const RfTransfer *maker;

		if (!transfer->has_pending)
			continue;
		unfill(transfer);
		hold = rf_hold_find(posting, &transfer->pending);
		maker = rf_hold_maker(posting, transfer);
		if (hold->known)
			fill_from_hold(transfer, &hold->debit, &hold->credit, hold->amount,
						   hold->kind);
		else if (maker != NULL && maker->has_debit && maker->has_credit &&
				 maker->has_amount)
			fill_from_hold(transfer, &maker->debit, &maker->credit,
						   maker->amount, maker->kind);
	}
}

/*
 * Locks the row of a hold. TM_Deleted if it has been resolved, perhaps while we
 * waited for it; TM_WouldBlock if it isn't to be waited for.
 */
static TM_Result
lock_hold(RfPosting *posting, RfHold *hold)
{
	RfSearch	search;
	TupleTableSlot *row;
	TM_FailureData failure;
	TM_Result	result = TM_Deleted;

	rf_search_begin(&search, posting->holds_rel, RF_HOLDS_KEY, 2,
					posting->snapshot);
	if (rf_search(&search, &posting->org, &hold->id, 0))
	{
		row = MakeSingleTupleTableSlot(RelationGetDescr(posting->holds_rel),
									   &TTSOpsBufferHeapTuple);
		hold->tid = search.slot->tts_tid;
		result = table_tuple_lock(posting->holds_rel, &hold->tid,
								  posting->snapshot, row,
								  GetCurrentCommandId(true),
								  LockTupleExclusive,
								  posting->passes_over ? LockWaitSkip :
								  LockWaitBlock,
								  TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
								  &failure);
		hold->tid = row->tts_tid;
		ExecDropSingleTupleTableSlot(row);
	}
	rf_search_end(&search);
	return result;
}

/* Locks the rows of the holds, in the order of their ids. */
void
rf_holds_take(RfPosting *posting)
{
	for (int i = 0; i < posting->nholds; i++)
	{
		RfHold	   *hold = &posting->holds[i];
		TM_Result	result;

		CHECK_FOR_INTERRUPTS();
		if (!hold->known)
			continue;
		result = lock_hold(posting, hold);
		hold->stored = hold->open = result == TM_Ok;
		hold->known = result != TM_WouldBlock;
		if (hold->open || !hold->known)
			continue;
		rf_posting_refresh(posting);
		if (!rf_transfer_resolution(posting, &hold->id, &hold->state))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a pending transfer has no hold, and nothing that resolves it"),
					 errhint("ringfence.ledger_verify() tells which.")));
	}
}

static void
insert_hold(RfPosting *posting, const RfHold *hold)
{
	TupleDesc	desc = RelationGetDescr(posting->holds_rel);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	HeapTuple	tuple;

	memset(nulls, true, desc->natts * sizeof(bool));
	memset(nulls, false, HOLD_EXPIRES_AT * sizeof(bool));
	values[HOLD_ORG_ID] = PointerGetDatum(&posting->org);
	values[HOLD_ID] = PointerGetDatum(&hold->id);
	values[HOLD_DEBIT_ACCOUNT_ID] = PointerGetDatum(&hold->debit);
	values[HOLD_CREDIT_ACCOUNT_ID] = PointerGetDatum(&hold->credit);
	values[HOLD_AMOUNT] = Int64GetDatum(hold->amount);
	values[HOLD_EXPIRES_AT] = TimestampTzGetDatum(hold->expires_at);
	nulls[HOLD_EXPIRES_AT] = hold->expires_at == DT_NOEND;
	tuple = heap_form_tuple(desc, values, nulls);
	rf_table_insert(posting->holds_rel, tuple);
	heap_freetuple(tuple);
	pfree(values);
	pfree(nulls);
}

/*
 * Writes what the batch made of holds: new ones that are still open, and those
 * that no longer are.
 */
void
rf_holds_apply(RfPosting *posting)
{
	for (int i = 0; i < posting->n; i++)
	{
		const RfTransfer *transfer = &posting->transfers[i];

		CHECK_FOR_INTERRUPTS();
		if (transfer->code != RF_OK || transfer->hold == NULL)
			continue;
		if (!transfer->has_pending && transfer->hold->open)
			insert_hold(posting, transfer->hold);
		if (transfer->has_pending && transfer->hold->stored)
			simple_heap_delete(posting->holds_rel, &transfer->hold->tid);
	}
}

/*
 * Finds holds whose time is over, of all organizations, the oldest first. What
 * is resolved meanwhile will be seen when it is locked.
 */
int
rf_holds_expired(TimestampTz now, int limit, RfExpired **expired)
{
	Relation	rel = rf_ledger_open(RF_LEDGER_HOLDS, RowExclusiveLock);
	Relation	index = rf_ledger_index(RF_HOLDS_EXPIRES, AccessShareLock);
	TupleTableSlot *row = MakeSingleTupleTableSlot(RelationGetDescr(rel),
												   &TTSOpsBufferHeapTuple);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = rf_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;
	int			n = 0;

	*expired = palloc(limit * sizeof(RfExpired));
	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(now));
	index_rescan(scan, &key, 1, NULL, 0);
	while (n < limit && index_getnext_slot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(row, HOLD_COLUMNS);
		memcpy(&(*expired)[n].org,
			   DatumGetPointer(row->tts_values[HOLD_ORG_ID]), sizeof(RfUuid));
		memcpy(&(*expired)[n].id,
			   DatumGetPointer(row->tts_values[HOLD_ID]), sizeof(RfUuid));
		n++;
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(row);
	index_close(index, NoLock);
	relation_close(rel, NoLock);
	return n;
}
