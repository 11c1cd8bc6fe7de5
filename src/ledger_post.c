/*
 * ledger_post.c: takes a batch of transfers into the books.
 *
 * A batch is looked at in its order, with the balances as they were found and
 * what it has itself changed; then transfers are written, and each balance once.
 * What was locked stays so until the transaction ends:
 *
 *	the organization's ledger, shared (ledger_table.c)
 *	holds that are resolved, in the order of ids (ledger_hold.c)
 *	slot 0 of accounts whose limit may be reached, in the order of ids
 *		(ledger_balance.c)
 *	ids of transfers, in their order (ledger_row.c, ledger_find.c)
 *
 * so that batches don't wait for each other in a circle. All is read from the
 * newest snapshot: nothing here fails for what others committed meanwhile. A
 * transaction that keeps an older one would then see a balance twice, as it was
 * and as it has itself made it; so it can't post.
 *
 * That an id is taken counts before any other reason to refuse a transfer. To
 * look for every id would cost as much as writing it: at first none is looked
 * for, and only if one turns out to be taken, or a transfer is refused that
 * might be a repetition, the batch is looked at once more, carefully. So is one
 * that has to do with holds, from the beginning. The second look asks for ids with
 * the locks of the first one held: who has written an id is past all of these,
 * and waits for nobody.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ledger.h"

/* --- The ledger as it is --- */

/* Takes a new snapshot in the place of the one there is. */
void
rf_posting_refresh(RfPosting *posting)
{
	if (posting->snapshot != NULL)
		UnregisterSnapshot(posting->snapshot);
	posting->snapshot = RegisterSnapshot(GetLatestSnapshot());
}

/* Up to when the books are closed; DT_NOBEGIN if they never were. */
static TimestampTz
read_closed_before(RfPosting *posting)
{
	Relation	rel = rf_ledger_open(RF_LEDGER_PERIODS, AccessShareLock);
	RfSearch	search;
	TimestampTz closed_before = DT_NOBEGIN;

	rf_search_begin(&search, rel, RF_PERIODS_KEY, 1, posting->snapshot);
	if (rf_search_last(&search, &posting->org))
	{
		bool		isnull;

		closed_before =
			DatumGetTimestampTz(slot_getattr(search.slot,
											 PERIOD_CLOSED_BEFORE + 1,
											 &isnull));
	}
	rf_search_end(&search);
	relation_close(rel, NoLock);
	return closed_before;
}

static bool
has_holds(const RfPosting *posting)
{
	for (int i = 0; i < posting->n; i++)
		if (posting->transfers[i].state != RF_POSTED ||
			posting->transfers[i].has_pending)
			return true;
	return false;
}

static void
open_tables(RfPosting *posting)
{
	posting->transfers_rel = rf_ledger_open(RF_LEDGER_TRANSFERS,
											RowExclusiveLock);
	posting->accounts_rel = rf_ledger_open(RF_LEDGER_ACCOUNTS,
										   AccessShareLock);
	posting->balances_rel = rf_ledger_open(RF_LEDGER_BALANCES,
										   RowExclusiveLock);
	posting->balance =
		MakeSingleTupleTableSlot(RelationGetDescr(posting->balances_rel),
								 &TTSOpsBufferHeapTuple);
	posting->balance_blocks =
		RelationGetNumberOfBlocks(posting->balances_rel);
	if (has_holds(posting))
		posting->holds_rel = rf_ledger_open(RF_LEDGER_HOLDS,
											RowExclusiveLock);
}

static void
close_tables(RfPosting *posting)
{
	ExecDropSingleTupleTableSlot(posting->balance);
	relation_close(posting->transfers_rel, NoLock);
	relation_close(posting->accounts_rel, NoLock);
	relation_close(posting->balances_rel, NoLock);
	if (posting->holds_rel != NULL)
		relation_close(posting->holds_rel, NoLock);
}

static int
compare_by_id(const void *a, const void *b, void *arg)
{
	const RfTransfer *transfers = arg;
	int			i = *(const int *) a;
	int			j = *(const int *) b;
	int			order = rf_uuid_cmp(&transfers[i].id, &transfers[j].id);

	return order != 0 ? order : (i > j) - (i < j);
}

