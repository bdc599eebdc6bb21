/* The load generator of fastws' benchmarks: one thread, one epoll, no library.
 *
 *   loadgen echo      --port P --connections C --size B --window N --seconds S [--mixed|--chinese|--binary]
 *   loadgen broadcast --port P --connections C --size B --burst N --seconds S [--binary]
 *   loadgen connect   --port P --connections TOTAL --at-once K
 *   loadgen idle      --port P --connections M
 *
 * Each workload warms the server up, prints "ready", waits for a line on stdin, runs, and prints one JSON object.
 * Between "ready" and that line it does nothing, and after the JSON it only keeps its connections until stdin closes,
 * so that the driver can read the server's counters while the server sleeps, with nothing to tear down yet.
 *
 * echo:      every connection sends a batch of N masked frames in one write and, when the last of the N answers is
 *            in, sends the next batch. Frames are built beforehand, each with a mask and a payload of its own; every
 *            byte of every answer is compared.
 * broadcast: C subscribers and one publisher more, all at /broadcast, where a server hands each message to all
 *            connections but its sender. The publisher sends a burst of N masked frames in one write and, when every
 *            subscriber has all N, the next. Each message begins with a number of its own, and every byte of every
 *            delivery is compared, so that none can be lost, doubled or overtaken. It counts deliveries.
 * connect:   connects, upgrades, checks the 101, and resets the connection (linger 0), K at a time.
 * idle:      opens WARM connections before "ready" and M more after it.
 *
 * Any surprise (a wrong byte, a frame too many until the very end, a closed connection, 10 s without an event, the
 * overall --limit) is one line on stderr and a non-zero exit; nothing waits for ever. Pings are answered. */
#define _GNU_SOURCE
#include "loadgen/options.h"
#include "loadgen/payload.h"
#include "loadgen/connection.h"
#include "loadgen/batch.h"
#include "loadgen/run.h"

enum { NAP_US = 200 };

/* ---- echo ---- */

/* Batches on all connections for `seconds`, then until the last answer is in: how many messages were answered. */
static long echo(double seconds) {
    long batches = 0, busy = opt.connections;
    double until = clock_s(CLOCK_MONOTONIC) + seconds;
    for (long i = 0; i < opt.connections; i++) conns[i].got = 0, send_batch(&conns[i]);
    while (busy) {
        int n = wait_events("echoing, connections unanswered", busy, opt.connections);
        bool more = clock_s(CLOCK_MONOTONIC) < until;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!go_on(&events[i])) continue;
            batches++;
            if (more) c->got = 0, send_batch(c);
            else busy--;
        }
    }
    return batches * opt.window;
}

static void warm_echo(void) {
    if ((double)(2 * batch_in) * (double)opt.connections > 4e9) die("the frames would take more than 4 GB");
    make_conns(opt.connections);
    for (long i = 0; i < opt.connections; i++) build_batch(&conns[i]);
    open_all(conns, opt.connections, true);
    echo(WARM_SECONDS);
}

static long run_echo(void) { return echo(opt.seconds); }

/* ---- broadcast ---- */

/* Bursts for `seconds`, each when the one before has reached everybody: how many messages were delivered.
 *
 * Waiting in epoll for each delivery, the generator would be woken by the server's own sends, at the server's expense,
 * and the oftener the slower the server is. So it naps between two looks; real subscribers are on other machines. */
static long broadcast(double seconds) {
    struct conn *publisher = &conns[opt.connections];
    long bursts = 0;
    double until = clock_s(CLOCK_MONOTONIC) + seconds;
    do {
        number_batch(publisher);
        for (long i = 0; i < opt.connections; i++) conns[i].got = 0;
        send_batch(publisher);
        for (long behind = opt.connections; behind;) {
            int n = wait_events("broadcasting, subscribers behind", behind, opt.connections);
            for (int i = 0; i < n; i++) behind -= go_on(&events[i]);
            if (behind && n < EVENTS) usleep(NAP_US);
        }
        bursts++;
    } while (clock_s(CLOCK_MONOTONIC) < until);
    return bursts * opt.window * opt.connections;
}

/* The publisher comes last, so that it publishes to subscribers that the server has all noticed. */
static void warm_broadcast(void) {
    if (opt.size < DIGITS) die("a broadcast message has %d bytes at least, its number", DIGITS);
    if (opt.kind == MIXED || opt.kind == ALL_CHINESE) die("the number of a broadcast message could cut a character");
    make_conns(opt.connections + 1);
    struct conn *publisher = &conns[opt.connections];
    build_batch(publisher);
    for (long i = 0; i < opt.connections; i++) conns[i].expected = publisher->expected;
    open_all(conns, opt.connections, true);
    open_all(publisher, 1, true);
    broadcast(WARM_SECONDS);
}

static long run_broadcast(void) { return broadcast(opt.seconds); }

/* ---- connect and idle ---- */

static void warm_connect(void) {
    make_conns(opt.at_once);
    open_all(conns, WARM, false);
}

static long run_connect(void) {
    open_all(conns, opt.connections, false);
    return opt.connections;
}

static void warm_idle(void) {
    make_conns(WARM + opt.connections);
    open_all(conns, WARM, true);
}

static long run_idle(void) {
    open_all(conns + WARM, opt.connections, true);
    return opt.connections;
}

static const struct workload WORKLOADS[] = {
    {"echo", "/", warm_echo, run_echo, true},
    {"broadcast", "/broadcast", warm_broadcast, run_broadcast, true},
    {"connect", "/", warm_connect, run_connect, false},
    {"idle", "/", warm_idle, run_idle, true},
};

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) return 2;
    const struct workload *work = find_workload(WORKLOADS, sizeof WORKLOADS / sizeof *WORKLOADS, argc, argv);
    measure_batches(work->run == run_echo || work->run == run_broadcast ? opt.window : 0);
    run_workload(work, NULL);
    return 0;
}
