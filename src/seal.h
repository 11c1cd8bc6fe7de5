/*
 * seal.h: what the files share that make the audit log tamper-evident.
 *
 * doc/audit.md gives the byte forms exactly.
 */
#ifndef RINGFENCE_SEAL_H
#define RINGFENCE_SEAL_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "port/pg_bswap.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/hsearch.h"
#include "utils/palloc.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

#include "audit.h"
#include "digest.h"
#include "ringfence.h"

#define RF_SIGNATURE_BYTES 64
#define RF_NONCE_BYTES 16
#define RF_LISTED_LEAF_BYTES (RF_UUID_BYTES + RF_HASH_BYTES)
#define RF_LEAVES_PER_PART 65536
#define RF_HEADER_BYTES (4 + 8 + 8 + 4 * RF_HASH_BYTES)
#define RF_HEAD_BYTES (4 + 8 + RF_HASH_BYTES + 8 + RF_HASH_BYTES)
#define RF_ENDORSEMENT_BYTES (4 + RF_HASH_BYTES + 8)
#define RF_MAX_PATH 64

/* merkle.c */
typedef struct RfTree
{
	RfDigest   *digest;
	uint64		count;
	int			depth;
	RfHash		stack[RF_MAX_PATH];
} RfTree;

extern void rf_tree_begin(RfTree *tree, RfDigest *digest);
extern void rf_tree_add(RfTree *tree, const RfHash *leaf);
extern void rf_tree_root(RfTree *tree, RfHash *root);
extern void rf_tree_of(RfDigest *digest, const void *leaves, size_t stride,
					   uint64 count, RfHash *root);
extern int	rf_tree_path(RfDigest *digest, const void *leaves, size_t stride,
						 uint64 count, uint64 index, RfHash *path);

/* audit_leaf.c */
typedef struct RfLeafMaker RfLeafMaker;

typedef struct RfShapeName
{
	int32		id;
	char	   *name;
	int			len;
	Jsonb	   *columns;		/* or NULL */
	RfHash		shape;			/* of the columns, once there is a maker */
} RfShapeName;

extern RfLeafMaker *rf_leaf_begin(RfDigest *digest, RfShapeName *names,
								  int nnames);
extern void rf_leaf(RfLeafMaker *maker, const Datum *values,
					const bool *nulls, RfHash *leaf);
extern bool rf_leaf_commitment(RfLeafMaker *maker, JsonbContainer *value,
							   int len, RfHash *commitment);

/* A record's leaf, and where it belongs. */
typedef struct RfItem
{
	uint32		block;			/* the caller's number for it */
	RfUuid		org;
	RfUuid		id;
	RfHash		leaf;
} RfItem;

/* Transaction ids from "first" to "last", both included. */
typedef struct RfXidRange
{
	uint64		first;
	uint64		last;
} RfXidRange;

/* What a record is placed by. */
typedef struct RfPlacing
{
	const RfUuid *org;
	const RfUuid *id;
	TimestampTz recorded_at;
	uint64		xid;
	uint32		incarnation;
} RfPlacing;

/* seal_scan.c */
typedef struct RfLogQuery
{
	Snapshot	snapshot;
	const RfUuid *org;			/* records of this one only, or NULL */
	const RfUuid *id;			/* only the org's record of that id, or NULL */
	bool		everything;		/* or only the ranges */
	int			nranges;
	RfXidRange	ranges[2];
	/* the block of a record, or -1 to leave it out */
	int			(*place) (void *arg, const RfPlacing *record);
	/* takes a record's columns instead of its leaf, if it isn't NULL */
	void		(*take) (void *arg, const Datum *values, const bool *nulls);
	void	   *arg;
	Oid			partition;		/* only in that one, or InvalidOid */
	RfLeafMaker *maker;
	RfItem	   *items;			/* what was found */
	uint64		nitems;
	uint64		capacity;
	uint64		nameless;		/* records without an org, id, time or xid */
} RfLogQuery;

/* A partition of the log, for times from "lower" to before "upper". */
typedef struct RfLogPart
{
	TimestampTz lower;
	TimestampTz upper;
	Oid			relid;
	bool		is_default;		/* for whatever no other is for */
} RfLogPart;

extern RfLogPart *rf_log_parts(Relation log, int *count);
extern void rf_log_query(RfLogQuery *query);
extern void rf_log_sort(RfLogQuery *query);
extern void rf_log_summarize(const RfLogQuery *query);

/* seal_table.c */
extern Relation rf_seal_table(const char *name, LOCKMODE lockmode);
extern AttrNumber rf_seal_column(Relation rel, const char *name, Oid type);
extern Oid	rf_seal_index(Relation rel, int ncolumns,
						  const char *const *columns);
extern Datum rf_seal_value(Relation rel, HeapTuple tuple, const char *name,
						   Oid type, bool *isnull);
extern int64 rf_seal_int(Relation rel, HeapTuple tuple, const char *name,
						 Oid type, bool *isnull);
extern bool rf_seal_bytes(Relation rel, HeapTuple tuple, const char *name,
						  void *out, int len);
