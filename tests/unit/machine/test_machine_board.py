"""The default board has every window of the notes, and nobody can take one that is in use."""

from collections.abc import Iterator

import pytest

from minihv.deferred import Deferred
from minihv.devices.callbacks import PortHandler
from minihv.errors import UsageError
from minihv.interfaces import EngineTraits, IrqLine
from minihv.machine.board import ENGINE_WINDOWS, Board, Fitting, Wiring, make_board, replaced_controllers

ALL = frozenset(("pic", "pit", "lapic", "ioapic"))


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.data += data


class Lines:
    """Remembers the level of every interrupt line."""

    def __init__(self) -> None:
        self.levels: dict[int, bool] = {}

    def __call__(self, gsi: int) -> IrqLine:
        def line(level: bool, /) -> None:
            self.levels[gsi] = level

        return line


class World:
    """What a board is wired to."""

    def __init__(self, kind: str = "default", provided: frozenset[str] = ALL, disk: bytes = b"") -> None:
        self.sink, self.lines = Sink(), Lines()
        self.stops: list[tuple[str, int]] = []
        self.now = 0
        self.board: Board = make_board(
            kind,
            Wiring(
                console=self.sink,
                console_input=None,
                line=self.lines,
                stop=lambda reason, status: self.stops.append((reason, status)),
                wall_clock=lambda: 1_000_000_000.0,
                clock=lambda: self.now,
                cpus=3,
                ram_low=64 << 20,
                ram_high=0,
                disk=disk,
            ),
        )
        self.board.fit_controllers(EngineTraits(provided, True, False, True), None)

    def out(self, port: int, value: int, size: int = 1) -> None:
        self.board.ports.write(port, size, value)

    def read(self, port: int, size: int = 1) -> int:
        return self.board.ports.read(port, size)


@pytest.fixture
def world() -> Iterator[World]:
    w = World()
    yield w
    w.board.close()


PORTS = {
    0x20: "pic", 0x21: "pic", 0xA0: "pic", 0xA1: "pic", 0x40: "pit", 0x41: "pit", 0x42: "pit", 0x43: "pit",
    0x61: "pit", 0x70: "cmos", 0x71: "cmos", 0x60: "i8042", 0x64: "i8042", 0x92: "port92", 0x80: "post",
    0x3F8: "serial", 0x3FF: "serial", 0x2F8: "serial2", 0x2FF: "serial2", 0xE9: "debugcon", 0x402: "debugcon",
    0xF4: "exit", 0xF7: "exit", 0xF8: "plainexit", 0xFB: "plainexit", 0x604: "acpi", 0x605: "acpi",
    0x510: "fwcfg", 0x511: "fwcfg", 0xCF8: "pci", 0xCF9: "pci", 0xCFC: "pci", 0xCFF: "pci",
    0x3D4: "vga", 0x3D5: "vga", 0x3DA: "vga",
}  # fmt: skip
WINDOWS = {0xB8000: "vga", 0xBFFFF: "vga", 0xFEC00000: "ioapic", 0xFEE00000: "lapic", 0xFEE00FFF: "lapic"}


@pytest.mark.parametrize("port", PORTS, ids=hex)
def test_every_port_of_the_notes_has_its_owner(world: World, port: int) -> None:
    assert world.board.ports.owner(port, write=True).startswith(PORTS[port])
    assert world.board.ports.owner(port, write=False).startswith(PORTS[port])


@pytest.mark.parametrize("gpa", WINDOWS, ids=hex)
def test_every_window_of_the_notes_has_its_owner(world: World, gpa: int) -> None:
    assert world.board.mmio.owner(gpa, write=True).startswith(WINDOWS[gpa])


@pytest.mark.parametrize("port", [0x22, 0x62, 0x63, 0x65, 0x72, 0xE0, 0xE4, 0x2000, 0x3F7, 0x400, 0xD00])
def test_ports_of_nobody_on_the_default_board(world: World, port: int) -> None:
    assert world.board.ports.owner(port, write=True) == "unclaimed"
    assert world.read(port) == 0xFF


def test_the_testdev_board_has_four_more() -> None:
    board = World("testdev").board
    for port, owner in {
        0xE0: "testdev",
        0xE4: "testdev-flush",
        0x2000: "testdev-irq",
        0x2017: "testdev-irq",
    }.items():
        assert board.ports.owner(port, write=True).startswith(f"{owner}.")
    assert board.mmio.owner(0xFF000000, write=True).startswith("testdev-memory.")
    assert board.mmio.owner(0xFF00FFFF, write=True).startswith("testdev-memory.")
    assert board.ports.owner(0x2018, write=True) == "unclaimed"


def test_exit_ports_and_power_off_stop_the_machine(world: World) -> None:
    world.out(0xF4, 0x10)
    world.out(0xF4, 1, size=4)
    world.out(0xF8, 0x85)
    world.out(0x604, 0x2000, size=2)
    assert world.stops == [("exit", 0x21), ("exit", 3), ("exit", 5), ("power-off", 0)]


