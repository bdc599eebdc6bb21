# The reactor: one poller with all sockets of a loop's servers, its descriptor on that event loop. The loop wakes us
# once per batch of ready sockets, and everything else of the user's runs on that loop as usual.

cdef enum:
    BATCH = 256                 # events taken per wake-up
    LATEST = 0x80000000         # milliseconds; what differs by more is not later but earlier
    KEEP_FOR = 2000             # milliseconds; see took_large_block()
    INPUT_SIZE = 262144         # bytes; the shared receive buffer, and so the most that one socket is read per wake-up
    MIN_SHARE = 4               # milliseconds of a turn, at least, for sockets that go on with held input
    MAX_SHARE = 16              # at most: they get as long as the turn has taken before, or a busy server starves them
    LONGEST_TICK = 1000         # milliseconds; no deadline is kept later than that
    WATCHED_AT_FIRST = 64       # descriptors that the table begins with room for

cdef uint64_t TIMER_KEY = 0     # no endpoint's: their generations begin with 1


def keep_freed_memory():
    """Has the C library keep some freed memory for large blocks to come, for a process that does nothing but serve.
    Does nothing where the environment says how to allocate."""
    if not (getenv("MALLOC_TRIM_THRESHOLD_") or getenv("MALLOC_MMAP_THRESHOLD_") or getenv("GLIBC_TUNABLES")):
        memory_keep()


@cython.final
cdef class ReaderContext:
    """In place of the contextvars.Context of the reader's handle: inside itself it uses a copy."""

    def run(self, callback):
        cdef bint outer = self.entered
        cdef object context = copy_context() if outer else self.context
        self.entered = True
        try:
            return context.run(callback)
        finally:
            self.entered = outer


