/* A batch of frames: built beforehand, sent in one write, and compared byte for byte when it comes. */

enum { DIGITS = 8 };        /* of the number that a broadcast message begins with, hexadecimal */

static size_t frame_in;     /* bytes of one frame of the server's; the client's has a mask of 4 more */

static size_t header(uint8_t *p, uint8_t mask_bit) {    /* RFC 6455 section 5.2 */
    uint64_t size = (uint64_t)opt.size;
    unsigned more = size < 126 ? 0 : size < 65536 ? 2 : 8;
    p[0] = opt.kind == BINARY ? 0x82 : 0x81;
    p[1] = mask_bit | (uint8_t)(more == 0 ? size : more == 2 ? 126 : 127);
    for (unsigned i = 0; i < more; i++) p[2 + i] = (uint8_t)(size >> 8 * (more - 1 - i));
    return 2 + more;
}

static void measure_batches(long frames) {
    uint8_t scratch[16];
    frame_in = header(scratch, 0) + (size_t)opt.size;
    batch_in = frame_in * (size_t)frames;
}

/* Frames with a mask and a payload of their own: as sent in c->out, as they must come in c->expected. */
static void build_batch(struct conn *c) {
    c->out_size = (frame_in + 4) * (size_t)opt.window;
    uint8_t *out = c->out = malloc(c->out_size), *in = c->expected = malloc(batch_in);
    if (!out || !in) die("out of memory");
    for (long f = 0; f < opt.window; f++) {
        out += header(out, 0x80);
        in += header(in, 0);
        uint32_t mask = (uint32_t)(random64() >> 32);
        uint8_t *key = memcpy(out, &mask, 4);
        out += 4;
        fill(in, (size_t)opt.size);
        for (long i = 0; i < opt.size; i++) out[i] = in[i] ^ key[i & 3];
        out += opt.size, in += opt.size;
    }
}

/* Begins each payload of c's batch with a number that none had before: nothing old passes for something new. */
static void number_batch(struct conn *c) {
    static uint32_t next;
    for (long f = 1; f <= opt.window; f++, next++) {
        uint8_t *out = c->out + f * (long)(frame_in + 4) - opt.size, *in = c->expected + f * (long)frame_in - opt.size;
        for (int i = 0; i < DIGITS; i++) {
            in[i] = (uint8_t)"0123456789abcdef"[next >> 4 * (DIGITS - 1 - i) & 15];
            out[i] = in[i] ^ (out - 4)[i & 3];
        }
    }
}

static void send_batch(struct conn *c) {
    c->sent = push(c, c->out, 0, c->out_size);
}

/* Compares n bytes with those expected, frame by frame, taking pings that stand between them. */
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
        if (c->got == batch_in) die("a frame after the last that was due, opcode byte 0x%02x", *p);
        size_t k = frame_in - c->got % frame_in;
        if (k > n) k = n;
        if (memcmp(p, c->expected + c->got, k)) {
            size_t i = 0;
            while (p[i] == c->expected[c->got + i]) i++;
            die("message %zu of a batch: byte %zu is 0x%02x, not 0x%02x", (c->got + i) / frame_in,
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

/* Goes on with what an event allows. True when the batch that the connection waits for is complete by it. */
static bool go_on(const struct epoll_event *event) {
    struct conn *c = event->data.ptr;
    bool was_waiting = c->got < batch_in;
    if (c->writing) c->sent = push(c, c->out, c->sent, c->out_size);
    if (event->events & ~(uint32_t)EPOLLOUT) take(c);
    if (c->pong_due && c->sent == c->out_size) send_pong(c);
    return was_waiting && c->got == batch_in;
}

/* It offers no extension, so that there must be none (RFC 6455 section 4.1). */
static void agree(struct conn *c, const char *extensions) {
    (void)c;
    if (extensions) die("an extension that was not offered: %.*s", (int)strcspn(extensions, "\r"), extensions);
}
