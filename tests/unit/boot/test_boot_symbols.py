"""Symbols: look-up, and files that lie about themselves."""

from struct import pack_into

import pytest
from boot_images import Elf
from hypothesis import given
from hypothesis import strategies as st

from minihv.boot.symbols import SymbolTable

SYMBOLS = (
    ("main", 0x100010, 8, 0x12),
    ("_start", 0x100000, 0, 0x10),
    ("label", 0x100010, 0, 0x00),
    ("counter", 0x200000, 4, 0x11),
    ("tail", 0x100020, 0, 0x00),
)


@pytest.mark.parametrize("bits", [32, 64])
def test_lookup(bits: int) -> None:
    table = SymbolTable.from_elf(Elf(bits, symtab=SYMBOLS).build())
    assert table.lookup(0x100000) == ("_start", 0)
    assert table.lookup(0x10000F) == ("_start", 0xF)
    assert table.lookup(0x100012) == ("main", 2)
    assert table.lookup(0x100018) is None
    assert table.lookup(0x100024) == ("tail", 4)
    assert table.lookup(0xFFFFF) is None
    assert len(table) == 3


def test_no_symbols() -> None:
    assert len(SymbolTable.from_elf(Elf().build())) == 0
    assert SymbolTable.from_elf(b"").lookup(0) is None


def test_long_name_is_cut() -> None:
    table = SymbolTable.from_elf(Elf(symtab=(("n" * 5000, 0x100000, 0, 0x12),)).build())
    assert table.lookup(0x100000) == ("n" * 256, 0)


def test_absurd_counts_give_an_empty_table() -> None:
    data = bytearray(Elf(symtab=SYMBOLS).build())
    pack_into("<H", data, 60, 0xFFFF)
    assert len(SymbolTable.from_elf(bytes(data))) == 0


def test_section_offset_beyond_any_file() -> None:
    data = bytearray(Elf(symtab=SYMBOLS).build())
    pack_into("<Q", data, 40, (1 << 64) - 1)
    assert len(SymbolTable.from_elf(bytes(data))) == 0


@given(
    bits=st.sampled_from([32, 64]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 600),
    address=st.integers(0, (1 << 64) - 1),
)
def test_hostile_files_never_raise(bits: int, edits: list[tuple[int, int]], cut: int, address: int) -> None:
    data = bytearray(Elf(bits, symtab=SYMBOLS).build())
    for at, value in edits:
        data[at % len(data)] = value
    table = SymbolTable.from_elf(bytes(data[: len(data) - cut % 200]))
    for probe in (address, 0x100000, 0x100012):
        found = table.lookup(probe)
        assert found is None or found[1] >= 0
