# The reactor: one poller with all sockets of a server, its descriptor on the running event loop. The loop wakes us once
# per batch of ready sockets, and everything else of the user's runs on that loop as usual.

cdef enum:
    BATCH = 256                 # events taken per wake-up
    LATEST = 0x80000000         # milliseconds; what differs by more is not later but earlier
    KEEP_FOR = 2000             # milliseconds; see took_large_block()
    INPUT_SIZE = 262144         # bytes; the shared receive buffer, and so the most that one socket is read per wake-up


@cython.final
cdef class Reactor:
    """Holds every descriptor, shared buffer and deadline of one server on one loop.

    loop: the running asyncio (or uvloop) event loop; starter: a fastws.tasks.Starter; log: a fastws.logs.Log;
    tick: seconds that two sweeps of the deadlines are apart at least; max_transient: sockets without a claim to stay,
    over which the oldest of them goes; keeps_memory: keep_freed_memory() was called, and has done something.
    """

    def __cinit__(self, loop, starter, log, double tick, Py_ssize_t max_transient, bint keeps_memory):
        self.loop = loop
        self.starter = starter
        self.log = log
        self.tick = <uint32_t>(tick * 1000)
        self.thread = PyThread_get_thread_ident()
        self.max_transient = max_transient
        self.keeps_memory = keeps_memory
        self.settled = Roster()
        self.transient = Roster()
        self.listeners = []
        self.dirty = []
        self.dead = []
        self.poller = -1
        self.input = Buffer(INPUT_SIZE)
        self.cork = <uint8_t *>PyMem_Malloc(CORK_SIZE)
        if self.cork == NULL:
            raise MemoryError
        self._time()
        self.poller = poller_open()
        if self.poller < 0:
            raise OSError(errno, "opening a poller")
        self.sweep_call = self._sweep
        self.turn_call = self._end_turn
        loop.add_reader(self.poller, self._wake)

    def __dealloc__(self):
        if self.cork == NULL:               # where making it failed, poller is 0, which is somebody else's
            return
        PyMem_Free(self.cork)
        if self.poller >= 0:
            close(self.poller)

    def close(self):
        """Drops everything. The loop knows nothing of us after this."""
        cdef Roster roster
        cdef Socket socket
        if self.poller < 0:
            return
        self.stop_listening()
        for roster in (self.transient, self.settled):
            while roster.newest is not None:
                socket = roster.newest
                socket.drop()
                self.unlink(socket)
        if self.timer is not None and not self.loop.is_closed():
            self.timer.cancel()
        self.timer = None
        if not self.loop.is_closed():       # else it has forgotten us, and may not be asked for anything
            self.loop.remove_reader(self.poller)
        close(self.poller)
        self.poller = -1
        self.dead.clear()
        self.starter.close()

    cdef bint is_here(self) except -1:
        """Whether this thread is the loop's: the one in which it runs, which need not be that in which the server was
        started; while it rests, the one in which it ran last."""
        cdef unsigned long here = PyThread_get_thread_ident()
        if self.thread == here and (self.in_turn or self.turn_asked):   # it has not moved since, and asking costs more
            return True
        if running_loop() is self.loop:
            self.thread = here
            return True
        return self.thread == here and not self.loop.is_running()

    # what the loop calls

    def _wake(self):
        self._take()

    cdef int _take(self) except -1:
        """Sees to one batch of events; returns how many they were."""
        cdef poller_event events[BATCH]
        cdef Endpoint endpoint
        cdef int i, count
        self._time()
        self.in_turn = True
        self.batch += 1
        self.thread = PyThread_get_thread_ident()
        try:
            count = max(0, poller_take(self.poller, events, BATCH))     # it fails where the poller is closed
            for i in range(count):
                endpoint = <Endpoint>events[i].data.ptr
                if endpoint.fd < 0:
                    continue
                try:
                    endpoint.on_ready(events[i].events)
                except BaseException as error:
                    self._failed(endpoint, error)
            self._turn()
        finally:
            self._leave_turn()
        return count

    def _end_turn(self):
        self.turn_asked = False
        self._time()
        self.in_turn = True
        self.thread = PyThread_get_thread_ident()
        try:
            self._turn()
        finally:
            self._leave_turn()

    def _sweep(self):
        """The one timer: looks at the deadlines of all sockets, and comes again when the next of them is due."""
        cdef Roster roster
        cdef Socket socket
        cdef Listener listener
        cdef list due = []
        cdef uint32_t left, nearest = NEVER
        self.timer = None
        self._time()
        if self.now - self.sweep_at - self.tick < LATEST and not self.caught_up:
            return self._catch_up()
        self.caught_up = False
        if self.to_give_back:
            nearest = self._give_back()
        for roster in (self.transient, self.settled):
            socket = roster.newest
            while socket is not None:
                left = socket.due_in(self.now)
                if left == 0:
                    due.append(socket)
                else:
                    nearest = min(nearest, left)
                socket = socket.next
        for listener in self.listeners:
            listener.wake_up()
        self.in_turn = True
        self.thread = PyThread_get_thread_ident()
        try:
            for socket in due:
                try:
                    socket.on_due(self.now)
                except BaseException as error:
                    self._failed(socket, error)
                if socket.linked:
                    nearest = min(nearest, socket.due_in(self.now))
                if len(self.dirty) >= BATCH:        # or all they send would be in memory at once
                    self._turn()
        finally:
            self._leave_turn()
        return self.sweep_within(nearest)

    cdef int _catch_up(self) except -1:
        """The loop was held up. What has come meanwhile is not late, so all who have sent something are read, once, and
        deadlines are looked at after that."""
        cdef Py_ssize_t batches = self.socket_count // BATCH + 1
        self.caught_up = True
        self.sweep_within(self.tick)
        while batches > 0 and self._take() == BATCH:
            batches -= 1
        return 0

    cdef int sweep_within(self, uint32_t left) except -1:
        """A deadline comes in so many milliseconds of `now`, which must be fresh; NEVER is none. Sweeps are at least a
        tick apart."""
        cdef uint32_t at
        if left == NEVER or self.poller < 0:
            return 0
        left = max(left, self.tick)
        at = self.now + left
        if self.timer is not None:
            if at - self.sweep_at < LATEST:         # not before the sweep that is planned
                return 0
            self.timer.cancel()
        self.sweep_at = at
        self.timer = self.loop.call_later(left / 1000.0, self.sweep_call)
        return 0

    # memory

    cdef int took_large_block(self) except -1:
        self.took_much = True
        if self.keeps_memory and not self.to_give_back:
            self.to_give_back = True
            return self.sweep_within(KEEP_FOR)
        return 0

    cdef uint32_t _give_back(self) noexcept:
        """Once nobody has needed a large block for a while, there is no use in keeping memory for the next. Returns
        when to look again."""
        if self.took_much:
            self.took_much = False
            return KEEP_FOR
        self.to_give_back = False
        memory_give_back()
        return NEVER

    # turns

    cdef int ask_turn(self) except -1:
        """A socket is marked: see to it at the end of this batch, or in the loop's next iteration."""
        if not self.in_turn and not self.turn_asked and self.poller >= 0:
            self.turn_asked = True
            self.loop.call_soon(self.turn_call)
        return 0

    cdef int _leave_turn(self) except -1:
        self.in_turn = False
        self.dead.clear()
        if self.dirty:
            self.ask_turn()
        return 0

    cdef int _turn(self) except -1:
        cdef list dirty = self.dirty
        cdef Socket socket
        cdef Py_ssize_t done = 0
        if self.transient.count > self.max_transient:
            self._evict()
            dirty = self.dirty
        if not dirty:
            return 0
        self.dirty = []
        try:
            for socket in dirty:
                done += 1
                socket.dirty = False
                try:
                    socket.on_turn()
                except BaseException as error:
                    self._failed(socket, error)
        finally:
            if done < len(dirty):
                self.dirty = dirty[done:] + self.dirty
        return 0

    cdef int _failed(self, Endpoint endpoint, error) except -1:
        """An exception of ours, not the user's or the peer's, costs that one connection. What is no Exception (a
        KeyboardInterrupt, say) costs it too, as the rest of its input is lost, and goes on to the loop."""
        if isinstance(error, Exception):
            self.log.error("internal error; the connection is dropped", exc_info=error)
        if isinstance(endpoint, Socket):
            (<Socket>endpoint).on_end()
        if not isinstance(error, Exception):
            raise error
        return 0

    cdef int _time(self) noexcept:
        cdef timespec time
        clock_gettime(CLOCK_MONOTONIC, &time)
        self.now = <uint32_t>(<uint64_t>time.tv_sec * 1000 + <uint64_t>time.tv_nsec // 1000000)
        return 0

    # who is here

    cdef int link(self, Socket socket) except -1:
        socket.linked = True
        self.accepted += 1
        return self.transient.add(socket)

    cdef int unlink(self, Socket socket) except -1:
        if not socket.linked:
            return 0
        socket.linked = False
        if self.in_turn:
            self.dead.append(socket)
        (self.settled if socket.settled else self.transient).remove(socket)
        if self.on_empty is not None and not self.socket_count:
            self.on_empty()
        return 0

    cdef int settle(self, Socket socket, bint settled) except -1:
        """Gives a socket a claim to stay, or takes it away."""
        if not socket.linked or socket.settled == settled:
            return 0
        (self.settled if socket.settled else self.transient).remove(socket)
        socket.settled = settled
        return (self.settled if settled else self.transient).add(socket)

    cdef int _evict(self) except -1:
        """Not before the turn ends, when no socket is in the middle of anything."""
        cdef Socket oldest
        while self.transient.count > self.max_transient:
            oldest = self.transient.oldest
            try:
                oldest.on_evicted()
            except BaseException as error:
                self._failed(oldest, error)
            self.settle(oldest, True)       # where it is still there, it has no descriptor any more
        return 0

    @property
    def socket_count(self):
        return self.settled.count + self.transient.count

    cdef int listen(self, Listener listener) except -1:
        listener.interest = POLL_READ
        if poller_add(self.poller, listener.fd, POLL_READ, <void *>listener) < 0:
            raise OSError(errno, "polling a listening socket")
        self.listeners.append(listener)
        return 0

    def stop_listening(self):
        """Closes the listening sockets; connections live on."""
        cdef Listener listener
        for listener in self.listeners:
            listener.shut_down()
            if self.in_turn:
                self.dead.append(listener)
        self.listeners = []
