"""Sockets before they are served: listening ones, opened or given, and connected ones that are adopted."""

import asyncio
import errno
import fcntl
import os
import re
import socket
import stat
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

INTERNET = (socket.AF_INET, socket.AF_INET6)
LONGEST_PATH = 107  # bytes (unix(7)); an abstract name has a NUL in front of as many
LARGEST_BACKLOG = 2**31 - 1  # listen(2) takes an int; the system has another limit
LOCK_TIMEOUT = 1.0  # seconds; a lock is held for a few system calls

#: Sockets that were given and are served: they are closed at the end, so a socket that is open has no second server.
_given: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class SocketFile:
    """The file of a Unix socket, which outlives its server."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # the server may change its directory
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def remove(self) -> None:
        """Remove it, unless a server that was started since has put its own there."""
        with _folder_locked(self._path):
            if self._look() == self._identity is not None:
                os.unlink(self._path)


@contextmanager
def _folder_locked(path: str) -> Iterator[None]:
    """Between finding out whose a socket's file is and removing it, no other fastws puts its own there. The lock is the
    folder's, so that no file is left behind. Where the folder cannot be read or locked, or another program holds the
    lock for longer than LOCK_TIMEOUT, go on without it: else no server could start."""
    try:
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        until = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno == errno.EWOULDBLOCK and time.monotonic() < until:
                    time.sleep(0.005)
                    continue
            break
        yield
    finally:
        os.close(folder)


def judge_address(host: object, port: object) -> None:
    """TypeError or ValueError for what can be no host and port."""
    if isinstance(host, int) and not isinstance(host, bool):
        raise TypeError(f"host is a name or an address, got {host!r}: write port={host!r}")
    if host is not None and not isinstance(host, str):
        raise TypeError(f"host is a name or an address, or None for every interface, got {host!r}")
    if isinstance(port, bool) or not isinstance(port, int):
        meant = port.strip() if isinstance(port, str) else ""
        right = f"write port={int(meant)}" if meant.isdecimal() else "give 0 to 65535, 0 for any that is free"
        raise TypeError(f"port is a whole number, got {port!r}: {right}")
    if not 0 <= port <= 65_535:  # getaddrinfo() would take it modulo 65,536
        raise ValueError(f"port={port} is out of range: give 0 to 65535, 0 for any that is free")
    if host is None:
        return
    if host == "*":
        raise ValueError("host='*' is no name: write host='0.0.0.0', or host=None for every interface")
    if host.isdecimal():  # it would be 0.0.0.80
        raise ValueError(f"host={host!r} is no name or address: write port={int(host)}")
    if of_unix := re.fullmatch("(?:unix:)?(/.+)", host):
        raise ValueError(f"host={host!r} is no name or address: for a Unix socket write uds={of_unix[1]!r}")
    if bracketed := re.fullmatch(r"\[([^\[\]]+)\]", host):
        raise ValueError(f"host={host!r} is no name: write host={bracketed[1]!r}")
    parts = re.fullmatch(r"(?:\w+://)?(?:\[([^\[\]]+)\]|([^:/]+))(?::(\d+))?(?:/.*)?", host)
    if parts is not None and host not in parts.groups():
        right = f"host={parts[1] or parts[2]!r}" + (f", port={parts[3]}" if parts[3] else "")
        raise ValueError(f"host={host!r} is not a name or an address alone: write {right}")


def judge_socket(sock: object) -> None:
    """TypeError or ValueError for what is no bound stream socket, or is one that has a server already."""
    if not isinstance(sock, socket.socket):
        of_a_number = isinstance(sock, int) and not isinstance(sock, bool)
        right = f"write socket.socket(fileno={sock})" if of_a_number else "give one that is bound"
        raise TypeError(f"sock is a socket.socket, got {sock!r}: {right}")
    if sock in _given and sock.fileno() >= 0:
        raise ValueError(f"{sock!r} has a server already, which closes it at its end: for another one give sock.dup()")
    if sock.fileno() < 0:
        raise ValueError(f"{sock!r} is closed: open and bind another one")
    if hasattr(sock, "do_handshake"):
        raise ValueError(f"{sock!r} is a TLS socket: give a plain one, with a proxy in front for TLS")
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
        raise ValueError(f"{sock!r} is no stream socket: make it with socket.SOCK_STREAM")
    with suppress(OSError):
        sock.getpeername()
        raise ValueError(f"{sock!r} is a connection: have a server adopt() it; sock= is for a listening socket")
    name = sock.getsockname()
    if (sock.family in INTERNET and not name[1]) or (sock.family == socket.AF_UNIX and not name):
        raise ValueError(f"{sock!r} is bound to no address, and the system would choose one: bind() it first")


def judge_permissions(permissions: object, uds: str | None) -> None:
    """TypeError or ValueError for what can be no permissions of this Unix socket."""
    if permissions is None:
        return
    if uds is None or uds.startswith("\0"):
        raise ValueError("uds_permissions are those of a Unix socket's file: give its path in uds=, or leave them out")
    octal = re.fullmatch("(?:0[oO]?)?([0-7]{3})", str(permissions))
    right = f"write 0o{octal[1]}" if octal else "write 0o660 for yourself and your group, say"
    if isinstance(permissions, bool) or not isinstance(permissions, int):
        raise TypeError(f"uds_permissions is a whole number, got {permissions!r}: {right}")
    if not 0 <= permissions <= 0o777:
        raise ValueError(f"uds_permissions={permissions} is out of range: {right}")


def judge_backlog(backlog: int) -> None:
    """Raises before there is a socket that could not listen."""
    if isinstance(backlog, bool) or not isinstance(backlog, int):
        raise TypeError(f"backlog is a whole number, got {backlog!r}: give 1 to {LARGEST_BACKLOG}")
    if not 1 <= backlog <= LARGEST_BACKLOG:
        raise ValueError(f"backlog={backlog} is out of range: give 1 to {LARGEST_BACKLOG}")


def path_of(uds: object) -> str:
    """The path of a Unix socket as a str. TypeError or ValueError for what can be none."""
    if not isinstance(uds, str | os.PathLike) or not isinstance(path := os.fspath(uds), str):
        raise TypeError(f"uds is the path of a Unix socket, a str or a Path, got {uds!r}")
    if not path:  # the system would choose a name
        raise ValueError("uds is empty: give the path of a Unix socket")
    if "\0" in path[1:] and path[0] != "\0":
        raise ValueError(f"uds={path!r} has a NUL in it: only an abstract name has, in front (unix(7))")
    return path


def open_unix_socket(path: str, backlog: int, permissions: int | None) -> tuple[socket.socket, SocketFile | None]:
    """A listening Unix socket and its file, with these permissions, in place of one that an earlier server left.

    OSError with EADDRINUSE where a server listens there; with EEXIST where what is there is no socket. A path that
    begins with a NUL is an abstract name, without a file (unix(7))."""
    if path.startswith("\0"):
        return open_socket(socket.AF_UNIX, path, backlog), None
    sock: socket.socket | None = None
    try:
        sock = socket.socket(socket.AF_UNIX)
        with _folder_locked(path):
            with suppress(FileNotFoundError):
                _remove_stale(path)
            sock.bind(path)
            try:
                file = SocketFile(path)
                if permissions is not None:
                    os.chmod(path, permissions)  # before it listens: until then nobody can connect
                return listening(sock, backlog), file
            except BaseException:
                os.unlink(path)
                raise
    except BaseException as error:
        raise _not_opened(sock, path, error) from None


def _remove_stale(path: str) -> None:
    """Remove the file of a Unix socket on which nobody listens; OSError where anything else is there."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        error = probe.connect_ex(path)
    if error in (0, errno.EAGAIN, errno.EPROTOTYPE):  # it answers, its backlog is full, it is no stream socket
        raise OSError(errno.EADDRINUSE, "the socket is already in use by a running program: stop that, or change uds")
    if error not in (errno.ECONNREFUSED, errno.ENOENT):
        raise OSError(error, f"cannot tell whether a program listens on the socket there: {os.strerror(error)}")
    os.unlink(path)


