# fastws._speedups, declared on one page. The parts that define it are listed in _speedups.pyx.

include "core/protocol.pxi"


# The I/O half: descriptors, bytes, deadlines. It knows no WebSocket words.

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
    void memory_keep()
    void memory_give_back()

cdef struct Chunk:              # a stretch of unsent bytes: its own, or those of a Python object that it holds
    Chunk *next
    PyObject *owner
    uint8_t *data
    size_t start, end, capacity

cdef struct Outbox:             # what a socket has not taken yet, in order
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
cdef class Endpoint
cdef class Socket(Endpoint)

cdef struct Bucket:             # of tokens, for a rate
    float tokens
    uint32_t at                 # when they were counted, in milliseconds like Reactor.now

cdef enum:                      # the socket's own reasons among Socket.pauses
    PAUSE_FEEDING = 64          # a callback that handles its input runs the loop
    PAUSE_AT_END = 128          # for good: the peer's last byte has been read

ctypedef Socket (*make_socket)(Reactor reactor, object service)

cdef class Endpoint:            # a descriptor at a reactor's poller
    cdef Reactor reactor
    cdef int fd
    cdef uint32_t interest
    cdef uint32_t generation    # tells it from others that have had its descriptor
    cdef flag resting           # the kernel had no memory or descriptors for it; tried again in the next sweep
    cdef uint64_t key(self) noexcept
    cdef int on_ready(self, uint32_t events) except -1
    cdef bint _watch(self, uint32_t interest) noexcept

cdef class Listener(Endpoint):
    cdef object sock
    cdef object service
    cdef make_socket make
    cdef int burst, most
    cdef uint32_t batch         # of the reactor, when it accepted last
    cdef bint told
    cdef uint32_t rested_at     # milliseconds, like Reactor.now
    cdef uint32_t unprepared    # connections that came before its options were set, and so have not inherited them
    cdef int _accept(self) except -1
    cdef int _prepare(self, int fd) noexcept
    cdef int _rest(self, int error) except -1
    cdef int wake_up(self) except -1
    cdef int shut_down(self) except -1

cdef class Socket(Endpoint):
    cdef Socket previous, next  # in its roster
    cdef flag linked
    cdef flag settled           # in Reactor.settled, else in Reactor.transient
    cdef Address address
    cdef uint16_t taken         # bytes of the outbox that the peer took since `stalled_at`, below PROGRESS
    cdef Outbox outbox
    cdef uint8_t *held          # input that could not be processed yet: held_size bytes, behind held_start that were
    cdef uint32_t held_start, held_size     # together they are no more than the reactor reads at once
    cdef uint32_t stalled_at    # since when the peer takes nothing worth mentioning, while `blocked`
    cdef uint32_t paused_at     # since when there are `pauses`, or it is `resumed`
    cdef uint8_t pauses         # reasons not to read; 0 while reading
    cdef flag blocked           # the kernel's send buffer is full
    cdef flag dirty             # listed for the end of the turn
    cdef flag resumed           # what is held is to be processed when this turn ends, and nothing read before that
    cdef flag feeding           # its input is being processed
    cdef flag hung_up           # input is thrown away, and our direction shut once the outbox is empty
    cdef flag shut
    cdef flag broken            # nothing more is sent; the poller will report the end
    # receive: what a subclass answers
    cdef Py_ssize_t on_input(self, uint8_t *data, size_t n) except -1
    cdef uint8_t *on_window(self, size_t *room) except? NULL
    cdef int on_windowed(self, size_t n) except -1
    cdef int on_end(self) except -1
    cdef int on_input_end(self) except -1
    cdef int on_evicted(self) except -1
    cdef int on_peer_shut(self) except -1
    # send, time, turn: what a subclass answers
    cdef int on_blocked(self) except -1
    cdef int on_taken(self) except -1
    cdef int on_resumed(self) except -1
    cdef uint32_t due_in(self, uint32_t now) noexcept
    cdef int on_due(self, uint32_t now) except -1
    cdef int on_turn(self, bint late) except -1
    cdef bint goes_on(self) noexcept
    cdef bint is_over(self) noexcept
    # receive
    cdef int _receive(self) except -1
    cdef Py_ssize_t _feed(self, uint8_t *data, size_t n) except -1
    cdef int _feed_held(self) except -1
    cdef int _fed(self) except -1
    cdef Py_ssize_t _feed_copy(self, size_t n) except -1
    cdef int _hold(self, uint8_t *data, size_t n) except -1
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
    cdef int _break(self) noexcept
    cdef int wake_up(self) noexcept
    cdef int give_up(self) noexcept
    cdef int _queue(self, const uint8_t *data, size_t n) noexcept
    cdef int _block(self) except -1
    cdef size_t unsent(self) noexcept
    cdef size_t on_its_way(self) noexcept
    cdef bint is_unanswered_for(self, uint32_t milliseconds) noexcept
    cdef int mark(self) except -1
    # end
    cdef int _shut_if_sent(self) except -1
    cdef int hang_up(self) except -1
    cdef int drop(self) except -1

