/* Buffers between pages that may not be touched: one byte too many, read or written, ends the program.
 *
 * A buffer of n bytes stands with its end at the upper guard, or at an offset from the lower one. Where it does not
 * reach a guard, bytes beside it must not change, and under AddressSanitizer poison lies around it. */
#ifndef GUARDED_H
#define GUARDED_H

#include <sys/mman.h>

#include "report.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define ROOM ((size_t)64 << 10) /* of a buffer: a multiple of every processor's pages */
#define MARGIN ((size_t)64)     /* bytes beside it that must not change: one of the longest vectors */
#define UNTOUCHED 0xA5

typedef struct {
    const char *name;
    uint8_t *begin, *end;
    uint8_t *p; /* the buffer that stands there now */
    size_t n;
} guarded;

static guarded from_memory = {"from", NULL, NULL, NULL, 0}, to_memory = {"to", NULL, NULL, NULL, 0};

static void
guarded_make(guarded *memory)
{
    uint8_t *all = mmap(NULL, 3 * ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(all + ROOM, ROOM, PROT_READ | PROT_WRITE)) {
        perror("guarded memory");
        exit(2);
    }
    memory->begin = all + ROOM;
    memory->end = all + 2 * ROOM;
    memory->p = memory->begin;
    ASAN_POISON_MEMORY_REGION(memory->begin, ROOM);
}

/* How many bytes below and above the buffer are watched. */
static size_t
guarded_below(const guarded *memory)
{
    const size_t room = (size_t)(memory->p - memory->begin);
    return room < MARGIN ? room : MARGIN;
}

static size_t
guarded_above(const guarded *memory)
{
    const size_t room = (size_t)(memory->end - memory->p) - memory->n;
    return room < MARGIN ? room : MARGIN;
}

/* The buffer and what is watched of its sides. */
static size_t
guarded_around(const guarded *memory)
{
    return guarded_below(memory) + memory->n + guarded_above(memory);
}

/* A buffer of n bytes at that offset, or AT_END. It holds `content`, or marks where that is NULL. */
static uint8_t *
guarded_place(guarded *memory, int at, const void *content, size_t n)
{
    if (n + 64 * 4 > ROOM)
        fail("a buffer of %zu bytes is too large for the test", n);
    ASAN_POISON_MEMORY_REGION(memory->p - guarded_below(memory), guarded_around(memory));
    memory->p = at == AT_END ? memory->end - n : memory->begin + at;
    memory->n = n;
    ASAN_UNPOISON_MEMORY_REGION(memory->p - guarded_below(memory), guarded_around(memory));
    memset(memory->p - guarded_below(memory), UNTOUCHED, guarded_below(memory));
    memset(memory->p + n, UNTOUCHED, guarded_above(memory));
    if (content)
        memcpy(memory->p, content, n);
    else
        memset(memory->p, UNTOUCHED, n);
    ASAN_POISON_MEMORY_REGION(memory->p - guarded_below(memory), guarded_below(memory));
    ASAN_POISON_MEMORY_REGION(memory->p + n, guarded_above(memory));
    return memory->p;
}

/* Fails where something beside the buffer has been written. */
static void
guarded_intact(const guarded *memory)
{
    static uint8_t untouched[MARGIN];
    const uint8_t *above = memory->p + memory->n, *below = memory->p - guarded_below(memory);
    if (!untouched[0])
        memset(untouched, UNTOUCHED, sizeof(untouched));
    ASAN_UNPOISON_MEMORY_REGION(below, guarded_around(memory));
    if (!memcmp(below, untouched, guarded_below(memory)) && !memcmp(above, untouched, guarded_above(memory)))
        return;
    for (size_t i = 0; i < MARGIN; i++) {
        if (i < guarded_below(memory) && below[i] != UNTOUCHED)
            fail("wrote byte %td of `%s`", below + i - memory->p, memory->name);
        if (i < guarded_above(memory) && above[i] != UNTOUCHED)
            fail("wrote byte %td of `%s`, which has %zu", above + i - memory->p, memory->name, memory->n);
    }
}

/* Fails where the buffer does not hold those bytes. */
static void
guarded_holds(const guarded *memory, const void *wanted, size_t n, const char *what)
{
    guarded_intact(memory);
    if (n && memcmp(memory->p, wanted, n)) {
        size_t i = 0;
        while (memory->p[i] == ((const uint8_t *)wanted)[i])
            i++;
        fail("%s: byte %zu is %02x, not %02x", what, i, memory->p[i], ((const uint8_t *)wanted)[i]);
    }
}

static void
report_touched(const uint8_t *address)
{
    const guarded *all[] = {&from_memory, &to_memory};
    for (size_t i = 0; i < 2; i++) {
        const guarded *memory = all[i];
        if (!memory->p)
            continue;
        if (address >= memory->end && address < memory->end + ROOM)
            fprintf(stderr, ": touched the byte %td behind the end of `%s`", address - (memory->p + memory->n),
                    memory->name);
        else if (address < memory->begin && address >= memory->begin - ROOM)
            fprintf(stderr, ": touched the byte %td before `%s`", memory->p - address, memory->name);
    }
}

#endif
