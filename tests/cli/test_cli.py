"""The command line: what serves or ends a process is started as a user starts it."""

import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.programs import ROOT

from fastws.cli.commands import SETTINGS
from fastws.cli.config import ALIASES, OF_THE_OPERATOR, SWITCHES, variable
from fastws.options import TABLE

from .conftest import Command

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


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastws", *arguments]


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        command_line(*arguments), cwd=cwd, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    (tmp_path / "served_app.py").write_text(ECHO)
    return tmp_path


class Served:
    """`fastws serve`, or what else serves, in a child process, once it has said where it listens."""

    def __init__(self, *arguments: str, cwd: Path, what: str = "serve") -> None:
        self.process = subprocess.Popen(
            command_line(what, *arguments), cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.timer = threading.Timer(20, self.process.kill)
        self.timer.start()
        self.stderr = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr += line
            if match := re.search(r"fastws: listening on http://(.+):(\d+) \((\w+)\)$", line):
                self.host, self.port, self.loop = match[1], int(match[2]), match[3]
                return
        self.end()
        pytest.fail(f"it did not listen: {self.stderr}")

    def get(self, path: str) -> bytes:
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.end()

    def end(self) -> int:
        self.stdout, rest = self.process.communicate(timeout=20)
        self.timer.cancel()
        self.stderr += rest
        return self.process.returncode

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.end()


# Serving


@pytest.mark.parametrize("loop", ["auto", "uvloop", "asyncio"])
def test_serve(app_dir: Path, loop: str) -> None:
    with Served("served_app:app", "--port", "0", "--loop", loop, cwd=app_dir) as served:
        assert served.host == "127.0.0.1"
        assert served.loop == ("asyncio" if loop == "asyncio" else "uvloop")
        assert served.get("/healthz").endswith(b"\r\n\r\nok")
        assert served.stop() == 0
    assert served.stderr.count("listening on") == 1
    assert served.stdout == ""
    assert "Traceback" not in served.stderr


def test_demo(tmp_path: Path) -> None:
    with Served("--port", "0", cwd=tmp_path, what="demo") as served:
        assert b"<title>fastws" in served.get("/")
        assert served.stop() == 0
    assert f"python -m websockets ws://127.0.0.1:{served.port}/echo" in served.stdout
    assert "Traceback" not in served.stderr


def test_serve_ends_at_an_interrupt(app_dir: Path) -> None:
    with Served("served_app:app", "--port", "0", cwd=app_dir) as served:
        assert served.stop(signal.SIGINT) == 0
    assert "Traceback" not in served.stderr


def test_serve_with_all_options(app_dir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ["--host", "127.0.0.1", "--port", "0", "--app-dir", str(app_dir), "--backlog", "16"]
    options += ["--log-level", "debug", "--shutdown-timeout", "0.5"]
    with Served("served_app:Holder.app", *options, cwd=elsewhere) as served:
        assert served.get("/healthz").startswith(b"HTTP/1.1 200 OK\r\n")
        assert served.stop() == 0


def test_serve_with_other_limits(app_dir: Path) -> None:
    flags = ["--ws-max-size", "65536", "--max-request-line", "100", "--allowed-hosts", "example.com, 127.0.0.1"]
    with Served("served_app:app", "--port", "0", *flags, "--low-water", "1", cwd=app_dir) as served:
        assert served.get("/healthz").startswith(b"HTTP/1.1 200 OK\r\n")
        assert served.get("/" + "x" * 100).startswith(b"HTTP/1.1 414 ")
        assert served.stop() == 0


def test_every_limit_has_a_flag(app_dir: Path) -> None:
    told = run("serve", "--help", cwd=app_dir).stdout
    for name in TABLE:
        assert (f"  --{name.replace('_', '-')}" in told) == (name in OF_THE_OPERATOR), name
    assert set(ALIASES) < {*OF_THE_OPERATOR, *SETTINGS}
    assert OF_THE_OPERATOR.keys() < TABLE.keys()


def test_log_level_warning_says_nothing(app_dir: Path) -> None:
    with Served("served_app:app", "--port", "0", cwd=app_dir) as served:
        taken = str(served.port)
        result = run("serve", "served_app:app", "--port", taken, "--log-level", "warning", cwd=app_dir)
        assert result.stderr.count("\n") == 1
        assert "listening on" not in result.stderr


@pytest.mark.parametrize(
    ("own", "flags", "lines"),
    [
        ("", [], ["INFO mine: info", "INFO fastws: listening"]),
        ("", ["--log-level", "debug"], ["DEBUG mine: debug", "INFO mine: info", "INFO fastws: listening"]),
        ("", ["--log-level", "warning"], []),
        ("logging.getLogger('fastws').setLevel('ERROR')", [], ["INFO mine: info"]),
        (
            "logging.getLogger('fastws').setLevel('ERROR')",
            ["--log-level", "info"],
            ["INFO mine: info", "INFO fastws: li"],
        ),
        ("logging.basicConfig(format='own %(message)s')", [], ["own listening"]),
        ("logging.config.dictConfig({'version': 1})", [], ["INFO fastws: listening"]),  # it disables `mine` as well
    ],
)
def test_log_level(app_dir: Path, own: str, flags: list[str], lines: list[str]) -> None:
    """Of all loggers where the application configures none; else that of fastws, unless the application sets it."""
    (app_dir / "logging_app.py").write_text(f"""
import logging, logging.config, os, signal, threading, time
import fastws
log = logging.getLogger("mine")
{own}
async def lifespan(app):
    log.debug("debug")
    log.info("info")
    yield
app = fastws.App(lifespan=lifespan)
def end():
    while not app._servers:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end).start()
""")
    result = run("serve", "logging_app:app", "--port", "0", "--loop", "uvloop", *flags, cwd=app_dir)
    assert (result.returncode, result.stdout) == (0, "")
    told = [line for line in result.stderr.splitlines() if "stopping" not in line]
    assert [part in line for part, line in zip(lines, told, strict=True)] == [True] * len(lines), told


def test_port_in_use(app_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "served_app:app", "--port", str(port), cwd=app_dir)
    assert result.returncode == 1
    assert re.fullmatch(rf"fastws: cannot listen on 127\.0\.0\.1 port {port}: [Aa]ddress.* in use\n", result.stderr)


def test_an_address_that_is_not_here(app_dir: Path) -> None:
    result = run("serve", "served_app:app", "--host", "192.0.2.1", "--port", "0", cwd=app_dir)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to do"),
        (["dance"], "No such command 'dance'"),
        (["serve"], "Missing argument 'APP'"),
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
        (["serve", "served_app:app", "--port", "65536"], "'--port': 65536 is not in the range 0<=x<=65535"),
        (["serve", "served_app:app", "--port", "-1"], "'--port': -1 is not in the range"),
        (["serve", "served_app:app", "--port", "http"], "'--port': 'http' is not a valid int"),
        (["serve", "served_app:app", "--backlog", "0"], "'--backlog': 0 is not in the range"),
        (["serve", "served_app:app", "--loop", "trio"], "'--loop': 'trio' is not one of"),
        (["serve", "served_app:app", "--timeout-graceful-shutdown", "soon"], "'soon' is not a valid float"),
        (["serve", "served_app:app", "--timeout-graceful-shutdown", "nan"], "nan is no number of seconds"),
        (["serve", "served_app:app", "--max-message-size", "1e6"], "'--ws-max-size': '1e6' is not BYTES"),
        (["serve", "served_app:app", "--ping-interval", "x"], "'--ws-ping-interval': 'x' is not SECONDS"),
        (["serve", "served_app:app", "--ping-interval", "nan"], "ping_interval=nan is out of range: give 0 to 1000000"),
        (
            ["serve", "served_app:app", "--low-water", "70000"],
            "low_water=70000 is above high_water=65536, its default: lower low_water, or raise high_water "
            "(in --low-water)",
        ),
        (["serve", "served_app:app", "--slow-consumer", "shoot"], "'--slow-consumer': 'shoot' is not one of"),
        (["serve", "served_app:app", "--text", "utf8"], "No such option '--text'"),
        (["serve", "served_app:app", "--config", "none.toml"], "cannot read none.toml: No such file"),
    ],
)
def test_mistakes_give_one_line(app_dir: Path, command: Command, arguments: list[str], message: str) -> None:
    result = command(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.startswith("fastws")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("line", ["import no_such_thing", "import served_app.sub", "1 / 0", "from os import nothing"])
def test_errors_inside_the_users_module_keep_their_traceback(app_dir: Path, line: str) -> None:
    (app_dir / "broken_app.py").write_text(f"\n{line}\n")
    result = run("serve", "broken_app:app", cwd=app_dir)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert f'broken_app.py", line 2, in <module>\n    {line}' in result.stderr


# Variables and files


Shown = Callable[..., tuple[dict[str, tuple[str, str]], str]]


@pytest.fixture
def shown(command: Command, app_dir: Path) -> Shown:
    """What --print-config says of each option, its value and who set it; and the whole of what it says."""

    def shown(*arguments: str, **variables: str) -> tuple[dict[str, tuple[str, str]], str]:
        result = command("serve", "served_app:app", "--print-config", *arguments, **variables)
        assert result.returncode == 0, result.stderr
        lines = re.findall(r"^(?:# )?(\w+) (?:= (.*)|is not set)  # (.+)$", result.stdout, re.MULTILINE)
        return {name: (value, source) for name, value, source in lines}, result.stdout

    return shown


def test_a_flag_comes_before_a_variable_before_a_file_before_the_app(app_dir: Path, shown: Shown) -> None:
    """Each is told by one more than the one after it."""
    app = ECHO.replace("fastws.App()", "fastws.App(ping_timeout=1, ping_interval=1, max_headers=1, max_topics=1)")
    (app_dir / "served_app.py").write_text(app)
    (app_dir / "our.toml").write_text("ping_timeout = 2\nping_interval = 2.0\nmax_headers = 2\nbacklog = 2\n")
    variables = {"FASTWS_PING_TIMEOUT": "3", "FASTWS_PING_INTERVAL": "3", "FASTWS_BACKLOG": "3"}
    found, _ = shown("--config", "our.toml", "--ws-ping-timeout", "4", **variables)
    assert found["ping_timeout"] == ("4.0", "a flag")
    assert found["ping_interval"] == ("3.0", "FASTWS_PING_INTERVAL")
    assert found["max_headers"] == ("2", "our.toml")
    assert found["max_topics"] == ("1", "App()")
    assert found["max_fragments"] == ("16384", "default")
    assert found["backlog"] == ("3", "FASTWS_BACKLOG")
    assert found["origins"] == ('"none"', "default")
    assert found.keys() >= OF_THE_OPERATOR.keys()


def test_options_of_a_route(app_dir: Path, shown: Shown) -> None:
    app = ECHO.replace('websocket("/echo")', 'websocket("/echo", max_message_size=1, max_topics=1)')
    (app_dir / "served_app.py").write_text(app)
    (app_dir / "our.toml").write_text(
        'max_topics = 5\n[route."/echo"]\nmax_message_size = 2\ncompression = "deflate"\n'
    )
    _, told = shown("--config", "our.toml", "--max-message-size", "3")
    assert "max_message_size = 3  # a flag\n" in told
    own = '[route."/echo"]\nmax_message_size = 2  # our.toml\nmax_topics = 1  # websocket()\n'
    assert told.endswith(own + 'compression = "deflate"  # our.toml\n')


def test_what_is_printed_is_a_file(app_dir: Path, shown: Shown) -> None:
    """It says the same when it is read."""
    flags = ["--compression", "deflate", "--origins", "https://a.example,https://b.example", "--max-headers", "7"]
    first, told = shown(*flags)
    (app_dir / "our.toml").write_text(told)
    second, _ = shown("--config", "our.toml")
    assert {name: value for name, (value, _) in first.items()} == {name: value for name, (value, _) in second.items()}
    assert first["origins"] == ('["https://a.example", "https://b.example"]', "a flag")


def test_settings_of_compression_in_a_file(app_dir: Path, shown: Shown) -> None:
    (app_dir / "our.toml").write_text("compression = { level = 9, threshold = 5 }\n")
    found, _ = shown("--config", "our.toml")
    assert "level = 9" in found["compression"][0] and "threshold = 5" in found["compression"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_mesage_size = 5", "our.toml: unknown option 'max_mesage_size': did you mean max_message_size?"),
        ('text = "utf8"', "our.toml: text is for the code alone to set"),
        ("max_topics = -1", "max_topics=-1 is out of range: give 0 to 65536 (in our.toml)"),
        ('max_topics = "many"', "max_topics is a whole number, got 'many': give 0 to 65536 (in our.toml)"),
        ("max_topics = true", "max_topics is a number, got True: give 0 to 65536 (in our.toml)"),
        ("max_topics 5", "our.toml is no TOML: "),
        ("route = 5", "options of a route stand in a table of their own"),
        ('[route."/nowhere"]\nmax_topics = 5', "there is no route '/nowhere': the routes are '/echo'"),
        ('[route."/echo"]\nmax_headers = 5', "max_headers is not an option of one route: write it above"),
        ('[route."/echo"]\nmax_topics = -1', "max_topics=-1 is out of range"),
        ("compression = { levle = 9 }", "our.toml, compression: unknown option 'levle': did you mean level?"),
        ("compression = { level = 90 }", "our.toml, compression: level=90"),
        ("port = 70000", "70000 is not in the range"),
    ],
)
def test_mistakes_in_a_file_give_one_line(app_dir: Path, command: Command, text: str, message: str) -> None:
    (app_dir / "our.toml").write_text(f"{text}\n")
    result = command("serve", "served_app:app", "--check-config", FASTWS_CONFIG="our.toml")
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("fastws: ")
    assert result.stderr.count("\n") == 1


