"""MXCSR and EMMS."""

from minihv.engine.interpret.cpu import Cpu
from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.faults import GuestFault, protection
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.sse_operands import guard_table
from minihv.engine.interpret.table import Table
from minihv.x86.registers import CR0_EM, CR0_TS, VECTOR_MF, VECTOR_NM, VECTOR_UD

MXCSR_MASK = 0xFFFF
"""Bits of MXCSR that exist, DAZ among them (SDM Vol. 1, 11.6.6)."""


def ldmxcsr(s: Site) -> Op:
    """A reserved bit is #GP. Flags set together with their unmasked bits raise nothing by themselves."""
    cpu, read = s.cpu, s.load_operand(4)

    def op() -> None:
        value = read()
        if value & ~MXCSR_MASK:
            raise protection()
        cpu.mxcsr = value

    return op


def stmxcsr(s: Site) -> Op:
    cpu, address, st = s.cpu, s.address(4, True), s.st(4)

    def op() -> None:
        st(address(), cpu.mxcsr)

    return op


def check_mmx(cpu: Cpu) -> None:
    """What every MMX instruction checks (SDM Vol. 3A, 13.1)."""
    if cpu.cr0 & CR0_EM:
        raise GuestFault(VECTOR_UD)
    if cpu.cr0 & CR0_TS:
        raise GuestFault(VECTOR_NM)
    if cpu.fpu.fsw & 0x80:
        raise GuestFault(VECTOR_MF)


def emms(s: Site) -> Op:
    """All x87 registers empty; TOP is 0, as after any MMX instruction."""
    cpu = s.cpu

    def op() -> None:
        check_mmx(cpu)
        cpu.fpu.empty = 0xFF
        cpu.fpu.fsw &= ~0x3800

    return op


TABLE: Table = guard_table({Mn.LDMXCSR: ldmxcsr, Mn.STMXCSR: stmxcsr}) | {Mn.EMMS: emms}
"""Fences, prefetches and cache hints check nothing of SSE: they are in `moves`."""
