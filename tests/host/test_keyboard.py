"""Keys from the host reach a guest that polls the keyboard, and one that waits for its interrupt."""

import pytest
from support import CLI, HLT, STI, inb, leave, machine, outb, outb_al

pytestmark = pytest.mark.kvm

KEY_A = b"\x1e\x9e"
"""Scan code set 1: make and break of A."""
POLL = inb(0x64) + b"\xa8\x01" + b"\x74\xf8"
"""Until the output buffer is full: in al, 0x64; test al, 1; jz"""
TAKE = inb(0x60) + outb_al(0xE9)


@pytest.mark.parametrize("engine", ["kvm", "interpret"])
def test_a_guest_that_polls_gets_the_keys_in_order(engine: str) -> None:
    with machine(CLI + (POLL + TAKE) * 2 + leave(0), engine=engine) as m:
        assert m.press(KEY_A) == 2
        assert m.run().outcome.reason == "exit"
        assert m.console == KEY_A


@pytest.mark.parametrize(("engine", "irqchip"), [("kvm", "kernel"), ("kvm", "none"), ("interpret", "kernel")])
def test_a_key_that_is_pressed_while_the_guest_sleeps_wakes_it(engine: str, irqchip: str) -> None:
    """IRQ 1 is vector 9: its entry in the interrupt table, at 0x24, is set to the code behind HLT."""
    set_vector = b"\x31\xc0\x8e\xd8" + b"\xc7\x06\x24\x00\x00\x7d" + b"\xc7\x06\x26\x00\x00\x00"
    wait = CLI + set_vector + outb(0x21, 0xFD) + outb(0xE9, ord("?")) + STI + HLT + b"\xeb\xfd"
    code = wait.ljust(0x100, HLT) + TAKE + leave(0)
    with machine(code, engine=engine, irqchip=irqchip) as m:
        pressed: list[int] = []

        def press_once() -> None:
            if not pressed and m.console:
                pressed.append(m.press(KEY_A))

        m.on_tick(press_once, 1_000_000)
        assert m.run().outcome.reason == "exit"
        assert m.console == b"?\x1e"
        assert pressed == [2]


def test_the_keyboard_takes_no_more_than_its_queue_has_room_for() -> None:
    with machine(CLI + POLL + TAKE + leave(0)) as m:
        taken = [m.press(KEY_A) for _ in range(100)]
        assert 0 < sum(taken) < 200
        assert taken[-1] == 0
        assert m.run().outcome.reason == "exit"
        assert m.console == KEY_A[:1]
