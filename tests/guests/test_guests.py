"""Every bundled guest does what its expectation file says: console, outcome, and every io and mmio exit."""

import re
from pathlib import Path

import pytest
from expectations import ExitKind, Expectation, expectation, names

from minihv import Machine, MachineConfig, Report
from minihv.engine.kvm.engine import probe
from minihv.host.console import BufferSink

WITHOUT_KVM = probe()

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(WITHOUT_KVM is not None, reason=f"the kvm engine cannot work here: {WITHOUT_KVM}"),
]

MOST_CPUS = 16


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Module files are named as they stand here: guests print these names."""
    monkeypatch.chdir(tmp_path)


def run(expected: Expectation, cpus: int) -> tuple[str, Report]:
    """What the guest printed, and the report."""
    for name, text in expected.run.modules:
        Path(name).write_text(text)
    config = MachineConfig(
        engine="kvm",
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
    """The io and mmio exits of the run, by kind."""
    exits: dict[ExitKind, int] = {}
    for row in report.exits:
        if row.name in ("io", "mmio"):
            assert row.address is not None
            kind = ExitKind(row.name, row.address, row.direction, row.size)
            exits[kind] = exits.get(kind, 0) + row.count
    return exits


@pytest.mark.parametrize("name", names())
def test_guest(name: str) -> None:
    expected = expectation(name)
    console, report = run(expected, expected.run.cpus)

    if expected.console is not None:
        assert console == expected.console
    if expected.console_pattern is not None:
        assert re.fullmatch(expected.console_pattern, console), console
    assert (report.outcome.reason, report.outcome.status) == (expected.reason, expected.status)
    exits = counted(report)
    assert expected.uncounted <= exits.keys()
    assert {kind: exits[kind] for kind in exits.keys() - expected.uncounted} == expected.exits


@pytest.mark.parametrize("cpus", [1, 2, 3, MOST_CPUS])
def test_smp_with_any_number_of_cpus(cpus: int) -> None:
    console, report = run(expectation("smp"), cpus)

    lines = [f"cpu {cpu} of {cpus}, APIC ID {cpu}" for cpu in range(cpus)]
    assert console.splitlines() == [*lines, f"CPUs online: {cpus}"]
    assert report.outcome.status == 0
    # Each processor prints its own line: one exit a byte, and the boot processor has more to do.
    assert [vcpu.exits for vcpu in report.vcpus[1:]] == [len(line) + 1 for line in lines[1:]]


def test_smp_refuses_more_cpus_than_it_has_stacks_for() -> None:
    console, report = run(expectation("smp"), MOST_CPUS + 1)

    assert console.endswith("more CPUs than this guest has stacks for\n")
    assert report.outcome.status == 1


@pytest.mark.parametrize("ending", ["q", "\x04", "half a line\x04"])
def test_echo_ends_with_q_at_a_line_start_or_ctrl_d_anywhere(ending: str) -> None:
    typed = "Quick\na q inside\r" + ending
    sink = BufferSink()
    config = MachineConfig(engine="kvm", serial_input=typed.encode() + b"never read", timeout=30)
    with Machine(config, console=sink) as machine:
        report = machine.load("echo").run()

    assert sink.data.decode() == "Quick\na q inside\r\n" + ending[:-1]
    assert report.outcome.status == 0


def test_hello_is_the_guest_of_long_mode() -> None:
    sink = BufferSink()
    with Machine(MachineConfig(engine="kvm"), console=sink) as machine:
        machine.load("hello").run()
    assert sink.data.decode() == expectation("hello64").console
