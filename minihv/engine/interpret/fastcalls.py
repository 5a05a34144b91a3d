"""Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM Vol. 2B; APM Vol. 3 where AMD differs)."""

from minihv.engine.interpret import msrs
from minihv.engine.interpret.cpu import CS, M32, M64, RCX, RDX, RSP, SS, Cpu
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.descriptors import UNUSABLE
from minihv.engine.interpret.faults import protection, undefined
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Table
from minihv.x86.registers import (
    CR0_PE,
    DR6_BS,
    EFER_SCE,
    MSR_CSTAR,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_STAR,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_EIP,
    MSR_SYSENTER_ESP,
    RFLAGS_IF,
    RFLAGS_RF,
    RFLAGS_TF,
    RFLAGS_VM,
)

_CODE32, _CODE64 = 0xC09B, 0xA09B
_DATA32 = 0xC093


def _flat(cpu: Cpu, code: int, stack: int, cpl: int, code_access: int) -> None:
    """CS and SS as the fast calls set them: fixed contents, nothing is read from a table."""
    cpu.seg[CS].set(code, 0, M32, code_access | cpl << 5)
    cpu.seg[SS].set(stack, 0, M32, _DATA32 | cpl << 5)
    cpu.cpl = cpl


def _trap_by_new_flags(cpu: Cpu) -> None:
    """SYSCALL and SYSRET trap if TF is set *after* them, so that FMASK can keep the kernel from #DB and
    SYSRET gives the trap of the SYSCALL that lost it."""
    cpu.skip_trap = True
    if cpu.flags & RFLAGS_TF:
        cpu.trap |= DR6_BS
        cpu.attention = True


def syscall(s: Site) -> Op:
    """SYSCALL; outside 64-bit mode AMD only (compatibility mode by CSTAR, legacy mode by STAR)."""
    cpu, r = s.cpu, s.cpu.r
    s.ends_block()

    def op() -> None:
        if not cpu.efer & EFER_SCE or not cpu.cr0 & CR0_PE or cpu.flags & RFLAGS_VM:
            raise undefined()
        if s.mode.bits != 64 and not cpu.amd:
            raise undefined()
        star = cpu.msrs.get(MSR_STAR, 0)
        selector = star >> 32 & 0xFFFC
        if cpu.long_mode:
            r[RCX] = s.next_ip
            r[11] = cpu.get_rflags() & ~RFLAGS_RF
            target = cpu.msrs.get(MSR_LSTAR if s.mode.bits == 64 else MSR_CSTAR, 0)
            mask = cpu.msrs.get(MSR_SFMASK, 0)
            _flat(cpu, selector, selector + 8, 0, _CODE64)
            cpu.rip = target
            cpu.set_rflags(cpu.get_rflags() & ~(mask | RFLAGS_RF))
        else:
            r[RCX] = s.next_ip
            _flat(cpu, selector, selector + 8, 0, _CODE32)
            cpu.rip = star & M32
            cpu.set_rflags(cpu.get_rflags() & ~(RFLAGS_IF | RFLAGS_RF | RFLAGS_VM))
        _trap_by_new_flags(cpu)
        cpu.mode_changed()

    return op


def sysret(s: Site) -> Op:
    """SYSRET; with REX.W back to 64-bit mode."""
    cpu, r = s.cpu, s.cpu.r
    wide = s.insn.mnemonic == Mnemonic.SYSRETQ
    s.ends_block()

    def op() -> None:
        if not cpu.efer & EFER_SCE or not cpu.cr0 & CR0_PE or cpu.flags & RFLAGS_VM:
            raise undefined()
        if s.mode.bits != 64 and not cpu.amd:
            raise undefined()
        if cpu.cpl:
            raise protection()
        selector = cpu.msrs.get(MSR_STAR, 0) >> 48
        if wide:
            if msrs.is_canonical(r[RCX]):
                cpu.rip = r[RCX]
            elif cpu.amd:
                cpu.rip = r[RCX]  # AMD faults on the fetch, in the outer ring
            else:
                raise protection()
            code, access = selector + 16 | 3, _CODE64
        else:
            cpu.rip = r[RCX] & M32
            code, access = selector | 3, _CODE32
        stack = cpu.seg[SS]
        hidden = stack.base, stack.limit, stack.access
        _flat(cpu, code & 0xFFFF, selector + 8 & 0xFFFF | 3, 3, access)
        if cpu.amd and not hidden[2] & UNUSABLE:
            # APM Vol. 3, SYSRET: only the selector of SS changes, the hidden part stays (but for our DPL).
            stack.set(stack.selector, hidden[0], hidden[1], hidden[2] | 0x60)
        if cpu.long_mode:
            keep = RFLAGS_RF | RFLAGS_VM
            cpu.set_rflags(r[11] & ~keep)
        else:
            cpu.set_rflags(cpu.get_rflags() | RFLAGS_IF)
        _trap_by_new_flags(cpu)
        cpu.mode_changed()

    return op


def sysenter(s: Site) -> Op:
    """SYSENTER; not in long mode on AMD."""
    cpu, r = s.cpu, s.cpu.r
    s.ends_block()

    def op() -> None:
        if cpu.amd and cpu.long_mode:
            raise undefined()
        selector = cpu.msrs.get(MSR_SYSENTER_CS, 0)
        if not cpu.cr0 & CR0_PE or not selector & 0xFFFC:
            raise protection()
        wide = cpu.long_mode
        cpu.set_rflags(cpu.get_rflags() & ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF))
        _flat(cpu, selector & 0xFFFC, selector + 8 & 0xFFFC, 0, _CODE64 if wide else _CODE32)
        mask = M64 if wide else M32
        r[RSP] = cpu.msrs.get(MSR_SYSENTER_ESP, 0) & mask
        cpu.rip = cpu.msrs.get(MSR_SYSENTER_EIP, 0) & mask
        cpu.mode_changed()

    return op


def sysexit(s: Site) -> Op:
    """SYSEXIT: to RDX with stack RCX; with REX.W to 64-bit mode."""
    cpu, r = s.cpu, s.cpu.r
    wide = s.insn.mnemonic == Mnemonic.SYSEXITQ
    s.ends_block()

    def op() -> None:
        if cpu.amd and cpu.long_mode:
            raise undefined()
        selector = cpu.msrs.get(MSR_SYSENTER_CS, 0)
        if not cpu.cr0 & CR0_PE or not selector & 0xFFFC or cpu.cpl:
            raise protection()
        if wide:
            if not msrs.is_canonical(r[RCX]) or not msrs.is_canonical(r[RDX]):
                raise protection()
            _flat(cpu, selector + 32 & 0xFFFF | 3, selector + 40 & 0xFFFF | 3, 3, _CODE64)
            cpu.rip, r[RSP] = r[RDX], r[RCX]
        else:
            _flat(cpu, selector + 16 & 0xFFFF | 3, selector + 24 & 0xFFFF | 3, 3, _CODE32)
            cpu.rip, r[RSP] = r[RDX] & M32, r[RCX] & M32
        cpu.mode_changed()

    return op


M = Mnemonic

TABLE: Table = {
    M.SYSCALL: syscall, M.SYSRET: sysret, M.SYSRETQ: sysret,
    M.SYSENTER: sysenter, M.SYSEXIT: sysexit, M.SYSEXITQ: sysexit,
}  # fmt: skip
