"""A flame graph of stacks, as one SVG."""

from __future__ import annotations

from html import escape

from bench.stacks import Frame, Stacks, shares

COLOURS = {  # the colour of each, as hue, saturation and lightness
    "kernel": "hsl(20 75% 62%)",
    "C library": "hsl(275 40% 70%)",
    "CPython": "hsl(215 60% 68%)",
    "fastws": "hsl(135 45% 55%)",
    "other": "hsl(50 25% 70%)",
}
WIDTH, ROW, MARGIN, HEAD = 1200, 16, 10, 58
THINNEST = 0.3  # in pixels; what is narrower is left out
LETTER = 6.2  # width of a letter at 11 pixels, on the safe side


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
    for i, (kind, share) in enumerate(shares(stacks).items()):
        parts.append(f'<rect x="{MARGIN + 140 * i}" y="32" width="12" height="12" fill="{COLOURS[kind]}"/>')
        parts.append(f'<text x="{MARGIN + 140 * i + 16}" y="42">{kind} {share:.1%}</text>\n')
    todo: list[tuple[Node, float, int]] = [(root, float(MARGIN), height - MARGIN - ROW)]
    while todo:
        node, x, y = todo.pop()
        for frame, callee in sorted(node.callees.items()):
            width = callee.samples * each
            if width >= THINNEST:
                hint = f"{frame.name} ({frame.kind}): {callee.samples:,} samples, {callee.samples / root.samples:.2%}"
                parts.append(_box(frame, hint, x, y, width))
                todo.append((callee, x, y - ROW))
            x += width
    return "".join([*parts, "</svg>\n"])


def _box(frame: Frame, hint: str, x: float, y: int, width: float) -> str:
    text, letters = frame.name, int((width - 4) / LETTER)
    if len(text) > letters:
        text = text[: letters - 2] + ".." if letters >= 4 else ""
    label = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(text)}</text>' if text else ""
    size = f'width="{max(width - 0.2, 0.2):.1f}" height="{ROW - 1}"'
    shape = f'<rect x="{x:.1f}" y="{y}" {size} fill="{COLOURS[frame.kind]}"/>'
    return f"<g><title>{escape(hint)}</title>{shape}{label}</g>\n"
