"""The controllers together: a line to a vector, a timer to a vector, a reset."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minihv.devices import lapic_registers as reg
from minihv.devices.irqchips import IrqChips
from minihv.devices.pit_channel import ticks_to_ns
from minihv.interfaces import InterruptSource
from minihv.x86.registers import MSR_APIC_BASE, MSR_TSC_DEADLINE

TSC_HZ = 1_000_000_000


class Cpu:
    """An `InterruptTarget` that only remembers."""

    def __init__(self) -> None:
        self.local_apic: InterruptSource | None = None
        self.noticed = 0

    def notice(self) -> None:
        self.noticed += 1

    def deliver_init(self) -> None:
        raise AssertionError("no INIT expected")

    def deliver_sipi(self, vector: int) -> None:
        raise AssertionError("no SIPI expected")

    def deliver_nmi(self) -> None:
        raise AssertionError("no NMI expected")

    def kick(self) -> None:
        """The test plans anew by itself."""


class Board:
    def __init__(self) -> None:
        self.now = 0
        self.tsc = 0
        self.chips = IrqChips(2, lambda: self.now, TSC_HZ)
        self.cpus = [Cpu(), Cpu()]
        self.chips.connect(0, self.cpus[0], lambda: self.tsc)
        self.chips.connect(1, self.cpus[1])
        for value, a0 in ((0x11, 0), (0x20, 1), (4, 1), (1, 1)):
            self.chips.pic.master.write(a0, 1, value)

    def route(self, pin: int, vector: int, destination: int = 0) -> None:
        for index, value in ((0x11 + 2 * pin, destination << 24), (0x10 + 2 * pin, vector)):
            self.chips.ioapic.write(0, 4, index)
            self.chips.ioapic.write(0x10, 4, value)

    def take(self, cpu: int) -> int | None:
        source = self.cpus[cpu].local_apic
        assert source is not None
        return None if source.pending() is None else source.acknowledge()


def test_a_line_reaches_the_boot_processor_through_the_8259() -> None:
    board = Board()
    board.chips.line(4)(True)
    assert board.cpus[0].noticed
    assert [board.take(0), board.take(1)] == [0x24, None]


def test_a_line_reaches_any_processor_through_the_io_apic() -> None:
    board = Board()
    board.chips.pic.master.write(1, 1, 0xFF)
    board.chips.lapics[1].write(reg.SVR, 4, 0x1FF)
    board.route(4, 0x54, destination=1)
    board.chips.line(4)(True)
    assert [board.take(0), board.take(1)] == [None, 0x54]


@pytest.mark.parametrize("gsi", [-1, 24])
def test_lines_that_do_not_exist(gsi: int) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        Board().chips.line(gsi)


def test_the_pit_ticks_through_gsi_0() -> None:
    board = Board()
    assert board.chips.next_deadline() is None
    for offset, value in ((3, 0x34), (0, 0xE8), (0, 0x03)):
        board.chips.pit.write(offset, 1, value)
    board.take(0)  # OUT went high with the control word
    board.chips.pic.master.write(0, 1, 0x20)
    due = board.chips.next_deadline()
    assert due == ticks_to_ns(1000)
    board.now = due
    board.chips.tick(due)
    assert board.take(0) == 0x20


def test_the_earliest_deadline_counts() -> None:
    board = Board()
    for lapic, initial in zip(board.chips.lapics, (5000, 3000), strict=True):
        lapic.write(reg.SVR, 4, 0x1FF)
        lapic.write(reg.LVT_TIMER, 4, 0x60)
        lapic.write(reg.TIMER_DIVIDE, 4, 0xB)
        lapic.write(reg.TIMER_INITIAL, 4, initial)
    assert board.chips.next_deadline() == 3000
    board.now = 3000
    board.chips.tick(3000)
    assert [board.take(0), board.take(1)] == [None, 0x60]
    assert board.chips.next_deadline() == 5000


def test_tsc_deadline_uses_the_processors_own_counter() -> None:
    board = Board()
    lapic = board.chips.lapics[0]
    lapic.write(reg.SVR, 4, 0x1FF)
    lapic.write(reg.LVT_TIMER, 4, 0x4_0060)
    lapic.write_msr(MSR_TSC_DEADLINE, 100)
    board.now = 10**9
    board.chips.tick(board.now)
    assert board.take(0) is None
    board.tsc = 100
    board.chips.tick(board.now)
    assert board.take(0) == 0x60


def test_reset() -> None:
    board = Board()
    board.chips.lapics[0].write_msr(MSR_APIC_BASE, 0xFED00900)
    board.chips.line(4)(True)
    board.chips.reset()
    assert board.take(0) is None
    assert board.chips.lapics[0].read_msr(MSR_APIC_BASE) == 0xFEE00900


class Restarted(Cpu):
    """Takes INIT, start-up and NMI in its stride."""

    def deliver_init(self) -> None:
        assert self.local_apic is not None
        self.local_apic.reset()

    def deliver_sipi(self, vector: int) -> None:
        assert 0 <= vector <= 0xFF

    def deliver_nmi(self) -> None:
        self.noticed += 1


def act(board: Board, what: int, where: int, value: int) -> None:
    """One hostile act: any register of any chip, any line, any MSR, or time."""
    chips = board.chips
    lapic = chips.lapics[value & 1]
    if what == 0:
        (chips.pic.master, chips.pic.slave, chips.pic.elcr)[where % 3].write(where & 1, 1, value & 0xFF)
    elif what == 1:
        chips.pit.write(where & 3, 1, value & 0xFF)
    elif what == 2:
        chips.ioapic.write(where & 0x10, 4, value)
    elif what == 3:
        lapic.write(where & 0xFFF, 4, value)
    elif what == 4:
        lapic.write_msr((0x1B, 0x6E0, 0x800 + (where & 0xFF))[where % 3], value)
    elif what == 5:
        chips.line(where % 24)(bool(value & 1))
    elif what == 6:
        chips.pit.set_timer2_gate(bool(value & 1))
    else:
        board.now += value
        board.tsc += value
        chips.tick(board.now)


def check(board: Board) -> None:
    """Whatever was done: vectors are vectors, reads are in range, and states survive a round trip."""
    chips = board.chips
    due = chips.next_deadline()
    assert due is None or due >= 0
    for index in (0, 1):
        vector = board.take(index)
        assert vector is None or 0 <= vector <= 0xFF
    for offset in range(0, 0x1000, 16):
        assert 0 <= chips.lapics[0].read(offset, 4) <= 0xFFFFFFFF
    for offset in range(4):
        assert 0 <= chips.pit.read(offset, 1) <= 0xFF
    for chip in (chips.pic, chips.ioapic):
        data = chip.to_kvm()
        chip.from_kvm(data)
        assert chip.to_kvm() == data
    page = chips.lapics[1].to_kvm()
    chips.lapics[1].from_kvm(page)
    assert chips.lapics[1].to_kvm() == page
    pit = chips.pit.to_kvm()
    chips.pit.from_kvm(pit, same_clock=True)
    assert chips.pit.to_kvm() == pit


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 7), st.integers(0, 0xFFF), st.integers(0, 2**64 - 1) | st.integers(0, 0xFFFF)
        ),
        max_size=40,
    )
)
def test_a_hostile_guest_breaks_nothing(acts: list[tuple[int, int, int]]) -> None:
    board = Board()
    for index in (0, 1):
        board.cpus[index] = Restarted()
        board.chips.connect(index, board.cpus[index])
    for what, where, value in acts:
        act(board, what, where, value)
    check(board)
