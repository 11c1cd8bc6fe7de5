/*
 * csv_split.c: takes CSV text apart, cell by cell (RFC 4180).
 *
 * A cell is either plain, and then has no quote in it, or stands in quotes and
 * may hold anything, a quote as two. Lines end with CRLF, LF or CR, the last one
 * with or without. A line of no bytes is no record. A byte order mark in front
 * is passed over. What doesn't hold to this is a flaw, never guessed at.
 *
 * Pure functions over the caller's bytes, built outside the server as well for
 * the fuzzer: nothing is allocated, nothing past the end is read, and the time
 * is in proportion to the length, eight bytes at a step. Bytes that matter are
 * ASCII, which no server encoding has within a character.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "csv_split.h"

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

/* Eight times the byte, and whether one of eight is 0. */
#define EIGHT(byte) (UINT64CONST(0x0101010101010101) * (unsigned char) (byte))
#define HAS_ZERO(word) \
	(((word) - EIGHT(0x01)) & ~(word) & EIGHT(0x80))

/* Begins with text that stays where it is as long as its cells are looked at. */
void
rf_csv_split_begin(RfCsvSplit *split, const char *data, size_t len,
				   char delimiter)
{
	memset(split, 0, sizeof(*split));
	split->next = data;
	split->end = data + len;
	split->delimiter = delimiter;
	split->next_line = 1;
	if (len >= strlen(BYTE_ORDER_MARK) &&
		memcmp(data, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0)
		split->next += strlen(BYTE_ORDER_MARK);
}

/* The first byte that is a line end, a quote or the other one, or the end. */
static inline const char *
find_special(const char *next, const char *end, char other)
{
	while (end - next >= (ptrdiff_t) sizeof(uint64))
	{
		uint64		word;

		memcpy(&word, next, sizeof(word));
		if ((HAS_ZERO(word ^ EIGHT('"')) | HAS_ZERO(word ^ EIGHT('\n')) |
			 HAS_ZERO(word ^ EIGHT('\r')) | HAS_ZERO(word ^ EIGHT(other))) != 0)
			break;
		next += sizeof(word);
	}
	while (next < end && *next != '"' && *next != '\n' && *next != '\r' &&
		   *next != other)
		next++;
	return next;
}

static inline bool
ends_line(char c)
{
	return c == '\n' || c == '\r';
}

/* Past the line end at "next". */
static inline const char *
pass_line_end(RfCsvSplit *split, const char *next)
{
	split->next_line++;
	if (*next == '\r' && split->end - next > 1 && next[1] == '\n')
		return next + 2;
	return next + 1;
}

static RfCsvStep
fail(RfCsvSplit *split, RfCsvFlaw flaw)
{
	split->flaw = flaw;
	return RF_CSV_FAILED;
}

static RfCsvFlaw
scan_plain(RfCsvSplit *split, RfCsvCell *cell)
{
	const char *next = find_special(split->next, split->end, split->delimiter);

	cell->data = split->next;
	cell->len = next - split->next;
	split->next = next;
	return next < split->end && *next == '"' ?
		RF_CSV_STRAY_QUOTE : RF_CSV_SOUND;
}

static RfCsvFlaw
scan_quoted(RfCsvSplit *split, RfCsvCell *cell)
{
	const char *next = split->next + 1;

	cell->data = next;
	cell->quoted = true;
	for (;;)
	{
		next = find_special(next, split->end, '"');
		if (next == split->end)
			return RF_CSV_NOT_CLOSED;
		if (*next != '"')
			next = pass_line_end(split, next);
		else if (split->end - next > 1 && next[1] == '"')
		{
			cell->doubled = true;
			next += 2;
		}
		else
			break;
	}
	cell->len = next - cell->data;
	next++;
	split->next = next;
	return next == split->end || *next == split->delimiter || ends_line(*next) ?
		RF_CSV_SOUND : RF_CSV_AFTER_QUOTE;
}

/*
 * The next cell. Once it has failed or is over it stays so. In "split" stand the
 * line and the number of the cell, or of that which has the flaw.
 */
RfCsvStep
rf_csv_split_next(RfCsvSplit *split, RfCsvCell *cell)
{
	RfCsvFlaw	flaw;

	if (split->flaw != RF_CSV_SOUND)
		return RF_CSV_FAILED;
	if (!split->in_record)
	{
		while (split->next < split->end && ends_line(*split->next))
			split->next = pass_line_end(split, split->next);
		if (split->next == split->end)
			return RF_CSV_END;
		split->line = split->next_line;
		split->cell = 0;
	}
	split->cell++;
	if (split->cell > RF_CSV_MAX_CELLS)
		return fail(split, RF_CSV_TOO_MANY_CELLS);

	memset(cell, 0, sizeof(*cell));
	if (split->next < split->end && *split->next == '"')
		flaw = scan_quoted(split, cell);
	else
		flaw = scan_plain(split, cell);
	if (flaw != RF_CSV_SOUND)
		return fail(split, flaw);

	split->in_record = split->next < split->end &&
		*split->next == split->delimiter;
	if (split->in_record)
	{
		split->next++;
		return RF_CSV_CELL;
	}
	if (split->next < split->end)
		split->next = pass_line_end(split, split->next);
	return RF_CSV_LAST;
}

/*
 * Copies what a cell stands for to "out", which has room for cell->len bytes,
 * and returns its length.
 */
size_t
rf_csv_cell_copy(const RfCsvCell *cell, char *out)
{
	const char *next = cell->data;
	const char *end = cell->data + cell->len;
	char	   *begin = out;

	if (!cell->doubled)
	{
		if (cell->len > 0)
			memcpy(out, cell->data, cell->len);
		return cell->len;
	}
	while (next < end)
	{
		const char *quote = memchr(next, '"', end - next);
		size_t		len = (quote != NULL ? quote + 1 : end) - next;

		memcpy(out, next, len);
		out += len;
		next += len + (quote != NULL);
	}
	return out - begin;
}
