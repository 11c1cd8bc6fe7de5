/*
 * idempotency_table.c: the records of keys.
 *
 * ringfence_data.idempotency_keys is read and written past row security, like
 * the directory. A record is looked for among all that is committed and one's
 * own, whatever the transaction's isolation: its snapshot may be older than the
 * record that it has just waited for. Nobody else is writing it, for the key is
 * locked.
 *
 * Every first use of a key pays for this file, so what is asked of the catalogs
 * is remembered, and an index entry is made without the executor.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "idempotency.h"
#include "seal.h"
#include "table.h"

/* Columns in the order in which core makes them. */
enum
{
	KEY_ID,
	KEY_ORG_ID,
	KEY_USER_ID,
	KEY_KEY,
	KEY_METHOD,
	KEY_PATH,
	KEY_FINGERPRINT,
	KEY_CREATED_AT,
	KEY_EXPIRES_AT,
	KEY_STATUS,
	KEY_HEADERS,
	KEY_PROCESSED,
	KEY_COMPLETE,
	KEY_RESPONSE,
	KEY_COLUMNS
};

static const struct
{
	const char *name;
	Oid			type;
}			columns[KEY_COLUMNS] = {
	[KEY_ID] = {"id", UUIDOID},
	[KEY_ORG_ID] = {"org_id", UUIDOID},
	[KEY_USER_ID] = {"user_id", UUIDOID},
	[KEY_KEY] = {"key", TEXTOID},
	[KEY_METHOD] = {"method", TEXTOID},
	[KEY_PATH] = {"path", TEXTOID},
	[KEY_FINGERPRINT] = {"fingerprint", BYTEAOID},
	[KEY_CREATED_AT] = {"created_at", TIMESTAMPTZOID},
	[KEY_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID},
	[KEY_STATUS] = {"status", TEXTOID},
	[KEY_HEADERS] = {"headers", TEXTOID},
	[KEY_PROCESSED] = {"processed", INT8OID},
	[KEY_COMPLETE] = {"complete", BOOLOID},
	[KEY_RESPONSE] = {"response", BYTEAOID},
};

/*
 * What is known of the table; void when "valid" is reset by its invalidation.
 * Memory of "info" is in known_mcxt.
 */
static struct
{
	bool		valid;
	Oid			keys;
	Oid			index;			/* the primary key's */
	IndexInfo  *info;			/* of it, if it is the only index, or NULL */
}			known;
static MemoryContext known_mcxt = NULL;

/* ringfence.idempotency_retention, in seconds */
static int	default_retention = 86400;

/* ringfence.idempotency_max_response, in bytes */
static int	max_response = 1024 * 1024;

/* --- The table --- */

/*
 * Is the table as core made it? More columns may have been added, but none that
 * needs a value.
 */
static bool
has_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION || desc->natts < KEY_COLUMNS)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (i >= KEY_COLUMNS ?
			!att->attisdropped && (att->attnotnull || att->attgenerated) :
			att->attisdropped || att->atttypid != columns[i].type ||
			strcmp(NameStr(att->attname), columns[i].name) != 0)
			return false;
	}
	return true;
}

/*
 * Knows the primary key, if it is the id's, and whether it is the only index:
 * then its entries are made without the executor.
 */
static bool
learn_index(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	Relation	index;
	MemoryContext old;
	bool		is_of_id;

	known.index = rf_primary_key_index(rel);
	known.info = NULL;
	MemoryContextReset(known_mcxt);
	if (!OidIsValid(known.index))
		return false;
	index = index_open(known.index, AccessShareLock);
	is_of_id = index->rd_index->indnkeyatts == 1 &&
		index->rd_index->indkey.values[0] == KEY_ID + 1;
	old = MemoryContextSwitchTo(known_mcxt);
	if (is_of_id && list_length(indexes) == 1 &&
		index->rd_index->indnatts == 1 && index->rd_index->indimmediate)
		known.info = BuildIndexInfo(index);
	MemoryContextSwitchTo(old);
	index_close(index, AccessShareLock);
	return is_of_id;
}

/*
 * Learns what is to be known of the table, which is locked: nobody changes its
 * columns or its key meanwhile, and who adds an index waits for us before they
 * need its entries.
 */