cdef class Roster:              # sockets in the order in which they came
    cdef Socket newest, oldest
    cdef Py_ssize_t count
    cdef int add(self, Socket socket) noexcept
    cdef int remove(self, Socket socket) noexcept

cdef class ReaderContext:
    cdef object context
    cdef bint entered

cdef class Reactor:
    cdef readonly object loop
    cdef flag may_nest                  # a callback may run the loop: assumed of every loop but uvloop
    cdef object starter                 # starts coroutines (fastws.tasks)
    cdef object log
    cdef unsigned long thread           # in which the loop was last seen running
    cdef uint32_t now                   # milliseconds, coarse, wraps
    # who is polled
    cdef int poller                     # -1 once it is closed
    cdef uint32_t batch                 # counts the batches of events
    cdef PyObject **watched             # endpoints by descriptor, borrowed; NULL where there is none
    cdef uint32_t watched_room
    cdef uint32_t generation            # of the endpoint that came last
    # the one timer
    cdef int timer
    cdef uint32_t tick, sweep_at
    cdef flag planned                   # a sweep is to come, at `sweep_at`
    cdef flag rang                      # the timer has: a sweep is due
    cdef flag caught_up                 # the last sweep was put off to read what had come; the next is not
    # shared buffers
    cdef Buffer input
    cdef flag keeps_memory              # what large blocks have freed, for those to come; see memory.h
    cdef flag took_much                 # a socket has taken a large block since _give_back() last looked
    cdef flag to_give_back              # memory_give_back() is due in some sweep
    cdef uint8_t *cork
    cdef size_t corked
    cdef Socket corked_for
    cdef Socket fed                     # whose input is being processed, in `input` perhaps
    # who is here
    cdef Roster settled                 # those with a claim to stay
    cdef Roster transient               # those without: they are still coming, or already going
    cdef Py_ssize_t max_transient
    cdef public object on_empty         # called when the last socket has gone
    cdef list listeners
    # what the end of the turn sees to
    cdef list dirty                     # sockets with something to do
    cdef Py_ssize_t seen                # how many of those have had their turn
    cdef list put_off                   # those whose turn waits for the next, and who come first in it
    cdef list lines                     # for the log: (kind, form, arguments, error)
    cdef flag overlooked                # a socket is marked and could not be listed there
    cdef flag turn_asked                # `turn_call` is to come
    cdef flag in_turn                   # _run() is on the stack
    cdef uint32_t turn_at               # `now` when it began
    cdef flag clock_held                # no time passes; see hold_clock()
    cdef object turn_call
    cdef uint32_t asked                 # how often a turn was asked for
    # counters
    cdef uint64_t accepted, next_id
    cdef Py_ssize_t opened
    cdef int _close_poller(self) noexcept
    cdef int leave_to_parent(self) except -1
    cdef int _let_nest(self) except -1
    # polled
    cdef int watch(self, Endpoint endpoint, uint32_t interest) noexcept
    cdef int unwatch(self, Endpoint endpoint) noexcept
    cdef Endpoint _watched_as(self, uint64_t key)
    cdef int listen(self, Listener listener) except -1
    # here
    cdef int link(self, Socket socket) noexcept
    cdef int unlink(self, Socket socket) except -1
    cdef int settle(self, Socket socket, bint settled) noexcept
    cdef int _evict(self) except -1
    # memory
    cdef Buffer fresh_input(self)
    cdef int took_large_block(self) noexcept
    cdef uint32_t _give_back(self) noexcept
    # turns
    cdef int ask_turn(self) except -1
    cdef int forget_turn(self) noexcept
    cdef bint is_here(self) except -1
    cdef int overlook(self) noexcept
    cdef int _mark_all(self, Roster roster) except -1
    cdef int _run(self, bint take) except -1
    cdef int _take(self) except -1
    cdef int _turn(self, bint late) except -1
    cdef int _failed(self, Endpoint endpoint, error) except -1
    cdef int log_later(self, str kind, str form, tuple arguments, error) except -1
    cdef int _write_lines(self) except -1
    # time
    cdef int _time(self) noexcept
    cdef int _sweep(self) except -1
    cdef int _catch_up(self) except -1
    cdef int sweep_within(self, uint32_t left) noexcept


