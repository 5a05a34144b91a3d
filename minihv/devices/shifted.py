"""A second window onto a device whose registers do not lie together."""

from minihv.interfaces import Device


class Shifted:
    """Makes `device`'s registers from offset `base` on appear at offset 0.

    The device itself is attached to its first window, and is reset and closed there; here both do
    nothing, so that nothing happens twice.
    """

    def __init__(self, device: Device, base: int) -> None:
        self._device = device
        self._base = base
        self.max_width = device.max_width

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes at `base` + `offset` of the device."""
        return self._device.read(self._base + offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write `size` bytes at `base` + `offset` of the device."""
        self._device.write(self._base + offset, size, value)

    def register(self, offset: int, write: bool) -> str:
        """The device's own name of the register."""
        return self._device.register(self._base + offset, write)

    def reset(self) -> None:
        """The device is reset through its first window."""

    def close(self) -> None:
        """The device is closed through its first window."""
