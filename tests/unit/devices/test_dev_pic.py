"""The 8259A pair by the data sheet."""

import pytest

from minihv.devices.pic import PicInterruptSource, PicPair


class Board:
    """A pair programmed as PC firmware does it: vectors 0x08 and 0x70, nothing masked."""

    def __init__(self, icw4: int = 1, slave_icw4: int = 1) -> None:
        self.levels: list[bool] = []
        self.pair = PicPair(self.levels.append)
        self.init(0, 0x08, 4, icw4)
        self.init(1, 0x70, 2, slave_icw4)

    def init(self, chip: int, base: int, icw3: int, icw4: int) -> None:
        self.out(chip, 0, 0x11)
        for value in (base, icw3, icw4):
            self.out(chip, 1, value)

    def out(self, chip: int, a0: int, value: int) -> None:
        (self.pair.slave if chip else self.pair.master).write(a0, 1, value)

    def read(self, chip: int, a0: int) -> int:
        return (self.pair.slave if chip else self.pair.master).read(a0, 1)

    def pulse(self, irq: int) -> None:
        self.pair.set_line(irq, True)
        self.pair.set_line(irq, False)

    def asks(self) -> bool:
        """Level of INT."""
        return self.pair.requested

    def isr(self, chip: int) -> int:
        self.out(chip, 0, 0x0B)
        return self.read(chip, 0)

    def irr(self, chip: int) -> int:
        self.out(chip, 0, 0x0A)
        return self.read(chip, 0)

    def eoi(self, chip: int = 0) -> None:
        self.out(chip, 0, 0x20)


def test_edge_request_acknowledge_eoi() -> None:
    board = Board()
    board.pulse(4)
    assert board.levels == [True]
    assert board.irr(0) == 0x10
    assert board.pair.peek() == 0x0C
    assert board.pair.acknowledge() == 0x0C
    assert (board.irr(0), board.isr(0)) == (0, 0x10)
    assert not board.asks()
    board.eoi()
    assert board.isr(0) == 0


def test_a_held_edge_line_interrupts_once() -> None:
    board = Board()
    board.pair.set_line(4, True)
    board.pair.acknowledge()
    board.eoi()
    board.pair.set_line(4, True)
    assert not board.asks()


def test_fixed_priority_and_nesting() -> None:
    board = Board()
    board.pulse(4)
    board.pair.acknowledge()
    board.pulse(5)
    assert not board.asks()  # less urgent than what is served
    board.pulse(1)
    assert board.asks()
    assert board.pair.acknowledge() == 0x09
    board.eoi()
    assert board.isr(0) == 0x10
    board.eoi()
    assert board.pair.acknowledge() == 0x0D


def test_mask_holds_the_request_back() -> None:
    board = Board()
    board.out(0, 1, 0x10)
    assert board.read(0, 1) == 0x10
    board.pulse(4)
    assert not board.asks()
    board.out(0, 1, 0)
    assert board.pair.acknowledge() == 0x0C


def test_cascade() -> None:
    board = Board()
    board.pulse(12)
    assert board.pair.acknowledge() == 0x74
    assert (board.isr(0), board.isr(1)) == (0x04, 0x10)
    # IRQ 3 is less urgent than the slave on IR2; IRQ 1 is more.
    board.pulse(3)
    assert not board.asks()
    board.pulse(1)
    assert board.pair.acknowledge() == 0x09
    for chip in (0, 1, 0):
        board.eoi(chip)
    assert board.pair.acknowledge() == 0x0B


def test_a_second_slave_request_follows_the_first() -> None:
    board = Board()
    board.pulse(12)
    board.pulse(14)
    assert board.pair.acknowledge() == 0x74
    board.eoi(1)
    assert not board.asks()  # the master still serves IR2
    board.eoi(0)
    assert board.pair.acknowledge() == 0x76


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself() -> None:
    board = Board(icw4=0x11)
    board.pulse(12)
    board.pair.acknowledge()
    board.pulse(8)
    assert board.pair.acknowledge() == 0x70


def test_spurious_irq7_sets_no_isr_bit() -> None:
    board = Board()
    board.pulse(4)
    board.out(0, 1, 0x10)  # masked between INT and INTA
    assert board.pair.acknowledge() == 0x0F
    assert board.isr(0) == 0


def test_spurious_irq15_is_served_by_the_master_only() -> None:
    board = Board()
    board.pulse(12)
    board.out(1, 1, 0xFF)
    assert board.pair.acknowledge() == 0x77
    assert (board.isr(0), board.isr(1)) == (0x04, 0)


def test_level_trigger_asks_again_while_the_line_is_held() -> None:
    board = Board()
    board.pair.elcr.write(1, 1, 0xFF)
    assert board.pair.elcr.read(1, 1) == 0xDE
    board.pair.set_line(11, True)
    assert board.pair.acknowledge() == 0x73
    board.eoi(1)
    board.eoi(0)
    assert board.asks()
    board.pair.set_line(11, False)
    assert board.pair.acknowledge() == 0x77  # gone: spurious


