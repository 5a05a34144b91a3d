"""What all MMX and SSE pages share: availability checks, vector operands, SIMD exceptions.

A vector operand is an unsigned integer of 64 bits (MMX register or m64) or 128 bits (XMM register or m128).
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import Cpu
from minihv.engine.interpret.faults import GuestFault, protection
from minihv.engine.interpret.site import Op, Read, Site, Write
from minihv.engine.interpret.sse_lanes import M64, M128
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import (
    CR0_EM,
    CR0_TS,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    VECTOR_MF,
    VECTOR_NM,
    VECTOR_UD,
    VECTOR_XM,
)

HIGH = M128 ^ M64
M32 = 0xFFFFFFFF
HIGH96 = M128 ^ M32
_EM_TS = CR0_EM | CR0_TS
_MMX_TAG = 0xFFFF << 64
_FSW_ES = 0x80
_TOP = 0x3800
_PRE = 7
"""IE, DE, ZE: noticed before an operation, so that none of its results exist (SDM Vol. 1, 11.5.2)."""


def is_mmx(s: Site, n: int) -> bool:
    """Whether operand `n` is an MMX register."""
    return s.is_reg(n) and 0 <= s.mmx(n) < 8


def is_xmm(s: Site, n: int) -> bool:
    """Whether operand `n` is an XMM register."""
    return s.is_reg(n) and 0 <= s.xmm(n) < 16


def uses_mmx(s: Site) -> bool:
    """Whether any operand is an MMX register (then the x87 state is involved)."""
    return any(is_mmx(s, n) for n in range(s.insn.op_count))


# Availability --------------------------------------------------------------------------------------


def unavailable(cpu: Cpu) -> GuestFault:
    """Why SSE cannot be used now (SDM Vol. 3A, table 14-1): #UD goes before #NM."""
    if cpu.cr0 & CR0_EM or not cpu.cr4 & CR4_OSFXSR:
        return GuestFault(VECTOR_UD)
    return GuestFault(VECTOR_NM)


def guard_sse(cpu: Cpu, op: Op) -> Op:
    """`op` behind the checks of every SSE instruction that touches XMM registers or MXCSR."""

    def guarded() -> None:
        if cpu.cr0 & _EM_TS or not cpu.cr4 & CR4_OSFXSR:
            raise unavailable(cpu)
        op()

    return guarded


def guard_mmx(cpu: Cpu, op: Op, sse: bool = False) -> Op:
    """`op` behind the checks of MMX (SDM Vol. 3A, 13.1), and the tags set by it afterwards (12.2).

    `sse`: the instruction uses XMM registers too.
    """
    fpu = cpu.fpu

    def guarded() -> None:
        if cpu.cr0 & CR0_EM or (sse and not cpu.cr4 & CR4_OSFXSR):
            raise GuestFault(VECTOR_UD)
        if cpu.cr0 & CR0_TS:
            raise GuestFault(VECTOR_NM)
        if fpu.fsw & _FSW_ES:
            raise GuestFault(VECTOR_MF)
        op()
        fpu.fsw &= ~_TOP
        fpu.empty = 0

    return guarded


def guarded(builder: Builder) -> Builder:
    """`builder` with the checks that its operands ask for around its op."""

    def build(s: Site) -> Op:
        op = builder(s)
        if not uses_mmx(s):
            return guard_sse(s.cpu, op)
        return guard_mmx(s.cpu, op, any(is_xmm(s, n) for n in range(s.insn.op_count)))

    return build


def guard_table(table: Table) -> Table:
    """Every builder of `table`, guarded."""
    return {mnemonic: guarded(builder) for mnemonic, builder in table.items()}


# Operands ------------------------------------------------------------------------------------------


def width(s: Site) -> int:
    """8 for an instruction on MMX registers, 16 for one on XMM registers."""
    return 8 if is_mmx(s, 0) or (s.insn.op_count > 1 and is_mmx(s, 1) and not is_xmm(s, 0)) else 16


def aligned(address: Read) -> Read:
    """#GP(0) at addresses that are no multiple of 16 (SDM Vol. 1, 4.1.1)."""

    def checked() -> int:
        lin = address()
        if lin & 15:
            raise protection()
        return lin

    return checked


def load16(s: Site) -> Read:
    """Closure that loads the aligned 128-bit memory operand."""
    address, ld = s.address(16, False), s.ld(16)

    def load() -> int:
        lin = address()
        if lin & 15:
            raise protection()
        return ld(lin)

    return load


def source(s: Site, n: int, size: int = 16) -> Read:
    """Closure that reads vector operand `n`: a register, or `size` bytes of memory (16: aligned)."""
    if s.is_mem(n):
        return load16(s) if size == 16 else s.load_operand(size)
    if is_mmx(s, n):
        regs, i = s.cpu.fpu.regs, s.mmx(n)
        return lambda: regs[i] & M64
    xmm, j = s.cpu.xmm, s.xmm(n)
    return lambda: xmm[j]


def mmx_writer(s: Site, n: int) -> Write:
    """Closure that sets an MMX register; the exponent field becomes all ones (SDM Vol. 1, 9.2.1)."""
    regs, i = s.cpu.fpu.regs, s.mmx(n)

    def write(value: int) -> None:
        regs[i] = _MMX_TAG | value

    return write


def xmm_writer(s: Site, n: int) -> Write:
    """Closure that sets a whole XMM register."""
    xmm, i = s.cpu.xmm, s.xmm(n)

    def write(value: int) -> None:
        xmm[i] = value

    return write


def target(s: Site, n: int = 0) -> Write:
    """Closure that sets vector register `n`."""
    return mmx_writer(s, n) if is_mmx(s, n) else xmm_writer(s, n)


def combine(function: Callable[[int, int], int]) -> Builder:
    """Builder of `xmm0 = function(xmm0, operand 1)`, for XMM registers only."""

    def build(s: Site) -> Op:
        xmm, d = s.cpu.xmm, s.xmm(0)
        if s.is_mem(1):
            load = load16(s)

            def from_memory() -> None:
                xmm[d] = function(xmm[d], load())

            return from_memory
        e = s.xmm(1)

        def from_register() -> None:
            xmm[d] = function(xmm[d], xmm[e])

        return from_register

    return build


def combine_lanes(functions: dict[int, Callable[[int, int], int]]) -> Builder:
    """Builder of `op0 = function(op0, op1)`, the function chosen by register width (8 MMX, 16 XMM)."""
    wide = combine(functions[16])
    narrow = functions[8]

    def build(s: Site) -> Op:
        if not is_mmx(s, 0):
            return wide(s)
        read, other, write = source(s, 0), source(s, 1, 8), mmx_writer(s, 0)

        def op() -> None:
            write(narrow(read(), other()))

        return op

    return build


# SIMD floating-point exceptions ----------------------------------------------------------------------


def raise_flags(cpu: Cpu, flags: int) -> None:
    """Record exception flags (0..63) in MXCSR; raise #XM, or #UD without OSXMMEXCPT, if one is unmasked.

    An unmasked IE, DE or ZE of any element keeps the later flags from being reported (SDM Vol. 1, 11.5.2).
    """
    unmasked = flags & ~(cpu.mxcsr >> 7)
    if unmasked & _PRE:
        flags &= _PRE
    cpu.mxcsr |= flags
    if unmasked:
        raise GuestFault(VECTOR_XM if cpu.cr4 & CR4_OSXMMEXCPT else VECTOR_UD)
