"""The 8254 by the data sheet: modes, byte orders, latches, gate, and the IRQ line of channel 0."""

import pytest

from minihv.devices.pit import MIN_INTERRUPT_NS, Pit8254
from minihv.devices.pit_channel import TICK_HZ, from_bcd, ticks_to_ns, to_bcd


class Board:
    def __init__(self) -> None:
        self.now = 0
        self.levels: list[bool] = []
        self.pit = Pit8254(lambda: self.now, self.levels.append)

    def program(self, channel: int, mode: int, count: int, rw: int = 3, bcd: int = 0) -> None:
        self.pit.write(3, 1, channel << 6 | rw << 4 | mode << 1 | bcd)
        if rw & 1:
            self.pit.write(channel, 1, count & 0xFF)
        if rw & 2:
            self.pit.write(channel, 1, count >> 8)

    def at(self, ticks: int) -> "Board":
        """Move the clock to `ticks` CLK pulses after the start."""
        self.now = ticks_to_ns(ticks)
        return self

    def out(self, channel: int = 0) -> bool:
        return self.pit.channels[channel].output(self.now)

    def count(self, channel: int = 0) -> int:
        """By a latch command and two reads."""
        self.pit.write(3, 1, channel << 6)
        return self.pit.read(channel, 1) | self.pit.read(channel, 1) << 8

    def status(self, channel: int = 0) -> int:
        self.pit.write(3, 1, 0xE0 | 2 << channel)
        return self.pit.read(channel, 1)

    def rises(self) -> int:
        return sum(self.levels)


def test_tick_conversion_rounds_up() -> None:
    assert ticks_to_ns(TICK_HZ) == 1_000_000_000
    for ticks in (1, 7, 1193, 65536):
        assert ticks_to_ns(ticks) * TICK_HZ // 1_000_000_000 == ticks


def test_bcd_helpers() -> None:
    assert (to_bcd(1234), from_bcd(0x1234)) == (0x1234, 1234)


def test_mode_0_interrupt_on_terminal_count() -> None:
    board = Board()
    board.program(0, 0, 1000)
    assert (board.out(), board.count()) == (False, 1000)
    assert board.pit.next_deadline() == ticks_to_ns(1000)
    board.at(999)
    assert (board.out(), board.count()) == (False, 1)
    board.at(1000)
    board.pit.tick(board.now)
    assert board.out()
    assert board.levels == [True]
    assert board.pit.next_deadline() is None
    assert board.at(1001).count() == 0xFFFF  # goes on counting down


def test_mode_0_first_byte_stops_the_count() -> None:
    board = Board()
    board.program(0, 0, 1000)
    board.at(1000).pit.tick(board.now)
    board.pit.write(0, 1, 0x10)
    assert not board.out()
    assert board.pit.next_deadline() is None
    board.pit.write(0, 1, 0)
    assert board.pit.next_deadline() is not None


def test_mode_2_rate_generator() -> None:
    board = Board()
    board.program(0, 2, 100)
    assert board.out()
    assert not board.at(99).out()
    assert board.count() == 1
    assert board.at(100).out()
    assert board.count() == 100
    assert board.at(230).count() == 70


def test_mode_3_square_wave() -> None:
    board = Board()
    board.program(0, 3, 100)
    assert board.out()
    assert board.at(49).out()
    assert not board.at(50).out()
    assert not board.at(99).out()
    assert board.at(100).out()
    assert board.at(110).count() == 80  # by two


def test_mode_3_odd_count_is_longer_high() -> None:
    board = Board()
    board.program(0, 3, 5)
    assert [board.at(t).out() for t in range(6)] == [True, True, True, False, False, True]


def test_mode_4_software_strobe() -> None:
    board = Board()
    board.program(0, 4, 10)
    assert [board.at(t).out() for t in (0, 9, 10, 11)] == [True, True, False, True]
    assert board.pit.next_deadline() == ticks_to_ns(11)


