"""The boot disk behind minihv's own real-mode BIOS services: a stream of sectors, read-only.

The interface is minihv's: a dword written to LBA selects a sector and rewinds, reads of DATA (1, 2 or 4
bytes) stream from there; a dword read of LBA gives the number of sectors. Past the end come zeros.
"""

SECTOR_SIZE = 512
LBA, DATA = 0, 4


class BootDisk:
    """Eight ports: LBA at offset 0, DATA at offset 4."""

    max_width = 4

    def __init__(self, image: bytes | memoryview) -> None:
        """`image` is kept, not copied; a last partial sector is filled up with zeros."""
        self._image = image
        self.sectors = (len(image) + SECTOR_SIZE - 1) // SECTOR_SIZE
        self.position = 0

    def read(self, offset: int, size: int) -> int:
        """The number of sectors, or the next `size` bytes of the stream; elsewhere 0."""
        if offset == DATA:
            data = self._image[self.position : self.position + size]
            self.position += size
            return int.from_bytes(data, "little")
        return self.sectors if offset == LBA and size == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Select a sector; nothing else can be written."""
        if offset == LBA and size == 4:
            self.position = value * SECTOR_SIZE

    def register(self, offset: int, write: bool) -> str:
        """LBA (SECTORS when read) or DATA."""
        if offset >= DATA:
            return "DATA"
        return "LBA" if write else "SECTORS"

    def reset(self) -> None:
        """Rewind to sector 0."""
        self.position = 0

    def close(self) -> None:
        """Let go of the image."""
        self._image = b""
        self.sectors = 0
