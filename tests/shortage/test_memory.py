"""Memory runs out at every allocation of every situation, in processes of their own: see memory.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PARTS = 6


@pytest.mark.since(3, 11)  # 3.10 ends by itself where it has no memory for an exception,
@pytest.mark.before(3, 12)  # and 3.12 where it has none for a frame of Python code
@pytest.mark.parametrize("part", range(PARTS))
def test_memory_runs_out(loop_kind: str, part: int) -> None:
    pytest.importorskip("_testcapi", reason="this Python comes without _testcapi, whose hooks have allocations fail")
    run_program("shortage.memory", loop_kind, str(part), str(PARTS))


def run_program(*arguments: str, **variables: str) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # CPython forgets a few references of its own where it has no memory for a frame.
        "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0",
        **variables,
    }
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-m", *arguments]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    failures = [line for line in done.stdout.splitlines() if line.startswith("---")]
    assert done.returncode == 0, "\n".join(failures) or done.stdout[-5000:]
