"""The board: the only place that names ports, windows and interrupt lines.

A board is a table of what sits where. Devices know offsets, engines know exits; the two meet here.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from minihv.boot.platform import Platform
from minihv.bus import Bus, Window
from minihv.deferred import Deferred, Once
from minihv.devices.exit import AcpiPm1Control, AcpiPm1Event, DebugExitPort, PlainExitPort
from minihv.devices.serial import Serial16550
from minihv.interfaces import ByteSink, ByteSource, Clock, Device, EngineTraits, IrqLine, Registers
from minihv.memory import LEGACY_WINDOW_END, LEGACY_WINDOW_START

if TYPE_CHECKING:
    from minihv.devices.debug import PostPort
    from minihv.devices.i8042 import I8042
    from minihv.devices.irqchips import IrqChips
    from minihv.devices.vga import VgaText

PORT_SPACE = 1 << 16
PHYSICAL_SPACE = 1 << 52
"""MAXPHYADDR is at most 52 (SDM Vol. 3A, 4.1.4)."""

GSI_KEYBOARD, GSI_COM2, GSI_COM1, GSI_RTC = 1, 3, 4, 8
"""ISA interrupt n is global system interrupt n on this board: no overrides, so the PIT is GSI 0."""
ISA_LINES = 24

IOAPIC_GPA = 0xFEC00000
LAPIC_GPA = 0xFEE00000
PM1A_EVENT_PORT = 0x600
PM1A_CONTROL_PORT = 0x604
TEXT_MEMORY_GPA = 0xB8000
TEST_MEMORY_GPA = 0xFF000000
BOOT_DISK_PORT = 0xB00

BIOS_TABLES_GPA, BIOS_TABLES_END = 0xE0000, 0x100000
"""Where operating systems look for the ACPI RSDP and the MP table."""
SCI_IRQ = 9
RESET_PORT, RESET_VALUE = 0xCF9, 6

RESERVED_WINDOWS = (
    (LEGACY_WINDOW_START, LEGACY_WINDOW_END, "video memory"),
    (IOAPIC_GPA, IOAPIC_GPA + 0x1000, "IOAPIC"),
    (LAPIC_GPA, LAPIC_GPA + 0x1000, "LAPIC"),
    (BIOS_TABLES_GPA, BIOS_TABLES_END, "BIOS tables"),
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
    cpus: int
    ram_low: int
    ram_high: int
    """Bytes of RAM below and from 4 GiB on."""
    disk: bytes
    without: frozenset[str] = frozenset()
    """Controllers to leave out: a user's own device takes their place."""


class Fitting(NamedTuple):
    """One row of a board: a window and who answers in it. `space` is "port" or "mmio"."""

    space: str
    start: int
    size: int
    name: str
    device: Device


