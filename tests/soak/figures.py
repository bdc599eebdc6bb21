"""What is measured of the server's process, and how it is judged."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

#: Growth over the time looked at that passes for noise: the holes that allocators have between what is used come and go
#: with the load. Against it stands a leak: of a hundred connections a second, 100 bytes each are 6 MB in ten minutes.
NOISE_SHARE = 0.02
NOISE_BYTES = 512 * 1024
LEAST_SAMPLES = 20

#: What the server may have allocated more when all have left than when all had left before: caches and free lists that
#: have filled meanwhile.
MORE_BLOCKS = 500
MORE_BYTES = 256 * 1024


class Sample(NamedTuple):
    at: float  # seconds
    descriptors: int
    cpu: float  # seconds
    stats: dict[str, Any]

    @property
    def kept(self) -> int:
        """The memory that is not explained by what is buffered for slow peers and unfinished messages at the moment."""
        return int(self.stats["memory"]["private"] - self.stats["buffered_bytes"])


def take(pid: int, at: float, stats: dict[str, Any]) -> Sample:
    return Sample(at, descriptors(pid), cpu(pid), stats)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slope(points: Sequence[tuple[float, float]], most: int = 400) -> float:
    """Theil and Sen's: the median of the slopes between any two points, which single peaks do not move."""
    points = points[:: len(points) // most + 1]
    return statistics.median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for at, earlier in enumerate(points)
        for later in points[at + 1 :]
    )


class Trend(NamedTuple):
    growth: float  # bytes over the second half
    allowed: float
    per_second: float

    def __bool__(self) -> bool:
        """Whether memory grows."""
        return self.growth > self.allowed


def trend(samples: Sequence[Sample]) -> Trend | None:
    """Of the memory in the second half of the samples, when the allocators have what they need; None for too few."""
    half = samples[len(samples) // 2 :]
    if len(half) < LEAST_SAMPLES:
        return None
    rise = slope([(sample.at, sample.kept) for sample in half])
    allowed = max(NOISE_BYTES, NOISE_SHARE * statistics.median(sample.kept for sample in half))
    return Trend(rise * (half[-1].at - half[0].at), allowed, rise)


def left_over(base: dict[str, Any], end: dict[str, Any]) -> list[str]:
    """What is not as it was, both taken while nobody was there but the one who asked."""
    found = [f"{name}: {end[name]}" for name in ("connections", "topics", "buffered_bytes") if end[name]]
    found += [f"{name}: {end[name]} with the one who asks" for name in ("sockets", "handshakes") if end[name] != 1]
    for name, most in (("blocks", MORE_BLOCKS), ("bytes", MORE_BYTES)):
        more = end["allocated"][name] - base["allocated"][name]
        if more > most:
            found.append(f"{more:,} more {name} are allocated than before; {most:,} may be")
    return found