static void
learn_table(Relation rel)
{
	known.keys = RelationGetRelid(rel);
	if (!has_columns(rel) || !learn_index(rel))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not as core makes it",
						RelationGetRelationName(rel)),
				 errdetail("Its columns, their order, or its primary key have been changed, or a column was added that needs a value.")));
	known.valid = true;
}

/*
 * Opens the table for writing; its lock ends with the transaction. An error if
 * core hasn't made it.
 */
static Relation
open_keys(void)
{
	Relation	rel;

	if (known.valid)
	{
		rel = try_relation_open(known.keys, RowExclusiveLock);
		if (rel != NULL && known.valid)
			return rel;
		if (rel != NULL)
			relation_close(rel, NoLock);
	}
	rel = rf_directory_open("idempotency_keys", RowExclusiveLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no table for idempotency keys in this database"),
				 errhint("Its superuser runs CREATE EXTENSION ringfence and SELECT ringfence.install('core').")));
	learn_table(rel);
	return rel;
}

/* --- Records --- */

static char *
text_or_null(const Datum *values, const bool *nulls, int column)
{
	return nulls[column] ? NULL : TextDatumGetCString(values[column]);
}

/* Reads a record; false if its time is over. */
static bool
read_record(RfKeyUse *use, HeapTuple tuple, RfHash *fingerprint,
			RfAnswer *answer)
{
	int			natts = RelationGetDescr(use->keys)->natts;
	Datum	   *values = palloc(natts * sizeof(Datum));
	bool	   *nulls = palloc(natts * sizeof(bool));
	bytea	   *bytes;

	heap_deform_tuple(tuple, RelationGetDescr(use->keys), values, nulls);
	if (DatumGetTimestampTz(values[KEY_EXPIRES_AT]) <=
		GetCurrentStatementStartTimestamp())
		return false;

	bytes = DatumGetByteaPP(values[KEY_FINGERPRINT]);
	memset(fingerprint, 0, sizeof(*fingerprint));
	memcpy(fingerprint, VARDATA_ANY(bytes),
		   Min(VARSIZE_ANY_EXHDR(bytes), sizeof(*fingerprint)));
	answer->status = text_or_null(values, nulls, KEY_STATUS);
	answer->headers = text_or_null(values, nulls, KEY_HEADERS);
	answer->processed = DatumGetInt64(values[KEY_PROCESSED]);
	answer->complete = DatumGetBool(values[KEY_COMPLETE]);
	answer->response = nulls[KEY_RESPONSE] ? NULL :
		DatumGetByteaPCopy(values[KEY_RESPONSE]);
	return true;
}

/*
 * Opens the table and looks for the key's record. What it says is copied into
 * the current memory context. One past its time is as good as none, but has to
 * be removed.
 */
bool
rf_key_find(RfKeyUse *use, RfHash *fingerprint, RfAnswer *answer)
{
	IndexScanDesc scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	bool		found = false;

	use->keys = open_keys();
	use->index = index_open(known.index, RowExclusiveLock);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(use->keys),
									&TTSOpsBufferHeapTuple);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum((pg_uuid_t *) &use->id));
	scan = rf_index_beginscan(use->keys, use->index, SnapshotSelf, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

		found = read_record(use, tuple, fingerprint, answer);
		use->expired = !found;
		use->tid = tuple->t_self;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	if (!found)
		use->endpoint = rf_endpoint(use->method, use->path);
	return found;
}

/* How many bytes of rows are recorded for a key that wasn't found. */
int
rf_key_answer_limit(const RfKeyUse *use)
{
	return use->endpoint.answers ? max_response : 0;
}

/*
 * Removes the record past its time, to make room for another. False if
 * somebody has changed it meanwhile; it is as well if it is gone. Waits for
 * whoever has it locked. Its place can't have been taken by another row: the
 * statement's snapshot is older than any deletion.
 */
bool
rf_key_remove_expired(RfKeyUse *use)
{
	TM_FailureData failure;

	switch (heap_delete(use->keys, &use->tid, GetCurrentCommandId(true),
						InvalidSnapshot, true, &failure, false))
	{
		case TM_Ok:
		case TM_Deleted:
		case TM_SelfModified:
			return true;
		default:
			return false;
	}
}

