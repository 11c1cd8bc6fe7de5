/*
 * ledger_table.c: the ledger's tables and indexes, and how they are searched.
 *
 * Rows are read and written past row security, privileges and triggers; the
 * organization is part of every key that is sought or written. What is asked of
 * the catalogs is remembered until the tables change. Whoever changes columns or
 * indexes waits for those that have a table open, so that what was learnt of it
 * holds as long as it is.
 *
 * An organization's ledger has a lock that its transactions share, and that who
 * changes the rules (limits, closing) takes alone: rules are read after it, from
 * the newest snapshot, and stay as they were read until the transaction ends.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_control.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "compat.h"
#include "ledger.h"

/* SQL's own advisory locks have 1 and 2 there, and idempotency keys another. */
#define LOCK_KIND 0x524c

/* Bytes that a page has left when it is cleared of dead versions. */
#define PRUNE_BELOW 2048

#define MAX_COLUMNS TRANSFER_COLUMNS
#define MAX_KEYS 3

typedef struct Column
{
	const char *name;
	Oid			type;
} Column;

static const struct
{
	const char *name;
	int			ncolumns;
	Column		columns[MAX_COLUMNS];
}			tables[RF_LEDGER_TABLES] = {

	[RF_LEDGER_TRANSFERS] = {"ledger_transfers", TRANSFER_COLUMNS, {
			[TRANSFER_ORG_ID] = {"org_id", UUIDOID},
			[TRANSFER_ID] = {"id", UUIDOID},
			[TRANSFER_DEBIT_ACCOUNT_ID] = {"debit_account_id", UUIDOID},
			[TRANSFER_CREDIT_ACCOUNT_ID] = {"credit_account_id", UUIDOID},
			[TRANSFER_AMOUNT] = {"amount", INT8OID},
			[TRANSFER_POSTED_AT] = {"posted_at", TIMESTAMPTZOID},
			[TRANSFER_RECORDED_AT] = {"recorded_at", TIMESTAMPTZOID},
			[TRANSFER_POSTED_ON] = {"posted_on", DATEOID},
			[TRANSFER_ASSET] = {"asset", TEXTOID},
			[TRANSFER_STATE] = {"state", TEXTOID},
			[TRANSFER_KIND] = {"kind", TEXTOID},
			[TRANSFER_ACTOR] = {"actor", UUIDOID},
			[TRANSFER_PENDING_ID] = {"pending_id", UUIDOID},
			[TRANSFER_REVERSES_ID] = {"reverses_id", UUIDOID},
			[TRANSFER_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID},
			[TRANSFER_REFERENCE] = {"reference", TEXTOID},
			[TRANSFER_METADATA] = {"metadata", JSONBOID},
	}
	},
	[RF_LEDGER_ACCOUNTS] = {"ledger_accounts", ACCOUNT_COLUMNS, {
			[ACCOUNT_ORG_ID] = {"org_id", UUIDOID},
			[ACCOUNT_ID] = {"id", UUIDOID},
			[ACCOUNT_CODE] = {"code", TEXTOID},
			[ACCOUNT_NAME] = {"name", TEXTOID},
			[ACCOUNT_ASSET] = {"asset", TEXTOID},
			[ACCOUNT_KIND] = {"kind", TEXTOID},
			[ACCOUNT_NO_OVERDRAFT] = {"no_overdraft", BOOLOID},
			[ACCOUNT_CREDIT_LIMIT] = {"credit_limit", INT8OID},
			[ACCOUNT_PARTY_KIND] = {"party_kind", TEXTOID},
			[ACCOUNT_PARTY_ID] = {"party_id", UUIDOID},
			[ACCOUNT_CLOSED_AT] = {"closed_at", TIMESTAMPTZOID},
	}
	},
	[RF_LEDGER_BALANCES] = {"ledger_balances", BALANCE_COLUMNS, {
			[BALANCE_ORG_ID] = {"org_id", UUIDOID},
			[BALANCE_ACCOUNT_ID] = {"account_id", UUIDOID},
			[BALANCE_DEBITS] = {"debits", INT8OID},
			[BALANCE_CREDITS] = {"credits", INT8OID},
			[BALANCE_DEBITS_PENDING] = {"debits_pending", INT8OID},
			[BALANCE_CREDITS_PENDING] = {"credits_pending", INT8OID},
			[BALANCE_SLOT] = {"slot", INT4OID},
	}
	},
	[RF_LEDGER_HOLDS] = {"ledger_holds", HOLD_COLUMNS, {
			[HOLD_ORG_ID] = {"org_id", UUIDOID},
			[HOLD_ID] = {"id", UUIDOID},
			[HOLD_DEBIT_ACCOUNT_ID] = {"debit_account_id", UUIDOID},
			[HOLD_CREDIT_ACCOUNT_ID] = {"credit_account_id", UUIDOID},
			[HOLD_AMOUNT] = {"amount", INT8OID},
			[HOLD_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID},
	}
	},
	[RF_LEDGER_PERIODS] = {"ledger_periods", PERIOD_COLUMNS, {
			[PERIOD_ORG_ID] = {"org_id", UUIDOID},
			[PERIOD_CLOSED_BEFORE] = {"closed_before", TIMESTAMPTZOID},
	}
	},
};

