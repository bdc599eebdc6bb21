/* Vectors of 32 bytes: AVX2, since 2013. */

#define VARIANT "avx2"
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

/* Which bytes are continuations; and that as bits, of lanes that are all ones or zeros. */
INLINE V avx2_continuations(V v) { return _mm256_cmpgt_epi8(_mm256_set1_epi8(-64), v); }
INLINE uint64_t avx2_bits(V v) { return (uint32_t)_mm256_movemask_epi8(v); }

/* How many are none. */
INLINE size_t
avx2_starts(V v)
{
    return V_SIZE - (size_t)_mm_popcnt_u64(avx2_bits(avx2_continuations(v)));
}

/* To be called before code for other processors: its SSE instructions would wait for the upper halves of our registers,
 * and GCC 12 forgets to see to it before a function that it knows. */
INLINE void avx2_leave(void) { _mm256_zeroupper(); }

#include "halves_x86.h"
#include "variant.h"
