/* unmask: RFC 6455 section 5.3. */
#ifndef CASE_UNMASK_H
#define CASE_UNMASK_H

#include "guarded.h"
#include "reference.h"
#include "texts.h"

static int offset_step = 1; /* through the offsets 0-63; more than 1 is for slow machines and sanitizers */

/* A key of four different bytes, or now and then one that a kernel might take for granted. */
static uint32_t
random_key(uint64_t *state)
{
    static const uint32_t plain[] = {0, 0xFFFFFFFF, 1, 0x80};
    return random_below(state, 16) ? (uint32_t)random_next(state) : plain[random_below(state, 4)];
}

/* Where it is in place, the buffer at `from_at` is also the other one. */
static void
unmask_once(const simd_kernels *kernels, const uint8_t *data, size_t n, int from_at, int to_at, int in_place,
            uint32_t key)
{
    static uint8_t wanted[ROOM];
    const uint32_t rotated = reference_unmask(wanted, data, n, key);
    uint8_t *from = guarded_place(&from_memory, from_at, data, n);
    uint8_t *to = in_place ? from : guarded_place(&to_memory, to_at, NULL, n);
    now.kernel = in_place ? "unmask in place" : "unmask";
    now.text = "random bytes";
    now.n = n;
    now.from_at = from_at;
    now.to_at = in_place ? from_at : to_at;
    now.key = key;
    now.cases++;
    const uint32_t got = kernels->unmask(to, from, n, key);
    if (got != rotated)
        fail("returned the key %08x, not %08x", got, rotated);
    guarded_holds(in_place ? &from_memory : &to_memory, wanted, n, "unmasked");
    if (!in_place)
        guarded_holds(&from_memory, data, n, "what was to be read only");
}

static int
some_offset(uint64_t *seed)
{
    static const int offsets[] = {0, 1, 3, 8, 13, 31, 32, 47, 63};
    return offsets[random_below(seed, sizeof(offsets) / sizeof(offsets[0]))];
}

static void
unmask_length(const simd_kernels *kernels, const uint8_t *data, size_t n, uint64_t *seed)
{
    const uint32_t key = random_key(seed);
    for (unsigned rotation = 0; rotation < 4; rotation++) {
        const uint32_t rotated = rotation ? key >> 8 * rotation | key << (32 - 8 * rotation) : key;
        for (int at = AT_END; at < 64; at += at == AT_END ? 1 : offset_step) {
            unmask_once(kernels, data, n, at, 0, 1, rotated);
            unmask_once(kernels, data, n, at, AT_END, 0, rotated);
            unmask_once(kernels, data, n, at, some_offset(seed), 0, rotated);
        }
        unmask_once(kernels, data, n, 0, 0, 0, rotated);
    }
}

/* A message in random pieces, each going on with the key that the last one returned. */
static void
unmask_pieces(const simd_kernels *kernels, const uint8_t *data, size_t n, uint64_t *seed)
{
    static uint8_t wanted[ROOM];
    uint32_t key = random_key(seed);
    reference_unmask(wanted, data, n, key);
    const uint32_t longest = 1 + random_below(seed, 300);
    for (now.cut = 0; now.cut < n;) {
        size_t some = random_below(seed, longest + 1);
        some = some > n - now.cut ? n - now.cut : some;
        const int at = (int)random_below(seed, 64);
        uint8_t *from = guarded_place(&from_memory, at, data + now.cut, some);
        now.kernel = "unmask in pieces";
        now.n = some;
        now.from_at = now.to_at = at;
        now.key = key;
        now.cases++;
        key = kernels->unmask(from, from, some, key);
        guarded_holds(&from_memory, wanted + now.cut, some, "unmasked");
        now.cut += some;
    }
    now.cut = 0;
}

static void
try_unmask(const simd_kernels *kernels, uint64_t seed)
{
    static uint8_t data[8192];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)random_next(&seed);
    for (size_t n = 0; n <= 4 * 64 + 3; n++)
        unmask_length(kernels, data, n, &seed);
    for (size_t n = 4096 - 5; n <= 4096 + 5; n++)
        unmask_length(kernels, data, n, &seed);
    for (size_t n = 260; n < 4400; n += (size_t)(5 * offset_step)) {
        unmask_once(kernels, data, n, AT_END, AT_END, 0, random_key(&seed));
        unmask_once(kernels, data, n, AT_END, AT_END, 1, random_key(&seed));
        unmask_pieces(kernels, data, n, &seed);
    }
}

#endif
