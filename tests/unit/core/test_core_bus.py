"""The bus: who answers which address, what nobody answers, and what is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minihv.bus import Bus, Window
from minihv.errors import UsageError


class Recorder:
    """Registers whose value is their offset, repeated in every byte; remembers each access."""

    def __init__(self, max_width: int = 4) -> None:
        self.max_width = max_width
        self.log: list[tuple[str, int, int, int]] = []
        self.answer: Callable[[int, int], int] = lambda offset, size: int.from_bytes(
            bytes((offset + i & 0xFF) for i in range(size)), "little"
        )

    def read(self, offset: int, size: int) -> int:
        value = self.answer(offset, size)
        self.log.append(("read", offset, size, value))
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        self.log.append(("write", offset, size, value))

    def register(self, offset: int, write: bool) -> str:
        return f"{'W' if write else 'R'}{offset}"

    def reset(self) -> None:
        self.log.clear()

    def close(self) -> None:
        self.log.append(("close", 0, 0, 0))


def ports() -> Bus:
    return Bus("port", 0x10000)


def test_a_device_sees_offsets_and_never_addresses() -> None:
    bus, device = ports(), Recorder()
    bus.attach(0x3F8, 8, "uart", device)
    assert bus.read(0x3FA, 1) == 2
    bus.write(0x3FC, 2, 0xBEEF)
    assert device.log == [("read", 2, 1, 2), ("write", 4, 2, 0xBEEF)]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_unclaimed_reads_give_all_ones_and_writes_are_swallowed(size: int) -> None:
    bus = ports()
    assert bus.read(0x1234, size) == (1 << 8 * size) - 1
    bus.write(0x1234, size, 0)
    assert bus.owner(0x1234, write=False) == "unclaimed"


def test_a_wide_access_is_cut_to_the_width_of_the_device_lowest_offset_first() -> None:
    bus, device = ports(), Recorder(max_width=1)
    bus.attach(0x70, 4, "bytes", device)
    bus.write(0x70, 4, 0x44332211)
    assert [(offset, size, value) for _, offset, size, value in device.log] == [
        (0, 1, 0x11), (1, 1, 0x22), (2, 1, 0x33), (3, 1, 0x44),
    ]  # fmt: skip
    device.log.clear()
    assert bus.read(0x70, 4) == 0x03020100
    assert len(device.log) == 4


def test_an_access_across_the_end_of_a_window_goes_to_both_owners() -> None:
    bus, low, high = ports(), Recorder(), Recorder()
    bus.attach(0x10, 2, "low", low)
    bus.attach(0x13, 2, "high", high)
    assert bus.read(0x10, 4) == 0x00FF0100  # the third byte is nobody's, the fourth is high's first
    bus.write(0x11, 4, 0xDDCCBBAA)
    assert low.log[-1] == ("write", 1, 1, 0xAA)
    assert high.log[-1] == ("write", 0, 2, 0xDDCC)


def test_the_last_port_wraps_to_the_first() -> None:
    bus, first = ports(), Recorder()
    bus.attach(0, 1, "first", first)
    assert bus.read(0xFFFF, 2) == 0x00FF
    bus.write(0xFFFF, 2, 0x1234)
    assert first.log[-1] == ("write", 0, 1, 0x12)


def test_what_a_device_answers_too_much_is_cut_off() -> None:
    bus, device = ports(), Recorder()
    device.answer = lambda offset, size: -1
    bus.attach(0, 4, "loud", device)
    assert bus.read(0, 1) == 0xFF
    assert bus.read(3, 2) == 0xFFFF


@pytest.mark.parametrize(
    ("start", "size"), [(0x18, 1), (0x1F, 1), (0x17, 2), (0x1F, 9), (0x10, 0x20), (0x18, 8), (0, 0x10000)]
)
def test_an_overlap_is_refused_with_both_names(start: int, size: int) -> None:
    bus = ports()
    bus.attach(0x18, 8, "old", Recorder())
    bus.attach(0x100, 8, "far", Recorder())
    with pytest.raises(UsageError, match=r"port window new .* overlaps old \(0x18\.\.0x1f\)"):
        bus.attach(start, size, "new", Recorder())
    assert [window.name for window in bus] == ["old", "far"]


@pytest.mark.parametrize(("start", "size"), [(-1, 2), (0, 0), (0, -1), (0xFFFF, 2), (0x10000, 1)])
def test_a_window_outside_the_space_is_refused(start: int, size: int) -> None:
    with pytest.raises(UsageError, match=r"does not fit into 0\.\.0xffff"):
        ports().attach(start, size, "odd", Recorder())


def test_neighbours_may_touch() -> None:
    bus = ports()
    bus.attach(0x18, 8, "middle", Recorder())
    bus.attach(0x10, 8, "below", Recorder())
    bus.attach(0x20, 8, "above", Recorder())
    assert [window.name for window in bus] == ["below", "middle", "above"]


def test_an_address_that_was_unclaimed_is_found_after_attach_and_lost_after_detach() -> None:
    bus = ports()
    assert bus.find(0x20) is None
    window = bus.attach(0x20, 1, "late", Recorder())
    assert bus.find(0x20) == window
    bus.detach(window)
    assert bus.find(0x20) is None


def test_owner_names_the_register_by_direction() -> None:
    bus = ports()
    bus.attach(0x60, 5, "kbd", Recorder())
    assert bus.owner(0x64, write=True) == "kbd.W4"
    assert bus.owner(0x64, write=False) == "kbd.R4"


def test_the_cache_of_a_hostile_guest_stays_bounded() -> None:
    bus = Bus("mmio", 1 << 52)
    for address in range(0, 1 << 20, 64):
        bus.find(address)
    assert len(bus._cache) <= 4096


SPACE = 64
windows = st.lists(st.tuples(st.integers(0, SPACE - 1), st.integers(1, 12)), max_size=10)


@given(windows, st.integers(0, SPACE - 1), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_every_byte_goes_to_its_owner_and_only_there(
    wanted: list[tuple[int, int]], address: int, size: int, width: int
) -> None:
    """Against a table with one entry an address."""
    bus = Bus("port", SPACE)
    table: list[Window | None] = [None] * SPACE
    for start, length in wanted:
        free = start + length <= SPACE and not any(table[start : start + length])
        if free:
            window = bus.attach(start, length, f"w{start}", Recorder(width))
            table[start : start + length] = [window] * length
        else:
            with pytest.raises(UsageError):
                bus.attach(start, length, "no", Recorder(width))
    expected = 0
    for i in range(size):
        owner = table[(address + i) % SPACE]
        byte = 0xFF if owner is None else (address + i) % SPACE - owner.start
        expected |= byte << 8 * i
    assert bus.read(address, size) == expected
    value = int.from_bytes(bytes(range(0xA0, 0xA0 + size)), "little")
    bus.write(address, size, value)
    seen: dict[int, int] = {}
    for found in bus:
        device = found.device
        assert isinstance(device, Recorder)
        for kind, offset, length, data in device.log:
            assert length <= width
            assert offset + length <= found.size
            if kind == "write":
                for i in range(length):
                    seen[found.start + offset + i] = data >> 8 * i & 0xFF
    assert seen == {
        (address + i) % SPACE: 0xA0 + i for i in range(size) if table[(address + i) % SPACE] is not None
    }
