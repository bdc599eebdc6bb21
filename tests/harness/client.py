"""A blocking WebSocket client that does what it is told, right or wrong."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .frames import BINARY, CLOSE, CONT, PING, TEXT, BadFrame, Frame, build, build_close, close_code, frames
from .server import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

Headers = Iterable[tuple[str | bytes, str | bytes]]


class Ended(AssertionError):
    """The connection ended where more was expected."""


class HttpResponse(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def request_bytes(
    path: str = "/",
    *,
    method: str = "GET",
    version: str = "HTTP/1.1",
    host: str | None = "localhost",
    key: bytes | None = KEY,
    headers: Headers = (),
    without: tuple[str, ...] = (),
) -> bytes:
    """An opening handshake (RFC 6455 section 4.1); `without` names standard headers to leave out."""
    lines: list[tuple[str | bytes, str | bytes]] = []
    if host is not None:
        lines.append(("Host", host))
    lines += [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    if key is not None:
        lines.append(("Sec-WebSocket-Key", key))
    lines.append(("Sec-WebSocket-Version", "13"))
    lines = [line for line in lines if str(line[0]).lower() not in without]
    lines += headers
    head = f"{method} {path} {version}\r\n".encode("latin-1")
    for name, value in lines:
        head += _latin1(name) + b": " + _latin1(value) + b"\r\n"
    return head + b"\r\n"


def _latin1(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def reset_at_close(sock: socket.socket) -> None:
    """Lets closing this socket send an RST in place of a FIN: it lingers for zero seconds (socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class RawClient:
    """A socket, what was read from it and not yet used, and a timeout in seconds, times PATIENCE, for each wait."""

    opened: list[RawClient] = []  # those not yet closed: the fixtures close what a test left open

    def __init__(self, sock: socket.socket, timeout: float = 5.0) -> None:
        self.sock = sock
        self.timeout = timeout * PATIENCE
        self.buffer = bytearray()
        self.ended = False  # the server's FIN was read
        self._message: tuple[int, bytearray] | None = None
        sock.settimeout(self.timeout)
        RawClient.opened.append(self)

    @classmethod
    def connect(
        cls,
        port: int,
        *,
        host: str = "127.0.0.1",
        source: str | None = None,
        timeout: float = 5.0,
        receive_buffer: int | None = None,
    ) -> Self:
        """A TCP connection, from an address `source`; a small `receive_buffer` (bytes) makes the server feel a reader
        that does not read."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if source is not None:
            sock.bind((source, 0))
        if receive_buffer is not None:  # before connect: the window is agreed on there
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout * PATIENCE)
        try:
            sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return cls(sock, timeout)

    @classmethod
    def open(cls, port: int, path: str = "/", *, headers: Headers = (), extra: bytes = b"") -> Self:
        """Connected, and upgraded."""
        client = cls.connect(port)
        client.handshake(path, headers=headers, extra=extra)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- out

    def send_raw(self, data: bytes | bytearray | memoryview) -> None:
        self.sock.sendall(data)

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        mask: bytes | str | None = "random",
        rsv: int = 0,
        length: int | None = None,
        length_form: int | None = None,
    ) -> None:
        key = os.urandom(4) if isinstance(mask, str) else mask
        self.send_raw(build(opcode, payload, fin=fin, mask=key, rsv=rsv, length=length, length_form=length_form))

    def send(self, message: str | bytes) -> None:
        """One message in one frame."""
        if isinstance(message, str):
            self.send_frame(TEXT, message.encode())
        else:
            self.send_frame(BINARY, message)

    def send_close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        self.send_raw(build_close(code, reason))

    # -- in

    def fill(self) -> bool:
        """Reads once; False when the server has ended its side."""
        if self.ended:
            return False
        data = self.sock.recv(1 << 16)  # made anew each time, which takes a sanitizer long for larger ones
        if not data:
            self.ended = True
            return False
        self.buffer += data
        return True

    def drain_now(self) -> None:
        """Reads what has arrived, without waiting."""
        self.sock.setblocking(False)
        try:
            while self.fill():
                pass
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(self.timeout)

    def recv_until(self, mark: bytes) -> bytes:
        while (at := self.buffer.find(mark)) < 0:
            if not self.fill():
                raise Ended(f"ended before {mark!r}, after {bytes(self.buffer)!r}")
        return self.take(at + len(mark))

    def recv_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.fill():
                raise Ended(f"ended after {len(self.buffer)} of {size} bytes")
        return self.take(size)

    def take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def recv_http(self) -> HttpResponse:
        """One response (RFC 9112): its header names in lower case, each at most once."""
        status_line, *lines = self.recv_until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        version, status, *_ = status_line.split(" ", 2)
        assert version == "HTTP/1.1", status_line
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon and name == name.strip() and "\n" not in line and "\r" not in line, line
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        body = b""
        if int(status) >= 200:
            body = self.recv_exactly(int(headers["content-length"]))
        return HttpResponse(int(status), headers, body)

    def recv_frame(self) -> Frame:
        while (frame := next(frames(self.buffer), None)) is None:
            if not self.fill():
                raise Ended(f"ended inside or before a frame, after {bytes(self.buffer)!r}")
        return frame

    def recv(self) -> str | bytes:
        """The next message, put together (section 5.4); pings are answered on the way, pongs skipped."""
        while True:
            fin, opcode, payload = self.recv_frame()
            if opcode == CLOSE:
                raise Ended(f"closed with {close_code(payload)} {payload[2:]!r} where a message was expected")
            if opcode == PING:
                self.send_frame(10, payload)
            if opcode >= 8:
                continue
            if (opcode == CONT) != (self._message is not None):
                raise BadFrame("fragments out of order (section 5.4)")
            kind, parts = self._message or (opcode, bytearray())
            parts += payload
            self._message = (kind, parts)
            if fin:
                self._message = None
                return parts.decode() if kind == TEXT else bytes(parts)

    def handshake(
        self, path: str = "/", *, headers: Headers = (), extra: bytes = b"", host: str | None = "localhost"
    ) -> HttpResponse:
        """Upgrades, with `extra` in the same segment, and checks the answer (section 4.2.2)."""
        key = base64.b64encode(os.urandom(16))
        self.send_raw(request_bytes(path, key=key, headers=headers, host=host) + extra)
        return self.expect_101(key)

    def expect_101(self, key: bytes = KEY) -> HttpResponse:
        response = self.recv_http()
        assert response.status == 101, response
        assert response.headers["upgrade"].lower() == "websocket"
        assert response.headers["connection"].lower() == "upgrade"
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        assert response.headers["sec-websocket-accept"] == accept
        return response

    # -- the end

    def expect_close(self, code: int | None, *, reason: bytes | None = None, within: float = 3.0) -> bytes:
        """The next frame is a Close with `code` (None: empty), and the socket ends within `within` seconds with
        nothing after it. Returns the reason."""
        _, opcode, payload = self.recv_frame()
        assert opcode == CLOSE, f"expected a Close {code}, got opcode {opcode} with {payload[:100]!r}"
        assert close_code(payload) == code, f"expected a Close {code}, got {close_code(payload)} {payload[2:]!r}"
        if reason is not None:
            assert payload[2:] == reason
        self.expect_eof(within)
        return payload[2:]

    def expect_reject(self, *statuses: int, within: float = 3.0) -> HttpResponse:
        """One response with one of `statuses` and `Connection: close`, then the end."""
        response = self.recv_http()
        assert response.status in statuses, response
        options = [option.strip().lower() for option in response.headers["connection"].split(",")]
        assert "close" in options, response
        assert ("upgrade" in options) == ("upgrade" in response.headers), response  # RFC 9110 section 7.8
        self.expect_eof(within)
        return response

    def expect_eof(self, within: float = 3.0) -> None:
        assert not self.buffer, f"more came: {bytes(self.buffer[:200])!r}"
        assert self.eof(within), f"more came: {bytes(self.buffer[:200])!r}"

    def expect_silence(self, during: float = 0.1) -> None:
        """Nothing comes for a while: neither bytes nor the end."""
        assert not self.buffer
        self.sock.settimeout(during)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return
        finally:
            self.sock.settimeout(self.timeout)
        raise AssertionError(f"expected silence, got {data!r}")

    def eof(self, within: float = 3.0) -> bool:
        """Reads until the server's FIN: True if it came with nothing before it. A reset is not a clean end."""
        deadline = time.monotonic() + within
        try:
            while not self.ended:
                self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
                self.fill()
        except TimeoutError:
            raise AssertionError(f"the socket did not end within {within} s") from None
        finally:
            self.sock.settimeout(self.timeout)
        return not self.buffer

    def finish_sending(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leaves with an RST."""
        reset_at_close(self.sock)
        self.close()

    def close(self) -> None:
        self.sock.close()
        if self in RawClient.opened:
            RawClient.opened.remove(self)
