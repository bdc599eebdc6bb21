/* What is being tried, so that a failure, a crash or a sanitizer's complaint can be told as a case to repeat. */
#ifndef REPORT_H
#define REPORT_H

#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_END (-1) /* instead of an offset: the buffer ends where its guard begins */

static struct {
    const char *variant, *kernel, *text;
    uint64_t seed;
    size_t n;               /* bytes, or characters where `width` is not 0 */
    int width;              /* bytes per character */
    int from_at, to_at;     /* offsets, or AT_END */
    uint32_t key;           /* as loaded with memcpy */
    size_t cut;             /* where this piece begins */
    const uint8_t *bytes;   /* the input, without mask */
    size_t size;            /* of the input */
    unsigned long cases;
} now;

static void
report_place(const char *name, int at)
{
    if (at == AT_END)
        fprintf(stderr, ", %s ends at its guard", name);
    else
        fprintf(stderr, ", %s at offset %d", name, at);
}

static void
report_case(void)
{
    fprintf(stderr, "  case: %s %s, %s, n=%zu", now.variant, now.kernel, now.text ? now.text : "", now.n);
    if (now.width)
        fprintf(stderr, ", width %d", now.width);
    report_place("from", now.from_at);
    report_place("to", now.to_at);
    fprintf(stderr, ", key %08x, piece from %zu on, seed %llu\n", now.key, now.cut, (unsigned long long)now.seed);
    if (now.bytes && now.size <= 512) {
        fprintf(stderr, "  input:");
        for (size_t i = 0; i < now.size; i++)
            fprintf(stderr, "%s%02x", i % 32 ? " " : "\n    ", now.bytes[i]);
        fprintf(stderr, "\n");
    }
}

static __attribute__((noreturn, format(printf, 1, 2))) void
fail(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "FAILED: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    report_case();
    exit(1);
}

/* The sanitizer calls this before it writes its report. */
void __asan_on_error(void);
void
__asan_on_error(void)
{
    report_case();
}

/* Tells where a guarded buffer was left; see guarded.h. */
static void report_touched(const uint8_t *address);

static void
report_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    fprintf(stderr, "FAILED: signal %d, %s", number, strsignal(number));
    if (number == SIGSEGV || number == SIGBUS)
        report_touched(info->si_addr);
    fprintf(stderr, "\n");
    report_case();
    _exit(1);
}

static void
report_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = report_signal;
    action.sa_flags = SA_SIGINFO | (int)SA_RESETHAND;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

#endif
