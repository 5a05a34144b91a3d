"""Between a loop and its vCPU: what has to see every instruction, and not only every exit.

A run without a tap has nothing in between and pays nothing. Taps are put on anew when the guest hops to
another engine.
"""

from minihv.errors import UsageError
from minihv.exits import Exit
from minihv.interfaces import Engine, Site, Vcpu, Watchpoint
from minihv.x86.state import CpuState


def must_count(engine: Engine, option: str) -> None:
    """Raises UsageError where `engine` does not count instructions, which `option` needs."""
    if not engine.traits.counts_instructions:
        raise UsageError(
            f"expected an engine that counts instructions for {option}, found {engine.name}; "
            "use --engine interpret"
        )


class Tap:
    """A `Vcpu` that passes everything on to `inner`. Base class."""

    def __init__(self, inner: Vcpu) -> None:
        self.inner = inner
        self.index = inner.index
        self.left_ns = inner.left_ns

    @property
    def instructions(self) -> int:
        return self.inner.instructions

    @property
    def asleep(self) -> bool:
        """See `interfaces.TurnVcpu`; False for vCPUs that do not take turns."""
        return bool(getattr(self.inner, "asleep", False))

    def attach_thread(self) -> None:
        self.inner.attach_thread()

    def detach_thread(self) -> None:
        self.inner.detach_thread()

    def run(self, budget: int | None = None) -> Exit:
        exit = self.inner.run(budget)
        self.left_ns = self.inner.left_ns
        return exit

    def complete(self, data: bytes) -> None:
        self.inner.complete(data)

    def finish(self) -> Exit | None:
        exit = self.inner.finish()
        self.left_ns = self.inner.left_ns
        return exit

    def kick(self) -> None:
        self.inner.kick()

    def get_state(self) -> CpuState:
        return self.inner.get_state()

    def set_state(self, state: CpuState) -> None:
        self.inner.set_state(state)

    def site(self, exit: Exit, /) -> Site:
        return self.inner.site(exit)

    def debug(
        self,
        single_step: bool,
        breakpoints: tuple[int, ...] = (),
        watchpoints: tuple[Watchpoint, ...] = (),
    ) -> None:
        self.inner.debug(single_step, breakpoints, watchpoints)

    def close(self) -> None:
        self.inner.close()
