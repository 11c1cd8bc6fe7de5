/*
 * csv_guard.c: cells that a spreadsheet would take for a formula.
 *
 * A cell is one if, behind apostrophes and then behind blanks, it has one of
 * = + - @, a tab, a carriage return or a line feed, or the full-width or small
 * form of such a sign, which some programs and input methods make into it. One
 * apostrophe goes in front of it. Since a cell of that shape remains one of that
 * shape, and an apostrophe in front of it was put there, it can be taken off
 * again: csv_unguard(csv_guard(x)) = x for all x.
 *
 * What isn't ASCII is looked for in the bytes of the database's encoding, into
 * which the characters are converted once a session. Of SQL_ASCII nobody knows
 * what its bytes are, so they are taken for UTF-8.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "csv.h"

#define MAX_BYTES 8				/* of a character */

PG_FUNCTION_INFO_V1(ringfence_csv_guard);
PG_FUNCTION_INFO_V1(ringfence_csv_unguard);

/* Blank, or of no width, and no ASCII. */
static const pg_wchar blanks[] = {
	0x0085, 0x00A0, 0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x1680, 0x180E,
	0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
	0x2009, 0x200A, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029,
	0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x202F, 0x205F, 0x2060, 0x2061,
	0x2062, 0x2063, 0x2064, 0x2066, 0x2067, 0x2068, 0x2069, 0x2800, 0x3000,
	0x3164, 0xFEFF, 0xFFA0
};

/* Forms of = + - @ that are no ASCII: full-width, small, minus sign. */
static const pg_wchar signs[] = {
	0xFF1D, 0xFF0B, 0xFF0D, 0xFF20, 0xFE66, 0xFE62, 0xFE63, 0xFE6B, 0x2212
};

typedef struct Sequence
{
	bool		sign;
	Size		len;
	unsigned char bytes[MAX_BYTES];
} Sequence;

/* Made once: the encoding of a session's database never changes. */
static struct
{
	bool		made;
	int			n;
	Sequence	sequences[2 * (lengthof(blanks) + lengthof(signs))];
	bool		starts[256];	/* what a formula can begin with */
}			known;

/* A character in the database's encoding; 0 bytes if it has none there. */
static int
encode(pg_wchar character, Oid conversion, unsigned char *bytes)
{
	unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN + 1];
	unsigned char encoded[4 * MAX_MULTIBYTE_CHAR_LEN + 1];
	int			utf8_len;
	int			len;

	unicode_to_utf8(character, utf8);
	utf8_len = pg_utf_mblen(utf8);
	utf8[utf8_len] = '\0';
	if (!OidIsValid(conversion))
	{
		memcpy(bytes, utf8, utf8_len);
		return utf8_len;
	}
	if (pg_do_encoding_conversion_buf(conversion, PG_UTF8,
									  GetDatabaseEncoding(), utf8, utf8_len,
									  encoded, sizeof(encoded),
									  true) != utf8_len)
		return 0;
	len = strlen((char *) encoded);
	if (len == 0 || len > MAX_BYTES || !IS_HIGHBIT_SET(encoded[0]))
		return 0;
	memcpy(bytes, encoded, len);
	return len;
}

static void
learn(const pg_wchar *characters, int n, bool sign, Oid conversion)
{
	for (int i = 0; i < n; i++)
	{
		Sequence   *sequence = &known.sequences[known.n];

		sequence->sign = sign;
		sequence->len = encode(characters[i], conversion, sequence->bytes);
		if (sequence->len == 0)
			continue;
		known.starts[sequence->bytes[0]] = true;
		known.n++;
		if (GetDatabaseEncoding() == PG_EUC_TW && sequence->len == 2)
		{
			/* The first of its planes can be named, too. */
			known.sequences[known.n].sign = sign;
			known.sequences[known.n].len = 4;
			memcpy(known.sequences[known.n].bytes, "\x8e\xa1", 2);
			memcpy(known.sequences[known.n].bytes + 2, sequence->bytes, 2);
			known.starts[0x8e] = true;
			known.n++;
		}
	}
}

