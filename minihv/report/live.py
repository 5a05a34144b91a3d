"""What `minihv top` shows, as pure functions of two samples of the counters."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from minihv.report.escape import visible

SPARKS = " ▁▂▃▄▅▆▇█"
SORTS = ("rate", "total", "time")
"""What the tables can be sorted by."""


class SiteCount(NamedTuple):
    """One site so far: exits and ns of handling."""

    key: int
    name: str
    detail: str
    where: str
    exits: int
    sum_ns: int


class Sample(NamedTuple):
    """The counters at one moment. `at_ns` is host time since the start; `vmm_ns` of each vCPU."""

    at_ns: int
    sites: tuple[SiteCount, ...]
    vmm_ns: tuple[int, ...]
    console: bytes = b""

    @property
    def total(self) -> int:
        return sum(site.exits for site in self.sites)


class Row(NamedTuple):
    """A line of a table: exits a second in the window, exits and ns of handling since the start."""

    name: str
    detail: str
    where: str
    rate: float
    exits: int
    sum_ns: int

    @property
    def mean_us(self) -> float:
        return self.sum_ns / self.exits / 1000 if self.exits else 0.0


class View(NamedTuple):
    """What happened between two samples. `shares` is the VMM's part (0..1) of each vCPU's time."""

    seconds: float
    rate: float
    total: int
    kinds: tuple[Row, ...]
    sites: tuple[Row, ...]
    shares: tuple[float, ...]


EMPTY = Sample(0, (), ())


def view(before: Sample, now: Sample, sort: str = "rate") -> View:
    """From the start where `before` is EMPTY."""
    elapsed = max(now.at_ns - before.at_ns, 1)
    seconds = elapsed / 1e9
    old = {site.key: site for site in before.sites}
    sites: list[Row] = []
    kinds: dict[str, Row] = {}
    for site in now.sites:
        fresh = site.exits - (old[site.key].exits if site.key in old else 0)
        sites.append(Row(site.name, site.detail, site.where, fresh / seconds, site.exits, site.sum_ns))
        kind = kinds.get(site.name, Row(site.name, "", "", 0.0, 0, 0))
        kinds[site.name] = kind._replace(
            rate=kind.rate + fresh / seconds, exits=kind.exits + site.exits, sum_ns=kind.sum_ns + site.sum_ns
        )
    earlier = before.vmm_ns or (0,) * len(now.vmm_ns)
    shares = (min((new - past) / elapsed, 1.0) for new, past in zip(now.vmm_ns, earlier, strict=True))
    return View(
        seconds=now.at_ns / 1e9,
        rate=sum(kind.rate for kind in kinds.values()),
        total=now.total,
        kinds=ordered(list(kinds.values()), sort),
        sites=ordered(sites, sort),
        shares=tuple(shares),
    )


def ordered(rows: Sequence[Row], sort: str) -> tuple[Row, ...]:
    """The largest first by one of SORTS; ties by the totals, then by name."""
    keys: Mapping[str, int] = {"rate": 3, "total": 4, "time": 5}
    return tuple(sorted(rows, key=lambda row: (-row[keys[sort]], -row.exits, row.name, row.detail)))  # type: ignore[operator]


def spark(values: Sequence[float]) -> str:
    """A line of blocks, the highest value as the highest block; nothing at all is blank."""
    top = max(values, default=0)
    if top <= 0:
        return " " * len(values)
    steps = len(SPARKS) - 1
    return "".join(SPARKS[0 if v <= 0 else max(1, round(v / top * steps))] for v in values)


def bar(share: float, width: int) -> str:
    """ "####......": the share 0..1 of `width` places."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "#" * full + "." * (width - full)


def per_second(rate: float) -> str:
    """ "12", "1.2k", "3.4M"."""
    for limit, divisor, unit in ((1e3, 1, ""), (1e6, 1e3, "k")):
        if rate < limit:
            return f"{rate / divisor:.0f}{unit}" if divisor == 1 else f"{rate / divisor:.1f}{unit}"
    return f"{rate / 1e6:.1f}M"


def line(found: View) -> str:
    """One line for a log: exits a second and by kind, the VMM's share, the hottest site."""
    kinds = " ".join(f"{row.name} {per_second(row.rate)}" for row in found.kinds if row.rate) or "none"
    shares = sum(found.shares) / len(found.shares) if found.shares else 0.0
    text = (
        f"{found.seconds:8.2f}s {per_second(found.rate):>7} exits/s ({kinds}), {found.total} so far, "
        f"VMM {100 * shares:.0f} %"
    )
    hottest = next((row for row in found.sites if row.rate), None)
    if hottest is not None:
        text += f", hottest: {hottest.name} {visible(hottest.detail)} at {visible(hottest.where)}"
    return text


def console_tail(data: bytes, lines: int, width: int) -> list[str]:
    """The last lines of a console, each cut to `width`, with nothing in them that a terminal would obey."""
    text = data[-lines * max(width, 80) * 4 :].decode("utf-8", "replace").replace("\r\n", "\n")
    shown = [visible(part.expandtabs(8))[:width] for part in text.removesuffix("\n").split("\n")]
    return shown[-lines:]
