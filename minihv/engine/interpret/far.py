"""Far transfers: JMP, CALL, RET, IRET through segments, gates and tasks; SYSCALL and SYSENTER families.

SDM Vol. 2A/2B (CALL, JMP, RET, IRET/IRETD/IRETQ, SYSCALL, SYSENTER ...), Vol. 3A 5.8.
"""

from collections.abc import Callable

from minihv.engine.interpret import tasks
from minihv.engine.interpret.cpu import CS, DS, ES, FS, GS, M16, M32, M64, RSP, SS, Cpu
from minihv.engine.interpret.decode import Code, Mnemonic, OpKind
from minihv.engine.interpret.descriptors import (
    UNUSABLE,
    Descriptor,
    commit,
    drop_inaccessible,
    fetch,
    is_null,
    load_real,
    set_code,
)
from minihv.engine.interpret.faults import GuestFault, protection, stack_fault
from minihv.engine.interpret.flagops import iopl
from minihv.engine.interpret.interrupts import check_inner_stack, inner_stack, new_stack
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import (
    CR0_PE,
    RFLAGS_AC,
    RFLAGS_DF,
    RFLAGS_ID,
    RFLAGS_IF,
    RFLAGS_IOPL,
    RFLAGS_NT,
    RFLAGS_RF,
    RFLAGS_TF,
    RFLAGS_VIF,
    RFLAGS_VIP,
    RFLAGS_VM,
    VECTOR_NP,
    VECTOR_SS,
    VECTOR_TS,
)

_ARITHMETIC = 0x8D5


def _pointer(s: Site) -> tuple[int, Callable[[], tuple[int, int]]]:
    """(operand size, closure giving (selector, offset)) of a far JMP or CALL."""
    insn = s.insn
    kind = insn.op_kind(0)
    if kind == OpKind.FAR_BRANCH16:
        fixed16 = insn.far_branch_selector, insn.far_branch16
        return 2, lambda: fixed16
    if kind == OpKind.FAR_BRANCH32:
        fixed32 = insn.far_branch_selector, insn.far_branch32
        return 4, lambda: fixed32
    size = {
        Code.JMP_M1616: 2, Code.CALL_M1616: 2, Code.JMP_M1632: 4, Code.CALL_M1632: 4,
        Code.JMP_M1664: 8, Code.CALL_M1664: 8,
    }[insn.code]  # fmt: skip
    # AMD's processors have no 64-bit offsets (APM Vol. 3, JMP (Far)), and ring 3 is checked against them.
    # In ring 0, KVM's and QEMU's emulators take 64 bits whatever the vendor, and kernels rely on it.
    width = min(size, 4) if s.cpu.amd and s.mode.user else size
    address, ld, ld2 = s.address(width + 2, False), s.ld(width), s.ld(2)

    def load() -> tuple[int, int]:
        at = address()
        return ld2(at + width), ld(at)

    return size, load


def _check_target(found: Descriptor, offset: int, is_long: bool) -> None:
    """A target outside its code segment is #GP(0)."""
    if is_long and found.access & 0x2000:
        if (offset >> 47) + 1 & 0x1FFFE:
            raise protection()
    elif offset > found.limit:
        raise protection()


def _bad_long(cpu: Cpu, found: Descriptor) -> bool:
    """L and D both set is reserved in long mode."""
    return cpu.long_mode and found.access & 0x6000 == 0x6000


def _direct_code(cpu: Cpu, selector: int, found: Descriptor) -> None:
    """Privilege of a direct transfer: conforming DPL <= CPL; nonconforming DPL = CPL, RPL <= CPL."""
    code = selector & 0xFFFC
    if _bad_long(cpu, found):
        raise protection(code)
    if found.conforming:
        if found.dpl > cpu.cpl:
            raise protection(code)
    elif found.dpl != cpu.cpl or selector & 3 > cpu.cpl:
        raise protection(code)
    if not found.present:
        raise GuestFault(VECTOR_NP, code)


