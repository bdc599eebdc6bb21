# What the application decided, in the form that the connections read: one Service per server, one Route per path.

@cython.final
cdef class Service:
    """What the connections of a server are for.

    options: the App's fastws.Options; find_websocket, find_http: path to look up -> (Route or http callback, path
    parameters), or None; max_connections: as many as there is room for; user_timeout: seconds, 0 where the kernel does
    not tell what a peer has acknowledged.
    """

    def __cinit__(self, *args, **options):
        self.hub = Hub()
        self.codec = Codec()
        self.topics = {}
        self.placed_from = {}
        self.refused = dict.fromkeys(REFUSED, 0)
        self.closed = dict.fromkeys(CLOSED, 0)

    def __init__(
        self, options not None, *, Hub hub not None, find_websocket, find_http, Py_ssize_t max_connections,
        double user_timeout,
    ):
        self.hub = hub
        self.max_connections = max_connections
        self.max_connections_per_ip = options.max_connections_per_ip
        self.head_limits = HeadLimits(options.max_header_size, options.max_request_line, options.max_headers)
        self.find_websocket = find_websocket
        self.find_http = find_http
        self.allowed_hosts = options.allowed_hosts
        self.handshake_timeout = _milliseconds(options.handshake_timeout)
        self.quarter_user_timeout = _milliseconds(user_timeout / 4)
        self.close_timeout = _milliseconds(options.close_timeout)

    def _deliver(self, topic, PreparedMessage message not None, int wish):
        """For a publisher in another thread."""
        topics_publish(self, topic, message, wish, None)


@cython.final
cdef class Route:
    """The callbacks and limits of a WebSocket route.

    callbacks: by name, None for those that there are not; options: the route's fastws.Options; agree: (offers, whether
    to accept client takeover) -> Agreement or None; None where there is no compression.
    """

    def __init__(self, dict callbacks not None, options not None, agree):
        self.upgrade, self.open, self.message = callbacks["upgrade"], callbacks["open"], callbacks["message"]
        self.drain, self.ping, self.pong = callbacks["drain"], callbacks["ping"], callbacks["pong"]
        self.close = callbacks["close"]
        self.origins = options.origins
        self.limits.max_message_size = options.max_message_size
        self.limits.max_fragments = options.max_fragments
        self.high_water, self.low_water = options.high_water, options.low_water
        self.max_backpressure = options.max_backpressure
        self.max_waiting = options.max_waiting
        self.max_topics = options.max_topics
        self.max_message_rate, self.max_control_rate = options.max_message_rate, options.max_control_rate
        self.close_timeout = _milliseconds(options.close_timeout)
        self.message_timeout = _milliseconds(options.message_timeout)
        self.ping_interval = _milliseconds(options.ping_interval)
        self.ping_timeout = _milliseconds(options.ping_timeout)
        self.send_timeout = _milliseconds(options.send_timeout)
        self.text_as_utf8 = options.text == "utf8"
        self.binary_as_view = options.binary == "view"
        self.drop_when_slow = options.slow_consumer == "drop"
        self.keep_request = options.keep_request
        self.agree = agree
        deflate = options.deflate
        if deflate is not None:
            self.deflate.level = deflate.level
            self.deflate.window_bits = deflate.window_bits
            self.deflate.mem_level = deflate.mem_level
            self.deflate.history = deflate.history
            self.deflate.threshold = deflate.threshold
            self.deflate.history_timeout = _milliseconds(deflate.history_timeout)
            self.deflate.max_inflater_memory = deflate.max_inflater_memory


cdef inline Service service_of(WebSocket ws):
    return <Service>ws.crowd


cdef uint32_t _milliseconds(double seconds) noexcept:
    """At least 1 where it is not 0."""
    return 0 if seconds <= 0 else max(<uint32_t>1, <uint32_t>(seconds * 1000))
