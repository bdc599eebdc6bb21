/* The kernels in plain C: for processors without anything better, and for the ends that the vectors leave over. */
#ifndef FASTWS_SIMD_SCALAR_H
#define FASTWS_SIMD_SCALAR_H

/* The key as it applies `n` bytes further on. */
static inline uint32_t
scalar_rotate(uint32_t key, size_t n)
{
    const unsigned bits = 8 * (n & 3);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return key >> bits | key << (-bits & 31);
#else
    return key << bits | key >> (-bits & 31);
#endif
}

static inline uint64_t
scalar_load(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* At most 16 bytes. The two halves overlap where n is between; both are loaded before either is stored. */
static inline void
scalar_unmask_few(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    const uint32_t later = scalar_rotate(key, n);
    if (n >= 8) {
        const uint64_t first = scalar_load(from) ^ ((uint64_t)key << 32 | key);
        const uint64_t last = scalar_load(from + n - 8) ^ ((uint64_t)later << 32 | later);
        memcpy(to, &first, 8);
        memcpy(to + n - 8, &last, 8);
    } else if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + n - 4, 4);
        first ^= key;
        last ^= later;
        memcpy(to, &first, 4);
        memcpy(to + n - 4, &last, 4);
    } else if (n) {
        uint8_t bytes[4];
        memcpy(bytes, &key, 4);
        const uint8_t first = from[0] ^ bytes[0], middle = from[n / 2] ^ bytes[n / 2];
        const uint8_t last = from[n - 1] ^ bytes[n - 1];
        to[0] = first;
        to[n / 2] = middle;
        to[n - 1] = last;
    }
}

static uint32_t
scalar_unmask(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    const uint64_t wide = (uint64_t)key << 32 | key;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint64_t word = scalar_load(from + i) ^ wide;
        memcpy(to + i, &word, 8);
    }
    scalar_unmask_few(to + i, from + i, n - i, key);
    return scalar_rotate(key, n);
}

/* The number of leading bytes of p that are ASCII. */
static inline size_t
scalar_ascii(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i + 8 <= n && !(scalar_load(p + i) & 0x8080808080808080u))
        i += 8;
    while (i < n && p[i] < 0x80)
        i++;
    return i;
}

static size_t
scalar_check(simd_text *text, const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        const uint8_t byte = p[i];
        if (text->need) {
            if (byte < text->low || byte > text->high)
                return i;
            text->need--;
            text->low = 0x80;
            text->high = 0xBF;
            i++;
            continue;
        }
        if (byte < 0x80) {
            const size_t run = scalar_ascii(p + i, n - i);
            text->chars += run;
            i += run;
            continue;
        }
        if (byte < 0xC2 || byte > 0xF4) /* a stray continuation, an overlong form, beyond U+10FFFF */
            return i;
        text->need = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
        text->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;  /* below: overlong */
        text->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF; /* above: surrogates; beyond U+10FFFF */
        text->top = byte > text->top ? byte : text->top;
        text->chars++;
        i++;
    }
    return n;
}

static size_t
scalar_unmask_check(simd_text *text, uint8_t *to, const uint8_t *from, size_t n, uint32_t *key)
{
    *key = scalar_unmask(to, from, n, *key);
    return scalar_check(text, to, n);
}

static inline void
scalar_put(void *to, int width, size_t index, uint32_t character)
{
    if (width == 1)
        ((uint8_t *)to)[index] = (uint8_t)character;
    else if (width == 2)
        ((uint16_t *)to)[index] = (uint16_t)character;
    else
        ((uint32_t *)to)[index] = character;
}

static inline uint32_t
scalar_get(const void *from, int width, size_t index)
{
    return width == 1   ? ((const uint8_t *)from)[index]
           : width == 2 ? ((const uint16_t *)from)[index]
                        : ((const uint32_t *)from)[index];
}

/* From the byte `i`, where a character begins, and the character `o` on. */
static inline void
scalar_decode_from(void *to, int width, const uint8_t *p, size_t n, size_t i, size_t o)
{
    while (i < n) {
        const uint8_t byte = p[i];
        if (byte < 0x80) {
            scalar_put(to, width, o++, byte);
            i += 1;
        } else if (byte < 0xE0) {
            scalar_put(to, width, o++, (byte & 0x1Fu) << 6 | (p[i + 1] & 0x3Fu));
            i += 2;
        } else if (byte < 0xF0) {
            scalar_put(to, width, o++, (byte & 0xFu) << 12 | (p[i + 1] & 0x3Fu) << 6 | (p[i + 2] & 0x3Fu));
            i += 3;
        } else {
            scalar_put(to, width, o++,
                       (byte & 7u) << 18 | (p[i + 1] & 0x3Fu) << 12 | (p[i + 2] & 0x3Fu) << 6 | (p[i + 3] & 0x3Fu));
            i += 4;
        }
    }
}

