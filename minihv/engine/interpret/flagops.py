"""Instructions about RFLAGS: carry, direction, interrupt flag, PUSHF/POPF, LAHF/SAHF, CLAC/STAC."""

from minihv.engine.interpret.cpu import RAX, Cpu
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.faults import protection, undefined
from minihv.engine.interpret.flags import from_word
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
)

_ARITHMETIC = 0x8D5


def carry(change: int | None) -> Builder:
    """CLC (0), STC (1), CMC (None)."""

    def build(s: Site) -> Op:
        cpu = s.cpu

        def op() -> None:
            word = cpu.arith()
            cpu.fl = from_word(word ^ 1 if change is None else word & ~1 | change)

        return op

    return build


def direction(value: int) -> Builder:
    """CLD and STD."""

    def build(s: Site) -> Op:
        cpu = s.cpu

        def op() -> None:
            cpu.flags = cpu.flags & ~RFLAGS_DF | value

        return op

    return build


def iopl(cpu: Cpu) -> int:
    return cpu.flags >> 12 & 3


def may_touch_if(cpu: Cpu) -> bool:
    """CLI and STI are allowed: CPL (3 in virtual-8086 mode) is not above IOPL, or real mode."""
    return not cpu.cr0 & CR0_PE or cpu.cpl <= iopl(cpu)


def cli(s: Site) -> Op:
    cpu = s.cpu

    def op() -> None:
        if not may_touch_if(cpu):
            raise protection()
        cpu.flags &= ~RFLAGS_IF

    return op


def sti(s: Site) -> Op:
    """STI holds off interrupts for one more instruction if IF was clear (SDM Vol. 2B, STI)."""
    cpu = s.cpu
    s.ends_block()

    def op() -> None:
        if not may_touch_if(cpu):
            raise protection()
        if not cpu.flags & RFLAGS_IF:
            cpu.flags |= RFLAGS_IF
            cpu.shadow_sti = True
        cpu.attention = True

    return op


def pushf(size: int) -> Builder:
    """PUSHF, PUSHFD, PUSHFQ: VM and RF are pushed as zero; in virtual-8086 mode only with IOPL 3."""

    def build(s: Site) -> Op:
        cpu, push, mask = s.cpu, s.pusher(size), (1 << 8 * size) - 1

        def op() -> None:
            if cpu.flags & RFLAGS_VM and iopl(cpu) != 3:
                raise protection()
            push(cpu.get_rflags() & mask & ~(RFLAGS_VM | RFLAGS_RF))

        return op

    return build


_POPF = _ARITHMETIC | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | RFLAGS_ID


def changeable(cpu: Cpu, size: int) -> int:
    """The bits POPF may change here (SDM Vol. 2B, POPF, table 4-16): IOPL at CPL 0, IF up to IOPL."""
    mask = _POPF
    if not cpu.cr0 & CR0_PE or cpu.cpl == 0:
        mask |= RFLAGS_IOPL | RFLAGS_IF
    elif cpu.cpl <= iopl(cpu):
        mask |= RFLAGS_IF
    return mask & 0xFFFF if size == 2 else mask


def popf(size: int) -> Builder:
    def build(s: Site) -> Op:
        cpu, peek, move = s.cpu, s.peeker(size), s.stack_mover()
        s.ends_block()

        def op() -> None:
            if cpu.flags & RFLAGS_VM and iopl(cpu) != 3:
                raise protection()
            value = peek(0)
            move(size)
            mask = changeable(cpu, size)
            old = cpu.get_rflags()
            new = old & ~mask | value & mask
            if size != 2:
                new &= ~RFLAGS_RF
                if not cpu.flags & RFLAGS_VM:
                    new &= ~(RFLAGS_VIF | RFLAGS_VIP)
            cpu.set_rflags(new)

        return op

    return build


def lahf(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        r[RAX] = r[RAX] & ~0xFF00 | (cpu.arith() & 0xD5 | 2) << 8

    return op


def sahf(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        cpu.fl = from_word(cpu.arith() & 0x800 | r[RAX] >> 8 & 0xD5)

    return op


def access_check(value: int) -> Builder:
    """CLAC and STAC: CPL 0 only, #UD else."""

    def build(s: Site) -> Op:
        cpu = s.cpu
        s.ends_block()

        def op() -> None:
            if cpu.cpl or cpu.flags & RFLAGS_VM:
                raise undefined()
            old = cpu.flags
            cpu.flags = old & ~RFLAGS_AC | value
            if old != cpu.flags:
                cpu.mmu.flush_data()
                cpu.mode_changed()

        return op

    return build


def salc(s: Site) -> Op:
    """SALC (undocumented D6): AL = all ones if CF."""
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        r[RAX] = r[RAX] & ~0xFF | (0xFF if cpu.cf() else 0)

    return op


M = Mnemonic

TABLE: Table = {
    M.CLC: carry(0), M.STC: carry(1), M.CMC: carry(None), M.CLD: direction(0), M.STD: direction(RFLAGS_DF),
    M.CLI: cli, M.STI: sti, M.PUSHF: pushf(2), M.PUSHFD: pushf(4), M.PUSHFQ: pushf(8),
    M.POPF: popf(2), M.POPFD: popf(4), M.POPFQ: popf(8), M.LAHF: lahf, M.SAHF: sahf,
    M.CLAC: access_check(0), M.STAC: access_check(RFLAGS_AC), M.SALC: salc,
}  # fmt: skip
