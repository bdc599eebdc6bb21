"""Rows H22 and S5, and connections in all: how many sockets peers may hold, and who is turned away."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from harness import (
    RawClient,
    Recorder,
    ServerThread,
    Serving,
    bystander,
    echo,
    eventually,
    make_app,
    request_bytes,
)
from harness.crowd import REQUEST, Crowd, Member, many_files
from harness.network import NotPermitted, ip, own_network

import fastws

HALF = REQUEST[:60]


def open_at(server: ServerThread, host: str = "127.0.0.1") -> RawClient:
    """An upgraded connection from some address of the loopback network."""
    client = RawClient.connect(server.port, source=host)
    client.handshake()
    return client


def turned_away(member: Member) -> bool:
    """With the answer of a server that is full (RFC 9110 sections 15.6.4 and 10.2.3)."""
    head = bytes(member.got).lower()
    return member.status == 503 and b"\r\nconnection: close\r\n" in head and b"\r\nretry-after: " in head


def settled(server: ServerThread, accepted: int) -> Any:
    """The counters once so many have been accepted, and what they sent was read."""
    eventually(lambda: server.stats()["accepted"] == accepted, 10.0)
    server.settle()
    return server.stats()


# -- H22


def test_h22_half_open_handshakes(serve: Serving) -> None:
    """10,000 of them, with and without a beginning of a request: the default lets 1,000 wait, and honest clients in."""
    recorder = Recorder()
    honest = [("upgrade",), ("open",), ("message", "x")] * 10
    with many_files(12_000):
        server = serve(make_app(recorder.handler(echo=True, upgrade=True), handshake_timeout=600))
        with bystander(server, recorder, [*honest, *[("close", 1006, "")] * 10]), Crowd(server.port) as crowd:
            clients = []
            for number in range(10):
                crowd.join(1_000, HALF if number % 2 else b"")
                stats = settled(server, 1 + number + 1_000 * (number + 1))
                assert stats["handshakes"] == 1_000
                client = RawClient.open(server.port)
                client.send("x")
                assert client.recv() == "x"
                clients.append(client)
                eventually(lambda: server.stats()["handshakes"] == 999)  # it was one of the 1,000 for a moment
            stats = server.stats()
            dropped = stats["refused"]["max_pending_handshakes"]
            assert dropped == 10_000 - 999
            assert stats["sockets"] == 999 + 11
            crowd.until(lambda member: member.ended, crowd.members[:dropped])
            assert not any(member.ended or member.got for member in crowd.members[dropped:])
            for client in clients:
                client.close()


def test_h22_the_oldest_goes_first(serve: Serving) -> None:
    """However lively it was meanwhile."""
    server = serve(make_app(Recorder().handler(), max_pending_handshakes=10))
    with bystander(server), Crowd(server.port) as crowd:
        for number in range(10):
            crowd.join(1, HALF)
            settled(server, 2 + number)
        for gone in range(5):
            for member in crowd.members[gone:]:
                member.send(b"X")
            crowd.join(1, HALF)
            settled(server, 12 + gone)
            crowd.until(lambda member: member.ended, crowd.members[: gone + 1])
            assert not any(member.ended for member in crowd.members[gone + 1 :])
        assert server.stats()["refused"]["max_pending_handshakes"] == 5
        for member in crowd.members[5:]:
            member.send(b": x\r\n\r\n")
        crowd.until(lambda member: member.status, crowd.members[5:])  # whatever those X's have made of the request


@pytest.mark.parametrize("end", ["refused", "answered", "closed"])
def test_h22_those_that_do_not_leave(serve: Serving, end: str) -> None:
    """A peer that has its answer and keeps its socket holds no more than one that asks nothing."""
    limit, count = 20, 200
    app = make_app(Recorder().handler(), max_pending_handshakes=limit, close_timeout=60)
    app.http("/health")(lambda request: fastws.Response(200, "ok"))
    request = {
        "refused": request_bytes("/nothing"),
        "answered": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "closed": REQUEST + b"\x80\x80\x00\x00\x00\x00",  # a continuation of nothing
    }[end]
    server = serve(app)
    with bystander(server), Crowd(server.port) as crowd:
        for number in range(count):
            crowd.join(1, request)
            crowd.until(lambda member: member.status in (404, 200, 101), crowd.members[-1:])
            assert settled(server, 2 + number)["sockets"] <= limit + 1
        stats = server.stats()
        told = {
            "refused": stats["refused"]["not_found"],
            "answered": stats["answered"],
            "closed": stats["closed"]["protocol_error"],
        }
        assert told[end] == count
        assert stats["refused"]["max_pending_handshakes"] == 0  # each is counted once, for what it was


def test_h22_an_eighth_of_the_descriptors_at_most(serve: Serving) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (800, hard))
    try:
        server = serve(make_app(Recorder().handler()))
        with bystander(server), Crowd(server.port) as crowd:
            for number in range(5):
                crowd.join(50)
                assert settled(server, 1 + 50 * (number + 1))["handshakes"] == min(50 * (number + 1), 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


SMALL = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
import fastws
app = fastws.App(ping_interval=0)
app.websocket("/")(lambda ws, data: ws.send(data))

async def main():
    async with await app.start("127.0.0.1", 0) as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.install()
asyncio.run(main())
"""


