"""First states of the boot processor, one function per way to enter a guest.

Pure: they return values, the loader places the tables that the states point to.
"""

from struct import pack

from minihv.x86.registers import (
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_PE,
    CR0_PG,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
)
from minihv.x86.state import CpuState, DescriptorTable, Segment

CODE, DATA = 0x08, 0x10
"""Selectors of the flat descriptors in the GDT that protected- and long-mode guests start with."""
PAGE_TABLES_SIZE = 6 * 4096
"""One PML4, one PDPT, four page directories: 4 GiB in 2 MiB pages."""

_CODE32 = 0xC09B
_CODE64 = 0xA09B
_DATA = 0xC093
_RSP = 4
_PTE = 0x3
_PTE_PS = 0x80
"""Present and writable; page size (SDM Vol. 3A, 4.5). Not from x86.paging: every start would import it."""


def gdt(*, long: bool) -> bytes:
    """Three descriptors: null, flat code (64-bit if `long`, else 32-bit), flat data; accessed bits set."""
    code = _CODE64 if long else _CODE32
    return pack("<3Q", 0, _flat_descriptor(code), _flat_descriptor(_DATA))


def page_tables(base: int) -> bytes:
    """`PAGE_TABLES_SIZE` bytes for GPA `base` that map linear 0..4 GiB onto itself, writable, supervisor.

    2 MiB pages, because 1 GiB pages need a CPUID bit of their own (SDM Vol. 3A, 4.5).
    """
    pml4 = pack("<Q", base + 0x1000 | _PTE).ljust(4096, b"\0")
    pdpt = pack("<4Q", *(base + 0x2000 + 0x1000 * i | _PTE for i in range(4))).ljust(4096, b"\0")
    directories = pack("<2048Q", *range(_PTE | _PTE_PS, 1 << 32, 2 << 20))
    return pml4 + pdpt + directories


def real16(cs: int, ip: int, ss: int = 0, sp: int = 0) -> CpuState:
    """Real mode at cs:ip with the IVT at 0; interrupts off, other registers and segments zero."""
    state = _blank()
    state.cs = Segment(cs, cs << 4, 0xFFFF, 0x9B)
    state.ss = Segment(ss, ss << 4, 0xFFFF, 0x93)
    state.idtr = DescriptorTable(0, 0x3FF)
    state.rip = ip
    state.gpr[_RSP] = sp
    state.cr0 = CR0_ET
    return state


def protected32(entry: int, gdt_base: int, stack: int) -> CpuState:
    """32-bit protected mode, flat 4 GiB segments, paging off, interrupts off; ESP = `stack`."""
    state = _blank()
    _set_flat_segments(state, _CODE32, gdt_base)
    state.rip = entry
    state.gpr[_RSP] = stack
    state.cr0 = CR0_PE | CR0_ET
    return state


def long64(entry: int, gdt_base: int, cr3: int, stack: int) -> CpuState:
    """Long mode, ring 0, paging on, interrupts off; RSP = `stack`.

    SSE is enabled, because a compiler for x86-64 uses it without asking (System V ABI, AMD64, 3.2.1).
    """
    state = _blank()
    _set_flat_segments(state, _CODE64, gdt_base)
    state.rip = entry
    state.gpr[_RSP] = stack
    state.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG
    state.cr3 = cr3
    state.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT
    state.efer = EFER_LME | EFER_LMA
    return state


def _blank() -> CpuState:
    return CpuState(gpr=[0] * 16)


def _set_flat_segments(state: CpuState, code: int, gdt_base: int) -> None:
    state.cs = Segment(CODE, 0, 0xFFFFFFFF, code)
    for name in ("es", "ss", "ds", "fs", "gs"):
        setattr(state, name, Segment(DATA, 0, 0xFFFFFFFF, _DATA))
    state.tr = Segment(0, 0, 0x67, 0x8B)
    state.gdtr = DescriptorTable(gdt_base, 3 * 8 - 1)
    # No IDT: an exception before the guest loads its own ends in a triple fault, which is reported.
    state.idtr = DescriptorTable(0, 0)


def _flat_descriptor(access: int) -> int:
    """Base 0, limit 4 GiB, access rights in `Segment.access` layout (SDM Vol. 3A, 3.4.5)."""
    return 0x000F_0000_0000_FFFF | (access & 0xF0FF) << 40
