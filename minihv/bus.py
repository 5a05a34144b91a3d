"""Who answers which address. Two of these per machine: port I/O and memory-mapped I/O.

A window belongs to one device; overlaps are refused with both owners' names. An access that nobody
claims reads all ones, as on a real bus with its pull-ups, and is counted by the statistics under
"unclaimed": it is never dropped silently.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from minihv.deferred import Deferred
from minihv.errors import UsageError
from minihv.interfaces import Device

_CACHE_LIMIT = 4096


class Window(NamedTuple):
    """`size` addresses from `start` on, answered by `device`; `name` appears in statistics."""

    start: int
    size: int
    name: str
    device: Device

    @property
    def end(self) -> int:
        """First address after the window."""
        return self.start + self.size

    def register(self, address: int, write: bool) -> str:
        """`name.REGISTER` for an absolute address inside the window."""
        return f"{self.name}.{self.device.register(address - self.start, write)}"


class Nobody:
    """Answers where no device does: pull-ups read all ones, a write goes nowhere."""

    max_width = 1

    def read(self, offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Nobody listens."""

    def register(self, offset: int, write: bool) -> str:
        return "unclaimed"

    def reset(self) -> None:
        """There is no state."""

    def close(self) -> None:
        """Nothing is held."""


NOBODY = Nobody()


class Route(NamedTuple):
    """Where an access at one address goes: to `device` at `offset`, in one piece if at most `room` bytes."""

    room: int
    offset: int
    device: Device
    window: Window | None


class Bus:
    """Routes accesses at absolute addresses to devices that know only offsets."""

    def __init__(self, name: str, limit: int) -> None:
        """`name` ("port", "mmio") is used in messages; addresses run from 0 to `limit` - 1."""
        self.name = name
        self.limit = limit
        self._windows: list[Window] = []
        self._starts: list[int] = []
        # One dict look-up for the hot path. Bounded: a hostile guest may touch every address.
        self._cache: dict[int, Route] = {}

    def attach(self, start: int, size: int, name: str, device: Device) -> Window:
        """Claim a window. Raises UsageError for an empty, out-of-range or overlapping one."""
        if size <= 0 or start < 0 or start + size > self.limit:
            raise UsageError(
                f"{self.name} window {name} at {start:#x} with {size} addresses does not fit into "
                f"0..{self.limit - 1:#x}; choose a start and a size inside"
            )
        window = Window(start, size, name, device)
        index = bisect_right(self._starts, start)
        for other in self._windows[max(index - 1, 0) : index + 1]:
            if other.start < window.end and start < other.end:
                raise UsageError(
                    f"{self.name} window {name} ({start:#x}..{window.end - 1:#x}) overlaps {other.name} "
                    f"({other.start:#x}..{other.end - 1:#x}); move one of them"
                )
        self._windows.insert(index, window)
        self._starts.insert(index, start)
        self._cache.clear()
        return window

    def detach(self, window: Window) -> None:
        """Give up a window that `attach` returned."""
        index = self._windows.index(window)
        del self._windows[index], self._starts[index]
        self._cache.clear()

    def __iter__(self) -> Iterator[Window]:
        return iter(self._windows)

    def find(self, address: int) -> Window | None:
        """The window that holds `address`, or None."""
        route = self._cache.get(address) or self._find_route(address)
        return route.window

    def _find_route(self, address: int) -> Route:
        """First touch of an address: look it up, and remember."""
        index = bisect_right(self._starts, address) - 1
        window = self._windows[index] if index >= 0 and address < self._windows[index].end else None
        if window is None:
            route = Route(1, 0, NOBODY, None)
        else:
            if isinstance(window.device, Deferred):
                window = self._windows[index] = window._replace(device=window.device.settle())
            offset, device = address - window.start, window.device
            route = Route(min(device.max_width, window.size - offset), offset, device, window)
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        self._cache[address] = route
        return route

    def read(self, address: int, size: int) -> int:
        """Read `size` bytes at `address` as a little-endian integer; all ones where unclaimed."""
        try:
            room, offset, device, _ = self._cache[address]
        except KeyError:
            room, offset, device, _ = self._find_route(address)
        if size <= room:
            return device.read(offset, size) & ((1 << 8 * size) - 1)
        return self._read_split(address, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Write `size` bytes of `value` at `address`; nothing happens where unclaimed."""
        try:
            room, offset, device, _ = self._cache[address]
        except KeyError:
            room, offset, device, _ = self._find_route(address)
        if size <= room:
            device.write(offset, size, value)
        else:
            self._write_split(address, size, value)

    def owner(self, address: int, write: bool) -> str:
        """`name.REGISTER` of whoever answers at `address`, or `unclaimed`."""
        window = self.find(address)
        return window.register(address, write) if window is not None else "unclaimed"

    def _pieces(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """Cut an access into parts that stay inside one window and its device's width."""
        done = 0
        while done < size:
            window = self.find((address + done) % self.limit)
            width = 1
            if window is not None:
                room = min(size - done, window.end - (address + done) % self.limit, window.device.max_width)
                width = 1 << (room.bit_length() - 1)
            yield done, width
            done += width

    def _read_split(self, address: int, size: int) -> int:
        value = 0
        for done, width in self._pieces(address, size):
            at = (address + done) % self.limit
            window = self.find(at)
            part = (1 << 8 * width) - 1
            if window is not None:
                part &= window.device.read(at - window.start, width)
            value |= part << 8 * done
        return value

    def _write_split(self, address: int, size: int, value: int) -> None:
        for done, width in self._pieces(address, size):
            at = (address + done) % self.limit
            window = self.find(at)
            if window is not None:
                part = value >> 8 * done & (1 << 8 * width) - 1
                window.device.write(at - window.start, width, part)
