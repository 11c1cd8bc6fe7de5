/*
 * ringfence.h: what the rooms share.
 *
 * Included after postgres.h (or postgres_fe.h: claims.c and jose.c are also
 * built outside the server, for the fuzzers).
 */
#ifndef RINGFENCE_H
#define RINGFENCE_H

#define RF_ROLE_OWNER "ringfence_owner"
#define RF_ROLE_MEMBER "ringfence_member"
#define RF_ROLE_OPERATOR "ringfence_operator"
#define RF_ROLE_JOBS "ringfence_jobs"
#define RF_ROLE_AUTHENTICATOR "ringfence_authenticator"
#define RF_DATA_SCHEMA "ringfence_data"

#define RF_UUID_BYTES 16
#define RF_UUID_TEXT 36
#define RF_MAX_ROLES 32
#define RF_MAX_PARTIES 8
#define RF_MAX_AUDIENCES 8
#define RF_NAME_BYTES 64		/* a role or party kind, with its NUL */
#define RF_REQUEST_ID_BYTES 129 /* likewise */
#define RF_MAX_REASON 1000

/* Longest claims, headers and token that are read at all; deepest nesting. */
#define RF_MAX_CLAIMS 16384
#define RF_MAX_HEADERS (256 * 1024)
#define RF_MAX_TOKEN 8192
#define RF_MAX_NESTING 16

/* Same layout as pg_uuid_t, which front-end code can't include. */
typedef struct RfUuid
{
	unsigned char data[RF_UUID_BYTES];
} RfUuid;

typedef struct RfParty
{
	char		kind[RF_NAME_BYTES];
	RfUuid		id;
} RfParty;

typedef struct RfGrants
{
	int			nroles;
	char		roles[RF_MAX_ROLES][RF_NAME_BYTES];
	int			nparties;
	RfParty		parties[RF_MAX_PARTIES];
} RfGrants;

/* What a set of claims says, before anybody has checked whether it is so. */
typedef struct RfClaims
{
	bool		seen_user;		/* there was a claim, valid or not */
	bool		seen_org;
	bool		has_user;
	bool		has_org;
	bool		has_roles;
	bool		has_party;
	bool		has_exp;
	bool		has_nbf;
	RfUuid		user;
	RfUuid		org;
	RfGrants	grants;
	double		exp;
	double		nbf;
	char		actor[RF_NAME_BYTES];
	char	   *issuer;			/* palloc'd, or NULL */
	int			naudiences;
	char	   *audiences[RF_MAX_AUDIENCES];	/* palloc'd */
} RfClaims;

/* The three parts of a compact JWT, still encoded; pointers into the token. */
typedef struct RfToken
{
	const char *header;
	size_t		header_len;
	const char *payload;
	size_t		payload_len;
	const char *signature;
	size_t		signature_len;
	size_t		signed_len;		/* header, dot, payload */
} RfToken;

typedef struct RfTokenHeader
{
	bool		has_alg;
	bool		has_kid;
	bool		unsupported;	/* "crit", or a "typ" that is no JWT */
	char		alg[RF_NAME_BYTES];
	char		kid[RF_NAME_BYTES];
} RfTokenHeader;

/* claims.c: never raises an error for what it is given */
extern bool rf_claims_parse(const char *json, size_t len, int encoding,
							RfClaims *claims);
extern bool rf_json_fields(const char *json, size_t len, int encoding,
						   int n, const char *const *names, char **values);
extern int	rf_hex_digit(char c);
extern bool rf_uuid_parse(const char *string, RfUuid *uuid);
extern bool rf_token_header_parse(const char *json, size_t len, int encoding,
								  RfTokenHeader *header);

/* jose.c: likewise */
extern bool rf_token_split(const char *token, size_t len, RfToken *parts);
extern int	rf_base64url_decode(const char *in, size_t len,
								unsigned char *out, size_t size);
extern size_t rf_base64url_encode(const unsigned char *in, size_t len,
								  char *out, size_t size);

#ifndef FRONTEND

typedef enum RfActor
{
	RF_ACTOR_ANONYMOUS,
	RF_ACTOR_USER,
	RF_ACTOR_OPERATOR,
	RF_ACTOR_JOB,
	RF_ACTOR_SYSTEM,
} RfActor;

/* Who asks, as far as it was verified; fixed until the transaction ends. */
typedef struct RfIdentity
{
	RfActor		actor;
	bool		has_org;
	bool		has_user;
	bool		narrowed;		/* the token named roles or parties */
	double		expires;		/* seconds since 1970, or 0 */
	RfUuid		org;
	RfUuid		user;
	RfGrants	grants;
} RfIdentity;

/* A user and an organization, as claims name them. */
typedef struct RfSubject
{
	bool		has_user;
	bool		has_org;
	RfUuid		user;
	RfUuid		org;
} RfSubject;

