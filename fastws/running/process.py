"""What a process has for its servers: open files."""

import logging
import os
import resource
from contextlib import suppress

from fastws.options import Options
from fastws.serving.logs import write

#: Connections in a process, and so open files, are never more than this.
_MANY_FILES = 1 << 20
#: The loop's, the server's and a connection's; uvloop with too few of them fails halfway, and hides why.
_FEWEST_FILES = 16

log = logging.getLogger("fastws")


def room(options: Options) -> tuple[int, int]:
    """How many open connections, and how many other sockets, the limit of open files has room for."""
    files = _open_files()
    pending = min(options.max_pending_handshakes, max(1, files // 8))
    if options.max_connections + pending > files:
        write(
            log,
            logging.WARNING,
            "max_connections=%d is more than RLIMIT_NOFILE=%d allows: raise that",
            options.max_connections,
            files,
        )
    # Some are left for the application's own files; Python, the loop and the server have a dozen.
    return options.max_connections or max(1, files - pending - min(max(files // 16, 16), 256)), pending


def _open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY_FILES if soft == resource.RLIM_INFINITY else soft


def raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it; then there is room for fewer
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def need_open_files() -> None:
    """OSError where a loop and a server cannot open as many files as they need."""
    opened: list[int] = []
    try:
        while len(opened) < _FEWEST_FILES:
            opened.append(os.eventfd(0))
    except OSError as error:
        room = f"RLIMIT_NOFILE={_open_files()} leaves {len(opened)} files to open"
        raise OSError(error.errno, f"{room}, and a server needs {_FEWEST_FILES}: raise it (ulimit -n)") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
