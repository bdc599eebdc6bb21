"""Rows F1-F15: frames that no client should send, and some that it may (RFC 6455 section 5)."""

from __future__ import annotations

import pytest
from harness import (
    ANY,
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    WIRE_CODES,
    RawClient,
    Recorder,
    Serving,
    build,
    build_close,
    bystander,
    eventually,
    make_app,
)
from oracles.corpus import CASES, Case

from hostile.streams import Stage, by_bytes, cases_of, in_two, memory_of, whole, with_the_rest

OPENED = ("open",)


def play_row(serve: Serving, row: str) -> None:
    """A row's streams: whole up to the byte that decides, and again with all that comes after it."""
    cases = cases_of(row)
    stage = Stage(serve, cases)
    with bystander(stage.server):
        stage.play(whole(cases))
        stage.play(with_the_rest(cases))


def test_f01_length_with_the_top_bit(serve: Serving) -> None:
    play_row(serve, "f1")


def test_f02_lengths_that_wrap(serve: Serving) -> None:
    play_row(serve, "f2")


def test_f03_declared_but_not_sent(serve: Serving) -> None:
    play_row(serve, "f3")


def test_f03_memory_grows_with_what_arrives(serve: Serving) -> None:
    """Under a limit above 2 GB, twenty peers that declare 2 GB each and send a few bytes hold a few bytes each."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_message_size=4 << 30))
    with bystander(server):
        clients = [RawClient.open(server.port) for _ in range(20)]
        before = memory_of()
        for client in clients:
            client.send_raw(build(BINARY, b"a few bytes", length=2 << 30))
        server.settle()
        held = eventually(lambda: server.stats()["buffered_bytes"], what="what arrived is kept")
        assert 20 * 11 <= held <= 20 * 8192, held
        for client in clients:
            client.send_raw(bytes(100_000))
        eventually(lambda: server.stats()["buffered_bytes"] >= 20 * 100_000)
        held = server.stats()["buffered_bytes"]
        assert held <= 20 * 100_000 * 3, f"{held} bytes kept for {20 * 100_000} received"
        assert memory_of() - before < 64 << 20
    assert all(event[0] in ("open", "close") for event in recorder.events)


def test_f04_at_the_limit_and_over(serve: Serving) -> None:
    play_row(serve, "f4")


@pytest.mark.parametrize("limit", [65535, 65536, 1 << 20])
def test_f04_large_limits(serve: Serving, limit: int) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), max_message_size=limit))
    message = b"m" * limit
    expected = [OPENED, ("message", message), ("close", 1009, ANY)]
    with bystander(server, recorder, expected):
        client = RawClient.open(server.port)
        client.send_frame(BINARY, message)
        client.send_frame(BINARY, b"", length=limit + 1)
        client.expect_close(1009)


def test_f04_default_limit_is_1_mib(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with bystander(server, recorder, [OPENED, ("message", b"m" * (1 << 20)), ("close", 1009, ANY)]):
        client = RawClient.open(server.port)
        client.send(b"m" * (1 << 20))
        client.send(b"m" * ((1 << 20) + 1))
        client.expect_close(1009)


def test_f05_frames_behind_one_over_the_limit(serve: Serving) -> None:
    play_row(serve, "f5")


def test_f06_unmasked(serve: Serving) -> None:
    play_row(serve, "f6")


def test_f07_rsv_bits(serve: Serving) -> None:
    play_row(serve, "f7")


def test_f08_reserved_opcodes(serve: Serving) -> None:
    play_row(serve, "f8")


def test_f09_bad_control_frames(serve: Serving) -> None:
    play_row(serve, "f9")


def test_f10_lengths_not_minimal(serve: Serving) -> None:
    play_row(serve, "f10")


def test_f11_fragments_out_of_order(serve: Serving) -> None:
    play_row(serve, "f11")


def test_f12_bad_close_frames(serve: Serving) -> None:
    play_row(serve, "f12")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, *range(1016, 3000, 331), 2999, 5000, 65535])
def test_f12_bad_codes(serve: Serving, code: int) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with bystander(server, recorder, [OPENED, ("close", 1002, ANY)]):
        client = RawClient.open(server.port)
        client.send_raw(build_close(code, b"a reason"))
        client.expect_close(1002)


def test_f13_close_frames_are_answered(serve: Serving) -> None:
    play_row(serve, "f13")


def test_f13_codes_and_reasons_reach_the_callback(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    expected = []
    for code in WIRE_CODES:
        expected += [OPENED, ("close", code, "why é")]
    with bystander(server, recorder, expected):
        for number, code in enumerate(WIRE_CODES, 1):
            client = RawClient.open(server.port)
            client.send_raw(build_close(code, "why é".encode()))
            client.expect_close(code)
            eventually(lambda number=number: len(recorder.events) == 2 * number)


def test_f13_the_server_ends_the_connection_first(serve: Serving) -> None:
    """Section 7.1.1: after the close handshake it is the server that closes TCP, so that TIME_WAIT is its own."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    with bystander(server, recorder, [OPENED, ("close", 1005, "")]):
        client = RawClient.open(server.port)
        client.send_close(None)
        client.expect_close(None)


