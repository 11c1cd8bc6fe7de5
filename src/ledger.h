/*
 * ledger.h: what the ledger's files share.
 */
#ifndef RINGFENCE_LEDGER_H
#define RINGFENCE_LEDGER_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/jsonb.h"
#include "utils/palloc.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "ringfence.h"

#define RF_MAX_ASSET 16
#define RF_MAX_KIND 63
#define RF_MAX_REFERENCE 255
#define RF_MAX_METADATA 8192
#define RF_MAX_BATCH 100000

/* Debits or credits of an account, what is reserved included. */
#define RF_MAX_TURNOVER ((INT64CONST(1) << 62) - 1)

/* What became of a transfer; rf_transfer_code_name() gives the names. */
typedef enum RfTransferCode
{
	RF_OK,
	RF_EXISTS,
	RF_EXISTS_DIFFERENT,
	RF_LINKED_FAILED,
	RF_LINKED_OPEN,
	RF_ACCOUNT_REQUIRED,
	RF_ACCOUNTS_SAME,
	RF_DEBIT_ACCOUNT_NOT_FOUND,
	RF_CREDIT_ACCOUNT_NOT_FOUND,
	RF_DEBIT_ACCOUNT_CLOSED,
	RF_CREDIT_ACCOUNT_CLOSED,
	RF_ASSET_MISMATCH,
	RF_AMOUNT_INVALID,
	RF_KIND_INVALID,
	RF_REFERENCE_INVALID,
	RF_METADATA_INVALID,
	RF_STATE_INVALID,
	RF_TIMEOUT_INVALID,
	RF_POSTED_AT_FUTURE,
	RF_PERIOD_CLOSED,
	RF_OVERDRAFT,
	RF_OVERFLOW,
	RF_PENDING_NOT_FOUND,
	RF_PENDING_POSTED,
	RF_PENDING_VOIDED,
	RF_PENDING_EXPIRED,
	RF_PENDING_DIFFERENT,
	RF_PENDING_EXCEEDED,
	RF_TRANSFER_NOT_FOUND,
	RF_ALREADY_REVERSED,
	RF_NOT_REVERSIBLE,
	RF_TRANSFER_CODES
} RfTransferCode;

/* What a row of ledger_transfers does. */
typedef enum RfTransferState
{
	RF_POSTED,
	RF_PENDING,
	RF_VOIDED,
	RF_EXPIRED,
	RF_TRANSFER_STATES
} RfTransferState;

/* Sums of transfers, or what is added to them. */
typedef struct RfAmounts
{
	int64		debits;
	int64		credits;
	int64		debits_pending;
	int64		credits_pending;
} RfAmounts;

/* Where the rows of an account were found last; see ledger_place.c. */
typedef struct RfPlace
{
	RfUuid		account;
	ItemPointerData account_tid;	/* where indexes have its row, */
	ItemPointerData balance_tid;	/* and that of the slot, or invalid */
	int32		slot;			/* the one to add to */
} RfPlace;

/* An account that a batch moves something of. */
typedef struct RfAccount
{
	RfUuid		id;
	bool		found;
	bool		closed;
	bool		debit_normal;	/* asset or expense */
	bool		no_overdraft;
	bool		decreases;		/* a transfer may lower its balance */
	bool		exact;			/* slot 0 is locked, and before is the whole */
	int64		credit_limit;
	int64		gross;			/* no more than that is added to any sum */
	char		asset[RF_MAX_ASSET + 1];
	int32		slot;			/* the row of ledger_balances to add to */
	ItemPointerData tid;		/* of that row */
	RfAmounts	before;			/* the slot's, or the account's if exact */
	RfAmounts	stored;			/* the slot's */
	RfAmounts	change;			/* by the batch */
} RfAccount;

/* A pending transfer that something is to be done about. */
typedef struct RfHold
{
	RfUuid		id;
	RfUuid		debit;
	RfUuid		credit;
	int64		amount;
	TimestampTz expires_at;		/* or DT_NOEND */
	text	   *kind;
	ItemPointerData tid;		/* in ledger_holds, if stored */
	bool		known;			/* there is such a pending transfer */
	bool		stored;			/* its row in ledger_holds is there, and
								 * locked */
	bool		open;			/* it hasn't been resolved */
	RfTransferState state;		/* how it was, if it isn't open */
} RfHold;

