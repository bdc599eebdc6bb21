"""The kernels of fastws/_simd, each variant that this processor has: check.c alone, and str as the core makes it."""
