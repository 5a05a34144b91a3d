"""Entering real mode without firmware: the tiny BIOS of guests/bios16.S and its parameter block.

The BIOS starts first: it fills the IVT and the BIOS data area, sets up PIC and PIT, and jumps to the
guest. What it must know of the machine the loader writes into the block at its start; the layout of the
block is `PARAMETERS` here and the labels from `target` on in guests/bios16.S.
"""

from struct import calcsize, pack, pack_into

from minihv.boot.lowmem import (
    BASE_MEMORY_KIB,
    BIOS16,
    BIOS16_SIZE,
    BIOS_DATA_AREA,
    BIOS_DATA_SIZE,
    BOOT_SECTOR,
    EBDA,
)
from minihv.boot.memmap import high_memory_kib, memory_map
from minihv.boot.place import Layout
from minihv.boot.plan import BoardFacts, Chunk
from minihv.boot.states import real16
from minihv.errors import ImageError
from minihv.x86.state import CpuState

MAGIC = b"MHV16BIO"
SEGMENT = 0xF000
PARAMETERS = "<HHHHBxHHIHHHHHxx"
"""target IP and CS, stack SP and SS, drive, heads, sectors a track, disk sectors, then memory: base KiB,
KiB above 1 MiB (INT 15h AH=88h), KiB in 1..16 MiB and 64-KiB blocks above (AX=E801h), E820 entries."""
PARAMETERS_AT = 10
MAX_E820 = 8

FLOPPY_SECTORS = 2880
"""A disk of exactly this size is a 1.44 MB floppy: drive 0 with its geometry. Others are drive 80h."""
STACK_SIZE = 0x1000
_STACK_FLOOR = BIOS_DATA_AREA + BIOS_DATA_SIZE


def enter_real16(layout: Layout, facts: BoardFacts, entry: int, disk_sectors: int = 0) -> CpuState:
    """Place BIOS and stack; the state that ends up at GPA `entry` (below 1 MiB) in real mode.

    Interrupts are on, DL is the drive, DS and ES are 0. An image that covers the IVT or the BIOS data
    area brings its own: then there is no BIOS, and it is entered at once with interrupts off.
    """
    cs, ip = (0, entry) if entry < 0x10000 else (entry >> 4, entry & 0xF)
    ss, sp = _place_stack(layout)
    if not layout.is_free(0, _STACK_FLOOR):
        return real16(cs, ip, ss, sp)
    code = read_bios16()
    parameters = _parameters(facts, (ip, cs, sp, ss), disk_sectors)
    code[PARAMETERS_AT : PARAMETERS_AT + len(parameters)] = parameters
    layout.add(Chunk(BIOS16, bytes(code), BIOS16_SIZE, "real-mode BIOS"))
    start = int.from_bytes(code[len(MAGIC) : len(MAGIC) + 2], "little")
    return real16(SEGMENT, start)


def read_bios16() -> bytearray:
    """The shipped BIOS. Raises ImageError where it is missing or of another version than this file."""
    from pathlib import Path

    path = Path(__file__).parent.parent / "images" / "bios16.bin"
    try:
        code = bytearray(path.read_bytes())
    except OSError as error:
        raise ImageError(
            f"cannot read {path} ({error.strerror}); run `make -C guests` to build it"
        ) from error
    if len(code) != BIOS16_SIZE or not code.startswith(MAGIC):
        raise ImageError(
            f"{path}: expected {BIOS16_SIZE} bytes that begin with {MAGIC.decode()}, found {len(code)} bytes "
            f"that begin with {bytes(code[:8]).hex(' ')}; run `make -C guests` to build it anew"
        )
    return code


def _place_stack(layout: Layout) -> tuple[int, int]:
    """SS and SP: below 0x7c00 where that is free, as a BIOS leaves it, else any gap below 640 KiB."""
    if layout.is_free(BOOT_SECTOR - STACK_SIZE, BOOT_SECTOR):
        return 0, BOOT_SECTOR
    stack = layout.place(b"", "stack", size=STACK_SIZE, align=16, high=EBDA)
    return (0, stack.end) if stack.end < 0x10000 else (stack.gpa >> 4, STACK_SIZE)


def _parameters(facts: BoardFacts, target: tuple[int, int, int, int], disk_sectors: int) -> bytes:
    floppy = disk_sectors == FLOPPY_SECTORS
    drive, heads, track = (0, 2, 18) if floppy else (0x80, 16, 63)
    entries = memory_map(facts)[:MAX_E820]
    above = high_memory_kib(entries)
    block = bytearray(calcsize(PARAMETERS) + 20 * MAX_E820)
    pack_into(
        PARAMETERS, block, 0, *target, drive, heads, track, disk_sectors,
        BASE_MEMORY_KIB, min(above, 0xFFFF), min(above, 0x3C00), min(max(above - 0x3C00, 0) // 64, 0xFFFF),
        len(entries),
    )  # fmt: skip
    for index, entry in enumerate(entries):
        at = calcsize(PARAMETERS) + 20 * index
        block[at : at + 20] = pack("<QQI", entry.start, entry.size, entry.type)
    return bytes(block)
