/*
 * ledger_row.c: writes transfers.
 *
 * Nothing but a transfer's id, or the one that it reverses, can be found taken
 * once it has come this far. It isn't looked for beforehand: the index tells
 * when the entry is made, and then everything is taken back, so that the batch
 * can be looked at anew with what is there. What is taken back must be dead for
 * everybody at once, or two who have both done so would wait for each other's
 * remains. So one row with such a key is inserted speculatively, as INSERT ...
 * ON CONFLICT does it; several go into a subtransaction, for one can't decode
 * more than one speculative insertion at a time from WAL. Other rows have ids
 * that nobody can look for.
 *
 * PostgreSQL's own checks of foreign keys aren't run: the accounts have been
 * found, by organization and asset, and can't be deleted.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ledger.h"
#include "subxact.h"
#include "table.h"

/* Rows that are written together. */
#define CHUNK 500

static const char *const states[RF_TRANSFER_STATES] = {
	[RF_POSTED] = "posted",
	[RF_PENDING] = "pending",
	[RF_VOIDED] = "voided",
	[RF_EXPIRED] = "expired",
};

/* A row that was written, by its transfer. */
typedef struct Written
{
	const RfTransfer *transfer;
	ItemPointerData tid;
} Written;

/* The state of that name, or RF_TRANSFER_STATES. */
RfTransferState
rf_transfer_state(const text *name)
{
	int			state;

	for (state = 0; state < RF_TRANSFER_STATES; state++)
		if (VARSIZE_ANY_EXHDR(name) == strlen(states[state]) &&
			memcmp(VARDATA_ANY(name), states[state], strlen(states[state])) == 0)
			break;
	return state;
}

/* A text of few bytes, in "buffer", which has one more. */
static Datum
short_text(char *buffer, const char *string)
{
	size_t		len = strlen(string);

	SET_VARSIZE_SHORT(buffer, len + VARHDRSZ_SHORT);
	memcpy(buffer + VARHDRSZ_SHORT, string, len);
	return PointerGetDatum(buffer);
}

static void
set_pointer(Datum *values, bool *nulls, int column, const void *value)
{
	values[column] = PointerGetDatum(value);
	nulls[column] = value == NULL;
}

/* The day in UTC. */
static Datum
posted_on(const RfTransfer *transfer)
{
	TimestampTz day = transfer->posted_at / USECS_PER_DAY;

	if (transfer->posted_at % USECS_PER_DAY < 0)
		day--;
	return DateADTGetDatum((DateADT) day);
}

static HeapTuple
form_transfer(const RfPosting *posting, const RfTransfer *transfer,
			  Datum *values, bool *nulls)
{
	char		asset[RF_MAX_ASSET + 2];
	char		state[NAMEDATALEN];

	set_pointer(values, nulls, TRANSFER_ORG_ID, &posting->org);
	set_pointer(values, nulls, TRANSFER_ID, &transfer->id);
	set_pointer(values, nulls, TRANSFER_DEBIT_ACCOUNT_ID, &transfer->debit);
	set_pointer(values, nulls, TRANSFER_CREDIT_ACCOUNT_ID, &transfer->credit);
	values[TRANSFER_AMOUNT] = Int64GetDatum(transfer->amount);
	values[TRANSFER_POSTED_AT] = TimestampTzGetDatum(transfer->posted_at);
	values[TRANSFER_RECORDED_AT] = TimestampTzGetDatum(posting->now);
	values[TRANSFER_POSTED_ON] = posted_on(transfer);
	values[TRANSFER_ASSET] = short_text(asset, transfer->debit_account->asset);
	values[TRANSFER_STATE] = short_text(state, states[transfer->state]);
	set_pointer(values, nulls, TRANSFER_KIND, transfer->kind);
	set_pointer(values, nulls, TRANSFER_ACTOR, posting->actor);
	set_pointer(values, nulls, TRANSFER_PENDING_ID,
				transfer->has_pending ? &transfer->pending : NULL);
	set_pointer(values, nulls, TRANSFER_REVERSES_ID,
				transfer->has_reverses ? &transfer->reverses : NULL);
	values[TRANSFER_EXPIRES_AT] = TimestampTzGetDatum(transfer->expires_at);
	nulls[TRANSFER_EXPIRES_AT] = transfer->expires_at == DT_NOEND;
	set_pointer(values, nulls, TRANSFER_REFERENCE, transfer->reference);
	set_pointer(values, nulls, TRANSFER_METADATA, transfer->metadata);
	return heap_form_tuple(RelationGetDescr(posting->transfers_rel),
						   values, nulls);
}

