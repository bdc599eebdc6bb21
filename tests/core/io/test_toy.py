"""The I/O half by itself: a server of lines (see _toy.pyx) on a reactor, without WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from core.io._toy import Peers, Reactor

Run = Callable[[Callable[[], Any]], None]


@dataclass
class Log:
    """In place of fastws.serving.logs.Log."""

    lines: list[str] = field(default_factory=list)

    def error(self, form: str, *arguments: Any, exc_info: BaseException | None = None) -> None:
        self.lines.append(f"{form % arguments} ({exc_info!r})")


class Client:
    """Reads and writes without blocking the loop, and sees the server's end as b"" behind what it has sent."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def recv(self, n: int) -> bytes:
        """n bytes, or fewer at the end."""
        data = b""
        while len(data) < n:
            more = await asyncio.get_running_loop().sock_recv(self.sock, n - len(data))
            if not more:
                break
            data += more
        return data


class Toy:
    def __init__(self, reactor: Any, sock: socket.socket, log: Log, tick: float, max_transient: int) -> None:
        self.reactor, self.log = reactor, log
        self.name, self.family = sock.getsockname(), sock.family
        self.crowd = Peers()
        self.peers: list[Any] = self.crowd.came
        self.clients: list[socket.socket] = []
        self.crowd.join(reactor, log, tick, max_transient)
        self.crowd.serve(sock)

    def leave(self) -> None:
        self.crowd.leave()
        for client in self.clients:
            client.close()
        assert self.crowd.socket_count == 0

    async def connect(self) -> Client:
        """A client whose peer has been accepted."""
        sock = socket.socket(self.family)
        sock.setblocking(False)
        self.clients.append(sock)
        here = len(self.peers)
        await asyncio.get_running_loop().sock_connect(sock, self.name)
        await until(lambda: len(self.peers) > here)
        return Client(sock)


async def until(check: Callable[[], Any]) -> None:
    while not check():
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def toy(
    family: int = socket.AF_INET, name: Any = ("127.0.0.1", 0), *, max_transient: int = 1000, reactor: Any = None
) -> AsyncIterator[Toy]:
    reactor = reactor or Reactor(asyncio.get_running_loop())
    sock = socket.socket(family)
    sock.setblocking(False)
    sock.bind(name)
    sock.listen()
    served = Toy(reactor, sock, Log(), 0.01, max_transient)
    yield served
    served.leave()