class Board:
    """The attached devices, and the few of them that the machine talks to itself."""

    def __init__(self, wiring: Wiring, parts: "_Parts") -> None:
        self._wiring = wiring
        self._controllers: list[tuple[Bus, Window]] = []
        self.ports = Bus("port", PORT_SPACE)
        self.mmio = Bus("mmio", PHYSICAL_SPACE)
        self.serial = parts.serial
        self.keyboard = parts.keyboard
        self.screen = parts.screen
        self.post = parts.post
        self.devices: list[Device] = []
        self.timers: list[Any] = []
        """What has timers and is no device of its own."""
        self._timed: list[Any] | None = None
        """Who has timers, as far as it exists; None: to be found anew."""
        self._unmade: list[Deferred] = []
        """Who may have timers once a guest touches it."""

    def attach(self, row: Fitting) -> None:
        """Put one device on its bus. Raises UsageError where its window is taken."""
        self._bus(row).attach(row.start, row.size, row.name, row.device)
        if not any(device is row.device for device in self.devices):  # one device may have several windows
            self.devices.append(row.device)
            self._timed = None

    def fit_controllers(self, traits: EngineTraits, chips: "IrqChips | None") -> None:
        """Make room for the interrupt controllers that an engine brings, or put models in their place.

        Raises UsageError where a user's own device sits there.
        """
        for bus, window in self._controllers:
            bus.detach(window)
        self._controllers.clear()
        self.timers = [] if chips is None else [chips]
        self._timed = None
        rows = [] if chips is None else _chip_rows(self._wiring, chips)
        if chips is not None and traits.parallel:
            # The engine does not serve the page itself; with one CPU there is just this one LAPIC.
            rows.append(Fitting("mmio", LAPIC_GPA, 0x1000, "lapic", LapicWindow(chips.lapics[0])))
        rows += [
            Fitting(space, start, size, f"{name} (the engine's own)", _EngineOwned())
            for name, space, start, size in ENGINE_WINDOWS
            if name in traits.provides
        ]
        for row in rows:
            bus = self._bus(row)
            self._controllers.append((bus, bus.attach(row.start, row.size, row.name, row.device)))

    def _bus(self, row: Fitting) -> Bus:
        return self.ports if row.space == "port" else self.mmio

    def next_deadline(self) -> int | None:
        """When the first timer of a device falls due, in ns of the wiring's clock; None without timers."""
        first: int | None = None
        for owner in self._with_timers():
            due = owner.next_deadline()
            if due is not None and (first is None or due < first):
                first = due
        return first

    def tick(self, now: int) -> None:
        """Let the timers of devices act; `now` in ns of the wiring's clock."""
        for owner in tuple(self._with_timers()):
            owner.tick(now)

    def _with_timers(self) -> list[Any]:
        """Asked for between all turns of vCPUs, so that it is kept; devices come into being in between."""
        timed = self._timed
        if timed is None:
            self._unmade = [device for device in self.devices if isinstance(device, Deferred)]
            made = (device for device in self.devices if not isinstance(device, Deferred))
            timed = [owner for owner in (*self.timers, *made) if hasattr(owner, "next_deadline")]
            self._timed = timed
        for device in self._unmade:
            if (real := device.made) is not None:
                self._unmade = [other for other in self._unmade if other is not device]
                if hasattr(real, "next_deadline"):
                    timed.append(real)
        return timed

    def disown(self, devices: Iterable[Device]) -> None:
        """Somebody else closes these `devices`."""
        others = set(map(id, devices))
        self.devices = [device for device in self.devices if id(device) not in others]
        self._timed = None

    def close(self) -> None:
        """Close every device once, the later ones first, whatever of them raises."""
        with ExitStack() as stack:
            for device in self.devices:
                stack.callback(device.close)
            self.devices = []

    def reset(self) -> None:
        """Every device back to power-on."""
        for device in self.devices:
            device.reset()


class _Parts:
    """The devices of a PC that the machine itself, or more than one window, refers to."""

    def __init__(self, wiring: Wiring, reset_machine: Callable[[], None]) -> None:
        line = wiring.line

        def keyboard() -> "I8042":
            from minihv.devices.i8042 import I8042

            return I8042(line(GSI_KEYBOARD), reset_machine)

        def screen() -> "VgaText":
            from minihv.devices.vga import VgaText

            return VgaText()

        def post() -> "PostPort":
            from minihv.devices.debug import PostPort

            return PostPort()

        self.serial = Serial16550(line(GSI_COM1), wiring.console, wiring.console_input)
        self.keyboard = Once(keyboard)
        self.screen = Once(screen)
        self.post = Once(post)


def make_board(kind: str, wiring: Wiring) -> Board:
    """The board `kind` ("default" or "testdev") on two fresh buses."""

    def reset_machine() -> None:
        wiring.stop("reset", 0)

    parts = _Parts(wiring, reset_machine)
    rows = [*_pc_rows(wiring, parts, reset_machine), *_control_rows(wiring)]
    if kind == "testdev":
        rows += _testdev_rows(wiring)
    board = Board(wiring, parts)
    for row in rows:
        board.attach(row)
    return board


def _pc_rows(wiring: Wiring, parts: _Parts, reset_machine: Callable[[], None]) -> list[Fitting]:
    """What every PC has. PIC, PIT, LAPIC and IOAPIC are the engine's, or the builder adds models."""
    line = wiring.line

    def keyboard_command() -> Device:
        from minihv.devices.shifted import Shifted

        return Shifted(parts.keyboard(), 4)

    def cmos() -> Device:
        from minihv.devices.cmos import Cmos

        return Cmos(
            wiring.wall_clock, wiring.clock, line(GSI_RTC), wiring.ram_low, wiring.ram_high, wiring.cpus
        )

    def port92() -> Device:
        from minihv.devices.port92 import SystemControlA

        return SystemControlA(reset_machine)

    def pci() -> Device:
        from minihv.devices.pci import PciHost

        return PciHost(reset_machine)

    return [
        Fitting("port", 0x60, 1, "i8042", Deferred(parts.keyboard)),
        Fitting("port", 0x64, 1, "i8042", Deferred(keyboard_command)),
        Fitting("port", 0x70, 2, "cmos", Deferred(cmos)),
        Fitting("port", 0x80, 1, "post", Deferred(parts.post)),
        Fitting("port", 0x92, 1, "port92", Deferred(port92)),
        Fitting("port", 0x2F8, 8, "serial2", Deferred(lambda: Serial16550(line(GSI_COM2), _Nowhere()))),
        Fitting("port", 0x3D4, 2, "vga", Deferred(lambda: parts.screen().crtc)),
        Fitting("port", 0x3DA, 1, "vga", Deferred(lambda: parts.screen().status)),
        Fitting("port", 0x3F8, 8, "serial", parts.serial),
        Fitting("port", 0xCF8, 8, "pci", Deferred(pci)),
        Fitting("mmio", TEXT_MEMORY_GPA, 0x8000, "vga", Deferred(lambda: parts.screen().memory)),
    ]


