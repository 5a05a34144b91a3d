"""The local APIC's state in KVM's layout: the first 1024 bytes of the register page (KVM API, KVM_GET_LAPIC).

The id is in bits 31:24 in x2APIC mode, too, as without KVM_X2APIC_API_USE_32BIT_IDS; the ICR's high half is
at 0x310. IA32_APIC_BASE and IA32_TSC_DEADLINE are MSRs and not in it.
"""

from typing import TYPE_CHECKING

from minihv.devices.lapic_registers import (
    DFR,
    ESR,
    ICR,
    ICR2,
    ID,
    IRR,
    ISR,
    LDR,
    LVT_BITS,
    LVT_REMOTE_IRR,
    LVT_TIMER,
    SVR,
    TIMER_CURRENT,
    TIMER_DIVIDE,
    TIMER_INITIAL,
    TMR,
    TPR,
)
from minihv.devices.lapic_timer import TSC_DEADLINE

if TYPE_CHECKING:
    from minihv.devices.lapic import LocalApic

PAGE_BYTES = 0x400


def pack(apic: "LocalApic") -> bytes:
    """struct kvm_lapic_state of `apic`."""
    page = bytearray(PAGE_BYTES)
    for offset in range(0, PAGE_BYTES, 16):
        value = (apic.id & 0xFF) << 24 if offset == ID else apic.read_word(offset)
        if value:
            page[offset : offset + 4] = value.to_bytes(4, "little")
    return bytes(page)


def unpack(apic: "LocalApic", data: bytes) -> None:
    """Load a struct kvm_lapic_state into `apic`, whose `apic_base` is already the new one."""

    def word(offset: int) -> int:
        return int.from_bytes(data[offset : offset + 4], "little")

    def bits(offset: int) -> int:
        return sum(word(offset + 16 * n) << 32 * n for n in range(8))

    apic.id = word(ID) >> 24
    apic.isr, apic.tmr, apic.irr = bits(ISR), bits(TMR), bits(IRR)
    apic.tpr, apic.svr, apic.esr = word(TPR) & 0xFF, word(SVR) & 0x3FF, word(ESR)
    apic.dfr, apic.icr, apic.icr_high = word(DFR), word(ICR), word(ICR2)
    apic.ldr = word(LDR) & 0xFF00_0000
    apic.errors = 0
    for offset, mask in LVT_BITS.items():
        apic.lvt[offset] = word(offset) & (mask | LVT_REMOTE_IRR)
    timer = apic.timer
    timer.reset()
    timer.mode = apic.lvt[LVT_TIMER] >> 17 & 3
    timer.divide = word(TIMER_DIVIDE) & 0xB
    if timer.mode != TSC_DEADLINE:
        timer.resume(word(TIMER_INITIAL), word(TIMER_CURRENT))