def _call_gate(cpu: Cpu, selector: int, gate: Descriptor) -> tuple[int, int, Descriptor, int]:
    """(selector, offset, code descriptor, operand size) that a call gate leads to."""
    code = selector & 0xFFFC
    if gate.dpl < max(cpu.cpl, selector & 3):
        raise protection(code)
    if not gate.present:
        raise GuestFault(VECTOR_NP, code)
    raw = gate.raw
    target = raw >> 16 & 0xFFFF
    if cpu.long_mode:
        high = cpu.system.ld[8](gate.address + 8)
        if high >> 40 & 0x1F:
            raise protection(code)
        offset, size = raw & 0xFFFF | raw >> 32 & 0xFFFF0000 | (high & M32) << 32, 8
    elif gate.type == 12:
        offset, size = raw & 0xFFFF | raw >> 32 & 0xFFFF0000, 4
    else:
        offset, size = raw & 0xFFFF, 2
    if is_null(target):
        raise protection()
    found = fetch(cpu, target)
    if not found.code or found.dpl > cpu.cpl:
        raise protection(target & 0xFFFC)
    if cpu.long_mode and found.access & 0x6000 != 0x2000:
        raise protection(target & 0xFFFC)
    if not found.present:
        raise GuestFault(VECTOR_NP, target & 0xFFFC)
    return target, offset, found, size


def _gate_types(cpu: Cpu) -> tuple[int, ...]:
    return (12,) if cpu.long_mode else (4, 12)


def _far_target(cpu: Cpu, selector: int) -> Descriptor:
    if is_null(selector):
        raise protection()
    return fetch(cpu, selector)


def jump_far(s: Site) -> Op:
    _, pointer = _pointer(s)
    cpu = s.cpu
    s.ends_block()

    def op() -> None:
        selector, offset = pointer()
        if not cpu.protected:
            _real_transfer(cpu, selector, offset)
            return
        found = _far_target(cpu, selector)
        if found.code:
            _direct_code(cpu, selector, found)
            _check_target(found, offset, cpu.long_mode)
            set_code(cpu, selector, found, cpu.cpl)
            cpu.rip = offset
            cpu.mode_changed()
        elif found.type in _gate_types(cpu):
            target, offset, code, _ = _call_gate(cpu, selector, found)
            if not code.conforming and code.dpl != cpu.cpl:
                raise protection(target & 0xFFFC)
            _check_target(code, offset, cpu.long_mode)
            set_code(cpu, target, code, cpu.cpl)
            cpu.rip = offset
            cpu.mode_changed()
        else:
            _task_transfer(cpu, selector, found, tasks.JUMP)

    return op


def _real_transfer(cpu: Cpu, selector: int, offset: int) -> None:
    """JMP in real or virtual-8086 mode."""
    if offset > (M16 if cpu.flags & RFLAGS_VM else cpu.seg[CS].limit):
        raise protection()
    load_real(cpu, CS, selector)
    cpu.rip = offset
    cpu.mode_changed()


def _task_transfer(cpu: Cpu, selector: int, found: Descriptor, why: int) -> None:
    """JMP or CALL to a TSS or a task gate."""
    code = selector & 0xFFFC
    if cpu.long_mode or found.type not in (1, 9, 5):
        raise protection(code)
    if found.dpl < max(cpu.cpl, selector & 3):
        raise protection(code)
    if found.type == 5:
        if not found.present:
            raise GuestFault(VECTOR_NP, code)
        selector = found.raw >> 16 & 0xFFFF
    tasks.switch(cpu, selector, why)