static void
sort_by_id(RfPosting *posting)
{
	posting->by_id = palloc(posting->n * sizeof(int));
	for (int i = 0; i < posting->n; i++)
		posting->by_id[i] = i;
	qsort_arg(posting->by_id, posting->n, sizeof(int), compare_by_id,
			  posting->transfers);
	for (int i = 0; i < posting->n; i++)
		posting->transfers[posting->by_id[i]].rank = i;
}

/* Turns round the transfer that is to be reversed. */
static RfTransferCode
fill_from_reversed(RfPosting *posting, RfTransfer *transfer)
{
	RfTransfer	reversed;

	if (!rf_transfer_find(posting, &transfer->reverses, &reversed))
		return RF_TRANSFER_NOT_FOUND;
	if (reversed.state != RF_POSTED || reversed.has_reverses)
		return RF_NOT_REVERSIBLE;
	transfer->debit = reversed.credit;
	transfer->credit = reversed.debit;
	transfer->amount = reversed.amount;
	transfer->has_debit = transfer->has_credit = transfer->has_amount = true;
	return RF_OK;
}

/* Gives each transfer the code that it has whatever the balances are. */
static void
check_transfers(RfPosting *posting)
{
	rf_holds_collect(posting);
	for (int i = 0; i < posting->n; i++)
	{
		RfTransfer *transfer = &posting->transfers[i];

		transfer->hold = NULL;
		transfer->repeated = false;
		transfer->expires_at = rf_transfer_expiry(transfer, posting->now);
		transfer->code = RF_OK;
		if (transfer->has_reverses)
			transfer->code = fill_from_reversed(posting, transfer);
		if (transfer->code == RF_OK)
			transfer->code = rf_transfer_check(posting, transfer);
	}
}

/* --- One transfer --- */

/* Is there a transfer of that id in the batch, before this one? */
static bool
find_twin(RfPosting *posting, RfTransfer *transfer)
{
	for (int i = transfer->rank - 1; i >= 0; i--)
	{
		const RfTransfer *twin = &posting->transfers[posting->by_id[i]];

		if (rf_uuid_cmp(&twin->id, &transfer->id) != 0)
			break;
		if (twin->code != RF_OK)
			continue;
		transfer->code = rf_transfer_compare(transfer, twin, posting->now);
		transfer->repeated = true;
		return true;
	}
	return false;
}

static bool
asset_is(const RfTransfer *transfer, const RfAccount *account)
{
	size_t		len = strlen(account->asset);

	return transfer->asset == NULL ||
		(VARSIZE_ANY_EXHDR(transfer->asset) == len &&
		 memcmp(VARDATA_ANY(transfer->asset), account->asset, len) == 0);
}

/* What the accounts and the time say against it. */
static RfTransferCode
check_accounts(const RfPosting *posting, RfTransfer *transfer)
{
	const RfAccount *debit = transfer->debit_account;
	const RfAccount *credit = transfer->credit_account;

	if (!debit->found)
		return RF_DEBIT_ACCOUNT_NOT_FOUND;
	if (!credit->found)
		return RF_CREDIT_ACCOUNT_NOT_FOUND;
	if (strcmp(debit->asset, credit->asset) != 0 || !asset_is(transfer, debit))
		return RF_ASSET_MISMATCH;
	if (!transfer->has_posted_at)
		transfer->posted_at = posting->now;
	if (transfer->posted_at < posting->closed_before ||
		TIMESTAMP_IS_NOBEGIN(transfer->posted_at))
		return RF_PERIOD_CLOSED;
	if (transfer->has_pending)
		return RF_OK;			/* no account with holds can be closed */
	if (debit->closed)
		return RF_DEBIT_ACCOUNT_CLOSED;
	if (credit->closed)
		return RF_CREDIT_ACCOUNT_CLOSED;
	return RF_OK;
}

