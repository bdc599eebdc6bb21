"""Accepting: storms, peers that are gone before they are accepted, and a server that stops when descriptors have run
out (that they run out is row S7, in tests/hostile)."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator

import pytest
from harness import RawClient, Recorder, Serving, eventually, make_app, request_bytes, reset_at_close
from harness.programs import python

STORM = 2000


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * STORM + 200:
        pytest.skip(f"the hard limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * STORM + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_storm_of_connections(serve: Serving, many_files: None) -> None:
    """All connect before any is answered; all are served."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True), max_pending_handshakes=STORM))
    early = RawClient.open(server.port)
    socks = []
    for _ in range(STORM):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", server.port))
        socks.append(sock)
    clients = [RawClient(sock, timeout=10.0) for sock in socks]
    for client in clients:
        client.send_raw(request_bytes())
    early.send("early")
    assert early.recv() == "early"
    for client in clients:
        client.expect_101()
    for number, client in enumerate(clients):
        client.send(str(number))
    assert [client.recv() for client in clients] == [str(number) for number in range(STORM)]
    stats = server.stats()
    assert stats["connections"] == stats["sockets"] == stats["accepted"] == STORM + 1
    for client in clients[::2]:
        client.close()
    for client in clients[1::2]:
        client.reset()
    eventually(lambda: server.stats()["sockets"] == 1, 5.0)
    early.send("late")
    assert early.recv() == "late"


def test_peers_that_are_gone_before_they_are_accepted(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))

    def connect_and_vanish() -> None:
        """On the loop, so that nothing is accepted meanwhile."""
        for number in range(200):
            sock = socket.create_connection(("127.0.0.1", server.port))
            if number % 3 == 0:
                sock.sendall(request_bytes())
            if number % 2:
                reset_at_close(sock)
            sock.close()

    server.call(connect_and_vanish)
    client = RawClient.open(server.port)
    client.send("x")
    assert client.recv() == "x"
    eventually(lambda: server.stats()["sockets"] == 1)
    assert server.stats()["accepted"] == 201
    opened = recorder.events.count(("open",))
    eventually(lambda: recorder.events.count(("close", 1006, "")) == opened - 1)


def test_lone_connections_one_after_the_other(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler(echo=True)))
    for number in range(100):
        with RawClient.open(server.port) as client:
            client.send(str(number))
            assert client.recv() == str(number)
    assert server.stats()["accepted"] == 100


def test_stopping_while_accepting_rests(loop_kind: str, no_leaked_fds: None) -> None:
    code = """if True:
        import asyncio, resource, socket, sys
        import fastws

        app = fastws.App()
        app.websocket("/")(lambda ws, data: ws.send(data))

        async def main():
            server = await app.start("127.0.0.1", 0)
            peers = [socket.socket() for _ in range(8)]
            highest = max(peer.fileno() for peer in peers)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, highest + 1))
            for peer in peers:
                peer.connect(("127.0.0.1", server.port))
            for _ in range(20):
                await asyncio.sleep(0.01)
            print(app.stats()["accepted"])
            await server.stop()
            print(app.stats()["sockets"])

        if sys.argv[1] == "uvloop":
            import uvloop
            uvloop.install()
        asyncio.run(main())
    """
    result = python("-c", code, loop_kind)
    assert (result.returncode, result.stdout.split()) == (0, ["0", "0"]), result
    told = [line for line in result.stderr.splitlines() if "listening on" not in line]
    assert len(told) == 1 and "open files" in told[0], result.stderr
