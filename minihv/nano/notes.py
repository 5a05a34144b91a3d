"""The sentences under the table. Each follows from what was measured, and is left out where it does not."""

from collections.abc import Iterator

from minihv.nano.model import NATIVE, NO_WAY, NanoReport
from minihv.nano.numbers import cycles_words, exits_words
from minihv.nano.rows import PUBLISHED_WHERE

BARE_CPUID_CYCLES = 1000.0
"""CPUID on a processor of one's own takes a few hundred cycles; above this somebody answers it."""
FAR_APART = 20.0
WHOLE = 0.9
"""At least this share of an exit an operation: each operation leaves the guest."""
SELDOM = 0.01


def notes(report: NanoReport) -> list[str]:
    """All of them, the most important first."""
    found = [report.warning] if report.warning else []
    for make in (_virtual_host, _rings, _user_space, _who_leaves, _whys, _native_ways):
        found += make(report)
    if any(result.row.published for result in report.rows):
        found.append(f"The 2006 columns: {PUBLISHED_WHERE}. Other processors, other decades: compare shapes.")
    return found


def _engines(report: NanoReport) -> tuple[str, ...]:
    return tuple(name for name in report.subjects if name != NATIVE)


def _virtual_host(report: NanoReport) -> Iterator[str]:
    cycles = report.cycles("cpuid", NATIVE)
    if cycles is not None and cycles > BARE_CPUID_CYCLES:
        yield (
            f"cpuid takes {cycles_words(cycles)} cycles natively: this host is itself a virtual machine, "
            "and its hypervisor answers"
        )


def _rings(report: NanoReport) -> Iterator[str]:
    for engine in _engines(report):
        kernel, user = report.cycles("call/ret", engine), report.cycles("call/ret_user", engine)
        if kernel is not None and user is not None and kernel > FAR_APART * max(user, 1.0):
            yield (
                f"{engine}: the same call and return costs {cycles_words(kernel)} cycles in the guest's "
                f"ring 0 and {cycles_words(user)} in its ring 3: ring 0 does not run on the processor here"
            )


def _user_space(report: NanoReport) -> Iterator[str]:
    for engine in _engines(report):
        near, far = report.cycles("inl_from_kernel", engine), report.cycles("inl_from_user", engine)
        if near is None or far is None:
            continue
        exits = [_exits(report, engine, name) for name in ("inl_from_kernel", "inl_from_user")]
        if exits[0] < WHOLE <= exits[1]:
            yield (
                f"{engine}: going on to minihv for a port costs {cycles_words(far - near)} cycles more than "
                "an answer by the kernel (inl_from_user - inl_from_kernel)"
            )
        elif exits[0] >= WHOLE:
            yield f"{engine}: both inl rows go to minihv, which has the interrupt controllers there itself"


def _exits(report: NanoReport, engine: str, row: str) -> float:
    cell = report.cell(row, engine)
    return cell.exits if cell is not None and not cell.why else 0.0


def _who_leaves(report: NanoReport) -> Iterator[str]:
    for engine in _engines(report):
        names = [r.row.name for r in report.rows if (c := r.cells.get(engine)) is not None and not c.why]
        exits = {name: _exits(report, engine, name) for name in names}
        loud = ", ".join(f"{name} {exits_words(n)}" for name, n in exits.items() if n >= WHOLE)
        quiet = ", ".join(name for name, n in exits.items() if n < SELDOM)
        if loud:
            yield f"{engine}: exits to minihv for each operation: {loud}; none for {quiet or 'any other'}"
        elif quiet:
            yield f"{engine}: no operation leaves the guest for minihv"


def _whys(report: NanoReport) -> Iterator[str]:
    for subject in report.subjects:
        reasons: dict[str, list[str]] = {}
        for result in report.rows:
            cell = result.cells.get(subject)
            if cell is not None and cell.why and cell.why != NO_WAY:
                reasons.setdefault(cell.why, []).append(result.row.name)
        for why, names in reasons.items():
            yield f"{subject}, no number for {', '.join(names)}: {why}"
    for name, why in report.passed_over.items():
        yield f"engine {name} was passed over: {why}"


def _native_ways(report: NanoReport) -> Iterator[str]:
    ways: dict[str, list[str]] = {}
    for result in report.rows:
        cell = result.cells.get(NATIVE)
        if cell is not None and not cell.why:
            ways.setdefault(result.row.native, []).append(result.row.name)
    if ways:
        told = "; ".join(f"{', '.join(names)}: {way}" for way, names in ways.items())
        yield f"native is a process of this host: {told}. What is - there, {NO_WAY} do"
