"""How an instruction stops before its end. None of these leaves the engine."""

from minihv.exits import Exit
from minihv.x86.registers import VECTOR_GP, VECTOR_PF, VECTOR_SS, VECTOR_UD


class GuestFault(Exception):
    """An exception of the guest's (SDM Vol. 3A, 6.15), raised by an op, delivered by the run loop.

    `error` is the error code, None for vectors without one. `cr2` is set for #PF. `at` is the RIP to
    report where it is not the instruction's own: a task switch faulted in the context of the new task.
    """

    def __init__(self, vector: int, error: int | None = None, cr2: int | None = None) -> None:
        super().__init__(vector, error)
        self.vector = vector
        self.error = error
        self.cr2 = cr2
        self.at: int | None = None


class DebugFault(GuestFault):
    """#DB reported before an instruction: breakpoint, general detect. `dr6` has the bits to set."""

    def __init__(self, dr6: int) -> None:
        super().__init__(1)
        self.dr6 = dr6


class NeedExit(Exception):
    """The instruction needs the VMM: it is executed again from its start once `exit` is answered."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(exit)
        self.exit = exit


class BlockDied(Exception):
    """The rest of the running block was overwritten: go on at the next instruction, decoded anew."""


class BePrecise(Exception):
    """The instruction must be executed alone: it needs the exact count, or has effects that the run loop
    must see before the next instruction. Raised by `Cpu.be_precise`."""


class TripleFault(Exception):
    """A fault while delivering a double fault."""


def undefined() -> GuestFault:
    """#UD, to be raised."""
    return GuestFault(VECTOR_UD)


def protection(error: int = 0) -> GuestFault:
    """#GP, to be raised."""
    return GuestFault(VECTOR_GP, error)


def stack_fault(error: int = 0) -> GuestFault:
    """#SS, to be raised."""
    return GuestFault(VECTOR_SS, error)


def page_fault(lin: int, error: int) -> GuestFault:
    """#PF at linear address `lin`, to be raised."""
    return GuestFault(VECTOR_PF, error, lin)
