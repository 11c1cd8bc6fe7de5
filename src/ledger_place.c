/*
 * ledger_place.c: where the rows of accounts are.
 *
 * A session remembers where it has found them, to do without searching an index
 * for each account of each transfer. What is remembered is only tried: the row
 * is fetched with the same snapshot as a search would, and its key is compared,
 * so that a row that has moved or gone is searched for. Versions of one row on
 * one page share a place, so that balances, which change all the time, keep
 * theirs.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "ledger.h"

/* Fewest and most accounts that are remembered. */
#define MIN_PLACES 512
#define MAX_PLACES 65536

/*
 * The places, by a hash of the account's id; accounts of one hash take turns.
 * When that has happened as often as there are places, there are too few.
 */
static struct
{
	RfPlace    *list;
	uint32		size;			/* a power of 2 */
	uint32		turns;
}			places;

static void
grow_places(void)
{
	uint32		size = places.size == 0 ? MIN_PLACES : places.size * 4;
	RfPlace    *list = MemoryContextAllocZero(TopMemoryContext,
											  size * sizeof(RfPlace));

	if (places.list != NULL)
		pfree(places.list);
	places.list = list;
	places.size = size;
	places.turns = 0;
}

/*
 * The place of an account, perhaps a new one, with nothing known. Valid until
 * the next one is asked for.
 */
RfPlace *
rf_place(const RfUuid *account)
{
	uint32		hash = hash_bytes(account->data, sizeof(*account));
	RfPlace    *place;

	if (places.list == NULL ||
		(places.turns > places.size && places.size < MAX_PLACES))
		grow_places();
	place = &places.list[hash & (places.size - 1)];
	if (rf_uuid_cmp(&place->account, account) != 0)
	{
		places.turns++;
		place->account = *account;
		ItemPointerSetInvalid(&place->account_tid);
		ItemPointerSetInvalid(&place->balance_tid);
		place->slot = 0;
	}
	return place;
}

/*
 * Fetches a row from where it was. False if it isn't there: its first two
 * columns are the organization and this id. A table that is locked doesn't get
 * shorter than "nblocks".
 */
bool
rf_fetch_place(Relation rel, BlockNumber nblocks, ItemPointer tid,
			   const RfPosting *posting, const RfUuid *id,
			   TupleTableSlot *slot)
{
	if (!ItemPointerIsValid(tid) ||
		ItemPointerGetBlockNumber(tid) >= nblocks ||
		!rf_fetch(rel, tid, posting->snapshot, slot, NULL))
		return false;
	slot_getsomeattrs(slot, 2);
	return memcmp(DatumGetPointer(slot->tts_values[0]), &posting->org,
				  sizeof(RfUuid)) == 0 &&
		memcmp(DatumGetPointer(slot->tts_values[1]), id, sizeof(*id)) == 0;
}
