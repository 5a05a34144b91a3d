"""The architectural state of one vCPU, in a form every engine can load and store.

A guest may leave one engine and go on in another, so nothing here is an engine's own format; segment
access rights use the VMX layout (SDM Vol. 3C, 25.4.1) because both KVM and the AMD VMCB convert to it
without loss. All addresses in here are linear (GVA) unless a name says GPA.
"""

from dataclasses import dataclass, field
from enum import Enum

GPR_NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
"""General-purpose registers in encoding order (SDM Vol. 2A, Table 2-2): index = ModRM/REX number."""

SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
"""Segment registers in encoding order."""


@dataclass(slots=True)
class Segment:
    """One segment register with its hidden part. `limit` is in bytes (already scaled by G)."""

    selector: int = 0
    base: int = 0
    limit: int = 0xFFFF
    access: int = 0x93
    """Bits 0-3 type, 4 S, 5-6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable."""

    @property
    def type(self) -> int:
        return self.access & 0xF

    @property
    def system(self) -> bool:
        """True for a system descriptor (S clear)."""
        return not self.access & 0x10

    @property
    def dpl(self) -> int:
        return self.access >> 5 & 3

    @property
    def present(self) -> bool:
        return bool(self.access & 0x80)

    @property
    def long(self) -> bool:
        """L: 64-bit code."""
        return bool(self.access & 0x2000)

    @property
    def big(self) -> bool:
        """D/B: 32-bit default size."""
        return bool(self.access & 0x4000)

    @property
    def granular(self) -> bool:
        return bool(self.access & 0x8000)

    @property
    def unusable(self) -> bool:
        return bool(self.access & 0x10000)


@dataclass(slots=True)
class DescriptorTable:
    """GDTR or IDTR; `limit` in bytes."""

    base: int = 0
    limit: int = 0xFFFF


class MpState(Enum):
    """What the vCPU is doing (KVM API, KVM_GET_MP_STATE)."""

    RUNNABLE = 0
    UNINITIALIZED = 1
    INIT_RECEIVED = 2
    HALTED = 3
    SIPI_RECEIVED = 4


@dataclass(slots=True)
class Events:
    """Events in flight (KVM API, KVM_GET_VCPU_EVENTS). A vector of None means: none."""

    exception: int | None = None
    exception_pending: bool = False
    """True: pending, not yet injected (CR2/DR6 not updated yet); False: already being delivered."""
    error_code: int | None = None
    payload: int | None = None
    interrupt: int | None = None
    interrupt_soft: bool = False
    nmi_injected: bool = False
    nmi_pending: bool = False
    nmi_masked: bool = False
    shadow_sti: bool = False
    shadow_mov_ss: bool = False
    sipi_vector: int = 0
    smm: bool = False
    smi_pending: bool = False
    smm_inside_nmi: bool = False
    smi_latched_init: bool = False
    triple_fault: bool = False


def _real_segment() -> Segment:
    return Segment()


def _reset_code_segment() -> Segment:
    return Segment(selector=0xF000, base=0xFFFF0000, limit=0xFFFF, access=0x9B)


@dataclass(slots=True)
class CpuState:
    """Everything a guest could see of its processor. Defaults: just after RESET (SDM Vol. 3A, 10.1.1)."""

    gpr: list[int] = field(default_factory=lambda: [0, 0, 0x600, 0] + [0] * 12)
    rip: int = 0xFFF0
    rflags: int = 2
    es: Segment = field(default_factory=_real_segment)
    cs: Segment = field(default_factory=_reset_code_segment)
    ss: Segment = field(default_factory=_real_segment)
    ds: Segment = field(default_factory=_real_segment)
    fs: Segment = field(default_factory=_real_segment)
    gs: Segment = field(default_factory=_real_segment)
    ldtr: Segment = field(default_factory=lambda: Segment(access=0x82))
    tr: Segment = field(default_factory=lambda: Segment(access=0x8B))
    gdtr: DescriptorTable = field(default_factory=DescriptorTable)
    idtr: DescriptorTable = field(default_factory=DescriptorTable)
    cr0: int = 0x60000010
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    cr8: int = 0
    efer: int = 0
    apic_base: int | None = None
    """IA32_APIC_BASE; None leaves the engine's value (a loader does not know which CPU is the BSP)."""
    dr: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0xFFFF0FF0, 0x400])
    """DR0, DR1, DR2, DR3, DR6, DR7 in this order."""
    xcr0: int = 1
    xsave: bytes = b""
    """Standard-format XSAVE area (SDM Vol. 1, 13.4), 576 bytes or more; empty: the initial FPU state."""
    msrs: dict[int, int] = field(default_factory=dict)
    """MSR index -> value, beyond EFER and APIC base. A loader lists only what it needs."""
    events: Events = field(default_factory=Events)
    lapic: bytes = b""
    """Local-APIC register page, 1024 bytes as in KVM_GET_LAPIC; empty: leave the engine's."""
    mp_state: MpState = MpState.RUNNABLE

    def segments(self) -> dict[str, Segment]:
        """The six segment registers by name, in encoding order."""
        return {name: getattr(self, name) for name in SEGMENT_NAMES}
