# Topics: who is subscribed to what on one server, and one frame for all of them.
#
# A topic lists its subscribers in an array, and each connection its topics; both sides know where the other names them,
# so that joining and leaving cost the same however many subscribers there are. Which of its own topics one is, a
# connection looks for: it has few, and at most max_topics.

cdef enum:
    MAX_TOPIC_NAME = 255        # bytes of UTF-8


@cython.final
cdef class Topic:
    def __cinit__(self, str name not None):
        self.name = name

    def __dealloc__(self):
        PyMem_Free(self.slots)


cdef object topic_name(name):
    """A topic's name, checked, as a str that runs no Python code of a subclass when it is looked up."""
    if not isinstance(name, str):
        raise TypeError(f"a topic is a str, got {type(name).__name__}: give its name, 'chat/1' say")
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(name)
    name = PyUnicode_FromObject(name)
    if not PyUnicode_IS_COMPACT_ASCII(name):
        size = PyBytes_GET_SIZE(PyUnicode_AsUTF8String(name))
    if not 0 < size <= MAX_TOPIC_NAME:
        advice = f"shorten {name[:40]!r}" if size else "give it a name"
        raise ValueError(f"a topic's name is 1 to {MAX_TOPIC_NAME} bytes of UTF-8, got {size}: {advice}")
    return name


cdef Py_ssize_t topics_publish(
    Service service, name, PreparedMessage message, int wish, WebSocket sender
) except -1:
    """Returns how many connections took it. A subscriber that leaves meanwhile leaves a hole, so no other is skipped.
    One that joins is added behind the end."""
    cdef Topic topic = service.topics.get(name)
    cdef WebSocket ws                   # held: a destructor that a garbage collection runs may end it
    cdef Py_ssize_t handed = 0
    cdef uint32_t i
    if topic is None:
        return 0
    topic.publishing += 1
    try:
        for i in range(topic.count):
            if topic.slots[i].ws != NULL and topic.slots[i].ws != <PyObject *>sender:
                ws = <WebSocket>topic.slots[i].ws
                if sending_continues(ws, message) or sending_prepared(ws, message, wish) != IS_DROPPED:
                    handed += 1
    finally:
        topic.publishing -= 1
        if topic.holes and not topic.publishing:
            _fill_holes(topic)
            _forget_if_empty(service, topic)
    return handed


cdef int topics_list(Service service, name, list found) except -1:
    """Appends the subscribers. In another thread than the server's, and where a collection of garbage runs destructors,
    the array may change between two of them."""
    cdef Topic topic = service.topics.get(name)
    cdef uint32_t i = 0
    while topic is not None and i < topic.count:
        if topic.slots[i].ws != NULL:
            found.append(<WebSocket>topic.slots[i].ws)
        i += 1
    return 0


cdef Py_ssize_t _find(WebSocket ws, Topic topic) noexcept:
    """Which of its subscriptions is to the topic; -1 if none."""
    cdef uint32_t i
    if topic is not None:
        for i in range(ws.subscribed):
            if ws.subscriptions_at[i].topic == <PyObject *>topic:
                return i
    return -1


cdef bint topics_has(WebSocket ws, name) except -1:
    name = topic_name(name)
    return ws.subscribed > 0 and _find(ws, service_of(ws).topics.get(name)) >= 0


cdef tuple topics_of(WebSocket ws):
    return tuple([(<Topic>ws.subscriptions_at[i].topic).name for i in range(ws.subscribed)])


