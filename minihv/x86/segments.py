"""Descriptors and gates: from the 8 or 16 bytes in a table to a structure, to words, and back.

Sources: SDM Vol. 3A 3.4.5 (segment descriptors), 3.5 (system descriptors), 5.8.3 (call gates), 6.11 and
6.14.1 (IDT gates), 7.2 (TSS); APM Vol. 2, 4.7 and 4.8. Raw descriptors are little-endian integers.
"""

from typing import NamedTuple

from minihv.x86.registers import CR0_PE, EFER_LMA, RFLAGS_VM
from minihv.x86.state import CpuState, Segment

ACCESS_PRESENT = 0x80
ACCESS_S = 0x10
ACCESS_LONG = 0x2000
ACCESS_BIG = 0x4000
ACCESS_GRANULAR = 0x8000
ACCESS_UNUSABLE = 0x10000

TYPE_LDT = 0x2
TYPE_TASK_GATE = 0x5
TYPE_TSS16 = 0x1
TYPE_TSS16_BUSY = 0x3
TYPE_TSS32 = 0x9
"""Also the 64-bit TSS in long mode."""
TYPE_TSS32_BUSY = 0xB
TYPE_CALL16 = 0x4
TYPE_CALL32 = 0xC
TYPE_INTERRUPT16 = 0x6
TYPE_TRAP16 = 0x7
TYPE_INTERRUPT32 = 0xE
TYPE_TRAP32 = 0xF

SYSTEM_TYPES = {
    TYPE_TSS16: "available 16-bit TSS",
    TYPE_LDT: "LDT",
    TYPE_TSS16_BUSY: "busy 16-bit TSS",
    TYPE_CALL16: "16-bit call gate",
    TYPE_TASK_GATE: "task gate",
    TYPE_INTERRUPT16: "16-bit interrupt gate",
    TYPE_TRAP16: "16-bit trap gate",
    TYPE_TSS32: "available 32-bit TSS",
    TYPE_TSS32_BUSY: "busy 32-bit TSS",
    TYPE_CALL32: "32-bit call gate",
    TYPE_INTERRUPT32: "32-bit interrupt gate",
    TYPE_TRAP32: "32-bit trap gate",
}
"""SDM Vol. 3A, table 3-2, outside long mode; what is not listed is reserved."""

SYSTEM_TYPES_LONG = {
    TYPE_LDT: "LDT",
    TYPE_TSS32: "available 64-bit TSS",
    TYPE_TSS32_BUSY: "busy 64-bit TSS",
    TYPE_CALL32: "64-bit call gate",
    TYPE_INTERRUPT32: "64-bit interrupt gate",
    TYPE_TRAP32: "64-bit trap gate",
}
"""SDM Vol. 3A, table 3-2, in IA-32e mode."""

_GATE_KINDS = {
    TYPE_CALL16: "call",
    TYPE_TASK_GATE: "task",
    TYPE_INTERRUPT16: "interrupt",
    TYPE_TRAP16: "trap",
    TYPE_CALL32: "call",
    TYPE_INTERRUPT32: "interrupt",
    TYPE_TRAP32: "trap",
}


class Gate(NamedTuple):
    """A call, interrupt, trap or task gate, or what stands where one should be."""

    type: int
    """The four type bits, valid or not."""
    system: bool
    """S clear, as it must be in a gate."""
    present: bool
    dpl: int
    selector: int
    offset: int
    bits: int
    """Width of `offset`: 16, 32 or 64."""
    ist: int = 0
    """Interrupt-stack-table index, 64-bit gates only; 0: none."""
    params: int = 0
    """Parameter count, call gates outside long mode only."""

    @property
    def kind(self) -> str:
        """ "interrupt", "trap", "task", "call", or "" where the type is no gate at all."""
        if not self.system or (self.bits == 64 and self.type not in SYSTEM_TYPES_LONG):
            return ""
        return _GATE_KINDS.get(self.type, "")


# --- Mode -------------------------------------------------------------------------------------------


