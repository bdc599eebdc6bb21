"""Row S6: connections that come by the thousand, and go again."""

from __future__ import annotations

from harness import TEXT, Recorder, Serving, build, bystander, eventually, make_app
from harness.crowd import REQUEST, Crowd, many_files

DROPS = 20_000
AT_A_TIME = 500  # the listening socket's backlog takes them all
STORM = 5_000


def test_s06_connect_and_drop(serve: Serving) -> None:
    """After nothing, half a request, a whole one, or one with a message behind it; by a FIN or by a reset."""
    recorder = Recorder()
    server = serve(make_app(recorder.handler()))
    parts = [b"", REQUEST[:40], REQUEST, REQUEST + build(TEXT, b"dropped")]
    with bystander(server), Crowd(server.port) as crowd:
        for number in range(DROPS // AT_A_TIME):
            crowd.join(AT_A_TIME, parts[number % len(parts)])
            crowd.leave(reset=number % 8 >= 4)
            accepted = 1 + (number + 1) * AT_A_TIME
            eventually(lambda accepted=accepted: server.stats()["accepted"] == accepted)
    eventually(lambda: server.stats()["sockets"] == 0)
    kinds = {event[0] for event in recorder.events}
    assert kinds <= {"open", "message", "close"}
    for events in recorder.of.values():
        assert events.count(("open",)) == sum(event[0] == "close" for event in events)
    assert recorder.events.count(("message", "dropped")) <= DROPS // 4
    assert recorder.events.count(("open",)) <= DROPS // 2


def test_s06_a_reconnect_storm(serve: Serving) -> None:
    """All are cut off and come back at once; all are served, twice."""
    recorder = Recorder()
    with many_files(2 * STORM + 500):
        server = serve(make_app(recorder.handler(echo=True), handshake_timeout=600))
        message = build(TEXT, b"hello")
        answer = build(TEXT, b"hello", mask=None)
        with bystander(server), Crowd(server.port) as crowd:
            for _ in range(2):
                crowd.join(STORM, REQUEST)
                crowd.until(lambda member: member.status == 101)
                assert server.stats()["connections"] == STORM + 1
                for member in crowd.members:
                    member.send(message)
                crowd.until(lambda member: member.rest == answer)
                crowd.leave(reset=True)
        assert server.stats()["accepted"] == 2 * STORM + 1
        eventually(lambda: sum(event[0] == "close" for event in recorder.events) == 2 * STORM)
        assert recorder.events.count(("message", "hello")) == recorder.events.count(("open",)) == 2 * STORM
