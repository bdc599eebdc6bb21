"""Runs one target in libFuzzer: `guided.py` starts this with the sanitizer's runtime loaded."""

from __future__ import annotations

import sys
import zlib
from types import FrameType, SimpleNamespace
from typing import Any

from fastws import compression, http
from fastws.frames import ProtocolError

from . import deflated
from ._guided import (
    Deflation,
    Exact,
    ExactHead,
    ExactReader,
    FrameParser,
    mark,
    run,
    split_request_target,
    use_variant,
)
from .targets import TARGETS

CORE = SimpleNamespace(
    Reader=ExactReader,
    RequestHead=ExactHead,
    FrameParser=FrameParser,
    Exact=Exact,
    ProtocolError=ProtocolError,
    split_request_target=split_request_target,
    use_variant=use_variant,
    deflation=deflated.deflation_of(Deflation),
)
#: No compiler has instrumented these.
TRACED = {"head": http.__file__, "extensions": compression.__file__}


def trace(frame: FrameType, event: str, arg: object) -> Any:
    """Marks the lines of Python that the target is about."""
    if frame.f_code.co_filename != TRACED[sys.argv[1]]:
        return None
    before = 0

    def line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal before
        mark(before * 31 + frame.f_lineno)
        before = frame.f_lineno
        return line

    return line(frame, event, arg)


def main() -> None:
    target = TARGETS[sys.argv[1]]

    def one(data: bytes) -> None:
        for seen in target.check(CORE, data):
            mark(zlib.crc32(repr(seen).encode()))

    if target.name in TRACED:
        sys.settrace(trace)
    # libFuzzer starts itself anew for some of what it does, with the words of this first argument.
    run(one, [f"{sys.executable} -m fuzz.inside {target.name}", *sys.argv[2:]])


if __name__ == "__main__":
    main()
