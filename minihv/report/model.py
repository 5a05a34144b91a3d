"""The report of one run: plain frozen data, and its JSON form ("minihv.report/1").

    schema           "minihv.report/1"
    engine           name of the engine that ran the guest
    host             kvm (kind), cpu, kernel, python
    guest            name, format, memory (bytes), cpus, board, irqchip, cmdline
    outcome          reason, status, detail
    wall_ns          from the first vCPU's start to the last one's end
    vcpus[]          index, exits, kicks, guest_ns, vmm_ns, instructions
    exits[]          name, detail, direction, address, size, register, count,
                     time_ns {sum, min, max, p50, p99, histogram}, sites[]
    exits[].sites[]  address (linear), symbol, count, sum_ns, source ("file.c:12", where known)
    kernel_counters  the engine's own counters: what they grew by during the run
    autopsy          text after a crash, else ""
    passed_over[]    engines that "auto" tried before, with the reason
    command          the command line that gave this report, or ""
    timeline         null, or bucket_ns and exits {name: [count for each bucket of time]}
    kernel_exits     null, or what the kernel says of its own exits: source, note, total, recorded, lost,
                     reasons[] {name, count, to_user, sites[] {address, symbol, count}}

All times are ns of host time; a histogram's bucket b counts handling times in [2**(b-1), 2**b) ns.
Keys may be added to a version; a reader ignores those it does not know (`minihv.report.read`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

from minihv.stats import BUCKETS, Counter, percentile

SCHEMA = "minihv.report/1"

SIZE_WORDS = {1: "byte", 2: "word", 4: "dword", 8: "qword"}


class SiteReport(NamedTuple):
    """Exits of one kind from one instruction."""

    address: int
    symbol: str
    count: int  # type: ignore[assignment]  # a field, not tuple.count
    sum_ns: int
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class ExitReport(NamedTuple):
    """Exits of one kind: the same name, direction, address, size and register."""

    name: str
    direction: str
    address: int | None
    size: int
    register: str
    count: int  # type: ignore[assignment]  # a field, not tuple.count
    sum_ns: int
    min_ns: int
    max_ns: int
    histogram: tuple[int, ...]
    sites: tuple[SiteReport, ...]

    @property
    def kind(self) -> tuple[str, str, int | None, int, str]:
        """What tells it from the other exits of a report."""
        return self[:5]

    @property
    def device(self) -> str:
        """ "serial" of "serial.THR"; empty where the exit went to no device."""
        return self.register.partition(".")[0]

    @property
    def detail(self) -> str:
        """In words: "out 0x3f8 byte serial.THR"; empty for exits without details."""
        parts = [self.direction]
        if self.address is not None:
            parts.append(f"{self.address:#x}")
        if self.size:
            parts.append(SIZE_WORDS.get(self.size, f"{self.size} bytes"))
        parts.append(self.register)
        return " ".join(part for part in parts if part)

    def percentile(self, share: float) -> int:
        """Upper bound in ns of the bucket with that quantile (0..1), never above the maximum."""
        return min(percentile(list(self.histogram), share), self.max_ns)

    def to_dict(self) -> dict[str, Any]:
        last = max((b for b, n in enumerate(self.histogram) if n), default=-1)
        return {
            "name": self.name,
            "detail": self.detail,
            "direction": self.direction,
            "address": self.address,
            "size": self.size,
            "register": self.register,
            "count": self.count,
            "time_ns": {
                "sum": self.sum_ns,
                "min": self.min_ns,
                "max": self.max_ns,
                "p50": self.percentile(0.5),
                "p99": self.percentile(0.99),
                "histogram": list(self.histogram[: last + 1]),
            },
            "sites": [site.to_dict() for site in self.sites],
        }


class Exits(tuple[ExitReport, ...]):
    """The exits of a report: a tuple that filters, groups and adds up.

    report.exits.where(name="io").by("register") -> {"serial.THR": Exits, ...}
    """

    __slots__ = ()

    def where(self, **fields: object) -> "Exits":
        """Those whose fields or properties (name, direction, address, size, register, device, detail) equal
        the given ones; a value that can be called is asked instead: `address=lambda a: a in COM1`."""

        def fits(e: ExitReport) -> bool:
            return all(
                wanted(getattr(e, key)) if callable(wanted) else getattr(e, key) == wanted
                for key, wanted in fields.items()
            )

        return Exits(e for e in self if fits(e))

    def by(self, field: str) -> "dict[Any, Exits]":
        """Grouped by one field or property, the group with the most exits first."""
        groups: dict[Any, list[ExitReport]] = {}
        for e in self:
            groups.setdefault(getattr(e, field), []).append(e)
        found = [(value, Exits(group)) for value, group in groups.items()]
        return dict(sorted(found, key=lambda item: -item[1].total))

    @property
    def total(self) -> int:
        """Number of exits."""
        return sum(e.count for e in self)

    @property
    def sum_ns(self) -> int:
        """Handling time of all of them."""
        return sum(e.sum_ns for e in self)

    @property
    def min_ns(self) -> int:
        """The shortest handling time; 0 where there are no exits."""
        return min((e.min_ns for e in self), default=0)

    @property
    def max_ns(self) -> int:
        """The longest handling time; 0 where there are no exits."""
        return max((e.max_ns for e in self), default=0)

    @property
    def histogram(self) -> tuple[int, ...]:
        """Handling times of all of them, in buckets."""
        return tuple(map(sum, zip(*(e.histogram for e in self), strict=True))) or (0,) * BUCKETS

    def percentile(self, share: float) -> int:
        """Upper bound in ns of the bucket with that quantile (0..1), never above the maximum."""
        return min(percentile(list(self.histogram), share), self.max_ns)

    @property
    def sites(self) -> tuple[tuple[SiteReport, ExitReport], ...]:
        """Every site with the exit it belongs to, the hottest first."""
        found = [(site, e) for e in self for site in e.sites]
        return tuple(sorted(found, key=lambda item: (-item[0].count, item[0].address, item[1].name)))


class VcpuReport(NamedTuple):
    """One vCPU's sums. `guest_ns`: inside the engine; `vmm_ns`: in minihv's handlers."""

    index: int  # type: ignore[assignment]  # a field, not tuple.index
    exits: int
    kicks: int
    guest_ns: int
    vmm_ns: int
    instructions: int

    def to_dict(self) -> dict[str, int]:
        return self._asdict()


class Timeline(NamedTuple):
    """Exits over time, from the start of the vCPUs on: `exits[name][i]` of them were handled in
    [i * bucket_ns, (i + 1) * bucket_ns). All rows are equally long."""

    bucket_ns: int
    exits: Mapping[str, tuple[int, ...]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "bucket_ns": self.bucket_ns,
            "exits": {name: list(counts) for name, counts in self.exits.items()},
        }


class KernelSite(NamedTuple):
    """Exits for one of the kernel's reasons at one RIP (offset in CS; linear for flat code)."""

    address: int
    symbol: str
    count: int  # type: ignore[assignment]  # a field, not tuple.count

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class KernelReason(NamedTuple):
    """Exits for one of the kernel's own reasons; `to_user` of them went on to user space."""

    name: str
    count: int  # type: ignore[assignment]  # a field, not tuple.count
    to_user: int
    sites: tuple[KernelSite, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "sites": [site.to_dict() for site in self.sites]}