/* Adds the record and its index entry, by the executor if a DBA added more. */
static void
insert_record(RfKeyUse *use, HeapTuple tuple)
{
	Datum		value = UUIDPGetDatum((pg_uuid_t *) &use->id);
	bool		isnull = false;

	if (!known.valid || known.info == NULL)
	{
		rf_table_insert(use->keys, tuple);
		return;
	}
	simple_heap_insert(use->keys, tuple);
	rf_table_index_entry(use->keys, use->index, known.info, &value, &isnull,
						 &tuple->t_self);
}

static TimestampTz
expiry(const RfKeyUse *use, TimestampTz now)
{
	if (!use->endpoint.has_retention)
		return TimestampTzPlusMilliseconds(now,
										   default_retention * INT64CONST(1000));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(now),
												   IntervalPGetDatum(&use->endpoint.retention)));
}

static void
set_value(Datum *values, bool *nulls, int column, Datum value)
{
	values[column] = value;
	nulls[column] = false;
}

/* Records what the key's statement answered, in this transaction. */
void
rf_key_add(RfKeyUse *use, const RfAnswer *answer)
{
	TupleDesc	desc = RelationGetDescr(use->keys);
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	const RfIdentity *identity = use->identity;
	TimestampTz now = GetCurrentTimestamp();

	memset(nulls, true, desc->natts * sizeof(bool));
	set_value(values, nulls, KEY_ID, UUIDPGetDatum((pg_uuid_t *) &use->id));
	if (identity != NULL && identity->has_org)
		set_value(values, nulls, KEY_ORG_ID, PointerGetDatum(&identity->org));
	if (identity != NULL && identity->has_user)
		set_value(values, nulls, KEY_USER_ID, PointerGetDatum(&identity->user));
	set_value(values, nulls, KEY_KEY, CStringGetTextDatum(use->key));
	set_value(values, nulls, KEY_METHOD, CStringGetTextDatum(use->method));
	set_value(values, nulls, KEY_PATH, CStringGetTextDatum(use->path));
	set_value(values, nulls, KEY_FINGERPRINT,
			  rf_bytea(use->fingerprint.data, sizeof(RfHash)));
	set_value(values, nulls, KEY_CREATED_AT, TimestampTzGetDatum(now));
	set_value(values, nulls, KEY_EXPIRES_AT,
			  TimestampTzGetDatum(expiry(use, now)));
	if (answer->status != NULL)
		set_value(values, nulls, KEY_STATUS,
				  CStringGetTextDatum(answer->status));
	if (answer->headers != NULL)
		set_value(values, nulls, KEY_HEADERS,
				  CStringGetTextDatum(answer->headers));
	set_value(values, nulls, KEY_PROCESSED, Int64GetDatum(answer->processed));
	set_value(values, nulls, KEY_COMPLETE, BoolGetDatum(answer->complete));
	if (answer->response != NULL)
		set_value(values, nulls, KEY_RESPONSE,
				  PointerGetDatum(answer->response));

	insert_record(use, heap_form_tuple(desc, values, nulls));
}

/* Ends the use; the lock on the key stays until the transaction ends. */
void
rf_key_end(RfKeyUse *use)
{
	index_close(use->index, NoLock);
	relation_close(use->keys, NoLock);
	use->keys = use->index = NULL;
}

/* --- Callbacks --- */

static void
relation_changed(Datum arg, Oid relid)
{
	(void) arg;
	if (relid == InvalidOid || relid == known.keys || relid == known.index)
		known.valid = false;
}

/*
 * Registers the settings and the callback. Called once, from
 * rf_idempotency_init().
 */
void
rf_key_table_init(void)
{
	known_mcxt = AllocSetContextCreate(TopMemoryContext,
									   "ringfence idempotency table",
									   ALLOCSET_SMALL_SIZES);
	DefineCustomIntVariable("ringfence.idempotency_max_response",
							"Largest result that is recorded under an idempotency key.",
							NULL, &max_response, 1024 * 1024, 0,
							256 * 1024 * 1024, PGC_SUSET,
							GUC_UNIT_BYTE | GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("ringfence.idempotency_retention",
							"How long an idempotency key is kept, where its endpoint has no time of its own.",
							NULL, &default_retention, 86400, 1, INT_MAX,
							PGC_SUSET, GUC_UNIT_S | GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}
