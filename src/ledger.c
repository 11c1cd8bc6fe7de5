/*
 * ledger.c: the ledger's functions, as SQL calls them.
 *
 * The organization is that of the context, which no argument can change;
 * accounts and transfers of others are not found. Who may call these is said by
 * GRANT: whoever may, may move any money of the organization.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "compat.h"
#include "ledger.h"
#include "subxact.h"
#include "table.h"

PG_FUNCTION_INFO_V1(ringfence_expire_pending);
PG_FUNCTION_INFO_V1(ringfence_ledger_account_opened);
PG_FUNCTION_INFO_V1(ringfence_ledger_lock);
PG_FUNCTION_INFO_V1(ringfence_post_pending);
PG_FUNCTION_INFO_V1(ringfence_reverse);
PG_FUNCTION_INFO_V1(ringfence_transfer);
PG_FUNCTION_INFO_V1(ringfence_transfers);
PG_FUNCTION_INFO_V1(ringfence_void_pending);

/* Columns of the type ringfence.transfer. */
enum
{
	INPUT_ID,
	INPUT_DEBIT_ACCOUNT_ID,
	INPUT_CREDIT_ACCOUNT_ID,
	INPUT_AMOUNT,
	INPUT_ASSET,
	INPUT_KIND,
	INPUT_STATE,
	INPUT_PENDING_ID,
	INPUT_TIMEOUT,
	INPUT_POSTED_AT,
	INPUT_REFERENCE,
	INPUT_METADATA,
	INPUT_LINKED,
	INPUT_COLUMNS
};

static const Oid input_types[INPUT_COLUMNS] = {
	[INPUT_ID] = UUIDOID,
	[INPUT_DEBIT_ACCOUNT_ID] = UUIDOID,
	[INPUT_CREDIT_ACCOUNT_ID] = UUIDOID,
	[INPUT_AMOUNT] = INT8OID,
	[INPUT_ASSET] = TEXTOID,
	[INPUT_KIND] = TEXTOID,
	[INPUT_STATE] = TEXTOID,
	[INPUT_PENDING_ID] = UUIDOID,
	[INPUT_TIMEOUT] = INTERVALOID,
	[INPUT_POSTED_AT] = TIMESTAMPTZOID,
	[INPUT_REFERENCE] = TEXTOID,
	[INPUT_METADATA] = JSONBOID,
	[INPUT_LINKED] = BOOLOID,
};

static const Oid result_types[] = {INT4OID, UUIDOID, TEXTOID};

/* --- Postings --- */

/*
 * Begins a batch of "n" transfers in the organization of the context, which are
 * empty.
 */
