"""What docs/deploying.md shows is run: the programs, and the files of proxies that are installed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE, RawClient, eventually, request_bytes
from harness.programs import ROOT, python, reserve_port, running

PAGE = (ROOT / "docs" / "deploying.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(_, TEST), (_, PROCESSES), (_, NGINX), (_, HAPROXY) = BLOCKS
README = (ROOT / "README.md").read_text()
SERVER = re.findall(r"^```python\n(import fastws\n.*?)^```$", README, re.MULTILINE | re.DOTALL)

BEHIND = """\
import sys, fastws

app = fastws.App()

@app.http("/healthz")
def healthz(request):
    return fastws.Response(200, "ok")

@app.websocket("/")
def echo(ws, data):
    ws.send(data)

app.run(uds=sys.argv[1], uds_permissions=0o666)
"""


@pytest.mark.parametrize("right", [True, False])
def test_a_test(tmp_path: Path, right: bool) -> None:
    """It passes, and fails where the server does not do what it should."""
    served = SERVER[0] if right else SERVER[0].replace("ws.send(data)", "ws.send(data * 2)")
    (tmp_path / "server.py").write_text(served)
    (tmp_path / "test_server.py").write_text(TEST)
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "test_server.py", cwd=tmp_path)
    assert f"1 {'passed' if right else 'failed'}" in done.stdout, done.stdout + done.stderr


def is_gone(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_several_processes(tmp_path: Path, how: signal.Signals) -> None:
    """All of them end with the first, as under a service manager, or at a terminal's Ctrl-C."""
    path = tmp_path / "serve.py"
    pids: set[int] = set()
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        path.write_text(PROCESSES.replace("8765", str(port)).replace("os.cpu_count() or 1", "2"))

        def both() -> bool:
            client = RawClient.open(port, "/pid")
            pids.add(int(client.recv()))
            client.close()
            return len(pids) == 2

        with running(str(path), port=port) as program:
            eventually(both, 10.0, "both have a share")
            if how == signal.SIGINT:
                for pid in pids:
                    os.kill(pid, how)
            else:
                program.send_signal(how)
            try:
                eventually(lambda: all(map(is_gone, pids)), 5.0, "none goes on")
            finally:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            program.end(None)


@contextlib.contextmanager
def proxied(tmp_path: Path, *command: str) -> Iterator[None]:
    """The proxy of a file that is given, and the two servers behind it."""
    server = tmp_path / "behind.py"
    server.write_text(BEHIND)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as processes:
        for number in (1, 2):
            socket = tmp_path / f"{number}.socket"
            command_line = [sys.executable, str(server), str(socket)]
            program = subprocess.Popen(command_line, env=environment, stderr=subprocess.PIPE)
            processes.callback(end, program)
            eventually(socket.exists, 10.0, "it listens")
        with (tmp_path / "proxy.log").open("w") as log:
            plain = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
            processes.callback(end, subprocess.Popen(command, stdout=log, stderr=log, env=plain))
            yield


def end(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    program.communicate(timeout=20 * PATIENCE)


def served_through(port: int) -> None:
    """Health checks, and a page of the proxy's own address, also on a port that is not 80; another's is refused."""

    def is_up() -> bool:
        with contextlib.suppress(OSError):
            client = RawClient.connect(port)
            client.send_raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return client.recv_http().status == 200
        return False

    eventually(is_up, 10.0, "the proxy serves")
    host = f"localhost:{port}"
    for _ in range(4):  # by both servers
        client = RawClient.connect(port)
        client.send_raw(request_bytes("/", host=host, headers=[("Origin", f"http://{host}")]))
        client.expect_101()
        client.send("hello")
        assert client.recv() == "hello"
        client.close()
    client = RawClient.connect(port)
    client.send_raw(request_bytes("/", host=host, headers=[("Origin", "http://elsewhere.example")]))
    assert client.recv_http().status == 403
    client.close()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx: apt-get install nginx")
def test_nginx(tmp_path: Path) -> None:
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        inner = NGINX.replace("/run/chat", str(tmp_path)).replace("listen 80;", f"listen 127.0.0.1:{port};")
        places = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
        own = f"access_log off; client_body_temp_path {tmp_path}/body; {places}\n"
        path = tmp_path / "nginx.conf"
        user = "" if os.getuid() else "user root root;"  # who may go where the sockets of this test are
        head = f"{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors; events {{}}"
        path.write_text(f"{head}\nhttp {{ {own}{inner} }}\n")
        with proxied(tmp_path, "nginx", "-e", str(tmp_path / "errors"), "-c", str(path)):
            served_through(port)


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy: apt-get install haproxy")
def test_haproxy(tmp_path: Path) -> None:
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        path = tmp_path / "haproxy.cfg"
        path.write_text(HAPROXY.replace("/run/chat", str(tmp_path)).replace("bind :80", f"bind 127.0.0.1:{port}"))
        with proxied(tmp_path, "haproxy", "-db", "-f", str(path)):
            served_through(port)
