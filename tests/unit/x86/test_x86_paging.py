"""The walk, level by level and refusal by refusal, in all four formats."""

import pytest

from minihv.errors import GuestMemoryError
from minihv.x86 import registers as r
from minihv.x86.paging import WalkResult, describe, is_canonical, paging_mode, translate, walk

RAM = 0x10_0000
LONG = {"cr0": r.CR0_PE | r.CR0_PG | r.CR0_WP, "cr3": 0x1000, "cr4": r.CR4_PAE, "efer": 0xD00}
PAE = {"cr0": r.CR0_PE | r.CR0_PG | r.CR0_WP, "cr3": 0x1020, "cr4": r.CR4_PAE, "efer": r.EFER_NXE}
TWO = {"cr0": r.CR0_PE | r.CR0_PG | r.CR0_WP, "cr3": 0x1000, "cr4": r.CR4_PSE, "efer": 0}
NX = 1 << 63


class Ram:
    """A megabyte of tables; anything above is no RAM."""

    def __init__(self, entries: dict[int, int], width: int = 8) -> None:
        self.data = bytearray(RAM)
        for gpa, value in entries.items():
            self.data[gpa : gpa + width] = value.to_bytes(width, "little")

    def read(self, gpa: int, size: int) -> int:
        if gpa + size > RAM:
            raise GuestMemoryError(gpa, size)
        return int.from_bytes(self.data[gpa : gpa + size], "little")


def long_ram(pte: int = 0x9007, pde: int = 0x4007, pdpte: int = 0x3007, pml4e: int = 0x2007) -> Ram:
    """PML4 at 0x1000 down to the PTE of 0x5000."""
    return Ram({0x1000: pml4e, 0x2000: pdpte, 0x3000: pde, 0x4028: pte})


def look(ram: Ram, regs: dict[str, int], gva: int = 0x5123, **access: bool | int) -> WalkResult:
    return walk(ram.read, **regs, gva=gva, **access)  # type: ignore[arg-type]


def test_modes() -> None:
    assert paging_mode(r.CR0_PE, 0, 0) == "no paging"
    assert paging_mode(TWO["cr0"], 0, 0) == "2-level"
    assert paging_mode(TWO["cr0"], r.CR4_PAE, r.EFER_LME) == "PAE"
    assert paging_mode(TWO["cr0"], r.CR4_PAE, r.EFER_LMA) == "4-level"
    assert paging_mode(TWO["cr0"], r.CR4_PAE | r.CR4_LA57, r.EFER_LMA) == "5-level"


def test_no_paging_is_identity_in_32_bits() -> None:
    result = walk(Ram({}).read, r.CR0_PE, 0, 0, 0, 0x1_0000_5123, write=True)
    assert (result.gpa, result.failure) == (0x5123, None)
    assert "paging is off" in describe(result)[0]


def test_four_level_4k() -> None:
    result = look(long_ram(), LONG)
    assert (result.gpa, result.page_size, result.failure) == (0x9123, 0x1000, None)
    assert [e.name for e in result.entries] == ["PML4E", "PDPTE", "PDE", "PTE"]
    assert [e.gpa for e in result.entries] == [0x1000, 0x2000, 0x3000, 0x4028]
    assert (result.writable, result.user, result.executable) == (True, True, True)


def test_four_level_in_words() -> None:
    lines = describe(look(long_ram(), LONG))
    assert lines[0] == "PML4E[0] at 0x1000 = 0x2007: present, writable, user -> table at 0x2000"
    assert lines[3] == "PTE[5] at 0x4028 = 0x9007: present, writable, user -> 4 KiB page at 0x9000"
    assert lines[4] == "0x5123 is guest-physical 0x9123 in a 4 KiB page: writable, user, executable"


def test_not_present_in_words() -> None:
    lines = describe(look(long_ram(pte=0), LONG, gva=0x5000, write=True))
    assert lines[3] == "PTE[5] at 0x4028 = 0x0: not present"
    assert lines[4] == (
        "the PTE is not present: this is why a supervisor write of 0x5000 faults (#PF, error code 0x2)"
    )


def test_large_pages() -> None:
    two_mib = look(long_ram(pde=0x60_0083), LONG)
    assert (two_mib.gpa, two_mib.page_size) == (0x60_5123, 0x20_0000)
    one_gib = look(long_ram(pdpte=0x8000_0083), LONG)
    assert (one_gib.gpa, one_gib.page_size) == (0x8000_5123, 0x4000_0000)
    refused = look(long_ram(pdpte=0x8000_0083), LONG, gib_pages=False)
    assert (refused.failure, refused.error_code) == ("reserved-bit", r.PF_PRESENT | r.PF_RESERVED)


def test_five_level_uses_57_bits() -> None:
    ram = Ram({0x1008: 0x2007, 0x2000: 0x3007, 0x3000: 0x4007, 0x4000: 0x83})
    regs = {**LONG, "cr4": r.CR4_PAE | r.CR4_LA57}
    result = look(ram, regs, gva=1 << 48 | 0x5123)
    assert (result.gpa, result.entries[0].name, len(result.entries)) == (0x5123, "PML5E", 4)


def test_canonical() -> None:
    assert is_canonical(0x7FFF_FFFF_FFFF)
    assert is_canonical(0xFFFF_8000_0000_0000)
    assert not is_canonical(0x8000_0000_0000)
    assert is_canonical(0x8000_0000_0000, la57=True)
    result = look(long_ram(), LONG, gva=0x8000_0000_0000)
    assert (result.failure, result.error_code, result.entries) == ("non-canonical", None, ())
    assert "not canonical" in describe(result)[0]


