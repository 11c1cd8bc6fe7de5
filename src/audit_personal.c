/*
 * audit_personal.c: personal values, kept apart so that they can be forgotten.
 *
 * Each is stored with a salt of its own. A record's leaf takes a commitment to
 * both, which stays when audit_forget() destroys them; without the salt nobody
 * can try values against it.
 *
 * Memory: results are palloc'd in the current context.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "audit.h"

#define SALT_BYTES 16
#define SALT_TEXT 24			/* in base64 */

/* Writes a column's value of a row, or what stands for it. */
void
rf_audit_write_value(RfJsonObject *object, RfAuditField *field, TupleTableSlot *slot,
					 Size limit)
{
	int			att = field->attno - 1;

	if (slot->tts_isnull[att])
		rf_json_null(object);
	else if (field->label == LABEL_SECRET)
		rf_json_string(object, RF_AUDIT_MASK, strlen(RF_AUDIT_MASK));
	else
		rf_json_value(object, field, slot->tts_values[att], limit);
}

/* {"salt": base64, "value": ...} */
static Jsonb *
salted(RfAuditField *field, TupleTableSlot *slot, Size limit)
{
	RfJsonObject object;
	StringInfoData buf;
	unsigned char salt[SALT_BYTES];
	unsigned char encoded[SALT_TEXT + 1];

	rf_random(salt, sizeof(salt));
	(void) EVP_EncodeBlock(encoded, salt, sizeof(salt));
	initStringInfo(&buf);
	rf_json_begin(&object, &buf, 2);
	rf_json_key(&object, "salt", 4);
	rf_json_key(&object, "value", 5);
	rf_json_string(&object, (char *) encoded, SALT_TEXT);
	rf_audit_write_value(&object, field, slot, limit);
	return rf_json_end(&object);
}

/* The personal columns of one side; NULL if none is chosen. */
Jsonb *
rf_audit_personal_side(RfAuditPlan *plan, TupleTableSlot *slot, Size limit)
{
	RfJsonObject object;
	StringInfoData buf;
	int			n = 0;

	for (int i = 0; i < plan->nfields; i++)
		n += plan->chosen[i] && plan->fields[i].label == LABEL_PERSONAL;
	if (slot == NULL || n == 0)
		return NULL;
	initStringInfo(&buf);
	rf_json_begin(&object, &buf, n);
	for (int i = 0; i < plan->nfields; i++)
		if (plan->chosen[i] && plan->fields[i].label == LABEL_PERSONAL)
			rf_json_key(&object, plan->fields[i].name, plan->fields[i].name_len);
	for (int i = 0; i < plan->nfields; i++)
		if (plan->chosen[i] && plan->fields[i].label == LABEL_PERSONAL)
			rf_json_jsonb(&object, salted(&plan->fields[i], slot, limit));
	return rf_json_end(&object);
}

/* {"new": {...}, "old": {...}}, either or both; NULL for neither. */
Jsonb *
rf_audit_personal(Jsonb *new, Jsonb *old)
{
	RfJsonObject object;
	StringInfoData buf;

	if (new == NULL && old == NULL)
		return NULL;
	initStringInfo(&buf);
	rf_json_begin(&object, &buf, (new != NULL) + (old != NULL));
	if (new != NULL)
		rf_json_key(&object, "new", 3);
	if (old != NULL)
		rf_json_key(&object, "old", 3);
	if (new != NULL)
		rf_json_jsonb(&object, new);
	if (old != NULL)
		rf_json_jsonb(&object, old);
	return rf_json_end(&object);
}
