"""Ending a machine: the first reason wins, and everybody is told."""

from collections.abc import Callable
from itertools import count

from minihv.machine.outcome import Outcome


class Pause:
    """Set while the vCPUs shall come to rest without the machine having ended: for a change of engines."""

    def __init__(self) -> None:
        self.requested = False


class Stop:
    """Call it from any thread, a device's handler included. `outcome` is None while the machine runs."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        # Taking the next number is atomic; a lock could be held by the very thread a signal handler runs on.
        self._turns = count()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called once, on the stopping thread: kick a vCPU, wake the supervisor."""
        self._listeners.append(wake)

    def __call__(self, outcome: Outcome) -> None:
        if next(self._turns):
            return
        self.outcome = outcome
        for wake in self._listeners:
            wake()