def test_elcr_of_the_master() -> None:
    board = Board()
    board.pair.elcr.write(0, 1, 0xFF)
    assert board.pair.elcr.read(0, 1) == 0xF8
    assert board.pair.elcr.register(0, False) == "ELCR1"


def test_rotation_on_eoi() -> None:
    board = Board()
    board.pulse(3)
    board.pair.acknowledge()
    board.out(0, 0, 0xA0)  # rotate on non-specific EOI: IR3 is lowest, IR4 highest now
    board.pulse(0)
    board.pulse(4)
    assert board.pair.acknowledge() == 0x0C


def test_specific_eoi_set_priority_and_rotate_on_specific_eoi() -> None:
    board = Board()
    for irq in (4, 1):
        board.pulse(irq)
        board.pair.acknowledge()
    board.out(0, 0, 0x64)  # specific EOI of IR4
    assert board.isr(0) == 0x02
    board.out(0, 0, 0xE1)  # rotate on specific EOI of IR1
    board.pulse(1)
    board.pulse(2 + 5)
    assert board.pair.acknowledge() == 0x0F
    board.eoi()
    board.out(0, 0, 0xC7)  # set priority: IR7 lowest again
    assert board.pair.acknowledge() == 0x09


def test_auto_eoi_with_rotation() -> None:
    board = Board(icw4=3)
    board.out(0, 0, 0x80)
    board.pulse(3)
    assert board.pair.acknowledge() == 0x0B
    assert board.isr(0) == 0
    board.pulse(3)
    board.pulse(5)
    assert board.pair.acknowledge() == 0x0D


def test_special_mask_mode() -> None:
    board = Board()
    board.pulse(3)
    board.pair.acknowledge()
    board.out(0, 1, 0x08)
    board.pulse(5)
    assert not board.asks()
    board.out(0, 0, 0x68)  # special mask on: masked IR3 no longer blocks
    assert board.pair.acknowledge() == 0x0D
    board.out(0, 0, 0x48)
    board.pulse(6)
    assert not board.asks()


def test_poll() -> None:
    board = Board()
    board.out(0, 0, 0x0C)
    assert board.read(0, 0) == 0
    board.pulse(4)
    board.out(0, 0, 0x0C)
    assert board.read(0, 0) == 0x84
    assert board.isr(0) == 0x10
    assert board.levels == [True, False]


def test_icw1_starts_over() -> None:
    board = Board()
    board.out(0, 1, 0x55)
    board.pulse(4)
    board.out(0, 0, 0x11)
    board.out(0, 1, 0x20)
    board.out(0, 1, 0x04)
    board.out(0, 1, 0x01)
    assert board.read(0, 1) == 0
    assert not board.asks()
    board.pulse(0)
    assert board.pair.acknowledge() == 0x20


def test_without_icw4_the_next_data_byte_is_a_mask() -> None:
    board = Board()
    board.out(0, 0, 0x10)
    board.out(0, 1, 0x20)
    board.out(0, 1, 0x04)
    board.out(0, 1, 0xAA)
    assert board.read(0, 1) == 0xAA


def test_kvm_layout_round_trip() -> None:
    board = Board(icw4=0x13)
    board.out(0, 1, 0x41)
    board.out(0, 0, 0x80)
    board.pair.elcr.write(1, 1, 0x0E)
    board.pair.set_line(12, True)
    board.pulse(4)
    board.pair.acknowledge()
    data = board.pair.to_kvm()
    assert len(data) == 32
    assert (data[1], data[2], data[5], data[14], data[15]) == (0x10, 0x41, 0x08, 0, 0xF8)
    assert (data[16], data[19], data[16 + 5], data[16 + 14], data[16 + 15]) == (0x10, 0x10, 0x70, 0x0E, 0xDE)
    other = PicPair(lambda level: None)
    other.from_kvm(data)
    assert other.to_kvm() == data
    assert other.requested
    assert other.acknowledge() == 0x0C


@pytest.mark.parametrize(("words", "state"), [(1, 1), (2, 2), (3, 3), (4, 0)])
def test_kvm_layout_in_the_middle_of_initialization(words: int, state: int) -> None:
    pair = PicPair(lambda level: None)
    for a0, value in ((0, 0x11), (1, 0x08), (1, 0x04), (1, 0x01))[:words]:
        pair.master.write(a0, 1, value)
    data = pair.to_kvm()
    assert data[9] == state
    pair.from_kvm(data)
    assert pair.to_kvm() == data


def test_as_the_only_source_of_a_processor() -> None:
    board = Board()
    source = PicInterruptSource(board.pair)
    assert source.pending() is None
    board.pulse(1)
    assert source.pending() == 0x09
    assert source.pending() == 0x09
    assert source.acknowledge() == 0x09
    assert source.read_msr(0x1B) is None
    assert not source.write_msr(0x1B, 0)
    assert source.mmio_base() is None


def test_names_and_reset() -> None:
    board = Board()
    assert board.pair.master.register(1, True) == "OCW1"
    board.pulse(1)
    board.pair.master.reset()
    assert not board.asks()
    assert board.pair.to_kvm()[:15] == bytes(15)
