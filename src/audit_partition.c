/*
 * audit_partition.c: records into the audit log's partitions.
 *
 * They go past privileges, row security and triggers, straight into the month's
 * partition and its indexes: nobody has to be allowed to write the log, and the
 * triggers that refuse all other writers need no exception.
 *
 * Memory: what is known of a partition lives in partition_mcxt, until the
 * relcache says that the log, the partition or an index changed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "table.h"

#define AUDIT_LOG "audit_log"
#define MAX_ATTEMPTS 10			/* see audit_plan.c */

/* The columns of audit_log. */
const RfAuditColumnDef rf_audit_columns[AUDIT_COLUMNS] = {
	[AUDIT_ORG_ID] = {"org_id", UUIDOID},
	[AUDIT_ID] = {"id", UUIDOID},
	[AUDIT_RECORDED_AT] = {"recorded_at", TIMESTAMPTZOID},
	[AUDIT_TRANSACTION_ID] = {"transaction_id", INT8OID},
	[AUDIT_INCARNATION] = {"incarnation", INT4OID},
	[AUDIT_RELATION_ID] = {"relation_id", INT4OID},
	[AUDIT_USER_ID] = {"user_id", UUIDOID},
	[AUDIT_OPERATION] = {"operation", TEXTOID},
	[AUDIT_ACTOR] = {"actor", TEXTOID},
	[AUDIT_LOGIN] = {"login", TEXTOID},
	[AUDIT_ROLE] = {"role", TEXTOID},
	[AUDIT_ACTION] = {"action", TEXTOID},
	[AUDIT_KEY] = {"key", TEXTOID},
	[AUDIT_REQUEST_ID] = {"request_id", TEXTOID},
	[AUDIT_CORRELATION_ID] = {"correlation_id", TEXTOID},
	[AUDIT_CLIENT_IP] = {"client_ip", INETOID},
	[AUDIT_USER_AGENT] = {"user_agent", TEXTOID},
	[AUDIT_REASON] = {"reason", TEXTOID},
	[AUDIT_OLD] = {"old", JSONBOID},
	[AUDIT_NEW] = {"new", JSONBOID},
	[AUDIT_PERSONAL] = {"personal", JSONBOID},
};

/* The columns above as a descriptor; made once. */
static TupleDesc record_desc = NULL;

/* The partition written last; void while "valid" is false. */
static struct
{
	bool		valid;
	uint64		changes;		/* of the log or the partition, counted */
	Oid			log;
	Oid			relid;
	TimestampTz lower;			/* its bounds */
	TimestampTz upper;
	int		   *sources;		/* which of ours each column takes, -1 for
								 * none; NULL if they are the same */
	TupleDesc	desc;
	TupleTableSlot *slots[RF_AUDIT_BATCH];	/* NULL until needed */
	bool		plain;			/* indexes on columns alone */
	int			nindexes;
	Oid		   *indexes;
	IndexInfo **infos;
}			partition;

static MemoryContext partition_mcxt = NULL;

/* --- Records as tuples --- */

static void
make_record_desc(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	TupleDesc	desc = CreateTemplateTupleDesc(AUDIT_COLUMNS);

	for (int i = 0; i < AUDIT_COLUMNS; i++)
		TupleDescInitEntry(desc, i + 1, rf_audit_columns[i].name,
						   rf_audit_columns[i].type, -1, 0);
	record_desc = desc;
	MemoryContextSwitchTo(old);
}

/* A record's tuple, in the columns of record_desc; in the current context. */
HeapTuple
rf_audit_form(RfAuditRecord *record)
{
	if (unlikely(record_desc == NULL))
		make_record_desc();
	return heap_form_tuple(record_desc, record->values, record->nulls);
}

/* The record of a tuple that rf_audit_form() made; its values point into it. */
void
rf_audit_deform(HeapTuple tuple, RfAuditRecord *record)
{
	if (unlikely(record_desc == NULL))
		make_record_desc();
	heap_deform_tuple(tuple, record_desc, record->values, record->nulls);
}

/* --- Partitions --- */

