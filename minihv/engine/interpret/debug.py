"""Debug registers: instruction and data breakpoints, and what DR6 says (SDM Vol. 3B, 18.2)."""

from minihv.engine.interpret.cpu import Cpu
from minihv.x86.registers import (
    CR4_DE,
    DR7_GD,
    DR7_LENGTHS,
    DR7_RW_ACCESS,
    DR7_RW_EXECUTE,
    DR7_RW_IO,
    DR7_RW_WRITE,
)

_HIT_BITS = 0xF
HOST = 1 << 32
"""In the bit of a watched piece of memory: it is the VMM's watchpoint, not the guest's."""


def report(cpu: Cpu, bits: int) -> None:
    """Set DR6 for a debug exception that is about to be delivered; clears DR7.GD (18.2.4).

    B0-B3 are those of this exception; the other bits only get set, software clears them (18.2.3).
    """
    cpu.dr[4] = cpu.dr[4] & ~_HIT_BITS | bits
    if cpu.dr[5] & DR7_GD:
        cpu.dr[5] &= ~DR7_GD


def _armed(cpu: Cpu, kinds: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(number, kind, address, bytes) of the enabled breakpoints of some kinds."""
    dr7 = cpu.dr[5]
    found = []
    for n in range(4):
        kind = dr7 >> 16 + 4 * n & 3
        if dr7 >> 2 * n & 3 and kind in kinds:
            length = DR7_LENGTHS[dr7 >> 18 + 4 * n & 3]
            found.append((n, kind, cpu.dr[n] & ~(length - 1), length))
    return found


def instruction_breakpoints(cpu: Cpu, lin: int) -> int:
    """DR6 bits of the breakpoints on the instruction at `lin`. Others that match are reported with them."""
    if not cpu.dr[5] & 0xFF:
        return 0
    hit = 0
    for n, _, _, _ in _armed(cpu, (DR7_RW_EXECUTE,)):
        if cpu.dr[n] == lin:
            hit |= 1 << n
    return hit


def arm(cpu: Cpu) -> None:
    """DR0-3 or DR7 changed: which data accesses to watch. Watched pages leave the fast path."""
    watch = [
        (address, length, kind == DR7_RW_ACCESS, 1 << n)
        for n, kind, address, length in _armed(cpu, (DR7_RW_WRITE, DR7_RW_ACCESS))
    ] + cpu.host_watch
    if watch or cpu.watch:
        cpu.watch = watch
        cpu.mmu.flush_data()
    cpu.attention = True


def port_hit(cpu: Cpu, port: int, size: int) -> None:
    """Note I/O breakpoints that an access to `port` hits (CR4.DE)."""
    if not cpu.cr4 & CR4_DE or not cpu.dr[5] & 0xFF:
        return
    for n, _, address, length in _armed(cpu, (DR7_RW_IO,)):
        if port < address + length and address < port + size:
            cpu.trap |= 1 << n
            cpu.attention = True