@pytest.mark.parametrize(("port", "value"), [(0x64, 0xFE), (0x92, 0x01), (0xCF9, 0x06)])
def test_the_ways_to_reset(world: World, port: int, value: int) -> None:
    world.out(port, value)
    assert world.stops == [("reset", 0)]


def test_the_consoles(world: World) -> None:
    world.out(0x3F8, ord("s"))
    world.out(0xE9, ord("d"))
    world.out(0x402, ord("e"))
    world.out(0x2F8, ord("x"))  # COM2 leads nowhere
    assert world.sink.data == b"sde"
    assert world.read(0xE9) == 0xE9


def test_fw_cfg_and_cmos_know_the_machine(world: World) -> None:
    world.out(0x510, 5, size=2)
    assert [world.read(0x511) for _ in range(2)] == [3, 0]
    world.out(0x70, 0x34)
    assert world.read(0x71) == (48 << 20 >> 16) & 0xFF  # 64-KiB blocks above 16 MiB


def test_serial_interrupts_come_out_at_line_4(world: World) -> None:
    world.out(0x3FC, 0x08)
    world.out(0x3F9, 0x01)
    world.board.serial.receive(b"k")
    assert world.lines.levels[4] is True


def test_post_codes_and_the_screen_are_kept(world: World) -> None:
    world.out(0x80, 0x55)
    world.board.mmio.write(0xB8000, 2, 0x0741)
    post, screen = world.board.post(), world.board.screen()
    assert post.codes[-1] == 0x55
    assert screen.text()[0].startswith("A")


@pytest.mark.parametrize("row", ENGINE_WINDOWS, ids=lambda row: f"{row[0]}-{row[2]:#x}")
def test_a_window_inside_the_engine_is_refused_with_both_names(row: tuple[str, str, int, int]) -> None:
    name, space, start, size = row
    board = World().board
    with pytest.raises(UsageError, match=rf"mine .* overlaps {name} \(the engine's own\)"):
        board.attach(Fitting(space, start + size - 1, 1, "mine", PortHandler()))


def test_what_the_engine_does_not_bring_is_free() -> None:
    board = World(provided=frozenset()).board
    board.attach(Fitting("port", 0x40, 4, "mine", PortHandler(lambda offset, size: offset)))
    assert board.ports.read(0x42, 1) == 2


@pytest.mark.parametrize(
    ("space", "start", "size", "replaced"),
    [
        ("port", 0x42, 1, {"pit"}), ("port", 0x40, 4, {"pit"}), ("port", 0x61, 1, {"pit"}),
        ("port", 0x30, 0x20, {"pit"}), ("port", 0x44, 1, set()), ("port", 0x3F, 1, set()),
        ("mmio", 0x42, 1, set()), ("port", 0x20, 2, set()), ("mmio", 0xFEE00000, 1, set()),
    ],
)  # fmt: skip
def test_only_the_pit_can_be_replaced(space: str, start: int, size: int, replaced: set[str]) -> None:
    assert replaced_controllers([Fitting(space, start, size, "mine", PortHandler())]) == replaced


def test_a_device_with_two_windows_is_closed_once_and_all_are_closed_whatever_one_raises() -> None:
    closed: list[str] = []

    class Closing(PortHandler):
        def close(self) -> None:
            closed.append(self.name)
            if self.name == "bad":
                raise RuntimeError("cannot close")

    board = World().board
    good, bad, last = Closing(name="good"), Closing(name="bad"), Closing(name="last")
    for at, device in enumerate((good, bad, last, good)):
        board.attach(Fitting("port", 0x5000 + at, 1, device.name, device))
    with pytest.raises(RuntimeError, match="cannot close"):
        board.close()
    board.close()
    assert closed == ["last", "bad", "good"]


def test_a_device_that_nobody_touched_was_never_made_and_closes_all_the_same() -> None:
    made: list[int] = []

    def make() -> PortHandler:
        made.append(1)
        return PortHandler(lambda offset, size: 7)

    board = World().board
    board.attach(Fitting("port", 0x5000, 1, "lazy", Deferred(make)))
    board.attach(Fitting("port", 0x5001, 1, "never", Deferred(make)))
    assert made == []
    assert [board.ports.read(0x5000, 1) for _ in range(3)] == [7, 7, 7]
    assert made == [1]
    board.reset()
    board.close()


def test_a_reset_board_is_as_new(world: World) -> None:
    world.out(0x3FB, 0x80)
    world.board.reset()
    assert world.read(0x3FB) == 0


def test_the_boot_disk_is_there_only_with_a_disk() -> None:
    assert World().board.ports.owner(0xB00, write=False) == "unclaimed"
    assert World(disk=bytes(512)).board.ports.owner(0xB00, write=False).startswith("bootdisk.")
