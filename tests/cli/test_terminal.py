"""At a real terminal (a pty): keys reach the guest, Ctrl-A x ends, and the terminal is always given back."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cli_support import CRASHED, SCRIPT, TIMED_OUT

PATIENCE = 30.0
"""Seconds until a test gives up waiting for something that takes milliseconds."""


class Session:
    """A terminal, and a command that controls it as a shell's foreground job does."""

    def __init__(self, *arguments: str) -> None:
        self.screen, self.keyboard = pty.openpty()  # the screen's end is ours, the other the command's
        self.before = self.attributes()
        self.seen = b""
        self.process = subprocess.Popen(
            [str(SCRIPT), *arguments],
            stdin=self.keyboard,
            stdout=self.keyboard,
            stderr=self.keyboard,
            start_new_session=True,
            preexec_fn=self._take_terminal,
        )

    @staticmethod
    def _take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def attributes(self) -> list[Any]:
        """The terminal's mode, everything that stty shows."""
        return termios.tcgetattr(self.keyboard)

    @property
    def echoes(self) -> bool:
        """The line discipline shows what is typed: not in raw mode."""
        return bool(self.attributes()[3] & termios.ECHO)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.screen, keys)

    def read_until(self, text: bytes) -> None:
        """Wait for `text` on the screen."""
        self._wait(lambda: text in self.seen, f"for {text!r}")

    def wait_until_raw(self) -> None:
        """Wait until the machine runs."""
        self._wait(lambda: not self.echoes, "for raw mode")

    def end(self) -> int:
        """Wait for the end of the command; its status."""
        self._wait(lambda: self.process.poll() is not None, "for the end")
        self._read(0)
        status = self.process.returncode
        assert isinstance(status, int)
        return status

    def _wait(self, happened: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, f"waited {what}, saw {self.seen!r}"
            self._read(0.01)

    def _read(self, patience: float) -> None:
        while select.select([self.screen], [], [], patience)[0]:
            self.seen += os.read(self.screen, 4096)
            patience = 0

    def close(self) -> None:
        """Nothing stays."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in (self.screen, self.keyboard):
            os.close(fd)


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    """Sessions put in here are closed, however the test ends."""
    opened: list[Session] = []
    yield opened
    for session in opened:
        session.close()


def start(sessions: list[Session], *arguments: str) -> Session:
    session = Session(*arguments)
    sessions.append(session)
    return session


def test_what_is_typed_reaches_the_guest_and_ctrl_a_x_ends(sessions: list[Session], engine: str) -> None:
    session = start(sessions, "run", "echo", "--engine", engine)
    session.wait_until_raw()
    session.type(b"hello\r")
    session.read_until(b"hello\r")
    session.type(b"\x01x")
    assert session.end() == 0
    assert session.attributes() == session.before
    assert b"Traceback" not in session.seen


def test_ctrl_a_x_ends_a_guest_that_never_reads(sessions: list[Session], engine: str) -> None:
    session = start(sessions, "run", "spin", "--engine", engine)
    session.wait_until_raw()
    session.type(b"\x01x")
    assert session.end() == 0
    assert session.attributes() == session.before
    assert session.seen == b""


def test_keys_that_a_terminal_would_keep_go_to_the_guest(sessions: list[Session], engine: str) -> None:
    """Ctrl-C, Ctrl-Z and Ctrl-\\ are the guest's; Ctrl-A a sends Ctrl-A."""
    session = start(sessions, "run", "echo", "--engine", engine)
    session.wait_until_raw()
    session.type(b"\x03\x1a\x1c\x01a!")
    session.read_until(b"\x03\x1a\x1c\x01!")
    session.type(b"\rq")
    assert session.end() == 0
    assert session.attributes() == session.before


def test_ctrl_a_h_helps(sessions: list[Session], engine: str) -> None:
    session = start(sessions, "run", "echo", "--engine", engine)
    session.wait_until_raw()
    session.type(b"\x01h")
    session.read_until(b"Ctrl-A x")
    session.type(b"\x01x")
    assert session.end() == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)]
)
@pytest.mark.parametrize("guest", ["spin", "echo"])
def test_signals_give_the_terminal_back(
    sessions: list[Session], engine: str, guest: str, number: signal.Signals, status: int
) -> None:
    session = start(sessions, "run", guest, "--engine", engine)
    session.wait_until_raw()
    session.process.send_signal(number)
    assert session.end() == status
    assert session.attributes() == session.before
    assert session.seen.startswith(b"minihv: ")
    assert session.seen.count(b"\n") == 1


def test_a_hang_up_ends_the_command(sessions: list[Session], engine: str) -> None:
    session = start(sessions, "run", "spin", "--engine", engine)
    session.wait_until_raw()
    os.close(session.keyboard)
    os.close(session.screen)
    session.screen, session.keyboard = os.openpty()  # for close()
    assert session.process.wait(PATIENCE) == 143


@pytest.mark.kvm
def test_a_crash_gives_the_terminal_back(sessions: list[Session]) -> None:
    session = start(sessions, "run", "triple", "--engine", "kvm")
    assert session.end() == CRASHED
    assert session.attributes() == session.before
    assert b"triple fault" in session.seen


def test_a_time_out_gives_the_terminal_back(sessions: list[Session], engine: str) -> None:
    session = start(sessions, "run", "spin", "--timeout", "0.2", "--engine", engine)
    assert session.end() == TIMED_OUT
    assert session.attributes() == session.before


def test_a_refused_image_leaves_the_terminal_alone(sessions: list[Session]) -> None:
    session = start(sessions, "run", "/dev/null")
    assert session.end() == 240
    assert session.attributes() == session.before
    assert session.seen.count(b"\n") == 1


def test_no_keyboard_no_raw_mode(sessions: list[Session], engine: str) -> None:
    """With the serial port elsewhere the terminal stays a terminal: Ctrl-C interrupts."""
    session = start(sessions, "run", "spin", "--serial", "null", "--stats", "--engine", engine)
    session._wait(lambda: _handles(session.process.pid, signal.SIGINT), "for the handler")
    assert session.echoes
    session.type(b"\x03")
    assert session.end() == 130
    assert b"interrupted by SIGINT" in session.seen
    assert b"sigint, status 130" in session.seen  # the table of what was counted until then


def _handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal, and runs a vCPU (both come before the run)."""
    with open(f"/proc/{pid}/status") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    caught = int(fields["SigCgt"], 16) >> (signal.SIGHUP - 1) & 1
    return bool(caught and int(fields["SigCgt"], 16) >> (number - 1) & 1)


def test_live_display_draws_the_screen(sessions: list[Session], engine: str) -> None:
    session = start(sessions, "run", "mmio", "--serial", "null", "--display", "live", "--engine", engine)
    assert session.end() == 0
    assert b"minihv" in session.seen
