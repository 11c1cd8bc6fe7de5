/*
 * audit.h: what the audit room's files share.
 */
#ifndef RINGFENCE_AUDIT_H
#define RINGFENCE_AUDIT_H

#include "access/attnum.h"
#include "access/htup.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "compat.h"
#include "ringfence.h"

/* What stands for a secret. */
#define RF_AUDIT_MASK "[secret]"

/* Records that wait together, at most. */
#define RF_AUDIT_BATCH 512

/* Columns of audit_log, in the order of its definition. */
typedef enum RfAuditColumn
{
	AUDIT_ORG_ID,
	AUDIT_ID,
	AUDIT_RECORDED_AT,
	AUDIT_TRANSACTION_ID,
	AUDIT_INCARNATION,
	AUDIT_RELATION_ID,
	AUDIT_USER_ID,
	AUDIT_OPERATION,
	AUDIT_ACTOR,
	AUDIT_LOGIN,
	AUDIT_ROLE,
	AUDIT_ACTION,
	AUDIT_KEY,
	AUDIT_REQUEST_ID,
	AUDIT_CORRELATION_ID,
	AUDIT_CLIENT_IP,
	AUDIT_USER_AGENT,
	AUDIT_REASON,
	AUDIT_OLD,
	AUDIT_NEW,
	AUDIT_PERSONAL,
	AUDIT_COLUMNS,
} RfAuditColumn;

typedef struct RfAuditColumnDef
{
	const char *name;
	Oid			type;
} RfAuditColumnDef;

typedef enum RfAuditOperation
{
	OPERATION_INSERT,
	OPERATION_UPDATE,
	OPERATION_DELETE,
	OPERATION_TRUNCATE,
	OPERATION_EVENT,
	OPERATIONS,
} RfAuditOperation;

/* A record before it is a tuple. */
typedef struct RfAuditRecord
{
	Datum		values[AUDIT_COLUMNS];
	bool		nulls[AUDIT_COLUMNS];
} RfAuditRecord;

static inline void
rf_audit_set(RfAuditRecord *record, RfAuditColumn column, Datum value)
{
	record->values[column] = value;
	record->nulls[column] = false;
}

/* Sets a column to a text, or to NULL for NULL. */
static inline void
rf_audit_set_text(RfAuditRecord *record, RfAuditColumn column,
				  const char *value)
{
	record->nulls[column] = value == NULL;
	if (value != NULL)
		record->values[column] = CStringGetTextDatum(value);
}

/* How a column's value becomes jsonb. */
typedef enum RfAuditKind
{
	KIND_OTHER,					/* by to_jsonb() */
	KIND_BOOL,
	KIND_INT2,
	KIND_INT4,
	KIND_INT8,
	KIND_FLOAT4,
	KIND_FLOAT8,
	KIND_NUMERIC,
	KIND_TEXT,
	KIND_UUID,
	KIND_DATETIME,
	KIND_JSON,
	KIND_JSONB,
} RfAuditKind;

typedef enum RfAuditLabel
{
	LABEL_NONE,
	LABEL_PLAIN,
	LABEL_PERSONAL,
	LABEL_SECRET,
} RfAuditLabel;

typedef struct RfAuditField
{
	AttrNumber	attno;
	int16		typlen;
	bool		typbyval;
	bool		is_array;
	bool		harmless;		/* to_jsonb() takes any value of the type */
	bool		is_key;			/* of the primary key, or the org's column */
	bool		apart;			/* not in old and new: personal, or the org */
	RfAuditLabel label;
	RfAuditKind kind;
	Oid			type;			/* past domains */
	const char *name;
	int			name_len;
	FmgrInfo	to_jsonb;		/* for KIND_OTHER */
} RfAuditField;

