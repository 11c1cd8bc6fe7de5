/*
 * csv_scan.h: copies a cell while looking for what has it quoted, 16 or 8 bytes
 * at a time. Nothing is read or written outside of its bytes.
 */
#ifndef RINGFENCE_CSV_SCAN_H
#define RINGFENCE_CSV_SCAN_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define CSV_EVERY(byte) (UINT64CONST(0x0101010101010101) * (unsigned char) (byte))

/* The top bit of a byte is set if the byte is zero, and of none if none is. */
#define CSV_HAS_ZERO(word) \
	(((word) - UINT64CONST(0x0101010101010101)) & ~(word) & \
	 UINT64CONST(0x8080808080808080))

/* Not zero if a byte of the word is a quote, CR, LF or the delimiter. */
static inline uint64
csv_special(uint64 word, uint64 delimiters)
{
	uint64		quote = word ^ CSV_EVERY('"');
	uint64		cr = word ^ CSV_EVERY('\r');
	uint64		lf = word ^ CSV_EVERY('\n');
	uint64		delimiter = word ^ delimiters;

	return CSV_HAS_ZERO(quote) | CSV_HAS_ZERO(cr) | CSV_HAS_ZERO(lf) |
		CSV_HAS_ZERO(delimiter);
}

static inline uint64
csv_copy_8(char *to, const char *from, uint64 delimiters)
{
	uint64		word;

	memcpy(&word, from, 8);
	memcpy(to, &word, 8);
	return csv_special(word, delimiters);
}

static inline uint64
csv_copy_4(char *to, const char *from, uint64 delimiters)
{
	uint32		half;

	memcpy(&half, from, 4);
	memcpy(to, &half, 4);
	return csv_special(half, delimiters);
}

#ifdef __SSE2__
static inline int
csv_copy_16(char *to, const char *from, __m128i delimiters)
{
	__m128i		bytes = _mm_loadu_si128((const __m128i *) from);
	__m128i		found;

	_mm_storeu_si128((__m128i *) to, bytes);
	found = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
									  _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r'))),
						 _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')),
									  _mm_cmpeq_epi8(bytes, delimiters)));
	return _mm_movemask_epi8(found);
}
#endif

/*
 * Copies the bytes; false as soon as one has the cell quoted, and then what was
 * written doesn't count. The last word overlaps the one before it, so that no
 * rest is left to go through byte by byte.
 */
static inline bool
csv_copy_plain(char *to, const char *from, Size len, char delimiter)
{
	uint64		delimiters = CSV_EVERY(delimiter);
	Size		i = 0;

	if (len < 4)
	{
		for (; i < len; i++)
		{
			char		c = from[i];

			if (c == '"' || c == '\r' || c == '\n' || c == delimiter)
				return false;
			to[i] = c;
		}
		return true;
	}
	if (len < 8)
		return (csv_copy_4(to, from, delimiters) |
				csv_copy_4(to + len - 4, from + len - 4, delimiters)) == 0;
#ifdef __SSE2__
	if (len >= 16)
	{
		__m128i		wide = _mm_set1_epi8(delimiter);

		for (; i + 16 <= len; i += 16)
			if (csv_copy_16(to + i, from + i, wide))
				return false;
		return csv_copy_16(to + len - 16, from + len - 16, wide) == 0;
	}
#endif
	for (; i + 8 <= len; i += 8)
		if (csv_copy_8(to + i, from + i, delimiters))
			return false;
	return csv_copy_8(to + len - 8, from + len - 8, delimiters) == 0;
}

/* Copies bytes and doubles their quotes; says where it ended. */
static inline char *
csv_copy_doubling(char *to, const char *from, Size len)
{
	const char *end = from + len;

	while (from < end)
	{
		const char *stop = from + Min(8, end - from);

		if (stop - from == 8)
		{
			uint64		word;
			uint64		quotes;

			memcpy(&word, from, 8);
			quotes = word ^ CSV_EVERY('"');
			if (CSV_HAS_ZERO(quotes) == 0)
			{
				memcpy(to, &word, 8);
				to += 8;
				from = stop;
				continue;
			}
		}
		for (; from < stop; from++)
		{
			*to++ = *from;
			if (*from == '"')
				*to++ = '"';
		}
	}
	return to;
}

#endif							/* RINGFENCE_CSV_SCAN_H */
