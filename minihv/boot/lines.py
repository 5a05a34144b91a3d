"""Source lines for guest addresses, from an ELF file's DWARF line tables.

pyelftools reads them, and only where an image has them and a report asks. The file is hostile until proven
otherwise: sizes are capped, compressed sections are refused (a few KiB may hold gigabytes), and whatever the
library makes of a bent table, the answer is "no lines" and never an error.
"""

from bisect import bisect_right
from io import BytesIO
from operator import itemgetter
from typing import Any, Self

from minihv.boot.elf import MAGIC

MAX_DEBUG = 32 << 20
"""Bytes of debug sections that are looked at."""
MAX_ENTRIES = 1_000_000
_SHF_COMPRESSED = 0x800
_NAME = b".debug_line\0"


class LineTable:
    """Sorted (address, "file.c:12"); an empty text ends a sequence: no line is known from there on."""

    def __init__(self, entries: list[tuple[int, str]]) -> None:
        self._entries = sorted(entries, key=itemgetter(0))
        self._starts = [entry[0] for entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def from_elf(cls, data: bytes) -> Self:
        """The table of an ELF file; empty for anything without readable line tables. Never raises."""
        if not data.startswith(MAGIC) or _NAME not in data:
            return cls([])
        try:
            return cls(_read(data))
        except Exception:  # a library that walks a bent file raises whatever its walk ran into
            return cls([])

    def lookup(self, address: int) -> str:
        """ "file.c:12" for a linear address, or ""."""
        index = bisect_right(self._starts, address) - 1
        return self._entries[index][1] if index >= 0 else ""


def _read(data: bytes) -> list[tuple[int, str]]:
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(BytesIO(data))
    debug = [section for section in elf.iter_sections() if section.name.startswith((".debug", ".zdebug"))]
    if any(section["sh_flags"] & _SHF_COMPRESSED or section.name[1] == "z" for section in debug):
        return []
    if sum(section["sh_size"] for section in debug) > MAX_DEBUG:
        return []
    dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False)
    entries: dict[int, str] = {}
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        for entry in program.get_entries() if program is not None else ():
            state = entry.state
            if state is None:
                continue
            if len(entries) >= MAX_ENTRIES:
                return list(entries.items())
            # A sequence's end must not hide the beginning of the next one at the same address.
            if state.end_sequence:
                entries.setdefault(state.address, "")
            else:
                entries[state.address] = f"{_file(program, state.file)}:{state.line}"
    return list(entries.items())


def _file(program: Any, index: int) -> str:
    """The file's name without its folder. Indices count from 1 before DWARF 5, from 0 since (6.2.4)."""
    files = program["file_entry"]
    if program["version"] < 5:
        index -= 1
    name: bytes = files[index].name
    return name.decode("utf-8", "replace").rpartition("/")[2]
