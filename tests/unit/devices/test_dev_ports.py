"""The small port devices: debug, exit, system control, fw_cfg, PCI, test device, boot disk, handlers."""

from collections.abc import Callable

import pytest

from minihv.bus import Bus
from minihv.devices.bootdisk import BootDisk
from minihv.devices.callbacks import PortHandler
from minihv.devices.debug import POST_HISTORY, DebugConsole, PostPort
from minihv.devices.exit import AcpiPm1Control, DebugExitPort, PlainExitPort
from minihv.devices.fwcfg import KEY_FILE_DIR, FwCfg
from minihv.devices.pci import PciHost
from minihv.devices.port61 import REFRESH_NS, SystemControlB
from minihv.devices.port92 import SystemControlA
from minihv.devices.testdev import IoMemory, IrqDriver, PageFlush, PortLatch
from minihv.host.console import BufferSink
from minihv.interfaces import Device

Stops = list[tuple[str, int]]


def stop_into(stops: Stops) -> Callable[[str, int], None]:
    return lambda reason, status: stops.append((reason, status))


def port_bus(start: int, size: int, device: Device) -> Bus:
    bus = Bus("port", 0x10000)
    bus.attach(start, size, "dev", device)
    return bus


# Debug ports.


def test_post_port_keeps_the_last_codes() -> None:
    post = PostPort()
    assert post.read(0, 1) == 0
    for code in range(100):
        post.write(0, 1, code)
    assert list(post.codes) == list(range(100 - POST_HISTORY, 100))
    assert post.read(0, 1) == 99
    post.reset()
    assert post.codes[-1] == 99


def test_debug_console_sends_bytes_and_reads_its_signature() -> None:
    sink = BufferSink()
    bus = port_bus(0xE9, 1, DebugConsole(sink))
    for byte in b"ok\n":
        bus.write(0xE9, 1, byte)
    assert sink.data == b"ok\n"
    assert bus.read(0xE9, 1) == 0xE9


# Exit ports.


@pytest.mark.parametrize(
    ("size", "value", "status"), [(1, 0, 1), (1, 0x10, 0x21), (2, 0x31, 0x63), (4, 0xFF, 0xFF)]
)
def test_debug_exit_status(size: int, value: int, status: int) -> None:
    stops: Stops = []
    port_bus(0xF4, 4, DebugExitPort(stop_into(stops))).write(0xF4, size, value)
    assert stops == [("exit", status)]


def test_debug_exit_in_a_one_byte_window_stops_once_for_a_dword() -> None:
    stops: Stops = []
    port_bus(0xF4, 1, DebugExitPort(stop_into(stops))).write(0xF4, 4, 3)
    assert stops == [("exit", 7)]


@pytest.mark.parametrize(("value", "status"), [(0, 0), (3, 3), (0x7F, 0x7F), (0x83, 3)])
def test_plain_exit_status(value: int, status: int) -> None:
    stops: Stops = []
    device = PlainExitPort(stop_into(stops))
    device.write(1, 1, 9)
    assert stops == []
    device.write(0, 1, value)
    assert stops == [("exit", status)]


def test_acpi_power_off() -> None:
    stops: Stops = []
    bus = port_bus(0x604, 2, AcpiPm1Control(stop_into(stops)))
    bus.write(0x604, 2, 0x0001)
    bus.write(0x604, 2, 0x2401)  # SLP_EN with another sleep type
    assert stops == []
    assert bus.read(0x604, 2) == 0x0401
    bus.write(0x604, 2, 0x2000)
    assert stops == [("power-off", 0)]
    assert bus.read(0x604, 2) == 1  # SCI_EN: there is no legacy mode to go back to


def test_acpi_power_off_by_the_high_byte_alone_and_another_type() -> None:
    stops: Stops = []
    device = AcpiPm1Control(stop_into(stops), soft_off_type=5)
    device.write(1, 1, 0x20)
    assert stops == []
    device.write(1, 1, 0x34)
    assert stops == [("power-off", 0)]


# System control ports.


def test_fast_reset_needs_a_rising_bit() -> None:
    resets: list[int] = []
    device = SystemControlA(lambda: resets.append(1))
    assert device.read(0, 1) == 0x02
    device.write(0, 1, 0x00)
    assert device.read(0, 1) == 0x00
    device.write(0, 1, 0x03)
    assert resets == [1]
    device.write(0, 1, 0x03)
    assert resets == [1]
    device.reset()
    assert device.read(0, 1) == 0x02


def test_speaker_port_drives_the_gate_and_shows_timer_and_refresh() -> None:
    now, output = 0, False
    gates: list[bool] = []
    device = SystemControlB(lambda: now, lambda: output, gates.append)
    device.write(0, 1, 0xF3)
    assert gates == [True]
    assert device.read(0, 1) == 0x03
    now, output = REFRESH_NS, True
    assert device.read(0, 1) == 0x33
    now = 2 * REFRESH_NS
    assert device.read(0, 1) == 0x23
    device.write(0, 1, 0x02)  # gate closed
    device.write(0, 1, 0x00)  # speaker off: the gate is not told again
    assert gates == [True, False]
    device.write(0, 1, 0x01)
    device.reset()
    assert gates == [True, False, True, False]