extern Datum rf_bytea(const void *data, size_t len);
extern HeapTuple rf_seal_tuple(Relation rel, int ncolumns,
							   const char *const *columns,
							   const Datum *values);
extern RfShapeName *rf_seal_shapes(Snapshot snapshot, int *count);
extern void rf_seal_insertable(Relation rel);
extern int64 rf_org_last(Relation orgs, Snapshot snapshot, const RfUuid *org,
						 int64 block, int64 *previous);

/* The top-level transactions that a snapshot shows as complete. */
typedef struct RfXids
{
	uint64		xmin;
	uint64		xmax;
	uint32		nxip;
	uint64	   *xip;			/* in order */
	char	   *text;			/* as pg_snapshot prints it */
	Datum		datum;			/* as pg_snapshot */
} RfXids;

/* A row of audit_blocks. */
typedef struct RfBlock
{
	int64		number;
	uint32		incarnation;
	int64		records;
	TimestampTz sealed_at;
	RfXids		xids;
	unsigned char nonce[RF_NONCE_BYTES];
	RfHash		root;
	RfHash		previous;
	RfHash		details;
	RfHash		hash;
	RfHash		key_id;
	unsigned char signature[RF_SIGNATURE_BYTES];
	uint64		nentries;
	RfHash	   *entries;		/* only where asked for */
	const char *broken;			/* a column that holds no such thing, or NULL */
	int64		stored;			/* while verified: the row's own number, */
	bool		details_good;	/* whether details are as sealed, */
	bool		intact;			/* all that the signature covers is, */
	bool		after_gap;		/* and whether blocks are missing before it */
} RfBlock;

/* A row of audit_keys. */
typedef struct RfSealKey
{
	RfHash		id;
	unsigned char public_key[RF_HASH_BYTES];
	TimestampTz added_at;
	bool		endorsed;
	RfHash		endorsed_by;
	unsigned char endorsement[RF_SIGNATURE_BYTES];
	bool		trusted;
	const char *broken;
} RfSealKey;

/* The row of audit_head. */
typedef struct RfHead
{
	int64		number;
	RfHash		hash;
	TimestampTz stated_at;
	RfHash		key_id;
	unsigned char signature[RF_SIGNATURE_BYTES];
	ItemPointerData tid;
	int			rows;			/* there should be one */
	const char *broken;
} RfHead;

/* seal_block.c */
extern TransactionId *rf_xids_running(int *count);
extern void rf_xids_take(RfXids *xids, Snapshot snapshot,
						 FullTransactionId own, const TransactionId *running,
						 int nrunning);
extern bool rf_xids_complete(const RfXids *xids, uint64 xid);
extern bool rf_block_covers(const RfBlock *block, uint32 incarnation,
							uint64 xid);
extern void rf_block_ranges(const RfBlock *previous, const RfBlock *last,
							RfLogQuery *query);
extern void rf_block_read(Relation rel, HeapTuple tuple, bool entries,
						  RfBlock *block);
extern bool rf_block_newest(Relation rel, Snapshot snapshot, RfBlock *block);
extern bool rf_block_before(Relation rel, Snapshot snapshot, int64 number,
							RfBlock *block);
extern bool rf_block_find(Relation rel, Snapshot snapshot, int64 number,
						  bool entries, RfBlock *block);
extern void rf_block_details(RfDigest *digest, const RfBlock *block,
							 RfHash *details);
extern void rf_block_header(const RfBlock *block, unsigned char *header);
extern bool rf_block_signed(RfDigest *digest, const RfBlock *block,
							const RfSealKey *key);
extern void rf_org_entry(RfDigest *digest, const RfUuid *org, int64 block,
						 int64 previous, uint64 records, const RfHash *root,
						 RfHash *entry);
extern void rf_endorsement_message(const unsigned char *public_key,
								   TimestampTz added_at,
								   unsigned char *message);
extern RfSealKey *rf_keys_read(Relation rel, Snapshot snapshot, int *count);
extern void rf_keys_trust(RfDigest *digest, RfSealKey *keys, int count,
						  const RfHash *first);
extern RfSealKey *rf_keys_find(RfSealKey *keys, int count, const RfHash *id);

/* signing.c */
typedef struct RfSigner
{
	unsigned char public_key[RF_HASH_BYTES];
	RfHash		key_id;
	void	   *key;			/* EVP_PKEY */
	void	   *context;		/* EVP_MD_CTX */
	MemoryContextCallback callback;
} RfSigner;

extern void rf_signing_init(void);
extern RfSigner *rf_signer_open(RfDigest *digest, bool missing_ok);
extern void rf_sign(RfSigner *signer, const void *message, size_t len,
					unsigned char *signature);
extern bool rf_signature_valid(const unsigned char *public_key,
							   const void *message, size_t len,
							   const unsigned char *signature);

/* seal_record.c */
extern Jsonb *rf_record_json(Snapshot snapshot, const RfUuid *org,
							 const RfUuid *id);
