/*
 * idempotency.h: what the files share that make a write happen once.
 */
#ifndef RINGFENCE_IDEMPOTENCY_H
#define RINGFENCE_IDEMPOTENCY_H

#define RF_MAX_IDEMPOTENCY_KEY 255

/* The form of recorded rows: its first byte, and the length of a NULL. */
#define RF_ANSWER_VERSION 1
#define RF_ANSWER_NULL 0xFFFFFFFF

/* Room for the label of a type whose OID is fixed. */
#define RF_LABEL_BYTES 12

/* What is given again for an answer that wasn't kept. */
#define RF_NOT_KEPT "{\"replayed\": true, \"complete\": false}"

/* Reads bytes from first to last; what is past the end is a failure. */
typedef struct RfReader
{
	const unsigned char *next;
	const unsigned char *end;
	bool		failed;
} RfReader;

/* idempotency_wire.c: never raises an error for what it is given */
extern bool rf_key_valid(const char *key);
extern bool rf_key_parse(const char *header, char *key);
extern void rf_path_decode(char *path);
extern uint32 rf_read_u16(RfReader *reader);
extern uint32 rf_read_u32(RfReader *reader);
extern const char *rf_read_bytes(RfReader *reader, uint32 len);

#ifndef FRONTEND

#include "access/sdir.h"
#include "datatype/timestamp.h"
#include "executor/execdesc.h"
#include "storage/itemptr.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/relcache.h"

#include "digest.h"
#include "ringfence.h"

/* What is said of an endpoint. */
typedef struct RfEndpoint
{
	bool		required;		/* without a key it refuses requests */
	bool		has_retention;	/* its keys have a time of their own */
	bool		answers;		/* they are kept as well */
	Interval	retention;
} RfEndpoint;

/* One use of a key: from rf_key_begin() to rf_key_end(). */
typedef struct RfKeyUse
{
	const char *key;
	const char *method;
	const char *path;
	bool		in_request;		/* there is somebody who reads response.* */
	bool		from_header;	/* and they sent the key */
	const RfIdentity *identity; /* or NULL */
	RfHash		fingerprint;
	RfUuid		id;				/* of the key and whose it is */
	LOCKTAG		tag;			/* of its lock */
	Relation	keys;			/* the table, open */
	Relation	index;			/* its primary key's, likewise */
	bool		expired;		/* there is a record past its time */
	ItemPointerData tid;		/* that one */
	RfEndpoint	endpoint;		/* if the key wasn't found */
} RfKeyUse;

/* What a statement answered. */
typedef struct RfAnswer
{
	int64		processed;
	bool		complete;		/* the rows are in "response" */
	char	   *status;			/* response.status, or NULL */
	char	   *headers;		/* response.headers, or NULL */
	bytea	   *response;
} RfAnswer;

typedef struct RfRecording RfRecording;

/* Settings that the text of values depends on. */
typedef enum RfSettings
{
	RF_SETTINGS_NONE,
	RF_SETTINGS_USUAL,
	RF_SETTINGS_ALL,
} RfSettings;

/* idempotency.c */
extern PGDLLIMPORT uint64 rf_idempotency_serial;
extern void rf_idempotency_init(void);
extern void rf_idempotency_arm(void);
extern void rf_idempotency_utility(Node *statement,
								   ProcessUtilityContext context);
extern RfRecording *rf_idempotency_begin(QueryDesc *queryDesc,
										 ScanDirection direction,
										 uint64 count, bool *replayed);
extern void rf_idempotency_end(RfRecording *recording, QueryDesc *queryDesc);

/* Is a key set? It may have been used. */
static inline bool
rf_idempotency_set(void)
{
	return rf_idempotency_serial != 0;
}

/* idempotency_plan.c */
extern bool rf_plan_modifies(const PlannedStmt *stmt, bool in_request);

/* idempotency_fingerprint.c */
extern const char *rf_type_label(Oid type, char *buf);
extern RfSettings rf_type_settings(Oid type);
extern int	rf_plain_begin(RfSettings needed, bool in_utc);
extern void rf_plain_end(int nest_level);
extern void rf_key_fingerprint_statement(RfKeyUse *use,
										 const QueryDesc *queryDesc);
extern void rf_key_fingerprint_call(RfKeyUse *use, const char *arguments);
extern void rf_fingerprint_init(void);

/* idempotency_key.c */
extern void rf_key_begin(RfKeyUse *use, const char *key);
extern bool rf_key_claim(RfKeyUse *use, RfAnswer *answer);
extern void rf_key_init(void);

/* idempotency_endpoint.c */
extern RfEndpoint rf_endpoint(const char *method, const char *path);
extern void rf_endpoint_init(void);

/* idempotency_table.c */
extern bool rf_key_find(RfKeyUse *use, RfHash *fingerprint, RfAnswer *answer);
extern bool rf_key_remove_expired(RfKeyUse *use);
extern void rf_key_end(RfKeyUse *use);
extern void rf_key_add(RfKeyUse *use, const RfAnswer *answer);
extern int	rf_key_answer_limit(const RfKeyUse *use);
extern void rf_key_table_init(void);

/* idempotency_rows.c */
typedef struct RfRows RfRows;

extern int	rf_response_column(TupleDesc desc, const char *name);
extern int	rf_body_column(TupleDesc desc);
extern bool rf_is_string(Oid type);
extern RfSettings rf_columns_settings(TupleDesc desc);
extern TupleDesc rf_rows_sent(const QueryDesc *queryDesc);
extern void rf_rows_check(TupleDesc desc);
extern RfRows *rf_rows_begin(TupleDesc desc, DestReceiver *dest,
							 const RfKeyUse *use);
extern void rf_rows_keep(RfRows *rows, MinimalTuple tuple);
extern DestReceiver *rf_rows_receiver(RfRows *rows);
extern DestReceiver *rf_rows_destination(RfRows *rows);
extern void rf_rows_end(RfRows *rows, RfAnswer *answer);

/* idempotency_answer.c */
extern List *rf_answer_rows(const RfAnswer *answer, TupleDesc desc);
extern void rf_set_for_transaction(const char *name, const char *value);
extern void rf_answer_settings(const RfKeyUse *use, RfAnswer *answer);
extern void rf_answer_replay(QueryDesc *queryDesc, const RfKeyUse *use,
							 const RfAnswer *answer);
extern void rf_answer_apply_call(const RfKeyUse *use,
								 const RfAnswer *answer);

#endif							/* FRONTEND */

#endif							/* RINGFENCE_IDEMPOTENCY_H */
