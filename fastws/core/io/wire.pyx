# The wire is how a socket's bytes come and go: its descriptor (Socket.wire is None), or a Wire. Nothing else in the core
# reads, writes or shuts the descriptor of a connection, or asks the system about it. Pushed is a Wire that is given its
# bytes by somebody's transport, and writes to that. TLS will be another.

cdef enum:
    NO_DESCRIPTOR = 0x7FFFFFFF  # the `fd` of a socket that has none and yet is open: no system call knows it


cdef inline ssize_t wire_read(Socket socket, uint8_t *to, size_t n) noexcept:
    """As recv(2): how many bytes were read, 0 at the end, -1 with errno set."""
    return recv(socket.fd, to, n, 0) if socket.wire is None else socket.wire.read(socket, to, n)


cdef inline ssize_t wire_write(Socket socket, iovec *pieces, int count) noexcept:
    """As sendmsg(2): how many bytes were taken, -1 with errno set."""
    cdef msghdr message
    if socket.wire is not None:
        return socket.wire.write(socket, pieces, count)
    if count == 1:                          # costs the kernel less than the same through sendmsg()
        return send(socket.fd, pieces.iov_base, pieces.iov_len, MSG_NOSIGNAL)
    memset(&message, 0, sizeof(message))
    message.msg_iov, message.msg_iovlen = pieces, <size_t>count
    return sendmsg(socket.fd, &message, MSG_NOSIGNAL)


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
    """Has the socket told of these events from now on. False where that cannot be."""
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


cdef ssize_t _fails_with(int error) noexcept:
    global errno                            # C's: an assignment would make a variable here
    errno = error
    return -1


cdef class Wire:
    cdef ssize_t read(self, Socket socket, uint8_t *to, size_t n) noexcept:
        return _fails_with(EIO)

    cdef ssize_t write(self, Socket socket, const iovec *pieces, int count) noexcept:
        return _fails_with(EIO)

    cdef int shut(self, Socket socket) noexcept:
        return 0

    cdef int break_off(self, Socket socket) noexcept:
        return 0

    cdef int close(self, Socket socket) noexcept:
        return 0

    cdef bint watch(self, Socket socket, uint32_t interest) noexcept:
        return True


@cython.final
cdef class Pushed(Wire):
    """A socket whose bytes somebody else's asyncio.Transport carries. The transport, or the protocol that it has, calls
    data_received() and the other methods of asyncio.Protocol."""

    def __cinit__(self, Socket socket not None, transport):
        self.socket, self.transport = socket, transport
        self.given = b""
        self.waiting = deque()

    cdef int begin(self) except -1:
        """The socket is served from now on."""
        self.socket.wire = self
        self.socket.fd = NO_DESCRIPTOR
        self.socket.interest = POLL_READ
        return self.socket.crowd.link(self.socket)

    # what the transport calls

    def data_received(self, data):
        if self.socket is not None:
            self.waiting.append(bytes(data))
            self._tell()

    def eof_received(self):
        """Keeps the transport open: there may be answers still to be sent."""
        self.ended = True
        self._tell()
        return True

    def connection_lost(self, error):
        self.ended = self.lost = True
        self._tell()

    def pause_writing(self):
        self.full = True

    def resume_writing(self):
        self.full = False
        self._tell()

    cdef int _tell(self) except -1:
        return self.socket.reactor.tell(self) if self.ready() else 0

    cdef uint32_t ready(self) noexcept:
        """What the poller would report of it now: again and again, until the socket has seen to it."""
        cdef uint32_t events = 0
        if self.socket is None or self.socket.fd < 0:
            return 0
        if self._has_more():
            events |= POLL_READ
        if not self.full:
            events |= POLL_WRITE
        if self.ended:
            events |= POLL_PEER_SHUT
        return events & self.socket.interest | (POLL_HANGUP if self.lost else 0)

    cdef bint _has_more(self) noexcept:
        return self.at < <size_t>len(self.given) or len(self.waiting) > 0 or self.ended

    # what the socket asks for; the transport's code is foreign, so none of it may raise into the core

    cdef ssize_t read(self, Socket socket, uint8_t *to, size_t n) noexcept:
        cdef size_t size, done = 0
        while done < n:
            size = min(n - done, <size_t>len(self.given) - self.at)
            memcpy(to + done, PyBytes_AS_STRING(self.given) + self.at, size)
            self.at += size
            done += size
            if self.at < <size_t>len(self.given):
                break
            if not self.waiting:
                self.given, self.at = b"", 0
                break
            self.given, self.at = self.waiting.popleft(), 0
        if done or self.ended:
            return <ssize_t>done
        return _fails_with(EAGAIN)

    cdef ssize_t write(self, Socket socket, const iovec *pieces, int count) noexcept:
        cdef list parts
        cdef size_t n = 0
        cdef int i, error = 0
        if self.lost:
            return _fails_with(EPIPE)
        if self.full:
            return _fails_with(EAGAIN)
        parts = []
        try:
            for i in range(count):
                parts.append((<const char *>pieces[i].iov_base)[:pieces[i].iov_len])
                n += pieces[i].iov_len
            self.transport.write(b"".join(parts))
        except MemoryError:
            error = ENOMEM
        except BaseException:
            error = EPIPE
        return _fails_with(error) if error else <ssize_t>n

    cdef int shut(self, Socket socket) noexcept:
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()
        except BaseException:
            pass                            # it is the transport's to report an end
        return 0

    cdef int break_off(self, Socket socket) noexcept:
        try:
            self.transport.abort()
        except BaseException:
            pass
        return 0

    cdef int close(self, Socket socket) noexcept:
        self.socket = None
        try:
            self.transport.close()
        except BaseException:
            pass
        return 0

    cdef bint watch(self, Socket socket, uint32_t interest) noexcept:
        cdef bint done = False
        try:
            if (interest ^ socket.interest) & POLL_READ and not self.lost:
                if interest & POLL_READ:
                    self.transport.resume_reading()
                else:
                    self.transport.pause_reading()
            socket.interest = interest
            if self.ready():
                socket.reactor.tell_later(self)
            done = True
        except BaseException:
            pass
        return done
