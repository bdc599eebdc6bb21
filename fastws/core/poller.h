/* The readiness poller: epoll. A kqueue for macOS and the BSDs would be a second body for these five functions.
 *
 * Level-triggered. Each descriptor carries one pointer, which comes back with its events. Functions return -1 with
 * errno set where the system call failed. A descriptor that is closed leaves its poller by itself. */
#ifndef FASTWS_POLLER_H
#define FASTWS_POLLER_H

#include <stdint.h>
#include <sys/epoll.h>

/* What to wait for, and what came. HANGUP (both directions are shut, or the peer reset) and ERROR come unasked. */
enum {
    POLL_READ = EPOLLIN,
    POLL_WRITE = EPOLLOUT,
    POLL_PEER_SHUT = EPOLLRDHUP, /* the peer will send no more */
    POLL_HANGUP = EPOLLHUP,
    POLL_ERROR = EPOLLERR,
};

typedef struct epoll_event poller_event;

static inline int
poller_open(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

static inline int
poller_add(int poller, int fd, uint32_t interest, void *pointer)
{
    poller_event event = {.events = interest, .data.ptr = pointer};
    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static inline int
poller_change(int poller, int fd, uint32_t interest, void *pointer)
{
    poller_event event = {.events = interest, .data.ptr = pointer};
    return epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
}

static inline int
poller_remove(int poller, int fd)
{
    return epoll_ctl(poller, EPOLL_CTL_DEL, fd, 0);
}

/* Never blocks: the loop that holds the poller's own descriptor does the waiting. */
static inline int
poller_take(int poller, poller_event *events, int capacity)
{
    return epoll_wait(poller, events, capacity, 0);
}

#endif
