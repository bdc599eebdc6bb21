/* Characters into UTF-8 with vectors of 16 bytes; included once for each variant that has no better way.
 *
 * Each of four characters is spread over four bytes, its last byte first; then a shuffle puts those in order that it
 * needs. */

#ifndef FASTWS_SIMD_ENCODE_H
#define FASTWS_SIMD_ENCODE_H
static uint8_t encode_order[256][16]; /* by the four lengths less one, their low bits and then their high bits */

__attribute__((constructor)) static void
encode_table(void)
{
    for (int lengths = 0; lengths < 256; lengths++) {
        uint8_t *shuffle = encode_order[lengths];
        for (int lane = 0; lane < 4; lane++)
            for (int byte = (lengths >> lane & 1) + (lengths >> (lane + 4) & 1) * 2; byte >= 0; byte--)
                *shuffle++ = (uint8_t)(lane * 4 + byte);
    }
}
#endif

INLINE u32x4
NAME(load_four)(const void *from, int width, size_t i)
{
    if (width == 1)
        return NAME(wide32)((const uint8_t *)from + i);
    if (width == 2)
        return NAME(wide32from16)((const uint16_t *)from + i);
    u32x4 four;
    memcpy(&four, (const uint32_t *)from + i, 16);
    return four;
}

/* Writes 16 bytes, of which so many are right as it returns. */
INLINE size_t
NAME(encode4)(uint8_t *to, u32x4 c)
{
    const u32x4 over1 = (u32x4)(c >= 0x80), over2 = (u32x4)(c >= 0x800), over3 = (u32x4)(c >= 0x10000);
    const u32x4 lead = (over1 & 0x4000) ^ (over2 & 0x604000) ^ (over3 & 0x70600000);
    const u32x4 spread = (c & 0x3F) | (c << 2 & 0x3F00) | (c << 4 & 0x3F0000) | (c << 6 & 0x7000000);
    const u32x4 bytes = spread | 0x80808080u | lead;
    const unsigned low = NAME(bits32)(over1 ^ over2 ^ over3), high = NAME(bits32)(over2);
    const u8x16 ordered = NAME(shuffle)((u8x16)((bytes & over1) | (c & ~over1)), encode_order[low | high << 4]);
    memcpy(to, &ordered, 16);
    return 4 + (size_t)(__builtin_popcount(low) + 2 * __builtin_popcount(high));
}

INLINE void
NAME(encode_as)(uint8_t *to, size_t size, const void *from, int width, size_t chars)
{
    const uint8_t *const end = to + size;
    size_t i = 0;
    while (i + 4 <= chars && end - to >= 16) {
        to += NAME(encode4)(to, NAME(load_four)(from, width, i));
        i += 4;
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
