/*
 * audit_incarnation.c: which server a transaction's number counts in.
 *
 * Records keep the number of their transaction, by which audit_seal() knows what
 * a block covers. Numbers go on in the same cluster and start over in another:
 * a restored dump, or pg_upgrade. So the table audit_incarnations lists the
 * system identifiers of the clusters that the database has lived in, and a record
 * says which of them it was written in.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apart.h"
#include "audit.h"
#include "table.h"

#define INCARNATIONS "audit_incarnations"

/* The current incarnation, 0 while unknown; own_row until that has committed. */
static struct
{
	int			number;
	Oid			relid;			/* of the table */
	bool		own_row;
}			incarnation;

enum
{
	INCARNATIONS_NUMBER = 1,
	INCARNATIONS_SYSTEM,
	INCARNATIONS_STARTED_AT,
	INCARNATIONS_NATTS = INCARNATIONS_STARTED_AT,
};

static void
newest_incarnation(Relation rel, int *number, uint64 *identifier)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	HeapTuple	tuple;
	bool		isnull;

	*number = 0;
	*identifier = 0;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		int			n = DatumGetInt32(heap_getattr(tuple, INCARNATIONS_NUMBER,
												   RelationGetDescr(rel),
												   &isnull));

		if (n <= *number)
			continue;
		*number = n;
		*identifier = (uint64) DatumGetInt64(heap_getattr(tuple, INCARNATIONS_SYSTEM,
														  RelationGetDescr(rel),
														  &isnull));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
}

static void
add_incarnation(Relation rel, int number)
{
	Datum		values[INCARNATIONS_NATTS];
	bool		nulls[INCARNATIONS_NATTS] = {false};

	values[INCARNATIONS_NUMBER - 1] = Int32GetDatum(number);
	values[INCARNATIONS_SYSTEM - 1] = Int64GetDatum((int64) GetSystemIdentifier());
	values[INCARNATIONS_STARTED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	rf_table_insert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
}

/* Adds the row of this cluster unless another session did meanwhile. */
static int
enter_cluster(Relation rel)
{
	int			number;
	uint64		identifier;

	LockRelation(rel, ShareRowExclusiveLock);
	newest_incarnation(rel, &number, &identifier);
	if (number == 0 || identifier != GetSystemIdentifier())
	{
		add_incarnation(rel, ++number);
		incarnation.own_row = true;
	}
	return number;
}

static Relation
open_incarnations(void)
{
	Relation	rel = rf_directory_open(INCARNATIONS, AccessShareLock);

	if (rel == NULL || RelationGetDescr(rel)->natts != INCARNATIONS_NATTS ||
		rf_audit_column(rel, "number", INT4OID) != INCARNATIONS_NUMBER ||
		rf_audit_column(rel, "system_identifier", INT8OID) != INCARNATIONS_SYSTEM ||
		rf_audit_column(rel, "started_at", TIMESTAMPTZOID) != INCARNATIONS_STARTED_AT)
		rf_audit_missing();
	return rel;
}

static void
enter_cluster_apart(RfApart *apart)
{
	Relation	rel;

	(void) apart;
	StartTransactionCommand();
	rf_apart_become_owner();
	rel = open_incarnations();
	(void) enter_cluster(rel);
	table_close(rel, NoLock);
	rf_apart_become_superuser();
	CommitTransactionCommand();
}

/* The worker. */
void
rf_audit_incarnation_main(Datum main_arg)
{
	dsm_segment *segment = rf_apart_attach(main_arg,
										   "recording the cluster of the audit log");

	rf_apart_record(segment, enter_cluster_apart);
	proc_exit(0);
}

/*
 * Which of the clusters that the database lived in this one is. The first
 * transaction to ask in another one than the last has a worker add a row, so
 * that nobody has to wait for its end; where there is none at all, core is being
 * installed, and the row is that transaction's. May throw: 53000 if no worker is
 * to be had.
 */
int
rf_audit_incarnation(void)
{
	Relation	rel;
	int			number;
	uint64		identifier;

	if (likely(incarnation.number != 0))
		return incarnation.number;

	rel = open_incarnations();
	newest_incarnation(rel, &number, &identifier);
	if (number == 0)
		number = enter_cluster(rel);
	else if (identifier != GetSystemIdentifier())
	{
		dsm_segment *segment = rf_apart_segment(sizeof(RfApart));

		rf_apart_run(segment, "rf_audit_incarnation_main",
					 "ringfence audit cluster", "the cluster of the audit log");
		dsm_detach(segment);
		newest_incarnation(rel, &number, &identifier);
	}
	incarnation.number = number;
	incarnation.relid = RelationGetRelid(rel);
	/* A lock taken for a new row stays until that is there for all. */
	table_close(rel, NoLock);
	return number;
}

/* --- Callbacks --- */

/* A row that was rolled back is no incarnation. */
static void
incarnation_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	if (!incarnation.own_row)
		return;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		incarnation.number = 0;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE ||
		event == XACT_EVENT_COMMIT)
		incarnation.own_row = false;
}

static void
incarnation_at_subxact_end(SubXactEvent event, SubTransactionId my_subid,
						   SubTransactionId parent_subid, void *arg)
{
	(void) my_subid;
	(void) parent_subid;
	(void) arg;
	if (event == SUBXACT_EVENT_ABORT_SUB && incarnation.own_row)
		incarnation.number = 0;
}

/* The table may have been dropped and made again. */
static void
relation_changed(Datum arg, Oid relid)
{
	(void) arg;
	if (relid == InvalidOid || relid == incarnation.relid)
		incarnation.number = 0;
}

/* Registers callbacks. Called once, from rf_audit_init(). */
void
rf_audit_incarnation_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterXactCallback(incarnation_at_xact_end, NULL);
	RegisterSubXactCallback(incarnation_at_subxact_end, NULL);
}
