/* Vectors of 32 bytes: AVX2, since 2013. */

#define NAME(name) avx2_##name
#define TARGET __attribute__((target("avx2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define V __m256i
#define V_SIZE 32

INLINE V avx2_load(const uint8_t *p) { return _mm256_loadu_si256((const V *)p); }
INLINE void avx2_store(uint8_t *p, V v) { _mm256_storeu_si256((V *)p, v); }
INLINE V avx2_splat(uint8_t byte) { return _mm256_set1_epi8((char)byte); }
INLINE V avx2_splat32(uint32_t word) { return _mm256_set1_epi32((int)word); }
INLINE V avx2_and(V a, V b) { return _mm256_and_si256(a, b); }
INLINE V avx2_or(V a, V b) { return _mm256_or_si256(a, b); }
INLINE V avx2_xor(V a, V b) { return _mm256_xor_si256(a, b); }
INLINE V avx2_max(V a, V b) { return _mm256_max_epu8(a, b); }
INLINE V avx2_minus(V a, V b) { return _mm256_subs_epu8(a, b); }
INLINE V avx2_high_nibble(V v) { return avx2_and(_mm256_srli_epi16(v, 4), avx2_splat(0x0F)); }
INLINE int avx2_high(V v) { return _mm256_movemask_epi8(v) != 0; }
INLINE int avx2_any(V v) { return !_mm256_testz_si256(v, v); }

INLINE V
avx2_lookup(const uint8_t *table, V index)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table)), index);
}

#define avx2_prev(v, before, count) \
    _mm256_alignr_epi8(v, _mm256_permute2x128_si256(before, v, 0x21), 16 - (count))

/* The bytes that are no continuation. */
INLINE size_t
avx2_starts(V v)
{
    return (size_t)_mm_popcnt_u32((unsigned)_mm256_movemask_epi8(_mm256_cmpgt_epi8(v, _mm256_set1_epi8(-65))));
}

#include "parts.h"
/* To be called before code for other processors: its SSE instructions would wait for the upper halves of our registers,
 * and GCC 12 forgets to see to it before a function that it knows. */
INLINE void avx2_leave(void) { _mm256_zeroupper(); }

#include "unmask.h"
#include "utf8.h"

INLINE u8x16
avx2_shuffle(u8x16 v, const uint8_t *order)
{
    return (u8x16)_mm_shuffle_epi8((__m128i)v, _mm_loadu_si128((const __m128i *)order));
}

/* Lanes that are all ones, as bits. */
INLINE unsigned
avx2_bits16(u16x8 v)
{
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16((__m128i)v, _mm_setzero_si128()));
}

INLINE unsigned
avx2_bits32(u32x4 v)
{
    return (unsigned)_mm_movemask_ps((__m128)v);
}

/* Eight bytes as eight numbers. */
INLINE u16x8
avx2_wide16(const uint8_t *p)
{
    return (u16x8)_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)p));
}

INLINE u32x4
avx2_wide32(const uint8_t *p)
{
    int four;
    memcpy(&four, p, 4);
    return (u32x4)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
}

INLINE u32x4
avx2_wide32from16(const uint16_t *p)
{
    return (u32x4)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)p));
}

INLINE void
avx2_store_narrow(uint8_t *p, u16x8 v)
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

static const simd_kernels avx2_kernels = {
    "avx2", avx2_unmask, avx2_check, avx2_unmask_check, avx2_decode, avx2_encoded_size, avx2_encode,
};
