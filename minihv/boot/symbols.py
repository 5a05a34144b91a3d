"""Names for guest addresses, from an ELF file's symbol table.

Parsed only when a report asks. Read with `struct` and not with an ELF library, because the file is
hostile until proven otherwise: a library walks what the headers claim (section counts, names without
an end, compressed sections), while here every count is capped and names are cut out only on look-up.
"""

import struct
from bisect import bisect_right
from operator import itemgetter
from typing import Self

from minihv.boot.elf import HEADER_LAYOUTS, IDENT_SIZE, MAGIC

MAX_SYMBOLS = 200_000
MAX_SECTIONS = 4096
MAX_NAME = 256
"""Bytes of a name that are shown."""

_SHT_SYMTAB = 2
_SECTION_LAYOUTS = {32: "<IIIIIIIIII", 64: "<IIQQQQIIQQ"}
_SECTION_SIZES = {32: 40, 64: 64}
_SYMBOL_LAYOUTS = {32: "<IIIBBH", 64: "<IBBHQQ"}
_SYMBOL_SIZES = {32: 16, 64: 24}
_CODE_TYPES = {2: 0, 0: 1}
"""STT_FUNC before STT_NOTYPE (an assembler label) where both name the same address."""
_SHN_LORESERVE = 0xFF00


class SymbolTable:
    """Sorted code symbols; addresses are linear, as the ELF file's symbols are (virtual)."""

    def __init__(self, symbols: list[tuple[int, int, int]], names: bytes) -> None:
        """`symbols` are (address, size, offset in `names`), ascending, one for each address."""
        self._symbols = symbols
        self._starts = [symbol[0] for symbol in symbols]
        self._names = names

    def __len__(self) -> int:
        return len(self._symbols)

    @classmethod
    def from_elf(cls, data: bytes) -> Self:
        """The table of an ELF file; empty for anything without a readable symbol table. Never raises."""
        try:
            symbols, names = _read(data)
        except struct.error:  # a header that the file is too short for
            symbols, names = [], b""
        return cls(symbols, names)

    def lookup(self, address: int) -> tuple[str, int] | None:
        """Name of the symbol that covers `address`, and the offset from its start in bytes; or None.

        A symbol without a size (a label) reaches up to the next symbol.
        """
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        start, size, name = self._symbols[index]
        if size and address >= start + size:
            return None
        return self._name(name), address - start

    def find(self, name: str) -> int | None:
        """Address of the first symbol with this name; None where there is none."""
        for start, _, at in self._symbols:
            if self._name(at) == name:
                return start
        return None

    def _name(self, at: int) -> str:
        raw = self._names[at : at + MAX_NAME].split(b"\0", 1)[0]
        return raw.decode("utf-8", "replace")


def _read(data: bytes) -> tuple[list[tuple[int, int, int]], bytes]:
    """Code symbols and the string table of the first SHT_SYMTAB section. Raises struct.error."""
    bits = {1: 32, 2: 64}.get(data[4] if len(data) > 5 else 0)
    if bits is None or not data.startswith(MAGIC) or data[5] != 1:
        return [], b""
    header = struct.unpack_from(HEADER_LAYOUTS[bits], data, IDENT_SIZE)
    shoff, shentsize, shnum = header[5], header[10], header[11]
    if shentsize != _SECTION_SIZES[bits] or shnum > MAX_SECTIONS or shoff > len(data):
        return [], b""
    for index in range(shnum):
        section = struct.unpack_from(_SECTION_LAYOUTS[bits], data, shoff + index * shentsize)
        if section[1] == _SHT_SYMTAB:
            link = section[6]
            if link >= shnum:
                return [], b""
            strings = struct.unpack_from(_SECTION_LAYOUTS[bits], data, shoff + link * shentsize)
            names = data[strings[4] : strings[4] + strings[5]]
            return _code_symbols(data, bits, section[4], section[5], len(names)), names
    return [], b""


def _code_symbols(data: bytes, bits: int, offset: int, size: int, names: int) -> list[tuple[int, int, int]]:
    each = _SYMBOL_SIZES[bits]
    count = min(size, max(len(data) - offset, 0), MAX_SYMBOLS * each) // each
    found: list[tuple[int, int, int, int]] = []
    for fields in struct.iter_unpack(_SYMBOL_LAYOUTS[bits], memoryview(data)[offset : offset + count * each]):
        if bits == 32:
            name, value, length, info, _, section = fields
        else:
            name, info, _, section, value, length = fields
        rank = _CODE_TYPES.get(info & 0xF)
        if rank is not None and 0 < section < _SHN_LORESERVE and 0 < name < names:
            found.append((value, rank, length, name))
    found.sort(key=itemgetter(0, 1))
    best: dict[int, tuple[int, int, int]] = {}
    for value, _, length, name in found:
        best.setdefault(value, (value, length, name))
    return list(best.values())
