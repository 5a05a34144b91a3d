"""ACPI and MP tables: every checksum, pointer and offset that a guest follows."""

from struct import unpack_from

import pytest

from minihv.boot.acpi import S5_WRITE
from minihv.boot.plan import Chunk
from minihv.boot.platform import Platform
from minihv.boot.tables import bios_tables

RSDP = 0xE0000


def platform(cpus: int = 2) -> Platform:
    return Platform(
        cpus=cpus,
        lapic_address=0xFEE00000,
        ioapic_address=0xFEC00000,
        ioapic_id=cpus,
        overrides=((0, 2),),
        sci_irq=9,
        pm1_event_port=0x600,
        pm1_control_port=0x604,
        reset_port=0x64,
        reset_value=0xFE,
    )


class Memory:
    """Guest memory with nothing but the tables."""

    def __init__(self, chunks: tuple[Chunk, ...]) -> None:
        self.chunks = {chunk.name: chunk for chunk in chunks}
        self.bytes = bytearray(1 << 20)
        for chunk in chunks:
            self.bytes[chunk.gpa : chunk.end] = bytes(chunk.data)

    def u32(self, at: int) -> int:
        return int(unpack_from("<I", self.bytes, at)[0])

    def table(self, at: int, signature: bytes) -> bytes:
        """A system description table with a right checksum."""
        data = bytes(self.bytes[at : at + self.u32(at + 4)])
        assert data[:4] == signature
        assert sum(data) % 256 == 0
        return data


@pytest.fixture
def memory() -> Memory:
    return Memory(bios_tables(platform(), RSDP))


def test_rsdp_leads_to_the_same_tables_by_both_roots(memory: Memory) -> None:
    rsdp = memory.bytes[RSDP : RSDP + 36]
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp[:20]) % 256 == 0
    assert sum(rsdp) % 256 == 0
    rsdt = memory.table(unpack_from("<I", rsdp, 16)[0], b"RSDT")
    xsdt = memory.table(unpack_from("<Q", rsdp, 24)[0], b"XSDT")
    assert unpack_from("<II", rsdt, 36) == unpack_from("<QQ", xsdt, 36)
    assert memory.chunks["ACPI tables"].end <= 0xF0000


def fadt_and_madt(memory: Memory) -> tuple[bytes, bytes]:
    fadt, madt = unpack_from("<II", memory.bytes, memory.u32(RSDP + 16) + 36)
    return memory.table(fadt, b"FACP"), memory.table(madt, b"APIC")


def test_fadt_ports_and_flags(memory: Memory) -> None:
    fadt, _ = fadt_and_madt(memory)
    assert len(fadt) == 276
    assert unpack_from("<H", fadt, 46) == (9,)
    assert unpack_from("<I", fadt, 48) == (0,)
    assert unpack_from("<III", fadt, 56) == (0x600, 0, 0x604)
    assert fadt[88:90] == b"\x04\x02"
    assert unpack_from("<H", fadt, 109) == (3,)
    assert fadt[112] & 0x30 == 0x30
    assert fadt[116:129] == b"\x01\x08\x00\x01\x64\0\0\0\0\0\0\0\xfe"
    assert unpack_from("<BBxxQ", fadt, 148) == (1, 32, 0x600)
    assert unpack_from("<BBxxQ", fadt, 172) == (1, 16, 0x604)


def test_fadt_leads_to_facs_and_dsdt(memory: Memory) -> None:
    fadt, _ = fadt_and_madt(memory)
    facs, dsdt = unpack_from("<II", fadt, 36)
    assert facs % 64 == 0
    assert memory.bytes[facs : facs + 8] == b"FACS\x40\0\0\0"
    assert unpack_from("<Q", fadt, 140) == (dsdt,)
    aml = memory.table(dsdt, b"DSDT")[36:]
    # NameOp, "\_S5_", PackageOp, PkgLength (which counts itself), four elements.
    assert aml[:7] == b"\x08\\_S5_\x12"
    assert aml[7] == len(aml) - 7
    assert aml[8] == 4
    assert S5_WRITE == 0x2000 | aml[10] << 10 == 0x2000


def test_madt_lists_processors_and_wiring(memory: Memory) -> None:
    _, madt = fadt_and_madt(memory)
    assert unpack_from("<II", madt, 36) == (0xFEE00000, 1)
    entries, at = [], 44
    while at < len(madt):
        entries.append(madt[at : at + madt[at + 1]])
        at += madt[at + 1]
    assert at == len(madt)
    assert [entry[0] for entry in entries] == [0, 0, 1, 2, 2, 4]
    assert [unpack_from("<BBI", entry, 2) for entry in entries[:2]] == [(0, 0, 1), (1, 1, 1)]
    assert unpack_from("<BxII", entries[2], 2) == (2, 0xFEC00000, 0)
    assert unpack_from("<BBIH", entries[3], 2) == (0, 0, 2, 0)
    assert unpack_from("<BBIH", entries[4], 2) == (0, 9, 9, 0xD)


@pytest.mark.parametrize("cpus", [1, 2, 64, 200])
def test_mp_table(cpus: int) -> None:
    memory = Memory(bios_tables(platform(cpus), RSDP))
    at = memory.chunks["MP table"].gpa
    pointer = memory.bytes[at : at + 16]
    assert at % 16 == 0
    assert pointer[:4] == b"_MP_"
    assert sum(pointer) % 256 == 0
    start = memory.u32(at + 4)
    length, count = (
        unpack_from("<H", memory.bytes, start + 4)[0],
        unpack_from("<H", memory.bytes, start + 34)[0],
    )
    table = memory.bytes[start : start + length]
    assert table[:4] == b"PCMP"
    assert sum(table) % 256 == 0
    assert unpack_from("<I", table, 36) == (0xFEE00000,)
    entries, walk = [], 44
    while walk < length:
        size = 20 if table[walk] == 0 else 8
        entries.append(bytes(table[walk : walk + size]))
        walk += size
    assert (walk, len(entries)) == (length, count)
    assert [entry[0] for entry in entries] == [0] * cpus + [1, 2] + [3] * 15 + [4, 4]
    assert [entry[1] for entry in entries[:cpus]] == list(range(cpus))
    assert [entry[3] for entry in entries[:cpus]] == [3] + [1] * (cpus - 1)
    wiring = {entry[5]: (entry[6], entry[7]) for entry in entries if entry[0] == 3}
    assert wiring[0] == (cpus, 2)
    assert wiring[4] == (cpus, 4)
    assert 2 not in wiring


def test_bios_data_area_names_the_ebda(memory: Memory) -> None:
    assert unpack_from("<H", memory.bytes, 0x40E) == (0x9FC0,)
    assert unpack_from("<H", memory.bytes, 0x413) == (639,)


@pytest.mark.parametrize(
    ("image", "left"),
    [
        (Chunk(0, b"", 0x401, "image"), ["ACPI tables", "MP table"]),
        (Chunk(0x500, b"", 0xDFB00, "image"), ["BIOS data area", "ACPI tables", "MP table"]),
        (Chunk(0xE0010, b"", 1, "image"), ["BIOS data area", "MP table"]),
        (Chunk(0, b"", 0x100000, "image"), []),
    ],
)
def test_tables_yield_to_the_image(image: Chunk, left: list[str]) -> None:
    assert [chunk.name for chunk in bios_tables(platform(), RSDP, (image,))] == left