/* What there is to know of an audited relation; see audit_plan.c. */
typedef struct RfAuditPlan
{
	Oid			relid;
	int			users;			/* triggers at work with it */
	bool		valid;
	bool		provisional;	/* stands on rows of this transaction */
	int			nargs;			/* of the trigger */
	char	  **args;
	bool		needs_reason;
	int			relation_id;
	AttrNumber	org_attno;		/* or InvalidAttrNumber */
	int			nkeys;
	int			keys[INDEX_MAX_KEYS];	/* indexes into fields */
	int			nfields;
	RfAuditField *fields;		/* in the order of jsonb's keys */
	bool	   *chosen;			/* those to record, one a field; the trigger's */
	bool		sensitive;		/* a value's text depends on settings */
	bool		names_objects;	/* on search_path, too */
	MemoryContext mcxt;
} RfAuditPlan;

/* An object of jsonb while it is written: all keys, then all values. */
typedef struct RfJsonObject
{
	StringInfo	buf;
	int			npairs;
	int			entries;		/* written so far */
	uint32		data;			/* bytes of them */
} RfJsonObject;

/* audit.c */
pg_noreturn extern void rf_audit_missing(void);
extern AttrNumber rf_audit_column(Relation rel, const char *name, Oid type);
extern char *rf_audit_key(char *key);
extern void rf_audit_begin(RfAuditRecord *record, RfAuditOperation operation);

/* audit_personal.c */
extern void rf_audit_write_value(RfJsonObject *object, RfAuditField *field,
								 TupleTableSlot *slot, Size limit);
extern Jsonb *rf_audit_personal_side(RfAuditPlan *plan, TupleTableSlot *slot,
									 Size limit);
extern Jsonb *rf_audit_personal(Jsonb *new, Jsonb *old);

/* audit_plan.c */
extern RfAuditPlan *rf_audit_plan(Relation rel, int nargs, char **args);
extern void rf_audit_plan_done(RfAuditPlan *plan);
extern void rf_audit_plan_init(void);

/* audit_label.c */
extern void rf_audit_label(RfAuditPlan *plan);
extern bool rf_audit_secret_name(const char *name, int len);
extern bool rf_audit_forget_names(Oid relid);
extern Jsonb *rf_json_mask(Jsonb *value);

/* audit_shape.c */
extern char *rf_audit_relation_name(Oid relid);
extern Oid	rf_audit_root(Relation rel);
extern List *rf_audit_relation_ids(Oid relid);
extern int	rf_audit_relation_id(Relation rel, bool *is_own);

/* audit_json.c */
extern void rf_json_begin(RfJsonObject *object, StringInfo buf, int npairs);
extern void rf_json_key(RfJsonObject *object, const char *key, int len);
extern void rf_json_string(RfJsonObject *object, const char *value, int len);
extern void rf_json_null(RfJsonObject *object);
extern void rf_json_jsonb(RfJsonObject *object, Jsonb *value);
extern void rf_json_value(RfJsonObject *object, RfAuditField *field,
						  Datum value, Size limit);
extern Jsonb *rf_json_end(RfJsonObject *object);
extern char *rf_sha256_hex(const char *bytes, Size len);

/* audit_origin.c */
extern void rf_audit_origin(RfAuditRecord *record);
extern char *rf_audit_printable(char *value);
extern void rf_audit_origin_init(void);

/* audit_incarnation.c */
extern void rf_audit_incarnation_init(void);

/* audit_partition.c */
extern const RfAuditColumnDef rf_audit_columns[AUDIT_COLUMNS];
extern HeapTuple rf_audit_form(RfAuditRecord *record);
extern void rf_audit_deform(HeapTuple tuple, RfAuditRecord *record);
extern int	rf_audit_insert(HeapTuple *tuples, const TimestampTz *times,
							int n);
extern void rf_audit_partition_init(void);

/* audit_log.c */
extern RfUuid rf_audit_append(RfAuditRecord *record);
extern void rf_audit_log_init(void);

#endif							/* RINGFENCE_AUDIT_H */