static Relation
open_log(void)
{
	Relation	log = rf_directory_open(AUDIT_LOG, RowExclusiveLock);

	if (log == NULL || log->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		rf_audit_missing();
	return log;
}

/*
 * Finds the partition of a time: its oid and bounds, or false if there is none.
 */
static bool
find_partition(Relation log, TimestampTz time)
{
	PartitionKey key = RelationGetPartitionKey(log);
	PartitionDesc desc = RelationGetPartitionDesc(log, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	Datum		value = TimestampTzGetDatum(time);
	bool		is_equal;
	int			offset;
	int			index;

	if (key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 ||
		key->parttypid[0] != TIMESTAMPTZOID || key->partattrs[0] == 0)
		elog(ERROR, "the audit log is not partitioned by time");
	if (desc->nparts == 0)
		return false;
	offset = partition_range_datum_bsearch(key->partsupfunc, key->partcollation,
										   bounds, 1, &value, &is_equal);
	index = bounds->indexes[offset + 1];
	if (index < 0)
		return false;
	partition.relid = desc->oids[index];
	partition.lower = offset >= 0 &&
		bounds->kind[offset][0] == PARTITION_RANGE_DATUM_VALUE ?
		DatumGetTimestampTz(bounds->datums[offset][0]) : DT_NOBEGIN;
	partition.upper = offset + 1 < bounds->ndatums &&
		bounds->kind[offset + 1][0] == PARTITION_RANGE_DATUM_VALUE ?
		DatumGetTimestampTz(bounds->datums[offset + 1][0]) : DT_NOEND;
	return true;
}

/*
 * Makes the partition of a month that nobody made ahead, as ringfence_owner; SQL,
 * since it happens once a month at most.
 */
static void
make_partition(TimestampTz time)
{
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(time)};
	Oid			user;
	int			security;

	/* An error puts the user back with the transaction. */
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(get_role_oid(RF_ROLE_OWNER, false),
						   security | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_with_args("SELECT ringfence.make_audit_partition($1)",
							  lengthof(types), types, values, NULL, false,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "could not make a partition of the audit log");
	PopActiveSnapshot();
	SPI_finish();
	SetUserIdAndSecContext(user, security);
	/* It may have been another session that made it, while this one waited. */
	AcceptInvalidationMessages();
}

/*
 * Remembers which of our columns goes where. A partition may have more than
 * ours, in any order; what is the DBA's own stays NULL.
 */
static void
know_columns(TupleDesc desc)
{
	int			found = 0;
	bool		same = desc->natts == AUDIT_COLUMNS;

	partition.sources = palloc(desc->natts * sizeof(int));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		partition.sources[i] = -1;
		for (int k = 0; k < AUDIT_COLUMNS && !att->attisdropped; k++)
			if (att->atttypid == rf_audit_columns[k].type &&
				strcmp(NameStr(att->attname), rf_audit_columns[k].name) == 0)
			{
				partition.sources[i] = k;
				found++;
			}
		same = same && partition.sources[i] == i;
		if (partition.sources[i] < 0 && !att->attisdropped &&
			(att->attnotnull || att->attgenerated != '\0'))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column \"%s\" of the audit log must be an ordinary one that may be NULL",
							NameStr(att->attname)),
					 errdetail("Records leave columns alone that app \"core\" did not make.")));
	}
	if (found < AUDIT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the audit log lacks a column"),
				 errhint("Restore the columns that app \"core\" made.")));
	if (same)
		partition.sources = NULL;
}

/*
 * Remembers a partition's indexes. One with expressions or a predicate is the
 * DBA's own, and takes the executor's longer way; so does a constraint that is
 * checked later.
 */
static void
know_indexes(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	partition.plain = true;
	partition.nindexes = 0;
	partition.indexes = palloc(list_length(indexes) * sizeof(Oid) + 1);
	partition.infos = palloc(list_length(indexes) * sizeof(IndexInfo *) + 1);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);
		IndexInfo  *info = BuildIndexInfo(index);

		if (info->ii_Expressions != NIL || info->ii_Predicate != NIL ||
			info->ii_ExclusionOps != NULL || !index->rd_index->indimmediate)
			partition.plain = false;
		if (info->ii_ReadyForInserts)
		{
			partition.indexes[partition.nindexes] = lfirst_oid(lc);
			partition.infos[partition.nindexes++] = info;
		}
		index_close(index, NoLock);
	}
}

static void
know_partition(Relation rel)
{
	MemoryContext old;

	MemoryContextReset(partition_mcxt);
	memset(partition.slots, 0, sizeof(partition.slots));
	old = MemoryContextSwitchTo(partition_mcxt);
	partition.desc = CreateTupleDescCopy(RelationGetDescr(rel));
	know_columns(partition.desc);
	know_indexes(rel);
	MemoryContextSwitchTo(old);
}

/*
 * The partition last found, locked for writing until the transaction ends, or
 * NULL if it is gone. Its lock is enough: whoever detaches or drops it needs
 * that too, and has sent the invalidation by the time we get it.
 */
static Relation
open_known(void)
{
	return try_table_open(partition.relid, RowExclusiveLock);
}

/*
 * Opens the partition of a time, made if there is none; "partition" then tells
 * what there is to know of it.
 */
