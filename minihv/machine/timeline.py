"""--timeline: a run as Chrome trace events, for ui.perfetto.dev or chrome://tracing.

While the guest runs, an exit costs three integers in a ring; text is made of it when the run is over. The
ring keeps the last exits of each vCPU, and the file's metadata says how many came before them; counter
tracks come from the run's history and cover all of it.
"""

from array import array
from collections.abc import Callable, Iterator

from minihv.errors import HostError
from minihv.exits import Exit
from minihv.machine.build import Parts
from minihv.machine.loop import Observer
from minihv.machine.recorders import Recorder
from minihv.report.chrometrace import Slice, trace_events
from minihv.report.model import Report
from minihv.stats import SiteInfo

CAPACITY = 1 << 17
"""Exits kept in all: 3 MiB of ring, and some 30 MB of file."""


class Ring:
    """The last exits of one vCPU: three 64-bit integers each. Only its own thread adds."""

    def __init__(self, capacity: int) -> None:
        self._data = array("q", bytes(24 * capacity))
        self._end = 3 * capacity
        self._at = 0
        self._laps = 0
        self._infos: dict[int, SiteInfo] = {}
        """id -> what it was, held here so that the id stays its own. Bounded: there is one a counter."""

    def add(self, vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
        """Keep one exit; an `Observer`."""
        data, at, key = self._data, self._at, id(info)
        data[at] = left_ns
        data[at + 1] = elapsed_ns
        data[at + 2] = key
        self._infos[key] = info
        at += 3
        if at == self._end:
            at = 0
            self._laps += 1
        self._at = at

    @property
    def dropped(self) -> int:
        """Exits that later ones took the place of."""
        return max(self._laps - 1, 0) * (self._end // 3) + (self._at // 3 if self._laps else 0)

    def exits(self) -> Iterator[tuple[int, int, SiteInfo]]:
        """(left ns, handling ns, what it was), the oldest first."""
        starts = [*range(self._at, self._end, 3)] if self._laps else []
        for at in (*starts, *range(0, self._at, 3)):
            yield self._data[at], self._data[at + 1], self._infos[self._data[at + 2]]


class TimelineFile(Recorder):
    """Writes the file when the run has ended. Raises HostError where that cannot be."""

    def __init__(self, path: str, cpus: int, symbol: Callable[[], Callable[[int], str]]) -> None:
        """`symbol()` gives the namer of guest addresses; asked for at the end."""
        self._path = path
        self._capacity = max(CAPACITY // cpus, 1)
        self._symbol = symbol
        self._rings: dict[int, Ring] = {}
        self._start = 0
        self._parallel = True
        try:
            self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> HostError:
        return HostError(f"{self._path}: cannot be written: {error.strerror}; choose another file")

    def observer(self, index: int) -> Observer:
        ring = self._rings[index] = Ring(self._capacity)
        return ring.add

    def prepare(self, parts: Parts) -> None:
        engine = parts.engine
        self._parallel = engine is None or engine.traits.parallel

    def begin(self, parts: Parts, now: int) -> None:
        self._start = now

    def end(self, report: Report, now: int) -> Report:
        dropped = {index: ring.dropped for index, ring in self._rings.items()}
        facts = {
            "exits_dropped": sum(dropped.values()),
            "exits_kept_at_most": self._capacity * len(self._rings),
            "vcpus": "one thread each" if self._parallel else "taking turns: guest slices include waiting",
        }
        slices = {index: self._slices(ring) for index, ring in self._rings.items()}
        complete = {index for index, number in dropped.items() if not number}
        try:
            for piece in trace_events(report, slices, complete, now - self._start, facts):
                self._file.write(piece)
        except OSError as error:
            raise self._refused(error) from error
        return report

    def _slices(self, ring: Ring) -> Iterator[Slice]:
        symbol = self._symbol()
        places: dict[int, str] = {}
        for left, elapsed, info in ring.exits():
            place = places.get(id(info))
            if place is None:
                address = info.site.address()
                place = places[id(info)] = symbol(address) or f"{address:#x}"
            words = f"{info.name} {info.direction}".strip()
            name = f"{words} {info.register}".strip()
            device = info.register.partition(".")[0] if info.register else ""
            yield Slice(left - self._start, elapsed, name, place, device)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._refused(error) from error
