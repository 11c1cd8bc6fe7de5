/*
 * memory.c: see memory.h. Takes the place of libpgcommon's fe_memutils.
 */
#include "postgres_fe.h"

#include "common/fe_memutils.h"

#include "memory.h"

typedef struct Piece
{
	struct Piece *next;
	void	   *memory;
} Piece;

static Piece *pieces = NULL;

static void *
track(void *memory)
{
	Piece	   *piece = malloc(sizeof(Piece));

	if (memory == NULL || piece == NULL)
		abort();
	piece->memory = memory;
	piece->next = pieces;
	pieces = piece;
	return memory;
}

void
memory_reset(void)
{
	while (pieces != NULL)
	{
		Piece	   *next = pieces->next;

		free(pieces->memory);
		free(pieces);
		pieces = next;
	}
}

void *
pg_malloc(size_t size)
{
	return track(malloc(size > 0 ? size : 1));
}

void *
pg_malloc0(size_t size)
{
	return track(calloc(1, size > 0 ? size : 1));
}

void *
pg_malloc_extended(size_t size, int flags)
{
	return (flags & MCXT_ALLOC_ZERO) != 0 ? pg_malloc0(size) : pg_malloc(size);
}

void *
pg_realloc(void *ptr, size_t size)
{
	for (Piece *piece = pieces; piece != NULL; piece = piece->next)
		if (piece->memory == ptr)
		{
			piece->memory = realloc(ptr, size > 0 ? size : 1);
			return piece->memory;
		}
	return pg_malloc(size);
}

/* Given back by memory_reset(), which also finds a use after this in time. */
void
pg_free(void *ptr)
{
	for (Piece *piece = pieces; piece != NULL; piece = piece->next)
		if (piece->memory == ptr)
		{
			free(ptr);
			piece->memory = NULL;
			return;
		}
	if (ptr != NULL)
		abort();
}

char *
pg_strdup(const char *in)
{
	return track(strdup(in));
}

void *
palloc(Size size)
{
	return pg_malloc(size);
}

void *
palloc0(Size size)
{
	return pg_malloc0(size);
}

void *
palloc_extended(Size size, int flags)
{
	return pg_malloc_extended(size, flags);
}

void *
repalloc(void *pointer, Size size)
{
	return pg_realloc(pointer, size);
}

void
pfree(void *pointer)
{
	pg_free(pointer);
}

char *
pstrdup(const char *in)
{
	return pg_strdup(in);
}

char *
pnstrdup(const char *in, Size size)
{
	return track(strndup(in, size));
}
