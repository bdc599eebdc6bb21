/* The loops over bytes: unmasking (RFC 6455 section 5.3), UTF-8 (RFC 3629) validated, decoded and encoded.
 *
 * One table of kernels for each kind of processor; simd_choose() fills `simd` with the best that this one has, once,
 * when the extension is imported. Every kernel reads and writes exactly the bytes it is told of, at any alignment. */
#ifndef FASTWS_SIMD_H
#define FASTWS_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What is known of a text of which pieces have been checked. All zero is how a text begins. */
typedef struct {
    uint8_t need;      /* continuation bytes that the last character still needs; 0 where the text may end */
    uint8_t low, high; /* the range that the next of them must lie in, while `need` */
    uint8_t top;       /* the largest byte: tells the largest character, see simd_width() */
    size_t chars;      /* characters begun */
} simd_text;

typedef struct {
    const char *name;

    /* Writes n bytes of `from`, XORed with the masking key, to `to`, which may be `from` but may not overlap it
     * otherwise. `key` holds the four key bytes in wire order, as loaded with memcpy. Returns the key rotated by n, so
     * that the next piece of the same payload goes on where this one ended. */
    uint32_t (*unmask)(uint8_t *to, const uint8_t *from, size_t n, uint32_t key);

    /* Goes on checking a text with its next n bytes. Returns n, or the index of the first byte that cannot be right
     * whatever follows; `text` is of no use after that. */
    size_t (*check)(simd_text *text, const uint8_t *p, size_t n);

    /* Both in one pass; rotates *key. Of what is behind a byte that cannot be right, some may not have been written. */
    size_t (*unmask_check)(simd_text *text, uint8_t *to, const uint8_t *from, size_t n, uint32_t *key);

    /* Writes the characters of n bytes that have been checked, each `width` bytes wide; see simd_width(). */
    void (*decode)(void *to, int width, size_t chars, const uint8_t *from, size_t n);

    /* How many bytes of UTF-8 `chars` characters of that width make; SIMD_SURROGATE where there is a surrogate. */
    size_t (*encoded_size)(const void *from, int width, size_t chars);

    /* Writes them; `size` is what encoded_size() said. */
    void (*encode)(uint8_t *to, size_t size, const void *from, int width, size_t chars);
} simd_kernels;

#define SIMD_SURROGATE ((size_t)-1)

/* Bytes per character that a checked text needs: its lead bytes grow with the characters. */
static inline int
simd_width(const simd_text *text)
{
    return text->top < 0xC4 ? 1 : text->top < 0xF0 ? 2 : 4;
}

#include "scalar.h"
#include "vectors.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include "avx512.h"
#include "avx2.h"
#include "sse.h"
#elif defined(__aarch64__)
#include "neon.h"
#endif

/* Best first. */
static const simd_kernels *const simd_variants[] = {
#if defined(__x86_64__)
    &avx512_kernels, &avx2_kernels, &sse_kernels,
#elif defined(__aarch64__)
    &neon_kernels,
#endif
    &scalar_kernels,
};

#define SIMD_VARIANTS (sizeof(simd_variants) / sizeof(simd_variants[0]))

static simd_kernels simd;

/* Whether this processor has what the variant needs. */
static inline int
simd_supported(const simd_kernels *kernels)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (kernels == &avx512_kernels)
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    if (kernels == &avx2_kernels)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
    if (kernels == &sse_kernels)
        return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("popcnt");
#endif
    return kernels != NULL;
}

/* Fills `simd` with the variant of that name, or the best one where name is NULL or empty. Returns 0 where this
 * processor or this build has none of that name. */
static inline int
simd_choose(const char *name)
{
    for (size_t i = 0; i < SIMD_VARIANTS; i++) {
        if (simd_supported(simd_variants[i]) && (!name || !*name || !strcmp(name, simd_variants[i]->name))) {
            simd = *simd_variants[i];
            return 1;
        }
    }
    return 0;
}

#endif
