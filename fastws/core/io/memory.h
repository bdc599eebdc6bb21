/* What is asked of the C library's allocator. */
#ifndef FASTWS_MEMORY_H
#define FASTWS_MEMORY_H

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

/* A block of 1 MiB is more than glibc keeps: it would give the memory back to the kernel after each one, and pay for
 * the next with 256 page faults, which cost more than all else that is done to it. Both must be set: setting either
 * stops glibc from adapting the other. */
static int memory_kept; /* it has been */

static inline void
memory_keep(void)
{
#ifdef __GLIBC__
    memory_kept = 1;
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
#endif
}

/* Undoes that for a moment, in which all that is free at the end of the heap goes back. Unlike malloc_trim(), which
 * looks at every free block there is and takes a quarter of a second for a million of them, this takes the same time
 * however much there is: the C library sees to the end of the heap when a large enough block is freed. */
static inline void
memory_give_back(void)
{
#ifdef __GLIBC__
    void *volatile block;
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
    block = malloc(128 << 10);
    free(block);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
#endif
}

#endif
