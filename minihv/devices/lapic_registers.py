"""The local APIC's registers: offsets in the xAPIC page, names, and which bits may be written.

Source: SDM Vol. 3A, tables 10-1 and 10-6 (x2APIC), figure 10-8 (local vector table).
"""

ID, VERSION, TPR, APR, PPR, EOI, RRD, LDR, DFR, SVR = (
    0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0,
)  # fmt: skip
ISR, TMR, IRR = 0x100, 0x180, 0x200
ESR, ICR, ICR2 = 0x280, 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR = (
    0x320, 0x330, 0x340, 0x350, 0x360, 0x370,
)  # fmt: skip
TIMER_INITIAL, TIMER_CURRENT, TIMER_DIVIDE = 0x380, 0x390, 0x3E0
SELF_IPI = 0x3F0

VERSION_VALUE = 0x0005_0014
SVR_ENABLE = 0x100
LVT_MASKED = 1 << 16
LVT_LEVEL = 1 << 15
LVT_REMOTE_IRR = 1 << 14
ERROR_SEND_VECTOR, ERROR_RECEIVE_VECTOR, ERROR_REGISTER = 0x20, 0x40, 0x80

# Writable bits of the local vector table (SDM Vol. 3A, figure 10-8).
LVT_BITS = {
    LVT_TIMER: 0x7_00FF,
    LVT_THERMAL: 0x1_07FF,
    LVT_PERF: 0x1_07FF,
    LVT_LINT0: 0x1_A7FF,
    LVT_LINT1: 0x1_A7FF,
    LVT_ERROR: 0x1_00FF,
}
NAMES = {
    ID: "ID", VERSION: "VERSION", TPR: "TPR", APR: "APR", PPR: "PPR", EOI: "EOI", RRD: "RRD", LDR: "LDR",
    DFR: "DFR", SVR: "SVR", ESR: "ESR", ICR: "ICR_LOW", ICR2: "ICR_HIGH", LVT_TIMER: "LVT_TIMER",
    LVT_THERMAL: "LVT_THERMAL", LVT_PERF: "LVT_PERF", LVT_LINT0: "LVT_LINT0", LVT_LINT1: "LVT_LINT1",
    LVT_ERROR: "LVT_ERROR", TIMER_INITIAL: "TIMER_INITIAL", TIMER_CURRENT: "TIMER_CURRENT",
    TIMER_DIVIDE: "TIMER_DIVIDE", SELF_IPI: "SELF_IPI",
}  # fmt: skip
WRITE_ONLY = (EOI, SELF_IPI)
NOT_IN_X2APIC = (APR, RRD, DFR, ICR2)
ALL_32 = 0xFFFF_FFFF
LVT_READ_ONLY = 1 << 12 | LVT_REMOTE_IRR

X2APIC_WRITABLE = {
    TPR: 0xFF,
    EOI: 0,
    SVR: 0x3FF,
    ESR: 0,
    SELF_IPI: 0xFF,
    TIMER_INITIAL: ALL_32,
    TIMER_DIVIDE: 0xB,
    # Read-only bits may come back as they were read.
    **{offset: bits | LVT_READ_ONLY for offset, bits in LVT_BITS.items()},
}
"""Bits that WRMSR may set without #GP, for each writable register but the ICR (SDM Vol. 3A, 10.12.1.3)."""
X2APIC_ICR_RESERVED = 0xFFF3_2000


def register_name(offset: int) -> str:
    """Name of the register at `offset` of the page, as the manual spells it."""
    offset &= 0xFF0
    for first, name in ((ISR, "ISR"), (TMR, "TMR"), (IRR, "IRR")):
        if first <= offset < first + 0x80:
            return f"{name}{offset - first >> 4}"
    return NAMES.get(offset, "reserved")
