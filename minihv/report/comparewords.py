"""A comparison as one table, and as the two sentences that follow from its numbers."""

from collections.abc import Iterator, Sequence

from minihv.report.comparison import Column, Comparison
from minihv.report.escape import visible

NO_HARDWARE = frozenset(("pvm", "unknown"))
"""Kinds of KVM whose numbers say nothing about VT-x or AMD-V."""
TOP_COUNTERS = 5
"""The engine's own counters that are shown for each engine."""


def comparison_text(comparison: Comparison) -> str:
    """The whole text, ending in a newline."""
    lines = [*_header(comparison), "", *comparison_table(comparison), ""]
    lines += [str(difference) for difference in comparison.differences]
    lines += sentences(comparison)
    lines += [f"Passed over: {reason}" for reason in comparison.passed_over]
    if comparison.command:
        lines.append(f"Again: {visible(comparison.command)}")
    return "\n".join(lines) + "\n"


def _header(comparison: Comparison) -> Iterator[str]:
    runs = comparison.runs
    times = "one run on each engine" if runs == 1 else f"{runs} runs on each engine in turn, medians"
    yield f"{visible(comparison.guest)}: {times}"
    host = comparison.columns[0].runs[0].report.host
    yield f"Host: {host.get('cpu', '?')}, Linux {host.get('kernel', '?')}, Python {host.get('python', '?')}"
    for column in comparison.columns:
        host = column.runs[0].report.host
        if words := host.get("kvm_words"):
            loud = "ATTENTION, NOT VT-X OR AMD-V! " if host.get("kvm") in NO_HARDWARE else ""
            yield f"{loud}{column.engine} here is {words}"


def comparison_table(comparison: Comparison) -> list[str]:
    """A line for each number, a column for each engine."""
    columns = comparison.columns
    rows: list[tuple[str, list[str]]] = [
        ("", [column.engine for column in columns]),
        ("outcome", [_outcome(column) for column in columns]),
        ("console", [_console(comparison, column) for column in columns]),
        ("wall time", [milliseconds(column.wall_ns) for column in columns]),
    ]
    if comparison.runs > 1:
        rows.append(("  fastest run", [milliseconds(column.walls[0]) for column in columns]))
        rows.append(("  slowest run", [milliseconds(column.walls[-1]) for column in columns]))
    rows += [
        ("times the fastest", [f"{comparison.ratio(column):.1f}" for column in columns]),
        ("guest instructions", [_or(column.instructions, "not counted") for column in columns]),
        ("exits", [str(sum(column.exits.values())) for column in columns]),
    ]
    exits = [column.exits for column in columns]
    for kind in _union(exits):
        rows.append((f"  {kind}", [_or(found.get(kind, 0), "0") for found in exits]))
    rows.append(("VMM time", [milliseconds(column.vmm_ns) for column in columns]))
    rows.append(("  an exit", [_each(column) for column in columns]))
    rows.append(("guest, kernel time", [milliseconds(column.guest_ns) for column in columns]))
    # Counters that are times would come first whatever else happened: --json has them.
    counters = [{k: n for k, n in column.counters.items() if not k.endswith("_ns")} for column in columns]
    names = _union([dict(list(found.items())[:TOP_COUNTERS]) for found in counters])
    if names:
        rows.append(("counted by the engine", ["" for _ in columns]))
    for name in names:
        rows.append((f"  {name}", [_or(found.get(name), "-") for found in counters]))
    return aligned(rows)


def aligned(rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """First the names, left; then every column, right, as wide as its widest cell."""
    first = max(len(name) for name, _ in rows)
    widths = [max(12, *map(len, cells)) for cells in zip(*(cells for _, cells in rows), strict=True)]
    lines = []
    for name, cells in rows:
        line = "  ".join((name.ljust(first), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))))
        lines.append(line.rstrip())
    return lines


def milliseconds(ns: float) -> str:
    """ "12.34 ms"."""
    return f"{ns / 1e6:.2f} ms"


def _outcome(column: Column) -> str:
    outcome = column.runs[0].report.outcome
    return f"{outcome.reason} {outcome.status}"


def _console(comparison: Comparison, column: Column) -> str:
    if any(d.engine == column.engine and d.what == "console" for d in comparison.differences):
        return "different"
    size = len(column.runs[0].console) + column.runs[0].dropped
    return f"{size} bytes" if column is comparison.columns[0] else "the same"


def _or(value: int | None, absent: str) -> str:
    return str(value) if value is not None else absent


def _each(column: Column) -> str:
    total = sum(column.exits.values())
    return f"{column.vmm_ns / total / 1000:.2f} us" if total else "-"


def _union(tables: Sequence[dict[str, int]]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table))


def sentences(comparison: Comparison) -> tuple[str, str]:
    """What was equal; and what it cost."""
    return _sameness(comparison), _cost(comparison)


def _sameness(comparison: Comparison) -> str:
    columns, guest = comparison.columns, visible(comparison.guest)
    names = listed([column.engine for column in columns])
    outcome = columns[0].runs[0].report.outcome
    ending = f"{outcome.reason}, status {outcome.status}"
    if not comparison.equal:
        wrong = listed([*dict.fromkeys(f"the {d.what} of {d.engine}" for d in comparison.differences)])
        if comparison.runs == 1 or any(d.engine != columns[0].engine for d in comparison.differences):
            first = columns[0].engine
            return f"{guest} did NOT do the same everywhere: {wrong} differed from what {first} gave."
        return f"{guest} did NOT do the same in each run on {columns[0].engine}: {wrong} changed."
    exits = [column.exits for column in columns]
    if len(columns) == 1:
        return f"{guest} ended with {ending} on {names}, the only engine in this comparison."
    if all(found == exits[0] for found in exits):
        total = sum(exits[0].values())
        return (
            f"{guest} did the same on {names}: {ending}, the same {len(columns[0].runs[0].console)} bytes on "
            f"the console, and the same {total} exits."
        )
    counts = listed([f"{sum(found.values())} on {c.engine}" for c, found in zip(columns, exits, strict=True)])
    return f"{guest} did the same on {names} ({ending}, the same console), with different exits: {counts}."


def _cost(comparison: Comparison) -> str:
    best = comparison.fastest
    others = [
        f"{column.engine} took {comparison.ratio(column):.1f} times as long ({milliseconds(column.wall_ns)})"
        for column in comparison.columns
        if column is not best
    ]
    whole = max(best.guest_ns + best.vmm_ns, 1)
    share = f"{100 * best.vmm_ns / whole:.0f} % of {best.engine}'s time was minihv answering exits"
    head = f"{best.engine} was the fastest with {milliseconds(best.wall_ns)}"
    if not others:
        return f"It took {milliseconds(best.wall_ns)}, and {share}."
    return f"{head}, {listed(others)}; {share}."


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
