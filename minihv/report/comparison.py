"""The same guest on several engines: what was equal, what was not, and what it cost ("minihv.compare/1").

    schema         "minihv.compare/1"
    guest, runs    the guest's name; how often each engine ran it
    equal          outcome and console were the same in every run of every engine
    engines[]      engine, host, outcome, console {bytes, text, dropped}, wall_ns {median, min, max}, ratio
                   (to the fastest), instructions (null where not counted), exits {kind: count}, total_exits,
                   guest_ns, vmm_ns, counters
    differences[]  engine, run (from 1), what ("outcome" or "console"), expected, found, and for the console
                   line and column (from 1)
    passed_over[]  engines that cannot work here, with the reason
    sentences[]    the two sentences that follow from the numbers
    command        the command line that measured this, or ""

Numbers are medians over an engine's runs, each for itself; times are ns of host time. Exits are those of
the run whose wall time is the median.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from minihv.report.model import Report

SCHEMA = "minihv.compare/1"
SHOWN = 40
"""Bytes of a console line shown around the place where two consoles part."""


class Run(NamedTuple):
    """One run: its report, what the guest printed, and how many bytes of that were too old to be kept."""

    report: Report
    console: bytes
    dropped: int = 0


class Difference(NamedTuple):
    """What run number `run` (from 1) of `engine` did otherwise than the first run of the first engine.

    `expected` and `found` are texts with nothing in them that a terminal would obey. `line` and `column`
    count from 1, the column in bytes; 0 where the difference is no place in a text.
    """

    engine: str
    run: int
    what: str
    expected: str
    found: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f" at line {self.line}, column {self.column}" if self.line else ""
        who = f"{self.what} of {self.engine}, run {self.run}{where}"
        return f"{who}: expected {self.expected}, found {self.found}"


class Column(NamedTuple):
    """All runs of one engine, at least one."""

    engine: str
    runs: tuple[Run, ...]

    @property
    def typical(self) -> Run:
        """The run with the median wall time (of an even number, the faster of the two in the middle)."""
        ranked = sorted(self.runs, key=lambda run: run.report.wall_ns)
        return ranked[(len(ranked) - 1) // 2]

    @property
    def walls(self) -> list[int]:
        """Wall times, ascending."""
        return sorted(run.report.wall_ns for run in self.runs)

    @property
    def wall_ns(self) -> int:
        return median(self.walls)

    @property
    def guest_ns(self) -> int:
        """Time inside the guest, and in the kernel on its behalf, of all vCPUs."""
        return median(sum(v.guest_ns for v in run.report.vcpus) for run in self.runs)

    @property
    def vmm_ns(self) -> int:
        """Time in which minihv answered exits, of all vCPUs."""
        return median(sum(v.vmm_ns for v in run.report.vcpus) for run in self.runs)

    @property
    def instructions(self) -> int | None:
        """Guest instructions; None where the engine does not count them."""
        return median(sum(v.instructions for v in run.report.vcpus) for run in self.runs) or None

    @property
    def exits(self) -> dict[str, int]:
        """Kind -> number, the most frequent first, of the typical run."""
        return {name: exits.total for name, exits in self.typical.report.exits.by("name").items()}

    @property
    def counters(self) -> dict[str, int]:
        """The engine's own counters that moved, of the typical run, the largest first."""
        found = self.typical.report.kernel_counters
        return {name: n for name, n in sorted(found.items(), key=lambda item: (-item[1], item[0])) if n}


class Comparison(NamedTuple):
    """The whole of it. `columns` in the order of the engines, at least one."""

    guest: str
    columns: tuple[Column, ...]
    passed_over: tuple[str, ...] = ()
    command: str = ""

    @property
    def runs(self) -> int:
        return len(self.columns[0].runs)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """At most one of each kind for each engine: its first."""
        return tuple(_differences(self.columns))

    @property
    def equal(self) -> bool:
        """All runs ended alike and printed the same."""
        return not self.differences

    @property
    def fastest(self) -> Column:
        return min(self.columns, key=lambda column: column.wall_ns)

    def ratio(self, column: Column) -> float:
        """How many times as long as the fastest `column` took."""
        return column.wall_ns / max(self.fastest.wall_ns, 1)

    def to_dict(self) -> dict[str, Any]:
        """The object that --json prints."""
        from minihv.report.comparewords import sentences

        return {
            "schema": SCHEMA,
            "guest": self.guest,
            "runs": self.runs,
            "equal": self.equal,
            "engines": [self._column(column) for column in self.columns],
            "differences": [difference._asdict() for difference in self.differences],
            "passed_over": list(self.passed_over),
            "sentences": list(sentences(self)),
            "command": self.command,
        }

    def _column(self, column: Column) -> dict[str, Any]:
        first, walls = column.runs[0], column.walls
        return {
            "engine": column.engine,
            "host": dict(first.report.host),
            "outcome": first.report.outcome.to_dict(),
            "console": {
                "bytes": len(first.console),
                "text": first.console.decode("utf-8", "backslashreplace"),
                "dropped": first.dropped,
            },
            "wall_ns": {"median": column.wall_ns, "min": walls[0], "max": walls[-1]},
            "ratio": round(self.ratio(column), 4),
            "instructions": column.instructions,
            "exits": column.exits,
            "total_exits": sum(column.exits.values()),
            "guest_ns": column.guest_ns,
            "vmm_ns": column.vmm_ns,
            "counters": column.counters,
        }


def median(values: Any) -> int:
    """The middle of some integers; between two, the rounded-down mean."""
    ranked = sorted(values)
    low, high = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    return int(low + high) // 2


def _differences(columns: Sequence[Column]) -> Iterator[Difference]:
    expected = columns[0].runs[0]
    for column in columns:
        outcome = console = False
        for number, run in enumerate(column.runs, 1):
            if not outcome and _ending(run) != _ending(expected):
                outcome = True
                yield Difference(column.engine, number, "outcome", _ending(expected), _ending(run))
            if not console and run[1:] != expected[1:]:
                console = True
                yield _console_difference(column.engine, number, expected.console, run.console)


def _ending(run: Run) -> str:
    return f"{run.report.outcome.reason} {run.report.outcome.status}"


def _console_difference(engine: str, number: int, expected: bytes, found: bytes) -> Difference:
    at = first_difference(expected, found)
    line = expected.count(b"\n", 0, at) + 1
    start = expected.rfind(b"\n", 0, at) + 1
    return Difference(
        engine,
        number,
        "console",
        _around(expected, start, at),
        _around(found, start, at),
        line,
        at - start + 1,
    )


def first_difference(a: bytes, b: bytes) -> int:
    """Offset of the first byte in which they differ; the length of the shorter where it is the start of
    the longer, or they are equal."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _around(text: bytes, start: int, at: int) -> str:
    """The line that begins at `start`, cut to what is near `at`, in quotes and with escapes."""
    begin = max(start, at - SHOWN // 2)
    end = text.find(b"\n", at)
    stop = min(len(text) if end < 0 else end + 1, begin + SHOWN)
    return repr(text[begin:stop])[1:] + (" (the end)" if at >= len(text) else "")
