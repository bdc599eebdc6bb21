"""What is measured of the server's process, and how it is judged."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

#: Growth over the time looked at that passes for noise, whichever is most: a share of the memory, so many bytes, or so
#: many times the error of the slope as its points scatter. Against it stands a leak: of a hundred connections a second,
#: 100 bytes each are 6 MB in ten minutes.
NOISE_SHARE = 0.02
NOISE_BYTES = 512 * 1024
NOISE_ERRORS = 3
#: Samples of which the least counts: what peers have the server buffer comes and goes, and what is leaked stays.
BLOCK = 5
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
    def private(self) -> int:
        return int(self.stats["memory"]["private"])


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
    blocks = [half[at : at + BLOCK] for at in range(0, len(half) - BLOCK + 1, BLOCK)]
    points = [(block[0].at, min(sample.private for sample in block)) for block in blocks]
    rise = slope(points)
    time = points[-1][0] - points[0][0]
    level = statistics.median(size - rise * at for at, size in points)
    scatter = 1.48 * statistics.median(abs(size - rise * at - level) for at, size in points)  # as a standard deviation
    error = scatter * math.sqrt(12 / len(points))  # of the growth along a line through so many points
    return Trend(rise * time, max(NOISE_BYTES, NOISE_SHARE * level, NOISE_ERRORS * error), rise)


def left_over(base: dict[str, Any], end: dict[str, Any]) -> list[str]:
    """What is not as it was, both taken while nobody was there but the one who asked."""
    found = [f"{name}: {end[name]}" for name in ("connections", "topics", "buffered_bytes") if end[name]]
    compression = [stats["compression_bytes"] for stats in (base, end)]
    if compression[0] != compression[1]:
        found.append("compression_bytes: {:,}, now {:,}".format(*compression))
    if not end["takeover"]:
        found.append("no memory is left for a client that refers back")
    found += [f"{name}: {end[name]} with the one who asks" for name in ("sockets", "handshakes") if end[name] != 1]
    for name, most in (("blocks", MORE_BLOCKS), ("bytes", MORE_BYTES)):
        more = end["allocated"][name] - base["allocated"][name]
        if more > most:
            found.append(f"{more:,} more {name} are allocated than before; {most:,} may be")
    return found
