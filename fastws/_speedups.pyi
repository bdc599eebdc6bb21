"""The types of the compiled core. Public are, through fastws, WebSocket, PreparedMessage and prepare; through
fastws.speedups, SIMD, FrameParser, apply_mask, decode, encode, is_utf8 and serialize. The rest is for app.py and
serving/."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, final, type_check_only

from typing_extensions import Buffer

from fastws.compression import Agreement
from fastws.constants import ReadyState, SendStatus
from fastws.frames import Frame
from fastws.http import Request
from fastws.options import Options
from fastws.serving.logs import Log
from fastws.serving.stats import Stats
from fastws.serving.tasks import Starter

@final
class WebSocket:
    """One connection. Made by the server; handed to every callback of its route.

    Methods are for the thread of the event loop; from another thread use `loop.call_soon_threadsafe`. After the
    connection has ended they do nothing, and `send` returns DROPPED."""

    data: Any
    id: Final[int]
    path: Final[str]
    path_params: Final[Mapping[str, str]]
    query_string: Final[str]
    subprotocol: Final[str | None]

    @property
    def request(self) -> Request:
        """The request of the upgrade, on a route with `keep_request=True`. AttributeError on any other."""
    @property
    def buffered_amount(self) -> int:
        """Bytes that were sent to this connection and that the kernel has not taken yet."""
    @property
    def ready_state(self) -> ReadyState:
        """CONNECTING, OPEN, CLOSING or CLOSED, as in the W3C WebSocket API."""
    @property
    def extensions(self) -> str:
        """What was negotiated, as Sec-WebSocket-Extensions has it; "" for nothing."""
    @property
    def is_text(self) -> bool:
        """Whether the message being delivered is text. Read it before the first await."""
    @property
    def remote_address(self) -> tuple[str, int] | None:
        """(host, port) of the peer; None on a Unix socket."""
    @property
    def local_address(self) -> tuple[str, int] | None:
        """(host, port) of our end; None on a Unix socket and once the socket is closed."""
    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The names of its topics, in no order."""
    def send(self, data: str | Buffer | PreparedMessage, *, compress: bool | None = None) -> SendStatus:
        """Sends a message: str as text, any C-contiguous bytes-like object as binary, or a PreparedMessage.

        Returns SENT, QUEUED (the peer reads too slowly; wait for `drain`) or DROPPED (the connection is not open, or
        the slow-consumer policy dropped it). TypeError for anything else than str or bytes-like,
        UnicodeEncodeError for a str with lone surrogates; nothing is sent then. Where compression was negotiated,
        `compress=False` leaves the message as it is, and True compresses also what is below the threshold; TypeError
        for what is none of these and not None."""
    def send_text(self, data: Buffer, *, compress: bool | None = None) -> SendStatus:
        """Sends encoded text: a bytes-like object that must hold valid UTF-8 (not checked). Otherwise as `send`."""
    def ping(self, data: str | Buffer = b"") -> None:
        """Sends a Ping with at most 125 bytes (bytes-like, or str as UTF-8). The answer comes to `pong`.

        ValueError for more bytes, TypeError for what is neither str nor bytes-like."""
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Starts the close handshake (RFC 6455 section 7.1.2). 1005 sends an empty Close.

        ValueError for a code that may not be sent or a reason of more than 123 bytes, TypeError for a code that is no
        int, or a bool, or a reason that is no str. If the peer does not answer within `close_timeout`, which begins
        anew while it takes what was sent before, the connection is terminated."""
    def terminate(self) -> None:
        """Ends the connection at once, without a close handshake; unsent bytes are lost."""
    def subscribe(self, topic: str) -> bool:
        """Receive what is published to a topic. True if newly subscribed. False if already subscribed, or no longer
        open.

        ValueError for a name that is not 1 to 255 bytes of UTF-8, RuntimeError for more than `max_topics`. A connection
        leaves all its topics as soon as it is not open any more."""
    def unsubscribe(self, topic: str) -> bool:
        """Leave a topic. Returns whether it was subscribed."""
    def is_subscribed(self, topic: str) -> bool:
        """Whether it is subscribed to the topic."""
    def publish(self, topic: str, data: str | Buffer | PreparedMessage, *, compress: bool | None = None) -> int:
        """Sends a message, as `send` takes it, to every subscriber of the topic but this connection, which need be
        neither subscribed nor open. Returns how many connections took it: those where `send` would not be DROPPED."""
    def pause_reading(self) -> None:
        """Delivers no more messages until `resume_reading`; the peer will be held back by TCP's flow control."""
    def resume_reading(self) -> None:
        """Undoes `pause_reading`."""
    def drained(self) -> Awaitable[None]:
        """An awaitable that is done once `buffered_amount` is at or below `low_water`, or the connection has ended."""

