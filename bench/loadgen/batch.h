/* Frames, compared byte for byte when they come. They are built beforehand as the server must send them, and shared:
 * a connection's batch is so many of them from its own start on, and no neighbour has the same. What a connection
 * sends is that behind a mask of its own: kept too where it is not too much, or else masked anew for each write. */

enum {
    DIGITS = 8,                     /* of the number that a message of some workloads begins with, hexadecimal */
    STARTS = 64,                    /* different batches at most */
    DISTINCT_BYTES = 16 << 20,      /* of frames that all differ; where there must be more, they come again */
    KEPT_BYTES = 256 << 20,         /* of masked frames, over all connections */
    PIECE = 128 * 1024,             /* that is masked for one write: it stays in the processor's cache */
};

static size_t head_in, frame_in, frame_out;     /* bytes of a frame's header, and of a frame, by who sends it */
static uint8_t *frames;
static long starts;

static void measure_batches(long count) {
    uint64_t size = (uint64_t)opt.size;
    head_in = size < 126 ? 2 : size < 65536 ? 4 : 10;
    frame_in = head_in + (size_t)size, frame_out = frame_in + 4;
    batch_in = frame_in * (size_t)count;
}

/* Frames for `batches` different batches of `count` each, as far as that many can differ. Their payloads are filled
 * from `number` bytes on. */
static void build_frames(long batches, long count, size_t number) {
    long distinct = DISTINCT_BYTES / (long)frame_in > 2 ? DISTINCT_BYTES / (long)frame_in : 2;
    starts = batches < STARTS ? batches : STARTS;
    if (starts > distinct) starts = distinct;
    long total = starts + count - 1;
    uint8_t *p = frames = malloc((size_t)total * frame_in);
    if (!p) die("out of memory");
    for (long i = 0; i < total; i++, p += frame_in) {
        if (i >= distinct) {
            memcpy(p, p - distinct * (long)frame_in, frame_in);
            continue;
        }
        p[0] = opt.kind == BINARY ? 0x82 : 0x81;    /* RFC 6455 section 5.2 */
        p[1] = (uint8_t)(head_in == 2 ? opt.size : head_in == 4 ? 126 : 127);
        for (size_t k = 2; k < head_in; k++) p[k] = (uint8_t)((uint64_t)opt.size >> 8 * (head_in - 1 - k));
        memset(p + head_in, '0', number);
        fill(p + head_in + number, (size_t)opt.size - number);
    }
}

static void write_number(uint8_t *frame, uint32_t number) {
    uint8_t *const begin = frame + head_in;
    for (uint8_t *p = begin + DIGITS; p > begin; number >>= 4) *--p = (uint8_t)"0123456789abcdef"[number & 15];
}

/* ---- as sent ---- */

/* to[i] = from[i] ^ key[(at + i) % 4], eight bytes at a time. */
static void mask_bytes(uint8_t *to, const uint8_t *from, size_t n, const uint8_t *key, size_t at) {
    uint8_t turned[8];
    uint64_t wide, word;
    for (size_t i = 0; i < 8; i++) turned[i] = key[(at + i) & 3];
    memcpy(&wide, turned, 8);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < n; i++) to[i] = from[i] ^ turned[i & 7];
}

/* Writes bytes [at, at + n) of a frame as the client sends it, or as many as it has; how many. */
static size_t mask_frame(uint8_t *to, const uint8_t *frame, uint32_t mask, size_t at, size_t n) {
    uint8_t head[14];
    size_t head_out = head_in + 4, end = n < frame_out - at ? at + n : frame_out, i = at;
    memcpy(head, frame, head_in);
    head[1] |= 0x80;
    memcpy(head + head_in, &mask, 4);
    for (; i < head_out && i < end; i++) *to++ = head[i];
    if (i < end) mask_bytes(to, frame + i - 4, end - i, head + head_in, i - head_out);
    return end - at;
}

/* The same of a batch; every frame of it has another mask. */
static void mask_batch(const struct conn *c, uint8_t *to, size_t at, size_t n) {
    while (n) {
        size_t f = at / frame_out;
        size_t k = mask_frame(to, c->expected + f * frame_in, c->mask + (uint32_t)f * 0x9E3779B9u, at % frame_out, n);
        to += k, at += k, n -= k;
    }
}

static void push_batch(struct conn *c) {
    static uint8_t piece[PIECE];
    if (c->out) {
        c->sent = push(c, c->out, c->sent, c->out_size);
        return;
    }
    for (size_t n, taken; c->sent < c->out_size;) {
        n = c->out_size - c->sent < PIECE ? c->out_size - c->sent : PIECE;
        mask_batch(c, piece, c->sent, n);
        taken = push(c, piece, 0, n);
        c->sent += taken;
        if (taken < n) return;
    }
}

static void send_batch(struct conn *c) {
    c->sent = 0;
    push_batch(c);
}

/* Gives c the batch from the `start`th frame on. */
static void give_batch(struct conn *c, long start, long count, bool kept) {
    c->expected = frames + (size_t)(start % starts) * frame_in;
    c->mask = (uint32_t)(random64() >> 32);
    c->out_size = frame_out * (size_t)count;
    if (!kept) return;
    if (!(c->out = malloc(c->out_size))) die("out of memory");
    mask_batch(c, c->out, 0, c->out_size);
}

/* ---- as it comes ---- */

/* How much of the n bytes belongs to a ping, of which one may stand before any frame. */
static size_t take_ping(struct conn *c, const uint8_t *p, size_t n) {
    size_t i = 0;
    if (*p != 0x89 && (!c->ping_len || c->pong_due)) return 0;
    if (c->pong_due) die("a second ping while the first could not be answered");
    while (i < n && (c->ping_len < 2 || c->ping_len < 2u + c->ping[1])) {
        c->ping[c->ping_len++] = p[i++];
        if (c->ping_len == 2 && c->ping[1] > 125) die("a ping with more than 125 bytes");
    }
    if (c->ping_len >= 2 && c->ping_len == 2u + c->ping[1]) send_pong(c);
    return i;
}

/* `got` bytes of a message have come already; `which` and `number` say which message it is. */
static void compare(const uint8_t *p, const uint8_t *frame, size_t got, size_t n, const char *which, size_t number) {
    if (!memcmp(p, frame + got, n)) return;
    size_t i = 0;
    while (p[i] == frame[got + i]) i++;
    die("message %zu of %s: byte %zu is 0x%02x, not 0x%02x", number, which, got + i, p[i], frame[got + i]);
}

/* Compares n bytes with those expected, frame by frame, with what stands between them. */
static void take_slowly(struct conn *c, const uint8_t *p, size_t n) {
    for (size_t k; n; p += k, n -= k) {
        size_t f = c->got / frame_in, at = c->got % frame_in;
        if (!at && (k = take_ping(c, p, n))) continue;
        if (c->got == batch_in) die("a frame after the last that was due, opcode byte 0x%02x", *p);
        k = n < frame_in - at ? n : frame_in - at;
        compare(p, c->expected + f * frame_in, at, k, "a batch", f);
        c->got += k;
    }
}

static void take_batch(struct conn *c) {
    size_t n = pull(c);
    if (!n) return;
    if (!c->ping_len && n <= batch_in - c->got && !memcmp(rx, c->expected + c->got, n)) c->got += n;
    else take_slowly(c, rx, n);
}
