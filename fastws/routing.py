"""Finds what a path leads to."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import zip_longest
from types import MappingProxyType
from typing import Generic, TypeVar

from fastws.http import ESCAPED_SLASH

T = TypeVar("T")

_NO_PARAMS: Mapping[str, str] = MappingProxyType({})


class Router(Generic[T]):
    """Patterns and their targets.

    "/echo" is one path. In "/chat/{room}" a parameter stands for one segment that is not empty. A last parameter
    "{rest:path}" takes all that remains, slashes included. Segments are those of the path before it is decoded: in
    "/chat/a%2Fb", room is "a/b". Fixed paths are found first, in one dict access, then the
    patterns with parameters in the order in which they were added.
    """

    __slots__ = ("_dynamic", "_fixed", "patterns")

    def __init__(self) -> None:
        self._fixed: dict[str, tuple[T, Mapping[str, str]]] = {}
        #: In the order in which they were added.
        self.patterns: list[str] = []
        # By shape, the pattern without its names: two patterns of one shape match the same paths.
        self._dynamic: dict[str, tuple[re.Pattern[str], T]] = {}

    def add(self, pattern: str, target: T) -> None:
        """Add a pattern; ValueError if it is malformed, or matches just what another one matches."""
        if not pattern.startswith("/"):
            raise ValueError(f"pattern {pattern!r} does not start with a slash")
        if ESCAPED_SLASH in pattern:
            raise ValueError(f"pattern {pattern!r} holds a NUL, which no path does")
        shape, regex = _compile(pattern)
        if shape in self._dynamic or pattern in self._fixed:
            raise ValueError(f"there is a pattern already that matches the same paths as {pattern!r}")
        if regex.groups:
            self._dynamic[shape] = regex, target
        else:
            self._fixed[pattern] = target, _NO_PARAMS
        self.patterns.append(pattern)

    def find(self, path: str) -> tuple[T, Mapping[str, str]] | None:
        """The target for a path, decoded but for ESCAPED_SLASH, and the values of its parameters, or None."""
        found = self._fixed.get(path)
        if found is not None:
            return found
        for regex, target in self._dynamic.values():
            match = regex.fullmatch(path)
            if match is not None:
                params = match.groupdict()
                if ESCAPED_SLASH in path:
                    params = {name: value.replace(ESCAPED_SLASH, "/") for name, value in params.items()}
                return target, params
        return None


class Suggestion:
    """Says which of the patterns a path without a target was probably meant for. It is looked for when a line of the
    log is written. A handler of the log may keep it, so it refers to nothing but strings."""

    __slots__ = ("_path", "_patterns")

    def __init__(self, patterns: list[str], path: str) -> None:
        self._patterns = patterns
        self._path = path[:200]

    def __str__(self) -> str:
        near = _near(self._patterns, self._path)
        return "" if near is None else f"; did you mean {near!a}?"


def _near(patterns: list[str], path: str) -> str | None:
    segments = path.split("/")
    filled: dict[str, str] = {}
    for pattern in patterns:
        pairs = zip_longest(pattern.split("/"), segments[: pattern.count("/") + 1], fillvalue="")
        filled.setdefault("/".join(given if "{" in own else own for own, given in pairs), pattern)
    close = get_close_matches(path, filled, 1)
    return filled[close[0]] if close else None


def _compile(pattern: str) -> tuple[str, re.Pattern[str]]:
    segments = pattern.split("/")
    shape: list[str] = []
    regex: list[str] = []
    names: set[str] = set()
    for index, segment in enumerate(segments):
        if "{" not in segment and "}" not in segment:
            shape.append(segment)
            regex.append(re.escape(segment))
            continue
        braced = re.fullmatch(r"\{([^{}]*)\}", segment)
        if braced is None:
            raise ValueError(
                f"{segment!r} in pattern {pattern!r}: a parameter is a whole segment, in one pair of braces"
            )
        name, colon, kind = braced[1].partition(":")
        if not name.isidentifier() or name in names:
            raise ValueError(f"{segment!r} in pattern {pattern!r}: name each parameter once, by a Python identifier")
        if colon and (kind != "path" or index != len(segments) - 1):
            raise ValueError(f"{segment!r} in pattern {pattern!r}: only {{name:path}}, and only at the end")
        names.add(name)
        shape.append("{:path}" if colon else "{}")
        regex.append(f"(?P<{name}>.*)" if colon else f"(?P<{name}>[^/]+)")
    return "/".join(shape), re.compile("/".join(regex), re.DOTALL)
