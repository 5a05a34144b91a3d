"""The method: double the count until the time passes a goal, subtract the empty loop, repeat, median.

Whoever runs the loops (a guest, a process) is asked through a generator: it yields how often to run the
operation and is sent what that took. So all subjects are measured by the same code, and a test needs none.
"""

from collections.abc import Generator
from statistics import median
from typing import NamedTuple

MOST = 1 << 30
"""Never more operations than this at once: the guest counts in 32 bits."""
LEAST_ROUNDS = 3
"""Rounds that are finished even where the time is up."""


class Timing(NamedTuple):
    """One answer: ticks of the loop with the operation and of the one without, and the subject's clock.

    `now` is its time-stamp counter and `host_ns` the host's clock (`time.perf_counter_ns`) at one moment.
    """

    count: int  # type: ignore[assignment]  # a field, not tuple.count
    ticks: int
    empty: int
    now: int
    host_ns: int


class Goal(NamedTuple):
    """How long and how often to measure; times in ns of host time."""

    loop_ns: int
    rounds: int
    row_ns: int
    """After this time a row is content with the rounds it has, and does not double any more."""


class Measured(NamedTuple):
    """What came out for one row and subject, in the subject's ticks."""

    count: int  # type: ignore[assignment]  # a field, not tuple.count
    """Operations in each round."""
    rounds: tuple[float, ...]
    """Ticks an operation, one value a round."""
    tick_hz: float
    """Ticks a second, by the host's clock."""
    operations: int
    """How many were executed in all."""


def measure(goal: Goal) -> Generator[int, Timing, Measured]:
    """Ask for loops until the goal is reached, then for `goal.rounds` more.

    One slow answer is no proof: it may be the first run, with everything cold. Two in a row are.
    """
    count, slow = 1, 0
    timing = first = yield count
    operations = count
    while slow < 2:
        timing = yield count
        operations += count
        late = timing.host_ns - first.host_ns >= goal.row_ns
        reached = timing.ticks >= goal.loop_ns * _rate(first, timing)
        slow = slow + 1 if reached else 0
        if not reached and (late or count >= MOST):
            break
        if not reached:
            count *= 2
    rounds: list[Timing] = []
    while len(rounds) < goal.rounds:
        timing = yield count
        operations += count
        rounds.append(timing)
        if len(rounds) >= LEAST_ROUNDS and timing.host_ns - first.host_ns >= goal.row_ns:
            break
    empty = median(timing.empty for timing in rounds)
    each = tuple((timing.ticks - empty) / count for timing in rounds)
    return Measured(count, each, _rate(first, timing) * 1e9, operations)


def _rate(first: Timing, last: Timing) -> float:
    """Ticks a ns: the subject's clock against the host's."""
    return (last.now - first.now) / max(last.host_ns - first.host_ns, 1)


class Spread(NamedTuple):
    """A sample, summed up."""

    median: float
    mad: float
    """Median absolute deviation from the median: what one outlier does not move."""
    least: float
    most: float


def spread(values: tuple[float, ...]) -> Spread:
    """Of one value or more."""
    middle = median(values)
    return Spread(middle, median(abs(value - middle) for value in values), min(values), max(values))