def test_modes_6_and_7_are_2_and_3() -> None:
    board = Board()
    board.program(0, 6, 10)
    assert board.status() & 0x0E == 4
    board.program(0, 7, 10)
    assert board.status() & 0x0E == 6


def test_mode_1_one_shot_on_channel_2() -> None:
    board = Board()
    board.program(2, 1, 10)
    assert board.out(2)
    board.pit.set_timer2_gate(True)
    assert not board.out(2)
    board.at(5)
    board.pit.set_timer2_gate(False)
    board.pit.set_timer2_gate(True)  # retriggers
    assert not board.at(14).out(2)
    assert board.at(15).pit.timer2_output()


def test_mode_1_new_count_waits_for_the_next_trigger() -> None:
    board = Board()
    board.program(2, 1, 10)
    board.pit.set_timer2_gate(True)
    board.pit.write(2, 1, 100)
    board.pit.write(2, 1, 0)
    assert board.at(10).out(2)
    board.pit.set_timer2_gate(False)
    board.pit.set_timer2_gate(True)
    assert not board.at(109).out(2)
    assert board.at(110).out(2)


def test_mode_5_hardware_strobe() -> None:
    board = Board()
    board.program(2, 5, 10)
    assert board.at(50).out(2)
    board.pit.set_timer2_gate(True)
    assert not board.at(60).out(2)
    assert board.at(62).out(2)


def test_gate_pauses_mode_0() -> None:
    board = Board()
    board.pit.set_timer2_gate(True)
    board.program(2, 0, 100)
    board.at(40)
    board.pit.set_timer2_gate(False)
    board.at(500)
    assert board.count(2) == 60
    board.pit.set_timer2_gate(True)
    assert not board.at(559).out(2)
    assert board.at(561).out(2)


def test_gate_low_forces_mode_3_high_and_rise_restarts() -> None:
    board = Board()
    board.pit.set_timer2_gate(True)
    board.program(2, 3, 100)
    board.at(60)
    assert not board.out(2)
    board.pit.set_timer2_gate(False)
    assert board.out(2)
    board.pit.set_timer2_gate(True)
    assert board.at(105).out(2)
    assert not board.at(111).out(2)


def test_a_closed_gate_keeps_channel_2_from_starting() -> None:
    board = Board()
    board.program(2, 0, 10)
    assert not board.at(1000).out(2)
    assert board.count(2) == 10


def test_new_count_in_mode_2_is_taken_at_the_end_of_the_cycle() -> None:
    board = Board()
    board.program(0, 2, 1000)
    board.at(300)
    board.pit.write(0, 1, 0x64)
    board.pit.write(0, 1, 0)
    assert board.status() & 0x40  # null count: written, not yet loaded
    assert board.at(400).count() == 600
    assert board.at(1010).count() == 90
    assert not board.status() & 0x40


def test_count_of_zero_is_65536() -> None:
    board = Board()
    board.program(0, 2, 0)
    assert board.count() == 0
    assert board.at(1).count() == 0xFFFF
    assert board.pit.next_deadline() == ticks_to_ns(65536)


def test_bcd_counting() -> None:
    board = Board()
    board.program(0, 2, 0x0100, bcd=1)
    assert board.at(1).count() == 0x0099
    board.program(0, 2, 0, bcd=1)
    assert board.pit.next_deadline() == board.now + ticks_to_ns(10000)


def test_byte_orders() -> None:
    board = Board()
    board.program(0, 2, 0x12, rw=1)
    assert board.pit.read(0, 1) == 0x12
    assert board.pit.read(0, 1) == 0x12
    board.program(0, 2, 0x3400, rw=2)
    assert board.pit.read(0, 1) == 0x34
    board.program(0, 2, 0x5678)
    assert (board.pit.read(0, 1), board.pit.read(0, 1)) == (0x78, 0x56)


def test_latch_holds_until_read_and_is_not_overwritten() -> None:
    board = Board()
    board.program(0, 2, 1000)
    board.at(100)
    board.pit.write(3, 1, 0x00)
    board.at(200)
    board.pit.write(3, 1, 0x00)
    assert board.pit.read(0, 1) | board.pit.read(0, 1) << 8 == 900
    assert board.count() == 800