# fw_cfg.


def fw_read(bus: Bus, key: int, count: int) -> bytes:
    bus.write(0x510, 2, key)
    return bytes(bus.read(0x511, 1) for _ in range(count))


def test_fw_cfg_items() -> None:
    bus = port_bus(0x510, 2, FwCfg(cpus=2, ram_bytes=5 << 30, files={"etc/a": b"xyz", "etc/b": b""}))
    assert fw_read(bus, 0, 4) == b"QEMU"
    assert fw_read(bus, 1, 4) == b"\x01\0\0\0"
    assert fw_read(bus, 5, 4) == b"\x02\0\0\0"
    assert fw_read(bus, 3, 8) == (5 << 30).to_bytes(8, "little")
    assert fw_read(bus, 0x7777, 3) == b"\0\0\0"
    assert fw_read(bus, 0x20, 5) == b"xyz\0\0"
    directory = fw_read(bus, KEY_FILE_DIR, 4 + 64 * 2)
    assert directory[:4] == b"\0\0\0\x02"
    assert directory[4:12] == b"\0\0\0\x03\0\x20\0\0"
    assert directory[12:68].rstrip(b"\0") == b"etc/a"
    assert directory[68:76] == b"\0\0\0\0\0\x21\0\0"


def test_fw_cfg_selector_is_word_only_and_reset_selects_the_signature() -> None:
    device = FwCfg(1, 1 << 20)
    bus = port_bus(0x510, 2, device)
    bus.write(0x510, 2, 5)
    bus.write(0x510, 1, 0)
    bus.write(0x511, 1, 0)
    assert bus.read(0x511, 1) == 1
    assert bus.read(0x510, 1) == 0
    device.reset()
    assert bus.read(0x511, 1) == ord("Q")


def test_fw_cfg_refuses_a_file_name_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="55 fit"):
        FwCfg(1, 1, {"n" * 56: b""})


# PCI.


class Function:
    def __init__(self) -> None:
        self.space = bytearray(range(256))

    def config_read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.space[offset : offset + size], "little")

    def config_write(self, offset: int, size: int, value: int) -> None:
        self.space[offset : offset + size] = value.to_bytes(size, "little")


def pci_bus() -> tuple[Bus, PciHost, list[int]]:
    resets: list[int] = []
    host = PciHost(lambda: resets.append(1))
    return port_bus(0xCF8, 8, host), host, resets


def test_empty_pci_bus_reads_all_ones() -> None:
    bus, _, _ = pci_bus()
    bus.write(0xCF8, 4, 0x8000_0000)
    assert bus.read(0xCF8, 4) == 0x8000_0000
    assert bus.read(0xCFC, 4) == 0xFFFF_FFFF
    assert bus.read(0xCFE, 2) == 0xFFFF
    assert bus.read(0xCFF, 1) == 0xFF
    bus.write(0xCFC, 4, 0)
    assert bus.read(0xCFC, 4) == 0xFFFF_FFFF


def test_config_address_latches_dwords_only() -> None:
    bus, _, _ = pci_bus()
    bus.write(0xCF8, 4, 0xFFFF_FFFF)
    assert bus.read(0xCF8, 4) == 0x80FF_FFFC
    bus.write(0xCF8, 1, 0)
    bus.write(0xCF8, 2, 0)
    bus.write(0xCFA, 2, 0)
    assert bus.read(0xCF8, 4) == 0x80FF_FFFC
    assert bus.read(0xCF8, 2) == 0xFFFF
    assert bus.read(0xCFB, 1) == 0xFF


def test_pci_function_answers_at_its_address() -> None:
    bus, host, _ = pci_bus()
    function = Function()
    host.add(0, 3, 1, function)
    bus.write(0xCF8, 4, 0x8000_0000 | 3 << 11 | 1 << 8 | 0x10)
    assert bus.read(0xCFC, 4) == 0x13121110
    assert bus.read(0xCFE, 2) == 0x1312
    bus.write(0xCFD, 1, 0xAA)
    assert function.space[0x11] == 0xAA
    bus.write(0xCF8, 4, 3 << 11 | 1 << 8 | 0x10)  # not enabled
    assert bus.read(0xCFC, 4) == 0xFFFF_FFFF
    with pytest.raises(ValueError, match=r"00:03\.1 is taken"):
        host.add(0, 3, 1, function)
    with pytest.raises(ValueError, match="no PCI address"):
        host.add(0, 32, 0, function)