typedef struct RfTransfer
{
	/* As asked for; what a hold or a reversed transfer gives is filled in. */
	RfUuid		id;
	RfUuid		debit;
	RfUuid		credit;
	RfUuid		pending;
	RfUuid		reverses;
	bool		own_id;			/* made here, so that nobody else has it */
	bool		has_debit;
	bool		has_credit;
	bool		has_pending;
	bool		has_reverses;
	bool		has_amount;
	bool		has_posted_at;
	bool		linked;
	RfTransferState state;		/* RF_TRANSFER_STATES: no such state */
	int64		amount;
	TimestampTz posted_at;
	text	   *asset;			/* these may be NULL */
	text	   *kind;
	text	   *reference;
	Jsonb	   *metadata;
	Interval   *timeout;
	/* As found and decided. */
	RfTransferCode code;
	int			rank;			/* in the order of ids */
	RfAccount  *debit_account;
	RfAccount  *credit_account;
	RfHold	   *hold;			/* the one it makes or resolves */
	TimestampTz expires_at;		/* of the one it makes; rf_transfer_expiry() */
	RfAmounts	to_debit;		/* what it adds to its accounts */
	RfAmounts	to_credit;
	bool		repeated;		/* what has its id is in the batch */
	bool		filled_debit;	/* what wasn't asked for, but filled in */
	bool		filled_credit;
	bool		filled_amount;
	bool		filled_kind;
} RfTransfer;

/* Searches of an index by its first columns; see rf_search(). */
typedef struct RfSearch
{
	Relation	heap;
	Relation	index;
	Snapshot	snapshot;
	struct IndexScanDescData *scan;
	int			nkeys;
	TupleTableSlot *slot;		/* the row that was found */
	ItemPointerData root;		/* where the index says it is */
} RfSearch;

/* A batch on its way into one organization's ledger. */
typedef struct RfPosting
{
	RfUuid		org;
	const RfUuid *actor;		/* or NULL */
	int			n;
	RfTransfer *transfers;
	int		   *by_id;			/* positions in the order of ids */
	TimestampTz now;
	TimestampTz closed_before;	/* or DT_NOBEGIN */
	int			naccounts;
	RfAccount  *accounts;		/* in the order of ids */
	int			nholds;
	RfHold	   *holds;			/* stored ones, in the order of ids */
	bool		careful;		/* looks whether ids are taken, and waits */
	bool		passes_over;	/* holds that somebody else has locked */
	Snapshot	snapshot;		/* the newest, of after the ledger's lock */
	RfSearch   *balances;		/* with that snapshot, or NULL */
	TupleTableSlot *balance;	/* for reading one, or NULL */
	BlockNumber balance_blocks; /* how many pages the table has */
	Relation	transfers_rel;
	Relation	accounts_rel;
	Relation	balances_rel;
	Relation	holds_rel;		/* or NULL */
} RfPosting;

/* ledger_post.c */
extern void rf_ledger_post(RfPosting *posting);
extern void rf_posting_refresh(RfPosting *posting);

/* ledger_check.c */
extern RfTransferCode rf_transfer_check(const RfPosting *posting,
										const RfTransfer *transfer);
extern TimestampTz rf_transfer_expiry(const RfTransfer *transfer,
									  TimestampTz recorded_at);
extern RfTransferCode rf_transfer_compare(const RfTransfer *transfer,
										  const RfTransfer *other,
										  TimestampTz recorded_at);
extern const char *rf_transfer_code_name(RfTransferCode code);
pg_noreturn extern void rf_transfer_refuse(RfTransferCode code);

/* ledger_account.c */
extern void rf_accounts_collect(RfPosting *posting);
extern void rf_accounts_take(RfPosting *posting);
extern bool rf_account_add(RfAccount *account, const RfAmounts *amounts,
						   int sign);
extern bool rf_account_overdrawn(const RfAccount *account);

/* ledger_place.c */
extern RfPlace *rf_place(const RfUuid *account);
extern bool rf_fetch_place(Relation rel, BlockNumber nblocks, ItemPointer tid,
						   const RfPosting *posting, const RfUuid *id,
						   TupleTableSlot *slot);

/* ledger_balance.c */
extern void rf_balance_take(RfPosting *posting, RfAccount *account);
extern void rf_balances_end(RfPosting *posting);
extern void rf_balances_apply(RfPosting *posting);

/* ledger_hold.c */
typedef struct RfExpired
{
	RfUuid		org;
	RfUuid		id;
} RfExpired;

extern void rf_holds_collect(RfPosting *posting);
extern void rf_holds_take(RfPosting *posting);
extern RfHold *rf_hold_find(const RfPosting *posting, const RfUuid *id);
extern const RfTransfer *rf_hold_maker(const RfPosting *posting,
									   const RfTransfer *transfer);
extern RfHold *rf_hold_make(const RfTransfer *transfer);
extern void rf_holds_apply(RfPosting *posting);
extern int	rf_holds_expired(TimestampTz now, int limit, RfExpired **expired);

/* ledger_row.c */
extern bool rf_transfers_insert(RfPosting *posting);
extern RfTransferState rf_transfer_state(const text *name);

/* ledger_find.c */
extern void rf_transfers_probe(RfPosting *posting);
extern bool rf_transfer_find(RfPosting *posting, const RfUuid *id,
							 RfTransfer *transfer);
