"""The native loops: the machine code is what its comments say; a process that dies is a reason, no error."""

import platform

import pytest

from minihv.nano.measure import Goal
from minihv.nano.model import NO_WAY
from minihv.nano.native import NativeRunner
from minihv.nano.native_code import LOOPS, READ_TSC, SKIP_HANDLER, functions
from minihv.nano.rows import ROWS, find_row

GOAL = Goal(1000, 3, 1_000_000_000)
needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the loops are x86-64 machine code")


def disassembled(code: bytes, address: int = 0) -> list[str]:
    iced = pytest.importorskip("iced_x86")
    formatter = iced.Formatter(iced.FormatterSyntax.INTEL)
    return [formatter.format(i) for i in iced.Decoder(64, code, ip=address)]


def test_every_native_row_has_a_loop_and_no_other_row_has() -> None:
    assert {row.name for row in ROWS if row.native} == set(LOOPS)


@pytest.mark.parametrize("name", LOOPS)
def test_the_loop_goes_back_to_its_filler(name: str) -> None:
    full, empty = (disassembled(code) for code in functions(LOOPS[name], 0x1122334455667788))
    for code in (full, empty):
        assert code[:2] == ["push rbx", "mov r9,rdi"]
        assert code[-2:] == ["pop rbx", "ret"]
        assert code.count("rdtsc") == 2
    jump = next(text for text in full if text.startswith("jne"))
    target = int(jump.split()[1].removesuffix("h"), 16)
    starts = [i.ip for i in __import__("iced_x86").Decoder(64, functions(LOOPS[name], 0)[0], ip=0)]
    assert target in starts
    assert full[starts.index(target) :] != empty[starts.index(target) :]


def test_what_the_operations_are() -> None:
    whole = {name: " ".join(disassembled(functions(loop, 0)[0])) for name, loop in LOOPS.items()}
    assert "mov eax,6Eh syscall" in whole["syscall"]
    assert "call rbx" in whole["call/ret_user"]
    assert "xor eax,eax cpuid" in whole["cpuid"]
    assert "div ecx" in whole["divzero"]
    assert "mov al,[rbx]" in whole["pgfault"]
    assert disassembled(SKIP_HANDLER) == ["add qword ptr [rdx+0A8h],2", "ret"]
    assert disassembled(READ_TSC)[0] == "rdtsc"


@needs_x86
def test_rows_are_measured_in_a_process_that_ends() -> None:
    with NativeRunner() as runner:
        for row in ROWS:
            cell, hertz = runner.run_row(row, GOAL)
            assert cell.why == ("" if row.native else NO_WAY), (row.name, cell.why)
            assert bool(hertz) == bool(row.native)
            assert len(cell.rounds_ns) == (3 if row.native else 0)
        child = runner._child
        assert child is not None
    assert child.returncode is not None


@needs_x86
def test_a_dead_process_is_a_reason() -> None:
    row = find_row("divzero")
    assert row is not None
    with NativeRunner() as runner:
        runner.run_row(row, GOAL)
        child = runner._child
        assert child is not None
        child.kill()
        child.wait()
        cell, _ = runner.run_row(row, GOAL)
        assert "the process with the loops ended" in cell.why
        assert runner.tick_hz() == 0.0
