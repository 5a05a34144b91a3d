"""Budgets, folded stacks, Prometheus text, Chrome traces, the table of changes: each from a report."""

import json
from typing import Any

import pytest
from report_samples import HOSTILE, exit_row, sample

from minihv.errors import UsageError
from minihv.report.budget import check, parse_budgets
from minihv.report.changes import changes_text
from minihv.report.chrometrace import Slice, trace_events
from minihv.report.folded import folded
from minihv.report.model import Exits, SiteReport, Timeline
from minihv.report.prometheus import ExitRow, VcpuRow, add_up, prometheus
from minihv.report.table import stats_table
from minihv.stats import BUCKETS

# Budgets


def broken(text: str) -> list[str]:
    return [str(one) for one in check(sample(), parse_budgets(text))]


@pytest.mark.parametrize(
    "kept",
    ["io=22", "io=22,mmio=4", "exits=27", "msr=0", "p99=2ms", "io.p50=2us", "wall=2ms", "max=1.1ms",
     "instructions=900", " io = 22 , hlt=1", "average=1us", "p90=1s", "hlt.max=1048576ns"],
)  # fmt: skip
def test_budgets_that_hold_say_nothing(kept: str) -> None:
    assert broken(kept) == []


def test_a_broken_budget_is_named_with_its_hottest_sites() -> None:
    assert broken("io=21,mmio=4,hlt=0") == [
        (
            "budget io=21 is broken: 22 io exits; hottest: io out 0x3f8 byte serial.THR at putchello+0x7 "
            "(hello.c:7): 22"
        ),
        "budget hlt=0 is broken: 1 hlt exits; hottest: hlt at 0x100100: 1",
    ]
    [one] = broken("exits=26")
    assert one.startswith("budget exits=26 is broken: 27 exits; hottest: io out")
    [slow] = broken("p99=10us")
    assert "p99 is 16.4 us" in slow
    assert "at putchello+0x7 (hello.c:7): 1.0 us each" in slow
    assert broken("wall=1.9ms") == ["budget wall=1.9ms is broken: 2.0 ms"]
    assert broken("io.p50=1ns")[0].startswith("budget io.p50=1ns is broken: p50 is 1.0 us")
    assert broken("mmio=0") == ["budget mmio=0 is broken: 4 mmio exits"]


@pytest.mark.parametrize(
    "text", ["", "io", "io=", "io=many", "io=-1", "io=1.5", "ios=3", "p99=50", "p99=us", "p99=1.2.3us",
             "p99=5h", "wall=2", "io.p98=1us", "nothing.p99=1us", "io=1,,mmio=2", "io=²", "io.exits=1",
             "p50=٣us",
             "exits=" + "9" * 30],
)  # fmt: skip
def test_other_budgets_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=r"^expected .* found ") as caught:
        parse_budgets(text)
    assert "\n" not in str(caught.value)


# Folded stacks


def test_folded_stacks_are_symbol_exit_device_count() -> None:
    sites = (SiteReport(1, "putc+0x7", 5, 50), SiteReport(2, "putc+0x9", 2, 20), SiteReport(0x99, "", 1, 1))
    report = sample(exits=Exits([exit_row(sites=sites), exit_row("hlt", "", None, 0, "", sites=sites[:1])]))
    assert folded(report) == (
        "0x99;io out;serial.THR 1\nputc;hlt;- 5\nputc;io out;serial.THR 7\n"
    )  # fmt: skip


def test_a_hostile_symbol_stays_one_frame_of_one_line() -> None:
    sites = (SiteReport(1, f"a;b {HOSTILE}", 5, 50),)
    lines = folded(sample(exits=Exits([exit_row(sites=sites)]))).splitlines()
    assert len(lines) == 1
    assert lines[0].count(";") == 2
    assert lines[0].isprintable()
    assert lines[0].endswith(" 5")


# Prometheus


def test_the_reference_parser_reads_the_metrics() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    histogram = [0] * BUCKETS
    histogram[5], histogram[12], histogram[40] = 3, 4, 1
    text = prometheus(
        {"guest": f'a"b\\{HOSTILE}', "engine": "kvm", "kvm": "pvm"},
        [VcpuRow(0, 1_500_000_000, 2, 0), VcpuRow(1, 0, 0, 9)],
        [ExitRow(0, "io", 2_000_000, histogram), ExitRow(1, "page-fault", 5, [0] * BUCKETS)],
        {"exits": 31},
    )
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert set(families) == {
        "minihv_info", "minihv_exits", "minihv_exit_handling_seconds", "minihv_guest_seconds", "minihv_kicks",
        "minihv_instructions", "minihv_engine_counter",
    }  # fmt: skip
    [info] = families["minihv_info"].samples
    assert info.labels["guest"] == f'a"b\\{HOSTILE}'
    exits = {s.labels["vcpu"]: (s.labels["reason"], s.value) for s in families["minihv_exits"].samples}
    assert exits == {"0": ("io", 8), "1": ("page-fault", 0)}
    times = families["minihv_exit_handling_seconds"]
    assert times.type == "histogram"
    buckets = {s.labels["le"]: s.value for s in times.samples
               if s.name.endswith("_bucket") and s.labels["vcpu"] == "0"}  # fmt: skip
    assert buckets["+Inf"] == 8
    assert buckets["5.12e-07"] == 3
    assert buckets["2.048e-06"] == 3
    assert buckets["8.192e-06"] == 7
    assert list(buckets.values()) == sorted(buckets.values()), "buckets are cumulative"
    assert {s.value for s in times.samples if s.name.endswith("_sum")} == {0.002, 5e-9}
    assert [s.value for s in families["minihv_guest_seconds"].samples] == [1.5, 0.0]


