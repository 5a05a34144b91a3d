"""Ending a machine: the first reason wins, and everybody is told."""

import threading
from collections.abc import Callable

from minihv.machine.outcome import Outcome


class Stop:
    """Call it from any thread, a device's handler included. `outcome` is None while the machine runs."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called once, on the stopping thread: kick a vCPU, wake the supervisor."""
        self._listeners.append(wake)

    def __call__(self, outcome: Outcome) -> None:
        with self._lock:
            if self.outcome is not None:
                return
            self.outcome = outcome
        for wake in self._listeners:
            wake()
