"""The tables that firmware would leave in memory: one call for the builder."""

from minihv.boot import acpi, mptable
from minihv.boot.biosdata import bios_data_area
from minihv.boot.plan import Chunk
from minihv.boot.platform import Platform


def bios_tables(platform: Platform, rsdp: int, taken: tuple[Chunk, ...] = ()) -> tuple[Chunk, ...]:
    """All tables of the board: ACPI from GPA `rsdp` on, the MP table, the BIOS data area.

    `taken` are the chunks of the boot plan. The BIOS data area is left out where they cover it (a flat
    image at address 0): its one entry that matters, the EBDA segment, is for real-mode software.
    """
    chunks = [acpi.tables(platform, rsdp), mptable.table(platform)]
    data_area = bios_data_area()
    if not any(chunk.gpa < data_area.end and data_area.gpa < chunk.end for chunk in taken):
        chunks.insert(0, data_area)
    return tuple(chunks)
