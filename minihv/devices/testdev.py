"""Devices that CPU test kernels expect (`--board testdev`).

Source: QEMU's pc-testdev as the kvm-unit-tests use it: a port latch, a page-flush port, ports that drive
interrupt lines, and I/O memory.
"""

from collections.abc import Sequence

from minihv.interfaces import IrqLine

IO_MEMORY_SIZE = 64 * 1024
IRQ_LINES = 24


class PortLatch:
    """Four byte-addressed ports that keep what was written, at any width."""

    max_width = 4

    def __init__(self) -> None:
        self.value = 0

    def read(self, offset: int, size: int) -> int:
        """The `size` bytes at `offset`."""
        return self.value >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Replace the `size` bytes at `offset`."""
        mask = (1 << 8 * size) - 1 << 8 * offset
        self.value = self.value & ~mask | value << 8 * offset & mask

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "LATCH"

    def reset(self) -> None:
        """All zeros."""
        self.value = 0

    def close(self) -> None:
        """Nothing to give back."""


class PageFlush:
    """Takes the linear address of a page whose host mapping should be dropped; nothing needs to be."""

    max_width = 4

    def read(self, offset: int, size: int) -> int:
        """Nothing to read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing to do: the engines see page-table changes by themselves."""

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "FLUSH"

    def reset(self) -> None:
        """No state."""

    def close(self) -> None:
        """Nothing to give back."""


class IrqDriver:
    """One byte port per interrupt line: non-zero raises it, zero lowers it."""

    max_width = 1

    def __init__(self, lines: Sequence[IrqLine]) -> None:
        """`lines`: the line behind each offset, IRQ_LINES of them on a PC."""
        self._lines = tuple(lines)
        self.levels = [False] * len(self._lines)

    def read(self, offset: int, size: int) -> int:
        """The level last driven."""
        return int(self.levels[offset])

    def write(self, offset: int, size: int, value: int) -> None:
        """Drive line number `offset`."""
        self.levels[offset] = bool(value)
        self._lines[offset](bool(value))

    def register(self, offset: int, write: bool) -> str:
        """The line's number."""
        return f"IRQ{offset}"

    def reset(self) -> None:
        """Let go of the lines that are raised."""
        for offset, level in enumerate(self.levels):
            if level:
                self.write(offset, 1, 0)

    def close(self) -> None:
        """Nothing to give back."""


class IoMemory:
    """IO_MEMORY_SIZE bytes that behave like RAM but make every access an exit."""

    max_width = 8

    def __init__(self, size: int = IO_MEMORY_SIZE) -> None:
        self.store = bytearray(size)

    def read(self, offset: int, size: int) -> int:
        """The `size` bytes at `offset`."""
        return int.from_bytes(self.store[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Replace the `size` bytes at `offset`."""
        self.store[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def register(self, offset: int, write: bool) -> str:
        """One name for all: a name per byte would drown the statistics."""
        return "MEMORY"

    def reset(self) -> None:
        """All zeros."""
        self.store[:] = bytes(len(self.store))

    def close(self) -> None:
        """Nothing to give back."""
