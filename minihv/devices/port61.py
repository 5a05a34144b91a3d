"""System control port B (0x61): speaker gate, PIT channel 2 output, refresh toggle.

Source: IBM PC/AT technical reference, port 0x61; Intel ICH9 data sheet, 13.7.1, "NMI_SC".
"""

from collections.abc import Callable

from minihv.interfaces import Clock

TIMER2_GATE, SPEAKER_DATA = 0x01, 0x02
REFRESH_TOGGLE, TIMER2_OUTPUT = 0x10, 0x20
_WRITABLE = 0x0F  # with the two NMI enables, which are kept only
REFRESH_NS = 15_085  # PIT channel 1 at 18 / 1.193182 MHz


class SystemControlB:
    """For machines whose engine brings no PIT; where KVM's PIT answers, the port never gets here."""

    max_width = 1

    def __init__(
        self, clock: Clock, timer2_output: Callable[[], bool], set_timer2_gate: Callable[[bool], None]
    ) -> None:
        """`timer2_output` and `set_timer2_gate` belong to PIT channel 2; `clock` drives the refresh bit."""
        self._clock = clock
        self._timer2_output = timer2_output
        self._set_timer2_gate = set_timer2_gate
        self.control = 0

    def read(self, offset: int, size: int) -> int:
        """Control bits with the live status bits above them."""
        value = self.control
        if self._clock() // REFRESH_NS & 1:
            value |= REFRESH_TOGGLE
        if self._timer2_output():
            value |= TIMER2_OUTPUT
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the control bits and drive channel 2's gate."""
        changed = value ^ self.control
        self.control = value & _WRITABLE
        if changed & TIMER2_GATE:
            self._set_timer2_gate(bool(value & TIMER2_GATE))

    def register(self, offset: int, write: bool) -> str:
        """The only register."""
        return "SYSCTL_B"

    def reset(self) -> None:
        """Gate closed."""
        self.write(0, 1, 0)

    def close(self) -> None:
        """Nothing to give back."""
