/* A run from its options to its report, and the connections that it keeps. */
#include <signal.h>
#include <sys/resource.h>

enum { WARM = 200 };

static const double WARM_SECONDS = 0.3;
static struct conn *conns;

static double clock_s(clockid_t id) { return (double)clock_ns(id) * 1e-9; }

/* ---- connections ---- */

static void take(struct conn *c);

static void make_conns(long count) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if ((rlim_t)count + 16 > files.rlim_max)
        die("%ld connections exceed the limit of %lu open files", count, (unsigned long)files.rlim_max);
    if (!(conns = calloc((size_t)count, sizeof *conns))) die("out of memory");
}

/* Opens `count` connections, at_once at a time: at[0..count) if they are kept, or else reusing at[0..at_once). */
static void open_all(struct conn *at, long count, bool keep) {
    long started = 0, done = 0;
    for (; started < count && started < opt.at_once; started++) begin(&at[started]);
    while (done < count) {
        int n = wait_for(QUIET_OPENING_MS, "opening connections", done, count);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->open) {
                take(c);
                continue;
            }
            if (!advance(c, events[i].events)) continue;
            record(&latency, c->came - c->began);
            done++;
            if (!keep) close(c->fd);
            if (started < count) begin(keep ? &at[started] : c), started++;
        }
    }
}

/* Keeps the connections until stdin closes. Nothing may come but pings. */
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

/* ---- the run ---- */

struct workload {
    const char *name, *path;
    void (*warm)(void);
    long (*run)(void);      /* how many of what it counts */
    bool keeps;             /* its connections to the end */
    bool json;              /* its messages may be JSON */
    void (*report)(void);   /* prints further members of the JSON object, each after a comma; or NULL */
};

static const struct workload *find_workload(const struct workload *known, size_t count, int argc, char **argv) {
    const char *name = opt.port && optind + 1 == argc ? argv[optind] : "";
    for (size_t i = 0; i < count; i++)
        if (!strcmp(name, known[i].name)) {
            if (opt.offer && opt.kind != JSON) die("--offer goes with --json");
            if (opt.kind == JSON && !known[i].json) die("%s knows no JSON", name);
            return &known[i];
        }
    fputs("usage: loadgen", stderr);
    for (size_t i = 0; i < count; i++) fprintf(stderr, "%c%s", i ? '|' : ' ', known[i].name);
    fputs(" --port P ...\n", stderr);
    exit(1);
}

/* Tells the driver that the server is warm and asleep, and waits for its word. */
static void ready(void) {
    char line[16];
    puts("ready");
    fflush(stdout);
    if (read(0, line, sizeof line) <= 0) die("stdin closed before the run began");
}

static void on_alarm(int sig) {
    (void)sig;
    static const char text[] = "loadgen: not finished within --limit seconds\n";
    if (write(2, text, sizeof text - 1)) {}
    _exit(3);
}

static void run_workload(const struct workload *work) {
    signal(SIGALRM, on_alarm);
    alarm((unsigned)opt.limit);
    if ((epfd = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1: %s", strerror(errno));
    write_request(opt.path ? opt.path : work->path);
    work->warm();
    ready();
    latency = (struct histogram){0};
    bytes_in = bytes_out = compressed_in = 0;
    double wall = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    long count = work->run();
    wall = clock_s(CLOCK_MONOTONIC) - wall, cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"workload\": \"%s\", \"count\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f", work->name, count, wall,
           cpu);
    if (work->report) work->report();
    puts("}");
    fflush(stdout);
    if (work->keeps) hold();
}
