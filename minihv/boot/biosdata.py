"""The BIOS data area, as far as software without a BIOS reads it."""

from struct import pack_into

from minihv.boot.lowmem import BASE_MEMORY_KIB, BIOS_DATA_AREA, BIOS_DATA_SIZE, EBDA
from minihv.boot.plan import Chunk

_EBDA_SEGMENT, _BASE_MEMORY = 0x0E, 0x13
"""Offsets in the area (IBM PC/AT Technical Reference). MP 1.4, 4 searches the EBDA and the last KiB of
base memory for the MP floating pointer, and finds both through these two words."""


def bios_data_area() -> Chunk:
    """256 bytes at GPA 0x400: segment of the EBDA, KiB of base memory, zeros."""
    data = bytearray(BIOS_DATA_SIZE)
    pack_into("<H", data, _EBDA_SEGMENT, EBDA >> 4)
    pack_into("<H", data, _BASE_MEMORY, BASE_MEMORY_KIB)
    return Chunk(BIOS_DATA_AREA, bytes(data), BIOS_DATA_SIZE, "BIOS data area")
