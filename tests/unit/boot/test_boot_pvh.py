"""PVH: the note, the start info, and damaged notes."""

from struct import pack, unpack

import pytest
from boot_images import CODE, FACTS, Elf, Segment, bytes_at, check_plan, pvh_elf, text_at, xen_note

from minihv.boot.load import load
from minihv.boot.plan import BootPlan, LoadRequest
from minihv.errors import ImageError


def boot(data: bytes, cmdline: str = "", modules: tuple[tuple[str, bytes], ...] = ()) -> BootPlan:
    plan = load(LoadRequest("vmlinux", data, cmdline=cmdline, modules=modules), FACTS)
    check_plan(plan, FACTS)
    return plan


def with_note(note: bytes) -> bytes:
    return Elf(segments=(Segment(), Segment(type=4, data=note))).build()


def start_info(plan: BootPlan) -> tuple[int, ...]:
    return unpack("<IIIIQQQQII", bytes_at(plan, plan.state.gpr[3], 56))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("size", [4, 8])
def test_entry_comes_from_the_note(bits: int, size: int) -> None:
    segments = (Segment(), Segment(type=4, data=xen_note(0x100004, size)))
    plan = boot(Elf(bits, segments=segments).build())
    assert plan.format == "pvh"
    assert plan.state.rip == 0x100004
    assert plan.state.cr0 == 0x11
    assert plan.state.cs.big


def test_start_info() -> None:
    plan = boot(pvh_elf(), "console=ttyS0", (("initrd", b"I" * 100),))
    magic, version, flags, modules, modlist, cmdline, rsdp, memmap, entries, _ = start_info(plan)
    assert (magic, version, flags, modules, rsdp, entries) == (0x336EC578, 1, 0, 1, 0xE0000, 3)
    assert text_at(plan, cmdline) == "console=ttyS0"
    address, size, name, _ = unpack("<QQQQ", bytes_at(plan, modlist, 32))
    assert (address, size, text_at(plan, name)) == (0x101000, 100, "initrd")
    assert bytes_at(plan, address, size) == b"I" * 100
    assert unpack("<QQII", bytes_at(plan, memmap + 48, 24)) == (0x100000, 15 << 20, 1, 0)


def test_without_modules_the_list_is_null() -> None:
    assert start_info(boot(pvh_elf()))[3:5] == (0, 0)


def test_other_notes_do_not_make_it_pvh() -> None:
    assert boot(with_note(pack("<III", 4, 4, 18) + b"GNU\0" + bytes(4))).format == "elf64"
    assert boot(with_note(b"")).format == "elf64"


@pytest.mark.parametrize(
    ("note", "sentence"),
    [
        (pack("<III", 0xFFFFFFFF, 4, 18), "claims 4294967295 + 4 bytes, more than its segment has"),
        (pack("<III", 4, 0xFFFFFFF0, 18) + b"Xen\0", "claims 4 + 4294967280 bytes"),
        (pack("<III", 4, 2, 18) + b"Xen\0" + bytes(4), "note of 4 or 8 bytes, found 2"),
        (xen_note(0x90000000), "inside a loadable segment (0x100000..0x10001f), found 0x90000000"),
    ],
)
def test_damaged_notes_are_refused(note: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as refused:
        boot(with_note(note))
    assert sentence in str(refused.value)


def test_absurd_amount_of_notes() -> None:
    notes = Segment(type=4, data=CODE, filesz=3 << 19)
    with pytest.raises(ImageError, match="more than 0x100000 bytes of notes"):
        boot(Elf(segments=(Segment(), notes)).build() + bytes(2 << 20))


def test_explicit_pvh_without_note() -> None:
    with pytest.raises(ImageError, match="owner Xen and type 18"):
        load(LoadRequest("k", Elf().build(), "pvh"), FACTS)
