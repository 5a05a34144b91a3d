"""--budget: limits on a run's exits and times, checked after it. A broken one is named with its hot sites."""

from typing import NamedTuple

from minihv.errors import UsageError
from minihv.report.model import Exits, Report
from minihv.stats import EXIT_NAMES

TIMES = ("p50", "p90", "p99", "max", "average")
TOTALS = ("exits", "wall", "instructions")
UNITS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
TOP_SITES = 3
FORM = (
    f"expected budgets such as io=200,mmio=0,p99=50us,io.p99=1ms,wall=2s; known are {', '.join(EXIT_NAMES)}, "
    f"{', '.join(TOTALS)}, and {', '.join(TIMES)} of handling, alone or after a kind and a point"
)


class Budget(NamedTuple):
    """One limit: at most `limit` exits, instructions or ns. `kind` "" is all exits together."""

    text: str
    kind: str
    what: str
    limit: float


class Broken(NamedTuple):
    """A budget that did not hold, and what was found instead."""

    budget: Budget
    found: str
    sites: tuple[str, ...]

    def __str__(self) -> str:
        hot = f"; hottest: {', '.join(self.sites)}" if self.sites else ""
        return f"budget {self.budget.text} is broken: {self.found}{hot}"


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """ "io=200,p99=50us" -> budgets. Raises UsageError."""
    return tuple(_parse(part.strip()) for part in text.split(","))


def _parse(part: str) -> Budget:
    name, equals, value = (word.strip() for word in part.partition("="))
    kind, point, what = name.rpartition(".")
    is_time = what in TIMES or name == "wall"
    if (
        not equals
        or (point and (kind not in EXIT_NAMES or what not in TIMES))
        or (not point and name not in EXIT_NAMES and name not in TOTALS and name not in TIMES)
    ):
        raise UsageError(f"{FORM}; found {part!r}")
    limit = _time(value) if is_time else _whole(value)
    if limit is None:
        unit = "a time such as 50us or 2ms" if is_time else "a whole number"
        raise UsageError(f"expected {unit} for the budget {name}, found {value!r}")
    return Budget(
        part, kind if point else name if name in EXIT_NAMES else "", what if is_time else name, limit
    )


def _whole(value: str) -> float | None:
    return float(value) if value.isascii() and value.isdecimal() and len(value) < 19 else None


def _time(value: str) -> float | None:
    """ "50us" -> ns."""
    digits = value.rstrip("nuµms")
    unit = UNITS.get(value[len(digits) :])
    if unit is None or digits.count(".") > 1 or not digits.replace(".", "0").isascii():
        return None
    return float(digits) * unit if digits.replace(".", "").isdecimal() and len(digits) < 19 else None


def check(report: Report, budgets: tuple[Budget, ...]) -> tuple[Broken, ...]:
    """The budgets that the run broke, in the order given."""
    return tuple(broken for budget in budgets if (broken := _check(report, budget)) is not None)


def _check(report: Report, budget: Budget) -> Broken | None:
    exits = report.exits.where(name=budget.kind) if budget.kind else report.exits
    found, words = _measure(report, exits, budget)
    if found <= budget.limit:
        return None
    slow = budget.what in TIMES
    return Broken(budget, words, () if budget.what in ("wall", "instructions") else _hottest(exits, slow))


def _measure(report: Report, exits: Exits, budget: Budget) -> tuple[float, str]:
    what = budget.what
    if what == "wall":
        return report.wall_ns, f"{report.wall_ns / 1e6:.1f} ms"
    if what == "instructions":
        number = sum(v.instructions for v in report.vcpus)
        return number, f"{number} instructions"
    if what in TIMES:
        ns = {
            "max": exits.max_ns,
            "average": exits.sum_ns / exits.total if exits else 0,
            "p50": exits.percentile(0.5),
            "p90": exits.percentile(0.9),
            "p99": exits.percentile(0.99),
        }[what]
        return ns, f"{what} is {ns / 1000:.1f} us"
    return exits.total, f"{exits.total} {budget.kind or 'exits'}{' exits' if budget.kind else ''}"


def _hottest(exits: Exits, slow: bool) -> tuple[str, ...]:
    """The sites with the most exits, or, for a budget of time, with the longest average."""
    sites = exits.sites
    if slow:
        sites = tuple(sorted(sites, key=lambda item: -item[0].sum_ns / max(item[0].count, 1)))
    words = []
    for site, e in sites[:TOP_SITES]:
        where = site.symbol or f"{site.address:#x}"
        source = f" ({site.source})" if site.source else ""
        number = f"{site.sum_ns / max(site.count, 1) / 1000:.1f} us each" if slow else f"{site.count}"
        words.append(f"{e.name} {e.detail}".strip() + f" at {where}{source}: {number}")
    return tuple(words)
