"""Looking at the counters while the vCPUs count: for `minihv top`.

The vCPUs' own threads write; this only reads, so nothing on their way changes. A counter may be seen between
two of its additions: a sample is off by one exit at most.
"""

import time

from minihv.boot.plan import BootPlan
from minihv.host.console import BufferSink
from minihv.machine.build import Parts
from minihv.machine.recorders import Recorder
from minihv.machine.reporting import symbol_namer
from minihv.report.live import Sample, SiteCount
from minihv.report.model import Report
from minihv.stats import Counter

_SIZES = {0: "", 1: "byte", 2: "word", 4: "dword", 8: "qword"}


class Sampler(Recorder):
    """`take` gives the counters of the run that is going on; give it to `Machine.watch`."""

    def __init__(self, plan: BootPlan, sink: BufferSink) -> None:
        self._namer = symbol_namer(plan)
        self._sink = sink
        self._parts: Parts | None = None
        self._began = 0
        self._names: dict[int, tuple[str, str, str]] = {}
        self.last: Sample | None = None
        """The counters at the end of the run."""
        self.engine = ""
        self.kvm_words = ""

    def begin(self, parts: Parts, now: int) -> None:
        self._parts, self._began = parts, now
        assert parts.engine is not None
        self.engine = parts.engine.name
        self.kvm_words = parts.engine.describe().get("kvm_words", "")

    def end(self, report: Report, now: int) -> Report:
        self.last = self.take()
        return report

    def take(self) -> Sample:
        """The counters now."""
        assert self._parts is not None
        sites: list[SiteCount] = []
        vmm: list[int] = []
        for loop in self._parts.loops:
            spent = 0
            for counter in loop.stats.counters[:]:  # its own thread may add to it meanwhile
                name, detail, where = self._names.get(id(counter)) or self._name(counter)
                spent += counter.sum_ns
                sites.append(SiteCount(id(counter), name, detail, where, counter.count, counter.sum_ns))
            vmm.append(spent)
        return Sample(time.perf_counter_ns() - self._began, tuple(sites), tuple(vmm), self._sink.data[-8192:])

    def _name(self, counter: Counter) -> tuple[str, str, str]:
        """In words; once for each counter, which lives as long as the run."""
        info = counter.info
        address = "" if info.address is None else f"{info.address:#x}"
        words = (info.direction, address, _SIZES.get(info.size, f"{info.size} bytes"), info.register)
        site = info.site.address()
        found = (info.name, " ".join(filter(None, words)), self._namer(site) or f"{site:#x}")
        self._names[id(counter)] = found
        return found
