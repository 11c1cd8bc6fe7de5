/*
 * seal_head.c: statements of where the chain ends: audit_head, checkpoints.
 *
 * Both are the number and the hash of the newest block, signed. A head is in
 * the database, so that the removal of the newest block is noticed; a
 * checkpoint is kept elsewhere.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "seal.h"

#define CHECKPOINT_VERSION 1
#define MAX_NAMED_GAP 1000		/* missing blocks that are named one by one */

/* What audit_checkpoint() wrote once. */
typedef struct Checkpoint
{
	int64		number;
	RfHash		hash;
	TimestampTz stated_at;
	unsigned char public_key[RF_HASH_BYTES];
	unsigned char signature[RF_SIGNATURE_BYTES];
} Checkpoint;

/* The RF_HEAD_BYTES of a statement about the newest block. */
void
rf_head_message(int64 number, const RfHash *hash, TimestampTz stated_at,
				const RfHash *key_id, unsigned char *message)
{
	unsigned char *end;

	end = rf_put_bytes(message, "rfh1", 4);
	end = rf_put_u64(end, (uint64) number);
	end = rf_put_bytes(end, hash, RF_HASH_BYTES);
	end = rf_put_u64(end, rf_unix_time(stated_at));
	end = rf_put_bytes(end, key_id, RF_HASH_BYTES);
	Assert(end - message == RF_HEAD_BYTES);
}

/* Reads audit_head, which should have one row. */
void
rf_head_read(Relation rel, Snapshot snapshot, RfHead *head)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0,
										  NULL);
	HeapTuple	tuple;
	bool		isnull;

	memset(head, 0, sizeof(*head));
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		if (head->rows++ > 0)
			continue;
		head->tid = tuple->t_self;
		head->number = rf_seal_int(rel, tuple, "number", INT8OID, &isnull);
		rf_check_broken(head, !isnull, "number");
		rf_check_broken(head, rf_seal_bytes(rel, tuple, "hash", &head->hash,
											RF_HASH_BYTES), "hash");
		head->stated_at = rf_seal_int(rel, tuple, "stated_at", TIMESTAMPTZOID,
									  &isnull);
		rf_check_broken(head, !isnull, "stated_at");
		rf_check_broken(head, rf_seal_bytes(rel, tuple, "key_id", &head->key_id,
											RF_HASH_BYTES), "key_id");
		rf_check_broken(head, rf_seal_bytes(rel, tuple, "signature",
											head->signature, RF_SIGNATURE_BYTES),
						"signature");
	}
	systable_endscan(scan);
}

static JsonbValue *
checkpoint_field(Jsonb *json, const char *name, enum jbvType type)
{
	JsonbValue *value = JB_ROOT_IS_OBJECT(json) ?
	getKeyJsonValueFromContainer(&json->root, name, strlen(name), NULL) :
	NULL;

	if (value == NULL || value->type != type)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid checkpoint"),
				 errdetail("Its field \"%s\" is missing or malformed.",
						   name)));
	return value;
}

static int64
checkpoint_number(Jsonb *json, const char *name)
{
	JsonbValue *value = checkpoint_field(json, name, jbvNumeric);

	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(value->val.numeric)));
}

static void
checkpoint_bytes(Jsonb *json, const char *name, void *out, int len)
{
	JsonbValue *value = checkpoint_field(json, name, jbvString);
	const char *digits = value->val.string.val;
	bool		valid = value->val.string.len == 2 * len;

	for (int i = 0; valid && i < 2 * len; i++)
		valid = strchr("0123456789abcdef", digits[i]) != NULL &&
			digits[i] != '\0';
	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid checkpoint"),
				 errdetail("Its field \"%s\" must be %d bytes in hexadecimal.",
						   name, len)));
	(void) hex_decode(digits, 2 * len, out);
}

/* Reads what audit_checkpoint() wrote. Throws 22023 for anything else. */
static void
parse_checkpoint(Jsonb *json, Checkpoint *checkpoint)
{
	if (checkpoint_number(json, "version") != CHECKPOINT_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid checkpoint"),
				 errdetail("Its version is unknown.")));
	checkpoint->number = checkpoint_number(json, "number");
	checkpoint->stated_at = (TimestampTz)
		((uint64) checkpoint_number(json, "stated_at") - rf_unix_time(0));
	checkpoint_bytes(json, "hash", &checkpoint->hash, RF_HASH_BYTES);
	checkpoint_bytes(json, "public_key", checkpoint->public_key,
					 RF_HASH_BYTES);
	checkpoint_bytes(json, "signature", checkpoint->signature,
					 RF_SIGNATURE_BYTES);
}

/* A hash as hexadecimal, palloc'd. */
char *
rf_hash_text(const RfHash *hash)
{
	char	   *digits = palloc(2 * RF_HASH_BYTES + 1);

	for (int i = 0; i < RF_HASH_BYTES; i++)
		sprintf(digits + 2 * i, "%02x", hash->data[i]);
	return digits;
}