def call_far(s: Site) -> Op:
    size, pointer = _pointer(s)
    cpu, push = s.cpu, s.pusher(size)
    back = s.next_ip & (1 << 8 * size) - 1
    s.ends_block()

    def push_return() -> None:
        sp = cpu.r[RSP]
        try:
            push(cpu.seg[CS].selector)
            push(back)
        except BaseException:
            cpu.r[RSP] = sp
            raise

    def op() -> None:
        selector, offset = pointer()
        if not cpu.protected:
            if offset > (M16 if cpu.flags & RFLAGS_VM else cpu.seg[CS].limit):
                raise protection()
            push_return()
            _real_transfer(cpu, selector, offset)
            return
        found = _far_target(cpu, selector)
        if found.code:
            _direct_code(cpu, selector, found)
            _check_target(found, offset, cpu.long_mode)
            push_return()
            set_code(cpu, selector, found, cpu.cpl)
            cpu.rip = offset
            cpu.mode_changed()
        elif found.type in _gate_types(cpu):
            _call_through(cpu, s, selector, found)
        else:
            _task_transfer(cpu, selector, found, tasks.CALL)

    return op


def _call_through(cpu: Cpu, s: Site, selector: int, gate: Descriptor) -> None:
    """CALL through a call gate, with a stack switch where the privilege rises (SDM Vol. 3A, 5.8.5)."""
    target, offset, found, size = _call_gate(cpu, selector, gate)
    _check_target(found, offset, cpu.long_mode)
    mask = (1 << 8 * size) - 1
    back, old_cs = s.next_ip & mask, cpu.seg[CS].selector
    if found.conforming or found.dpl == cpu.cpl:
        push, sp = s.pusher(size), cpu.r[RSP]
        try:
            push(old_cs)
            push(back)
        except BaseException:
            cpu.r[RSP] = sp
            raise
        set_code(cpu, target, found, cpu.cpl)
    elif cpu.long_mode:
        _call_inner_long(cpu, target, found, back)
    else:
        _call_inner(cpu, gate, target, found, back, size)
    cpu.rip = offset
    cpu.mode_changed()


def _call_inner_long(cpu: Cpu, target: int, found: Descriptor, back: int) -> None:
    cpl = found.dpl
    at = 4 + 8 * cpl
    if at + 7 > cpu.tr.limit:
        raise GuestFault(VECTOR_TS, cpu.tr.selector & 0xFFFC)
    sp = cpu.system.ld[8](cpu.tr.base + at)
    if (sp >> 47) + 1 & 0x1FFFE:
        raise stack_fault()
    store = cpu.supervisor.st_ss[8]
    for value in (cpu.seg[SS].selector, cpu.r[RSP], cpu.seg[CS].selector, back):
        sp = sp - 8 & M64
        store(sp, value)
    set_code(cpu, target, found, cpl)
    cpu.cpl = cpl
    cpu.seg[SS].set(cpl, 0, 0, UNUSABLE | cpl << 5)
    cpu.r[RSP] = sp


def _call_inner(cpu: Cpu, gate: Descriptor, target: int, found: Descriptor, back: int, size: int) -> None:
    cpl = found.dpl
    stack_selector, sp = inner_stack(cpu, cpl, 0)
    stack_found = check_inner_stack(cpu, stack_selector, cpl, 0)
    stack = new_stack(cpu, stack_found, stack_selector, sp, cpl, 0)
    ss, old_sp = cpu.seg[SS], cpu.r[RSP]
    stack_mask = M32 if ss.access & 0x4000 else M16
    parameters = []
    for n in range(gate.raw >> 32 & 0x1F):
        at = old_sp + n * size & stack_mask
        if at < ss.lo or at + size - 1 > ss.read_hi:
            raise stack_fault()
        parameters.append(cpu.memory.ld_ss[size](ss.base + at & M32))
    stack.push(ss.selector, size)
    stack.push(old_sp, size)
    for value in reversed(parameters):
        stack.push(value, size)
    stack.push(cpu.seg[CS].selector, size)
    stack.push(back, size)
    set_code(cpu, target, found, cpl)
    cpu.cpl = cpl
    commit(cpu, SS, stack_selector, stack_found)
    cpu.r[RSP] = stack.sp


# --- returns ------------------------------------------------------------------------------------------


