/* A connection to the server: its socket, its upgrade, and how far it is in the batch of the moment. */
#include "clock.h"
#include "histogram.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where a server's backlog is full the kernel drops what comes, to send it again after twice as long each time: the
 * last of 5,000 at once, at a backlog of 100, have been seen to wait for more than 25 s. */
enum { QUIET_MS = 10000, QUIET_OPENING_MS = 60000 };
enum { EVENTS = 256, READ_SIZE = 256 * 1024, HEAD_MAX = 8192, SLOW_BUFFER = 4096 };

/* The key of RFC 6455 section 1.3 and the answer to it: no SHA-1 is needed here to check the server's. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct conn {
    int fd;
    bool open, writing;             /* past the 101; EPOLLOUT is armed */
    bool slow;                      /* it reads nothing, and may be lost */
    uint8_t *out, *expected;        /* one batch: what is sent, NULL if that is yet to be masked, and what must come */
    size_t out_size, sent, got;     /* bytes to send, and how far in the two: `got` counts as batch_in does */
    uint32_t mask;
    long exchanged;                 /* messages, of a connection that is idle after so many */
    uint64_t began, came;           /* when it began to connect, and the 101 came, in nanoseconds */
    char *head;                     /* a 101 that came in pieces; NULL otherwise */
    size_t head_len;
    uint8_t ping[2 + 125];          /* a ping as far as it has come (RFC 6455 section 5.5: at most 125 bytes) */
    unsigned ping_len;
    bool pong_due;                  /* it could not be answered yet */
};

static int epfd;
static struct histogram latency;
static bool stamping;                    /* handshakes are timed */
static char request[512];
static size_t request_len;
static size_t batch_in;                 /* of what must come for a batch: bytes of frames, or messages that are JSON */
static uint64_t bytes_in, bytes_out, compressed_in;     /* of WebSocket, and messages: where they are JSON */
static uint8_t rx[READ_SIZE];
static struct epoll_event events[EVENTS];

static void write_request(const char *path) {
    request_len = (size_t)snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n", path, opt.port, KEY,
        opt.offer ? "Sec-WebSocket-Extensions: " : "", opt.offer ? opt.offer : "", opt.offer ? "\r\n" : "");
    if (request_len >= sizeof request) die("the request exceeds %zu bytes", sizeof request);
}

static void watch(struct conn *c, int op, uint32_t what) {
    struct epoll_event ev = {.events = what, .data.ptr = c};
    if (epoll_ctl(epfd, op, c->fd, &ev)) die("epoll_ctl: %s", strerror(errno));
}

static int look(int timeout_ms) {
    int n;
    while ((n = epoll_wait(epfd, events, EVENTS, timeout_ms)) < 0)
        if (errno != EINTR) die("epoll_wait: %s", strerror(errno));
    return n;
}

static int wait_for(int quiet_ms, const char *doing, long done, long of) {
    int n = look(quiet_ms);
    if (n == 0) die("nothing from the server for %d s (%s, %ld of %ld)", quiet_ms / 1000, doing, done, of);
    return n;
}

static int wait_events(const char *doing, long done, long of) { return wait_for(QUIET_MS, doing, done, of); }

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

/* Says what was received: n as of recv. */
static size_t received(const struct conn *c, ssize_t n) {
    if (n > 0) return (size_t)n;
    if (n < 0 && errno == EAGAIN) return 0;
    die("the server closed a connection %s: %s", c->open ? "after the upgrade" : "before the 101",
        n ? strerror(errno) : "end of stream");
}

static size_t pull(struct conn *c) { return received(c, recv(c->fd, rx, sizeof rx, 0)); }

/* The same, and when it came, by the kernel's stamp: it may lie there while the generator begins other connections. */
static size_t pull_stamped(struct conn *c, uint64_t *came) {
    char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec to = {rx, sizeof rx};
    struct msghdr message = {.msg_iov = &to, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &message, 0);
    struct cmsghdr *stamp = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    *came = clock_ns(CLOCK_MONOTONIC);
    if (stamp && stamp->cmsg_level == SOL_SOCKET && stamp->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec t;
        memcpy(&t, CMSG_DATA(stamp), sizeof t);
        *came -= clock_ns(CLOCK_REALTIME) - as_ns(t);
    }
    return received(c, n);
}

/* A pong must not land inside a frame of a batch that is half out (RFC 6455 section 5.5.3). */
static void send_pong(struct conn *c) {
    if (c->sent < c->out_size) {
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

/* ---- opening: connect, request, 101 ---- */

static void agree(struct conn *c, const char *extensions);     /* what the server answers: NULL if it names none */

static void begin(struct conn *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    /* Linger 0 resets at close: no TIME_WAIT, so that the ports of one address last. */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (c->slow) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &(int){SLOW_BUFFER}, sizeof(int));
    if (stamping) setsockopt(c->fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
    c->began = clock_ns(CLOCK_MONOTONIC);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    c->open = c->writing = false;
    c->sent = c->got = 0;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    c->sent = push(c, request, 0, request_len);     /* on loopback the connection mostly stands by now */
}

/* The value of a header, up to the end of its line; NULL if it is not there. */
static const char *find_header(const char *head, const char *name) {
    const char *p = strcasestr(head, name);
    if (!p) return NULL;
    p += strlen(name);
    return p + strspn(p, " \t");
}

/* RFC 6455 section 4.1, what the client must find in the answer. */
static void check_101(struct conn *c, const char *head, size_t len) {
    if (len < 12 || memcmp(head, "HTTP/1.1 101", 12)) die("not a 101: %.*s", (int)strcspn(head, "\r"), head);
    const char *p = find_header(head, "\r\nSec-WebSocket-Accept:");
    if (!p) die("the 101 has no Sec-WebSocket-Accept");
    if (strncmp(p, ACCEPT, sizeof ACCEPT - 1) || !strchr(" \t\r", p[sizeof ACCEPT - 1]))
        die("wrong Sec-WebSocket-Accept: %.*s", (int)strcspn(p, "\r"), p);
    agree(c, find_header(head, "\r\nSec-WebSocket-Extensions:"));
}

/* True once, when the connection has become open. */
static bool advance(struct conn *c, uint32_t what) {
    if (what & EPOLLERR) {
        int error = 0;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
        die("connection failed before the 101: %s", strerror(error));
    }
    if (c->sent < request_len && (c->sent = push(c, request, c->sent, request_len)) < request_len) return false;
    size_t n = pull_stamped(c, &c->came);
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
    check_101(c, head, n);
    free(c->head);
    c->head = NULL;
    c->head_len = 0;
    c->sent = c->out_size;  /* nothing to send until a batch begins */
    c->got = batch_in;
    if (c->slow) watch(c, EPOLL_CTL_MOD, EPOLLRDHUP);   /* not what comes, only that it ends */
    return c->open = true;
}
