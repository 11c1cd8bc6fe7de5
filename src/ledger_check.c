/*
 * ledger_check.c: what can be said of a transfer by itself, and in which words.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ledger.h"

#define MAX_TIMEOUT_YEARS INT64CONST(100)

/* SQLSTATEs that PostgREST takes the HTTP status from. */
#define ERRCODE_NOT_FOUND MAKE_SQLSTATE('P', 'T', '4', '0', '4')
#define ERRCODE_CONFLICT MAKE_SQLSTATE('P', 'T', '4', '0', '9')

static const struct
{
	const char *name;
	int			sqlstate;
	const char *message;
}			codes[RF_TRANSFER_CODES] = {
	[RF_OK] = {"ok", 0, NULL},
	[RF_EXISTS] = {"exists", 0, NULL},
	[RF_EXISTS_DIFFERENT] = {"exists_different", ERRCODE_CONFLICT,
	gettext_noop("there is another transfer of this id")},
	[RF_LINKED_FAILED] = {"linked_failed", ERRCODE_CONFLICT,
	gettext_noop("a transfer that this one is linked with was refused")},
	[RF_LINKED_OPEN] = {"linked_open", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("the last transfer is linked with none")},
	[RF_ACCOUNT_REQUIRED] = {"account_required", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("a transfer needs a debit and a credit account")},
	[RF_ACCOUNTS_SAME] = {"accounts_same", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("debit and credit account are the same")},
	[RF_DEBIT_ACCOUNT_NOT_FOUND] = {"debit_account_not_found", ERRCODE_NOT_FOUND,
	gettext_noop("there is no such debit account")},
	[RF_CREDIT_ACCOUNT_NOT_FOUND] = {"credit_account_not_found", ERRCODE_NOT_FOUND,
	gettext_noop("there is no such credit account")},
	[RF_DEBIT_ACCOUNT_CLOSED] = {"debit_account_closed", ERRCODE_CONFLICT,
	gettext_noop("the debit account is closed")},
	[RF_CREDIT_ACCOUNT_CLOSED] = {"credit_account_closed", ERRCODE_CONFLICT,
	gettext_noop("the credit account is closed")},
	[RF_ASSET_MISMATCH] = {"asset_mismatch", ERRCODE_CONFLICT,
	gettext_noop("the accounts do not both hold that asset")},
	[RF_AMOUNT_INVALID] = {"amount_invalid", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("an amount must be a positive number of minor units")},
	[RF_KIND_INVALID] = {"kind_invalid", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("a kind begins with a lower case letter and has at most 63 of them, digits, underscores and dots")},
	[RF_REFERENCE_INVALID] = {"reference_invalid", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("a reference has 1 to 255 bytes")},
	[RF_METADATA_INVALID] = {"metadata_invalid", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("metadata is a JSON object of at most 8192 bytes")},
	[RF_STATE_INVALID] = {"state_invalid", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("a transfer is posted or pending, or one that posts or voids a pending one")},
	[RF_TIMEOUT_INVALID] = {"timeout_invalid", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("a timeout is positive, at most 100 years, and a pending transfer's")},
	[RF_POSTED_AT_FUTURE] = {"posted_at_future", ERRCODE_INVALID_PARAMETER_VALUE,
	gettext_noop("a transfer cannot be posted in the future")},
	[RF_PERIOD_CLOSED] = {"period_closed", ERRCODE_CONFLICT,
	gettext_noop("the books are closed for that time")},
	[RF_OVERDRAFT] = {"overdraft", ERRCODE_CONFLICT,
	gettext_noop("an account would be overdrawn")},
	[RF_OVERFLOW] = {"overflow", ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
	gettext_noop("an account cannot hold that much")},
	[RF_PENDING_NOT_FOUND] = {"pending_not_found", ERRCODE_NOT_FOUND,
	gettext_noop("there is no such pending transfer")},
	[RF_PENDING_POSTED] = {"pending_posted", ERRCODE_CONFLICT,
	gettext_noop("the pending transfer has been posted")},
	[RF_PENDING_VOIDED] = {"pending_voided", ERRCODE_CONFLICT,
	gettext_noop("the pending transfer has been voided")},
	[RF_PENDING_EXPIRED] = {"pending_expired", ERRCODE_CONFLICT,
	gettext_noop("the pending transfer has expired")},
	[RF_PENDING_DIFFERENT] = {"pending_different", ERRCODE_CONFLICT,
	gettext_noop("the pending transfer has other accounts")},
	[RF_PENDING_EXCEEDED] = {"pending_exceeded", ERRCODE_CONFLICT,
	gettext_noop("the amount is more than the pending transfer's")},
	[RF_TRANSFER_NOT_FOUND] = {"transfer_not_found", ERRCODE_NOT_FOUND,
	gettext_noop("there is no such transfer")},
	[RF_ALREADY_REVERSED] = {"already_reversed", ERRCODE_CONFLICT,
	gettext_noop("the transfer has been reversed")},
	[RF_NOT_REVERSIBLE] = {"not_reversible", ERRCODE_CONFLICT,
	gettext_noop("only a posted transfer that is no reversal can be reversed")},
};

const char *
rf_transfer_code_name(RfTransferCode code)
{
	return codes[code].name;
}

/* Raises the error that a refused transfer is. */
void
rf_transfer_refuse(RfTransferCode code)
{
	ereport(ERROR,
			(errcode(codes[code].sqlstate),
			 errmsg("%s", _(codes[code].message)),
			 errdetail("The ledger refused it: %s.", codes[code].name)));
}