def _control_rows(wiring: Wiring) -> list[Fitting]:
    """Ways for a guest to talk to whoever runs it, and to end."""

    def debug_console() -> Device:
        from minihv.devices.debug import DebugConsole

        return DebugConsole(wiring.console)

    def fw_cfg() -> Device:
        from minihv.devices.fwcfg import FwCfg

        return FwCfg(wiring.cpus, wiring.ram_low + wiring.ram_high)

    rows = [
        Fitting("port", 0xE9, 1, "debugcon", Deferred(debug_console)),
        Fitting("port", 0xF4, 4, "exit", DebugExitPort(wiring.stop)),
        Fitting("port", 0xF8, 4, "plainexit", PlainExitPort(wiring.stop)),
        Fitting("port", 0x402, 1, "debugcon2", Deferred(debug_console)),
        Fitting("port", 0x510, 2, "fwcfg", Deferred(fw_cfg)),
        Fitting("port", PM1A_EVENT_PORT, 4, "acpi-events", AcpiPm1Event()),
        Fitting("port", PM1A_CONTROL_PORT, 2, "acpi", AcpiPm1Control(wiring.stop)),
    ]
    if wiring.disk:
        from minihv.devices.bootdisk import BootDisk

        rows.append(Fitting("port", BOOT_DISK_PORT, 8, "bootdisk", BootDisk(wiring.disk)))
    return rows


def _chip_rows(wiring: Wiring, chips: "IrqChips") -> list[Fitting]:
    """PIC, PIT and IOAPIC models; the LAPICs sit inside their vCPUs."""
    from minihv.devices.port61 import SystemControlB

    rows = [
        Fitting("port", 0x20, 2, "pic", chips.pic.master),
        Fitting("port", 0xA0, 2, "pic2", chips.pic.slave),
        Fitting("port", 0x4D0, 2, "elcr", chips.pic.elcr),
        Fitting("mmio", IOAPIC_GPA, 0x1000, "ioapic", chips.ioapic),
    ]
    if "pit" not in wiring.without:
        control = SystemControlB(wiring.clock, chips.pit.timer2_output, chips.pit.set_timer2_gate)
        rows += [Fitting("port", 0x40, 4, "pit", chips.pit), Fitting("port", 0x61, 1, "port61", control)]
    return rows


def _testdev_rows(wiring: Wiring) -> list[Fitting]:
    """What CPU test kernels expect of their host."""
    from minihv.devices.testdev import IoMemory, IrqDriver, PageFlush, PortLatch

    lines = [wiring.line(n) for n in range(ISA_LINES)]
    return [
        Fitting("port", 0xE0, 4, "testdev", PortLatch()),
        Fitting("port", 0xE4, 4, "testdev-flush", PageFlush()),
        Fitting("port", 0x2000, len(lines), "testdev-irq", IrqDriver(lines)),
        Fitting("mmio", TEST_MEMORY_GPA, 0x10000, "testdev-memory", IoMemory()),
    ]


def platform_facts(cpus: int) -> Platform:
    """The board as its ACPI and MP tables describe it."""
    return Platform(
        cpus=cpus,
        lapic_address=LAPIC_GPA,
        ioapic_address=IOAPIC_GPA,
        ioapic_id=cpus,
        overrides=(),
        sci_irq=SCI_IRQ,
        pm1_event_port=PM1A_EVENT_PORT,
        pm1_control_port=PM1A_CONTROL_PORT,
        reset_port=RESET_PORT,
        reset_value=RESET_VALUE,
    )


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


class LapicWindow:
    """A LAPIC's register page as a device of the board; its reset belongs to the CPU."""

    max_width = 4

    def __init__(self, lapic: Registers) -> None:
        self._lapic = lapic

    def read(self, offset: int, size: int) -> int:
        return self._lapic.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self._lapic.write(offset, size, value)

    def register(self, offset: int, write: bool) -> str:
        return self._lapic.register(offset, write)

    def reset(self) -> None:
        """The CPU's business."""

    def close(self) -> None:
        """Nothing to give back."""


class _Nowhere:
    """COM2 is there for guests that look, and connected to nothing."""

    def write(self, data: bytes, /) -> None:
        """Drop `data`."""
