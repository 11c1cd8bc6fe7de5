/*
 * export.h: what export.c, export_order.c and export_rows.c share.
 */
#ifndef RINGFENCE_EXPORT_H
#define RINGFENCE_EXPORT_H

#include "nodes/pg_list.h"
#include "utils/portal.h"

#include "csv.h"
#include "ringfence.h"

/* An order of an SQL function's; its memory is whoever took it. */
typedef struct RfExportOrder
{
	char	   *statement;		/* what is written, then the key */
	int			nkeys;
	bool		ndjson;			/* then there is one column, the row */
	bool		header;			/* this part begins with one */
	bool		consistent;		/* all parts at once */
	RfCsvOptions options;
	char	   *zone;
	char	   *requested_as;	/* the context, or NULL for the present one */
	List	   *roles;			/* one of these is needed, char * */
	List	   *after;			/* last key of the part before, or NIL, char * */
} RfExportOrder;

typedef struct RfExportReader RfExportReader;

/* export_order.c */
extern void rf_export_take_order(const char *call, int nargs, Oid *types,
								 Datum *values, const char *nulls,
								 MemoryContext mcxt, RfExportOrder *order);
extern void rf_export_identify(const char *requested_as, List *roles,
							   RfIdentity *identity);

/* export_rows.c */
extern RfExportReader *rf_export_open(const RfExportOrder *order, Size limit,
									  MemoryContext mcxt);
extern bool rf_export_part(RfExportReader *reader);
extern struct varlena *rf_export_data(RfExportReader *reader);
extern struct varlena *rf_export_text(RfExportReader *reader);
extern int64 rf_export_rows(const RfExportReader *reader);
extern Datum rf_export_last_key(RfExportReader *reader, bool *isnull);
extern void rf_export_next(RfExportReader *reader);
extern void rf_export_close(RfExportReader *reader);

#endif							/* RINGFENCE_EXPORT_H */
