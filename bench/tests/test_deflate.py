"""JSON and permessage-deflate: the load generator keeps what was agreed, and notices what a server does wrong; and all
servers take part in all that is measured.

python -m pytest bench/tests/test_deflate.py
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import measure, run
from bench.results import Sample
from bench.servers import SERVERS, missing
from bench.tests.peers import OK_101, Serve, alone, read_exactly
from bench.workloads import KIB, WORKLOADS

OFFER = "permessage-deflate; client_max_window_bits"
END = b"\0\0\xff\xff"  # what RFC 7692 section 7.2.1 cuts off
SIZE = 400


def load(built: Path, port: int, *options: str, offer: str = OFFER) -> subprocess.CompletedProcess[str]:
    command = [str(built / "loadgen"), *options, "--port", str(port), "--limit", "20", "--size", str(SIZE), "--json"]
    command += ["--offer", offer] if offer else []
    return subprocess.run(command, input="go\n", capture_output=True, text=True, timeout=60, check=False)


class Peer:
    """An echo that knows its own half of RFC 7692 from Python's zlib: `change` may spoil what it answers."""

    def __init__(
        self,
        agreed: str,
        *,
        server_takes_over: bool = True,
        client_takes_over: bool = True,
        change: Callable[[int, bytes], bytes] = lambda number, frame: frame,
    ) -> None:
        self.agreed = agreed
        self.server_takes_over = server_takes_over
        self.client_takes_over = client_takes_over
        self.change = change
        self.messages: list[bytes] = []
        self.payloads: list[bytes] = []

    def frame(self, message: bytes) -> bytes:
        if not self.server_takes_over:
            self.deflater = zlib.compressobj(1, wbits=-15)
        payload = self.deflater.compress(message) + self.deflater.flush(zlib.Z_SYNC_FLUSH)
        assert payload.endswith(END)
        payload = payload[:-4]
        head = b"\xc1" + (bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big"))
        return head + payload

    def __call__(self, s: socket.socket) -> None:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = f"Sec-WebSocket-Extensions: {self.agreed}\r\n\r\n" if self.agreed else "\r\n"
        s.sendall(OK_101[:-2] + line.encode())
        self.deflater = zlib.compressobj(1, wbits=-15)
        inflater = zlib.decompressobj(wbits=-15)
        while True:
            first, size = read_exactly(s, 2)
            assert first == 0xC1
            size &= 127
            if size == 126:
                size = int.from_bytes(read_exactly(s, 2), "big")
            key = read_exactly(s, 4)
            payload = bytes(b ^ key[i % 4] for i, b in enumerate(read_exactly(s, size)))
            if not self.client_takes_over:
                inflater = zlib.decompressobj(wbits=-15)
            message = inflater.decompress(payload + END)
            self.messages.append(message)
            self.payloads.append(payload)
            s.sendall(self.change(len(self.messages), self.frame(message)))


ECHO = ["echo", "--connections", "1", "--seconds", "1"]


def sizes(payloads: list[bytes]) -> float:
    late = payloads[20:]
    return sum(map(len, late)) / len(late)


@pytest.mark.parametrize("window", ["1", "3"])
def test_both_contexts_are_taken_over(built: Path, serve: Serve, window: str) -> None:
    peer = Peer("permessage-deflate")
    done = load(built, serve(alone(peer)), *ECHO, "--window", window)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[1])
    assert 0 < report["count"] == report["compressed_in"] < len(peer.messages)
    assert report["bytes_in"] > 0 < report["bytes_out"]
    assert sizes(peer.payloads) < 0.45 * SIZE
    for message in peer.messages[:50]:
        assert len(message) == SIZE
        assert json.loads(message)["text"]
    assert len(set(peer.messages[:500])) == 500


@pytest.mark.parametrize("asked", [True, False])
def test_the_client_without_takeover(built: Path, serve: Serve, asked: bool) -> None:
    """Either as the server demands it, or by itself."""
    peer = Peer("permessage-deflate" + "; client_no_context_takeover" * asked, client_takes_over=False)
    done = load(built, serve(alone(peer)), *ECHO, *["--self-contained"] * (not asked))
    assert done.returncode == 0, done.stderr
    assert 0.6 * SIZE < sizes(peer.payloads) < 0.9 * SIZE


def test_the_server_without_takeover(built: Path, serve: Serve) -> None:
    peer = Peer("permessage-deflate; server_no_context_takeover", server_takes_over=False)
    done = load(built, serve(alone(peer)), *ECHO)
    assert done.returncode == 0, done.stderr


def test_the_client_keeps_to_its_window(built: Path, serve: Serve) -> None:
    """Inflated byte by byte, so that zlib has no more than its window to refer to (512 bytes)."""
    peer = Peer("permessage-deflate; client_max_window_bits=9;server_max_window_bits=15")
    done = load(built, serve(alone(peer)), *ECHO)
    assert done.returncode == 0, done.stderr
    inflater = zlib.decompressobj(wbits=-9)
    for message, payload in zip(peer.messages[:200], peer.payloads[:200], strict=True):
        got, rest = b"", payload + END
        while len(got) < SIZE:
            got += inflater.decompress(rest, 1)
            rest = inflater.unconsumed_tail
        assert got == message
        inflater.decompress(rest)


def flip(number: int, frame: bytes) -> bytes:
    return frame if number < 5 else frame[:-3] + bytes([frame[-3] ^ 0x55]) + frame[-2:]


def shortened(number: int, frame: bytes) -> bytes:
    size = int.from_bytes(frame[2:4], "big") if frame[1] == 126 else frame[1]
    return frame if number < 5 else frame[:1] + b"\x7e" + (size - 9).to_bytes(2, "big") + frame[-size:-9]


