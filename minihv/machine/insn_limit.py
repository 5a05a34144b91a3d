"""--max-insns: the machine ends after so many instructions of all its vCPUs, exactly."""

from collections.abc import Callable

from minihv.exits import BudgetSpent, Exit
from minihv.interfaces import Engine, Vcpu
from minihv.machine.build import Parts
from minihv.machine.outcome import outcome
from minihv.machine.recorders import Recorder
from minihv.machine.tap import Tap, must_count


class InsnLimit(Recorder):
    """Puts a limit on every vCPU. Raises UsageError for an engine that does not count."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def prepare(self, parts: Parts) -> None:
        def left() -> int:
            return self._limit - sum(loop.instructions for loop in parts.loops)

        def tap(engine: Engine, vcpu: Vcpu) -> Vcpu:
            must_count(engine, "--max-insns")
            return LimitedVcpu(vcpu, left, lambda: parts.stop(outcome("max-insns")))

        parts.tap(tap)


class LimitedVcpu(Tap):
    """Runs until nothing is `left`, and calls `stop` then."""

    def __init__(self, inner: Vcpu, left: Callable[[], int], stop: Callable[[], None]) -> None:
        super().__init__(inner)
        self._left = left
        self._stop = stop

    def run(self, budget: int | None = None) -> Exit:
        left = self._left()
        exit = super().run(left if budget is None else min(budget, left))
        if isinstance(exit, BudgetSpent) and self._left() <= 0:
            self._stop()
        return exit
