/* The loops over bytes: unmasking (RFC 6455 section 5.3) and UTF-8 validation (RFC 3629).
 *
 * Plain C. Every kernel reads and writes exactly the bytes it is told of: no slack before or after is needed,
 * and no alignment is assumed. */
#ifndef FASTWS_KERNELS_H
#define FASTWS_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Writes n bytes of `from`, XORed with the masking key, to `to`; `to` may be `from` itself but may not overlap it
 * otherwise. `key` holds the four key bytes in wire order, as loaded with memcpy. Returns the key rotated by n, so
 * that the next piece of the same payload goes on where this one ended. */
static inline uint32_t
kernel_unmask(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    const uint64_t wide = ((uint64_t)key << 32) | key;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    uint8_t bytes[4];
    memcpy(bytes, &key, 4);
    const size_t tail = n - i;
    for (size_t j = 0; j < tail; j++)
        to[i + j] = from[i + j] ^ bytes[j & 3];
    const uint8_t rotated[4] = {bytes[tail & 3], bytes[(tail + 1) & 3], bytes[(tail + 2) & 3], bytes[(tail + 3) & 3]};
    memcpy(&key, rotated, 4);
    return key;
}

/* An unfinished character between two pieces of one text: how many continuation bytes it still needs, and the range
 * that the next one must lie in. All zero between characters, which is also how a text starts. */
typedef struct {
    uint8_t need, low, high;
} kernel_utf8;

/* The number of leading bytes of p that are ASCII. */
static inline size_t
kernel_ascii(const uint8_t *p, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        uint64_t w[4];
        memcpy(w, p + i, 32);
        if ((w[0] | w[1] | w[2] | w[3]) & 0x8080808080808080u)
            break;
    }
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    while (i < n && p[i] < 0x80)
        i++;
    return i;
}

/* Goes on validating a text with its next n bytes. Returns n, or the index of the first byte that cannot be right
 * whatever follows; the state is of no use after that. A text that ends is whole where `need` is 0. */
static inline size_t
kernel_utf8_check(kernel_utf8 *state, const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        const uint8_t byte = p[i];
        if (state->need) {
            if (byte < state->low || byte > state->high)
                return i;
            state->need--;
            state->low = 0x80;
            state->high = 0xBF;
            i++;
        } else if (byte < 0x80) {
            i += kernel_ascii(p + i, n - i);
        } else {
            state->low = 0x80;
            state->high = 0xBF;
            if (byte >= 0xC2 && byte <= 0xDF) {
                state->need = 1;
            } else if (byte >= 0xE0 && byte <= 0xEF) {
                state->need = 2;
                if (byte == 0xE0)
                    state->low = 0xA0; /* below: overlong */
                else if (byte == 0xED)
                    state->high = 0x9F; /* above: surrogates */
            } else if (byte >= 0xF0 && byte <= 0xF4) {
                state->need = 3;
                if (byte == 0xF0)
                    state->low = 0x90; /* below: overlong */
                else if (byte == 0xF4)
                    state->high = 0x8F; /* above: beyond U+10FFFF */
            } else {
                return i;
            }
            i++;
        }
    }
    return n;
}

#endif
