"""Ports with which a guest ends the machine.

Sources: QEMU's isa-debug-exit (status `(value << 1) | 1`, never 0, so that a crash cannot look like
success); ACPI specification 6.5, 4.8.3.2.1, "PM1 Control Registers".
"""

from collections.abc import Callable

Stop = Callable[[str, int], None]
"""Called with the reason in words and the process exit status (0..255)."""

SCI_EN = 0x0001
"""ACPI mode (ACPI 6.5, 4.8.3.2.1)."""
SLP_EN = 1 << 13
_SLP_TYP_SHIFT = 10
_SLP_TYP_MASK = 7


class DebugExitPort:
    """A write of 1, 2 or 4 bytes ends the machine with status `((value << 1) | 1) & 0xff`."""

    max_width = 4

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def read(self, offset: int, size: int) -> int:
        """Nothing to read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the machine. A write beside the first byte is none to this register."""
        if offset == 0:
            self._stop("exit", (value << 1 | 1) & 0xFF)

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "EXIT"

    def reset(self) -> None:
        """No state."""

    def close(self) -> None:
        """Nothing to give back."""


class PlainExitPort:
    """A write ends the machine with status `value & 0x7f`: 0 is success for a shell."""

    max_width = 4

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def read(self, offset: int, size: int) -> int:
        """Nothing to read."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the machine. A write beside the first byte is none to this register."""
        if offset == 0:
            self._stop("exit", value & 0x7F)

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "STATUS"

    def reset(self) -> None:
        """No state."""

    def close(self) -> None:
        """Nothing to give back."""


class AcpiPm1Event:
    """PM1a_EVT, status and enable of two bytes each (ACPI 6.5, 4.8.3.1). This board raises no events."""

    max_width = 2

    def __init__(self) -> None:
        self.enable = 0

    def read(self, offset: int, size: int) -> int:
        """No status bit is ever set; the enables read back."""
        return (self.enable << 16) >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Status bits are cleared by writing ones, and are clear; the enables are kept."""
        mask = (1 << 8 * size) - 1 << 8 * offset
        register = (self.enable << 16) & ~mask | value << 8 * offset & mask
        self.enable = register >> 16 & 0xFFFF

    def register(self, offset: int, write: bool) -> str:
        """PM1_STS or PM1_EN."""
        return "PM1_EN" if offset >= 2 else "PM1_STS"

    def reset(self) -> None:
        """Nothing enabled."""
        self.enable = 0

    def close(self) -> None:
        """Nothing to give back."""


class AcpiPm1Control:
    """PM1a_CNT, two bytes. SLP_EN together with the soft-off SLP_TYP ends the machine with status 0.

    Other sleep types are not offered by the ACPI tables; asking for one does nothing.
    """

    max_width = 2

    def __init__(self, stop: Stop, soft_off_type: int = 0) -> None:
        """`soft_off_type`: SLP_TYP of S5, as \\_S5 in the DSDT says."""
        self._stop = stop
        self._soft_off_type = soft_off_type
        self.control = 0

    def read(self, offset: int, size: int) -> int:
        """The register; SLP_EN reads 0, SCI_EN reads 1: there is no legacy mode."""
        return (self.control | SCI_EN) >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the bytes written, and act on SLP_EN."""
        mask = (1 << 8 * size) - 1 << 8 * offset
        control = self.control & ~mask | value << 8 * offset & mask
        self.control = control & ~SLP_EN & 0xFFFF
        if control & SLP_EN and control >> _SLP_TYP_SHIFT & _SLP_TYP_MASK == self._soft_off_type:
            self._stop("power-off", 0)

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "PM1a_CNT"

    def reset(self) -> None:
        """All bits clear."""
        self.control = 0

    def close(self) -> None:
        """Nothing to give back."""
