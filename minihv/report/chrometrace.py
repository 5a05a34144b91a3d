"""Chrome's trace event format (the JSON that ui.perfetto.dev opens), as text in pieces."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from minihv.report.escape import visible
from minihv.report.model import Report, Timeline

MACHINE, DEVICES = 1, 2
"""Process ids: vCPU tracks and counters belong to the one, device tracks to the other."""


class Slice(NamedTuple):
    """One exit: when (ns from the start), handled for how long (ns), what, from where, by which device."""

    start_ns: int
    elapsed_ns: int
    name: str
    place: str
    device: str


def trace_events(
    report: Report,
    vcpus: Mapping[int, Iterable[Slice]],
    complete: set[int],
    end_ns: int,
    facts: Mapping[str, Any],
) -> Iterator[str]:
    """The whole document. `vcpus`: exits in the order of time; those in `complete` lack none. `facts` go to
    the metadata, beside what the report knows."""
    about = {
        "guest": visible(str(report.guest.get("name", ""))),
        "engine": report.engine,
        **{key: visible(str(value)) for key, value in report.host.items()},
        "outcome": report.outcome.reason,
        "exits": report.total_exits,
        **facts,
    }
    yield f'{{"displayTimeUnit":"ns","otherData":{json.dumps(about)},"traceEvents":['
    yield _name(MACHINE, f"{about['guest']} on {report.engine}")
    devices = _Devices()
    for index, slices in vcpus.items():
        yield f",{_thread(MACHINE, index + 1, f'vCPU {index}')}"
        yield from _vcpu(index, slices, index in complete, end_ns, devices)
    yield f",{_name(DEVICES, 'devices')}"
    yield from devices.events()
    if report.timeline is not None:
        yield from _counters(report.timeline)
    yield "]}\n"


def _vcpu(
    index: int, slices: Iterable[Slice], complete: bool, end_ns: int, devices: "_Devices"
) -> Iterator[str]:
    """Guest and exit slices, one after the other on one track."""
    tid = index + 1
    guest = 0 if complete else None
    written: dict[tuple[str, str], str] = {}
    for s in slices:
        if guest is not None and s.start_ns > guest:
            yield _slice(MACHINE, tid, guest, s.start_ns - guest, '"guest","cat":"guest"')
        text = written.get((s.name, s.place))
        if text is None:
            place = json.dumps(visible(s.place))
            name = json.dumps(visible(s.name))
            text = written[s.name, s.place] = f'{name},"cat":"exit","args":{{"at":{place}}}'
        yield _slice(MACHINE, tid, s.start_ns, s.elapsed_ns, text)
        if s.device:
            devices.add(s, index)
        guest = s.start_ns + s.elapsed_ns
    if guest is not None and end_ns > guest:
        yield _slice(MACHINE, tid, guest, end_ns - guest, '"guest","cat":"guest"')


class _Devices:
    """Device tracks. A device serves one vCPU at a time: where exits of several overlap, the later one was
    waiting, and its slice begins when the one before ends."""

    def __init__(self) -> None:
        self._slices: dict[str, list[tuple[int, int, int, str]]] = {}

    def add(self, s: Slice, vcpu: int) -> None:
        self._slices.setdefault(s.device, []).append((s.start_ns, s.elapsed_ns, vcpu, s.name))

    def events(self) -> Iterator[str]:
        for tid, (device, slices) in enumerate(sorted(self._slices.items()), 1):
            yield f",{_thread(DEVICES, tid, visible(device))}"
            free = 0
            for start, elapsed, vcpu, name in sorted(slices):
                begin, end = max(start, free), start + elapsed
                if end > begin:
                    text = f'{json.dumps(visible(name))},"cat":"device","args":{{"vcpu":{vcpu}}}'
                    yield _slice(DEVICES, tid, begin, end - begin, text)
                    free = end


def _counters(line: Timeline) -> Iterator[str]:
    """Exits per second by kind, as a counter track."""
    per_second = 1e9 / line.bucket_ns
    length = max((len(counts) for counts in line.exits.values()), default=0)
    for bucket in range(length):
        values = {name: round(counts[bucket] * per_second, 1) for name, counts in line.exits.items()}
        yield _counter(bucket * line.bucket_ns, values)
    if length:
        yield _counter(length * line.bucket_ns, dict.fromkeys(line.exits, 0.0))


def _counter(start_ns: int, values: Mapping[str, float]) -> str:
    return (
        f',{{"ph":"C","pid":{MACHINE},"ts":{_us(start_ns)},"name":"exits per second",'
        f'"args":{json.dumps(values)}}}'
    )


def _slice(pid: int, tid: int, start_ns: int, elapsed_ns: int, name: str) -> str:
    """A complete event; `name` is the JSON of the name and whatever else follows it."""
    return (
        f',{{"ph":"X","pid":{pid},"tid":{tid},"ts":{_us(start_ns)},"dur":{_us(elapsed_ns)},"name":{name}}}\n'
    )


def _us(ns: int) -> str:
    """The format's unit is the microsecond; three decimals keep the ns."""
    return f"{ns // 1000}.{ns % 1000:03d}"


def _name(pid: int, name: str) -> str:
    return json.dumps({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}})


def _thread(pid: int, tid: int, name: str) -> str:
    return json.dumps({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}})
