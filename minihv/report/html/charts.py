"""The charts of a run: exits over time, shares of time, handling times by kind."""

from collections.abc import Mapping, Sequence
from math import log2

from minihv.report.html.markup import Html, h, join
from minihv.report.html.numbers import count, duration, log_ticks, nice_ticks, percent, short, time_axis
from minihv.report.html.svg import (
    COLOURS,
    LETTER,
    LINE,
    Frame,
    both,
    fitted,
    frame,
    legend,
    svg,
    words,
    x_axis,
    y_axis,
)
from minihv.report.model import Exits, Report, Timeline

OTHER = "other kinds"
BAR = 26
GUEST, VMM, REST = 5, 6, 7
"""Colours that kinds of exits get last."""


def colours(report: Report) -> dict[str, int]:
    """Exit name -> colour, the same in all charts of a page; the rare ones share the last."""
    names = dict.fromkeys([*report.exits.by("name"), *(report.timeline.exits if report.timeline else ())])
    return {name: min(index, COLOURS - 1) for index, name in enumerate(names)}


# Exits over time


def timeline(line: Timeline, colour: Mapping[str, int]) -> Html:
    """Stacked exits per second over time, one colour a kind."""
    rows = _stack(line, colour)
    length = max((len(row) for _, row in rows), default=0)
    names = [(index, name) for index, (name, _) in zip(_indices(rows, colour), rows, strict=True)]

    def draw(width: int) -> Html:
        return _timeline(width, line.bucket_ns, [(i, r) for (i, _), (_, r) in zip(names, rows, strict=True)])

    label = f"Exits per second over {duration(length * line.bucket_ns)}, stacked by kind"
    return join([legend(names), both(draw, label)])


def _stack(line: Timeline, colour: Mapping[str, int]) -> list[tuple[str, list[int]]]:
    rows: dict[str, list[int]] = {}
    for name, counts in line.exits.items():
        shown = name if colour.get(name, COLOURS - 1) < COLOURS - 1 else OTHER
        row = rows.setdefault(shown, [0] * len(counts))
        for index, value in enumerate(counts):
            row[index] += value
    return list(rows.items())


def _indices(rows: Sequence[tuple[str, list[int]]], colour: Mapping[str, int]) -> list[int]:
    return [colour.get(name, COLOURS - 1) for name, _ in rows]


def _timeline(width: int, bucket_ns: int, rows: Sequence[tuple[int, list[int]]]) -> Html:
    length = max((len(row) for _, row in rows), default=0) or 1
    per_second = 1e9 / bucket_ns
    sums = [sum(row[i] for _, row in rows) for i in range(length)]
    top = (max(sums, default=0) or 1) * per_second
    f = frame(width, 260, LINE + 4, [short(tick) for tick in nice_ticks(top, 4)])
    step = (f.right - f.left) / length
    parts = [y_axis(f, top, "exits per second")]
    base = [0.0] * length
    for index, row in rows:
        new = [b + v * per_second for b, v in zip(base, row, strict=True)]
        parts.append(h("path", d=_area(f, base, new, step, top), cls=f"k{index}"))
        base = new
    ticks, label, unit = time_axis(length * bucket_ns, 8 if width > 500 else 4)
    scale = (f.right - f.left) / (length * bucket_ns)
    parts.append(x_axis(f, [(f.left + t * scale, label(t)) for t in ticks], f"time, {unit}"))
    return svg(width, f.height, parts)


def _area(f: Frame, low: Sequence[float], high: Sequence[float], step: float, top: float) -> str:
    """A stepped area between two rows, as an SVG path."""
    scale = (f.bottom - f.top) / top

    def walk(row: Sequence[float], indices: range, forward: bool) -> list[str]:
        points = []
        for i in indices:
            y = f.bottom - row[i] * scale
            ends = (i, i + 1) if forward else (i + 1, i)
            points += [f"{f.left + end * step:.1f} {y:.1f}" for end in ends]
        return points

    there = walk(high, range(len(high)), True)
    back = walk(low, range(len(low) - 1, -1, -1), False)
    return f"M{'L'.join(there + back)}Z"


# Shares of time


