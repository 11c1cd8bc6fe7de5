/*
 * seal_record.c: a sealed record as JSON, to go with its proof.
 *
 * It has all that enters the leaf, as it enters: times in microseconds, the
 * name and columns of the table, personal values with their salts. jsonb of the record is
 * copied as it is stored, so that no depth of it matters.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "seal.h"

#define COLUMNS_OF_TABLE AUDIT_COLUMNS

/* The fields, in the order of jsonb's keys. */
static const struct
{
	const char *name;
	int			column;
}			fields[] = {
	{"id", AUDIT_ID},
	{"key", AUDIT_KEY},
	{"new", AUDIT_NEW},
	{"old", AUDIT_OLD},
	{"role", AUDIT_ROLE},
	{"actor", AUDIT_ACTOR},
	{"login", AUDIT_LOGIN},
	{"action", AUDIT_ACTION},
	{"org_id", AUDIT_ORG_ID},
	{"reason", AUDIT_REASON},
	{"columns", COLUMNS_OF_TABLE},
	{"user_id", AUDIT_USER_ID},
	{"personal", AUDIT_PERSONAL},
	{"relation", AUDIT_RELATION_ID},
	{"client_ip", AUDIT_CLIENT_IP},
	{"operation", AUDIT_OPERATION},
	{"request_id", AUDIT_REQUEST_ID},
	{"user_agent", AUDIT_USER_AGENT},
	{"incarnation", AUDIT_INCARNATION},
	{"recorded_at", AUDIT_RECORDED_AT},
	{"correlation_id", AUDIT_CORRELATION_ID},
	{"transaction_id", AUDIT_TRANSACTION_ID},
};

/* A record that is looked for. */
typedef struct Sought
{
	Snapshot	snapshot;
	Jsonb	   *json;			/* once it is found */
} Sought;

static void
put_string(RfJsonObject *object, const char *string)
{
	rf_json_string(object, string, strlen(string));
}

static void
put_number(RfJsonObject *object, int64 number)
{
	JsonbValue	value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	rf_json_jsonb(object, JsonbValueToJsonb(&value));
}

static RfShapeName *
find_shape(Snapshot snapshot, int32 id)
{
	int			count;
	RfShapeName *shapes = rf_seal_shapes(snapshot, &count);

	for (int i = 0; i < count; i++)
		if (shapes[i].id == id)
			return &shapes[i];
	return NULL;
}

static void
put_value(RfJsonObject *object, int column, Datum value)
{
	switch (column)
	{
		case AUDIT_ID:
		case AUDIT_ORG_ID:
		case AUDIT_USER_ID:
			put_string(object, rf_uuid_text((RfUuid *) DatumGetUUIDP(value)));
			break;
		case AUDIT_RECORDED_AT:
			put_number(object, (int64) rf_unix_time(DatumGetTimestampTz(value)));
			break;
		case AUDIT_TRANSACTION_ID:
			put_number(object, DatumGetInt64(value));
			break;
		case AUDIT_INCARNATION:
		case AUDIT_RELATION_ID:
			put_number(object, DatumGetInt32(value));
			break;
		case AUDIT_CLIENT_IP:
			put_string(object,
					   DatumGetCString(DirectFunctionCall1(inet_out, value)));
			break;
		case AUDIT_OLD:
		case AUDIT_NEW:
		case AUDIT_PERSONAL:
			rf_json_jsonb(object, DatumGetJsonbP(value));
			break;
		default:
			put_string(object, TextDatumGetCString(value));
			break;
	}
}

static int
place_sought(void *arg, const RfPlacing *record)
{
	(void) arg;
	(void) record;
	return 0;
}

static void
take_sought(void *arg, const Datum *values, const bool *nulls)
{
	Sought	   *sought = arg;
	RfShapeName *shape = NULL;
	StringInfoData buf;
	RfJsonObject object;

	if (!nulls[AUDIT_RELATION_ID])
		shape = find_shape(sought->snapshot,
						   DatumGetInt32(values[AUDIT_RELATION_ID]));
	initStringInfo(&buf);
	rf_json_begin(&object, &buf, lengthof(fields));
	for (int i = 0; i < (int) lengthof(fields); i++)
		rf_json_key(&object, fields[i].name, strlen(fields[i].name));
	for (int i = 0; i < (int) lengthof(fields); i++)
	{
		int			column = fields[i].column;

		if (column == COLUMNS_OF_TABLE && shape != NULL &&
			shape->columns != NULL)
			rf_json_jsonb(&object, shape->columns);
		else if (column == COLUMNS_OF_TABLE || nulls[column])
			rf_json_null(&object);
		else if (column == AUDIT_RELATION_ID && shape != NULL)
			put_string(&object, shape->name);
		else
			put_value(&object, column, values[column]);
	}
	sought->json = rf_json_end(&object);
}

/* The record as it is now, palloc'd; NULL if it isn't there any more. */
Jsonb *
rf_record_json(Snapshot snapshot, const RfUuid *org, const RfUuid *id)
{
	Sought		sought = {snapshot, NULL};
	RfLogQuery	query = {0};

	query.snapshot = snapshot;
	query.org = org;
	query.id = id;
	query.everything = true;
	query.place = place_sought;
	query.take = take_sought;
	query.arg = &sought;
	rf_log_query(&query);
	return sought.json;
}

/* A proof with the record, if there is one, for its field "record". */
Jsonb *
rf_record_into(Jsonb *proof, Jsonb *record)
{
	JsonbIterator *it = JsonbIteratorInit(&proof->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	StringInfoData buf;
	RfJsonObject object;
	List	   *values = NIL;
	ListCell   *lc;

	initStringInfo(&buf);
	rf_json_begin(&object, &buf, JsonContainerSize(&proof->root));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		static const char name[] = "record";

		if (token == WJB_VALUE)
			values = lappend(values, JsonbValueToJsonb(&value));
		if (token != WJB_KEY)
			continue;
		rf_json_key(&object, value.val.string.val, value.val.string.len);
		if (record != NULL && value.val.string.len == sizeof(name) - 1 &&
			memcmp(value.val.string.val, name, sizeof(name) - 1) == 0)
		{
			(void) JsonbIteratorNext(&it, &value, true);
			values = lappend(values, record);
		}
	}
	foreach(lc, values)
		rf_json_jsonb(&object, lfirst(lc));
	return rf_json_end(&object);
}