def test_read_back_gives_status_before_count_on_several_channels() -> None:
    board = Board()
    board.program(0, 2, 1000)
    board.program(2, 3, 500)
    board.pit.write(3, 1, 0xC0 | 2 | 8)
    assert board.pit.read(0, 1) == 0x80 | 0x30 | 4
    assert board.pit.read(0, 1) | board.pit.read(0, 1) << 8 == 1000
    assert board.pit.read(2, 1) == 0x80 | 0x30 | 6
    assert board.pit.read(2, 1) | board.pit.read(2, 1) << 8 == 500


def test_null_count_until_a_count_is_written() -> None:
    board = Board()
    board.pit.write(3, 1, 0x34)
    assert board.status() & 0x40


@pytest.mark.parametrize("mode", [2, 3])
def test_periodic_interrupts(mode: int) -> None:
    board = Board()
    board.program(0, mode, 1193)
    start = board.rises()
    for number in range(1, 6):
        due = board.pit.next_deadline()
        assert due == ticks_to_ns(1193 * number)
        board.now = due
        board.pit.tick(board.now)
        assert board.rises() - start == number


def test_periods_slept_through_come_as_one() -> None:
    board = Board()
    board.program(0, 2, 1193)
    start = board.rises()
    board.at(1193 * 10 + 5).pit.tick(board.now)
    assert board.rises() - start == 1
    assert board.pit.next_deadline() == ticks_to_ns(1193 * 11)


def test_a_hostile_rate_is_limited() -> None:
    board = Board()
    board.program(0, 2, 2)
    board.at(2).pit.tick(board.now)
    due = board.pit.next_deadline()
    assert due is not None
    assert due - board.now == MIN_INTERRUPT_NS


def test_control_port_reads_as_a_floating_bus_and_names() -> None:
    board = Board()
    assert board.pit.read(3, 1) == 0xFF
    assert [board.pit.register(n, True) for n in range(4)] == ["COUNTER0", "COUNTER1", "COUNTER2", "CONTROL"]


def test_reset_lowers_the_line() -> None:
    board = Board()
    board.program(0, 2, 100)
    board.pit.reset()
    assert board.levels[-1] is False
    assert board.pit.next_deadline() is None


def test_kvm_layout_round_trip() -> None:
    board = Board()
    board.program(0, 2, 1193)
    board.program(2, 3, 500)
    board.at(100)
    board.pit.set_timer2_gate(True)
    board.pit.write(3, 1, 0x00)
    board.pit.flags = 2
    data = board.pit.to_kvm()
    assert len(data) == 112
    assert int.from_bytes(data[:4], "little") == 1193
    assert (data[6], data[13], data[15]) == (3, 2, 1)  # count_latched, mode, gate
    assert int.from_bytes(data[16:24], "little") == 0
    assert data[72] == 2
    other = Board()
    other.now = board.now
    other.pit.from_kvm(data, same_clock=True)
    assert other.pit.to_kvm() == data
    assert other.pit.next_deadline() == board.pit.next_deadline()
    assert other.pit.read(0, 1) | other.pit.read(0, 1) << 8 == 1093


def test_kvm_layout_from_another_clock_counts_anew() -> None:
    board = Board()
    board.program(0, 2, 1193)
    data = board.pit.to_kvm()
    other = Board()
    other.now = 10**12
    other.pit.from_kvm(data)
    assert other.pit.next_deadline() == 10**12 + ticks_to_ns(1193)


def test_kvm_layout_of_a_reset_pit() -> None:
    board = Board()
    data = board.pit.to_kvm()
    assert data[13] == 0xFF
    board.pit.from_kvm(data)
    assert board.pit.next_deadline() is None
    assert board.levels == []


def test_a_gate_does_not_start_a_counter_without_control_word() -> None:
    board = Board()
    board.pit.write(2, 1, 0)
    board.pit.write(2, 1, 0)
    board.pit.set_timer2_gate(True)
    assert board.pit.channels[2].start is None