static void
begin_posting(RfPosting *posting, const char *function, int n)
{
	const RfIdentity *identity = rf_context();

	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
	if (identity == NULL || !identity->has_org)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("no organization is set for this transaction"),
				 errhint("Call %s or %s first.", "ringfence.sign_in()",
						 "ringfence.enter_org()")));
	memset(posting, 0, sizeof(*posting));
	posting->org = identity->org;
	posting->actor = identity->has_user ? &identity->user : NULL;
	posting->n = n;
	posting->transfers = palloc_extended(n * sizeof(RfTransfer),
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
set_uuid(RfUuid *uuid, bool *present, Datum value, bool isnull)
{
	if (!isnull)
		memcpy(uuid, DatumGetUUIDP(value), sizeof(*uuid));
	if (present != NULL)
		*present = !isnull;
}

/* Gives a transfer its id, or a new one. */
static void
set_id(RfTransfer *transfer, Datum value, bool isnull)
{
	set_uuid(&transfer->id, NULL, value, isnull);
	transfer->own_id = isnull;
	if (isnull)
		rf_uuid7(&transfer->id);
}

static text *
text_or_null(Datum value, bool isnull)
{
	return isnull ? NULL : DatumGetTextPP(value);
}

/* Posts the one transfer that there is; an error if it is refused. */
static Datum
post_one(RfPosting *posting)
{
	RfTransfer *transfer = &posting->transfers[0];

	rf_ledger_post(posting);
	if (transfer->code != RF_OK && transfer->code != RF_EXISTS)
		rf_transfer_refuse(transfer->code);
	return UUIDPGetDatum((pg_uuid_t *) &transfer->id);
}

/* --- Many --- */

/* Reads a transfer as the array has it. */
static void
read_input(RfTransfer *transfer, const Datum *values, const bool *nulls)
{
	set_id(transfer, values[INPUT_ID], nulls[INPUT_ID]);
	set_uuid(&transfer->debit, &transfer->has_debit,
			 values[INPUT_DEBIT_ACCOUNT_ID], nulls[INPUT_DEBIT_ACCOUNT_ID]);
	set_uuid(&transfer->credit, &transfer->has_credit,
			 values[INPUT_CREDIT_ACCOUNT_ID], nulls[INPUT_CREDIT_ACCOUNT_ID]);
	set_uuid(&transfer->pending, &transfer->has_pending,
			 values[INPUT_PENDING_ID], nulls[INPUT_PENDING_ID]);
	transfer->has_amount = !nulls[INPUT_AMOUNT];
	if (transfer->has_amount)
		transfer->amount = DatumGetInt64(values[INPUT_AMOUNT]);
	transfer->asset = text_or_null(values[INPUT_ASSET], nulls[INPUT_ASSET]);
	transfer->kind = text_or_null(values[INPUT_KIND], nulls[INPUT_KIND]);
	transfer->state = nulls[INPUT_STATE] ? RF_POSTED :
		rf_transfer_state(DatumGetTextPP(values[INPUT_STATE]));
	/* That is the ledger's own. */
	if (transfer->state == RF_EXPIRED)
		transfer->state = RF_TRANSFER_STATES;
	transfer->timeout = nulls[INPUT_TIMEOUT] ? NULL :
		DatumGetIntervalP(values[INPUT_TIMEOUT]);
	transfer->has_posted_at = !nulls[INPUT_POSTED_AT];
	if (transfer->has_posted_at)
		transfer->posted_at = DatumGetTimestampTz(values[INPUT_POSTED_AT]);
	transfer->reference = text_or_null(values[INPUT_REFERENCE],
									   nulls[INPUT_REFERENCE]);
	transfer->metadata = nulls[INPUT_METADATA] ? NULL :
		DatumGetJsonbP(values[INPUT_METADATA]);
	transfer->linked = !nulls[INPUT_LINKED] &&
		DatumGetBool(values[INPUT_LINKED]);
}

/* Has a type the columns that it was made with? */
static void
check_type(TupleDesc desc, const char *name, const Oid *types, int n)
{
	bool		good = desc->natts == n;

	for (int i = 0; good && i < n; i++)
		good = TupleDescAttr(desc, i)->atttypid == types[i] &&
			!TupleDescAttr(desc, i)->attisdropped;
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("type %s is not as this library knows it", name),
				 errhint("Run ALTER EXTENSION ringfence UPDATE, and reconnect.")));
}

static void
read_inputs(RfPosting *posting, Oid type, const Datum *elements,
			const bool *nulls)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *isnull = palloc(desc->natts * sizeof(bool));

	check_type(desc, "ringfence.transfer", input_types, INPUT_COLUMNS);
	for (int i = 0; i < posting->n; i++)
	{
		memset(isnull, true, desc->natts * sizeof(bool));
		if (!nulls[i])
		{
			HeapTupleHeader header = DatumGetHeapTupleHeader(elements[i]);
			HeapTupleData tuple;

			tuple.t_len = HeapTupleHeaderGetDatumLength(header);
			ItemPointerSetInvalid(&tuple.t_self);
			tuple.t_tableOid = InvalidOid;
			tuple.t_data = header;
			heap_deform_tuple(&tuple, desc, values, isnull);
		}
		read_input(&posting->transfers[i], values, isnull);
	}
	ReleaseTupleDesc(desc);
}

static void
return_codes(FunctionCallInfo fcinfo, const RfPosting *posting)
{
	ReturnSetInfo *result;
	Datum		names[RF_TRANSFER_CODES] = {0};
	bool		nulls[] = {false, false, false};

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	check_type(result->setDesc, "ringfence.transfer_result", result_types,
			   lengthof(result_types));
	for (int i = 0; i < posting->n; i++)
	{
		const RfTransfer *transfer = &posting->transfers[i];
		Datum		values[3];

		if (names[transfer->code] == 0)
			names[transfer->code] =
				CStringGetTextDatum(rf_transfer_code_name(transfer->code));
		values[0] = Int32GetDatum(i + 1);
		values[1] = PointerGetDatum(&transfer->id);
		values[2] = names[transfer->code];
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
}

Datum
ringfence_transfers(PG_FUNCTION_ARGS)
{
	RfPosting	posting;
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("transfers must be given")));
	array = PG_GETARG_ARRAYTYPE_P(0);
	n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (n > RF_MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a batch has at most %d transfers", RF_MAX_BATCH),
				 errdetail("This one has %d.", n)));
	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elements, &nulls, &n);
	begin_posting(&posting, "ringfence.transfers()", n);
	read_inputs(&posting, ARR_ELEMTYPE(array), elements, nulls);
	if (n > 0)
		rf_ledger_post(&posting);
	return_codes(fcinfo, &posting);
	return (Datum) 0;
}

