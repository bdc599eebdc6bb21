/* Characters into UTF-8 with vectors of 16 bytes; included once for each variant that has no better way.
 *
 * Each character is spread over as many bytes as the longest of those beside it needs; then a shuffle moves together
 * the bytes that each one needs. */

#ifndef FASTWS_SIMD_ENCODE_H
#define FASTWS_SIMD_ENCODE_H
static uint8_t encode_order2[256][16]; /* shuffles, by which of eight characters have two bytes */
static uint8_t encode_order4[256][16]; /* by four lengths less one: their low bits, and then their high bits */

__attribute__((constructor)) static void
encode_tables(void)
{
    for (int lengths = 0; lengths < 256; lengths++) {
        uint8_t *two = encode_order2[lengths], *four = encode_order4[lengths];
        for (int lane = 0; lane < 8; lane++)
            for (int byte = lengths >> lane & 1; byte >= 0; byte--)
                *two++ = (uint8_t)(lane * 2 + byte);
        for (int lane = 0; lane < 4; lane++)
            for (int byte = (lengths >> lane & 1) + (lengths >> (lane + 4) & 1) * 2; byte >= 0; byte--)
                *four++ = (uint8_t)(lane * 4 + byte);
    }
}
#endif

/* Both write 16 bytes, of which so many are right as they return; a character's last byte comes first in its lane. */
INLINE size_t
NAME(encode8)(uint8_t *to, i16x8 c, i16x8 over1)
{
    const i16x8 spread = (c & 0x3F) | (c << 2 & 0x1F00) | (int16_t)0xC080;
    const unsigned lengths = NAME(bits16)(over1);
    NAME(put)(to, NAME(shuffle)((u8x16)((spread & over1) | (c & ~over1)), encode_order2[lengths]));
    return 8 + (size_t)__builtin_popcount(lengths);
}

INLINE size_t
NAME(encode4)(uint8_t *to, i32x4 c)
{
    const i32x4 over1 = c > 0x7F, over2 = c > 0x7FF, over3 = c > 0xFFFF;
    const i32x4 lead = (over1 & 0x4000) ^ (over2 & 0x604000) ^ (over3 & 0x70600000);
    const i32x4 spread = (c & 0x3F) | (c << 2 & 0x3F00) | (c << 4 & 0x3F0000) | (c << 6 & 0x7000000);
    const i32x4 bytes = spread | (int32_t)0x80808080 | lead;
    const unsigned low = NAME(bits32)(over1 ^ over2 ^ over3), high = NAME(bits32)(over2);
    NAME(put)(to, NAME(shuffle)((u8x16)((bytes & over1) | (c & ~over1)), encode_order4[low | high << 4]));
    return 4 + (size_t)(__builtin_popcount(low) + 2 * __builtin_popcount(high));
}

INLINE void
NAME(encode_as)(uint8_t *to, size_t size, const void *from, int width, size_t chars)
{
    const uint8_t *const end = to + size;
    size_t i = 0;
    while (i + 8 <= chars && end - to >= 16) {
        const uint8_t *const p = (const uint8_t *)from + i * (size_t)width;
        if (width < 4) {
            const i16x8 c = width == 1 ? NAME(wide16)(p) : NAME(load16)(p);
            const i16x8 over1 = (c & (int16_t)0xFF80) != 0, over2 = (c & (int16_t)0xF800) != 0;
            if (!NAME(bits16)(over1)) {
                NAME(put_narrow)(to, c);
                to += 8;
                i += 8;
                continue;
            }
            if (width == 1 || !NAME(bits16)(over2)) {
                to += NAME(encode8)(to, c, over1);
                i += 8;
                continue;
            }
        }
        to += NAME(encode4)(to, width == 4 ? NAME(load32)(p) : NAME(wide32from16)(p));
        i += 4;
        if (end - to >= 16) {
            to += NAME(encode4)(to, width == 4 ? NAME(load32)(p + 16) : NAME(wide32from16)(p + 8));
            i += 4;
        }
    }
    scalar_encode_from(to, from, width, chars, i);
}

static TARGET void
NAME(encode)(uint8_t *to, size_t size, const void *from, int width, size_t chars)
{
    switch (width) {
    case 1: NAME(encode_as)(to, size, from, 1, chars); break;
    case 2: NAME(encode_as)(to, size, from, 2, chars); break;
    default: NAME(encode_as)(to, size, from, 4, chars);
    }
}

static TARGET size_t
NAME(encoded_size)(const void *from, int width, size_t chars)
{
    return scalar_size(from, width, chars);
}
