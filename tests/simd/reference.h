/* What the kernels must do, one byte at a time, and UTF-8 by the grammar of RFC 3629 section 4. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The grammar's productions: a lead byte, the range of the second byte, and how many follow the lead. Those of two
 * bytes stand in two rows because the first makes characters below U+0100. */
static const struct {
    uint8_t first, last, tails, low, high;
    int width; /* bytes that str needs for such characters */
} reference_rows[] = {
    {0x00, 0x7F, 0, 0x00, 0x00, 1}, /* UTF8-1 */
    {0xC2, 0xC3, 1, 0x80, 0xBF, 1}, /* UTF8-2 */
    {0xC4, 0xDF, 1, 0x80, 0xBF, 2},
    {0xE0, 0xE0, 2, 0xA0, 0xBF, 2}, /* UTF8-3 */
    {0xE1, 0xEC, 2, 0x80, 0xBF, 2},
    {0xED, 0xED, 2, 0x80, 0x9F, 2},
    {0xEE, 0xEF, 2, 0x80, 0xBF, 2},
    {0xF0, 0xF0, 3, 0x90, 0xBF, 4}, /* UTF8-4 */
    {0xF1, 0xF3, 3, 0x80, 0xBF, 4},
    {0xF4, 0xF4, 3, 0x80, 0x8F, 4},
};

typedef struct {
    size_t good;    /* bytes before the first that cannot be right; all where there is none */
    unsigned need;  /* what the last character lacks, and the range of its next byte */
    unsigned low, high;
    size_t chars;   /* begun */
    int width;      /* of the widest */
} reference_text;

static inline size_t
reference_row(uint8_t byte)
{
    size_t row = 0;
    while (row < 10 && (byte < reference_rows[row].first || byte > reference_rows[row].last))
        row++;
    return row;
}

/* Reads n bytes from the start of a text; writes its whole characters where `characters` is not NULL. */
static inline reference_text
reference_read(const uint8_t *p, size_t n, uint32_t *characters)
{
    static const uint8_t payload[] = {0x7F, 0x1F, 0x0F, 0x07};
    reference_text text = {0, 0, 0, 0, 0, 1};
    size_t i = 0;
    while (i < n) {
        const size_t row = reference_row(p[i]);
        if (row == 10)
            break;
        const unsigned tails = reference_rows[row].tails;
        uint32_t character = p[i++] & payload[tails];
        text.chars++;
        if (reference_rows[row].width > text.width)
            text.width = reference_rows[row].width;
        text.need = tails;
        text.low = reference_rows[row].low;
        text.high = reference_rows[row].high;
        while (text.need && i < n && p[i] >= text.low && p[i] <= text.high) {
            character = character * 64 + p[i++] % 64;
            text.need--;
            text.low = 0x80;
            text.high = 0xBF;
        }
        if (text.need)
            break;
        if (characters)
            characters[text.chars - 1] = character;
    }
    text.good = i;
    return text;
}

/* The UTF-8 of the characters, written where `to` is not NULL; (size_t)-1 where one is a surrogate. */
static inline size_t
reference_write(uint8_t *to, const uint32_t *characters, size_t count)
{
    static const uint8_t lead[] = {0x00, 0xC0, 0xE0, 0xF0};
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t character = characters[i];
        const int tails = character <= 0x7F ? 0 : character <= 0x7FF ? 1 : character <= 0xFFFF ? 2 : 3;
        if (character / 0x800 == 0xD800 / 0x800)
            return (size_t)-1;
        for (int tail = tails; tail >= 0; tail--, size++)
            if (to)
                to[size] = (uint8_t)(tail == tails ? lead[tails] + (character >> 6 * tails)
                                                   : 0x80 + (character >> 6 * tail) % 64);
    }
    return size;
}

/* The bytes per character that str would have for them: 1, 2 or 4. */
static inline int
reference_width(const uint32_t *characters, size_t count)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = characters[i] > largest ? characters[i] : largest;
    return largest <= 0xFF ? 1 : largest <= 0xFFFF ? 2 : 4;
}

/* The characters as str holds them, `width` bytes each. */
static inline void
reference_pack(void *to, int width, const uint32_t *characters, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t byte = (uint8_t)characters[i];
        const uint16_t half = (uint16_t)characters[i];
        const void *character = width == 1 ? (const void *)&byte : width == 2 ? (const void *)&half : &characters[i];
        memcpy((uint8_t *)to + i * (size_t)width, character, (size_t)width);
    }
}

/* RFC 6455 section 5.3; returns the key as it applies to what follows. */
static inline uint32_t
reference_unmask(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    uint8_t bytes[4], rotated[4];
    memcpy(bytes, &key, 4);
    for (size_t i = 0; i < n; i++)
        to[i] = from[i] ^ bytes[i % 4];
    for (size_t i = 0; i < 4; i++)
        rotated[i] = bytes[(n + i) % 4];
    memcpy(&key, rotated, 4);
    return key;
}

#endif