/* Is it signed by a key that is known, trusted or not? Says so if not. */
bool
rf_verify_signature(RfVerify *verify, int64 number, const RfHash *key_id,
					const void *message, size_t len,
					const unsigned char *signature, const char *what)
{
	RfSealKey  *key = rf_keys_find(verify->keys, verify->nkeys, key_id);

	if (key == NULL || key->broken != NULL)
		rf_finding(verify, number, NULL, NULL, "key_unknown",
				   "%s is signed with key %s, which is not in audit_keys",
				   what, rf_hash_text(key_id));
	else if (!rf_signature_valid(key->public_key, message, len, signature))
		rf_finding(verify, number, NULL, NULL, "signature_invalid",
				   "the signature of %s does not hold", what);
	else
		return true;
	return false;
}

/* Says which blocks are missing, both included. */
void
rf_verify_gap(RfVerify *verify, int64 first, int64 last)
{
	if (last - first >= MAX_NAMED_GAP)
		rf_finding(verify, first, NULL, NULL, "block_missing",
				   "blocks " INT64_FORMAT " to " INT64_FORMAT " are missing",
				   first, last);
	else
		for (int64 number = first; number <= last; number++)
			rf_finding(verify, number, NULL, NULL, "block_missing",
					   "block " INT64_FORMAT " is missing", number);
}

/* What audit_head states, against the end of the chain. */
void
rf_verify_head(RfVerify *verify, Relation blocks, int64 newest,
			   const RfHash *newest_hash, bool newest_signed)
{
	Relation	rel = rf_seal_table("audit_head", AccessShareLock);
	unsigned char message[RF_HEAD_BYTES];
	RfBlock		last;
	RfHead		head;

	rf_head_read(rel, verify->snapshot, &head);
	relation_close(rel, NoLock);
	/* Of a range that begins after the last block, none was read. */
	if (newest == 0 && rf_block_newest(blocks, verify->snapshot, &last))
	{
		newest = last.number;
		newest_hash = &last.hash;
	}
	if (head.rows == 0 && newest == 0)
		return;
	if (head.rows != 1 || head.broken != NULL)
	{
		rf_finding(verify, 0, NULL, NULL, "head_altered",
				   "audit_head has %d rows or a damaged one, not the one that states the newest block",
				   head.rows);
		return;
	}
	rf_head_message(head.number, &head.hash, head.stated_at, &head.key_id,
					message);
	(void) rf_verify_signature(verify, 0, &head.key_id, message, sizeof(message),
							   head.signature, "the head");
	if (head.number > newest)
		rf_verify_gap(verify, newest + 1, head.number);
	else if (head.number < newest && !newest_signed)
		rf_finding(verify, newest, NULL, NULL, "block_inserted",
				   "the head states block " INT64_FORMAT " as the newest",
				   head.number);
	else if (head.number < newest)
		rf_finding(verify, newest, NULL, NULL, "head_altered",
				   "the head states block " INT64_FORMAT ", but the newest is block " INT64_FORMAT,
				   head.number, newest);
	else if (memcmp(&head.hash, newest_hash, RF_HASH_BYTES) != 0)
		rf_finding(verify, head.number, NULL, NULL, "head_altered",
				   "the head states another hash of the newest block");
}

/* A checkpoint that was published, against the chain. */
void
rf_verify_checkpoint(RfVerify *verify, Relation blocks, Jsonb *json)
{
	Checkpoint	checkpoint;
	unsigned char message[RF_HEAD_BYTES];
	RfBlock		block;
	RfHash		key_id;
	RfSealKey  *key;

	parse_checkpoint(json, &checkpoint);
	rf_digest(verify->digest, checkpoint.public_key, RF_HASH_BYTES, &key_id);
	rf_head_message(checkpoint.number, &checkpoint.hash, checkpoint.stated_at,
					&key_id, message);
	if (!rf_signature_valid(checkpoint.public_key, message, sizeof(message),
							checkpoint.signature))
	{
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint's own signature does not hold");
		return;
	}
	key = rf_keys_find(verify->keys, verify->nkeys, &key_id);
	if (key == NULL || !key->trusted)
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint is signed with key %s, which is not one of the chain's: the keys were replaced, or it is another chain's",
				   rf_hash_text(&key_id));
	if (!rf_block_find(blocks, verify->snapshot, checkpoint.number,
					   false, &block))
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint states block " INT64_FORMAT ", which is not there",
				   checkpoint.number);
	else if (memcmp(&block.hash, &checkpoint.hash, RF_HASH_BYTES) != 0)
		rf_finding(verify, checkpoint.number, NULL, NULL, "checkpoint_mismatch",
				   "the checkpoint states another hash of this block: it, or one before it, is not the one that was sealed");
}
