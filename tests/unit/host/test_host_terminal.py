"""Raw mode on a pty, and the Ctrl-A keys."""

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from minihv.host.terminal import EscapeFilter, RawTerminal, TerminalSource

LFLAG, OFLAG, IFLAG = 3, 1, 0


@pytest.fixture
def pty() -> Iterator[tuple[int, int]]:
    """(master, slave)"""
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def is_raw(fd: int) -> bool:
    mode = termios.tcgetattr(fd)
    raw = not mode[LFLAG] & (termios.ICANON | termios.ECHO | termios.ISIG)
    cooked = mode[LFLAG] & termios.ICANON and mode[LFLAG] & termios.ECHO and mode[LFLAG] & termios.ISIG
    assert raw or cooked  # never half of it
    return raw


def test_raw_inside_and_restored_outside(pty: tuple[int, int]) -> None:
    master, slave = pty
    before = termios.tcgetattr(slave)
    with RawTerminal(slave) as terminal:
        assert terminal.raw
        assert is_raw(slave)
        mode = termios.tcgetattr(slave)
        assert mode[OFLAG] == before[OFLAG]  # "\n" still becomes "\r\n"
        assert not mode[IFLAG] & (termios.ICRNL | termios.IXON)
        os.write(master, b"\x03\r")
        assert os.read(slave, 10) == b"\x03\r"  # Ctrl-C and Enter reach the guest as they are
    assert termios.tcgetattr(slave) == before
    assert not terminal.raw


def test_restored_after_an_exception(pty: tuple[int, int]) -> None:
    before = termios.tcgetattr(pty[1])
    with pytest.raises(KeyboardInterrupt), RawTerminal(pty[1]):
        raise KeyboardInterrupt
    assert termios.tcgetattr(pty[1]) == before


def test_suspend_and_resume_are_idempotent(pty: tuple[int, int]) -> None:
    before = termios.tcgetattr(pty[1])
    with RawTerminal(pty[1]) as terminal:
        terminal.suspend()
        terminal.suspend()
        assert termios.tcgetattr(pty[1]) == before
        terminal.resume()
        terminal.resume()
        assert is_raw(pty[1])
    terminal.suspend()
    assert termios.tcgetattr(pty[1]) == before


def test_signal_handlers_are_put_back(pty: tuple[int, int]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)]
    with RawTerminal(pty[1]):
        assert signal.getsignal(signal.SIGTSTP) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)] == before
    with RawTerminal(pty[1], job_control=False):
        assert [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)] == before


def test_nothing_happens_without_a_terminal() -> None:
    before = signal.getsignal(signal.SIGTSTP)
    read, write = os.pipe()
    with RawTerminal(read) as terminal:
        assert not terminal.raw
        assert signal.getsignal(signal.SIGTSTP) == before
    os.close(read)
    os.close(write)


def test_a_terminal_that_hangs_up_inside() -> None:
    master, slave = os.openpty()
    with RawTerminal(slave) as terminal:
        os.close(master)
    assert not terminal.raw
    os.close(slave)


CHILD = """
import os, sys
from minihv.host.terminal import RawTerminal
with RawTerminal(0) as terminal:
    while True:
        os.write(1, b"R" if terminal.raw else b"C")
        if os.read(3, 1) == b"q":
            break
"""


def test_stopping_gives_the_terminal_back_and_continuing_takes_it(pty: tuple[int, int]) -> None:
    _, slave = pty
    ask_read, ask_write = os.pipe()
    # The child finds its question pipe at descriptor 3, whatever number it has here.
    code = f"import os; os.dup2({ask_read}, 3) if {ask_read} != 3 else None\n{CHILD}"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=slave, stdout=subprocess.PIPE, pass_fds=[ask_read]
    )
    assert child.stdout is not None
    answers = child.stdout.fileno()
    try:
        assert os.read(answers, 1) == b"R"
        assert is_raw(slave)
        for number, raw_when_stopped in ((signal.SIGTSTP, False), (signal.SIGSTOP, True)):
            child.send_signal(number)
            _, status = os.waitpid(child.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            assert is_raw(slave) is raw_when_stopped
            if raw_when_stopped:  # as a shell would do it
                sane = termios.tcgetattr(slave)
                sane[LFLAG] |= termios.ICANON | termios.ECHO | termios.ISIG
                termios.tcsetattr(slave, termios.TCSANOW, sane)
            child.send_signal(signal.SIGCONT)
            os.write(ask_write, b"?")
            assert os.read(answers, 1) == b"R"
            assert is_raw(slave)
        os.write(ask_write, b"q")
        assert child.wait() == 0
        assert not is_raw(slave)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        os.close(ask_read)
        os.close(ask_write)


class Keys:
    def __init__(self, with_monitor: bool = True) -> None:
        self.events: list[str] = []
        self.shown = b""
        self.filter = EscapeFilter(
            stop=lambda: self.events.append("stop"),
            show=self.show,
            monitor=(lambda: self.events.append("monitor")) if with_monitor else None,
        )

    def show(self, text: bytes) -> None:
        self.shown += text


@pytest.mark.parametrize(
    ("typed", "sent", "events"),
    [
        (b"plain text\r", b"plain text\r", []),
        (b"a\x01xb", b"ab", ["stop"]),
        (b"\x01c\x01c", b"", ["monitor", "monitor"]),
        (b"\x01\x01", b"\x01", []),
        (b"\x01a", b"\x01", []),
        (b"\x01\x01x", b"\x01x", []),
        (b"\x01z!", b"!", []),
        (b"\x03\x1a", b"\x03\x1a", []),
    ],
)
def test_escape_keys(typed: bytes, sent: bytes, events: list[str]) -> None:
    keys = Keys()
    assert keys.filter.feed(typed) == sent
    assert keys.events == events
    one_by_one = Keys()
    assert b"".join(one_by_one.filter.feed(bytes((byte,))) for byte in typed) == sent
    assert one_by_one.events == events


def test_help_is_shown_and_not_sent() -> None:
    keys = Keys()
    assert keys.filter.feed(b"\x01h") == b""
    assert b"Ctrl-A x " in keys.shown
    assert b"Ctrl-A c " in keys.shown


def test_without_a_monitor_its_key_does_nothing() -> None:
    keys = Keys(with_monitor=False)
    keys.filter.feed(b"\x01h")
    assert b"Ctrl-A x " in keys.shown
    assert b"Ctrl-A c " not in keys.shown
    assert keys.filter.feed(b"\x01cx") == b"x"
    assert keys.events == []


def test_terminal_source_takes_the_commands_out() -> None:
    keys = Keys()
    read, write = os.pipe()
    source = TerminalSource(read, keys.filter)
    os.write(write, b"ls\x01")
    assert source.take(16) == b"ls"
    os.write(write, b"x\r")
    assert source.take(16) == b"\r"
    assert keys.events == ["stop"]
    os.close(write)
    assert source.take(16) == b""
    assert source.eof
    os.close(read)
