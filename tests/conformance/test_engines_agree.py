"""Every bundled guest on two engines: the same console, outcome and exits, site by site, but for EXCEPTIONS.

`tests/guests` holds each engine to the guest's expectation; here they are held to each other.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from expectations import ExitKind, Expectation, expectation, names
from test_guests import CONTROLLERS, SLOW, counted, run

from minihv import Machine, MachineConfig, Report
from minihv.exits import Exit
from minihv.host.console import BufferSink
from minihv.stats import SiteInfo


class Except(NamedTuple):
    """What may differ for one guest, and why."""

    reason: str
    console: str = ""
    """Regular expression for the parts of the console that may differ; each must match on both engines."""
    exits: frozenset[ExitKind] = frozenset()


LSR_POLL = frozenset((ExitKind("io", 0x3FD, "in", 1),))
SERIAL_OUT = frozenset((ExitKind("io", 0x3F8, "out", 1),))
DEBUG_OUT = frozenset((ExitKind("io", 0xE9, "out", 1),))

EXCEPTIONS = {
    "*": Except(
        "exits at PIC and PIT and for HLT exist only where the controllers are models: KVM's are in the "
        "kernel, where HLT sleeps, too"
    ),
    "echo": Except("how often it polls LSR until the next byte is there is chance", exits=LSR_POLL),
    "nano": Except(
        "it prints what operations cost in cycles, and of SYSCALL that PVM stays in ring 3",
        console=r"(?m)(?<=^syscall ).*$|\d+",
        exits=DEBUG_OUT,
    ),
    "ring3": Except("PVM runs the guest's kernel in ring 3: SYSCALL arrives there", console=r"ring [03] and"),
    "sensitive": Except(
        "it prints what SMSW, SGDT, STR and the like tell: under PVM in ring 3 the host's own values, "
        "selectors with other privilege, other faults",
        console=r"(?<= [03]) .*",
        exits=SERIAL_OUT,
    ),
}
"""The one list of exceptions: guest -> what may differ; "*" is for all of them."""

GUESTS = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names()]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sites(report: Report) -> dict[tuple[ExitKind, int], int]:
    """Exits by kind and address of the instruction, those at the interrupt controllers left out."""
    found: dict[tuple[ExitKind, int], int] = {}
    for row in report.exits:
        if row.name in ("io", "mmio") and row.address not in CONTROLLERS:
            assert row.address is not None
            kind = ExitKind(row.name, row.address, row.direction, row.size)
            for site in row.sites:
                found[kind, site.address] = found.get((kind, site.address), 0) + site.count
    return found


@pytest.mark.kvm
@pytest.mark.parametrize("name", GUESTS)
def test_kvm_and_interpret_agree(name: str) -> None:
    expected, free = expectation(name), EXCEPTIONS.get(name, Except(""))
    (kvm_console, kvm), (console, report) = (
        run(e, expected, expected.run.cpus) for e in ("kvm", "interpret")
    )
    if free.console:
        kvm_console, console = (re.sub(free.console, "*", text) for text in (kvm_console, console))
    assert console == kvm_console
    assert report.outcome == kvm.outcome
    mine, theirs = counted(report), counted(kvm)
    assert {k: n for k, n in mine.items() if k not in free.exits} == {
        k: n for k, n in theirs.items() if k not in free.exits
    }
    by_site, there = ({k: n for k, n in sites(r).items() if k[0] not in free.exits} for r in (report, kvm))
    assert by_site == there


def test_the_exceptions_are_for_guests_that_exist() -> None:
    assert EXCEPTIONS.keys() - {"*"} <= set(names())
    assert all(row.reason for row in EXCEPTIONS.values())


# Determinism


def logged(expected: Expectation) -> tuple[bytes, object, list[tuple[int, int, int]], list[str]]:
    """Console, outcome, instruction counts, and every exit with the instruction counts at which it came."""
    for name, text in expected.run.modules:
        Path(name).write_text(text)
    config = MachineConfig(
        engine="interpret",
        clock="instructions",
        cpus=expected.run.cpus,
        cmdline=expected.run.cmdline,
        modules=tuple(name for name, _ in expected.run.modules),
        serial_input=expected.run.input.encode() or None,
        timeout=expected.run.timeout if expected.reason != "timeout" else None,
        max_insns=50_000 if expected.reason == "timeout" else None,
    )
    log: list[str] = []
    sink = BufferSink()
    with Machine(config, console=sink) as machine:

        def see(vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
            assert machine._parts is not None
            log.append(f"{[loop.instructions for loop in machine._parts.loops]} vcpu {vcpu}: {exit}")

        report = machine.load(expected.name).on_exit(lambda index: see).run()
    counts = [(v.index, v.exits, v.instructions) for v in report.vcpus]
    return sink.data, report.outcome, counts, log


@pytest.mark.parametrize("name", GUESTS)
def test_with_counted_time_a_run_repeats_exactly(name: str) -> None:
    expected = expectation(name)
    first, second = logged(expected), logged(expected)
    assert first[3] == second[3]
    assert first == second
    assert sum(count[2] for count in first[2]) > 0
