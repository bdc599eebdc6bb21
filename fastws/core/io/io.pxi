# The I/O half, declared: descriptors, bytes, deadlines. It knows no WebSocket words; the test-only extension in
# tests/core/io includes this file and its parts alone to prove it.

from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "poller.h" nogil:
    enum:
        POLL_READ, POLL_WRITE, POLL_PEER_SHUT, POLL_HANGUP, POLL_ERROR
    ctypedef struct poller_event:
        uint32_t events
    uint64_t poller_key(const poller_event *event)
    int poller_open()
    int poller_add(int poller, int fd, uint32_t interest, uint64_t key)
    int poller_change(int poller, int fd, uint32_t interest, uint64_t key)
    int poller_remove(int poller, int fd)
    int poller_take(int poller, poller_event *events, int capacity)
    void poller_replace(int poller)
    int poller_timer_open(int poller, uint64_t key)
    int poller_timer_set(int timer, uint32_t milliseconds)
    void poller_timer_stop(int timer)

cdef extern from "memory.h" nogil:
    bint memory_kept
    void memory_keep()
    void memory_give_back()

cdef struct Chunk:              # a stretch of unsent bytes: its own, or those of a Python object that it holds
    Chunk *next
    PyObject *owner
    uint8_t *data
    size_t start, end, capacity

cdef struct Outbox:             # what the kernel has not taken of a socket's bytes, in order
    Chunk *first
    Chunk *last
    size_t size

cdef struct Address:            # of a peer: 20 bytes rather than a Python object each
    uint16_t family, port
    uint8_t host[16]

cdef class Buffer:              # memory that Python objects may look into
    cdef uint8_t *data
    cdef size_t size
    cdef Py_ssize_t exports

cdef class Window:              # a stretch of a Buffer, for memoryview()
    cdef Buffer buffer
    cdef Py_ssize_t exports
    cdef bint ended             # no more of them
    cdef uint8_t *data
    cdef Py_ssize_t size

ctypedef uint8_t flag           # a bint in one byte, for what there are very many of

cdef class Reactor
cdef class Crowd
cdef class Endpoint
cdef class Socket(Endpoint)

cdef enum:                      # the socket's own reasons among Socket.pauses
    PAUSE_FEEDING = 64          # a callback that handles its input runs the loop
    PAUSE_AT_END = 128          # for good: the peer's last byte has been read

ctypedef Socket (*make_socket)(Crowd crowd)

cdef class Endpoint:            # a descriptor at a reactor's poller
    cdef Reactor reactor
    cdef Crowd crowd            # the sockets of its server
    cdef int fd
    cdef uint32_t interest
    cdef uint32_t generation    # tells it from others that have had its descriptor
    cdef flag resting           # the kernel had no memory or descriptors for it; tried again in the next sweep
    cdef uint8_t timed          # what of a subclass holds the loop since Reactor.lap(), 0 for nothing; in padding
    cdef uint64_t key(self) noexcept
    cdef int on_ready(self, uint32_t events) except -1
    cdef bint watch_for(self, uint32_t interest) noexcept

cdef class Listener(Endpoint):
    cdef object sock
    cdef make_socket make
    cdef int burst, max_burst
    cdef uint32_t batch         # of the reactor, when it accepted last
    cdef bint logged            # that it rests
    cdef uint32_t rested_at     # milliseconds, like Reactor.now
    cdef uint32_t unprepared    # connections that came before its options were set, and so have not inherited them
    cdef int _accept(self) except -1
    cdef int _prepare(self, int fd) noexcept
    cdef int _rest(self, int error) except -1
    cdef int wake_up(self) except -1
    cdef int shut_down(self) except -1

cdef class Wire:                # between a socket and its bytes
    cdef ssize_t read(self, Socket socket, uint8_t *to, size_t n) noexcept
    cdef ssize_t write(self, Socket socket, const iovec *pieces, int count) noexcept
    cdef int shut(self, Socket socket) noexcept
    cdef int break_off(self, Socket socket) noexcept
    cdef int close(self, Socket socket) noexcept
    cdef bint watch(self, Socket socket, uint32_t interest) noexcept
    cdef size_t unread_size(self) noexcept

