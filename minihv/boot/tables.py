"""The tables that firmware would leave in memory: one call for the builder."""

from minihv.boot import acpi, mptable
from minihv.boot.biosdata import bios_data_area
from minihv.boot.plan import Chunk
from minihv.boot.platform import Platform


def bios_tables(platform: Platform, rsdp: int, taken: tuple[Chunk, ...] = ()) -> tuple[Chunk, ...]:
    """All tables of the board: the BIOS data area, ACPI from GPA `rsdp` on, the MP table.

    `taken` are the chunks of the boot plan. What they cover is left out, so that no table ever damages an
    image: one that is put over the BIOS data area (flat, at address 0) or the BIOS ROM area brings its own.
    """
    tables = (bios_data_area(), acpi.tables(platform, rsdp), mptable.table(platform))
    return tuple(table for table in tables if not any(c.gpa < table.end and table.gpa < c.end for c in taken))
