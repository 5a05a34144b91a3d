"""Kernel tracepoints of one thread, without leaving anything behind: tracefs and perf_event_open(2).

tracefs is read where it is mounted, else through a mount of our own that is attached to no directory and is
gone with its descriptor (fsopen(2), fsmount(2)). The events themselves are counted and recorded by
perf_event_open, which, unlike tracefs's own switches, changes nothing for anybody else.
"""

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

from minihv.errors import HostError

MOUNTED = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
RING_PAGES = 512
"""Data pages of one thread's ring (2 MiB): a power of two; 20 000 events or more between two reads."""

_PERF_EVENT_OPEN, _FSOPEN, _FSCONFIG, _FSMOUNT = 298, 430, 431, 432
"""System call numbers of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl)."""
_FSCONFIG_CMD_CREATE = 6
_MOUNT_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_ATTR = struct.Struct("<IIQQQQQIIQQQQIiQII")
"""struct perf_event_attr up to `aux_watermark` and `sample_max_stack` (PERF_ATTR_SIZE_VER5, 112 bytes)."""
_TYPE_TRACEPOINT, _SAMPLE_RAW, _DISABLED = 2, 1 << 10, 1
_CLOEXEC = 8
_IOC_ENABLE, _IOC_SET_OUTPUT = 0x2400, 0x2405
_HEADER = struct.Struct("<IHH")
_RECORD_LOST, _RECORD_SAMPLE = 2, 9
_HEAD_OFFSET, _TAIL_OFFSET = 1024, 1032
"""data_head and data_tail of struct perf_event_mmap_page."""


class Tracepoint(NamedTuple):
    """An event's number, where its fields are in a record (name -> offset, size), and how it is printed."""

    number: int
    fields: dict[str, tuple[int, int]]
    print_format: str


def _system_call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result: int = library.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class TraceFs:
    """An open tracefs. A context manager. Raises HostError that says what would be needed."""

    def __init__(self) -> None:
        self._fd = -1
        for folder in MOUNTED:
            if os.path.isdir(f"{folder}/events"):
                self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                return
        if os.uname().machine != "x86_64":
            raise HostError("tracefs is not mounted; mount it at /sys/kernel/tracing (as root)")
        try:
            self._fd = _own_mount()
        except OSError as error:
            raise HostError(
                f"tracefs is not mounted, and mounting it privately was refused ({error.strerror}); mount it "
                "at /sys/kernel/tracing, or run as root (CAP_SYS_ADMIN)"
            ) from error

    def tracepoint(self, system: str, name: str) -> Tracepoint:
        """What is to be known of one event."""
        folder = f"events/{system}/{name}"
        try:
            number = int(self._read(f"{folder}/id"))
            return Tracepoint(number, *_parse_format(self._read(f"{folder}/format")))
        except OSError as error:
            raise HostError(
                f"tracefs does not let us read {folder} ({error.strerror}); make it readable, or run as root"
            ) from error

    def _read(self, path: str) -> str:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
            return file.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _own_mount() -> int:
    filesystem = _system_call(_FSOPEN, b"tracefs", ctypes.c_uint(1))
    try:
        _system_call(_FSCONFIG, filesystem, ctypes.c_uint(_FSCONFIG_CMD_CREATE), None, None, 0)
        return _system_call(_FSMOUNT, filesystem, ctypes.c_uint(1), ctypes.c_uint(_MOUNT_NOSUID_NODEV_NOEXEC))
    finally:
        os.close(filesystem)


def _parse_format(text: str) -> tuple[dict[str, tuple[int, int]], str]:
    """The `format` file of an event (Documentation/trace/events.rst)."""
    fields = {}
    for line in text.splitlines():
        if line.startswith("\tfield:"):
            parts = dict(part.strip().partition(":")[::2] for part in line.split(";") if ":" in part)
            name = parts["field"].split()[-1].partition("[")[0]
            fields[name] = int(parts["offset"]), int(parts["size"])
    return fields, text.partition("print fmt: ")[2].strip()


class ThreadEvents:
    """Events of the calling thread, recorded one by one into a ring that another thread may read."""

    def __init__(self, events: tuple[Tracepoint, ...]) -> None:
        """Raises HostError where the kernel refuses."""
        self._fds: list[int] = []
        self._map: mmap.mmap | None = None
        self.lost = 0
        """Events that the ring had no room for."""
        try:
            for event in events:
                self._open(event)
        except OSError as error:
            self.close()
            raise HostError(
                f"perf_event_open of a tracepoint was refused ({error.strerror}); run as root (CAP_PERFMON), "
                "or lower kernel.perf_event_paranoid to -1"
            ) from error

    def _open(self, event: Tracepoint) -> None:
        attributes = _ATTR.pack(
            _TYPE_TRACEPOINT, _ATTR.size, event.number, 1, _SAMPLE_RAW, 0, _DISABLED,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        no_group, every_cpu = ctypes.c_int(-1), ctypes.c_int(-1)
        fd = _system_call(
            _PERF_EVENT_OPEN, buffer, ctypes.c_int(0), every_cpu, no_group, ctypes.c_ulong(_CLOEXEC)
        )
        self._fds.append(fd)
        import fcntl

        if self._map is None:
            self._map = mmap.mmap(fd, (1 + RING_PAGES) * mmap.PAGESIZE)
        else:
            fcntl.ioctl(fd, _IOC_SET_OUTPUT, self._fds[0])
        fcntl.ioctl(fd, _IOC_ENABLE, 0)

    def counts(self) -> list[int]:
        """How often each event has happened, lost or not."""
        return [int.from_bytes(os.read(fd, 8), "little") for fd in self._fds]

    def take(self) -> Iterator[bytes]:
        """The raw records (as `format` files describe them) that came since the last call, oldest first."""
        ring = self._map
        if ring is None:
            return
        size = RING_PAGES * mmap.PAGESIZE
        head = int.from_bytes(ring[_HEAD_OFFSET : _HEAD_OFFSET + 8], "little")
        tail = int.from_bytes(ring[_TAIL_OFFSET : _TAIL_OFFSET + 8], "little")
        start = tail % size
        data = ring[mmap.PAGESIZE + start : mmap.PAGESIZE + min(start + head - tail, size)]
        data += ring[mmap.PAGESIZE : mmap.PAGESIZE + head - tail - len(data)]
        ring[_TAIL_OFFSET : _TAIL_OFFSET + 8] = head.to_bytes(8, "little")
        at = 0
        while at + _HEADER.size <= len(data):
            kind, _, length = _HEADER.unpack_from(data, at)
            if length < _HEADER.size:
                return
            if kind == _RECORD_SAMPLE:
                raw = int.from_bytes(data[at + 8 : at + 12], "little")
                yield data[at + 12 : at + 12 + raw]
            elif kind == _RECORD_LOST:
                self.lost += int.from_bytes(data[at + 16 : at + 24], "little")
            at += length

    def close(self) -> None:
        """Stop; harmless when done twice."""
        if self._map is not None:
            self._map.close()
            self._map = None
        while self._fds:
            os.close(self._fds.pop())