def test_reset_control_register() -> None:
    bus, host, resets = pci_bus()
    bus.write(0xCF9, 1, 0x02)
    assert (bus.read(0xCF9, 1), resets) == (0x02, [])
    bus.write(0xCF9, 1, 0x06)
    assert resets == [1]
    bus.write(0xCF9, 1, 0x06)
    assert resets == [1]
    host.reset()
    assert bus.read(0xCF9, 1) == 0
    assert bus.owner(0xCF9, True) == "dev.RST_CNT"


# Test device.


def test_port_latch_is_byte_addressed() -> None:
    bus = port_bus(0xE0, 4, PortLatch())
    bus.write(0xE0, 4, 0x44332211)
    assert [bus.read(0xE0 + i, 1) for i in range(4)] == [0x11, 0x22, 0x33, 0x44]
    bus.write(0xE1, 2, 0xBBAA)
    assert bus.read(0xE0, 4) == 0x44BBAA11
    assert bus.read(0xE2, 2) == 0x44BB


def test_page_flush_takes_anything() -> None:
    bus = port_bus(0xE4, 4, PageFlush())
    bus.write(0xE4, 4, 0x1234000)
    assert bus.read(0xE4, 4) == 0


def test_irq_driver_drives_one_line_per_port() -> None:
    calls: list[tuple[int, bool]] = []

    def line(number: int) -> Callable[[bool], None]:
        return lambda level: calls.append((number, level))

    device = IrqDriver([line(n) for n in range(24)])
    bus = port_bus(0x2000, 24, device)
    bus.write(0x2005, 1, 1)
    bus.write(0x2017, 1, 1)
    bus.write(0x2005, 1, 0)
    assert calls == [(5, True), (23, True), (5, False)]
    assert (bus.read(0x2005, 1), bus.read(0x2017, 1)) == (0, 1)
    device.reset()
    assert calls[3:] == [(23, False)]
    assert device.register(5, True) == "IRQ5"


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_io_memory_at_any_width_and_place(size: int) -> None:
    bus = Bus("mmio", 1 << 32)
    device = IoMemory()
    bus.attach(0xFF000000, 0x10000, "iomem", device)
    value = int.from_bytes(bytes(range(0x81, 0x81 + size)), "little")
    for offset in (0, 3, 0x10000 - size):
        bus.write(0xFF000000 + offset, size, value)
        assert bus.read(0xFF000000 + offset, size) == value
    bus.write(0xFF00FFFF, size, value)  # over the end: the rest is unclaimed
    assert device.store[-1] == 0x81
    assert len(device.store) == 0x10000
    device.reset()
    assert bus.read(0xFF000000, size) == 0


# Boot disk.


def test_boot_disk_streams_from_a_sector() -> None:
    image = bytes(512) + bytes(range(256)) * 2 + b"tail"
    device = BootDisk(image)
    bus = port_bus(0x8000, 8, device)
    assert bus.read(0x8000, 4) == 3
    bus.write(0x8000, 4, 1)
    words = b"".join(bus.read(0x8004, 2).to_bytes(2, "little") for _ in range(256))
    assert words == image[512:1024]
    assert bus.read(0x8004, 4) == int.from_bytes(b"tail", "little")
    assert bus.read(0x8004, 1) == 0
    bus.write(0x8000, 4, 2)
    assert bus.read(0x8004, 1) == ord("t")
    bus.write(0x8000, 4, 0xFFFFFFFF)
    assert bus.read(0x8004, 4) == 0
    bus.write(0x8000, 2, 2)  # not a dword: nothing selected
    assert bus.read(0x8004, 1) == 0
    device.close()
    assert bus.read(0x8000, 4) == 0


def test_boot_disk_takes_a_view_without_copying() -> None:
    image = bytearray(b"abcd" * 128)
    device = BootDisk(memoryview(image))
    image[0] = ord("X")
    assert device.read(4, 1) == ord("X")


# Handlers from Python.


def test_port_handler_calls_both_functions() -> None:
    written: list[tuple[int, int, int]] = []
    handler = PortHandler(
        read=lambda offset, size: 0x1234 + offset, write=lambda *access: written.append(access), name="MY"
    )
    bus = port_bus(0x600, 4, handler)
    assert bus.read(0x601, 1) == 0x35
    assert bus.read(0x600, 2) == 0x1234
    bus.write(0x602, 2, 7)
    assert written == [(2, 2, 7)]
    assert (bus.owner(0x600, True), bus.owner(0x602, True)) == ("dev.MY", "dev.MY+2")


def test_port_handler_without_functions() -> None:
    bus = port_bus(0x600, 4, PortHandler())
    bus.write(0x600, 4, 1)
    assert bus.read(0x600, 4) == 0xFFFF_FFFF


def test_port_handler_names_the_handler_that_answers_nonsense() -> None:
    def bad(offset: int, size: int) -> int:
        return None  # type: ignore[return-value]

    with pytest.raises(TypeError, match="read handler of MY must return an int, not NoneType"):
        PortHandler(read=bad, name="MY").read(0, 1)