def _return_code(cpu: Cpu, selector: int) -> Descriptor:
    """The code segment that a far return goes to."""
    if is_null(selector):
        raise protection()
    found = fetch(cpu, selector)
    code, rpl = selector & 0xFFFC, selector & 3
    if not found.code or rpl < cpu.cpl or _bad_long(cpu, found):
        raise protection(code)
    if found.conforming:
        if found.dpl > rpl:
            raise protection(code)
    elif found.dpl != rpl:
        raise protection(code)
    if not found.present:
        raise GuestFault(VECTOR_NP, code)
    return found


def _return_stack(cpu: Cpu, selector: int, rpl: int, to64: bool) -> Descriptor | None:
    """The stack segment popped on a return; None for the null selector that 64-bit mode allows."""
    if is_null(selector):
        if to64 and rpl != 3 and selector & 3 == rpl:
            return None
        raise protection()
    found = fetch(cpu, selector)
    code = selector & 0xFFFC
    if selector & 3 != rpl or not found.writable_data or found.dpl != rpl:
        raise protection(code)
    if not found.present:
        raise GuestFault(VECTOR_SS, code)
    return found


def retf(s: Site) -> Op:
    size = {
        Code.RETFW: 2, Code.RETFW_IMM16: 2, Code.RETFD: 4, Code.RETFD_IMM16: 4,
        Code.RETFQ: 8, Code.RETFQ_IMM16: 8,
    }[s.insn.code]  # fmt: skip
    extra = s.insn.immediate(0) & 0xFFFF if s.insn.op_count else 0
    cpu, peek, move = s.cpu, s.peeker(size), s.stack_mover()
    s.ends_block()

    def op() -> None:
        offset, selector = peek(0), peek(size) & 0xFFFF
        if not cpu.protected:
            if offset > (M16 if cpu.flags & RFLAGS_VM else cpu.seg[CS].limit):
                raise protection()
            load_real(cpu, CS, selector)
            cpu.rip = offset
            move(2 * size + extra)
            cpu.mode_changed()
            return
        found = _return_code(cpu, selector)
        rpl = selector & 3
        _check_target(found, offset, cpu.long_mode)
        if rpl == cpu.cpl:
            set_code(cpu, selector, found, cpu.cpl)
            move(2 * size + extra)
        else:
            new_sp, new_ss = peek(2 * size + extra), peek(3 * size + extra) & 0xFFFF
            _outward(cpu, selector, found, new_ss, new_sp + extra, size)
        cpu.rip = offset
        cpu.mode_changed()

    return op


def _outward(cpu: Cpu, selector: int, found: Descriptor, new_ss: int, new_sp: int, size: int) -> None:
    """Return to an outer privilege: CS, SS, RSP; data segments it may not see are nulled."""
    rpl = selector & 3
    to64 = cpu.long_mode and bool(found.access & 0x2000)
    stack = _return_stack(cpu, new_ss, rpl, to64)
    set_code(cpu, selector, found, rpl)
    cpu.cpl = rpl
    commit(cpu, SS, new_ss, stack)
    _set_sp(cpu, new_sp, size)
    drop_inaccessible(cpu)


def _set_sp(cpu: Cpu, sp: int, size: int) -> None:
    """Load RSP after SS: as wide as the new stack and the operand are."""
    if size == 8 or cpu.in64:
        cpu.r[RSP] = sp & M64
    elif cpu.seg[SS].access & 0x4000:
        cpu.r[RSP] = sp & M32
    else:
        cpu.r[RSP] = cpu.r[RSP] & ~M16 | sp & M16


def iret(size: int) -> Builder:
    """IRET, IRETD, IRETQ."""

    def build(s: Site) -> Op:
        cpu, peek, move = s.cpu, s.peeker(size), s.stack_mover()
        s.ends_block()

        def op() -> None:
            cpu.nmi_masked = False  # even if it faults (SDM Vol. 3A, 6.7.1)
            cpu.attention = True
            if not cpu.cr0 & CR0_PE:
                _iret_real(cpu, size, peek, move)
            elif cpu.flags & RFLAGS_VM:
                if iopl(cpu) != 3:
                    raise protection()
                _iret_real(cpu, size, peek, move)
            elif cpu.flags & RFLAGS_NT:
                if cpu.long_mode:
                    raise protection()
                back = cpu.system.ld[2](cpu.tr.base)
                tasks.switch(cpu, back, tasks.IRET)
            else:
                _iret_protected(cpu, s, size, peek, move)
            cpu.keep_rf = True

        return op

    return build


