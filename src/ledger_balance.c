/*
 * ledger_balance.c: how much there is in an account.
 *
 * An account's balance is the sum of its rows in ledger_balances, its slots.
 * There is one, until two transactions want to add to it at the same time: then
 * the second takes another, or makes one, and neither waits. (If it was looked at
 * and found free, and somebody was faster, it is waited for. He is past his
 * locks, and writes slots in the order of accounts as we do; where that isn't so,
 * it is locked instead of looked at.)
 *
 * What lowers the balance of an account with a limit goes into slot 0, whose row
 * is locked first. So nobody else lowers it meanwhile, and the other slots can
 * only have grown since they were read: the limit holds, whoever else commits or
 * rolls back. A limit is set while nobody posts to the organization's ledger.
 *
 * Sums stay below 2^62: what would bring a slot near to its part of that is
 * done under the lock of slot 0, with all slots added up.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "common/int.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/rel.h"

#include "compat.h"
#include "ledger.h"
#include "table.h"

#define MAX_SLOTS 64

/* RF_MAX_TURNOVER by MAX_SLOTS: no slot is beyond it without all being known */
#define SLOT_TURNOVER (INT64CONST(1) << 56)

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_BUSY,					/* somebody is writing it */
	SLOT_CHANGED,				/* somebody has written it since it was read */
} SlotState;

/* --- Reading --- */

static void
read_slot(TupleTableSlot *row, int32 *slot, RfAmounts *amounts)
{
	slot_getsomeattrs(row, BALANCE_COLUMNS);
	amounts->debits = DatumGetInt64(row->tts_values[BALANCE_DEBITS]);
	amounts->credits = DatumGetInt64(row->tts_values[BALANCE_CREDITS]);
	amounts->debits_pending =
		DatumGetInt64(row->tts_values[BALANCE_DEBITS_PENDING]);
	amounts->credits_pending =
		DatumGetInt64(row->tts_values[BALANCE_CREDITS_PENDING]);
	*slot = DatumGetInt32(row->tts_values[BALANCE_SLOT]);
}

/* Adds, and never silently too much. */
static void
add_up(RfAmounts *sum, const RfAmounts *amounts)
{
	if (pg_add_s64_overflow(sum->debits, amounts->debits, &sum->debits) ||
		pg_add_s64_overflow(sum->credits, amounts->credits, &sum->credits) ||
		pg_add_s64_overflow(sum->debits_pending, amounts->debits_pending,
							&sum->debits_pending) ||
		pg_add_s64_overflow(sum->credits_pending, amounts->credits_pending,
							&sum->credits_pending))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("balance out of range")));
}

/* Looks for the account's slots from that number on; false if there is none. */
static bool
search_slots(RfPosting *posting, const RfAccount *account, int32 first)
{
	if (posting->balances == NULL)
	{
		posting->balances = palloc(sizeof(RfSearch));
		rf_search_begin(posting->balances, posting->balances_rel,
						RF_BALANCES_KEY, 3, posting->snapshot);
	}
	return rf_search(posting->balances, &posting->org, &account->id, first);
}

/* Ends searching with the snapshot there is. */
void
rf_balances_end(RfPosting *posting)
{
	if (posting->balances == NULL)
		return;
	rf_search_end(posting->balances);
	pfree(posting->balances);
	posting->balances = NULL;
}

static void
refresh(RfPosting *posting)
{
	rf_balances_end(posting);
	rf_posting_refresh(posting);
}

static void
remember_slot(const RfAccount *account, const ItemPointerData *root)
{
	RfPlace    *place = rf_place(&account->id);

	place->slot = account->slot;
	place->balance_tid = *root;
}

/* Has that row at hand, if it is the slot that is wanted. */
static bool
take_slot(RfAccount *account, TupleTableSlot *row, int32 wanted)
{
	RfAmounts	amounts;
	int32		slot;

	read_slot(row, &slot, &amounts);
	if (slot != wanted)
		return false;
	account->slot = slot;
	account->tid = row->tts_tid;
	account->stored = amounts;
	return true;
}

/*
 * Reads a slot, by the index or, if so asked, from where it was; false, with the
 * one at hand as it is, if it isn't there.
 */
