/* Time in nanoseconds. */
#include <stdint.h>
#include <time.h>

static uint64_t as_ns(struct timespec t) { return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec; }

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return as_ns(t);
}
