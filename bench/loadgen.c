/* The load generator of fastws' benchmarks: one thread, one epoll, zlib for what is compressed.
 *
 *   loadgen echo      --port P --connections C [--active A] --size B --window N --seconds S
 *   loadgen open      --port P --connections C --size B --rate R --seconds S
 *   loadgen broadcast --port P --connections C --size B --burst N --seconds S [--slow K]
 *   loadgen connect   --port P --connections TOTAL --at-once K
 *   loadgen idle      --port P --connections M --at-once K [--message B [--messages N]]
 *
 * Each workload warms the server up, prints "ready", waits for a line on stdin, runs, and prints one JSON object.
 * Between "ready" and that line it does nothing, and after the JSON it only keeps its connections until stdin closes,
 * so that the driver can read the server's counters while the server sleeps, with nothing to tear down yet.
 *
 * echo:      every connection sends a batch of N masked frames in one write and, when the last of the N answers is
 *            in, sends the next batch. With --active, A of the connections do so and the others only stay open.
 * open:      messages at a fixed rate, answered or not, with the latency of each from the moment it was due: open.h.
 * broadcast: C subscribers and one publisher more, all at /broadcast, where a server hands each message to all
 *            connections but its sender. The publisher sends a burst of N masked frames in one write and, when every
 *            subscriber has all N, the next. Each message begins with a number of its own, and every byte of every
 *            delivery is compared, so that none can be lost, doubled or overtaken. It counts deliveries.
 *            K further subscribers have a small buffer for what comes and never read. They only may be lost.
 * connect:   connects, upgrades, checks the 101, and resets the connection (linger 0), K at a time. The latency is that
 *            of the handshakes, each from connect() on.
 * idle:      the same with connections that stay: WARM before "ready" and M more after it. With --message, each gets N
 *            messages of so many bytes echoed, one after the other, K connections at a time, when all are open.
 *
 * Payloads are --size bytes of ASCII text, or of text in several scripts (--mixed), Chinese text (--chinese), random
 * bytes (--binary), JSON (--json). Every byte that a server sends is compared with what must come. Masks are random, one
 * per frame.
 *
 * With JSON, echo, broadcast and idle may offer an extension, as in --offer permessage-deflate, which the server must
 * accept. Messages are compressed before the run, by themselves alone if --self-contained; what comes is inflated with
 * what was agreed, and its every byte compared. The report has the WebSocket bytes in both directions, as the client sees
 * them, and how many messages that came were compressed. The messages of a broadcast have no numbers then.
 *
 * Any surprise (a wrong byte, a frame too many until the very end, a closed connection, 10 s without an event, the
 * overall --limit) is one line on stderr and a non-zero exit; nothing waits for ever. Pings are answered. */
#define _GNU_SOURCE
#include "loadgen/options.h"
#include "loadgen/payload.h"
#include "loadgen/connection.h"
#include "loadgen/batch.h"
#include "loadgen/run.h"
#include "loadgen/open.h"
#include "loadgen/json.h"
#include "loadgen/deflate.h"

enum { NAP_US = 200, APART = 7 };

/* ---- batches, of frames or of messages that are JSON ---- */

/* The loops set `got` back, as who receives a batch need not be who sends it. */
static void send_next(struct conn *c) {
    if (opt.kind == JSON) send_messages(c);
    else send_batch(c);
}

static long slow_lost;

/* The only connections that may end before the run does. */
static void lose(struct conn *c) {
    slow_lost++;
    watch(c, EPOLL_CTL_DEL, 0);
}

static void take(struct conn *c) {
    if (c->slow) lose(c);
    else if (opt.kind == JSON) take_messages(c);
    else take_batch(c);
}

/* Goes on with what an event allows. True when the batch that the connection waits for is complete by it. */
static bool go_on(const struct epoll_event *event) {
    struct conn *c = event->data.ptr;
    bool was_waiting = c->got < batch_in;
    if (c->writing) push_batch(c);
    if (event->events & ~(uint32_t)EPOLLOUT) take(c);
    if (c->pong_due && c->sent == c->out_size) send_pong(c);
    return was_waiting && c->got == batch_in;
}

/* ---- echo ---- */

/* The i-th of those that talk, which are spread evenly over all. */
static struct conn *talker(long i) { return &conns[i * opt.connections / opt.active]; }

/* Batches on all that talk for `seconds`, and `until_warm`, then until the last answer is in: how many messages were
 * answered. */
static long echo(double seconds, bool until_warm) {
    long batches = 0, busy = opt.active;
    double until = clock_s(CLOCK_MONOTONIC) + seconds;
    for (long i = 0; i < opt.active; i++) talker(i)->got = 0, send_next(talker(i));
    while (busy) {
        int n = wait_events("echoing, connections unanswered", busy, opt.active);
        bool more = clock_s(CLOCK_MONOTONIC) < until;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!go_on(&events[i])) continue;
            batches++;
            if (more || (until_warm && !is_warm(c))) c->got = 0, send_next(c);
            else busy--;
        }
    }
    return batches * opt.window;
}