static bool
fetch_slot(RfPosting *posting, RfAccount *account, int32 wanted, bool known)
{
	RfPlace    *place = rf_place(&account->id);

	if (known && rf_fetch_place(posting->balances_rel, posting->balance_blocks,
								&place->balance_tid, posting, &account->id,
								posting->balance) &&
		take_slot(account, posting->balance, wanted))
		return true;
	if (!search_slots(posting, account, wanted) ||
		!take_slot(account, posting->balances->slot, wanted))
		return false;
	remember_slot(account, &posting->balances->root);
	return true;
}

pg_noreturn static void
refuse_missing_slot(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("an account of the ledger has no balance"),
			 errhint("ringfence.ledger_verify() tells which.")));
}

/* Locks the last version of a row, which is in "row" then, and its place. */
static TM_Result
lock_last(const RfPosting *posting, ItemPointer tid, TupleTableSlot *row,
		  LockWaitPolicy policy)
{
	TM_FailureData failure;

	return table_tuple_lock(posting->balances_rel, tid, posting->snapshot,
							row, GetCurrentCommandId(true),
							LockTupleNoKeyExclusive, policy,
							TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
}

/* Locks slot 0, which waits for whoever writes it, and adds up all of them. */
static void
take_exactly(RfPosting *posting, RfAccount *account)
{
	TupleTableSlot *row = MakeSingleTupleTableSlot(RelationGetDescr(posting->balances_rel),
												   &TTSOpsBufferHeapTuple);
	ItemPointerData tid;
	TM_Result	result;
	bool		waited;
	int32		slot;

	if (!fetch_slot(posting, account, 0, true))
		refuse_missing_slot();
	tid = account->tid;
	/* To wait with the page pinned would keep it from being pruned. */
	ExecClearTuple(posting->balance);
	if (posting->balances != NULL)
		ExecClearTuple(posting->balances->slot);
	result = lock_last(posting, &tid, row, LockWaitSkip);
	waited = result == TM_WouldBlock;
	if (waited)
	{
		tid = account->tid;
		result = lock_last(posting, &tid, row, LockWaitBlock);
	}
	if (result != TM_Ok)
		refuse_missing_slot();
	/* Others may have been written meanwhile, even if this one wasn't. */
	if (waited || !ItemPointerEquals(&tid, &account->tid))
		refresh(posting);
	read_slot(row, &slot, &account->stored);
	account->tid = tid;
	account->slot = 0;
	account->before = account->stored;
	account->exact = true;
	ExecDropSingleTupleTableSlot(row);

	if (search_slots(posting, account, 1))
		do
		{
			RfAmounts	amounts;

			read_slot(posting->balances->slot, &slot, &amounts);
			add_up(&account->before, &amounts);
		} while (rf_search_next(posting->balances));
}

static bool
is_near_limit(const RfAccount *account)
{
	const RfAmounts *stored = &account->stored;

	return stored->debits + stored->debits_pending > SLOT_TURNOVER - account->gross ||
		stored->credits + stored->credits_pending > SLOT_TURNOVER - account->gross;
}

/*
 * Reads what is needed to add to an account: a slot, or all of them with slot 0
 * locked.
 */
void
rf_balance_take(RfPosting *posting, RfAccount *account)
{
	bool		limited = account->no_overdraft && account->decreases;

	account->exact = false;
	if (!limited && account->gross < SLOT_TURNOVER)
	{
		if (!fetch_slot(posting, account, rf_place(&account->id)->slot, true) &&
			!fetch_slot(posting, account, 0, false))
			refuse_missing_slot();
		account->before = account->stored;
		if (!is_near_limit(account))
			return;
	}
	take_exactly(posting, account);
}

/* --- Writing --- */

static HeapTuple
form_slot(const RfPosting *posting, const RfAccount *account,
		  const RfAmounts *amounts)
{
	TupleDesc	desc = RelationGetDescr(posting->balances_rel);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc0(desc->natts * sizeof(bool));

	values[BALANCE_ORG_ID] = PointerGetDatum(&posting->org);
	values[BALANCE_ACCOUNT_ID] = PointerGetDatum(&account->id);
	values[BALANCE_DEBITS] = Int64GetDatum(amounts->debits);
	values[BALANCE_CREDITS] = Int64GetDatum(amounts->credits);
	values[BALANCE_DEBITS_PENDING] = Int64GetDatum(amounts->debits_pending);
	values[BALANCE_CREDITS_PENDING] = Int64GetDatum(amounts->credits_pending);
	values[BALANCE_SLOT] = Int32GetDatum(account->slot);
	/* What is left of dropped columns. */
	for (int i = BALANCE_COLUMNS; i < desc->natts; i++)
		nulls[i] = true;
	return heap_form_tuple(desc, values, nulls);
}

/*
 * Makes the index entries of a new version of a slot, or of a new one: then
 * false if there may be another with its key.
 */
static bool
index_slot(RfPosting *posting, HeapTuple tuple, const RfAccount *account,
		   bool is_new)
{
	Relation	index = rf_ledger_index(RF_BALANCES_KEY, RowExclusiveLock);
	Datum		values[] = {
		PointerGetDatum(&posting->org), PointerGetDatum(&account->id),
		Int32GetDatum(account->slot)
	};
	bool		nulls[] = {false, false, false};
	bool		is_unique;

	is_unique = index_insert(index, values, nulls, &tuple->t_self,
							 posting->balances_rel,
							 is_new ? UNIQUE_CHECK_PARTIAL : UNIQUE_CHECK_YES,
							 !is_new, rf_ledger_index_info(RF_BALANCES_KEY));
	index_close(index, NoLock);
	return is_unique || !is_new;
}

/* The same in indexes of a DBA's own. */
static void
index_otherwise(RfPosting *posting, HeapTuple tuple, bool summarizing)
{
	Oid			known[RF_LEDGER_INDEXES];
	int			nknown = rf_ledger_known_indexes(RF_LEDGER_BALANCES, known);

	if (!rf_ledger_indexes_known(RF_LEDGER_BALANCES))
		rf_table_index_tuple(posting->balances_rel, tuple, known, nknown,
							 summarizing);
}

/* Can the slot that was read be written now, as far as one can see? */
static SlotState
look_at_slot(const RfPosting *posting, const RfAccount *account)
{
	Buffer		buffer = ReadBuffer(posting->balances_rel,
									ItemPointerGetBlockNumber(&account->tid));
	Page		page;
	ItemId		line;
	HeapTupleData tuple;
	TM_Result	result;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	/* It is still there as long as an older snapshot than ours shows it. */
	line = PageGetItemId(page, ItemPointerGetOffsetNumber(&account->tid));
	if (!ItemIdIsNormal(line))
	{
		UnlockReleaseBuffer(buffer);
		return SLOT_CHANGED;
	}
	tuple.t_self = account->tid;
	tuple.t_tableOid = RelationGetRelid(posting->balances_rel);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, line);
	tuple.t_len = ItemIdGetLength(line);
	result = HeapTupleSatisfiesUpdate(&tuple, GetCurrentCommandId(true),
									  buffer);
	/* What we have locked ourselves, and not written, is ours to write. */
	if (result == TM_BeingModified &&
		!(tuple.t_data->t_infomask & HEAP_XMAX_IS_MULTI) &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmax(tuple.t_data)))
		result = TM_Ok;
	UnlockReleaseBuffer(buffer);
	switch (result)
	{
		case TM_Ok:
			return SLOT_FREE;
		case TM_BeingModified:
			return SLOT_BUSY;
		default:
			return SLOT_CHANGED;
	}
}

