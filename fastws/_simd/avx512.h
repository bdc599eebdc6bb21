/* Vectors of 64 bytes, and masked loads and stores for the rest: AVX-512 with BW, VBMI and VBMI2, since 2019. */

#define NAME(name) avx512_##name
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi2")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define V __m512i
#define V_SIZE 64

INLINE V avx512_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE void avx512_store(uint8_t *p, V v) { _mm512_storeu_si512(p, v); }
INLINE V avx512_splat(uint8_t byte) { return _mm512_set1_epi8((char)byte); }
INLINE V avx512_splat32(uint32_t word) { return _mm512_set1_epi32((int)word); }
INLINE V avx512_and(V a, V b) { return _mm512_and_si512(a, b); }
INLINE V avx512_or(V a, V b) { return _mm512_or_si512(a, b); }
INLINE V avx512_xor(V a, V b) { return _mm512_xor_si512(a, b); }
INLINE V avx512_max(V a, V b) { return _mm512_max_epu8(a, b); }
INLINE V avx512_minus(V a, V b) { return _mm512_subs_epu8(a, b); }
INLINE V avx512_high_nibble(V v) { return avx512_and(_mm512_srli_epi16(v, 4), avx512_splat(0x0F)); }
INLINE int avx512_high(V v) { return _mm512_movepi8_mask(v) != 0; }
INLINE int avx512_any(V v) { return _mm512_test_epi8_mask(v, v) != 0; }

INLINE V
avx512_lookup(const uint8_t *table, V index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)), index);
}

#define avx512_prev(v, before, count) _mm512_alignr_epi8(v, _mm512_alignr_epi64(v, before, 6), 16 - (count))

/* The bytes that are no continuation. */
INLINE size_t
avx512_starts(V v)
{
    return (size_t)_mm_popcnt_u64(_mm512_cmpgt_epi8_mask(v, _mm512_set1_epi8(-65)));
}

/* The first n <= 64 lanes. */
INLINE __mmask64
avx512_lanes(size_t n)
{
    return _cvtu64_mask64(_bzhi_u64(~(uint64_t)0, (unsigned)n));
}

INLINE V
avx512_first_of(V v, size_t n)
{
    return _mm512_maskz_mov_epi8(avx512_lanes(n), v);
}

/* At most 64 bytes, and zeros behind them. */
INLINE V
avx512_load_first(const uint8_t *p, size_t n)
{
    return _mm512_maskz_loadu_epi8(avx512_lanes(n), p);
}

/* The same, unmasked. */
INLINE V
avx512_load_part(const uint8_t *p, size_t n, uint32_t key)
{
    return avx512_first_of(avx512_xor(avx512_load_first(p, n), avx512_splat32(key)), n);
}

INLINE void
avx512_store_part(uint8_t *p, V v, size_t n)
{
    _mm512_mask_storeu_epi8(p, avx512_lanes(n), v);
}

INLINE void
avx512_unmask_few(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    avx512_store_part(to, avx512_load_part(from, n, key), n);
}

/* As in avx2.h. */
INLINE void avx512_leave(void) { _mm256_zeroupper(); }

#include "unmask.h"
#include "utf8.h"
#include "avx512_text.h"

#undef NAME
#undef TARGET
#undef INLINE
#undef V
#undef V_SIZE

static const simd_kernels avx512_kernels = {
    "avx512", avx512_unmask, avx512_check, avx512_unmask_check, avx512_decode, avx512_encoded_size, avx512_encode,
};
