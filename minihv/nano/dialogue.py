"""What is said between the measuring side and the guest: numbers through a port, lines on the console."""

import time
from collections.abc import Callable, Generator

from minihv.nano.measure import Goal, Measured, Timing, measure
from minihv.nano.rows import Row

COMMAND_PORT = 0x6F0
"""Where the guest asks what to do, four bytes at once: a row's number (0: end), then how often."""
END = 0
MAX_LINE = 256


class Dialogue:
    """Measures one row: the answer to the guest's questions, and the sink of its console."""

    def __init__(self, row: Row, goal: Goal, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.row = row
        self.measured: Measured | None = None
        self.refusal = ""
        """Why the guest could not do it, in its words."""
        self._clock = clock
        self._method: Generator[int, Timing, Measured] = measure(goal)
        self._count = next(self._method)
        self._asked_for_row = False
        self._asked_ns = 0
        self._line = bytearray()

    @property
    def over(self) -> bool:
        """Nothing more to ask for."""
        return self.measured is not None or bool(self.refusal)

    def command(self) -> int:
        """The next number for the guest: by turns the row and how often."""
        now = self._clock()
        if self.over:
            return END
        self._asked_for_row = not self._asked_for_row
        self._asked_ns = now  # the guest looked at its clock just before, too
        return self.row.number if self._asked_for_row else self._count

    def write(self, data: bytes, /) -> None:
        """Console output; a whole line is an answer."""
        for byte in data:
            if byte != 10:
                self._line.append(byte)
                if len(self._line) > MAX_LINE:
                    raise ValueError(f"expected a line of results, found {bytes(self._line[:40])!r}...")
                continue
            line, self._line = self._line.decode("ascii", "replace"), bytearray()
            self._take(line)

    def _take(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name != self.row.name:
            raise ValueError(f"expected a result of {self.row.name}, found {line!r}")
        if rest.startswith("! "):
            self.refusal = rest[2:]
            return
        answer = parse(f"{rest} {self._asked_ns}")
        if answer is None or answer.count != self._count:
            raise ValueError(f"expected {self._count} operations and three counters, found {line!r}")
        try:
            self._count = self._method.send(answer)
        except StopIteration as end:
            self.measured = end.value


def parse(words: str) -> Timing | None:
    """ "count ticks empty now host_ns" -> a timing; None for anything else."""
    numbers = words.split(" ")
    if len(numbers) != 5 or not all(number.isascii() and number.isdecimal() for number in numbers):
        return None
    timing = Timing(*map(int, numbers))
    return timing if timing.count else None