def uncompressed(number: int, frame: bytes) -> bytes:
    return b"\x81" + frame[1:]


def doubled(number: int, frame: bytes) -> bytes:
    return frame * 2 if number == 5 else frame


def in_pieces(number: int, frame: bytes) -> bytes:
    """Not a piece of what it should be: the first half twice."""
    return frame if number != 5 else frame[: len(frame) // 2] * 2


@pytest.mark.parametrize("change", [flip, shortened, uncompressed, doubled, in_pieces])
def test_what_is_not_the_message_ends_the_run(built: Path, serve: Serve, change: Callable[[int, bytes], bytes]) -> None:
    done = load(built, serve(alone(Peer("permessage-deflate", change=change))), *ECHO)
    assert done.returncode == 1
    assert done.stderr.startswith("loadgen: ")
    assert "nothing from the server" not in done.stderr


def test_a_context_taken_over_against_the_agreement_ends_the_run(built: Path, serve: Serve) -> None:
    done = load(built, serve(alone(Peer("permessage-deflate; server_no_context_takeover"))), *ECHO)
    assert done.returncode == 1
    assert "cannot be inflated" in done.stderr


@pytest.mark.parametrize(
    ("agreed", "offer", "message"),
    [
        ("", OFFER, "the server does not compress"),
        ("permessage-deflate", "", "an extension that was not offered"),
        ("permessage-bzip2", OFFER, "not what was offered"),
        ("permessage-deflate; level=1", OFFER, "an unknown parameter: level"),
        ("permessage-deflate; server_max_window_bits", OFFER, "a window without a size"),
        ("permessage-deflate; server_max_window_bits=16", OFFER, "16 is not in 8..15"),
    ],
)
def test_a_wrong_agreement_ends_the_run(built: Path, serve: Serve, agreed: str, offer: str, message: str) -> None:
    done = load(built, serve(alone(Peer(agreed))), *ECHO, offer=offer)
    assert done.returncode == 1
    assert message in done.stderr


def test_the_plain_generator_takes_no_extension(built: Path, serve: Serve) -> None:
    command = [
        str(built / "loadgen"),
        "echo",
        "--connections",
        "1",
        "--port",
        str(serve(alone(Peer("permessage-deflate")))),
    ]
    done = subprocess.run(command, input="go\n", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "an extension that was not offered" in done.stderr


@pytest.mark.parametrize("command", [["open", "--json"], ["connect", "--json"], ["echo", "--offer", OFFER]])
def test_what_the_generator_cannot(built: Path, command: list[str]) -> None:
    done = subprocess.run(
        [built / "loadgen", *command, "--port", "1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "knows no JSON" in done.stderr or "--offer goes with --json" in done.stderr


DEFLATING = [name for name, server in SERVERS.items() if "deflate" in server.features]


@pytest.mark.parametrize("name", DEFLATING)
def test_each_server_takes_part(built: Path, name: str) -> None:
    server = SERVERS[name]
    if why := missing(server):
        pytest.skip(f"{name}: {why}")
    offer = OFFER if server.deflate else ""
    with measure.Server(WORKLOADS["deflate-120"].serve(server), min(os.sched_getaffinity(0))) as running:
        done = load(built, running.port, "echo", "--connections", "5", "--window", "3", "--seconds", "0.2", offer=offer)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[1])
        assert report["compressed_in"] == (report["count"] if offer else 0)
        assert report["count"] > 0
        if "broadcast" in server.features:
            options = ["broadcast", "--connections", "9", "--slow", "1", "--seconds", "0.2"]
            done = load(built, running.port, *options, offer=offer)
            assert done.returncode == 0, done.stderr
            count = json.loads(done.stdout.splitlines()[1])["count"]
            assert count % 9 == 0 < count


def sample(workload: str, server: str, **changes: Any) -> Sample:
    cores = sorted(os.sched_getaffinity(0))
    work = replace(WORKLOADS[workload], **changes)
    return run.taken(run.Step(0, work, SERVERS[server]), 0.5, 0, (cores[0], cores[-1]))


def test_a_sample_of_the_memory() -> None:
    load = ["idle", "--at-once", "64", "--message", "400", "--messages", "3", "--connections", "500", "--json"]
    found = sample("deflate-idle-5000", "fastws-off", command=load)
    assert found.count == 500
    assert 30 < found.memory_each < 5000
    assert found.bytes_in == 500 * 3 * 404


def test_how_long_large_messages_take() -> None:
    """The server tells its times, and both do what they say."""
    found, plain = (sample("deflate-timed-64KiB", server) for server in ("fastws", "fastws-off"))
    assert found.bytes_in / found.count < plain.bytes_in / plain.count / 2
    assert plain.bytes_in == plain.count * (64 * KIB + 10)
    for one in (found, plain):
        assert one.sending > 0 < one.receiving


def test_settings_are_for_compression_only() -> None:
    for name in set(DEFLATING) - {"fastws"}:
        if SERVERS[name].only != "*":
            assert WORKLOADS["echo-64-text-100-1"].unfit(SERVERS[name])
    assert {name for name in SERVERS if not WORKLOADS["deflate-timed-1MiB"].unfit(SERVERS[name])} == {
        "fastws",
        "fastws-off",
        "fastws-level-6",
        "fastws-level-9",
    }
    offered = {name: "--offer" in WORKLOADS["deflate-400"].load(SERVERS[name], 1.0) for name in DEFLATING}
    assert [name for name, is_offered in offered.items() if not is_offered] == ["fastws-off"]