/* --- Rows --- */

/* What all rows of a batch are formed with. */
typedef struct RowMaker
{
	RfPosting  *posting;
	Datum	   *values;
	bool	   *nulls;
} RowMaker;

static void
make_rows_of(RowMaker *maker, RfPosting *posting)
{
	int			natts = RelationGetDescr(posting->transfers_rel)->natts;

	maker->posting = posting;
	maker->values = palloc0(natts * sizeof(Datum));
	maker->nulls = palloc(natts * sizeof(bool));
	memset(maker->nulls, true, natts * sizeof(bool));
	memset(maker->nulls, false, (TRANSFER_KIND + 1) * sizeof(bool));
}

static HeapTuple
make_row(RowMaker *maker, const Written *written)
{
	return form_transfer(maker->posting, written->transfer, maker->values,
						 maker->nulls);
}

/* Writes one row; speculatively if there is a token. */
static void
insert_row(RowMaker *maker, Written *written, uint32 token)
{
	HeapTuple	tuple = make_row(maker, written);

	if (token != 0)
		HeapTupleHeaderSetSpeculativeToken(tuple->t_data, token);
	heap_insert(maker->posting->transfers_rel, tuple,
				GetCurrentCommandId(true),
				token != 0 ? HEAP_INSERT_SPECULATIVE : 0, NULL);
	written->tid = tuple->t_self;
	heap_freetuple(tuple);
}

/* Writes rows, together if they are several. */
static void
insert_rows(RowMaker *maker, Written *written, int n)
{
	Relation	rel = maker->posting->transfers_rel;
	int			nslots = Min(n, CHUNK);
	TupleTableSlot **slots;
	MemoryContext chunk_mcxt;

	if (n <= 1)
	{
		if (n == 1)
			insert_row(maker, written, 0);
		return;
	}
	slots = palloc(nslots * sizeof(TupleTableSlot *));
	chunk_mcxt = AllocSetContextCreate(CurrentMemoryContext,
									   "ringfence ledger rows",
									   ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel),
											&TTSOpsHeapTuple);
	for (int done = 0; done < n; done += nslots)
	{
		MemoryContext old = MemoryContextSwitchTo(chunk_mcxt);
		int			chunk = Min(nslots, n - done);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < chunk; i++)
			ExecStoreHeapTuple(make_row(maker, &written[done + i]), slots[i],
							   false);
		heap_multi_insert(rel, slots, chunk, GetCurrentCommandId(true), 0,
						  NULL);
		for (int i = 0; i < chunk; i++)
		{
			written[done + i].tid = slots[i]->tts_tid;
			ExecClearTuple(slots[i]);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(chunk_mcxt);
	}
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	MemoryContextDelete(chunk_mcxt);
	pfree(slots);
}

/* --- Index entries --- */

/*
 * The key of a transfer's entry in an index; false if it has none there.
 */
static bool
index_key(const RfPosting *posting, RfLedgerIndex index,
		  const RfTransfer *transfer, Datum *values)
{
	values[0] = PointerGetDatum(&posting->org);
	values[2] = posted_on(transfer);
	switch (index)
	{
		case RF_TRANSFERS_KEY:
			values[1] = PointerGetDatum(&transfer->id);
			return true;
		case RF_TRANSFERS_PENDING_KEY:
			values[1] = PointerGetDatum(&transfer->pending);
			return transfer->has_pending;
		case RF_TRANSFERS_REVERSES_KEY:
			values[1] = PointerGetDatum(&transfer->reverses);
			return transfer->has_reverses;
		case RF_TRANSFERS_DEBIT:
			values[1] = PointerGetDatum(&transfer->debit);
			return true;
		case RF_TRANSFERS_CREDIT:
			values[1] = PointerGetDatum(&transfer->credit);
			return true;
		default:
			values[0] = TimestampTzGetDatum(posting->now);
			return true;
	}
}

