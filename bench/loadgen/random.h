/* Random numbers, the same for the same --seed. */
static uint64_t random64(void) {    /* xorshift64* */
    opt.seed ^= opt.seed >> 12, opt.seed ^= opt.seed << 25, opt.seed ^= opt.seed >> 27;
    return opt.seed * 0x2545F4914F6CDD1DULL;
}

static uint32_t random_in(uint32_t low, uint32_t high) { return low + (uint32_t)(random64() >> 32) % (high - low + 1); }
