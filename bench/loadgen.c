/* The load generator of fastws' benchmarks: one thread, one epoll, no library.
 *
 *   loadgen echo    --port P --connections C --size B --window N --seconds S [--binary]
 *   loadgen connect --port P --connections TOTAL --at-once K
 *   loadgen idle    --port P --connections M
 *
 * Each workload warms the server up, prints "ready", waits for a line on stdin, runs, and prints one JSON object.
 * Between "ready" and that line, and after the JSON, it does nothing, so that the driver can read the server's
 * counters while the server sleeps.
 *
 * echo:    every connection sends a batch of N masked frames in one write and, when the last of the N answers is
 *          in, sends the next batch. Frames are built beforehand, each with a mask and a payload of its own; every
 *          byte of every answer is compared.
 * connect: connects, upgrades, checks the 101, and resets the connection (linger 0), K at a time.
 * idle:    holds WARM connections before "ready" and M more after it, until stdin closes. It answers pings.
 *
 * Any surprise (a wrong byte, a closed connection, 10 s without an event, the overall --limit) is one line on stderr
 * and a non-zero exit; nothing waits for ever. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { QUIET_MS = 10000, EVENTS = 256, READ_SIZE = 256 * 1024, HEAD_MAX = 8192, WARM = 200 };

/* The key of RFC 6455 section 1.3 and the answer to it: no SHA-1 is needed here to check the server's. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct conn {
    int fd;
    bool open, writing;             /* past the 101; EPOLLOUT is armed */
    uint8_t *out, *expected;        /* one batch: what is sent, and what must come back */
    size_t sent, got;               /* how far in the two */
    char *head;                     /* a 101 that came in pieces; NULL otherwise */
    size_t head_len;
    uint8_t ping[2 + 125];          /* a ping as far as it has come (RFC 6455 section 5.5: at most 125 bytes) */
    unsigned ping_len;
    bool pong_due;                  /* it could not be answered yet */
};

static struct {
    int port;
    long connections, size, window, at_once, limit;
    double seconds;
    uint64_t seed;
    bool binary;
} opt = {.connections = 100, .size = 64, .window = 1, .at_once = 64, .limit = 300, .seconds = 2, .seed = 1};

static int epfd;
static struct conn *conns;
static char request[512];
static size_t request_len, batch_out, batch_in, frame_in;   /* bytes; frame_in is one frame of the server's */
static uint8_t rx[READ_SIZE];
static struct epoll_event events[EVENTS];

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void on_alarm(int sig) {
    (void)sig;
    static const char text[] = "loadgen: not finished within --limit seconds\n";
    if (write(2, text, sizeof text - 1)) {}
    _exit(3);
}

