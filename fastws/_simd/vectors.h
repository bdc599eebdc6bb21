/* Vectors of 16 bytes and less, as the compilers know them on any processor. */
#ifndef FASTWS_SIMD_VECTORS_H
#define FASTWS_SIMD_VECTORS_H

typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

#endif
