/*
 * seal_suspect.c: records that the log's own writer can't have written.
 *
 * The leaves prove that what was sealed is as it was. What somebody puts into
 * the log past the writer is sealed like anything else, or belongs to no block
 * for ever, if its transaction is one that never was. Such a record is known
 * by what the writer makes sure of:
 *
 * - recorded_at is the time in the id.
 * - The transaction had a number by then, in one of the servers that the
 *   database has lived in.
 * - A transaction that has its number only since a block's snapshot was taken
 *   is dated after it, and one that the block covers before it, as far as the
 *   server's clock goes right.
 *
 * A record is named once: where it differs from what was sealed, that is said
 * instead.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "seal.h"

#define CLOCK_SLACK (10 * USECS_PER_MINUTE)

typedef enum Suspicion
{
	NO_SUSPICION,
	OTHER_TIME,					/* the id is of another time */
	NO_INCARNATION,				/* written in a server that there never was */
	NO_TRANSACTION,				/* by a transaction that there is not yet */
	BACKDATED,					/* before its transaction could begin */
	POSTDATED,					/* after it was sealed, or after now */
} Suspicion;

typedef struct Suspect
{
	RfUuid		id;				/* first: see compare_suspects() */
	RfUuid		org;
	int64		block;			/* or 0, if none covers it */
	Suspicion	suspicion;
	bool		named;
} Suspect;

struct RfSuspects
{
	bool		whole;			/* records outside all blocks too */
	RfBlock		newest;			/* of the chain; only for those */
	TimestampTz now;
	uint64		next_xid;
	uint32		here;			/* the incarnation that it counts in, or 0 */
	uint32	   *incarnations;
	int			nincarnations;
	/* Those of the run at hand, in the verification's context: */
	Suspect    *list;
	uint64		count;
	uint64		size;
};

/* The servers that the database has lived in, and whether it still does. */
static void
read_incarnations(RfSuspects *suspects, Snapshot snapshot)
{
	Relation	rel = rf_seal_table("audit_incarnations", AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	int			size = 8;
	uint32		last = 0;
	HeapTuple	tuple;

	suspects->incarnations = palloc(size * sizeof(uint32));
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;
		uint32		number = (uint32) rf_seal_int(rel, tuple, "number", INT4OID,
												  &isnull);
		uint64		identifier = (uint64) rf_seal_int(rel, tuple,
													  "system_identifier",
													  INT8OID, &isnull);

		if (suspects->nincarnations == size)
		{
			size *= 2;
			suspects->incarnations = repalloc(suspects->incarnations,
											  size * sizeof(uint32));
		}
		suspects->incarnations[suspects->nincarnations++] = number;
		if (number > last)
		{
			last = number;
			suspects->here = identifier == GetSystemIdentifier() ? number : 0;
		}
	}
	systable_endscan(scan);
	relation_close(rel, NoLock);
}

/*
 * Begins, in the current memory context, once the keys were read. Of the whole
 * chain, records outside all blocks are looked at too, as far as the newest
 * block can be relied on.
 */
RfSuspects *
rf_suspects_begin(RfVerify *verify, Relation blocks, bool whole)
{
	RfSuspects *suspects = palloc0(sizeof(RfSuspects));
	RfBlock    *newest = &suspects->newest;

	suspects->whole = whole &&
		rf_block_newest(blocks, verify->snapshot, newest) &&
		rf_block_signed(verify->digest, newest,
						rf_keys_find(verify->keys, verify->nkeys,
									 &newest->key_id));
	suspects->now = GetCurrentTimestamp();
	/* No record that the snapshot shows is of a later transaction. */
	suspects->next_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	read_incarnations(suspects, verify->snapshot);
	return suspects;
}

/* Did the record's transaction get its number after the block's snapshot? */
static inline bool
began_after(const RfPlacing *record, const RfBlock *block)
{
	return record->incarnation > block->incarnation ||
		(record->incarnation == block->incarnation &&
		 record->xid >= block->xids.xmax);
}

/*
 * The last block that the record's transaction began after, of those before
 * "place" in the run and the one before it; NULL if none is to be relied on.
 */
static const RfBlock *
last_before(const RfVerify *verify, const RfPlacing *record, int place)
{
	int			low = 0;
	int			high = place;

	if (place > 0 && began_after(record, &verify->blocks[place - 1]))
		low = place;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (began_after(record, &verify->blocks[middle]))
			low = middle + 1;
		else
			high = middle;
	}
	while (low > 0 && !verify->blocks[low - 1].intact)
		low--;
	if (low > 0)
		return &verify->blocks[low - 1];
	return verify->previous != NULL && verify->previous->intact &&
		began_after(record, verify->previous) ? verify->previous : NULL;
}

