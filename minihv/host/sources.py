"""Where a console's input comes from: a buffer, a file, a file descriptor. Taking never blocks."""

import os
import select
from threading import Lock

from minihv.errors import HostError

BUFFER_LIMIT = 1 << 20


class BufferSource:
    """Bytes from memory; more may be fed at any time, from any thread."""

    def __init__(self, data: bytes = b"") -> None:
        self._buffer = bytearray(data)
        self._lock = Lock()

    def feed(self, data: bytes) -> int:
        """Append `data`; returns how many bytes were taken (BUFFER_LIMIT may wait at a time)."""
        with self._lock:
            taken = data[: max(BUFFER_LIMIT - len(self._buffer), 0)]
            self._buffer += taken
        return len(taken)

    def take(self, limit: int, /) -> bytes:
        """At most `limit` of the bytes that wait, oldest first."""
        if not self._buffer:
            return b""
        with self._lock:
            data = bytes(self._buffer[:limit])
            del self._buffer[:limit]
        return data

    @property
    def eof(self) -> bool:
        """Nothing waits just now; more may be fed."""
        return not self._buffer

    def close(self) -> None:
        """Nothing to give back."""


class FdSource:
    """A descriptor that may have something to say: standard input, a pipe, a socket, a pty.

    The descriptor stays the caller's, and its flags stay as they are (another process may share them).
    One thread takes at a time.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.eof = False
        """The other end is gone; `take` gives nothing any more."""
        self._poll = select.poll()  # not select(2): descriptors above 1023 exist
        self._poll.register(fd, select.POLLIN)

    def take(self, limit: int, /) -> bytes:
        """At most `limit` bytes that have arrived."""
        if self.eof or limit <= 0 or not self._poll.poll(0):
            return b""
        try:
            data = os.read(self.fd, limit)
        except BlockingIOError:
            return b""  # another reader of the same descriptor was faster
        except OSError:
            data = b""  # EIO: the terminal hung up
        if not data:
            self.eof = True
        return data

    def close(self) -> None:
        """Nothing to give back."""


class FileSource:
    """A file, read as the guest takes it; never as a whole."""

    def __init__(self, path: str) -> None:
        """Raises HostError when `path` cannot be opened for reading."""
        try:
            # O_NONBLOCK: opening a FIFO must not wait for its writer.
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise HostError(
                f"cannot read console input from {path}: {error.strerror}; give a readable file"
            ) from error
        self.eof = False
        """Everything was taken."""

    def take(self, limit: int, /) -> bytes:
        """At most `limit` bytes from where the last take ended."""
        if self.eof or limit <= 0:
            return b""
        try:
            data = os.read(self.fd, limit)
        except BlockingIOError:
            return b""  # a FIFO whose writer is silent
        except OSError:
            data = b""  # the medium failed (or the path is a directory): nothing more comes
        if not data:
            self.eof = True
        return data

    def close(self) -> None:
        """Close the file; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.eof = True