extern Jsonb *rf_record_into(Jsonb *proof, Jsonb *record);

/* A row of audit_drops. */
typedef struct RfDrop
{
	TimestampTz range_start;
	TimestampTz range_end;
	int64		first_block;
	int64		last_block;
	RfHash		block_hash;		/* of the last one */
	RfUuid		event;
	TimestampTz stated_at;
	char	   *reason;
	RfHash		key_id;
	unsigned char signature[RF_SIGNATURE_BYTES];
	const char *broken;
} RfDrop;

/* seal_suspect.c */
typedef struct RfSuspects RfSuspects;

/* seal_verify.c and seal_compare.c */
typedef struct RfVerify
{
	Snapshot	snapshot;
	const RfUuid *org;			/* its own part only, or NULL */
	RfDigest   *digest;
	RfLeafMaker *maker;
	RfSealKey  *keys;
	int			nkeys;
	Tuplestorestate *findings;
	TupleDesc	desc;
	/* A run of blocks, looked at together; in "context". */
	MemoryContext context;
	MemoryContext outer;		/* lasts as long as the verification */
	RfBlock    *previous;		/* the one before the run, or NULL */
	RfBlock    *blocks;
	int			nblocks;
	RfSuspects *suspects;
	HTAB	   *parts;			/* the last block that each org had a part in */
	RfDrop	   *drops;			/* statements that hold */
	int			ndrops;
	int			last_drop;		/* the one that held for the last record */
	RfLogPart  *months;			/* that are attached, in order */
	int			nmonths;
	/* Before a statement: what counts is this range, and no row is returned. */
	const RfDrop *stating;
	int64		problems;
	char	   *problem;		/* the first */
} RfVerify;

extern void rf_verify_chain(RfVerify *verify, int64 first, int64 last,
							Jsonb *checkpoint);
extern void rf_finding(RfVerify *verify, int64 block, const RfUuid *org,
					   const RfUuid *record, const char *problem,
					   const char *detail,...) pg_attribute_printf(6, 7);
extern void rf_verify_compare(RfVerify *verify);
extern RfSuspects *rf_suspects_begin(RfVerify *verify, Relation blocks,
									 bool whole);
extern void rf_suspects_look(RfVerify *verify, const RfPlacing *record,
							 int place);
extern void rf_suspects_sort(RfVerify *verify);
extern void rf_suspects_named(RfVerify *verify, const RfUuid *id);
extern void rf_suspects_report(RfVerify *verify);

/* seal_head.c */
extern void rf_head_message(int64 number, const RfHash *hash,
							TimestampTz stated_at, const RfHash *key_id,
							unsigned char *message);
extern void rf_head_read(Relation rel, Snapshot snapshot, RfHead *head);
extern char *rf_hash_text(const RfHash *hash);
extern bool rf_verify_signature(RfVerify *verify, int64 number,
								const RfHash *key_id, const void *message,
								size_t len, const unsigned char *signature,
								const char *what);
extern void rf_verify_gap(RfVerify *verify, int64 first, int64 last);
extern void rf_verify_head(RfVerify *verify, Relation blocks, int64 newest,
						   const RfHash *newest_hash, bool newest_signed);
extern void rf_verify_checkpoint(RfVerify *verify, Relation blocks,
								 Jsonb *json);

/* seal_proof.c */
extern bool rf_is_sealed(Relation blocks, Snapshot snapshot,
						 const RfUuid *id, const RfUuid *org);

/* seal_drop.c */
extern Datum rf_drop_message(RfDigest *digest, const RfDrop *drop);
extern bool rf_drop_covers(const RfDrop *drop, const RfUuid *id);
extern RfDrop *rf_drops_read(Snapshot snapshot, int *count);
extern const char *rf_drop_problem(const RfDrop *drop, Relation blocks,
								   Snapshot snapshot, RfDigest *digest,
								   RfSealKey *keys, int nkeys);
extern void rf_drops_begin(RfVerify *verify, Relation blocks);
extern bool rf_is_dropped(RfVerify *verify, int64 block, const RfUuid *id);

/* Keeps the first thing that is wrong with a row. */
#define rf_check_broken(row, good, name) \
	do { if (!(good) && (row)->broken == NULL) (row)->broken = (name); } while (0)

/* Big-endian numbers and bytes, one after the other; each returns the end. */
static inline unsigned char *
rf_put_bytes(unsigned char *out, const void *data, size_t len)
{
	memcpy(out, data, len);
	return out + len;
}

static inline unsigned char *
rf_put_u32(unsigned char *out, uint32 value)
{
	value = pg_hton32(value);
	return rf_put_bytes(out, &value, sizeof(value));
}

static inline unsigned char *
rf_put_u64(unsigned char *out, uint64 value)
{
	value = pg_hton64(value);
	return rf_put_bytes(out, &value, sizeof(value));
}

/* Microseconds since 1970, which is how times enter a hash. */
static inline uint64
rf_unix_time(TimestampTz moment)
{
	return (uint64) moment +
		(uint64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

#endif							/* RINGFENCE_SEAL_H */
