"""The board: the only place that names ports, windows and interrupt lines.

A board is a table of what sits where. Devices know offsets, engines know exits; the two meet here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from minihv.bus import Bus
from minihv.devices.bootdisk import BootDisk
from minihv.devices.cmos import Cmos
from minihv.devices.debug import DebugConsole, PostPort
from minihv.devices.exit import AcpiPm1Control, DebugExitPort, PlainExitPort
from minihv.devices.fwcfg import FwCfg
from minihv.devices.i8042 import I8042
from minihv.devices.pci import PciHost
from minihv.devices.port92 import SystemControlA
from minihv.devices.serial import Serial16550
from minihv.devices.shifted import Shifted
from minihv.devices.testdev import IoMemory, IrqDriver, PageFlush, PortLatch
from minihv.devices.vga import VgaText
from minihv.interfaces import ByteSink, ByteSource, Clock, Device, IrqLine
from minihv.memory import LEGACY_WINDOW_END, LEGACY_WINDOW_START

PORT_SPACE = 1 << 16
PHYSICAL_SPACE = 1 << 52
"""MAXPHYADDR is at most 52 (SDM Vol. 3A, 4.1.4)."""

GSI_KEYBOARD, GSI_COM2, GSI_COM1, GSI_RTC = 1, 3, 4, 8
"""ISA interrupt n is global system interrupt n on this board: no overrides, so the PIT is GSI 0."""
ISA_LINES = 24

IOAPIC_GPA = 0xFEC00000
LAPIC_GPA = 0xFEE00000
PM1A_CONTROL_PORT = 0x604
TEXT_MEMORY_GPA = 0xB8000
TEST_MEMORY_GPA = 0xFF000000
BOOT_DISK_PORT = 0xB00

RESERVED_WINDOWS = (
    (LEGACY_WINDOW_START, LEGACY_WINDOW_END, "video memory"),
    (IOAPIC_GPA, IOAPIC_GPA + 0x1000, "IOAPIC"),
    (LAPIC_GPA, LAPIC_GPA + 0x1000, "LAPIC"),
)
"""(start, end, name) in guest-physical space: no image may lie there."""
TEST_WINDOW = (TEST_MEMORY_GPA, TEST_MEMORY_GPA + 0x10000, "testdev I/O memory")

ENGINE_WINDOWS = (
    ("pic", "port", 0x20, 2),
    ("pic", "port", 0xA0, 2),
    ("pic", "port", 0x4D0, 2),
    ("pit", "port", 0x40, 4),
    ("pit", "port", 0x61, 1),
    ("ioapic", "mmio", IOAPIC_GPA, 0x1000),
    ("lapic", "mmio", LAPIC_GPA, 0x1000),
)
"""(controller, space, start, size) of what never gets here where the engine brings the controller."""
REPLACEABLE = frozenset(("pit",))
"""Controllers that an engine can leave out, so that a user's own device may take their place."""


class Wiring(NamedTuple):
    """What the devices need from outside. `line` gives the interrupt input of a GSI."""

    console: ByteSink
    console_input: ByteSource | None
    line: Callable[[int], IrqLine]
    stop: Callable[[str, int], None]
    wall_clock: Callable[[], float]
    """Seconds since the epoch, UTC."""
    clock: Clock
    provided: frozenset[str]
    """Controllers that the engine brings: their addresses are taken, see ENGINE_WINDOWS."""
    cpus: int
    ram_low: int
    ram_high: int
    """Bytes of RAM below and from 4 GiB on."""
    disk: bytes


class Fitting(NamedTuple):
    """One row of a board: a window and who answers in it. `space` is "port" or "mmio"."""

    space: str
    start: int
    size: int
    name: str
    device: Device


class Board:
    """The attached devices, and the few of them that the machine talks to itself."""

    def __init__(
        self, ports: Bus, mmio: Bus, serial: Serial16550, keyboard: I8042, screen: VgaText, post: PostPort
    ) -> None:
        self.ports = ports
        self.mmio = mmio
        self.serial = serial
        self.keyboard = keyboard
        self.screen = screen
        self.post = post
        self.devices: list[Device] = []

    def close(self) -> None:
        """Close every device, the later ones first."""
        while self.devices:
            self.devices.pop().close()

    def reset(self) -> None:
        """Every device back to power-on."""
        for device in self.devices:
            device.reset()


