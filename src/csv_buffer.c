/*
 * csv_buffer.c: the bytes of a CSV as they are made.
 *
 * A buffer doubles. What lies behind its end was never touched, so that it costs
 * addresses and no memory; and a block of that size is moved by the kernel, which
 * copies nothing. In front is room for the header of a varlena: the finished
 * value is the buffer.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "utils/memutils.h"

#include "compat.h"
#include "csv.h"

#define INITIAL_BYTES 1024
#define HUGE_PAGE (2 * 1024 * 1024)

/* An empty buffer in a memory context, whose reset frees it. */
void
rf_csv_buffer_init(RfCsvBuffer *buffer, const char *format,
				   MemoryContext context)
{
	buffer->format = format;
	buffer->size = INITIAL_BYTES;
	buffer->data = MemoryContextAlloc(context, buffer->size);
	buffer->len = VARHDRSZ;
}

/*
 * Touching a page for the first time costs more than filling it, so that fewer and
 * larger ones are asked for. That they aren't granted is no harm. To ask it for a
 * piece of the block would be some: the kernel then keeps that as a mapping of its
 * own, and moves no block that is of several.
 */
static void
ask_for_huge_pages(RfCsvBuffer *buffer)
{
#ifdef MADV_HUGEPAGE
	long		page = sysconf(_SC_PAGESIZE);

	if (page > 0 && buffer->size >= HUGE_PAGE)
	{
		uintptr_t	first = TYPEALIGN_DOWN(page, buffer->data);
		uintptr_t	end = TYPEALIGN(page, buffer->data + buffer->size);

		(void) madvise((void *) first, end - first, MADV_HUGEPAGE);
	}
#endif
}

/* Empties it; its memory stays. */
void
rf_csv_buffer_reset(RfCsvBuffer *buffer)
{
	buffer->len = VARHDRSZ;
}

/*
 * Makes room for so many more bytes; for rf_csv_buffer_room(). Raises 54000 where
 * a value can't be that large, and leaves the buffer as it was.
 */
void
rf_csv_buffer_grow(RfCsvBuffer *buffer, Size more)
{
	Size		needed = buffer->len + more;
	Size		size = buffer->size;

	if (more > RF_CSV_LIMIT || needed > RF_CSV_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the %s is larger than 1 GB", buffer->format),
				 errdetail("No value can be larger."),
				 errhint("Call %s, which writes it in parts.",
						 "ringfence_v1.start_export()")));
	while (size < needed)
		size *= 2;
	size = Min(size, RF_CSV_LIMIT);
	buffer->data = repalloc_huge(buffer->data, size);
	buffer->size = size;
	ask_for_huge_pages(buffer);
}

void
rf_csv_buffer_append(RfCsvBuffer *buffer, const char *bytes, Size len)
{
	rf_csv_buffer_room(buffer, len);
	memcpy(buffer->data + buffer->len, bytes, len);
	buffer->len += len;
}

/* What is in it as a text or bytea, which is the buffer itself. */
struct varlena *
rf_csv_buffer_varlena(RfCsvBuffer *buffer)
{
	SET_VARSIZE(buffer->data, buffer->len);
	return (struct varlena *) buffer->data;
}