extern bool rf_transfer_resolution(RfPosting *posting, const RfUuid *pending,
								   RfTransferState *state);
extern bool rf_transfer_reversal(RfPosting *posting, const RfUuid *id);

/* ledger_table.c */
typedef enum RfLedgerTable
{
	RF_LEDGER_TRANSFERS,
	RF_LEDGER_ACCOUNTS,
	RF_LEDGER_BALANCES,
	RF_LEDGER_HOLDS,
	RF_LEDGER_PERIODS,
	RF_LEDGER_TABLES
} RfLedgerTable;

/* Columns in the order in which core makes them. */
enum
{
	TRANSFER_ORG_ID,
	TRANSFER_ID,
	TRANSFER_DEBIT_ACCOUNT_ID,
	TRANSFER_CREDIT_ACCOUNT_ID,
	TRANSFER_AMOUNT,
	TRANSFER_POSTED_AT,
	TRANSFER_RECORDED_AT,
	TRANSFER_POSTED_ON,
	TRANSFER_ASSET,
	TRANSFER_STATE,
	TRANSFER_KIND,
	TRANSFER_ACTOR,
	TRANSFER_PENDING_ID,
	TRANSFER_REVERSES_ID,
	TRANSFER_EXPIRES_AT,
	TRANSFER_REFERENCE,
	TRANSFER_METADATA,
	TRANSFER_COLUMNS
};

enum
{
	ACCOUNT_ORG_ID,
	ACCOUNT_ID,
	ACCOUNT_CODE,
	ACCOUNT_NAME,
	ACCOUNT_ASSET,
	ACCOUNT_KIND,
	ACCOUNT_NO_OVERDRAFT,
	ACCOUNT_CREDIT_LIMIT,
	ACCOUNT_PARTY_KIND,
	ACCOUNT_PARTY_ID,
	ACCOUNT_CLOSED_AT,
	ACCOUNT_COLUMNS
};

enum
{
	BALANCE_ORG_ID,
	BALANCE_ACCOUNT_ID,
	BALANCE_DEBITS,
	BALANCE_CREDITS,
	BALANCE_DEBITS_PENDING,
	BALANCE_CREDITS_PENDING,
	BALANCE_SLOT,
	BALANCE_COLUMNS
};

enum
{
	HOLD_ORG_ID,
	HOLD_ID,
	HOLD_DEBIT_ACCOUNT_ID,
	HOLD_CREDIT_ACCOUNT_ID,
	HOLD_AMOUNT,
	HOLD_EXPIRES_AT,
	HOLD_COLUMNS
};

enum
{
	PERIOD_ORG_ID,
	PERIOD_CLOSED_BEFORE,
	PERIOD_COLUMNS
};

/* Indexes that are searched, and those of transfers that entries go into. */
typedef enum RfLedgerIndex
{
	RF_TRANSFERS_KEY,
	RF_TRANSFERS_PENDING_KEY,
	RF_TRANSFERS_REVERSES_KEY,
	RF_TRANSFERS_DEBIT,
	RF_TRANSFERS_CREDIT,
	RF_TRANSFERS_RECORDED,
	RF_ACCOUNTS_KEY,
	RF_BALANCES_KEY,
	RF_HOLDS_KEY,
	RF_HOLDS_EXPIRES,
	RF_PERIODS_KEY,
	RF_LEDGER_INDEXES
} RfLedgerIndex;

extern Relation rf_ledger_table(const char *name, LOCKMODE lockmode);
extern Relation rf_ledger_open(RfLedgerTable table, LOCKMODE lockmode);
extern Relation rf_ledger_index(RfLedgerIndex index, LOCKMODE lockmode);
extern IndexInfo *rf_ledger_index_info(RfLedgerIndex index);
extern bool rf_ledger_indexes_known(RfLedgerTable table);
extern int	rf_ledger_known_indexes(RfLedgerTable table, Oid *list);
extern void rf_ledger_lock(const RfUuid *org, bool exclusive);
extern void rf_ledger_init(void);

extern bool rf_fetch(Relation rel, ItemPointer root, Snapshot snapshot,
					 TupleTableSlot *slot, bool *all_dead);

extern void rf_search_begin(RfSearch *search, Relation heap,
							RfLedgerIndex index, int nkeys,
							Snapshot snapshot);
extern bool rf_search(RfSearch *search, const RfUuid *first,
					  const RfUuid *second, int32 third);
extern bool rf_search_last(RfSearch *search, const RfUuid *first);
extern bool rf_search_next(RfSearch *search);
extern void rf_search_end(RfSearch *search);

static inline int
rf_uuid_cmp(const RfUuid *a, const RfUuid *b)
{
	return memcmp(a, b, sizeof(*a));
}

#endif							/* RINGFENCE_LEDGER_H */
