"""Charts as inline SVG: axes with units, labels that keep out of each other's way, colours by CSS class.

Every chart is drawn twice, for a phone and for anything wider, because letters that shrink with their chart
cannot be read; the page's style shows the one that fits. Lengths are in CSS pixels of the drawing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from minihv.report.html.markup import Html, h, join
from minihv.report.html.numbers import nice_ticks, short

WIDE, NARROW = 880, 350
LETTER = 7.4
"""Width that a letter of the charts' 13 px sans-serif font is given: more than any digit needs."""
LINE = 18
COLOURS = 8


class Frame(NamedTuple):
    """Where the plot is inside a drawing of `width` x `height`."""

    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float


def both(draw: Callable[[int], Html], label: str) -> Html:
    """A chart for wide screens and paper, and one for phones; `label` says what it shows."""
    return h(
        "figure",
        h("div", draw(WIDE), cls="wide"),
        h("div", draw(NARROW), cls="narrow"),
        role="img",
        aria_label=label,
    )


def svg(width: int, height: float, children: Sequence[Html]) -> Html:
    """The drawing itself."""
    return h("svg", join(list(children)), xmlns="http://www.w3.org/2000/svg",
             viewBox=f"0 0 {width} {height:.0f}")  # fmt: skip


def words(x: float, y: float, content: str, anchor: str = "start", cls: str = "label") -> Html:
    """Text with its baseline at `y`."""
    return h("text", content, x=float(x), y=float(y), text_anchor=anchor, cls=cls)


def fitted(content: str, room: float) -> str:
    """`content`, cut to `room` pixels."""
    letters = max(int(room / LETTER), 1)
    return content if len(content) <= letters else content[: letters - 1] + "…"


def frame(width: int, height: int, top: float, labels: Sequence[str]) -> Frame:
    """Room for a title line above, the longest of `labels` on the left, and two lines below."""
    left = max(len(label) for label in labels) * LETTER + 10
    return Frame(width, height, left, top, width - 8.0, height - 2 * LINE - 6.0)


def y_axis(f: Frame, top: float, title: str, wanted: int = 4) -> Html:
    """Grid lines with numbers, and the axis's title above them."""
    parts = [words(0, LINE - 5, title, cls="title")]
    for tick in nice_ticks(top, wanted):
        y = f.bottom - (f.bottom - f.top) * tick / top if top else f.bottom
        parts.append(h("line", x1=f.left, x2=f.right, y1=y, y2=y, cls="grid"))
        parts.append(words(f.left - 6, y + 4, short(tick), "end"))
    return join(parts)


def x_axis(f: Frame, ticks: Sequence[tuple[float, str]], title: str) -> Html:
    """`ticks` are (x in pixels, label), ascending; a label that would touch the one before is left out."""
    parts = [h("line", x1=f.left, x2=f.right, y1=f.bottom, y2=f.bottom, cls="axis")]
    taken = -1e9
    for x, label in ticks:
        half = len(label) * LETTER / 2 + 4  # an m is wider than the average letter
        middle = min(max(x, half), f.width - half)
        if middle - half < taken:
            continue
        taken = middle + half + 10
        parts.append(h("line", x1=x, x2=x, y1=f.bottom, y2=f.bottom + 5, cls="axis"))
        parts.append(words(middle, f.bottom + LINE + 2, label, "middle"))
    parts.append(words(f.right, f.bottom + 2 * LINE + 2, title, "end", "title"))
    return join(parts)


def legend(names: Sequence[tuple[int, str]]) -> Html:
    """(colour, name) as a row of swatches that wraps."""
    items = [h("li", h("span", "", cls=f"swatch b{colour}"), name) for colour, name in names]
    return h("ul", join(items), cls="legend")
