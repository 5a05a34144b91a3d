"""Where things lie below 1 MiB: the PC's conventions that every loader and table here shares.

All values are guest-physical addresses, sizes in bytes.
"""

BIOS_DATA_AREA = 0x400
"""256 bytes of variables that real-mode software expects (IBM PC/AT Technical Reference, BIOS data)."""
BIOS_DATA_SIZE = 0x100
FREE_LOW = 0x1000
"""First page that a loader uses for its own tables: page 0 holds the IVT and the BIOS data area."""
BOOT_SECTOR = 0x7C00
EBDA = 0x9FC00
"""Extended BIOS data area: the last KiB below 640 KiB, named by the segment at 0x40E."""
EBDA_SIZE = 0x400
LEGACY_HOLE_END = 0x100000
"""EBDA, video memory, option ROMs and BIOS lie from `EBDA` up to here: no RAM for an operating system."""
MP_TABLE = 0xF0000
"""Start of the BIOS ROM area, the last place an MP floating pointer is searched in (MP 1.4, 4)."""
BIOS16 = 0xFF000
"""The tiny real-mode BIOS: the last 4 KiB below 1 MiB, so that F000:FFF0 is inside."""
BIOS16_SIZE = 0x1000
BASE_MEMORY_KIB = EBDA // 1024
