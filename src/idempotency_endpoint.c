/*
 * idempotency_endpoint.c: what is said of endpoints.
 *
 * Two small tables say which endpoints take no request without a key, and how
 * their keys are kept. Every write asks, so their rows are remembered until one
 * of the tables changes: a trigger on them has all sessions told, as they are of
 * a relation's new definition. Where core hasn't made them nothing is said, and
 * nothing remembered.
 *
 * Memory: the rows live in endpoint_mcxt, which is reset before they are read
 * anew.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "idempotency.h"

PG_FUNCTION_INFO_V1(ringfence_idempotency_changed);

/* Room for a method, a space and a path of the longest kind that is listed. */
#define NAME_BYTES 1024
#define MAX_ATTEMPTS 10

typedef struct KnownEndpoint
{
	char		name[NAME_BYTES];	/* "POST /payments" */
	RfEndpoint	endpoint;
} KnownEndpoint;

/* Void when "valid" is reset by relation_changed(), which "changes" counts. */
static struct
{
	bool		valid;
	uint64		changes;
	Oid			required;		/* the tables */
	Oid			retention;
	HTAB	   *names;
}			known;
static MemoryContext endpoint_mcxt = NULL;

static bool
make_name(char *name, const char *method, const char *path)
{
	return snprintf(name, NAME_BYTES, "%s %s", method, path) < NAME_BYTES;
}

static char *
text_column(Relation rel, HeapTuple tuple, const char *column)
{
	AttrNumber	attno = rf_directory_column(rel, column, TEXTOID);
	bool		isnull = true;
	Datum		value = 0;

	if (attno != InvalidAttrNumber)
		value = heap_getattr(tuple, attno, RelationGetDescr(rel), &isnull);
	return isnull ? NULL : TextDatumGetCString(value);
}

static void
read_required(RfEndpoint *endpoint, Relation rel, HeapTuple tuple)
{
	(void) rel;
	(void) tuple;
	endpoint->required = true;
}

static void
read_retention(RfEndpoint *endpoint, Relation rel, HeapTuple tuple)
{
	AttrNumber	retention = rf_directory_column(rel, "retention", INTERVALOID);
	AttrNumber	answers = rf_directory_column(rel, "answers", BOOLOID);
	bool		isnull;
	Datum		value;

	if (retention == InvalidAttrNumber || answers == InvalidAttrNumber)
		return;
	value = heap_getattr(tuple, answers, RelationGetDescr(rel), &isnull);
	endpoint->answers = isnull || DatumGetBool(value);
	value = heap_getattr(tuple, retention, RelationGetDescr(rel), &isnull);
	endpoint->has_retention = !isnull;
	if (!isnull)
		endpoint->retention = *DatumGetIntervalP(value);
}

/*
 * Reads a table. "relid" is its OID, or InvalidOid if there is none: set before
 * anything is read, so that a change of it is noticed from then on.
 */
static void
read_table(const char *table, Oid *relid,
		   void (*read) (RfEndpoint *endpoint, Relation rel, HeapTuple tuple))
{
	Relation	rel = rf_directory_open(table, AccessShareLock);
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	*relid = rel != NULL ? RelationGetRelid(rel) : InvalidOid;
	if (rel == NULL)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char	   *method = text_column(rel, tuple, "method");
		char	   *path = text_column(rel, tuple, "path");
		char		name[NAME_BYTES];
		KnownEndpoint *entry;
		bool		found;

		if (method == NULL || path == NULL || !make_name(name, method, path))
			continue;
		entry = hash_search(known.names, name, HASH_ENTER, &found);
		if (!found)
		{
			memset(&entry->endpoint, 0, sizeof(entry->endpoint));
			entry->endpoint.answers = true;
		}
		read(&entry->endpoint, rel, tuple);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	relation_close(rel, AccessShareLock);
}

static void
make_names(void)
{
	HASHCTL		control = {0};

	MemoryContextReset(endpoint_mcxt);
	control.keysize = NAME_BYTES;
	control.entrysize = sizeof(KnownEndpoint);
	control.hcxt = endpoint_mcxt;
	known.names = hash_create("ringfence endpoints", 16, &control,
							  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* Reads both tables, until neither has changed meanwhile. */
static void
learn(void)
{
	for (int attempt = 0; attempt < MAX_ATTEMPTS && !known.valid; attempt++)
	{
		uint64		changes = known.changes;

		make_names();
		read_table("idempotency_required", &known.required, read_required);
		read_table("idempotency_retention", &known.retention, read_retention);
		known.valid = changes == known.changes &&
			OidIsValid(known.required) && OidIsValid(known.retention);
		if (!OidIsValid(known.required) || !OidIsValid(known.retention))
			break;
	}
}

/* What is said of an endpoint, if only that answers are kept. */
RfEndpoint
rf_endpoint(const char *method, const char *path)
{
	RfEndpoint	nothing = {.answers = true};
	KnownEndpoint *entry = NULL;
	char		name[NAME_BYTES];

	if (!known.valid)
		learn();
	if (make_name(name, method, path))
		entry = hash_search(known.names, name, HASH_FIND, NULL);
	return entry != NULL ? entry->endpoint : nothing;
}

/* --- Invalidation --- */

/* A trigger for each statement on the two tables. */
Datum
ringfence_idempotency_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s must be called as a trigger",
						"ringfence.idempotency_changed()")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

static void
relation_changed(Datum arg, Oid relid)
{
	(void) arg;
	if (relid == InvalidOid || relid == known.required ||
		relid == known.retention)
	{
		known.valid = false;
		known.changes++;
	}
}

/* Registers the callback. Called once, from rf_idempotency_init(). */
void
rf_endpoint_init(void)
{
	endpoint_mcxt = AllocSetContextCreate(TopMemoryContext,
										  "ringfence endpoints",
										  ALLOCSET_SMALL_SIZES);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}
