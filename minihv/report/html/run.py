"""The page of one run."""

from minihv.report.html import charts
from minihv.report.html.markup import Html, h, join
from minihv.report.html.numbers import count, duration, percent
from minihv.report.html.page import code, facts, footer, page, preformatted, reproduce, section, table
from minihv.report.model import SCHEMA, Exits, KernelExits, Report

TOP_SITES = 40
TOP_DETAILS = 40
TOP_COUNTERS = 40


def run_page(report: Report) -> str:
    """A self-contained HTML document that shows everything about a run."""
    name = str(report.guest.get("name", "guest"))
    colour = charts.colours(report)
    return page(
        f"{name} on {report.engine}",
        [
            h("h1", f"{name} on {report.engine}"),
            h("p", lead(report), cls="lead"),
            kvm_note(report),
            _facts(report),
            reproduce(report.command),
            _over_time(report, colour),
            section("Where the time went", charts.shares(report), _handling(report, colour)),
            _kinds(report),
            _histograms(report.exits, colour),
            _details(report.exits),
            _sites(report.exits),
            _kernel_exits(report.kernel_exits),
            _counters(report),
            _autopsy(report),
            footer(f"Made by minihv from a report of the form {SCHEMA}. All times are of the host's clock."),
        ],
    )


def lead(report: Report) -> str:
    """The run in two sentences."""
    end = report.outcome
    detail = f" ({end.detail})" if end.detail else ""
    first = f"It ended after {duration(report.wall_ns)}: {end.reason}{detail}, status {end.status}."
    if not report.exits:
        return f"{first} The guest never came to minihv."
    top = report.exits[0]
    what = f"{top.name} {top.detail}".strip()
    share = percent(report.exits.sum_ns, report.wall_ns)
    return (
        f"{first} The guest came to minihv {count(report.total_exits)} times, {count(top.count)} times "
        f"for {what}; handling took {duration(report.exits.sum_ns)}, {share} of the time."
    )


def kvm_note(report: Report) -> Html | None:
    """Which KVM the numbers are of, where it is one."""
    words = report.host.get("kvm_words")
    return h("p", f"This KVM is {words}.", cls="note") if words else None


def _facts(report: Report) -> Html:
    guest, host = report.guest, report.host
    memory = guest.get("memory")
    instructions = sum(v.instructions for v in report.vcpus)
    return facts([
        ("Guest", " ".join(str(guest[k]) for k in ("name", "format") if guest.get(k))),
        ("Machine", ", ".join(filter(None, (
            f"{guest['cpus']} CPU{'' if guest['cpus'] == 1 else 's'}" if guest.get("cpus") else "",
            f"{memory / (1 << 20):g} MiB" if isinstance(memory, int) else "",
            f"board {guest['board']}" if guest.get("board") else "",
            f"irqchip {guest['irqchip']}" if guest.get("irqchip") else "",
        )))),
        ("Command line of the guest", str(guest.get("cmdline") or "")),
        ("Engine", report.engine),
        ("Passed over", "; ".join(report.passed_over)),
        ("Guest instructions", count(instructions) if instructions else ""),
        ("Host", ", ".join(f"{k} {v}" if k in ("python", "kernel") else v
                           for k, v in host.items() if k != "kvm_words" and v)),
    ])  # fmt: skip


def _over_time(report: Report, colour: dict[str, int]) -> Html:
    line = report.timeline
    if line is None or not any(map(any, line.exits.values())):
        why = "no exits were recorded over time" if line is not None else "this report has no timeline"
        return section("Exits over time", h("p", f"Not shown: {why}.", cls="soft"))
    return section("Exits over time", charts.timeline(line, colour))


def _handling(report: Report, colour: dict[str, int]) -> Html | None:
    if not report.exits.sum_ns:
        return None
    return join([h("h3", "minihv's own time, by kind of exit"), charts.handling(report.exits, colour)])


def _histograms(exits: Exits, colour: dict[str, int]) -> Html | None:
    return section("How long handling took", charts.histograms(exits, colour)) if exits else None


def _kinds(report: Report) -> Html | None:
    if not report.exits:
        return None
    columns = ("exit", "#samples", "#samples %", "#time %", "#min", "#max", "#average", "#p50", "#p99")
    total, total_ns = report.exits.total, report.exits.sum_ns
    rows = [
        (
            code(name),
            count(group.total),
            percent(group.total, total),
            percent(group.sum_ns, total_ns),
            duration(group.min_ns),
            duration(group.max_ns),
            duration(group.sum_ns / group.total),
            duration(group.percentile(0.5)),
            duration(group.percentile(0.99)),
        )
        for name, group in report.exits.by("name").items()
    ]
    return section("Exits by kind", table(columns, rows))


def _details(exits: Exits) -> Html | None:
    shown = [e for e in exits if e.detail]
    if not shown:
        return None
    rows = [
        (code(e.name), code(e.detail), count(e.count), duration(e.sum_ns), duration(e.sum_ns / e.count))
        for e in shown[:TOP_DETAILS]
    ]
    return section(
        "By port, address and register",
        table(("exit", "what", "#samples", "#time", "#average"), rows),
        _more(len(shown), TOP_DETAILS),
    )


def _sites(exits: Exits) -> Html | None:
    sites = exits.sites
    if not sites:
        return None
    with_source = any(site.source for site, _ in sites)
    columns = ["guest address", "symbol", "exit", "#samples", "#time"]
    if with_source:
        columns.insert(2, "source")
    rows = []
    for site, e in sites[:TOP_SITES]:
        row = [code(f"{site.address:#x}"), code(site.symbol or "-"), code(f"{e.name} {e.detail}".strip())]
        row += [Html(count(site.count)), Html(duration(site.sum_ns))]
        if with_source:
            row.insert(2, code(site.source or "-"))
        rows.append(row)
    return section("By place in the guest", table(columns, rows), _more(len(sites), TOP_SITES))


def _more(there: int, shown: int) -> Html | None:
    if there <= shown:
        return None
    return h("p", f"{count(there - shown)} more are in the report itself.", cls="soft")


def _kernel_exits(kernel: KernelExits | None) -> Html | None:
    if kernel is None:
        return None
    total = sum(reason.count for reason in kernel.reasons)
    rows = [
        (
            code(reason.name),
            count(reason.count),
            percent(reason.count, total),
            count(reason.to_user),
            join([code(f"{s.symbol or hex(s.address)} ({count(s.count)})") for s in reason.sites[:3]], ", "),
        )
        for reason in kernel.reasons
    ]
    words = f"{kernel.source}: {count(kernel.total)} counted, {count(kernel.recorded)} seen one by one"
    lost = f", {count(kernel.lost)} lost" if kernel.lost else ""
    return section(
        "The kernel's own exits",
        h("p", f"{words}{lost}.") if kernel.total or kernel.reasons else None,
        h("p", kernel.note, cls="note") if kernel.note else None,
        table(("reason", "#exits", "#share", "#came to minihv", "hottest places"), rows) if rows else None,
    )


def _counters(report: Report) -> Html | None:
    counters = sorted(((n, name) for name, n in report.kernel_counters.items() if n), reverse=True)
    if not counters:
        return None
    return section(
        "Counted by the engine",
        h("p", "With kvm: by the host's kernel, exits that never came to user space included.", cls="soft"),
        table(("counter", "#value"), [(code(name), count(n)) for n, name in counters[:TOP_COUNTERS]]),
        _more(len(counters), TOP_COUNTERS),
    )


def _autopsy(report: Report) -> Html | None:
    return section("Autopsy", preformatted(report.autopsy)) if report.autopsy else None
