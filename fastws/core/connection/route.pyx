# What the application decided for one path, in the form that its connections read.

#: By Callback.
cdef tuple CALLBACK_NAMES = ("", "upgrade", "open", "message", "drain", "ping", "pong", "close")


def http_title(str path not None, callback):
    """What the log calls the callback of an http route."""
    return callback_title("http", path, callback)


cdef str callback_title(str name, str path, callback):
    """What the log calls a callback, as a part of a form: its name, its route, where it is defined, and the handler's
    class if that inherits it. Made with the route: what it asks of the callback may run any code."""
    cdef str where
    try:
        while isinstance(callback, partial):
            callback = callback.func
        owner = getattr(callback, "__self__", None)
        named = callback if hasattr(callback, "__qualname__") else type(callback)      # of a callable object
        where = f"{named.__module__}.{named.__qualname__}"
        if owner is not None and not (isinstance(owner, type) or isinstance(owner, ModuleType)):
            if type(owner).__qualname__ != named.__qualname__.rpartition(".")[0]:
                where = f"{where}, of {type(owner).__qualname__}"
    except Exception:                       # its attributes may be code, too
        where = type(callback).__qualname__
    return f'{name} callback of "{path}" ({where})'.replace("%", "%%")


@cython.final
cdef class Route:
    """The callbacks and limits of a WebSocket route.

    path: its pattern, as the application gave it; callbacks: by name, None for those that there are not; options: the
    route's fastws.Options; agree: (offers, whether to accept client takeover) -> Agreement or None; None where there is
    no compression.
    """

    def __init__(self, str path not None, dict callbacks not None, options not None, agree):
        self.path = path
        self.upgrade, self.open, self.message = callbacks["upgrade"], callbacks["open"], callbacks["message"]
        self.drain, self.ping, self.pong = callbacks["drain"], callbacks["ping"], callbacks["pong"]
        self.close = callbacks["close"]
        self.callbacks = tuple([callbacks.get(name) for name in CALLBACK_NAMES])
        self.titles = tuple([callback_title(name, path, callbacks.get(name)) for name in CALLBACK_NAMES])
        self.origins = options.origins
        self.limits.max_message_size = options.max_message_size
        self.limits.max_fragments = options.max_fragments
        self.high_water, self.low_water = options.high_water, options.low_water
        self.max_backpressure, self.max_burst = options.max_backpressure, options.max_burst
        self.max_waiting = options.max_waiting
        self.max_topics = options.max_topics
        self.max_message_rate, self.max_control_rate = options.max_message_rate, options.max_control_rate
        self.close_timeout = milliseconds(options.close_timeout)
        self.message_timeout = milliseconds(options.message_timeout)
        self.ping_interval = milliseconds(options.ping_interval)
        self.ping_timeout = milliseconds(options.ping_timeout)
        self.send_timeout = milliseconds(options.send_timeout)
        self.text_as_utf8 = options.text == "utf8"
        self.binary_as_view = options.binary == "view"
        self.drop_when_slow = options.slow_consumer == "drop"
        self.keep_request = options.keep_request
        self.cancel_on_disconnect = options.cancel_on_disconnect
        self.agree = agree
        deflate = options.deflate
        if deflate is not None:
            self.deflate.level = deflate.level
            self.deflate.window_bits = deflate.window_bits
            self.deflate.mem_level = deflate.mem_level
            self.deflate.history = deflate.history
            self.deflate.threshold = deflate.threshold
            self.deflate.history_timeout = milliseconds(deflate.history_timeout)
            self.deflate.max_inflater_memory = deflate.max_inflater_memory


cdef inline Service service_of(WebSocket ws):
    return <Service>ws.crowd


cdef uint32_t milliseconds(double seconds) noexcept:
    """At least 1 where it is not 0."""
    return 0 if seconds <= 0 else max(<uint32_t>1, <uint32_t>(seconds * 1000))
