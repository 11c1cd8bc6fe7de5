/*
 * seal_compare.c: what a run of blocks covers, against what they sealed.
 *
 * Three lists are walked side by side, in the order of block and org: the
 * leaves of the records as they are now, audit_block_orgs, and audit_leaves.
 *
 * What is to be believed of an organization in a block is what gives one of the
 * entries in the block's signed tree. If the leaf list does, it names each
 * record that differs. If it doesn't, it was tampered with; then the records
 * may give the entry themselves, and are intact, or no longer, which is all
 * that can be said.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"

/* audit_block_orgs or audit_leaves, in the order of block and org. */
typedef struct OrgScan
{
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	HeapTuple	tuple;			/* the current row, or NULL at the end */
	int64		block;
	RfUuid		org;
} OrgScan;

/* A run being compared. */
typedef struct Compare
{
	RfVerify   *verify;
	RfLogQuery	query;
	OrgScan		orgs;
	OrgScan		leaves;
	Relation	blocks;
	uint64		next;			/* the next item to look at */
	unsigned char *list;		/* an org's leaf list */
	size_t		list_len;
	size_t		list_size;
	int			hint;			/* the block that the last record was in */
	/* The block at hand: */
	const RfBlock *block;
	bool		entries_good;
	bool		all_found;		/* each org's entry so far is known */
	int64		records;		/* that those account for */
} Compare;

/* Where an organization's chain is. */
typedef struct LastPart
{
	RfUuid		org;
	int64		block;
} LastPart;

/* One organization's part in a block. */
typedef struct OrgPart
{
	RfUuid		org;
	bool		has_row;
	int64		row_records;
	int64		row_previous;
	RfHash		row_root;
	int64		last;			/* the block that it had a part in before */
	int64		previous;		/* that block as it was sealed, or -1 */
	const char *broken;			/* what is wrong with the leaf list's rows */
	const RfItem *items;
	uint64		nitems;
} OrgPart;

/* The first block of the run that covers the record, unless an earlier did. */
static int
find_in_run(Compare *compare, uint32 incarnation, uint64 xid)
{
	RfVerify   *verify = compare->verify;
	int			low = 0;
	int			high = verify->nblocks;

	if (verify->previous != NULL &&
		rf_block_covers(verify->previous, incarnation, xid))
		return -1;
	/* Most often it is where the one before it was. */
	if (rf_block_covers(&verify->blocks[compare->hint], incarnation, xid))
	{
		if (compare->hint == 0 ||
			!rf_block_covers(&verify->blocks[compare->hint - 1], incarnation,
							 xid))
			return compare->hint;
		high = compare->hint;
	}
	else
		low = compare->hint + 1;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (rf_block_covers(&verify->blocks[middle], incarnation, xid))
			high = middle;
		else
			low = middle + 1;
	}
	if (low == verify->nblocks)
		return -1;
	compare->hint = low;
	return low;
}

static int
place_in_run(void *arg, const RfPlacing *record)
{
	Compare    *compare = arg;
	int			place = find_in_run(compare, record->incarnation, record->xid);

	rf_suspects_look(compare->verify, record, place);
	return place;
}

/*
 * Moves on, past rows without a block or an org: what they should have held is
 * missing then, which is a finding.
 */
static void
next_row(OrgScan *scan)
{
	for (;;)
	{
		bool		no_block;
		bool		no_org;
		Datum		org;

		CHECK_FOR_INTERRUPTS();
		scan->tuple = systable_getnext_ordered(scan->scan,
											   ForwardScanDirection);
		if (scan->tuple == NULL)
			return;
		scan->block = rf_seal_int(scan->rel, scan->tuple, "block", INT8OID,
								  &no_block);
		org = rf_seal_value(scan->rel, scan->tuple, "org_id", UUIDOID,
							&no_org);
		if (no_block || no_org)
			continue;
		memcpy(&scan->org, DatumGetUUIDP(org), RF_UUID_BYTES);
		return;
	}
}

