"""The C programs under sanitizers, and false servers for the load generator."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import machine

STRICT = ["-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the C programs, compiled with sanitizers."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("loadgen", "bare"):
        command = ["cc", *STRICT, "-o", str(folder / name), str(machine.BENCH / f"{name}.c")]
        subprocess.run(command + machine.LIBRARIES.get(name, []), check=True)
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Runs a server, a function of its listening socket, in a thread; the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    threads: list[threading.Thread] = []

    def begin(server: Callable[[socket.socket], None]) -> int:
        def work() -> None:
            try:
                server(listener)
            except OSError:  # the generator resets the connections at its end
                pass

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield begin
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    listener.close()
