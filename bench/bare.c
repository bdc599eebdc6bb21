/* The floor under the benchmarks: the least a server can do for an echo and a broadcast, in C on one epoll.
 *
 *   bare --port P
 *
 * It answers the opening handshake (RFC 6455 section 4.2.2) and sends every frame back unmasked, or, at /broadcast, on
 * to all connections there but the sender: all frames of one read in one send each, through shared buffers. It checks
 * nothing: no UTF-8, no limits (what a slow subscriber leaves grows), no deadlines. Not a server to use. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, READ_SIZE = 256 * 1024, BACKLOG = 4096, TRIM_MS = 10 };

struct buffer {
    uint8_t *data;
    size_t len, cap;
};

struct conn {
    int fd;
    bool open, closing;
    size_t seat;                /* its place among the subscribers, from 1; 0 if it is none */
    struct buffer in, out;      /* part of a frame; what the socket did not take. Both mostly NULL. */
};

static int epfd;
static struct conn **subscribers;
static size_t subscribed, seats;
static struct buffer rx, tx;    /* shared by all connections */
static bool freed;              /* a large buffer, since memory was last given back */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void reserve(struct buffer *b, size_t cap) {
    if (cap <= b->cap) return;
    b->cap = cap > 2 * b->cap ? cap : 2 * b->cap;
    if (!(b->data = realloc(b->data, b->cap))) fail("realloc");
}

static void release(struct buffer *b) {
    freed |= b->cap >= READ_SIZE;
    free(b->data);
    *b = (struct buffer){0};
}

/* ---- subscribers ---- */

static void subscribe(struct conn *c) {
    if (subscribed == seats) {
        seats = seats ? 2 * seats : 1024;
        if (!(subscribers = realloc(subscribers, seats * sizeof *subscribers))) fail("realloc");
    }
    subscribers[subscribed++] = c;
    c->seat = subscribed;
}

static void unsubscribe(struct conn *c) {
    struct conn *last = subscribers[--subscribed];
    subscribers[c->seat - 1] = last;
    last->seat = c->seat;
}

/* ---- the opening handshake ---- */

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t state[5], const uint8_t *block) {     /* FIPS 180-4 section 6.1.2 */
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int t = 0; t < 80; t++) {
        uint32_t f, k;
        if (t < 16) {
            memcpy(&w[t], block + 4 * t, 4);
            w[t] = ntohl(w[t]);
        } else
            w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
        if (t < 20) f = (b & c) | (~b & d), k = 0x5A827999;
        else if (t < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
        else if (t < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
        else f = b ^ c ^ d, k = 0xCA62C1D6;
        uint32_t next = rotate(a, 5) + f + e + k + w[t];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

static void accept_value(const char *key, char out[29]) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t text[128] = {0}, digest[21] = {0};
    memcpy(text, key, 24);      /* a key is 24 characters, the GUID 36: 60 bytes, so two blocks with the padding */
    memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    text[60] = 0x80;
    text[126] = 480 >> 8, text[127] = 480 & 255;
    sha1_block(h, text);
    sha1_block(h, text + 64);
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t v = (uint32_t)(digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2]);
        for (int j = 0; j < 4; j++) out[4 * i + j] = alphabet[v >> (18 - 6 * j) & 63];
    }
    out[27] = '=';      /* 20 bytes make 27 characters and one of padding */
    out[28] = 0;
}

/* How many bytes of the request were used: 0 while it is incomplete. */
static size_t handshake(struct conn *c, const uint8_t *data, size_t len) {
    static const char name[] = "\nSec-WebSocket-Key:";
    const uint8_t *end = memmem(data, len, "\r\n\r\n", 4);
    if (!end) return 0;
    for (const uint8_t *p = data; p + sizeof name + 24 < end + 2; p++) {
        if (*p != '\n' || strncasecmp((const char *)p, name, sizeof name - 1)) continue;
        char value[29];
        p += sizeof name - 1;
        while (*p == ' ') p++;
        if (end - p < 24) break;
        accept_value((const char *)p, value);
        tx.len = (size_t)sprintf((char *)tx.data, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", value);
        c->open = true;
        if (!memcmp(data, "GET /broadcast ", 15)) subscribe(c);
        return (size_t)(end + 4 - data);
    }
    c->closing = true;
    return len;
}

/* ---- frames ---- */

static void unmask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t *key) {
    uint64_t wide, word;
    memcpy(&wide, key, 4);
    memcpy((char *)&wide + 4, key, 4);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < n; i++) to[i] = from[i] ^ key[i & 3];
}

