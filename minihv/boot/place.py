"""Where bytes go in guest RAM: image segments where they ask to be, a loader's own tables where room is."""

from bisect import bisect_left

from minihv.boot.image import ImageFile
from minihv.boot.lowmem import EBDA, FREE_LOW, LEGACY_HOLE_END
from minihv.boot.memmap import subtract
from minihv.boot.plan import BoardFacts, Chunk
from minihv.memory import ram_layout

LIMIT_4G = 1 << 32
"""Loader tables stay below: their pointers are 32-bit, and long mode starts with 4 GiB mapped."""


class Layout:
    """The chunks of one BootPlan while it grows; none overlaps another, all lie in RAM."""

    def __init__(self, image: ImageFile, facts: BoardFacts) -> None:
        self._image = image
        self._facts = facts
        self._ram = [(gpa, gpa + size) for gpa, _, size in ram_layout(facts.ram_bytes)]
        self._chunks: list[Chunk] = []
        self.image_end = 0
        """First GPA after the highest chunk that came from the image."""

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """All chunks in ascending order of address."""
        return tuple(self._chunks)

    def add_image(self, chunk: Chunk) -> None:
        """Take bytes of the image at the address it demands.

        Raises ImageError where that is not RAM, is a reserved window, or is taken already.
        """
        if chunk.size > self._facts.ram_bytes:
            raise self._image.refuse(
                f"{_range(chunk)} does not fit into guest RAM: it needs {chunk.size:#x} bytes, there are "
                f"{self._facts.ram_bytes:#x}; give the machine more memory"
            )
        for start, end, name in self._facts.reserved:
            if chunk.gpa < end and start < chunk.end:
                raise self._image.refuse(
                    f"{_range(chunk)} covers {name} at {start:#x}..{end - 1:#x}; link it to another address"
                )
        self.add(chunk)
        self.image_end = max(self.image_end, chunk.end)

    def add(self, chunk: Chunk) -> None:
        """Take bytes at a fixed address, reserved windows not looked at. Raises ImageError as above."""
        if not any(start <= chunk.gpa and chunk.end <= end for start, end in self._ram):
            ranges = ", ".join(f"{start:#x}..{end - 1:#x}" for start, end in self._ram)
            raise self._image.refuse(
                f"{_range(chunk)} does not fit into guest RAM ({ranges}); give the machine more memory "
                "or link the image to a lower address"
            )
        index = bisect_left(self._chunks, chunk.gpa, key=lambda other: other.gpa)
        for other in self._chunks[max(index - 1, 0) : index + 1]:
            if other.gpa < chunk.end and chunk.gpa < other.end:
                raise self._image.refuse(
                    f"{_range(chunk)} overlaps {_range(other)}; each needs addresses of its own"
                )
        self._chunks.insert(index, chunk)

    def place(
        self,
        data: bytes | memoryview,
        name: str,
        *,
        size: int | None = None,
        align: int = 16,
        prefer: int = FREE_LOW,
        low: int = FREE_LOW,
        high: int = LIMIT_4G,
    ) -> Chunk:
        """Put a table of the loader's own into free RAM: at or above `prefer`, else anywhere in low..high.

        `size` in bytes defaults to len(data), `align` is a power of two. Page 0, the legacy hole and
        reserved windows are never used. Raises ImageError where no gap is large enough.
        """
        size = len(data) if size is None else size
        for start in (max(prefer, low), low):
            gpa = self._gap(size, align, start, high)
            if gpa is not None:
                chunk = Chunk(gpa, data, size, name)
                self.add(chunk)
                return chunk
        raise self._image.refuse(
            f"{name} needs {size:#x} bytes of guest RAM in {low:#x}..{high - 1:#x}, but the image and the "
            "windows of the machine leave no such gap; give the machine more memory"
        )

    def fill(self, chunk: Chunk, data: bytes) -> None:
        """Give a placed chunk its contents, where they depend on its address."""
        self._chunks[self._chunks.index(chunk)] = Chunk(chunk.gpa, data, chunk.size, chunk.name)

    def is_free(self, start: int, end: int) -> bool:
        """Whether no chunk touches the GPAs start..end-1."""
        return not any(chunk.gpa < end and start < chunk.end for chunk in self._chunks)

    def holds(self, gpa: int) -> bool:
        """Whether a chunk covers `gpa`."""
        return not self.is_free(gpa, gpa + 1)

    def _gap(self, size: int, align: int, low: int, high: int) -> int | None:
        taken = [(0, FREE_LOW), (EBDA, LEGACY_HOLE_END)]
        taken += [(start, end) for start, end, _ in self._facts.reserved]
        taken += [(chunk.gpa, chunk.end) for chunk in self._chunks]
        for ram_start, ram_end in self._ram:
            for start, end in subtract(max(ram_start, low), min(ram_end, high), taken):
                gpa = start + align - 1 & -align
                if gpa + size <= end:
                    return gpa
        return None


def _range(chunk: Chunk) -> str:
    return f"{chunk.name} at {chunk.gpa:#x}..{chunk.end - 1:#x}"
