/*
 * memory.h: memory for the fuzzers.
 *
 * Server code gives back memory by resetting a context. Outside the server
 * palloc() is malloc(), so a fuzzer that runs for minutes would grow without
 * bounds. This keeps a list of what was allocated and frees it after each
 * input; each piece is still an allocation of its own, so that the address
 * sanitizer sees every byte past its end.
 */
#ifndef FUZZ_MEMORY_H
#define FUZZ_MEMORY_H

extern void memory_reset(void);

#endif							/* FUZZ_MEMORY_H */
