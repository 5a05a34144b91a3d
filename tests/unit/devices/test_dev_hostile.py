"""A guest that writes anything anywhere: no device raises, answers out of range, or grows."""

import pickle
import random

import pytest

from minihv.bus import Bus
from minihv.devices.bootdisk import BootDisk
from minihv.devices.cmos import Cmos
from minihv.devices.debug import DebugConsole, PostPort
from minihv.devices.exit import AcpiPm1Control, DebugExitPort, PlainExitPort
from minihv.devices.fwcfg import FwCfg
from minihv.devices.i8042 import I8042
from minihv.devices.pci import PciHost
from minihv.devices.port61 import SystemControlB
from minihv.devices.port92 import SystemControlA
from minihv.devices.serial import Serial16550
from minihv.devices.testdev import IoMemory, IrqDriver, PageFlush, PortLatch
from minihv.devices.vga import VgaText
from minihv.host.console import BufferSink
from minihv.host.sources import BufferSource
from minihv.interfaces import Device

ACCESSES = 3000


class Clock:
    """Goes on with every look: 0.3 s for the RTC, 7 us for the others."""

    def __init__(self) -> None:
        self.looks = 0

    def wall(self) -> float:
        self.looks += 1
        return 1.7e9 + self.looks * 0.3

    def ns(self) -> int:
        self.looks += 1
        return self.looks * 7000


def line(level: bool) -> None:
    assert isinstance(level, bool)


def nothing() -> None:
    """Resets are asked for and not done."""


def stop(reason: str, status: int) -> None:
    assert reason
    assert 0 <= status <= 255


def devices() -> dict[str, tuple[Device, int]]:
    """name -> (device, size of its window)"""
    clock, vga = Clock(), VgaText()
    return {
        "serial": (Serial16550(line, BufferSink(100), BufferSource(bytes(5000))), 8),
        "i8042": (I8042(line, nothing), 5),
        "cmos": (Cmos(clock.wall, clock.ns, line, 1 << 30), 2),
        "post": (PostPort(), 1),
        "console": (DebugConsole(BufferSink(100)), 1),
        "exit": (DebugExitPort(stop), 4),
        "plain exit": (PlainExitPort(stop), 4),
        "pm1": (AcpiPm1Control(stop), 2),
        "fw_cfg": (FwCfg(1, 1 << 30, {"f": b"abc"}), 2),
        "pci": (PciHost(nothing), 8),
        "port 61": (SystemControlB(clock.ns, lambda: True, line), 1),
        "port 92": (SystemControlA(nothing), 1),
        "latch": (PortLatch(), 4),
        "flush": (PageFlush(), 4),
        "irqs": (IrqDriver([line] * 24), 24),
        "memory": (IoMemory(), 0x10000),
        "text": (vga.memory, 0x8000),
        "crtc": (vga.crtc, 2),
        "status": (vga.status, 1),
        "disk": (BootDisk(bytes(1000)), 8),
    }


@pytest.mark.parametrize("name", devices())
def test_any_access_is_survived(name: str) -> None:
    device, size = devices()[name]
    bus = Bus("test", 0x20000)
    bus.attach(0x100, size, name, device)
    rng = random.Random(name)
    for _ in range(ACCESSES):
        width = rng.choice((1, 1, 1, 2, 4, 8))
        address = 0x100 + rng.randrange(size)
        if rng.random() < 0.5:
            bus.write(address, width, rng.choice((0, 0xFF, 1 << 8 * width - 1, rng.getrandbits(8 * width))))
        else:
            assert 0 <= bus.read(address, width) < 1 << 8 * width
        assert bus.owner(address, rng.random() < 0.5).startswith(f"{name}.")
    device.reset()
    device.close()


@pytest.mark.parametrize("name", devices())
def test_state_is_plain_and_does_not_grow(name: str) -> None:
    """What a device keeps is plain data (so that it can be saved) and bounded."""

    def plain_state(device: Device) -> bytes:
        state = {
            key: value
            for key, value in vars(device).items()
            if not key.startswith("_")  # callbacks, locks, and what belongs to somebody else
        }
        return pickle.dumps(state)

    device, size = devices()[name]
    rng = random.Random(name)
    before = len(plain_state(device))
    for _ in range(ACCESSES):
        device.write(rng.randrange(size), 1, rng.getrandbits(8))
    assert len(plain_state(device)) <= before + 1000