@final
class Route:
    def __init__(
        self,
        path: str,
        callbacks: dict[str, Callable[..., Any] | None],
        options: Options,
        agree: Callable[[bytes, bool], Agreement | None] | None,
    ) -> None: ...

def http_title(path: str, callback: Callable[..., Any]) -> str:
    """What the log calls the callback of an http route."""

@final
class PreparedMessage:
    """A message that was framed once for many sends; made by `fastws.prepare`. `len()` is the frame's, in bytes."""

    def __len__(self) -> int: ...

SIMD: Final[str]

def apply_mask(data: Buffer, key: Buffer) -> bytes:
    """`data` XORed with the masking key, which is repeated over it (RFC 6455 section 5.3); undoes itself.

    data: any C-contiguous bytes-like object; key: 4 bytes, in wire order. Returns bytes.
    TypeError for other types, ValueError for a key of another length."""

def is_utf8(data: Buffer) -> bool:
    """Whether the bytes of `data`, any C-contiguous bytes-like object, are UTF-8 (RFC 3629)."""

def decode(data: Buffer) -> str:
    """The str of UTF-8 in `data`, any C-contiguous bytes-like object: as `bytes(data).decode()`, its
    UnicodeDecodeError included."""

def encode(text: str) -> bytes:
    """The UTF-8 of a str as bytes: as `text.encode()`, its UnicodeEncodeError included. Nothing is kept in the str."""

def serialize(frame: tuple[bool, int, Buffer, int], *, mask: Buffer | None = None) -> bytes:
    """The bytes of a frame on the wire (RFC 6455 section 5.2).

    frame: a Frame, or a tuple of its fields (fin, opcode, payload, rsv), whose payload is any C-contiguous bytes-like
        object. What the frame says is written as it is: the rules of section 5 are the caller's to keep.
    mask: a masking key of 4 bytes for a client's frame, which must be unpredictable (section 5.3: take os.urandom(4));
        None for a server's.
    Returns bytes. ValueError for an opcode, reserved bits or a key out of range, TypeError for other types."""

class FrameParser:
    """Bytes in, frames out (RFC 6455 section 5); it has no socket, and nothing to do with the opening handshake.

    masked: True for a client's frames, as a server reads them; False for a server's (section 5.1).
    max_frame_size: the largest payload of one frame, in bytes; a header that declares more is an error, with 1009.
    allow_rsv: the reserved bits that an extension was negotiated for (section 5.2): 4 for RSV1, 2 for RSV2, 1 for RSV3,
        or a sum of them. What the extension says of where a bit may stand is the caller's to check.

    All of section 5 is checked, the order of fragments and the body of a Close included, but whether a text is UTF-8:
    that is known of whole messages, and with an extension only after it has had its turn. Use fastws.speedups.decode
    on the joined payloads, and bound the size of a message where they are joined."""

    def __init__(self, *, masked: bool, max_frame_size: int = 1 << 20, allow_rsv: int = 0) -> None: ...
    @property
    def buffered(self) -> int:
        """Bytes taken in of a frame that is not complete: 0 where the stream may end, or has failed."""
    def feed(self, data: Buffer) -> list[Frame]:
        """Takes any C-contiguous bytes-like object; returns a list of the frames that are complete with it.

        Raises ProtocolError as soon as the bytes that are wrong are there, with the frames before them in its `frames`;
        every later call raises the same error, without frames. Behind a Close frame all is discarded (section 1.4).
        `data` is free again when this returns: the beginning of a frame is copied. Memory grows with what comes, not
        with what a header declares."""

def prepare(data: str | Buffer, *, is_text: bool = False) -> PreparedMessage:
    """Frames a message once, for `ws.send`, `ws.publish` and `app.publish` to send it many times.

    data: str for text, any C-contiguous bytes-like object for binary, or for text where `is_text` says that it holds
    valid UTF-8 (not checked). TypeError for anything else, UnicodeEncodeError for a str with lone surrogates."""

@final
class Hub:
    """The topics of an App, over all its servers. Of each server only its own thread touches the subscribers."""

    def publish(
        self,
        topic: str,
        data: str | Buffer | PreparedMessage,
        compress: bool | None = None,
        sender: WebSocket | None = None,
    ) -> int:
        """Sends data to the subscribers of a topic but `sender`, and tells the watchers of it. Returns to how many
        subscribers of this thread's servers it was sent."""
    def deliver(self, topic: str, message: PreparedMessage) -> int:
        """As publish(), but tells no watcher: for what has come from elsewhere."""
    def num_subscribers(self, topic: str) -> int:
        """How many connections are subscribed, of all servers."""
    def subscribers(self, topic: str) -> list[WebSocket]:
        """The connections that are subscribed, of all servers of this process, in no order."""
    def watch(self, watcher: Watcher) -> None:
        """Tells `watcher` of changes from now on. Any thread of a server may call it.

        first_subscriber(topic): there is one now, and was none. It is called before `subscribe` returns, so that what
            the watcher sends then leaves before the subscriber's answer; and now, for each topic that has subscribers.
            Where it raises, `subscribe` does, and has done nothing.
        last_subscriber(topic): there is none any more. It is called in the loop's iteration after the last one left.
            With servers in several threads, a topic that loses and gains one at once may be reported as gained twice.
        published(topic, message): what publish() was given, as a PreparedMessage, after it was sent to subscribers."""
    def unwatch(self, watcher: Watcher) -> None: ...

