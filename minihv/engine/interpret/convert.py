"""`CpuState` from and to the interpreter's registers."""

from minihv.engine.interpret import debug, msrs
from minihv.engine.interpret.cpu import SS, Cpu
from minihv.engine.interpret.cpuid import pkru_offset
from minihv.engine.interpret.flags import from_word
from minihv.x86.registers import (
    CR0_PE,
    DR6_BS,
    MSR_EFER,
    RFLAGS_VM,
    VECTOR_BP,
    VECTOR_DB,
    VECTOR_OF,
    VECTOR_PF,
)
from minihv.x86.state import SEGMENT_NAMES, CpuState, DescriptorTable, Events, MpState

_LEGACY = 512
_XSAVE_MIN = 576
MXCSR_MASK = 0xFFFF
_INITIAL_XSAVE = bytes(24) + (0x1F80).to_bytes(4, "little") + bytes(_XSAVE_MIN - 28)
"""XSTATE_BV is zero: every component in its initial state (SDM Vol. 1, 13.6)."""


def get_state(cpu: Cpu) -> CpuState:
    """A copy of everything the guest could see."""
    es, cs, ss, ds, fs, gs = (seg.plain() for seg in cpu.seg)
    mp_state = MpState.HALTED if cpu.halted else MpState.RUNNABLE
    if cpu.wait_sipi:
        mp_state = MpState.INIT_RECEIVED
    apic = cpu.local_apic
    return CpuState(
        gpr=list(cpu.r),
        rip=cpu.rip,
        rflags=cpu.get_rflags(),
        es=es,
        cs=cs,
        ss=ss,
        ds=ds,
        fs=fs,
        gs=gs,
        ldtr=cpu.ldtr.plain(),
        tr=cpu.tr.plain(),
        gdtr=DescriptorTable(cpu.gdtr.base, cpu.gdtr.limit),
        idtr=DescriptorTable(cpu.idtr.base, cpu.idtr.limit),
        cr0=cpu.cr0,
        cr2=cpu.cr2,
        cr3=cpu.cr3,
        cr4=cpu.cr4,
        cr8=cpu.cr8,
        efer=cpu.efer,
        apic_base=apic.read_msr(0x1B) if apic is not None else None,
        dr=list(cpu.dr),
        xcr0=cpu.xcr0,
        xsave=xsave_area(cpu),
        msrs=msrs.export(cpu),
        events=Events(
            exception=1 if cpu.trap else None,
            exception_pending=bool(cpu.trap),
            payload=cpu.trap or None,
            interrupt=cpu.accepted,
            nmi_pending=cpu.nmi_pending,
            nmi_masked=cpu.nmi_masked,
            shadow_sti=cpu.shadow_sti,
            shadow_mov_ss=cpu.shadow_mov_ss,
            triple_fault=cpu.shutdown,
        ),
        mp_state=mp_state,
    )


def set_state(cpu: Cpu, state: CpuState) -> None:
    """Load everything; translations are forgotten."""
    cpu.r[:] = state.gpr
    cpu.rip = state.rip
    cpu.fl = from_word(state.rflags)
    for n, name in enumerate(SEGMENT_NAMES):
        cpu.seg[n].take(getattr(state, name))
    cpu.ldtr.take(state.ldtr)
    cpu.tr.take(state.tr)
    for mine, theirs in ((cpu.gdtr, state.gdtr), (cpu.idtr, state.idtr)):
        mine.base, mine.limit = theirs.base, theirs.limit
    cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4 = state.cr0, state.cr2, state.cr3, state.cr4
    cpu.cr8 = state.cr8
    cpu.efer = state.efer
    cpu.cpl = _privilege(cpu, state.rflags)
    cpu.set_rflags(state.rflags)
    if state.apic_base is not None and cpu.local_apic is not None:
        cpu.local_apic.write_msr(0x1B, state.apic_base)
    cpu.dr[:] = state.dr
    cpu.xcr0 = state.xcr0 | 1
    load_xsave(cpu, state.xsave or _INITIAL_XSAVE)
    for index, value in state.msrs.items():
        if index != MSR_EFER:
            msrs.load(cpu, index, value)
    _events(cpu, state)
    cpu.mmu.flush()
    cpu.watch = []
    debug.arm(cpu)
    cpu.mmu.adopt_pdptes()
    cpu.mode_changed()
    cpu.attention = True


def _privilege(cpu: Cpu, rflags: int) -> int:
    if not cpu.cr0 & CR0_PE:
        return 0
    return 3 if rflags & RFLAGS_VM else cpu.seg[SS].dpl


def _events(cpu: Cpu, state: CpuState) -> None:
    events = state.events
    cpu.trap, cpu.injected = 0, None
    vector = events.exception
    if vector == VECTOR_DB and events.exception_pending:
        cpu.trap = events.payload or DR6_BS
    elif vector is not None and vector not in (VECTOR_BP, VECTOR_OF):  # those are executed again
        if vector == VECTOR_PF and events.exception_pending and events.payload is not None:
            cpu.cr2 = events.payload
        cpu.injected = vector, False, events.error_code
    elif events.interrupt is not None and not events.interrupt_soft:
        cpu.injected = events.interrupt, True, None
    cpu.nmi_pending = events.nmi_pending or events.nmi_injected
    cpu.nmi_masked = events.nmi_masked and not events.nmi_injected
    cpu.shadow_sti, cpu.shadow_mov_ss = events.shadow_sti, events.shadow_mov_ss
    # Exceptions and INT n come again when the instruction at RIP is executed; an acknowledged interrupt not.
    cpu.accepted = None if events.interrupt_soft else events.interrupt
    cpu.shutdown = events.triple_fault
    cpu.halted = state.mp_state is MpState.HALTED
    cpu.wait_sipi = state.mp_state in (MpState.INIT_RECEIVED, MpState.UNINITIALIZED)


# --- the XSAVE area (SDM Vol. 1, 13.4): standard format, x87 and SSE, PKRU where enabled ------------------


def xsave_area(cpu: Cpu) -> bytes:
    """Standard-format area of at least 576 bytes, with XSTATE_BV for the components we keep."""
    area = bytearray(_XSAVE_MIN)
    area[:_LEGACY] = cpu.fpu.legacy_image(cpu.xmm, cpu.mxcsr, MXCSR_MASK)
    present = 3
    if cpu.pkru:
        area += bytes(pkru_offset(cpu.amd) - len(area)) + cpu.pkru.to_bytes(8, "little")
        present |= 1 << 9
    area[_LEGACY : _LEGACY + 8] = present.to_bytes(8, "little")
    return bytes(area)


def load_xsave(cpu: Cpu, area: bytes) -> None:
    """Take x87, SSE and PKRU out of a standard-format area; others get their initial state."""
    present = int.from_bytes(area[_LEGACY : _LEGACY + 8], "little") if len(area) >= _XSAVE_MIN else 3
    if present & 1:
        cpu.fpu.load_x87(area)
    else:
        cpu.fpu.init()
        cpu.fpu.regs[:] = [0] * 8
    mxcsr = int.from_bytes(area[24:28], "little")
    cpu.mxcsr = mxcsr & MXCSR_MASK
    for n in range(16):
        at = 160 + 16 * n
        cpu.xmm[n] = int.from_bytes(area[at : at + 16], "little") if present & 2 else 0
    at = pkru_offset(cpu.amd)
    if present & 1 << 9 and len(area) >= at + 4:
        cpu.pkru = int.from_bytes(area[at : at + 4], "little")
    else:
        cpu.pkru = 0
