# The connection, declared: it joins the two halves, and alone calls the application.

cdef struct Payload:            # what the user gave to be sent
    uint8_t opcode
    size_t size                 # in bytes, of UTF-8 where it is str
    PyObject *text              # a str that is still to be encoded, else NULL; borrowed
    const uint8_t *data         # unless there is `text`
    PyObject *keeper            # where it can never change: what it lies in, borrowed
    Py_buffer view
    bint is_view

cdef class Hub
cdef class WebSocket(Socket)

cdef class Block:               # a Buffer that is filled with small frames
    cdef Buffer buffer
    cdef size_t filled

cdef class PreparedMessage:     # a frame made once, which never changes
    cdef Hub hub                # in whose blocks it lies, if it is small; None where it has memory of its own
    cdef Buffer buffer          # in which it lies
    cdef uint8_t *frame
    cdef size_t size, head_size
    # compressed, when a subscriber first needs that
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
    cdef list watchers          # objects that are called on changes; see watch()
    cdef set wanted             # topics that have a subscriber, as the watchers know
    cdef Block plain, packed    # where small published frames lie
    cdef Py_ssize_t _deliver(self, topic, PreparedMessage message, int wish, WebSocket sender) except -1
    cdef Py_ssize_t _count(self, topic) except -1

cdef struct Bucket:             # of tokens, for a rate
    float tokens
    uint32_t at                 # when they were counted, in milliseconds like Reactor.now

cdef class Service(Crowd):      # what the connections of a server are for
    cdef readonly HeadLimits head_limits
    cdef readonly object find_websocket, find_http, suggest
    cdef readonly object allowed_hosts
    cdef Hub hub
    cdef object starter         # starts coroutines (fastws.serving.tasks)
    cdef public object server   # a fastws.serving.server.Server, which is held while it serves
    cdef Codec codec
    cdef Buffer inflated        # where a small message lies while it is delivered
    cdef dict topics            # by name: those with subscribers
    # how many may be here
    cdef Py_ssize_t max_connections, max_connections_per_ip     # 0 is off
    cdef Py_ssize_t placed      # connections that have a place
    cdef dict placed_from       # by address, where there is a limit
    cdef Py_ssize_t open_count  # connections whose `open` has come and whose end has not
    cdef uint64_t next_id
    # what became of the others: counts by reason, see fastws/causes.py
    cdef uint64_t answered
    cdef dict refused, closed
    # when they end
    cdef bint stopping
    cdef uint32_t handshake_timeout, http_timeout, close_timeout, quarter_user_timeout    # milliseconds; 0 is off

cdef enum Callback:             # in the order of CALLBACK_NAMES; 0 is none
    CALLBACK_UPGRADE = 1
    CALLBACK_OPEN
    CALLBACK_MESSAGE
    CALLBACK_DRAIN
    CALLBACK_PING
    CALLBACK_PONG
    CALLBACK_CLOSE

cdef class Route:               # the callbacks and limits of one WebSocket route
    cdef readonly str path      # its pattern
    cdef tuple callbacks        # by Callback
    cdef tuple titles           # likewise, what the log calls them
    cdef readonly object upgrade, message, ping, pong       # of those, what is looked up often
    cdef readonly object origins
    cdef object agree           # negotiates compression; None without
    cdef DeflateSettings deflate
    cdef Limits limits
    cdef size_t high_water, low_water, max_backpressure, max_burst
    cdef Py_ssize_t max_waiting
    cdef uint32_t max_topics
    cdef uint32_t close_timeout, message_timeout, ping_interval, ping_timeout, send_timeout     # ms; 0 is off
    cdef float max_message_rate, max_control_rate       # per second; 0 is off
    cdef uint8_t warned_of_answers      # a bit for each Callback whose answer was a warning
    cdef bint text_as_utf8, binary_as_view, drop_when_slow, keep_request, cancel_on_disconnect

