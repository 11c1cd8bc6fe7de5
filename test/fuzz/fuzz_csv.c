/*
 * fuzz_csv.c: CSV text is taken apart as a reader that goes byte by byte would,
 * and cells that were written, by the writer's own scan, are read back as they
 * were.
 */
#include "postgres_fe.h"

#include "csv_scan.h"
#include "csv_split.h"
#include "memory.h"

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static const char delimiters[] = {',', ';', '\t', '|'};

static void
require(bool holds)
{
	if (!holds)
		abort();
}

typedef struct Text
{
	char	   *data;
	size_t		len;
	size_t		size;
}			Text;

static void
put(Text * text, char c)
{
	if (text->len == text->size)
	{
		text	  ->size = text->size * 2 + 16;
		text	  ->data = pg_realloc(text->data, text->size);
	}
	text	  ->data[text->len++] = c;
}

static bool
has_special(const uint8 *cell, size_t len, char delimiter)
{
	for (size_t i = 0; i < len; i++)
		if (cell[i] == '"' || cell[i] == '\n' || cell[i] == '\r' ||
			cell[i] == (uint8) delimiter)
			return true;
	return false;
}

/*
 * A cell as csv() writes it, quoted if it has to be or "quotes" says so. It is
 * read and written in memory of exactly its length.
 */
static void
put_cell(Text * text, const uint8 *bytes, size_t len, bool quotes,
		 char delimiter)
{
	char	   *cell = pg_malloc(len);
	char	   *written = pg_malloc(len);
	size_t		doubled = len;
	bool		plain;

	memcpy(cell, bytes, len);
	plain = csv_copy_plain(written, cell, len, delimiter);
	require(plain == !has_special(bytes, len, delimiter));
	if (!plain || quotes)
	{
		for (size_t i = 0; i < len; i++)
			doubled += cell[i] == '"';
		pg_free(written);
		written = pg_malloc(doubled);
		require(csv_copy_doubling(written, cell, len) == written + doubled);
		put(text, '"');
		for (size_t i = 0; i < doubled; i++)
			put(text, written[i]);
		put(text, '"');
	}
	else
		for (size_t i = 0; i < len; i++)
			put(text, written[i]);
	pg_free(written);
	pg_free(cell);
}

/* What a cell stands for, in memory of exactly its greatest length. */
static char *
copy_cell(const RfCsvCell *cell, size_t *len)
{
	char	   *copy = pg_malloc(cell->len);

	*len = rf_csv_cell_copy(cell, copy);
	require(*len <= cell->len && cell->doubled == (*len < cell->len));
	return copy;
}

/*
 * Whatever the bytes, the reader ends, stays within them, and counts lines and
 * cells upwards.
 */
static void
check_any(const char *data, size_t size, char delimiter)
{
	RfCsvSplit	split;
	RfCsvCell	cell;
	RfCsvStep	step;
	RfCsvStep	last = RF_CSV_LAST;
	const char *reached = data;
	int			line = 0;
	int			number = 0;

	rf_csv_split_begin(&split, data, size, delimiter);
	while ((step = rf_csv_split_next(&split, &cell)) == RF_CSV_CELL ||
		   step == RF_CSV_LAST)
	{
		size_t		len;
		char	   *copy = copy_cell(&cell, &len);

		require(cell.data >= reached && cell.data + cell.len <= data + size);
		require(split.next >= cell.data + cell.len && split.next <= data + size);
		reached = cell.data + cell.len;
		number = last == RF_CSV_CELL ? number + 1 : 1;
		require(split.cell == number && number <= RF_CSV_MAX_CELLS);
		require(last == RF_CSV_CELL ? split.line == line : split.line > line);
		line = split.line;
		if (!cell.quoted)
			for (size_t i = 0; i < len; i++)
				require(copy[i] != '"' && copy[i] != '\n' && copy[i] != '\r' &&
						copy[i] != delimiter);
		pg_free(copy);
		last = step;
	}
	require((step == RF_CSV_FAILED) == (split.flaw != RF_CSV_SOUND));
	require(step == RF_CSV_FAILED || split.next == data + size);
	require(rf_csv_split_next(&split, &cell) == step);
}

/* The reader by its definition: a state for each byte; the sound cells' sum. */
typedef enum State
{
	AT_RECORD, AT_CELL, IN_PLAIN, IN_QUOTES, AT_QUOTE
}			State;

static uint64
add(uint64 sum, unsigned int c)
{
	return (sum ^ c) * UINT64CONST(0x100000001b3);
}

