"""The command without a process: most tests judge only what it writes and returns."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fastws.cli import main


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


def mistake_of(ended: Ended) -> str:
    """The one line that a mistake gives, without the name in front."""
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    found = re.fullmatch("fastws: (.+)\n", ended.stderr)
    assert found, ended.stderr
    return found[1]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """main() as `python -m fastws ARGUMENTS` in tmp_path calls it, with these variables in the environment."""

    def command(*arguments: str, **variables: str) -> Ended:
        log = logging.getLogger("fastws")
        level = log.level
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "path", sys.path.copy())
            for name, value in variables.items():
                patch.setenv(name, value)
            returncode = main(arguments)
        log.setLevel(level)  # which --log-level has set
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
                del sys.modules[name]
        return Ended(returncode, *capsys.readouterr())

    return command