/* Opens a table at the blocks of the run, and at the org if it is for one. */
static void
begin_rows(RfVerify *verify, OrgScan *scan, const char *table, int ncolumns,
		   const char *const *by_block, const char *const *by_org)
{
	const char *const *columns = verify->org != NULL ? by_org : by_block;
	ScanKeyData keys[3];
	Oid			index_oid;
	AttrNumber	block;
	int			nkeys = 0;

	scan->rel = rf_seal_table(table, AccessShareLock);
	index_oid = rf_seal_index(scan->rel, ncolumns, columns);
	if (!OidIsValid(index_oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no index on (%s)", table,
						verify->org != NULL ? "org_id, block" :
						"block, org_id")));
	block = rf_seal_column(scan->rel, "block", INT8OID);
	/* The index's columns come in its order. */
	if (verify->org != NULL)
		ScanKeyInit(&keys[nkeys++],
					rf_seal_column(scan->rel, "org_id", UUIDOID),
					BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum((pg_uuid_t *) verify->org));
	ScanKeyInit(&keys[nkeys++], block, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(verify->blocks[0].number));
	ScanKeyInit(&keys[nkeys++], block, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(verify->blocks[verify->nblocks - 1].number));
	scan->index = index_open(index_oid, AccessShareLock);
	scan->scan = systable_beginscan_ordered(scan->rel, scan->index,
											verify->snapshot, nkeys, keys);
	next_row(scan);
}

static void
end_rows(OrgScan *scan)
{
	systable_endscan_ordered(scan->scan);
	index_close(scan->index, AccessShareLock);
	relation_close(scan->rel, NoLock);
}

/* Appends a row of audit_leaves to the list; its parts must come in order. */
static void
append_leaves(Compare *compare, OrgPart *part, int expected)
{
	OrgScan    *scan = &compare->leaves;
	bool		no_part;
	bool		no_leaves;
	int64		number = rf_seal_int(scan->rel, scan->tuple, "part", INT4OID,
									 &no_part);
	Datum		value = rf_seal_value(scan->rel, scan->tuple, "leaves",
									  BYTEAOID, &no_leaves);
	bytea	   *bytes = no_leaves ? NULL : DatumGetByteaPP(value);
	size_t		len;

	if (bytes == NULL || no_part || number != expected ||
		VARSIZE_ANY_EXHDR(bytes) % RF_LISTED_LEAF_BYTES != 0)
	{
		part->broken = "a part of the leaf list is missing or damaged";
		return;
	}
	len = VARSIZE_ANY_EXHDR(bytes);
	if (compare->list_len + len > compare->list_size)
	{
		compare->list_size = Max(compare->list_size * 2,
								 compare->list_len + len);
		compare->list = compare->list == NULL ?
			MemoryContextAllocHuge(CurrentMemoryContext, compare->list_size) :
			repalloc_huge(compare->list, compare->list_size);
	}
	memcpy(compare->list + compare->list_len, VARDATA_ANY(bytes), len);
	compare->list_len += len;
	if (bytes != (bytea *) DatumGetPointer(value))
		pfree(bytes);
}

static int
compare_hashes(const void *a, const void *b)
{
	return memcmp(a, b, RF_HASH_BYTES);
}

/*
 * Is that the organization's part in the block, as it was sealed? Its row says
 * after which block that was; or else it was the last one that is there.
 */
static bool
is_sealed(Compare *compare, OrgPart *part, uint64 records, const RfHash *root)
{
	const RfBlock *block = compare->block;
	int64		candidates[] = {part->row_previous, part->last};

	for (int i = part->has_row ? 0 : 1; i < (int) lengthof(candidates); i++)
	{
		RfHash		entry;

		if (i > 0 && part->has_row && candidates[1] == candidates[0])
			break;
		rf_org_entry(compare->verify->digest, &part->org, block->number,
					 candidates[i], records, root, &entry);
		if (block->nentries > 0 &&
			bsearch(&entry, block->entries, block->nentries, RF_HASH_BYTES,
					compare_hashes) != NULL)
		{
			part->previous = candidates[i];
			return true;
		}
	}
	return false;
}

