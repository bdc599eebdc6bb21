"""Compressed messages, right and wrong, what must become of each, and a stage that plays them on any route."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness import ANY, BINARY, PING, PONG, TEXT, Recorder, ServerThread, build, close_code, eventually, make_app
from harness.deflating import DeflateClient, compressed, deflate
from harness.frames import frames
from oracles.deflate import TAIL, outcomes

import fastws

LIMIT = 400  # max_message_size of the stage


@dataclass(frozen=True)
class Case:
    """A message's payload and kind, and what comes of it: its data, or the code of the Close."""

    name: str
    opcode: int
    payload: bytes
    outcome: bytes | int


HELLO = deflate(b"Hello")
TWICE = zlib.compressobj(6, zlib.DEFLATED, -15)
TWO_BLOCKS = b"".join(TWICE.compress(part) + TWICE.flush(zlib.Z_SYNC_FLUSH) for part in (b"Hello", b"Hello, hello"))
FINAL = deflate(b"final", flush=zlib.Z_FINISH)
NOISE = random.Random(6).randbytes(LIMIT)
QUOTE = b'{"symbol":"BTC-EUR","price":64123.5}' * 10
HARD_TEXT = "aé€🙂 ".encode() * 30

CASES = [
    # delivered
    Case("hello", TEXT, HELLO, b"Hello"),
    Case("hello_of_the_rfc", TEXT, bytes.fromhex("f248cdc9c90700"), b"Hello"),  # section 7.2.3.1
    Case("stored_of_the_rfc", TEXT, bytes.fromhex("000500faff48656c6c6f00"), b"Hello"),  # section 7.2.3.3
    Case("final_of_the_rfc", TEXT, bytes.fromhex("f348cdc9c9070000"), b"Hello"),  # section 7.2.3.4
    Case("two_blocks_of_the_rfc", TEXT, bytes.fromhex("f248050000 00ffffcac9c90700"), b"Hello"),  # section 7.2.3.5
    Case("empty_of_the_rfc", TEXT, b"\x00", b""),  # section 7.2.3.6
    Case("empty_binary", BINARY, b"\x00", b""),
    Case("nothing_at_all", TEXT, b"", b""),
    Case("empty_fixed_block", TEXT, b"\x02\x00", b""),
    Case("empty_final_block", TEXT, b"\x03\x00\x00", b""),
    Case("empty_blocks", BINARY, (b"\x00" + TAIL) * 50 + b"\x00", b""),
    Case("two_flushes", BINARY, TWO_BLOCKS[:-4], b"HelloHello, hello"),
    Case("two_final", BINARY, FINAL + TAIL + FINAL, b"finalfinal"),
    Case("final_and_more", BINARY, FINAL + TAIL + HELLO, b"finalHello"),
    Case("final_at_once_more", BINARY, FINAL[:-1] + HELLO, b"finalHello"),
    Case("quotes", TEXT, deflate(QUOTE), QUOTE),
    Case("quotes_final", TEXT, deflate(QUOTE, flush=zlib.Z_FINISH), QUOTE),
    Case("small_window", BINARY, deflate(QUOTE, 9), QUOTE),
    Case("exactly_the_limit", BINARY, deflate(bytes(LIMIT)), bytes(LIMIT)),
    Case("exactly_the_limit_text", TEXT, deflate(b"x" * LIMIT), b"x" * LIMIT),
    Case("exactly_the_limit_noise", BINARY, deflate(NOISE), NOISE),
    Case("exactly_the_limit_final", BINARY, deflate(NOISE, flush=zlib.Z_FINISH), NOISE),
    Case("exactly_the_limit_more_blocks", BINARY, deflate(bytes(LIMIT)) + TAIL + b"\x00", bytes(LIMIT)),
    Case("hard_text", TEXT, deflate(HARD_TEXT), HARD_TEXT),
    # too large
    Case("limit_plus_1", BINARY, deflate(bytes(LIMIT + 1)), 1009),
    Case("limit_plus_1_text", TEXT, deflate(b"x" * (LIMIT + 1)), 1009),
    Case("limit_plus_1_noise", BINARY, deflate(NOISE + b"x"), 1009),
    Case("limit_plus_1_final", BINARY, deflate(NOISE + b"x", flush=zlib.Z_FINISH), 1009),
    Case("limit_and_a_block_of_1", BINARY, deflate(bytes(LIMIT)) + TAIL + deflate(b"x"), 1009),
    Case("limit_final_and_1", BINARY, deflate(bytes(LIMIT), flush=zlib.Z_FINISH) + TAIL + deflate(b"x"), 1009),
    Case("a_thousandfold", BINARY, deflate(bytes(LIMIT * 1000)), 1009),
    # wrong
    Case("block_type_3", BINARY, b"\x06", 1007),
    Case("block_type_3_final", BINARY, b"\x07", 1007),
    Case("type_3_after_hello", BINARY, HELLO[:-1] + b"\xff", 1007),
    Case("all_ones", BINARY, b"\xff" * 20, 1007),
    Case("size_and_complement", BINARY, b"\x00\x05\x00\xfa\xfeHello", 1007),
    Case("before_the_start", BINARY, bytes.fromhex("f200110000"), 1007),  # "Hello" again, of a message that never was
    Case("truncated", BINARY, deflate(QUOTE)[:-4], 1007),
    Case("truncated_to_one_byte", BINARY, deflate(QUOTE)[:1], 1007),
    Case("truncated_in_a_stored_block", BINARY, b"\x00\x90\x01\x6f\xfe" + NOISE[:-9], 1007),
    Case("truncated_in_the_codes", BINARY, deflate(QUOTE + NOISE[:200], level=9)[:30], 1007),
    Case("garbage_behind", BINARY, HELLO[:-1] + b"\x00\x00\x00\xff\xff" + b"garbage", 1007),
    Case("garbage_behind_final", BINARY, FINAL + b"\xff\xff garbage", 1007),
    Case("half_a_block_behind", BINARY, FINAL[:-1] + deflate(QUOTE)[:-9], 1007),
    Case("with_a_header_of_zlib", BINARY, zlib.compress(QUOTE), 1007),
    Case("with_a_header_of_gzip", BINARY, gzip.compress(QUOTE), 1007),
    Case("not_compressed", BINARY, b"Hello, not compressed", 1007),
    # text that is none (row M1)
    Case("no_text", TEXT, deflate(b"caf\xe9 au lait"), 1007),
    Case("no_text_final", TEXT, deflate(b"caf\xe9 au lait", flush=zlib.Z_FINISH), 1007),
    Case("cut_text", TEXT, deflate("€".encode()[:2]), 1007),
    Case("surrogates", TEXT, deflate(b"x" * 300 + b"\xed\xa0\x80"), 1007),
    Case("the_same_in_binary", BINARY, deflate(b"caf\xe9 au lait"), b"caf\xe9 au lait"),
]


