"""Whatever the bytes are: a plan that keeps all promises, or an ImageError. Nothing else, and soon."""

import pytest
from boot_images import (
    Elf,
    Segment,
    boot_sector,
    check_plan,
    multiboot_flat,
    multiboot_header,
    pvh_elf,
)
from hypothesis import example, given
from hypothesis import strategies as st

from minihv.boot.load import FORMATS, load, load_firmware
from minihv.boot.plan import BoardFacts, LoadRequest
from minihv.errors import ImageError

MULTIBOOT = Elf(32, segments=(Segment(data=multiboot_header(3) + bytes(64)),), entry=0x10000C)
SEGMENTS = (Segment(), Segment(paddr=0x9000, vaddr=0x80009000, data=b"data", memsz=0x3000))
SEEDS = {
    "elf32": Elf(32, segments=SEGMENTS).build(),
    "elf64": Elf(64, segments=SEGMENTS).build(),
    "multiboot": MULTIBOOT.build(),
    "multiboot flat": multiboot_flat(),
    "pvh": pvh_elf(),
    "bootsector": boot_sector(bytes(100)),
}
FACTS = (
    BoardFacts(16 << 20, reserved=((0xA0000, 0x100000, "video memory and BIOS"),)),
    BoardFacts(1 << 20),
    BoardFacts(64 << 10),
    BoardFacts(5 << 30),
)
INTERESTING = (0, 1, 4, 0x7F, 0x80, 0xFF, 0xFFFF, 0x100000, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF)

names = st.sampled_from(["a", "a.bin", "a.img"])
formats = st.sampled_from([None, *FORMATS])
boards = st.sampled_from(FACTS)
edits = st.lists(
    st.tuples(
        st.integers(0, 600),
        st.sampled_from([1, 2, 4, 8]),
        st.one_of(st.sampled_from(INTERESTING), st.integers(0, (1 << 64) - 1)),
    ),
    max_size=6,
)


def attempt(request: LoadRequest, facts: BoardFacts) -> None:
    try:
        plan = load(request, facts)
    except ImageError:
        return
    check_plan(plan, facts)


@given(data=st.binary(max_size=2000), name=names, format=formats, facts=boards)
@example(data=b"\x7fELF", name="a", format=None, facts=FACTS[0])
@example(data=b"\x02\xb0\xad\x1b", name="a", format="multiboot", facts=FACTS[0])
def test_arbitrary_bytes(data: bytes, name: str, format: str | None, facts: BoardFacts) -> None:
    attempt(LoadRequest(name, data, format), facts)


@pytest.mark.parametrize("seed", SEEDS)
@given(edits=edits, cut=st.integers(0, 100), format=formats, facts=boards)
def test_bent_images(
    seed: str, edits: list[tuple[int, int, int]], cut: int, format: str | None, facts: BoardFacts
) -> None:
    data = bytearray(SEEDS[seed])
    for at, size, value in edits:
        at %= len(data)
        data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    attempt(LoadRequest("a.img", bytes(data[: len(data) - cut]), format), facts)


@given(
    format=st.sampled_from(["flat16", "flat32", "flat64"]),
    size=st.integers(0, 0x30000),
    load_address=st.one_of(st.none(), st.integers(-1, 1 << 33)),
    entry=st.one_of(st.none(), st.integers(-1, 1 << 33), st.integers(0, 0x110000)),
    facts=boards,
)
def test_flat_images_anywhere(
    format: str, size: int, load_address: int | None, entry: int | None, facts: BoardFacts
) -> None:
    attempt(LoadRequest("a.bin", bytes(size), format, load_address, entry), facts)


@given(
    cmdline=st.text(st.characters(categories=None), max_size=50),
    modules=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=9000)), max_size=4),
    seed=st.sampled_from(["multiboot", "multiboot flat", "pvh"]),
    facts=boards,
)
def test_words_and_modules(
    cmdline: str, modules: list[tuple[str, bytes]], seed: str, facts: BoardFacts
) -> None:
    attempt(LoadRequest("a", SEEDS[seed], cmdline=cmdline, modules=tuple(modules)), facts)


@given(units=st.integers(0, 40), extra=st.sampled_from([0, 0, 0, 1, 4096]), facts=boards)
def test_firmware_of_any_size(units: int, extra: int, facts: BoardFacts) -> None:
    data = bytes(units * 65536 + extra)
    try:
        plan = load_firmware("rom", data, facts)
    except ImageError:
        return
    check_plan(plan, facts)
