"""The page of a comparison ("minihv.compare/1"): the same guest on several engines."""

from typing import Any

from minihv.report.check import Node
from minihv.report.html.dots import Dot, Line, dot_chart
from minihv.report.html.markup import Child, Html, h, join
from minihv.report.html.numbers import count, duration
from minihv.report.html.page import code, facts, footer, page, preformatted, reproduce, section, table
from minihv.report.html.svg import COLOURS

SCHEMA = "minihv.compare"
VERSION = 1
TOP_COUNTERS = 12


def compare_page(data: Any, where: str) -> str:
    """A self-contained HTML document. Raises UsageError that begins with `where` for a bent document."""
    node = Node(data, where)
    name = node.text("guest")
    engines = list(node.nodes("engines"))
    if not engines:
        raise node.refuse("engines", "at least one engine", [])
    runs = node.integer("runs")
    return page(
        f"{name} on {len(engines)} engines",
        [
            h("h1", f"{name}: the same guest on {len(engines)} engines"),
            *(h("p", sentence, cls="lead") for sentence in node.texts("sentences")),
            _kvm_note(engines),
            facts([
                ("Runs of each engine", str(runs)),
                ("Passed over", "; ".join(node.texts("passed_over"))),
                ("Host", _host(engines)),
            ]),
            reproduce(node.text("command", "")),
            section("Wall time", _walls(engines)),
            section("Side by side", _table(engines)),
            section("Outcome and console", *_outcomes(node, engines)),
            *(_counters(engine) for engine in engines),
            footer(f"Made by minihv from a document of the form {SCHEMA}/{VERSION}. Numbers are medians."),
        ],
    )  # fmt: skip


def _kvm_note(engines: list[Node]) -> Html | None:
    words = next((w for e in engines if (w := e.node("host").text("kvm_words", ""))), "")
    return h("p", f"This KVM is {words}.", cls="note") if words else None


def _host(engines: list[Node]) -> str:
    host = engines[0].node("host")
    words = [(key, host.text(key, "")) for key in ("cpu", "kernel", "python")]
    return ", ".join(value if key == "cpu" else f"{key} {value}" for key, value in words if value)


def _walls(engines: list[Node]) -> Html:
    lines = []
    for index, engine in enumerate(engines):
        wall = engine.node("wall_ns")
        middle, low, high = (wall.number(key) for key in ("median", "min", "max"))
        note = f"{duration(middle)}, {engine.number('ratio'):.3g} times the fastest"
        lines.append(Line(engine.text("engine"), note, [Dot(middle, low, high, index % COLOURS)]))
    words = "Dots are medians; bars reach from the shortest to the longest run."
    return join([h("p", words, cls="soft"), dot_chart(lines, duration, "wall time")])


def _table(engines: list[Node]) -> Html:
    rows: list[list[Child]] = [
        ["wall time", *(duration(e.node("wall_ns").number("median")) for e in engines)],
        ["ratio to the fastest", *(f"{e.number('ratio'):.3g}" for e in engines)],
        ["guest instructions", *(_instructions(e) for e in engines)],
        ["time in the guest", *(duration(e.integer("guest_ns")) for e in engines)],
        ["time handling exits", *(duration(e.integer("vmm_ns")) for e in engines)],
        ["exits", *(count(e.integer("total_exits")) for e in engines)],
    ]
    exits = [e.counters("exits") for e in engines]
    for kind in dict.fromkeys(kind for found in exits for kind in found):
        rows.append([f"exits: {kind}", *(count(found.get(kind, 0)) for found in exits)])
    return table(["", *(f"#{e.text('engine')}" for e in engines)], rows)


def _instructions(engine: Node) -> str:
    return "not counted" if engine.data.get("instructions") is None else count(engine.integer("instructions"))


def _outcomes(node: Node, engines: list[Node]) -> list[Child]:
    rows = []
    for engine in engines:
        end = engine.node("outcome")
        rows.append([code(engine.text("engine")), end.text("reason"), count(end.integer("status")),
                     count(engine.node("console").integer("bytes"))])  # fmt: skip
    equal = node.take("equal", "true or false") is True
    parts: list[Child] = [
        h("p", "The same in every run of every engine." if equal else "They are not the same:"),
        *(preformatted(_difference(d)) for d in node.nodes("differences")),
        table(("engine", "outcome", "#status", "#bytes printed"), rows),
    ]
    console = engines[0].node("console").text("text")
    if console.strip():
        parts += [h("h3", f"What it printed on {engines[0].text('engine')}"), preformatted(console.rstrip())]
    return parts


def _difference(d: Node) -> str:
    place = f" at line {d.integer('line')}, column {d.integer('column')}" if d.integer("line") else ""
    who = f"{d.text('what')} of {d.text('engine')}, run {d.integer('run')}{place}"
    return f"{who}\nexpected {d.text('expected')}\nfound    {d.text('found')}"


def _counters(engine: Node) -> Html | None:
    counters = sorted(engine.counters("counters").items(), key=lambda item: (-item[1], item[0]))
    if not counters:
        return None
    rows = [(code(name), count(value)) for name, value in counters[:TOP_COUNTERS]]
    return section(f"Counted by {engine.text('engine')}", table(("counter", "#value"), rows))
