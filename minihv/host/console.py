"""Where a console's bytes go: sinks for a stream, a file, a bounded buffer, nobody, several.

A sink never raises into the device that writes: a consumer that went away is remembered, told to a
callback once, and the rest is dropped. Sinks may be written from several threads.
"""

import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import RLock

from minihv.errors import HostError
from minihv.interfaces import ByteSink

FLUSH_BYTES = 4096
BUFFER_LIMIT = 1 << 20
_LARGE = 64  # a write above this goes out at once, which bounds what can be pending
_TRIM_SLACK = 64 * 1024


class NullSink:
    """Takes everything, keeps nothing."""

    def write(self, data: bytes, /) -> None:
        """Drop `data`."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to give back."""


class BufferSink:
    """Keeps the last `limit` bytes."""

    def __init__(self, limit: int = BUFFER_LIMIT) -> None:
        """Raises ValueError for a limit below one byte."""
        if limit < 1:
            raise ValueError(f"a buffer sink keeps at least 1 byte, not {limit}")
        self.limit = limit
        self._buffer = bytearray()
        self._trim_at = limit + _TRIM_SLACK
        self._trimmed = 0

    def write(self, data: bytes, /) -> None:
        """Append `data`; the oldest bytes above the limit are dropped, a block at a time."""
        self._buffer += data
        if len(self._buffer) > self._trim_at:
            excess = len(self._buffer) - self.limit
            del self._buffer[:excess]
            self._trimmed += excess

    @property
    def data(self) -> bytes:
        """The last bytes written, at most `limit` of them."""
        return bytes(self._buffer[-self.limit :])

    @property
    def dropped(self) -> int:
        """How many bytes came before `data` and are gone."""
        return self._trimmed + max(len(self._buffer) - self.limit, 0)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to give back; `data` stays readable."""


class StreamSink:
    """Buffers bytes for a file descriptor; a newline, FLUSH_BYTES, or `flush` sends them.

    Text without a newline (a prompt) waits until somebody calls `flush`: the machine does when the
    guest idles and a few times a second. The descriptor stays the caller's.
    """

    def __init__(self, fd: int, on_broken: Callable[[OSError], None] | None = None) -> None:
        """`on_broken` is called once, from the writing thread, when the consumer is gone or refuses."""
        self.fd = fd
        self.broken: OSError | None = None
        """What the descriptor failed with; from then on everything is dropped."""
        self._on_broken = on_broken
        self._pending: deque[bytes] = deque()  # append and popleft are atomic
        # Re-entrant, because a signal handler may flush while this very thread is flushing.
        self._lock = RLock()

    def write(self, data: bytes, /) -> None:
        """Take `data`; send what is pending if it is time to."""
        pending = self._pending
        pending.append(data)
        if data == b"\n" or len(pending) >= FLUSH_BYTES or (len(data) > 1 and self._is_urgent(data)):
            self.flush()

    @staticmethod
    def _is_urgent(data: bytes) -> bool:
        return len(data) > _LARGE or b"\n" in data

    def flush(self) -> None:
        """Send what is pending. Blocks as long as the consumer does, like any write to a pipe."""
        if not self._pending:
            return
        with self._lock:
            parts: list[bytes] = []
            with suppress(IndexError):  # not by length: a signal handler may flush in between
                while True:
                    parts.append(self._pending.popleft())
            if parts and self.broken is None:
                try:
                    _write_all(self.fd, b"".join(parts))
                except OSError as error:
                    self.broken = error
                    if self._on_broken is not None:
                        self._on_broken(error)

    def close(self) -> None:
        """Send the rest."""
        self.flush()


def _write_all(fd: int, data: bytes) -> None:
    """Write everything, however little the descriptor takes at a time. Raises OSError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Somebody made the descriptor non-blocking (a shared terminal, for one): wait for room.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


class FileSink(StreamSink):
    """A file of its own: created or emptied on opening, closed by `close`."""

    def __init__(self, path: str, on_broken: Callable[[OSError], None] | None = None) -> None:
        """Raises HostError when `path` cannot be opened for writing."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise HostError(
                f"cannot write console output to {path}: {error.strerror}; give a writable file"
            ) from error
        super().__init__(fd, on_broken)
        self._open = True

    def close(self) -> None:
        """Send the rest and close the file; may be called again."""
        if self._open:
            self._open = False
            self.flush()
            os.close(self.fd)


class TeeSink:
    """Everything to each of several sinks."""

    def __init__(self, *sinks: ByteSink) -> None:
        self.sinks = sinks

    def write(self, data: bytes, /) -> None:
        """Pass `data` on to all of them, in order."""
        for sink in self.sinks:
            sink.write(data)

    def flush(self) -> None:
        """Flush those that buffer."""
        for sink in self.sinks:
            if isinstance(sink, (StreamSink, TeeSink)):
                sink.flush()

    def close(self) -> None:
        """Close those that hold something."""
        for sink in self.sinks:
            if isinstance(sink, (StreamSink, TeeSink)):
                sink.close()
