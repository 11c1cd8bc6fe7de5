/*
 * entry.c: how an operator or a job enters an org, on the record.
 *
 * A record that the operator's own transaction wrote would go with its
 * ROLLBACK, and a READ ONLY transaction could write none. So a background
 * worker writes it (see apart.c): it commits the row before enter_org()
 * returns, then waits for the virtual transaction of the operator to end,
 * whichever way it does, and notes the time. Without a committed row nobody
 * gets in.
 *
 * If the server stops or crashes, rows stay without an end; the next entry into
 * the org closes those whose session is gone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "apart.h"
#include "compat.h"
#include "ringfence.h"

PG_FUNCTION_INFO_V1(ringfence_enter_org);

typedef struct EntryRequest
{
	RfApart		apart;
	RfUuid		id;
	RfUuid		org;
	RfActor		actor;
	VirtualTransactionId vxid;	/* of the operator's transaction */
	char		login[NAMEDATALEN];
	char		reason[RF_MAX_REASON + 1];
} EntryRequest;

/* The reason of this transaction's entry; stale once that has ended. */
static struct
{
	uint64		transaction;
	char		reason[RF_MAX_REASON + 1];
}			entry;

/* The reason that an organization was entered for in this transaction, or NULL. */
const char *
rf_entry_reason(void)
{
	return entry.transaction == rf_context_transaction() ? entry.reason : NULL;
}

static RfActor
entering_actor(void)
{
	Oid			operator_role = get_role_oid(RF_ROLE_OPERATOR, true);
	Oid			jobs_role = get_role_oid(RF_ROLE_JOBS, true);

	if (OidIsValid(operator_role) &&
		is_member_of_role_nosuper(GetUserId(), operator_role))
		return RF_ACTOR_OPERATOR;
	if (OidIsValid(jobs_role) &&
		is_member_of_role_nosuper(GetUserId(), jobs_role))
		return RF_ACTOR_JOB;
	if (superuser())
		return RF_ACTOR_OPERATOR;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to enter an organization"),
			 errhint("Only members of role \"%s\" or \"%s\" may.",
					 RF_ROLE_OPERATOR, RF_ROLE_JOBS)));
	return RF_ACTOR_ANONYMOUS;	/* keep the compiler quiet */
}

static char *
entry_reason(text *value)
{
	char	   *reason = text_to_cstring(value);

	if (rf_audit_blank(reason) ||
		strlen(reason) > RF_MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a reason is needed to enter an organization"),
				 errdetail("It must have between 1 and %d bytes that are not all blank.",
						   RF_MAX_REASON)));
	return reason;
}

/* enter_org(org uuid, reason text) */
Datum
ringfence_enter_org(PG_FUNCTION_ARGS)
{
	RfUuid	   *org = (RfUuid *) PG_GETARG_UUID_P(0);
	char	   *reason = entry_reason(PG_GETARG_TEXT_PP(1));
	RfActor		actor = entering_actor();
	RfIdentity	identity = *rf_context();
	RfUuid	   *id = palloc(sizeof(RfUuid));
	dsm_segment *segment;
	EntryRequest *request;

	if (identity.has_org)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the context of this transaction is already fixed"),
				 errhint("Enter one organization a transaction.")));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot enter an organization on a standby"),
				 errdetail("The entry could not be recorded.")));
	if (rf_directory_org(org) == RF_ORG_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("organization \"%s\" does not exist",
						rf_uuid_text(org))));

	rf_uuid7(id);
	segment = rf_apart_segment(sizeof(EntryRequest));
	request = dsm_segment_address(segment);
	request->id = *id;
	request->org = *org;
	request->actor = actor;
	rf_my_virtual_transaction(request->vxid);
	strlcpy(request->login, GetUserNameFromId(GetSessionUserId(), false),
			sizeof(request->login));
	strlcpy(request->reason, reason, sizeof(request->reason));

	rf_apart_run(segment, "rf_entry_main", "ringfence org entry",
				 "the entry into an organization");
	dsm_detach(segment);

	identity.actor = actor;
	identity.has_org = true;
	identity.org = *org;
	memset(&identity.grants, 0, sizeof(identity.grants));
	rf_context_replace(&identity);
	strlcpy(entry.reason, reason, sizeof(entry.reason));
	entry.transaction = rf_context_transaction();
	PG_RETURN_UUID_P((pg_uuid_t *) id);
}