def test_rows_of_one_reason_are_added_up() -> None:
    hlt = ExitRow(0, "hlt", 5, [1, 1])
    rows = [ExitRow(0, "io", 1, [1, 0]), hlt, ExitRow(0, "io", 2, [0, 3])]
    assert add_up(rows) == [ExitRow(0, "io", 3, [1, 3]), hlt]


# Chrome traces


def trace(vcpus: dict[int, list[Slice]], complete: set[int] = frozenset({0, 1}), **facts: Any) -> Any:  # type: ignore[assignment]
    text = "".join(trace_events(sample(HOSTILE), vcpus, complete, 10_000, facts))
    assert "\x1b" not in text
    return json.loads(text)


def test_a_trace_has_guest_and_exit_slices_device_tracks_and_counters() -> None:
    first = [Slice(1000, 500, "io out serial.THR", "putc+0x7", "serial"), Slice(3000, 1001, "hlt", "0x9", "")]
    found = trace({0: first, 1: []}, exits_dropped=0)
    assert found["otherData"]["exits"] == 27
    assert found["otherData"]["exits_dropped"] == 0
    events = found["traceEvents"]
    slices = [(e["pid"], e["tid"], e["ts"], e["dur"], e["name"]) for e in events if e["ph"] == "X"]
    assert slices == [
        (1, 1, 0.0, 1.0, "guest"), (1, 1, 1.0, 0.5, "io out serial.THR"), (1, 1, 1.5, 1.5, "guest"),
        (1, 1, 3.0, 1.001, "hlt"), (1, 1, 4.001, 5.999, "guest"), (1, 2, 0.0, 10.0, "guest"),
        (2, 1, 1.0, 0.5, "io out serial.THR"),
    ]  # fmt: skip
    names = {(e["pid"], e.get("tid")): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names[1, 1] == "vCPU 0"
    assert names[2, 1] == "serial"
    counters = [(e["ts"], e["args"]["io"]) for e in events if e["ph"] == "C"]
    assert counters[0] == (0.0, pytest.approx(5e9 / (1 << 14), abs=0.1))
    assert counters[-1] == (3 * (1 << 14) / 1000, 0.0)


def test_where_earlier_exits_are_missing_nothing_is_made_up() -> None:
    found = trace({0: [Slice(5000, 10, "hlt", "x", "")]}, set())
    assert [e["name"] for e in found["traceEvents"] if e["ph"] == "X"] == ["hlt", "guest"]


def test_slices_of_a_device_never_overlap() -> None:
    """Perfetto stacks overlapping slices of a track as if they were nested: they must not."""
    both = {0: [Slice(0, 900, "a", "x", "serial"), Slice(2000, 10, "a", "x", "serial")],
            1: [Slice(300, 900, "b", "x", "serial"), Slice(400, 100, "b", "x", "serial")]}  # fmt: skip
    found = trace(both)
    device = [(e["ts"], e["dur"]) for e in found["traceEvents"] if e["ph"] == "X" and e["pid"] == 2]
    assert device == [(0.0, 0.9), (0.9, 0.3), (2.0, 0.01)]


# Changes between two runs


def test_changes_by_kind_and_site() -> None:
    sites = (SiteReport(0x1, "putc+0x7", 30, 99), SiteReport(0x5, "", 2, 9))
    a = sample()
    b = sample(
        exits=Exits([exit_row(buckets={10: 32}, sites=sites), exit_row("msr", "read", 0x10, 8, "", {9: 3})]),
        kernel_counters={"exits": 40, "new": 1},
        engine="interpret",
    )
    text = changes_text(a, b, "a.json", "b.json")
    lines = text.splitlines()
    assert lines[0] == "A: a.json: hello on kvm, exit, status 3, 27 exits, 2.0 ms"
    assert "Not the same: engine: kvm in A, interpret in B." in lines
    kinds = {line.split()[-1]: line.split()[:4] for line in lines if line.endswith(("IO", "MSR", "HLT"))}
    assert kinds == {
        "IO": ["22", "32", "+10", "+45.5%"], "MMIO": ["4", "0", "-4", "gone"], "MSR": ["0", "3", "+3", "new"],
        "HLT": ["1", "0", "-1", "gone"],
    }  # fmt: skip
    assert any(line.endswith("putc+0x7: io out 0x3f8 byte serial.THR") for line in lines)
    assert any(line.split()[:4] == ["31", "40", "+9", "+29.0%"] for line in lines)
    assert lines[-1] == "B has 8 exits more than A (+29.6%); the largest change: io, +10."


def test_equal_runs_are_said_to_be_equal() -> None:
    assert changes_text(sample(), sample(), "a", "b").endswith("\nThe same exits: 27 in both runs.\n")
    other = sample(exits=Exits([exit_row(register="serial.IER", buckets={10: 22}), *sample().exits[1:]]))
    assert "27 exits in both runs, but of other kinds" in changes_text(sample(), other, "a", "b")


def test_terminal_output_shows_what_a_guest_named_and_does_not_obey_it() -> None:
    report = sample(HOSTILE)
    for text in (stats_table(report), changes_text(report, sample(), HOSTILE, "b")):
        assert all(line.isprintable() for line in text.splitlines())
        assert "\\x1b[31m" in text


def test_the_table_shows_the_kernels_own_exits() -> None:
    text = stats_table(sample("x"))
    assert "40 counted, 31 seen one by one, 9 lost" in text
    assert "VMX x: x (30)" in text
    assert "The kernel's own exits: x." in text


def test_a_timeline_without_exits_is_no_trouble() -> None:
    report = sample(timeline=Timeline(1 << 14, {}))
    text = "".join(trace_events(report, {}, set(), 5, {}))
    assert json.loads(text)["traceEvents"]
