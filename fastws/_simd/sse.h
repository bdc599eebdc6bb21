/* Vectors of 16 bytes: SSSE3, SSE4.1 and POPCNT, which the x86-64 processors since 2009 have. */

#define VARIANT "sse"
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

/* Which bytes are continuations; and that as bits, of lanes that are all ones or zeros. */
INLINE V sse_continuations(V v) { return _mm_cmplt_epi8(v, _mm_set1_epi8(-64)); }
INLINE uint64_t sse_bits(V v) { return (uint64_t)_mm_movemask_epi8(v); }

/* How many are none. */
INLINE size_t
sse_starts(V v)
{
    return V_SIZE - (size_t)_mm_popcnt_u64(sse_bits(sse_continuations(v)));
}

INLINE void sse_leave(void) {}

#include "halves_x86.h"
#include "variant.h"
