/* Random texts of every kind, and texts damaged in the ways that tell decoders apart; the same for the same seed. */
#ifndef TEXTS_H
#define TEXTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "reference.h"

/* splitmix64 */
static inline uint64_t
random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline uint32_t
random_below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)((random_next(state) >> 32) * limit >> 32);
}

enum { ASCII, LATIN_RARE, LATIN, LATIN_DENSE, CYRILLIC, RARE, CJK, EMOJI, EDGES, MIXED, MIXES };

static const char *const mix_names[] = {"ASCII",     "ASCII, rarely Latin-1", "half Latin-1", "Latin-1", "Cyrillic",
                                        "ASCII, rarely any", "CJK", "emoji",        "edges",   "all mixed"};

/* The last and first characters of each length and width, and of the gap that the surrogates leave. */
static const uint32_t edge_characters[] = {0x00,   0x7F,   0x80,   0xBF,    0xC0,    0xFF,    0x100,   0x7FF,    0x800,
                                           0xFFF,  0x1000, 0xCFFF, 0xD000,  0xD7FF,  0xE000,  0xFFFD,  0xFFFE,   0xFFFF,
                                           0x10000, 0x1D800, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10DFFF, 0x10FFFF};
#define EDGE_CHARACTERS (sizeof(edge_characters) / sizeof(edge_characters[0]))

static inline uint32_t
random_character(uint64_t *state, int mix)
{
    const uint32_t dice = random_below(state, 64);
    switch (mix) {
    case LATIN_RARE: return dice ? random_below(state, 0x80) : 0x80 + random_below(state, 0x80);
    case LATIN: return random_below(state, 0x100);
    case LATIN_DENSE: return 0x80 + random_below(state, 0x80);
    case CYRILLIC: return dice < 9 ? ' ' : 0x400 + random_below(state, 0x100);
    case RARE: return dice ? random_below(state, 0x80) : random_character(state, MIXED);
    case CJK: return dice < 3 ? '.' : (dice < 6 ? 0x3042 : 0x4E00) + random_below(state, dice < 6 ? 64 : 0x5000);
    case EMOJI: return dice < 3 ? ' ' : dice < 6 ? 0xFE0F : 0x1F300 + random_below(state, 0x400);
    case EDGES: return edge_characters[random_below(state, EDGE_CHARACTERS)];
    case MIXED: return random_character(state, (int)random_below(state, MIXED));
    default: return random_below(state, 0x80);
    }
}

/* Characters of that mix. MIXED changes its mix as it goes, so that fast paths are entered and left. */
static inline void
random_characters(uint64_t *state, int mix, uint32_t *characters, size_t count)
{
    int part = mix;
    for (size_t i = 0; i < count; i++) {
        if (mix == MIXED && random_below(state, 24) == 0)
            part = (int)random_below(state, MIXES);
        characters[i] = random_character(state, part);
    }
}

/* Bytes at which a decoder decides. */
static const uint8_t telling_bytes[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2,
                                        0xC3, 0xC4, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1,
                                        0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFE, 0xFF};
#define TELLING_BYTES (sizeof(telling_bytes) / sizeof(telling_bytes[0]))

/* Damages n bytes in one to three places; may lengthen them, by at most 16 bytes a time. Returns the new length. */
static inline size_t
random_damage(uint64_t *state, uint8_t *p, size_t n)
{
    for (uint32_t times = 1 + random_below(state, 3); times && n; times--) {
        const size_t at = random_below(state, (uint32_t)n);
        size_t some = 1 + random_below(state, 4);
        if (some > n - at)
            some = n - at;
        switch (random_below(state, 6)) {
        case 0: /* a bit flipped */
            p[at] ^= (uint8_t)(1 << random_below(state, 8));
            break;
        case 1: /* any byte */
            p[at] = (uint8_t)random_next(state);
            break;
        case 2: /* some bytes lost */
            memmove(p + at, p + at + some, n - at - some);
            n -= some;
            break;
        case 3: /* some bytes twice */
            memmove(p + at + some, p + at, n - at);
            n += some;
            break;
        case 4: /* cut short */
            n = random_below(state, 2) ? at : n - some;
            break;
        default: /* one that tells */
            p[at] = telling_bytes[random_below(state, TELLING_BYTES)];
        }
    }
    return n;
}

#define MUTATED 512 /* characters at most, before they are damaged */
#define MUTATED_BYTES (4 * MUTATED + 64)

/* A text that is damaged but now and then, of which half have fewer than 64 characters. Returns its bytes' number. */
static inline size_t
random_text(uint64_t *seed, uint32_t *characters, uint8_t *bytes)
{
    const uint32_t dice = random_below(seed, 16);
    const size_t count = random_below(seed, dice < 8 ? 64 : dice < 15 ? 160 : MUTATED);
    random_characters(seed, (int)random_below(seed, MIXES), characters, count);
    const size_t n = reference_write(bytes, characters, count);
    return random_below(seed, 8) ? random_damage(seed, bytes, n) : n;
}

#endif
