"""The memory map a guest is told: RAM and reserved ranges, in the numbering that E820 made common."""

from typing import NamedTuple

from minihv.boot.lowmem import EBDA, LEGACY_HOLE_END
from minihv.boot.plan import BoardFacts
from minihv.memory import ram_layout

USABLE = 1
RESERVED = 2
"""Types of ACPI 6.5, 15.1; multiboot and PVH use the same numbers for these two."""


class MapEntry(NamedTuple):
    """`size` bytes from guest-physical `start` on are of `type`."""

    start: int
    size: int
    type: int

    @property
    def end(self) -> int:
        return self.start + self.size


def memory_map(facts: BoardFacts) -> tuple[MapEntry, ...]:
    """Ascending, non-overlapping ranges: RAM that an operating system may use, and the legacy hole."""
    holes = [(EBDA, LEGACY_HOLE_END), *((start, end) for start, end, _ in facts.reserved)]
    entries = [
        MapEntry(start, end - start, USABLE)
        for gpa, _, size in ram_layout(facts.ram_bytes)
        for start, end in subtract(gpa, gpa + size, holes)
    ]
    # Told apart from "nothing there" because the ACPI and MP tables in here are to be kept.
    entries.append(MapEntry(EBDA, LEGACY_HOLE_END - EBDA, RESERVED))
    return tuple(sorted(entries, key=lambda entry: entry.start))


def subtract(start: int, end: int, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of [start, end) after all `holes` (start, end) are cut out, in ascending order."""
    left = []
    for low, high in sorted(holes):
        if high <= start or low >= end:
            continue
        if low > start:
            left.append((start, low))
        start = max(start, high)
    if start < end:
        left.append((start, end))
    return left


def low_memory_kib(entries: tuple[MapEntry, ...]) -> int:
    """KiB of RAM from address 0 on, without a gap, at most up to the EBDA."""
    return next((entry.size for entry in entries if entry.start == 0 and entry.type == USABLE), 0) // 1024


def high_memory_kib(entries: tuple[MapEntry, ...]) -> int:
    """KiB of RAM from 1 MiB on up to the first gap."""
    at_1m = (entry.size for entry in entries if entry.start == LEGACY_HOLE_END and entry.type == USABLE)
    return next(at_1m, 0) // 1024
