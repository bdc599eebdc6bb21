/* The readiness poller: epoll, and one timer in it. A kqueue for macOS and the BSDs would be a second body for these
 * functions.
 *
 * Level-triggered. Each descriptor carries one 64-bit key, which comes back with its events. Functions return -1 with
 * errno set where the system call failed. A descriptor must be removed before it is closed: while another process holds
 * a copy of it (a fork's child does), closing removes nothing, and its events would come for ever (epoll(7), Q6). */
#ifndef FASTWS_POLLER_H
#define FASTWS_POLLER_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* What to wait for, and what came. HANGUP (both directions are shut, or the peer reset) and ERROR come unasked. */
enum {
    POLL_READ = EPOLLIN,
    POLL_WRITE = EPOLLOUT,
    POLL_PEER_SHUT = EPOLLRDHUP, /* the peer will send no more */
    POLL_HANGUP = EPOLLHUP,
    POLL_ERROR = EPOLLERR,
};

typedef struct epoll_event poller_event;

static inline uint64_t
poller_key(const poller_event *event)
{
    return event->data.u64;
}

static inline int
poller_open(void)
{
    return epoll_create1(EPOLL_CLOEXEC);
}

static inline int
poller_add(int poller, int fd, uint32_t interest, uint64_t key)
{
    poller_event event = {.events = interest, .data.u64 = key};
    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static inline int
poller_change(int poller, int fd, uint32_t interest, uint64_t key)
{
    poller_event event = {.events = interest, .data.u64 = key};
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

/* For the child of a fork, which shares the poller with its parent: the number then stands for a poller of the child's
 * own, with nothing in it, so that a loop that holds the number finds it valid and silent. Where there is no descriptor
 * for that, the number is closed. */
static inline void
poller_replace(int poller)
{
    int fresh = epoll_create1(EPOLL_CLOEXEC);
    if (fresh < 0) {
        close(poller);
        return;
    }
    dup3(fresh, poller, O_CLOEXEC);
    close(fresh);
}

/* A timer whose events carry the key. It is readable from when it rings until it is set again. */
static inline int
poller_timer_open(int poller, uint64_t key)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer >= 0 && poller_add(poller, timer, POLL_READ, key) < 0) {
        close(timer);
        return -1;
    }
    return timer;
}

/* Rings once, in so many milliseconds, or at once for 0. */
static inline int
poller_timer_set(int timer, uint32_t milliseconds)
{
    struct itimerspec at = {
        .it_value = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds ? milliseconds % 1000 * 1000000L : 1},
    };
    return timerfd_settime(timer, 0, &at, 0);
}

static inline void
poller_timer_stop(int timer)
{
    struct itimerspec never = {{0, 0}, {0, 0}};
    timerfd_settime(timer, 0, &never, 0);
}

#endif
