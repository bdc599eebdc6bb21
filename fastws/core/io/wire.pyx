# The wire is how a socket's bytes come and go: its descriptor (Socket.wire is None), or a Wire. Nothing else in the
# core reads, writes or shuts the descriptor of a connection, or asks the system what became of its bytes. Pushed is one;
# TLS will be another.
#
# Every call says MSG_DONTWAIT: O_NONBLOCK belongs to what all processes with a copy of the descriptor share, and one of
# them may take it away.


cdef inline ssize_t wire_read(Socket socket, uint8_t *to, size_t n) noexcept:
    """As recv(2): how many bytes were read, 0 at the end, -1 with errno set."""
    return recv(socket.fd, to, n, MSG_DONTWAIT) if socket.wire is None else socket.wire.read(socket, to, n)


cdef inline ssize_t wire_write(Socket socket, iovec *pieces, int count) noexcept:
    """As sendmsg(2): how many bytes were taken, -1 with errno set."""
    cdef msghdr message
    if socket.wire is not None:
        return socket.wire.write(socket, pieces, count)
    if count == 1:                          # costs the kernel less than the same through sendmsg()
        return send(socket.fd, pieces.iov_base, pieces.iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
    memset(&message, 0, sizeof(message))
    message.msg_iov, message.msg_iovlen = pieces, <size_t>count
    return sendmsg(socket.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)


cdef int wire_shut(Socket socket) noexcept:
    """Nothing more will be written; what was arrives."""
    return shutdown(socket.fd, SHUT_WR) if socket.wire is None else socket.wire.shut(socket)


cdef int wire_break(Socket socket) noexcept:
    """Nothing more goes either way. The poller or the transport reports the end."""
    return shutdown(socket.fd, SHUT_RDWR) if socket.wire is None else socket.wire.break_off(socket)


cdef int wire_close(Socket socket) noexcept:
    """Closes the socket at once; what was written arrives if it can. The peer sees the end although the child of a fork
    may hold a copy of the descriptor: so it is shut before, unless it is at its end in both directions."""
    if socket.wire is not None:
        return socket.wire.close(socket)
    socket.reactor.unwatch(socket)
    if not (socket.shut and socket.pauses & PAUSE_AT_END):
        shutdown(socket.fd, SHUT_RDWR)
    return close(socket.fd)


cdef bint wire_watch(Socket socket, uint32_t interest) noexcept:
    """Reports these events to the socket from now on. False where that cannot be."""
    return Endpoint.watch_for(socket, interest) if socket.wire is None else socket.wire.watch(socket, interest)


cdef size_t wire_on_its_way(Socket socket) noexcept:
    """Bytes taken by the kernel that the peer's has not acknowledged; 0 where it does not tell."""
    cdef int n = 0
    if ioctl(socket.fd, SIOCOUTQ, &n) < 0:
        return 0
    return <size_t>n


cdef bint wire_is_unanswered(Socket socket, uint32_t milliseconds) noexcept:
    """Whether our kernel has asked ASKED times, by sending something again or by a probe, and the peer's has
    acknowledged nothing for so long. Two minutes may pass between two probes of a closed window, and one be lost.
    The kernel's own TCP_USER_TIMEOUT would also end a peer that does acknowledge, once its window has been smaller
    than what is to be sent for that long, however steadily its program reads (Linux, tcp_probe_timer())."""
    cdef tcp_info info
    cdef socklen_t size = sizeof(info)
    if getsockopt(socket.fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0:
        return False
    return max(info.tcpi_retransmits, info.tcpi_probes) >= ASKED and info.tcpi_last_ack_recv >= milliseconds


cdef ssize_t fails_with(int error) noexcept:
    global errno                            # C's: an assignment would make a variable here
    errno = error
    return -1


cdef size_t wire_unread(Socket socket) noexcept:
    """Bytes that a Wire was given and that are still to be read."""
    return 0 if socket.wire is None else socket.wire.unread_size()


cdef class Wire:
    cdef ssize_t read(self, Socket socket, uint8_t *to, size_t n) noexcept:
        return fails_with(EIO)

    cdef ssize_t write(self, Socket socket, const iovec *pieces, int count) noexcept:
        return fails_with(EIO)

    cdef int shut(self, Socket socket) noexcept:
        return 0

    cdef int break_off(self, Socket socket) noexcept:
        return 0

    cdef int close(self, Socket socket) noexcept:
        return 0

    cdef bint watch(self, Socket socket, uint32_t interest) noexcept:
        return True

    cdef size_t unread_size(self) noexcept:
        return 0
