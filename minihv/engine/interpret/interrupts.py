"""Events: exceptions, interrupts and INT n through IVT or IDT, double and triple faults, INIT and SIPI.

SDM Vol. 3A, chapter 6, and INT n in Vol. 2A. `deliver_once` either switches to the handler whole or
raises and has changed no register.
"""

from minihv.engine.interpret import tasks
from minihv.engine.interpret.cpu import CS, DS, ES, FS, GS, M16, M32, M64, SS, Cpu
from minihv.engine.interpret.descriptors import (
    UNUSABLE,
    Descriptor,
    commit,
    data_segment,
    fetch,
    is_null,
    set_code,
)
from minihv.engine.interpret.faults import (
    BePrecise,
    DebugFault,
    GuestFault,
    NeedExit,
    TripleFault,
    protection,
    stack_fault,
)
from minihv.engine.interpret.reset import init, start_up
from minihv.engine.interpret.space import Space
from minihv.x86.registers import (
    CONTRIBUTORY_VECTORS,
    CR0_PE,
    ERROR_EXT,
    ERROR_IDT,
    RFLAGS_AC,
    RFLAGS_IF,
    RFLAGS_NT,
    RFLAGS_RF,
    RFLAGS_TF,
    RFLAGS_VM,
    VECTOR_DF,
    VECTOR_NP,
    VECTOR_PF,
    VECTOR_SS,
    VECTOR_TS,
)

SOFTWARE, EXCEPTION, EXTERNAL = range(3)
"""INT n, INT3, INTO; exceptions; interrupts, NMI (and INT1, which checks no DPL)."""


def deliver_fault(cpu: Cpu, fault: GuestFault) -> None:
    """Deliver an exception raised by the instruction at RIP. Raises TripleFault."""
    if fault.cr2 is not None:
        cpu.cr2 = fault.cr2
    # Fault-class exceptions push RF set, so that an instruction breakpoint there does not fire twice
    # (SDM Vol. 3B, 18.3.1.1); the breakpoint's own #DB does not.
    resume = not isinstance(fault, DebugFault)
    deliver(cpu, fault.vector, EXCEPTION, fault.error, resume)


def deliver(cpu: Cpu, vector: int, kind: int, error: int | None, resume: bool = False) -> None:
    """Deliver an event that is no INT n, with what may go wrong on the way (SDM Vol. 3A, table 6-5)."""
    while True:
        try:
            deliver_once(cpu, vector, kind, error, resume)
            return
        except GuestFault as second:
            if second.cr2 is not None:
                cpu.cr2 = second.cr2
            if vector == VECTOR_DF and kind == EXCEPTION:
                raise TripleFault from second
            if kind == EXCEPTION and _makes_double(vector, second.vector):
                vector, error, resume = VECTOR_DF, 0, False
            else:
                vector, error, resume = second.vector, second.error, True
            kind = EXCEPTION
        except (NeedExit, BePrecise):
            raise TripleFault from None  # a stack in device memory: no board answers that sanely


def _makes_double(first: int, second: int) -> bool:
    if first == VECTOR_PF:
        return second == VECTOR_PF or second in CONTRIBUTORY_VECTORS
    return first in CONTRIBUTORY_VECTORS and second in CONTRIBUTORY_VECTORS


def deliver_once(cpu: Cpu, vector: int, kind: int, error: int | None, resume: bool = False) -> None:
    """Go to the handler of `vector`; what is pushed as return address is RIP. Raises GuestFault."""
    if not cpu.cr0 & CR0_PE:
        _real(cpu, vector)
    elif cpu.long_mode:
        _long(cpu, vector, kind, error, resume)
    else:
        _protected(cpu, vector, kind, error, resume)


def _real(cpu: Cpu, vector: int) -> None:
    """Interrupt vector table (SDM Vol. 3A, 20.1.4)."""
    if 4 * vector + 3 > cpu.idtr.limit:
        raise protection()
    entry = cpu.system.ld[4](cpu.idtr.base + 4 * vector)
    r, ss = cpu.r, cpu.seg[SS]
    mask = M32 if ss.access & 0x4000 else M16
    sp = r[4]
    for value in (cpu.get_rflags() & M16, cpu.seg[CS].selector, cpu.rip & M16):
        sp = sp - 2 & mask
        if sp + 1 > ss.write_hi or sp < ss.lo:
            raise stack_fault()
        cpu.system.st[2](ss.base + sp & M32, value)
    r[4] = r[4] & ~mask | sp
    cpu.flags &= ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_RF | RFLAGS_AC)
    selector = entry >> 16
    cs = cpu.seg[CS]
    cs.set(selector, selector << 4, cs.limit, cs.access)
    cpu.rip = entry & M16
    cpu.mode_changed()


def _push_space(cpu: Cpu, cpl: int) -> Space:
    """Memory as the pushes onto a handler's stack see it."""
    if cpl == 3:
        return cpu.user
    return cpu.supervisor if cpu.flags & RFLAGS_AC else cpu.system