static void warm_echo(void) {
    if (!opt.active || opt.active > opt.connections) opt.active = opt.connections;
    make_conns(opt.connections);
    if (opt.kind == JSON) make_streams(opt.connections, APART);
    else {
        measure_batches(opt.window);
        build_frames(opt.active, opt.window, 0);
        bool kept = frame_out * (size_t)opt.window <= KEPT_BYTES / (size_t)opt.active;
        for (long i = 0; i < opt.active; i++) give_batch(talker(i), i, opt.window, kept);
    }
    open_all(conns, opt.connections, true);
    echo(WARM_SECONDS, opt.kind == JSON);
}

static long run_echo(void) { return echo(opt.seconds, false); }

/* ---- broadcast ---- */

/* Begins each message of the burst with a number that none had before: nothing old passes for something new. */
static void number_burst(const struct conn *publisher) {
    static uint32_t next;
    for (long i = 0; i < opt.window; i++) write_number(publisher->expected + (size_t)i * frame_in, next++);
}

/* Bursts for `seconds`, each when the one before has reached everybody: how many messages were delivered.
 *
 * Waiting in epoll for each delivery, the generator would be woken by the server's own sends, at the server's expense,
 * and the oftener the slower the server is. So it naps between two looks; real subscribers are on other machines. */
static long broadcast(double seconds) {
    struct conn *publisher = &conns[opt.connections];
    long bursts = 0;
    double until = clock_s(CLOCK_MONOTONIC) + seconds;
    do {
        if (opt.kind != JSON) number_burst(publisher);
        for (long i = 0; i < opt.connections; i++) conns[i].got = 0;
        send_next(publisher);
        for (long behind = opt.connections; behind;) {
            int n = wait_events("broadcasting, subscribers behind", behind, opt.connections);
            for (int i = 0; i < n; i++) behind -= go_on(&events[i]);
            if (behind && n < EVENTS) usleep(NAP_US);
        }
        bursts++;
    } while (clock_s(CLOCK_MONOTONIC) < until);
    return bursts * opt.window * opt.connections;
}

/* The publisher comes last but for its place, so that it publishes to subscribers that the server has all noticed. */
static void warm_broadcast(void) {
    if (opt.size < DIGITS) die("a broadcast message has %d bytes at least, its number", DIGITS);
    make_conns(opt.connections + 1 + opt.slow);
    struct conn *publisher = &conns[opt.connections], *slow = publisher + 1;
    if (opt.kind == JSON) make_streams(opt.connections + 1 + opt.slow, 0);
    else {
        measure_batches(opt.window);
        build_frames(1, opt.window, DIGITS);
        give_batch(publisher, 0, opt.window, false);
        for (long i = 0; i < opt.connections; i++) conns[i].expected = publisher->expected;
    }
    for (long i = 0; i < opt.slow; i++) slow[i].slow = true;
    open_all(conns, opt.connections, true);
    open_all(slow, opt.slow, true);
    open_all(publisher, 1, true);
    broadcast(WARM_SECONDS);
}

static long run_broadcast(void) { return broadcast(opt.seconds); }

static void report_broadcast(void) {
    printf(", \"slow_lost\": %ld", slow_lost);
    report_bytes();
}

/* ---- connect and idle ---- */

/* Stamps cost something while any socket has them; one that has to the end keeps them from going on and off. */
static void time_handshakes(void) {
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(s, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
    stamping = true;
}

static void warm_connect(void) {
    time_handshakes();
    make_conns(opt.at_once);
    open_all(conns, WARM, false);
}

static long run_connect(void) {
    open_all(conns, opt.connections, false);
    return opt.connections;
}

/* So many messages each way, one after the other, on each of at[0..count), at_once at a time. */
static void exchange(struct conn *at, long count) {
    long started = 0, done = 0;
    while (done < count) {
        for (; started < count && started - done < opt.at_once; started++) {
            at[started].got = 0, at[started].exchanged = 0;
            send_next(&at[started]);
        }
        int n = wait_events("exchanging messages, connections done", done, count);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!go_on(&events[i])) continue;
            if (++c->exchanged < opt.messages) c->got = 0, send_next(c);
            else done++;
        }
    }
}

static void warm_idle(void) {
    time_handshakes();
    make_conns(WARM + opt.connections);
    if (opt.message >= 0) {
        opt.size = opt.message;
        if (opt.kind == JSON) make_streams(WARM + opt.connections, APART);
        else {
            measure_batches(1);
            build_frames(STARTS, 1, 0);
            for (long i = 0; i < WARM + opt.connections; i++) give_batch(&conns[i], i, 1, false);
        }
    }
    open_all(conns, WARM, true);
    if (opt.message >= 0) exchange(conns, WARM);
}

static long run_idle(void) {
    open_all(conns + WARM, opt.connections, true);
    if (opt.message >= 0) exchange(conns + WARM, opt.connections);
    return opt.connections;
}

static void report_connections(void) {
    print_histogram("latency", &latency);
    report_bytes();
}

static const struct workload WORKLOADS[] = {
    {"echo", "/", warm_echo, run_echo, true, true, report_bytes},
    {"open", "/", warm_open, run_open, true, false, report_open},
    {"broadcast", "/broadcast", warm_broadcast, run_broadcast, true, true, report_broadcast},
    {"connect", "/", warm_connect, run_connect, false, false, report_connections},
    {"idle", "/", warm_idle, run_idle, true, true, report_connections},
};

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) return 2;
    measure_batches(0);     /* nothing is due until a workload says so */
    run_workload(find_workload(WORKLOADS, sizeof WORKLOADS / sizeof *WORKLOADS, argc, argv));
    return 0;
}
