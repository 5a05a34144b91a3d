"""The whole of `minihv nano`: rows by subjects."""

from collections.abc import Callable, Sequence

from minihv.engine.select import survey
from minihv.errors import EngineUnavailable, UsageError
from minihv.nano.guest import run_row
from minihv.nano.measure import Goal
from minihv.nano.model import NATIVE, Cell, NanoReport, RowResult
from minihv.nano.native import NativeRunner
from minihv.nano.rows import ROWS, Row, find_row

Progress = Callable[[int, int, str], None]
"""(steps done, steps in all, what comes next)."""


def choose_engines(wanted: str | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Engines from "kvm,interpret", or all that work here; and why others were passed over.

    Raises UsageError for a name that is none, EngineUnavailable where one asked for cannot work here.
    """
    known = survey()
    if wanted is None:
        works = tuple(name for name, reason in known.items() if reason is None)
        return works, {name: reason for name, reason in known.items() if reason is not None}
    names = tuple(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    strange = [name for name in names if name not in known]
    if strange or not names:
        found = ", ".join(map(repr, strange)) or "none"
        raise UsageError(f"expected engines of {', '.join(known)}, with commas between, found {found}")
    for name in names:
        reason = known[name]
        if reason is not None:
            raise EngineUnavailable(f"the {name} engine cannot work here: {reason}")
    return names, {}


def choose_rows(names: Sequence[str]) -> tuple[Row, ...]:
    """The rows of these names, or all. Raises UsageError."""
    rows = []
    for name in names:
        row = find_row(name)
        if row is None:
            raise UsageError(f"expected a row of {', '.join(r.name for r in ROWS)}, found {name!r}")
        rows.append(row)
    return tuple(dict.fromkeys(rows)) or ROWS


def take(
    engines: Sequence[str],
    rows: Sequence[Row],
    goal: Goal,
    *,
    native: bool = True,
    passed_over: dict[str, str] | None = None,
    progress: Progress = lambda done, steps, what: None,
    command: str = "",
) -> NanoReport:
    """Measure `rows` on each subject, one after the other. Raises what starting a machine raises."""
    subjects = ((NATIVE,) if native else ()) + tuple(engines)
    cells: dict[str, dict[str, Cell]] = {row.name: {} for row in rows}
    host: dict[str, str] = {}
    steps, done = len(subjects) * len(rows), 0
    cycle_hz = 0.0
    if native:
        with NativeRunner() as runner:
            cycle_hz = runner.tick_hz()
            for row in rows:
                progress(done, steps, f"{row.name}, {NATIVE}")
                cells[row.name][NATIVE], _ = runner.run_row(row, goal)
                done += 1
    for engine in engines:
        for row in rows:
            progress(done, steps, f"{row.name} on {engine}")
            result = run_row(engine, row, goal)
            cells[row.name][engine] = result.cell
            host = {**result.host, **host}
            cycle_hz = cycle_hz or result.tick_hz
            done += 1
    progress(done, steps, "")
    results = tuple(RowResult(row, cells[row.name]) for row in rows)
    return NanoReport(
        host, goal.loop_ns, goal.rounds, goal.row_ns, cycle_hz, subjects, results, passed_over or {}, command
    )
