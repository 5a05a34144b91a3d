"""The MP table (Intel MultiProcessor Specification 1.4, chapter 4): processors, buses, IOAPIC, wiring."""

from struct import pack

from minihv.boot.lowmem import MP_TABLE
from minihv.boot.plan import Chunk
from minihv.boot.platform import Platform

_PROCESSOR, _BUS, _IOAPIC, _IO_INTERRUPT, _LOCAL_INTERRUPT = range(5)
"""Entry types (4.3)."""
_INT, _NMI, _EXTINT = 0, 1, 3
"""Interrupt types (4.3.4)."""
_ENABLED, _BOOTSTRAP = 1, 2
_LAPIC_VERSION, _IOAPIC_VERSION = 0x14, 0x11
_ISA_BUS = 0
_ISA_IRQS = 16
_CASCADE = 2
"""IRQ 2 of the PC is the slave PIC, no interrupt source."""
_ALL_LAPICS = 0xFF
_REVISION = 4
_POINTER_SIZE = 16


def table(platform: Platform, at: int = MP_TABLE) -> Chunk:
    """Floating pointer and configuration table at GPA `at` (16-byte aligned, in 0xf0000..0xfffff)."""
    configuration = _configuration(platform)
    pointer = checksummed(pack("<4sIBBB5x", b"_MP_", at + _POINTER_SIZE, 1, _REVISION, 0), 10)
    data = pointer + configuration
    return Chunk(at, data, len(data), "MP table")


def checksummed(data: bytes, offset: int) -> bytes:
    """`data` with the byte at `offset` set so that all bytes add up to 0 modulo 256."""
    head, tail = data[:offset], data[offset + 1 :]
    return head + bytes((-sum(head + tail) & 0xFF,)) + tail


def _configuration(platform: Platform) -> bytes:
    entries = _entries(platform)
    body = b"".join(entries)
    header = pack(
        "<4sHBB8s12sIHHIHBB",
        b"PCMP", 44 + len(body), _REVISION, 0, b"MINIHV  ", b"board       ", 0, 0, len(entries),
        platform.lapic_address, 0, 0, 0,
    )  # fmt: skip
    return checksummed(header + body, 7)


def _entries(platform: Platform) -> list[bytes]:
    """All entries, sorted by type as 4.3 demands."""
    entries = [_processor(platform, apic_id) for apic_id in range(platform.cpus)]
    entries.append(pack("<BB6s", _BUS, _ISA_BUS, b"ISA   "))
    entries.append(pack("<BBBBI", _IOAPIC, platform.ioapic_id, _IOAPIC_VERSION, 1, platform.ioapic_address))
    wiring = dict(platform.overrides)
    for irq in range(_ISA_IRQS):
        if irq != _CASCADE:
            pin = wiring.get(irq, irq)
            entries.append(_interrupt(_IO_INTERRUPT, _INT, irq, platform.ioapic_id, pin))
    # The PIC reaches LINT0, NMI reaches LINT1 of every local APIC (3.6.2.2, virtual wire).
    entries.append(_interrupt(_LOCAL_INTERRUPT, _EXTINT, 0, _ALL_LAPICS, 0))
    entries.append(_interrupt(_LOCAL_INTERRUPT, _NMI, 0, _ALL_LAPICS, 1))
    return entries


def _processor(platform: Platform, apic_id: int) -> bytes:
    flags = _ENABLED | (_BOOTSTRAP if apic_id == 0 else 0)
    return pack(
        "<BBBBII8x", _PROCESSOR, apic_id, _LAPIC_VERSION, flags, platform.cpu_signature, platform.cpu_features
    )


def _interrupt(entry: int, kind: int, irq: int, target: int, pin: int) -> bytes:
    """Polarity and trigger mode conform to the bus: flags 0."""
    return pack("<BBHBBBB", entry, kind, 0, _ISA_BUS, irq, target, pin)
