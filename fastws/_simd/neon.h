/* Vectors of 16 bytes: NEON, which every 64-bit ARM processor has. */
#include <arm_neon.h>

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

/* The bytes that are no continuation. */
INLINE size_t
neon_starts(V v)
{
    return vaddvq_u8(vshrq_n_u8(vcgtq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(-65)), 7));
}

INLINE void neon_leave(void) {}

#include "parts.h"
#include "unmask.h"
#include "utf8.h"

INLINE u8x16
neon_shuffle(u8x16 v, const uint8_t *order)
{
    return (u8x16)vqtbl1q_u8((uint8x16_t)v, vld1q_u8(order));
}

/* Lanes that are all ones, as bits. */
INLINE unsigned
neon_bits16(u16x8 v)
{
    const u16x8 bits = {1, 2, 4, 8, 16, 32, 64, 128};
    return vaddvq_u16((uint16x8_t)(v & bits));
}

INLINE unsigned
neon_bits32(u32x4 v)
{
    const u32x4 bits = {1, 2, 4, 8};
    return vaddvq_u32((uint32x4_t)(v & bits));
}

/* Eight bytes as eight numbers. */
INLINE u16x8
neon_wide16(const uint8_t *p)
{
    return (u16x8)vmovl_u8(vld1_u8(p));
}

INLINE u32x4
neon_wide32(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, 4);
    return (u32x4)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
}

INLINE u32x4
neon_wide32from16(const uint16_t *p)
{
    return (u32x4)vmovl_u16(vld1_u16(p));
}

INLINE void
neon_store_narrow(uint8_t *p, u16x8 v)
{
    vst1_u8(p, vmovn_u16((uint16x8_t)v));
}

#include "decode.h"
#include "encode.h"

#undef NAME
#undef TARGET
#undef INLINE
#undef V
#undef V_SIZE

static const simd_kernels neon_kernels = {
    "neon", neon_unmask, neon_check, neon_unmask_check, neon_decode, neon_encoded_size, neon_encode,
};
