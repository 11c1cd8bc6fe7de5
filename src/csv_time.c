/*
 * csv_time.c: dates and times in ISO form, as the server writes them under DateStyle
 * ISO, but without its detours: of the years 1 to 9999 the parts are computed here,
 * and a zone's offset is asked for once for as long as it holds. Of the rest, which
 * is before Christ, after 9999, or infinite, the server's own code is asked.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "csv_time.h"

/* Days since 2000-01-01 of 0001-01-01 and 9999-12-31. */
#define FIRST_DAY (-730119)
#define LAST_DAY 2921939

/* From the first of March of the year 0, when leap days come last in a year. */
#define DAYS_TO_2000 730425
#define DAYS_IN_400_YEARS 146097

#define UNIX_SECONDS_OF_2000 \
	((pg_time_t) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

static inline char *
put_two(char *to, uint32 n)
{
	to[0] = '0' + n / 10;
	to[1] = '0' + n % 10;
	return to + 2;
}

static inline bool
is_plain_day(int64 day)
{
	return day >= FIRST_DAY && day <= LAST_DAY;
}

/* A day in the years 1 to 9999. */
static inline char *
put_day(char *to, int32 day)
{
	uint32		number = day + DAYS_TO_2000;
	uint32		era = number / DAYS_IN_400_YEARS;
	uint32		in_era = number % DAYS_IN_400_YEARS;
	uint32		year_of_era = (in_era - in_era / 1460 + in_era / 36524 -
							   in_era / 146096) / 365;
	uint32		in_year = in_era - (365 * year_of_era + year_of_era / 4 -
									year_of_era / 100);
	uint32		month = (5 * in_year + 2) / 153;	/* March is 0 */
	uint32		year = era * 400 + year_of_era + (month >= 10);

	to = put_two(to, year / 100);
	to = put_two(to, year % 100);
	*to++ = '-';
	to = put_two(to, month < 10 ? month + 3 : month - 9);
	*to++ = '-';
	return put_two(to, in_year - (153 * month + 2) / 5 + 1);
}

/* Writes a date; says how long it is, at most MAXDATELEN. */
int
rf_csv_date(DateADT date, char *to)
{
	struct pg_tm tm = {0};

	if (is_plain_day(date))
		return put_day(to, date) - to;
	if (DATE_NOT_FINITE(date))
		EncodeSpecialDate(date, to);
	else
	{
		j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon,
			   &tm.tm_mday);
		EncodeDateOnly(&tm, USE_ISO_DATES, to);
	}
	return strlen(to);
}

/*
 * What the zone's offset is at a moment, and from when until when it is that; false
 * for one that isn't known, or is of a hundred hours, which POSIX zones can have.
 */
static bool
learn_zone(RfCsvZone *zone, pg_time_t at)
{
	long int	before;
	long int	after;
	int			before_dst;
	int			after_dst;
	pg_time_t	boundary;
	int			found = pg_next_dst_boundary(&at, &before, &before_dst,
											 &boundary, &after, &after_dst,
											 session_timezone);
	uint32		seconds = labs(before);
	char	   *to = zone->written;

	if (found < 0 || seconds >= 100 * SECS_PER_HOUR)
		return false;
	zone->zone = session_timezone;
	zone->from = at;
	zone->until = found > 0 ? boundary : PG_INT64_MAX;
	zone->offset = before;
	*to++ = before < 0 ? '-' : '+';
	to = put_two(to, seconds / SECS_PER_HOUR);
	if (seconds % SECS_PER_HOUR != 0)
	{
		*to++ = ':';
		to = put_two(to, seconds % SECS_PER_HOUR / SECS_PER_MINUTE);
	}
	if (seconds % SECS_PER_MINUTE != 0)
	{
		*to++ = ':';
		to = put_two(to, seconds % SECS_PER_MINUTE);
	}
	zone->length = to - zone->written;
	return true;
}

/* Whatever a timestamp is, by the server's code. */
static int
write_slowly(Timestamp timestamp, bool zoned, char *to)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset = 0;
	const char *name = NULL;

	if (TIMESTAMP_NOT_FINITE(timestamp))
		EncodeSpecialTimestamp(timestamp, to);
	else if (timestamp2tm(timestamp, zoned ? &offset : NULL, &tm, &fsec,
						  zoned ? &name : NULL, NULL) == 0)
		EncodeDateTime(&tm, fsec, zoned, offset, name, USE_ISO_DATES, to);
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return strlen(to);
}

static inline char *
put_time(char *to, int64 of_day)
{
	uint32		seconds = of_day / USECS_PER_SEC;
	uint32		fraction = of_day % USECS_PER_SEC;

	*to++ = ' ';
	to = put_two(to, seconds / SECS_PER_HOUR);
	*to++ = ':';
	to = put_two(to, seconds % SECS_PER_HOUR / SECS_PER_MINUTE);
	*to++ = ':';
	to = put_two(to, seconds % SECS_PER_MINUTE);
	if (fraction == 0)
		return to;
	*to++ = '.';
	to = put_two(to, fraction / 10000);
	to = put_two(to, fraction / 100 % 100);
	to = put_two(to, fraction % 100);
	while (to[-1] == '0')
		to--;
	return to;
}

static inline int64
floor_divide(int64 n, int64 by)
{
	return n / by - (n % by < 0);
}

/*
 * Writes a timestamp, with a zone it is one in the session's time zone; says how
 * long it is, at most MAXDATELEN. What it learns of the session's zone it keeps in
 * "zone", which begins as zeros; NULL for a timestamp without a time zone.
 */
int
rf_csv_timestamp(Timestamp timestamp, RfCsvZone *zone, char *to)
{
	char	   *end;
	int64		day;

	/* Also what isn't finite. */
	if (!is_plain_day(floor_divide(timestamp, USECS_PER_DAY)))
		return write_slowly(timestamp, zone != NULL, to);
	if (zone != NULL)
	{
		pg_time_t	at = floor_divide(timestamp, USECS_PER_SEC) +
		UNIX_SECONDS_OF_2000;

		if ((zone->zone != session_timezone || at < zone->from ||
			 at >= zone->until) && !learn_zone(zone, at))
			return write_slowly(timestamp, true, to);
		timestamp += zone->offset * USECS_PER_SEC;
	}
	day = floor_divide(timestamp, USECS_PER_DAY);
	if (!is_plain_day(day))
		return write_slowly(timestamp - zone->offset * USECS_PER_SEC, true, to);
	end = put_day(to, day);
	end = put_time(end, timestamp - day * USECS_PER_DAY);
	if (zone != NULL)
	{
		memcpy(end, zone->written, zone->length);
		end += zone->length;
	}
	return end - to;
}
