"""The table of `minihv nano` as text."""

import textwrap
from collections.abc import Iterator

from minihv.nano.model import NanoReport, RowResult
from minihv.nano.notes import notes
from minihv.nano.numbers import hertz_words, spread_words

NOTHING = "-"
GAP = "  "
PUBLISHED = ("native", "software", "hardware")
WIDTH = 110


def nano_table(report: NanoReport) -> str:
    """The whole text, ending in a newline."""
    return "\n".join([*_header(report), "", *_rows(report), "", *_foot(report)]) + "\n"


def _header(report: NanoReport) -> Iterator[str]:
    if report.warning:
        yield from ("!! " + line for line in textwrap.wrap(report.warning, WIDTH - 3))
    yield (
        f"Cycles an operation ({hertz_words(report.cycle_hz)} time-stamp counter): median of up to "
        f"{report.rounds} rounds ±median absolute deviation"
    )
    host = ", ".join(report.host[key] for key in ("cpu", "kernel") if report.host.get(key))
    if host:
        yield f"on {host}"


def cells(report: NanoReport, result: RowResult) -> list[str]:
    """One line of the table: row, ring, the subjects, the columns of 2006."""
    row = result.row
    found = [row.name, str(row.ring)]
    for subject in report.subjects:
        cell = result.cells.get(subject)
        value = cell.cycles(report.cycle_hz) if cell is not None and not cell.why else None
        found.append(NOTHING if value is None else spread_words(value))
    published = row.published or (NOTHING,) * len(PUBLISHED)
    return found + list(published)


def _rows(report: NanoReport) -> Iterator[str]:
    head = ["operation", "ring", *report.subjects, *PUBLISHED]
    body = [cells(report, result) for result in report.rows]
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    here = len(report.subjects) + 2
    left = sum(widths[2:here]) + len(GAP) * (here - 3)
    right = sum(widths[here:]) + len(GAP) * (len(PUBLISHED) - 1)
    yield (
        " " * (widths[0] + len(GAP) + widths[1]) + GAP + _over("this machine", left) + GAP
        + _over("published 2006", right)
    ).rstrip()  # fmt: skip
    for line in (head, *body):
        first = line[0].ljust(widths[0])
        rest = [value.rjust(width) for value, width in zip(line[1:], widths[1:], strict=True)]
        yield GAP.join([first, *rest])


def _over(title: str, width: int) -> str:
    """A heading that spans columns."""
    return f" {title} ".center(width, "-") if width > len(title) + 2 else title[:width].ljust(width)


def _foot(report: NanoReport) -> Iterator[str]:
    for result in report.rows:
        row = result.row
        yield from textwrap.wrap(f"{row.name}: {row.what}", WIDTH, subsequent_indent="    ")
    yield ""
    for note in notes(report)[bool(report.warning) :]:  # the warning stands on top
        yield from textwrap.wrap(note, WIDTH, initial_indent="* ", subsequent_indent="  ")
    if report.command:
        yield ""
        yield f"Again: {report.command}"