def shares(report: Report) -> Html:
    """Where each vCPU's time went, of the whole run."""
    names = ((GUEST, "guest, and the kernel for it"), (VMM, "minihv: handling exits"), (REST, "the rest"))

    def draw(width: int) -> Html:
        parts = []
        y = 0.0
        for v in report.vcpus:
            whole = max(report.wall_ns, v.guest_ns + v.vmm_ns, 1)
            rest = whole - v.guest_ns - v.vmm_ns
            parts.append(words(0, y + 14, f"vCPU {v.index}: {count(v.exits)} exits", cls="title"))
            parts.append(_bar(width, y + 20, whole, ((GUEST, v.guest_ns), (VMM, v.vmm_ns), (REST, rest))))
            y += BAR + 34
        return svg(width, y, parts)

    return join([legend(names), both(draw, "Shares of the run's time, by vCPU")])


def handling(exits: Exits, colour: Mapping[str, int]) -> Html:
    """How minihv's own time divides over the kinds of exits."""
    groups = sorted(exits.by("name").items(), key=lambda item: -item[1].sum_ns)
    pieces: dict[int, int] = {}
    for name, group in groups:
        index = colour.get(name, COLOURS - 1)
        pieces[index] = pieces.get(index, 0) + group.sum_ns
    named = {index: name if index < COLOURS - 1 else OTHER for name, index in colour.items()}

    def draw(width: int) -> Html:
        return svg(width, BAR + 4, [_bar(width, 2, max(exits.sum_ns, 1), tuple(pieces.items()))])

    names = [
        (index, f"{named[index]} {percent(ns, exits.sum_ns)} ({duration(ns)})")
        for index, ns in pieces.items()
    ]
    return join([legend(names), both(draw, "Handling time by kind of exit")])


def _bar(width: int, y: float, whole: int, pieces: Sequence[tuple[int, int]]) -> Html:
    """One stacked bar over the full width; a share is written where there is room for it."""
    parts = []
    x = 0.0
    for index, ns in pieces:
        if ns <= 0:
            continue
        wide = width * ns / whole
        parts.append(h("rect", x=x, y=y, width=wide, height=BAR, cls=f"k{index}"))
        label = percent(ns, whole)
        if wide > len(label) * LETTER + 8:
            parts.append(words(x + wide / 2, y + BAR / 2 + 5, label, "middle", f"on{index}"))
        x += wide
    return join(parts)


# Handling times


def histograms(exits: Exits, colour: Mapping[str, int]) -> Html:
    """One small histogram of handling times for each kind of exit, on a common logarithmic axis."""
    used = [b for b, n in enumerate(exits.histogram) if n]
    if not used:
        return Html("")
    low, high = max(min(used) - 1, 0), max(used)
    return join([
        _histogram(name, group, colour.get(name, COLOURS - 1), low, high)
        for name, group in exits.by("name").items()
    ])  # fmt: skip


def _histogram(name: str, group: Exits, index: int, low: int, high: int) -> Html:
    caption = (
        f"{name}: {count(group.total)} exits, p50 {duration(group.percentile(0.5))}, "
        f"p99 {duration(group.percentile(0.99))}, longest {duration(group.max_ns)}"
    )

    def draw(width: int) -> Html:
        counts = group.histogram[low : high + 1]
        top = max(counts)
        f = frame(width, 170, LINE + 4, [short(tick) for tick in nice_ticks(top, 3)])
        step = (f.right - f.left) / len(counts)
        parts = [y_axis(f, top, "exits", 3)]
        for i, n in enumerate(counts):
            if n:
                tall = max((f.bottom - f.top) * n / top, 1.0)  # one exit of a million shows, too
                parts.append(h("rect", x=f.left + i * step + step * 0.06, y=f.bottom - tall,
                               width=step * 0.88, height=tall, cls=f"k{index}"))  # fmt: skip
        # Bucket b begins at 2**(b - 1) ns.
        edges = [
            (f.left + (log2(tick) + 1 - low) * step, duration(tick))
            for tick in log_ticks(2.0 ** (low - 1), 2.0**high)
        ]
        parts.append(x_axis(f, edges, "handling time, logarithmic"))
        return svg(width, f.height, parts)

    return h(
        "section", h("h3", caption), both(draw, f"Handling times of {fitted(name, 300)} exits"), cls="keep"
    )
