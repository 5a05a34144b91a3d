"""Each thing that can keep an exception from its handler, one at a time."""

from collections.abc import Callable

import pytest

from minihv.errors import GuestMemoryError
from minihv.x86 import registers as r
from minihv.x86.delivery import cpl, find_obstacle, read_linear
from minihv.x86.segments import TYPE_INTERRUPT32, TYPE_TASK_GATE, Gate, encode_gate
from minihv.x86.state import CpuState, DescriptorTable, Segment

GDT, IDT, TSS, HANDLER, STACK = 0x6000, 0x7000, 0x8000, 0x9000, 0xB000
RAM = 0x40_0000


class Guest:
    """A long-mode guest with everything in place: identity-mapped 2 MiB, GDT, IDT, TSS, stack."""

    def __init__(self) -> None:
        self.ram = bytearray(RAM)
        for gpa, value in {0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x83}.items():
            self.put(gpa, value)
        self.put(GDT + 0x08, 0x00AF_9B00_0000_FFFF)
        self.put(GDT + 0x10, 0x00CF_9300_0000_FFFF)
        self.put(GDT + 0x18, 0x00CF_9B00_0000_FFFF)
        self.put(GDT + 0x20, 0x00AF_1B00_0000_FFFF)  # code, not present
        self.put(TSS + 4, STACK)
        for vector in range(32):
            self.gate(vector)
        self.state = CpuState(rip=0x100000, cr0=0x8001_0011, cr3=0x1000, cr4=r.CR4_PAE, efer=0x500)
        self.state.gpr[4] = STACK
        self.state.cs = Segment(8, 0, 0xFFFF_FFFF, 0xA09B)
        self.state.ss = Segment(0x10, 0, 0xFFFF_FFFF, 0xC093)
        self.state.tr = Segment(0x28, TSS, 0x67, 0x8B)
        self.state.gdtr = DescriptorTable(GDT, 0x3F)
        self.state.idtr = DescriptorTable(IDT, 0x1FF)

    def put(self, gpa: int, value: int, size: int = 8) -> None:
        self.ram[gpa : gpa + size] = value.to_bytes(size, "little")

    def gate(self, vector: int, offset: int = HANDLER, selector: int = 8, ist: int = 0, **other: int) -> None:
        kind = other.get("kind", TYPE_INTERRUPT32)
        gate = Gate(kind, True, bool(other.get("present", 1)), 0, selector, offset, 64, ist)
        self.put(IDT + 16 * vector, encode_gate(gate), 16)

    def read(self, gpa: int, size: int) -> int:
        if gpa + size > RAM:
            raise GuestMemoryError(gpa, size)
        return int.from_bytes(self.ram[gpa : gpa + size], "little")

    def why(self, vector: int = r.VECTOR_GP) -> str | None:
        obstacle = find_obstacle(self.state, self.read, vector)
        return None if obstacle is None else obstacle.sentence


def test_nothing_in_the_way() -> None:
    assert Guest().why() is None
    assert Guest().why(r.VECTOR_DF) is None


def test_from_user_mode_through_the_tss() -> None:
    guest = Guest()
    guest.state.cs.selector = 0x0B
    guest.state.gpr[4] = 0  # the user's own stack does not matter
    assert cpl(guest.state) == 3
    assert guest.why() is None
    guest.state.tr.limit = 0
    assert guest.why() == "the TSS limit 0x0 leaves out RSP0 at offset 0x4"
    guest.state.tr = Segment(0, 0, 0xFFFF, 0x8B)
    assert "TR holds none" in (guest.why() or "")


def _selector_in_no_ldt(guest: Guest) -> None:
    guest.gate(13, selector=0xC)
    guest.state.ldtr = Segment(access=0x10000)


def _read_only_stack(guest: Guest) -> None:
    guest.put(0x3000, 0x81)


