"""A message published to ten thousand subscribers that compress is compressed once."""

from __future__ import annotations

import http.client
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import TEXT, build, request_bytes
from harness.client import KEY
from harness.crowd import REQUEST, Crowd, many_files
from harness.programs import Program

SUBSCRIBERS = 10_000  # the server has as many sockets, so it is in a process of its own
AT_A_TIME = 500

SOURCE = """
import asyncio, fastws, json

app = fastws.App(compression="deflate", ping_interval=0)


@app.websocket("/")
class All:
    def open(self, ws):
        ws.subscribe("all")


@app.http("/publish")
def publish(request):
    app.publish("all", request.query_string)
    return fastws.Response(200, json.dumps(app.stats()))


async def main():
    server = await app.start("127.0.0.1", 0)
    print(server.port, flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
"""


def asking(extensions: str) -> bytes:
    return request_bytes(key=KEY, headers=[("Sec-WebSocket-Extensions", extensions)])


def size_of(frame: bytes) -> int:
    return int.from_bytes(frame[2:4], "big")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "program.py").write_text(SOURCE)
    program = Program(str(tmp_path / "program.py"), seconds=600)
    try:
        yield int(program.read_line())
    finally:
        program.kill()


def publish(port: int, message: str) -> dict[str, int]:
    """The server's stats right after it has published the message."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/publish?{message}")
    stats: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return stats


def test_a_publish_to_ten_thousand_is_compressed_once(port: int) -> None:
    offer = asking("permessage-deflate; client_max_window_bits")
    messages = ["&".join(f"key{i}={i * number}" for i in range(40))[:400] for number in (7, 11)]
    with many_files(SUBSCRIBERS + 500), Crowd(port) as crowd:
        plain = crowd.join(1, REQUEST)
        narrow = crowd.join(1, asking("permessage-deflate; server_max_window_bits=8"))
        for _ in range(SUBSCRIBERS // AT_A_TIME):
            joined = crowd.join(AT_A_TIME, offer)
            crowd.until(lambda member: member.status == 101, joined)
        crowd.until(lambda member: member.status == 101)
        for number, message in enumerate(messages, 1):
            for member in crowd.members:
                del member.got[member.got.index(b"\r\n\r\n") + 4 :]
            stats = publish(port, message)
            assert stats["connections"] == SUBSCRIBERS + 2
            assert stats["deflations"] == number
            whole = build(TEXT, message.encode(), mask=None)
            first = crowd.members[2]
            crowd.until(lambda member: len(member.rest) >= 4 and len(member.rest) == 4 + size_of(member.rest), [first])
            frame = first.rest
            assert frame[:2] == b"\xc1\x7e"
            assert zlib.decompressobj(wbits=-15).decompress(frame[4:] + b"\0\0\xff\xff") == message.encode()
            crowd.until(lambda member, frame=frame: member.rest == frame, crowd.members[2:])
            # One that does not compress, and one whose window the message does not fit in.
            crowd.until(lambda member, whole=whole: member.rest == whole, plain + narrow)