# The connection joins the two halves, and is the only one that calls the user's code.

cdef struct Payload:            # what the user gave to be sent
    uint8_t opcode
    size_t size                 # in bytes, of UTF-8 where it is str
    PyObject *text              # a str that is still to be encoded, else NULL; borrowed
    const uint8_t *data         # unless there is `text`
    PyObject *keeper            # where it can never change: what it lies in, borrowed
    Py_buffer view
    bint is_view

cdef class Hub

cdef class Block:               # a Buffer that is filled with small frames
    cdef Buffer buffer
    cdef size_t filled

cdef class PreparedMessage:     # a frame made once, which never changes
    cdef Hub hub                # in whose blocks it lies, if it is small; None where it has memory of its own
    cdef Buffer buffer          # in which it lies
    cdef uint8_t *frame
    cdef size_t size, head_size
    # compressed, by whoever needs that first
    cdef Buffer packed_buffer
    cdef uint8_t *packed
    cdef size_t packed_size     # 0 where there is none
    cdef size_t reach           # no distance in it is more
    cdef flag is_tried

cdef struct Slot:               # a subscriber of a topic
    PyObject *ws                # borrowed; NULL where it left while the topic was published to
    uint32_t subscription       # which of its subscriptions this is

cdef struct Subscription:       # of a connection
    PyObject *topic             # held
    uint32_t slot               # of the topic, in which it stands

cdef class Topic:
    cdef str name
    cdef Slot *slots
    cdef uint32_t count, holes  # slots, and those of them without a subscriber
    cdef uint32_t publishing    # how often it is being published to just now

cdef class Hub:                 # the topics of an App, over all its servers
    cdef list services
    cdef Block plain, packed    # where small published frames lie

cdef class Service:             # what the connections of a server are for
    cdef readonly HeadLimits head_limits
    cdef readonly object find_websocket, find_http
    cdef readonly object allowed_hosts
    cdef Hub hub
    cdef Reactor reactor
    cdef Codec codec
    cdef Buffer inflated        # where a small message lies while it is delivered
    cdef dict topics            # by name: those with subscribers
    # how many may be here
    cdef Py_ssize_t max_connections, max_connections_per_ip     # 0 is off
    cdef Py_ssize_t placed      # connections that have a place
    cdef dict placed_from       # by address, where there is a limit
    # what became of the others: counts by reason, see fastws/stats.py
    cdef uint64_t answered
    cdef dict refused, closed
    cdef bint stopping
    cdef uint32_t handshake_timeout, close_timeout, quarter_user_timeout    # milliseconds; 0 is off

