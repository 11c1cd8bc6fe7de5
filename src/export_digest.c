/*
 * export_digest.c: what all parts of an export are together, read one at a time;
 * and the lock under which exports of an organization are started.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_extension_d.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/uuid.h"

#include "compat.h"
#include "digest.h"
#include "ringfence.h"

PG_FUNCTION_INFO_V1(ringfence_export_digest);
PG_FUNCTION_INFO_V1(ringfence_lock_exports);

typedef struct Whole
{
	RfDigest   *digest;
	int64		rows;
	int64		bytes;
	int32		parts;
} Whole;

/* Adds the part that was fetched, in a memory that is emptied after each. */
static void
add_part(Whole *whole)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	HeapTuple	tuple = SPI_tuptable->vals[0];
	bool		isnull;
	bytea	   *data;

	if (DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull)) != whole->parts + 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("part %d of the export is missing", whole->parts + 1)));
	data = DatumGetByteaPP(SPI_getbinval(tuple, desc, 3, &isnull));
	rf_digest_add(whole->digest, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	whole->rows += DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
	whole->bytes += VARSIZE_ANY_EXHDR(data);
	whole->parts++;
}

static void
add_parts(Datum org, Datum export, Whole *whole)
{
	Oid			types[] = {UUIDOID, UUIDOID};
	Datum		values[] = {org, export};
	MemoryContext part_mcxt = AllocSetContextCreate(CurrentMemoryContext,
													"ringfence export part",
													ALLOCSET_DEFAULT_SIZES);
	Portal		portal = SPI_cursor_open_with_args(NULL,
												   "SELECT p.part, p.rows, p.data FROM ringfence_data.export_parts AS p"
												   " WHERE p.org_id OPERATOR(pg_catalog.=) $1 AND p.export_id OPERATOR(pg_catalog.=) $2"
												   " ORDER BY p.part",
												   lengthof(types), types,
												   values, NULL, false,
												   CURSOR_OPT_NO_SCROLL);

	for (;;)
	{
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, 1);
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(part_mcxt);
		add_part(whole);
		MemoryContextSwitchTo(old);
		MemoryContextReset(part_mcxt);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

/* export_digest(org uuid, export uuid) */
Datum
ringfence_export_digest(PG_FUNCTION_ARGS)
{
	MemoryContext mcxt = CurrentMemoryContext;
	Whole		whole = {NULL};
	RfHash		hash;
	TupleDesc	desc;
	bytea	   *sha256 = palloc(VARHDRSZ + RF_HASH_BYTES);
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	whole.digest = rf_digest_create(mcxt);
	rf_digest_begin(whole.digest);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	add_parts(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), &whole);
	SPI_finish();
	rf_digest_end(whole.digest, &hash);
	SET_VARSIZE(sha256, VARHDRSZ + RF_HASH_BYTES);
	memcpy(VARDATA(sha256), hash.data, RF_HASH_BYTES);
	values[0] = PointerGetDatum(sha256);
	values[1] = Int64GetDatum(whole.rows);
	values[2] = Int64GetDatum(whole.bytes);
	values[3] = Int32GetDatum(whole.parts);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* lock_exports(org uuid) */
Datum
ringfence_lock_exports(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *org = PG_GETARG_UUID_P(0);
	LOCKTAG		tag;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot start exports on a standby"),
				 errhint("Connect to the primary.")));
	/* As a job's lock, but of another number, and the transaction's. */
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId,
					   hash_bytes(org->data, UUID_LEN), 2);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	PG_RETURN_VOID();
}
