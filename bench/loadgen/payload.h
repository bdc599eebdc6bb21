/* What the payloads hold that is not JSON: random bytes, ASCII text, or text in several scripts; the same for the same
 * --seed. */

#include "random.h"

#include <string.h>

static size_t put_utf8(uint8_t *p, uint32_t c) {    /* RFC 3629 section 3 */
    if (c < 0x80) return p[0] = (uint8_t)c, 1;
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i; i--, c >>= 6) p[i] = (uint8_t)(0x80 | (c & 0x3F));
    p[0] = (uint8_t)(0xF00u >> size | c);
    return size;
}

/* Sentences of 3 to 9 words each: 6 in Russian to 3 in Chinese and 3 in English, and an emoji after every fourth or so.
 * By bytes: 47 % Cyrillic, 32 % Chinese with its own (3-byte) punctuation, 1 % emoji, the rest ASCII: English, spaces,
 * full stops. Or Chinese alone, with nothing between the sentences. What is left at the end is too short for some
 * character, and is filled with spaces. A text in several scripts begins with one character of 2, 3 and 4 bytes each,
 * if it has room, so that a short one holds them too. */
static void fill_sentences(uint8_t *p, size_t n) {
    enum { RUSSIAN, CHINESE, ENGLISH };
    static const struct { uint32_t first, last, shortest, longest, space, stop; } SCRIPTS[] = {
        {0x430, 0x44F, 2, 9, ' ', '.'}, {0x4E00, 0x9FA5, 2, 6, 0xFF0C, 0x3002}, {'a', 'z', 2, 8, ' ', '.'}};
    uint8_t *const end = p + n;
    if (opt.kind == MIXED && n >= 9)
        p += put_utf8(p, random_in(0x430, 0x44F)), p += put_utf8(p, random_in(0x4E00, 0x9FA5)),
            p += put_utf8(p, random_in(0x1F600, 0x1F64F));
    while (end - p >= 4) {
        uint32_t which = random_in(0, 11), script = which < 6 ? RUSSIAN : which < 9 ? CHINESE : ENGLISH;
        if (opt.kind == ALL_CHINESE) script = CHINESE;
        for (uint32_t words = random_in(3, 9); words && end - p >= 4; words--) {
            uint32_t letters = random_in(SCRIPTS[script].shortest, SCRIPTS[script].longest);
            for (; letters && end - p >= 4; letters--)
                p += put_utf8(p, random_in(SCRIPTS[script].first, SCRIPTS[script].last));
            if (end - p >= 4) p += put_utf8(p, words > 1 ? SCRIPTS[script].space : SCRIPTS[script].stop);
        }
        if (opt.kind == ALL_CHINESE) continue;
        if (end - p >= 6 && random_in(0, 3) == 0) *p++ = ' ', p += put_utf8(p, random_in(0x1F600, 0x1F64F));
        if (p < end) *p++ = ' ';
    }
    memset(p, ' ', (size_t)(end - p));
}

static void fill(uint8_t *p, size_t n) {
    if (opt.kind == MIXED || opt.kind == ALL_CHINESE) {
        fill_sentences(p, n);
        return;
    }
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(opt.kind == BINARY ? random64() >> 32 : random_in(' ', '~'));
}
