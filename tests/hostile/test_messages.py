"""Rows M1, M2 and M4: text that is none, messages that never end, and very many at once."""

from __future__ import annotations

import threading

import pytest
from harness import (
    ANY,
    BINARY,
    CONT,
    PATIENCE,
    PING,
    TEXT,
    RawClient,
    Recorder,
    Serving,
    build,
    bystander,
    eventually,
    make_app,
    parse,
)

from hostile.streams import Stage, cases_of, memory_of, whole, with_the_rest


@pytest.mark.parametrize("row", ["m1", "m2"])
def test_m01_m02_streams(serve: Serving, row: str) -> None:
    cases = cases_of(row)
    stage = Stage(serve, cases)
    with bystander(stage.server):
        stage.play(whole(cases))
        stage.play(with_the_rest(cases))


@pytest.mark.parametrize("mode", ["str", "utf8"])
@pytest.mark.parametrize("size", [100, 70_000, 900_000])
def test_m01_fails_at_the_byte(serve: Serving, mode: str, size: int) -> None:
    """A message far from complete fails with the byte that cannot be right, wherever the reads cut it."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), text=mode))
    with bystander(server, recorder, [("open",), ("close", 1007, ANY)]):
        client = RawClient.open(server.port)
        good = ("aé€🙂" * (size // 10)).encode()
        frame = build(TEXT, good + b"\xed\xa0" + b"x" * 50, length=1 << 20)
        client.send_raw(frame[: len(frame) - 52])
        client.expect_silence(0.05)
        client.send_raw(frame[len(frame) - 52 : len(frame) - 51])  # \xed may still be right
        client.expect_silence(0.05)
        client.send_raw(frame[len(frame) - 51 : len(frame) - 50])
        client.expect_close(1007)


@pytest.mark.parametrize("mode", ["str", "utf8"])
def test_m01_whole_and_broken_text_side_by_side(serve: Serving, mode: str) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), text=mode))
    texts = ["", "a", "é" * 63, "€" * 1000, "🙂" * 20_000, "\0", "\ufeff", "a" * 65_535 + "é"]
    messages = [("message", text if mode == "str" else text.encode()) for text in texts]
    with bystander(server, recorder, [("open",), *messages, ("close", 1007, ANY)]):
        client = RawClient.open(server.port)
        client.send_raw(b"".join(build(TEXT, text.encode()) for text in texts) + build(TEXT, b"ok \xc0\x80"))
        client.expect_close(1007)
        assert [type(event[1]) for event in recorder.events[1:-1]] == [str if mode == "str" else bytes] * len(texts)


@pytest.mark.parametrize("payload", [b"x", b""])
def test_m02_fragments_without_end(serve: Serving, payload: bytes) -> None:
    """131,072 fragments: the 16,385th ends the connection, and what is kept is what was said."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    fragment = build(CONT, payload, fin=False)
    with bystander(server, recorder, [("open",), ("close", 1008, ANY)]):
        client = RawClient.open(server.port)
        before = memory_of()
        client.send_raw(build(BINARY, payload, fin=False) + fragment * 16_383)
        client.expect_silence(0.1)
        server.settle()
        held = server.stats()["buffered_bytes"]
        assert held <= 2 * 16_384 * len(payload) + 4096, f"{held} bytes kept for {16_384 * len(payload)}"
        assert memory_of() - before < 8 << 20
        try:
            client.send_raw(fragment * (131_072 - 16_384))
        except ConnectionError:
            pass
        client.expect_close(1008)


def test_m02_the_last_fragment_allowed(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with bystander(server, recorder, [("open",), ("message", b"x" * 16_384), ("message", b"y"), ("close", 1006, "")]):
        client = RawClient.open(server.port)
        fragment = build(CONT, b"x", fin=False)
        client.send_raw(build(BINARY, b"x", fin=False) + fragment * 16_382 + build(CONT, b"x") + build(BINARY, b"y"))
        eventually(lambda: len(recorder.events) == 3)
        client.close()
        eventually(lambda: len(recorder.events) == 4)


def test_m02_pings_between_fragments_are_answered(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    expected = [("open",), ("ping", b"0"), ("ping", b"1"), ("ping", b"2"), ("message", "abcd"), ("close", 1006, "")]
    with bystander(server, recorder, expected):
        client = RawClient.open(server.port)
        for number, (opcode, payload) in enumerate([(TEXT, b"a"), (CONT, b"b"), (CONT, b"c")]):
            client.send_frame(opcode, payload, fin=False)
            client.send_frame(PING, str(number).encode())
            assert client.recv_frame().payload == str(number).encode()
        client.send_frame(CONT, b"d")
        eventually(lambda: len(recorder.events) == 5)
        client.close()
        eventually(lambda: len(recorder.events) == 6)


def test_m04_a_burst_of_100_000_messages(serve: Serving) -> None:
    """All answered, in order, while the bystander keeps its turn."""
    count = 100_000
    server = serve(make_app())
    wire = b"".join(build(TEXT, f"{number:06d} ".encode() * 5) for number in range(count))
    with bystander(server) as watch:
        client = RawClient.open(server.port, "/bystander")
        sender = threading.Thread(target=client.sock.sendall, args=(wire,))
        client.sock.settimeout(30 * PATIENCE)
        sender.start()
        want = iter(range(count))
        size = len(build(TEXT, b"x" * 35, mask=None))
        for _ in range(count // 1000):
            block = client.recv_exactly(1000 * size)
            for at in range(0, len(block), size):
                found = parse(block[at : at + size])
                assert found is not None
                assert found[0].payload == f"{next(want):06d} ".encode() * 5
        sender.join(10 * PATIENCE)
        client.sock.settimeout(client.timeout)
        client.expect_silence(0.02)
        assert watch.worst < 1.0 * PATIENCE, f"the bystander waited {watch.worst:.2f} s"


def test_m04_a_burst_that_is_not_read(serve: Serving) -> None:
    """The same without reading an answer: reading pauses at the high-water mark, and memory stays bounded."""
    server = serve(make_app())
    wire = memoryview(build(BINARY, b"x" * 1000) * 30_000)
    with bystander(server) as watch:
        client = RawClient.connect(server.port, receive_buffer=4096)
        client.handshake("/bystander")
        client.sock.setblocking(False)
        sent = 0
        for _ in range(200):
            try:
                sent += client.sock.send(wire[sent:])
            except BlockingIOError:
                server.settle()
        client.sock.settimeout(client.timeout)
        assert sent < len(wire), "the sender was never stopped"
        held = server.stats()["buffered_bytes"]
        assert held <= 1 << 20, f"{held} bytes kept for a peer that does not read"
        whole_messages = sent // len(build(BINARY, b"x" * 1000))
        for _ in range(whole_messages):  # and nothing is lost when it reads at last
            assert client.recv() == b"x" * 1000
        assert watch.worst < 1.0 * PATIENCE
