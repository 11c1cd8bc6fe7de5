/*
 * ledger_account.c: the accounts of a batch.
 *
 * They are kept in the order of their ids, which is the order in which their
 * rows are locked and written: batches that meet wait for each other in one
 * direction only.
 *
 * What a batch adds to an account is summed up here, and the account's limit
 * looked at after each transfer; ledger_balance.c writes each account once.
 */
#include "postgres.h"

#include "common/int.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "compat.h"
#include "ledger.h"

static int
compare_ids(const void *a, const void *b)
{
	return rf_uuid_cmp(a, b);
}

static RfAccount *
find_account(const RfPosting *posting, const RfUuid *id)
{
	int			low = 0;
	int			high = posting->naccounts - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int			order = rf_uuid_cmp(id, &posting->accounts[middle].id);

		if (order == 0)
			return &posting->accounts[middle];
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return NULL;
}

/* Reads what an account is; the search stands on its row. */
static void
read_account(RfAccount *account, TupleTableSlot *row)
{
	text	   *asset;
	text	   *kind;

	slot_getsomeattrs(row, ACCOUNT_CLOSED_AT + 1);
	asset = DatumGetTextPP(row->tts_values[ACCOUNT_ASSET]);
	kind = DatumGetTextPP(row->tts_values[ACCOUNT_KIND]);
	text_to_cstring_buffer(asset, account->asset, sizeof(account->asset));
	/* asset or expense: of the five kinds no other begins so */
	account->debit_normal = VARSIZE_ANY_EXHDR(kind) > 1 &&
		(VARDATA_ANY(kind)[0] == 'a' ||
		 (VARDATA_ANY(kind)[0] == 'e' && VARDATA_ANY(kind)[1] == 'x'));
	account->no_overdraft =
		DatumGetBool(row->tts_values[ACCOUNT_NO_OVERDRAFT]);
	account->credit_limit =
		DatumGetInt64(row->tts_values[ACCOUNT_CREDIT_LIMIT]);
	account->closed = !row->tts_isnull[ACCOUNT_CLOSED_AT];
	account->found = true;
}

static void
add_gross(RfAccount *account, int64 amount)
{
	if (pg_add_s64_overflow(account->gross, amount, &account->gross))
		account->gross = PG_INT64_MAX;
}

/*
 * Has each transfer point to its accounts, and counts how much may be added to
 * them, and whether a limit may be reached. What is refused anyhow counts too.
 */
static void
link_accounts(RfPosting *posting)
{
	for (int i = 0; i < posting->n; i++)
	{
		RfTransfer *transfer = &posting->transfers[i];
		bool		resolves = transfer->has_pending;
		int64		amount = Max(transfer->amount, 0);

		if (transfer->code != RF_OK || !transfer->has_debit ||
			!transfer->has_credit)
			continue;
		transfer->debit_account = find_account(posting, &transfer->debit);
		transfer->credit_account = find_account(posting, &transfer->credit);
		add_gross(transfer->debit_account, amount);
		add_gross(transfer->credit_account, amount);
		if (resolves)
			continue;			/* what it moves was reserved */
		if (!transfer->debit_account->debit_normal)
			transfer->debit_account->decreases = true;
		if (transfer->credit_account->debit_normal)
			transfer->credit_account->decreases = true;
	}
}

/* Reads the accounts, from where they were or by the index. */
static void
find_accounts(RfPosting *posting)
{
	Relation	rel = posting->accounts_rel;
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	TupleTableSlot *row = MakeSingleTupleTableSlot(RelationGetDescr(rel),
												   &TTSOpsBufferHeapTuple);
	RfSearch	search = {0};

	for (int i = 0; i < posting->naccounts; i++)
	{
		RfAccount  *account = &posting->accounts[i];
		RfPlace    *place = rf_place(&account->id);

		CHECK_FOR_INTERRUPTS();
		if (rf_fetch_place(rel, nblocks, &place->account_tid,
						   posting, &account->id, row))
		{
			read_account(account, row);
			continue;
		}
		if (search.scan == NULL)
			rf_search_begin(&search, rel, RF_ACCOUNTS_KEY, 2,
							posting->snapshot);
		if (!rf_search(&search, &posting->org, &account->id, 0))
			continue;
		place->account_tid = search.root;
		read_account(account, search.slot);
	}
	if (search.scan != NULL)
		rf_search_end(&search);
	ExecDropSingleTupleTableSlot(row);
}

/*
 * Finds the accounts of the batch: those that its transfers name, and those of
 * the holds that they resolve.
 */
void
rf_accounts_collect(RfPosting *posting)
{
	RfUuid	   *ids = palloc_extended((Size) posting->n * 2 * sizeof(RfUuid),
									  MCXT_ALLOC_HUGE);
	int			n = 0;
	int			unique = 0;

	for (int i = 0; i < posting->n; i++)
	{
		const RfTransfer *transfer = &posting->transfers[i];

		if (transfer->code != RF_OK || !transfer->has_debit ||
			!transfer->has_credit)
			continue;
		ids[n++] = transfer->debit;
		ids[n++] = transfer->credit;
	}
	qsort(ids, n, sizeof(RfUuid), compare_ids);
	for (int i = 0; i < n; i++)
		if (i == 0 || rf_uuid_cmp(&ids[i], &ids[unique - 1]) != 0)
			ids[unique++] = ids[i];
	posting->accounts = palloc_extended(unique * sizeof(RfAccount),
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	posting->naccounts = unique;
	for (int i = 0; i < unique; i++)
		posting->accounts[i].id = ids[i];
	pfree(ids);
	find_accounts(posting);
	link_accounts(posting);
}

/*
 * Reads the balances that are added to, in the order of the accounts; locks
 * those whose limit may be reached.
 */
void
rf_accounts_take(RfPosting *posting)
{
	for (int i = 0; i < posting->naccounts; i++)
	{
		RfAccount  *account = &posting->accounts[i];

		memset(&account->change, 0, sizeof(account->change));
		if (account->found)
			rf_balance_take(posting, account);
	}
	rf_balances_end(posting);
}

/*
 * Adds amounts to an account's change, or takes them back (sign -1). False,
 * with nothing added, if that were more than an account can hold.
 */
bool
rf_account_add(RfAccount *account, const RfAmounts *amounts, int sign)
{
	const RfAmounts *before = &account->before;
	RfAmounts	change = account->change;

	/* None of these overflows: each is within the limit, or refused here. */
	change.debits += sign * amounts->debits;
	change.credits += sign * amounts->credits;
	change.debits_pending += sign * amounts->debits_pending;
	change.credits_pending += sign * amounts->credits_pending;
	if (sign > 0 &&
		((uint64) (before->debits + change.debits) +
		 (uint64) (before->debits_pending + change.debits_pending) >
		 (uint64) RF_MAX_TURNOVER ||
		 (uint64) (before->credits + change.credits) +
		 (uint64) (before->credits_pending + change.credits_pending) >
		 (uint64) RF_MAX_TURNOVER) && account->exact)
		return false;
	account->change = change;
	return true;
}

/* Is an account below its limit? What is held counts as gone. */
bool
rf_account_overdrawn(const RfAccount *account)
{
	RfAmounts	after = account->before;

	if (!account->no_overdraft)
		return false;
	after.debits += account->change.debits;
	after.credits += account->change.credits;
	after.debits_pending += account->change.debits_pending;
	after.credits_pending += account->change.credits_pending;
	if (account->debit_normal)
		return after.credits + after.credits_pending >
			after.debits + account->credit_limit;
	return after.debits + after.debits_pending >
		after.credits + account->credit_limit;
}