/* What is wrong with a record that no block covers. */
static Suspicion
judge_unsealed(const RfSuspects *suspects, const RfPlacing *record)
{
	bool		known = false;

	for (int i = 0; i < suspects->nincarnations; i++)
		known = known || suspects->incarnations[i] == record->incarnation;
	if (!known)
		return NO_INCARNATION;
	return record->incarnation == suspects->here &&
		record->xid >= suspects->next_xid ? NO_TRANSACTION : NO_SUSPICION;
}

static void
add_suspect(RfVerify *verify, const RfPlacing *record, int place,
			Suspicion suspicion)
{
	RfSuspects *suspects = verify->suspects;
	Suspect    *suspect;

	if (suspects->count == suspects->size)
	{
		suspects->size = Max(64, suspects->size * 2);
		suspects->list = suspects->list == NULL ?
			MemoryContextAlloc(verify->context,
							   suspects->size * sizeof(Suspect)) :
			repalloc_huge(suspects->list, suspects->size * sizeof(Suspect));
	}
	suspect = &suspects->list[suspects->count++];
	suspect->id = *record->id;
	suspect->org = *record->org;
	suspect->block = place < 0 ? 0 : verify->blocks[place].number;
	suspect->suspicion = suspicion;
	suspect->named = false;
}

/*
 * Looks at a record, which is in the run's block at "place", or in none for -1.
 * Those outside all blocks are seen in the first run, which reads everything.
 */
void
rf_suspects_look(RfVerify *verify, const RfPlacing *record, int place)
{
	const RfSuspects *suspects = verify->suspects;
	const RfBlock *newest = &suspects->newest;
	const RfBlock *before;
	Suspicion	suspicion = NO_SUSPICION;

	if (place < 0 &&
		(!suspects->whole || verify->previous != NULL ||
		 rf_block_covers(newest, record->incarnation, record->xid)))
		return;
	if (record->id->data[6] >> 4 != 7 ||
		rf_uuid7_time(record->id) != record->recorded_at)
		suspicion = OTHER_TIME;
	else if (place < 0)
		suspicion = judge_unsealed(suspects, record);
	if (suspicion == NO_SUSPICION)
	{
		before = place < 0 && began_after(record, newest) ? newest :
			last_before(verify, record, place < 0 ? verify->nblocks : place);
		if (before != NULL &&
			record->recorded_at < before->sealed_at - CLOCK_SLACK)
			suspicion = BACKDATED;
		else if (record->recorded_at > CLOCK_SLACK +
				 (place >= 0 && verify->blocks[place].intact ?
				  verify->blocks[place].sealed_at : suspects->now))
			suspicion = POSTDATED;
	}
	if (unlikely(suspicion != NO_SUSPICION))
		add_suspect(verify, record, place, suspicion);
}

/* By id, which comes first; the key may be an id alone. */
static int
compare_suspects(const void *a, const void *b)
{
	return memcmp(a, b, RF_UUID_BYTES);
}

/* Orders them, so that rf_suspects_named() finds them. */
void
rf_suspects_sort(RfVerify *verify)
{
	if (verify->suspects->count > 1)
		qsort(verify->suspects->list, verify->suspects->count,
			  sizeof(Suspect), compare_suspects);
}

/* The record is among the findings already. */
void
rf_suspects_named(RfVerify *verify, const RfUuid *id)
{
	RfSuspects *suspects = verify->suspects;
	Suspect    *suspect = NULL;

	if (suspects->count > 0)
		suspect = bsearch(id, suspects->list, suspects->count,
						  sizeof(Suspect), compare_suspects);
	if (suspect != NULL)
		suspect->named = true;
}

/* Reports the others of the run, and forgets all. */
void
rf_suspects_report(RfVerify *verify)
{
	static const char *const details[] = {
		[OTHER_TIME] = "its id is not of the time that it is dated: ringfence did not write it so",
		[NO_INCARNATION] = "it is of an incarnation that there never was, so that no block will cover it",
		[NO_TRANSACTION] = "it is of a transaction that has not begun yet, so that no block covers it",
		[BACKDATED] = "it is dated before its transaction can have begun, or the clock went back",
		[POSTDATED] = "it is dated after it was there, or the clock went back",
	};
	RfSuspects *suspects = verify->suspects;

	for (uint64 i = 0; i < suspects->count; i++)
	{
		const Suspect *suspect = &suspects->list[i];

		if (!suspect->named)
			rf_finding(verify, suspect->block, &suspect->org, &suspect->id,
					   suspect->suspicion == BACKDATED ? "record_backdated" :
					   suspect->suspicion == POSTDATED ? "record_postdated" :
					   "record_inserted", "%s", details[suspect->suspicion]);
	}
	suspects->list = NULL;
	suspects->count = 0;
	suspects->size = 0;
}