def test_pae() -> None:
    ram = Ram({0x1020: 0x2001, 0x2000: 0x3007, 0x3028: 0x9007 | NX})
    result = look(ram, PAE)
    assert (result.gpa, result.executable, result.user) == (0x9123, False, True)
    assert look(ram, PAE, fetch=True).failure == "no-execute"
    assert look(ram, {**PAE, "efer": 0}).failure == "reserved-bit"
    # The fourth PDPTE covers the last GiB.
    top = Ram({0x1038: 0x2001, 0x2FF8: 0x40_0083})
    assert look(top, PAE, gva=0xFFFF_FFFF).gpa == 0x5F_FFFF


def test_pae_pdpte_has_reserved_rights_bits() -> None:
    result = look(Ram({0x1020: 0x2007}), PAE)
    assert result.failure == "reserved-bit"
    assert "reserved bits 1, 2" in result.reason


def test_two_level() -> None:
    ram = Ram({0x1000: 0x2007, 0x2014: 0x9005}, width=4)
    result = look(ram, TWO)
    assert (result.gpa, result.writable, len(result.entries)) == (0x9123, False, 2)


def test_two_level_pse_and_pse36() -> None:
    ram = Ram({0x1000: 0x0080_2083}, width=4)  # bit 13 is address bit 32
    result = look(ram, TWO)
    assert (result.gpa, result.page_size) == (0x1_0080_5123, 0x40_0000)
    assert look(ram, TWO, phys_bits=32).failure == "reserved-bit"
    # Without CR4.PSE the PS bit is ignored and the entry points to a table.
    assert look(Ram({0x1000: 0x2087, 0x2014: 0x9007}, 4), {**TWO, "cr4": 0}).gpa == 0x9123


def test_bit_21_of_a_4_mib_page_is_reserved() -> None:
    assert look(Ram({0x1000: 0x0020_0083}, width=4), TWO).failure == "reserved-bit"


@pytest.mark.parametrize(
    ("pte", "access", "failure", "code"),
    [
        (0x9003, {"user": True}, "user", 0x5),
        (0x9005, {"write": True}, "write", 0x3),
        (0x9005, {"write": True, "user": True}, "write", 0x7),
        (0x9007 | NX, {"fetch": True}, "no-execute", 0x11),
        (0x9007, {"fetch": True, "user": True}, None, None),
        (0x9003, {"write": True}, None, None),
    ],
)
def test_rights(pte: int, access: dict[str, bool], failure: str | None, code: int | None) -> None:
    result = look(long_ram(pte=pte), LONG, **access)
    assert (result.failure, result.error_code) == (failure, code)


def test_the_entry_that_takes_a_right_away_is_named() -> None:
    result = look(long_ram(pde=0x4005), LONG, write=True)
    assert result.reason.startswith("the PDE is read-only")
    assert look(long_ram(pml4e=0x2003), LONG, user=True).reason.startswith("the PML4E")


def test_write_protect_off_lets_the_supervisor_write() -> None:
    regs = {**LONG, "cr0": r.CR0_PE | r.CR0_PG}
    assert look(long_ram(pte=0x9005), regs, write=True).failure is None
    assert look(long_ram(pte=0x9005), regs, write=True, user=True).failure == "write"


def test_smep_and_smap() -> None:
    smep = {**LONG, "cr4": r.CR4_PAE | r.CR4_SMEP}
    assert look(long_ram(), smep, fetch=True).failure == "smep"
    assert look(long_ram(), smep, fetch=True, user=True).failure is None
    smap = {**LONG, "cr4": r.CR4_PAE | r.CR4_SMAP}
    assert look(long_ram(), smap).failure == "smap"
    assert look(long_ram(), smap, ac=True).failure is None
    assert look(long_ram(), smap, user=True).failure is None
    assert look(long_ram(), smap, fetch=True).failure is None


def test_protection_key() -> None:
    regs = {**LONG, "cr4": r.CR4_PAE | r.CR4_PKE}
    ram = long_ram(pte=0x9007 | 3 << 59)
    assert look(ram, regs, pkru=1 << 6).failure == "protection-key"
    assert look(ram, regs, pkru=2 << 6).failure is None
    denied = look(ram, regs, pkru=2 << 6, write=True)
    assert (denied.failure, denied.error_code) == ("protection-key", 0x23)


def test_reserved_address_bits() -> None:
    ram = long_ram(pte=0x9007 | 1 << 45)
    assert look(ram, LONG, phys_bits=40).failure == "reserved-bit"
    assert look(ram, LONG, phys_bits=46).gpa == 0x2000_0000_9123
    assert look(long_ram(pml4e=0x2087), LONG).failure == "reserved-bit"


def test_table_outside_ram_is_data() -> None:
    result = look(long_ram(pde=0x7000_0007), LONG)
    assert (result.failure, result.error_code) == ("outside-ram", None)
    assert result.entries[-1].value is None
    assert describe(result)[3] == "PTE[5] at 0x70000028: cannot be read, there is no RAM"


def test_translate() -> None:
    ram = long_ram(pte=0x9005)
    regs = (LONG["cr0"], LONG["cr3"], LONG["cr4"], LONG["efer"])
    assert translate(ram.read, *regs, 0x5123) == 0x9123
    assert translate(ram.read, *regs, 0x5123, write=True) is None
