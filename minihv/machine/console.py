"""The machine's console: where COM1's bytes go, and what a person types."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from minihv.errors import HostError
from minihv.host.console import BufferSink, FileSink, NullSink, StreamSink
from minihv.host.sources import BufferSource, FdSource, FileSource
from minihv.interfaces import ByteSink, ByteSource
from minihv.machine.config import MachineConfig

if TYPE_CHECKING:
    from minihv.host.terminal import EscapeFilter, RawTerminal

CHUNK = 1024
PENDING_LIMIT = 4096

HostSink = NullSink | BufferSink | StreamSink | FileSink


class Console:
    """Output sink and input of one run: `close` it. As a context manager it holds the terminal raw."""

    def __init__(
        self,
        config: MachineConfig,
        sink: ByteSink | None,
        source: ByteSource | None,
        broken: Callable[[OSError], None],
        user_stop: Callable[[], None],
    ) -> None:
        """`sink` and `source` are the caller's own and win over the config. `broken` is called when nobody
        takes the output any more, `user_stop` on Ctrl-A x."""
        self._own: HostSink | None = None
        if sink is None:
            sink = self._own = _make_sink(config, broken)
        self.sink = sink
        if source is None and config.serial_input is not None:
            source = BufferSource(config.serial_input)
        self._file: FileSource | None = None
        if source is None and config.serial_input_file is not None:
            source = self._file = FileSource(config.serial_input_file)
        self.source = source
        self.input: Keyboard | None = None
        if config.serial == "stdio" and source is None and self._own is not None:
            self.input = Keyboard(0, user_stop)

    def flush(self) -> None:
        """Send what waits, so that a prompt without a newline shows up; but do not wait for who reads it."""
        if isinstance(self._own, StreamSink):
            self._own.flush_some()

    def hurry(self) -> None:
        """The end was not the guest's choice: from now on who reads the output is not waited for for long."""
        if isinstance(self._own, StreamSink):
            self._own.hurry()

    def __enter__(self) -> "Console":
        if self.input is not None:
            self.input.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._own is not None:
                self._own.flush()  # while newlines still mean what the guest meant
        finally:
            if self.input is not None:
                self.input.__exit__()

    def close(self) -> None:
        """Send the rest and close what is the console's own; harmless when done twice."""
        if self._own is not None:
            self._own.close()
        if self._file is not None:
            self._file.close()


def _make_sink(config: MachineConfig, broken: Callable[[OSError], None]) -> HostSink:
    if config.serial == "stdio":
        return StreamSink(1, broken)
    if config.serial == "null":
        return NullSink()
    if config.serial == "buffer":
        return BufferSink()
    return FileSink(config.serial.removeprefix("file:"), broken)


class Keyboard:
    """Standard input: raw and with the Ctrl-A commands where it is a terminal, as it is where it is not."""

    def __init__(self, fd: int, stop: Callable[[], None]) -> None:
        self.fd = fd
        self._pending = b""
        self._source: FdSource | None = None
        self._filter: EscapeFilter | None = None
        self._terminal: RawTerminal | None = None
        try:
            is_terminal = os.isatty(fd)
            os.fstat(fd)
        except OSError:
            return  # standard input is closed: a machine without a keyboard
        self._source = FdSource(fd)
        if is_terminal:
            from minihv.host import terminal

            self._terminal = terminal.RawTerminal(fd)
            self._filter = terminal.EscapeFilter(stop, _show)

    def __enter__(self) -> "Keyboard":
        if self._terminal is not None:
            self._terminal.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal is not None:
            self._terminal.__exit__()

    @property
    def wanted(self) -> bool:
        """Somebody should look at the descriptor. A terminal is always read, for the sake of Ctrl-A x;
        what comes faster than the guest takes it is dropped. A pipe or file waits instead."""
        if self._source is None or self._source.eof:
            return False
        return self._terminal is not None or not self._pending

    @property
    def waiting(self) -> bool:
        """Bytes wait for the guest to make room."""
        return bool(self._pending)

    def pump(self, readable: bool, deliver: Callable[[bytes], int]) -> None:
        """Move what arrived to the guest; `deliver` says how many bytes it took."""
        data = self._pending
        if readable and self._source is not None:
            fresh = self._source.take(CHUNK)
            data += self._filter.feed(fresh) if self._filter is not None else fresh
        if data:
            self._pending = data[deliver(data) :][:PENDING_LIMIT]


def _show(text: bytes) -> None:
    try:
        os.write(2, text)
    except OSError as error:
        raise HostError(f"cannot write to standard error: {error.strerror}; keep it open") from error
