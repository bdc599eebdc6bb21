"""What is fuzzed: each target as a function of the compiled code and an input, and where its first inputs come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import deflated, extensions, heads, streams

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    name: str
    #: Fails where the input shows something wrong; returns what was seen, for libFuzzer to look for more.
    check: Callable[[Any, bytes], list[Any]]
    made: Callable[[], list[bytes]]
    max_size: int

    def seeds(self) -> Iterator[tuple[str, bytes]]:
        """All that the target must always pass: what is made in the code, and what stands in found/."""
        for number, data in enumerate(self.made()):
            yield f"made-{number}", data
        for number, line in enumerate((HERE / "found" / f"{self.name}.hex").read_text().splitlines(), 1):
            if not line.startswith("#"):
                yield f"found-line-{number}", bytes.fromhex(line)


TARGETS = {
    target.name: target
    for target in (
        Target("stream", streams.check_stream, lambda: streams.seeds(parser=False), 1000),
        Target("parser", streams.check_parser, lambda: streams.seeds(parser=True), 1000),
        Target("head", heads.check_head, heads.seeds, 1500),
        Target("inflate", deflated.check_deflated, deflated.seeds, 1000),
        Target("extensions", extensions.check_extensions, extensions.seeds, 300),
    )
}
