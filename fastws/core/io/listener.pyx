# A listening socket: accepts, and has its maker build a Socket for each peer.

cdef enum:
    MAX_BURST = 256             # connections accepted per wake-up at most, so that those who are here keep their turn
    SHORTAGE_OVER = 60000       # milliseconds without a rest, after which the next one is another shortage


@cython.final
cdef class Listener(Endpoint):
    def __cinit__(self, Crowd crowd not None, sock):
        self.sock = sock
        self.fd = sock.fileno()
        self.burst = 1
        self.unprepared = _queued(self.fd)
        # Half of max_transient, so that no new socket is evicted before its first bytes are read.
        self.max_burst = max(1, min(MAX_BURST, crowd.max_transient // 2))

    cdef int on_ready(self, uint32_t events) except -1:
        return self._accept()

    cdef int _accept(self) except -1:
        """The burst is one, and doubles from one batch of events to the next as long as there are more to accept: a
        lone connection costs one accept4, not a second that says EAGAIN, and a storm is taken in large bursts."""
        cdef Socket socket
        cdef Address address
        cdef int fd, error, count = 0
        if self.fd < 0:
            return 0
        self.burst = min(self.burst * 2, self.max_burst) if self.batch + 1 == self.reactor.batch else 1
        self.batch = self.reactor.batch
        while count < self.burst:
            fd = address_accept(self.fd, &address)
            if fd < 0:
                if errno == EAGAIN:
                    return 0
                if errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
                    return self._rest(errno)
                count += 1          # this peer is gone already (accept(2), "Error handling"): the next
                continue
            count += 1
            socket = None
            try:
                socket = self.make(self.crowd)
            except MemoryError:
                pass
            finally:
                if socket is None:
                    close(fd)
            if socket is None:
                return self._rest(ENOMEM)
            if self.unprepared:
                self.unprepared -= 1
                self._prepare(fd)
            socket.address = address
            error = self.crowd.admit(socket, fd)
            if error:
                close(fd)
                return self._rest(error)
        return 0

    cdef int _prepare(self, int fd) noexcept:
        """Gives a connection the options that later ones inherit. It came before the listening socket had them
        (fastws.serving.sockets): a service manager may start the server for its first connection."""
        cdef int[4] of_tcp = [TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT]
        cdef int name
        for name in of_tcp:
            _copy_option(self.fd, fd, IPPROTO_TCP, name)
        _copy_option(self.fd, fd, SOL_SOCKET, SO_REUSEADDR)
        _copy_option(self.fd, fd, SOL_SOCKET, SO_KEEPALIVE)
        return 0

    cdef int _rest(self, int error) except -1:
        """Descriptors or memory have run out: accepting stops for a tick, connections live on. A shortage is logged
        once. It lasts while one rest follows on another, also where some get in between because others leave."""
        cdef bint is_new = not self.logged or self.reactor.now - self.rested_at > SHORTAGE_OVER
        if self.resting:
            return 0
        self.watch_for(0)
        self.resting = self.logged = True
        self.rested_at = self.reactor.now
        self.reactor.sweep_within(self.reactor.tick)
        if is_new:
            form = "accepting pauses: %s"
            if error in (EMFILE, ENFILE):
                form = "accepting pauses: %s; raise the limit of open files"
            self.crowd.log_later("error", (form, strerror(error).decode()), None)
        return 0

    cdef int wake_up(self) except -1:
        if self.resting:
            self.resting = not self.watch_for(POLL_READ)
        if self.resting:
            self.reactor.sweep_within(self.reactor.tick)
        return 0

    cdef int shut_down(self) except -1:
        if self.fd >= 0:
            self.reactor.unwatch(self)
            self.fd = -1
            self.sock.close()
        return 0


cdef uint32_t _queued(int listening) noexcept:
    """How many connections wait to be accepted; 0 where it is no TCP."""
    cdef tcp_info info
    cdef socklen_t size = sizeof(info)
    return info.tcpi_unacked if getsockopt(listening, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 else 0


cdef int _copy_option(int source, int target, int level, int name) noexcept:
    cdef int value
    cdef socklen_t size = sizeof(value)
    return getsockopt(source, level, name, &value, &size) or setsockopt(target, level, name, &value, size)
