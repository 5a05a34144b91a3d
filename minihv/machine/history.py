"""Exits over time in bounded memory: counts in buckets, which get twice as wide whenever they run out."""

from collections.abc import Sequence

from minihv.exits import Exit
from minihv.machine.build import Parts
from minihv.machine.loop import Observer
from minihv.machine.recorders import Recorder
from minihv.report.model import Report, Timeline
from minihv.stats import SiteInfo

BUCKETS = 200
FIRST_SHIFT = 14
"""The first buckets are 2**14 ns (16 us) wide, so that they cover 3 ms: a tiny guest's whole life."""


class Track:
    """Exits of one vCPU over time. Only its own thread adds."""

    def __init__(self) -> None:
        self.origin = 0
        """Host time (ns) at which the first bucket begins."""
        self.shift = FIRST_SHIFT
        self.rows: dict[str, list[int]] = {}

    def add(self, vcpu: int, exit: Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
        """Count one exit where it was handled; an `Observer`."""
        at = (left_ns - self.origin) >> self.shift
        row = self.rows.get(info.name)
        if row is None:
            row = self.rows[info.name] = [0] * BUCKETS
        if at >= BUCKETS:
            at = self._widen(at)
            row = self.rows[info.name]
        row[at if at >= 0 else 0] += 1

    def _widen(self, at: int) -> int:
        """Make the buckets wide enough for bucket `at`, and give its new number."""
        while at >= BUCKETS:
            at >>= 1
            self.shift += 1
            self.rows = {name: _halve(row) for name, row in self.rows.items()}
        return at


class History(Recorder):
    """The timeline of a run, for its report."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []

    def observer(self, index: int) -> Observer:
        track = Track()
        self._tracks.append(track)
        return track.add

    def begin(self, parts: Parts, now: int) -> None:
        for track in self._tracks:
            track.origin = now

    def end(self, report: Report, now: int) -> Report:
        return report._replace(timeline=self.timeline(report.wall_ns))

    def timeline(self, wall_ns: int) -> Timeline:
        """All vCPUs together, until the run's end at `wall_ns`."""
        return add_up(self._tracks, wall_ns)


def add_up(tracks: Sequence[Track], wall_ns: int) -> Timeline:
    """One timeline of several vCPUs, as fine as the coarsest of them, to the end of the run at `wall_ns`."""
    shift = max((track.shift for track in tracks), default=FIRST_SHIFT)
    while -(-wall_ns >> shift) > BUCKETS:
        shift += 1
    rows: dict[str, list[int]] = {}
    for track in tracks:
        for name, row in track.rows.items():
            total = rows.setdefault(name, [0] * BUCKETS)
            for index, count in enumerate(row):
                total[index >> (shift - track.shift)] += count
    used = max((i + 1 for row in rows.values() for i, n in enumerate(row) if n), default=0)
    length = max(used, -(-wall_ns >> shift))
    ranked = sorted(rows.items(), key=lambda item: -sum(item[1]))
    return Timeline(1 << shift, {name: tuple(row[:length]) for name, row in ranked})


def _halve(row: list[int]) -> list[int]:
    half = [a + b for a, b in zip(row[::2], row[1::2], strict=True)]
    return half + [0] * (BUCKETS - len(half))
