"""Reports to test with: a full one, one that a hostile guest wrote, and a strategy for any."""

from hypothesis import strategies as st

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
from minihv.stats import BUCKETS

HOSTILE = "<script>alert(1)</script>\x1b[31m\x1b]0;x\x07\u202e\"'&\n"


def exit_row(
    name: str = "io",
    direction: str = "out",
    address: int | None = 0x3F8,
    size: int = 1,
    register: str = "serial.THR",
    buckets: dict[int, int] | None = None,
    sites: tuple[SiteReport, ...] = (),
    each_ns: int = 1000,
) -> ExitReport:
    """An exit with `buckets` {bucket: count} and a handling time of `each_ns` on average."""
    histogram = [0] * BUCKETS
    for bucket, count in (buckets or {10: 1}).items():
        histogram[bucket] = count
    count = sum(histogram)
    return ExitReport(
        name, direction, address, size, register, count, count * each_ns, 8, 1 << 20, tuple(histogram), sites
    )


def sample(text: str = "hello", **changes: object) -> Report:
    """A report that has everything; `text` is in every place where a guest or a user chooses the words."""
    site = SiteReport(0x100012, f"putc{text}+0x7", 22, 22_000, f"{text}.c:7")
    report = Report(
        engine="kvm",
        host={"kvm": "pvm", "kvm_words": "PVM, slow", "cpu": text, "kernel": "6.18", "python": "3.11"},
        guest={"name": text, "format": "elf64", "memory": 1 << 26, "cpus": 2, "board": "default",
               "irqchip": "kernel", "cmdline": text},
        outcome=OutcomeReport("exit", 3, text),
        wall_ns=2_000_000,
        vcpus=(VcpuReport(0, 20, 1, 1_500_000, 100_000, 0), VcpuReport(1, 7, 0, 1_000_000, 50_000, 900)),
        exits=Exits((
            exit_row(buckets={10: 20, 14: 2}, sites=(site,)),
            exit_row("mmio", "write", 0xFEC00000, 4, f"ioapic.{text}", {11: 4}),
            exit_row("hlt", "", None, 0, "", {9: 1}, (SiteReport(0x100100, "", 1, 500),)),
        )),
        kernel_counters={"exits": 31, "io_exits": 22, "zero": 0},
        autopsy=f"vCPU 0\n  {text}",
        passed_over=(f"kvm: {text}",),
        command=f"minihv run {text}",
        timeline=Timeline(1 << 14, {"io": (5, 0, 17), "mmio": (0, 4, 0), "hlt": (0, 0, 1)}),
        kernel_exits=KernelExits("kvm:kvm_exit", text, 40, 31, 9, (
            KernelReason(f"VMX {text}", 30, 22, (KernelSite(0x100012, text, 30),)),
            KernelReason("VMX CPUID", 1, 0, ()),
        )),
    )  # fmt: skip
    return report._replace(**changes)  # type: ignore[arg-type]


U64 = st.integers(0, (1 << 64) - 1)
COUNTS = st.integers(0, 1 << 40)
WORDS = st.text(max_size=12)
SITES = st.lists(
    st.builds(SiteReport, U64, WORDS, COUNTS.filter(bool), COUNTS, WORDS),
    max_size=3, unique_by=lambda s: (s.address, s.symbol, s.source),
).map(tuple)  # fmt: skip


@st.composite
def exit_rows(draw: st.DrawFn) -> ExitReport:
    """Any exit that a run could have counted."""
    buckets = draw(
        st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 1 << 30), min_size=1, max_size=4)
    )
    low, high = sorted((draw(COUNTS), draw(COUNTS)))
    row = exit_row(
        draw(st.sampled_from(("io", "mmio", "hlt", "msr"))),
        draw(st.sampled_from(("", "in", "out"))),
        draw(st.none() | U64),
        draw(st.integers(0, 8)),
        draw(WORDS),
        buckets,
        draw(SITES),
    )
    return row._replace(sum_ns=draw(COUNTS), min_ns=low, max_ns=high)


TIMELINES = st.none() | st.builds(
    Timeline,
    st.integers(14, 30).map(lambda shift: 1 << shift),
    st.dictionaries(WORDS, st.lists(COUNTS, min_size=3, max_size=3).map(tuple), max_size=3),
)
REPORTS = st.builds(
    Report,
    engine=WORDS,
    host=st.dictionaries(WORDS, WORDS, max_size=3),
    guest=st.dictionaries(WORDS, WORDS | U64, max_size=3),
    outcome=st.builds(OutcomeReport, WORDS, st.integers(0, 255), WORDS),
    wall_ns=COUNTS,
    vcpus=st.lists(
        st.builds(VcpuReport, st.integers(0, 3), COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
        max_size=3, unique_by=lambda v: v.index,
    ).map(tuple),
    exits=st.lists(exit_rows(), max_size=4, unique_by=lambda e: e.kind).map(
        lambda rows: Exits(sorted(rows, key=order))
    ),
    kernel_counters=st.dictionaries(WORDS, COUNTS, max_size=3),
    autopsy=WORDS,
    passed_over=st.lists(WORDS, max_size=2).map(tuple),
    command=WORDS,
    timeline=TIMELINES,
    kernel_exits=st.none() | st.just(sample().kernel_exits),
)  # fmt: skip
"""Any report."""
