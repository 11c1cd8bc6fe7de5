/*
 * directory.c: looks up orgs, users, members and keys, past row security.
 *
 * The context has to know whether a caller is who the claims say before any
 * policy can be evaluated, so these reads can't go through policies (which
 * would ask for the context). They are single index probes with the calling
 * statement's snapshot, on tables found by name and believed only if
 * ringfence_owner owns them. Nothing here writes, and nothing is cached: a
 * member removed by a committed transaction is unknown to the next one.
 *
 * A table that is missing (core isn't installed) answers like an empty one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/skey.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "compat.h"
#include "ringfence.h"

#define MAX_KEYS 2

/* A key column, what it must be of, and the value sought in it. */
typedef struct Probe
{
	const char *column;
	Oid			type;
	RegProcedure equal;
	Datum		value;
} Probe;

/* A scan of one core table; open between probe_begin() and probe_end(). */
typedef struct ProbeScan
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		pushed_snapshot;
} ProbeScan;

/*
 * Opens a core table; NULL if it is missing or isn't ringfence_owner's, which
 * is to say not ours.
 */
Relation
rf_directory_open(const char *name, LOCKMODE lockmode)
{
	Oid			namespace_oid = get_namespace_oid(RF_DATA_SCHEMA, true);
	Oid			relid;
	Relation	rel;

	if (!OidIsValid(namespace_oid))
		return NULL;
	relid = get_relname_relid(name, namespace_oid);
	if (!OidIsValid(relid))
		return NULL;
	rel = try_relation_open(relid, lockmode);
	if (rel == NULL)
		return NULL;
	if ((rel->rd_rel->relkind != RELKIND_RELATION &&
		 rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE) ||
		rel->rd_rel->relowner != get_role_oid(RF_ROLE_OWNER, true))
	{
		relation_close(rel, lockmode);
		return NULL;
	}
	return rel;
}

/*
 * The number of a column, or InvalidAttrNumber if there is none of that name and
 * type: what is of another type than we would read it as isn't ours.
 */
AttrNumber
rf_directory_column(Relation rel, const char *name, Oid type)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && att->atttypid == type &&
			strcmp(NameStr(att->attname), name) == 0)
			return att->attnum;
	}
	return InvalidAttrNumber;
}

/*
 * Finds the first matching row, by the primary key if the keys are its columns.
 * False, with nothing left open, if there is none.
 */
