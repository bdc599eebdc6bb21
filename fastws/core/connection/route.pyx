# What the application decided, in the form that the connections read: one Service per server, one Route per path.

@cython.final
cdef class Service:
    """What the connections of a server are for. Durations in seconds; 0 is off, also of a maximum.

    find_websocket, find_http: path to look up -> (Route or http callback, path parameters), or None.
    """

    def __cinit__(self, *args, **options):
        self.hub = Hub()
        self.codec = Codec()
        self.topics = {}
        self.placed_from = {}
        self.refused = dict.fromkeys(REFUSED, 0)
        self.closed = dict.fromkeys(CLOSED, 0)

    def __init__(
        self, *, Hub hub not None, find_websocket, find_http, allowed_hosts,
        size_t max_header_size, size_t max_request_line, size_t max_headers,
        Py_ssize_t max_connections, Py_ssize_t max_connections_per_ip,
        double handshake_timeout, double close_timeout, double user_timeout,
    ):
        self.hub = hub
        self.max_connections = max_connections
        self.max_connections_per_ip = max_connections_per_ip
        self.head_limits = HeadLimits(max_header_size, max_request_line, max_headers)
        self.find_websocket = find_websocket
        self.find_http = find_http
        self.allowed_hosts = allowed_hosts
        self.handshake_timeout = _milliseconds(handshake_timeout)
        self.quarter_user_timeout = _milliseconds(user_timeout / 4)
        self.close_timeout = _milliseconds(close_timeout)

    def _deliver(self, topic, PreparedMessage message not None, int wish):
        """For a publisher in another thread."""
        topics_publish(self, topic, message, wish, None)


@cython.final
cdef class Route:
    """The callbacks (or None each) and the limits of a WebSocket route. Seconds, and rates per second; 0 is off.

    deflate: a fastws.Deflate; agree: (offers, whether to accept client takeover) -> Agreement or None. Or None both."""

    def __init__(
        self, *, upgrade, open, message, drain, ping, pong, close, origins,
        uint64_t max_message_size, uint32_t max_fragments, size_t high_water, size_t low_water,
        size_t max_backpressure, Py_ssize_t max_waiting, uint32_t max_topics,
        double max_message_rate, double max_control_rate,
        double close_timeout, double message_timeout, double ping_interval, double ping_timeout, double send_timeout,
        bint text_as_utf8, bint binary_as_view, bint drop_when_slow, bint keep_request, deflate, agree,
    ):
        self.upgrade, self.open, self.message, self.drain = upgrade, open, message, drain
        self.ping, self.pong, self.close = ping, pong, close
        self.origins = origins
        self.limits.max_message_size = max_message_size
        self.limits.max_fragments = max_fragments
        self.high_water, self.low_water = high_water, low_water
        self.max_backpressure = max_backpressure
        self.max_waiting = max_waiting
        self.max_topics = max_topics
        self.max_message_rate, self.max_control_rate = max_message_rate, max_control_rate
        self.close_timeout = _milliseconds(close_timeout)
        self.message_timeout = _milliseconds(message_timeout)
        self.ping_interval = _milliseconds(ping_interval)
        self.ping_timeout = _milliseconds(ping_timeout)
        self.send_timeout = _milliseconds(send_timeout)
        self.text_as_utf8 = text_as_utf8
        self.binary_as_view = binary_as_view
        self.drop_when_slow = drop_when_slow
        self.keep_request = keep_request
        if deflate is not None:
            self.agree = agree
            self.deflate.level = deflate.level
            self.deflate.window_bits = deflate.window_bits
            self.deflate.mem_level = deflate.mem_level
            self.deflate.history = deflate.history
            self.deflate.threshold = deflate.threshold
            self.deflate.history_timeout = _milliseconds(deflate.history_timeout)
            self.deflate.max_inflater_memory = deflate.max_inflater_memory


cdef uint32_t _milliseconds(double seconds) noexcept:
    """At least 1 where it is not 0."""
    return 0 if seconds <= 0 else max(<uint32_t>1, <uint32_t>(seconds * 1000))
