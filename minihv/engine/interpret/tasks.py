"""Hardware task switch (SDM Vol. 3A, chapter 7)."""

from minihv.engine.interpret import debug
from minihv.engine.interpret.cpu import CS, DS, ES, FS, GS, M32, SS, Cpu
from minihv.engine.interpret.descriptors import (
    UNUSABLE,
    Descriptor,
    commit,
    data_segment,
    fetch,
    is_null,
    load_ldt,
    load_real,
    set_busy,
    set_code,
)
from minihv.engine.interpret.faults import GuestFault, protection
from minihv.x86.registers import (
    CR0_PG,
    CR0_TS,
    DR6_BT,
    RFLAGS_NT,
    RFLAGS_VM,
    SELECTOR_TI,
    VECTOR_GP,
    VECTOR_NP,
    VECTOR_TS,
)

JUMP, CALL, INTERRUPT, IRET = range(4)
"""What switches: JMP, CALL, an event through a task gate, IRET with NT."""

_SEGMENTS_32 = (ES, CS, SS, DS, FS, GS)
_LIMIT_32, _LIMIT_16 = 0x67, 0x2B


def switch(cpu: Cpu, selector: int, why: int, ext: int = 0, error: int | None = None) -> None:
    """Switch to the task of TSS `selector`; RIP is what the old task goes on at.

    Faults before the new task is loaded belong to the old one and change nothing; later ones (#TS, #NP,
    #SS about the new segments) are raised in the context of the new task (7.3, step 12 on).
    """
    vector = VECTOR_TS if why == IRET else VECTOR_GP
    code = selector & 0xFFFC | ext
    if is_null(selector) or selector & SELECTOR_TI:
        raise GuestFault(vector, code)
    found = fetch(cpu, selector, vector, ext)
    wanted = (3, 11) if why == IRET else (1, 9)
    if found.type not in wanted:
        raise GuestFault(vector, code)
    if not found.present:
        raise GuestFault(VECTOR_NP, code)
    wide = bool(found.access & 8)
    if found.limit < (_LIMIT_32 if wide else _LIMIT_16):
        raise GuestFault(VECTOR_TS, code)
    old = fetch(cpu, cpu.tr.selector, VECTOR_TS, ext)
    _probe(cpu, found, wide)
    nested = why in (CALL, INTERRUPT)

    flags = cpu.get_rflags()
    if why == IRET:
        flags &= ~RFLAGS_NT
    image = _load_image(cpu, found.base, wide)
    _save(cpu, flags)
    if nested:
        cpu.system.st[2](found.base, cpu.tr.selector)
    else:
        set_busy(cpu, old, False)
    if why != IRET:
        set_busy(cpu, found, True)
    cpu.tr.set(selector, found.base, found.limit, found.access | 2)
    cpu.cr0 |= CR0_TS
    _enter(cpu, image, wide, nested, ext)
    if error is not None:
        _push_error(cpu, error, wide)


def _probe(cpu: Cpu, found: Descriptor, wide: bool) -> None:
    """All pages that the switch writes must be there before it starts."""
    cpu.system.probe_write(found.base, 2)
    cpu.system.read_bytes(found.base, _LIMIT_32 + 1 if wide else _LIMIT_16 + 1)
    cpu.system.probe_write(cpu.tr.base, _LIMIT_32 + 1 if cpu.tr.access & 8 else _LIMIT_16 + 1)


def _save(cpu: Cpu, flags: int) -> None:
    """The old task's registers into its TSS: only the dynamic fields (figures 7-2 and 7-10)."""
    base, memory, r = cpu.tr.base, cpu.system, cpu.r
    if cpu.tr.access & 8:
        words = [cpu.rip & M32, flags & M32, *(r[n] & M32 for n in range(8))]
        memory.write_bytes(base + 0x20, b"".join(w.to_bytes(4, "little") for w in words))
        for k, n in enumerate(_SEGMENTS_32):
            memory.st[2](base + 0x48 + 4 * k, cpu.seg[n].selector)
    else:
        words = [cpu.rip, flags, *(r[n] for n in range(8)), *(cpu.seg[n].selector for n in (ES, CS, SS, DS))]
        memory.write_bytes(base + 0x0E, b"".join((w & 0xFFFF).to_bytes(2, "little") for w in words))


