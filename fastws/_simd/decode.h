/* UTF-8 into characters with vectors; included once for each variant that has no better way.
 *
 * A character is put together where its last byte is, from that one and up to three before it, as if each byte were a
 * last one; then a shuffle moves together the lanes that are. */

#ifndef FASTWS_SIMD_DECODE_H
#define FASTWS_SIMD_DECODE_H
static uint8_t decode_kept16[256][16], decode_kept32[16][16]; /* shuffles, by the lanes to keep */

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

INLINE void
NAME(widen)(uint8_t *to, int width, const uint8_t *ascii)
{
    if (width == 1)
        memcpy(to, ascii, V_SIZE);
    for (int i = 0; width == 2 && i < V_SIZE; i += 8)
        NAME(put)(to + i * 2, (u8x16)NAME(wide16)(ascii + i));
    for (int i = 0; width == 4 && i < V_SIZE; i += 4)
        NAME(put)(to + i * 4, (u8x16)NAME(wide32)(ascii + i));
}

/* Writes the characters whose last bytes are marked in `last`, and up to seven lanes of no meaning behind them. */
INLINE void
NAME(gather)(uint8_t *to, int width, uint32_t last, const uint8_t six_bits[4][V_SIZE])
{
    const int lanes = width == 4 ? 4 : 8;
    for (int i = 0; i < V_SIZE; i += lanes) {
        const unsigned kept = last >> i & ((1u << lanes) - 1);
        const uint8_t *const a = six_bits[0] + i, *const b = six_bits[1] + i, *const c = six_bits[2] + i;
        if (width == 1) {
            const i16x8 all = NAME(wide16)(a) | NAME(wide16)(b) << 6;
            NAME(put_narrow)(to, (i16x8)NAME(shuffle)((u8x16)all, decode_kept16[kept]));
        } else if (width == 2) {
            const i16x8 all = NAME(wide16)(a) | NAME(wide16)(b) << 6 | NAME(wide16)(c) << 12;
            NAME(put)(to, NAME(shuffle)((u8x16)all, decode_kept16[kept]));
        } else {
            const i32x4 low = NAME(wide32)(a) | NAME(wide32)(b) << 6;
            const i32x4 high = NAME(wide32)(c) | NAME(wide32)(six_bits[3] + i) << 6;
            NAME(put)(to, NAME(shuffle)((u8x16)(low | high << 12), decode_kept32[kept]));
        }
        to += __builtin_popcount(kept) * width;
    }
}

INLINE void
NAME(decode_as)(uint8_t *to, int width, size_t chars, const uint8_t *p, size_t n)
{
    V before = NAME(splat)(0), more_before = before;
    uint8_t six_bits[4][V_SIZE];
    size_t i = 0, o = 0;
    for (; i + V_SIZE < n; i += V_SIZE) {
        const V v = NAME(load)(p + i), more = NAME(continuations)(v);
        uint8_t *const place = to + o * (size_t)width;
        if (!NAME(high)(v)) {
            NAME(widen)(place, width, p + i);
            o += V_SIZE;
        } else {
            const uint64_t next = (p[i + V_SIZE] & 0xC0) == 0x80;
            const uint32_t last = (uint32_t)(~(NAME(bits)(more) | next << V_SIZE) >> 1) & UINT32_MAX >> (32 - V_SIZE);
            const size_t count = (size_t)__builtin_popcount(last);
            if (o + count + 8 > chars)
                break;
            const V more2 = NAME(and)(more, NAME(prev)(more, more_before, 1));
            const V more3 = NAME(and)(more2, NAME(prev)(more, more_before, 2));
            const V c = NAME(and)(NAME(prev)(v, before, 2), more2);
            NAME(store)(six_bits[0], NAME(and)(v, NAME(splat)(0x7F)));
            NAME(store)(six_bits[1], NAME(and)(NAME(and)(NAME(prev)(v, before, 1), NAME(splat)(0x3F)), more));
            if (width == 2) /* the shift by 12 leaves no more than is wanted */
                NAME(store)(six_bits[2], c);
            if (width == 4) {
                const V bits = NAME(or)(NAME(splat)(0x0F), NAME(and)(more3, NAME(splat)(0x30)));
                NAME(store)(six_bits[2], NAME(and)(c, bits));
                NAME(store)(six_bits[3], NAME(and)(NAME(and)(NAME(prev)(v, before, 3), NAME(splat)(7)), more3));
            }
            NAME(gather)(place, width, last, (const uint8_t(*)[V_SIZE])six_bits);
            o += count;
        }
        before = v;
        more_before = more;
    }
    NAME(leave)();
    if (i < n && (p[i] & 0xC0) == 0x80)
        i = utf8_back(p, 0, i);
    scalar_decode_from(to, width, p, n, i, o);
}

static TARGET void
NAME(decode)(void *to, int width, size_t chars, const uint8_t *from, size_t n)
{
    switch (width) { /* so that each loop is compiled for its width */
    case 1: NAME(decode_as)(to, 1, chars, from, n); break;
    case 2: NAME(decode_as)(to, 2, chars, from, n); break;
    default: NAME(decode_as)(to, 4, chars, from, n);
    }
}