cdef class Pushed(Wire):
    cdef Reactor reactor
    cdef Crowd crowd
    cdef Socket socket          # None once it is closed
    cdef object transport
    # what comes
    cdef bytes given            # what is being read, from `at` on
    cdef size_t at
    cdef object waiting         # a deque of what comes behind it
    cdef size_t unread          # bytes of both
    cdef flag ended             # nothing more comes
    # what goes
    cdef list written           # what the transport is still to be handed
    cdef size_t written_size    # bytes of it
    cdef flag has_limits        # the transport tells when it is full
    cdef flag full              # it has not sent all that it has
    cdef flag lost              # nothing more can be asked of it
    cdef flag broken            # nothing more goes either way: the socket is to end
    # what the transport is still to be asked for
    cdef flag reading           # it has been asked to read
    cdef flag shuts             # it can shut our direction alone
    cdef flag shut_due, abort_due, close_due
    cdef uint32_t closed_at
    # in the reactor's chain of wires
    cdef Pushed next
    cdef flag listed
    cdef int begin(self) except -1
    cdef uint32_t ready(self) noexcept
    cdef bint is_due(self) noexcept
    cdef int see_to_transport(self) except -1
    cdef bint _wants_to_read(self) noexcept
    cdef size_t _room(self) noexcept

cdef class Socket(Endpoint):
    cdef Wire wire              # None for a plain descriptor; what follows leaves no hole between its fields
    cdef Address address
    # what comes
    cdef uint32_t held_start, held_size     # input to process later; together no more than the reactor reads at once
    cdef uint32_t paused_at     # since when there are `pauses`, or it is `resumed`
    cdef uint8_t *held          # held_size bytes, which begin at held_start
    cdef uint8_t pauses         # reasons not to read; 0 while reading
    cdef flag resumed           # what is held is to be processed when this turn ends, and nothing read before that
    cdef flag feeding           # its input is being processed
    # what goes
    cdef flag blocked           # the kernel's send buffer is full
    cdef uint32_t stalled_at    # since when the peer takes nothing worth mentioning, while `blocked`
    cdef Outbox outbox
    cdef uint16_t taken         # bytes of it that the peer took since then, below PROGRESS
    # its end
    cdef flag hung_up           # input is thrown away, and our direction shut once the outbox is empty
    cdef flag shut
    cdef flag broken            # nothing more is sent; the poller will report the end
    # where it is listed
    cdef flag linked
    cdef flag settled           # in Crowd.settled, else in Crowd.transient
    cdef flag marked            # for the end of the turn
    cdef Socket previous, next  # in its roster
    # what a subclass answers, of what is received
    cdef Py_ssize_t on_input(self, uint8_t *data, size_t n) except -1
    cdef uint8_t *on_room(self, size_t *room) except? NULL
    cdef int on_received(self, size_t n) except -1
    cdef int on_resumed(self) except -1
    cdef int on_peer_shut(self) except -1
    # of what is sent
    cdef int on_blocked(self) except -1
    cdef int on_taken(self) except -1
    # of turns and deadlines
    cdef int on_turn(self, bint late) except -1
    cdef bint goes_on(self) noexcept
    cdef uint32_t due_in(self, uint32_t now) noexcept
    cdef int on_due(self, uint32_t now) except -1
    # of the end
    cdef int on_input_end(self) except -1
    cdef int on_end(self) except -1
    cdef int on_evicted(self) except -1
    cdef bint is_over(self) noexcept
    # receive
    cdef int _receive(self) except -1
    cdef Py_ssize_t _feed(self, uint8_t *data, size_t n) except -1
    cdef int _feed_held(self) except -1
    cdef int _fed(self) except -1
    cdef Py_ssize_t _feed_copy(self, size_t n) except -1
    cdef int hold(self, uint8_t *data, size_t n) except -1
    cdef int _let_go(self, size_t n) except -1
    cdef int come_back(self) except -1
    cdef int pause(self, uint8_t reason) except -1
    cdef int resume(self, uint8_t reason) except -1
    # send
    cdef uint8_t *reserve(self, size_t n) except NULL
    cdef int write(self, const uint8_t *data, size_t n) except -1
    cdef int refer(self, const uint8_t *data, size_t n, object owner) except -1
    cdef int write_large(
        self, const uint8_t *head, size_t head_size, const uint8_t *data, size_t n, object owner) except -1
    cdef int uncork(self) except -1
    cdef int flush(self) except -1
    cdef bint _refused(self) noexcept
    cdef int wake_up(self) noexcept
    cdef int _queue(self, const uint8_t *data, size_t n) noexcept
    cdef int _block(self) except -1
    cdef size_t unsent(self) noexcept
    # turn
    cdef int mark(self) except -1
    # end
    cdef int break_off(self) noexcept
    cdef int give_up(self) noexcept
    cdef int _shut_if_sent(self) except -1
    cdef int hang_up(self) except -1
    cdef int drop(self) except -1

cdef class Roster:              # sockets in the order in which they came
    cdef Socket newest, oldest
    cdef Py_ssize_t count
    cdef int add(self, Socket socket) noexcept
    cdef int remove(self, Socket socket) noexcept