class _Image:
    """What a TSS holds of a task."""

    __slots__ = ("cr3", "flags", "gpr", "ip", "ldt", "selectors", "trap")

    def __init__(self, raw: bytes, wide: bool) -> None:
        def word(at: int, size: int) -> int:
            return int.from_bytes(raw[at : at + size], "little")

        self.selectors: dict[int, int]
        if wide:
            self.cr3 = word(0x1C, 4)
            self.ip, self.flags = word(0x20, 4), word(0x24, 4)
            self.gpr = [word(0x28 + 4 * n, 4) for n in range(8)]
            self.selectors = {n: word(0x48 + 4 * k, 2) for k, n in enumerate(_SEGMENTS_32)}
            self.ldt, self.trap = word(0x60, 2), word(0x64, 2) & 1
        else:
            self.cr3 = 0
            self.ip, self.flags = word(0x0E, 2), word(0x10, 2)
            self.gpr = [word(0x12 + 2 * n, 2) for n in range(8)]
            self.selectors = {n: word(0x22 + 2 * k, 2) for k, n in enumerate((ES, CS, SS, DS))}
            self.selectors |= {FS: 0, GS: 0}
            self.ldt, self.trap = word(0x2A, 2), 0


def _load_image(cpu: Cpu, base: int, wide: bool) -> _Image:
    return _Image(cpu.system.read_bytes(base, _LIMIT_32 + 1 if wide else _LIMIT_16 + 1), wide)


def _enter(cpu: Cpu, image: _Image, wide: bool, nested: bool, ext: int) -> None:
    """Load the new task; from here on faults happen in it."""
    if wide and cpu.cr0 & CR0_PG:
        cpu.cr3 = image.cr3
        cpu.mmu.load_pdptes(cpu.cr0, cpu.cr3, cpu.cr4)
        cpu.mmu.flush()
    cpu.rip = image.ip
    if wide:
        cpu.r[:8] = image.gpr
    else:
        for n, value in enumerate(image.gpr):
            cpu.r[n] = cpu.r[n] & 0xFFFF0000 | value
    for n, selector in image.selectors.items():  # selectors first, hidden parts as they pass their checks
        cpu.seg[n].set(selector, 0, 0, UNUSABLE)
    cpu.ldtr.set(image.ldt, 0, 0, UNUSABLE | 2)
    flags = image.flags | (RFLAGS_NT if nested else 0)
    cpu.dr[5] &= ~0x155  # local breakpoints and LE (18.2.4)
    debug.arm(cpu)
    cpu.cpl = 3 if flags & RFLAGS_VM else image.selectors[CS] & 3
    cpu.set_rflags(flags)
    cpu.attention = True
    if image.trap:
        cpu.trap |= DR6_BT
    cpu.keep_rf = True
    try:
        _load_segments(cpu, image, ext)
    except GuestFault as fault:
        fault.at = cpu.rip
        raise
    finally:
        cpu.mode_changed()


def _load_segments(cpu: Cpu, image: _Image, ext: int) -> None:
    selectors = image.selectors
    try:
        load_ldt(cpu, image.ldt, VECTOR_TS)
    except GuestFault as fault:
        raise GuestFault(fault.vector, (fault.error or 0) | ext, fault.cr2) from None
    if cpu.flags & RFLAGS_VM:
        for n, selector in selectors.items():
            load_real(cpu, n, selector)
        return
    cs = selectors[CS]
    code = cs & 0xFFFC | ext
    if is_null(cs):
        raise GuestFault(VECTOR_TS, code)
    found = fetch(cpu, cs, VECTOR_TS, ext)
    cpl = cs & 3
    if not found.code or (found.dpl > cpl if found.conforming else found.dpl != cpl):
        raise GuestFault(VECTOR_TS, code)
    if not found.present:
        raise GuestFault(VECTOR_NP, code)
    stack = data_segment(cpu, SS, selectors[SS], cpl, VECTOR_TS, ext)
    commit(cpu, SS, selectors[SS], stack)
    set_code(cpu, cs, found, cpl)
    for n in (DS, ES, FS, GS):
        commit(cpu, n, selectors[n], data_segment(cpu, n, selectors[n], cpl, VECTOR_TS, ext))
    if cpu.rip > cpu.seg[CS].limit:
        raise protection()


def _push_error(cpu: Cpu, error: int, wide: bool) -> None:
    """The error code of the event goes onto the new task's stack."""
    from minihv.engine.interpret.interrupts import current_stack

    stack = current_stack(cpu, 0)
    try:
        stack.push(error, 4 if wide else 2)
    except GuestFault as fault:
        fault.at = cpu.rip
        raise
    cpu.r[4] = stack.sp
