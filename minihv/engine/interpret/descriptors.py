"""Segment descriptors: reading them and loading segment registers with all checks.

SDM Vol. 3A, 3.4 and 5.4-5.8. Error codes are selectors without RPL; `ext` is the EXT bit of an event
being delivered.
"""

from typing import NamedTuple

from minihv.engine.interpret.cpu import CS, SS, Cpu, SegReg
from minihv.engine.interpret.faults import GuestFault, protection
from minihv.x86.registers import SELECTOR_RPL, SELECTOR_TI, VECTOR_GP, VECTOR_NP, VECTOR_SS, VECTOR_TS

UNUSABLE = 0x10000
ACCESSED = 1 << 40
_BUSY = 1 << 41


class Descriptor(NamedTuple):
    """A descriptor table entry taken apart; `access` as in `Segment`, `limit` in bytes."""

    raw: int
    address: int
    """Linear address of the entry."""
    base: int
    limit: int
    access: int

    @property
    def present(self) -> bool:
        return bool(self.access & 0x80)

    @property
    def dpl(self) -> int:
        return self.access >> 5 & 3

    @property
    def type(self) -> int:
        """Type with S: 0..15 system, 16..31 code and data."""
        return self.access & 0x1F

    @property
    def code(self) -> bool:
        return self.access & 0x18 == 0x18

    @property
    def conforming(self) -> bool:
        """Of a code segment."""
        return bool(self.access & 4)

    @property
    def writable_data(self) -> bool:
        return self.access & 0x1A == 0x12

    @property
    def readable(self) -> bool:
        """Data, or readable code."""
        return bool(self.access & 0x10) and (not self.access & 8 or bool(self.access & 2))


def parse(raw: int, address: int = 0) -> Descriptor:
    """An 8-byte descriptor (SDM Vol. 3A, figure 3-8)."""
    limit = raw & 0xFFFF | raw >> 32 & 0xF0000
    if raw >> 55 & 1:
        limit = limit << 12 | 0xFFF
    base = raw >> 16 & 0xFFFFFF | raw >> 32 & 0xFF000000
    return Descriptor(raw, address, base, limit, raw >> 40 & 0xFF | raw >> 40 & 0xF000)


def is_null(selector: int) -> bool:
    return not selector & 0xFFFC


def lookup(cpu: Cpu, selector: int, wide: bool = False) -> Descriptor | None:
    """The descriptor `selector` names; None where it is outside its table.

    `wide`: a 16-byte system descriptor of long mode, whose base is 64 bits.
    """

    size = 16 if wide else 8
    if selector & SELECTOR_TI:
        table_base, limit = cpu.ldtr.base, cpu.ldtr.limit
        if cpu.ldtr.access & UNUSABLE or not cpu.ldtr.access & 0x80:
            return None
    else:
        table_base, limit = cpu.gdtr.base, cpu.gdtr.limit
    offset = selector & 0xFFF8
    if offset + size - 1 > limit:
        return None
    address = table_base + offset
    found = parse(cpu.system.ld[8](address), address)
    if wide:
        high = cpu.system.ld[8](address + 8)
        found = found._replace(base=found.base | (high & 0xFFFFFFFF) << 32)
        if high >> 40 & 0x1F:
            return None  # the type of the upper half must be zero (SDM Vol. 3A, figure 8-4)
    return found


def fetch(cpu: Cpu, selector: int, vector: int = VECTOR_GP, ext: int = 0, wide: bool = False) -> Descriptor:
    """Like `lookup`, but raises `vector`(selector) where there is none. The selector must not be null."""
    found = lookup(cpu, selector, wide=wide)
    if found is None:
        raise GuestFault(vector, selector & 0xFFFC | ext)
    return found


def mark_accessed(cpu: Cpu, found: Descriptor) -> Descriptor:
    """Set the accessed bit in the table, where it is clear."""
    if not found.raw & ACCESSED:
        address = found.address + 5
        cpu.system.st[1](address, cpu.system.rw[1](address) | 1)
        return found._replace(access=found.access | 1)
    return found


def set_busy(cpu: Cpu, found: Descriptor, busy: bool) -> None:
    """Set or clear the busy bit of a TSS descriptor in the table."""
    address = found.address + 5
    value = cpu.system.rw[1](address)
    cpu.system.st[1](address, value | 2 if busy else value & ~2)


def load_real(cpu: Cpu, n: int, selector: int) -> None:
    """Load a segment register in real or virtual-8086 mode (SDM Vol. 3A, 20.1.1 and 20.2.1)."""
    seg = cpu.seg[n]
    if cpu.protected or cpu.flags & 1 << 17:
        seg.set(selector, selector << 4, 0xFFFF, 0xF3)
    elif n == CS:
        seg.set(selector, selector << 4, seg.limit, 0x9B if not seg.access & 0x4000 else 0x409B)
    else:
        # Limit and attributes stay what they were ("unreal" mode); after reset that is 64 KiB, read/write.
        seg.set(selector, selector << 4, seg.limit, seg.access & ~UNUSABLE | 0x91)


