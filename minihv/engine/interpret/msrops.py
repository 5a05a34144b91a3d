"""RDMSR and WRMSR."""

from minihv.engine.interpret import msrs
from minihv.engine.interpret.cpu import M32, RAX, RCX, RDX
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.site import Op, Site, require_cpl0
from minihv.engine.interpret.table import Table


def rdmsr(s: Site) -> Op:
    cpu, r = s.cpu, s.cpu.r

    def op() -> None:
        require_cpl0(cpu)
        value = msrs.read(cpu, r[RCX] & M32)
        r[RAX], r[RDX] = value & M32, value >> 32

    return op


def wrmsr(s: Site) -> Op:
    """WRMSR ends the block: EFER changes the mode, x2APIC registers what is pending."""
    cpu, r = s.cpu, s.cpu.r
    s.ends_block()

    def op() -> None:
        require_cpl0(cpu)
        msrs.write(cpu, r[RCX] & M32, (r[RDX] & M32) << 32 | r[RAX] & M32)
        cpu.attention = True

    return op


TABLE: Table = {Mnemonic.RDMSR: rdmsr, Mnemonic.WRMSR: wrmsr}
