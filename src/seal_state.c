/*
 * seal_state.c: audit_state_drop(), which states that months of the log are
 * dropped, before they are.
 *
 * A statement makes audit_verify() silent about records, so whoever can have one
 * made must not be able to hide anything with it but what it says. It is of whole
 * months that are over; of all blocks that have records of them it is verified
 * here that each of those records is there and as it was sealed; what is in other
 * blocks it doesn't speak of. All of it is done in this one function, and so is the
 * event, since only the library has the key at hand.
 *
 * SHARE locks on the partitions keep writers out until the transaction ends, and
 * have those finish who were at work: what they wrote is seen, and has to be
 * sealed first.
 */
#include "postgres.h"

#include "access/relation.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "seal.h"
#include "table.h"

PG_FUNCTION_INFO_V1(ringfence_audit_state_drop);

/* After a month's end, until no clock that is a little slow writes into it. */
#define MONTH_SLACK USECS_PER_DAY

/* A transaction, in one of the servers that the database has lived in. */
typedef struct Transaction
{
	uint32		incarnation;
	uint64		xid;
} Transaction;

/* A statement in the making. */
typedef struct Stating
{
	RfDrop		drop;
	Snapshot	snapshot;
	RfDigest   *digest;
	RfSigner   *signer;
	RfSealKey  *keys;
	int			nkeys;
	Relation	blocks;
	RfBlock		newest;
	int64		records;		/* in the range, */
	int64		unsealed;		/* of those that no block has, */
	int64		odd;			/* and those that the writer can't have
								 * written */
	Transaction first;			/* of the records */
	Transaction last;
} Stating;

/* Is it the first instant of a month, in UTC? */
static bool
begins_month(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;

	return !TIMESTAMP_NOT_FINITE(time) &&
		timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) == 0 &&
		tm.tm_mday == 1 && tm.tm_hour == 0 && tm.tm_min == 0 &&
		tm.tm_sec == 0 && fsec == 0;
}

/* Throws unless it is a range that may be stated. */
static void
check_range(const RfDrop *drop)
{
	if (!begins_month(drop->range_start) || !begins_month(drop->range_end) ||
		drop->range_start >= drop->range_end)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid range of the audit log"),
				 errhint("It goes from the first instant of a month to that of a later one, in UTC.")));
	if (drop->range_end > GetCurrentTimestamp() - MONTH_SLACK)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("months of the audit log can be dropped a day after their end")));
}

/*
 * The partitions of the range, locked. Throws 55000 if there is none, or one
 * that has more.
 */
static List *
lock_partitions(Relation log, const RfDrop *drop)
{
	int			nparts;
	RfLogPart  *parts = rf_log_parts(log, &nparts);
	List	   *result = NIL;

	for (int i = 0; i < nparts; i++)
	{
		if (parts[i].is_default || parts[i].upper <= drop->range_start ||
			parts[i].lower >= drop->range_end)
			continue;
		if (parts[i].lower < drop->range_start ||
			parts[i].upper > drop->range_end)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a partition of the audit log goes beyond the range")));
		LockRelationOid(parts[i].relid, ShareLock);
		result = lappend_oid(result, parts[i].relid);
	}
	if (result == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit log has no partition for the range"),
				 errdetail("A month is stated to be dropped while it is there.")));
	return result;
}

/* Reads the keys and the newest block, which must be what a key of the chain's signed. */
static void
read_chain(Stating *stating)
{
	Relation	rel = rf_seal_table("audit_keys", AccessShareLock);
	RfBlock		first;
	bool		has_first = rf_block_find(stating->blocks, stating->snapshot, 1,
										  false, &first);
	RfSealKey  *key;

	stating->keys = rf_keys_read(rel, stating->snapshot, &stating->nkeys);
	relation_close(rel, NoLock);
	rf_keys_trust(stating->digest, stating->keys, stating->nkeys,
				  has_first ? &first.key_id : NULL);
	key = rf_keys_find(stating->keys, stating->nkeys,
					   &stating->signer->key_id);
	if (!rf_block_newest(stating->blocks, stating->snapshot, &stating->newest))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit log was never sealed"),
				 errhint("Call %s first.", "ringfence.audit_seal()")));
	if (key == NULL || !key->trusted)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit key is not one of the chain's")));
	if (!rf_block_signed(stating->digest, &stating->newest,
						 rf_keys_find(stating->keys, stating->nkeys,
									  &stating->newest.key_id)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("audit block " INT64_FORMAT " is not as it was sealed",
						stating->newest.number),
				 errhint("%s tells what was altered.",
						 "ringfence.audit_verify()")));
}

