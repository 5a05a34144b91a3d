"""The exit: why an engine came back. One small value, the same from all engines.

Every exit carries `rip`, the instruction pointer (offset in CS, not linear) as the engine saw it when
it came back. For KVM that may be the address of the instruction *or* of the next one (KVM advances RIP
before some exits and after others); `Vcpu.site(exit)` turns it into the linear address of the
instruction itself. Reading RIP costs nothing, resolving it does, so only the first exit of a site pays.

An exit is a plain value so that its handler can be called in a test without any guest.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(slots=True)
class IoIn:
    """Port input of `count` elements of `size` bytes (1, 2, 4) each, all from `port`.

    Answered by `Vcpu.complete` with size*count bytes. `count` is above 1 for a string instruction
    that the engine delivers at once (KVM API, KVM_EXIT_IO).
    """

    port: int
    size: int
    count: int
    rip: int


@dataclass(slots=True)
class IoOut:
    """Port output; `data` holds size*count bytes, element after element."""

    port: int
    size: int
    count: int
    data: bytes
    rip: int


@dataclass(slots=True)
class MmioRead:
    """Read of `size` bytes (1..8) at `gpa`, which is no RAM. Answered by `Vcpu.complete`."""

    gpa: int
    size: int
    rip: int


@dataclass(slots=True)
class MmioWrite:
    """Write of `data` (1..8 bytes) at `gpa`, which is no writable RAM."""

    gpa: int
    data: bytes
    rip: int


@dataclass(slots=True)
class Halt:
    """The vCPU executed HLT, and the engine has no interrupt controller that could wake it.

    `wakeable` is False where RFLAGS.IF is clear: no maskable interrupt can.
    """

    wakeable: bool
    rip: int


@dataclass(slots=True)
class Shutdown:
    """Triple fault (SDM Vol. 3A, 6.15, "Interrupt 8"): the processor stopped."""

    rip: int


@dataclass(slots=True)
class Interrupted:
    """The engine came back because of a kick or a host signal. Not an act of the guest, so not counted."""


@dataclass(slots=True)
class Idle:
    """The vCPU sleeps inside the engine, and no maskable interrupt can wake it: HLT with RFLAGS.IF clear,
    or it waits for its start-up IPI. The answer to `Engine.poll`; not an act of the guest."""

    rip: int


@dataclass(slots=True)
class BudgetSpent:
    """`run(budget)` executed its instructions. Not an act of the guest."""

    rip: int


@dataclass(slots=True)
class DebugStop:
    """A single-step or a hardware breakpoint that the host had asked for.

    `dr6` is DR6 as the debug exception would have left it (SDM Vol. 3B, 18.2.3); `rip` is where the
    vCPU stopped.
    """

    dr6: int
    rip: int


@dataclass(slots=True)
class Hypercall:
    """VMCALL/VMMCALL. `number` and `args` as in the KVM hypercall ABI (RAX; RBX, RCX, RDX, RSI).

    Answered by `Vcpu.complete` with the 8 bytes for RAX.
    """

    number: int
    args: tuple[int, ...]
    rip: int


@dataclass(slots=True)
class MsrRead:
    """RDMSR that the engine passes on; `reason` in words. Answered by `complete` (8 bytes; empty: #GP)."""

    index: int
    reason: str
    rip: int


@dataclass(slots=True)
class MsrWrite:
    """WRMSR that the engine passes on. Answered by `complete` (any 8 bytes: accepted; empty: #GP)."""

    index: int
    value: int
    reason: str
    rip: int


class SystemEventKind(Enum):
    """What the guest asked its firmware for (KVM API, KVM_EXIT_SYSTEM_EVENT)."""

    POWER_OFF = "power-off"
    RESET = "reset"
    CRASH = "crash"
    OTHER = "other"


@dataclass(slots=True)
class SystemEvent:
    """The guest asked for power-off or reset, or declared itself crashed, through the engine."""

    kind: SystemEventKind
    code: int
    rip: int


@dataclass(slots=True)
class Fault:
    """The engine gave up. Data, not an exception: the machine ends and reports it.

    `kind` is one of "internal-error", "fail-entry", "unknown-exit", "unsupported"; `message` is one
    sentence; `instruction` holds the bytes of the instruction at `rip` where they are known.
    """

    kind: str
    message: str
    instruction: bytes
    rip: int


Exit = (
    IoIn | IoOut | MmioRead | MmioWrite | Halt | Shutdown | Interrupted | Idle | BudgetSpent | DebugStop
    | Hypercall | MsrRead | MsrWrite | SystemEvent | Fault
)  # fmt: skip
