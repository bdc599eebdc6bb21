/* Messages that are JSON, and permessage-deflate (RFC 7692) of a client: what was agreed, messages compressed beforehand,
 * inflation of the answers. A server's frames cannot be known then, so messages are compared; without --offer too.
 *
 * The messages are a cycle of so many that a server meets none again within 32 KiB of its history. Every connection
 * begins at another, and all share the frames: with each message as it is, compressed by itself, and compressed with
 * reference to those before it in the cycle, which is what a client does whose context is taken over. For its history
 * this client keeps 4 KiB, so that the last kind is valid as soon as it has sent as much. */
#define ZLIB_CONST
#include <zlib.h>

enum { CLIENT_HISTORY = 4096, CYCLE_BYTES = 256 * 1024, CYCLE_LEAST = 16, LEVEL = 6, NO_WINDOW = 0 };
enum form { PLAIN, ALONE, TAKEN_OVER, FORMS };

/* The frames of all messages. */
struct encoded {
    uint8_t *bytes;
    size_t *at;         /* where each begins; the first ones come again at the end, so that a batch is never in two */
};

/* Of one connection. */
struct stream {
    bool compresses, takes_over;    /* by what was agreed: the client */
    z_stream *inflater;             /* its own if the server's context is taken over */
    int window_bits;                /* of the server, for which the inflater is */
    long first;                     /* its first message in the cycle; of the following each number counts from it */
    long sent, received;
    uint8_t *part;                  /* the beginning of a frame */
    size_t part_size, part_space;
};

static struct stream *streams;
static struct encoded encoded[FORMS];
static long cycle;                  /* messages */
static uint8_t *plain;              /* the cycle, and once more what stands before a message when it goes round */
static int client_window_bits;      /* agreed with the first connection, and so with all */

static struct stream *stream_of(const struct conn *c) { return &streams[c - conns]; }

static const uint8_t *message_at(long number) { return plain + number % cycle * opt.size; }

static void write_messages(void) {
    if (opt.size < LEAST_OBJECT) die("a message has %d bytes at least", LEAST_OBJECT);
    cycle = CYCLE_BYTES / opt.size;
    if (cycle < CYCLE_LEAST) cycle = CYCLE_LEAST;
    if (!(plain = malloc((size_t)(cycle * opt.size) + 1))) die("out of memory");
    for (long i = 0; i < cycle; i++) put_json((char *)plain + i * opt.size, (size_t)opt.size);
}

/* For `count` connections, each of which begins `apart` messages behind the one before. */
static void make_streams(long count, long apart) {
    if (!(streams = calloc((size_t)count, sizeof *streams))) die("out of memory");
    for (long i = 0; i < count; i++) streams[i].first = i * apart;
    batch_in = (size_t)opt.window;
    write_messages();
}

/* ---- what the client sends ---- */

/* Compresses message i into `out` and returns its size: with the end cut off (RFC 7692 section 7.2.1). */
static size_t compress_message(z_stream *z, long i, enum form form, uint8_t *out, size_t space) {
    deflateReset(z);
    if (form == TAKEN_OVER) {
        static uint8_t before[CLIENT_HISTORY];
        size_t first = (size_t)(i * opt.size), total = (size_t)(cycle * opt.size);
        for (size_t k = 0; k < sizeof before; k++) before[k] = plain[(first + total - sizeof before + k) % total];
        deflateSetDictionary(z, before, sizeof before);
    }
    z->next_in = message_at(i), z->avail_in = (uInt)opt.size;
    z->next_out = out, z->avail_out = (uInt)space;
    if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_in || !z->avail_out) die("deflate failed");
    return space - z->avail_out - 4;
}

static size_t write_frame(uint8_t *p, const uint8_t *payload, size_t size, bool rsv1) {    /* RFC 6455 section 5.2 */
    unsigned more = size < 126 ? 0 : size < 65536 ? 2 : 8;
    uint32_t mask = (uint32_t)(random64() >> 32);
    p[0] = rsv1 ? 0xC1 : 0x81;
    p[1] = (uint8_t)(0x80 | (more == 0 ? size : more == 2 ? 126 : 127));
    for (unsigned i = 0; i < more; i++) p[2 + i] = (uint8_t)((uint64_t)size >> 8 * (more - 1 - i));
    uint8_t *key = memcpy(p + 2 + more, &mask, 4);
    for (size_t i = 0; i < size; i++) key[4 + i] = payload[i] ^ key[i & 3];
    return 2 + more + 4 + size;
}

