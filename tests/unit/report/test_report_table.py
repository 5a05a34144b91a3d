"""--stats: the layout that people know by heart, whatever was counted."""

import re

from test_report_model import exit_report, report

from minihv.report.model import SiteReport
from minihv.report.table import TOP_COUNTERS, TOP_DETAILS, TOP_SITES, stats_table


def test_the_familiar_columns_and_the_totals() -> None:
    text = stats_table(
        report(exit_report(buckets={10: 30}), exit_report("hlt", "", None, 0, "", buckets={10: 10}))
    )
    lines = text.splitlines()
    assert lines[0] == "hello on kvm: exit, status 3, 2.0 ms"
    assert "This KVM is PVM, slow." in lines
    assert "Analyze events for all VMs, all VCPUs:" in lines
    head = next(line for line in lines if "VM-EXIT" in line)
    assert head.split() == [
        "VM-EXIT", "Samples", "Samples%", "Time%", "Min", "Time", "Max", "Time", "Avg", "time", "p50", "p99",
    ]  # fmt: skip
    rows = [line for line in lines if line.startswith(" ") and line.split()[0] in ("IO", "HLT")]
    assert [row.split()[:4] for row in rows] == [
        ["IO", "30", "75.00%", "50.00%"], ["HLT", "10", "25.00%", "50.00%"],
    ]  # fmt: skip
    assert all(len(row) == len(head) for row in rows), "columns line up"
    assert "Total Samples:40, Total events handled time:10.00us." in lines
    assert text.endswith("\n")


def test_a_run_without_exits_is_no_problem() -> None:
    text = stats_table(report())
    assert "Total Samples:0, Total events handled time:0.00us." in text
    assert "guest address" not in text


def test_long_lists_are_cut_and_say_so() -> None:
    sites = tuple(SiteReport(n, "", 100 - n, 5) for n in range(TOP_SITES + 5))
    exits = [exit_report(address=n) for n in range(TOP_DETAILS + 3)]
    counters = {f"c{n}": n for n in range(TOP_COUNTERS + 3)}
    text = stats_table(
        report(*exits, exit_report(address=0x999, sites=sites))._replace(kernel_counters=counters)
    )
    assert "(+4 more; --stats-json has them all)" in text
    assert "(+5 more sites)" in text
    assert "(+2 more; --stats-json has them all)" in text  # c0 is zero and not shown at all
    assert not re.search(r"\bc0\b", text)
    assert max(len(line) for line in text.splitlines() if "KVM is" not in line) < 130


def test_sites_name_the_exit_and_the_symbol() -> None:
    text = stats_table(report(exit_report(sites=(SiteReport(0x100012, "putc+0x7", 11, 4000),))))
    assert re.search(r"^ +0x100012 +11  io out 0x3f8 byte serial\.THR at putc\+0x7$", text, re.M)


def test_time_shares_of_each_vcpu() -> None:
    assert "vCPU 0: 12 exits, guest and kernel 0.00 ms (70.00%), VMM 0.00 ms (30.00%)" in stats_table(
        report()
    )
