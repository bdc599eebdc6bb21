/* What the load generator was asked to do, and the one way in which it gives up. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum kind { ASCII, MIXED, ALL_CHINESE, BINARY, JSON };   /* of payload */

static struct {
    int port;
    long connections, size, window, at_once, limit, messages;
    long active;                /* of the connections; 0: all */
    long slow;                  /* subscribers beyond the connections */
    long message;               /* bytes of what each idle connection gets echoed first; -1: nothing */
    double seconds, rate;       /* messages per second of all connections together */
    uint64_t seed;
    enum kind kind;
    const char *path;           /* NULL: the workload's own */
    const char *offer;          /* Sec-WebSocket-Extensions, of JSON alone; NULL: none is offered */
    bool self_contained;        /* no takeover by the client, though the server would allow it */
} opt = {.connections = 100, .size = 64, .window = 1, .at_once = 64, .limit = 300, .seconds = 2, .seed = 1,
         .messages = 1, .message = -1, .rate = 1000};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static long number(const char *text, long low, long high) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < low || value > high) die("%s is not in %ld..%ld", text, low, high);
    return value;
}

static double real(const char *text, double low, double high) {
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= low && value <= high)) die("%s is not in %g..%g", text, low, high);
    return value;
}

/* False at an option that does not exist, which getopt has named then. */
static bool read_options(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'},   {"connections", 1, 0, 'c'}, {"size", 1, 0, 's'},    {"window", 1, 0, 'w'},
        {"burst", 1, 0, 'w'},  {"at-once", 1, 0, 'a'},     {"seconds", 1, 0, 't'}, {"limit", 1, 0, 'l'},
        {"seed", 1, 0, 'r'},   {"binary", 0, 0, 'b'},      {"mixed", 0, 0, 'm'},
        {"chinese", 0, 0, 'z'}, {"messages", 1, 0, 'n'},   {"offer", 1, 0, 'o'},   {"self-contained", 0, 0, 'f'},
        {"path", 1, 0, 'u'},    {"active", 1, 0, 'k'},     {"rate", 1, 0, 'q'},    {"slow", 1, 0, 'y'},
        {"message", 1, 0, 'e'}, {"json", 0, 0, 'j'},       {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (o) {
            case 'p': opt.port = (int)number(optarg, 1, 65535); break;
            case 'c': opt.connections = number(optarg, 1, 1000000); break;
            case 's': opt.size = number(optarg, 0, 1 << 30); break;
            case 'w': opt.window = number(optarg, 1, 100000); break;
            case 'a': opt.at_once = number(optarg, 1, 100000); break;
            case 't': opt.seconds = real(optarg, 0.01, 600); break;
            case 'l': opt.limit = number(optarg, 1, 3600); break;
            case 'r': opt.seed = (uint64_t)number(optarg, 1, 1L << 60); break;
            case 'b': opt.kind = BINARY; break;
            case 'm': opt.kind = MIXED; break;
            case 'z': opt.kind = ALL_CHINESE; break;
            case 'j': opt.kind = JSON; break;
            case 'n': opt.messages = number(optarg, 1, 1000000); break;
            case 'o': opt.offer = optarg; break;
            case 'u': opt.path = optarg; break;
            case 'k': opt.active = number(optarg, 1, 1000000); break;
            case 'q': opt.rate = real(optarg, 1, 1e7); break;
            case 'y': opt.slow = number(optarg, 0, 1000000); break;
            case 'e': opt.message = number(optarg, 0, 1 << 30); break;
            case 'f': opt.self_contained = true; break;
            default: return false;
        }
    return true;
}