LONG_CASES: dict[str, Callable[[Guest], object]] = {
    "the IDT limit is 0x0, but the entry is bytes 0xd0..0xdf": lambda g: setattr(g.state.idtr, "limit", 0),
    "IDT entry 13 at linear 0x2000d0 is not mapped": lambda g: setattr(g.state.idtr, "base", 0x200000),
    "IDT entry 13 is not present": lambda g: g.gate(13, present=0),
    "IDT entry 13 is not an interrupt or trap gate but type 0x5": lambda g: g.gate(13, kind=TYPE_TASK_GATE),
    "the gate's code selector is the null selector 0x0": lambda g: g.gate(13, selector=0),
    "the gate's code selector 0x40 lies beyond the GDT limit 0x3f": lambda g: g.gate(13, selector=0x40),
    "the gate's code selector 0xc is in the LDT, and none is loaded": _selector_in_no_ldt,
    "the gate's code selector 0x10 names no code but": lambda g: g.gate(13, selector=0x10),
    "the gate's code selector 0x18 names no 64-bit code": lambda g: g.gate(13, selector=0x18),
    "the gate's code selector 0x20 names a descriptor that is not": lambda g: g.gate(13, selector=0x20),
    "the handler address 0x800000000000 is not canonical": lambda g: g.gate(13, offset=1 << 47),
    "the handler at 0x200000 cannot be fetched: the PDE is not": lambda g: g.gate(13, offset=0x200000),
    "the stack at 0x2fffff cannot be written: the PDE is not": lambda g: g.state.gpr.__setitem__(4, 0x300000),
    "the stack at 0xafff cannot be written: the PDE is read-only": _read_only_stack,
    "the stack pointer 0x800000000100 leaves no": lambda g: g.state.gpr.__setitem__(4, 0x8000_0000_0100),
    "the stack at 0xffffffffffffffff cannot be written": lambda g: g.gate(13, ist=2),
}


@pytest.mark.parametrize("expected", LONG_CASES)
def test_each_obstacle_in_long_mode(expected: str) -> None:
    guest = Guest()
    LONG_CASES[expected](guest)
    assert (guest.why() or "").startswith(expected)


def protected_guest() -> Guest:
    """32-bit protected mode without paging, IDT of 32-bit gates."""
    guest = Guest()
    guest.state.cr0, guest.state.efer, guest.state.cr4 = 0x11, 0, 0
    guest.state.cs = Segment(0x18, 0, 0xFFFF_FFFF, 0xC09B)
    guest.state.idtr = DescriptorTable(IDT, 0xFF)
    for vector in range(32):
        gate = Gate(TYPE_INTERRUPT32, True, True, 0, 0x18, HANDLER, 32)
        guest.put(IDT + 8 * vector, encode_gate(gate))
    return guest


def test_protected_mode() -> None:
    guest = protected_guest()
    assert guest.why() is None
    guest.state.gpr[4] = 0x100_0000
    assert guest.why() is not None
    assert "not RAM" in (guest.why() or "")
    guest.state.ss.limit = 0xFFF
    assert guest.why() == "the stack pointer 0x1000000 is outside the stack segment's limit 0xfff"


def test_protected_mode_from_ring_3() -> None:
    guest = protected_guest()
    guest.state.cs.selector = 0x1B
    guest.put(TSS + 8, 0x10)
    assert guest.why() is None
    guest.put(TSS + 8, 0x18)
    assert (guest.why() or "").startswith("the new stack's selector SS0 0x18 is no writable data")


def test_real_mode() -> None:
    guest = Guest()
    guest.state = CpuState()
    guest.state.cs = Segment()
    guest.put(13 * 4, 0xF000_1234, 4)
    assert guest.why() is None
    guest.state.idtr.limit = 0
    assert guest.why() == "the IDT limit is 0x0, but the entry is bytes 0x34..0x37"


def test_task_gates() -> None:
    guest = protected_guest()
    guest.put(IDT + 8 * 8, encode_gate(Gate(TYPE_TASK_GATE, True, True, 0, 0x18, 0, 16)))
    assert (guest.why(8) or "").startswith("the task gate's TSS selector 0x18 names no available TSS")
    guest.put(GDT + 0x28, 0x0000_8900_8000_0067)
    guest.put(IDT + 8 * 8, encode_gate(Gate(TYPE_TASK_GATE, True, True, 0, 0x28, 0, 16)))
    assert guest.why(8) is None


def test_read_linear_stops_at_the_edge_of_what_is_mapped() -> None:
    guest = Guest()
    data, failed = read_linear(guest.state, guest.read, 0x1FFFFE, 16)
    assert len(data) == 2
    assert failed is not None
    assert failed.failure == "not-present"
