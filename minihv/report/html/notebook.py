"""A report inside a notebook cell: a few lines that need no style sheet."""

from minihv.report.html.markup import Html, h, join
from minihv.report.html.numbers import count, duration, percent
from minihv.report.html.run import kvm_note, lead
from minihv.report.model import Report

COLUMNS = ("exit", "samples", "samples %", "time %", "average", "p50", "p99")
LEFT, RIGHT = "text-align:left", "text-align:right"


def fragment(report: Report) -> str:
    """Outcome and the table of exits by kind."""
    name = str(report.guest.get("name", "guest"))
    head = h("tr", *(h("th", c, style=LEFT if c == "exit" else RIGHT) for c in COLUMNS))
    rows = []
    for kind, group in report.exits.by("name").items():
        cells = (
            count(group.total),
            percent(group.total, report.exits.total),
            percent(group.sum_ns, report.exits.sum_ns),
            duration(group.sum_ns / group.total),
            duration(group.percentile(0.5)),
            duration(group.percentile(0.99)),
        )
        first = h("td", h("code", kind), style=LEFT)
        rows.append(h("tr", first, *(h("td", cell, style=RIGHT) for cell in cells)))
    parts: list[Html | None] = [
        h("p", h("strong", f"{name} on {report.engine}"), ". ", lead(report)),
        kvm_note(report),
        h("table", h("thead", head), h("tbody", *rows)) if rows else None,
    ]
    return h("div", join([part for part in parts if part is not None]))