#: With port 0: how many ports are tried that have to be free on all addresses.
_ATTEMPTS = 10


async def open_sockets(host: str | None, port: int, *, backlog: int, reuse_port: bool) -> list[socket.socket]:
    """Listening sockets on all addresses of a host; OSError, with the address in it, where one cannot be had."""
    judge_address(host, port)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:  # the latter for a name that cannot be one, too long say
        reason = error.strerror if isinstance(error, socket.gaierror) else error
        raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {host} port {port}: {reason}") from None
    addresses = list(dict.fromkeys((entry[0], entry[4]) for entry in found))
    for _ in range(_ATTEMPTS):
        try:
            return _open_all(addresses, port, backlog, reuse_port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _open_all(addresses, port, backlog, reuse_port)


def _open_all(addresses: Sequence[tuple[int, Any]], port: int, backlog: int, reuse_port: bool) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in addresses:
            # With port 0 the second family gets the port that the first was given. Somebody may have it there.
            chosen = sockets[0].getsockname()[1] if sockets and port == 0 else address[1]
            try:
                sockets.append(open_socket(family, (address[0], chosen, *address[2:]), backlog, reuse_port))
            except OSError as error:
                # "localhost" is ::1, too, where IPv6 is off.
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def open_socket(family: int, address: Any, backlog: int, reuse_port: bool = False) -> socket.socket:
    """A listening, non-blocking socket."""
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        return listening(sock, backlog)
    except BaseException as error:
        raise _not_opened(sock, address, error) from None


def _not_opened(sock: socket.socket | None, address: Any, error: BaseException) -> BaseException:
    """Closes the socket. An OSError with the address in it, or what else was raised."""
    if sock is not None:
        sock.close()
    if not isinstance(error, OSError):
        return error
    if error.errno is None and sock is not None and sock.family == socket.AF_UNIX:  # Python's "AF_UNIX path too long"
        advice = f"a Unix socket's path has at most {LONGEST_PATH} bytes: shorten it, or give a relative one"
        error = OSError(errno.ENAMETOOLONG, advice)
    where = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else address
    return OSError(error.errno, f"cannot listen on {where}: {error.strerror or error}")


def open_given(sock: socket.socket, backlog: int) -> socket.socket:
    """The socket of the application, which judge_socket() has found right, ready to accept."""
    listening(sock, backlog)
    _given.add(sock)
    return sock


def listening(sock: socket.socket, backlog: int) -> socket.socket:
    """The bound socket, ready to accept, but for one that shares_port(). It may be listening already, as where systemd
    has opened it."""
    sock.setblocking(False)
    if speaks_tcp(sock):
        # Connections of ours that linger in TIME_WAIT inherit it, and only then can the next server bind.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it (tcp(7) on Linux), which saves a system call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not shares_port(sock):
        sock.listen(backlog)
    return sock


def shares_port(sock: socket.socket) -> bool:
    """Whether others may listen on its port. From listen(2) on the kernel gives it a share of the connections, so it
    listens only once they can be served: see listen_late()."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def listen_late(sock: socket.socket, backlog: int) -> None:
    """For a socket that shares_port(). OSError where another program listens on its port alone meanwhile."""
    try:
        sock.listen(backlog)
    except OSError as error:
        raise _not_opened(None, sock.getsockname(), error) from None


def speaks_tcp(sock: socket.socket) -> bool:
    """Whether it has the options of TCP. Multipath TCP has most of them; SCTP and Unix sockets have none."""
    return sock.family in INTERNET and sock.proto in (0, socket.IPPROTO_TCP, socket.IPPROTO_MPTCP)


def take_over(sock: socket.socket) -> socket.socket:
    """A socket object of ours for a connected stream socket, which is detached. Of what kind it is, the system says:
    `sock` may say what its maker believed. A socket that cannot be taken over is closed, too."""
    if not isinstance(sock, socket.socket):
        raise TypeError(
            f"a connection to adopt is a socket.socket, got {type(sock).__name__}: accept with loop.sock_accept(), say"
        )
    if sock.fileno() < 0:
        raise ValueError(f"{sock!r} is closed: it cannot be served")
    encrypted = hasattr(sock, "do_handshake")
    own = socket.socket(fileno=sock.detach())
    if encrypted or own.type != socket.SOCK_STREAM:
        own.close()
        raise ValueError(f"{sock!r} is {'a TLS socket' if encrypted else 'no stream socket'}: it cannot be served")
    return own


def prepare_connection(sock: socket.socket, user_timeout: float) -> None:
    """Give a connected socket what accepted ones inherit from their listening socket."""
    sock.setblocking(False)
    if speaks_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if user_timeout:
            find_the_vanished(sock, user_timeout)


def address_of(sock: socket.socket, peer: tuple[Any, ...] | None) -> tuple[bytes, int]:
    """The address of a connected socket's peer in the order of the wire, and its port; b"" for one that has none. Or
    those of `peer`, where it is given."""
    name = sock.getpeername()  # OSError where it is not connected
    if peer is None:
        if sock.family not in INTERNET:
            return b"", 0
        peer = name
    if not isinstance(peer, tuple) or len(peer) < 2:
        raise TypeError(f"peer={peer!r} is no address: give (host, port), ('192.0.2.1', 50000) say")
    host, port = peer[:2]  # of IPv6 there are four
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port {port!r} of the peer is no int")
    if not 0 <= port <= 65_535:
        raise ValueError(f"port {port} of the peer is out of range: give 0 to 65535")
    for family in INTERNET:
        with suppress(OSError, TypeError):
            return socket.inet_pton(family, host), port
    raise ValueError(f"{host!r} is no address: give the peer's as 192.0.2.1 or 2001:db8::1")


def tells_of_acknowledgements(sock: socket.socket) -> bool:
    """Whether the kernel tells when the peer acknowledged something last. Of Multipath TCP it tells only what the first
    path knows."""
    return speaks_tcp(sock) and sock.proto != socket.IPPROTO_MPTCP


def find_the_vanished(sock: socket.socket, seconds: float) -> None:
    """Have the kernel ask the peer's system whether it is there, once nothing has been under way for half of `seconds`,
    and end the connection if no answer comes within the rest. It does not ask while something is under way; then the
    server looks itself (deadlines.pyx). Accepted sockets inherit this from the listening one.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    half = min(max(1, round(seconds / 2)), 32_767)  # the most that Linux takes
    between = max(1, half // 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, half)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, max(1, round((seconds - half) / between)))


def url(family: int, name: Any) -> str:
    """`name` is what getsockname() gives; "vsock:3:8765" is one of a family without URLs."""
    if family in INTERNET:
        return f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"
    if family == socket.AF_UNIX:
        # An abstract Unix socket has bytes for a name, with a NUL in front, which is written as an @.
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{os.fsdecode(name[1:])}"
    parts = name if isinstance(name, tuple) else (name,)
    return ":".join(map(str, (getattr(family, "name", f"family {family}").removeprefix("AF_").lower(), *parts)))