/* --- One --- */

Datum
ringfence_transfer(PG_FUNCTION_ARGS)
{
	RfPosting	posting;
	RfTransfer *transfer;

	begin_posting(&posting, "ringfence.transfer()", 1);
	transfer = &posting.transfers[0];
	set_uuid(&transfer->debit, &transfer->has_debit,
			 PG_GETARG_DATUM(0), PG_ARGISNULL(0));
	set_uuid(&transfer->credit, &transfer->has_credit,
			 PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	transfer->has_amount = !PG_ARGISNULL(2);
	if (transfer->has_amount)
		transfer->amount = PG_GETARG_INT64(2);
	transfer->kind = text_or_null(PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	set_id(transfer, PG_GETARG_DATUM(4), PG_ARGISNULL(4));
	transfer->asset = text_or_null(PG_GETARG_DATUM(5), PG_ARGISNULL(5));
	transfer->reference = text_or_null(PG_GETARG_DATUM(6), PG_ARGISNULL(6));
	if (!PG_ARGISNULL(7))
		transfer->metadata = PG_GETARG_JSONB_P(7);
	if (!PG_ARGISNULL(8) && PG_GETARG_BOOL(8))
		transfer->state = RF_PENDING;
	if (!PG_ARGISNULL(9))
		transfer->timeout = PG_GETARG_INTERVAL_P(9);
	transfer->has_posted_at = !PG_ARGISNULL(10);
	if (transfer->has_posted_at)
		transfer->posted_at = PG_GETARG_TIMESTAMPTZ(10);
	return post_one(&posting);
}

static void
begin_resolution(RfPosting *posting, const char *function,
				 FunctionCallInfo fcinfo, RfTransferState state)
{
	RfTransfer *transfer;

	begin_posting(posting, function, 1);
	transfer = &posting->transfers[0];
	if (PG_ARGISNULL(0))
		rf_transfer_refuse(RF_PENDING_NOT_FOUND);
	set_uuid(&transfer->pending, &transfer->has_pending,
			 PG_GETARG_DATUM(0), false);
	transfer->state = state;
}

Datum
ringfence_post_pending(PG_FUNCTION_ARGS)
{
	RfPosting	posting;
	RfTransfer *transfer;

	begin_resolution(&posting, "ringfence.post_pending()", fcinfo, RF_POSTED);
	transfer = &posting.transfers[0];
	transfer->has_amount = !PG_ARGISNULL(1);
	if (transfer->has_amount)
		transfer->amount = PG_GETARG_INT64(1);
	set_id(transfer, PG_GETARG_DATUM(2), PG_ARGISNULL(2));
	transfer->kind = text_or_null(PG_GETARG_DATUM(3), PG_ARGISNULL(3));
	transfer->reference = text_or_null(PG_GETARG_DATUM(4), PG_ARGISNULL(4));
	if (!PG_ARGISNULL(5))
		transfer->metadata = PG_GETARG_JSONB_P(5);
	return post_one(&posting);
}

Datum
ringfence_void_pending(PG_FUNCTION_ARGS)
{
	RfPosting	posting;
	RfTransfer *transfer;

	begin_resolution(&posting, "ringfence.void_pending()", fcinfo, RF_VOIDED);
	transfer = &posting.transfers[0];
	set_id(transfer, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	transfer->reference = text_or_null(PG_GETARG_DATUM(2), PG_ARGISNULL(2));
	if (!PG_ARGISNULL(3))
		transfer->metadata = PG_GETARG_JSONB_P(3);
	return post_one(&posting);
}

Datum
ringfence_reverse(PG_FUNCTION_ARGS)
{
	RfPosting	posting;
	RfTransfer *transfer;

	begin_posting(&posting, "ringfence.reverse()", 1);
	transfer = &posting.transfers[0];
	if (PG_ARGISNULL(0))
		rf_transfer_refuse(RF_TRANSFER_NOT_FOUND);
	if (PG_ARGISNULL(1) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("a reversal needs a reason")));
	set_uuid(&transfer->reverses, &transfer->has_reverses,
			 PG_GETARG_DATUM(0), false);
	transfer->reference = PG_GETARG_TEXT_PP(1);
	set_id(transfer, PG_GETARG_DATUM(2), PG_ARGISNULL(2));
	transfer->kind = cstring_to_text("reversal");
	posting.careful = true;
	return post_one(&posting);
}

/* --- Of all organizations --- */

static int
compare_expired(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(RfExpired));
}

/* Expires holds of one organization, but those in use; how many. */
static int64
expire_holds(const RfExpired *expired, int n)
{
	RfPosting	posting;
	int64		count = 0;

	memset(&posting, 0, sizeof(posting));
	posting.org = expired[0].org;
	posting.passes_over = true;
	posting.n = n;
	posting.transfers = palloc0(n * sizeof(RfTransfer));
	for (int i = 0; i < n; i++)
	{
		RfTransfer *transfer = &posting.transfers[i];

		set_id(transfer, (Datum) 0, true);
		transfer->pending = expired[i].id;
		transfer->has_pending = true;
		transfer->state = RF_EXPIRED;
	}
	rf_ledger_post(&posting);
	for (int i = 0; i < n; i++)
		count += posting.transfers[i].code == RF_OK;
	return count;
}

/*
 * The same; what is wrong with one organization's ledger is a warning, and
 * doesn't keep those of others.
 */
static int64
try_to_expire_holds(const RfExpired *expired, int n)
{
	MemoryContext mcxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int64 count = 0;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(mcxt);
	PG_TRY();
	{
		count = expire_holds(expired, n);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error = rf_subxact_undo(mcxt, owner);

		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED &&
			error->sqlerrcode != ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE)
			ReThrowError(error);
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("pending transfers of organization %s do not expire: %s",
						rf_uuid_text(&expired[0].org), error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(mcxt);
	CurrentResourceOwner = owner;
	return count;
}

/*
 * Organizations are gone through in their order: who else does so waits, and
 * doesn't wait in a circle.
 */
Datum
ringfence_expire_pending(PG_FUNCTION_ARGS)
{
	int32		limit = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	MemoryContext org_mcxt = AllocSetContextCreate(CurrentMemoryContext,
												   "ringfence expired holds",
												   ALLOCSET_DEFAULT_SIZES);
	RfExpired  *expired;
	int64		count = 0;
	int			n;
	int			last;

	PreventCommandIfReadOnly("ringfence.expire_pending()");
	PreventCommandDuringRecovery("ringfence.expire_pending()");
	if (limit < 1 || limit > RF_MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid batch of %d pending transfers", limit),
				 errhint("It is 1 to %d.", RF_MAX_BATCH)));
	n = rf_holds_expired(GetCurrentTimestamp(), limit, &expired);
	qsort(expired, n, sizeof(RfExpired), compare_expired);
	for (int first = 0; first < n; first = last + 1)
	{
		MemoryContext old = MemoryContextSwitchTo(org_mcxt);

		for (last = first; last < n - 1; last++)
			if (rf_uuid_cmp(&expired[last + 1].org, &expired[first].org) != 0)
				break;
		count += try_to_expire_holds(&expired[first], last - first + 1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(org_mcxt);
	}
	MemoryContextDelete(org_mcxt);
	PG_RETURN_INT64(count);
}

/* --- Accounts --- */

/*
 * Locks an organization's ledger against all posting until the transaction
 * ends. What was read before may have changed while it waited, so that it is for
 * those who read anew after it.
 */
Datum
ringfence_ledger_lock(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("an organization must be given")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("rules of the ledger cannot be changed at this isolation level"),
				 errhint("Use READ COMMITTED.")));
	rf_ledger_lock((RfUuid *) PG_GETARG_UUID_P(0), true);
	PG_RETURN_VOID();
}

