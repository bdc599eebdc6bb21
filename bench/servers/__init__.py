"""The servers that are compared: one file each in this folder, and one line here.

Each takes --port and listens on 127.0.0.1, in one process, as its own documentation has it for speed, with a backlog of
4,096 where one can be set, messages of 16 MiB at most, and no line logged per connection. At / it echoes: text reaches
its user as a str, and a str is sent back; binary as bytes. Not all have these features:

broadcast   At /broadcast every connection is a subscriber; a message goes to all but its sender.
ping        --ping-interval SECONDS: pings from the server; else none.
deflate     --deflate: permessage-deflate with the server's own defaults; else off. Some come again with other settings
            (`deflate`), for the workloads of that group only.
timed       At /timed it echoes, and /times tells how long each message has kept its loop.
threads     It has several, which wait for each other as they share a core.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench.machine import BENCH, BUILD, BenchError, compiled, version
from bench.measure import python_server

HERE = Path(__file__).resolve().parent
NODE = HERE / "node"


@dataclass(frozen=True)
class Server:
    """`command` is without --port. `packages`: distributions that it needs, named as what is imported, whose versions
    are told; the first is the server itself."""

    name: str
    title: str
    language: str
    link: str
    command: list[str]
    features: frozenset[str]
    packages: tuple[str, ...] = ()
    deflate: tuple[str, ...] = ("--deflate",)  # options that switch compression on; none: it stays off, and not offered
    only: str = "*"  # the workloads that it is for, as a pattern

    def described(self) -> dict[str, object]:
        """For the results, which name no path of this machine."""
        tree = f"{BENCH.parent}/"
        return {
            "title": self.title,
            "language": self.language,
            "link": self.link,
            "version": version(self.packages[0]) if self.packages else _node_version(self.name),
            "command": ["python" if arg == sys.executable else arg.removeprefix(tree) for arg in self.command],
            "features": sorted(self.features),
            "deflate": list(self.deflate),
        }


def _python(name: str, repository: str, packages: str, features: str, title: str = "") -> Server:
    link = f"https://github.com/{repository}" if repository else ""
    command = python_server(name.replace("-", "_"))
    return Server(name, title or name, "Python", link, command, frozenset(features.split()), tuple(packages.split()))


def _node(name: str, title: str, repository: str, features: str) -> Server:
    command = ["node", str(NODE / f"{name}.js")]
    return Server(name, title, "JavaScript", f"https://github.com/{repository}", command, frozenset(features.split()))


_LIST = [
    _python("fastws", "", "fastws", "broadcast ping deflate timed"),
    _python("fastws-async", "", "fastws", "broadcast ping deflate"),
    _python("fastws-views", "", "fastws", "broadcast ping deflate"),
    _python("picows", "tarasko/picows", "picows aiofastnet uvloop", "broadcast ping"),
    _python("websockets", "python-websockets/websockets", "websockets uvloop", "broadcast ping deflate"),
    _python("aiohttp", "aio-libs/aiohttp", "aiohttp uvloop", "broadcast ping deflate"),
    _python("tornado", "tornadoweb/tornado", "tornado uvloop", "broadcast ping deflate"),
    _python("socketify", "cirospaciari/socketify.py", "socketify", "broadcast ping deflate", "socketify (uWebSockets)"),
    _python("uvicorn", "encode/uvicorn", "uvicorn websockets httptools uvloop", "broadcast ping deflate"),
    _python("granian", "emmett-framework/granian", "granian uvloop", "broadcast threads"),
    _node("ws", "Node's ws", "websockets/ws", "broadcast ping deflate threads"),
    Server("bare", "bare C", "C", "", [str(BUILD / "bare")], frozenset({"broadcast"})),
]
SERVERS = {server.name: server for server in _LIST}


def _deflating(base: str, setting: str, *deflate: str, features: str = "deflate", only: str = "deflate-*") -> Server:
    """The same server with another setting of compression."""
    name, title = f"{base}-{setting.replace(' ', '-')}", f"{SERVERS[base].title}, {setting}"
    what = frozenset(features.split())
    return replace(SERVERS[base], name=name, title=title, deflate=deflate, features=what, only=only)


_PICOWS = _python("picows-compat", "tarasko/picows", "picows uvloop", "deflate", "picows, as websockets")
_WSPROTO = _deflating("uvicorn", "wsproto", "--deflate", "--ws", "wsproto")
_SETTINGS = [
    _deflating("fastws", "no history", "--deflate", "history=0"),
    _deflating("fastws", "client takeover", "--deflate", "client_no_context_takeover=False"),
    _deflating("fastws", "level 6", "--deflate", "level=6", features="deflate timed", only="deflate-timed-*"),
    _deflating("fastws", "level 9", "--deflate", "level=9", features="deflate timed", only="deflate-timed-*"),
    _deflating("fastws", "off", features="deflate broadcast timed"),
    _deflating("websockets", "level 1", "--deflate", "1", features="deflate broadcast"),
    replace(_WSPROTO, packages=(*_WSPROTO.packages, "wsproto")),
    replace(_PICOWS, only="deflate-*"),
]
SERVERS |= {server.name: server for server in _SETTINGS}


def missing(server: Server) -> str:
    """Why the server cannot run here; empty if it can."""
    if server.language == "C":
        try:
            compiled(server.name)
        except BenchError as error:
            return str(error)
    elif server.language == "JavaScript":
        if shutil.which("node") is None:
            return "there is no node on PATH"
        if not _node_version(server.name):
            return f"{server.name} is not installed: make bench-node"
    else:
        return _not_imported(server.packages)
    return ""


@cache
def _not_imported(packages: tuple[str, ...]) -> str:
    imports = f"import {', '.join(packages)}"
    probe = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=False)
    if probe.returncode:
        return f"it cannot be imported ({probe.stderr.splitlines()[-1]}): pip install --group bench"
    return ""


def _node_version(package: str) -> str:
    """Empty if it is not installed."""
    try:
        about = json.loads((NODE / "node_modules" / package / "package.json").read_text())
    except OSError:
        return ""
    return str(about["version"])
