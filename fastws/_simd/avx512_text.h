/* UTF-8 into characters and back with AVX-512: its compress instruction moves together the lanes that are wanted. */

/* Bytes as numbers of 16 or 32 bits; those that begin the vector. */
INLINE V avx512_wide16(V v) { return _mm512_cvtepu8_epi16(_mm512_castsi512_si256(v)); }
INLINE V avx512_wide32(V v) { return _mm512_cvtepu8_epi32(_mm512_castsi512_si128(v)); }

/* `count` characters put together from six bits of each vector. */
INLINE void
avx512_put16(uint8_t *to, size_t count, V a, V b, V c)
{
    for (size_t done = 0; done < count; done += 32) {
        const V low = avx512_or(avx512_wide16(a), _mm512_slli_epi16(avx512_wide16(b), 6));
        const V all = avx512_or(low, _mm512_slli_epi16(avx512_wide16(c), 12));
        _mm512_mask_storeu_epi16(to + done * 2, (__mmask32)(avx512_lanes(count) >> done), all);
        a = _mm512_alignr_epi64(a, a, 4);
        b = _mm512_alignr_epi64(b, b, 4);
        c = _mm512_alignr_epi64(c, c, 4);
    }
}

INLINE void
avx512_put32(uint8_t *to, size_t count, V a, V b, V c, V d)
{
    for (size_t done = 0; done < count; done += 16) {
        const V low = avx512_or(avx512_wide32(a), _mm512_slli_epi32(avx512_wide32(b), 6));
        const V high = avx512_or(avx512_wide32(c), _mm512_slli_epi32(avx512_wide32(d), 6));
        const V all = avx512_or(low, _mm512_slli_epi32(high, 12));
        _mm512_mask_storeu_epi32(to + done * 4, (__mmask16)(avx512_lanes(count) >> done), all);
        a = _mm512_alignr_epi64(a, a, 2);
        b = _mm512_alignr_epi64(b, b, 2);
        c = _mm512_alignr_epi64(c, c, 2);
        d = _mm512_alignr_epi64(d, d, 2);
    }
}

INLINE void
avx512_widen(uint8_t *to, int width, V ascii)
{
    const V none = avx512_splat(0);
    if (width == 1)
        avx512_store(to, ascii);
    else if (width == 2)
        avx512_put16(to, V_SIZE, ascii, none, none);
    else
        avx512_put32(to, V_SIZE, ascii, none, none, none);
}

/* A character is put together where its last byte is, from that one, `a`, and up to three before it: b, c, d. */
INLINE void
avx512_decode_as(uint8_t *to, int width, const uint8_t *p, size_t n)
{
    const V six_bits = avx512_splat(0x3F);
    V before = avx512_splat(0);
    uint64_t more_before = 0;
    for (size_t i = 0; i < n; i += V_SIZE) {
        const size_t left = n - i < V_SIZE ? n - i : V_SIZE;
        const V v = avx512_load_first(p + i, left);
        if (left == V_SIZE && !avx512_high(v)) {
            avx512_widen(to, width, v);
            to += V_SIZE * width;
            before = v;
            more_before = 0;
            continue;
        }
        const uint64_t more = _mm512_cmplt_epi8_mask(v, _mm512_set1_epi8(-64)); /* where a is a continuation, */
        const uint64_t more2 = more & (more << 1 | more_before >> 63);          /* and b, */
        const uint64_t more3 = more2 & (more << 2 | more_before >> 62);         /* and c */
        const uint64_t goes_on = n - i > V_SIZE && (p[i + V_SIZE] & 0xC0) == 0x80;
        const uint64_t last = ~(more >> 1 | goes_on << 63) & avx512_lanes(left);
        const size_t count = (size_t)_mm_popcnt_u64(last);
        V a = _mm512_mask_mov_epi8(v, more, avx512_and(v, six_bits));
        V b = _mm512_maskz_mov_epi8(more, avx512_and(avx512_prev(v, before, 1), six_bits));
        if (width == 1) {
            a = avx512_or(a, _mm512_slli_epi16(b, 6)); /* b is at most 3: its bits stay in its lane */
            avx512_store_part(to, _mm512_maskz_compress_epi8(last, a), count);
        } else {
            V c = _mm512_maskz_mov_epi8(more2, avx512_prev(v, before, 2)), d;
            if (width == 4) { /* of 16 bits the shift by 12 leaves no more than is wanted */
                c = avx512_and(c, _mm512_mask_mov_epi8(avx512_splat(0x0F), more3, six_bits));
                d = _mm512_maskz_mov_epi8(more3, avx512_and(avx512_prev(v, before, 3), avx512_splat(0x07)));
                d = _mm512_maskz_compress_epi8(last, d);
            }
            a = _mm512_maskz_compress_epi8(last, a);
            b = _mm512_maskz_compress_epi8(last, b);
            c = _mm512_maskz_compress_epi8(last, c);
            if (width == 2)
                avx512_put16(to, count, a, b, c);
            else
                avx512_put32(to, count, a, b, c, d);
        }
        to += count * (size_t)width;
        before = v;
        more_before = more;
    }
}