def test_f13_no_frame_after_the_close_frame(serve: Serving) -> None:
    """Answers to what came before a Close frame leave before its answer, and none after it (section 5.5.1)."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(echo=True)))
    expected = [OPENED, ("message", "a"), ("ping", b"p"), ("message", "b"), ("close", 1000, "")]
    with bystander(server, recorder, expected):
        client = RawClient.open(server.port)
        client.send_raw(build(TEXT, b"a") + build(PING, b"p") + build(TEXT, b"b") + build_close(1000) + build(PING))
        opcodes: list[int] = []
        while not opcodes or opcodes[-1] != CLOSE:
            opcodes.append(client.recv_frame().opcode)
        assert sorted(opcodes[:-1]) == [TEXT, TEXT, 10], opcodes
        client.expect_eof()


def test_f14_data_after_a_close_frame(serve: Serving) -> None:
    play_row(serve, "f14")


def test_f14_a_flood_after_a_close_frame(serve: Serving) -> None:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(), close_timeout=1.0))
    with bystander(server, recorder, [OPENED, ("close", 1001, "")]):
        client = RawClient.open(server.port)
        client.send_raw(build_close(1001))
        try:
            for _ in range(200):
                client.send_raw(build(TEXT, b"x" * 10_000) + build(CONT, b"y"))
        except ConnectionError:
            pass  # it may be gone already
        eventually(lambda: server.stats()["sockets"] == 1, 3.0, "gone within close_timeout")


def test_f15_in_two_pieces_cut_everywhere(serve: Serving) -> None:
    stage = Stage(serve)
    with bystander(stage.server):
        assert stage.play(in_two(CASES)) > 10_000


def test_f15_one_byte_per_segment(serve: Serving) -> None:
    stage = Stage(serve)
    with bystander(stage.server):
        assert stage.play(by_bytes(CASES)) == len(CASES)


def test_f15_many_streams_in_one_connection(serve: Serving) -> None:
    """What leaves a connection open and unfinished nothing can be followed by the next: state carries nothing over."""
    cases = [case for case in CASES if case.close_code is None and case.events and not case.options]
    finished = [case for case in cases if case.events[-1][0] in ("text", "binary")]
    assert len(finished) > 10
    stream = b"".join(case.stream for case in finished)
    events = [event for case in finished for event in case.events]
    joined = Case("f15_joined", stream, events)
    stage = Stage(serve, [joined])
    with bystander(stage.server):
        pieces = [[stream], *([stream[at : at + n] for at in range(0, len(stream), n)] for n in (3, 7, 64, 1000))]
        stage.play((joined, piece) for piece in pieces)
