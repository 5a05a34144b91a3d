"""--stats: the table that people who study VM exits know by heart, and what minihv can add to it."""

from collections.abc import Iterator

from minihv.report.escape import visible
from minihv.report.model import ExitReport, KernelExits, Report
from minihv.stats import percentile

TOP_DETAILS = 12
TOP_SITES = 8
TOP_COUNTERS = 14
TOP_PLACES = 3


def microseconds(ns: float) -> str:
    """ "12.34us"."""
    return f"{ns / 1000:.2f}us"


def stats_table(report: Report) -> str:
    """The whole text, ending in a newline."""
    lines = [*_header(report), *_by_kind(report), *_by_detail(report), *_by_site(report)]
    lines += [*_time_shares(report), *_kernel_exits(report.kernel_exits), *_kernel(report)]
    return "\n".join(map(visible, lines)) + "\n"


def _header(report: Report) -> Iterator[str]:
    outcome = report.outcome
    yield (
        f"{report.guest.get('name', '?')} on {report.engine}: {outcome.reason}, status {outcome.status}, "
        f"{report.wall_ns / 1e6:.1f} ms"
    )
    if words := report.host.get("kvm_words"):
        yield f"This KVM is {words}."
    yield ""
    yield "Analyze events for all VMs, all VCPUs:"


def _by_kind(report: Report) -> Iterator[str]:
    yield ""
    yield (
        f"{'VM-EXIT':>20} {'Samples':>10} {'Samples%':>9} {'Time%':>8} {'Min Time':>11} {'Max Time':>13} "
        f"{'Avg time':>11} {'p50':>10} {'p99':>10}"
    )
    kinds: dict[str, list[ExitReport]] = {}
    for e in report.exits:
        kinds.setdefault(e.name, []).append(e)
    total = report.total_exits
    total_ns = sum(e.sum_ns for e in report.exits)
    rows = sorted(kinds.items(), key=lambda item: -sum(e.count for e in item[1]))
    for name, group in rows:
        count = sum(e.count for e in group)
        ns = sum(e.sum_ns for e in group)
        histogram = [sum(column) for column in zip(*(e.histogram for e in group), strict=True)]
        top = max(e.max_ns for e in group)
        yield (
            f"{name.upper():>20} {count:>10} {_percent(count, total):>9} {_percent(ns, total_ns):>8} "
            f"{microseconds(min(e.min_ns for e in group)):>11} {microseconds(top):>13} "
            f"{microseconds(ns / count):>11} {microseconds(min(percentile(histogram, 0.5), top)):>10} "
            f"{microseconds(min(percentile(histogram, 0.99), top)):>10}"
        )
    yield ""
    yield f"Total Samples:{total}, Total events handled time:{total_ns / 1000:.2f}us."


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "-"


def _by_detail(report: Report) -> Iterator[str]:
    shown = [e for e in report.exits if e.detail][:TOP_DETAILS]
    if not shown:
        return
    yield ""
    yield f"{'exit':>8} {'samples':>10} {'avg':>10}  what"
    for e in shown:
        yield f"{e.name:>8} {e.count:>10} {microseconds(e.sum_ns / e.count):>10}  {e.detail}"
    rest = sum(1 for e in report.exits if e.detail) - len(shown)
    if rest:
        yield f"         (+{rest} more; --stats-json has them all)"


def _by_site(report: Report) -> Iterator[str]:
    sites = [(s.count, s.address, s.symbol, e) for e in report.exits for s in e.sites]
    if not sites:
        return
    yield ""
    yield f"{'guest address':>18} {'samples':>10}  exit, and the symbol where the image has symbols"
    for count, address, symbol, e in sorted(sites, key=lambda s: (-s[0], s[1]))[:TOP_SITES]:
        where = f" at {symbol}" if symbol else ""
        yield f"{address:#18x} {count:>10}  {e.name} {e.detail}{where}".rstrip()
    if len(sites) > TOP_SITES:
        yield f"{'':>18} (+{len(sites) - TOP_SITES} more sites)"


def _time_shares(report: Report) -> Iterator[str]:
    yield ""
    for v in report.vcpus:
        whole = v.guest_ns + v.vmm_ns
        yield (
            f"vCPU {v.index}: {v.exits} exits, guest and kernel {v.guest_ns / 1e6:.2f} ms "
            f"({_percent(v.guest_ns, whole)}), VMM {v.vmm_ns / 1e6:.2f} ms ({_percent(v.vmm_ns, whole)})"
            + (f", {v.instructions} instructions" if v.instructions else "")
        )


def _kernel_exits(kernel: KernelExits | None) -> Iterator[str]:
    if kernel is None:
        return
    yield ""
    if kernel.source:
        lost = f", {kernel.lost} lost" if kernel.lost else ""
        yield (
            f"The kernel's own exits, from {kernel.source}: {kernel.total} counted, {kernel.recorded} seen "
            f"one by one{lost}"
        )
        yield f"{'exits':>10} {'share':>8} {'to minihv':>10}  reason, and its hottest places"
    for reason in kernel.reasons[:TOP_DETAILS]:
        places = ", ".join(f"{s.symbol or hex(s.address)} ({s.count})" for s in reason.sites[:TOP_PLACES])
        yield (
            f"{reason.count:>10} {_percent(reason.count, kernel.recorded):>8} {reason.to_user:>10}  "
            f"{reason.name}: {places}"
        )
    if len(kernel.reasons) > TOP_DETAILS:
        yield f"{'':>10} (+{len(kernel.reasons) - TOP_DETAILS} more; --stats-json has them all)"
    if kernel.note:
        yield f"The kernel's own exits: {kernel.note}."


def _kernel(report: Report) -> Iterator[str]:
    counters = sorted(((n, c) for c, n in report.kernel_counters.items() if n), reverse=True)
    if not counters:
        return
    yield ""
    yield "Counted by the kernel, exits that never came to user space included:"
    for value, name in counters[:TOP_COUNTERS]:
        yield f"{value:>20} {name}"
    if len(counters) > TOP_COUNTERS:
        yield f"{'':>20} (+{len(counters) - TOP_COUNTERS} more; --stats-json has them all)"