def make_board(kind: str, wiring: Wiring) -> Board:
    """The board `kind` ("default" or "testdev") on two fresh buses."""

    def reset_machine() -> None:
        wiring.stop("reset", 0)

    line = wiring.line
    serial = Serial16550(line(GSI_COM1), wiring.console, wiring.console_input)
    keyboard = I8042(line(GSI_KEYBOARD), reset_machine)
    screen = VgaText()
    post = PostPort()
    rows = [
        *_pc_rows(wiring, serial, keyboard, screen, post, reset_machine),
        *_control_rows(wiring),
    ]
    if kind == "testdev":
        rows += _testdev_rows([line(n) for n in range(ISA_LINES)])
    rows += [
        Fitting(space, start, size, f"{name} (the engine's own)", _EngineOwned())
        for name, space, start, size in ENGINE_WINDOWS
        if name in wiring.provided
    ]
    if wiring.disk:
        rows.append(Fitting("port", BOOT_DISK_PORT, 8, "bootdisk", BootDisk(wiring.disk)))
    board = Board(Bus("port", PORT_SPACE), Bus("mmio", PHYSICAL_SPACE), serial, keyboard, screen, post)
    for row in rows:
        bus = board.ports if row.space == "port" else board.mmio
        bus.attach(row.start, row.size, row.name, row.device)
        board.devices.append(row.device)
    return board


def _pc_rows(
    wiring: Wiring,
    serial: Serial16550,
    keyboard: I8042,
    screen: VgaText,
    post: PostPort,
    reset_machine: Callable[[], None],
) -> list[Fitting]:
    """What every PC has. PIC, PIT, LAPIC and IOAPIC are the engine's, or the builder adds models."""
    line = wiring.line
    com2 = Serial16550(line(GSI_COM2), _Nowhere())
    cmos = Cmos(wiring.wall_clock, wiring.clock, line(GSI_RTC), wiring.ram_low, wiring.ram_high, wiring.cpus)
    pci = PciHost(reset_machine)
    return [
        Fitting("port", 0x60, 1, "i8042", keyboard),
        Fitting("port", 0x64, 1, "i8042", Shifted(keyboard, 4)),
        Fitting("port", 0x70, 2, "cmos", cmos),
        Fitting("port", 0x80, 1, "post", post),
        Fitting("port", 0x92, 1, "port92", SystemControlA(reset_machine)),
        Fitting("port", 0x2F8, 8, "serial2", com2),
        Fitting("port", 0x3D4, 2, "vga", screen.crtc),
        Fitting("port", 0x3DA, 1, "vga", screen.status),
        Fitting("port", 0x3F8, 8, "serial", serial),
        Fitting("port", 0xCF8, 8, "pci", pci),
        Fitting("mmio", TEXT_MEMORY_GPA, 0x8000, "vga", screen.memory),
    ]


def _control_rows(wiring: Wiring) -> list[Fitting]:
    """Ways for a guest to talk to whoever runs it, and to end."""
    fw_cfg = FwCfg(wiring.cpus, wiring.ram_low + wiring.ram_high)
    return [
        Fitting("port", 0xE9, 1, "debugcon", DebugConsole(wiring.console)),
        Fitting("port", 0xF4, 4, "exit", DebugExitPort(wiring.stop)),
        Fitting("port", 0xF8, 4, "plainexit", PlainExitPort(wiring.stop)),
        Fitting("port", 0x402, 1, "debugcon2", DebugConsole(wiring.console)),
        Fitting("port", 0x510, 2, "fwcfg", fw_cfg),
        Fitting("port", PM1A_CONTROL_PORT, 2, "acpi", AcpiPm1Control(wiring.stop)),
    ]


def _testdev_rows(lines: Sequence[IrqLine]) -> list[Fitting]:
    """What CPU test kernels expect of their host."""
    return [
        Fitting("port", 0xE0, 4, "testdev", PortLatch()),
        Fitting("port", 0xE4, 4, "testdev-flush", PageFlush()),
        Fitting("port", 0x2000, len(lines), "testdev-irq", IrqDriver(lines)),
        Fitting("mmio", TEST_MEMORY_GPA, 0x10000, "testdev-memory", IoMemory()),
    ]


def replaced_controllers(fittings: Sequence[Fitting]) -> frozenset[str]:
    """The replaceable controllers that a user's own `fittings` take the place of."""
    return frozenset(
        name
        for name, space, start, size in ENGINE_WINDOWS
        for f in fittings
        if name in REPLACEABLE and f.space == space and f.start < start + size and start < f.start + f.size
    )


class _EngineOwned:
    """Holds the addresses of a controller inside the engine, so that nobody else can claim them."""

    max_width = 4

    def read(self, offset: int, size: int) -> int:
        """Not reached: the engine answers first."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Not reached: the engine answers first."""

    def register(self, offset: int, write: bool) -> str:
        return f"+{offset:#x}"

    def reset(self) -> None:
        """The engine's business."""

    def close(self) -> None:
        """The engine's business."""


class _Nowhere:
    """COM2 is there for guests that look, and connected to nothing."""

    def write(self, data: bytes, /) -> None:
        """Drop `data`."""