@cython.final
cdef class Reactor:
    """Holds every descriptor, shared buffer and deadline of a loop, for any number of servers.

    loop: the running asyncio (or uvloop) event loop.
    """

    def __cinit__(self, loop):
        self.loop = loop
        self.may_nest = type(loop).__module__ != "uvloop"       # uvloop.Loop refuses to; a subclass might not
        self.tick = LONGEST_TICK
        self.thread = PyThread_get_thread_ident()
        self.crowds = []
        self.marked = []
        self.put_off = []
        self.lines = []
        self.lingering = set()
        self.poller = self.timer = -1
        self.input = Buffer(INPUT_SIZE)
        self.cork = <uint8_t *>PyMem_Malloc(CORK_SIZE)
        if self.cork == NULL:
            raise MemoryError
        self.read_clock()
        self.poller = poller_open()
        if self.poller < 0:
            raise OSError(errno, f"cannot open a poller: {strerror(errno).decode()}")
        self.timer = poller_timer_open(self.poller, TIMER_KEY)
        if self.timer < 0:
            raise OSError(errno, f"cannot open a timer: {strerror(errno).decode()}")
        self.turn_call = self._end_turn
        loop.add_reader(self.poller, self._wake)
        self._let_nest()

    def __dealloc__(self):
        PyMem_Free(self.watched)
        if self.cork == NULL:               # The constructor failed; descriptor 0 is not ours.
            return
        PyMem_Free(self.cork)
        self._close_poller()

    cdef int _close_poller(self) noexcept:
        if self.timer >= 0:
            close(self.timer)
        if self.poller >= 0:
            close(self.poller)
        self.timer = self.poller = -1
        return 0

    cdef int add(self, Crowd crowd, log, double tick, Py_ssize_t max_transient) except -1:
        """Serves a crowd. log: a fastws.serving.logs.Log; tick: at least this many seconds lie between two sweeps;
        max_transient: see Crowd."""
        if crowd.reactor is not None or self.poller < 0:
            raise RuntimeError("a crowd has one reactor, and that is open")
        self.crowds.append(crowd)
        crowd.reactor, crowd.log, crowd.max_transient = self, log, max_transient
        crowd.tick = <uint32_t>(tick * 1000)
        self.tick = min(self.tick, crowd.tick)
        return 0

    cdef int remove(self, Crowd crowd) except -1:
        """Drops all that it has. Its lines are written. With the last crowd the reactor closes. Where that fails for
        lack of memory, all of this may be done again."""
        cdef Crowd other
        cdef Pushed wire
        if crowd in self.crowds:
            crowd.stop_listening()
            crowd.drop_all()
            self.crowds.remove(crowd)       # before foreign code, which may run the loop, and so come here again
            self.tick = LONGEST_TICK
            for other in self.crowds:
                self.tick = min(self.tick, other.tick)
        try:
            self._write_lines()
            if not self.loop.is_closed():
                if not self.crowds:
                    for wire in self.lingering:
                        wire.abort_due = True
                        self.list_wire(wire)
                self._see_to_wires()
        finally:
            if not self.crowds:
                self.marked, self.put_off = [], []  # there are no more turns
                self._close()
                while self.wires is not None:       # one by one: freeing a long chain recurses
                    wire = self.wires
                    self.wires, wire.next = wire.next, None
        return 0

    cdef int _close(self) except -1:
        """The loop knows nothing of us after this."""
        if self.poller < 0:
            return 0
        try:
            if not self.loop.is_closed():       # else it has forgotten us, and may not be asked for anything
                self.loop.remove_reader(self.poller)
        except MemoryError:             # the loop still knows the number, which another descriptor may have next
            raise
        except BaseException:
            self._close_poller()
            raise
        return self._close_poller()

    @property
    def is_open(self):
        return self.poller >= 0

    cdef int leave_to_parent(self) except -1:
        """For the child of a fork: the parent goes on with the same sockets and the same poller, so the child closes
        its copies and touches neither. It frees nothing of the application's: a destructor may undo what is the
        parent's, delete a file say."""
        cdef Crowd crowd
        if self.poller < 0:
            return 0
        for crowd in self.crowds:
            crowd.leave_to_parent()
        if self.watched != NULL:
            memset(self.watched, 0, self.watched_room * sizeof(PyObject *))
        close(self.timer)
        poller_replace(self.poller)
        self.timer = self.poller = -1
        return 0

    cdef bint is_here(self) except -1:
        """Whether the calling thread owns the reactor: the one that runs the loop, or, while the loop rests, the one
        that ran it last. A loop may be started in one thread and run in another."""
        cdef unsigned long here = PyThread_get_thread_ident()
        if self.thread == here and (self.in_turn or self.turn_asked):   # it has not moved since, and asking costs more
            return True
        if running_loop() is self.loop:
            self.thread = here
            return True
        return self.thread == here and not self.loop.is_running()

    cdef int _let_nest(self) except -1:
        """asyncio runs all that a reader brings about in one context, which cannot be entered again while a callback
        in it runs the loop. uvloop has no such handles, and refuses to run inside itself."""
        cdef ReaderContext context = ReaderContext()
        try:
            handle = self.loop._selector.get_key(self.poller).data[0]
            context.context = handle._context
            handle._context = context
        except (AttributeError, KeyError):
            pass
        return 0

    # what the loop calls

    def _wake(self):
        self.forget_turn()
        self._run(True)

    def _end_turn(self, asked):
        if asked == self.asked:
            self.forget_turn()
            self._run(False)

    cdef int _run(self, bint take) except -1:
        """One turn: takes a batch of events if `take`, sweeps if the timer rang, and gives marked sockets their turn.

        A callback may run the loop itself (nest_asyncio, a notebook, Qt), and so another turn inside this one. What the
        outer turn has in the shared buffers is sent or left alone before the inner one uses them. From then on the
        outer socket is not corked: what tasks send to it leaves while its callback still runs.
        """
        cdef Socket outer = self.fed
        cdef Buffer outer_input = self.input
        cdef bint outer_turn = self.in_turn
        cdef uint32_t outer_turn_at = self.turn_at
        if self.poller < 0:
            return 0
        self.thread = PyThread_get_thread_ident()
        self.read_clock()
        self.turn_at = self.now
        self.in_turn = True
        try:
            if outer is not None:
                self.input = Buffer(INPUT_SIZE)
                outer.uncork()
                self.fed = self.corked_for = None
            if self.wires is not None or self.wires_now is not None:
                self._see_to_wires()
            if take:
                self._take()
                if self.rang:
                    self._sweep()
            self._turn(False)
        finally:
            self.in_turn, self.turn_at = outer_turn, outer_turn_at
            if outer is not None:
                self.fed, self.input = outer, outer_input
            # Every reason for which ask_turn() is called must be here: within a turn, ask_turn() may have done nothing.
            if self.marked or self.put_off or self.overlooked or self.lines:
                self.ask_turn()
            elif self.wires is not None or self.wires_now is not None:
                self.ask_turn()
            elif self._empty_crowd() is not None:
                self.ask_turn()
        return 0

    cdef int _take(self) except -1:
        """Sees to one batch of events; returns how many they were."""
        cdef poller_event events[BATCH]
        cdef Endpoint endpoint
        cdef uint64_t key
        cdef int i, count = max(0, poller_take(self.poller, events, BATCH))     # it fails where the poller is closed
        self.batch += 1
        for i in range(count):
            key = poller_key(&events[i])
            if key == TIMER_KEY:
                self.rang = True
                continue
            endpoint = self._watched_as(key)
            if endpoint is None:                # it has gone since, perhaps in this batch
                continue
            try:
                endpoint.on_ready(events[i].events)
            except BaseException as error:
                self.failed(endpoint, error)
        return count

    cdef int tell(self, Pushed wire) except -1:
        """The wire has something for its socket, of which no poller knows. It comes in the loop's next iteration."""
        self._list(wire)
        return self.ask_turn()

    cdef int list_wire(self, Pushed wire) noexcept:
        """The wire is seen to when a turn begins or ends. If the caller asks for none, the timer brings one
        within a tick."""
        self._list(wire)
        if not self.in_turn and not self.turn_asked:
            self.sweep_within(0)
        return 0

    cdef int _list(self, Pushed wire) noexcept:
        if not wire.listed and self.poller >= 0:
            wire.listed = True
            wire.next, self.wires = self.wires, wire
        return 0

    cdef int _see_to_wires(self) except -1:
        """What comes meanwhile is for the next time. A turn inside this one, or after one that raised, goes on with
        what this one has left."""
        cdef Pushed wire
        if self.wires_now is None:
            self.wires_now, self.wires = self.wires, None
        while self.wires_now is not None:
            wire = self.wires_now
            self.wires_now, wire.next = wire.next, None
            wire.listed = False
            if self.wires_now is not None and self.may_nest:
                self.ask_turn()             # for the loop that a callback may run
            self._see_to_wire(wire)
        return 0

    cdef int _see_to_wire(self, Pushed wire) except -1:
        cdef Socket socket = wire.socket    # its end may be among the events
        cdef uint32_t events = wire.ready()
        try:
            if events:
                socket.on_ready(events)
            if wire.is_due():
                if wire.close_due:
                    self.lingering.add(wire)
                    self.sweep_within(LINGER)
                wire.see_to_transport()
            if wire.ready() or wire.is_due():
                self.list_wire(wire)
        except BaseException as error:
            self.list_wire(wire)
            if socket is not None:
                self.failed(socket, error)
            elif not isinstance(error, Exception):
                raise
            else:
                wire.crowd.log_later("error", ("a transport does not close; it is aborted",), error)
        return 0

    cdef int _see_to_lingering(self) except -1:
        """A transport has LINGER for its last bytes and its end."""
        cdef Pushed wire
        for wire in list(self.lingering):
            if self.now - wire.closed_at >= LINGER:
                self.lingering.discard(wire)
                wire.abort_due = True
                self.list_wire(wire)
        return self.sweep_within(LINGER) if self.lingering else 0

    cdef int _sweep(self) except -1:
        """The timer rang: looks at the deadlines of all sockets, and sets it for the next that is due."""
        cdef Crowd crowd
        cdef Roster roster
        cdef Socket socket
        cdef Listener listener
        cdef list due = []
        cdef Py_ssize_t count = 0
        cdef uint32_t one, left, nearest = self.tick
        self.rang = self.planned = False
        if self.now - self.sweep_at - self.tick < LATEST and not self.caught_up:
            return self._catch_up()
        self.caught_up = False
        try:
            left = self._give_back() if self.to_give_back else NEVER
            for crowd in self.crowds:
                for roster in (crowd.transient, crowd.settled):
                    socket = roster.newest
                    while socket is not None:
                        if socket.resting:
                            socket.wake_up()
                        one = socket.due_in(self.now)
                        if one == 0:
                            due.append(socket)
                        else:
                            left = min(left, one)
                        socket = socket.next
            for crowd in self.crowds:
                for listener in crowd.listeners:
                    listener.wake_up()
            if self.lingering:
                self._see_to_lingering()
            for socket in due:
                # What was done for those before it may have changed its state.
                if socket.linked and socket.due_in(self.now) == 0:
                    try:
                        socket.on_due(self.now)
                    except BaseException as error:
                        self.failed(socket, error)
                if socket.linked:
                    left = min(left, socket.due_in(self.now))
                count += 1
                if count % BATCH == 0:              # or all they send would be in memory at once
                    self._turn(True)
            nearest = left
        finally:
            self.sweep_within(nearest)
            if not self.planned and self.poller >= 0:
                poller_timer_stop(self.timer)
        return 0

    cdef int _catch_up(self) except -1:
        """The loop was held up, so bytes that came in time are still unread. Reads each socket once and puts the sweep
        off by a tick."""
        cdef Crowd crowd
        cdef Py_ssize_t batches = 1
        for crowd in self.crowds:
            batches += crowd.socket_count // BATCH
        self.caught_up = True
        self.sweep_within(self.tick)
        while batches > 0 and self._take() == BATCH:
            self._turn(True)
            batches -= 1
        return 0

    cdef int sweep_within(self, uint32_t left) noexcept:
        """A deadline comes in so many milliseconds of `now`, which must be fresh; NEVER is none. Sweeps are at least a
        tick apart."""
        cdef uint32_t at
        if left == NEVER or self.poller < 0 or self.clock_held:
            return 0
        left = max(left, self.tick)
        at = self.now + left
        if self.planned and at - self.sweep_at < LATEST:        # not before the sweep that is planned
            return 0
        self.planned, self.sweep_at = poller_timer_set(self.timer, left) == 0, at
        return 0

    # memory

    cdef Buffer fresh_input(self):
        """The shared receive buffer, to be overwritten. What the application still looks into is left to it."""
        if self.input.exports:
            self.input = Buffer(INPUT_SIZE)
        return self.input

    cdef int took_large_block(self) noexcept:
        self.took_much = True
        if memory_kept and not self.to_give_back:
            self.to_give_back = True
            self.sweep_within(KEEP_FOR)
        return 0

    cdef uint32_t _give_back(self) noexcept:
        """Gives back the memory that is kept for large blocks, once none was needed for KEEP_FOR. Returns when to look
        again."""
        if self.took_much:
            self.took_much = False
            return KEEP_FOR
        self.to_give_back = False
        memory_give_back()
        return NEVER

    # turns

    cdef int ask_turn(self) except -1:
        """Has a turn come in the loop's next iteration. During a turn of a loop that cannot nest it asks for nothing:
        _run() asks when the turn has ended, if work is left. Where the loop can nest, a callback may run it, and the
        inner loop needs the call."""
        if self.turn_asked or self.poller < 0 or self.in_turn and not self.may_nest:
            return 0
        self.turn_asked = True              # before, as what call_soon() runs may run the loop
        self.asked += 1
        try:
            self.loop.call_soon(self.turn_call, self.asked)
        except BaseException as error:
            self.turn_asked = False
            # At the recursion limit, say, no function of Python's can be called. The timer calls none.
            self.read_clock()
            self.planned, self.sweep_at = True, self.now
            poller_timer_set(self.timer, 0)
            if not isinstance(error, Exception):
                raise
        return 0

    cdef int forget_turn(self) noexcept:
        """The turn that was asked for is here, or is asked for again where needed. Between the loop and _end_turn() a
        KeyboardInterrupt may come, and then the call never does. If it still does, it finds that it is an old one."""
        self.turn_asked = False
        return 0

    cdef int overlook(self) noexcept:
        """There is no memory to list a socket that is marked: the next turn looks for it among all there are."""
        PyErr_Clear()
        self.overlooked = True
        return 0

    cdef Crowd _empty_crowd(self):
        """One whose last socket has gone, which is still to be said."""
        cdef Crowd crowd
        for crowd in self.crowds:
            if crowd.is_empty():
                return crowd
        return None

    cdef int _turn(self, bint late) except -1:
        """Gives each marked socket its turn. A socket that is marked during this turn waits for the next.

        Sockets that go on with held input share as much time as this turn has taken before, at least MIN_SHARE and at
        most MAX_SHARE. When it is used up, the input of those left is put off to the next turn. Nothing else is: what
        they have to send leaves, and their ends come. late: it is used up already.
        """
        cdef list marked
        cdef Crowd crowd
        cdef Socket socket
        cdef Py_ssize_t count
        cdef uint32_t began, share
        cdef bint goes_on, put_off
        if self.overlooked:
            self.overlooked = False
            for crowd in self.crowds:
                crowd.mark_all()
        if self.lines:
            self._write_lines()
        for crowd in self.crowds:
            if crowd.transient.count > crowd.max_transient:
                crowd.evict()
        if self.put_off:        # they come first; a turn inside another begins where that one is
            self.marked[self.seen:self.seen] = self.put_off
            self.put_off = []
        count = len(self.marked)
        if count:
            self.read_clock()
        began = self.now
        share = min(max(began - self.turn_at, <uint32_t>MIN_SHARE), <uint32_t>MAX_SHARE)
        while self.seen < min(count, len(self.marked)):     # a turn inside this one may have emptied the list
            socket = self.marked[self.seen]
            self.seen += 1
            goes_on = socket.goes_on()
            put_off = late and goes_on and list_append(self.put_off, socket) == 0
            if late and goes_on and not put_off:
                PyErr_Clear()   # there is no memory to put it off
            socket.marked = put_off
            try:
                socket.on_turn(put_off)
            except BaseException as error:
                socket.mark()
                self.failed(socket, error)
            if goes_on and not put_off:
                self.read_clock()
                late = self.now - began >= share
        if self.seen:           # the old list is freed last: freeing a socket may run the application's destructors
            marked, self.marked = self.marked, self.marked[self.seen:]
            self.seen = 0
        if self.wires is not None:
            self._see_to_wires()
        crowd = self._empty_crowd()
        if crowd is not None:
            crowd.on_empty()
        return 0

    cdef int failed(self, Endpoint endpoint, error) except -1:
        """An exception of ours, not the user's or the peer's, costs that one connection. What is no Exception (a
        KeyboardInterrupt, say) costs it too, as the rest of its input is lost, and goes on to the loop. Where there is
        not even the memory to end the connection, it ends when the poller reports it."""
        if isinstance(endpoint, Socket):
            (<Socket>endpoint).give_up()
            try:
                (<Socket>endpoint).on_end()
            except Exception as failure:
                error = failure if isinstance(error, Exception) else error
        if not isinstance(error, Exception):
            raise error
        if isinstance(endpoint, Socket):
            return endpoint.crowd.log_later("error", ("internal error; the connection is dropped",), error)
        return endpoint.crowd.log_later("error", ("cannot accept",), error)

    cdef int read_clock(self) noexcept:
        cdef timespec time
        if self.clock_held:
            return 0
        clock_gettime(CLOCK_MONOTONIC, &time)
        self.now = <uint32_t>(<uint64_t>time.tv_sec * 1000 + <uint64_t>time.tv_nsec // 1000000)
        return 0

    cdef uint32_t lap(self) noexcept:
        """Milliseconds since this was called last, by a clock that is some milliseconds late and cheaper to read."""
        cdef timespec time
        cdef uint32_t before = self.lap_at
        if self.clock_held:
            self.lap_at = self.now
        else:
            clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
            self.lap_at = <uint32_t>(<uint64_t>time.tv_sec * 1000 + <uint64_t>time.tv_nsec // 1000000)
        return self.lap_at - before

    # a clock that tests set

    def hold_clock(self):
        """No time passes from now on, but what pass_time() says, so that a test can be repeated: no deadline comes, and
        no turn is cut short by time."""
        self.clock_held = True

    def pass_time(self, double seconds):
        """So much has passed on the clock that is held."""
        self.now += <uint32_t>(seconds * 1000)

    def advance(self, double seconds):
        """So much has passed on the clock that is held, and the deadlines are looked at. What has arrived came in
        time."""
        self._run(True)
        self.pass_time(seconds)
        self.rang = self.caught_up = True
        self._run(True)

    # the log

    cdef int _write_lines(self) except -1:
        cdef list lines = self.lines
        cdef Py_ssize_t done = 0
        self.lines = []
        try:
            for log, method, arguments, error in lines:
                done += 1
                if error is None:
                    getattr(log, method)(*arguments)
                else:
                    getattr(log, method)(*arguments, exc_info=error)
        finally:
            self.lines = lines[done:] + self.lines
        return 0

    # who is here

    cdef int watch(self, Endpoint endpoint, uint32_t interest) noexcept:
        """Polls the endpoint's descriptor. Returns 0, or an error of errno.h, with which nothing has changed.

        An event carries the descriptor's number and a generation instead of a pointer, so that one for an endpoint that
        has gone finds none, and never another that has its number.
        """
        cdef uint32_t fd = <uint32_t>endpoint.fd
        cdef size_t room
        cdef PyObject **moved
        if fd >= self.watched_room:
            room = max(<size_t>fd + 1, max(<size_t>WATCHED_AT_FIRST, <size_t>self.watched_room * 2))
            moved = <PyObject **>PyMem_Realloc(self.watched, room * sizeof(PyObject *))
            if moved == NULL:
                return ENOMEM
            memset(moved + self.watched_room, 0, (room - self.watched_room) * sizeof(PyObject *))
            self.watched, self.watched_room = moved, <uint32_t>room
        self.generation = max(<uint32_t>1, self.generation + 1)
        endpoint.generation = self.generation
        if poller_add(self.poller, endpoint.fd, interest, endpoint.key()) < 0:
            return errno
        endpoint.interest = interest
        self.watched[fd] = <PyObject *>endpoint
        return 0

    cdef int unwatch(self, Endpoint endpoint) noexcept:
        """Before the descriptor is closed; see poller.h."""
        poller_remove(self.poller, endpoint.fd)
        self.watched[endpoint.fd] = NULL
        return 0

    cdef Endpoint _watched_as(self, uint64_t key):
        """The endpoint of an event; None if it has gone."""
        cdef PyObject *found = self.watched[<uint32_t>key]
        if found == NULL or (<Endpoint>found).generation != key >> 32:
            return None
        return <Endpoint>found
