"""Recognition: the table of formats, its order, and what is refused in which words."""

import pytest
from boot_images import FACTS, Elf, Segment, boot_sector, multiboot_flat, multiboot_header, pvh_elf, xen_note

from minihv.boot.load import FORMATS, load, sniff
from minihv.boot.plan import LoadRequest
from minihv.errors import ImageError, UsageError

BZIMAGE = boot_sector(b"\xeb\x66HdrS" + bytes(64))
BOTH = Elf(segments=(Segment(data=multiboot_header()), Segment(type=4, data=xen_note(0x100000)))).build()


@pytest.mark.parametrize(
    ("data", "name", "format"),
    [
        (Elf().build(), "a", "elf64"),
        (Elf(32).build(), "a.img", "elf32"),
        (multiboot_flat(), "a", "multiboot"),
        (pvh_elf(), "a", "pvh"),
        (BOTH, "a", "multiboot"),
        (boot_sector(), "a.img", "bootsector"),
        (boot_sector(bytes(5000)), "dir/A.IMG", "bootsector"),
    ],
)
def test_recognised(data: bytes, name: str, format: str) -> None:
    assert sniff(data, name) == format
    assert format in FORMATS


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"", "a", "expected a guest image, found an empty file"),
        (b"#!/bin/sh\n", "run.sh", "begins 23 21 2f 62 69 6e 2f 73"),
        (b"\xf4", "a.bin", "say --format flat16, flat32 or flat64"),
        (boot_sector(), "a", "say --format bootsector"),
        (BZIMAGE, "bzImage", "Linux bzImage, which minihv cannot start yet"),
        (BZIMAGE, "linux.img", "Linux bzImage, which minihv cannot start yet"),
        (bytes(512), "a.img", "expected an ELF file"),
    ],
)
def test_refused(data: bytes, name: str, sentence: str) -> None:
    with pytest.raises(ImageError) as refused:
        sniff(data, name)
    assert str(refused.value).startswith(f"{name}: ")
    assert sentence in str(refused.value)


def test_explicit_format_wins() -> None:
    assert load(LoadRequest("a", BOTH, "elf64"), FACTS).format == "elf64"
    assert load(LoadRequest("a", BOTH, "pvh"), FACTS).format == "pvh"
    assert load(LoadRequest("a", Elf().build(), "flat32"), FACTS).format == "flat32"


def test_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="flat16, flat32, flat64, bootsector, elf32, elf64, multiboot, pvh"):
        load(LoadRequest("a", b"", "a.out"), FACTS)
