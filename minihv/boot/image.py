"""An image file as a loader reads it: every field is bounds-checked, every refusal names file and offset."""

from struct import calcsize, unpack_from
from typing import Any

from minihv.errors import ImageError


class ImageFile:
    """The bytes of one guest image. `name` is the file as the user wrote it."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = memoryview(data)

    def __len__(self) -> int:
        return len(self.data)

    def refuse(self, sentence: str) -> ImageError:
        """An ImageError that names the file; the caller raises it."""
        return ImageError(f"{self.name}: {sentence}")

    def slice(self, offset: int, size: int, what: str) -> memoryview:
        """`size` bytes at file `offset`. Raises ImageError where the file ends before."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise self.refuse(
                f"{what} takes {size:#x} bytes at file offset {offset:#x}, but the file ends at "
                f"{len(self.data):#x}; it is truncated or damaged"
            )
        return self.data[offset : offset + size]

    def unpack(self, layout: str, offset: int, what: str) -> tuple[Any, ...]:
        """Fields by `struct` layout at file `offset`. Raises ImageError where the file ends before."""
        return unpack_from(layout, self.slice(offset, calcsize(layout), what))

    @property
    def is_boot_sector(self) -> bool:
        """Whether the first 512 bytes end in 55 AA, the signature of a bootable disk."""
        return self.starts_with(b"\x55\xaa", 510)

    def starts_with(self, magic: bytes, offset: int = 0) -> bool:
        """Whether `magic` stands at file `offset`; False where the file is shorter."""
        return self.data[offset : offset + len(magic)] == magic
