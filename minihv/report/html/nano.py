"""The page of nanobenchmarks ("minihv.nano/1"): cycles an operation, beside the published ones."""

from typing import Any

from minihv.report.check import Node
from minihv.report.html.dots import Dot, Line, dot_chart
from minihv.report.html.markup import Child, Html, h, join
from minihv.report.html.numbers import count, duration, short
from minihv.report.html.page import code, facts, footer, page, reproduce, section, table
from minihv.report.html.svg import COLOURS, legend

SCHEMA = "minihv.nano"
VERSION = 1
SPREAD = "Medians, and the median distance of a round from them."
PUBLISHED = ("native", "software", "hardware")


def nano_page(data: Any, where: str) -> str:
    """A self-contained HTML document. Raises UsageError that begins with `where` for a bent document."""
    node = Node(data, where)
    host, method = node.node("host"), node.node("method")
    subjects, rows = node.texts("subjects"), list(node.nodes("rows"))
    hertz = node.number("cycle_hz")
    words = host.text("kvm_words", "")
    passed = node.node("passed_over")
    return page(
        "minihv nano",
        [
            h("h1", "Nanobenchmarks: what one operation costs"),
            *(h("p", note, cls="note" if words and words in note else None) for note in node.texts("notes")),
            facts([
                ("Host", ", ".join(host.text(key) for key in ("cpu", "kernel") if host.text(key, ""))),
                ("A cycle", f"one tick of a {hertz / 1e9:.3g} GHz time-stamp counter"),
                ("Method", _method(method)),
                ("Passed over", "; ".join(f"{name}: {passed.text(name)}" for name in passed.data)),
            ]),
            reproduce(node.text("command", "")),
            section("Cycles an operation", _chart(rows, subjects)),
            section("In numbers", h("p", SPREAD, cls="soft"), _table(rows, subjects)),
            _beside(rows, subjects),
            section("What each does", _what(rows)),
            _whys(rows, subjects),
            footer(f"Made by minihv from a document of the form {SCHEMA}/{VERSION}."),
        ],
    )  # fmt: skip


def _method(method: Node) -> str:
    each = duration(method.number("loop_ns"))
    return f"{method.integer('rounds')} rounds of loops of {each} each, the empty loop subtracted; medians"


def _published_words() -> str:
    return (
        "Published: cycles of a Pentium 4 672 at 3.8 GHz (Adams and Agesen): native, software VMM (binary "
        "translation), hardware VMM (first VT-x). Here: medians, in this machine's cycles."
    )


def _cell(row: Node, subject: str) -> Node | None:
    cells = row.node("cells")
    return cells.node(subject) if cells.data.get(subject) is not None else None


def _cycles(row: Node, subject: str) -> Node | None:
    """The spread of the cycles; None where there is no number."""
    cell = _cell(row, subject)
    return cell.node("cycles") if cell is not None and cell.data.get("cycles") is not None else None


def _chart(rows: list[Node], subjects: tuple[str, ...]) -> Html:
    lines = []
    for row in rows:
        dots = []
        for index, subject in enumerate(subjects):
            cycles = _cycles(row, subject)
            if cycles is not None:
                middle, low, high = (cycles.number(key) for key in ("median", "min", "max"))
                dots.append(Dot(middle, low, high, index % COLOURS))
        lines.append(Line(row.text("name"), f"ring {row.integer('ring')}", dots))
    names = [(index % COLOURS, subject) for index, subject in enumerate(subjects)]
    words = "Dots are medians; bars reach from the cheapest to the dearest round."
    return join([h("p", words, cls="soft"), legend(names), dot_chart(lines, short, "cycles an operation")])


def _table(rows: list[Node], subjects: tuple[str, ...]) -> Html:
    body = [[code(row.text("name")), *(_number(row, s) for s in subjects)] for row in rows]
    return table(["operation", *(f"#{s}" for s in subjects)], body)


def _beside(rows: list[Node], subjects: tuple[str, ...]) -> Html | None:
    """The rows that were published, beside the published columns."""
    body: list[list[Child]] = []
    for row in rows:
        if row.data.get("published") is not None:
            old = row.node("published")
            mine = [_number(row, subject, spread=False) for subject in subjects]
            body.append([code(row.text("name")), *(old.text(name) for name in PUBLISHED), *mine])
    if not body:
        return None
    columns = ["operation", *(f"#2006: {name}" for name in PUBLISHED), *(f"#{s}" for s in subjects)]
    return section("Beside the table of 2006", h("p", _published_words(), cls="soft"), table(columns, body))


def _number(row: Node, subject: str, spread: bool = True) -> str:
    cycles = _cycles(row, subject)
    if cycles is None:
        return "-"
    middle = cycles.number("median")
    digits = 0 if abs(middle) >= 100 else 1
    cell = _cell(row, subject)
    mark = " *" if cell is not None and cell.text("why") else ""
    around = f" ± {cycles.number('mad'):,.{digits}f}" if spread else ""
    return f"{middle:,.{digits}f}{around}{mark}"


def _what(rows: list[Node]) -> Html:
    body = [
        (code(row.text("name")), str(row.integer("ring")), row.text("what"), row.text("native") or "cannot")
        for row in rows
    ]
    return table(("operation", "ring", "what", "natively, user space"), body)


def _whys(rows: list[Node], subjects: tuple[str, ...]) -> Html | None:
    """Why there is no number, or one that does not belong to its column."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for subject in subjects:
            cell = _cell(row, subject)
            if cell is not None and cell.text("why"):
                found.setdefault(f"{subject}: {cell.text('why')}", []).append(row.text("name"))
    if not found:
        return None
    body = [(why, ", ".join(names), count(len(names))) for why, names in found.items()]
    return section("Numbers that are missing, or marked *", table(("why", "operations", "#rows"), body))