static bool
probe_begin_by(ProbeScan *probe, const char *table, int nkeys,
			   const Probe *keys, bool by_primary_key)
{
	ScanKeyData scankeys[MAX_KEYS];
	Oid			index_oid;

	Assert(nkeys <= MAX_KEYS);
	probe->rel = rf_directory_open(table, AccessShareLock);
	if (probe->rel == NULL)
		return false;

	for (int i = 0; i < nkeys; i++)
	{
		AttrNumber	attno = rf_directory_column(probe->rel, keys[i].column,
												keys[i].type);

		if (attno == InvalidAttrNumber)
		{
			relation_close(probe->rel, AccessShareLock);
			return false;
		}
		ScanKeyInit(&scankeys[i], attno, BTEqualStrategyNumber,
					keys[i].equal, keys[i].value);
	}

	probe->pushed_snapshot = !ActiveSnapshotSet();
	if (probe->pushed_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	index_oid = by_primary_key ? rf_primary_key_index(probe->rel) : InvalidOid;
	probe->scan = systable_beginscan(probe->rel, index_oid,
									 OidIsValid(index_oid),
									 GetActiveSnapshot(), nkeys, scankeys);
	probe->tuple = systable_getnext(probe->scan);
	if (HeapTupleIsValid(probe->tuple))
		return true;

	systable_endscan(probe->scan);
	if (probe->pushed_snapshot)
		PopActiveSnapshot();
	relation_close(probe->rel, AccessShareLock);
	return false;
}

static bool
probe_begin(ProbeScan *probe, const char *table, int nkeys, const Probe *keys)
{
	return probe_begin_by(probe, table, nkeys, keys, true);
}

static void
probe_end(ProbeScan *probe)
{
	systable_endscan(probe->scan);
	if (probe->pushed_snapshot)
		PopActiveSnapshot();
	relation_close(probe->rel, AccessShareLock);
}

/* Is there a row with that primary key? */
static bool
probe_exists(const char *table, int nkeys, const Probe *keys)
{
	ProbeScan	probe;

	if (!probe_begin(&probe, table, nkeys, keys))
		return false;
	probe_end(&probe);
	return true;
}

/*
 * A column of the row found; false if it is NULL, missing, or of another type
 * than we would read it as.
 */
static bool
probe_column(ProbeScan *probe, const char *column, Oid type, Datum *value)
{
	AttrNumber	attno = rf_directory_column(probe->rel, column, type);
	bool		isnull;

	if (attno == InvalidAttrNumber)
		return false;
	*value = heap_getattr(probe->tuple, attno, RelationGetDescr(probe->rel),
						  &isnull);
	return !isnull;
}

static bool
probe_text_is(ProbeScan *probe, const char *column, const char *expected)
{
	Datum		value;

	return probe_column(probe, column, TEXTOID, &value) &&
		strcmp(TextDatumGetCString(value), expected) == 0;
}

/* An org's status; a status we don't know is as good as closed. */
RfOrgStatus
rf_directory_org(const RfUuid *org)
{
	Probe		keys[] = {{"id", UUIDOID, F_UUID_EQ, PointerGetDatum(org)}};
	ProbeScan	probe;
	RfOrgStatus status = RF_ORG_CLOSED;

	if (!probe_begin(&probe, "orgs", lengthof(keys), keys))
		return RF_ORG_UNKNOWN;
	if (probe_text_is(&probe, "status", "active"))
		status = RF_ORG_ACTIVE;
	else if (probe_text_is(&probe, "status", "suspended"))
		status = RF_ORG_SUSPENDED;
	probe_end(&probe);
	return status;
}

/*
 * The id of the org of that name. The name's index isn't the primary key, so
 * this reads the table; it is for operators, not for requests.
 */
bool
rf_directory_find_org(Datum name, RfUuid *org)
{
	Probe		keys[] = {{"name", TEXTOID, F_TEXTEQ, name}};
	ProbeScan	probe;
	Datum		value;
	bool		found;

	if (!probe_begin_by(&probe, "orgs", lengthof(keys), keys, false))
		return false;
	found = probe_column(&probe, "id", UUIDOID, &value);
	if (found)
		memcpy(org, DatumGetUUIDP(value), sizeof(*org));
	probe_end(&probe);
	return found;
}

bool
rf_directory_user(const RfUuid *user)
{
	Probe		keys[] = {{"id", UUIDOID, F_UUID_EQ, PointerGetDatum(user)}};

	return probe_exists("users", lengthof(keys), keys);
}

/*
 * Reads a text[] of roles. Those past the limit, or with too long a name, are
 * left out, which means fewer rights; the result says whether all are in.
 */
bool
rf_grants_read_roles(Datum value, RfGrants *grants)
{
	Datum	   *elements;
	bool	   *nulls;
	bool		complete = true;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &n);
	grants->nroles = 0;
	for (int i = 0; i < n; i++)
	{
		char	   *role = nulls[i] ? NULL : TextDatumGetCString(elements[i]);

		if (role == NULL || *role == '\0' || strlen(role) >= RF_NAME_BYTES ||
			grants->nroles >= RF_MAX_ROLES)
			complete = false;
		else
			strlcpy(grants->roles[grants->nroles++], role, RF_NAME_BYTES);
	}
	return complete;
}

