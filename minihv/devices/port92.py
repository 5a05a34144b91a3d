"""System control port A (0x92): fast A20 gate and fast reset.

Source: IBM PS/2 hardware interface technical reference, "System Control Port A".
"""

from collections.abc import Callable

FAST_RESET = 0x01
A20_GATE = 0x02


class SystemControlA:
    """Bit 0 going from 0 to 1 resets the machine; bit 1 is the A20 gate.

    The gate is kept and read back, but address line 20 is never masked: none of the engines can
    mask it, and no guest of this century turns it off.
    """

    max_width = 1

    def __init__(self, reset_machine: Callable[[], None]) -> None:
        self._reset_machine = reset_machine
        self.value = A20_GATE

    def read(self, offset: int, size: int) -> int:
        """The bits as last written."""
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the bits; a rising bit 0 resets."""
        rising = value & ~self.value & FAST_RESET
        self.value = value & 0xFF
        if rising:
            self._reset_machine()

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "SYSCTL_A"

    def reset(self) -> None:
        """A20 open, as firmware leaves it."""
        self.value = A20_GATE

    def close(self) -> None:
        """Nothing to give back."""