/*
 * Locks the slot that was read, without waiting. Where slot 0 may be locked by
 * somebody who then waits for another account, one look isn't enough: to wait for
 * him in between would close the circle.
 */
static SlotState
lock_slot(const RfPosting *posting, const RfAccount *account)
{
	TM_FailureData failure;
	ItemPointerData tid = account->tid;

	switch (table_tuple_lock(posting->balances_rel, &tid,
							 posting->snapshot, posting->balance,
							 GetCurrentCommandId(true),
							 LockTupleNoKeyExclusive, LockWaitSkip, 0,
							 &failure))
	{
		case TM_Ok:
			return SLOT_FREE;
		case TM_WouldBlock:
			return SLOT_BUSY;
		default:
			return SLOT_CHANGED;
	}
}

/*
 * Adds the change to the slot that was read. False if somebody has written it
 * since; waits for whoever does so now.
 */
static bool
update_slot(RfPosting *posting, RfAccount *account)
{
	RfAmounts	amounts = account->stored;
	HeapTuple	tuple;
	bool		summarizing;
	bool		done;

	add_up(&amounts, &account->change);
	tuple = form_slot(posting, account, &amounts);
	done = rf_heap_try_update(posting->balances_rel, &account->tid, tuple,
							  &summarizing) == TM_Ok;
	if (done && !HeapTupleIsHeapOnly(tuple))
	{
		(void) index_slot(posting, tuple, account, false);
		index_otherwise(posting, tuple, false);
		remember_slot(account, &tuple->t_self);
	}
	else if (summarizing)
		index_otherwise(posting, tuple, true);
	heap_freetuple(tuple);
	return done;
}