/* Gives a new account its balance. */
Datum
ringfence_ledger_account_opened(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	balances;
	Relation	accounts;
	Datum	   *values;
	bool	   *nulls;
	HeapTuple	tuple;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as a trigger after INSERT for each row",
						"ledger_account_opened")));
	accounts = rf_ledger_open(RF_LEDGER_ACCOUNTS, AccessShareLock);
	if (RelationGetRelid(accounts) != RelationGetRelid(trigger->tg_relation))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" is for the ledger's accounts alone",
						"ledger_account_opened")));
	relation_close(accounts, NoLock);

	balances = rf_ledger_open(RF_LEDGER_BALANCES, RowExclusiveLock);
	values = palloc0(RelationGetDescr(balances)->natts * sizeof(Datum));
	nulls = palloc(RelationGetDescr(balances)->natts * sizeof(bool));
	memset(nulls, true, RelationGetDescr(balances)->natts * sizeof(bool));
	memset(nulls, false, BALANCE_COLUMNS * sizeof(bool));
	values[BALANCE_ORG_ID] = slot_getattr(trigger->tg_trigslot,
										  ACCOUNT_ORG_ID + 1, &isnull);
	values[BALANCE_ACCOUNT_ID] = slot_getattr(trigger->tg_trigslot,
											  ACCOUNT_ID + 1, &isnull);
	tuple = heap_form_tuple(RelationGetDescr(balances), values, nulls);
	rf_table_insert(balances, tuple);
	relation_close(balances, NoLock);
	return PointerGetDatum(trigger->tg_trigtuple);
}
