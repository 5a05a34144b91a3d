"""Guest-physical memory as the VMM sees it: bounds, holes, ROM, and who may not overlap."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minihv.errors import GuestMemoryError
from minihv.memory import (
    LEGACY_WINDOW_END,
    LEGACY_WINDOW_START,
    RAM_HOLE_END,
    RAM_HOLE_START,
    GuestMemory,
    Region,
    ram_layout,
)

MIB, GIB = 1 << 20, 1 << 30


def region(gpa: int, size: int, name: str = "ram", readonly: bool = False) -> Region:
    return Region(gpa, size, memoryview(bytearray(size)), readonly, name)


def memory() -> GuestMemory:
    return GuestMemory([region(0x2000, 0x1000, "rom", readonly=True), region(0, 0x1000)])


def test_bytes_come_back() -> None:
    m = memory()
    m.write(0xFFC, b"\x78\x56\x34\x12")
    assert m.read(0xFFC, 4) == b"\x78\x56\x34\x12"
    assert m.read_int(0xFFC, 4) == 0x12345678
    assert m.read_int(0xFFE, 2) == 0x1234


def test_the_vmm_may_write_rom_and_only_ram_counts() -> None:
    m = memory()
    m.write(0x2000, b"BIOS")
    assert m.read(0x2000, 4) == b"BIOS"
    assert m.ram_bytes == 0x1000


@pytest.mark.parametrize(
    ("gpa", "size"),
    [
        (0x1000, 1),
        (0xFFF, 2),
        (0x1FFF, 2),
        (0x3000, 1),
        (-1, 1),
        (0, -1),
        (1 << 60, 8),
        (0, 1 << 60),
        (-4, 8),
    ],
)
def test_what_is_not_there_raises_with_the_range(gpa: int, size: int) -> None:
    with pytest.raises(GuestMemoryError) as caught:
        memory().read(gpa, size)
    assert (caught.value.gpa, caught.value.size) == (gpa, size)
    assert "is not RAM or ROM" in str(caught.value)


def test_a_write_that_does_not_fit_writes_nothing() -> None:
    m = memory()
    with pytest.raises(GuestMemoryError):
        m.write(0xFFE, b"1234")
    assert m.read(0xFFE, 2) == bytes(2)


def test_an_empty_access_is_fine_where_there_is_memory() -> None:
    assert memory().read(0x800, 0) == b""


def test_overlapping_regions_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="memory regions ram and rom overlap at 0xfff"):
        GuestMemory([region(0, 0x1000), region(0xFFF, 1, "rom")])


def test_release_gives_the_buffers_back() -> None:
    backing = bytearray(16)
    m = GuestMemory([Region(0, 16, memoryview(backing), False, "ram")])
    m.release()
    backing.append(0)  # a held view would forbid it


def test_small_ram_has_a_hole_for_video_memory() -> None:
    assert ram_layout(64 * MIB) == [
        (0, 0, LEGACY_WINDOW_START),
        (LEGACY_WINDOW_END, LEGACY_WINDOW_END, 64 * MIB - LEGACY_WINDOW_END),
    ]


def test_large_ram_goes_on_at_4_gib() -> None:
    pieces = ram_layout(5 * GIB)
    assert pieces[-1] == (RAM_HOLE_END, RAM_HOLE_START, 5 * GIB - RAM_HOLE_START)
    assert not any(gpa < RAM_HOLE_END and gpa + size > RAM_HOLE_START for gpa, _, size in pieces)


def test_a_hole_that_covers_everything_leaves_nothing() -> None:
    assert ram_layout(MIB, [(0, MIB)]) == []


@given(
    st.integers(1, 5 * 1024 * 256).map(lambda pages: pages * 4096),
    st.lists(
        st.tuples(st.integers(0, 5 * GIB), st.integers(1, 2 * GIB)).map(lambda h: (h[0], h[0] + h[1])),
        max_size=4,
    ),
)
def test_the_layout_keeps_offsets_and_avoids_holes(size: int, holes: list[tuple[int, int]]) -> None:
    pieces = sorted(ram_layout(size, holes))
    for (gpa, _, length), (next_gpa, _, _) in pairwise(pieces):
        assert gpa + length <= next_gpa
    for gpa, offset, length in pieces:
        assert length > 0
        assert offset >= 0
        assert offset + length <= size
        above = RAM_HOLE_END - RAM_HOLE_START if gpa >= RAM_HOLE_END else 0
        assert gpa == offset + above  # what a hole hides is not moved elsewhere
        assert not any(start < gpa + length and gpa < end for start, end in holes)
