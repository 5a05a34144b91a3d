"""Reports added up and taken apart: several runs as one, or what a run has beyond an earlier part of it."""

from collections.abc import Iterable, Mapping
from typing import Any

from minihv.errors import UsageError
from minihv.report.model import (
    ExitReport,
    Exits,
    KernelExits,
    KernelReason,
    KernelSite,
    OutcomeReport,
    Report,
    SiteReport,
    Timeline,
    VcpuReport,
    order,
)

MAX_BUCKETS = 200
"""Of a merged timeline; longer ones get wider buckets."""


def merge(a: Report, b: Report) -> Report:
    """Both runs as one. Texts that differ are joined or left out; the higher status wins."""
    return Report(
        engine=_both(a.engine, b.engine, " + "),
        host=_common(a.host, b.host),
        guest=_common(a.guest, b.guest),
        outcome=_outcome(a.outcome, b.outcome),
        wall_ns=a.wall_ns + b.wall_ns,
        vcpus=_vcpus(a.vcpus, b.vcpus),
        exits=Exits(sorted(_grouped((*a.exits, *b.exits)), key=order)),
        kernel_counters=_sum(a.kernel_counters, b.kernel_counters),
        autopsy=_both(a.autopsy, b.autopsy, "\n\n"),
        passed_over=tuple(dict.fromkeys(a.passed_over + b.passed_over)),
        command=_both(a.command, b.command, "; "),
        timeline=_timelines(a.timeline, b.timeline),
        kernel_exits=_kernel(a.kernel_exits, b.kernel_exits),
    )


def subtract(a: Report, b: Report) -> Report:
    """`a` without `b`, which must be an earlier part of it (a snapshot, or one of the merged runs).

    Shortest and longest handling times cannot be taken apart: those of `a` stay. There is no timeline.
    Raises UsageError where `b` has more of anything.
    """
    left = {e.kind: e for e in a.exits}
    for e in b.exits:
        left[e.kind] = _less(left.get(e.kind), e)
    vcpus = {v.index: v for v in a.vcpus}
    for v in b.vcpus:
        vcpus[v.index] = _vcpu_less(vcpus.get(v.index, VcpuReport(v.index, 0, 0, 0, 0, 0)), v)
    counters = dict(a.kernel_counters)
    for name, value in b.kernel_counters.items():
        counters[name] = _difference(counters.get(name, 0), value, name)
    return a._replace(
        wall_ns=_difference(a.wall_ns, b.wall_ns, "wall_ns"),
        vcpus=tuple(vcpus[index] for index in sorted(vcpus)),
        exits=Exits(sorted((e for e in left.values() if e.count), key=order)),
        kernel_counters=counters,
        timeline=None,
        kernel_exits=None,
    )


def _both(a: str, b: str, glue: str) -> str:
    return a if a == b else glue.join(text for text in (a, b) if text)


def _common(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in a.items() if key in b and b[key] == value}


def _outcome(a: OutcomeReport, b: OutcomeReport) -> OutcomeReport:
    return OutcomeReport(
        _both(a.reason, b.reason, ", "), max(a.status, b.status), _both(a.detail, b.detail, "; ")
    )


def _sum(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in (*a, *(n for n in b if n not in a))}


def _vcpus(a: Iterable[VcpuReport], b: Iterable[VcpuReport]) -> tuple[VcpuReport, ...]:
    groups: dict[int, list[VcpuReport]] = {}
    for v in (*a, *b):
        groups.setdefault(v.index, []).append(v)
    return tuple(
        VcpuReport(index, *(sum(column) for column in zip(*(v[1:] for v in group), strict=True)))
        for index, group in sorted(groups.items())
    )


def _grouped(exits: Iterable[ExitReport]) -> list[ExitReport]:
    groups: dict[tuple[object, ...], list[ExitReport]] = {}
    for e in exits:
        groups.setdefault(e.kind, []).append(e)
    return [group[0] if len(group) == 1 else _added(group) for group in groups.values()]


