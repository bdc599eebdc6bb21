"""Every example does what it shows, run as a reader would run it."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import itertools
import json
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import pytest
from harness import (
    BINARY,
    PATIENCE,
    TEXT,
    Ended,
    HttpResponse,
    RawClient,
    Serving,
    build,
    eventually,
    request_bytes,
    slow_client,
)
from harness.programs import ROOT, python, running, serving, talks

import fastws

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text()


def imported(name: str) -> ModuleType:
    """An example as a module of this process, fresh."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / f"examples/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def get(port: int, target: str) -> HttpResponse:
    client = RawClient.connect(port)
    client.send_raw(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client.recv_http()


# All of them


def test_every_example_is_tested() -> None:
    """Here, by a test of its name, or one that begins with it."""
    tests = [name for name in globals() if name.startswith("test_")]
    for path in EXAMPLES:
        assert any(re.match(rf"test_{path.stem}(_|$)", name) for name in tests), f"nothing talks to {path.name}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_examples_have_in_common(path: Path) -> None:
    """They are short, say how to try them, can be given to `fastws serve`, and are listed in the README."""
    module = imported(path.stem)
    assert isinstance(module.app, fastws.App)
    assert module.__doc__ and f"`python examples/{path.name}`" in module.__doc__
    assert len(path.read_text().splitlines()) <= 80
    assert f"(examples/{path.name})" in README


# echo


@pytest.mark.parametrize("by_command", [False, True])
def test_echo(by_command: bool) -> None:
    with serving("echo", by_command=by_command) as port:
        talks(port)
        page = get(port, "/")
        assert page.status == 200 and b"ws://localhost/" in page.body


# auth


def token_of(port: int, user: str) -> str:
    return str(get(port, f"/token?user={user}").body.decode())


def cookie(value: str) -> list[tuple[str, str]]:
    return [("Cookie", f"theme=dark; session={value}")]


def offer(*protocols: str) -> list[tuple[str, str]]:
    return [("Sec-WebSocket-Protocol", ", ".join(protocols))]


def refused(port: int, status: int, headers: list[tuple[str, str]], path: str = "/inbox/ada") -> None:
    client = RawClient.connect(port)
    client.send_raw(request_bytes(path, headers=headers))
    answer = client.expect_reject(status)
    assert "token" not in answer.body.decode()
    client.close()


def test_auth() -> None:
    with serving("auth") as port:
        login = get(port, "/login?user=ada")
        pair, *attributes = login.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
        session = pair.removeprefix("session=")

        client = RawClient.open(port, "/inbox/ada", headers=cookie(session))
        assert client.recv() == "hello ada"

        client = RawClient.connect(port)
        answer = client.handshake("/inbox/ada", headers=offer("app.v1", f"token.{token_of(port, 'ada')}"))
        assert answer.headers["sec-websocket-protocol"] == "app.v1"
        assert client.recv() == "hello ada"

        refused(port, 401, [])
        refused(port, 401, cookie(""))
        refused(port, 401, offer("app.v1"))
        refused(port, 403, cookie(session), "/inbox/grace")
        refused(port, 403, offer("app.v1", f"token.{token_of(port, 'ada')}"), "/inbox/grace")
        refused(port, 403, [*cookie(session), ("Origin", "http://evil.example")])
        # A bad token is not made good by a cookie.
        refused(port, 401, [*cookie(session), *offer("app.v1", "token.AAAA")])


def test_auth_forged() -> None:
    with serving("auth") as port:
        mine = token_of(port, "mallory")
        signed = base64.urlsafe_b64decode(mine + "=" * (-len(mine) % 4))
        assert signed[32:].endswith(b" mallory")
        bodies = [signed[:32] + signed[32:].replace(b"mallory", b"ada"), signed[:32], b"", bytes(32) + signed[32:]]
        bodies += [signed[:bit] + bytes([signed[bit] ^ 1]) + signed[bit + 1 :] for bit in (0, 31, 32, len(signed) - 1)]
        for body in bodies:
            forged = base64.urlsafe_b64encode(body).decode().rstrip("=")
            refused(port, 401, cookie(forged), "/inbox/mallory")
            refused(port, 401, offer("app.v1", f"token.{forged}"), "/inbox/mallory")
        for garbage in ("A", "=", "ÿ", mine[:-8], "." + mine[1:]):
            refused(port, 401, cookie(garbage), "/inbox/mallory")


def test_auth_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = imported("auth")
    proof, now = auth.sign("ada"), time.time()
    assert auth.verify(proof) == "ada"
    monkeypatch.setattr(auth.time, "time", lambda: now + auth.LIFETIME + 1)
    assert auth.verify(proof) is None
    assert auth.verify(auth.sign("ada")) == "ada"


# chat


def join(port: int, room: str, name: str, colon: str = ": ") -> RawClient:
    client = RawClient.open(port, f"/chat/{room}?name={quote(name)}")
    assert str(client.recv()).startswith(f"* {name} came{colon}")
    return client


@pytest.mark.parametrize("by_command", [False, True])
def test_chat(by_command: bool) -> None:
    with serving("chat", by_command=by_command) as port:
        ada, alan = join(port, "tea", "Ada"), join(port, "coffee", "Alan")
        grace = join(port, "tea", "Grâce")
        assert ada.recv() == "* Grâce came: 2 here"
        ada.send("hello")
        grace.send("👋 grüße")
        assert (grace.recv(), ada.recv()) == ("Ada: hello", "Grâce: 👋 grüße")  # nobody hears herself
        grace.send(b"\x00")
        with pytest.raises(Ended, match="closed with 1003"):
            grace.recv()
        grace.send_close(1003)
        assert ada.recv() == "* Grâce left: 1 here"
        joan = join(port, "tea", "Joan")
        ada.reset()
        assert joan.recv() == "* Ada left: 1 here"
        alan.expect_silence()  # another room
        for target in ("/chat/tea", "/chat/tea?name=", "/chat/tea?name=" + "a" * 33, f"/chat/{'r' * 33}?name=Eve"):
            refused(port, 400, [], target)


# chat_redis


@pytest.fixture
def redis_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a Redis on a Unix socket, which examples are told of."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("PATH has no redis-server: on Debian and Ubuntu, apt-get install redis-server")
    path = str(tmp_path / "redis")
    monkeypatch.setenv("REDIS_URL", f"unix://{path}")
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", str(tmp_path)]
        started.append(subprocess.Popen([program, *options], stdout=subprocess.DEVNULL))

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as sock:
                return sock.connect_ex(path) == 0

        eventually(answers, 10)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_chat_redis(redis_server: Callable[[], subprocess.Popen[bytes]]) -> None:
    """What is said in one process is heard in the other, also after Redis was away."""
    redis = redis_server()
    with serving("chat_redis") as one, serving("chat_redis", by_command=True) as other:
        ada = join(one, "tea", "Ada", "")
        grace, alan = join(other, "tea", "Grace", ""), join(other, "coffee", "Alan", "")
        assert ada.recv() == "* Grace came"
        ada.send("hello")
        assert (ada.recv(), grace.recv()) == ("Ada: hello", "Ada: hello")
        refused(other, 400, [], "/chat/tea")
        redis.kill()
        redis.wait()
        redis_server()

        def heard() -> bool:
            """Each process comes back to Redis in its own time."""
            client = RawClient.open(one, "/chat/tea?name=Joan")
            client.sock.settimeout(0.2)
            try:
                return client.recv() == "* Joan came"
            except TimeoutError:
                return False
            finally:
                client.close()

        eventually(heard, 20)
        alan.expect_silence()  # another room
        grace.send("I am back")
        while (said := ada.recv()) != "Grace: I am back":
            assert str(said).startswith("* Joan")
        grace.close()
        while (said := ada.recv()) != "* Grace left":
            assert str(said).startswith("* Joan")


def test_chat_redis_without_a_redis(tmp_path: Path) -> None:
    done = python("examples/chat_redis.py", REDIS_URL=f"unix://{tmp_path}/redis")
    assert done.returncode == 1
    assert "in lifespan" in done.stderr and "listening" not in done.stderr
    assert re.search(r"ConnectionError: .*No such file or directory", done.stderr)


# ticker


def tick_of(client: RawClient) -> int:
    return int(json.loads(client.recv())["tick"])


def test_ticker() -> None:
    with serving("ticker", how=signal.SIGINT) as port:
        began = time.monotonic()
        ticks, seconds = RawClient.open(port, "/ticks"), RawClient.open(port, "/seconds")
        first = tick_of(ticks)
        assert [tick_of(ticks) for _ in range(11)] == list(range(first + 1, first + 12))
        assert 0.8 < time.monotonic() - began < 5
        assert tick_of(seconds) % 10 == 0
        refused(port, 404, [], "/minutes")


class Clock(selectors.SelectSelector):
    """Time passes only by sleeping, and every sleep is late by 20 ms."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.now += timeout + 0.02
        return super().select(0)


def test_ticker_does_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it make up for what it missed, or make a message that nobody hears."""
    ticker, clock = imported("ticker"), Clock()
    loop = asyncio.SelectorEventLoop(clock)
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    times: list[float] = []

    def nobody(topic: str) -> int:
        if topic == "ticks":
            times.append(clock.now)
            if len(times) == 50:
                clock.now += 1.23  # a stall
        return 0

    monkeypatch.setattr(ticker.app, "num_subscribers", nobody)
    monkeypatch.setattr(ticker.fastws, "prepare", lambda *arguments: pytest.fail("made a message for nobody"))
    with pytest.raises(asyncio.TimeoutError):
        loop.run_until_complete(asyncio.wait_for(ticker.tick(), 20))
    loop.close()
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert [gap for gap in gaps if gap > 0.15] == [pytest.approx(1.23, abs=0.15)]
    assert len([gap for gap in gaps if gap < 0.05]) <= 1
    assert len(times) == pytest.approx((20 - 1.23) / 0.1, abs=3)


# slow


def test_slow_keeps_the_order() -> None:
    with serving("slow", by_command=True) as port:
        client, other = RawClient.open(port, "/lookup"), RawClient.open(port, "/lookup")
        client.send_raw(b"".join(build(TEXT, str(number).encode()) for number in range(100)))
        began = time.monotonic()
        other.send("quick")
        assert other.recv() == "found 'quick'"
        waited = time.monotonic() - began
        assert [client.recv() for _ in range(100)] == [f"found '{number}'" for number in range(100)]
        # One at a time those take two seconds; the other connection's did not wait for them.
        took = time.monotonic() - began
        assert took > 1.9
        assert waited < took / 2


def test_slow_pauses_reading(serve: Serving) -> None:
    """Of what a client sends ahead, the server takes `max_waiting` messages, and the kernel what its buffers hold."""
    server = serve(imported("slow").app)
    client = RawClient.open(server.port, "/lookup")
    size = 512 * 1024
    message = memoryview(build(BINARY, bytes(size)))
    client.sock.settimeout(0.05)
    began, sent = time.monotonic(), 0
    while sent < 400 * len(message) and time.monotonic() < began + (0.7 if sent > 8 * size else 5 * PATIENCE):
        try:
            sent += client.sock.send(message[sent % len(message) :])
        except TimeoutError:
            pass
    looked_up = (time.monotonic() - began) / 0.02
    assert 8 < sent / size < looked_up + 100, "either not enough was offered for reading to pause, or all was taken"
    assert server.call(lambda: len(server.server.connections)) == 1
    client.reset()


def test_slow_download() -> None:
    with serving("slow") as port:
        client = RawClient.open(port, "/download")
        client.send("3")
        received = 0
        while isinstance(message := client.recv(), bytes):
            received += len(message)
        assert (message, received) == ("done", 3 * 1024 * 1024)
        for wrong in ("much", "99999", "²", ""):
            client = RawClient.open(port, "/download")
            client.send(wrong)
            with pytest.raises(Ended, match="closed with 1008"):
                client.recv()


def test_slow_reader_is_waited_for(serve: Serving) -> None:
    server = serve(imported("slow").app)
    client = slow_client(server, "/download")
    client.send("100")
    eventually(lambda: server.stats()["buffered_bytes"])
    for _ in range(10):
        assert server.stats()["buffered_bytes"] <= 128 * 1024
        time.sleep(0.01)
    assert len(server.server.connections) == 1
    for _ in range(20):  # it has not been closed as a slow consumer
        assert client.recv() == bytes(16 * 1024)
    client.reset()


# embed


def test_embed() -> None:
    with running(str(ROOT / "examples/embed.py")) as program:
        found = re.fullmatch(r"watch ws://127.0.0.1:(\d+)/pi\n", program.read_line())
        assert found
        clients = [RawClient.open(int(found[1]), "/pi") for _ in range(2)]
        for client in clients:
            assert re.fullmatch(r"pi is about 3\.\d{5}", str(client.recv()))
        reports = (program.read_line() for _ in range(10))
        assert "2 are watching\n" in reports  # the program's own task runs beside
        clients[0].send("more")
        clients[1].send("enough")
        for client in clients:
            with pytest.raises(Ended, match="closed with 1001"):
                while True:
                    client.recv()
            client.send_close(1001)
            client.expect_eof()
        assert abs(float(program.end(None).split()[-1]) - 3.14159) < 0.1