static bool
is_kind(const text *kind)
{
	const char *p = VARDATA_ANY(kind);
	int			len = VARSIZE_ANY_EXHDR(kind);

	if (len < 1 || len > RF_MAX_KIND || p[0] < 'a' || p[0] > 'z')
		return false;
	for (int i = 1; i < len; i++)
		if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= '0' && p[i] <= '9') ||
			  p[i] == '_' || p[i] == '.'))
			return false;
	return true;
}

static bool
is_metadata(Jsonb *metadata)
{
	char	   *string;
	bool		fits;

	if (!JB_ROOT_IS_OBJECT(metadata))
		return false;
	string = JsonbToCString(NULL, &metadata->root, VARSIZE(metadata));
	fits = strlen(string) <= RF_MAX_METADATA;
	pfree(string);
	return fits;
}

/*
 * The end of a hold that is recorded at that moment: DT_NOEND if it has none,
 * DT_NOBEGIN if the timeout is none.
 */
TimestampTz
rf_transfer_expiry(const RfTransfer *transfer, TimestampTz recorded_at)
{
	const Interval *timeout = transfer->timeout;
	TimestampTz end;

	if (timeout == NULL)
		return DT_NOEND;
	/* What is left can be added without an error, in no zone but UTC. */
	if (timeout->month > MAX_TIMEOUT_YEARS * MONTHS_PER_YEAR ||
		timeout->month < -MAX_TIMEOUT_YEARS * MONTHS_PER_YEAR ||
		timeout->day > MAX_TIMEOUT_YEARS * 366 ||
		timeout->day < -MAX_TIMEOUT_YEARS * 366 ||
		timeout->time > MAX_TIMEOUT_YEARS * 366 * USECS_PER_DAY ||
		timeout->time < -MAX_TIMEOUT_YEARS * 366 * USECS_PER_DAY)
		return DT_NOBEGIN;
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamp_pl_interval,
												  TimestampTzGetDatum(recorded_at),
												  IntervalPGetDatum(timeout)));
	return end > recorded_at ? end : DT_NOBEGIN;
}

/*
 * What is wrong with a transfer whatever the ledger holds, or RF_OK. The
 * columns that a hold gives have been filled in.
 */
RfTransferCode
rf_transfer_check(const RfPosting *posting, const RfTransfer *transfer)
{
	if (transfer->state == RF_TRANSFER_STATES ||
		(transfer->has_pending ? transfer->state == RF_PENDING :
		 transfer->state != RF_POSTED && transfer->state != RF_PENDING))
		return RF_STATE_INVALID;
	if (!transfer->has_pending &&
		(!transfer->has_debit || !transfer->has_credit))
		return RF_ACCOUNT_REQUIRED;
	if (transfer->has_debit && transfer->has_credit &&
		rf_uuid_cmp(&transfer->debit, &transfer->credit) == 0)
		return RF_ACCOUNTS_SAME;
	if (transfer->has_amount ? transfer->amount <= 0 : !transfer->has_pending)
		return RF_AMOUNT_INVALID;
	if (transfer->has_amount && transfer->amount > RF_MAX_TURNOVER)
		return RF_OVERFLOW;
	if (transfer->kind == NULL ? !transfer->has_pending :
		!is_kind(transfer->kind))
		return RF_KIND_INVALID;
	if (transfer->reference != NULL &&
		(VARSIZE_ANY_EXHDR(transfer->reference) < 1 ||
		 VARSIZE_ANY_EXHDR(transfer->reference) > RF_MAX_REFERENCE))
		return RF_REFERENCE_INVALID;
	if (transfer->metadata != NULL && !is_metadata(transfer->metadata))
		return RF_METADATA_INVALID;
	if (transfer->timeout != NULL &&
		(transfer->state != RF_PENDING ||
		 transfer->expires_at == DT_NOBEGIN))
		return RF_TIMEOUT_INVALID;
	if (transfer->has_posted_at && transfer->posted_at > posting->now)
		return RF_POSTED_AT_FUTURE;
	return RF_OK;
}

static bool
same_text(const text *a, const text *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static bool
same_json(Jsonb *a, Jsonb *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

static bool
same_uuid(bool has_a, const RfUuid *a, bool has_b, const RfUuid *b)
{
	return has_a == has_b && (!has_a || rf_uuid_cmp(a, b) == 0);
}

/*
 * Does what is asked for say the same as the transfer that has its id? What it
 * leaves to the ledger (the time, the asset, what a hold gives) may be as it is.
 */
RfTransferCode
rf_transfer_compare(const RfTransfer *transfer, const RfTransfer *other,
					TimestampTz recorded_at)
{
	bool		same = transfer->state == other->state &&
	same_uuid(transfer->has_pending, &transfer->pending,
			  other->has_pending, &other->pending) &&
	same_uuid(transfer->has_reverses, &transfer->reverses,
			  other->has_reverses, &other->reverses) &&
	(!transfer->has_debit ||
	 rf_uuid_cmp(&transfer->debit, &other->debit) == 0) &&
	(!transfer->has_credit ||
	 rf_uuid_cmp(&transfer->credit, &other->credit) == 0) &&
	(!transfer->has_amount || transfer->amount == other->amount) &&
	(!transfer->has_posted_at || transfer->posted_at == other->posted_at) &&
	(transfer->asset == NULL || other->asset == NULL ||
	 same_text(transfer->asset, other->asset)) &&
	(transfer->kind == NULL || same_text(transfer->kind, other->kind)) &&
	same_text(transfer->reference, other->reference) &&
	same_json(transfer->metadata, other->metadata) &&
	rf_transfer_expiry(transfer, recorded_at) == other->expires_at;

	return same ? RF_EXISTS : RF_EXISTS_DIFFERENT;
}