static const struct
{
	RfLedgerTable table;
	Oid			method;
	bool		is_unique;
	bool		partial;
	int			nkeys;
	int			keys[MAX_KEYS];
}			indexes[RF_LEDGER_INDEXES] = {

	[RF_TRANSFERS_KEY] = {RF_LEDGER_TRANSFERS, BTREE_AM_OID, true, false,
		2, {TRANSFER_ORG_ID, TRANSFER_ID}
	},
	[RF_TRANSFERS_PENDING_KEY] = {RF_LEDGER_TRANSFERS, BTREE_AM_OID, true, true,
		2, {TRANSFER_ORG_ID, TRANSFER_PENDING_ID}
	},
	[RF_TRANSFERS_REVERSES_KEY] = {RF_LEDGER_TRANSFERS, BTREE_AM_OID, true, true,
		2, {TRANSFER_ORG_ID, TRANSFER_REVERSES_ID}
	},
	[RF_TRANSFERS_DEBIT] = {RF_LEDGER_TRANSFERS, BTREE_AM_OID, false, false,
		3, {TRANSFER_ORG_ID, TRANSFER_DEBIT_ACCOUNT_ID, TRANSFER_POSTED_ON}
	},
	[RF_TRANSFERS_CREDIT] = {RF_LEDGER_TRANSFERS, BTREE_AM_OID, false, false,
		3, {TRANSFER_ORG_ID, TRANSFER_CREDIT_ACCOUNT_ID, TRANSFER_POSTED_ON}
	},
	[RF_TRANSFERS_RECORDED] = {RF_LEDGER_TRANSFERS, BRIN_AM_OID, false, false,
		1, {TRANSFER_RECORDED_AT}
	},
	[RF_ACCOUNTS_KEY] = {RF_LEDGER_ACCOUNTS, BTREE_AM_OID, true, false,
		2, {ACCOUNT_ORG_ID, ACCOUNT_ID}
	},
	[RF_BALANCES_KEY] = {RF_LEDGER_BALANCES, BTREE_AM_OID, true, false,
		3, {BALANCE_ORG_ID, BALANCE_ACCOUNT_ID, BALANCE_SLOT}
	},
	[RF_HOLDS_KEY] = {RF_LEDGER_HOLDS, BTREE_AM_OID, true, false,
		2, {HOLD_ORG_ID, HOLD_ID}
	},
	[RF_HOLDS_EXPIRES] = {RF_LEDGER_HOLDS, BTREE_AM_OID, false, true,
		1, {HOLD_EXPIRES_AT}
	},
	[RF_PERIODS_KEY] = {RF_LEDGER_PERIODS, BTREE_AM_OID, true, false,
		2, {PERIOD_ORG_ID, PERIOD_CLOSED_BEFORE}
	},
};

