/* System calls that fail when a test says so: preloaded, and told through ctypes. One kind of call at a time, and only
 * while `active`, which is while the loop turns: the clients are in the same process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static char name[32];
static int poller = -1; /* the calls of other pollers, the loop's own say, are not meant */
static long first, last, seen;
static int failure; /* errno; 0 is a write of one byte */
static int active;

void
shortage_plan(const char *call, long from, long count, int with)
{
    strncpy(name, call, sizeof(name) - 1);
    first = from;
    last = from + count;
    seen = 0;
    failure = with;
}

void
shortage_active(int fd)
{
    active = fd >= 0;
    poller = fd;
}

long
shortage_seen(void)
{
    return seen;
}

static int
fails(const char *call)
{
    if (!active || strcmp(call, name) != 0)
        return 0;
    seen++;
    if (seen <= first || seen > last)
        return 0;
    errno = failure;
    return 1;
}

#define REAL(call) \
    static __typeof__(&call) real; \
    if (!real) \
        real = (__typeof__(&call))dlsym(RTLD_NEXT, #call)

ssize_t
send(int fd, const void *data, size_t n, int flags)
{
    REAL(send);
    if (fails("send")) {
        if (failure)
            return -1;
        if (n > 1)
            n = 1;
    }
    return real(fd, data, n, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    if (fails("send")) {
        if (failure)
            return -1;
        for (size_t i = 0; i < message->msg_iovlen; i++)
            if (message->msg_iov[i].iov_len)
                return send(fd, message->msg_iov[i].iov_base, 1, flags);
    }
    return real(fd, message, flags);
}

ssize_t
recv(int fd, void *data, size_t n, int flags)
{
    REAL(recv);
    if (fails("recv")) {
        if (failure)
            return -1;
        if (n > 1)
            n = 1;
    }
    return real(fd, data, n, flags);
}

int
accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    REAL(accept4);
    return fails("accept4") ? -1 : real(fd, address, size, flags);
}

int
epoll_ctl(int fd, int operation, int other, struct epoll_event *event)
{
    REAL(epoll_ctl);
    if (fd == poller && operation == EPOLL_CTL_ADD && fails("epoll add"))
        return -1;
    if (fd == poller && operation == EPOLL_CTL_MOD && fails("epoll change"))
        return -1;
    return real(fd, operation, other, event);
}

int
epoll_wait(int fd, struct epoll_event *events, int capacity, int timeout)
{
    REAL(epoll_wait);
    return fd == poller && fails("epoll_wait") ? -1 : real(fd, events, capacity, timeout);
}

int
timerfd_settime(int fd, int flags, const struct itimerspec *fresh, struct itimerspec *old)
{
    REAL(timerfd_settime);
    return fails("timerfd_settime") ? -1 : real(fd, flags, fresh, old);
}

int
shutdown(int fd, int how)
{
    REAL(shutdown);
    return fails("shutdown") ? -1 : real(fd, how);
}