static const struct encoded *encoded_as(enum form form) {
    struct encoded *f = &encoded[form];
    if (f->bytes) return f;
    long count = cycle + opt.window;
    size_t space = (size_t)opt.size + (size_t)opt.size / 100 + 64, end = 0;
    uint8_t *buffer = malloc(space);
    f->at = malloc(sizeof *f->at * (size_t)(count + 1));
    f->bytes = malloc((space + 14) * (size_t)count);
    if (!buffer || !f->at || !f->bytes) die("out of memory");
    z_stream z = {0};
    int bits = client_window_bits < 9 ? 9 : client_window_bits;
    if (deflateInit2(&z, LEVEL, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY) != Z_OK) die("deflateInit2 failed");
    for (long i = 0; i < count; i++) {
        f->at[i] = end;
        if (form == PLAIN) {
            end += write_frame(f->bytes + end, message_at(i), (size_t)opt.size, false);
            continue;
        }
        size_t size = compress_message(&z, i % cycle, form, buffer, space);
        end += write_frame(f->bytes + end, buffer, size, true);
    }
    f->at[count] = end;
    deflateEnd(&z);
    free(buffer);
    return f;
}

static void send_messages(struct conn *c) {
    struct stream *s = stream_of(c);
    bool history = s->takes_over && s->sent * opt.size >= CLIENT_HISTORY;
    const struct encoded *f = encoded_as(!s->compresses ? PLAIN : history ? TAKEN_OVER : ALONE);
    long first = (s->first + s->sent) % cycle;
    c->out = f->bytes + f->at[first];
    c->out_size = f->at[first + opt.window] - f->at[first];
    s->sent += opt.window;
    bytes_out += c->out_size;
    c->sent = push(c, c->out, 0, c->out_size);
}

/* ---- what the server agreed to ---- */

static z_stream *new_inflater(int bits) {
    z_stream *z = calloc(1, sizeof *z);
    if (!z || inflateInit2(z, -bits) != Z_OK) die("inflateInit2 failed");
    return z;
}

static int window_bits(const char *value) {
    if (!value) die("a window without a size");
    return (int)number(value, 8, 15);
}

/* RFC 7692 section 7.1. A server that leaves compression out would be measured without it; one that was not offered any
 * may not name it (RFC 6455 section 4.1). */
static void agree(struct conn *c, const char *extensions) {
    static z_stream *shared[16];
    char answer[200], *rest = answer;
    int server_bits = 15, client_bits = 15;
    bool server_takes_over = true;
    if (!opt.offer != !extensions) die(extensions ? "an extension that was not offered" : "the server does not compress");
    if (!opt.offer) return;
    struct stream *s = stream_of(c);
    snprintf(answer, sizeof answer, "%.*s", (int)strcspn(extensions, "\r"), extensions);
    if (strcmp(strsep(&rest, "; "), "permessage-deflate")) die("not what was offered: %s", answer);
    s->compresses = true, s->takes_over = !opt.self_contained;
    for (char *name; (name = strsep(&rest, "; "));) {
        char *value = name;
        strsep(&value, "=");
        if (!strcmp(name, "server_no_context_takeover")) server_takes_over = false;
        else if (!strcmp(name, "client_no_context_takeover")) s->takes_over = false;
        else if (!strcmp(name, "server_max_window_bits")) server_bits = window_bits(value);
        else if (!strcmp(name, "client_max_window_bits")) client_bits = window_bits(value);
        else if (*name) die("an unknown parameter: %s", name);
    }
    if (client_window_bits != NO_WINDOW && client_window_bits != client_bits) die("windows differ between connections");
    client_window_bits = client_bits;
    if (!server_takes_over && !shared[server_bits]) shared[server_bits] = new_inflater(server_bits);
    s->inflater = server_takes_over ? new_inflater(server_bits) : shared[server_bits];
    s->window_bits = server_takes_over ? NO_WINDOW : server_bits;
}

