# What the I/O half uses of C, CPython and the library.

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.errno cimport EAGAIN, EINTR, EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPIPE, errno
from libc.stdlib cimport getenv
from libc.string cimport memcmp, memcpy, memmove, memset, strerror
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

from asyncio import _get_running_loop as running_loop
from collections import deque
from contextvars import copy_context
from socket import inet_ntop


cdef extern from "Python.h":
    bytes bytes_of_size "PyBytes_FromStringAndSize" (const char *, Py_ssize_t)
    int list_append "PyList_Append" (list, object) noexcept
    void PyErr_Clear()


cdef extern from "<sys/socket.h>" nogil:
    cdef struct sockaddr:
        pass
    cdef struct sockaddr_storage:
        uint16_t ss_family
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    enum:
        AF_INET, AF_INET6, AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_RDWR, SHUT_WR, SOCK_NONBLOCK, SOCK_CLOEXEC
        SOL_SOCKET, SO_KEEPALIVE, SO_REUSEADDR
    int accept4(int, sockaddr *, socklen_t *, int)
    int getsockname(int, sockaddr *, socklen_t *)
    int getsockopt(int, int, int, void *, socklen_t *)
    int setsockopt(int, int, int, const void *, socklen_t)
    int shutdown(int, int)
    ssize_t recv(int, void *, size_t, int)
    ssize_t send(int, const void *, size_t, int)
    ssize_t sendmsg(int, const msghdr *, int)


cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC_COARSE


cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ


cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int, unsigned long, int *)


cdef extern from "<netinet/tcp.h>" nogil:
    cdef struct tcp_info:
        uint8_t tcpi_retransmits, tcpi_probes
        uint32_t tcpi_unacked, tcpi_last_ack_recv
    enum:
        TCP_INFO, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY


cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP
    cdef struct in_addr:
        pass
    cdef struct in6_addr:
        pass
    cdef struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        uint16_t sin6_port
        in6_addr sin6_addr
    uint16_t ntohs(uint16_t)
