"""fw_cfg: the table of blobs in which QEMU hands its firmware what it must know.

Source: QEMU documentation, docs/specs/fw_cfg.rst (x86 port interface: 16-bit little-endian selector,
byte-wide data; the DMA interface is not offered). Unknown keys, and data past an item's end, read zeros.
"""

from collections.abc import Mapping

SELECTOR, DATA = 0, 1
KEY_SIGNATURE, KEY_ID, KEY_RAM_SIZE, KEY_CPUS, KEY_MAX_CPUS, KEY_FILE_DIR = 0x00, 0x01, 0x03, 0x05, 0x0F, 0x19
KEY_FIRST_FILE = 0x20
_ID_TRADITIONAL = 1
_NAME_SIZE = 56


def _file_directory(files: Mapping[str, bytes]) -> bytes:
    """Count, then for each file size, key, reserved, name: big-endian, as the specification says."""
    directory = bytearray(len(files).to_bytes(4, "big"))
    for index, (name, content) in enumerate(files.items()):
        if len(name) >= _NAME_SIZE:
            raise ValueError(f"fw_cfg file name {name!r} has {len(name)} characters; 55 fit")
        directory += len(content).to_bytes(4, "big")
        directory += (KEY_FIRST_FILE + index).to_bytes(2, "big") + bytes(2)
        directory += name.encode("ascii").ljust(_NAME_SIZE, b"\0")
    return bytes(directory)


class FwCfg:
    """Two ports: a 16-bit write at 0 selects an item and rewinds it, byte reads at 1 stream it."""

    max_width = 2

    def __init__(self, cpus: int, ram_bytes: int, files: Mapping[str, bytes] | None = None) -> None:
        """`files`: name (ASCII, below 56 characters) -> content, found through the file directory."""
        files = files or {}
        self.items: dict[int, bytes] = {
            KEY_SIGNATURE: b"QEMU",
            KEY_ID: _ID_TRADITIONAL.to_bytes(4, "little"),
            KEY_RAM_SIZE: ram_bytes.to_bytes(8, "little"),
            KEY_CPUS: cpus.to_bytes(2, "little"),
            KEY_MAX_CPUS: cpus.to_bytes(2, "little"),
            KEY_FILE_DIR: _file_directory(files),
        }
        self.items.update(enumerate(files.values(), KEY_FIRST_FILE))
        self.reset()

    def read(self, offset: int, size: int) -> int:
        """The next byte of the selected item; the selector itself is write-only and reads 0."""
        if offset != DATA:
            return 0
        item = self.items.get(self.key, b"")
        if self.position >= len(item):
            return 0
        value = item[self.position]
        self.position += 1
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Select; byte writes (the old way to write data) are ignored, as current firmware devices do."""
        if offset == SELECTOR and size == 2:
            self.key = value & 0xFFFF
            self.position = 0

    def register(self, offset: int, write: bool) -> str:
        """SELECTOR or DATA."""
        return "DATA" if offset == DATA else "SELECTOR"

    def reset(self) -> None:
        """The signature is selected."""
        self.key = KEY_SIGNATURE
        self.position = 0

    def close(self) -> None:
        """Nothing to give back."""
