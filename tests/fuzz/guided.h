/* What libFuzzer is told besides the edges of the compiled code: a byte for each thing worth seeing again. */
#ifndef FASTWS_GUIDED_H
#define FASTWS_GUIDED_H

#include <stddef.h>
#include <stdint.h>

#define MARKS 8192

__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t marks[MARKS];

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one)(const uint8_t *data, size_t size));

#endif