/*
 * An organization's parts are a chain: was one taken out of it? One of a block
 * that isn't there is no finding of its own.
 */
static void
check_chain(Compare *compare, const OrgPart *part, int64 *last)
{
	RfVerify   *verify = compare->verify;
	RfBlock		block;

	if (part->previous > part->last &&
		rf_block_find(compare->blocks, verify->snapshot, part->previous, false,
					  &block))
		rf_finding(verify, part->previous, &part->org, NULL, "org_missing",
				   "all that the organization had in this block was removed, with its lists");
	if (part->previous >= 0 || part->has_row)
		*last = compare->block->number;
}

/* Names each record that differs from a leaf list that is to be believed. */
static void
compare_records(Compare *compare, const OrgPart *part)
{
	RfVerify   *verify = compare->verify;
	int64		block = compare->block->number;
	const unsigned char *leaf = compare->list;
	const unsigned char *end = leaf + compare->list_len;
	uint64		i = 0;

	while (leaf < end || i < part->nitems)
	{
		const RfItem *item = &part->items[i];
		int			order = leaf >= end ? 1 : i == part->nitems ? -1 :
		memcmp(leaf, &item->id, RF_UUID_BYTES);
		bool		intact = false;

		if (order < 0)
		{
			intact = rf_is_dropped(verify, block, (const RfUuid *) leaf);
			if (!intact)
				rf_finding(verify, block, &part->org, (const RfUuid *) leaf,
						   "record_missing",
						   "the record was sealed in this block and is not there");
		}
		else if (order > 0)
			rf_finding(verify, block, &part->org, &item->id,
					   "record_inserted", compare->block->after_gap ?
					   "the record was not sealed in this block, but may be in one that is missing before it" :
					   "the record belongs to this block by its transaction, but was not sealed in it");
		else if (memcmp(leaf + RF_UUID_BYTES, &item->leaf, RF_HASH_BYTES) != 0)
			rf_finding(verify, block, &part->org, &item->id, "record_altered",
					   "the record is not as it was sealed");
		else
			intact = true;
		if (!intact)
			rf_suspects_named(verify, order < 0 ? (const RfUuid *) leaf : &item->id);
		if (order <= 0)
			leaf += RF_LISTED_LEAF_BYTES;
		if (order >= 0)
			i++;
	}
}

/* The leaf list is of no use: can the records still be believed? */
static void
check_without_list(Compare *compare, OrgPart *part, bool row_sealed)
{
	RfVerify   *verify = compare->verify;
	int64		block = compare->block->number;
	RfHash		root;

	rf_finding(verify, block, &part->org, NULL, "leaves_altered",
			   "%s", part->broken != NULL ? part->broken :
			   compare->list_len == 0 ? "the leaf list is missing" :
			   "the leaf list is not the one that was sealed");
	rf_tree_of(verify->digest, &part->items->leaf, sizeof(RfItem),
			   part->nitems, &root);
	if (is_sealed(compare, part, part->nitems, &root))
	{
		compare->records += part->nitems;
		if (!row_sealed)
			rf_finding(verify, block, &part->org, NULL, "org_altered",
					   "the organization's count or root is not as it was sealed; the records are");
		return;
	}
	if (row_sealed)
		compare->records += part->row_records;
	else
		compare->all_found = false;
	rf_finding(verify, block, &part->org, NULL, "org_altered",
			   "the " UINT64_FORMAT " records of the organization are not as they were sealed; which of them is unknown, since the leaf list was altered too",
			   part->nitems);
}

