/*
 * ledger_find.c: transfers that there are already.
 *
 * Whether an id is taken is asked of what is committed, one's own, and what
 * others are about to commit, for which it waits. Ids are asked for in their
 * order, in which they are inserted too, so that those who wait for each other
 * wait in one direction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ledger.h"

static RfUuid
read_uuid(const TupleTableSlot *row, int column, bool *present)
{
	RfUuid		uuid = {{0}};

	*present = !row->tts_isnull[column];
	if (*present)
		memcpy(&uuid, DatumGetPointer(row->tts_values[column]), sizeof(uuid));
	return uuid;
}

static text *
read_text(const TupleTableSlot *row, int column)
{
	if (row->tts_isnull[column])
		return NULL;
	return DatumGetTextPCopy(row->tts_values[column]);
}

/* Reads a transfer. Its strings are copied into the current memory context. */
static TimestampTz
read_transfer(TupleTableSlot *row, RfTransfer *transfer)
{
	bool		present;

	slot_getsomeattrs(row, TRANSFER_COLUMNS);
	memset(transfer, 0, sizeof(*transfer));
	transfer->id = read_uuid(row, TRANSFER_ID, &present);
	transfer->debit = read_uuid(row, TRANSFER_DEBIT_ACCOUNT_ID,
								&transfer->has_debit);
	transfer->credit = read_uuid(row, TRANSFER_CREDIT_ACCOUNT_ID,
								 &transfer->has_credit);
	transfer->pending = read_uuid(row, TRANSFER_PENDING_ID,
								  &transfer->has_pending);
	transfer->reverses = read_uuid(row, TRANSFER_REVERSES_ID,
								   &transfer->has_reverses);
	transfer->amount = DatumGetInt64(row->tts_values[TRANSFER_AMOUNT]);
	transfer->has_amount = true;
	transfer->posted_at =
		DatumGetTimestampTz(row->tts_values[TRANSFER_POSTED_AT]);
	transfer->has_posted_at = true;
	transfer->expires_at = row->tts_isnull[TRANSFER_EXPIRES_AT] ? DT_NOEND :
		DatumGetTimestampTz(row->tts_values[TRANSFER_EXPIRES_AT]);
	transfer->asset = read_text(row, TRANSFER_ASSET);
	transfer->kind = read_text(row, TRANSFER_KIND);
	transfer->reference = read_text(row, TRANSFER_REFERENCE);
	if (!row->tts_isnull[TRANSFER_METADATA])
		transfer->metadata =
			DatumGetJsonbPCopy(row->tts_values[TRANSFER_METADATA]);
	transfer->state =
		rf_transfer_state(DatumGetTextPP(row->tts_values[TRANSFER_STATE]));
	return DatumGetTimestampTz(row->tts_values[TRANSFER_RECORDED_AT]);
}

/*
 * Looks for a row that has the key now, or will have it if a transaction
 * commits that is still running: then waits for its end, and looks again.
 */
static bool
search_and_wait(RfPosting *posting, RfSearch *search,
				const SnapshotData *dirty, const RfUuid *id)
{
	for (;;)
	{
		TransactionId other;
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();
		if (!rf_search(search, &posting->org, id, 0))
			return false;
		other = TransactionIdIsValid(dirty->xmin) ? dirty->xmin : dirty->xmax;
		if (!TransactionIdIsValid(other))
			return true;
		tid = search->slot->tts_tid;
		/* To wait with a page pinned would keep VACUUM waiting as well. */
		ExecClearTuple(search->slot);
		index_rescan(search->scan, NULL, search->nkeys, NULL, 0);
		if (dirty->speculativeToken != 0)
			SpeculativeInsertionWait(other, dirty->speculativeToken);
		else
			XactLockTableWait(other, posting->transfers_rel, &tid,
							  XLTW_InsertIndex);
	}
}

/*
 * Gives each transfer whose id is taken the code that says so.
 */
void
rf_transfers_probe(RfPosting *posting)
{
	SnapshotData dirty;
	RfSearch	search;

	InitDirtySnapshot(dirty);
	rf_search_begin(&search, posting->transfers_rel, RF_TRANSFERS_KEY, 2,
					&dirty);
	for (int i = 0; i < posting->n; i++)
	{
		RfTransfer *transfer = &posting->transfers[posting->by_id[i]];
		RfTransfer	found;
		TimestampTz recorded_at;

		if (transfer->own_id || transfer->code != RF_OK ||
			!search_and_wait(posting, &search, &dirty, &transfer->id))
			continue;
		recorded_at = read_transfer(search.slot, &found);
		transfer->code = rf_transfer_compare(transfer, &found, recorded_at);
	}
	rf_search_end(&search);
}

/* Reads the transfer with that id; false if there is none to be seen. */
bool
rf_transfer_find(RfPosting *posting, const RfUuid *id, RfTransfer *transfer)
{
	RfSearch	search;
	bool		found;

	rf_search_begin(&search, posting->transfers_rel, RF_TRANSFERS_KEY, 2,
					posting->snapshot);
	found = rf_search(&search, &posting->org, id, 0);
	if (found)
		(void) read_transfer(search.slot, transfer);
	rf_search_end(&search);
	return found;
}

/* What became of a pending transfer; false if it still is pending. */
bool
rf_transfer_resolution(RfPosting *posting, const RfUuid *pending,
					   RfTransferState *state)
{
	RfSearch	search;
	bool		found;

	rf_search_begin(&search, posting->transfers_rel, RF_TRANSFERS_PENDING_KEY,
					2, posting->snapshot);
	found = rf_search(&search, &posting->org, pending, 0);
	if (found)
	{
		RfTransfer	transfer;

		(void) read_transfer(search.slot, &transfer);
		*state = transfer.state;
	}
	rf_search_end(&search);
	return found;
}

/* Has a transfer been reversed? Waits for whoever is about to. */
bool
rf_transfer_reversal(RfPosting *posting, const RfUuid *id)
{
	SnapshotData dirty;
	RfSearch	search;
	bool		found;

	InitDirtySnapshot(dirty);
	rf_search_begin(&search, posting->transfers_rel,
					RF_TRANSFERS_REVERSES_KEY, 2, &dirty);
	found = search_and_wait(posting, &search, &dirty, id);
	rf_search_end(&search);
	return found;
}