static Relation
open_partition(TimestampTz time)
{
	bool		made = false;

	for (int attempt = 0;; attempt++)
	{
		uint64		changes;
		Relation	log;
		Relation	rel;

		if (partition.valid && time >= partition.lower &&
			time < partition.upper)
		{
			rel = open_known();
			if (rel != NULL && partition.valid)
				return rel;
			if (rel != NULL)
				table_close(rel, NoLock);
		}

		/* Whatever stops this on the way, nothing is known until its end. */
		partition.valid = false;
		log = open_log();
		partition.log = RelationGetRelid(log);
		changes = partition.changes;
		if (!find_partition(log, time))
		{
			/* ALTER TABLE wants the table open nowhere in this session. */
			table_close(log, NoLock);
			if (made)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("the audit log has no partition for the present month"),
						 errhint("It may be being detached.")));
			make_partition(time);
			made = true;
			continue;
		}
		rel = open_known();
		if (rel != NULL)
		{
			know_partition(rel);
			if (partition.changes == changes || attempt >= MAX_ATTEMPTS)
			{
				partition.valid = true;
				table_close(log, NoLock);
				return rel;
			}
			table_close(rel, NoLock);
		}
		table_close(log, NoLock);
	}
}

/* A slot for the nth tuple at once; kept as long as the partition is known. */
static TupleTableSlot *
slot_for(int n)
{
	if (partition.slots[n] == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(partition_mcxt);

		partition.slots[n] = MakeSingleTupleTableSlot(partition.desc,
													  &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
	}
	return partition.slots[n];
}

/* Index entries in columns, without looking each index up anew every time. */
static void
index_columns(Relation rel, int n)
{
	for (int k = 0; k < partition.nindexes; k++)
	{
		Relation	index = index_open(partition.indexes[k], RowExclusiveLock);
		IndexInfo  *info = partition.infos[k];

		for (int i = 0; i < n; i++)
		{
			Datum		values[INDEX_MAX_KEYS];
			bool		nulls[INDEX_MAX_KEYS];

			FormIndexDatum(info, partition.slots[i], NULL, values, nulls);
			rf_table_index_entry(rel, index, info, values, nulls,
								 &partition.slots[i]->tts_tid);
		}
		index_close(index, NoLock);
	}
}

/* A record's tuple in the columns of the partition. */
static HeapTuple
rearrange(HeapTuple tuple)
{
	int			natts = partition.desc->natts;
	Datum	   *values = palloc0(natts * sizeof(Datum));
	bool	   *nulls = palloc(natts * sizeof(bool));
	RfAuditRecord record;

	rf_audit_deform(tuple, &record);
	for (int i = 0; i < natts; i++)
	{
		int			source = partition.sources[i];

		nulls[i] = source < 0 || record.nulls[source];
		if (!nulls[i])
			values[i] = record.values[source];
	}
	return heap_form_tuple(partition.desc, values, nulls);
}

/* Puts tuples into the partition and its indexes. */
static void
insert(Relation rel, HeapTuple *tuples, int n)
{
	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *slot = slot_for(i);

		ExecStoreHeapTuple(partition.sources == NULL ? tuples[i] :
						   rearrange(tuples[i]), slot, false);
		slot->tts_tableOid = RelationGetRelid(rel);
	}
	if (n == 1)
		table_tuple_insert(rel, partition.slots[0], GetCurrentCommandId(true),
						   0, NULL);
	else
		table_multi_insert(rel, partition.slots, n, GetCurrentCommandId(true),
						   0, NULL);
	if (partition.plain)
		index_columns(rel, n);
	else
		rf_table_index(rel, partition.slots, n);
	for (int i = 0; i < n; i++)
		ExecClearTuple(partition.slots[i]);
}

/*
 * Writes records, formed by rf_audit_form(), as far as one partition is theirs;
 * says how many (at least one). Their times say which partition. May throw.
 */
int
rf_audit_insert(HeapTuple *tuples, const TimestampTz *times, int n)
{
	Relation	rel = open_partition(times[0]);
	int			together = 1;

	while (together < Min(n, RF_AUDIT_BATCH) &&
		   times[together] >= partition.lower &&
		   times[together] < partition.upper)
		together++;
	insert(rel, tuples, together);
	table_close(rel, NoLock);
	return together;
}

/* --- Callbacks --- */

static void
relation_changed(Datum arg, Oid relid)
{
	(void) arg;
	if (relid == InvalidOid || relid == partition.relid || relid == partition.log)
	{
		partition.valid = false;
		partition.changes++;
	}
}

/* Registers the callback. Called once, from rf_audit_init(). */
void
rf_audit_partition_init(void)
{
	partition_mcxt = AllocSetContextCreate(TopMemoryContext,
										   "ringfence audit partition",
										   ALLOCSET_SMALL_SIZES);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}