/* What one organization has in the block at hand. */
static void
check_org(Compare *compare, OrgPart *part)
{
	RfVerify   *verify = compare->verify;
	uint64		listed = compare->list_len / RF_LISTED_LEAF_BYTES;
	bool		row_sealed = part->has_row && part->row_records >= 0 &&
	is_sealed(compare, part, (uint64) part->row_records, &part->row_root);
	bool		list_sealed = false;
	RfHash		root;

	if (part->broken == NULL && listed > 0)
	{
		rf_tree_of(verify->digest, compare->list + RF_UUID_BYTES,
				   RF_LISTED_LEAF_BYTES, listed, &root);
		list_sealed = is_sealed(compare, part, listed, &root) ||
			(!compare->entries_good && part->has_row &&
			 part->row_records == (int64) listed &&
			 memcmp(&root, &part->row_root, RF_HASH_BYTES) == 0);
	}
	if (list_sealed)
	{
		compare->records += listed;
		if (!part->has_row || part->row_records != (int64) listed ||
			(part->previous >= 0 && part->row_previous != part->previous) ||
			memcmp(&root, &part->row_root, RF_HASH_BYTES) != 0)
			rf_finding(verify, compare->block->number, &part->org, NULL,
					   "org_altered", part->has_row ?
					   "the organization's count or root is not as it was sealed" :
					   "the organization's row in audit_block_orgs is missing");
		compare_records(compare, part);
	}
	else if (!part->has_row && listed == 0 && part->broken == NULL)
	{
		/* Nothing but records: were any sealed here for this org? */
		rf_tree_of(verify->digest, &part->items->leaf, sizeof(RfItem),
				   part->nitems, &root);
		if (is_sealed(compare, part, part->nitems, &root))
			check_without_list(compare, part, false);
		else
			compare_records(compare, part);
	}
	else
		check_without_list(compare, part, row_sealed);
}

/* Takes what the three lists have for the next org of the block at hand. */
static bool
next_org(Compare *compare, uint32 place, OrgPart *part)
{
	RfLogQuery *query = &compare->query;
	OrgScan    *scans[] = {&compare->orgs, &compare->leaves};
	const RfUuid *next = NULL;
	int			parts = 0;

	if (compare->next < query->nitems &&
		query->items[compare->next].block == place)
		next = &query->items[compare->next].org;
	for (int i = 0; i < 2; i++)
		if (scans[i]->tuple != NULL &&
			scans[i]->block == compare->block->number &&
			(next == NULL || memcmp(&scans[i]->org, next, RF_UUID_BYTES) < 0))
			next = &scans[i]->org;
	if (next == NULL)
		return false;

	memset(part, 0, sizeof(*part));
	part->org = *next;
	part->previous = -1;
	part->items = query->items + compare->next;
	while (compare->next < query->nitems &&
		   query->items[compare->next].block == place &&
		   memcmp(&query->items[compare->next].org, &part->org,
				  RF_UUID_BYTES) == 0)
	{
		compare->next++;
		part->nitems++;
	}
	while (compare->orgs.tuple != NULL &&
		   compare->orgs.block == compare->block->number &&
		   memcmp(&compare->orgs.org, &part->org, RF_UUID_BYTES) == 0)
	{
		bool		isnull;

		part->has_row = true;
		part->row_records = rf_seal_int(compare->orgs.rel, compare->orgs.tuple,
										"records", INT8OID, &isnull);
		part->row_previous = rf_seal_int(compare->orgs.rel,
										 compare->orgs.tuple, "previous",
										 INT8OID, &isnull);
		(void) rf_seal_bytes(compare->orgs.rel, compare->orgs.tuple, "root",
							 &part->row_root, RF_HASH_BYTES);
		next_row(&compare->orgs);
	}
	compare->list_len = 0;
	while (compare->leaves.tuple != NULL &&
		   compare->leaves.block == compare->block->number &&
		   memcmp(&compare->leaves.org, &part->org, RF_UUID_BYTES) == 0)
	{
		append_leaves(compare, part, parts++);
		next_row(&compare->leaves);
	}
	return true;
}

/* Where to note the last block that an organization had a part in. */
static int64 *
last_part(Compare *compare, const RfUuid *org)
{
	RfVerify   *verify = compare->verify;
	bool		found;
	LastPart   *part = hash_search(verify->parts, org, HASH_ENTER, &found);

	if (!found)
		part->block = rf_org_last(compare->orgs.rel, verify->snapshot, org,
								  compare->block->number - 1, NULL);
	return &part->block;
}

