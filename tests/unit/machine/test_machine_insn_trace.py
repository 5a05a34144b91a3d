"""--trace-insns and --max-insns on the interpreter: every instruction once, and nothing else changed."""

import re
from pathlib import Path

import pytest
from support import CLI, HLT, NOP, UD2, leave

from minihv import Machine, MachineConfig, Report
from minihv.errors import HostError, UsageError
from minihv.host.console import BufferSink

LINE = re.compile(r"(\d+) +(\d+) (0x[0-9a-f]+) ")


def traced(image: str | bytes, path: Path, **config: object) -> tuple[Report, bytes, list[str]]:
    """The report, what the guest printed, and the lines of the trace."""
    sink = BufferSink()
    fields = {"engine": "interpret", "clock": "instructions", "timeout": 30.0, **config}
    with Machine(MachineConfig(trace_insns=str(path), **fields), console=sink) as machine:
        report = machine.load(image, "guest" if isinstance(image, bytes) else None).run()
    return report, sink.data, path.read_text().splitlines()


def plain(image: str | bytes, **config: object) -> tuple[Report, bytes]:
    sink = BufferSink()
    fields = {"engine": "interpret", "clock": "instructions", "timeout": 30.0, **config}
    with Machine(MachineConfig(**fields), console=sink) as machine:
        return machine.load(image, "guest" if isinstance(image, bytes) else None).run(), sink.data


def shape(report: Report) -> tuple[object, ...]:
    """What a trace must not change."""
    rows = [(e.kind, e.count, [(site.address, site.count) for site in e.sites]) for e in report.exits]
    return report.outcome, [(v.exits, v.instructions) for v in report.vcpus], sorted(map(str, rows))


GOLDEN = """\
0        1 0x100000     _start                   mov eax, 1                       rax=0x1
0        2 0x100005     _start+0x5               mov ebx, 2                       rbx=0x2
0        3 0x10000a     the_add                  add eax, ebx                     rax=0x3, +PF
0        4 0x10000c     computed                 add al, 0x30                     rax=0x33
0        5 0x10000e     computed+0x2             mov [0x101008], al               [0x101008]=0x33
0        6 0x100014     computed+0x8             cld
0        7 0x100015     computed+0x9             lea rsi, [0x101000]              rsi=0x101000
0        8 0x10001c     computed+0x10            mov edx, 0x3f8                   rdx=0x3f8
0        9 0x100021     print                    lodsb [rsi]                      rax=0x31, rsi=0x101001
0       10 0x100022     print+0x1                test al, al                      -PF
0       11 0x100024     print+0x3                je short 0x100029
0       12 0x100026     the_out                  out dx, al
0       13 0x100027     printed                  jmp short 0x100021
"""


def test_the_add_guest_line_by_line(tmp_path: Path) -> None:
    report, console, lines = traced("add", tmp_path / "t")
    assert "\n".join(lines[:13]) + "\n" == GOLDEN
    assert lines[-1].endswith("out 0xf8, al                     the machine ends here")
    assert console == b"1 + 2 = 3\n"
    assert [int(LINE.match(line)[2]) for line in lines] == list(range(1, len(lines) + 1))  # type: ignore[index]
    assert report.vcpus[0].instructions == len(lines) - 1


@pytest.mark.parametrize(("guest", "cpus"), [("hello64", 1), ("smp", 3), ("timer", 1), ("pvh", 1)])
def test_a_trace_changes_nothing(guest: str, cpus: int, tmp_path: Path) -> None:
    """With counted time also interrupts and turns are where they were."""
    report, console, lines = traced(guest, tmp_path / "t", cpus=cpus)
    bare, bare_console = plain(guest, cpus=cpus)
    assert console == bare_console
    assert shape(report) == shape(bare)
    for index, vcpu in enumerate(report.vcpus):
        mine = [
            int(found[2])
            for line in lines
            if (found := LINE.match(line)) and found[1] == str(index) and "-- interrupted" not in line
        ]
        assert mine[: vcpu.instructions] == list(range(1, vcpu.instructions + 1))


def test_interrupts_have_a_line_of_their_own(tmp_path: Path) -> None:
    _, _, lines = traced("timer", tmp_path / "t")
    taken = [number for number, line in enumerate(lines) if "-- interrupted" in line]
    assert taken
    assert all("-IF" in lines[number] for number in taken)
    places = [(LINE.match(lines[n])[3], LINE.match(lines[n + 1])[3]) for n in taken]  # type: ignore[index]
    assert all(event == following for event, following in places)


def test_an_exception_says_where_the_guest_goes_on(tmp_path: Path) -> None:
    handler = leave(7)
    at = 0x7C00 + 0x40
    install = (
        b"\xc7\x06\x18\x00" + at.to_bytes(2, "little") + b"\xc7\x06\x1a\x00\x00\x00"
    )  # mov word [..], ..
    code = (CLI + b"\x31\xc0\x8e\xd8" + install + UD2).ljust(0x40, NOP) + handler
    report, _, lines = traced(code, tmp_path / "t", format="flat16")
    assert report.outcome.status == 7
    [line] = [line for line in lines if "ud2" in line]
    assert line.endswith("exception, goes on at 0x7c40")


def test_a_triple_fault_is_the_last_line(tmp_path: Path) -> None:
    code = b"\x0f\x01\x1e\x00\x06" + UD2  # lidt [0x600], zeros: no vector fits
    report, _, lines = traced(code, tmp_path / "t", format="flat16")
    assert report.outcome.reason == "triple-fault"
    assert lines[-1].endswith("a triple fault")


def test_hlt_and_output_are_instructions_too(tmp_path: Path) -> None:
    report, _, lines = traced(CLI + b"\xe6\x80" + HLT, tmp_path / "t", format="flat32")
    assert report.outcome.reason == "halted"
    assert [line.split()[3] for line in lines] == ["cli", "out", "hlt"]


# Limits


@pytest.mark.parametrize("limit", [1, 2, 12, 58, 59])
@pytest.mark.parametrize("trace", [False, True])
def test_max_insns_is_exact(limit: int, trace: bool, tmp_path: Path) -> None:
    path = tmp_path / "t"
    if trace:
        report, _, lines = traced("add", path, max_insns=limit)
        assert len(lines) == limit
    else:
        report, _ = plain("add", max_insns=limit)
    assert (report.outcome.reason, report.outcome.status) == ("max-insns", 246)
    assert report.vcpus[0].instructions == limit


def test_max_insns_counts_all_vcpus_together() -> None:
    report, _ = plain("smp", cpus=3, max_insns=1000)
    assert report.outcome.reason == "max-insns"
    assert sum(vcpu.instructions for vcpu in report.vcpus) == 1000


def test_a_guest_that_ends_before_its_limit_ends_as_ever() -> None:
    report, console = plain("add", max_insns=1_000_000)
    assert (report.outcome.reason, console) == ("exit", b"1 + 2 = 3\n")


# Refusals


@pytest.mark.kvm
@pytest.mark.parametrize("option", [{"trace_insns": "t"}, {"max_insns": 10}])
def test_kvm_counts_no_instructions(
    option: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    monkeypatch.chdir(tmp_path)
    machine = Machine(MachineConfig(engine="kvm", **option))
    with pytest.raises(UsageError, match=r"counts instructions for --.*, found kvm; use --engine interpret"):
        machine.load("add").run()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="choose another trace file"):
        traced("add", tmp_path / "missing" / "t")


def test_no_budget_is_no_budget() -> None:
    with pytest.raises(UsageError, match="instruction budget of 1 or more, found 0"):
        MachineConfig(max_insns=0)