static bool
sum_by_definition(const char *data, size_t size, char delimiter, uint64 *sum)
{
	State		state = AT_RECORD;
	size_t		i = size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	int			cells = 0;

	*sum = 0;
	for (; i < size; i++)
	{
		char		c = data[i];
		bool		line_end = c == '\n' || c == '\r';

		if (state == AT_RECORD && line_end)
			continue;
		if (state == AT_RECORD || state == AT_CELL)
		{
			if (++cells > RF_CSV_MAX_CELLS)
				return false;
			*sum = add(*sum, c == '"' ? 256 : 257);
			state = c == '"' ? IN_QUOTES : IN_PLAIN;
			if (c == '"')
				continue;
		}
		if (state == IN_QUOTES)
		{
			if (c == '"')
				state = AT_QUOTE;
			else
				*sum = add(*sum, (unsigned char) c);
		}
		else if (c == '"' && state == AT_QUOTE)
		{
			*sum = add(*sum, (unsigned char) c);
			state = IN_QUOTES;
		}
		else if (line_end || c == delimiter)
		{
			*sum = add(*sum, line_end ? 258 : 259);
			state = line_end ? AT_RECORD : AT_CELL;
			if (line_end)
				cells = 0;
		}
		else if (c == '"' || state == AT_QUOTE)
			return false;
		else
			*sum = add(*sum, (unsigned char) c);
	}
	if (state == AT_CELL && cells == RF_CSV_MAX_CELLS)
		return false;
	if (state == AT_CELL)
		*sum = add(*sum, 257);
	if (state != AT_RECORD)
		*sum = add(*sum, 258);
	return state != IN_QUOTES;
}

static void
check_definition(const char *data, size_t size, char delimiter)
{
	RfCsvSplit	split;
	RfCsvCell	cell;
	RfCsvStep	step;
	uint64		expected;
	uint64		sum = 0;
	bool		sound = sum_by_definition(data, size, delimiter, &expected);

	rf_csv_split_begin(&split, data, size, delimiter);
	while ((step = rf_csv_split_next(&split, &cell)) == RF_CSV_CELL ||
		   step == RF_CSV_LAST)
	{
		size_t		len;
		char	   *copy = copy_cell(&cell, &len);

		sum = add(sum, cell.quoted ? 256 : 257);
		for (size_t i = 0; i < len; i++)
			sum = add(sum, (unsigned char) copy[i]);
		sum = add(sum, step == RF_CSV_LAST ? 258 : 259);
		pg_free(copy);
	}
	require(sound == (step == RF_CSV_END));
	require(!sound || sum == expected);
}

/*
 * Cells made of the input, where a byte below 4 ends one: what it is and how it
 * is written follows from that byte. Written, and read back.
 */
static void
check_round_trip(const uint8 *data, size_t size, char delimiter, bool bom)
{
	Text text = {0};
	RfCsvSplit	split;
	RfCsvCell	cell;
	size_t		begin = 0;
	int			cells = 0;
	int			read = 0;

	for (const char *c = bom ? "\xef\xbb\xbf" : ""; *c != '\0'; c++)
		put(&text, *c);
	for (size_t i = 0; i <= size; i++)
	{
		uint8		how = i < size ? data[i] : 0;
		bool		quotes = begin == i;

		if (how >= 4)
			continue;
		/* A byte order mark in front is none of the text's. */
		for (size_t j = begin; j < i; j++)
			quotes |= data[j] == 0xef;
		put_cell(&text, data + begin, i - begin, quotes, delimiter);
		cells++;
		if (how == 3 && cells % RF_CSV_MAX_CELLS != 0)
			put(&text, delimiter);
		else
		{
			if (how == 1)
				put(&text, '\r');
			else
				put(&text, '\n');
		}
		begin = i + 1;
	}

	rf_csv_split_begin(&split, text.data, text.len, delimiter);
	begin = 0;
	for (size_t i = 0; i <= size; i++)
	{
		RfCsvStep	step;
		size_t		len;
		char	   *copy;

		if (i < size && data[i] >= 4)
			continue;
		step = rf_csv_split_next(&split, &cell);
		if (step == RF_CSV_FAILED)
		{
			require(split.flaw == RF_CSV_TOO_MANY_CELLS);
			return;
		}
		require(step == RF_CSV_CELL || step == RF_CSV_LAST);
		copy = copy_cell(&cell, &len);
		require(len == i - begin && (len == 0 || memcmp(copy, data + begin, len) == 0));
		pg_free(copy);
		read++;
		begin = i + 1;
	}
	require(read == cells);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	char		delimiter;
	bool		bom;
	char	   *copy;

	if (size == 0)
		return 0;
	delimiter = delimiters[data[0] % lengthof(delimiters)];
	bom = (data[0] & 0x80) != 0;
	data++;
	size--;

	/* No longer than its bytes, so that a step past their end is seen. */
	copy = pg_malloc(size);
	memcpy(copy, data, size);
	check_any(copy, size, delimiter);
	check_definition(copy, size, delimiter);
	check_round_trip(data, size, delimiter, bom);
	memory_reset();
	return 0;
}
