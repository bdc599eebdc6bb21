"""The types of the compiled core. `WebSocket`, `PreparedMessage` and `prepare` are public; the rest is what app.py and
server.py build."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, final

from typing_extensions import Buffer

from fastws.compression import Agreement, Deflate
from fastws.constants import ReadyState, SendStatus
from fastws.frames import Frame
from fastws.http import Request
from fastws.logs import Log
from fastws.stats import Stats
from fastws.tasks import Starter

@final
class WebSocket:
    data: Any
    id: Final[int]
    path: Final[str]
    path_params: Final[Mapping[str, str]]
    query_string: Final[str]
    subprotocol: Final[str | None]
    request: Final[Request | None]

    @property
    def buffered_amount(self) -> int: ...
    @property
    def ready_state(self) -> ReadyState: ...
    @property
    def extensions(self) -> str: ...
    @property
    def is_text(self) -> bool: ...
    @property
    def remote_address(self) -> tuple[str, int] | None: ...
    @property
    def local_address(self) -> tuple[str, int] | None: ...
    @property
    def subscriptions(self) -> tuple[str, ...]: ...
    def send(self, data: str | Buffer | PreparedMessage, *, compress: bool | None = None) -> SendStatus: ...
    def send_text(self, data: Buffer, *, compress: bool | None = None) -> SendStatus: ...
    def ping(self, data: str | Buffer = b"") -> None: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...
    def terminate(self) -> None: ...
    def subscribe(self, topic: str) -> bool: ...
    def unsubscribe(self, topic: str) -> bool: ...
    def is_subscribed(self, topic: str) -> bool: ...
    def publish(self, topic: str, data: str | Buffer | PreparedMessage, *, compress: bool | None = None) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def drained(self) -> Awaitable[None]: ...

@final
class Route:
    def __init__(
        self,
        *,
        upgrade: Callable[..., Any] | None,
        open: Callable[..., Any] | None,
        message: Callable[..., Any] | None,
        drain: Callable[..., Any] | None,
        ping: Callable[..., Any] | None,
        pong: Callable[..., Any] | None,
        close: Callable[..., Any] | None,
        origins: Collection[str] | None,
        max_message_size: int,
        max_fragments: int,
        high_water: int,
        low_water: int,
        max_backpressure: int,
        max_waiting: int,
        max_topics: int,
        max_message_rate: float,
        max_control_rate: float,
        close_timeout: float,
        message_timeout: float,
        ping_interval: float,
        ping_timeout: float,
        send_timeout: float,
        text_as_utf8: bool,
        binary_as_view: bool,
        drop_when_slow: bool,
        keep_request: bool,
        deflate: Deflate | None,
        agree: Callable[[bytes, bool], Agreement | None] | None,
    ) -> None: ...

@final
class PreparedMessage:
    def __len__(self) -> int: ...

SIMD: Final[str]

def apply_mask(data: Buffer, key: Buffer) -> bytes: ...
def is_utf8(data: Buffer) -> bool: ...
def decode(data: Buffer) -> str: ...
def encode(text: str) -> bytes: ...

class FrameParser:
    def __init__(self, *, masked: bool, max_frame_size: int = 1 << 20, allow_rsv: int = 0) -> None: ...
    @property
    def buffered(self) -> int: ...
    def feed(self, data: Buffer) -> list[Frame]: ...

def prepare(data: str | Buffer, *, is_text: bool = False) -> PreparedMessage: ...

@final
class Hub:
    def publish(
        self,
        topic: str,
        data: str | Buffer | PreparedMessage,
        compress: bool | None = None,
        sender: WebSocket | None = None,
    ) -> int: ...
    def num_subscribers(self, topic: str) -> int: ...

@final
class Service:
    def __init__(
        self,
        *,
        hub: Hub,
        find_websocket: Callable[[str], tuple[Route, Mapping[str, str]] | None],
        find_http: Callable[[str], tuple[Callable[..., Any], Mapping[str, str]] | None],
        allowed_hosts: Collection[str] | None,
        max_header_size: int,
        max_request_line: int,
        max_headers: int,
        max_connections: int,
        max_connections_per_ip: int,
        handshake_timeout: float,
        close_timeout: float,
        user_timeout: float,
    ) -> None: ...

@final
class Reactor:
    loop: Final[asyncio.AbstractEventLoop]
    on_empty: Callable[[], object] | None
    @property
    def socket_count(self) -> int: ...
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        starter: Starter,
        log: Log,
        tick: float,
        max_transient: int,
        keeps_memory: bool,
    ) -> None: ...
    def hold_clock(self) -> None: ...
    def pass_time(self, seconds: float) -> None: ...
    def advance(self, seconds: float) -> None: ...
    def stop_listening(self) -> None: ...
    def close(self) -> None: ...

def keep_freed_memory() -> bool: ...
def report_task(done: Callable[[Any, BaseException | None], object], task: asyncio.Task[Any]) -> None: ...
def attach(service: Service, reactor: Reactor) -> None: ...
def detach(service: Service) -> None: ...
def listen(reactor: Reactor, sock: socket.socket, service: Service) -> None: ...
def leave_to_parent(reactor: Reactor) -> None: ...
def count_connections(reactor: Reactor) -> int: ...
def list_connections(reactor: Reactor) -> list[WebSocket]: ...
def close_all(reactor: Reactor, service: Service, code: int, reason: str) -> None: ...
def abandon(reactor: Reactor, service: Service) -> None: ...
def terminate_all(reactor: Reactor) -> None: ...
def stats(reactor: Reactor, service: Service) -> Stats: ...
