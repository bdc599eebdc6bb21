/* The open loop: messages leave at a rate of their own, whatever is still unanswered, as the clients of a real service
 * do not wait for each other.
 *
 * A message's latency counts from the moment at which it was due, not from when it could be sent. A generator that
 * waits for a stalled server before it sends the next message leaves out just those that would have suffered; Gil Tene
 * calls it coordinated omission, and his wrk2 measures as this does. When the socket takes no more, the rest is sent
 * when it does, and the clock runs on.
 *
 * Messages are due at a fixed interval, each on the next connection of an order that is shuffled anew for every round.
 * Arrivals at random (Poisson) would resemble many users more, but then queues form by chance even where the server
 * keeps up with every one; so, every queue that shows is the server's own. And with the order shuffled, no connection
 * has a rhythm.
 *
 * The generator spins, as it has a core to itself. Asleep between two messages (epoll_pwait2), it was 4 us late in the
 * median, and an echo that took 14 us took 22, as it had to be woken for the answer, too. Where something else takes
 * its core, that shows: how late messages were first tried ("lag") is reported beside the latencies, and a latency counts
 * only where the lag is small against it. */

enum { UNANSWERED_MAX = 1 << 20, AT_A_TIME = 64, NONE = 0 };

static const uint64_t SECOND = 1000000000;

/* A message under way, in the list of its connection. */
static struct message {
    uint64_t due;
    uint32_t number, next;
} messages[UNANSWERED_MAX];         /* what was never used takes no memory; number 0 stays free, for NONE */

/* The messages of a connection, oldest first: answers come in this order. */
static struct line {
    uint32_t first, last, unsent;   /* the last two are undefined without a first; unsent: the first not all out */
} *lines;

static uint32_t spare, used = 1, next_number, unanswered;   /* of messages: freed ones; how many ever were in use */
static struct conn **order;
static struct histogram lag;
static long sent_messages;
static double rate_reached;         /* of sending */

static struct line *line_of(const struct conn *c) { return &lines[c - conns]; }

static uint8_t *frame_of(uint32_t number) {
    uint8_t *frame = frames + number % (uint32_t)starts * frame_in;
    write_number(frame, number);
    return frame;
}

/* ---- out ---- */

/* Sends what waits on c, as far as the socket takes it. */
static void push_line(struct conn *c) {
    static uint8_t piece[PIECE];
    struct line *line = line_of(c);
    while (line->unsent != NONE) {
        const struct message *m = &messages[line->unsent];
        size_t n = mask_frame(piece, frame_of(m->number), c->mask + m->number * 0x9E3779B9u, c->sent, PIECE);
        size_t taken = push(c, piece, 0, n);
        c->sent += taken;
        if (taken < n) return;
        if (c->sent < frame_out) continue;
        line->unsent = m->next;
        if (line->unsent != NONE) c->sent = 0;
    }
}

static void send_message(struct conn *c, uint64_t due) {
    struct line *line = line_of(c);
    if (++unanswered >= UNANSWERED_MAX)
        die("%d messages are unanswered: the server does not keep up with %g a second", UNANSWERED_MAX, opt.rate);
    uint32_t at = spare;
    if (at != NONE) spare = messages[at].next;
    else at = used++;
    messages[at] = (struct message){.due = due, .number = next_number++};
    if (line->first == NONE) line->first = at;
    else messages[line->last].next = at;
    line->last = at;
    if (line->unsent != NONE) return;       /* it has to wait for those before it */
    line->unsent = at;
    c->sent = 0;
    push_line(c);
}

static void shuffle(void) {
    for (long i = opt.connections - 1; i > 0; i--) {
        long k = (long)random_in(0, (uint32_t)i);
        struct conn *c = order[i];
        order[i] = order[k], order[k] = c;
    }
}

static uint64_t due_at(uint64_t start, long i) { return start + (uint64_t)((double)i * 1e9 / opt.rate); }

