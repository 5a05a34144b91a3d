"""Numbers as a person reads them, with units."""

from collections.abc import Callable
from math import ceil, floor, log10

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def duration(ns: float) -> str:
    """12.3 µs: three significant digits and a unit."""
    for size, unit in _TIMES:
        if abs(ns) >= size:
            return f"{_three(ns / size)} {unit}"
    return f"{_three(ns)} ns"


def count(value: float) -> str:
    """1,234,567: exact."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """1.5 k, 20 M: for axes."""
    for size, unit in _COUNTS:
        if abs(value) >= size:
            return f"{_three(value / size)} {unit}"
    return _three(value)


def percent(part: float, whole: float) -> str:
    """12.3%."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def nice_ticks(top: float, wanted: int) -> list[float]:
    """0, step, 2 step ... up to `top`; a step is 1, 2 or 5 times a power of ten. At most `wanted` steps."""
    if top <= 0:
        return [0.0]
    step = 10.0 ** floor(log10(top / wanted))
    for factor in (1, 2, 5, 10):
        if top / (step * factor) <= wanted:
            step *= factor
            break
    return [step * i for i in range(int(top / step + 1e-9) + 1)]


def time_axis(top_ns: float, wanted: int) -> tuple[list[float], Callable[[float], str], str]:
    """(ticks in ns, tick -> label without unit, the unit) for an axis from 0 to `top_ns`."""
    size, unit = next(((s, u) for s, u in _TIMES if top_ns >= s), _TIMES[-1])
    ticks = [tick * size for tick in nice_ticks(top_ns / size, wanted)]
    return ticks, lambda ns: f"{ns / size:g}", unit


def log_ticks(low_ns: float, high_ns: float) -> list[int]:
    """The powers of ten from `low_ns` to `high_ns`, both above 0."""
    return [10**n for n in range(ceil(log10(low_ns)), floor(log10(high_ns)) + 1)]


def _three(value: float) -> str:
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"
