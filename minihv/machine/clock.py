"""Guest time for engines whose interrupt controllers and timers are models: real, or counted instructions.

With counted instructions a run is a function of the guest alone: two runs give the same console and the
same exits at the same instruction counts, however busy the host is.
"""

import time
from collections.abc import Callable

NS_PER_INSTRUCTION = 100
"""Ten million instructions a second: near enough to what an interpreter does that delay loops end, far
enough that a timer tick has room for its handler."""
TSC_HZ = 1_000_000_000


class RealClock:
    """The host's monotonic clock in ns: the one that KVM's own timers count in, too."""

    counted = False

    def __call__(self) -> int:
        return time.monotonic_ns()

    def until(self, due: int) -> int:
        """ns of host time to wait until guest time `due`."""
        return max(due - self(), 0)


class InstructionClock:
    """NS_PER_INSTRUCTION for each instruction of any vCPU; idle time is skipped, not waited for."""

    counted = True

    def __init__(self) -> None:
        self._skipped = 0
        self.executed: Callable[[], int] = lambda: 0
        """Sum of the vCPUs' instruction counts; set when there are vCPUs."""

    def __call__(self) -> int:
        return self.executed() * NS_PER_INSTRUCTION + self._skipped

    def until(self, due: int) -> int:
        """Everybody sleeps until `due`: it is `due` now."""
        self._skipped += max(due - self(), 0)
        return 0

    def instructions(self, due: int) -> int:
        """How many instructions until guest time `due`; at least one."""
        return max(-(-(due - self()) // NS_PER_INSTRUCTION), 1)


MachineClock = RealClock | InstructionClock
