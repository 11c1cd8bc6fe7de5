/*
 * csv.h: rows as CSV (RFC 4180) or NDJSON, into a buffer that becomes a text or
 * bytea where it stands.
 */
#ifndef RINGFENCE_CSV_H
#define RINGFENCE_CSV_H

#include "access/htup.h"
#include "access/tupdesc.h"

#define RF_CSV_NULL_BYTES 64	/* of the text for NULL, with its NUL */

typedef enum RfCsvQuote
{
	RF_CSV_QUOTE_MINIMAL,		/* what would be read as something else */
	RF_CSV_QUOTE_TEXT,			/* that, and all but numbers, times and such */
	RF_CSV_QUOTE_ALL,			/* all but NULL */
} RfCsvQuote;

typedef struct RfCsvOptions
{
	char		delimiter;
	bool		bom;
	bool		header;
	bool		guard;			/* against formulas */
	bool		crlf;			/* else lines end in LF */
	RfCsvQuote	quote;
	Size		null_len;
	char		null_text[RF_CSV_NULL_BYTES];
} RfCsvOptions;

/*
 * Bytes behind room for the header of a varlena. It grows as it needs to, up to
 * RF_CSV_LIMIT, beyond which it raises 54000 in the name of its format.
 */
typedef struct RfCsvBuffer
{
	char	   *data;			/* palloc'd */
	Size		len;			/* with VARHDRSZ */
	Size		size;
	const char *format;			/* "CSV" or "NDJSON" */
} RfCsvBuffer;

/* Less than MaxAllocSize by what the protocol needs to send it. */
#define RF_CSV_LIMIT (MaxAllocSize - 1024 * 1024)

#define rf_csv_bytes(buffer) ((buffer)->data + VARHDRSZ)
#define rf_csv_length(buffer) ((buffer)->len - VARHDRSZ)

typedef struct RfCsvWriter RfCsvWriter;

/* csv_buffer.c */
extern void rf_csv_buffer_init(RfCsvBuffer *buffer, const char *format,
							   MemoryContext context);
extern void rf_csv_buffer_reset(RfCsvBuffer *buffer);
extern void rf_csv_buffer_grow(RfCsvBuffer *buffer, Size more);
extern void rf_csv_buffer_append(RfCsvBuffer *buffer, const char *bytes,
								 Size len);
extern struct varlena *rf_csv_buffer_varlena(RfCsvBuffer *buffer);

/* csv_options.c */
extern void rf_csv_options_default(RfCsvOptions *options);
extern void rf_csv_options_read(HeapTupleHeader record, RfCsvOptions *options);

/* csv_write.c */
extern RfCsvWriter *rf_csv_writer(TupleDesc desc, int ncolumns,
								  const RfCsvOptions *options,
								  MemoryContext context);
extern void rf_csv_header(RfCsvWriter *writer, RfCsvBuffer *buffer);
extern void rf_csv_row(RfCsvWriter *writer, const Datum *values,
					   const bool *nulls, RfCsvBuffer *buffer);

/* csv_guard.c: in the encoding of the database */
extern const bool *rf_csv_formula_starts(void);
extern bool rf_csv_is_formula(const char *cell, Size len);

/* ndjson.c */
extern void rf_ndjson_row(Datum record, RfCsvBuffer *buffer);

/* Room for so many more bytes. */
static inline void
rf_csv_buffer_room(RfCsvBuffer *buffer, Size more)
{
	if (unlikely(buffer->size - buffer->len < more))
		rf_csv_buffer_grow(buffer, more);
}

#endif							/* RINGFENCE_CSV_H */
