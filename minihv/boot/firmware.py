"""Firmware ROMs: mapped below 4 GiB and below 1 MiB, entered at the reset vector."""

from minihv.boot.image import ImageFile
from minihv.boot.lowmem import LEGACY_HOLE_END
from minihv.boot.place import LIMIT_4G
from minihv.boot.plan import BoardFacts, BootPlan, Chunk
from minihv.memory import ram_layout
from minihv.x86.state import CpuState

UNIT = 64 * 1024
MAX_SIZE = 16 << 20
LOW_SIZE = 128 * 1024
"""Bytes of the ROM's end that also appear below 1 MiB, where real-mode code runs from."""


def load_firmware(name: str, data: bytes, facts: BoardFacts) -> BootPlan:
    """A plan whose ROM ends at 4 GiB, the processor at F000:FFF0 with CS base 0xffff0000.

    The low copy lies at the place of RAM: the builder leaves RAM out there. Raises ImageError for a size
    that is no multiple of 64 KiB in 64 KiB..16 MiB, and where the ROM would cover RAM or a window.
    """
    image = ImageFile(name, data)
    size = len(data)
    if size % UNIT or not UNIT <= size <= MAX_SIZE:
        raise image.refuse(
            f"expected a firmware ROM of 64 KiB to 16 MiB, a multiple of 64 KiB, found {size} bytes"
        )
    low_size = min(size, LOW_SIZE)
    high = Chunk(LIMIT_4G - size, image.data, size, "firmware ROM")
    low = Chunk(
        LEGACY_HOLE_END - low_size, image.data[size - low_size :], low_size, "firmware ROM (low copy)"
    )
    occupied = [(start, end, label) for start, end, label in facts.reserved if start >= LEGACY_HOLE_END]
    occupied += [(gpa, gpa + length, "RAM") for gpa, _, length in ram_layout(facts.ram_bytes)]
    for start, end, label in occupied:
        if start < high.end and high.gpa < end:
            raise image.refuse(
                f"firmware ROM at {high.gpa:#x}..{high.end - 1:#x} covers {label} at {start:#x}..{end - 1:#x}"
                "; use a smaller ROM"
            )
    if facts.ram_bytes < LEGACY_HOLE_END:
        raise image.refuse(f"firmware needs at least 1 MiB of RAM, found {facts.ram_bytes:#x} bytes")
    return BootPlan("firmware", (), CpuState(), roms=(high, low), needs_bios_tables=False)
