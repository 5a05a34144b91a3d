"""Finding a multiboot 1 header (Multiboot Specification 0.6.96, 3.1): all that recognition needs."""

from struct import pack
from typing import NamedTuple

from minihv.boot.image import ImageFile

HEADER_MAGIC = 0x1BADB002
SEARCH_SIZE = 8192
"""The header lies wholly in the first 8 KiB of the file, 4-byte aligned (3.1)."""
_FLAG_ADDRESSES = 1 << 16


class MultibootHeader(NamedTuple):
    """A header with a right checksum at file `offset`. `addresses` only with flag bit 16 (3.1.3):
    header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr."""

    offset: int
    flags: int
    addresses: tuple[int, int, int, int, int] | None


def find_header(image: ImageFile) -> MultibootHeader | None:
    """The first multiboot header, or None. Raises ImageError where its address fields are cut off."""
    at = find_magic(image, checked=True)
    if at is None:
        return None
    flags = image.unpack("<I", at + 4, "the multiboot header")[0]
    addresses = None
    if flags & _FLAG_ADDRESSES:
        a, b, c, d, e = image.unpack("<5I", at + 12, "the address fields of the multiboot header")
        addresses = (a, b, c, d, e)
    return MultibootHeader(at, flags, addresses)


def find_magic(image: ImageFile, *, checked: bool) -> int | None:
    """File offset of the first aligned header magic, with a right checksum if `checked`."""
    head = bytes(image.data[:SEARCH_SIZE])
    magic = pack("<I", HEADER_MAGIC)
    at = head.find(magic)
    while at >= 0:
        if at % 4 == 0 and at + 12 <= len(head):
            words = (int.from_bytes(head[at + i : at + i + 4], "little") for i in (0, 4, 8))
            if not checked or sum(words) & 0xFFFFFFFF == 0:
                return at
        at = head.find(magic, at + 1)
    return None
