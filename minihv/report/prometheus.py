"""Counters and histograms of a run in the Prometheus text format (version 0.0.4)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

BOUNDS = tuple(range(9, 35, 2))
"""Exponents of the histogram's upper bounds: 2**9 ns (0.5 us) to 2**33 ns (8.6 s)."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ExitRow(NamedTuple):
    """One vCPU's exits for one reason; `histogram` as in `minihv.stats.Counter`."""

    vcpu: int
    reason: str
    sum_ns: int
    histogram: Sequence[int]


class VcpuRow(NamedTuple):
    """One vCPU's sums."""

    vcpu: int
    guest_ns: int
    kicks: int
    instructions: int


def prometheus(
    info: Mapping[str, str], vcpus: Sequence[VcpuRow], exits: Sequence[ExitRow], engine: Mapping[str, int]
) -> str:
    """The whole exposition. `engine` are the engine's own counters by name."""
    lines = [*_head("minihv_info", "gauge", "What runs."), _sample("minihv_info", info, 1)]
    lines += _head("minihv_exits_total", "counter", "Exits that came to minihv.")
    lines += [_sample("minihv_exits_total", _labels(e), sum(e.histogram)) for e in exits]
    name = "minihv_exit_handling_seconds"
    lines += _head(name, "histogram", "Handling time of exits.")
    for e in exits:
        lines += _histogram(name, e)
    sums = (
        ("minihv_guest_seconds_total", "Time in the guest, and in the kernel for it.", "guest_ns", 1e-9),
        ("minihv_kicks_total", "Times the guest was left because minihv wanted it.", "kicks", 1),
        ("minihv_instructions_total", "Guest instructions, where the engine counts.", "instructions", 1),
    )
    for name, words, field, scale in sums:
        lines += _head(name, "counter", words)
        lines += [_sample(name, {"vcpu": str(v.vcpu)}, getattr(v, field) * scale) for v in vcpus]
    if engine:
        lines += _head("minihv_engine_counter_total", "counter", "The engine's own counters.")
        lines += [
            _sample("minihv_engine_counter_total", {"name": key}, value) for key, value in engine.items()
        ]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"


def _labels(e: ExitRow) -> dict[str, str]:
    return {"vcpu": str(e.vcpu), "reason": e.reason}


def _histogram(name: str, e: ExitRow) -> Iterator[str]:
    labels = _labels(e)
    for exponent in BOUNDS:
        # Bucket b holds times below 2**b ns.
        below = sum(e.histogram[: exponent + 1])
        yield _sample(f"{name}_bucket", {**labels, "le": f"{2**exponent * 1e-9:.9g}"}, below)
    yield _sample(f"{name}_bucket", {**labels, "le": "+Inf"}, sum(e.histogram))
    yield _sample(f"{name}_sum", labels, e.sum_ns * 1e-9)
    yield _sample(f"{name}_count", labels, sum(e.histogram))


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{shown}}} {value!r}"


def _escaped(text: str) -> str:
    """A label value: backslash, quote and line feed are escaped; lone surrogates cannot be written."""
    safe = text.encode("utf-8", "replace").decode()
    return safe.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def add_up(rows: Iterable[ExitRow]) -> list[ExitRow]:
    """Rows of the same vCPU and reason as one, in the order of their first appearance."""
    groups: dict[tuple[int, str], list[ExitRow]] = {}
    for row in rows:
        groups.setdefault((row.vcpu, row.reason), []).append(row)
    return [
        ExitRow(vcpu, reason, sum(r.sum_ns for r in group),
                [sum(column) for column in zip(*(r.histogram for r in group), strict=True)])
        for (vcpu, reason), group in groups.items()
    ]  # fmt: skip