static TARGET void
avx512_decode(void *to, int width, size_t chars, const uint8_t *from, size_t n)
{
    (void)chars;
    switch (width) { /* so that each loop is compiled for its width */
    case 1: avx512_decode_as(to, 1, from, n); break;
    case 2: avx512_decode_as(to, 2, from, n); break;
    default: avx512_decode_as(to, 4, from, n);
    }
}

INLINE V
avx512_load16(const void *from, int width, size_t i, size_t n)
{
    const __mmask32 lanes = (__mmask32)avx512_lanes(n);
    if (width == 1)
        return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(lanes, (const uint8_t *)from + i));
    return _mm512_maskz_loadu_epi16(lanes, (const uint16_t *)from + i);
}

/* Writes those bytes of the lanes that have bits in `wanted`, which come from `spread`, and others that are set. */
INLINE uint8_t *
avx512_put_bytes(uint8_t *to, V spread, V wanted, V set)
{
    const uint64_t kept = _mm512_test_epi8_mask(wanted, wanted);
    const size_t count = (size_t)_mm_popcnt_u64(kept);
    avx512_store_part(to, _mm512_maskz_compress_epi8(kept, avx512_or(avx512_and(spread, wanted), set)), count);
    return to + count;
}

/* At most 32 characters, below U+0800. */
INLINE uint8_t *
avx512_encode32(uint8_t *to, V c, size_t n, __mmask32 over1)
{
    const V spread = avx512_or(_mm512_srli_epi16(c, 6), _mm512_slli_epi16(c, 8));
    V wanted = _mm512_maskz_mov_epi16((__mmask32)avx512_lanes(n), _mm512_set1_epi16(0x7F));
    wanted = _mm512_mask_mov_epi16(wanted, over1, _mm512_set1_epi16(0x3F1F));
    const V set = _mm512_maskz_mov_epi16(over1, _mm512_set1_epi16((short)0x80C0));
    return avx512_put_bytes(to, _mm512_mask_mov_epi16(c, over1, spread), wanted, set);
}

/* 16 characters, each spread over four bytes, its last byte in the last. */
INLINE uint8_t *
avx512_encode16(uint8_t *to, V c, size_t n)
{
    const __mmask16 over1 = _mm512_cmpge_epu32_mask(c, avx512_splat32(0x80));
    const __mmask16 over2 = _mm512_cmpge_epu32_mask(c, avx512_splat32(0x800));
    const __mmask16 over3 = _mm512_cmpge_epu32_mask(c, avx512_splat32(0x10000));
    V wanted = _mm512_maskz_mov_epi32((__mmask16)avx512_lanes(n), avx512_splat32(0x7F000000));
    V set = _mm512_maskz_mov_epi32(over1, avx512_splat32(0x80C00000));
    wanted = _mm512_mask_mov_epi32(wanted, over1, avx512_splat32(0x3F1F0000));
    wanted = _mm512_mask_mov_epi32(wanted, over2, avx512_splat32(0x3F3F0F00));
    set = _mm512_mask_mov_epi32(set, over2, avx512_splat32(0x8080E000));
    wanted = _mm512_mask_mov_epi32(wanted, over3, avx512_splat32(0x3F3F3F07));
    set = _mm512_mask_mov_epi32(set, over3, avx512_splat32(0x808080F0));
    const V shifts = _mm512_set1_epi64(0x20262C3200060C12); /* by 18, 12, 6 and 0 bits, in both halves of eight bytes */
    return avx512_put_bytes(to, _mm512_multishift_epi64_epi8(shifts, c), wanted, set);
}

INLINE void
avx512_encode_as(uint8_t *to, const void *from, int width, size_t chars)
{
    size_t n;
    for (size_t i = 0; i < chars; i += n) {
        if (width < 4) {
            n = chars - i < 32 ? chars - i : 32;
            const V c = avx512_load16(from, width, i, n);
            const __mmask32 over1 = _mm512_test_epi16_mask(c, _mm512_set1_epi16((short)0xFF80));
            if (!over1) {
                _mm256_mask_storeu_epi8(to, (__mmask32)avx512_lanes(n), _mm512_cvtepi16_epi8(c));
                to += n;
            } else if (width == 1 || !_mm512_test_epi16_mask(c, _mm512_set1_epi16((short)0xF800))) {
                to = avx512_encode32(to, c, n, over1);
            } else {
                n = n < 16 ? n : 16;
                to = avx512_encode16(to, _mm512_cvtepu16_epi32(_mm512_castsi512_si256(c)), n);
            }
        } else {
            n = chars - i < 16 ? chars - i : 16;
            to = avx512_encode16(
                to, _mm512_maskz_loadu_epi32((__mmask16)avx512_lanes(n), (const uint32_t *)from + i), n);
        }
    }
}

static TARGET void
avx512_encode(uint8_t *to, size_t size, const void *from, int width, size_t chars)
{
    (void)size;
    switch (width) {
    case 1: avx512_encode_as(to, from, 1, chars); break;
    case 2: avx512_encode_as(to, from, 2, chars); break;
    default: avx512_encode_as(to, from, 4, chars);
    }
}

static TARGET size_t
avx512_encoded_size(const void *from, int width, size_t chars)
{
    return scalar_size(from, width, chars);
}