def _check_cases() -> None:
    """The table says what zlib does."""
    for case in CASES:
        if case.opcode == BINARY or isinstance(case.outcome, bytes):
            assert outcomes(case.payload, LIMIT) == {case.outcome}, case.name


_check_cases()


def _plain(app: Any, path: str, recorder: Recorder, limit: int, **options: Any) -> None:
    app.websocket(path, max_message_size=limit, **options)(recorder.handler())


def _takeover(app: Any, path: str, recorder: Recorder, limit: int) -> None:
    _plain(app, path, recorder, limit, compression=fastws.Deflate(client_no_context_takeover=False))


def _raw(app: Any, path: str, recorder: Recorder, limit: int) -> None:
    """binary="view", text="utf8": what is noted is a copy."""

    class Copying(recorder.handler()):  # type: ignore[misc]
        def message(self, ws: Any, data: Any) -> None:
            recorder.note(ws, "message", bytes(data).decode() if ws.is_text else bytes(data))

    app.websocket(path, max_message_size=limit, binary="view", text="utf8")(Copying)


def _async(app: Any, path: str, recorder: Recorder, limit: int) -> None:
    class Waiting(recorder.handler()):  # type: ignore[misc]
        async def message(self, ws: Any, data: Any) -> None:
            await asyncio.sleep(0)
            recorder.note(ws, "message", data)

    app.websocket(path, max_message_size=limit)(Waiting)


Add = Callable[[Any, str, Recorder, int], None]
ROUTES: dict[str, Add] = {"str": _plain, "takeover": _takeover, "view": _raw, "async": _async}


class Stage:
    """A server with one kind of route, and a player: many connections at a time, cut alike."""

    def __init__(self, serve: Callable[[Any], ServerThread], route: str) -> None:
        self.recorder = Recorder()
        app = make_app(compression="deflate")
        ROUTES[route](app, "/", self.recorder, LIMIT)
        self.server = serve(app)
        self._number = itertools.count()

    def play(self, cases: Sequence[Case], way: str) -> None:
        """Each case on a connection of its own, with a message behind it."""
        playing = [(case, str(next(self._number)), _stream(case, way)) for case in cases]
        clients = [
            DeflateClient.offer(self.server.port, "permessage-deflate", path=f"/?{who}") for _, who, _ in playing
        ]
        step = 1 if way == "bytes" else 1 << 20
        for at in range(0, max(len(stream) for _, _, (stream, _) in playing), step):
            for client, (_, _, (stream, _)) in zip(clients, playing, strict=True):
                if stream[at : at + step]:
                    _send(client, stream[at : at + step])
            self.server.settle()
        for client, (case, who, (_, pings)) in zip(clients, playing, strict=True):
            code = _check_wire(client, pings)
            client.close()
            expected: list[Any] = [("open",), *[("ping", b"p")] * pings]
            if isinstance(case.outcome, bytes):
                assert code is None, f"{case.name} {way}: closed with {code}"
                data = case.outcome.decode() if case.opcode == TEXT else case.outcome
                expected += [("message", data), ("message", "after"), ("close", 1006, ANY)]
            else:
                assert code == case.outcome, f"{case.name} {way}: closed with {code}"
                expected += [("close", case.outcome, ANY)]
            eventually(
                lambda who=who, expected=expected: self.recorder.of.get(who) == expected,
                what=f"{case.name} {way}: {expected}, but {self.recorder.of.get(who)}",
            )


def _stream(case: Case, way: str) -> tuple[bytes, int]:
    """What is sent, and how many pings are in it before the message is complete."""
    sizes: list[int] = []
    if way == "fragments":
        sizes = [0, len(case.payload) // 3, 0, len(case.payload) // 3]
    elif way == "fragments of one byte":
        sizes = [1] * len(case.payload)
    pings = [build(PING, b"p")] * min(len(sizes), 5)
    return compressed(case.opcode, case.payload, sizes=sizes, between=pings) + build(TEXT, b"after"), len(pings)


def _send(client: DeflateClient, data: bytes) -> None:
    try:
        client.send_raw(data)
    except ConnectionError:
        pass  # it was closed, for what was sent before


def _check_wire(client: DeflateClient, pings: int) -> int | None:
    """The code of the Close, None where there is none. Before it only pongs."""
    try:
        client.drain_now()
    except ConnectionError:
        pass
    code = None
    pongs = 0
    for frame in frames(client.buffer):
        assert code is None, f"{frame} after a Close"
        if frame.opcode == PONG:
            pongs += 1
        else:
            code = close_code(frame.payload)
    assert (pongs > 0) == (pings > 0)
    return code