def cpu_mode(state: CpuState) -> str:
    """ "real", "virtual-8086", "protected 16-bit", "protected 32-bit", "compatibility" or "64-bit"."""
    if not state.cr0 & CR0_PE:
        return "real"
    if state.efer & EFER_LMA:
        return "64-bit" if state.cs.long else "compatibility"
    if state.rflags & RFLAGS_VM:
        return "virtual-8086"
    return "protected 32-bit" if state.cs.big else "protected 16-bit"


def code_bits(state: CpuState) -> int:
    """Default operand and address size of the code at RIP: 16, 32 or 64.

    D counts in real mode too: code that cleared CR0.PE keeps its hidden D bit ("unreal mode").
    """
    if state.cr0 & CR0_PE and state.efer & EFER_LMA and state.cs.long:
        return 64
    return 32 if state.cs.big else 16


# --- Segment descriptors ----------------------------------------------------------------------------


def decode_segment(raw: int, selector: int = 0, high: int = 0) -> Segment:
    """The segment register that loading the 8-byte descriptor `raw` through `selector` would give.

    `high` is the second half of a 16-byte system descriptor (LDT or TSS in IA-32e mode). The limit comes
    out in bytes. No check is made: present, type and privilege are the loader's rules.
    """
    base = raw >> 16 & 0xFF_FFFF | (raw >> 56 & 0xFF) << 24 | (high & 0xFFFF_FFFF) << 32
    limit = raw & 0xFFFF | (raw >> 48 & 0xF) << 16
    access = raw >> 40 & 0xFF | (raw >> 52 & 0xF) << 12
    if access & ACCESS_GRANULAR:
        limit = limit << 12 | 0xFFF
    return Segment(selector=selector, base=base, limit=limit, access=access)


def encode_segment(segment: Segment) -> int:
    """The 8-byte descriptor (as an integer) for `segment`.

    Raises ValueError where the limit cannot be expressed with the segment's G bit, or the base needs
    more than 32 bits (use `encode_system_segment`).
    """
    if segment.base >> 32:
        raise ValueError(f"base {segment.base:#x} does not fit an 8-byte descriptor's 32 bits")
    return _encode_low(segment)


def encode_system_segment(segment: Segment) -> int:
    """The 16-byte system descriptor (LDT, TSS) of IA-32e mode, as an integer of 128 bits."""
    return _encode_low(segment) | (segment.base >> 32 & 0xFFFF_FFFF) << 64


def _encode_low(segment: Segment) -> int:
    limit = segment.limit
    if segment.granular:
        if limit & 0xFFF != 0xFFF:
            raise ValueError(f"limit {limit:#x} with G set must end in fff")
        limit >>= 12
    if limit >> 20:
        raise ValueError(f"limit {segment.limit:#x} does not fit 20 bits; set G")
    base, access = segment.base, segment.access
    return (
        limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | (access & 0xFF) << 40
        | (limit >> 16) << 48
        | (access >> 12 & 0xF) << 52
        | (base >> 24 & 0xFF) << 56
    )


def is_code(segment: Segment) -> bool:
    """A code descriptor (S set, type bit 3 set)."""
    return not segment.system and bool(segment.access & 8)


def describe_segment(segment: Segment, long_mode: bool = False) -> str:
    """What kind of segment it is: "32-bit code, readable, DPL 0, base 0x0, limit 0xffffffff"."""
    if segment.unusable:
        return "unusable"
    words = [_kind_words(segment, long_mode), f"DPL {segment.dpl}"]
    words += [f"base {segment.base:#x}", f"limit {segment.limit:#x}"]
    if not segment.present:
        words.append("not present")
    return ", ".join(words)


def _kind_words(segment: Segment, long_mode: bool) -> str:
    kind = segment.type
    if segment.system:
        names = SYSTEM_TYPES_LONG if long_mode else SYSTEM_TYPES
        return names.get(kind, f"reserved system type {kind:#x}")
    if kind & 8:
        bits = 64 if segment.long and long_mode else 32 if segment.big else 16
        words = f"{bits}-bit code, " + ("readable" if kind & 2 else "execute-only")
        return words + (", conforming" if kind & 4 else "")
    words = f"{32 if segment.big else 16}-bit data, " + ("writable" if kind & 2 else "read-only")
    return words + (", expand-down" if kind & 4 else "")


