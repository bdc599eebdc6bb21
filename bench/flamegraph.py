"""Stacks of a profile: told apart by whose code they run, counted, and drawn as a flame graph."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import NamedTuple

KINDS = {  # the colour of each, as hue, saturation and lightness
    "kernel": "hsl(20 75% 62%)",
    "C library": "hsl(275 40% 70%)",
    "CPython": "hsl(215 60% 68%)",
    "fastws": "hsl(135 45% 55%)",
    "other": "hsl(50 25% 70%)",
}
WIDTH, ROW, MARGIN, HEAD = 1200, 16, 10, 58
THINNEST = 0.3  # in pixels; what is narrower is left out
LETTER = 6.2  # width of a letter at 11 pixels, on the safe side


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


class Node:
    """A function where one stack has led to it."""

    def __init__(self) -> None:
        self.samples = 0
        self.callees: dict[Frame, Node] = {}

    def depth(self, least: float) -> int:
        return 1 + max((node.depth(least) for node in self.callees.values() if node.samples >= least), default=0)


def tree(stacks: Stacks) -> Node:
    root = Node()
    for stack, samples in stacks.items():
        node = root
        node.samples += samples
        for frame in stack:
            node = node.callees.setdefault(frame, Node())
            node.samples += samples
    return root


def svg(stacks: Stacks, title: str) -> str:
    """A picture that needs nothing else: callers below callees, as wide as they have samples, in the order of names."""
    root = tree(stacks)
    each = (WIDTH - 2 * MARGIN) / max(1, root.samples)  # pixels
    height = HEAD + MARGIN + ROW * (root.depth(THINNEST / each) - 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' font-family="ui-monospace, Consolas, monospace" font-size="11">\n',
        "<style>g:hover rect{stroke:#000}text{pointer-events:none}</style>\n",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n',
        f'<text x="{MARGIN}" y="22" font-size="15">{escape(title)}</text>\n',
    ]
    place = MARGIN
    for kind, share in shares(stacks).items():
        parts.append(f'<rect x="{place}" y="32" width="12" height="12" fill="{KINDS[kind]}"/>')
        parts.append(f'<text x="{place + 16}" y="42">{kind} {share:.1%}</text>\n')
        place += 140
    todo: list[tuple[Node, float, int]] = [(root, MARGIN, height - MARGIN - ROW)]
    while todo:
        node, x, y = todo.pop()
        for frame, callee in sorted(node.callees.items()):
            width = callee.samples * each
            if width >= THINNEST:
                share = f"{callee.samples:,} samples, {callee.samples / root.samples:.2%}"
                parts.append(_box(frame, f"{frame.name} ({frame.kind}): {share}", x, y, width))
                todo.append((callee, x, y - ROW))
            x += width
    return "".join([*parts, "</svg>\n"])


def _box(frame: Frame, hint: str, x: float, y: int, width: float) -> str:
    text, letters = frame.name, int((width - 4) / LETTER)
    if len(text) > letters:
        text = text[: letters - 2] + ".." if letters >= 4 else ""
    label = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(text)}</text>' if text else ""
    size = f'width="{max(width - 0.2, 0.2):.1f}" height="{ROW - 1}"'
    shape = f'<rect x="{x:.1f}" y="{y}" {size} fill="{KINDS[frame.kind]}"/>'
    return f"<g><title>{escape(hint)}</title>{shape}{label}</g>\n"
