"""The kernel's own exit counters, without root or debugfs (KVM API 4.133, KVM_GET_STATS_FD).

They are the only unprivileged view of the exits that the kernel handles alone.
"""

import os
import struct

_HEADER = struct.Struct("<6I")  # struct kvm_stats_header
_DESC = struct.Struct("<IhHII")  # struct kvm_stats_desc without its name
_TYPE_MASK = 0xF
_CUMULATIVE = 0


class StatsFd:
    """One statistics descriptor: of a VM or of a vCPU. Takes ownership of `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.cumulative: dict[str, int] = {}
        """Counter name -> offset in the file, of the scalars that only grow."""
        self._instant: dict[str, int] = {}
        try:
            self._read_descriptors(fd)
        except BaseException:
            self.close()
            raise

    def _read_descriptors(self, fd: int) -> None:
        flags, name_size, count, _, desc_offset, data_offset = _HEADER.unpack(os.pread(fd, _HEADER.size, 0))
        step = _DESC.size + name_size
        table = os.pread(fd, step * count, desc_offset)
        for at in range(0, len(table), step):
            flags, _, size, offset, _ = _DESC.unpack_from(table, at)
            name = table[at + _DESC.size : at + step].split(b"\0")[0].decode()
            if size == 1:
                group = self.cumulative if flags & _TYPE_MASK == _CUMULATIVE else self._instant
                group[name] = data_offset + offset

    def read(self) -> dict[str, int]:
        """All growing counters by name, now."""
        if not self.cumulative:
            return {}
        start = min(self.cumulative.values())
        data = os.pread(self._fd, max(self.cumulative.values()) + 8 - start, start)
        return {
            name: int.from_bytes(data[at - start : at - start + 8], "little")
            for name, at in self.cumulative.items()
        }

    def value(self, name: str) -> int | None:
        """One counter or state ("blocking") by name, or None where this kernel lacks it."""
        at = self.cumulative.get(name, self._instant.get(name))
        return None if at is None else int.from_bytes(os.pread(self._fd, 8, at), "little")

    def close(self) -> None:
        """Close the descriptor; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