static double clock_s(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t random64(void) {    /* xorshift64*: the same bytes for the same --seed */
    opt.seed ^= opt.seed >> 12, opt.seed ^= opt.seed << 25, opt.seed ^= opt.seed >> 27;
    return opt.seed * 0x2545F4914F6CDD1DULL;
}

static void watch(struct conn *c, int op, uint32_t what) {
    struct epoll_event ev = {.events = what, .data.ptr = c};
    if (epoll_ctl(epfd, op, c->fd, &ev)) die("epoll_ctl: %s", strerror(errno));
}

static int wait_events(const char *doing, long done, long of) {
    int n;
    while ((n = epoll_wait(epfd, events, EVENTS, QUIET_MS)) < 0)
        if (errno != EINTR) die("epoll_wait: %s", strerror(errno));
    if (n == 0) die("nothing from the server for %d s (%s, %ld of %ld)", QUIET_MS / 1000, doing, done, of);
    return n;
}

/* Writes data[from..size) and returns how far it came. EPOLLOUT is armed only while something is left. */
static size_t push(struct conn *c, const void *data, size_t from, size_t size) {
    while (from < size) {
        ssize_t n = send(c->fd, (const char *)data + from, size - from, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) die("send: %s", strerror(errno));
        if (n < 0) break;
        from += (size_t)n;
    }
    if ((from < size) != c->writing) {
        c->writing = from < size;
        watch(c, EPOLL_CTL_MOD, c->writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
    return from;
}

static size_t pull(struct conn *c) {
    ssize_t n = recv(c->fd, rx, sizeof rx, 0);
    if (n > 0) return (size_t)n;
    if (n < 0 && errno == EAGAIN) return 0;
    die("the server closed a connection %s: %s", c->open ? "after the upgrade" : "before the 101",
        n ? strerror(errno) : "end of stream");
}

/* ---- opening: connect, request, 101 ---- */

static void begin(struct conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    /* Linger 0 resets at close: no TIME_WAIT, so that the ports of one address last. */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    c->open = c->writing = false;
    c->sent = c->got = 0;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    c->sent = push(c, request, 0, request_len);     /* on loopback the connection mostly stands by now */
}

/* RFC 6455 section 4.1, what the client must find in the answer. */
static void check_101(const char *head, size_t len) {
    static const char name[] = "\r\nSec-WebSocket-Accept:";
    if (len < 12 || memcmp(head, "HTTP/1.1 101", 12)) die("not a 101: %.*s", (int)strcspn(head, "\r"), head);
    const char *p = strcasestr(head, name);
    if (!p) die("the 101 has no Sec-WebSocket-Accept");
    p += sizeof name - 1;
    p += strspn(p, " \t");
    if (strncmp(p, ACCEPT, sizeof ACCEPT - 1) || !strchr(" \t\r", p[sizeof ACCEPT - 1]))
        die("wrong Sec-WebSocket-Accept: %.*s", (int)strcspn(p, "\r"), p);
}

/* True once, when the connection has become open. */
static bool advance(struct conn *c, uint32_t what) {
    if (what & EPOLLERR) {
        int error = 0;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
        die("connection failed before the 101: %s", strerror(error));
    }
    if (c->sent < request_len && (c->sent = push(c, request, c->sent, request_len)) < request_len) return false;
    size_t n = pull(c);
    if (!n) return false;
    if (c->head_len + n >= HEAD_MAX) die("the answer to the upgrade exceeds %d bytes", HEAD_MAX);
    char *head = (char *)rx;
    if (c->head || n < 4 || memcmp(rx + n - 4, "\r\n\r\n", 4)) {
        if (!c->head && !(c->head = malloc(HEAD_MAX))) die("out of memory");
        memcpy(c->head + c->head_len, rx, n);
        head = c->head;
        n = c->head_len += n;
    }
    head[n] = 0;
    const char *end = strstr(head, "\r\n\r\n");
    if (!end) return false;
    if (end + 4 != head + n) die("bytes after the 101, before anything was sent");
    check_101(head, n);
    free(c->head);
    c->head = NULL;
    c->head_len = 0;
    c->sent = batch_out;    /* nothing to send until a batch begins */
    c->got = batch_in;
    return c->open = true;
}

/* ---- frames of the server ---- */

/* A pong must not land inside a frame of a batch that is half out (RFC 6455 section 5.5.3). */
static void send_pong(struct conn *c) {
    if (c->sent < batch_out) {
        c->pong_due = true;
        return;
    }
    uint8_t frame[6 + 125] = {0x8A, (uint8_t)(0x80 | c->ping[1])};      /* mask 0: the payload as it is */
    memcpy(frame + 6, c->ping + 2, c->ping[1]);
    size_t size = 6u + c->ping[1];
    if (push(c, frame, 0, size) < size) die("no room for a pong of %zu bytes", size);
    c->pong_due = false;
    c->ping_len = 0;
}

/* Compares n bytes with the answers expected, frame by frame, taking pings that stand between them. */
static void take_slowly(struct conn *c, const uint8_t *p, size_t n) {
    while (n) {
        if (c->ping_len || (c->got % frame_in == 0 && *p == 0x89)) {
            if (c->pong_due) die("a second ping while the first could not be answered");
            c->ping[c->ping_len++] = *p++;
            n--;
            if (c->ping_len == 2 && c->ping[1] > 125) die("a ping with more than 125 bytes");
            if (c->ping_len >= 2 && c->ping_len == 2u + c->ping[1]) send_pong(c);
            continue;
        }
        if (c->got == batch_in) die("a frame that answers nothing, opcode byte 0x%02x", *p);
        size_t k = frame_in - c->got % frame_in;
        if (k > n) k = n;
        if (memcmp(p, c->expected + c->got, k)) {
            size_t i = 0;
            while (p[i] == c->expected[c->got + i]) i++;
            die("answer %zu of a batch: byte %zu is 0x%02x, not 0x%02x", (c->got + i) / frame_in,
                (c->got + i) % frame_in, p[i], c->expected[c->got + i]);
        }
        c->got += k, p += k, n -= k;
    }
}

static void take(struct conn *c) {
    size_t n = pull(c);
    if (!n) return;
    if (!c->ping_len && n <= batch_in - c->got && !memcmp(rx, c->expected + c->got, n)) c->got += n;
    else take_slowly(c, rx, n);
}

/* ---- prebuilt batches ---- */

static size_t header(uint8_t *p, uint8_t mask_bit) {    /* RFC 6455 section 5.2 */
    uint64_t size = (uint64_t)opt.size;
    unsigned more = size < 126 ? 0 : size < 65536 ? 2 : 8;
    p[0] = opt.binary ? 0x82 : 0x81;
    p[1] = mask_bit | (uint8_t)(more == 0 ? size : more == 2 ? 126 : 127);
    for (unsigned i = 0; i < more; i++) p[2 + i] = (uint8_t)(size >> 8 * (more - 1 - i));
    return 2 + more;
}

static void build_batch(struct conn *c) {
    uint8_t *out = c->out = malloc(batch_out), *in = c->expected = malloc(batch_in);
    if (!out || !in) die("out of memory");
    for (long f = 0; f < opt.window; f++) {
        out += header(out, 0x80);
        in += header(in, 0);
        uint32_t mask = (uint32_t)(random64() >> 32);
        uint8_t *key = memcpy(out, &mask, 4);
        out += 4;
        for (long i = 0; i < opt.size; i++) {
            uint64_t r = random64() >> 32;
            in[i] = (uint8_t)(opt.binary ? r : ' ' + r % 95);
            out[i] = in[i] ^ key[i & 3];
        }
        out += opt.size, in += opt.size;
    }
}

/* ---- workloads ---- */

/* Opens `count` connections, at_once at a time: at[0..count) if they are kept, or else reusing at[0..at_once). */
static void open_all(struct conn *at, long count, bool keep) {
    long started = 0, done = 0;
    for (; started < count && started < opt.at_once; started++) begin(&at[started]);
    while (done < count) {
        int n = wait_events("opening connections", done, count);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->open) {
                take(c);
                continue;
            }
            if (!advance(c, events[i].events)) continue;
            done++;
            if (!keep) close(c->fd);
            if (started < count) begin(keep ? &at[started] : c), started++;
        }
    }
}

static void send_batch(struct conn *c) {
    c->got = 0;
    c->sent = push(c, c->out, 0, batch_out);
}

/* Batches on all connections for `seconds`, then until the last answer is in: how many messages were answered. */
static long echo(double seconds) {
    long batches = 0, busy = opt.connections;
    double until = clock_s(CLOCK_MONOTONIC) + seconds;
    for (long i = 0; i < opt.connections; i++) send_batch(&conns[i]);
    while (busy) {
        int n = wait_events("echoing, connections unanswered", busy, opt.connections);
        bool more = clock_s(CLOCK_MONOTONIC) < until;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            bool was_idle = c->got == batch_in;
            if (c->writing) c->sent = push(c, c->out, c->sent, batch_out);
            if (events[i].events & ~(uint32_t)EPOLLOUT) take(c);
            if (c->pong_due && c->sent == batch_out) send_pong(c);
            if (c->got < batch_in || was_idle) continue;
            batches++;
            if (more) send_batch(c);
            else busy--;
        }
    }
    return batches * opt.window;
}

