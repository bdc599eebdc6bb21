"""Stacks of a profile: read from what perf and py-spy write, told apart by whose code they run, and counted."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from bench.machine import BENCH

KINDS = ["kernel", "C library", "CPython", "fastws", "other"]
CORE = {path.name for part in ("core", "_simd") for path in (BENCH.parent / "fastws" / part).rglob("*")}


class Frame(NamedTuple):
    name: str
    kind: str


Stack = tuple[Frame, ...]  # the outermost function first
Stacks = Counter[Stack]


def self_samples(stacks: Stacks) -> Counter[Frame]:
    """By the innermost function: where the processor was."""
    found: Counter[Frame] = Counter()
    for stack, samples in stacks.items():
        found[stack[-1]] += samples
    return found


def total_samples(stacks: Stacks) -> Counter[Frame]:
    """By every function that was under way; once, however often it has called itself."""
    found: Counter[Frame] = Counter()
    for stack, samples in stacks.items():
        for frame in set(stack):
            found[frame] += samples
    return found


def shares(stacks: Stacks) -> dict[str, float]:
    """Of each kind of code in all samples."""
    found: Counter[str] = Counter()
    for stack, samples in stacks.items():
        found[stack[-1].kind] += samples
    return {kind: found[kind] / max(1, found.total()) for kind in KINDS}


def folded(stacks: Stacks) -> str:
    """One line for each stack, as other tools for flame graphs take them."""
    lines = (";".join(frame.name for frame in stack) + f" {samples}\n" for stack, samples in stacks.items())
    return "".join(sorted(lines))


# ---- names ----

SUFFIX = re.compile(r"\.(constprop|isra|part|cold|lto_priv|localalias)(\.\d+)*")
CYTHON = re.compile(r"__pyx_(?P<what>[a-z]+(?:_[a-z]+)*?)_(?P<path>\d+.+)$")


def readable(symbol: str) -> str:
    """A C symbol without what compilers add; Cython's as `Class.method`, with the module where it is not fastws'."""
    name = SUFFIX.sub("", symbol)
    found = CYTHON.match(name)
    if found is None:
        return name
    rest, scopes = found["path"], []
    while scope := re.match(r"(\d+)", rest):  # its length stands before each name but the last
        begin, end = scope.end(), scope.end() + int(scope[1])
        if end > len(rest) or (end < len(rest) and rest[end] != "_"):
            break
        scopes.append(rest[begin:end])
        rest = rest[end + 1 :]
    if rest:  # what Python can call has a running number before the last name
        scopes.append(re.sub(r"^\d+", "", rest) if found["what"] in ("pf", "pw") else rest)
    if scopes[:2] == ["fastws", "_speedups"]:
        scopes = scopes[2:]
    path = ".".join(scopes)
    return path if found["what"] in ("f", "pf", "pw") else f"{path} ({found['what']})"


def kind_of(file: str) -> str:
    """Whose code a mapped file holds."""
    path = Path(file)
    if file == "[vdso]":
        return "C library"
    if file.startswith("[") and file != "[unknown]":
        return "kernel"
    if re.match(r"(libc|libm|libpthread|ld-linux.*|ld-\d.*)[.-]", path.name):
        return "C library"
    if re.match(r"(lib)?python3", path.name) or path.parent.name == "lib-dynload":
        return "CPython"
    return "fastws" if path.name.startswith("_speedups.") and path.parent.name == "fastws" else "other"


def collapsed_perf(text: str) -> Stacks:
    """The stacks of `perf script -F comm,ip,sym,dso`.

    An inlined function comes before the one around it, at the same address, and is named without a file. It may come
    alone, as a library's only name for a place; except for what Cython puts everywhere, that is seen with libc only.
    """
    stacks: Stacks = Counter()
    for sample in re.split(r"\n\s*\n", text):
        frames: list[Frame] = []
        inlined: list[tuple[str, str]] = []
        for line in sample.splitlines():
            found = re.match(r"\s+(?P<ip>[0-9a-f]+) (?P<name>.+) \((?P<file>[^()]*)(?: \(deleted\))?\)$", line)
            if found is None:
                continue
            name, file = found["name"], found["file"]
            if file == "inlined":
                inlined.append((found["ip"], name))
                continue
            for ip, inner in inlined:
                alone = ip != found["ip"] and re.match("__(?!Pyx)", inner)
                frames.append(Frame(readable(inner), "C library" if alone else kind_of(file)))
            inlined.clear()
            if name == "[unknown]" == file:  # where the copied part of the stack ends
                continue
            frame = Frame(f"[{Path(file.strip('[]')).name}]" if name == "[unknown]" else readable(name), kind_of(file))
            if not (frames and frame == frames[-1] and name.startswith("__pyx_pw")):  # Cython's wrapper of the same
                frames.append(frame)
        if frames:
            stacks[tuple(reversed(frames))] += 1
    return stacks


def collapsed_py_spy(text: str) -> Stacks:
    """The stacks of `py-spy record --format raw`, which names source files, or libraries where it knows no better."""
    stacks: Stacks = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = []
        for each in stack.split(";"):
            found = re.match(r"(?P<name>.+) \((?P<file>[^():]+)(?::\d+)?\)$", each)
            if found is None:
                frames.append(Frame(each, "other"))
                continue
            name, file = found["name"], found["file"]
            if name.startswith("0x"):
                name = f"[{file}]"
            if file in CORE:
                frames.append(Frame(name.removeprefix("_speedups_"), "fastws"))
            elif file.endswith(".py"):
                frames.append(Frame(f"{name} ({file})", "CPython"))
            else:
                frames.append(Frame(name, "CPython" if re.match("_?Py", name) else kind_of(file)))
        stacks[tuple(frames)] += int(samples)
    return stacks
