/*
 * ndjson.c: rows as lines of JSON, one object each.
 *
 * The objects are the server's: row_to_json(). A value of type json can have line
 * breaks in it, where JSON allows blanks; there a space does as well, and inside of
 * a string there can't be any.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"

#include "compat.h"
#include "csv.h"

/*
 * A line of a composite value. What row_to_json() allocates is left in the current
 * context, which the caller resets. Raises what types' output functions and casts
 * to json raise, and 54000 for a buffer that is full.
 */
void
rf_ndjson_row(Datum record, RfCsvBuffer *buffer)
{
	text	   *json = DatumGetTextPP(DirectFunctionCall1(row_to_json, record));
	Size		len = VARSIZE_ANY_EXHDR(json);
	char	   *line;
	char	   *c;

	rf_csv_buffer_room(buffer, len + 1);
	line = buffer->data + buffer->len;
	memcpy(line, VARDATA_ANY(json), len);
	for (c = line; (c = memchr(c, '\n', line + len - c)) != NULL;)
		*c = ' ';
	for (c = line; (c = memchr(c, '\r', line + len - c)) != NULL;)
		*c = ' ';
	line[len] = '\n';
	buffer->len += len + 1;
}
