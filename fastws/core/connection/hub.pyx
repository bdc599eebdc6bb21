# The hub: the topics of an App over all its servers, and those that watch them, as a link to another process does.

@cython.final
cdef class Hub:
    """The topics of an App, over all its servers. Of each server only its own thread touches the subscribers."""

    def __cinit__(self):
        self.services = []
        self.watchers = []
        self.wanted = set()
        self.plain = Block()
        self.packed = Block()

    def publish(self, topic, data, compress=None, WebSocket sender=None):
        """Sends data to the subscribers of a topic but `sender`, and tells the watchers of it. Returns to how many
        subscribers of this thread's servers it was sent."""
        cdef PreparedMessage message
        cdef Py_ssize_t handed
        cdef int wish = compressing_wish(compress)
        topic = topic_name(topic)
        if isinstance(data, PreparedMessage):
            message = data
            prepared_check(message)
        else:
            message = prepared_in(self, data, False)
        handed = self._deliver(topic, message, wish, sender)
        if self.watchers:
            _tell(self.watchers, "published", topic, message)
        return handed

    def deliver(self, topic, PreparedMessage message not None):
        """As publish(), but tells no watcher: for what has come from elsewhere."""
        prepared_check(message)
        return self._deliver(topic_name(topic), message, compressing_wish(None), None)

    cdef Py_ssize_t _deliver(self, topic, PreparedMessage message, int wish, WebSocket sender) except -1:
        cdef Service service
        cdef Py_ssize_t handed = 0
        for service in list(self.services):
            if service.reactor.loop.is_closed():        # without the server having been stopped
                continue
            if service.reactor.is_here():
                handed += topics_publish(service, topic, message, wish, sender)
                continue
            try:
                service.reactor.loop.call_soon_threadsafe(service._deliver, topic, message, wish)
            except RuntimeError:        # that loop was closed just now
                pass
        return handed

    def num_subscribers(self, topic):
        """How many connections are subscribed, of all servers."""
        return self._count(topic_name(topic))

    def subscribers(self, topic):
        """The connections that are subscribed, of all servers of this process, in no order."""
        cdef Service service
        cdef list found = []
        topic = topic_name(topic)
        for service in list(self.services):
            if not service.reactor.loop.is_closed():
                topics_list(service, topic, found)
        return found

    cdef Py_ssize_t _count(self, topic) except -1:
        cdef Service service
        cdef Topic found
        cdef Py_ssize_t total = 0
        for service in list(self.services):
            found = service.topics.get(topic)
            if found is not None and not service.reactor.loop.is_closed():
                total += found.count - found.holes
        return total

    def watch(self, watcher):
        """Tells `watcher` of changes from now on. Any thread of a server may call it.

        first_subscriber(topic): there is one now, and was none. It is called before `subscribe` returns, so that what
            the watcher sends then leaves before the subscriber's answer; and now, for each topic that has subscribers.
            Where it raises, `subscribe` does, and has done nothing.
        last_subscriber(topic): there is none any more. It is called in the loop's iteration after the last one left.
            With servers in several threads, a topic that loses and gains one at once may be reported as gained twice.
        published(topic, message): what publish() was given, as a PreparedMessage, after it was sent to subscribers.
        """
        cdef Service service
        self.watchers.append(watcher)
        try:
            for service in list(self.services):
                self.wanted.update(service.topics)
            for topic in list(self.wanted):
                watcher.first_subscriber(topic)
        except BaseException:
            self.unwatch(watcher)
            raise

    def unwatch(self, watcher):
        self.watchers.remove(watcher)
        if not self.watchers:
            self.wanted.clear()

    def _look_again(self, topic):
        """It had no subscriber left in one of the servers."""
        if topic in self.wanted and not self._count(topic):
            self.wanted.discard(topic)
            _tell(self.watchers, "last_subscriber", topic)
            if topic in self.wanted:        # a server in another thread has gained one, and may have been quicker
                _tell(self.watchers, "first_subscriber", topic)


def _tell(list watchers, str change, *arguments):
    """Tells all of them, although one may raise."""
    error = None
    for watcher in tuple(watchers):
        try:
            getattr(watcher, change)(*arguments)
        except BaseException as raised:
            error = raised
    if error is not None:
        raise error


cdef int hub_gained(Hub hub, str topic) except -1:
    """A server has a first subscriber of the topic. Where a watcher raises, at the recursion limit say, this does,
    those before it are told that there is none, and the next subscriber is the first."""
    cdef list told = []
    if hub.watchers and topic not in hub.wanted:
        hub.wanted.add(topic)
        try:
            for watcher in tuple(hub.watchers):
                watcher.first_subscriber(topic)
                told.append(watcher)
        except BaseException:
            hub.wanted.discard(topic)
            try:
                _tell(told, "last_subscriber", topic)
            except Exception:
                pass
            raise
    return 0


cdef int hub_lost(Hub hub, Service service, str topic) noexcept:
    """A server has lost its last subscriber of the topic. Where the loop cannot be asked for a call, the watchers go on
    believing that there is one, and are sent more than is needed."""
    if hub is not None and hub.watchers:
        try:
            service.reactor.loop.call_soon(hub._look_again, topic)
        except Exception:
            pass
    return 0
