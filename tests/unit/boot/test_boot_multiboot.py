"""Multiboot 1: header search, both ways to describe the image, and the information structure."""

from struct import unpack

import pytest
from boot_images import (
    FACTS,
    Elf,
    Segment,
    bytes_at,
    check_plan,
    chunk_named,
    multiboot_flat,
    multiboot_header,
    text_at,
)

from minihv.boot.load import load
from minihv.boot.plan import BoardFacts, BootPlan, LoadRequest
from minihv.errors import ImageError

KERNEL = Elf(32, segments=(Segment(data=multiboot_header(3) + b"\xf4" * 32),), entry=0x10000C)


def boot(
    data: bytes,
    cmdline: str = "",
    modules: tuple[tuple[str, bytes], ...] = (),
    facts: BoardFacts = FACTS,
    name: str = "dir/kernel.elf",
) -> BootPlan:
    plan = load(LoadRequest(name, data, cmdline=cmdline, modules=modules), facts)
    check_plan(plan, facts)
    return plan


def info(plan: BootPlan) -> tuple[int, ...]:
    return unpack("<22I", bytes_at(plan, plan.state.gpr[3], 88))


@pytest.mark.parametrize("bits", [32, 64])
def test_elf_of_both_classes_starts_in_32_bit_mode(bits: int) -> None:
    plan = boot(Elf(bits, segments=KERNEL.segments, entry=KERNEL.entry).build())
    assert plan.format == "multiboot"
    assert plan.state.rip == 0x10000C
    assert plan.state.gpr[0] == 0x2BADB002
    assert plan.state.cr0 == 0x11
    assert plan.symbols


def test_info_says_what_is_there() -> None:
    fields = info(boot(KERNEL.build()))
    assert fields[0] == 0b10_0100_1101
    assert fields[1:3] == (639, 15 * 1024)
    assert fields[7:11] == (0, 0, 0, 0)


def test_cmdline_always_begins_with_a_program_name() -> None:
    plan = boot(KERNEL.build())
    assert text_at(plan, info(plan)[4]) == "kernel.elf"
    plan = boot(KERNEL.build(), "quiet x=1", name="/tmp/my kernel")
    assert text_at(plan, info(plan)[4]) == "my_kernel quiet x=1"
    assert text_at(plan, info(plan)[16]) == "minihv"


def test_memory_map_entries() -> None:
    plan = boot(KERNEL.build())
    _, size, at = (info(plan)[i] for i in (0, 11, 12))
    entries = [unpack("<IQQI", bytes_at(plan, at + i, 24)) for i in range(0, size, 24)]
    assert entries == [
        (20, 0, 0x9FC00, 1),
        (20, 0x9FC00, 0x60400, 2),
        (20, 0x100000, 15 << 20, 1),
    ]


def test_modules_are_page_aligned_above_the_kernel() -> None:
    plan = boot(KERNEL.build(), modules=(("a.bin args", b"A" * 5000), ("b", b"B")))
    count, at = info(plan)[5:7]
    assert count == 2
    first, second = (unpack("<IIII", bytes_at(plan, at + i * 16, 16)) for i in range(2))
    assert first[:2] == (0x101000, 0x101000 + 5000)
    assert second[:2] == (0x103000, 0x103001)
    assert [text_at(plan, record[2]) for record in (first, second)] == ["a.bin args", "b"]
    assert bytes_at(plan, 0x101000, 5000) == b"A" * 5000


def test_without_modules_the_count_is_zero() -> None:
    assert info(boot(KERNEL.build()))[5] == 0


def test_address_fields_describe_a_file_without_elf() -> None:
    plan = boot(bytes(16) + multiboot_flat(64, base=0x200000))
    image = chunk_named(plan, "multiboot image")
    assert (image.gpa, len(image.data), image.size) == (0x200000, 64, 64 + 0x1000)
    assert plan.state.rip == 0x200020
    assert not plan.symbols


