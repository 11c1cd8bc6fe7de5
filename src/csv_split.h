/*
 * csv_split.h: takes CSV text apart; see csv_split.c.
 *
 * Included after postgres.h or postgres_fe.h.
 */
#ifndef RINGFENCE_CSV_SPLIT_H
#define RINGFENCE_CSV_SPLIT_H

/* As many cells as a table can have columns. */
#define RF_CSV_MAX_CELLS 1600

typedef enum RfCsvFlaw
{
	RF_CSV_SOUND,
	RF_CSV_STRAY_QUOTE,			/* in a cell that doesn't begin with one */
	RF_CSV_AFTER_QUOTE,			/* something after the closing quote */
	RF_CSV_NOT_CLOSED,
	RF_CSV_TOO_MANY_CELLS,
} RfCsvFlaw;

typedef enum RfCsvStep
{
	RF_CSV_CELL,				/* more cells of the record follow */
	RF_CSV_LAST,				/* the record's last cell */
	RF_CSV_END,					/* no cell: the text is over */
	RF_CSV_FAILED,				/* no cell: see the flaw */
} RfCsvStep;

/* A cell where it lies in the text, without the quotes around it. */
typedef struct RfCsvCell
{
	const char *data;
	size_t		len;
	bool		quoted;
	bool		doubled;		/* there are doubled quotes in it */
} RfCsvCell;

typedef struct RfCsvSplit
{
	const char *next;
	const char *end;
	char		delimiter;
	bool		in_record;		/* a delimiter came last */
	int			next_line;		/* the line that "next" is on, from 1 */
	int			line;			/* where the record of the last cell begins */
	int			cell;			/* which cell of its record it is, from 1 */
	RfCsvFlaw	flaw;
} RfCsvSplit;

extern void rf_csv_split_begin(RfCsvSplit *split, const char *data, size_t len,
							   char delimiter);
extern RfCsvStep rf_csv_split_next(RfCsvSplit *split, RfCsvCell *cell);
extern size_t rf_csv_cell_copy(const RfCsvCell *cell, char *out);

#endif							/* RINGFENCE_CSV_SPLIT_H */
