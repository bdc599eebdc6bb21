/* check and unmask_check at the boundaries of the grammar, which lie at every place of a vector. */
#ifndef CASE_BOUNDARIES_H
#define CASE_BOUNDARIES_H

#include "case_check.h"

#define POSITIONS 131 /* two of the longest vectors, and some */

static const char *const surroundings[] = {"a", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x8E\x89",
                                           "\xD0\x9F, \xE2\x82\xAC "};
#define SURROUNDINGS (sizeof(surroundings) / sizeof(surroundings[0]))

static const char *const sequences[] = {
    /* the first and the last of each length, and around the surrogates */
    "\x7F", "\xC2\x80", "\xC3\xBF", "\xC4\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
    "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\xF1\x80\x80\x80", "\xF3\xBF\xBF\xBF", "\xE1\x80\x80",
    /* overlong */
    "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF",
    /* surrogates, beyond U+10FFFF, what never was UTF-8 */
    "\xED\xA0\x80", "\xED\xAF\xBF", "\xED\xB0\x80", "\xED\xBF\xBF", "\xF4\x90\x80\x80", "\xF4\xBF\xBF\xBF",
    "\xF5\x80\x80\x80", "\xF7\xBF\xBF\xBF", "\xF8\x88\x80\x80\x80", "\xFB\xBF\xBF\xBF\xBF", "\xFC\x84\x80\x80\x80\x80",
    "\xFD\xBF\xBF\xBF\xBF\xBF", "\xFE", "\xFF", "\xFE\xFE\xFF\xFF",
    /* continuations that nothing wants: alone, one too many */
    "\x80", "\xBF", "\x80\x80", "\xC2\x80\x80", "\xE1\x80\x80\x80", "\xF1\x80\x80\x80\x80", "\xF4\x8F\xBF\xBF\xBF",
    /* cut short; what surrounds them goes on with something else, or there is nothing more */
    "\xC2", "\xDF", "\xE0", "\xE0\xA0", "\xE1\x80", "\xED\x9F", "\xEF\xBF", "\xF0", "\xF0\x90", "\xF0\x90\x80",
    "\xF4\x8F\xBF", "\xC2\xC2\x80", "\xE1\xC2\x80", "\xE1\x80\xC2\x80", "\xF1\x80\xE1\x80\x80",
    "\xF1\x80\x80\xF1\x80\x80\x80",
};
#define SEQUENCES (sizeof(sequences) / sizeof(sequences[0]))

/* Writes `n` bytes of whole characters of that surrounding; ASCII first where they do not come out even. */
static void
surround(uint8_t *to, size_t n, const char *with)
{
    const size_t size = strlen(with);
    memset(to, 'a', n % size);
    for (size_t i = n % size; i < n; i += size)
        memcpy(to + i, with, size);
}

static void
boundary(const simd_kernels *kernels, const uint8_t *bytes, size_t position, size_t sequence, size_t n, uint64_t *seed)
{
    static const size_t none = 0;
    for (int way = 0; way < CHECK_WAYS; way++) {
        if (n)
            check_whole(kernels, way, bytes, n, AT_END, AT_END, random_key(seed));
        const size_t cut = position + random_below(seed, (uint32_t)sequence + 1);
        if (cut && cut < n)
            check_pieces(kernels, way, bytes, (size_t[]){cut, n, none}, AT_END, (int)random_below(seed, 64),
                         random_key(seed));
    }
}

static void
check_sequences(const simd_kernels *kernels, uint64_t *seed)
{
    uint8_t bytes[POSITIONS + 8 + 160];
    now.text = "a sequence of note";
    for (size_t s = 0; s < SEQUENCES; s++) {
        const size_t size = strlen(sequences[s]);
        for (size_t position = 0; position < POSITIONS; position += (size_t)offset_step) {
            for (size_t around = 0; around < SURROUNDINGS; around++) {
                surround(bytes, position, surroundings[around]);
                memcpy(bytes + position, sequences[s], size);
                surround(bytes + position + size, 160, surroundings[around]);
                boundary(kernels, bytes, position, size, position + size, seed);
                boundary(kernels, bytes, position, size, position + size + 1 + random_below(seed, 160), seed);
            }
        }
    }
}

/* Every lead byte with every second byte, and the third and fourth right or wrong, here and there. */
static void
check_pairs(const simd_kernels *kernels, uint64_t *seed)
{
    static const uint8_t ends[] = {0x80, 0xBF, 0x7F, 0xC2};
    uint8_t bytes[POSITIONS + 4 + 70];
    now.text = "two bytes, each of any value";
    for (unsigned pair = 0; pair < 0x10000; pair += (unsigned)offset_step) {
        const size_t position = random_below(seed, POSITIONS);
        surround(bytes, position, surroundings[pair % SURROUNDINGS]);
        bytes[position] = (uint8_t)(pair >> 8);
        bytes[position + 1] = (uint8_t)pair;
        check_whole(kernels, (int)(pair % CHECK_WAYS), bytes, position + 2, AT_END, AT_END, random_key(seed));
        for (unsigned end = 0; end < 16; end++) {
            bytes[position + 2] = ends[end % 4];
            bytes[position + 3] = ends[end / 4];
            surround(bytes + position + 4, 70, surroundings[(pair + end) % SURROUNDINGS]);
            check_whole(kernels, (int)(end % CHECK_WAYS), bytes, position + 4 + random_below(seed, 70), AT_END, 0,
                        random_key(seed));
        }
    }
}

/* The lead bytes with the second bytes that tell, at every position. */
static void
check_leads(const simd_kernels *kernels, uint64_t *seed)
{
    uint8_t bytes[POSITIONS + 4 + 70];
    now.text = "a lead byte and one that tells";
    for (size_t position = 0; position < POSITIONS; position += (size_t)offset_step) {
        for (size_t around = 0; around < SURROUNDINGS; around += 2) {
            surround(bytes, position, surroundings[around]);
            surround(bytes + position + 4, 70, surroundings[around]);
            bytes[position + 2] = bytes[position + 3] = 0x80;
            for (unsigned lead = 0x80; lead < 0x100; lead++) {
                bytes[position] = (uint8_t)lead;
                for (size_t second = 0; second < TELLING_BYTES; second++) {
                    /* as many of the two continuations as the lead wants; what is left over is in check_pairs() */
                    const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4, n = position + size;
                    bytes[position + 1] = telling_bytes[second];
                    check_whole(kernels, (int)(second % CHECK_WAYS), bytes, n, AT_END, AT_END, random_key(seed));
                    if (size == 4)
                        check_whole(kernels, (int)(second % CHECK_WAYS), bytes, n + random_below(seed, 70), AT_END,
                                    AT_END, random_key(seed));
                }
            }
        }
    }
}

static void
try_check(const simd_kernels *kernels, uint64_t seed)
{
    for (int mix = 0; mix < MIXES; mix++)
        check_texts(kernels, mix, &seed);
    check_sequences(kernels, &seed);
    check_pairs(kernels, &seed);
    check_leads(kernels, &seed);
    now.bytes = NULL;
}

#endif
