/* Random texts, most of them damaged: every variant must say of them what the reference says. */
#ifndef CASE_MUTATIONS_H
#define CASE_MUTATIONS_H

#include "case_check.h"
#include "case_transcode.h"

static void
try_mutation(const simd_kernels *kernels, const uint8_t *bytes, size_t n, const uint32_t *characters,
             const reference_text *wanted, uint64_t seed)
{
    const int way = (int)random_below(&seed, CHECK_WAYS);
    const int from_at = (int)random_below(&seed, 65) - 1, to_at = (int)random_below(&seed, 65) - 1;
    now.text = "mutated";
    if (!n || random_below(&seed, 4))
        check_whole(kernels, way, bytes, n, from_at, to_at, random_key(&seed));
    else
        check_random_cuts(kernels, way, bytes, n, &seed);
    if (wanted->good == n && !wanted->need) {
        decode_once(kernels, characters, wanted->chars, bytes, n, from_at, to_at);
        encode_once(kernels, wanted->width, characters, wanted->chars, bytes, n, to_at, from_at);
        now.width = 0;
    }
}

/* Each of the kernels not NULL sees the same texts. */
static void
try_mutations(const simd_kernels *const *kernels, size_t variants, unsigned long count, uint64_t seed)
{
    static uint32_t characters[MUTATED_BYTES];
    static uint8_t bytes[MUTATED_BYTES];
    unsigned long good = 0;
    for (unsigned long i = 0; i < count; i++) {
        now.seed = seed; /* with which this text comes first */
        const size_t n = random_text(&seed, characters, bytes);
        const reference_text wanted = reference_read(bytes, n, characters);
        good += wanted.good == n && !wanted.need;
        for (size_t v = 0; v < variants; v++) {
            if (!kernels[v])
                continue;
            now.variant = kernels[v]->name;
            try_mutation(kernels[v], bytes, n, characters, &wanted, seed);
        }
    }
    printf("mutations: %lu texts, %lu of them right\n", count, good);
    now.bytes = NULL;
}

#endif