cdef bint topics_join(WebSocket ws, name) except -1:
    """Returns whether it was not there before."""
    cdef Topic topic
    cdef Py_ssize_t at
    name = topic_name(name)
    if ws.phase != PHASE_OPEN:
        return False
    check_thread(ws)
    topic = service_of(ws).topics.get(name)
    if _find(ws, topic) >= 0:
        return False
    if ws.subscribed >= ws.route.max_topics:
        raise RuntimeError(f"{name[:40]!r} is over max_topics={ws.route.max_topics} of this connection")
    if topic is None:
        topic = Topic(name)
    topic.slots = <Slot *>_fitted(topic.slots, topic.count, sizeof(Slot))
    ws.subscriptions_at = <Subscription *>_fitted(ws.subscriptions_at, ws.subscribed, sizeof(Subscription))
    if topic.count == 0:
        service_of(ws).topics[topic.name] = topic
    Py_INCREF(topic)
    topic.slots[topic.count].ws = <PyObject *>ws
    topic.slots[topic.count].subscription = ws.subscribed
    ws.subscriptions_at[ws.subscribed].topic = <PyObject *>topic
    ws.subscriptions_at[ws.subscribed].slot = topic.count
    topic.count += 1
    ws.subscribed += 1
    if topic.count - topic.holes == 1:
        try:
            hub_gained(service_of(ws).hub, topic.name)
        except BaseException:
            at = _find(ws, topic)
            if at >= 0:                     # a watcher may have ended the connection
                _leave(ws, <uint32_t>at)
            raise
    return True


cdef void *_fitted(void *array, uint32_t count, size_t item) except NULL:
    """The array with room for one more than count. Capacities are powers of two, so only at those is anything done."""
    cdef void *moved = array
    if count & (count - 1) == 0:
        moved = PyMem_Realloc(array, max(<size_t>1, <size_t>count * 2) * item)
        if moved == NULL:
            raise MemoryError
    return moved


cdef bint topics_quit(WebSocket ws, name) except -1:
    """Returns whether it was there."""
    cdef Py_ssize_t at
    name = topic_name(name)
    if not ws.subscribed:
        return False
    check_thread(ws)
    at = _find(ws, service_of(ws).topics.get(name))
    if at >= 0:
        _leave(ws, <uint32_t>at)
    return at >= 0


cdef int topics_leave(WebSocket ws) noexcept:
    """Leaves all topics."""
    while ws.subscribed:
        _leave(ws, ws.subscribed - 1)
    return 0


cdef int _leave(WebSocket ws, uint32_t at) noexcept:
    cdef Subscription gone = ws.subscriptions_at[at]
    cdef Subscription *moved = &ws.subscriptions_at[ws.subscribed - 1]
    cdef Topic topic = <Topic>gone.topic
    (<Topic>moved.topic).slots[moved.slot].subscription = at
    ws.subscriptions_at[at] = moved[0]
    ws.subscribed -= 1
    if not ws.subscribed:
        PyMem_Free(ws.subscriptions_at)
        ws.subscriptions_at = NULL
    topic.holes += 1
    topic.slots[gone.slot].ws = NULL
    Py_DECREF(topic)                        # the subscription held it
    if topic.publishing:
        return 0
    _fill_hole(topic, gone.slot)
    return _forget_if_empty(service_of(ws), topic)


cdef int _fill_hole(Topic topic, uint32_t at) noexcept:
    """The last subscriber moves into the hole, unless that is the last itself."""
    cdef Slot *last = &topic.slots[topic.count - 1]
    if last.ws != NULL:
        (<WebSocket>last.ws).subscriptions_at[last.subscription].slot = at
        topic.slots[at] = last[0]
    topic.count -= 1
    topic.holes -= 1
    return 0


cdef int _fill_holes(Topic topic) noexcept:
    cdef uint32_t at = topic.count
    while topic.holes:                      # from the end, so that none comes after the one that is filled
        at -= 1
        if topic.slots[at].ws == NULL:
            _fill_hole(topic, at)
    return 0


cdef int _forget_if_empty(Service service, Topic topic) noexcept:
    # None where a collection of garbage has cut them off.
    if not topic.count and service is not None and service.topics is not None and topic.name in service.topics:
        del service.topics[topic.name]
        hub_lost(service.hub, service, topic.name)
    return 0