def test_s05_a_server_with_few_descriptors_has_some_left_to_say_so(loop_kind: str) -> None:
    """Without a max_connections of its own, what it has open itself is counted, too: the last of many hears 503, and
    nobody hangs."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SMALL, loop_kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        with Crowd(int(process.stdout.readline())) as crowd:
            for _ in range(8):  # no more at once than may be in a handshake
                crowd.until(lambda member: member.status > 0, crowd.join(8, REQUEST))
            assert {member.status for member in crowd.members} == {101, 503}
    finally:
        process.communicate(timeout=20)


class Deciding:
    """Lets nobody in before `go`."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def upgrade(self, request: Any) -> None:
        self.asked += 1
        await self.go.wait()

    def message(self, ws: Any, data: Any) -> None:
        ws.send(data)


def test_h22_whoever_has_asked_is_not_evicted(serve: Serving) -> None:
    """A reconnect storm on an application that asks its database: what waits for that is no half-open handshake, and
    floods of those do not drive it out."""
    limit, count = 50, 400
    handler = Deciding()
    server = serve(make_app(handler, max_pending_handshakes=limit))
    with bystander(server), Crowd(server.port) as crowd:
        honest = crowd.join(count, REQUEST)
        eventually(lambda: handler.asked == count)
        crowd.join(4 * limit, HALF)
        stats = settled(server, 1 + count + 4 * limit)
        assert not any(member.ended for member in honest)
        assert stats["handshakes"] == count + limit
        assert stats["refused"]["max_pending_handshakes"] == 3 * limit
        server.call(handler.go.set)
        crowd.until(lambda member: member.status == 101, honest)
        assert server.stats()["connections"] == 1 + count


# -- S5