static void
scalar_decode(void *to, int width, size_t chars, const uint8_t *from, size_t n)
{
    (void)chars;
    switch (width) { /* so that each loop is compiled for its width */
    case 1: scalar_decode_from(to, 1, from, n, 0, 0); break;
    case 2: scalar_decode_from(to, 2, from, n, 0, 0); break;
    default: scalar_decode_from(to, 4, from, n, 0, 0);
    }
}

/* Counters no wider than the characters, so that compilers make vectors of them; emptied before they overflow. */
#define SCALAR_SIZE(name, type, counter, most, wide)                                                                 \
    static inline __attribute__((always_inline)) size_t name(const type *from, size_t chars)                         \
    {                                                                                                                \
        size_t size = chars;                                                                                         \
        while (chars) {                                                                                              \
            const size_t n = chars < (most) ? chars : (most);                                                        \
            counter more = 0, surrogates = 0;                                                                        \
            for (size_t i = 0; i < n; i++) {                                                                         \
                more = (counter)(more + (from[i] >= 0x80));                                                          \
                if (wide) {                                                                                          \
                    more = (counter)(more + (from[i] >= 0x800));                                                     \
                    surrogates |= (from[i] & (type)~0x7FF) == 0xD800;                                                \
                }                                                                                                    \
                if ((wide) > 2)                                                                                      \
                    more = (counter)(more + (from[i] >= 0x10000));                                                   \
            }                                                                                                        \
            if (surrogates)                                                                                          \
                return SIMD_SURROGATE;                                                                               \
            size += more;                                                                                            \
            from += n;                                                                                               \
            chars -= n;                                                                                              \
        }                                                                                                            \
        return size;                                                                                                 \
    }

SCALAR_SIZE(scalar_size1, uint8_t, uint8_t, 255, 0)
SCALAR_SIZE(scalar_size2, uint16_t, uint16_t, 32767, 2)
SCALAR_SIZE(scalar_size4, uint32_t, uint32_t, (size_t)1 << 30, 4)

static inline __attribute__((always_inline)) size_t
scalar_size(const void *from, int width, size_t chars)
{
    return width == 1 ? scalar_size1(from, chars) : width == 2 ? scalar_size2(from, chars) : scalar_size4(from, chars);
}

static size_t
scalar_encoded_size(const void *from, int width, size_t chars)
{
    return scalar_size(from, width, chars);
}

/* From the character `i` on, which goes to `to`. */
static inline void
scalar_encode_from(uint8_t *to, const void *from, int width, size_t chars, size_t i)
{
    for (; i < chars; i++) {
        const uint32_t character = scalar_get(from, width, i);
        if (character < 0x80) {
            *to++ = (uint8_t)character;
            continue;
        }
        if (character < 0x800) {
            *to++ = (uint8_t)(0xC0 | character >> 6);
        } else {
            if (character < 0x10000) {
                *to++ = (uint8_t)(0xE0 | character >> 12);
            } else {
                *to++ = (uint8_t)(0xF0 | character >> 18);
                *to++ = (uint8_t)(0x80 | (character >> 12 & 0x3F));
            }
            *to++ = (uint8_t)(0x80 | (character >> 6 & 0x3F));
        }
        *to++ = (uint8_t)(0x80 | (character & 0x3F));
    }
}

static void
scalar_encode(uint8_t *to, size_t size, const void *from, int width, size_t chars)
{
    (void)size;
    switch (width) {
    case 1: scalar_encode_from(to, from, 1, chars, 0); break;
    case 2: scalar_encode_from(to, from, 2, chars, 0); break;
    default: scalar_encode_from(to, from, 4, chars, 0);
    }
}

static const simd_kernels scalar_kernels = {
    "scalar", scalar_unmask, scalar_check, scalar_unmask_check, scalar_decode, scalar_encoded_size, scalar_encode,
};

#endif
