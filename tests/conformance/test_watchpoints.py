"""Watchpoints of the VMM (`Vcpu.debug`), on every engine that runs here and has them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import HLT, NOP, ORIGIN, KvmGuest, real_state

from minihv.engine.interpret.engine import InterpretEngine
from minihv.errors import UsageError
from minihv.exits import DebugStop, Exit, Halt
from minihv.interfaces import Vcpu, Watchpoint
from minihv.memory import GuestMemory, Region

DATA = 0x600
STORE_AX, LOAD_AX, STORE_BYTE_3 = b"\xa3\x00\x06", b"\xa1\x00\x06", b"\xc6\x06\x03\x06\x01"
CODE = NOP + STORE_AX + NOP + LOAD_AX + STORE_BYTE_3 + NOP + HLT
BEHIND_STORE, BEHIND_LOAD, BEHIND_BYTE = ORIGIN + 4, ORIGIN + 8, ORIGIN + 13
BS = 0x4000


def pvm() -> bool:
    """This host's KVM emulates ring 0 in software, which looks at no debug registers for data."""
    with KvmGuest(HLT, irqchip="none") as guest:
        return guest.engine.emulates_ring0


@contextmanager
def vcpu_of(engine: str, code: bytes) -> Iterator[Vcpu]:
    """A vCPU in real mode at `code`."""
    if engine == "kvm":
        with KvmGuest(code, irqchip="none") as guest:
            yield guest.vcpu
        return
    ram = bytearray(0xA0000)
    memory = GuestMemory([Region(0, len(ram), memoryview(ram), False, "ram")])
    memory.write(ORIGIN, code)
    interpreter = InterpretEngine(memory)
    vcpu = interpreter.create_vcpu(0)
    vcpu.set_state(real_state())
    yield vcpu
    interpreter.close()


@pytest.fixture(params=["interpret", pytest.param("kvm", marks=pytest.mark.kvm)])
def engine(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name == "kvm" and pvm():
        pytest.skip(
            "PVM executes ring 0 by an emulator without data watchpoints; see the test of its refusal"
        )
    return name


def stops(vcpu: Vcpu) -> list[tuple[int, int]]:
    """(RIP, dr6 bits B0-B3 and BS) of all stops until HLT."""
    found: list[tuple[int, int]] = []
    while True:
        exit: Exit = vcpu.run()
        if isinstance(exit, Halt):
            return found
        assert isinstance(exit, DebugStop), exit
        found.append((exit.rip, exit.dr6 & (0xF | BS)))


def test_writes_only(engine: str) -> None:
    with vcpu_of(engine, CODE) as vcpu:
        vcpu.debug(False, (), (Watchpoint(DATA, 2),))
        assert stops(vcpu) == [(BEHIND_STORE, 1)]


def test_reads_and_writes(engine: str) -> None:
    with vcpu_of(engine, CODE) as vcpu:
        vcpu.debug(False, (), (Watchpoint(DATA, 2, reads=True),))
        assert stops(vcpu) == [(BEHIND_STORE, 1), (BEHIND_LOAD, 1)]


@pytest.mark.parametrize(
    ("at", "length", "expected"),
    [
        (DATA, 1, [BEHIND_STORE]),
        (DATA + 1, 1, [BEHIND_STORE]),
        (DATA + 2, 1, []),
        (DATA + 3, 1, [BEHIND_BYTE]),
        (DATA + 2, 2, [BEHIND_BYTE]),
        (DATA, 4, [BEHIND_STORE, BEHIND_BYTE]),
        (DATA - 4, 4, []),
        (DATA, 8, [BEHIND_STORE, BEHIND_BYTE]),
    ],
)
def test_any_byte_of_it(engine: str, at: int, length: int, expected: list[int]) -> None:
    with vcpu_of(engine, CODE) as vcpu:
        vcpu.debug(False, (), (Watchpoint(at, length),))
        assert stops(vcpu) == [(rip, 1) for rip in expected]


def test_breakpoints_are_numbered_first(engine: str) -> None:
    with vcpu_of(engine, CODE) as vcpu:
        vcpu.debug(False, (ORIGIN + 4,), (Watchpoint(DATA + 3, 1), Watchpoint(DATA, 4)))
        first = vcpu.run()
        assert isinstance(first, DebugStop)
        assert first.rip == BEHIND_STORE
        assert first.dr6 & 4
        vcpu.debug(False, (), (Watchpoint(DATA + 3, 1), Watchpoint(DATA, 4)))
        assert stops(vcpu)[-1] == (BEHIND_BYTE, 3)


def test_with_single_step_both_are_told(engine: str) -> None:
    with vcpu_of(engine, CODE) as vcpu:
        vcpu.debug(True, (), (Watchpoint(DATA, 2),))
        found = dict(stops(vcpu))
        assert found[BEHIND_STORE] & BS
        assert found[BEHIND_STORE] & 1
        assert not found[BEHIND_LOAD] & 1


def test_they_are_gone_when_not_asked_for(engine: str) -> None:
    with vcpu_of(engine, CODE) as vcpu:
        vcpu.debug(False, (), (Watchpoint(DATA, 2),))
        vcpu.debug(False)
        assert stops(vcpu) == []


def test_the_guest_does_not_see_them(engine: str) -> None:
    with vcpu_of(engine, CODE) as vcpu:
        vcpu.debug(False, (), (Watchpoint(DATA, 2),))
        stops(vcpu)
        state = vcpu.get_state()
        assert state.dr[:4] == [0, 0, 0, 0]
        assert not state.dr[4] & 0xF
        assert not state.dr[5] & 0xFF


def test_a_string_instruction_stops_behind_the_step_that_hit() -> None:
    code = b"\xb9\x10\x00\xbf\x00\x06\xf3\xaa" + NOP + HLT  # mov cx, 16; mov di, DATA; rep stosb
    with vcpu_of("interpret", code) as vcpu:
        vcpu.debug(False, (), (Watchpoint(DATA + 4, 1),))
        assert vcpu.run() == DebugStop(1, ORIGIN + 6)
        assert vcpu.get_state().gpr[1] == 16 - 5
        assert isinstance(vcpu.run(), Halt)


@pytest.mark.kvm
def test_pvm_refuses_what_it_would_never_tell() -> None:
    if not pvm():
        pytest.skip("this host's KVM is not PVM: it has watchpoints")
    with KvmGuest(HLT) as guest, pytest.raises(UsageError, match="--engine interpret"):
        guest.vcpu.debug(False, (), (Watchpoint(DATA, 2),))


@pytest.mark.kvm
def test_watchpoints_share_the_four_registers() -> None:
    with KvmGuest(HLT) as guest, pytest.raises(ValueError, match="four breakpoint registers, 5 asked for"):
        guest.vcpu.debug(False, (1, 2, 3), (Watchpoint(0, 1), Watchpoint(8, 8)))


@pytest.mark.parametrize(("address", "length"), [(0, 3), (0, 0), (0, 16), (1, 2), (2, 4), (4, 8)])
def test_only_what_a_debug_register_can_say(address: int, length: int) -> None:
    with pytest.raises(ValueError, match="1, 2, 4 or 8 bytes at a multiple of that"):
        Watchpoint(address, length)
