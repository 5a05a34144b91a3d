"""Devices that come into being when a guest first touches them.

A tiny guest touches two of the dozen devices of a board; importing and building the others would be a
third of its start (ARCHITECTURE.md, "Start-up").
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from minihv.interfaces import Device

T = TypeVar("T")


class Once(Generic[T]):
    """Calls `make` once, when asked for the first time. Not locked: the owner of a bus holds its lock."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []

    def __call__(self) -> T:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    @property
    def made(self) -> T | None:
        """What there is so far."""
        return self._made[0] if self._made else None


class Deferred:
    """A `Device` that is made by its first access; `Bus.find` then puts the real one in its window."""

    def __init__(self, make: Callable[[], Device]) -> None:
        self._once = Once(make)

    def settle(self) -> Device:
        """The real device."""
        return self._once()

    @property
    def made(self) -> Device | None:
        """The real device, once there is one."""
        return self._once.made

    @property
    def max_width(self) -> int:
        return self.settle().max_width

    def read(self, offset: int, size: int) -> int:
        return self.settle().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.settle().write(offset, size, value)

    def register(self, offset: int, write: bool) -> str:
        return self.settle().register(offset, write)

    def reset(self) -> None:
        """A device that was never made is in its reset state."""
        if (device := self._once.made) is not None:
            device.reset()

    def close(self) -> None:
        """A device that was never made holds nothing."""
        if (device := self._once.made) is not None:
            device.close()