static void
learn_all(void)
{
	int			encoding = GetDatabaseEncoding();
	Oid			conversion = InvalidOid;

	known.n = 0;
	memset(known.starts, 0, sizeof(known.starts));
	for (int c = 0; c <= ' '; c++)
		known.starts[c] = true;
	for (const char *c = "\177'=+-@"; *c != '\0'; c++)
		known.starts[(unsigned char) *c] = true;
	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII)
	{
		conversion = FindDefaultConversionProc(PG_UTF8, encoding);
		if (!OidIsValid(conversion))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("default conversion function for encoding \"%s\" to \"%s\" does not exist",
							"UTF8", GetDatabaseEncodingName())));
	}
	learn(blanks, lengthof(blanks), false, conversion);
	learn(signs, lengthof(signs), true, conversion);
	known.made = true;
}

/*
 * By a cell's first byte, whether it may be a formula at all; the rest needn't be
 * asked about. Lives as long as the session. Reads the catalogs when first called.
 */
const bool *
rf_csv_formula_starts(void)
{
	if (!known.made)
		learn_all();
	return known.starts;
}

/* The sequence that these bytes begin with, or NULL. */
static const Sequence *
find_sequence(const unsigned char *bytes, Size len)
{
	for (int i = 0; i < known.n; i++)
	{
		const Sequence *sequence = &known.sequences[i];

		if (sequence->len <= len &&
			memcmp(sequence->bytes, bytes, sequence->len) == 0)
			return sequence;
	}
	return NULL;
}

/* Whether a cell has the shape of a formula, with an apostrophe or without. */
bool
rf_csv_is_formula(const char *cell, Size len)
{
	const unsigned char *c = (const unsigned char *) cell;
	const unsigned char *end = c + len;
	const bool *starts = rf_csv_formula_starts();

	if (len == 0 || !starts[*c])
		return false;
	while (c < end && *c == '\'')
		c++;
	while (c < end && starts[*c])
	{
		const Sequence *sequence;

		switch (*c)
		{
			case '=':
			case '+':
			case '-':
			case '@':
			case '\t':
			case '\r':
			case '\n':
				return true;
			case '\'':
				return false;
		}
		if (!IS_HIGHBIT_SET(*c))
		{
			c++;				/* a space or a control character */
			continue;
		}
		CHECK_FOR_INTERRUPTS(); /* there may be hundreds of millions */
		sequence = find_sequence(c, end - c);
		if (sequence == NULL)
			return false;
		if (sequence->sign)
			return true;
		c += sequence->len;
	}
	return false;
}

/* The cell with an apostrophe in front if it is a formula; else itself. */
Datum
ringfence_csv_guard(PG_FUNCTION_ARGS)
{
	text	   *cell = PG_GETARG_TEXT_PP(0);
	Size		len = VARSIZE_ANY_EXHDR(cell);
	text	   *guarded;

	if (!rf_csv_is_formula(VARDATA_ANY(cell), len))
		PG_RETURN_TEXT_P(cell);
	guarded = palloc(VARHDRSZ + len + 1);
	SET_VARSIZE(guarded, VARHDRSZ + len + 1);
	*VARDATA(guarded) = '\'';
	memcpy(VARDATA(guarded) + 1, VARDATA_ANY(cell), len);
	PG_RETURN_TEXT_P(guarded);
}

/* The cell without the apostrophe that csv_guard() put in front. */
Datum
ringfence_csv_unguard(PG_FUNCTION_ARGS)
{
	text	   *cell = PG_GETARG_TEXT_PP(0);
	const char *bytes = VARDATA_ANY(cell);
	Size		len = VARSIZE_ANY_EXHDR(cell);

	if (len == 0 || *bytes != '\'' || !rf_csv_is_formula(bytes, len))
		PG_RETURN_TEXT_P(cell);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(bytes + 1, len - 1));
}
