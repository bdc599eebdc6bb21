/* UTF-8 into characters with vectors of 16 bytes; included once for each variant that has no better way.
 *
 * The character that begins at each byte is computed as if one began there, from that byte and those behind it; then a
 * shuffle keeps those where one does begin. */

#ifndef FASTWS_SIMD_DECODE_H
#define FASTWS_SIMD_DECODE_H
static uint8_t decode_kept16[256][16], decode_kept32[16][16]; /* by the lanes to keep: shuffles that move them down */

__attribute__((constructor)) static void
decode_tables(void)
{
    for (int width = 2; width <= 4; width += 2) {
        const int lanes = 16 / width;
        for (int kept = 0; kept < 1 << lanes; kept++) {
            uint8_t *shuffle = width == 2 ? decode_kept16[kept] : decode_kept32[kept];
            for (int lane = 0; lane < lanes; lane++)
                for (int byte = 0; kept >> lane & 1 && byte < width; byte++)
                    *shuffle++ = (uint8_t)(lane * width + byte);
        }
    }
}
#endif

/* Eight characters at most, those that begin in p[0..7]; reads up to p[9]. Returns how many. */
INLINE size_t
NAME(decode8)(uint8_t *to, int width, const uint8_t *p)
{
    const u16x8 first = NAME(wide16)(p), second = NAME(wide16)(p + 1) & 0x3F;
    const u16x8 two = (first & 0x1F) << 6 | second;
    u16x8 many = two;
    if (width == 2) {
        const u16x8 three = first << 12 | second << 6 | (NAME(wide16)(p + 2) & 0x3F);
        const u16x8 is_three = (u16x8)(first >= 0xE0);
        many = (three & is_three) | (two & ~is_three);
    }
    const u16x8 is_one = (u16x8)(first < 0x80);
    const unsigned begin = NAME(bits16)((u16x8)((first & 0xC0) != 0x80));
    const u8x16 kept = NAME(shuffle)((u8x16)((first & is_one) | (many & ~is_one)), decode_kept16[begin]);
    if (width == 2) {
        memcpy(to, &kept, 16);
    } else {
        NAME(store_narrow)(to, (u16x8)kept);
    }
    return (size_t)__builtin_popcount(begin);
}

/* Four at most, those that begin in p[0..3]; reads up to p[6]. */
INLINE size_t
NAME(decode4)(uint8_t *to, const uint8_t *p)
{
    const u32x4 first = NAME(wide32)(p), second = NAME(wide32)(p + 1) & 0x3F, third = NAME(wide32)(p + 2) & 0x3F;
    const u32x4 two = (first & 0x1F) << 6 | second, three = (first & 0xF) << 12 | second << 6 | third;
    const u32x4 four = (first & 7) << 18 | second << 12 | third << 6 | (NAME(wide32)(p + 3) & 0x3F);
    const u32x4 is_one = (u32x4)(first < 0x80), is_two = (u32x4)(first < 0xE0), is_four = (u32x4)(first >= 0xF0);
    const u32x4 many = (four & is_four) | (two & is_two) | (three & ~(is_two | is_four));
    const unsigned begin = NAME(bits32)((u32x4)((first & 0xC0) != 0x80));
    const u8x16 kept = NAME(shuffle)((u8x16)((first & is_one) | (many & ~is_one)), decode_kept32[begin]);
    memcpy(to, &kept, 16);
    return (size_t)__builtin_popcount(begin);
}

INLINE void
NAME(decode_as)(uint8_t *to, int width, size_t chars, const uint8_t *p, size_t n)
{
    const size_t lanes = width == 4 ? 4 : 8;
    size_t i = 0, o = 0;
    while (i + lanes + 3 <= n && o + lanes <= chars) {
        uint64_t eight;
        if (i + 8 <= n && o + 8 <= chars && (memcpy(&eight, p + i, 8), !(eight & 0x8080808080808080u))) {
            for (int k = 0; k < 8; k++)
                scalar_put(to, width, o + (size_t)k, p[i + (size_t)k]);
            i += 8;
            o += 8;
            continue;
        }
        o += width == 4 ? NAME(decode4)(to + o * 4, p + i) : NAME(decode8)(to + o * (size_t)width, width, p + i);
        i += lanes;
    }
    while (i < n && (p[i] & 0xC0) == 0x80) /* of a character that has been written */
        i++;
    scalar_decode_from(to, width, p, n, i, o);
}

static TARGET void
NAME(decode)(void *to, int width, size_t chars, const uint8_t *from, size_t n)
{
    switch (width) {
    case 1: NAME(decode_as)(to, 1, chars, from, n); break;
    case 2: NAME(decode_as)(to, 2, chars, from, n); break;
    default: NAME(decode_as)(to, 4, chars, from, n);
    }
}
