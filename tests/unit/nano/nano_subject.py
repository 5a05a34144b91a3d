"""A subject of the method that needs no machine: it answers with numbers of our choice."""

from collections.abc import Callable, Generator

from minihv.nano.measure import Measured, Timing
from minihv.nano.model import Cell, NanoReport, RowResult
from minihv.nano.rows import find_row

HZ = 2_000_000_000


def run(
    method: Generator[int, Timing, Measured],
    each: Callable[[int], float],
    empty: float = 2.0,
    between_ns: int = 10_000,
) -> tuple[Measured, list[int]]:
    """Drive `method` with a subject whose operation takes `each(answers so far)` ticks, its empty loop
    `empty`; time passes as the ticks say at `HZ`, and `between_ns` between answers. Also the counts asked."""
    asked = [next(method)]
    ticks_now = host_ns = 0
    while True:
        count = asked[-1]
        full, bare = int(count * (each(len(asked) - 1) + empty)), int(count * empty)
        timing = Timing(count, full, bare, ticks_now, host_ns)
        host_ns += (full + bare) * 1_000_000_000 // HZ + between_ns
        ticks_now = host_ns * HZ // 1_000_000_000
        try:
            asked.append(method.send(timing))
        except StopIteration as end:
            return end.value, asked


def report(cells: dict[str, dict[str, Cell]], **host: str) -> NanoReport:
    """A report with the given cells, at one cycle a ns."""
    subjects = tuple(dict.fromkeys(name for row in cells.values() for name in row))
    rows = []
    for name, row_cells in cells.items():
        row = find_row(name)
        assert row is not None
        rows.append(RowResult(row, row_cells))
    return NanoReport(host, 1_000_000, 5, 1_000_000_000, 1e9, subjects, tuple(rows), {}, "minihv nano")


def cell(*rounds: float, why: str = "", exits: float = 0.0) -> Cell:
    """A cell with these rounds (ns)."""
    return Cell(why, 100, rounds, exits)
