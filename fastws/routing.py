"""Finds what a path leads to."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import zip_longest
from types import EllipsisType, MappingProxyType
from typing import Generic, TypeVar
from urllib.parse import quote, unquote

from fastws.http import ESCAPED_SLASH

T = TypeVar("T")

#: The segments, decoded; None for a parameter, ... for one that takes all that remains.
_Shape = tuple[str | EllipsisType | None, ...]

_NO_PARAMS: Mapping[str, str] = MappingProxyType({})


class Router(Generic[T]):
    """Patterns and their targets.

    "/echo" is one path. Patterns are written as in a URL: "/a%20b" is what a client gets under that address. What is
    not ASCII may stand as it is. In "/chat/{room}" a parameter stands for one segment that is not empty. A last
    parameter "{rest:path}" takes all that remains, slashes included. Segments are those of the path before it is
    decoded: in "/chat/a%2Fb", room is "a/b". Fixed paths are found first, in one dict access, then the patterns with
    parameters in the order in which they were added.
    """

    __slots__ = ("_dynamic", "_fixed", "patterns")

    def __init__(self) -> None:
        self._fixed: dict[str, tuple[T, Mapping[str, str]]] = {}
        #: In the order in which they were added.
        self.patterns: list[str] = []
        # By shape, the pattern without its names: two patterns of one shape match the same paths.
        self._dynamic: dict[_Shape, tuple[re.Pattern[str], T]] = {}

    def add(self, pattern: str, target: T) -> None:
        """Add a pattern; TypeError if it is no string, ValueError if it is malformed, or matches just what another one
        matches."""
        if not isinstance(pattern, str):
            raise TypeError(f"a path is a string, got {pattern!r}: write '/chat', say")
        if not pattern.startswith("/"):
            path = re.sub(r"^\w+://[^/]*|^\^", "", pattern).lstrip("/")
            raise ValueError(f"pattern {pattern!r} does not start with a slash: write {'/' + path!r}")
        if ESCAPED_SLASH in pattern:
            raise ValueError(f"pattern {pattern!r} holds a NUL, which no path does")
        shape, regex = _compile(pattern)
        path = "" if regex.groups else "/".join(map(str, shape))
        if shape in self._dynamic or path in self._fixed:
            other = next(one for one in self.patterns if _compile(one)[0] == shape)
            raise ValueError(
                f"there is a pattern already that matches the same paths as {pattern!r}: {other!r}; change one of them"
            )
        if regex.groups:
            self._dynamic[shape] = regex, target
        else:
            self._fixed[path] = target, _NO_PARAMS
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
        self._path = path[:200]  # comparing takes time by the square of it

    def __str__(self) -> str:
        near = _near(self._patterns, self._path)
        return "" if near is None else f"; did you mean {near!a}?"


def _near(patterns: list[str], path: str) -> str | None:
    """The pattern that resembles the path most. Parameters are filled from the path, so fixed segments decide."""
    segments = path.split("/")
    filled: dict[str, str] = {}
    for pattern in patterns:
        pairs = zip_longest(pattern.split("/"), segments[: pattern.count("/") + 1], fillvalue="")
        filled.setdefault("/".join(given if "{" in own else own for own, given in pairs), pattern)
    close = get_close_matches(path, filled, 1)
    return filled[close[0]] if close else None


#: What stands in no path of a URL but percent-encoded (RFC 3986 3.3).
_ENCODED = re.compile(r"""[\x01-\x20\x7f"#<>?[\]^`|]""")
#: How other libraries write a parameter.
_FOREIGN = re.compile(r"<(?:(\w+):)?(\w+)>|:(\w+)\??|\[(?:\.\.\.)?(\w+)\]")


def _segment(segment: str, pattern: str) -> str:
    """A segment that is no parameter, decoded. ValueError where it is not what stands in a URL."""
    where = f"{segment!r} in pattern {pattern!r}"
    if (foreign := _FOREIGN.fullmatch(segment)) is not None:
        name = next(one for one in foreign.groups()[1:] if one)
        meant = f"{{{name}:path}}" if foreign[1] == "path" or "..." in segment else f"{{{name}}}"
        raise ValueError(
            f"{where} is no parameter: write {pattern.replace(segment, meant, 1)!r}, or {quote(segment)!r} for these "
            "very characters"
        )
    if (special := re.search(r"[*\\]", segment)) is not None:
        raise ValueError(
            f"{where} is no wildcard or regular expression: write '{{name}}' for any one segment, '{{rest:path}}' at "
            f"the end for all that remains, or {quote(special[0])!r} for the character"
        )
    if (wrong := _ENCODED.search(segment)) is not None:
        bare = pattern.partition(wrong[0])[0]
        of_a_query = f"write {bare!r} and look at the query_string, or " if wrong[0] == "?" else ""
        of_a_fragment = f"write {bare!r}, as clients do not send a fragment, or " if wrong[0] == "#" else ""
        right = f"{quote(wrong[0])!r} for {wrong[0]!r}"
        raise ValueError(f"{where} is not as in a URL: {of_a_query or of_a_fragment or 'write '}{right}")
    try:
        if re.search("%(?![0-9A-Fa-f]{2})", segment):
            raise ValueError
        segment.encode()
        decoded = unquote(segment, errors="strict")
    except ValueError:  # also of an encoding
        raise ValueError(f"{where} is no UTF-8 in percent-encoding: write '%25' for '%'") from None
    if "\x00" in decoded:
        raise ValueError(f"pattern {pattern!r} holds a NUL, which no path does")
    return decoded.replace("/", ESCAPED_SLASH)


def _compile(pattern: str) -> tuple[_Shape, re.Pattern[str]]:
    segments = pattern.split("/")
    shape: list[str | EllipsisType | None] = []
    regex: list[str] = []
    names: set[str] = set()
    for index, segment in enumerate(segments):
        if "{" not in segment and "}" not in segment:
            fixed = _segment(segment, pattern)
            shape.append(fixed)
            regex.append(re.escape(fixed))
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
            right = pattern.replace(segment, f"{{{name}}}")
            raise ValueError(
                f"{segment!r} in pattern {pattern!r}: a parameter is any text: write {right!r}, and convert its value; "
                "'{name:path}' is for all that remains at the end"
            )
        names.add(name)
        shape.append(... if colon else None)
        regex.append(f"(?P<{name}>.*)" if colon else f"(?P<{name}>[^/]+)")
    return tuple(shape), re.compile("/".join(regex), re.DOTALL)