/* ---- what the server sends ---- */

static void compare_message(struct conn *c, const uint8_t *message, size_t size) {
    struct stream *s = stream_of(c);
    if (c->got == batch_in) die("a message after the last that was due");
    if (size != (size_t)opt.size || memcmp(message, message_at(s->first + s->received), size))
        die("message %ld of a connection, of %zu bytes, is not the one that was sent", s->received, size);
    s->received++, c->got++;
}

static void inflate_message(struct conn *c, const uint8_t *payload, size_t size) {
    static const uint8_t end[] = {0, 0, 0xFF, 0xFF};
    static uint8_t *out;
    struct stream *s = stream_of(c);
    z_stream *z = s->inflater;
    size_t space = (size_t)opt.size + 1;
    if (!z) die("a compressed message without agreement");
    if (!out && !(out = malloc(space))) die("out of memory");
    if (s->window_bits != NO_WINDOW) inflateReset(z);
    z->next_out = out, z->avail_out = (uInt)space;
    z->next_in = payload, z->avail_in = (uInt)size;
    int status = inflate(z, Z_SYNC_FLUSH);
    if ((status == Z_OK || status == Z_BUF_ERROR) && !z->avail_in) {
        z->next_in = end, z->avail_in = sizeof end;
        status = inflate(z, Z_SYNC_FLUSH);
    }
    if (status != Z_OK || z->avail_in) die("message %ld of a connection cannot be inflated: %s", s->received,
                                           z->msg ? z->msg : "it goes on too long");
    compressed_in++;
    compare_message(c, out, space - z->avail_out);
}

/* Takes one frame of the n bytes and returns its size; 0 if it is not whole. */
static size_t take_frame(struct conn *c, const uint8_t *p, size_t n) {
    if (n < 2) return 0;
    size_t size = p[1], head = 2;
    unsigned more = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (p[1] & 0x80) die("a masked frame");
    if (n < head + more) return 0;
    if (more) size = 0;
    for (unsigned i = 0; i < more; i++) size = size << 8 | p[head++];
    if (size > 2 * (size_t)opt.size + 1000) die("a frame of %zu bytes", size);
    if (n < head + size) return 0;
    if (p[0] == 0x89 && size <= 125) {
        if (c->pong_due) die("a second ping while the first could not be answered");
        memcpy(c->ping, p, head + size);
        send_pong(c);
    } else if (p[0] == 0xC1) inflate_message(c, p + head, size);
    else if (p[0] == 0x81) compare_message(c, p + head, size);
    else die("a frame that begins with 0x%02x", p[0]);
    return head + size;
}

static void take_messages(struct conn *c) {
    struct stream *s = stream_of(c);
    size_t n = pull(c), done = 0, k;
    const uint8_t *p = rx;
    bytes_in += n;
    if (s->part_size) {
        if (s->part_size + n > s->part_space) {
            s->part_space = 2 * (s->part_size + n);
            if (!(s->part = realloc(s->part, s->part_space))) die("out of memory");
        }
        memcpy(s->part + s->part_size, rx, n);
        p = s->part, n += s->part_size;
    }
    while ((k = take_frame(c, p + done, n - done))) done += k;
    s->part_size = n - done;
    if (!s->part_size) return;
    if (s->part_size > s->part_space && !(s->part = realloc(s->part, s->part_space = s->part_size))) die("out of memory");
    memmove(s->part, p + done, s->part_size);
}

/* As many messages were exchanged as the histories of both sides need to fill. */
static bool is_warm(const struct conn *c) {
    return stream_of(c)->received * opt.size >= 2 * CLIENT_HISTORY + 8 * opt.size;
}

static void report_bytes(void) {
    if (opt.kind != JSON) return;
    printf(", \"bytes_in\": %llu, \"bytes_out\": %llu, \"compressed_in\": %llu", (unsigned long long)bytes_in,
           (unsigned long long)bytes_out, (unsigned long long)compressed_in);
}
