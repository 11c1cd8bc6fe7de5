/*
 * apps.c: reads app scripts and runs them.
 *
 * An app's scripts lie beside the extension's own, named ringfence-APP--1.0.sql
 * or ringfence-APP--1.0--1.1.sql. Names and versions come from SQL, so both are
 * held to a plain form before they become part of a path. What is read is run
 * statement by statement as the current user: ringfence.install() is a
 * SECURITY DEFINER function of ringfence_owner, and nobody else may call these.
 */
#include "postgres.h"

#include <ctype.h>
#include <sys/stat.h>

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/fd.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "ringfence.h"

#define MAX_APP_NAME 31
#define MAX_VERSION 31
#define MAX_SCRIPT (16 * 1024 * 1024)

PG_FUNCTION_INFO_V1(ringfence_app_files);
PG_FUNCTION_INFO_V1(ringfence_app_script);
PG_FUNCTION_INFO_V1(ringfence_run_script);
PG_FUNCTION_INFO_V1(ringfence_installing);
PG_FUNCTION_INFO_V1(ringfence_has_rows);

/* A name that can do nothing in a path: lower case, digits, underscores. */
static bool
is_app_name(const char *name)
{
	size_t		len = strlen(name);

	return len > 0 && len <= MAX_APP_NAME && islower((unsigned char) name[0]) &&
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

/* Digits and single dots between them. */
static bool
is_version(const char *version)
{
	size_t		len = strlen(version);

	return len > 0 && len <= MAX_VERSION &&
		strspn(version, "0123456789.") == len &&
		version[0] != '.' && version[len - 1] != '.' &&
		strstr(version, "..") == NULL;
}

static char *
script_directory(void)
{
	char		share[MAXPGPATH];

	get_share_path(my_exec_path, share);
	return psprintf("%s/extension", share);
}

/*
 * Splits ringfence-APP--FROM[--TO].sql, in place; "to" is NULL for a script
 * that installs. False for any other name.
 */
static bool
split_file_name(char *file, char **app, char **from, char **to)
{
	static const char prefix[] = "ringfence-";
	size_t		len = strlen(file);

	*to = NULL;
	if (strncmp(file, prefix, sizeof(prefix) - 1) != 0 ||
		len < sizeof(prefix) + 4 || strcmp(file + len - 4, ".sql") != 0)
		return false;
	file[len - 4] = '\0';
	*app = file + sizeof(prefix) - 1;
	*from = strstr(*app, "--");
	if (*from == NULL)
		return false;
	**from = '\0';
	*from += 2;
	*to = strstr(*from, "--");
	if (*to != NULL)
	{
		**to = '\0';
		*to += 2;
	}
	return is_app_name(*app) && is_version(*from) &&
		(*to == NULL || is_version(*to));
}

/* app_files() returns setof (app, version, target) */
Datum
ringfence_app_files(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *path = script_directory();
	DIR		   *dir = AllocateDir(path);
	struct dirent *entry;

	InitMaterializedSRF(fcinfo, 0);
	while ((entry = ReadDir(dir, path)) != NULL)
	{
		char	   *name = pstrdup(entry->d_name);
		char	   *app;
		char	   *from;
		char	   *to;
		Datum		values[3];
		bool		nulls[3] = {false};

		if (!split_file_name(name, &app, &from, &to))
			continue;
		values[0] = CStringGetTextDatum(app);
		values[1] = CStringGetTextDatum(from);
		values[2] = to != NULL ? CStringGetTextDatum(to) : (Datum) 0;
		nulls[2] = to == NULL;
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	FreeDir(dir);
	return (Datum) 0;
}

/* The text of a file in the database's encoding, palloc'd. */
static char *
read_script(const char *path)
{
	FILE	   *file = AllocateFile(path, PG_BINARY_R);
	struct stat st;
	char	   *script;
	size_t		len;

	if (file == NULL || fstat(fileno(file), &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (st.st_size > MAX_SCRIPT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("file \"%s\" is too large", path)));
	script = palloc(st.st_size + 1);
	len = fread(script, 1, st.st_size, file);
	if (ferror(file))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	script[len] = '\0';
	FreeFile(file);
	return pg_any_to_server(script, (int) len, PG_UTF8);
}

/* app_script(app text, version text, target text DEFAULT NULL) */
Datum
ringfence_app_script(PG_FUNCTION_ARGS)
{
	char	   *app;
	char	   *version;
	char	   *target = NULL;
	char	   *path;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	app = text_to_cstring(PG_GETARG_TEXT_PP(0));
	version = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!PG_ARGISNULL(2))
		target = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!is_app_name(app) || !is_version(version) ||
		(target != NULL && !is_version(target)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid app name or version"),
				 errdetail("A name is lower case letters, digits and underscores; a version is numbers and dots.")));

	path = target == NULL ?
		psprintf("%s/ringfence-%s--%s.sql", script_directory(), app, version) :
		psprintf("%s/ringfence-%s--%s--%s.sql", script_directory(), app,
				 version, target);
	PG_RETURN_TEXT_P(cstring_to_text(read_script(path)));
}

/* Scripts that are being run, one in another; set back when one ends or fails. */
static int	running_scripts = 0;

static void
run_statements(const char *script)
{
	List	   *statements = pg_parse_query(script);
	ListCell   *lc;

	foreach(lc, statements)
	{
		RawStmt    *statement = lfirst_node(RawStmt, lc);
		const char *start = script + statement->stmt_location;
		char	   *sql;
		int			result;

		sql = statement->stmt_len > 0 ?
			pnstrdup(start, statement->stmt_len) : pstrdup(start);
		result = SPI_execute(sql, false, 0);
		if (result < 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("an app script cannot run this statement: %s",
							SPI_result_code_string(result)),
					 errcontext("SQL statement \"%s\"", sql)));
		pfree(sql);
	}
}

/*
 * Runs a script, one statement at a time, in the calling transaction. Throws
 * whatever a statement throws, with that statement as context.
 */
Datum
ringfence_run_script(PG_FUNCTION_ARGS)
{
	char	   *script = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	running_scripts++;
	PG_TRY();
	{
		run_statements(script);
	}
	PG_FINALLY();
	{
		running_scripts--;
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_VOID();
}

/* installing(): is what is being run an app's script? */
Datum
ringfence_installing(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(running_scripts > 0);
}

/*
 * Does a table hold any row, whoever may see it? Row security would tell its
 * owner that every table is empty.
 */
Datum
ringfence_has_rows(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	TupleTableSlot *slot;
	TableScanDesc scan;
	bool		found;

	if (rel->rd_rel->relkind != RELKIND_RELATION)
	{
		relation_close(rel, AccessShareLock);
		PG_RETURN_BOOL(false);
	}
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, AccessShareLock);
	PG_RETURN_BOOL(found);
}
