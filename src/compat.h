/*
 * compat.h: the one place where server versions differ. Written for 18; each
 * entry says in which version the newer form came, and goes when the older
 * version does.
 */
#ifndef RINGFENCE_COMPAT_H
#define RINGFENCE_COMPAT_H

/* JSON semantic actions return an error code: new in 16. */
#if PG_VERSION_NUM >= 160000
#define RF_JSON_ACTION JsonParseErrorType
#define RF_JSON_ACTION_RETURN return JSON_SUCCESS
#else
#define RF_JSON_ACTION void
#define RF_JSON_ACTION_RETURN return
#endif

/* The lexer takes a context of the caller's to fill: new in 17. */
#ifdef JSONAPI_H
static inline JsonLexContext *
rf_json_lexer(const char *json, int len, int encoding)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, len, encoding, true);
#else
	return makeJsonLexContextCstringLen(unconstify(char *, json), len,
										encoding, true);
#endif
}
#endif

#ifndef FRONTEND

/* A process's virtual transaction is in its "vxid": new in 17. */
#ifdef _PROC_H_
#if PG_VERSION_NUM >= 170000
#define rf_my_virtual_transaction(id) \
	((id).procNumber = MyProc->vxid.procNumber, \
	 (id).localTransactionId = MyProc->vxid.lxid)
#else
#define rf_my_virtual_transaction(id) \
	((id).backendId = MyProc->backendId, \
	 (id).localTransactionId = MyProc->lxid)
#endif
#endif

/* A setting can be looked up: new in 16. */
#ifdef GUC_TABLES_H
static inline struct config_generic *
rf_find_setting(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return find_option(name, false, false, ERROR);
#else
	struct config_generic **all = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	elog(ERROR, "parameter \"%s\" not found", name);
	return NULL;				/* keep the compiler quiet */
#endif
}
#endif

/* transaction_timeout: new in 17. For the settings of a background worker. */
#if PG_VERSION_NUM >= 170000
#define RF_SETTINGS_OF_17 {"transaction_timeout", "0"},
#else
#define RF_SETTINGS_OF_17
#endif

/* pg_noreturn stands before the declaration: new in 18. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* RelationGetPrimaryKeyIndex() says whether it may be deferrable: new in 18. */
#if PG_VERSION_NUM >= 180000
#define rf_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define rf_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* varatt.h holds what postgres.h had: new in 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* PG_MODULE_MAGIC_EXT names the module: new in 18. */
#ifdef PG_MODULE_MAGIC_EXT
#define RF_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "ringfence", .version = RINGFENCE_VERSION)
#else
#define RF_MODULE_MAGIC PG_MODULE_MAGIC
#endif

#endif							/* FRONTEND */

#endif							/* RINGFENCE_COMPAT_H */
