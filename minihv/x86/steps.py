"""One executed instruction as values: what it was, what it worked on, and the state before and after.

Made by whoever steps a guest (`minihv.machine.explain`), read by the engines' narrators, which tell what
happened in terms of how that engine works.
"""

from typing import NamedTuple, Protocol

from minihv.x86.paging import WalkResult
from minihv.x86.state import CpuState


class Operand(NamedTuple):
    """A register or a piece of memory that the instruction names or implies.

    `access` is "read", "write" or "read and write". Values are None where they cannot be shown (a vector
    register, a device's memory). Memory has its linear address `gva`, and `gpa` where it is mapped.
    """

    text: str
    access: str
    size: int
    before: int | None
    after: int | None = None
    gva: int | None = None
    gpa: int | None = None

    @property
    def reads(self) -> bool:
        return self.access != "write"

    @property
    def writes(self) -> bool:
        return self.access != "read"


class Step(NamedTuple):
    """One instruction. `address` is linear; `walk` is the page walk of its first byte.

    `after` is None where the machine ended in it. `flags` are the status flags it changes by its
    definition, by name; `undefined` those it leaves undefined.
    """

    address: int
    bits: int
    code: bytes
    text: str
    encoding: str
    walk: WalkResult
    before: CpuState
    after: CpuState | None
    operands: tuple[Operand, ...]
    flags: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()


class SiteExits(NamedTuple):
    """Exits of one kind that one instruction made during a whole run: how many, and ns to answer one."""

    name: str
    detail: str
    samples: int
    mean_ns: int


class Narrator(Protocol):
    """Tells what one engine does with an instruction. Found through `minihv.engine.select`."""

    def heading(self) -> str:
        """Who executes the guest, in a line."""
        ...

    def tell(self, step: Step, exits: tuple[SiteExits, ...]) -> list[str]:
        """What this engine did with `step`, in lines; `exits` are those the instruction made on it."""
        ...

    def exit_name(self, name: str) -> str:
        """What this engine, or the hardware below it, calls the exit with this canonical name."""
        ...