/* The tree of a block's entries. */
static void
check_entries(Compare *compare)
{
	const RfBlock *block = compare->block;
	RfVerify   *verify = compare->verify;
	RfHash		root;
	bool		sorted = true;

	for (uint64 i = 1; i < block->nentries; i++)
		sorted = sorted && memcmp(&block->entries[i - 1], &block->entries[i],
								  RF_HASH_BYTES) <= 0;
	rf_tree_of(verify->digest, block->entries, RF_HASH_BYTES, block->nentries,
			   &root);
	compare->entries_good = sorted && block->entries != NULL &&
		memcmp(&root, &block->root, RF_HASH_BYTES) == 0;
	if (!compare->entries_good && block->broken == NULL)
		rf_finding(verify, block->number, NULL, NULL, "block_altered",
				   "its list of entries does not give its root");
}

/* Everything that belongs to one block of the run. */
static void
compare_block(Compare *compare, uint32 place)
{
	RfVerify   *verify = compare->verify;
	OrgScan    *scans[] = {&compare->orgs, &compare->leaves};
	OrgPart		part;

	compare->block = &verify->blocks[place];
	compare->records = 0;
	compare->all_found = true;
	check_entries(compare);
	/* Rows of blocks that aren't there: the missing block is the finding. */
	for (int i = 0; i < 2; i++)
		while (scans[i]->tuple != NULL &&
			   scans[i]->block < compare->block->number)
			next_row(scans[i]);
	while (next_org(compare, place, &part))
	{
		int64	   *last = last_part(compare, &part.org);

		part.last = *last;
		check_org(compare, &part);
		check_chain(compare, &part, last);
	}
	if (verify->org == NULL && compare->all_found &&
		compare->entries_good && compare->block->details_good &&
		compare->records != compare->block->records)
		rf_finding(verify, compare->block->number, NULL, NULL, "org_missing",
				   "the block counts " INT64_FORMAT " records, its organizations " INT64_FORMAT ": all that it had of some organization was removed",
				   compare->block->records, compare->records);
}

/*
 * Compares the run of verify->blocks. Needs memory for the leaves of the
 * records, in verify->context, which the caller resets.
 */
void
rf_verify_compare(RfVerify *verify)
{
	static const char *const by_block[] = {"block", "org_id", "part"};
	static const char *const by_org[] = {"org_id", "block", "part"};
	MemoryContext old = MemoryContextSwitchTo(verify->context);
	Compare    *compare = palloc0(sizeof(Compare));

	compare->verify = verify;
	compare->query.snapshot = verify->snapshot;
	compare->query.org = verify->org;
	compare->query.place = place_in_run;
	compare->query.arg = compare;
	compare->query.maker = verify->maker;
	rf_block_ranges(verify->previous, &verify->blocks[verify->nblocks - 1],
					&compare->query);
	rf_log_query(&compare->query);
	rf_log_sort(&compare->query);
	rf_suspects_sort(verify);
	if (compare->query.nameless > 0 && verify->org == NULL)
		rf_finding(verify, verify->blocks[0].number, NULL, NULL,
				   "record_altered",
				   UINT64_FORMAT " records lack their org_id, id, recorded_at, transaction_id or incarnation",
				   compare->query.nameless);

	if (verify->parts == NULL)
	{
		HASHCTL		control = {.keysize = RF_UUID_BYTES,
			.entrysize = sizeof(LastPart),
		.hcxt = verify->outer};

		verify->parts = hash_create("ringfence audit parts", 256, &control,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	compare->blocks = rf_seal_table("audit_blocks", AccessShareLock);
	begin_rows(verify, &compare->orgs, "audit_block_orgs", 2, by_block, by_org);
	begin_rows(verify, &compare->leaves, "audit_leaves", 3, by_block, by_org);
	for (int i = 0; i < verify->nblocks; i++)
		compare_block(compare, (uint32) i);
	end_rows(&compare->orgs);
	end_rows(&compare->leaves);
	relation_close(compare->blocks, NoLock);
	rf_suspects_report(verify);
	MemoryContextSwitchTo(old);
}