/* The pending transfer to resolve: one of the batch, or one from before. */
static RfHold *
find_hold(const RfPosting *posting, const RfTransfer *transfer)
{
	RfHold	   *hold = rf_hold_find(posting, &transfer->pending);
	const RfTransfer *maker;

	if (hold != NULL && hold->known)
		return hold;
	maker = rf_hold_maker(posting, transfer);
	return maker != NULL && maker->code == RF_OK ? maker->hold : NULL;
}

static RfTransferCode
check_hold(const RfPosting *posting, const RfTransfer *transfer,
		   const RfHold *hold)
{
	if (hold == NULL)
		return RF_PENDING_NOT_FOUND;
	if (!hold->open)
		return hold->state == RF_POSTED ? RF_PENDING_POSTED :
			hold->state == RF_VOIDED ? RF_PENDING_VOIDED : RF_PENDING_EXPIRED;
	if (hold->expires_at <= posting->now && transfer->state != RF_EXPIRED)
		return RF_PENDING_EXPIRED;
	if (rf_uuid_cmp(&hold->debit, &transfer->debit) != 0 ||
		rf_uuid_cmp(&hold->credit, &transfer->credit) != 0)
		return RF_PENDING_DIFFERENT;
	if (transfer->amount > hold->amount)
		return RF_PENDING_EXCEEDED;
	if (transfer->state != RF_POSTED && transfer->amount != hold->amount)
		return RF_PENDING_DIFFERENT;
	return RF_OK;
}

/* What the transfer adds to its accounts. */
static void
reckon(RfTransfer *transfer)
{
	RfAmounts  *debit = &transfer->to_debit;
	RfAmounts  *credit = &transfer->to_credit;

	memset(debit, 0, sizeof(*debit));
	memset(credit, 0, sizeof(*credit));
	if (transfer->has_pending)
	{
		debit->debits_pending = -transfer->hold->amount;
		credit->credits_pending = -transfer->hold->amount;
	}
	if (transfer->state == RF_PENDING)
	{
		debit->debits_pending = transfer->amount;
		credit->credits_pending = transfer->amount;
	}
	if (transfer->state == RF_POSTED)
	{
		debit->debits = transfer->amount;
		credit->credits = transfer->amount;
	}
}

/* Takes back what an accepted transfer has changed. */
static void
take_back(RfTransfer *transfer)
{
	(void) rf_account_add(transfer->debit_account, &transfer->to_debit, -1);
	(void) rf_account_add(transfer->credit_account, &transfer->to_credit, -1);
	if (transfer->has_pending)
		transfer->hold->open = true;
}

/* Lets the transfer change its accounts, if they can bear it. */
static RfTransferCode
move(RfTransfer *transfer)
{
	RfAccount  *debit = transfer->debit_account;
	RfAccount  *credit = transfer->credit_account;

	reckon(transfer);
	if (!rf_account_add(debit, &transfer->to_debit, 1))
		return RF_OVERFLOW;
	if (!rf_account_add(credit, &transfer->to_credit, 1))
	{
		(void) rf_account_add(debit, &transfer->to_debit, -1);
		return RF_OVERFLOW;
	}
	if (transfer->has_pending ||
		!((!debit->debit_normal && rf_account_overdrawn(debit)) ||
		  (credit->debit_normal && rf_account_overdrawn(credit))))
		return RF_OK;
	(void) rf_account_add(debit, &transfer->to_debit, -1);
	(void) rf_account_add(credit, &transfer->to_credit, -1);
	return RF_OVERDRAFT;
}

/* Accepts a transfer, or gives it the code of the reason why not. */
static void
decide(RfPosting *posting, RfTransfer *transfer)
{
	if (transfer->code != RF_OK || find_twin(posting, transfer))
		return;
	if (transfer->has_pending)
	{
		RfHold	   *hold = find_hold(posting, transfer);

		transfer->code = check_hold(posting, transfer, hold);
		transfer->hold = hold;
	}
	if (transfer->code == RF_OK)
		transfer->code = check_accounts(posting, transfer);
	if (transfer->code == RF_OK && transfer->has_reverses &&
		rf_transfer_reversal(posting, &transfer->reverses))
		transfer->code = RF_ALREADY_REVERSED;
	if (transfer->code == RF_OK)
		transfer->code = move(transfer);
	if (transfer->code != RF_OK)
		return;
	if (transfer->has_pending)
	{
		transfer->hold->open = false;
		transfer->hold->state = transfer->state;
	}
	else if (transfer->state == RF_PENDING)
		transfer->hold = rf_hold_make(transfer);
}

