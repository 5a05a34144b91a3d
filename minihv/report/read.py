"""JSON -> Report: the reverse of `Report.to_dict`, for files that anybody may have written.

Everything is checked before it is believed. Keys that this version does not know are ignored, and those
that were added to version 1 later (command, timeline, kernel_exits, a site's source) may be missing.
"""

from typing import Any

from minihv.report.check import Node, parse, schema_of
from minihv.report.model import (
    SCHEMA,
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
)
from minihv.stats import BUCKETS

NAME, _, _VERSION = SCHEMA.partition("/")
VERSION = int(_VERSION)
MAX_BUCKETS = 4096
"""Of a timeline in a file; those that minihv records are shorter."""


def read_report(text: str, where: str) -> Report:
    """The report in a JSON document. Raises UsageError."""
    return report_from_dict(parse(text, where), where)


def report_from_dict(data: Any, where: str = "report") -> Report:
    """See `Report.from_dict`."""
    schema_of(data, where, {NAME: VERSION})
    node = Node(data, where)
    outcome = node.node("outcome")
    return Report(
        engine=node.text("engine"),
        host=_host(node.node("host")),
        guest=_guest(node.node("guest")),
        outcome=OutcomeReport(outcome.text("reason"), outcome.integer("status"), outcome.text("detail")),
        wall_ns=node.integer("wall_ns"),
        vcpus=tuple(_vcpu(vcpu) for vcpu in node.nodes("vcpus")),
        exits=Exits(_exit(e) for e in node.nodes("exits")),
        kernel_counters=node.counters("kernel_counters"),
        autopsy=node.text("autopsy", ""),
        passed_over=node.texts("passed_over") if "passed_over" in node.data else (),
        command=node.text("command", ""),
        timeline=_timeline(node),
        kernel_exits=_kernel_exits(node),
    )


def _host(node: Node) -> dict[str, str]:
    return {key: node.text(key) for key in node.data}


def _guest(node: Node) -> dict[str, Any]:
    for key, value in node.data.items():
        if value is not None and type(value) not in (str, int, bool):
            raise node.refuse(key, "a text or a whole number", value)
    return dict(node.data)


def _vcpu(node: Node) -> VcpuReport:
    return VcpuReport(*(node.integer(field) for field in VcpuReport._fields))


def _exit(node: Node) -> ExitReport:
    time = node.node("time_ns")
    histogram = time.integers("histogram", BUCKETS)
    exit = ExitReport(
        name=node.text("name"),
        direction=node.text("direction"),
        address=None if node.take("address", "an address or null") is None else node.integer("address"),
        size=node.integer("size"),
        register=node.text("register"),
        count=node.integer("count"),
        sum_ns=time.integer("sum"),
        min_ns=time.integer("min"),
        max_ns=time.integer("max"),
        histogram=histogram + (0,) * (BUCKETS - len(histogram)),
        sites=tuple(_site(site) for site in node.nodes("sites")),
    )
    if exit.count < 1 or exit.count != sum(histogram):
        raise node.refuse("count", f"the histogram's sum, at least 1 ({sum(histogram)})", exit.count)
    return exit


def _site(node: Node) -> SiteReport:
    return SiteReport(
        address=node.integer("address"),
        symbol=node.text("symbol"),
        count=node.integer("count"),
        sum_ns=node.integer("sum_ns"),
        source=node.text("source", ""),
    )


def _timeline(node: Node) -> Timeline | None:
    if node.data.get("timeline") is None:
        return None
    inner = node.node("timeline")
    rows = inner.node("exits")
    exits = {name: rows.integers(name, MAX_BUCKETS) for name in rows.data}
    lengths = {len(counts) for counts in exits.values()}
    if len(lengths) > 1:
        raise inner.refuse("exits", "equally long lists", f"lengths {sorted(lengths)}")
    bucket_ns = inner.integer("bucket_ns")
    if not bucket_ns:
        raise inner.refuse("bucket_ns", "1 or more", bucket_ns)
    return Timeline(bucket_ns, exits)


def _kernel_exits(node: Node) -> KernelExits | None:
    if node.data.get("kernel_exits") is None:
        return None
    inner = node.node("kernel_exits")
    return KernelExits(
        source=inner.text("source"),
        note=inner.text("note"),
        total=inner.integer("total"),
        recorded=inner.integer("recorded"),
        lost=inner.integer("lost"),
        reasons=tuple(
            KernelReason(
                name=reason.text("name"),
                count=reason.integer("count"),
                to_user=reason.integer("to_user"),
                sites=tuple(
                    KernelSite(site.integer("address"), site.text("symbol"), site.integer("count"))
                    for site in reason.nodes("sites")
                ),
            )
            for reason in inner.nodes("reasons")
        ),
    )