cdef class Crowd:               # the sockets of one server
    cdef Reactor reactor        # None until it joins one
    cdef object log
    cdef uint32_t tick          # milliseconds
    cdef Roster settled         # those with a claim to stay
    cdef Roster transient       # those without: they are still coming, or already going
    cdef Py_ssize_t max_transient
    cdef list listeners
    cdef uint64_t accepted
    cdef public object on_empty # called when the last socket has gone
    cdef int admit(self, Socket socket, int fd) noexcept
    cdef int link(self, Socket socket) noexcept
    cdef int unlink(self, Socket socket) except -1
    cdef int settle(self, Socket socket, bint settled) noexcept
    cdef int evict(self) except -1
    cdef bint is_empty(self) noexcept
    cdef int mark_all(self) except -1
    cdef int drop_all(self) except -1
    cdef int leave_to_parent(self) except -1
    cdef int listen(self, Listener listener) except -1
    cdef int log_later(self, str method, tuple arguments, error) except -1

cdef class ReaderContext:
    cdef object context
    cdef bint entered

cdef class Reactor:
    cdef object __weakref__
    cdef readonly object loop
    cdef list crowds                    # of its servers
    cdef flag may_nest                  # a callback may run the loop: assumed of every loop but uvloop
    cdef unsigned long thread           # in which the loop was last seen running
    cdef uint32_t now                   # milliseconds, coarse, wraps
    cdef uint32_t lap_at                # likewise, when lap() was called last
    cdef flag clock_held                # no time passes; see hold_clock()
    # who is polled
    cdef int poller                     # -1 once it is closed
    cdef uint32_t batch                 # counts the batches of events
    cdef PyObject **watched             # endpoints by descriptor, borrowed; NULL where there is none
    cdef uint32_t watched_room
    cdef uint32_t generation            # of the endpoint that came last
    cdef Pushed wires                   # a chain of those with something for their sockets, or for their transports
    cdef Pushed wires_now               # those of them that this turn still has to see to
    cdef set lingering                  # closed ones, whose transports have not ended
    # the one timer
    cdef int timer
    cdef uint32_t tick, sweep_at
    cdef flag planned                   # a sweep is to come, at `sweep_at`
    cdef flag rang                      # the timer has: a sweep is due
    cdef flag caught_up                 # the last sweep was put off to read what had come; the next is not
    # shared buffers
    cdef Buffer input
    cdef flag took_much                 # a socket has taken a large block since _give_back() last looked
    cdef flag to_give_back              # memory_give_back() is due in some sweep
    cdef uint8_t *cork
    cdef size_t corked
    cdef Socket corked_for
    cdef Socket fed                     # whose input is being processed, in `input` perhaps
    # what the end of the turn sees to
    cdef list marked                    # sockets with something to do
    cdef Py_ssize_t seen                # how many of those have had their turn
    cdef list put_off                   # those whose turn waits for the next, and who come first in it
    cdef list lines                     # for the logs: (log, method, arguments, error)
    cdef flag overlooked                # a socket is marked and could not be listed there
    cdef flag turn_asked                # `turn_call` is to come
    cdef flag in_turn                   # _run() is on the stack
    cdef uint32_t turn_at               # `now` when it began
    cdef object turn_call
    cdef uint32_t asked                 # how often a turn was asked for
    # begin and end
    cdef int add(self, Crowd crowd, log, double tick, Py_ssize_t max_transient) except -1
    cdef int remove(self, Crowd crowd) except -1
    cdef int _close(self) except -1
    cdef int _close_poller(self) noexcept
    cdef int leave_to_parent(self) except -1
    cdef int _let_nest(self) except -1
    # polled
    cdef int watch(self, Endpoint endpoint, uint32_t interest) noexcept
    cdef int unwatch(self, Endpoint endpoint) noexcept
    cdef Endpoint _watched_as(self, uint64_t key)
    # memory
    cdef Buffer fresh_input(self)
    cdef int took_large_block(self) noexcept
    cdef uint32_t _give_back(self) noexcept
    # wires
    cdef int tell(self, Pushed wire) except -1
    cdef int list_wire(self, Pushed wire) noexcept
    cdef int _list(self, Pushed wire) noexcept
    cdef int _see_to_wires(self) except -1
    cdef int _see_to_wire(self, Pushed wire) except -1
    cdef int _see_to_lingering(self) except -1
    # turns
    cdef int ask_turn(self) except -1
    cdef int forget_turn(self) noexcept
    cdef bint is_here(self) except -1
    cdef int overlook(self) noexcept
    cdef Crowd _empty_crowd(self)
    cdef int _run(self, bint take) except -1
    cdef int _take(self) except -1
    cdef int _turn(self, bint late) except -1
    cdef int failed(self, Endpoint endpoint, error) except -1
    cdef int _write_lines(self) except -1
    # time
    cdef int read_clock(self) noexcept
    cdef uint32_t lap(self) noexcept
    cdef int _sweep(self) except -1
    cdef int _catch_up(self) except -1
    cdef int sweep_within(self, uint32_t left) noexcept