/* Tells the driver that the server is warm and asleep, and waits for its word. */
static void ready(void) {
    char line[16];
    puts("ready");
    fflush(stdout);
    if (read(0, line, sizeof line) <= 0) die("stdin closed before the run began");
}

/* Keeps the connections until stdin closes. */
static void hold(void) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, 0, &ev)) return;     /* a file or /dev/null: nothing to wait for */
    for (;;) {
        int n = epoll_wait(epfd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            char line[16];
            if (events[i].data.ptr) take(events[i].data.ptr);
            else if (read(0, line, sizeof line) <= 0) return;
        }
    }
}

static void make_conns(long count) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((rlim_t)count + 16 > files.rlim_max)
        die("%ld connections exceed the limit of %lu open files", count, (unsigned long)files.rlim_max);
    if (!(conns = calloc((size_t)count, sizeof *conns))) die("out of memory");
}

static long number(const char *text, long low, long high) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text || value < low || value > high) die("%s is not in %ld..%ld", text, low, high);
    return value;
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'},    {"connections", 1, 0, 'c'}, {"size", 1, 0, 's'},  {"window", 1, 0, 'w'},
        {"at-once", 1, 0, 'a'}, {"seconds", 1, 0, 't'},     {"limit", 1, 0, 'l'}, {"seed", 1, 0, 'r'},
        {"binary", 0, 0, 'b'},  {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (o) {
            case 'p': opt.port = (int)number(optarg, 1, 65535); break;
            case 'c': opt.connections = number(optarg, 1, 1000000); break;
            case 's': opt.size = number(optarg, 0, 1 << 30); break;
            case 'w': opt.window = number(optarg, 1, 100000); break;
            case 'a': opt.at_once = number(optarg, 1, 100000); break;
            case 't': opt.seconds = (double)number(optarg, 1, 600); break;
            case 'l': opt.limit = number(optarg, 1, 3600); break;
            case 'r': opt.seed = (uint64_t)number(optarg, 1, 1L << 60); break;
            case 'b': opt.binary = true; break;
            default: return 2;
        }
    const char *workload = optind + 1 == argc ? argv[optind] : "";
    bool is_echo = !strcmp(workload, "echo"), is_idle = !strcmp(workload, "idle");
    if (!opt.port || !(is_echo || is_idle || !strcmp(workload, "connect"))) die("usage: loadgen echo|connect|idle --port P ...");
    signal(SIGALRM, on_alarm);
    alarm((unsigned)opt.limit);
    if ((epfd = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1: %s", strerror(errno));
    request_len = (size_t)snprintf(request, sizeof request,
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", opt.port, KEY);

    uint8_t scratch[16];
    frame_in = header(scratch, 0) + (size_t)opt.size;
    batch_in = is_echo ? frame_in * (size_t)opt.window : 0;
    batch_out = is_echo ? (frame_in + 4) * (size_t)opt.window : 0;
    if ((double)(batch_in + batch_out) * (double)opt.connections > 4e9) die("the frames would take more than 4 GB");
    make_conns(is_idle ? opt.connections + WARM : is_echo ? opt.connections : opt.at_once);
    long count = opt.connections;
    if (is_echo) {
        for (long i = 0; i < opt.connections; i++) build_batch(&conns[i]);
        open_all(conns, opt.connections, true);
        echo(0.3);
    } else
        open_all(conns, WARM, is_idle);
    ready();
    double wall = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    if (is_echo) count = echo(opt.seconds);
    else open_all(is_idle ? conns + WARM : conns, opt.connections, is_idle);
    wall = clock_s(CLOCK_MONOTONIC) - wall, cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"workload\": \"%s\", \"count\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", workload, count, wall, cpu);
    fflush(stdout);
    if (is_idle) hold();
    return 0;
}
