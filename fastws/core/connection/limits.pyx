# Limits on how many connections there may be, and on how often a peer may do what costs us something.

cdef str limits_place(WebSocket ws):
    """Takes a place among the connections for a request that is complete; or names the option that is against it."""
    cdef Service service = service_of(ws)
    if service.max_connections and service.placed >= service.max_connections:
        return "max_connections"
    if service.max_connections_per_ip:
        key = address_key(&ws.address)
        count = service.placed_from.get(key, 0)
        if key is not None and count >= service.max_connections_per_ip:
            return "max_connections_per_ip"
        service.placed_from[key] = count + 1
    service.placed += 1
    ws.has_place = True
    return None


cdef int limits_leave(WebSocket ws) except -1:
    """Gives the place back, if it has one."""
    cdef Service service = service_of(ws)
    if not ws.has_place:
        return 0
    if service.max_connections_per_ip:
        key = address_key(&ws.address)
        count = service.placed_from[key] - 1
        if count:
            service.placed_from[key] = count
        else:
            del service.placed_from[key]
    ws.has_place = False
    service.placed -= 1
    return 0


cdef void bucket_fill(Bucket *bucket, float rate, uint32_t now) noexcept nogil:
    """Two seconds' worth; at least one."""
    bucket.tokens = max(<float>1, 2 * rate)
    bucket.at = now


cdef bint bucket_take(Bucket *bucket, float rate, uint32_t now) noexcept nogil:
    """Takes a token out of a bucket into which `rate` fall per second; False where there is none."""
    bucket.tokens = min(max(<float>1, 2 * rate), bucket.tokens + <float>(now - bucket.at) * rate / 1000)
    bucket.at = now
    if bucket.tokens < 1:
        return False
    bucket.tokens -= 1
    return True


cdef bint limits_allow(WebSocket ws, EventKind kind) except -1:
    """Whether the peer may send this now; if not, the connection has been failed. A compressed message has not been
    inflated yet: what depends on its length or content belongs in callback_message()."""
    cdef Route route = ws.route
    if kind == EVENT_MESSAGE:
        if route.max_message_rate and not bucket_take(&ws.messages, route.max_message_rate, ws.reactor.now):
            ending_fail(ws, "max_message_rate", 1008, "over max_message_rate")
            return False
    elif kind == EVENT_PONG and ws.deadlines.pongs_due:
        ws.deadlines.pongs_due -= 1
    elif route.max_control_rate and not bucket_take(&ws.controls, route.max_control_rate, ws.reactor.now):
        ending_fail(ws, "max_control_rate", 1008, "over max_control_rate")
        return False
    return True
