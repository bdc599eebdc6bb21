/* How long things took: a histogram after the idea of Gil Tene's HdrHistogram. Each power of two is cut into SLICES
 * buckets of equal width, so that what it tells is at most 1/SLICES = 0.8 % above the truth (never below) from
 * nanoseconds to 137 s, and its size is the same for ten values or a billion. */
#include <stdint.h>
#include <stdio.h>

enum { SLICE_BITS = 7, SLICES = 1 << SLICE_BITS, POWERS = 37, BUCKETS = (POWERS - SLICE_BITS + 1) * SLICES };

struct histogram {
    uint64_t counts[BUCKETS], count, sum, max;      /* nanoseconds */
};

/* Below 2 * SLICES a bucket is one nanosecond wide; then every SLICES buckets are twice as wide as those before. */
static void record(struct histogram *h, uint64_t ns) {
    unsigned shift = ns < 2 * SLICES ? 0 : 63 - SLICE_BITS - (unsigned)__builtin_clzll(ns);
    uint64_t bucket = shift * SLICES + (ns >> shift);
    h->counts[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    h->count++;
    h->sum += ns;
    if (ns > h->max) h->max = ns;
}

/* The greatest value that falls into a bucket, but no more than there was. */
static inline uint64_t upper_ns(const struct histogram *h, int bucket) {
    int shift = bucket < 2 * SLICES ? 0 : bucket / SLICES - 1;
    uint64_t upper = (((uint64_t)(bucket - shift * SLICES) + 1) << shift) - 1;
    return upper > h->max || bucket == BUCKETS - 1 ? h->max : upper;
}

/* What `share` of the values do not exceed. */
static inline uint64_t percentile_ns(const struct histogram *h, double share) {
    uint64_t seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += h->counts[bucket];
        if (seen && (double)seen >= share * (double)h->count) return upper_ns(h, bucket);
    }
    return h->max;
}

/* `, "name": {...}` with the percentiles in microseconds. */
static inline void print_percentiles(const char *name, const struct histogram *h) {
    static const struct { const char *name; double share; } SHARES[] = {
        {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    printf(", \"%s\": {", name);
    for (size_t i = 0; i < sizeof SHARES / sizeof *SHARES; i++)
        printf("\"%s_us\": %.3f, ", SHARES[i].name, (double)percentile_ns(h, SHARES[i].share) / 1e3);
    double mean = h->count ? (double)h->sum / (double)h->count : 0;
    printf("\"max_us\": %.3f, \"mean_us\": %.3f", (double)h->max / 1e3, mean / 1e3);
}

/* The same, and each bucket that is not empty as [upper end in us, count]. */
static inline void print_histogram(const char *name, const struct histogram *h) {
    print_percentiles(name, h);
    printf(", \"histogram\": [");
    const char *comma = "";
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        if (!h->counts[bucket]) continue;
        printf("%s[%.3f, %llu]", comma, (double)upper_ns(h, bucket) / 1e3, (unsigned long long)h->counts[bucket]);
        comma = ", ";
    }
    printf("]}");
}
