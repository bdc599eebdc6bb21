"""The command line: `fastws serve module:app`, `fastws demo`. It needs click, of the extra `fastws[cli]`."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 if the server cannot listen, 2 for a mistake in the command."""
    try:
        import click  # noqa: F401
    except ImportError:
        print("fastws: the command line needs click: pip install 'fastws[cli]'", file=sys.stderr)
        return 2
    from fastws.cli.commands import run

    return run(argv)
