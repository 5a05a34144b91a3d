"""Guest RAM: one memfd, mapped shared. Pages come into being when the guest touches them.

A file descriptor lets another process (vhost-user, a snapshot tool) map the same memory; see memfd_create(2).
"""

import mmap
import os

from minihv.errors import HostError


class HostRam:
    """`size` bytes of zeroed host memory. A context manager; `close` gives them back."""

    def __init__(self, size: int, name: str = "minihv-ram") -> None:
        """`name` appears in /proc/PID/maps. Raises HostError when the host cannot give that much.

        Where there is no memfd (not Linux) the memory is anonymous and `fd` is -1.
        """
        self.size = size
        self.fd = -1
        self._map: mmap.mmap | None = None
        try:
            if hasattr(os, "memfd_create"):
                self.fd = os.memfd_create(name, os.MFD_CLOEXEC)
                os.ftruncate(self.fd, size)
            self._map = mmap.mmap(self.fd, size)
        except (OSError, OverflowError, ValueError) as error:
            self._close_fd()
            raise HostError(
                f"{size} bytes of guest RAM were asked for and the host refused ({error}); use less memory"
            ) from error
        self.view = memoryview(self._map)
        """The whole of it, writable, one byte per item."""
        self._pieces: list[memoryview] = [self.view]

    def piece(self, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset` on; released by `close`. Raises ValueError outside."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"piece {offset:#x}+{size:#x} does not lie in {self.size:#x} bytes of RAM")
        piece = self.view[offset : offset + size]
        self._pieces.append(piece)
        return piece

    def close(self) -> bool:
        """Release the views handed out, unmap, close the descriptor; may be called again.

        False when somebody else still holds a view (a slice of a view, a cffi buffer): the mapping then
        goes away with the last of these, as nothing here refers to it any more.
        """
        unmapped = True
        for piece in self._pieces:
            try:
                piece.release()
            except BufferError:
                unmapped = False  # a slice that somebody made of it is still alive
        self._pieces.clear()
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:
                unmapped = False
            self._map = None
        self._close_fd()
        return unmapped

    def _close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> "HostRam":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
