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
    exits[].sites[]  address (linear), symbol, count, sum_ns
    kernel_counters  the engine's own counters: what they grew by during the run
    autopsy          text after a crash, else ""
    passed_over[]    engines that "auto" tried before, with the reason

All times are ns of host time; a histogram's bucket b counts handling times in [2**(b-1), 2**b) ns.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from minihv.stats import Counter, percentile

SCHEMA = "minihv.report/1"

SIZE_WORDS = {1: "byte", 2: "word", 4: "dword", 8: "qword"}


class SiteReport(NamedTuple):
    """Exits of one kind from one instruction."""

    address: int
    symbol: str
    count: int  # type: ignore[assignment]  # a field, not tuple.count
    sum_ns: int

    def to_dict(self) -> dict[str, Any]:
        return {"address": self.address, "symbol": self.symbol, "count": self.count, "sum_ns": self.sum_ns}


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


class VcpuReport(NamedTuple):
    """One vCPU's sums. `guest_ns`: inside the engine; `vmm_ns`: in minihv's handlers."""

    index: int  # type: ignore[assignment]  # a field, not tuple.index
    exits: int
    kicks: int
    guest_ns: int
    vmm_ns: int
    instructions: int

    def to_dict(self) -> dict[str, int]:
        return {
            "index": self.index,
            "exits": self.exits,
            "kicks": self.kicks,
            "guest_ns": self.guest_ns,
            "vmm_ns": self.vmm_ns,
            "instructions": self.instructions,
        }


class OutcomeReport(NamedTuple):
    """How the run ended; `reason` as in `minihv.machine.outcome.REASONS`."""

    reason: str
    status: int
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "status": self.status, "detail": self.detail}


class Report(NamedTuple):
    """Everything about one run."""

    engine: str
    host: Mapping[str, str]
    guest: Mapping[str, Any]
    outcome: OutcomeReport
    wall_ns: int
    vcpus: tuple[VcpuReport, ...]
    exits: tuple[ExitReport, ...]
    kernel_counters: Mapping[str, int]
    autopsy: str = ""
    passed_over: tuple[str, ...] = ()
    """With engine "auto": "name: why it cannot work here" for each engine tried before."""

    @property
    def total_exits(self) -> int:
        """Exits of all kinds and vCPUs."""
        return sum(e.count for e in self.exits)

    def count(self, name: str, **details: object) -> int:
        """Exits named `name` whose fields (direction, address, size, register) equal `details`."""
        return sum(
            e.count
            for e in self.exits
            if e.name == name and all(getattr(e, key) == value for key, value in details.items())
        )

    def with_symbols(self, symbol: Callable[[int], str]) -> "Report":
        """A copy whose sites carry `symbol(address)` ("name+0x4" or "")."""
        exits = tuple(
            e._replace(sites=tuple(s._replace(symbol=symbol(s.address)) for s in e.sites)) for e in self.exits
        )
        return self._replace(exits=exits)

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
        }


def merge_counters(counters: Iterable[Counter]) -> tuple[ExitReport, ...]:
    """The counters of all vCPUs as exits, the most frequent first; sites of one address are added up."""
    groups: dict[tuple[str, str, int, int, str], list[Counter]] = {}
    for counter in counters:
        if counter.sum_ns or counter.count:
            i = counter.info
            key = (i.name, i.direction, -1 if i.address is None else i.address, i.size, i.register)
            groups.setdefault(key, []).append(counter)
    exits = [_merge(group) for group in groups.values()]
    return tuple(sorted(exits, key=lambda e: (-e.count, e.name, e.detail)))


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
