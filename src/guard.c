/*
 * guard.c: refuses unprotected tables in protected schemas.
 *
 * An event trigger notes each table that DDL made, altered or took a policy
 * from; the transaction callback looks at them before the commit, so that
 * CREATE TABLE and protect() may be two statements of one transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "rewrite/rowsecurity.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "ringfence.h"

PG_FUNCTION_INFO_V1(ringfence_guard_table);

/* Tables to look at before the commit; in TopTransactionContext. */
static List *guarded_tables = NIL;

/*
 * Notes a table for the check before commit. EXECUTE is for the event trigger's
 * owner.
 */
Datum
ringfence_guard_table(PG_FUNCTION_ARGS)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	guarded_tables = list_append_unique_oid(guarded_tables,
											PG_GETARG_OID(0));
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}

static bool
has_restrictive_policy(const RowSecurityDesc *security)
{
	ListCell   *lc;

	if (security == NULL)
		return false;
	foreach(lc, security->policies)
	{
		RowSecurityPolicy *policy = lfirst(lc);

		if (!policy->permissive)
			return true;
	}
	return false;
}

/*
 * Is a table safe to be committed in a protected schema? It is if row security
 * is forced and protect() registered it, with a restrictive policy if its rows
 * have owners; or if it is forced without any policy, which shows nothing to
 * anybody.
 */
static bool
is_protected(Form_pg_class class, Oid relid)
{
	Relation	rel;
	bool		registered;
	bool		isolated = false;
	bool		result;

	if (class->relkind != RELKIND_RELATION &&
		class->relkind != RELKIND_PARTITIONED_TABLE)
		return false;
	if (!class->relrowsecurity || !class->relforcerowsecurity)
		return false;
	registered = rf_directory_table(relid, &isolated);
	rel = relation_open(relid, AccessShareLock);
	if (registered)
		result = !isolated || has_restrictive_policy(rel->rd_rsdesc);
	else
		result = class->relispartition || rel->rd_rsdesc == NULL ||
			rel->rd_rsdesc->policies == NIL;
	relation_close(rel, AccessShareLock);
	return result;
}

static void
check_guarded_table(Oid relid)
{
	HeapTuple	tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class class;

	if (!HeapTupleIsValid(tuple))
		return;					/* dropped, or rolled back */
	class = (Form_pg_class) GETSTRUCT(tuple);
	if (class->relpersistence != RELPERSISTENCE_TEMP &&
		rf_directory_protected_schema(class->relnamespace) &&
		!is_protected(class, relid))
	{
		char	   *schema = get_namespace_name(class->relnamespace);
		const char *name = quote_qualified_identifier(schema,
													  NameStr(class->relname));

		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table \"%s\" is not protected", name),
				 errdetail("Its schema admits only tables with row security in force."),
				 class->relkind == RELKIND_RELATION ||
				 class->relkind == RELKIND_PARTITIONED_TABLE ?
				 errhint("Call ringfence.protect('%s') in the same transaction.",
						 name) : 0));
	}
	heap_freetuple(tuple);
}

static void
guard_at_xact_end(XactEvent event, void *arg)
{
	ListCell   *lc;

	(void) arg;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			foreach(lc, guarded_tables)
				check_guarded_table(lfirst_oid(lc));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			guarded_tables = NIL;
			break;
		default:
			break;
	}
}

/* Registers the callback. Called once, from _PG_init. */
void
rf_guard_init(void)
{
	RegisterXactCallback(guard_at_xact_end, NULL);
}