def _iret_real(cpu: Cpu, size: int, peek: Callable[[int], int], move: Callable[[int], None]) -> None:
    """Real mode, and virtual-8086 mode with IOPL 3 (which keeps IOPL)."""
    offset, selector, flags = peek(0), peek(size) & 0xFFFF, peek(2 * size)
    if offset > (M16 if cpu.flags & RFLAGS_VM else cpu.seg[CS].limit):
        raise protection()
    mask = _ARITHMETIC | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_NT
    if not cpu.flags & RFLAGS_VM:
        mask |= RFLAGS_IOPL
    if size == 4:
        mask |= RFLAGS_RF | RFLAGS_AC | RFLAGS_ID
    load_real(cpu, CS, selector)
    cpu.rip = offset
    move(3 * size)
    cpu.set_rflags(cpu.get_rflags() & ~mask | flags & mask)
    cpu.mode_changed()


def _iret_protected(
    cpu: Cpu, s: Site, size: int, peek: Callable[[int], int], move: Callable[[int], None]
) -> None:
    offset, selector, flags = peek(0), peek(size) & 0xFFFF, peek(2 * size)
    if flags & RFLAGS_VM and size == 4 and cpu.cpl == 0 and not cpu.long_mode:
        _iret_to_vm86(cpu, offset, selector, flags, peek)
        return
    found = _return_code(cpu, selector)
    rpl = selector & 3
    _check_target(found, offset, cpu.long_mode)
    mask = _ARITHMETIC | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT
    if size != 2:
        mask |= RFLAGS_RF | RFLAGS_AC | RFLAGS_ID
    if cpu.cpl <= iopl(cpu):
        mask |= RFLAGS_IF
    if cpu.cpl == 0:
        mask |= RFLAGS_IOPL
        if size != 2:
            mask |= RFLAGS_VIF | RFLAGS_VIP
    if rpl != cpu.cpl or s.mode.bits == 64:
        # 64-bit mode pops SS:RSP in any case (SDM Vol. 2A, IRET).
        new_sp, new_ss = peek(3 * size), peek(4 * size) & 0xFFFF
        if rpl == cpu.cpl:
            to64 = bool(found.access & 0x2000)
            stack = _return_stack(cpu, new_ss, rpl, to64)
            set_code(cpu, selector, found, rpl)
            commit(cpu, SS, new_ss, stack)
            _set_sp(cpu, new_sp, size)
        else:
            _outward(cpu, selector, found, new_ss, new_sp, size)
    else:
        set_code(cpu, selector, found, rpl)
        move(3 * size)
    cpu.rip = offset
    cpu.set_rflags(cpu.get_rflags() & ~mask | flags & mask)
    cpu.mode_changed()


def _iret_to_vm86(cpu: Cpu, offset: int, selector: int, flags: int, peek: Callable[[int], int]) -> None:
    """Return into virtual-8086 mode: nine doublewords (SDM Vol. 3A, 20.2.5)."""
    sp, ss, es, ds, fs, gs = (peek(4 * n) for n in range(3, 9))
    if offset > M16:
        raise protection()
    cpu.cpl = 3
    cpu.set_rflags(flags)
    for n, value in ((CS, selector), (SS, ss), (ES, es), (DS, ds), (FS, fs), (GS, gs)):
        load_real(cpu, n, value & 0xFFFF)
    cpu.r[RSP] = sp
    cpu.rip = offset & M16
    cpu.mode_changed()


M = Mnemonic

TABLE: Table = {
    M.RETF: retf, M.IRET: iret(2), M.IRETD: iret(4), M.IRETQ: iret(8),
}  # fmt: skip
