"""A folder of files that are no guests: each is refused, and each for a reason of its own."""

import os
from pathlib import Path
from struct import pack, pack_into

from boot_images import CODE, Elf, Segment, boot_sector, multiboot_header, pvh_elf

INTERPRETER = Segment(data=b"/lib64/ld-linux-x86-64.so.2\0", type=3)
GIB = 1 << 30


def linux_bzimage() -> bytes:
    """The first two sectors of something that looks like one (Linux x86 boot protocol, "HdrS")."""
    data = bytearray(1024)
    data[0x1FE:0x200] = b"\x55\xaa"
    data[0x202:0x206] = b"HdrS"
    return bytes(data)


def absurd_note() -> bytes:
    """A PVH note that claims more bytes than its segment has."""
    data = bytearray(pvh_elf())
    at = data.find(b"Xen\0") - 12
    pack_into("<I", data, at + 4, 0x7FFFFFFF)
    return bytes(data)


FILES: dict[str, bytes] = {
    "good.elf": Elf().build(),
    "good.mb": multiboot_header(1 << 16, 0x100000, 0x100000, 0, 0, 0x100020).ljust(64, b"\xf4"),
    "empty": b"",
    "notes.txt": b"Dear diary, this is no guest at all.\n" * 20,
    "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(600),
    "script.sh": b"#!/bin/sh\nexit 0\n",
    "code.bin": CODE,
    "module": b"some module\n",
    "bzImage": linux_bzimage(),
    "sector.bin": boot_sector(),
    "short.img": boot_sector()[:300],
    "unsigned.img": bytes(512),
    "ident.elf": Elf().build()[:10],
    "header.elf": Elf().build()[:40],
    "programs.elf": Elf().build()[:70],
    "segment.elf": Elf(segments=(Segment(data=CODE * 100),)).build()[:1000],
    "class.elf": Elf(elf_class=7).build(),
    "bigendian.elf": Elf(encoding=2).build(),
    "object.elf": Elf(type=1).build(),
    "arm.elf": Elf(machine=183).build(),
    "phnum.elf": Elf(phnum=0xFFFF).build(),
    "phentsize.elf": Elf(phentsize=57).build(),
    "nothing.elf": Elf(segments=()).build(),
    "zero.elf": Elf(segments=(Segment(data=b"", memsz=0),)).build(),
    "program.elf": Elf(segments=(Segment(), INTERPRETER)).build(),
    "shrinks.elf": Elf(segments=(Segment(memsz=4),)).build(),
    "wraps.elf": Elf(segments=(Segment(paddr=(1 << 64) - 16),)).build(),
    "entry.elf": Elf(entry=0x5000000).build(),
    "overlap.elf": Elf(segments=(Segment(), Segment(paddr=0x100010))).build(),
    "video.elf": Elf(entry=0xB8000, segments=(Segment(paddr=0xB8000),)).build(),
    "lapic.elf": Elf(entry=0xFEE00000, segments=(Segment(paddr=0xFEE00000),)).build(),
    "high.elf": Elf(entry=0x40000000, segments=(Segment(paddr=0x40000000),)).build(),
    "huge.elf": Elf(segments=(Segment(memsz=1 << 40),)).build(),
    "checksum.mb": multiboot_header(0, checksum=12345),
    "features.mb": multiboot_header(1 << 4),
    "noaddress.mb": multiboot_header(0).ljust(64, b"\0"),
    "order.mb": multiboot_header(1 << 16, 0x100000, 0x100000, 0x90000, 0, 0x100000).ljust(64),
    "below.mb": multiboot_header(1 << 16, 0x100000, 0x200000, 0, 0, 0x100000).ljust(64),
    "cut.mb": multiboot_header(1 << 16),
    "note.elf": absurd_note(),
    "rom100": b"\xf4" * 100,
    "rom96k": b"\xf4" * (96 << 10),
    "rom17m": b"",
    "rom64k": b"\xf4" * (64 << 10),
    "words": pack("<4I", 1, 2, 3, 4),
}
"""Name -> contents."""

SPARSE = {"rom17m": 17 << 20, "gigabytes.elf": 2 * GIB, "gigabytes": 2 * GIB, "module100m": 100 << 20}
"""Name -> size in bytes; they take no room on the disk."""


def make_bad_files(folder: Path) -> None:
    """Everything above, and what is no regular file."""
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    for name, size in SPARSE.items():
        with (folder / name).open("wb") as file:
            file.truncate(size)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "gone")