/* Appends the answers to all whole frames to tx; how many bytes were used. RFC 6455 section 5.2. */
static size_t frames(struct conn *c, const uint8_t *data, size_t len) {
    size_t at = 0;
    while (len - at >= 6 && !c->closing) {
        const uint8_t *p = data + at;
        unsigned opcode = p[0] & 15, more = (p[1] & 127) == 126 ? 2 : (p[1] & 127) == 127 ? 8 : 0;
        uint64_t size = more ? 0 : p[1] & 127;
        if (len - at < 6u + more) break;
        for (unsigned i = 0; i < more; i++) size = size << 8 | p[2 + i];
        if (size > len - at - 6 - more) break;
        reserve(&tx, tx.len + 10 + size);
        uint8_t *to = tx.data + tx.len;
        to[0] = opcode == 9 ? 0x8A : p[0];
        to[1] = p[1] & 127;
        memcpy(to + 2, p + 2, more);
        if (opcode < 8 || (opcode != 10 && !c->seat)) {     /* a pong is not answered, nothing but data published */
            unmask(to + 2 + more, p + 6 + more, size, p + 2 + more);
            tx.len += 2 + more + size;
        }
        c->closing = opcode == 8;
        at += 6 + more + size;
    }
    return at;
}

/* ---- sockets ---- */

static void finish(struct conn *c) {
    tx.len = 0;     /* what was meant for it must not reach the next */
    if (c->seat) unsubscribe(c);
    close(c->fd);
    release(&c->in);
    release(&c->out);
    free(c);
}

/* What the socket did not take waits behind what waits already; meanwhile nothing is read. */
static void keep(struct conn *c, const uint8_t *data, size_t len) {
    struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
    if (!c->out.len) epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &ev);
    reserve(&c->out, c->out.len + len);
    memcpy(c->out.data + c->out.len, data, len);
    c->out.len += len;
}

/* False when the connection is gone. */
static bool flush(struct conn *c) {
    struct buffer *b = c->out.len ? &c->out : &tx;
    size_t sent = 0;
    while (sent < b->len) {
        ssize_t n = send(c->fd, b->data + sent, b->len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) return finish(c), false;
        sent += (size_t)n;
    }
    if (sent == b->len) {
        b->len = 0;
        if (b == &c->out) {
            struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
            release(b);
            epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &ev);
        }
        if (c->closing) return finish(c), false;
        return true;
    }
    if (b == &tx) {
        keep(c, tx.data + sent, tx.len - sent);
        tx.len = 0;
    } else {
        memmove(b->data, b->data + sent, b->len - sent);
        b->len -= sent;
    }
    return true;
}

/* Sends tx from `from` on to everybody but c. Who is lost with it is left to epoll, which tells it of each in turn. */
static void publish(struct conn *c, size_t from) {
    size_t len = tx.len - from;
    for (size_t i = 0; len && i < subscribed; i++) {
        struct conn *to = subscribers[i];
        if (to == c) continue;
        ssize_t n = to->out.len ? 0 : send(to->fd, tx.data + from, len, MSG_NOSIGNAL);
        if (n < 0) n = errno == EAGAIN ? 0 : (ssize_t)len;
        if ((size_t)n < len) keep(to, tx.data + from + n, len - (size_t)n);
    }
    tx.len = from;
}

static void on_readable(struct conn *c) {
    struct buffer *b = c->in.len ? &c->in : &rx;
    reserve(b, b->len + READ_SIZE);
    ssize_t n = recv(c->fd, b->data + b->len, b->cap - b->len, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) finish(c);
        return;
    }
    size_t len = b->len + (size_t)n;
    size_t used = c->open ? 0 : handshake(c, b->data, len);
    size_t answer = tx.len;     /* the 101, if anything: that is its own */
    if (c->open) used += frames(c, b->data + used, len - used);
    if (c->seat) publish(c, answer);
    size_t left = len - used;
    if (left && b == &rx) {
        reserve(&c->in, left);
        memcpy(c->in.data, rx.data + used, left);
    } else if (left && used)
        memmove(b->data, b->data + used, left);
    if (left) c->in.len = left;
    else if (b == &c->in) release(b);
    if (tx.len || c->closing) flush(c);
}

static void on_connection(int listener) {
    int fd;
    for (int i = 0; i < EVENTS && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0; i++) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c) fail("calloc");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev)) fail("epoll_ctl");
    }
}

int main(int argc, char **argv) {
    int port = argc == 3 && !strcmp(argv[1], "--port") ? atoi(argv[2]) : 0;
    if (port < 1 || port > 65535) {
        fputs("usage: bare --port P\n", stderr);
        return 2;
    }
    /* What is freed is kept until there is nothing to do: its pages would have to be zeroed for the next message, at a
     * third of what 1 MiB costs. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 128 << 20);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, BACKLOG)) fail("listen");
    epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &ev)) fail("epoll_ctl");
    reserve(&tx, READ_SIZE);
    for (;;) {
        int n = epoll_wait(epfd, events, EVENTS, freed ? TRIM_MS : -1);
        if (!n) malloc_trim(0), freed = false;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) on_connection(listener);
            else if (events[i].events & EPOLLOUT) flush(c);
            else if (!c->out.len) on_readable(c);
            else if (events[i].events & (EPOLLERR | EPOLLHUP)) finish(c);   /* input is not asked for now */
        }
    }
}
