/* What decoding and encoding ask of 16 bytes on x86-64; included once for SSE and once for AVX2. */

INLINE i16x8 NAME(load16)(const uint8_t *p) { return (i16x8)_mm_loadu_si128((const __m128i *)p); }
INLINE i32x4 NAME(load32)(const uint8_t *p) { return (i32x4)_mm_loadu_si128((const __m128i *)p); }
INLINE void NAME(put)(uint8_t *p, u8x16 v) { _mm_storeu_si128((__m128i *)p, (__m128i)v); }

/* Numbers made wider as they are loaded, and narrower as they are stored. */
INLINE i16x8
NAME(wide16)(const uint8_t *p)
{
    return (i16x8)_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)p));
}

INLINE i32x4
NAME(wide32)(const uint8_t *p)
{
    int four;
    memcpy(&four, p, 4);
    return (i32x4)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
}

INLINE i32x4
NAME(wide32from16)(const uint8_t *p)
{
    return (i32x4)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)p));
}

INLINE void
NAME(put_narrow)(uint8_t *p, i16x8 v)
{
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16((__m128i)v, (__m128i)v));
}

INLINE u8x16
NAME(shuffle)(u8x16 v, const uint8_t *order)
{
    return (u8x16)_mm_shuffle_epi8((__m128i)v, _mm_loadu_si128((const __m128i *)order));
}

/* Lanes that are all ones, as bits. */
INLINE unsigned
NAME(bits16)(i16x8 v)
{
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16((__m128i)v, _mm_setzero_si128()));
}

INLINE unsigned
NAME(bits32)(i32x4 v)
{
    return (unsigned)_mm_movemask_ps((__m128)v);
}
