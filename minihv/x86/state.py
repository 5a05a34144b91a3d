"""The architectural state of one vCPU, in a form every engine can load and store.

A guest may leave one engine and go on in another, so nothing here is an engine's own format; segment
access rights use the VMX layout (SDM Vol. 3C, 25.4.1) because both KVM and the AMD VMCB convert to it
without loss. All addresses in here are linear (GVA) unless a name says GPA.
"""

from enum import Enum

from minihv.records import Record

GPR_NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
"""General-purpose registers in encoding order (SDM Vol. 2A, Table 2-2): index = ModRM/REX number."""

SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
"""Segment registers in encoding order."""


class Segment(Record):
    """One segment register with its hidden part. `limit` is in bytes (already scaled by G)."""

    __slots__ = ("selector", "base", "limit", "access")

    def __init__(self, selector: int = 0, base: int = 0, limit: int = 0xFFFF, access: int = 0x93) -> None:
        self.selector = selector
        self.base = base
        self.limit = limit
        self.access = access

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


class DescriptorTable(Record):
    """GDTR or IDTR; `limit` in bytes."""

    __slots__ = ("base", "limit")

    def __init__(self, base: int = 0, limit: int = 0xFFFF) -> None:
        self.base = base
        self.limit = limit


class MpState(Enum):
    """What the vCPU is doing (KVM API, KVM_GET_MP_STATE)."""

    RUNNABLE = 0
    UNINITIALIZED = 1
    INIT_RECEIVED = 2
    HALTED = 3
    SIPI_RECEIVED = 4


class Events(Record):
    """Events in flight (KVM API, KVM_GET_VCPU_EVENTS). A vector of None means: none."""

    __slots__ = (
        "exception", "exception_pending", "error_code", "payload",
        "interrupt", "interrupt_soft", "nmi_injected", "nmi_pending", "nmi_masked",
        "shadow_sti", "shadow_mov_ss", "sipi_vector",
        "smm", "smi_pending", "smm_inside_nmi", "smi_latched_init", "triple_fault",
    )  # fmt: skip

    def __init__(
        self,
        exception: int | None = None,
        exception_pending: bool = False,
        error_code: int | None = None,
        payload: int | None = None,
        interrupt: int | None = None,
        interrupt_soft: bool = False,
        nmi_injected: bool = False,
        nmi_pending: bool = False,
        nmi_masked: bool = False,
        shadow_sti: bool = False,
        shadow_mov_ss: bool = False,
        sipi_vector: int = 0,
        smm: bool = False,
        smi_pending: bool = False,
        smm_inside_nmi: bool = False,
        smi_latched_init: bool = False,
        triple_fault: bool = False,
    ) -> None:
        self.exception = exception
        self.exception_pending = exception_pending
        """True: pending, not yet injected (CR2/DR6 not updated yet); False: already being delivered."""
        self.error_code = error_code
        self.payload = payload
        self.interrupt = interrupt
        self.interrupt_soft = interrupt_soft
        self.nmi_injected = nmi_injected
        self.nmi_pending = nmi_pending
        self.nmi_masked = nmi_masked
        self.shadow_sti = shadow_sti
        self.shadow_mov_ss = shadow_mov_ss
        self.sipi_vector = sipi_vector
        self.smm = smm
        self.smi_pending = smi_pending
        self.smm_inside_nmi = smm_inside_nmi
        self.smi_latched_init = smi_latched_init
        self.triple_fault = triple_fault


class CpuState(Record):
    """Everything a guest could see of its processor. Defaults: just after RESET (SDM Vol. 3A, 10.1.1)."""

    __slots__ = (
        "gpr", "rip", "rflags", "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr",
        "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base", "dr", "xcr0", "xsave", "msrs",
        "events", "lapic", "mp_state",
    )  # fmt: skip

    def __init__(
        self,
        gpr: list[int] | None = None,
        rip: int = 0xFFF0,
        rflags: int = 2,
        es: Segment | None = None,
        cs: Segment | None = None,
        ss: Segment | None = None,
        ds: Segment | None = None,
        fs: Segment | None = None,
        gs: Segment | None = None,
        ldtr: Segment | None = None,
        tr: Segment | None = None,
        gdtr: DescriptorTable | None = None,
        idtr: DescriptorTable | None = None,
        cr0: int = 0x60000010,
        cr2: int = 0,
        cr3: int = 0,
        cr4: int = 0,
        cr8: int = 0,
        efer: int = 0,
        apic_base: int | None = None,
        dr: list[int] | None = None,
        xcr0: int = 1,
        xsave: bytes = b"",
        msrs: dict[int, int] | None = None,
        events: Events | None = None,
        lapic: bytes = b"",
        mp_state: MpState = MpState.RUNNABLE,
    ) -> None:
        self.gpr = [0, 0, 0x600, 0, *[0] * 12] if gpr is None else gpr
        self.rip = rip
        self.rflags = rflags
        self.es = es or Segment()
        self.cs = cs or Segment(selector=0xF000, base=0xFFFF0000, limit=0xFFFF, access=0x9B)
        self.ss = ss or Segment()
        self.ds = ds or Segment()
        self.fs = fs or Segment()
        self.gs = gs or Segment()
        self.ldtr = ldtr or Segment(access=0x82)
        self.tr = tr or Segment(access=0x8B)
        self.gdtr = gdtr or DescriptorTable()
        self.idtr = idtr or DescriptorTable()
        self.cr0 = cr0
        self.cr2 = cr2
        self.cr3 = cr3
        self.cr4 = cr4
        self.cr8 = cr8
        self.efer = efer
        self.apic_base = apic_base
        """IA32_APIC_BASE; None leaves the engine's value (a loader does not know which CPU is the BSP)."""
        self.dr = [0, 0, 0, 0, 0xFFFF0FF0, 0x400] if dr is None else dr
        """DR0, DR1, DR2, DR3, DR6, DR7 in this order."""
        self.xcr0 = xcr0
        self.xsave = xsave
        """Standard-format XSAVE area (SDM Vol. 1, 13.4), 576 bytes or more; empty: the initial FPU state."""
        self.msrs = {} if msrs is None else msrs
        """MSR index -> value, beyond EFER and APIC base. A loader lists only what it needs."""
        self.events = events or Events()
        self.lapic = lapic
        """Local-APIC register page, 1024 bytes as in KVM_GET_LAPIC; empty: leave the engine's."""
        self.mp_state = mp_state

    def segments(self) -> dict[str, Segment]:
        """The six segment registers by name, in encoding order."""
        return {name: getattr(self, name) for name in SEGMENT_NAMES}
