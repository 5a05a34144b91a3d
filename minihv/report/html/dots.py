"""Dot charts: numbers that lie orders of magnitude apart, on one logarithmic axis."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import NamedTuple

from minihv.report.html.markup import Html, h, join
from minihv.report.html.svg import LETTER, LINE, both, fitted, svg, words

ROW = 44
MAX_DECADES = 7
"""More decades than a phone has room for get a label only every second time."""


class Dot(NamedTuple):
    """One number with its spread; `colour` says whose it is. A ring is somebody else's number."""

    value: float
    low: float
    high: float
    colour: int
    ring: bool = False


class Line(NamedTuple):
    """One line of a chart: its name, what is written at its right end, and its dots."""

    name: str
    note: str
    dots: Sequence[Dot]


def dot_chart(lines: Sequence[Line], label: Callable[[float], str], title: str) -> Html:
    """All lines on one axis. Empty where there is no positive number; `label` writes a tick."""
    values = [v for line in lines for dot in line.dots for v in (dot.low, dot.value, dot.high) if v > 0]
    if not values:
        return Html("")
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    return both(lambda width: _draw(width, lines, (low, high), label, title), title)


def _draw(
    width: int, lines: Sequence[Line], span: tuple[int, int], label: Callable[[float], str], title: str
) -> Html:
    low, high = span
    left, right = 14.0, width - 14.0
    bottom = float(ROW * len(lines) + 4)

    def place(value: float) -> float:
        return left + (right - left) * (log10(max(value, 10.0**low)) - low) / (high - low)

    every = 2 if high - low > MAX_DECADES and width < 500 else 1
    parts = []
    for decade in range(low, high + 1):
        x = place(10.0**decade)
        parts.append(h("line", x1=x, x2=x, y1=0.0, y2=bottom, cls="grid"))
        if (decade - low) % every == 0:
            text = label(10.0**decade)
            half = len(text) * LETTER / 2 + 4  # an m is wider than the average letter
            parts.append(words(min(max(x, half), width - half), bottom + LINE, text, "middle"))
    parts.append(words(right, bottom + 2 * LINE + 2, fitted(f"{title}, logarithmic", right), "end", "title"))
    for index, line in enumerate(lines):
        parts.append(_row(width, index * ROW, line, place))
    return svg(width, bottom + 2 * LINE + 8, parts)


def _row(width: int, top: float, line: Line, place: Callable[[float], float]) -> Html:
    note = fitted(line.note, width * 0.55)
    name = fitted(line.name, width - (len(note) + 2) * LETTER)
    y = top + 30.0
    parts = [
        h("rect", x=0.0, y=top + 2.0, width=float(width), height=17.0, cls="band"),
        words(2, top + 15, name, cls="title"),
        words(width - 2, top + 15, note, "end"),
    ]
    for dot in line.dots:
        if dot.high > dot.low > 0:
            x, end = place(dot.low), place(dot.high)
            parts.append(h("rect", x=x, y=y - 1.5, width=max(end - x, 1.0), height=3.0, cls=f"k{dot.colour}"))
    for dot in line.dots:
        if dot.value > 0:
            cls = f"s{dot.colour} hollow" if dot.ring else f"k{dot.colour}"
            parts.append(h("circle", cx=place(dot.value), cy=y, r=5.0, cls=cls))
    return join(parts)
