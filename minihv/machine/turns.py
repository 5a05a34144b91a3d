"""vCPUs of a software engine, one after the other on one thread, with the timers between them."""

import threading
from collections.abc import Sequence

from minihv.machine.board import Board
from minihv.machine.clock import InstructionClock, MachineClock
from minihv.machine.loop import VcpuLoop
from minihv.machine.outcome import outcome
from minihv.machine.stop import Pause, Stop

TURN = 2000
"""Instructions of one turn: about 2 ms of a Python interpreter, so timers come no later than that."""
SHORT_TURN = 250
"""While vCPUs send each other interrupts: whoever spins for the answer, without a PAUSE, spins less long."""
LIVELY_ROUNDS = 16
"""Rounds of short turns after an interprocessor interrupt."""
QUIET_DEADLINES = 4
"""While every vCPU sleeps with interrupts off only an NMI could wake one; so many timers may bring it."""
LONGEST_SLEEP_NS = 50_000_000
"""While everybody sleeps, timers are looked at this often: input may have set one."""


class Turns:
    """Runs `loops` in turn until the machine stops."""

    def __init__(
        self, loops: Sequence[VcpuLoop], board: Board, clock: MachineClock, stop: Stop, pause: Pause
    ) -> None:
        self._loops = loops
        self._board = board
        self._clock = clock
        self._stop = stop
        self._pause = pause
        self._woken = threading.Event()
        self._lively = 0
        self._quiet: set[int] = set()
        """Deadlines that were waited for since everybody sleeps with interrupts off."""

    def wake(self) -> None:
        """From any thread: something happened that may wake a sleeping vCPU, or the machine stops."""
        self._woken.set()

    def run(self) -> None:
        """Until the machine has an outcome, or shall pause."""
        while self._stop.outcome is None and not self._pause.requested:
            if not self._a_round():
                self._sleep()

    def _a_round(self) -> bool:
        """One turn for every vCPU that is awake. False when none was."""
        anybody = False
        for loop in self._loops:
            self._tick()
            if not loop.asleep:
                anybody = True
                self._quiet.clear()
                kicks = loop.stats.kicks
                loop.run(self._budget())
                if loop.stats.kicks != kicks:
                    self._lively = LIVELY_ROUNDS
        self._lively = max(self._lively - 1, 0)
        return anybody

    def _tick(self) -> None:
        due = self._board.next_deadline()
        if due is not None and due <= (now := self._clock()):
            self._board.tick(now)

    def _budget(self) -> int:
        """With counted time a turn ends exactly where a timer falls due."""
        turn = SHORT_TURN if self._lively and len(self._loops) > 1 else TURN
        if isinstance(self._clock, InstructionClock) and (due := self._board.next_deadline()) is not None:
            return min(turn, self._clock.instructions(due))
        return turn

    def _sleep(self) -> None:
        """Nobody is awake: until the next timer, or until somebody calls `wake`; or for ever."""
        due = self._board.next_deadline()
        if any(loop.wakeable for loop in self._loops):
            self._quiet.clear()
        elif due is None or len(self._quiet | {due}) > QUIET_DEADLINES:
            self._stop(outcome("halted"))
            return
        else:
            self._quiet.add(due)
        wait = LONGEST_SLEEP_NS if due is None else min(self._clock.until(due), LONGEST_SLEEP_NS)
        if wait and self._woken.wait(wait / 1e9):
            self._woken.clear()