typedef enum RfOrgStatus
{
	RF_ORG_UNKNOWN,
	RF_ORG_ACTIVE,
	RF_ORG_SUSPENDED,
	RF_ORG_CLOSED,
} RfOrgStatus;

/* Headers of a request that somebody asks for. */
typedef enum RfHeader
{
	RF_HEADER_CORRELATION_ID,
	RF_HEADER_FORWARDED_FOR,
	RF_HEADER_IDEMPOTENCY_KEY,
	RF_HEADER_REASON,
	RF_HEADER_REQUEST_ID,
	RF_HEADER_SESSION_KEY,
	RF_HEADER_TRACEPARENT,
	RF_HEADER_USER_AGENT,
	RF_HEADERS,
} RfHeader;

/* A verification key. The secret is palloc'd: rf_jwt_key_wipe() it. */
typedef struct RfJwtKey
{
	char		kid[RF_NAME_BYTES];
	unsigned char *secret;
	size_t		secret_len;
	char	   *issuer;
	char	   *audience;
} RfJwtKey;

/* audit.c */
extern void rf_audit_init(void);

/* audit_origin.c */
extern bool rf_audit_blank(const char *value);

/* audit_incarnation.c */
extern int	rf_audit_incarnation(void);
extern PGDLLEXPORT void rf_audit_incarnation_main(Datum main_arg);

/* audit_log.c */
extern void rf_audit_flush(void);

/* audit_event.c */
extern PGDLLEXPORT void rf_audit_event_main(Datum main_arg);

/* caller.c */
extern void rf_caller_init(void);
extern const char *rf_request_id(void);
extern bool rf_client_ip(Datum *address);

/* context.c */
extern void rf_context_init(void);
extern const RfIdentity *rf_context(void);
extern uint64 rf_context_generation(void);
extern uint64 rf_context_transaction(void);
extern void rf_context_replace(const RfIdentity *identity);
extern void rf_context_override(const RfIdentity *identity);
extern char *rf_context_serialize(const RfIdentity *identity);
extern void rf_context_publish(void);
extern bool rf_context_in_request(void);
extern const char *rf_context_claims(void);
extern const RfSubject *rf_context_subject(void);
extern bool rf_session_is(const char *role);
extern const RfIdentity *rf_context_peek(void);

/* directory.c */
extern struct RelationData *rf_directory_open(const char *name, int lockmode);
extern int16 rf_directory_column(struct RelationData *rel, const char *name,
								 Oid type);
extern RfOrgStatus rf_directory_org(const RfUuid *org);
extern bool rf_directory_find_org(Datum name, RfUuid *org);
extern bool rf_directory_user(const RfUuid *user);
extern bool rf_directory_member(const RfUuid *org, const RfUuid *user,
								RfGrants *grants);
extern bool rf_grants_read_roles(Datum value, RfGrants *grants);
extern bool rf_grants_read_parties(Datum value, RfGrants *grants);
extern bool rf_directory_jwt_key(const char *kid, RfJwtKey *key);
extern bool rf_directory_protected_schema(Oid namespace_oid);
extern bool rf_directory_table(Oid relid, bool *isolated);

extern void rf_context_identify(const RfClaims *claims, RfIdentity *identity);
extern const char *rf_actor_name(RfActor actor);

/* entry.c */
extern PGDLLEXPORT void rf_entry_main(Datum main_arg);
extern const char *rf_entry_reason(void);

/* export.c */
extern void rf_export_init(void);

/* headers.c */
extern char *rf_request_header(RfHeader header);
extern void rf_request_headers(int n, const RfHeader *headers, char **values);
extern bool rf_request_header_unread(RfHeader header);
extern bool rf_request_has_headers(void);
extern const char *rf_request_method(void);
extern const char *rf_request_path(void);
extern void rf_headers_init(void);

/* jwt.c */
extern void rf_jwt_init(void);
extern bool rf_jwt_signed(void);
extern char *rf_jwt_verify(const char *token, size_t len, RfClaims *claims);

/* session.c */
extern void rf_session_init(void);
extern const char *rf_session_claims(void);
extern bool rf_session_signed_in(void);

/* module.c */
extern bool rf_statement_running(void);

/* guard.c */
extern void rf_guard_init(void);

/* partition.c */
extern PGDLLEXPORT void rf_partition_main(Datum main_arg);

/* planner.c */
extern void rf_planner_init(void);

/* request.c */
struct ExplainStmt;
extern bool rf_explains_by_running(const struct ExplainStmt *statement);
extern void rf_request_init(void);

/* retention.c */
extern void rf_retention_init(void);
extern bool rf_retention_unrecorded(Oid relid, bool is_delete);

/* random.c */
extern void rf_random(void *bytes, size_t len);

/* uuid7.c */
extern void rf_uuid7(RfUuid *uuid);
extern int64 rf_uuid7_time(const RfUuid *uuid);
extern char *rf_uuid_text(const RfUuid *uuid);

#endif							/* FRONTEND */

#endif							/* RINGFENCE_H */
