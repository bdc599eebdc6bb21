# A peer's address: kept as 20 bytes, made into a Python object when it is asked for.

cdef const char *V4_MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"     # RFC 4291 section 2.5.5.2


cdef int address_accept(int listener, Address *address) noexcept nogil:
    """accept4, non-blocking and close-on-exec, with the peer's address; -1 with errno set where it fails."""
    cdef sockaddr_storage storage
    cdef socklen_t size = sizeof(storage)
    cdef int fd = accept4(listener, <sockaddr *>&storage, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if fd >= 0:
        address_store(address, &storage)
    return fd


cdef void address_store(Address *address, const sockaddr_storage *storage) noexcept nogil:
    memset(address, 0, sizeof(Address))
    address.family = storage.ss_family
    if storage.ss_family == AF_INET:
        address.port = ntohs((<const sockaddr_in *>storage).sin_port)
        memcpy(address.host, &(<const sockaddr_in *>storage).sin_addr, 4)
    elif storage.ss_family == AF_INET6:
        address.port = ntohs((<const sockaddr_in6 *>storage).sin6_port)
        memcpy(address.host, &(<const sockaddr_in6 *>storage).sin6_addr, 16)


cdef int address_set(Address *address, bytes host, uint16_t port) noexcept:
    """host: 4 or 16 bytes in the order of the wire, or none for a Unix socket."""
    cdef size_t n = <size_t>PyBytes_GET_SIZE(host)
    memset(address, 0, sizeof(Address))
    address.family = AF_INET if n == 4 else AF_INET6 if n == 16 else AF_UNIX
    address.port = port
    memcpy(address.host, PyBytes_AS_STRING(host), min(n, sizeof(address.host)))
    return 0


cdef object address_object(const Address *address):
    """(host, port), or None for a Unix socket, whose peers have no address."""
    if address.family == AF_INET:
        return inet_ntop(AF_INET, (<const char *>address.host)[:4]), address.port
    if address.family == AF_INET6:
        return inet_ntop(AF_INET6, (<const char *>address.host)[:16]), address.port
    return None


cdef object address_key(const Address *address):
    """Equal for those who count as one peer: an IPv4 address, or an IPv6 /64, which one customer has (RFC 6177). None
    for a Unix socket."""
    cdef const uint8_t *host = <const uint8_t *>address.host
    if address.family == AF_INET:
        return (<const char *>host)[:4]
    if address.family == AF_INET6:
        if memcmp(host, V4_MAPPED, 12) == 0:
            return (<const char *>host)[12:16]
        return (<const char *>host)[:8]
    return None


cdef object address_local(int fd):
    """Our own end of a connected socket, as address_object()."""
    cdef sockaddr_storage storage
    cdef socklen_t size = sizeof(storage)
    cdef Address address
    if fd < 0 or getsockname(fd, <sockaddr *>&storage, &size) < 0:
        return None
    address_store(&address, &storage)
    return address_object(&address)
