"""Statistics on a handful of measurements, and the order in which they are taken."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Series:
    """Measurements of one quantity, in the order taken. Raises ValueError for none at all."""

    label: str
    unit: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"expected at least one measurement of {self.label}, found none")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def spread(self) -> float:
        """(highest - lowest) / median: 0.1 means that the measurements are within 10 % of each other."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "label": self.label,
            "unit": self.unit,
            "values": list(self.values),
            "median": self.median,
            "min": self.low,
            "max": self.high,
            "spread": self.spread,
        }


def ratio(label: str, over: Series, under: Series) -> Series:
    """`over` / `under`, round by round: what both suffered in a round (a busy host) cancels out.

    Raises ValueError where the two were not taken in the same rounds.
    """
    return Series(label, "x", tuple(a / b for a, b in _pairs(over, under)))


def difference(label: str, more: Series, less: Series) -> Series:
    """`more` - `less`, round by round. Raises ValueError as `ratio` does."""
    return Series(label, more.unit, tuple(a - b for a, b in _pairs(more, less)))


def _pairs(one: Series, other: Series) -> list[tuple[float, float]]:
    if len(one.values) != len(other.values):
        raise ValueError(
            f"expected as many measurements of {one.label} as of {other.label}, "
            f"found {len(one.values)} and {len(other.values)}"
        )
    return list(zip(one.values, other.values, strict=True))


def interleave(
    rounds: int, contestants: Mapping[str, Callable[[], T]], warm_up: bool = True
) -> dict[str, list[T]]:
    """Measure A B C A B C ...: whatever the host does meanwhile, it does to all of them.

    With `warm_up` each runs once before, uncounted (page cache, byte code, frequency).
    """
    if warm_up:
        for measure in contestants.values():
            measure()
    taken: dict[str, list[T]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            taken[name].append(measure())
    return taken


def series(label: str, unit: str, values: Sequence[float], scale: float = 1.0) -> Series:
    """A Series of `values`, each multiplied by `scale` (to convert units)."""
    return Series(label, unit, tuple(value * scale for value in values))
