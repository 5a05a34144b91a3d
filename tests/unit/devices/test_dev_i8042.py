"""Keyboard controller: status, commands, keyboard, interrupt, reset."""

import pytest

from minihv.bus import Bus
from minihv.devices.i8042 import DATA, I8042, KEYBOARD_QUEUE, STATUS_COMMAND
from minihv.devices.shifted import Shifted


class Pc:
    """The controller on a port bus, as a PC has it."""

    def __init__(self) -> None:
        self.levels: list[bool] = []
        self.resets = 0
        self.kbd = I8042(self.levels.append, self.on_reset)
        self.bus = Bus("port", 0x10000)
        self.bus.attach(0x60, 1, "i8042", self.kbd)
        self.bus.attach(0x64, 1, "i8042", Shifted(self.kbd, STATUS_COMMAND))

    def on_reset(self) -> None:
        self.resets += 1

    def command(self, *values: int) -> None:
        self.bus.write(0x64, 1, values[0])
        for value in values[1:]:
            self.bus.write(0x60, 1, value)

    def to_keyboard(self, *values: int) -> list[int]:
        for value in values:
            self.bus.write(0x60, 1, value)
        return self.drain()

    def drain(self) -> list[int]:
        got = []
        while self.status() & 1:
            got.append(self.bus.read(0x60, 1))
        return got

    def status(self) -> int:
        return self.bus.read(0x64, 1)


@pytest.fixture
def pc() -> Pc:
    return Pc()


def test_idle_status(pc: Pc) -> None:
    assert pc.status() == 0x14
    pc.command(0xAE)
    assert pc.status() == 0x1C
    pc.to_keyboard(0xEE)
    assert pc.status() == 0x14


def test_register_names_in_both_windows(pc: Pc) -> None:
    assert pc.bus.owner(0x60, True) == "i8042.DATA"
    assert pc.bus.owner(0x64, False) == "i8042.STATUS"
    assert pc.bus.owner(0x64, True) == "i8042.COMMAND"


@pytest.mark.parametrize(
    ("command", "reply"), [(0xAA, 0x55), (0xAB, 0x00), (0xA9, 0x01), (0xC0, 0x80), (0x20, 0x65), (0xD0, 0xC3)]
)
def test_commands_with_a_fixed_reply(pc: Pc, command: int, reply: int) -> None:
    pc.command(command)
    assert pc.drain() == [reply]


def test_mode_byte_and_ram(pc: Pc) -> None:
    pc.command(0x60, 0x47)
    pc.command(0x20)
    assert pc.drain() == [0x47]
    pc.command(0x65, 0x99)
    pc.command(0x25)
    assert pc.drain() == [0x99]
    pc.command(0xAD)
    pc.command(0xA7)
    pc.command(0x20)
    assert pc.drain() == [0x77]
    pc.command(0xAE)
    pc.command(0xA8)
    pc.command(0x20)
    assert pc.drain() == [0x47]


@pytest.mark.parametrize("command", [0xFE, 0xF0, 0xFC])
def test_pulse_resets(pc: Pc, command: int) -> None:
    pc.command(command)
    assert pc.resets == 1


def test_other_pulses_do_not_reset(pc: Pc) -> None:
    pc.command(0xFF)
    pc.command(0xFD)
    assert pc.resets == 0


def test_output_port_reset_and_a20(pc: Pc) -> None:
    pc.command(0xD1, 0xDD)
    pc.command(0xD0)
    assert pc.drain() == [0xCD]
    pc.command(0xDF)
    pc.command(0xD0)
    assert pc.drain() == [0xCF]
    assert pc.resets == 0
    pc.command(0xD1, 0xFE)
    assert pc.resets == 1


def test_the_reset_callback_may_reset_the_device() -> None:
    kbd = I8042(lambda level: None, lambda: kbd.reset())
    kbd.write(STATUS_COMMAND, 1, 0x60)
    kbd.write(DATA, 1, 0)
    kbd.write(STATUS_COMMAND, 1, 0xFE)
    assert kbd.mode == 0x65


def test_keys_raise_irq1_one_by_one(pc: Pc) -> None:
    assert pc.kbd.press(b"\x1e\x9e") == 2
    assert pc.levels == [True]
    assert pc.bus.read(0x60, 1) == 0x1E
    assert pc.levels == [True, False, True]
    assert pc.bus.read(0x60, 1) == 0x9E
    assert pc.levels == [True, False, True, False]
    assert pc.bus.read(0x60, 1) == 0x9E  # empty: the last byte again


def test_no_interrupt_when_the_mode_forbids_it(pc: Pc) -> None:
    pc.command(0x60, 0x44)
    pc.kbd.press(b"\x1e")
    assert pc.levels == []
    assert pc.drain() == [0x1E]


def test_keys_wait_while_the_keyboard_is_disabled(pc: Pc) -> None:
    pc.command(0xAD)
    pc.kbd.press(b"\x1e")
    assert not pc.status() & 1
    pc.command(0xAE)
    assert pc.drain() == [0x1E]


def test_key_queue_is_bounded(pc: Pc) -> None:
    assert pc.kbd.press(bytes(KEYBOARD_QUEUE + 10)) == KEYBOARD_QUEUE
    assert pc.kbd.press(b"ab") == 1  # the first byte moved into the output buffer


def test_replies_to_a_guest_that_never_reads_are_bounded(pc: Pc) -> None:
    for _ in range(1000):
        pc.command(0xAA)
    assert len(pc.drain()) <= 17


@pytest.mark.parametrize(
    ("sent", "replies"),
    [
        ((0xFF,), [0xFA, 0xAA]),
        ((0xF2,), [0xFA, 0xAB, 0x41]),
        ((0xED, 0x02), [0xFA, 0xFA]),
        ((0xF3, 0x20), [0xFA, 0xFA]),
        ((0xF0, 0x00), [0xFA, 0xFA, 0x02]),
        ((0xF4,), [0xFA]),
        ((0xF5,), [0xFA]),
        ((0xEE,), [0xEE]),
        ((0x42,), [0xFE]),
        ((0xED, 0xF4), [0xFA, 0xFA]),  # a command where a parameter was due is a command
    ],
)
def test_keyboard_commands(pc: Pc, sent: tuple[int, ...], replies: list[int]) -> None:
    assert pc.to_keyboard(*sent) == replies


def test_keyboard_id_without_translation(pc: Pc) -> None:
    pc.command(0x60, 0x05)
    assert pc.to_keyboard(0xF2) == [0xFA, 0xAB, 0x83]


def test_resend_and_scan_code_set(pc: Pc) -> None:
    assert pc.to_keyboard(0xF0, 1) == [0xFA, 0xFA]
    assert pc.to_keyboard(0xF0, 0) == [0xFA, 0xFA, 1]
    assert pc.to_keyboard(0xFE) == [1]


def test_there_is_no_mouse(pc: Pc) -> None:
    pc.command(0xD4, 0xFF)
    assert pc.status() & 0x40
    assert pc.drain() == [0xFE]
    assert not pc.status() & 0x40
    pc.command(0xD3, 0x5A)
    assert pc.status() & 0x21 == 0x01  # back, but not from an auxiliary device
    assert pc.drain() == [0x5A]


def test_reset_drops_what_waits_and_lowers_the_line(pc: Pc) -> None:
    pc.kbd.press(b"\x1e\x1f")
    pc.kbd.reset()
    assert pc.levels == [True, False]
    assert pc.drain() == []
