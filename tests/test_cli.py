"""The command line, as a user meets it: in a process of its own."""

import dataclasses
import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

import fastws
from fastws.cli import ALIASES, OF_THE_CODE
from fastws.options import NAMES

ECHO = """\
import fastws
app = fastws.App()
other = 5
class Holder:
    app = app
@app.websocket("/echo")
def echo(ws, data):
    ws.send(data)
@app.http("/healthz")
def healthz(request):
    return fastws.Response(200, b"ok")
"""


def command(*arguments):
    return [sys.executable, "-m", "fastws", *arguments]


def run(*arguments, cwd):
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def app_dir(tmp_path):
    (tmp_path / "served_app.py").write_text(ECHO)
    return tmp_path


class Served:
    """`fastws serve`, or what else serves, in a child process, once it has said where it listens."""

    def __init__(self, *arguments, cwd, what="serve"):
        self.process = subprocess.Popen(
            command(what, *arguments), cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.timer = threading.Timer(20, self.process.kill)
        self.timer.start()
        self.stderr = ""
        for line in self.process.stderr:
            self.stderr += line
            if match := re.search(r"fastws listening on http://(.+):(\d+)$", line):
                self.host, self.port = match[1], int(match[2])
                return
        self.end()
        pytest.fail(f"it did not listen: {self.stderr}")

    def get(self, path):
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer

    def stop(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        return self.end()

    def end(self):
        self.stdout, rest = self.process.communicate(timeout=20)
        self.timer.cancel()
        self.stderr += rest
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        if self.process.returncode is None:
            self.process.kill()
            self.end()


# Serving


@pytest.mark.parametrize("loop", ["auto", "uvloop", "asyncio"])
def test_serve(app_dir, loop):
    with Served("served_app:app", "--port", "0", "--loop", loop, cwd=app_dir) as served:
        assert served.host == "127.0.0.1"
        assert served.get("/healthz").endswith(b"\r\n\r\nok")
        assert served.stop() == 0
    assert served.stderr.count("listening on") == 1
    assert served.stdout == ""
    assert "Traceback" not in served.stderr


def test_demo(tmp_path):
    with Served("--port", "0", cwd=tmp_path, what="demo") as served:
        assert b"<title>fastws" in served.get("/")
        assert served.stop() == 0
    assert "python -m websockets ws://127.0.0.1:PORT/echo" in served.stdout
    assert "Traceback" not in served.stderr


def test_serve_ends_at_an_interrupt(app_dir):
    with Served("served_app:app", "--port", "0", cwd=app_dir) as served:
        assert served.stop(signal.SIGINT) == 0
    assert "Traceback" not in served.stderr


def test_serve_with_all_options(app_dir, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ["--host", "127.0.0.1", "--port", "0", "--app-dir", str(app_dir), "--backlog", "16"]
    options += ["--log-level", "debug", "--timeout-graceful-shutdown", "0.5"]
    with Served("served_app:Holder.app", *options, cwd=elsewhere) as served:
        assert served.get("/healthz").startswith(b"HTTP/1.1 200 OK\r\n")
        assert served.stop() == 0


def test_serve_with_other_limits(app_dir):
    flags = ["--ws-max-size", "65536", "--max-request-line", "100", "--allowed-hosts", "example.com, 127.0.0.1"]
    with Served("served_app:app", "--port", "0", *flags, "--low-water", "1", cwd=app_dir) as served:
        assert served.get("/healthz").startswith(b"HTTP/1.1 200 OK\r\n")
        assert served.get("/" + "x" * 100).startswith(b"HTTP/1.1 414 ")
        assert served.stop() == 0


def test_every_limit_has_a_flag(app_dir):
    told = run("serve", "--help", cwd=app_dir).stdout
    for option in dataclasses.fields(fastws.Options):
        assert (f"  --{option.name.replace('_', '-')}" in told) == (option.name not in OF_THE_CODE), option.name
    assert set(ALIASES) < NAMES


def test_log_level_warning_says_nothing(app_dir):
    with Served("served_app:app", "--port", "0", cwd=app_dir) as served:
        taken = str(served.port)
        result = run("serve", "served_app:app", "--port", taken, "--log-level", "warning", cwd=app_dir)
        assert result.stderr.count("\n") == 1
        assert "listening on" not in result.stderr


def test_port_in_use(app_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "served_app:app", "--port", str(port), cwd=app_dir)
    assert result.returncode == 1
    assert re.fullmatch(rf"fastws: cannot serve on 127\.0\.0\.1 port {port}: .*[Aa]ddress.* in use.*\n", result.stderr)


def test_an_address_that_is_not_here(app_dir):
    result = run("serve", "served_app:app", "--host", "192.0.2.1", "--port", "0", cwd=app_dir)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to do"),
        (["dance"], "invalid choice: 'dance'"),
        (["serve"], "module:app"),
        (["serve", "served_app"], "'served_app' does not name an application: write module:app"),
        (["serve", ":app"], "':app' does not name"),
        (["serve", "served_app:"], "'served_app:' does not name"),
        (["serve", "a..b:app"], "does not name"),
        (["serve", ".served_app:app"], "does not name"),
        (["serve", "no_such_module:app"], "there is no module 'no_such_module'"),
        (["serve", "served_app.sub:app"], "there is no module 'served_app.sub'"),
        (["serve", "no_such_package.sub:app"], "there is no module 'no_such_package'"),
        (["serve", "served_app:nothing"], "module 'served_app' has no 'nothing'"),
        (["serve", "served_app:Holder.nothing"], "module 'served_app' has no 'Holder.nothing'"),
        (["serve", "served_app:other"], "'served_app:other' is a int, not a fastws.App"),
        (["serve", "served_app:app", "--port", "65536"], "argument --port: '65536' is not a port"),
        (["serve", "served_app:app", "--port", "-1"], "argument --port"),
        (["serve", "served_app:app", "--port", "http"], "argument --port: 'http' is not a port"),
        (["serve", "served_app:app", "--backlog", "0"], "argument --backlog"),
        (["serve", "served_app:app", "--loop", "trio"], "argument --loop"),
        (["serve", "served_app:app", "--timeout-graceful-shutdown", "soon"], "'soon' is not a number of seconds"),
        (["serve", "served_app:app", "--timeout-graceful-shutdown", "nan"], "'nan' is not a number of seconds"),
        (["serve", "served_app:app", "--max-message-size", "1e6"], "--max-message-size/--ws-max-size: invalid int"),
        (["serve", "served_app:app", "--ping-interval", "x"], "argument --ping-interval/--ws-ping-interval: invalid"),
        (["serve", "served_app:app", "--ping-interval", "nan"], "ping_interval=nan is out of range: give 0 to 1000000"),
        (["serve", "served_app:app", "--low-water", "70000"], "low_water=70000 is out of range: give 0 to 65536"),
        (["serve", "served_app:app", "--slow-consumer", "shoot"], "argument --slow-consumer: invalid choice"),
        (["serve", "served_app:app", "--text", "utf8"], "unrecognized arguments: --text utf8"),
    ],
)
def test_mistakes_give_one_line(app_dir, arguments, message):
    result = run(*arguments, cwd=app_dir)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.startswith("fastws")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("line", ["import no_such_thing", "import served_app.sub", "1 / 0", "from os import nothing"])
def test_errors_inside_the_users_module_keep_their_traceback(app_dir, line):
    (app_dir / "broken_app.py").write_text(f"\n{line}\n")
    result = run("serve", "broken_app:app", cwd=app_dir)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert f'broken_app.py", line 2, in <module>\n    {line}' in result.stderr


# Help and version


def test_version(tmp_path):
    result = run("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"fastws {importlib.metadata.version('fastws')}\n")


def test_help(tmp_path):
    result = run("serve", "--help", cwd=tmp_path)
    assert result.returncode == 0
    for option in "--host", "--port", "--app-dir", "--loop", "--backlog", "--log-level", "--timeout-graceful-shutdown":
        assert option in result.stdout


def test_the_installed_command_is_the_same(tmp_path):
    script = os.path.join(os.path.dirname(sys.executable), "fastws")
    if not os.path.exists(script):
        pytest.skip("the package is not installed with its script")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert result.stdout == run("--version", cwd=tmp_path).stdout