def test_a_wrong_variable_is_named(app_dir: Path) -> None:
    result = run("serve", "served_app:app", cwd=app_dir, FASTWS_MAX_TOPICS="-1")
    assert (result.returncode, result.stderr) == (
        2,
        "fastws: max_topics=-1 is out of range: give 0 to 65536 (in FASTWS_MAX_TOPICS)\n",
    )


def test_check_config_does_not_serve(app_dir: Path) -> None:
    result = run("serve", "served_app:app", "--check-config", cwd=app_dir)
    assert (result.returncode, result.stdout, result.stderr) == (0, "fastws: the configuration is right\n", "")


def test_variables_of_others(app_dir: Path, shown: Shown) -> None:
    """For a service called "fastws" Kubernetes sets such ones in every container."""
    kubernetes = {
        "FASTWS_PORT": "tcp://10.0.0.1:80",
        "FASTWS_SERVICE_HOST": "10.0.0.1",
        "FASTWS_PORT_80_TCP_PORT": "80",
    }
    found, _ = shown(**kubernetes)
    assert found["port"] == ("8765", "default")
    result = run("serve", "served_app:app", "--check-config", cwd=app_dir, FASTWS_MAX_MESAGE_SIZE="5", **kubernetes)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "fastws: FASTWS_MAX_MESAGE_SIZE is not known: did you mean FASTWS_MAX_MESSAGE_SIZE?\n"