/* Sends what is due by now, but not so much that nobody would look for answers. */
static void send_due(uint64_t start, long total) {
    for (int k = 0; k < AT_A_TIME && sent_messages < total; k++, sent_messages++) {
        uint64_t due = due_at(start, sent_messages), now = clock_ns(CLOCK_MONOTONIC);
        if (due > now) return;
        if (sent_messages % opt.connections == 0) shuffle();
        record(&lag, now - due);
        send_message(order[sent_messages % opt.connections], due);
        rate_reached = (double)(sent_messages + 1) / ((double)(now - start) * 1e-9 + 1 / opt.rate);
    }
}

/* ---- in ---- */

static void answered(struct line *line, uint64_t now) {
    uint32_t at = line->first;
    if (at == line->unsent) die("message %u was answered before all of it was sent", messages[at].number);
    record(&latency, now - messages[at].due);
    line->first = messages[at].next;
    messages[at].next = spare;
    spare = at;
    unanswered--;
}

/* True if anything came. */
static bool take_answers(struct conn *c) {
    struct line *line = line_of(c);
    size_t n = pull(c);
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    const uint8_t *p = rx;
    for (size_t k; n; p += k, n -= k) {
        if (!c->got && (k = take_ping(c, p, n))) continue;
        if (line->first == NONE) die("a frame after the last that was due, opcode byte 0x%02x", *p);
        uint32_t number = messages[line->first].number;
        k = n < frame_in - c->got ? n : frame_in - c->got;
        compare(p, frame_of(number), c->got, k, "the run", number);
        if ((c->got += k) < frame_in) continue;
        c->got = 0;
        answered(line, now);
    }
    return p > rx;
}

/* ---- the run ---- */

/* Messages for `seconds`, until the last answer is in: how many there were. */
static long open_loop(double seconds) {
    long total = (long)(opt.rate * seconds + 0.5);
    uint64_t start = clock_ns(CLOCK_MONOTONIC), heard = start, end = due_at(start, total);
    lag = latency = (struct histogram){0};
    sent_messages = 0;
    while (sent_messages < total || unanswered) {
        send_due(start, total);
        int n = look(0);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->writing) push_line(c);
            if (events[i].events & ~(uint32_t)EPOLLOUT && take_answers(c)) heard = clock_ns(CLOCK_MONOTONIC);
            if (c->pong_due && c->sent == c->out_size) send_pong(c);
            send_due(start, total);
        }
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        if (n || !unanswered) continue;
        if (now > heard + QUIET_MS / 1000 * SECOND && now > start + QUIET_MS / 1000 * SECOND)
            die("nothing from the server for %d s (%u messages unanswered)", QUIET_MS / 1000, unanswered);
        if (now > end + QUIET_MS / 1000 * SECOND)
            die("%u messages are unanswered %d s after the last was due", unanswered, QUIET_MS / 1000);
    }
    return total;
}

static void warm_open(void) {
    if (opt.size < DIGITS) die("a message has %d bytes at least, its number", DIGITS);
    make_conns(opt.connections);
    measure_batches(1);
    build_frames(STARTS, 1, DIGITS);
    lines = calloc((size_t)opt.connections, sizeof *lines);
    order = calloc((size_t)opt.connections, sizeof *order);
    if (!lines || !order) die("out of memory");
    batch_in = 0;       /* outside the loop, nothing is due */
    for (long i = 0; i < opt.connections; i++) {
        order[i] = &conns[i];
        conns[i].out_size = frame_out;
        conns[i].mask = (uint32_t)(random64() >> 32);
    }
    open_all(conns, opt.connections, true);
    open_loop(WARM_SECONDS);
}

static long run_open(void) { return open_loop(opt.seconds); }

static void report_open(void) {
    print_histogram("latency", &latency);
    print_percentiles("lag", &lag);
    printf("}, \"sent\": %ld, \"rate_asked\": %.3f, \"rate_reached\": %.3f", sent_messages, opt.rate, rate_reached);
}