/*
 * What is known of a table; void when "valid" is reset by an invalidation.
 * Memory of "info" is in known_mcxt, and goes when another is learnt.
 */
typedef struct Known
{
	bool		valid;
	bool		only;			/* it has no other indexes */
	Oid			relid;
	MemoryContext mcxt;
} Known;

static Known known[RF_LEDGER_TABLES];
static struct
{
	Oid			relid;
	IndexInfo  *info;
}			known_indexes[RF_LEDGER_INDEXES];

/* Counts invalidations, so that one that comes while we learn isn't missed. */
static uint64 changes = 0;

/* --- What is known of the tables --- */

/*
 * Is the table as core made it? To those that are written here no columns may
 * have been added that need a value, nor any to rows that are written anew all
 * the time.
 */
static bool
has_columns(RfLedgerTable table, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			expected = tables[table].ncolumns;
	bool		written;

	if (rel->rd_rel->relkind != RELKIND_RELATION ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID ||
		rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT ||
		desc->natts < expected)
		return false;
	for (int i = 0; i < expected; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		const Column *column = &tables[table].columns[i];

		if (att->attisdropped || att->atttypid != column->type ||
			strcmp(NameStr(att->attname), column->name) != 0)
			return false;
	}
	written = table != RF_LEDGER_ACCOUNTS && table != RF_LEDGER_PERIODS;
	for (int i = expected; i < desc->natts && written; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped &&
			(att->attnotnull || att->attgenerated || att->atthasdef ||
			 table == RF_LEDGER_BALANCES))
			return false;
	}
	return true;
}

static bool
is_index(RfLedgerIndex index, Relation rel)
{
	Form_pg_index form = rel->rd_index;

	if (rel->rd_rel->relam != indexes[index].method || !form->indisvalid ||
		!form->indimmediate || form->indisunique != indexes[index].is_unique ||
		form->indnatts != indexes[index].nkeys ||
		form->indnkeyatts != indexes[index].nkeys ||
		(RelationGetIndexPredicate(rel) != NIL) != indexes[index].partial)
		return false;
	for (int i = 0; i < indexes[index].nkeys; i++)
		if (form->indkey.values[i] != indexes[index].keys[i] + 1)
			return false;
	return true;
}

/* Finds out which index is which. */
static void
learn_index(RfLedgerTable table, Oid relid)
{
	Relation	rel = index_open(relid, AccessShareLock);
	int			i;

	for (i = 0; i < RF_LEDGER_INDEXES; i++)
		if (indexes[i].table == table && !OidIsValid(known_indexes[i].relid) &&
			is_index(i, rel))
			break;
	if (i == RF_LEDGER_INDEXES)
		known[table].only = false;
	else
	{
		MemoryContext old = MemoryContextSwitchTo(known[table].mcxt);

		known_indexes[i].relid = relid;
		known_indexes[i].info = BuildIndexInfo(rel);
		MemoryContextSwitchTo(old);
	}
	index_close(rel, AccessShareLock);
}

static void
refuse_altered(Relation rel, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is not as core makes it",
					RelationGetRelationName(rel)),
			 errdetail("%s", detail)));
}

