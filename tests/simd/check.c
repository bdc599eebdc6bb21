/* Tests every variant of the kernels that this processor has against slow references, on guarded memory.
 *
 *     check [--seed N] [--mutations N] [--quick] [--list] [VARIANT ...]
 *
 * A failure names the case and ends with 1; a variant that is not here ends with 2. Wants no Python. */
#include <stddef.h>

#include "simd.h"

#include "case_boundaries.h"
#include "case_mutations.h"
#include "case_transcode.h"
#include "case_unmask.h"

/* Which are to be tried; returns how many. */
static size_t
select_variants(const simd_kernels **selected, char **names, int count)
{
    size_t found = 0;
    for (size_t i = 0; i < SIMD_VARIANTS; i++) {
        int wanted = count == 0;
        for (int j = 0; j < count; j++)
            wanted |= !strcmp(names[j], simd_variants[i]->name);
        selected[i] = wanted && simd_supported(simd_variants[i]) ? simd_variants[i] : NULL;
        found += selected[i] != NULL;
    }
    return found;
}

static void
list_variants(void)
{
    for (size_t i = 0; i < SIMD_VARIANTS; i++)
        if (simd_supported(simd_variants[i]))
            printf("%s\n", simd_variants[i]->name);
}

/* The choice must be the first that is supported, or the one named. */
static void
try_choice(void)
{
    const char *best = NULL;
    for (size_t i = 0; i < SIMD_VARIANTS; i++) {
        const simd_kernels *kernels = simd_variants[i];
        now.variant = kernels->name;
        now.kernel = "simd_choose";
        const int supported = simd_supported(kernels);
        if (supported && !best)
            best = kernels->name;
        if (!simd_choose(kernels->name) != !supported || (supported && strcmp(simd.name, kernels->name)))
            fail("%s is %ssupported", kernels->name, supported ? "" : "not ");
    }
    if (!simd_choose(NULL) || strcmp(simd.name, best) || !simd_choose("") || strcmp(simd.name, best))
        fail("%s is not the first of the supported, %s", simd.name, best);
    if (simd_choose("none") || strcmp(simd.name, best))
        fail("there is none of that name");
}

int
main(int argc, char **argv)
{
    unsigned long mutations = 200000;
    uint64_t seed = 6455;
    const simd_kernels *selected[SIMD_VARIANTS];
    int i = 1;
    for (; i < argc && !strncmp(argv[i], "--", 2); i++) {
        if (!strcmp(argv[i], "--list"))
            return list_variants(), 0;
        if (!strcmp(argv[i], "--quick"))
            offset_step = 9; /* prime to the vectors' lengths */
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--mutations") && i + 1 < argc)
            mutations = strtoul(argv[++i], NULL, 10);
        else
            return fprintf(stderr, "check [--seed N] [--mutations N] [--quick] [--list] [VARIANT ...]\n"), 2;
    }
    const size_t named = (size_t)(argc - i);
    const size_t found = select_variants(selected, argv + i, argc - i);
    if (!found || (named && found != named))
        return fprintf(stderr, "this processor, or this build, has not all of the variants named\n"), 2;
    report_signals();
    guarded_make(&from_memory);
    guarded_make(&to_memory);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seed %llu\n", (unsigned long long)seed);
    try_choice();
    for (size_t v = 0; v < SIMD_VARIANTS; v++) {
        if (!selected[v])
            continue;
        now.variant = selected[v]->name;
        now.seed = seed;
        now.cases = 0;
        try_unmask(selected[v], seed);
        try_check(selected[v], seed);
        try_transcode(selected[v], seed);
        printf("%s: %lu cases\n", selected[v]->name, now.cases);
    }
    try_mutations(selected, SIMD_VARIANTS, mutations, seed);
    return 0;
}
