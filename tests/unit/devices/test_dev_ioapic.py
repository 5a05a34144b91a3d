"""The 82093AA by the data sheet, with a wire that records what it is sent."""

from minihv.devices.apicbus import MODE_LOWEST, MODE_NMI, ApicBus, Message
from minihv.devices.ioapic import REDIR_LEVEL, REDIR_MASKED, REDIR_REMOTE_IRR, IoApic


class Recorder:
    """Takes every message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def matches(self, message: Message) -> bool:
        return True

    def arbitration(self) -> int | None:
        return 0

    def receive(self, message: Message) -> None:
        self.messages.append(message)


class Board:
    def __init__(self, attach: bool = True) -> None:
        self.bus = ApicBus()
        self.cpu = Recorder()
        if attach:
            self.bus.attach(self.cpu)
        self.ioapic = IoApic(self.bus, 3)

    def get(self, index: int) -> int:
        self.ioapic.write(0, 4, index)
        return self.ioapic.read(0x10, 4)

    def put(self, index: int, value: int) -> None:
        self.ioapic.write(0, 4, index)
        self.ioapic.write(0x10, 4, value)

    def route(self, pin: int, low: int, destination: int = 0) -> None:
        self.put(0x11 + 2 * pin, destination << 24)
        self.put(0x10 + 2 * pin, low)

    def entry(self, pin: int) -> int:
        return self.get(0x10 + 2 * pin) | self.get(0x11 + 2 * pin) << 32

    def vectors(self) -> list[int]:
        return [m.vector for m in self.cpu.messages]


def test_identification() -> None:
    board = Board()
    assert board.get(0) == 3 << 24
    assert board.get(1) == 0x0017_0011
    assert board.get(2) == 3 << 24
    board.put(0, 0xFF00_0000)
    assert board.get(0) == 0x0F00_0000
    assert board.get(0x50) == 0
    board.put(0x50, 1)
    assert board.ioapic.read(0, 4) == 0x50


def test_all_pins_start_masked() -> None:
    board = Board()
    assert all(board.entry(pin) == REDIR_MASKED for pin in range(24))
    board.ioapic.set_line(4, True)
    assert board.vectors() == []


def test_edge() -> None:
    board = Board()
    board.route(4, 0x34)
    board.ioapic.set_line(4, True)
    board.ioapic.set_line(4, True)
    assert board.cpu.messages == [Message(0, 0x34, 0, False)]
    board.ioapic.set_line(4, False)
    board.ioapic.set_line(4, True)
    assert board.vectors() == [0x34, 0x34]


def test_masked_edge_is_lost() -> None:
    board = Board()
    board.route(4, 0x34 | REDIR_MASKED)
    board.ioapic.set_line(4, True)
    board.route(4, 0x34)
    assert board.vectors() == []


def test_level_holds_until_eoi_and_asks_again() -> None:
    board = Board()
    board.route(10, 0x5A | REDIR_LEVEL)
    line = board.ioapic.line(10)
    line(True)
    line(True)
    assert board.vectors() == [0x5A]
    assert board.cpu.messages[0].level_triggered
    assert board.entry(10) & REDIR_REMOTE_IRR
    board.bus.eoi(0x5A)
    assert board.vectors() == [0x5A, 0x5A]
    line(False)
    board.bus.eoi(0x5A)
    assert not board.entry(10) & REDIR_REMOTE_IRR
    assert board.vectors() == [0x5A, 0x5A]


def test_eoi_of_another_vector_changes_nothing() -> None:
    board = Board()
    board.route(10, 0x5A | REDIR_LEVEL)
    board.ioapic.set_line(10, True)
    board.bus.eoi(0x5B)
    assert board.entry(10) & REDIR_REMOTE_IRR


def test_unmasking_a_held_level_line_delivers() -> None:
    board = Board()
    board.route(10, 0x5A | REDIR_LEVEL | REDIR_MASKED)
    board.ioapic.set_line(10, True)
    assert board.vectors() == []
    board.put(0x24, 0x5A | REDIR_LEVEL)
    assert board.vectors() == [0x5A]


def test_remote_irr_is_read_only_and_cleared_by_edge_mode() -> None:
    board = Board()
    board.route(10, 0x5A | REDIR_LEVEL | REDIR_REMOTE_IRR | 1 << 12)
    assert board.entry(10) & 0xFFFF == 0x5A | REDIR_LEVEL
    board.ioapic.set_line(10, True)
    board.put(0x24, 0x5A | REDIR_LEVEL | REDIR_MASKED)
    assert board.entry(10) & REDIR_REMOTE_IRR
    board.put(0x24, 0x5A | REDIR_MASKED)
    assert not board.entry(10) & REDIR_REMOTE_IRR


def test_nobody_took_it_so_no_eoi_is_awaited() -> None:
    board = Board(attach=False)
    board.route(10, 0x5A | REDIR_LEVEL)
    board.ioapic.set_line(10, True)
    assert not board.entry(10) & REDIR_REMOTE_IRR


def test_fields_of_the_message() -> None:
    board = Board()
    board.route(1, 0x21 | MODE_LOWEST << 8 | 0x800, destination=0x03)
    board.route(2, MODE_NMI << 8, destination=0xFF)
    board.ioapic.set_line(1, True)
    board.ioapic.set_line(2, True)
    assert board.cpu.messages[0] == Message(MODE_LOWEST, 0x21, 3, True)
    assert board.cpu.messages[1] == Message(MODE_NMI, 0, 0xFF, False, broadcast=True)


def test_narrow_and_stray_accesses() -> None:
    board = Board()
    board.route(1, 0x1234)
    board.ioapic.write(0, 1, 0x12)
    assert board.ioapic.read(0x11, 1) == 0x02
    assert board.ioapic.read(0x20, 4) == 0
    board.ioapic.write(0x20, 4, 0xFFFFFFFF)
    assert board.ioapic.register(0x10, True) == "IOREDTBL1"
    assert board.ioapic.register(0x0, True) == "IOREGSEL"
    assert board.ioapic.register(0x40, True) == "reserved"


def test_kvm_layout_round_trip() -> None:
    board = Board()
    board.route(10, 0x5A | REDIR_LEVEL, destination=1)
    board.ioapic.set_line(10, True)
    data = board.ioapic.to_kvm()
    assert len(data) == 216
    assert int.from_bytes(data[:8], "little") == 0xFEC00000
    assert int.from_bytes(data[16:20], "little") == 1 << 10
    entry = int.from_bytes(data[24 + 80 : 32 + 80], "little")
    assert entry == 1 << 56 | REDIR_REMOTE_IRR | REDIR_LEVEL | 0x5A
    other = Board()
    other.ioapic.from_kvm(data)
    assert other.ioapic.to_kvm() == data
    other.bus.eoi(0x5A)
    assert other.vectors() == [0x5A]


def test_reset() -> None:
    board = Board()
    board.route(10, 0x5A)
    board.ioapic.reset()
    assert board.entry(10) == REDIR_MASKED
