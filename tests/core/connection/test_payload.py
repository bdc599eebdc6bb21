"""What is given to be sent, and messages that are framed once for many sends."""

from __future__ import annotations

import array
import copy
import gc
import pickle
import tracemalloc
from typing import Any

import pytest
from harness import BINARY, TEXT, RawClient, Serving, eventually, fill, make_app, newest, slow_client

import fastws
from fastws import DROPPED, QUEUED, SENT

SIZES = [0, 1, 124, 125, 126, 127, 2044, 2045, 65_534, 65_535, 65_536, 65_537, 1 << 20]


class Room:
    def open(self, ws: Any) -> None:
        ws.subscribe("room")

    def message(self, ws: Any, data: Any) -> None:
        if data == "close":
            ws.close(4000)


def header(size: int) -> int:
    """Bytes of a frame's header (RFC 6455 section 5.2)."""
    return 2 if size < 126 else 4 if size < 65536 else 10


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
def test_sizes(serve: Serving, size: int) -> None:
    """As binary, as text, and as text that is encoded already; alone and published."""
    blob = pattern(size)
    text = blob.hex()[:size]
    wide = ("ä€\N{GRINNING FACE}" * (size // 9 + 1)).encode()[: size // 9 * 9].decode() + "x" * (size % 9)
    messages = {blob: fastws.prepare(blob), text: fastws.prepare(text), wide: fastws.prepare(wide)}
    messages["=" + text] = fastws.prepare(("=" + text).encode(), is_text=True)
    server = serve(make_app(Room, max_backpressure=1 << 30))
    one, two = RawClient.open(server.port), RawClient.open(server.port)
    for expected, prepared in messages.items():
        length = len(expected.encode() if isinstance(expected, str) else expected)
        assert len(prepared) == header(length) + length
        assert server.call(server.app.publish, "room", prepared) == 2
        server.call(newest(server).send, prepared)
        for client, times in ((one, 1), (two, 2)):
            for _ in range(times):
                fin, opcode, payload = client.recv_frame()
                assert fin
                assert opcode == (TEXT if isinstance(expected, str) else BINARY)
                assert payload == (expected.encode() if isinstance(expected, str) else expected)


def test_a_changed_source_changes_nothing(serve: Serving) -> None:
    server = serve(make_app(Room))
    client = RawClient.open(server.port)
    for size in (10, 3000, 100_000):
        source = bytearray(pattern(size))
        prepared = fastws.prepare(source)
        for data in (prepared, source):
            source[:] = pattern(size)

            def publish(data: Any = data, source: bytearray = source) -> None:
                server.app.publish("room", data)
                source[:] = b"!" * len(source)
                source.clear()  # a BufferError, were it still exported

            server.call(publish)
            assert client.recv() == pattern(size)


GIVEN = [
    (b"bytes", b"bytes"),
    (bytearray(b"bytearray"), b"bytearray"),
    (memoryview(b"xviewx")[1:5], b"view"),
    (array.array("H", [1, 2]), array.array("H", [1, 2]).tobytes()),
    (memoryview(bytes(range(12))).cast("B", (3, 4)), bytes(range(12))),
    ("str", "str"),
    ("\u00fc", "\u00fc"),
    (type("Str", (str,), {})("subclass"), "subclass"),
    (type("Bytes", (bytes,), {})(b"subclass"), b"subclass"),
]


@pytest.mark.parametrize(
    ("given", "heard"), GIVEN, ids=[type(given).__name__ + str(n) for n, (given, _) in enumerate(GIVEN)]
)
def test_what_may_be_prepared_and_published(serve: Serving, given: Any, heard: Any) -> None:
    server = serve(make_app(Room))
    client = RawClient.open(server.port)
    assert server.call(server.app.publish, "room", fastws.prepare(given)) == 1
    assert server.call(server.app.publish, "room", given) == 1
    assert [client.recv(), client.recv()] == [heard, heard]
    if isinstance(heard, bytes):
        prepared = fastws.prepare(given, is_text=True)
        assert server.call(server.app.publish, "room", prepared) == 1
        assert client.recv_frame().opcode == TEXT


REFUSED = [
    *((data, TypeError) for data in (None, 7, 1.5, [b"x"], object(), memoryview(b"abcdef")[::2], ("x",))),
    *((data, UnicodeEncodeError) for data in ("\ud800", "a" * 5000 + "\udfff")),
]


@pytest.mark.parametrize(("data", "error"), REFUSED, ids=range(len(REFUSED)))
def test_what_may_not(serve: Serving, data: Any, error: type[Exception]) -> None:
    server = serve(make_app(Room))
    client = RawClient.open(server.port)
    ws = newest(server)

    def refused() -> None:
        for use in (
            fastws.prepare,
            lambda data: server.app.publish("room", data),
            lambda data: server.app.publish("nobody there", data),
            lambda data: ws.publish("room", data),
        ):
            with pytest.raises(error):
                use(data)
        ws.send("next")

    server.call(refused)
    assert client.recv() == "next"


def test_encoded_text_is_not_str() -> None:
    with pytest.raises(TypeError, match="str"):
        fastws.prepare("text", is_text=True)
    with pytest.raises(TypeError):
        fastws.prepare()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        fastws.prepare(b"x", True)  # type: ignore[call-arg]


def test_a_message_that_was_not_prepared(serve: Serving) -> None:
    """An empty one, made without `prepare`, is told so wherever it is used, and nothing is sent."""
    server = serve(make_app(Room))
    client = RawClient.open(server.port)
    ws = newest(server)
    empty = fastws.PreparedMessage()
    prepared = fastws.prepare(b"x")

    def misuse() -> None:
        assert len(empty) == 0
        for use in (
            ws.send,
            ws.send_text,
            lambda data: ws.publish("room", data),
            lambda data: server.app.publish("room", data),
        ):
            with pytest.raises(TypeError, match="prepare"):
                use(empty)
        for refuse in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                refuse(prepared)
        with pytest.raises(TypeError):
            fastws.prepare(prepared)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            memoryview(prepared)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            prepared.frame = b"x"  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Mine", (fastws.PreparedMessage,), {})
        ws.send("next")

    server.call(misuse)
    assert client.recv() == "next"


def test_send_tells_what_became_of_it(serve: Serving) -> None:
    server = serve(make_app(Room, max_backpressure=1 << 40, send_timeout=0))
    client = slow_client(server)
    ws = newest(server)
    for data in (b"small", bytes(100_000)):
        assert server.call(ws.send, fastws.prepare(data)) == SENT
        assert client.recv() == data
    sent = fill(server, ws)
    sent += [b"small", bytes(100_000)]
    assert [server.call(ws.send, fastws.prepare(data)) for data in sent[-2:]] == [QUEUED, QUEUED]
    for data in sent:
        assert client.recv() == data
    client.close()
    eventually(lambda: ws.ready_state == fastws.ReadyState.CLOSED)
    assert server.call(ws.send, fastws.prepare(b"late")) == DROPPED


def test_one_message_for_all_servers_loops_and_threads(serve: Serving, loop_kind: str) -> None:
    """It belongs to none of them, and outlives them."""
    small, large = fastws.prepare("small"), fastws.prepare(pattern(200_000))
    for _ in range(2):
        first, second = serve(make_app(Room)), serve(make_app(Room))
        clients = [RawClient.open(server.port) for server in (first, first, second)]
        for server in (first, second):
            server.call(lambda server=server: [server.app.publish("room", one) for one in (small, large, small)])
        for client in clients:
            assert [client.recv() for _ in range(3)] == ["small", pattern(200_000), "small"]
            client.close()
        first.stop()
        second.stop()


def test_what_is_queued_outlives_the_message(serve: Serving) -> None:
    server = serve(make_app(Room, max_backpressure=1 << 40, send_timeout=0))
    client = slow_client(server)
    sent = fill(server, newest(server))
    for size in (100, 600, 3000, 100_000):
        for number in range(10):
            sent.append(bytes([number]) * size)
            prepared = fastws.prepare(sent[-1])
            assert server.call(server.app.publish, "room", prepared) == 1
            del prepared
    gc.collect()
    litter = [fastws.prepare(b"!" * size) for size in (100, 600, 3000, 100_000) for _ in range(40)]
    for data in sent:
        assert client.recv() == data
    del litter


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_published_bytes_are_not_copied_for_each_subscriber(serve: Serving, size: int) -> None:
    """Counted by what Python's allocators were asked for: many subscribers that do not read hold one frame."""
    subscribers = 40
    server = serve(make_app(Room, max_backpressure=1 << 40, send_timeout=0))
    clients = [slow_client(server) for _ in range(subscribers)]
    eventually(lambda: server.app.num_subscribers("room") == subscribers)
    filler = fastws.prepare(bytes(8 << 20))  # more than the kernel takes
    count = 4_000_000 // size

    def publish() -> None:
        assert server.app.publish("room", filler) == subscribers

    server.call(publish)
    server.settle()
    buffered = server.stats()["buffered_bytes"]
    assert buffered > subscribers * (1 << 20)
    tracemalloc.start()
    try:
        for number in range(count):
            assert server.call(server.app.publish, "room", bytes([number % 256]) * size) == subscribers
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    queued = server.stats()["buffered_bytes"] - buffered
    assert queued == subscribers * count * (size + header(size))
    assert kept < queued / 8, f"{kept} bytes kept for {queued} queued"
    for client in clients:
        client.close()


def test_a_small_frame_that_waits_does_not_keep_a_block(serve: Serving) -> None:
    """Small published frames lie in blocks of 16 KiB. For a peer that takes nothing, one of few bytes is copied."""
    server = serve(make_app(Room, max_backpressure=1 << 40, send_timeout=0))
    client = slow_client(server)
    sent = fill(server, newest(server))

    def publish() -> int:
        tracemalloc.start()
        try:
            for number in range(300):
                sent.append(b"%d" % number + bytes(200))
                assert server.app.publish("room", sent[-1]) == 1
                for _ in range(80):
                    server.app.publish("nobody there", bytes(200))
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    kept = server.call(publish)
    assert kept < 1_000_000, f"{kept} bytes kept for {300 * 207}"
    for message in sent:
        assert client.recv() == message
