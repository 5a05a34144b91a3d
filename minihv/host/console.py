"""Where a console's bytes go: sinks for a stream, a file, a bounded buffer, nobody, several.

A sink never raises into the device that writes: a consumer that went away is remembered, told to a
callback once, and the rest is dropped. Sinks may be written from several threads.
"""

import fcntl
import os
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import RLock

from minihv.errors import HostError
from minihv.interfaces import ByteSink

FLUSH_BYTES = 4096
BUFFER_LIMIT = 1 << 20
GRACE_SECONDS = 1.0
"""How long a consumer that takes nothing is waited for once somebody is in a hurry."""
_ROOM = 4096
"""Bytes that a pipe takes without blocking when poll(2) says POLLOUT: PIPE_BUF (pipe(7))."""
_LOOK_AGAIN_MS = 50
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

    A slow consumer makes whoever writes wait, without bound until `hurry`; nobody else has to wait with it.
    """

    def __init__(self, fd: int, on_broken: Callable[[OSError], None] | None = None) -> None:
        """`on_broken` is called once, from the writing thread, when the consumer is gone or refuses."""
        self.fd = fd
        self.broken: OSError | None = None
        """What the descriptor failed with; from then on everything is dropped."""
        self._on_broken = on_broken
        self._deadline: float | None = None
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
        """Send what is pending. Waits for the consumer, like any write to a pipe, until `hurry`."""
        if self._pending:
            with self._lock:
                self._send()

    def flush_some(self) -> None:
        """Send what the consumer takes just now; never waits for it, nor for another thread that does."""
        if self._pending and self._lock.acquire(blocking=False):
            try:
                rest = self._send(wait=False)
                if rest:
                    self._pending.appendleft(rest)
            finally:
                self._lock.release()

    def hurry(self) -> None:
        """From any thread or signal handler: after GRACE_SECONDS wait no more, drop what is not taken."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE_SECONDS

    def _send(self, wait: bool = True) -> bytes:
        """Under the lock. Gives back what there was no room for, where it shall not wait for room."""
        parts: list[bytes] = []
        with suppress(IndexError):  # not by length: a signal handler may flush in between
            while True:
                parts.append(self._pending.popleft())
        if not parts or self.broken is not None:
            return b""
        rest = b"".join(parts)
        try:
            while rest and self._has_room(wait):
                try:
                    rest = rest[os.write(self.fd, rest[:_ROOM]) :]
                except BlockingIOError:  # room, but not enough: a non-blocking terminal
                    if not wait or self._late:
                        break
                    time.sleep(_LOOK_AGAIN_MS / 1e3)
        except OSError as error:
            self.broken = error
            if self._on_broken is not None:
                self._on_broken(error)
            return b""
        return rest

    def _has_room(self, wait: bool) -> bool:
        """Wait for it, if asked to, in pieces: `hurry` may come from a thread that has no way to wake us."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while True:
            for_long = wait and not self._late
            if poll.poll(_LOOK_AGAIN_MS if for_long else 0) or self._is_read_only():
                return True
            if not for_long:
                return False

    def _is_read_only(self) -> bool:
        """poll(2) says nothing about the reading end of a pipe; write(2) says what is wrong with it."""
        return fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY

    @property
    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def close(self) -> None:
        """Send the rest."""
        self.flush()


class FileSink(StreamSink):
    """A file of its own: created or emptied on opening, closed by `close`."""

    def __init__(self, path: str, on_broken: Callable[[OSError], None] | None = None) -> None:
        """Raises HostError when `path` cannot be opened for writing."""
        try:
            # Non-blocking, or a FIFO that nobody reads would keep us here, where no signal gets us out.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
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
