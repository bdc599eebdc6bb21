"""Every server that is compared does what the workloads take for granted, started as they start it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from bench import measure, servers
from bench.machine import BENCH
from bench.servers import SERVERS, missing

TIMEOUT = 10 * float(os.environ.get("PATIENCE", "1"))
MIXED = "Привіт, 世界! 👋 "


class Client:
    """A WebSocket client on a blocking socket. It offers compression, as browsers do."""

    def __init__(self, port: int, path: str = "/") -> None:
        self.pings = 0
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._protocol = ClientProtocol(
            parse_uri(f"ws://127.0.0.1:{port}{path}"), extensions=[ClientPerMessageDeflateFactory()], max_size=None
        )
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while self._protocol.state is not OPEN:
            self._read()
        self._protocol.events_received()  # the response

    @property
    def extensions(self) -> list[str]:
        return [extension.name for extension in self._protocol.extensions]

    def close(self) -> None:
        self._socket.close()

    def send(self, *messages: str | bytes) -> None:
        """In one write."""
        for message in messages:
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
        self._flush()

    def receive(self, count: int) -> list[str | bytes]:
        messages: list[str | bytes] = []
        parts: list[Frame] = []
        while len(messages) < count:
            for event in self._events():
                if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    parts.append(event)
                    if event.fin:
                        data = b"".join(bytes(part.data) for part in parts)
                        messages.append(data.decode() if parts[0].opcode is Opcode.TEXT else data)
                        parts.clear()
        assert not parts
        return messages

    def echo(self, *messages: str | bytes) -> list[str | bytes]:
        """Of what is sent in one write, and read while that goes on: it may fill every buffer in between."""
        sending = threading.Thread(target=self.send, args=messages)
        sending.start()
        received = self.receive(len(messages))
        sending.join()
        return received

    def wait_for_ping(self) -> None:
        while not self.pings:
            self._events()

    def _events(self) -> list[Frame]:
        self._read()
        frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        assert Opcode.CLOSE not in [frame.opcode for frame in frames], frames
        self.pings += sum(frame.opcode is Opcode.PING for frame in frames)
        return frames

    def _read(self) -> None:
        data = self._socket.recv(1 << 20)
        assert data, "the server closed the connection"
        self._protocol.receive_data(data)
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(b"".join(self._protocol.data_to_send()))


def with_feature(feature: str) -> list[str]:
    return [name for name, server in SERVERS.items() if feature in server.features]


def started(name: str, *options: str) -> measure.Server:
    if why := missing(SERVERS[name]):
        pytest.skip(f"{name}: {why}")
    return measure.Server([*SERVERS[name].command, *options], min(os.sched_getaffinity(0)))


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_port_is_kept_for_its_server(option: int) -> None:
    with measure.reserved_port() as reserved, socket.socket() as other, socket.socket() as served:
        with pytest.raises(OSError, match="in use"):
            other.bind(reserved.getsockname())
        served.setsockopt(socket.SOL_SOCKET, option, 1)
        served.bind(reserved.getsockname())
        served.listen()
        socket.create_connection(reserved.getsockname(), 5).close()


# Those with settings of compression are the same programs.
PROGRAMS = {tuple(server.command): name for name, server in reversed(SERVERS.items())}


@pytest.fixture(scope="module", params=reversed(PROGRAMS.values()))
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Its name and port."""
    with started(request.param) as running:
        yield request.param, running.port


@pytest.fixture
def client(server: tuple[str, int]) -> Iterator[Client]:
    with closing(Client(server[1])) as client:
        yield client


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("hello", id="ASCII"),
        pytest.param(MIXED, id="characters of 1 to 4 bytes"),
        pytest.param("", id="empty text"),
        pytest.param(bytes(range(256)), id="binary"),
        pytest.param(b"", id="empty binary"),
        pytest.param(MIXED * ((1 << 20) // len(MIXED.encode())) + "x" * 22, id="1 MiB of text"),
        pytest.param(bytes(range(256)) * 4096, id="1 MiB of binary"),
    ],
)
def test_echoes(client: Client, message: str | bytes) -> None:
    assert client.echo(message, message) == [message, message]


def test_echoes_64_messages_of_one_write_in_their_order(client: Client) -> None:
    messages = [f"{number} {MIXED}" if number % 3 else bytes([number]) * 300 for number in range(64)]
    assert client.echo(*messages) == messages


def test_64_messages_of_64_kib_in_flight_exceed_no_limit(client: Client) -> None:
    messages = [bytes([number]) * 65536 for number in range(64)]
    assert client.echo(*messages) == messages


def test_compresses_nothing_unless_told_to(client: Client) -> None:
    assert client.extensions == []


def test_broadcasts_to_all_but_the_sender(server: tuple[str, int]) -> None:
    name, port = server
    if "broadcast" not in SERVERS[name].features:
        return
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(closing(Client(port, "/broadcast"))) for _ in range(3))
        messages: list[str | bytes] = [MIXED, b"binary", "last"]
        # Whoever has sent something is known to the server, which answers no subscription.
        for sender, others in ((third, (first, second)), (first, (second, third)), (second, (first, third))):
            sender.send(*messages)
            for other in others:
                assert other.receive(3) == messages


def test_compression_is_agreed_on_if_told_to() -> None:
    for name in with_feature("deflate"):
        with started(name, *SERVERS[name].deflate) as running, closing(Client(running.port)) as client:
            assert client.extensions == ["permessage-deflate"] * bool(SERVERS[name].deflate), name
            assert client.echo(MIXED * 100, b"") == [MIXED * 100, b""], name


def test_pings_come_if_told_to() -> None:
    """From all of them at once, as some take seconds; each is answered, or the server would close."""
    with ExitStack() as stack:
        names = with_feature("ping")
        waiting = stack.enter_context(ThreadPoolExecutor(len(names)))
        pinged = []
        for name in names:
            running = stack.enter_context(started(name, "--ping-interval", "2"))
            client = stack.enter_context(closing(Client(running.port)))
            pinged.append(waiting.submit(client.wait_for_ping))
        for name, ping in zip(names, pinged, strict=True):
            try:
                ping.result()
            except (OSError, AssertionError) as error:
                pytest.fail(f"{name}: {error!r}")


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picows, ws = SERVERS["picows"], SERVERS["ws"]
    assert "No module named 'no_such_module'" in missing(replace(picows, packages=("no_such_module",)))
    monkeypatch.setattr(servers, "NODE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing(ws) == "there is no node on PATH"
    (tmp_path / "node").touch(mode=0o755)
    assert missing(ws) == "ws is not installed: make bench-node"


def test_results_name_no_path_of_the_machine() -> None:
    for server in SERVERS.values():
        assert str(BENCH.parent) not in repr(server.described())
        assert server.described()["version"] or server.name == "bare" or missing(server)