def _gate_code(cpu: Cpu, selector: int, ext: int, is_long: bool) -> tuple[Descriptor, int]:
    """The handler's code segment, and the privilege it runs at."""
    if is_null(selector):
        raise protection(ext)
    found = fetch(cpu, selector, ext=ext)
    code = selector & 0xFFFC | ext
    if not found.code or found.dpl > cpu.cpl:
        raise protection(code)
    if is_long and found.access & 0x6000 != 0x2000:
        raise protection(code)
    if not found.present:
        raise GuestFault(VECTOR_NP, code)
    return found, cpu.cpl if found.conforming else found.dpl


def _frame_flags(cpu: Cpu, resume: bool) -> int:
    return cpu.get_rflags() | (RFLAGS_RF if resume else 0)


def _long(cpu: Cpu, vector: int, kind: int, error: int | None, resume: bool) -> None:
    """64-bit IDT (SDM Vol. 3A, 6.14)."""
    ext = 0 if kind == SOFTWARE else ERROR_EXT
    code = 8 * vector | ERROR_IDT | ext
    if 16 * vector + 15 > cpu.idtr.limit:
        raise protection(code)
    low = cpu.system.ld[8](cpu.idtr.base + 16 * vector)
    high = cpu.system.ld[8](cpu.idtr.base + 16 * vector + 8)
    kind_of_gate = low >> 40 & 0x1F
    if kind_of_gate not in (0xE, 0xF) or high >> 40 & 0x1F:
        raise protection(code)
    if kind == SOFTWARE and (low >> 45 & 3) < cpu.cpl:
        raise protection(code)
    if not low >> 47 & 1:
        raise GuestFault(VECTOR_NP, code)
    selector = low >> 16 & 0xFFFF
    target = low & 0xFFFF | low >> 32 & 0xFFFF0000 | (high & M32) << 32
    found, cpl = _gate_code(cpu, selector, ext, True)
    if (target >> 47) + 1 & 0x1FFFE:
        raise protection(ext)
    ist = low >> 32 & 7
    if ist:
        sp = _tss_qword(cpu, 0x24 + 8 * (ist - 1), ext)
    elif cpl != cpu.cpl:
        sp = _tss_qword(cpu, 4 + 8 * cpl, ext)
    else:
        sp = cpu.r[4]
    old_sp = cpu.r[4]
    sp &= ~0xF
    if (sp >> 47) + 1 & 0x1FFFE:
        raise stack_fault(ext)
    store = _push_space(cpu, cpl).st_ss[8]
    frame = [cpu.seg[SS].selector, old_sp, _frame_flags(cpu, resume), cpu.seg[CS].selector, cpu.rip]
    if error is not None:
        frame.append(error)
    for value in frame:
        sp = sp - 8 & M64
        store(sp, value)
    set_code(cpu, selector, found, cpl)
    if cpl != cpu.cpl:
        cpu.seg[SS].set(cpl, 0, 0, UNUSABLE | cpl << 5)
        cpu.cpl = cpl
    cpu.r[4] = sp
    cpu.rip = target
    _enter_flags(cpu, kind_of_gate == 0xE)


def _enter_flags(cpu: Cpu, interrupt_gate: bool) -> None:
    cpu.flags &= ~(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM | (RFLAGS_IF if interrupt_gate else 0))
    cpu.mode_changed()


def _tss_qword(cpu: Cpu, offset: int, ext: int) -> int:
    """A stack pointer out of the 64-bit TSS."""
    if offset + 7 > cpu.tr.limit:
        raise GuestFault(VECTOR_TS, cpu.tr.selector & 0xFFFC | ext)
    return cpu.system.ld[8](cpu.tr.base + offset)


def inner_stack(cpu: Cpu, cpl: int, ext: int) -> tuple[int, int]:
    """(SS selector, ESP) for privilege `cpl` out of a 16- or 32-bit TSS (SDM Vol. 3A, 7.2.1)."""
    wide = bool(cpu.tr.access & 8)
    offset = 4 + 8 * cpl if wide else 2 + 4 * cpl
    last = offset + (5 if wide else 3)
    if last > cpu.tr.limit:
        raise GuestFault(VECTOR_TS, cpu.tr.selector & 0xFFFC | ext)
    at = cpu.tr.base + offset
    if wide:
        return cpu.system.ld[2](at + 4), cpu.system.ld[4](at)
    return cpu.system.ld[2](at + 2), cpu.system.ld[2](at)


def check_inner_stack(cpu: Cpu, selector: int, cpl: int, ext: int) -> Descriptor:
    """The stack segment of an inner privilege: #TS instead of #GP (SDM Vol. 2A, INT n)."""
    if is_null(selector):
        raise GuestFault(VECTOR_TS, ext)
    found = data_segment(cpu, SS, selector, cpl, VECTOR_TS, ext)
    assert found is not None
    return found


