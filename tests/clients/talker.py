"""A client in a process of its own: `python -m clients.talker LIBRARY URL` says hello, gets it back, prints the process
to kill, and waits for the end of its input."""

from __future__ import annotations

import sys

from .libraries import LIBRARIES


def main(name: str, url: str) -> None:
    (chosen,) = [library for library in LIBRARIES if library.name == name]
    library = chosen()
    client = library.connect(url)
    client.send("hello")
    assert client.recv() == "hello"
    print(library.pid, flush=True)
    sys.stdin.read()


main(*sys.argv[1:])
