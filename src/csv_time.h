/*
 * csv_time.h: dates and times in ISO form.
 */
#ifndef RINGFENCE_CSV_TIME_H
#define RINGFENCE_CSV_TIME_H

#include "datatype/timestamp.h"
#include "pgtime.h"
#include "utils/date.h"

/* A time zone's offset while it holds. All zeros at first. */
typedef struct RfCsvZone
{
	const pg_tz *zone;
	pg_time_t	from;
	pg_time_t	until;			/* and no longer */
	long int	offset;			/* seconds east */
	int			length;
	char		written[12];	/* "+05:45", not terminated */
} RfCsvZone;

extern int	rf_csv_date(DateADT date, char *to);
extern int	rf_csv_timestamp(Timestamp timestamp, RfCsvZone *zone, char *to);

#endif							/* RINGFENCE_CSV_TIME_H */
