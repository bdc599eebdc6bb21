"""Charts as SVG: bars of figures, and curves of latency. The same input gives the same bytes."""

# ruff: noqa: RUF001

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape

FONT = "-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
# Colours of GitHub's themes. The card has a ground of its own: the reader's system chooses the scheme here, the site's
# setting around it, and they need not agree.
STYLE = """
text { font-family: FONT; fill: #1f2328 }
.told text { paint-order: stroke; stroke: #ffffff; stroke-width: 3px }
.card { fill: #ffffff; stroke: #d1d9e0 }
.soft { fill: #59636e }
.strong { font-weight: 600 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.spread { stroke: #59636e; stroke-width: 1 }
.ours { fill: #0969da }
.variant { fill: #80b7f3 }
.other { fill: #b6bec7 }
.floor { fill: none; stroke: #818b98; stroke-dasharray: 3 2 }
.line { fill: none; stroke: #818b98; stroke-width: 1.5; stroke-linejoin: round }
.line.ours { stroke: #0969da; stroke-width: 3; fill: none }
.line.variant { stroke: #80b7f3; fill: none }
.link { fill: none; stroke: #b6bec7; stroke-width: .7 }
text.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.told text { stroke: #0d1117 }
.card { fill: #0d1117; stroke: #3d444d }
.soft { fill: #9198a1 }
.grid { stroke: #2a313a }
.spread { stroke: #b7bdc8 }
.ours { fill: #4493f8 }
.variant { fill: #1f4f8f }
.other { fill: #4b535d }
.floor { stroke: #7d8590 }
.line { stroke: #7d8590 }
.line.ours { stroke: #4493f8 }
.line.variant { stroke: #2a68b8 }
.link { stroke: #4b535d }
text.ours { fill: #4493f8 }
}
""".strip().replace("FONT", FONT)

PAD = 20  # inside the card
BODY, SMALL, TITLE = 13, 11, 15  # sizes of text
ROW, BAR = 24, 15  # heights
FROM = 2  # 1/(1-p), where curves begin: at the median
DASHES = ["", "6 3", "2 2", "9 3 2 3", "12 4", "4 4", "1 3", "9 3 2 3 2 3", "3 1"]


@dataclass(frozen=True)
class Bar:
    label: str
    kind: str  # ours, variant, other, floor
    value: float
    low: float
    high: float
    told: str  # at its end
    beside: str = ""  # after it, softer


@dataclass(frozen=True)
class Panel:
    title: str
    subtitle: str  # the unit, and which end is the better one
    bars: list[Bar]
    logarithmic: bool = False  # points on a scale, as a bar's length would mean nothing there
    unit: str = ""  # at the ticks of that scale


@dataclass(frozen=True)
class Curve:
    label: str
    kind: str
    points: list[tuple[float, float]]  # 1/(1-p), microseconds


def width_of(text: str, size: float) -> float:
    """An estimate on the wide side: which font there will be is not known."""
    units = 0.0
    for letter in text:
        if letter in "iljI.,:;'|!·()[] ":
            units += 0.4
        elif letter in "mwMW@%–—":
            units += 1.0
        elif letter.isupper() or letter == "×":
            units += 0.78
        else:
            units += 0.64
    return units * size


def shortened(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def fitted(content: str, size: float, width: float) -> float:
    """The size, or the smaller one in which it fits the width."""
    return min(size, size * width / max(width_of(content, size), 1))


def text(x: float, y: float, content: str, size: float, kind: str = "", *, anchor: str = "start") -> str:
    more = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text x="{shortened(x)}" y="{shortened(y)}" font-size="{shortened(size)}"{more}>{escape(content)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, *, radius: float = 2) -> str:
    box = f'x="{shortened(x)}" y="{shortened(y)}" width="{shortened(width)}" height="{shortened(height)}"'
    return f'<rect {box} rx="{shortened(radius)}" class="{kind}"/>'


def path(points: Iterable[tuple[float, float]], kind: str, dash: str = "") -> str:
    steps = " ".join(f"{shortened(x)} {shortened(y)}" for x, y in points)
    return f'<path d="M{steps}" class="{kind}"{f" stroke-dasharray={dash!r}" if dash else ""}/>'


def document(width: float, height: float, parts: list[str], *, title: str, description: str, footer: list[str]) -> str:
    """A card with its title above and where the figures come from below."""
    size = f"{shortened(width)} {shortened(height)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{shortened(width)}" '
        f'height="{shortened(height)}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(description)}</desc>',
        f"<style>\n{STYLE}\n</style>",
        rect(0.5, 0.5, width - 1, height - 1, "card", radius=6),
        text(PAD, 30, title, fitted(title, TITLE, (width - 2 * PAD) * 0.92), "strong"),
        *parts,
    ]
    for i, line in enumerate(reversed(footer)):
        lines.append(text(PAD, height - 14 - 15 * i, line, fitted(line, SMALL, width - 2 * PAD), "soft"))
    return "\n".join([*lines, "</svg>", ""])


