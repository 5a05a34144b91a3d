"""Guest-physical memory as the VMM sees it: RAM and ROM regions over host buffers, bounds-checked.

Every access of the VMM to guest memory goes through here, so a hostile address or length can raise
`GuestMemoryError`, and never read or write anything of the host's.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minihv.errors import GuestMemoryError

PAGE_SIZE = 4096
RAM_HOLE_START = 0xC0000000
"""RAM goes up to here at most; the rest continues at 4 GiB, because devices and ROM live in between."""
RAM_HOLE_END = 1 << 32
LEGACY_WINDOW_START = 0xA0000
"""128 KiB of video memory on every PC: never RAM."""
LEGACY_WINDOW_END = 0xC0000


class Region(NamedTuple):
    """`size` bytes of RAM or ROM at guest-physical `gpa`, backed by `view` (len == size)."""

    gpa: int
    size: int
    view: memoryview
    readonly: bool
    name: str

    @property
    def end(self) -> int:
        """First guest-physical address after the region."""
        return self.gpa + self.size


def ram_layout(
    size: int, holes: Iterable[tuple[int, int]] = ((LEGACY_WINDOW_START, LEGACY_WINDOW_END),)
) -> list[tuple[int, int, int]]:
    """Where `size` bytes of RAM go: (gpa, offset in the backing store, size) for each piece.

    Inside a hole (start, end) the RAM stays hidden behind whatever lives there, as on a PC: it is not
    moved elsewhere.
    """
    low = min(size, RAM_HOLE_START)
    pieces = [(0, 0, low)]
    if size > low:
        pieces.append((RAM_HOLE_END, low, size - low))
    for start, end in holes:
        pieces = [part for piece in pieces for part in _without(piece, start, end)]
    return pieces


def _without(piece: tuple[int, int, int], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """What is left of one piece outside [start, end)."""
    gpa, offset, size = piece
    if end <= gpa or gpa + size <= start:
        yield piece
        return
    if gpa < start:
        yield gpa, offset, start - gpa
    if end < gpa + size:
        yield end, offset + end - gpa, gpa + size - end


class GuestMemory:
    """An ordered, non-overlapping set of regions."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self.regions: tuple[Region, ...] = tuple(sorted(regions, key=lambda r: r.gpa))
        for low, high in zip(self.regions, self.regions[1:], strict=False):
            if low.end > high.gpa:
                raise ValueError(f"memory regions {low.name} and {high.name} overlap at {high.gpa:#x}")
        self._starts = [r.gpa for r in self.regions]

    def find(self, gpa: int) -> Region | None:
        """The region that holds `gpa`, or None."""
        index = bisect_right(self._starts, gpa) - 1
        if index >= 0 and gpa < self.regions[index].end:
            return self.regions[index]
        return None

    def view(self, gpa: int, size: int) -> memoryview:
        """The `size` bytes at `gpa`, which must lie in one region. Raises GuestMemoryError."""
        region = self.find(gpa)
        if region is None or size < 0 or gpa + size > region.end:
            raise GuestMemoryError(gpa, size)
        start = gpa - region.gpa
        return region.view[start : start + size]

    def read(self, gpa: int, size: int) -> bytes:
        """A copy of `size` bytes at `gpa`. Raises GuestMemoryError."""
        return bytes(self.view(gpa, size))

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `gpa`, ROM included (this is the VMM's view). Raises GuestMemoryError."""
        self.view(gpa, len(data))[:] = data

    def read_int(self, gpa: int, size: int) -> int:
        """Little-endian unsigned integer of `size` bytes at `gpa`. Raises GuestMemoryError."""
        return int.from_bytes(self.view(gpa, size), "little")

    @property
    def ram_bytes(self) -> int:
        """Total RAM in bytes, ROM not included."""
        return sum(r.size for r in self.regions if not r.readonly)

    def release(self) -> None:
        """Drop the views, so that the owner of the backing store can unmap it."""
        for region in self.regions:
            region.view.release()
