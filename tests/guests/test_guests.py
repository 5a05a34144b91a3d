"""Every bundled guest does what its expectation file says, on every engine: console, outcome, exits."""

import re
from pathlib import Path

import pytest
from expectations import ExitKind, Expectation, expectation, names

from minihv import Machine, MachineConfig, Report
from minihv.engine.kvm.engine import probe
from minihv.host.console import BufferSink

WITHOUT_KVM = probe()

needs_kvm = pytest.mark.skipif(
    WITHOUT_KVM is not None, reason=f"the kvm engine cannot work here: {WITHOUT_KVM}"
)
ENGINES = [pytest.param("kvm", marks=[pytest.mark.kvm, needs_kvm]), "interpret"]
every_engine = pytest.mark.parametrize("engine", ENGINES)

SLOW = {"primes"}
"""Guests that compute for more than three seconds where instructions are interpreted."""

CASES = [pytest.param("kvm", name, marks=[pytest.mark.kvm, needs_kvm]) for name in names()]
CASES += [
    pytest.param("interpret", name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names()
]

MOST_CPUS = 16

CONTROLLERS = {0x20, 0x21, 0xA0, 0xA1, *range(0x40, 0x44)}
"""PIC and PIT: in the kernel under kvm, so that guests that use them have fewer exits there."""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Module files are named as they stand here: guests print these names."""
    monkeypatch.chdir(tmp_path)


def run(engine: str, expected: Expectation, cpus: int) -> tuple[str, Report]:
    """What the guest printed, and the report."""
    for name, text in expected.run.modules:
        Path(name).write_text(text)
    config = MachineConfig(
        engine=engine,
        cpus=cpus,
        cmdline=expected.run.cmdline,
        modules=tuple(name for name, _ in expected.run.modules),
        serial_input=expected.run.input.encode() or None,
        timeout=expected.run.timeout,
    )
    sink = BufferSink()
    with Machine(config, console=sink) as machine:
        report = machine.load(expected.name).run()
    return sink.data.decode(), report


def counted(report: Report) -> dict[ExitKind, int]:
    """The io and mmio exits of the run by kind, those at the interrupt controllers left out."""
    exits: dict[ExitKind, int] = {}
    for row in report.exits:
        if row.name in ("io", "mmio") and row.address not in CONTROLLERS:
            assert row.address is not None
            kind = ExitKind(row.name, row.address, row.direction, row.size)
            exits[kind] = exits.get(kind, 0) + row.count
    return exits


@pytest.mark.parametrize(("engine", "name"), CASES)
def test_guest(engine: str, name: str) -> None:
    expected = expectation(name)
    console, report = run(engine, expected, expected.run.cpus)

    if expected.console is not None:
        assert console == expected.console
    if expected.console_pattern is not None:
        assert re.fullmatch(expected.console_pattern, console), console
    assert (report.outcome.reason, report.outcome.status) == (expected.reason, expected.status)
    exits = counted(report)
    assert expected.uncounted <= exits.keys()
    assert {kind: exits[kind] for kind in exits.keys() - expected.uncounted} == expected.exits


@every_engine
@pytest.mark.parametrize("cpus", [1, 2, 3, MOST_CPUS])
def test_smp_with_any_number_of_cpus(engine: str, cpus: int) -> None:
    console, report = run(engine, expectation("smp"), cpus)

    lines = [f"cpu {cpu} of {cpus}, APIC ID {cpu}" for cpu in range(cpus)]
    assert console.splitlines() == [*lines, f"CPUs online: {cpus}"]
    assert report.outcome.status == 0
    assert report.count("io", address=0x3F8) == len(console)
    # Each processor prints its own line: one exit a byte.
    assert all(vcpu.exits > len(line) for vcpu, line in zip(report.vcpus, lines, strict=True))


@every_engine
def test_smp_refuses_more_cpus_than_it_has_stacks_for(engine: str) -> None:
    console, report = run(engine, expectation("smp"), MOST_CPUS + 1)

    assert console.endswith("more CPUs than this guest has stacks for\n")
    assert report.outcome.status == 1


@every_engine
@pytest.mark.parametrize("ending", ["q", "\x04", "half a line\x04"])
def test_echo_ends_with_q_at_a_line_start_or_ctrl_d_anywhere(engine: str, ending: str) -> None:
    typed = "Quick\na q inside\r" + ending
    sink = BufferSink()
    config = MachineConfig(engine=engine, serial_input=typed.encode() + b"never read", timeout=30)
    with Machine(config, console=sink) as machine:
        report = machine.load("echo").run()

    assert sink.data.decode() == "Quick\na q inside\r\n" + ending[:-1]
    assert report.outcome.status == 0


@every_engine
def test_hello_is_the_guest_of_long_mode(engine: str) -> None:
    sink = BufferSink()
    with Machine(MachineConfig(engine=engine), console=sink) as machine:
        machine.load("hello").run()
    assert sink.data.decode() == expectation("hello64").console
