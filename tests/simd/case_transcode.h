/* decode, encoded_size and encode: between UTF-8 and the characters of a str, 1, 2 or 4 bytes each. */
#ifndef CASE_TRANSCODE_H
#define CASE_TRANSCODE_H

#include "case_unmask.h"

static const int widths[] = {1, 2, 4};

/* Offsets of characters keep to their width, as those of a str do. */
static int
aligned(int at, int width)
{
    return at == AT_END ? at : at * width;
}

static void
decode_once(const simd_kernels *kernels, const uint32_t *characters, size_t count, const uint8_t *bytes, size_t n,
            int from_at, int to_at)
{
    static uint8_t wanted[ROOM];
    const int width = reference_width(characters, count);
    const size_t size = count * (size_t)width;
    reference_pack(wanted, width, characters, count);
    const uint8_t *from = guarded_place(&from_memory, from_at, bytes, n);
    now.kernel = "decode";
    now.n = count;
    now.width = width;
    now.from_at = from_at;
    now.to_at = aligned(to_at, width);
    now.bytes = bytes;
    now.size = n;
    now.cases++;
    kernels->decode(guarded_place(&to_memory, now.to_at, NULL, size), width, count, from, n);
    guarded_holds(&to_memory, wanted, size, "decoded");
    guarded_holds(&from_memory, bytes, n, "what was to be read only");
}

/* `n` is what encoded_size must say; SIMD_SURROGATE where there is one. */
static void
encode_once(const simd_kernels *kernels, int width, const uint32_t *characters, size_t count, const uint8_t *bytes,
            size_t n, int from_at, int to_at)
{
    static uint8_t packed[ROOM];
    const size_t size = count * (size_t)width;
    reference_pack(packed, width, characters, count);
    const uint8_t *from = guarded_place(&from_memory, aligned(from_at, width), packed, size);
    now.kernel = "encoded_size";
    now.n = count;
    now.width = width;
    now.from_at = aligned(from_at, width);
    now.to_at = to_at;
    now.bytes = packed;
    now.size = size;
    now.cases++;
    const size_t got = kernels->encoded_size(from, width, count);
    if (got != n)
        fail("returned %zd, not %zd", (ssize_t)got, (ssize_t)n);
    if (n != SIMD_SURROGATE) {
        now.kernel = "encode";
        kernels->encode(guarded_place(&to_memory, to_at, NULL, n), n, from, width, count);
        guarded_holds(&to_memory, bytes, n, "encoded");
    }
    guarded_holds(&from_memory, packed, size, "what was to be read only");
}

/* In each width that holds the characters, so that a str of wide characters may have only small ones. */
static void
encode_widths(const simd_kernels *kernels, const uint32_t *characters, size_t count, const uint8_t *bytes, size_t n,
              int from_at, int to_at)
{
    for (size_t i = 0; i < 3; i++)
        if (widths[i] >= reference_width(characters, count))
            encode_once(kernels, widths[i], characters, count, bytes, n, from_at, to_at);
}

static void
transcode_texts(const simd_kernels *kernels, int mix, uint64_t *seed)
{
    static uint32_t characters[5000];
    static uint8_t bytes[4 * 5000];
    now.text = mix_names[mix];
    for (size_t count = 0; count <= 300; count++) {
        random_characters(seed, mix, characters, count);
        const size_t n = reference_write(bytes, characters, count);
        decode_once(kernels, characters, count, bytes, n, AT_END, AT_END);
        encode_widths(kernels, characters, count, bytes, n, AT_END, AT_END);
        for (int at = 0; at < 64; at += offset_step) {
            const int to_at = at % 2 ? AT_END : some_offset(seed);
            decode_once(kernels, characters, count, bytes, n, at, to_at);
            encode_widths(kernels, characters, count, bytes, n, at, to_at);
        }
    }
    for (size_t times = 0; times < 60; times++) {
        /* about 4 KiB of UTF-8, then about as many characters */
        size_t count = times < 40 ? 1 : 4060 + random_below(seed, 70), n = 0;
        random_characters(seed, mix, characters, 5000);
        const size_t limit = 4060 + random_below(seed, 70);
        while (times < 40 && (n = reference_write(NULL, characters, count)) < limit)
            count += (limit - n + 3) / 4;
        n = reference_write(bytes, characters, count);
        decode_once(kernels, characters, count, bytes, n, AT_END, AT_END);
        decode_once(kernels, characters, count, bytes, n, (int)random_below(seed, 64), (int)random_below(seed, 64));
        encode_widths(kernels, characters, count, bytes, n, AT_END, AT_END);
        encode_widths(kernels, characters, count, bytes, n, (int)random_below(seed, 64), (int)random_below(seed, 64));
    }
}