@type_check_only
class Watcher(Protocol):
    def first_subscriber(self, topic: str, /) -> None: ...
    def last_subscriber(self, topic: str, /) -> None: ...
    def published(self, topic: str, message: PreparedMessage, /) -> None: ...

class Crowd:
    on_empty: Callable[[], object] | None
    @property
    def socket_count(self) -> int: ...
    def stop_listening(self) -> None: ...

@final
class Service(Crowd):
    def __init__(
        self,
        options: Options,
        *,
        hub: Hub,
        find_websocket: Callable[[str], tuple[Route, Mapping[str, str]] | None],
        find_http: Callable[[str], tuple[tuple[str, Callable[..., Any]], Mapping[str, str]] | None],
        max_connections: int,
        user_timeout: float,
        suggest: Callable[[str], object] | None = None,
    ) -> None: ...
    server: object

@final
class Reactor:
    loop: Final[asyncio.AbstractEventLoop]
    @property
    def is_open(self) -> bool: ...
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def hold_clock(self) -> None: ...
    def pass_time(self, seconds: float) -> None: ...
    def advance(self, seconds: float) -> None: ...

def keep_freed_memory() -> None:
    """Has the C library keep some freed memory for large blocks to come, for a process that does nothing but serve.
    Does nothing where the environment says how to allocate."""

def report_task(done: Callable[[Any, BaseException | None], object], task: asyncio.Task[Any]) -> None:
    """Calls done(result, exception) of a task that has ended. Written in C: where a Python function begins, a
    signal's handler may raise, and `done` would never be called."""

def join(service: Service, reactor: Reactor, starter: Starter, log: Log, tick: float, max_transient: int) -> None:
    """Adds the server to the reactor. starter: a fastws.serving.tasks.Starter; log: a fastws.serving.logs.Log; tick: at
    least this many seconds lie between two sweeps; max_transient: sockets that are not yet, or no longer, an open
    connection."""

def leave(service: Service) -> None:
    """The server has ended: what is left of its connections is dropped, and its last lines are logged. With the last
    one of its loop the reactor ends."""

def attach(service: Service) -> None:
    """From now on its connections get what is published."""

def detach(service: Service) -> None:
    """Its connections get nothing that is published from now on."""

def listen(service: Service, sock: socket.socket) -> None:
    """Serves connections from a bound, listening, non-blocking socket, which is the service's from now on."""

def adopt(service: Service, sock: socket.socket, data: bytes, host: bytes, port: int) -> None:
    """Serves a connected, non-blocking socket.socket, which is detached once the service has its descriptor: where this
    raises before, it still has it. data: what has been read from it already; host: the peer's address, 4 or 16 bytes in
    the order of the wire, or none."""

@final
class Pushed:
    def data_received(self, data: Buffer) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, error: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

def push(service: Service, transport: asyncio.Transport, host: bytes, port: int) -> Pushed:
    """Serves a connection whose bytes an asyncio.Transport carries: what is returned is to be that transport's
    protocol, or is called by it. host, port: as for adopt()."""

def leave_to_parent(service: Service) -> None:
    """For the child of a fork: the server is the parent's alone. Here its connections are over, without a callback."""

def count_connections(service: Service) -> int:
    """How many connections are open: those whose `open` was called and whose end has not come."""

def list_connections(service: Service) -> list[WebSocket]:
    """The open connections, newest first."""

def busy_callbacks(service: Service) -> list[str]:
    """What the log calls the async callbacks that have not ended."""

def is_connection(service: Service, ws: object) -> bool:
    """Whether it is one of those that list_connections() lists."""

def close_all(service: Service, code: int, reason: str) -> None:
    """Starts the close handshake on every open connection; those that are still opening are dropped."""

def abandon(service: Service) -> None:
    """Ends a server whose loop was closed before it was stopped. No callback is called, and nothing asked of the loop:
    the user's code was to run there."""

def terminate_all(service: Service) -> None:
    """Ends every connection at once and cancels the callbacks that have not ended."""

def stats(service: Service) -> Stats:
    """What a server holds and has done; see fastws.serving.stats.Stats."""

def ending_table() -> dict[tuple[str, str], Any]:
    """The table, for its test: (phase, what ends it) -> what happens, in words."""
