"""The exit: why an engine came back. One small value, the same from all engines.

Every exit carries `rip`, the instruction pointer (offset in CS, not linear) as the engine saw it when
it came back. For KVM that may be the address of the instruction *or* of the next one (KVM advances RIP
before some exits and after others); `Vcpu.site(exit)` turns it into the linear address of the
instruction itself. Reading RIP costs nothing, resolving it does, so only the first exit of a site pays.

An exit is a plain value so that its handler can be called in a test without any guest.
"""

from enum import Enum

from minihv.records import Record


class IoIn(Record):
    """Port input of `count` elements of `size` bytes (1, 2, 4) each, all from `port`.

    Answered by `Vcpu.complete` with size*count bytes. `count` is above 1 for a string instruction
    that the engine delivers at once (KVM API, KVM_EXIT_IO).
    """

    __slots__ = ("port", "size", "count", "rip")

    def __init__(self, port: int, size: int, count: int, rip: int) -> None:
        self.port = port
        self.size = size
        self.count = count
        self.rip = rip


class IoOut(Record):
    """Port output; `data` holds size*count bytes, element after element."""

    __slots__ = ("port", "size", "count", "data", "rip")

    def __init__(self, port: int, size: int, count: int, data: bytes, rip: int) -> None:
        self.port = port
        self.size = size
        self.count = count
        self.data = data
        self.rip = rip


class MmioRead(Record):
    """Read of `size` bytes (1..8) at `gpa`, which is no RAM. Answered by `Vcpu.complete`."""

    __slots__ = ("gpa", "size", "rip")

    def __init__(self, gpa: int, size: int, rip: int) -> None:
        self.gpa = gpa
        self.size = size
        self.rip = rip


class MmioWrite(Record):
    """Write of `data` (1..8 bytes) at `gpa`, which is no writable RAM."""

    __slots__ = ("gpa", "data", "rip")

    def __init__(self, gpa: int, data: bytes, rip: int) -> None:
        self.gpa = gpa
        self.data = data
        self.rip = rip


class Halt(Record):
    """The vCPU executed HLT, and the engine has no interrupt controller that could wake it.

    `wakeable` is False where RFLAGS.IF is clear: no maskable interrupt can.
    """

    __slots__ = ("wakeable", "rip")

    def __init__(self, wakeable: bool, rip: int) -> None:
        self.wakeable = wakeable
        self.rip = rip


class Shutdown(Record):
    """Triple fault (SDM Vol. 3A, 6.15, "Interrupt 8"): the processor stopped."""

    __slots__ = ("rip",)

    def __init__(self, rip: int) -> None:
        self.rip = rip


class Interrupted(Record):
    """The engine came back because of a kick or a host signal. Not an act of the guest, so not counted."""

    __slots__ = ()


class Idle(Record):
    """The vCPU sleeps inside the engine, and no maskable interrupt can wake it: HLT with RFLAGS.IF clear,
    or it waits for its start-up IPI. The answer to `Engine.poll`; not an act of the guest."""

    __slots__ = ("rip",)

    def __init__(self, rip: int) -> None:
        self.rip = rip


class BudgetSpent(Record):
    """`run(budget)` executed its instructions. Not an act of the guest."""

    __slots__ = ("rip",)

    def __init__(self, rip: int) -> None:
        self.rip = rip


class DebugStop(Record):
    """A single-step or a hardware breakpoint that the host had asked for.

    `dr6` is DR6 as the debug exception would have left it (SDM Vol. 3B, 18.2.3); `rip` is where the
    vCPU stopped.
    """

    __slots__ = ("dr6", "rip")

    def __init__(self, dr6: int, rip: int) -> None:
        self.dr6 = dr6
        self.rip = rip


class Hypercall(Record):
    """VMCALL/VMMCALL. `number` and `args` as in the KVM hypercall ABI (RAX; RBX, RCX, RDX, RSI).

    Answered by `Vcpu.complete` with the 8 bytes for RAX.
    """

    __slots__ = ("number", "args", "rip")

    def __init__(self, number: int, args: tuple[int, ...], rip: int) -> None:
        self.number = number
        self.args = args
        self.rip = rip


class MsrRead(Record):
    """RDMSR that the engine passes on; `reason` in words. Answered by `complete` (8 bytes; empty: #GP)."""

    __slots__ = ("index", "reason", "rip")

    def __init__(self, index: int, reason: str, rip: int) -> None:
        self.index = index
        self.reason = reason
        self.rip = rip


class MsrWrite(Record):
    """WRMSR that the engine passes on. Answered by `complete` (any 8 bytes: accepted; empty: #GP)."""

    __slots__ = ("index", "value", "reason", "rip")

    def __init__(self, index: int, value: int, reason: str, rip: int) -> None:
        self.index = index
        self.value = value
        self.reason = reason
        self.rip = rip


class SystemEventKind(Enum):
    """What the guest asked its firmware for (KVM API, KVM_EXIT_SYSTEM_EVENT)."""

    POWER_OFF = "power-off"
    RESET = "reset"
    CRASH = "crash"
    OTHER = "other"


class SystemEvent(Record):
    """The guest asked for power-off or reset, or declared itself crashed, through the engine."""

    __slots__ = ("kind", "code", "rip")

    def __init__(self, kind: SystemEventKind, code: int, rip: int) -> None:
        self.kind = kind
        self.code = code
        self.rip = rip


class Fault(Record):
    """The engine gave up. Data, not an exception: the machine rescues the vCPU, or ends and reports it.

    `kind` is one of "internal-error", "fail-entry", "unknown-exit", "unsupported"; `message` is one
    sentence; `instruction` holds the bytes of the instruction at `rip` where they are known. `rescuable`:
    the state is as before that instruction, and another engine may execute it. `rescued` is its text, once
    that has happened.
    """

    __slots__ = ("kind", "message", "instruction", "rip", "rescuable", "rescued")

    def __init__(
        self,
        kind: str,
        message: str,
        instruction: bytes,
        rip: int,
        rescuable: bool = False,
        rescued: str = "",
    ) -> None:
        self.kind = kind
        self.message = message
        self.instruction = instruction
        self.rip = rip
        self.rescuable = rescuable
        self.rescued = rescued


Exit = (
    IoIn | IoOut | MmioRead | MmioWrite | Halt | Shutdown | Interrupted | Idle | BudgetSpent | DebugStop
    | Hypercall | MsrRead | MsrWrite | SystemEvent | Fault
)  # fmt: skip