def test_no_option_is_called_like_a_switch() -> None:
    assert not {variable(name) for name in TABLE} & SWITCHES


def test_an_option_more_is_everywhere(app_dir: Path) -> None:
    """One more row of the table is a flag, a variable, a name in a file, and a line of the documentation."""
    (app_dir / "our.toml").write_text("how_much = 7\n")
    (app_dir / "more.py").write_text("""\
import os, runpy, sys
import fastws.options as options
row = options.Option(5, options._whole(0, 9), options.TOPICS, "How much. On breach: nothing.")
options.AppOptions.__annotations__["how_much"] = __import__("typing").Annotated[int, row]
options.TABLE = options._rows(options.AppOptions)
from fastws.cli import main
show = ["serve", "served_app:app", "--print-config"]
main(["serve", "--help"])
main(show)
main([*show, "--how-much", "6"])
main([*show, "--config", "our.toml"])
os.environ["FASTWS_HOW_MUCH"] = "8"
main(show)
print(runpy.run_path(sys.argv[1])["page"]())
""")
    command = [sys.executable, "more.py", str(ROOT / "docs" / "make_options.py")]
    told = subprocess.run(command, cwd=app_dir, capture_output=True, text=True, check=True).stdout
    assert "--how-much N" in told
    assert "how_much = 5  # default\n" in told
    assert "how_much = 6  # a flag\n" in told
    assert "how_much = 7  # our.toml\n" in told
    assert "how_much = 8  # FASTWS_HOW_MUCH\n" in told
    assert "| `how_much` ¹ | 5 | How much. On breach: nothing. |\n" in told


# Help and version


def test_version(tmp_path: Path) -> None:
    result = run("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, f"fastws {importlib.metadata.version('fastws')}\n")


def test_help(tmp_path: Path) -> None:
    result = run("serve", "--help", cwd=tmp_path)
    assert result.returncode == 0
    for option in "--host", "--port", "--app-dir", "--loop", "--backlog", "--log-level", "--shutdown-timeout":
        assert option in result.stdout


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    script = os.path.join(os.path.dirname(sys.executable), "fastws")
    if not os.path.exists(script):
        pytest.skip("the package is not installed with its script")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert result.stdout == run("--version", cwd=tmp_path).stdout