static void
learn(RfLedgerTable table, Relation rel)
{
	uint64		before = changes;
	List	   *list;
	ListCell   *lc;

	if (!has_columns(table, rel))
		refuse_altered(rel, "Its columns or their order have been changed, or it isn't a logged table of PostgreSQL's own kind.");
	if (known[table].mcxt == NULL)
		known[table].mcxt = AllocSetContextCreate(TopMemoryContext,
												  "ringfence ledger table",
												  ALLOCSET_SMALL_SIZES);
	MemoryContextReset(known[table].mcxt);
	for (int i = 0; i < RF_LEDGER_INDEXES; i++)
		if (indexes[i].table == table)
			known_indexes[i].relid = InvalidOid;
	known[table].only = true;
	known[table].relid = RelationGetRelid(rel);
	list = RelationGetIndexList(rel);
	foreach(lc, list)
		learn_index(table, lfirst_oid(lc));
	for (int i = 0; i < RF_LEDGER_INDEXES; i++)
		if (indexes[i].table == table && !OidIsValid(known_indexes[i].relid))
			refuse_altered(rel, "One of its indexes is missing, or is another one.");
	known[table].valid = before == changes;
}

/*
 * Opens a table of the ledger by its name; the lock ends with the transaction.
 * Throws 55000 if core hasn't made it.
 */
Relation
rf_ledger_table(const char *name, LOCKMODE lockmode)
{
	Relation	rel = rf_directory_open(name, lockmode);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no ledger in this database"),
				 errhint("Its superuser runs CREATE EXTENSION ringfence and SELECT ringfence.install('core').")));
	return rel;
}

/*
 * The same of one whose columns and indexes are known here. An error if core
 * hasn't made it so.
 */
Relation
rf_ledger_open(RfLedgerTable table, LOCKMODE lockmode)
{
	Relation	rel;

	if (known[table].valid)
	{
		rel = try_relation_open(known[table].relid, lockmode);
		if (rel != NULL && known[table].valid)
			return rel;
		if (rel != NULL)
			relation_close(rel, NoLock);
	}
	rel = rf_ledger_table(tables[table].name, lockmode);
	learn(table, rel);
	return rel;
}

/* Opens an index of a table that is open. */
Relation
rf_ledger_index(RfLedgerIndex index, LOCKMODE lockmode)
{
	return index_open(known_indexes[index].relid, lockmode);
}

/* For making entries; not to be changed, but for what an insertion keeps. */
IndexInfo *
rf_ledger_index_info(RfLedgerIndex index)
{
	return known_indexes[index].info;
}

/* Has the table, which is open, no indexes but those that core made? */
bool
rf_ledger_indexes_known(RfLedgerTable table)
{
	return known[table].only;
}

/* The indexes that core made of a table that is open; how many. */
int
rf_ledger_known_indexes(RfLedgerTable table, Oid *list)
{
	int			n = 0;

	for (int i = 0; i < RF_LEDGER_INDEXES; i++)
		if (indexes[i].table == table)
			list[n++] = known_indexes[i].relid;
	return n;
}

/* --- Locks --- */

/*
 * Locks an organization's ledger until the transaction ends: against a change
 * of its rules, or alone. pg_locks shows the lock's number, which nobody can
 * reckon who doesn't know the cluster's secret.
 */
void
rf_ledger_lock(const RfUuid *org, bool exclusive)
{
	unsigned char bytes[MOCK_AUTH_NONCE_LEN + sizeof(RfUuid)];
	uint64		hash;
	LOCKTAG		tag;

	memcpy(bytes, GetMockAuthenticationNonce(), MOCK_AUTH_NONCE_LEN);
	memcpy(bytes + MOCK_AUTH_NONCE_LEN, org, sizeof(*org));
	hash = hash_bytes_extended(bytes, sizeof(bytes), LOCK_KIND);
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32),
						 (uint32) hash, LOCK_KIND);
	(void) LockAcquire(&tag, exclusive ? ExclusiveLock : ShareLock,
					   false, false);
}

/* --- Rows --- */

/*
 * Fetches the version of a row that the snapshot shows, by the place that an
 * index gives it. False if there is none, or no row at all; another row may have
 * come to be there since the index was asked. "all_dead", unless it is NULL, says
 * whether nobody will ever find any there.
 *
 * Dead versions are cleared away only when a page gets full: to do so at every
 * reading, as PostgreSQL would where a fill factor keeps room, costs a transfer
 * more than reading the row.
 */