class KernelExits(NamedTuple):
    """The kernel's own exits. `total` were counted, `recorded` seen one by one, `lost` overwritten before
    they could be read. `note` says what could not be seen, and what would show it; else ""."""

    source: str
    note: str
    total: int
    recorded: int
    lost: int
    reasons: tuple[KernelReason, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "reasons": [reason.to_dict() for reason in self.reasons]}


class OutcomeReport(NamedTuple):
    """How the run ended; `reason` as in `minihv.machine.outcome.REASONS`."""

    reason: str
    status: int
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "status": self.status, "detail": self.detail}


class _Fields(NamedTuple):
    """The fields of Report."""

    engine: str
    host: Mapping[str, str]
    guest: Mapping[str, Any]
    outcome: OutcomeReport
    wall_ns: int
    vcpus: tuple[VcpuReport, ...]
    exits: Exits
    kernel_counters: Mapping[str, int]
    autopsy: str = ""
    passed_over: tuple[str, ...] = ()
    """With engine "auto": "name: why it cannot work here" for each engine tried before."""
    command: str = ""
    timeline: Timeline | None = None
    kernel_exits: KernelExits | None = None


class Report(_Fields):
    """Everything about one run: frozen, made of plain data. `exits` may be given as any iterable."""

    __slots__ = ()

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        self = super().__new__(cls, *args, **fields)
        return self if isinstance(self.exits, Exits) else self._replace(exits=Exits(self.exits))

    @classmethod
    def _make(cls, fields: Iterable[Any]) -> Self:  # type: ignore[override]  # its name for the argument
        """What `_replace` makes its copies with."""
        return cls(*fields)

    @property
    def total_exits(self) -> int:
        """Exits of all kinds and vCPUs."""
        return self.exits.total

    def count(self, name: str, **details: object) -> int:
        """Exits named `name` whose fields (direction, address, size, register) equal `details`."""
        return self.exits.where(name=name, **details).total

    def with_symbols(
        self, symbol: Callable[[int], str], source: Callable[[int], str] = lambda address: ""
    ) -> "Report":
        """A copy whose sites carry `symbol(address)` ("name+0x4" or "") and `source(address)` ("a.c:7")."""
        exits = Exits(
            e._replace(
                sites=tuple(s._replace(symbol=symbol(s.address), source=source(s.address)) for s in e.sites)
            )
            for e in self.exits
        )
        kernel = self.kernel_exits
        if kernel is not None:
            named = (
                r._replace(sites=tuple(s._replace(symbol=symbol(s.address)) for s in r.sites))
                for r in kernel.reasons
            )
            kernel = kernel._replace(reasons=tuple(named))
        return self._replace(exits=exits, kernel_exits=kernel)

    def to_dict(self) -> dict[str, Any]:
        """The object that --stats-json writes."""
        return {
            "schema": SCHEMA,
            "engine": self.engine,
            "host": dict(self.host),
            "guest": dict(self.guest),
            "outcome": self.outcome.to_dict(),
            "wall_ns": self.wall_ns,
            "vcpus": [v.to_dict() for v in self.vcpus],
            "exits": [e.to_dict() for e in self.exits],
            "kernel_counters": dict(self.kernel_counters),
            "autopsy": self.autopsy,
            "passed_over": list(self.passed_over),
            "command": self.command,
            "timeline": None if self.timeline is None else self.timeline.to_dict(),
            "kernel_exits": None if self.kernel_exits is None else self.kernel_exits.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Any, where: str = "report") -> "Report":
        """The reverse of `to_dict`. Raises UsageError, which begins with `where`, for anything that is no
        report of this version: it tells what was expected at which key, and what was found."""
        from minihv.report.read import report_from_dict

        return report_from_dict(data, where)

    def merge(self, other: "Report") -> "Report":
        """Both runs as one: counts, times and sites added up. See `minihv.report.arithmetic`."""
        from minihv.report.arithmetic import merge

        return merge(self, other)

    def subtract(self, earlier: "Report") -> "Report":
        """What this run has beyond `earlier`, a part of it. Raises UsageError where that one has more."""
        from minihv.report.arithmetic import subtract

        return subtract(self, earlier)

    def _repr_html_(self) -> str:
        """For notebooks: outcome, table of exits and their shares of time."""
        from minihv.report.html.notebook import fragment

        return fragment(self)