def _added(group: list[ExitReport]) -> ExitReport:
    sites: dict[tuple[int, str, str], list[int]] = {}
    for site in (site for e in group for site in e.sites):
        total = sites.setdefault((site.address, site.symbol, site.source), [0, 0])
        total[0] += site.count
        total[1] += site.sum_ns
    ranked = sorted(sites.items(), key=lambda item: (-item[1][0], item[0]))
    summed = Exits(group)
    return group[0]._replace(
        count=summed.total,
        sum_ns=summed.sum_ns,
        min_ns=summed.min_ns,
        max_ns=summed.max_ns,
        histogram=summed.histogram,
        sites=tuple(SiteReport(a, symbol, n, ns, source) for (a, symbol, source), (n, ns) in ranked),
    )


def _difference(a: int, b: int, what: str) -> int:
    if b > a:
        raise UsageError(
            f"expected an earlier part of the same run to subtract, found one with more {what} ({b} against "
            f"{a}); subtract them the other way round, or compare them with `minihv stats`"
        )
    return a - b


def _vcpu_less(a: VcpuReport, b: VcpuReport) -> VcpuReport:
    fields = zip(a[1:], b[1:], VcpuReport._fields[1:], strict=True)
    return VcpuReport(a.index, *(_difference(x, y, f"{name} of vCPU {a.index}") for x, y, name in fields))


def _less(a: ExitReport | None, b: ExitReport) -> ExitReport:
    what = f"{b.name} {b.detail}".strip()
    if a is None:
        raise UsageError(
            f"expected an earlier part of the same run to subtract, found one with exits that this run does "
            f"not have ({what}); subtract them the other way round, or compare them with `minihv stats`"
        )
    sites = {(s.address, s.symbol, s.source): s for s in a.sites}
    for site in b.sites:
        key = site.address, site.symbol, site.source
        mine = sites.get(key, site._replace(count=0, sum_ns=0))
        sites[key] = mine._replace(
            count=_difference(mine.count, site.count, f"{what} exits at {site.address:#x}"),
            sum_ns=_difference(mine.sum_ns, site.sum_ns, f"{what} time at {site.address:#x}"),
        )
    return a._replace(
        count=_difference(a.count, b.count, f"{what} exits"),
        sum_ns=_difference(a.sum_ns, b.sum_ns, f"{what} time"),
        histogram=tuple(
            _difference(x, y, f"{what} exits of one duration")
            for x, y in zip(a.histogram, b.histogram, strict=True)
        ),
        sites=tuple(s for s in sites.values() if s.count),
    )


def _timelines(a: Timeline | None, b: Timeline | None) -> Timeline | None:
    """Laid over each other at their starts. None where the buckets of one are no multiple of the other's:
    counts cannot be split."""
    if a is None or b is None:
        return None
    wide = max(a.bucket_ns, b.bucket_ns)
    if wide % a.bucket_ns or wide % b.bucket_ns:
        return None
    length = max((-(-len(c) * t.bucket_ns // wide) for t in (a, b) for c in t.exits.values()), default=0)
    while length > MAX_BUCKETS:
        wide, length = wide * 2, -(-length // 2)
    rows: dict[str, list[int]] = {}
    for t in (a, b):
        for name, counts in t.exits.items():
            row = rows.setdefault(name, [0] * length)
            for index, count in enumerate(counts):
                row[index * t.bucket_ns // wide] += count
    return Timeline(wide, {name: tuple(row) for name, row in rows.items()})


def _kernel(a: KernelExits | None, b: KernelExits | None) -> KernelExits | None:
    if a is None or b is None:
        return None
    groups: dict[str, list[KernelReason]] = {}
    for reason in (*a.reasons, *b.reasons):
        groups.setdefault(reason.name, []).append(reason)
    reasons = []
    for name, group in groups.items():
        sites: dict[tuple[int, str], int] = {}
        for site in (site for reason in group for site in reason.sites):
            sites[site.address, site.symbol] = sites.get((site.address, site.symbol), 0) + site.count
        ranked = sorted(sites.items(), key=lambda item: (-item[1], item[0]))
        reasons.append(
            KernelReason(
                name,
                sum(r.count for r in group),
                sum(r.to_user for r in group),
                tuple(KernelSite(address, symbol, count) for (address, symbol), count in ranked),
            )
        )
    return KernelExits(
        _both(a.source, b.source, " + "),
        _both(a.note, b.note, "; "),
        a.total + b.total,
        a.recorded + b.recorded,
        a.lost + b.lost,
        tuple(sorted(reasons, key=lambda r: (-r.count, r.name))),
    )