# --- Gates ------------------------------------------------------------------------------------------


def idt_entry_size(state: CpuState) -> int:
    """Bytes of one entry: 4 (real-mode IVT), 8 (protected mode) or 16 (IA-32e mode)."""
    if not state.cr0 & CR0_PE:
        return 4
    return 16 if state.efer & EFER_LMA else 8


def decode_ivt_entry(raw: int) -> tuple[int, int]:
    """(segment, offset) from a 4-byte real-mode vector (SDM Vol. 3B, 20.1.4)."""
    return raw >> 16 & 0xFFFF, raw & 0xFFFF


def encode_ivt_entry(segment: int, offset: int) -> int:
    """The 4-byte real-mode vector for segment:offset."""
    return (segment & 0xFFFF) << 16 | offset & 0xFFFF


def decode_gate(raw: int, long_mode: bool = False) -> Gate:
    """A gate from its 8 bytes (16 in IA-32e mode). Anything may be in there: check `Gate.kind`."""
    kind = raw >> 40 & 0xF
    offset = raw & 0xFFFF
    bits = 64 if long_mode else 32 if kind & 8 else 16
    if bits != 16:
        offset |= (raw >> 48 & 0xFFFF) << 16
    if bits == 64:
        offset |= (raw >> 64 & 0xFFFF_FFFF) << 32
    call = kind in (TYPE_CALL16, TYPE_CALL32)
    return Gate(
        type=kind,
        system=not raw >> 44 & 1,
        present=bool(raw >> 47 & 1),
        dpl=raw >> 45 & 3,
        selector=raw >> 16 & 0xFFFF,
        offset=offset,
        bits=bits,
        ist=raw >> 32 & 7 if long_mode and not call else 0,
        params=raw >> 32 & 0x1F if call and not long_mode else 0,
    )


def encode_gate(gate: Gate) -> int:
    """The 8-byte gate (16-byte where `gate.bits` is 64) as an integer."""
    raw = (
        gate.offset & 0xFFFF
        | (gate.selector & 0xFFFF) << 16
        | (gate.ist | gate.params) << 32
        | gate.type << 40
        | (0 if gate.system else 1) << 44
        | gate.dpl << 45
        | (1 if gate.present else 0) << 47
    )
    if gate.bits != 16:
        raw |= (gate.offset >> 16 & 0xFFFF) << 48
    if gate.bits == 64:
        raw |= (gate.offset >> 32 & 0xFFFF_FFFF) << 64
    return raw


def describe_gate(gate: Gate) -> str:
    """ "64-bit interrupt gate, DPL 0, to 0x8:0x101000, IST 1"; says so where it is no gate."""
    if not gate.kind:
        what = (
            f"system type {gate.type:#x}"
            if gate.system
            else f"a code or data descriptor's type {gate.type:#x}"
        )
        return f"no gate ({what})" + ("" if gate.present else ", not present")
    names = SYSTEM_TYPES_LONG if gate.bits == 64 else SYSTEM_TYPES
    words = [names[gate.type], f"DPL {gate.dpl}"]
    if gate.kind == "task":
        words.append(f"to TSS {gate.selector:#x}")
    else:
        words.append(f"to {gate.selector:#x}:{gate.offset:#x}")
    if gate.ist:
        words.append(f"IST {gate.ist}")
    if gate.params:
        words.append(f"{gate.params} parameters")
    if not gate.present:
        words.append("not present")
    return ", ".join(words)


def idt_gate_problem(gate: Gate) -> str | None:
    """Why an interrupt cannot go through this IDT entry, by the entry alone; None where it can."""
    if gate.kind not in ("interrupt", "trap", "task"):
        wanted = "an interrupt or trap gate" if gate.bits == 64 else "an interrupt, trap or task gate"
        found = f"{describe_gate(gate)}" if gate.kind else f"type {gate.type:#x}"
        if not gate.system:
            found += " with S set"
        return f"is not {wanted} but {found}"
    if not gate.present:
        return "is not present"
    return None