static int
compare_by_debit(const void *a, const void *b)
{
	return rf_uuid_cmp(&((const Written *) a)->transfer->debit,
					   &((const Written *) b)->transfer->debit);
}

static int
compare_by_credit(const void *a, const void *b)
{
	return rf_uuid_cmp(&((const Written *) a)->transfer->credit,
					   &((const Written *) b)->transfer->credit);
}

/*
 * Makes the entries of an index. False if a key may be taken, if that is to be
 * told; else it is an error. All rows of a page have one entry in an index of
 * pages.
 */
static bool
index_rows(RfPosting *posting, RfLedgerIndex which, Written *written, int n,
		   IndexUniqueCheck check)
{
	IndexInfo  *info = rf_ledger_index_info(which);
	Relation	index = NULL;
	BlockNumber block = InvalidBlockNumber;
	bool		nulls[] = {false, false, false};
	bool		good = true;

	info->ii_AmCache = NULL;
	info->ii_Context = CurrentMemoryContext;
	for (int i = 0; i < n && good; i++)
	{
		ItemPointer tid = &written[i].tid;
		Datum		values[3];

		if (!index_key(posting, which, written[i].transfer, values) ||
			(which == RF_TRANSFERS_RECORDED &&
			 ItemPointerGetBlockNumber(tid) == block))
			continue;
		CHECK_FOR_INTERRUPTS();
		if (index == NULL)
			index = rf_ledger_index(which, RowExclusiveLock);
		if (!index_insert(index, values, nulls, tid, posting->transfers_rel,
						  index->rd_index->indisunique ? check :
						  UNIQUE_CHECK_NO, false, info))
			good = check != UNIQUE_CHECK_PARTIAL ||
				!index->rd_index->indisunique;
		block = ItemPointerGetBlockNumber(tid);
	}
	if (index != NULL)
	{
		rf_index_insert_cleanup(index, info);
		index_close(index, NoLock);
	}
	/* What the access method keeps there doesn't outlive this. */
	info->ii_AmCache = NULL;
	return good;
}

/* Entries in indexes of a DBA's own are made by the executor. */
static void
index_otherwise(RfPosting *posting, Written *written, int n)
{
	Relation	rel = posting->transfers_rel;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													&TTSOpsBufferHeapTuple);
	Oid			known[RF_LEDGER_INDEXES];
	int			nknown = rf_ledger_known_indexes(RF_LEDGER_TRANSFERS, known);

	for (int i = 0; i < n; i++)
	{
		HeapTupleData tuple;
		Buffer		buffer;

		CHECK_FOR_INTERRUPTS();
		tuple.t_self = written[i].tid;
		if (!heap_fetch(rel, SnapshotSelf, &tuple, &buffer, false))
			elog(ERROR, "a transfer just written is not there");
		ExecStorePinnedBufferHeapTuple(&tuple, slot, buffer);
		slot->tts_tableOid = RelationGetRelid(rel);
		rf_table_index_others(rel, &slot, 1, known, nknown, false);
	}
	ExecDropSingleTupleTableSlot(slot);
}

/* Makes the entries that aren't looked for by whoever brings the same keys. */
static void
index_others(RfPosting *posting, Written *written, int n)
{
	/* No two resolve a hold, for they have locked it. */
	(void) index_rows(posting, RF_TRANSFERS_PENDING_KEY, written, n,
					  UNIQUE_CHECK_YES);
	(void) index_rows(posting, RF_TRANSFERS_RECORDED, written, n,
					  UNIQUE_CHECK_NO);
	/* Neighbours in an index go in one after the other. */
	qsort(written, n, sizeof(Written), compare_by_debit);
	(void) index_rows(posting, RF_TRANSFERS_DEBIT, written, n,
					  UNIQUE_CHECK_NO);
	qsort(written, n, sizeof(Written), compare_by_credit);
	(void) index_rows(posting, RF_TRANSFERS_CREDIT, written, n,
					  UNIQUE_CHECK_NO);
	if (!rf_ledger_indexes_known(RF_LEDGER_TRANSFERS))
		index_otherwise(posting, written, n);
}

