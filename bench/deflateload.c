/* The load generator with permessage-deflate: one thread, one epoll, zlib. What it shares with loadgen.c works as there.
 *
 *   deflateload echo      --port P --connections C --size B --window N --seconds S [--offer E] [--self-contained]
 *   deflateload exchange  --port P --connections C --size B --messages N [--offer E] [--self-contained]
 *   deflateload broadcast --port P --connections C --size B --burst N --seconds S [--offer E]
 *
 * Messages are JSON, compressed before the run. Those that come are inflated with what was agreed, and every byte is
 * compared. Without --offer nothing is compressed: the same messages as they are, for comparison.
 *
 * echo:      every connection sends N messages in one write and, when the last of the N answers is in, the next N.
 * exchange:  every connection gets N messages echoed, one after the other, and then stays idle; the first WARM
 *            connections do so before "ready", the C others after it. It counts connections.
 * broadcast: as in loadgen.c, the numbers in the messages aside.
 *
 * The report has the WebSocket bytes in both directions too, as the client sees them, and how many messages that came
 * were compressed. */
#define _GNU_SOURCE
#include "loadgen/options.h"
#include "loadgen/random.h"
#include "loadgen/connection.h"
#include "loadgen/json.h"
static void take(struct conn *c);
#include "loadgen/run.h"
#include "loadgen/deflate.h"

enum { NAP_US = 200, APART = 7 };

static void make_streams(long count, long apart) {
    make_conns(count);
    if (!(streams = calloc((size_t)count, sizeof *streams))) die("out of memory");
    write_messages();
    for (long i = 0; i < count; i++) streams[i].first = i * apart;
}

/* Goes on with what an event allows. True when the last message due has come by it. */
static bool go_on(const struct epoll_event *event) {
    struct conn *c = event->data.ptr;
    struct stream *s = stream_of(c);
    bool was_waiting = s->received < s->due;
    if (c->writing) c->sent = push(c, c->out, c->sent, c->out_size);
    if (event->events & ~(uint32_t)EPOLLOUT) take(c);
    if (c->pong_due && c->sent == c->out_size) send_pong(c);
    return was_waiting && s->received == s->due;
}

static void forget_counts(void) { bytes_in = bytes_out = compressed_in = 0; }

/* Batches on `count` connections, each until `seconds` are over or it has had so many; how many messages were echoed. */
static long echo(struct conn *at, long count, double seconds, long batches_each) {
    long batches = 0, busy = count;
    double until = clock_s(CLOCK_MONOTONIC) + seconds;
    forget_counts();
    for (long i = 0; i < count; i++) send_messages(&at[i], opt.window);
    while (busy) {
        int n = wait_events("echoing, connections unanswered", busy, count);
        bool more = clock_s(CLOCK_MONOTONIC) < until;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!go_on(&events[i])) continue;
            batches++;
            if (more && (!batches_each || stream_of(c)->received < batches_each * opt.window))
                send_messages(c, opt.window);
            else busy--;
        }
    }
    return batches * opt.window;
}

/* As long as the histories of both sides need to fill. */
static void warm_echo(void) {
    make_streams(opt.connections, APART);
    open_all(conns, opt.connections, true);
    echo(conns, opt.connections, 60, (2 * CLIENT_HISTORY / opt.size + 8) / opt.window + 1);
}

static long run_echo(void) { return echo(conns, opt.connections, opt.seconds, 0); }

static void warm_exchange(void) {
    make_streams(WARM + opt.connections, APART);
    open_all(conns, WARM, true);
    echo(conns, WARM, 600, opt.messages);
}

static long run_exchange(void) {
    open_all(conns + WARM, opt.connections, true);
    echo(conns + WARM, opt.connections, 600, opt.messages);
    return opt.connections;
}

/* Bursts, each when the one before has reached everybody, with naps as in loadgen.c: how many messages were delivered. */
static long broadcast(double seconds) {
    struct conn *publisher = &conns[opt.connections];
    long bursts = 0;
    double until = clock_s(CLOCK_MONOTONIC) + seconds;
    forget_counts();
    do {
        for (long i = 0; i < opt.connections; i++) stream_of(&conns[i])->due += opt.window;
        send_messages(publisher, opt.window);
        stream_of(publisher)->due = 0;      /* its own does not come back */
        for (long behind = opt.connections; behind;) {
            int n = wait_events("broadcasting, subscribers behind", behind, opt.connections);
            for (int i = 0; i < n; i++) behind -= go_on(&events[i]);
            if (behind && n < EVENTS) usleep(NAP_US);
        }
        bursts++;
    } while (clock_s(CLOCK_MONOTONIC) < until);
    return bursts * opt.window * opt.connections;
}

static void warm_broadcast(void) {
    make_streams(opt.connections + 1, 0);
    open_all(conns, opt.connections, true);
    open_all(conns + opt.connections, 1, true);
    broadcast(WARM_SECONDS);
}

static long run_broadcast(void) { return broadcast(opt.seconds); }

static void report_bytes(void) {
    printf(", \"bytes_in\": %llu, \"bytes_out\": %llu, \"compressed_in\": %llu", (unsigned long long)bytes_in,
           (unsigned long long)bytes_out, (unsigned long long)compressed_in);
}

static const struct workload WORKLOADS[] = {
    {"echo", "/", warm_echo, run_echo, true, report_bytes},
    {"exchange", "/", warm_exchange, run_exchange, true, report_bytes},
    {"broadcast", "/broadcast", warm_broadcast, run_broadcast, true, report_bytes},
};

int main(int argc, char **argv) {
    if (!read_options(argc, argv)) return 2;
    run_workload(find_workload(WORKLOADS, sizeof WORKLOADS / sizeof *WORKLOADS, argc, argv));
    return 0;
}