cdef extern from "ending.h" nogil:
    cdef enum Phase "phase":
        PHASE_HANDSHAKE, PHASE_DECIDING, PHASE_OPEN, PHASE_CLOSING, PHASE_DOWN, PHASE_GONE, PHASES
    cdef enum Ending "ending":
        END_CLOSE, END_PEER_CLOSE, END_FAIL, END_LOSS, END_CUT, END_TERMINATE, ENDINGS
    enum:
        NO_FRAME, SENDS_CLOSE, ECHOES_CODE
        UNCOUNTED, REFUSED_AS, CLOSED_AS
        CAUSE_GIVEN, CAUSE_LEFT, CAUSE_LOST, CAUSE_OURS
        CODE_KEPT, CODE_GIVEN, CODE_1006
        CALLBACKS_COME, CALLBACKS_FORGOTTEN, CALLBACKS_CANCELLED
        STAYS, HANGS_UP, DROPPED_AT_ONCE "DROPPED"
    cdef struct ending_step:
        uint8_t happens, next, frame, counts, cause, code, callbacks, socket, logged
    const ending_step ending_steps[6][6]

cdef enum:                      # reasons for Socket.pauses
    PAUSE_BY_APP = 1
    PAUSE_OUTBOX = 2            # over high_water: the peer does not read its answers
    PAUSE_WAITING = 4           # too many messages wait behind an async callback
    PAUSE_DECIDING = 8

cdef struct Backlog:            # of a peer that has more than max_backpressure to take
    size_t least                # bytes unsent when that began, or when they last had shrunk by max_backpressure; else 0
    size_t last                 # bytes unsent when that was looked at last, or added to since
    size_t taken                # by the peer since `since`
    uint32_t since              # when that began, or the peer last had taken max_backpressure, like Reactor.now
    flag slow                   # it has had its time

cdef class Asides:              # what few connections need, and only for a while
    cdef object task            # of the async callback that runs
    cdef object waiting         # a deque of (Callback, arguments, is_text, size), what comes behind it; () for nothing
    cdef size_t waiting_size    # in bytes, of the messages among them
    cdef list drain_waiters
    cdef Backlog backlog
    cdef bytes pong             # owed to a peer that takes nothing: the latest only
    cdef uint8_t busy           # a Callback: the async one that has begun and not ended, 0 for none
    cdef flag stepping          # its first step runs just now
    cdef flag cancel_due        # `task` is to be cancelled when the turn ends
    cdef flag warned_of         # the log says that it runs for long
    cdef uint32_t began_at      # when it has begun, in milliseconds like Reactor.now

cdef struct Deadlines:          # what they are reckoned from; times are in milliseconds like Reactor.now
    uint32_t heard_at           # when the last byte came
    uint32_t pinged_at
    uint32_t message_at         # when the message in progress began
    uint32_t asked_at           # when our kernel was asked what it knows of the peer's
    uint16_t in_flight          # what was on its way at the last deadline of the end, in units of PROGRESS
    uint16_t pongs_due          # for Pings of ours; these cost the peer nothing
    uint8_t unanswered          # how many times in a row our kernel has said that the peer's does not answer
    flag in_message, ping_sent
    flag peer_left              # it sends nothing more

cdef class WebSocket(Socket):
    cdef object __weakref__
    cdef Route route
    cdef Handshake handshake    # opening
    cdef Inbox inbox            # message
    cdef Deflation deflation    # compressing; None without compression
    cdef Deadlines deadlines
    # callbacks
    cdef Asides asides
    cdef flag calling           # one runs just now
    cdef flag is_text_message
    # sending
    cdef flag drain_due
    # limits
    cdef flag has_place         # among max_connections
    cdef Bucket messages, controls
    # topics
    cdef uint32_t subscribed    # to how many
    cdef Subscription *subscriptions_at
    # ending
    cdef uint8_t phase          # a Phase
    cdef flag close_due
    cdef uint16_t close_code
    cdef uint32_t since         # when the phase began; while it is OPEN and the peer has left: since when that waits
    cdef str close_reason
    # what the application sees
    cdef readonly uint64_t id
    cdef public object data
    cdef readonly str path, query_string, subprotocol
    cdef readonly object path_params
    cdef object kept_request    # until the request is answered; then None unless the route keeps it
    # receive
    cdef Py_ssize_t read_frames(self, uint8_t *data, size_t n) except -1
    cdef int handle(self, EventKind kind, Event *event) except -1
    cdef int received(self, bint finished, bint rest) except -1
    # end
    cdef bint is_busy(self) noexcept
    cdef int enter(self, uint8_t phase) noexcept
    cdef int end_if_finished(self) except -1
    # helpers
    cdef Asides aside(self)
