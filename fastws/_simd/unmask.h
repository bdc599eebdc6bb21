/* Unmasking with vectors; included once for each variant. */

static TARGET uint32_t
NAME(unmask)(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    const uint32_t later = scalar_rotate(key, n);
    if (n < V_SIZE) {
        NAME(unmask_few)(to, from, n, key);
        return later;
    }
    /* The first and the last vector overlap those in between, which are stored where `to` is aligned; `from` may be
     * `to`, so both are loaded before anything is stored. */
    const V first = NAME(xor)(NAME(load)(from), NAME(splat32)(key));
    const V last = NAME(xor)(NAME(load)(from + n - V_SIZE), NAME(splat32)(later));
    size_t i = -(uintptr_t)to & (V_SIZE - 1);
    const V mask = NAME(splat32)(scalar_rotate(key, i));
    for (; i + V_SIZE <= n; i += V_SIZE)
        NAME(store)(to + i, NAME(xor)(NAME(load)(from + i), mask));
    NAME(store)(to, first);
    NAME(store)(to + n - V_SIZE, last);
    return later;
}
