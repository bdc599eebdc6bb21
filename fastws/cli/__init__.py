"""The command line: `fastws serve module:app`, `fastws demo`. It needs what the extra `cli` installs."""

import importlib.util
import sys
from collections.abc import Sequence

#: As in the extra `cli` of pyproject.toml.
NEEDED = {"click": "click>=8.2"} | ({} if sys.version_info >= (3, 11) else {"tomli": "tomli>=2"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 if the server cannot listen, 2 for a mistake in the command."""
    for module, requirement in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            print(f"fastws: the command line needs {module}: pip install '{requirement}'", file=sys.stderr)
            return 2
    from fastws.cli.commands import run

    return run(argv)