/* Each character of note at every position among small, middle and large ones. */
static void
transcode_edges(const simd_kernels *kernels, uint64_t *seed)
{
    static const uint32_t around[] = {'a', 0xE9, 0x416, 0x4E2D, 0x1F389};
    uint32_t characters[200];
    uint8_t bytes[800];
    now.text = "a character of note";
    for (size_t edge = 0; edge < EDGE_CHARACTERS; edge++) {
        for (size_t position = 0; position < 131; position += (size_t)offset_step) {
            for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
                const size_t count = position + 1 + random_below(seed, 69);
                for (size_t j = 0; j < count; j++)
                    characters[j] = j == position ? edge_characters[edge] : around[i];
                const size_t n = reference_write(bytes, characters, count);
                decode_once(kernels, characters, count, bytes, n, AT_END, AT_END);
                encode_widths(kernels, characters, count, bytes, n, AT_END, AT_END);
            }
        }
    }
}

static void
encode_surrogates(const simd_kernels *kernels, uint64_t *seed)
{
    static const uint32_t surrogates[] = {0xD800, 0xD801, 0xDBFF, 0xDC00, 0xDCFF, 0xDFFF};
    /* of which a part looks like a surrogate */
    static const uint32_t alike[] = {0xD7FF, 0xE000, 0xD8,    0xDC,     0x30D8, 0x58D8,
                                     0xFFDF, 0xFFFF, 0x1D800, 0x10DC00, 0xDFFFF};
    uint32_t characters[304];
    uint8_t bytes[1216];
    now.text = "a surrogate";
    for (size_t count = 1; count <= 300; count += count < 140 ? 1 : 7) {
        const int mix = (int)random_below(seed, MIXES);
        for (size_t position = 0; position < count; position += (size_t)offset_step) {
            random_characters(seed, mix, characters, count);
            characters[position] = alike[random_below(seed, sizeof(alike) / sizeof(alike[0]))];
            const size_t n = reference_write(bytes, characters, count);
            encode_widths(kernels, characters, count, bytes, n, AT_END, AT_END);
            characters[position] = surrogates[random_below(seed, 6)];
            encode_widths(kernels, characters, count, bytes, SIMD_SURROGATE, AT_END, AT_END);
        }
    }
}

/* So much text that a counter of 8 or, but where it is quick, 16 bits in a vector would overflow. */
static void
transcode_much(const simd_kernels *kernels)
{
    const size_t count = (size_t)5 << (offset_step > 1 ? 16 : 20);
    static const uint32_t one[] = {'a', 0xFF, 0x7FF, 0xFFFF, 0x10FFFF};
    uint32_t *characters = malloc(count * 4);
    uint8_t *bytes = malloc(count * 4), *packed = malloc(count * 4);
    if (!characters || !bytes || !packed)
        fail("no memory");
    now.text = "many equal characters";
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < count; j++)
            characters[j] = one[i];
        const size_t n = reference_write(bytes, characters, count);
        const int width = reference_width(characters, 1);
        simd_text text;
        memset(&text, 0, sizeof(text));
        now.kernel = "check";
        now.bytes = NULL;
        now.n = n;
        if (kernels->check(&text, bytes, n) != n || text.chars != count || text.need || simd_width(&text) != width)
            fail("%zu characters of width %d", text.chars, simd_width(&text));
        now.kernel = "decode";
        now.width = width;
        reference_pack(characters, width, characters, count); /* in place: each is packed before or where it stood */
        kernels->decode(packed, width, count, bytes, n);
        if (memcmp(packed, characters, count * (size_t)width))
            fail("decoded something else");
        now.kernel = "encoded_size";
        if (kernels->encoded_size(packed, width, count) != n)
            fail("%zu, not %zu", kernels->encoded_size(packed, width, count), n);
        now.kernel = "encode";
        memcpy(characters, bytes, n);
        memset(bytes, 0, n);
        kernels->encode(bytes, n, packed, width, count);
        if (memcmp(bytes, characters, n))
            fail("encoded something else");
    }
    free(characters);
    free(bytes);
    free(packed);
}

static void
try_transcode(const simd_kernels *kernels, uint64_t seed)
{
    for (int mix = 0; mix < MIXES; mix++)
        transcode_texts(kernels, mix, &seed);
    transcode_edges(kernels, &seed);
    encode_surrogates(kernels, &seed);
    transcode_much(kernels);
    now.bytes = NULL;
    now.width = 0;
}

#endif
