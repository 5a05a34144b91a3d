"""Tiny guests as bytes, and short ways to run them. Nothing here needs a tool chain.

The pieces of real-mode code are functions that return bytes, to be added up; a guest of `run` starts at
0x7c00 behind the tiny BIOS, one of `KvmGuest` right there, without anything else in memory.
"""

import os
import threading
from types import TracebackType
from typing import Any, NamedTuple, Self

from minihv import Machine, MachineConfig, Report
from minihv.engine.kvm.engine import KvmEngine, probe
from minihv.engine.kvm.vcpu import KvmVcpu
from minihv.host.ram import HostRam
from minihv.interfaces import EngineConfig
from minihv.memory import GuestMemory, Region
from minihv.x86.state import CpuState, Segment

ORIGIN = 0x7C00
"""Where `flat16` guests are loaded and start."""

CLI, STI, HLT, NOP, UD2 = b"\xfa", b"\xfb", b"\xf4", b"\x90", b"\x0f\x0b"
FOREVER = b"\xeb\xfe"
"""jmp $"""
SLEEP = CLI + HLT
"""Nothing wakes this CPU any more."""


def mov_dx(value: int) -> bytes:
    """mov dx, value"""
    return b"\xba" + value.to_bytes(2, "little")


def mov_ax(value: int) -> bytes:
    """mov ax, value"""
    return b"\xb8" + value.to_bytes(2, "little")


def mov_cx(value: int) -> bytes:
    """mov cx, value"""
    return b"\xb9" + value.to_bytes(2, "little")


def outb(port: int, value: int) -> bytes:
    """Write a byte to any port; changes AL and DX."""
    return mov_dx(port) + bytes((0xB0, value)) + b"\xee"


def inb(port: int) -> bytes:
    """Read a byte from any port into AL; changes DX."""
    return mov_dx(port) + b"\xec"


def outb_al(port: int) -> bytes:
    """Write AL to any port; changes DX."""
    return mov_dx(port) + b"\xee"


def leave(status: int) -> bytes:
    """End the machine with `status` (0..127)."""
    return outb(0xF8, status) + SLEEP


LEAVE_AL = outb_al(0xF8) + SLEEP
"""End the machine with the status in AL."""


def say(text: bytes) -> bytes:
    """Print `text` on the debug console, a byte at a time."""
    return b"".join(outb(0xE9, byte) for byte in text)


def loop_cx(count: int, body: bytes) -> bytes:
    """`body` `count` times (1..65535); it may not change CX. At most 120 bytes."""
    start = mov_cx(count)
    return start + body + b"\xe2" + (-(len(body) + 2) & 0xFF).to_bytes(1, "little")


# Running


class Run(NamedTuple):
    """What came of a run."""

    report: Report
    console: bytes

    @property
    def end(self) -> tuple[str, int]:
        """Reason and status."""
        return self.report.outcome.reason, self.report.outcome.status


def machine(code: bytes, **config: Any) -> Machine:
    """A machine with `code` loaded: real mode unless `format` says otherwise, under kvm, 20 s at most."""
    fields = {"engine": "kvm", "format": "flat16", "timeout": 20.0, **config}
    return Machine(MachineConfig(**fields)).load(code, "guest")


def run(code: bytes, **config: Any) -> Run:
    """Run `code` on a `machine`."""
    with machine(code, **config) as m:
        report = m.run()
        return Run(report, m.console if m.config.serial == "buffer" else b"")


class KvmGuest:
    """The kvm engine and its vCPUs with nothing around them: 640 KiB of RAM, real-mode code at ORIGIN."""

    RAM = 0xA0000

    def __init__(self, code: bytes, cpus: int = 1, irqchip: str = "kernel") -> None:
        self.ram = HostRam(self.RAM)
        self.memory = GuestMemory([Region(0, self.RAM, self.ram.piece(0, self.RAM), False, "ram")])
        self.memory.write(ORIGIN, code)
        self.engine = KvmEngine(self.memory, EngineConfig(cpus, irqchip))
        self.vcpus = [self.engine.create_vcpu(index) for index in range(cpus)]
        self.vcpu.set_state(real_state())

    @property
    def vcpu(self) -> KvmVcpu:
        """The boot processor."""
        return self.vcpus[0]

    def __enter__(self) -> Self:
        self.vcpu.attach_thread()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vcpu.detach_thread()
        self.engine.close()
        self.memory.release()
        self.ram.close()


def real_state(rip: int = ORIGIN, cs: int = 0) -> CpuState:
    """Real mode at CS:RIP, interrupts off, all other segments at 0."""
    state = CpuState(rip=rip)
    state.cs = Segment(cs, cs << 4, 0xFFFF, 0x9B)
    state.gpr[4] = ORIGIN
    return state


# The host


def why_no_kvm() -> str | None:
    """Why the kvm engine cannot work here, or None."""
    return probe()


def held() -> tuple[list[str], list[str]]:
    """Open descriptors, as number and target, and living threads."""
    descriptors = []
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors.append(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue  # the one that listed the others
    return sorted(descriptors), sorted(thread.name for thread in threading.enumerate())


def rss_kib() -> int:
    """This process's resident memory in KiB."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