def merge_counters(counters: Iterable[Counter]) -> Exits:
    """The counters of all vCPUs as exits, the most frequent first; sites of one address are added up."""
    groups: dict[tuple[str, str, int, int, str], list[Counter]] = {}
    for counter in counters:
        if counter.sum_ns or counter.count:
            i = counter.info
            key = (i.name, i.direction, -1 if i.address is None else i.address, i.size, i.register)
            groups.setdefault(key, []).append(counter)
    exits = [_merge(group) for group in groups.values()]
    return Exits(sorted(exits, key=order))


def order(e: ExitReport) -> tuple[int, str, str]:
    """Sort key: the most frequent first."""
    return -e.count, e.name, e.detail


def _merge(group: list[Counter]) -> ExitReport:
    sites: dict[int, list[int]] = {}
    for counter in group:
        total = sites.setdefault(counter.info.site.address(), [0, 0])
        total[0] += counter.count
        total[1] += counter.sum_ns
    info = group[0].info
    histogram = tuple(map(sum, zip(*(c.histogram for c in group), strict=True)))
    ranked = sorted(sites.items(), key=lambda item: (-item[1][0], item[0]))
    return ExitReport(
        name=info.name,
        direction=info.direction,
        address=info.address,
        size=info.size,
        register=info.register,
        count=sum(histogram),
        sum_ns=sum(c.sum_ns for c in group),
        min_ns=min(c.min_ns for c in group),
        max_ns=max(c.max_ns for c in group),
        histogram=histogram,
        sites=tuple(SiteReport(address, "", count, ns) for address, (count, ns) in ranked),
    )
