"""The report as data: its JSON form, its questions, and its words."""

import json
import re

from minihv.report import model
from minihv.report.model import (
    SCHEMA,
    ExitReport,
    OutcomeReport,
    Report,
    SiteReport,
    VcpuReport,
)
from minihv.stats import BUCKETS


def exit_report(
    name: str = "io",
    direction: str = "out",
    address: int | None = 0x3F8,
    size: int = 1,
    register: str = "serial.THR",
    buckets: dict[int, int] | None = None,
    sites: tuple[SiteReport, ...] = (),
) -> ExitReport:
    histogram = [0] * BUCKETS
    for bucket, count in (buckets or {4: 1}).items():
        histogram[bucket] = count
    return ExitReport(
        name, direction, address, size, register, sum(histogram), 5000, 8, 900, tuple(histogram), sites
    )


def report(*exits: ExitReport) -> Report:
    return Report(
        engine="kvm",
        host={"kvm": "pvm", "kvm_words": "PVM, slow"},
        guest={"name": "hello", "format": "elf64", "memory": 1 << 26},
        outcome=OutcomeReport("exit", 3, ""),
        wall_ns=2_000_000,
        vcpus=(VcpuReport(0, 12, 1, 700, 300, 0),),
        exits=exits,
        kernel_counters={"exits": 12},
        autopsy="",
    )


def test_the_json_form_has_every_documented_key_and_nothing_unserialisable() -> None:
    site = SiteReport(0x100012, "putc+0x7", 11, 4000)
    told = json.loads(json.dumps(report(exit_report(buckets={4: 10, 9: 1}, sites=(site,))).to_dict()))
    required = {
        "schema", "engine", "passed_over", "host", "guest", "outcome", "wall_ns", "vcpus", "exits",
        "kernel_counters", "autopsy",
    }  # fmt: skip
    assert required <= set(told)
    for key in told:
        assert re.search(rf"^ +{key}\b", model.__doc__ or "", re.M), f"{key} is not documented"
    assert told["schema"] == SCHEMA == "minihv.report/1"
    assert told["outcome"] == {"reason": "exit", "status": 3, "detail": ""}
    assert told["vcpus"] == [
        {"index": 0, "exits": 12, "kicks": 1, "guest_ns": 700, "vmm_ns": 300, "instructions": 0}
    ]
    [row] = told["exits"]
    assert row["detail"] == "out 0x3f8 byte serial.THR"
    assert (row["name"], row["address"], row["size"], row["count"]) == ("io", 0x3F8, 1, 11)
    assert row["time_ns"] == {
        "sum": 5000, "min": 8, "max": 900, "p50": 15, "p99": 511,
        "histogram": [0, 0, 0, 0, 10, 0, 0, 0, 0, 1],
    }  # fmt: skip
    assert row["sites"] == [
        {"address": 0x100012, "symbol": "putc+0x7", "count": 11, "sum_ns": 4000, "source": ""}
    ]


def test_a_percentile_never_exceeds_the_maximum() -> None:
    assert exit_report(buckets={10: 1}).percentile(0.99) == 900


def test_details_leave_out_what_an_exit_does_not_have() -> None:
    assert exit_report("hlt", "", None, 0, "").detail == ""
    assert exit_report("mmio", "read", 0xB8000, 8, "vga.TEXT").detail == "read 0xb8000 qword vga.TEXT"
    assert exit_report("mmio", "write", 0, 3, "").detail == "write 0x0 3 bytes"


def test_counting_by_fields() -> None:
    r = report(
        exit_report(buckets={3: 5}),
        exit_report(register="serial.IER", buckets={3: 2}),
        exit_report(address=0x80, buckets={3: 1}),
        exit_report("hlt", "", None, 0, "", buckets={3: 4}),
    )
    assert r.total_exits == 12
    assert r.count("io") == 8
    assert r.count("io", address=0x3F8) == 7
    assert r.count("io", address=0x3F8, register="serial.IER", direction="out", size=1) == 2
    assert r.count("io", direction="in") == 0
    assert r.count("mmio") == 0


def test_symbols_are_put_in_afterwards_and_the_original_stays() -> None:
    plain = report(exit_report(sites=(SiteReport(0x10, "", 1, 1), SiteReport(0x99, "", 1, 1))))
    named = plain.with_symbols(lambda address: "start" if address == 0x10 else "")
    assert [s.symbol for s in named.exits[0].sites] == ["start", ""]
    assert [s.symbol for s in plain.exits[0].sites] == ["", ""]
    assert named.total_exits == plain.total_exits