/*
 * Runs one statement in a transaction of its own, as ringfence_owner in the
 * entered org: the record passes the same policies as any other row.
 */
static void
record(const EntryRequest *request, const char *sql, int nargs, Oid *types,
	   Datum *values)
{
	RfIdentity	identity;

	memset(&identity, 0, sizeof(identity));
	identity.actor = request->actor;
	identity.has_org = true;
	identity.org = request->org;

	rf_context_override(&identity);
	rf_apart_become_owner();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not record the entry into an organization");
	PopActiveSnapshot();
	SPI_finish();
	rf_apart_become_superuser();
	CommitTransactionCommand();
}

static void
record_start(RfApart *apart)
{
	const EntryRequest *request = (const EntryRequest *) apart;
	Oid			types[] = {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
	Datum		values[6];

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	values[0] = PointerGetDatum(&request->org);
	values[1] = PointerGetDatum(&request->id);
	values[2] = CStringGetTextDatum(rf_actor_name(request->actor));
	values[3] = CStringGetTextDatum(request->login);
	values[4] = CStringGetTextDatum(request->reason);
	values[5] = Int32GetDatum(request->apart.pid);
	record(request,
		   "WITH interrupted AS ("
		   " UPDATE ringfence_data.org_entries AS e"
		   " SET ended_at = CASE WHEN e.started_at OPERATOR(pg_catalog.<)"
		   " pg_catalog.pg_postmaster_start_time()"
		   " THEN pg_catalog.pg_postmaster_start_time()"
		   " ELSE greatest(e.started_at, pg_catalog.clock_timestamp()) END"
		   " WHERE e.org_id OPERATOR(pg_catalog.=) $1"
		   " AND e.ended_at IS NULL"
		   " AND (e.started_at OPERATOR(pg_catalog.<)"
		   " pg_catalog.pg_postmaster_start_time() OR NOT EXISTS ("
		   " SELECT FROM pg_catalog.pg_stat_get_activity(e.pid))))"
		   " INSERT INTO ringfence_data.org_entries"
		   " (org_id, id, actor, login, reason, pid)"
		   " VALUES ($1, $2, $3, $4, $5, $6)",
		   lengthof(types), types, values);
}

static void
record_end(const EntryRequest *request)
{
	Oid			types[] = {UUIDOID, UUIDOID};
	Datum		values[2];

	StartTransactionCommand();
	(void) VirtualXactLock(request->vxid, true);
	SetCurrentStatementStartTimestamp();
	values[0] = PointerGetDatum(&request->org);
	values[1] = PointerGetDatum(&request->id);
	record(request,
		   "UPDATE ringfence_data.org_entries"
		   " SET ended_at ="
		   " greatest(started_at, pg_catalog.clock_timestamp())"
		   " WHERE org_id OPERATOR(pg_catalog.=) $1"
		   " AND id OPERATOR(pg_catalog.=) $2",
		   lengthof(types), types, values);
}

/* The worker: see the head of this file. */
void
rf_entry_main(Datum main_arg)
{
	dsm_segment *segment = rf_apart_attach(main_arg, "recording an org entry");
	EntryRequest request = *(EntryRequest *) dsm_segment_address(segment);

	rf_apart_record(segment, record_start);

	/* The end of a transaction is worth any wait. */
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_activity(STATE_RUNNING, "waiting for an org entry to end");
	record_end(&request);
	proc_exit(0);
}
