"""The result of `minihv nano`: plain frozen data, and its JSON form ("minihv.nano/1").

schema      "minihv.nano/1"
host        what stands behind the engines: kvm, kvm_words, cpu, kernel ...
method      loop_ns, rounds, row_ns: the goal of one loop, rounds wanted, time limit of a row
cycle_hz    host time-stamp ticks a second: what a cycle is here
subjects    names of the columns measured: "native", then engines
passed_over engines that do not work here -> why
notes[]     sentences that follow from the numbers
rows[]      name, ring, what, published {native, software, hardware} or null, native (how), cells {}
rows[].cells[subject]
    why         "" or why there is no number that belongs to the subject
    cycles, ns  {median, mad, min, max} an operation, or null; cycles are of `cycle_hz`
    count       operations in a round;  rounds[]  ns an operation, one value a round
    exits       exits to minihv an operation
    kernel      the engine's own counters an operation, those that grew
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from minihv.nano.measure import Spread, spread
from minihv.nano.rows import Row

SCHEMA = "minihv.nano/1"
NATIVE = "native"
NO_WAY = "user space may not"
"""Why most rows have no native number."""
REAL_HARDWARE = ("vt-x", "amd-v")
"""Kinds of KVM whose numbers are those of a bare-metal hypervisor."""


class Cell(NamedTuple):
    """One row on one subject."""

    why: str
    count: int = 0  # type: ignore[assignment]  # a field, not tuple.count
    rounds_ns: tuple[float, ...] = ()
    exits: float = 0.0
    kernel: Mapping[str, float] = {}

    @property
    def ns(self) -> Spread | None:
        """Nanoseconds an operation; None without a measurement."""
        return spread(self.rounds_ns) if self.rounds_ns else None

    def cycles(self, cycle_hz: float) -> Spread | None:
        """The same in cycles of `cycle_hz`."""
        ns = self.ns
        return Spread(*(value * cycle_hz / 1e9 for value in ns)) if ns is not None else None

    def to_dict(self, cycle_hz: float) -> dict[str, Any]:
        return {
            "why": self.why,
            "cycles": _spread_dict(self.cycles(cycle_hz)),
            "ns": _spread_dict(self.ns),
            "count": self.count,
            "rounds": list(self.rounds_ns),
            "exits": self.exits,
            "kernel": dict(self.kernel),
        }


def _spread_dict(value: Spread | None) -> dict[str, float] | None:
    if value is None:
        return None
    return {"median": value.median, "mad": value.mad, "min": value.least, "max": value.most}


class RowResult(NamedTuple):
    """One row on every subject."""

    row: Row
    cells: Mapping[str, Cell]


class NanoReport(NamedTuple):
    """Everything that `minihv nano` found. Times of the method in ns, `cycle_hz` in ticks a second."""

    host: Mapping[str, str]
    loop_ns: int
    rounds: int
    row_ns: int
    cycle_hz: float
    subjects: tuple[str, ...]
    rows: tuple[RowResult, ...]
    passed_over: Mapping[str, str]
    command: str = ""
    """What gives these numbers again."""

    @property
    def warning(self) -> str:
        """Which KVM this is, where it is not VT-x or AMD-V itself; else empty."""
        kind = self.host.get("kvm", "")
        if not kind or kind in REAL_HARDWARE:
            return ""
        return f"THIS KVM IS NOT BARE VT-x OR AMD-V. It is {self.host.get('kvm_words', kind)}."

    def cell(self, row: str, subject: str) -> Cell | None:
        """The cell of that row and subject; None where it was not measured."""
        return next((r.cells.get(subject) for r in self.rows if r.row.name == row), None)

    def cycles(self, row: str, subject: str) -> float | None:
        """Median cycles an operation, where they are the subject's own."""
        cell = self.cell(row, subject)
        if cell is None or cell.why:
            return None
        found = cell.cycles(self.cycle_hz)
        return found.median if found is not None else None

    def to_dict(self) -> dict[str, Any]:
        """The object that --json writes."""
        from minihv.nano.notes import notes

        return {
            "schema": SCHEMA,
            "command": self.command,
            "host": dict(self.host),
            "method": {"loop_ns": self.loop_ns, "rounds": self.rounds, "row_ns": self.row_ns},
            "cycle_hz": self.cycle_hz,
            "subjects": list(self.subjects),
            "passed_over": dict(self.passed_over),
            "notes": notes(self),
            "rows": [self._row_dict(result) for result in self.rows],
        }

    def _row_dict(self, result: RowResult) -> dict[str, Any]:
        row = result.row
        published = row.published
        return {
            "name": row.name,
            "ring": row.ring,
            "what": row.what,
            "published": published._asdict() if published is not None else None,
            "native": row.native,
            "cells": {name: cell.to_dict(self.cycle_hz) for name, cell in result.cells.items()},
        }
