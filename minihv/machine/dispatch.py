"""Exit -> bus -> device -> answer. Functions of values: a test calls them without a guest.

A handler returns None, or the bytes that complete the exit, for `Vcpu.complete`.
"""

from minihv.bus import Bus
from minihv.exits import Hypercall, IoIn, IoOut, MmioRead, MmioWrite, MsrRead, MsrWrite

ENOSYS_ANSWER = (-1000 & (1 << 64) - 1).to_bytes(8, "little")
"""-KVM_ENOSYS (Documentation/virt/kvm/x86/hypercalls.rst): what a hypercall without a handler returns."""

ACCEPTED_MSRS = frozenset(range(0xC0010000, 0xC0010008))
"""K7 performance counters: some kernels write them at boot on AMD without looking (reads give 0)."""


def io_in(ports: Bus, exit: IoIn) -> bytes:
    """One device access for each element, all at the same port (SDM Vol. 2A, INS)."""
    size = exit.size
    if exit.count == 1:
        return ports.read(exit.port, size).to_bytes(size, "little")
    return b"".join(ports.read(exit.port, size).to_bytes(size, "little") for _ in range(exit.count))


def io_out(ports: Bus, exit: IoOut) -> None:
    """One device access for each element: the port stays, the data advances (SDM Vol. 2B, OUTS)."""
    size, data = exit.size, exit.data
    if exit.count == 1:
        ports.write(exit.port, size, data[0] if size == 1 else int.from_bytes(data, "little"))
        return
    for at in range(0, size * exit.count, size):
        ports.write(exit.port, size, int.from_bytes(data[at : at + size], "little"))


def mmio_read(mmio: Bus, exit: MmioRead) -> bytes:
    """The device's answer, little-endian."""
    return mmio.read(exit.gpa, exit.size).to_bytes(exit.size, "little")


def mmio_write(mmio: Bus, exit: MmioWrite) -> None:
    """Hand the data to whoever owns the address."""
    mmio.write(exit.gpa, len(exit.data), int.from_bytes(exit.data, "little"))


def msr_read(exit: MsrRead) -> bytes:
    """8 bytes for an MSR on the list, nothing (#GP) for any other."""
    return bytes(8) if exit.index in ACCEPTED_MSRS else b""


def msr_write(exit: MsrWrite) -> bytes:
    """8 bytes (taken) for an MSR on the list, nothing (#GP) for any other."""
    return bytes(8) if exit.index in ACCEPTED_MSRS else b""


def hypercall(exit: Hypercall) -> bytes:
    """minihv has no hypercalls of its own yet."""
    return ENOSYS_ANSWER
