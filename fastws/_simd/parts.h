/* Less than a whole vector, where the processor has no masked loads and stores; included once for each variant. */

#ifndef FASTWS_SIMD_PARTS_H
#define FASTWS_SIMD_PARTS_H
static const uint8_t parts_kept[64] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
};
#endif

INLINE void
NAME(unmask_few)(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    if (V_SIZE > 16 && n > 16) {
        scalar_unmask_few(to, from, 16, key);
        to += 16;
        from += 16;
        n -= 16;
    }
    scalar_unmask_few(to, from, n, key);
}

/* n bytes, unmasked, and zeros behind them. */
INLINE V
NAME(load_part)(const uint8_t *p, size_t n, uint32_t key)
{
    uint8_t bytes[V_SIZE] = {0};
    NAME(unmask_few)(bytes, p, n, key);
    return NAME(load)(bytes);
}

INLINE void
NAME(store_part)(uint8_t *p, V v, size_t n)
{
    uint8_t bytes[V_SIZE];
    NAME(store)(bytes, v);
    NAME(unmask_few)(p, bytes, n, 0);
}

INLINE V
NAME(first_of)(V v, size_t n)
{
    return NAME(and)(v, NAME(load)(parts_kept + 32 - n));
}
