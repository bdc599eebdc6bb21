/* Times the kernels of fastws/_simd without Python around them.
 *
 *   kernels MS TEXT...      milliseconds per figure; files of UTF-8, whose names are what they are called
 *
 * Prints a line for every variant that this processor has, kernel, content and size:
 *
 *   VARIANT KERNEL CONTENT BYTES NANOSECONDS
 *
 * bytes of payload, or of UTF-8, which ends up to 3 earlier, where a character does; and the shortest of many runs, the
 * call through the table with it. The variant "memcpy" is the C library's, called likewise.
 *
 * Sources begin 14 bytes after a cache line, as the payload of a large frame does; targets 32 bytes after one, as in a
 * bytes object, and half a page apart from the source: where loads follow stores at the same place in another page, the
 * processor takes them for dependent, and that is not what is measured. */
#define _GNU_SOURCE
#include "../../fastws/_simd/simd.h"

#include <stdio.h>
#include <time.h>

enum { PAGE = 4096, BEFORE = 14, LARGEST = 1 << 20, ROOM = 4 * LARGEST + 2 * PAGE, KEY = 0x5AA5C33C };

static double each;                     /* ns that a measurement takes, and at least */
static const int LEAST = 5;             /* runs */
static const size_t SIZES[] = {16, 64, 1024, 65536, LARGEST};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Where the compiler must believe that all memory was read and written. */
#define TOUCHED() __asm__ volatile("" ::: "memory")

/* Nanoseconds of one `work`, the best of the runs; small ones repeat it, so that the clock is not what is measured. */
#define TIMED(size, work)                                                  \
    ({                                                                     \
        const long times = 1 + 20000 / (long)((size) + 16);                \
        const double begun = now();                                        \
        double best = 1e18;                                                \
        for (int run = 0; run < LEAST || now() - begun < each; run++) {    \
            const double from = now();                                     \
            for (long i = 0; i < times; i++) { work; TOUCHED(); }          \
            const double took = (now() - from) / (double)times;            \
            if (took < best) best = took;                                  \
        }                                                                  \
        best;                                                              \
    })

static uint8_t *source, *target, *again;    /* the text as it is; where it goes; once more */
static volatile size_t seen;                /* results go here, so that they are made */

static void print(const char *variant, const char *kernel, const char *content, size_t size, double ns) {
    printf("%s %s %s %zu %.2f\n", variant, kernel, content, size, ns);
    fflush(stdout);
}

static uint8_t *room(size_t offset) {
    uint8_t *p = aligned_alloc(PAGE, ROOM);
    if (!p) exit(1);
    memset(p, 0x5A, ROOM);      /* no page fault is left for the runs */
    return p + offset;
}

/* The kernels that know no text. `k` is NULL for memcpy. */
static void time_payload(const simd_kernels *k) {
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;
    for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        const size_t n = SIZES[s];
        if (!k) {
            print("memcpy", "copy", "binary", n, TIMED(n, copy(target, source, n)));
            continue;
        }
        print(k->name, "unmask", "binary", n, TIMED(n, seen = k->unmask(target, source, n, KEY)));
        /* Not the same bytes again at once: they would be waited for, which no payload that has come is. */
        print(k->name, "unmask-in-place", "binary", n,
              TIMED(n, uint8_t *p = target + (i & 31) * 128; seen = k->unmask(p, p, n, KEY)));
    }
}

/* At most n bytes of the text that is in `source`, cut where a character ends. */
static size_t cut(size_t n) {
    while (n && (source[n] & 0xC0) == 0x80) n--;
    return n;
}

static void time_text(const simd_kernels *k, const char *content, size_t size) {
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        const size_t n = cut(SIZES[i] < size ? SIZES[i] : size);
        simd_text text = {0};
        if (k->check(&text, source, n) != n || text.need) {
            fprintf(stderr, "kernels: %s is not UTF-8\n", content);
            exit(1);
        }
        const int width = simd_width(&text);
        const size_t chars = text.chars;
        uint32_t key = KEY;
        k->unmask(again, source, n, KEY);
        print(k->name, "check", content, SIZES[i], TIMED(n, simd_text t = {0}; seen = k->check(&t, source, n)));
        print(k->name, "unmask-check", content, SIZES[i],
              TIMED(n, simd_text t = {0}; key = KEY; seen = k->unmask_check(&t, target, again, n, &key)));
        print(k->name, "decode", content, SIZES[i], TIMED(n, k->decode(target, width, chars, source, n)));
        k->decode(again, width, chars, source, n);
        print(k->name, "encode", content, SIZES[i],
              TIMED(n, k->encode(target, k->encoded_size(again, width, chars), again, width, chars)));
    }
}

static size_t load(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(source, 1, LARGEST, file) : 0;
    if (!n) {
        perror(path);
        exit(1);
    }
    source[n] = 0;      /* cut() looks there */
    fclose(file);
    return n;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fputs("usage: kernels MS TEXT...\n", stderr);
        return 2;
    }
    each = atof(argv[1]) * 1e6;
    source = room(BEFORE);
    again = room(BEFORE);
    target = room(PAGE / 2 + 32);
    time_payload(NULL);
    for (size_t v = 0; v < SIMD_VARIANTS; v++)
        if (simd_supported(simd_variants[v])) time_payload(simd_variants[v]);
    for (int a = 2; a < argc; a++) {
        const char *slash = strrchr(argv[a], '/');
        size_t n = load(argv[a]);
        for (size_t v = 0; v < SIMD_VARIANTS; v++)
            if (simd_supported(simd_variants[v])) time_text(simd_variants[v], slash ? slash + 1 : argv[a], n);
    }
    return 0;
}