# ---- bars ----


def panel_height(panel: Panel) -> float:
    return (42 if panel.title else 26) + ROW * len(panel.bars) + (22 if panel.logarithmic else 0)


def drawn(panel: Panel, left: float, top: float, width: float) -> list[str]:
    names = max(width_of(bar.label, BODY) for bar in panel.bars) + 8
    ends = max(width_of(bar.told, BODY) + width_of(bar.beside, SMALL) for bar in panel.bars) + 16
    start, room = left + names, width - names - ends
    parts, below = [], top + 13
    title, subtitle = panel.title, panel.subtitle
    while ", " in title and width_of(title, BODY) > width * 0.92:  # bold is wider
        title, _, last = title.rpartition(", ")
        subtitle = f"{last}, {subtitle}" if title.count(", ") < panel.title.count(", ") - 1 else f"{last}; {subtitle}"
    if title:
        parts.append(text(left, below, title, fitted(title, BODY, width * 0.92), "strong"))
        below += 16
    parts.append(text(left, below, subtitle, fitted(subtitle, SMALL, width), "soft"))
    first, bottom = below + 11, below + 11 + ROW * len(panel.bars)
    if panel.logarithmic:
        lowest = math.floor(math.log10(max(1.0, min((bar.low for bar in panel.bars if bar.low > 0), default=1))))
        highest = max(math.log10(max(1.0, *(bar.high for bar in panel.bars))), lowest + 1)

        def along(value: float) -> float:
            return room * (math.log10(max(value, 10**lowest)) - lowest) / (highest - lowest)

        for power in range(lowest, math.floor(highest) + 1):
            x = start + along(10**power)
            parts.append(path([(x, first), (x, bottom)], "grid"))
            parts.append(text(x, bottom + 14, amount(10**power, panel.unit), SMALL, "soft", anchor="middle"))
    else:
        most = max(bar.high for bar in panel.bars) or 1

        def along(value: float) -> float:
            return room * max(value, 0) / most

        parts.append(path([(start, first), (start, bottom)], "grid"))
    for i, bar in enumerate(panel.bars):
        y = first + ROW * i
        middle = y + ROW / 2
        end = start + along(bar.value)
        weight = "strong" if bar.kind == "ours" else ""
        parts.append(text(start - 8, middle + 4.5, bar.label, BODY, weight, anchor="end"))
        if panel.logarithmic:
            parts.append(path([(start, middle), (end, middle)], "grid"))
            parts.append(f'<circle cx="{shortened(end)}" cy="{shortened(middle)}" r="5.5" class="{bar.kind}"/>')
            after = end + 6
        else:
            parts.append(rect(start, middle - BAR / 2, max(end - start, 1), BAR, bar.kind))
            after = end
        low, high = start + along(bar.low), start + along(bar.high)
        if high - low > 2:
            parts.append(path([(low, middle), (high, middle)], "spread"))
            parts += [path([(x, middle - 3), (x, middle + 3)], "spread") for x in (low, high)]
            after = max(after, high)
        told = text(after + 6, middle + 4.5, bar.told, BODY, weight)
        if bar.beside:
            told += text(after + 12 + width_of(bar.told, BODY), middle + 4.5, bar.beside, SMALL, "soft")
        parts.append(f'<g class="told">{told}</g>')
    return parts


def bars(panels: list[Panel], columns: int, width: float, title: str, footer: list[str]) -> str:
    """Panels in columns, from left to right."""
    inner = (width - PAD * 2 - 28 * (columns - 1)) / columns
    top, parts = 48.0 if panels[0].title else 36.0, []
    for at in range(0, len(panels), columns):
        together = panels[at : at + columns]
        for i, panel in enumerate(together):
            parts += drawn(panel, PAD + (inner + 28) * i, top, inner)
        top += max(map(panel_height, together)) + 14
    told = [
        f"{panel.title or title} ({panel.subtitle}): {', '.join(f'{bar.label} {bar.told}' for bar in panel.bars)}."
        for panel in panels
    ]
    return document(width, top + 8 + 15 * len(footer), parts, title=title, description=" ".join(told), footer=footer)