/* Reads a jsonb {"kind": "uuid", ...}: all of it, or nothing. */
bool
rf_grants_read_parties(Datum value, RfGrants *grants)
{
	char	   *json = JsonbToCString(NULL, &DatumGetJsonbP(value)->root, -1);
	char	   *wrapped = psprintf("{\"party\": %s}", json);
	RfClaims	claims;

	grants->nparties = 0;
	if (!rf_claims_parse(wrapped, strlen(wrapped), GetDatabaseEncoding(),
						 &claims))
		return false;
	grants->nparties = claims.grants.nparties;
	memcpy(grants->parties, claims.grants.parties, sizeof(grants->parties));
	return true;
}

/*
 * Is the user an active member of the org, and with which roles and parties?
 * "grants" is set only if so.
 */
bool
rf_directory_member(const RfUuid *org, const RfUuid *user, RfGrants *grants)
{
	Probe		keys[] = {
		{"org_id", UUIDOID, F_UUID_EQ, PointerGetDatum(org)},
		{"user_id", UUIDOID, F_UUID_EQ, PointerGetDatum(user)},
	};
	ProbeScan	probe;
	Datum		value;
	bool		active;

	if (!probe_begin(&probe, "memberships", lengthof(keys), keys))
		return false;
	active = probe_text_is(&probe, "status", "active");
	if (active)
	{
		memset(grants, 0, sizeof(*grants));
		if (probe_column(&probe, "roles", TEXTARRAYOID, &value))
			(void) rf_grants_read_roles(value, grants);
		if (probe_column(&probe, "party", JSONBOID, &value))
			(void) rf_grants_read_parties(value, grants);
	}
	probe_end(&probe);
	return active;
}

/*
 * The key of that id, unless it was retired. The secret is the caller's to
 * wipe.
 */
bool
rf_directory_jwt_key(const char *kid, RfJwtKey *key)
{
	Probe		keys[] = {
		{"kid", TEXTOID, F_TEXTEQ, CStringGetTextDatum(kid)},
	};
	ProbeScan	probe;
	Datum		secret;
	Datum		issuer;
	Datum		audience;
	Datum		retired;
	bool		usable;

	if (!probe_begin(&probe, "jwt_keys", lengthof(keys), keys))
		return false;
	usable = !probe_column(&probe, "retired_at", TIMESTAMPTZOID, &retired) &&
		probe_column(&probe, "secret", BYTEAOID, &secret) &&
		probe_column(&probe, "issuer", TEXTOID, &issuer) &&
		probe_column(&probe, "audience", TEXTOID, &audience);
	if (usable)
	{
		bytea	   *bytes = DatumGetByteaPP(secret);

		strlcpy(key->kid, kid, sizeof(key->kid));
		key->secret_len = VARSIZE_ANY_EXHDR(bytes);
		key->secret = palloc(key->secret_len + 1);
		memcpy(key->secret, VARDATA_ANY(bytes), key->secret_len);
		key->issuer = TextDatumGetCString(issuer);
		key->audience = TextDatumGetCString(audience);
	}
	probe_end(&probe);
	return usable;
}

/* Is the schema one in which every table has to be protected? */
bool
rf_directory_protected_schema(Oid namespace_oid)
{
	char	   *name = get_namespace_name(namespace_oid);
	NameData	schema;
	Probe		keys[] = {{"schema_name", NAMEOID, F_NAMEEQ, NameGetDatum(&schema)}};

	if (name == NULL)
		return false;
	namestrcpy(&schema, name);
	return probe_exists("protected_schemas", lengthof(keys), keys);
}

/*
 * Was the table registered by protect()? "isolated" says whether its rows have
 * owners, so that a restrictive policy has to keep them apart.
 */
bool
rf_directory_table(Oid relid, bool *isolated)
{
	Probe		keys[] = {{"relation", REGCLASSOID, F_OIDEQ, ObjectIdGetDatum(relid)}};
	ProbeScan	probe;

	if (!probe_begin(&probe, "tables", lengthof(keys), keys))
		return false;
	*isolated = !probe_text_is(&probe, "row_class", "reference") &&
		!probe_text_is(&probe, "row_class", "system");
	probe_end(&probe);
	return true;
}