/*
 * Makes a slot, with the change in it. False if somebody else has made, or is
 * making, one of that number: then what was inserted is dead for everybody.
 */
static bool
insert_slot(RfPosting *posting, RfAccount *account, int32 slot)
{
	Relation	rel = posting->balances_rel;
	TransactionId xid = GetCurrentTransactionId();
	HeapTuple	tuple;
	uint32		token;
	bool		done;

	account->slot = slot;
	tuple = form_slot(posting, account, &account->change);
	token = SpeculativeInsertionLockAcquire(xid);
	HeapTupleHeaderSetSpeculativeToken(tuple->t_data, token);
	heap_insert(rel, tuple, GetCurrentCommandId(true),
				HEAP_INSERT_SPECULATIVE, NULL);
	done = index_slot(posting, tuple, account, true);
	if (done)
		heap_finish_speculative(rel, &tuple->t_self);
	else
		heap_abort_speculative(rel, &tuple->t_self);
	SpeculativeInsertionLockRelease(xid);
	if (done)
	{
		index_otherwise(posting, tuple, false);
		remember_slot(account, &tuple->t_self);
	}
	heap_freetuple(tuple);
	return done;
}

/*
 * Adds the change to the slot at hand, reading it anew as often as others have
 * written it. False if somebody is writing it, unless that is to be waited for.
 */
static bool
add_to_slot(RfPosting *posting, RfAccount *account, bool wait)
{
	for (;;)
	{
		SlotState	state = wait ? SLOT_FREE :
		account->no_overdraft ? lock_slot(posting, account) :
		look_at_slot(posting, account);

		CHECK_FOR_INTERRUPTS();
		if (state == SLOT_BUSY)
			return false;
		if (state == SLOT_FREE && update_slot(posting, account))
			return true;
		refresh(posting);
		if (!fetch_slot(posting, account, account->slot, false))
			refuse_missing_slot();
	}
}

/*
 * Adds the change to whichever slot is free, beginning with the one at hand;
 * each session goes on to others, and makes those that aren't there. Only when
 * as many transactions as there are slots have written one, and are still
 * running, slot 0 is waited for.
 */
static void
add_anywhere(RfPosting *posting, RfAccount *account)
{
	if (add_to_slot(posting, account, false))
		return;
	for (int i = 0; i < MAX_SLOTS - 1; i++)
	{
		int32		slot = 1 + (rf_my_proc_number() + i) % (MAX_SLOTS - 1);

		refresh(posting);
		if (fetch_slot(posting, account, slot, false) ?
			add_to_slot(posting, account, false) :
			insert_slot(posting, account, slot))
			return;
	}
	refresh(posting);
	if (!fetch_slot(posting, account, 0, false))
		refuse_missing_slot();
	(void) add_to_slot(posting, account, true);
}

static bool
is_changed(const RfAmounts *change)
{
	return change->debits != 0 || change->credits != 0 ||
		change->debits_pending != 0 || change->credits_pending != 0;
}

/* Writes what the batch changed, once for each account. */
void
rf_balances_apply(RfPosting *posting)
{
	for (int i = 0; i < posting->naccounts; i++)
	{
		RfAccount  *account = &posting->accounts[i];

		CHECK_FOR_INTERRUPTS();
		if (!is_changed(&account->change))
			continue;
		if (!account->exact)
			add_anywhere(posting, account);
		else if (!update_slot(posting, account))
			elog(ERROR, "a locked balance was changed");
	}
	rf_balances_end(posting);
}