def test_a_line_that_comes_in_pieces_is_held(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            client = await served.connect()
            await client.send(b"say hel")
            (peer,) = served.peers
            await until(lambda: peer.held_bytes == 7)
            await client.send(b"lo\nsay again\n")
            assert await client.recv(20) == b"say hello\nsay again\n"
            assert peer.held_bytes == peer.unsent_bytes == 0

    run(main)


def test_lines_come_in_order_however_they_are_cut(run: Run) -> None:
    rng = random.Random(7)
    lines = [b"say " + b"x" * rng.choice([0, 1, 100, 5000]) + b"\n" for _ in range(300)]
    lines += [b"later\n"] * 50
    rng.shuffle(lines)
    said = b"".join(line for line in lines if line != b"later\n")

    async def main() -> None:
        async with toy() as served:
            client = await served.connect()
            stream = b"".join(lines)

            async def send() -> None:
                at = 0
                while at < len(stream):
                    size = rng.choice([1, 10, 1000, 100_000])
                    await client.send(stream[at : at + size])
                    at += size
                    await asyncio.sleep(0)

            sending = asyncio.create_task(send())
            assert await client.recv(len(said)) == said
            await sending

    run(main)


def test_large_bytes_reach_a_peer_that_reads_late(run: Run) -> None:
    blob = random.Random(1).randbytes(20_000_000)

    async def main() -> None:
        async with toy() as served:
            client = await served.connect()
            await client.send(b"blob %d\n" % len(blob) + blob)
            (peer,) = served.peers
            await until(lambda: peer.unsent_bytes > 0)
            await client.send(b"say after\n")
            assert await client.recv(len(blob) + 10) == blob + b"say after\n"
            await until(lambda: peer.unsent_bytes == 0)
            assert {"received", "blocked", "taken"} <= set(peer.events)
            assert served.log.lines == []

    run(main)


def test_nothing_is_read_while_a_peer_pauses(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            client = await served.connect()
            await client.send(b"say one\npause\nsay two\n")
            assert await client.recv(8) == b"say one\n"
            (peer,) = served.peers
            await client.send(b"say three\n")
            client.sock.shutdown(socket.SHUT_WR)
            await until(lambda: "peer_shut" in peer.events)
            assert peer.events.count("input") == 1
            peer.go_on()
            assert await client.recv(100) == b"say two\nsay three\n"
            assert peer.events[-1] == "end"

    run(main)


def test_others_come_before_what_a_peer_goes_on_with(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            busy, other = await served.connect(), await served.connect()
            await busy.send(b"later\n" * 100 + b"say last\n")
            await other.send(b"say first\n")
            assert await other.recv(10) == b"say first\n"
            assert served.peers[0].events.count("input") < 100
            assert await busy.recv(9) == b"say last\n"
            assert served.peers[0].events.count("input") == 101

    run(main)


def test_a_deadline_comes(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            early, late = await served.connect(), await served.connect()
            await late.send(b"due 60\n")
            await early.send(b"due 20\n")
            assert await early.recv(4) == await late.recv(4) == b"due\n"

    run(main)


def test_the_oldest_without_a_claim_goes(run: Run) -> None:
    async def main() -> None:
        async with toy(max_transient=2) as served:
            stays = await served.connect()
            served.peers[0].stay()
            oldest, *others = [await served.connect() for _ in range(3)]
            assert await oldest.recv(1) == b""
            assert served.peers[1].events == ["evicted"]
            for client in (stays, *others):
                await client.send(b"say here\n")
                assert await client.recv(9) == b"say here\n"

    run(main)


def test_what_raises_costs_one_connection(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            client, other = await served.connect(), await served.connect()
            await client.send(b"raise\n")
            assert await client.recv(1) == b""
            await other.send(b"say here\n")
            assert await other.recv(9) == b"say here\n"
            assert served.log.lines == ["internal error; the connection is dropped (ZeroDivisionError())"]

    run(main)


def test_the_last_bytes_arrive_though_the_peer_goes_on_sending(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            client = await served.connect()
            await client.send(b"bye\n" + b"say ignored\n" * 50_000)
            assert await client.recv(100) == b"bye\n"
            client.sock.close()
            await until(lambda: served.crowd.socket_count == 0)

    run(main)


def test_a_half_close_comes_behind_what_was_sent(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            client = await served.connect()
            await client.send(b"say one\n")
            client.sock.shutdown(socket.SHUT_WR)
            assert await client.recv(100) == b"say one\n"
            assert served.peers[0].events == ["input", "end"]

    run(main)


def test_an_event_finds_nobody_else(run: Run) -> None:
    """Descriptors are used again at once; what is said to one peer is never heard by the next with its number."""

    async def main() -> None:
        async with toy() as served:
            for number in range(200):
                client = await served.connect()
                await client.send(b"say %d\n" % number)
                if number % 2:
                    served.peers[-1].end()
                    with contextlib.suppress(ConnectionError):
                        assert await client.recv(1) == b""
                else:
                    expected = b"say %d\n" % number
                    assert await client.recv(len(expected)) == expected
                client.sock.close()
            await until(lambda: served.crowd.socket_count == 0)
            assert served.crowd.accepted_count == 200

    run(main)


def test_who_is_told_that_the_last_has_gone(run: Run) -> None:
    told: list[int] = []

    async def main() -> None:
        async with toy() as served:
            clients = [await served.connect() for _ in range(3)]
            served.crowd.on_empty = lambda: told.append(served.crowd.socket_count)
            for client in clients[1:]:
                client.sock.close()
            await until(lambda: served.crowd.socket_count == 1)
            assert told == []
            clients[0].sock.close()
            await until(lambda: told)
            served.crowd.on_empty = None
        assert set(told) == {0}

    run(main)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_addresses(run: Run, family: socket.AddressFamily, tmp_path: Any) -> None:
    names = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: str(tmp_path / "toy")}

    async def main() -> None:
        async with toy(family, names[family]) as served:
            client = await served.connect()
            expected = client.sock.getsockname()[:2] if family != socket.AF_UNIX else None
            assert served.peers[0].remote_address == expected

    run(main)


def test_several_servers_on_one_reactor(run: Run) -> None:
    """Each has its own peers, limits and end; the reactor ends with the last."""

    async def main() -> None:
        async with toy() as first:
            async with toy(reactor=first.reactor, max_transient=1) as second:
                client = await first.connect()
                others = [await second.connect() for _ in range(2)]
                assert await others[0].recv(1) == b""
                assert [peer.events for peer in second.peers] == [["evicted"], []]
                assert (first.crowd.socket_count, second.crowd.socket_count) == (1, 1)
                await others[1].send(b"say two\n")
                assert await others[1].recv(8) == b"say two\n"
                second.crowd.leave()
                assert await others[1].recv(1) == b""
            assert first.reactor.is_open
            await client.send(b"say one\n")
            assert await client.recv(8) == b"say one\n"
        assert not first.reactor.is_open

    run(main)


def test_a_server_that_leaves_drops_everybody(run: Run) -> None:
    async def main() -> None:
        async with toy() as served:
            clients = [await served.connect() for _ in range(3)]
            await clients[0].send(b"say half")
            await until(lambda: served.peers[0].held_bytes)
            served.crowd.leave()
            assert [await client.recv(1) for client in clients] == [b""] * 3

    run(main)
