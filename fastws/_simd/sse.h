/* Vectors of 16 bytes: SSSE3, SSE4.1 and POPCNT, which the x86-64 processors since 2009 have. */

#define NAME(name) sse_##name
#define TARGET __attribute__((target("ssse3,sse4.1,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define V __m128i
#define V_SIZE 16

INLINE V sse_load(const uint8_t *p) { return _mm_loadu_si128((const V *)p); }
INLINE void sse_store(uint8_t *p, V v) { _mm_storeu_si128((V *)p, v); }
INLINE V sse_splat(uint8_t byte) { return _mm_set1_epi8((char)byte); }
INLINE V sse_splat32(uint32_t word) { return _mm_set1_epi32((int)word); }
INLINE V sse_and(V a, V b) { return _mm_and_si128(a, b); }
INLINE V sse_or(V a, V b) { return _mm_or_si128(a, b); }
INLINE V sse_xor(V a, V b) { return _mm_xor_si128(a, b); }
INLINE V sse_max(V a, V b) { return _mm_max_epu8(a, b); }
INLINE V sse_minus(V a, V b) { return _mm_subs_epu8(a, b); }
INLINE V sse_high_nibble(V v) { return sse_and(_mm_srli_epi16(v, 4), sse_splat(0x0F)); }
INLINE V sse_lookup(const uint8_t *table, V index) { return _mm_shuffle_epi8(sse_load(table), index); }
INLINE int sse_high(V v) { return _mm_movemask_epi8(v) != 0; }
INLINE int sse_any(V v) { return !_mm_testz_si128(v, v); }

#define sse_prev(v, before, count) _mm_alignr_epi8(v, before, 16 - (count))

/* The bytes that are no continuation. */
INLINE size_t
sse_starts(V v)
{
    return (size_t)_mm_popcnt_u32((unsigned)_mm_movemask_epi8(_mm_cmpgt_epi8(v, _mm_set1_epi8(-65))));
}

INLINE void sse_leave(void) {}

#include "parts.h"
#include "unmask.h"
#include "utf8.h"

INLINE u8x16
sse_shuffle(u8x16 v, const uint8_t *order)
{
    return (u8x16)_mm_shuffle_epi8((__m128i)v, _mm_loadu_si128((const __m128i *)order));
}

/* Lanes that are all ones, as bits. */
INLINE unsigned
sse_bits16(u16x8 v)
{
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16((__m128i)v, _mm_setzero_si128()));
}

INLINE unsigned
sse_bits32(u32x4 v)
{
    return (unsigned)_mm_movemask_ps((__m128)v);
}

/* Eight bytes as eight numbers. */
INLINE u16x8
sse_wide16(const uint8_t *p)
{
    return (u16x8)_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)p));
}

INLINE u32x4
sse_wide32(const uint8_t *p)
{
    int four;
    memcpy(&four, p, 4);
    return (u32x4)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
}

INLINE u32x4
sse_wide32from16(const uint16_t *p)
{
    return (u32x4)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)p));
}

INLINE void
sse_store_narrow(uint8_t *p, u16x8 v)
{
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16((__m128i)v, (__m128i)v));
}

#include "decode.h"
#include "encode.h"

#undef NAME
#undef TARGET
#undef INLINE
#undef V
#undef V_SIZE

static const simd_kernels sse_kernels = {
    "sse", sse_unmask, sse_check, sse_unmask_check, sse_decode, sse_encoded_size, sse_encode,
};