/* Can what this transfer is known by be taken? */
static bool
has_rivals(const RfTransfer *transfer)
{
	return !transfer->own_id || transfer->has_reverses;
}

/* What was accepted, in the order of ids, those with rivals first. */
static Written *
list_accepted(const RfPosting *posting, int *n, int *nrivals)
{
	Written    *written = palloc_extended(posting->n * sizeof(Written),
										  MCXT_ALLOC_HUGE);

	*n = 0;
	for (int rivals = 1; rivals >= 0; rivals--)
	{
		for (int i = 0; i < posting->n; i++)
		{
			RfTransfer *transfer = &posting->transfers[posting->by_id[i]];

			if (transfer->code != RF_OK || has_rivals(transfer) != rivals)
				continue;
			Assert(transfer->amount > 0 && transfer->kind != NULL);
			written[(*n)++].transfer = transfer;
		}
		if (rivals)
			*nrivals = *n;
	}
	return written;
}

/*
 * Writes the one row that has rivals. False, with nothing left of it, if a key
 * of it may be taken.
 */
static bool
insert_rival(RowMaker *maker, Written *written)
{
	RfPosting  *posting = maker->posting;
	TransactionId xid = GetCurrentTransactionId();
	uint32		token = SpeculativeInsertionLockAcquire(xid);
	bool		good;

	insert_row(maker, written, token);
	good = index_rows(posting, RF_TRANSFERS_KEY, written, 1,
					  UNIQUE_CHECK_PARTIAL) &&
		index_rows(posting, RF_TRANSFERS_REVERSES_KEY, written, 1,
				   UNIQUE_CHECK_PARTIAL);
	if (good)
		heap_finish_speculative(posting->transfers_rel, &written->tid);
	else
		heap_abort_speculative(posting->transfers_rel, &written->tid);
	SpeculativeInsertionLockRelease(xid);
	return good;
}

/* Writes several that have rivals, and others; false likewise. */
static bool
insert_rivals(RowMaker *maker, Written *written, int n)
{
	MemoryContext mcxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool good = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(mcxt);
	PG_TRY();
	{
		insert_rows(maker, written, n);
		good = index_rows(maker->posting, RF_TRANSFERS_KEY, written, n,
						  UNIQUE_CHECK_PARTIAL) &&
			index_rows(maker->posting, RF_TRANSFERS_REVERSES_KEY, written, n,
					   UNIQUE_CHECK_PARTIAL);
		if (good)
		{
			index_others(maker->posting, written, n);
			ReleaseCurrentSubTransaction();
		}
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		/* Whoever catches it finds the subtransaction that he has begun. */
		ReThrowError(rf_subxact_undo(mcxt, owner));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(mcxt);
	CurrentResourceOwner = owner;
	return good;
}

/*
 * Writes what was accepted. False, with nothing left of it, if a key may be
 * taken.
 */
bool
rf_transfers_insert(RfPosting *posting)
{
	RowMaker	maker;
	int			n;
	int			nrivals;
	Written    *written = list_accepted(posting, &n, &nrivals);
	Written    *others = written + nrivals;

	if (n == 0)
		return true;
	make_rows_of(&maker, posting);
	if (nrivals > 1)
		return insert_rivals(&maker, written, n);
	if (nrivals == 1 && !insert_rival(&maker, written))
		return false;
	insert_rows(&maker, others, n - nrivals);
	(void) index_rows(posting, RF_TRANSFERS_KEY, others, n - nrivals,
					  UNIQUE_CHECK_YES);
	index_others(posting, written, n);
	return true;
}
