/*
 * audit_log.c: records on their way into the audit log.
 *
 * Records wait in a buffer and are written many at a time: when a statement
 * ends, when the buffer is full, when a subtransaction ends, and before the
 * transaction commits or is prepared. So a record stands under the
 * subtransaction that it is of, the next statement sees it, and none is left
 * behind; a transaction that aborts drops what it has. A statement may run
 * amid another one's row triggers and in a subtransaction of its own, so there
 * is a stack of buffers, one a subtransaction that has records.
 *
 * Memory: the first buffer of a transaction is kept for the next one; others
 * live in buffer_mcxt, which is reset when the transaction ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit.h"

/* A buffer is written when it has RF_AUDIT_BATCH records, or so many bytes. */
#define BUFFER_BYTES (1024 * 1024)

typedef struct AuditBuffer
{
	SubTransactionId subid;
	int			n;
	Size		bytes;
	HeapTuple	tuples[RF_AUDIT_BATCH];
	TimestampTz times[RF_AUDIT_BATCH];
	MemoryContext mcxt;			/* of the tuples */
	struct AuditBuffer *parent;
} AuditBuffer;

/* The innermost buffer; NULL where no record waits. */
static AuditBuffer *buffers = NULL;
static AuditBuffer first;
static bool first_in_use = false;
static MemoryContext buffer_mcxt = NULL;	/* of all but the first */

/* Writes a buffer's records. */
static void
write_buffer(AuditBuffer *buffer)
{
	MemoryContext old = MemoryContextSwitchTo(buffer->mcxt);
	bool		pushed_snapshot = !ActiveSnapshotSet();
	int			done = 0;

	if (pushed_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	while (done < buffer->n)
		done += rf_audit_insert(buffer->tuples + done, buffer->times + done,
								buffer->n - done);
	if (pushed_snapshot)
		PopActiveSnapshot();
	MemoryContextSwitchTo(old);
}

/* --- Buffers --- */

static AuditBuffer *
push_buffer(SubTransactionId subid)
{
	AuditBuffer *buffer = &first;

	if (first_in_use)
	{
		buffer = MemoryContextAlloc(buffer_mcxt, sizeof(AuditBuffer));
		buffer->mcxt = AllocSetContextCreate(buffer_mcxt, "ringfence audit records",
											 ALLOCSET_DEFAULT_SIZES);
	}
	else
		first_in_use = true;
	buffer->subid = subid;
	buffer->n = 0;
	buffer->bytes = 0;
	buffer->parent = buffers;
	buffers = buffer;
	return buffer;
}

/* Takes the innermost buffer off the stack. */
static AuditBuffer *
pop_buffer(void)
{
	AuditBuffer *buffer = buffers;

	buffers = buffer->parent;
	return buffer;
}

static void
free_buffer(AuditBuffer *buffer)
{
	if (buffer == &first)
	{
		MemoryContextReset(first.mcxt);
		first_in_use = false;
	}
	else
	{
		MemoryContextDelete(buffer->mcxt);
		pfree(buffer);
	}
}

/*
 * The buffer is off the stack while it is written: making a partition is a
 * statement too, at whose end this is called again.
 */
static void
flush_innermost(void)
{
	AuditBuffer *buffer = pop_buffer();

	write_buffer(buffer);
	free_buffer(buffer);
}

/*
 * Adds a record: the caller has set what is about the change, the rest is filled
 * in here. It is written at the latest before its transaction commits. Returns
 * its id. May throw: 55000 if there is no audit log.
 */
RfUuid
rf_audit_append(RfAuditRecord *record)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	AuditBuffer *buffer = buffers != NULL && buffers->subid == subid ?
	buffers : push_buffer(subid);
	MemoryContext old;
	HeapTuple	tuple;
	RfUuid		id;
	TimestampTz time;

	rf_uuid7(&id);
	time = rf_uuid7_time(&id);
	record->values[AUDIT_ID] = UUIDPGetDatum((pg_uuid_t *) &id);
	record->values[AUDIT_RECORDED_AT] = TimestampTzGetDatum(time);
	record->values[AUDIT_TRANSACTION_ID] =
		Int64GetDatum((int64) U64FromFullTransactionId(GetTopFullTransactionId()));
	record->values[AUDIT_INCARNATION] = Int32GetDatum(rf_audit_incarnation());
	for (int i = AUDIT_ID; i <= AUDIT_INCARNATION; i++)
		record->nulls[i] = false;

	old = MemoryContextSwitchTo(buffer->mcxt);
	tuple = rf_audit_form(record);
	MemoryContextSwitchTo(old);
	buffer->tuples[buffer->n] = tuple;
	buffer->times[buffer->n++] = time;
	buffer->bytes += tuple->t_len;
	if (buffer->n == RF_AUDIT_BATCH || buffer->bytes >= BUFFER_BYTES)
		flush_innermost();
	return id;
}

/* Writes what waits, as far as it is of the current subtransaction. */
void
rf_audit_flush(void)
{
	if (unlikely(buffers != NULL) &&
		buffers->subid == GetCurrentSubTransactionId())
		flush_innermost();
}

/* --- Callbacks --- */

static void
forget_transaction(void)
{
	if (first_in_use)
		free_buffer(&first);
	MemoryContextReset(buffer_mcxt);
	buffers = NULL;
}

static void
log_at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			rf_audit_flush();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget_transaction();
			break;
		default:
			break;
	}
}

static void
log_at_subxact_end(SubXactEvent event, SubTransactionId my_subid,
				   SubTransactionId parent_subid, void *arg)
{
	(void) parent_subid;
	(void) arg;
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		rf_audit_flush();
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (buffers != NULL && buffers->subid >= my_subid)
			free_buffer(pop_buffer());
	}
}

/* Registers callbacks. Called once, from rf_audit_init(). */
void
rf_audit_log_init(void)
{
	buffer_mcxt = AllocSetContextCreate(TopMemoryContext,
										"ringfence audit buffers",
										ALLOCSET_DEFAULT_SIZES);
	first.mcxt = AllocSetContextCreate(TopMemoryContext,
									   "ringfence audit records",
									   ALLOCSET_DEFAULT_SIZES);
	RegisterXactCallback(log_at_xact_end, NULL);
	RegisterSubXactCallback(log_at_subxact_end, NULL);
}
