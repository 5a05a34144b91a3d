"""PCI configuration mechanism #1 and, in the same ports, the reset control register.

Sources: PCI Local Bus specification 3.0, 3.2.2.3.2, "Software Generation of Configuration
Transactions"; Intel ICH9 data sheet, 13.7.5, "RST_CNT" (0xcf9).

The bus is empty unless functions are added: a read of an absent function gives all ones (no VENDOR_ID),
by which a guest knows that nobody is there.
"""

from collections.abc import Callable
from typing import Protocol

CONFIG_ADDRESS, RESET_CONTROL, CONFIG_DATA = 0, 1, 4
ENABLE = 1 << 31
_ADDRESS_BITS = 0x80FF_FFFC  # bits 30..24 and 1..0 are reserved and read 0
_RESET_CPU = 0x04


class PciFunction(Protocol):
    """The 256 bytes of configuration space of one function; accesses never cross a dword."""

    def config_read(self, offset: int, size: int) -> int: ...

    def config_write(self, offset: int, size: int, value: int) -> None: ...


class PciHost:
    """Eight ports: CONFIG_ADDRESS at 0 (dword accesses only), CONFIG_DATA at 4, RST_CNT at 1 (byte only)."""

    max_width = 4

    def __init__(self, reset_machine: Callable[[], None]) -> None:
        self._reset_machine = reset_machine
        self._functions: dict[int, PciFunction] = {}
        self.address = 0
        self.reset_control = 0

    def add(self, bus: int, device: int, function: int, target: PciFunction) -> None:
        """Put `target` at bus:device.function. Raises ValueError where that is taken or out of range."""
        if not (0 <= bus < 256 and 0 <= device < 32 and 0 <= function < 8):
            raise ValueError(f"no PCI address: {bus}:{device}.{function}")
        key = bus << 8 | device << 3 | function
        if key in self._functions:
            raise ValueError(f"PCI address {bus:02x}:{device:02x}.{function} is taken")
        self._functions[key] = target

    def _selected(self) -> PciFunction | None:
        return self._functions.get(self.address >> 8 & 0xFFFF) if self.address & ENABLE else None

    def read(self, offset: int, size: int) -> int:
        """Read a register; whatever is not one of the three goes to the empty bus and reads all ones."""
        if offset >= CONFIG_DATA:
            target = self._selected()
            if target is not None:
                return target.config_read(self.address & 0xFC | offset - CONFIG_DATA, size)
        elif offset == CONFIG_ADDRESS and size == 4:
            return self.address
        elif offset == RESET_CONTROL and size == 1:
            return self.reset_control
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register. RST_CNT resets the machine when its bit 2 goes from 0 to 1."""
        if offset >= CONFIG_DATA:
            target = self._selected()
            if target is not None:
                target.config_write(self.address & 0xFC | offset - CONFIG_DATA, size, value)
        elif offset == CONFIG_ADDRESS and size == 4:
            self.address = value & _ADDRESS_BITS
        elif offset == RESET_CONTROL and size == 1:
            rising = value & ~self.reset_control & _RESET_CPU
            self.reset_control = value & 0x0E
            if rising:
                self._reset_machine()

    def register(self, offset: int, write: bool) -> str:
        """CONFIG_ADDRESS, RST_CNT or CONFIG_DATA."""
        if offset >= CONFIG_DATA:
            return "CONFIG_DATA"
        return "RST_CNT" if offset == RESET_CONTROL else "CONFIG_ADDRESS"

    def reset(self) -> None:
        """Nothing selected. Functions are reset by whoever added them."""
        self.address = 0
        self.reset_control = 0

    def close(self) -> None:
        """Nothing to give back."""