class StackBuilder:
    """Pushes onto a stack that is not loaded yet; faults name its selector."""

    def __init__(self, space: Space, base: int, lo: int, hi: int, big: bool, sp: int, error: int) -> None:
        self.space = space
        self.base, self.lo, self.hi = base, lo, hi
        self.mask = M32 if big else M16
        self.sp = sp
        self.error = error

    def push(self, value: int, size: int) -> None:
        at = self.sp - size & self.mask
        if at < self.lo or at + size - 1 > self.hi:
            raise GuestFault(VECTOR_SS, self.error)
        self.space.st_ss[size](self.base + at & M32, value & (1 << 8 * size) - 1)
        self.sp = self.sp & ~self.mask | at


def new_stack(cpu: Cpu, found: Descriptor, selector: int, sp: int, cpl: int, ext: int) -> StackBuilder:
    """A StackBuilder for a checked stack descriptor."""
    big = bool(found.access & 0x4000)
    lo, hi = 0, found.limit
    if found.access & 4:
        lo, hi = found.limit + 1, M32 if big else M16
    return StackBuilder(_push_space(cpu, cpl), found.base, lo, hi, big, sp, selector & 0xFFFC | ext)


def current_stack(cpu: Cpu, ext: int) -> StackBuilder:
    """A StackBuilder that goes on on the present stack."""
    ss = cpu.seg[SS]
    return StackBuilder(
        _push_space(cpu, cpu.cpl), ss.base, ss.lo, ss.write_hi, bool(ss.access & 0x4000), cpu.r[4] & M32, ext
    )


def _protected(cpu: Cpu, vector: int, kind: int, error: int | None, resume: bool) -> None:
    """32-bit IDT: task, interrupt and trap gates, also out of virtual-8086 mode (SDM Vol. 3A, 6.11-6.12)."""
    ext = 0 if kind == SOFTWARE else ERROR_EXT
    code = 8 * vector | ERROR_IDT | ext
    if 8 * vector + 7 > cpu.idtr.limit:
        raise protection(code)
    gate = cpu.system.ld[8](cpu.idtr.base + 8 * vector)
    gate_type = gate >> 40 & 0x1F
    if gate_type not in (5, 6, 7, 0xE, 0xF):
        raise protection(code)
    if kind == SOFTWARE and (gate >> 45 & 3) < cpu.cpl:
        raise protection(code)
    if not gate >> 47 & 1:
        raise GuestFault(VECTOR_NP, code)
    selector = gate >> 16 & 0xFFFF
    if gate_type == 5:
        tasks.switch(cpu, selector, tasks.INTERRUPT, ext, error)
        return
    size = 4 if gate_type & 8 else 2
    target = gate & 0xFFFF | (gate >> 32 & 0xFFFF0000 if size == 4 else 0)
    found, cpl = _gate_code(cpu, selector, ext, False)
    from_vm86 = bool(cpu.flags & RFLAGS_VM)
    if from_vm86 and (cpl != 0 or found.conforming):
        raise protection(selector & 0xFFFC | ext)
    stack_selector, stack_found = 0, None
    if cpl != cpu.cpl:
        stack_selector, sp = inner_stack(cpu, cpl, ext)
        stack_found = check_inner_stack(cpu, stack_selector, cpl, ext)
        stack = new_stack(cpu, stack_found, stack_selector, sp, cpl, ext)
        if from_vm86:
            for n in (GS, FS, DS, ES):
                stack.push(cpu.seg[n].selector, size)
        stack.push(cpu.seg[SS].selector, size)
        stack.push(cpu.r[4], size)
    else:
        stack = current_stack(cpu, ext)
    for value in (_frame_flags(cpu, resume), cpu.seg[CS].selector, cpu.rip):
        stack.push(value, size)
    if error is not None:
        stack.push(error, size)
    if target > found.limit:
        raise protection(ext)
    if from_vm86:
        cpu.flags &= ~RFLAGS_VM
        for n in (GS, FS, DS, ES):
            cpu.seg[n].set(0, 0, 0, UNUSABLE)
    set_code(cpu, selector, found, cpl)
    cpu.cpl = cpl
    if stack_found is not None:
        commit(cpu, SS, stack_selector, stack_found)
        cpu.r[4] = stack.sp
    else:
        cpu.r[4] = cpu.r[4] & ~stack.mask | stack.sp & stack.mask
    cpu.rip = target
    _enter_flags(cpu, gate_type & 7 == 6)


def software(cpu: Cpu, vector: int) -> None:
    """INT n, INT3, INTO from an op: faults on the way are faults of the instruction itself."""
    deliver_once(cpu, vector, SOFTWARE, None)
    cpu.skip_trap = True


def take_init(cpu: Cpu) -> None:
    """INIT: reset but for the FPU and the caches; all but the bootstrap processor wait for SIPI."""
    init(cpu)


def take_sipi(cpu: Cpu, vector: int) -> None:
    """Start-up IPI (SDM Vol. 3A, 9.4.4)."""
    start_up(cpu, vector)
