"""What the handshake rows have in common: a request that must be refused, and one that must be let in."""

from __future__ import annotations

from harness import TEXT, RawClient, Recorder, Serving, build, bystander, eventually, make_app, request_bytes

SECOND = request_bytes()
LET_IN = [("upgrade",), ("open",), ("close", 1006, "")]


def refuse(serve: Serving, wire: bytes, *statuses: int, **options: object) -> None:
    """The request gets one response with one of `statuses`, the end, and no callback; what follows it is discarded."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), **options))
    with bystander(server, recorder):
        for extra in (b"", SECOND + build(TEXT, b"frame")):
            client = RawClient.connect(server.port)
            client.send_raw(wire + extra)
            client.expect_reject(*statuses)


def accept(serve: Serving, wire: bytes, **options: object) -> Recorder:
    recorder = Recorder()
    server = serve(make_app(recorder.handler(upgrade=True), **options))
    with bystander(server, recorder, LET_IN):
        client = RawClient.connect(server.port)
        client.send_raw(wire)
        client.expect_101()
        client.expect_silence(0.02)
        client.close()
        eventually(lambda: len(recorder.events) == 3)
    return recorder
