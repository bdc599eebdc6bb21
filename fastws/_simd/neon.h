/* Vectors of 16 bytes: NEON, which every 64-bit ARM processor has. */
#include <arm_neon.h>

#define VARIANT "neon"
#define NAME(name) neon_##name
#define TARGET
#define INLINE static inline __attribute__((always_inline))
#define V uint8x16_t
#define V_SIZE 16

INLINE V neon_load(const uint8_t *p) { return vld1q_u8(p); }
INLINE void neon_store(uint8_t *p, V v) { vst1q_u8(p, v); }
INLINE V neon_splat(uint8_t byte) { return vdupq_n_u8(byte); }
INLINE V neon_splat32(uint32_t word) { return vreinterpretq_u8_u32(vdupq_n_u32(word)); }
INLINE V neon_and(V a, V b) { return vandq_u8(a, b); }
INLINE V neon_or(V a, V b) { return vorrq_u8(a, b); }
INLINE V neon_xor(V a, V b) { return veorq_u8(a, b); }
INLINE V neon_max(V a, V b) { return vmaxq_u8(a, b); }
INLINE V neon_minus(V a, V b) { return vqsubq_u8(a, b); }
INLINE V neon_high_nibble(V v) { return vshrq_n_u8(v, 4); }
INLINE V neon_lookup(const uint8_t *table, V index) { return vqtbl1q_u8(vld1q_u8(table), index); }
INLINE int neon_high(V v) { return vmaxvq_u8(v) >= 0x80; }
INLINE int neon_any(V v) { return vmaxvq_u8(v) != 0; }

#define neon_prev(v, before, count) vextq_u8(before, v, 16 - (count))

/* Which bytes are continuations; and that as bits, of lanes that are all ones or zeros. */
INLINE V neon_continuations(V v) { return vcltq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(-64)); }

INLINE uint64_t
neon_bits(V v)
{
    const V bits = vandq_u8(v, (V){1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128});
    return vaddv_u8(vget_low_u8(bits)) | (uint64_t)vaddv_u8(vget_high_u8(bits)) << 8;
}

/* How many are none. */
INLINE size_t
neon_starts(V v)
{
    return V_SIZE - (size_t)vaddvq_u8(vshrq_n_u8(neon_continuations(v), 7));
}

INLINE void neon_leave(void) {}

/* As halves_x86.h. */
INLINE i16x8 neon_load16(const uint8_t *p) { return (i16x8)vld1q_u8(p); }
INLINE i32x4 neon_load32(const uint8_t *p) { return (i32x4)vld1q_u8(p); }
INLINE void neon_put(uint8_t *p, u8x16 v) { vst1q_u8(p, (V)v); }
INLINE i16x8 neon_wide16(const uint8_t *p) { return (i16x8)vmovl_u8(vld1_u8(p)); }
INLINE void neon_put_narrow(uint8_t *p, i16x8 v) { vst1_u8(p, vmovn_u16((uint16x8_t)v)); }
INLINE u8x16 neon_shuffle(u8x16 v, const uint8_t *order) { return (u8x16)vqtbl1q_u8((V)v, vld1q_u8(order)); }

INLINE i32x4
neon_wide32(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, 4);
    return (i32x4)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
}

INLINE i32x4
neon_wide32from16(const uint8_t *p)
{
    return (i32x4)vmovl_u16(vreinterpret_u16_u8(vld1_u8(p)));
}

INLINE unsigned
neon_bits16(i16x8 v)
{
    return vaddvq_u16((uint16x8_t)(v & (i16x8){1, 2, 4, 8, 16, 32, 64, 128}));
}

INLINE unsigned
neon_bits32(i32x4 v)
{
    return vaddvq_u32((uint32x4_t)(v & (i32x4){1, 2, 4, 8}));
}

#include "variant.h"