static bool
precedes(const Transaction *a, const Transaction *b)
{
	return a->incarnation < b->incarnation ||
		(a->incarnation == b->incarnation && a->xid < b->xid);
}

/* Looks at a record of the range; takes none. */
static int
count_record(void *arg, const RfPlacing *record)
{
	Stating    *stating = arg;
	Transaction transaction = {record->incarnation, record->xid};

	if (stating->records++ == 0)
		stating->first = stating->last = transaction;
	if (precedes(&transaction, &stating->first))
		stating->first = transaction;
	if (precedes(&stating->last, &transaction))
		stating->last = transaction;
	stating->unsealed += !rf_block_covers(&stating->newest,
										  record->incarnation, record->xid);
	stating->odd += record->id->data[6] >> 4 != 7 ||
		rf_uuid7_time(record->id) != record->recorded_at;
	return -1;
}

/* Reads the partitions' records. Throws unless all of them are sealed. */
static void
count_records(Stating *stating, List *partitions)
{
	ListCell   *lc;

	foreach(lc, partitions)
	{
		RfLogQuery	query = {0};

		query.snapshot = stating->snapshot;
		query.everything = true;
		query.partition = lfirst_oid(lc);
		query.place = count_record;
		query.arg = stating;
		rf_log_query(&query);
		stating->odd += query.nameless;
	}
	if (stating->unsealed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("records of the range are not sealed yet"),
				 errdetail("There are " INT64_FORMAT ".", stating->unsealed),
				 errhint("Call %s first.", "ringfence.audit_seal()")));
	if (stating->odd > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the range has records that ringfence did not write"),
				 errhint("%s tells which.", "ringfence.audit_verify()")));
}

/*
 * The first block whose snapshot's end, or with "over" whose beginning, is past a
 * transaction; the newest if there is none.
 */
static int64
first_block(Stating *stating, const Transaction *transaction, bool over)
{
	int64		low = 1;
	int64		high = stating->newest.number;

	while (low < high)
	{
		int64		middle = low + (high - low) / 2;
		RfBlock		block;
		Transaction end;

		CHECK_FOR_INTERRUPTS();
		end.incarnation = 0;
		if (rf_block_before(stating->blocks, stating->snapshot, middle, &block))
		{
			end.incarnation = block.incarnation;
			end.xid = over ? block.xids.xmin : block.xids.xmax;
		}
		if (end.incarnation > 0 && precedes(transaction, &end))
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Throws XX001 unless all that the blocks sealed of the range is there. */
static void
verify_range(Stating *stating)
{
	RfVerify	verify = {0};

	if (stating->records == 0)
		return;
	verify.stating = &stating->drop;
	rf_verify_chain(&verify, stating->drop.first_block,
					stating->drop.last_block, NULL);
	if (verify.problems > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the range is not as it was sealed"),
				 errdetail("There are " INT64_FORMAT " findings; the first is %s.",
						   verify.problems, verify.problem),
				 errhint("%s tells all.", "ringfence.audit_verify()")));
}

/* The blocks that the range's records are in. */
static void
find_blocks(Stating *stating)
{
	RfDrop	   *drop = &stating->drop;
	RfBlock		block;

	if (stating->records == 0)
		return;
	drop->first_block = first_block(stating, &stating->first, false);
	drop->last_block = first_block(stating, &stating->last, true);
	if (!rf_block_find(stating->blocks, stating->snapshot, drop->last_block,
					   false, &block))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("audit block " INT64_FORMAT " is missing",
						drop->last_block)));
	drop->block_hash = block.hash;
}

/* Was the same stated before? Then it has been done, perhaps by one that was killed. */
static bool
is_stated(Stating *stating)
{
	RfDrop	   *drop = &stating->drop;
	int			count;
	RfDrop	   *drops = rf_drops_read(stating->snapshot, &count);

	for (int i = 0; i < count; i++)
		if (drops[i].range_start == drop->range_start &&
			drops[i].range_end == drop->range_end &&
			drops[i].first_block <= drop->first_block &&
			drops[i].last_block >= drop->last_block &&
			rf_drop_problem(&drops[i], stating->blocks, stating->snapshot,
							stating->digest, stating->keys,
							stating->nkeys) == NULL)
		{
			drop->event = drops[i].event;
			return true;
		}
	return false;
}

/* The day that a month begins with. */
static char *
day_text(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;

	(void) timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL);
	return psprintf("%04d-%02d-%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
}

