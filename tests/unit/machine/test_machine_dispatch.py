"""Exits as values, handled without any guest."""

from minihv.bus import Bus
from minihv.exits import Hypercall, IoIn, IoOut, MmioRead, MmioWrite, MsrRead, MsrWrite
from minihv.machine import dispatch


class Fifo:
    """A device at which every read takes the next of the values."""

    max_width = 4

    def __init__(self, *values: int) -> None:
        self.values = list(values)
        self.written: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        return self.values.pop(0)

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((offset, size, value))

    def register(self, offset: int, write: bool) -> str:
        return "FIFO"

    def reset(self) -> None:
        self.values.clear()

    def close(self) -> None:
        self.written.clear()


def bus(device: Fifo, start: int = 0x100, size: int = 8) -> Bus:
    made = Bus("port", 0x10000)
    made.attach(start, size, "fifo", device)
    return made


def test_rep_insb_of_five_calls_the_device_five_times() -> None:
    device = Fifo(1, 2, 3, 4, 5)
    assert dispatch.io_in(bus(device), IoIn(0x100, 1, 5, 0)) == bytes((1, 2, 3, 4, 5))
    assert device.values == []


def test_rep_insw_and_insd_keep_the_width() -> None:
    assert dispatch.io_in(bus(Fifo(0x1122, 0x3344)), IoIn(0x100, 2, 2, 0)) == b"\x22\x11\x44\x33"
    assert dispatch.io_in(bus(Fifo(0x11223344)), IoIn(0x100, 4, 1, 0)) == b"\x44\x33\x22\x11"


def test_rep_outsb_in_one_exit_advances_the_data_and_not_the_port() -> None:
    device = Fifo()
    dispatch.io_out(bus(device), IoOut(0x101, 1, 5, b"hello", 0))
    assert device.written == [(1, 1, byte) for byte in b"hello"]


def test_rep_outsd_in_one_exit() -> None:
    device = Fifo()
    dispatch.io_out(bus(device), IoOut(0x100, 4, 2, bytes(range(8)), 0))
    assert device.written == [(0, 4, 0x03020100), (0, 4, 0x07060504)]


def test_single_out_of_each_width() -> None:
    for size in (1, 2, 4):
        device = Fifo()
        dispatch.io_out(bus(device), IoOut(0x100, size, 1, bytes((0x11, 0x22, 0x33, 0x44))[:size], 0))
        assert device.written == [(0, size, 0x44332211 & (1 << 8 * size) - 1)]


def test_unclaimed_ports_and_memory_read_all_ones() -> None:
    empty = Bus("port", 0x10000)
    assert dispatch.io_in(empty, IoIn(0x5, 4, 3, 0)) == b"\xff" * 12
    assert dispatch.mmio_read(Bus("mmio", 1 << 52), MmioRead(0xD0000000, 8, 0)) == b"\xff" * 8


def test_mmio_of_odd_sizes() -> None:
    device = Fifo(0x332211)
    assert dispatch.mmio_read(bus(device), MmioRead(0x100, 3, 0)) == b"\x11\x22\x33"
    dispatch.mmio_write(bus(device), MmioWrite(0x100, b"\x01\x02\x03\x04\x05\x06\x07\x08", 0))
    assert device.written == [(0, 4, 0x04030201), (4, 4, 0x08070605)]


def test_k7_counters_are_accepted_and_other_msrs_raise_gp() -> None:
    assert dispatch.msr_read(MsrRead(0xC0010004, "unknown", 0)) == bytes(8)
    assert dispatch.msr_write(MsrWrite(0xC0010000, 5, "unknown", 0)) != b""
    assert dispatch.msr_read(MsrRead(0x1234, "unknown", 0)) == b""
    assert dispatch.msr_write(MsrWrite(0xC0010008, 5, "unknown", 0)) == b""


def test_a_hypercall_is_told_that_nobody_knows_it() -> None:
    assert int.from_bytes(dispatch.hypercall(Hypercall(99, (), 0)), "little", signed=True) == -1000