bool
rf_fetch(Relation rel, ItemPointer root, Snapshot snapshot,
		 TupleTableSlot *slot, bool *all_dead)
{
	BufferHeapTupleTableSlot *tuple = (BufferHeapTupleTableSlot *) slot;
	ItemPointerData tid = *root;
	Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(&tid));
	bool		found;

	ExecClearTuple(slot);
	if (PageGetFreeSpace(BufferGetPage(buffer)) < PRUNE_BELOW)
		heap_page_prune_opt(rel, buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	found = heap_hot_search_buffer(&tid, rel, buffer, snapshot,
								   &tuple->base.tupdata, all_dead, true);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (!found)
	{
		ReleaseBuffer(buffer);
		return false;
	}
	tuple->base.tupdata.t_self = tid;
	tuple->base.tupdata.t_tableOid = RelationGetRelid(rel);
	slot->tts_tableOid = RelationGetRelid(rel);
	ExecStorePinnedBufferHeapTuple(&tuple->base.tupdata, slot, buffer);
	return true;
}

/* Begins searches of an index by its first columns: uuids, then a number. */
void
rf_search_begin(RfSearch *search, Relation heap, RfLedgerIndex index,
				int nkeys, Snapshot snapshot)
{
	search->heap = heap;
	search->snapshot = snapshot;
	search->nkeys = nkeys;
	search->index = rf_ledger_index(index, AccessShareLock);
	search->slot = MakeSingleTupleTableSlot(RelationGetDescr(heap),
											&TTSOpsBufferHeapTuple);
	search->scan = rf_index_beginscan(heap, search->index, snapshot, nkeys);
}

static bool
search_next(RfSearch *search, ScanDirection direction)
{
	ItemPointer tid;

	while ((tid = index_getnext_tid(search->scan, direction)) != NULL)
	{
		bool		all_dead = false;

		search->root = *tid;
		if (rf_fetch(search->heap, tid, search->snapshot, search->slot,
					 &all_dead))
			return true;
		search->scan->kill_prior_tuple = all_dead;
	}
	ExecClearTuple(search->slot);
	return false;
}

/*
 * The first row with that key, in "slot"; false if there is none. Of three
 * columns, the last is "third" or more, in its order.
 */
bool
rf_search(RfSearch *search, const RfUuid *first, const RfUuid *second,
		  int32 third)
{
	ScanKeyData keys[MAX_KEYS];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) first));
	if (search->nkeys > 1)
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum((pg_uuid_t *) second));
	if (search->nkeys > 2)
		ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_INT4GE,
					Int32GetDatum(third));
	index_rescan(search->scan, keys, search->nkeys, NULL, 0);
	return search_next(search, ForwardScanDirection);
}

/* The last row whose key begins so. */
bool
rf_search_last(RfSearch *search, const RfUuid *first)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) first));
	index_rescan(search->scan, &key, 1, NULL, 0);
	return search_next(search, BackwardScanDirection);
}

/* The next row with that key. */
bool
rf_search_next(RfSearch *search)
{
	return search_next(search, ForwardScanDirection);
}

void
rf_search_end(RfSearch *search)
{
	index_endscan(search->scan);
	ExecDropSingleTupleTableSlot(search->slot);
	index_close(search->index, NoLock);
}

/* --- Callbacks --- */

static void
relation_changed(Datum arg, Oid relid)
{
	(void) arg;
	changes++;
	for (int i = 0; i < RF_LEDGER_TABLES; i++)
		if (relid == InvalidOid || relid == known[i].relid)
			known[i].valid = false;
	for (int i = 0; i < RF_LEDGER_INDEXES; i++)
		if (relid != InvalidOid && relid == known_indexes[i].relid)
			known[indexes[i].table].valid = false;
}

/* Registers the callback. Called once, from _PG_init. */
void
rf_ledger_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}