def data_segment(
    cpu: Cpu, n: int, selector: int, cpl: int, vector: int = VECTOR_GP, ext: int = 0
) -> Descriptor | None:
    """Check `selector` for data segment register `n`; None for an acceptable null selector.

    `vector` is #TS while a task is loaded, #GP else. Raises what MOV Sreg raises (SDM Vol. 2B, MOV).
    """
    rpl = selector & SELECTOR_RPL
    code = selector & 0xFFFC | ext
    if n == SS:
        if is_null(selector):
            if cpu.in64 and cpl != 3 and rpl == cpl and vector == VECTOR_GP:
                return None
            raise GuestFault(vector, ext if vector == VECTOR_GP else code)
        found = fetch(cpu, selector, vector, ext)
        if rpl != cpl or not found.writable_data or found.dpl != cpl:
            raise GuestFault(vector, code)
        if not found.present:
            raise GuestFault(VECTOR_SS, code)
        return found
    if is_null(selector):
        return None
    found = fetch(cpu, selector, vector, ext)
    if not found.readable:
        raise GuestFault(vector, code)
    if not (found.code and found.conforming) and found.dpl < max(cpl, rpl):
        raise GuestFault(vector, code)
    if not found.present:
        raise GuestFault(VECTOR_NP, code)
    return found


def commit(cpu: Cpu, n: int, selector: int, found: Descriptor | None) -> None:
    """Put a checked descriptor (None: null) into segment register `n`. The caller calls `mode_changed`."""
    seg = cpu.seg[n]
    if found is None:
        seg.set(selector, 0, 0, UNUSABLE | (cpu.cpl << 5 if n == SS else 0))
        return
    found = mark_accessed(cpu, found)
    seg.set(selector, found.base, found.limit, found.access)


def load_data(cpu: Cpu, n: int, selector: int) -> None:
    """MOV/POP/LDS to segment register `n`, in any mode; nothing changes if it faults."""
    if not cpu.protected:
        load_real(cpu, n, selector)
    else:
        commit(cpu, n, selector, data_segment(cpu, n, selector, cpu.cpl))
    cpu.mode_changed()


def load_ldt(cpu: Cpu, selector: int, vector: int = VECTOR_GP) -> None:
    """LLDT, and the LDT of a task (then with `vector` #TS)."""
    if is_null(selector):
        cpu.ldtr.set(selector, 0, 0, UNUSABLE | 2)
        return
    if selector & SELECTOR_TI:
        raise GuestFault(vector, selector & 0xFFFC)
    found = fetch(cpu, selector, vector, wide=cpu.long_mode)
    if found.type != 2:
        raise GuestFault(vector, selector & 0xFFFC)
    if not found.present:
        raise GuestFault(VECTOR_NP if vector == VECTOR_GP else VECTOR_TS, selector & 0xFFFC)
    cpu.ldtr.set(selector, found.base, found.limit, found.access)


def load_task_register(cpu: Cpu, selector: int) -> None:
    """LTR (SDM Vol. 2A): an available TSS, marked busy."""
    if is_null(selector):
        raise protection()
    if selector & SELECTOR_TI:
        raise protection(selector & 0xFFFC)
    found = fetch(cpu, selector, wide=cpu.long_mode)
    if found.type not in ((9,) if cpu.long_mode else (1, 9)):
        raise protection(selector & 0xFFFC)
    if not found.present:
        raise GuestFault(VECTOR_NP, selector & 0xFFFC)
    set_busy(cpu, found, True)
    cpu.tr.set(selector, found.base, found.limit, found.access | 2)


def set_code(cpu: Cpu, selector: int, found: Descriptor, cpl: int) -> None:
    """Load CS, checked already; RPL becomes `cpl`. The caller sets `cpu.cpl` and calls `mode_changed`."""
    found = mark_accessed(cpu, found)
    cpu.seg[CS].set(selector & ~3 | cpl, found.base, found.limit, found.access)


def drop_inaccessible(cpu: Cpu) -> None:
    """On a return to an outer privilege: null data segments the new CPL may not have (SDM, RET).

    Only the selector and the descriptor's rights go; 64-bit code goes on with the base that FS or GS had.
    """
    for n in (0, 3, 4, 5):
        seg: SegReg = cpu.seg[n]
        if seg.access & UNUSABLE:
            continue
        conforming_code = seg.access & 0x1C == 0x1C
        if not conforming_code and seg.dpl < cpu.cpl:
            seg.set(0, seg.base, 0, UNUSABLE)
