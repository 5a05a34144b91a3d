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
            h("p", f"This KVM is {words}.", cls="note") if words else None,
            *(h("p", note) for note in node.texts("notes")),
            facts([
                ("Host", ", ".join(host.text(key) for key in ("cpu", "kernel") if host.text(key, ""))),
                ("A cycle", f"one tick of a {hertz / 1e9:.3g} GHz time-stamp counter"),
                ("Method", _method(method)),
                ("Passed over", "; ".join(f"{name}: {passed.text(name)}" for name in passed.data)),
            ]),
            reproduce(node.text("command", "")),
            section("Cycles an operation", _chart(rows, subjects)),
            section("In numbers", _table(rows, subjects), h("p", _spread_words(), cls="soft")),
            section("What each does", _what(rows)),
            _whys(rows, subjects),
            footer(f"Made by minihv from a document of the form {SCHEMA}/{VERSION}."),
        ],
    )  # fmt: skip


def _method(method: Node) -> str:
    each = duration(method.number("loop_ns"))
    return f"{method.integer('rounds')} rounds of loops of {each} each, the empty loop subtracted; medians"


def _spread_words() -> str:
    return (
        "Published columns: cycles of a Pentium 4 672 at 3.8 GHz, 2006 (Adams and Agesen): native, "
        "software VMM (binary translation), hardware VMM (first VT-x)."
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
    return join([legend(names), dot_chart(lines, short, "cycles: median, and from the least to the most")])


def _table(rows: list[Node], subjects: tuple[str, ...]) -> Html:
    columns = ["operation", *(f"#{s}" for s in subjects), *(f"#2006 {name}" for name in PUBLISHED)]
    body: list[list[Child]] = []
    for row in rows:
        published = row.node("published") if row.data.get("published") is not None else None
        old = [published.text(name) if published is not None else "-" for name in PUBLISHED]
        body.append([code(row.text("name")), *(_number(row, s) for s in subjects), *old])
    return table(columns, body)


def _number(row: Node, subject: str) -> str:
    cycles = _cycles(row, subject)
    if cycles is None:
        return "-"
    middle, spread = cycles.number("median"), cycles.number("mad")
    digits = 0 if middle >= 100 else 1
    cell = _cell(row, subject)
    mark = " *" if cell is not None and cell.text("why") else ""
    return f"{middle:,.{digits}f} ± {spread:,.{digits}f}{mark}"


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
