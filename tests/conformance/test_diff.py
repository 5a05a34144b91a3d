"""`minihv diff`: two engines in lock step agree where they must, and a difference is found and told."""

import pytest

from minihv.cli.main import run
from minihv.errors import UsageError
from minihv.machine.config import MachineConfig
from minihv.machine.machine import Machine
from minihv.verify.lockstep import Lockstep, Verdict
from minihv.verify.side import Event, merged
from minihv.verify.statediff import ADOPTED, NOT_COMPARED, differences, flatten
from minihv.x86.registers import RFLAGS_AF, RFLAGS_CF
from minihv.x86.state import CpuState

STEPPED = ("add", "hello", "hello32", "fault", "mmio", "multiboot", "pvh", "strings", "triple")
"""Guests that take no interrupt: kvm and interpret go through them instruction by instruction."""
BOTH = "interpret,interpret"


def lockstep(guest: str, engines: str, limit: int = 100_000, every: int = 1) -> Verdict:
    config = MachineConfig(engine=engines.partition(",")[0], serial="buffer")
    plan = Machine(config).load(guest).plan
    assert plan is not None
    first, second = engines.split(",")
    with Lockstep(config, plan, (first, second)) as pair:
        return pair.run(limit, every, seconds=60.0)


@pytest.mark.kvm
@pytest.mark.parametrize("guest", STEPPED)
def test_kvm_and_interpreter_agree(guest: str) -> None:
    verdict = lockstep(guest, "kvm,interpret")
    assert not verdict.lines
    assert verdict.compared > 50
    assert verdict.ended.startswith(("exit, status 0", "triple-fault"))


@pytest.mark.kvm
@pytest.mark.slow
def test_a_guest_with_a_ring_3() -> None:
    verdict = lockstep("primes", "kvm,interpret", limit=3000)
    assert not verdict.lines


@pytest.mark.kvm
def test_where_pvm_differs_it_is_seen() -> None:
    """The guest looks at the ring in which SYSCALL arrives: 0, but 3 on PVM. Nothing else differs."""
    verdict = lockstep("ring3", "kvm,interpret")
    if verdict.lines:
        assert "mov al,[rdi]" in verdict.lines[0]
        assert verdict.lines[2].split() == ["rax", hex(ord("3")), hex(ord("0"))]
        assert len(verdict.lines) == 3
    else:
        assert verdict.ended == "exit, status 0"


@pytest.mark.parametrize("guest", ["timer", "apic", "hello16", "ring3"])
def test_an_engine_agrees_with_itself(guest: str) -> None:
    """With its timers, because time is counted in instructions."""
    verdict = lockstep(guest, BOTH)
    assert not verdict.lines
    assert verdict.ended == "exit, status 0"
    assert not verdict.by_exit


def test_blocks_of_instructions() -> None:
    verdict = lockstep("fault", BOTH, every=500)
    assert not verdict.lines
    assert verdict.compared < 10


def spoiled(every: int) -> Verdict:
    """`add` on two interpreters, where the second one subtracts."""
    from iced_x86 import Mnemonic

    from minihv.engine.interpret.arithmetic import TABLE
    from minihv.engine.interpret.table import PageTable

    config = MachineConfig(engine="interpret")
    plan = Machine(config).load("add").plan
    assert plan is not None
    with Lockstep(config, plan, ("interpret", "interpret")) as pair:
        opened = pair._open

        def spoil() -> None:
            opened()
            table = pair._sides[1].vcpu.blocks.table  # type: ignore[attr-defined]
            assert isinstance(table, PageTable)
            table[Mnemonic.ADD] = TABLE[Mnemonic.SUB]

        pair._open = spoil  # type: ignore[method-assign]
        spoil()
        return pair.run(10_000 // every, every)


@pytest.mark.parametrize("every", [1, 50])
def test_the_first_difference_is_told(every: int) -> None:
    verdict = spoiled(every)
    assert verdict.lines
    assert "  add " in verdict.lines[0]
    assert any(line.split()[0] in ("rax", "rcx", "rdx", "rdi", "rsi", "rbx") for line in verdict.lines[2:])


def test_several_cpus_are_refused() -> None:
    config = MachineConfig(engine="interpret", cpus=2)
    plan = Machine(config).load("smp").plan
    assert plan is not None
    with pytest.raises(UsageError, match="expected one CPU for a lock step"):
        Lockstep(config, plan, ("interpret", "interpret"))


def test_undefined_flags_do_not_count_and_defined_ones_do() -> None:
    a, b = CpuState(rflags=2), CpuState(rflags=2 | RFLAGS_AF)
    assert [d.name for d in differences(a, b)] == ["rflags"]
    assert not differences(a, b, RFLAGS_AF)
    assert differences(a, CpuState(rflags=2 | RFLAGS_CF), RFLAGS_AF)


def test_all_registers_count() -> None:
    names = flatten(CpuState())
    assert {"rax", "r15", "rip", "cs", "cr3", "efer", "xmm15", "st7", "mxcsr", "gdtr"} <= set(names)
    for n in range(16):
        changed = CpuState()
        changed.gpr[n] ^= 1
        assert len(differences(CpuState(), changed)) == 1


def test_a_repetition_in_pieces_is_the_same_exit() -> None:
    whole = [Event("IoOut", 0xE9, b"abc", 3)]
    assert merged(Event("IoOut", 0xE9, bytes((c,)), 1) for c in b"abc") == merged(whole) == whole


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "hello", "--engines", BOTH]) == 0
    assert "no difference" in capsys.readouterr().out
    assert run(["diff", "--rules"]) == 0
    told = capsys.readouterr().out
    assert all(what in told for what in (*NOT_COMPARED, *ADOPTED))


@pytest.mark.parametrize("arguments", [["hello", "--engines", "kvm"], [], ["hello", "--engines", ",kvm"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", *arguments]) == 2
    assert "expected" in capsys.readouterr().err
