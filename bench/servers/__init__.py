"""The servers that are compared: one file each in this folder, and one line here."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.machine import BUILD, BenchError, compiled, version

HERE = Path(__file__).parent
BROADCAST, PING, DEFLATE = "broadcast", "ping", "deflate"
ALL = frozenset({BROADCAST, PING, DEFLATE})


@dataclass(frozen=True)
class Server:
    """`command` takes --port and listens on 127.0.0.1. `packages`: distributions whose versions are told."""

    name: str
    title: str
    language: str
    link: str
    command: list[str]
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()

    def described(self) -> dict[str, object]:
        """For the results."""
        return {
            "title": self.title,
            "language": self.language,
            "link": self.link,
            "version": version(self.packages[0]) if self.packages else "",
            "features": sorted(self.features),
        }


def _python(name: str, *options: str) -> list[str]:
    return [sys.executable, str(HERE / f"{name}_.py"), *options]


_LIST = [
    Server("fastws", "fastws", "Python", "", _python("fastws"), ("fastws",), ("fastws",), ALL),
    Server("picows", "picows", "Python", "", _python("picows"), ("picows",), ("picows",), frozenset({BROADCAST})),
    Server("websockets", "websockets", "Python", "", _python("websockets"), ("websockets",), ("websockets",), ALL),
    Server("bare", "bare C", "C", "", [str(BUILD / "bare")], features=frozenset({BROADCAST})),
]
SERVERS = {server.name: server for server in _LIST}


def missing(server: Server) -> str:
    """Why the server cannot run here; empty if it can."""
    absent = [name for name in server.modules if importlib.util.find_spec(name) is None]
    if absent:
        return f"there is no module {' nor '.join(absent)}: pip install --group bench"
    if server.name == "bare":
        try:
            compiled("bare")
        except BenchError as error:
            return str(error)
    return ""
