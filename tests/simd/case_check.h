/* check and unmask_check: what is UTF-8, however it is cut, and where it ceases to be. */
#ifndef CASE_CHECK_H
#define CASE_CHECK_H

#include "case_unmask.h"

enum { CHECK, UNMASK_CHECK_IN_PLACE, UNMASK_CHECK, CHECK_WAYS };

static void
expect_text(const simd_text *text, const reference_text *wanted, int checked_before)
{
    if (text->need != wanted->need)
        fail("%d bytes are needed, not %u", text->need, wanted->need);
    if (wanted->need && (text->low != wanted->low || text->high != wanted->high))
        fail("next comes %02x-%02x, not %02x-%02x", text->low, text->high, wanted->low, wanted->high);
    if (text->chars != wanted->chars)
        fail("%zu characters, not %zu%s", text->chars, wanted->chars, checked_before ? ", with earlier pieces" : "");
    if (simd_width(text) != wanted->width)
        fail("width %d (top %02x), not %d", simd_width(text), text->top, wanted->width);
}

/* What stands in `to` when n bytes of it have been unmasked, the first `good` of which can be right. */
static void
expect_unmasked(const guarded *memory, const uint8_t *masked, const uint8_t *plain, size_t n, size_t good, int in_place)
{
    guarded_holds(memory, plain, good < n ? good + 1 : n, "unmasked");
    for (size_t i = good; i < n; i++) /* behind a wrong byte not all needs to be written */
        if (memory->p[i] != plain[i] && memory->p[i] != (in_place ? masked[i] : UNTOUCHED))
            fail("unmasked: byte %zu is %02x", i, memory->p[i]);
}

/* Checks one piece of a text; returns what the kernel did. */
static size_t
check_piece(const simd_kernels *kernels, int way, simd_text *text, const uint8_t *piece, size_t n, size_t good,
            int from_at, int to_at, uint32_t *key)
{
    static uint8_t masked[ROOM];
    static const char *const names[] = {"check", "unmask_check in place", "unmask_check"};
    now.kernel = names[way];
    now.n = n;
    now.from_at = from_at;
    now.to_at = way == UNMASK_CHECK ? to_at : from_at;
    now.key = *key;
    now.cases++;
    if (way == CHECK) {
        const uint8_t *from = guarded_place(&from_memory, from_at, piece, n);
        const size_t got = kernels->check(text, from, n);
        guarded_holds(&from_memory, piece, n, "what was to be read only");
        return got;
    }
    const uint32_t rotated = reference_unmask(masked, piece, n, *key);
    uint8_t *from = guarded_place(&from_memory, from_at, masked, n);
    uint8_t *to = way == UNMASK_CHECK ? guarded_place(&to_memory, to_at, NULL, n) : from;
    const size_t got = kernels->unmask_check(text, to, from, n, key);
    if (good == n && *key != rotated)
        fail("the key is now %08x, not %08x", *key, rotated);
    expect_unmasked(way == UNMASK_CHECK ? &to_memory : &from_memory, masked, piece, n, good, way != UNMASK_CHECK);
    if (way == UNMASK_CHECK)
        guarded_holds(&from_memory, masked, n, "what was to be read only");
    return got;
}

/* Checks a text of n bytes in pieces that end at the `cuts`, of which the last is n. */
static void
check_pieces(const simd_kernels *kernels, int way, const uint8_t *bytes, const size_t *cuts, int from_at, int to_at,
             uint32_t key)
{
    simd_text text;
    memset(&text, 0, sizeof(text));
    size_t begin = 0;
    now.bytes = bytes;
    for (;; cuts++) {
        const reference_text wanted = reference_read(bytes, *cuts, NULL);
        const size_t n = *cuts - begin, good = wanted.good - begin;
        now.cut = begin;
        now.size = *cuts;
        const size_t got = check_piece(kernels, way, &text, bytes + begin, n, good, from_at, to_at, &key);
        if (got != good)
            fail("returned %zu, not %zu", got, good);
        if (good < n)
            break;
        expect_text(&text, &wanted, begin > 0);
        begin = *cuts;
        if (cuts[1] < begin)
            break;
    }
    now.cut = 0;
}

#define LAST ((size_t)0) /* behind the cuts */

static void
check_whole(const simd_kernels *kernels, int way, const uint8_t *bytes, size_t n, int from_at, int to_at, uint32_t key)
{
    /* An empty text is tried too, so that the end of the cuts must be less than none. */
    if (n) {
        check_pieces(kernels, way, bytes, (size_t[]){n, LAST}, from_at, to_at, key);
        return;
    }
    simd_text text;
    memset(&text, 0, sizeof(text));
    const uint32_t before = key;
    if (check_piece(kernels, way, &text, bytes, 0, 0, from_at, to_at, &key) || key != before)
        fail("something was found in nothing");
    expect_text(&text, &(reference_text){0, 0, 0, 0, 0, 1}, 0);
}

/* In 3-10 pieces, some of which may be empty. */
static void
check_random_cuts(const simd_kernels *kernels, int way, const uint8_t *bytes, size_t n, uint64_t *seed)
{
    size_t cuts[12];
    const size_t count = 3 + random_below(seed, 8);
    for (size_t i = 0; i + 1 < count; i++) {
        const size_t cut = 1 + random_below(seed, (uint32_t)n);
        size_t at = i;
        for (; at && cuts[at - 1] > cut; at--)
            cuts[at] = cuts[at - 1];
        cuts[at] = cut;
    }
    cuts[count - 1] = n;
    cuts[count] = LAST;
    const int from_at = (int)random_below(seed, 65) - 1, to_at = (int)random_below(seed, 65) - 1;
    check_pieces(kernels, way, bytes, cuts, from_at, to_at, random_key(seed));
}

/* Random text, whole, at every offset and in all lengths; then cut at every byte. */
static void
check_texts(const simd_kernels *kernels, int mix, uint64_t *seed)
{
    static uint32_t characters[4500];
    static uint8_t bytes[4 * 4500];
    now.text = mix_names[mix];
    for (size_t n = 0; n <= 257; n++) {
        random_characters(seed, mix, characters, n + 1);
        reference_write(bytes, characters, n + 1);
        for (int way = 0; way < CHECK_WAYS; way++) {
            check_whole(kernels, way, bytes, n, AT_END, AT_END, random_key(seed));
            for (int at = 0; at < 64; at += offset_step)
                check_whole(kernels, way, bytes, n, at, some_offset(seed), random_key(seed));
            if (n)
                check_random_cuts(kernels, way, bytes, n, seed);
        }
        if (n % 64 > 2 && n % (size_t)(11 * offset_step))
            continue;
        for (int way = 0; way < CHECK_WAYS; way++)
            for (size_t cut = 1; cut < n; cut++)
                check_pieces(kernels, way, bytes, (size_t[]){cut, n, LAST}, AT_END, AT_END, random_key(seed));
    }
    for (size_t n = 4096 - 4; n <= 4096 + 4; n++) {
        random_characters(seed, mix, characters, 4200);
        reference_write(bytes, characters, 4200);
        for (int way = 0; way < CHECK_WAYS; way++) {
            check_whole(kernels, way, bytes, n, AT_END, AT_END, random_key(seed));
            check_whole(kernels, way, bytes, n, (int)random_below(seed, 64), some_offset(seed), random_key(seed));
            for (int times = 0; times < 8; times++)
                check_random_cuts(kernels, way, bytes, n, seed);
        }
    }
}

#undef LAST

#endif