cdef class Route:               # the callbacks and limits of one WebSocket route
    cdef readonly object upgrade, open, message, drain, ping, pong, close
    cdef readonly object origins
    cdef object agree           # negotiates compression; None without
    cdef DeflateSettings deflate
    cdef Limits limits
    cdef size_t high_water, low_water, max_backpressure
    cdef Py_ssize_t max_waiting
    cdef uint32_t max_topics
    cdef uint32_t close_timeout, message_timeout, ping_interval, ping_timeout, send_timeout     # ms; 0 is off
    cdef float max_message_rate, max_control_rate       # per second; 0 is off
    cdef bint text_as_utf8, binary_as_view, drop_when_slow, keep_request

cdef enum Phase:
    PHASE_HANDSHAKE             # the request is coming
    PHASE_DECIDING              # an async upgrade or http callback runs
    PHASE_OPEN
    PHASE_CLOSING               # our Close is sent, the peer's is awaited
    PHASE_DOWN                  # nothing more is parsed; the socket is being shut
    PHASE_GONE                  # no socket any more; perhaps an async callback that has not ended

cdef enum:                      # reasons for Socket.pauses
    PAUSE_BY_APP = 1
    PAUSE_OUTBOX = 2            # over high_water: the peer does not read its answers
    PAUSE_WAITING = 4           # too many messages wait behind an async callback
    PAUSE_DECIDING = 8

cdef class Asides:              # what few connections need, and only for a while
    cdef object task            # of the async callback that runs
    cdef object waiting         # a deque of (callback, arguments, is_text, size), what comes behind it; () for nothing
    cdef size_t waiting_size    # in bytes, of the messages among them
    cdef list drain_waiters
    cdef bytes pong             # owed to a peer that takes nothing: the latest only
    cdef flag busy              # an async callback has begun and not ended
    cdef flag stepping          # its first step runs just now
    cdef flag cancel_due        # `task` is to be cancelled when the turn ends

cdef class WebSocket(Socket):
    cdef object __weakref__
    cdef Service service
    cdef Route route
    cdef Handshake handshake
    cdef Asides asides
    cdef Deflation deflation    # None without compression
    cdef Inbox inbox
    cdef Phase phase
    cdef uint16_t close_code
    cdef uint16_t in_flight     # what was on its way at the last deadline of the end, in units of PROGRESS
    cdef str close_reason
    # When this phase began; while it is open and the peer has left: when that was, or a callback has ended since.
    cdef uint32_t since
    cdef uint32_t heard_at      # when the last byte came
    cdef uint32_t pinged_at
    cdef uint32_t message_at    # when the message in progress began
    cdef uint32_t asked_at      # when our kernel was asked what it knows of the peer's
    cdef Bucket messages, controls
    cdef uint32_t pongs_asked   # by Pings of ours; these are free
    cdef flag in_message, ping_sent, drain_due, close_due, peer_left, is_text_message
    cdef flag has_place         # among max_connections
    cdef flag calling           # a callback runs just now
    cdef readonly uint64_t id
    cdef public object data
    cdef readonly str path, query_string, subprotocol
    cdef readonly object path_params, request
    cdef Subscription *subscriptions_at
    cdef uint32_t subscribed    # how many of them
    cdef uint8_t unanswered     # how many times in a row our kernel has said that the peer's does not answer
    # receive
    cdef Py_ssize_t read_frames(self, uint8_t *data, size_t n) except -1
    cdef int handle(self, EventKind kind, Event *event) except -1
    cdef int received(self, bint finished, bint rest) except -1
    # close
    cdef int closed_by_peer(self, Event *event) except -1
    cdef bint is_busy(self) noexcept
    cdef int enter(self, Phase phase) noexcept
    cdef int end(self, str cause) except -1
    cdef int end_if_finished(self) except -1
    cdef int fail(self, str cause, unsigned int code, str reason) except -1
    cdef int log_end(self, str cause, why) except -1
    cdef int _fail(self, str cause, unsigned int code, str reason) except -1
    cdef int finish(self, Phase phase, str cause, unsigned int code, str reason, bint clean) except -1
    # helpers
    cdef Asides aside(self)