def amount(value: int, unit: str) -> str:
    for prefix, size in (("M", 1_000_000), ("k", 1000)):
        if value >= size:
            return f"{value // size} {prefix}{unit}"
    return f"{value} {unit}".strip()


# ---- curves ----


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten, or those alone where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def duration(us: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:g} {unit}"
    return f"{us:g} µs"


def apart(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Where labels go that would like to be at these heights (ascending): no nearer to each other than the gap."""
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y, placed[-1] + gap) if placed else max(y, low))
    limit = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - gap
    return placed


def curves(lines: list[Curve], width: float, title: str, subtitle: str, footer: list[str]) -> str:
    """Percentiles from left to right, each further 9 as wide as the last; both axes logarithmic."""
    labels = max(width_of(line.label, BODY) for line in lines) + 30
    left, right, top, bottom = PAD + 48.0, width - PAD - labels, 72.0, 400.0
    most = max(x for line in lines for x, _ in line.points)
    values = [y for line in lines for _, y in line.points if y > 0]
    low, high = min(values) * 0.8, max(values) * 1.25

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log10(x / FROM) / math.log10(most / FROM)
        up = (math.log10(max(y, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return left + (right - left) * across, bottom - (bottom - top) * up

    parts = [text(PAD, 49, subtitle, fitted(subtitle, BODY, width - 2 * PAD), "soft")]
    for value in ticks(low, high):
        y = place(FROM, value)[1]
        parts += [
            path([(left, y), (right, y)], "grid"),
            text(left - 8, y + 4, duration(value), SMALL, "soft", anchor="end"),
        ]
    shares = [(2, "50 %"), (10, "90 %"), (100, "99 %"), (1000, "99.9 %"), (10_000, "99.99 %")]
    for x, share in [*shares, (100_000, "99.999 %")]:
        if x <= most:
            across = place(x, high)[0]
            parts.append(path([(across, top), (across, bottom)], "grid"))
            parts.append(text(across, bottom + 17, share, SMALL, "soft", anchor="middle"))
    ends = [place(*line.points[-1]) for line in lines]
    order = sorted(range(len(lines)), key=lambda i: ends[i][1])
    heights = apart([ends[i][1] for i in order], 17, top, bottom)
    dashes = iter(DASHES * 9)
    # Ours on top of the others.
    drawing = sorted(range(len(lines)), key=lambda i: ("other", "floor", "variant", "ours").index(lines[i].kind))
    for i in drawing:
        line, height = lines[i], heights[order.index(i)]
        kind = line.kind if line.kind in ("ours", "variant") else ""
        parts.append(
            path((place(*point) for point in line.points), f"line {kind}".strip(), "" if kind else next(dashes))
        )
        parts.append(path([ends[i], (right + 14, height), (right + 20, height)], "link"))
        parts.append(text(right + 24, height + 4.5, line.label, BODY, "strong ours" if kind == "ours" else ""))
    told = [
        f"{line.label}: " + ", ".join(f"{s} {duration(round(at(line, x)))}" for x, s in shares[:4] if x <= most)
        for line in lines
    ]
    return document(
        width,
        bottom + 48 + 15 * len(footer),
        parts,
        title=title,
        description=f"{subtitle} {'; '.join(told)}.",
        footer=footer,
    )


def at(line: Curve, x: float) -> float:
    return next((y for found, y in line.points if found >= x * 0.999), line.points[-1][1])


def curve(histogram: dict[float, int]) -> list[tuple[float, float]]:
    """The percentiles of a histogram, from microseconds (the upper ends) to counts, up to where the last ten are."""
    total = sum(histogram.values())
    most = math.log10(max(total / 10, 4))
    marks = [10 ** (i / 25) for i in range(math.floor(most * 25) + 1)]
    waiting = [float(FROM), *(mark for mark in marks if mark > FROM)]
    points: list[tuple[float, float]] = []
    seen = 0
    for upper in sorted(histogram):
        seen += histogram[upper]
        while waiting and seen >= total * (1 - 1 / waiting[0]):
            points.append((waiting.pop(0), upper))
    return points
