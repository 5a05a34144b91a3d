"""Power-on, INIT and start-up IPI (SDM Vol. 3A, 9.1 and table 10-1)."""

from minihv.engine.interpret.cpu import CS, RDX, Cpu
from minihv.engine.interpret.flags import from_word
from minihv.x86.registers import CR0_CD, CR0_NW, DR6_RESET, DR7_RESET, RFLAGS_FIXED

SIGNATURE = 0x600
"""EDX after reset: family 6 in the processor signature. CPUID may say more; software hardly looks here."""


def power_on(cpu: Cpu) -> None:
    """RESET: everything, FPU and MSRs included."""
    _architectural(cpu)
    cpu.cr0 = 0x60000010
    cpu.fpu.reset()
    cpu.xmm[:] = [0] * 16
    cpu.mxcsr = 0x1F80
    cpu.xcr0 = 1
    cpu.pkru = 0
    cpu.msrs.clear()
    cpu.tsc_offset = 0
    cpu.mode_changed()


def init(cpu: Cpu) -> None:
    """INIT: FPU, MSRs and the cache bits of CR0 stay; all but the bootstrap processor wait for SIPI."""
    cache = cpu.cr0 & (CR0_CD | CR0_NW)
    _architectural(cpu)
    cpu.cr0 = 0x10 | cache
    cpu.halted = cpu.shutdown = False
    cpu.nmi_pending = cpu.nmi_masked = False
    cpu.shadow_sti = cpu.shadow_mov_ss = False
    cpu.trap = 0
    if cpu.local_apic is not None:
        cpu.local_apic.reset()
    cpu.wait_sipi = not _bootstrap(cpu)
    cpu.mmu.flush()
    cpu.mode_changed()
    cpu.attention = True


def start_up(cpu: Cpu, vector: int) -> None:
    """SIPI: go in real mode at vector << 12."""
    cpu.wait_sipi = False
    cpu.halted = False
    cs = cpu.seg[CS]
    cs.set(vector << 8, vector << 12, 0xFFFF, cs.access)
    cpu.rip = 0
    cpu.mode_changed()


def _bootstrap(cpu: Cpu) -> bool:
    base = cpu.local_apic.read_msr(0x1B) if cpu.local_apic is not None else None
    return bool(base & 0x100) if base is not None else cpu.index == 0


def _architectural(cpu: Cpu) -> None:
    cpu.r[:] = [0] * 16
    cpu.r[RDX] = SIGNATURE
    cpu.rip = 0xFFF0
    cpu.fl = from_word(0)
    cpu.flags = RFLAGS_FIXED
    for n, seg in enumerate(cpu.seg):
        if n == CS:
            seg.set(0xF000, 0xFFFF0000, 0xFFFF, 0x9B)
        else:
            seg.set(0, 0, 0xFFFF, 0x93)
    cpu.ldtr.set(0, 0, 0xFFFF, 0x82)
    cpu.tr.set(0, 0, 0xFFFF, 0x8B)
    for table in (cpu.gdtr, cpu.idtr):
        table.base, table.limit = 0, 0xFFFF
    cpu.cr2 = cpu.cr3 = cpu.cr4 = cpu.efer = 0
    cpu.cr8 = 0
    cpu.dr[:] = [0, 0, 0, 0, DR6_RESET, DR7_RESET]
    cpu.watch = list(cpu.host_watch)
    cpu.cpl = 0
