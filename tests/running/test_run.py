"""Servers as processes: how they are started, what signals do, and what they leave behind."""

from __future__ import annotations

import ast
import os
import platform
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, TEXT, RawClient, build, eventually, programs, request_bytes

import fastws

APP = """\
import asyncio, contextlib, sys
import fastws

app = fastws.App(ping_interval=0, handshake_timeout=30)

@app.websocket("/")
def echo(ws, data):
    ws.send(data)

@app.websocket("/stubborn")
async def stubborn(ws, data):
    ws.send("begun")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

@app.websocket("/slow")
class Slow:
    async def close(self, ws, code, reason):
        await asyncio.sleep(0.3)
        print("closed", code, file=sys.stderr, flush=True)

@app.websocket("/loop")
async def which(ws, data):
    ws.send(type(asyncio.get_running_loop()).__module__.partition(".")[0])

if __name__ == "__main__":
    app.run(port=0, loop=sys.argv[1], shutdown_timeout=float(sys.argv[2]))
"""
WAYS = ["app.run", "fastws serve", "python -m fastws"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts a server process; at the end of the test none may be left."""
    (tmp_path / "served.py").write_text(APP)
    started: list[Process] = []

    def start(
        way: str = "app.run",
        loop: str = "auto",
        timeout: float = 5,
        *,
        program: str | None = None,
        command: list[str] | None = None,
    ) -> Process:
        if command is not None:
            pass
        elif program is not None:
            command = ["-c", program]
        elif way == "app.run":
            command = ["served.py", loop, str(timeout)]
        else:
            options = ["--port", "0", "--loop", loop, "--shutdown-timeout", str(timeout)]
            # The script that pip makes of [project.scripts] does just this.
            script = "import sys; from fastws.cli import main; sys.exit(main())"
            command = [*(("-m", "fastws") if "-m" in way else ("-c", script)), "serve", "served:app", *options]
        started.append(Process(command, tmp_path))
        return started[-1]

    yield start
    for client in list(RawClient.opened):
        client.close()
    left = [process for process in started if process.popen.poll() is None]
    for process in left:
        process.popen.kill()
    for process in started:
        process.popen.communicate()
    assert not left, "a server process did not end"


class Process:
    """A server process once it listens; what it writes is collected."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
        self.popen = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.stderr = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        listening = r"listening on http://127\.0\.0\.1:(\d+) \(\w+\)\n"
        eventually(lambda: re.search(listening, self.stderr) or self.popen.poll() is not None, 20)
        if self.popen.poll() is not None:
            self._reader.join(5 * PATIENCE)
        found = re.search(listening, self.stderr)
        assert found, f"it did not listen: {self.stderr}"
        self.port = int(found[1])

    def _read(self) -> None:
        assert self.popen.stderr
        for line in self.popen.stderr:
            self.stderr += line

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def catches(self, number: int) -> bool:
        """It has a handler for this signal (proc(5))."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        caught = re.search(r"SigCgt:\s*(\w+)", status)
        return bool(caught and int(caught[1], 16) >> (number - 1) & 1)

    def wait(self, within: float = 10) -> int:
        """The exit code; nothing may have been written to stdout."""
        self.popen.wait(within * PATIENCE)
        self._reader.join(5 * PATIENCE)
        assert self.popen.stdout
        assert self.popen.stdout.read() == ""
        assert "Traceback" not in self.stderr, self.stderr
        return self.popen.returncode

    def lines(self) -> list[str]:
        """What it logged, without times, levels and names."""
        return [re.sub(r"^.*?(INFO|ERROR) fastws: ", "", line) for line in self.stderr.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("way", WAYS)
def test_a_signal_closes_with_1001(start: Any, way: str, loop: str, number: int) -> None:
    process = start(way, loop, timeout=30)
    clients = [RawClient.open(process.port) for _ in range(3)]
    half_open = RawClient.connect(process.port)
    half_open.send_raw(b"GET /")
    which = RawClient.open(process.port, "/loop")
    which.send("?")
    assert which.recv() == loop
    began = time.monotonic()
    process.signal(number)
    for client in (*clients, which):
        assert client.recv_frame() == (True, 8, b"\x03\xe9server is stopping")
        client.send_close(1001)
        assert client.eof()
        client.close()
    assert process.wait() == 0
    assert time.monotonic() - began < 3 * PATIENCE
    assert process.lines() == [
        f"listening on http://127.0.0.1:{process.port} ({loop})",
        "stopping: 4 connections to close",
    ]


ELSEWHERE = """\
import multiprocessing, signal, sys
from served import app

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    process = context.Process(target=app.run, kwargs={"port": 0})
    process.start()
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    process.join()
    sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_in_a_process_of_multiprocessing(start: Any, tmp_path: Path, method: str, imported: bool) -> None:
    """app.run() is the target, for an App of another module, or of the one that is run."""
    program = ELSEWHERE if imported else ELSEWHERE.replace("from served import app", APP.partition("if __name__")[0])
    (tmp_path / "parent.py").write_text(program)
    process = start(command=["parent.py", method])
    client = RawClient.open(process.port)
    client.send("hello")
    assert client.recv() == "hello"
    client.close()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.lines()[-1].startswith("stopping: ")


def test_an_app_that_another_process_cannot_have(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(
        "import multiprocessing, fastws\n"
        "def main():\n"
        "    app = fastws.App()\n"
        "    multiprocessing.get_context('spawn').Process(target=app.run).start()\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    ended = programs.python("parent.py", cwd=tmp_path)
    assert ended.returncode == 1
    assert "PicklingError: an App is pickled by its name: assign it to a name at the top of its" in ended.stderr


def test_run_takes_what_start_takes(start: Any) -> None:
    """A socket, and a port for two."""
    head = "import socket\nfrom served import app\n"
    sock = f"{head}sock = socket.create_server(('127.0.0.1', 0))\napp.run(sock=sock)"
    shared = f"{head}app.run(port={{}}, reuse_port=True)"
    first = start(program=shared.format(0))
    processes = [start(program=sock), first, start(program=shared.format(first.port))]
    assert first.port == processes[2].port != processes[0].port
    for process in processes:
        client = RawClient.open(process.port)
        client.send("hello")
        assert client.recv() == "hello"
        client.close()
    assert sum("reuse_port: other processes may share port" in process.stderr for process in processes) == 2
    for process in processes:
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


@pytest.mark.parametrize("way", ["app.run", "fastws serve"])
def test_permissions_of_a_unix_socket(tmp_path: Path, way: str) -> None:
    (tmp_path / "served.py").write_text(APP)
    program = "from served import app; app.run(uds='socket', uds_permissions=0o660)"
    command = (
        ["-c", program]
        if way == "app.run"
        else shlex.split("-m fastws serve served:app --uds socket --uds-permissions 660")
    )
    path = tmp_path / "socket"
    served = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert served.stderr and "listening on unix:" in served.stderr.readline()
        assert path.stat().st_mode & 0o777 == 0o660
        second = programs.python(*command, cwd=tmp_path)
        assert second.returncode == 1
        assert "cannot listen on socket: the socket is already in use by a running program" in second.stderr
    finally:
        served.terminate()
        served.communicate(timeout=10 * PATIENCE)
    assert served.returncode == 0 and not path.exists()


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", None, True])
def test_a_shutdown_timeout_that_is_none(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^shutdown_timeout"):
        fastws.App().run(port=0, shutdown_timeout=timeout)


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_never_answers_is_cut_off(start: Any, way: str) -> None:
    process = start(way, timeout=0.5)
    client = RawClient.open(process.port)
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert client.recv_frame().opcode == 8
    assert process.wait() == 0
    assert 0.45 < time.monotonic() - began < 2.5 * PATIENCE


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_second_signal_ends_at_once(start: Any, loop: str, second: int) -> None:
    process = start(loop=loop, timeout=30)
    client = RawClient.open(process.port)
    process.signal(signal.SIGTERM)
    assert client.recv_frame().opcode == 8
    eventually(lambda: "stopping: 1 connections" in process.stderr)
    began = time.monotonic()
    process.signal(second)
    assert process.wait() == 0
    assert time.monotonic() - began < 1.5 * PATIENCE
    assert process.lines()[-1] == "stopping at once"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_close_callbacks_run_to_their_end(start: Any, loop: str) -> None:
    process = start(loop=loop)
    client = RawClient.open(process.port, "/slow")
    process.signal(signal.SIGTERM)
    client.recv_frame()
    client.send_close(1001)
    client.close()
    assert process.wait() == 0
    assert process.lines()[-1] == "closed 1001"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_callback_that_ignores_its_cancellation(start: Any, loop: str) -> None:
    process = start(loop=loop, timeout=0.1)
    client = RawClient.open(process.port, "/stubborn")
    client.send("go")
    assert client.recv() == "begun"
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert time.monotonic() - began < 5 * PATIENCE
    assert any("(__main__.stubborn) ignores its cancellation; the server stops" in line for line in process.lines())


def test_a_third_signal_is_the_interpreters(start: Any) -> None:
    process = start(timeout=30)
    client = RawClient.open(process.port, "/stubborn")
    client.send("go")
    assert client.recv() == "begun"
    for said in ("stopping: 1 connections", "stopping at once"):
        process.signal(signal.SIGTERM)
        eventually(lambda said=said: said in process.stderr)
    eventually(lambda: not process.catches(signal.SIGTERM))
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    assert time.monotonic() - began < 0.5 * PATIENCE


def test_a_signal_amid_traffic(start: Any) -> None:
    """Messages that keep coming do not hold it up."""
    process = start(timeout=1)
    client = RawClient.open(process.port)
    over = threading.Event()
    rounds: list[int] = []

    def flood() -> None:
        frames = build(TEXT, b"x", mask=b"abcd") * 1000
        try:
            while not over.is_set():
                client.send_raw(frames)
                client.drain_now()
                rounds.append(1)
        except OSError:
            pass

    thread = threading.Thread(target=flood)
    thread.start()
    eventually(lambda: len(rounds) > 20)
    process.signal(signal.SIGTERM)
    code = process.wait(8)
    over.set()
    thread.join()
    assert code == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_signal_with_nobody_there(start: Any, way: str) -> None:
    process = start(way)
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert process.lines()[-1] == "stopping: 0 connections to close"


def test_without_uvloop(start: Any) -> None:
    program = "import sys; sys.modules['uvloop'] = None; sys.path.insert(0, '.'); from served import app; "
    process = start(program=program + "app.run(port=0)")
    client = RawClient.open(process.port, "/loop")
    client.send("?")
    assert client.recv() == "asyncio"
    client.close()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def python(program: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.python("-W", "error", "-c", program, *arguments, cwd=cwd)


def test_uvloop_asked_for_and_not_there(tmp_path: Path) -> None:
    program = "import sys; sys.modules['uvloop'] = None; import fastws; fastws.App().run(port=0, loop='uvloop')"
    done = python(program, tmp_path)
    assert done.stderr.endswith("ImportError: uvloop is not installed: install it, or give loop='auto'\n")
    (tmp_path / "served.py").write_text(APP)
    program = "import sys; sys.modules['uvloop'] = None; from fastws.cli import main; sys.exit(main(sys.argv[1:]))"
    done = python(program, tmp_path, "serve", "served:app", "--port", "0", "--loop", "uvloop")
    assert done.returncode == 1
    assert done.stderr == ("fastws: uvloop is not installed: install it, or give loop='auto'\n")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("app.run(port=0, loop='trio')", "ValueError: loop='trio' is not known: give 'auto', 'uvloop' or 'asyncio'"),
        ("asyncio.run(inside())", "RuntimeError: app.run() is for the main thread, outside of a loop: here use `await"),
        (
            "thread()",
            "RuntimeError: app.run() is for the main thread, where signals arrive: in another one, asyncio.run()",
        ),
        ("app.run(host='192.0.2.1', port=0)", "OSError: [Errno 99] cannot listen on 192.0.2.1 port 0: Cannot assign"),
    ],
)
def test_run_that_cannot(tmp_path: Path, call: str, error: str) -> None:
    """One exception, and no coroutine that was never awaited (-W error)."""
    program = """
import asyncio, threading
import fastws
app = fastws.App()
async def inside():
    app.run(port=0)
def thread():
    one = threading.Thread(target=app.run)
    one.start()
    one.join()
"""
    done = python(program + call, tmp_path)
    assert error in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "never awaited" not in done.stderr


AFTERWARDS = """
import asyncio, os, signal, sys, threading, time
import fastws

app = fastws.App()

def mine(number, frame):
    pass

before = {
    "mine": (mine, mine), "default": (signal.default_int_handler, signal.SIG_DFL), "ignore": (signal.SIG_IGN,) * 2
}[sys.argv[2]]
signal.signal(signal.SIGINT, before[0])
signal.signal(signal.SIGTERM, before[1])
fds = len(os.listdir("/proc/self/fd"))

def end(number):
    while not app._servers:  # or the start would be cancelled
        time.sleep(0.01)
    os.kill(os.getpid(), number)

for number in (signal.SIGTERM, signal.SIGINT):
    thread = threading.Thread(target=end, args=(number,))
    thread.start()
    app.run(port=0, loop=sys.argv[1])
    thread.join()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert signal.set_wakeup_fd(-1) == -1
    assert app.stats()["sockets"] == 0
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        sys.exit("a loop is left")
# libuv keeps one pipe for the process
assert len(os.listdir("/proc/self/fd")) <= fds + (2 if sys.argv[1] == "uvloop" else 0)
print("end")
"""


@pytest.mark.parametrize("handlers", ["mine", "default", "ignore"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_afterwards(tmp_path: Path, loop: str, handlers: str) -> None:
    """It can be run again; signal handlers are as they were, and no descriptor is left."""
    done = python(AFTERWARDS, tmp_path, loop, handlers)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert done.stderr.count("listening on") == 2


def test_it_leaves_logging_alone(tmp_path: Path) -> None:
    """What the application has set up is not changed."""
    program = """
import logging, os, signal, sys, threading, time
logging.basicConfig(format="mine: %(message)s", stream=sys.stdout, level=logging.INFO)
import fastws
app = fastws.App()
def end():
    while not app._servers:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end).start()
app.run(port=0)
"""
    done = python(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"mine: listening on .*\nmine: stopping: 0 connections to close\n", done.stdout)


def test_a_request_under_way(start: Any) -> None:
    """Who is still opening is dropped, also when all of the request comes later."""
    process = start()
    client = RawClient.connect(process.port)
    client.send_raw(request_bytes()[:-2])
    honest = RawClient.open(process.port)
    process.signal(signal.SIGTERM)
    assert honest.recv_frame().opcode == 8
    assert client.eof()
    honest.send_close(1001)
    honest.close()
    assert process.wait() == 0


def test_the_limit_of_open_files_is_raised(start: Any) -> None:
    program = """
import resource, fastws
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
app = fastws.App()

@app.http("/")
def limits(request):
    return fastws.Response(200, repr((*resource.getrlimit(resource.RLIMIT_NOFILE), hard)))

app.run(port=0)
"""
    process = start(program=program)
    client = RawClient.connect(process.port)
    client.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    soft, hard, before = ast.literal_eval(client.recv_http().body.decode())
    assert hard == before
    assert soft == (1 << 20 if hard == resource.RLIM_INFINITY else min(hard, 1 << 20)) > 256
    client.close()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


FEW_FILES = """
import os, resource, fastws
first = os.open(os.devnull, os.O_RDONLY)
os.close(first)
resource.setrlimit(resource.RLIMIT_NOFILE, (first + {free}, first + {free}))
app = fastws.App()
app.websocket("/")(lambda ws, data: ws.send(data))
app.run(port=0, loop="{loop}")
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("free", [4, 7, 12, 15])
def test_too_few_open_files(free: int, loop: str) -> None:
    """They are told before the loop is made: uvloop would fail halfway, and hide why."""
    done = programs.python("-c", FEW_FILES.format(free=free, loop=loop))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"RLIMIT_NOFILE=\d+ leaves {free} files to open, and a server needs 16: raise it", last)
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_just_enough_open_files(start: Any, loop: str) -> None:
    process = start(program=FEW_FILES.format(free=16, loop=loop))
    client = RawClient.open(process.port)
    client.send("hello")
    assert client.recv() == "hello"
    process.signal(signal.SIGTERM)
    assert client.recv_frame().opcode == 8
    client.send_close(1001)
    client.close()
    assert process.wait() == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
@pytest.mark.parametrize("told", [False, True])
def test_large_messages_do_not_take_new_memory_each_time(
    start: Any, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """app.run keeps what large messages have freed, but for where the environment decides."""
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    if told:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    process = start()
    client = RawClient.open(process.port)
    frame = build(TEXT, ("日本" * (1 << 20))[: (1 << 20) // 3 - 1].encode())

    def echo(times: int) -> int:
        """The page faults of the server meanwhile."""
        before = page_faults(process.popen.pid)
        for _ in range(times):
            client.send_raw(frame)
            client.recv_frame()
        return page_faults(process.popen.pid) - before

    echo(5)
    faults = echo(20)  # 256 pages are 1 MiB, where the kernel does not hand out huge ones
    assert faults > 20 if told else faults < 20 * 50
    client.close()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def page_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


LIFESPAN = """
import asyncio, logging, os, signal, sys
import fastws

log = logging.getLogger("mine")

async def lifespan(app):
    print("enters", file=sys.stderr, flush=True)
    try:
        if os.environ["FAILS"] == "enter":
            raise ConnectionRefusedError(111, "the database is away")
        if os.environ["FAILS"] == "hang on enter":
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(3600)
        if os.environ["FAILS"] == "later":
            asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
        yield "the value"
        log.info("leaving")
        if os.environ["FAILS"] == "leave":
            raise ConnectionResetError("the database went away")
        if os.environ["FAILS"] == "hang on leave":
            await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled", file=sys.stderr, flush=True)
        if os.environ["FAILS"] == "later":
            raise ConnectionResetError("a background task") from None
        raise

app = fastws.App(lifespan=lifespan)

@app.websocket("/")
def state(ws, data):
    log.info("told")
    ws.send(app.state)

if __name__ == "__main__":
    app.run(port=0)
"""
LIVES = {"app.run": ["living.py"], "fastws serve": ["-m", "fastws", "serve", "living:app", "--port", "0"]}


@pytest.fixture(params=LIVES)
def live(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Process]:
    """Starts a server with a lifespan that does not do all it should."""
    (tmp_path / "living.py").write_text(LIFESPAN)
    start = request.getfixturevalue("start")

    def live(fails: str) -> Process:
        monkeypatch.setenv("FAILS", fails)
        process: Process = start(command=LIVES[request.param])
        return process

    return live


def test_a_lifespan(live: Any) -> None:
    process = live("")
    client = RawClient.open(process.port)
    client.send("?")
    assert client.recv() == "the value"
    process.signal(signal.SIGTERM)
    client.recv_frame()
    client.send_close(1001)
    client.close()
    assert process.wait() == 0
    assert re.findall(r"^(?:enters|cancelled)$|INFO mine: \w+", process.stderr, re.MULTILINE) == [
        "enters",
        "INFO mine: told",
        "INFO mine: leaving",
    ]


def test_a_lifespan_that_fails_on_entry(live: Any) -> None:
    with pytest.raises(AssertionError, match="it did not listen") as caught:
        live("enter")
    told = str(caught.value)
    assert "in lifespan" in told, "the traceback is the user's"
    assert told.count("ConnectionRefusedError: [Errno 111] the database is away") == 1


def test_a_lifespan_that_fails_on_exit(live: Any) -> None:
    process = live("leave")
    process.signal(signal.SIGTERM)
    process.popen.wait(10 * PATIENCE)
    eventually(lambda: process.stderr.endswith("ConnectionResetError: the database went away\n"))
    assert process.popen.returncode == 1
    assert "in lifespan" in process.stderr


def test_a_lifespan_that_fails_while_it_serves(live: Any) -> None:
    """As where a task group in it cancels it. The process ends, so that what watches over it starts another."""
    process = live("later")
    process.popen.wait(10 * PATIENCE)
    eventually(lambda: process.stderr.endswith("ConnectionResetError: a background task\n"))
    assert process.popen.returncode == 1
    assert "ERROR fastws: the lifespan has failed, so the server stops\nTraceback" in process.stderr


def test_a_signal_while_a_lifespan_is_entered(live: Any) -> None:
    with pytest.raises(AssertionError, match="it did not listen") as caught:
        live("hang on enter")
    told = str(caught.value)
    assert re.search(r"INFO fastws: stopping before it has started\n\s*cancelled\n", told), told
    assert "Traceback" not in told


def test_a_second_signal_while_a_lifespan_is_left(live: Any) -> None:
    process = live("hang on leave")
    process.signal(signal.SIGTERM)
    eventually(lambda: "leaving" in process.stderr)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.lines()[-3:] == [
        "stopping at once",
        "the lifespan has not ended within 1 s: it is cancelled",
        "cancelled",
    ]
