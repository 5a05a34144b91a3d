"""The seams: what a device, an interrupt line, a vCPU and an engine are to everybody else.

A machine, a board, a device, a loader or a report sees only these; which engine stands behind
them it cannot know.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from minihv.exits import Exit
from minihv.x86.state import CpuState


class Registers(Protocol):
    """The part of a `Device` that a guest sees."""

    def read(self, offset: int, size: int) -> int: ...

    def write(self, offset: int, size: int, value: int) -> None: ...

    def register(self, offset: int, write: bool) -> str: ...


class Device(Protocol):
    """Registers behind a window. Offsets are relative to the window; a device never knows where it is.

    Values are little-endian unsigned integers of `size` bytes. The bus splits an access that is wider
    than `max_width` (bytes) into accesses of that width, lowest offset first. Handlers run on vCPU
    threads, one at a time: the bus owner holds the machine's device lock where there are several vCPUs.
    """

    @property
    def max_width(self) -> int: ...

    def read(self, offset: int, size: int) -> int: ...

    def write(self, offset: int, size: int, value: int) -> None: ...

    def register(self, offset: int, write: bool) -> str:
        """Name of the register at `offset`, as the data sheet spells it; for statistics and traces."""
        ...

    def reset(self) -> None:
        """Back to the state after power-on."""
        ...

    def close(self) -> None:
        """Give back what the device holds; called once, also after errors."""
        ...


class IrqLine(Protocol):
    """One interrupt input. Level semantics: an edge is a False -> True change. Callable from any thread."""

    def __call__(self, level: bool, /) -> None: ...


class ByteSink(Protocol):
    """Where a console's bytes go."""

    def write(self, data: bytes, /) -> None: ...


class ByteSource(Protocol):
    """Where a console's input comes from: never blocks."""

    def take(self, limit: int, /) -> bytes:
        """At most `limit` bytes that have arrived; empty when there is none just now."""
        ...


class Clock(Protocol):
    """Nanoseconds of guest-visible time since some start; injected so that tests own the time."""

    def __call__(self) -> int: ...


class EngineTraits(NamedTuple):
    """What an engine brings itself. The builder supplies what is missing; nobody asks for names."""

    provides: frozenset[str]
    """Of "pic", "pit", "lapic", "ioapic": the controllers that need no software model."""
    parallel: bool
    """vCPUs run each on a thread of its own; else they take turns on one thread."""
    counts_instructions: bool
    """`run(budget)` is exact and `Vcpu.instructions` is kept."""
    single_step: bool
    may_give_up: bool = False
    """It may return a `Fault` with `rescuable` set."""


class Site(Protocol):
    """The place in guest code that caused an exit. Cheap to take, resolved when a report asks."""

    def address(self) -> int:
        """Linear address of the instruction itself."""
        ...


class ExactSite(NamedTuple):
    """A site whose instruction address the engine knew right away."""

    linear: int

    def address(self) -> int:
        return self.linear


class _WatchpointFields(NamedTuple):
    address: int
    length: int
    reads: bool = False


class Watchpoint(_WatchpointFields):
    """Stop behind an instruction that writes any of `length` bytes (1, 2, 4, 8) at linear `address`, which is
    a multiple of it; with `reads`, also behind one that reads there. Raises ValueError for others."""

    __slots__ = ()

    def __new__(cls, address: int, length: int, reads: bool = False) -> "Watchpoint":
        if length not in (1, 2, 4, 8) or address % length:
            raise ValueError(
                f"a watchpoint has 1, 2, 4 or 8 bytes at a multiple of that, found {length} at {address:#x}"
            )
        return super().__new__(cls, address, length, reads)


class Vcpu(Protocol):
    """One virtual CPU. Only its own thread may call anything but `kick`."""

    index: int
    left_ns: int
    """Host time (`time.perf_counter_ns`) at which the guest was last left: handling time starts here."""

    @property
    def instructions(self) -> int:
        """Guest instructions executed so far; 0 for ever where the engine does not count."""
        ...

    def attach_thread(self) -> None:
        """Called on the thread that will call `run`, before it does."""
        ...

    def detach_thread(self) -> None:
        """Called on that thread when it will not call `run` any more."""
        ...

    def run(self, budget: int | None = None) -> Exit:
        """Run the guest until it needs the VMM. `budget`: at most so many instructions, where counted."""
        ...

    def complete(self, data: bytes) -> None:
        """Answer the last exit (IoIn, MmioRead, MsrRead, Hypercall ...) before the next `run`."""
        ...

    def finish(self) -> Exit | None:
        """Complete the last exit without executing any further instruction. An exit, where the instruction
        needs another one for that: handle it and call again."""
        ...

    def kick(self) -> None:
        """From any thread: make a `run` that is going on, or the next one, return `Interrupted`."""
        ...

    def get_state(self) -> CpuState:
        """The whole architectural state; an exit that is still open is completed first."""
        ...

    def set_state(self, state: CpuState) -> None: ...

    def site(self, exit: Exit, /) -> Site:
        """Where `exit`, the last one returned by `run`, came from. Called for the first exit of a site."""
        ...

    def debug(
        self,
        single_step: bool,
        breakpoints: tuple[int, ...] = (),
        watchpoints: tuple[Watchpoint, ...] = (),
    ) -> None:
        """Ask for `DebugStop` after each instruction, at linear addresses, and/or behind accesses to memory.

        Together they are at most four where the processor's own registers serve (ValueError), and UsageError
        says where an engine has no watchpoints. B0-B3 of `DebugStop.dr6` number them, breakpoints first; from
        the fourth on all are B3. It replaces what was asked for before.
        """
        ...

    def close(self) -> None: ...


