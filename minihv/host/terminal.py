"""The user's terminal: raw mode that is always given back, and the Ctrl-A keys.

Sources: termios(3); POSIX general terminal interface (job control, SIGTTOU); the key bindings are the
ones QEMU's -nographic made common.
"""

import os
import signal
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from minihv.host.sources import FdSource

ESCAPE = 0x01
"""Ctrl-A"""
HELP = b"""
Ctrl-A x   stop the machine
%sCtrl-A a   send Ctrl-A to the guest (Ctrl-A Ctrl-A as well)
Ctrl-A h   this help
"""
MONITOR_HELP = b"Ctrl-A c   monitor\n"


def _raw_mode(saved: list[Any]) -> list[Any]:
    """`saved` without line editing, echo and signal keys. Output processing stays: "\\n" looks right."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = saved
    iflag &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON | termios.BRKINT)
    lflag &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]


class RawTerminal:
    """Context manager: raw mode while inside, if `fd` is a terminal and we are in the foreground.

    `suspend` and `resume` give the terminal back and take it again; both are idempotent. With
    `job_control`, and only on the main thread, SIGTSTP and SIGCONT do so by themselves while inside:
    Ctrl-Z goes to the guest, but `kill -TSTP` and a shell's `fg` still find a sane terminal.
    """

    def __init__(self, fd: int, job_control: bool = True) -> None:
        self.fd = fd
        self.raw = False
        """The terminal is in raw mode because of us."""
        self._job_control = job_control and threading.current_thread() is threading.main_thread()
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "RawTerminal":
        self.resume()
        if self._job_control and os.isatty(self.fd):
            for number, handler in ((signal.SIGTSTP, self._on_stop), (signal.SIGCONT, self._on_continue)):
                self._handlers[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        self.suspend()
        while self._handlers:
            number, handler = self._handlers.popitem()
            # None: the handler was not installed from Python, and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def resume(self) -> None:
        """Raw mode on; nothing happens in the background or without a terminal."""
        if self.raw or not os.isatty(self.fd) or not self._in_foreground():
            return
        try:
            self._saved = termios.tcgetattr(self.fd)
        except termios.error:
            return  # the terminal hung up
        self.raw = True  # before it is so: an interrupt in between must not leave the terminal raw
        self._set_raw(self._saved)

    def _set_raw(self, saved: list[Any]) -> None:
        with suppress(termios.error):  # it hung up: there is nothing to set, and SIGHUP tells the machine
            termios.tcsetattr(self.fd, termios.TCSADRAIN, _raw_mode(saved))

    def suspend(self) -> None:
        """The terminal as it was found."""
        if not self.raw or self._saved is None:
            return
        # From the background, tcsetattr stops the process with SIGTTOU unless that is blocked.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            termios.tcsetattr(self.fd, termios.TCSANOW, self._saved)
        except termios.error:
            self._saved = None  # the terminal hung up: there is nothing to restore
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self.raw = False  # after the fact: an interrupt in between must not leave the terminal raw

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.fd) == os.getpgrp()
        except OSError:
            return True  # not our controlling terminal: no job control applies to it

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.suspend()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _on_continue(self, number: int, frame: FrameType | None) -> None:
        if not self.raw:
            self.resume()
        elif self._saved is not None and self._in_foreground():
            # Stopped by SIGSTOP, which nobody can catch: the shell may have changed the mode since.
            self._set_raw(self._saved)


class EscapeFilter:
    """Takes the Ctrl-A commands out of what the user types. Pure: bytes in, bytes for the guest out.

    The callbacks run inside `feed`, so they should only note the wish: whoever feeds may hold a lock.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        show: Callable[[bytes], None],
        monitor: Callable[[], None] | None = None,
    ) -> None:
        """`show` prints the help text to the user; `monitor` may be missing."""
        self._stop = stop
        self._show = show
        self._monitor = monitor
        self.escaped = False
        """The last byte was Ctrl-A; the next one is a command."""

    def feed(self, data: bytes) -> bytes:
        """The bytes of `data` that are meant for the guest. An unknown command is dropped."""
        if not self.escaped and ESCAPE not in data:
            return data
        out = bytearray()
        for byte in data:
            if self.escaped:
                self.escaped = False
                self._command(byte, out)
            elif byte == ESCAPE:
                self.escaped = True
            else:
                out.append(byte)
        return bytes(out)

    def _command(self, byte: int, out: bytearray) -> None:
        if byte in b"\x01aA":
            out.append(ESCAPE)
        elif byte in b"xX":
            self._stop()
        elif byte in b"hH?":
            self._show(HELP % (MONITOR_HELP if self._monitor is not None else b""))
        elif byte in b"cC" and self._monitor is not None:
            self._monitor()


class TerminalSource(FdSource):
    """Standard input with the Ctrl-A commands taken out."""

    def __init__(self, fd: int, keys: EscapeFilter) -> None:
        super().__init__(fd)
        self._keys = keys

    def take(self, limit: int, /) -> bytes:
        """At most `limit` bytes meant for the guest. May call the filter's callbacks."""
        return self._keys.feed(super().take(limit))
