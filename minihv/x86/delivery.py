"""Could this vCPU take an exception just now, and if not, what stands in the way?

Follows the delivery of one vector through IDT, gate, code descriptor, handler and stack, in the order of
the processor (SDM Vol. 3A, 6.12 and 6.14; 20.1.4 in Vol. 3B for real mode), changing nothing.
"""

from typing import NamedTuple

from minihv.errors import GuestMemoryError
from minihv.x86.paging import ReadPhys, WalkResult, is_canonical, walk
from minihv.x86.registers import (
    CR0_PE,
    CR4_LA57,
    EFER_LMA,
    ERROR_CODE_VECTORS,
    RFLAGS_AC,
    RFLAGS_VM,
    SELECTOR_INDEX,
    SELECTOR_TI,
)
from minihv.x86.segments import (
    Gate,
    decode_gate,
    decode_ivt_entry,
    decode_segment,
    describe_segment,
    idt_entry_size,
    idt_gate_problem,
    is_code,
)
from minihv.x86.state import CpuState, Segment

_PAGE = 0x1000


class Obstacle(NamedTuple):
    """Why `vector` cannot be delivered: a sentence without full stop, and the walk that shows it."""

    vector: int
    sentence: str
    walk: WalkResult | None = None


class _Blocked(Exception):
    """Ends the search at the first obstacle; never leaves this file."""

    def __init__(self, sentence: str, walked: WalkResult | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.walk = walked


def cpl(state: CpuState) -> int:
    """Current privilege level (SDM Vol. 3A, 5.5): 0 in real mode, 3 in virtual-8086 mode."""
    if not state.cr0 & CR0_PE:
        return 0
    return 3 if state.rflags & RFLAGS_VM and not state.efer & EFER_LMA else state.cs.selector & 3


def look_up(
    state: CpuState,
    read_phys: ReadPhys,
    gva: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
) -> WalkResult:
    """`paging.walk` with the registers of `state`."""
    return walk(
        read_phys, state.cr0, state.cr3, state.cr4, state.efer, gva,
        write=write, user=user, fetch=fetch, ac=bool(state.rflags & RFLAGS_AC),
    )  # fmt: skip


def read_linear(
    state: CpuState, read_phys: ReadPhys, gva: int, size: int, fetch: bool = False
) -> tuple[bytes, WalkResult | None]:
    """Up to `size` bytes at linear `gva`, as the supervisor may read (or fetch) them.

    Shorter where a page is not mapped (then the walk that failed comes with it) or not RAM.
    """
    data = bytearray()
    while len(data) < size:
        at = gva + len(data)
        result = look_up(state, read_phys, at, user=fetch and cpl(state) == 3, fetch=fetch)
        if result.failure is not None or result.gpa is None:
            return bytes(data), result
        room = min(size - len(data), _PAGE - at % _PAGE)
        try:
            for gpa in range(result.gpa, result.gpa + room):
                data.append(read_phys(gpa, 1))
        except GuestMemoryError:
            return bytes(data), None
    return bytes(data), None


def find_obstacle(state: CpuState, read_phys: ReadPhys, vector: int) -> Obstacle | None:
    """The first thing that keeps the exception `vector` from reaching its handler; None: nothing does."""
    try:
        if state.cr0 & CR0_PE:
            _protected(state, read_phys, vector)
        else:
            _real(state, read_phys, vector)
    except _Blocked as blocked:
        return Obstacle(vector, blocked.sentence, blocked.walk)
    return None


def _table(state: CpuState, read_phys: ReadPhys, gva: int, size: int, what: str) -> int:
    """An entry of `size` bytes from a table in linear memory."""
    data, failed = read_linear(state, read_phys, gva, size)
    if len(data) < size:
        why = "is not mapped" if failed is not None else "is not RAM"
        raise _Blocked(f"{what} at linear {gva:#x} {why}", failed)
    return int.from_bytes(data, "little")


def _idt_entry(state: CpuState, read_phys: ReadPhys, vector: int) -> int:
    size = idt_entry_size(state)
    first, last = vector * size, vector * size + size - 1
    if last > state.idtr.limit:
        raise _Blocked(
            f"the IDT limit is {state.idtr.limit:#x}, but the entry is bytes {first:#x}..{last:#x}"
        )
    return _table(state, read_phys, state.idtr.base + first, size, f"IDT entry {vector}")


def _real(state: CpuState, read_phys: ReadPhys, vector: int) -> None:
    segment, offset = decode_ivt_entry(_idt_entry(state, read_phys, vector))
    handler = (segment << 4) + offset
    if not read_linear(state, read_phys, handler, 1)[0]:
        raise _Blocked(f"the handler {segment:04x}:{offset:04x} is at {handler:#x}, where there is no RAM")


def _protected(state: CpuState, read_phys: ReadPhys, vector: int) -> None:
    long_mode = bool(state.efer & EFER_LMA)
    gate = decode_gate(_idt_entry(state, read_phys, vector), long_mode)
    problem = idt_gate_problem(gate)
    if problem is not None:
        raise _Blocked(f"IDT entry {vector} {problem}")
    if gate.kind == "task":
        _task_gate(state, read_phys, gate)
        return
    code = _code_segment(state, read_phys, gate, long_mode)
    _handler(state, read_phys, gate, code, long_mode)
    level = cpl(state) if code.access & 4 else code.dpl
    _stack(state, read_phys, vector, gate, level, long_mode)


def _descriptor(state: CpuState, read_phys: ReadPhys, selector: int, who: str) -> Segment:
    """The 8-byte descriptor that `selector` names, present or not."""
    if not selector & ~3:
        raise _Blocked(f"{who} is the null selector {selector:#x}")
    table, name = (state.ldtr, "LDT") if selector & SELECTOR_TI else (state.gdtr, "GDT")
    if isinstance(table, Segment) and (table.unusable or not table.present):
        raise _Blocked(f"{who} {selector:#x} is in the LDT, and none is loaded")
    at = selector & SELECTOR_INDEX
    if at + 7 > table.limit:
        raise _Blocked(f"{who} {selector:#x} lies beyond the {name} limit {table.limit:#x}")
    raw = _table(state, read_phys, table.base + at, 8, f"the {name} entry of {who} {selector:#x}")
    return decode_segment(raw, selector)


def _task_gate(state: CpuState, read_phys: ReadPhys, gate: Gate) -> None:
    who = "the task gate's TSS selector"
    if gate.selector & SELECTOR_TI:
        raise _Blocked(f"{who} {gate.selector:#x} names the LDT; a TSS must be in the GDT")
    tss = _descriptor(state, read_phys, gate.selector, who)
    if not tss.system or tss.type not in (1, 9):
        raise _Blocked(f"{who} {gate.selector:#x} names no available TSS but: {describe_segment(tss)}")
    if not tss.present:
        raise _Blocked(f"{who} {gate.selector:#x} names a TSS that is not present")


def _code_segment(state: CpuState, read_phys: ReadPhys, gate: Gate, long_mode: bool) -> Segment:
    who = "the gate's code selector"
    code = _descriptor(state, read_phys, gate.selector, who)
    if not is_code(code):
        raise _Blocked(f"{who} {gate.selector:#x} names no code but: {describe_segment(code, long_mode)}")
    if not code.present:
        raise _Blocked(f"{who} {gate.selector:#x} names a descriptor that is not present")
    if code.dpl > cpl(state):
        raise _Blocked(f"{who} {gate.selector:#x} has DPL {code.dpl}, less privileged than CPL {cpl(state)}")
    if long_mode and (not code.long or code.big):
        raise _Blocked(
            f"{who} {gate.selector:#x} names no 64-bit code (L must be set and D clear) but: "
            f"{describe_segment(code, True)}"
        )
    return code


def _handler(state: CpuState, read_phys: ReadPhys, gate: Gate, code: Segment, long_mode: bool) -> None:
    if long_mode:
        if not is_canonical(gate.offset, bool(state.cr4 & CR4_LA57)):
            raise _Blocked(f"the handler address {gate.offset:#x} is not canonical")
        linear = gate.offset
    else:
        if gate.offset > code.limit:
            raise _Blocked(
                f"the handler offset {gate.offset:#x} is beyond the limit {code.limit:#x} of its code"
            )
        linear = code.base + gate.offset & 0xFFFF_FFFF
    result = look_up(state, read_phys, linear, fetch=True, user=code.dpl == 3)
    if result.failure is not None:
        raise _Blocked(f"the handler at {linear:#x} cannot be fetched: {result.reason}", result)
    if not read_linear(state, read_phys, linear, 1)[0]:
        raise _Blocked(f"the handler at {linear:#x} is not RAM")


def _stack(
    state: CpuState, read_phys: ReadPhys, vector: int, gate: Gate, level: int, long_mode: bool
) -> None:
    """Room and rights for the frame (SDM Vol. 3A, figures 6-4 and 6-9)."""
    inner = level < cpl(state)
    error = 1 if vector in ERROR_CODE_VECTORS else 0
    if long_mode:
        top, size = _stack_long(state, read_phys, gate, level, inner), (5 + error) * 8
    else:
        slots = (5 if inner else 3) + error + (4 if state.rflags & RFLAGS_VM else 0)
        top, size = _stack_32(state, read_phys, level, inner), slots * (4 if gate.bits == 32 else 2)
    low = top - size & ((1 << 64) - 1 if long_mode else 0xFFFF_FFFF)
    if long_mode and not is_canonical(low, bool(state.cr4 & CR4_LA57)):
        raise _Blocked(f"the stack pointer {top:#x} leaves no canonical address for the frame")
    for at in (low + size - 1, low):  # pushed from the top down
        result = look_up(state, read_phys, at, write=True, user=level == 3)
        if result.failure is not None:
            raise _Blocked(f"the stack at {at:#x} cannot be written: {result.reason}", result)
        try:
            read_phys(result.gpa or 0, 1)
        except GuestMemoryError:
            raise _Blocked(
                f"the stack at {at:#x} is at guest-physical {result.gpa:#x}, which is not RAM"
            ) from None


def _tss_field(state: CpuState, read_phys: ReadPhys, offset: int, size: int, name: str) -> int:
    tr = state.tr
    if tr.unusable or not tr.present or not tr.selector & ~3:
        raise _Blocked(f"the new stack pointer ({name}) is in the TSS, and TR holds none")
    if offset + size - 1 > tr.limit:
        raise _Blocked(f"the TSS limit {tr.limit:#x} leaves out {name} at offset {offset:#x}")
    return _table(state, read_phys, tr.base + offset, size, f"the TSS field {name}")


def _stack_long(state: CpuState, read_phys: ReadPhys, gate: Gate, level: int, inner: bool) -> int:
    if gate.ist:
        top = _tss_field(state, read_phys, 0x1C + 8 * gate.ist, 8, f"IST{gate.ist}")
    elif inner:
        top = _tss_field(state, read_phys, 4 + 8 * level, 8, f"RSP{level}")
    else:
        top = state.gpr[4]
    # The processor aligns the stack to 16 bytes before it pushes (SDM Vol. 3A, 6.14.2).
    return top & ~0xF


def _stack_32(state: CpuState, read_phys: ReadPhys, level: int, inner: bool) -> int:
    """Linear address just above the frame."""
    if inner:
        if state.tr.type & 8:
            esp = _tss_field(state, read_phys, 4 + 8 * level, 4, f"ESP{level}")
            selector = _tss_field(state, read_phys, 8 + 8 * level, 2, f"SS{level}")
        else:
            esp = _tss_field(state, read_phys, 2 + 4 * level, 2, f"SP{level}")
            selector = _tss_field(state, read_phys, 4 + 4 * level, 2, f"SS{level}")
        who = f"the new stack's selector SS{level}"
        ss = _descriptor(state, read_phys, selector, who)
        if ss.system or ss.access & 8 or not ss.access & 2 or ss.dpl != level:
            raise _Blocked(f"{who} {selector:#x} is no writable data of DPL {level}: {describe_segment(ss)}")
        if not ss.present:
            raise _Blocked(f"{who} {selector:#x} names a descriptor that is not present")
    else:
        ss, esp = state.ss, state.gpr[4]
        if ss.unusable:
            raise _Blocked("SS holds no usable stack segment")
    mask = 0xFFFF_FFFF if ss.big else 0xFFFF
    top = esp & mask
    last = (top - 1) & mask
    inside = (ss.limit < last <= mask) if ss.access & 4 else last <= ss.limit
    if not inside:
        raise _Blocked(f"the stack pointer {top:#x} is outside the stack segment's limit {ss.limit:#x}")
    # A stack pointer of 0 wraps: the frame lies below the top of the segment's 64 KiB or 4 GiB.
    return ss.base + (top or mask + 1)