class InterruptSource(Protocol):
    """What stands at the interrupt pin of a software vCPU: its local APIC, or a bare 8259 pair.

    Called only from the vCPU's own thread, inside `run`. Whoever changes the outcome of `pending` at any
    other time (a timer that expires, a line that rises, an IPI from elsewhere) calls
    `InterruptTarget.notice` of its vCPU afterwards; a source that moves its next timer deadline calls
    `Vcpu.kick`, so that the machine gets to plan anew.
    """

    cr8: int
    """Task priority class, 0..15 (TPR bits 7:4; SDM Vol. 3A, 11.8.6). A bare 8259 just keeps the value."""

    def pending(self) -> int | None:
        """Vector of the interrupt that may be delivered now, TPR and in-service ones considered; else None.

        Does not change anything.
        """
        ...

    def acknowledge(self) -> int:
        """The processor takes the interrupt (INTA): its vector; IRR moves to ISR. Called after `pending`."""
        ...

    def read_msr(self, index: int) -> int | None:
        """IA32_APIC_BASE (0x1b), IA32_TSC_DEADLINE (0x6e0) or x2APIC (0x800..0x8ff); None: #GP."""
        ...

    def write_msr(self, index: int, value: int) -> bool:
        """The same MSRs; False: #GP, and nothing was changed."""
        ...

    def mmio_base(self) -> int | None:
        """GPA of the 4 KiB xAPIC page that this vCPU sees; None in x2APIC mode, disabled or bare PIC.

        The engine serves this page itself by `read` and `write`: no exit, as with KVM's own LAPIC.
        """
        ...

    def read(self, offset: int, size: int) -> int: ...

    def write(self, offset: int, size: int, value: int) -> None: ...

    def reset(self) -> None:
        """INIT: back to the state after power-on, APIC id and base kept (SDM Vol. 3A, 11.4.7.3)."""
        ...


class InterruptTarget(Protocol):
    """A software vCPU as interrupt controllers see it. Callable from any thread."""

    local_apic: InterruptSource | None

    def notice(self) -> None:
        """The answer of `local_apic.pending()` may have changed: look before the next instruction."""
        ...

    def deliver_init(self) -> None: ...

    def deliver_sipi(self, vector: int) -> None:
        """Start-up IPI: only a vCPU that waits for it starts, in real mode at CS = vector << 8, IP = 0."""
        ...

    def deliver_nmi(self) -> None: ...

    def kick(self) -> None: ...


class EngineConfig(NamedTuple):
    """What an engine must know before it starts."""

    cpus: int = 1
    irqchip: str = "kernel"
    """"kernel": the engine's own controllers where it has any; "split": only its LAPICs; "none"."""
    without: frozenset[str] = frozenset()
    """Controllers to leave out although the engine has them: "pit" only."""
    clock: Clock | None = None
    """Guest time in ns, for engines that keep the time-stamp counter themselves."""
    tsc_hz: int = 1_000_000_000


class TurnVcpu(Vcpu, InterruptTarget, Protocol):
    """A vCPU of an engine whose `traits.parallel` is false: it takes turns, and its interrupt controllers
    are models that the builder connects."""

    @property
    def asleep(self) -> bool:
        """Halted or waiting for its start-up IPI, with nothing to wake it: `run` would do nothing."""
        ...

    def tsc(self) -> int:
        """The time-stamp counter as the guest sees it now."""
        ...

    def kick(self) -> None: ...


class Engine(Protocol):
    """Something that executes guest code. Created by `minihv.engine.select`, closed by the machine."""

    name: str
    traits: EngineTraits

    def create_vcpu(self, index: int) -> Vcpu: ...

    def irq_line(self, gsi: int) -> IrqLine:
        """The line of global system interrupt `gsi`, where the engine provides the controllers."""
        ...

    @property
    def tsc_hz(self) -> int:
        """Rate of the guest's time-stamp counter in ticks a second; 0 where it is not known."""
        ...

    def controllers(self) -> Mapping[str, bytes]:
        """State of the controllers that the engine brings, in KVM's layouts: "pic" (two struct
        kvm_pic_state), "ioapic" (kvm_ioapic_state), "pit" (kvm_pit_state2). LAPICs are in CpuState."""
        ...

    def set_controllers(self, state: Mapping[str, bytes]) -> None:
        """The reverse of `controllers`."""
        ...

    def counters(self) -> Mapping[str, int]:
        """The engine's own counters, by name; only ever growing."""
        ...

    def describe(self) -> Mapping[str, str]:
        """What stands behind the engine ("kind": "PVM" ...), for reports."""
        ...

    def poll(self) -> None:
        """Called a few times a second from the machine's own thread; finds vCPUs that sleep for ever."""
        ...

    def close(self) -> None: ...
