"""Finding out that nothing will ever happen again: every CPU asleep with nobody left to wake it.

Where HLT comes back to the VMM (`Halt`), a CPU is parked for good. Where the engine's own LAPIC keeps it
asleep, `Engine.poll` asks the sleepers, and they answer `Idle`. One round of answers is not enough, because
a CPU may have been woken between its answer and another's; two rounds in a row with everybody idle are.
"""

import threading

ROUNDS = 2


class IdleRounds:
    """Collects the answers of `cpus` vCPUs; all methods may be called from any thread."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._lock = threading.Lock()
        self._idle: set[int] = set()
        self._parked: set[int] = set()
        self._full_rounds = 0

    def reset(self) -> None:
        """Everybody is about to run again."""
        with self._lock:
            self._idle.clear()
            self._parked.clear()
            self._full_rounds = 0

    def begin(self) -> None:
        """A new round: the supervisor is about to poll."""
        with self._lock:
            if len(self._idle | self._parked) < self._cpus:
                self._full_rounds = 0
            self._idle.clear()

    def report(self, index: int) -> bool:
        """vCPU `index` is idle in this round. True when that makes enough full rounds."""
        with self._lock:
            if index in self._idle:
                return False
            self._idle.add(index)
            if len(self._idle | self._parked) < self._cpus:
                return False
            self._full_rounds += 1
            return self._full_rounds >= ROUNDS

    def park(self, index: int) -> bool:
        """vCPU `index` will not run any more. True when it was the last one."""
        with self._lock:
            self._parked.add(index)
            return len(self._parked) == self._cpus
