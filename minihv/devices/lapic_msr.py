"""The local APIC through MSRs: IA32_APIC_BASE with its mode changes, IA32_TSC_DEADLINE, x2APIC registers.

Source: SDM Vol. 3A, 10.4.3 and 10.12. The caller holds the APIC's lock.
"""

from typing import TYPE_CHECKING

from minihv.devices import lapic_registers as reg
from minihv.x86.registers import (
    APIC_BASE_ENABLE,
    APIC_BASE_X2APIC,
    MSR_APIC_BASE,
    MSR_TSC_DEADLINE,
    MSR_X2APIC_BASE,
    MSR_X2APIC_LAST,
)

if TYPE_CHECKING:
    from minihv.devices.lapic import LocalApic

_BASE_RESERVED = 0xFFFF_0000_0000_02FF
"""Bits above MAXPHYADDR, which is 48 on every engine that has its local APIC from here, and 0-7, 9."""
_SHORTHAND_SELF = 1 << 18


def read_msr(apic: "LocalApic", index: int) -> int | None:
    """The value, or None: #GP."""
    if index == MSR_APIC_BASE:
        return apic.apic_base
    if index == MSR_TSC_DEADLINE:
        return apic.timer.deadline
    offset = _offset(apic, index)
    if offset is None or offset in reg.WRITE_ONLY:
        return None
    value = apic.read_word(offset)
    if offset == reg.ICR and value is not None:
        value |= apic.icr_high << 32
    return value


def write_msr(apic: "LocalApic", index: int, value: int) -> bool:
    """False: #GP, and nothing was changed."""
    if index == MSR_APIC_BASE:
        return _write_base(apic, value)
    if index == MSR_TSC_DEADLINE:
        apic.timer.set_deadline(value)
        return True
    offset = _offset(apic, index)
    return offset is not None and _write_x2apic(apic, offset, value)


def _offset(apic: "LocalApic", index: int) -> int | None:
    """Offset in the xAPIC page of an x2APIC MSR that exists now (SDM Vol. 3A, table 10-6)."""
    if not apic.x2apic or not MSR_X2APIC_BASE <= index <= MSR_X2APIC_LAST:
        return None
    offset = index - MSR_X2APIC_BASE << 4
    return None if offset in reg.NOT_IN_X2APIC else offset


def _write_x2apic(apic: "LocalApic", offset: int, value: int) -> bool:
    if offset == reg.ICR:
        if value & reg.X2APIC_ICR_RESERVED:
            return False
        apic.icr_high = value >> 32
        apic.write_word(reg.ICR, value & reg.ALL_32)
        return True
    allowed = reg.X2APIC_WRITABLE.get(offset)
    if allowed is None or value & ~allowed:
        return False
    if offset == reg.SELF_IPI:
        apic.send_ipi(_SHORTHAND_SELF | value, 0)
    else:
        apic.write_word(offset, value)
    return True


def _write_base(apic: "LocalApic", value: int) -> bool:
    """IA32_APIC_BASE, with the mode changes that SDM Vol. 3A, 10.12.5 allows."""
    if value & _BASE_RESERVED:
        return False
    enable, x2apic = bool(value & APIC_BASE_ENABLE), bool(value & APIC_BASE_X2APIC)
    if x2apic and (not enable or not apic.enabled):
        return False  # x2APIC without enable, or straight from disabled
    if enable and not x2apic and apic.x2apic:
        return False  # x2APIC leads back to xAPIC only through disabled
    if not enable and apic.enabled:
        apic.reset()
    if enable != apic.enabled or x2apic:
        apic.restore_id()  # what software wrote into the xAPIC id is gone
    apic.apic_base = value
    return True