/* --- The batch --- */

/*
 * Refuses a chain, a member of which was refused. Those that are there already
 * say so, unless what has their id is in this chain.
 */
static void
refuse_chain(RfPosting *posting, int first, int last)
{
	for (int i = last; i >= first; i--)
	{
		RfTransfer *transfer = &posting->transfers[i];

		if (transfer->code == RF_OK)
			take_back(transfer);
		if (transfer->code == RF_OK ||
			(transfer->code == RF_EXISTS && transfer->repeated))
			transfer->code = RF_LINKED_FAILED;
	}
}

/*
 * Decides the transfers from "first" to "last", which are linked: all are
 * accepted, or none. A chain that is there already as a whole is a repetition.
 */
static void
decide_chain(RfPosting *posting, int first, int last)
{
	int			accepted = 0;
	int			existing = 0;
	int			n = last - first + 1;

	if (posting->transfers[last].linked &&
		posting->transfers[last].code == RF_OK)
		posting->transfers[last].code = RF_LINKED_OPEN;
	for (int i = first; i <= last; i++)
	{
		RfTransfer *transfer = &posting->transfers[i];

		if (accepted + existing == i - first || transfer->code != RF_OK)
			decide(posting, transfer);
		else
			transfer->code = RF_LINKED_FAILED;
		accepted += transfer->code == RF_OK;
		existing += transfer->code == RF_EXISTS;
	}
	if (accepted < n && existing < n)
		refuse_chain(posting, first, last);
}

static void
decide_all(RfPosting *posting)
{
	int			last;

	for (int first = 0; first < posting->n; first = last + 1)
	{
		CHECK_FOR_INTERRUPTS();
		for (last = first; last < posting->n - 1; last++)
			if (!posting->transfers[last].linked)
				break;
		decide_chain(posting, first, last);
	}
}

/* Was something refused that may be there already? */
static bool
may_be_repeated(const RfPosting *posting)
{
	for (int i = 0; i < posting->n; i++)
		if (posting->transfers[i].code != RF_OK &&
			!posting->transfers[i].own_id)
			return true;
	return false;
}

/*
 * Decides the batch and writes what was accepted. False, with nothing written,
 * if it has to be done carefully.
 */
static bool
post(RfPosting *posting)
{
	check_transfers(posting);
	if (posting->careful)
		rf_transfers_probe(posting);
	rf_holds_take(posting);
	rf_accounts_collect(posting);
	rf_accounts_take(posting);
	decide_all(posting);
	if (!posting->careful && may_be_repeated(posting))
		return false;
	if (!rf_transfers_insert(posting))
		return false;
	rf_holds_apply(posting);
	rf_balances_apply(posting);
	return true;
}

/*
 * Posts a batch: each transfer gets its code. The organization, the actor and
 * the transfers as asked for are given; ids are there. Memory is that of the
 * context that is current.
 */
void
rf_ledger_post(RfPosting *posting)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("transfers cannot be posted at this isolation level"),
				 errhint("Use READ COMMITTED.")));
	rf_ledger_lock(&posting->org, false);
	open_tables(posting);
	rf_posting_refresh(posting);
	posting->now = GetCurrentTimestamp();
	posting->closed_before = read_closed_before(posting);
	/* Or holds that turn up late would be locked after accounts. */
	posting->careful = posting->careful || posting->holds_rel != NULL;
	sort_by_id(posting);
	while (!post(posting))
	{
		posting->careful = true;
		/* Holds that are new to it can't be waited for behind accounts. */
		posting->passes_over = true;
		rf_posting_refresh(posting);
	}
	UnregisterSnapshot(posting->snapshot);
	close_tables(posting);
	CommandCounterIncrement();
}