def test_address_fields_load_what_stands_before_the_header() -> None:
    header = multiboot_header(1 << 16, 0x200010, 0x200000, 0, 0, 0x200000)
    plan = boot(b"\xf4" * 16 + header + b"tail")
    image = chunk_named(plan, "multiboot image")
    assert bytes(image.data) == b"\xf4" * 16 + header + b"tail"
    assert image.size == len(image.data)


def test_address_fields_win_over_elf() -> None:
    elf = Elf(
        32, segments=(Segment(data=multiboot_header(1 << 16, 0x300000, 0x300000, 0, 0, 0x300020) + CODE),)
    )
    assert boot(elf.build()).state.rip == 0x300020


CODE = b"\xf4" * 32


@pytest.mark.parametrize("offset", [0, 4, 8192 - 32])
def test_header_is_found_in_the_first_8_kib(offset: int) -> None:
    assert boot(bytes(offset) + multiboot_flat()).format == "multiboot"


@pytest.mark.parametrize("offset", [2, 8192 - 8, 8192])
def test_header_elsewhere_is_none(offset: int) -> None:
    with pytest.raises(ImageError, match="expected an ELF file"):
        load(LoadRequest("k", bytes(offset) + multiboot_flat()), FACTS)


def flat(*addresses: int) -> bytes:
    return multiboot_header(1 << 16, *addresses).ljust(64, b"\xf4")


REFUSED = {
    "checksum": (multiboot_header(0, checksum=1), "wrong checksum: expected 0xe4524ffe, found 0x1"),
    "none": (b"\xf4" * 64, "in the first 8 KiB, found none"),
    "feature": (multiboot_header(0x10) + CODE, "requires features 0x10"),
    "no addresses, no ELF": (multiboot_header(0) + CODE, "so expected an ELF file"),
    "cut off": (multiboot_header(1 << 16), "address fields of the multiboot header takes 0x14 bytes"),
    "load above header": (flat(0x100000, 0x100010, 0, 0, 0x100000), "load address at 0x100010"),
    "before the file": (flat(0x100010, 0x100000, 0, 0, 0x100000), "at most 0x0 bytes below"),
    "load end": (flat(0x100000, 0x100000, 0xFFFF0, 0, 0x100000), "expected them in ascending order"),
    "bss end": (flat(0x100000, 0x100000, 0x100040, 0x100020, 0x100000), "expected them in ascending order"),
    "truncated": (flat(0x100000, 0x100000, 0x200000, 0, 0x100000), "takes 0x100000 bytes at file offset 0x0"),
    "entry": (flat(0x100000, 0x100000, 0, 0, 0x100040), "has entry 0x100040"),
    "too large": (flat(0x100000, 0x100000, 0, 0xFFFFFFFF, 0x100000), "does not fit into guest RAM"),
    "reserved": (flat(0xA0000, 0xA0000, 0, 0, 0xA0000), "covers video memory and BIOS"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused(why: str) -> None:
    data, sentence = REFUSED[why]
    with pytest.raises(ImageError) as refused:
        load(LoadRequest("k", data, "multiboot"), FACTS)
    assert sentence in str(refused.value)


def test_modules_that_do_not_fit() -> None:
    with pytest.raises(ImageError, match="module big needs 0x1000000 bytes"):
        boot(KERNEL.build(), modules=(("big", bytes(16 << 20)),))


def test_empty_and_too_many_modules() -> None:
    with pytest.raises(ImageError, match="m: expected a module with contents"):
        boot(KERNEL.build(), modules=(("m", b""),))
    with pytest.raises(ImageError, match="at most 64 modules, found 65"):
        boot(KERNEL.build(), modules=(("m", b"x"),) * 65)


def test_command_line_that_is_no_text() -> None:
    with pytest.raises(ImageError, match="in Unicode"):
        boot(KERNEL.build(), "\ud800")
    plan = boot(KERNEL.build(), "caf\udce9")
    assert bytes_at(plan, info(plan)[4], 16) == b"kernel.elf caf\xe9\0"


@pytest.mark.parametrize("cmdline", ["x" * 5000, "a\0b"])
def test_impossible_command_lines(cmdline: str) -> None:
    with pytest.raises(ImageError, match="at most 4095 bytes without NUL"):
        boot(KERNEL.build(), cmdline)