/* Puts it on record in the log itself. */
static void
record_event(Stating *stating)
{
	RfDrop	   *drop = &stating->drop;
	char	   *start = day_text(drop->range_start);
	char	   *end = day_text(drop->range_end);
	char	   *details = psprintf("{\"from\": \"%s\", \"to\": \"%s\", \"records\": " INT64_FORMAT
								   ", \"first_block\": " INT64_FORMAT
								   ", \"last_block\": " INT64_FORMAT "}",
								   start, end, stating->records,
								   drop->first_block, drop->last_block);
	RfAuditRecord record;

	rf_audit_begin(&record, OPERATION_EVENT);
	rf_audit_set_text(&record, AUDIT_ACTION, "audit.dropped");
	rf_audit_set_text(&record, AUDIT_KEY, psprintf("%s/%s", start, end));
	rf_audit_set_text(&record, AUDIT_REASON, drop->reason);
	rf_audit_set(&record, AUDIT_NEW,
				 DirectFunctionCall1(jsonb_in, CStringGetDatum(details)));
	drop->event = rf_audit_append(&record);
}

/* Signs the statement and writes it. */
static void
write_statement(Stating *stating, Relation rel)
{
	static const char *const columns[] = {
		"event", "range_start", "range_end", "first_block", "last_block",
		"block_hash", "stated_at", "reason", "key_id", "signature",
	};
	RfDrop	   *drop = &stating->drop;
	Datum		values[lengthof(columns)];
	bytea	   *message;

	drop->stated_at = GetCurrentTimestamp();
	drop->key_id = stating->signer->key_id;
	message = DatumGetByteaPP(rf_drop_message(stating->digest, drop));
	rf_sign(stating->signer, VARDATA_ANY(message), VARSIZE_ANY_EXHDR(message),
			drop->signature);
	values[0] = UUIDPGetDatum((pg_uuid_t *) &drop->event);
	values[1] = TimestampTzGetDatum(drop->range_start);
	values[2] = TimestampTzGetDatum(drop->range_end);
	values[3] = Int64GetDatum(drop->first_block);
	values[4] = Int64GetDatum(drop->last_block);
	values[5] = rf_bytea(&drop->block_hash, RF_HASH_BYTES);
	values[6] = TimestampTzGetDatum(drop->stated_at);
	values[7] = CStringGetTextDatum(drop->reason);
	values[8] = rf_bytea(&drop->key_id, RF_HASH_BYTES);
	values[9] = rf_bytea(drop->signature, RF_SIGNATURE_BYTES);
	rf_table_insert(rel, rf_seal_tuple(rel, lengthof(columns), columns,
									   values));
}

/* The reason given, which must be one. */
static char *
check_reason(text *reason)
{
	char	   *result = reason == NULL ? "" : text_to_cstring(reason);

	if (rf_audit_blank(result))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("a reason is required to drop records")));
	if (strlen(result) > RF_MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the reason is too long"),
				 errdetail("It has more than %d bytes.", RF_MAX_REASON)));
	return result;
}

/*
 * audit_state_drop(range_start timestamptz, range_end timestamptz, reason text)
 * returns uuid: states, signed and on record, that all records of some months
 * are there as they were sealed, and may be dropped. Returns the event's id.
 */
Datum
ringfence_audit_state_drop(PG_FUNCTION_ARGS)
{
	Stating    *stating = palloc0(sizeof(Stating));
	RfUuid	   *event = palloc(sizeof(RfUuid));
	Relation	log;
	Relation	rel;
	List	   *partitions;

	PreventCommandIfReadOnly("audit_state_drop()");
	PreventCommandIfParallelMode("audit_state_drop()");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the range must be given")));
	stating->drop.range_start = PG_GETARG_TIMESTAMPTZ(0);
	stating->drop.range_end = PG_GETARG_TIMESTAMPTZ(1);
	stating->drop.reason = check_reason(PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2));
	check_range(&stating->drop);
	stating->digest = rf_digest_create(CurrentMemoryContext);
	stating->signer = rf_signer_open(stating->digest, false);
	/* One statement at a time. */
	rel = rf_seal_table("audit_drops", ShareRowExclusiveLock);
	log = rf_seal_table("audit_log", AccessShareLock);
	partitions = lock_partitions(log, &stating->drop);
	stating->blocks = rf_seal_table("audit_blocks", AccessShareLock);
	stating->snapshot = RegisterSnapshot(GetLatestSnapshot());
	read_chain(stating);
	count_records(stating, partitions);
	find_blocks(stating);
	verify_range(stating);
	if (!is_stated(stating))
	{
		record_event(stating);
		write_statement(stating, rel);
	}
	*event = stating->drop.event;
	UnregisterSnapshot(stating->snapshot);
	relation_close(stating->blocks, NoLock);
	relation_close(log, NoLock);
	relation_close(rel, NoLock);
	PG_RETURN_UUID_P((pg_uuid_t *) event);
}
