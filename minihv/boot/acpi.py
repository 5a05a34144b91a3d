"""ACPI tables (ACPI 6.5, chapter 5.2): RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT.

Enough for an operating system to find processors and interrupt controllers and to power off.
"""

from struct import pack

from minihv.boot.mptable import checksummed
from minihv.boot.plan import Chunk
from minihv.boot.platform import Platform

S5_SLEEP_TYPE = 0
S5_WRITE = 1 << 13 | S5_SLEEP_TYPE << 10
"""The word that powers off when written to PM1 control: SLP_EN with SLP_TYP of `\\_S5` (4.8.3.2.1)."""

_HEADER_SIZE = 36
_OEM, _OEM_TABLE, _CREATOR = b"MINIHV", b"BOARD   ", b"MHV "
_FADT_SIZE, _FADT_REVISION, _FADT_MINOR = 276, 6, 5
_MADT_REVISION = 5
_LAPIC, _IOAPIC, _OVERRIDE, _LAPIC_NMI = 0, 1, 2, 4
"""MADT entry types (5.2.12)."""
_PCAT_COMPAT = 1
_ALL_PROCESSORS = 0xFF
_SCI_FLAGS = 0xD
"""Active high, level: how the SCI is wired to the IOAPIC."""
_LEGACY_DEVICES, _8042 = 1 << 0, 1 << 1
"""IAPC_BOOT_ARCH (5.2.9.3)."""
_WBINVD, _PROC_C1, _POWER_BUTTON_NOT_FIXED, _SLEEP_BUTTON_NOT_FIXED, _RESET_REG = (
    1,
    4,
    1 << 4,
    1 << 5,
    1 << 10,
)
"""Fixed feature flags (5.2.9, table 5.10)."""
_SYSTEM_IO = 1


def tables(platform: Platform, rsdp: int) -> Chunk:
    """All tables as one chunk that begins with the RSDP at GPA `rsdp` (16-byte aligned, below 4 GiB).

    The RSDP must lie in 0xe0000..0xfffff for guests that search for it (5.2.5.1).
    """
    facs = rsdp + 64
    dsdt = facs + 64
    dsdt_table = _table(b"DSDT", 2, _aml())
    fadt = _align(dsdt + len(dsdt_table))
    madt = fadt + _align(_FADT_SIZE)
    madt_table = _madt(platform)
    rsdt = _align(madt + len(madt_table))
    rsdt_table = _table(b"RSDT", 1, pack("<II", fadt, madt))
    xsdt = _align(rsdt + len(rsdt_table))
    placed = (
        (rsdp, _rsdp(rsdt, xsdt)),
        (facs, _facs()),
        (dsdt, dsdt_table),
        (fadt, _fadt(platform, facs, dsdt)),
        (madt, madt_table),
        (rsdt, rsdt_table),
        (xsdt, _table(b"XSDT", 1, pack("<QQ", fadt, madt))),
    )
    data = b""
    for at, table in placed:
        data = data.ljust(at - rsdp, b"\0") + table
    return Chunk(rsdp, data, len(data), "ACPI tables")


def _align(address: int) -> int:
    return address + 15 & -16


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table with its header (5.2.6)."""
    length = _HEADER_SIZE + len(body)
    header = pack("<4sIBB6s8sI4sI", signature, length, revision, 0, _OEM, _OEM_TABLE, 1, _CREATOR, 1)
    return checksummed(header + body, 9)


def _rsdp(rsdt: int, xsdt: int) -> bytes:
    """Revision 2: the first checksum covers 20 bytes, the second all 36 (5.2.5.3)."""
    first = checksummed(pack("<8sB6sBI", b"RSD PTR ", 0, _OEM, 2, rsdt), 8)
    return checksummed(first + pack("<IQB3x", 36, xsdt, 0), 32)


def _facs() -> bytes:
    """Firmware control structure: no header, no checksum (5.2.10). Must be 64-byte aligned."""
    return pack("<4sIIIIIQB", b"FACS", 64, 0, 0, 0, 0, 0, 2).ljust(64, b"\0")


def _aml() -> bytes:
    """Name(\\_S5, Package(){SLP_TYPa, SLP_TYPb, 0, 0}) in AML (20.2.5.1, 20.2.5.4; 7.4.2)."""
    values = b"".join(b"\x0a" + bytes((value,)) for value in (S5_SLEEP_TYPE, S5_SLEEP_TYPE, 0, 0))
    package = bytes((4,)) + values
    return b"\x08\\_S5_\x12" + bytes((len(package) + 1,)) + package


def _fadt(platform: Platform, facs: int, dsdt: int) -> bytes:
    """Fixed ACPI description table (5.2.9). SMI_CMD 0: the machine is always in ACPI mode."""
    flags = _WBINVD | _PROC_C1 | _POWER_BUTTON_NOT_FIXED | _SLEEP_BUTTON_NOT_FIXED | _RESET_REG
    event, control = platform.pm1_event_port, platform.pm1_control_port
    body = pack(
        "<IIBBHI4BIIIIIIII4BBBBBHHHHBBBBBHBI",
        facs, dsdt, 0, 0, platform.sci_irq, 0, 0, 0, 0, 0,
        event, 0, control, 0, 0, 0, 0, 0,
        4, 2, 0, 0, 0, 0, 0, 0,
        # C2 and C3 latencies above 100 and 1000 us: not supported. The rest does not apply.
        101, 1001, 0, 0, 0, 0, 0, 0, 0, _LEGACY_DEVICES | _8042, 0, flags,
    )  # fmt: skip
    body += _port(platform.reset_port, 1) + pack("<BHB", platform.reset_value, 0, _FADT_MINOR)
    # X_FIRMWARE_CTRL stays 0: only one of the two FACS pointers may be set (5.2.9).
    body += pack("<QQ", 0, dsdt)
    body += _port(event, 4) + bytes(12) + _port(control, 2)
    return _table(b"FACP", _FADT_REVISION, body.ljust(_FADT_SIZE - _HEADER_SIZE, b"\0"))


def _port(port: int, size: int) -> bytes:
    """Generic address structure of an I/O port of `size` bytes, access size undefined (5.2.3.2)."""
    return pack("<BBBBQ", _SYSTEM_IO, size * 8, 0, size if size == 1 else 0, port)


def _madt(platform: Platform) -> bytes:
    """Multiple APIC description table (5.2.12)."""
    body = pack("<II", platform.lapic_address, _PCAT_COMPAT)
    for apic_id in range(platform.cpus):
        body += pack("<BBBBI", _LAPIC, 8, apic_id, apic_id, 1)
    body += pack("<BBBBII", _IOAPIC, 12, platform.ioapic_id, 0, platform.ioapic_address, 0)
    for irq, gsi in platform.overrides:
        body += pack("<BBBBIH", _OVERRIDE, 10, 0, irq, gsi, 0)
    body += pack("<BBBBIH", _OVERRIDE, 10, 0, platform.sci_irq, platform.sci_irq, _SCI_FLAGS)
    body += pack("<BBBHB", _LAPIC_NMI, 6, _ALL_PROCESSORS, 0, 1)
    return _table(b"APIC", _MADT_REVISION, body)