def test_s05_connections_from_one_address(serve: Serving) -> None:
    """1,000 want in, 100 may; others are not theirs to answer for, and who leaves makes room."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True, upgrade=True), max_connections_per_ip=100))
    with bystander(server), Crowd(server.port) as crowd:
        crowd.join(1_000, REQUEST, source="127.0.0.9")
        crowd.until(lambda member: member.status == 101 or turned_away(member))
        inside = [member for member in crowd.members if member.status == 101]
        outside = [member for member in crowd.members if member.status != 101]
        assert len(inside) == 100
        assert recorder.events.count(("open",)) == recorder.events.count(("upgrade",)) == 100
        crowd.until(lambda member: member.ended, outside)
        assert server.stats()["refused"]["max_connections_per_ip"] == 900
        for host in ("127.0.0.1", "127.0.0.8", "127.0.0.10"):
            with open_at(server, host) as client:
                client.send("x")
                assert client.recv() == "x"
        crowd.leave(inside[:10])
        eventually(lambda: server.stats()["connections"] == 91)
        again = crowd.join(20, REQUEST, source="127.0.0.9")
        crowd.until(lambda member: member.status == 101 or turned_away(member), again)
        assert sum(member.status == 101 for member in again) == 10


def test_s05_every_address_has_its_own(serve: Serving) -> None:
    server = serve(make_app(Recorder().handler(), max_connections_per_ip=2))
    with bystander(server), Crowd(server.port) as crowd:
        for number in range(200):
            crowd.join(3, REQUEST, source=f"127.0.1.{number + 1}")
        crowd.until(lambda member: member.status == 101 or turned_away(member))
        assert server.stats()["connections"] == 401
        assert server.stats()["refused"]["max_connections_per_ip"] == 200
        crowd.leave(reset=True)
        eventually(lambda: server.stats()["connections"] == 1)
        crowd.join(2, REQUEST, source="127.0.1.1")  # nothing is held against anybody who has left
        crowd.until(lambda member: member.status == 101)


@pytest.mark.parametrize("how", ["while upgrade decides", "after being refused", "by a reset in the handshake"])
def test_s05_what_ended_before_the_101_is_given_back(serve: Serving, how: str) -> None:
    handler = Deciding()
    app = make_app(handler, max_connections_per_ip=5)

    @app.websocket("/never")
    class Never:
        def upgrade(self, request: Any) -> Any:
            return request.reject(403)

    server = serve(app)
    wire = {
        "while upgrade decides": REQUEST,
        "after being refused": request_bytes("/never"),
        "by a reset in the handshake": HALF,
    }[how]
    with bystander(server), Crowd(server.port) as crowd:
        for number in range(10):
            crowd.join(4, wire, source="127.0.0.9")
            settled(server, 1 + 4 * (number + 1))
            crowd.leave(reset=True)
            eventually(lambda: server.stats()["sockets"] == 1)
        server.call(handler.go.set)
        crowd.join(5, REQUEST, source="127.0.0.9")
        crowd.until(lambda member: member.status == 101)


@pytest.fixture
def ipv6() -> Iterator[None]:
    """Two subnets on a loopback of our own."""
    try:
        with own_network():
            for address in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1:8000::3", "2001:db8:0:2::1"):
                ip(f"address add {address}/128 dev lo nodad")
            yield
    except NotPermitted as reason:
        pytest.skip(f"IPv6 addresses cannot be made here: {reason}")


def test_s05_ipv6_is_counted_by_64_bits(serve: Serving, ipv6: None) -> None:
    """Whoever has one address of a subnet has all of them (RFC 4291 section 2.5.4)."""
    server = serve(make_app(Recorder().handler(), max_connections_per_ip=10), host="", port=0)
    with bystander(server), Crowd(server.port) as crowd:
        one = [
            *crowd.join(6, REQUEST, source="2001:db8:0:1::1"),
            *crowd.join(6, REQUEST, source="2001:db8:0:1:ffff::2"),
            *crowd.join(6, REQUEST, source="2001:db8:0:1:8000::3"),
        ]
        another = crowd.join(10, REQUEST, source="2001:db8:0:2::1")
        crowd.until(lambda member: member.status == 101, another)
        crowd.until(lambda member: member.status == 101 or turned_away(member), one)
        assert sum(member.status == 101 for member in one) == 10
        assert server.stats()["refused"]["max_connections_per_ip"] == 8


def test_s05_ipv4_in_ipv6_is_ipv4(serve: Serving) -> None:
    """On a socket for both, all IPv4 addresses share their first 64 bits (RFC 4291 section 2.5.5.2)."""
    both = socket.socket(socket.AF_INET6)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.bind(("::ffff:127.0.0.1", 0))
    server = serve(make_app(Recorder().handler(), max_connections_per_ip=2), sock=both)
    with bystander(server), Crowd(server.port) as crowd:
        for host in ("127.0.0.7", "127.0.0.8"):
            crowd.join(3, REQUEST, source=host)
        crowd.until(lambda member: member.status == 101 or turned_away(member))
        assert [member.status for member in crowd.members].count(101) == 4


# -- all connections


def test_s05_connections_in_all(serve: Serving) -> None:
    """Over max_connections upgrades are turned away before the application is asked, and plain routes go on answering:
    a health check must not fail because a server is well attended."""
    recorder = Recorder()
    app = make_app(recorder.handler(upgrade=True), max_connections=50)
    app.http("/health")(lambda request: fastws.Response(200, "ok"))
    server = serve(app)
    with bystander(server), Crowd(server.port) as crowd:
        crowd.join(300, REQUEST)
        crowd.until(lambda member: member.status == 101 or turned_away(member))
        inside = [member for member in crowd.members if member.status == 101]
        assert len(inside) == 49  # the bystander is one of the 50
        assert recorder.events.count(("upgrade",)) == 49
        assert server.stats()["refused"]["max_connections"] == 251
        with RawClient.connect(server.port) as client:
            client.send_raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv_http()[::2] == (200, b"ok")
        assert server.stats()["answered"] == 1
        crowd.leave(inside[:5])
        eventually(lambda: server.stats()["connections"] == 45)
        again = crowd.join(10, REQUEST)
        crowd.until(lambda member: member.status == 101 or turned_away(member), again)
        assert sum(member.status == 101 for member in again) == 5


def test_s05_those_who_wait_for_the_application_are_connections(serve: Serving) -> None:
    handler = Deciding()
    server = serve(make_app(handler, max_connections=50))
    with bystander(server), Crowd(server.port) as crowd:
        crowd.join(300, REQUEST)
        eventually(lambda: server.stats()["refused"]["max_connections"] == 251)
        assert handler.asked == 49
        server.call(handler.go.set)
        crowd.until(lambda member: member.status == 101 or turned_away(member))
        assert server.stats()["connections"] == 50


def test_s05_retry_after_is_in_seconds(serve: Serving) -> None:
    server = serve(make_app(echo, max_connections=1))
    with bystander(server):
        client = RawClient.connect(server.port)
        client.send_raw(request_bytes())
        response = client.expect_reject(503)
        assert 1 <= int(response.headers["retry-after"]) <= 600
        assert b"max_connections" in response.body or b"full" in response.body


def test_h01_is_counted(serve: Serving) -> None:
    """Silence, a trickle and half a request are one reason; whoever leaves by himself is another."""
    server = serve(make_app(Recorder().handler(), handshake_timeout=10)).hold_clock()
    with bystander(server), Crowd(server.port) as crowd:
        crowd.leave(crowd.join(5, HALF))
        eventually(lambda: server.stats()["refused"]["left"] == 5)
        crowd.join(20)
        crowd.join(20, HALF)
        trickling = crowd.join(1)
        eventually(lambda: server.stats()["handshakes"] == 41)
        for byte in HALF[:10]:
            trickling[0].send(bytes([byte]))
            server.advance(1)
        crowd.until(lambda member: member.ended)
        refused = server.stats()["refused"]
        assert (refused["handshake_timeout"], refused["left"]) == (41, 5)
