"""How often the server asks the kernel: counted by strace on a running server, not guessed."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import TEXT, RawClient, build
from harness.strace import MEMORY, RECEIVES, SENDS, WAITS, Call, Strace, serving

SERVER = Path(__file__).resolve().parents[2] / "harness" / "echo_server.py"
PAYLOAD = b"m" * 64


@pytest.fixture
def process(loop_kind: str, no_leaked_fds: None) -> Iterator[tuple[int, int]]:
    with serving(str(SERVER), loop_kind) as found:
        yield found


def counted(calls: list[Call]) -> dict[str, int]:
    """Calls by kind, without the waits of the loop, which are one or two per batch of ready sockets."""
    kinds: collections.Counter[str] = collections.Counter()
    for call in calls:
        if call.name not in WAITS | MEMORY:
            kinds["recv" if call.name in RECEIVES else "send" if call.name in SENDS else call.name] += 1
    return dict(kinds)


def test_100_pipelined_echoes_leave_in_one_send(process: tuple[int, int], tmp_path: Path) -> None:
    pid, port = process
    client = RawClient.open(port)
    with Strace(pid, tmp_path / "log") as trace:
        client.send_raw(build(TEXT, PAYLOAD) * 100)
        assert [client.recv() for _ in range(100)] == [PAYLOAD.decode()] * 100
    calls = trace.calls()
    assert counted(calls) == {"recv": 1, "send": 1}, calls


def test_an_echo_costs_one_receive_and_one_send(process: tuple[int, int], tmp_path: Path) -> None:
    pid, port = process
    client = RawClient.open(port)
    with Strace(pid, tmp_path / "log") as trace:
        for _ in range(10):
            client.send_raw(build(TEXT, PAYLOAD))
            client.recv()
    calls = trace.calls()
    assert counted(calls) == {"recv": 10, "send": 10}, calls


def test_messages_sent_from_elsewhere_leave_together(process: tuple[int, int], tmp_path: Path) -> None:
    pid, port = process
    client = RawClient.open(port, "/later")
    with Strace(pid, tmp_path / "log") as trace:
        client.send_raw(build(TEXT, PAYLOAD))
        assert [client.recv() for _ in range(16)] == [PAYLOAD.decode()] * 16
    calls = trace.calls()
    assert counted(calls) == {"recv": 1, "send": 1}, calls


def test_an_idle_connection_costs_nothing(process: tuple[int, int], tmp_path: Path) -> None:
    """Time passes, as what a server does by itself cannot be had sooner."""
    pid, port = process
    clients = [RawClient.open(port) for _ in range(20)]
    for client in clients:
        client.send("warm")
        client.recv()
    time.sleep(2.0)  # whatever was due after the opening is over
    with Strace(pid, tmp_path / "log") as trace:
        time.sleep(5.0)
    calls = trace.calls()
    assert calls == []


def test_accept_upgrade_echo(process: tuple[int, int], tmp_path: Path) -> None:
    pid, port = process
    with RawClient.open(port) as first:  # what is made at the first connection is made
        first.send("warm")
        first.recv()
    time.sleep(0.1)
    with Strace(pid, tmp_path / "log") as trace:
        client = RawClient.open(port)
        client.send_raw(build(TEXT, PAYLOAD))
        assert client.recv() == PAYLOAD.decode()
    calls = trace.calls()
    accepted = [call for call in calls if call.name.startswith("accept")]
    assert [call.name for call in accepted] == ["accept4"], calls
    fd = int(accepted[0].result.split()[0])
    own = counted([call for call in calls if call.fd == fd])
    allowed = {"setsockopt": 1, "epoll_ctl": 1, "recv": 2, "send": 2}
    assert all(own[name] <= allowed.get(name, 0) for name in own), f"{own}: {calls}"
    other = [call for call in calls if call.fd != fd and call.name not in WAITS | MEMORY | {"accept4"}]
    assert not other, other
